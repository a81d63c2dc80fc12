/*
 * instant.c
 *	  Finals of queries without windows: each row of the result has a time, and comes when the watermark has passed that.
 *
 * atclose ⇒ instant ⇒ apply (close). Three kinds of queries give rows that have a time and do not change once all
 * rows up to it are there:
 *	- a join of streams with a bound on their event times: the latest time of the rows that meet. A row without a match
 *	  has its own. So both come when the watermark is behind that by the join's reach (close_shift): nothing in time can
 *	  meet them any more.
 *	- the first row per key, by event time: DISTINCT ON (k) ... ORDER BY k, ts, or row_number() OVER (PARTITION BY k ORDER BY ts) = 1.
 *	  What is older than the watermark has no earlier one to come. The view itself knows the keys it has.
 *	- moving frames over the event time (over.c).
 * As with windows nothing is done per batch; a close runs the query over the kept rows, for the times from what was closed to
 * what closes now (exclusive), and inserts what it gives. The conditions are made here, on weir.closed_until() and
 * weir.closing_until().
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/tlist.h"
#include "parser/parsetree.h"
#include "utils/lsyscache.h"
#include "delta/delta.h"
#include "view/join.h"
#include "view/parts.h"
#include "view/recompute.h"
#include "view/shape.h"

/* Only rows whose time is not closed yet, and closes now. */
static void
only_closing(Query *query, Expr *time)
{
	weir_add_where(query, weir_boolean_test(weir_before(time, weir_final_time("closed_until")), IS_NOT_TRUE));
	weir_add_where(query, weir_before(copyObject(time), weir_final_time("closing_until")));
}

/* --- joins ------------------------------------------------------------------------------ */

/* The latest event time of the rows that meet in a join. */
static Expr *
time_of_join(Query *join)
{
	MinMaxExpr *latest = makeNode(MinMaxExpr);
	ListCell   *lc;

	latest->minmaxtype = TIMESTAMPTZOID;
	latest->op = IS_GREATEST;
	latest->location = -1;
	foreach(lc, weir_join_items(join))
	{
		RangeTblEntry *rte = rt_fetch(lfirst_int(lc), join->rtable);
		AttrNumber	attno = weir_late_expose_in(rte->subquery, WEIR_COL_EVENT_TIME, rte);

		latest->args = lappend(latest->args, makeVar(lfirst_int(lc), attno, TIMESTAMPTZOID, -1, InvalidOid, 0));
	}
	return (Expr *) latest;
}

/*
 * weir_instant_join makes a query that joins streams, and has no windows, give the rows that close, in place; false if
 * it is not of this kind. What is late, and how much must be kept, is join.c's.
 */
bool
weir_instant_join(ViewShape *shape)
{
	List	   *joins = weir_join_find(shape->query);
	Query	   *join;

	if (!shape->joins || shape->recompute || list_length(joins) != 1 || weir_has_window(shape->query))
		return false;
	join = linitial(joins);
	if (weir_join_bounds(join)->n != list_length(weir_join_items(join)))
		weir_refuse(shape->name, "weir.emit = 'final': a side of a join of streams is a sub-select that joins streams.",
					"Write all joins into one FROM.");
	only_closing(join, time_of_join(join));
	shape->instants = true;
	return true;
}

/* --- the first row per key ---------------------------------------------------------------- */

/* Is the first thing that picks among the rows of a key their event time, the earliest? */
static bool
by_event_time(Query *level)
{
	WindowClause *window = level->windowClause ? linitial_node(WindowClause, level->windowClause) : NULL;
	List	   *order = window ? window->orderClause : level->sortClause;
	ListCell   *lc;

	foreach(lc, order)
	{
		SortGroupClause *clause = lfirst(lc);
		bool		reverse;

		if (!window && get_sortgroupref_clause_noerr(clause->tleSortGroupRef, level->distinctClause))
			continue;
		return OidIsValid(get_equality_op_for_ordering_op(clause->sortop, &reverse)) && !reverse &&
			weir_is_event_time(level, get_sortgroupclause_expr(clause, level->targetList));
	}
	return false;
}

/*
 * weir_instant_late_rows: SELECT partition, offset, event time, NULL, the row, of those late ones of a level. after: rows of the result
 * depend on rows so much later, microseconds.
 */
Query *
weir_instant_late_rows(Query *level, LateRule *rule, int64 after)
{
	Query	   *late = weir_recompute_linear_part(level, NIL);
	Expr	   *time = weir_late_expose(late, WEIR_COL_EVENT_TIME);

	weir_add_where(late, makeBoolExpr(OR_EXPR, list_make2(weir_before(copyObject(time), weir_late_deadline(late, rule, false)),
														  weir_before(copyObject(time), weir_time_later(weir_final_time("closed_until"), after))), -1));
	weir_late_select_rows(late);
	return late;
}

/* weir_instant_in_time leaves late rows out of a level. */
void
weir_instant_in_time(Query *level, LateRule *rule)
{
	Expr	   *time = weir_late_expose(level, WEIR_COL_EVENT_TIME);

	weir_add_where(level, weir_boolean_test(weir_before(time, weir_late_deadline(level, rule, false)), IS_NOT_TRUE));
}

/* weir_instant_closing_from leaves the rows of a level that were not closed before; until_close: and none behind what closes now. */
void
weir_instant_closing_from(Query *level, bool until_close)
{
	Expr	   *time = weir_late_expose(level, WEIR_COL_EVENT_TIME);

	if (until_close)
		only_closing(level, time);
	else
		weir_add_where(level, weir_boolean_test(weir_before(time, weir_final_time("closed_until")), IS_NOT_TRUE));
}

/* weir_instant_only_closing leaves those rows of a level whose event time closes now. */
void
weir_instant_only_closing(Query *level)
{
	only_closing(level, weir_late_expose(level, WEIR_COL_EVENT_TIME));
}

/*
 * weir_instant_first does so with a query that picks the first row per key by event time; false if it is not of this
 * kind. Raises 0A000 where the keys would be forgotten.
 */
bool
weir_instant_first(ViewShape *shape, LateRule *rule)
{
	Recompute  *recompute = shape->recompute;
	Query	   *level;

	if (recompute == NULL || shape->joins || recompute->windowed || weir_has_window(shape->query) || recompute->keys == NIL)
		return false;
	weir_topn_choose(shape);
	level = llast(recompute->levels);
	if (!recompute->from_result || !recompute->unique || recompute->limit > 1 || !by_event_time(level))
		weir_refuse(shape->name, "weir.emit = 'final' without a window: only the first row per key, by event time, never changes.",
					"SELECT DISTINCT ON (key) ... ORDER BY key, the event-time column; or put window_start of tumble() into each GROUP BY, DISTINCT ON and PARTITION BY. The last row per key is kept without weir.emit, or as final when none follows within an interval: count(*) OVER (PARTITION BY key ORDER BY the event time RANGE BETWEEN CURRENT ROW AND an interval FOLLOWING) = 1.");
	if (rule->keep || rule->passes)
		weir_refuse(shape->name, "weir.keep of a view with the first row of each key: a key would come again once its row has gone.",
					"Leave out weir.keep; or make it the first row per key and window, with window_start of tumble() in DISTINCT ON.");
	weir_arrival_ties(level);
	weir_late_note(shape->streams, rule);
	shape->late = weir_instant_late_rows(level, rule, 0);
	weir_instant_in_time(level, rule);
	weir_instant_only_closing(level);
	shape->instants = true;
	shape->first = true;
	return true;
}
