# Rows of tables with weir.expires: gone within a second, with triggers and
# foreign keys, whatever the row at fault, whoever writes and however; and nobody
# polls while nothing is due.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WeirTest;

my $node = weir_node('main', conf => "max_prepared_transactions = 5\nwal_level = logical\n");
my $expirer = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'weir expirer'";
is($node->safe_psql('postgres', $expirer), '0', 'no process without such a table');

$node->safe_psql('postgres', <<'SQL');
CREATE ROLE app LOGIN;
GRANT CREATE ON SCHEMA public TO app;
SET ROLE app;
CREATE TABLE filter (id int PRIMARY KEY, expires_at timestamptz);
CREATE INDEX ON filter (expires_at);
CREATE TABLE part (filter int REFERENCES filter ON DELETE CASCADE, n int);
CREATE INDEX ON part (filter);
CREATE TABLE gone (id int, who text, late interval, depth int);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN INSERT INTO gone VALUES (OLD.id, current_user, clock_timestamp() - OLD.expires_at, pg_trigger_depth()); RETURN NULL; END $$;
CREATE TRIGGER note AFTER DELETE ON filter FOR EACH ROW EXECUTE FUNCTION note();
ALTER TABLE filter SET (weir.expires = 'expires_at');
SQL

# in time, and all that hangs on a row
$node->safe_psql('postgres', <<'SQL');
BEGIN;    -- none expires before its part is there
INSERT INTO filter SELECT i, clock_timestamp() + interval '100 ms' + i * interval '10 ms' FROM generate_series(1, 150) i;
INSERT INTO filter VALUES (1000, NULL), (1001, 'infinity'), (1002, now() + interval '1 hour');
INSERT INTO part SELECT i, 1 FROM generate_series(1, 150) i;
COMMIT;
SQL
eventually($node, 'SELECT count(*) FROM gone', 'rows whose time has come go', 150);
is($node->safe_psql('postgres', "SELECT DISTINCT who FROM gone"), 'app', 'as the owner');
is($node->safe_psql('postgres', "SELECT min(late) >= '0', percentile_disc(0.5) WITHIN GROUP (ORDER BY late) < '1 s' FROM gone"), 't|t', 'not too soon, and mostly within a second');
is($node->safe_psql('postgres', 'SELECT count(*) FROM part'), '0', 'foreign keys cascade');
is($node->safe_psql('postgres', 'SELECT string_agg(id::text, \' \' ORDER BY id) FROM filter'), '1000 1001 1002', 'others stay');
is($node->safe_psql('postgres', 'SELECT deleted, state FROM weir.expiring'), '150|running', 'and are counted');

# who is told of an earlier row looks at once; an UPDATE, a COPY, a rolled back savepoint,
# a prepared transaction, a session that fires no ordinary triggers
$node->safe_psql('postgres', 'TRUNCATE gone');
$node->safe_psql('postgres', "UPDATE filter SET expires_at = now() + interval '100 ms' WHERE id = 1000");
eventually($node, 'SELECT count(*) FROM gone WHERE id = 1000', 'an UPDATE', 1);
$node->safe_psql('postgres', "COPY filter FROM STDIN;\n2000\t2001-01-01\n\\.\n");
eventually($node, 'SELECT count(*) FROM gone WHERE id = 2000', 'COPY', 1);
$node->safe_psql('postgres', "BEGIN; SAVEPOINT a; INSERT INTO filter VALUES (2001, '2001-01-01'); ROLLBACK TO a; INSERT INTO filter VALUES (2002, '2001-01-01'); COMMIT");
eventually($node, 'SELECT count(*) FROM gone WHERE id = 2002', 'savepoints', 1);
$node->safe_psql('postgres', "BEGIN; INSERT INTO filter VALUES (2003, '2001-01-01'); PREPARE TRANSACTION 'p'");
is($node->safe_psql('postgres', 'SELECT count(*) FROM gone WHERE id = 2003'), '0', 'a prepared transaction is not seen');
$node->safe_psql('postgres', "COMMIT PREPARED 'p'");
eventually($node, 'SELECT count(*) FROM gone WHERE id = 2003', 'until it is committed', 1);
$node->safe_psql('postgres', "SET session_replication_role = replica; INSERT INTO filter VALUES (2004, '2001-01-01')");
eventually($node, 'SELECT count(*) FROM gone WHERE id = 2004', 'session_replication_role = replica', 1);
is($node->safe_psql('postgres', 'SELECT count(*) FROM gone'), '5', 'each once');

# a row that somebody prolongs just now stays
my $s = session($node);
$s->query('BEGIN');
$s->query("INSERT INTO filter VALUES (2100, '2001-01-01'); COMMIT; BEGIN; SELECT * FROM filter WHERE id = 1001 FOR UPDATE");
eventually($node, 'SELECT count(*) FROM gone WHERE id = 2100', 'a locked row holds up no other', 1);
$node->safe_psql('postgres', "UPDATE filter SET expires_at = now() + interval '300 ms' WHERE id = 1002");
$s->query("SELECT * FROM filter WHERE id = 1002 FOR UPDATE");
$node->safe_psql('postgres', "INSERT INTO filter VALUES (2101, now() + interval '400 ms')");
eventually($node, 'SELECT count(*) FROM gone WHERE id = 2101', 'the next row goes', 1);
$s->query("UPDATE filter SET expires_at = 'infinity' WHERE id = 1002; COMMIT");
$node->safe_psql('postgres', "INSERT INTO filter VALUES (2102, now())");
eventually($node, 'SELECT count(*) FROM gone WHERE id = 2102', 'and another', 1);
is($node->safe_psql('postgres', 'SELECT count(*) FROM filter WHERE id = 1002'), '1', 'what was prolonged under lock is there');

# a table that is locked holds up no other table
$node->safe_psql('postgres', <<'SQL');
CREATE TABLE token (id int, until timestamp) WITH (weir.expires = 'until');
SQL
$s->query('BEGIN; LOCK TABLE filter');
$node->safe_psql('postgres', "SET TimeZone = 'Asia/Tokyo'; INSERT INTO token VALUES (1, now() AT TIME ZONE 'UTC'), (2, now() AT TIME ZONE 'UTC' + interval '1 hour')");
eventually($node, 'SELECT string_agg(id::text, \' \') FROM token', 'timestamp means UTC; a locked table holds up no other', '2');
$s->query('COMMIT');

# many rows, in pieces
$node->safe_psql('postgres', "TRUNCATE gone; INSERT INTO filter SELECT i, '2001-01-01' FROM generate_series(10000, 39999) i");
eventually($node, 'SELECT count(*) FROM gone', 'many rows of one time', 30000);
cmp_ok($node->safe_psql('postgres', 'SELECT count(DISTINCT xmin::text) FROM gone'), '>=', 30, 'in many transactions');

# rows that cannot be deleted are shown, and hold up no others
$node->safe_psql('postgres', <<'SQL');
TRUNCATE gone;
CREATE TABLE kept (filter int REFERENCES filter);
INSERT INTO filter SELECT i, 'infinity' FROM generate_series(1, 100) i;
INSERT INTO kept VALUES (7), (8);
UPDATE filter SET expires_at = '2001-01-01' WHERE id <= 100;
SQL
eventually($node, 'SELECT count(*) FROM gone', 'all but two', 98);
eventually($node, "SELECT state, error LIKE 'update or delete on table \"filter\" violates foreign key constraint%' FROM weir.expiring WHERE relation = 'filter'::regclass",
	'whose error is shown', 'failed|t');
is($node->safe_psql('postgres', "SET ROLE pg_monitor; SELECT error IS NULL FROM weir.expiring WHERE relation = 'filter'::regclass"), 't', 'to the owner');
$node->safe_psql('postgres', "INSERT INTO filter VALUES (3000, now() + interval '100 ms')");
eventually($node, 'SELECT count(*) FROM gone WHERE id = 3000', 'others go on', 1);
$node->safe_psql('postgres', 'DELETE FROM kept');
eventually($node, 'SELECT count(*) FROM gone', 'and they go when nothing is in the way', 101);
eventually($node, "SELECT state, error FROM weir.expiring WHERE relation = 'filter'::regclass", 'no error is shown then', 'running|');

# a deferred trigger is the owner's business, not the superuser's
$node->safe_psql('postgres', <<'SQL');
TRUNCATE gone;
SET ROLE app;
CREATE CONSTRAINT TRIGGER later AFTER DELETE ON filter DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION note();
INSERT INTO filter VALUES (3001, now());
SQL
eventually($node, 'SELECT count(*), min(who), max(who) FROM gone', 'deferred triggers run as the owner', '2|app|app');
$node->safe_psql('postgres', 'DROP TRIGGER later ON filter');

# rows that a policy hides from their owner: an error, not silence
$node->safe_psql('postgres', <<'SQL');
CREATE TABLE secret (id int, until timestamptz) WITH (weir.expires = 'until');
ALTER TABLE secret OWNER TO app;
ALTER TABLE secret ENABLE ROW LEVEL SECURITY;
ALTER TABLE secret FORCE ROW LEVEL SECURITY;
INSERT INTO secret VALUES (1, now());
SQL
eventually($node, "SELECT error FROM weir.expiring WHERE relation = 'secret'::regclass", 'row security is an error',
	'query would be affected by row-level security policy for table "secret"');
$node->safe_psql('postgres', 'ALTER TABLE secret NO FORCE ROW LEVEL SECURITY');
eventually($node, 'SELECT count(*) FROM secret', 'and none without it', 0);

# partitions, old and new
$node->safe_psql('postgres', <<'SQL');
CREATE TABLE parted (id int, until timestamptz) PARTITION BY RANGE (id);
CREATE TABLE part1 PARTITION OF parted FOR VALUES FROM (0) TO (100);
ALTER TABLE parted SET (weir.expires = 'until');
CREATE TABLE part2 (id int, filler int, until timestamptz);
ALTER TABLE part2 DROP filler;
INSERT INTO part2 VALUES (100, now()), (101, NULL);
ALTER TABLE parted ATTACH PARTITION part2 FOR VALUES FROM (100) TO (200);
INSERT INTO parted VALUES (1, now()), (102, now() + interval '50 ms'), (2, NULL);
SQL
eventually($node, "SELECT string_agg(id::text, ' ' ORDER BY id) FROM parted", 'partitions', '2 101');

# a dump carries it; a crash does not stop it
my $dump = $node->data_dir . '/../dump.sql';
$node->command_ok([ 'pg_dump', '-f', $dump, 'postgres' ], 'pg_dump');
$node->safe_psql('postgres', 'CREATE DATABASE copy');
$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', $node->connstr('copy'), '-f', $dump ], 'restore');
$node->safe_psql('copy', "INSERT INTO filter VALUES (4000, now())");
eventually($node, 'SELECT count(*) FROM gone WHERE id = 4000', 'a restored database expires rows, too', 1, db => 'copy');
$node->safe_psql('postgres', "INSERT INTO filter VALUES (4001, now() + interval '1 s')");
$node->stop('immediate');
$node->start;
eventually($node, 'SELECT count(*) FROM gone WHERE id = 4001', 'after a crash', 1);

# while nothing is due nobody runs: the process has no timer
my $switches = sub {
	my $pid = $node->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE backend_type = 'weir expirer' AND datname = 'postgres'");
	return slurp_file("/proc/$pid/status") =~ /^voluntary_ctxt_switches:\s*(\d+)/m ? $1 : die;
};
SKIP:
{
	skip 'no /proc', 1 if !-e '/proc/self/status';
	$node->safe_psql('postgres', "UPDATE token SET until = 'infinity'; INSERT INTO filter VALUES (5000, now())");
	eventually($node, 'SELECT count(*) FROM gone WHERE id = 5000', 'the last row', 1);
	eventually($node, "SELECT state FROM pg_stat_activity WHERE backend_type = 'weir expirer' AND datname = 'postgres'", 'idle', 'idle');
	my $before = $switches->();
	$node->safe_psql('postgres', "INSERT INTO filter SELECT i, 'infinity' FROM generate_series(6000, 6100) i");
	$node->safe_psql('postgres', "UPDATE filter SET id = id + 1000 WHERE id > 6000") foreach 1 .. 5;
	cmp_ok($switches->() - $before, '<=', 3, 'it sleeps while nothing is due');
}

# the end
$node->safe_psql('postgres', 'DROP TABLE token, secret, parted; ALTER TABLE filter RESET (weir.expires)');
eventually($node, "$expirer AND datname = 'postgres'", 'the process leaves', 0);
is($node->safe_psql('postgres', 'SELECT count(*) FROM weir.expire_state '), '0', 'nothing is left of it')
  or diag($node->safe_psql('postgres', 'SELECT * FROM weir.expire_state'));
$node->safe_psql('copy', 'DROP EXTENSION weir CASCADE');
is($node->safe_psql('copy', "SELECT count(*) FROM pg_trigger WHERE tgname = 'weir_expire'"), '0', 'DROP EXTENSION leaves plain tables');
$s->quit;
$node->stop;
done_testing();
