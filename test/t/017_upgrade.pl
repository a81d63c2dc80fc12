# pg_upgrade: no worker runs meanwhile; streams, views, states and positions come along.
# The old server is of the same version, or of that whose installation the environment variable oldinstall names
# (as in PostgreSQL's own tests of pg_upgrade; weir is installed there, too).
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WeirTest;

# 18 makes checksums unless told not to; both servers must agree
my %init = (init => { extra => ['--data-checksums'] });
my $old = weir_node('old', no_extension => 1, install_path => $ENV{oldinstall}, %init);
my $topic = topic('orders');
kafka()->create($topic, 2);
$old->safe_psql('postgres', 'CREATE DATABASE shop');
my %shop = (db => 'shop');
$old->safe_psql('shop', 'CREATE EXTENSION weir');
make_kafka_server($old, %shop);
make_orders($old, $topic, %shop);
make_sales($old, %shop);
$old->safe_psql('shop', <<'SQL');
CREATE TABLE plain_in (k int NOT NULL, v numeric, at timestamptz) WITH (weir.stream, weir.event_time = 'at', weir.keep = '1 day');
CREATE INDEX ON plain_in (k);
CREATE MATERIALIZED VIEW plain_out WITH (weir.continuous) AS SELECT k, sum(v) AS v, stddev_samp(v) AS dev FROM plain_in GROUP BY k;
CREATE MATERIALIZED VIEW medians WITH (weir.continuous) AS
  SELECT window_start, percentile_cont(0.5) WITHIN GROUP (ORDER BY v) AS median FROM plain_in, tumble(at, '1 minute') GROUP BY window_start;
CREATE MATERIALIZED VIEW finals WITH (weir.continuous, weir.emit = 'final') AS
  SELECT window_start, count(*) AS n FROM plain_in, tumble(at, '1 minute') GROUP BY window_start;
CREATE TABLE other (k int, w int, at timestamptz) WITH (weir.stream, weir.event_time = 'at', weir.keep = '1 day');
CREATE MATERIALIZED VIEW ring WITH (weir.continuous, weir.keep = '1 hour', weir.segmented) AS
  SELECT window_start, k, count(*) AS n, avg(v) AS mean FROM plain_in, tumble(at, '1 minute') GROUP BY window_start, k;
CREATE MATERIALIZED VIEW hops WITH (weir.continuous) AS
  SELECT window_end, k, count(*) AS n, max(v) AS top FROM plain_in, hop(at, '1 minute', '10 seconds') GROUP BY window_end, k;
CREATE MATERIALIZED VIEW visits WITH (weir.continuous) AS
  SELECT window_start, window_end, k, count(*) AS n FROM plain_in, session(at, '4 seconds') GROUP BY window_start, window_end, k;
CREATE MATERIALIZED VIEW pairs WITH (weir.continuous) AS
  SELECT p.k, p.v, o.w FROM plain_in p JOIN other o ON p.k = o.k AND o.at BETWEEN p.at - interval '5 s' AND p.at + interval '5 s';
CREATE MATERIALIZED VIEW matched WITH (weir.continuous, weir.unmatched = 'at once') AS
  SELECT p.at, p.k, p.v, o.w FROM plain_in p LEFT JOIN other o ON p.k = o.k AND o.at BETWEEN p.at - interval '5 s' AND p.at + interval '5 s';
CREATE MATERIALIZED VIEW uniques WITH (weir.continuous) AS SELECT k, count(DISTINCT v % 7) AS n FROM plain_in GROUP BY k;
CREATE MATERIALIZED VIEW best WITH (weir.continuous) AS
  SELECT k, v, at FROM (SELECT *, row_number() OVER (PARTITION BY k ORDER BY v DESC, at) AS place FROM plain_in) p WHERE place <= 2;
CREATE MATERIALIZED VIEW above WITH (weir.continuous) AS SELECT n, count(*) AS keys FROM uniques GROUP BY n;
CREATE MATERIALIZED VIEW ranked WITH (weir.continuous, weir.emit = 'final') AS
  SELECT window_start, k, v, rank() OVER (PARTITION BY window_start ORDER BY v DESC) AS r FROM plain_in, tumble(at, '1 minute');
INSERT INTO plain_in SELECT i % 3, i, timestamptz '2026-01-01' + i * interval '1 s' FROM generate_series(0, 89) i;
INSERT INTO other SELECT i % 4, i, timestamptz '2026-01-01' + i * interval '3 s' FROM generate_series(0, 29) i;
SQL
my @views = qw(plain_out medians finals ring hops visits pairs matched uniques best above ranked);
verified($old, $_, "before: $_", %shop) for @views;
kafka()->fill($topic, 2, 2_000);
wait_for($old, 'orders', %shop);
my $finals = $old->safe_psql('shop', 'SELECT * FROM finals');
$old->stop;
kafka()->fill($topic, 2, 1_000, '-f', 2_000);

my $new = PostgreSQL::Test::Cluster->new('new');
$new->init(%{ $init{init} });
$new->append_conf('postgresql.conf', "shared_preload_libraries = 'weir'\ntimezone = 'UTC'\nlog_min_messages = info\n");
my $bindir = $new->config_data('--bindir');
my $old_bindir = $old->config_data('--bindir');
# in a directory of its own: it writes files where it stands
chdir(PostgreSQL::Test::Utils::tempdir());
command_ok([ "$bindir/pg_upgrade", '--no-sync', '-b', $old_bindir, '-B', $bindir, '-d', $old->data_dir, '-D', $new->data_dir,
		'-s', $new->host, '-p', $old->port, '-P', $new->port ], 'pg_upgrade');
my @logs = glob($new->data_dir . '/pg_upgrade_output.d/*/log/*');
my $log = join('', map { slurp_file($_) } @logs);
unlike($log, qr/weir worker|weir launcher/, 'no worker in the logs of the upgrade');

$new->start;
wait_for($new, 'orders', %shop);
same($new, 'sales', sales_sql('(' . fill_sql(3_000) . ') o'), 'the view goes on from its positions', %shop);
is(positions($new, 'orders', %shop), kafka()->ends($topic), 'positions are at the end');
is($new->safe_psql('shop', 'SELECT * FROM finals'), $finals, 'closed windows are there');
verified($new, $_, "upgraded: $_", %shop) for @views;
$new->safe_psql('shop', "INSERT INTO plain_in SELECT i % 3, i, timestamptz '2026-01-01' + i * interval '1 s' FROM generate_series(90, 200) i");
$new->safe_psql('shop', "INSERT INTO other SELECT i % 4, i, timestamptz '2026-01-01' + i * interval '3 s' FROM generate_series(25, 70) i");
verified($new, $_, "going on: $_", %shop) for @views;
# 18 has NOT NULL as a constraint, which the kept rows' tables inherit
$new->safe_psql('shop', "ALTER TABLE plain_in ALTER k DROP NOT NULL; INSERT INTO plain_in VALUES (NULL, 1, '2026-01-01 00:03:21')");
verified($new, $_, "without NOT NULL: $_", %shop) for @views;
# half a day on, segments of the ring are used again
$new->safe_psql('shop', "INSERT INTO plain_in SELECT i % 3, i, timestamptz '2026-01-01 12:00' + i * interval '1 minute' FROM generate_series(0, 200) i");
eventually($new, "SELECT min(window_start) > '2026-01-01 13:50' FROM ring", 'rows of the segmented view expire', 't', %shop);
verified($new, $_, "half a day on: $_", %shop) for @views;
is($new->safe_psql('shop', "SELECT count(*), sum(n) FROM finals WHERE window_start < '2026-01-01 00:03'"), '3|180', 'states of open windows came along');
is($new->safe_psql('shop', 'SELECT count(*) FROM plain_in'), '403', 'kept rows, too');
my ($ret, $out, $err) = $new->psql('shop', 'UPDATE sales SET orders = 0');
isnt($ret, 0, 'views are protected against changes');

# What goes with a stream or a view is known again, though pg_upgrade does not carry it.
$new->safe_psql('shop', 'CREATE MATERIALIZED VIEW another WITH (weir.continuous) AS SELECT k, avg(v) AS mean FROM plain_in GROUP BY k');
verified($new, 'another', undef, %shop);
$new->safe_psql('shop', 'DROP MATERIALIZED VIEW sales, another, above, ' . join(', ', grep { $_ ne 'above' } @views) . '; DROP TABLE orders, plain_in, other');
is($new->safe_psql('shop', "SELECT count(*) FROM pg_class WHERE relname ~ '^(rows|segment|query|state)_[0-9]'"), '0', 'dropped, they leave nothing');
$new->safe_psql('shop', 'DROP EXTENSION weir CASCADE');
pass('and the extension can be dropped');
$new->stop;
done_testing();
