# A stream-table join sees the table as it is when the batch is processed: an
# UPDATE between two messages shows in the second only.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WeirTest;

my $node = weir_node();
my $topic = topic('orders');
kafka()->create($topic, 1);
make_kafka_server($node);
make_orders($node, $topic);
$node->safe_psql('postgres', <<SQL);
CREATE TABLE regions (city text PRIMARY KEY, region text);
INSERT INTO regions VALUES ('Izmir', 'west');
CREATE MATERIALIZED VIEW enriched WITH (weir.continuous) AS
  SELECT order_id, region FROM orders LEFT JOIN regions USING (city);
CREATE MATERIALIZED VIEW by_region WITH (weir.continuous) AS
  SELECT region, count(*) AS n, sum(amount) AS amount FROM orders LEFT JOIN regions USING (city) GROUP BY region;
SQL

my $n = 0;
sub order
{
	my ($city) = @_;
	$n++;
	kafka()->put($topic, qq({"order_id": $n, "city": "$city", "amount": $n, "ordered_at": "2024-01-01T00:00:00Z"}));
	wait_for($node, 'orders');
	return;
}

order('Izmir');
$node->safe_psql('postgres', "UPDATE regions SET region = 'aegean' WHERE city = 'Izmir'");
order('Izmir');
order('Bursa');
$node->safe_psql('postgres', "INSERT INTO regions VALUES ('Bursa', 'marmara')");
order('Bursa');
$node->safe_psql('postgres', 'DELETE FROM regions');
order('Izmir');
is($node->safe_psql('postgres', 'SELECT * FROM enriched ORDER BY 1'), "1|west\n2|aegean\n3|\n4|marmara\n5|", 'each row has the table of its time');
is($node->safe_psql('postgres', 'SELECT * FROM by_region ORDER BY 1'), "aegean|1|2\nmarmara|1|4\nwest|1|1\n|2|8", 'so do aggregates');

# Not yet committed is not seen, and holds nothing up.
my $session = session($node);
$session->query("BEGIN; INSERT INTO regions VALUES ('Izmir', 'secret')");
order('Izmir');
$session->query('COMMIT');
order('Izmir');
is($node->safe_psql('postgres', 'SELECT * FROM enriched WHERE order_id > 5 ORDER BY 1'), "6|\n7|secret", 'an open transaction is not seen');
$session->quit;

# The table may be renamed and altered; dropping it is refused while a view needs it.
$node->safe_psql('postgres', 'ALTER TABLE regions RENAME TO areas; ALTER TABLE areas RENAME COLUMN region TO area; ALTER TABLE areas ADD COLUMN x int');
order('Izmir');
is($node->safe_psql('postgres', 'SELECT * FROM enriched WHERE order_id > 7 ORDER BY 1'), '8|secret', 'the joined table can be renamed');
my ($ret, $out, $err) = $node->psql('postgres', 'DROP TABLE areas');
isnt($ret, 0, 'but not dropped');
like($err, qr/depend/, 'as views depend on it');
$node->stop;
done_testing();
