-- weir.keep of views: the expirer deletes in pieces, as the owner, states too; triggers see it; an error is not the batch's.
SET client_min_messages = warning;
SET timezone = 'UTC';
CREATE SCHEMA vk;
SET search_path = vk, public;
CREATE TABLE ev (k int, v int, at timestamptz) WITH (weir.stream, weir.event_time = 'at', weir.keep = 0);
CREATE MATERIALIZED VIEW grouped WITH (weir.continuous, weir.keep = '1 hour') AS
  SELECT window_start, k, count(*) AS n, avg(v) AS mean FROM ev, tumble(at, '1 minute') GROUP BY window_start, k;
CREATE MATERIALIZED VIEW qualified WITH (weir.continuous, weir.keep = '1 hour') AS
  SELECT window_start, k, sum(v) AS s FROM ev, tumble(at, '1 minute') GROUP BY window_start, k HAVING sum(v) > 100;
CREATE MATERIALIZED VIEW ends WITH (weir.continuous, weir.keep = '1 hour') AS
  SELECT window_end, count(*) AS n FROM ev, tumble(at, '1 minute') GROUP BY window_end;
CREATE MATERIALIZED VIEW plain WITH (weir.continuous, weir.keep = '1 hour') AS SELECT at, k FROM ev WHERE v > 0;
CREATE MATERIALIZED VIEW finals WITH (weir.continuous, weir.emit = 'final', weir.keep = '1 hour') AS
  SELECT window_start, count(*) AS n FROM ev, tumble(at, '1 minute') GROUP BY window_start;
DO $$ DECLARE v record; BEGIN
  FOR v IN SELECT view, state FROM weir.view_def WHERE view IN ('grouped'::regclass, 'qualified'::regclass) LOOP
    EXECUTE format('CREATE VIEW state_of_%s AS SELECT k1 FROM %s', v.view, v.state); END LOOP; END $$;
\set ECHO none
\i sql/lib/await.sql
\set ECHO all

-- 25 000 groups: three pieces. A trigger counts what goes.
CREATE TABLE went (n bigint);
CREATE FUNCTION count_gone() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO vk.went SELECT count(*) FROM old; RETURN NULL; END $$;
CREATE TRIGGER gone AFTER DELETE ON grouped REFERENCING OLD TABLE AS old FOR EACH STATEMENT EXECUTE FUNCTION count_gone();
INSERT INTO ev SELECT i, i % 200, timestamptz '2026-01-01 00:00' + (i % 10) * interval '1 minute' FROM generate_series(1, 25000) i;
INSERT INTO ev VALUES (0, 200, '2026-01-01 01:05');
CALL gone($$grouped WHERE window_start <= '2026-01-01 00:05'$$);
CALL gone($$state_of_grouped WHERE k1 <= '2026-01-01 00:05'$$);
CALL gone($$qualified WHERE window_start <= '2026-01-01 00:05'$$);
CALL gone($$state_of_qualified WHERE k1 <= '2026-01-01 00:05'$$);
CALL gone($$ends WHERE window_end <= '2026-01-01 00:05'$$);
CALL gone($$plain WHERE at <= '2026-01-01 00:05'$$);
CALL gone($$finals WHERE window_start <= '2026-01-01 00:05'$$);
SELECT (SELECT count(*) FROM grouped) AS grouped, (SELECT count(*) FROM state_of_grouped) AS states,
  (SELECT count(*) FROM qualified) AS qualified, (SELECT count(*) FROM state_of_qualified) AS having_states,
  (SELECT count(*) FROM ends) AS ends, (SELECT count(*) FROM plain) AS plain, (SELECT count(*) FROM finals) AS finals;
SELECT sum(n) AS rows, max(n) <= 10000 AS in_pieces FROM went;

-- what is rolled back moves nothing on
BEGIN;
INSERT INTO ev VALUES (0, 200, '2026-01-02 00:00');
ROLLBACK;
INSERT INTO ev VALUES (0, 200, '2026-01-01 01:08');
CALL gone($$grouped WHERE window_start <= '2026-01-01 00:08'$$);
SELECT min(window_start), max(window_start), count(*) FROM grouped;

-- a row for what is no longer kept is not taken; one for what is, is
INSERT INTO ev VALUES (1, 7, '2026-01-01 00:07:30'), (9, 7, '2026-01-01 00:09:30');
SELECT window_start, k, n FROM grouped WHERE n > 1 OR window_start < '2026-01-01 00:09' ORDER BY 1, 2;

-- a trigger that raises keeps the rows, not the batches; it is tried again
CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not this one'; END $$;
CREATE TRIGGER a_no BEFORE DELETE ON grouped FOR EACH ROW EXECUTE FUNCTION no();
INSERT INTO ev VALUES (0, 200, '2026-01-01 03:00');
CALL gone($$ends WHERE window_end <= '2026-01-01 02:00'$$);
SELECT count(*) > 1 AS still_there FROM grouped;
SELECT state FROM weir.views WHERE view = 'grouped'::regclass;
DROP TRIGGER a_no ON grouped;
CALL gone($$grouped WHERE window_start <= '2026-01-01 02:00'$$);
SELECT count(*) FROM grouped;

DROP SCHEMA vk CASCADE;
