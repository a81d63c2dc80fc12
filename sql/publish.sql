-- weir.publish and weir.produce without a broker: what the outbox holds.
SET client_min_messages = warning;
SET jit = off;
CREATE SERVER nowhere FOREIGN DATA WRAPPER weir_kafka OPTIONS (bootstrap_servers '127.0.0.1:1');

-- What waits, in order.
CREATE VIEW waiting AS
  SELECT s.name AS sink, r.topic, r.partition, convert_from(r.key, 'UTF8') AS key,
         convert_from(r.value, 'UTF8') AS value, r.headers, r."timestamp" AT TIME ZONE 'UTC' AS at
    FROM weir.outbox o JOIN weir.sink_name s ON s.id = o.sink,
         weir.outbox_records(o.payload) WITH ORDINALITY AS r(topic, partition, key, value, headers, "timestamp", place)
   ORDER BY o.seq, r.place;
CREATE PROCEDURE show_waiting() LANGUAGE sql AS 'DELETE FROM weir.outbox';

CREATE TABLE item (id int PRIMARY KEY, name text, price numeric(10,2), tags text[]);

-- arguments are checked when the trigger is made
CREATE TRIGGER pub AFTER INSERT ON item FOR EACH ROW EXECUTE FUNCTION weir.publish('nowhere');
CREATE TRIGGER pub AFTER INSERT ON item FOR EACH ROW EXECUTE FUNCTION weir.publish('nobody', 't');
CREATE TRIGGER pub AFTER INSERT ON item FOR EACH ROW EXECUTE FUNCTION weir.publish('nowhere', '');
CREATE TRIGGER pub AFTER INSERT ON item FOR EACH ROW EXECUTE FUNCTION weir.publish('nowhere', 't', 'format=xml');
CREATE TRIGGER pub AFTER INSERT ON item FOR EACH ROW EXECUTE FUNCTION weir.publish('nowhere', 't', 'format=text');
CREATE TRIGGER pub AFTER INSERT ON item FOR EACH ROW EXECUTE FUNCTION weir.publish('nowhere', 't', 'headers=tags');
CREATE TRIGGER pub AFTER DELETE ON item FOR EACH ROW EXECUTE FUNCTION weir.publish('nowhere', 't', 'key=');
CREATE TRIGGER pub AFTER INSERT ON item FOR EACH ROW EXECUTE FUNCTION weir.publish('nowhere', 't', 'channel_column=name');
CREATE TABLE heap (a int);
CREATE TRIGGER pub AFTER INSERT ON heap FOR EACH ROW EXECUTE FUNCTION weir.publish('nowhere', 't');
CREATE TRIGGER pub AFTER INSERT ON heap FOR EACH ROW EXECUTE FUNCTION weir.publish('nowhere', 't', 'key=');
INSERT INTO heap VALUES (1), (1);

-- keys, tombstones, last state per transaction, savepoints, rollback
CREATE TRIGGER pub AFTER INSERT OR UPDATE OR DELETE ON item FOR EACH ROW EXECUTE FUNCTION weir.publish('nowhere', 't');
INSERT INTO item VALUES (1, 'say "hi"', 1.5, '{a,"b c"}'), (2, NULL, NULL, NULL);
UPDATE item SET price = 3 WHERE id = 1;
BEGIN;
UPDATE item SET price = 4 WHERE id = 1;
SAVEPOINT a;
UPDATE item SET price = 5 WHERE id = 1;
RELEASE a;
SAVEPOINT b;
UPDATE item SET price = 6 WHERE id = 1;
INSERT INTO item VALUES (7);
ROLLBACK TO b;
DELETE FROM item WHERE id = 2;
INSERT INTO item VALUES (2, 'again');
COMMIT;
BEGIN;
INSERT INTO item VALUES (9);
ROLLBACK;
UPDATE item SET id = 3 WHERE id = 1;
SELECT sink, key, value FROM waiting;
CALL show_waiting();

-- the session's settings do not show; every type as to_jsonb has it in UTC
CREATE TABLE kinds (b bool, i2 int2, i4 int4, i8 int8, f4 float4, f8 float8, n numeric, t text, c char(3), u uuid,
  y bytea, d date, ts timestamp, tz timestamptz, tm time, iv interval, j json, jb jsonb, a int[], r int4range);
CREATE TRIGGER pub AFTER INSERT ON kinds FOR EACH ROW EXECUTE FUNCTION weir.publish('nowhere', 't', 'key=i4,t');
CREATE TABLE settings_before AS SELECT name, setting FROM pg_settings WHERE name IN ('TimeZone', 'DateStyle', 'IntervalStyle', 'bytea_output', 'extra_float_digits');
SET TimeZone = 'America/New_York';
SET DateStyle = 'SQL, DMY';
SET IntervalStyle = 'iso_8601';
SET bytea_output = 'escape';
SET extra_float_digits = -5;
INSERT INTO kinds VALUES
  (true, -1, 2, 9007199254740993, 1.1, 0.1, 1.50, E'tab\t"q" \\ \u00e9\u0001', 'ab', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11',
   '\x00ff', '2024-02-29', '2024-02-29 12:34:56.5', '2024-02-29 12:34:56.5+02', '12:34', '1 day 2 hours', '{"b": 1.0, "a": 1}', '{"b": 1.0, "a": 1}', '{1,2,NULL}', '[1,5)'),
  (false, 0, 0, 0, 'NaN', '-Infinity', 'NaN', '', '', NULL, '', 'infinity', '-infinity', '0044-03-15 BC', NULL, NULL, 'null', 'null', '{}', 'empty'),
  (NULL, 32767, -2147483648, -9223372036854775808, 1e20, 1e25, 12345678901234567890.123, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
  (NULL, 1, 1, 1, 1e-7, -1e-10, 0.0001, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
RESET ALL;
SET client_min_messages = warning;
SET jit = off;
SET TimeZone = 'UTC';
SELECT key, value FROM waiting;
SELECT k.key, k.value AS published, e.value AS wanted
  FROM (SELECT row_number() OVER () AS n, value::json AS doc FROM waiting) w
  JOIN (SELECT row_number() OVER () AS n, kinds FROM kinds) s USING (n),
       json_each(w.doc) k JOIN jsonb_each(to_jsonb(s.kinds)) e USING (key)
 WHERE k.value::text <> e.value::text;
CALL show_waiting();

-- the other options; a statement trigger per event
CREATE TABLE opts (id int, k2 text, v text, at timestamptz, h jsonb, p int, topic text);
CREATE TRIGGER pub AFTER INSERT OR DELETE ON opts FOR EACH ROW
  EXECUTE FUNCTION weir.publish('nowhere', 't', 'key=id', 'columns=v,id', 'headers=h', 'partition=p', 'timestamp=at',
    'topic_column=topic', 'nulls=omit', 'delete=record', 'changes=all', 'delivery=at_least_once');
INSERT INTO opts VALUES (1, 'x', NULL, '2024-01-01 00:00:00.123456Z', '{"a": "b", "n": null, "i": 1}', 3, NULL),
  (1, 'y', 'v', NULL, '[{"key": "k", "value": "v"}, {"key": "k", "base64": "AP8="}]', NULL, 'other');
DELETE FROM opts WHERE k2 = 'y';
SELECT topic, partition, key, value, headers, at FROM waiting;
INSERT INTO opts VALUES (1, 'x', NULL, NULL, '[1]');
INSERT INTO opts (id, p) VALUES (1, -1);
INSERT INTO opts (id, at) VALUES (1, 'infinity');
CALL show_waiting();

CREATE TABLE stmt (id int PRIMARY KEY, v text);
CREATE TRIGGER ins AFTER INSERT ON stmt REFERENCING NEW TABLE AS n FOR EACH STATEMENT EXECUTE FUNCTION weir.publish('nowhere', 't', 'format=text', 'columns=v');
CREATE TRIGGER upd AFTER UPDATE ON stmt REFERENCING OLD TABLE AS o NEW TABLE AS n FOR EACH STATEMENT EXECUTE FUNCTION weir.publish('nowhere', 't');
CREATE TRIGGER del AFTER DELETE ON stmt REFERENCING OLD TABLE AS o FOR EACH STATEMENT EXECUTE FUNCTION weir.publish('nowhere', 't');
INSERT INTO stmt VALUES (1, 'a'), (2, NULL);
UPDATE stmt SET id = id + 10;
DELETE FROM stmt;
SELECT sink, key, value FROM waiting;
CALL show_waiting();

-- partitions publish as their parent
CREATE TABLE parted (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (10);
CREATE TABLE parted_2 (v text, id int NOT NULL);
ALTER TABLE parted ATTACH PARTITION parted_2 FOR VALUES FROM (10) TO (20);
CREATE TRIGGER pub AFTER INSERT ON parted FOR EACH ROW EXECUTE FUNCTION weir.publish('nowhere', 't');
INSERT INTO parted VALUES (1, 'one'), (11, 'eleven');
SELECT sink, key, value FROM waiting;
CALL show_waiting();

-- by hand
SELECT weir.produce('nowhere', 't', 'k', 'v', '{"a": "b"}');
SELECT weir.produce('nowhere', 't', '\x00ff'::bytea, NULL::bytea);
SELECT weir.produce('nowhere', 'not a topic', 'k', 'v');
SELECT weir.produce('nobody', 't', 'k', 'v');
SELECT weir.produce('nowhere', 't', 'k', 'v', '"text"');
SELECT topic, key, value, headers FROM (SELECT r.* FROM weir.outbox o, weir.outbox_records(o.payload) r ORDER BY o.seq) w;
CALL show_waiting();

-- a table's contents, with the trigger's condition
CREATE TABLE snap (id int PRIMARY KEY, v int);
INSERT INTO snap SELECT i, i % 3 FROM generate_series(1, 6) i;
CREATE TRIGGER pub AFTER INSERT OR UPDATE ON snap FOR EACH ROW WHEN (NEW.v = 1) EXECUTE FUNCTION weir.publish('nowhere', 't');
CREATE TRIGGER chg AFTER UPDATE ON snap FOR EACH ROW WHEN (NEW.v <> OLD.v) EXECUTE FUNCTION weir.publish('nowhere', 't');
SELECT weir.snapshot('snap', 'pub');
SELECT weir.snapshot('snap', 'chg');
SELECT weir.snapshot('snap', 'nothing');
SELECT sink, key, value FROM waiting;

-- columns that change under a trigger
ALTER TABLE snap RENAME COLUMN v TO w;
ALTER TABLE snap ADD COLUMN extra text DEFAULT 'e';
CALL show_waiting();
INSERT INTO snap VALUES (10, 1);
SELECT key, value FROM waiting;
CALL show_waiting();

-- a server and columns with other names: the arguments of triggers follow
CREATE TABLE named (id int, "Part" int, note text) PARTITION BY RANGE (id);
CREATE TABLE named_1 PARTITION OF named FOR VALUES FROM (0) TO (10);
CREATE TRIGGER pub AFTER INSERT OR UPDATE ON named FOR EACH ROW EXECUTE FUNCTION weir.publish('nowhere', 'a\b', 'key=id,"Part"', 'columns=note, id', 'partition="Part"');
CREATE TRIGGER note AFTER INSERT ON named FOR EACH ROW EXECUTE FUNCTION weir.notify('nowhere', 'key=id', 'notices=batch');
INSERT INTO named VALUES (1, 3, 'a');
ALTER SERVER nowhere RENAME TO elsewhere;
ALTER TABLE named RENAME id TO "N o";
ALTER TABLE named RENAME "Part" TO part;
ALTER TABLE named RENAME note TO notes;
INSERT INTO named VALUES (2, 4, 'b');
SELECT DISTINCT regexp_replace(pg_get_triggerdef(oid), '^.* EXECUTE', '') FROM pg_trigger WHERE tgrelid IN ('named'::regclass, 'named_1'::regclass) ORDER BY 1;
SELECT w.*, s.server FROM waiting w JOIN weir.stat_sinks s USING (sink);
CALL show_waiting();
ALTER SERVER elsewhere RENAME TO nowhere;
DROP TABLE named;

-- who may
CREATE ROLE regress_weir_pub;
GRANT CREATE ON SCHEMA public TO regress_weir_pub;
SET ROLE regress_weir_pub;
CREATE TABLE theirs (id int PRIMARY KEY);
CREATE TRIGGER pub AFTER INSERT ON theirs FOR EACH ROW EXECUTE FUNCTION weir.publish('nowhere', 't');
SELECT weir.produce('nowhere', 't', 'k', 'v');
RESET ROLE;
GRANT USAGE ON FOREIGN SERVER nowhere TO regress_weir_pub;
SET ROLE regress_weir_pub;
CREATE TRIGGER pub AFTER INSERT ON theirs FOR EACH ROW EXECUTE FUNCTION weir.publish('nowhere', 't');
INSERT INTO theirs VALUES (1);
SELECT sink, server, topic, pending FROM weir.stat_sinks;
SELECT weir.pause_sink('public.item.pub');
SELECT weir.pause_sink('nothing');
SELECT weir.pause_sink('public.theirs.pub');
SELECT state FROM weir.stat_sinks;
SELECT weir.discard('public.theirs.pub', 10);
SELECT stream, topic, convert_from(key, 'UTF8') AS key, convert_from(payload, 'UTF8') AS payload FROM weir.dead_letters;
SELECT weir.resume_sink('public.theirs.pub');
SELECT weir.discard('public.theirs.pub');
SELECT * FROM weir.outbox;
RESET ROLE;

DROP VIEW waiting;
DROP PROCEDURE show_waiting;
DROP TABLE item, heap, kinds, settings_before, opts, stmt, parted, snap, theirs;
DELETE FROM weir.outbox;
DROP SERVER nowhere;
REVOKE CREATE ON SCHEMA public FROM regress_weir_pub;
DROP ROLE regress_weir_pub;
