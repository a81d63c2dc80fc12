-- Sessions with aggregates that do not merge: count(DISTINCT), array_agg(... ORDER BY), percentiles, weir.first ...
-- The view keeps what they need of each row. Cases by hand, what goes when, and random rows against a model,
-- in one statement, row by row and in random batches.
SET timezone = 'UTC';
SET intervalstyle = 'postgres';
SET client_min_messages = warning;

CREATE SCHEMA session_rows_test;
SET search_path = session_rows_test, public;

CREATE FUNCTION ms(bigint) RETURNS timestamptz LANGUAGE sql IMMUTABLE
  AS $$ SELECT timestamptz '1970-01-01 00:00:00+00' + $1 * interval '1 ms' $$;
CREATE FUNCTION ms(timestamptz) RETURNS bigint LANGUAGE sql IMMUTABLE
  AS $$ SELECT (extract(epoch FROM $1) * 1000)::bigint $$;
-- how many rows a view keeps for its aggregates
CREATE FUNCTION kept(view regclass) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE n bigint;
BEGIN
  EXECUTE format('SELECT count(*) FROM %s', (SELECT distinct_values FROM weir.view_def v WHERE v.view = kept.view)) INTO n;
  RETURN n;
END $$;

-- sessions grow, begin earlier, become one; the stream keeps no rows at all
CREATE TABLE s (ts timestamptz, k text, v int) WITH (weir.stream, weir.event_time = 'ts', weir.idle_timeout = 'off', weir.keep = '0');
CREATE MATERIALIZED VIEW v WITH (weir.continuous) AS
  SELECT k, window_start, window_end, count(*) AS n, count(DISTINCT v) AS d, string_agg(v::text, ',' ORDER BY ts DESC) AS l
  FROM s, session(ts, '10 s') GROUP BY k, window_start, window_end;
CREATE TABLE log (n serial, op text, row text);
CREATE FUNCTION log() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO session_rows_test.log (op, row) VALUES (tg_op, CASE WHEN tg_op = 'DELETE' THEN format('%s[%s', old.k, session_rows_test.ms(old.window_start))
    ELSE format('%s[%s..%s]=%s %s %s', new.k, session_rows_test.ms(new.window_start), session_rows_test.ms(new.window_end), new.n, new.d, new.l) END);
  RETURN NULL;
END $$;
CREATE TRIGGER log AFTER INSERT OR UPDATE OR DELETE ON v FOR EACH ROW EXECUTE FUNCTION log();
INSERT INTO s VALUES (ms(20000), 'a', 1), (ms(21000), 'a', 1), (ms(40000), 'a', 2), (ms(40000), NULL, 2);
INSERT INTO s VALUES (ms(25000), 'a', 5);	-- at the end
INSERT INTO s VALUES (ms(12000), 'a', 2);	-- at the front
INSERT INTO s VALUES (ms(33000), 'a', 7), (ms(49000), NULL, NULL);	-- in between: one session
BEGIN;
INSERT INTO s VALUES (ms(50000), 'a', 9);
SAVEPOINT x;
INSERT INTO s VALUES (ms(51000), 'a', 10);
ROLLBACK TO x;
INSERT INTO s VALUES (ms(52000), 'a', 11);
COMMIT;
INSERT INTO s SELECT ms(0), 'a', 1 WHERE false;
SELECT op, row FROM log ORDER BY n;
SELECT k, ms(window_start), ms(window_end), n, d, l FROM v ORDER BY 1;
SELECT kept('v');
SELECT regexp_replace(line, 'values_\d+', 'values_N') AS line FROM weir.explain('v') line WHERE line ~ '^(strategy|why|rows kept|cost)' ORDER BY 1;
DROP TABLE s CASCADE;
SELECT count(*) FROM pg_class WHERE relnamespace = 'weir'::regnamespace AND relname LIKE 'values%';

-- whatever else does not merge; NULLs, FILTER, keys of types without a hash, no key, timestamps without time zone, a key that is not shown
CREATE AGGREGATE joined_text(text) (sfunc = textcat, stype = text, initcond = '>');
CREATE TABLE s (ts timestamptz, k int, b bit(3), v int, t text, j jsonb) WITH (weir.stream, weir.event_time = 'ts', weir.idle_timeout = 'off', weir.keep = '1 day');
CREATE TABLE names (k int PRIMARY KEY, name text);
INSERT INTO names VALUES (1, 'one'), (2, 'two');
CREATE MATERIALIZED VIEW many WITH (weir.continuous) AS
  SELECT k, b, window_start, window_end - window_start AS length, percentile_cont(0.5) WITHIN GROUP (ORDER BY v) AS median,
    percentile_disc(coalesce(k, 0) / 10.0) WITHIN GROUP (ORDER BY v DESC) AS by_key, mode() WITHIN GROUP (ORDER BY t) AS usual, rank(3) WITHIN GROUP (ORDER BY v) AS place,
    weir.first(t) AS first, weir.last(t) AS last, weir.list(v, 2) AS list, weir.first(v ORDER BY t) AS least_t,
    array_agg(v) AS a, array_agg(DISTINCT t) AS dt, json_agg(j) AS js, jsonb_object_agg(coalesce(t, '?'), v) AS jo,
    count(DISTINCT (v, t)) AS pairs, sum(DISTINCT v) FILTER (WHERE v > 1) AS s, array_agg(ROW(v, t)::text) FILTER (WHERE t IS NOT NULL) AS r,
    joined_text(t) AS own, count(DISTINCT j) + count(*) AS more, sum(v) AS plain, avg(v) AS mean
  FROM s, session(ts, '10 s') GROUP BY k, b, window_start, window_end;
CREATE MATERIALIZED VIEW global WITH (weir.continuous) AS SELECT window_start, count(DISTINCT k) AS users, array_agg(DISTINCT k) AS ks FROM s, session(ts, '10 s') GROUP BY window_start;
CREATE MATERIALIZED VIEW plain WITH (weir.continuous) AS
  SELECT w.window_start, w.window_end, s.t, count(DISTINCT v) AS d, string_agg(v::text, '-') AS l FROM (SELECT ts AT TIME ZONE 'UTC' AS at, * FROM s) s, session(at, '10 s') w GROUP BY 1, 2, 3;
CREATE MATERIALIZED VIEW hidden WITH (weir.continuous, weir.emit = 'final') AS SELECT count(DISTINCT v) AS d, array_agg(v ORDER BY v) AS a FROM s, session(ts, '10 s') GROUP BY k, window_start;
CREATE MATERIALIZED VIEW qualified WITH (weir.continuous) AS
  SELECT k, window_start, count(*) AS n, string_agg(t, ',' ORDER BY t, v) AS l FROM s, session(ts, '10 s') GROUP BY k, window_start HAVING count(DISTINCT v) BETWEEN 2 AND 3;
CREATE MATERIALIZED VIEW only_having WITH (weir.continuous, weir.emit = 'final') AS
  SELECT k, window_start, count(*) AS n FROM s, session(ts, '10 s') GROUP BY k, window_start HAVING count(DISTINCT v) > 1;
CREATE MATERIALIZED VIEW named WITH (weir.continuous) AS
  WITH short AS (SELECT k, upper(name) AS name FROM names)
  SELECT name, window_start, array_agg(DISTINCT (SELECT short.name FROM short WHERE short.k = s.v)) AS a, (SELECT count(*) FROM names n WHERE n.k <= count(DISTINCT v)) AS c
  FROM s LEFT JOIN names USING (k), session(ts, '10 s') GROUP BY name, window_start;
CREATE MATERIALIZED VIEW both_arms WITH (weir.continuous) AS
  SELECT k, window_start, array_agg(v ORDER BY v) AS a FROM (SELECT ts, k, v FROM s WHERE v > 1 UNION ALL SELECT ts, k, -v FROM s WHERE v < 3) x, session(ts, '10 s') GROUP BY 1, 2;
INSERT INTO s VALUES (ms(1000), 1, B'101', 3, 'x', '{"a": 1.0}'), (ms(2000), 1, B'101', 1, NULL, '{"a": 1.00}'), (ms(1500), NULL, NULL, 2, 'y', NULL);
INSERT INTO s SELECT ms(i * 1700 % 40000), nullif(i % 3, 0), CASE WHEN i % 2 = 0 THEN B'011' END, nullif(i % 5, 4), nullif('t' || i % 4, 't3'), jsonb_build_object('n', i % 2) FROM generate_series(1, 12) i;
INSERT INTO s SELECT ms(i * 1300 % 60000), nullif(i % 3, 0), CASE WHEN i % 2 = 0 THEN B'011' END, nullif(i % 5, 4), nullif('t' || i % 4, 't3'), jsonb_build_object('n', i % 2) FROM generate_series(13, 40) i;
INSERT INTO s VALUES (ms(200000), 1, NULL, 1, 'end', NULL);
SELECT k, b, ms(window_start), length, median, by_key, usual, place, first, last, list, least_t, a, dt FROM many ORDER BY k, b, 3;
SELECT k, b, ms(window_start), js, jo, pairs, s, r, own, more, plain, round(mean, 2) AS mean FROM many WHERE k = 1 ORDER BY k, b, 3;
SELECT ms(window_start), users, ks FROM global ORDER BY 1;
SELECT * FROM hidden ORDER BY a;
SELECT k, ms(window_start), n, l FROM qualified ORDER BY 1, 2;
SELECT name, ms(window_start), a, c FROM named ORDER BY 1, 2;
SELECT v, w.* FROM unnest('{many,global,plain,hidden,qualified,only_having,named,both_arms}'::regclass[]) v, weir.verify(v) w;
-- finals have nothing to keep once they are closed
SELECT kept('hidden') AS hidden, kept('only_having') AS only_having, kept('many') = (SELECT count(*) FROM s) AS many;
-- REFRESH from the kept rows; a view over one of them; another query in its place
REFRESH MATERIALIZED VIEW many;
REFRESH MATERIALIZED VIEW hidden;
REFRESH MATERIALIZED VIEW qualified;
CREATE MATERIALIZED VIEW above WITH (weir.continuous) AS SELECT users, count(*) AS n FROM global GROUP BY users;
SELECT weir.replace('qualified', 'SELECT k, window_start, count(*) AS n, string_agg(t, ''/'' ORDER BY t, v) AS l FROM s, session(ts, ''5 s'') GROUP BY k, window_start HAVING count(DISTINCT v) BETWEEN 2 AND 3');
ALTER TABLE s RENAME COLUMN v TO value;
INSERT INTO s VALUES (ms(204000), 1, NULL, 2, 'end', NULL), (ms(204000), 2, NULL, 3, 'end', NULL);
SELECT v, w.* FROM unnest('{many,global,plain,hidden,qualified,only_having,named,both_arms,above}'::regclass[]) v, weir.verify(v) w;
SELECT kept('many') = (SELECT count(*) FROM s) AS many;
DROP TABLE s, names CASCADE;

-- weir.keep of the view: what is forgotten goes with its rows, and no row of others
CREATE TABLE s (ts timestamptz, k int, v int) WITH (weir.stream, weir.event_time = 'ts', weir.idle_timeout = 'off', weir.keep = '100 days');
CREATE MATERIALIZED VIEW short WITH (weir.continuous, weir.keep = '1 hour') AS SELECT k, window_start, window_end, count(*) AS n, count(DISTINCT v) AS d FROM s, session(ts, '1 hour') GROUP BY 1, 2, 3;
INSERT INTO s SELECT ms(i * 1800000), i % 2, i % 3 FROM generate_series(1, 4) i;	-- a long session of each key
INSERT INTO s SELECT ms(200 * 3600000 + i * 60000), i % 2, i % 5 FROM generate_series(1, 10) i;
INSERT INTO s SELECT ms(i * 1800000), 0, i FROM generate_series(402, 500) i;
SELECT k, ms(window_start), n, d FROM short ORDER BY 1, 2;
SELECT kept('short');
INSERT INTO s VALUES (ms(252 * 3600000), 1, 1);
SELECT kept('short');
SELECT * FROM weir.verify('short');
DROP TABLE s CASCADE;

-- what cannot be
CREATE TABLE names (n text);
CREATE TABLE s (ts timestamptz, k int, v int) WITH (weir.stream, weir.event_time = 'ts', weir.idle_timeout = 'off');
CREATE MATERIALIZED VIEW v WITH (weir.continuous) AS SELECT window_start, count(DISTINCT x) FROM (SELECT ts, k FROM s) x, session(ts, '1 s') GROUP BY 1;
CREATE MATERIALIZED VIEW v WITH (weir.continuous) AS SELECT window_start, json_agg(s) FROM s, session(ts, '1 s') GROUP BY 1;
CREATE MATERIALIZED VIEW v WITH (weir.continuous) AS SELECT window_start, max(s::text) FROM s, session(ts, '1 s') GROUP BY 1;
CREATE MATERIALIZED VIEW v WITH (weir.continuous) AS SELECT window_start, count(DISTINCT names) FROM s JOIN names ON true, session(ts, '1 s') GROUP BY 1;
CREATE MATERIALIZED VIEW v WITH (weir.continuous) AS SELECT window_start, array_agg(v ORDER BY window_end) FROM s, session(ts, '1 s') GROUP BY 1;
CREATE MATERIALIZED VIEW v WITH (weir.continuous) AS SELECT window_start, k, row_number() OVER (PARTITION BY k) FROM s, session(ts, '1 s') GROUP BY 1, 2;
CREATE MATERIALIZED VIEW v WITH (weir.continuous) AS SELECT DISTINCT window_start, count(DISTINCT v) FROM s, session(ts, '1 s') GROUP BY 1;
DROP TABLE s, names CASCADE;

-- random rows, with late ones, in one statement, row by row and in random batches, against a replay of the rule
CREATE TABLE r (id serial PRIMARY KEY, ts timestamptz, k text, v int, c text);
CREATE TABLE whole (id int, ts timestamptz, k text, v int, c text) WITH (weir.stream, weir.event_time = 'ts', weir.idle_timeout = 'off', weir.keep = '10 years');
CREATE TABLE rowwise (id int, ts timestamptz, k text, v int, c text) WITH (weir.stream, weir.event_time = 'ts', weir.idle_timeout = 'off', weir.keep = '10 years');
CREATE TABLE batches (id int, ts timestamptz, k text, v int, c text) WITH (weir.stream, weir.event_time = 'ts', weir.idle_timeout = 'off', weir.keep = '10 years');
CREATE TABLE shapes (name text, options text, gap interval, lateness interval, final boolean, query text);
INSERT INTO shapes VALUES
  ('open', NULL, '5 s', NULL, false, 'k, $W, count(*) AS n, count(DISTINCT v) AS d, string_agg(c, '','' ORDER BY $O) AS l, percentile_cont(0.25) WITHIN GROUP (ORDER BY v) AS p, sum(v) AS s'),
  ('late', 'weir.lateness = ''7 s''', '5 s', '7 s', false, 'k, $W, array_agg(v ORDER BY c, v) AS a, mode() WITHIN GROUP (ORDER BY c) AS m, weir.first(v$B) AS f, weir.last(c$B) AS la, max(v) AS x'),
  ('final', 'weir.emit = ''final''', '5 s', '0 s', true, 'k, $W, count(DISTINCT c) AS d, weir.list(v, 3$B) AS li, json_agg(v$B)::text AS j, avg(v) AS a'),
  ('late_final', 'weir.emit = ''final'', weir.lateness = ''4 s''', '3 s', '4 s', true, 'k, $W, sum(DISTINCT v) FILTER (WHERE c <> ''a'') AS d, count(*) AS n'),
  ('qualified', NULL, '5 s', NULL, false, 'k, $W, array_agg(DISTINCT c) AS n, min(v) AS m');
CREATE FUNCTION session_query(name text, of text) RETURNS text LANGUAGE sql AS $$
  SELECT format('SELECT %s FROM %s, session(ts, %L) GROUP BY k, window_start, window_end%s',
    replace(replace(replace(query, '$W', 'window_start, window_end'), '$O', 'ts, id'), '$B', ''), of, gap, CASE WHEN $1 = 'qualified' THEN ' HAVING count(DISTINCT v) > 2' ELSE '' END)
  FROM session_rows_test.shapes s WHERE s.name = $1 $$;
-- which rows are in which session: the rule, one row after the other
CREATE FUNCTION replay(gap interval, lateness interval, final boolean) RETURNS TABLE (id int, first timestamptz, until timestamptz) LANGUAGE plpgsql AS $$
DECLARE
  x record; stream_time timestamptz; lo timestamptz; hi timestamptz; rows int[]; closed boolean;
BEGIN
  CREATE TEMP TABLE IF NOT EXISTS model (k text, a timestamptz, b timestamptz, ids int[]);
  DELETE FROM model;
  FOR x IN SELECT * FROM session_rows_test.r ORDER BY r.id LOOP
    stream_time := greatest(stream_time, x.ts);
    SELECT min(a), max(b), array_agg(i), bool_or(b + gap + lateness < stream_time) INTO lo, hi, rows, closed
      FROM model m LEFT JOIN LATERAL unnest(m.ids) i ON true WHERE m.k IS NOT DISTINCT FROM x.k AND x.ts BETWEEN a - gap AND b + gap;
    CONTINUE WHEN closed OR greatest(hi, x.ts) + gap + lateness < stream_time;
    DELETE FROM model m WHERE m.k IS NOT DISTINCT FROM x.k AND x.ts BETWEEN a - gap AND b + gap;
    INSERT INTO model VALUES (x.k, least(lo, x.ts), greatest(hi, x.ts), coalesce(rows, '{}') || x.id);
  END LOOP;
  RETURN QUERY SELECT i, a, b + gap FROM model m, unnest(m.ids) i WHERE NOT final OR b + gap + lateness < stream_time;
END $$;
DO $$
DECLARE s record; o text;
BEGIN
  FOR s IN SELECT * FROM session_rows_test.shapes LOOP
    FOREACH o IN ARRAY '{whole,rowwise,batches}'::text[] LOOP
      EXECUTE format('CREATE MATERIALIZED VIEW %s_%s WITH (%s) AS %s', s.name, o, concat_ws(', ', 'weir.continuous', s.options), session_rows_test.session_query(s.name, o));
    END LOOP;
  END LOOP;
END $$;
CREATE FUNCTION check_all() RETURNS TABLE (view text, problem text) LANGUAGE plpgsql AS $$
DECLARE s record; o text; n bigint; model text;
BEGIN
  FOR s IN SELECT * FROM session_rows_test.shapes LOOP
    EXECUTE format('CREATE TEMP TABLE m ON COMMIT DROP AS SELECT %s FROM session_rows_test.r JOIN session_rows_test.replay(%L, %L, %L) USING (id) GROUP BY k, first, until%s',
      replace(replace(replace(s.query, '$W', 'first, until'), '$O', 'ts, id'), '$B', ' ORDER BY id'), s.gap, s.lateness, s.final, CASE WHEN s.name = 'qualified' THEN ' HAVING count(DISTINCT v) > 2' ELSE '' END);
    FOREACH o IN ARRAY '{whole,rowwise,batches}'::text[] LOOP
      EXECUTE format('SELECT count(*) FROM ((TABLE session_rows_test.%1$s_%2$s EXCEPT ALL TABLE m) UNION ALL (TABLE m EXCEPT ALL TABLE session_rows_test.%1$s_%2$s)) x', s.name, o) INTO n;
      IF n > 0 THEN
        view := s.name || '_' || o; problem := n || ' rows differ from the model'; RETURN NEXT;
      END IF;
      FOR problem IN SELECT side || ' ' || record FROM weir.verify(format('session_rows_test.%s_%s', s.name, o)::regclass) LIMIT 3 LOOP
        view := s.name || '_' || o; RETURN NEXT;
      END LOOP;
    END LOOP;
    DROP TABLE m;
  END LOOP;
END $$;
CREATE PROCEDURE rounds(seed float8, n int, speed int) LANGUAGE plpgsql AS $$
DECLARE
  base int := (SELECT coalesce(max(extract(epoch FROM ts)), 0) FROM session_rows_test.r); before int := (SELECT coalesce(max(id), 0) FROM session_rows_test.r); x record;
BEGIN
  PERFORM setseed(seed);
  FOR b IN 1..n LOOP
    base := base + (random() * speed)::int;
    WITH x AS (
      INSERT INTO session_rows_test.r (ts, k, v, c)
        SELECT timestamptz 'epoch' + (base + random() * 20 - CASE WHEN random() < .1 THEN 40 * random() ELSE 0 END)::int * interval '1 s',
               (array['a', 'b', 'c', NULL])[1 + (random() * 3.99)::int], nullif((random() * 6)::int, 6), (array['a', 'b', 'c', NULL])[1 + (random() * 3.99)::int]
        FROM generate_series(1, 1 + (random() * random() * 30)::int) RETURNING *)
    INSERT INTO session_rows_test.batches SELECT id, ts, k, v, c FROM (SELECT * FROM x ORDER BY id) y;
    COMMIT;
  END LOOP;
  INSERT INTO session_rows_test.whole SELECT id, ts, k, v, c FROM session_rows_test.r WHERE id > before ORDER BY id;
  COMMIT;
  FOR x IN SELECT * FROM session_rows_test.r WHERE id > before ORDER BY id LOOP
    INSERT INTO session_rows_test.rowwise VALUES (x.id, x.ts, x.k, x.v, x.c);
    COMMIT;
  END LOOP;
END $$;
CALL rounds(0.1, 40, 4);
SELECT * FROM check_all();
CALL rounds(0.2, 20, 15);
CALL rounds(0.3, 20, 1);
SELECT * FROM check_all();
SELECT (SELECT count(*) FROM r) > 400 AS rows, (SELECT max(n) FROM open_whole) > 5 AS long, (SELECT count(*) FROM final_whole) > 20 AS closed,
  (SELECT min(late) FROM weir.stat_views WHERE view IN ('late_whole'::regclass, 'final_whole'::regclass)) > 10 AS late;
-- REFRESH, and go on
DO $$
DECLARE v regclass;
BEGIN
  FOR v IN SELECT view FROM weir.views WHERE view::text ~ '(whole|batches)$' LOOP
    EXECUTE format('REFRESH MATERIALIZED VIEW %s', v);
  END LOOP;
END $$;
SELECT * FROM check_all();
CALL rounds(0.4, 20, 4);
SELECT * FROM check_all();

-- rows that arrived as one: two arms over a stream, and a row that meets many of a table
CREATE TABLE one (k int, v int, at timestamptz) WITH (weir.stream, weir.event_time = 'at', weir.idle_timeout = 'off', weir.keep = '1 day');
CREATE TABLE met (k int, n int);
INSERT INTO met SELECT 1, (g * 7) % 12 FROM generate_series(1, 12) g;
CREATE MATERIALIZED VIEW two_arms WITH (weir.continuous) AS SELECT k, window_start, array_agg(v) AS a, weir.first(v) AS f
  FROM (SELECT k, v + 1 AS v, at FROM one UNION ALL SELECT k, v, at FROM one) u, session(at, '5 s') GROUP BY k, window_start;
CREATE MATERIALIZED VIEW meets WITH (weir.continuous) AS SELECT one.k, window_start, string_agg(n::text, ',') AS a, weir.last(n) AS l
  FROM one JOIN met ON met.k = one.k, session(one.at, '5 s') GROUP BY one.k, window_start;
INSERT INTO one VALUES (1, 10, '2025-01-01 00:00:00Z'), (1, 30, '2025-01-01 00:00:01Z');
INSERT INTO one SELECT 1, 100 - g, timestamptz '2025-01-01Z' + (60 - g) * interval '1 s' FROM generate_series(1, 57) g;
INSERT INTO one VALUES (1, 20, '2025-01-01 00:05:00Z');
SELECT window_start, a[1:6] AS a, f FROM two_arms ORDER BY 1;
SELECT window_start, left(a, 52) AS a, l FROM meets ORDER BY 1;
SELECT count(*) FROM weir.verify('two_arms');
SELECT count(*) FROM weir.verify('meets');

DROP SCHEMA session_rows_test CASCADE;
