-- What a user types. :bootstrap is where Kafka listens (psql -v bootstrap=localhost:9092).

CREATE EXTENSION weir;

CREATE SERVER kafka FOREIGN DATA WRAPPER weir_kafka OPTIONS (bootstrap_servers :'bootstrap');

-- Two roles: one owns everything, and views and triggers run as it; the other is the bridge's.
CREATE ROLE live_filters NOLOGIN;
CREATE ROLE live_filters_bridge LOGIN;
GRANT USAGE ON FOREIGN SERVER kafka TO live_filters;
CREATE SCHEMA live AUTHORIZATION live_filters;
SET ROLE live_filters;
SET search_path = live, public;

-- The events. What is no object, or large, becomes a dead letter.
CREATE UNLOGGED TABLE click (
  event_type text NOT NULL,
  at timestamptz NOT NULL,
  properties jsonb NOT NULL CHECK (jsonb_typeof(properties) = 'object' AND octet_length(properties::text) <= 4096)
) WITH (weir.server = 'kafka', weir.topic = 'clicks', weir.event_time = 'at', weir.start = 'latest', weir.keep = 0);

-- An index can find the filters of an event if both have something in common that is equal. This is the
-- event's type with one of its properties ("purchase city="Izmir"): an event has one such text for each
-- property, and one without any; a filter has one, its longest, which is likely to be the rarest.
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

-- Filters are data, never SQL, and cannot be made to cost much: equal properties are compared as they are, and a
-- condition is a strict jsonpath without wildcards, subscripts, filters, regular expressions and variables,
-- so that all it does is to look at some properties once. (A variable would be an error for each event.)
CREATE FUNCTION is_flat(match jsonb) RETURNS boolean IMMUTABLE LANGUAGE sql
  RETURN jsonb_typeof(match) = 'object' AND octet_length(match::text) <= 500
         AND NOT EXISTS (SELECT FROM jsonb_each(CASE jsonb_typeof(match) WHEN 'object' THEN match END)
                         WHERE jsonb_typeof(value) IN ('object', 'array'));

CREATE FUNCTION is_cheap(condition jsonpath) RETURNS boolean IMMUTABLE LANGUAGE sql
  RETURN length(condition::text) <= 300 AND condition::text LIKE 'strict %'
         AND regexp_replace(condition::text, '"([^"\\]|\\.)*"', '""', 'g') !~ '[*?[]|[$]"|like_regex|datetime|keyvalue';

CREATE TABLE live_filter (
  id uuid PRIMARY KEY,
  event_type text NOT NULL CHECK (length(event_type) <= 50),
  match jsonb NOT NULL CHECK (is_flat(match)),
  condition jsonpath CHECK (is_cheap(condition)),
  anchor text NOT NULL GENERATED ALWAYS AS (anchor(event_type, match)) STORED,
  expires_at timestamptz NOT NULL DEFAULT now() + interval '10 s'
);
CREATE INDEX ON live_filter (anchor);
CREATE INDEX ON live_filter (expires_at);

-- A filter whose bridge is gone goes too.
ALTER TABLE live_filter SET (weir.expires = 'expires_at');

-- Which event matches which filter. Nothing is stored: the rows are for the triggers.
CREATE MATERIALIZED VIEW live_match WITH (weir.continuous, weir.keep = 0) AS
  SELECT f.id AS filter_id, 'filter_' || f.id AS channel, c.at, c.event_type, c.properties
  FROM click c, anchors(c.event_type, c.properties) AS a(anchor), live_filter f
  WHERE f.anchor = a.anchor
    AND c.properties @> f.match
    AND (f.condition IS NULL OR c.properties @@ f.condition);

-- To the browsers: each filter has a channel of its own.
CREATE TRIGGER notify AFTER INSERT ON live_match FOR EACH ROW
  EXECUTE FUNCTION weir.notify('live_match', 'columns=filter_id,at,event_type,properties', 'channel_column=channel');

-- To a topic, for other programs: keyed by the filter.
CREATE TRIGGER publish AFTER INSERT ON live_match FOR EACH ROW
  EXECUTE FUNCTION weir.publish('kafka', 'live-matches', 'key=filter_id', 'columns=filter_id,at,event_type,properties', 'changes=all');

-- The bridge may add filters, keep them alive, and remove them.
GRANT USAGE ON SCHEMA live TO live_filters_bridge;
GRANT SELECT (id), INSERT (id, event_type, match, condition), UPDATE (expires_at), DELETE ON live_filter TO live_filters_bridge;

RESET ROLE;
