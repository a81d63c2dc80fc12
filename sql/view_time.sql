-- Windows, lateness and finals: the worked cases, row by row and in one statement.
-- What is late does not depend on how rows are cut into batches.
SET timezone = 'UTC';
SET intervalstyle = 'postgres';
SET client_min_messages = warning;

CREATE SCHEMA time_test;
SET search_path = time_test, public;

CREATE FUNCTION ms(bigint) RETURNS timestamptz LANGUAGE sql IMMUTABLE
  AS $$ SELECT timestamptz '1970-01-01 00:00:00+00' + $1 * interval '1 ms' $$;
CREATE FUNCTION ms(timestamptz) RETURNS bigint LANGUAGE sql IMMUTABLE
  AS $$ SELECT (extract(epoch FROM $1) * 1000)::bigint $$;

-- rows of a case, in order of arrival
CREATE TABLE input (test text, n serial, ts timestamptz, k text, v int);

-- one statement per row, or all rows in one
CREATE PROCEDURE feed(stream regclass, which text, one_by_one boolean) LANGUAGE plpgsql AS $$
DECLARE r record;
BEGIN
  IF NOT one_by_one THEN
    EXECUTE format('INSERT INTO %s SELECT ts, k, v FROM time_test.input WHERE test = %L ORDER BY n', stream, which);
    RETURN;
  END IF;
  FOR r IN SELECT * FROM time_test.input WHERE test = which ORDER BY n LOOP
    EXECUTE format('INSERT INTO %s VALUES ($1, $2, $3)', stream) USING r.ts, r.k, r.v;
    COMMIT;
  END LOOP;
END $$;

CREATE TABLE rowwise (ts timestamptz, k text, v int) WITH (weir.stream, weir.event_time = 'ts', weir.late = 'keep', weir.idle_timeout = 'off');
CREATE TABLE whole (ts timestamptz, k text, v int) WITH (weir.stream, weir.event_time = 'ts', weir.late = 'keep', weir.idle_timeout = 'off');

-- makes a view over each of the two streams, feeds them, shows the rows and what verify says
CREATE PROCEDURE run(which text, options text, query text) LANGUAGE plpgsql AS $$
DECLARE stream text;
BEGIN
  FOREACH stream IN ARRAY ARRAY['rowwise', 'whole'] LOOP
    EXECUTE format('CREATE MATERIALIZED VIEW %I WITH (%s) AS %s', which || '_' || stream,
                   concat_ws(', ', 'weir.continuous', options), replace(query, '$stream', stream));
    CALL time_test.feed(stream::regclass, which, stream = 'rowwise');
    COMMIT;
  END LOOP;
END $$;

-- C1: tumbling, out of order, nothing is late
INSERT INTO input (test, ts, k, v) VALUES
  ('c1', ms(0), 'k0', 0), ('c1', ms(89999), 'k0', 1), ('c1', ms(10009), 'k0', 5), ('c1', ms(90000), 'k0', 0),
  ('c1', ms(10010), 'k0', 6), ('c1', ms(10009), 'k1', 100), ('c1', ms(30000), 'k1', 101),
  ('c1', ms(86412022), 'k1', 200), ('c1', ms(60000), 'k1', 200);
CALL run('c1', NULL, $$SELECT window_start, window_end, k, max(v) AS m FROM $stream, tumble(ts, '30 s') GROUP BY 1, 2, 3$$);
SELECT k, ms(window_start) AS from, ms(window_end) AS to, m FROM c1_rowwise ORDER BY 1, 2;
(TABLE c1_rowwise EXCEPT TABLE c1_whole) UNION ALL (TABLE c1_whole EXCEPT TABLE c1_rowwise);
DROP MATERIALIZED VIEW c1_rowwise, c1_whole;
DELETE FROM input;
DROP TABLE rowwise, whole;
CREATE TABLE rowwise (ts timestamptz, k text, v int) WITH (weir.stream, weir.event_time = 'ts', weir.late = 'keep', weir.idle_timeout = 'off');
CREATE TABLE whole (ts timestamptz, k text, v int) WITH (weir.stream, weir.event_time = 'ts', weir.late = 'keep', weir.idle_timeout = 'off');

-- C2: hopping windows of 5 s by 1 s
INSERT INTO input (test, ts, k) VALUES ('c2', ms(10345), 'k0'), ('c2', ms(13251), 'k0');
CALL run('c2', NULL, $$SELECT window_start, window_end, k, count(*) AS n FROM $stream, hop(ts, '5 s', '1 s') GROUP BY 1, 2, 3$$);
SELECT k, ms(window_start) AS from, ms(window_end) AS to, n FROM c2_rowwise ORDER BY 1, 2;
(TABLE c2_rowwise EXCEPT TABLE c2_whole) UNION ALL (TABLE c2_whole EXCEPT TABLE c2_rowwise);
SELECT * FROM weir.verify('c2_rowwise');
DROP TABLE rowwise, whole CASCADE;
CREATE TABLE rowwise (ts timestamptz, k text, v int) WITH (weir.stream, weir.event_time = 'ts', weir.late = 'keep', weir.idle_timeout = 'off');
CREATE TABLE whole (ts timestamptz, k text, v int) WITH (weir.stream, weir.event_time = 'ts', weir.late = 'keep', weir.idle_timeout = 'off');

-- C5: a final is inserted exactly when stream time reaches the window's end
CREATE MATERIALIZED VIEW c5 WITH (weir.continuous, weir.emit = 'final') AS
  SELECT window_start, window_end, k, count(*) AS n FROM rowwise, tumble(ts, '2 ms') GROUP BY 1, 2, 3;
INSERT INTO rowwise VALUES (ms(0), 'k1');
INSERT INTO rowwise VALUES (ms(1), 'k1');
SELECT count(*) FROM c5;
INSERT INTO rowwise VALUES (ms(2), 'k1');
SELECT k, ms(window_start) AS from, ms(window_end) AS to, n FROM c5;
SELECT * FROM weir.verify('c5');
DROP TABLE rowwise CASCADE;
CREATE TABLE rowwise (ts timestamptz, k text, v int) WITH (weir.stream, weir.event_time = 'ts', weir.late = 'keep', weir.idle_timeout = 'off');

-- C6: late within the lateness, late after the close. The log sees each final once.
CREATE TABLE log (n serial, line text);
CREATE FUNCTION log_final() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN INSERT INTO time_test.log (line) VALUES (tg_table_name || ' ' || to_jsonb(new)::text); RETURN NULL; END $$;
INSERT INTO input (test, ts, k) VALUES ('c6', ms(0), 'k1'), ('c6', ms(1), 'k1'), ('c6', ms(2), 'k1'),
  ('c6', ms(1), 'k1'), ('c6', ms(0), 'k1'), ('c6', ms(5), 'k1'), ('c6', ms(0), 'k1');
CREATE MATERIALIZED VIEW c6_rowwise WITH (weir.continuous, weir.emit = 'final', weir.lateness = '1 ms') AS
  SELECT window_start, window_end, k, count(*) AS n FROM rowwise, tumble(ts, '2 ms') GROUP BY 1, 2, 3;
CREATE MATERIALIZED VIEW c6_whole WITH (weir.continuous, weir.emit = 'final', weir.lateness = '1 ms') AS
  SELECT window_start, window_end, k, count(*) AS n FROM whole, tumble(ts, '2 ms') GROUP BY 1, 2, 3;
CREATE TRIGGER log AFTER INSERT OR UPDATE OR DELETE ON c6_rowwise FOR EACH ROW EXECUTE FUNCTION log_final();
CREATE TRIGGER log AFTER INSERT OR UPDATE OR DELETE ON c6_whole FOR EACH ROW EXECUTE FUNCTION log_final();
CALL feed('rowwise', 'c6', true);
CALL feed('whole', 'c6', false);
SELECT line FROM log ORDER BY n;
SELECT view, event_time, window_start, reason, record FROM weir.late_rows ORDER BY view::text, "offset";
SELECT view, rows_in, rows_changed, late FROM weir.stat_views WHERE view::text LIKE '%c6%' ORDER BY view::text;
SELECT * FROM weir.verify('c6_rowwise');
SELECT * FROM weir.verify('c6_whole');
-- WITH DATA: what the kept rows have closed is there, and the same
CREATE MATERIALIZED VIEW c6_later WITH (weir.continuous, weir.emit = 'final', weir.lateness = '1 ms') AS
  SELECT window_start, window_end, k, count(*) AS n FROM rowwise, tumble(ts, '2 ms') GROUP BY 1, 2, 3;
(TABLE c6_rowwise EXCEPT TABLE c6_later) UNION ALL (TABLE c6_later EXCEPT TABLE c6_rowwise);
-- a rebuild as well
REFRESH MATERIALIZED VIEW c6_later;
(TABLE c6_rowwise EXCEPT TABLE c6_later) UNION ALL (TABLE c6_later EXCEPT TABLE c6_rowwise);
-- the windows that are open live in the state table
SELECT line FROM weir.explain('c6_later') AS line WHERE line ~ '^(strategy|why)';

-- a select list that does not show the window; HAVING is asked once, at the end
CREATE MATERIALIZED VIEW shown WITH (weir.continuous, weir.emit = 'final') AS
  SELECT k, count(*) AS n, avg(v) AS mean FROM whole, tumble(ts, '1 s') GROUP BY window_start, k HAVING count(*) > 1;
INSERT INTO whole VALUES (ms(10000), 'a', 1), (ms(10100), 'a', 2), (ms(10200), 'b', 1), (ms(10300), 'b', 5), (ms(11000), 'b', 6);
SELECT * FROM shown ORDER BY 1;
INSERT INTO whole VALUES (ms(12000), 'c', 6);
SELECT * FROM shown ORDER BY 1;
SELECT * FROM weir.verify('shown');

-- hop and cumulate: each window closes at its own end
CREATE MATERIALIZED VIEW hops WITH (weir.continuous, weir.emit = 'final') AS
  SELECT window_start, window_end, count(*) AS n FROM whole, hop(ts, '3 s', '1 s') GROUP BY 1, 2;
CREATE MATERIALIZED VIEW steps WITH (weir.continuous, weir.emit = 'final') AS
  SELECT window_start, window_end, sum(v) AS v FROM whole, cumulate(ts, '4 s', '1 s') GROUP BY 1, 2;
INSERT INTO whole VALUES (ms(13500), 'c', 1), (ms(14700), 'c', 2), (ms(14200), 'c', 3);
SELECT ms(window_start) AS from, ms(window_end) AS to, n FROM hops ORDER BY 1, 2;
SELECT ms(window_start) AS from, ms(window_end) AS to, v FROM steps ORDER BY 1, 2;
INSERT INTO whole VALUES (ms(12900), 'late', 100);
-- accepted by the windows that are open, late for those that were missed
SELECT view, window_start FROM weir.late_rows WHERE record->>'k' = 'late' ORDER BY view::text;
INSERT INTO whole VALUES (ms(20000), 'c', 0);
SELECT ms(window_start) AS from, ms(window_end) AS to, n FROM hops ORDER BY 1, 2;
SELECT ms(window_start) AS from, ms(window_end) AS to, v FROM steps ORDER BY 1, 2;
SELECT * FROM weir.verify('hops');
SELECT * FROM weir.verify('steps');

-- C11: clocks from the future move nothing
INSERT INTO whole VALUES ('9999-01-01 00:00:00+00', 'x', 1);
SELECT closed FROM weir.view_close WHERE view = 'hops'::regclass;

-- what a final view needs
CREATE MATERIALIZED VIEW bad WITH (weir.continuous, weir.emit = 'final') AS SELECT k, count(*) FROM whole GROUP BY k;
CREATE MATERIALIZED VIEW bad WITH (weir.continuous, weir.emit = 'final') AS
  SELECT window_start, count(*) FROM whole, cumulate(ts, '4 s', '1 s') GROUP BY 1;
CREATE MATERIALIZED VIEW bad WITH (weir.continuous, weir.emit = 'final') AS
  SELECT window_start, count(*) FROM whole, tumble(ts + interval '1 hour', '4 s') GROUP BY 1;

-- nothing is left behind
DROP TABLE rowwise, whole CASCADE;
SELECT count(*) FROM weir.view_close;

-- window functions by hand
SELECT * FROM hop(timestamptz '2024-03-10 12:00:00+00', '3 months', '1 month');
SELECT * FROM hop(timestamptz '1970-01-01 00:00:12.345+00', '1 s', '5 s');
SELECT * FROM hop(timestamptz '1970-01-01 00:00:11+00', '2500 ms', '1 s');
SELECT * FROM hop(timestamptz '1969-12-31 23:59:58+00', '5 s', '2 s', origin => timestamptz '1970-01-01 00:00:01+00');
SELECT * FROM hop(timestamp '2024-03-10 12:00', '2 days', '1 day', time_zone => 'Asia/Tokyo');
-- the night that clocks change: 23 and 25 hours
SELECT * FROM hop(timestamptz '2024-03-31 12:00+00', '2 days', '1 day', 'Europe/Berlin');
SELECT window_end - window_start AS length FROM cumulate(timestamptz '2024-10-26 22:30+00', '1 day', '6 hours', 'Europe/Berlin');
SELECT * FROM cumulate(timestamp '2024-10-27 22:30', '1 year', '3 months');
SELECT * FROM cumulate(NULL::timestamptz, '1 day', '1 hour');
SELECT * FROM hop(timestamptz '1969-12-31 23:59:58+00', '5 s', '1 month');
SELECT * FROM hop(timestamptz '1969-12-31 23:59:58+00', '5 s', '0 s');

DROP SCHEMA time_test CASCADE;
