# A crash empties the unlogged stream: a marker tells, it is logged once, and
# the kept rows are fetched again from Kafka without touching the views.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WeirTest;

my $node = weir_node();
my $topic = topic('orders');
kafka()->create($topic, 3);
make_kafka_server($node);
make_orders($node, $topic, with => "weir.keep = '20 s'");
make_sales($node);
kafka()->fill($topic, 3, 60_000);
wait_for($node, 'orders');
my $kept = $node->safe_psql('postgres', 'SELECT count(*), min(order_id), max(order_id) FROM orders');
cmp_ok((split /\|/, $kept)[0], '<', 60_000, 'the stream does not keep everything');
cmp_ok((split /\|/, $kept)[0], '>=', 20_000, 'but its last 20 seconds');

my $batch = $node->safe_psql('postgres', "SELECT batch FROM weir.views WHERE view = 'sales'::regclass");
my $oracle = sales_sql('(' . fill_sql(60_000) . ') o');
same($node, 'sales', $oracle, 'before the crash');

for my $round (1 .. 2)
{
	my $log = -s $node->logfile;
	$node->stop('immediate');
	$node->start;
	wait_for($node, 'orders');
	eventually($node, "SELECT count(*) FROM orders WHERE order_id >= 40000", "round $round: the kept rows are back", '20000');
	is($node->safe_psql('postgres', 'SELECT count(*) FROM (SELECT order_id FROM orders GROUP BY 1 HAVING count(*) > 1) d'),
		'0', "round $round: each once");
	is($node->safe_psql('postgres', "SELECT batch FROM weir.views WHERE view = 'sales'::regclass"), $batch, "round $round: the view was not touched");
	same($node, 'sales', $oracle, "round $round: the view is as before");
	my $text = slurp_file($node->logfile, $log);
	my @said = $text =~ /(LOG: [^\n]*kept rows were lost[^\n]*)/g;
	is(scalar(@said), 1, "round $round: logged once") or diag(join("\n", @said));
}

# It goes on from there.
kafka()->fill($topic, 3, 3_000, '-f', 60_000);
wait_for($node, 'orders');
same($node, 'sales', sales_sql('(' . fill_sql(63_000) . ') o'), 'new messages count once');
is($node->safe_psql('postgres', 'SELECT count(*) FROM orders WHERE order_id >= 43000'), '20000', 'and are kept');
is(positions($node, 'orders'), kafka()->ends($topic), 'positions are at the end');

# A clean restart fetches nothing.
my $log = -s $node->logfile;
$node->restart;
wait_for($node, 'orders');
unlike(slurp_file($node->logfile, $log), qr/kept rows were lost/, 'a clean restart has nothing to fetch');

# A logged stream survives by itself.
$node->safe_psql('postgres', <<SQL);
CREATE TABLE ledger (order_id bigint, ordered_at timestamptz)
  WITH (weir.server = 'kafka', weir.topic = '$topic', weir.event_time = 'ordered_at', weir.keep = '1 hour');
SQL
wait_for($node, 'ledger');
$log = -s $node->logfile;
$node->stop('immediate');
$node->start;
is($node->safe_psql('postgres', 'SELECT count(*) FROM ledger'), '63000', 'a logged stream keeps its rows through a crash');
wait_for($node, 'ledger');
is($node->safe_psql('postgres', 'SELECT count(*) FROM ledger'), '63000', 'and gets none twice');

$node->stop;
done_testing();
