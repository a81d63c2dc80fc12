# Aggregates of other extensions combine through their transition states: hll and tdigest, from Debian's packages.
# test/run installs them; with a PostgreSQL of another kind they may be missing, and what needs them is skipped.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WeirTest;

my $node = weir_node();
my ($ret, $out, $err);
$node->safe_psql('postgres', <<'SQL');
-- keeps no rows: whatever the views hold, they hold by combining
CREATE TABLE hits (k text, visitor bigint, ms float8, at timestamptz) WITH (weir.stream, weir.event_time = 'at', weir.keep = 0);
CREATE TABLE all_hits (LIKE hits);
CREATE FUNCTION put(a int, b int) RETURNS void LANGUAGE sql AS $$
  WITH r AS (SELECT CASE WHEN i % 11 > 0 THEN 'k' || i % 3 END, NULLIF(i * 7919 % 5003, 17), (i * 31 % 1009)::float8, timestamptz '2026-01-01' + i * interval '50 ms' FROM generate_series(a, b) i),
    s AS (INSERT INTO all_hits SELECT * FROM r) INSERT INTO hits SELECT * FROM r $$;
SQL
my @pieces = ([ 1, 1 ], [ 2, 2 ], [ 3, 7000 ], [ 7001, 7100 ], [ 7101, 20000 ]);
sub put { $node->safe_psql('postgres', "SELECT put($_->[0], $_->[1])") for @pieces; return; }
sub has { return $node->safe_psql('postgres', "SELECT count(*) FROM pg_available_extensions WHERE name = '$_[0]'"); }
sub view { my ($name, $sql, $with) = @_; $node->safe_psql('postgres', "CREATE MATERIALIZED VIEW $name WITH (weir.continuous" . ($with // '') . ') AS ' . sprintf($sql, 'hits')); return; }
sub explains { my ($view, $pattern, $name) = @_; like($node->safe_psql('postgres', "SELECT weir.explain('$view')"), $pattern, $name); return; }

my $visitors = 'SELECT window_start, k, #hll_add_agg(hll_hash_bigint(visitor)) AS visitors, count(*) AS n FROM %s, tumble(at, \'1 minute\') GROUP BY window_start, k';
my $sketch = 'SELECT k, hll_add_agg(hll_hash_bigint(visitor)) AS sketch FROM %s GROUP BY k';
my $percentiles = 'SELECT k, tdigest_percentile(ms, 100, ARRAY[0.5, 0.95]) AS p, tdigest_percentile(ms, 100, 0.99) FILTER (WHERE ms < 500) AS p99 FROM %s GROUP BY k';
my $digests = 'SELECT window_start, tdigest(ms, 100) AS d FROM %s, tumble(at, \'1 minute\') GROUP BY window_start';
my ($hll, $tdigest) = (has('hll'), has('tdigest'));
if ($hll)
{
	$node->safe_psql('postgres', 'CREATE EXTENSION hll');
	view('visitors', $visitors);
	view('visitors_final', $visitors, ", weir.emit = 'final'");
	view('sketch', $sketch);
}
if ($tdigest)
{
	$node->safe_psql('postgres', 'CREATE EXTENSION tdigest');
	view('percentiles', $percentiles);
	view('digests', $digests);
}

# One of the user's own, without a combine function: the kept rows are needed.
$node->safe_psql('postgres', <<'SQL');
CREATE AGGREGATE product(float8) (SFUNC = float8mul, STYPE = float8, INITCOND = '1');
CREATE AGGREGATE product_combined(float8) (SFUNC = float8mul, STYPE = float8, INITCOND = '1', COMBINEFUNC = float8mul);
SQL
my $product = 'SELECT window_start, %s(1 + ms / 1e6) AS p FROM %s, tumble(at, \'1 minute\') GROUP BY window_start';
($ret, $out, $err) = $node->psql('postgres', '\set VERBOSITY verbose' . "\nCREATE MATERIALIZED VIEW product WITH (weir.continuous) AS " . sprintf($product, 'product', 'hits'));
like($err, qr/0A000.*product.*needs the rows themselves/s, 'an aggregate without a combine function needs kept rows, and says so');
$node->safe_psql('postgres', "CREATE TABLE kept_hits (LIKE hits) WITH (weir.stream, weir.event_time = 'at', weir.keep = '1 day')");
$node->safe_psql('postgres', 'CREATE MATERIALIZED VIEW product WITH (weir.continuous) AS ' . sprintf($product, 'product', 'kept_hits'));
$node->safe_psql('postgres', 'CREATE MATERIALIZED VIEW product_combined WITH (weir.continuous) AS ' . sprintf($product, 'product_combined', 'hits'));
explains('product', qr/^strategy: recompute\nwhy: product.*\n(.*\n)*cost: per batch, the kept rows of all touched windows/m, 'with rows kept it recomputes, and says what that costs');
explains('product_combined', qr/^strategy: combine$/m, 'with a combine function it combines');

put();
$node->safe_psql('postgres', 'INSERT INTO kept_hits SELECT * FROM all_hits ORDER BY at LIMIT 9000; INSERT INTO kept_hits SELECT * FROM all_hits ORDER BY at OFFSET 9000');
verified($node, 'product');
is($node->safe_psql('postgres', 'SELECT count(*) FROM product a JOIN product_combined b USING (window_start) WHERE abs(a.p - b.p) > 1e-9 * b.p'), '0', 'both give the same');
is($node->safe_psql('postgres', 'SELECT count(*) > 10 FROM product JOIN product_combined USING (window_start)'), 't', 'for all windows');

SKIP:
{
	skip 'the extension hll is not installed', 5 unless $hll;
	same($node, 'visitors', sprintf($visitors, 'all_hits'), 'hll: distinct visitors of a window');
	explains('visitors', qr/^strategy: combine$/m, 'by combining states');
	same($node, 'visitors_final', 'SELECT * FROM (' . sprintf($visitors, 'all_hits') . ") q WHERE window_start < (SELECT max(window_start) FROM visitors)", 'hll: in finals, too');
}
SKIP:
{
	skip 'the extension hll is not installed', 1 unless $hll;
	same($node, '(SELECT k, #sketch FROM sketch)', 'SELECT k, #sketch FROM (' . sprintf($sketch, 'all_hits') . ') q', 'hll: the sketch itself');
}
SKIP:
{
	skip 'the extension tdigest is not installed', 5 unless $tdigest;
	explains('percentiles', qr/^strategy: combine$/m, 'tdigest combines states');
	# a digest depends on the order of its values: near the truth, not equal to another digest
	is($node->safe_psql('postgres', <<'SQL'), '4|t|t|t', 'tdigest: percentiles are near the true ones');
SELECT count(*), bool_and(abs(p[1] - t.m) < 15), bool_and(abs(p[2] - t.h) < 15), bool_and(abs(p99 - t.l) < 10)
  FROM percentiles v JOIN (SELECT k, percentile_cont(0.5) WITHIN GROUP (ORDER BY ms) m, percentile_cont(0.95) WITHIN GROUP (ORDER BY ms) h,
    percentile_cont(0.99) WITHIN GROUP (ORDER BY ms) FILTER (WHERE ms < 500) l FROM all_hits GROUP BY k) t ON t.k IS NOT DISTINCT FROM v.k
SQL
	same($node, '(SELECT window_start, tdigest_count(d) FROM digests)', "SELECT window_start, count(ms) FROM all_hits, tumble(at, '1 minute') GROUP BY window_start", 'tdigest: the digest itself has all values');
	is($node->safe_psql('postgres', 'SELECT abs(tdigest_percentile(d, 0.5) - (SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY ms) FROM all_hits)) < 15 FROM digests'), 't', 'and goes on to be combined by hand');
}
$node->stop;
done_testing();
