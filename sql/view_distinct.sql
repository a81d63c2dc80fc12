-- Aggregates with DISTINCT, kept from the set of values seen: whole, row by row, in random batches, the view
-- equals its query, and needs no kept rows.
CREATE SCHEMA view_distinct;
SET search_path = view_distinct, public;
SET timezone = 'UTC';
SET client_min_messages = warning;
SELECT setseed(0.3);
CREATE TABLE names (c text PRIMARY KEY, name text);
INSERT INTO names VALUES ('a', 'one'), ('b', 'two'), ('d', 'two');
CREATE TABLE rows AS
  SELECT i, '2024-01-01'::timestamptz + (i * 2 + (random() * 60 - 30)::int) * interval '1 s' AS t,
         CASE WHEN random() < 0.1 THEN NULL ELSE (random() * 4)::int END AS k,
         CASE WHEN random() < 0.2 THEN NULL ELSE chr(97 + (random() * 3)::int) END AS c,
         CASE WHEN random() < 0.1 THEN NULL ELSE (random() * 6)::int END AS v,
         CASE WHEN random() < 0.1 THEN NULL WHEN random() < 0.3 THEN 1.0 WHEN random() < 0.3 THEN 1.00 ELSE (random() * 5)::int END AS x
    FROM generate_series(1, 200) i;
CREATE TABLE queries (n int PRIMARY KEY, q text);
INSERT INTO queries VALUES
 (1, 'SELECT k, count(DISTINCT v) AS n FROM %s GROUP BY k'),
 (2, 'SELECT window_start, k, count(DISTINCT v) AS d, sum(DISTINCT v) AS s, avg(DISTINCT x) AS m, count(*) AS n FROM %s, tumble(t, ''1 minute'') GROUP BY 1, 2'),
 (3, 'SELECT count(DISTINCT v) AS v, count(DISTINCT x) AS x, count(DISTINCT c) AS c FROM %s'),
 (4, 'SELECT c, count(DISTINCT v) FILTER (WHERE k > 1) AS a, count(DISTINCT v) FILTER (WHERE k <= 1) AS b, count(DISTINCT k) AS k, max(v) AS m FROM %s GROUP BY c'),
 (5, 'SELECT c, count(DISTINCT (k, v)) AS n, count(DISTINCT (v, 1)) AS o, count(DISTINCT c) AS c2, count(DISTINCT 1) FILTER (WHERE v = 1) AS one FROM %s GROUP BY c'),
 (6, 'SELECT k, count(DISTINCT c) * 2 + max(v) AS x, stddev(DISTINCT v)::numeric(10, 4) AS d FROM %s GROUP BY k HAVING mod(count(DISTINCT v), 3) > 0'),
 (7, 'SELECT window_start, k, count(DISTINCT c) AS n FROM %s, hop(t, ''90 s'', ''30 s'') GROUP BY 1, 2'),
 (8, 'SELECT window_end, c, count(DISTINCT v) AS n, sum(v) AS s FROM %s, cumulate(t, ''3 minutes'', ''1 minute'') GROUP BY 1, 2'),
 (9, 'SELECT window_start, name, count(DISTINCT v) AS n, count(DISTINCT s.c) AS c FROM %s s JOIN names USING (c), hop(t, ''1 minute'', ''20 s'') GROUP BY 1, 2'),
 (10, 'SELECT window_start, count(DISTINCT v) AS n FROM (SELECT t, v FROM %1$s UNION ALL SELECT t, k FROM %1$s WHERE k > 0) u, tumble(t, ''1 minute'') GROUP BY 1'),
 (11, 'SELECT k, v, count(DISTINCT x) AS n, weir.top(DISTINCT x, 2) AS top, min(DISTINCT x) AS m, bool_or(DISTINCT x > 2) AS b FROM %s GROUP BY k, v'),
 (12, 'SELECT l.k, count(DISTINCT l.v) AS n, count(DISTINCT r.v) AS m, count(*) AS pairs FROM %1$s l JOIN %1$s r ON r.k = l.k AND r.t BETWEEN l.t - interval ''5 s'' AND l.t + interval ''5 s'' GROUP BY l.k'),
 (13, 'SELECT mod(k, 2) AS h, regr_slope(DISTINCT v, i)::numeric(10, 4) AS r, corr(DISTINCT v, k)::numeric(10, 4) AS c FROM %s GROUP BY 1');
CREATE TABLE a (i int, t timestamptz, k int, c text, v int, x numeric) WITH (weir.stream, weir.event_time = 't', weir.keep = '1 day');
CREATE TABLE b (LIKE a) WITH (weir.stream, weir.event_time = 't', weir.keep = '1 day');
CREATE TABLE d (LIKE a) WITH (weir.stream, weir.event_time = 't', weir.keep = '1 day');
\set ECHO none
\i sql/lib/three_ways.sql
\set ECHO all
CALL make_views();
SELECT view, strategy FROM weir.views WHERE strategy <> 'combine';
CALL feed(70, 40);
SELECT * FROM differences();
SELECT (SELECT count(*) FROM a2) AS a2, (SELECT sum(n) FROM b7) AS b7, (SELECT sum(pairs) FROM d12) AS d12;
DO $$
DECLARE
  v regclass;
BEGIN
  FOR v IN SELECT view FROM weir.views LOOP EXECUTE format('REFRESH MATERIALIZED VIEW %s', v); END LOOP;
END $$;
SELECT * FROM differences();
SELECT line FROM weir.explain('a7') line WHERE line ~ '^(strategy|why)';
SELECT regexp_replace(line, '\d+', 'N') FROM weir.explain('a4') line WHERE line ~ '^(distinct)';

-- sets with the same arguments and FILTER are one; a value is one row per group and set; long ones have short keys in the index
CREATE TABLE e (id int, t timestamptz, k text, v text, n numeric, p text) WITH (weir.stream, weir.event_time = 't', weir.keep = 0);
CREATE MATERIALIZED VIEW e1 WITH (weir.continuous) AS SELECT k, count(DISTINCT v) AS c, count(DISTINCT n) AS n, sum(DISTINCT n) AS s, avg(DISTINCT n) AS a FROM e GROUP BY k;
CREATE FUNCTION values_of(view regclass) RETURNS text LANGUAGE sql AS 'SELECT distinct_values::text FROM weir.view_def d WHERE d.view = $1';
CREATE FUNCTION in_values(view regclass, what text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  result text;
BEGIN
  EXECUTE format('SELECT string_agg(x::text, '' '' ORDER BY x) FROM (SELECT %s) x', format(what, values_of(view))) INTO result;
  RETURN result;
END $$;
INSERT INTO e VALUES (1, '2024-01-01', 'x', repeat('long', 10000), 1.0), (2, '2024-01-01', 'x', repeat('long', 10000), 1.00), (3, '2024-01-01', NULL, NULL, NULL);
INSERT INTO e VALUES (4, '2024-01-01', 'x', repeat('long', 10000), 1), (5, '2024-01-01', 'x', repeat('long', 10000) || 'er', 2), (6, '2024-01-01', NULL, 'a', NULL);
TABLE e1 ORDER BY k;
SELECT in_values('e1', 's, count(*), count(v1), count(v2) FROM %s GROUP BY s');
DO $$ BEGIN EXECUTE 'DELETE FROM ' || values_of('e1'); EXCEPTION WHEN OTHERS THEN RAISE WARNING 'refused: %', SQLSTATE; END $$;

-- FILTER is looked at behind WHERE, wherever the planner would have it
CREATE MATERIALIZED VIEW e2 WITH (weir.continuous) AS
  SELECT k, count(DISTINCT p::int) AS n, count(DISTINCT v) FILTER (WHERE p::int > 3) AS f FROM e JOIN names ON names.c = k WHERE names.name = 'one' GROUP BY k;
INSERT INTO e VALUES (7, '2024-01-01', 'a', 'v', 1, '5'), (8, '2024-01-01', 'b', 'v', 1, 'no number'), (9, '2024-01-01', 'a', 'w', 1, '5');
TABLE e2;

-- nothing changes: no update, no trigger; savepoints; a raising row
CREATE TABLE seen (op text, k text, c bigint);
CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO view_distinct.seen VALUES (TG_OP, NEW.k, NEW.c); RETURN NULL; END';
CREATE TRIGGER see AFTER INSERT OR UPDATE ON e1 FOR EACH ROW EXECUTE FUNCTION see();
INSERT INTO e VALUES (10, '2024-01-01', 'x', repeat('long', 10000), 2);
BEGIN;
SAVEPOINT p;
INSERT INTO e VALUES (11, '2024-01-01', 'x', 'gone', 3), (12, '2024-01-01', 'y', 'gone', 3);
ROLLBACK TO p;
INSERT INTO e VALUES (13, '2024-01-01', 'x', 'stays', 3);
COMMIT;
INSERT INTO e VALUES (14, '2024-01-01', 'x', 'gone', 5);
TABLE seen;
TABLE e1 ORDER BY k;

-- collations that hold different bytes equal; types of fixed length
CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TYPE mood AS ENUM ('sad', 'happy');
CREATE DOMAIN short AS varchar(20);
CREATE TABLE f (k int, c text COLLATE ci, m mood, u uuid, b bytea, s short, ch char(5), i interval, r int4range, bits varbit, f float8) WITH (weir.stream);
CREATE MATERIALIZED VIEW f1 WITH (weir.continuous) AS
  SELECT k, count(DISTINCT c) AS c, count(DISTINCT m) AS m, count(DISTINCT u) AS u, count(DISTINCT b) AS b, count(DISTINCT s) AS s,
         count(DISTINCT ch) AS ch, count(DISTINCT i) AS i, count(DISTINCT r) AS r, count(DISTINCT bits) AS bits, sum(DISTINCT f) AS f FROM f GROUP BY k;
INSERT INTO f VALUES (1, 'Abc', 'sad', '00000000-0000-0000-0000-000000000001', '\x01', 's', 'c', '1 day', '[1,3)', B'1', 'NaN'),
                     (1, 'abC', 'happy', '00000000-0000-0000-0000-000000000001', '\x0100', 's ', 'c ', '24 hours', '[1,2]', B'10', 0);
INSERT INTO f VALUES (1, 'ABC', 'sad', '00000000-0000-0000-0000-000000000002', '\x01', 's', 'c', '1440 min', '[1,3)', B'1', '-0');
TABLE f1;
SELECT * FROM weir.verify('f1');

-- finals: nothing is kept of closed windows
CREATE TABLE g (i int, t timestamptz, k int, v int) WITH (weir.stream, weir.event_time = 't', weir.keep = '1 day', weir.idle_timeout = 'off');
CREATE MATERIALIZED VIEW g1 WITH (weir.continuous, weir.emit = 'final') AS SELECT window_start, k, count(DISTINCT v) AS n, count(*) AS all FROM g, tumble(t, '1 minute') GROUP BY 1, 2;
CREATE MATERIALIZED VIEW g2 WITH (weir.continuous, weir.emit = 'final', weir.lateness = '20 s') AS
  SELECT k, window_end, sum(DISTINCT v) AS s FROM g, hop(t, '1 minute', '20 s') GROUP BY 1, 2 HAVING count(DISTINCT v) > 1;
CREATE MATERIALIZED VIEW g3 WITH (weir.continuous, weir.emit = 'final') AS SELECT w.window_start, count(DISTINCT m.n) AS n FROM g1 m, tumble(m.window_start, '2 min') w GROUP BY 1;
INSERT INTO g SELECT i, '2024-01-01'::timestamptz + (i * 3 + i * 7 % 31) * interval '1 s', i % 3, i % 4 FROM generate_series(1, 100) i;
DO $$ BEGIN FOR i IN 101 .. 160 LOOP INSERT INTO g VALUES (i, '2024-01-01'::timestamptz + (i * 3 + i * 7 % 31) * interval '1 s', i % 3, i % 5); END LOOP; END $$;
SELECT (SELECT count(*) FROM g1) AS g1, (SELECT count(*) FROM g2) AS g2, (SELECT count(*) FROM g3) AS g3;
SELECT v, x.* FROM unnest('{g1,g2,g3}'::regclass[]) v, weir.verify(v) x;
SELECT in_values('g1', 'min(e) FROM %s') AS g1, in_values('g2', 'min(k2) FROM %s') AS g2;
INSERT INTO g VALUES (1000, '2024-01-02', 1, 1);
SELECT v, in_values(v, 'count(*) FROM %s') FROM unnest('{g1,g2,g3}'::regclass[]) v;
SELECT v, x.* FROM unnest('{g1,g2,g3}'::regclass[]) v, weir.verify(v) x;
CREATE MATERIALIZED VIEW g4 WITH (weir.continuous, weir.emit = 'final') AS SELECT window_start, count(DISTINCT v) AS n FROM g, tumble(t, v * interval '1 min') GROUP BY 1;

-- an outer join of streams: rows without a match come later
CREATE TABLE l (t timestamptz, k int, v int) WITH (weir.stream, weir.event_time = 't', weir.keep = '1 hour');
CREATE TABLE r (t timestamptz, k int, w int) WITH (weir.stream, weir.event_time = 't', weir.keep = '1 hour');
CREATE MATERIALIZED VIEW lr WITH (weir.continuous) AS
  SELECT l.k, count(DISTINCT l.v) AS v, count(DISTINCT r.w) AS w, count(*) AS n FROM l LEFT JOIN r ON r.k = l.k AND r.t BETWEEN l.t AND l.t + interval '1 min' GROUP BY l.k;
INSERT INTO l SELECT '2024-01-01'::timestamptz + i * interval '10 s', i % 3, i % 4 FROM generate_series(1, 60) i;
INSERT INTO r SELECT '2024-01-01'::timestamptz + i * interval '20 s', i % 2, i % 5 FROM generate_series(1, 30) i;
INSERT INTO l VALUES ('2024-01-01 00:30', 7, 7);
INSERT INTO r VALUES ('2024-01-01 00:30', 8, 7);
TABLE lr ORDER BY k;
SELECT * FROM weir.verify('lr');

-- another query, another owner, other options, REFRESH of what is kept, DROP
CREATE TABLE h (t timestamptz, k int, v int, w int) WITH (weir.stream, weir.event_time = 't', weir.keep = '1 hour');
CREATE MATERIALIZED VIEW h1 WITH (weir.continuous) AS SELECT window_start, count(*) AS n FROM h, tumble(t, '1 minute') GROUP BY 1;
INSERT INTO h SELECT '2024-01-01'::timestamptz + i * interval '10 s', i % 2, i % 4, i % 5 FROM generate_series(0, 200) i;
SELECT weir.replace('h1', 'SELECT window_start, count(*) AS n, count(DISTINCT v) AS v FROM h, tumble(t, ''1 minute'') GROUP BY 1');
INSERT INTO h SELECT '2024-01-01'::timestamptz + i * interval '10 s', i % 2, i % 4, i % 5 FROM generate_series(150, 250) i;
SELECT * FROM weir.verify('h1');
SELECT weir.replace('h1', 'SELECT window_start, count(*) AS n, count(DISTINCT w) AS v, avg(DISTINCT v) AS a FROM h, tumble(t, ''1 minute'') GROUP BY 1');
INSERT INTO h SELECT '2024-01-01'::timestamptz + i * interval '10 s', i % 2, i % 4, i % 5 FROM generate_series(240, 300) i;
SELECT * FROM weir.verify('h1');
CREATE ROLE view_distinct_owner;
GRANT USAGE, CREATE ON SCHEMA view_distinct TO view_distinct_owner;
GRANT SELECT ON h TO view_distinct_owner;
ALTER MATERIALIZED VIEW h1 OWNER TO view_distinct_owner;
ALTER MATERIALIZED VIEW h1 SET (weir.keep = '30 min');
SELECT DISTINCT c.relowner::regrole FROM weir.view_def v, pg_class c WHERE v.view = 'h1'::regclass AND c.oid IN (v.view, v.query, v.state, v.distinct_values);
SELECT weir.pause('h1');
INSERT INTO h SELECT '2024-01-01'::timestamptz + i * interval '10 s', i % 2, i % 4, i % 5 FROM generate_series(290, 320) i;
SELECT weir.resume('h1');
INSERT INTO h SELECT '2024-01-01'::timestamptz + i * interval '10 s', i % 2, i % 4, i % 5 FROM generate_series(310, 330) i;
SELECT * FROM weir.verify('h1');
SELECT values_of('h1') AS vals \gset
DROP MATERIALIZED VIEW h1;
SELECT to_regclass(:'vals');

-- values go with the rows that weir.keep no longer covers, one by one or by whole slots
CREATE TABLE o (t timestamptz, k text, v int) WITH (weir.stream, weir.event_time = 't', weir.keep = '1 day');
CREATE MATERIALIZED VIEW o1 WITH (weir.continuous, weir.keep = '10 min') AS SELECT k, window_start, count(DISTINCT v) AS n FROM o, tumble(t, '1 minute') GROUP BY 1, 2;
CREATE MATERIALIZED VIEW o2 WITH (weir.continuous, weir.keep = '10 min', weir.segmented) AS SELECT k, window_start, count(DISTINCT v) AS n FROM o, tumble(t, '1 minute') GROUP BY 1, 2;
CREATE MATERIALIZED VIEW o3 WITH (weir.continuous) AS SELECT k, window_start, count(DISTINCT v) AS n FROM o, tumble(t, '1 minute') GROUP BY 1, 2;
ALTER MATERIALIZED VIEW o3 SET (weir.keep = '10 min');
SELECT c.relkind, i.indexes FROM unnest('{o1,o2,o3}'::regclass[]) WITH ORDINALITY u(v, n), LATERAL (SELECT * FROM pg_class WHERE oid = values_of(v)::regclass) c,
  LATERAL (SELECT count(*) AS indexes FROM pg_index WHERE indrelid = c.oid) i ORDER BY n;
INSERT INTO o SELECT '2024-01-01'::timestamptz + i * interval '1 s', 'k' || i % 3, i % 10 FROM generate_series(1, 1800) i;
INSERT INTO o SELECT '2024-01-01 00:25'::timestamptz + i * interval '1 s', 'k' || i % 3, i % 12 FROM generate_series(1, 300) i;
SELECT v, x.* FROM unnest('{o1,o2,o3}'::regclass[]) v, weir.verify(v) x;
INSERT INTO o VALUES ('2024-01-01 02:00', 'k', 1);
\set ECHO none
\i sql/lib/await.sql
\set ECHO all
DO $$ BEGIN FOR i IN 1 .. 3 LOOP CALL gone(format('%s WHERE k2 < %L', values_of(('o' || i)::regclass), '2024-01-01 00:29')); END LOOP; END $$;
SELECT v, x.* FROM unnest('{o1,o2,o3}'::regclass[]) v, weir.verify(v) x;

-- what has no set: kept rows are needed, as for any other such aggregate
CREATE MATERIALIZED VIEW no WITH (weir.continuous) AS SELECT k, count(DISTINCT to_jsonb(v)) AS n FROM h GROUP BY k;
CREATE MATERIALIZED VIEW no WITH (weir.continuous) AS SELECT k, count(DISTINCT ARRAY[v]) AS n FROM h GROUP BY k;
CREATE MATERIALIZED VIEW no WITH (weir.continuous) AS SELECT k, array_agg(DISTINCT v) AS n FROM h GROUP BY k;
CREATE MATERIALIZED VIEW no WITH (weir.continuous) AS SELECT k, weir.first(DISTINCT v) AS n FROM h GROUP BY k;

DROP SCHEMA view_distinct CASCADE;
DROP ROLE view_distinct_owner;
