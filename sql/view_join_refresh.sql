-- REFRESH of joins of streams whose kept rows do not reach back to the beginning.
SET client_min_messages = warning;
CREATE SCHEMA join_refresh;
SET search_path = join_refresh, public;
SET TimeZone = 'UTC';
CREATE TABLE a (id int, k text, t timestamptz, v int) WITH (weir.stream, weir.event_time = 't', weir.keep = '2 hours', weir.idle_timeout = 'off');
CREATE TABLE b (k text, t timestamptz, v int) WITH (weir.stream, weir.event_time = 't', weir.keep = '2 hours', weir.idle_timeout = 'off');
CREATE MATERIALIZED VIEW pairs WITH (weir.continuous) AS
  SELECT a.id, a.k, a.t, b.t AS bt, a.v, b.v AS bv FROM a JOIN b ON a.k = b.k AND b.t BETWEEN a.t - interval '1 min' AND a.t + interval '1 min';
CREATE MATERIALIZED VIEW means WITH (weir.continuous) AS
  SELECT window_start, a.k, count(*) AS n, avg(b.v) AS m FROM a JOIN b ON a.k = b.k AND b.t BETWEEN a.t - interval '1 min' AND a.t + interval '1 min',
    tumble(a.t, '1 min') GROUP BY window_start, a.k;
CREATE MATERIALIZED VIEW hops WITH (weir.continuous) AS
  SELECT window_start, count(*) AS n, array_agg(DISTINCT b.v % 7) AS m FROM a JOIN b ON a.k = b.k AND b.t BETWEEN a.t AND a.t + interval '10 s',
    hop(a.t, '1 min', '30 s') GROUP BY window_start;
CREATE MATERIALIZED VIEW untimed WITH (weir.continuous) AS
  SELECT a.k, count(*) AS n FROM a JOIN b ON a.k = b.k AND b.t BETWEEN a.t - interval '1 min' AND a.t + interval '1 min' GROUP BY a.k;
CREATE MATERIALIZED VIEW lone WITH (weir.continuous) AS
  SELECT a.id, a.t, b.t AS bt FROM a LEFT JOIN b ON a.k = b.k AND b.t BETWEEN a.t - interval '1 min' AND a.t + interval '1 min';
ALTER TABLE pairs RENAME COLUMN bv TO other;
-- an hour of rows, in steps, so that both streams keep what the other still meets
CREATE PROCEDURE put(first int, last int) LANGUAGE plpgsql SET search_path = join_refresh, public AS $$
BEGIN
  FOR s IN first .. last LOOP
    INSERT INTO a SELECT i, 'k' || i % 3, '2024-01-01Z'::timestamptz + i * interval '5 s', i % 11 FROM generate_series(s * 12, s * 12 + 11) i;
    INSERT INTO b SELECT 'k' || i % 3, '2024-01-01Z'::timestamptz + i * interval '7 s', i % 13 FROM generate_series(s * 60 / 7 + 1, (s + 1) * 60 / 7) i;
  END LOOP;
END $$;
CALL put(0, 59);
ALTER TABLE a SET (weir.keep = '10 min');
ALTER TABLE b SET (weir.keep = '10 min');
SELECT (SELECT count(*) FROM a) < 200 AND (SELECT count(*) FROM b) < 200 AS expired;
SELECT * FROM weir.verify('pairs') UNION ALL SELECT * FROM weir.verify('means') UNION ALL SELECT * FROM weir.verify('hops');

-- what REFRESH can tell is the oldest kept row, and as far behind it as the join reaches; older rows stay
CREATE TABLE before AS SELECT * FROM pairs;
CREATE TABLE before_means AS SELECT * FROM means;
DELETE FROM a WHERE id % 5 = 0;
REFRESH MATERIALIZED VIEW pairs;
REFRESH MATERIALIZED VIEW means;
REFRESH MATERIALIZED VIEW hops;
SELECT * FROM weir.verify('pairs') UNION ALL SELECT * FROM weir.verify('means') UNION ALL SELECT * FROM weir.verify('hops');
WITH f AS (SELECT max(t) AS t FROM pairs WHERE id % 5 = 0)
SELECT (SELECT count(*) FROM pairs) < (SELECT count(*) FROM before) AS less,
       NOT EXISTS (SELECT before.* FROM before, f WHERE before.t <= f.t EXCEPT ALL SELECT pairs.* FROM pairs, f WHERE pairs.t <= f.t) AS older_rows_stay,
       (SELECT t FROM f) - (SELECT min(t) FROM a) BETWEEN '0' AND '2 min' AS the_rest_is_new FROM f;
SELECT count(*) > 0 AS older_windows_stay FROM (SELECT * FROM before_means INTERSECT SELECT * FROM means) x;
SELECT count(*) FROM pg_class WHERE relname LIKE 'weir_twin%' OR relname LIKE 'weir_replace%';
-- and it goes on
CALL put(60, 64);
SELECT * FROM weir.verify('pairs') UNION ALL SELECT * FROM weir.verify('means') UNION ALL SELECT * FROM weir.verify('hops');
BEGIN;
REFRESH MATERIALIZED VIEW means;
ROLLBACK;
SELECT * FROM weir.verify('means');

-- what cannot be told, and what to do
\set VERBOSITY default
\set SHOW_CONTEXT never
REFRESH MATERIALIZED VIEW untimed;
REFRESH MATERIALIZED VIEW lone;
CREATE MATERIALIZED VIEW later WITH (weir.continuous) AS
  SELECT a.id, a.t, b.t AS bt FROM a JOIN b ON a.k = b.k AND b.t BETWEEN a.t - interval '1 min' AND a.t + interval '1 min' WITH NO DATA;
REFRESH MATERIALIZED VIEW later;
DROP SCHEMA join_refresh CASCADE;
