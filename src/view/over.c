/*
 * over.c
 *	  Finals of OVER without windows in FROM: moving frames over the event time.
 *
 * atclose ⇒ over ⇒ apply (close). A row's moving sum, count or average over the rows up to its own event time does not
 * change once all rows up to there have come. So each row of the stream gives its row of the result when the
 * watermark, less the lateness, is past its event time. Frames must be in the order of event time, and reach back (and forth) by
 * a constant interval: a close runs the query over the kept rows from that far before what was closed, and
 * inserts the rows whose time closes now. What reaches back by a number of rows, or to the
 * beginning, is not told by the rows of a time.
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
#include "view/join.h"
#include "view/recompute.h"
#include "view/shape.h"

/* How far frames reach from the time of their row, microseconds. */
typedef struct Reach
{
	const char *name;			/* of the view, for messages */
	Query	   *level;
	int64		before;
	int64		after;
} Reach;

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

	if (shape->recompute == NULL || shape->joins || weir_instant_has_window(shape->query))
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
	weir_refuse(reach->name, psprintf("weir.emit = 'final' computes rows from those kept, and %s reaches back without a limit in time.", what),
				"RANGE BETWEEN an interval PRECEDING AND CURRENT ROW; or put window_start of tumble() into PARTITION BY.");
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

/* How far one window function's frame reaches. */
static void
reach_of_frame(Reach *reach, WindowClause *window)
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
		refuse_back(reach, "a frame that begins with UNBOUNDED PRECEDING (as those with ORDER BY alone do)");
	if (options & FRAMEOPTION_START_OFFSET_PRECEDING)
	{
		if (!by_time)
			refuse_back(reach, "a frame of so many rows PRECEDING");
		if ((span = frame_interval(window->startOffset)) < 0)
			refuse_offset(reach);
		reach->before = Max(reach->before, span);
	}
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
	if (func->winagg || func->winfnoid == F_FIRST_VALUE || func->winfnoid == F_LAST_VALUE || func->winfnoid == F_NTH_VALUE)
		reach_of_frame(reach, window);
	else if (func->winfnoid == F_LAG_ANYELEMENT || func->winfnoid == F_LAG_ANYELEMENT_INT4 ||
			 func->winfnoid == F_LAG_ANYCOMPATIBLE_INT4_ANYCOMPATIBLE || func->winfnoid == F_ROW_NUMBER ||
			 func->winfnoid == F_RANK_ || func->winfnoid == F_DENSE_RANK_)
		refuse_back(reach, psprintf("%s()", get_func_name(func->winfnoid)));
	else
		refuse_behind(reach, psprintf("%s()", get_func_name(func->winfnoid)));
	return false;
}

/* --- the query that gives the rows that close -------------------------------------------- */

/* ROWS counts rows: those of equal times, and equal in what else ORDER BY says, come as they arrived. */
static void
order_rows(Query *level)
{
	ListCell   *lc;

	foreach(lc, level->windowClause)
	{
		WindowClause *window = lfirst(lc);

		if (window->frameOptions & FRAMEOPTION_ROWS)
			window->orderClause = weir_arrival_break_ties(level, window->orderClause);
	}
}

/*
 * push_down makes a level SELECT its columns FROM itself, in place: so that hidden columns and conditions can go behind
 * its OVER. What was hidden of it is a column below.
 */
static void
push_down(Query *level)
{
	Query	   *below = makeNode(Query);
	RangeTblEntry *rte = makeNode(RangeTblEntry);
	RangeTblRef *ref = makeNode(RangeTblRef);
	List	   *names = NIL;
	List	   *targets = NIL;
	ListCell   *lc;

	memcpy(below, level, sizeof(Query));
	foreach(lc, below->targetList)
	{
		TargetEntry *tle = lfirst(lc);
		bool		shown = !tle->resjunk;

		tle->resname = psprintf("%s", tle->resname ? tle->resname : "?column?");
		tle->resjunk = false;
		names = lappend(names, makeString(pstrdup(tle->resname)));
		if (shown)
			targets = lappend(targets, makeTargetEntry((Expr *) makeVarFromTargetEntry(1, tle), tle->resno, pstrdup(tle->resname), false));
	}
	below->sortClause = NIL;
	rte->rtekind = RTE_SUBQUERY;
	rte->subquery = below;
	rte->alias = makeAlias("weir_over", NIL);
	rte->eref = makeAlias("weir_over", names);
	rte->inFromCl = true;
	memset(level, 0, sizeof(Query));
	*level = *makeNode(Query);
	level->commandType = CMD_SELECT;
	level->canSetTag = true;
	level->rtable = list_make1(rte);
	level->targetList = targets;
	ref->rtindex = 1;
	level->jointree = makeFromExpr(list_make1(ref), NULL);
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
		(void) reach_walker((Node *) reach.level->targetList, &reach);
		shape->window_before += reach.before;
		shape->close_shift += reach.after;
		if (highest == NULL)
			highest = reach.level;
	}
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
	return true;
}
