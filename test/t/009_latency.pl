# A lone message is in the view within weir.batch_interval and a little; a
# worker without messages does nothing at all.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WeirTest;

my $node = weir_node();
my $topic = topic('orders');
kafka()->create($topic, 1);
$node->safe_psql('postgres', "CREATE SERVER kafka FOREIGN DATA WRAPPER weir_kafka OPTIONS (bootstrap_servers '@{[ kafka()->bootstrap ]}')");
sub order { my ($i) = @_; return qq({"order_id": $i, "city": "c", "amount": 1, "ordered_at": "2024-01-01T00:00:00Z"}); }

# From the message's own timestamp (when it was produced) to the moment that its row was
# made in the batch; the commit follows within a millisecond or two.
sub latencies
{
	my ($from, $count) = @_;
	my @ms;
	for my $i ($from .. $from + $count - 1)
	{
		kafka()->put($topic, order($i));
		wait_for($node, 'timed');
	}
	return split /\n/, $node->safe_psql('postgres', <<SQL);
SELECT round(1000 * extract(epoch FROM seen - produced)) FROM seen ORDER BY order_id OFFSET $from LIMIT $count
SQL
}

$node->safe_psql('postgres', <<SQL);
CREATE UNLOGGED TABLE timed (order_id bigint, _timestamp timestamptz, seen timestamptz DEFAULT clock_timestamp())
  WITH (weir.server = 'kafka', weir.topic = '$topic');
CREATE MATERIALIZED VIEW seen WITH (weir.continuous) AS SELECT order_id, _timestamp AS produced, seen FROM timed;
SQL
kafka()->put($topic, order(0));
wait_for($node);

for my $setting ([ '100 ms', 100 ], [ '10 ms', 10 ])
{
	my ($interval, $ms) = @$setting;
	$node->safe_psql('postgres', "ALTER SYSTEM SET weir.batch_interval = '$interval'; SELECT pg_reload_conf()");
	my @ms;

	# what the machine does besides passes; what weir adds would be there in every round
	for my $round (1 .. 5)
	{
		my $from = $node->safe_psql('postgres', 'SELECT count(*) FROM timed');
		@ms = sort { $a <=> $b } latencies($from, 11);
		diag("batch_interval $interval: latencies " . join(' ', @ms) . ' ms');
		last if $ms[5] <= $ms + 50 && $ms[9] <= $ms + 400;
	}
	cmp_ok($ms[5], '<=', $ms + 50, "a lone message: median within weir.batch_interval = $interval and 50 ms");
	cmp_ok($ms[9], '<=', $ms + 400, 'and nearly all of them within 400 ms more');
}

# An idle worker: voluntary context switches of its main thread between two
# moments of a quiet server. The wait between is the thing measured.
sub switches
{
	my ($pid) = @_;
	my ($n) = slurp_file("/proc/$pid/status") =~ /^voluntary_ctxt_switches:\s+(\d+)/m;
	return $n;
}
my ($pid) = worker_pids($node);
wait_for($node);
select(undef, undef, undef, 3);
my $first = switches($pid);
select(undef, undef, undef, 10);
my $woken = switches($pid) - $first;
diag("an idle worker woke up $woken times in 10 s");
cmp_ok($woken, '<=', 15, 'an idle worker wakes for events only');
is_deeply([ worker_pids($node) ], [$pid], 'it was the same worker all the time');

$node->stop;
done_testing();
