-- Continuous views over continuous views.
SET client_min_messages = warning;
CREATE SCHEMA view_on_view;
SET search_path = view_on_view, public;
SET TimeZone = 'UTC';

-- Three streams that get the same rows in other portions, with the same views over each.
CREATE TABLE shapes (n serial, name text PRIMARY KEY, options text NOT NULL, query text NOT NULL);
INSERT INTO shapes (name, options, query) VALUES
('kept', '', 'SELECT k, t, v * 2 AS v2, v % 5 AS c FROM ev WHERE v > 2'),
('kept2', '', 'SELECT k, t, v2 + 1 AS v3 FROM kept WHERE c <> 4'),
('sums', '', 'SELECT k, count(*) AS n, sum(v3) AS s FROM kept2 GROUP BY k'),
('united', '', 'SELECT k, v2 FROM kept UNION ALL SELECT k, v3 FROM kept2 UNION ALL SELECT k, v FROM ev'),
('hopped', ', weir.lateness = ''20 s''', 'SELECT window_start, k, count(*) AS n FROM kept, hop(t, ''1 min'', ''20 s'') GROUP BY 1, 2'),
('minutes', ', weir.emit = ''final'', weir.lateness = ''20 s''', 'SELECT window_start, window_end, k, count(*) AS n, sum(v) AS s, max(v) AS m FROM ev, tumble(t, ''1 min'') GROUP BY 1, 2, 3'),
('plain', '', 'SELECT k, window_start AS at, m FROM minutes WHERE n > 1'),
('per_k', '', 'SELECT k, sum(n) AS n, avg(s) AS a, max(m) AS m FROM minutes GROUP BY k'),
('hours', ', weir.emit = ''final''', 'SELECT w.window_start, m.k, sum(m.n) AS n, max(m.m) AS m FROM minutes m, tumble(m.window_start, ''10 min'') w GROUP BY 1, 2'),
('ends', ', weir.emit = ''final''', 'SELECT w.window_start, w.window_end, m.k, count(*) AS c FROM minutes m, hop(m.window_end, ''10 min'', ''5 min'') w GROUP BY 1, 2, 3'),
('slow', '', 'SELECT w.window_start, m.k, sum(m.n) AS n, cardinality(array_agg(DISTINCT m.m)) AS d FROM minutes m, tumble(m.window_start, ''10 min'') w GROUP BY 1, 2'),
('best', '', 'SELECT k, window_start, m FROM (SELECT k, window_start, m, row_number() OVER (PARTITION BY k ORDER BY m DESC, window_start) AS r FROM minutes) x WHERE r <= 3'),
('days', ', weir.emit = ''final''', 'SELECT w.window_start, w.window_end, sum(h.n) AS n, count(*) AS c FROM hours h, tumble(h.window_start, ''1 hour'') w GROUP BY 1, 2'),
('ranks', ', weir.emit = ''final''', 'SELECT * FROM (SELECT w.window_start, m.k, m.window_end, m.m, rank() OVER (PARTITION BY w.window_start ORDER BY m.m DESC, m.k, m.window_end) AS r FROM minutes m, tumble(m.window_start, ''10 min'') w) x WHERE r <= 2'),
('live', '', 'SELECT k, window_start, max(v) AS m, count(*) AS n, sum(v) AS s FROM ev, tumble(t, ''1 min'') GROUP BY 1, 2'),
('mean', '', 'SELECT k, avg(m) AS a, min(m) AS lowest, count(*) AS c FROM live GROUP BY k'),
('overall', '', 'SELECT avg(m) AS a, count(*) AS c FROM live'),
('histogram', '', 'SELECT n, count(*) AS c, max(m) AS m FROM live GROUP BY n HAVING count(*) > 1'),
('high', '', 'SELECT k, window_start, m FROM live WHERE m > 30'),
('shown', '', 'SELECT m, n FROM live WHERE m % 3 = 0'),
('above', '', 'SELECT l.k, l.window_start, l.m - o.a AS d FROM live l JOIN mean o USING (k) WHERE l.m > o.a'),
('top', '', 'SELECT k, window_start, s FROM live ORDER BY s DESC, k, window_start LIMIT 3'),
('lag', '', 'SELECT k, window_start, m - lag(m) OVER (PARTITION BY k ORDER BY window_start) AS d, sum(n) OVER (PARTITION BY k ORDER BY window_start) AS running FROM live'),
('diamond', '', 'SELECT k, sum(x) AS x FROM (SELECT k, a AS x FROM mean UNION ALL SELECT k, m FROM high) u GROUP BY k'),
('never', '', 'SELECT k FROM mean EXCEPT SELECT k FROM high');

CREATE FUNCTION make(i int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE q record;
BEGIN
  EXECUTE format('CREATE SCHEMA s%s', i);
  EXECUTE format('SET search_path = s%s, public', i);
  CREATE TABLE ev (k text, t timestamptz, v int)
    WITH (weir.stream, weir.event_time = 't', weir.keep = '100 years', weir.idle_timeout = 'off');
  FOR q IN SELECT * FROM view_on_view.shapes ORDER BY n LOOP
    EXECUTE format('CREATE MATERIALIZED VIEW %I WITH (weir.continuous%s) AS %s', q.name, q.options, q.query);
  END LOOP;
  SET search_path = view_on_view, public;
END $$;
SELECT make(i) FROM generate_series(1, 4) i;
SELECT view, streams, emit, strategy FROM weir.views WHERE view::text LIKE 's1.%' ORDER BY view::oid;

-- what differs from its own query, by SQL and by weir.verify; finals: rows that the query does not have
CREATE FUNCTION wrong(i int) RETURNS TABLE (view text, how text, rows bigint) LANGUAGE plpgsql AS $$
DECLARE q record;
BEGIN
  EXECUTE format('SET search_path = s%s, view_on_view, public', i);
  FOR q IN SELECT * FROM shapes ORDER BY n LOOP
    view := q.name;
    how := 'query';
    IF q.options LIKE '%final%' AND q.name <> 'minutes' THEN
      EXECUTE format('SELECT count(*) FROM (TABLE %1$I EXCEPT ALL (%2$s)) x', q.name, q.query) INTO rows;
      IF rows > 0 THEN RETURN NEXT; END IF;
    ELSIF q.options NOT LIKE '%lateness%' THEN
      EXECUTE format('SELECT count(*) FROM ((TABLE %1$I EXCEPT ALL (%2$s)) UNION ALL ((%2$s) EXCEPT ALL TABLE %1$I)) x',
                     q.name, q.query) INTO rows;
      IF rows > 0 THEN RETURN NEXT; END IF;
    END IF;
    how := 'verify';
    EXECUTE format('SELECT count(*) FROM weir.verify(%L)', format('s%s.%I', i, q.name)) INTO rows;
    IF rows > 0 THEN RETURN NEXT; END IF;
  END LOOP;
  SET search_path = view_on_view, public;
END $$;
-- what differs between two schemas
CREATE FUNCTION unlike(i int, j int) RETURNS TABLE (view text, rows bigint) LANGUAGE plpgsql AS $$
BEGIN
  FOR view IN SELECT name FROM shapes ORDER BY n LOOP
    EXECUTE format('SELECT count(*) FROM ((TABLE s%1$s.%3$I EXCEPT ALL TABLE s%2$s.%3$I) UNION ALL (TABLE s%2$s.%3$I EXCEPT ALL TABLE s%1$s.%3$I)) x', i, j, view)
      INTO rows;
    IF rows > 0 THEN RETURN NEXT; END IF;
  END LOOP;
END $$;

-- random rows, out of order, with NULLs: all at once, row by row, in random portions, or in savepoints some of which are rolled back
CREATE TABLE rows (n serial, k text, t timestamptz, v int, portion int);
CREATE PROCEDURE add_rows(number int, seed float8, first timestamptz) LANGUAGE plpgsql AS $$
DECLARE r record; p int;
BEGIN
  PERFORM setseed(seed);
  TRUNCATE rows;
  INSERT INTO rows (k, t, v, portion)
    SELECT CASE WHEN random() < 0.1 THEN NULL ELSE 'k' || (random() * 3)::int END,
           first + i * interval '7 s' - random() * random() * interval '90 s', (random() * 40)::int, (i * random())::int / 20
      FROM generate_series(1, number) i;
  INSERT INTO s1.ev SELECT k, t, v FROM rows ORDER BY portion, n;
  FOR r IN SELECT * FROM rows ORDER BY portion, n LOOP
    INSERT INTO s2.ev VALUES (r.k, r.t, r.v);
  END LOOP;
  FOR p IN SELECT DISTINCT portion FROM rows ORDER BY 1 LOOP
    INSERT INTO s3.ev SELECT k, t, v FROM rows WHERE portion = p ORDER BY n;
    BEGIN
      INSERT INTO s4.ev SELECT k, t - interval '1 min', v + 100 FROM rows WHERE portion = p ORDER BY n;
      RAISE EXCEPTION 'undo';
    EXCEPTION WHEN raise_exception THEN
    END;
    BEGIN
      INSERT INTO s4.ev SELECT k, t, v FROM rows WHERE portion = p ORDER BY n;
    END;
  END LOOP;
END $$;
CALL add_rows(300, 0.1, '2024-01-01');
SELECT i, w.* FROM generate_series(1, 4) i, wrong(i) w;
SELECT j, u.* FROM generate_series(2, 4) j, unlike(1, j) u;
CALL add_rows(300, 0.2, '2024-01-01 00:30');
CALL add_rows(150, 0.3, '2024-01-01 02:00');
SELECT i, w.* FROM generate_series(1, 4) i, wrong(i) w;
SELECT j, u.* FROM generate_series(2, 4) j, unlike(1, j) u;
SELECT count(*) > 100 AS minutes, (SELECT count(*) FROM s1.hours) > 20 AS hours, (SELECT count(*) FROM s1.days) AS days,
       (SELECT count(*) FROM s1.ranks) > 10 AS ranks, (SELECT count(*) FROM s1.ends) > 20 AS ends FROM s1.minutes;
SELECT (SELECT sum(n) FROM s1.days) = (SELECT sum(n) FROM s1.minutes WHERE window_start < (SELECT max(window_end) FROM s1.days)) AS every_final_counts;
DROP SCHEMA s2, s3, s4 CASCADE;

-- filled from what is there, and rebuilt
SET search_path = s1, view_on_view, public;
CREATE MATERIALIZED VIEW kept_later WITH (weir.continuous) AS SELECT k, count(*) AS n FROM kept GROUP BY k;
CREATE MATERIALIZED VIEW hours_later WITH (weir.continuous, weir.emit = 'final') AS
  SELECT w.window_start, m.k, sum(m.n) AS n, max(m.m) AS m FROM minutes m, tumble(m.window_start, '10 min') w GROUP BY 1, 2;
SELECT count(*) FROM ((TABLE hours_later EXCEPT ALL TABLE hours) UNION ALL (TABLE hours EXCEPT ALL TABLE hours_later)) x;
CREATE MATERIALIZED VIEW minutes_now WITH (weir.continuous) AS SELECT count(*) AS n FROM minutes WITH NO DATA;
SELECT * FROM minutes_now;
REFRESH MATERIALIZED VIEW mean;
REFRESH MATERIALIZED VIEW hours;
REFRESH MATERIALIZED VIEW minutes;
REFRESH MATERIALIZED VIEW live;
REFRESH MATERIALIZED VIEW kept;
SELECT * FROM wrong(1);
SET search_path = s1, view_on_view, public;
SELECT count(*) FROM ((TABLE hours_later EXCEPT ALL TABLE hours) UNION ALL (TABLE hours EXCEPT ALL TABLE hours_later)) x;
DROP MATERIALIZED VIEW minutes_now;

-- paused: the view above catches up when it is resumed; the one below, too
SET search_path = s1, view_on_view, public;
SELECT weir.pause('hours'), weir.pause('mean'), weir.pause('slow');
INSERT INTO ev SELECT 'k' || i % 5, '2024-01-01 03:00Z'::timestamptz + i * interval '20 s', i % 50 FROM generate_series(1, 200) i;
SELECT count(*) > 0 AS wait FROM weir.missed_row;
SELECT weir.resume('hours'), weir.resume('mean'), weir.resume('slow');
SELECT count(*) AS wait FROM weir.missed_row;
SELECT * FROM wrong(1);
SELECT weir.pause('s1.minutes'), weir.pause('s1.live');
INSERT INTO s1.ev SELECT 'k' || i % 5, '2024-01-01 05:00Z'::timestamptz + i * interval '20 s', i % 50 FROM generate_series(1, 200) i;
SELECT weir.resume('s1.minutes'), weir.resume('s1.live');
SELECT * FROM wrong(1);
SET search_path = view_on_view, public;

-- an INSERT: an error above is the user's, and undoes all
SET search_path = s1, view_on_view, public;
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not this row'; END $$;
CREATE TRIGGER refuse AFTER UPDATE OR INSERT ON mean FOR EACH ROW EXECUTE FUNCTION refuse();
INSERT INTO ev VALUES ('k1', '2024-01-01 07:00Z', 49);
DROP TRIGGER refuse ON mean;
SELECT * FROM wrong(1);

-- triggers see what changed and nothing else
SET search_path = s1, view_on_view, public;
CREATE TABLE seen (n serial, what text, row jsonb);
CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql SET search_path = s1 AS $$
BEGIN INSERT INTO seen (what, row) VALUES (TG_OP, to_jsonb(CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END)); RETURN NULL; END $$;
CREATE TRIGGER see AFTER INSERT OR UPDATE OR DELETE ON mean FOR EACH ROW EXECUTE FUNCTION see();
INSERT INTO ev VALUES ('new', '2024-01-01 07:00Z', 1);
INSERT INTO ev VALUES ('new', '2024-01-01 07:00Z', 1);
INSERT INTO ev VALUES ('new', '2024-01-01 07:01Z', 2);
SELECT what, row FROM seen ORDER BY n;
DROP TRIGGER see ON mean;

-- names and owners change; what others need cannot be dropped
ALTER MATERIALIZED VIEW minutes RENAME COLUMN m TO highest;
ALTER MATERIALIZED VIEW live RENAME COLUMN m TO highest;
ALTER MATERIALIZED VIEW live RENAME TO alive;
ALTER MATERIALIZED VIEW kept RENAME COLUMN v2 TO twice;
INSERT INTO ev SELECT 'k' || i % 5, '2024-01-01 08:00Z'::timestamptz + i * interval '20 s', i % 50 FROM generate_series(1, 200) i;
SELECT v, w.side, count(*) FROM unnest(ARRAY['hours', 'mean', 'slow', 'best', 'high', 'kept2', 'sums']) v, weir.verify(v::regclass) w GROUP BY 1, 2;
\set VERBOSITY terse
DROP MATERIALIZED VIEW kept;
DROP MATERIALIZED VIEW minutes;
ALTER MATERIALIZED VIEW alive DROP COLUMN highest;
\set VERBOSITY default
DROP MATERIALIZED VIEW minutes CASCADE;
SELECT view FROM weir.views WHERE view::text LIKE ANY (ARRAY['hours', 'days', 'plain', 'per_k', 'slow', 'ranks', 'best', 'ends']);
DROP MATERIALIZED VIEW diamond, mean, above, overall, histogram, high, shown, top, lag, never;
SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'weir_capture%' AND tgrelid IN ('alive'::regclass, 'sums'::regclass);
INSERT INTO ev VALUES ('new', '2024-01-01 09:01Z', 2);
DROP SCHEMA s1 CASCADE;
SET search_path = view_on_view, public;

-- windows with gaps below: while what is closed lies in a gap, the time above is the start of the next window
CREATE TABLE gaps (n int, t timestamptz) WITH (weir.stream, weir.event_time = 't', weir.keep = '1 year', weir.idle_timeout = 'off');
CREATE MATERIALIZED VIEW some_seconds WITH (weir.continuous, weir.emit = 'final') AS
  SELECT window_start, window_end, count(*) AS n FROM gaps, hop(t, '2 s', '5 s') GROUP BY 1, 2;
CREATE MATERIALIZED VIEW of_some WITH (weir.continuous, weir.emit = 'final') AS
  SELECT w.window_end, sum(n) AS n FROM some_seconds s, tumble(s.window_start, '10 s') w GROUP BY 1;
CREATE MATERIALIZED VIEW some_days WITH (weir.continuous, weir.emit = 'final') AS
  SELECT window_start, window_end, count(*) AS n FROM gaps, hop(t, '1 month', '3 months', time_zone => 'Europe/Berlin') GROUP BY 1, 2;
CREATE MATERIALIZED VIEW of_days WITH (weir.continuous, weir.emit = 'final') AS
  SELECT w.window_end, sum(n) AS n FROM some_days s, tumble(s.window_start, '3 months', time_zone => 'Europe/Berlin') w GROUP BY 1;
INSERT INTO gaps VALUES (1, '2024-01-01 00:00:06Z'), (2, '2024-01-01 00:00:06.9Z');
TABLE of_some;
INSERT INTO gaps VALUES (3, '2024-01-01 00:00:07Z');
TABLE of_some;
INSERT INTO gaps VALUES (4, '2024-02-05 00:00Z');
TABLE of_days;
SELECT count(*) FROM weir.verify('of_some');
SELECT count(*) FROM weir.verify('of_days');
DROP TABLE gaps CASCADE;

-- retention is no change for what reads finals; what reads a view that changes follows its rows
CREATE TABLE ev (k text, t timestamptz, v int) WITH (weir.stream, weir.event_time = 't', weir.keep = '1 hour', weir.idle_timeout = 'off');
CREATE MATERIALIZED VIEW f WITH (weir.continuous, weir.emit = 'final', weir.keep = '10 min') AS
  SELECT window_start, window_end, k, count(*) AS n FROM ev, tumble(t, '1 min') GROUP BY 1, 2, 3;
CREATE MATERIALIZED VIEW f_all WITH (weir.continuous) AS SELECT k, sum(n) AS n FROM f GROUP BY k;
CREATE MATERIALIZED VIEW c WITH (weir.continuous, weir.keep = '10 min') AS
  SELECT window_end, k, count(*) AS n FROM ev, tumble(t, '1 min') GROUP BY 1, 2;
CREATE MATERIALIZED VIEW c_all WITH (weir.continuous) AS SELECT k, sum(n) AS n FROM c GROUP BY k;
INSERT INTO ev SELECT 'a', '2024-01-01Z'::timestamptz + i * interval '10 s', 1 FROM generate_series(0, 359) i;
INSERT INTO ev VALUES ('a', '2024-01-01 01:00Z', 1);
INSERT INTO ev VALUES ('a', '2024-01-01 01:02Z', 1);
INSERT INTO ev VALUES ('a', '2024-01-01 01:04Z', 1);
DO $$ DECLARE started timestamptz := clock_timestamp(); BEGIN
  WHILE (SELECT count(*) FROM f) >= 20 OR (SELECT count(*) FROM c) >= 20 LOOP
    IF clock_timestamp() > started + interval '60 s' THEN RAISE 'nothing expires'; END IF;
    PERFORM weir.wait('ev');
  END LOOP;
END $$;
SELECT (SELECT n FROM f_all), (SELECT count(*) < 20 FROM f) AS expired, (SELECT n FROM c_all) = (SELECT sum(n) FROM c) AS follows, (SELECT n < 100 FROM c_all);
SELECT * FROM weir.verify('c_all');
SELECT * FROM weir.verify('f_all');
REFRESH MATERIALIZED VIEW f_all;
SELECT n FROM f_all;

-- beside a stream, a view is a table
CREATE MATERIALIZED VIEW beside WITH (weir.continuous) AS SELECT e.k, e.v, c_all.n FROM ev e LEFT JOIN c_all USING (k);
SELECT streams FROM weir.views WHERE view = 'beside'::regclass;
-- one whose rows only come might be taken for a stream: CREATE says that it is none
SET client_min_messages = notice;
CREATE MATERIALIZED VIEW beside_final WITH (weir.continuous) AS SELECT e.k, e.v, f.n FROM ev e JOIN f ON f.k = e.k AND e.t >= f.window_start AND e.t < f.window_end;
SET client_min_messages = warning;

-- explained
SELECT * FROM weir.explain('c_all') LIMIT 4;
SELECT * FROM weir.explain('f_all') LIMIT 3;

-- refused
CREATE MATERIALIZED VIEW r WITH (weir.continuous, weir.emit = 'final') AS SELECT w.window_start, count(*) FROM c, tumble(c.window_end, '1 hour') w GROUP BY 1;
CREATE MATERIALIZED VIEW r WITH (weir.continuous, weir.lateness = '1 min') AS SELECT w.window_start, count(*) FROM c, tumble(c.window_end, '1 hour') w GROUP BY 1;
CREATE MATERIALIZED VIEW r WITH (weir.continuous, weir.keep = '1 min') AS SELECT w.window_start, count(*) FROM c, tumble(c.window_end, '1 hour') w GROUP BY 1;
CREATE MATERIALIZED VIEW r WITH (weir.continuous) AS SELECT k, now() FROM c;
CREATE MATERIALIZED VIEW r WITH (weir.continuous) AS SELECT k, ctid FROM c;
CREATE MATERIALIZED VIEW r WITH (weir.continuous, weir.start = 'earliest') AS SELECT k, count(*) FROM f GROUP BY k;
CREATE MATERIALIZED VIEW r WITH (weir.continuous) AS SELECT k, array_agg(DISTINCT n) FROM f GROUP BY k;
CREATE MATERIALIZED VIEW r WITH (weir.continuous, weir.emit = 'final') AS SELECT w.window_start, count(*) FROM f, tumble(f.window_start + interval '1 s', '1 hour') w GROUP BY 1;

CREATE MATERIALIZED VIEW local_days WITH (weir.continuous) AS SELECT k, t::date AS day FROM ev;
CREATE MATERIALIZED VIEW r WITH (weir.continuous) AS SELECT day, count(*) AS n FROM local_days GROUP BY day;
SET TimeZone = 'Asia/Tokyo';
CREATE MATERIALIZED VIEW r2 WITH (weir.continuous) AS SELECT day, count(*) AS n FROM local_days GROUP BY day;
SET TimeZone = 'UTC';

-- whose rights: those of the owner of each view
CREATE ROLE view_on_view_user;
GRANT USAGE, CREATE ON SCHEMA view_on_view TO view_on_view_user;
\set VERBOSITY terse
\set SHOW_CONTEXT never
SET ROLE view_on_view_user;
CREATE MATERIALIZED VIEW mine WITH (weir.continuous) AS SELECT k, sum(n) AS n FROM c GROUP BY k;
RESET ROLE;
GRANT SELECT ON c TO view_on_view_user;
CREATE MATERIALIZED VIEW a WITH (weir.continuous) AS SELECT k, v FROM ev;
GRANT SELECT (k) ON a TO view_on_view_user;
SET ROLE view_on_view_user;
CREATE MATERIALIZED VIEW mine WITH (weir.continuous) AS SELECT k, sum(n) AS n FROM c GROUP BY k;
CREATE MATERIALIZED VIEW mine_a WITH (weir.continuous) AS SELECT k, count(*) AS n FROM a GROUP BY k;
CREATE MATERIALIZED VIEW mine_v WITH (weir.continuous) AS SELECT k, sum(v) AS n FROM a GROUP BY k;
RESET ROLE;
INSERT INTO ev VALUES ('a', '2024-01-01 01:00:01Z', 1);
SELECT (SELECT n FROM mine) = (SELECT sum(n) FROM c) AS mine, (SELECT n FROM mine_a) = (SELECT count(*) FROM a) AS mine_a;

-- what costs the whole query says so
SET client_min_messages = notice;
CREATE MATERIALIZED VIEW busiest WITH (weir.continuous) AS SELECT k, n FROM c ORDER BY n DESC, k LIMIT 2;
CREATE MATERIALIZED VIEW by_key WITH (weir.continuous) AS SELECT k, sum(n) AS n FROM c GROUP BY k;
SET client_min_messages = warning;

DROP SCHEMA view_on_view CASCADE;
DROP ROLE view_on_view_user;
