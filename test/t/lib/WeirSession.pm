# One psql session that stays open: to hold a lock, or to be killed.
package WeirSession;

use strict;
use warnings FATAL => 'all';

use IPC::Run;

use constant ANSWER_LIMIT => 180;    # seconds

my $markers = 0;

# new(node [, database])
sub new
{
	my ($class, $node, $db) = @_;
	my $self = bless({ in => '', out => '', err => '' }, $class);
	$self->{timer} = IPC::Run::timeout(ANSWER_LIMIT);
	$self->{run} = IPC::Run::start(
		[ 'psql', '-XAtq', '-d', $node->connstr($db // 'postgres') ],
		'<', \$self->{in}, '>', \$self->{out}, '2>', \$self->{err}, $self->{timer});
	$self->{pid} = $self->query('SELECT pg_backend_pid()');
	return $self;
}

sub pid { return $_[0]->{pid}; }

# Runs SQL and returns what it printed.
sub query
{
	my ($self, $sql) = @_;
	$self->send($sql);
	return $self->result;
}

# Starts SQL without waiting for it; result waits.
sub send
{
	my ($self, $sql) = @_;
	$self->{marker} = 'marker-' . ++$markers;
	$self->{out} = '';
	$self->{in} .= "$sql\n;\n\\echo $self->{marker}\n";
	eval { $self->{run}->pump_nb; };
	return;
}

sub result
{
	my ($self) = @_;
	my $marker = $self->{marker};
	$self->{timer}->start(ANSWER_LIMIT);
	# a server that dies ends psql, and the pump with it
	eval { $self->{run}->pump while $self->{out} !~ /^$marker$/m && $self->{run}->pumpable; };
	die "psql has not answered in " . ANSWER_LIMIT . " s: $self->{out}$self->{err}\n" if $self->{timer}->is_expired;
	$self->{timer}->reset;
	my $out = $self->{out};
	$out =~ s/^$marker\n//m;
	chomp $out;
	return $out;
}

sub errors { my ($self) = @_; my $e = $self->{err}; $self->{err} = ''; return $e; }

sub quit
{
	my ($self) = @_;
	$self->{in} .= "\\q\n";
	eval { $self->{run}->finish; };
	return;
}

1;
