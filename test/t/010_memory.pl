# A stopped database (a lock held while a million messages wait) does not make
# the worker grow beyond weir.memory.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WeirTest;

my $messages = quick() ? 200_000 : 1_000_000;
my $limit = 64;     # MB, weir.memory
my $slack = 96;     # MB: the server's own memory, librdkafka's code and threads, one plan or two

my $node = weir_node('main', conf => "weir.memory = '${limit}MB'\nshared_buffers = '32MB'");
my $topic = topic('orders');
kafka()->create($topic, 2);
make_kafka_server($node);
make_orders($node, $topic, with => "weir.keep = '0'");
make_sales($node);
kafka()->fill($topic, 2, 1_000);
wait_for($node, 'orders');
my ($pid) = worker_pids($node);

# Private memory and what it shares, without the buffer pool's part.
sub rss
{
	my $status = slurp_file("/proc/$pid/status");
	my ($anon) = $status =~ /^RssAnon:\s+(\d+) kB/m;
	my ($file) = $status =~ /^RssFile:\s+(\d+) kB/m;
	return ($anon + $file) / 1024;
}

my $before = rss();
my $session = session($node);
$session->query('BEGIN; LOCK TABLE sales IN ACCESS EXCLUSIVE MODE');
kafka()->fill($topic, 2, $messages, '-f', 1_000);

# The worker is stuck in its batch, and its queue fills: until it stops growing.
eventually($node, "SELECT count(*) > 0 FROM pg_stat_activity WHERE pid = $pid AND wait_event_type = 'Lock'", 'the worker waits for the lock');
my $peak = rss();
for my $round (1 .. 6)
{
	select(undef, undef, undef, 1);    # watching it is the test
	my $now = rss();
	$peak = $now if $now > $peak;
}
diag(sprintf('%d MB before, at most %d MB with %d messages waiting', $before, $peak, $messages));
cmp_ok($peak, '<=', $limit + $slack, 'memory stays within weir.memory and a fixed slack');
$session->query('COMMIT');
$session->quit;
wait_for($node, 'orders', timeout => '180 s');
my $after = rss();
diag(sprintf('%d MB after all is applied', $after));
cmp_ok($after, '<=', $limit + $slack, 'also after it has caught up');
same($node, 'sales', sales_sql('(' . fill_sql($messages + 1_000) . ') o'), 'every message counts once');
is_deeply([ worker_pids($node) ], [$pid], 'it was the same worker all the time');
$node->stop;
done_testing();
