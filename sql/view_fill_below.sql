-- A new view over an append view of whose rows the stream keeps only some.
SET client_min_messages = warning;
CREATE SCHEMA fill_below;
SET search_path = fill_below, public;
SET TimeZone = 'UTC';
CREATE TABLE ev (k text, t timestamptz, v int) WITH (weir.stream, weir.event_time = 't', weir.keep = '1 day', weir.idle_timeout = 'off');
CREATE TABLE names (k text PRIMARY KEY, name text);
INSERT INTO names VALUES ('k1', 'one'), ('k2', 'two');
CREATE MATERIALIZED VIEW good WITH (weir.continuous) AS SELECT k, t, v * 2 AS v2, v FROM ev WHERE v <> 3;
CREATE MATERIALIZED VIEW better WITH (weir.continuous) AS SELECT g.k, g.t, g.v2 + 1 AS v3 FROM good g WHERE v2 > 4;
INSERT INTO ev SELECT CASE WHEN i % 50 > 0 THEN 'k' || i % 7 END, '2024-01-01Z'::timestamptz + i * interval '1 min', nullif(i % 11, 7) FROM generate_series(1, 300) i;
ALTER TABLE ev SET (weir.keep = '10 min');
SELECT (SELECT count(*) FROM ev) < 20 AS expired, (SELECT count(*) FROM good) AS good, (SELECT count(*) FROM better) AS better;

CREATE PROCEDURE compare(view text, query text) LANGUAGE plpgsql AS $$
DECLARE n int; m int;
BEGIN
  EXECUTE format('SELECT count(*) FROM ((TABLE %1$s EXCEPT ALL (%2$s)) UNION ALL ((%2$s) EXCEPT ALL TABLE %1$s)) d', view, query) INTO n;
  EXECUTE format('SELECT count(*) FROM %s', view) INTO m;
  IF n > 0 OR m = 0 THEN RAISE 'view % differs from its query in % of % rows', view, n, m; END IF;
END $$;
CREATE TABLE queries (name text, query text);
INSERT INTO queries VALUES
  ('counts', 'SELECT k, count(*) AS n, sum(v2) AS s, min(v2), max(t) FROM good GROUP BY k'),
  ('means', 'SELECT k, avg(v2) AS a, stddev(v2::numeric) AS d FROM good WHERE v2 > 2 GROUP BY k HAVING count(*) > 5'),
  ('total', 'SELECT count(*) AS n, sum(v3) AS s FROM better'),
  ('minutes', 'SELECT window_start, count(*) AS n, avg(v) AS a FROM good, tumble(t, ''10 min'') GROUP BY window_start'),
  ('hops', 'SELECT window_start, count(*) AS n FROM better, hop(t, ''10 min'', ''5 min'') GROUP BY window_start'),
  ('plain', 'SELECT k, v3 * 2 AS v6 FROM better WHERE v3 > 9'),
  ('distinct_k', 'SELECT DISTINCT k FROM good'),
  ('named', 'SELECT name, count(*) AS n FROM good LEFT JOIN names USING (k) GROUP BY name'),
  ('deep', 'SELECT c, count(*) AS n FROM (SELECT v % 3 AS c FROM good) g GROUP BY c');
CREATE PROCEDURE compare_all() LANGUAGE plpgsql SET search_path = fill_below, public AS $$
DECLARE q record;
BEGIN
  FOR q IN TABLE queries LOOP CALL compare(q.name, q.query); END LOOP;
END $$;
SELECT format('CREATE MATERIALIZED VIEW %s WITH (weir.continuous) AS %s', name, query) FROM queries \gexec
CALL compare_all();
INSERT INTO ev SELECT 'k' || i % 7, '2024-01-01 06:00Z'::timestamptz + i * interval '1 min', i % 11 FROM generate_series(1, 30) i;
CALL compare_all();
-- so does REFRESH
REFRESH MATERIALIZED VIEW counts;
REFRESH MATERIALIZED VIEW means;
REFRESH MATERIALIZED VIEW minutes;
REFRESH MATERIALIZED VIEW total;
CALL compare_all();
INSERT INTO ev VALUES ('k1', '2024-01-01 07:00Z', 5);
CALL compare_all();
-- where that would not be the same: the rows that the stream keeps
CREATE MATERIALIZED VIEW latest WITH (weir.continuous) AS SELECT k, weir.last(v) AS v FROM good GROUP BY k;
CREATE MATERIALIZED VIEW in_time WITH (weir.continuous, weir.lateness = '0') AS SELECT window_start, count(*) AS n FROM good, tumble(t, '1 min') GROUP BY window_start;
SELECT (SELECT count(*) FROM in_time) < 20 AS kept_rows_only;
SELECT * FROM weir.verify('in_time');
SELECT weir.pause('good');
CREATE MATERIALIZED VIEW while_paused WITH (weir.continuous) AS SELECT count(*) AS n FROM good;
SELECT n < 20 AS kept_rows_only FROM while_paused;
SELECT weir.resume('good');
CREATE MATERIALIZED VIEW beside WITH (weir.continuous) AS SELECT count(*) AS n FROM (SELECT v FROM good UNION ALL SELECT v FROM ev) u;
SELECT n < 40 AS kept_rows_only FROM beside;
DROP SCHEMA fill_below CASCADE;
