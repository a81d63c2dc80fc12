-- weir.explain prints the statements of every kind of view, also where hidden and dropped columns are below a join;
-- with auto_explain, EXPLAIN (ANALYZE, VERBOSE) of each statement that keeps a view can be logged.
SET client_min_messages = notice;
CREATE SCHEMA expl;
SET search_path = expl, public;
LOAD 'auto_explain';
CREATE TABLE l (gone int, at timestamptz, k int, also_gone text, v int) WITH (weir.stream, weir.event_time = 'at', weir.keep = '1 day');
CREATE TABLE r (at timestamptz, gone int, k int, w int) WITH (weir.stream, weir.event_time = 'at', weir.keep = '1 day');
ALTER TABLE l DROP COLUMN gone, DROP COLUMN also_gone;
ALTER TABLE r DROP COLUMN gone;
ALTER TABLE l ADD COLUMN c text DEFAULT 'c';
CREATE TABLE names (gone int, k int PRIMARY KEY, name text);
ALTER TABLE names DROP COLUMN gone;
INSERT INTO names VALUES (1, 'one'), (2, 'two');
CREATE TABLE queries (name text, options text, query text);
INSERT INTO queries VALUES
 ('combine', '', 'SELECT k, count(*) AS n, avg(v) AS m FROM l GROUP BY k'),
 ('totals', '', 'SELECT count(*) AS n, sum(v) AS s FROM l'),
 ('windows', ', weir.lateness = ''1 minute''', 'SELECT window_start, k, sum(v) AS s FROM l, tumble(at, ''1 minute'') GROUP BY 1, 2'),
 ('hops', '', 'SELECT window_start, sum(v) AS s FROM l, hop(at, ''1 minute'', ''10 s'') GROUP BY 1'),
 ('final', ', weir.emit = ''final''', 'SELECT window_start, k, max(v) AS m FROM l, tumble(at, ''1 minute'') GROUP BY 1, 2'),
 ('at_close', ', weir.emit = ''final''', 'SELECT window_start, k, rank() OVER (PARTITION BY window_start ORDER BY sum(v), k) AS r FROM l, tumble(at, ''1 minute'') GROUP BY 1, 2'),
 ('having', '', 'SELECT k, sum(v) AS s FROM l GROUP BY k HAVING sum(v) > 3'),
 ('dist', '', 'SELECT DISTINCT k, c FROM l'),
 ('median', '', 'SELECT window_start, percentile_cont(0.5) WITHIN GROUP (ORDER BY v) AS m, count(DISTINCT k) AS d FROM l, tumble(at, ''1 minute'') GROUP BY 1'),
 ('first_rows', '', 'SELECT DISTINCT ON (k) k, v, at FROM l ORDER BY k, v DESC, at'),
 ('sess', '', 'SELECT window_start, window_end, k, count(*) AS n FROM l, session(at, ''10 s'') GROUP BY 1, 2, 3'),
 ('app', '', 'SELECT at, k, v * 2 AS v2 FROM l WHERE v > 0'),
 ('lookup', '', 'SELECT name, count(*) AS n FROM l LEFT JOIN names USING (k) GROUP BY name'),
 ('named', '', 'SELECT j.a, j.b, j.name FROM (l JOIN names ON names.k = l.k) AS j (x, a, b)'),
 ('merged', '', 'SELECT k, j.v, j.name FROM (l JOIN names USING (k)) AS j'),
 ('inner_join', '', 'SELECT l.k, v, w FROM l JOIN r ON l.k = r.k AND r.at BETWEEN l.at - interval ''2 s'' AND l.at + interval ''3 s'''),
 ('join_counts', '', 'SELECT l.k, count(*) AS n, sum(w) AS s FROM l JOIN r ON l.k = r.k AND r.at BETWEEN l.at - interval ''2 s'' AND l.at + interval ''3 s'' GROUP BY l.k'),
 ('left_join', '', 'SELECT l.k, v, w, l.at FROM l LEFT JOIN r ON l.k = r.k AND r.at BETWEEN l.at - interval ''2 s'' AND l.at + interval ''3 s'''),
 ('left_counts', '', 'SELECT l.k, count(*) AS n, count(w) AS m FROM l LEFT JOIN r ON l.k = r.k AND r.at BETWEEN l.at AND l.at + interval ''3 s'' GROUP BY l.k'),
 ('full_join', '', 'SELECT l.k, v, r.k AS rk, w FROM l FULL JOIN r ON l.k = r.k AND r.at BETWEEN l.at - interval ''2 s'' AND l.at + interval ''3 s'''),
 ('three', '', 'SELECT a.k, a.v AS v1, b.v AS v2, name FROM l a JOIN l b ON b.k = a.k AND b.at > a.at AND b.at <= a.at + interval ''2 s'' LEFT JOIN names ON names.k = a.k'),
 ('above_final', '', 'SELECT k, sum(m) AS s FROM final GROUP BY k'),
 ('above_changes', '', 'SELECT n, count(*) AS c FROM combine GROUP BY n'),
 ('above_app', '', 'SELECT window_start, count(*) AS n FROM app, tumble(at, ''1 minute'') GROUP BY 1');
-- Everything is explained; what cannot be is said.
DO $$
DECLARE
  q record;
  lines int;
BEGIN
  FOR q IN SELECT ctid, * FROM queries ORDER BY ctid LOOP
    BEGIN
      EXECUTE format('CREATE MATERIALIZED VIEW expl.%I WITH (weir.continuous%s) AS %s', q.name, q.options, q.query);
      SELECT count(*) INTO lines FROM weir.explain(q.name::regclass) line WHERE line ~ 'SELECT|FROM';
      IF lines = 0 THEN RAISE NOTICE '%: no statement', q.name; END IF;
    EXCEPTION WHEN OTHERS THEN
      RAISE NOTICE '%: %', q.name, SQLERRM;
    END;
  END LOOP;
END $$;
-- the columns of a join that dropped and hidden columns come between
SELECT line FROM weir.explain('named') line WHERE line ~ 'names';
SELECT line FROM weir.explain('merged') line WHERE line ~ 'names';
SELECT line FROM weir.explain('three') line WHERE line ~ 'names' LIMIT 1;
-- the plans of all statements, as auto_explain writes them
SET auto_explain.log_min_duration = 0;
SET auto_explain.log_nested_statements = on;
SET auto_explain.log_analyze = on;
SET auto_explain.log_verbose = on;
SET auto_explain.log_triggers = on;
SET auto_explain.log_level = debug5;
INSERT INTO l (at, k, v) SELECT timestamptz '2026-01-01 00:00Z' + i * interval '1 s', i % 3, i FROM generate_series(1, 90) i;
INSERT INTO r (at, k, w) SELECT timestamptz '2026-01-01 00:00Z' + i * interval '1 s', i % 4, i FROM generate_series(1, 90) i;
INSERT INTO l (at, k, v) SELECT timestamptz '2026-01-01 00:00Z' + i % 300 * interval '1 s', i % 3, i FROM generate_series(1, 1500) i;
INSERT INTO l (at, k, v) VALUES ('2026-01-01 00:00:50Z', 1, 1), ('2026-01-01 00:20Z', 2, 2);
INSERT INTO r (at, k, w) VALUES ('2026-01-01 00:20Z', 2, 2);
RESET auto_explain.log_min_duration;
SET client_min_messages = warning;
SELECT q.name, count(d) AS differences FROM queries q LEFT JOIN LATERAL weir.verify(q.name::regclass) d ON true GROUP BY q.name HAVING count(d) > 0;
DROP SCHEMA expl CASCADE;
