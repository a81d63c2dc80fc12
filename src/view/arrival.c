/*
 * arrival.c
 *	  Where the order of rows is left open, it is that of arrival.
 *
 * rewrite ⇒ arrival ⇒ aggregates. weir.first, weir.last and weir.list without an ORDER BY of their
 * own get one, by the hidden columns partition and offset, which are passed up to
 * their level. So does any aggregate over a session that needs its rows, behind its own. DISTINCT ON and row_number() get the same two behind their own columns, so
 * that of equal rows the first to arrive is picked, and goes on to be.
 * Batches follow each other as they come, so a partition's rows are taken in
 * the order of their offsets; how several partitions interleave is left to arrival.
 */
#include "postgres.h"

#include "catalog/pg_aggregate.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"
#include "optimizer/tlist.h"
#include "parser/parse_clause.h"
#include "parser/parse_oper.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"
#include "view/join.h"
#include "view/parts.h"
#include "view/session.h"
#include "view/shape.h"

/* Appends one hidden column to an aggregate's ORDER BY. */
static void
order_by(Aggref *agg, Expr *column)
{
	TargetEntry *tle = makeTargetEntry(column, list_length(agg->args) + 1, NULL, true);
	SortGroupClause *clause = makeNode(SortGroupClause);

	tle->ressortgroupref = list_length(agg->aggorder) + 1;
	get_sort_group_operators(exprType((Node *) column), true, true, false,
							 &clause->sortop, &clause->eqop, NULL, &clause->hashable);
	clause->tleSortGroupRef = tle->ressortgroupref;
	agg->args = lappend(agg->args, tle);
	agg->aggorder = lappend(agg->aggorder, clause);
}

/* Rows of a session may have arrived as one, or be those of a view: what the aggregate is given decides then. */
static void
order_by_arguments(Aggref *agg)
{
	Index		ref = list_length(agg->args);	/* none is greater */
	ListCell   *lc;

	foreach(lc, agg->args)
	{
		TargetEntry *tle = lfirst(lc);
		Oid			type = exprType((Node *) tle->expr);
		SortGroupClause *clause;

		if (tle->ressortgroupref != 0 || IsA(tle->expr, Const) || type == RECORDOID ||
			!OidIsValid(lookup_type_cache(type, TYPECACHE_LT_OPR)->lt_opr))
			continue;
		clause = makeNode(SortGroupClause);
		get_sort_group_operators(type, true, true, false, &clause->sortop, &clause->eqop, NULL, &clause->hashable);
		clause->tleSortGroupRef = tle->ressortgroupref = ++ref;
		agg->aggorder = lappend(agg->aggorder, clause);
	}
}

/* Over a session: may the order of rows show in the result? */
static bool
order_shows(Aggref *agg)
{
	return agg->aggkind == AGGKIND_NORMAL && agg->args != NIL && weir_session_by_rows(agg);
}

static bool
order_walker(Node *node, Query *level)
{
	if (node == NULL)
		return false;
	if (IsA(node, Aggref))
	{
		Aggref	   *agg = (Aggref *) node;

		if (agg->agglevelsup == 0 && agg->aggdistinct == NIL &&
			(weir_session_level(level) ? order_shows(agg) : agg->aggorder == NIL && weir_aggregate_by_arrival(agg)))
		{
			if (weir_join_find(level) != NIL)
				ereport(ERROR,
						(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						 errmsg("%s over a join of streams goes by no order of arrival", get_func_name(agg->aggfnoid)),
						 errhint("Put ORDER BY inside the call.")));
			order_by(agg, weir_late_expose(level, WEIR_COL_PARTITION));
			order_by(agg, weir_late_expose(level, WEIR_COL_OFFSET));
			if (weir_session_level(level))
				order_by_arguments(agg);
		}
		return false;
	}
	return expression_tree_walker(node, order_walker, level);
}

/* What tells the rows of a level apart, and how they arrived: hidden columns. */
static List *
arrival_columns(Query *level)
{
	List	   *columns = weir_join_order(level);

	return columns != NIL ? columns :
		list_make2(weir_late_expose(level, WEIR_COL_PARTITION), weir_late_expose(level, WEIR_COL_OFFSET));
}

/* Appends one of them to ORDER BY of a level or of a window. */
static List *
break_tie(Query *level, List *clauses, Expr *column)
{
	TargetEntry *tle = makeTargetEntry(column, list_length(level->targetList) + 1, pstrdup(WEIR_HIDDEN_PREFIX "arrival"), true);

	level->targetList = lappend(level->targetList, tle);
	return lappend(clauses, weir_sort_clause(level, tle));
}

/* weir_arrival_break_ties puts the order of arrival behind an ORDER BY of a level or of a window. */
List *
weir_arrival_break_ties(Query *level, List *clauses)
{
	ListCell   *lc;

	foreach(lc, arrival_columns(level))
		clauses = break_tie(level, clauses, lfirst(lc));
	return clauses;
}

/* Does nothing but row_number() use the n-th window of a level, and no frame stand in the way? */
static bool
only_row_numbers(Query *level, WindowClause *window)
{
	ListCell   *lc;

	if (window->frameOptions & (FRAMEOPTION_START_OFFSET | FRAMEOPTION_END_OFFSET))
		return false;
	foreach(lc, level->targetList)
	{
		WindowFunc *func = (WindowFunc *) lfirst_node(TargetEntry, lc)->expr;

		if (!contain_window_function((Node *) func))
			continue;
		if (!IsA(func, WindowFunc) || func->winfnoid != F_ROW_NUMBER)
			return false;
	}
	return true;
}

/* weir_arrival_ties works on a level without groups of a query over deltas, in place. */
void
weir_arrival_ties(Query *level)
{
	ListCell   *lc;

	if (level->hasAggs || level->groupClause || level->groupingSets || level->hasTargetSRFs)
		return;
	if (level->hasDistinctOn && !level->hasWindowFuncs)
	{
		/* without ORDER BY, the columns of DISTINCT ON are what is sorted by */
		if (level->sortClause == NIL)
			level->sortClause = copyObject(level->distinctClause);
		level->sortClause = weir_arrival_break_ties(level, level->sortClause);
	}
	foreach(lc, level->windowClause)
	{
		WindowClause *window = lfirst(lc);

		if (level->distinctClause || !only_row_numbers(level, window))
			continue;
		window->orderClause = weir_arrival_break_ties(level, window->orderClause);
	}
}

/* weir_arrival_order works on a level of a query over deltas, in place. */
void
weir_arrival_order(Query *level)
{
	if (!level->hasAggs)
		return;
	(void) order_walker((Node *) level->targetList, level);
	(void) order_walker(level->havingQual, level);
}
