/* weir 0.1: install script. Run by CREATE EXTENSION only. */
\echo Use "CREATE EXTENSION weir" to load this file. \quit

/*
 * CREATE EXTENSION weir [SCHEMA s] installs the window functions in s (public
 * by default); everything else lives in schema weir.
 */
CREATE SCHEMA weir;
COMMENT ON SCHEMA weir IS 'weir: streaming queries. Functions and views of the extension';
GRANT USAGE ON SCHEMA weir TO PUBLIC;

-- weir.segmented: times by the number of their span, for PARTITION BY HASH (src/view/ring.c).
DO $weir$
DECLARE
  kind record;
BEGIN
  FOR kind IN SELECT bits, type, name FROM pg_catalog.generate_series(24, 46) AS bits,
    (VALUES ('timestamptz', 'ring'), ('timestamp', 'ring_utc')) AS t (type, name)
  LOOP
    EXECUTE pg_catalog.format($sql$CREATE FUNCTION weir.ring_%s(%s, bigint) RETURNS bigint
      LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'weir_ring_%1$s'$sql$, kind.bits, kind.type);
    EXECUTE pg_catalog.format($sql$COMMENT ON FUNCTION weir.ring_%s(%s, bigint) IS 'internal: which slot of a segmented view a time belongs to'$sql$,
      kind.bits, kind.type);
    EXECUTE pg_catalog.format($sql$REVOKE ALL ON FUNCTION weir.ring_%s(%s, bigint) FROM PUBLIC$sql$, kind.bits, kind.type);
    EXECUTE pg_catalog.format($sql$CREATE OPERATOR CLASS weir.%s_%s FOR TYPE %s USING hash AS OPERATOR 1 pg_catalog.=, FUNCTION 2 weir.ring_%2$s(%3$s, bigint)$sql$,
      kind.name, kind.bits, kind.type);
    EXECUTE pg_catalog.format($sql$COMMENT ON OPERATOR CLASS weir.%s_%s USING hash IS 'internal: partitions of segmented views'$sql$,
      kind.name, kind.bits);
  END LOOP;
END $weir$;

----------------------------------------------------------------------
-- Catalog: what weir remembers. No rights for users; the views below show it.
----------------------------------------------------------------------

CREATE FUNCTION weir.catalog_changed() RETURNS trigger
  LANGUAGE c AS 'MODULE_PATHNAME', 'weir_catalog_changed_trigger';
COMMENT ON FUNCTION weir.catalog_changed() IS 'internal: tells workers and caches, at commit, that weir''s catalog changed';

CREATE FUNCTION weir.relink() RETURNS trigger
  LANGUAGE c AS 'MODULE_PATHNAME', 'weir_relink_trigger';
COMMENT ON FUNCTION weir.relink() IS 'internal: records which objects go with a stream or a view, also after a restore';

CREATE TABLE weir.stream_def (
  stream         regclass PRIMARY KEY,      -- dumped as a name, so it survives dump and restore
  rows           regclass NOT NULL,         -- parent of the segments, has the hidden columns
  server         name,                      -- NULL: fed by INSERT only
  topics         text[] NOT NULL DEFAULT '{}',
  topics_seen    text[] NOT NULL DEFAULT '{}', -- all that it ever had: kept rows know a topic by its place here
  format         text NOT NULL,
  mode           text NOT NULL,
  start          text NOT NULL,
  event_time     name,                      -- follows ALTER TABLE ... RENAME COLUMN
  time_unit      text NOT NULL,
  lateness       interval,                  -- NULL: none given
  idle_timeout   interval,                  -- NULL: off
  max_clock_skew interval,                  -- NULL: off
  late           text NOT NULL,
  keep           interval NOT NULL,         -- zero: keeps no rows
  isolation      text NOT NULL,
  paused         boolean NOT NULL DEFAULT false,
  error          text                       -- not NULL: failed
);
COMMENT ON TABLE weir.stream_def IS 'internal: one row per stream; see weir.streams';

CREATE TABLE weir.view_def (
  view        regclass PRIMARY KEY,
  query       regclass NOT NULL,            -- an ordinary view with the definition: follows renames, knows its dependencies
  state       regclass,                     -- transition states, if the result is not enough to go on from
  streams     regclass[] NOT NULL,
  emit        text NOT NULL,
  strategy    text NOT NULL,
  lateness    interval,
  keep        interval,                     -- NULL: for ever
  keep_column name,                         -- column of the view that keep goes by
  unmatched   text NOT NULL DEFAULT 'at close',
  settings    text[] NOT NULL,              -- search_path, TimeZone, DateStyle, IntervalStyle at CREATE
  status      text NOT NULL DEFAULT 'running' CHECK (status IN ('running', 'paused', 'failed')),
  batch       bigint NOT NULL DEFAULT 0,
  error       text,
  join_reach  bigint,                       -- a join of streams: how far behind the watermark kept rows are needed, microseconds; -1: no bound
  close_shift bigint NOT NULL DEFAULT 0,    -- how much later than their end windows close, or than their time rows of a join, microseconds
  distinct_values regclass,                 -- values of DISTINCT aggregates, or what aggregates over sessions read, if they are kept
  instants    boolean NOT NULL DEFAULT false,   -- finals without windows: rows that have a time
  closes      boolean NOT NULL DEFAULT false,   -- an outer join of streams: rows without a match come at a close
  since       text[],                       -- WITH NO DATA: per stream, which kept rows belong to the view (SQL); NULL: all
  start       text,                         -- weir.start; NULL: not given
  replaces    regclass                      -- weir.replace: the view whose place it takes when it has caught up
);
COMMENT ON TABLE weir.view_def IS 'internal: one row per continuous view; see weir.views';

-- The exactly-once table: changed in the transaction of the batch.
CREATE TABLE weir.position (
  stream      regclass NOT NULL,
  topic       text NOT NULL,                -- '' and partition -1: rows that were INSERTed
  partition   integer NOT NULL,
  next_offset bigint NOT NULL,              -- next offset to read
  last_offset bigint,                       -- the last message seen, and what it looked like:
  fingerprint bigint,                       -- tells a topic that was deleted and created anew
  stream_time timestamptz,                  -- highest event time so far
  PRIMARY KEY (stream, topic, partition)
) WITH (fillfactor = 50);
COMMENT ON TABLE weir.position IS 'internal: the next offset to read of each partition, changed in the transaction of the batch';

-- A view that does not follow its stream: it continues from here.
CREATE TABLE weir.view_position (
  view        regclass NOT NULL,
  stream      regclass NOT NULL,
  topic       text NOT NULL,
  partition   integer NOT NULL,
  next_offset bigint NOT NULL,
  stream_time timestamptz,                  -- of the partition at next_offset, if known
  start_offset bigint,                      -- where catching up began; NULL: it has not
  PRIMARY KEY (view, stream, topic, partition)
) WITH (fillfactor = 50);
COMMENT ON TABLE weir.view_position IS 'internal: where a view that was paused, failed or is being backfilled goes on; no row: it follows its stream';

-- Views with weir.emit = 'final': changed in the transaction that inserts the finals.
CREATE TABLE weir.view_close (
  view        regclass PRIMARY KEY,
  closed      timestamptz,                  -- windows that ended by then, lateness included, are closed
  needs       timestamptz                   -- run at close: from then on kept rows are still needed; NULL: all
) WITH (fillfactor = 50);
COMMENT ON TABLE weir.view_close IS 'internal: how far the windows of final views are closed';

-- What rows found closed whose partition lags behind the watermark: weir.verify goes by it.
CREATE TABLE weir.view_behind (
  view         regclass NOT NULL,
  stream       regclass NOT NULL,
  partition    integer NOT NULL,
  first_offset bigint NOT NULL,
  last_offset  bigint NOT NULL,
  closed       timestamptz NOT NULL,        -- windows that ended by then were closed for these rows
  PRIMARY KEY (view, stream, partition, first_offset)
) WITH (fillfactor = 50);
COMMENT ON TABLE weir.view_behind IS 'internal: what was closed for rows of partitions that had been left out of the watermark';
-- Rows of final views that a view above them has not taken, because it did not run.
CREATE TABLE weir.missed_row (
  n      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  view   regclass NOT NULL,
  source regclass NOT NULL,
  record text NOT NULL                      -- as text of the source's row type
);
CREATE INDEX missed_row_view ON weir.missed_row (view, source, n);
COMMENT ON TABLE weir.missed_row IS 'internal: rows that wait until the view above is resumed';

-- Segments of kept rows. lo is NULL while a segment is free for reuse.
CREATE TABLE weir.segment (
  stream  regclass NOT NULL,
  segment regclass PRIMARY KEY,
  lo      timestamptz,                      -- event time, [lo, hi)
  hi      timestamptz
) WITH (fillfactor = 50);
CREATE INDEX segment_stream ON weir.segment (stream);
COMMENT ON TABLE weir.segment IS 'internal: the child tables that hold a stream''s kept rows';

-- Which rows are no longer kept, or never were: weir.verify and REFRESH must not take what is left for all.
CREATE TABLE weir.kept (
  stream  regclass PRIMARY KEY,             -- no row: all rows that ever came are there
  since   timestamptz NOT NULL              -- all rows from this event time on are there
) WITH (fillfactor = 50);
COMMENT ON TABLE weir.kept IS 'internal: from which event time on the kept rows of a stream are whole';

-- Emptied by a crash, as the unlogged streams are: that is how it is noticed.
CREATE UNLOGGED TABLE weir.marker (
  stream regclass PRIMARY KEY
);
COMMENT ON TABLE weir.marker IS 'internal: one row per unlogged stream whose kept rows are whole';

CREATE TABLE weir.dead_letter (
  id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  stream    regclass NOT NULL,
  view      regclass,
  topic     text,
  partition integer,
  "offset"  bigint,
  key       bytea,
  payload   bytea,
  headers   jsonb,
  "timestamp" timestamptz,                  -- the message's
  sqlstate  text NOT NULL,
  message   text NOT NULL,
  failed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX dead_letter_stream ON weir.dead_letter (stream, id);
COMMENT ON TABLE weir.dead_letter IS 'internal: messages that could not be applied; see weir.dead_letters';

CREATE TABLE weir.late_row (
  stream       regclass NOT NULL,
  view         regclass NOT NULL,
  topic        text,
  partition    integer,
  "offset"     bigint,
  event_time   timestamptz,
  window_start timestamptz,
  reason       text NOT NULL,
  record       jsonb NOT NULL,
  seen_at      timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX late_row_stream ON weir.late_row (stream, seen_at);
COMMENT ON TABLE weir.late_row IS 'internal: rows that were late for a view; see weir.late_rows';

-- Numbers INSERTed rows in order of arrival, in blocks.
CREATE SEQUENCE weir.arrival;
COMMENT ON SEQUENCE weir.arrival IS 'internal: arrival numbers of INSERTed rows';

CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON weir.stream_def
  FOR EACH STATEMENT EXECUTE FUNCTION weir.catalog_changed();
-- not batch: it goes up with every batch of a view that has a weir.notify trigger
CREATE TRIGGER changed AFTER INSERT OR DELETE OR TRUNCATE OR
  UPDATE OF view, query, state, streams, emit, strategy, lateness, keep, keep_column, unmatched, settings, status, error
  ON weir.view_def
  FOR EACH STATEMENT EXECUTE FUNCTION weir.catalog_changed();

CREATE TRIGGER relink AFTER INSERT ON weir.stream_def FOR EACH ROW EXECUTE FUNCTION weir.relink();
CREATE TRIGGER relink AFTER INSERT ON weir.view_def FOR EACH ROW EXECUTE FUNCTION weir.relink();
CREATE TRIGGER relink AFTER INSERT ON weir.segment FOR EACH ROW EXECUTE FUNCTION weir.relink();

SELECT pg_catalog.pg_extension_config_dump('weir.stream_def', '');
SELECT pg_catalog.pg_extension_config_dump('weir.view_def', '');
SELECT pg_catalog.pg_extension_config_dump('weir.position', '');
SELECT pg_catalog.pg_extension_config_dump('weir.view_position', '');
SELECT pg_catalog.pg_extension_config_dump('weir.view_close', '');
SELECT pg_catalog.pg_extension_config_dump('weir.view_behind', '');
SELECT pg_catalog.pg_extension_config_dump('weir.missed_row', '');
SELECT pg_catalog.pg_extension_config_dump('weir.missed_row_n_seq', '');
SELECT pg_catalog.pg_extension_config_dump('weir.segment', '');
SELECT pg_catalog.pg_extension_config_dump('weir.kept', '');
SELECT pg_catalog.pg_extension_config_dump('weir.dead_letter', '');
SELECT pg_catalog.pg_extension_config_dump('weir.late_row', '');
SELECT pg_catalog.pg_extension_config_dump('weir.arrival', '');
SELECT pg_catalog.pg_extension_config_dump('weir.dead_letter_id_seq', '');

----------------------------------------------------------------------
-- Sources: the foreign data wrapper that names Kafka clusters
----------------------------------------------------------------------

CREATE FUNCTION weir.kafka_validator(text[], oid) RETURNS void
  LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'weir_kafka_validator';
COMMENT ON FUNCTION weir.kafka_validator(text[], oid) IS 'checks the options of servers and user mappings of weir_kafka against the allow-list of librdkafka options';

CREATE FOREIGN DATA WRAPPER weir_kafka NO HANDLER VALIDATOR weir.kafka_validator;
COMMENT ON FOREIGN DATA WRAPPER weir_kafka IS 'Kafka clusters that weir''s streams read from and publish to';

----------------------------------------------------------------------
-- Streams
----------------------------------------------------------------------

CREATE FUNCTION weir.stream_am_handler(internal) RETURNS table_am_handler
  LANGUAGE c AS 'MODULE_PATHNAME', 'weir_stream_am_handler';
COMMENT ON FUNCTION weir.stream_am_handler(internal) IS 'internal: table access method of streams';
CREATE ACCESS METHOD weir_stream TYPE TABLE HANDLER weir.stream_am_handler;
COMMENT ON ACCESS METHOD weir_stream IS 'streams of weir: inserted rows go to continuous views and to the segments of kept rows';

CREATE FUNCTION weir.stream_insert() RETURNS trigger
  LANGUAGE c AS 'MODULE_PATHNAME', 'weir_stream_insert';
COMMENT ON FUNCTION weir.stream_insert() IS 'trigger on every stream: applies INSERTed rows to the kept rows and the continuous views';

CREATE FUNCTION weir.refuse_change() RETURNS trigger
  LANGUAGE c AS 'MODULE_PATHNAME', 'weir_refuse_change';
COMMENT ON FUNCTION weir.refuse_change() IS 'trigger on streams (UPDATE) and continuous views (all changes): refuses them';

CREATE FUNCTION weir.capture() RETURNS trigger
  LANGUAGE c AS 'MODULE_PATHNAME', 'weir_capture';
COMMENT ON FUNCTION weir.capture() IS 'trigger on continuous views that others read: hands their changes on';

-- [decode]
----------------------------------------------------------------------
-- Decoding
----------------------------------------------------------------------

CREATE FUNCTION weir.decode(stream regclass, value text, key text DEFAULT NULL) RETURNS jsonb
  LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'weir_decode';
COMMENT ON FUNCTION weir.decode(regclass, text, text) IS 'the row that a message with this value and key would become in the stream, or the error that would make it a dead letter; keeps nothing';

-- [views]
----------------------------------------------------------------------
-- Continuous views: windows
----------------------------------------------------------------------

CREATE FUNCTION weir.window_start(timestamptz, interval) RETURNS timestamptz
  LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'weir_window_start';
COMMENT ON FUNCTION weir.window_start(timestamptz, interval) IS 'start of the tumbling window of this size that a time falls into, aligned to 1970-01-01 UTC';

CREATE FUNCTION weir.window_start(timestamptz, interval, timestamptz) RETURNS timestamptz
  LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'weir_window_start';
COMMENT ON FUNCTION weir.window_start(timestamptz, interval, timestamptz) IS 'start of the tumbling window of this size that a time falls into, aligned to an origin';

CREATE FUNCTION weir.window_end(timestamptz, interval) RETURNS timestamptz
  LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'weir_window_end';
COMMENT ON FUNCTION weir.window_end(timestamptz, interval) IS 'end of the tumbling window of this size that a time falls into, aligned to 1970-01-01 UTC';

CREATE FUNCTION weir.window_end(timestamptz, interval, timestamptz) RETURNS timestamptz
  LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'weir_window_end';
COMMENT ON FUNCTION weir.window_end(timestamptz, interval, timestamptz) IS 'end of the tumbling window of this size that a time falls into, aligned to an origin';

CREATE FUNCTION weir.window_start(timestamp, interval) RETURNS timestamp
  LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'weir_window_start';
COMMENT ON FUNCTION weir.window_start(timestamp, interval) IS 'start of the tumbling window of this size that a time falls into, aligned to 1970-01-01 UTC';

CREATE FUNCTION weir.window_start(timestamp, interval, timestamp) RETURNS timestamp
  LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'weir_window_start';
COMMENT ON FUNCTION weir.window_start(timestamp, interval, timestamp) IS 'start of the tumbling window of this size that a time falls into, aligned to an origin';

CREATE FUNCTION weir.window_end(timestamp, interval) RETURNS timestamp
  LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'weir_window_end';
COMMENT ON FUNCTION weir.window_end(timestamp, interval) IS 'end of the tumbling window of this size that a time falls into, aligned to 1970-01-01 UTC';

CREATE FUNCTION weir.window_end(timestamp, interval, timestamp) RETURNS timestamp
  LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'weir_window_end';
COMMENT ON FUNCTION weir.window_end(timestamp, interval, timestamp) IS 'end of the tumbling window of this size that a time falls into, aligned to an origin';

CREATE FUNCTION weir.window_start(timestamptz, interval, text) RETURNS timestamptz
  LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'weir_window_start_zone';
COMMENT ON FUNCTION weir.window_start(timestamptz, interval, text) IS 'start of the tumbling window of this size that a time falls into, on the calendar of a time zone';

CREATE FUNCTION weir.window_end(timestamptz, interval, text) RETURNS timestamptz
  LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'weir_window_end_zone';
COMMENT ON FUNCTION weir.window_end(timestamptz, interval, text) IS 'end of the tumbling window of this size that a time falls into, on the calendar of a time zone';

/*
 * tumble() is found without a prefix, so it stands in the schema that CREATE
 * EXTENSION names. The planner inlines it: LANGUAGE sql, one row, not STRICT, no SET
 * (the bodies name everything in full). A row whose time is NULL is in no window, nor is one whose size, origin or zone is.
 */

CREATE FUNCTION @extschema@.tumble(ts timestamptz, size interval)
  RETURNS TABLE (window_start timestamptz, window_end timestamptz)
  LANGUAGE sql IMMUTABLE PARALLEL SAFE ROWS 1
  AS $$ SELECT weir.window_start(ts, size), weir.window_end(ts, size) WHERE ts IS NOT NULL AND size IS NOT NULL $$;
COMMENT ON FUNCTION @extschema@.tumble(timestamptz, interval) IS 'tumbling windows: the window [window_start, window_end) of this size that ts falls into, aligned to 1970-01-01 UTC';

CREATE FUNCTION @extschema@.tumble(ts timestamptz, size interval, origin timestamptz)
  RETURNS TABLE (window_start timestamptz, window_end timestamptz)
  LANGUAGE sql IMMUTABLE PARALLEL SAFE ROWS 1
  AS $$ SELECT weir.window_start(ts, size, origin), weir.window_end(ts, size, origin) WHERE ts IS NOT NULL AND size IS NOT NULL AND origin IS NOT NULL $$;
COMMENT ON FUNCTION @extschema@.tumble(timestamptz, interval, timestamptz) IS 'tumbling windows aligned to an origin';

CREATE FUNCTION @extschema@.tumble(ts timestamptz, size interval, time_zone text)
  RETURNS TABLE (window_start timestamptz, window_end timestamptz)
  LANGUAGE sql IMMUTABLE PARALLEL SAFE ROWS 1
  AS $$ SELECT weir.window_start(ts, size, time_zone), weir.window_end(ts, size, time_zone) WHERE ts IS NOT NULL AND size IS NOT NULL AND time_zone IS NOT NULL $$;
COMMENT ON FUNCTION @extschema@.tumble(timestamptz, interval, text) IS 'tumbling windows on the calendar of a time zone: days and months are local ones';

CREATE FUNCTION @extschema@.tumble(ts timestamp, size interval)
  RETURNS TABLE (window_start timestamp, window_end timestamp)
  LANGUAGE sql IMMUTABLE PARALLEL SAFE ROWS 1
  AS $$ SELECT weir.window_start(ts, size), weir.window_end(ts, size) WHERE ts IS NOT NULL AND size IS NOT NULL $$;
COMMENT ON FUNCTION @extschema@.tumble(timestamp, interval) IS 'tumbling windows: the window [window_start, window_end) of this size that ts falls into, aligned to 1970-01-01 UTC';

CREATE FUNCTION @extschema@.tumble(ts timestamp, size interval, origin timestamptz)
  RETURNS TABLE (window_start timestamp, window_end timestamp)
  LANGUAGE sql IMMUTABLE PARALLEL SAFE ROWS 1
  AS $$ SELECT weir.window_start(ts, size, pg_catalog.timezone('UTC'::pg_catalog.text, origin)), weir.window_end(ts, size, pg_catalog.timezone('UTC'::pg_catalog.text, origin)) WHERE ts IS NOT NULL AND size IS NOT NULL AND origin IS NOT NULL $$;
COMMENT ON FUNCTION @extschema@.tumble(timestamp, interval, timestamptz) IS 'tumbling windows aligned to an origin; ts is in UTC';

CREATE FUNCTION @extschema@.tumble(ts timestamp, size interval, time_zone text)
  RETURNS TABLE (window_start timestamp, window_end timestamp)
  LANGUAGE sql IMMUTABLE PARALLEL SAFE ROWS 1
  AS $$ SELECT pg_catalog.timezone('UTC'::pg_catalog.text, weir.window_start(pg_catalog.timezone('UTC'::pg_catalog.text, ts), size, time_zone)), pg_catalog.timezone('UTC'::pg_catalog.text, weir.window_end(pg_catalog.timezone('UTC'::pg_catalog.text, ts), size, time_zone)) WHERE ts IS NOT NULL AND size IS NOT NULL AND time_zone IS NOT NULL $$;
COMMENT ON FUNCTION @extschema@.tumble(timestamp, interval, text) IS 'tumbling windows on the calendar of a time zone; ts and the result are in UTC';

CREATE FUNCTION weir.hop_count(interval, interval) RETURNS integer
  LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'weir_hop_count';
COMMENT ON FUNCTION weir.hop_count(interval, interval) IS 'internal: windows of a size and step that one row is in, at most';

CREATE FUNCTION weir.hop_count(interval, interval, boolean) RETURNS integer
  LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'weir_hop_count';
COMMENT ON FUNCTION weir.hop_count(interval, interval, boolean) IS 'internal: the same where days may be longer than 24 hours';

CREATE FUNCTION weir.hop_start(timestamptz, interval, interval, integer) RETURNS timestamptz
  LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'weir_hop_start';
COMMENT ON FUNCTION weir.hop_start(timestamptz, interval, interval, integer) IS 'internal: start of the n-th hopping window of a time, counted backwards';

CREATE FUNCTION weir.hop_end(timestamptz, interval, interval, integer) RETURNS timestamptz
  LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'weir_hop_end';
COMMENT ON FUNCTION weir.hop_end(timestamptz, interval, interval, integer) IS 'internal: end of the n-th hopping window of a time, counted backwards';

CREATE FUNCTION weir.hop_start(timestamptz, interval, interval, integer, timestamptz) RETURNS timestamptz
  LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'weir_hop_start';
COMMENT ON FUNCTION weir.hop_start(timestamptz, interval, interval, integer, timestamptz) IS 'internal: the same, aligned to an origin';

CREATE FUNCTION weir.hop_end(timestamptz, interval, interval, integer, timestamptz) RETURNS timestamptz
  LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'weir_hop_end';
COMMENT ON FUNCTION weir.hop_end(timestamptz, interval, interval, integer, timestamptz) IS 'internal: the same, aligned to an origin';

CREATE FUNCTION weir.cumulate_end(timestamptz, interval, interval, integer) RETURNS timestamptz
  LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'weir_cumulate_end';
COMMENT ON FUNCTION weir.cumulate_end(timestamptz, interval, interval, integer) IS 'internal: end of the n-th cumulating window of the tumbling window of a time; NULL: there are not so many';

CREATE FUNCTION weir.cumulate_end(timestamptz, interval, interval, integer, timestamptz) RETURNS timestamptz
  LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'weir_cumulate_end';
COMMENT ON FUNCTION weir.cumulate_end(timestamptz, interval, interval, integer, timestamptz) IS 'internal: the same, aligned to an origin';

CREATE FUNCTION weir.hop_start(timestamp, interval, interval, integer) RETURNS timestamp
  LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'weir_hop_start';
COMMENT ON FUNCTION weir.hop_start(timestamp, interval, interval, integer) IS 'internal: start of the n-th hopping window of a time, counted backwards';

CREATE FUNCTION weir.hop_end(timestamp, interval, interval, integer) RETURNS timestamp
  LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'weir_hop_end';
COMMENT ON FUNCTION weir.hop_end(timestamp, interval, interval, integer) IS 'internal: end of the n-th hopping window of a time, counted backwards';

CREATE FUNCTION weir.hop_start(timestamp, interval, interval, integer, timestamp) RETURNS timestamp
  LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'weir_hop_start';
COMMENT ON FUNCTION weir.hop_start(timestamp, interval, interval, integer, timestamp) IS 'internal: the same, aligned to an origin';

CREATE FUNCTION weir.hop_end(timestamp, interval, interval, integer, timestamp) RETURNS timestamp
  LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'weir_hop_end';
COMMENT ON FUNCTION weir.hop_end(timestamp, interval, interval, integer, timestamp) IS 'internal: the same, aligned to an origin';

CREATE FUNCTION weir.cumulate_end(timestamp, interval, interval, integer) RETURNS timestamp
  LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'weir_cumulate_end';
COMMENT ON FUNCTION weir.cumulate_end(timestamp, interval, interval, integer) IS 'internal: end of the n-th cumulating window of the tumbling window of a time; NULL: there are not so many';

CREATE FUNCTION weir.cumulate_end(timestamp, interval, interval, integer, timestamp) RETURNS timestamp
  LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'weir_cumulate_end';
COMMENT ON FUNCTION weir.cumulate_end(timestamp, interval, interval, integer, timestamp) IS 'internal: the same, aligned to an origin';

CREATE FUNCTION weir.hop_start(timestamptz, interval, interval, integer, text) RETURNS timestamptz
  LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'weir_hop_start_zone';
COMMENT ON FUNCTION weir.hop_start(timestamptz, interval, interval, integer, text) IS 'internal: the same, on the calendar of a time zone';

CREATE FUNCTION weir.hop_end(timestamptz, interval, interval, integer, text) RETURNS timestamptz
  LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'weir_hop_end_zone';
COMMENT ON FUNCTION weir.hop_end(timestamptz, interval, interval, integer, text) IS 'internal: the same, on the calendar of a time zone';

CREATE FUNCTION weir.cumulate_end(timestamptz, interval, interval, integer, text) RETURNS timestamptz
  LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'weir_cumulate_end_zone';
COMMENT ON FUNCTION weir.cumulate_end(timestamptz, interval, interval, integer, text) IS 'internal: the same, on the calendar of a time zone';

CREATE FUNCTION weir.in_window_support(internal) RETURNS internal
  LANGUAGE c STRICT AS 'MODULE_PATHNAME', 'weir_in_window_support';
COMMENT ON FUNCTION weir.in_window_support(internal) IS 'internal: tells the planner how many rows weir.in_window leaves';

CREATE FUNCTION weir.in_window(timestamptz, timestamptz) RETURNS boolean
  LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE SUPPORT weir.in_window_support AS 'MODULE_PATHNAME', 'weir_in_window';
COMMENT ON FUNCTION weir.in_window(timestamptz, timestamptz) IS 'internal: is a time before the end of a window?';

CREATE FUNCTION weir.in_window(timestamp, timestamp) RETURNS boolean
  LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE SUPPORT weir.in_window_support AS 'MODULE_PATHNAME', 'weir_in_window';
COMMENT ON FUNCTION weir.in_window(timestamp, timestamp) IS 'internal: is a time before the end of a window?';

/*
 * hop() and cumulate(): as tumble(), but a row is in several windows. They are inlined
 * as a join with the numbers of its windows, which the planner counts exactly.
 */

CREATE FUNCTION @extschema@.hop(ts timestamptz, size interval, advance interval)
  RETURNS TABLE (window_start timestamptz, window_end timestamptz)
  LANGUAGE sql IMMUTABLE PARALLEL SAFE ROWS 5
  AS $$ SELECT weir.hop_start(ts, size, advance, n), weir.hop_end(ts, size, advance, n)
    FROM pg_catalog.generate_series(0, weir.hop_count(size, advance) OPERATOR(pg_catalog.-) 1) AS n WHERE ts IS NOT NULL AND weir.in_window(ts, weir.hop_end(ts, size, advance, n)) $$;
COMMENT ON FUNCTION @extschema@.hop(timestamptz, interval, interval) IS 'hopping windows of this size, one every advance, aligned to 1970-01-01 UTC';

CREATE FUNCTION @extschema@.hop(ts timestamptz, size interval, advance interval, origin timestamptz)
  RETURNS TABLE (window_start timestamptz, window_end timestamptz)
  LANGUAGE sql IMMUTABLE PARALLEL SAFE ROWS 5
  AS $$ SELECT weir.hop_start(ts, size, advance, n, origin), weir.hop_end(ts, size, advance, n, origin)
    FROM pg_catalog.generate_series(0, weir.hop_count(size, advance) OPERATOR(pg_catalog.-) 1) AS n WHERE ts IS NOT NULL AND weir.in_window(ts, weir.hop_end(ts, size, advance, n, origin)) $$;
COMMENT ON FUNCTION @extschema@.hop(timestamptz, interval, interval, timestamptz) IS 'hopping windows of this size, one every advance, aligned to an origin';

CREATE FUNCTION @extschema@.hop(ts timestamptz, size interval, advance interval, time_zone text)
  RETURNS TABLE (window_start timestamptz, window_end timestamptz)
  LANGUAGE sql IMMUTABLE PARALLEL SAFE ROWS 5
  AS $$ SELECT weir.hop_start(ts, size, advance, n, time_zone), weir.hop_end(ts, size, advance, n, time_zone)
    FROM pg_catalog.generate_series(0, weir.hop_count(size, advance, true) OPERATOR(pg_catalog.-) 1) AS n WHERE ts IS NOT NULL AND weir.in_window(ts, weir.hop_end(ts, size, advance, n, time_zone)) $$;
COMMENT ON FUNCTION @extschema@.hop(timestamptz, interval, interval, text) IS 'hopping windows of this size, one every advance, on the calendar of a time zone';

CREATE FUNCTION @extschema@.hop(ts timestamp, size interval, advance interval)
  RETURNS TABLE (window_start timestamp, window_end timestamp)
  LANGUAGE sql IMMUTABLE PARALLEL SAFE ROWS 5
  AS $$ SELECT weir.hop_start(ts, size, advance, n), weir.hop_end(ts, size, advance, n)
    FROM pg_catalog.generate_series(0, weir.hop_count(size, advance) OPERATOR(pg_catalog.-) 1) AS n WHERE ts IS NOT NULL AND weir.in_window(ts, weir.hop_end(ts, size, advance, n)) $$;
COMMENT ON FUNCTION @extschema@.hop(timestamp, interval, interval) IS 'hopping windows of this size, one every advance, aligned to 1970-01-01 UTC';

CREATE FUNCTION @extschema@.hop(ts timestamp, size interval, advance interval, origin timestamptz)
  RETURNS TABLE (window_start timestamp, window_end timestamp)
  LANGUAGE sql IMMUTABLE PARALLEL SAFE ROWS 5
  AS $$ SELECT weir.hop_start(ts, size, advance, n, pg_catalog.timezone('UTC'::pg_catalog.text, origin)), weir.hop_end(ts, size, advance, n, pg_catalog.timezone('UTC'::pg_catalog.text, origin))
    FROM pg_catalog.generate_series(0, weir.hop_count(size, advance) OPERATOR(pg_catalog.-) 1) AS n WHERE ts IS NOT NULL AND weir.in_window(ts, weir.hop_end(ts, size, advance, n, pg_catalog.timezone('UTC'::pg_catalog.text, origin))) $$;
COMMENT ON FUNCTION @extschema@.hop(timestamp, interval, interval, timestamptz) IS 'hopping windows of this size, one every advance, aligned to an origin';

CREATE FUNCTION @extschema@.hop(ts timestamp, size interval, advance interval, time_zone text)
  RETURNS TABLE (window_start timestamp, window_end timestamp)
  LANGUAGE sql IMMUTABLE PARALLEL SAFE ROWS 5
  AS $$ SELECT pg_catalog.timezone('UTC'::pg_catalog.text, weir.hop_start(pg_catalog.timezone('UTC'::pg_catalog.text, ts), size, advance, n, time_zone)), pg_catalog.timezone('UTC'::pg_catalog.text, weir.hop_end(pg_catalog.timezone('UTC'::pg_catalog.text, ts), size, advance, n, time_zone))
    FROM pg_catalog.generate_series(0, weir.hop_count(size, advance, true) OPERATOR(pg_catalog.-) 1) AS n WHERE ts IS NOT NULL AND weir.in_window(pg_catalog.timezone('UTC'::pg_catalog.text, ts), weir.hop_end(pg_catalog.timezone('UTC'::pg_catalog.text, ts), size, advance, n, time_zone)) $$;
COMMENT ON FUNCTION @extschema@.hop(timestamp, interval, interval, text) IS 'hopping windows of this size, one every advance, on the calendar of a time zone';

CREATE FUNCTION @extschema@.cumulate(ts timestamptz, max_size interval, step interval)
  RETURNS TABLE (window_start timestamptz, window_end timestamptz)
  LANGUAGE sql IMMUTABLE PARALLEL SAFE ROWS 5
  AS $$ SELECT weir.window_start(ts, max_size), weir.cumulate_end(ts, max_size, step, n)
    FROM pg_catalog.generate_series(0, weir.hop_count(max_size, step) OPERATOR(pg_catalog.-) 1) AS n WHERE ts IS NOT NULL AND weir.in_window(ts, weir.cumulate_end(ts, max_size, step, n)) $$;
COMMENT ON FUNCTION @extschema@.cumulate(timestamptz, interval, interval) IS 'cumulating windows: they begin with the tumbling window of max_size and end after every step of it, aligned to 1970-01-01 UTC';

CREATE FUNCTION @extschema@.cumulate(ts timestamptz, max_size interval, step interval, origin timestamptz)
  RETURNS TABLE (window_start timestamptz, window_end timestamptz)
  LANGUAGE sql IMMUTABLE PARALLEL SAFE ROWS 5
  AS $$ SELECT weir.window_start(ts, max_size, origin), weir.cumulate_end(ts, max_size, step, n, origin)
    FROM pg_catalog.generate_series(0, weir.hop_count(max_size, step) OPERATOR(pg_catalog.-) 1) AS n WHERE ts IS NOT NULL AND weir.in_window(ts, weir.cumulate_end(ts, max_size, step, n, origin)) $$;
COMMENT ON FUNCTION @extschema@.cumulate(timestamptz, interval, interval, timestamptz) IS 'cumulating windows: they begin with the tumbling window of max_size and end after every step of it, aligned to an origin';

CREATE FUNCTION @extschema@.cumulate(ts timestamptz, max_size interval, step interval, time_zone text)
  RETURNS TABLE (window_start timestamptz, window_end timestamptz)
  LANGUAGE sql IMMUTABLE PARALLEL SAFE ROWS 5
  AS $$ SELECT weir.window_start(ts, max_size, time_zone), weir.cumulate_end(ts, max_size, step, n, time_zone)
    FROM pg_catalog.generate_series(0, weir.hop_count(max_size, step, true) OPERATOR(pg_catalog.-) 1) AS n WHERE ts IS NOT NULL AND weir.in_window(ts, weir.cumulate_end(ts, max_size, step, n, time_zone)) $$;
COMMENT ON FUNCTION @extschema@.cumulate(timestamptz, interval, interval, text) IS 'cumulating windows: they begin with the tumbling window of max_size and end after every step of it, on the calendar of a time zone';

CREATE FUNCTION @extschema@.cumulate(ts timestamp, max_size interval, step interval)
  RETURNS TABLE (window_start timestamp, window_end timestamp)
  LANGUAGE sql IMMUTABLE PARALLEL SAFE ROWS 5
  AS $$ SELECT weir.window_start(ts, max_size), weir.cumulate_end(ts, max_size, step, n)
    FROM pg_catalog.generate_series(0, weir.hop_count(max_size, step) OPERATOR(pg_catalog.-) 1) AS n WHERE ts IS NOT NULL AND weir.in_window(ts, weir.cumulate_end(ts, max_size, step, n)) $$;
COMMENT ON FUNCTION @extschema@.cumulate(timestamp, interval, interval) IS 'cumulating windows: they begin with the tumbling window of max_size and end after every step of it, aligned to 1970-01-01 UTC';

CREATE FUNCTION @extschema@.cumulate(ts timestamp, max_size interval, step interval, origin timestamptz)
  RETURNS TABLE (window_start timestamp, window_end timestamp)
  LANGUAGE sql IMMUTABLE PARALLEL SAFE ROWS 5
  AS $$ SELECT weir.window_start(ts, max_size, pg_catalog.timezone('UTC'::pg_catalog.text, origin)), weir.cumulate_end(ts, max_size, step, n, pg_catalog.timezone('UTC'::pg_catalog.text, origin))
    FROM pg_catalog.generate_series(0, weir.hop_count(max_size, step) OPERATOR(pg_catalog.-) 1) AS n WHERE ts IS NOT NULL AND weir.in_window(ts, weir.cumulate_end(ts, max_size, step, n, pg_catalog.timezone('UTC'::pg_catalog.text, origin))) $$;
COMMENT ON FUNCTION @extschema@.cumulate(timestamp, interval, interval, timestamptz) IS 'cumulating windows: they begin with the tumbling window of max_size and end after every step of it, aligned to an origin';

CREATE FUNCTION @extschema@.cumulate(ts timestamp, max_size interval, step interval, time_zone text)
  RETURNS TABLE (window_start timestamp, window_end timestamp)
  LANGUAGE sql IMMUTABLE PARALLEL SAFE ROWS 5
  AS $$ SELECT pg_catalog.timezone('UTC'::pg_catalog.text, weir.window_start(pg_catalog.timezone('UTC'::pg_catalog.text, ts), max_size, time_zone)), pg_catalog.timezone('UTC'::pg_catalog.text, weir.cumulate_end(pg_catalog.timezone('UTC'::pg_catalog.text, ts), max_size, step, n, time_zone))
    FROM pg_catalog.generate_series(0, weir.hop_count(max_size, step, true) OPERATOR(pg_catalog.-) 1) AS n WHERE ts IS NOT NULL AND weir.in_window(pg_catalog.timezone('UTC'::pg_catalog.text, ts), weir.cumulate_end(pg_catalog.timezone('UTC'::pg_catalog.text, ts), max_size, step, n, time_zone)) $$;
COMMENT ON FUNCTION @extschema@.cumulate(timestamp, interval, interval, text) IS 'cumulating windows: they begin with the tumbling window of max_size and end after every step of it, on the calendar of a time zone';

/* session(): which session a row is in depends on other rows, so only continuous views can tell. */
CREATE FUNCTION @extschema@.session(ts timestamptz, gap interval)
  RETURNS TABLE (window_start timestamptz, window_end timestamptz)
  LANGUAGE c STABLE PARALLEL SAFE ROWS 1 AS 'MODULE_PATHNAME', 'weir_session';
COMMENT ON FUNCTION @extschema@.session(timestamptz, interval) IS 'sessions: rows of a group at most gap apart, from the first row to gap after the last; in continuous views only';

CREATE FUNCTION @extschema@.session(ts timestamp, gap interval)
  RETURNS TABLE (window_start timestamp, window_end timestamp)
  LANGUAGE c STABLE PARALLEL SAFE ROWS 1 AS 'MODULE_PATHNAME', 'weir_session';
COMMENT ON FUNCTION @extschema@.session(timestamp, interval) IS 'sessions: rows of a group at most gap apart, from the first row to gap after the last; in continuous views only';

----------------------------------------------------------------------
-- Continuous views: states of aggregates
----------------------------------------------------------------------

CREATE FUNCTION weir.partial_step(internal, regprocedure, VARIADIC "any") RETURNS internal
  LANGUAGE c AS 'MODULE_PATHNAME', 'weir_partial_step';
COMMENT ON FUNCTION weir.partial_step(internal, regprocedure, "any") IS 'internal: transition function of weir.partial';
CREATE FUNCTION weir.partial_final(internal) RETURNS bytea
  LANGUAGE c AS 'MODULE_PATHNAME', 'weir_partial_final';
COMMENT ON FUNCTION weir.partial_final(internal) IS 'internal: final function of weir.partial';
CREATE AGGREGATE weir.partial(regprocedure, VARIADIC "any") (
  SFUNC = weir.partial_step, STYPE = internal, FINALFUNC = weir.partial_final);
COMMENT ON AGGREGATE weir.partial(regprocedure, "any") IS 'internal: the transition state of another aggregate over these arguments, serialised';
CREATE FUNCTION weir.merge(regprocedure, bytea, bytea) RETURNS bytea
  LANGUAGE c AS 'MODULE_PATHNAME', 'weir_merge';
COMMENT ON FUNCTION weir.merge(regprocedure, bytea, bytea) IS 'internal: merges two states made by weir.partial';
CREATE FUNCTION weir.finalize(regprocedure, bytea, anyelement) RETURNS anyelement
  LANGUAGE c AS 'MODULE_PATHNAME', 'weir_finalize';
COMMENT ON FUNCTION weir.finalize(regprocedure, bytea, anyelement) IS 'internal: the aggregate''s result for a state; the last argument gives its type';
CREATE FUNCTION weir.combine(regprocedure, anyelement, anyelement) RETURNS anyelement
  LANGUAGE c AS 'MODULE_PATHNAME', 'weir_combine';
COMMENT ON FUNCTION weir.combine(regprocedure, anyelement, anyelement) IS 'internal: merges two results of an aggregate whose result is its state';

/* Views over views that change: what came and went there. */
CREATE FUNCTION weir.net_step(internal, numeric, boolean, boolean) RETURNS internal
  LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'weir_net_step';
COMMENT ON FUNCTION weir.net_step(internal, numeric, boolean, boolean) IS 'internal: transition function of weir.net';
CREATE FUNCTION weir.net_final(internal) RETURNS bytea
  LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'weir_net_final';
COMMENT ON FUNCTION weir.net_final(internal) IS 'internal: final function of weir.net';
CREATE AGGREGATE weir.net(numeric, boolean, boolean) (
  SFUNC = weir.net_step, STYPE = internal, FINALFUNC = weir.net_final);
COMMENT ON AGGREGATE weir.net(numeric, boolean, boolean) IS 'internal: sum, counts and scales of the rows that came, less those of the rows that went';
CREATE FUNCTION weir.net_add(bytea, bytea) RETURNS bytea
  LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'weir_net_add';
COMMENT ON FUNCTION weir.net_add(bytea, bytea) IS 'internal: adds two results of weir.net';
CREATE FUNCTION weir.net_state(bytea, boolean) RETURNS bytea
  LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'weir_net_state';
COMMENT ON FUNCTION weir.net_state(bytea, boolean) IS 'internal: the transition state of sum, avg or (with squares) variance over the rows that a result of weir.net stands for';
CREATE FUNCTION weir.extreme_step(internal, anyelement, boolean) RETURNS internal
  LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'weir_extreme_step';
COMMENT ON FUNCTION weir.extreme_step(internal, anyelement, boolean) IS 'internal: transition function of weir.net_min and its kin';
CREATE FUNCTION weir.net_min_final(internal, anyelement, boolean) RETURNS anyelement
  LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'weir_net_min';
COMMENT ON FUNCTION weir.net_min_final(internal, anyelement, boolean) IS 'internal: final function of weir.net_min';
CREATE AGGREGATE weir.net_min(anyelement, boolean) (
  SFUNC = weir.extreme_step, STYPE = internal, FINALFUNC = weir.net_min_final, FINALFUNC_EXTRA);
COMMENT ON AGGREGATE weir.net_min(anyelement, boolean) IS 'internal: the least value that rows which came and went leave net';
CREATE FUNCTION weir.net_min_lost_final(internal) RETURNS boolean
  LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'weir_net_min_lost';
COMMENT ON FUNCTION weir.net_min_lost_final(internal) IS 'internal: final function of weir.net_min_lost';
CREATE AGGREGATE weir.net_min_lost(anyelement, boolean) (
  SFUNC = weir.extreme_step, STYPE = internal, FINALFUNC = weir.net_min_lost_final);
COMMENT ON AGGREGATE weir.net_min_lost(anyelement, boolean) IS 'internal: did a value equal to that of weir.net_min go?';
CREATE FUNCTION weir.net_max_final(internal, anyelement, boolean) RETURNS anyelement
  LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'weir_net_max';
COMMENT ON FUNCTION weir.net_max_final(internal, anyelement, boolean) IS 'internal: final function of weir.net_max';
CREATE AGGREGATE weir.net_max(anyelement, boolean) (
  SFUNC = weir.extreme_step, STYPE = internal, FINALFUNC = weir.net_max_final, FINALFUNC_EXTRA);
COMMENT ON AGGREGATE weir.net_max(anyelement, boolean) IS 'internal: the greatest value that rows which came and went leave net';
CREATE FUNCTION weir.net_max_lost_final(internal) RETURNS boolean
  LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'weir_net_max_lost';
COMMENT ON FUNCTION weir.net_max_lost_final(internal) IS 'internal: final function of weir.net_max_lost';
CREATE AGGREGATE weir.net_max_lost(anyelement, boolean) (
  SFUNC = weir.extreme_step, STYPE = internal, FINALFUNC = weir.net_max_lost_final);
COMMENT ON AGGREGATE weir.net_max_lost(anyelement, boolean) IS 'internal: did a value equal to that of weir.net_max go?';

CREATE FUNCTION weir.only_step(anyelement, anyelement) RETURNS anyelement
  LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'weir_only_step';
COMMENT ON FUNCTION weir.only_step(anyelement, anyelement) IS 'internal: transition function of weir.only';
CREATE AGGREGATE weir.only(anyelement) (SFUNC = weir.only_step, STYPE = anyelement);
COMMENT ON AGGREGATE weir.only(anyelement) IS 'internal: the value of the one row that there is';
CREATE FUNCTION weir.value_key(text) RETURNS bytea
  LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'weir_value_key';
COMMENT ON FUNCTION weir.value_key(text) IS 'internal: what an index holds for a value: itself, or of a long one a digest';
CREATE FUNCTION weir.value_key(bytea) RETURNS bytea
  LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'weir_value_key';
COMMENT ON FUNCTION weir.value_key(bytea) IS 'internal: what an index holds for a value: itself, or of a long one a digest';

CREATE AGGREGATE weir.total(bigint) (
  SFUNC = pg_catalog.int8pl, STYPE = bigint, COMBINEFUNC = pg_catalog.int8pl, PARALLEL = SAFE);
COMMENT ON AGGREGATE weir.total(bigint) IS 'internal: sum of counts, as bigint';

CREATE FUNCTION weir.closed_until() RETURNS timestamptz
  LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'weir_closed_until';
COMMENT ON FUNCTION weir.closed_until() IS 'internal: up to when the windows of the view that is maintained now are closed';
CREATE FUNCTION weir.closing_until() RETURNS timestamptz
  LANGUAGE c STABLE PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'weir_closing_until';
COMMENT ON FUNCTION weir.closing_until() IS 'internal: up to when windows of the view at hand are closed now';

----------------------------------------------------------------------
-- Continuous views: aggregates that need no kept rows
----------------------------------------------------------------------

CREATE FUNCTION weir.top_step(anyarray, anyelement, integer) RETURNS anyarray
  LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'weir_top_step';
COMMENT ON FUNCTION weir.top_step(anyarray, anyelement, integer) IS 'internal: transition function of weir.top';
CREATE AGGREGATE weir.top(anyelement, integer) (SFUNC = weir.top_step, STYPE = anyarray, PARALLEL = SAFE);
COMMENT ON AGGREGATE weir.top(anyelement, integer) IS 'the n greatest values, greatest first';
CREATE FUNCTION weir.top_step(anyarray, anyelement, integer, boolean) RETURNS anyarray
  LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'weir_top_step';
COMMENT ON FUNCTION weir.top_step(anyarray, anyelement, integer, boolean) IS 'internal: transition function of weir.top';
CREATE AGGREGATE weir.top(anyelement, integer, boolean) (SFUNC = weir.top_step, STYPE = anyarray, PARALLEL = SAFE);
COMMENT ON AGGREGATE weir.top(anyelement, integer, boolean) IS 'the n greatest values, greatest first, each once if the third argument is true';
CREATE FUNCTION weir.top_merge(anyarray, anyarray, integer, boolean DEFAULT false) RETURNS anyarray
  LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'weir_top_merge';
COMMENT ON FUNCTION weir.top_merge(anyarray, anyarray, integer, boolean) IS 'internal: merges two results of weir.top';

CREATE FUNCTION weir.bottom_step(anyarray, anyelement, integer) RETURNS anyarray
  LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'weir_bottom_step';
COMMENT ON FUNCTION weir.bottom_step(anyarray, anyelement, integer) IS 'internal: transition function of weir.bottom';
CREATE AGGREGATE weir.bottom(anyelement, integer) (SFUNC = weir.bottom_step, STYPE = anyarray, PARALLEL = SAFE);
COMMENT ON AGGREGATE weir.bottom(anyelement, integer) IS 'the n least values, least first';
CREATE FUNCTION weir.bottom_step(anyarray, anyelement, integer, boolean) RETURNS anyarray
  LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'weir_bottom_step';
COMMENT ON FUNCTION weir.bottom_step(anyarray, anyelement, integer, boolean) IS 'internal: transition function of weir.bottom';
CREATE AGGREGATE weir.bottom(anyelement, integer, boolean) (SFUNC = weir.bottom_step, STYPE = anyarray, PARALLEL = SAFE);
COMMENT ON AGGREGATE weir.bottom(anyelement, integer, boolean) IS 'the n least values, least first, each once if the third argument is true';
CREATE FUNCTION weir.bottom_merge(anyarray, anyarray, integer, boolean DEFAULT false) RETURNS anyarray
  LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'weir_bottom_merge';
COMMENT ON FUNCTION weir.bottom_merge(anyarray, anyarray, integer, boolean) IS 'internal: merges two results of weir.bottom';

CREATE FUNCTION weir.list_step(anyarray, anyelement, integer) RETURNS anyarray
  LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'weir_list_step';
COMMENT ON FUNCTION weir.list_step(anyarray, anyelement, integer) IS 'internal: transition function of weir.list';
CREATE AGGREGATE weir.list(anyelement, integer) (SFUNC = weir.list_step, STYPE = anyarray);
COMMENT ON AGGREGATE weir.list(anyelement, integer) IS 'the first n values to arrive, in order, NULLs included';
CREATE FUNCTION weir.list_merge(anyarray, anyarray, integer) RETURNS anyarray
  LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'weir_list_merge';
COMMENT ON FUNCTION weir.list_merge(anyarray, anyarray, integer) IS 'internal: merges two results of weir.list';
CREATE FUNCTION weir.first_step(anyarray, anyelement, integer) RETURNS anyarray
  LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'weir_list_step';
COMMENT ON FUNCTION weir.first_step(anyarray, anyelement, integer) IS 'internal: transition function of weir.first';
CREATE AGGREGATE weir.first(anyelement, integer) (SFUNC = weir.first_step, STYPE = anyarray);
COMMENT ON AGGREGATE weir.first(anyelement, integer) IS 'the first n values to arrive, first one first, NULLs included';
CREATE FUNCTION weir.first_merge(anyarray, anyarray, integer) RETURNS anyarray
  LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'weir_list_merge';
COMMENT ON FUNCTION weir.first_merge(anyarray, anyarray, integer) IS 'internal: merges two results of weir.first';
CREATE FUNCTION weir.last_step(anyarray, anyelement, integer) RETURNS anyarray
  LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'weir_last_step';
COMMENT ON FUNCTION weir.last_step(anyarray, anyelement, integer) IS 'internal: transition function of weir.last';
CREATE AGGREGATE weir.last(anyelement, integer) (SFUNC = weir.last_step, STYPE = anyarray);
COMMENT ON AGGREGATE weir.last(anyelement, integer) IS 'the last n values to arrive, last one first, NULLs included';
CREATE FUNCTION weir.last_merge(anyarray, anyarray, integer) RETURNS anyarray
  LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'weir_last_merge';
COMMENT ON FUNCTION weir.last_merge(anyarray, anyarray, integer) IS 'internal: merges two results of weir.last';
CREATE FUNCTION weir.only_value(anyarray) RETURNS anyelement
  LANGUAGE sql IMMUTABLE PARALLEL SAFE AS 'SELECT $1[1]';
COMMENT ON FUNCTION weir.only_value(anyarray) IS 'internal: final function of weir.first and weir.last';
CREATE FUNCTION weir.first_step(anyarray, anyelement) RETURNS anyarray
  LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'weir_list_step';
COMMENT ON FUNCTION weir.first_step(anyarray, anyelement) IS 'internal: transition function of weir.first';
CREATE AGGREGATE weir.first(anyelement) (SFUNC = weir.first_step, STYPE = anyarray, FINALFUNC = weir.only_value);
COMMENT ON AGGREGATE weir.first(anyelement) IS 'the first value to arrive, NULL included';
CREATE FUNCTION weir.last_step(anyarray, anyelement) RETURNS anyarray
  LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'weir_last_step';
COMMENT ON FUNCTION weir.last_step(anyarray, anyelement) IS 'internal: transition function of weir.last';
CREATE AGGREGATE weir.last(anyelement) (SFUNC = weir.last_step, STYPE = anyarray, FINALFUNC = weir.only_value);
COMMENT ON AGGREGATE weir.last(anyelement) IS 'the last value to arrive, NULL included';

----------------------------------------------------------------------
-- Continuous views: to look into them
----------------------------------------------------------------------

CREATE FUNCTION weir.kept_from(oid) RETURNS timestamptz
  LANGUAGE c STABLE STRICT AS 'MODULE_PATHNAME', 'weir_kept_from';
COMMENT ON FUNCTION weir.kept_from(oid) IS 'internal: rows of the batch at hand with an earlier event time are not among the kept rows of the stream';
CREATE FUNCTION weir.complete_from(oid) RETURNS timestamptz
  LANGUAGE c STABLE STRICT AS 'MODULE_PATHNAME', 'weir_complete_from';
COMMENT ON FUNCTION weir.complete_from(oid) IS 'internal: from this event time on the kept rows of the stream are whole';

CREATE FUNCTION weir.applied(oid, integer, bigint) RETURNS boolean
  LANGUAGE c STABLE STRICT AS 'MODULE_PATHNAME', 'weir_applied';
COMMENT ON FUNCTION weir.applied(oid, integer, bigint) IS 'internal: has the view at hand, which joins streams, taken in this kept row (stream, partition, offset) before its batch?';

CREATE FUNCTION weir.found_closed(oid, integer, bigint) RETURNS timestamptz
  LANGUAGE c STABLE STRICT AS 'MODULE_PATHNAME', 'weir_found_closed';
COMMENT ON FUNCTION weir.found_closed(oid, integer, bigint) IS 'internal: what a row (stream, partition, offset) of a partition that had been idle found closed in the view at hand; NULL: nothing of its own';

CREATE FUNCTION weir.close(float8, float8, float8) RETURNS boolean
  LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'weir_close';
COMMENT ON FUNCTION weir.close(float8, float8, float8) IS 'internal: are two float results the same but for the order of additions?';

CREATE FUNCTION weir.explain(view regclass, live boolean DEFAULT false) RETURNS SETOF text
  LANGUAGE c AS 'MODULE_PATHNAME', 'weir_explain';
COMMENT ON FUNCTION weir.explain(regclass, boolean) IS 'how a continuous view is maintained: strategy, why, streams, and the statement';
CREATE FUNCTION weir.verify(view regclass) RETURNS TABLE (side text, record jsonb)
  LANGUAGE c AS 'MODULE_PATHNAME', 'weir_verify';
COMMENT ON FUNCTION weir.verify(regclass) IS 'rows in which a continuous view differs from its query over the kept rows: none is the promise';

CREATE FUNCTION weir.replace(view regclass, query text, start text DEFAULT NULL) RETURNS void
  LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'weir_replace';
COMMENT ON FUNCTION weir.replace(regclass, text, text) IS 'gives a continuous view another query; what depends on the view stays. start ''kept'' (default, if the view was made without weir.start): built from the kept rows and swapped in this transaction; ''earliest'': built from the topic''s beginning by the workers, and swapped when it has caught up';

CREATE VIEW weir.views AS
  SELECT v.view, v.streams, v.emit, v.strategy,
         CASE WHEN v.status <> 'running' THEN v.status
              WHEN v.replaces IS NOT NULL OR EXISTS (SELECT FROM weir.view_position p WHERE p.view = v.view) THEN 'backfilling'
              ELSE v.status END AS state,
         pg_catalog.pg_get_viewdef(v.query::pg_catalog.oid) AS definition,
         v.batch,
         CASE WHEN v.status = 'running' AND (v.replaces IS NOT NULL OR EXISTS (SELECT FROM weir.view_position p WHERE p.view = v.view)) THEN
           -- the mean over the partitions of the share of offsets done
           (SELECT pg_catalog.round(pg_catalog.avg(
                     CASE WHEN d.view IS NULL THEN 1
                          WHEN d.start_offset IS NULL THEN 0
                          WHEN p.next_offset <= d.start_offset THEN 1
                          ELSE LEAST(1, (d.next_offset - d.start_offset)::numeric / (p.next_offset - d.start_offset)) END), 4)
              FROM weir.position p
              LEFT JOIN weir.view_position d
                ON d.view = v.view AND d.stream = p.stream AND d.topic = p.topic AND d.partition = p.partition
             WHERE p.stream = ANY (v.streams) AND p.partition >= 0) END AS progress,
         v.error,
         v.replaces
    FROM weir.view_def v;
COMMENT ON VIEW weir.views IS 'continuous views: state, strategy, definition, last error';
GRANT SELECT ON weir.views TO PUBLIC;

-- [worker]
----------------------------------------------------------------------
-- Workers: statistics, and functions to ask and steer
----------------------------------------------------------------------

CREATE FUNCTION weir.partition_statistics(
  OUT stream oid, OUT topic text, OUT partition integer, OUT "position" bigint, OUT high_watermark bigint,
  OUT stream_time timestamptz, OUT rows bigint, OUT bytes bigint, OUT bad bigint, OUT skipped bigint,
  OUT last_message_at timestamptz, OUT started_at timestamptz, OUT error text, OUT stats_reset timestamptz)
  RETURNS SETOF record LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'weir_partition_statistics';
COMMENT ON FUNCTION weir.partition_statistics() IS 'internal: statistics of partitions in shared memory; see weir.stat_streams';

CREATE FUNCTION weir.share_statistics(
  OUT stream oid, OUT worker integer, OUT state text, OUT error text)
  RETURNS SETOF record LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'weir_share_statistics';
COMMENT ON FUNCTION weir.share_statistics() IS 'internal: what each worker does with each stream; see weir.streams';

CREATE FUNCTION weir.view_statistics(
  OUT view oid, OUT rows_in bigint, OUT rows_changed bigint, OUT late bigint, OUT dead_letters bigint,
  OUT batches bigint, OUT busy_ms double precision, OUT last_batch_at timestamptz, OUT stats_reset timestamptz)
  RETURNS SETOF record LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'weir_view_statistics';
COMMENT ON FUNCTION weir.view_statistics() IS 'internal: statistics of continuous views in shared memory; see weir.stat_views';

CREATE VIEW weir.streams AS
  SELECT d.stream, d.server, pg_catalog.array_to_string(d.topics, ', ') AS topic, d.format, d.mode,
         d.event_time, d.lateness, d.idle_timeout, d.keep,
         CASE WHEN d.error IS NOT NULL THEN 'failed'
              WHEN d.paused THEN 'paused'
              WHEN d.server IS NULL OR COALESCE(s.running, false) THEN 'running'
              ELSE 'waiting' END AS state,
         COALESCE(d.error, s.error) AS error
    FROM weir.stream_def d
    LEFT JOIN (SELECT stream, pg_catalog.bool_and(state = 'running') AS running,
                      pg_catalog.min(error) AS error
                 FROM weir.share_statistics() GROUP BY stream) s ON s.stream = d.stream;
COMMENT ON VIEW weir.streams IS 'streams: where their rows come from, and whether they arrive';

CREATE FUNCTION weir.stream_watermark(oid) RETURNS timestamptz
  LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'weir_stream_watermark';
COMMENT ON FUNCTION weir.stream_watermark(oid) IS 'internal: how far the event time of a stream has come; see weir.stat_streams';

CREATE VIEW weir.stat_streams AS
  WITH parts AS (
    SELECT d.stream, NULLIF(p.topic, '') AS topic, p.partition, p.next_offset AS position,
           GREATEST(s.high_watermark, p.next_offset) AS high_watermark,
           GREATEST(p.stream_time, s.stream_time) AS stream_time,
           COALESCE(s.rows, 0) AS rows, COALESCE(s.bytes, 0) AS bytes, COALESCE(s.bad, 0) AS bad,
           COALESCE(s.skipped, 0) AS skipped, s.last_message_at, s.error, s.stats_reset
      FROM weir.stream_def d
      JOIN (SELECT stream::oid AS stream, topic, partition, next_offset, stream_time FROM weir.position
             WHERE partition >= 0
             UNION ALL  -- what was INSERTed has no offsets
            SELECT stream, topic, partition, NULL, NULL FROM weir.partition_statistics()
             WHERE partition < 0) p ON p.stream = d.stream AND (p.partition < 0 OR p.topic = ANY (d.topics))
      LEFT JOIN weir.partition_statistics() s
        ON s.stream = p.stream AND s.topic = p.topic AND s.partition = p.partition
  ), marks AS MATERIALIZED (
    SELECT stream, weir.stream_watermark(stream) AS watermark FROM (SELECT DISTINCT stream::oid AS stream FROM parts) p
  )
  SELECT p.stream, p.topic, p.partition, p.position, p.high_watermark,
         p.high_watermark - p.position AS lag,
         CASE WHEN p.partition < 0 OR p.high_watermark <= p.position THEN 0
              ELSE pg_catalog.extract('epoch', pg_catalog.clock_timestamp() - p.stream_time) END AS lag_seconds,
         p.stream_time, m.watermark, p.rows, p.bytes, p.bad, p.skipped, p.last_message_at, p.error, p.stats_reset
    FROM parts p LEFT JOIN marks m ON m.stream = p.stream;
COMMENT ON VIEW weir.stat_streams IS 'one row per partition of a stream: position (next offset to read), lag, and counts since stats_reset';

CREATE VIEW weir.stat_views AS
  SELECT d.view, COALESCE(s.rows_in, 0) AS rows_in, COALESCE(s.rows_changed, 0) AS rows_changed,
         COALESCE(s.late, 0) AS late, COALESCE(s.dead_letters, 0) AS dead_letters,
         COALESCE(s.batches, 0) AS batches, COALESCE(s.busy_ms, 0) AS busy_ms,
         s.last_batch_at, s.stats_reset
    FROM weir.view_def d
    LEFT JOIN weir.view_statistics() s ON s.view = d.view;
COMMENT ON VIEW weir.stat_views IS 'continuous views: rows taken in and changed, late rows, dead letters, time spent since stats_reset';

CREATE VIEW weir.dead_letters WITH (security_barrier) AS
  SELECT l.id, l.stream, l.view, l.topic, l.partition, l."offset", l.key, l.payload, l.headers,
         l.sqlstate, l.message, l.failed_at
    FROM weir.dead_letter l
    LEFT JOIN pg_catalog.pg_class c ON c.oid = l.stream
   -- those of weir.produce() have no relation: for superusers
   WHERE pg_catalog.pg_has_role(COALESCE(c.relowner, 10), 'USAGE');
COMMENT ON VIEW weir.dead_letters IS 'messages that could not be decoded (view is NULL) or not be applied to a view; weir.retry() applies them again; visible to the stream''s owner';

CREATE VIEW weir.late_rows WITH (security_barrier) AS
  SELECT l.stream, l.view, l.topic, l.partition, l."offset", l.event_time, l.window_start, l.reason, l.record, l.seen_at
    FROM weir.late_row l
    JOIN pg_catalog.pg_class c ON c.oid = l.stream
   WHERE pg_catalog.pg_has_role(c.relowner, 'USAGE');
COMMENT ON VIEW weir.late_rows IS 'rows that were late for a view (weir.late = ''keep''); visible to the stream''s owner';

GRANT SELECT ON weir.streams, weir.stat_streams, weir.stat_views, weir.dead_letters, weir.late_rows TO PUBLIC;

CREATE FUNCTION weir.wait(stream regclass DEFAULT NULL, timeout interval DEFAULT '30 s') RETURNS void
  LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'weir_wait';
COMMENT ON FUNCTION weir.wait(regclass, interval) IS 'returns when all that the topics held at the call is in the continuous views (of a view: in this one, and weir.replace has done its work); raises 57014 after the timeout, 55000 if a stream or view stands still';

CREATE FUNCTION weir.pause(relation regclass) RETURNS void
  LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'weir_pause';
COMMENT ON FUNCTION weir.pause(regclass) IS 'stops a stream or a continuous view; it catches up when it is resumed';

CREATE FUNCTION weir.resume(relation regclass) RETURNS void
  LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'weir_resume';
COMMENT ON FUNCTION weir.resume(regclass) IS 'lets a paused or failed stream or continuous view go on from where it stopped';

CREATE FUNCTION weir.seek(stream regclass, target text, rebuild boolean DEFAULT false) RETURNS void
  LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'weir_seek_text';
COMMENT ON FUNCTION weir.seek(regclass, text, boolean) IS 'moves a stream to ''earliest'', ''latest'', a timestamp or offsets as JSON; rebuild empties its views and kept rows and builds them afresh from there (partitions that JSON does not name: from their beginning)';

CREATE FUNCTION weir.seek(stream regclass, target timestamptz, rebuild boolean DEFAULT false) RETURNS void
  LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'weir_seek_time';
COMMENT ON FUNCTION weir.seek(regclass, timestamptz, boolean) IS 'moves a stream to the first messages at or after a time; see weir.seek(regclass, text, boolean)';

CREATE FUNCTION weir.seek(stream regclass, target jsonb, rebuild boolean DEFAULT false) RETURNS void
  LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'weir_seek_offsets';
COMMENT ON FUNCTION weir.seek(regclass, jsonb, boolean) IS 'moves partitions of a stream to offsets, {"0": 12, "1": 0}; see weir.seek(regclass, text, boolean)';

CREATE FUNCTION weir.retry(stream regclass) RETURNS bigint
  LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'weir_retry';
COMMENT ON FUNCTION weir.retry(regclass) IS 'applies a stream''s dead letters again and removes those that succeed; returns their number';

-- [sinks]
----------------------------------------------------------------------
-- Sinks: NOTIFY, the outbox, Kafka
----------------------------------------------------------------------

-- Who publishes what to where. Not dumped: a restored database is another publisher.
CREATE TABLE weir.sink (
  id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  trigger  oid,                             -- NULL: weir.produce()
  relation oid,
  server   name NOT NULL,
  owner    oid NOT NULL,                    -- whose user mapping the publisher uses
  topic    text,
  delivery text NOT NULL CHECK (delivery IN ('exactly_once', 'at_least_once')),
  paused   boolean NOT NULL DEFAULT false
);
CREATE UNIQUE INDEX sink_trigger ON weir.sink (trigger) WHERE trigger IS NOT NULL;
CREATE UNIQUE INDEX sink_produce ON weir.sink (server, owner) WHERE trigger IS NULL;
COMMENT ON TABLE weir.sink IS 'internal: publish triggers, and roles that use weir.produce(); see weir.stat_sinks';
CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON weir.sink
  FOR EACH STATEMENT EXECUTE FUNCTION weir.catalog_changed();

-- How far a sink has come. For exactly_once the truth is in Kafka (topic weir-progress); this follows it.
CREATE TABLE weir.sink_progress (
  sink     bigint PRIMARY KEY,
  done     pg_snapshot NOT NULL,            -- sent: what this snapshot sees,
  target   pg_snapshot,                     -- and what this one sees up to seq
  seq      bigint NOT NULL,
  hint     bigint,                          -- offset of a record in weir-progress to start looking from
  sent     bigint NOT NULL DEFAULT 0,
  bytes    bigint NOT NULL DEFAULT 0,
  retries  bigint NOT NULL DEFAULT 0,
  error    text,
  bad_seq  bigint,                          -- the record that Kafka refused: its row in weir.outbox
  bad_record integer                        -- and its place there
) WITH (fillfactor = 50);
COMMENT ON TABLE weir.sink_progress IS 'internal: what each sink has sent; see weir.stat_sinks';

-- What waits to be sent, in chunks of records (src/sink/record.h).
CREATE TABLE weir.outbox (
  sink     bigint NOT NULL,
  seq      bigint NOT NULL,                 -- order of sending
  xid      xid8 NOT NULL,
  at       timestamptz NOT NULL,
  records  integer NOT NULL,
  payload  bytea NOT NULL
);
ALTER TABLE weir.outbox ALTER COLUMN payload SET STORAGE EXTERNAL;
COMMENT ON TABLE weir.outbox IS 'internal: changes on their way to Kafka; see weir.stat_sinks';
DO $$
BEGIN
  FOR i IN 0..7 LOOP
    EXECUTE pg_catalog.format('CREATE TABLE weir.outbox_%s () INHERITS (weir.outbox)'
      ' WITH (autovacuum_enabled = false, toast.autovacuum_enabled = false)', i);
    EXECUTE pg_catalog.format('CREATE INDEX ON weir.outbox_%s (sink, seq)', i);
    EXECUTE pg_catalog.format('CREATE INDEX ON weir.outbox_%s (xid)', i);
    EXECUTE pg_catalog.format('COMMENT ON TABLE weir.outbox_%s IS ''internal: a segment of weir.outbox''', i);
  END LOOP;
END
$$;
CREATE SEQUENCE weir.outbox_seq;
COMMENT ON SEQUENCE weir.outbox_seq IS 'internal: numbers of weir.outbox';
CREATE TABLE weir.outbox_state (
  current integer NOT NULL                  -- the segment that is being filled
);
INSERT INTO weir.outbox_state VALUES (0);
COMMENT ON TABLE weir.outbox_state IS 'internal: which segment of weir.outbox is being filled';

CREATE FUNCTION weir.outbox_records(payload bytea)
  RETURNS TABLE (topic text, partition integer, key bytea, value bytea, headers jsonb, "timestamp" timestamptz)
  LANGUAGE c STABLE STRICT AS 'MODULE_PATHNAME', 'weir_outbox_records';
COMMENT ON FUNCTION weir.outbox_records(bytea) IS 'the records in a chunk of weir.outbox';

CREATE VIEW weir.sink_name AS
  SELECT s.id, s.owner,
         CASE WHEN s.trigger IS NULL
              THEN pg_catalog.format('produce(%s, %s)', s.server, pg_catalog.pg_get_userbyid(s.owner))
              WHEN t.oid IS NULL THEN pg_catalog.format('dropped(%s)', s.id)
              ELSE pg_catalog.format('%I.%I.%I', n.nspname, c.relname, t.tgname) END AS name
    FROM weir.sink s
    LEFT JOIN pg_catalog.pg_trigger t ON t.oid = s.trigger
    LEFT JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
    LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace;
COMMENT ON VIEW weir.sink_name IS 'internal: how sinks are called in weir.stat_sinks';

CREATE VIEW weir.stat_sinks WITH (security_barrier) AS
  SELECT n.name AS sink, s.server, s.topic,
         COALESCE(p.sent, 0) AS sent, COALESCE(p.bytes, 0) AS bytes,
         COALESCE(w.records, 0) AS pending,
         COALESCE(GREATEST(pg_catalog.extract('epoch', pg_catalog.clock_timestamp() - w.oldest), 0), 0) AS pending_seconds,
         COALESCE(p.retries, 0) AS retries,
         CASE WHEN s.paused AND p.error IS NOT NULL THEN 'failed'
              WHEN s.paused THEN 'paused'
              WHEN p.error IS NOT NULL THEN 'waiting'
              ELSE 'running' END AS state,
         p.error
    FROM weir.sink s
    JOIN weir.sink_name n ON n.id = s.id
    LEFT JOIN weir.sink_progress p ON p.sink = s.id
    CROSS JOIN LATERAL (
      SELECT pg_catalog.sum(o.records)::bigint AS records, pg_catalog.min(o.at) AS oldest
        FROM weir.outbox o
       WHERE o.sink = s.id AND NOT COALESCE(
               pg_catalog.pg_visible_in_snapshot(o.xid, p.done) OR
               (o.seq <= p.seq AND pg_catalog.pg_visible_in_snapshot(o.xid, p.target)), false)) w
   WHERE pg_catalog.pg_has_role(s.owner, 'USAGE');
COMMENT ON VIEW weir.stat_sinks IS 'one row per publish trigger, and per role that uses weir.produce(): records sent, records waiting, state and error; visible to the publishing role';
GRANT SELECT ON weir.stat_sinks TO PUBLIC;

CREATE FUNCTION weir.notify() RETURNS trigger
  LANGUAGE c AS 'MODULE_PATHNAME', 'weir_notify';
COMMENT ON FUNCTION weir.notify() IS 'trigger function weir.notify(''channel'' [, ''columns=a,b''] [, ''key=a,b''] [, ''channel_column=c''] [, ''notices=key|batch'']): sends each change as a notice {"view", "op", "batch", "row"}';

CREATE FUNCTION weir.publish() RETURNS trigger
  LANGUAGE c AS 'MODULE_PATHNAME', 'weir_publish';
COMMENT ON FUNCTION weir.publish() IS 'trigger function weir.publish(''server'', ''topic'' [, ''name=value'' ...]): sends each change to a Kafka topic, exactly once; key=, columns=, format=json|text, delete=tombstone|record|ignore, headers=, partition=, timestamp=, topic_column=, nulls=keep|omit, changes=last|all, delivery=exactly_once|at_least_once';

CREATE FUNCTION weir.produce(server name, topic text, key text, value text, headers jsonb DEFAULT NULL) RETURNS void
  LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'weir_produce_text';
COMMENT ON FUNCTION weir.produce(name, text, text, text, jsonb) IS 'sends a record to a Kafka topic when the transaction commits';

CREATE FUNCTION weir.produce(server name, topic text, key bytea, value bytea, headers jsonb DEFAULT NULL) RETURNS void
  LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'weir_produce_bytea';
COMMENT ON FUNCTION weir.produce(name, text, bytea, bytea, jsonb) IS 'sends a record of bytes to a Kafka topic when the transaction commits';

CREATE FUNCTION weir.snapshot(view regclass, trigger_name name) RETURNS bigint
  LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'weir_snapshot';
COMMENT ON FUNCTION weir.snapshot(regclass, name) IS 'publishes the present contents of a table or view through one of its weir.publish triggers, before all later changes; returns the number of rows';

CREATE FUNCTION weir.pause_sink(sink text) RETURNS void
  LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'weir_pause_sink';
COMMENT ON FUNCTION weir.pause_sink(text) IS 'stops sending for a sink (a name in weir.stat_sinks); its records wait in the outbox';

CREATE FUNCTION weir.resume_sink(sink text) RETURNS void
  LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'weir_resume_sink';
COMMENT ON FUNCTION weir.resume_sink(text) IS 'lets a paused or failed sink (a name in weir.stat_sinks) go on';

CREATE FUNCTION weir.discard(sink text, records integer DEFAULT 1) RETURNS bigint
  LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'weir_discard';
COMMENT ON FUNCTION weir.discard(text, integer) IS 'moves the first waiting records of a paused or failed sink to weir.dead_letters; returns their number';

-- [expire]
----------------------------------------------------------------------
-- weir.expires: rows of ordinary tables that go when their time has come
----------------------------------------------------------------------

CREATE FUNCTION weir.expire() RETURNS trigger
  LANGUAGE c AS 'MODULE_PATHNAME', 'weir_expire';
COMMENT ON FUNCTION weir.expire() IS 'trigger that ALTER TABLE ... SET (weir.expires = ''column'') makes: rows are deleted when the column''s time has come';

CREATE TABLE weir.expire_state (
  relation oid PRIMARY KEY,
  deleted  bigint NOT NULL DEFAULT 0,
  error    text
) WITH (fillfactor = 50);
COMMENT ON TABLE weir.expire_state IS 'internal: what was deleted from tables with weir.expires; see weir.expiring';

CREATE VIEW weir.expiring AS
  SELECT t.tgrelid::regclass AS relation, a.attname AS "column",
         CASE WHEN t.tgenabled = 'D' THEN 'off' WHEN s.error IS NOT NULL THEN 'failed' ELSE 'running' END AS state,
         COALESCE(s.deleted, 0) AS deleted,
         CASE WHEN pg_catalog.pg_has_role(c.relowner, 'USAGE') THEN s.error END AS error
    FROM pg_catalog.pg_depend f
    JOIN pg_catalog.pg_trigger t ON t.oid = f.objid AND t.tgparentid = 0
    JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
    JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_trigger'::regclass AND d.objid = t.oid
     AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = t.tgrelid AND d.refobjsubid > 0
    JOIN pg_catalog.pg_attribute a ON a.attrelid = t.tgrelid AND a.attnum = d.refobjsubid
    LEFT JOIN weir.expire_state s ON s.relation = t.tgrelid
   WHERE f.classid = 'pg_catalog.pg_trigger'::regclass AND f.refclassid = 'pg_catalog.pg_proc'::regclass
     AND f.refobjid = 'weir.expire()'::regprocedure;
COMMENT ON VIEW weir.expiring IS 'tables with weir.expires: the column, rows deleted so far, and the error that keeps rows from being deleted';
GRANT SELECT ON weir.expiring TO PUBLIC;

-- The last thing CREATE EXTENSION does: the launcher looks for weir in this database at commit.
CREATE FUNCTION weir.announce() RETURNS void
  LANGUAGE c AS 'MODULE_PATHNAME', 'weir_announce';
SELECT weir.announce();
DROP FUNCTION weir.announce();
