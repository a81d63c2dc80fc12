# The broker goes away, topics grow, appear, vanish and lose their past: weir goes
# on without a restart and without loss, or says what is wrong, never in silence.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WeirTest;

my $outage = $ENV{WEIR_OUTAGE} // (quick() ? 3 : 30);
my $kafka = WeirKafka->own;
my $node = weir_node();
make_kafka_server($node, bootstrap => $kafka->bootstrap);

sub oracle { my ($n) = @_; return sales_sql('(' . fill_sql($n) . ') o'); }

# An outage, in order and by kill -9.
my $topic = topic('away');
$kafka->create($topic, 2);
make_orders($node, $topic);
make_sales($node);
$kafka->fill($topic, 2, 1_000);
wait_for($node, 'orders');
$kafka->stop;
my ($ret, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\nSELECT weir.wait('orders', '300 ms')");
isnt($ret, 0, 'weir.wait cannot tell while the broker is away');
select(undef, undef, undef, $outage);    # the outage itself, nothing is awaited
is($node->safe_psql('postgres', "SELECT state FROM weir.streams WHERE stream = 'orders'::regclass") =~ /^(running|waiting)$/ ? 1 : 0,
	1, 'a broker that is away is no failure');
$kafka->start;
$kafka->fill($topic, 2, 1_000, '-f', 1_000);
wait_for($node, 'orders');
same($node, 'sales', oracle(2_000), "nothing lost or doubled after $outage s without a broker");
$kafka->kill9;
$kafka->start;
$kafka->fill($topic, 2, 1_000, '-f', 2_000);
wait_for($node, 'orders');
same($node, 'sales', oracle(3_000), 'nor after kill -9 of the broker');
is(positions($node, 'orders'), $kafka->ends($topic), 'positions are at the end');

# 2 partitions become 6. (Order i is in partition i % 6 from now on.)
$kafka->grow($topic, 6);
$kafka->fill($topic, 6, 3_000, '-f', 3_000);
wait_for($node, 'orders');
same($node, 'sales', oracle(6_000), 'a topic grown from 2 to 6 partitions');
is(positions($node, 'orders'), $kafka->ends($topic), 'all six positions are at the end');

# A topic that appears later.
my $later = topic('later');
($ret, $out, $err) = $node->psql('postgres', <<SQL);
CREATE UNLOGGED TABLE early (order_id bigint, city text, amount numeric, ordered_at timestamptz)
  WITH (weir.server = 'kafka', weir.topic = '$later', weir.event_time = 'ordered_at');
SQL
is($ret, 0, 'a stream over a topic that does not exist yet');
like($err, qr/WARNING|NOTICE/, 'which is said');
eventually($node, "SELECT state FROM weir.streams WHERE stream = 'early'::regclass", 'it waits', 'waiting');
$kafka->create($later, 3);
$kafka->fill($later, 3, 3_000);
eventually($node, 'SELECT count(*) FROM early', 'the topic is found when it appears', '3000');
wait_for($node, 'early');
is($node->safe_psql('postgres', "SELECT state FROM weir.streams WHERE stream = 'early'::regclass"), 'running', 'and the stream runs');

# Transactions: what is aborted does not count, and does not make wait hang at the log's end.
my $tx = topic('tx');
$kafka->create($tx, 1);
make_orders($node, $tx, name => 'txo');
my @line = map { qq({"order_id": $_, "city": "c", "amount": 1, "ordered_at": "2024-01-01T00:00:00Z"}) } 0 .. 9;
$kafka->put($tx, [ '-p', '0', '-x', 't1' ], @line[ 0, 1 ]);
$kafka->put($tx, [ '-p', '0', '-x', 't1', '-a' ], @line[ 2, 3 ]);
wait_for($node, 'txo');
is($node->safe_psql('postgres', 'SELECT string_agg(order_id::text, \',\' ORDER BY order_id) FROM txo'), '0,1', 'an aborted transaction at the end of the log');
$kafka->put($tx, $line[4]);
$kafka->put($tx, [ '-p', '0', '-x', 't2', '-a' ], $line[5]);
$kafka->put($tx, [ '-p', '0', '-x', 't2' ], $line[6]);
wait_for($node, 'txo');
is($node->safe_psql('postgres', 'SELECT string_agg(order_id::text, \',\' ORDER BY order_id) FROM txo'), '0,1,4,6', 'and in its middle');

# What must not be passed over in silence. The workers see it while they run, or after a restart.
sub is_failed
{
	my ($stream, $pattern, $name) = @_;
	eventually($node, "SELECT state FROM weir.streams WHERE stream = '$stream'::regclass", "$name: the stream fails", 'failed');
	like($node->safe_psql('postgres', "SELECT error FROM weir.streams WHERE stream = '$stream'::regclass"), $pattern, "$name: it says why");
	my ($ret, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\nSELECT weir.wait('$stream', '30 s')");
	like($err, qr/55000/, "$name: weir.wait refuses");
	return;
}

# A topic deleted and made anew while the worker is away, or while it reads; shorter or longer than the position.
for my $case ([ 'away', 5 ], [ 'away', 50 ], [ 'here', 5 ], [ 'here', 50 ])
{
	my ($where, $count) = @$case;
	my $name = "made anew while $where with $count messages";
	my $stream = "anew_${where}_$count";
	my $t = topic('anew');
	$kafka->create($t, 1);
	make_orders($node, $t, name => $stream);
	$kafka->fill($t, 1, 10);
	wait_for($node, $stream);
	$node->stop if $where eq 'away';
	$kafka->delete($t);
	$kafka->create($t, 1);
	$kafka->fill($t, 1, $count, '-f', 1_000_000);
	$node->start if $where eq 'away';
	is_failed($stream, qr/\S/, $name);
	is($node->safe_psql('postgres', "SELECT count(*) FROM $stream WHERE order_id >= 1000000"), '0', "$name: nothing of the new topic is mixed in");
	$node->safe_psql('postgres', "DROP TABLE $stream");
}

# Retention passes the position while the worker is away.
my $short = topic('short');
$kafka->create($short, 1);
make_orders($node, $short, name => 'short');
$kafka->fill($short, 1, 10);
wait_for($node, 'short');
$node->stop;
$kafka->fill($short, 1, 10, '-f', 10);
$kafka->trim($short, 0, 15);
$node->start;
is_failed('short', qr/\S/, 'retention past the position');
is($node->safe_psql('postgres', "SELECT max(order_id) FROM short"), '9', 'nothing was skipped');
$node->safe_psql('postgres', 'DROP TABLE short');

# The others were not disturbed.
$kafka->fill($topic, 6, 600, '-f', 6_000);
wait_for($node, 'orders');
same($node, 'sales', oracle(6_600), 'the other streams went on');

$node->stop;
$kafka->stop;
done_testing();
