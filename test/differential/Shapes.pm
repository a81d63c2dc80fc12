# Makes random cases about time: rows in disorder over some partitions, and views with
# windows, latenesses and finals over them. Plain data, as Generator.pm's:
#   zoned, types      of the event time and of columns k, c, v
#   kafka             partitions of the topics; 0: fed by INSERT
#   lateness, keep    options of the streams
#   views             [{name, sql, with, final, lateness, late, over, keep}]
#   steps             [{do => 'rows'|'view'|'refresh'|'replace'|'pause'|'resume'|'ddl', ...}]; a row is [partition, literals]
#
# A view's SQL has marks that mean one thing in the view and another in the model's
# query (Timed.pm): @S@ @T@ streams, @W@ the window function, @WHERE@ and @AND@ the
# rule of lateness and closing, @BYN@ the order of arrival.
package Shapes;

use strict;
use warnings FATAL => 'all';

use POSIX ();

sub pick { return $_[ rand @_ ]; }
sub chance { return rand() < $_[0]; }

my %types = (
	'integer' => { kind => 'num', make => sub { int(rand 9) - 4 } },
	'bigint' => { kind => 'num', make => sub { int(rand 2000) - 700 } },
	'numeric' => { kind => 'num', make => sub { sprintf '%.*f', int(rand 4), rand(200) - 100 } },
	'double precision' => { kind => 'float', make => sub { (int(rand 2001) - 1000) / 8 } },
	'text' => { kind => 'text', make => sub { pick("''", "'a'", "'A'", "'b'", "'ä'", "'q\"'", "'日本'") } },
	'text COLLATE "C"' => { kind => 'text', make => sub { pick("'x'", "'y z'", "'X'", "'ß'") } },
	'boolean' => { kind => 'bool', make => sub { pick('true', 'false') } },
	'date' => { kind => 'date', make => sub { "'2024-02-2" . (6 + int rand 4) . "'" } },
	'uuid' => { kind => 'uuid', make => sub { sprintf "'00000000-0000-4000-8000-%012d'", rand 3 } },
	'interval' => { kind => 'interval', make => sub { pick("'1 day'", "'24 hours'", "'-1.5 s'") } },);

# ---------------------------------------------------------------- windows

# ms, or days, or months, as an interval
sub span { my ($case, $n) = @_; return $case->{unit} eq 'ms' ? ($n * $case->{ms}) . ' ms' : "$n $case->{unit}"; }

# A window function as the view calls it and as the model does.
sub window
{
	my ($case) = @_;
	my $fine = $case->{unit} eq 'ms';
	my $kind = pick(qw(tumble tumble hop hop cumulate));
	my ($size, $advance);
	if ($kind eq 'tumble') { $size = $advance = pick(1, 1, 2, 3, 7); }
	elsif ($kind eq 'hop') { ($size, $advance) = @{ pick([ 5, 1 ], [ 3, 2 ], [ 2, 5 ], [ 10, 3 ], [ 4, 4 ], [ 2, 1 ], [ 1, 3 ]) }; }
	else { ($size, $advance) = @{ pick([ 4, 1 ], [ 6, 2 ], [ 3, 3 ]) }; }
	my ($more, $origin, $zone) = ('', 'NULL', 'NULL');
	if (!$fine && $case->{zone} && chance(0.6))
	{
		$zone = "'$case->{zone}'";
		$more = pick(", $zone", ", time_zone => $zone");
	}
	elsif ($case->{unit} ne 'months' && chance(0.2))
	{
		$origin = pick("timestamptz '2024-01-01 00:00:03.007+00'", "timestamptz '1965-05-05 05:05:05+00'");
		$more = ", origin => $origin";
	}
	my ($s, $a) = (span($case, $size), span($case, $advance));
	my $view = $kind eq 'tumble' ? "tumble(s.ts, '$s'$more)" : "$kind(s.ts, '$s', '$a'$more)";
	return { kind => $kind, view => $view, model => "model.windows(s.ts, '$kind', '$s', '$a', $origin, $zone)" };
}

# ---------------------------------------------------------------- shapes

my @conditions = ('s.n % 3 <> 1', 's.c IS NOT NULL', 's.k IS NOT NULL OR s.n % 2 = 0', "s.c < 'b'", 's.v IS NOT NULL');

# FROM and WHERE of the level that has the window.
sub from
{
	my ($case, $v) = @_;
	my @where = chance(0.3) ? (pick(@conditions)) : ();
	my $source = '@S@ s';
	my $how = rand;
	my ($with, $join) = ('', '');
	if ($v->{over} eq 'union')
	{
		my $inner = chance(0.5) ? '' : ' WHERE n % 4 <> 0';
		$source = "(SELECT * FROM \@S\@ UNION ALL SELECT * FROM \@T\@$inner) s";
	}
	elsif ($how < 0.15) { my $c = pick(@conditions) =~ s/s\.//gr; $source = "(SELECT * FROM \@S\@ WHERE $c) s"; }
	elsif ($how < 0.25) { my $c = pick(@conditions) =~ s/s\.//gr; $with = "WITH s AS (SELECT * FROM \@S\@ WHERE $c) "; $source = 's'; }
	if (chance(0.15)) { $join = pick(' JOIN dim d ON d.id = s.n % 7', ' LEFT JOIN dim d ON d.id = s.n % 7'); $v->{dim} = 1; }
	$v->{rows} = "FROM $source$join";
	$v->{where} = @where ? "($where[0])" : 'true';
	$v->{with_clause} = $with;
	my $w = $v->{window} ? pick(', @W@ w', ' CROSS JOIN @W@ w', ' JOIN LATERAL @W@ w ON true') : '';
	return "$source$join$w" . (@where ? " WHERE ($where[0])\@AND\@" : '@WHERE@');
}

# Columns of the window in the select list, and its keys.
sub window_keys
{
	my ($v) = @_;
	return () unless $v->{window};
	return pick([ 'w.window_end' ], [ 'w.window_start', 'w.window_end' ]) if $v->{window}{kind} eq 'cumulate';
	return pick([ 'w.window_start' ], [ 'w.window_start' ], [ 'w.window_end' ], [ 'w.window_end', 'w.window_start' ]);
}

sub keys_of
{
	my ($v) = @_;
	my @keys = map { @$_ } window_keys($v);
	push @keys, pick('s.k', 's.k', 's.c', "coalesce(s.c, 'none')", '(s.n % 3)', '(s.k IS NULL)') if chance(0.75) || !@keys;
	push @keys, 'd.name' if $v->{dim} && chance(0.5);
	my %seen;
	return grep { !$seen{$_}++ } @keys;
}

sub listed { my $i = 0; return join(', ', map { $i++; "$_ AS g$i" } @_); }

# An aggregate that merges and is exact.
sub combinable
{
	my ($case, $v) = @_;
	my $kind = $types{ $case->{types}{v} }{kind};
	my @calls = ('count(*)', 'count(s.v)', 'min(s.c)', 'max(s.c)', 'sum(s.n)', 'bool_and(s.n % 5 <> 0)', 'count(*) * 2 + 1', 'max(s.ts)');
	push @calls, 'sum(s.v)', 'avg(s.v)', 'min(s.v)', 'max(s.v)', 'max(s.v) - min(s.v)' if $kind =~ /num|float/;
	push @calls, 'stddev(s.v)', 'sum(s.v) / nullif(count(*), 0)' if $kind eq 'num';
	push @calls, 'sum(d.factor)', 'max(d.name)' if $v->{dim};
	push @calls, 'weir.top(s.v, 2)', 'weir.bottom(s.v, 3, true)' if $kind =~ /num|float|text|date/;
	push @calls, 'weir.first(s.v@BYN@)', 'weir.last(s.c@BYN@)', 'weir.list(s.n, 4@BYN@)', 'weir.last(s.v, 2@BYN@)' if $case->{ordered} && $v->{over} ne 'union' && !$v->{dim};
	my $call = pick(@calls);
	$call .= ' FILTER (WHERE ' . pick(@conditions) . ')' if $call =~ /^\w+(\.\w+)?\([^()]*\)$/ && chance(0.15);
	return $call;
}

# One that goes by the set of values seen.
sub distinct
{
	my ($case) = @_;
	my @calls = ('count(DISTINCT s.c)', 'count(DISTINCT s.v)', 'count(DISTINCT s.v)', 'count(DISTINCT (s.n % 3, s.c))', 'sum(DISTINCT s.n % 5)', 'avg(DISTINCT s.n % 4)',
		'count(DISTINCT s.c) * 10 + count(DISTINCT s.n % 3)', 'max(DISTINCT s.n)', 'count(DISTINCT s.ts)');
	push @calls, 'sum(DISTINCT s.v)' if $types{ $case->{types}{v} }{kind} eq 'num';
	my $call = pick(@calls);
	$call .= ' FILTER (WHERE ' . pick(@conditions) . ')' if $call !~ / \+ / && chance(0.3);
	return $call;
}

# One that has to see all rows.
sub recomputed
{
	my ($case) = @_;
	my $kind = $types{ $case->{types}{v} }{kind};
	my @calls = ('count(DISTINCT s.c)', 'count(DISTINCT s.v)', 'array_agg(s.c ORDER BY s.n)', "string_agg(s.c, ',' ORDER BY s.n DESC)", 'jsonb_agg(s.v ORDER BY s.n)',
		'mode() WITHIN GROUP (ORDER BY s.n % 4)', 'count(DISTINCT s.n % 3) FILTER (WHERE s.c IS NOT NULL)');
	push @calls, 'array_agg(DISTINCT s.c ORDER BY s.c)', "string_agg(DISTINCT s.c, '-' ORDER BY s.c)", 'count(DISTINCT (s.c, s.n % 2))';
	push @calls, 'sum(DISTINCT s.v)', 'avg(DISTINCT s.v)', 'max(s.v) - count(DISTINCT s.v)', 'percentile_disc(0.5) WITHIN GROUP (ORDER BY s.v)', 'rank(1) WITHIN GROUP (ORDER BY s.v)' if $kind eq 'num';
	push @calls, 'percentile_disc(0.3) WITHIN GROUP (ORDER BY s.v)' if $kind =~ /float|text|date|interval/;
	return pick(@calls);
}

sub measures
{
	my ($make, @with) = @_;
	my $i = 0;
	return join(', ', map { $i++; $make->(@with) . " AS m$i" } 1 .. 1 + int rand 4);
}

sub grouped
{
	my ($case, $v, $make) = @_;
	my $from = from($case, $v);
	my @keys = keys_of($v);
	my $sql = 'SELECT ' . listed(@keys) . ', ' . measures($make, $case, $v) . " FROM $from GROUP BY " . join(', ', @keys);
	$sql .= ' HAVING ' . pick('count(*) > 1', 'sum(s.n) % 2 = 0', 'max(s.n) > 20 AND count(*) < 9', 'count(s.c) BETWEEN 1 AND 3') if chance(0.25);
	return $sql;
}

my %shapes = (
	combine => sub { my ($case, $v) = @_; return grouped($case, $v, sub { chance(0.25) ? distinct(@_) : combinable(@_) }); },
	recompute => sub { my ($case, $v) = @_; return grouped($case, $v, sub { chance(0.7) ? recomputed(@_) : combinable(@_) }); },
	distinct => sub {
		my ($case, $v) = @_;
		my $from = from($case, $v);
		return 'SELECT DISTINCT ' . listed(keys_of($v)) . " FROM $from";
	},
	append => sub {
		my ($case, $v) = @_;
		my $from = from($case, $v);
		my @targets = ((map { @$_ } window_keys($v)), 's.n', 's.k', 's.v', $v->{dim} ? 'd.name' : (), chance(0.3) ? 's.ts' : ());
		return 'SELECT ' . listed(@targets) . " FROM $from";
	},
	sets => sub {
		my ($case, $v) = @_;
		my $from = from($case, $v);
		my ($w) = map { @$_ } window_keys($v);
		my $sets = pick('ROLLUP (s.k, s.c)', 'CUBE (s.k, s.c)', 'GROUPING SETS ((s.k), (s.c), ())', 'ROLLUP (s.k, (s.n % 2))');
		my $second = $sets =~ /%/ ? '(s.n % 2)' : 's.c';
		return 'SELECT ' . ($w ? "$w AS w1, " : '') . "s.k, $second AS k2, " . measures(\&combinable, $case, $v) . " FROM $from GROUP BY " . ($w ? "$w, " : '') . $sets;
	},
	distinct_on => sub {
		my ($case, $v) = @_;
		my $from = from($case, $v);
		my @by = ((map { @$_ } window_keys($v)), 's.k');
		my $order = pick('s.n', 's.n DESC', 's.ts, s.n', 's.v DESC NULLS LAST, s.n');
		return 'SELECT DISTINCT ON (' . join(', ', @by) . ') ' . listed(@by) . ', s.n, s.v, s.ts' . " FROM $from ORDER BY " . join(', ', @by) . ", $order";
	},
	top => sub {
		my ($case, $v) = @_;
		my $from = from($case, $v);
		my @by = ((map { @$_ } window_keys($v)), chance(0.7) || !$v->{window} ? 's.k' : ());
		my $rank = pick('row_number()', 'row_number()', 'rank()', 'dense_rank()');
		my $order = $rank eq 'row_number()' ? pick('s.v DESC NULLS LAST, s.n', 's.n DESC', 's.ts, s.n') : pick('s.v', 's.v DESC', 's.c NULLS FIRST');
		my $shown = chance(0.5) ? ', place' : '';
		my $i = 0;
		my $columns = join(', ', map { 'g' . ++$i } @by) . ', n, v, ts, c' . $shown;
		return "SELECT $columns FROM (SELECT " . listed(@by) . ", s.n, s.v, s.ts, s.c, $rank OVER (PARTITION BY " . join(', ', @by) . " ORDER BY $order) AS place FROM $from) q WHERE place "
		  . pick('= 1', '<= 2', '<= 3', '< 2');
	},
	over => sub {
		my ($case, $v) = @_;
		my $from = from($case, $v);
		my @by = ((map { @$_ } window_keys($v)), 's.k');
		my $call = pick('sum(s.n) OVER w0', 'lag(s.v) OVER w0', 'lead(s.c, 2) OVER w0', 'count(*) OVER w0', 'row_number() OVER w0', 'max(s.v::text) OVER (w0 ROWS BETWEEN 2 PRECEDING AND CURRENT ROW)');
		return 'SELECT ' . listed(@by) . ", s.n, $call AS o FROM $from WINDOW w0 AS (PARTITION BY " . join(', ', @by) . ' ORDER BY s.n)';
	},
	nested => sub {
		my ($case, $v) = @_;
		my $from = from($case, $v);
		my ($w) = map { @$_ } window_keys($v);
		my $inner = ($w ? "$w AS w1, " : '') . "s.k, s.c, count(*) AS n, max(s.n) AS m";
		my $g = ($w ? "$w, " : '') . 's.k, s.c';
		my $outer = $w && chance(0.6) ? 'w1' : $w ? 'w1, k' : 'k';
		return "SELECT $outer, max(n) AS m1, sum(m) AS m2, count(DISTINCT c) AS m3 FROM (SELECT $inner FROM $from GROUP BY $g) q GROUP BY $outer" if chance(0.6);
		return "SELECT * FROM (SELECT q.*, rank() OVER (PARTITION BY $outer ORDER BY n DESC, m) AS place FROM (SELECT $inner FROM $from GROUP BY $g) q) r WHERE place <= 2";
	},);
my @names = ((map { ($_) x 4 } 'combine'), (map { ($_) x 3 } 'recompute'), sort keys %shapes);

sub view
{
	my ($case, $n) = @_;
	my $shape = pick(@names);
	my %v = (name => "v$n", shape => $shape, over => chance(0.12) ? 'union' : 'stream', lateness => $case->{lateness}, with => []);
	$v{window} = window($case) if chance(0.85);
	$v{final} = $v{window} && chance(0.5);
	push @{ $v{with} }, "weir.emit = 'final'" if $v{final};
	if ($v{window} && chance(0.3))
	{
		$v{lateness} = $v{own_lateness} = span($case, pick(0, 1, 4));
		push @{ $v{with} }, "weir.lateness = '$v{lateness}'";
	}
	$v{lateness} //= '0' if $v{final};
	$v{lateness} = undef unless $v{window};
	if ($v{window} && !$v{final} && chance(0.12))
	{
		$v{keep} = span($case, pick(1, 3, 10));
		push @{ $v{with} }, "weir.keep = '$v{keep}'", chance(0.3) ? 'weir.segmented' : ();
	}
	$v{sql} = $shapes{$shape}->($case, \%v);
	$v{sql} = $v{with_clause} . $v{sql};
	# the late rows of a query of one level are known
	$v{late} = defined $v{lateness} && !defined $v{keep} && $shape =~ /^(combine|recompute|append|distinct|over|sets)$/;
	return \%v;
}

# ---------------------------------------------------------------- rows

sub moment
{
	my ($at) = @_;
	my $second = POSIX::floor($at);
	my @t = gmtime($second);
	return sprintf "'%04d-%02d-%02d %02d:%02d:%02d.%03d+00'", $t[5] + 1900, $t[4] + 1, @t[ 3, 2, 1, 0 ], 1000 * ($at - $second);
}

# A row of a partition that is picked at random, or by its k: then all rows of a key come in order.
sub row
{
	my ($case, $stream, $kafka) = @_;
	my %value = map { $_ => chance(0.12) ? 'NULL' : $types{ $case->{types}{$_} }{make}->() } qw(k c v);
	my $partition = !$kafka ? -1 : $case->{by_key} ? unpack('%32C*', $value{k}) % $case->{kafka} : int rand $case->{kafka};
	my $clock = \($case->{clock}{$stream}{$partition} //= $case->{base} + rand(5) * $case->{seconds});
	$$clock += rand() * $case->{speed} * $case->{seconds};
	my $at = $$clock - (chance(0.4) ? rand() * rand() * $case->{jitter} * $case->{seconds} : 0);
	my @values = (++$case->{n}, @value{qw(k c v)});
	return [ $partition, join(', ', @values, moment($at) =~ ($case->{zoned} ? qr/^(.*)$/ : qr/^(.*)\+00'$/) ? $1 . ($case->{zoned} ? '' : "'") : die) ];
}

sub rows_step
{
	my ($case) = @_;
	my $count = chance(0.1) ? 100 + int rand($case->{related} ? 30 : 200) : 1 + int rand 40;
	my $into = $case->{two} && chance(0.45) ? 'T' : 'S';
	my $how = $case->{kafka} && ($case->{related} || !chance(0.12)) ? 'kafka' : pick(qw(whole whole singly chunks chunks rollback several));
	my @rows = map { row($case, $into, $how eq 'kafka') } 1 .. $count;
	return { do => 'rows', how => $how, into => $into, rows => \@rows };
}

# ---------------------------------------------------------------- a case

# A case without views.
sub frame
{
	my ($seed, $with_kafka, %fixed) = @_;
	srand($seed);
	my %case = (kind => 'timed', seed => $seed, n => 0, zoned => chance(0.85), %fixed);
	$case{kafka} = chance($with_kafka) ? 1 + int rand 4 : 0;
	$case{workers} = pick(1, 4);
	$case{batch_rows} = pick(1, 3, 10, 100, 100000);
	my @units = ([ 'ms', 1, 0.001 ], [ 'ms', 1000, 1 ], [ 'ms', 1000, 1 ], [ 'ms', 7000, 7 ], [ 'ms', 60000, 60 ]);
	push @units, $case{related} ? [ 'ms', 36000000, 36000 ] : ([ 'days', 0, 86400 ], [ 'months', 0, 86400 * 30 ]);
	my ($unit, $ms, $seconds) = @{ pick(@units) };
	@case{qw(unit ms seconds)} = ($unit, $ms, $seconds);
	# DST changes in Berlin, Istanbul and New York; a leap day; before 1970
	my $place = pick([ 1711846800, 'Europe/Berlin' ], [ 1427590800, 'Europe/Istanbul' ], [ 1730613600, 'America/New_York' ], [ 1709164800, undef ], [ -86400 * 40, undef ]);
	$case{base} = $place->[0] - rand() * 8 * $seconds;
	$case{zone} = $place->[1];
	$case{speed} = pick(0.05, 0.3, 0.3, 1);
	$case{jitter} = pick(0, 1, 3, 10);
	$case{types} = { k => pick('text', 'integer', 'boolean', 'date', 'uuid', 'text COLLATE "C"', $case{related} ? () : 'numeric'), c => pick('text', 'text COLLATE "C"'),
		v => pick('integer', 'bigint', 'numeric', 'numeric', 'double precision', 'text', 'interval') };
	$case{lateness} = chance(0.5) ? span(\%case, pick(0, 1, 3, 10)) : undef;
	$case{ordered} = !$case{kafka};
	return \%case;
}

# Rows, and between them all that happens to the views.
sub steps
{
	my ($case) = @_;
	my @views = @{ $case->{views} };
	my @steps = map { rows_step($case) } 1 .. 1 + int rand 5;
	my $made = sub { my ($view) = @_; return grep { $steps[$_]{do} eq 'view' && $steps[$_]{view} == $view } 0 .. $#steps };
	# views at the start, or later: then they are filled from the rows kept; those that they read stand before them
	for my $i (0 .. $#views)
	{
		my ($after) = sort { $b <=> $a } map { $made->($_) } @{ $views[$i]{sources} // [] };
		my $from = defined $after ? $after + 1 : 0;
		my $at = chance(0.65) ? $from : $from + int rand(@steps + 1 - $from);
		splice(@steps, $at, 0, { do => 'view', view => $i });
	}
	# what rows INSERTed beside a topic find closed is known only of views that go on undisturbed
	my $mixed = $case->{kafka} && grep { $_->{do} eq 'rows' && $_->{how} ne 'kafka' } @steps;
	for my $i ($mixed ? () : 0 .. $#views)
	{
		my $later = sub { my ($after) = @_; return $after + 1 + int rand(@steps - $after) };
		if (chance(0.08)) { splice(@steps, $later->($made->($i)), 0, { do => 'refresh', view => $i }); }
		if (chance(0.06)) { splice(@steps, $later->($made->($i)), 0, { do => 'replace', view => $i }); }
		if (chance(0.08))
		{
			my $from = $later->($made->($i));
			splice(@steps, $from, 0, { do => 'pause', view => $i });
			splice(@steps, $later->($from), 0, { do => 'resume', view => $i });
		}
	}
	splice(@steps, int rand(@steps + 1), 0, { do => 'ddl', sql => pick('CREATE INDEX ON s (ts)', 'ALTER TABLE s ADD COLUMN added integer DEFAULT 7; ALTER TABLE ref_s ADD COLUMN added integer DEFAULT 7; ALTER TABLE t ADD COLUMN added integer; ALTER TABLE ref_t ADD COLUMN added integer', 'ANALYZE', 'ALTER TABLE s ALTER COLUMN k SET DEFAULT NULL') })
	  if chance(0.1);
	return \@steps;
}

sub generate
{
	my $case = frame(@_);
	$case->{views} = [ map { view($case, $_) } 1 .. 1 + int rand 3 ];
	$case->{two} = grep { $_->{over} eq 'union' } @{ $case->{views} };
	$case->{steps} = steps($case);
	return $case;
}

1;
