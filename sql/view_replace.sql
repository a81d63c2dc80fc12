-- weir.replace(): another query for a view that stays.
SET client_min_messages = warning;
CREATE SCHEMA view_replace;
SET search_path = view_replace, public;
SET TimeZone = 'UTC';
CREATE TABLE ev (k text, t timestamptz, v int) WITH (weir.stream, weir.event_time = 't', weir.keep = '100 years', weir.idle_timeout = 'off');
CREATE MATERIALIZED VIEW sums WITH (weir.continuous) AS SELECT k, count(*) AS n, sum(v) AS s FROM ev GROUP BY k;
CREATE MATERIALIZED VIEW rows WITH (weir.continuous) AS SELECT k, v, t FROM ev WHERE v > 2;
CREATE MATERIALIZED VIEW above WITH (weir.continuous) AS SELECT n, count(*) AS c FROM sums GROUP BY n;
CREATE MATERIALIZED VIEW above_rows WITH (weir.continuous) AS SELECT k, count(*) AS c FROM rows GROUP BY k;
CREATE MATERIALIZED VIEW finals WITH (weir.continuous, weir.emit = 'final') AS SELECT window_start, k, count(*) AS n FROM ev, tumble(t, '1 min') GROUP BY 1, 2;
INSERT INTO ev SELECT 'k' || i % 5, '2024-01-01Z'::timestamptz + i * interval '7 s', i % 11 FROM generate_series(1, 200) i;

-- what depends on it stays
CREATE VIEW reads AS SELECT k, n FROM sums;
CREATE INDEX by_n ON sums (n);
COMMENT ON COLUMN sums.n IS 'how many';
CREATE ROLE view_replace_user;
GRANT SELECT ON sums TO view_replace_user;
CREATE TABLE refers (k text REFERENCES sums (k) ON DELETE CASCADE);
INSERT INTO refers VALUES ('k1');
CREATE TABLE seen (id serial, what text, k text, old_n bigint, n bigint);
CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql SET search_path = view_replace AS $$
BEGIN INSERT INTO seen (what, k, old_n, n) VALUES (TG_OP, coalesce(NEW.k, OLD.k), OLD.n, NEW.n); RETURN NULL; END $$;
CREATE TRIGGER see AFTER INSERT OR UPDATE OR DELETE ON sums FOR EACH ROW EXECUTE FUNCTION see();

SELECT weir.replace('sums', 'SELECT count(*) AS n, avg(v) AS a, k, sum(v) AS s, max(v) AS m FROM ev WHERE k <> ''k3'' GROUP BY k');
\d sums
SELECT * FROM sums ORDER BY k;
SELECT what, k, old_n, n FROM seen ORDER BY what, k;
SELECT * FROM above;
SELECT * FROM weir.verify('sums') UNION ALL SELECT * FROM weir.verify('above');
INSERT INTO ev VALUES ('k1', '2024-01-01 01:00Z', 100), ('k3', '2024-01-01 01:00Z', 100), ('k9', '2024-01-01 01:00Z', 9);
SELECT * FROM sums ORDER BY k;
SELECT * FROM above ORDER BY n;
SELECT view, streams, strategy, state, replace(definition, 'ev.', '') AS definition FROM weir.views WHERE view = 'sums'::regclass;
TABLE refers;
SELECT has_table_privilege('view_replace_user', 'sums', 'SELECT'), col_description('sums'::regclass, 2), (SELECT count(*) FROM reads);

-- columns go
SELECT weir.replace('sums', 'SELECT k, count(*) AS n, min(v) AS m FROM ev GROUP BY k');
INSERT INTO ev VALUES ('k1', '2024-01-01 01:01Z', -5), ('k7', '2024-01-01 01:01Z', 7);
SELECT * FROM sums ORDER BY k;
SELECT * FROM weir.verify('sums') UNION ALL SELECT * FROM weir.verify('above');
SELECT weir.replace('sums', 'SELECT k, count(*) AS n, string_agg(DISTINCT v::text, '','') AS all_v FROM ev GROUP BY k');
INSERT INTO ev VALUES ('k7', '2024-01-01 01:01Z', 8);
SELECT * FROM sums WHERE k > 'k5' ORDER BY k;
SELECT * FROM weir.verify('sums') UNION ALL SELECT * FROM weir.verify('above');

-- a filter, and what reads it
SELECT weir.replace('rows', 'SELECT k, v, t, v % 2 AS odd FROM ev WHERE v > 7');
SELECT count(*), sum(odd) FROM rows;
SELECT * FROM weir.verify('rows') UNION ALL SELECT * FROM weir.verify('above_rows');
SELECT weir.replace('rows', 'SELECT v, t, v % 2 AS odd, k FROM ev WHERE v > 8');
SELECT weir.replace('above_rows', 'SELECT k, sum(v) AS s, count(*) AS c FROM rows GROUP BY k');
INSERT INTO ev VALUES ('k1', '2024-01-01 01:02Z', 10);
SELECT * FROM weir.verify('rows') UNION ALL SELECT * FROM weir.verify('above_rows');
SELECT * FROM above_rows ORDER BY k LIMIT 2;
-- finals: those of windows that have closed
SELECT weir.replace('finals', 'SELECT window_start, k, count(*) AS n, sum(v) AS s FROM ev, tumble(t, ''1 min'') GROUP BY 1, 2');
INSERT INTO ev VALUES ('k1', '2024-01-01 01:10Z', 10);
SELECT * FROM weir.verify('finals');
SELECT * FROM finals ORDER BY window_start DESC, k LIMIT 2;
-- one row for all, and back
CREATE MATERIALIZED VIEW total WITH (weir.continuous) AS SELECT count(*) AS n FROM ev;
SELECT weir.replace('total', 'SELECT count(*) AS n, sum(v) AS s FROM ev');
SELECT weir.replace('total', 'SELECT k, count(*) AS n FROM ev GROUP BY k');
INSERT INTO ev VALUES ('k1', '2024-01-01 01:11Z', 10), ('ka', '2024-01-01 01:11Z', 10);
SELECT * FROM weir.verify('total');
SELECT count(*) FROM total;
SELECT weir.replace('total', 'SELECT count(*) AS n, avg(v) AS a FROM ev');
INSERT INTO ev VALUES ('k1', '2024-01-01 01:11Z', 11);
SELECT * FROM weir.verify('total');
SELECT n FROM total;
-- another key
SELECT weir.replace('above', 'SELECT count(*) AS c, max(n) AS n FROM sums');
TABLE above;
SELECT * FROM weir.verify('above');

-- columns of the user's own
CREATE MATERIALIZED VIEW noted WITH (weir.continuous) AS SELECT k, count(*) AS n, sum(v) AS s FROM ev GROUP BY k;
ALTER TABLE noted ADD COLUMN note bigint DEFAULT 7;
SELECT weir.replace('noted', 'SELECT k, count(*) AS n, max(v) AS m FROM ev GROUP BY k');
SELECT weir.replace('noted', 'SELECT k, count(*) AS n FROM ev WHERE v > 5 GROUP BY k');
INSERT INTO ev VALUES ('k1', '2024-01-01 01:15Z', 10);
SELECT * FROM weir.verify('noted');
SELECT * FROM noted ORDER BY k LIMIT 2;
DROP MATERIALIZED VIEW noted;
-- what the types of new columns run, runs as the view's owner
GRANT ALL ON SCHEMA view_replace TO view_replace_user;
GRANT SELECT ON ev TO view_replace_user;
CREATE TABLE ran (who text);
GRANT INSERT ON ran TO view_replace_user;
CREATE FUNCTION ran(int) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN INSERT INTO view_replace.ran VALUES (current_user); RETURN true; END $$;
CREATE DOMAIN told AS int CHECK (ran(VALUE));
SET ROLE view_replace_user;
CREATE MATERIALIZED VIEW his WITH (weir.continuous) AS SELECT k, v FROM ev WHERE v > 99;
RESET ROLE;
SELECT weir.replace('his', 'SELECT k, v, v::told AS d FROM ev WHERE v > 99');
SELECT DISTINCT who FROM ran;
DROP MATERIALIZED VIEW his;
REVOKE ALL ON ev, ran FROM view_replace_user;

-- rolled back, all is as it was
BEGIN;
SELECT weir.replace('finals', 'SELECT window_start, k, count(*) AS n FROM ev, tumble(t, ''1 min'') GROUP BY 1, 2');
ROLLBACK;
INSERT INTO ev VALUES ('k1', '2024-01-01 01:20Z', 10);
SELECT * FROM weir.verify('finals');

-- refused
\set VERBOSITY default
\set SHOW_CONTEXT never
SELECT weir.replace('sums', 'SELECT k, max(v) AS m FROM ev GROUP BY k');
SELECT weir.replace('sums', 'SELECT k, count(*)::int AS n FROM ev GROUP BY k');
SELECT weir.replace('sums', 'SELECT k, n FROM sums');
SELECT weir.replace('sums', 'SELECT k, now() AS n FROM ev');
SELECT weir.replace('sums', 'SELECT 1; SELECT 2');
SELECT weir.replace('sums', 'DELETE FROM ev');
SELECT weir.replace('rows', 'SELECT k, count(*) AS n FROM ev GROUP BY k');
SELECT weir.replace('ev', 'SELECT 1');
SELECT weir.replace('sums', NULL);
SELECT weir.replace('sums', 'SELECT k, count(*) AS n FROM ev GROUP BY k', start => 'latest');
SELECT weir.replace('sums', 'SELECT k, count(*) AS n FROM ev GROUP BY k', start => 'earliest');
GRANT USAGE ON SCHEMA view_replace TO view_replace_user;
SET ROLE view_replace_user;
SELECT weir.replace('sums', 'SELECT k, count(*) AS n FROM ev GROUP BY k');
RESET ROLE;
SELECT weir.replace('sums', 'SELECT k, count(*) AS n FROM ev GROUP BY k');
ALTER TABLE ev SET (weir.keep = '1 min');
INSERT INTO ev VALUES ('k1', '2024-01-01 02:00Z', 10);
INSERT INTO ev VALUES ('k1', '2024-01-01 02:10Z', 10);
SELECT weir.replace('finals', 'SELECT window_start, k, count(*) AS n FROM ev, tumble(t, ''1 min'') GROUP BY 1, 2');

REVOKE ALL ON sums FROM view_replace_user;
REVOKE ALL ON SCHEMA view_replace FROM view_replace_user;
DROP ROLE view_replace_user;
DROP SCHEMA view_replace CASCADE;
