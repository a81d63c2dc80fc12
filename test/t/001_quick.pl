# The first quarter of an hour with weir: extension, server, stream, view, messages.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WeirTest;

my ($ret, $out, $err);

# Without preload: a WARNING with the line to add.
my $bare = PostgreSQL::Test::Cluster->new('bare');
$bare->init;
$bare->start;
($ret, $out, $err) = $bare->psql('postgres', 'CREATE EXTENSION weir');
is($ret, 0, 'CREATE EXTENSION without preload succeeds');
like($err, qr/WARNING:/, 'with a warning');
like($err, qr/shared_preload_libraries = 'weir'/, 'that has the line to add');
($ret, $out, $err) = $bare->psql('postgres', <<SQL);
LOAD 'weir';
CREATE UNLOGGED TABLE s (t timestamptz, k text, v int) WITH (weir.stream, weir.event_time = 't');
INSERT INTO s VALUES (now(), 'a', 1), (now(), 'b', 2), (now(), 'a', 3);
SQL
like($err, qr/ERROR:.*HINT: .*shared_preload_libraries/s, 'without it nothing is taken in, and the error says what to do');
$bare->stop;

# With preload: no warning.
my $node = weir_node('main', no_extension => 1);
($ret, $out, $err) = $node->psql('postgres', 'CREATE EXTENSION weir');
is("$ret $err", '0 ', 'CREATE EXTENSION with preload says nothing');

my $topic = topic('orders');
kafka()->create($topic, 2);
make_kafka_server($node);
make_orders($node, $topic);
make_sales($node);

kafka()->put($topic,
	'{"order_id": 1, "city": "Ankara", "amount": 10.50, "ordered_at": "2024-05-01T12:00:00.100Z"}',
	'{"order_id": 2, "city": "Izmir", "amount": 1e1, "ordered_at": "2024-05-01T12:00:00.900Z"}',
	'{"order_id": 3, "city": "Ankara", "amount": 0.25, "ordered_at": "2024-05-01T12:00:01Z"}',
	'{"order_id": 4, "city": null, "amount": null, "ordered_at": "2024-05-01T14:00:00.5+02:00"}');
wait_for($node, 'orders');
is($node->safe_psql('postgres', 'SELECT * FROM sales ORDER BY window_start, city'), <<OUT =~ s/\n\z//r, 'live view');
2024-05-01 12:00:00+00|Ankara|1|10.50|10.5000000000000000|1|1
2024-05-01 12:00:00+00|Izmir|1|10|10.0000000000000000|2|2
2024-05-01 12:00:00+00||1|||4|4
2024-05-01 12:00:01+00|Ankara|1|0.25|0.25000000000000000000|3|3
OUT
same($node, 'orders', <<SQL, 'the stream keeps its rows');
VALUES (1::bigint, 'Ankara', 10.50, timestamptz '2024-05-01 12:00:00.1Z'), (2, 'Izmir', 10, '2024-05-01 12:00:00.9Z'),
  (3, 'Ankara', 0.25, '2024-05-01 12:00:01Z'), (4, NULL, NULL, '2024-05-01 12:00:00.5Z')
SQL
verified($node, 'sales');

# A later message changes the row that is there.
kafka()->put($topic, [ '-p', '1' ],
	'{"order_id": 5, "city": "Izmir", "amount": 2.5, "ordered_at": "2024-05-01T12:00:00Z"}');
wait_for($node, 'orders');
is($node->safe_psql('postgres', "SELECT orders, revenue, mean FROM sales WHERE city = 'Izmir'"),
	'2|12.5|6.2500000000000000', 'another message of the window');

# Null values are skipped, bad messages are dead letters, the good ones around them count.
kafka()->put($topic, [ '-p', '0', '-k' ],
	"k1\t{\"order_id\": 6, \"city\": \"Bursa\", \"amount\": 1, \"ordered_at\": \"2024-05-01T12:00:05Z\"}",
	"k2\t\\N",
	"k3\tnot json",
	"k4\t{\"order_id\": \"x7\", \"city\": \"Bursa\", \"amount\": 1, \"ordered_at\": \"2024-05-01T12:00:05Z\"}",
	"k5\t{\"order_id\": 8, \"city\": \"Bursa\", \"amount\": 1, \"ordered_at\": null}",
	"k6\t{\"order_id\": 9, \"city\": \"Bursa\", \"amount\": 1, \"ordered_at\": \"2024-05-01T12:00:05Z\"}");
wait_for($node, 'orders');
is($node->safe_psql('postgres', "SELECT orders, first, last FROM sales WHERE city = 'Bursa'"), '2|6|9', 'good rows are applied');
is($node->safe_psql('postgres', <<SQL), <<OUT =~ s/\n\z//r, 'bad ones are dead letters');
SELECT stream, view IS NULL, topic = '$topic', partition, "offset", convert_from(key, 'UTF8'), convert_from(payload, 'UTF8') LIKE '%', length(sqlstate), message <> ''
FROM weir.dead_letters ORDER BY id
SQL
orders|t|t|0|6|k3|t|5|t
orders|t|t|0|7|k4|t|5|t
orders|t|t|0|8|k5|t|5|t
OUT
is($node->safe_psql('postgres', "SELECT sqlstate FROM weir.dead_letters WHERE \"offset\" = 7"), '22P02', 'with the SQLSTATE');
is($node->safe_psql('postgres', 'SELECT partition, position, high_watermark, lag, bad, skipped FROM weir.stat_streams WHERE partition >= 0 ORDER BY partition'),
	"0|10|10|0|3|1\n1|1|1|0|0|0", 'weir.stat_streams counts');
is(positions($node, 'orders'), kafka()->ends($topic), 'positions are at the end of the topic');
is($node->safe_psql('postgres', 'SELECT stream, server, topic, format, mode, state, error FROM weir.streams'),
	"orders|kafka|$topic|json|append|running|", 'weir.streams');
is($node->safe_psql('postgres', 'SELECT view, streams, emit, strategy, state, error FROM weir.views'),
	'sales|{orders}|changes|combine|running|', 'weir.views');
is(scalar(worker_pids($node)), 1, 'one worker, seen in pg_stat_activity');

# keep: rows more than an hour behind the newest go, views stay.
kafka()->put($topic, '{"order_id": 10, "city": "Bursa", "amount": 1, "ordered_at": "2024-05-01T18:00:00Z"}');
wait_for($node, 'orders');
is($node->safe_psql('postgres', "SELECT count(*) FROM orders WHERE ordered_at < '2024-05-01 12:30Z'"), '0', 'weir.keep lets old rows go');
is($node->safe_psql('postgres', 'SELECT sum(orders) FROM sales'), '8', 'views stay as they are');

# Nothing arrives: wait returns at once; an unknown stream is an error.
wait_for($node, undef);
($ret, $out, $err) = $node->psql('postgres', "SELECT weir.wait('pg_class')");
isnt($ret, 0, 'weir.wait refuses what is no stream');

# Metadata columns and the text format.
my $lines = topic('lines');
kafka()->create($lines, 1);
$node->safe_psql('postgres', <<SQL);
CREATE UNLOGGED TABLE lines (_key text, _value text, _partition int, _offset bigint, _timestamp timestamptz, _headers jsonb)
  WITH (weir.server = 'kafka', weir.topic = '$lines', weir.format = 'text');
SQL
kafka()->put($lines, [ '-p', '0', '-k', '-t', '1714564800123', '-H', 'a=b', '-H', 'c=d' ], "k\thello, world");
wait_for($node, 'lines');
is($node->safe_psql('postgres', 'SELECT * FROM lines'),
	'k|hello, world|0|0|2024-05-01 12:00:00.123+00|[{"key": "a", "value": "b"}, {"key": "c", "value": "d"}]', 'metadata columns');

# 'latest' starts behind what is there.
kafka()->put($topic, '{"order_id": 11, "city": "x", "amount": 1, "ordered_at": "2024-05-01T18:00:00Z"}');
make_orders($node, $topic, name => 'newer', with => "weir.start = 'latest'");
wait_for($node, 'newer');
kafka()->put($topic, '{"order_id": 12, "city": "x", "amount": 1, "ordered_at": "2024-05-01T18:00:00Z"}');
wait_for($node, 'newer');
is($node->safe_psql('postgres', 'SELECT order_id FROM newer'), '12', "weir.start = 'latest'");

# A broker that is not there is a warning; wait ends by its timeout.
my $port = PostgreSQL::Test::Cluster::get_free_port();
$node->safe_psql('postgres', "CREATE SERVER nobody FOREIGN DATA WRAPPER weir_kafka OPTIONS (bootstrap_servers '127.0.0.1:$port')");
($ret, $out, $err) = $node->psql('postgres', "CREATE UNLOGGED TABLE void (a int) WITH (weir.server = 'nobody', weir.topic = 't')");
is($ret, 0, 'a stream over a broker that is down can be created');
like($err, qr/WARNING:  server "nobody" does not serve the stream now: .*DETAIL:  The stream begins to read as soon as it does\./s, 'with a warning');
($ret, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\nSELECT weir.wait('void', '200 ms')");
like($err, qr/57014/, 'weir.wait ends by its timeout');
$node->safe_psql('postgres', 'DROP TABLE void');

# Refused options name the nearest one.
($ret, $out, $err) = $node->psql('postgres', "CREATE UNLOGGED TABLE bad (a int) WITH (weir.server = 'kafka', weir.topik = 't')");
like($err, qr/weir\.topic/, 'an unknown option is refused and the nearest name suggested');
($ret, $out, $err) = $node->psql('postgres', "CREATE SERVER bad FOREIGN DATA WRAPPER weir_kafka OPTIONS (bootstrap_servers 'x', \"plugin.library.paths\" '/tmp/evil')");
isnt($ret, 0, 'options outside the allow-list are refused');

# Streams and views go like tables.
$node->safe_psql('postgres', 'DROP MATERIALIZED VIEW sales; DROP TABLE orders, newer, lines; DROP SERVER kafka; DROP EXTENSION weir CASCADE');
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_class WHERE relname LIKE 'rows\\_%' OR relnamespace = to_regnamespace('weir')"), '0', 'nothing is left');

$node->stop;
done_testing();
