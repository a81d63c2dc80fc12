-- The first rows per key from the old result and the new rows: no window, no
-- kept rows. Whole, row by row, in random batches: the view equals its query.
CREATE SCHEMA topn;
SET search_path = topn, public;
SELECT setseed(0.3);
CREATE TABLE rows AS
  SELECT i, CASE WHEN random() < 0.1 THEN NULL ELSE (random() * 6)::int END AS k,
         CASE WHEN random() < 0.2 THEN NULL ELSE chr(97 + (random() * 3)::int) END AS c,
         CASE WHEN random() < 0.1 THEN NULL ELSE (random() * 30)::int END AS v
    FROM generate_series(1, 240) i;
CREATE TABLE names (k int PRIMARY KEY, name text);
INSERT INTO names SELECT k, 'name ' || k FROM generate_series(0, 4) k;
CREATE TABLE queries (n int PRIMARY KEY, q text);
INSERT INTO queries VALUES
 (1, 'SELECT DISTINCT ON (k) k, i, v FROM %s ORDER BY k, i'),
 (2, 'SELECT DISTINCT ON (k, c) c, v, k, i FROM %s WHERE v > 3 ORDER BY k, c, v DESC, i DESC'),
 (3, 'SELECT k, i, v, n FROM (SELECT k, i, v, row_number() OVER (PARTITION BY k ORDER BY v DESC NULLS LAST, i) AS n FROM %s) q WHERE n <= 3'),
 (4, 'SELECT v, i, k FROM (SELECT *, row_number() OVER (PARTITION BY k ORDER BY i DESC) AS n FROM %s) q WHERE n = 1'),
 (5, 'SELECT k, v FROM (SELECT k, v, rank() OVER (PARTITION BY k ORDER BY v) AS r FROM %s) q WHERE r < 4'),
 (6, 'WITH q AS (SELECT c, v * 2 AS v2, i, dense_rank() OVER w AS d, row_number() OVER w AS n FROM %s WINDOW w AS (PARTITION BY c ORDER BY v * 2, i)) SELECT * FROM q WHERE 2 >= d'),
 (7, 'SELECT name, v, i, n FROM (SELECT name, v, i, row_number() OVER (PARTITION BY name ORDER BY v DESC NULLS LAST, i) AS n FROM %s s LEFT JOIN names USING (k)) q WHERE n <= 2'),
 (8, 'SELECT DISTINCT ON (upper(c)) upper(c) AS u, i FROM (SELECT * FROM %s WHERE k <> 2) s ORDER BY upper(c), i DESC');
CREATE TABLE a (i int, k int, c text, v int) WITH (weir.stream, weir.keep = '1 day');
CREATE TABLE b (LIKE a) WITH (weir.stream, weir.keep = '1 day');
CREATE TABLE d (LIKE a) WITH (weir.stream, weir.keep = '1 day');
\set ECHO none
\i sql/lib/three_ways.sql
\set ECHO all
CALL make_views();
CALL feed(60, 40);
SELECT * FROM differences();
SELECT (SELECT count(*) FROM a1) AS a1, (SELECT count(*) FROM b3) AS b3, (SELECT count(*) FROM d5) AS d5;
SELECT v.view, line, i.indisunique FROM weir.views v JOIN pg_index i ON i.indrelid = v.view, weir.explain(v.view) line
 WHERE v.view::text ~ '^a' AND line ~ '^why' ORDER BY v.view::text COLLATE "C";

-- without kept rows, on an unlogged stream; changes as triggers see them
CREATE UNLOGGED TABLE u (id int, k text, v int) WITH (weir.stream, weir.keep = 0);
CREATE MATERIALIZED VIEW first WITH (weir.continuous) AS SELECT DISTINCT ON (k) k, id, v FROM u ORDER BY k, id;
CREATE MATERIALIZED VIEW top WITH (weir.continuous) AS
  SELECT * FROM (SELECT k, v, id, row_number() OVER (PARTITION BY k ORDER BY v DESC, id) AS n FROM u) q WHERE n <= 2;
CREATE TABLE seen (id serial, view text, op text, r jsonb);
CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$
  BEGIN INSERT INTO topn.seen (view, op, r) VALUES (TG_TABLE_NAME, TG_OP, to_jsonb(CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END)); RETURN NULL; END $$;
CREATE TRIGGER see AFTER INSERT OR UPDATE OR DELETE ON first FOR EACH ROW EXECUTE FUNCTION see();
CREATE TRIGGER see AFTER INSERT OR UPDATE OR DELETE ON top FOR EACH ROW EXECUTE FUNCTION see();
INSERT INTO u VALUES (5, 'a', 10), (6, 'a', 11), (7, NULL, 1);
INSERT INTO u VALUES (8, 'a', 1), (9, NULL, 0), (10, 'b', 4);
INSERT INTO u VALUES (2, 'a', 12);
SELECT view, op, r FROM seen ORDER BY view, id;
SELECT * FROM first ORDER BY k;
SELECT * FROM top ORDER BY k, n;

-- of equal rows the first to arrive is picked, and stays
CREATE TABLE t (k int, at int, v text) WITH (weir.stream, weir.keep = '1 day');
CREATE MATERIALIZED VIEW t1 WITH (weir.continuous) AS SELECT DISTINCT ON (k) k, v FROM t;
CREATE MATERIALIZED VIEW t2 WITH (weir.continuous) AS SELECT k, at, v FROM (SELECT *, row_number() OVER (PARTITION BY k ORDER BY at) AS n FROM t) q WHERE n <= 2;
CREATE MATERIALIZED VIEW t3 WITH (weir.continuous) AS SELECT k, v FROM (SELECT *, row_number() OVER (PARTITION BY k) AS n FROM t) q WHERE n = 1;
CREATE TRIGGER see AFTER INSERT OR UPDATE OR DELETE ON t1 FOR EACH ROW EXECUTE FUNCTION see();
CREATE TRIGGER see AFTER INSERT OR UPDATE OR DELETE ON t2 FOR EACH ROW EXECUTE FUNCTION see();
TRUNCATE seen;
INSERT INTO t VALUES (1, 5, 'z'), (2, 5, 'y'), (1, 5, 'x'), (2, 5, 'w'), (1, 5, 'v');
INSERT INTO t VALUES (1, 5, 'a'), (2, 5, 'b'), (2, 5, 'c');
INSERT INTO t VALUES (2, 4, 'd');
SELECT * FROM t1 ORDER BY k;
SELECT * FROM t2 ORDER BY k, at, v;
TABLE t3 EXCEPT TABLE t1;
SELECT view, op, r FROM seen ORDER BY view, id;
SELECT * FROM weir.verify('t1') UNION ALL SELECT * FROM weir.verify('t2') UNION ALL SELECT * FROM weir.verify('t3');

-- DELETE of kept rows changes nothing
DELETE FROM a WHERE i < 100;
INSERT INTO a VALUES (1000, 3, 'a', -1);
TABLE b1 EXCEPT TABLE a1;

-- the order is not shown: the kept rows are needed
CREATE MATERIALIZED VIEW no WITH (weir.continuous) AS SELECT DISTINCT ON (k) k, v FROM u ORDER BY k, id;
CREATE MATERIALIZED VIEW no WITH (weir.continuous) AS SELECT k, n FROM (SELECT k, v, row_number() OVER (PARTITION BY k ORDER BY v) AS n FROM u) q WHERE n BETWEEN 2 AND 3;

SET client_min_messages = warning;
DROP SCHEMA topn CASCADE;
