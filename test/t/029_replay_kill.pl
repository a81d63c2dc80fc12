# The same topics read again: by one worker in large batches, and by four in small ones while workers, sessions and the
# postmaster are killed, terminated, cancelled and kept waiting. Views of every kind come out the same, and so do late
# rows; triggers see each final once. Sets of DISTINCT values, sessions, finals of finals, joins whose unmatched rows
# come at once, views over views that change, segmented views.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WeirKill;
use WeirTest;

my $seed = $ENV{WEIR_SEED} // time;
srand($seed);
diag("seed $seed");

my $rounds = quick() ? 8 : 24;
my $step = 400;    # rows of each stream in a round
my $rows = $rounds * $step;

# Row n: every 20 ms one, up to 380 ms too early, and every 40th by another 3 seconds, so that it is late for most windows.
my %ts = (ev => 'n * 20 - n * 37 % 380 - CASE WHEN n % 40 = 7 THEN 3000 ELSE 0 END', l => 'n * 20 - n * 37 % 380', r => 'n * 20 - n * 53 % 380');

sub lines
{
	my ($name, $node, $first, $last) = @_;
	return split /\n/, $node->safe_psql('postgres', <<SQL);
SELECT n % 4 || E'\\t' || json_build_object('n', n, 'k', n * 7 % 13, 'ts', 1704067200000 + $ts{$name}) FROM generate_series($first, $last) n
WHERE '$name' <> 'r' OR n % 3 <> 0 ORDER BY n
SQL
}

my $within = "r.k = l.k AND r.ts BETWEEN l.ts AND l.ts + interval '200 ms'";
my $distinct = 'count(DISTINCT n % 7) AS a, sum(DISTINCT n % 5) AS b, count(DISTINCT k) FILTER (WHERE n % 2 = 0) AS c, count(*) AS n';
my @views = (
	[ sets => '', "SELECT window_start, $distinct FROM ev, tumble(ts, '1 s') GROUP BY 1" ],
	[ final_sets => "weir.emit = 'final'", "SELECT window_start, k % 3 AS k, $distinct FROM ev, hop(ts, '2 s', '500 ms') GROUP BY 1, 2" ],
	[ visits => '', "SELECT k, window_start, window_end, count(*) AS n, sum(n) AS total FROM ev, session(ts, '150 ms') GROUP BY 1, 2, 3" ],
	[ final_visits => "weir.emit = 'final'", "SELECT k, window_start, window_end, count(*) AS n, sum(n) AS total FROM ev, session(ts, '150 ms') GROUP BY 1, 2, 3" ],
	[ seconds => "weir.emit = 'final'", "SELECT window_start, k, count(*) AS n, sum(n) AS total FROM ev, tumble(ts, '1 s') GROUP BY 1, 2" ],
	[ ranks => "weir.emit = 'final'", "SELECT window_start, n, rank() OVER (PARTITION BY window_start ORDER BY n % 11, n) AS r FROM ev, tumble(ts, '2 s') WHERE k = 3" ],
	[ minutes => "weir.emit = 'final'", "SELECT w.window_start, sum(s.n) AS n, max(s.total) AS most FROM seconds s, tumble(s.window_start, '5 s') w GROUP BY 1" ],
	[ keys => '', 'SELECT k, count(*) AS n, sum(n) AS total, max(n % 101) AS most FROM ev GROUP BY 1' ],
	[ over_keys => '', 'SELECT total % 4 AS t, count(*) AS n, sum(total) AS total, min(most) AS least, max(most) AS most FROM keys GROUP BY 1' ],
	[ best => '', 'SELECT k, total, r FROM (SELECT k, total, row_number() OVER (ORDER BY total DESC, k) AS r FROM keys) x WHERE r <= 3' ],
	[ pairs => '', "SELECT l.n AS ln, r.n AS rn FROM l JOIN r ON $within" ],
	[ at_once => "weir.unmatched = 'at once'", "SELECT l.n AS ln, r.n AS rn FROM l LEFT JOIN r ON $within" ],
	[ unmatched => '', "SELECT l.n AS ln, r.n AS rn FROM l LEFT JOIN r ON $within" ],
	[ segments => "weir.keep = '1 minute', weir.segmented", "SELECT window_start, k, count(*) AS n FROM ev, tumble(ts, '1 s') GROUP BY 1, 2" ],);
my @finals = map { $_->[0] } grep { $_->[1] =~ /final/ } @views;
my %topic = map { $_ => topic("replay-$_") } qw(ev l r);

sub make
{
	my ($node) = @_;
	make_kafka_server($node);
	my $sql = join '', map { <<SQL } sort keys %topic;
CREATE UNLOGGED TABLE $_ (n bigint, k bigint, ts timestamptz) WITH (weir.server = 'kafka', weir.topic = '$topic{$_}', weir.event_time = 'ts',
  weir.keep = '1 hour', weir.lateness = '500 ms', weir.idle_timeout = 'off', weir.late = 'keep');
SQL
	for my $view (@views)
	{
		my ($name, $with, $query) = @$view;
		$sql .= 'CREATE MATERIALIZED VIEW ' . $name . ' WITH (' . join(', ', 'weir.continuous', $with || ()) . ") AS $query;\n";
	}
	$sql .= <<SQL for @finals;
CREATE TABLE ${_}_log AS SELECT ''::text AS op, v.* FROM $_ v WITH NO DATA;
CREATE FUNCTION log_$_() RETURNS trigger LANGUAGE plpgsql AS
  \$\$ BEGIN INSERT INTO public.${_}_log SELECT tg_op, new.*; RETURN NULL; END \$\$;
CREATE TRIGGER log AFTER INSERT OR UPDATE OR DELETE ON $_ FOR EACH ROW EXECUTE FUNCTION log_$_();
SQL
	$node->safe_psql('postgres', "BEGIN;\n$sql\nCOMMIT");
	return;
}

# What all views show; of the segmented one what it has to show.
sub shown
{
	my ($node) = @_;
	my %shown;
	for my $view (map { $_->[0] } @views)
	{
		my $where = $view eq 'segments' ? "WHERE window_start > (SELECT max(window_start) FROM segments) - interval '58 s'" : '';
		$shown{$view} = $node->safe_psql('postgres', "SELECT v::text FROM $view v $where ORDER BY 1");
	}
	$shown{'late rows'} = $node->safe_psql('postgres', 'SELECT view, partition, "offset", event_time, window_start, reason, record FROM weir.late_rows ORDER BY view::text, partition, "offset", window_start');
	return %shown;
}

sub check
{
	my ($node, $name) = @_;
	for my $view (@finals)
	{
		is($node->safe_psql('postgres', "SELECT count(*) FROM ((SELECT 'INSERT', v.* FROM $view v EXCEPT ALL SELECT * FROM ${view}_log) UNION ALL (SELECT * FROM ${view}_log EXCEPT ALL SELECT 'INSERT', v.* FROM $view v)) x"),
			'0', "$name: triggers saw each row of $view once");
	}
	verified($node, $_->[0], "$name: $_->[0] equals its query") for grep { $_->[0] ne 'segments' } @views;
	is($node->safe_psql('postgres', 'SELECT count(*) FROM weir.dead_letters'), '0', "$name: no dead letters");
	is($node->safe_psql('postgres', "SELECT string_agg(view || ': ' || error, ' ') FROM weir.views WHERE state <> 'running'"), '', "$name: all views run");
	return;
}

my %do = (
	worker => sub { return kill_child($_[0], 'weir worker'); },
	postmaster => sub { kill_postmaster($_[0]); $_[0]->start; return 1; },
	terminate => sub { return try_sql($_[0], "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE backend_type LIKE 'weir%' AND random() < 0.5"); },
	cancel => sub { return try_sql($_[0], "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE backend_type LIKE 'weir%'"); },
	# a session that holds what the workers need, and ends
	lock => sub {
		my ($node) = @_;
		my $view = $views[ rand @views ][0];
		my $session = session($node);
		$session->query("BEGIN; LOCK TABLE $view IN ACCESS EXCLUSIVE MODE");
		try_sql($node, 'SELECT pg_terminate_backend(' . $session->pid . ')');
		$session->quit;
		return 1;
	},
	# one that locks two views against the order of the workers: one of both is a deadlock's victim
	deadlock => sub {
		my ($node) = @_;
		return try_sql($node, 'BEGIN; LOCK TABLE best IN SHARE MODE; LOCK TABLE at_once, sets IN SHARE MODE; COMMIT') // 1;
	},);

kafka()->create($topic{$_}, 4) for sort keys %topic;
my $four = weir_node('four', conf => "weir.workers = 4\nweir.batch_rows = 60\nweir.batch_interval = '10 ms'\nfsync = off\ndeadlock_timeout = '100 ms'\nmax_locks_per_transaction = 256\n");
make($four);
my %done;
for my $round (1 .. $rounds)
{
	for my $name (sort keys %topic)
	{
		kafka()->put($topic{$name}, ['-P'], lines($name, $four, ($round - 1) * $step, $round * $step - 1));
	}
	my $until = time + 60;
	my $target = ($round - 1) * $step + int(rand($step));
	my $now;
	do { $now = applied($four, 'ev') } while time < $until && (!defined $now || $now < $target);
	my $kind = (sort keys %do)[ $round % keys %do ];
	$done{$kind}++ if $do{$kind}->($four);
	await_server($four);
}
diag('four workers: ' . join(', ', map { "$done{$_} x $_" } sort keys %done));
for (1 .. 20)
{
	await_server($four);
	last if eval { wait_for($four, undef, timeout => '200 s'); 1 };
	diag($@);
}
check($four, 'four');
my %shown = shown($four);
$four->stop;

my $one = weir_node('one', conf => "fsync = off\nmax_locks_per_transaction = 256\n");
make($one);
wait_for($one, undef, timeout => '200 s');
check($one, 'one');
my %again = shown($one);
for my $what (sort keys %again)
{
	isnt($again{$what}, '', "$what: there are some");
	ok($shown{$what} eq $again{$what}, "$what: as without any kill");
}
$one->stop;

done_testing();
