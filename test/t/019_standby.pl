# A physical standby: views are read there, no worker runs, and once it is promoted it goes on where the primary stopped.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WeirTest;

my $primary = weir_node('primary', init => { allows_streaming => 1 }, conf => "hot_standby = on\n");
my $topic = topic('orders');
kafka()->create($topic, 2);
make_kafka_server($primary);
make_orders($primary, $topic, with => "weir.keep = '1 hour', weir.idle_timeout = 'off'");
make_sales($primary);
$primary->safe_psql('postgres', <<'SQL');
CREATE TABLE plain_in (k int, v int, at timestamptz) WITH (weir.stream, weir.event_time = 'at', weir.keep = '1 day');
CREATE TABLE other (k int, w int, at timestamptz) WITH (weir.stream, weir.event_time = 'at', weir.keep = '1 day');
CREATE MATERIALIZED VIEW sums WITH (weir.continuous) AS SELECT k, sum(v) AS v, stddev_samp(v) AS dev FROM plain_in GROUP BY k;
CREATE MATERIALIZED VIEW medians WITH (weir.continuous) AS
  SELECT window_start, percentile_cont(0.5) WITHIN GROUP (ORDER BY v) AS median FROM plain_in, tumble(at, '1 minute') GROUP BY window_start;
CREATE MATERIALIZED VIEW ring WITH (weir.continuous, weir.keep = '1 hour', weir.segmented) AS
  SELECT window_start, k, count(*) AS n, avg(v) AS mean FROM plain_in, tumble(at, '1 minute') GROUP BY window_start, k;
CREATE MATERIALIZED VIEW visits WITH (weir.continuous) AS
  SELECT window_start, window_end, k, count(*) AS n FROM plain_in, session(at, '4 seconds') GROUP BY window_start, window_end, k;
CREATE MATERIALIZED VIEW pairs WITH (weir.continuous) AS
  SELECT p.k, p.v, o.w FROM plain_in p JOIN other o ON p.k = o.k AND o.at BETWEEN p.at - interval '5 s' AND p.at + interval '5 s';
CREATE MATERIALIZED VIEW uniques WITH (weir.continuous) AS SELECT k, count(DISTINCT v % 7) AS n FROM plain_in GROUP BY k;
CREATE MATERIALIZED VIEW finals WITH (weir.continuous, weir.emit = 'final') AS
  SELECT window_start, count(*) AS n FROM plain_in, tumble(at, '1 minute') GROUP BY window_start;
CREATE MATERIALIZED VIEW by_second WITH (weir.continuous, weir.emit = 'final') AS
  SELECT window_start, count(*) AS n FROM orders, tumble(ordered_at, '1 second') GROUP BY window_start;
CREATE TABLE log (view text, window_start timestamptz, n bigint);
CREATE FUNCTION log_final() RETURNS trigger LANGUAGE plpgsql AS $$
  BEGIN INSERT INTO public.log VALUES (tg_table_name, new.window_start, new.n); RETURN NULL; END $$;
CREATE TRIGGER log AFTER INSERT ON finals FOR EACH ROW EXECUTE FUNCTION log_final();
CREATE TRIGGER log AFTER INSERT ON by_second FOR EACH ROW EXECUTE FUNCTION log_final();
SQL
my @views = qw(sums medians ring visits pairs uniques finals);

# So many rows of each stream of INSERTs, from a second on.
sub insert
{
	my ($run, $from, $to) = @_;
	$run->("INSERT INTO plain_in SELECT i % 3, i, timestamptz '2026-01-01' + i * interval '1 s' FROM generate_series($from, $to) i");
	$run->("INSERT INTO other SELECT i % 4, i, timestamptz '2026-01-01' + i * interval '1 s' FROM generate_series($from, $to, 3) i");
	return;
}
my $on_primary = sub { $primary->safe_psql('postgres', $_[0]) };

insert($on_primary, 0, 99);
kafka()->fill($topic, 2, 2_000);
wait_for($primary, 'orders');
$primary->backup('base');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'base', has_streaming => 1);
$standby->start;
insert($on_primary, 100, 199);
kafka()->fill($topic, 2, 2_000, '-f', 2_000);
wait_for($primary, 'orders');
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('write'));

# ---------------------------------------------------------------- reading

is($standby->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE backend_type ~ '^weir (worker|publisher|expirer)'"), '0', 'no worker on the standby');
for my $view (@views, 'sales', 'by_second')
{
	my $rows = "SELECT count(*), md5(string_agg(v::text, ';' ORDER BY v::text)) FROM $view v";
	is($standby->safe_psql('postgres', $rows), $primary->safe_psql('postgres', $rows), "$view has the same rows on both");
}
my ($kept, $old) = (session($standby), session($standby));
isnt($old->query("SELECT count(*) FROM weir.explain('sums')"), '0', 'a session on the standby reads the catalog');
my $shown = 'SELECT stream, event_time, keep FROM weir.streams ORDER BY stream::text';
is($kept->query($shown), $primary->safe_psql('postgres', $shown), 'weir.streams');
$shown = 'SELECT view, state FROM weir.views ORDER BY view::text';
is($kept->query($shown), $primary->safe_psql('postgres', $shown), 'weir.views');
$standby->safe_psql('postgres', "SELECT * FROM $_") for qw(weir.stat_streams weir.stat_views weir.position weir.dead_letters);
$standby->safe_psql('postgres', "SELECT * FROM weir.explain('$_')") for @views;

for my $sql ("INSERT INTO plain_in VALUES (1, 1, now())", "REFRESH MATERIALIZED VIEW sums", "SELECT weir.pause('plain_in')", "SELECT * FROM weir.verify('sums')", "DROP MATERIALIZED VIEW sums",
	"CREATE MATERIALIZED VIEW more WITH (weir.continuous) AS SELECT k, count(*) FROM plain_in GROUP BY k")
{
	my ($ret, $out, $err) = $standby->psql('postgres', $sql);
	like($err, qr/ERROR: .*(read-only transaction|recovery)/, "refused: $sql");
}

# ---------------------------------------------------------------- promotion

# what the session knows is out of date by now
$primary->safe_psql('postgres', <<'SQL');
CREATE MATERIALIZED VIEW afterwards WITH (weir.continuous) AS SELECT k, max(v) AS v FROM plain_in GROUP BY k;
SQL
is($primary->safe_psql('postgres', 'SELECT count(*) FROM afterwards'), '3', 'another view on the primary');
insert($on_primary, 200, 249);
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('write'));
isnt($kept->query("SELECT count(*) FROM weir.explain('afterwards')"), '0', 'the session on the standby sees it');

# a stream that this session has not heard of, and no relation that it knows is touched
isnt($old->query("SELECT count(*) FROM weir.explain('sums')"), '0', 'another session has the catalog of now');
$primary->safe_psql('postgres', <<'SQL');
CREATE TABLE new_in (k int) WITH (weir.stream);
CREATE MATERIALIZED VIEW new_out WITH (weir.continuous) AS SELECT k, count(*) AS n FROM new_in GROUP BY k;
SQL
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('write'));

# messages that the primary takes in and the standby does not hear of any more, and some that neither has seen
# no worker at first: it could tell the session that the catalog is another
$standby->safe_psql('postgres', $_) for "ALTER SYSTEM SET primary_conninfo = ''", 'ALTER SYSTEM SET weir.enabled = off';
$standby->reload;
eventually($standby, 'SELECT count(*) FROM pg_stat_wal_receiver', 'the standby is cut off', '0');
kafka()->fill($topic, 2, 1_000, '-f', 4_000);
wait_for($primary, 'orders');
$primary->stop('immediate');
kafka()->fill($topic, 2, 1_000, '-f', 5_000);
$standby->promote;
$old->query('INSERT INTO new_in VALUES (1), (2), (1)');
is($standby->safe_psql('postgres', 'SELECT * FROM new_out ORDER BY k'), "1|2\n2|1", 'a session from before the promotion feeds what was made meanwhile');
$standby->safe_psql('postgres', 'ALTER SYSTEM RESET weir.enabled');
$standby->reload;
wait_for($standby, 'orders');
same($standby, 'sales', sales_sql('(' . fill_sql(6_000) . ') o'), 'each message counts once');
is(positions($standby, 'orders'), kafka()->ends($topic), 'positions are at the end');
eventually($standby, 'SELECT count(*) FROM orders', 'the rows that the unlogged stream kept are back', '6000');
verified($standby, 'sales');

insert(sub { $old->query($_[0]) }, 250, 400);
verified($standby, $_, "promoted: $_") for @views, 'afterwards';
is($standby->safe_psql('postgres', 'SELECT view, window_start FROM log GROUP BY 1, 2 HAVING count(*) > 1'), '', 'no final came twice');
is($standby->safe_psql('postgres', "SELECT (SELECT count(*) FROM finals) + (SELECT count(*) FROM by_second) - (SELECT count(*) FROM log)"), '0', 'each was seen by the trigger');
eventually($standby, 'SELECT count(*) = 5 AND sum(n) = 5000 FROM by_second', 'finals of all closed windows');
$standby->stop;
done_testing();
