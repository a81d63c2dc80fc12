-- The recipes of docs/recipes.md: whole applications in a few statements, fed by INSERT.
SET TIME ZONE 'UTC';
SET DateStyle = 'ISO';
CREATE SCHEMA recipes;
SET search_path = recipes, public;

-- A shop's live map
CREATE TABLE orders (order_id bigint, city text, product text, amount numeric, customer text, ordered_at timestamptz)
  WITH (weir.stream, weir.event_time = 'ordered_at', weir.lateness = '2 s', weir.keep = '30 days');

CREATE MATERIALIZED VIEW per_second WITH (weir.continuous, weir.emit = 'final', weir.keep = '30 days') AS
  SELECT window_start, city, count(*) AS orders, sum(amount) AS amount
  FROM orders, tumble(ordered_at, '1 second') GROUP BY window_start, city;

CREATE MATERIALIZED VIEW five_days WITH (weir.continuous) AS
  SELECT window_start, window_end, count(*) AS orders, sum(amount) AS amount
  FROM orders, hop(ordered_at, '5 days', '1 day', time_zone => 'Europe/Istanbul') GROUP BY window_start, window_end;

CREATE MATERIALIZED VIEW two_of_five_days WITH (weir.continuous) AS
  SELECT window_start, window_end, count(*) AS orders
  FROM orders, hop(ordered_at, '2 days', '5 days') GROUP BY window_start, window_end;

CREATE MATERIALIZED VIEW visits WITH (weir.continuous) AS
  SELECT customer, window_start, window_end, count(*) AS orders, sum(amount) AS amount
  FROM orders, session(ordered_at, '2 hours') GROUP BY customer, window_start, window_end;

CREATE MATERIALIZED VIEW sold WITH (weir.continuous, weir.keep = '30 days') AS
  SELECT order_id, ordered_at, product, city FROM orders WHERE amount >= 10;

CREATE TABLE event (name text PRIMARY KEY, starts timestamptz, ends timestamptz);
INSERT INTO event VALUES ('Black Friday', '2025-11-28', '2025-11-29');
CREATE MATERIALIZED VIEW event_totals WITH (weir.continuous) AS
  SELECT e.name, count(*) AS orders, sum(o.amount) AS amount
  FROM orders o JOIN event e ON o.ordered_at >= e.starts AND o.ordered_at < e.ends GROUP BY e.name;

CREATE MATERIALIZED VIEW days WITH (weir.continuous) AS
  SELECT window_start AS day, count(*) AS orders, sum(amount) AS amount
  FROM orders, tumble(ordered_at, '1 day', time_zone => 'Europe/Istanbul') GROUP BY window_start;

CREATE TRIGGER push AFTER INSERT ON per_second FOR EACH ROW EXECUTE FUNCTION weir.notify('map');
CREATE TRIGGER push AFTER INSERT ON sold FOR EACH ROW EXECUTE FUNCTION weir.notify('sold');

INSERT INTO orders VALUES
  (1, 'Izmir', 'tea', 20, 'ada', '2025-11-28 10:00:00.1'), (2, 'Izmir', 'cup', 5, 'ada', '2025-11-28 10:00:00.9'),
  (3, 'Ankara', 'tea', 30, 'bob', '2025-11-28 10:00:01'), (4, 'Izmir', 'pot', 25, 'ada', '2025-11-28 11:59:00');
INSERT INTO orders VALUES (5, 'Izmir', 'tea', 20, 'ada', '2025-11-28 14:30:00'), (6, 'Bursa', 'tea', 1, 'cem', '2025-11-30 14:30:00');

SELECT * FROM per_second ORDER BY window_start, city;
SELECT * FROM five_days ORDER BY window_start;
SELECT * FROM two_of_five_days ORDER BY window_start;
SELECT * FROM visits ORDER BY customer, window_start;
SELECT * FROM sold ORDER BY order_id;
SELECT * FROM event_totals;
SELECT * FROM days ORDER BY day;

-- A summary per session and minute
CREATE UNLOGGED TABLE activity (uuid text, session_id text, event text, time_spent int, at timestamptz)
  WITH (weir.stream, weir.event_time = 'at', weir.lateness = '10 s', weir.keep = 0);

CREATE MATERIALIZED VIEW session_minutes WITH (weir.continuous, weir.emit = 'final') AS
  SELECT window_start, session_id, min(uuid) AS uuid, count(*) FILTER (WHERE event = 'click') AS clicks,
         count(*) FILTER (WHERE event = 'page_view') AS page_views, sum(time_spent) AS time_spent
  FROM activity, tumble(at, '1 minute') WHERE event IS NOT NULL GROUP BY window_start, session_id;

INSERT INTO activity VALUES
  ('u', 's1', 'click', 3, '2025-01-01 10:00:01'), ('u', 's1', 'page_view', 14, '2025-01-01 10:00:02'), ('u', 's1', NULL, 1, '2025-01-01 10:00:02'),
  ('v', 's2', 'click', 1, '2025-01-01 10:00:59'), ('v', 's2', 'click', 2, '2025-01-01 10:01:09');
SELECT * FROM session_minutes;
INSERT INTO activity VALUES ('u', 's1', 'click', 5, '2025-01-01 10:00:59'), ('v', 's2', 'click', 1, '2025-01-01 10:01:10');
SELECT * FROM session_minutes ORDER BY session_id;
INSERT INTO activity VALUES ('u', 's1', 'click', 5, '2025-01-01 10:00:59');
SELECT * FROM session_minutes ORDER BY session_id;
SELECT late FROM weir.stat_views WHERE view = 'session_minutes'::regclass;

-- Unhappy customers
CREATE TABLE customer (id int PRIMARY KEY, name text, club_status text, region text);
INSERT INTO customer VALUES (1, 'Ada', 'platinum', 'EMEA'), (2, 'Bob', 'bronze', 'EMEA'), (3, 'Cem', 'platinum', 'APAC');

CREATE TABLE rating (rating_id bigint, user_id int, stars int, message text, rated_at timestamptz)
  WITH (weir.stream, weir.event_time = 'rated_at', weir.keep = '1 day');

CREATE MATERIALIZED VIEW rating_with_customer WITH (weir.continuous, weir.keep = '30 days') AS
  SELECT r.rating_id, r.rated_at, r.stars, r.message, c.name, c.club_status, c.region
  FROM rating r LEFT JOIN customer c ON c.id = r.user_id;

CREATE MATERIALIZED VIEW unhappy_platinum WITH (weir.continuous, weir.keep = '7 days') AS
  SELECT r.rating_id, r.rated_at, r.stars, r.message, c.name
  FROM rating r JOIN customer c ON c.id = r.user_id WHERE r.stars < 3 AND c.club_status = 'platinum';

CREATE MATERIALIZED VIEW region_median WITH (weir.continuous) AS
  SELECT window_start, c.region, count(*) AS ratings, percentile_cont(0.5) WITHIN GROUP (ORDER BY r.stars) AS median
  FROM rating r CROSS JOIN hop(r.rated_at, '1 hour', '30 minutes') LEFT JOIN customer c ON c.id = r.user_id
  GROUP BY window_start, c.region;

CREATE TRIGGER alert AFTER INSERT ON unhappy_platinum FOR EACH ROW EXECUTE FUNCTION weir.notify('alert', 'columns=name,stars,message');

INSERT INTO rating VALUES
  (1, 1, 1, 'bad', '2025-01-01 10:00:01'), (2, 2, 1, 'bad too', '2025-01-01 10:00:02'),
  (3, 3, 5, 'good', '2025-01-01 10:00:03'), (4, 9, 2, 'who am I?', '2025-01-01 10:00:04');
UPDATE customer SET club_status = 'platinum' WHERE id = 2;
INSERT INTO rating VALUES (5, 2, 2, 'still bad', '2025-01-01 10:20:02');

SELECT rating_id, stars, name, club_status, region FROM rating_with_customer ORDER BY rating_id;
SELECT rating_id, stars, message, name FROM unhappy_platinum ORDER BY rating_id;
SELECT * FROM region_median ORDER BY window_start, region;

-- Filters of many users: an event finds its filters through an index
CREATE TABLE click (event_type text NOT NULL, at timestamptz NOT NULL, properties jsonb NOT NULL CHECK (jsonb_typeof(properties) = 'object'))
  WITH (weir.stream, weir.event_time = 'at', weir.keep = 0);

CREATE FUNCTION pair(key text, value jsonb) RETURNS text IMMUTABLE LANGUAGE sql
  RETURN key || '=' || CASE jsonb_typeof(value) WHEN 'number' THEN trim_scale(value::numeric)::text ELSE value::text END;
CREATE FUNCTION anchors(event_type text, properties jsonb) RETURNS SETOF text IMMUTABLE LANGUAGE sql
  BEGIN ATOMIC
    SELECT event_type || ' ' || pair(key, value) FROM jsonb_each(properties)
    WHERE jsonb_typeof(value) NOT IN ('object', 'array')
    UNION ALL
    SELECT event_type || ' ';
  END;
CREATE FUNCTION anchor(event_type text, match jsonb) RETURNS text IMMUTABLE LANGUAGE sql
  RETURN (SELECT a FROM anchors(event_type, match) a ORDER BY length(a) DESC, a LIMIT 1);

CREATE TABLE live_filter (
  id int PRIMARY KEY, event_type text NOT NULL, match jsonb NOT NULL, condition jsonpath,
  anchor text NOT NULL GENERATED ALWAYS AS (anchor(event_type, match)) STORED
);
CREATE INDEX ON live_filter (anchor);
CREATE MATERIALIZED VIEW live_match WITH (weir.continuous, weir.keep = '30 days') AS
  SELECT f.id AS filter_id, c.at, c.event_type, c.properties
  FROM click c, anchors(c.event_type, c.properties) AS a(anchor), live_filter f
  WHERE f.anchor = a.anchor AND c.properties @> f.match AND (f.condition IS NULL OR c.properties @@ f.condition);

INSERT INTO live_filter VALUES
  (1, 'buy', '{}', NULL), (2, 'buy', '{"city": "Izmir"}', NULL), (3, 'buy', '{"city": "Izmir", "n": 1.0}', NULL), (4, 'buy', '{"n": 1}', '$.price > 10'),
  (5, 'look', '{}', NULL), (6, 'buy', '{}', '$.price / 0 > 1'), (7, 'buy', '{"city": null}', NULL), (8, 'buy', '{"a": {"b": 1}}', NULL), (9, 'buy', '{"1": true}', NULL);
INSERT INTO click VALUES
  ('buy', '2025-01-01', '{"city": "Izmir", "n": 1, "price": 10}'), ('buy', '2025-01-01', '{"city": "Bursa", "n": 1.00, "price": 11}'),
  ('buy', '2025-01-01', '{"city": null, "1": true}'), ('buy', '2025-01-01', '{"a": {"b": 1, "c": 2}}'), ('buy', '2025-01-01', '{}'), ('look', '2025-01-01', '{"n": 1}');
SELECT filter_id, properties FROM live_match ORDER BY filter_id, properties;
-- more filters, which the index finds
INSERT INTO live_filter SELECT i, 'buy', jsonb_build_object('session', i) FROM generate_series(10, 5000) i;
DELETE FROM live_filter WHERE id < 5;
INSERT INTO click SELECT 'buy', '2025-01-02', jsonb_build_object('session', i, 'price', 5) FROM generate_series(4990, 5010) i;
SELECT count(*), count(DISTINCT filter_id), bool_and((properties ->> 'session')::int = filter_id) FROM live_match WHERE at = '2025-01-02';

-- Every view is its query.
SET client_min_messages = warning;
SELECT v.view, (SELECT count(*) FROM weir.verify(v.view)) AS differences
FROM weir.views v JOIN pg_class c ON c.oid = v.view
WHERE c.relnamespace = 'recipes'::regnamespace AND v.view NOT IN ('live_match'::regclass, 'rating_with_customer'::regclass, 'unhappy_platinum'::regclass, 'session_minutes'::regclass)
ORDER BY v.view::text COLLATE "C";
DROP SCHEMA recipes CASCADE;
