-- A batch of rows on its way into views: large ones, values of all kinds, parts that do not fit into memory.
CREATE SCHEMA delta;
SET search_path = delta, public;

CREATE TYPE pair AS (a int, b text);
CREATE TABLE s (id bigint, k text, n numeric, f float8, a int[], p pair, c char(5), at timestamptz)
  WITH (weir.stream, weir.event_time = 'at', weir.keep = '100 years');
CREATE MATERIALIZED VIEW plain WITH (weir.continuous) AS
  SELECT window_start, k, count(*), count(n) AS given, sum(n) AS total, min(f), max(f), sum(id) AS ids
  FROM s, tumble(at, '1 minute') GROUP BY window_start, k;
CREATE MATERIALIZED VIEW rows_of WITH (weir.continuous) AS SELECT id, k, n, f, a, p, c FROM s WHERE id % 7 = 0;
CREATE MATERIALIZED VIEW middle WITH (weir.continuous) AS
  SELECT k, percentile_cont(0.5) WITHIN GROUP (ORDER BY f), count(DISTINCT c), count(p) AS pairs, max(a) FROM s GROUP BY k;
CREATE MATERIALIZED VIEW both_ways WITH (weir.continuous) AS
  SELECT size, count(*), max(id) FROM (SELECT 'small' AS size, id FROM s WHERE id < 100
    UNION ALL SELECT 'any', id FROM s) u GROUP BY size;
CREATE FUNCTION wrong() RETURNS TABLE (view text, bad bigint) LANGUAGE sql AS $$
  SELECT 'plain', count(*) FROM weir.verify('plain') UNION ALL SELECT 'rows_of', count(*) FROM weir.verify('rows_of')
  UNION ALL SELECT 'middle', count(*) FROM weir.verify('middle') UNION ALL SELECT 'both_ways', count(*) FROM weir.verify('both_ways')
$$;
CREATE FUNCTION fill(first bigint, last bigint, long int) RETURNS void LANGUAGE sql AS $$
  INSERT INTO s SELECT i, CASE WHEN i % 11 > 0 THEN 'key ' || i % 11 END, CASE WHEN i % 5 > 0 THEN i / 100.0 END,
    CASE i % 13 WHEN 0 THEN NULL WHEN 1 THEN float8 'NaN' WHEN 2 THEN float8 '-0' ELSE i END,
    CASE WHEN i % 3 > 0 THEN ARRAY[i, NULL, -i] END, CASE WHEN i % 4 > 0 THEN ROW(i, repeat('x', long))::pair END,
    chr(97 + (i % 26)::int), timestamptz '2024-01-01 00:00+00' + i * interval '1 s'
  FROM generate_series(first, last) i
$$;

-- one row, a few, many; in memory
SELECT fill(1, 1, 3), fill(2, 100, 3), fill(101, 5000, 3);
SELECT * FROM wrong();

-- more than work_mem: the rest goes to a file
SET work_mem = '64kB';
SELECT fill(5001, 15000, 20);
SELECT * FROM wrong();

-- single rows larger than that
SELECT fill(15001, 15008, 300000);
SELECT * FROM wrong();
RESET work_mem;

-- statements that fail leave nothing behind, whether or not their rows were in a file
BEGIN;
SAVEPOINT a;
SELECT fill(20001, 20010, 3);
ROLLBACK TO a;
SET LOCAL work_mem = '64kB';
SAVEPOINT b;
SELECT fill(20011, 24000, 3);
ROLLBACK TO b;
SELECT fill(24001, 24010, 3);
COMMIT;
SELECT count(*), sum(id) FROM s;
SELECT sum(count), sum(ids) FROM plain;
SELECT * FROM wrong();

-- a trigger's transition table may have any name
CREATE TABLE log (n bigint);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN INSERT INTO log SELECT count(*) FROM weir_delta_1; RETURN NULL; END $$;
CREATE TABLE t (x int);
CREATE TRIGGER note AFTER INSERT ON t REFERENCING NEW TABLE AS weir_delta_1 FOR EACH STATEMENT EXECUTE FUNCTION note();
INSERT INTO t SELECT generate_series(1, 5);
SELECT * FROM log;

SET client_min_messages = warning;
DROP SCHEMA delta CASCADE;
