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
DO $$
DECLARE
  s text;
  q text[] := ARRAY[
    'SELECT k, c, sum(v) AS s, count(*) AS n FROM %s GROUP BY k, c HAVING sum(v) > 0',
    'SELECT k, avg(v) AS m FROM %s GROUP BY k HAVING count(*) BETWEEN 3 AND 30 AND avg(v) < 2',
    'SELECT c, max(v) - min(v) AS width FROM %s WHERE v <> 3 GROUP BY c HAVING bool_or(v > 10) AND c <> ''b''',
    'SELECT count(*) AS n, sum(v) AS s FROM %s HAVING count(*) > 50 AND sum(v) > 0',
    'SELECT k, sum(v) AS s FROM %s GROUP BY k HAVING k IS NULL OR sum(v) %% 2 = 0',
    'SELECT DISTINCT k, c FROM %s',
    'SELECT DISTINCT v / 5 AS v5, c || ''!'' AS c FROM %s WHERE k > 2'];
BEGIN
  FOREACH s IN ARRAY ARRAY['a', 'b', 'd'] LOOP
    FOR n IN 1 .. array_length(q, 1) LOOP
      EXECUTE format('CREATE MATERIALIZED VIEW %s%s WITH (weir.continuous) AS ', s, n) || format(q[n], s);
    END LOOP;
  END LOOP;
END $$;
CREATE FUNCTION differences() RETURNS TABLE (view text, rows bigint) LANGUAGE plpgsql AS $$
DECLARE
  w record;
BEGIN
  FOR w IN SELECT v.view, pg_get_viewdef(d.query::oid) AS q FROM weir.views v JOIN pg_class c ON c.oid = v.view,
           LATERAL (SELECT to_regclass('weir.query_' || v.view::oid) AS query) d
           WHERE c.relnamespace = 'hav'::regnamespace ORDER BY 1 LOOP
    view := w.view;
    EXECUTE format('SELECT count(*) FROM ((TABLE %1$s EXCEPT ALL (%2$s)) UNION ALL ((%2$s) EXCEPT ALL TABLE %1$s)) x',
                   w.view, rtrim(w.q, ';')) INTO rows;
    IF rows > 0 THEN RETURN NEXT; END IF;
    EXECUTE format('SELECT count(*) FROM weir.verify(%L)', w.view) INTO rows;
    IF rows > 0 THEN RETURN NEXT; END IF;
  END LOOP;
END $$;
INSERT INTO a SELECT * FROM rows;
DO $$
DECLARE
  r record;
  lo int := 1;
  hi int;
BEGIN
  FOR r IN SELECT * FROM hav.rows ORDER BY i LOOP
    INSERT INTO b VALUES (r.i, r.k, r.c, r.v);
    IF r.i % 60 = 0 AND EXISTS (SELECT FROM differences()) THEN
      RAISE EXCEPTION 'differs after row %', r.i;
    END IF;
  END LOOP;
  WHILE lo <= 300 LOOP
    hi := lo + (random() * 50)::int;
    INSERT INTO d SELECT * FROM hav.rows WHERE i BETWEEN lo AND hi;
    lo := hi + 1;
  END LOOP;
END $$;
SELECT * FROM differences();
SELECT (SELECT count(*) FROM a1) AS a1, (SELECT count(*) FROM b2) AS b2, (SELECT count(*) FROM d6) AS d6;

-- views made when the rows are there already, REFRESH, explain
CREATE MATERIALIZED VIEW late_one WITH (weir.continuous) AS SELECT k, sum(v) AS s FROM a GROUP BY k HAVING sum(v) > 0;
REFRESH MATERIALIZED VIEW a1;
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

-- what is not possible
CREATE MATERIALIZED VIEW no WITH (weir.continuous) AS SELECT 1 AS one FROM a HAVING true;

SET client_min_messages = warning;
DROP SCHEMA hav CASCADE;
