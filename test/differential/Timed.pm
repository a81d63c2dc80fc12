# Runs a case of Shapes.pm: streams beside reference tables that have the same rows with
# their partition and order, views beside queries over these, and a model of time
# in plain SQL that shares nothing with the code under test:
#
# - model.windows() finds the windows of a row by trying those around it.
# - A row's stream time is the highest event time of its partition up to it.
#   It is late for a window if window_end + lateness <= that.
# - The watermark is the lowest, over a topic's partitions, of their highest event times; a
#   window is closed if window_end + lateness <= that. A final view has the rows of closed windows.
# - Rows that are INSERTed into a topic's stream hold nothing back; for a final view they are late, too,
#   if the window was closed when they came (floor_: the watermark then).
# - Triggers write down what they see: of a final view exactly its rows, by INSERT.
package Timed;

use strict;
use warnings FATAL => 'all';

use WeirTest;

sub prepare
{
	my ($node) = @_;
	$node->safe_psql('postgres', <<'SQL');
CREATE SCHEMA model;
CREATE FUNCTION model.months(interval) RETURNS int LANGUAGE sql IMMUTABLE AS
  'SELECT (extract(year FROM $1) * 12 + extract(month FROM $1))::int';
-- number of the advance that a time falls into, counted from base
CREATE FUNCTION model.step_of(at timestamp, base timestamp, advance interval) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
  SELECT CASE WHEN model.months(advance) > 0
              THEN floor(((extract(year FROM at) - extract(year FROM base)) * 12 + extract(month FROM at) - extract(month FROM base)) / model.months(advance))
              ELSE floor(extract(epoch FROM at - base) / extract(epoch FROM advance)) END::bigint
$$;
CREATE FUNCTION model.windows(ts timestamptz, kind text, size interval, advance interval, origin timestamptz, zone text)
RETURNS TABLE (window_start timestamptz, window_end timestamptz) LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
  z text := coalesce(zone, 'UTC');
  base timestamp := coalesce(origin AT TIME ZONE 'UTC', '1970-01-01');
  stride interval := CASE WHEN kind = 'cumulate' THEN size ELSE advance END;
  i bigint := model.step_of(ts AT TIME ZONE z, base, stride);
  back bigint := ceil(extract(epoch FROM size) / extract(epoch FROM stride)) + 2;
  j bigint;
  from_local timestamp;
  step_local timestamp;
BEGIN
  FOR j IN SELECT generate_series(i - back, i + 1) LOOP
    from_local := base + j * stride;
    window_start := from_local AT TIME ZONE z;
    CONTINUE WHEN window_start > ts OR (from_local + size) AT TIME ZONE z <= ts;
    IF kind <> 'cumulate' THEN
      window_end := (from_local + size) AT TIME ZONE z;
      RETURN NEXT;
      CONTINUE;
    END IF;
    step_local := from_local;
    LOOP
      step_local := step_local + advance;
      window_end := step_local AT TIME ZONE z;
      IF window_end > ts THEN RETURN NEXT; END IF;
      EXIT WHEN step_local >= from_local + size;
    END LOOP;
  END LOOP;
END $$;
CREATE FUNCTION model.windows(ts timestamp, kind text, size interval, advance interval, origin timestamptz, zone text)
RETURNS TABLE (window_start timestamp, window_end timestamp) LANGUAGE sql IMMUTABLE AS
  $$ SELECT w.window_start AT TIME ZONE 'UTC', w.window_end AT TIME ZONE 'UTC' FROM model.windows(ts AT TIME ZONE 'UTC', kind, size, advance, origin, zone) w $$;
SQL
	return;
}

# How the worker cuts batches and how many there are; said when it changes.
my $settings = '';

sub tune
{
	my ($node, $case) = @_;
	my $want = "weir.workers = $case->{workers}; weir.batch_rows = $case->{batch_rows}";
	return if !$case->{kafka} || $want eq $settings;
	$settings = $want;
	$node->safe_psql('postgres', join('', map { "ALTER SYSTEM SET $_;\n" } split /; /, $want) . 'SELECT pg_reload_conf()');
	return;
}

sub set_up
{
	my ($run, $case, $node) = @_;
	my $sql = $run->{sql};
	tune($node, $case);
	my $ts = $case->{zoned} ? 'timestamptz' : 'timestamp';
	my $columns = "n bigint, k $case->{types}{k}, c $case->{types}{c}, v $case->{types}{v}, ts $ts";
	my @options = ("weir.event_time = 'ts'", "weir.keep = '1000 years'", "weir.idle_timeout = 'off'", "weir.max_clock_skew = 'off'", "weir.late = 'keep'");
	push @options, "weir.lateness = '$case->{lateness}'" if defined $case->{lateness};
	for my $stream (qw(s t))
	{
		my @source = 'weir.stream';
		if ($case->{kafka})
		{
			my $topic = $case->{topic}{ uc $stream } = topic("timed-$stream");
			kafka()->create($topic, $case->{kafka});
			@source = ("weir.server = 'kafka'", "weir.topic = '$topic'");
		}
		$sql->("CREATE TABLE $stream ($columns) WITH (" . join(', ', @source, @options) . ')');
		$sql->("CREATE TABLE ref_$stream ($columns, part_ integer, st_ timestamptz, floor_s timestamptz, floor_t timestamptz)");
	}
	$sql->('CREATE TABLE stage (LIKE ref_s); ALTER TABLE stage ADD number_ integer GENERATED ALWAYS AS IDENTITY');
	$sql->("CREATE TABLE dim (id bigint, name text, factor numeric); INSERT INTO dim VALUES (0, 'x', 2), (1, 'y', 0.5), (1, 'z', 3), (3, NULL, NULL), (4, 'x', 1)");
	$sql->(<<'SQL');
CREATE TABLE seen (view text, op text, weight int, r text);
DO $do$ BEGIN EXECUTE replace($$CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql SET extra_float_digits = 1 AS $f$
BEGIN
  IF tg_op <> 'INSERT' THEN INSERT INTO @schema@.seen VALUES (tg_table_name, tg_op, -1, old::text); END IF;
  IF tg_op <> 'DELETE' THEN INSERT INTO @schema@.seen VALUES (tg_table_name, tg_op, 1, new::text); END IF;
  RETURN NULL;
END $f$ $$, '@schema@', current_schema()); END $do$;
SQL
	$case->{made} = {};
	return;
}

# A view's query as weir is told.
sub query_of
{
	my ($view) = @_;
	my $text = $view->{sql} =~ s/\@W\@/$view->{window}{view}/gr;
	$text =~ s/\@([ST])(?::[^@]*)?\@/lc $1/ge;
	$text =~ s/\@[VB]:(\w+)\@/$1/g;
	$text =~ s/ WHERE \@UNMATCHED\@( AND)?/$1 ? ' WHERE' : ''/e;
	$text =~ s/ (?:AND|WHERE) \@CLOSED:\w+\@//;
	$text =~ s/\@(WHERE|AND|BYN)\@//g;
	return $text;
}

sub make_view
{
	my ($run, $case, $view) = @_;
	return if grep { !$case->{made}{"v$_"} } @{ $view->{sources} // [] };
	my $with = join(', ', 'weir.continuous', @{ $view->{with} });
	my $text = query_of($view);
	# what it is filled with counts as seen
	my $error = $run->{try}->(<<SQL);
BEGIN;
CREATE MATERIALIZED VIEW $view->{name} WITH ($with) AS $text;
INSERT INTO seen SELECT '$view->{name}', 'FILL', 1, x::text FROM $view->{name} x;
CREATE TRIGGER see AFTER INSERT OR UPDATE OR DELETE ON $view->{name} FOR EACH ROW EXECUTE FUNCTION see();
COMMIT;
SQL
	if (!defined $error)
	{
		my $before = $run->{sql}->('SELECT coalesce(max(n), 0) FROM (SELECT n FROM ref_s UNION ALL SELECT n FROM ref_t) r');
		$case->{made}{ $view->{name} } = { before => $before };
		return;
	}
	$run->{sql}->('ROLLBACK');
	die "$error\n" unless $error =~ /^(?:psql:[^\n]*)?\s*ERROR:\s+0A000/m;
	$run->{refused}->($view, $error);
	return;
}

sub feed
{
	my ($run, $case, $step) = @_;
	my $sql = $run->{sql};
	my ($stream, $names) = (lc $step->{into}, 'n, k, c, v, ts');
	my @rows = @{ $step->{rows} };
	my $count = @rows;
	return unless $count;
	my $floors = 'NULL, NULL';
	if ($case->{kafka} && $step->{how} ne 'kafka')
	{
		$sql->("SELECT weir.wait('s', '60 s'), weir.wait('t', '60 s')");
		stream_times($run, $case, $_) for qw(s t);
		$floors = join(', ', map { "'" . watermark($run, $case, $_) . "'" } qw(s t));
	}
	$sql->("TRUNCATE stage RESTART IDENTITY; INSERT INTO stage (part_, $names) VALUES\n  " . join(",\n  ", map { "($_->[0], $_->[1])" } @rows));
	my $some = sub { return "INSERT INTO $stream ($names) SELECT $names FROM stage WHERE $_[0] ORDER BY number_"; };
	my @chunks;
	for (my $at = 0; $at < $count;)
	{
		my $next = $at + 1 + int rand $count;
		push @chunks, $some->("number_ > $at AND number_ <= $next");
		$at = $next;
	}
	if ($step->{how} eq 'whole') { $sql->($some->('true')); }
	elsif ($step->{how} eq 'singly') { $sql->($some->("number_ = $_")) for 1 .. $count; }
	elsif ($step->{how} eq 'chunks') { $sql->($_) for @chunks; }
	elsif ($step->{how} eq 'several') { $sql->(join(";\n", 'BEGIN', @chunks, 'COMMIT')); }
	elsif ($step->{how} eq 'rollback')
	{
		$sql->(join(";\n", 'BEGIN', @chunks, 'ROLLBACK'));
		$sql->(join(";\n", 'BEGIN', 'SAVEPOINT a', @chunks, 'ROLLBACK TO a', @chunks, 'COMMIT'));
	}
	else
	{
		my @lines = split /\n/, $sql->("SELECT part_ || E'\\t' || row_to_json(r) FROM (SELECT $names, part_, number_ FROM stage) r ORDER BY number_");
		s/,"part_":-?\d+,"number_":\d+\}$/}/ for @lines;
		$run->{note}->("-- to topic $case->{topic}{$step->{into}}, as \"partition message\":", map { "--   $_" } @lines);
		kafka()->put($case->{topic}{ $step->{into} }, ['-P'], @lines);
	}
	$sql->("INSERT INTO ref_$stream ($names, part_, floor_s, floor_t) SELECT $names, part_, $floors FROM stage");
	return;
}

sub step
{
	my ($run, $case, $step) = @_;
	my $name = defined $step->{view} ? $case->{views}[ $step->{view} ]{name} : '';
	return feed($run, $case, $step) if $step->{do} eq 'rows';
	return $run->{sql}->($step->{sql}) if $step->{do} eq 'ddl';
	return make_view($run, $case, $case->{views}[ $step->{view} ]) if $step->{do} eq 'view';
	return unless $case->{made}{$name};
	if ($step->{do} eq 'refresh')
	{
		rebuilt($case, $case->{views}[ $step->{view} ]);
		return $run->{sql}->("REFRESH MATERIALIZED VIEW $name");
	}
	if ($step->{do} eq 'replace')
	{
		my $error = $run->{try}->("SELECT weir.replace('$name', \$query\$" . query_of($case->{views}[ $step->{view} ]) . '$query$)');
		die "$error\n" unless !defined $error || $error =~ /ERROR:\s+(0A000|55000)/;
		rebuilt($case, $case->{views}[ $step->{view} ]) unless defined $error;
		return;
	}
	return $run->{sql}->("SELECT weir.$step->{do}('$name')");
}

# The view is built afresh, and perhaps those that read it.
sub rebuilt
{
	my ($case, $view) = @_;
	$case->{made}{ $view->{name} }{rebuilt} = 1 if $case->{made}{ $view->{name} };
	rebuilt($case, $_) for above($case, $view);
	return;
}

# The views that read a view.
sub above
{
	my ($case, $view) = @_;
	return grep { grep { "v$_" eq $view->{name} } @{ $_->{sources} // [] } } @{ $case->{views} };
}

# ---------------------------------------------------------------- what must be there

# Fills in the stream time that each row saw.
sub stream_times
{
	my ($run, $case, $stream) = @_;
	$run->{sql}->("UPDATE ref_$stream r SET st_ = m FROM (SELECT n, max(" . utc($case, 'ts') . ") OVER (PARTITION BY part_ ORDER BY n) AS m FROM ref_$stream) x WHERE x.n = r.n");
	return;
}

# Highest stream time that all of a stream's partitions have reached.
sub watermark
{
	my ($run, $case, $stream) = @_;
	my $parts = $case->{kafka} ? 'generate_series(0, ' . ($case->{kafka} - 1) . ')' : '(VALUES (-1))';
	return $run->{sql}->(<<SQL);
SELECT coalesce(min(coalesce(m, '-infinity')), '-infinity') FROM $parts p(p)
  LEFT JOIN (SELECT part_, max(st_) AS m FROM ref_$stream GROUP BY 1) r ON r.part_ = p.p
SQL
}

sub utc { my ($case, $c) = @_; return $case->{zoned} ? $c : "($c AT TIME ZONE 'UTC')"; }

# A span of an option is a length, not one on the calendar.
sub fixed { my ($span) = @_; return $span =~ s/^(\d+) months$/30 * $1 . ' days'/er; }

# Is a row in time for its window w?
sub in_time
{
	my ($case, $view) = @_;
	return 'true' unless defined $view->{lateness};
	my $time = 's.st_';
	my $floor = $view->{over} eq 'union' ? 'least(s.floor_s, s.floor_t)' : 's.floor_s';
	$time = "greatest(s.st_, CASE WHEN s.n > $case->{made}{ $view->{name} }{before} THEN $floor END)" if $view->{final} && $case->{kafka};
	return utc($case, 'w.window_end') . " + interval '$view->{lateness}' > $time";
}

# The time up to which a final view is closed.
sub closed_until
{
	my ($run, $case, $view) = @_;
	my $mark = $view->{watermark};
	$mark = time_of($run, $case, $view->{below}{view}, $view->{below}{by}) if $view->{below};
	return $run->{sql}->("SELECT timestamptz '$mark' - interval '$view->{lateness}' - interval '" . ($view->{reach} // 0) . "'");
}

# How far the time of a final view has come for those that read it: the end of what is closed, or the start
# of its first window that is open.
sub time_of
{
	my ($run, $case, $view, $by) = @_;
	my $closed = closed_until($run, $case, $view);
	return $closed if $by eq 'we' || $closed eq '-infinity';
	my ($size, $advance) = @{ $view->{grid} };
	return $run->{sql}->("SELECT timestamptz '1970-01-01 00:00:00+00' + interval '1 ms' * ($advance * (floor((extract(epoch FROM timestamptz '$closed') * 1000 - $size) / $advance) + 1))");
}

# A stream of a join: the rows that are not late, which may meet rows up to span later.
sub joined_stream
{
	my ($case, $view, $stream, $span) = @_;
	return "ref_$stream" unless defined $view->{lateness};
	return "(SELECT * FROM ref_$stream r_ WHERE " . utc($case, 'r_.ts') . " + interval '$span' + interval '$view->{lateness}' >= r_.st_)";
}

# Finds the sessions of a view's rows, one row after the other: table x_ has those of rows that are not
# late (and for finals closed), l_ the late ones. Times in microseconds.
sub find_sessions
{
	my ($run, $case, $view) = @_;
	my $session = $view->{session};
	my $us = sub { return "(extract(epoch FROM $_[0]) * 1000000)::bigint" };
	my $rows = 'SELECT s.n, ' . $us->(utc($case, 's.ts')) . ', ' . $us->('s.st_') . ", ROW(@{[ join(', ', @{ $session->{keys} }) ]})::text $session->{rows} ORDER BY s.n";
	$rows =~ s/\@([ST])\@/'ref_' . lc $1/ge;
	my ($gap, $lateness) = ($session->{gap} * 1000, defined $view->{lateness} ? $view->{lateness} =~ s/ ms//r * 1000 : undef);
	my $memory = $gap > 86400e6 ? $gap : 86400e6;
	my (%open, %of, @late);
	for (split /\n/, $run->{sql}->($rows))
	{
		my ($n, $at, $stream_time, $key) = split /\|/, $_, 4;
		my @near = grep { $_->[0] - $gap <= $at && $at <= $_->[1] + $gap } @{ $open{$key} };
		my $closed = sub { return defined $lateness && $_[0] + $gap + $lateness < $stream_time };
		my ($first, $last) = ($at, $at);
		for (@near) { $first = $_->[0] if $_->[0] < $first; $last = $_->[1] if $_->[1] > $last; }
		if ((grep { $closed->($_->[1]) } @near) || $closed->($last) || (@near && $first == $at && !(grep { $_->[0] == $at } @near) && $closed->($at + $memory)))
		{
			push @late, $n;
			next;
		}
		my %near = map { $_ => 1 } @near;
		my $merged = [ $first, $last, map { @$_[ 2 .. $#$_ ] } @near ];
		push @$merged, $n;
		$open{$key} = [ (grep { !$near{$_} } @{ $open{$key} }), $merged ];
	}
	my $time = sub { my $t = "(timestamptz '1970-01-01 00:00:00+00' + interval '1 us' * $_[0])"; return $case->{zoned} ? $t : "($t AT TIME ZONE 'UTC')" };
	my @found = map { my ($first, $last, @n) = @$_; map { [ $_, $first, $last + $gap ] } @n } map { @$_ } values %open;
	my $type = $case->{zoned} ? 'timestamptz' : 'timestamp';
	$run->{sql}->("CREATE TABLE x_$view->{name} (n bigint PRIMARY KEY, window_start $type, window_end $type); CREATE TABLE l_$view->{name} (n bigint)");
	$run->{sql}->("INSERT INTO x_$view->{name} SELECT n, " . $time->('a') . ', ' . $time->('b') . ' FROM (VALUES ' . join(', ', map { '(' . join(', ', @$_) . ')' } @found) . ') v(n, a, b)') if @found;
	$run->{sql}->("INSERT INTO l_$view->{name} VALUES " . join(', ', map { "($_)" } @late)) if @late;
	$run->{sql}->("DELETE FROM x_$view->{name} WHERE NOT " . utc($case, 'window_end') . " + interval '$view->{lateness}' < '$view->{watermark}'") if $view->{final};
	return;
}

sub expected
{
	my ($run, $case, $view) = @_;
	find_sessions($run, $case, $view) if $view->{session};
	my $rule = $view->{window} && !$view->{session} ? in_time($case, $view) : 'true';
	$rule .= ' AND ' . utc($case, 'w.window_end') . " + interval '$view->{lateness}' <= '$view->{watermark}'" if $view->{final} && $view->{window} && !$view->{session};
	my $text = ($view->{model} // $view->{sql}) =~ s/\@W\@/$view->{window}{model}/gr;
	if ($text =~ /\@CLOSED:(\w+)\@/)
	{
		my $closed = utc($case, "$1.window_end") . " <= '" . closed_until($run, $case, $view) . "'";
		$text =~ s/\@CLOSED:\w+\@/$closed/;
	}
	my @items = qw(x y z)[ 0 .. ($view->{items} // 0) - 1 ];
	my $unmatched = !$view->{outer} ? 'true' : '(' . join(' AND ', map { "$_.n IS NOT NULL" } @items) . ' OR ' . utc($case, 'least(' . join(', ', map { "$_.ts" } @items) . ')') . " + interval '$view->{outer}' + interval '$view->{lateness}' < '$view->{watermark}')";
	$text =~ s/\@UNMATCHED\@/$unmatched/;
	$text =~ s/\@WHERE\@/ WHERE $rule/g;
	$text =~ s/\@AND\@/ AND $rule/g;
	$text =~ s/\(([^()]*)\@BYN\@\)/($1 ORDER BY s.n)/g;
	$text = "SELECT * FROM ($text) q_ WHERE " . utc($case, 'greatest(' . join(', ', @{ $view->{times} }) . ')') . " < '" . closed_until($run, $case, $view) . "'" if $view->{times};
	return streams_of_model($case, $view, $text);
}

# Puts the model's relations in the place of streams and views.
sub streams_of_model
{
	my ($case, $view, $text) = @_;
	my %views = map { $_->{name} => $_ } @{ $case->{views} };
	1 while $text =~ s{\@B:(\w+)\@( s\b)?}{'(' . $views{$1}{passes} . ')' . ($2 // ' b')}e;
	$text =~ s/\@V:(\w+)\@/m_$1/g;
	$text =~ s/\@([ST]):([^@]*)\@/joined_stream($case, $view, lc $1, $2)/ge;
	$text =~ s/\@([ST])\@/'ref_' . lc $1/ge;
	return $text;
}

# Which rows are late, and for which window last.
sub check_late
{
	my ($run, $case, $view) = @_;
	my $have = "SELECT (record->>'n')::bigint, window_start FROM weir.late_rows WHERE view = '$view->{name}'::regclass";
	my $rows;
	if ($view->{related})
	{
		$have =~ s/, window_start//;
		$rows = $view->{session} ? "SELECT n FROM l_$view->{name}"
		  : join(' UNION ALL ', map { "(SELECT n FROM ref_\L$_\E EXCEPT SELECT n FROM " . joined_stream($case, $view, lc $_, $view->{accept}{$_}) . ' a)' } sort keys %{ $view->{accept} });
	}
	else
	{
		$rows = $view->{with_clause} . "SELECT s.n, max(" . utc($case, 'w.window_start') . ") AS w $view->{rows}, $view->{window}{model} w WHERE $view->{where} AND NOT (" . in_time($case, $view) . ') GROUP BY s.n';
		$rows =~ s/\@([ST])\@/'ref_' . lc $1/ge;
	}
	$run->{compare}->($have, $rows, "late rows of $view->{name}");
	my $diff = $run->{sql}->("SELECT late, (SELECT count(*) FROM ($rows) r) FROM weir.stat_views WHERE view = '$view->{name}'::regclass AND late <> (SELECT count(*) FROM ($rows) r)");
	die "number of late rows of $view->{name}: $diff\n" if $diff ne '';
	return;
}

sub check_view
{
	my ($run, $case, $view) = @_;
	my ($name, $made) = ($view->{name}, $case->{made}{ $view->{name} });
	my $expected = expected($run, $case, $view);
	if (above($case, $view))
	{
		$run->{sql}->("CREATE TABLE m_$name AS $expected");
		$expected = "TABLE m_$name";
	}
	my $kept = '';
	if (defined $view->{keep})
	{
		# what is older goes sooner or later
		my $column = $run->{sql}->("SELECT keep_column FROM weir.view_def WHERE view = '$name'::regclass");
		$kept = " WHERE " . utc($case, $column) . " > (SELECT max(st_) FROM (SELECT st_ FROM ref_s UNION ALL SELECT st_ FROM ref_t) r) - interval '" . fixed($view->{keep}) . "'";
		$made->{rebuilt} = 1;
	}
	$run->{compare}->("SELECT * FROM $name$kept", "SELECT * FROM ($expected) e$kept", "view $name");
	$run->{views}++;
	$run->{filled}++ if $run->{sql}->("SELECT EXISTS (SELECT FROM $name)") eq 't';
	if (!$made->{rebuilt})
	{
		my $diff = $run->{sql}->(<<SQL);
SELECT coalesce(a.r, b.r), a.n AS seen, b.n AS there FROM (SELECT r, sum(weight) AS n FROM seen WHERE view = '$name' GROUP BY r HAVING sum(weight) <> 0) a
  FULL JOIN (SELECT x::text AS r, count(*) AS n FROM $name x GROUP BY 1) b ON a.r = b.r WHERE a.n IS DISTINCT FROM b.n LIMIT 5
SQL
		die "what triggers saw of $name: $diff\n" if $diff ne '';
		my $ops = $view->{final} || $view->{only} ? $run->{sql}->("SELECT DISTINCT op FROM seen WHERE view = '$name' AND op NOT IN ('INSERT', 'FILL')") : '';
		die "view $name had $ops\n" if $ops ne '';
	}
	check_late($run, $case, $view) if $view->{late} && !$made->{rebuilt} && !$made->{before};
	my $verify = $run->{sql}->("SELECT * FROM weir.verify('$name') LIMIT 5");
	die "verify of $name: $verify\n" if $verify ne '';
	return;
}

sub check
{
	my ($run, $case) = @_;
	my $sql = $run->{sql};
	# also views that were paused at the end
	for my $view (@{ $case->{views} })
	{
		$sql->("SELECT weir.resume('$view->{name}')") if $case->{made}{ $view->{name} };
	}
	$sql->("SELECT weir.wait('s', '60 s'), weir.wait('t', '60 s')");
	my $bad = $sql->("SELECT view, sqlstate, message, convert_from(payload, 'UTF8') FROM weir.dead_letters WHERE stream IN ('s'::regclass, 't'::regclass) LIMIT 5");
	die "dead letters: $bad\n" if $bad ne '';
	for my $stream (qw(s t))
	{
		stream_times($run, $case, $stream);
		$run->{compare}->("SELECT n, k, c, v, ts FROM $stream", "SELECT n, k, c, v, ts FROM ref_$stream", "stream $stream");
		$case->{watermark}{$stream} = watermark($run, $case, $stream);
	}
	for my $view (grep { $case->{made}{ $_->{name} } } @{ $case->{views} })
	{
		my @marks = map { $case->{watermark}{ lc $_ } } grep { $view->{sql} =~ ($_ eq 'S' ? qr/\@(S[:@]|B:)/ : qr/\@T[:@]/) } qw(S T);
		$view->{lateness} = fixed($view->{lateness}) if defined $view->{lateness};
		$view->{watermark} = @marks <= 1 ? $marks[0] : $sql->("SELECT least('$marks[0]'::timestamptz, '$marks[1]')");
		$run->{view} = $view;
		check_view($run, $case, $view);
		$run->{view} = undef;
	}
	return;
}

1;
