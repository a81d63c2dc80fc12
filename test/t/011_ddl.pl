# Streams and views are altered while messages flow; workers follow without a restart.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WeirTest;

my $node = weir_node('main', conf => "deadlock_timeout = '10 s'\n");
my $topic = topic('orders');
kafka()->create($topic, 2);
make_kafka_server($node);
make_orders($node, $topic);
make_sales($node);
my ($stream, $view, $total) = ('orders', 'sales', 0);
my $rate = 2_000;
my $batch = 500;

# Messages flow around each statement: some before, some while it runs, some after.
sub through
{
	my ($name, $sql) = @_;
	my $filler = kafka()->fill_start($topic, 2, $batch, '-f', $total, '-r', $rate);
	my ($ret, $out, $err) = $node->psql('postgres', $sql);
	is($ret, 0, $name) or diag($err);
	$filler->finish or die 'fill failed';
	$total += $batch;
	return;
}

sub right
{
	my ($name) = @_;
	wait_for($node, $stream);
	same($node, "(SELECT window_start, city, orders, revenue, mean, first, last FROM $view)", sales_sql('(' . fill_sql($total) . ') o'), $name);
	return;
}

my ($pid) = worker_pids($node);
through('nothing', 'SELECT 1');
right('at first');
through('rename the stream', 'ALTER TABLE orders RENAME TO bestellungen');
$stream = 'bestellungen';
right('after the stream was renamed');
through('rename the view', 'ALTER MATERIALIZED VIEW sales RENAME TO umsatz');
$view = 'umsatz';
right('after the view was renamed');
through('move both', 'CREATE SCHEMA shop; ALTER TABLE bestellungen SET SCHEMA shop; ALTER MATERIALIZED VIEW umsatz SET SCHEMA shop');
($stream, $view) = ('shop.bestellungen', 'shop.umsatz');
right('after both moved to another schema');
through('new owner', 'CREATE ROLE keeper; GRANT USAGE, CREATE ON SCHEMA shop TO keeper; GRANT USAGE ON FOREIGN SERVER kafka TO keeper; ALTER TABLE shop.bestellungen OWNER TO keeper; ALTER MATERIALIZED VIEW shop.umsatz OWNER TO keeper');
right('after both got another owner');
through('add a column', 'ALTER TABLE shop.bestellungen ADD COLUMN customer text');
right('after a column was added');
wait_for($node, $stream);
cmp_ok($node->safe_psql('postgres', "SELECT count(*) FROM shop.bestellungen WHERE customer LIKE 'customer-%'"), '>', 0, 'the new column is filled from then on');
through('add one with a default', "ALTER TABLE shop.bestellungen ADD COLUMN source text DEFAULT 'web'");
right('after a column with a default was added');
through('drop a column', 'ALTER TABLE shop.bestellungen DROP COLUMN customer');
right('after a column was dropped');
through('index both', 'CREATE INDEX ON shop.bestellungen (order_id); CREATE INDEX ON shop.umsatz (city)');
right('with indexes');
through('keep less', "ALTER TABLE shop.bestellungen SET (weir.keep = '1 s')");
right('after weir.keep was changed');
through('keep nothing', "ALTER TABLE shop.bestellungen SET (weir.keep = '0')");
right('after weir.keep = 0');
through('the default again', 'ALTER TABLE shop.bestellungen RESET (weir.keep)');
right('after weir.keep was reset');
through('a second view', 'CREATE MATERIALIZED VIEW shop.n WITH (weir.continuous) AS SELECT count(*) AS n FROM shop.bestellungen WITH NO DATA');
right('with a second view');
through('which goes again', 'DROP MATERIALIZED VIEW shop.n');
right('without it');
through('rename a column', 'ALTER TABLE shop.bestellungen RENAME COLUMN source TO origin');
right('after a column was renamed');
through('grant', 'CREATE ROLE reader; GRANT USAGE ON SCHEMA shop TO reader; GRANT SELECT ON shop.bestellungen, shop.umsatz TO reader');
is($node->safe_psql('postgres', 'SET ROLE reader; SELECT count(*) > 0 FROM shop.bestellungen; SELECT count(*) > 0 FROM shop.umsatz'), "t\nt", 'grants work');
through('another batch size', "ALTER SYSTEM SET weir.batch_rows = 100; SELECT pg_reload_conf()");
right('with small batches');
through('truncate the kept rows', 'TRUNCATE shop.bestellungen');
right('TRUNCATE of the kept rows leaves views unchanged');
is_deeply([ worker_pids($node) ], [$pid], 'all that with one worker process');
is($node->safe_psql('postgres', 'SELECT count(*) FROM weir.dead_letters'), '0', 'and no dead letters');

through('more workers', "ALTER SYSTEM SET weir.workers = 3; SELECT pg_reload_conf()");
right('with more workers');
eventually($node, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'weir worker'", 'the pool grew', '3');
through('fewer workers', "ALTER SYSTEM SET weir.workers = 1; SELECT pg_reload_conf()");
right('with one worker again');
eventually($node, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'weir worker'", 'the pool shrank', '1');

# Who locks views against the order of the worker gets them, though he waited first: the worker gives way and tries again.
for my $name ('middle', 'last')
{
	$node->safe_psql('postgres', "CREATE MATERIALIZED VIEW shop.$name WITH (weir.continuous) AS SELECT count(*) AS n FROM shop.bestellungen WITH NO DATA");
}
wait_for($node, $stream);
my $blocker = session($node);
my $user = session($node);
my $waiting = 'SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE NOT granted';
$blocker->query('BEGIN; LOCK TABLE shop.middle IN ACCESS EXCLUSIVE MODE');
$user->query('BEGIN; LOCK TABLE shop.last IN ACCESS EXCLUSIVE MODE');
kafka()->fill($topic, 2, $batch, '-f', $total);
$total += $batch;
eventually($node, "$waiting AND backend_type = 'weir worker' AND relation = 'shop.middle'::regclass", 'the worker holds the first view and waits for the second', '1');
$user->send('LOCK TABLE shop.umsatz IN ACCESS EXCLUSIVE MODE');
eventually($node, "$waiting AND pg_locks.pid = " . $user->pid . " AND relation = 'shop.umsatz'::regclass", 'a user holds the third and waits for the first', '1');
$blocker->query('COMMIT');
$user->result;
$user->query('COMMIT');
is($user->errors, '', 'the user gets it');
$_->quit for $blocker, $user;
eventually($node, "SELECT deadlocks FROM pg_stat_database WHERE datname = 'postgres'", 'after a deadlock', '1');
right('the worker tried again');

# The stream can be dropped while messages flow; its view must go first, or along.
my ($ret, $out, $err) = $node->psql('postgres', 'DROP TABLE shop.bestellungen');
isnt($ret, 0, 'a stream with a view is not dropped without CASCADE');
through('drop', 'DROP TABLE shop.bestellungen CASCADE');
is($node->safe_psql('postgres', 'SELECT (SELECT count(*) FROM weir.streams) + (SELECT count(*) FROM weir.views) + (SELECT count(*) FROM weir.position) + (SELECT count(*) FROM weir.segment)'), '0', 'nothing of it is left');
$node->stop;
done_testing();
