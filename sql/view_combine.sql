-- Views with aggregates: a view equals its own query, however the rows come.
SET client_min_messages = warning;
CREATE SCHEMA view_combine;
SET search_path = view_combine, public;
SET TimeZone = 'UTC';

CREATE TABLE ev (
  id bigint, i2 smallint, i4 int, i8 bigint, n numeric, f4 real, f8 double precision,
  t text, b boolean, ts timestamptz, tsn timestamp, d date, iv interval, arr int[]
) WITH (weir.stream, weir.event_time = 'ts', weir.keep = '10 days');

CREATE TABLE dim (k text PRIMARY KEY, name text, factor int);
INSERT INTO dim SELECT 'k' || g, 'name' || g % 3, g FROM generate_series(1, 5) g;
CREATE VIEW positive AS SELECT * FROM ev WHERE i4 > 0;
CREATE VIEW doubled AS SELECT t AS key, n * 2 AS twice, ts FROM positive;

-- Rows number a to b. Floats are multiples of 1/4, so their sums are exact.
CREATE FUNCTION gen(a int, b int) RETURNS SETOF ev LANGUAGE sql AS $$
  SELECT g, (g * 37 % 101)::int2, (g * 7919 % 1009) - 500, g::int8 * 1000000007 % 999999999989,
         ((g * 104729 % 100003)::numeric / 1000)::numeric(10,3),
         ((g * 31 % 64) / 4.0)::real, (g * 17 % 256) / 4.0,
         CASE WHEN g % 11 = 0 THEN NULL ELSE 'k' || (g * 13 % 7) END,
         (ARRAY[true, false, NULL])[1 + g % 3],
         '2026-01-01 00:00+00'::timestamptz + (g * 7907 % 86400) * interval '1 s',
         '2026-01-01 00:00'::timestamp + (g * 7907 % 86400) * interval '1 s',
         '2026-01-01'::date + g % 5, (g * 3 % 19) * interval '10 min',
         ARRAY[g % 3, g % 2]
    FROM generate_series(a, b) g $$;

-- Aggregates of users: one whose result is its state, one with a state of its own.
CREATE FUNCTION times(float8, float8) RETURNS float8 LANGUAGE sql IMMUTABLE STRICT AS 'SELECT $1 * $2';
CREATE AGGREGATE product(float8) (SFUNC = times, STYPE = float8, COMBINEFUNC = times);
CREATE FUNCTION mean_step(numeric[], numeric) RETURNS numeric[] LANGUAGE sql IMMUTABLE AS
  'SELECT ARRAY[$1[1] + coalesce($2, 0), $1[2] + ($2 IS NOT NULL)::int]';
CREATE FUNCTION mean_merge(numeric[], numeric[]) RETURNS numeric[] LANGUAGE sql IMMUTABLE AS
  'SELECT ARRAY[$1[1] + $2[1], $1[2] + $2[2]]';
CREATE FUNCTION mean_end(numeric[]) RETURNS numeric LANGUAGE sql IMMUTABLE AS 'SELECT $1[1] / nullif($1[2], 0)';
CREATE AGGREGATE mean(numeric) (SFUNC = mean_step, STYPE = numeric[], COMBINEFUNC = mean_merge,
                                FINALFUNC = mean_end, INITCOND = '{0,0}');
CREATE FUNCTION label(text) RETURNS text LANGUAGE plpgsql STABLE AS
  $$ BEGIN RETURN '<' || $1 || '>'; END $$;

CREATE TABLE queries (name text PRIMARY KEY, query text NOT NULL);
INSERT INTO queries VALUES
('v_count', 'SELECT t, count(*) AS n, count(b) AS nb FROM ev GROUP BY t'),
('v_int', 'SELECT t, sum(i2) AS a, sum(i4) AS b, sum(i8) AS c, avg(i2) AS d, avg(i4) AS e, avg(i8) AS f,
           min(i2) AS g, max(i4) AS h, min(i8) AS i, bit_and(i4) AS j, bit_or(i4) AS k, bit_xor(i8) AS l FROM ev GROUP BY t'),
('v_numeric', 'SELECT t, sum(n) AS a, avg(n) AS b, min(n) AS c, max(n) AS d, stddev(n) AS e, variance(n) AS f,
               var_pop(n) AS g, stddev_pop(n) AS h, var_samp(n) AS i, stddev_samp(n) AS j FROM ev GROUP BY t'),
('v_float', 'SELECT t, sum(f4) AS a, sum(f8) AS b, avg(f4) AS c, avg(f8) AS d, min(f4) AS e, max(f8) AS f FROM ev GROUP BY t'),
('v_stats', 'SELECT t, stddev(f8) AS a, variance(f4) AS b, corr(f8, i4) AS c, covar_pop(f8, i4) AS d, covar_samp(f8, i4) AS e,
             regr_slope(f8, i4) AS f, regr_intercept(f8, i4) AS g, regr_count(f8, i4) AS h, regr_r2(f8, i4) AS i,
             regr_sxx(f8, i4) AS j, regr_sxy(f8, i4) AS k, regr_syy(f8, i4) AS l, regr_avgx(f8, i4) AS m, regr_avgy(f8, i4) AS o
             FROM ev GROUP BY t'),
('v_int_stats', 'SELECT b, stddev(i2) AS a, stddev(i4) AS c, variance(i8) AS d, var_pop(i4) AS e, stddev_pop(i8) AS f FROM ev GROUP BY b'),
('v_bool', 'SELECT t, bool_and(b) AS a, bool_or(b) AS o, every(b) AS e FROM ev GROUP BY t'),
('v_times', 'SELECT t, min(ts) AS a, max(tsn) AS b, min(d) AS c, max(iv) AS e, sum(iv) AS f, avg(iv) AS g FROM ev GROUP BY t'),
('v_user', 'SELECT t, product(1 + f8 / 1e6) AS a, mean(n) AS b FROM ev GROUP BY t'),
('v_filter', 'SELECT t, count(*) FILTER (WHERE b) AS a, sum(n) FILTER (WHERE i4 > 0) AS c, avg(n) FILTER (WHERE i4 > 0) AS d,
              variance(n) FILTER (WHERE i4 > 490) AS e FROM ev GROUP BY t'),
('v_expr', 'SELECT upper(t) AS ut, count(*) * 2 + 1 AS x, sum(n) / nullif(count(*), 0) AS y, round(avg(n), 2) AS z,
            CASE WHEN count(*) > 10 THEN max(i4) ELSE min(i4) END AS w, upper(t) || ''!'' AS k2, ''const'' AS k3
            FROM ev GROUP BY upper(t)'),
('v_function', 'SELECT label(t) AS l, label(max(t)) AS m, count(*) AS n FROM ev GROUP BY label(t)'),
('v_global', 'SELECT count(*) AS n, sum(n) AS s, avg(n) AS a, min(t) AS t, max(ts) AS ts FROM ev'),
('v_global_in_place', 'SELECT count(*) FILTER (WHERE b) AS n, max(i4) AS m FROM ev WHERE i4 > 0'),
('v_where', 'SELECT t, count(*) AS n FROM ev WHERE i4 > 0 AND t LIKE ''k%'' AND d < ''2026-01-04'' GROUP BY t'),
('v_keys', 'SELECT t, b, d, arr FROM ev GROUP BY t, b, d, arr'),
('v_same_twice', 'SELECT t, t AS t2, count(*) AS a, count(*) AS c FROM ev GROUP BY t'),
('v_constant', 'SELECT 1 AS one, count(*) AS n FROM ev GROUP BY 1'),
('v_order', 'SELECT t, count(*) AS n FROM ev GROUP BY t ORDER BY n DESC'),
('v_key_expr', 'SELECT i4 % 7 AS r, date_trunc(''hour'', tsn) AS h, count(*) AS n FROM ev GROUP BY i4 % 7, date_trunc(''hour'', tsn)'),
('v_tumble', 'SELECT window_start, window_end, t, count(*) AS n, avg(n) AS a FROM ev, tumble(ts, ''1 hour'') GROUP BY window_start, window_end, t'),
('v_tumble_tz', 'SELECT w.window_start AS ws, sum(n) AS s FROM ev e CROSS JOIN LATERAL tumble(e.ts, ''1 day'', ''Asia/Tokyo'') w GROUP BY 1'),
('v_tumble_plain', 'SELECT window_start, count(*) AS n FROM ev, tumble(tsn, ''15 min'', origin => ''2026-01-01 00:05Z'') GROUP BY 1'),
('v_join', 'SELECT d.name, count(*) AS n, sum(e.n * d.factor) AS s FROM ev e JOIN dim d ON d.k = e.t GROUP BY d.name'),
('v_left', 'SELECT d.name, count(*) AS n, count(d.k) AS m FROM ev e LEFT JOIN dim d ON d.k = e.t GROUP BY d.name'),
('v_right', 'SELECT d.name, count(*) AS n FROM dim d RIGHT JOIN ev e ON d.k = e.t GROUP BY d.name'),
('v_using', 'SELECT k, max(name) AS m, count(*) AS n FROM (SELECT t AS k, i4 FROM ev) e JOIN dim USING (k) GROUP BY k'),
('v_primary_key', 'SELECT d.k, d.name, avg(i4) AS a FROM ev e, dim d WHERE d.k = e.t GROUP BY d.k'),
('v_lateral', 'SELECT x.name, count(*) AS n FROM ev e, LATERAL (SELECT name FROM dim WHERE factor <= e.i4 ORDER BY factor DESC LIMIT 1) x GROUP BY x.name'),
('v_three', 'SELECT a.name, b.factor, count(*) AS n FROM ev JOIN dim a ON a.k = t LEFT JOIN dim b ON b.factor = i2 GROUP BY a.name, b.factor'),
('v_unnest', 'SELECT a, count(*) AS n FROM ev, unnest(arr) a GROUP BY a'),
('v_cte', 'WITH good AS (SELECT * FROM ev WHERE i4 > 0), few AS (SELECT k, name FROM dim WHERE factor < 4)
           SELECT few.name, count(*) AS n, max(good.n) AS m FROM good JOIN few ON few.k = good.t GROUP BY few.name'),
('v_sub_select', 'SELECT tt, sum(nn) AS s FROM (SELECT t AS tt, n * 2 AS nn FROM ev WHERE b) x GROUP BY tt'),
('v_in', 'SELECT t, count(*) AS n FROM ev WHERE t IN (SELECT k FROM dim WHERE factor > 2) AND EXISTS (SELECT FROM dim WHERE k = ev.t) GROUP BY t'),
('v_scalar', 'SELECT t, count(*) AS n, (SELECT name FROM dim WHERE k = t) AS name, (SELECT max(factor) FROM dim) + avg(i4) AS z FROM ev GROUP BY t'),
('v_view', 'SELECT key, sum(twice) AS s, count(*) AS n FROM doubled GROUP BY key'),
('v_whole_row', 'SELECT t, count(ev) AS n, max((to_jsonb(ev) ->> ''id'')::int) AS m FROM ev GROUP BY t');

CREATE FUNCTION create_all() RETURNS void LANGUAGE plpgsql AS $$
DECLARE q record;
BEGIN
  FOR q IN SELECT * FROM queries ORDER BY name LOOP
    EXECUTE format('CREATE MATERIALIZED VIEW %I WITH (weir.continuous) AS %s', q.name, q.query);
  END LOOP;
END $$;

-- Views that differ from their query: by EXCEPT ALL both ways (floats of statistics
-- depend on the order of addition), and by weir.verify.
CREATE FUNCTION wrong() RETURNS TABLE (view text, how text, rows bigint) LANGUAGE plpgsql AS $$
DECLARE q record;
BEGIN
  FOR q IN SELECT * FROM queries ORDER BY name LOOP
    view := q.name;
    IF q.name NOT IN ('v_stats', 'v_user') THEN
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

SELECT create_all();

-- empty: a global aggregate has its one row from the start
TABLE v_global;
TABLE v_global_in_place;
SELECT * FROM wrong();

-- the whole at once
INSERT INTO ev SELECT * FROM gen(1, 500);
SELECT * FROM wrong();

-- row by row
DO $$ BEGIN FOR i IN 501..540 LOOP INSERT INTO ev SELECT * FROM gen(i, i); END LOOP; END $$;
SELECT * FROM wrong();

-- batches of all sizes, an empty one and one of NULLs included; by COPY, too
DO $$
DECLARE a int := 541; n int;
BEGIN
  FOREACH n IN ARRAY ARRAY[1, 7, 0, 23, 2, 1500, 3] LOOP
    INSERT INTO ev SELECT * FROM gen(a, a + n - 1);
    a := a + n;
  END LOOP;
END $$;
INSERT INTO ev (id, ts) VALUES (1, '2026-01-01 00:00Z'), (2, '2026-01-01 12:00Z');
COPY ev (id, t, n, ts) FROM STDIN;
3	k1	1.5	2026-01-01 00:00:00+00
4	\N	\N	2026-01-01 01:00:00+00
\.
SELECT * FROM wrong();

-- rolled back, as a whole and in part
BEGIN;
INSERT INTO ev SELECT * FROM gen(3000, 3100);
ROLLBACK;
BEGIN;
INSERT INTO ev SELECT * FROM gen(3000, 3010);
SAVEPOINT s;
INSERT INTO ev SELECT * FROM gen(3011, 3020);
ROLLBACK TO s;
INSERT INTO ev SELECT * FROM gen(3021, 3030);
COMMIT;
SELECT * FROM wrong();

-- created later: filled from the kept rows, and kept from there
DO $$ DECLARE q record; BEGIN
  FOR q IN SELECT * FROM queries LOOP EXECUTE format('DROP MATERIALIZED VIEW %I', q.name); END LOOP;
END $$;
SELECT create_all();
SELECT * FROM wrong();
INSERT INTO ev SELECT * FROM gen(4000, 4100);
SELECT * FROM wrong();

-- rebuilt
REFRESH MATERIALIZED VIEW v_scalar;
REFRESH MATERIALIZED VIEW v_global;
REFRESH MATERIALIZED VIEW v_count;
INSERT INTO ev SELECT * FROM gen(4101, 4110);
SELECT * FROM wrong();

-- rows that do not change are not updated
CREATE TABLE log (op text, t text);
CREATE FUNCTION log_change() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN INSERT INTO view_combine.log VALUES (tg_op, NEW.t); RETURN NULL; END $$;
CREATE MATERIALIZED VIEW v_max WITH (weir.continuous) AS SELECT t, max(id) AS m FROM ev GROUP BY t;
CREATE MATERIALIZED VIEW v_max_state WITH (weir.continuous) AS SELECT t, max(id) + 0 AS m FROM ev GROUP BY t;
CREATE TRIGGER log AFTER INSERT OR UPDATE ON v_max FOR EACH ROW EXECUTE FUNCTION log_change();
CREATE TRIGGER log AFTER INSERT OR UPDATE ON v_max_state FOR EACH ROW EXECUTE FUNCTION log_change();
INSERT INTO ev (id, t, ts) VALUES (1, 'k1', '2026-01-01Z');
TABLE log;
INSERT INTO ev (id, t, ts) VALUES (9999, 'k1', '2026-01-01Z'), (1, 'k2', '2026-01-01Z'), (1, 'new', '2026-01-01Z');
SELECT op, t, count(*) FROM log GROUP BY op, t ORDER BY t;

-- how they are kept
\pset format unaligned
\pset tuples_only on
SELECT regexp_replace(line, '(weir_delta_|state_)[0-9]+', '\1N', 'g') FROM weir.explain('v_where') line;
SELECT regexp_replace(line, '(weir_delta_|state_)[0-9]+', '\1N', 'g') FROM weir.explain('v_filter') line;
\pset format aligned
\pset tuples_only off
SELECT view, strategy, state FROM weir.views WHERE view::text IN ('v_int', 'v_where') ORDER BY view::text;

DROP SCHEMA view_combine CASCADE;
SELECT count(*) FROM pg_class WHERE relnamespace = 'weir'::regnamespace AND relname ~ '^(query|state)_';
