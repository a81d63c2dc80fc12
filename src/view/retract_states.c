/*
 * retract_states.c
 *	  States of aggregates that can be taken back, their results, and the statements over them.
 *
 * retract ⇒ retract_states ⇒ states, statement. Over a delta a state is net: what came less what went. What each aggregate
 * keeps is told in retract.c. The merge of a least or greatest value holds a placeholder, into which weir_retract_splice puts the
 * rows of the views below as a query tree.
 */
#include "postgres.h"

#include "catalog/catalog.h"
#include "catalog/namespace.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"
#include "view/recompute.h"
#include "view/states.h"

/* Placeholders: the rows below of a group, for the n-th state. */
#define WEIR_EXTREME	"weir_extreme_"

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
	numeric = weir_retract_numeric(agg->aggfnoid, &flag);
	if (OidIsValid(numeric))
		return net_result(context, agg, numeric, flag);
	if (!weir_retract_is_extreme(agg, &flag))
		elog(ERROR, "aggregate %u cannot be taken back", agg->aggfnoid);
	return extreme_result(context, agg, flag);
}

/* --- parts of the statement ----------------------------------------------------------------- */

/* weir_retract_number: which of the states it is, from 0 */
int
weir_retract_number(ViewShape *shape, StateColumn *state)
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

/* weir_retract_below: the rows below as keys and the arguments of extremes (of StateColumn), NULL where FILTER leaves the row out */
Query *
weir_retract_below(ViewShape *shape, List *extremes)
{
	Query	   *query = rows_below(shape, ((StateColumn *) linitial(extremes))->extreme);
	ListCell   *lc;

	query->targetList = list_truncate(query->targetList, list_length(shape->keys));
	foreach(lc, extremes)
	{
		Aggref	   *agg = ((StateColumn *) lfirst(lc))->extreme;
		Expr	   *value = copyObject(argument(agg));

		query->targetList = lappend(query->targetList, makeTargetEntry(agg->aggfilter ? case_when(copyObject(agg->aggfilter), value) : value,
																	   list_length(query->targetList) + 1, "x", false));
	}
	return query;
}

/* weir_retract_before: the operator by which a better value stands before another */
char *
weir_retract_before(StateColumn *state)
{
	TypeCacheEntry *entry = lookup_type_cache(state->extreme->aggtype, TYPECACHE_LT_OPR | TYPECACHE_GT_OPR);
	bool		least;

	(void) weir_retract_is_extreme(state->extreme, &least);
	return weir_operator_text(least ? entry->lt_opr : entry->gt_opr);
}

/* (SELECT min(x) FROM <rows below> WHERE they are of the group of state row t) */
static char *
lookup_text(ViewShape *shape, StateColumn *state, List *columns)
{
	Query	   *rows = rows_below(shape, state->extreme);
	char	   *alias = psprintf(WEIR_EXTREME "%d", weir_retract_number(shape, state));
	int			nkeys = list_length(shape->keys);
	Oid			function = state->extreme->aggfnoid;
	StringInfoData buf;
	int			i = 0;
	ListCell   *lc;

	initStringInfo(&buf);
	appendStringInfo(&buf, "(SELECT %s(%s.c%d) FROM %s AS %s WHERE %s",
					 quote_qualified_identifier(get_namespace_name(get_func_namespace(function)), get_func_name(function)),
					 alias, nkeys + 1, weir_statement_placeholder(rows->targetList),
					 weir_text_aliases(alias, list_length(rows->targetList)), state->extreme->aggfilter ? psprintf("%s.c%d", alias, nkeys + 2) : "true");
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
	const char *value = quote_identifier(list_nth(columns, nkeys + weir_retract_number(shape, state)));
	const char *lost = quote_identifier(list_nth(columns, nkeys + state->lost));
	const char *rows = quote_identifier(list_nth(columns, nkeys));
	char	   *before = weir_retract_before(state);
	char	   *lookup = weir_retract_looks_up(shape) ? psprintf("t.%s IS NULL THEN t.%s", lost, value) :
		psprintf("excluded.%s AND (t.%s %s excluded.%s) IS NOT TRUE THEN %s", lost, value, before, value, lookup_text(shape, state, columns));

	return psprintf("CASE WHEN t.%s OPERATOR(pg_catalog.+) excluded.%s OPERATOR(pg_catalog.<=) 0 THEN NULL"
					" WHEN %s"
					" WHEN excluded.%s IS NULL THEN t.%s"
					" WHEN t.%s IS NULL OR excluded.%s %s t.%s THEN excluded.%s ELSE t.%s END",
					rows, rows, lookup, value, value, value, value, before, value, value, value);
}

/* weir_retract_splice puts the rows below into the places that weir_retract_extreme left for them. */
void
weir_retract_splice(ViewShape *shape, Query *query)
{
	ListCell   *lc;

	if (weir_retract_looks_up(shape))
		return;
	foreach(lc, shape->states)
	{
		StateColumn *state = lfirst(lc);

		if (state->merge == MERGE_EXTREME)
			weir_statement_splice(query, psprintf(WEIR_EXTREME "%d", weir_retract_number(shape, state)),
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
