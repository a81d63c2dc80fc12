# Joins of streams from Kafka: C9, and random rows of two topics, with one worker and with
# four, over crashes that empty the kept rows: each pair once. Rows without a match
# come at once in two of the views, and are gone where a match has come.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WeirTest;

my $seed = $ENV{WEIR_SEED} // time;
srand($seed);
diag("seed $seed");

my $pairs = "SELECT l.k, l.v AS lv, r.v AS rv FROM l JOIN r ON l.k = r.k AND r.ts BETWEEN l.ts - interval '11 s' AND l.ts + interval '10 s'";
my $counts = "SELECT l.k, count(*) AS n FROM l JOIN r ON l.k = r.k AND r.ts BETWEEN l.ts - interval '11 s' AND l.ts + interval '10 s' GROUP BY l.k";
my $twice = "SELECT a.k, a.v AS first, b.v AS second FROM l a JOIN l b ON a.k = b.k AND b.ts > a.ts AND b.ts <= a.ts + interval '2 s'";
my $left = "SELECT l.k, l.v AS lv, r.v AS rv FROM l LEFT JOIN r ON l.k = r.k AND r.ts BETWEEN l.ts AND l.ts + interval '3 s'";
my $once = "SELECT l.k, l.v AS lv, r.v AS rv FROM l FULL JOIN r ON l.k = r.k AND r.ts BETWEEN l.ts - interval '1 s' AND l.ts + interval '2 s'";
my $once_chain = "SELECT a.k, a.v AS av, r.v AS rv, b.v AS bv FROM l a LEFT JOIN r ON r.k = a.k AND r.ts BETWEEN a.ts AND a.ts + interval '2 s' LEFT JOIN l b ON b.k = r.k AND b.ts > r.ts AND b.ts <= r.ts + interval '1 s'";

sub put
{
	my ($topic, $partition, @rows) = @_;
	kafka()->put($topic, [ '-p', $partition ], map { sprintf '{"ts": %d, "k": "%s", "v": "%s"}', @$_ } @rows);
	return;
}

for my $workers (1, 4)
{
	my $node = weir_node("w$workers");
	$node->append_conf('postgresql.conf', "weir.workers = $workers");
	$node->restart;
	make_kafka_server($node);
	my %topic;
	for my $name ('l', 'r')
	{
		$topic{$name} = topic($name);
		kafka()->create($topic{$name}, 3);
		$node->safe_psql('postgres', <<SQL);
CREATE UNLOGGED TABLE $name (ts timestamptz, k text, v text)
  WITH (weir.server = 'kafka', weir.topic = '$topic{$name}', weir.event_time = 'ts', weir.keep = '1 day', weir.idle_timeout = '1 s');
SQL
	}
	my %views = (pairs => $pairs, counts => $counts, twice => $twice, once => $once, once_chain => $once_chain);
	for my $view (sort keys %views)
	{
		my $option = $view =~ /^once/ ? ", weir.unmatched = 'at once'" : '';
		$node->safe_psql('postgres', "CREATE MATERIALIZED VIEW $view WITH (weir.continuous$option) AS $views{$view}");
	}
	$node->safe_psql('postgres', "CREATE MATERIALIZED VIEW lefts WITH (weir.continuous, weir.lateness = '1 hour') AS $left");

	put($topic{l}, 0, [ 0, 'k0', 'l1' ], [ 12000, 'k10', 'l2' ], [ 13000, 'k0', 'l3' ], [ 17000, 'k90', 'l4' ], [ 30000, 'k0', 'l5' ]);
	put($topic{r}, 0, [ 11000, 'k0', 'r1' ], [ 15000, 'k0', 'r2' ], [ 16000, 'k100', 'r3' ]);
	wait_for($node);
	is($node->safe_psql('postgres', "SELECT string_agg(lv || '/' || rv, ' ' ORDER BY lv, rv) FROM pairs"), 'l3/r1 l3/r2', "C9, $workers workers");

	for my $round (1 .. 3)
	{
		for my $batch (1 .. 6)
		{
			my $name = rand() < 0.5 ? 'l' : 'r';
			my $base = 100_000 * $round + 3000 * $batch;
			put($topic{$name}, int(rand(3)), map { [ $base + int(rand(20000)), 'k' . int(rand(5)), "$name$round.$batch.$_" ] } 1 .. 40);
		}
		if ($round == 2)
		{
			$node->stop('immediate');
			$node->start;
		}
		$node->safe_psql('postgres', "SELECT weir.pause('pairs')") if $round == 3;
		put($topic{l}, 0, map { [ 100_000 * $round + 20_000 + $_ * 100, 'k' . $_ % 5, "l$round.x.$_" ] } 1 .. 20);
		put($topic{r}, 1, map { [ 100_000 * $round + 20_000 + $_ * 100, 'k' . $_ % 5, "r$round.x.$_" ] } 1 .. 20);
		$node->safe_psql('postgres', "SELECT weir.resume('pairs')") if $round == 3;
		wait_for($node);
		same($node, $_, $views{$_}, "$_ equals its query, $workers workers, round $round") for sort keys %views;
		verified($node, $_, "$_ is verified, $workers workers, round $round") for sort keys %views;
	}
	# all partitions idle: by the clock rows without a match come, too
	$node->safe_psql('postgres', "ALTER MATERIALIZED VIEW lefts SET (weir.lateness = '0 s')");
	eventually($node, "SELECT count(*) > 0 FROM lefts WHERE rv IS NULL", "rows without a match come by the clock, $workers workers");
	is($node->safe_psql('postgres', 'SELECT count(*) FROM weir.dead_letters'), '0', 'no dead letters');
	$node->stop;
}

done_testing();
