# From triggers to topics: keys, partitions, tombstones, headers, order, rollback,
# savepoints, COPY, prepared transactions, records that Kafka refuses, rights.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WeirTest;

my ($ret, $out, $err);
my $node = weir_node('main', conf => "max_prepared_transactions = 5\n");
make_kafka_server($node);

# Returns when nothing waits any more.
sub sent
{
	my ($name, $where) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	eventually($node, 'SELECT COALESCE(sum(pending), 0) = 0 FROM weir.stat_sinks WHERE ' . ($where // 'true'), $name);
	return;
}

# "key value" of what a consumer gets, per partition.
sub records
{
	my ($topic) = @_;
	return join("\n", map { s/^\d+\t//r } kafka()->cat($topic));
}

my $topic = topic('out');
kafka()->create($topic, 1);
$node->safe_psql('postgres', <<SQL);
CREATE TABLE item (id int PRIMARY KEY, name text, price numeric);
CREATE TRIGGER pub AFTER INSERT OR UPDATE OR DELETE ON item
  FOR EACH ROW EXECUTE FUNCTION weir.publish('kafka', '$topic');
INSERT INTO item VALUES (1, 'a', 1.50), (2, 'b', NULL);
UPDATE item SET price = 2 WHERE id = 1;
BEGIN;
UPDATE item SET price = 3 WHERE id = 1;
UPDATE item SET price = 4 WHERE id = 1;
SAVEPOINT s;
UPDATE item SET price = 5 WHERE id = 1;
ROLLBACK TO s;
INSERT INTO item VALUES (3, 'c', 0);
COMMIT;
BEGIN;
INSERT INTO item VALUES (4, 'never', 0);
ROLLBACK;
UPDATE item SET id = 5 WHERE id = 3;
DELETE FROM item WHERE id = 2;
SQL
sent('changes are sent');
is(records($topic), <<'OUT' =~ s/\n\z//r, 'last state per key and transaction, in order; tombstones; nothing that was rolled back');
1	{"id":1,"name":"a","price":1.50}
2	{"id":2,"name":"b","price":null}
1	{"id":1,"name":"a","price":2}
1	{"id":1,"name":"a","price":4}
3	{"id":3,"name":"c","price":0}
3	\N
5	{"id":5,"name":"c","price":0}
2	\N
OUT
is($node->safe_psql('postgres', "SELECT sink, server, topic, sent, pending, state, error FROM weir.stat_sinks"),
	"public.item.pub|kafka|$topic|8|0|running|", 'weir.stat_sinks');

# All options at once, and a row whose trigger has a WHEN condition.
my $other = topic('other');
my $elsewhere = topic('elsewhere');
kafka()->create($other, 3);
kafka()->create($elsewhere, 1);
$node->safe_psql('postgres', <<SQL);
CREATE TABLE full_row (a int, b text, at timestamptz, h jsonb, p int, t text);
CREATE TRIGGER pub AFTER INSERT OR DELETE ON full_row FOR EACH ROW
  EXECUTE FUNCTION weir.publish('kafka', '$other', 'key=a,b', 'columns=b,a', 'headers=h', 'partition=p',
    'timestamp=at', 'topic_column=t', 'nulls=omit', 'delete=record', 'changes=all');
SET TimeZone = 'Asia/Tokyo';
INSERT INTO full_row VALUES (1, NULL, '2024-01-01 00:00:00Z', '{"x": "y", "n": null}', 2, NULL),
  (2, 'zwei', '2024-01-01 00:00:01.5Z', '[{"key": "k", "base64": "AGE="}]', NULL, '$elsewhere');
DELETE FROM full_row WHERE a = 2;
SQL
sent('changes with all options are sent');
is(join("\n", kafka()->cat($other, 'full')), "2\t{\"a\":1,\"b\":null}\t{\"a\":1}\t1704067200000\tn=\\N,x=y", 'partition, timestamp, headers, nulls');
is(join("\n", kafka()->cat($elsewhere, 'full')),
	"0\t{\"a\":2,\"b\":\"zwei\"}\t{\"b\":\"zwei\",\"a\":2}\t1704067201500\tk=\0a\n" .
	"0\t{\"a\":2,\"b\":\"zwei\"}\t{\"b\":\"zwei\",\"a\":2,\"deleted\":true}\t1704067201500\tk=\0a", 'topic by a column, delete=record');

# Partitions are those of Java's default partitioner (murmur2): "k0".."k9" over 3, from Kafka's own Utils.murmur2.
my $java = topic('java');
kafka()->create($java, 3);
$node->safe_psql('postgres', "SELECT weir.produce('kafka', '$java', 'k' || i, 'v') FROM generate_series(0, 9) i");
sent('produced by hand');
is(join(' ', sort map { /^(\d+)\t(k\d)/ ? "$2:$1" : () } kafka()->cat($java)),
	join(' ', map { "k$_:" . (murmur2("k$_") & 0x7fffffff) % 3 } 0 .. 9), 'partition by murmur2 of the key');

sub murmur2
{
	my ($key) = @_;
	my ($m, $len) = (0x5bd1e995, length $key);
	my $h = (0x9747b28c ^ $len) & 0xffffffff;
	my @bytes = unpack('C*', $key);
	my $mul = sub { my ($x, $y) = @_; return (($x & 0xffff) * $y + (((($x >> 16) * $y) & 0xffff) << 16)) & 0xffffffff; };
	while (@bytes >= 4)
	{
		my $k = $bytes[0] | $bytes[1] << 8 | $bytes[2] << 16 | $bytes[3] << 24;
		splice @bytes, 0, 4;
		$k = $mul->($k, $m);
		$k ^= $k >> 24;
		$k = $mul->($k, $m);
		$h = $mul->($h, $m) ^ $k;
	}
	$h ^= $bytes[2] << 16 if @bytes > 2;
	$h ^= $bytes[1] << 8 if @bytes > 1;
	$h = $mul->($h ^ $bytes[0], $m) if @bytes > 0;
	$h ^= $h >> 13;
	$h = $mul->($h, $m);
	return $h ^ $h >> 15;
}

# A transaction that began first commits last: its rows are not lost, and a prepared one is right, too.
my $order = topic('order');
kafka()->create($order, 1);
$node->safe_psql('postgres', <<SQL);
CREATE TABLE late (id int PRIMARY KEY);
CREATE TRIGGER pub AFTER INSERT ON late FOR EACH ROW EXECUTE FUNCTION weir.publish('kafka', '$order');
SQL
my $first = session($node);
$first->query('BEGIN; INSERT INTO late VALUES (1)');
$node->safe_psql('postgres', "BEGIN; INSERT INTO late VALUES (2); PREPARE TRANSACTION 'two'");
$node->safe_psql('postgres', 'INSERT INTO late VALUES (3)');
sent('the one that is committed is sent');
is(records($order), "3\t{\"id\":3}", 'only that');
$first->query('COMMIT');
eventually($node, "SELECT sent FROM weir.stat_sinks WHERE topic = '$order'", 'an older transaction that commits later is sent', 2);
$node->safe_psql('postgres', "COMMIT PREPARED 'two'");
eventually($node, "SELECT sent FROM weir.stat_sinks WHERE topic = '$order'", 'so is a prepared one', 3);
is(records($order), "3\t{\"id\":3}\n1\t{\"id\":1}\n2\t{\"id\":2}", 'each once');
$first->quit;

# COPY of many rows: several chunks and batches, everything once.
my $copied = topic('copied');
kafka()->create($copied, 4);
$node->safe_psql('postgres', <<SQL);
CREATE TABLE copied (id int PRIMARY KEY, filler text);
CREATE TRIGGER pub AFTER INSERT ON copied FOR EACH ROW EXECUTE FUNCTION weir.publish('kafka', '$copied');
COPY copied FROM PROGRAM 'seq 1 200000 | sed "s/\$/\\tsome text that makes the row longer/"';
SQL
sent('rows that were copied are sent');
my @keys = sort { $a <=> $b } map { (split /\t/)[1] } kafka()->cat($copied);
is(scalar(@keys), 200_000, 'all of them');
is(join(' ', @keys[ 0, 1, 199_998, 199_999 ]), '1 2 199999 200000', 'each once');
eventually($node, "SELECT sum(pg_relation_size(inhrelid)) < 1000000 FROM pg_inherits WHERE inhparent = 'weir.outbox'::regclass",
	'the space of the outbox is given back');

# What Kafka refuses stops that sink only; the record can be moved aside.
my $small = topic('small');
kafka()->create($small, 1, 'max.message.bytes=10000');
$node->safe_psql('postgres', <<SQL);
CREATE TABLE big (id int PRIMARY KEY, t text);
CREATE TRIGGER pub AFTER INSERT ON big FOR EACH ROW EXECUTE FUNCTION weir.publish('kafka', '$small');
INSERT INTO big VALUES (1, 'a');
INSERT INTO big SELECT 2, string_agg(md5(i::text), '') FROM generate_series(1, 1000) i;
INSERT INTO big VALUES (3, 'c');
CREATE TABLE nowhere (id int PRIMARY KEY);
CREATE TRIGGER pub AFTER INSERT ON nowhere FOR EACH ROW EXECUTE FUNCTION weir.publish('kafka', '$small-not-there');
INSERT INTO nowhere VALUES (1);
SQL
eventually($node, "SELECT state FROM weir.stat_sinks WHERE sink = 'public.big.pub'", 'a message that is too large stops its sink', 'failed');
like($node->safe_psql('postgres', "SELECT error FROM weir.stat_sinks WHERE sink = 'public.big.pub'"), qr/too large/, 'and is shown');
eventually($node, "SELECT state || ' ' || (error ~ 'not-there') FROM weir.stat_sinks WHERE sink = 'public.nowhere.pub'", 'so does a topic that is not there', 'failed true');
$node->safe_psql('postgres', "UPDATE item SET name = 'on' WHERE id = 1");
sent('other sinks go on', "sink = 'public.item.pub'");
is($node->safe_psql('postgres', "SELECT weir.discard('public.big.pub')"), '1', 'weir.discard moves the record aside');
is($node->safe_psql('postgres', "SELECT stream, topic = '$small', convert_from(key, 'UTF8'), length(payload) > 32000, message ~ 'too large' FROM weir.dead_letters"),
	'big|t|2|t|t', 'to weir.dead_letters');
$node->safe_psql('postgres', "SELECT weir.resume_sink('public.big.pub')");
sent('the sink goes on', "sink = 'public.big.pub'");
is(records($small), "1\t{\"id\":1,\"t\":\"a\"}\n3\t{\"id\":3,\"t\":\"c\"}", 'without the record');
kafka()->create("$small-not-there", 1);
$node->safe_psql('postgres', "SELECT weir.resume_sink('public.nowhere.pub')");
sent('the topic is there now', "sink = 'public.nowhere.pub'");

# The outbox does not grow without bound: writers hear of it.
$node->safe_psql('postgres', "SELECT weir.pause_sink('public.big.pub')");
$node->append_conf('postgresql.conf', "weir.outbox_limit = '8MB'");
$node->reload;
($ret, $out, $err) = $node->psql('postgres', <<SQL);
\\set VERBOSITY verbose
INSERT INTO big SELECT i, repeat('x', 1000) FROM generate_series(100, 8000) i;
INSERT INTO big SELECT i, repeat('x', 1000) FROM generate_series(10100, 18000) i;
INSERT INTO big SELECT i, repeat('x', 1000) FROM generate_series(20100, 28000) i;
SQL
like($err, qr/53100.*the outbox is full/s, 'a full outbox is an error for writers');
$node->safe_psql('postgres', "SELECT weir.resume_sink('public.big.pub')");
sent('what got in is sent', "sink = 'public.big.pub'");
eventually($node, 'SELECT sum(pg_table_size(inhrelid)) < 4000000 FROM pg_inherits WHERE inhparent = \'weir.outbox\'::regclass', 'there is room again');
$node->poll_query_until('postgres', 'SELECT true');
($ret, $out, $err) = $node->psql('postgres', 'INSERT INTO big VALUES (50000, NULL)');
is($ret, 0, 'and writers go on');

# Statement triggers, a snapshot, a sink without transactions.
my $plain = topic('plain');
kafka()->create($plain, 1);
$node->safe_psql('postgres', <<SQL);
CREATE TABLE plain (id int PRIMARY KEY, v int);
INSERT INTO plain VALUES (1, 10), (2, 20);
BEGIN;
CREATE TRIGGER ins AFTER INSERT ON plain REFERENCING NEW TABLE AS n FOR EACH STATEMENT
  EXECUTE FUNCTION weir.publish('kafka', '$plain', 'delivery=at_least_once');
SELECT weir.snapshot('plain', 'ins');
COMMIT;
INSERT INTO plain VALUES (3, 30);
SQL
sent('a snapshot and later changes are sent');
is(records($plain), "1\t{\"id\":1,\"v\":10}\n2\t{\"id\":2,\"v\":20}\n3\t{\"id\":3,\"v\":30}", 'in this order');

# Rights: the owner of the table needs USAGE, at creation and afterwards.
$node->safe_psql('postgres', <<SQL);
CREATE ROLE alice;
CREATE SCHEMA alice AUTHORIZATION alice;
SET ROLE alice;
CREATE TABLE alice.t (id int PRIMARY KEY);
SQL
my $as_alice = "SET ROLE alice; CREATE TRIGGER pub AFTER INSERT ON alice.t FOR EACH ROW EXECUTE FUNCTION weir.publish('kafka', '$topic')";
($ret, $out, $err) = $node->psql('postgres', $as_alice);
like($err, qr/permission denied for foreign server kafka/, 'no trigger without USAGE on the server');
($ret, $out, $err) = $node->psql('postgres', "SET ROLE alice; SELECT weir.produce('kafka', '$topic', 'k', 'v')");
like($err, qr/permission denied for foreign server kafka/, 'no produce either');
$node->safe_psql('postgres', "GRANT USAGE ON FOREIGN SERVER kafka TO alice; $as_alice; INSERT INTO alice.t VALUES (1)");
sent('with USAGE it works', "sink = 'alice.t.pub'");
$node->safe_psql('postgres', 'REVOKE USAGE ON FOREIGN SERVER kafka FROM alice');
($ret, $out, $err) = $node->psql('postgres', 'INSERT INTO alice.t VALUES (2)');
like($err, qr/permission denied for foreign server kafka/, 'a right that was revoked counts at once');
is($node->safe_psql('postgres', 'SET ROLE alice; SELECT sink FROM weir.stat_sinks'), 'alice.t.pub', 'a role sees its own sinks');

# A server that triggers publish to stays; one whose address changes is followed.
($ret, $out, $err) = $node->psql('postgres', 'DROP SERVER kafka');
like($err, qr/trigger pub on table item depends on server kafka/, 'a server that is published to cannot just be dropped');
my $bootstrap = kafka()->bootstrap;
my $port = PostgreSQL::Test::Cluster::get_free_port();
$node->safe_psql('postgres', "ALTER SERVER kafka OPTIONS (SET bootstrap_servers '127.0.0.1:$port'); INSERT INTO plain VALUES (5, 50)");
eventually($node, "SELECT state FROM weir.stat_sinks WHERE sink = 'public.plain.ins'", 'brokers that do not answer show', 'waiting');
$node->safe_psql('postgres', "ALTER SERVER kafka OPTIONS (SET bootstrap_servers '$bootstrap')");
sent('the right address is followed', "sink = 'public.plain.ins'");

# A dropped trigger's sink goes when all is sent; the database can be dropped.
$node->safe_psql('postgres', 'DROP TABLE item');
$node->safe_psql('postgres', 'INSERT INTO plain VALUES (4, 40)');
eventually($node, "SELECT count(*) FROM weir.stat_sinks WHERE topic = '$topic' AND sink LIKE 'dropped%'", 'the sink of a dropped table goes', 0);

# One that cannot be sent any more waits for weir.discard, and keeps nobody busy.
$node->safe_psql('postgres', <<SQL);
CREATE SERVER gone FOREIGN DATA WRAPPER weir_kafka OPTIONS (bootstrap_servers '127.0.0.1:$port');
CREATE TABLE left_over (id int PRIMARY KEY);
CREATE TRIGGER pub AFTER INSERT ON left_over FOR EACH ROW EXECUTE FUNCTION weir.publish('gone', 'gone');
INSERT INTO left_over VALUES (1);
SQL
eventually($node, "SELECT error IS NOT NULL FROM weir.stat_sinks WHERE server = 'gone'", 'its publisher tries to connect');
$node->safe_psql('postgres', 'DROP TABLE left_over');
$node->safe_psql('postgres', 'DROP SERVER gone CASCADE');
eventually($node, "SELECT error FROM weir.stat_sinks WHERE server = 'gone'", 'what is left of a dropped server is shown', 'server "gone" does not exist');
eventually($node, "SELECT bool_and(now() - state_change > '1 s') FROM pg_stat_activity WHERE backend_type IN ('weir worker', 'weir publisher')",
	'and the processes are at rest');

$node->safe_psql('postgres', 'DROP EXTENSION weir CASCADE');
$node->safe_psql('postgres', "SELECT 1");

$node->stop;
done_testing();
