# Makes random cases about what belongs together: sessions, joins of streams (inner, outer, with themselves, of three,
# windowed, without a bound), and views over views in chains and diamonds. The frame of a case (streams, rows, disorder,
# steps) is Shapes.pm's, and Timed.pm runs it. What is more in a view:
#
#   session     {gap, rows, keys}: Timed.pm finds the sessions of the rows by itself
#   accept      {S, T}: how much later (an interval) than its own the time of a row's match may be, if that is
#               the same for all items of the join: then it is known which rows are late
#   reach       of a join's finals: how long after its end a window closes
#   outer       how long after a row it is known to have no match; and the mark of such rows
#   below       {view, by}: the final view and its window column that the view's own window goes by
#   sources     numbers of the views that it reads
#   grid        size and advance of its windows, ms
#   times       of finals without windows: the columns whose latest is the time of a row
#   model       its query for the model, where that is another
#   passes      for a view that is read like its stream: the model's query
#   only        what its triggers may see
#   columns     those that views above may read
#
# Marks in its SQL, beside those of Shapes.pm: @S:span@ a stream in a join, with how far its rows match forward; @V:name@
# a view; @B:name@ a view that is read like its stream.
package Relations;

use strict;
use warnings FATAL => 'all';

use POSIX ();
use Shapes;

sub pick { return $_[ rand @_ ]; }
sub chance { return rand() < $_[0]; }

my @conditions = ('s.n % 3 <> 1', 's.c IS NOT NULL', 's.k IS NOT NULL OR s.n % 2 = 0', "s.c < 'b'", 's.v IS NOT NULL');

sub numeric_v { my ($case) = @_; return $case->{types}{v} =~ /^(integer|bigint|numeric)$/; }

# ms of so many units, and as an interval
sub ms { my ($case, $n) = @_; return $n * $case->{ms}; }
sub interval { return "interval '$_[0] ms'"; }

# A new view; its lateness is the stream's, its own, or none.
sub start
{
	my ($case, $shape, %more) = @_;
	my %v = (name => 'v' . @{ $case->{views} }, shape => $shape, over => 'stream', lateness => $case->{lateness}, with => [], related => 1, %more);
	push @{ $v{with} }, "weir.emit = 'final'" if $v{final};
	if (!$v{unbounded} && chance(0.3))
	{
		$v{lateness} = Shapes::span($case, pick(0, 1, 4));
		push @{ $v{with} }, "weir.lateness = '$v{lateness}'";
	}
	$v{lateness} //= '0 ms' if $v{final} || $v{outer};
	return \%v;
}

# [size, advance] of a window, ms
sub grid { my ($call) = @_; my ($size, $advance) = $call =~ /'(\d+) ms'(?:, '(\d+) ms')?/ or die $call; return [ $size, $advance // $size ]; }

sub named { my ($prefix, @expressions) = @_; my $i = 0; return map { $i++; "$_ AS $prefix$i" } @expressions; }

# ---------------------------------------------------------------- sessions

sub session
{
	my ($case) = @_;
	my $v = start($case, 'session', final => chance(0.5));
	my $gap = ms($case, pick(0.5, 1, 1, 2, 3));
	$gap = 1 if $gap < 1;
	$gap = int $gap;
	my @keys = $case->{kafka} || chance(0.7) ? ('s.k') : ();
	push @keys, pick('s.c', '(s.n % 2)', "coalesce(s.c, 'none')") if chance(0.3);
	my $where = chance(0.3) ? pick(@conditions) : 'true';
	my $join = chance(0.15) ? ' LEFT JOIN dim d ON d.id = s.n % 7' : '';
	my $source = chance(0.15) ? "(SELECT * FROM \@S\@ WHERE n % 5 <> 2) s" : '@S@ s';
	my @calls = ('count(*)', 'count(s.v)', 'min(s.c)', 'sum(s.n)', 'max(s.ts)', 'bool_or(s.n % 5 = 0)', 'w.window_end - w.window_start', 'count(*) FILTER (WHERE s.c IS NULL)');
	push @calls, 'sum(s.v)', 'avg(s.v)', 'max(s.v)', 'stddev(s.v)' if numeric_v($case);
	push @calls, 'count(d.name)' if $join;
	# such as do not merge
	push @calls, 'count(DISTINCT s.c)', 'count(DISTINCT s.n % 3) FILTER (WHERE s.c IS NOT NULL)', 'array_agg(s.c ORDER BY s.n)', "string_agg(s.c, ',' ORDER BY s.n DESC)",
	  'percentile_disc(0.5) WITHIN GROUP (ORDER BY s.n)', 'mode() WITHIN GROUP (ORDER BY s.n % 4)';
	push @calls, 'weir.first(s.v@BYN@)', 'weir.last(s.c@BYN@)', 'weir.list(s.n, 4@BYN@)' if $case->{ordered} && !$join;
	my $plain = chance(0.4);    # to be read by others
	$v->{columns} = [ @keys && $keys[0] eq 's.k' ? 'k' : (), qw(cnt total ws we) ] if $plain;
	my @shown = $plain ? ((map { $_ eq 's.k' ? 's.k' : "$_ AS other" } @keys), 'count(*) AS cnt', 'sum(s.n) AS total', 'w.window_start AS ws', 'w.window_end AS we')
	  : (named('g', @keys), pick('w.window_start AS ws', 'w.window_start AS ws, w.window_end AS we'), named('m', map { pick(@calls) } 1 .. 1 + int rand 3));
	my $end = $plain || (grep { /window_end/ } @shown) || chance(0.3) ? ', w.window_end' : '';
	my $group = join(', ', @keys, 'w.window_start') . $end;
	my $having = chance(0.2) ? ' HAVING ' . pick('count(*) > 1', 'sum(s.n) % 2 = 0', 'max(s.n) - min(s.n) < 12') : '';
	$v->{sql} = 'SELECT ' . join(', ', @shown) . " FROM $source$join, \@W\@ w WHERE $where GROUP BY $group$having";
	$v->{session} = { gap => $gap, keys => \@keys, rows => "FROM $source WHERE $where" };
	$v->{window} = { kind => 'session', view => "session(s.ts, '$gap ms')", model => "LATERAL (SELECT window_start, window_end FROM x_$v->{name} x WHERE x.n = s.n)" };
	$v->{late} = 1;
	return $v;
}

# ---------------------------------------------------------------- joins of streams

# A bound: y.ts is from low to high (ms) after x.ts; as text.
sub bound
{
	my ($x, $y, $low, $high) = @_;
	my ($from, $to) = (interval($low), interval($high));
	my $back = interval(-$low);
	return pick(
		"$y.ts BETWEEN $x.ts + $from AND $x.ts + $to",
		"$y.ts BETWEEN $x.ts - $back AND $to + $x.ts",
		"$y.ts >= $x.ts - $back AND $x.ts + $to >= $y.ts",
		"$y.ts - $x.ts BETWEEN $from AND $to",
		"$x.ts <= $y.ts - $from AND $y.ts - $to <= $x.ts");
}

sub bounds_of
{
	my ($case) = @_;
	my ($low, $high) = @{ pick([ -1, 1 ], [ 0, 2 ], [ -3, 0 ], [ -2, 5 ], [ 1, 3 ], [ 0, 0 ], [ -0.5, 4 ]) };
	return map { POSIX::floor(ms($case, $_)) } $low, $high;
}

# How far rows of each item match forward, and the reach of the whole; upper->[i][j]: how much later than i's j's time may be.
sub reaches
{
	my ($upper, $count) = @_;
	for my $m (0 .. $count - 1)
	{
		for my $i (0 .. $count - 1)
		{
			for my $j (0 .. $count - 1)
			{
				next unless defined $upper->[$i][$m] && defined $upper->[$m][$j];
				my $way = $upper->[$i][$m] + $upper->[$m][$j];
				$upper->[$i][$j] = $way if $i != $j && (!defined $upper->[$i][$j] || $way < $upper->[$i][$j]);
			}
		}
	}
	my (@forward, $span);
	for my $i (0 .. $count - 1)
	{
		my ($forward, $back) = (0, 0);
		for my $j (grep { $_ != $i } 0 .. $count - 1)
		{
			$forward = $upper->[$i][$j] if $upper->[$i][$j] > $forward;
			$back = $upper->[$j][$i] if $upper->[$j][$i] > $back;
		}
		push @forward, $forward;
		$span = $forward + $back if !defined $span || $forward + $back > $span;
	}
	return (\@forward, $span);
}

# The joined streams: sets from, where, forward, span, items (aliases x, y, z with their streams).
sub joined
{
	my ($case, $kind) = @_;
	my @streams = $kind eq 'self' ? qw(S S) : $kind eq 'three' ? ('S', 'T', pick('S', 'T')) : (pick([ 'S', 'T' ], [ 'T', 'S' ])->@*);
	my @alias = qw(x y z)[ 0 .. $#streams ];
	my $key = pick('k', 'k', 'c');
	my @upper;
	my (@on, $window);
	my @equal = map { "$alias[$_ - 1].$key = $alias[$_].$key" } 1 .. $#alias;
	if ($kind eq 'windowed')
	{
		my ($size, $advance) = @{ pick([ 2, 2 ], [ 1, 1 ], [ 5, 5 ], [ 4, 2 ]) };
		$window = $size == $advance ? "tumble(%s.ts, '" . ms($case, $size) . " ms')" : "hop(%s.ts, '" . ms($case, $size) . " ms', '" . ms($case, $advance) . " ms')";
		$upper[0][1] = $upper[1][0] = ms($case, $size);
		@on = ([ 'wx.window_start = wy.window_start', pick(@equal, 'true') ]);
	}
	else
	{
		for my $i (1 .. $#alias)
		{
			if ($kind eq 'unbounded') { push @on, [ $equal[ $i - 1 ] ]; next; }
			my ($low, $high) = bounds_of($case);
			my $to = $i == 2 && chance(0.5) ? 0 : $i - 1;
			$upper[$to][$i] = $high;
			$upper[$i][$to] = -$low;
			push @on, [ chance(0.85) ? $equal[ $i - 1 ] : 'true', bound($alias[$to], $alias[$i], $low, $high) ];
		}
		push @{ $on[0] }, 'x.n < y.n' if $kind eq 'self' && chance(0.6);
	}
	my ($forward, $span) = $kind eq 'unbounded' ? ([ map { 0 } @alias ], 0) : reaches(\@upper, scalar @alias);
	my @item = map {
		my $mark = $kind eq 'unbounded' ? "\@$streams[$_]\@" : "\@$streams[$_]:$forward->[$_] ms\@";
		chance(0.1) ? "(SELECT * FROM $mark s WHERE " . pick(@conditions) . ") $alias[$_]" : "$mark $alias[$_]"
	} 0 .. $#alias;
	return { streams => \@streams, alias => \@alias, item => \@item, on => \@on, forward => $forward, span => $span, window => $window };
}

# FROM and WHERE of an inner join.
sub inner_from
{
	my ($j, $v) = @_;
	my @on = map { join(' AND ', @$_) } @{ $j->{on} };
	my @item = @{ $j->{item} };
	my ($from, @where);
	if ($j->{window})
	{
		my ($wx, $wy) = map { sprintf $j->{window}, $_ } qw(x y);
		$from = "$item[0], $wx wx, $item[1], $wy wy";
		@where = @on;
	}
	elsif (chance(0.4)) { $from = join(', ', @item); @where = @on; }
	else { $from = $item[0] . join('', map { " JOIN $item[$_] ON $on[$_ - 1]" } 1 .. $#item); }
	if (chance(0.15))
	{
		$v->{dim} = 1;
		if ($from =~ /, /) { $from .= ', dim d'; push @where, 'd.id = x.n % 7'; }
		else { $from .= ' ' . pick('LEFT JOIN', 'JOIN') . ' dim d ON d.id = x.n % 7'; }
	}
	push @where, '(' . pick(@conditions) =~ s/s\./x./gr . ')' if chance(0.2);
	return ($from, @where ? join(' AND ', @where) : 'true');
}

# Expressions of one joined row.
sub measures
{
	my ($case, $v) = @_;
	my $other = pick('x', 'y');
	my @calls = ('count(*)', "count($other.c)", 'sum(x.n)', 'sum(y.n)', 'min(y.c)', "max($other.v)", 'max(y.ts)', 'bool_and(x.n < y.n)', 'count(*) FILTER (WHERE x.n % 2 = 0)');
	push @calls, "sum($other.v)", "avg($other.v)", 'sum(x.v * y.n)' if numeric_v($case);
	push @calls, 'sum(d.factor)', 'count(d.name)' if $v->{dim};
	return map { my $call = pick(@calls); $call =~ s/max\((\w)\.v\)/max($1.v::text)/ if $case->{types}{v} eq 'interval'; $call } 1 .. 1 + int rand 3;
}

my %over_join = (
	append => sub {
		my ($case, $v, $from) = @_;
		$v->{only} = 'INSERT';
		return 'SELECT ' . join(', ', 'x.n AS xn', 'y.n AS yn', 'x.k', 'y.v', $v->{items} > 2 ? 'z.n AS zn' : (), $v->{dim} ? 'd.name' : ()) . " FROM $from";
	},
	plain => sub {
		my ($case, $v, $from) = @_;
		$v->{columns} = [qw(k cnt total)];
		return "SELECT x.k, count(*) AS cnt, sum(y.n) AS total FROM $from GROUP BY x.k";
	},
	group => sub {
		my ($case, $v, $from) = @_;
		my @keys = pick([ 'x.k' ], [ 'x.k' ], [ 'y.c' ], [ 'x.k', 'y.c' ], [ 'x.n' ], [])->@*;
		my $having = @keys && chance(0.2) ? ' HAVING ' . pick('count(*) > 2', 'sum(x.n) % 2 = 0') : '';
		return 'SELECT ' . join(', ', named('g', @keys), named('m', measures($case, $v))) . " FROM $from" . (@keys ? ' GROUP BY ' . join(', ', @keys) : '') . $having;
	},
	distinct => sub { my ($case, $v, $from) = @_; return "SELECT DISTINCT x.k, y.c FROM $from"; },
	recompute => sub {
		my ($case, $v, $from) = @_;
		my @calls = ('array_agg(y.n ORDER BY x.n, y.n)', 'count(DISTINCT y.c)', 'count(DISTINCT x.n)', "string_agg(y.c, ',' ORDER BY y.n, x.n)", 'percentile_disc(0.5) WITHIN GROUP (ORDER BY y.n)');
		my @keys = pick([ 'x.k' ], [ 'x.k', 'x.c' ], [ 'y.c' ])->@*;
		return 'SELECT ' . join(', ', named('g', @keys), named('m', map { pick(@calls) } 1, 2)) . " FROM $from GROUP BY " . join(', ', @keys);
	},
	top => sub {
		my ($case, $v, $from) = @_;
		my $last = $v->{items} > 2 ? ', z.n' : '';
		my $rank = pick('row_number() OVER (PARTITION BY x.k ORDER BY y.v DESC NULLS LAST, x.n, y.n' . $last, 'rank() OVER (PARTITION BY x.k ORDER BY y.c, y.n');
		return "SELECT * FROM (SELECT x.k, x.n AS xn, y.n AS yn, y.v, y.c, $rank) AS place FROM $from) q WHERE place <= " . pick(1, 2, 3);
	},
	best => sub {
		my ($case, $v, $from) = @_;
		my $last = $v->{items} > 2 ? ', z.n' : '';
		return "SELECT DISTINCT ON (x.n) x.n AS xn, y.n AS yn, x.k, y.v FROM $from ORDER BY x.n, y.ts DESC, y.n$last";
	},
	over => sub {
		my ($case, $v, $from) = @_;
		my $last = $v->{items} > 2 ? ', z.n' : '';
		return "SELECT x.k, x.n AS xn, y.n AS yn, sum(y.n) OVER (PARTITION BY x.k ORDER BY x.n, y.n$last ROWS BETWEEN 2 PRECEDING AND CURRENT ROW) AS o FROM $from";
	},
	levels => sub {
		my ($case, $v, $from) = @_;
		return "SELECT k, avg(m) AS a, count(*) AS n FROM (SELECT x.k, x.n, max(y.n) AS m FROM $from GROUP BY x.k, x.n) q GROUP BY k" if chance(0.5);
		return "SELECT k, xn, o FROM (SELECT k, xn, avg(m) OVER (PARTITION BY k ORDER BY xn ROWS 2 PRECEDING) AS o FROM (SELECT x.k, x.n AS xn, max(y.n) AS m FROM $from GROUP BY x.k, x.n) q) r";
	},
	sets => sub {
		my ($case, $v, $from) = @_;
		return 'SELECT x.k, y.c, ' . join(', ', named('m', measures($case, $v))) . " FROM $from GROUP BY x.k, ROLLUP (y.c)";
	},);
my @over_join = (qw(append append plain group group), sort keys %over_join);

sub inner
{
	my ($case, $kind) = @_;
	my $v = start($case, $kind, unbounded => $kind eq 'unbounded');
	$v->{lateness} = undef if $v->{unbounded};
	my $j = joined($case, $kind);
	$v->{items} = @{ $j->{alias} };
	my ($from, $where) = inner_from($j, $v);
	my $how = pick(@over_join);
	$v->{shape} = "$kind join, $how";
	$v->{sql} = $over_join{$how}->($case, $v, "$from WHERE $where");
	known_late($v, $j);
	return $v;
}

# The rows that are late for a join of S and T, if none of its items leaves rows out beforehand.
sub known_late
{
	my ($v, $j) = @_;
	return if !defined $v->{lateness} || $v->{unbounded} || @{ $j->{streams} } != 2 || $j->{streams}[0] eq $j->{streams}[1] || grep { /WHERE/ } @{ $j->{item} };
	$v->{accept} = { map { $j->{streams}[$_] => "$j->{forward}[$_] ms" } 0, 1 };
	$v->{late} = 1;
	return;
}

# Windows beside a join, as they are or as finals.
sub windowed_join
{
	my ($case) = @_;
	my $kind = pick(qw(inner windowed self));
	my $v = start($case, 'window of join', final => chance(0.6));
	my $j = joined($case, $kind);
	$v->{items} = @{ $j->{alias} };
	my ($from, $where) = inner_from($j, $v);
	my $window = 'wx';
	if (!$j->{window})
	{
		$window = 'w';
		my $size = ms($case, pick(1, 2, 5));
		my $of = pick('x', 'y');
		$j->{window} = pick("tumble($of.ts, '$size ms')", "hop($of.ts, '" . 2 * $size . " ms', '$size ms')");
		$from = "$from, $j->{window} w";
	}
	$v->{shape} = "window of $kind join";
	$v->{grid} = grid($j->{window});
	$v->{reach} = "$j->{span} ms";
	my @keys = ("$window.window_start AS ws", "$window.window_end AS we");
	my @group = ("$window.window_start", "$window.window_end");
	if (chance(0.7)) { push @keys, 'x.k'; push @group, 'x.k'; $v->{columns} = [qw(k cnt total ws we)]; }
	else { $v->{columns} = [qw(cnt total ws we)]; }
	my $closed = $v->{final} ? " AND \@CLOSED:$window\@" : '';
	$v->{sql} = 'SELECT ' . join(', ', @keys) . ", count(*) AS cnt, sum(y.n) AS total FROM $from WHERE $where$closed GROUP BY " . join(', ', @group);
	known_late($v, $j);
	return $v;
}

sub outer
{
	my ($case) = @_;
	my $at_once = chance(0.35);
	my $v = start($case, 'outer', outer => !$at_once);
	push @{ $v->{with} }, "weir.unmatched = 'at once'" if $at_once;
	my $j = joined($case, pick('inner', 'inner', 'three'));
	my $last = $#{ $j->{alias} };
	my @sides = map { pick('LEFT', 'LEFT', 'RIGHT', 'FULL') } 1 .. $last;
	$sides[ rand @sides ] = '' if $last > 1 && chance(0.3);
	# a FULL JOIN by hand needs a condition that can be hashed
	for my $i (1 .. $last) { $j->{on}[ $i - 1 ][0] = 'x.k = y.k' =~ s/y/$j->{alias}[$i]/r =~ s/x/$j->{alias}[$i - 1]/r if $j->{on}[ $i - 1 ][0] eq 'true'; }
	$v->{items} = $last + 1;
	$v->{outer} = "$j->{span} ms" unless $at_once;
	my $from = $j->{item}[0] . join('', map { " $sides[$_ - 1] JOIN $j->{item}[$_] ON " . join(' AND ', @{ $j->{on}[ $_ - 1 ] }) } 1 .. $last);
	my $where = '@UNMATCHED@' . (chance(0.15) ? ' AND (' . pick('x.n IS NULL OR x.n % 3 <> 1', 'y.n IS NULL OR y.n % 4 <> 1', 'x.c IS NOT NULL') . ')' : '');
	my $how = pick(qw(append append plain group group distinct), chance(0.3) ? qw(recompute top over levels) : ());
	$v->{shape} = lc(join(' and ', @sides) . ' join, ') . $how . ($at_once ? ', at once' : '');
	$v->{sql} = $over_join{$how}->($case, $v, "$from WHERE $where");
	delete $v->{only} if $at_once;
	known_late($v, $j);
	return $v;
}

# A join of two streams that are grouped by the same windows first.
sub sides
{
	my ($case) = @_;
	my $v = start($case, 'grouped sides', final => chance(0.6));
	$v->{window} = Shapes::window($case);
	my $k = chance(0.7);
	my $keys = ($k ? 's.k, ' : '') . 'w.window_start, w.window_end';
	my @side = map { "(SELECT $keys, count(*) AS n, " . pick('sum(s.n)', 'count(DISTINCT s.c)', 'max(s.n)') . " AS m FROM \@$_\@ s, \@W\@ w\@WHERE\@ GROUP BY $keys)" } pick([ 'S', 'T' ], [ 'T', 'S' ], [ 'S', 'S' ])->@*;
	my $join = pick(('JOIN') x 3, 'LEFT JOIN', 'FULL JOIN');
	$v->{shape} = 'grouped sides, ' . lc $join;
	$v->{sql} = 'SELECT ' . ($k ? 'k, ' : '') . "window_start AS ws, window_end AS we, coalesce(x.n, 0) + coalesce(y.n, 0) AS cnt, coalesce(x.m, y.m) AS total FROM $side[0] x $join $side[1] y USING ("
	  . ($k ? 'k, ' : '') . 'window_start, window_end)';
	return $v;
}

# ---------------------------------------------------------------- finals of other kinds

# Without windows: pairs and rows without a match, the first row per key, moving frames.
sub instant
{
	my ($case) = @_;
	my $v = start($case, 'instant', final => 1);
	my $what = pick(qw(join join first over));
	if ($what eq 'join')
	{
		my $j = joined($case, pick('inner', 'inner', 'self', 'three'));
		my @alias = @{ $j->{alias} };
		my @sides = map { pick('', '', 'LEFT', 'RIGHT', 'FULL') } 1 .. $#alias;
		for my $i (1 .. $#alias) { $j->{on}[ $i - 1 ][0] = "$alias[$i - 1].k = $alias[$i].k" if $j->{on}[ $i - 1 ][0] eq 'true'; }
		$v->{shape} = 'instant: ' . join(' and ', map { lc($_ || 'inner') } @sides) . ' join';
		$v->{times} = [ map { "t$_" } @alias ];
		$v->{reach} = "$j->{span} ms";
		$v->{sql} = 'SELECT ' . join(', ', map { "$_.ts AS t$_, $_.n AS n$_, $_.c AS c$_" } @alias) . " FROM $j->{item}[0]"
		  . join('', map { " $sides[$_ - 1] JOIN $j->{item}[$_] ON " . join(' AND ', @{ $j->{on}[ $_ - 1 ] }) } 1 .. $#alias);
		known_late($v, $j);
		return $v;
	}
	my $by = pick('s.k', 's.k, s.c', 's.c');
	my $shown = $by =~ s/s\.//gr;
	my $where = chance(0.3) ? ' WHERE ' . pick(@conditions) : '';
	$v->{times} = ['ts'];
	$v->{shape} = "instant: $what";
	$v->{accept} = { S => '0 ms' };
	$v->{late} = $where eq '';
	if ($what eq 'first')
	{
		my $then = pick('s.n', 's.n DESC', 's.v, s.n');
		$v->{sql} = chance(0.5) ? "SELECT DISTINCT ON ($by) $by, s.n, s.v, s.ts FROM \@S:0 ms\@ s$where ORDER BY $by, s.ts, $then"
		  : "SELECT $shown, n, v, ts FROM (SELECT $by, s.n, s.v, s.ts, row_number() OVER (PARTITION BY $by ORDER BY s.ts, $then) AS place FROM \@S:0 ms\@ s$where) q WHERE place = 1";
		return $v;
	}
	if (chance(0.4))
	{
		# what came before, without a bound
		my $call = pick('lag(s.n)', "lag(s.c, 2, 'none')", 'row_number()', 'sum(s.n)', 'count(s.c)', 'dense_rank()', 'max(s.c)');
		my $order = pick('s.ts, s.n', 's.ts, s.n DESC');
		$v->{sql} = "SELECT $by, s.n, s.ts, $call OVER (PARTITION BY $by ORDER BY $order) AS o FROM \@S:0 ms\@ s$where";
		$v->{shape} = 'instant: over all before';
		return $v;
	}
	my ($back, $forth) = map { POSIX::floor(ms($case, $_)) } pick(0, 1, 3, 10), pick(0, 0, 0.5, 2);
	$v->{reach} = "$forth ms";
	my $frame = 'BETWEEN ' . interval($back) . ' PRECEDING AND ' . ($forth ? interval($forth) . ' FOLLOWING' : 'CURRENT ROW');
	my $call = pick('sum(s.n)', 'count(*)', 'max(s.c)', 'array_agg(s.n % 3)', 'first_value(s.ts)', numeric_v($case) ? 'avg(s.v)' : 'count(s.v)');
	$call = 'count(s.c)' if $call =~ /array_agg/;    # peers come in any order
	$v->{sql} = "SELECT $by, s.n, s.ts, $call OVER (PARTITION BY $by ORDER BY s.ts RANGE $frame) AS o FROM \@S:0 ms\@ s$where";
	return $v;
}

# Any query over a window, run at close.
sub windowed
{
	my ($case) = @_;
	my $v = start($case, 'windowed', final => 1);
	$v->{window} = Shapes::window($case);
	my $keys = 'w.window_start, w.window_end';
	my ($one, $other) = pick([ 'S', 'T' ], [ 'T', 'S' ], [ 'S', 'S' ])->@*;
	my $grouped = "SELECT s.k, count(*) AS cnt, sum(s.n) AS total, w.window_start AS ws, w.window_end AS we FROM \@$one\@ s, \@W\@ w\@WHERE\@ GROUP BY s.k, $keys";
	my $limit = pick(1, 2, 3);
	my $set = pick('UNION', 'UNION ALL', 'EXCEPT', 'EXCEPT ALL', 'INTERSECT', 'INTERSECT ALL');
	my $order = pick('cnt DESC, k', 'total, k', 'k DESC NULLS LAST');
	my @ways = (
		[ 'set', "SELECT s.k, s.c, $keys FROM \@$one\@ s, \@W\@ w\@WHERE\@ $set SELECT s.k, s.c, $keys FROM \@$other\@ s, \@W\@ w\@WHERE\@" ],
		[ 'limit', "$grouped ORDER BY $order LIMIT $limit", "SELECT k, cnt, total, ws, we FROM (SELECT q.*, row_number() OVER (PARTITION BY ws, we ORDER BY $order) AS place FROM ($grouped) q) r WHERE place <= $limit" ],
		[ 'bounded', "SELECT x.n, x.k, m.ws, m.we, m.cnt FROM \@$one\@ x JOIN (SELECT max(s.n) AS most, count(*) AS cnt, w.window_start AS ws, w.window_end AS we FROM \@$one\@ s, \@W\@ w\@WHERE\@ GROUP BY $keys) m ON x.n = m.most AND x.ts >= m.ws AND x.ts < m.we" ],
		[ 'best', "SELECT g.* FROM ($grouped) g JOIN (SELECT max(cnt) AS most, ws, we FROM ($grouped) h GROUP BY ws, we) m ON g.cnt = m.most AND g.ws = m.ws AND g.we = m.we" ]);
	(my $name, @$v{qw(sql model)}) = pick(@ways)->@*;
	delete $v->{model} unless defined $v->{model};
	$v->{shape} = "windowed, $name";
	return $v;
}

# ---------------------------------------------------------------- views that others read

# Aggregates of one stream, of few columns.
sub counted
{
	my ($case) = @_;
	my $windowed = chance(0.6);
	my $v = start($case, 'counted', unbounded => !$windowed, final => $windowed && chance(0.6));
	if (!$windowed) { $v->{lateness} = undef; }
	else
	{
		do { $v->{window} = Shapes::window($case) } until $v->{window}{kind} ne 'cumulate' && $v->{window}{view} !~ /origin/;
		$v->{grid} = grid($v->{window}{view});
	}
	my $w = $windowed ? ', @W@ w' : '';
	my @keys = ('s.k', $windowed ? ('w.window_start', 'w.window_end') : ());
	$v->{columns} = [ 'k', 'cnt', 'total', $windowed ? ('ws', 'we') : () ];
	my $recompute = chance(0.2) ? 'count(DISTINCT s.c)' : 'sum(s.n)';
	$v->{sql} = "SELECT s.k, count(*) AS cnt, $recompute AS total" . ($windowed ? ', w.window_start AS ws, w.window_end AS we' : '') . " FROM \@S\@ s$w\@WHERE\@ GROUP BY " . join(', ', @keys)
	  . (chance(0.2) ? ' HAVING count(*) > 1' : '');
	return $v;
}

# Rows of the stream that pass; read as the stream is.
sub passed
{
	my ($case) = @_;
	my $v = start($case, 'passed', unbounded => 1);
	$v->{lateness} = undef;
	my $below = (grep { $_->{passes} } @{ $case->{views} })[0];
	my $cond = pick('s.n % 5 <> 3', 's.n % 2 = 0 OR s.c IS NOT NULL', 'true');
	my $source = '@S@ s';
	if ($below && chance(0.5)) { reads($case, $v, $below); $source = "\@B:$below->{name}\@ s"; }
	$v->{passes} = "SELECT s.* FROM $source WHERE $cond";
	$v->{sql} = "SELECT s.n, s.k, s.c, s.v, s.ts FROM $source WHERE $cond";
	$v->{only} = 'INSERT';
	return $v;
}

# ---------------------------------------------------------------- views over views

sub reads { my ($case, $v, @below) = @_; push @{ $v->{sources} }, map { substr($_->{name}, 1) } @below; return; }

# Any shape, over a view that passes rows on.
sub over_passed
{
	my ($case, $below) = @_;
	my $v;
	do { $v = Shapes::view($case, scalar @{ $case->{views} }) } until $v->{over} eq 'stream';
	$v->{sql} =~ s/\@S\@/\@B:$below->{name}\@/g;
	$v->{shape} = "passed, $v->{shape}";
	$v->{late} = 0;
	$v->{related} = 1;
	reads($case, $v, $below);
	return $v;
}

# A window of a final view's windows.
sub over_final
{
	my ($case, $below) = @_;
	my $final = chance(0.6);
	my $v = start($case, 'windows of finals', unbounded => 1, final => $final);
	$v->{lateness} = $final ? '0 ms' : undef;
	my $by = $below->{session} ? 'we' : pick('ws', 'we');
	my $size = ms($case, pick(2, 5, 10));
	my $k = (grep { $_ eq 'k' } @{ $below->{columns} }) && chance(0.6) ? ', q.k' : '';
	$v->{columns} = [ $k ? 'k' : (), qw(cnt total ws we) ];
	$v->{below} = { view => $below, by => $by };
	$v->{grid} = [ $size, $size ];
	my $closed = $final ? ' WHERE @CLOSED:w@' : '';
	$v->{sql} = "SELECT sum(q.cnt) AS cnt, max(q.total) AS total, w.window_start AS ws, w.window_end AS we$k FROM \@V:$below->{name}\@ q, tumble(q.$by, '$size ms') w$closed GROUP BY w.window_start, w.window_end$k";
	reads($case, $v, $below);
	return $v;
}

# Any query over one view or two.
sub over_changing
{
	my ($case, @below) = @_;
	my $v = start($case, 'over views', unbounded => 1);
	$v->{lateness} = undef;
	my ($p, $q) = (pick(@below), pick(@below));
	my %has = map { $_ => 1 } @{ $p->{columns} };
	my %both = map { $_ => 1 } grep { $has{$_} } @{ $q->{columns} };
	my ($from, $k) = ("\@V:$p->{name}\@ q", $has{k} ? 'q.k' : 'q.cnt');
	my @queries = (
		"SELECT q.cnt AS cnt, count(*) AS m, sum(q.total) AS total FROM $from GROUP BY q.cnt",
		"SELECT count(*) AS m1, max(q.total) AS m2, min(q.total) AS m3, avg(q.cnt) AS m4 FROM $from",
		"SELECT $k AS g, max(q.cnt) AS cnt, min(q.total) AS total, count(DISTINCT q.cnt) AS m FROM $from GROUP BY $k",
		"SELECT $k AS g, array_agg(q.cnt ORDER BY q.cnt) AS a FROM $from GROUP BY $k HAVING sum(q.cnt) > 3",
		"SELECT * FROM (SELECT q.*, rank() OVER (ORDER BY q.cnt DESC, q.total) AS place FROM $from) r WHERE place <= 3",
		"SELECT * FROM (SELECT q.*, rank() OVER (PARTITION BY $k ORDER BY q.cnt DESC) AS place FROM $from) r WHERE place <= 2",
		"SELECT q.cnt, q.total FROM $from ORDER BY q.total DESC, q.cnt LIMIT 3",
		"SELECT q.cnt, q.total FROM $from WHERE q.cnt % 2 = 0",
		"SELECT q.cnt, q.total * 2 AS twice, d.name FROM $from JOIN dim d ON d.id = q.cnt % 5",
		"SELECT DISTINCT q.cnt % 3 AS r FROM $from",
		"SELECT $k AS g, q.cnt % 2 AS h, sum(q.total) AS m FROM $from GROUP BY ROLLUP ($k, q.cnt % 2)",
		"SELECT avg(m) AS a FROM (SELECT $k AS g, max(q.cnt) AS m FROM $from GROUP BY 1) r");
	push @queries, map { my $x = $_; ($x) x 3 } 
	  "SELECT q.cnt, r.total FROM $from JOIN \@V:$q->{name}\@ r ON q.cnt = r.cnt",
	  "SELECT q.cnt, r.total FROM $from LEFT JOIN \@V:$q->{name}\@ r ON q.cnt = r.cnt AND r.total > 4",
	  "SELECT q.cnt, q.total FROM $from EXCEPT SELECT r.cnt, r.total FROM \@V:$q->{name}\@ r WHERE r.cnt > 2",
	  "SELECT cnt, count(*) AS m FROM (SELECT q.cnt FROM $from UNION ALL SELECT r.cnt FROM \@V:$q->{name}\@ r) u GROUP BY cnt",
	  $both{k} ? ("SELECT q.k, sum(q.cnt) AS cnt, max(r.total) AS total FROM $from JOIN \@V:$q->{name}\@ r ON q.k = r.k GROUP BY q.k") : ();
	$v->{sql} = pick(@queries);
	$v->{shape} = "over $p->{shape}";
	$v->{columns} = [qw(cnt total)] if $v->{sql} =~ /AS cnt, .* AS total|^SELECT (q\.k, )?q\.cnt, [qr]\.total FROM/ && $v->{sql} !~ /\*/;
	reads($case, $v, $p, $v->{sql} =~ /\@V:$q->{name}\@/ ? $q : ());
	return $v;
}

sub above
{
	my ($case) = @_;
	my @readable = grep { $_->{columns} } @{ $case->{views} };
	my @passed = grep { $_->{passes} } @{ $case->{views} };
	my @finals = grep { $_->{final} && grep { /^ws$/ } @{ $_->{columns} } } @readable;
	my @ways;
	push @ways, sub { return over_passed($case, pick(@passed)) } if @passed;
	push @ways, sub { return over_final($case, pick(@finals)) } if @finals;
	push @ways, (sub { return over_changing($case, @readable) }) x 2 if @readable;
	return @ways ? pick(@ways)->() : counted($case);
}

# ---------------------------------------------------------------- a case

my @families = (\&session, \&session, (sub { return inner($_[0], 'inner') }) x 2, (map { my $kind = $_; sub { return inner($_[0], $kind) } } qw(self three unbounded windowed)), \&windowed_join, \&outer, \&outer, \&sides, \&instant, \&instant, \&windowed,
	\&counted, \&counted, \&passed, (\&above) x 5);

sub generate
{
	my $case = Shapes::frame(@_, related => 1, two => 1, by_key => 1);
	$case->{views} = [];
	push @{ $case->{views} }, pick(@families)->($case) for 1 .. 2 + int rand 4;
	$case->{steps} = Shapes::steps($case);
	return $case;
}

1;
