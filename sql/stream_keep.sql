-- What a stream keeps after weir.keep became shorter, longer, or nothing.
SET client_min_messages = warning;
SET timezone = 'UTC';
CREATE SCHEMA sk;
SET search_path = sk, public;
CREATE TABLE ev (gone int, id bigint, k text, twice bigint GENERATED ALWAYS AS (id * 2) STORED, at timestamptz)
  WITH (weir.stream, weir.event_time = 'at', weir.keep = '1 day');
ALTER TABLE ev DROP COLUMN gone;
CREATE INDEX ON ev (id);
CREATE MATERIALIZED VIEW per_minute WITH (weir.continuous) AS
  SELECT window_start, cardinality(array_agg(DISTINCT k)) AS ks FROM ev, tumble(at, '1 minute') GROUP BY window_start;
INSERT INTO ev (id, k, at) SELECT i, 'k' || i % 7, timestamptz '2026-01-01 00:00:00' + i * interval '1 minute' FROM generate_series(0, 300) i;
SELECT count(*), min(at), max(at) FROM ev;
CREATE VIEW kept AS SELECT count(*) AS segments, max(hi - lo) AS widest, min(lo) AS lo, max(hi) AS hi
  FROM weir.segment WHERE stream = 'ev'::regclass AND lo IS NOT NULL;
SELECT * FROM kept;

-- shorter: at once what the option says, in narrower segments
ALTER TABLE ev SET (weir.keep = '20 min');
SELECT count(*), min(at), max(at), sum(id), sum(twice) FROM ev;
SELECT * FROM kept;
SET enable_seqscan = off;
SELECT id, twice, k FROM ev WHERE id = 290;
RESET enable_seqscan;
SELECT * FROM weir.verify('per_minute');
INSERT INTO ev (id, k, at) VALUES (1000, 'new', '2026-01-01 04:59:30'), (1001, 'old', '2026-01-01 00:00:30'), (1002, 'ahead', '2026-01-01 05:00:30');
SELECT * FROM weir.verify('per_minute');
SELECT window_start, ks FROM per_minute WHERE window_start >= '2026-01-01 04:58:00' OR window_start < '2026-01-01 00:02:00' ORDER BY 1;

-- a rolled back change changes nothing
SELECT count(*) FROM ev;
BEGIN;
ALTER TABLE ev SET (weir.keep = '1 min');
SELECT count(*) FROM ev;
ROLLBACK;
SELECT count(*) FROM ev;

-- longer again: nothing comes back, and nothing is lost
ALTER TABLE ev SET (weir.keep = '2 hours');
SELECT count(*) FROM ev;
SELECT * FROM weir.verify('per_minute');

-- nothing: gone at once; a view that reads the kept rows is in the way
ALTER TABLE ev SET (weir.keep = '0');
DROP MATERIALIZED VIEW per_minute;
ALTER TABLE ev SET (weir.keep = '0');
SELECT count(*) FROM ev;
SELECT segments FROM kept;
INSERT INTO ev (id, k, at) VALUES (2000, 'x', '2026-01-01 06:00:00');
SELECT count(*) FROM ev;
ALTER TABLE ev SET (weir.keep = '1 min');
INSERT INTO ev (id, k, at) VALUES (2001, 'x', '2026-01-01 06:00:01');
SELECT id FROM ev;

-- the session's time zone has no part in it
SET timezone = 'Asia/Tokyo';
CREATE TABLE tz (at timestamptz) WITH (weir.stream, weir.event_time = 'at', weir.keep = '1 day');
CREATE MATERIALIZED VIEW tz_minutes WITH (weir.continuous) AS SELECT window_start, count(*) FROM tz, tumble(at, '1 minute') GROUP BY window_start;
INSERT INTO tz SELECT timestamptz '2026-01-01 00:00Z' + i * interval '1 minute' FROM generate_series(0, 120) i;
ALTER TABLE tz SET (weir.keep = '20 min');
SELECT count(*), min(at) AT TIME ZONE 'UTC' AS first FROM tz;
REFRESH MATERIALIZED VIEW tz_minutes;
SELECT count(*), sum(count) FROM tz_minutes;
SELECT * FROM weir.verify('tz_minutes');

-- for longer than there is a calendar: everything is kept
CREATE TABLE antiquity (id int, at timestamptz) WITH (weir.stream, weir.event_time = 'at', weir.keep = '9000 years', weir.lateness = '8000 years');
CREATE MATERIALIZED VIEW ides WITH (weir.continuous, weir.keep = '10000 years') AS SELECT window_start, count(*) FROM antiquity, tumble(at, '1 month') GROUP BY window_start;
INSERT INTO antiquity VALUES (1, '4700-03-15 BC'), (2, '0044-03-15 BC');
CREATE MATERIALIZED VIEW visits WITH (weir.continuous) AS SELECT window_start, count(*) FROM antiquity, session(at, '90 days') GROUP BY window_start;
CREATE MATERIALIZED VIEW years WITH (weir.continuous) AS SELECT window_start, array_agg(id) AS ids FROM antiquity, tumble(at, '1 year') GROUP BY window_start;
INSERT INTO antiquity VALUES (3, '0001-01-01'), (4, '2026-03-15');
SELECT count(*) FROM antiquity;
SELECT count(*) FROM ides;
SELECT * FROM weir.verify('ides') UNION ALL SELECT * FROM weir.verify('visits') UNION ALL SELECT * FROM weir.verify('years');
ALTER TABLE antiquity SET (weir.keep = '10001 years');

DROP SCHEMA sk CASCADE;
