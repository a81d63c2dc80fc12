# Killing parts of a server, and asking one that may be down just now.
#
# A psql that is turned away by a server in recovery ends before it has read its input. PostgreSQL's
# test modules die of that (a broken pipe); here it means "down".
package WeirKill;

use strict;
use warnings FATAL => 'all';

use Exporter 'import';
use PostgreSQL::Test::Utils;

our @EXPORT = qw(try_sql applied await_end await_server kill_postmaster kill_child);

# What a query gives, or undef while the server is down.
sub try_sql
{
	my ($node, $sql) = @_;
	my ($out, $err) = ('', '');
	my $ret = eval { $node->psql('postgres', $sql, stdout => \$out, stderr => \$err, timeout => 60); };
	return defined $ret && $ret == 0 ? $out : undef;
}

# How many messages of a stream are applied, or undef while the server is down.
sub applied
{
	my ($node, $stream) = @_;
	return try_sql($node,
		"SELECT coalesce(sum(next_offset), 0) FROM weir.position WHERE stream = '$stream'::regclass AND partition >= 0");
}

# Waits until the server takes connections again: after a child was killed the
# postmaster restarts the others by itself.
sub await_server
{
	my ($node) = @_;
	for (1 .. 20)
	{
		return if eval { $node->poll_query_until('postgres', 'SELECT true') };
	}
	die "the server did not come back: $@";
}

# Waits until a process is gone, and its parent has noticed.
sub await_end
{
	my ($pid) = @_;
	system('timeout', '60', 'tail', '-s', '0.02', "--pid=$pid", '-f', '/dev/null') == 0
	  or die "process $pid does not end";
	return;
}

# kill -9 of the postmaster. Its children notice and leave; only then can a new one start.
sub kill_postmaster
{
	my ($node) = @_;
	my ($postmaster) = slurp_file($node->data_dir . '/postmaster.pid') =~ /^(\d+)/;
	my @children = split ' ', slurp_file("/proc/$postmaster/task/$postmaster/children");
	$node->kill9;
	await_end($_) for @children;
	return;
}

# kill -9 of one process of this kind (as pg_stat_activity calls it), which restarts the server.
# Returns its process id, or undef if there is none.
sub kill_child
{
	my ($node, $type) = @_;
	my @pids = split /\n/,
	  try_sql($node, "SELECT pid FROM pg_stat_activity WHERE backend_type = '$type'") // '';
	my $pid = $pids[ rand @pids ];
	return unless $pid;
	kill 'KILL', $pid;
	await_end($pid);
	await_server($node);
	return $pid;
}

1;
