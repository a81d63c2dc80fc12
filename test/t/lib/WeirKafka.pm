# A Kafka broker as the tests see it: a thin coat over test/kafka/broker and
# test/kafka/ktool. Every method returns when what it did is done, so that no
# test has to sleep.
package WeirKafka;

use strict;
use warnings FATAL => 'all';

use Cwd qw(abs_path);
use File::Basename qw(dirname);
use File::Temp;
use IPC::Run;

my $kafka_dir = abs_path(dirname(__FILE__) . '/../../kafka');
my $tool;
my $shared;

# The path of ktool, built once per test file unless test/run did it.
sub tool
{
	return $tool if defined $tool;
	$tool = $ENV{WEIR_KTOOL};
	if (!defined $tool)
	{
		our $tool_dir = File::Temp->newdir();
		$tool = "$tool_dir/ktool";
		system($ENV{CC} || 'gcc', '-O2', '-o', $tool, "$kafka_dir/ktool.c",
			'-lrdkafka') == 0 or die "cannot build ktool";
		$ENV{WEIR_KTOOL} = $tool;
	}
	return $tool;
}

# The broker that all test files share (WEIR_KAFKA names it), or one of this
# file's own.
sub shared
{
	return $shared if defined $shared;
	$shared =
	  $ENV{WEIR_KAFKA}
	  ? bless({ bootstrap => $ENV{WEIR_KAFKA} }, 'WeirKafka')
	  : WeirKafka->own;
	return $shared;
}

# A broker of this test file's own, that it may stop and kill.
sub own
{
	my ($class) = @_;
	my $self = bless({ dir => File::Temp->newdir(DIR => $ENV{TESTDIR} // '/tmp') }, $class);
	tool();
	$self->start;
	return $self;
}

sub broker
{
	my ($self, $command) = @_;
	my ($in, $out, $err) = ('', '', '');
	IPC::Run::run([ "$kafka_dir/broker", $command, "$self->{dir}" ],
		'<', \$in, '>', \$out, '2>', \$err)
	  or die "broker $command: $err";
	chomp $out;
	return $out;
}

sub start
{
	my ($self) = @_;
	$self->{bootstrap} = $self->broker('start');
	$self->{running} = 1;
	return;
}

sub stop { my ($self) = @_; $self->broker('stop'); $self->{running} = 0; return; }
sub kill9 { my ($self) = @_; $self->broker('kill'); $self->{running} = 0; return; }

sub DESTROY
{
	my ($self) = @_;
	local ($?, $@);
	eval { $self->kill9 } if $self->{running};
	return;
}

END { local ($?, $@); $shared = undef; }

sub bootstrap { return $_[0]->{bootstrap}; }

# Runs ktool; lines (a reference to an array) go to its standard input.
sub ktool
{
	my ($self, $lines, @args) = @_;
	my $in = $lines ? join('', map { "$_\n" } @$lines) : '';
	my ($out, $err) = ('', '');
	IPC::Run::run([ tool(), $self->{bootstrap}, @args ],
		'<', \$in, '>', \$out, '2>', \$err)
	  or die "ktool @args: $err";
	return $out;
}

sub create { my ($self, $topic, $partitions, @config) = @_; $self->ktool(undef, 'create', $topic, $partitions // 1, @config); return; }
sub delete { my ($self, $topic) = @_; $self->ktool(undef, 'delete', $topic); return; }
sub grow { my ($self, $topic, $partitions) = @_; $self->ktool(undef, 'grow', $topic, $partitions); return; }
sub trim { my ($self, $topic, $partition, $offset) = @_; $self->ktool(undef, 'trim', $topic, $partition, $offset); return; }

# put(topic, line, ...): into partition 0. put(topic, [options of ktool], line, ...)
sub put
{
	my ($self, $topic, @lines) = @_;
	my @options = ref $lines[0] ? @{ shift @lines } : ('-p', '0');
	$self->ktool(\@lines, 'put', $topic, @options);
	return;
}

# The generated orders: see make_order in ktool.c and fill_sql in WeirTest.pm.
sub fill
{
	my ($self, $topic, $partitions, $count, @options) = @_;
	$self->ktool(undef, 'fill', $topic, $partitions, $count, @options);
	return;
}

# The same without waiting: returns a handle for IPC::Run's finish.
sub fill_start
{
	my ($self, $topic, $partitions, $count, @options) = @_;
	return IPC::Run::start(
		[ tool(), $self->{bootstrap}, 'fill', $topic, $partitions, $count, @options ],
		'<', \'', '>', '/dev/null');
}

# Lines "partition TAB key TAB value" that a read_committed consumer gets, in the
# order of each partition; more with cat(topic, 'full').
sub cat
{
	my ($self, $topic, @options) = @_;
	return split /\n/, $self->ktool(undef, 'cat', $topic, @options);
}

# "partition:high" of every partition, as WeirTest::positions gives it too.
sub ends
{
	my ($self, $topic) = @_;
	my $out = $self->ktool(undef, 'ends', $topic);
	return join(' ', map { /^(\d+) \d+ (\d+)$/ ? "$1:$2" : () } split /\n/, $out);
}

1;
