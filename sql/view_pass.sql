-- weir.keep = 0: rows of a view pass through to its triggers and are stored nowhere.
SET client_min_messages = warning;
CREATE SERVER nowhere_pass FOREIGN DATA WRAPPER weir_kafka OPTIONS (bootstrap_servers '127.0.0.1:1');
CREATE VIEW waiting AS
  SELECT convert_from(r.key, 'UTF8') COLLATE "C" AS key, convert_from(r.value, 'UTF8') COLLATE "C" AS value
    FROM weir.outbox o JOIN weir.sink_name s ON s.id = o.sink,
         weir.outbox_records(o.payload) WITH ORDINALITY AS r(topic, partition, key, value, headers, "timestamp", place)
   WHERE s.name LIKE 'public.big%' OR s.name LIKE 'public.per_minute%'
   ORDER BY 1, 2;
CREATE TABLE orders (id bigint, city text, amount numeric, at timestamptz)
  WITH (weir.stream, weir.event_time = 'at', weir.keep = '1 day', weir.max_clock_skew = 'off');
CREATE TABLE region (city text PRIMARY KEY, name text);
INSERT INTO region VALUES ('Ankara', 'inner'), ('Izmir', 'west');
INSERT INTO orders VALUES (0, 'Ankara', 1000, '2024-01-01 00:00');

-- only where rows never change
CREATE MATERIALIZED VIEW v WITH (weir.continuous, weir.keep = 0) AS SELECT city, count(*) FROM orders GROUP BY city;
CREATE MATERIALIZED VIEW v WITH (weir.continuous, weir.keep = 0) AS SELECT DISTINCT ON (city) city, id FROM orders ORDER BY city, at;
CREATE MATERIALIZED VIEW sums WITH (weir.continuous) AS SELECT city, count(*) FROM orders GROUP BY city;
ALTER MATERIALIZED VIEW sums SET (weir.keep = 0);

-- filter, join, project; no time column is needed
CREATE MATERIALIZED VIEW big WITH (weir.continuous, weir.keep = 0) AS
  SELECT o.id, r.name AS region, o.amount * 2 AS twice FROM orders o JOIN region r USING (city) WHERE o.amount > 100;
CREATE TRIGGER pub AFTER INSERT OR UPDATE OR DELETE ON big FOR EACH ROW WHEN (pg_trigger_depth() < 5)
  EXECUTE FUNCTION weir.publish('nowhere_pass', 't', 'key=id', 'delete=ignore');
CREATE TRIGGER pub2 AFTER INSERT ON big FOR EACH ROW WHEN (NEW.region = 'west')
  EXECUTE FUNCTION weir.publish('nowhere_pass', 't', 'key=', 'columns=region');
CREATE TRIGGER pub3 AFTER INSERT ON big FOR EACH ROW WHEN (NEW.twice > 5000)
  EXECUTE FUNCTION weir.notify('big', 'key=id');
SELECT line FROM weir.explain('big') AS line WHERE line LIKE 'keep:%';
INSERT INTO orders VALUES (1, 'Ankara', 101, '2024-01-01 00:01'), (2, 'Izmir', 102, '2024-01-01 00:01'), (3, 'Izmir', 99, '2024-01-01 00:01'),
  (4, 'Bursa', 500, '2024-01-01 00:01'), (5, 'Izmir', NULL, '2024-01-01 00:01'), (6, 'Izmir', 3000, '2024-01-01 00:02');
SELECT * FROM waiting;
SELECT count(*), pg_relation_size('big') FROM big;
SELECT batch FROM weir.views WHERE view = 'big'::regclass;      -- one notice
DELETE FROM weir.outbox;
BEGIN;
INSERT INTO orders VALUES (7, 'Ankara', 101, '2024-01-01 00:03');
SAVEPOINT a;
INSERT INTO orders VALUES (8, 'Ankara', 101, '2024-01-01 00:03');
ROLLBACK TO a;
INSERT INTO orders VALUES (9, 'Izmir', 101, '2024-01-01 00:03');
COMMIT;
SELECT * FROM waiting;
SELECT rows_in, rows_changed FROM weir.stat_views WHERE view = 'big'::regclass;
DELETE FROM weir.outbox;
SELECT * FROM weir.verify('big');
REFRESH MATERIALIZED VIEW big;

-- columns of constraints are checked; a user's trigger sees the rows, which are gone afterwards
ALTER TABLE big ADD CHECK (id <> 13);
INSERT INTO orders VALUES (13, 'Izmir', 200, '2024-01-01 00:04');
ALTER TABLE big ALTER region SET NOT NULL;
INSERT INTO region VALUES ('Van', NULL);
INSERT INTO orders VALUES (14, 'Van', 200, '2024-01-01 00:04');
CREATE TABLE seen (id bigint, n bigint, region text);
CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN INSERT INTO seen SELECT NEW.id, count(*), NEW.region FROM big; RETURN NULL; END $$;
CREATE TRIGGER see AFTER INSERT ON big FOR EACH ROW EXECUTE FUNCTION see();
CREATE FUNCTION upcase() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN IF NEW.id = 16 THEN RETURN NULL; END IF; NEW.region = upper(NEW.region); RETURN NEW; END $$;
CREATE TRIGGER upcase BEFORE INSERT ON big FOR EACH ROW EXECUTE FUNCTION upcase();
CREATE FUNCTION never() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'deleted'; END $$;
CREATE TRIGGER never AFTER DELETE ON big FOR EACH ROW EXECUTE FUNCTION never();
SELECT line FROM weir.explain('big') AS line WHERE line LIKE 'keep:%';
INSERT INTO orders VALUES (13, 'Izmir', 200, '2024-01-01 00:04');
INSERT INTO orders VALUES (14, 'Van', 200, '2024-01-01 00:04');
INSERT INTO orders VALUES (15, 'Izmir', 200, '2024-01-01 00:04'), (16, 'Izmir', 200, '2024-01-01 00:04'), (17, 'Ankara', 200, '2024-01-01 00:04');
SELECT * FROM seen ORDER BY id;
SELECT * FROM waiting;
SELECT count(*) FROM big;
SELECT rows_in, rows_changed FROM weir.stat_views WHERE view = 'big'::regclass;
DELETE FROM weir.outbox;
DROP TRIGGER see ON big; DROP TRIGGER upcase ON big;
ALTER TABLE big DISABLE TRIGGER pub2;
ALTER TABLE big ENABLE REPLICA TRIGGER pub;
CREATE TRIGGER pub4 AFTER INSERT ON big REFERENCING NEW TABLE AS new FOR EACH STATEMENT EXECUTE FUNCTION weir.publish('nowhere_pass', 't', 'key=', 'columns=id');
SELECT line FROM weir.explain('big') AS line WHERE line LIKE 'keep:%';
INSERT INTO orders VALUES (18, 'Izmir', 200, '2024-01-01 00:04');
DROP TRIGGER pub4 ON big;
INSERT INTO orders VALUES (19, 'Izmir', 200, '2024-01-01 00:04');
SET session_replication_role = replica;
INSERT INTO orders VALUES (20, 'Izmir', 200, '2024-01-01 00:04');
RESET session_replication_role;
SELECT * FROM waiting;
DELETE FROM weir.outbox;

-- finals: the open windows are states, the closed ones pass
CREATE MATERIALIZED VIEW per_minute WITH (weir.continuous, weir.emit = 'final', weir.keep = 0, weir.lateness = '1 minute') AS
  SELECT window_start, city, count(*) AS n FROM orders, tumble(at, '1 minute') GROUP BY window_start, city;
CREATE MATERIALIZED VIEW per_minute_sorted WITH (weir.continuous, weir.emit = 'final', weir.keep = 0) AS
  SELECT window_start, city, count(DISTINCT id) AS n FROM orders, tumble(at, '1 minute') GROUP BY window_start, city;
CREATE TRIGGER pub AFTER INSERT ON per_minute FOR EACH ROW EXECUTE FUNCTION weir.publish('nowhere_pass', 't');
CREATE TRIGGER pub AFTER INSERT ON per_minute_sorted FOR EACH ROW EXECUTE FUNCTION weir.publish('nowhere_pass', 't');
INSERT INTO orders VALUES (30, 'Izmir', 1, '2024-01-01 00:10'), (31, 'Izmir', 1, '2024-01-01 00:11');
INSERT INTO orders VALUES (32, 'Izmir', 1, '2024-01-01 00:10:30');
INSERT INTO orders VALUES (33, 'Izmir', 1, '2024-01-01 00:12');
INSERT INTO orders VALUES (34, 'Izmir', 1, '2024-01-01 00:14');
SELECT * FROM waiting;
SELECT (SELECT count(*) FROM per_minute) + (SELECT count(*) FROM per_minute_sorted) AS stored;
DELETE FROM weir.outbox;

-- sessions
CREATE MATERIALIZED VIEW per_minute_session WITH (weir.continuous, weir.emit = 'final', weir.keep = 0) AS
  SELECT city, window_start, window_end, count(*) AS n FROM orders, session(at, '1 minute') GROUP BY city, window_start, window_end;
CREATE TRIGGER pub AFTER INSERT ON per_minute_session FOR EACH ROW EXECUTE FUNCTION weir.publish('nowhere_pass', 't', 'key=city');
INSERT INTO orders VALUES (35, 'Izmir', 1, '2024-01-01 00:16'), (36, 'Izmir', 1, '2024-01-01 00:16:30'), (37, 'Van', 1, '2024-01-01 00:19');
SELECT value FROM waiting WHERE value LIKE '%window_end%';
SELECT count(*) FROM per_minute_session;
CREATE MATERIALIZED VIEW v WITH (weir.continuous, weir.keep = 0) AS
  SELECT city, window_start, window_end, count(*) AS n FROM orders, session(at, '1 minute') GROUP BY city, window_start, window_end;
DELETE FROM weir.outbox;

-- a view above reads what passes
CREATE MATERIALIZED VIEW above WITH (weir.continuous) AS SELECT city, sum(n) AS n FROM per_minute GROUP BY city;
SELECT line FROM weir.explain('per_minute') AS line WHERE line LIKE 'keep:%';
INSERT INTO orders VALUES (38, 'Van', 1, '2024-01-01 00:21');
SELECT * FROM above ORDER BY city;
SELECT * FROM weir.verify('above');
DROP MATERIALIZED VIEW above;
DELETE FROM weir.outbox;

-- joins of streams
CREATE TABLE payments (id bigint, paid_at timestamptz)
  WITH (weir.stream, weir.event_time = 'paid_at', weir.keep = '1 day', weir.max_clock_skew = 'off');
CREATE MATERIALIZED VIEW big_paid WITH (weir.continuous, weir.keep = 0) AS
  SELECT o.id, o.amount FROM orders o JOIN payments p ON p.id = o.id AND p.paid_at BETWEEN o.at AND o.at + interval '1 hour';
CREATE TRIGGER pub AFTER INSERT ON big_paid FOR EACH ROW EXECUTE FUNCTION weir.publish('nowhere_pass', 't', 'key=id');
INSERT INTO payments VALUES (6, '2024-01-01 00:19'), (7, '2024-01-01 00:19'), (99, '2024-01-01 00:19');
SELECT * FROM waiting;
SELECT count(*) FROM big_paid;
DELETE FROM weir.outbox;

-- from storing to passing and back
CREATE MATERIALIZED VIEW big_later WITH (weir.continuous) AS SELECT id, at FROM orders WHERE amount > 100;
SELECT count(*) FROM big_later;
ALTER MATERIALIZED VIEW big_later SET (weir.keep = 0);
INSERT INTO orders VALUES (40, 'Izmir', 200, '2024-01-01 00:20');
SELECT count(*) FROM big_later;
ALTER MATERIALIZED VIEW big_later SET (weir.keep = '1 hour');
INSERT INTO orders VALUES (41, 'Izmir', 200, '2024-01-01 00:20');
SELECT id FROM big_later;
DROP TABLE orders, payments CASCADE;
DELETE FROM weir.outbox;
DROP TABLE region, seen;
DROP VIEW waiting;
DROP SERVER nowhere_pass CASCADE;
DROP FUNCTION see, upcase, never;
