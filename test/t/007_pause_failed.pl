# Pausing and resuming streams and views; a view that cannot run any more fails
# alone and catches up from its own position.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WeirTest;

my $node = weir_node();
my $topic = topic('orders');
kafka()->create($topic, 2);
make_kafka_server($node);
make_orders($node, $topic);
make_sales($node);
make_sales($node, name => 'other');
my ($ret, $out, $err);
my $sent = 0;

sub send_more { my ($n) = @_; kafka()->fill($topic, 2, $n, '-f', $sent); $sent += $n; return; }
sub oracle { return sales_sql('(' . fill_sql($sent) . ') o'); }
sub state_of { my ($view) = @_; return $node->safe_psql('postgres', "SELECT state FROM weir.views WHERE view = '$view'::regclass"); }
sub verbose { my ($sql) = @_; ($ret, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\n$sql"); return $err; }

send_more(1_000);
wait_for($node, 'orders');

# A paused stream reads nothing; wait names it.
$node->safe_psql('postgres', "SELECT weir.pause('orders')");
is($node->safe_psql('postgres', "SELECT state FROM weir.streams"), 'paused', 'a stream is paused');
send_more(1_000);
like(verbose("SELECT weir.wait('orders', '20 s')"), qr/55000.*orders/s, 'weir.wait names the paused stream');
is($node->safe_psql('postgres', 'SELECT sum(orders) FROM sales'), '1000', 'nothing is applied meanwhile');
$node->safe_psql('postgres', "SELECT weir.resume('orders')");
wait_for($node, 'orders');
same($node, 'sales', oracle(), 'resumed, it catches up');

# A paused view: others go on.
$node->safe_psql('postgres', "SELECT weir.pause('sales')");
is(state_of('sales'), 'paused', 'a view is paused');
send_more(1_000);
like(verbose("SELECT weir.wait('orders', '20 s')"), qr/55000.*sales/s, 'weir.wait names the paused view');
eventually($node, 'SELECT sum(orders) FROM other', 'the other view goes on', '3000');
is($node->safe_psql('postgres', 'SELECT sum(orders) FROM sales'), '2000', 'the paused one does not');
# across a crash
$node->stop('immediate');
$node->start;
is(state_of('sales'), 'paused', 'still paused after a crash');
send_more(1_000);
$node->safe_psql('postgres', "SELECT weir.resume('sales')");
wait_for($node, 'orders');
same($node, 'sales', oracle(), 'resumed, the view catches up');
same($node, 'other', oracle(), 'and the other one got nothing twice');
is(state_of('sales'), 'running', 'it runs');

# A view that cannot run: a trigger that raises for every row.
$node->safe_psql('postgres', <<'SQL');
CREATE FUNCTION raise() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no more, thanks'; END $$;
CREATE TRIGGER t BEFORE INSERT OR UPDATE ON sales FOR EACH ROW EXECUTE FUNCTION raise();
SQL
send_more(1_000);
eventually($node, "SELECT state FROM weir.views WHERE view = 'sales'::regclass", 'a view whose trigger raises fails', 'failed');
like($node->safe_psql('postgres', "SELECT error FROM weir.views WHERE view = 'sales'::regclass"), qr/no more, thanks/, 'its error is shown');
eventually($node, 'SELECT sum(orders) FROM other', 'others go on', $sent);
like(verbose("SELECT weir.wait('orders', '20 s')"), qr/55000.*sales/s, 'weir.wait names the failed view');
send_more(500);
$node->safe_psql('postgres', "DROP TRIGGER t ON sales; SELECT weir.resume('sales')");
wait_for($node, 'orders');
same($node, 'sales', oracle(), 'resumed, it catches up');
same($node, 'other', oracle(), 'nobody counts twice');
is($node->safe_psql('postgres', 'SELECT count(*) FROM weir.dead_letters'), '0', 'no row was to blame');

# A row that one view cannot take: dead letter of that view only.
$node->safe_psql('postgres', 'CREATE MATERIALIZED VIEW inverse WITH (weir.continuous) AS SELECT city, sum(1 / amount) AS s, count(*) AS n FROM orders GROUP BY city WITH NO DATA');
kafka()->put($topic,
	'{"order_id": -1, "city": "new", "amount": 2, "ordered_at": "2024-01-01T00:00:00Z"}',
	'{"order_id": -2, "city": "new", "amount": 0, "ordered_at": "2024-01-01T00:00:00Z"}',
	'{"order_id": -3, "city": "new", "amount": 4, "ordered_at": "2024-01-01T00:00:00Z"}');
wait_for($node, 'orders');
is($node->safe_psql('postgres', "SELECT n, round(s, 2) FROM inverse WHERE city = 'new'"), '2|0.75', 'the good rows are applied');
is($node->safe_psql('postgres', "SELECT view, sqlstate, convert_from(payload, 'UTF8') LIKE '%-2%' FROM weir.dead_letters"), 'inverse|22012|t', 'the bad one is a dead letter of the view');
is($node->safe_psql('postgres', "SELECT sum(orders) FROM other WHERE city = 'new'"), '3', 'other views have all three');
is(state_of('inverse'), 'running', 'the view goes on');

# Several workers or one: pause is for the owner only.
$node->safe_psql('postgres', 'CREATE ROLE somebody LOGIN');
like(verbose("SET ROLE somebody; SELECT weir.pause('orders')"), qr/42501/, "others may not pause");
$node->stop;
done_testing();
