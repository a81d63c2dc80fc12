-- HAVING: rows appear and disappear; SELECT DISTINCT. Whole, row by row, in
-- random batches: the view equals its query.
CREATE SCHEMA hav;
SET search_path = hav, public;
SELECT setseed(0.4);

-- C7 of the worked cases: what triggers see
CREATE TABLE c7 (t timestamptz, k text, v int) WITH (weir.stream, weir.event_time = 't', weir.keep = '1 day');
CREATE MATERIALIZED VIEW c7v WITH (weir.continuous) AS
  SELECT window_start, k, sum(v) AS v FROM c7, tumble(t, '30 s') GROUP BY 1, 2 HAVING sum(v) > 100;
CREATE TABLE seen (id serial, op text, k text, v bigint);
CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$
  BEGIN
    IF TG_OP = 'DELETE' THEN INSERT INTO hav.seen (op, k, v) VALUES (TG_OP, OLD.k, OLD.v);
    ELSE INSERT INTO hav.seen (op, k, v) VALUES (TG_OP, NEW.k, NEW.v); END IF;
    RETURN NULL;
  END $$;
CREATE TRIGGER see AFTER INSERT OR UPDATE OR DELETE ON c7v FOR EACH ROW EXECUTE FUNCTION see();
INSERT INTO c7 VALUES ('epoch', 'k0', 0);
INSERT INTO c7 VALUES ('epoch', 'k1', 101);
INSERT INTO c7 VALUES ('epoch', 'k1', -5);
SELECT op, k, v FROM seen ORDER BY id;
SELECT * FROM c7v;
INSERT INTO c7 VALUES ('epoch', 'k1', 5), ('epoch', 'k0', 0);
INSERT INTO c7 VALUES ('epoch', 'k1', 0);
INSERT INTO c7 VALUES ('epoch', 'k1', 10);
SELECT op, k, v FROM seen ORDER BY id;
SELECT * FROM weir.verify('c7v');

-- the same rows three ways
CREATE TABLE rows AS
  SELECT i, CASE WHEN random() < 0.1 THEN NULL ELSE (random() * 9)::int END AS k,
         CASE WHEN random() < 0.2 THEN NULL ELSE chr(97 + (random() * 3)::int) END AS c,
         CASE WHEN random() < 0.1 THEN NULL ELSE (random() * 40 - 20)::int END AS v
    FROM generate_series(1, 300) i;
CREATE TABLE a (i int, k int, c text, v int) WITH (weir.stream, weir.keep = '1 day');
CREATE TABLE b (i int, k int, c text, v int) WITH (weir.stream, weir.keep = '1 day');
CREATE TABLE d (i int, k int, c text, v int) WITH (weir.stream, weir.keep = '1 day');
CREATE TABLE queries (n int PRIMARY KEY, q text);
INSERT INTO queries VALUES
 (1, 'SELECT k, c, sum(v) AS s, count(*) AS n FROM %s GROUP BY k, c HAVING sum(v) > 0'),
 (2, 'SELECT k, avg(v) AS m FROM %s GROUP BY k HAVING count(*) BETWEEN 3 AND 30 AND avg(v) < 2'),
 (3, 'SELECT c, max(v) - min(v) AS width FROM %s WHERE v <> 3 GROUP BY c HAVING bool_or(v > 10) AND c <> ''b'''),
 (4, 'SELECT count(*) AS n, sum(v) AS s FROM %s HAVING count(*) > 50 AND sum(v) > 0'),
 (5, 'SELECT k, sum(v) AS s FROM %s GROUP BY k HAVING k IS NULL OR sum(v) %% 2 = 0'),
 (6, 'SELECT DISTINCT k, c FROM %s'),
 (7, 'SELECT DISTINCT v / 5 AS v5, c || ''!'' AS c FROM %s WHERE k > 2');
\set ECHO none
\i sql/lib/three_ways.sql
\set ECHO all
CALL make_views();
CALL feed(60, 50);
SELECT * FROM differences();
SELECT (SELECT count(*) FROM a1) AS a1, (SELECT count(*) FROM b2) AS b2, (SELECT count(*) FROM d6) AS d6;

-- views made when the rows are there already, REFRESH, explain
CREATE MATERIALIZED VIEW late_one WITH (weir.continuous) AS SELECT k, sum(v) AS s FROM a GROUP BY k HAVING sum(v) > 0;
REFRESH MATERIALIZED VIEW a1;
SELECT * FROM weir.verify('late_one');
SELECT * FROM differences();
SELECT line FROM weir.explain('late_one') line WHERE line ~ '^(strategy|why)';
SELECT line FROM weir.explain('a6') line WHERE line ~ '^(strategy|why)';

-- rows that are there already are not touched by DISTINCT
SELECT max(xmin::text::bigint) AS x FROM a6 \gset
INSERT INTO a SELECT * FROM rows;
SELECT max(xmin::text::bigint) = :x AS untouched FROM a6;

-- another level of isolation
BEGIN ISOLATION LEVEL REPEATABLE READ;
INSERT INTO a VALUES (0, 1, 'a', 1000);
INSERT INTO a VALUES (0, 1, 'a', -5000);
COMMIT;
SELECT * FROM differences();
SELECT * FROM weir.verify('late_one');

-- what is not possible
CREATE MATERIALIZED VIEW no WITH (weir.continuous) AS SELECT 1 AS one FROM a HAVING true;

SET client_min_messages = warning;
DROP SCHEMA hav CASCADE;
