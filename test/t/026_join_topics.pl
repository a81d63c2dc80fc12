# Joins of streams of which one reads two topics with two partitions each: rows of both topics have the same
# partitions and offsets. With one worker and with four, over a crash that empties the kept rows, a pause, rows that
# a view refuses, rows by INSERT, a topic that comes and one that goes; and watermarks, which wait for all four partitions.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WeirTest;

my $seed = $ENV{WEIR_SEED} // time;
srand($seed);
diag("seed $seed");

my $near = "r.ts BETWEEN l.ts - interval '2 s' AND l.ts + interval '3 s'";
my %views = (
	pairs => [ '', "SELECT l.k, l.v AS lv, r.v AS rv FROM l JOIN r ON l.k = r.k AND $near" ],
	counts => [ '', "SELECT l.k, count(*) AS n FROM l JOIN r ON l.k = r.k AND $near GROUP BY l.k" ],
	twice => [ '', "SELECT a.k, a.v AS first, b.v AS second FROM l a JOIN l b ON a.k = b.k AND b.ts > a.ts AND b.ts <= a.ts + interval '2 s'" ],
	windowed => [ '', "SELECT l.window_start, l.k, l.v AS lv, r.v AS rv FROM (SELECT k, v, window_start FROM l, tumble(ts, '5 s')) l
		JOIN (SELECT k, v, window_start FROM r, tumble(ts, '5 s')) r USING (k, window_start)" ],
	once => [ ", weir.unmatched = 'at once'", "SELECT l.k, l.v AS lv, r.v AS rv FROM l FULL JOIN r ON l.k = r.k AND $near" ],
	once_left => [ ", weir.unmatched = 'at once'", "SELECT l.k, l.v AS lv, r.v AS rv FROM l LEFT JOIN r ON l.k = r.k AND $near" ],
	medians => [ '', "SELECT l.window_start, l.k, array_agg(l.v || r.v ORDER BY l.v, r.v) AS vs
		FROM (SELECT k, v, window_start FROM l, tumble(ts, '5 s')) l JOIN (SELECT k, v, window_start FROM r, tumble(ts, '5 s')) r USING (k, window_start) GROUP BY 1, 2" ],);
# these differ from the query by what is late or has not closed: weir.verify knows
my %closing = (
	lefts => [ ", weir.lateness = '1 hour'", "SELECT l.k, l.v AS lv, r.v AS rv FROM l LEFT JOIN r ON l.k = r.k AND $near" ],
	finals => [ ", weir.emit = 'final', weir.lateness = '20 s'", "SELECT l.k, l.ts, l.v AS lv, r.v AS rv FROM l FULL JOIN r ON l.k = r.k AND $near" ],
	sums => [ ", weir.emit = 'final', weir.lateness = '20 s'", "SELECT window_start, window_end, l.k, count(*) AS n FROM l JOIN r ON l.k = r.k AND $near, tumble(l.ts, '10 s') GROUP BY 1, 2, 3" ],);

sub put
{
	my ($topic, $partition, @rows) = @_;
	kafka()->put($topic, [ '-p', $partition ], map { sprintf '{"ts": %d, "k": "%s", "v": "%s"}', @$_ } @rows);
	return;
}

sub make
{
	my ($node, $name, $topics, $with) = @_;
	$node->safe_psql('postgres', <<SQL);
CREATE UNLOGGED TABLE $name (ts timestamptz, k text, v text)
  WITH (weir.server = 'kafka', weir.topic = '$topics', weir.event_time = 'ts', weir.keep = '1 day', $with);
SQL
	return;
}

for my $workers (1, 4)
{
	my $node = weir_node("w$workers", conf => "weir.workers = $workers\nmax_locks_per_transaction = 128\n");
	make_kafka_server($node);
	my %topic = map { $_ => topic($_) } qw(a b c r);
	kafka()->create($topic{$_}, 2) for sort keys %topic;
	make($node, 'l', "$topic{a},$topic{b}", "weir.idle_timeout = '1 s'");
	make($node, 'r', $topic{r}, "weir.idle_timeout = '1 s'");
	for my $view (sort keys %views)
	{
		$node->safe_psql('postgres', "CREATE MATERIALIZED VIEW $view WITH (weir.continuous$views{$view}[0]) AS $views{$view}[1]");
	}
	for my $view (sort keys %closing)
	{
		$node->safe_psql('postgres', "CREATE MATERIALIZED VIEW $view WITH (weir.continuous$closing{$view}[0]) AS $closing{$view}[1]");
	}
	# refuses some rows of topic a only, at offsets that topic b has, too
	$node->safe_psql('postgres', "CREATE MATERIALIZED VIEW picky WITH (weir.continuous) AS SELECT l.k, l.v AS lv, r.v AS rv, 1 AS one FROM l JOIN r ON l.k = r.k AND $near WHERE 1 / (CASE WHEN l.v LIKE 'a%bad' THEN 0 ELSE 1 END) = 1");

	my @topics = qw(a b r r);
	for my $round (1 .. 3)
	{
		for my $batch (1 .. 6)
		{
			my $name = $topics[ rand @topics ];
			my $base = 100_000 * $round + 3000 * $batch;
			put($topic{$name}, int(rand(2)), map { [ $base + int(rand(20000)), 'k' . int(rand(5)), "$name$round.$batch.$_" ] } 1 .. 20);
		}
		# the same partitions and offsets in both topics
		put($topic{$_}, 0, map { my $n = $_; [ 100_000 * $round + 5000 + $n * 300, 'k' . $n % 5, "x$round.$n" ] } 1 .. 20) for qw(a b);
		put($topic{a}, 1, [ 100_000 * $round + 6000, 'k1', "a$round.bad" ]);
		if ($round == 2)
		{
			$node->stop('immediate');
			$node->start;
		}
		if ($round == 3)
		{
			$node->safe_psql('postgres', "SELECT weir.pause('pairs'); SELECT weir.pause('once')");
			# a third topic comes: the numbers of the others stay
			$node->safe_psql('postgres', "ALTER TABLE l SET (weir.topic = '$topic{c},$topic{b},$topic{a}')");
			put($topic{c}, 0, map { [ 300_000 + 5000 + $_ * 200, 'k' . $_ % 5, "c$_" ] } 1 .. 20);
		}
		if ($round == 3)
		{
			$node->safe_psql('postgres', "INSERT INTO l SELECT to_timestamp(100 * $round + 10 + n * 0.2), 'k' || n % 5, 'i$round.' || n FROM generate_series(1, 20) n");
			$node->safe_psql('postgres', "INSERT INTO r SELECT to_timestamp(100 * $round + 11 + n * 0.2), 'k' || n % 5, 'i$round.' || n FROM generate_series(1, 20) n");
		}
		put($topic{r}, 1, map { [ 100_000 * $round + 10_000 + $_ * 500, 'k' . $_ % 5, "r$round.x.$_" ] } 1 .. 20);
		$node->safe_psql('postgres', "SELECT weir.resume('pairs'); SELECT weir.resume('once')") if $round == 3;
		wait_for($node);
		for my $view (sort keys %views)
		{
			same($node, $view, $views{$view}[1], "$view equals its query, $workers workers, round $round");
			verified($node, $view, "$view is verified, $workers workers, round $round");
		}
		verified($node, $_, "$_ is verified, $workers workers, round $round") for sort keys %closing;
		same($node, 'picky', "SELECT l.k, l.v AS lv, r.v AS rv, 1 AS one FROM l JOIN r ON l.k = r.k AND $near WHERE l.v NOT LIKE 'a%bad'",
			"what a view refuses of one topic, it takes of the other, $workers workers, round $round");
	}
	is($node->safe_psql('postgres', 'SELECT count(*), count(DISTINCT topic) FROM weir.dead_letters'), '3|1', "dead letters, $workers workers");
	$node->safe_psql('postgres', "SELECT weir.replace('picky', q) FROM (SELECT 'SELECT l.k, l.v AS lv, r.v AS rv, 1 AS one FROM l JOIN r ON l.k = r.k AND r.ts BETWEEN l.ts - interval ''2 s'' AND l.ts + interval ''3 s''' AS q) x");
	same($node, 'picky', "SELECT l.k, l.v AS lv, r.v AS rv, 1 AS one FROM l JOIN r ON l.k = r.k AND $near", "replaced, it has them all, $workers workers");
	eventually($node, 'SELECT count(*) > 0 FROM lefts WHERE rv IS NULL', "rows without a match come by the clock, $workers workers") if $workers == 1 and $node->safe_psql('postgres', "ALTER MATERIALIZED VIEW lefts SET (weir.lateness = '0 s')") eq '';

	# WITH NO DATA: what came before is left out, partition by partition of each topic
	$node->safe_psql('postgres', "CREATE MATERIALIZED VIEW since WITH (weir.continuous) AS $views{pairs}[1] WITH NO DATA");
	put($topic{b}, 0, [ 500_000, 'k0', 'late comer' ]);
	put($topic{r}, 0, [ 500_000, 'k0', 'late match' ]);
	wait_for($node);
	is($node->safe_psql('postgres', 'TABLE since'), 'k0|late comer|late match', "a view without data, $workers workers");
	verified($node, 'since', "and it is verified, $workers workers");
	$node->stop;
}

# Watermarks go by all partitions of all topics, and late is what is late in its own.
my $node = weir_node('marks', conf => "weir.workers = 2\n");
make_kafka_server($node);
my %topic = map { $_ => topic($_) } qw(a b r);
kafka()->create($topic{$_}, 2) for qw(a b);
kafka()->create($topic{r}, 1);
make($node, 'l', "$topic{a},$topic{b}", "weir.idle_timeout = 'off', weir.late = 'keep'");
make($node, 'r', $topic{r}, "weir.idle_timeout = 'off'");
$node->safe_psql('postgres', "CREATE MATERIALIZED VIEW lefts WITH (weir.continuous, weir.lateness = '1 s') AS SELECT l.v AS lv, r.v AS rv FROM l LEFT JOIN r ON l.k = r.k AND $near");
$node->safe_psql('postgres', "CREATE MATERIALIZED VIEW finals WITH (weir.continuous, weir.emit = 'final', weir.lateness = '1 s') AS SELECT l.v AS lv, r.v AS rv FROM l LEFT JOIN r ON l.k = r.k AND $near");
put($topic{a}, 0, [ 0, 'k', 'early' ], [ 100_000, 'k', 'a0' ]);
put($topic{a}, 1, [ 100_000, 'k', 'a1' ]);
put($topic{b}, 0, [ 100_000, 'k', 'b0' ]);
put($topic{r}, 0, [ 102_000, 'k', 'r' ]);
wait_for($node);
is($node->safe_psql('postgres', "SELECT string_agg(lv, ' ' ORDER BY lv), string_agg(rv, ' ' ORDER BY lv) FROM lefts"), 'a0 a1 b0|r r r', 'pairs come at once');
is($node->safe_psql('postgres', 'SELECT count(*) FROM finals'), '0', 'and finals not before the last partition of the last topic has come');
put($topic{b}, 1, [ 50_000, 'k', 'b1' ]);
wait_for($node);
is($node->safe_psql('postgres', "SELECT string_agg(lv, ' ') FROM lefts WHERE rv IS NULL"), 'early', 'its watermark closes a row without a match');
is($node->safe_psql('postgres', "SELECT string_agg(lv, ' ') FROM finals"), 'early', 'and brings the final');
is($node->safe_psql('postgres', "SELECT DISTINCT extract(epoch FROM watermark)::int FROM weir.stat_streams WHERE stream = 'l'::regclass"), '50', 'the watermark is the lowest of four partitions');
# 60 s is late where the stream time is 100 s, and in time where it is 50 s
put($topic{$_}, 1, [ 60_000, 'k', "$_ late?" ]) for qw(a b);
wait_for($node);
is($node->safe_psql('postgres', "SELECT view, split_part(topic, '-', 1), partition, \"offset\", record->>'v' FROM weir.late_rows ORDER BY 1"),
	"lefts|a|1|1|a late?\nfinals|a|1|1|a late?", 'late is what its own partition says, and it is told which');
$node->safe_psql('postgres', "ALTER TABLE l SET (weir.topic = '$topic{a}')");
put($topic{a}, 0, [ 100_500, 'k', 'a0 again' ]);
wait_for($node);
eventually($node, "SELECT string_agg(lv, ' ' ORDER BY lv) = 'b late? b1 early' OR string_agg(lv, ' ' ORDER BY lv) = 'b1 b late? early' OR count(*) = 3 FROM lefts WHERE rv IS NULL", 'a topic that went holds nothing back');
verified($node, $_, "$_ is verified") for qw(lefts finals);
$node->stop;

done_testing();
