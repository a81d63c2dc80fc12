/*
 * retract.c
 *	  Aggregates over views that change: what went there is taken back.
 *
 * shape ⇒ retract ⇒ retract_states ⇒ statement. capture.c gives old and new versions of the rows that changed below.
 * A group's states are such that they can be added and subtracted exactly, so a batch
 * costs its changes, whatever the views below hold:
 *
 *	  count, bool_and, bool_or, every: counts; sums of integers and money: sum and count;
 *	  sum, avg, variance, stddev of numeric (and the latter of integers): a net (net.c), which also counts NaN, infinities
 *	  and display scales, since the result goes by those that are there;
 *	  min, max: the value. Where it went (the least value that the changes leave net is not above it, and was taken away)
 *	  it is looked up in the tables of the views below, for all such groups of a batch together
 *	  (retract_lookup.c); without group keys by a sub-select in ON CONFLICT DO UPDATE.
 *
 * The first state counts the group's rows: a group without any is not in the result (GROUP BY without keys: it stays), and its
 * states are deleted behind the statement, found by a partial index.
 *
 * Only what gives the same when a row goes as when it came can be taken back: no tables in the query, which
 * change by themselves, no sub-selects, no functions that look at more than their arguments.
 * Keys must be equal only if they look the same, since of two that differ (1.0 and 1.00) the group shows one that is still there. All
 * else is computed anew (tables.c); shape->obstacle says why.
 *
 * Writers take turns: the tables below and the states then agree under the newest snapshot. Changes add up in any order; an
 * extreme that was looked up in tables which are ahead of the changes at hand is looked up again with those that follow.
 */
#include "postgres.h"

#include "access/transam.h"
#include "catalog/catalog.h"
#include "catalog/namespace.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/tlist.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/syscache.h"
#include "utils/typcache.h"
#include "view/recompute.h"
#include "view/states.h"
#include "view/upstream.h"

/* --- can it be taken back? ------------------------------------------------------------ */

/* Types whose values stand for what the catalog says now. */
static bool
is_name_of_something(Oid type)
{
	switch (type)
	{
		case REGPROCOID:
		case REGPROCEDUREOID:
		case REGOPEROID:
		case REGOPERATOROID:
		case REGCLASSOID:
		case REGTYPEOID:
		case REGROLEOID:
		case REGNAMESPACEOID:
		case REGCONFIGOID:
		case REGDICTIONARYOID:
		case REGCOLLATIONOID:
		case OIDOID:
		case NAMEOID:
			return true;
		default:
			return false;
	}
}

/*
 * Does a function give the same later on? Immutable ones do, and stable ones of PostgreSQL's that depend on settings alone,
 * which are those of CREATE.
 */
static bool
may_differ_later(Oid funcid, void *context)
{
	Oid		   *types;
	int			ntypes;

	if (func_volatile(funcid) == PROVOLATILE_IMMUTABLE)
		return false;
	if (funcid >= FirstNormalObjectId)
		return true;
	if (is_name_of_something(get_func_signature(funcid, &types, &ntypes)) || ntypes == 0)
		return true;
	for (int i = 0; i < ntypes; i++)
	{
		if (is_name_of_something(types[i]))
			return true;
	}
	return false;
}

static bool
obstacle_walker(Node *node, char **obstacle)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
	{
		Query	   *query = (Query *) node;

		check_stack_depth();
		if (query->hasSubLinks || query->cteList)
			*obstacle = "a sub-select";
		return *obstacle != NULL ||
			query_tree_walker(query, obstacle_walker, obstacle, QTW_EXAMINE_RTES_BEFORE);
	}
	if (IsA(node, RangeTblEntry))
	{
		RangeTblEntry *rte = (RangeTblEntry *) node;

		if (rte->rtekind == RTE_RELATION && rte->inFromCl)
			*obstacle = psprintf("table %s", weir_relation_name(rte->relid));
		else if (rte->tablesample)
			*obstacle = "TABLESAMPLE";
		return *obstacle != NULL;
	}
	return expression_tree_walker(node, obstacle_walker, obstacle);
}

static bool
function_walker(Node *node, char **obstacle)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, function_walker, obstacle, 0);
	if (IsA(node, SQLValueFunction) || IsA(node, NextValueExpr) || check_functions_in_node(node, may_differ_later, NULL))
		*obstacle = "a function that is not immutable";
	return *obstacle != NULL || expression_tree_walker(node, function_walker, obstacle);
}

/* weir_retract_is_extreme: min or max of a type by its own order? *least: min */
bool
weir_retract_is_extreme(Aggref *agg, bool *least)
{
	HeapTuple	tuple = SearchSysCache1(AGGFNOID, ObjectIdGetDatum(agg->aggfnoid));
	Form_pg_aggregate form;
	TypeCacheEntry *entry;
	Oid			order;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for aggregate %u", agg->aggfnoid);
	form = (Form_pg_aggregate) GETSTRUCT(tuple);
	order = OidIsValid(form->aggfinalfn) ? InvalidOid : form->aggsortop;
	ReleaseSysCache(tuple);
	if (!OidIsValid(order) || list_length(agg->args) != 1 ||
		exprType((Node *) linitial_node(TargetEntry, agg->args)->expr) != agg->aggtype)
		return false;
	entry = lookup_type_cache(agg->aggtype, TYPECACHE_LT_OPR | TYPECACHE_GT_OPR | TYPECACHE_CMP_PROC);
	*least = order == entry->lt_opr;
	return OidIsValid(entry->cmp_proc) && (order == entry->lt_opr || order == entry->gt_opr);
}

/* weir_retract_numeric: the aggregate of numeric that gives the same, of those that are kept as nets; InvalidOid: it is another. *squares: it needs them. */
Oid
weir_retract_numeric(Oid agg, bool *squares)
{
	*squares = true;
	switch (agg)
	{
		case F_SUM_NUMERIC:
		case F_AVG_NUMERIC:
			*squares = false;
			return agg;
		case F_VAR_POP_INT2:
		case F_VAR_POP_INT4:
		case F_VAR_POP_INT8:
		case F_VAR_POP_NUMERIC:
			return F_VAR_POP_NUMERIC;
		case F_VAR_SAMP_INT2:
		case F_VAR_SAMP_INT4:
		case F_VAR_SAMP_INT8:
		case F_VAR_SAMP_NUMERIC:
		case F_VARIANCE_INT2:
		case F_VARIANCE_INT4:
		case F_VARIANCE_INT8:
		case F_VARIANCE_NUMERIC:
			return F_VAR_SAMP_NUMERIC;
		case F_STDDEV_POP_INT2:
		case F_STDDEV_POP_INT4:
		case F_STDDEV_POP_INT8:
		case F_STDDEV_POP_NUMERIC:
			return F_STDDEV_POP_NUMERIC;
		case F_STDDEV_SAMP_INT2:
		case F_STDDEV_SAMP_INT4:
		case F_STDDEV_SAMP_INT8:
		case F_STDDEV_SAMP_NUMERIC:
		case F_STDDEV_INT2:
		case F_STDDEV_INT4:
		case F_STDDEV_INT8:
		case F_STDDEV_NUMERIC:
			return F_STDDEV_SAMP_NUMERIC;
		default:
			return InvalidOid;
	}
}

static bool
can_take_back(Aggref *agg)
{
	bool		flag;

	if (agg->aggkind != AGGKIND_NORMAL || agg->aggdistinct || agg->aggorder)
		return false;
	switch (agg->aggfnoid)
	{
		case F_COUNT_:
		case F_COUNT_ANY:
		case F_SUM_INT2:
		case F_SUM_INT4:
		case F_SUM_INT8:
		case F_SUM_MONEY:
		case F_AVG_INT2:
		case F_AVG_INT4:
		case F_AVG_INT8:
		case F_BOOL_AND:
		case F_BOOL_OR:
		case F_EVERY:
			return true;
	}
	return OidIsValid(weir_retract_numeric(agg->aggfnoid, &flag)) || weir_retract_is_extreme(agg, &flag);
}

static bool
aggregate_walker(Node *node, char **obstacle)
{
	if (node == NULL)
		return false;
	if (IsA(node, Aggref) && !can_take_back((Aggref *) node))
		*obstacle = ((Aggref *) node)->aggdistinct ? "DISTINCT in an aggregate" :
			((Aggref *) node)->aggorder ? "ORDER BY in an aggregate" :
			psprintf("aggregate %s", format_procedure(((Aggref *) node)->aggfnoid));
	else if (IsA(node, GroupingFunc))
		*obstacle = "GROUPING";
	return *obstacle != NULL || expression_tree_walker(node, aggregate_walker, obstacle);
}

/* Keys must be shown, and be equal only if they are the same. */
static char *
key_obstacle(Query *query)
{
	ListCell   *lc;

	if (list_length(query->groupClause) > INDEX_MAX_KEYS)
		return "too many keys";
	foreach(lc, query->groupClause)
	{
		SortGroupClause *clause = lfirst(lc);
		TargetEntry *tle = get_sortgroupclause_tle(clause, query->targetList);

		if (tle->resjunk)
			return "a key that is not shown";
		if (!weir_equal_is_same(exprType((Node *) tle->expr), exprCollation((Node *) tle->expr), clause->eqop))
			return psprintf("a key of type %s, of which equal values may look different",
							format_type_be(exprType((Node *) tle->expr)));
	}
	return NULL;
}

/* The grouped query itself, without what only sorts; or NULL and the obstacle. is_new: what functions are now decides. */
static Query *
grouped_query(ViewShape *shape, bool is_new, char **obstacle)
{
	Query	   *query = copyObject(linitial_node(RangeTblEntry, shape->query->rtable)->subquery);
	List	   *targets = NIL;
	ListCell   *lc;

	weir_compat_flatten_groups(query);
	weir_distinct_as_groups(query);
	if (!query->hasAggs && query->groupClause == NIL)
		return NULL;
	if (query->groupingSets || query->distinctClause || query->hasWindowFuncs || query->hasTargetSRFs ||
		query->limitCount || query->limitOffset || !weir_tables_linear(query))
		return NULL;
	*obstacle = key_obstacle(query);
	if (*obstacle || aggregate_walker((Node *) query->targetList, obstacle) ||
		aggregate_walker(query->havingQual, obstacle) || obstacle_walker((Node *) query, obstacle) ||
		(is_new && function_walker((Node *) query, obstacle)))
		return NULL;
	foreach(lc, query->targetList)
	{
		if (!lfirst_node(TargetEntry, lc)->resjunk)
			targets = lappend(targets, lfirst(lc));
	}
	query->targetList = targets;
	return query;
}

/*
 * weir_retract_prepare tells whether a view over views that change can be kept by what came and went there, and
 * then leaves the query over deltas and its kin in the shape, to be split into states (shape.c). strategy: of a view that is there
 * already, which keeps to it whatever became of functions since; or NULL.
 */
bool
weir_retract_prepare(ViewShape *shape, const char *strategy)
{
	Query	   *query;
	ListCell   *lc;

	if (strategy && strcmp(strategy, "retract") != 0)
		return false;

	foreach(lc, shape->streams)
	{
		if (!weir_source_changes(lfirst_oid(lc)))
			return false;		/* its retention is no change */
	}
	query = grouped_query(shape, strategy == NULL, &shape->obstacle);
	if (query == NULL && strategy)
		elog(ERROR, "what goes in the views below cannot be taken back from view \"%s\" any more", shape->name);
	if (query == NULL)
		return false;
	shape->query = query;
	shape->gone = make_opclause(OpernameGetOprid(list_make2(makeString("pg_catalog"), makeString("=")), INT4OID, INT4OID),
								BOOLOID, false, weir_late_expose(query, WEIR_COL_PARTITION),
								(Expr *) makeConst(INT4OID, -1, InvalidOid, sizeof(int32), Int32GetDatum(WEIR_GONE_PARTITION), false, true),
								InvalidOid, InvalidOid);
	shape->tables = shape->retracts = shape->grouped = shape->exclusive = true;
	shape->strategy = "retract";
	shape->why = "it reads views that change: what came there is added to the states of its groups, and what went is taken back";
	shape->recompute = palloc0(sizeof(Recompute));
	shape->recompute->levels = list_make1(query);
	weir_recompute_build(shape);
	return true;
}

const char *
weir_retract_cost(ViewShape *shape)
{
	ListCell   *lc;

	foreach(lc, shape->states)
	{
		if (((StateColumn *) lfirst(lc))->merge == MERGE_EXTREME)
			return "per batch, the rows that came and went in the views that it reads, and the groups they touch; where values of min or max went, the rows of their groups there, "
				"found by an index that these have on the key (without GROUP BY: on the value), or by reading them all once; writers take turns";
	}
	return "per batch, the rows that came and went in the views that it reads, and the groups they touch; writers take turns";
}
