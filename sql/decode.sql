--
-- weir.decode: what messages become in columns of every kind, and what makes them bad.
-- It is the worker's own decoder; here it needs no broker.
--
SET TimeZone = 'UTC';
SET client_min_messages = warning;
\pset format unaligned
\pset fieldsep '  |  '

-- The row without its nulls, or the error: SQLSTATE, message and detail.
CREATE FUNCTION try(stream regclass, value text, key text DEFAULT NULL) RETURNS text
LANGUAGE plpgsql AS $$
DECLARE
  detail text;
BEGIN
  RETURN jsonb_strip_nulls(weir.decode(stream, value, key));
EXCEPTION WHEN others THEN
  GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL;
  RETURN sqlstate || ' ' || sqlerrm || CASE WHEN detail <> '' THEN '. ' || detail ELSE '' END;
END $$;

----------------------------------------------------------------------
-- The first example of the manual
----------------------------------------------------------------------
CREATE UNLOGGED TABLE orders (order_id bigint, city text, amount numeric, ordered_at timestamptz)
  WITH (weir.stream, weir.event_time = 'ordered_at');
SELECT weir.decode('orders', '{"order_id": 1, "city": "Köln", "amount": 12.50, "ordered_at": "2024-02-29T12:34:56.789Z"}');
SELECT weir.decode('orders', '{"order_id": 1, "city": "Köln", "amount": "a lot", "ordered_at": "2024-02-29T12:34:56.789Z"}');
SELECT weir.decode('orders', '{"order_id": 1, "city": ');
SELECT weir.decode('orders', NULL);
-- fields without a column, another order, keys with escapes, the last of two
SELECT weir.decode('orders', '{"x": [1, {"order_id": 2}], "ordered_at": 1709210096789, "\u0063ity": "a", "amount": 1, "order_id": 3, "amount": 2}');
SELECT weir.decode('orders', '{"City": "names are exact", "order_id": null}');

----------------------------------------------------------------------
-- Bad JSON
----------------------------------------------------------------------
SELECT m AS message, try('orders', m) FROM (VALUES
  (''), ('  '), ('hello'), ('42'), ('[{"order_id": 1}]'), ('null'), (E'\uFEFF{"order_id": 1}'),
  ('{"order_id": 1'), ('{"order_id": 1}}'), ('{"order_id": 1} {"order_id": 2}'), ('{"order_id": 1,}'),
  ('{"order_id" 1}'), ('{order_id: 1}'), ('{"city": "open}'), ('{"city": "\x"}'), (E'{"city": "a\tb"}'),
  ('{"city": "\ud83d"}'), ('{"city": "\ude00"}'), ('{"amount": 01}'), ('{"amount": NaN}'),
  ('{"x": tru}'), ('{"x": [1, 2}'), ('{"x": "a":1}'), ('{"city": "\u0000"}')) AS v(m);
SELECT try('orders', '{"x": ' || repeat('[', 2000) || repeat(']', 2000) || '}');
SELECT try('orders', '{"x": ' || repeat('[', 100000) || '}');
-- long values are shortened in messages, whoever makes these
SELECT try('orders', '{"amount": "' || repeat('9', 1000) || 'x"}');
SELECT try('orders', '{"ordered_at": "' || repeat('x', 1000) || '"}'), try('orders', '{"ordered_at": "' || repeat('1', 1000) || '"}');
SELECT length(try('orders', '{"city": "' || repeat('x', 10000000) || '"}'));

----------------------------------------------------------------------
-- Numbers
----------------------------------------------------------------------
CREATE TABLE numbers (i2 smallint, i4 integer, i8 bigint, f4 real, f8 double precision, n numeric, n2 numeric(5,2), n0 numeric(3), b boolean, t text)
  WITH (weir.stream);
SELECT v, i AS "integer", b AS "bigint", n AS "numeric", f AS "double precision", t AS "text" FROM (VALUES
  ('1'), ('-1'), ('0'), ('-0'), ('1.0'), ('1e2'), ('1.5'), ('150e-1'), ('2147483647'), ('2147483648'), ('-2147483648'),
  ('9223372036854775807'), ('9223372036854775808'), ('-9223372036854775808'), ('1e400'), ('1e-400'), ('0e400'),
  ('12.50'), ('-0.00'), ('123456789012345678.90'), ('0.00000000000000000001'), ('1.7976931348623157e30'),
  ('0.1'), ('9007199254740993'), ('"7"'), ('" 7 "'), ('"+7"'), ('"7x"'), ('""'), ('"NaN"'), ('true'), ('[1]'), ('{"a": 1}'), ('null')) AS v(v),
  LATERAL (SELECT try('numbers', '{"i4": ' || v || '}') i, try('numbers', '{"i8": ' || v || '}') b, try('numbers', '{"n": ' || v || '}') n,
                  try('numbers', '{"f8": ' || v || '}') f, try('numbers', '{"t": ' || v || '}') t) AS x;
SELECT v, try('numbers', '{"i2": ' || v || '}') AS "smallint", try('numbers', '{"f4": ' || v || '}') AS "real" FROM (VALUES
  ('32767'), ('32768'), ('-32768'), ('-32769'), ('3.4e38'), ('3.5e38'), ('0.1'), ('16777217'), ('1e-46')) AS v(v);
-- precision and scale as INSERT applies them
SELECT v, try('numbers', '{"n2": ' || v || '}') AS "numeric(5,2)", try('numbers', '{"n0": ' || v || '}') AS "numeric(3)" FROM (VALUES
  ('1'), ('1.005'), ('999.99'), ('999.995'), ('1000'), ('-999'), ('0.001'), ('1e2'), ('"12.3"'), ('999.4')) AS v(v);
SELECT v, try('numbers', '{"b": ' || v || '}') AS "boolean" FROM (VALUES
  ('true'), ('false'), ('"yes"'), ('" Off "'), ('1'), ('0'), ('2'), ('"maybe"'), ('{}')) AS v(v);
-- every numeric is the one that the input function makes, in value and scale
CREATE FUNCTION decoded(v text) RETURNS numeric LANGUAGE sql AS $$ SELECT (weir.decode('numbers', '{"n": ' || v || '}') ->> 'n')::numeric $$;
SELECT count(*), count(*) FILTER (WHERE decoded(v) <> v::numeric OR scale(decoded(v)) <> scale(v::numeric) OR decoded(v)::text <> v::numeric::text) AS wrong
FROM (SELECT sign || repeat(digit, before) || CASE WHEN after > 0 THEN '.' || repeat('0', zeros) || repeat(digit, after) || repeat('0', tail) ELSE '' END
      FROM unnest(ARRAY['', '-']) sign, unnest(ARRAY['1', '9']) digit, generate_series(1, 12) before, generate_series(0, 4) after,
           generate_series(0, 3) zeros, generate_series(0, 1) tail) AS v(v);

----------------------------------------------------------------------
-- Texts
----------------------------------------------------------------------
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE TABLE texts (t text, v varchar(3), c char(3), n name, u uuid, e mood, by bytea, j json, jb jsonb, ip inet, iv interval, bits bit(4), p point)
  WITH (weir.stream);
SELECT v, try('texts', '{"t": ' || v || '}') AS "text", try('texts', '{"v": ' || v || '}') AS "varchar(3)", try('texts', '{"c": ' || v || '}') AS "char(3)" FROM (VALUES
  ('"abc"'), ('"abcd"'), ('"abc  "'), ('"äöü"'), ('"äöüß"'), ('"a"'), ('""'), ('12.50'), ('1e2'), ('true'), ('null'), ('{"a":1}'), ('[1, 2]'),
  ('"\ud83d\ude00\n\t\"\\\/"'), ('"a\u0000b"')) AS v(v);
SELECT v, try('texts', '{"j": ' || v || '}') AS json, try('texts', '{"jb": ' || v || '}') AS jsonb FROM (VALUES
  ('{"b": 12.50, "a": [1e2, "x\u00e9"], "b": 12.500}'), ('[1, [2, {}]]'), ('"a string"'), ('12.50'), ('true'), ('null')) AS v(v);
SELECT try('texts', '{"jb": "\u0000"}');
SELECT v, try('texts', v) FROM (VALUES
  ('{"u": "b1946ac9-2492-4d23-8f0a-0242ac120002"}'), ('{"u": "B1946AC924924D238F0A0242AC120002"}'), ('{"u": "{b1946ac9-2492-4d23-8f0a-0242ac120002}"}'),
  ('{"u": "b1946ac9-2492-4d23-8f0a-0242ac12000x"}'), ('{"u": 5}'),
  ('{"e": "ok"}'), ('{"e": "OK"}'), ('{"e": 1}'), ('{"e": ""}'),
  ('{"by": "\\x00ff"}'), ('{"by": "abc"}'), ('{"by": "\\x0"}'),
  ('{"ip": "10.0.0.1/8"}'), ('{"ip": "10.0.0.256"}'), ('{"iv": "1 day 2 hours"}'), ('{"iv": "PT1H"}'), ('{"bits": "1010"}'), ('{"p": "(1,2)"}'), ('{"n": "x"}')) AS v(v);

----------------------------------------------------------------------
-- Times
----------------------------------------------------------------------
CREATE TABLE times (tz timestamptz, ts timestamp, d date, t time, tz3 timestamptz(3), ttz timetz) WITH (weir.stream);
SELECT v, tz ->> 'tz' AS tz FROM (VALUES
  ('"2024-02-29T12:34:56.789Z"'), ('"2024-02-29 12:34:56+02"'), ('"2024-02-29T12:34:56-0330"'), ('"2024-02-29T12:34+05:45"'), ('"2024-02-29T12:34:56"'),
  ('"2024-02-29"'), ('"2024-02-29T12:34:56.123456789Z"'), ('"2024-02-29T23:59:59.9999999Z"'), ('"2024-02-29T24:00:00Z"'), ('"1815-06-18T11:35:00Z"'),
  ('"Feb 29 2024 12:34 UTC"'), ('"infinity"'), ('1709210096789'), ('1709210096789.5'), ('1.709210096789e12'), ('-1'), ('0')) AS v(v),
  LATERAL (SELECT weir.decode('times', '{"tz": ' || v || '}') AS tz) x;
SELECT v, try('times', '{"tz": ' || v || '}') FROM (VALUES
  ('"2023-02-29T00:00:00Z"'), ('"2024-13-01"'), ('"2024-02-29T25:00:00Z"'), ('"yesteryear"'), ('""'), ('true'), ('1e400'), ('9e99'), ('[2024]'), ('"1709210096789"')) AS v(v);
SELECT v, try('times', v) FROM (VALUES
  ('{"ts": "2024-02-29T12:34:56.789"}'), ('{"ts": "2024-02-29T12:34:56.789+05:00"}'), ('{"ts": 1709210096789}'), ('{"tz3": "2024-02-29T12:34:56.7896Z"}'), ('{"tz3": 0.6}'),
  ('{"d": "2024-02-29"}'), ('{"d": "2024-02-29T23:00:00Z"}'), ('{"d": 1709210096789}'), ('{"d": -1}'), ('{"d": "29.02.2024 x"}'),
  ('{"t": "12:34"}'), ('{"t": "12:34:56.789"}'), ('{"t": "04:05 PM"}'), ('{"t": 45296789}'), ('{"t": 86400000}'), ('{"t": 86400001}'), ('{"t": -1}'), ('{"t": "12:60"}'),
  ('{"ttz": "12:34+02"}')) AS v(v);
-- a local time means the session's time zone, summer time included
SET TimeZone = 'Europe/Berlin';
SELECT weir.decode('times', '{"tz": "2024-03-31T01:59:59", "tz3": "2024-03-31T03:00:00"}');
SET TimeZone = 'UTC';
CREATE TABLE seconds (tz timestamptz, t time) WITH (weir.stream, weir.time_unit = 's');
CREATE TABLE micros (tz timestamptz, t time) WITH (weir.stream, weir.time_unit = 'us');
SELECT weir.decode('seconds', '{"tz": 1709210096.789123, "t": 1.5}'), weir.decode('micros', '{"tz": 1709210096789123, "t": 1.5}');

----------------------------------------------------------------------
-- Arrays, composite types, domains
----------------------------------------------------------------------
CREATE DOMAIN positive AS integer CHECK (VALUE > 0);
CREATE DOMAIN given AS text NOT NULL;
CREATE DOMAIN short AS varchar(3);
CREATE TYPE place AS (street text, "No" positive, at point);
CREATE TYPE trip AS (stops place[], at timestamptz, cost numeric(6,2));
CREATE TABLE nested (a int[], a2 text[], an numeric(4,1)[], aj jsonb[], at timestamptz[], ad positive[], c place, t trip, d positive, s short)
  WITH (weir.stream);
SELECT v, try('nested', v) FROM (VALUES
  ('{"a": [1, 2, null, 3.0]}'), ('{"a": []}'), ('{"a": [[1, 2], [3, 4]]}'), ('{"a": [[], []]}'), ('{"a": "{1,2}"}'), ('{"a": " [0:1]={5,6}"}'),
  ('{"a2": ["x", "a\u00e9\ud83d\ude00\n", 12.50, true, {"k" : 1}]}'), ('{"a2": [[["a"], ["b"]]]}'), ('{"an": [1.25, "7"]}'),
  ('{"aj": [[1, 2], {"a": null}, "s", 12.50]}'), ('{"at": ["2024-02-29T12:34:56Z", 0]}'), ('{"ad": [1, 2]}'),
  ('{"c": {"street": "Main \"St\"", "No": 5, "at": "(1,2)", "x": {"street": 1}}}'), ('{"c": {"No": 1, "street": "a", "street": "b"}}'), ('{"c": {}}'), ('{"c": "(Main,5,)"}'),
  ('{"t": {"stops": [{"street": "a"}, {"No": 2, "street": {"b": [1]}}], "at": 1709210096789, "cost": 1.005}}'),
  ('{"d": 5}'), ('{"d": "5"}'), ('{"s": "abc"}')) AS v(v);
SELECT v, try('nested', v) FROM (VALUES
  ('{"a": [1, "x"]}'), ('{"a": [1, [2]]}'), ('{"a": [[1], [2, 3]]}'), ('{"a": [[1], 2]}'), ('{"a": [[[[[[[1]]]]]]]}'), ('{"a": 5}'), ('{"a": {}}'), ('{"a": "{1"}'),
  ('{"ad": [1, 0]}'), ('{"c": [1]}'), ('{"c": {"No": 0}}'), ('{"c": {"No": "x"}}'), ('{"c": "(1"}'), ('{"t": {"stops": [{"No": 1.5}]}}'),
  ('{"d": 0}'), ('{"d": "x"}'), ('{"s": "abcd"}')) AS v(v);
-- types that change
ALTER TYPE mood ADD VALUE 'great';
SELECT weir.decode('texts', '{"e": "great"}') ->> 'e' AS e;
ALTER TYPE place ADD ATTRIBUTE zip text;
SELECT weir.decode('nested', '{"c": {"zip": "50667"}}') ->> 'c' AS c;

----------------------------------------------------------------------
-- Defaults and constraints
----------------------------------------------------------------------
CREATE TABLE ruled (
  id bigint GENERATED BY DEFAULT AS IDENTITY,
  a integer DEFAULT 7,
  b text NOT NULL DEFAULT 'b' CHECK (b <> 'bad'),
  gone text,
  c integer GENERATED ALWAYS AS (a * 2) STORED,
  d positive DEFAULT 1,
  g given DEFAULT 'g',
  "needs it" integer NOT NULL,
  at timestamptz DEFAULT clock_timestamp(),
  CONSTRAINT a_below_b CHECK (a < length(b) * 100))
  WITH (weir.stream);
ALTER TABLE ruled DROP COLUMN gone;
SELECT v, try('ruled', v)::jsonb - 'at' AS row FROM (VALUES
  ('{"needs it": 1}'), ('{"needs it": 1, "a": 8, "c": 99, "id": 1000}'), ('{"needs it": 1, "a": null}'), ('{"needs it": 2}')) AS v(v);
SELECT v, try('ruled', v) FROM (VALUES
  ('{}'), ('{"needs it": null}'), ('{"needs it": 1, "b": null}'), ('{"needs it": 1, "b": "bad"}'), ('{"needs it": 1, "a": 100}'),
  ('{"needs it": 1, "d": null, "g": null}'), ('{"needs it": 1, "a": 2147483647}')) AS v(v);
SELECT abs(extract(epoch FROM (weir.decode('ruled', '{"needs it": 1}') ->> 'at')::timestamptz - clock_timestamp())) < 60 AS now;
CREATE TABLE must (g given) WITH (weir.stream);
SELECT try('must', '{}'), try('must', '{"g": null}'), try('must', '{"g": "x"}');
CREATE FUNCTION fails() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RAISE division_by_zero USING MESSAGE = 'a default that raises'; END $$;
CREATE TABLE failing (a int DEFAULT fails(), b int) WITH (weir.stream);
SELECT try('failing', '{"b": 1}'), try('failing', '{"a": 1}');

----------------------------------------------------------------------
-- What Kafka says; texts
----------------------------------------------------------------------
CREATE TABLE meta (_key text, _value jsonb, _partition int, _offset bigint, _timestamp timestamptz, _headers jsonb, a int) WITH (weir.stream);
SELECT weir.decode('meta', '{"a": 1.0, "_key": "not this", "_offset": 5}', 'the key') - '_timestamp' AS row;
SELECT weir.decode('meta', '{}') - '_timestamp' AS row;
SELECT (weir.decode('meta', '{}') ->> '_timestamp')::timestamptz = date_trunc('milliseconds', now()) AS now;
CREATE TABLE meta_typed (_key bigint, _value bytea, _partition text, _offset numeric, _timestamp bigint, _headers text) WITH (weir.stream);
SELECT try('meta_typed', '{}', '42')::jsonb - '_timestamp' AS row, try('meta_typed', '{}', 'x');
CREATE TABLE lines (_value text, _key bytea, n int DEFAULT 3, "at" timestamptz DEFAULT '2024-01-01') WITH (weir.stream, weir.format = 'text');
SELECT weir.decode('lines', 'GET / HTTP/1.1', 'k'), weir.decode('lines', '{"n": 5}');
SELECT weir.decode('lines', '');

----------------------------------------------------------------------
-- Who may
----------------------------------------------------------------------
CREATE TABLE plain (a int);
SELECT weir.decode('plain', '{}');
SELECT weir.decode(NULL, '{}');
CREATE ROLE regress_weir_reader;
CREATE FUNCTION whoami() RETURNS name LANGUAGE sql AS 'SELECT current_user';
CREATE TABLE who (me boolean DEFAULT whoami() = 'regress_weir_reader') WITH (weir.stream);
SET ROLE regress_weir_reader;
SELECT weir.decode('who', '{}');
RESET ROLE;
GRANT SELECT ON who TO regress_weir_reader;
SET ROLE regress_weir_reader;
SELECT weir.decode('who', '{}');         -- defaults run as the owner
RESET ROLE;

DROP TABLE orders, numbers, texts, times, seconds, micros, nested, ruled, must, failing, meta, meta_typed, lines, plain, who;
DROP FUNCTION try, decoded, fails, whoami;
DROP DOMAIN given, short;
DROP TYPE trip, place, positive, mood;
DROP ROLE regress_weir_reader;
