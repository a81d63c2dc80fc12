-- Finals of OVER without windows in FROM: moving frames over the event time, compared with the same queries over a plain table.
CREATE SCHEMA view_over;
SET search_path = view_over, public;
SET TimeZone = 'UTC';
SET DateStyle = 'ISO, YMD';
CREATE TABLE s (k int, v int, at timestamptz) WITH (weir.stream, weir.event_time = 'at', weir.idle_timeout = 'off', weir.late = 'keep', weir.keep = '20 s');
CREATE TABLE names (k int PRIMARY KEY, name text);
INSERT INTO names SELECT n, 'k' || n FROM generate_series(0, 3) n;
CREATE TABLE came (n serial, k int, v int, at timestamptz, late boolean);   -- the rows as they came, and whether they were more than 2 s behind the newest
CREATE TABLE log (view text, op text, final jsonb);
CREATE FUNCTION log_final() RETURNS trigger LANGUAGE plpgsql AS $$
  BEGIN INSERT INTO view_over.log VALUES (tg_table_name, tg_op, to_jsonb(new)); RETURN NULL; END $$;
-- source: the stream, or the rows that came; tie: what decides there where the view goes by arrival
CREATE TABLE queries (name text, query text, forth interval, remembers boolean DEFAULT false);
INSERT INTO queries VALUES
('moving', $$SELECT k, at, v, sum(v) OVER w AS s, count(*) FILTER (WHERE v > 4) OVER w AS n FROM source WINDOW w AS (PARTITION BY k ORDER BY at RANGE BETWEEN interval '3 s' PRECEDING AND CURRENT ROW)$$, '0'),
('around', $$SELECT at, v, avg(v) OVER (ORDER BY at RANGE BETWEEN interval '2 s' PRECEDING AND interval '1.5 s' FOLLOWING) AS a FROM source WHERE v > 1$$, '1.5 s'),
('ahead', $$SELECT at, k, v, max(v) OVER (PARTITION BY k ORDER BY at RANGE BETWEEN interval '1 s' FOLLOWING AND interval '2 s' FOLLOWING) AS m FROM source$$, '2 s'),
('peers', $$SELECT at, v, count(*) OVER (ORDER BY at RANGE CURRENT ROW) AS same, array_length(array_agg(v) OVER (PARTITION BY v % 2 ORDER BY at RANGE BETWEEN interval '1 s' PRECEDING AND interval '0.1 s' PRECEDING), 1) AS before FROM source$$, '0'),
('twice', $$SELECT k, at, s, max(s) OVER (ORDER BY at RANGE interval '2 s' PRECEDING) AS most FROM (SELECT k, at, sum(v) OVER (PARTITION BY k ORDER BY at RANGE interval '2 s' PRECEDING) AS s FROM source) x WHERE s > 3$$, '0'),
('named', $$SELECT name, at, m FROM (SELECT name, at, min(v) OVER (PARTITION BY name ORDER BY at RANGE interval '5 s' PRECEDING) AS m FROM (SELECT k, v, at FROM source WHERE v < 5 UNION ALL SELECT k, v + 1, at FROM source WHERE v > 5) u LEFT JOIN names USING (k)) x WHERE m % 2 = 0$$, '0');
INSERT INTO queries VALUES
('lags', $$SELECT k, at, v, lag(v) OVER w AS l, v - lag(v, 3, -1) OVER w AS d, row_number() OVER w AS n FROM source WINDOW w AS (PARTITION BY k ORDER BY at tie)$$, '0', true),
('totals', $$SELECT k, at, sum(v) OVER w AS s, avg(v) OVER w AS a, count(*) FILTER (WHERE v > 4) OVER w AS n, min(v::text) OVER w AS t, max(v) OVER w AS m, bool_or(v = 9) OVER w AS b, rank() OVER w AS r, dense_rank() OVER w AS d,
              extract(epoch FROM avg(v * interval '1 s') OVER w) AS i, sum(v / 7.0) OVER w AS y FROM source LEFT JOIN names USING (k) WINDOW w AS (PARTITION BY k, name ORDER BY at)$$, '0', true),
('last_rows', $$SELECT k, at, v, sum(v) OVER (p ROWS 4 PRECEDING) AS s, last_value(v) OVER (p ROWS BETWEEN UNBOUNDED PRECEDING AND 2 PRECEDING) AS l, nth_value(v, 2) OVER (PARTITION BY v % 2, k ORDER BY at, v tie ROWS BETWEEN 3 PRECEDING AND 1 PRECEDING) AS n,
              sum(v) OVER (p ROWS BETWEEN UNBOUNDED PRECEDING AND 5 PRECEDING) AS t FROM source WINDOW p AS (PARTITION BY k, v % 2 ORDER BY at tie)$$, '0', true),
('mixed', $$SELECT k, at, lag(k) OVER (ORDER BY at tie) AS l, avg(v) OVER (ORDER BY at RANGE interval '2 s' PRECEDING) AS a, sum(v) OVER (ORDER BY at RANGE BETWEEN UNBOUNDED PRECEDING AND interval '1 s' PRECEDING) AS s,
              max(v) OVER (ORDER BY at RANGE BETWEEN CURRENT ROW AND interval '1 s' FOLLOWING) AS m, count(*) OVER (ORDER BY at RANGE BETWEEN UNBOUNDED PRECEDING AND interval '1 s' FOLLOWING) AS n FROM source$$, '1 s', true),
('groups', $$SELECT at, sum(v) OVER (ORDER BY at GROUPS BETWEEN 3 PRECEDING AND 1 PRECEDING) AS g, count(v) OVER (ORDER BY at tie ROWS UNBOUNDED PRECEDING EXCLUDE CURRENT ROW) AS c FROM (SELECT * FROM source WHERE k > 1 UNION ALL SELECT * FROM source WHERE k = 0) u$$, '0', true),
('ranks', $$SELECT k, at, v, dense_rank() OVER (PARTITION BY k ORDER BY at, v) AS d, rank() OVER (PARTITION BY k ORDER BY at, v DESC) AS r, dense_rank() OVER (PARTITION BY k ORDER BY at, v / 3 DESC) AS t, dense_rank() OVER (PARTITION BY k ORDER BY at) AS o FROM source$$, '0', true),
('first3', $$SELECT k, at, v FROM (SELECT k, at, v, row_number() OVER (PARTITION BY k ORDER BY at tie) AS n FROM source) x WHERE n <= 3$$, '0', true),
-- without duplicates of a time, by the kept rows or by the row before; and the last row of a key, when none follows for a time
('alone', $$SELECT k, at, v FROM (SELECT k, at, v, count(*) OVER (PARTITION BY k ORDER BY at RANGE interval '0.3 s' PRECEDING) AS n FROM source) x WHERE n = 1$$, '0', false),
('once', $$SELECT k, at, v FROM (SELECT k, at, v, lag(at) OVER (PARTITION BY k ORDER BY at tie) AS before FROM source) x WHERE before IS NULL OR at - before > interval '0.3 s'$$, '0', true),
('last', $$SELECT k, at, v FROM (SELECT k, at, v, count(*) OVER (PARTITION BY k ORDER BY at RANGE BETWEEN CURRENT ROW AND interval '0.3 s' FOLLOWING) AS n FROM source) x WHERE n = 1$$, '0.3 s', false);
DO $$
DECLARE
  q record;
BEGIN
  FOR q IN SELECT * FROM queries LOOP
    EXECUTE format('CREATE MATERIALIZED VIEW %s WITH (weir.continuous, weir.emit = ''final'', weir.lateness = ''2 s'') AS %s', q.name, replace(replace(q.query, 'source', 's'), 'tie', ''));
    EXECUTE format('CREATE TRIGGER log AFTER INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION log_final()', q.name);
  END LOOP;
END $$;
SELECT DISTINCT strategy FROM weir.views;
-- batches of 1, of some, of all; some rows are late
CREATE FUNCTION feed(seed float8, first int, last int, most int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  b record;
BEGIN
  PERFORM setseed(seed);
  FOR b IN SELECT array_agg(format('(%s,%s,%s)', k, v, at) ORDER BY n) AS rows
             FROM (SELECT n, CASE WHEN random() < 0.9 THEN (random() * 4)::int::text END AS k, CASE WHEN random() < 0.9 THEN (random() * 9)::int::text END AS v,
                          timestamptz '2025-01-01Z' + n * interval '100 ms' - (random() * random() * 30)::int * interval '100 ms' AS at FROM generate_series(first, last) n) i GROUP BY n / most ORDER BY min(n) LOOP
    INSERT INTO came (k, v, at) SELECT (x::s).* FROM unnest(b.rows) WITH ORDINALITY u(x, n) ORDER BY n;
    INSERT INTO s SELECT (x::s).* FROM unnest(b.rows) WITH ORDINALITY u(x, n) ORDER BY n;
  END LOOP;
  UPDATE came c SET late = at < x.newest - interval '2 s' FROM (SELECT n, max(at) OVER (ORDER BY n) AS newest FROM came) x WHERE x.n = c.n;
END $$;
CREATE FUNCTION wrong(newest timestamptz) RETURNS TABLE (name text, side text, record jsonb) LANGUAGE plpgsql AS $$
DECLARE
  q record;
  expected text;
BEGIN
  FOR q IN SELECT * FROM queries LOOP
    expected := format('SELECT * FROM (%s) d WHERE at < %L', replace(replace(q.query, 'source', '(SELECT k, v, at, n FROM came WHERE NOT late) r'), 'tie', ', n'), newest - interval '2 s' - q.forth);
    RETURN QUERY EXECUTE format('SELECT %L, ''missing'', to_jsonb(x) FROM (%s EXCEPT ALL TABLE %1$s) x', q.name, expected);
    RETURN QUERY EXECUTE format('SELECT %L, ''extra'', to_jsonb(x) FROM (TABLE %1$s EXCEPT ALL %s) x', q.name, expected);
    RETURN QUERY EXECUTE format('SELECT %L, ''twice'', final FROM log WHERE view = %1$L EXCEPT ALL SELECT %1$L, ''twice'', to_jsonb(x) FROM %1$I x', q.name);
    CONTINUE WHEN q.remembers AND newest > '2025-01-01 00:00:18Z';     -- what is remembered is no longer kept
    RETURN QUERY SELECT q.name, f.side, f.record FROM weir.verify(q.name::regclass) f;
  END LOOP;
END $$;
SELECT feed(0.1, 0, 150, 1);
SELECT * FROM wrong((SELECT max(at) FROM came));
SELECT feed(0.11, 151, 300, 2);
SELECT * FROM wrong((SELECT max(at) FROM came));
SELECT feed(0.2, 301, 900, 7);
SELECT * FROM wrong((SELECT max(at) FROM came));
SELECT feed(0.3, 901, 1300, 60);
SELECT * FROM wrong((SELECT max(at) FROM came));
SELECT count(*) < (SELECT count(*) FROM came) AS expired FROM s;
SELECT feed(0.4, 1301, 1800, 100000);
SELECT * FROM wrong((SELECT max(at) FROM came));
SELECT DISTINCT op FROM log;
SELECT late = (SELECT count(*) FROM came WHERE late) AS late_counted, late > 10 AS some FROM weir.stat_views WHERE view = 'moving'::regclass;
SELECT count(*) > 1500 AS moving, count(s) < count(*) AS nulls FROM moving;
SELECT count(*) FROM first3;
SELECT (SELECT count(*) FROM alone) BETWEEN 300 AND 1500 AS alone, (SELECT count(*) FROM once) BETWEEN 300 AND 1500 AS once, (SELECT count(*) FROM last) BETWEEN 300 AND 1500 AS last;
SELECT * FROM weir.verify('lags');
-- of each of six keys (NULL is one) the rows of the last three times are remembered
DO $$ BEGIN EXECUTE format('CREATE VIEW remembered AS SELECT * FROM %s', (SELECT state FROM weir.view_def WHERE view = 'lags'::regclass)); END $$;
SELECT count(*) BETWEEN 18 AND 60 AS few, count(DISTINCT h) FROM remembered;
-- the moment: strictly behind the watermark, less lateness and what follows
CREATE TABLE a (k int, v numeric, at timestamp) WITH (weir.stream, weir.event_time = 'at', weir.idle_timeout = 'off', weir.late = 'keep', weir.keep = '1 hour');
CREATE MATERIALIZED VIEW sums WITH (weir.continuous, weir.emit = 'final') AS SELECT k, at, sum(v) OVER (PARTITION BY k ORDER BY at RANGE BETWEEN interval '1 s' PRECEDING AND interval '1 s' FOLLOWING) AS s FROM a;
INSERT INTO a VALUES (1, 1.0, '2025-01-01 00:00:02'), (NULL, 5, '2025-01-01 00:00:02');
INSERT INTO a VALUES (1, 2.00, '2025-01-01 00:00:03'), (1, 9, '2025-01-01 00:00:02.9');        -- the second is late
TABLE sums ORDER BY k;
INSERT INTO a VALUES (2, 4, '2025-01-01 00:00:03.1');
TABLE sums ORDER BY k;
CREATE MATERIALIZED VIEW running WITH (weir.continuous, weir.emit = 'final') AS SELECT k, at, v, sum(v) OVER w AS s, lag(v) OVER w AS l, row_number() OVER w AS n FROM a WINDOW w AS (PARTITION BY k ORDER BY at);
TABLE running ORDER BY k, n;
BEGIN;
INSERT INTO a VALUES (2, 4, '2025-01-01 00:00:09');
ROLLBACK;
TABLE sums ORDER BY k;
BEGIN;
SAVEPOINT one;
INSERT INTO a VALUES (1, 100, '2025-01-01 00:00:04');
ROLLBACK TO one;
INSERT INTO a VALUES (1, 7, '2025-01-01 00:00:05');
COMMIT;
SELECT * FROM sums ORDER BY k, at;
SELECT * FROM running ORDER BY k, n;
SELECT event_time, record->>'v' AS v FROM weir.late_rows WHERE view = 'sums'::regclass;
SELECT * FROM weir.verify('sums');
-- such a view is a stream, too
CREATE MATERIALIZED VIEW of_sums WITH (weir.continuous, weir.emit = 'final') AS SELECT window_start, max(s) AS most FROM sums, tumble(at, '2 s') GROUP BY window_start;
TABLE of_sums;
INSERT INTO a VALUES (3, 1, '2025-01-01 00:00:07'), (3, 1, '2025-01-01 00:00:09');
SELECT * FROM of_sums ORDER BY 1;
SELECT * FROM weir.verify('of_sums');
-- made later, refreshed, paused
CREATE MATERIALIZED VIEW later WITH (weir.continuous, weir.emit = 'final') AS SELECT k, at, sum(v) OVER (PARTITION BY k ORDER BY at RANGE BETWEEN interval '1 s' PRECEDING AND interval '1 s' FOLLOWING) AS s FROM a;
(TABLE later EXCEPT ALL TABLE sums) UNION ALL (TABLE sums EXCEPT ALL TABLE later);
REFRESH MATERIALIZED VIEW later;
SELECT weir.pause('later');
INSERT INTO a VALUES (3, 10, '2025-01-01 00:00:10'), (3, 1, '2025-01-01 00:00:12');
SELECT weir.resume('later');
INSERT INTO a VALUES (4, 0, '2025-01-01 00:00:13');
(TABLE later EXCEPT ALL TABLE sums) UNION ALL (TABLE sums EXCEPT ALL TABLE later);
SELECT * FROM weir.verify('later');
SELECT * FROM weir.verify('running');
CREATE MATERIALIZED VIEW running_later WITH (weir.continuous, weir.emit = 'final') AS SELECT k, at, v, sum(v) OVER w AS s, lag(v) OVER w AS l, row_number() OVER w AS n FROM a WINDOW w AS (PARTITION BY k ORDER BY at);
REFRESH MATERIALIZED VIEW running_later;
SELECT weir.pause('running_later');
INSERT INTO a VALUES (1, 10, '2025-01-01 00:00:14'), (3, 1, '2025-01-01 00:00:15');
SELECT weir.resume('running_later');
INSERT INTO a VALUES (1, 0, '2025-01-01 00:00:16');
(TABLE running_later EXCEPT ALL TABLE running) UNION ALL (TABLE running EXCEPT ALL TABLE running_later);
SELECT * FROM running WHERE k = 1 ORDER BY n;
SELECT * FROM weir.verify('running_later');
-- over a final view: two levels that remember
CREATE MATERIALIZED VIEW steps WITH (weir.continuous, weir.emit = 'final') AS SELECT k, at, n, s - lag(s) OVER (PARTITION BY k ORDER BY at) AS step FROM running;
TABLE steps ORDER BY k, n;
INSERT INTO a VALUES (1, 8, '2025-01-01 00:00:17'), (1, 0, '2025-01-01 00:00:20');
SELECT * FROM steps WHERE k = 1 ORDER BY n;
SELECT * FROM weir.verify('steps');
-- nothing is stored but what is remembered
CREATE MATERIALIZED VIEW passing WITH (weir.continuous, weir.emit = 'final', weir.keep = 0) AS SELECT k, at, v - lag(v) OVER (PARTITION BY k ORDER BY at) AS d FROM a;
CREATE TRIGGER log AFTER INSERT ON passing FOR EACH ROW EXECUTE FUNCTION log_final();
INSERT INTO a VALUES (1, 9, '2025-01-01 00:00:21'), (1, 0, '2025-01-01 00:00:22');
INSERT INTO a VALUES (1, 1, '2025-01-01 00:00:23');
SELECT final FROM log WHERE view = 'passing' ORDER BY 1;
TABLE passing;
DROP MATERIALIZED VIEW steps, running_later;
SELECT line FROM weir.explain('later') AS line WHERE line ~ '^ ?(strategy|why)';
-- a close reads what is remembered of its own keys
CREATE TABLE many (k int, v int, at timestamptz) WITH (weir.stream, weir.event_time = 'at', weir.idle_timeout = 'off', weir.keep = '1 hour');
CREATE MATERIALIZED VIEW of_many WITH (weir.continuous, weir.emit = 'final') AS SELECT k, at, v - lag(v) OVER (PARTITION BY k ORDER BY at) AS d, sum(v) OVER (PARTITION BY k ORDER BY at) AS s FROM many;
INSERT INTO many SELECT k, k, '2025-01-01 00:00:00Z' FROM generate_series(1, 5000) k;
INSERT INTO many SELECT k, k, '2025-01-01 00:00:01Z' FROM generate_series(1, 3) k;
BEGIN;
INSERT INTO many SELECT k, k, '2025-01-01 00:00:02Z' FROM generate_series(1, 3) k;
SELECT idx_tup_fetch + seq_tup_read BETWEEN 1 AND 100 AS few FROM pg_stat_xact_all_tables WHERE relid = (SELECT state FROM weir.view_def WHERE view = 'of_many'::regclass);
COMMIT;
SELECT k, d, s FROM of_many WHERE at > '2025-01-01Z' ORDER BY k;
-- rows that arrived as one, and rows of a final view, have the same order in the next close
CREATE TABLE tied (v int, at timestamptz) WITH (weir.stream, weir.event_time = 'at', weir.idle_timeout = 'off', weir.lateness = '30 s', weir.keep = '1 hour');
CREATE MATERIALIZED VIEW arms WITH (weir.continuous, weir.emit = 'final') AS SELECT at, v, lag(v) OVER (ORDER BY at) AS l
  FROM (SELECT v * 10 AS v, at FROM tied UNION ALL SELECT v * 10 + 1, at FROM tied UNION ALL SELECT v * 10 + 2, at FROM tied WHERE v % 2 = 0) u;
CREATE MATERIALIZED VIEW values_per_time WITH (weir.continuous, weir.emit = 'final') AS SELECT window_end, v, count(*) AS n FROM tied, tumble(at, '5 s') GROUP BY window_start, window_end, v;
CREATE MATERIALIZED VIEW of_values WITH (weir.continuous, weir.emit = 'final') AS SELECT window_end, v, lag(v) OVER (ORDER BY window_end) AS l FROM values_per_time;
SELECT setseed(0.5);
DO $$
BEGIN
  FOR i IN 1..60 LOOP
    INSERT INTO tied SELECT i * 10 + g, timestamptz '2025-01-01Z' + (i * 6 + (random() * 20)::int) * interval '1 s' FROM generate_series(1, 7) g ORDER BY random();
  END LOOP;
END $$;
SELECT count(*) > 900 AS many, count(*) = count(DISTINCT l) + 1 AS once FROM arms;
SELECT count(*) > 300 AS many, count(*) = count(DISTINCT l) + 1 AS once FROM of_values;
SELECT count(*) FROM weir.verify('arms');
SELECT count(*) FROM weir.verify('of_values');
-- by the clock, where the stream is quiet
CREATE TABLE q (k int, at timestamptz) WITH (weir.stream, weir.event_time = 'at', weir.idle_timeout = '0.2 s', weir.keep = '1 hour');
CREATE MATERIALIZED VIEW quiet WITH (weir.continuous, weir.emit = 'final') AS SELECT k, count(*) OVER (ORDER BY at RANGE interval '1 s' PRECEDING) AS n FROM q;
CREATE MATERIALIZED VIEW quiet_rows WITH (weir.continuous, weir.emit = 'final') AS SELECT k, at, row_number() OVER (ORDER BY at) AS n FROM q;
INSERT INTO q VALUES (1, '2025-01-01 00:00:02Z'), (2, '2025-01-01 00:00:01Z'), (3, '2025-01-01 00:00:02.5Z');
DO $$
BEGIN
  FOR i IN 1..300 LOOP
    EXIT WHEN (SELECT count(*) FROM view_over.quiet) = 2;
    COMMIT;
    PERFORM pg_sleep(0.05);
  END LOOP;
END $$;
TABLE quiet ORDER BY k;
-- and over another view, which closes by the clock, too
CREATE MATERIALIZED VIEW quiet_steps WITH (weir.continuous, weir.emit = 'final') AS SELECT n, count(*) OVER (ORDER BY at RANGE BETWEEN interval '1 s' PRECEDING AND interval '0.1 s' FOLLOWING) AS near
  FROM (SELECT n, at FROM quiet_rows) x;
INSERT INTO q VALUES (4, '2025-01-01 00:30:00Z');
DO $$
BEGIN
  FOR i IN 1..300 LOOP
    EXIT WHEN (SELECT count(*) FROM view_over.quiet_steps) = 3;
    COMMIT;
    PERFORM pg_sleep(0.05);
  END LOOP;
END $$;
TABLE quiet_steps ORDER BY n;
-- what is not final
CREATE MATERIALIZED VIEW no WITH (weir.continuous, weir.emit = 'final') AS SELECT k, at, sum(v) OVER (PARTITION BY k) FROM a;
CREATE MATERIALIZED VIEW no WITH (weir.continuous, weir.emit = 'final') AS SELECT k, at, sum(v) OVER (PARTITION BY k ORDER BY at DESC) FROM a;
CREATE MATERIALIZED VIEW no WITH (weir.continuous, weir.emit = 'final') AS SELECT k, at, sum(v) OVER (PARTITION BY k ORDER BY v) FROM a;
CREATE MATERIALIZED VIEW no WITH (weir.continuous, weir.emit = 'final') AS SELECT k, at, sum(v) OVER (PARTITION BY k ORDER BY at ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING) FROM a;
CREATE MATERIALIZED VIEW no WITH (weir.continuous, weir.emit = 'final') AS SELECT k, at, lead(v) OVER (PARTITION BY k ORDER BY at) FROM a;
CREATE MATERIALIZED VIEW no WITH (weir.continuous, weir.emit = 'final') AS SELECT k, at, ntile(4) OVER (PARTITION BY k ORDER BY at) FROM a;
CREATE MATERIALIZED VIEW no WITH (weir.continuous, weir.emit = 'final') AS SELECT k, at, sum(v) OVER (PARTITION BY k ORDER BY at ROWS BETWEEN CURRENT ROW AND 1 FOLLOWING) FROM a;
CREATE MATERIALIZED VIEW no WITH (weir.continuous, weir.emit = 'final') AS SELECT k, at, sum(v) OVER (PARTITION BY k ORDER BY at RANGE k * interval '1 s' PRECEDING) FROM a;
CREATE MATERIALIZED VIEW no WITH (weir.continuous, weir.emit = 'final') AS SELECT k, at, sum(v) OVER (PARTITION BY k ORDER BY at RANGE interval '2 h' PRECEDING) FROM a;
CREATE MATERIALIZED VIEW no WITH (weir.continuous, weir.emit = 'final') AS SELECT k, at, generate_series(1, 2), sum(v) OVER (PARTITION BY k ORDER BY at RANGE interval '2 s' PRECEDING) FROM a;
CREATE MATERIALIZED VIEW no WITH (weir.continuous, weir.emit = 'final') AS SELECT k, at, sum(v::float8) OVER (PARTITION BY k ORDER BY at) FROM a;
CREATE MATERIALIZED VIEW no WITH (weir.continuous, weir.emit = 'final') AS SELECT k, at, first_value(v) OVER (PARTITION BY k ORDER BY at) FROM a;
CREATE MATERIALIZED VIEW no WITH (weir.continuous, weir.emit = 'final') AS SELECT k, at, last_value(v) OVER (PARTITION BY k ORDER BY at RANGE BETWEEN UNBOUNDED PRECEDING AND interval '1 s' PRECEDING) FROM a;
CREATE MATERIALIZED VIEW no WITH (weir.continuous, weir.emit = 'final') AS SELECT k, at, array_agg(v) OVER (PARTITION BY k ORDER BY at) FROM a;
CREATE MATERIALIZED VIEW no WITH (weir.continuous, weir.emit = 'final') AS SELECT k, at, lag(v, k) OVER (PARTITION BY k ORDER BY at) FROM a;
CREATE MATERIALIZED VIEW no WITH (weir.continuous, weir.emit = 'final') AS SELECT k, at, lag(v, -1) OVER (PARTITION BY k ORDER BY at) FROM a;
CREATE MATERIALIZED VIEW no WITH (weir.continuous, weir.emit = 'final') AS SELECT k, at, lag(v) OVER (PARTITION BY k ORDER BY at), sum(v) OVER (ORDER BY at) FROM a;
CREATE MATERIALIZED VIEW no WITH (weir.continuous, weir.emit = 'final') AS SELECT k, at, lag(s) OVER (PARTITION BY k ORDER BY at) FROM (SELECT k, at, sum(v) OVER (PARTITION BY k ORDER BY at RANGE interval '1 s' PRECEDING) AS s FROM a) x;
CREATE MATERIALIZED VIEW no WITH (weir.continuous, weir.emit = 'final') AS SELECT k, at, (SELECT max(k) FROM names) + lag(k) OVER (PARTITION BY k ORDER BY at) FROM a;
CREATE MATERIALIZED VIEW no WITH (weir.continuous, weir.emit = 'final') AS SELECT a, lag(k) OVER (PARTITION BY k ORDER BY at) FROM a;
CREATE MATERIALIZED VIEW no WITH (weir.continuous) AS SELECT k, at, sum(v) OVER (PARTITION BY k ORDER BY at RANGE interval '2 s' PRECEDING) FROM a;
SET client_min_messages = warning;
DROP SCHEMA view_over CASCADE;
