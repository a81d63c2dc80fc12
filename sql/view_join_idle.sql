-- Outer joins of streams whose clock has gone on while they were quiet: a row that comes late for a part of what it could meet meets the rest.
CREATE SCHEMA view_join_idle;
SET search_path = view_join_idle, public;
SET TimeZone = 'UTC';
SET DateStyle = 'ISO, YMD';
SET IntervalStyle = 'postgres';
CREATE FUNCTION at_s(numeric) RETURNS timestamptz LANGUAGE sql IMMUTABLE AS
  $$SELECT timestamptz '2025-01-01 00:00:00+00' + $1 * interval '1 s'$$;
CREATE TABLE l (at timestamptz, k text, v text) WITH (weir.stream, weir.event_time = 'at', weir.idle_timeout = '0.2 s', weir.keep = '1 hour');
CREATE TABLE r (at timestamptz, k text, v text) WITH (weir.stream, weir.event_time = 'at', weir.idle_timeout = '0.2 s', weir.keep = '1 hour');
CREATE MATERIALIZED VIEW lefts WITH (weir.continuous) AS
  SELECT l.k, l.v AS lv, r.v AS rv FROM l LEFT JOIN r ON l.k = r.k AND r.at BETWEEN l.at AND l.at + interval '100 s';
CREATE MATERIALIZED VIEW fulls WITH (weir.continuous) AS
  SELECT coalesce(l.k, r.k) AS k, l.v AS lv, r.v AS rv FROM l FULL JOIN r ON l.k = r.k AND r.at BETWEEN l.at AND l.at + interval '100 s';
CREATE MATERIALIZED VIEW counts WITH (weir.continuous) AS
  SELECT coalesce(l.k, r.k) AS k, count(l.v) AS lefts, count(r.v) AS rights FROM l FULL JOIN r ON l.k = r.k AND r.at BETWEEN l.at AND l.at + interval '100 s' GROUP BY 1;
CREATE MATERIALIZED VIEW lists WITH (weir.continuous) AS
  SELECT window_start, l.k, array_agg(l.v || '/' || coalesce(r.v, '-') ORDER BY l.v, r.v) AS vs
  FROM l LEFT JOIN r ON l.k = r.k AND r.at BETWEEN l.at AND l.at + interval '100 s', tumble(l.at, '1 minute') GROUP BY 1, 2;
CREATE MATERIALIZED VIEW chains WITH (weir.continuous) AS
  SELECT a.k, a.v AS av, r.v AS rv, b.v AS bv FROM l a LEFT JOIN r ON a.k = r.k AND r.at BETWEEN a.at AND a.at + interval '100 s'
    LEFT JOIN l b ON b.k = r.k AND b.at BETWEEN r.at AND r.at + interval '1 s';
INSERT INTO l VALUES (at_s(-99.9), 'o', 'old'), (at_s(-120), 'o', 'older'), (at_s(0), 'a', 'l1'), (at_s(0), 'b', 'l2');
INSERT INTO r VALUES (at_s(0), 'z', 'r0');
-- until nothing can match the old row by the clock
DO $$
BEGIN
  FOR i IN 1..600 LOOP
    EXIT WHEN (SELECT min(closed) FROM weir.view_close WHERE view::regclass::text ~ '^(lefts|fulls|counts|lists)') > view_join_idle.at_s(-99.9)
      AND (SELECT closed FROM weir.view_close WHERE view::regclass::text = 'chains') > view_join_idle.at_s(-120);
    COMMIT;
    PERFORM pg_sleep(0.05);
  END LOOP;
END $$;
SELECT * FROM lefts ORDER BY lv, rv;
-- could have met the old row, which has closed; meets the new one
INSERT INTO r VALUES (at_s(0), 'a', 'r1'), (at_s(0.1), 'o', 'r2');
SELECT * FROM lefts ORDER BY lv, rv;
SELECT * FROM lists ORDER BY k;
INSERT INTO r VALUES (at_s(0.1), 'a', 'r3');
INSERT INTO l VALUES (at_s(0.1), 'o', 'l3'), (at_s(0.1), 'a', 'l4');
-- has closed itself
INSERT INTO l VALUES (at_s(-99.99), 'z', 'late');
SELECT view, late FROM weir.stat_views WHERE view::text IN ('lefts', 'fulls', 'counts', 'lists') ORDER BY view::text;
SELECT v.view, f.side, f.record FROM weir.views v, LATERAL weir.verify(v.view) f;
-- all closes
INSERT INTO l VALUES (at_s(1000), 'x', 'l9');
INSERT INTO r VALUES (at_s(1000), 'y', 'r9');
SELECT * FROM lefts ORDER BY lv, rv;
SELECT * FROM fulls ORDER BY lv, rv;
SELECT * FROM counts ORDER BY k;
SELECT k, vs FROM lists ORDER BY k, vs;
SELECT * FROM chains WHERE k = 'a' ORDER BY av, rv, bv;
SELECT v.view, f.side, f.record FROM weir.views v, LATERAL weir.verify(v.view) f;
-- finals of windows: the row meets what is in an open window, not what is in one that has closed
CREATE TABLE fl (at timestamptz, k text, v text) WITH (weir.stream, weir.event_time = 'at', weir.idle_timeout = '0.2 s', weir.keep = '1 hour');
CREATE TABLE fr (at timestamptz, k text, v text) WITH (weir.stream, weir.event_time = 'at', weir.idle_timeout = '0.2 s', weir.keep = '1 hour');
CREATE MATERIALIZED VIEW final_counts WITH (weir.continuous, weir.emit = 'final') AS
  SELECT window_start, window_end, l.k, count(*) AS n
  FROM fl l JOIN fr r ON l.k = r.k AND r.at BETWEEN l.at - interval '20 s' AND l.at + interval '20 s', tumble(l.at, '1 minute') GROUP BY 1, 2, 3;
CREATE MATERIALIZED VIEW final_lists WITH (weir.continuous, weir.emit = 'final') AS
  SELECT window_start, window_end, l.k, array_agg(l.v || '/' || r.v ORDER BY l.v, r.v) AS vs
  FROM fl l JOIN fr r ON l.k = r.k AND r.at BETWEEN l.at - interval '20 s' AND l.at + interval '20 s', tumble(l.at, '1 minute') GROUP BY 1, 2, 3;
CREATE MATERIALIZED VIEW final_rows WITH (weir.continuous, weir.emit = 'final') AS
  SELECT window_start, l.k, l.v AS lv, r.v AS rv
  FROM fl l JOIN fr r ON l.k = r.k AND r.at BETWEEN l.at - interval '20 s' AND l.at + interval '20 s', tumble(l.at, '1 minute');
CREATE MATERIALIZED VIEW final_three WITH (weir.continuous, weir.emit = 'final') AS
  SELECT window_start, window_end, x.k, count(*) AS n
  FROM (SELECT l.at, l.k FROM fl l JOIN fr r ON l.k = r.k AND r.at BETWEEN l.at - interval '20 s' AND l.at + interval '20 s') x
    JOIN fl y ON y.k = x.k AND y.at = x.at, tumble(x.at, '1 minute') GROUP BY 1, 2, 3;
INSERT INTO fl VALUES (at_s(-70), 'o', 'l1'), (at_s(-50), 'o', 'l2'), (at_s(0), 'a', 'l0');
INSERT INTO fr VALUES (at_s(-200), 'z', 'r0'), (at_s(-60), 'o', 'r1');
DO $$
BEGIN
  FOR i IN 1..600 LOOP
    EXIT WHEN (SELECT min(n) = 1 FROM (SELECT count(*) AS n FROM final_counts UNION ALL SELECT count(*) FROM final_lists
               UNION ALL SELECT count(*) FROM final_rows UNION ALL SELECT count(*) FROM final_three) c);
    COMMIT;
    PERFORM pg_sleep(0.05);
  END LOOP;
END $$;
INSERT INTO fr VALUES (at_s(-55), 'o', 'r2');
SELECT v.view, f.side, f.record FROM weir.views v, LATERAL weir.verify(v.view) f WHERE v.view::text ~ '^final';
INSERT INTO fl VALUES (at_s(1000), 'x', 'l9');
INSERT INTO fr VALUES (at_s(1000), 'y', 'r9');
SELECT window_start, n FROM final_counts ORDER BY 1;
SELECT window_start, vs FROM final_lists ORDER BY 1;
SELECT window_start, lv, rv FROM final_rows ORDER BY 1, 2, 3;
SELECT window_start, n FROM final_three ORDER BY 1;
SELECT v.view, f.side, f.record FROM weir.views v, LATERAL weir.verify(v.view) f WHERE v.view::text ~ '^final';
SET client_min_messages = warning;
DROP SCHEMA view_join_idle CASCADE;
