-- Views and DDL: renames, columns, schemas, owners, rights, and plans that were kept.
SET client_min_messages = warning;
CREATE SCHEMA view_ddl;
SET search_path = view_ddl, public;
SET TimeZone = 'UTC';

CREATE TABLE s (dead int, a int, b text, c numeric, ts timestamptz) WITH (weir.stream, weir.event_time = 'ts');
CREATE TABLE dim (k text PRIMARY KEY, name text);
INSERT INTO dim VALUES ('x', 'Ex'), ('y', 'Why');
CREATE MATERIALIZED VIEW v (key, n, total, mean) WITH (weir.continuous, fillfactor = 50) AS
  SELECT b, count(*), sum(c), avg(a) FROM s GROUP BY b;
CREATE MATERIALIZED VIEW j WITH (weir.continuous) AS
  SELECT s.b, max(to_jsonb(s)::text) AS doc, count(s) AS n, max(d.name) AS name FROM s LEFT JOIN dim d ON d.k = s.b GROUP BY 1;
\d+ v
INSERT INTO s (a, b, c, ts) VALUES (1, 'x', 1.5, '2026-01-01Z'), (2, 'y', 2.5, '2026-01-01Z');

-- renames and columns
ALTER TABLE s RENAME COLUMN b TO city;
INSERT INTO s (a, city, c, ts) VALUES (1, 'x', 1.5, '2026-01-01Z');
ALTER MATERIALIZED VIEW v RENAME COLUMN total TO sum_c;
INSERT INTO s (a, city, c, ts) VALUES (1, 'x', 1.5, '2026-01-01Z');
ALTER TABLE v RENAME TO v2;
INSERT INTO s (a, city, c, ts) VALUES (1, 'x', 1.5, '2026-01-01Z');
ALTER TABLE s ADD COLUMN extra int DEFAULT 7;
INSERT INTO s (a, city, c, ts, extra) VALUES (1, 'x', 1.5, '2026-01-01Z', 9);
ALTER TABLE s DROP COLUMN extra;
ALTER TABLE dim RENAME COLUMN name TO label;
INSERT INTO s (a, city, c, ts) VALUES (1, 'x', 1.5, '2026-01-01Z');
ALTER TABLE s DROP COLUMN c;
CREATE SCHEMA view_ddl_other;
ALTER MATERIALIZED VIEW v2 SET SCHEMA view_ddl_other;
ALTER TABLE s RENAME TO s9;
INSERT INTO s9 (a, city, c, ts) VALUES (1, NULL, 1.5, '2026-01-01Z');
ALTER TABLE view_ddl_other.v2 ADD COLUMN note text;
COMMENT ON MATERIALIZED VIEW view_ddl_other.v2 IS 'totals';
CREATE INDEX ON view_ddl_other.v2 (n);
INSERT INTO s9 (a, city, c, ts) VALUES (1, NULL, 1.5, '2026-01-01Z');
SELECT * FROM view_ddl_other.v2 ORDER BY key;
SELECT * FROM j ORDER BY b;
SELECT * FROM weir.verify('view_ddl_other.v2');
SELECT pg_get_viewdef(query::oid) FROM weir.view_def WHERE view = 'view_ddl_other.v2'::regclass;

-- another backend with plans of its own follows, too
\c -
SET client_min_messages = warning;
SET search_path = view_ddl, public;
SET TimeZone = 'UTC';
INSERT INTO s9 (a, city, c, ts) VALUES (1, 'x', 1.5, '2026-01-01Z');
ALTER TABLE s9 RENAME COLUMN city TO town;
INSERT INTO s9 (a, town, c, ts) VALUES (1, 'x', 1.5, '2026-01-01Z');
SELECT key, n FROM view_ddl_other.v2 ORDER BY key;

-- functions: replaced ones count from then on; dropping one that is used is refused
CREATE FUNCTION norm(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT upper($1)';
CREATE MATERIALIZED VIEW f WITH (weir.continuous) AS SELECT norm(town) AS t, count(*) AS n FROM s9 GROUP BY 1 WITH NO DATA;
INSERT INTO s9 (town, ts) VALUES ('x', '2026-01-01Z');
CREATE OR REPLACE FUNCTION norm(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT upper($1) || ''!''';
INSERT INTO s9 (town, ts) VALUES ('x', '2026-01-01Z');
SELECT * FROM f ORDER BY t;
DROP FUNCTION norm(text);
DROP MATERIALIZED VIEW f;

-- an ordinary view below: its new definition counts from then on, if it can be kept
CREATE VIEW below AS SELECT town, a FROM s9 WHERE a > 0;
CREATE MATERIALIZED VIEW above WITH (weir.continuous) AS SELECT town, sum(a) AS s FROM below GROUP BY town WITH NO DATA;
INSERT INTO s9 (a, town, ts) VALUES (1, 'x', '2026-01-01Z');
CREATE OR REPLACE VIEW below AS SELECT town, a * 10 AS a FROM s9 WHERE a > 0;
INSERT INTO s9 (a, town, ts) VALUES (1, 'x', '2026-01-01Z');
TABLE above;
CREATE OR REPLACE VIEW below AS SELECT town, a FROM s9 LIMIT 1;
INSERT INTO s9 (a, town, ts) VALUES (1, 'x', '2026-01-01Z');
DROP MATERIALIZED VIEW above;
DROP VIEW below;

-- triggers: they see changes; created, dropped and created again
CREATE TABLE log (op text, key text);
CREATE FUNCTION note_change() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN INSERT INTO view_ddl.log VALUES (tg_op, NEW.key); RETURN NULL; END $$;
CREATE TRIGGER t AFTER INSERT OR UPDATE ON view_ddl_other.v2 FOR EACH ROW EXECUTE FUNCTION note_change();
INSERT INTO s9 (a, town, ts) VALUES (1, 'x', '2026-01-01Z'), (1, 'z', '2026-01-01Z');
DROP TRIGGER t ON view_ddl_other.v2;
INSERT INTO s9 (a, town, ts) VALUES (1, 'x', '2026-01-01Z');
CREATE TRIGGER t AFTER INSERT OR UPDATE ON view_ddl_other.v2 FOR EACH ROW EXECUTE FUNCTION note_change();
INSERT INTO s9 (a, town, ts) VALUES (1, 'x', '2026-01-01Z');
SELECT op, key, count(*) FROM log GROUP BY op, key ORDER BY op, key;
-- one that inserts into the view's own stream
CREATE TABLE chain (k int, ts timestamptz) WITH (weir.stream, weir.event_time = 'ts', weir.keep = '10 days');
CREATE MATERIALIZED VIEW chained WITH (weir.continuous) AS SELECT k, count(*) AS n FROM chain GROUP BY k;
CREATE FUNCTION go_on() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN IF NEW.k < 4 THEN INSERT INTO view_ddl.chain VALUES (NEW.k + 1, '2026-01-01Z'); END IF; RETURN NULL; END $$;
CREATE TRIGGER t AFTER INSERT ON chained FOR EACH ROW EXECUTE FUNCTION go_on();
INSERT INTO chain VALUES (1, '2026-01-01Z');
SELECT * FROM chained ORDER BY k;

-- one that changes a view itself
CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN DELETE FROM view_ddl.chained; RETURN NULL; END $$;
CREATE TRIGGER u AFTER UPDATE ON chained FOR EACH ROW EXECUTE FUNCTION meddle();
INSERT INTO chain VALUES (4, '2026-01-01Z');
DROP TRIGGER u ON chained;

-- the same names in two schemas
CREATE TABLE view_ddl_other.chain (k int, ts timestamptz) WITH (weir.stream, weir.event_time = 'ts');
CREATE MATERIALIZED VIEW view_ddl_other.chained WITH (weir.continuous) AS SELECT k, count(*) AS n FROM view_ddl_other.chain GROUP BY k;
SET search_path = view_ddl_other, view_ddl, public;
INSERT INTO chain VALUES (77, '2026-01-01Z');
INSERT INTO view_ddl.chain VALUES (88, '2026-01-01Z');
SELECT 'other', * FROM view_ddl_other.chained UNION ALL SELECT 'own', * FROM view_ddl.chained WHERE k > 4;
SET search_path = view_ddl, public;

-- settings of CREATE hold for ever
SET TimeZone = 'Asia/Tokyo';
CREATE MATERIALIZED VIEW days WITH (weir.continuous) AS SELECT ts::date AS day, count(*) AS n FROM chain GROUP BY 1 WITH NO DATA;
SET TimeZone = 'America/New_York';
INSERT INTO chain VALUES (9, '2026-01-01 20:00Z');
TABLE days;
SET TimeZone = 'UTC';

-- errors of a row reach the one who inserts, and nothing is kept
CREATE MATERIALIZED VIEW divided WITH (weir.continuous) AS SELECT k % 2 AS odd, sum(100 / k) AS s FROM chain WHERE k < 3 GROUP BY 1 WITH NO DATA;
INSERT INTO chain VALUES (0, '2026-01-01Z');
SELECT count(*) FROM chain WHERE k = 0;
DROP MATERIALIZED VIEW divided;

-- IF NOT EXISTS, names taken, WITH NO DATA, REFRESH
CREATE MATERIALIZED VIEW IF NOT EXISTS days WITH (weir.continuous) AS SELECT 1 AS x FROM chain;
CREATE MATERIALIZED VIEW days WITH (weir.continuous) AS SELECT 1 AS x FROM chain;
CREATE MATERIALIZED VIEW few (a, b, c) WITH (weir.continuous) AS SELECT k, count(*) FROM chain GROUP BY k;
CREATE MATERIALIZED VIEW late_start WITH (weir.continuous) AS SELECT k, count(*) AS n FROM chain GROUP BY k WITH NO DATA;
TABLE late_start;
INSERT INTO chain VALUES (77, '2026-01-01Z');
TABLE late_start;
SELECT * FROM weir.verify('late_start');
REFRESH MATERIALIZED VIEW late_start;
SELECT * FROM late_start ORDER BY k;
REFRESH MATERIALIZED VIEW late_start WITH NO DATA;
TABLE late_start;
SELECT * FROM weir.verify('late_start');

-- rights: as the owner, never more; nobody else reads states
CREATE ROLE weir_alice; CREATE ROLE weir_bob;
GRANT USAGE, CREATE ON SCHEMA view_ddl TO weir_alice, weir_bob;
SET ROLE weir_alice;
CREATE TABLE as1 (k text, v int, ts timestamptz) WITH (weir.stream, weir.event_time = 'ts');
CREATE TABLE secret (k text, x text);
CREATE MATERIALIZED VIEW av WITH (weir.continuous) AS SELECT k, count(*) AS n, avg(v) AS m FROM as1 GROUP BY k;
GRANT INSERT ON as1 TO weir_bob;
SET ROLE weir_bob;
INSERT INTO as1 VALUES ('p', 1, '2026-01-01Z');
TABLE av;
DELETE FROM av;
SELECT weir.verify('av');
SELECT weir.explain('av');
REFRESH MATERIALIZED VIEW av;
\set VERBOSITY terse
\set SHOW_CONTEXT never
CREATE MATERIALIZED VIEW bv WITH (weir.continuous) AS SELECT k, count(*) AS n FROM as1 GROUP BY k;
RESET ROLE;
GRANT SELECT ON as1 TO weir_bob;
SET ROLE weir_bob;
CREATE MATERIALIZED VIEW bv WITH (weir.continuous) AS SELECT as1.k, max(x) AS x FROM as1 JOIN secret USING (k) GROUP BY 1;
-- functions that would be found first do not get between; functions run as the view's owner
CREATE FUNCTION who(text) RETURNS text LANGUAGE plpgsql STABLE AS $$ BEGIN RETURN current_user; END $$;
CREATE FUNCTION count(text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE 'hijacked'; END $$;
CREATE FUNCTION int8pl(bigint, bigint) RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN RAISE 'hijacked'; END $$;
CREATE FUNCTION tumble(timestamptz, interval) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RAISE 'hijacked'; END $$;
CREATE MATERIALIZED VIEW bw WITH (weir.continuous) AS SELECT who(k) AS who, count(*) AS n FROM as1 GROUP BY 1;
SET ROLE weir_alice;
SET search_path = view_ddl, pg_catalog, public;
INSERT INTO as1 VALUES ('p', 1, '2026-01-01Z');
RESET ROLE;
SET search_path = view_ddl, public;
TABLE av;
TABLE bw;
SELECT count(*) FROM pg_class WHERE relnamespace = 'weir'::regnamespace AND relkind = 'r' AND relname ~ '^state_'
  AND (has_table_privilege('weir_bob', oid, 'SELECT') OR has_table_privilege('public', oid, 'SELECT')) AND relowner = 'weir_alice'::regrole;
-- the parts follow a new owner, whose rights count from then on
ALTER TABLE av OWNER TO weir_bob;
SELECT DISTINCT c.relowner::regrole FROM weir.view_def v JOIN pg_class c ON c.oid IN (v.view, v.query, v.state) WHERE v.view = 'av'::regclass;
INSERT INTO as1 VALUES ('p', 1, '2026-01-01Z');
REVOKE SELECT ON as1 FROM weir_bob;
INSERT INTO as1 VALUES ('p', 1, '2026-01-01Z');
DROP MATERIALIZED VIEW av, bw;

-- DROP takes what belongs to the view; what it needs is not dropped without it
DROP TABLE dim;
DROP TABLE s9;
DROP MATERIALIZED VIEW j;
DROP TABLE view_ddl_other.v2;
DROP TABLE chain CASCADE;
SELECT view, streams FROM weir.views WHERE view::text LIKE '%chained' ORDER BY 1;
DROP SCHEMA view_ddl CASCADE;
DROP SCHEMA view_ddl_other CASCADE;
DROP ROLE weir_alice, weir_bob;
SELECT count(*) FROM pg_class WHERE relnamespace = 'weir'::regnamespace AND relname ~ '^(query|state)_';
SELECT count(*) FROM weir.views;
