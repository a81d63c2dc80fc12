# A transaction that made an unlogged table is rolled back, and the server
# crashes before the rollback is in the log: PostgreSQL alone does not start
# again ("could not create file ...: File exists"). With weir loaded it does.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WeirTest;

# The log writer sleeps, so nobody but weir brings the rollback to disk.
my $node = weir_node('unlogged', conf => 'wal_writer_delay = 10s', no_extension => 1);
$node->safe_psql('postgres', 'CREATE TABLE other (i int)');

for my $abort ('ROLLBACK', 'ROLLBACK TO s')
{
	my $session = session($node);

	$session->query('BEGIN; SAVEPOINT s; CREATE UNLOGGED TABLE u (i int)');
	# its commit brings the creation of the file to disk
	$node->safe_psql('postgres', 'INSERT INTO other VALUES (1)');
	$session->query($abort);
	$node->stop('immediate');
	ok($node->start(fail_ok => 1), "the server starts after a crash behind $abort");
	eval { $session->quit };
}
$node->stop;
done_testing();
