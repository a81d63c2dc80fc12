# Finals: the worked cases from Kafka, the clock, and a million messages while
# processes are killed: an AFTER INSERT trigger sees each final exactly once.
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

# ---------------------------------------------------------------- the worked cases

my $node = weir_node('cases');
make_kafka_server($node);
$node->safe_psql('postgres', <<SQL);
CREATE FUNCTION ms(timestamptz) RETURNS bigint LANGUAGE sql IMMUTABLE
  AS 'SELECT (extract(epoch FROM \$1) * 1000)::bigint';
CREATE TABLE log (n serial, view text, final jsonb);
CREATE FUNCTION log_final() RETURNS trigger LANGUAGE plpgsql AS \$\$
  BEGIN INSERT INTO public.log (view, final) VALUES (tg_table_name, to_jsonb(new)); RETURN NULL; END \$\$;
SQL

sub stream
{
	my ($name, $with, $partitions) = @_;
	my $topic = topic($name);
	kafka()->create($topic, $partitions // 1);
	$node->safe_psql('postgres', <<SQL);
CREATE UNLOGGED TABLE $name (ts timestamptz, k text, v int)
  WITH (weir.server = 'kafka', weir.topic = '$topic', weir.event_time = 'ts', weir.late = 'keep', $with);
SQL
	return $topic;
}

sub view
{
	my ($name, $with, $query) = @_;
	$node->safe_psql('postgres', <<SQL);
CREATE MATERIALIZED VIEW $name WITH (weir.continuous, $with) AS $query;
CREATE TRIGGER log AFTER INSERT OR UPDATE OR DELETE ON $name FOR EACH ROW EXECUTE FUNCTION log_final();
SQL
	return;
}

sub put
{
	my ($topic, @rows) = @_;
	kafka()->put($topic, [ '-p', '0' ], map { my ($ts, $k, $v) = @$_; sprintf '{"ts": %s, "k": "%s", "v": %s}', $ts, $k, $v // 'null' } @rows);
	return;
}

sub rows
{
	my ($sql, $want, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($node->safe_psql('postgres', $sql), $want, $name);
	return;
}

my $topic = stream('c1', "weir.idle_timeout = 'off'");
view('c1_view', "weir.emit = 'changes'", "SELECT window_start, k, max(v) AS m FROM c1, tumble(ts, '30 s') GROUP BY 1, 2");
put($topic, [ 0, 'k0', 0 ], [ 89999, 'k0', 1 ], [ 10009, 'k0', 5 ], [ 90000, 'k0', 0 ], [ 10010, 'k0', 6 ], [ 10009, 'k1', 100 ],
	[ 30000, 'k1', 101 ], [ 86412022, 'k1', 200 ], [ 60000, 'k1', 200 ]);
wait_for($node, 'c1');
rows("SELECT string_agg(format('%s[%s=%s', k, ms(window_start), m), ' ' ORDER BY k, window_start) FROM c1_view",
	'k0[0=6 k0[60000=1 k0[90000=0 k1[0=100 k1[30000=101 k1[60000=200 k1[86400000=200', 'C1');

$topic = stream('c2', "weir.idle_timeout = 'off'");
view('c2_view', "weir.emit = 'changes'", "SELECT window_start, k, count(*) AS n FROM c2, hop(ts, '5 s', '1 s') GROUP BY 1, 2");
put($topic, [ 10345, 'k0' ], [ 13251, 'k0' ]);
wait_for($node, 'c2');
rows("SELECT string_agg(ms(window_start) || '=' || n, ' ' ORDER BY window_start) FROM c2_view",
	'6000=1 7000=1 8000=1 9000=2 10000=2 11000=1 12000=1 13000=1', 'C2');

# sessions, of the rows as they are and as finals
my $session = "SELECT window_start, window_end, k, count(*) AS n, max(v) AS m FROM %s, session(ts, '30 s') GROUP BY 1, 2, 3";
my $sessions = "SELECT string_agg(format('%%s[%%s..%%s]=%%s/%%s', k, ms(window_start), ms(window_end) - 30000, n, m), ' ' ORDER BY k, window_start) FROM %s";
$topic = stream('c3', "weir.idle_timeout = 'off', weir.keep = '10 days'");
view('c3_view', "weir.emit = 'changes'", sprintf $session, 'c3');
put($topic, [ 0, 'k0', 0 ], [ 70010, 'k0', 1 ], [ 10009, 'k0', 5 ], [ 10010, 'k0', 6 ], [ 10009, 'k1', 100 ], [ 10010, 'k1', 101 ],
	[ 86412022, 'k1', 200 ], [ 60000, 'k1', 200 ]);
wait_for($node, 'c3');
rows((sprintf $sessions, 'c3_view'),
	'k0[0..10010]=3/6 k0[70010..70010]=1/1 k1[10009..10010]=2/101 k1[60000..60000]=1/200 k1[86412022..86412022]=1/200', 'C3');
put($topic, [ 40010, 'k0', 2 ]);
wait_for($node, 'c3');
rows((sprintf $sessions, 'c3_view'),
	'k0[0..70010]=5/6 k1[10009..10010]=2/101 k1[60000..60000]=1/200 k1[86412022..86412022]=1/200', 'C3: one more row, and two are one');
rows("SELECT final->>'n' FROM log WHERE view = 'c3_view' ORDER BY n DESC LIMIT 2", "5\n", 'C3: the absorbed one is deleted, the other updated');
verified($node, 'c3_view');

$topic = stream('c4', "weir.idle_timeout = 'off'");
view('c4_view', "weir.emit = 'changes'", sprintf $session, 'c4');
view('c4_final', "weir.emit = 'final'", sprintf $session, 'c4');
put($topic, [ 0, 'k0', 1 ], [ 10000, 'k0', 2 ], [ 10000, 'k1', 3 ], [ 40000, 'k1', 4 ]);
wait_for($node, 'c4');
rows((sprintf $sessions, 'c4_view'), 'k0[0..10000]=2/2 k1[10000..40000]=2/4', 'C4: the gap is inclusive');
put($topic, [ 40000, 'k0', 5 ], [ 70000, 'k2', 6 ]);
wait_for($node, 'c4');
rows((sprintf $sessions, 'c4_final'), '', 'C4b: nothing has closed');
put($topic, [ 70001, 'k2', 7 ], [ 70000, 'k0', 8 ]);
wait_for($node, 'c4');
rows((sprintf $sessions, 'c4_final'), 'k0[0..40000]=3/5 k1[10000..40000]=2/4', 'C4b: strictly behind it');
rows("SELECT \"offset\", reason FROM weir.late_rows WHERE view = 'c4_final'::regclass", '7|within the gap of a closed session', 'C4b: and then it takes nothing');
verified($node, 'c4_view');
verified($node, 'c4_final');

$topic = stream('c5', "weir.idle_timeout = 'off'");
view('c5_view', "weir.emit = 'final'", "SELECT window_start, k, count(*) AS n FROM c5, tumble(ts, '2 ms') GROUP BY 1, 2");
put($topic, [ 0, 'k1' ], [ 1, 'k1' ]);
wait_for($node, 'c5');
rows('SELECT count(*) FROM c5_view', '0', 'C5: nothing before the end');
put($topic, [ 2, 'k1' ]);
wait_for($node, 'c5');
rows('SELECT ms(window_start), k, n FROM c5_view', '0|k1|2', 'C5: the final, at the end');
verified($node, 'c5_view');

$topic = stream('c6', "weir.idle_timeout = 'off', weir.lateness = '1 ms'");
view('c6_view', "weir.emit = 'final'", "SELECT window_start, k, count(*) AS n FROM c6, tumble(ts, '2 ms') GROUP BY 1, 2");
put($topic, map { [ $_, 'k1' ] } 0, 1, 2, 1, 0, 5, 0);
wait_for($node, 'c6');
rows('SELECT ms(window_start), k, n FROM c6_view ORDER BY 1', "0|k1|4\n2|k1|1", 'C6');
rows("SELECT \"offset\", ms(event_time), ms(window_start), record->>'k' FROM weir.late_rows WHERE view = 'c6_view'::regclass",
	'6|0|0|k1', 'C6: the last row is late');
rows("SELECT late FROM weir.stat_views WHERE view = 'c6_view'::regclass", '1', 'C6: and counted');
verified($node, 'c6_view');
rows("SELECT count(*), count(DISTINCT final) FROM log WHERE view = 'c6_view'", '2|2', 'C6: each final once');

# a row from the future is bad and moves nothing
put($topic, [ 253370764800000, 'k1' ]);
wait_for($node, 'c6');
rows("SELECT bad, ms(stream_time) FROM weir.stat_streams WHERE stream = 'c6'::regclass", '1|5', 'C11: the row is bad');
rows('SELECT count(*) FROM c6_view', '2', 'C11: the other windows stay open');

$topic = stream('c10', "weir.idle_timeout = '1 s'");
view('c10_view', "weir.emit = 'final'", "SELECT window_start, k, count(*) AS n FROM c10, tumble(ts, '2 ms') GROUP BY 1, 2");
view('c10_median', "weir.emit = 'final'",
	"SELECT window_start, percentile_disc(0.5) WITHIN GROUP (ORDER BY v) AS median FROM c10, tumble(ts, '2 ms') GROUP BY 1");
view('c10_session', "weir.emit = 'final'", "SELECT window_start, window_end - interval '2 ms' + interval '30 s' AS window_end, k, count(*) AS n, max(v) AS m FROM c10, session(ts, '2 ms') w GROUP BY 1, w.window_end, 3");
put($topic, [ 0, 'k1', 7 ], [ 1, 'k1', 9 ]);
wait_for($node, 'c10');
eventually($node, 'SELECT n FROM c10_view', 'C10: closed by the clock', '2');
eventually($node, (sprintf $sessions, 'c10_session'), 'C10: a session closes by the clock', 'k1[0..1]=2/9');
eventually($node, 'SELECT median FROM c10_median', 'C10: also where the kept rows are asked', '7');

# an idle partition does not hold the others back; what it brings later is late
$topic = stream('idle', "weir.idle_timeout = '1 s'", 2);
view('idle_view', "weir.emit = 'final'", "SELECT window_start, k, count(*) AS n FROM idle, tumble(ts, '1 s') GROUP BY 1, 2");
kafka()->put($topic, [ '-P' ], "0\t{\"ts\": 100, \"k\": \"a\"}", "1\t{\"ts\": 200, \"k\": \"b\"}", "0\t{\"ts\": 5000, \"k\": \"a\"}");
wait_for($node, 'idle');
eventually($node, "SELECT string_agg(k, ',' ORDER BY k) FROM idle_view WHERE ms(window_start) = 0", 'an idle partition is left out', 'a,b');
kafka()->put($topic, [ '-P' ], "1\t{\"ts\": 300, \"k\": \"b\"}");
wait_for($node, 'idle');
rows("SELECT count(*) FROM weir.late_rows WHERE view = 'idle_view'::regclass", '1', 'what it brings for a closed window is late');
rows("SELECT n FROM idle_view WHERE k = 'b'", '1', 'and changes nothing');
verified($node, 'idle_view', 'verify knows that it was late');
eventually($node, "SELECT count(*) FROM idle_view WHERE ms(window_start) = 5000", 'the last window is not lost', '1');

# a broker that is away is no silence: windows stay open until it is back, and says for so long that there is nothing more
my $away = WeirKafka->own;
my $bootstrap = $away->bootstrap;
my $lost = topic('away');
$away->create($lost, 2);
$node->safe_psql('postgres', <<SQL);
CREATE SERVER away FOREIGN DATA WRAPPER weir_kafka OPTIONS (bootstrap_servers '$bootstrap', "reconnect.backoff.max.ms" '500');
CREATE UNLOGGED TABLE away (ts timestamptz, k text)
  WITH (weir.server = 'away', weir.topic = '$lost', weir.event_time = 'ts', weir.idle_timeout = 'off');
CREATE MATERIALIZED VIEW away_view WITH (weir.continuous, weir.emit = 'final') AS
  SELECT window_start, count(*) AS n FROM away, tumble(ts, '1 s') GROUP BY 1;
SQL
$away->put($lost, ['-P'], "0\t{\"ts\": 100, \"k\": \"a\"}", "1\t{\"ts\": 200, \"k\": \"b\"}", "0\t{\"ts\": 5000, \"k\": \"a\"}");
wait_for($node, 'away');
$away->stop;
$node->safe_psql('postgres', "ALTER TABLE away SET (weir.idle_timeout = '8 s')");
eventually($node, "SELECT min(clock_timestamp() - last_message_at) > '10 s' FROM weir.stat_streams WHERE stream = 'away'::regclass", 'nothing comes from a broker that is away');
rows('SELECT count(*) FROM away_view', '0', 'and nothing closes');
$away->start;
$away->put($lost, ['-P'], "1\t{\"ts\": 300, \"k\": \"b\"}");
eventually($node, 'SELECT n FROM away_view WHERE ms(window_start) = 0', 'what comes when it is back is not late', '3');
rows("SELECT late FROM weir.stat_views WHERE view = 'away_view'::regclass", '0', 'nothing was');
undef $away;

# an INSERT never holds a topic back
$node->safe_psql('postgres', "INSERT INTO c5 VALUES ('epoch', 'by hand', 1)");
put((split /\n/, $node->safe_psql('postgres', "SELECT topics[1] FROM weir.stream_def WHERE stream = 'c5'::regclass"))[0], [ 4, 'k1' ]);
wait_for($node, 'c5');
rows('SELECT ms(window_start), k, n FROM c5_view ORDER BY 1, 2', "0|k1|2\n2|k1|1", 'INSERTed rows do not hold a topic back');
$node->stop;

# ---------------------------------------------------------------- kills

my $messages = quick() ? 200_000 : 1_000_000;
my $filled = topic('finals');
kafka()->create($filled, 4);
kafka()->fill($filled, 4, $messages);

sub survive
{
	my ($name, $conf) = @_;
	my $at = weir_node($name, conf => "weir.batch_rows = 5000\nfsync = off\n$conf");

	make_kafka_server($at);
	# all in one transaction, so that no message is read before the views are there
	$at->safe_psql('postgres', <<SQL);
BEGIN;
CREATE UNLOGGED TABLE orders (order_id bigint, city text, amount numeric, ordered_at timestamptz)
  WITH (weir.server = 'kafka', weir.topic = '$filled', weir.event_time = 'ordered_at', weir.keep = '5 s', weir.idle_timeout = 'off');
CREATE MATERIALIZED VIEW sales WITH (weir.continuous, weir.emit = 'final') AS
  SELECT window_start, city, count(*) AS orders, sum(amount) AS revenue FROM orders, tumble(ordered_at, '100 ms') GROUP BY 1, 2;
CREATE MATERIALIZED VIEW medians WITH (weir.continuous, weir.emit = 'final') AS
  SELECT window_start, percentile_disc(0.5) WITHIN GROUP (ORDER BY amount) AS median, count(DISTINCT city) AS cities
  FROM orders, tumble(ordered_at, '1 s') GROUP BY 1;
CREATE MATERIALIZED VIEW visits WITH (weir.continuous, weir.emit = 'final') AS
  SELECT window_start, window_end, city, count(*) AS orders, sum(amount) AS revenue
  FROM orders, session(ordered_at, '100 ms') WHERE order_id % 1000 < 300 GROUP BY 1, 2, 3;
CREATE TABLE visits_log AS SELECT * FROM visits WITH NO DATA;
CREATE FUNCTION log_visit() RETURNS trigger LANGUAGE plpgsql AS
  \$\$ BEGIN INSERT INTO public.visits_log SELECT new.*; RETURN NULL; END \$\$;
CREATE TRIGGER log AFTER INSERT OR UPDATE OR DELETE ON visits FOR EACH ROW EXECUTE FUNCTION log_visit();
CREATE TABLE log AS SELECT * FROM sales WITH NO DATA;
CREATE TABLE medians_log AS SELECT * FROM medians WITH NO DATA;
CREATE FUNCTION log_final() RETURNS trigger LANGUAGE plpgsql AS
  \$\$ BEGIN INSERT INTO public.log SELECT new.*; RETURN NULL; END \$\$;
CREATE FUNCTION log_median() RETURNS trigger LANGUAGE plpgsql AS
  \$\$ BEGIN INSERT INTO public.medians_log SELECT new.*; RETURN NULL; END \$\$;
CREATE TRIGGER log AFTER INSERT OR UPDATE OR DELETE ON sales FOR EACH ROW EXECUTE FUNCTION log_final();
CREATE TRIGGER log AFTER INSERT OR UPDATE OR DELETE ON medians FOR EACH ROW EXECUTE FUNCTION log_median();
COMMIT;
SQL

	my $kills = quick() ? 5 : 12;
	for my $done (1 .. $kills)
	{
		await_server($at);
		my $now = applied($at, 'orders') // next;
		my $target = $now + int(rand() * 1.5 * ($messages - $now) / ($kills - $done + 2));
		while (defined $now && $now < $target) { $now = applied($at, 'orders'); }
		if ($done % 3 == 0) { kill_postmaster($at); $at->start; }
		elsif ($done % 3 == 1) { kill_child($at, 'weir worker'); }
		else { $at->stop('immediate'); $at->start; }
	}
	await_server($at);
	wait_for($at, 'orders', timeout => '300 s');

	# the watermark is the last order of the partition that ends first
	my $oracle = 'SELECT window_start, city, count(*), sum(amount) FROM (' . fill_sql($messages) . ") o, tumble(ordered_at, '100 ms')"
	  . " WHERE window_end <= timestamptz '2024-01-01 00:00:00+00' + interval '1 ms' * ($messages - 4) GROUP BY 1, 2";
	same($at, 'sales', $oracle, "$name: the finals equal the oracle");
	same($at, 'log', $oracle, "$name: triggers saw each of them once");
	is($at->safe_psql('postgres', "SELECT late FROM weir.stat_views WHERE view = 'sales'::regclass"), '0', "$name: nothing was late");

	same($at, 'medians', 'SELECT window_start, percentile_disc(0.5) WITHIN GROUP (ORDER BY amount), count(DISTINCT city) FROM (' . fill_sql($messages)
		  . ") o, tumble(ordered_at, '1 s') WHERE window_end <= timestamptz '2024-01-01 00:00:00+00' + interval '1 ms' * ($messages - 4) GROUP BY 1",
		"$name: so do those that are made of the kept rows");
	same($at, 'medians_log', 'TABLE medians', "$name: and triggers saw each once");

	my $visits = 'SELECT min(ordered_at), max(ordered_at) + interval \'100 ms\', city, count(*), sum(amount) FROM (' . fill_sql($messages)
	  . ') o WHERE order_id % 1000 < 300 GROUP BY order_id / 1000, city';
	my $closed_visits = "$visits HAVING max(ordered_at) + interval '100 ms' < timestamptz '2024-01-01 00:00:00+00' + interval '1 ms' * ($messages - 4)";
	same($at, 'visits', $closed_visits, "$name: and the sessions");
	same($at, 'visits_log', $closed_visits, "$name: each seen once");

	# the last window closes by the clock
	$at->safe_psql('postgres', "ALTER TABLE orders SET (weir.idle_timeout = '1 s')");
	eventually($at, 'SELECT sum(orders) FROM sales', "$name: the last window closes by the clock", $messages);
	same($at, 'log', 'TABLE sales', "$name: and is seen once");
	eventually($at, 'SELECT sum(orders) FROM visits', "$name: so does the last session", $messages * 3 / 10);
	same($at, 'visits', $visits, "$name: all sessions are there");
	same($at, 'visits_log', $visits, "$name: each seen once");
	is($at->safe_psql('postgres', 'SELECT count(*) FROM weir.dead_letters'), '0', "$name: no dead letters");
	$at->stop;
	return;
}

survive('plain', '');
survive('four', 'weir.workers = 4');

done_testing();
