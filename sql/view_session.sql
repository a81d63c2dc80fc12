-- Sessions: rows of a key at most a gap apart. The worked cases row by row and in one statement, what merges and what
-- triggers see of it, what is late, and random rows against a model of the rule.
SET timezone = 'UTC';
SET intervalstyle = 'postgres';
SET client_min_messages = warning;

CREATE SCHEMA session_test;
SET search_path = session_test, public;

CREATE FUNCTION ms(bigint) RETURNS timestamptz LANGUAGE sql IMMUTABLE
  AS $$ SELECT timestamptz '1970-01-01 00:00:00+00' + $1 * interval '1 ms' $$;
CREATE FUNCTION ms(timestamptz) RETURNS bigint LANGUAGE sql IMMUTABLE
  AS $$ SELECT (extract(epoch FROM $1) * 1000)::bigint $$;

-- by hand there is nobody to ask
SELECT * FROM session(ms(0), '5 s');

-- the same rows in two streams: row by row, and in one statement
CREATE TABLE input (n serial, ts timestamptz, k text, v int);
CREATE PROCEDURE run(options text, query text) LANGUAGE plpgsql AS $$
DECLARE r record;
BEGIN
  CREATE TABLE rowwise (ts timestamptz, k text, v int) WITH (weir.stream, weir.event_time = 'ts', weir.late = 'keep', weir.idle_timeout = 'off', weir.keep = '30 days');
  CREATE TABLE whole (ts timestamptz, k text, v int) WITH (weir.stream, weir.event_time = 'ts', weir.late = 'keep', weir.idle_timeout = 'off', weir.keep = '30 days');
  EXECUTE format('CREATE MATERIALIZED VIEW one WITH (%s) AS %s', concat_ws(', ', 'weir.continuous', options), replace(query, '$stream', 'rowwise'));
  EXECUTE format('CREATE MATERIALIZED VIEW all_at_once WITH (%s) AS %s', concat_ws(', ', 'weir.continuous', options), replace(query, '$stream', 'whole'));
  FOR r IN SELECT * FROM session_test.input ORDER BY n LOOP
    INSERT INTO rowwise VALUES (r.ts, r.k, r.v);
    COMMIT;
  END LOOP;
  INSERT INTO whole SELECT ts, k, v FROM session_test.input ORDER BY n;
  COMMIT;
END $$;
CREATE PROCEDURE clean() LANGUAGE plpgsql AS $$
BEGIN
  DROP TABLE rowwise, whole CASCADE;
  DELETE FROM session_test.input;
END $$;

-- C3: sessions merge; of the row by row view a trigger logs the changes
CREATE TABLE log (n serial, op text, row text);
CREATE FUNCTION log() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO session_test.log (op, row) VALUES (tg_op, CASE WHEN tg_op = 'DELETE' THEN format('%s[%s', old.k, session_test.ms(old.window_start))
    ELSE format('%s[%s..%s]=%s', new.k, session_test.ms(new.window_start), session_test.ms(new.window_end) - 30000, new.m) END);
  RETURN NULL;
END $$;
INSERT INTO input (ts, k, v) VALUES (ms(0), 'k0', 0), (ms(70010), 'k0', 1), (ms(10009), 'k0', 5), (ms(10010), 'k0', 6), (ms(10009), 'k1', 100),
  (ms(10010), 'k1', 101), (ms(86412022), 'k1', 200), (ms(60000), 'k1', 200);
CALL run(NULL, $$SELECT window_start, window_end, k, max(v) AS m FROM $stream, session(ts, '30 s') GROUP BY 1, 2, 3$$);
SELECT k, ms(window_start) AS first, ms(window_end) - 30000 AS last, m FROM one ORDER BY 1, 2;
(TABLE one EXCEPT ALL TABLE all_at_once) UNION ALL (TABLE all_at_once EXCEPT ALL TABLE one);
SELECT * FROM weir.verify('one');
SELECT * FROM weir.verify('all_at_once');

-- at the end: UPDATE; at the front: DELETE and INSERT; in between: the absorbed one is deleted, the other updated
CREATE TRIGGER log AFTER INSERT OR UPDATE OR DELETE ON one FOR EACH ROW EXECUTE FUNCTION log();
INSERT INTO rowwise VALUES (ms(75000), 'k0', 2);
INSERT INTO rowwise VALUES (ms(65000), 'k0', 9);
INSERT INTO rowwise VALUES (ms(40000), 'k0', 3);
INSERT INTO rowwise VALUES (ms(50000), 'k0', 0);
-- three sessions in one statement
INSERT INTO rowwise VALUES (ms(200000), 'k2', 1), (ms(260000), 'k2', 2), (ms(320000), 'k2', 3);
INSERT INTO rowwise VALUES (ms(290000), 'k2', 5), (ms(230000), 'k2', 4);
SELECT op, row FROM log ORDER BY n;
SELECT * FROM weir.verify('one');

-- a savepoint takes a merge back
BEGIN;
SAVEPOINT a;
INSERT INTO rowwise VALUES (ms(400000), 'k3', 1), (ms(440000), 'k3', 1);
INSERT INTO rowwise VALUES (ms(420000), 'k3', 1);
ROLLBACK TO a;
INSERT INTO rowwise VALUES (ms(440000), 'k3', 7);
COMMIT;
SELECT ms(window_start) AS first, ms(window_end) - 30000 AS last, m FROM one WHERE k = 'k3';
SELECT * FROM weir.verify('one');

-- REFRESH gives the same
CREATE TABLE before AS TABLE one;
REFRESH MATERIALIZED VIEW one;
(TABLE one EXCEPT ALL TABLE before) UNION ALL (TABLE before EXCEPT ALL TABLE one);
INSERT INTO rowwise VALUES (ms(441000), 'k3', 8);
SELECT * FROM weir.verify('one');
-- and so does WITH DATA
CREATE MATERIALIZED VIEW later WITH (weir.continuous) AS SELECT window_start, window_end, k, max(v) AS m FROM rowwise, session(ts, '30 s') GROUP BY 1, 2, 3;
(TABLE one EXCEPT ALL TABLE later) UNION ALL (TABLE later EXCEPT ALL TABLE one);
DROP MATERIALIZED VIEW later;
CALL clean();
DROP TABLE before, log;

-- C4: the gap is inclusive
INSERT INTO input (ts, k) VALUES (ms(0), 'k0'), (ms(10000), 'k0'), (ms(10000), 'k1'), (ms(40000), 'k1');
CALL run(NULL, $$SELECT window_start, window_end, k, count(*) AS n FROM $stream, session(ts, '30 s') GROUP BY 1, 2, 3$$);
SELECT k, ms(window_start) AS first, ms(window_end) - 30000 AS last, n FROM one ORDER BY 1, 2;
(TABLE one EXCEPT ALL TABLE all_at_once) UNION ALL (TABLE all_at_once EXCEPT ALL TABLE one);
CALL clean();

-- C4b: and a final closes strictly behind it; one microsecond more, and it is another session
INSERT INTO input (ts, k) VALUES (ms(0), 'k0'), (ms(10000), 'k0'), (ms(10000), 'k1'), (ms(40000), 'k1'), (ms(40000), 'k0'), (ms(70000), 'k2');
CALL run($$weir.emit = 'final'$$, $$SELECT window_start, window_end, k, count(*) AS n FROM $stream, session(ts, '30 s') GROUP BY 1, 2, 3$$);
SELECT k, ms(window_start) AS first, ms(window_end) - 30000 AS last, n FROM one ORDER BY 1, 2;
INSERT INTO input (ts, k) VALUES (ms(70000) + interval '1 us', 'k2');
INSERT INTO rowwise SELECT ts, k FROM input ORDER BY n DESC LIMIT 1;
INSERT INTO whole SELECT ts, k FROM input ORDER BY n DESC LIMIT 1;
SELECT k, ms(window_start) AS first, ms(window_end) - 30000 AS last, n FROM one ORDER BY 1, 2;
(TABLE one EXCEPT ALL TABLE all_at_once) UNION ALL (TABLE all_at_once EXCEPT ALL TABLE one);
SELECT * FROM weir.verify('one');
CALL clean();

-- late: by the session that the row would be in, and within the gap of one that is closed
INSERT INTO input (ts, k, v) VALUES
  (ms(0), 'a', 1), (ms(100000), 'b', 2), (ms(130000), 'b', 3),
  (ms(99000), 'a', 4),		-- alone, and late: its session would have ended
  (ms(75000), 'b', 5),		-- as late, but b's session is open and goes back to it
  (ms(131000), 'a', 6), (ms(162000), 'c', 7),
  (ms(161000), 'a', 8),		-- just within the gap of a's last session, which is closed now
  (ms(162000), 'a', 9);		-- beyond it
CALL run($$weir.emit = 'final'$$, $$SELECT window_start, window_end, k, count(*) AS n, sum(v) AS s FROM $stream, session(ts, '30 s') GROUP BY 1, 2, 3$$);
SELECT k, ms(window_start) AS first, ms(window_end) - 30000 AS last, n, s FROM one ORDER BY 1, 2;
(TABLE one EXCEPT ALL TABLE all_at_once) UNION ALL (TABLE all_at_once EXCEPT ALL TABLE one);
SELECT * FROM weir.verify('one');
SELECT view, late FROM weir.stat_views WHERE view IN ('one'::regclass, 'all_at_once'::regclass) ORDER BY 1;
SELECT view, ms(event_time), ms(window_start), reason, record FROM weir.late_rows WHERE view IN ('one'::regclass, 'all_at_once'::regclass) ORDER BY view, event_time;
CALL clean();

-- the last closed session of a key is known even when an open one goes back to it much later
INSERT INTO input (ts, k, v) SELECT ms(t * 1000), k, 1 FROM (VALUES (0, 'a'), (100, 'a'), (110, 'a'), (120, 'a'), (130, 'a'),
  (70, 'a'), (40, 'a'),	-- goes back
  (25, 'a'),			-- within the gap of the first one
  (31, 'a'), (200, 'b')) v(t, k);
CALL run($$weir.emit = 'final'$$, $$SELECT window_start, window_end, k, count(*) AS n FROM $stream, session(ts, '30 s') GROUP BY 1, 2, 3$$);
SELECT k, ms(window_start) AS first, ms(window_end) - 30000 AS last, n FROM one ORDER BY 1, 2;
(TABLE one EXCEPT ALL TABLE all_at_once) UNION ALL (TABLE all_at_once EXCEPT ALL TABLE one);
SELECT * FROM weir.verify('one');
CALL clean();
-- but not for more than a day
INSERT INTO input (ts, k, v) VALUES (ms(0), 'a', 1);
INSERT INTO input (ts, k, v) SELECT ms(t * 3600000), 'a', 1 FROM generate_series(3, 40) t;
INSERT INTO input (ts, k, v) VALUES (ms(2 * 3600000 + 1), 'a', 1), (ms(4 * 3600000), 'a', 1), (ms(50 * 3600000), 'b', 1);
CALL run($$weir.emit = 'final'$$, $$SELECT window_start, window_end, k, count(*) AS n FROM $stream, session(ts, '1 hour') GROUP BY 1, 2, 3$$);
SELECT k, ms(window_start) AS first, ms(window_end) AS end, n FROM one ORDER BY 1, 2;
(TABLE one EXCEPT ALL TABLE all_at_once) UNION ALL (TABLE all_at_once EXCEPT ALL TABLE one);
SELECT * FROM weir.verify('one');
SELECT count(*) AS remembered FROM weir.late_rows WHERE view = 'one'::regclass;
CALL clean();

-- changes with a lateness: closed sessions stay, and take nothing
INSERT INTO input (ts, k) VALUES (ms(0), 'a'), (ms(20000), 'a'), (ms(60001), 'b'),
  (ms(49000), 'a'), (ms(50000), 'a'),	-- within the gap of a session that is closed
  (ms(50001), 'a'), (ms(60000), 'b');
CALL run($$weir.lateness = '10 s'$$, $$SELECT window_start, window_end, k, count(*) AS n FROM $stream, session(ts, '30 s') GROUP BY 1, 2, 3$$);
SELECT k, ms(window_start) AS first, ms(window_end) - 30000 AS last, n FROM one ORDER BY 1, 2;
(TABLE one EXCEPT ALL TABLE all_at_once) UNION ALL (TABLE all_at_once EXCEPT ALL TABLE one);
SELECT * FROM weir.verify('one');
CALL clean();

-- no keys, NULL keys, a timestamp, a time that may be NULL; and what is united
CREATE TABLE odd (ts timestamptz, at timestamp, k int, t text, v numeric) WITH (weir.stream, weir.event_time = 'ts', weir.idle_timeout = 'off');
CREATE TABLE even (ts timestamptz, at timestamp, k int, t text, v numeric) WITH (weir.stream, weir.event_time = 'ts', weir.idle_timeout = 'off');
CREATE MATERIALIZED VIEW global WITH (weir.continuous) AS SELECT window_start, window_end, count(*) AS n FROM odd, session(ts, '1 s') GROUP BY window_start, window_end;
CREATE MATERIALIZED VIEW start_only WITH (weir.continuous) AS SELECT window_start, k, t, avg(v) AS mean, stddev(v) AS s, weir.top(v, 2) AS t2 FROM odd, session(ts, '3 s') GROUP BY window_start, k, t;
CREATE MATERIALIZED VIEW plain WITH (weir.continuous) AS SELECT window_end - window_start AS span, t, window_start, count(*) FROM odd CROSS JOIN LATERAL session(at, gap => '1 s') GROUP BY t, window_start, window_end;
CREATE MATERIALIZED VIEW both_streams WITH (weir.continuous) AS
  SELECT window_start, window_end, k, count(*) AS n FROM (SELECT * FROM odd UNION ALL SELECT * FROM even) u, session(u.ts, '1 s') WHERE v > 0 GROUP BY 1, 2, 3;
CREATE MATERIALIZED VIEW hidden WITH (weir.continuous, weir.emit = 'final') AS SELECT k, count(*) AS n FROM odd, session(ts, '1 s') GROUP BY window_start, k;
CREATE MATERIALIZED VIEW qualified WITH (weir.continuous) AS SELECT window_start, k, count(*) AS n FROM odd, session(ts, '2 s') GROUP BY window_start, window_end, k
  HAVING count(*) > 1 AND window_end - window_start > '3 s';
INSERT INTO odd SELECT ms(i * 300), CASE WHEN i % 7 <> 0 THEN (ms(i * 300) AT TIME ZONE 'UTC') END, nullif(i % 4, 0), CASE WHEN i % 5 > 1 THEN 'x' || i % 3 END, i
  FROM unnest(array[1, 5, 3, 9, 10, 11, 20, 30, 32, 31, 45, 6, 7, 50, 2]) i;
INSERT INTO even TABLE odd;
INSERT INTO odd SELECT ms(i * 300), ms(i * 300) AT TIME ZONE 'UTC', nullif(i % 4, 0), CASE WHEN i % 5 > 1 THEN 'x' || i % 3 END, i FROM unnest(array[8, 33, 47, 22, 100]) i;
SELECT ms(window_start), ms(window_end), n FROM global ORDER BY 1;
SELECT ms(window_start), k, t, mean, round(s, 2) AS s, t2 FROM start_only ORDER BY 1, 2, 3;
SELECT * FROM plain ORDER BY 2, 3;
SELECT k, n FROM hidden ORDER BY 1, 2;
SELECT * FROM qualified ORDER BY 1, 2;
SELECT v, w.* FROM unnest('{global,start_only,plain,both_streams,hidden,qualified}'::regclass[]) v, weir.verify(v) w;
DROP TABLE odd, even CASCADE;

-- a join with a table, rows that match twice; weir.keep of the view
CREATE TABLE tags (k int, tag text);
INSERT INTO tags VALUES (1, 'a'), (1, 'b'), (2, 'a');
CREATE TABLE s (ts timestamptz, k int, v int) WITH (weir.stream, weir.event_time = 'ts', weir.idle_timeout = 'off');
CREATE MATERIALIZED VIEW tagged WITH (weir.continuous, weir.keep = '1 minute') AS
  SELECT tag, window_start, window_end, sum(v) AS s, (SELECT count(*) FROM tags t WHERE t.tag = tags.tag) AS n FROM s JOIN tags USING (k), session(ts, '10 s') GROUP BY tag, window_start, window_end;
INSERT INTO s VALUES (ms(0), 1, 1), (ms(5000), 2, 2), (ms(20000), 1, 4), (ms(40000), 3, 8);
SELECT tag, ms(window_start), ms(window_end), s, n FROM tagged ORDER BY 1, 2;
INSERT INTO s VALUES (ms(76000), 2, 16);
SELECT tag, ms(window_start), ms(window_end), s FROM tagged ORDER BY 1, 2;
SET client_min_messages = notice;
SELECT * FROM weir.verify('tagged');
SET client_min_messages = warning;
-- what is no longer kept takes nothing
INSERT INTO s VALUES (ms(15000), 1, 1);	-- a's session is over, b goes back
SELECT tag, ms(window_start), ms(window_end), s FROM tagged ORDER BY 1, 2;
SELECT late FROM weir.stat_views WHERE view = 'tagged'::regclass;
DROP TABLE s, tags CASCADE;

-- a stream that keeps less than the view: verify looks at what the rows tell, REFRESH is refused
CREATE TABLE s (ts timestamptz, k int) WITH (weir.stream, weir.event_time = 'ts', weir.keep = '1 minute', weir.idle_timeout = 'off');
CREATE MATERIALIZED VIEW v WITH (weir.continuous) AS SELECT window_start, window_end, k, count(*) FROM s, session(ts, '10 s') GROUP BY 1, 2, 3;
INSERT INTO s SELECT ms(i * 6000), i % 3 FROM generate_series(1, 100) i;
SELECT count(*) FROM v;
SELECT * FROM weir.verify('v');
DROP TABLE s CASCADE;

-- views over sessions: of finals again windows and sessions, by window_end; of changing ones anything
CREATE TABLE s (ts timestamptz, k int, v int) WITH (weir.stream, weir.event_time = 'ts', weir.idle_timeout = 'off', weir.keep = '1 day');
CREATE MATERIALIZED VIEW f WITH (weir.continuous, weir.emit = 'final') AS SELECT window_start, window_end, k, count(*) AS n FROM s, session(ts, '10 s') GROUP BY 1, 2, 3;
CREATE MATERIALIZED VIEW c WITH (weir.continuous) AS SELECT window_start, window_end, k, count(*) AS n FROM s, session(ts, '10 s') GROUP BY 1, 2, 3;
CREATE MATERIALIZED VIEW minutes WITH (weir.continuous, weir.emit = 'final') AS SELECT w.window_start, count(*), sum(n) FROM f, tumble(f.window_end, '1 minute') w GROUP BY 1;
CREATE MATERIALIZED VIEW minutes2 WITH (weir.continuous, weir.emit = 'final') AS SELECT w.window_start, count(*), sum(n) FROM f, tumble(f.window_start, '1 minute') w GROUP BY 1;
CREATE MATERIALIZED VIEW longer WITH (weir.continuous) AS SELECT k, w.window_start, w.window_end, count(*), sum(n) FROM f, session(f.window_end, '30 s') w GROUP BY k, w.window_start, w.window_end;
CREATE MATERIALIZED VIEW lengths WITH (weir.continuous) AS SELECT k, count(*), avg(n), max(window_end - window_start) FROM c GROUP BY k;
CREATE MATERIALIZED VIEW longer2 WITH (weir.continuous) AS SELECT k, w.window_start, w.window_end, count(*) FROM c, session(c.window_end, '30 s') w GROUP BY k, w.window_start, w.window_end;
CREATE MATERIALIZED VIEW joined WITH (weir.continuous) AS
  SELECT a.k, w.window_start, w.window_end, count(*) FROM s a JOIN s b ON a.k = b.k AND b.ts BETWEEN a.ts AND a.ts + interval '1 minute', session(a.ts, '30 s') w GROUP BY 1, 2, 3;
INSERT INTO s SELECT ms(i * 1000), i % 3, i FROM generate_series(1, 200) i WHERE i % 40 < 20 OR i % 3 = 0;
INSERT INTO s SELECT ms(i * 1000), i % 3, i FROM generate_series(195, 400) i WHERE i % 40 < 20 OR i % 3 = 0;
INSERT INTO s VALUES (ms(398000), 1, 1), (ms(411000), 2, 1), (ms(390000), 2, 1);
TABLE minutes ORDER BY 1;
TABLE lengths ORDER BY 1;
SELECT k, count(*), sum(count), sum(sum) FROM longer GROUP BY 1 ORDER BY 1;
SELECT v, w.* FROM unnest('{f,c,minutes,longer,lengths}'::regclass[]) v, weir.verify(v) w;
DROP TABLE s CASCADE;

-- more rows than fit into memory
CREATE TABLE s (ts timestamptz, k text, v int) WITH (weir.stream, weir.event_time = 'ts', weir.idle_timeout = 'off', weir.keep = '10 days');
CREATE MATERIALIZED VIEW v WITH (weir.continuous) AS SELECT window_start, window_end, k, count(*) AS n, sum(v) AS s FROM s, session(ts, '10 s') GROUP BY 1, 2, 3;
CREATE MATERIALIZED VIEW f WITH (weir.continuous, weir.emit = 'final', weir.lateness = '5 hours') AS SELECT window_start, window_end, k, count(*) AS n, sum(v) AS s FROM s, session(ts, '10 s') GROUP BY 1, 2, 3;
SET work_mem = '64kB';
INSERT INTO s SELECT ms((i * 7919 % 20011) * 1000), 'key ' || i % 200 || repeat(' ', i % 40), i FROM generate_series(1, 20000) i;
INSERT INTO s SELECT ms((20000 + i * 7919 % 5003) * 1000), 'key ' || i % 200, i FROM generate_series(1, 5000) i;
SELECT count(*) > 15000 AS many, sum(n) FROM v;
SELECT count(*) > 100 AS many FROM f;
SELECT v, w.* FROM unnest('{v,f}'::regclass[]) v, weir.verify(v) w;
RESET work_mem;
DROP TABLE s CASCADE;

-- what is refused
CREATE TABLE s (ts timestamptz, k int, v int) WITH (weir.stream, weir.event_time = 'ts', weir.idle_timeout = 'off');
CREATE MATERIALIZED VIEW v WITH (weir.continuous) AS SELECT window_start, v FROM s, session(ts, '1 s');
CREATE MATERIALIZED VIEW v WITH (weir.continuous) AS SELECT k, count(*) FROM s, session(ts, '1 s') GROUP BY k;
CREATE MATERIALIZED VIEW v WITH (weir.continuous) AS SELECT k, count(*) FROM s, session(ts, '1 s') GROUP BY k, window_start;
CREATE MATERIALIZED VIEW v WITH (weir.continuous) AS SELECT date_trunc('day', window_start), window_start, count(*) FROM s, session(ts, '1 s') GROUP BY 1, 2;
CREATE MATERIALIZED VIEW v WITH (weir.continuous) AS SELECT window_start, sum(v) FILTER (WHERE ts > window_start) FROM s, session(ts, '1 s') GROUP BY 1;
CREATE MATERIALIZED VIEW v WITH (weir.continuous) AS SELECT window_start, count(*) FROM s, session(ts, '1 s') WHERE window_start > '2020-01-01' GROUP BY 1;
CREATE MATERIALIZED VIEW v WITH (weir.continuous) AS SELECT window_start, count(*) FROM s LEFT JOIN LATERAL session(ts, '1 s') ON true GROUP BY 1;
CREATE MATERIALIZED VIEW v WITH (weir.continuous) AS SELECT window_start, count(*) FROM s, session(ts, v * interval '1 s') GROUP BY 1;
CREATE MATERIALIZED VIEW v WITH (weir.continuous) AS SELECT window_start, count(*) FROM s, session(ts, '1 month') GROUP BY 1;
CREATE MATERIALIZED VIEW v WITH (weir.continuous) AS SELECT window_start, count(*) FROM s, session(ts, '0 s') GROUP BY 1;
CREATE MATERIALIZED VIEW v WITH (weir.continuous) AS SELECT w.window_start, count(*) FROM s, session(ts, '1 s') w, tumble(ts, '1 s') t GROUP BY 1;
CREATE MATERIALIZED VIEW v WITH (weir.continuous) AS SELECT window_start, count(*) FROM (SELECT * FROM s, session(ts, '1 s')) x GROUP BY 1;
CREATE MATERIALIZED VIEW v WITH (weir.continuous) AS SELECT window_start, k, count(*) FROM s, session(ts, '1 s') GROUP BY ROLLUP (1, 2);
CREATE MATERIALIZED VIEW v WITH (weir.continuous, weir.keep = '1 hour') AS SELECT window_start, count(*) FROM s, session(ts, '1 s') GROUP BY 1;
CREATE MATERIALIZED VIEW v WITH (weir.continuous, weir.emit = 'final') AS SELECT window_start, count(*) FROM s, session(ts + interval '1 s', '1 s') GROUP BY 1;
-- a time that has no end
CREATE MATERIALIZED VIEW v WITH (weir.continuous) AS SELECT window_start, count(*) FROM s, session(CASE WHEN v < 0 THEN 'infinity' ELSE ts END, '1 s') GROUP BY 1;
INSERT INTO s VALUES (ms(0), 1, 1);
INSERT INTO s VALUES (ms(0), 1, -1);
TABLE v;
DROP TABLE s CASCADE;

-- random rows, random batches, against gaps and islands and against a replay of the rule
CREATE TABLE s (ts timestamptz, k text, j int, v int) WITH (weir.stream, weir.event_time = 'ts', weir.idle_timeout = 'off', weir.keep = '10 years');
CREATE TABLE names (j int PRIMARY KEY, name text);
INSERT INTO names SELECT i, 'n' || i % 2 FROM generate_series(0, 3) i;
CREATE MATERIALIZED VIEW open WITH (weir.continuous) AS SELECT k, window_start, window_end, count(*) AS n, sum(v) AS s, avg(v) AS a FROM s, session(ts, '5 s') GROUP BY k, window_start, window_end;
CREATE MATERIALIZED VIEW late WITH (weir.continuous, weir.lateness = '7 s') AS SELECT window_start, k, window_end, count(*) AS n, sum(v) AS s, stddev(v) AS d FROM s, session(ts, '5 s') GROUP BY k, window_start, window_end;
CREATE MATERIALIZED VIEW final WITH (weir.continuous, weir.emit = 'final') AS SELECT window_start, window_end, k, count(*) AS n, sum(v) AS s FROM s, session(ts, '5 s') GROUP BY k, window_start, window_end;
CREATE MATERIALIZED VIEW late_final WITH (weir.continuous, weir.emit = 'final', weir.lateness = '4 s') AS SELECT window_start, window_end, k, count(*) AS n, sum(v) AS s FROM s, session(ts, '5 s') GROUP BY k, window_start, window_end;
CREATE MATERIALIZED VIEW qualified WITH (weir.continuous) AS SELECT k, window_start, count(*) AS n, max(v) AS m FROM s, session(ts, '5 s') GROUP BY k, window_start HAVING count(*) > 2 AND max(v) > 50;
CREATE MATERIALIZED VIEW joined WITH (weir.continuous) AS SELECT name, window_start, window_end, count(*) AS n FROM s JOIN names USING (j), session(ts, '3 s') WHERE v % 3 <> 0 GROUP BY name, window_start, window_end;

CREATE TABLE r (id serial, ts timestamptz, k text, j int, v int);
CREATE FUNCTION islands(gap interval) RETURNS TABLE (k text, first timestamptz, until timestamptz, n bigint, s bigint) LANGUAGE sql AS $$
  SELECT k, min(ts), max(ts) + gap, count(*), sum(v)
  FROM (SELECT *, count(*) FILTER (WHERE ts - p > gap OR p IS NULL) OVER (PARTITION BY k ORDER BY ts, id) AS g
        FROM (SELECT *, lag(ts) OVER (PARTITION BY k ORDER BY ts, id) AS p FROM session_test.r) x) y
  GROUP BY k, g $$;
CREATE TABLE model (k text, a timestamptz, b timestamptz, n bigint, s bigint);
CREATE FUNCTION replay(gap interval, lateness interval, final boolean) RETURNS TABLE (k text, first timestamptz, until timestamptz, n bigint, s bigint) LANGUAGE plpgsql AS $$
DECLARE
  x record; stream_time timestamptz; lo timestamptz; hi timestamptz; c bigint; t bigint; closed boolean;
BEGIN
  DELETE FROM session_test.model;
  FOR x IN SELECT * FROM session_test.r ORDER BY id LOOP
    stream_time := greatest(stream_time, x.ts);
    SELECT min(a), max(b), coalesce(sum(m.n), 0), coalesce(sum(m.s), 0), bool_or(b + gap + lateness < stream_time) INTO lo, hi, c, t, closed
      FROM session_test.model m WHERE m.k IS NOT DISTINCT FROM x.k AND x.ts BETWEEN a - gap AND b + gap;
    CONTINUE WHEN closed OR greatest(hi, x.ts) + gap + lateness < stream_time;
    DELETE FROM session_test.model m WHERE m.k IS NOT DISTINCT FROM x.k AND x.ts BETWEEN a - gap AND b + gap;
    INSERT INTO session_test.model VALUES (x.k, least(lo, x.ts), greatest(hi, x.ts), c + 1, t + x.v);
  END LOOP;
  RETURN QUERY SELECT m.k, a, b + gap, m.n, m.s FROM session_test.model m WHERE NOT final OR b + gap + lateness < stream_time;
END $$;
CREATE FUNCTION differ(view text, model text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE n bigint;
BEGIN
  EXECUTE format('SELECT count(*) FROM ((SELECT k, window_start, window_end, n, s FROM %1$s EXCEPT ALL SELECT * FROM %2$s)'
                 ' UNION ALL (SELECT * FROM %2$s EXCEPT ALL SELECT k, window_start, window_end, n, s FROM %1$s)) x', view, model) INTO n;
  IF n > 0 THEN
    RAISE EXCEPTION '% differs from % in % rows', view, model, n;
  END IF;
END $$;
CREATE PROCEDURE rounds(seed float8, batches int, speed int) LANGUAGE plpgsql AS $$
DECLARE
  base int := (SELECT coalesce(max(extract(epoch FROM ts)), 0) FROM session_test.r); difference text;
BEGIN
  PERFORM setseed(seed);
  FOR b IN 1..batches LOOP
    base := base + (random() * speed)::int;
    WITH x AS (
      INSERT INTO session_test.r (ts, k, j, v)
        SELECT timestamptz 'epoch' + (base + random() * 20 - CASE WHEN random() < .1 THEN 40 * random() ELSE 0 END)::int * interval '1 s',
               (array['a', 'b', 'c', NULL])[1 + (random() * 3.99)::int], (random() * 4)::int, (random() * 100)::int
        FROM generate_series(1, 1 + (random() * random() * 30)::int) RETURNING *)
    INSERT INTO session_test.s SELECT ts, k, j, v FROM (SELECT * FROM x ORDER BY id) y;
    COMMIT;
  END LOOP;
  PERFORM session_test.differ('open', 'islands(''5 s'')');
  PERFORM session_test.differ('late', 'replay(''5 s'', ''7 s'', false)');
  PERFORM session_test.differ('final', 'replay(''5 s'', ''0 s'', true)');
  PERFORM session_test.differ('late_final', 'replay(''5 s'', ''4 s'', true)');
  FOR difference IN SELECT v || ' ' || side || ' ' || record FROM unnest('{open,late,final,late_final,qualified,joined}'::text[]) v, weir.verify(v::regclass) LOOP
    RAISE EXCEPTION '%', difference;
  END LOOP;
END $$;
CALL rounds(0.1, 60, 4);
CALL rounds(0.2, 30, 15);
CALL rounds(0.3, 30, 1);
SELECT count(*) > 50 AS many, max(n) > 5 AS long FROM final;
SELECT bool_and(late > 20) FROM weir.stat_views WHERE view IN ('late'::regclass, 'final'::regclass, 'late_final'::regclass);

-- made and refreshed later, from the rows kept, they are the same; and go on as before
CREATE MATERIALIZED VIEW final_later WITH (weir.continuous, weir.emit = 'final') AS SELECT window_start, window_end, k, count(*) AS n, sum(v) AS s FROM s, session(ts, '5 s') GROUP BY k, window_start, window_end;
CREATE MATERIALIZED VIEW late_later WITH (weir.continuous, weir.lateness = '7 s') AS SELECT window_start, k, window_end, count(*) AS n, sum(v) AS s, stddev(v) AS d FROM s, session(ts, '5 s') GROUP BY k, window_start, window_end;
REFRESH MATERIALIZED VIEW final;
REFRESH MATERIALIZED VIEW late;
REFRESH MATERIALIZED VIEW qualified;
CALL rounds(0.4, 20, 4);
(TABLE final EXCEPT ALL TABLE final_later) UNION ALL (TABLE final_later EXCEPT ALL TABLE final);
SELECT count(*) FROM ((SELECT k, window_start, window_end, n, s FROM late EXCEPT ALL SELECT k, window_start, window_end, n, s FROM late_later) UNION ALL
  (SELECT k, window_start, window_end, n, s FROM late_later EXCEPT ALL SELECT k, window_start, window_end, n, s FROM late)) x;
SELECT v, w.* FROM unnest('{final_later,late_later}'::regclass[]) v, weir.verify(v) w;

DROP SCHEMA session_test CASCADE;
