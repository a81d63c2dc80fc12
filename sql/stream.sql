-- Streams are tables: INSERT, COPY, RETURNING, triggers, savepoints, indexes, grants, ALTER, DROP.
SET client_min_messages = warning;
SET timezone = 'UTC';
CREATE SCHEMA st;
SET search_path = st, public;

CREATE UNLOGGED TABLE orders (id bigint, city text NOT NULL, amount numeric(10, 2) CHECK (amount >= 0), at timestamptz)
  WITH (weir.stream, weir.event_time = 'at', weir.keep = '1 minute');
SELECT stream, server, topic, format, event_time, keep, state FROM weir.streams;

INSERT INTO orders VALUES (1, 'Izmir', 1.005, '2026-01-01 00:00:00'), (2, 'Bursa', 2, '2026-01-01 00:00:10') RETURNING *;
COPY orders FROM stdin (FORMAT csv);
3,Izmir,3,2026-01-01 00:00:20
4,Adana,4,2026-01-01 00:00:05
\.
SELECT * FROM orders ORDER BY id;
SELECT count(*) FROM ONLY orders;

-- bad rows are the user's error on this path
INSERT INTO orders VALUES (5, NULL, 1, '2026-01-01 00:00:00');
INSERT INTO orders VALUES (5, 'x', -1, '2026-01-01 00:00:00');
INSERT INTO orders VALUES (5, 'x', 1, NULL);
INSERT INTO orders VALUES (5, 'x', 1, 'infinity');
INSERT INTO orders VALUES (5, 'x', 1, '9999-01-01');
SELECT count(*) FROM orders;

-- transactions and savepoints
BEGIN;
INSERT INTO orders VALUES (10, 'x', 1, '2026-01-01 00:00:21');
SAVEPOINT a;
INSERT INTO orders VALUES (11, 'x', 1, '2026-01-01 00:00:21');
ROLLBACK TO a;
INSERT INTO orders VALUES (12, 'x', 1, '2026-01-01 00:00:21');
SAVEPOINT b;
INSERT INTO orders VALUES (13, NULL, 1, '2026-01-01 00:00:21');
ROLLBACK TO b;
SELECT id FROM orders WHERE city = 'x' ORDER BY id;
COMMIT;
SELECT id FROM orders WHERE city = 'x' ORDER BY id;
BEGIN;
INSERT INTO orders VALUES (14, 'x', 1, '2026-01-01 00:00:21');
ROLLBACK;
SELECT count(*) FROM orders;

-- UPDATE is refused; DELETE and TRUNCATE of kept rows are not
UPDATE orders SET amount = 0;
DELETE FROM orders WHERE id = 12 RETURNING id, city;
INSERT INTO orders VALUES (12, 'x', 1, '2026-01-01') ON CONFLICT DO NOTHING;

-- row triggers and foreign keys see the rows
CREATE TABLE seen (op text, id bigint, city text);
CREATE FUNCTION saw() RETURNS trigger LANGUAGE plpgsql AS
  $$BEGIN INSERT INTO seen VALUES (TG_WHEN || ' ' || TG_LEVEL, NEW.id, NEW.city); RETURN NEW; END$$;
CREATE TRIGGER before_row BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION saw();
CREATE TRIGGER after_row AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION saw();
INSERT INTO orders VALUES (20, 'trigger', 1, '2026-01-01 00:00:22'), (21, 'trigger', 1, '2026-01-01 00:00:22');
COPY orders FROM stdin (FORMAT csv);
22,trigger,3,2026-01-01 00:00:22
\.
SELECT * FROM seen ORDER BY id, op;
DROP TRIGGER before_row ON orders;
DROP TRIGGER after_row ON orders;
CREATE TABLE city (name text PRIMARY KEY);
INSERT INTO city SELECT DISTINCT city FROM orders;
ALTER TABLE orders ADD CONSTRAINT orders_city FOREIGN KEY (city) REFERENCES city;
INSERT INTO orders VALUES (30, 'Nowhere', 1, '2026-01-01 00:00:22');
INSERT INTO orders VALUES (30, 'Adana', 1, '2026-01-01 00:00:22');
ALTER TABLE orders DROP CONSTRAINT orders_city;

-- indexes work on the kept rows
CREATE INDEX orders_city_idx ON orders (city);
INSERT INTO orders SELECT i, 'c' || i % 100, i, '2026-01-01 00:00:23' FROM generate_series(100, 2099) i;
COPY orders FROM stdin (FORMAT csv);
5000,c7,3,2026-01-01 00:00:24
\.
SET enable_seqscan = off;
SELECT count(*) FROM orders WHERE city = 'c7';
RESET enable_seqscan;
SELECT count(*) > 0 AS cloned FROM pg_index i JOIN pg_inherits h ON h.inhrelid = i.indrelid
  JOIN pg_inherits p ON p.inhrelid = h.inhparent WHERE p.inhparent = 'orders'::regclass;
DROP INDEX orders_city_idx;
SELECT count(*) FROM pg_index i JOIN pg_inherits h ON h.inhrelid = i.indrelid
  JOIN pg_inherits p ON p.inhrelid = h.inhparent WHERE p.inhparent = 'orders'::regclass;

-- weir.keep: nothing younger than it is gone, and all is gone that lies a quarter more behind
SELECT min(at) FROM orders;
INSERT INTO orders VALUES (6000, 'late', 1, '2026-01-01 01:00:00');
SELECT count(*) FROM orders WHERE at > '2026-01-01 00:59:00';
INSERT INTO orders VALUES (6001, 'behind the kept rows', 1, '2026-01-01 00:00:00');
SELECT count(*) FROM orders WHERE id = 6001;

-- keep = 0 keeps nothing
CREATE UNLOGGED TABLE nothing (v int) WITH (weir.stream, weir.keep = '0');
INSERT INTO nothing SELECT generate_series(1, 1000);
SELECT count(*) FROM nothing;

-- columns come, go and change
ALTER TABLE orders ADD COLUMN note text DEFAULT 'none';
INSERT INTO orders (id, city, at) VALUES (7000, 'Kars', '2026-01-01 01:00:01');
SELECT id, city, amount, note FROM orders WHERE at > '2026-01-01 00:59:59' ORDER BY id;
ALTER TABLE orders DROP COLUMN amount;
ALTER TABLE orders ALTER COLUMN id TYPE numeric;
ALTER TABLE orders RENAME COLUMN at TO ordered_at;
INSERT INTO orders VALUES (7001, 'Kars', '2026-01-01 01:00:02', 'new');
SELECT * FROM orders WHERE ordered_at > '2026-01-01 00:59:59' ORDER BY id;
SELECT event_time FROM weir.streams WHERE stream = 'orders'::regclass;
ALTER TABLE orders DROP COLUMN ordered_at;
ALTER TABLE orders ALTER COLUMN ordered_at TYPE text;

-- options
ALTER TABLE orders SET (weir.keep = '2 min', weir.lateness = '5 s', fillfactor = 90);
SELECT keep, lateness FROM weir.streams WHERE stream = 'orders'::regclass;
ALTER TABLE orders RESET (weir.lateness);
SELECT keep, lateness FROM weir.streams WHERE stream = 'orders'::regclass;
ALTER TABLE orders SET (weir.kepe = '2 min');
ALTER TABLE orders SET (weir.keep = 'soon');
ALTER TABLE orders SET (weir.keep = '-1 s');
ALTER TABLE orders SET (weir.event_time = 'nope');
ALTER TABLE orders SET (weir.event_time = 'city');
ALTER TABLE city SET (weir.keep = '1 min');
ALTER TABLE orders SET ACCESS METHOD heap;
CREATE TABLE bad (a int) WITH (weir.topic = 'x');
CREATE TABLE bad (a int) WITH (weir.server = 'x');
CREATE TABLE bad (a int) WITH (weir.server = 'x', weir.topic = 'a,b');
CREATE TABLE bad (a int) WITH (weir.streem);
CREATE TABLE bad (a int) WITH (weir.stream, weir.mode = 'upsert');
CREATE TABLE bad (a int) WITH (weir.stream, weir.format = 'avro');
CREATE TABLE bad (a int) WITH (weir.stream, weir.format = 'text');
CREATE TABLE bad (a int PRIMARY KEY) WITH (weir.stream);
CREATE TEMP TABLE bad (a int) WITH (weir.stream);
CREATE TABLE bad (__weir_a int) WITH (weir.stream);
CREATE TABLE bad WITH (weir.stream) AS SELECT 1;
CREATE UNIQUE INDEX ON orders (id);
ALTER TABLE orders ADD UNIQUE (id);

-- names, schemas, owners, rights
CREATE ROLE weir_reader;
CREATE ROLE weir_owner;
GRANT USAGE, CREATE ON SCHEMA st TO weir_reader, weir_owner;
SET ROLE weir_reader;
SELECT count(*) FROM orders;
RESET ROLE;
GRANT SELECT ON orders TO weir_reader;
SET ROLE weir_reader;
SELECT count(*) FROM orders WHERE ordered_at > '2026-01-01 01:00:00';
INSERT INTO orders VALUES (1, 'x', '2026-01-01 01:00:03', '');
ALTER TABLE orders SET (weir.keep = '1 s');
RESET ROLE;
GRANT INSERT ON orders TO weir_reader;
SET ROLE weir_reader;
INSERT INTO orders VALUES (8000, 'x', '2026-01-01 01:00:03', '');
RESET ROLE;
ALTER TABLE orders OWNER TO weir_owner;
ALTER TABLE orders RENAME TO sales;
ALTER TABLE sales SET SCHEMA public;
SET ROLE weir_owner;
ALTER TABLE public.sales ADD COLUMN extra int;
INSERT INTO public.sales VALUES (8001, 'x', '2026-01-01 01:00:04', '', 1);
SELECT id, extra FROM public.sales WHERE extra IS NOT NULL;
RESET ROLE;
SELECT stream FROM weir.streams ORDER BY 1;

-- columns that are computed when they are read (a syntax error before 18)
CREATE FUNCTION refuses(command text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN
  EXECUTE command;
  RETURN 'not refused';
EXCEPTION WHEN feature_not_supported OR syntax_error THEN RETURN 'refused'; END $$;
SELECT refuses('CREATE TABLE virtual_in (v int, twice int GENERATED ALWAYS AS (v * 2)) WITH (weir.stream)');
SELECT refuses('ALTER TABLE public.sales ADD COLUMN twice int GENERATED ALWAYS AS (extra * 2)');
ALTER TABLE public.sales ADD COLUMN twice int GENERATED ALWAYS AS (extra * 2) STORED;
DROP FUNCTION refuses;

-- the end
DROP TABLE public.sales;
DROP SCHEMA st CASCADE;
SELECT count(*) FROM weir.streams;
SELECT count(*) FROM weir.segment;
SELECT count(*) FROM pg_class WHERE relname ~ '^(rows|segment)_[0-9]';
DROP ROLE weir_reader;
DROP ROLE weir_owner;
