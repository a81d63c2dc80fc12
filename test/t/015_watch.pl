# Looking at work while it is done: weir.explain(view, live => true), and how far a view has caught up.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WeirTest;

my $node = weir_node('main', conf => "weir.batch_rows = 1000\n");
my $topic = topic('orders');
kafka()->create($topic, 2);
make_kafka_server($node);
make_orders($node, $topic);
make_sales($node);
my ($ret, $out, $err);
my $asks = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%live => true%' AND wait_event_type = 'Extension' AND pid <> pg_backend_pid()";

# A batch of the worker is measured.
my $one = session($node);
$one->send("SELECT weir.explain('sales', live => true)");
eventually($node, $asks, 'weir.explain waits for a batch', '1');
($ret, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\nSELECT weir.explain('sales', live => true)");
like($err, qr/55006: another session waits/, 'one session at a time may ask');
kafka()->fill($topic, 2, 1_000);
$out = $one->result;
like($out, qr/^strategy: combine$/m, 'it says how the view is kept');
like($out, qr/^batch: \d+ rows$/m, 'how large the batch was');
like($out, qr/^statement: \d+\.\d{3} ms, \d+ rows$/m, 'what its statement took');
like($out, qr/^ +-> +Custom Scan \(Weir\w+\) \(actual time=/m, 'and where in its plan');
wait_for($node, 'orders');
same($node, 'sales', sales_sql('(' . fill_sql(1_000) . ') o'), 'the measured batch is applied');

# So is an INSERT; the answer is for the view that was asked about.
$node->safe_psql('postgres', <<'SQL');
CREATE TABLE ticks (k int, at timestamptz) WITH (weir.stream, weir.event_time = 'at');
CREATE MATERIALIZED VIEW by_k WITH (weir.continuous, weir.lateness = '1 s') AS SELECT window_start, k, count(*) FROM ticks, tumble(at, '1 minute') GROUP BY window_start, k;
CREATE MATERIALIZED VIEW at_close WITH (weir.continuous, weir.emit = 'final') AS SELECT window_start, mode() WITHIN GROUP (ORDER BY k) FROM ticks, tumble(at, '1 minute') GROUP BY window_start;
SQL
$one->send("SELECT weir.explain('by_k', live => true)");
eventually($node, $asks, 'it waits', '1');
$node->safe_psql('postgres', "INSERT INTO ticks SELECT i % 3, timestamptz '2026-01-01' + i * interval '1 s' FROM generate_series(0, 99) i");
like($one->result, qr/^batch: 100 rows\nstatement: .*^late rows: /ms, 'the statement and the search for late rows');
$one->send("SELECT weir.explain('by_k', live => true)");
eventually($node, $asks, 'it waits', '1');
$node->safe_psql('postgres', "INSERT INTO ticks SELECT i % 3, timestamptz '2026-01-01' + i % 100 * interval '1 s' FROM generate_series(1, 20000) i");
like($one->result, qr/^batch: 20000 rows\n.*Custom Scan \(WeirGroup\)/ms, 'a batch that weir groups by itself');
$one->send("SELECT weir.explain('at_close', live => true)");
eventually($node, $asks, 'it waits', '1');
$node->safe_psql('postgres', "INSERT INTO ticks VALUES (1, '2026-01-01 00:01:45')");    # closes nothing
is($node->safe_psql('postgres', $asks), '1', 'a batch that closes nothing is not what was asked for');
$node->safe_psql('postgres', "INSERT INTO ticks VALUES (1, '2026-01-01 00:05:00')");
like($one->result, qr/^windows closed: \d+\.\d{3} ms, 1 rows$/m, 'a view that is run at close');

# Cancelled, paused: the next one may ask.
$one->send("SET statement_timeout = '100 ms'; SELECT weir.explain('by_k', live => true); SET statement_timeout = 0");
$one->result;
$node->safe_psql('postgres', "SELECT weir.pause('by_k')");
($ret, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\nSELECT weir.explain('by_k', live => true)");
like($err, qr/55000: continuous view public\.by_k takes no batches now.*HINT/s, 'a paused view cannot be measured');
$node->safe_psql('postgres', "SELECT weir.resume('by_k')");
$one->send("SELECT weir.explain('by_k', live => true)");
eventually($node, $asks, 'it waits', '1');
$node->safe_psql('postgres', "SELECT weir.pause('by_k')");
$one->result;
eventually($node, $asks, 'a view that is paused meanwhile ends the wait', '0');

# Progress: a view that reads its topic from the beginning, held in the middle of it.
kafka()->fill($topic, 2, 9_000, '-f', 1_000);
wait_for($node, 'orders');
is($node->safe_psql('postgres', "SELECT progress IS NULL FROM weir.views WHERE view = 'sales'::regclass"), 't', 'a view that follows has no progress');
$node->safe_psql('postgres', <<'SQL');
CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.last > 4000 THEN PERFORM pg_advisory_xact_lock(42); END IF; RETURN NEW; END $$;
SQL
my $holder = session($node);
$holder->query('SELECT pg_advisory_lock(42)');
my $all = sales_sql('orders');
$node->safe_psql('postgres', <<SQL);
BEGIN;
CREATE MATERIALIZED VIEW again WITH (weir.continuous, weir.start = 'earliest') AS $all;
CREATE TRIGGER t BEFORE INSERT OR UPDATE ON again FOR EACH ROW EXECUTE FUNCTION hold();
COMMIT;
SQL
eventually($node, "SELECT state = 'backfilling' AND progress > 0 AND progress < 1 FROM weir.views WHERE view = 'again'::regclass", 'a backfill shows how far it is');
my $now = $node->safe_psql('postgres', "SELECT progress FROM weir.views WHERE view = 'again'::regclass");
cmp_ok($now, '<', 0.9, "less than all ($now)");
$holder->query('SELECT pg_advisory_unlock(42)');
wait_for($node, 'orders');
same($node, 'again', sales_sql('(' . fill_sql(10_000) . ') o'), "weir.start = 'earliest' fills a view from the topic");
is($node->safe_psql('postgres', "SELECT state, progress IS NULL FROM weir.views WHERE view = 'again'::regclass"), 'running|t', 'done');
$node->stop;
done_testing();
