-- Views without aggregates, and views over several streams.
SET client_min_messages = warning;
CREATE SCHEMA view_append;
SET search_path = view_append, public;
SET TimeZone = 'UTC';

CREATE TYPE point2 AS (x int, y text);
CREATE TABLE a (id int, k text, v int, p point2, doc jsonb, ts timestamptz)
  WITH (weir.stream, weir.event_time = 'ts', weir.keep = '1 hour');
CREATE TABLE b (ts timestamptz, k text, v bigint)
  WITH (weir.stream, weir.event_time = 'ts', weir.keep = '1 hour');
CREATE TABLE dim (k text PRIMARY KEY, name text);
INSERT INTO dim VALUES ('x', 'Ex'), ('y', 'Why');

CREATE TABLE queries (name text PRIMARY KEY, query text NOT NULL);
INSERT INTO queries VALUES
('f_filter', 'SELECT id, k, v * 2 AS v2 FROM a WHERE v > 1'),
('f_project', 'SELECT id, p, (p).y AS y, doc ->> ''n'' AS n, ts FROM a'),
('f_join', 'SELECT a.id, d.name FROM a LEFT JOIN dim d USING (k)'),
('f_inner', 'SELECT a.id, d.name FROM dim d JOIN a ON a.k = d.k WHERE d.name <> ''Why'''),
('f_row', 'SELECT id, to_jsonb(a) AS doc, a AS whole FROM a'),
('f_srf', 'SELECT id, generate_series(1, v) AS i FROM a'),
('f_window', 'SELECT id, window_start, window_end FROM a, tumble(ts, ''1 min'')'),
('f_exists', 'SELECT id FROM a WHERE NOT EXISTS (SELECT FROM dim d WHERE d.k = a.k)'),
('u_all', 'SELECT k, v, ts FROM a UNION ALL SELECT k, v, ts FROM b'),
('u_same_twice', 'SELECT ''once'' AS which, k FROM a UNION ALL SELECT ''twice'', k FROM a WHERE v > 1'),
('u_grouped', 'SELECT k, count(*) AS n, sum(v) AS s, avg(v) AS m FROM (SELECT k, v FROM a UNION ALL SELECT k, v FROM b UNION ALL SELECT k, -v FROM b) u GROUP BY k'),
('u_joined', 'SELECT d.name, u.src, max(u.v) AS m FROM dim d JOIN (SELECT ''a'' AS src, k, v FROM a UNION ALL SELECT ''b'', k, v FROM b) u ON u.k = d.k GROUP BY d.name, u.src'),
('u_cte', 'WITH u AS (SELECT k, v, ts FROM a UNION ALL SELECT k, v, ts FROM b) SELECT window_start, k, count(*) AS n FROM u, tumble(u.ts, ''1 min'') GROUP BY 1, 2');
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
    how := 'query';
    EXECUTE format('SELECT count(*) FROM ((TABLE %1$I EXCEPT ALL (%2$s)) UNION ALL ((%2$s) EXCEPT ALL TABLE %1$I)) x',
                   q.name, q.query) INTO rows;
    IF rows > 0 THEN RETURN NEXT; END IF;
    how := 'verify';
    EXECUTE format('SELECT count(*) FROM weir.verify(%L)', q.name) INTO rows;
    IF rows > 0 THEN RETURN NEXT; END IF;
  END LOOP;
END $$;

INSERT INTO a VALUES (1, 'x', 1, '(1,one)', '{"n": 1}', '2026-01-01 00:00:01Z'),
                     (2, 'y', 2, '(2,two)', '{"n": "2"}', '2026-01-01 00:00:02Z'),
                     (3, NULL, 3, NULL, NULL, '2026-01-01 00:01:02Z');
INSERT INTO b VALUES ('2026-01-01 00:00:03Z', 'x', 30), ('2026-01-01 00:02:03Z', 'z', 40);
INSERT INTO a VALUES (4, 'z', 0, '(4,)', '[]', '2026-01-01 00:00:01Z');
INSERT INTO a SELECT g, 'x', g % 3, NULL, NULL, '2026-01-01 00:00:00Z'::timestamptz + g * interval '1 s' FROM generate_series(10, 200) g;
INSERT INTO b SELECT ts, k, v FROM a WHERE id < 20;
SELECT * FROM wrong();
SELECT * FROM f_join ORDER BY id LIMIT 4;
SELECT * FROM u_grouped ORDER BY k;

-- the table as it is when the batch is processed: later changes affect later rows only
UPDATE dim SET name = 'EX' WHERE k = 'x';
INSERT INTO a (id, k, ts) VALUES (1000, 'x', '2026-01-01 00:04Z');
SELECT name, count(*) FROM f_join WHERE name ILIKE 'ex' GROUP BY name ORDER BY name;
SET client_min_messages = notice;
SELECT side, count(*) FROM weir.verify('f_inner') GROUP BY side ORDER BY side;
SET client_min_messages = warning;
UPDATE dim SET name = 'Ex' WHERE k = 'x';

-- no unique key; the rows are not to be changed by hand
\d f_join
DELETE FROM f_join;
TRUNCATE f_join;
INSERT INTO f_join VALUES (1, 'mine');
UPDATE u_grouped SET n = 0;

-- weir.keep on a view: rows go as the data moves on; states with them. The expirer deletes them.
\set ECHO none
\i sql/lib/await.sql
\set ECHO all
CREATE MATERIALIZED VIEW k_rows WITH (weir.continuous, weir.keep = '5 min') AS SELECT ts, id FROM a;
CREATE MATERIALIZED VIEW k_groups WITH (weir.continuous, weir.keep = '5 min') AS
  SELECT k, window_end, count(*) AS n, avg(v) AS m FROM a, tumble(ts, '1 min') GROUP BY k, window_end;
CREATE MATERIALIZED VIEW k_start WITH (weir.continuous, weir.keep = '5 min') AS
  SELECT window_start, count(*) AS n FROM a, tumble(ts, '1 min') GROUP BY window_start;
INSERT INTO a (id, k, ts) VALUES (2000, 'x', '2026-01-01 00:07:30Z');
INSERT INTO a (id, k, ts) VALUES (2001, 'x', '2026-01-01 00:08:00Z');
CALL gone($$k_rows WHERE ts <= '2026-01-01 00:03:00Z'$$);
CALL gone($$k_groups WHERE window_end <= '2026-01-01 00:03:00Z'$$);
CALL gone($$k_start WHERE window_start <= '2026-01-01 00:03:00Z'$$);
SELECT min(ts), max(ts), count(*) FROM k_rows;
SELECT * FROM k_groups ORDER BY window_end, k;
SELECT * FROM k_start ORDER BY 1;
SELECT * FROM weir.verify('k_groups') UNION ALL SELECT * FROM weir.verify('k_start');
SELECT indexdef FROM pg_indexes WHERE schemaname = 'view_append' AND tablename IN ('k_rows', 'k_groups', 'k_start') ORDER BY indexname;
ALTER MATERIALIZED VIEW k_start SET (weir.keep = '1 min');
INSERT INTO a (id, k, ts) VALUES (2001, 'x', '2026-01-01 00:09:00Z');
CALL gone($$k_start WHERE window_start <= '2026-01-01 00:08:00Z'$$);
SELECT * FROM k_start ORDER BY 1;
ALTER MATERIALIZED VIEW k_start RESET (weir.keep);
INSERT INTO a (id, k, ts) VALUES (2001, 'x', '2026-01-01 00:30:00Z');
SELECT * FROM k_start ORDER BY 1;

-- kept rows that no longer reach back far enough: verify and REFRESH say so, or do what they can
INSERT INTO a (id, k, v, ts) VALUES (3000, 'x', 2, '2026-01-01 01:15:20Z');
DO $$ DECLARE started timestamptz := clock_timestamp(); BEGIN	-- the worker empties what is too old
  WHILE EXISTS (SELECT FROM weir.segment WHERE stream = 'a'::regclass AND hi <= '2026-01-01 00:15:20Z')
    AND clock_timestamp() < started + interval '60 s' LOOP PERFORM weir.wait('a'); END LOOP; END $$;
INSERT INTO a (id, k, v, ts) VALUES (3001, 'x', 2, '2026-01-01 00:00:05Z');	-- counts, but is too old to be kept
SELECT * FROM weir.verify('f_filter');
REFRESH MATERIALIZED VIEW f_filter;
SELECT * FROM weir.verify('k_start');
REFRESH MATERIALIZED VIEW k_start;	-- older windows stay
SELECT * FROM k_start ORDER BY 1;
INSERT INTO a (id, k, v, ts) VALUES (3002, 'x', 2, '2026-01-01 01:15:21Z');
SELECT * FROM k_start ORDER BY 1 DESC LIMIT 1;

DROP SCHEMA view_append CASCADE;
