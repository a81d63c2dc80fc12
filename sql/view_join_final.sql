-- Finals over joins of streams: when no row that could still meet a row of the window can come in time.
CREATE SCHEMA view_join_final;
SET search_path = view_join_final, public;
SET TimeZone = 'UTC';
SET DateStyle = 'ISO, YMD';
CREATE FUNCTION at_ms(bigint) RETURNS timestamptz LANGUAGE sql IMMUTABLE AS
  $$SELECT timestamptz '2025-01-01 00:00:00+00' + $1 * interval '1 ms'$$;
CREATE TABLE l (at timestamptz, k text, v text) WITH (weir.stream, weir.event_time = 'at', weir.idle_timeout = 'off', weir.keep = '1 hour');
CREATE TABLE r (at timestamptz, k text, v text) WITH (weir.stream, weir.event_time = 'at', weir.idle_timeout = 'off', weir.keep = '1 hour');
CREATE TABLE log (n serial, view text, final jsonb);
CREATE FUNCTION log_final() RETURNS trigger LANGUAGE plpgsql AS $$
  BEGIN INSERT INTO view_join_final.log (view, final) VALUES (tg_table_name, to_jsonb(new)); RETURN NULL; END $$;
CREATE MATERIALIZED VIEW merged WITH (weir.continuous, weir.emit = 'final') AS
  SELECT window_start, window_end, l.k, count(*) AS n, min(r.v) AS least
  FROM l JOIN r ON l.k = r.k AND r.at BETWEEN l.at - interval '2 s' AND l.at + interval '3 s', tumble(l.at, '10 s') GROUP BY 1, 2, 3;
CREATE MATERIALIZED VIEW at_close WITH (weir.continuous, weir.emit = 'final') AS
  SELECT window_start, l.k, array_agg(r.v ORDER BY r.v, r.at) AS vs
  FROM l JOIN r ON l.k = r.k AND r.at BETWEEN l.at - interval '2 s' AND l.at + interval '3 s', tumble(l.at, '10 s') GROUP BY 1, 2;
CREATE MATERIALIZED VIEW rows WITH (weir.continuous, weir.emit = 'final') AS
  SELECT window_start, l.v AS lv, r.v AS rv
  FROM l JOIN r ON l.k = r.k AND r.at BETWEEN l.at - interval '2 s' AND l.at + interval '3 s', tumble(l.at, '10 s');
CREATE MATERIALIZED VIEW windowed WITH (weir.continuous, weir.emit = 'final') AS
  SELECT a.window_start, a.v AS lv, b.v AS rv
  FROM (SELECT l.*, window_start FROM l, tumble(l.at, '10 s')) a
  JOIN (SELECT r.*, window_start FROM r, tumble(r.at, '10 s')) b ON a.k = b.k AND a.window_start = b.window_start;
CREATE TRIGGER log AFTER INSERT OR UPDATE OR DELETE ON merged FOR EACH ROW EXECUTE FUNCTION log_final();
CREATE TRIGGER log AFTER INSERT OR UPDATE OR DELETE ON at_close FOR EACH ROW EXECUTE FUNCTION log_final();
CREATE TRIGGER log AFTER INSERT OR UPDATE OR DELETE ON rows FOR EACH ROW EXECUTE FUNCTION log_final();
CREATE TRIGGER log AFTER INSERT OR UPDATE OR DELETE ON windowed FOR EACH ROW EXECUTE FUNCTION log_final();
-- in time: nothing is more than 2 s behind the newest of its stream
CREATE FUNCTION feed(seed float8, first int, last int) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM setseed(seed);
  FOR i IN first .. last LOOP
    EXECUTE format('INSERT INTO %s SELECT at_ms(%s - (random() * 1900)::int), ''k'' || (random() * 2)::int, ''v'' || %s || ''.'' || n FROM generate_series(1, %s) n',
                   CASE WHEN random() < 0.5 THEN 'l' ELSE 'r' END, i * 700, i, (random() * 6)::int);
  END LOOP;
END $$;
CREATE FUNCTION wrong(until timestamptz) RETURNS TABLE (name text, side text, record jsonb) LANGUAGE plpgsql AS $$
DECLARE
  v record;
BEGIN
  FOR v IN SELECT view, rtrim(definition, ';') AS query FROM weir.views WHERE view::text <> 'windowed' ORDER BY view::text LOOP
    RETURN QUERY EXECUTE format('SELECT %L, ''missing'', to_jsonb(q) FROM (SELECT * FROM (%s) d WHERE window_start + interval ''10 s'' <= %L EXCEPT ALL TABLE %s) q', v.view, v.query, until, v.view);
    RETURN QUERY EXECUTE format('SELECT %L, ''extra'', to_jsonb(q) FROM (TABLE %s EXCEPT ALL SELECT * FROM (%s) d WHERE window_start + interval ''10 s'' <= %L) q', v.view, v.view, v.query, until);
    RETURN QUERY EXECUTE format('SELECT %L, ''twice'', to_jsonb(q) FROM (SELECT final FROM log WHERE view = %L EXCEPT ALL SELECT to_jsonb(x) FROM %s x) q', v.view, v.view, v.view);
  END LOOP;
  FOR v IN SELECT view FROM weir.views LOOP
    RETURN QUERY SELECT v.view::text, f.side, f.record FROM weir.verify(v.view) f;
  END LOOP;
END $$;
SELECT feed(0.4, 10, 70);
INSERT INTO l VALUES (at_ms(60000), 'none', 'flush');
INSERT INTO r VALUES (at_ms(60000), 'none', 'flush');
SELECT * FROM wrong(at_ms(55000));   -- less 5 s: forward and back together
SELECT feed(0.5, 90, 150);
INSERT INTO l VALUES (at_ms(135000), 'none', 'flush');
INSERT INTO r VALUES (at_ms(134999), 'none', 'flush');
SELECT * FROM wrong(at_ms(129999));
INSERT INTO r VALUES (at_ms(135000), 'none', 'flush');
SELECT * FROM wrong(at_ms(130000));
SELECT (SELECT count(*) > 10 FROM merged) AS merged, (SELECT count(*) > 10 FROM at_close) AS at_close,
  (SELECT count(*) > 50 FROM rows) AS rows, (SELECT count(*) > 50 FROM windowed) AS windowed;
CREATE MATERIALIZED VIEW no WITH (weir.continuous, weir.emit = 'final') AS
  SELECT window_start, window_end, count(*) FROM l JOIN r ON l.k = r.k, tumble(l.at, '10 s') GROUP BY 1, 2;
-- filled from rows before 2000, too
CREATE TABLE old (at timestamptz, k text) WITH (weir.stream, weir.event_time = 'at', weir.idle_timeout = 'off', weir.keep = '1 year');
INSERT INTO old VALUES ('1969-12-31 23:59:58Z', 'a'), ('1969-12-31 23:59:59Z', 'b'), ('1970-01-02 00:00:00Z', 'c');
CREATE MATERIALIZED VIEW old_pairs WITH (weir.continuous, weir.emit = 'final') AS
  SELECT window_start, window_end, count(*) FROM old a JOIN old b ON b.at BETWEEN a.at AND a.at + interval '2 s', tumble(a.at, '10 s') GROUP BY 1, 2;
TABLE old_pairs;
CREATE MATERIALIZED VIEW old_alone WITH (weir.continuous) AS
  SELECT a.k, b.k AS next FROM old a LEFT JOIN old b ON b.at > a.at AND b.at <= a.at + interval '2 s';
TABLE old_alone ORDER BY k;
-- a window above a sub-select that joins: pairs that come within the join's reach are in time there, too
CREATE TABLE ra (at timestamptz, k text) WITH (weir.stream, weir.event_time = 'at', weir.lateness = '0 s', weir.idle_timeout = 'off', weir.keep = '1 hour');
CREATE TABLE rb (at timestamptz, k text) WITH (weir.stream, weir.event_time = 'at', weir.lateness = '0 s', weir.idle_timeout = 'off', weir.keep = '1 hour');
DO $$
DECLARE
  joined text := $q$SELECT a.at, a.k FROM ra a JOIN rb b ON a.k = b.k AND b.at BETWEEN a.at - interval '20 s' AND a.at + interval '20 s'$q$;
  emit text;
BEGIN
  FOREACH emit IN ARRAY ARRAY['changes', 'final'] LOOP
    EXECUTE format($q$CREATE MATERIALIZED VIEW above_count_%s WITH (weir.continuous, weir.emit = %1$L) AS
      SELECT window_start, window_end, x.k, count(*) FROM (%2$s) x, tumble(x.at, '10 s') GROUP BY 1, 2, 3$q$, emit, joined);
    EXECUTE format($q$CREATE MATERIALIZED VIEW above_list_%s WITH (weir.continuous, weir.emit = %1$L) AS
      WITH j AS (%2$s) SELECT window_start, window_end, x.k, array_agg(x.at) FROM (SELECT * FROM j) x, tumble(x.at, '10 s') GROUP BY 1, 2, 3$q$, emit, joined);
  END LOOP;
END $$;
INSERT INTO rb VALUES ('2025-01-01 12:00:00Z', 'k'), ('2025-01-01 12:00:05Z', 'z');
INSERT INTO ra VALUES ('2025-01-01 12:00:13Z', 'z');
INSERT INTO ra VALUES ('2025-01-01 12:00:01Z', 'k');
INSERT INTO ra VALUES ('2025-01-01 12:02:01Z', 'k');
INSERT INTO rb VALUES ('2025-01-01 12:02:01Z', 'k');
TABLE above_count_changes ORDER BY 1;
TABLE above_count_final ORDER BY 1;
TABLE above_list_changes ORDER BY 1;
TABLE above_list_final ORDER BY 1;
SELECT sum(late) FROM weir.stat_views WHERE view::text LIKE 'above%';
SET client_min_messages = warning;
DROP SCHEMA view_join_final CASCADE;
