# Too few background processes, too many databases: said in the log, and over when there is room.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WeirTest;

my $has_worker = "SELECT string_agg(DISTINCT datname, ',' ORDER BY datname) FROM pg_stat_activity WHERE backend_type = 'weir worker'";

sub in_log
{
	my ($node, $pattern, $from, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok(eval { $node->wait_for_log($pattern, $from); 1 }, $name) or diag($@);
	return;
}

# Finals of a stream that is quiet are closed by a worker: proof that there is one that works.
my $closes = <<'SQL';
CREATE TABLE ticks (at timestamptz) WITH (weir.stream, weir.event_time = 'at', weir.idle_timeout = '10 ms');
CREATE MATERIALIZED VIEW per_window WITH (weir.continuous, weir.emit = 'final') AS SELECT window_start, count(*) FROM ticks, tumble(at, '10 ms') GROUP BY window_start;
SQL

# One process for two databases: the launchers of weir and of logical replication take the others.
my $node = weir_node('few', no_extension => 1, conf => "max_worker_processes = 3\n");
$node->safe_psql('postgres', "CREATE DATABASE $_") for qw(one two);
$node->safe_psql('one', "CREATE EXTENSION weir; $closes");
eventually($node, $has_worker, 'the first database has the worker', 'one');
$node->safe_psql('two', "CREATE EXTENSION weir; $closes");
in_log($node, qr/WARNING:  out of background worker slots: no worker of weir can start in database "two"\n.*HINT:  Raise max_worker_processes and restart the server\./, 0,
	'the log says that there are too few processes, and which setting to raise');
$node->safe_psql('two', 'INSERT INTO ticks VALUES (now())');
is($node->safe_psql('two', 'SELECT count(*) FROM per_window'), '0', 'INSERT works without a worker');
$node->safe_psql('one', 'DROP EXTENSION weir CASCADE');
eventually($node, $has_worker, 'the second has it as soon as it is free', 'two');
eventually($node, 'SELECT count(*) FROM per_window', 'and it works', '1', db => 'two');
$node->stop;

# More databases than weir.max_databases.
$node = weir_node('many', no_extension => 1, conf => "weir.max_databases = 1\nmax_worker_processes = 16\n");
$node->safe_psql('postgres', "CREATE DATABASE $_") for qw(one two);
$node->safe_psql('one', "CREATE EXTENSION weir; $closes");
eventually($node, $has_worker, 'the first database has a worker', 'one');
$node->safe_psql('two', "CREATE EXTENSION weir; $closes");
in_log($node, qr/WARNING:  no workers for database "two"\n.*DETAIL:  weir has workers in 1 databases already\.\n.*HINT:  Raise weir\.max_databases and restart the server\./, 0,
	'the log says so for one more, and which setting to raise');
is($node->safe_psql('postgres', $has_worker), 'one', 'the first is not disturbed');
$node->safe_psql('one', 'INSERT INTO ticks VALUES (now())');
eventually($node, 'SELECT count(*) FROM per_window', 'it works', '1', db => 'one');
my ($ret, $out, $err) = $node->psql('two', "SELECT weir.wait(timeout => '100 ms')");
is($ret, 0, 'weir.wait of a stream of INSERTs needs no worker') or diag($err);
$node->safe_psql('postgres', 'DROP DATABASE one');
eventually($node, $has_worker, 'the second has workers when the first database is gone', 'two');
$node->safe_psql('two', 'INSERT INTO ticks VALUES (now())');
eventually($node, 'SELECT count(*) FROM per_window', 'and they work', '1', db => 'two');
$node->safe_psql('postgres', 'CREATE DATABASE three');
my $end = -s $node->logfile;
$node->safe_psql('three', 'CREATE EXTENSION weir');
in_log($node, qr/no workers for database "three"/, $end, 'a third one is too many again');
$node->append_conf('postgresql.conf', 'weir.max_databases = 2');
$node->restart;
eventually($node, $has_worker, 'raised, both have workers', 'three,two');
$node->stop;
done_testing();
