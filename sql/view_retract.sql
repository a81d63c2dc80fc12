-- Aggregates over continuous views that change: what goes below is taken back.
SET client_min_messages = warning;
CREATE SCHEMA view_retract;
SET search_path = view_retract, public;
SET TimeZone = 'UTC';

-- Three streams that get the same rows in other portions, with the same views over each.
CREATE TABLE shapes (n serial, name text PRIMARY KEY, strategy text NOT NULL, query text NOT NULL);
INSERT INTO shapes (name, strategy, query) VALUES
('live', 'combine', 'SELECT k, window_start, max(v) AS m, count(*) AS n, sum(x) AS x, avg(v) AS a, bool_or(v > 30) AS b, min(p) AS p FROM ev, tumble(t, ''1 min'') GROUP BY 1, 2'),
('best', 'recompute', 'SELECT k, window_start, v, r FROM (SELECT k, window_start, v, row_number() OVER (PARTITION BY k, window_start ORDER BY v DESC, t, p) AS r FROM ev, tumble(t, ''1 min'')) x WHERE r <= 2'),
('often', 'combine', 'SELECT v, count(*) AS n, count(*) % 3 = 0 AS third FROM ev GROUP BY v HAVING count(*) % 4 <> 3'),
('total', 'retract', 'SELECT count(*) AS c, sum(n) AS n, sum(m) AS s, avg(m) AS am, min(m) AS mi, max(n) AS ma, avg(n) AS an FROM live'),
('exact', 'retract', 'SELECT sum(x) AS s, avg(x) AS a, stddev(x) AS d, var_pop(x) AS v, sum(a) AS sa, var_samp(m) AS vm, stddev_pop(n) AS sn, variance(m::smallint) AS vs FROM live'),
('by_k', 'retract', 'SELECT k, count(m) AS c, sum(x) AS s, avg(x) AS a, stddev_samp(x) AS d, min(m) AS mi, max(m) AS ma, bool_and(b) AS ba, bool_or(b) AS bo, every(b) FILTER (WHERE n > 1) AS e, sum(m) FILTER (WHERE m % 2 = 0) AS f, max(window_start) AS w, sum(p) AS p FROM live GROUP BY k'),
('counts', 'retract', 'SELECT n, count(*) AS c, max(m) AS m, min(k) AS k FROM live GROUP BY n'),
('having', 'retract', 'SELECT n, count(*) AS c, max(m) - min(m) AS span FROM live WHERE m > 5 GROUP BY n HAVING count(*) > 1 AND max(m) > 20'),
('none', 'retract', 'SELECT count(*) AS c, sum(n) AS n FROM live HAVING count(*) % 2 = 1'),
('differ', 'retract', 'SELECT DISTINCT m, b FROM live WHERE m % 3 <> 1'),
('two', 'retract', 'SELECT k, b, n % 3 AS r, count(*) AS c, avg(m)::numeric(10, 3) AS a FROM live GROUP BY k, b, n % 3'),
('hours', 'retract', 'SELECT w.window_start, l.k, sum(l.n) AS n, max(l.m) AS m FROM live l, hop(l.window_start, ''10 min'', ''5 min'') w GROUP BY 1, 2'),
('ranks', 'retract', 'SELECT r, count(*) AS c, sum(v) AS s, min(v) AS mi, max(v) AS ma FROM best GROUP BY r'),
('seldom', 'retract', 'SELECT third, count(*) AS c, sum(n) AS n, max(v) AS m FROM often GROUP BY third'),
('nested', 'retract', 'SELECT count(*) AS c, sum(c) AS s, max(ma) AS m, avg(a) AS a FROM by_k'),
('chain', 'retract', 'SELECT c, count(*) AS n FROM counts GROUP BY c'),
('lookups', 'retract', 'SELECT k, n % 2 AS h, min(m) FILTER (WHERE b) AS mi, max(m) FILTER (WHERE n > 1) AS ma, min(window_start) AS w, max(k) AS same FROM live GROUP BY k, n % 2'),
('diamond', 'retract', 'SELECT x, count(*) AS n, min(k) AS k FROM (SELECT k, ma AS x FROM by_k UNION ALL SELECT k, m FROM counts UNION ALL SELECT k, v FROM best) u GROUP BY x'),
('one_each', 'recompute', 'SELECT k, window_start, n + 1 AS n FROM live WHERE b'),
('floats', 'recompute', 'SELECT k, sum(m::float8) AS s FROM live GROUP BY k'),
('lists', 'recompute', 'SELECT k, array_agg(m ORDER BY window_start) AS l, count(DISTINCT m) AS d FROM live GROUP BY k'),
('scales', 'recompute', 'SELECT x, count(*) AS n FROM live GROUP BY x'),
('joined', 'recompute', 'SELECT names.name, sum(l.n) AS n FROM live l JOIN view_retract.names USING (k) GROUP BY 1'),
('hidden', 'recompute', 'SELECT count(*) AS n FROM live GROUP BY k');
CREATE TABLE names (k text, name text);
INSERT INTO names VALUES ('k0', 'a'), ('k1', 'b'), ('k2', 'a');

CREATE FUNCTION make(i int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE q record;
BEGIN
  EXECUTE format('CREATE SCHEMA r%s', i);
  EXECUTE format('SET search_path = r%s, public', i);
  CREATE TABLE ev (k text, t timestamptz, v int, x numeric, p money)
    WITH (weir.stream, weir.event_time = 't', weir.keep = '100 years', weir.idle_timeout = 'off');
  FOR q IN SELECT * FROM view_retract.shapes ORDER BY n LOOP
    EXECUTE format('CREATE MATERIALIZED VIEW %I WITH (weir.continuous) AS %s', q.name, q.query);
  END LOOP;
  SET search_path = view_retract, public;
END $$;
SELECT make(i) FROM generate_series(1, 3) i;
SELECT name, s.strategy, v.strategy FROM shapes s JOIN weir.views v ON v.view = ('r1.' || name)::regclass WHERE s.strategy <> v.strategy;

-- what differs from its own query, digit by digit, and by weir.verify; states of groups that are gone
CREATE FUNCTION wrong(i int) RETURNS TABLE (view text, how text, rows bigint) LANGUAGE plpgsql AS $$
DECLARE q record; states regclass;
BEGIN
  EXECUTE format('SET search_path = r%s, view_retract, public', i);
  FOR q IN SELECT * FROM shapes ORDER BY n LOOP
    view := q.name;
    how := 'query';
    CONTINUE WHEN q.name = 'scales';	-- which of 1.0 and 1.00 a group shows depends on the order of rows
    EXECUTE format('SELECT count(*) FROM ((SELECT x::text FROM %1$I x EXCEPT ALL SELECT x::text FROM (%2$s) x) UNION ALL (SELECT x::text FROM (%2$s) x EXCEPT ALL SELECT x::text FROM %1$I x)) y',
                   q.name, q.query) INTO rows;
    IF rows > 0 THEN RETURN NEXT; END IF;
    how := 'verify';
    EXECUTE format('SELECT count(*) FROM weir.verify(%L)', format('r%s.%I', i, q.name)) INTO rows;
    IF rows > 0 THEN RETURN NEXT; END IF;
    CONTINUE WHEN q.strategy <> 'retract' OR q.name = 'none';
    how := 'states';
    states := (SELECT state FROM weir.view_def v WHERE v.view = format('r%s.%I', i, q.name)::regclass);
    EXECUTE format('SELECT abs((SELECT count(*) FROM %s) - (SELECT count(*) FROM (%s) x))', states, regexp_replace(q.query, 'HAVING.*', '')) INTO rows;
    IF rows > 0 THEN RETURN NEXT; END IF;
  END LOOP;
  SET search_path = view_retract, public;
END $$;

-- random rows, out of order, with NULLs, NaN, infinities and scales: all at once, row by row, or in portions in savepoints, some of which are rolled back
CREATE TABLE rows (n serial, k text, t timestamptz, v int, x numeric, p money, portion int);
CREATE PROCEDURE add_rows(number int, seed float8, first timestamptz) LANGUAGE plpgsql AS $$
DECLARE r record; part int;
BEGIN
  PERFORM setseed(seed);
  TRUNCATE rows;
  INSERT INTO rows (k, t, v, x, p, portion)
    SELECT CASE WHEN random() < 0.1 THEN NULL ELSE 'k' || (random() * 3)::int END,
           first + i * interval '7 s' - random() * random() * interval '90 s',
           CASE WHEN random() < 0.05 THEN NULL ELSE (random() * 40)::int END,
           CASE WHEN random() < 0.05 THEN NULL WHEN random() < 0.01 THEN 'NaN' WHEN random() < 0.01 THEN 'Infinity' WHEN random() < 0.01 THEN '-Infinity'
                ELSE round((random() * 1000 - 300)::numeric, (random() * random() * random() * 8)::int) END,
           (random() * 100)::numeric::money, (i * random())::int / 20
      FROM generate_series(1, number) i;
  INSERT INTO r1.ev SELECT k, t, v, x, p FROM rows ORDER BY portion, n;
  FOR r IN SELECT * FROM rows ORDER BY portion, n LOOP
    INSERT INTO r2.ev VALUES (r.k, r.t, r.v, r.x, r.p);
  END LOOP;
  FOR part IN SELECT DISTINCT portion FROM rows ORDER BY 1 LOOP
    BEGIN
      INSERT INTO r3.ev SELECT k, t - interval '1 min', v + 100, x * 7, p FROM rows WHERE portion = part ORDER BY n;
      RAISE EXCEPTION 'undo';
    EXCEPTION WHEN raise_exception THEN
    END;
    BEGIN
      INSERT INTO r3.ev SELECT k, t, v, x, p FROM rows WHERE portion = part ORDER BY n;
    END;
  END LOOP;
END $$;
SELECT i, w.* FROM generate_series(1, 3) i, wrong(i) w;
CALL add_rows(200, 0.1, '2024-01-01');
SELECT i, w.* FROM generate_series(1, 3) i, wrong(i) w;
CALL add_rows(200, 0.2, '2024-01-01 00:10');
SELECT i, w.* FROM generate_series(1, 3) i, wrong(i) w;
CALL add_rows(100, 0.3, '2024-01-01 00:15');
SELECT i, w.* FROM generate_series(1, 3) i, wrong(i) w;
SELECT (SELECT count(*) FROM r1.counts) > 3 AS counts, (SELECT count(*) FROM r1.having) > 1 AS having, (SELECT count(*) FROM r1.differ) > 10 AS differ;

-- made later, refreshed, paused and resumed, renamed, replaced below and above
SET search_path = r1, view_retract, public;
DROP MATERIALIZED VIEW r2.nested;
CREATE MATERIALIZED VIEW nested_later WITH (weir.continuous) AS SELECT count(*) AS c, sum(c) AS s, max(ma) AS m, avg(a) AS a FROM by_k WITH NO DATA;
SELECT (SELECT x::text FROM nested_later x) = (SELECT x::text FROM nested x) AS same;
REFRESH MATERIALIZED VIEW live;
REFRESH MATERIALIZED VIEW counts;
REFRESH MATERIALIZED VIEW total;
SELECT weir.pause('counts'), weir.pause('total'), weir.pause('live');
INSERT INTO ev SELECT 'k' || i % 5, '2024-01-01 00:30Z'::timestamptz + i * interval '9 s', i % 50, i, NULL FROM generate_series(1, 100) i;
SELECT weir.resume('live');
SELECT weir.resume('total'), weir.resume('counts');
SELECT * FROM wrong(1);
SET search_path = r1, view_retract, public;
BEGIN;
REFRESH MATERIALIZED VIEW live;
INSERT INTO ev VALUES ('k0', '2024-01-01 00:31Z', 60, 1.000001, NULL);
REFRESH MATERIALIZED VIEW total;
INSERT INTO ev VALUES ('k0', '2024-01-01 00:31Z', 61, 1, NULL);
SAVEPOINT a;
INSERT INTO ev VALUES ('k9', '2024-01-01 00:31Z', 62, 'NaN', NULL);
REFRESH MATERIALIZED VIEW by_k;
ROLLBACK TO a;
INSERT INTO ev VALUES ('k1', '2024-01-01 00:31Z', 3, 1.5, NULL);
COMMIT;
SELECT * FROM wrong(1);
SET search_path = r2, view_retract, public;
SELECT weir.replace('live', 'SELECT k, window_start, max(v) AS m, count(*) AS n, sum(x) AS x, avg(v) AS a, bool_or(v > 10) AS b, min(p) AS p, max(x) AS added FROM ev, tumble(t, ''1 min'') WHERE v <> 7 GROUP BY 1, 2');
SELECT weir.replace('total', 'SELECT count(*) AS c, sum(n) AS n, sum(m) AS s, avg(m) AS am, min(m) AS mi, max(n) AS ma, avg(n) AS an, max(added) AS x FROM live');
SELECT weir.replace('counts', 'SELECT n, count(*) AS c, max(m) AS m, min(k) AS k FROM live WHERE m > 10 GROUP BY n');
ALTER MATERIALIZED VIEW live RENAME COLUMN m TO highest;
INSERT INTO ev SELECT 'k' || i % 5, '2024-01-01 00:30Z'::timestamptz + i * interval '9 s', i % 50, i, NULL FROM generate_series(1, 100) i;
SELECT v, w.* FROM unnest(ARRAY['total', 'counts', 'by_k', 'having', 'differ', 'hours', 'chain', 'diamond']) v, weir.verify(v::regclass) w;
DROP SCHEMA r2, r3 CASCADE;

-- an error above is the user's, and undoes all
SET search_path = r1, view_retract, public;
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not this row'; END $$;
CREATE TRIGGER refuse AFTER UPDATE OR INSERT ON chain FOR EACH ROW EXECUTE FUNCTION refuse();
INSERT INTO ev VALUES ('k1', '2024-01-01 07:00Z', 49), ('k1', '2024-01-01 07:00Z', 49), ('k1', '2024-01-01 07:02Z', 49);
DROP TRIGGER refuse ON chain;
SELECT * FROM wrong(1);
DROP SCHEMA r1 CASCADE;
SET search_path = view_retract, public;

-- triggers see what changes: one row for all is updated, groups come and go
CREATE TABLE ev (k text, v int, x numeric) WITH (weir.stream);
CREATE MATERIALIZED VIEW low WITH (weir.continuous) AS SELECT k, count(*) AS n, max(v) AS v, sum(x) AS x FROM ev GROUP BY k;
CREATE MATERIALIZED VIEW total WITH (weir.continuous) AS SELECT count(*) AS c, sum(n) AS n, sum(x) AS x, min(v) AS v FROM low;
CREATE MATERIALIZED VIEW counts WITH (weir.continuous) AS SELECT n, count(*) AS c, max(v) AS v FROM low GROUP BY n;
CREATE TABLE seen (n serial, what text, row jsonb);
CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql SET search_path = view_retract AS $$
BEGIN INSERT INTO seen (what, row) VALUES (TG_TABLE_NAME || ' ' || TG_OP, to_jsonb(CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END)); RETURN NULL; END $$;
CREATE TRIGGER see AFTER INSERT OR UPDATE OR DELETE ON total FOR EACH ROW EXECUTE FUNCTION see();
CREATE TRIGGER see AFTER INSERT OR UPDATE OR DELETE ON counts FOR EACH ROW EXECUTE FUNCTION see();
TABLE total;
INSERT INTO ev VALUES ('a', 5, 1.50);
INSERT INTO ev VALUES ('a', 3, 'NaN'), ('b', 9, 2.000);
INSERT INTO ev VALUES ('b', 1, -2.000);
SELECT what, row FROM seen ORDER BY n;
TABLE total;
TABLE counts;

-- an index below finds the next extreme
INSERT INTO ev SELECT 'k' || i, i, i FROM generate_series(100, 2000) i;
CREATE INDEX ON low (v);
CREATE INDEX ON low (n);
ANALYZE low;
INSERT INTO ev VALUES ('a', 3000, 0);
SELECT * FROM total;
INSERT INTO ev VALUES ('k2000', 4000, 0);
SELECT * FROM counts ORDER BY n;
SELECT v, w.* FROM unnest(ARRAY['total', 'counts']) v, weir.verify(v::regclass) w;

-- by hand: refused
DELETE FROM low WHERE k = 'a';
UPDATE total SET c = 0;

-- retention below
CREATE TABLE timed (k text, t timestamptz, v int) WITH (weir.stream, weir.event_time = 't', weir.keep = '1 hour', weir.idle_timeout = 'off');
CREATE MATERIALIZED VIEW minutes WITH (weir.continuous, weir.keep = '10 min') AS
  SELECT window_end, k, count(*) AS n, max(v) AS m FROM timed, tumble(t, '1 min') GROUP BY 1, 2;
CREATE MATERIALIZED VIEW lately WITH (weir.continuous) AS SELECT k, sum(n) AS n, max(m) AS m, min(window_end) AS since FROM minutes GROUP BY k;
INSERT INTO timed SELECT 'a', '2024-01-01Z'::timestamptz + i * interval '10 s', 1000 - i FROM generate_series(0, 359) i;
INSERT INTO timed SELECT 'b', '2024-01-01 01:00Z'::timestamptz + i * interval '2 min', i FROM generate_series(0, 12) i;
SELECT k FROM lately;
SELECT * FROM weir.verify('lately');
INSERT INTO timed VALUES ('c', '2024-01-01 03:00Z', 1);
SELECT k, n, m, since FROM lately;
SELECT * FROM weir.verify('lately');

-- explained; and what costs the whole query says why
SELECT * FROM weir.explain('total') LIMIT 4;
SELECT * FROM weir.explain('lately') LIMIT 4;
SET client_min_messages = notice;
CREATE MATERIALIZED VIEW r1 WITH (weir.continuous) AS SELECT sum(v::float8) AS s FROM low;
CREATE MATERIALIZED VIEW r2 WITH (weir.continuous) AS SELECT count(DISTINCT v) AS s FROM low;
CREATE MATERIALIZED VIEW r3 WITH (weir.continuous) AS SELECT count(*) AS n FROM low JOIN names USING (k);
CREATE MATERIALIZED VIEW r4 WITH (weir.continuous) AS SELECT count(*) AS n FROM low GROUP BY k;
CREATE FUNCTION looks(text) RETURNS text LANGUAGE sql STABLE AS $$ SELECT name FROM view_retract.names WHERE k = $1 $$;
CREATE MATERIALIZED VIEW r5 WITH (weir.continuous) AS SELECT count(looks(k)) AS n FROM low;
CREATE MATERIALIZED VIEW r6 WITH (weir.continuous) AS SELECT n, sum(v::float8) AS s FROM low GROUP BY n;
SET client_min_messages = warning;
SELECT v, w.* FROM unnest(ARRAY['r1', 'r2', 'r3', 'r4', 'r5', 'r6']) v, weir.verify(v::regclass) w;
INSERT INTO ev VALUES ('k0', 3, 1), ('a', 7000, 1);
SELECT v, w.* FROM unnest(ARRAY['r1', 'r2', 'r3', 'r4', 'r5', 'r6']) v, weir.verify(v::regclass) w;

-- what functions become later does not change how a view is kept
CREATE FUNCTION half(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 / 2';
CREATE MATERIALIZED VIEW r7 WITH (weir.continuous) AS SELECT half(v) AS h, count(*) AS n FROM low GROUP BY half(v);
ALTER FUNCTION half(int) STABLE;
ALTER FUNCTION looks(text) IMMUTABLE;
INSERT INTO ev VALUES ('k1', 30, 1), ('a', 7000, 1);
SELECT view, strategy FROM weir.views WHERE view IN ('r5'::regclass, 'r7'::regclass) ORDER BY 1;
SELECT v, w.* FROM unnest(ARRAY['r5', 'r7']) v, weir.verify(v::regclass) w;

-- as roles may
CREATE ROLE view_retract_user;
GRANT USAGE, CREATE ON SCHEMA view_retract TO view_retract_user;
GRANT SELECT ON low TO view_retract_user;
SET ROLE view_retract_user;
CREATE MATERIALIZED VIEW mine WITH (weir.continuous) AS SELECT n, sum(x) AS x, min(v) AS v FROM low GROUP BY n;
RESET ROLE;
INSERT INTO ev VALUES ('k0', 2, 1), ('a', 7001, 1);
SELECT * FROM weir.verify('mine');
DROP SCHEMA view_retract CASCADE;
DROP ROLE view_retract_user;
