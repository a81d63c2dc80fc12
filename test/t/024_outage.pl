# A broker that is away: writers are not held up, nothing is lost, order holds, and
# everything is caught up with. An outbox that is full makes a stream pause.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);
use WeirTest;

my $outage = $ENV{WEIR_OUTAGE} // (quick() ? 10 : 60);
my $kafka = WeirKafka->own;
my $target = topic('out');
$kafka->create($target, 3);
my $node = weir_node('main', conf => "fsync = off\n");
make_kafka_server($node, bootstrap => $kafka->bootstrap);

# Batches of 100 changes, 50 times a second, at pgbench's pace; its log has what each took, in microseconds.
$node->safe_psql('postgres', <<SQL);
CREATE TABLE state (id int PRIMARY KEY, n int NOT NULL);
INSERT INTO state SELECT i, 0 FROM generate_series(1, 1000) i;
CREATE TRIGGER pub AFTER UPDATE ON state FOR EACH ROW EXECUTE FUNCTION weir.publish('kafka', '$target', 'changes=all');
SQL
my $script = $node->basedir . '/write.sql';
append_to_file($script, "\\set i random(0, 9)\nUPDATE state SET n = n + 1 WHERE id BETWEEN :i * 100 + 1 AND :i * 100 + 100;\n");

sub start_writer
{
	my ($name, $seconds) = @_;
	my ($in, $out, $err) = ('', '', '');
	return IPC::Run::start(
		[ 'pgbench', '-n', '-c', 1, '-R', 50, '-t', int($seconds * 50), '-l', '--log-prefix', $node->basedir . "/$name",
			'-f', $script, $node->connstr('postgres') ],
		'<', \$in, '>', \$out, '2>', \$err);
}

# Without the time that a transaction waited for its turn: latency less schedule lag. The last quarter is left
# out: the broker may be back then.
sub p95
{
	my ($name) = @_;
	my ($log) = glob $node->basedir . "/$name.*";
	my @took = map { my @f = split; ($f[2] - $f[6]) / 1000 } split /\n/, slurp_file($log);
	@took = sort { $a <=> $b } @took[ 0 .. int(@took * 3 / 4) - 1 ];
	return $took[ @took * 0.95 ];
}

start_writer('before', 2)->finish;
eventually($node, 'SELECT pending FROM weir.stat_sinks', 'it is sent while the broker is there', 0);
my $before = p95('before');
my $writer = start_writer('during', $outage * 4 / 3);
$kafka->stop;
eventually($node, "SELECT state FROM weir.stat_sinks", 'the broker that is away is shown', 'waiting');
$node->poll_query_until('postgres', "SELECT sum(n) > 5000 * ($outage + 2) FROM state") or die 'the writer stopped';
$kafka->start;
$writer->finish;
my $during = p95('during');
cmp_ok($during, '<', 4 * $before + 10, sprintf('writers are not slowed (p95 %.1f ms, before %.1f ms)', $during, $before));
my $start = time;
eventually($node, 'SELECT pending FROM weir.stat_sinks', 'it catches up', 0);
diag(sprintf('caught up %.1f s after the last change', time - $start));
is($node->safe_psql('postgres', 'SELECT state, error FROM weir.stat_sinks'), 'running|', 'and is running');

my (%last, $wrong);
$wrong = 0;
foreach ($kafka->cat($target))
{
	my ($partition, $key, $value) = split /\t/;
	my ($n) = $value =~ /"n":(\d+)/;
	$wrong++ if $n != ($last{$key} // 0) + 1;
	$last{$key} = $n;
}
is($wrong, 0, 'each change once and in order');
my $sum = 0;
$sum += $_ foreach values %last;
is($sum, $node->safe_psql('postgres', 'SELECT sum(n) FROM state'), 'up to the last one');

# A full outbox: the stream stands still, and goes on when there is room.
my $messages = 100_000;
my ($in, $out) = (topic('in'), topic('through'));
$kafka->create($in, 2);
$kafka->create($out, 2);
$node->append_conf('postgresql.conf', "weir.outbox_limit = '4MB'\nweir.batch_rows = 5000\n");
$node->reload;
make_orders($node, $in, with => "weir.keep = '1 s'");
$node->safe_psql('postgres', <<SQL);
CREATE MATERIALIZED VIEW copy WITH (weir.continuous) AS SELECT order_id, city, amount FROM orders;
CREATE TRIGGER pub AFTER INSERT ON copy FOR EACH ROW EXECUTE FUNCTION weir.publish('kafka', '$out', 'key=order_id');
SELECT weir.pause_sink('public.copy.pub');
SQL
$kafka->fill($in, 2, $messages);
eventually($node, "SELECT bool_or(error ~ 'outbox is full') FROM weir.stat_streams WHERE stream = 'orders'::regclass", 'the stream says that the outbox is full');
cmp_ok($node->safe_psql('postgres', 'SELECT count(*) FROM copy'), '<', $messages, 'it has stopped before the end');
is($node->safe_psql('postgres', "SELECT state FROM weir.streams WHERE stream = 'orders'::regclass"), 'running', 'but not failed');
$node->safe_psql('postgres', "SELECT weir.resume_sink('public.copy.pub')");
wait_for($node, 'orders');
eventually($node, "SELECT pending FROM weir.stat_sinks WHERE sink = 'public.copy.pub'", 'everything got through', 0);
my %count;
$count{ (split /\t/)[1] }++ foreach $kafka->cat($out);
is(scalar(keys %count), $messages, 'all of it');
is(scalar(grep { $_ > 1 } values %count), 0, 'each once');

$node->stop;
done_testing();
