-- What cannot be kept is refused at CREATE, naming the clause, with a hint.
SET client_min_messages = warning;
CREATE SCHEMA view_refuse;
SET search_path = view_refuse, public;

CREATE TABLE s (id int, k text, v int, ts timestamptz) WITH (weir.stream, weir.event_time = 'ts');
CREATE TABLE s2 (id int, k text, v int, ts timestamptz) WITH (weir.stream, weir.event_time = 'ts');
CREATE TABLE d (k text PRIMARY KEY, name text);
CREATE VIEW over_s AS SELECT k, v FROM s LIMIT 10;
CREATE FUNCTION vol(int) RETURNS int LANGUAGE sql VOLATILE AS 'SELECT $1';
CREATE FUNCTION anyfirst_step(anyelement, anyelement) RETURNS anyelement LANGUAGE sql IMMUTABLE AS 'SELECT coalesce($1, $2)';
CREATE AGGREGATE no_combine(int) (SFUNC = int4larger, STYPE = int);

-- Each query as a continuous view: SQLSTATE, DETAIL, HINT.
CREATE FUNCTION refuse(query text, options text DEFAULT '') RETURNS text LANGUAGE plpgsql AS $$
DECLARE detail text; hint text;
BEGIN
  EXECUTE 'CREATE MATERIALIZED VIEW refused WITH (weir.continuous' || options || ') AS ' || query;
  DROP MATERIALIZED VIEW refused;
  RETURN 'accepted: ' || query;
EXCEPTION WHEN others THEN
  GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
  RETURN concat_ws(E'\n', query, sqlstate || ' ' || sqlerrm, detail, hint, '');
END $$;
\pset format unaligned
\pset tuples_only on

SELECT refuse(q) FROM (VALUES
-- no stream, or not as one
('SELECT k FROM d'), ('SELECT 1 AS one'),
('SELECT k FROM ONLY s'), ('SELECT k FROM s TABLESAMPLE system (10)'),
('SELECT ctid AS c, k FROM s'), ('SELECT tableoid::regclass AS t, count(*) FROM s GROUP BY 1'),
-- clauses
('SELECT k FROM s LIMIT 10'), ('SELECT k FROM s OFFSET 1'), ('SELECT DISTINCT k FROM s'), ('SELECT DISTINCT ON (k) k, v FROM s'),
('SELECT k, count(*) FROM s GROUP BY k HAVING count(*) > 1'),
('SELECT k, row_number() OVER (PARTITION BY k ORDER BY v) FROM s'),
('SELECT k, sum(count(*)) OVER () AS c FROM s GROUP BY k'),
('SELECT k, v, count(*) FROM s GROUP BY GROUPING SETS ((k), (v))'), ('SELECT k, count(*) FROM s GROUP BY ROLLUP (k)'),
('SELECT k FROM s FOR UPDATE'),
('SELECT k FROM s UNION SELECT k FROM s2'), ('SELECT k FROM s INTERSECT ALL SELECT k FROM s2'), ('SELECT k FROM s EXCEPT SELECT k FROM d'),
('SELECT k FROM s UNION ALL SELECT k FROM d'),
('SELECT k, count(*) FROM s GROUP BY k UNION ALL SELECT k, count(*) FROM s2 GROUP BY k'),
-- joins
('SELECT s.k FROM d LEFT JOIN s USING (k)'), ('SELECT s.k FROM s RIGHT JOIN d USING (k)'), ('SELECT s.k FROM s FULL JOIN d USING (k)'),
('SELECT d.k FROM d, LATERAL (SELECT count(*) AS c FROM s WHERE s.k = d.k) x'),
-- streams where they do not belong
('SELECT k FROM d WHERE k IN (SELECT k FROM s)'), ('SELECT k, v FROM s WHERE v > (SELECT avg(v) FROM s2)'),
('SELECT k, (SELECT max(v) FROM s2) AS m FROM s'), ('SELECT count(*) FROM (SELECT k, count(*) FROM s GROUP BY k) x'),
('WITH c AS (SELECT k, max(v) AS v FROM s GROUP BY k) SELECT k FROM c'), ('SELECT k FROM (SELECT k FROM s ORDER BY v LIMIT 5) x'),
('WITH RECURSIVE r AS (SELECT k, v FROM s UNION ALL SELECT k, v - 1 FROM r WHERE v > 0) SELECT k FROM r'),
('SELECT k, count(*) FROM over_s GROUP BY k'),
('WITH weir_merged AS (SELECT 1 AS x) SELECT k, x FROM s, weir_merged'),
-- grouping
('SELECT count(*) FROM s GROUP BY k'), ('SELECT upper(k) AS u, count(*) FROM s GROUP BY k'),
('SELECT k, unnest(ARRAY[count(*), 1]) AS u FROM s GROUP BY k'),
-- aggregates
('SELECT k, array_agg(DISTINCT v) FROM s GROUP BY k'), ('SELECT k, array_agg(v) FROM s GROUP BY k'),
('SELECT k, array_agg(v ORDER BY v) FROM s GROUP BY k'), ('SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY v) AS m FROM s'),
('SELECT mode() WITHIN GROUP (ORDER BY v) AS m FROM s'), ('SELECT k, no_combine(v) FROM s GROUP BY k'), ('SELECT k, json_agg(v) FROM s GROUP BY k'),
-- time and chance
('SELECT k FROM s WHERE ts > now()'), ('SELECT k, current_date AS d FROM s'), ('SELECT k FROM s WHERE ts > current_timestamp - interval ''1 h'''),
('SELECT k, age(ts) AS a FROM s'), ('SELECT k, clock_timestamp() AS c FROM s'), ('SELECT k, localtimestamp AS l FROM s'),
('SELECT k FROM s WHERE random() < 0.5'), ('SELECT k, vol(v) AS v FROM s'), ('SELECT k FROM s WHERE k IN (SELECT k FROM d WHERE random() < 0.5)'),
('SELECT k, max(v) FILTER (WHERE ts > now()) AS m FROM s GROUP BY k'),
-- PostgreSQL's own refusals stay
('SELECT k, count(*), count(*) FROM s GROUP BY k'), ('SELECT nothing FROM s'), ('SELECT k, count(*) FROM s')
) q(q);

-- options
SELECT refuse('SELECT k, count(*) FROM s GROUP BY k', ', weir.start = ''latest''');
SELECT refuse('SELECT k, count(*) FROM s GROUP BY k', ', weir.start = ''earliest''');
SELECT refuse('SELECT k, count(*) FROM s GROUP BY k', ', weir.emti = ''changes''');
\pset tuples_only off
\pset format aligned

-- accepted: what looks similar
SELECT refuse(q) FROM (VALUES
('SELECT k FROM s ORDER BY v'), ('SELECT k, count(*) FROM s GROUP BY k ORDER BY count(*)'),
('SELECT k, (SELECT name FROM d WHERE d.k = s.k LIMIT 1) AS n FROM s'),
('SELECT k FROM s WHERE v > (SELECT count(DISTINCT name) FROM d)'),
('SELECT k, age(ts, ''2026-01-01'') AS a FROM s'), ('SELECT k, max(DISTINCT v) AS m FROM s GROUP BY k'),
('SELECT k, count(DISTINCT v) AS m FROM s GROUP BY k'),
('SELECT s.k, x.n FROM s, LATERAL (SELECT count(*) AS n FROM d WHERE d.k <= s.k HAVING count(*) > 0) x')
) q(q);

-- a view's own table: only weir changes it; rows of a stream are not updated
CREATE MATERIALIZED VIEW v WITH (weir.continuous) AS SELECT k, avg(v) AS m FROM s GROUP BY k;
INSERT INTO s VALUES (1, 'a', 1, '2026-01-01');
INSERT INTO v VALUES ('b', 1);
UPDATE v SET m = 2;
DELETE FROM v;
TRUNCATE v;
UPDATE s SET v = 2;
TABLE v;
ALTER TABLE v DROP COLUMN m;
ALTER TABLE v ALTER COLUMN m TYPE float8;
ALTER TABLE s DROP COLUMN v;
ALTER MATERIALIZED VIEW v SET (weir.lateness = '1 s');
ALTER MATERIALIZED VIEW v SET (weir.keep = '1 s');
-- windows that are an error for every row are one at CREATE
CREATE MATERIALIZED VIEW w WITH (weir.continuous) AS SELECT window_start, count(*) FROM s, tumble(ts, '0 s') GROUP BY 1;
CREATE MATERIALIZED VIEW w WITH (weir.continuous) AS SELECT window_start, count(*) FROM s, tumble(size => '-1 s', ts => ts) GROUP BY 1;
CREATE MATERIALIZED VIEW w WITH (weir.continuous) AS SELECT window_start, count(*) FROM s, tumble(ts, '1 month 1 day') GROUP BY 1;
CREATE MATERIALIZED VIEW w WITH (weir.continuous) AS SELECT window_start, count(*) FROM s, tumble(ts, '1 day', 'Mars/Olympus') GROUP BY 1;
CREATE MATERIALIZED VIEW w WITH (weir.continuous) AS SELECT window_start, count(*) FROM s, tumble(ts, '1 day', origin => 'infinity') GROUP BY 1;
CREATE MATERIALIZED VIEW w WITH (weir.continuous, weir.emit = 'final') AS SELECT window_start, count(*) FROM s, tumble(ts, '1 day 1 hour', 'Asia/Tokyo') GROUP BY 1;
CREATE MATERIALIZED VIEW w WITH (weir.continuous) AS SELECT window_start, count(*) FROM s, hop(ts, '-1 s', '1 s') GROUP BY 1;
CREATE MATERIALIZED VIEW w WITH (weir.continuous) AS SELECT window_start, count(*) FROM s, hop(ts, '2 days', '12 hours', 'Asia/Tokyo') GROUP BY 1;
CREATE MATERIALIZED VIEW w WITH (weir.continuous) AS SELECT window_start, count(*) FROM s, hop(ts, '30 min', '1 us') GROUP BY 1;
CREATE MATERIALIZED VIEW w WITH (weir.continuous) AS SELECT window_end, array_agg(v) FROM s, cumulate(ts, '1 day', '0 s') GROUP BY 1;
CREATE MATERIALIZED VIEW w WITH (weir.continuous) AS SELECT window_end, count(*) FROM s, cumulate(ts, '1 month', '1 week') GROUP BY 1;
-- rules that would multiply the maintenance statement
CREATE RULE r AS ON INSERT TO v DO ALSO SELECT 1;
INSERT INTO s VALUES (1, 'a', 1, '2026-01-01');
DROP RULE r ON v;
-- row security of a stream would not be seen
CREATE ROLE weir_reader;
GRANT ALL ON SCHEMA view_refuse TO weir_reader;
GRANT SELECT ON s TO weir_reader;
CREATE POLICY mine ON s USING (k = current_user);
ALTER TABLE s ENABLE ROW LEVEL SECURITY;
SET ROLE weir_reader;
CREATE MATERIALIZED VIEW spy WITH (weir.continuous) AS SELECT k, count(*) AS n FROM s GROUP BY k;
RESET ROLE;
DROP SCHEMA view_refuse CASCADE;
DROP ROLE weir_reader;
