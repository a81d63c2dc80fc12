# Makes random cases for the differential test: a stream's columns, a table to
# join with, continuous views from the grammar that weir supports, and rows.
#
# A case is plain data, so that it can be run again in part when it fails:
#   columns    [{name, type, kind}]     of the stream; the last one is its event time
#   types      SQL that makes the types the columns need
#   dim        SQL literals of the joined table's rows
#   views      [{name, sql, over}]      sql has @S@ for the stream, @D@ for the table
#   steps      [{do => 'rows'|'view'|'rollback', how, rows, view}]
package Generator;

use strict;
use warnings FATAL => 'all';

use POSIX ();

# kind: what may be done with a type; make: a random literal of it
my @texts = ("''", "'a'", "'A'", "'b'", "'ä'", "'Z''q\"'", "'  '", "'back\\slash'", "E'two\\nlines'",
	"'日本語'", "'null'", "'-1'", "'a,b'", "'{}'", "'😀'");
my %types = (
	'smallint' => { kind => 'int', make => sub { int(rand 11) - 5 } },
	'integer' => { kind => 'int', make => sub { rare() ? pick(2147483647, -2147483648) : int(rand 9) - 4 } },
	'bigint' => { kind => 'int', make => sub { rare() ? pick('9223372036854775807', '-9223372036854775808', '9007199254740993') : int(rand 2000) } },
	'numeric' => { kind => 'num', make => sub { rare() ? pick("'NaN'", '123456789012345678901234567890.123456789', '1e-20', '0.1') : sprintf('%.*f', int(rand 5), rand(200) - 100) } },
	'numeric(10,2)' => { kind => 'num', make => sub { sprintf '%.2f', rand(1000) - 500 } },
	# sums of these are exact, so the order of addition does not show
	'double precision' => { kind => 'float', make => sub { (int(rand 2001) - 1000) / 8 } },
	'real' => { kind => 'float', make => sub { (int(rand 201) - 100) / 4 } },
	'text' => { kind => 'text', make => sub { pick(@texts) } },
	'varchar(20)' => { kind => 'text', make => sub { pick(@texts) } },
	'char(4)' => { kind => 'text', make => sub { pick("'a'", "'ab'", "'abcd'", "''") } },
	'text COLLATE "C"' => { kind => 'text', make => sub { pick(@texts) } },
	'name' => { kind => 'name', make => sub { pick("'n1'", "'n2'", "'N1'") } },
	'boolean' => { kind => 'bool', make => sub { pick('true', 'false') } },
	'date' => { kind => 'date', make => sub { "'2024-02-" . sprintf('%02d', 25 + int rand 5) . "'" } },
	'timestamptz' => { kind => 'ts', make => \&moment },
	'timestamp' => { kind => 'ts', make => sub { moment() =~ s/\+00//r } },
	'time' => { kind => 'other', make => sub { sprintf "'%02d:%02d:%02d.%03d'", rand 24, rand 60, rand 60, rand 1000 } },
	'interval' => { kind => 'interval', make => sub { pick("'1 day'", "'24 hours'", "'1 mon -3 days'", "'-00:00:01.5'", "'0'") } },
	'uuid' => { kind => 'noorder', make => sub { sprintf "'00000000-0000-4000-8000-%012d'", rand 4 } },
	'bytea' => { kind => 'noorder', make => sub { pick("''", "'\\x00ff'", "'\\x6100'") } },
	# no null: in a message that is SQL's NULL
	'jsonb' => { kind => 'noorder', make => sub { pick("'1'", "'true'", "'{\"a\": 1.50}'", "'[1, \"x\", null]'", "'\"s\"'") } },
	'integer[]' => { kind => 'other', make => sub { pick("'{}'", "'{1,2}'", "'{2,NULL}'", "'{1}'") } },
	'text[]' => { kind => 'other', make => sub { pick("'{}'", "'{a,\"b c\"}'", "'{NULL,\"NULL\"}'") } },
	'mood' => { kind => 'other', make => sub { pick("'sad'", "'ok'", "'happy'") } },
	'posint' => { kind => 'int', make => sub { 1 + int rand 5 } },
	'inet' => { kind => 'inet', make => sub { "'10.0.0." . int(rand 3) . "'" } },
	'pair' => { kind => 'pair', make => sub { pick("'(1,x)'", "'(2,\"y z\")'", "'(,)'") } },);
my @type_names = sort keys %types;
my @nasty_names = ('"Group"', '"two words"', '"qu""ote"', '"select"', 'ünï', '"_x"', '"window"');

sub pick { return $_[ rand @_ ]; }
sub chance { return rand() < $_[0]; }
sub rare { return rand() < 0.05; }

my ($base, $spread);    # of a case's event times, seconds

sub moment
{
	my $at = $base + rand($spread);
	$at = $base - rand(86400 * 400) if rand() < 0.02;
	my $second = POSIX::floor($at);
	my @t = gmtime($second);
	return sprintf "'%04d-%02d-%02d %02d:%02d:%02d.%03d+00'", $t[5] + 1900, $t[4] + 1, @t[ 3, 2, 1, 0 ], 1000 * ($at - $second);
}

sub literal
{
	my ($column) = @_;
	return 'NULL' if !$column->{event} && rand() < 0.12;
	return $types{ $column->{type} }{make}->();
}

sub of_kind { my ($columns, @kinds) = @_; my %k = map { $_ => 1 } @kinds; return grep { $k{ $_->{kind} } } @$columns; }

# A column as views write it.
sub ref_to { my ($column) = @_; return "s.$column->{name}"; }

sub typed { my ($column, $value) = @_; my $type = $column->{type} =~ s/ COLLATE.*//r; $value = "'$value'" unless $value =~ /'/; return "$value\::$type"; }

# A condition on a row.
sub condition
{
	my ($columns, $depth) = @_;
	$depth //= 0;
	if ($depth < 2 && chance(0.25))
	{
		return '(' . condition($columns, $depth + 1) . pick(' AND ', ' OR ') . condition($columns, $depth + 1) . ')';
	}
	return 'NOT (' . condition($columns, $depth + 1) . ')' if $depth < 2 && chance(0.1);
	my $column = pick(@$columns);
	my $c = ref_to($column);
	return "$c IS " . pick('', 'NOT ') . 'NULL' if chance(0.2);
	return $c if $column->{kind} eq 'bool';
	my $value = typed($column, $types{ $column->{type} }{make}->());
	return "$c " . pick('=', '<>', 'IS DISTINCT FROM') . " $value" if $column->{kind} eq 'noorder';
	return "$c " . pick('=', '<>', '<', '>=', 'IS DISTINCT FROM') . " $value";
}

# A group key: a column or an expression of one.
sub key
{
	my ($columns, $dim) = @_;
	my $column = pick(grep { $_->{kind} ne 'pair' } @$columns);
	my $c = ref_to($column);
	my @choices = ($c, $c, "($c IS NULL)");
	push @choices, "lower($c)", "coalesce($c, 'none')", "left($c, 1)", "($c || 'x')" if $column->{kind} eq 'text';
	push @choices, "($c % 3)", "(CASE WHEN $c > 0 THEN 'plus' WHEN $c < 0 THEN 'minus' END)" if $column->{kind} eq 'int' && $column->{type} ne 'posint';
	push @choices, "round($c)" if $column->{kind} eq 'num';
	push @choices, "date_trunc('minute', $c)", "extract(minute FROM $c)" if $column->{kind} eq 'ts';
	push @choices, "($c > s.ts)", "($c - interval '1 hour')" if $column->{type} eq 'timestamptz';
	push @choices, "array_length($c, 1)" if $column->{type} =~ /\[\]/;
	push @choices, "($c)::text" if $column->{kind} =~ /^(int|bool|date)$/;
	push @choices, 'd.name', 'd.id' if $dim;
	return pick(@choices);
}

# An aggregate call that can be combined and is exact.
sub aggregate
{
	my ($columns, $dim) = @_;
	my @calls = ('count(*)');
	my $any = pick(@$columns);
	push @calls, 'count(' . ref_to($any) . ')';
	my ($n, $f, $b, $o) = map { my @c = @$_; @c ? ref_to(pick(@c)) : undef }
	  ([ of_kind($columns, 'int', 'num') ], [ of_kind($columns, 'float') ], [ of_kind($columns, 'bool') ],
		[ of_kind($columns, 'int', 'num', 'float', 'text', 'date', 'ts', 'interval', 'inet') ]);
	my @i = of_kind($columns, 'int');
	if (defined $n)
	{
		push @calls, "sum($n)", "avg($n)", "sum($n)", "avg($n)";
		push @calls, pick(qw(stddev stddev_samp stddev_pop variance var_samp var_pop)) . "($n)";
		push @calls, "sum($n\::numeric * 2)", "sum(abs($n\::numeric) + 1)", "avg(coalesce($n, 0))" ;
		push @calls, "sum($n\::numeric * d.factor)" if $dim;
	}
	push @calls, "sum($f)", "avg($f)" if defined $f;
	push @calls, map { "$_($b)" } qw(bool_and bool_or every) if defined $b;
	push @calls, "min($o)", "max($o)", "max($o)" if defined $o;
	push @calls, pick('bit_and', 'bit_or') . '(' . ref_to(pick(@i)) . ')' if @i;
	my @iv = of_kind($columns, 'interval');
	push @calls, 'sum(' . ref_to($iv[0]) . ')', 'avg(' . ref_to($iv[0]) . ')' if @iv;
	my $call = pick(@calls);
	$call .= ' FILTER (WHERE ' . condition($columns) . ')' if chance(0.2);
	return $call;
}

# A target of an aggregating query.
sub measure
{
	my ($columns, $dim) = @_;
	my $a = aggregate($columns, $dim);
	return $a if chance(0.75);
	my @n = of_kind($columns, 'int', 'num');
	my $n = @n ? ref_to(pick(@n)) : undef;
	return pick(
		'count(*) + 1',
		"CASE WHEN count(*) > 3 THEN 'many' ELSE 'few' END",
		defined $n
		? ("sum($n) / nullif(count(*), 0)", "coalesce(sum($n), 0)", "round(avg($n)::numeric, 2)", "max($n)::numeric - min($n)",
			"count($n)::numeric / nullif(count(*), 0)", "coalesce(max($n)::text, 'none') || '!'")
		: ('count(*) * 2'));
}

sub window
{
	my ($event) = @_;
	my $ts = chance(0.5) ? 's.ts' : 'ts';
	my $size = pick("'1 second'", "'10 seconds'", "interval '1 minute'", "'15 minutes'", "'1 hour'", "'1 day'", "'7 days'", "'1 month'");
	my $more = '';
	if ($event->{type} eq 'timestamptz' && chance(0.25))
	{
		$more = pick(", time_zone => 'Europe/Istanbul'", ", 'America/New_York'", ", origin => '2024-01-01 00:00:03+00'");
		$size = pick("'10 seconds'", "'1 hour'", "'1 day'") if $more =~ /origin/;
	}
	return "tumble($ts, $size$more)";
}

# FROM and what stands before it: (with, from, has a table joined, has a window)
sub from_clause
{
	my ($case, $over) = @_;
	my ($event) = grep { $_->{event} } @{ $case->{columns} };
	my ($with, $from, $dim) = ('', "\@S\@ s", 0);
	my $window = chance(0.55);
	my $int = (of_kind($case->{columns}, 'int'))[0];

	$from = '(SELECT * FROM @S@ UNION ALL SELECT * FROM @T@) s' if $over eq 'union';
	$from = '@V@ s' if $over eq 'view';
	my $w = $window ? window($event) : undef;
	my $comma = $window && chance(0.6) ? pick(", $w", ", $w w", ", LATERAL $w w") : '';
	$from .= pick(" CROSS JOIN $w AS w", " JOIN LATERAL $w ON true") if $window && !$comma;
	if ($int && chance(0.35))
	{
		my $k = ref_to($int);
		my $how = int rand 6;
		$dim = 1;
		if ($how == 0) { $from .= " JOIN \@D\@ d ON d.id = $k"; }
		elsif ($how == 1) { $from .= " LEFT JOIN \@D\@ d ON d.id = $k AND d.factor > 0"; }
		elsif ($how == 2) { $from .= " LEFT JOIN \@D\@ d ON d.id = $k"; }
		elsif ($how == 3) { $from .= " LEFT JOIN LATERAL (SELECT x.id, x.name, x.factor FROM \@D\@ x WHERE x.id <= $k ORDER BY 1 DESC, 2, 3 LIMIT 1) d ON true"; }
		elsif ($how == 4) { $with = 'WITH good AS (SELECT * FROM @D@ WHERE factor > 1) '; $from .= " JOIN good d ON d.id = $k"; }
		else { $from .= " JOIN (SELECT id, min(name) AS name, sum(factor) AS factor FROM \@D\@ GROUP BY id) d ON d.id = $k"; }
	}
	return ($with, $from . $comma, $dim, $window);
}

sub where_clause
{
	my ($case) = @_;
	my $int = (of_kind($case->{columns}, 'int'))[0];
	my @w;
	push @w, condition($case->{columns}) if chance(0.4);
	if ($int && chance(0.12))
	{
		my $k = ref_to($int);
		push @w, pick("$k IN (SELECT id FROM \@D\@)", "EXISTS (SELECT 1 FROM \@D\@ e WHERE e.id = $k)",
			"NOT EXISTS (SELECT FROM \@D\@ e WHERE e.id = $k AND e.factor > 1)", "$k > (SELECT min(id) FROM \@D\@)");
	}
	return @w ? ' WHERE ' . join(' AND ', @w) : '';
}

sub view
{
	my ($case, $n) = @_;
	my $over = chance(0.1) ? 'union' : chance(0.12) ? 'view' : 'stream';
	my ($with, $from, $dim, $window) = from_clause($case, $over);
	my $where = where_clause($case);
	my $sql;
	my @columns = @{ $case->{columns} };

	if (chance(0.2))
	{
		# no aggregates: filter, projection, enrichment
		my @targets = map { ref_to($_) } grep { chance(0.6) } @columns;
		push @targets, 's.ts' unless grep { $_ eq 's.ts' } @targets;
		push @targets, 'window_start AS "from"' if $window;
		push @targets, 'd.name AS dname', 'd.factor + 1 AS f1' if $dim;
		push @targets, key(\@columns, $dim) . ' AS e1' if chance(0.5);
		$sql = 'SELECT ' . join(', ', @targets) . " FROM $from$where";
	}
	else
	{
		my @keys = map { key(\@columns, $dim) } 1 .. int(rand 3);
		push @keys, pick('window_start', 'window_end') if $window && (chance(0.9) || !@keys);
		push @keys, 'window_end' if $window && chance(0.2) && !grep { $_ eq 'window_end' } @keys;
		my %seen;
		@keys = grep { !$seen{$_}++ } @keys;
		my $i = 0;
		my @targets = map { { sql => $_, alias => 'k' . ++$i, key => 1 } } @keys;
		push @targets, map { { sql => measure(\@columns, $dim), alias => "m$_" } } 1 .. 1 + int(rand 5);
		@targets = sort { $a->{order} <=> $b->{order} } map { $_->{order} = rand; $_ } @targets;
		my $by_number = chance(0.2);
		my @by = map { my $t = $targets[$_]; $t->{key} ? ($by_number ? $_ + 1 : $t->{sql}) : () } 0 .. $#targets;
		$sql = 'SELECT ' . join(', ', map { "$_->{sql} AS $_->{alias}" } @targets) . " FROM $from$where";
		$sql .= ' GROUP BY ' . join(', ', @by) if @by;
	}
	return { name => "v$n", sql => $with . $sql, over => $over };
}

sub rows
{
	my ($case, $count) = @_;
	return [ map { '(' . join(', ', map { literal($_) } @{ $case->{columns} }) . ')' } 1 .. $count ];
}

# A case from a seed.
sub generate
{
	my ($seed, $with_kafka) = @_;
	srand($seed);
	$base = pick(1711848600, 1709164800, 1718000000, -86400);    # a DST change, a leap day, a plain day, before 1970
	$spread = pick(20, 600, 7200, 86400 * 3);
	my %case = (kind => 'plain', seed => $seed, kafka => chance($with_kafka) ? 1 + int rand 3 : 0);
	my $n = 2 + int rand 7;
	my @nasty = @nasty_names;
	for my $i (1 .. $n)
	{
		my $type = pick(@type_names);
		my $name = chance(0.15) && @nasty ? splice(@nasty, rand @nasty, 1) : "c$i";
		push @{ $case{columns} }, { name => $name, type => $type, kind => $types{$type}{kind} };
	}
	my $ts = chance(0.85) ? 'timestamptz' : 'timestamp';
	push @{ $case{columns} }, { name => 'ts', type => $ts, kind => 'ts', event => 1 };
	$case{dropped} = chance(0.2) ? int rand $n : undef;    # a column that was there before this one
	$case{keep} = chance(0.6) ? '1000 years' : '0';
	$case{logged} = chance(0.2);
	$case{dim} = [ map { sprintf '(%d, %s, %s)', int(rand 9) - 4, pick("'x'", "'y'", "'z'", 'NULL'), pick('0.5', '2', '3.25', 'NULL') } 1 .. 12 ];
	$case{overview} = condition($case{columns});
	$case{views} = [ map { view(\%case, $_) } 1 .. 1 + int rand 3 ];
	my @steps = map { { do => 'view', view => $_ } } 0 .. $#{ $case{views} };
	my @data = map { step(\%case) } 1 .. 1 + int rand 5;
	# with kept rows, views may come later and are filled from these
	if ($case{keep} ne '0')
	{
		@steps = map { $_->[1] } sort { $a->[0] <=> $b->[0] } map { [ rand, $_ ] } @steps, @data;
	}
	else
	{
		push @steps, @data;
	}
	$case{steps} = \@steps;
	return \%case;
}

sub step
{
	my ($case) = @_;
	my $count = chance(0.1) ? 200 + int rand 800 : 1 + int rand 40;
	my $do = chance(0.12) ? 'rollback' : 'rows';
	my $how = pick(qw(whole whole singly chunks copy));
	$how = 'kafka' if $case->{kafka} && $do eq 'rows' && chance(0.75);
	return { do => $do, how => $how, into => chance(0.3) ? 'T' : 'S', rows => rows($case, $count) };
}

1;
