# Caches that are emptied at every chance (debug_discard_caches, of servers with assertions): nothing holds on to
# what a relation's or the catalog's cache has handed out. Other servers run the same statements as they are.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WeirTest;

my $node = weir_node('main', conf => "weir.enabled = off\n");
my $discard = $node->safe_psql('postgres', 'SHOW debug_assertions') eq 'on' ? 'SET debug_discard_caches = 1; ' : '';

# Each command in a session of its own, as all of it would take minutes more.
sub run
{
	my ($sql, %opt) = @_;
	my ($ret, $out, $err) = $node->psql('postgres', "$discard$sql", timeout => 300);
	local $Test::Builder::Level = $Test::Builder::Level + 1;
	$opt{error} ? like($err, $opt{error}, "refused: $sql") : is("$ret $err", '0 ', $sql);
	return $out;
}

$node->safe_psql('postgres', <<'SQL');
CREATE SERVER nowhere FOREIGN DATA WRAPPER weir_kafka OPTIONS (bootstrap_servers '127.0.0.1:1');
CREATE TABLE item (id int PRIMARY KEY, name text);
CREATE TABLE ev (k int, v int, at timestamptz) WITH (weir.stream, weir.event_time = 'at', weir.keep = '1 day');
SQL
run("CREATE TRIGGER n AFTER INSERT ON item FOR EACH ROW EXECUTE FUNCTION weir.notify('ch', 'columns=nothing')", error => qr/column "nothing" of table "item" does not exist/);
run("CREATE TRIGGER n AFTER INSERT ON item FOR EACH ROW EXECUTE FUNCTION weir.notify('ch', 'columns=name')");
run("CREATE TRIGGER p AFTER INSERT ON item FOR EACH ROW WHEN (new.id > 0) EXECUTE FUNCTION weir.publish('nowhere', 'items')");
run("INSERT INTO item VALUES (1, 'a'), (2, 'b')");
is(run("SELECT weir.snapshot('item', 'p')"), '2', 'rows of the snapshot');
isnt($node->safe_psql('postgres', 'SELECT count(*) FROM weir.outbox'), '0', 'the outbox has them');
run('CREATE MATERIALIZED VIEW passing WITH (weir.continuous, weir.keep = 0) AS SELECT k, v FROM ev WHERE v > 1');
run("CREATE TRIGGER n AFTER INSERT ON passing FOR EACH ROW WHEN (new.v > 2) EXECUTE FUNCTION weir.notify('ch')");
run("INSERT INTO ev VALUES (1, 1, '2026-01-01 00:00'), (2, 2, '2026-01-01 00:00:01'), (1, 3, '2026-01-01 00:01')") for 1 .. 2;
$node->stop;
done_testing();
