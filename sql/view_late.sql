-- Late rows do not count; they are counted, and kept where the stream says so.
SET client_min_messages = warning;
CREATE SCHEMA view_late;
SET search_path = view_late, public;
SET TimeZone = 'UTC';

CREATE TABLE s (k text, v int, ts timestamptz)
  WITH (weir.stream, weir.event_time = 'ts', weir.lateness = '5 s', weir.late = 'keep', weir.keep = '1 hour');
CREATE TABLE dim (k text, name text);
INSERT INTO dim VALUES ('a', 'A1'), ('a', 'A2'), ('b', 'B');
CREATE MATERIALIZED VIEW w WITH (weir.continuous) AS
  SELECT window_start, k, count(*) AS n, max(v) AS m FROM s, tumble(ts, '10 s') GROUP BY 1, 2;
CREATE MATERIALIZED VIEW w_deep WITH (weir.continuous) AS
  WITH c AS (SELECT * FROM (SELECT k AS kk, ts AS t, v FROM s WHERE v > 0 ORDER BY v) x)
  SELECT window_start, kk, count(*) AS n, avg(v) AS m FROM c, tumble(t, '10 s') GROUP BY 1, 2;
CREATE MATERIALIZED VIEW w_union WITH (weir.continuous) AS
  SELECT window_start, which, count(*) AS n
    FROM (SELECT 'once' AS which, ts FROM s UNION ALL SELECT 'odd', ts FROM s WHERE v % 2 = 1) u, tumble(ts, '10 s') GROUP BY 1, 2;
CREATE MATERIALIZED VIEW w_none WITH (weir.continuous, weir.lateness = '0 s') AS
  SELECT window_end, k, count(*) AS n FROM s, tumble(ts AT TIME ZONE 'UTC', '10 s') GROUP BY 1, 2;
CREATE MATERIALIZED VIEW w_rows WITH (weir.continuous) AS
  SELECT s.v, d.name, window_start FROM s LEFT JOIN dim d USING (k), tumble(s.ts, '10 s');
CREATE MATERIALIZED VIEW no_window WITH (weir.continuous) AS SELECT k, count(*) AS n FROM s GROUP BY k;

-- Stream time is the row's own: late for [0,10) from second 15 on. In one batch ...
INSERT INTO s VALUES ('a', 1, '2026-01-01 00:00:01Z'), ('a', 2, '2026-01-01 00:00:14Z'), ('a', 3, '2026-01-01 00:00:02Z'),
                     ('a', 4, '2026-01-01 00:00:15Z'), ('a', 5, '2026-01-01 00:00:03Z'), ('a', 6, '2026-01-01 00:00:12Z');
-- ... and row by row
INSERT INTO s VALUES ('b', 7, '2026-01-01 00:00:09Z');
INSERT INTO s VALUES ('b', 8, '2026-01-01 00:00:11Z');
INSERT INTO s VALUES ('b', 9, '2026-01-01 00:00:30Z');
INSERT INTO s VALUES ('b', 10, '2026-01-01 00:00:29Z'), ('b', 11, '2026-01-01 00:00:19Z');

SELECT * FROM w ORDER BY 1, 2;
SELECT * FROM w_deep ORDER BY 1, 2;
SELECT * FROM w_union ORDER BY 1, 2;
SELECT * FROM w_none ORDER BY 1, 2;
SELECT * FROM w_rows ORDER BY 1, 2;
SELECT * FROM no_window ORDER BY 1;
SELECT view, partition, event_time, window_start, reason, record FROM weir.late_rows
  WHERE stream = 's'::regclass ORDER BY view::text, event_time;
SELECT 'w', * FROM weir.verify('w') UNION ALL SELECT 'w_deep', * FROM weir.verify('w_deep')
  UNION ALL SELECT 'w_union', * FROM weir.verify('w_union') UNION ALL SELECT 'w_none', * FROM weir.verify('w_none')
  UNION ALL SELECT 'w_rows', * FROM weir.verify('w_rows') UNION ALL SELECT 'no_window', * FROM weir.verify('no_window');

-- what is rolled back was not late
SELECT rows_in, late FROM weir.stat_views WHERE view = 'w'::regclass;
BEGIN;
INSERT INTO s VALUES ('b', 12, '2026-01-01 00:00:01Z');
ROLLBACK;
BEGIN;
SAVEPOINT a;
INSERT INTO s VALUES ('b', 12, '2026-01-01 00:00:01Z');
ROLLBACK TO a;
SAVEPOINT b;
INSERT INTO s VALUES ('b', 13, '2026-01-01 00:00:02Z');
RELEASE b;
COMMIT;
SELECT rows_in, late FROM weir.stat_views WHERE view = 'w'::regclass;

-- filled and rebuilt: the same answer
CREATE TABLE before AS TABLE w;
REFRESH MATERIALIZED VIEW w;
TABLE before EXCEPT ALL TABLE w;
CREATE MATERIALIZED VIEW w2 WITH (weir.continuous) AS
  SELECT window_start, k, count(*) AS n, max(v) AS m FROM s, tumble(ts, '10 s') GROUP BY 1, 2;
TABLE before EXCEPT ALL TABLE w2;

-- UNION ALL of different times: each arm counts, not only the first
CREATE TABLE u (other timestamptz, ts timestamptz) WITH (weir.stream, weir.event_time = 'ts', weir.keep = '1 hour', weir.late = 'keep');
CREATE MATERIALIZED VIEW mixed WITH (weir.continuous, weir.lateness = '0 s') AS
  SELECT window_start, count(*) AS n FROM (SELECT ts FROM s UNION ALL SELECT other FROM u) x, tumble(ts, '1 min') GROUP BY 1;
INSERT INTO u VALUES ('2026-02-01 00:10Z', '2026-02-01 00:10Z');
INSERT INTO u VALUES ('2026-02-01 00:00Z', '2026-02-01 00:11Z');
SELECT * FROM mixed WHERE window_start >= '2026-02-01';
SELECT event_time, window_start FROM weir.late_rows WHERE view = 'mixed'::regclass AND stream = 'u'::regclass;
CREATE MATERIALIZED VIEW bad WITH (weir.continuous, weir.emit = 'final') AS
  SELECT window_start, count(*) AS n FROM (SELECT ts FROM s UNION ALL SELECT other FROM u) x, tumble(ts, '1 min') GROUP BY 1;
CREATE MATERIALIZED VIEW bad WITH (weir.continuous, weir.emit = 'final') AS
  SELECT window_start, cardinality(array_agg(DISTINCT ts)) AS n FROM (SELECT ts FROM s UNION ALL SELECT other FROM u) x, tumble(ts, '1 min') GROUP BY 1;

-- a lateness is a length: a month is 30 days and a day 24 hours, so that what is over stays over, in whatever TimeZone
CREATE TABLE long (n int, ts timestamptz) WITH (weir.stream, weir.event_time = 'ts', weir.keep = '10 years', weir.late = 'keep', weir.idle_timeout = 'off', weir.max_clock_skew = 'off');
CREATE MATERIALIZED VIEW quarters WITH (weir.continuous, weir.emit = 'final', weir.lateness = '1 month') AS
  SELECT window_end, count(*) AS n, array_agg(n ORDER BY n) AS ns FROM long, tumble(ts, '3 months', 'Europe/Istanbul') GROUP BY window_end;
CREATE MATERIALIZED VIEW quarters_now WITH (weir.continuous, weir.lateness = '1 month') AS
  SELECT window_end, count(*) AS n FROM long, tumble(ts, '3 months', 'Europe/Istanbul') GROUP BY window_end;
INSERT INTO long VALUES (1, '2016-06-30 12:00Z'), (2, '2016-07-30 20:59:59Z'), (3, '2016-06-30 20:59:59Z'), (4, '2016-07-31 08:56Z'), (5, '2016-06-30 12:00Z'), (6, '2016-08-01 00:00Z');
SET TimeZone = 'Europe/Berlin';
CREATE MATERIALIZED VIEW days WITH (weir.continuous, weir.emit = 'final', weir.lateness = '1 day') AS
  SELECT window_end, count(*) AS n FROM long, tumble(ts, '1 hour') WHERE ts >= '2024-01-01' GROUP BY window_end;
INSERT INTO long VALUES (10, '2024-03-30 12:30Z'), (11, '2024-03-31 12:30Z'), (12, '2024-03-30 12:59Z'), (13, '2024-03-31 13:00Z'), (14, '2024-03-30 12:59:59Z');
SET TimeZone = 'UTC';
INSERT INTO long VALUES (15, '2024-10-26 12:30Z'), (16, '2024-10-27 12:30Z'), (17, '2024-10-26 12:59Z');
SET TimeZone = 'Europe/Berlin';
INSERT INTO long VALUES (18, '2024-10-27 13:00Z'), (19, '2024-10-26 12:59:59Z');
SET TimeZone = 'UTC';
SELECT * FROM quarters ORDER BY 1;
SELECT * FROM quarters_now ORDER BY 1;
SELECT * FROM days ORDER BY 1;
SELECT view, record->'n' AS n, window_start FROM weir.late_rows WHERE stream = 'long'::regclass ORDER BY 1, 2;
SELECT count(*) FROM unnest(ARRAY['quarters', 'quarters_now', 'days']) v, weir.verify(v::regclass) x;
CREATE TABLE endless (ts timestamptz) WITH (weir.stream, weir.event_time = 'ts', weir.keep = '10001 years');

-- options need something to go by
CREATE MATERIALIZED VIEW bad WITH (weir.continuous, weir.lateness = '1 s') AS SELECT k, count(*) FROM s GROUP BY 1;
CREATE MATERIALIZED VIEW bad WITH (weir.continuous, weir.keep = '1 s') AS SELECT k, count(*) FROM s GROUP BY 1;

DROP SCHEMA view_late CASCADE;
