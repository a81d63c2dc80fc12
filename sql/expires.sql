-- weir.expires: what it takes, what it refuses, what follows. (test/t/025_expires.pl sees rows go.)
CREATE TABLE live_filter (id int PRIMARY KEY, who text, expires_at timestamptz, local timestamp);

ALTER TABLE live_filter SET (weir.expires = 'nothing');
ALTER TABLE live_filter SET (weir.expires = 'who');
ALTER TABLE live_filter SET (weir.expires = 'expires_at', weir.keep = '1 hour');
ALTER TABLE live_filter SET (weir.expires);
ALTER TABLE live_filter RESET (weir.expires);
ALTER TABLE live_filter SET (weir.expires = 'local');
CREATE INDEX ON live_filter (expires_at);
ALTER TABLE live_filter SET (weir.expires = 'expires_at', fillfactor = 90);
SELECT relation, "column", state, deleted, error FROM weir.expiring;
SELECT pg_get_triggerdef(oid), tgenabled FROM pg_trigger WHERE tgrelid = 'live_filter'::regclass;

ALTER TABLE live_filter RENAME expires_at TO "Until";
SELECT relation, "column" FROM weir.expiring;
ALTER TABLE live_filter ALTER "Until" TYPE text;
ALTER TABLE live_filter DROP "Until";
ALTER TABLE live_filter DISABLE TRIGGER weir_expire;
SELECT relation, "column", state FROM weir.expiring;
ALTER TABLE live_filter ENABLE ALWAYS TRIGGER weir_expire;
ALTER TABLE live_filter RESET (weir.expires);
SELECT * FROM weir.expiring;
ALTER TABLE live_filter SET (weir.expires = 'Until');
ALTER TABLE live_filter DROP "Until" CASCADE;
SELECT * FROM weir.expiring;

-- with CREATE TABLE; partitions go with their table
CREATE TABLE parted (id int, expires_at timestamptz) PARTITION BY RANGE (id);
CREATE INDEX ON parted (expires_at);
CREATE TABLE part1 PARTITION OF parted FOR VALUES FROM (0) TO (100);
ALTER TABLE parted SET (weir.expires = 'expires_at');
ALTER TABLE part1 SET (weir.expires = 'expires_at');
CREATE TABLE part2 PARTITION OF parted FOR VALUES FROM (100) TO (200);
CREATE TABLE token (id int, expires_at timestamptz) WITH (weir.expires = 'expires_at', fillfactor = 50);
SELECT relation, "column" FROM weir.expiring ORDER BY relation::text;
SELECT reloptions FROM pg_class WHERE oid = 'token'::regclass;

-- not for these
CREATE TABLE orders (id int, at timestamptz) WITH (weir.stream, weir.expires = 'at');
CREATE TABLE orders (id int, at timestamptz) WITH (weir.stream);
ALTER TABLE orders SET (weir.expires = 'at');
CREATE MATERIALIZED VIEW sales WITH (weir.continuous) AS SELECT id, max(at) AS at FROM orders GROUP BY id;
ALTER MATERIALIZED VIEW sales SET (weir.expires = 'at');
CREATE TEMP TABLE short (at timestamptz) WITH (weir.expires = 'at');
CREATE VIEW plain AS SELECT * FROM token;
ALTER VIEW plain SET (weir.expires = 'expires_at');
CREATE TRIGGER mine AFTER INSERT ON token FOR EACH ROW EXECUTE FUNCTION weir.expire();

-- only the owner
CREATE ROLE regress_expire_other;
GRANT ALL ON token TO regress_expire_other;
SET ROLE regress_expire_other;
ALTER TABLE token SET (weir.expires = 'expires_at');
ALTER TABLE token RESET (weir.expires);
RESET ROLE;
DROP TABLE token, parted CASCADE;
SELECT * FROM weir.expiring;
DROP OWNED BY regress_expire_other;
DROP ROLE regress_expire_other;
DROP TABLE orders CASCADE;
DROP TABLE live_filter;
