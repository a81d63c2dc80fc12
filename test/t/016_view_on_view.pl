# Views over views from Kafka: chains and windows of windows while workers are killed, and a view above that fails
# in a worker without harm to the one below, and catches up.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WeirKill;
use WeirTest;

my $node = weir_node('views');
make_kafka_server($node);
my $topic = topic('ev');
kafka()->create($topic, 2);
$node->safe_psql('postgres', <<SQL);
CREATE UNLOGGED TABLE ev (t timestamptz, k text, v int)
  WITH (weir.server = 'kafka', weir.topic = '$topic', weir.event_time = 't', weir.keep = '100 years', weir.idle_timeout = 'off');
CREATE MATERIALIZED VIEW big WITH (weir.continuous) AS SELECT k, t, v FROM ev WHERE v >= 0;
CREATE MATERIALIZED VIEW sums WITH (weir.continuous) AS SELECT k, count(*) AS n, sum(v) AS s FROM big GROUP BY k;
CREATE MATERIALIZED VIEW seconds WITH (weir.continuous, weir.emit = 'final') AS
  SELECT window_start, window_end, k, count(*) AS n FROM big, tumble(t, '1 s') GROUP BY 1, 2, 3;
CREATE MATERIALIZED VIEW minutes WITH (weir.continuous, weir.emit = 'final') AS
  SELECT w.window_start, m.k, sum(m.n) AS n FROM seconds m, tumble(m.window_start, '1 min') w GROUP BY 1, 2;
CREATE MATERIALIZED VIEW typical WITH (weir.continuous) AS SELECT avg(s) AS s, max(n) AS n, count(*) AS c FROM sums;
CREATE MATERIALIZED VIEW counts WITH (weir.continuous) AS SELECT k, sum(n) AS n FROM seconds GROUP BY k;
CREATE TABLE log (window_start timestamptz, k text, n numeric);
CREATE FUNCTION log_final() RETURNS trigger LANGUAGE plpgsql AS \$\$
  BEGIN INSERT INTO public.log VALUES (new.*); RETURN NULL; END \$\$;
CREATE TRIGGER log AFTER INSERT ON minutes FOR EACH ROW EXECUTE FUNCTION log_final();
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS \$\$ BEGIN RAISE EXCEPTION 'not now'; END \$\$;
SQL

my $next = 0;

# n messages, ten a second of event time, on both partitions
sub put
{
	my ($n) = @_;
	my @rows = map { sprintf '{"t": %d, "k": "k%d", "v": %d}', 1704067200000 + 100 * $_, $_ % 7, $_ % 100 } $next .. $next + $n - 1;
	kafka()->put($topic, [ '-p', $_ ], @rows) for 0, 1;
	$next += $n;
	return;
}

sub right
{
	my ($name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is( $node->safe_psql('postgres', <<SQL), '0', $name);
SELECT count(*) FROM unnest(ARRAY['big', 'sums', 'seconds', 'minutes', 'typical', 'counts']) v, weir.verify(v::regclass)
SQL
	return;
}

put(3000);
$node->safe_psql('postgres', 'SELECT weir.wait()');
right('after the first messages');

for my $round (1 .. 3)
{
	put(2000);
	kill_child($node, 'weir worker');
	$node->safe_psql('postgres', "SELECT weir.wait(timeout => '120 s')");
}
right('after three kills of a worker');
is($node->safe_psql('postgres', 'SELECT sum(n) FROM sums'), 2 * $next, 'every message counts once');
is($node->safe_psql('postgres', 'SELECT count(*) FROM ((TABLE minutes EXCEPT ALL TABLE log) UNION ALL (TABLE log EXCEPT ALL TABLE minutes)) x'),
	'0', 'each final of finals was inserted once');

# the view above fails, the one below goes on
$node->safe_psql('postgres', <<SQL);
CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON counts FOR EACH ROW EXECUTE FUNCTION refuse();
CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON typical FOR EACH ROW EXECUTE FUNCTION refuse();
SQL
put(500);
$node->poll_query_until('postgres', "SELECT count(*) = 2 FROM weir.views WHERE state = 'failed'");
is($node->safe_psql('postgres', "SELECT string_agg(view::text || ': ' || error, ', ' ORDER BY view::text) FROM weir.views WHERE state = 'failed'"),
	'counts: not now, typical: not now', 'they have failed');
my ($code, undef, $error) = $node->psql('postgres', 'SELECT weir.wait()');
like($error, qr/view public\.(counts|typical) has failed/, 'weir.wait says so');
$node->poll_query_until('postgres', "SELECT sum(n) = " . 2 * $next . " FROM sums");
$node->safe_psql('postgres', <<SQL);
DROP TRIGGER refuse ON counts;
DROP TRIGGER refuse ON typical;
SELECT weir.resume('counts'), weir.resume('typical');
SELECT weir.wait();
SQL
right('resumed, they have caught up');

# another query, from the kept rows, while messages come
put(500);
$node->safe_psql('postgres', "SELECT weir.replace('sums', 'SELECT k, count(*) AS n, sum(v) AS s, max(v) AS m FROM big WHERE v < 50 GROUP BY k')");
put(500);
$node->safe_psql('postgres', 'SELECT weir.wait()');
right('after weir.replace');

done_testing();
