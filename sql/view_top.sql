-- weir.top, weir.bottom, weir.list, weir.first, weir.last: combined in place, so that no rows need be kept.
CREATE SCHEMA own;
SET search_path = own, public;
SELECT weir.top(v, 2), weir.top(v, 3, true), weir.bottom(v, 2), weir.list(v, 2) FROM (VALUES (3), (NULL), (7), (7), (1)) x(v);
SELECT weir.top(v, 2), weir.list(v, 2) FROM (VALUES (NULL::text)) x(v);
SELECT weir.top(v, 2), weir.list(v, 2) FROM (VALUES ('a'::text)) x(v) WHERE false;
SELECT weir.top(v, 0) FROM (VALUES (1)) x(v);
SELECT weir.top(v, 1) FROM (VALUES ('{}'::json)) x(v), generate_series(1, 2);
SELECT weir.bottom(c COLLATE "C", 2) FROM (VALUES ('a'), ('B')) x(c);

SELECT weir.first(v), weir.last(v), weir.first(v, 2), weir.last(v, 3) FROM (VALUES (3), (NULL), (7), (1)) x(v);
SELECT weir.first(v ORDER BY v) FROM (VALUES (3), (NULL), (7), (1)) x(v);
SELECT weir.first(v), weir.last(v, 2) FROM (VALUES (1)) x(v) WHERE false;

SELECT setseed(0.2);
CREATE TABLE rows AS
  SELECT i, CASE WHEN random() < 0.1 THEN NULL ELSE (random() * 5)::int END AS k,
         CASE WHEN random() < 0.2 THEN NULL ELSE (random() * 30)::int END AS v
    FROM generate_series(1, 300) i;
CREATE UNLOGGED TABLE s (i int, k int, v int) WITH (weir.stream, weir.keep = 0);
CREATE MATERIALIZED VIEW m WITH (weir.continuous) AS
  SELECT k, weir.top(v, 3) AS t, weir.top(v, 3, true) AS td, weir.bottom(v::text, 2) AS b,
         weir.top(v, 2) FILTER (WHERE i % 2 = 0) AS even, weir.list(i, 5) AS l, (weir.top(v, 3))[3] AS third
    FROM s GROUP BY k;
DO $$
DECLARE
  lo int := 1;
  hi int;
BEGIN
  FOR n IN 1 .. 20 LOOP INSERT INTO s SELECT * FROM own.rows WHERE i = n; END LOOP;
  lo := 21;
  WHILE lo <= 300 LOOP
    hi := lo + (random() * 40)::int;
    INSERT INTO s SELECT * FROM own.rows WHERE i BETWEEN lo AND hi ORDER BY i;
    lo := hi + 1;
  END LOOP;
END $$;
SELECT k, t, td, b, even, third FROM m EXCEPT ALL
  SELECT k, weir.top(v, 3), weir.top(v, 3, true), weir.bottom(v::text, 2), weir.top(v, 2) FILTER (WHERE i % 2 = 0), (weir.top(v, 3))[3] FROM rows GROUP BY k;
SELECT k, t, td, b, even, third FROM m EXCEPT ALL
  SELECT k, (array_agg(v ORDER BY v DESC) FILTER (WHERE v IS NOT NULL))[1:3], (array_agg(DISTINCT v ORDER BY v DESC) FILTER (WHERE v IS NOT NULL))[1:3],
         (array_agg(v::text ORDER BY v::text) FILTER (WHERE v IS NOT NULL))[1:2],
         (array_agg(v ORDER BY v DESC) FILTER (WHERE v IS NOT NULL AND i % 2 = 0))[1:2],
         (array_agg(v ORDER BY v DESC) FILTER (WHERE v IS NOT NULL))[3] FROM rows GROUP BY k;
SELECT count(*) FROM m WHERE l <> (SELECT (array_agg(i ORDER BY i))[1:5] FROM rows r WHERE r.k IS NOT DISTINCT FROM m.k);
CREATE TABLE a (i int, k int, v int) WITH (weir.stream, weir.keep = '1 day');
CREATE MATERIALIZED VIEW arrived WITH (weir.continuous) AS
  SELECT k, weir.first(v) AS f, weir.last(v) AS l, weir.first(i, 3) AS f3, weir.last(i, 3) AS l3, weir.first(v) FILTER (WHERE v > 10) AS big, count(*) AS n FROM a GROUP BY k;
CREATE MATERIALIZED VIEW lasts WITH (weir.continuous) AS SELECT k, weir.last(v, 2) AS l FROM (SELECT v, k FROM a WHERE v <> 5 ORDER BY v) x GROUP BY k;
DO $$
DECLARE
  lo int := 1;
  hi int;
BEGIN
  WHILE lo <= 300 LOOP
    hi := lo + (random() * 40)::int;
    INSERT INTO a SELECT * FROM own.rows WHERE i BETWEEN lo AND hi ORDER BY i;
    lo := hi + 1;
  END LOOP;
END $$;
SELECT * FROM arrived EXCEPT ALL
  SELECT k, (array_agg(v ORDER BY i))[1], (array_agg(v ORDER BY i DESC))[1], (array_agg(i ORDER BY i))[1:3], (array_agg(i ORDER BY i DESC))[1:3],
         (array_agg(v ORDER BY i) FILTER (WHERE v > 10))[1], count(*) FROM rows GROUP BY k;
SELECT * FROM lasts EXCEPT ALL SELECT k, (array_agg(v ORDER BY i DESC))[1:2] FROM rows WHERE v <> 5 GROUP BY k;
SELECT * FROM weir.verify('arrived');
SELECT * FROM weir.verify('lasts');

SELECT line FROM weir.explain('m') line WHERE line ~ '^(strategy|why)';
CREATE MATERIALIZED VIEW alone WITH (weir.continuous) AS SELECT k, weir.top(v, 2) AS t FROM s GROUP BY k;
SELECT line FROM weir.explain('alone') line WHERE line ~ '^(strategy|why)';
CREATE MATERIALIZED VIEW no WITH (weir.continuous) AS SELECT k, weir.top(v, k) AS t FROM s GROUP BY k;

SET client_min_messages = warning;
DROP SCHEMA own CASCADE;
