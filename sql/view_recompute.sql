-- Views whose touched keys are computed anew from the kept rows: aggregates
-- that do not merge, grouping sets, OVER, DISTINCT ON, several levels. Whole, row by row, in
-- random batches: the view equals its query.
CREATE SCHEMA rec;
SET search_path = rec, public;
SET timezone = 'UTC';
SELECT setseed(0.7);
CREATE TABLE prices (c text PRIMARY KEY, price numeric);
INSERT INTO prices VALUES ('a', 1.5), ('b', 2), ('d', 7);
CREATE TABLE rows AS
  SELECT i, '2024-01-01'::timestamptz + (i * 2 + (random() * 60 - 30)::int) * interval '1 s' AS t,
         CASE WHEN random() < 0.1 THEN NULL ELSE (random() * 5)::int END AS k,
         CASE WHEN random() < 0.2 THEN NULL ELSE chr(97 + (random() * 3)::int) END AS c,
         CASE WHEN random() < 0.1 THEN NULL ELSE (random() * 8)::int END AS v
    FROM generate_series(1, 240) i;
CREATE AGGREGATE joined(text) (SFUNC = textcat, STYPE = text, INITCOND = '');

CREATE TABLE queries (n int PRIMARY KEY, q text);
INSERT INTO queries VALUES
 (1, 'SELECT window_start, k, count(DISTINCT v) AS d, sum(DISTINCT v) AS s, count(*) AS n FROM %s, tumble(t, ''1 minute'') GROUP BY 1, 2'),
 (2, 'SELECT window_end, c, array_agg(v ORDER BY v, i) AS vs, string_agg(k::text, '','' ORDER BY i) AS ks FROM %s, tumble(t, ''2 minutes'') GROUP BY 1, 2'),
 (3, 'SELECT window_start, percentile_cont(0.5) WITHIN GROUP (ORDER BY v) AS p, mode() WITHIN GROUP (ORDER BY c) AS m, rank(3) WITHIN GROUP (ORDER BY v) AS r FROM %s, tumble(t, ''1 minute'') WHERE k > 0 GROUP BY 1'),
 (4, 'SELECT window_start, k, c, sum(v) AS s, grouping(k, c) AS g FROM %s, tumble(t, ''2 minutes'') GROUP BY window_start, CUBE (k, c)'),
 (5, 'SELECT window_start, k, sum(v) AS s FROM %s, tumble(t, ''1 minute'') GROUP BY window_start, ROLLUP (k) HAVING sum(v) > 5'),
 (6, 'SELECT DISTINCT ON (window_start, k) window_start, k, c, i FROM %s, tumble(t, ''1 minute'') ORDER BY window_start, k, v DESC NULLS LAST, i'),
 (7, 'SELECT * FROM (SELECT window_start, k, i, v, row_number() OVER (PARTITION BY window_start, k ORDER BY v DESC, i) AS n FROM %s, tumble(t, ''1 minute'')) q WHERE n <= 2'),
 (8, 'SELECT window_start, k, v FROM (SELECT window_start, k, v, row_number() OVER (PARTITION BY window_start, k ORDER BY v, i) AS n FROM %s, tumble(t, ''1 minute'')) q WHERE n = 1'),
 (9, 'SELECT window_start, c, v, rank() OVER w AS r, dense_rank() OVER w AS d FROM %s, tumble(t, ''1 minute'') WINDOW w AS (PARTITION BY window_start, c ORDER BY v)'),
 (10, 'SELECT window_start, i, k, v - lag(v) OVER w AS step, sum(v) OVER (PARTITION BY window_start, k ORDER BY i) AS running FROM %s, tumble(t, ''1 minute'') WINDOW w AS (PARTITION BY window_start, k ORDER BY i)'),
 (11, 'SELECT window_start, max(n) AS top, avg(n)::numeric(10, 3) AS mean FROM (SELECT window_start, k, count(*) AS n FROM %s, tumble(t, ''1 minute'') GROUP BY 1, 2) q GROUP BY 1'),
 (12, 'WITH q AS (SELECT window_start, c, sum(v) AS s FROM %s, tumble(t, ''1 minute'') GROUP BY 1, 2) SELECT * FROM (SELECT *, rank() OVER (PARTITION BY window_start ORDER BY s DESC NULLS LAST) AS place FROM q) r WHERE place <= 2'),
 (13, 'SELECT window_start, c, rank() OVER (PARTITION BY window_start ORDER BY sum(v), c) AS place FROM %s, tumble(t, ''1 minute'') GROUP BY 1, 2'),
 (14, 'SELECT window_start, s.c, count(DISTINCT k) * max(price) AS x FROM %s s JOIN prices p ON p.c = s.c, tumble(t, ''1 minute'') GROUP BY 1, 2'),
 (15, 'SELECT window_start, joined(i || '' '' ORDER BY i) AS j, jsonb_agg(v ORDER BY i) FILTER (WHERE v > 2) AS b FROM %s, tumble(t, ''1 minute'') GROUP BY 1'),
 (16, 'SELECT window_start, k, count(DISTINCT c) AS n FROM %s, hop(t, ''90 s'', ''30 s'') GROUP BY 1, 2'),
 (17, 'SELECT DISTINCT window_start, n FROM (SELECT window_start, k, count(*) AS n FROM %s, tumble(t, ''1 minute'') GROUP BY 1, 2) q');

CREATE TABLE a (i int, t timestamptz, k int, c text, v int) WITH (weir.stream, weir.event_time = 't', weir.keep = '1 day');
CREATE TABLE b (LIKE a) WITH (weir.stream, weir.event_time = 't', weir.keep = '1 day');
CREATE TABLE d (LIKE a) WITH (weir.stream, weir.event_time = 't', weir.keep = '1 day');
CREATE INDEX ON b (t);
\set ECHO none
\i sql/lib/three_ways.sql
\set ECHO all
CALL make_views();
CALL feed(80, 40);
SELECT * FROM differences();
SELECT (SELECT count(*) FROM a1) AS a1, (SELECT count(*) FROM b4) AS b4, (SELECT count(*) FROM d10) AS d10;

-- made when the rows are there already, and REFRESH
CREATE MATERIALIZED VIEW later WITH (weir.continuous) AS SELECT window_start, k, count(DISTINCT v) AS d, sum(DISTINCT v) AS s, count(*) AS n FROM a, tumble(t, '1 minute') GROUP BY 1, 2;
TABLE later EXCEPT ALL TABLE a1;
TABLE a1 EXCEPT ALL TABLE later;
REFRESH MATERIALIZED VIEW later;
TABLE a1 EXCEPT ALL TABLE later;

-- how it is kept, with which keys
SELECT v.view, v.strategy, i.indisunique, pg_get_indexdef(i.indexrelid, 0, true) FROM weir.views v JOIN pg_index i ON i.indrelid = v.view
 WHERE v.view::text ~ '^a' ORDER BY substr(v.view::text, 2)::int;
SELECT line FROM weir.explain('a2') line WHERE line ~ '^(strategy|why|cost)';
SELECT line FROM weir.explain('a12') line WHERE line ~ '^(strategy|why|cost)';

-- rows that do not change are not touched; changes as triggers see them
CREATE TABLE seen (x bigint DEFAULT txid_current(), view text, op text, r jsonb);
CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$
  BEGIN INSERT INTO rec.seen (view, op, r) VALUES (TG_TABLE_NAME, TG_OP, to_jsonb(CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END)); RETURN NULL; END $$;
CREATE TABLE e (i int, t timestamptz, k int, v int) WITH (weir.stream, weir.event_time = 't', weir.keep = '10 min');
CREATE MATERIALIZED VIEW e1 WITH (weir.continuous) AS SELECT window_start, k, cardinality(array_agg(DISTINCT v)) AS n FROM e, tumble(t, '1 minute') GROUP BY 1, 2;
CREATE MATERIALIZED VIEW e2 WITH (weir.continuous) AS
  SELECT * FROM (SELECT window_start, k, v, i, row_number() OVER (PARTITION BY window_start, k ORDER BY v DESC, i) AS n FROM e, tumble(t, '1 minute')) q WHERE n <= 2;
CREATE MATERIALIZED VIEW e3 WITH (weir.continuous) AS SELECT window_start, k, sum(v) AS s, cardinality(array_agg(DISTINCT v)) AS n FROM e, tumble(t, '1 minute') GROUP BY 1, 2 HAVING sum(v) > 10;
CREATE TRIGGER see AFTER INSERT OR UPDATE OR DELETE ON e1 FOR EACH ROW EXECUTE FUNCTION see();
CREATE TRIGGER see AFTER INSERT OR UPDATE OR DELETE ON e2 FOR EACH ROW EXECUTE FUNCTION see();
CREATE TRIGGER see AFTER INSERT OR UPDATE OR DELETE ON e3 FOR EACH ROW EXECUTE FUNCTION see();
INSERT INTO e VALUES (1, '2024-01-01 00:00:01', 1, 7), (2, '2024-01-01 00:00:02', 2, 5);
INSERT INTO e VALUES (3, '2024-01-01 00:00:03', 1, 7);
INSERT INTO e VALUES (4, '2024-01-01 00:00:03', 1, 9), (5, '2024-01-01 00:01:03', 1, 9);
INSERT INTO e VALUES (6, '2024-01-01 00:00:03', 1, -20);
SELECT view, op, r - 'window_start' AS r FROM seen ORDER BY view, x, op, r::text;

-- windows of which rows may have expired take no more rows, whole or row by row
TRUNCATE seen;
INSERT INTO e VALUES (7, '2024-01-01 01:00:00', 1, 1);
INSERT INTO e VALUES (8, '2024-01-01 00:01:10', 1, 100);
SELECT * FROM weir.verify('e1');
SELECT window_start, n FROM e1 WHERE k = 1 ORDER BY 1;
SELECT view, late > 0 AS late FROM weir.stat_views WHERE view IN ('e1'::regclass, 'e2') ORDER BY view::text;
CREATE TABLE f (i int, t timestamptz, k int, v int) WITH (weir.stream, weir.event_time = 't', weir.keep = '10 min');
CREATE MATERIALIZED VIEW f1 WITH (weir.continuous) AS SELECT window_start, k, cardinality(array_agg(DISTINCT v)) AS n FROM f, tumble(t, '1 minute') GROUP BY 1, 2;
INSERT INTO f SELECT i, '2024-01-01'::timestamptz + i * interval '10 s', i % 2, i FROM generate_series(0, 1000) i;
SELECT count(*), sum(n) FROM f1;
SELECT count(*) FROM f;
CREATE TABLE g (LIKE f) WITH (weir.stream, weir.event_time = 't', weir.keep = '10 min');
CREATE MATERIALIZED VIEW g1 WITH (weir.continuous) AS SELECT window_start, k, cardinality(array_agg(DISTINCT v)) AS n FROM g, tumble(t, '1 minute') GROUP BY 1, 2;
DO $$
BEGIN
  FOR n IN 0 .. 1000 LOOP
    INSERT INTO g VALUES (n, '2024-01-01'::timestamptz + n * interval '10 s', n % 2, n);
  END LOOP;
END $$;
SELECT count(*), sum(n) FROM g1;
TABLE f1 EXCEPT ALL TABLE g1;

-- deleted rows: the view stays as it is until the key is touched
DELETE FROM e WHERE i = 7;
SELECT n FROM e1 WHERE window_start = '2024-01-01 01:00:00';

-- rows kept for ever need no window
CREATE TABLE h (i int, k int NOT NULL, v int) WITH (weir.stream, weir.keep = '100 years');
CREATE MATERIALIZED VIEW h1 WITH (weir.continuous) AS SELECT k, cardinality(array_agg(DISTINCT v)) AS n FROM h GROUP BY k;
CREATE MATERIALIZED VIEW h2 WITH (weir.continuous) AS SELECT k, max(n) AS n FROM (SELECT k, v, count(*) AS n FROM h GROUP BY k, v) q GROUP BY k;
INSERT INTO h SELECT i, i % 3, i % 7 FROM generate_series(1, 100) i;
INSERT INTO h SELECT i, i % 4, i % 5 FROM generate_series(1, 100) i;
TABLE h1 EXCEPT SELECT k, cardinality(array_agg(DISTINCT v)) FROM h GROUP BY k;
SELECT * FROM h2 ORDER BY k;
SELECT * FROM weir.verify('h2');

-- renamed and new columns
ALTER TABLE h RENAME v TO w;
ALTER TABLE h ADD COLUMN x int;
INSERT INTO h VALUES (1, 1, 77, 3);
SELECT * FROM weir.verify('h1');

-- streams united: each arm by its event time, with its own weir.keep
CREATE TABLE p (at timestamptz, k int, v int) WITH (weir.stream, weir.event_time = 'at', weir.keep = '5 min');
CREATE TABLE r (k int, v int, at timestamptz, other timestamptz) WITH (weir.stream, weir.event_time = 'at', weir.keep = '1 hour');
CREATE MATERIALIZED VIEW united WITH (weir.continuous) AS
  SELECT window_start, k, cardinality(array_agg(DISTINCT v)) AS n FROM (SELECT at, k, v FROM p UNION ALL SELECT at, k, v FROM r) u, tumble(at, '1 minute') GROUP BY 1, 2;
INSERT INTO p SELECT '2024-01-01'::timestamptz + i * interval '20 s', i % 2, i % 3 FROM generate_series(0, 60) i;
INSERT INTO r SELECT i % 2, i % 5, '2024-01-01'::timestamptz + i * interval '20 s', '2024-01-01' FROM generate_series(0, 60) i;
INSERT INTO p VALUES ('2024-01-01 00:20', 1, 77);
SELECT count(*), sum(n) FROM united;
SELECT * FROM weir.verify('united');
CREATE MATERIALIZED VIEW no WITH (weir.continuous) AS
  SELECT window_start, k, cardinality(array_agg(DISTINCT v)) AS n FROM (SELECT at, k, v FROM p UNION ALL SELECT other, k, v FROM r) u, tumble(at, '1 minute') GROUP BY 1, 2;

-- a stream cannot stop to keep what such views need
ALTER TABLE e SET (weir.keep = 0);
ALTER TABLE h SET (weir.keep = '1 day');
ALTER TABLE e SET (weir.keep = '20 min');

-- refused
CREATE MATERIALIZED VIEW no WITH (weir.continuous) AS SELECT k, cardinality(array_agg(DISTINCT v)) FROM e GROUP BY k;
CREATE MATERIALIZED VIEW no WITH (weir.continuous) AS SELECT cardinality(array_agg(DISTINCT v)) FROM h;
CREATE MATERIALIZED VIEW no WITH (weir.continuous) AS SELECT k, rank() OVER (ORDER BY w) FROM h;
CREATE MATERIALIZED VIEW no WITH (weir.continuous) AS SELECT cardinality(array_agg(DISTINCT v)) FROM e, tumble(t, '1 minute') GROUP BY window_start;
CREATE MATERIALIZED VIEW no WITH (weir.continuous) AS
  SELECT k, count(*) FROM (SELECT k, max(t) AS t FROM e, tumble(t, '1 minute') GROUP BY window_start, k) q, tumble(q.t, '1 hour') GROUP BY k;
CREATE MATERIALIZED VIEW no WITH (weir.continuous) AS
  SELECT window_start, k FROM e, tumble(t, '1 minute') UNION ALL SELECT max(t), k FROM e GROUP BY k;
CREATE TABLE none (k int, t timestamptz, v int) WITH (weir.stream, weir.event_time = 't', weir.keep = 0);
CREATE MATERIALIZED VIEW no WITH (weir.continuous) AS SELECT window_start, cardinality(array_agg(DISTINCT v)) FROM none, tumble(t, '1 minute') GROUP BY 1;
CREATE UNLOGGED TABLE un (k int, t timestamptz, v int) WITH (weir.stream, weir.event_time = 't', weir.keep = '1 hour');
CREATE MATERIALIZED VIEW no WITH (weir.continuous) AS SELECT window_start, cardinality(array_agg(DISTINCT v)) FROM un, tumble(t, '1 minute') GROUP BY 1;

SET client_min_messages = warning;
DROP SCHEMA rec CASCADE;
