# weir.explain(view, live => true) of every kind of view: what the next batch costs is answered, and the batch is applied.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WeirTest;

my $near = "r.at BETWEEN l.at - interval '2 s' AND l.at + interval '3 s'";
my @views = (
	[ 'combine', '', 'SELECT k, count(*) AS n, avg(v) AS m FROM l GROUP BY k' ],
	[ 'windows', ", weir.lateness = '1 minute'", "SELECT window_start, k, sum(v) AS s FROM l, tumble(at, '1 minute') GROUP BY 1, 2" ],
	[ 'hops', '', "SELECT window_start, sum(v) AS s FROM l, hop(at, '1 minute', '10 s') GROUP BY 1" ],
	[ 'finals', ", weir.emit = 'final'", "SELECT window_start, k, max(v) AS m FROM l, tumble(at, '1 minute') GROUP BY 1, 2" ],
	[ 'at_close', ", weir.emit = 'final'", "SELECT window_start, k, rank() OVER (PARTITION BY window_start ORDER BY sum(v), k) AS r FROM l, tumble(at, '1 minute') GROUP BY 1, 2" ],
	[ 'above_three', '', 'SELECT k, sum(v) AS s FROM l GROUP BY k HAVING sum(v) > 3' ],
	[ 'dist', '', 'SELECT DISTINCT k FROM l' ],
	[ 'median', '', "SELECT window_start, percentile_cont(0.5) WITHIN GROUP (ORDER BY v) AS m FROM l, tumble(at, '1 minute') GROUP BY 1" ],
	[ 'first_rows', '', 'SELECT DISTINCT ON (k) k, v, at FROM l ORDER BY k, v DESC, at' ],
	[ 'sess', '', "SELECT window_start, window_end, k, count(*) AS n FROM l, session(at, '10 s') GROUP BY 1, 2, 3" ],
	[ 'sess_rows', '', "SELECT window_start, window_end, k, count(DISTINCT v) AS n, string_agg(v::text, ',') AS vs FROM l, session(at, '10 s') GROUP BY 1, 2, 3" ],
	[ 'app', '', 'SELECT at, k, v * 2 AS v2 FROM l WHERE v > 0' ],
	[ 'lookup', '', 'SELECT name, count(*) AS n FROM l LEFT JOIN names USING (k) GROUP BY name' ],
	[ 'inner_join', '', "SELECT l.k, v, w FROM l JOIN r ON l.k = r.k AND $near" ],
	[ 'join_counts', '', "SELECT l.k, count(*) AS n, sum(w) AS s FROM l JOIN r ON l.k = r.k AND $near GROUP BY l.k" ],
	[ 'left_join', '', "SELECT l.k, v, w, l.at FROM l LEFT JOIN r ON l.k = r.k AND $near" ],
	[ 'full_join', '', "SELECT l.k, v, r.k AS rk, w FROM l FULL JOIN r ON l.k = r.k AND $near" ],
	[ 'above_finals', '', 'SELECT k, sum(m) AS s FROM finals GROUP BY k' ],
	[ 'above_changes', '', 'SELECT n, count(*) AS c FROM combine GROUP BY n' ],
	[ 'above_app', '', "SELECT window_start, count(*) AS n FROM app, tumble(at, '1 minute') GROUP BY 1" ],);

my $node = weir_node();
$node->safe_psql('postgres', <<'SQL');
CREATE TABLE l (gone int, at timestamptz, k int, v int) WITH (weir.stream, weir.event_time = 'at', weir.keep = '1 day', weir.idle_timeout = 'off');
CREATE TABLE r (at timestamptz, k int, gone int, w int) WITH (weir.stream, weir.event_time = 'at', weir.keep = '1 day', weir.idle_timeout = 'off');
ALTER TABLE l DROP COLUMN gone;
ALTER TABLE r DROP COLUMN gone;
CREATE TABLE names (k int PRIMARY KEY, name text);
INSERT INTO names VALUES (1, 'one');
SQL
$node->safe_psql('postgres', "CREATE MATERIALIZED VIEW $_->[0] WITH (weir.continuous$_->[1]) AS $_->[2]") foreach @views;

my $at = 0;
my $asker = session($node);
my $asks = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%live => true%' AND wait_event_type = 'Extension' AND pid <> pg_backend_pid()";

# a batch of each stream, ten minutes on; more rows than weir leaves to a plain scan
sub put
{
	my ($rows) = @_;
	$at += 600;
	$node->safe_psql('postgres', <<SQL);
INSERT INTO r SELECT timestamptz '2026-01-01' + interval '1 s' * ($at + i % 60), i % 5, i FROM generate_series(1, 20) i;
INSERT INTO l SELECT timestamptz '2026-01-01' + interval '1 s' * ($at + i % 60), i % 5, i FROM generate_series(1, $rows) i;
SQL
	return;
}

put(50);
foreach my $view (@views)
{
	my $name = $view->[0];
	foreach my $rows (20, 3000)
	{
		next if $rows > 100 && $view->[2] =~ / JOIN r /;
		$asker->send("SELECT weir.explain('$name', live => true)");
		$node->poll_query_until('postgres', $asks, '1') or die "$name: weir.explain does not wait: " . $asker->errors;
		put($rows);
		my $out = $asker->result;
		like($out, qr/^[a-z ]+: \d+\.\d{3} ms, \d+ rows\n.*\(actual time=/ms, "$name, $rows rows") or diag($asker->errors);
	}
}
verified($node, $_->[0], "$_->[0] equals its query") foreach grep { $_->[0] ne 'lookup' } @views;
$asker->quit;
$node->stop;
done_testing();
