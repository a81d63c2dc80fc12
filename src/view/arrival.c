/*
 * arrival.c
 *	  weir.first, weir.last and weir.list in a continuous view take rows in the order of arrival.
 *
 * rewrite ⇒ arrival ⇒ aggregates. Each such call without an ORDER BY of its own gets one, by
 * the hidden columns partition and offset, which are passed up to its level.
 * Batches follow each other as they come, so a partition's rows are taken in
 * the order of their offsets; how several partitions interleave is left to arrival.
 */
#include "postgres.h"

#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/tlist.h"
#include "parser/parse_oper.h"
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

static bool
order_walker(Node *node, Query *level)
{
	if (node == NULL)
		return false;
	if (IsA(node, Aggref))
	{
		Aggref	   *agg = (Aggref *) node;

		if (agg->agglevelsup == 0 && agg->aggorder == NIL && agg->aggdistinct == NIL &&
			weir_aggregate_by_arrival(agg))
		{
			order_by(agg, weir_late_expose(level, WEIR_COL_PARTITION));
			order_by(agg, weir_late_expose(level, WEIR_COL_OFFSET));
		}
		return false;
	}
	return expression_tree_walker(node, order_walker, level);
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
