# A database with a stream, a view and positions is dumped and restored, and
# goes on exactly where it was.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WeirTest;

my $node = weir_node('old', no_extension => 1);
my $topic = topic('orders');
kafka()->create($topic, 2);
$node->safe_psql('postgres', 'CREATE DATABASE shop');
my %shop = (db => 'shop');
$node->safe_psql('shop', 'CREATE EXTENSION weir; CREATE TABLE regions (city text, region text); INSERT INTO regions SELECT \'city-\' || i, \'r\' || i % 3 FROM generate_series(0, 9) i');
make_kafka_server($node, %shop);
make_orders($node, $topic, %shop);
make_sales($node, %shop);
my $by_region = 'SELECT region, count(*) AS n, stddev_samp(amount) AS dev FROM %s JOIN regions USING (city) GROUP BY region';
$node->safe_psql('shop', 'CREATE MATERIALIZED VIEW by_region WITH (weir.continuous) AS ' . sprintf($by_region, 'orders'));
$node->safe_psql('shop', <<SQL);
CREATE TABLE plain_in (k int, v numeric) WITH (weir.stream, weir.keep = '1 day');
CREATE MATERIALIZED VIEW plain_out WITH (weir.continuous) AS SELECT k, sum(v) AS v FROM plain_in GROUP BY k;
CREATE TABLE steps_in (k int, n int, ts timestamptz) WITH (weir.stream, weir.event_time = 'ts', weir.keep = '1 hour', weir.idle_timeout = 'off');
CREATE MATERIALIZED VIEW steps WITH (weir.continuous, weir.emit = 'final') AS SELECT k, n, lag(n) OVER w AS before, sum(n) OVER w AS total FROM steps_in WINDOW w AS (PARTITION BY k ORDER BY ts);
INSERT INTO steps_in SELECT 1, n, timestamptz '2024-01-01 00:00+00' + n * interval '1 s' FROM generate_series(1, 4) n;
CREATE INDEX ON sales (city);
COMMENT ON MATERIALIZED VIEW sales IS 'per second';
INSERT INTO plain_in VALUES (1, 1.5), (2, 2), (NULL, 3);
SQL
kafka()->fill($topic, 2, 2_000);
wait_for($node, 'orders', %shop);

my $file = PostgreSQL::Test::Utils::tempdir() . '/shop.dump';
$node->command_ok([ 'pg_dump', '-Fc', '-f', $file, '-d', $node->connstr('shop') ], 'pg_dump');
kafka()->fill($topic, 2, 1_000, '-f', 2_000);
wait_for($node, 'orders', %shop);
$node->stop;

my $new = weir_node('new', no_extension => 1);
$new->safe_psql('postgres', 'CREATE DATABASE shop');
# Workers find their positions before the views' indexes are there, and try again.
my @restore = ('pg_restore', '--exit-on-error', '-d', $new->connstr('shop'));
$new->command_ok([ @restore, '--section=pre-data', '--section=data', $file ], 'pg_restore: the data');
kafka()->fill($topic, 2, 1_000, '-f', 3_000);
$new->wait_for_log(qr/no unique or exclusion constraint matching the ON CONFLICT specification/);
is($new->safe_psql('shop', "SELECT count(*) FROM weir.views WHERE state = 'failed'"), '0', 'no view has failed');
$new->command_ok([ @restore, '--section=post-data', $file ], 'pg_restore: indexes and triggers');
wait_for($new, 'orders', %shop);
same($new, 'sales', sales_sql('(' . fill_sql(4_000) . ') o'), 'restored, the view goes on from the dump\'s positions', %shop);
same($new, 'by_region', sprintf($by_region, '(' . fill_sql(4_000) . ') o'), 'so does one with transition states', %shop);
$new->safe_psql('shop', 'INSERT INTO plain_in VALUES (1, 1), (NULL, 1)');
is($new->safe_psql('shop', 'SELECT * FROM plain_out ORDER BY k'), "1|2.5\n2|2\n|4", 'and a stream of INSERTs');
$new->safe_psql('shop', "INSERT INTO steps_in SELECT 1, n, timestamptz '2024-01-01 00:00+00' + n * interval '1 s' FROM generate_series(5, 7) n");
is($new->safe_psql('shop', 'SELECT n, before, total FROM steps ORDER BY n'), "1||1\n2|1|3\n3|2|6\n4|3|10\n5|4|15\n6|5|21", 'and finals that remember what came before');
is(positions($new, 'orders', %shop), kafka()->ends($topic), 'positions are at the end');
is($new->safe_psql('shop', "SELECT obj_description('sales'::regclass)"), 'per second', 'comments came along');
my ($ret, $out, $err) = $new->psql('shop', 'UPDATE sales SET orders = 0');
isnt($ret, 0, 'the restored view is protected against changes');
$new->safe_psql('shop', 'DROP MATERIALIZED VIEW sales, by_region, plain_out, steps; DROP TABLE orders, plain_in, steps_in; DROP EXTENSION weir CASCADE');
pass('and everything can be dropped');
$new->stop;
done_testing();
