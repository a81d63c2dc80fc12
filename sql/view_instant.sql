-- Finals without windows: joins of streams with a bound on their event times, and the first row per key.
CREATE SCHEMA view_instant;
SET search_path = view_instant, public;
SET TimeZone = 'UTC';
SET DateStyle = 'ISO, YMD';
CREATE TABLE l (k int, v int, at timestamptz) WITH (weir.stream, weir.event_time = 'at', weir.idle_timeout = 'off', weir.late = 'keep', weir.keep = '1 hour');
CREATE TABLE r (k int, v int, at timestamptz) WITH (weir.stream, weir.event_time = 'at', weir.idle_timeout = 'off', weir.late = 'keep', weir.keep = '1 hour');
CREATE TABLE log (n serial, view text, op text, final jsonb);
CREATE FUNCTION log_final() RETURNS trigger LANGUAGE plpgsql AS $$
  BEGIN INSERT INTO view_instant.log (view, op, final) VALUES (tg_table_name, tg_op, to_jsonb(new)); RETURN NULL; END $$;
CREATE TABLE queries (name text, query text, closes text);   -- closes: of its columns, the time of a row
INSERT INTO queries VALUES
('pairs', $$SELECT l.k, l.v AS lv, r.v AS rv, l.at AS lat, r.at AS rat FROM l JOIN r ON l.k = r.k AND r.at BETWEEN l.at - interval '1 s' AND l.at + interval '2 s'$$, 'greatest(lat, rat)'),
('unmatched', $$SELECT l.k, l.v AS lv, r.v AS rv, l.at AS lat, r.at AS rat FROM l LEFT JOIN r ON l.k = r.k AND r.at BETWEEN l.at - interval '1 s' AND l.at + interval '2 s' AND r.v > 3$$, 'greatest(lat, rat)'),
('full_pairs', $$SELECT coalesce(l.k, r.k) AS k, l.v AS lv, r.v AS rv, l.at AS lat, r.at AS rat FROM l FULL JOIN r ON l.k = r.k AND r.at BETWEEN l.at - interval '1 s' AND l.at + interval '2 s' WHERE coalesce(l.v, 9) > 2$$, 'greatest(lat, rat)'),
('self', $$SELECT a.k, a.v AS av, b.v AS bv, a.at AS aat, b.at AS bat FROM l a JOIN l b ON a.k = b.k AND b.at > a.at AND b.at < a.at + interval '1 s'$$, 'greatest(aat, bat)'),
('first_on', $$SELECT DISTINCT ON (k, v) k, v, at FROM l ORDER BY k, v, at$$, 'at'),
('first_number', $$SELECT v, at FROM (SELECT v, at, row_number() OVER (PARTITION BY v ORDER BY at) AS n FROM (SELECT * FROM l UNION ALL SELECT * FROM r) u WHERE k <> 2) x WHERE n = 1$$, 'at');
DO $$
DECLARE
  q record;
BEGIN
  FOR q IN SELECT * FROM queries LOOP
    EXECUTE format('CREATE MATERIALIZED VIEW %s WITH (weir.continuous, weir.emit = ''final'', weir.lateness = ''3 s'') AS %s', q.name, q.query);
    EXECUTE format('CREATE TRIGGER log AFTER INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION log_final()', q.name);
  END LOOP;
END $$;
SELECT view, strategy FROM weir.views ORDER BY view::text COLLATE "C";
-- in time: nothing is more than 2 s behind the newest of its stream; batches of 1, of some, of all
CREATE FUNCTION feed(seed float8, first int, last int, most int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  b record;
BEGIN
  PERFORM setseed(seed);
  CREATE TEMP TABLE input ON COMMIT DROP AS SELECT n, CASE WHEN random() < 0.5 THEN 'l' ELSE 'r' END AS stream, (random() * 4)::int AS k, (random() * 9)::int AS v,
    timestamptz '2025-01-01Z' + n * interval '150 ms' - (random() * 1900)::int * interval '1 ms' AS at FROM generate_series(first, last) n;
  FOR b IN SELECT stream, array_agg(format('(%s,%s,%s)', k, v, at) ORDER BY n) AS rows FROM (SELECT *, row_number() OVER (PARTITION BY stream ORDER BY n) / most AS batch FROM input) i GROUP BY stream, batch ORDER BY min(n) LOOP
    EXECUTE format('INSERT INTO %1$s SELECT (x::%1$s).* FROM unnest($1) WITH ORDINALITY u(x, n) ORDER BY n', b.stream) USING b.rows;
  END LOOP;
  DROP TABLE input;
END $$;
CREATE FUNCTION wrong(at timestamptz) RETURNS TABLE (name text, side text, record jsonb) LANGUAGE plpgsql AS $$
DECLARE
  q record;
BEGIN
  FOR q IN SELECT *, CASE WHEN queries.name LIKE 'first%' THEN '0' WHEN queries.name = 'self' THEN '1 s' ELSE '3 s' END::interval AS reach FROM queries LOOP
    RETURN QUERY EXECUTE format('SELECT %L, ''missing'', to_jsonb(x) FROM (SELECT * FROM (%s) d WHERE %s < %L EXCEPT ALL TABLE %1$s) x', q.name, q.query, q.closes, at - q.reach);
    RETURN QUERY EXECUTE format('SELECT %L, ''extra'', to_jsonb(x) FROM (TABLE %1$s EXCEPT ALL SELECT * FROM (%s) d WHERE %s < %L) x', q.name, q.query, q.closes, at - q.reach);
    RETURN QUERY EXECUTE format('SELECT %L, ''twice'', final FROM log WHERE view = %1$L EXCEPT ALL SELECT %1$L, ''twice'', to_jsonb(x) FROM %1$I x', q.name);
    RETURN QUERY SELECT q.name, f.side, f.record FROM weir.verify(q.name::regclass) f;
  END LOOP;
END $$;
SELECT feed(0.1, 20, 300, 1);
INSERT INTO l VALUES (0, 0, '2025-01-01 00:00:50Z'); INSERT INTO r VALUES (0, 0, '2025-01-01 00:00:50Z');
SELECT * FROM wrong('2025-01-01 00:00:47Z');
SELECT feed(0.2, 400, 800, 7);
INSERT INTO l VALUES (0, 0, '2025-01-01 00:02:10Z'); INSERT INTO r VALUES (0, 0, '2025-01-01 00:02:10Z');
SELECT * FROM wrong('2025-01-01 00:02:07Z');
SELECT feed(0.3, 900, 1300, 100000);
INSERT INTO l VALUES (0, 0, '2025-01-01 00:03:30Z'); INSERT INTO r VALUES (0, 0, '2025-01-01 00:03:30Z');
SELECT * FROM wrong('2025-01-01 00:03:27Z');
SELECT (SELECT count(*) > 200 FROM pairs) AS pairs, (SELECT count(*) > 50 FROM unmatched WHERE rv IS NULL) AS unmatched, (SELECT count(*) > 20 FROM full_pairs WHERE lv IS NULL) AS full_pairs,
  (SELECT count(*) > 50 FROM self) AS self, (SELECT count(*) > 40 FROM first_on) AS first_on, (SELECT count(*) = 10 FROM first_number) AS first_number;
SELECT DISTINCT op FROM log;
-- the moment: strictly behind the watermark, less lateness and reach
CREATE TABLE a (k int, at timestamptz) WITH (weir.stream, weir.event_time = 'at', weir.idle_timeout = 'off', weir.late = 'keep', weir.keep = '1 hour');
CREATE MATERIALIZED VIEW firsts WITH (weir.continuous, weir.emit = 'final') AS SELECT DISTINCT ON (k) k, at FROM a ORDER BY k, at;
INSERT INTO a VALUES (1, '2025-01-01 00:00:02Z'), (NULL, '2025-01-01 00:00:02Z');
TABLE firsts ORDER BY k;
INSERT INTO a VALUES (1, '2025-01-01 00:00:01Z');        -- late by its own stream time
INSERT INTO a VALUES (1, '2025-01-01 00:00:03Z'), (NULL, '2025-01-01 00:00:02.5Z'), (2, '2025-01-01 00:00:03Z');
TABLE firsts ORDER BY k;
INSERT INTO a VALUES (NULL, '2025-01-01 00:00:05Z'), (1, '2025-01-01 00:00:05Z');
TABLE firsts ORDER BY k;
SELECT event_time, record->>'k' AS k FROM weir.late_rows WHERE view = 'firsts'::regclass ORDER BY 1;
SELECT * FROM weir.verify('firsts');
SELECT line FROM weir.explain('firsts') AS line WHERE line ~ '^ ?(strategy|why)';
-- such a view is a stream, too
CREATE MATERIALIZED VIEW new_keys WITH (weir.continuous, weir.emit = 'final') AS SELECT window_start, count(*) AS n FROM firsts, tumble(at, '2 s') GROUP BY window_start;
TABLE new_keys;
INSERT INTO a VALUES (7, '2025-01-01 00:00:05Z'), (8, '2025-01-01 00:00:05.5Z'), (9, '2025-01-01 00:00:08Z');
SELECT * FROM new_keys ORDER BY 1;
SELECT * FROM weir.verify('new_keys');
-- made later, over rows that are there
CREATE MATERIALIZED VIEW later WITH (weir.continuous, weir.emit = 'final', weir.lateness = '3 s') AS
  SELECT l.k, l.v AS lv, r.v AS rv, l.at AS lat, r.at AS rat FROM l LEFT JOIN r ON l.k = r.k AND r.at BETWEEN l.at - interval '1 s' AND l.at + interval '2 s' AND r.v > 3;
(TABLE later EXCEPT ALL TABLE unmatched) UNION ALL (TABLE unmatched EXCEPT ALL TABLE later);
-- by the clock, where the stream is quiet
CREATE TABLE q (k int, at timestamptz) WITH (weir.stream, weir.event_time = 'at', weir.idle_timeout = '0.2 s', weir.keep = '1 hour');
CREATE MATERIALIZED VIEW quiet WITH (weir.continuous, weir.emit = 'final') AS SELECT DISTINCT ON (k) k, at FROM q ORDER BY k, at;
CREATE MATERIALIZED VIEW quiet_pairs WITH (weir.continuous, weir.emit = 'final') AS SELECT x.k FROM q x JOIN q y ON x.k = y.k AND y.at >= x.at AND y.at < x.at + interval '0.1 s';
INSERT INTO q VALUES (1, '2025-01-01 00:00:02Z'), (2, '2025-01-01 00:00:01Z');
\set ECHO none
\i sql/lib/await.sql
\set ECHO all
CALL await('(SELECT count(*) FROM quiet) = 1 AND (SELECT count(*) FROM quiet_pairs) = 1');
TABLE quiet;
TABLE quiet_pairs;
-- what is not final
CREATE MATERIALIZED VIEW no WITH (weir.continuous, weir.emit = 'final') AS SELECT DISTINCT ON (k) k, at FROM a ORDER BY k, at DESC;
CREATE MATERIALIZED VIEW no WITH (weir.continuous, weir.emit = 'final') AS SELECT DISTINCT ON (k) k, v FROM l ORDER BY k, v;
CREATE MATERIALIZED VIEW no WITH (weir.continuous, weir.emit = 'final', weir.keep = '1 h') AS SELECT DISTINCT ON (k) k, at FROM a ORDER BY k, at;
CREATE MATERIALIZED VIEW no WITH (weir.continuous, weir.emit = 'final', weir.keep = 0) AS SELECT DISTINCT ON (k) k, at FROM a ORDER BY k, at;
CREATE MATERIALIZED VIEW no WITH (weir.continuous, weir.emit = 'final') AS SELECT l.v FROM l JOIN r ON l.k = r.k;
CREATE MATERIALIZED VIEW no WITH (weir.continuous, weir.emit = 'final') AS SELECT k, count(*) FROM a GROUP BY k;
CREATE MATERIALIZED VIEW no WITH (weir.continuous, weir.emit = 'final', weir.unmatched = 'at once') AS SELECT l.k FROM l LEFT JOIN r ON l.k = r.k AND l.at = r.at;
SET client_min_messages = warning;
DROP SCHEMA view_instant CASCADE;
