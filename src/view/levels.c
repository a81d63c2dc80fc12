/*
 * levels.c
 *	  Queries whose results cannot be merged, brought into the form of a chain of levels.
 *
 * check ⇒ levels ⇒ recompute. Tells whether a query must be kept by computing touched keys
 * anew, makes one tree of sub-selects of it, and finds the chain (see recompute.c).
 */
#include "postgres.h"

#include "catalog/pg_aggregate.h"
#include "compat.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "rewrite/rewriteManip.h"
#include "utils/lsyscache.h"
#include "view/join.h"
#include "view/parts.h"
#include "view/recompute.h"
#include "view/session.h"
#include "view/shape.h"

/* --- is it such a query? ------------------------------------------------------ */

static bool
level_is_linear(Query *query)
{
	return !query->hasAggs && query->groupClause == NIL && query->groupingSets == NIL &&
		query->havingQual == NULL && !query->hasWindowFuncs && query->distinctClause == NIL;
}

static bool
not_linear_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
	{
		Query	   *query = (Query *) node;

		if (!weir_query_has_stream(node) && !weir_query_has_delta(node))
			return false;
		check_stack_depth();
		return !level_is_linear(query) ||
			query_tree_walker(query, not_linear_walker, context, 0);
	}
	return expression_tree_walker(node, not_linear_walker, context);
}

/* weir_recompute_groups: does a query over a stream group, number or make distinct, on any level? */
bool
weir_recompute_groups(Query *query)
{
	return not_linear_walker((Node *) query, NULL);
}

/* Is some level below this one not linear in a stream? */
static bool
not_linear_below(Query *query)
{
	return query_tree_walker(query, not_linear_walker, NULL, 0);
}

/* weir_describe_aggregate: the call as messages show it */
const char *
weir_describe_aggregate(Aggref *agg)
{
	const char *name = get_func_name(agg->aggfnoid);

	if (agg->aggkind != AGGKIND_NORMAL)
		return psprintf("%s(...) WITHIN GROUP", name);
	if (agg->aggdistinct)
		return psprintf("%s(DISTINCT ...)", name);
	return psprintf(agg->aggorder ? "%s(... ORDER BY ...)" : "%s(...)", name);
}

static bool
mergeable_walker(Node *node, const char **why)
{
	if (node == NULL)
		return false;
	if (IsA(node, Aggref) && ((Aggref *) node)->agglevelsup == 0)
	{
		if (weir_aggregate_merges((Aggref *) node))
			return false;
		*why = weir_describe_aggregate((Aggref *) node);
		return true;
	}
	return expression_tree_walker(node, mergeable_walker, why);
}

/* An aggregate of this level whose results cannot be merged, or NULL. */
const char *
weir_unmergeable_aggregate(Query *query)
{
	const char *why = NULL;

	if (query->hasAggs && !mergeable_walker((Node *) query->targetList, &why))
		(void) mergeable_walker(query->havingQual, &why);
	return why;
}

static bool
must_recompute(Query *query)
{
	return query->groupingSets || query->hasWindowFuncs || query->distinctClause ||
		(!weir_session_level(query) && weir_unmergeable_aggregate(query) != NULL) || not_linear_below(query);
}

/* --- one tree of sub-selects ---------------------------------------------------- */

typedef struct Inline
{
	CommonTableExpr *cte;
	int			depth;
} Inline;

static bool
inline_walker(Node *node, Inline *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, RangeTblEntry))
	{
		RangeTblEntry *rte = (RangeTblEntry *) node;

		if (rte->rtekind == RTE_CTE && rte->ctelevelsup == context->depth &&
			strcmp(rte->ctename, context->cte->ctename) == 0)
		{
			Query	   *query = copyObject(castNode(Query, context->cte->ctequery));

			IncrementVarSublevelsUp((Node *) query, context->depth, 1);
			rte->rtekind = RTE_SUBQUERY;
			rte->subquery = query;
			rte->ctename = NULL;
			rte->ctelevelsup = 0;
			rte->coltypes = rte->coltypmods = rte->colcollations = NIL;
		}
		return false;
	}
	if (IsA(node, Query))
	{
		bool		result;

		context->depth++;
		result = query_tree_walker((Query *) node, inline_walker, context, QTW_EXAMINE_RTES_BEFORE);
		context->depth--;
		return result;
	}
	return expression_tree_walker(node, inline_walker, context);
}

/* Common table expressions over streams become sub-selects, at every level. */
static bool
inline_ctes_walker(Node *node, void *context)
{
	Query	   *query = (Query *) node;

	if (node == NULL)
		return false;
	if (!IsA(node, Query))
		return expression_tree_walker(node, inline_ctes_walker, context);
	for (int i = 0; i < list_length(query->cteList);)
	{
		Inline		work = {list_nth_node(CommonTableExpr, query->cteList, i), 0};

		if (work.cte->cterecursive || !weir_query_has_stream(work.cte->ctequery))
		{
			i++;
			continue;
		}
		query->cteList = list_delete_nth_cell(query->cteList, i);
		(void) query_tree_walker(query, inline_walker, &work, QTW_EXAMINE_RTES_BEFORE);
	}
	return query_tree_walker(query, inline_ctes_walker, context, 0);
}

/* weir_levels_inline makes common table expressions over streams sub-selects, at every level, in place. */
void
weir_levels_inline(Query *query)
{
	(void) inline_ctes_walker((Node *) query, NULL);
}

/* SELECT all columns FROM (query): so that the uppermost level has no hidden targets. */
static Query *
wrap(Query *query)
{
	Query	   *outer = makeNode(Query);
	ListCell   *lc;

	outer->commandType = CMD_SELECT;
	outer->canSetTag = true;
	foreach(lc, query->targetList)
	{
		TargetEntry *tle = lfirst(lc);

		if (!tle->resjunk)
			outer->targetList = lappend(outer->targetList,
										makeTargetEntry((Expr *) makeVarFromTargetEntry(1, tle), tle->resno,
														pstrdup(tle->resname), false));
	}
	weir_select_from(outer, weir_subquery_entry(query, "q"));
	return outer;
}

/*
 * weir_recompute_prepare tells whether an expanded query must be kept by computing touched
 * keys anew, and then brings it into the form that the rest of this file works
 * on. ORDER BY counts only where DISTINCT ON picks by it. grouped: so are results that could be merged.
 */
bool
weir_recompute_prepare(Query **query, bool grouped)
{
	Query	   *mine;

	if (!weir_query_has_stream((Node *) *query))
		return false;
	mine = copyObject(*query);
	weir_levels_inline(mine);
	if (!must_recompute(mine) && !(grouped && !level_is_linear(mine)))
		return false;
	if (!mine->hasDistinctOn)
		mine->sortClause = NIL;
	*query = wrap(mine);
	return true;
}

/* weir_recompute_wrap brings any query into that form. */
Query *
weir_recompute_wrap(Query *query)
{
	query = copyObject(query);
	(void) inline_ctes_walker((Node *) query, NULL);
	if (!query->hasDistinctOn && query->limitCount == NULL && query->limitOffset == NULL)
		query->sortClause = NIL;
	return wrap(query);
}

/* weir_recompute_groups_below: is some level below this one not linear? */
bool
weir_recompute_groups_below(Query *query)
{
	return not_linear_below(query);
}

/* --- the chain of levels ----------------------------------------------------------- */

/* weir_recompute_stream_part returns the sub-select in FROM that stands for a stream's rows, and its index; or NULL. */
Query *
weir_recompute_stream_part(Query *level, int *rtindex)
{
	ListCell   *lc;
	int			i = 0;

	if (level->setOperations)
		return NULL;
	foreach(lc, level->rtable)
	{
		RangeTblEntry *rte = lfirst(lc);

		i++;
		if (rte->rtekind == RTE_SUBQUERY && weir_query_has_delta((Node *) rte->subquery))
		{
			*rtindex = i;
			return rte->lateral ? NULL : rte->subquery;
		}
	}
	return NULL;
}

static bool
level_has_window(Query *level)
{
	ListCell   *lc;

	foreach(lc, level->rtable)
	{
		if (weir_is_window(lfirst(lc)))
			return true;
	}
	return false;
}

/* weir_recompute_lowest returns the lowest level that is not linear, as far as a chain leads there. */
Query *
weir_recompute_lowest(Query *query)
{
	int			rtindex;
	Query	   *next;

	while (not_linear_below(query) && (next = weir_recompute_stream_part(query, &rtindex)) != NULL)
		query = next;
	return query;
}

/* Fills recompute->levels and path. */
void
weir_recompute_levels(ViewShape *shape)
{
	Recompute  *recompute = shape->recompute;
	Query	   *level = shape->query;

	recompute->levels = list_make1(level);
	while (not_linear_below(level))
	{
		int			rtindex;
		Query	   *next = weir_recompute_stream_part(level, &rtindex);

		if (weir_join_level(level))
			weir_refuse(shape->name, "A side of a join of streams groups, numbers or makes distinct: its rows change, and with them those of the join.",
						"Join first and group above the join; or set weir.emit = 'final', where both sides belong to one window; or make the grouped side a continuous view of its own and join it where it is read. The best rows of a window need no join: rank() OVER (PARTITION BY window_start ORDER BY x DESC) AS n, and above that WHERE n = 1.");
		if (next == NULL)
			weir_refuse(shape->name, "GROUP BY, DISTINCT or OVER stands in an arm of UNION ALL or in a LATERAL sub-select over a stream.",
						"Make a continuous view of that part, and put the parts together where they are read.");
		if (level_has_window(level))
			weir_refuse(shape->name, "A window function in FROM stands beside a sub-select that groups, numbers or makes distinct.",
						"Window the stream itself, in the innermost SELECT, and pass window_start on; or make the inner query a continuous view with weir.emit = 'final', and window its window_start in a view over it.");
		recompute->path = lappend_int(recompute->path, rtindex);
		recompute->levels = lappend(recompute->levels, next);
		weir_compat_flatten_groups(next);
		level = next;
	}
}
