-- Overlapping windows by way of slices: the same as counting each row once per
-- window, which is what weir.verify does.
SET timezone = 'UTC';
SET client_min_messages = warning;
CREATE SCHEMA slices;
SET search_path = slices, public;

CREATE TABLE s (ts timestamptz, k text, v int, u timestamp)
  WITH (weir.stream, weir.event_time = 'ts', weir.keep = '1 day', weir.idle_timeout = 'off');
CREATE MATERIALIZED VIEW odd WITH (weir.continuous) AS
  SELECT window_start, k, count(*) AS n, sum(v) AS sv, avg(v), min(v), max(k), bool_and(v > 1) FROM s, hop(ts, '1 min', '7 s') GROUP BY 1, 2;
CREATE MATERIALIZED VIEW late WITH (weir.continuous, weir.lateness = '3 s') AS
  SELECT window_start, window_end, count(*) AS n, sum(v) FILTER (WHERE v > 5) AS sv
  FROM s, hop(ts, '1 min', '15 s', timestamptz '1970-01-01 00:00:03Z') WHERE v < 90 GROUP BY 1, 2;
CREATE MATERIALIZED VIEW finals WITH (weir.continuous, weir.emit = 'final', weir.lateness = '2 s') AS
  SELECT window_start, k, count(*) AS n, avg(v) FROM s, hop(ts, '10 s', '1 s') GROUP BY 1, 2;
CREATE MATERIALIZED VIEW capped WITH (weir.continuous, weir.emit = 'final') AS
  SELECT window_start, window_end, k, count(*) AS n, max(v) FROM s, cumulate(ts, '1 min', '16 s') GROUP BY 1, 2, 3;
CREATE MATERIALIZED VIEW unzoned WITH (weir.continuous) AS
  SELECT window_start, window_end, sum(v::numeric), sum(v::float8) AS f, min(u) FROM s, hop(u, '1 min', '15 s') GROUP BY 1, 2;
-- these stay as they are
CREATE MATERIALIZED VIEW states WITH (weir.continuous) AS
  SELECT window_start, stddev(v) FROM s, hop(ts, '1 min', '15 s') GROUP BY 1;
CREATE MATERIALIZED VIEW months WITH (weir.continuous) AS
  SELECT window_start, count(*) FROM s, hop(ts, '3 months', '1 month') GROUP BY 1;
CREATE MATERIALIZED VIEW zoned WITH (weir.continuous) AS
  SELECT window_start, count(*) FROM s, hop(ts, '2 days', '1 day', 'Europe/Berlin') GROUP BY 1;
CREATE MATERIALIZED VIEW gaps WITH (weir.continuous) AS
  SELECT window_start, count(*) FROM s, hop(ts, '2 s', '5 s') GROUP BY 1;

SELECT v.view, w AS why FROM weir.views v, weir.explain(v.view) w WHERE w LIKE 'why:%' ORDER BY v.view::text;
SELECT line FROM weir.explain('late') AS line WHERE line ~ 'weir_slices|GREATEST' AND line !~ 'GROUP BY' LIMIT 3;

SELECT setseed(0.42);
INSERT INTO s SELECT t, k, v, t
  FROM (SELECT timestamptz '2024-01-01' + i * interval '100 ms' - random() * random() * interval '10 s' AS t,
               'k' || (random() * 4)::int AS k, (random() * 100)::int AS v FROM generate_series(1, 3000) i) x;
INSERT INTO s VALUES (NULL, 'x', 1, '2024-01-01 00:06:00');
INSERT INTO s SELECT t, k, v, CASE WHEN v <> 17 THEN t END
  FROM (SELECT timestamptz '2024-01-01 00:05:00' + i * interval '100 ms' - random() * random() * interval '10 s' AS t,
               nullif('k' || (random() * 4)::int, 'k3') AS k, (random() * 100)::int AS v FROM generate_series(1, 3000) i) x;
DO $$
BEGIN
  FOR i IN 1..300 LOOP
    INSERT INTO slices.s SELECT t, k, v, t
      FROM (SELECT timestamptz '2024-01-01 00:10:00' + i * interval '100 ms' - random() * random() * interval '10 s' AS t,
                   'k' || (random() * 4)::int AS k, (random() * 100)::int AS v) x;
  END LOOP;
END $$;
SELECT v.view, d.* FROM weir.views v, weir.verify(v.view) d;
SELECT view, late > 0 AS some_late, rows_in FROM weir.stat_views ORDER BY view::text;

DROP SCHEMA slices CASCADE;
