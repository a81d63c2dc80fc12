/*
 * recompute_key.c
 *	  The recompute key and the unique key of a result that is a chain of levels.
 *
 * recompute ⇒ recompute_key ⇒ touched. See recompute.c for what these keys are for.
 */
#include "postgres.h"

#include "catalog/stream.h"
#include "compat.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "parser/parse_agg.h"
#include "parser/parsetree.h"
#include "utils/fmgroids.h"
#include "view/recompute.h"
#include "view/shape.h"
#include "view/upstream.h"
#include "view/windowed.h"

/* --- the recompute key ------------------------------------------------------------ */

static bool
in_sort_group_list(Query *level, List *clauses, Expr *expr)
{
	ListCell   *lc;

	foreach(lc, clauses)
	{
		if (equal(get_sortgroupclause_expr(lfirst(lc), level->targetList), expr))
			return true;
	}
	return false;
}

/* Is it a group key in all grouping sets? */
static bool
in_grouping_sets(Query *level, Expr *expr)
{
	ListCell   *lc;

	foreach(lc, expand_grouping_sets(level->groupingSets, level->groupDistinct, -1))
	{
		bool		found = false;
		ListCell   *ls;

		foreach(ls, (List *) lfirst(lc))
		{
			SortGroupClause *clause = get_sortgroupref_clause(lfirst_int(ls), level->groupClause);

			found |= equal(get_sortgroupclause_expr(clause, level->targetList), expr);
		}
		if (!found)
			return false;
	}
	return true;
}

/* Do all rows that this level puts together or compares have the same value of expr? */
static bool
key_of_level(Query *level, Expr *expr)
{
	ListCell   *lc;

	if (level->groupingSets)
	{
		if (!in_grouping_sets(level, expr))
			return false;
	}
	else if ((level->hasAggs || level->groupClause) &&
			 !in_sort_group_list(level, level->groupClause, expr))
		return false;
	foreach(lc, level->windowClause)
	{
		if (!in_sort_group_list(level, lfirst_node(WindowClause, lc)->partitionClause, expr))
			return false;
	}
	return !level->hasDistinctOn || in_sort_group_list(level, level->distinctClause, expr);
}

/* The expression of the next level that a column of this one passes on, or NULL. */
static Expr *
passed_on(Query *level, int rtindex, Expr *expr)
{
	Var		   *var = (Var *) expr;
	RangeTblEntry *rte;

	while (IsA(var, Var) && var->varlevelsup == 0 && var->varattno > 0)
	{
		rte = rt_fetch(var->varno, level->rtable);
		if (var->varno == rtindex)
			return list_nth_node(TargetEntry, rte->subquery->targetList, var->varattno - 1)->expr;
		if (rte->rtekind != RTE_JOIN)
			break;
		var = list_nth(rte->joinaliasvars, var->varattno - 1);
	}
	return NULL;
}

/* The lowest level's expression that a column of the result is, if it is a key of all levels; else NULL. */
static Expr *
trace_key(Recompute *recompute, TargetEntry *target)
{
	Expr	   *expr = target->expr;

	for (int i = 0; i < list_length(recompute->levels); i++)
	{
		Query	   *level = list_nth(recompute->levels, i);

		if (i > 0)
			expr = passed_on(list_nth(recompute->levels, i - 1),
							 list_nth_int(recompute->path, i - 1), expr);
		if (expr == NULL || !key_of_level(level, expr))
			return NULL;
	}
	if (contain_agg_clause((Node *) expr) || contain_window_function((Node *) expr) ||
		expression_returns_set((Node *) expr) || contain_subplans((Node *) expr) ||
		IsA(expr, Const))
		return NULL;
	return expr;
}

/* Is it the event-time column that decides what is kept? INSERTed rows may have any _timestamp. */
static bool
keeps_by_event_time(Oid stream)
{
	Stream	   *def = weir_source_require(stream);

	return def->event_time != NULL || def->server != NULL;
}

/* Takes note if a key is a window's bound over the event time of its stream. */
static void
note_window(Recompute *recompute, List *streams, Expr *expr)
{
	Query	   *level = llast(recompute->levels);
	ColumnOrigin origin = {0};
	Var		   *var = (Var *) expr;
	bool		beside;			/* start and end are columns of this level's FROM */
	ListCell   *lc;

	if (!weir_trace_column(level, (Node *) expr, &origin) || origin.window == 0 || !origin.event_time)
		return;
	foreach(lc, streams)
	{
		if (!keeps_by_event_time(lfirst_oid(lc)))
			return;
	}
	recompute->one_window |= origin.window == 2 || origin.call == NULL || !weir_is_cumulate(origin.call);
	beside = IsA(var, Var) && weir_is_window(rt_fetch(var->varno, level->rtable));
	if (!beside && origin.window != 1)
		return;
	recompute->windowed = true;
	recompute->window_start = copyObject(expr);
	if (beside)
	{
		((Var *) recompute->window_start)->varattno = 1;
		recompute->window_end = copyObject(recompute->window_start);
		((Var *) recompute->window_end)->varattno = 2;
	}
}

static bool
column_never_null(Recompute *recompute, Expr *expr)
{
	ColumnOrigin origin = {0};

	return weir_trace_column(llast(recompute->levels), (Node *) expr, &origin) &&
		(origin.window != 0 || origin.not_null);
}

void
weir_recompute_keys(ViewShape *shape)
{
	Recompute  *recompute = shape->recompute;
	ListCell   *lc;

	foreach(lc, shape->query->targetList)
	{
		Expr	   *expr = trace_key(recompute, lfirst(lc));
		TouchKey   *key;

		if (expr == NULL)
			continue;
		key = palloc0(sizeof(TouchKey));
		key->target = lfirst(lc);
		key->expr = copyObject(expr);
		key->never_null = column_never_null(recompute, expr);
		recompute->keys = lappend(recompute->keys, key);
		note_window(recompute, shape->streams, expr);
	}
}

/* --- the unique key of the result ----------------------------------------------------- */

/* Numbers of the visible targets that these clauses stand for; NIL if one is not visible. */
static List *
visible_targets(Query *level, List *clauses)
{
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, clauses)
	{
		Node	   *expr = get_sortgroupclause_expr(lfirst(lc), level->targetList);
		AttrNumber	found = 0;
		ListCell   *lt;

		foreach(lt, level->targetList)
		{
			TargetEntry *tle = lfirst(lt);

			if (!tle->resjunk && found == 0 && equal(tle->expr, expr))
				found = tle->resno;
		}
		if (found == 0)
			return NIL;
		result = list_append_unique_int(result, found);
	}
	return result;
}

/* Is a condition of this level row_number() <= 1, = 1 or < 2? Then its window clause, in the next level. */
static WindowClause *
top_one(Query *level, Query *next, int rtindex)
{
	ListCell   *lc;

	foreach(lc, make_ands_implicit((Expr *) level->jointree->quals))
	{
		int64		limit;
		WindowFunc *rank = weir_rank_condition(level, next, rtindex, lfirst(lc), &limit);

		if (rank && limit == 1 && rank->winfnoid == F_ROW_NUMBER)
			return list_nth(next->windowClause, rank->winref - 1);
	}
	return NULL;
}

static List *unique_targets(Recompute *recompute, int n);

/* A level that passes rows on has the unique key of the next one, as far as it shows it. */
static List *
passed_unique(Recompute *recompute, int n)
{
	Query	   *level = list_nth(recompute->levels, n);
	Query	   *next = n + 1 < list_length(recompute->levels) ? list_nth(recompute->levels, n + 1) : NULL;
	int			rtindex = next ? list_nth_int(recompute->path, n) : 0;
	WindowClause *clause;
	List	   *result = NIL;
	List	   *below;
	ListCell   *lc;

	if (next == NULL || list_length(level->jointree->fromlist) != 1 ||
		!IsA(linitial(level->jointree->fromlist), RangeTblRef))
		return NIL;
	clause = top_one(level, next, rtindex);
	below = clause ? visible_targets(next, clause->partitionClause) : unique_targets(recompute, n + 1);
	foreach(lc, below)
	{
		AttrNumber	found = 0;
		ListCell   *lt;

		foreach(lt, level->targetList)
		{
			TargetEntry *tle = lfirst(lt);
			Var		   *var = (Var *) tle->expr;

			if (!tle->resjunk && found == 0 && IsA(var, Var) && var->varno == rtindex &&
				var->varlevelsup == 0 && var->varattno == lfirst_int(lc))
				found = tle->resno;
		}
		if (found == 0)
			return NIL;
		result = lappend_int(result, found);
	}
	return result;
}

/* Numbers of a level's targets that are unique together; NIL: none known. */
static List *
unique_targets(Recompute *recompute, int n)
{
	Query	   *level = list_nth(recompute->levels, n);

	if (level->distinctClause)
		return visible_targets(level, level->distinctClause);
	if (level->groupingSets || level->hasTargetSRFs)
		return NIL;
	if (level->groupClause)
		return visible_targets(level, level->groupClause);
	if (level->hasAggs)
		return NIL;
	return passed_unique(recompute, n);
}

/* shape->keys: the unique key, the recompute key's columns first; without one, the recompute key. */
void
weir_recompute_unique(ViewShape *shape)
{
	Recompute  *recompute = shape->recompute;
	List	   *unique = unique_targets(recompute, 0);
	ListCell   *lc;

	foreach(lc, recompute->keys)
		shape->keys = lappend(shape->keys, ((TouchKey *) lfirst(lc))->target);
	foreach(lc, shape->keys)
	{
		if (!list_member_int(unique, lfirst_node(TargetEntry, lc)->resno))
			return;
	}
	if (unique == NIL || list_length(unique) > INDEX_MAX_KEYS)
		return;
	foreach(lc, unique)
		shape->keys = list_append_unique_ptr(shape->keys,
											 list_nth(shape->query->targetList, lfirst_int(lc) - 1));
	recompute->unique = true;
}
