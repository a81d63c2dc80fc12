# The worked cases of what windows, late rows and joins give, each three ways: row by row, all rows in
# one statement, and from Kafka. The rows at the end are the same each time; row by row, and from Kafka
# message by message, triggers see the same changes.
use strict;
use warnings FATAL => 'all';

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use WeirTest;

my $node = weir_node('worked', conf => "fsync = off\n");
make_kafka_server($node);
$node->safe_psql('postgres', <<'SQL');
CREATE FUNCTION ms(bigint) RETURNS timestamptz LANGUAGE sql IMMUTABLE
  AS $$ SELECT timestamptz '1970-01-01 00:00:00+00' + $1 * interval '1 ms' $$;
CREATE FUNCTION ms(timestamptz) RETURNS bigint LANGUAGE sql IMMUTABLE
  AS $$ SELECT (extract(epoch FROM $1) * 1000)::bigint $$;
CREATE TABLE side (k text, t text);
CREATE TABLE log (n serial, view text, change text);
CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql SET search_path = public AS $$
DECLARE line text;
BEGIN
  EXECUTE format('SELECT %s FROM (SELECT ($1).*) x', tg_argv[0]) INTO line USING CASE WHEN tg_op = 'DELETE' THEN old ELSE new END;
  INSERT INTO public.log (view, change) VALUES (tg_table_name, CASE tg_op WHEN 'DELETE' THEN 'DEL ' ELSE '' END || line);
  RETURN NULL;
END $$;
SQL

# rows: [ms, key, value], in order of arrival, of stream @S@ (with 'R' behind it, of stream @R@); 'T k v' changes the joined table.
# show: a row of the view as text; final: all of them; changes: what triggers saw, with one transaction per row.
my $window = q{format('%s[%s,%s)=', k, ms(window_start), ms(window_end))};
my $session = q{format('%s[%s..%s]=', k, ms(window_start), ms(window_end) - 30000)};
my @merging = ([ 0, 'k0', 0 ], [ 70010, 'k0', 1 ], [ 10009, 'k0', 5 ], [ 10010, 'k0', 6 ], [ 10009, 'k1', 100 ], [ 10010, 'k1', 101 ], [ 86412022, 'k1', 200 ], [ 60000, 'k1', 200 ]);
my $merged = 'k0[0..0]=0 k0[70010..70010]=1 k0[0..10009]=5 k0[0..10010]=6 k1[10009..10009]=100 k1[10009..10010]=101 k1[86412022..86412022]=200 k1[60000..60000]=200';
my @cases = (
	{   name => 'c1', about => 'tumbling, out of order, nothing is late',
		rows => [ [ 0, 'k0', 0 ], [ 89999, 'k0', 1 ], [ 10009, 'k0', 5 ], [ 90000, 'k0', 0 ], [ 10010, 'k0', 6 ], [ 10009, 'k1', 100 ], [ 30000, 'k1', 101 ],
			[ 86412022, 'k1', 200 ], [ 60000, 'k1', 200 ] ],
		query => q(SELECT window_start, window_end, k, max(v) AS m FROM @S@, tumble(ts, '30 s') GROUP BY 1, 2, 3),
		show => "$window || m",
		final => 'k0[0,30000)=6 k0[60000,90000)=1 k0[90000,120000)=0 k1[0,30000)=100 k1[30000,60000)=101 k1[60000,90000)=200 k1[86400000,86430000)=200',
		changes => 'k0[0,30000)=0 k0[60000,90000)=1 k0[0,30000)=5 k0[90000,120000)=0 k0[0,30000)=6 k1[0,30000)=100 k1[30000,60000)=101 k1[86400000,86430000)=200 k1[60000,90000)=200' },
	{   name => 'c2', about => 'hopping 5 s by 1 s',
		rows => [ [ 10345, 'k0' ], [ 13251, 'k0' ] ],
		query => q(SELECT window_start, window_end, k, count(*) AS n FROM @S@, hop(ts, '5 s', '1 s') GROUP BY 1, 2, 3),
		show => "$window || n",
		final => 'k0[6000,11000)=1 k0[7000,12000)=1 k0[8000,13000)=1 k0[9000,14000)=2 k0[10000,15000)=2 k0[11000,16000)=1 k0[12000,17000)=1 k0[13000,18000)=1' },
	{   name => 'c3', about => 'sessions',
		rows => \@merging,
		query => q(SELECT window_start, window_end, k, max(v) AS m FROM @S@, session(ts, '30 s') GROUP BY 1, 2, 3),
		show => "$session || m",
		final => 'k0[0..10010]=6 k0[70010..70010]=1 k1[10009..10010]=101 k1[60000..60000]=200 k1[86412022..86412022]=200', changes => $merged },
	{   name => 'c3b', about => 'sessions merge, both gaps included',
		rows => [ @merging, [ 40010, 'k0', 2 ] ],
		query => q(SELECT window_start, window_end, k, max(v) AS m FROM @S@, session(ts, '30 s') GROUP BY 1, 2, 3),
		show => "$session || m",
		final => 'k0[0..70010]=6 k1[10009..10010]=101 k1[60000..60000]=200 k1[86412022..86412022]=200', changes => "$merged DEL k0[70010..70010]=1 k0[0..70010]=6" },
	{   name => 'c4', about => 'the gap is inclusive',
		rows => [ [ 0, 'k0' ], [ 10000, 'k0' ], [ 10000, 'k1' ], [ 40000, 'k1' ] ],
		query => q(SELECT window_start, window_end, k, count(*) AS n FROM @S@, session(ts, '30 s') GROUP BY 1, 2, 3),
		show => "$session || n", final => 'k0[0..10000]=2 k1[10000..40000]=2', changes => 'k0[0..0]=1 k0[0..10000]=2 k1[10000..10000]=1 k1[10000..40000]=2' },
	{   name => 'c4b', about => 'a final session closes strictly behind its gap', view => q(weir.emit = 'final', weir.lateness = '0'),
		rows => [ [ 0, 'k0' ], [ 10000, 'k0' ], [ 40000, 'k0' ], [ 70000, 'k1' ], [ 70001, 'k1' ], [ 70000, 'k0' ] ],
		after => [ undef, undef, undef, '', 'k0[0..40000]=3' ],
		query => q(SELECT window_start, window_end, k, count(*) AS n FROM @S@, session(ts, '30 s') GROUP BY 1, 2, 3),
		show => "$session || n", final => 'k0[0..40000]=3', changes => 'k0[0..40000]=3', once => 1, late => '70000' },
	{   name => 'c5', about => 'a final closes exactly at the end', view => q(weir.emit = 'final'),
		rows => [ [ 0, 'k1' ], [ 1, 'k1' ], [ 2, 'k1' ] ], after => [ undef, '', 'k1[0,2)=2' ],
		query => q(SELECT window_start, window_end, k, count(*) AS n FROM @S@, tumble(ts, '2 ms') GROUP BY 1, 2, 3),
		show => "$window || n", final => 'k1[0,2)=2', changes => 'k1[0,2)=2', once => 1 },
	{   name => 'c6', about => 'late inside the lateness, late after the close', view => q(weir.emit = 'final', weir.lateness = '1 ms'),
		rows => [ map { [ $_, 'k1' ] } 0, 1, 2, 1, 0, 5, 0 ],
		query => q(SELECT window_start, window_end, k, count(*) AS n FROM @S@, tumble(ts, '2 ms') GROUP BY 1, 2, 3),
		show => "$window || n", final => 'k1[0,2)=4 k1[2,4)=1', changes => 'k1[0,2)=4 k1[2,4)=1', once => 1, late => '0' },
	{   name => 'c7', about => 'HAVING',
		rows => [ [ 0, 'k0', 0 ], [ 0, 'k1', 101 ], [ 0, 'k1', -5 ] ],
		query => q(SELECT window_start, window_end, k, sum(v) AS n FROM @S@, tumble(ts, '30 s') GROUP BY 1, 2, 3 HAVING sum(v) > 100),
		show => "$window || n", final => '', changes => 'k1[0,30000)=101 DEL k1[0,30000)=101' },
	{   name => 'c8', about => 'a stream joined with a table, as it is at arrival', stepwise => 1,
		rows => [ 'T k0 b', [ 0, 'k0', 1 ], [ 1, 'k0', undef ], 'T k0', [ 2, 'k0', undef ], 'T', [ 3, 'k0', 1 ] ],
		query => q(SELECT CASE WHEN v IS NULL THEN 'null' ELSE 'a' END AS s, coalesce(t, 'null') AS t FROM @S@ s JOIN side USING (k)),
		show => q(s || '/' || t), final => 'a/b null/b null/null', changes => 'a/b null/b null/null' },
	{   name => 'c9', about => 'two streams, within 11 s before and 10 s after', two => 1,
		rows => [ [ 0, 'k0', 1 ], [ 11000, 'k0', 1, 'R' ], [ 12000, 'k10', 2 ], [ 13000, 'k0', 3 ], [ 15000, 'k0', 2, 'R' ], [ 16000, 'k100', 3, 'R' ], [ 17000, 'k90', 4 ], [ 30000, 'k0', 5 ] ],
		query => q(SELECT l.v AS lv, r.v AS rv FROM @S@ l JOIN @R@ r ON l.k = r.k AND r.ts BETWEEN l.ts - interval '11 s' AND l.ts + interval '10 s'),
		show => q(format('l%s/r%s', lv, rv)), final => 'l3/r1 l3/r2', changes => 'l3/r1 l3/r2', once => 1 },
	{   name => 'c10', about => 'closed by the clock', stream => q(weir.idle_timeout = '1 s'), view => q(weir.emit = 'final'), clock => 1,
		rows => [ [ 0, 'k1' ], [ 1, 'k1' ] ],
		query => q(SELECT window_start, window_end, k, count(*) AS n FROM @S@, tumble(ts, '2 ms') GROUP BY 1, 2, 3),
		show => "$window || n", final => 'k1[0,2)=2', changes => 'k1[0,2)=2', once => 1 },
	{   name => 'c11', about => 'clocks from the future', view => q(weir.emit = 'final'), bad => 1,
		rows => [ [ 0, 'k1' ], [ 253370764800000, 'k1' ], [ 1, 'k1' ], [ 2, 'k1' ], [ 3, 'k1' ] ],
		query => q(SELECT window_start, window_end, k, count(*) AS n FROM @S@, tumble(ts, '2 ms') GROUP BY 1, 2, 3),
		show => "$window || n", final => 'k1[0,2)=2', changes => 'k1[0,2)=2', once => 1 },);

sub sql { my ($sql) = @_; return $node->safe_psql('postgres', $sql); }

sub change_side
{
	my ($row) = @_;
	my (undef, $k, $v) = split / /, $row;
	sql('DELETE FROM side' . (defined $k ? "; INSERT INTO side VALUES ('$k', " . (defined $v ? "'$v'" : 'NULL') . ')' : ''));
	return;
}

sub values_of { return join(', ', map { sprintf "(ms(%s), '%s', %s)", $_->[0], $_->[1], $_->[2] // 'NULL' } @_); }

sub message
{
	my ($row) = @_;
	return sprintf '{"ts": %s, "k": "%s", "v": %s}', $row->[0], $row->[1], $row->[2] // 'null';
}

my @present = ();    # of the case at hand: how the view's rows are read

# Feeds some rows; what is bad is refused in an INSERT.
sub feed
{
	my ($case, $way, $stream, $topic, @rows) = @_;
	if ($case->{two} && grep { $_->[3] } @rows)
	{
		my @right = map { [ @$_[ 0 .. 2 ] ] } grep { $_->[3] } @rows;
		feed($case, $way, $stream, $topic, grep { !$_->[3] } @rows);
		return feed($case, $way, "$stream\_r", ($topic // '') . '-r', @right);
	}
	return unless @rows;
	if ($way eq 'kafka')
	{
		kafka()->put($topic, map { message($_) } @rows);
		wait_for($node, $stream);
		return;
	}
	if ($case->{bad})
	{
		my @future = grep { $_->[0] > 1e14 } @rows;
		@rows = grep { $_->[0] <= 1e14 } @rows;
		for (@future)
		{
			my ($ret, $out, $err) = $node->psql('postgres', "INSERT INTO $stream VALUES " . values_of($_));
			like($err, qr/ahead of the clock/, "$case->{name}, $way: a row from the future is refused");
		}
	}
	sql("INSERT INTO $stream VALUES " . values_of(@rows)) if @rows;
	return;
}

for my $case (@cases)
{
	for my $way (qw(rowwise whole kafka message))
	{
		next if $case->{stepwise} && $way =~ /whole|kafka/;
		my ($stream, $view) = ("$case->{name}_$way", "$case->{name}_$way\_view");
		my $name = "$case->{name}, $way";
		my $topic;
		my @with = ("weir.event_time = 'ts'", "weir.late = 'keep'", $case->{stream} // "weir.idle_timeout = 'off'", "weir.keep = '1000 days'");
		if ($way =~ /kafka|message/)
		{
			$topic = topic($stream);
		}
		for my $right ('', $case->{two} ? '_r' : ())
		{
			my $from = 'weir.stream';
			if ($topic)
			{
				my $name = $topic . $right =~ s/_/-/r;
				kafka()->create($name, 1);
				$from = "weir.server = 'kafka', weir.topic = '$name'";
			}
			sql("CREATE TABLE $stream$right (ts timestamptz, k text, v int) WITH (" . join(', ', $from, @with) . ')');
		}
		my $query = $case->{query} =~ s/\@S\@/$stream/gr =~ s/\@R\@/$stream\_r/gr;
		my $show = $case->{show};
		sql("CREATE MATERIALIZED VIEW $view WITH (" . join(', ', 'weir.continuous', $case->{view} // ()) . ") AS $query");
		sql("CREATE TRIGGER see AFTER INSERT OR UPDATE OR DELETE ON $view FOR EACH ROW EXECUTE FUNCTION see(" . q(') . $show =~ s/'/''/gr . q(') . ')');
		my $rows = "SELECT coalesce(string_agg(r, ' ' ORDER BY o, r), '') FROM (SELECT $show AS r, " . ($show =~ /window_start/ ? "k || lpad(ms(window_start)::text, 12, '0')" : "''") . " AS o FROM $view) x";
		my @rows = @{ $case->{rows} };

		if ($way =~ /whole|kafka/)
		{
			feed($case, $way, $stream, $topic, @rows);
		}
		else
		{
			for my $i (0 .. $#rows)
			{
				if (!ref $rows[$i]) { change_side($rows[$i]); next; }
				feed($case, $way eq 'message' ? 'kafka' : $way, $stream, $topic, $rows[$i]);
				is(sql($rows), $case->{after}[$i], "$name: after row " . ($i + 1)) if defined $case->{after}[$i];
			}
		}
		eventually($node, $rows, "$name: $case->{about}", $case->{final}) if $case->{clock};
		is(sql($rows), $case->{final}, "$name: $case->{about}") unless $case->{clock};
		is(sql("SELECT coalesce(string_agg(change, ' ' ORDER BY n), '') FROM log WHERE view = '$view'"), $case->{changes}, "$name: changes")
		  if defined $case->{changes} && ($case->{once} || $way =~ /rowwise|message/);
		is(sql("SELECT coalesce(string_agg(ms(event_time)::text, ' '), '') FROM weir.late_rows WHERE view = '$view'::regclass"), $case->{late} // '', "$name: late rows");
		is(sql("SELECT late FROM weir.stat_views WHERE view = '$view'::regclass"), defined $case->{late} ? 1 : 0, "$name: and their number");
		is(sql("SELECT bad FROM weir.stat_streams WHERE stream = '$stream'::regclass AND partition = 0"), $case->{bad} // 0, "$name: bad rows") if $topic;
		next if $case->{stepwise};    # the table is another one now
		verified($node, $view, "$name: verify");
	}
}

$node->stop;
done_testing();
