# Runs a case of Generator.pm: streams beside ordinary tables with the same
# rows. Every view must equal its own query over these.
package Plain;

use strict;
use warnings FATAL => 'all';

use WeirTest;

# A view's query over streams or over their reference tables.
sub over
{
	my ($sql, $reference) = @_;
	my %names = $reference ? (S => 'ref_s', T => 'ref_t', V => 'ref_v', D => 'dim') : (S => 's', T => 't', V => 'v', D => 'dim');
	return $sql =~ s/\@([STVD])\@/$names{$1}/gr;
}

sub set_up
{
	my ($run, $case) = @_;
	$run->{sql}->("CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy'); CREATE DOMAIN posint AS integer CHECK (VALUE > 0); CREATE TYPE pair AS (a integer, b text)");
	my @columns = map { "$_->{name} $_->{type}" } @{ $case->{columns} };
	splice(@columns, $case->{dropped}, 0, 'gone integer') if defined $case->{dropped};
	my $columns = join(', ', @columns);
	for my $stream (qw(s t))
	{
		my $topic;
		if ($case->{kafka})
		{
			$topic = $case->{topic}{$stream} = topic("diff-$stream");
			kafka()->create($topic, $case->{kafka});
		}
		my $kind = $case->{logged} ? 'TABLE' : 'UNLOGGED TABLE';
		my $with = $topic ? "weir.server = 'kafka', weir.topic = '$topic'" : 'weir.stream';
		my $options = $run->{plain} ? '' : " WITH ($with, weir.event_time = 'ts', weir.keep = '$case->{keep}')";
		$run->{sql}->("CREATE $kind $stream ($columns)$options");
		$run->{sql}->("CREATE TABLE ref_$stream ($columns)");
		if (defined $case->{dropped})
		{
			$run->{sql}->("ALTER TABLE $_ DROP COLUMN gone") for $stream, "ref_$stream";
		}
	}
	$run->{sql}->('CREATE TABLE stage (LIKE ref_s); ALTER TABLE stage ADD number_ integer GENERATED ALWAYS AS IDENTITY');
	$run->{sql}->('CREATE TABLE dim (id integer, name text, factor numeric); INSERT INTO dim VALUES ' . join(', ', @{ $case->{dim} }));
	$run->{sql}->("CREATE VIEW v AS SELECT * FROM s WHERE $case->{overview}; CREATE VIEW ref_v AS SELECT * FROM ref_s s WHERE $case->{overview}");
	return;
}

# Puts a step's rows into the stream and the reference table.
sub feed
{
	my ($run, $case, $step) = @_;
	my $stream = lc $step->{into};
	my $names = join(', ', map { $_->{name} } @{ $case->{columns} });
	my $rows = @{ $step->{rows} };
	return unless $rows;
	$run->{sql}->("TRUNCATE stage RESTART IDENTITY; INSERT INTO stage ($names) VALUES\n  " . join(",\n  ", @{ $step->{rows} }));
	if ($step->{do} eq 'rollback')
	{
		$run->{sql}->("BEGIN; INSERT INTO $stream ($names) SELECT $names FROM stage WHERE number_ % 2 = 0; SAVEPOINT a; INSERT INTO $stream ($names) SELECT $names FROM stage; ROLLBACK TO a; ROLLBACK");
		$run->{sql}->("BEGIN; SAVEPOINT a; INSERT INTO $stream ($names) SELECT $names FROM stage; ROLLBACK TO a; INSERT INTO $stream ($names) SELECT $names FROM stage; COMMIT");
	}
	elsif ($step->{how} eq 'whole') { $run->{sql}->("INSERT INTO $stream ($names) SELECT $names FROM stage ORDER BY number_"); }
	elsif ($step->{how} eq 'singly')
	{
		$run->{sql}->("DO \$\$ BEGIN FOR i IN 1..$rows LOOP INSERT INTO $stream ($names) SELECT $names FROM stage WHERE number_ = i; END LOOP; END \$\$");
	}
	elsif ($step->{how} eq 'chunks')
	{
		my $at = 0;
		while ($at < $rows)
		{
			my $next = $at + 1 + int rand $rows;
			$run->{sql}->("INSERT INTO $stream ($names) SELECT $names FROM stage WHERE number_ > $at AND number_ <= $next ORDER BY number_");
			$at = $next;
		}
	}
	elsif ($step->{how} eq 'copy')
	{
		my $file = "$PostgreSQL::Test::Utils::tmp_check/copy.data";
		$run->{sql}->("COPY (SELECT $names FROM stage ORDER BY number_) TO '$file'; COPY $stream ($names) FROM '$file'");
	}
	else
	{
		my @lines = split /\n/, $run->{sql}->("SELECT number_ % $case->{kafka} || E'\\t' || row_to_json(r) FROM (SELECT $names, number_ FROM stage) r ORDER BY number_");
		s/,"number_":\d+\}$/}/ for @lines;
		$run->{note}->("-- to topic $case->{topic}{$stream}, as \"partition message\":", map { "--   $_" } @lines);
		kafka()->put($case->{topic}{$stream}, ['-P'], @lines);
	}
	$run->{sql}->("INSERT INTO ref_$stream ($names) SELECT $names FROM stage");
	return;
}

sub step
{
	my ($run, $case, $step) = @_;
	return feed($run, $case, $step) if $step->{do} ne 'view';
	my $view = $run->{view} = $case->{views}[ $step->{view} ];
	$run->{sql}->("SELECT weir.wait(NULL, '60 s')") if $case->{kafka};
	my $head = $run->{plain} ? "CREATE VIEW $view->{name} AS" : "CREATE MATERIALIZED VIEW $view->{name} WITH (weir.continuous) AS";
	$run->{sql}->("$head " . over($view->{sql}, 0));
	$run->{view} = undef;
	return;
}

sub check
{
	my ($run, $case) = @_;
	my $sql = $run->{sql};
	if ($case->{kafka})
	{
		$sql->("SELECT weir.wait('s', '60 s'), weir.wait('t', '60 s')");
		my $bad = $sql->("SELECT view, sqlstate, message, convert_from(payload, 'UTF8') FROM weir.dead_letters WHERE stream IN ('s'::regclass, 't'::regclass) LIMIT 5");
		die "dead letters: $bad\n" if $bad ne '';
	}
	if ($case->{keep} ne '0' && !$run->{plain})
	{
		$run->{compare}->("TABLE $_", "TABLE ref_$_", "stream $_") for qw(s t);
	}
	for my $step (grep { $_->{do} eq 'view' } @{ $case->{steps} })
	{
		my $view = $run->{view} = $case->{views}[ $step->{view} ];
		my $want = over($view->{sql}, 1);
		$run->{compare}->("TABLE $view->{name}", $want, "view $view->{name}") unless $run->{plain};
		$sql->($want) if $run->{plain};
		if ($case->{keep} ne '0' && !$run->{plain})
		{
			my $verify = $sql->("SELECT * FROM weir.verify('$view->{name}') LIMIT 5");
			die "verify of $view->{name}: $verify\n" if $verify ne '';
		}
		$run->{view} = undef;
	}
	return;
}

1;
