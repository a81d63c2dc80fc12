# When windows close: within about a batch interval of the moment, by the data and by the clock; partitions that are empty,
# idle and back with older rows, or new; a stream whose lateness and idle timeout are altered; a join of which one side is silent.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WeirTest;

my $node = weir_node('main', conf => "weir.workers = 2\n");
make_kafka_server($node);
$node->safe_psql('postgres', <<SQL);
CREATE TABLE log (view text, at timestamptz, final jsonb);
CREATE FUNCTION log_final() RETURNS trigger LANGUAGE plpgsql AS
  \$\$ BEGIN INSERT INTO public.log VALUES (tg_table_name, clock_timestamp(), to_jsonb(new)); RETURN NULL; END \$\$;
SQL

sub stream
{
	my ($name, $with, $partitions) = @_;
	my $topic = topic($name);
	kafka()->create($topic, $partitions);
	$node->safe_psql('postgres', <<SQL);
CREATE UNLOGGED TABLE $name (ts timestamptz, k int, _timestamp timestamptz)
  WITH (weir.server = 'kafka', weir.topic = '$topic', weir.event_time = 'ts', weir.keep = '1 day', weir.late = 'keep', $with);
SQL
	return $topic;
}

sub view
{
	my ($name, $query) = @_;
	$node->safe_psql('postgres', <<SQL);
CREATE MATERIALIZED VIEW $name WITH (weir.continuous, weir.emit = 'final') AS $query;
CREATE TRIGGER log AFTER INSERT OR UPDATE OR DELETE ON $name FOR EACH ROW EXECUTE FUNCTION log_final();
SQL
	return;
}

# put(topic, [partition, ms, k], ...)
sub put
{
	my ($topic, @rows) = @_;
	kafka()->put($topic, ['-P'], map { "$_->[0]\t{\"ts\": $_->[1], \"k\": $_->[2]}" } @rows);
	return;
}

my $seconds = "SELECT window_start, count(*) AS n FROM %s, tumble(ts, '1 s') GROUP BY 1";
my $shown = "SELECT string_agg((extract(epoch FROM window_start)::int) || '=' || n, ' ' ORDER BY window_start) FROM %s";

sub closes
{
	my ($view, $want, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	eventually($node, sprintf($shown, $view), $name, $want);
	is($node->safe_psql('postgres', "SELECT count(*), count(DISTINCT final) FROM log WHERE view = '$view'"), join('|', (scalar split ' ', $want) x 2), "$name: each once");
	verified($node, $view, "$name: and as the query says");
	return;
}

# Seconds from the moment (of the last message, or so long after it) until the last final of a view.
sub delay
{
	my ($view, $stream, $after, $name) = @_;
	my $s = $node->safe_psql('postgres', "SELECT extract(epoch FROM (SELECT max(at) FROM log WHERE view = '$view') - (SELECT max(_timestamp) FROM $stream) - interval '$after')");
	diag(sprintf '%s: %.3f s', $name, $s);
	cmp_ok($s, '>', -0.05, "$name: not too early");
	cmp_ok($s, '<', 10, "$name: soon");
	return;
}

# Two partitions that never get anything.
my $topic = stream('empty', "weir.idle_timeout = '2 s'", 3);
view('empty_view', sprintf $seconds, 'empty');
wait_for($node, 'empty');
put($topic, [ 0, 100, 1 ], [ 0, 200, 1 ]);
wait_for($node, 'empty');
closes('empty_view', '0=2', 'partitions that are empty from the start');
delay('empty_view', 'empty', '2 s', 'a window that the clock closes');
put($topic, [ 0, 5100, 1 ], [ 0, 6200, 1 ]);
closes('empty_view', '0=2 5=1', 'the data closes the next');
delay('empty_view', 'empty', '0 s', 'a window that the data closes');
closes('empty_view', '0=2 5=1 6=1', 'and the clock the last');
# one of the empty ones comes to life, with what is old and what is new
put($topic, [ 1, 5900, 2 ], [ 1, 60100, 2 ], [ 0, 60200, 1 ]);
wait_for($node, 'empty');
is($node->safe_psql('postgres', "SELECT partition, \"offset\" FROM weir.late_rows WHERE view = 'empty_view'::regclass"), '1|0', 'older rows of a partition that was empty are late');
closes('empty_view', '0=2 5=1 6=1 60=2', 'newer ones are not');

# A topic that gains a partition. It holds the others back, as any does that has not been idle.
$topic = stream('grown', "weir.idle_timeout = 'off'", 2);
view('grown_view', sprintf $seconds, 'grown');
put($topic, map { ([ 0, $_, 1 ], [ 1, $_, 2 ]) } 100, 1100, 5000);
wait_for($node, 'grown');
closes('grown_view', '0=2 1=2', 'two partitions');
kafka()->grow($topic, 3);
eventually($node, "SELECT count(*) FROM weir.position WHERE stream = 'grown'::regclass AND partition >= 0", 'a third is found', '3');
put($topic, [ 0, 9000, 1 ], [ 1, 9000, 2 ]);
wait_for($node, 'grown');
closes('grown_view', '0=2 1=2', 'nothing closes before it has rows');
put($topic, [ 2, 1200, 3 ], [ 2, 5300, 3 ], [ 2, 8000, 3 ]);
wait_for($node, 'grown');
closes('grown_view', '0=2 1=2 5=3', 'then as far as all have come');
is($node->safe_psql('postgres', "SELECT partition, \"offset\" FROM weir.late_rows WHERE view = 'grown_view'::regclass"), '2|0', 'what it brought for closed windows is late');

# Lateness and idle timeout are altered while windows are open: they close by themselves, without a new row.
$topic = stream('altered', "weir.idle_timeout = 'off', weir.lateness = '10 s'", 2);
view('altered_view', sprintf $seconds, 'altered');
put($topic, map { ([ 0, $_, 1 ], [ 1, $_, 2 ]) } 100, 1100, 2900);
wait_for($node, 'altered');
closes('altered_view', '', 'nothing has closed');
$node->safe_psql('postgres', "ALTER TABLE altered SET (weir.lateness = '1 s')");
closes('altered_view', '0=2', 'with less lateness');
$node->safe_psql('postgres', "ALTER TABLE altered SET (weir.lateness = '1 hour')");
put($topic, [ 0, 300, 1 ]);
wait_for($node, 'altered');
is($node->safe_psql('postgres', "SELECT partition, \"offset\" FROM weir.late_rows WHERE view = 'altered_view'::regclass"), '0|3', 'more lateness opens no window again');
$node->safe_psql('postgres', "ALTER TABLE altered SET (weir.lateness = '0 s', weir.idle_timeout = '1 s')");
closes('altered_view', '0=2 1=2 2=2', 'with an idle timeout, and no lateness');
$node->safe_psql('postgres', "ALTER TABLE altered SET (weir.idle_timeout = 'off')");
put($topic, [ 1, 2950, 2 ], [ 1, 20000, 2 ]);
wait_for($node, 'altered');
closes('altered_view', '0=2 1=2 2=2', 'without one again: what the clock has closed stays closed');

# A join whose second stream is silent: it has never had a row, or only one from long ago.
my $left = stream('lefts', "weir.idle_timeout = '1 s'", 2);
stream('rights', "weir.idle_timeout = '1 s'", 2);
view('lonely', "SELECT l.ts, l.k, r.k AS rk FROM lefts l LEFT JOIN rights r ON l.k = r.k AND r.ts BETWEEN l.ts AND l.ts + interval '1 s'");
put($left, [ 0, 100, 1 ], [ 1, 200, 2 ]);
wait_for($node, 'lefts');
eventually($node, 'SELECT count(*), count(rk) FROM lonely', 'rows without a match come by the clock', '2|0');
verified($node, 'lonely');
$left = stream('now_l', "weir.idle_timeout = '1 s'", 2);
my $right = stream('now_r', "weir.idle_timeout = '1 s'", 2);
view('late_r', "SELECT l.ts, l.k, r.k AS rk FROM now_l l LEFT JOIN now_r r ON l.k = r.k AND r.ts BETWEEN l.ts AND l.ts + interval '1 s'");
put($right, [ 0, 100, 1 ]);
put($left, [ 0, 7200100, 1 ], [ 1, 7200200, 2 ]);
wait_for($node, undef);
eventually($node, 'SELECT count(*), count(rk) FROM late_r', 'what is hours ahead of a silent stream does not wait for hours', '2|0');
put($right, [ 0, 7200500, 1 ]);
wait_for($node, undef);
is($node->safe_psql('postgres', 'SELECT count(*), count(rk) FROM late_r'), '2|0', 'what it brings then is late');
is($node->safe_psql('postgres', "SELECT late FROM weir.stat_views WHERE view = 'late_r'::regclass"), '1', 'and counted');
verified($node, 'late_r');

is($node->safe_psql('postgres', "SELECT string_agg(view || ': ' || error, ' ') FROM weir.views WHERE state <> 'running'"), '', 'all views run');
$node->stop;
done_testing();
