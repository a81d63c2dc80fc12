-- Joins of streams: each pair of rows once, whichever comes first.
CREATE SCHEMA view_join;
SET search_path = view_join, public;
SET TimeZone = 'UTC';
SET DateStyle = 'ISO, YMD';
SET IntervalStyle = 'postgres';
CREATE FUNCTION at_ms(bigint) RETURNS timestamptz LANGUAGE sql IMMUTABLE AS
  $$SELECT timestamptz '2025-01-01 00:00:00+00' + $1 * interval '1 ms'$$;
CREATE TABLE l (at timestamptz, k text, v text) WITH (weir.stream, weir.event_time = 'at', weir.keep = '1 hour');
CREATE TABLE r (at timestamptz, k text, v text) WITH (weir.stream, weir.event_time = 'at', weir.keep = '1 hour');

-- C9: within 11 s before and 10 s after, row by row
CREATE MATERIALIZED VIEW pairs WITH (weir.continuous) AS
  SELECT l.k, l.v AS lv, r.v AS rv, l.at AS l_at, r.at AS r_at
  FROM l JOIN r ON l.k = r.k AND r.at BETWEEN l.at - interval '11 s' AND l.at + interval '10 s';
INSERT INTO l VALUES (at_ms(0), 'k0', 'l1');
INSERT INTO r VALUES (at_ms(11000), 'k0', 'r1');
INSERT INTO l VALUES (at_ms(12000), 'k10', 'l2');
INSERT INTO l VALUES (at_ms(13000), 'k0', 'l3');
INSERT INTO r VALUES (at_ms(15000), 'k0', 'r2');
INSERT INTO r VALUES (at_ms(16000), 'k100', 'r3');
INSERT INTO l VALUES (at_ms(17000), 'k90', 'l4');
INSERT INTO l VALUES (at_ms(30000), 'k0', 'l5');
SELECT k, lv, rv FROM pairs ORDER BY 1, 2, 3;
SELECT * FROM weir.verify('pairs');
-- all at once: over the rows kept
CREATE MATERIALIZED VIEW pairs_later WITH (weir.continuous) AS
  SELECT l.v AS lv, r.v AS rv FROM l, r
  WHERE l.k = r.k AND r.at >= l.at - interval '11 s' AND r.at - l.at <= interval '10 s';
SELECT * FROM pairs_later ORDER BY 1, 2;
REFRESH MATERIALIZED VIEW pairs;
SELECT k, lv, rv FROM pairs ORDER BY 1, 2, 3;
SELECT line FROM weir.explain('pairs_later') line WHERE line ~ '^(strategy|why|streams|cost)';

-- aggregates over a join merge; a self-join, three streams, a join with a table beside
CREATE TABLE names (k text PRIMARY KEY, name text);
INSERT INTO names VALUES ('k0', 'zero'), ('k1', 'one');
CREATE TABLE m (at timestamptz, k text, v text) WITH (weir.stream, weir.event_time = 'at', weir.keep = '1 hour');
CREATE MATERIALIZED VIEW counts WITH (weir.continuous) AS
  SELECT l.k, count(*), min(r.v), avg(length(l.v || r.v)) AS mean
  FROM l JOIN r USING (k) WHERE r.at > l.at - interval '11 s' AND l.at + interval '10 s' >= r.at GROUP BY l.k;
CREATE MATERIALIZED VIEW twice WITH (weir.continuous) AS
  SELECT a.k, a.v AS first, b.v AS second, b.at - a.at AS gap FROM l a JOIN l b
    ON a.k = b.k AND b.at > a.at AND b.at <= a.at + interval '4 s';
CREATE MATERIALIZED VIEW three WITH (weir.continuous) AS
  SELECT l.k, n.name, l.v AS lv, r.v AS rv, m.v AS mv
  FROM l JOIN r ON r.k = l.k AND r.at BETWEEN l.at AND l.at + interval '5 s'
         JOIN m ON m.k = r.k AND m.at >= r.at - interval '3 s' AND m.at < r.at
         LEFT JOIN names n ON n.k = l.k;
CREATE MATERIALIZED VIEW minutes WITH (weir.continuous) AS
  SELECT w.window_start, l.k, count(*) AS pairs, count(DISTINCT r.v) AS values
  FROM l JOIN r ON l.k = r.k AND r.at BETWEEN l.at - interval '3 s' AND l.at + interval '3 s', tumble(l.at, interval '10 s') w
  GROUP BY w.window_start, l.k;
CREATE MATERIALIZED VIEW best WITH (weir.continuous) AS
  SELECT k, lv, rv, place FROM
    (SELECT l.k, l.v AS lv, r.v AS rv, row_number() OVER (PARTITION BY l.k ORDER BY r.v DESC) AS place
       FROM l JOIN r ON l.k = r.k AND r.at BETWEEN l.at - interval '3 s' AND l.at + interval '3 s') x WHERE place <= 2;
CREATE MATERIALIZED VIEW windowed WITH (weir.continuous) AS
  SELECT a.window_start, a.k, a.v AS lv, b.v AS rv
  FROM (SELECT l.*, window_start, window_end FROM l, tumble(l.at, interval '5 s')) a
  JOIN (SELECT r.*, window_start, window_end FROM r, tumble(r.at, interval '5 s')) b
    ON a.k = b.k AND a.window_start = b.window_start AND a.window_end = b.window_end;
CREATE MATERIALIZED VIEW either WITH (weir.continuous) AS
  SELECT u.k, u.v AS uv, m.v AS mv
  FROM (SELECT at, k, v FROM l UNION ALL SELECT at, k, v FROM r) u
  JOIN m ON m.k = u.k AND m.at - u.at BETWEEN interval '-2 s' AND interval '2 s';

-- at random: rows in any order, one by one or many, streams interleaved; NULLs in the key
CREATE FUNCTION fill(seed float8, rounds int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  batch int;
  base bigint := 100000 * (1 + (SELECT coalesce(max(extract(epoch FROM at - at_ms(0))), 0)::bigint / 100 FROM l));
BEGIN
  PERFORM setseed(seed);
  FOR i IN 1 .. rounds LOOP
    batch := CASE WHEN random() < 0.5 THEN 1 ELSE (random() * 12)::int END;
    EXECUTE format('INSERT INTO %s SELECT at_ms(%s + (random() * 20000)::int),'
                   ' CASE WHEN random() < 0.1 THEN NULL ELSE ''k'' || (random() * 3)::int END,'
                   ' ''v'' || (random() * 9)::int FROM generate_series(1, %s)',
                   (ARRAY['l', 'r', 'm'])[1 + trunc(random() * 3)::int], base, batch);
  END LOOP;
END $$;
-- the views against their queries, run by hand, and against weir.verify
CREATE FUNCTION wrong() RETURNS TABLE (name regclass, side text, record jsonb) LANGUAGE plpgsql AS $$
DECLARE
  v record;
BEGIN
  FOR v IN SELECT view, rtrim(definition, ';') AS query FROM weir.views ORDER BY view::text LOOP
    RETURN QUERY SELECT v.view, f.side, f.record FROM weir.verify(v.view) f;
    CONTINUE WHEN v.query ~ 'row_number';   -- leaves open which of equal rows are first
    RETURN QUERY EXECUTE format('SELECT %L::regclass, ''missing'', to_jsonb(q) FROM (%s EXCEPT ALL TABLE %s) q', v.view, v.query, v.view);
    RETURN QUERY EXECUTE format('SELECT %L::regclass, ''extra'', to_jsonb(q) FROM (TABLE %s EXCEPT ALL %s) q', v.view, v.view, v.query);
  END LOOP;
END $$;
SET client_min_messages = warning;
SELECT fill(0.25, 60);
SELECT * FROM wrong();
SELECT fill(-0.5, 60);
SELECT * FROM wrong();
BEGIN;
SELECT fill(0.75, 40);
COMMIT;
SELECT * FROM wrong();
RESET client_min_messages;
SELECT count(*) > 20 AS pairs, (SELECT count(*) > 20 FROM twice) AS twice, (SELECT count(*) > 20 FROM three) AS three,
  (SELECT count(*) > 10 FROM minutes) AS minutes, (SELECT count(*) FROM best) AS best,
  (SELECT count(*) > 20 FROM windowed) AS windowed, (SELECT count(*) > 20 FROM either) AS either FROM pairs;

-- a view that was paused while both streams went on; one stream that was
SELECT weir.pause('counts'), weir.pause('twice'), weir.pause('minutes');
SELECT weir.pause('m');
SET client_min_messages = warning;
SELECT fill(0.1, 40);
SELECT weir.resume('twice'), weir.resume('counts'), weir.resume('minutes');
SELECT fill(0.2, 20);
SELECT weir.resume('m');
SELECT * FROM wrong();
-- a savepoint that is rolled back
BEGIN;
INSERT INTO l VALUES (at_ms(0), 'k0', 'gone');
SAVEPOINT s;
INSERT INTO r VALUES (at_ms(0), 'k0', 'gone too');
ROLLBACK TO s;
INSERT INTO r VALUES (at_ms(5), 'k0', 'stays');
COMMIT;
SELECT * FROM wrong();
RESET client_min_messages;
DROP MATERIALIZED VIEW counts, twice, three, minutes, best, windowed, either, pairs, pairs_later;

-- Late: t + how far it can still match forward + lateness < stream time
ALTER TABLE l SET (weir.late = 'keep');
CREATE MATERIALIZED VIEW strict WITH (weir.continuous, weir.lateness = '1 s') AS
  SELECT l.v AS lv, r.v AS rv, l.at FROM l JOIN r ON l.k = r.k AND r.at BETWEEN l.at - interval '2 s' AND l.at + interval '5 s' WITH NO DATA;
INSERT INTO l VALUES (at_ms(9000000), 'x', 'first');
INSERT INTO r VALUES (at_ms(9010000), 'x', 'far');
INSERT INTO l VALUES (at_ms(9010000), 'x', 'near'),
  (at_ms(9004000), 'x', 'just in time'), (at_ms(9003999), 'x', 'late'), (at_ms(9005000), 'x', 'meets far');
INSERT INTO r VALUES (at_ms(9007000), 'x', 'in time'), (at_ms(9006999), 'x', 'too late');
SELECT * FROM strict ORDER BY 1, 2;
SELECT event_time, window_start, reason, record FROM weir.late_rows;
SELECT late FROM weir.stat_views WHERE view = 'strict'::regclass;
SELECT * FROM weir.verify('strict');
DROP MATERIALIZED VIEW strict;

-- what cannot be kept
CREATE UNLOGGED TABLE u (at timestamptz, k text, v text) WITH (weir.stream, weir.event_time = 'at', weir.keep = '1 hour');
CREATE TABLE z (at timestamptz, k text, v text) WITH (weir.stream, weir.event_time = 'at', weir.keep = 0);
CREATE TABLE short (at timestamptz, k text, v text) WITH (weir.stream, weir.event_time = 'at', weir.keep = '10 s');
CREATE MATERIALIZED VIEW no WITH (weir.continuous) AS SELECT l.v FROM l JOIN u ON l.k = u.k AND l.at BETWEEN u.at AND u.at + interval '1 s';
CREATE MATERIALIZED VIEW no WITH (weir.continuous) AS SELECT l.v FROM l JOIN z ON l.k = z.k AND l.at BETWEEN z.at AND z.at + interval '1 s';
CREATE MATERIALIZED VIEW no WITH (weir.continuous) AS SELECT l.v FROM l JOIN short s ON l.k = s.k AND l.at BETWEEN s.at - interval '6 s' AND s.at + interval '5 s';
CREATE MATERIALIZED VIEW no WITH (weir.continuous, weir.lateness = '2 s') AS SELECT l.v FROM l JOIN short s ON l.k = s.k AND l.at BETWEEN s.at - interval '4 s' AND s.at + interval '5 s';
CREATE MATERIALIZED VIEW no WITH (weir.continuous, weir.lateness = '2 s') AS SELECT l.v FROM l JOIN r USING (k);
CREATE MATERIALIZED VIEW no WITH (weir.continuous) AS
  SELECT a.k, b.v FROM (SELECT k, count(*) FROM l GROUP BY k) a JOIN r b ON a.k = b.k;
CREATE MATERIALIZED VIEW no WITH (weir.continuous) AS
  SELECT l.k, weir.first(r.v) FROM l JOIN r ON l.k = r.k AND l.at = r.at GROUP BY l.k;
-- without a bound: over weir.keep
CREATE MATERIALIZED VIEW loose WITH (weir.continuous) AS SELECT l.v AS lv, r.v AS rv FROM l JOIN r USING (k) WITH NO DATA;
INSERT INTO l VALUES (at_ms(9020000), 'y', 'l');
INSERT INTO r VALUES (at_ms(9120000), 'y', 'r');
SELECT * FROM loose;
-- the streams must go on keeping what the join needs
CREATE MATERIALIZED VIEW bound WITH (weir.continuous) AS SELECT l.v FROM l JOIN r ON l.k = r.k AND l.at BETWEEN r.at AND r.at + interval '1 min';
ALTER TABLE r SET (weir.keep = '30 s');
ALTER TABLE l SET (weir.keep = 0);
SET client_min_messages = warning;
DROP SCHEMA view_join CASCADE;
