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

sub make_view
{
	my ($run, $case, $view) = @_;
	my $with = join(', ', 'weir.continuous', @{ $view->{with} });
	my $text = $view->{sql} =~ s/\@W\@/$view->{window}{view}/gr;
	$text =~ s/\@([ST])\@/lc $1/ge;
	$text =~ s/\@(WHERE|AND|BYN)\@//g;
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
		$case->{made}{$name}{rebuilt} = 1;
		return $run->{sql}->("REFRESH MATERIALIZED VIEW $name");
	}
	return $run->{sql}->("SELECT weir.$step->{do}('$name')");
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

sub expected
{
	my ($case, $view) = @_;
	my $rule = $view->{window} ? in_time($case, $view) : 'true';
	$rule .= ' AND ' . utc($case, 'w.window_end') . " + interval '$view->{lateness}' <= '$view->{watermark}'" if $view->{final};
	my $text = $view->{sql} =~ s/\@W\@/$view->{window}{model}/gr;
	$text =~ s/\@WHERE\@/ WHERE $rule/g;
	$text =~ s/\@AND\@/ AND $rule/g;
	$text =~ s/\(([^()]*)\@BYN\@\)/($1 ORDER BY s.n)/g;
	$text =~ s/\@([ST])\@/'ref_' . lc $1/ge;
	return $text;
}

# Which rows are late, and for which window last.
sub check_late
{
	my ($run, $case, $view) = @_;
	my $rows = $view->{with_clause} . "SELECT s.n, max(" . utc($case, 'w.window_start') . ") AS w $view->{rows}, $view->{window}{model} w WHERE $view->{where} AND NOT (" . in_time($case, $view) . ') GROUP BY s.n';
	$rows =~ s/\@([ST])\@/'ref_' . lc $1/ge;
	$run->{compare}->("SELECT (record->>'n')::bigint, window_start FROM weir.late_rows WHERE view = '$view->{name}'::regclass", $rows, "late rows of $view->{name}");
	my $diff = $run->{sql}->("SELECT late, (SELECT count(*) FROM ($rows) r) FROM weir.stat_views WHERE view = '$view->{name}'::regclass AND late <> (SELECT count(*) FROM ($rows) r)");
	die "number of late rows of $view->{name}: $diff\n" if $diff ne '';
	return;
}

sub check_view
{
	my ($run, $case, $view) = @_;
	my ($name, $made) = ($view->{name}, $case->{made}{ $view->{name} });
	$run->{compare}->("TABLE $name", expected($case, $view), "view $name");
	if (!$made->{rebuilt})
	{
		my $diff = $run->{sql}->(<<SQL);
SELECT coalesce(a.r, b.r), a.n AS seen, b.n AS there FROM (SELECT r, sum(weight) AS n FROM seen WHERE view = '$name' GROUP BY r HAVING sum(weight) <> 0) a
  FULL JOIN (SELECT x::text AS r, count(*) AS n FROM $name x GROUP BY 1) b ON a.r = b.r WHERE a.n IS DISTINCT FROM b.n LIMIT 5
SQL
		die "what triggers saw of $name: $diff\n" if $diff ne '';
		my $ops = $view->{final} ? $run->{sql}->("SELECT DISTINCT op FROM seen WHERE view = '$name' AND op NOT IN ('INSERT', 'FILL')") : '';
		die "final view $name had $ops\n" if $ops ne '';
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
		my @marks = map { $case->{watermark}{$_} } $view->{over} eq 'union' ? qw(s t) : 's';
		$view->{watermark} = @marks == 1 ? $marks[0] : $sql->("SELECT least('$marks[0]'::timestamptz, '$marks[1]')");
		$run->{view} = $view;
		check_view($run, $case, $view);
		$run->{view} = undef;
	}
	return;
}

1;
