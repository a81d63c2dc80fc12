-- weir.pause, weir.resume, weir.wait and weir.seek where no topic is needed
SET client_min_messages = warning;
SET timezone = 'UTC';
CREATE SCHEMA pausing;
GRANT USAGE ON SCHEMA pausing TO PUBLIC;
SET search_path = pausing, public;
CREATE TABLE paused_log (k text, v numeric, at timestamptz)
  WITH (weir.stream, weir.event_time = 'at', weir.keep = '1 day');
CREATE MATERIALIZED VIEW paused_sums WITH (weir.continuous) AS
  SELECT k, count(*) AS n, sum(v) AS total FROM paused_log GROUP BY k;
CREATE MATERIALIZED VIEW paused_all WITH (weir.continuous) AS
  SELECT count(*) AS n FROM paused_log;
INSERT INTO paused_log VALUES ('a', 1, '2024-01-01 00:00Z'), ('b', 2, '2024-01-01 00:01Z');
SELECT weir.wait('paused_log');
SELECT * FROM paused_sums ORDER BY k;

-- a paused view gets what was INSERTed when it is resumed; others go on
SELECT weir.pause('paused_sums');
SELECT weir.pause('paused_sums');
INSERT INTO paused_log VALUES ('a', 10, '2024-01-01 00:02Z');
SELECT * FROM paused_sums ORDER BY k;
SELECT * FROM paused_all;
SELECT weir.wait('paused_log');
SELECT view, state FROM weir.views WHERE view::text LIKE 'paused%' ORDER BY view::text;
SELECT weir.resume('paused_sums');
SELECT weir.resume('paused_sums');
SELECT * FROM paused_sums ORDER BY k;
SELECT * FROM weir.verify('paused_sums');

-- so does every view of a paused stream
SELECT weir.pause('paused_log');
INSERT INTO paused_log VALUES ('c', 100, '2024-01-01 00:03Z');
SELECT stream, state FROM weir.streams WHERE stream = 'paused_log'::regclass;
SELECT count(*) FROM paused_log;
SELECT * FROM paused_all;
SELECT weir.wait('paused_log');
SELECT weir.pause('paused_all');
SELECT weir.resume('paused_log');
SELECT * FROM paused_sums ORDER BY k;
SELECT * FROM paused_all;
SELECT weir.resume('paused_all');
SELECT * FROM paused_all;
SELECT * FROM weir.verify('paused_all');

-- REFRESH while it is paused: it goes on from there, and nothing counts twice
SELECT weir.pause('paused_sums');
INSERT INTO paused_log VALUES ('f', 1, '2024-01-01 00:03Z');
REFRESH MATERIALIZED VIEW paused_sums;
INSERT INTO paused_log VALUES ('f', 2, '2024-01-01 00:03Z');
SELECT * FROM paused_sums WHERE k = 'f';
SELECT weir.resume('paused_sums');
SELECT * FROM paused_sums WHERE k = 'f';
SELECT * FROM weir.verify('paused_sums');

-- rolled back
BEGIN;
SELECT weir.pause('paused_sums');
ROLLBACK;
INSERT INTO paused_log VALUES ('d', 1, '2024-01-01 00:04Z');
SELECT * FROM paused_sums WHERE k = 'd';

-- a final view closes what it gets when it is resumed
CREATE TABLE finals_log (at timestamptz, k text) WITH (weir.stream, weir.event_time = 'at', weir.keep = '1 day', weir.idle_timeout = 'off');
CREATE MATERIALIZED VIEW paused_finals WITH (weir.continuous, weir.emit = 'final') AS
  SELECT window_start, count(*) FROM finals_log, tumble(at, '1 minute') GROUP BY 1;
CREATE MATERIALIZED VIEW paused_at_close WITH (weir.continuous, weir.emit = 'final') AS
  SELECT window_start, count(DISTINCT k) FROM finals_log, tumble(at, '1 minute') GROUP BY 1;
INSERT INTO finals_log VALUES ('2024-01-01 00:00Z', 'a');
BEGIN;
SELECT weir.pause('paused_finals'), weir.pause('paused_at_close');
INSERT INTO finals_log VALUES ('2024-01-01 00:00:30Z', 'b'), ('2024-01-01 00:02Z', 'c');
SELECT weir.resume('paused_finals'), weir.resume('paused_at_close');
SELECT count FROM paused_finals;
SELECT count FROM paused_at_close;
COMMIT;
DROP TABLE finals_log CASCADE;

-- what cannot be
ALTER TABLE paused_log SET (weir.keep = '0');
SELECT weir.pause('paused_sums');
SELECT weir.pause('paused_log');
SELECT weir.pause('pg_class');
SELECT weir.seek('paused_log', 'earliest');
SELECT weir.seek('paused_sums', 'latest');
SELECT weir.retry('paused_log');
SELECT weir.wait('paused_sums');
SELECT weir.wait('pg_class');
SELECT weir.wait('paused_log', NULL);
CREATE ROLE regress_weir_somebody;
SET ROLE regress_weir_somebody;
SELECT weir.pause('paused_log');
SELECT weir.resume('paused_sums');
SELECT weir.seek('paused_log', 'latest');
SELECT weir.retry('paused_log');
SELECT count(*) FROM weir.dead_letters;
SELECT count(*) FROM weir.late_rows;
SELECT count(*) FROM weir.position;
RESET ROLE;
DROP ROLE regress_weir_somebody;
SELECT view, rows_in, batches > 0 AS busy FROM weir.stat_views WHERE view::text LIKE 'paused%' ORDER BY view::text;
SELECT stream, topic, partition, position, lag, rows, bad FROM weir.stat_streams WHERE stream = 'paused_log'::regclass;
-- what is rolled back moves no clock and is not counted
CREATE TABLE undone (id int, at timestamptz) WITH (weir.stream, weir.event_time = 'at', weir.idle_timeout = 'off');
INSERT INTO undone VALUES (1, '2026-01-01Z');
BEGIN;
INSERT INTO undone VALUES (2, '2026-03-01Z');
ROLLBACK;
BEGIN;
SAVEPOINT a;
INSERT INTO undone VALUES (2, '2026-03-01Z');
ROLLBACK TO a;
SAVEPOINT b;
INSERT INTO undone VALUES (3, '2026-01-02Z');
RELEASE b;
INSERT INTO undone VALUES (4, '2026-01-01Z');
COMMIT;
SELECT stream_time AT TIME ZONE 'UTC' AS stream_time, watermark AT TIME ZONE 'UTC' AS watermark, rows FROM weir.stat_streams WHERE stream = 'undone'::regclass;
BEGIN;
CREATE TABLE short (id int, at timestamptz) WITH (weir.stream, weir.event_time = 'at');
INSERT INTO short VALUES (1, '2026-01-01Z');
DROP TABLE short;
COMMIT;
BEGIN;
CREATE TABLE never (id int, at timestamptz) WITH (weir.stream, weir.event_time = 'at');
INSERT INTO never VALUES (1, '2026-01-01Z');
ROLLBACK;
SELECT count(*) FROM weir.partition_statistics() p WHERE NOT EXISTS (SELECT FROM pg_class WHERE oid = p.stream);
DROP TABLE undone;
DROP TABLE paused_log CASCADE;
SELECT count(*) FROM weir.view_position;
DROP SCHEMA pausing CASCADE;
