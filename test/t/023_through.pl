# Topic in, views, topic out, exactly once from end to end, while workers,
# the publisher, the server and the broker are killed: finals of a filter (each
# message once) and the last state of each group.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WeirKill;
use WeirTest;

my $messages = quick() ? 100_000 : 500_000;
my $kills = quick() ? 5 : 20;
my $seed = $ENV{WEIR_SEED} // time;
srand($seed);
diag("seed $seed");

my $kafka = WeirKafka->own;
my ($in, $rows, $states) = map { topic($_) } qw(in rows states);
$kafka->create($in, 4);
$kafka->create($rows, 2);
$kafka->create($states, 2);
$kafka->fill($in, 4, $messages);

my $node = weir_node('main', conf => "synchronous_commit = off\nrestart_after_crash = on\nfsync = off\nweir.batch_rows = 2000\n");
make_kafka_server($node, bootstrap => $kafka->bootstrap);
make_orders($node, $in, with => "weir.keep = '1 s'");
make_sales($node);
$node->safe_psql('postgres', <<SQL);
SELECT weir.pause('orders');
CREATE MATERIALIZED VIEW fifth WITH (weir.continuous) AS SELECT order_id, city FROM orders WHERE order_id % 5 = 0;
SQL
$node->safe_psql('postgres', <<SQL);
CREATE TRIGGER pub AFTER INSERT ON fifth FOR EACH ROW EXECUTE FUNCTION weir.publish('kafka', '$rows', 'key=order_id');
CREATE TRIGGER pub AFTER INSERT OR UPDATE OR DELETE ON sales FOR EACH ROW EXECUTE FUNCTION weir.publish('kafka', '$states');
SELECT weir.snapshot('sales', 'pub');
SELECT weir.snapshot('fifth', 'pub');
SELECT weir.resume('orders');
SQL

my %kill = (
	worker => sub { return kill_child($node, 'weir worker') // 0; },
	publisher => sub { return kill_child($node, 'weir publisher') // 0; },
	immediate => sub { $node->stop('immediate'); $node->start; return 1; },
	broker => sub { $kafka->kill9; $kafka->start; return 1; },);

my ($done, %done) = (0);
while ($done < $kills)
{
	my $now = applied($node, 'orders') // next;
	my $target = $now + int(rand() * 1.5 * ($messages - $now) / ($kills - $done + 1));
	my $deadline = time + 180;
	while (($now = applied($node, 'orders') // 0) < $target)
	{
		die 'nothing is applied any more' if time > $deadline;
	}
	my $kind = $done < keys %kill ? (sort keys %kill)[$done] : (keys %kill)[ rand keys %kill ];
	next if !$kill{$kind}->();
	$done{$kind}++;
	$done++;
}
diag(join(', ', map { "$done{$_} x $_" } sort keys %done));

wait_for($node, 'orders', timeout => '300 s');
same($node, 'sales', sales_sql('(' . fill_sql($messages) . ') o'), 'the view equals the oracle');
eventually($node, 'SELECT COALESCE(sum(pending), 0) FROM weir.stat_sinks', 'everything is sent', 0);

my %count;
$count{ (split /\t/)[1] }++ foreach $kafka->cat($rows);
is(scalar(keys %count), $messages / 5, 'each row of the filter is there');
is(scalar(grep { $_ > 1 } values %count), 0, 'none twice');

my %last;
my $backwards = 0;
foreach ($kafka->cat($states))
{
	my ($partition, $key, $value) = split /\t/;
	my ($n) = $value =~ /"orders":(\d+)/;
	$backwards++ if exists $last{$key} && $last{$key} =~ /"orders":(\d+)/ && $1 >= $n;
	$last{$key} = $value;
}
is($backwards, 0, 'the states of each group in order');
is(scalar(keys %last), $node->safe_psql('postgres', 'SELECT count(*) FROM sales'), 'each group has a last state');
my $sum = 0;
$sum += /"orders":(\d+)/ ? $1 : 0 foreach values %last;
is($sum, $messages, 'which counts each message once');

$node->stop;
done_testing();
