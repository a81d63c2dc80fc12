-- Outer joins of streams with weir.unmatched = 'at once': rows without a match come in their batch, and go when a match comes.
CREATE SCHEMA view_join_once;
SET search_path = view_join_once, public;
SET TimeZone = 'UTC';
SET DateStyle = 'ISO, YMD';
SET IntervalStyle = 'postgres';
CREATE FUNCTION at_ms(bigint) RETURNS timestamptz LANGUAGE sql IMMUTABLE AS
  $$SELECT timestamptz '2025-01-01 00:00:00+00' + $1 * interval '1 ms'$$;
CREATE TABLE a (at timestamptz, k text, v text) WITH (weir.stream, weir.event_time = 'at', weir.keep = '1 hour');
CREATE TABLE b (at timestamptz, k text, v text) WITH (weir.stream, weir.event_time = 'at', weir.keep = '1 hour');
CREATE TABLE c (at timestamptz, k text, v text) WITH (weir.stream, weir.event_time = 'at', weir.keep = '1 hour');
CREATE MATERIALIZED VIEW left_joined WITH (weir.continuous, weir.unmatched = 'at once') AS
  SELECT a.k, a.v AS av, b.v AS bv FROM a LEFT JOIN b ON a.k = b.k AND b.at BETWEEN a.at - interval '2 s' AND a.at + interval '5 s';
CREATE MATERIALIZED VIEW right_joined WITH (weir.continuous, weir.unmatched = 'at once') AS
  SELECT b.k, a.v AS av, b.v AS bv FROM a RIGHT JOIN b ON a.k = b.k AND b.at BETWEEN a.at - interval '2 s' AND a.at + interval '5 s';
CREATE MATERIALIZED VIEW full_joined WITH (weir.continuous, weir.unmatched = 'at once') AS
  SELECT coalesce(a.k, b.k) AS k, a.v AS av, b.v AS bv FROM a FULL JOIN b ON a.k = b.k AND b.at BETWEEN a.at - interval '2 s' AND a.at + interval '5 s';
CREATE MATERIALIZED VIEW bag WITH (weir.continuous, weir.unmatched = 'at once') AS
  SELECT a.k AS ak, b.k AS bk, to_json(a.k) AS j FROM a FULL JOIN b ON a.k = b.k AND b.at BETWEEN a.at - interval '2 s' AND a.at + interval '5 s';
CREATE MATERIALIZED VIEW alone WITH (weir.continuous, weir.unmatched = 'at once') AS
  SELECT a.k, a.v FROM a LEFT JOIN b ON a.k = b.k AND b.at BETWEEN a.at - interval '2 s' AND a.at + interval '5 s' WHERE b.at IS NULL;
CREATE MATERIALIZED VIEW selfj WITH (weir.continuous, weir.unmatched = 'at once') AS
  SELECT x.k, x.v, y.v AS yv FROM a x FULL JOIN a y ON x.k = y.k AND y.at > x.at AND y.at <= x.at + interval '3 s';
CREATE MATERIALIZED VIEW chain WITH (weir.continuous, weir.unmatched = 'at once') AS
  SELECT a.k, a.v AS av, b.v AS bv, c.v AS cv FROM a LEFT JOIN b ON a.k = b.k AND b.at BETWEEN a.at - interval '2 s' AND a.at + interval '5 s'
   LEFT JOIN c ON c.k = a.k AND c.at BETWEEN a.at - interval '1 s' AND a.at + interval '3 s';
CREATE MATERIALIZED VIEW onb WITH (weir.continuous, weir.unmatched = 'at once') AS
  SELECT a.k, a.v AS av, b.v AS bv, c.v AS cv FROM a LEFT JOIN b ON a.k = b.k AND b.at BETWEEN a.at - interval '2 s' AND a.at + interval '5 s'
   LEFT JOIN c ON c.k = b.k AND c.at BETWEEN b.at - interval '1 s' AND b.at + interval '3 s';
CREATE MATERIALIZED VIEW innerb WITH (weir.continuous, weir.unmatched = 'at once') AS
  SELECT a.v AS av, b.v AS bv, c.v AS cv FROM a LEFT JOIN (b JOIN c ON c.k = b.k AND c.at BETWEEN b.at - interval '1 s' AND b.at + interval '3 s')
   ON a.k = b.k AND b.at BETWEEN a.at - interval '2 s' AND a.at + interval '5 s';
CREATE MATERIALIZED VIEW firstinner WITH (weir.continuous, weir.unmatched = 'at once') AS
  SELECT a.v AS av, b.v AS bv, c.v AS cv FROM a JOIN b ON a.k = b.k AND b.at BETWEEN a.at - interval '2 s' AND a.at + interval '5 s'
    LEFT JOIN c ON c.k = b.k AND c.at BETWEEN b.at - interval '1 s' AND b.at + interval '3 s';
CREATE MATERIALIZED VIEW united WITH (weir.continuous, weir.unmatched = 'at once') AS
  SELECT a.v AS av, b.v AS bv FROM a LEFT JOIN b ON a.k = b.k AND b.at BETWEEN a.at - interval '2 s' AND a.at + interval '5 s'
  UNION ALL SELECT c.v, NULL FROM c UNION ALL SELECT a.v, c.v FROM a JOIN c ON a.at = c.at;
CREATE MATERIALIZED VIEW hopped WITH (weir.continuous, weir.unmatched = 'at once') AS
  SELECT window_start, a.k, b.v AS bv FROM a LEFT JOIN b ON a.k = b.k AND b.at BETWEEN a.at - interval '2 s' AND a.at + interval '5 s', hop(a.at, '10 s', '5 s');
CREATE MATERIALIZED VIEW windowed WITH (weir.continuous, weir.unmatched = 'at once') AS
  SELECT x.window_start, x.k, x.v, y.v AS yv FROM (SELECT a.*, window_start FROM a, tumble(a.at, '4 s')) x FULL JOIN (SELECT b.*, window_start FROM b, tumble(b.at, '4 s')) y
   ON x.window_start = y.window_start AND x.k = y.k;
CREATE MATERIALIZED VIEW counted WITH (weir.continuous, weir.unmatched = 'at once') AS
  SELECT window_start, a.k, count(*), count(b.v) AS bs, count(c.v) AS cs FROM a LEFT JOIN b ON a.k = b.k AND b.at BETWEEN a.at - interval '2 s' AND a.at + interval '5 s'
   LEFT JOIN c ON c.k = a.k AND c.at BETWEEN a.at - interval '1 s' AND a.at + interval '3 s', tumble(a.at, '10 s') GROUP BY window_start, a.k;
CREATE MATERIALIZED VIEW recomputed WITH (weir.continuous, weir.unmatched = 'at once') AS
  SELECT window_start, a.k, count(DISTINCT b.v) AS bs, string_agg(b.v, ',' ORDER BY b.v) AS cs FROM a LEFT JOIN b ON a.k = b.k AND b.at BETWEEN a.at - interval '2 s' AND a.at + interval '5 s'
   , tumble(a.at, '10 s') GROUP BY window_start, a.k;
CREATE TABLE log (seq bigserial, s text, at timestamptz, k text, v text);
CREATE FUNCTION feed(seed float8, rounds int, at_once boolean) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  base bigint := coalesce((SELECT extract(epoch FROM max(at) - at_ms(0)) * 1000 FROM log), 100000);
  which text;
  last bigint;
BEGIN
  PERFORM setseed(seed);
  FOR i IN 1 .. rounds LOOP
    which := (ARRAY['a','b','c'])[1 + floor(random() * 3)];
    last := coalesce((SELECT max(seq) FROM log), 0);
    INSERT INTO log (s, at, k, v)
      SELECT which, at_ms(base + i * 700 - (random() * 28000)::int),
        CASE WHEN random() < 0.1 THEN NULL ELSE 'k' || (random() * 2)::int END, which || last || '.' || n
      FROM generate_series(1, CASE WHEN at_once THEN (random() * 9)::int ELSE 1 END) n;
    EXECUTE format('INSERT INTO %s SELECT at, k, v FROM log WHERE seq > %s ORDER BY seq', which, last);
  END LOOP;
END $$;
CREATE FUNCTION wrong() RETURNS TABLE (which text, r text) LANGUAGE sql AS $$
  (SELECT 'missing', m::text FROM (SELECT a.k, a.v AS av, b.v AS bv, c.v AS cv FROM a LEFT JOIN b ON a.k = b.k AND b.at BETWEEN a.at - interval '2 s' AND a.at + interval '5 s'
   LEFT JOIN c ON c.k = a.k AND c.at BETWEEN a.at - interval '1 s' AND a.at + interval '3 s' EXCEPT ALL SELECT * FROM chain) m)
  UNION ALL (SELECT 'missing full', m::text FROM (SELECT coalesce(a.k, b.k) AS k, a.v AS av, b.v AS bv FROM a FULL JOIN (SELECT *, 1 AS one FROM b) b ON a.k = b.k AND b.at BETWEEN a.at - interval '2 s' AND a.at + interval '5 s' EXCEPT ALL SELECT * FROM full_joined) m)
  UNION ALL (SELECT v.view::text, f.side || f.record::text FROM weir.views v, LATERAL weir.verify(v.view) f)
$$;

-- what triggers see: the row without a match, then its deletion before the pair
CREATE TABLE seen (n serial, op text, r text);
CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'DELETE' THEN INSERT INTO seen (op, r) VALUES (TG_OP, OLD::text); ELSE INSERT INTO seen (op, r) VALUES (TG_OP, NEW::text); END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER see AFTER INSERT OR UPDATE OR DELETE ON left_joined FOR EACH ROW EXECUTE FUNCTION see();
INSERT INTO a VALUES (at_ms(0), 'k1', 'a1');
INSERT INTO a VALUES (at_ms(0), 'k2', 'a2'), (at_ms(0), 'k2', 'a2');
SELECT * FROM left_joined ORDER BY 1, 2;
INSERT INTO b VALUES (at_ms(1000), 'k1', 'b1');
INSERT INTO b VALUES (at_ms(1500), 'k1', 'b2'), (at_ms(9000), 'k2', 'too late');
-- before what it meets
INSERT INTO b VALUES (at_ms(20000), 'k3', 'b3');
INSERT INTO a VALUES (at_ms(19000), 'k3', 'a3');
SELECT op, r FROM seen ORDER BY n;
SELECT * FROM full_joined ORDER BY 1, 2, 3;
-- of equal rows as many as have found a match are taken back
CREATE MATERIALIZED VIEW equals WITH (weir.continuous, weir.unmatched = 'at once') AS
  SELECT a.k, b.k AS bk FROM a LEFT JOIN b ON a.v = b.v AND b.at BETWEEN a.at - interval '2 s' AND a.at + interval '5 s';
INSERT INTO a VALUES (at_ms(20000), 'k', 'x'), (at_ms(20000), 'k', 'y'), (at_ms(20000), 'k', 'z'), (at_ms(20000), 'k', 'z');
INSERT INTO b VALUES (at_ms(20000), 'k', 'y');
SELECT k, bk, count(*) FROM equals WHERE k = 'k' GROUP BY 1, 2 ORDER BY 1, 2;
INSERT INTO b VALUES (at_ms(20000), 'k', 'z');
SELECT k, bk, count(*) FROM equals WHERE k = 'k' GROUP BY 1, 2 ORDER BY 1, 2;
SELECT * FROM alone ORDER BY 1, 2;
SELECT * FROM wrong() LIMIT 10;
SELECT line FROM weir.explain('chain') line WHERE line ~ '^(strategy|why|streams|cost)';
SELECT line FROM weir.explain('counted') line WHERE line ~ '^(strategy|why|streams|cost)';
SELECT view, emit, strategy FROM weir.views WHERE view IN ('chain'::regclass, 'counted'::regclass) ORDER BY view::text;

-- nothing of what is rolled back; both sides in one transaction
BEGIN;
INSERT INTO a VALUES (at_ms(21000), 'k4', 'a5');
SAVEPOINT s;
INSERT INTO b VALUES (at_ms(21000), 'k4', 'b5');
ROLLBACK TO s;
SELECT * FROM left_joined WHERE k = 'k4';
INSERT INTO b VALUES (at_ms(22000), 'k4', 'b6');
COMMIT;
SELECT * FROM left_joined WHERE k = 'k4';
SELECT * FROM wrong() LIMIT 10;

-- late rows change nothing, and are counted
CREATE MATERIALIZED VIEW strict WITH (weir.continuous, weir.unmatched = 'at once', weir.lateness = '1 s') AS
  SELECT a.k, a.v AS av, b.v AS bv FROM a FULL JOIN b ON a.k = b.k AND b.at BETWEEN a.at - interval '2 s' AND a.at + interval '5 s';
INSERT INTO a VALUES (at_ms(13000), 'k4', 'late'), (at_ms(17000), 'k4', 'in time');
SELECT * FROM strict WHERE av IN ('late', 'in time');
SELECT late FROM weir.stat_views WHERE view = 'strict'::regclass;
SELECT * FROM wrong() LIMIT 10;

-- views above, another query, REFRESH
CREATE MATERIALIZED VIEW above WITH (weir.continuous) AS SELECT k, count(*), count(bv) AS pairs FROM left_joined GROUP BY k;
INSERT INTO a VALUES (at_ms(23000), 'k5', 'a6');
SELECT * FROM above WHERE k = 'k5';
INSERT INTO b VALUES (at_ms(23000), 'k5', 'b7'), (at_ms(23000), 'k5', 'b8');
SELECT * FROM above WHERE k = 'k5';
SELECT weir.replace('onb', $$SELECT a.k, a.at, b.v AS bv FROM a LEFT JOIN b ON a.k = b.k AND b.at BETWEEN a.at - interval '2 s' AND a.at + interval '5 s'$$);
SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = 'onb'::regclass ORDER BY 1;
SELECT weir.replace('hopped', $$SELECT a.k, b.v AS bv FROM a JOIN b ON a.k = b.k AND b.at BETWEEN a.at - interval '2 s' AND a.at + interval '5 s'$$);
SELECT strategy FROM weir.views WHERE view = 'hopped'::regclass;
SELECT weir.replace('hopped', $$SELECT a.k, b.v AS bv FROM a LEFT JOIN b ON a.k = b.k AND b.at BETWEEN a.at - interval '2 s' AND a.at + interval '5 s'$$);
SELECT strategy FROM weir.views WHERE view = 'hopped'::regclass;
SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = 'hopped'::regclass ORDER BY 1;
INSERT INTO a VALUES (at_ms(24000), 'k6', 'a7');
INSERT INTO b VALUES (at_ms(24000), 'k6', 'b8');
REFRESH MATERIALIZED VIEW full_joined;
SELECT * FROM wrong() LIMIT 10;

-- what cannot be kept
CREATE TABLE t (k text, name text);
CREATE MATERIALIZED VIEW no WITH (weir.continuous, weir.unmatched = 'at once') AS SELECT a.v, t.name FROM a LEFT JOIN b ON a.at = b.at LEFT JOIN t ON t.k = a.k;
CREATE MATERIALIZED VIEW no WITH (weir.continuous, weir.unmatched = 'at once') AS SELECT a.v FROM a FULL JOIN b ON a.at = b.at FULL JOIN c ON c.at = b.at;
CREATE MATERIALIZED VIEW no WITH (weir.continuous, weir.unmatched = 'at once') AS SELECT a.v FROM a LEFT JOIN (b LEFT JOIN c ON c.at = b.at) ON a.at = b.at;
CREATE MATERIALIZED VIEW no WITH (weir.continuous, weir.unmatched = 'at once') AS SELECT x.v FROM (SELECT a.*, u FROM a, unnest('{1,2}'::int[]) u) x LEFT JOIN b ON x.at = b.at;
CREATE MATERIALIZED VIEW no WITH (weir.continuous, weir.unmatched = 'at once') AS SELECT x.v FROM (SELECT at, v FROM a UNION ALL SELECT at, v FROM c) x LEFT JOIN b ON x.at = b.at;
CREATE MATERIALIZED VIEW no WITH (weir.continuous, weir.unmatched = 'at once', weir.keep = 0) AS SELECT a.at, a.v FROM a LEFT JOIN b ON a.at = b.at;
CREATE MATERIALIZED VIEW no WITH (weir.continuous, weir.unmatched = 'at once', weir.keep = '1 hour', weir.segmented) AS SELECT a.at, a.v FROM a LEFT JOIN b ON a.at = b.at;
CREATE MATERIALIZED VIEW no WITH (weir.continuous, weir.unmatched = 'at once') AS SELECT a.k, count(*) FROM a LEFT JOIN b ON a.at = b.at GROUP BY a.k;
CREATE MATERIALIZED VIEW no WITH (weir.continuous, weir.unmatched = 'at once') AS SELECT a.v FROM a LEFT JOIN b ON b.at BETWEEN a.at AND a.at + interval '40 min';
ALTER MATERIALIZED VIEW chain SET (weir.unmatched = 'at close');
-- no outer join of streams: nothing to do
CREATE MATERIALIZED VIEW tabled WITH (weir.continuous, weir.unmatched = 'at once') AS SELECT a.v, t.name FROM a LEFT JOIN t ON t.k = a.k;
SELECT strategy FROM weir.views WHERE view = 'tabled'::regclass;
DROP MATERIALIZED VIEW tabled;

-- rights are asked for on both streams
\set SHOW_CONTEXT never
CREATE ROLE view_join_once_reader;
GRANT USAGE, CREATE ON SCHEMA view_join_once TO view_join_once_reader;
GRANT SELECT ON a TO view_join_once_reader;
SET ROLE view_join_once_reader;
CREATE MATERIALIZED VIEW his WITH (weir.continuous, weir.unmatched = 'at once') AS SELECT a.v, b.v AS bv FROM a LEFT JOIN b ON a.at = b.at;
RESET ROLE;
GRANT SELECT ON b TO view_join_once_reader;
SET ROLE view_join_once_reader;
CREATE MATERIALIZED VIEW his WITH (weir.continuous, weir.unmatched = 'at once') AS SELECT a.v, b.v AS bv FROM a LEFT JOIN b ON a.at = b.at;
RESET ROLE;
INSERT INTO a VALUES (at_ms(25000), 'k7', 'a8');
SELECT * FROM his WHERE v = 'a8';
INSERT INTO b VALUES (at_ms(25000), 'k7', 'b9');
SELECT * FROM his WHERE v = 'a8';

-- at random: row by row, in batches, in one transaction, after a pause
SELECT feed(0.3, 40, false);
SELECT * FROM wrong() LIMIT 10;
SELECT feed(0.5, 20, true);
SELECT * FROM wrong() LIMIT 10;
BEGIN;
SELECT feed(0.6, 6, true);
COMMIT;
SELECT * FROM wrong() LIMIT 10;
SELECT count(*) FROM (SELECT weir.pause(v) FROM unnest('{chain,full_joined,counted,selfj}'::regclass[]) v) x;
SELECT feed(0.7, 6, true);
SELECT count(*) FROM (SELECT weir.resume(v) FROM unnest('{chain,full_joined,counted,selfj}'::regclass[]) v) x;
SELECT weir.wait();
SELECT * FROM wrong() LIMIT 10;
SELECT count(*) > 10 AS pairs, (SELECT count(*) > 5 FROM chain WHERE cv IS NULL) AS no_c, (SELECT count(*) > 5 FROM chain WHERE bv IS NULL) AS no_b,
  (SELECT count(*) > 5 FROM full_joined WHERE av IS NULL) AS no_a, (SELECT count(*) > 20 FROM seen WHERE op = 'DELETE') AS taken_back FROM chain WHERE bv IS NOT NULL AND cv IS NOT NULL;
SET client_min_messages = warning;
DROP SCHEMA view_join_once CASCADE;
DROP ROLE view_join_once_reader;
