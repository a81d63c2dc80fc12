/*
 * join_outer.c
 *	  Outer joins of streams: rows without a match come when nothing can match them any more.
 *
 * join (filter) ⇒ join_outer ⇒ join_delta, close. Rows of the result in which every item of the join has a
 * row (here: pairs) come as those of an inner join do. The others come with NULLs when the view's watermark says
 * that nothing is left to come that could change them: t + forward + back + lateness < watermark, t the earliest
 * time in them, forward and back of the join as a whole. For a row that is not
 * late lies at most its own reach forward behind the watermark (join.c). No lateness given is none.
 * What comes later than that meets only rows that have not closed: so a row of the result holds either
 * rows that have closed or rows that have not, and does not change once one of them has. Rows of a partition that
 * had been idle come later than they may: what each found closed is written down (behind.c), those that have
 * closed themselves are late, and the others meet only what is open, by one more condition in each ON.
 *
 * All items of the join pass on their hidden event time: NULL tells that the item has no row. Each
 * variant of the join is its own query with one more condition in WHERE:
 *	  pairs: all times are there (the planner makes an inner join of it);
 *	  unmatched, at a close: one time is not there, and the earliest is in what closes;
 *	  the whole, for verify: all are there, or the earliest is closed.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "compat.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/parsetree.h"
#include "utils/fmgroids.h"
#include "view/join.h"
#include "view/parts.h"

/* --- conditions --------------------------------------------------------------- */

/* Outer joins on whose nullable side a FROM item stands. */
static Bitmapset *
nulling_joins(Node *from, int item, bool *found)
{
	Bitmapset  *result = NULL;
	ListCell   *lc;

	*found = false;
	if (IsA(from, RangeTblRef))
	{
		*found = ((RangeTblRef *) from)->rtindex == item;
		return NULL;
	}
	if (IsA(from, FromExpr))
	{
		foreach(lc, ((FromExpr *) from)->fromlist)
		{
			result = nulling_joins(lfirst(lc), item, found);
			if (*found)
				return result;
		}
		return NULL;
	}
	for (int side = 0; side < 2; side++)
	{
		JoinExpr   *join = (JoinExpr *) from;

		result = nulling_joins(side == 0 ? join->larg : join->rarg, item, found);
		if (!*found)
			continue;
		if (join->jointype == JOIN_FULL || join->jointype == (side == 0 ? JOIN_RIGHT : JOIN_LEFT))
			result = bms_add_member(result, join->rtindex);
		return result;
	}
	return NULL;
}

/* A hidden column of an item, above a part of the join's FROM. */
static Expr *
item_column(Query *join, Node *from, int item, const char *name)
{
	RangeTblEntry *rte = rt_fetch(item, join->rtable);
	bool		found;
	Var		   *var = makeVar(item, 0, TIMESTAMPTZOID, -1, InvalidOid, 0);
	ListCell   *lc;

	foreach(lc, rte->subquery->targetList)
	{
		TargetEntry *tle = lfirst(lc);

		if (tle->resname && strcmp(tle->resname, name) == 0)
			var->varattno = var->varattnosyn = tle->resno;
	}
	if (var->varattno == 0)
		elog(ERROR, "an outer join has no column \"%s\"", name);
	weir_compat_set_nulling(var, nulling_joins(from, item, &found));
	return (Expr *) var;
}

/* The hidden event time of an item, above the join. */
static Expr *
item_time(Query *join, int item)
{
	return item_column(join, (Node *) join->jointree, item, WEIR_COL_EVENT_TIME);
}

static Expr *
compare(Oid function, Expr *time, const char *other)
{
	return weir_time_compare(function, copyObject(time), weir_final_time(other));
}

/* --- variants ---------------------------------------------------------------------- */

/* weir_outer_expose makes all items of an outer join pass their hidden event time on, in place. */
void
weir_outer_expose(Query *join)
{
	ListCell   *lc;

	foreach(lc, weir_join_items(join))
	{
		RangeTblEntry *rte = rt_fetch(lfirst_int(lc), join->rtable);

		(void) weir_late_expose_in(rte->subquery, WEIR_COL_EVENT_TIME, rte);
	}
}

/* (the earliest time in it < what one of its rows found closed) IS NOT TRUE, above a part of FROM with these items; left, right: the sides of a join */
static Node *
open_condition(Query *join, List *items, Node *left, Node *right)
{
	List	   *times = NIL;
	List	   *founds = NIL;
	BooleanTest *test = makeNode(BooleanTest);
	ListCell   *lc;

	foreach(lc, items)
	{
		bool		is_left;

		(void) nulling_joins(left, lfirst_int(lc), &is_left);
		times = lappend(times, item_column(join, is_left ? left : right, lfirst_int(lc), WEIR_COL_EVENT_TIME));
		founds = lappend(founds, item_column(join, is_left ? left : right, lfirst_int(lc), WEIR_COL_FOUND));
	}
	test->arg = (Expr *) makeFuncExpr(F_TIMESTAMPTZ_LT, BOOLOID, list_make2(weir_time_extreme(IS_LEAST, times), weir_time_extreme(IS_GREATEST, founds)),
									  InvalidOid, InvalidOid, COERCE_EXPLICIT_CALL);
	test->booltesttype = IS_NOT_TRUE;
	test->location = -1;
	return (Node *) test;
}

static void
and_qual(Node **quals, Node *condition)
{
	*quals = *quals == NULL ? condition : (Node *) makeBoolExpr(AND_EXPR, list_make2(*quals, condition), -1);
}

/* The streams' items in a part of FROM; every join in it of two such parts gets the condition. */
static List *
meet_open(Query *join, Node *from)
{
	List	   *items = NIL;
	ListCell   *lc;

	check_stack_depth();
	if (IsA(from, RangeTblRef))
		return list_intersection_int(weir_join_items(join), list_make1_int(((RangeTblRef *) from)->rtindex));
	if (IsA(from, JoinExpr))
	{
		JoinExpr   *expr = (JoinExpr *) from;
		List	   *right = meet_open(join, expr->rarg);

		items = meet_open(join, expr->larg);
		if (items != NIL && right != NIL)
			and_qual(&expr->quals, open_condition(join, list_concat_copy(items, right), expr->larg, expr->rarg));
		return list_concat(items, right);
	}
	foreach(lc, ((FromExpr *) from)->fromlist)
	{
		List	   *more = meet_open(join, lfirst(lc));

		if (items != NIL && more != NIL)
			and_qual(&((FromExpr *) from)->quals, open_condition(join, list_concat_copy(items, more), from, from));
		items = list_concat(items, more);
	}
	return items;
}

/*
 * weir_outer_meet_open adds to the conditions of an outer join, in place, that rows meet only what had not closed
 * when the last of them came. That matters for rows of partitions that had been idle alone: all others that are in time
 * come before what they meet has closed.
 */
void
weir_outer_meet_open(Query *join)
{
	ListCell   *lc;

	foreach(lc, weir_join_items(join))
	{
		RangeTblEntry *rte = rt_fetch(lfirst_int(lc), join->rtable);

		(void) weir_late_expose_in(rte->subquery, WEIR_COL_FOUND, rte);
	}
	(void) meet_open(join, (Node *) join->jointree);
}

/* weir_outer_pairs leaves rows without a match out, in place. */
void
weir_outer_pairs(Query *join)
{
	ListCell   *lc;

	foreach(lc, weir_join_items(join))
		weir_add_where(join, weir_null_test(item_time(join, lfirst_int(lc)), IS_NOT_NULL));
}

/* weir_outer_present leaves only what has a row of an item, or only what has none, in place. */
void
weir_outer_present(Query *join, int item, bool present)
{
	weir_add_where(join, weir_null_test(item_time(join, item), present ? IS_NOT_NULL : IS_NULL));
}

/* weir_outer_column makes a column of an item, above the join. */
Var *
weir_outer_column(Query *join, int item, TargetEntry *column)
{
	Var		   *var = makeVarFromTargetEntry(item, column);
	bool		found;

	weir_compat_set_nulling(var, nulling_joins((Node *) join->jointree, item, &found));
	return var;
}

/* weir_outer_keeps tells whether rows of an item come without a match. */
bool
weir_outer_keeps(Query *join, int item)
{
	bool		found;
	bool		other_nulled = false;
	ListCell   *lc;

	foreach(lc, weir_join_items(join))
	{
		if (lfirst_int(lc) != item)
			other_nulled = nulling_joins((Node *) join->jointree, lfirst_int(lc), &found) != NULL;
	}
	return other_nulled;
}

/* weir_outer_unmatched leaves the rows of an item that has no match, and is in what closes, in place. Of a join of two. */
void
weir_outer_unmatched(Query *join, int item)
{
	ListCell   *lc;

	foreach(lc, weir_join_items(join))
	{
		Expr	   *time = item_time(join, lfirst_int(lc));

		if (lfirst_int(lc) != item)
		{
			weir_add_where(join, weir_null_test(time, IS_NULL));
			continue;
		}
		weir_add_where(join, compare(F_TIMESTAMPTZ_GE, time, "closed_until"));
		weir_add_where(join, compare(F_TIMESTAMPTZ_LT, time, "closing_until"));
	}
}

static Expr *
earliest_time(Query *join)
{
	List	   *times = NIL;
	ListCell   *lc;

	foreach(lc, weir_join_items(join))
		times = lappend(times, item_time(join, lfirst_int(lc)));
	return weir_time_extreme(IS_LEAST, times);
}

static Expr *
no_item_missing(Query *join)
{
	List	   *tests = NIL;
	ListCell   *lc;

	foreach(lc, weir_join_items(join))
		tests = lappend(tests, weir_null_test(item_time(join, lfirst_int(lc)), IS_NOT_NULL));
	return makeBoolExpr(AND_EXPR, tests, -1);
}

/* weir_outer_incomplete leaves what is in what closes and has no row of some item, in place. */
void
weir_outer_incomplete(Query *join)
{
	Expr	   *time = earliest_time(join);

	weir_add_where(join, makeBoolExpr(NOT_EXPR, list_make1(no_item_missing(join)), -1));
	weir_add_where(join, compare(F_TIMESTAMPTZ_GE, time, "closed_until"));
	weir_add_where(join, compare(F_TIMESTAMPTZ_LT, time, "closing_until"));
}

/* weir_outer_closed leaves out rows without a match that has not closed, in every outer join of a query over deltas. */
void
weir_outer_closed(Query *query)
{
	ListCell   *lc;

	foreach(lc, weir_join_find(query))
	{
		Query	   *join = lfirst(lc);

		if (weir_join_bounds(join)->outer != JOIN_INNER)
			weir_add_where(join, makeBoolExpr(OR_EXPR, list_make2(no_item_missing(join),
																  compare(F_TIMESTAMPTZ_LT, earliest_time(join), "closing_until")), -1));
	}
}

/* weir_outer_statement returns the statement that brings rows without a match when they close, analysed. */
Query *
weir_outer_statement(ViewShape *shape, Oid result, Oid state)
{
	Query	   *query = weir_statement_whole(shape, result, state);

	weir_join_unmatched(query, result);
	return query;
}
