# Sessions, finals of joins and rows without a match, from Kafka and by INSERT, while a worker, the backend that
# inserts, and the postmaster are killed; one stream reads two topics: triggers see each final exactly once, and the same as without any kill.
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

my $rounds = quick() ? 3 : 6;
my $step = 500;    # rows of each stream in a round

# Row n of a stream: every 10 ms one, up to 190 ms too early. 13 keys; the rows of a key stay in one partition.
# Of r every third row is missing.
sub rows
{
	my ($first, $last) = @_;
	return "SELECT n, n * 7 % 13 AS k, timestamptz '2024-01-01 00:00:00+00' + interval '1 ms' * (n * 10 - n * 37 % 190) AS ts FROM generate_series($first\::bigint, $last) n";
}
my %only = (l => 'true', r => 'n % 3 <> 0');

# Sessions of blocks of a hundred rows with as long a pause in between; what came before, per key; pairs; finals of pairs; rows with and without a match.
my $within = 'r.k = l.k AND r.ts BETWEEN l.ts AND l.ts + interval \'200 ms\'';
my %views = (
	visits => [ 'final', q(SELECT k, window_start, window_end, count(*) AS n, sum(n) AS total, count(DISTINCT n % 7) AS sorts, array_agg(n ORDER BY ts, n) AS ns FROM @L@, session(ts, '400 ms') WHERE n / 100 % 2 = 0 GROUP BY k, window_start, window_end) ],
	steps => [ 'final', 'SELECT n, k, lag(n) OVER w AS before, sum(n) OVER w AS total FROM @L@ WINDOW w AS (PARTITION BY k ORDER BY ts, n)' ],
	pairs => [ 'changes', "SELECT l.n AS ln, r.n AS rn FROM \@L\@ l JOIN \@R\@ r ON $within" ],
	sums => [ 'final', "SELECT window_start, window_end, l.k, count(*) AS n, sum(r.n) AS total FROM \@L\@ l JOIN \@R\@ r ON $within, tumble(l.ts, '1 s') GROUP BY 1, 2, 3" ],
	firsts => [ 'final', "SELECT window_start, window_end, min(l.n) AS least, array_agg(r.n ORDER BY r.n) AS rns FROM \@L\@ l JOIN \@R\@ r ON $within, tumble(l.ts, '2 s') WHERE l.k < 3 GROUP BY 1, 2" ],
	matches => [ 'changes', "SELECT l.n AS ln, r.n AS rn FROM \@L\@ l LEFT JOIN \@R\@ r ON $within" ],);

# What must be there: the same over the rows, of what is closed when the clock is at mark.
my %expected = (
	visits => q(SELECT k, min(ts), max(ts) + interval '400 ms', count(*), sum(n), count(DISTINCT n % 7) AS sorts, array_agg(n ORDER BY ts, n) AS ns FROM @L@ l WHERE n / 100 % 2 = 0 GROUP BY k, n / 200
		HAVING max(ts) + interval '900 ms' < (SELECT t FROM mark)),
	steps => q(SELECT n, k, before, total FROM (SELECT *, lag(n) OVER w AS before, sum(n) OVER w AS total FROM @L@ l WINDOW w AS (PARTITION BY k ORDER BY ts, n)) o
		WHERE ts + interval '500 ms' < (SELECT t FROM mark)),
	pairs => $views{pairs}[1],
	sums => $views{sums}[1] =~ s/ GROUP BY/ WHERE window_end + interval '700 ms' <= (SELECT t FROM mark) GROUP BY/r,
	firsts => $views{firsts}[1] =~ s/ GROUP BY/ AND window_end + interval '700 ms' <= (SELECT t FROM mark) GROUP BY/r,
	matches => "$views{matches}[1] WHERE r.n IS NOT NULL OR l.ts + interval '700 ms' < (SELECT t FROM mark)",);

sub insistently
{
	my ($node, $what) = @_;
	for (1 .. 20)
	{
		await_server($node);
		my $result = eval { $what->() };
		return $result if defined $result;
	}
	die "the server did not stay: $@";
}

sub number { my ($node, $sql) = @_; return insistently($node, sub { $node->safe_psql('postgres', $sql) }); }

sub survive
{
	my ($name, $workers) = @_;
	my $node = weir_node($name, conf => "weir.workers = $workers\nweir.batch_rows = 200\nfsync = off\nmax_locks_per_transaction = 128\n");
	make_kafka_server($node);
	my %topics = (l => [ topic('related-l'), topic('related-l') ], r => [ topic('related-r') ]);
	kafka()->create($_, 2) for map { @$_ } values %topics;

	my $sql = '';
	for my $stream (qw(l r))
	{
		my $with = "weir.event_time = 'ts', weir.keep = '1 hour', weir.lateness = '500 ms', weir.idle_timeout = 'off'";
		$sql .= "CREATE UNLOGGED TABLE kafka_$stream (n bigint, k bigint, ts timestamptz) WITH (weir.server = 'kafka', weir.topic = '@{[ join ',', @{ $topics{$stream} } ]}', $with);\n";
		$sql .= "CREATE TABLE insert_$stream (n bigint, k bigint, ts timestamptz) WITH (weir.stream, $with);\n";
	}
	for my $way (qw(kafka insert))
	{
		for my $view (sort keys %views)
		{
			my $query = $views{$view}[1] =~ s/\@([LR])\@/$way . '_' . lc $1/ger;
			$sql .= <<SQL;
CREATE MATERIALIZED VIEW ${way}_$view WITH (weir.continuous, weir.emit = '$views{$view}[0]') AS $query;
CREATE TABLE ${way}_${view}_log AS SELECT ''::text AS op, v.* FROM ${way}_$view v WITH NO DATA;
CREATE FUNCTION log_${way}_$view() RETURNS trigger LANGUAGE plpgsql AS
  \$\$ BEGIN INSERT INTO public.${way}_${view}_log SELECT tg_op, new.*; RETURN NULL; END \$\$;
CREATE TRIGGER log AFTER INSERT OR UPDATE OR DELETE ON ${way}_$view FOR EACH ROW EXECUTE FUNCTION log_${way}_$view();
SQL
		}
	}
	$node->safe_psql('postgres', "BEGIN;\n$sql;\nCOMMIT");

	my (%done, $last);
	for my $round (1 .. $rounds)
	{
		$last = $round * $step - 1;
		for my $stream (qw(l r))
		{
			my @of = @{ $topics{$stream} };
			for my $i (0 .. $#of)
			{
				my @lines = split /\n/, number($node, "SELECT k / @{[ scalar @of ]} % 2 || E'\\t' || row_to_json(x) FROM (" . rows($last - $step + 1, $last) . ") x WHERE $only{$stream} AND k % @{[ scalar @of ]} = $i ORDER BY n");
				kafka()->put($of[$i], ['-P'], @lines);
			}
		}
		# both streams in transactions of 50 rows each, from where the last one that was committed ended
		my $from = number($node, 'SELECT coalesce(max(n), -1) + 1 FROM insert_l');
		my $session = session($node);
		my $insert = '';
		for (my $n = $from; $n <= $last; $n += 50)
		{
			my $to = $n + 49 < $last ? $n + 49 : $last;
			$insert .= 'BEGIN; ' . join(' ', map { "INSERT INTO insert_$_ SELECT * FROM (" . rows($n, $to) . ") x WHERE $only{$_} ORDER BY n;" } 'r', 'l') . " COMMIT;\n";
		}
		$session->send($insert);
		my $kind = (qw(backend worker postmaster))[ $round % 3 ];
		my $target = $from + int(rand() * ($last - $from));
		my $now = 0;
		while ($now < $target) { $now = number($node, 'SELECT coalesce(max(n), -1) + 1 FROM insert_l'); }
		if ($kind eq 'backend') { kill 'KILL', $session->pid; await_end($session->pid); }
		elsif ($kind eq 'postmaster') { kill_postmaster($node); $node->start; }
		else { kill_child($node, 'weir worker'); }
		$session->quit;
		$done{$kind}++;
	}
	my $from = number($node, 'SELECT coalesce(max(n), -1) + 1 FROM insert_l');
	$node->safe_psql('postgres', join(' ', map { "INSERT INTO insert_$_ SELECT * FROM (" . rows($from, $last) . ") x WHERE $only{$_} ORDER BY n;" } 'r', 'l')) if $from <= $last;
	diag("$name: killed " . join(', ', map { "$done{$_} x $_" } sort keys %done));
	insistently($node, sub { wait_for($node, undef, timeout => '120 s'); 1 });
	# the server has noticed the last kill before, so nothing was lost again since
	is($node->safe_psql('postgres', 'SELECT count(*) FROM weir.marker'), '2', "$name: the kept rows are there again");

	$node->safe_psql('postgres', join(' ', map { "CREATE TABLE all_$_ AS SELECT * FROM (" . rows(0, $last) . ") x WHERE $only{$_}; ANALYZE all_$_;" } qw(l r)));
	for my $way (qw(kafka insert))
	{
		# the lowest of the partitions' highest times, which k tells in Kafka: l has two topics; sessions go by l alone
		my %group = $way eq 'kafka' ? (l => 'k % 2, k / 2 % 2', r => 'k % 2') : (l => 'k * 0', r => 'k * 0');
		for my $view (sort keys %views)
		{
			my @streams = $expected{$view} =~ /\@R\@/ ? qw(l r) : ('l');
			my $mark = 'mark(t) AS (SELECT min(t) FROM (' . join(' UNION ALL ', map { "SELECT max(ts) AS t FROM all_$_ GROUP BY $group{$_}" } @streams) . ') m)';
			my $oracle = "WITH $mark " . ($expected{$view} =~ s/\@([LR])\@/'all_' . lc $1/ger);
			$node->safe_psql('postgres', "CREATE TABLE ${way}_${view}_wanted AS $oracle");
			same($node, "${way}_$view", "TABLE ${way}_${view}_wanted", "$name: $view, by $way, equals the oracle");
			same($node, "${way}_${view}_log", "SELECT 'INSERT', q.* FROM ${way}_${view}_wanted q", "$name: and triggers saw each row once");
			verified($node, "${way}_$view", "$name: and is verified");
		}
	}
	is($node->safe_psql('postgres', 'SELECT count(*) FROM weir.dead_letters'), '0', "$name: no dead letters");
	is($node->safe_psql('postgres', 'SELECT sum(late) FROM weir.stat_views'), '0', "$name: nothing was late");
	$node->stop;
	return;
}

survive('one', 1);
survive('four', 4);

done_testing();
