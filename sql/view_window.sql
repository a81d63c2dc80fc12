-- tumble(): bounds, time zones, calendar sizes, and that it is inlined.
SET TimeZone = 'UTC';
SET DateStyle = 'ISO';
SELECT * FROM tumble('2026-01-01 10:00:07.5+00'::timestamptz, '5 s');
SELECT * FROM tumble('2026-01-01 10:00:05'::timestamp, '5 s');
-- before 1970, too
SELECT * FROM tumble('1969-12-31 23:59:59.999999+00'::timestamptz, '1 s');
SELECT * FROM tumble('1969-12-31 10:00'::timestamp, '1 month');
SELECT * FROM tumble('0044-03-15 12:00 BC'::timestamp, '1 year');
-- an origin
SELECT * FROM tumble('2026-01-07 10:00+00'::timestamptz, '7 days', origin => '2026-01-05 00:00+00');
SELECT * FROM tumble('2026-01-07 10:00'::timestamp, '1 month', origin => '2000-01-15 00:00+00');
SELECT * FROM tumble('2026-01-07 10:00+00'::timestamptz, '7 days', '2026-01-08 00:00+00'::timestamptz);
-- a time zone: days of 23 and 25 hours, months; an unnamed literal is a time zone
SELECT *, window_end - window_start AS length FROM tumble('2026-03-29 10:00+00'::timestamptz, '1 day', 'Europe/Berlin');
SELECT *, window_end - window_start AS length FROM tumble('2026-10-25 10:00+00'::timestamptz, '1 day', 'Europe/Berlin');
SELECT * FROM tumble('2026-03-29 10:00+00'::timestamptz, '1 month', time_zone => 'Europe/Berlin');
SELECT * FROM tumble('2026-02-28 16:00'::timestamp, '1 day', 'Asia/Tokyo');
-- sizes below a day are lengths: the hour that comes twice makes two windows
SELECT * FROM tumble('2026-10-25 00:30+00'::timestamptz, '1 hour', 'Europe/Berlin')
UNION ALL SELECT * FROM tumble('2026-10-25 01:30+00'::timestamptz, '1 hour', 'Europe/Berlin');
SELECT * FROM tumble('2026-01-01 10:10+00'::timestamptz, '1 hour', 'Asia/Kolkata');
-- the session's time zone does not matter
SET TimeZone = 'America/New_York';
SELECT * FROM tumble('2026-03-08 12:00+00'::timestamptz, '1 day');
SELECT * FROM tumble('2026-03-08 12:00+00'::timestamptz, '1 day', 'Asia/Tokyo');
SET TimeZone = 'UTC';
-- no time, no window
SELECT * FROM tumble(NULL::timestamptz, '1 s');
SELECT x, window_start FROM (VALUES (1)) v(x) LEFT JOIN LATERAL tumble(NULL::timestamp, '1 s') ON true;
SELECT * FROM tumble('infinity'::timestamptz, '1 s');
-- errors
SELECT * FROM tumble('2026-01-01'::timestamptz, '0 s');
SELECT * FROM tumble('2026-01-01'::timestamptz, '-1 month');
SELECT * FROM tumble('2026-01-01'::timestamptz, '1 month 1 day');
SELECT * FROM tumble('2026-01-01'::timestamptz, '1 day 1 hour', 'Europe/Berlin');
SELECT * FROM tumble('2026-01-01'::timestamptz, '1 day', 'Mars/Olympus');
SELECT * FROM tumble('2026-01-01'::timestamptz, '1 day', origin => 'infinity');
-- NULL as the size, the origin or the zone: in no window, as with hop() and cumulate()
SELECT * FROM tumble('2026-01-01'::timestamptz, NULL);
SELECT * FROM tumble('2026-01-01'::timestamptz, '1 s', origin => NULL);
SELECT * FROM tumble('2026-01-01'::timestamp, '1 s', NULL::text);
SELECT * FROM hop('2026-01-01'::timestamptz, NULL, '1 s');
-- inlined: no function scan, nothing computed that is not asked for
CREATE TABLE window_plain (ts timestamptz);
CREATE FUNCTION window_plan(query text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE line text;
BEGIN
  FOR line IN EXECUTE 'EXPLAIN (VERBOSE, COSTS OFF) ' || query LOOP
    IF line ~ 'weir\.|Function|Filter' THEN RETURN NEXT btrim(line); END IF;
  END LOOP;
END $$;
SELECT window_plan('SELECT window_start FROM window_plain, tumble(ts, ''1 s'')');
SELECT window_plan('SELECT window_end FROM window_plain, tumble(ts, ''1 day'', ''Europe/Berlin'')');
DROP FUNCTION window_plan;
-- the planner knows in how many windows a row is: 10, 10 / 3, 1 / 3, of six steps 3.5, of steps of 3, 3, 3 and 1 minutes 2.8
INSERT INTO window_plain SELECT timestamptz '2026-01-01 00:00Z' + g * interval '1 s' FROM generate_series(1, 1000) g;
ANALYZE window_plain;
CREATE FUNCTION window_rows(item text) RETURNS numeric LANGUAGE plpgsql AS $$
DECLARE plan json;
BEGIN
  EXECUTE 'EXPLAIN (FORMAT JSON) SELECT * FROM window_plain, ' || item INTO plan;
  RETURN plan -> 0 -> 'Plan' ->> 'Plan Rows';
END $$;
SELECT item, window_rows(item) FROM unnest(ARRAY['tumble(ts, ''1 min'')', 'hop(ts, ''10 min'', ''1 min'')', 'hop(ts, ''10 min'', ''3 min'')', 'hop(ts, ''1 min'', ''3 min'')',
  'hop(ts, ''3 months'', ''1 month'', ''Asia/Tokyo'')', 'cumulate(ts, ''1 hour'', ''10 min'')', 'cumulate(ts, ''10 min'', ''3 min'')', 'cumulate(ts, ''1 min'', ''1 min'')']) AS item;
DROP FUNCTION window_rows;
DROP TABLE window_plain;
