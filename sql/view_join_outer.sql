-- Outer joins of streams: rows without a match come when none is left to come.
CREATE SCHEMA view_join_outer;
SET search_path = view_join_outer, public;
SET TimeZone = 'UTC';
SET DateStyle = 'ISO, YMD';
SET IntervalStyle = 'postgres';
CREATE FUNCTION at_ms(bigint) RETURNS timestamptz LANGUAGE sql IMMUTABLE AS
  $$SELECT timestamptz '2025-01-01 00:00:00+00' + $1 * interval '1 ms'$$;
CREATE TABLE l (at timestamptz, k text, v text) WITH (weir.stream, weir.event_time = 'at', weir.idle_timeout = 'off', weir.keep = '1 hour');
CREATE TABLE r (at timestamptz, k text, v text) WITH (weir.stream, weir.event_time = 'at', weir.idle_timeout = 'off', weir.keep = '1 hour');
CREATE MATERIALIZED VIEW left_joined WITH (weir.continuous) AS
  SELECT l.k, l.v AS lv, r.v AS rv FROM l LEFT JOIN r ON l.k = r.k AND r.at BETWEEN l.at - interval '2 s' AND l.at + interval '5 s';
CREATE MATERIALIZED VIEW right_joined WITH (weir.continuous) AS
  SELECT r.k, l.v AS lv, r.v AS rv FROM l RIGHT JOIN r ON l.k = r.k AND r.at BETWEEN l.at - interval '2 s' AND l.at + interval '5 s';
CREATE MATERIALIZED VIEW full_joined WITH (weir.continuous) AS
  SELECT coalesce(l.k, r.k) AS k, l.v AS lv, r.v AS rv FROM l FULL JOIN r ON l.k = r.k AND r.at BETWEEN l.at - interval '2 s' AND l.at + interval '5 s';
CREATE MATERIALIZED VIEW full_counted WITH (weir.continuous) AS
  SELECT coalesce(l.k, r.k) AS k, count(*), count(l.v) AS lefts, count(r.v) AS rights, avg(length(l.v)) AS mean
  FROM l FULL JOIN r ON l.k = r.k AND r.at BETWEEN l.at - interval '2 s' AND l.at + interval '5 s' GROUP BY 1;
INSERT INTO l VALUES (at_ms(0), 'a', 'l1'), (at_ms(1000), 'b', 'l2');
INSERT INTO r VALUES (at_ms(3000), 'a', 'r1');
TABLE left_joined;
-- l2 may still match something of l's own time: 1 s + 5 s + 2 s < watermark of both
INSERT INTO r VALUES (at_ms(20000), 'c', 'r2');
INSERT INTO l VALUES (at_ms(8000), 'x', 'l3');
TABLE left_joined;
INSERT INTO l VALUES (at_ms(8001), 'x', 'l4');
TABLE left_joined;
INSERT INTO l VALUES (at_ms(30000), 'x', 'l5');
SELECT * FROM full_joined ORDER BY lv, rv;
SELECT * FROM full_counted ORDER BY k;
SELECT * FROM weir.verify('full_counted');
SELECT line FROM weir.explain('left_joined') line WHERE line ~ '^(strategy|why|streams|cost|statement)';
REFRESH MATERIALIZED VIEW full_joined;
REFRESH MATERIALIZED VIEW full_counted;
SELECT * FROM full_joined ORDER BY lv, rv;
SELECT * FROM full_counted ORDER BY k;

-- what cannot be kept
CREATE TABLE m (at timestamptz, k text, v text) WITH (weir.stream, weir.event_time = 'at', weir.keep = '1 hour');
CREATE MATERIALIZED VIEW no WITH (weir.continuous) AS SELECT l.v FROM l LEFT JOIN r ON l.k = r.k;
CREATE MATERIALIZED VIEW no WITH (weir.continuous) AS SELECT l.v FROM l LEFT JOIN r ON l.k = r.k WHERE r.at = l.at;
CREATE MATERIALIZED VIEW no WITH (weir.continuous) AS SELECT l.v FROM l LEFT JOIN r ON l.at = r.at LEFT JOIN m ON l.k = m.k;
CREATE MATERIALIZED VIEW no WITH (weir.continuous) AS SELECT l.k, array_agg(r.v) FROM l LEFT JOIN r ON l.at = r.at GROUP BY l.k;
CREATE MATERIALIZED VIEW no WITH (weir.continuous, weir.emit = 'final') AS SELECT l.k, count(*) FROM l LEFT JOIN r ON l.at = r.at GROUP BY 1;

-- whole rows as values: hidden columns would be in them
CREATE MATERIALIZED VIEW no WITH (weir.continuous) AS SELECT l, r.v FROM l LEFT JOIN r ON l.at = r.at;
CREATE MATERIALIZED VIEW no WITH (weir.continuous, weir.lateness = '1 s') AS SELECT window_start, count(l) FROM l, tumble(l.at, '10 s') GROUP BY window_start;

-- at random, against a model: what is late by its own stream's time, and what has closed
CREATE TABLE log (seq bigserial, s text, at timestamptz, k text, v text);
CREATE FUNCTION feed(seed float8, rounds int, at_once boolean) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  base bigint := 100000 + coalesce((SELECT extract(epoch FROM max(at) - at_ms(0)) * 1000 FROM log), 0);
  which text;
  last bigint;
BEGIN
  PERFORM setseed(seed);
  FOR i IN 1 .. rounds LOOP
    which := CASE WHEN random() < 0.5 THEN 'l' ELSE 'r' END;
    last := coalesce((SELECT max(seq) FROM log), 0);
    INSERT INTO log (s, at, k, v)
      SELECT which, at_ms(base + i * 700 - (random() * 12000)::int),
        CASE WHEN random() < 0.1 THEN NULL ELSE 'k' || (random() * 2)::int END, which || last || '.' || n
      FROM generate_series(1, CASE WHEN at_once THEN (random() * 9)::int ELSE 1 END) n;
    EXECUTE format('INSERT INTO %s SELECT at, k, v FROM log WHERE seq > %s ORDER BY seq', which, last);
  END LOOP;
END $$;
CREATE VIEW model AS
  WITH times AS (SELECT *, max(at) OVER (PARTITION BY s ORDER BY seq) AS seen FROM log),
  good AS (SELECT * FROM times WHERE NOT at + CASE s WHEN 'l' THEN interval '5 s' ELSE interval '2 s' END < seen),
  mark AS (SELECT min(newest) - interval '7 s' AS t FROM (SELECT max(at) AS newest FROM log GROUP BY s) x)
  SELECT coalesce(l.k, r.k) AS k, l.v AS lv, r.v AS rv
  FROM (SELECT * FROM good WHERE s = 'l') l FULL JOIN (SELECT * FROM good WHERE s = 'r') r
    ON l.k = r.k AND r.at BETWEEN l.at - interval '2 s' AND l.at + interval '5 s'
  WHERE (l.at IS NOT NULL AND r.at IS NOT NULL) OR coalesce(l.at, r.at) < (SELECT t FROM mark);
CREATE FUNCTION wrong() RETURNS TABLE (which text, k text, lv text, rv text) LANGUAGE sql AS $$
  (SELECT 'missing', * FROM model EXCEPT ALL SELECT 'missing', * FROM full_joined)
  UNION ALL (SELECT 'extra', * FROM full_joined EXCEPT ALL SELECT 'extra', * FROM model)
  UNION ALL (SELECT 'missing left', * FROM model WHERE lv IS NOT NULL EXCEPT ALL SELECT 'missing left', * FROM left_joined)
  UNION ALL (SELECT 'extra left', * FROM left_joined EXCEPT ALL SELECT 'extra left', * FROM model WHERE lv IS NOT NULL)
  UNION ALL (SELECT 'missing right', * FROM model WHERE rv IS NOT NULL EXCEPT ALL SELECT 'missing right', * FROM right_joined)
  UNION ALL (SELECT 'extra right', * FROM right_joined EXCEPT ALL SELECT 'extra right', * FROM model WHERE rv IS NOT NULL)
  UNION ALL (SELECT 'counted', k, count(*)::text, count(lv) || ' ' || count(rv) FROM model GROUP BY k
             EXCEPT ALL SELECT 'counted', k, count::text, lefts || ' ' || rights FROM full_counted)
  UNION ALL (SELECT v.view::text, f.side, f.record::text, NULL FROM weir.views v, LATERAL weir.verify(v.view) f)
$$;
TRUNCATE l, r;
REFRESH MATERIALIZED VIEW left_joined;
REFRESH MATERIALIZED VIEW right_joined;
REFRESH MATERIALIZED VIEW full_joined;
REFRESH MATERIALIZED VIEW full_counted;
SELECT feed(0.3, 80, false);
SELECT * FROM wrong();
SELECT feed(-0.3, 60, true);
SELECT * FROM wrong();
BEGIN;
SELECT feed(0.6, 30, true);
COMMIT;
SELECT * FROM wrong();
SELECT weir.pause('full_joined');
SELECT feed(-0.6, 30, true);
SELECT weir.resume('full_joined');
SELECT feed(0.9, 10, true);
SELECT * FROM wrong();
SELECT count(*) > 10 AS pairs, (SELECT count(*) > 5 FROM model WHERE lv IS NULL) AS rights, (SELECT count(*) > 5 FROM model WHERE rv IS NULL) AS lefts
  FROM model WHERE lv IS NOT NULL AND rv IS NOT NULL;
SET client_min_messages = warning;
DROP SCHEMA view_join_outer CASCADE;
