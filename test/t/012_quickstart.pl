# The quick start's own files against its own broker, librdkafka's mock cluster.
use strict;
use warnings FATAL => 'all';

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WeirTest;

my $dir = abs_path(dirname(__FILE__) . '/../../examples/quickstart');
my $program = PostgreSQL::Test::Utils::tempdir() . '/broker';
system($ENV{CC} || 'gcc', '-O2', '-Wall', '-Wextra', '-Werror', '-o', $program, "$dir/broker.c", '-lrdkafka') == 0
  or die 'cannot build the broker';
my $produce = PostgreSQL::Test::Utils::tempdir() . '/produce';
system($ENV{CC} || 'gcc', '-O2', '-Wall', '-Wextra', '-Werror', '-o', $produce, "$dir/../produce.c", '-lrdkafka') == 0
  or die 'cannot build the producer';
my ($said, $err) = ('', '');
my $broker = IPC::Run::start([$program], '<', \'', '>', \$said, '2>', \$err, IPC::Run::timeout(120));
$broker->pump until $said =~ /\n/;
my ($bootstrap) = $said =~ /^bootstrap (\S+)$/m;
ok($bootstrap, 'the embedded broker says where it listens') or BAIL_OUT("broker: $said $err");

my $node = weir_node('main', no_extension => 1);
$node->command_ok([ 'psql', '-X', '-v', 'ON_ERROR_STOP=1', '-v', "bootstrap=$bootstrap", '-d', $node->connstr('postgres'), '-f', "$dir/quickstart.sql" ], 'quickstart.sql');
command_ok([ $produce, $bootstrap, 'orders', '200', '0' ], 'orders are sent');
wait_for($node, 'orders');
is($node->safe_psql('postgres', 'SELECT count(*) FROM orders'), '200', 'they are in the stream');
is($node->safe_psql('postgres', 'SELECT sum(orders) FROM sales'), '200', 'and in the view');
verified($node, 'sales');
my $watch = slurp_file("$dir/watch.sql");
isnt($node->safe_psql('postgres', $watch), '', 'what the quick start shows');
command_ok([ $produce, $bootstrap, 'orders', '50', '0' ], 'more orders');
wait_for($node, 'orders');
verified($node, 'sales');
is($node->safe_psql('postgres', 'SELECT sum(orders) FROM sales'), '250', 'change the view');

$node->stop;
$broker->kill_kill;
done_testing();
