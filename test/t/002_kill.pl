# A million messages while workers, backends and the whole server are killed:
# afterwards every message counts exactly once, and positions are at the log's end.
#
# The moments of the kills are random: after so many more messages have been
# applied, or at once. The seed is printed; WEIR_SEED sets it.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WeirKill;
use WeirTest;

my $messages = quick() ? 200_000 : 1_000_000;
my $kills = quick() ? 7 : 24;
my $seed = $ENV{WEIR_SEED} // time;
srand($seed);
diag("seed $seed");

my %kill = (
	worker => sub { return kill_child($_[0], 'weir worker') // 0; },
	backend => sub {
		my ($node) = @_;
		my $session = session($node);
		return 0 if ($session->pid // '') !~ /^\d+$/;
		$session->send('SELECT sum(orders) FROM sales, generate_series(1, 100000)') if rand() < 0.5;
		kill 'KILL', $session->pid;
		await_end($session->pid);
		$session->quit;
		await_server($node);
		return 1;
	},
	postmaster => sub {
		my ($node) = @_;
		kill_postmaster($node);
		$node->start;
		await_server($node);
		return 1;
	},
	immediate => sub {
		my ($node) = @_;
		$node->stop('immediate');
		$node->start;
		await_server($node);
		return 1;
	},
	terminate => sub {
		my ($node) = @_;
		return eval
		{
			$node->safe_psql('postgres',
				"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'weir worker'") ne '';
		};
	},);

my $filled = topic('kill');
kafka()->create($filled, 4);
kafka()->fill($filled, 4, $messages);

sub survive
{
	my ($name, $conf) = @_;
	my $node = weir_node($name, conf => "weir.batch_rows = 5000\nfsync = off\n$conf");

	make_kafka_server($node);
	# In one transaction, so that no view misses the first messages. One view
	# aggregates, one appends, one has a single row.
	$node->safe_psql('postgres', <<SQL);
BEGIN;
CREATE UNLOGGED TABLE orders (order_id bigint, city text, amount numeric, ordered_at timestamptz)
  WITH (weir.server = 'kafka', weir.topic = '$filled', weir.event_time = 'ordered_at', weir.keep = '5 s');
CREATE MATERIALIZED VIEW sales WITH (weir.continuous) AS @{[ sales_sql('orders') ]};
CREATE MATERIALIZED VIEW hundredth WITH (weir.continuous) AS
  SELECT order_id, city, amount FROM orders WHERE order_id % 100 = 7;
CREATE MATERIALIZED VIEW totals WITH (weir.continuous) AS SELECT count(*) AS n, sum(amount) AS amount FROM orders;
COMMIT;
SQL

	my ($done, $during, %done) = (0, 0);
	my @kinds = ((qw(worker backend postmaster immediate)) x 10, 'terminate');
	my $last = 0;
	while ($done < $kills)
	{
		my $now = applied($node, 'orders');
		$during++ if !defined $now;
		if (defined $now)
		{
			my $left = $messages - $now;
			$during++ if $left > 0;
			# what is left is shared among the kills that are left
			my $target = $now + int(rand() * 1.5 * $left / ($kills - $done + 1));
			while (defined $now && $now < $target) { $now = applied($node, 'orders'); }
			$last = $now if defined $now;
		}
		my $kind = $done < 5 ? (sort keys %kill)[$done] : $kinds[ rand @kinds ];
		if (!$kill{$kind}->($node))
		{
			$during--;
			next;
		}
		$done{$kind}++;
		$done++;
	}
	diag("$name: " . join(', ', map { "$done{$_} x $_" } sort keys %done) . "; the last one after $last messages");
	cmp_ok($during, '>=', quick() ? 4 : 20, "$name: killed often enough while there was something to do");

	# the last kill may still be on its way to the postmaster
	for (1 .. 20)
	{
		await_server($node);
		last if eval { wait_for($node, 'orders', timeout => '300 s'); 1 };
		diag($@);
	}
	same($node, 'sales', sales_sql('(' . fill_sql($messages) . ') o'), "$name: the view equals the oracle");
	same($node, 'hundredth', 'SELECT order_id, city, amount FROM (' . fill_sql($messages) . ') o WHERE order_id % 100 = 7',
		"$name: so does the one without aggregates");
	is($node->safe_psql('postgres', 'SELECT n FROM totals'), $messages, "$name: and the total");
	is(positions($node, 'orders'), kafka()->ends($filled), "$name: positions are at the log's end");
	is($node->safe_psql('postgres', 'SELECT count(*) FROM weir.dead_letters'), '0', "$name: no dead letters");
	$node->stop;
	return;
}

survive('plain', '');
survive('async', 'synchronous_commit = off');
survive('four', "weir.workers = 4\nweir.batch_rows = 1000");

done_testing();
