# Workers come and go with databases, extensions and the server's role.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WeirTest;

my $node = weir_node('primary', init => { allows_streaming => 1 }, no_extension => 1);
my %topic;
for my $db (qw(one two))
{
	$topic{$db} = topic($db);
	kafka()->create($topic{$db}, 2);
	$node->safe_psql('postgres', "CREATE DATABASE $db");
	$node->safe_psql($db, 'CREATE EXTENSION weir');
	make_kafka_server($node, db => $db);
	make_orders($node, $topic{$db}, db => $db);
	make_sales($node, db => $db);
}
kafka()->fill($topic{one}, 2, 2_000);
kafka()->fill($topic{two}, 2, 3_000);
wait_for($node, 'orders', db => $_) for qw(one two);
same($node, 'sales', sales_sql('(' . fill_sql(2_000) . ') o'), 'database one', db => 'one');
same($node, 'sales', sales_sql('(' . fill_sql(3_000) . ') o'), 'database two', db => 'two');
is($node->safe_psql('postgres', "SELECT string_agg(datname, ',' ORDER BY datname) FROM pg_stat_activity WHERE backend_type = 'weir worker'"),
	'one,two', 'a worker each');

# A database can be dropped and copied with workers in it.
my ($ret, $out, $err) = $node->psql('postgres', 'DROP DATABASE two');
is("$ret $err", '0 ', 'DROP DATABASE succeeds');
($ret, $out, $err) = $node->psql('postgres', 'CREATE DATABASE three TEMPLATE one');
is("$ret $err", '0 ', 'CREATE DATABASE ... TEMPLATE succeeds');
kafka()->fill($topic{one}, 2, 2_000, '-f', 2_000);
wait_for($node, 'orders', db => $_) for qw(one three);
same($node, 'sales', sales_sql('(' . fill_sql(4_000) . ') o'), "database $_ goes on", db => $_) for qw(one three);

# DROP EXTENSION CASCADE: plain tables stay, nothing of weir does.
($ret, $out, $err) = $node->psql('three', 'DROP EXTENSION weir CASCADE');
is($ret, 0, 'DROP EXTENSION CASCADE') or diag($err);
is($node->safe_psql('three', <<SQL), '0', 'leaves nothing of weir');
SELECT (SELECT count(*) FROM pg_namespace WHERE nspname = 'weir') + (SELECT count(*) FROM pg_extension WHERE extname = 'weir')
  + (SELECT count(*) FROM pg_proc WHERE probin LIKE '%weir%') + (SELECT count(*) FROM pg_am WHERE amname LIKE 'weir%')
  + (SELECT count(*) FROM pg_trigger t JOIN pg_proc p ON p.oid = tgfoid WHERE probin LIKE '%weir%')
  + (SELECT count(*) FROM pg_foreign_data_wrapper) + (SELECT count(*) FROM pg_foreign_server)
SQL
is($node->safe_psql('three', 'SELECT sum(orders) FROM sales'), '4000', 'the view is there as a plain table');
is($node->safe_psql('three', 'UPDATE sales SET orders = 0; SELECT sum(orders) FROM sales'), '0', 'that can be written');
($ret, $out, $err) = $node->psql('three', 'SELECT count(*) FROM orders');
is($ret, 0, 'the stream is there as a plain table') or diag($err);
($ret, $out, $err) = $node->psql('three', 'DROP TABLE orders, sales');
is($ret, 0, 'and both can be dropped') or diag($err);
$node->poll_query_until('postgres', "SELECT count(*) = 0 FROM pg_stat_activity WHERE backend_type = 'weir worker' AND datname = 'three'");
is(scalar(worker_pids($node, db => 'three')), 0, 'its worker left');

# A standby runs no workers; promoted, it does.
$node->backup('b');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($node, 'b', has_streaming => 1);
$standby->start;
kafka()->fill($topic{one}, 2, 1_000, '-f', 4_000);
wait_for($node, 'orders', db => 'one');
$node->wait_for_catchup($standby, 'replay', $node->lsn('write'));
is(scalar(worker_pids($standby)), 0, 'no worker on a standby');
same($standby, 'sales', sales_sql('(' . fill_sql(5_000) . ') o'), 'the standby has the view', db => 'one');
$node->stop;
$standby->promote;
kafka()->fill($topic{one}, 2, 1_000, '-f', 5_000);
wait_for($standby, 'orders', db => 'one');
same($standby, 'sales', sales_sql('(' . fill_sql(6_000) . ') o'), 'after promotion it goes on exactly', db => 'one');

# weir.enabled stops all, and starts again.
$standby->append_conf('postgresql.conf', 'weir.enabled = off');
$standby->reload;
eventually($standby, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'weir worker'", 'weir.enabled = off stops the workers', '0');
$standby->append_conf('postgresql.conf', 'weir.enabled = on');
$standby->reload;
kafka()->fill($topic{one}, 2, 1_000, '-f', 6_000);
wait_for($standby, 'orders', db => 'one');
is($standby->safe_psql('one', 'SELECT sum(orders) FROM sales'), '7000', 'and on starts them');
$standby->stop;
done_testing();
