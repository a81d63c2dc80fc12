# weir.replace(view, query, start => 'earliest'): the new query is filled from the topic beside the old one, which goes on,
# and takes its place when it has caught up. Whatever is killed, readers see the old rows or the new ones.
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

# keeps two seconds of event time: the kept rows never tell all
my $node = weir_node('main', conf => "weir.batch_rows = 1000\nfsync = off\n");
my $topic = topic('orders');
kafka()->create($topic, 2);
make_kafka_server($node);
make_orders($node, $topic, with => "weir.keep = '2 s'");
my ($ret, $out, $err);

my $new_sql = sub {
	my ($from) = @_;
	return "SELECT window_start, city, count(*) AS orders, sum(amount) AS revenue, max(amount) AS highest
	  FROM $from, tumble(ordered_at, '1 second') WHERE order_id % 3 <> 0 GROUP BY window_start, city";
};
my $old_sql = sub {
	my ($from) = @_;
	return "SELECT window_start, city, count(*) AS orders, min(order_id) AS first
	  FROM $from, tumble(ordered_at, '1 second') GROUP BY window_start, city";
};
my $all = sub { return '(' . fill_sql(@_) . ') o'; };
my $replace = sub {
	my ($view, $sql, $more) = @_;
	return "SELECT weir.replace('$view', \$weir\$$sql\$weir\$$more)";
};

# The view, and what depends on it.
$node->safe_psql('postgres', <<SQL);
CREATE MATERIALIZED VIEW sales WITH (weir.continuous) AS @{[ $old_sql->('orders') ]};
CREATE MATERIALIZED VIEW by_city WITH (weir.continuous) AS SELECT city, sum(orders) AS orders FROM sales GROUP BY city;
CREATE VIEW reads AS SELECT city, orders FROM sales;
CREATE INDEX by_orders ON sales (orders);
COMMENT ON TABLE sales IS 'what was sold';
CREATE ROLE reader;
GRANT SELECT ON sales TO reader;
SQL
# not before: rows that come before the view may have expired when it is made
kafka()->fill($topic, 2, 20_000);
wait_for($node, 'orders');
$node->safe_psql('postgres', <<'SQL');
CREATE TABLE seen (op text, city text, orders bigint);
CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql SET search_path = public AS $$
BEGIN INSERT INTO seen VALUES (TG_OP, NEW.city, NEW.orders); RETURN NULL; END $$;
CREATE TRIGGER see AFTER INSERT OR UPDATE ON sales FOR EACH ROW EXECUTE FUNCTION see();
CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.window_start > '2024-01-01 00:00:05Z' THEN PERFORM pg_advisory_xact_lock(42); END IF; RETURN NEW; END $$;
SQL
same($node, 'sales', $old_sql->($all->(20_000)), 'the old query');

($ret, $out, $err) = $node->psql('postgres', $replace->('sales', $new_sql->('orders'), ''));
like($err, qr/kept rows cannot tell.*HINT:.*start => 'earliest'/s, 'kept rows are not enough, and the hint names the topic');
($ret, $out, $err) = $node->psql('postgres', $replace->('sales', $new_sql->('orders'), ", start => 'latest'"));
like($err, qr/invalid start for weir\.replace/, 'another start');

# It returns at once; the old view goes on while the new one is held in the middle of the topic.
my $holder = session($node);
$holder->query('SELECT pg_advisory_lock(42)');
$node->safe_psql('postgres', "BEGIN; " . $replace->('sales', $new_sql->('orders'), ", start => 'earliest'") . ";
CREATE TRIGGER t BEFORE INSERT OR UPDATE ON sales_replacement FOR EACH ROW EXECUTE FUNCTION hold(); COMMIT");
eventually($node, "SELECT state = 'backfilling' AND progress > 0 AND progress < 1 FROM weir.views WHERE replaces = 'sales'::regclass", 'it shows how far it is');
is($node->safe_psql('postgres', "SELECT view, state, progress IS NULL FROM weir.views WHERE view = 'sales'::regclass"), 'sales|running|t', 'the old one is as it was');
same($node, 'sales', $old_sql->($all->(20_000)), 'readers see the old rows');
$holder->query('SELECT pg_advisory_unlock(42)');
wait_for($node, 'sales');
same($node, 'sales', $new_sql->($all->(20_000)), 'then they see the new ones');
is($node->safe_psql('postgres', "SELECT count(*) FROM weir.views WHERE replaces IS NOT NULL"), '0', 'nothing is left over');
is($node->safe_psql('postgres', "SELECT to_regclass('sales_replacement') IS NULL"), 't', 'nor its table');
kafka()->fill($topic, 2, 5_000, '-f', 20_000);
wait_for($node, 'orders');
same($node, 'sales', $new_sql->($all->(25_000)), 'it follows the stream');
verified($node, 'sales');
same($node, 'by_city', 'SELECT city, sum(orders) FROM (' . $new_sql->($all->(25_000)) . ') s GROUP BY city', 'so does the view above');
same($node, 'reads', 'SELECT city, orders FROM (' . $new_sql->($all->(25_000)) . ') s', 'and the ordinary view');
is($node->safe_psql('postgres', "SELECT has_table_privilege('reader', 'sales', 'SELECT'), obj_description('sales'::regclass), to_regclass('by_orders') IS NOT NULL"),
	't|what was sold|t', 'grants, comments and indexes stay');
cmp_ok($node->safe_psql('postgres', "SELECT count(*) FROM seen WHERE op = 'UPDATE'"), '>', 100, 'triggers see what changes');

# Rows that come while it is filled are in both; options and owner may change.
$node->safe_psql('postgres', "SELECT weir.pause('orders')");
$node->safe_psql('postgres', $replace->('sales', $old_sql->('orders'), ", start => 'earliest'"));
$node->safe_psql('postgres', "ALTER TABLE sales SET (weir.keep = '100 days'); CREATE ROLE other; GRANT ALL ON SCHEMA public TO other; GRANT SELECT ON orders TO other; GRANT INSERT ON seen TO other; ALTER TABLE sales OWNER TO other");
kafka()->fill($topic, 2, 5_000, '-f', 25_000);
$node->safe_psql('postgres', "SELECT weir.resume('orders')");
wait_for($node, 'sales');
wait_for($node, 'orders');
same($node, 'sales', $old_sql->($all->(30_000)), 'back to the old query');
is($node->safe_psql('postgres', "SELECT r.rolname, v.keep FROM weir.view_def v JOIN pg_class c ON c.oid = v.query JOIN pg_roles r ON r.oid = c.relowner WHERE v.view = 'sales'::regclass"),
	'other|100 days', 'with the options and the owner of now');
$node->safe_psql('postgres', "ALTER TABLE sales RESET (weir.keep); ALTER TABLE sales OWNER TO CURRENT_USER");

# Given up: by DROP, by weir.replace again, with the view.
my $paused = sub { $node->safe_psql('postgres', "BEGIN; $_[0]; SELECT weir.pause('$_[1]'); COMMIT"); };
$paused->($replace->('sales', $new_sql->('orders'), ", start => 'earliest'"), 'sales_replacement');
is($node->safe_psql('postgres', "SELECT state FROM weir.views WHERE replaces = 'sales'::regclass"), 'paused', 'it may be paused');
wait_for($node, 'orders');
($ret, $out, $err) = $node->psql('postgres', "SELECT weir.wait('sales', '10 s')");
like($err, qr/view public\.sales_replacement is paused and cannot take the place of public\.sales/, 'weir.wait says so');
$node->safe_psql('postgres', 'DROP MATERIALIZED VIEW sales_replacement');
wait_for($node, 'sales');
same($node, 'sales', $old_sql->($all->(30_000)), 'given up by DROP');
$paused->($replace->('sales', $new_sql->('orders'), ", start => 'earliest'"), 'sales_replacement');
# asked in the same transaction: it may have swapped a moment later
like($node->safe_psql('postgres', 'BEGIN; ' . $replace->('sales', $old_sql->('orders') . ', city', ", start => 'earliest'") . "; SELECT count(*) FROM weir.views WHERE replaces = 'sales'::regclass; COMMIT"),
	qr/^1$/m, 'called again, it begins anew');
wait_for($node, 'sales');
same($node, 'sales', $old_sql->($all->(30_000)), 'with the query of the last call');
$node->safe_psql('postgres', "CREATE MATERIALIZED VIEW totals WITH (weir.continuous, weir.start = 'earliest') AS SELECT count(*) AS n FROM orders");
wait_for($node, 'orders');
$paused->($replace->('totals', 'SELECT count(*) AS n, sum(amount) AS s FROM orders', ''), 'totals_replacement');
is($node->safe_psql('postgres', "SELECT count(*) FROM weir.views WHERE replaces = 'totals'::regclass"), '1', "weir.start = 'earliest' is an option that stays");
$node->safe_psql('postgres', 'DROP MATERIALIZED VIEW totals');
is($node->safe_psql('postgres', "SELECT to_regclass('totals_replacement') IS NULL"), 't', 'dropped with the view');

# What it cannot do is told; mended, it goes on.
$node->safe_psql('postgres', <<SQL);
CREATE FUNCTION forbid() RETURNS trigger LANGUAGE plpgsql AS \$\$ BEGIN IF NEW.orders < 80 THEN RAISE 'too few'; END IF; RETURN NULL; END \$\$;
CREATE TRIGGER forbid AFTER INSERT OR UPDATE ON sales FOR EACH ROW EXECUTE FUNCTION forbid();
@{[ $replace->('sales', $new_sql->('orders'), ", start => 'earliest'") ]};
SQL
eventually($node, "SELECT error FROM weir.views WHERE replaces = 'sales'::regclass", 'a trigger that raises', 'cannot take the place of public.sales: too few');
same($node, 'sales', $old_sql->($all->(30_000)), 'leaves the old rows');
($ret, $out, $err) = $node->psql('postgres', "SELECT weir.wait('sales')");
like($err, qr/view public\.sales_replacement is failed.*DETAIL:.*too few.*HINT:/s, 'weir.wait tells it, too');
$node->safe_psql('postgres', "DROP TRIGGER forbid ON sales; SELECT weir.resume('sales_replacement')");
wait_for($node, 'sales');
same($node, 'sales', $new_sql->($all->(30_000)), 'and then it does');

# A reader in a long transaction holds it up, and nobody else for long.
my $reader = session($node);
$reader->query('BEGIN; SELECT count(*) FROM sales');
$node->safe_psql('postgres', $replace->('sales', $old_sql->('orders'), ", start => 'earliest'"));
eventually($node, "SELECT progress FROM weir.views WHERE replaces = 'sales'::regclass", 'it has caught up', '1.0000');
is($node->safe_psql('postgres', "SELECT sum(orders) FROM sales"), '20000', 'and other readers read');
kafka()->fill($topic, 2, 1_000, '-f', 30_000);
wait_for($node, 'orders');
same($node, 'sales', $new_sql->($all->(31_000)), 'while the old query goes on');
($ret, $out, $err) = $node->psql('postgres', "SELECT weir.wait('sales', '1 s')");
like($err, qr/timeout while waiting for the new query of continuous view public\.sales/, 'weir.wait of the view waits for it');
$reader->query('COMMIT');
wait_for($node, 'sales');
same($node, 'sales', $old_sql->($all->(31_000)), 'until the reader has ended');

# Rows that the old query refused are in the new one: weir.retry must not count them again.
# In one transaction: over rows that are there, CREATE would raise.
$node->safe_psql('postgres', <<SQL);
BEGIN;
CREATE UNLOGGED TABLE kept (order_id bigint, city text, amount numeric, ordered_at timestamptz)
  WITH (weir.server = 'kafka', weir.topic = '$topic', weir.event_time = 'ordered_at', weir.keep = '1 hour');
CREATE MATERIALIZED VIEW odd WITH (weir.continuous) AS SELECT count(*) AS n, sum(1 / (order_id % 1000 - 7)) AS s FROM kept;
COMMIT;
SQL
wait_for($node, 'kept');
is($node->safe_psql('postgres', "SELECT n, (SELECT count(*) FROM weir.dead_letters WHERE view = 'odd'::regclass) FROM odd"), '30969|31', 'rows that a query refuses');
$node->safe_psql('postgres', "SELECT weir.replace('odd', 'SELECT count(*) AS n FROM kept')");
is($node->safe_psql('postgres', "SELECT weir.retry('kept'), (SELECT count(*) FROM weir.dead_letters WHERE view = 'odd'::regclass)"), '0|0', 'are dead letters no more');
is($node->safe_psql('postgres', "SELECT n FROM odd"), '31000', 'when another query took them');
$node->safe_psql('postgres', "SELECT weir.replace('odd', 'SELECT sum(1 / (order_id % 1000 - 7)) AS s, count(*) AS n FROM kept', start => 'earliest')");
wait_for($node, 'odd');
is($node->safe_psql('postgres', "SELECT n, (SELECT count(*) FROM weir.dead_letters WHERE view = 'odd'::regclass) FROM odd"), '30969|31', 'those that the new query refused are the view\'s');
$node->safe_psql('postgres', 'DROP MATERIALIZED VIEW odd; DROP TABLE kept');

# Finals are inserted once: those that stay the same are left alone. INSERTed rows that are kept belong to it.
my $finals = "SELECT window_start, city, count(*) AS orders%s FROM %s, tumble(ordered_at, '1 second') GROUP BY window_start, city";
$node->safe_psql('postgres', <<SQL);
CREATE MATERIALIZED VIEW finals WITH (weir.continuous, weir.emit = 'final', weir.start = 'earliest') AS @{[ sprintf($finals, '', 'orders') ]};
SQL
wait_for($node, 'orders');
$node->safe_psql('postgres', "CREATE TABLE out AS SELECT window_start, city, 0 AS times FROM finals;
CREATE FUNCTION count_out() RETURNS trigger LANGUAGE plpgsql SET search_path = public AS \$\$ BEGIN INSERT INTO out VALUES (NEW.window_start, NEW.city, 1); RETURN NULL; END \$\$;
CREATE TRIGGER t AFTER INSERT ON finals FOR EACH ROW EXECUTE FUNCTION count_out()");
$node->safe_psql('postgres', $replace->('finals', sprintf($finals, ', sum(amount) AS revenue', 'orders'), ''));
wait_for($node, 'finals');
kafka()->fill($topic, 2, 3_000, '-f', 31_000);
wait_for($node, 'orders');
same($node, 'finals', 'SELECT * FROM (' . sprintf($finals, ', sum(amount) AS revenue', $all->(34_000)) . ") f WHERE window_start < '2024-01-01 00:00:33Z'", 'finals');
is($node->safe_psql('postgres', 'SELECT count(*) FROM (SELECT FROM out GROUP BY window_start, city HAVING count(*) > 1) x'), '0', 'none was inserted twice');
$node->stop;

#----------------------------------------------------------------------
# Kills, at any moment
#----------------------------------------------------------------------

my $messages = 40_000;
my $fixed = topic('fixed');
kafka()->create($fixed, 4);
kafka()->fill($fixed, 4, $messages);
for my $workers (1, 4)
{
	my $n = weir_node("kill$workers", conf => "weir.batch_rows = 500\nweir.workers = $workers\nfsync = off\n");
	make_kafka_server($n);
	# in one transaction, so that the view misses no message
	$n->safe_psql('postgres', <<SQL);
BEGIN;
CREATE UNLOGGED TABLE orders (order_id bigint, city text, amount numeric, ordered_at timestamptz)
  WITH (weir.server = 'kafka', weir.topic = '$fixed', weir.event_time = 'ordered_at', weir.keep = '2 s');
CREATE MATERIALIZED VIEW sales WITH (weir.continuous) AS @{[ $old_sql->('orders') ]};
COMMIT;
SQL
	$n->safe_psql('postgres', <<'SQL');
CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.window_start > '2024-01-01 00:00:05Z' THEN PERFORM pg_advisory_xact_lock(42); END IF; RETURN NEW; END $$;
SQL
	wait_for($n, 'orders');
	my ($kills, $rounds, @queries) = (0, 0, ($new_sql, $old_sql));
	my %sums = map { $_ => 1 } ($messages, $n->safe_psql('postgres', 'SELECT sum(orders) FROM (' . $new_sql->($all->($messages)) . ') s'));
	my $want = quick() ? 6 : 20;
	while ($kills < $want)
	{
		my $query = $queries[ $rounds++ % 2 ];

		# the first kill of a round hits a worker in the middle of a batch of the new query; what held it there dies with it
		my $hold = session($n);
		$hold->query('SELECT pg_advisory_lock(42)');
		$n->safe_psql('postgres', 'BEGIN; ' . $replace->('sales', $query->('orders'), ", start => 'earliest'") . ';
CREATE TRIGGER t BEFORE INSERT OR UPDATE ON sales_replacement FOR EACH ROW EXECUTE FUNCTION hold(); COMMIT');
		my $held = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'weir worker' AND wait_event = 'advisory' LIMIT 1";
		ok($n->poll_query_until('postgres', "SELECT EXISTS ($held)"), "$workers workers, round $rounds: a worker fills the new query");
		kill 'KILL', $n->safe_psql('postgres', $held);
		eval { $hold->quit; };
		await_server($n);
		$kills++;
		for my $k (2 .. 3)
		{
			my $at = rand();
			for (1 .. 2000)
			{
				my $p = eval { $n->safe_psql('postgres', "SELECT coalesce((SELECT progress FROM weir.views WHERE replaces = 'sales'::regclass), 2)") };
				last if defined $p && $p ne '' && ($p >= $at || $p == 2);
			}
			if ($k == 3) { $n->stop('immediate'); $n->start; await_server($n); }
			else { kill_child($n, 'weir worker'); }
			$kills++;
			my $sum = eval { $n->safe_psql('postgres', 'SELECT sum(orders) FROM sales') } // '';
			ok($sums{$sum}, "$workers workers, round $rounds: the old rows or the new ones ($sum)") if $sum ne '';
		}
		for (1 .. 20)
		{
			await_server($n);
			last if eval { wait_for($n, 'sales', timeout => '60 s'); 1 };
			diag($@);
		}
		same($n, 'sales', $query->($all->($messages)), "$workers workers, round $rounds: the new query is there");
	}
	is($n->safe_psql('postgres', "SELECT count(*) FROM pg_class WHERE relname LIKE '%replacement%'"), '0', "$workers workers: nothing is left over");
	is($n->safe_psql('postgres', "SELECT count(*) FROM weir.view_def"), '1', "$workers workers: nor in the catalog");
	$n->stop;
}
done_testing();
