# What the benches share: CPU seconds of processes, and a line about the machine.
package WeirBench;

use strict;
use warnings FATAL => 'all';

use Exporter 'import';
use POSIX ();
use PostgreSQL::Test::Utils;

our @EXPORT = qw(cpu_of processes median machine);

my $hertz = POSIX::sysconf(POSIX::_SC_CLK_TCK());

# CPU seconds that a process and its threads have used so far, and those of its ended children.
sub cpu_of
{
	my ($pid, $children) = @_;
	open(my $fh, '<', "/proc/$pid/stat") or return 0;
	my @f = split ' ', (<$fh> =~ s/^.*\) //r);
	my $ticks = $f[11] + $f[12];
	$ticks += $f[13] + $f[14] if $children;
	return $ticks / $hertz;
}

# The server's processes: (postmaster, children...).
sub processes
{
	my ($node) = @_;
	my ($postmaster) = slurp_file($node->data_dir . '/postmaster.pid') =~ /^(\d+)/;
	my @children = split ' ', join(' ', map { slurp_file($_) } glob "/proc/$postmaster/task/*/children");
	return ($postmaster, @children);
}

sub median { my @s = sort { $a <=> $b } @_; return $s[ @s / 2 ]; }

sub machine
{
	my ($cpu) = slurp_file('/proc/cpuinfo') =~ /^model name\s*:\s*(.*)$/m;
	my $cpus = () = slurp_file('/proc/cpuinfo') =~ /^processor/mg;
	my ($mem) = slurp_file('/proc/meminfo') =~ /^MemTotal:\s+(\d+)/m;
	return sprintf('%s, %d CPUs, %d GB', $cpu // 'unknown CPU', $cpus, $mem / 1024 / 1024);
}

1;
