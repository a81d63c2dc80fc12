# weir.wait() when the pool of workers changes, and after crashes: it returns when all that the topics held is in
# the views, and the kept rows are there.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WeirKill;
use WeirTest;

my $node = weir_node('main', conf => "weir.workers = 2\nfsync = off\n");
make_kafka_server($node);
my $topic = topic('wait');
kafka()->create($topic, 2);
$node->safe_psql('postgres', <<SQL);
CREATE UNLOGGED TABLE m (k int) WITH (weir.server = 'kafka', weir.topic = '$topic', weir.keep = '1 hour');
CREATE MATERIALIZED VIEW v WITH (weir.continuous) AS SELECT k FROM m;
CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS \$\$ BEGIN PERFORM pg_advisory_xact_lock(NEW.k); RETURN NEW; END \$\$;
CREATE TRIGGER hold BEFORE INSERT ON v FOR EACH ROW EXECUTE FUNCTION hold();
SQL
wait_for($node, 'm');

# Fewer workers. One that is about to leave has finished its batch, and answers for its share of the partitions: for
# the new, smaller pool this is not all.
my $holder = session($node);
$holder->query('SELECT pg_advisory_lock(1), pg_advisory_lock(2)');
kafka()->put($topic, [ '-p', $_ - 1 ], "{\"k\":$_}") for 1, 2;
my $waiting = "FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE l.locktype = 'advisory' AND NOT l.granted";
eventually($node, "SELECT count(*) $waiting", 'both workers are in a batch', '2');
my ($first, $key) = split /\|/, $node->safe_psql('postgres', "SELECT pid, objid $waiting AND a.application_name LIKE 'weir worker 0 %'");
$node->append_conf('postgresql.conf', 'weir.workers = 1');
$node->reload;
my $waiter = session($node);
eventually($node, 'SHOW weir.workers', 'another number of workers', '1');
$waiter->send("SELECT weir.wait('m', '120 s'); SELECT count(*) FROM v");
eventually($node, "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT weir.wait%' AND pid = " . $waiter->pid, 'somebody waits', '1');
$holder->query("SELECT pg_advisory_unlock($key)");
eventually($node, "SELECT count(*) FROM pg_stat_activity WHERE pid = $first", 'the first worker leaves', '0');
$holder->query('SELECT pg_advisory_unlock(' . (3 - $key) . ')');
is($waiter->result =~ s/\s+//gr, '2', 'what the other one had in hand is waited for, too');
$_->quit for $holder, $waiter;

# Crashes: whoever waits in one statement and looks in the next has not seen another crash in between.
$node->append_conf('postgresql.conf', 'weir.workers = 4');
$node->restart;
my $wide = topic('wide');
kafka()->create($wide, 4);
make_orders($node, $wide);
make_orders($node, $wide, name => 'again');
kafka()->fill($wide, 4, 8_000);
wait_for($node, undef);
for my $round (1 .. (quick() ? 6 : 24))
{
	my $kind = (qw(worker backend postmaster))[ $round % 3 ];
	if ($kind eq 'worker') { kill_child($node, 'weir worker'); }
	elsif ($kind eq 'postmaster') { kill_postmaster($node); $node->start; }
	else
	{
		my $session = session($node);
		kill 'KILL', $session->pid;
		await_end($session->pid);
		$session->quit;
	}
	await_server($node);
	my $seen;
	for (1 .. 20)
	{
		$seen = try_sql($node, "SELECT weir.wait(NULL, '60 s'); SELECT (SELECT count(*) FROM weir.marker), (SELECT count(*) FROM orders), (SELECT count(*) FROM again), (SELECT count(*) FROM m)");
		last if defined $seen;
		await_server($node);
	}
	is($seen =~ s/^\n//r, '3|8000|8000|2', "round $round, $kind: the kept rows are there when weir.wait returns");
}

$node->stop;
done_testing();
