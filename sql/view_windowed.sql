-- Finals of any query all parts of which belong to one window: joins with grouped sides, outer joins, set operations, LIMIT.
CREATE SCHEMA view_windowed;
SET search_path = view_windowed, public;
SET TimeZone = 'UTC';
SET DateStyle = 'ISO, YMD';
CREATE TABLE bid (auction int, bidder int, price int, at timestamptz) WITH (weir.stream, weir.event_time = 'at', weir.lateness = '4 s', weir.idle_timeout = 'off', weir.keep = '1 hour');
CREATE TABLE person (id int, name text, at timestamptz) WITH (weir.stream, weir.event_time = 'at', weir.lateness = '4 s', weir.idle_timeout = 'off', weir.keep = '1 hour');
CREATE TABLE auction (id int, seller int, at timestamptz) WITH (weir.stream, weir.event_time = 'at', weir.lateness = '4 s', weir.idle_timeout = 'off', weir.keep = '1 hour');
CREATE TABLE queries (name text, by_hand text, query text);
-- by_hand: NULL, or the same for all windows at once
INSERT INTO queries VALUES
-- Nexmark: hot items, highest bid, new users
('q5', NULL, $$SELECT a.auction, a.num, a.endtime
  FROM (SELECT auction, count(*) AS num, window_start AS starttime, window_end AS endtime
        FROM bid, hop(bid.at, '10 s', '2 s') GROUP BY auction, window_start, window_end) AS a
  JOIN (SELECT max(c.num) AS maxn, c.starttime, c.endtime
        FROM (SELECT count(*) AS num, window_start AS starttime, window_end AS endtime
              FROM bid, hop(bid.at, '10 s', '2 s') GROUP BY auction, window_start, window_end) AS c
        GROUP BY c.starttime, c.endtime) AS m
  ON a.starttime = m.starttime AND a.endtime = m.endtime AND a.num >= m.maxn$$),
('q7', NULL, $$SELECT b.auction, b.price, b.bidder, b.at, m.datetime AS endtime
  FROM bid b JOIN (SELECT max(price) AS maxprice, window_end AS datetime FROM bid, tumble(bid.at, '10 s') GROUP BY window_start, window_end) m
  ON b.price = m.maxprice WHERE b.at BETWEEN m.datetime - interval '10 s' AND m.datetime$$),
('q8', NULL, $$SELECT p.id, p.name, p.starttime, p.endtime
  FROM (SELECT id, name, window_start AS starttime, window_end AS endtime FROM person, tumble(person.at, '10 s') GROUP BY id, name, window_start, window_end) p
  JOIN (SELECT seller, window_start AS starttime, window_end AS endtime FROM auction, tumble(auction.at, '10 s') GROUP BY seller, window_start, window_end) a
  ON p.id = a.seller AND p.starttime = a.starttime AND p.endtime = a.endtime$$),
-- rows behind the window's end, and before its start
('around', NULL, $$SELECT w.window_end AS endtime, w.n, b.price FROM
  (SELECT window_start, window_end, count(*) AS n FROM auction, tumble(auction.at, '10 s') GROUP BY 1, 2) w
  LEFT JOIN bid b ON b.at >= w.window_start - interval '3 s' AND b.at < w.window_end + interval '2 s' AND b.auction = w.n$$),
('left_join', NULL, $$SELECT a.window_start + interval '10 s' AS endtime, a.auction, a.n, b.n AS before FROM
  (SELECT window_start, auction, count(*) AS n FROM bid, tumble(bid.at, '10 s') GROUP BY 1, 2) a LEFT JOIN
  (SELECT window_start, id AS auction, count(*) AS n FROM auction, tumble(auction.at, '10 s') GROUP BY 1, 2) b USING (window_start, auction)$$),
('full_join', NULL, $$SELECT window_end AS endtime, auction, a.n, b.n AS before FROM
  (SELECT window_end, auction, count(*) AS n FROM bid, tumble(bid.at, '10 s') WHERE auction < 4 GROUP BY 1, 2) a FULL JOIN
  (SELECT window_end, id AS auction, count(*) AS n FROM auction, tumble(auction.at, '10 s') WHERE id > 2 GROUP BY 1, 2) b USING (window_end, auction)$$),
-- rows of a window, none of them grouped: those without a match, too
('rows_left', NULL, $$SELECT l.window_end AS endtime, l.auction, l.price, r.seller FROM (SELECT * FROM bid, tumble(bid.at, '10 s')) l
  LEFT JOIN (SELECT * FROM auction, tumble(auction.at, '10 s')) r ON r.id = l.auction AND r.window_start = l.window_start AND r.window_end = l.window_end$$),
('rows_full', NULL, $$SELECT coalesce(l.window_end, r.window_end) AS endtime, l.auction, l.price, r.id, r.seller FROM (SELECT * FROM bid, tumble(bid.at, '10 s')) l
  FULL JOIN (SELECT * FROM auction, tumble(auction.at, '10 s')) r ON r.id = l.auction AND r.window_start = l.window_start AND r.window_end = l.window_end$$),
('anti', NULL, $$SELECT window_end AS endtime, bidder FROM bid, tumble(bid.at, '10 s') EXCEPT SELECT window_end, seller FROM auction, tumble(auction.at, '10 s')$$),
('united', NULL, $$SELECT window_end AS endtime, count(DISTINCT who) AS n FROM (
  SELECT window_end, bidder AS who FROM bid, tumble(bid.at, '10 s') UNION
  SELECT window_end, seller FROM auction, tumble(auction.at, '10 s') INTERSECT SELECT window_end, id FROM person, tumble(person.at, '10 s')) u GROUP BY 1$$),
('arms', NULL, $$SELECT window_end AS endtime, 'bids' AS what, max(price) AS x FROM bid, tumble(bid.at, '10 s') GROUP BY window_end
  UNION ALL SELECT window_end, 'auctions', count(*) FROM auction, tumble(auction.at, '10 s') GROUP BY window_end$$),
('sizes', NULL, $$SELECT s.window_end AS endtime, s.n, l.n AS of FROM
  (SELECT window_end, count(*) AS n FROM bid, tumble(bid.at, '5 s') GROUP BY 1) s JOIN
  (SELECT window_end, count(*) AS n FROM bid, tumble(bid.at, '20 s') GROUP BY 1) l USING (window_end)$$),
('of_day', NULL, $$WITH c AS (SELECT window_start, window_end, auction, sum(price) AS total FROM bid, cumulate(bid.at, '20 s', '5 s') GROUP BY 1, 2, 3)
  SELECT c.window_end AS endtime, c.auction, c.total, c.total * 100 / nullif(t.total, 0) AS share
  FROM c JOIN (SELECT window_end, sum(total) AS total FROM c GROUP BY 1) t ON t.window_end = c.window_end$$),
-- places over a join; the window's end is not the key of a level, its start is
('places', NULL, $$SELECT x.endtime, x.auction, x.place FROM (
    SELECT b.window_start, b.window_end AS endtime, b.auction, rank() OVER (PARTITION BY b.window_start ORDER BY b.n * a.n DESC) AS place
    FROM (SELECT window_start, window_end, auction, count(*) AS n FROM bid, tumble(bid.at, '10 s') GROUP BY 1, 2, 3) b
    JOIN (SELECT window_start, id, count(*) AS n FROM auction, tumble(auction.at, '10 s') GROUP BY 1, 2) a ON a.window_start = b.window_start AND a.id = b.auction) x
  WHERE x.place <= 2$$),
-- a limit is each window's own
('top2', $$SELECT endtime, auction, n FROM (SELECT window_end AS endtime, auction, count(*) AS n, row_number() OVER (PARTITION BY window_end ORDER BY count(*) DESC, window_end, auction) AS r
  FROM bid, tumble(bid.at, '10 s') GROUP BY window_end, auction) x WHERE r <= 2$$,
 $$SELECT window_end AS endtime, auction, count(*) AS n FROM bid, tumble(bid.at, '10 s') GROUP BY window_end, auction ORDER BY n DESC LIMIT 2$$),
('ties', $$SELECT endtime, price FROM (SELECT window_end AS endtime, price, rank() OVER (PARTITION BY window_end ORDER BY price DESC) AS r FROM bid, tumble(bid.at, '10 s')) x WHERE r <= 3$$,
 $$SELECT window_end AS endtime, price FROM bid, tumble(bid.at, '10 s') ORDER BY price DESC FETCH FIRST 3 ROWS WITH TIES$$),
('second', $$SELECT endtime, price FROM (SELECT endtime, price, row_number() OVER (PARTITION BY endtime ORDER BY price DESC) AS r
  FROM (SELECT DISTINCT window_end AS endtime, price FROM bid, tumble(bid.at, '10 s')) d) x WHERE r = 2$$,
 $$SELECT DISTINCT window_end AS endtime, price FROM bid, tumble(bid.at, '10 s') ORDER BY price DESC LIMIT 1 OFFSET 1$$);
DO $$
DECLARE
  q record;
BEGIN
  SET LOCAL client_min_messages = warning;
  FOR q IN SELECT * FROM queries LOOP
    EXECUTE format('CREATE MATERIALIZED VIEW v_%s WITH (weir.continuous, weir.emit = ''final'') AS %s', q.name, q.query);
  END LOOP;
END $$;
SELECT view, strategy FROM weir.views WHERE strategy <> 'at close';
-- what no window of the result shows is run for each window all the same
CREATE MATERIALIZED VIEW hidden WITH (weir.continuous, weir.emit = 'final') AS
  SELECT auction, percentile_disc(0.5) WITHIN GROUP (ORDER BY price) AS middle FROM bid, tumble(bid.at, '10 s') GROUP BY window_start, auction;
CREATE MATERIALIZED VIEW hidden_q5 WITH (weir.continuous, weir.emit = 'final') AS
  SELECT a.auction FROM (SELECT auction, count(*) AS num, window_end FROM bid, hop(bid.at, '10 s', '2 s') GROUP BY 1, 3) a
  JOIN (SELECT window_end, max(num) AS most FROM (SELECT count(*) AS num, window_end FROM bid, hop(bid.at, '10 s', '2 s') GROUP BY auction, window_end) c GROUP BY 1) m USING (window_end)
  WHERE a.num = m.most;
CREATE TABLE log (n serial, view text, final jsonb);
CREATE FUNCTION log_final() RETURNS trigger LANGUAGE plpgsql AS $$
  BEGIN INSERT INTO view_windowed.log (view, final) VALUES (tg_table_name, to_jsonb(new)); RETURN NULL; END $$;
CREATE TRIGGER log AFTER INSERT OR UPDATE OR DELETE ON v_q5 FOR EACH ROW EXECUTE FUNCTION log_final();
CREATE TRIGGER log AFTER INSERT OR UPDATE OR DELETE ON v_q7 FOR EACH ROW EXECUTE FUNCTION log_final();
-- in time: nothing is more than 3 s behind the newest of its stream
CREATE TABLE input (n serial, stream text, row text);
CREATE FUNCTION make_input(seed float8, first int, last int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  t timestamptz;
  s text;
BEGIN
  PERFORM setseed(seed);
  FOR i IN first .. last LOOP
    s := (ARRAY['bid', 'bid', 'bid', 'person', 'auction'])[1 + floor(random() * 5)::int];
    t := timestamptz '2025-01-01Z' + i * interval '150 ms' - (random() * 2900)::int * interval '1 ms';
    IF random() < 0.1 THEN t := date_trunc('second', t); END IF;
    INSERT INTO input (stream, row) VALUES (s, CASE s WHEN 'bid' THEN format('(%s,%s,%s,%s)', 1 + (random() * 4)::int, (random() * 20)::int, (random() * 30)::int, t)
      WHEN 'person' THEN format('(%s,n%s,%s)', (random() * 20)::int, (random() * 2)::int, t) ELSE format('(%s,%s,%s)', 1 + (random() * 4)::int, (random() * 20)::int, t) END);
  END LOOP;
END $$;
-- in batches of at most so many rows, cut where the stream changes
CREATE FUNCTION feed(most int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  r record;
BEGIN
  FOR r IN SELECT stream, array_agg(row ORDER BY n) AS rows FROM (SELECT *, row_number() OVER (PARTITION BY stream ORDER BY n) / most AS batch FROM input) i GROUP BY stream, batch ORDER BY min(n) LOOP
    EXECUTE format('INSERT INTO %1$s SELECT (r::%1$s).* FROM unnest($1) WITH ORDINALITY u(r, n) ORDER BY n', r.stream) USING r.rows;
  END LOOP;
  TRUNCATE input;
END $$;
CREATE FUNCTION wrong(until timestamptz) RETURNS TABLE (name text, side text, record jsonb) LANGUAGE plpgsql AS $$
DECLARE
  v record;
BEGIN
  FOR v IN SELECT q.name, coalesce(q.by_hand, q.query) AS query FROM queries q LOOP
    RETURN QUERY EXECUTE format('SELECT %L, ''missing'', to_jsonb(q) FROM (SELECT * FROM (%s) d WHERE endtime <= %L EXCEPT ALL TABLE v_%1$s) q', v.name, v.query, until);
    RETURN QUERY EXECUTE format('SELECT %L, ''extra'', to_jsonb(q) FROM (TABLE v_%1$s EXCEPT ALL SELECT * FROM (%s) d WHERE endtime <= %L) q', v.name, v.query, until);
  END LOOP;
  RETURN QUERY SELECT l.view, 'twice', final FROM log l GROUP BY l.view, final, l.n HAVING count(*) > 1;
  RETURN QUERY SELECT 'log', 'differs', to_jsonb(x) FROM ((SELECT l.final FROM log l WHERE view = 'v_q5' EXCEPT ALL SELECT to_jsonb(q) FROM v_q5 q)
    UNION ALL (SELECT to_jsonb(q) FROM v_q7 q EXCEPT ALL SELECT l.final FROM log l WHERE view = 'v_q7')) x;
  FOR v IN SELECT view FROM weir.views LOOP
    RETURN QUERY SELECT v.view::text, f.side, f.record FROM weir.verify(v.view) f;
  END LOOP;
END $$;
CREATE FUNCTION flush(at timestamptz) RETURNS void LANGUAGE sql AS $$
  INSERT INTO bid VALUES (0, 0, 0, at); INSERT INTO person VALUES (0, '', at); INSERT INTO auction VALUES (0, 0, at) $$;
-- the batches of one stream run ahead of the others: their windows wait
SELECT make_input(0.1, 1, 600);
SELECT feed(1);
SELECT flush('2025-01-01 00:01:37Z');
SELECT * FROM wrong('2025-01-01 00:01:33Z');   -- less the lateness
SELECT make_input(0.2, 760, 1500);
SELECT feed(7);
SELECT flush('2025-01-01 00:04:07Z');
SELECT * FROM wrong('2025-01-01 00:04:03Z');
SELECT make_input(0.3, 1760, 2500);
SELECT feed(10000);
SELECT flush('2025-01-01 00:07:07Z');
SELECT * FROM wrong('2025-01-01 00:07:03Z');
SELECT (SELECT count(*) > 50 FROM v_q5) AS q5, (SELECT count(*) > 20 FROM v_q7) AS q7, (SELECT count(*) > 20 FROM v_q8) AS q8, (SELECT count(*) > 25 FROM v_around) AS around,
  (SELECT count(*) > 20 FROM v_full_join WHERE n IS NULL) AS full_left, (SELECT count(*) > 20 FROM v_full_join WHERE before IS NULL) AS full_right,
  (SELECT count(*) > 20 FROM v_anti) AS anti, (SELECT count(*) > 20 FROM v_united) AS united, (SELECT count(*) > 10 FROM v_sizes) AS sizes, (SELECT count(*) > 20 FROM v_second) AS second;
-- one made later has the same finals
CREATE MATERIALIZED VIEW later WITH (weir.continuous, weir.emit = 'final') AS
  SELECT b.auction, b.price, b.bidder, b.at, m.datetime AS endtime
  FROM bid b JOIN (SELECT max(price) AS maxprice, window_end AS datetime FROM bid, tumble(bid.at, '10 s') GROUP BY window_start, window_end) m
  ON b.price = m.maxprice WHERE b.at BETWEEN m.datetime - interval '10 s' AND m.datetime;
(TABLE later EXCEPT ALL TABLE v_q7) UNION ALL (TABLE v_q7 EXCEPT ALL TABLE later);
-- late rows: by the window's own part, and by what is bounded
CREATE TABLE p (k int, v int, at timestamptz) WITH (weir.stream, weir.event_time = 'at', weir.idle_timeout = 'off', weir.late = 'keep', weir.keep = '1 hour');
CREATE MATERIALIZED VIEW after WITH (weir.continuous, weir.emit = 'final') AS
  SELECT w.window_start, w.n, p.v FROM (SELECT window_start, window_end, count(*) AS n FROM p, tumble(at, '10 s') GROUP BY 1, 2) w
  JOIN p ON p.at >= w.window_end AND p.at <= w.window_end + interval '2 s';
INSERT INTO p VALUES (1, 1, '2025-01-01 00:00:05Z'), (1, 2, '2025-01-01 00:00:11Z');
INSERT INTO p VALUES (1, 3, '2025-01-01 00:00:12Z'), (1, 4, '2025-01-01 00:00:06Z');
TABLE after;                            -- rows of 00:00:12 may still come
SELECT closed FROM weir.view_close WHERE view = 'after'::regclass;
INSERT INTO p VALUES (1, 5, '2025-01-01 00:00:12Z'), (1, 6, '2025-01-01 00:00:12.000001Z'), (1, 7, '2025-01-01 00:00:12Z'), (1, 8, '2025-01-01 00:00:07Z');
SELECT * FROM after ORDER BY v;
INSERT INTO p VALUES (1, 9, '2025-01-01 00:00:40Z'), (1, 10, '2025-01-01 00:00:22Z');
SELECT * FROM after ORDER BY v;
SELECT event_time, window_start, record->>'v' AS v FROM weir.late_rows ORDER BY "offset";
SELECT * FROM weir.verify('after');
-- a final view like these is a stream for the next one
CREATE MATERIALIZED VIEW above WITH (weir.continuous, weir.emit = 'final') AS
  SELECT w.window_start, sum(n) AS n FROM v_left_join l, tumble(l.endtime, '1 minute') w GROUP BY 1;
CREATE MATERIALIZED VIEW starts WITH (weir.continuous, weir.emit = 'final') AS
  SELECT a.window_start, a.n, b.n AS m, b.window_start AS other FROM
  (SELECT window_start, count(*) AS n FROM bid, tumble(bid.at, '10 s') GROUP BY 1) a LEFT JOIN
  (SELECT window_start, count(*) AS n FROM auction, tumble(auction.at, '10 s') GROUP BY 1) b ON a.window_start = b.window_start;
CREATE MATERIALIZED VIEW above WITH (weir.continuous, weir.emit = 'final') AS
  SELECT w.window_start, sum(n) AS n FROM starts s, tumble(s.other, '1 minute') w GROUP BY 1;
CREATE MATERIALIZED VIEW above WITH (weir.continuous, weir.emit = 'final') AS
  SELECT w.window_start, sum(n) AS n FROM starts s, tumble(s.window_start, '1 minute') w GROUP BY 1;
TABLE above EXCEPT SELECT date_trunc('minute', window_start), sum(n) FROM starts GROUP BY 1;
SELECT count(*) > 4 AS some FROM above;
SELECT * FROM weir.verify('above');
-- timestamps without time zone; a lateness of the view's own
CREATE TABLE plain (v int, at timestamp) WITH (weir.stream, weir.event_time = 'at', weir.idle_timeout = 'off', weir.keep = '1 hour');
CREATE MATERIALIZED VIEW plain_top WITH (weir.continuous, weir.emit = 'final', weir.lateness = '5 s') AS
  SELECT b.v, b.at, m.window_start FROM plain b JOIN (SELECT window_start, window_end, max(v) AS v FROM plain, tumble(at, '10 s') GROUP BY 1, 2) m
  ON b.v = m.v AND b.at >= m.window_start AND b.at < m.window_end ORDER BY b.at LIMIT 1;
INSERT INTO plain VALUES (5, '2025-01-01 00:00:03'), (7, '2025-01-01 00:00:12'), (5, '2025-01-01 00:00:01'), (6, '2025-01-01 00:00:14');
TABLE plain_top ORDER BY window_start;
INSERT INTO plain VALUES (5, '2025-01-01 00:00:15'), (9, '2025-01-01 00:00:02'), (1, '2025-01-01 00:00:25');
TABLE plain_top ORDER BY window_start;
SELECT * FROM weir.verify('plain_top');
-- what depends on several windows, or on none
CREATE FUNCTION refused(query text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  detail text;
BEGIN
  EXECUTE 'CREATE MATERIALIZED VIEW refused WITH (weir.continuous, weir.emit = ''final'') AS ' || query;
  RETURN 'kept';
EXCEPTION WHEN feature_not_supported THEN
  GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
  RETURN detail;
END $$;
SELECT refused(q) FROM unnest(ARRAY[
  'SELECT a.n FROM (SELECT window_end, count(*) AS n FROM bid, tumble(at, ''10 s'') GROUP BY 1) a JOIN (SELECT window_start, count(*) AS n FROM bid, tumble(at, ''10 s'') GROUP BY 1) b ON a.window_end = b.window_start',
  'SELECT a.n FROM (SELECT window_start, count(*) AS n FROM bid, tumble(at, ''10 s'') GROUP BY 1) a JOIN (SELECT window_start, count(*) AS n FROM bid, tumble(at, ''20 s'') GROUP BY 1) b USING (window_start)',
  'SELECT a.n FROM (SELECT window_start, count(*) AS n FROM bid, tumble(at, ''10 s'') GROUP BY 1) a JOIN (SELECT auction, count(*) AS n FROM bid GROUP BY 1) b ON a.n = b.n',
  'SELECT b.price FROM bid b JOIN (SELECT window_start, max(price) AS price FROM bid, tumble(at, ''10 s'') GROUP BY 1) m ON m.price = b.price AND b.at >= m.window_start',
  'SELECT b.price, m.price FROM bid b LEFT JOIN (SELECT window_start, max(price) AS price FROM bid, tumble(at, ''10 s'') GROUP BY 1) m ON b.at >= m.window_start AND b.at < m.window_start + interval ''10 s''',
  'SELECT a.n, rank() OVER (ORDER BY a.n) FROM (SELECT window_start, count(*) AS n FROM bid, tumble(at, ''10 s'') GROUP BY 1) a JOIN (SELECT window_start, count(*) AS n FROM bid, tumble(at, ''10 s'') GROUP BY 1) b USING (window_start)',
  'SELECT bidder FROM bid, tumble(at, ''10 s'') EXCEPT SELECT seller FROM auction, tumble(at, ''10 s'')',
  'SELECT window_end, bidder FROM bid, tumble(at, ''10 s'') UNION SELECT now(), 1',
  'SELECT count(*) FROM bid, tumble(at, ''10 s'') LIMIT 1',
  'SELECT price FROM bid ORDER BY price LIMIT 1',
  'SELECT auction, max(price) FROM bid, tumble(at, ''10 s'') GROUP BY auction ORDER BY 2 LIMIT 1',
  'SELECT window_start, price FROM bid, tumble(at, ''10 s'') LIMIT (SELECT count(*) FROM queries)',
  'SELECT w.window_start, x.price FROM (SELECT window_start, count(*) FROM bid, tumble(at, ''10 s'') GROUP BY 1) w, LATERAL (SELECT price FROM bid b, tumble(b.at, ''10 s'') t WHERE t.window_start = w.window_start ORDER BY price DESC LIMIT 2) x',
  'SELECT window_start, price FROM (SELECT window_start, price FROM bid, tumble(at, ''10 s'') ORDER BY price LIMIT 2) x ORDER BY 2 LIMIT 1',
  'SELECT a.window_start FROM (SELECT window_start, count(*) AS n FROM bid, tumble(at, ''10 s'') GROUP BY 1) a WHERE EXISTS (SELECT FROM auction, tumble(auction.at, ''10 s'') t WHERE t.window_start = a.window_start) ORDER BY 1 LIMIT 1',
  'SELECT f.window_start, b.n FROM (SELECT window_start, count(*) AS n FROM bid, tumble(at, ''10 s'') GROUP BY 1) f FULL JOIN (SELECT window_start, auction, count(*) AS n FROM bid, tumble(at, ''10 s'') GROUP BY 1, 2) b ON f.n = b.n'
]) WITH ORDINALITY AS u(q, n) ORDER BY n;
SELECT line FROM weir.explain('v_q8') AS line WHERE line ~ '^ ?(strategy|why|streams)';
SET client_min_messages = warning;
DROP SCHEMA view_windowed CASCADE;
