/*
 * over.c
 *	  Finals of OVER without windows in FROM: moving frames over the event time.
 *
 * atclose ⇒ over ⇒ apply (close). A row's moving sum, count or average over the rows up to its own event time does not
 * change once all rows up to there have come. So each row of the stream gives its row of the result when the
 * watermark, less the lateness, is past its event time. Frames must be in the order of event time, and reach back (and forth) by
 * a constant interval: a close runs the query over the kept rows from that far before what was closed, and
 * inserts the rows whose time closes now. What reaches back by a number of rows, or to the
 * beginning, is not told by the rows of a time: it is remembered (over_memory.c).
 *
 * Levels above may filter and compute, or be OVER again: their reaches add up. Where ROWS, lag() or row_number() ask for the order
 * of rows with equal event times, and ORDER BY leaves it open, it is that of arrival.
 */
#include "postgres.h"

#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "optimizer/tlist.h"
#include "parser/parsetree.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"
#include "view/join.h"
#include "view/over.h"
#include "view/parts.h"
#include "view/recompute.h"

/* How far frames reach from the time of their row, microseconds. */
typedef struct Reach
{
	const char *name;			/* of the view, for messages */
	Query	   *level;
	int64		before;
	int64		after;
	bool		remembers;		/* they go back by rows, or to the beginning */
	int64		rows;			/* by so many rows at most */
	List	   *partition;		/* of the first one: expressions */
	bool		partitioned;	/* which is known */
	bool		several;		/* others have another */
} Reach;

#define OVER_ALIAS	WEIR_HIDDEN_PREFIX "over"

/* --- is it such a query? ------------------------------------------------------------- */

static bool
is_over_level(Query *level)
{
	return level->hasWindowFuncs;
}

static bool
only_over(Query *level)
{
	return !level->hasAggs && level->groupClause == NIL && level->groupingSets == NIL && level->havingQual == NULL &&
		level->distinctClause == NIL;
}

/* A chain of levels that filter, compute and have OVER, and nothing else? */
static bool
is_wanted(ViewShape *shape)
{
	bool		any = false;
	ListCell   *lc;

	if (shape->recompute == NULL || shape->joins || weir_has_window(shape->query))
		return false;
	foreach(lc, shape->recompute->levels)
	{
		if (!only_over(lfirst(lc)))
			return false;
		any |= is_over_level(lfirst(lc));
	}
	if (!any)
		return false;
	if (shape->recompute->keys != NIL)
		weir_topn_choose(shape);	/* the first row per key is instant.c's */
	return !(shape->recompute->from_result && shape->recompute->unique && shape->recompute->limit <= 1);
}

/* --- how far it reaches ---------------------------------------------------------------- */

static void
refuse_order(Reach *reach)
{
	weir_refuse(reach->name, "weir.emit = 'final' with OVER and without a window in FROM: a row is final when the watermark has passed its event time, so frames go by that.",
				"OVER (PARTITION BY key ORDER BY the event-time column), ascending; or put window_start of tumble() into each PARTITION BY.");
}

static void
refuse_behind(Reach *reach, const char *what)
{
	weir_refuse(reach->name, psprintf("weir.emit = 'final': %s depends on rows that come later, without a limit.", what),
				"Let frames end at CURRENT ROW, or RANGE ... AND an interval FOLLOWING; instead of lead(x) take lag(x) of the next row; or put window_start of tumble() into PARTITION BY.");
}

static void
refuse_back(Reach *reach, const char *what)
{
	weir_refuse(reach->name, psprintf("weir.emit = 'final': %s goes back to the beginning, and cannot be carried on from what was remembered.", what),
				"Take count, sum, avg, min, max, bool_and, bool_or (sums and averages of floats: as numeric); or RANGE BETWEEN an interval PRECEDING AND CURRENT ROW, or ROWS n PRECEDING.");
}

/* A constant interval, or -1. */
static int64
frame_interval(Node *offset)
{
	Const	   *constant = (Const *) eval_const_expressions(NULL, copyObject(offset));

	if (!IsA(constant, Const) || constant->constisnull || constant->consttype != INTERVALOID)
		return -1;
	return weir_interval_longest(DatumGetIntervalP(constant->constvalue));
}

static void
refuse_offset(Reach *reach)
{
	weir_refuse(reach->name, "weir.emit = 'final' with OVER needs frames of constant intervals.", "Write the interval as a literal.");
}

/* A constant number of rows. */
static int64
frame_rows(Reach *reach, Node *offset)
{
	Const	   *constant = (Const *) eval_const_expressions(NULL, copyObject(offset));

	if (!IsA(constant, Const) || constant->constisnull || (constant->consttype != INT8OID && constant->consttype != INT4OID))
		weir_refuse(reach->name, "weir.emit = 'final' with OVER remembers so many rows of each key, and their number is no constant.", "Write it as a literal.");
	return constant->consttype == INT8OID ? DatumGetInt64(constant->constvalue) : DatumGetInt32(constant->constvalue);
}

/* An offset PRECEDING: of where the frame begins, or of where it ends, which what is carried must not be beyond. */
static void
reach_back(Reach *reach, bool by_time, Node *offset, bool begins)
{
	int64		span;

	if (!by_time)
	{
		reach->remembers |= begins;
		reach->rows = Max(reach->rows, frame_rows(reach, offset));
		return;
	}
	if ((span = frame_interval(offset)) < 0)
		refuse_offset(reach);
	reach->before = Max(reach->before, span);
}

/* How far one window function's frame reaches. */
static void
reach_of_frame(Reach *reach, WindowFunc *func, WindowClause *window)
{
	int			options = window->frameOptions;
	bool		by_time = (options & FRAMEOPTION_RANGE) != 0;
	int64		span;

	if (options & FRAMEOPTION_END_UNBOUNDED_FOLLOWING)
		refuse_behind(reach, "a frame that ends with UNBOUNDED FOLLOWING");
	if (options & FRAMEOPTION_END_OFFSET_FOLLOWING)
	{
		if (!by_time)
			refuse_behind(reach, "a frame of so many rows FOLLOWING");
		if ((span = frame_interval(window->endOffset)) < 0)
			refuse_offset(reach);
		reach->after = Max(reach->after, span);
	}
	if (options & FRAMEOPTION_START_UNBOUNDED_PRECEDING)
	{
		if (func->winagg ? !weir_over_carries(func) : func->winfnoid != F_LAST_VALUE)
			refuse_back(reach, psprintf("%s() over a frame that begins with UNBOUNDED PRECEDING (as those with ORDER BY alone do)", get_func_name(func->winfnoid)));
		if (!func->winagg && by_time && (options & FRAMEOPTION_END_OFFSET_PRECEDING))
			refuse_back(reach, "last_value() over a frame that begins with UNBOUNDED PRECEDING, and ends an interval before the row,");
		reach->remembers = true;
	}
	if (options & FRAMEOPTION_START_OFFSET_PRECEDING)
		reach_back(reach, by_time, window->startOffset, true);
	if (options & FRAMEOPTION_END_OFFSET_PRECEDING)
		reach_back(reach, by_time, window->endOffset, false);
}

static void
reach_of_lag(Reach *reach, WindowFunc *func)
{
	int64		rows = list_length(func->args) > 1 ? frame_rows(reach, lsecond(func->args)) : 1;

	if (rows < 0)
		refuse_behind(reach, "lag() with a negative offset");
	reach->remembers = true;
	reach->rows = Max(reach->rows, rows);
}

/* What is remembered is so of each key: all frames have the same. */
static void
note_partition(Reach *reach, WindowClause *window)
{
	List	   *partition = NIL;
	ListCell   *lc;

	foreach(lc, window->partitionClause)
		partition = list_append_unique(partition, get_sortgroupclause_expr(lfirst(lc), reach->level->targetList));
	if (!reach->partitioned)
		reach->partition = partition;
	else if (list_difference(partition, reach->partition) != NIL || list_difference(reach->partition, partition) != NIL)
		reach->several = true;
	reach->partitioned = true;
}

static bool
reach_walker(Node *node, Reach *reach)
{
	WindowFunc *func = (WindowFunc *) node;
	WindowClause *window;
	Node	   *first;

	if (node == NULL)
		return false;
	if (!IsA(node, WindowFunc))
		return expression_tree_walker(node, reach_walker, reach);
	window = list_nth(reach->level->windowClause, func->winref - 1);
	first = window->orderClause == NIL ? NULL :
		get_sortgroupclause_expr(linitial(window->orderClause), reach->level->targetList);
	if (first != NULL)
	{
		SortGroupClause *clause = linitial(window->orderClause);
		bool		reverse;

		if (!OidIsValid(get_equality_op_for_ordering_op(clause->sortop, &reverse)) || reverse ||
			!weir_is_event_time(reach->level, first))
			first = NULL;
	}
	if (first == NULL)
		refuse_order(reach);
	note_partition(reach, window);
	if (func->winagg || func->winfnoid == F_FIRST_VALUE || func->winfnoid == F_LAST_VALUE || func->winfnoid == F_NTH_VALUE)
		reach_of_frame(reach, func, window);
	else if (func->winfnoid == F_LAG_ANYELEMENT || func->winfnoid == F_LAG_ANYELEMENT_INT4 ||
			 func->winfnoid == F_LAG_ANYCOMPATIBLE_INT4_ANYCOMPATIBLE)
		reach_of_lag(reach, func);
	else if (func->winfnoid == F_ROW_NUMBER || func->winfnoid == F_RANK_ || func->winfnoid == F_DENSE_RANK_)
		reach->remembers = true;
	else
		refuse_behind(reach, psprintf("%s()", get_func_name(func->winfnoid)));
	return false;
}

/* --- the query that gives the rows that close -------------------------------------------- */

/* Does a function ask for the order of rows with equal times? */
static bool
goes_by_order(WindowFunc *func, WindowClause *window)
{
	if (func->winagg || func->winfnoid == F_FIRST_VALUE || func->winfnoid == F_LAST_VALUE || func->winfnoid == F_NTH_VALUE)
		return (window->frameOptions & FRAMEOPTION_ROWS) != 0;
	return func->winfnoid != F_RANK_ && func->winfnoid != F_DENSE_RANK_;
}

typedef struct Order
{
	Query	   *level;
	Index	   *ordered;		/* by winref: the same window with the order of arrival, or 0 */
	List	   *columns;		/* of Var: what the level reads */
} Order;

static TargetEntry *
target_of(Query *level, Node *expr)
{
	TargetEntry *tle = tlist_member((Expr *) expr, level->targetList);

	if (tle == NULL)
	{
		tle = makeTargetEntry(copyObject((Expr *) expr), list_length(level->targetList) + 1, pstrdup(WEIR_HIDDEN_PREFIX "column"), true);
		level->targetList = lappend(level->targetList, tle);
	}
	return tle;
}

/*
 * Rows may have arrived as one: two arms of UNION ALL over a stream, rows of a table that meet the same row, all rows of a
 * view. What the level reads of them decides then, so that the next close sees them in the order in which this one does.
 */
static List *
break_by_columns(Query *level, List *columns, List *clauses)
{
	ListCell   *lc;

	foreach(lc, columns)
	{
		Var		   *var = lfirst(lc);

		if (var->varattno != 0 && OidIsValid(lookup_type_cache(var->vartype, TYPECACHE_LT_OPR)->lt_opr))
			clauses = lappend(clauses, weir_sort_clause(level, target_of(level, (Node *) var)));
	}
	return clauses;
}

/* The same window, in which arrival decides between equal rows. */
static Index
ordered_window(Order *order, Index winref)
{
	Query	   *level = order->level;
	WindowClause *window;

	if (order->ordered[winref] != 0)
		return order->ordered[winref];
	window = copyObject(list_nth(level->windowClause, winref - 1));
	window->name = NULL;
	window->refname = NULL;
	window->orderClause = weir_arrival_break_ties(level, window->orderClause);
	window->orderClause = break_by_columns(level, order->columns, window->orderClause);
	window->winref = list_length(level->windowClause) + 1;
	level->windowClause = lappend(level->windowClause, window);
	return order->ordered[winref] = window->winref;
}

static bool
order_walker(Node *node, Order *order)
{
	WindowFunc *func = (WindowFunc *) node;

	if (node == NULL)
		return false;
	if (!IsA(node, WindowFunc))
		return expression_tree_walker(node, order_walker, order);
	if (goes_by_order(func, list_nth(order->level->windowClause, func->winref - 1)))
		func->winref = ordered_window(order, func->winref);
	return false;
}

/* Where rows are counted, those of equal times, and equal in what else ORDER BY says, come as they arrived. */
static void
order_rows(Query *level)
{
	Order		order = {level, palloc0(sizeof(Index) * (list_length(level->windowClause) + 1))};
	ListCell   *lc;

	foreach(lc, pull_var_clause((Node *) level->targetList, PVC_RECURSE_WINDOWFUNCS))
		order.columns = list_append_unique(order.columns, lfirst(lc));
	foreach(lc, list_copy(level->targetList))
		(void) order_walker((Node *) lfirst_node(TargetEntry, lc)->expr, &order);
}

/*
 * push_down makes a level SELECT its columns FROM itself, in place: so that hidden columns and conditions can go behind
 * its OVER. What was hidden of it is a column below.
 */
static void
push_down(Query *level)
{
	Query	   *below = makeNode(Query);
	List	   *targets = NIL;
	ListCell   *lc;

	memcpy(below, level, sizeof(Query));
	foreach(lc, below->targetList)
	{
		TargetEntry *tle = lfirst(lc);
		bool		shown = !tle->resjunk;

		tle->resname = psprintf("%s", tle->resname ? tle->resname : "?column?");
		tle->resjunk = false;
		if (shown)
			targets = lappend(targets, makeTargetEntry((Expr *) makeVarFromTargetEntry(1, tle), tle->resno, pstrdup(tle->resname), false));
	}
	below->sortClause = NIL;
	*level = *makeNode(Query);
	level->commandType = CMD_SELECT;
	level->canSetTag = true;
	level->targetList = targets;
	weir_select_from(level, weir_subquery_entry(below, OVER_ALIAS));
}

static bool
level_walker(Node *node, Query **found)
{
	if (node == NULL || *found != NULL)
		return false;
	if (IsA(node, RangeTblEntry))
	{
		RangeTblEntry *rte = (RangeTblEntry *) node;

		if (rte->rtekind == RTE_SUBQUERY && strcmp(rte->eref->aliasname, OVER_ALIAS) == 0)
			*found = rte->subquery;
		return false;
	}
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, level_walker, found, QTW_EXAMINE_RTES_BEFORE);
	return expression_tree_walker(node, level_walker, found);
}

/* weir_over_level finds the highest level with OVER that was pushed down in a query. */
Query *
weir_over_level(Query *query)
{
	Query	   *found = NULL;

	(void) level_walker((Node *) query, &found);
	if (found == NULL)
		elog(ERROR, "a query has no level with OVER");
	return found;
}

/* What a level with OVER asks of the view. */
static void
take_reach(ViewShape *shape, Reach *reach)
{
	(void) reach_walker((Node *) reach->level->targetList, reach);
	shape->window_before += reach->before;
	shape->close_shift += reach->after;
	if (!reach->remembers)
		return;
	if (reach->several)
		weir_refuse(shape->name, "weir.emit = 'final': OVER goes back by rows or to the beginning, and a SELECT has several PARTITION BY.",
					"Make a view of each, or give all the same.");
	shape->remembered = Max(reach->rows, 1);
	shape->remembered_span = reach->before;
}

/*
 * weir_over_make makes a query with OVER and without windows in FROM give the rows that close, in place; false if it is not of
 * this kind. Raises 0A000 for what is never final.
 */
bool
weir_over_make(ViewShape *shape, LateRule *rule)
{
	List	   *levels;
	Query	   *highest = NULL;
	Query	   *lowest;
	int			nlevels = 0;
	ListCell   *lc;

	if (!is_wanted(shape))
		return false;
	levels = shape->recompute->levels;
	lowest = llast(levels);
	foreach(lc, levels)
	{
		Reach		reach = {shape->name, lfirst(lc)};

		if (!is_over_level(reach.level))
			continue;
		if (reach.level->hasTargetSRFs)
			weir_refuse(shape->name, "weir.emit = 'final': a set-returning function stands beside OVER.", "Put it into a SELECT above, or into FROM.");
		take_reach(shape, &reach);
		nlevels++;
		if (highest == NULL)
			highest = reach.level;
	}
	if (shape->remembered > 0 && nlevels > 1)
		weir_refuse(shape->name, "weir.emit = 'final': OVER goes back by rows or to the beginning, and stands above or below OVER.",
					"Make a continuous view of the inner SELECT, with weir.emit = 'final', and read that.");
	weir_late_note(shape->streams, rule);
	shape->late = weir_instant_late_rows(lowest, rule, shape->close_shift);
	weir_instant_in_time(lowest, rule);
	foreach(lc, levels)
	{
		if (!is_over_level(lfirst(lc)))
			continue;
		order_rows(lfirst(lc));
		push_down(lfirst(lc));
	}
	weir_instant_only_closing(highest);
	shape->keys = NIL;
	shape->grouped = false;
	shape->instants = true;
	shape->over = true;
	if (shape->remembered > 0)
	{
		weir_over_remember(shape);
		shape->window_before = 0;
	}
	return true;
}
