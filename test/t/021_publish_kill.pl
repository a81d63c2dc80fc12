# Exactly once to Kafka: while writers write, the publisher, the server and the
# broker are killed. Afterwards a read_committed consumer has each committed change
# once, and the changes of a key in the order of their commits.
#
# synchronous_commit is off, so that a crash takes back transactions that were
# committed a moment ago: what Kafka has must never be one of them.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WeirKill;
use WeirTest;

my $kills = quick() ? 6 : 20;
my $keys = 50;
my $writers = 3;
my $seed = $ENV{WEIR_SEED} // time;
srand($seed);
diag("seed $seed");

my $kafka = WeirKafka->own;
my ($events, $state) = (topic('events'), topic('state'));
$kafka->create($events, 4);
$kafka->create($state, 2);
my $node = weir_node('main', conf => "synchronous_commit = off\nrestart_after_crash = on\nfsync = off\n");
make_kafka_server($node, bootstrap => $kafka->bootstrap);

$node->safe_psql('postgres', <<SQL);
CREATE TABLE event (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, writer int);
CREATE TABLE state (id int PRIMARY KEY, n int NOT NULL);
INSERT INTO state SELECT i, 0 FROM generate_series(1, $keys) i;
CREATE TRIGGER pub AFTER INSERT OR UPDATE OR DELETE ON event FOR EACH ROW EXECUTE FUNCTION weir.publish('kafka', '$events');
CREATE TRIGGER pub AFTER INSERT OR UPDATE OR DELETE ON state FOR EACH ROW EXECUTE FUNCTION weir.publish('kafka', '$state', 'changes=all');
-- transactions of different length, some rolled back, some with savepoints
CREATE PROCEDURE write(writer int) LANGUAGE plpgsql AS \$\$
BEGIN
  FOR i IN 1 .. 1 + (random() * 3)::int LOOP
    INSERT INTO event (writer) VALUES (writer);
    UPDATE state SET n = n + 1 WHERE id = 1 + (random() * ($keys - 1))::int;
    BEGIN
      INSERT INTO event (writer) VALUES (writer);
      IF random() < 0.3 THEN
        RAISE EXCEPTION 'back to the savepoint';
      END IF;
    EXCEPTION WHEN raise_exception THEN
    END;
  END LOOP;
  IF random() < 0.2 THEN
    ROLLBACK;
  END IF;
END
\$\$;
SQL

my $load;
my $script = $node->basedir . '/write.sql';
append_to_file($script, "CALL write(:client_id);\n");

# pgbench keeps the pace; it ends when the server does.
sub start_writers
{
	my ($in, $out, $err) = ('', '', '');
	$load = IPC::Run::start(
		[ 'pgbench', '-n', '-c', $writers, '-R', 400 * $writers, '-T', 3600, '-f', $script, $node->connstr('postgres') ],
		'<', \$in, '>', \$out, '2>', \$err);
	return;
}

sub stop_writers
{
	try_sql($node, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pgbench'");
	$load->kill_kill;
	return;
}

sub total_sent
{
	return try_sql($node, 'SELECT COALESCE(sum(sent), 0) FROM weir.stat_sinks');
}

# The publisher has sent some hundred changes more.
sub await_progress
{
	my ($more) = @_;
	my $from = total_sent() // 0;
	my $deadline = time + 120;
	while ((total_sent() // 0) < $from + $more)
	{
		die 'nothing is published any more: ' . $node->safe_psql('postgres', 'SELECT * FROM weir.stat_sinks')
		  if time > $deadline;
	}
	return;
}

my %kill = (
	publisher => sub { return kill_child($node, 'weir publisher') // 0; },
	terminate => sub {
		return defined try_sql($node, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'weir publisher'");
	},
	immediate => sub {
		$node->stop('immediate');
		$node->start;
		return 1;
	},
	broker => sub {
		$kafka->kill9;
		$kafka->start;
		return 1;
	},);

my (%done, $done);
start_writers();
while (($done // 0) < $kills)
{
	await_progress(100 + int(rand(1500)));
	my $kind = $done && $done >= keys %kill ? (keys %kill)[ rand keys %kill ] : (sort keys %kill)[ $done // 0 ];
	next if !$kill{$kind}->();
	$done{$kind}++;
	$done++;
	stop_writers();
	start_writers();
}
await_progress(100);
stop_writers();
diag(join(', ', map { "$done{$_} x $_" } sort keys %done));

eventually($node, 'SELECT COALESCE(sum(pending), 0) FROM weir.stat_sinks', 'everything is sent', 0);

# Each committed event once, and none that was rolled back.
my (%count, $records);
$count{ (split /\t/)[1] }++, $records++ foreach $kafka->cat($events);
my @want = split /\n/, $node->safe_psql('postgres', 'SELECT id FROM event');
cmp_ok(scalar(@want), '>', 500, scalar(@want) . ' events were committed');
is(scalar(grep { !$count{$_} } @want), 0, 'no event is missing');
is(scalar(grep { $_ > 1 } values %count), 0, 'none came twice');
is(scalar(keys %count), scalar(@want), 'none was rolled back');

# Each state of a key once and in order: 1, 2, 3 ...
my (%last, $gaps);
$gaps = 0;
foreach ($kafka->cat($state))
{
	my ($partition, $key, $value) = split /\t/;
	$records++;
	my ($n) = $value =~ /"n":(\d+)/;
	$gaps++ if $n != ($last{$key} // 0) + 1;
	$last{$key} = $n;
}
is($gaps, 0, 'the states of each key in order, without gap or double');
is(join(' ', map { "$_:$last{$_}" } sort { $a <=> $b } keys %last),
	$node->safe_psql('postgres', "SELECT string_agg(id || ':' || n, ' ' ORDER BY id) FROM state WHERE n > 0"),
	'up to the last one');
is(total_sent(), $records, 'each is counted as sent once, also what was on its way when a process was killed');

$node->stop;
done_testing();
