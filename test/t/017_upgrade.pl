# pg_upgrade: no worker runs meanwhile; streams, views, states and positions come along.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WeirTest;

my $old = weir_node('old', no_extension => 1);
my $topic = topic('orders');
my $late_topic = topic('more');
kafka()->create($topic, 2);
$old->safe_psql('postgres', 'CREATE DATABASE shop');
my %shop = (db => 'shop');
$old->safe_psql('shop', 'CREATE EXTENSION weir');
make_kafka_server($old, %shop);
make_orders($old, $topic, %shop);
make_sales($old, %shop);
$old->safe_psql('shop', <<'SQL');
CREATE TABLE plain_in (k int, v numeric, at timestamptz) WITH (weir.stream, weir.event_time = 'at', weir.keep = '1 day');
CREATE INDEX ON plain_in (k);
CREATE MATERIALIZED VIEW plain_out WITH (weir.continuous) AS SELECT k, sum(v) AS v, stddev_samp(v) AS dev FROM plain_in GROUP BY k;
CREATE MATERIALIZED VIEW medians WITH (weir.continuous) AS
  SELECT window_start, percentile_cont(0.5) WITHIN GROUP (ORDER BY v) AS median FROM plain_in, tumble(at, '1 minute') GROUP BY window_start;
CREATE MATERIALIZED VIEW finals WITH (weir.continuous, weir.emit = 'final') AS
  SELECT window_start, count(*) AS n FROM plain_in, tumble(at, '1 minute') GROUP BY window_start;
INSERT INTO plain_in SELECT i % 3, i, timestamptz '2026-01-01' + i * interval '1 s' FROM generate_series(0, 89) i;
SQL
kafka()->fill($topic, 2, 2_000);
wait_for($old, 'orders', %shop);
my $finals = $old->safe_psql('shop', 'SELECT * FROM finals');
$old->stop;
kafka()->fill($topic, 2, 1_000, '-f', 2_000);

my $new = PostgreSQL::Test::Cluster->new('new');
$new->init;
$new->append_conf('postgresql.conf', "shared_preload_libraries = 'weir'\ntimezone = 'UTC'\nlog_min_messages = info\n");
my $bindir = $new->config_data('--bindir');
# in a directory of its own: it writes files where it stands
chdir(PostgreSQL::Test::Utils::tempdir());
command_ok([ "$bindir/pg_upgrade", '--no-sync', '-b', $bindir, '-B', $bindir, '-d', $old->data_dir, '-D', $new->data_dir,
		'-s', $new->host, '-p', $old->port, '-P', $new->port ], 'pg_upgrade');
my @logs = glob($new->data_dir . '/pg_upgrade_output.d/*/log/*');
my $log = join('', map { slurp_file($_) } @logs);
unlike($log, qr/weir worker|weir launcher/, 'no worker in the logs of the upgrade');

$new->start;
wait_for($new, 'orders', %shop);
same($new, 'sales', sales_sql('(' . fill_sql(3_000) . ') o'), 'the view goes on from its positions', %shop);
is(positions($new, 'orders', %shop), kafka()->ends($topic), 'positions are at the end');
is($new->safe_psql('shop', 'SELECT * FROM finals'), $finals, 'closed windows are there');
$new->safe_psql('shop', "INSERT INTO plain_in SELECT i % 3, i, timestamptz '2026-01-01' + i * interval '1 s' FROM generate_series(90, 200) i");
verified($new, $_, undef, %shop) for qw(plain_out medians finals);
is($new->safe_psql('shop', 'SELECT count(*), sum(n) FROM finals'), '3|180', 'states of open windows came along');
is($new->safe_psql('shop', 'SELECT count(*) FROM plain_in'), '201', 'kept rows, too');
my ($ret, $out, $err) = $new->psql('shop', 'UPDATE sales SET orders = 0');
isnt($ret, 0, 'views are protected against changes');

# What goes with a stream or a view is known again, though pg_upgrade does not carry it.
$new->safe_psql('shop', 'CREATE MATERIALIZED VIEW another WITH (weir.continuous) AS SELECT k, avg(v) AS mean FROM plain_in GROUP BY k');
verified($new, 'another', undef, %shop);
$new->safe_psql('shop', 'DROP MATERIALIZED VIEW sales, plain_out, medians, finals, another; DROP TABLE orders, plain_in');
is($new->safe_psql('shop', "SELECT count(*) FROM pg_class WHERE relname ~ '^(rows|segment|query|state)_[0-9]'"), '0', 'dropped, they leave nothing');
$new->safe_psql('shop', 'DROP EXTENSION weir CASCADE');
pass('and the extension can be dropped');
$new->stop;
done_testing();
