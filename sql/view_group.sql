-- weir's own plan node for grouping: the same results as the executor's, for all types and odd values.
CREATE SCHEMA grp;
SET search_path = grp, public;
SET client_min_messages = warning;

CREATE TYPE mood AS ENUM ('low', 'high');
CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level1', deterministic = false);
CREATE TABLE s (id bigint, i2 int2, i4 int4, i8 int8, n numeric, f4 float4, f8 float8, t text, c char(6), l text COLLATE loose,
    b bool, u uuid, m mood, d date, ts timestamp, iv interval, by bytea, a int[], at timestamptz)
  WITH (weir.stream, weir.event_time = 'at', weir.keep = '100 years');

-- what a view of each shape gives for the same rows, with the node and without
CREATE TABLE shapes (name text, query text);
INSERT INTO shapes VALUES
  ('sums', 'SELECT i4 % 3 AS k, count(*) AS n0, count(n) AS n1, sum(i2) AS s2, sum(i4) AS s4, sum(i8) AS s8, sum(n) AS sn FROM s GROUP BY 1'),
  ('extremes', 'SELECT t, min(i2) AS a, max(i4) AS b, min(i8) AS c, max(n) AS d, min(n) AS e, min(t) AS f, max(d) AS g, max(at) AS h, min(u::text) AS i, max(ts) AS j, min(iv) AS k FROM s GROUP BY t'),
  ('floats', 'SELECT b, sum(f4) AS s4, sum(f8) AS s8, max(f8) AS a, min(f8) AS b1, max(f4) AS c FROM s GROUP BY b'),
  ('bits', 'SELECT m, bool_and(b) AS a, bool_or(b) AS o, bit_and(i4) AS x, bit_or(i8) AS y, sum(iv) AS iv FROM s GROUP BY m'),
  ('windows', 'SELECT window_start, window_end, t, count(*) AS n0, avg(n) AS mean, sum(n) FILTER (WHERE i4 > 0) AS plus FROM s, tumble(at, ''7 minutes'') GROUP BY 1, 2, 3'),
  ('origin', 'SELECT window_end, count(*) AS n0 FROM s, tumble(at, ''1 day 3 hours'', timestamptz ''2024-01-01 05:00+00'') WHERE t <> ''x'' GROUP BY 1'),
  ('months', 'SELECT window_start, count(*) AS n0, max(id) AS m FROM s, tumble(at, ''1 month'') GROUP BY 1'),
  ('hops', 'SELECT window_start, t, count(*) AS n0, sum(n) AS s FROM s, hop(at, ''10 minutes'', ''5 minutes'') GROUP BY 1, 2'),
  ('keys', 'SELECT i2, i8, t, u, m, d, ts, by, b, count(*) AS n0 FROM s GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9'),
  ('odd_keys', 'SELECT n, f8, c, l, a, count(*) AS n0 FROM s GROUP BY 1, 2, 3, 4, 5'),
  ('expressions', 'SELECT upper(t) AS k, d + 1 AS d, sum(i4 * 2 + 1) AS s, count(*) FILTER (WHERE n > 0.5 AND b) AS n1, max(i8 - i4) AS m FROM s WHERE i4 IS DISTINCT FROM 7 GROUP BY 1, 2'),
  ('totals', 'SELECT count(*) AS n0, sum(n) AS s, max(t) AS m, sum(i8) AS s8 FROM s'),
  ('none', 'SELECT t, count(*) AS n0 FROM s WHERE i4 > 1000000 GROUP BY t');
CREATE PROCEDURE make_views() LANGUAGE plpgsql AS $$
DECLARE x shapes;
BEGIN
  FOR x IN SELECT * FROM shapes LOOP
    EXECUTE format('CREATE MATERIALIZED VIEW %I WITH (weir.continuous) AS %s', x.name, x.query);
  END LOOP;
END $$;
CALL make_views();
-- views that differ from their own query, run by the executor
CREATE FUNCTION wrong() RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE x shapes; bad bigint; total bigint;
BEGIN
  FOR x IN SELECT * FROM shapes LOOP
    EXECUTE format('SELECT count(*) FROM ((TABLE %1$I EXCEPT ALL (%2$s)) UNION ALL ((%2$s) EXCEPT ALL TABLE %1$I)) d', x.name, x.query) INTO bad;
    IF bad > 0 THEN RETURN NEXT x.name || ': ' || bad; END IF;
  END LOOP;
END $$;
CREATE PROCEDURE fill(first int, last int) LANGUAGE sql AS $$
  INSERT INTO s SELECT i, (i * 37 % 200 - 100)::int2, CASE WHEN i % 9 > 0 THEN i * 31 % 1000 - 500 END, CASE WHEN i % 8 > 0 THEN (i % 50)::int8 * 123456789012345 END,
    CASE i % 10 WHEN 0 THEN NULL WHEN 1 THEN i / 7.0 WHEN 2 THEN -i WHEN 3 THEN 0.000 WHEN 4 THEN 1234567890123456.123 WHEN 5 THEN -0.00012345 WHEN 6 THEN 10000 * i WHEN 7 THEN 0.5 ELSE i::numeric(12,4) END,
    (i % 100) / 4.0, CASE WHEN i % 7 > 0 THEN (i % 1000) * 0.25 END, CASE WHEN i % 6 > 0 THEN repeat('key ' || i % 5, i % 4) END, (i % 3)::text, (ARRAY['a', 'A', 'b'])[i % 4],
    CASE i % 3 WHEN 0 THEN true WHEN 1 THEN false END, CASE WHEN i % 2 > 0 THEN md5((i % 5)::text)::uuid END, (ARRAY['low', 'high'])[i % 3]::mood,
    date '2024-01-01' + i % 4, timestamp '2024-01-01' + i % 3 * interval '1 h', i % 5 * interval '1 min', decode(lpad(to_hex(i % 3), 2, '0'), 'hex'), ARRAY[i % 2, NULL],
    timestamptz '2024-01-01 00:00+00' + (i * 7919 % 200000) * interval '1 s'
  FROM generate_series(first, last) i
$$;

-- small and large batches
CALL fill(1, 1);
CALL fill(2, 50);
CALL fill(51, 3000);
CALL fill(3001, 15000);
SELECT * FROM wrong();
SELECT n0, s FROM totals;

-- which way they went
SET client_min_messages = debug1;
INSERT INTO s (id, at, t) SELECT i, '2024-01-01 00:00+00', 'q' FROM generate_series(20001, 21500) i;
SET client_min_messages = warning;
SELECT * FROM wrong();

-- values that fixed-point numbers cannot hold, and errors: the executor's results and errors
CREATE TABLE e (k text, n numeric, i8 int8, f8 float8) WITH (weir.stream, weir.keep = '100 years');
CREATE MATERIALIZED VIEW en WITH (weir.continuous) AS SELECT k, sum(n) AS n, sum(i8) AS s8 FROM e GROUP BY k;
CREATE MATERIALIZED VIEW ef WITH (weir.continuous) AS SELECT k, sum(f8) AS f8, max(f8) AS most, min(f8) AS least FROM e GROUP BY k;
SET client_min_messages = debug1;
INSERT INTO e SELECT 'few', 1.5, i, 1 FROM generate_series(1, 1000) i;
INSERT INTO e SELECT 'nan', CASE i WHEN 500 THEN numeric 'NaN' ELSE i END, 1, CASE i WHEN 500 THEN float8 'NaN' ELSE i END FROM generate_series(1, 1000) i;
INSERT INTO e SELECT 'infinite', CASE i WHEN 10 THEN numeric 'Infinity' WHEN 20 THEN numeric '-Infinity' ELSE i END, 1, 1 FROM generate_series(1, 1000) i;
INSERT INTO e SELECT 'long', repeat('9', 60)::numeric + i, 9223372036854775807, 1e300 FROM generate_series(1, 1000) i;
INSERT INTO e SELECT 'fine', 1e-40 * i, -9223372036854775808, -0.0 FROM generate_series(1, 1000) i;
INSERT INTO e SELECT 'scale', 1.00000000000000000000000000000000000000000000000000000000000000000000, NULL, NULL FROM generate_series(1, 1000) i;
INSERT INTO e SELECT 'most', 9999999999999999.999999999999, 9223372036854775807, 0 FROM generate_series(1, 1000) i;
INSERT INTO e SELECT 'over', 1, 1, 1e308 FROM generate_series(1, 1000) i;
SET client_min_messages = warning;
SELECT * FROM en ORDER BY k;
SELECT * FROM ef ORDER BY k;
SELECT count(*) FROM weir.verify('en');
SELECT count(*) FROM weir.verify('ef');

-- more groups than may be in memory; compressed keys
SET log_temp_files = -1;
CREATE TABLE compressed AS SELECT repeat('long ' || i, 1000) AS k FROM generate_series(1, 20) i;
INSERT INTO compressed SELECT k || '' FROM compressed;
SET work_mem = '64kB';
SET hash_mem_multiplier = 1;
SET client_min_messages = debug1;
INSERT INTO e SELECT repeat('long ' || i, 100), i, i FROM generate_series(1, 1000) i;
SET client_min_messages = warning;
RESET work_mem;
RESET hash_mem_multiplier;
SELECT count(*) FROM weir.verify('en');
SET client_min_messages = debug1;
INSERT INTO e SELECT k, i, i FROM compressed, generate_series(1, 50) i;
SET client_min_messages = warning;
SELECT count(*) FROM weir.verify('en');

-- without it
SET weir.fast_grouping = off;
SET client_min_messages = debug1;
INSERT INTO e SELECT 'off', i, i, i FROM generate_series(1, 1000) i;
SET client_min_messages = warning;
RESET weir.fast_grouping;
SELECT * FROM en WHERE k = 'off';

DROP SCHEMA grp CASCADE;
