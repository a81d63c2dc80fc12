-- weir.segmented: the view's table is a ring of partitions; what weir.keep no longer covers goes a slot at a time.
SET client_min_messages = warning;
SET timezone = 'UTC';
CREATE SCHEMA vs;
SET search_path = vs, public;
CREATE TABLE ev (k int, v int, at timestamptz) WITH (weir.stream, weir.event_time = 'at', weir.keep = '1 day');
CREATE TABLE evu (k int, v int, at timestamp) WITH (weir.stream, weir.event_time = 'at', weir.keep = '1 day');
CREATE MATERIALIZED VIEW grouped WITH (weir.continuous, weir.keep = '1 hour', weir.segmented, fillfactor = 50) AS
  SELECT window_start, k, count(*) AS n, avg(v) AS mean FROM ev, tumble(at, '1 minute') GROUP BY window_start, k;
CREATE MATERIALIZED VIEW qualified WITH (weir.continuous, weir.keep = '1 hour', weir.segmented) AS
  SELECT window_start, k, sum(v) AS s FROM ev, tumble(at, '1 minute') GROUP BY window_start, k HAVING sum(v) > 100;
CREATE MATERIALIZED VIEW hops WITH (weir.continuous, weir.keep = '1 hour', weir.segmented) AS
  SELECT window_end, k, count(*) AS n, max(v) AS top FROM ev, hop(at, '10 minutes', '1 minute') GROUP BY window_end, k;
CREATE MATERIALIZED VIEW plain WITH (weir.continuous, weir.keep = '1 hour', weir.segmented) AS SELECT at, k, v FROM ev WHERE v % 2 = 0;
CREATE MATERIALIZED VIEW finals WITH (weir.continuous, weir.emit = 'final', weir.keep = '1 hour', weir.segmented) AS
  SELECT window_start, k, avg(v) AS mean FROM ev, tumble(at, '1 minute') GROUP BY window_start, k;
CREATE MATERIALIZED VIEW ranked WITH (weir.continuous, weir.emit = 'final', weir.keep = '1 hour', weir.segmented) AS
  SELECT window_start, k, rank() OVER (PARTITION BY window_start ORDER BY k) AS r FROM ev, tumble(at, '10 minutes');
CREATE MATERIALIZED VIEW utc WITH (weir.continuous, weir.keep = '1 hour', weir.segmented) AS
  SELECT window_start, count(*) AS n FROM evu, tumble(at, '1 minute') GROUP BY window_start;
SELECT relname, relkind, pg_get_partkeydef(oid) AS key, (SELECT count(*) FROM pg_inherits WHERE inhparent = oid) AS slots
  FROM pg_class WHERE relnamespace = 'vs'::regnamespace AND relkind = 'p' ORDER BY 1;
SELECT d.view, s.relkind, pg_get_partkeydef(s.oid) AS key FROM weir.view_def d JOIN pg_class s ON s.oid = d.state ORDER BY d.view::text;
SELECT DISTINCT c.reloptions FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid WHERE inhparent = 'grouped'::regclass;

\set ECHO none
\i sql/lib/await.sql
\set ECHO all
-- which way rows went: a slot that is truncated gets another file
CREATE TABLE files AS SELECT c.oid, relfilenode FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid;
CREATE FUNCTION truncated() RETURNS TABLE (view text, slots bigint) LANGUAGE sql AS $$
  SELECT i.inhparent::regclass::text, count(*) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN vs.files f ON f.oid = c.oid
    WHERE c.relfilenode <> f.relfilenode AND relkind = 'r' GROUP BY 1 ORDER BY 1 $$;
CREATE FUNCTION differing() RETURNS TABLE (view text, rows bigint) LANGUAGE plpgsql AS $$ BEGIN
  FOR view IN SELECT v.view::regclass FROM weir.view_def v LOOP
    EXECUTE format('SELECT count(*) FROM weir.verify(%L)', view) INTO rows;
    IF rows > 0 THEN RETURN NEXT; END IF;
  END LOOP; END $$;

-- a slot holds the spans in turn; groups that come again are merged where they are
INSERT INTO ev SELECT i % 7, i, timestamptz '2026-01-01 00:00' + i * interval '3 s' FROM generate_series(0, 1199) i;
INSERT INTO ev SELECT i % 7, -i, timestamptz '2026-01-01 00:00' + i * interval '3 s' FROM generate_series(1199, 0, -1) i;
INSERT INTO ev VALUES (NULL, 1, '2026-01-01 00:59'), (NULL, 2, '2026-01-01 00:59:01');
INSERT INTO evu SELECT 1, 1, timestamp '2026-01-01 00:00' + i * interval '3 s' FROM generate_series(0, 1199) i;
SELECT count(*) AS slots, bool_and(hi - lo < interval '18 minutes') AS apart FROM (SELECT min(window_start), max(window_start) FROM grouped GROUP BY tableoid) s (lo, hi);
SELECT * FROM differing();
-- late, into what is kept still
INSERT INTO ev VALUES (3, 1000, '2026-01-01 00:01'), (99, 1000, '2026-01-01 00:01:30');
SELECT n FROM grouped WHERE window_start = '2026-01-01 00:01' AND k IN (3, 99) ORDER BY k;
SELECT * FROM differing();

-- three spans on: the oldest go, as wholes
INSERT INTO ev SELECT i % 7, i, timestamptz '2026-01-01 01:00' + i * interval '3 s' FROM generate_series(0, 1200) i;
INSERT INTO evu VALUES (1, 1, '2026-01-01 02:00');
CALL gone($$grouped WHERE window_start <= '2026-01-01 00:50'$$);
CALL gone($$qualified WHERE window_start <= '2026-01-01 00:50'$$);
CALL gone($$hops WHERE window_end <= '2026-01-01 00:50'$$);
CALL gone($$plain WHERE at <= '2026-01-01 00:50'$$);
CALL gone($$finals WHERE window_start <= '2026-01-01 00:50'$$);
CALL gone($$ranked WHERE window_start <= '2026-01-01 00:50'$$);
CALL gone($$utc WHERE window_start <= '2026-01-01 00:50'$$);
SELECT state AS grouped_state FROM weir.view_def WHERE view = 'grouped'::regclass \gset
SELECT state AS qualified_state FROM weir.view_def WHERE view = 'qualified'::regclass \gset
SET vs.grouped = :'grouped_state';
SET vs.qualified = :'qualified_state';
CALL gone(current_setting('vs.grouped') || $$ WHERE k1 <= '2026-01-01 00:50'$$);
CALL gone(current_setting('vs.qualified') || $$ WHERE k1 <= '2026-01-01 00:50'$$);
SELECT min(window_start) <= '2026-01-01 01:01' AS all_that_is_kept, count(DISTINCT window_start) FILTER (WHERE window_start > '2026-01-01 01:00') AS kept FROM grouped;
SELECT count(*) FROM utc WHERE window_start > '2026-01-01 01:00';
-- (an hour in one statement: some of it came into the slots of what had to go yet, which was deleted therefore)
SELECT * FROM truncated() WHERE view NOT LIKE 'weir.state%' AND view <> 'hops';
SELECT * FROM differing();
-- a row for what is no longer kept is not taken
INSERT INTO ev VALUES (1, 7, '2026-01-01 00:59:30'), (9, 7, '2026-01-01 01:30:30');
SELECT window_start, k, n FROM grouped WHERE k = 9;

-- triggers: on the view, for rows and statements, with transition tables; the key tells publish and notify which view it is
CREATE TABLE seen (what text, tab text, n bigint);
CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  IF TG_LEVEL = 'STATEMENT' THEN INSERT INTO vs.seen SELECT TG_OP, TG_TABLE_NAME, count(*) FROM new; ELSE
    INSERT INTO vs.seen VALUES ('row ' || TG_OP, TG_NARGS::text, NEW.n); END IF; RETURN NULL; END $$;
CREATE TRIGGER s AFTER UPDATE ON hops REFERENCING NEW TABLE AS new FOR EACH STATEMENT EXECUTE FUNCTION see();
CREATE TRIGGER r AFTER INSERT OR UPDATE ON hops FOR EACH ROW EXECUTE FUNCTION see('x');
INSERT INTO ev VALUES (1, 7, '2026-01-01 02:00:01'), (500, 7, '2026-01-01 02:00:30');
SELECT what, tab, count(*), sum(n) FROM seen GROUP BY 1, 2 ORDER BY 1, 2;
CREATE SERVER nowhere FOREIGN DATA WRAPPER weir_kafka OPTIONS (bootstrap_servers '127.0.0.1:1');
CREATE TRIGGER out AFTER INSERT OR UPDATE ON grouped FOR EACH ROW EXECUTE FUNCTION weir.publish('nowhere', 'groups');
INSERT INTO ev VALUES (1, 7, '2026-01-01 01:30:01'), (501, 7, '2026-01-01 02:00:30');
SELECT weir.snapshot('grouped', 'out') = count(*) AS snapshot FROM grouped;
SELECT r.topic, convert_from(r.key, 'UTF8') AS key, convert_from(r.value, 'UTF8') AS value
  FROM weir.outbox o, weir.outbox_records(o.payload) AS r(topic, partition, key, value, headers, "timestamp") WHERE convert_from(r.key, 'UTF8') LIKE '%501%' ORDER BY key;
DROP TRIGGER out ON grouped;
DROP SERVER nowhere;
DROP TRIGGER s ON hops;
DROP TRIGGER r ON hops;

-- a foreign key and a DELETE trigger want to see rows go
CREATE TABLE went (n bigint);
CREATE FUNCTION count_gone() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO vs.went SELECT count(*) FROM old; RETURN NULL; END $$;
CREATE TRIGGER gone AFTER DELETE ON hops REFERENCING OLD TABLE AS old FOR EACH STATEMENT EXECUTE FUNCTION count_gone();
CREATE TABLE noted (window_start timestamptz, k int, FOREIGN KEY (window_start, k) REFERENCES grouped (window_start, k) ON DELETE CASCADE);
INSERT INTO noted SELECT window_start, k FROM grouped WHERE k = 1;
INSERT INTO ev SELECT i % 7, i, timestamptz '2026-01-01 02:00' + i * interval '3 s' FROM generate_series(0, 1200) i;
CALL gone($$hops WHERE window_end <= '2026-01-01 01:30'$$);
CALL gone($$noted WHERE window_start <= '2026-01-01 01:30'$$);
SELECT count(*) > 0 AS noted, count(*) = count(g.k) AS all_there FROM noted LEFT JOIN grouped g USING (window_start, k);
SELECT sum(n) > 100 AS seen_going FROM went;
SELECT * FROM differing();
DROP TABLE noted;
DROP TRIGGER gone ON hops;

-- weir.keep made longer: more spans than slots, whose older ones are deleted
ALTER MATERIALIZED VIEW plain SET (weir.keep = '3 hours');
INSERT INTO ev SELECT i % 7, i, timestamptz '2026-01-01 03:00' + i * interval '9 s' FROM generate_series(0, 800) i;
INSERT INTO ev SELECT i % 7, i, timestamptz '2026-01-01 05:00' + i * interval '9 s' FROM generate_series(0, 800) i;
CALL gone($$plain WHERE at <= '2026-01-01 03:30'$$);
SELECT min(at) < '2026-01-01 04:01' AS kept FROM plain;
ALTER MATERIALIZED VIEW plain SET (weir.keep = '1 hour');
CALL gone($$plain WHERE at <= '2026-01-01 05:30'$$);
SELECT * FROM differing();
ALTER MATERIALIZED VIEW plain SET (weir.segmented = false);

-- views above: what goes, goes from them in the same transaction
CREATE MATERIALIZED VIEW above WITH (weir.continuous) AS SELECT window_start, sum(n) AS n FROM grouped GROUP BY window_start;
INSERT INTO ev SELECT i % 7, i, timestamptz '2026-01-01 07:00' + i * interval '3 s' FROM generate_series(0, 1200) i;
CALL gone($$grouped WHERE window_start <= '2026-01-01 07:00'$$);
SELECT count(*) FROM (SELECT window_start, sum(n) FROM grouped GROUP BY 1 EXCEPT ALL TABLE above) x;
SELECT count(*) FROM (TABLE above EXCEPT ALL SELECT window_start, sum(n) FROM grouped GROUP BY 1) x;
DROP MATERIALIZED VIEW above;

-- another query
SELECT weir.replace('grouped', $$SELECT window_start, k, count(*) AS n, avg(v) AS mean, min(v) AS low FROM ev, tumble(at, '1 minute') WHERE v <> 5 GROUP BY window_start, k$$);
SELECT weir.replace('plain', $$SELECT at, k, v FROM ev WHERE v % 3 = 0$$);
INSERT INTO ev VALUES (1, 8, '2026-01-01 08:00:01'), (77, 5, '2026-01-01 08:00:30'), (78, 6, '2026-01-01 08:00:30');
SELECT k, n, low FROM grouped WHERE window_start >= '2026-01-01 08:00' AND k > 70;
SELECT relkind FROM pg_class WHERE oid = 'grouped'::regclass;
SELECT s.relkind FROM weir.view_def d JOIN pg_class s ON s.oid = d.state WHERE view = 'grouped'::regclass;
SELECT * FROM differing();
REFRESH MATERIALIZED VIEW grouped;
SELECT * FROM differing();

-- the table's own: indexes, names, owner, rights
CREATE INDEX by_n ON grouped (n);
SELECT count(*) FROM pg_inherits WHERE inhparent = 'by_n'::regclass;
CREATE ROLE vs_owner;
GRANT CREATE, USAGE ON SCHEMA vs TO vs_owner;
GRANT SELECT ON ev TO vs_owner;
ALTER MATERIALIZED VIEW grouped OWNER TO vs_owner;
SELECT DISTINCT relowner::regrole FROM pg_class WHERE oid IN (SELECT inhrelid FROM pg_inherits JOIN weir.view_def ON inhparent IN (view, state) WHERE view = 'grouped'::regclass)
  OR oid IN (SELECT state FROM weir.view_def WHERE view = 'grouped'::regclass);
ALTER MATERIALIZED VIEW grouped RENAME TO renamed;
ALTER MATERIALIZED VIEW renamed RENAME COLUMN window_start TO began;
CREATE SCHEMA vs2;
GRANT USAGE ON SCHEMA vs2 TO vs_owner;
ALTER MATERIALIZED VIEW renamed SET SCHEMA vs2;
SET ROLE vs_owner;
INSERT INTO vs2.renamed VALUES (now(), 1);
RESET ROLE;
DO $$ DECLARE slot regclass; BEGIN
  SELECT min(inhrelid::regclass::text) INTO slot FROM pg_inherits WHERE inhparent = 'vs2.renamed'::regclass;
  EXECUTE format('DELETE FROM %s', slot);
EXCEPTION WHEN wrong_object_type THEN RAISE WARNING 'slots are closed, too'; END $$;
INSERT INTO ev SELECT i % 7, i, timestamptz '2026-01-01 09:00' + i * interval '3 s' FROM generate_series(0, 1200) i;
CALL gone($$vs2.renamed WHERE began <= '2026-01-01 08:30'$$);
SELECT slots > 0 AS truncated FROM truncated() WHERE view = 'vs2.renamed';
SELECT * FROM differing();
DROP EXTENSION weir CASCADE;
DROP MATERIALIZED VIEW vs2.renamed;
SELECT count(*) FROM pg_class WHERE relname ~ '^slot_' AND relnamespace = 'weir'::regnamespace AND relowner = 'vs_owner'::regrole;
REVOKE ALL ON SCHEMA vs, vs2 FROM vs_owner;
REVOKE ALL ON ev FROM vs_owner;
DROP ROLE vs_owner;

-- what cannot be
CREATE MATERIALIZED VIEW no WITH (weir.continuous, weir.segmented) AS SELECT at, k FROM ev;
CREATE MATERIALIZED VIEW no WITH (weir.continuous, weir.segmented, weir.keep = 0) AS SELECT at, k FROM ev;
CREATE MATERIALIZED VIEW no WITH (weir.continuous, weir.segmented, weir.keep = '10 s') AS SELECT at, k FROM ev;
CREATE MATERIALIZED VIEW no WITH (weir.continuous, weir.segmented, weir.keep = '100 years') AS SELECT at, k FROM ev;
CREATE MATERIALIZED VIEW no WITH (weir.continuous, weir.segmented, weir.keep = '1 hour') AS
  SELECT window_start, window_end, k, count(*) FROM ev, session(at, '1 minute') GROUP BY window_start, window_end, k;
CREATE MATERIALIZED VIEW no WITH (weir.continuous, weir.segmented, weir.keep = '1 hour') AS
  SELECT window_start, array_agg(DISTINCT k) FROM ev, tumble(at, '1 minute') GROUP BY window_start;
DROP SCHEMA vs CASCADE;
DROP SCHEMA vs2;
SELECT count(*) FROM pg_class WHERE relname ~ '^slot_' AND relnamespace = 'weir'::regnamespace;
