-- Group keys and aggregates of every kind of type.
SET client_min_messages = warning;
CREATE SCHEMA view_types;
SET search_path = view_types, public;
SET TimeZone = 'UTC';
CREATE EXTENSION IF NOT EXISTS citext SCHEMA public;
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE TYPE pair AS (x int, y text);
CREATE DOMAIN positive AS int CHECK (VALUE > 0);

CREATE TABLE ev (
  id int, c citext, m mood, u uuid, j jsonb, arr int[], r int4range, p pair, mo money, bits bit(8), pos positive,
  bin bytea, f float8, n numeric, t text COLLATE "C", ch char(4), vc varchar(5), ip inet, iv interval, tod time, oo oid,
  js json, ts timestamptz
) WITH (weir.stream, weir.event_time = 'ts', weir.keep = '1 hour');

CREATE FUNCTION gen(a int, b int) RETURNS SETOF ev LANGUAGE sql AS $$
  SELECT g, (ARRAY['Abc','aBC','x','X',NULL])[1 + g % 5]::citext, (ARRAY['sad','ok','happy',NULL])[1 + g % 4]::mood,
         ('00000000-0000-0000-0000-00000000000' || g % 5)::uuid, jsonb_build_object('a', g % 3), ARRAY[g % 2, g % 3],
         int4range(g % 5, 10 + g % 3), ROW(g % 2, 'q')::pair, (g % 100)::money, (g % 256)::bit(8), (1 + g % 3)::positive,
         decode(lpad(to_hex(g % 3), 2, '0'), 'hex'), (ARRAY['0','-0','NaN','Infinity','1.5'])[1 + g % 5]::float8,
         (ARRAY['1.0','1.00','NaN','Infinity','2'])[1 + g % 5]::numeric, chr(65 + g % 4), 'c' || g % 3, 'v' || g % 3,
         ('10.0.0.' || g % 4)::inet, ((g % 4) || ' days')::interval, '12:00'::time + (g % 3) * interval '1 min', (g % 3)::oid,
         json_build_object('b', g % 2), '2026-01-01Z'::timestamptz + (g % 60) * interval '1 s'
    FROM generate_series(a, b) g $$;

CREATE TABLE queries (name text PRIMARY KEY, query text NOT NULL);
-- every type as a key
INSERT INTO queries SELECT 'k_' || attname, format('SELECT %I AS key, count(*) AS n, min(id) AS first FROM ev GROUP BY %1$I', attname)
  FROM pg_attribute WHERE attrelid = 'ev'::regclass AND attnum > 0 AND attname NOT IN ('js', 'id');
INSERT INTO queries VALUES
('k_many', 'SELECT c, m, arr, p, r, n, count(*) AS cnt FROM ev GROUP BY c, m, arr, p, r, n'),
('a_minmax', 'SELECT id % 3 AS k, min(c) AS a, max(m) AS b, min(arr) AS d, max(n) AS e, min(f) AS f, max(t) AS g, min(ip) AS h, max(iv) AS i, min(tod) AS j, max(ch) AS l, min(vc) AS q, max(oo) AS o FROM ev GROUP BY 1'),
('a_sum', 'SELECT id % 3 AS k, sum(mo) AS a, sum(iv) AS b, avg(iv) AS c, sum(pos) AS d, avg(pos) AS e, bit_and(bits) AS g, bit_or(bits) AS h, bit_xor(bits) AS i FROM ev GROUP BY 1'),
('a_numeric', 'SELECT id % 4 AS k, sum(n) AS a, avg(n) AS b, max(n) AS c, stddev(n) AS d FROM ev GROUP BY 1'),
('a_range', 'SELECT id % 3 AS k, range_intersect_agg(r) AS r FROM ev GROUP BY 1'),
-- operators that stand in the query only by name: citext has its own
('o_citext', 'SELECT c, count(nullif(c, ''abc'')) AS a, count(*) FILTER (WHERE c IS DISTINCT FROM ''X'') AS b,
              sum(CASE c WHEN ''ABC'' THEN 1 ELSE 0 END) AS d, count(*) FILTER (WHERE c IN (''aBc'', ''x'')) AS e FROM ev GROUP BY c'),
('o_using', 'SELECT name, count(*) AS n FROM ev JOIN names USING (c) GROUP BY name'),
('o_in', 'SELECT id % 2 AS k, count(*) AS n FROM ev WHERE c IN (SELECT c FROM names) GROUP BY 1'),
('j_json', 'SELECT id, js, ts FROM ev WHERE id < 50');
CREATE TABLE names (c citext, name text);
INSERT INTO names VALUES ('ABC', 'letters'), ('X', 'ex');

DO $$ DECLARE q record; BEGIN
  FOR q IN SELECT * FROM queries ORDER BY name LOOP
    EXECUTE format('CREATE MATERIALIZED VIEW %I WITH (weir.continuous) AS %s', q.name, q.query);
  END LOOP;
END $$;
CREATE FUNCTION wrong() RETURNS TABLE (view text, how text, rows bigint) LANGUAGE plpgsql AS $$
DECLARE q record;
BEGIN
  FOR q IN SELECT * FROM queries ORDER BY name LOOP
    view := q.name;
    IF q.name <> 'j_json' THEN
      how := 'query';
      EXECUTE format('SELECT count(*) FROM ((TABLE %1$I EXCEPT ALL (%2$s)) UNION ALL ((%2$s) EXCEPT ALL TABLE %1$I)) x',
                     q.name, q.query) INTO rows;
      IF rows > 0 THEN RETURN NEXT; END IF;
    END IF;
    how := 'verify';
    EXECUTE format('SELECT count(*) FROM weir.verify(%L)', q.name) INTO rows;
    IF rows > 0 THEN RETURN NEXT; END IF;
  END LOOP;
END $$;
INSERT INTO ev SELECT * FROM gen(1, 7);
INSERT INTO ev SELECT * FROM gen(8, 100);
INSERT INTO ev (id, ts) VALUES (0, '2026-01-01Z');
DO $$ BEGIN FOR i IN 101..120 LOOP INSERT INTO ev SELECT * FROM gen(i, i); END LOOP; END $$;
SELECT * FROM wrong();
SELECT * FROM k_c ORDER BY key;
SELECT * FROM k_m ORDER BY key;
SELECT * FROM o_citext ORDER BY c;

-- a collation that ignores case (where the server has ICU and the database is UTF8): one group for both cases
CREATE TABLE ci_result (groups bigint, rows numeric);
DO $$
BEGIN
  CREATE COLLATION ci (PROVIDER = icu, LOCALE = 'und-u-ks-level2', DETERMINISTIC = false);
  CREATE TABLE ci_stream (k text COLLATE ci, ts timestamptz) WITH (weir.stream, weir.event_time = 'ts');
  CREATE MATERIALIZED VIEW ci_view WITH (weir.continuous) AS SELECT k, count(*) AS n FROM ci_stream GROUP BY k;
  INSERT INTO ci_stream VALUES ('Abc', '2026-01-01Z'), ('x', '2026-01-01Z'), (NULL, '2026-01-01Z');
  INSERT INTO ci_stream VALUES ('aBC', '2026-01-01Z'), ('X', '2026-01-01Z'), (NULL, '2026-01-01Z'), ('ABC', '2026-01-01Z');
  INSERT INTO ci_result SELECT count(*), sum(n) FROM ci_view;
EXCEPTION WHEN feature_not_supported OR invalid_parameter_value OR undefined_object THEN
  INSERT INTO ci_result VALUES (3, 7);
END $$;
TABLE ci_result;

-- a composite key of NULLs is not NULL
CREATE TABLE pairs (p pair, v int, ts timestamptz) WITH (weir.stream, weir.event_time = 'ts', weir.keep = '100 years');
CREATE MATERIALIZED VIEW pairs_listed WITH (weir.continuous) AS SELECT p, array_agg(v ORDER BY v) AS v FROM pairs GROUP BY p;
CREATE MATERIALIZED VIEW pairs_many WITH (weir.continuous) AS SELECT p, count(*) AS n FROM pairs GROUP BY p HAVING count(*) < 2;
CREATE MATERIALIZED VIEW pairs_visits WITH (weir.continuous) AS SELECT p, window_start, count(*) AS n FROM pairs, session(ts, '1 day') GROUP BY p, window_start;
INSERT INTO pairs VALUES (NULL, 1, '2026-01-01Z');
INSERT INTO pairs VALUES ('(,)', 2, '2026-01-01Z');
INSERT INTO pairs VALUES ('(1,)', 3, '2026-01-01Z');
INSERT INTO pairs VALUES ('(,)', 4, '2026-01-01Z');
SELECT * FROM pairs_listed ORDER BY p;
SELECT * FROM pairs_many ORDER BY p;
SELECT p, n FROM pairs_visits ORDER BY p;
SELECT * FROM weir.verify('pairs_listed') UNION ALL SELECT * FROM weir.verify('pairs_many') UNION ALL SELECT * FROM weir.verify('pairs_visits');

-- windows of a size that a column gives, and of none
CREATE MATERIALIZED VIEW pairs_sized WITH (weir.continuous) AS
  SELECT window_start, window_end, count(*) AS n FROM pairs, tumble(ts, make_interval(days => (p).x)) GROUP BY 1, 2;
INSERT INTO pairs VALUES (NULL, 5, '2026-01-01Z'), ('(1,)', 6, '2026-01-01Z'), ('(2,)', 7, '2026-01-01Z');
SELECT * FROM pairs_sized ORDER BY 1, 2;
SELECT * FROM weir.verify('pairs_sized');

-- types that cannot be keys: PostgreSQL says so itself
CREATE MATERIALIZED VIEW bad WITH (weir.continuous) AS SELECT js, count(*) FROM ev GROUP BY js;
CREATE TABLE geo (p point, x xid, ts timestamptz) WITH (weir.stream, weir.event_time = 'ts');
CREATE MATERIALIZED VIEW bad WITH (weir.continuous) AS SELECT p, count(*) FROM geo GROUP BY p;
CREATE MATERIALIZED VIEW bad WITH (weir.continuous) AS SELECT x, count(*) FROM geo GROUP BY x;
DROP SCHEMA view_types CASCADE;
