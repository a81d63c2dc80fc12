/*
 * atclose.c
 *	  Final views that cannot merge states: their query is run over the kept rows when windows close.
 *
 * aggregates ⇒ atclose ⇒ apply (close). For filters and projections of a windowed
 * stream, and for what else a window of rows can be asked: percentiles, count(DISTINCT), rank() OVER,
 * DISTINCT ON, aggregates over aggregates. Nothing is kept per batch; late rows are counted. At a
 * close the definition is run over the rows kept, restricted to the windows that
 * close (late.c), and its rows are inserted.
 *
 * That equals the query as a whole if no row of the result depends on rows of two
 * windows: the window must be a key of every level that groups, numbers
 * or makes distinct (levels.c finds that out).
 */
#include "postgres.h"

#include "catalog/catalog.h"
#include "catalog/pg_type.h"
#include "catalog/stream.h"
#include "delta/segments.h"
#include "executor/executor.h"
#include "executor/tstoreReceiver.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/parsetree.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/ruleutils.h"
#include "utils/timestamp.h"
#include "view/close.h"
#include "view/join.h"
#include "view/over.h"
#include "view/recompute.h"
#include "view/shape.h"
#include "view/upstream.h"
#include "view/watermark.h"
#include "view/windowed.h"

/* A local day may be so much longer than its interval says, and a month that ends on its origin's 31st so many days. */
#define LONGEST_SHIFT	(3 * USECS_PER_HOUR)
#define LONGEST_MONTH	3

/* --- which windows ------------------------------------------------------------------- */

typedef struct Windows
{
	const char *name;
	List	   *calls;			/* of FuncExpr */
} Windows;

static void
take_window(Windows *windows, Query *query, RangeTblEntry *rte)
{
	FuncExpr   *call = weir_window_call(rte);

	if (!weir_is_event_time(query, linitial(call->args)))
		weir_refuse(windows->name, "weir.emit = 'final' closes windows by the stream's event time, and this window is over something else.",
					"Give the window function the column of weir.event_time (or _timestamp where the stream has none), or leave out weir.emit.");
	for (int i = 1; i < list_length(call->args); i++)
	{
		if (!IsA(list_nth(call->args, i), Const))
			weir_refuse(windows->name, "A final view that is run when its windows close needs windows of constant size.",
						"Write the sizes as literals.");
	}
	windows->calls = lappend(windows->calls, call);
}

/* Every row of a stream must go through a window, on its level or above. */
static void
find_windows(Windows *windows, Query *query)
{
	bool		covered = false;
	ListCell   *lc;

	check_stack_depth();
	foreach(lc, query->rtable)
	{
		RangeTblEntry *rte = lfirst(lc);

		if (weir_is_window(rte))
		{
			take_window(windows, query, rte);
			covered = true;
		}
	}
	foreach(lc, query->rtable)
	{
		RangeTblEntry *rte = lfirst(lc);

		if (rte->rtekind == RTE_NAMEDTUPLESTORE)
			weir_refuse(windows->name, "weir.emit = 'final' inserts rows when their window closes, and rows of a stream go through no window.",
						"Put tumble(), hop() or cumulate() beside the stream into FROM.");
		if (!covered && rte->rtekind == RTE_SUBQUERY && weir_query_has_delta((Node *) rte->subquery))
			find_windows(windows, rte->subquery);
	}
	foreach(lc, query->cteList)
	{
		CommonTableExpr *cte = lfirst(lc);

		if (!covered && weir_query_has_delta(cte->ctequery))
			find_windows(windows, (Query *) cte->ctequery);
	}
}

static Interval *
window_size(FuncExpr *call)
{
	return DatumGetIntervalP(((Const *) lsecond(call->args))->constvalue);
}

/* The later of two intervals; either may be NULL. */
static Interval *
longer(Interval *a, Interval *b)
{
	if (a == NULL || b == NULL)
		return a ? a : b;
	return DatumGetBool(DirectFunctionCall2(interval_gt, IntervalPGetDatum(a), IntervalPGetDatum(b))) ? a : b;
}

static Interval *
longest(List *calls)
{
	Interval   *result = NULL;
	ListCell   *lc;

	foreach(lc, calls)
	{
		FuncExpr   *call = lfirst(lc);
		Interval   *size = palloc(sizeof(Interval));

		*size = *window_size(call);
		size->time += exprType(llast(call->args)) == TEXTOID ? LONGEST_SHIFT : 0;
		size->day += size->month != 0 ? LONGEST_MONTH : 0;
		result = longer(result, size);
	}
	return result;
}

static Interval *
microseconds(int64 span)
{
	Interval   *result = palloc0(sizeof(Interval));

	result->time = span;
	return result;
}

/* --- is enough kept? -------------------------------------------------------------------- */

static void
check_stream(ViewShape *shape, Stream *stream, Interval *lateness)
{
	Interval   *needed = shape->window_span;

	if (!stream->logged && stream->server == NULL)
		weir_refuse(shape->name, psprintf("The query is run over the kept rows when a window closes. After a crash they would be gone: stream %s is unlogged and fed by INSERT only.", stream->name),
					"CREATE TABLE instead of CREATE UNLOGGED TABLE.");
	if (lateness == NULL)
		lateness = stream->lateness;
	if (lateness)
		needed = DatumGetIntervalP(DirectFunctionCall2(interval_pl, IntervalPGetDatum(needed), IntervalPGetDatum(lateness)));
	if (shape->close_shift)
		needed = DatumGetIntervalP(DirectFunctionCall2(interval_pl, IntervalPGetDatum(needed), IntervalPGetDatum(microseconds(shape->close_shift))));
	if (DatumGetBool(DirectFunctionCall2(interval_lt, IntervalPGetDatum(stream->keep), IntervalPGetDatum(needed))))
		weir_refuse(shape->name, psprintf(shape->over ? "The query is run over the kept rows, and stream %s keeps rows for less than frames reach, and the lateness." :
										  "The query is run over the kept rows when a window closes, and stream %s keeps rows for less than the window and its lateness.", stream->name),
					psprintf("ALTER TABLE %s SET (weir.keep = '%s').", stream->name,
							 DatumGetCString(DirectFunctionCall1(interval_out, IntervalPGetDatum(needed)))));
}

/* Whatever its form is, it is run at close. */
static void
set_at_close(ViewShape *shape, LateRule *rule)
{
	ListCell   *lc;

	foreach(lc, shape->streams)
		check_stream(shape, weir_source_require(lfirst_oid(lc)), rule->lateness);
	shape->recompute = NULL;
	shape->exclusive = false;
	shape->at_close = true;
	shape->in_place = true;
	shape->strategy = "at close";
	shape->why = "the query is run over the rows kept when a window closes";
}

/*
 * weir_atclose_windowed completes the shape of a final view, all parts of whose query belong to one window; raises
 * 0A000 for what does not.
 */
void
weir_atclose_windowed(ViewShape *shape, LateRule *rule)
{
	Windowed   *windowed = weir_windowed_analyse(shape->query, shape->name);
	ListCell   *lc;

	foreach(lc, windowed->parts)
	{
		WindowPart *part = lfirst(lc);

		if (part->again)
			continue;
		weir_arrival_order(part->level);
		if (!weir_join_level(part->level))
			weir_arrival_ties(part->level);
	}
	shape->window_calls = windowed->calls;
	shape->window_span = longer(longest(windowed->calls), microseconds(windowed->before));
	shape->window_before = windowed->before > 0 || list_length(windowed->calls) > 1 ? weir_interval_longest(shape->window_span) : 0;
	shape->unsure = windowed->unsure;
	shape->outer = windowed->outer;
	shape->close_shift = windowed->after;
	weir_windowed_late(shape, windowed, rule);
	set_at_close(shape, rule);
}

/*
 * weir_atclose_make completes the shape of a final view whose query is run at close: leaves
 * late rows and expired conditions to late.c, and raises 0A000 for what would not be right.
 */
void
weir_atclose_make(ViewShape *shape, LateRule *rule)
{
	Windows		windows = {shape->name, NIL};

	if (weir_instant_join(shape) || weir_over_make(shape, rule) || weir_instant_first(shape, rule))
	{
		shape->window_span = microseconds(shape->window_before);
		if (shape->joins)
			weir_late_filter(shape, rule);
		set_at_close(shape, rule);
		shape->exclusive = shape->remembered > 0;
		shape->in_place = !shape->exclusive;
		shape->why = shape->remembered > 0 ? "rows of the result come from the rows that close and the last rows of their keys, which are remembered" :
			shape->over ? "rows of the result come from the rows kept when all that their frames hold has come" :
			shape->first ? "the first row of a key comes from the rows kept when nothing earlier can come" :
			"pairs come from the rows kept when nothing can meet their rows any more";
		return;
	}
	if (shape->recompute && !shape->recompute->windowed && !shape->joins)
	{
		weir_atclose_windowed(shape, rule);
		return;
	}
	if (shape->recompute && !shape->recompute->windowed)
		weir_refuse(shape->name, "Rows of the result would depend on rows of several windows.",
					"Put window_start into the select list and into each GROUP BY, DISTINCT ON and PARTITION BY.");
	if (shape->recompute && !shape->recompute->one_window)
		weir_refuse(shape->name, "Rows of the result would depend on rows of several windows: those of cumulate() begin together.",
					"Put window_end into the select list and into each GROUP BY, DISTINCT ON and PARTITION BY.");
	find_windows(&windows, shape->query);
	shape->window_calls = windows.calls;
	shape->window_span = longest(windows.calls);
	if (shape->recompute)
	{
		ViewShape	lowest = *shape;

		lowest.query = weir_recompute_linear_part(llast(shape->recompute->levels), NIL);
		weir_late_filter(&lowest, rule);
		weir_late_filter(shape, rule);
		shape->late = lowest.late;
	}
	else
		weir_late_filter(shape, rule);
	set_at_close(shape, rule);
}

/* --- statements ----------------------------------------------------------------------------- */

/* ON CONFLICT (the view's key) DO NOTHING: it has the key's first row already */
static char *
not_again(ViewShape *shape, Oid result)
{
	StringInfoData keys;
	ListCell   *lc;

	initStringInfo(&keys);
	foreach(lc, shape->keys)
		appendStringInfo(&keys, "%s%s", keys.len ? ", " : "",
						 quote_identifier(get_attname(result, weir_live_column(result, lfirst_node(TargetEntry, lc)->resno), false)));
	return psprintf("\n ON CONFLICT (%s) DO NOTHING", keys.data);
}

/* INSERT INTO v SELECT ... of the windows that close */
Query *
weir_atclose_statement(ViewShape *shape, Oid result, Oid state)
{
	List	   *targets = shape->query->targetList;
	int			n = list_length(targets);
	Query	   *query;
	Query	   *closed = weir_final_closed(shape);

	if (shape->remembered > 0)
		weir_over_with_memory(closed, state);
	query = weir_statement_parse(psprintf("INSERT INTO %s AS t (%s) SELECT %s FROM %s AS %s%s",
										  weir_relation_name(result), weir_text_names("", weir_statement_columns(result, targets)),
										  weir_text_numbered(WEIR_FINAL ".", n), weir_statement_placeholder(targets),
										  weir_text_aliases(WEIR_FINAL, n), shape->first ? not_again(shape, result) : ""));
	weir_statement_splice(query, WEIR_FINAL, closed);
	return query;
}

/*
 * weir_atclose_next returns SELECT min(end) of the windows that hold the time
 * weir.closed_until(): the next one to close. NULL where that time is in no window.
 */
Query *
weir_atclose_next(ViewShape *shape)
{
	StringInfoData sql;
	ListCell   *lc;

	if (shape->instants)
		return weir_statement_parse("SELECT weir.closed_until()");
	initStringInfo(&sql);
	appendStringInfoString(&sql, "SELECT pg_catalog.min(w.e) FROM (");
	foreach(lc, shape->window_calls)
	{
		FuncExpr   *call = lfirst(lc);
		bool		zoned = exprType(linitial(call->args)) == TIMESTAMPTZOID;

		appendStringInfo(&sql, "%sSELECT %s FROM %s(%s", sql.data[sql.len - 1] == '(' ? "" : " UNION ALL ",
						 zoned ? "f.window_end AS e" : "pg_catalog.timezone('UTC'::pg_catalog.text, f.window_end) AS e",
						 quote_qualified_identifier(get_namespace_name(get_func_namespace(call->funcid)), get_func_name(call->funcid)),
						 zoned ? "weir.closed_until()" : "pg_catalog.timezone('UTC'::pg_catalog.text, weir.closed_until())");
		for (int i = 1; i < list_length(call->args); i++)
			appendStringInfo(&sql, ", %s", deparse_expression(list_nth(call->args, i), NIL, false, false));
		appendStringInfoString(&sql, ") AS f");
	}
	appendStringInfoString(&sql, ") AS w");
	return weir_statement_parse(sql.data);
}

/* --- running ----------------------------------------------------------------------------------- */

/* weir_atclose_end runs the statement of weir_atclose_next; DT_NOBEGIN: not known. */
TimestampTz
weir_atclose_end(PlannedStmt *next, QueryEnvironment *env)
{
	Tuplestorestate *rows = tuplestore_begin_heap(false, false, 64);
	DestReceiver *dest = CreateTuplestoreDestReceiver();
	TupleTableSlot *slot = MakeSingleTupleTableSlot(ExecCleanTypeFromTL(next->planTree->targetlist), &TTSOpsMinimalTuple);
	TimestampTz result = DT_NOBEGIN;

	SetTuplestoreDestReceiverParams(dest, rows, CurrentMemoryContext, false, NULL, NULL);
	(void) weir_run_plan(next, "next end of a window", env, dest);
	if (tuplestore_gettupleslot(rows, true, false, slot))
	{
		bool		isnull;
		Datum		value = slot_getattr(slot, 1, &isnull);

		if (!isnull)
			result = DatumGetTimestampTz(value);
	}
	ExecDropSingleTupleTableSlot(slot);
	tuplestore_end(rows);
	return result;
}

/* weir_atclose_deltas reads the kept rows that may be in a window that closes now. */
List *
weir_atclose_deltas(View *view, Interval *span)
{
	List	   *deltas = NIL;
	TimestampTz from = weir_window_times.closed;
	TimestampTz until = weir_window_times.closing;
	int64		apart = weir_close_shift(view);	/* what a row of a window meets may be in none of them */
	ListCell   *lc;

	if (!TIMESTAMP_NOT_FINITE(until))
		until += apart;
	if (!TIMESTAMP_NOT_FINITE(from))
		from = weir_time_window_back(from, span) - apart;
	foreach(lc, view->streams)
	{
		char	   *since = weir_view_since(view, lfirst_oid(lc));
		Delta	   *delta;
		StringInfoData qual;

		initStringInfo(&qual);
		appendStringInfo(&qual, "%s", since ? psprintf("(%s)", since) : "true");
		if (!TIMESTAMP_NOT_FINITE(from))
			appendStringInfo(&qual, " AND " WEIR_COL_EVENT_TIME " >= %s::timestamptz", weir_time_literal(from));
		if (!TIMESTAMP_NOT_FINITE(until))
			appendStringInfo(&qual, " AND " WEIR_COL_EVENT_TIME " < %s::timestamptz", weir_time_literal(until));
		delta = weir_segments_read(weir_stream_require(lfirst_oid(lc)), qual.data);
		/* what was behind when it came has no part in rows that close now */
		deltas = lappend(deltas, view->instants ? weir_behind_lift(view, delta) : delta);
	}
	foreach(lc, view->upstreams)
	{
		char	   *since = weir_view_since(view, lfirst_oid(lc));
		char	   *between = weir_upstream_between(lfirst_oid(lc), from, weir_window_times.closing);

		deltas = lappend(deltas, weir_source_read(lfirst_oid(lc), psprintf("%s AND %s", since ? since : "true", between ? between : "true")));
	}
	return deltas;
}
