/*
 * states.c
 *	  The states that a view's columns go on from, and their results over merged states.
 *
 * shape ⇒ states ⇒ statement. A state is a column of the partial query over a delta. An
 * expression of the select list becomes one over WEIR_MERGED, the merged states.
 *
 * avg is split into sum and count, shared with equal sums and counts of the view; what has
 * a combine function keeps its transition state, serialised by weir.partial() (partial.c).
 *
 * avg is computed as PostgreSQL's own final functions do it (numeric division
 * of sum by count for the exact types), so results are identical.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/parse_func.h"
#include "rewrite/rewriteManip.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "view/session.h"
#include "view/states.h"

/* Number of the state column that holds this partial, added if there is none yet; counted from 0. */
static int
state_column(ViewShape *shape, Expr *partial, MergeKind merge, Oid agg)
{
	StateColumn *state;
	int			i = 0;
	ListCell   *lc;

	foreach(lc, shape->states)
	{
		if (equal(((StateColumn *) lfirst(lc))->partial, partial))
			return i;
		i++;
	}
	state = palloc0(sizeof(StateColumn));
	state->partial = copyObject(partial);
	state->merge = merge;
	state->agg = agg;
	shape->states = lappend(shape->states, state);
	return i;
}

/* The merged state as the final query sees it: a column of WEIR_MERGED. */
Expr *
weir_merged_var(ShapeContext *context, Expr *partial, int column)
{
	return (Expr *) makeVar(1, column + 1, exprType((Node *) partial),
							exprTypmod((Node *) partial),
							exprCollation((Node *) partial),
							context->sublevels_up);
}

Expr *
weir_merged_state(ShapeContext *context, Expr *partial, MergeKind merge, Oid agg)
{
	int			column = state_column(context->shape, partial, merge, agg);

	return weir_merged_var(context, partial, list_length(context->shape->keys) + column);
}

static Expr *
call(Oid funcid, Oid result, List *args)
{
	return (Expr *) makeFuncExpr(funcid, result, args, InvalidOid, InvalidOid,
								 COERCE_EXPLICIT_CALL);
}

static Expr *
cast(Oid funcid, Oid result, Expr *arg)
{
	return (Expr *) makeFuncExpr(funcid, result, list_make1(arg), InvalidOid, InvalidOid,
								 COERCE_EXPLICIT_CAST);
}

/* The same call of another aggregate function. */
static Aggref *
sibling(Aggref *agg, Oid funcid, Oid type)
{
	Aggref	   *other = copyObject(agg);

	other->aggfnoid = funcid;
	other->aggtype = type;
	other->aggtranstype = InvalidOid;
	return other;
}

/* sum(x::float8) for avg over float4, which adds in float8 */
static Aggref *
sum_of_float4(Aggref *agg)
{
	Aggref	   *sum = sibling(agg, F_SUM_FLOAT8, FLOAT8OID);
	TargetEntry *arg = linitial_node(TargetEntry, sum->args);

	arg->expr = cast(F_FLOAT8_FLOAT4, FLOAT8OID, arg->expr);
	sum->aggargtypes = list_make1_oid(FLOAT8OID);
	return sum;
}

/* split_avg returns sum / count over merged states, or NULL if agg is no avg. */
static Expr *
split_avg(ShapeContext *context, Aggref *agg)
{
	Aggref	   *sum;
	Expr	   *total;
	Expr	   *count;

	switch (agg->aggfnoid)
	{
		case F_AVG_INT2:
			sum = sibling(agg, F_SUM_INT2, INT8OID);
			break;
		case F_AVG_INT4:
			sum = sibling(agg, F_SUM_INT4, INT8OID);
			break;
		case F_AVG_INT8:
			sum = sibling(agg, F_SUM_INT8, NUMERICOID);
			break;
		case F_AVG_NUMERIC:
			sum = sibling(agg, F_SUM_NUMERIC, NUMERICOID);
			break;
		case F_AVG_FLOAT4:
			sum = sum_of_float4(agg);
			break;
		case F_AVG_FLOAT8:
			sum = sibling(agg, F_SUM_FLOAT8, FLOAT8OID);
			break;
		case F_AVG_INTERVAL:
			sum = sibling(agg, F_SUM_INTERVAL, INTERVALOID);
			break;
		default:
			return NULL;
	}
	total = weir_merged_state(context, (Expr *) sum, MERGE_PLUS, sum->aggfnoid);
	count = weir_merged_state(context, (Expr *) sibling(agg, F_COUNT_ANY, INT8OID), MERGE_COUNT, F_COUNT_ANY);
	if (sum->aggtype == INTERVALOID)
		return call(F_INTERVAL_DIV, INTERVALOID,
					list_make2(total, cast(F_FLOAT8_INT8, FLOAT8OID, count)));
	if (sum->aggtype == FLOAT8OID)
		return call(F_FLOAT8DIV, FLOAT8OID,
					list_make2(total, cast(F_FLOAT8_INT8, FLOAT8OID, count)));
	if (sum->aggtype == INT8OID)
		total = cast(F_NUMERIC_INT8, NUMERICOID, total);
	return call(F_NUMERIC_DIV, NUMERICOID,
				list_make2(total, cast(F_NUMERIC_INT8, NUMERICOID, count)));
}

/* weir_own_function: a function of weir's own, by name and argument types. */
Oid
weir_function_named(const char *name, int nargs, Oid *types)
{
	return LookupFuncName(list_make2(makeString(WEIR_SCHEMA), makeString(pstrdup(name))),
						  nargs, types, false);
}

Const *
weir_aggregate_const(Oid agg)
{
	return makeConst(REGPROCEDUREOID, -1, InvalidOid, sizeof(Oid),
					 ObjectIdGetDatum(agg), false, true);
}

/* weir.partial('agg'::regprocedure, args ...) FILTER (...), in the place of agg */
static Aggref *
partial_aggregate(Aggref *agg)
{
	Oid			types[2] = {REGPROCEDUREOID, ANYOID};
	Aggref	   *partial = sibling(agg, weir_function_named("partial", 2, types), BYTEAOID);
	AttrNumber	resno = 1;
	ListCell   *lc;

	partial->aggcollid = InvalidOid;
	partial->aggvariadic = false;
	partial->aggstar = false;
	foreach(lc, partial->args)
		((TargetEntry *) lfirst(lc))->resno = ++resno;
	partial->args = lcons(makeTargetEntry((Expr *) weir_aggregate_const(agg->aggfnoid), 1, NULL, false),
						  partial->args);
	partial->aggargtypes = lcons_oid(REGPROCEDUREOID, partial->aggargtypes);
	return partial;
}

/* Any other aggregate: its serialised transition state, merged and finished by partial.c. */
static Expr *
generic_state(ShapeContext *context, Aggref *agg)
{
	ViewShape  *shape = context->shape;
	MergeInfo		info;
	Expr	   *state;
	Oid			types[3] = {REGPROCEDUREOID, BYTEAOID, ANYELEMENTOID};
	FuncExpr   *final;

	weir_aggregate_read(agg, &info);
	if (!OidIsValid(info.combinefn) ||
		(info.transtype == INTERNALOID && !OidIsValid(info.serialfn)))
		weir_refuse(shape->name, psprintf("Aggregate %s has no combine function: its results cannot be merged.",
										  format_procedure(agg->aggfnoid)),
					"Use aggregates that can be merged: count, sum, avg, min, max, bool_and, stddev ...");
	if (info.polymorphic || list_length(agg->args) == 0)
		weir_refuse(shape->name, psprintf("Aggregate %s is polymorphic: its states cannot be stored.",
										  format_procedure(agg->aggfnoid)),
					"Use an aggregate that is declared for the type itself.");
	state = weir_merged_state(context, (Expr *) partial_aggregate(agg), MERGE_STATE, agg->aggfnoid);
	final = makeFuncExpr(weir_function_named("finalize", 3, types), agg->aggtype,
						 list_make3(weir_aggregate_const(agg->aggfnoid), state,
									makeNullConst(agg->aggtype, -1, agg->aggcollid)),
						 agg->aggcollid, agg->inputcollid, COERCE_EXPLICIT_CALL);
	return (Expr *) final;
}

/* weir.first(x) and weir.last(x) are kept as arrays of one value: NULL may be it. */
static Expr *
single_value(ShapeContext *context, Aggref *agg)
{
	Oid			types[2] = {ANYELEMENTOID, INT4OID};
	Oid			array[1] = {ANYARRAYOID};
	Oid			type = get_array_type(agg->aggtype);
	Aggref	   *state;
	Expr	   *one = (Expr *) makeConst(INT4OID, -1, InvalidOid, sizeof(int32), Int32GetDatum(1), false, true);
	ListCell   *lc;

	if (!OidIsValid(type))
		weir_refuse(context->shape->name, psprintf("There is no type for arrays of %s.", format_type_be(agg->aggtype)), NULL);
	state = sibling(agg, weir_function_named(get_func_name(agg->aggfnoid), 2, types), type);
	foreach(lc, state->args)
	{
		TargetEntry *arg = lfirst(lc);

		if (arg->resno > 1)
			arg->resno++;
	}
	state->args = list_insert_nth(state->args, 1, makeTargetEntry(one, 2, NULL, false));
	state->aggargtypes = lappend_oid(list_copy(state->aggargtypes), INT4OID);
	return (Expr *) makeFuncExpr(weir_function_named("only_value", 1, array), agg->aggtype,
								 list_make1(weir_merged_state(context, (Expr *) state, MERGE_OWN, state->aggfnoid)),
								 agg->aggcollid, InvalidOid, COERCE_EXPLICIT_CALL);
}

/* final_aggregate adds the states that an aggregate needs and returns its result over merged states. */
static Expr *
final_aggregate(ShapeContext *context, Aggref *agg)
{
	Aggref	   *plain = copyObject(agg);
	MergeKind	merge;
	Expr	   *result;

	if (context->sublevels_up > 0)
	{
		IncrementVarSublevelsUp((Node *) plain, -context->sublevels_up, context->sublevels_up);
		plain->agglevelsup = 0;
	}
	if (context->shape->session && weir_session_by_rows(plain))
		return weir_session_result(context, plain);
	if (context->shape->retracts)
		return weir_retract_result(context, plain);
	if (weir_aggregate_in_place(plain, &merge))
		return weir_merged_state(context, (Expr *) plain, merge, plain->aggfnoid);
	if (weir_aggregate_single(plain))
		return single_value(context, plain);
	result = split_avg(context, plain);
	return result ? result : generic_state(context, plain);
}

/* Is node the n-th key, seen from sublevels_up levels below? -1: none. */
static int
key_number(ShapeContext *context, Node *node)
{
	int			i = 0;
	ListCell   *lc;

	foreach(lc, context->shape->keys)
	{
		Node	   *key = (Node *) ((TargetEntry *) lfirst(lc))->expr;

		if (context->sublevels_up > 0)
		{
			key = copyObject(key);
			IncrementVarSublevelsUp(key, context->sublevels_up, 0);
		}
		if (equal(key, node))
			return i;
		i++;
	}
	return -1;
}

/* Select list over the delta ⇒ select list over WEIR_MERGED. */
Node *
weir_final_mutator(Node *node, ShapeContext *context)
{
	int			key;

	if (node == NULL)
		return NULL;
	key = key_number(context, node);
	if (key >= 0)
		return (Node *) weir_merged_var(context, ((TargetEntry *) list_nth(context->shape->keys, key))->expr, key);
	if (IsA(node, Aggref) && ((Aggref *) node)->agglevelsup == context->sublevels_up)
		return (Node *) final_aggregate(context, (Aggref *) node);
	if (IsA(node, Var) && ((Var *) node)->varlevelsup == context->sublevels_up)
	{
		/* a column that depends on the keys (GROUP BY a primary key) */
		Var		   *var = copyObject((Var *) node);

		var->varlevelsup = 0;
		return (Node *) weir_merged_state(context, (Expr *) var, MERGE_NEW, InvalidOid);
	}
	if (IsA(node, Query))
	{
		Query	   *query;

		context->sublevels_up++;
		query = query_tree_mutator((Query *) node, weir_final_mutator, context, 0);
		context->sublevels_up--;
		return (Node *) query;
	}
	return expression_tree_mutator(node, weir_final_mutator, context);
}
