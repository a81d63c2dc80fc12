/*
 * recompute.c
 *	  Which part of a view's result new rows can change, where results cannot be merged.
 *
 * check ⇒ recompute ⇒ touched ⇒ recompute_statement. Such a view is a chain of
 * levels, each one's FROM holding the next, that ends above a part that is linear in
 * its streams (filters, projections, joins with tables, UNION ALL). Levels
 * that are not linear group, number (OVER) or make distinct. Columns of the result that
 * are keys of every one of them, passed on as they are, form the recompute key: rows
 * of one key come from stream rows of the same key only. So a delta changes only
 * result rows of the keys that it holds.
 *
 * These keys are computed again from the kept rows. For that to be right, all rows of
 * a key must still be kept: a window over event time must be in the key, or
 * the stream keep its rows for ever.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_aggregate.h"
#include "catalog/stream.h"
#include "catalog/view.h"
#include "compat.h"
#include "delta/segments.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"
#include "optimizer/tlist.h"
#include "parser/parse_agg.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteManip.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"
#include "view/recompute.h"
#include "view/shape.h"

/* Rows kept for so long are kept for ever. */
#define FOR_EVER_YEARS	100

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

/* Is some level below this one not linear in a stream? */
static bool
not_linear_below(Query *query)
{
	return query_tree_walker(query, not_linear_walker, NULL, 0);
}

static const char *
describe_aggregate(Aggref *agg)
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
		*why = describe_aggregate((Aggref *) node);
		return true;
	}
	return expression_tree_walker(node, mergeable_walker, why);
}

/* An aggregate of this level whose results cannot be merged, or NULL. */
static const char *
unmergeable_aggregate(Query *query)
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
		unmergeable_aggregate(query) != NULL || not_linear_below(query);
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

/* SELECT all columns FROM (query): so that the uppermost level has no hidden targets. */
static Query *
wrap(Query *query)
{
	Query	   *outer = makeNode(Query);
	RangeTblEntry *rte = makeNode(RangeTblEntry);
	RangeTblRef *ref = makeNode(RangeTblRef);
	List	   *names = NIL;
	ListCell   *lc;

	outer->commandType = CMD_SELECT;
	outer->canSetTag = true;
	foreach(lc, query->targetList)
	{
		TargetEntry *tle = lfirst(lc);

		if (tle->resjunk)
			continue;
		names = lappend(names, makeString(pstrdup(tle->resname)));
		outer->targetList = lappend(outer->targetList,
									makeTargetEntry((Expr *) makeVarFromTargetEntry(1, tle), tle->resno,
													pstrdup(tle->resname), false));
	}
	rte->rtekind = RTE_SUBQUERY;
	rte->subquery = query;
	rte->alias = makeAlias("q", NIL);
	rte->eref = makeAlias("q", names);
	rte->inFromCl = true;
	outer->rtable = list_make1(rte);
	ref->rtindex = 1;
	outer->jointree = makeFromExpr(list_make1(ref), NULL);
	return outer;
}

/*
 * weir_recompute_prepare tells whether an expanded query must be kept by computing touched
 * keys anew, and then brings it into the form that the rest of this file works
 * on. ORDER BY counts only where DISTINCT ON picks by it.
 */
bool
weir_recompute_prepare(Query **query)
{
	Query	   *mine;

	if (!weir_query_has_stream((Node *) *query))
		return false;
	mine = copyObject(*query);
	(void) inline_ctes_walker((Node *) mine, NULL);
	if (!must_recompute(mine))
		return false;
	if (!mine->hasDistinctOn)
		mine->sortClause = NIL;
	*query = wrap(mine);
	return true;
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
static void
find_levels(ViewShape *shape)
{
	Recompute  *recompute = shape->recompute;
	Query	   *level = shape->query;

	recompute->levels = list_make1(level);
	while (not_linear_below(level))
	{
		int			rtindex;
		Query	   *next = weir_recompute_stream_part(level, &rtindex);

		if (next == NULL)
			weir_refuse(shape->name, "GROUP BY, DISTINCT or OVER stands in an arm of UNION ALL or in a LATERAL sub-select over a stream.",
						"Make a continuous view of that part, and put the parts together where they are read.");
		if (level_has_window(level))
			weir_refuse(shape->name, "A window function in FROM stands beside a sub-select that groups, numbers or makes distinct.",
						"Window the stream itself, in the innermost SELECT, and pass window_start on.");
		recompute->path = lappend_int(recompute->path, rtindex);
		recompute->levels = lappend(recompute->levels, next);
		weir_compat_flatten_groups(next);
		level = next;
	}
}

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
	Stream	   *def = weir_stream_require(stream);

	return def->event_time != NULL || def->server != NULL;
}

/* Is an expression of this level a window over event time, or event time, in all arms of UNION ALL below? */
static bool
by_event_time(Query *level, Node *node)
{
	Var		   *var = (Var *) strip_implicit_coercions(node);
	RangeTblEntry *rte;
	ListCell   *lc;

	check_stack_depth();
	if (!IsA(var, Var) || var->varlevelsup != 0 || var->varattno <= 0)
		return false;
	rte = rt_fetch(var->varno, level->rtable);
	switch (rte->rtekind)
	{
		case RTE_JOIN:
			return by_event_time(level, list_nth(rte->joinaliasvars, var->varattno - 1));
		case RTE_FUNCTION:
			return weir_is_window(rte) &&
				by_event_time(level, linitial(((FuncExpr *) linitial_node(RangeTblFunction, rte->functions)->funcexpr)->args));
		case RTE_NAMEDTUPLESTORE:
			return weir_is_event_time(level, (Node *) var);
		case RTE_SUBQUERY:
			if (rte->subquery->setOperations == NULL)
				return by_event_time(rte->subquery, (Node *) list_nth_node(TargetEntry, rte->subquery->targetList, var->varattno - 1)->expr);
			foreach(lc, rte->subquery->rtable)
			{
				RangeTblEntry *arm = lfirst(lc);

				if (arm->rtekind == RTE_SUBQUERY &&
					!by_event_time(arm->subquery, (Node *) list_nth_node(TargetEntry, arm->subquery->targetList, var->varattno - 1)->expr))
					return false;
			}
			return true;
		default:
			return false;
	}
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
	if (!by_event_time(level, (Node *) expr))
		return;
	foreach(lc, streams)
	{
		if (!keeps_by_event_time(lfirst_oid(lc)))
			return;
	}
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

static void
find_keys(ViewShape *shape)
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
static void
find_unique(ViewShape *shape)
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

/* --- is it enough what is kept? --------------------------------------------------------- */

static const char *
what_needs_rows(ViewShape *shape)
{
	ListCell   *lc;

	foreach(lc, shape->recompute->levels)
	{
		Query	   *level = lfirst(lc);
		const char *aggregate = unmergeable_aggregate(level);

		if (aggregate)
			return aggregate;
		if (level->groupingSets)
			return "GROUPING SETS";
		if (level->hasWindowFuncs)
			return "OVER";
		if (level->hasDistinctOn)
			return "DISTINCT ON";
	}
	return "An aggregate over an aggregate";
}

static bool
keeps_for_ever(Stream *stream)
{
	int64		months = (int64) stream->keep->month + stream->keep->day / DAYS_PER_MONTH;

	return months >= FOR_EVER_YEARS * MONTHS_PER_YEAR;
}

static void
check_stream(ViewShape *shape, Stream *stream)
{
	const char *what = what_needs_rows(shape);
	Recompute  *recompute = shape->recompute;

	if (!stream->keeps_rows)
		weir_refuse(shape->name, psprintf("%s over %s needs the rows themselves, and the stream keeps none (weir.keep = 0).", what, stream->name),
					psprintf("ALTER TABLE %s SET (weir.keep = '1 day').", stream->name));
	if (!stream->logged && stream->server == NULL)
		weir_refuse(shape->name, psprintf("%s over %s needs the rows kept. After a crash they would be gone: the stream is unlogged and fed by INSERT only.", what, stream->name),
					"CREATE TABLE instead of CREATE UNLOGGED TABLE.");
	if (!recompute->windowed && !keeps_for_ever(stream))
		weir_refuse(shape->name, psprintf("%s over %s needs all rows of a key, and the stream keeps those of the last %s only.", what, stream->name,
										  DatumGetCString(DirectFunctionCall1(interval_out, IntervalPGetDatum(stream->keep)))),
					psprintf("Add window_start of tumble() over the event time to the select list and to each GROUP BY, DISTINCT ON and PARTITION BY, or keep all rows: ALTER TABLE %s SET (weir.keep = '%d years').",
							 stream->name, FOR_EVER_YEARS));
}

bool
weir_recompute_is_key(ViewShape *shape, TargetEntry *target)
{
	ListCell   *lc;

	foreach(lc, shape->recompute->keys)
	{
		if (((TouchKey *) lfirst(lc))->target == target)
			return true;
	}
	return false;
}

/* Raises 0A000 unless touched keys can be computed from the kept rows. */
static void
check_kept(ViewShape *shape)
{
	ListCell   *lc;

	if (shape->recompute->from_result)
		return;
	foreach(lc, shape->streams)
		check_stream(shape, weir_stream_require(lfirst_oid(lc)));
	shape->why = psprintf("%s: keys that new rows touch are computed anew from the rows kept", what_needs_rows(shape));
}

/*
 * weir_recompute_filter leaves late rows out. The late rows are those of the lowest level: what
 * stands above it does not see single rows.
 */
void
weir_recompute_filter(ViewShape *shape, LateRule *rule)
{
	ViewShape	lowest = *shape;

	weir_topn_choose(shape);
	if (shape->recompute->from_result && shape->recompute->limit > 1)
		weir_topn_ties(shape);
	else
		weir_arrival_ties(llast(shape->recompute->levels));
	check_kept(shape);
	rule->kept = shape->recompute->windowed && !shape->recompute->from_result;
	lowest.query = weir_recompute_linear_part(llast(shape->recompute->levels), NIL);
	weir_late_filter(&lowest, rule);
	weir_late_filter(shape, rule);
	shape->late = lowest.late;
}

/* weir_recompute_index gives the kept rows an index that finds those of a window. */
void
weir_recompute_index(ViewShape *shape)
{
	ListCell   *lc;

	if (!shape->recompute->windowed || shape->recompute->from_result)
		return;
	foreach(lc, shape->streams)
		weir_segments_index_time(weir_stream_require(lfirst_oid(lc)));
}

/* weir_recompute_cost says for weir.explain what a batch costs. */
const char *
weir_recompute_cost(ViewShape *shape)
{
	Recompute  *recompute = shape->recompute;

	if (recompute->from_result)
		return "per touched key, its rows in the result; writers take turns";
	if (recompute->windowed)
		return "per batch, the kept rows of all touched windows, found by their event time; writers take turns";
	return "per batch, all kept rows, or those of the touched keys where the stream has an index on the key and it is NOT NULL; writers take turns";
}

/* weir_recompute_analyse understands a query over deltas; raises 0A000 if new rows may change any row of the result. */
void
weir_recompute_analyse(ViewShape *shape)
{
	shape->recompute = palloc0(sizeof(Recompute));
	shape->strategy = "recompute";
	shape->in_place = true;
	shape->exclusive = true;
	find_levels(shape);
	find_keys(shape);
	if (shape->recompute->keys == NIL)
		weir_refuse(shape->name, psprintf("%s: no column of the select list is a key of every GROUP BY, DISTINCT ON and PARTITION BY, so new rows may change any row of the result.",
										  what_needs_rows(shape)),
					"Group (or partition) by a column, best by window_start of tumble(), and show it in the select list.");
	find_unique(shape);
	shape->grouped = shape->recompute->unique;
}
