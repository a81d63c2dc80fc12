# Whoever writes, publishes: logical replication, COPY, many small transactions at once, the owner of a
# view. And who cannot be published for stands still alone: a role without rights, a filter that is wrong.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WeirTest;

my $node = weir_node('main', conf => "wal_level = logical\nmax_prepared_transactions = 5\n");
make_kafka_server($node);

sub values_of
{
	my ($topic) = @_;
	return sort map { (split /\t/)[2] } kafka()->cat($topic);
}

sub make_topic
{
	my ($name) = @_;
	my $topic = topic($name);
	kafka()->create($topic, 1);
	return $topic;
}

sub sent
{
	my ($sink, $n, $name) = @_;
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	eventually($node, "SELECT sent, pending FROM weir.stat_sinks WHERE sink = '$sink'", $name, "$n|0");
}

# COPY, a writable CTE, MERGE, a function with an exception block
my $paths = make_topic('paths');
$node->safe_psql('postgres', <<SQL);
CREATE TABLE item (id int PRIMARY KEY, v text);
CREATE TRIGGER pub AFTER INSERT OR UPDATE OR DELETE ON item FOR EACH ROW EXECUTE FUNCTION weir.publish('kafka', '$paths', 'delete=record', 'nulls=omit');
COPY item FROM STDIN;
1	copied
2	\\N
\\.
SQL
$node->safe_psql('postgres', <<'SQL');
WITH d AS (DELETE FROM item WHERE id = 2 RETURNING id) INSERT INTO item SELECT id + 1, 'moved' FROM d;
MERGE INTO item USING (VALUES (1, 'merged'), (4, 'new')) AS s (id, v) ON item.id = s.id
  WHEN MATCHED THEN UPDATE SET v = s.v WHEN NOT MATCHED THEN INSERT VALUES (s.id, s.v);
DO $$ BEGIN
  INSERT INTO item VALUES (5, 'kept');
  BEGIN
    INSERT INTO item VALUES (6, 'lost'), (5, 'twice');
  EXCEPTION WHEN unique_violation THEN
    INSERT INTO item VALUES (7, 'instead');
  END;
END $$;
SQL
sent('public.item.pub', 8, 'all ways to write');
is(join("\n", values_of($paths)), <<'OUT' =~ s/\n\z//r, 'each change once');
{"id":1,"v":"copied"}
{"id":1,"v":"merged"}
{"id":2,"deleted":true}
{"id":2}
{"id":3,"v":"moved"}
{"id":4,"v":"new"}
{"id":5,"v":"kept"}
{"id":7,"v":"instead"}
OUT

# logical replication: the apply worker fires what is ENABLE ALWAYS or REPLICA
my $applied = make_topic('applied');
my $publisher = PostgreSQL::Test::Cluster->new('publisher');
$publisher->init(allows_streaming => 'logical');
$publisher->start;
$publisher->safe_psql('postgres', 'CREATE TABLE t (id int PRIMARY KEY, v text); CREATE PUBLICATION p FOR TABLE t');
my $from = $publisher->connstr . ' dbname=postgres';
$node->safe_psql('postgres', <<SQL);
CREATE TABLE t (id int PRIMARY KEY, v text);
CREATE TRIGGER pub AFTER INSERT OR UPDATE OR DELETE ON t FOR EACH ROW EXECUTE FUNCTION weir.publish('kafka', '$applied');
CREATE TRIGGER never AFTER INSERT OR UPDATE OR DELETE ON t FOR EACH ROW EXECUTE FUNCTION weir.publish('kafka', '$applied');
ALTER TABLE t ENABLE ALWAYS TRIGGER pub;
SQL
$node->safe_psql('postgres', "CREATE SUBSCRIPTION s CONNECTION '$from' PUBLICATION p");
$node->wait_for_subscription_sync($publisher, 's');
$publisher->safe_psql('postgres', "INSERT INTO t VALUES (1, 'a'), (2, 'b'); UPDATE t SET v = 'c' WHERE id = 1; DELETE FROM t WHERE id = 2");
$publisher->wait_for_catchup('s');
sent('public.t.pub', 4, 'replicated changes are published');
is(join(' ', map { (split /\t/)[2] } kafka()->cat($applied)), '{"id":1,"v":"a"} {"id":2,"v":"b"} {"id":1,"v":"c"} \N', 'in their order');
is($node->safe_psql('postgres', "SELECT sent FROM weir.stat_sinks WHERE sink = 'public.t.never'"), '0', 'by triggers that fire there only');
$node->safe_psql('postgres', 'DROP SUBSCRIPTION s');
$publisher->stop;

# many sessions with small transactions
my $many = make_topic('many');
$node->safe_psql('postgres', <<SQL);
CREATE TABLE account (id int PRIMARY KEY, n int NOT NULL);
INSERT INTO account SELECT i, 0 FROM generate_series(1, 20) i;
CREATE TRIGGER pub AFTER UPDATE ON account FOR EACH ROW EXECUTE FUNCTION weir.publish('kafka', '$many', 'changes=all');
SQL
my @sessions = map { my $s = session($node);
	$s->send(join('', map { sprintf("BEGIN; UPDATE account SET n = n + 1 WHERE id = %d; UPDATE account SET n = n + 1 WHERE id = %d; %s;\n", 1 + $_ % 10, 11 + int(rand(10)), $_ % 7 ? 'COMMIT' : 'ROLLBACK') } 1 .. 250)); $s } 1 .. 4;
$_->result foreach @sessions;
$_->quit foreach @sessions;
my $changes = $node->safe_psql('postgres', 'SELECT sum(n) FROM account');
sent('public.account.pub', $changes, 'changes of four sessions');
my (%last, $wrong);
$wrong = 0;
foreach (kafka()->cat($many))
{
	my ($id, $n) = /"id":(\d+),"n":(\d+)/;
	$wrong++ if $n != ($last{$id} // 0) + 1;
	$last{$id} = $n;
}
is($wrong, 0, 'in the order of each row');
is($node->safe_psql('postgres', "SELECT string_agg(id || ':' || n, ' ' ORDER BY id) FROM account WHERE n > 0"),
	join(' ', map { "$_:$last{$_}" } sort { $a <=> $b } keys %last), 'up to the last state');

# statement triggers with transition tables
my $statements = make_topic('statements');
$node->safe_psql('postgres', <<SQL);
CREATE TABLE st (id int PRIMARY KEY, v int);
CREATE TRIGGER i AFTER INSERT ON st REFERENCING NEW TABLE AS n FOR EACH STATEMENT EXECUTE FUNCTION weir.publish('kafka', '$statements');
CREATE TRIGGER u AFTER UPDATE ON st REFERENCING NEW TABLE AS n OLD TABLE AS o FOR EACH STATEMENT EXECUTE FUNCTION weir.publish('kafka', '$statements');
CREATE TRIGGER d AFTER DELETE ON st REFERENCING OLD TABLE AS o FOR EACH STATEMENT EXECUTE FUNCTION weir.publish('kafka', '$statements');
INSERT INTO st VALUES (1, 1), (2, 2);
UPDATE st SET id = 3 WHERE id = 2;
DELETE FROM st WHERE id = 1;
SQL
eventually($node, "SELECT sum(sent) FROM weir.stat_sinks WHERE sink LIKE 'public.st.%'", 'statement triggers', 5);
is(join(' ', sort map { s/^0\t//r =~ s/\t/=/r } kafka()->cat($statements)), '1=\N 1={"id":1,"v":1} 2=\N 2={"id":2,"v":2} 3={"id":3,"v":2}', 'a changed key ends its record');

# a view publishes as its owner; another user's bad filter, failing trigger or missing right is his own business
my ($in, $good, $bad) = map { make_topic($_) } qw(in good bad);
$node->safe_psql('postgres', <<SQL);
CREATE ROLE alice LOGIN;
CREATE ROLE mallory LOGIN;
GRANT CREATE ON SCHEMA public TO alice, mallory;
GRANT USAGE ON FOREIGN SERVER kafka TO alice, mallory;
CREATE UNLOGGED TABLE kafka_event (id int, doc jsonb) WITH (weir.server = 'kafka', weir.topic = '$in', weir.keep = '1 hour');
GRANT SELECT ON kafka_event TO alice, mallory;
SET ROLE alice;
CREATE MATERIALIZED VIEW a WITH (weir.continuous, weir.keep = 0) AS SELECT id, current_user::text AS who FROM kafka_event WHERE doc ? 'x';
CREATE TRIGGER pub AFTER INSERT ON a FOR EACH ROW EXECUTE FUNCTION weir.publish('kafka', '$good', 'key=id');
SET ROLE mallory;
CREATE TABLE m_filter (path text);
INSERT INTO m_filter VALUES ('\$.x');
CREATE MATERIALIZED VIEW m WITH (weir.continuous, weir.keep = 0) AS
  SELECT e.id FROM kafka_event e JOIN m_filter f ON e.doc \@? f.path::jsonpath;
CREATE TRIGGER pub AFTER INSERT ON m FOR EACH ROW EXECUTE FUNCTION weir.publish('kafka', '$bad', 'key=id');
SQL
kafka()->put($in, qq({"id": 1, "doc": {"x": 1}}));
wait_for($node, 'kafka_event');
sent('public.a.pub', 1, 'one view');
sent('public.m.pub', 1, 'another');
is(join(' ', values_of($good)), '{"id":1,"who":"alice"}', 'maintained as its owner');
$node->safe_psql('postgres', "SET ROLE mallory; INSERT INTO m_filter VALUES ('no ( path')");
kafka()->put($in, qq({"id": 2, "doc": {"x": 2}}\n{"id": 3, "doc": {"x": 3}}));
eventually($node, "SELECT state, error ~ 'jsonpath' FROM weir.views WHERE view = 'm'::regclass", 'a bad filter stops its own view, with the error', 'failed|t');
sent('public.a.pub', 3, 'other views go on');
$node->safe_psql('postgres', "SET ROLE mallory; DELETE FROM m_filter WHERE path LIKE 'no%'; SELECT weir.resume('m')");
sent('public.m.pub', 3, 'mended, it catches up, each row once');
$node->safe_psql('postgres', 'REVOKE USAGE ON FOREIGN SERVER kafka FROM mallory');
kafka()->put($in, qq({"id": 4, "doc": {"x": 4}}));
eventually($node, "SELECT state, error ~ 'permission denied for foreign server' FROM weir.views WHERE view = 'm'::regclass", 'so does a right that is gone', 'failed|t');
sent('public.a.pub', 4, 'others go on');
is(join(' ', values_of($bad)), '{"id":1} {"id":2} {"id":3}', 'nothing is published without the right');

# a sink that is stopped does not stop the source
kafka()->put($in, qq({"id": 5, "doc": {"x": 5}}));
$node->safe_psql('postgres', "SELECT weir.pause_sink('public.a.pub')");
kafka()->put($in, qq({"id": 6, "doc": {"x": 6}}));
eventually($node, "SELECT sum(position) FROM weir.stat_streams WHERE stream = 'kafka_event'::regclass", 'the stream goes on', 6);
$node->safe_psql('postgres', "SELECT weir.resume_sink('public.a.pub')");
sent('public.a.pub', 6, 'resumed, all is sent');

$node->stop;
done_testing();
