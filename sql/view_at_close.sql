-- Finals of queries whose states cannot be merged: run over the kept rows when a window closes.
SET timezone = 'UTC';
SET client_min_messages = warning;
CREATE SCHEMA at_close;
SET search_path = at_close, public;
create table s (ts timestamptz, k text, v int) with (weir.stream, weir.event_time='ts', weir.keep='1 hour', weir.idle_timeout='off', weir.late='keep');
create unlogged table un (ts timestamptz, k text, v int) with (weir.stream, weir.event_time='ts', weir.keep='1 hour');
create table short (ts timestamptz, k text, v int) with (weir.stream, weir.event_time='ts', weir.keep='1 min');
create table log(n serial, t text);
create function logf() returns trigger language plpgsql as $$ begin insert into at_close.log(t) values (tg_table_name ||' '|| to_jsonb(new)::text); return null; end $$;
create materialized view p with (weir.continuous, weir.emit='final') as select window_start, k, percentile_cont(0.5) within group (order by v) as median, count(distinct v) d, array_agg(v order by v) as all_v from s, tumble(ts,'1 min') group by 1,2;
create trigger l after insert or update or delete on p for each row execute function logf();
create materialized view r with (weir.continuous, weir.emit='final', weir.lateness='5 s') as select * from (select window_start, k, v, rank() over (partition by window_start order by v desc) rk from s, hop(ts,'1 min', '30 s')) x where rk <= 2;
create materialized view a with (weir.continuous, weir.emit='final') as select window_end, k, v from s, tumble(ts,'1 min') where v > 5;
create materialized view n with (weir.continuous, weir.emit='final') as select window_start, max(n), avg(n) from (select window_start, k, count(*) n from s, tumble(ts,'1 min') group by 1,2) x group by 1;
create materialized view bad1 with (weir.continuous, weir.emit='final') as select window_start, k, rank() over (order by v desc) rk from s, tumble(ts,'1 min');
create materialized view bad2 with (weir.continuous, weir.emit='final') as select window_start, k, v from un, tumble(ts,'1 min');
create materialized view bad3 with (weir.continuous, weir.emit='final') as select window_start, k, v from short, tumble(ts,'1 hour');
create materialized view bad4 with (weir.continuous, weir.emit='final') as select k, v from s;
create materialized view bad5 with (weir.continuous, weir.emit='final') as select k, percentile_cont(0.5) within group (order by v) as median from s, tumble(ts, '1 min') group by k;
select view, strategy from weir.views order by view::text;
insert into s values ('2024-01-01 00:00:01','a',1),('2024-01-01 00:00:11','a',10),('2024-01-01 00:00:21','b',7),('2024-01-01 00:00:31','a',4);
table p;
insert into s values ('2024-01-01 00:01:05','b',7);
table p; table r; table a; table n;
insert into s values ('2024-01-01 00:00:59','b',7);
insert into s values ('2024-01-01 00:01:15','b',7);
insert into s values ('2024-01-01 00:02:06','b',9);
table p; table r; table a; table n;
table log;
select 'p', * from weir.verify('p') union all select 'r', * from weir.verify('r') union all select 'a', * from weir.verify('a') union all select 'n', * from weir.verify('n');
table weir.view_close;
create materialized view p2 with (weir.continuous, weir.emit='final') as select window_start, k, percentile_cont(0.5) within group (order by v) as median, count(distinct v) d, array_agg(v order by v) as all_v from s, tumble(ts,'1 min') group by 1,2;
table p except table p2;
select setseed(0.1);
do $$ begin for i in 1..300 loop insert into at_close.s select timestamptz '2024-01-01 00:02:10' + i * interval '1 s' - random()*random()*interval '20 s', 'k' || (random()*3)::int, (random()*50)::int; end loop; end $$;
select 'p', * from weir.verify('p') union all select 'r', * from weir.verify('r') union all select 'a', * from weir.verify('a') union all select 'n', * from weir.verify('n') union all select 'p2', * from weir.verify('p2');

select line from weir.explain('r') as line where line ~ '^ ?(strategy|why)';
select view, window_start, record->>'k' as k from weir.late_rows order by view::text, "offset" limit 4;
select view, rows_in, late > 0 as some_late from weir.stat_views order by view::text;

-- arguments of window functions by name, in any order
create materialized view named with (weir.continuous, weir.emit='final') as select window_start, count(distinct k) as n from s, tumble(size => '1 min', ts => ts) group by 1;
create materialized view unnamed with (weir.continuous, weir.emit='final') as select window_start, count(distinct k) as n from s, tumble(ts, '1 min') group by 1;
select count(*) > 0 as some from named;
table named except table unnamed;
-- a local day of 25 hours: all of it is read, also when the stream time has come into its last hour before
create table z (ts timestamptz, v int) with (weir.stream, weir.event_time='ts', weir.keep='10 days', weir.idle_timeout='off');
create materialized view days with (weir.continuous, weir.emit='final') as
  select window_start, window_end - window_start as length, array_agg(v order by v) as vs from z, tumble(ts, '1 day', 'Europe/Berlin') group by window_start, window_end;
insert into z values ('2024-10-26 22:10Z', 1);
insert into z values ('2024-10-27 22:30Z', 2);
insert into z values ('2024-10-27 23:30Z', 3);
table days;
select * from weir.verify('days');
alter table z set (weir.keep = '100 days');
-- and a month that begins on a 29th because there is no 31st
create materialized view months with (weir.continuous, weir.emit='final') as
  select window_start, window_end, array_agg(v order by v) as vs from z, tumble(ts, '1 month', origin => timestamptz '2024-01-31 00:00Z') group by 1, 2;
insert into z values ('2025-02-28 01:00Z', 4);
insert into z values ('2025-03-30 23:00Z', 5);
insert into z values ('2025-04-01 00:00Z', 6);
select * from months where window_start > '2025-01-01';
select * from weir.verify('months');
-- windows of cumulate() begin together: only the end tells them apart
create materialized view by_start with (weir.continuous, weir.emit='final') as
  select window_start, array_agg(v order by v) as vs from z, cumulate(ts, '4 h', '1 h') group by 1;
create materialized view united with (weir.continuous, weir.emit='final') as
  select window_start, array_agg(v order by v) as vs from (select window_start, v from z, tumble(ts, '4 h') union all select window_start, v from z, cumulate(ts, '4 h', '1 h')) u group by 1;
create materialized view by_end with (weir.continuous, weir.emit='final') as
  select window_end, array_agg(v order by v) as vs from z, cumulate(ts, '4 h', '1 h') group by 1;
insert into z values ('2025-04-01 01:30Z', 7), ('2025-04-01 09:00Z', 8);
select * from by_end where window_end > '2025-04-01 00:00Z' order by 1;
drop schema at_close cascade;
