/*
 * retract.c
 *	  Aggregates over views that change: what went there is taken back.
 *
 * shape ⇒ retract ⇒ states, statement. capture.c gives old and new versions of the rows that changed below.
 * A group's states are such that they can be added and subtracted exactly, so a batch
 * costs its changes, whatever the views below hold:
 *
 *	  count, bool_and, bool_or, every: counts; sums of integers and money: sum and count;
 *	  sum, avg, variance, stddev of numeric (and the latter of integers): a net (net.c), which also counts NaN, infinities
 *	  and display scales, since the result goes by those that are there;
 *	  min, max: the value. Where it went (the least value that the changes leave net is not above it, and was taken away)
 *	  it is looked up in the tables of the views below, among the rows of that group, by a
 *	  sub-select in ON CONFLICT DO UPDATE that is run for no other group.
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

/* Placeholders: the rows below of a group, for the n-th state. */
#define WEIR_EXTREME	"weir_extreme_"

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
	if (IsA(node, SQLValueFunction) || IsA(node, NextValueExpr))
		*obstacle = "a function that looks at the session";
	else if (check_functions_in_node(node, may_differ_later, NULL))
		*obstacle = "a function that is not immutable";
	return *obstacle != NULL || expression_tree_walker(node, obstacle_walker, obstacle);
}

/* min or max of a type by its own order? *least: min */
static bool
is_extreme(Aggref *agg, bool *least)
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

/* The aggregate of numeric that gives the same, of those that are kept as nets; InvalidOid: it is another. *squares: it needs them. */
static Oid
numeric_aggregate(Oid agg, bool *squares)
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
	return OidIsValid(numeric_aggregate(agg->aggfnoid, &flag)) || is_extreme(agg, &flag);
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

/* The grouped query itself, without what only sorts; or NULL and the obstacle. */
static Query *
grouped_query(ViewShape *shape, char **obstacle)
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
		aggregate_walker(query->havingQual, obstacle) || obstacle_walker((Node *) query, obstacle))
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
 * then leaves the query over deltas and its kin in the shape, to be split into states (shape.c).
 */
bool
weir_retract_prepare(ViewShape *shape)
{
	Query	   *query;
	ListCell   *lc;

	foreach(lc, shape->streams)
	{
		if (!weir_source_changes(lfirst_oid(lc)))
			return false;		/* its retention is no change */
	}
	query = grouped_query(shape, &shape->obstacle);
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
			return "per batch, the rows that came and went in the views that it reads, and the groups they touch; where the value of min or max went, the rows of its group there, "
				"found by an index that these have on the key (without GROUP BY: on the value), else by reading them all; writers take turns";
	}
	return "per batch, the rows that came and went in the views that it reads, and the groups they touch; writers take turns";
}

/* --- states over a delta ------------------------------------------------------------------- */

static Expr *
operator_call(const char *name, Oid type, Oid result, Expr *left, Expr *right)
{
	return make_opclause(OpernameGetOprid(list_make2(makeString("pg_catalog"), makeString(pstrdup(name))), type, type),
						 result, false, left, right, InvalidOid, InvalidOid);
}

static Expr *
case_when(Expr *condition, Expr *result)
{
	CaseExpr   *expr = makeNode(CaseExpr);
	CaseWhen   *when = makeNode(CaseWhen);

	when->expr = condition;
	when->result = result;
	when->location = expr->location = -1;
	expr->casetype = exprType((Node *) result);
	expr->casecollid = exprCollation((Node *) result);
	expr->args = list_make1(when);
	expr->defresult = (Expr *) makeNullConst(expr->casetype, -1, expr->casecollid);
	return (Expr *) expr;
}

static Expr *
int8_const(int64 value)
{
	return (Expr *) makeConst(INT8OID, -1, InvalidOid, sizeof(int64), Int64GetDatum(value), false, true);
}

/* An aggregate's call with one more condition in FILTER. */
static Aggref *
filtered(Aggref *agg, Expr *condition)
{
	agg = copyObject(agg);
	condition = copyObject(condition);
	agg->aggfilter = agg->aggfilter ? (Expr *) makeBoolExpr(AND_EXPR, list_make2(agg->aggfilter, condition), -1) : condition;
	return agg;
}

/* The call over what came, less that over what went; zero: SQL of a type's zero that stands for no rows, NULL: it is never NULL. */
static Expr *
net_of(ViewShape *shape, Aggref *agg, Const *zero)
{
	Expr	   *came = (Expr *) filtered(agg, make_notclause(shape->gone));
	Expr	   *went = (Expr *) filtered(agg, shape->gone);
	Oid			type = agg->aggtype;

	if (zero)
	{
		CoalesceExpr *coalesce = makeNode(CoalesceExpr);

		coalesce->coalescetype = type;
		coalesce->location = -1;
		coalesce->args = list_make2(came, zero);
		came = (Expr *) coalesce;
		coalesce = copyObject(coalesce);
		coalesce->args = list_make2(went, copyObject(zero));
		went = (Expr *) coalesce;
	}
	return operator_call("-", type, type, came, went);
}

static Aggref *
other_aggregate(Aggref *agg, Oid funcid, Oid type, List *args)
{
	Aggref	   *other = copyObject(agg);
	ListCell   *lc;

	other->aggfnoid = funcid;
	other->aggtype = type;
	other->aggtranstype = InvalidOid;
	other->aggcollid = get_typcollation(type) == InvalidOid ? InvalidOid : agg->aggcollid;
	other->aggstar = args == NIL;
	other->aggvariadic = false;
	other->args = NIL;
	other->aggargtypes = NIL;
	foreach(lc, args)
	{
		other->args = lappend(other->args, makeTargetEntry(copyObject(lfirst(lc)), list_length(other->args) + 1, NULL, false));
		other->aggargtypes = lappend_oid(other->aggargtypes, exprType(lfirst(lc)));
	}
	return other;
}

static Expr *
argument(Aggref *agg)
{
	return linitial_node(TargetEntry, agg->args)->expr;
}

/* weir_retract_rows: by how many rows a delta makes its group longer */
Expr *
weir_retract_rows(ViewShape *shape)
{
	Aggref	   *agg = makeNode(Aggref);

	agg->aggfnoid = F_COUNT_;
	agg->aggtype = INT8OID;
	agg->aggstar = true;
	agg->aggkind = AGGKIND_NORMAL;
	agg->aggsplit = AGGSPLIT_SIMPLE;
	agg->aggno = agg->aggtransno = -1;
	agg->location = -1;
	return net_of(shape, agg, NULL);
}

/* How many rows count for the call: its state. */
static Expr *
count_state(ShapeContext *context, Aggref *agg)
{
	return weir_merged_state(context, net_of(context->shape, agg, NULL), MERGE_COUNT, F_COUNT_ANY);
}

static Expr *
value_count(ShapeContext *context, Aggref *agg)
{
	return count_state(context, other_aggregate(agg, F_COUNT_ANY, INT8OID, list_make1(argument(agg))));
}

/* Sum of integers or money: a state that is never NULL. */
static Expr *
sum_state(ShapeContext *context, Aggref *agg, Oid sum, Oid type)
{
	Const	   *zero = type == NUMERICOID ?
		makeConst(NUMERICOID, -1, InvalidOid, -1, DirectFunctionCall1(int8_numeric, Int64GetDatum(0)), false, false) :
		makeConst(type, -1, InvalidOid, sizeof(int64), Int64GetDatum(0), false, true);

	return weir_merged_state(context, net_of(context->shape, other_aggregate(agg, sum, type, list_make1(argument(agg))), zero),
							 MERGE_COUNT, sum);
}

static Expr *
as_numeric(Expr *integer)
{
	Oid			type = exprType((Node *) integer);
	Oid			cast = type == INT8OID ? F_NUMERIC_INT8 : type == INT4OID ? F_NUMERIC_INT4 : F_NUMERIC_INT2;

	return type == NUMERICOID ? integer :
		(Expr *) makeFuncExpr(cast, NUMERICOID, list_make1(integer), InvalidOid, InvalidOid, COERCE_EXPLICIT_CAST);
}

/* --- results over merged states -------------------------------------------------------------- */

static Expr *
sum_result(ShapeContext *context, Aggref *agg)
{
	Expr	   *sum = sum_state(context, agg, agg->aggfnoid, agg->aggtype);

	return case_when(operator_call(">", INT8OID, BOOLOID, value_count(context, agg), int8_const(0)), sum);
}

static Expr *
avg_result(ShapeContext *context, Aggref *agg)
{
	Expr	   *sum = agg->aggfnoid == F_AVG_INT8 ? sum_state(context, agg, F_SUM_INT8, NUMERICOID) :
		sum_state(context, agg, agg->aggfnoid == F_AVG_INT2 ? F_SUM_INT2 : F_SUM_INT4, INT8OID);
	Expr	   *count = value_count(context, agg);

	return case_when(operator_call(">", INT8OID, BOOLOID, count, int8_const(0)),
					 operator_call("/", NUMERICOID, NUMERICOID, as_numeric(sum), as_numeric(copyObject(count))));
}

/* bool_and, every: no value is false. bool_or: one is true. */
static Expr *
bool_result(ShapeContext *context, Aggref *agg)
{
	bool		any = agg->aggfnoid == F_BOOL_OR;
	Aggref	   *some = filtered(agg, any ? argument(agg) : make_notclause(copyObject(argument(agg))));
	Expr	   *decides = count_state(context, other_aggregate(some, F_COUNT_, INT8OID, NIL));

	return case_when(operator_call(">", INT8OID, BOOLOID, value_count(context, agg), int8_const(0)),
					 operator_call(any ? ">" : "=", INT8OID, BOOLOID, decides, int8_const(0)));
}

static Expr *
bool_const(bool value)
{
	return (Expr *) makeBoolConst(value, false);
}

/* The net of a numeric, and PostgreSQL's own final function over the state that it stands for. */
static Expr *
net_result(ShapeContext *context, Aggref *agg, Oid numeric, bool squares)
{
	Oid			net_types[3] = {NUMERICOID, BOOLOID, BOOLOID};
	Oid			state_types[2] = {BYTEAOID, BOOLOID};
	Oid			final_types[3] = {REGPROCEDUREOID, BYTEAOID, ANYELEMENTOID};
	Aggref	   *net = other_aggregate(agg, weir_function_named("net", 3, net_types), BYTEAOID,
									  list_make3(as_numeric(argument(agg)), context->shape->gone, bool_const(squares)));
	Expr	   *state = weir_merged_state(context, (Expr *) net, MERGE_NET, net->aggfnoid);

	state = (Expr *) makeFuncExpr(weir_function_named("net_state", 2, state_types), BYTEAOID,
								  list_make2(state, bool_const(squares)), InvalidOid, InvalidOid, COERCE_EXPLICIT_CALL);
	return (Expr *) makeFuncExpr(weir_function_named("finalize", 3, final_types), NUMERICOID,
								 list_make3(weir_aggregate_const(numeric), state, makeNullConst(NUMERICOID, -1, InvalidOid)),
								 InvalidOid, InvalidOid, COERCE_EXPLICIT_CALL);
}

/* The extreme, and whether it went. */
static Expr *
extreme_result(ShapeContext *context, Aggref *agg, bool least)
{
	Oid			types[2] = {ANYELEMENTOID, BOOLOID};
	List	   *args = list_make2(argument(agg), context->shape->gone);
	int			nkeys = list_length(context->shape->keys);
	Aggref	   *value = other_aggregate(agg, weir_function_named(least ? "net_min" : "net_max", 2, types), agg->aggtype, args);
	Aggref	   *lost = other_aggregate(agg, weir_function_named(least ? "net_min_lost" : "net_max_lost", 2, types), BOOLOID, args);
	Var		   *state = (Var *) weir_merged_state(context, (Expr *) value, MERGE_EXTREME, agg->aggfnoid);
	Var		   *flag = (Var *) weir_merged_state(context, (Expr *) lost, MERGE_LOST, agg->aggfnoid);
	StateColumn *column = list_nth(context->shape->states, state->varattno - nkeys - 1);

	column->extreme = copyObject(agg);
	column->lost = flag->varattno - nkeys - 1;
	return (Expr *) state;
}

/* weir_retract_result adds the states that an aggregate needs and returns its result over merged states. */
Expr *
weir_retract_result(ShapeContext *context, Aggref *agg)
{
	bool		flag;
	Oid			numeric;

	switch (agg->aggfnoid)
	{
		case F_COUNT_:
		case F_COUNT_ANY:
			return count_state(context, agg);
		case F_SUM_INT2:
		case F_SUM_INT4:
		case F_SUM_INT8:
		case F_SUM_MONEY:
			return sum_result(context, agg);
		case F_AVG_INT2:
		case F_AVG_INT4:
		case F_AVG_INT8:
			return avg_result(context, agg);
		case F_BOOL_AND:
		case F_BOOL_OR:
		case F_EVERY:
			return bool_result(context, agg);
	}
	numeric = numeric_aggregate(agg->aggfnoid, &flag);
	if (OidIsValid(numeric))
		return net_result(context, agg, numeric, flag);
	if (!is_extreme(agg, &flag))
		elog(ERROR, "aggregate %u cannot be taken back", agg->aggfnoid);
	return extreme_result(context, agg, flag);
}

/* --- parts of the statement ----------------------------------------------------------------- */

static int
state_number(ViewShape *shape, StateColumn *state)
{
	int			i = 0;
	ListCell   *lc;

	foreach(lc, shape->states)
	{
		if (lfirst(lc) == state)
			return i;
		i++;
	}
	elog(ERROR, "state not found");
}

/* The rows below as keys, argument and FILTER's condition. */
static Query *
rows_below(ViewShape *shape, Aggref *agg)
{
	Query	   *query = copyObject(shape->recompute->all);
	ListCell   *lc;

	query->targetList = NIL;
	query->groupClause = NIL;
	query->havingQual = NULL;
	query->hasAggs = false;
	foreach(lc, shape->keys)
		query->targetList = lappend(query->targetList,
									makeTargetEntry(copyObject(lfirst_node(TargetEntry, lc)->expr), list_length(query->targetList) + 1, "k", false));
	query->targetList = lappend(query->targetList,
								makeTargetEntry(copyObject(argument(agg)), list_length(query->targetList) + 1, "x", false));
	if (agg->aggfilter)
		query->targetList = lappend(query->targetList,
									makeTargetEntry(copyObject(agg->aggfilter), list_length(query->targetList) + 1, "f", false));
	return query;
}

/* (SELECT min(x) FROM <rows below> WHERE they are of the group of state row t) */
static char *
lookup_text(ViewShape *shape, StateColumn *state, List *columns)
{
	Query	   *rows = rows_below(shape, state->extreme);
	char	   *alias = psprintf(WEIR_EXTREME "%d", state_number(shape, state));
	int			nkeys = list_length(shape->keys);
	Oid			function = state->extreme->aggfnoid;
	StringInfoData buf;
	int			i = 0;
	ListCell   *lc;

	initStringInfo(&buf);
	appendStringInfo(&buf, "(SELECT %s(%s.c%d) FROM %s AS %s(",
					 quote_qualified_identifier(get_namespace_name(get_func_namespace(function)), get_func_name(function)),
					 alias, nkeys + 1, weir_statement_placeholder(rows->targetList), alias);
	for (i = 1; i <= list_length(rows->targetList); i++)
		appendStringInfo(&buf, "%sc%d", i > 1 ? ", " : "", i);
	appendStringInfo(&buf, ") WHERE %s", state->extreme->aggfilter ? psprintf("%s.c%d", alias, nkeys + 2) : "true");
	i = 0;
	foreach(lc, shape->keys)
	{
		i++;
		appendStringInfo(&buf, " AND %s", weir_match_text(psprintf("%s.c%d", alias, i),
														  psprintf("t.%s", quote_identifier(list_nth(columns, i - 1))),
														  exprType((Node *) lfirst_node(TargetEntry, lc)->expr), false));
	}
	appendStringInfoChar(&buf, ')');
	return buf.data;
}

/* weir_retract_extreme: what a stored least or greatest value becomes, as SQL; columns: names of the state table's. */
char *
weir_retract_extreme(ViewShape *shape, StateColumn *state, List *columns)
{
	int			nkeys = list_length(shape->keys);
	const char *value = quote_identifier(list_nth(columns, nkeys + state_number(shape, state)));
	const char *lost = quote_identifier(list_nth(columns, nkeys + state->lost));
	const char *rows = quote_identifier(list_nth(columns, nkeys));
	Oid			type = state->extreme->aggtype;
	TypeCacheEntry *entry = lookup_type_cache(type, TYPECACHE_LT_OPR | TYPECACHE_GT_OPR);
	bool		least;
	char	   *before;

	(void) is_extreme(state->extreme, &least);
	before = weir_operator_text(least ? entry->lt_opr : entry->gt_opr);
	return psprintf("CASE WHEN t.%s OPERATOR(pg_catalog.+) excluded.%s OPERATOR(pg_catalog.<=) 0 THEN NULL"
					" WHEN excluded.%s AND (t.%s %s excluded.%s) IS NOT TRUE THEN %s"
					" WHEN excluded.%s IS NULL THEN t.%s"
					" WHEN t.%s IS NULL OR excluded.%s %s t.%s THEN excluded.%s ELSE t.%s END",
					rows, rows, lost, value, before, value, lookup_text(shape, state, columns),
					value, value, value, value, before, value, value, value);
}

/* weir_retract_splice puts the rows below into the places that weir_retract_extreme left for them. */
void
weir_retract_splice(ViewShape *shape, Query *query)
{
	ListCell   *lc;

	foreach(lc, shape->states)
	{
		StateColumn *state = lfirst(lc);

		if (state->merge == MERGE_EXTREME)
			weir_statement_splice(query, psprintf(WEIR_EXTREME "%d", state_number(shape, state)),
								  rows_below(shape, state->extreme));
	}
}

/* --- statements beside ------------------------------------------------------------------------ */

/* weir_retract_clear empties the states. */
Query *
weir_retract_clear(Oid state)
{
	return weir_statement_parse(psprintf("DELETE FROM %s AS t", weir_relation_name(state)));
}

/* weir_retract_empty forgets groups without rows: their first state is 0. */
Query *
weir_retract_empty(ViewShape *shape, Oid state)
{
	char	   *column = get_attname(state, weir_live_column(state, list_length(shape->keys) + 1), false);

	return weir_statement_parse(psprintf("DELETE FROM %s AS t WHERE t.%s OPERATOR(pg_catalog.=) 0",
										 weir_relation_name(state), quote_identifier(column)));
}

/* weir_retract_states computes the states of all groups from the tables of the views below; there must be none. */
Query *
weir_retract_states(ViewShape *shape, Oid state)
{
	Query	   *query = weir_statement_parse(weir_statement_states(shape, state));
	Query	   *partial = copyObject(shape->recompute->all);

	partial->targetList = copyObject(shape->partial->targetList);
	partial->havingQual = NULL;
	partial->hasAggs = true;
	weir_statement_splice(query, WEIR_PART, partial);
	weir_retract_splice(shape, query);
	return query;
}
