# What listeners hear: payloads, coalescing, overflow, channels by a column, and
# batches of a view with which a client catches up.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WeirTest;

my $node = weir_node('main');
my $listener = session($node);

# The notices that have come, "channel payload" each.
sub heard
{
	my $out = $listener->query('SELECT 1');
	$listener->{heard} = '' unless defined $listener->{heard};
	my @lines = $out =~ /^Asynchronous notification "([^"]+)" with payload "(.*)" received from server process/mg;
	my @result;
	while (@lines) { my ($channel, $payload) = splice @lines, 0, 2; push @result, "$channel $payload"; }
	return join("\n", @result);
}

$node->safe_psql('postgres', <<SQL);
CREATE TABLE item (id int PRIMARY KEY, name text, at timestamptz, room text);
CREATE TRIGGER n AFTER INSERT OR UPDATE OR DELETE ON item
  FOR EACH ROW EXECUTE FUNCTION weir.notify('items', 'columns=id,name', 'channel_column=room');
SQL
$listener->query('LISTEN items; LISTEN kitchen; LISTEN sales');

$node->safe_psql('postgres', "INSERT INTO item VALUES (1, 'a \"b\"', NULL, NULL), (2, NULL, NULL, 'kitchen')");
is(heard(), <<'OUT' =~ s/\n\z//r, 'inserts, on the channel of the column');
items {"view":"public.item","op":"insert","batch":null,"row":{"id":1,"name":"a \"b\""}}
kitchen {"view":"public.item","op":"insert","batch":null,"row":{"id":2,"name":null}}
OUT

$node->safe_psql('postgres', <<SQL);
BEGIN;
UPDATE item SET name = 'b' WHERE id = 1;
UPDATE item SET name = 'c' WHERE id = 1;
SAVEPOINT s;
UPDATE item SET name = 'd' WHERE id = 1;
ROLLBACK TO s;
INSERT INTO item VALUES (3, 'x');
UPDATE item SET name = 'y' WHERE id = 3;
INSERT INTO item VALUES (4, 'gone');
DELETE FROM item WHERE id = 4;
COMMIT;
BEGIN;
DELETE FROM item WHERE id = 3;
INSERT INTO item VALUES (3, 'again');
COMMIT;
BEGIN;
DELETE FROM item;
ROLLBACK;
UPDATE item SET id = 5 WHERE id = 3;
DELETE FROM item WHERE id = 5;
SQL
is(heard(), <<'OUT' =~ s/\n\z//r, 'one notice per key and transaction, with the last state');
items {"view":"public.item","op":"update","batch":null,"row":{"id":1,"name":"c"}}
items {"view":"public.item","op":"insert","batch":null,"row":{"id":3,"name":"y"}}
items {"view":"public.item","op":"update","batch":null,"row":{"id":3,"name":"again"}}
items {"view":"public.item","op":"delete","batch":null,"row":{"id":3,"name":"again"}}
items {"view":"public.item","op":"insert","batch":null,"row":{"id":5,"name":"again"}}
items {"view":"public.item","op":"delete","batch":null,"row":{"id":5,"name":"again"}}
OUT

$node->safe_psql('postgres', "UPDATE item SET name = repeat('x', 9000) WHERE id = 1");
is(heard(), 'items {"view":"public.item","op":"update","batch":null,"key":{"id":1},"overflow":true}', 'too long: the key and a mark');
$node->safe_psql('postgres', "INSERT INTO item SELECT i, 'n' FROM generate_series(100, 30000) i");
is(heard(), 'items {"view":"public.item","op":"update","batch":null,"overflow":true}', 'too many keys: one notice');
$node->safe_psql('postgres', "INSERT INTO item SELECT i, 'n', NULL, CASE WHEN i % 2 = 0 THEN 'kitchen' WHEN i = 60001 THEN 'sales' END FROM generate_series(40000, 60001) i");
is(heard(), join("\n", map { qq($_ {"view":"public.item","op":"update","batch":null,"overflow":true}) } qw(kitchen items sales)), 'on each channel');

# A view: batches go up in the order of commits, and weir.views shows the last one.
$node->safe_psql('postgres', <<SQL);
CREATE TABLE orders (id bigint, city text) WITH (weir.stream);
CREATE MATERIALIZED VIEW sales WITH (weir.continuous) AS SELECT city, count(*) AS n FROM orders GROUP BY city;
CREATE TRIGGER n AFTER INSERT OR UPDATE OR DELETE ON sales FOR EACH ROW EXECUTE FUNCTION weir.notify('sales');
INSERT INTO orders VALUES (1, 'a'), (2, 'a'), (3, 'b');
INSERT INTO orders VALUES (4, 'a');
SQL
is(heard(), <<'OUT' =~ s/\n\z//r, 'changes of a view');
sales {"view":"public.sales","op":"insert","batch":1,"row":{"city":"a","n":2}}
sales {"view":"public.sales","op":"insert","batch":1,"row":{"city":"b","n":1}}
sales {"view":"public.sales","op":"update","batch":2,"row":{"city":"a","n":3}}
OUT
is($node->safe_psql('postgres', "SELECT batch FROM weir.views WHERE view = 'sales'::regclass"), '2', 'weir.views has the number of the last batch');

# One notice per batch and channel.
$node->safe_psql('postgres', <<SQL);
CREATE MATERIALIZED VIEW per_city WITH (weir.continuous) AS SELECT city, count(*) AS n FROM orders GROUP BY city;
CREATE TRIGGER n AFTER INSERT OR UPDATE OR DELETE ON per_city FOR EACH ROW EXECUTE FUNCTION weir.notify('kitchen', 'notices=batch');
DROP TRIGGER n ON sales;
BEGIN;
INSERT INTO orders SELECT i, 'x' || i FROM generate_series(1, 20000) i;
INSERT INTO orders VALUES (1, 'a'), (2, 'b');
COMMIT;
INSERT INTO orders VALUES (3, 'c');
SQL
is(heard(), qq(kitchen {"view":"public.per_city","op":"batch","batch":1}\nkitchen {"view":"public.per_city","op":"batch","batch":2}), 'notices=batch');
$node->safe_psql('postgres', <<SQL);
DROP MATERIALIZED VIEW per_city;
DROP MATERIALIZED VIEW sales;
CREATE MATERIALIZED VIEW sales WITH (weir.continuous) AS SELECT city, count(*) AS n FROM orders WHERE id < 1000 GROUP BY city;
CREATE TRIGGER n AFTER INSERT OR UPDATE OR DELETE ON sales FOR EACH ROW EXECUTE FUNCTION weir.notify('sales');
SQL

# Several sessions: who reads the view and its batch in one snapshot and then
# applies the later notices has what the view has.
my $insert = join('', map { "INSERT INTO orders VALUES ($_, 'c' || ($_ % 7));\n" } 1 .. 200);
my @writers = map { my $s = session($node); $s->send($insert); $s } 1 .. 3;
my $seen = $listener->query("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 'batch', batch FROM weir.views WHERE view = 'sales'::regclass; SELECT city, n FROM sales; COMMIT");
$_->result foreach @writers;
my %copy;
my ($batch) = $seen =~ /^batch\|(\d+)$/m;
$copy{$1} = $2 while $seen =~ /^(\w+)\|(\d+)$/mg;
delete $copy{batch};
my $wrong = 0;
my $last = 0;
my $after = $seen . "\n" . $listener->query('SELECT 1');
while ($after =~ /"batch":(\d+),"row":\{"city":"(\w+)","n":(\d+)\}/g)
{
	$wrong++ if $1 < $last;
	$last = $1;
	$copy{$2} = $3 if $1 > $batch;
}
is($wrong, 0, 'batches come in order');
is(join(' ', map { "$_:$copy{$_}" } sort keys %copy),
	$node->safe_psql('postgres', "SELECT string_agg(city || ':' || n, ' ' ORDER BY city) FROM sales"), 'a client that follows has what the view has');

$_->quit foreach @writers, $listener;
$node->stop;
done_testing();
