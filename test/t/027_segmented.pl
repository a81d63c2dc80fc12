# Segmented views: crashes while segments are emptied, publications that want to see rows go, dump and restore.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WeirTest;

my $node = weir_node('main', conf => "wal_level = logical\n");
$node->safe_psql('postgres', <<'SQL');
CREATE TABLE ev (k int, v int, at timestamptz) WITH (weir.stream, weir.event_time = 'at', weir.keep = '10 days');
CREATE MATERIALIZED VIEW merged WITH (weir.continuous, weir.keep = '1 hour', weir.segmented) AS
  SELECT window_start, k, count(*) AS n, avg(v) AS mean FROM ev, tumble(at, '1 minute') GROUP BY window_start, k;
CREATE MATERIALIZED VIEW plain WITH (weir.continuous, weir.keep = '1 hour', weir.segmented) AS SELECT at, k, v FROM ev;
SQL

# Rows of so many minutes, from the minute where the last call ended; 10 a minute.
my $minute = 0;
sub insert
{
	my ($minutes, %opt) = @_;
	$node->safe_psql($opt{db} // 'postgres', "INSERT INTO ev SELECT i % 7, i, timestamptz '2026-01-01' + i * interval '6 s'"
		  . ' FROM generate_series(' . ($minute * 10) . ', ' . (($minute + $minutes) * 10 - 1) . ') i');
	$minute += $minutes;
	return;
}

# What is more than a span behind weir.keep goes; what is covered stays.
sub expired
{
	my ($name, %opt) = @_;
	my $db = $opt{db} // 'postgres';
	my $kept = "timestamptz '2026-01-01' + interval '1 minute' * ($minute - 61)";

	local $Test::Builder::Level = $Test::Builder::Level + 1;
	eventually($node, "SELECT min(window_start) > $kept - interval '18 minutes' FROM merged", "$name: what is too old goes", 't', db => $db);
	eventually($node, "SELECT min(at) > $kept - interval '18 minutes' FROM plain", "$name: of both views", 't', db => $db);
	is($node->safe_psql($db, "SELECT count(DISTINCT window_start) >= 60 FROM merged WHERE window_start >= $kept"), 't', "$name: what is kept is there");
	verified($node, $_, "$name: $_ equals its query", db => $db) for qw(merged plain);
	return;
}

my $files = "SELECT string_agg(relfilenode::text, ' ' ORDER BY c.oid) FROM pg_class c JOIN pg_inherits ON inhrelid = c.oid WHERE inhparent = 'plain'::regclass";

insert(10) for 1 .. 12;
expired('at first');

# the server, or the expirer alone, dies while segments become due
for my $round (1 .. 6)
{
	insert(20) for 1 .. 4;
	if ($round % 2)
	{
		$node->stop('immediate');
		$node->start;
	}
	else
	{
		my $pid = $node->safe_psql('postgres', "SELECT pid FROM pg_stat_activity WHERE backend_type = 'weir expirer'");
		kill('KILL', $pid) if $pid;
		ok($node->poll_query_until('postgres', 'SELECT true', 't'), 'the server is back') if $pid;
	}
	verified($node, $_, "crash $round: $_") for qw(merged plain);
}
$node->poll_query_until('postgres', "SELECT count(*) > 0 FROM pg_stat_activity WHERE backend_type = 'weir expirer'");
insert(20);
expired('after crashes');

# who replicates deletes gets them
$node->safe_psql('postgres', 'ALTER TABLE plain REPLICA IDENTITY FULL; CREATE PUBLICATION p FOR TABLE plain');
my $before = $node->safe_psql('postgres', $files);
insert(20) for 1 .. 3;
expired('published');
is($node->safe_psql('postgres', $files), $before, 'rows of a published view were deleted one by one');
$node->safe_psql('postgres', 'DROP PUBLICATION p; ALTER TABLE plain REPLICA IDENTITY DEFAULT');
insert(20) for 1 .. 3;
expired('not published any more');
isnt($node->safe_psql('postgres', $files), $before, 'and are truncated when nobody looks');

# dump and restore
my $file = PostgreSQL::Test::Utils::tempdir() . '/dump';
$node->command_ok([ 'pg_dump', '-Fc', '-f', $file, '-d', $node->connstr('postgres') ], 'pg_dump');
$node->safe_psql('postgres', 'CREATE DATABASE copy TEMPLATE template0');
$node->command_ok([ 'pg_restore', '--exit-on-error', '-d', $node->connstr('copy'), $file ], 'pg_restore');
my %copy = (db => 'copy');
is($node->safe_psql('copy', "SELECT count(*), count(DISTINCT relkind) FROM pg_class JOIN pg_inherits ON inhrelid = pg_class.oid JOIN weir.view_def ON inhparent IN (view, state)"),
	'18|1', 'three tables of six segments');
verified($node, $_, "restored: $_ equals its query", %copy) for qw(merged plain);
$before = $node->safe_psql('copy', $files);
insert(20, %copy) for 1 .. 3;
expired('restored', %copy);
isnt($node->safe_psql('copy', $files), $before, 'and segments are emptied');
my ($ret) = $node->psql('copy', 'DELETE FROM merged');
isnt($ret, 0, 'the restored view is protected');
my ($ret2, $out, $err) = $node->psql('copy', 'DROP EXTENSION weir CASCADE');
like($err, qr/would go with it/, 'the extension does not take rows along');
$node->safe_psql('copy', 'DROP TABLE ev CASCADE; DROP EXTENSION weir CASCADE');
is($node->safe_psql('copy', "SELECT count(*) FROM pg_class WHERE relname LIKE 'slot\\_%'"), '0', 'nothing is left');
$node->stop;
done_testing();
