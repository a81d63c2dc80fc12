# What weir's TAP tests share, on top of PostgreSQL's own test modules (15 to 18).
#
# No test sleeps: weir.wait() returns when all that was sent is in the views,
# and eventually() is for the few things that only show in a catalog view.
package WeirTest;

use strict;
use warnings FATAL => 'all';

use Exporter 'import';
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WeirKafka;
use WeirSession;

our @EXPORT = qw(weir_node kafka session wait_for positions same verified eventually
  fill_sql make_kafka_server make_orders make_sales sales_sql worker_pids quick topic);

# A psql whose server was killed closes its end early; that is no reason to die.
$SIG{PIPE} = 'IGNORE';

# A test that is told to stop, because it takes too long, stops its servers.
$SIG{TERM} = sub { exit 1; };

# A running server with weir preloaded, and the extension in database postgres.
sub weir_node
{
	my ($name, %opt) = @_;
	my $node = PostgreSQL::Test::Cluster->new($name // 'main', install_path => $opt{install_path});

	$node->init(%{ $opt{init} // {} });
	$node->append_conf('postgresql.conf', <<CONF . ($opt{conf} // ''));
shared_preload_libraries = 'weir'
timezone = 'UTC'
log_min_messages = info
restart_after_crash = on
CONF
	$node->start;
	$node->safe_psql('postgres', 'CREATE EXTENSION weir') unless $opt{no_extension};
	return $node;
}

sub kafka { return WeirKafka::shared(); }
sub session { return WeirSession->new(@_); }
sub quick { return $ENV{WEIR_QUICK} ? 1 : 0; }

# A topic name that no other test and no earlier run uses.
my $topics = 0;
sub topic
{
	my ($base) = @_;
	return sprintf('%s-%d-%d-%d', $base, $$, time, ++$topics);
}

# Returns when all that the topics held at the call is in the views.
sub wait_for
{
	my ($node, $stream, %opt) = @_;
	my $timeout = $opt{timeout} // '120 s';
	my $arg = defined $stream ? "'$stream'" : 'NULL';
	$node->safe_psql($opt{db} // 'postgres', "SELECT weir.wait($arg, '$timeout')");
	return;
}

# "partition:position ..." of a stream, as WeirKafka::ends writes it.
sub positions
{
	my ($node, $stream, %opt) = @_;
	return $node->safe_psql($opt{db} // 'postgres', <<SQL);
SELECT string_agg(partition || ':' || next_offset, ' ' ORDER BY partition)
FROM weir.position WHERE stream = '$stream'::regclass AND partition >= 0
SQL
}

# Passes if a relation (or query in parentheses) and a query hold the same rows.
sub same
{
	my ($node, $have, $want, $name, %opt) = @_;
	my $db = $opt{db} // 'postgres';
	my $from = $have =~ /^\(/ ? "$have h" : $have;
	my $diff = <<SQL;
(SELECT 'extra' AS side, e::text FROM (SELECT * FROM $from EXCEPT ALL ($want)) e)
UNION ALL
(SELECT 'missing', m::text FROM (($want) EXCEPT ALL SELECT * FROM $from) m)
SQL
	my $out = $node->safe_psql($db, "SELECT * FROM ($diff) d ORDER BY 2, 1 LIMIT 10");
	my $rows = $node->safe_psql($db, "SELECT count(*) FROM $from");
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($out, '', $name);
	if ($opt{nonempty} // 1)
	{
		cmp_ok($rows, '>', 0, "$name: there are rows");
	}
	return;
}

# Passes if weir.verify finds no difference.
sub verified
{
	my ($node, $view, $name, %opt) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	is($node->safe_psql($opt{db} // 'postgres', "SELECT * FROM weir.verify('$view') LIMIT 10"),
		'', $name // "$view equals its query");
	return;
}

# Passes as soon as a query gives what is wanted (default t); for what no wait covers.
sub eventually
{
	my ($node, $query, $name, $want, %opt) = @_;
	my $db = $opt{db} // 'postgres';
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	ok($node->poll_query_until($db, $query, $want // 't'), $name)
	  or diag($node->safe_psql($db, $query));
	return;
}

# The orders that ktool's fill makes, as SQL. Columns as make_orders has them.
sub fill_sql
{
	my ($count, %opt) = @_;
	my $first = $opt{first} // 0;
	my $groups = $opt{groups} // 10;
	my $last = $first + $count - 1;
	return <<SQL;
SELECT i AS order_id, 'city-' || i * 7 % $groups AS city,
  (i * 7919 % 100000 / 100.0)::numeric(10,2) AS amount,
  timestamptz '2024-01-01 00:00:00+00' + i * interval '1 ms' AS ordered_at
FROM generate_series($first\::bigint, $last) i
SQL
}

sub make_kafka_server
{
	my ($node, %opt) = @_;
	my $bootstrap = $opt{bootstrap} // kafka()->bootstrap;
	$node->safe_psql($opt{db} // 'postgres', <<SQL);
CREATE SERVER kafka FOREIGN DATA WRAPPER weir_kafka
  OPTIONS (bootstrap_servers '$bootstrap', "topic.metadata.refresh.interval.ms" '500',
    "reconnect.backoff.max.ms" '500');
SQL
	return;
}

# A stream "orders" over a topic, with the columns of fill_sql.
sub make_orders
{
	my ($node, $topic, %opt) = @_;
	my $name = $opt{name} // 'orders';
	my $with = $opt{with} // "weir.keep = '1 hour'";
	$node->safe_psql($opt{db} // 'postgres', <<SQL);
CREATE UNLOGGED TABLE $name (order_id bigint, city text, amount numeric, ordered_at timestamptz)
  WITH (weir.server = 'kafka', weir.topic = '$topic', weir.event_time = 'ordered_at', $with);
SQL
	return;
}

# The query of the view that most tests look at.
sub sales_sql
{
	my ($from) = @_;
	return <<SQL;
SELECT window_start, city, count(*) AS orders, sum(amount) AS revenue, avg(amount) AS mean,
  min(order_id) AS first, max(order_id) AS last
FROM $from, tumble(ordered_at, '1 second') GROUP BY window_start, city
SQL
}

sub make_sales
{
	my ($node, %opt) = @_;
	my $name = $opt{name} // 'sales';
	$node->safe_psql($opt{db} // 'postgres',
		"CREATE MATERIALIZED VIEW $name WITH (weir.continuous) AS " . sales_sql($opt{from} // 'orders'));
	return;
}

sub worker_pids
{
	my ($node, %opt) = @_;
	my $where = $opt{db} ? "AND datname = '$opt{db}'" : '';
	return split /\n/, $node->safe_psql('postgres',
		"SELECT pid FROM pg_stat_activity WHERE backend_type = 'weir worker' $where ORDER BY pid");
}

1;
