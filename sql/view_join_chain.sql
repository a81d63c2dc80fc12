-- Outer joins of three streams, and outer joins below what is computed anew: rows without a match at close.
CREATE SCHEMA view_join_chain;
SET search_path = view_join_chain, public;
SET TimeZone = 'UTC';
SET DateStyle = 'ISO, YMD';
SET IntervalStyle = 'postgres';
CREATE FUNCTION at_ms(bigint) RETURNS timestamptz LANGUAGE sql IMMUTABLE AS
  $$SELECT timestamptz '2025-01-01 00:00:00+00' + $1 * interval '1 ms'$$;
CREATE TABLE a (at timestamptz, k text, v text) WITH (weir.stream, weir.event_time = 'at', weir.idle_timeout = 'off', weir.keep = '1 hour');
CREATE TABLE b (at timestamptz, k text, v text) WITH (weir.stream, weir.event_time = 'at', weir.idle_timeout = 'off', weir.keep = '1 hour');
CREATE TABLE c (at timestamptz, k text, v text) WITH (weir.stream, weir.event_time = 'at', weir.idle_timeout = 'off', weir.keep = '1 hour');
CREATE MATERIALIZED VIEW chain WITH (weir.continuous) AS
  SELECT a.k, a.v AS av, b.v AS bv, c.v AS cv FROM a LEFT JOIN b ON a.k = b.k AND b.at BETWEEN a.at - interval '2 s' AND a.at + interval '5 s'
   LEFT JOIN c ON c.k = a.k AND c.at BETWEEN a.at - interval '1 s' AND a.at + interval '3 s';
CREATE MATERIALIZED VIEW onb WITH (weir.continuous) AS
  SELECT a.k, a.v AS av, b.v AS bv, c.v AS cv FROM a LEFT JOIN b ON a.k = b.k AND b.at BETWEEN a.at - interval '2 s' AND a.at + interval '5 s'
   LEFT JOIN c ON c.k = b.k AND c.at BETWEEN b.at - interval '1 s' AND b.at + interval '3 s';
CREATE MATERIALIZED VIEW fulls WITH (weir.continuous) AS
  SELECT a.v AS av, b.v AS bv, c.v AS cv FROM a FULL JOIN b ON a.k = b.k AND b.at BETWEEN a.at - interval '2 s' AND a.at + interval '5 s'
   FULL JOIN c ON c.k = b.k AND c.at BETWEEN b.at - interval '1 s' AND b.at + interval '3 s';
CREATE MATERIALIZED VIEW nested WITH (weir.continuous) AS
  SELECT a.v AS av, b.v AS bv, c.v AS cv FROM a LEFT JOIN (b LEFT JOIN c ON c.k = b.k AND c.at BETWEEN b.at - interval '1 s' AND b.at + interval '3 s')
   ON a.k = b.k AND b.at BETWEEN a.at - interval '2 s' AND a.at + interval '5 s' AND (c.v IS NULL OR length(c.v) > 2);
CREATE MATERIALIZED VIEW innerb WITH (weir.continuous) AS
  SELECT a.v AS av, b.v AS bv, c.v AS cv FROM a LEFT JOIN (b JOIN c ON c.k = b.k AND c.at BETWEEN b.at - interval '1 s' AND b.at + interval '3 s')
   ON a.k = b.k AND b.at BETWEEN a.at - interval '2 s' AND a.at + interval '5 s';
CREATE MATERIALIZED VIEW counted WITH (weir.continuous) AS
  SELECT a.k, count(*), count(b.v) AS bs, count(c.v) AS cs FROM a LEFT JOIN b ON a.k = b.k AND b.at BETWEEN a.at - interval '2 s' AND a.at + interval '5 s'
   LEFT JOIN c ON c.k = a.k AND c.at BETWEEN a.at - interval '1 s' AND a.at + interval '3 s' GROUP BY a.k;
CREATE MATERIALIZED VIEW recomputed WITH (weir.continuous) AS
  SELECT window_start, a.k, count(*), count(DISTINCT b.v) AS bs, string_agg(c.v, ',' ORDER BY c.v) AS cs FROM a LEFT JOIN b ON a.k = b.k AND b.at BETWEEN a.at - interval '2 s' AND a.at + interval '5 s'
   LEFT JOIN c ON c.k = a.k AND c.at BETWEEN a.at - interval '1 s' AND a.at + interval '3 s', tumble(a.at, '10 s') GROUP BY window_start, a.k;
CREATE MATERIALIZED VIEW best WITH (weir.continuous) AS
  SELECT DISTINCT ON (a.k) a.k, b.v AS bv, a.v AS av FROM a LEFT JOIN b ON a.k = b.k AND b.at BETWEEN a.at - interval '2 s' AND a.at + interval '5 s' ORDER BY a.k, b.v DESC, a.v;
CREATE TABLE log (seq bigserial, s text, at timestamptz, k text, v text);
CREATE FUNCTION feed(seed float8, rounds int, at_once boolean) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  base bigint := 100000 + coalesce((SELECT extract(epoch FROM max(at) - at_ms(0)) * 1000 FROM log), 0);
  which text;
  last bigint;
BEGIN
  PERFORM setseed(seed);
  FOR i IN 1 .. rounds LOOP
    which := (ARRAY['a','b','c'])[1 + floor(random() * 3)];
    last := coalesce((SELECT max(seq) FROM log), 0);
    INSERT INTO log (s, at, k, v)
      SELECT which, at_ms(base + i * 700 - (random() * 14000)::int),
        CASE WHEN random() < 0.1 THEN NULL ELSE 'k' || (random() * 2)::int END, which || last || '.' || n
      FROM generate_series(1, CASE WHEN at_once THEN (random() * 9)::int ELSE 1 END) n;
    EXECUTE format('INSERT INTO %s SELECT at, k, v FROM log WHERE seq > %s ORDER BY seq', which, last);
  END LOOP;
END $$;
CREATE VIEW model AS
  WITH times AS (SELECT *, max(at) OVER (PARTITION BY s ORDER BY seq) AS seen FROM log),
  good AS (SELECT * FROM times WHERE NOT at + CASE s WHEN 'a' THEN interval '5 s' WHEN 'b' THEN interval '5 s' ELSE interval '6 s' END < seen),
  mark AS (SELECT min(newest) - interval '11 s' AS t FROM (SELECT max(at) AS newest FROM log GROUP BY s) x),
  a AS (SELECT * FROM good WHERE s = 'a'), b AS (SELECT * FROM good WHERE s = 'b'), c AS (SELECT * FROM good WHERE s = 'c')
  SELECT a.k, a.v AS av, b.v AS bv, c.v AS cv FROM a LEFT JOIN b ON a.k = b.k AND b.at BETWEEN a.at - interval '2 s' AND a.at + interval '5 s'
   LEFT JOIN c ON c.k = a.k AND c.at BETWEEN a.at - interval '1 s' AND a.at + interval '3 s'
   WHERE (b.at IS NOT NULL AND c.at IS NOT NULL) OR LEAST(a.at, b.at, c.at) < (SELECT t FROM mark);
CREATE FUNCTION wrong() RETURNS TABLE (which text, r text) LANGUAGE sql AS $$
  (SELECT 'missing', m::text FROM model m EXCEPT ALL SELECT 'missing', m::text FROM chain m)
  UNION ALL (SELECT 'extra', m::text FROM chain m EXCEPT ALL SELECT 'extra', m::text FROM model m)
  UNION ALL (SELECT v.view::text, f.side || f.record::text FROM weir.views v, LATERAL weir.verify(v.view) f)
$$;

-- by hand: each row of a waits until nothing of b and c can come that it would meet
INSERT INTO a VALUES (at_ms(0), 'k1', 'a1'), (at_ms(1000), 'k2', 'a2'), (at_ms(2000), 'k3', 'a3');
INSERT INTO b VALUES (at_ms(3000), 'k1', 'b1'), (at_ms(3000), 'k2', 'b2');
INSERT INTO c VALUES (at_ms(2000), 'k1', 'c1'), (at_ms(2000), 'k3', 'c2');
TABLE chain;
INSERT INTO a VALUES (at_ms(30000), 'x', 'a4');
INSERT INTO b VALUES (at_ms(30000), 'x', 'b3');
INSERT INTO c VALUES (at_ms(30000), 'y', 'c3');
SELECT * FROM chain ORDER BY av;
SELECT * FROM nested ORDER BY av;
SELECT * FROM fulls ORDER BY av, bv, cv;
SELECT * FROM recomputed ORDER BY 1, 2;
SELECT v.view, f.* FROM weir.views v, LATERAL weir.verify(v.view) f;
SELECT line FROM weir.explain('chain') line WHERE line ~ '^(strategy|why|streams|cost)';
SELECT line FROM weir.explain('recomputed') line WHERE line ~ '^(strategy|why|streams|cost)';
REFRESH MATERIALIZED VIEW chain;
REFRESH MATERIALIZED VIEW fulls;
REFRESH MATERIALIZED VIEW recomputed;
SELECT v.view, f.* FROM weir.views v, LATERAL weir.verify(v.view) f;

-- what cannot be kept: c bounded to a by way of b alone, where b may have no row; outer joins in sub-selects
CREATE MATERIALIZED VIEW no WITH (weir.continuous) AS SELECT a.v FROM a LEFT JOIN b ON a.at = b.at LEFT JOIN c ON c.k = a.k AND c.k = b.k;
CREATE MATERIALIZED VIEW no WITH (weir.continuous) AS SELECT a.v FROM a LEFT JOIN b ON a.at = b.at LEFT JOIN c ON c.k = b.k OR c.at = b.at;
CREATE MATERIALIZED VIEW no WITH (weir.continuous) AS SELECT c.v FROM (SELECT a.at, b.v FROM a LEFT JOIN b ON a.at = b.at) q JOIN c ON c.at = q.at;
CREATE MATERIALIZED VIEW no WITH (weir.continuous) AS SELECT c.v FROM c LEFT JOIN (SELECT a.at, b.v FROM a JOIN b ON a.at = b.at) q ON c.at = q.at;
CREATE MATERIALIZED VIEW no WITH (weir.continuous) AS SELECT a.k, array_agg(b.v) FROM a LEFT JOIN b ON a.at = b.at GROUP BY a.k;

-- at random, against a model: what is late by its own stream's time, and what has closed
TRUNCATE a, b, c;
REFRESH MATERIALIZED VIEW chain;
REFRESH MATERIALIZED VIEW onb;
REFRESH MATERIALIZED VIEW fulls;
REFRESH MATERIALIZED VIEW nested;
REFRESH MATERIALIZED VIEW innerb;
REFRESH MATERIALIZED VIEW counted;
REFRESH MATERIALIZED VIEW recomputed;
REFRESH MATERIALIZED VIEW best;
SELECT feed(0.3, 100, false);
SELECT * FROM wrong() LIMIT 10;
SELECT feed(0.5, 60, true);
SELECT * FROM wrong() LIMIT 10;
BEGIN;
SELECT feed(0.6, 20, true);
COMMIT;
SELECT * FROM wrong() LIMIT 10;
SELECT weir.pause('chain'), weir.pause('recomputed');
SELECT feed(0.7, 10, true);
SELECT weir.resume('chain'), weir.resume('recomputed');
SELECT feed(0.8, 10, true);
SELECT * FROM wrong() LIMIT 10;
SELECT count(*) > 10 AS pairs, (SELECT count(*) > 5 FROM chain WHERE cv IS NULL) AS no_c, (SELECT count(*) > 5 FROM chain WHERE bv IS NULL) AS no_b,
  (SELECT count(*) > 5 FROM fulls WHERE av IS NULL) AS no_a FROM chain WHERE bv IS NOT NULL AND cv IS NOT NULL;
SET client_min_messages = warning;
DROP SCHEMA view_join_chain CASCADE;
