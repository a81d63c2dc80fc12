/*
 * aggregates.c
 *	  How each column of a view goes on from where it was.
 *
 * rewrite ⇒ aggregates ⇒ statement. The query over a delta is split in two:
 * a partial query (group keys and mergeable states of the delta) and a final
 * query (the select list over merged states).
 *
 * In place: if every column is a key, a function of keys, or a bare aggregate
 * whose result is its whole state (count, sum, min, max, bool_*, bit_* and any
 * aggregate without final function whose state has the result's type), the view's
 * table is the state and the final query is not needed.
 *
 * Else a state table holds the states: avg is split into sum and count,
 * shared with equal sums and counts of the view; what has a combine function
 * keeps its transition state, serialised by weir.partial() (partial.c).
 *
 * avg is computed as PostgreSQL's own final functions do it (numeric division
 * of sum by count for the exact types), so results are identical.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/catalog.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_class.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "optimizer/tlist.h"
#include "parser/parse_agg.h"
#include "parser/parse_func.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteHandler.h"
#include "rewrite/rewriteManip.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/syscache.h"
#include "access/transam.h"
#include "view/recompute.h"
#include "view/shape.h"

/* What pg_aggregate says, as far as merging is concerned. */
typedef struct MergeInfo
{
	Oid			transfn;
	Oid			finalfn;
	Oid			combinefn;
	Oid			serialfn;
	Oid			transtype;		/* resolved */
	bool		polymorphic;	/* state or arguments depend on the call */
} MergeInfo;

static void
read_aggregate(Aggref *agg, MergeInfo *info)
{
	HeapTuple	tuple = SearchSysCache1(AGGFNOID, ObjectIdGetDatum(agg->aggfnoid));
	Form_pg_aggregate form;
	Oid			inputs[FUNC_MAX_ARGS];
	int			ninputs = get_aggregate_argtypes(agg, inputs);
	Oid		   *declared;
	int			ndeclared;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for aggregate %u", agg->aggfnoid);
	form = (Form_pg_aggregate) GETSTRUCT(tuple);
	info->transfn = form->aggtransfn;
	info->finalfn = form->aggfinalfn;
	info->combinefn = form->aggcombinefn;
	info->serialfn = form->aggserialfn;
	info->transtype = resolve_aggregate_transtype(agg->aggfnoid, form->aggtranstype,
												  inputs, ninputs);
	info->polymorphic = IsPolymorphicType(form->aggtranstype);
	ReleaseSysCache(tuple);
	(void) get_func_signature(agg->aggfnoid, &declared, &ndeclared);
	for (int i = 0; i < ndeclared; i++)
	{
		if (declared[i] == ANYOID || IsPolymorphicType(declared[i]))
			info->polymorphic = true;
	}
}

Oid
weir_aggregate_combinefn(Oid agg)
{
	HeapTuple	tuple = SearchSysCache1(AGGFNOID, ObjectIdGetDatum(agg));
	Oid			combinefn;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for aggregate %u", agg);
	combinefn = ((Form_pg_aggregate) GETSTRUCT(tuple))->aggcombinefn;
	ReleaseSysCache(tuple);
	return combinefn;
}

/* These look like plain functions, but insist on being called by an aggregate. */
static bool
callable_from_sql(Oid combinefn)
{
	return combinefn < FirstGenbkiObjectId &&
		combinefn != F_RANGE_INTERSECT_AGG_TRANSFN &&
		combinefn != F_MULTIRANGE_INTERSECT_AGG_TRANSFN;
}

static bool
is_own_aggregate(Aggref *agg)
{
	return OidIsValid(weir_extension_oid()) &&
		getExtensionOfObject(ProcedureRelationId, agg->aggfnoid) == weir_extension_oid();
}

/* weir_aggregate_by_arrival: does a result depend on the order in which rows arrived (weir.first, weir.last, weir.list)? */
bool
weir_aggregate_by_arrival(Aggref *agg)
{
	const char *name = get_func_name(agg->aggfnoid);

	return (strcmp(name, "first") == 0 || strcmp(name, "last") == 0 || strcmp(name, "list") == 0) &&
		is_own_aggregate(agg);
}

/* weir.first(x) or weir.last(x)? */
static bool
is_single_value(Aggref *agg)
{
	return weir_aggregate_by_arrival(agg) && get_func_nargs(agg->aggfnoid) == 1;
}

/*
 * weir_aggregate_own returns how two results of weir.top(), weir.bottom() or weir.list() merge, as
 * SQL; the two places for them are %s. NULL if it is another aggregate, or its limits are no constants.
 */
char *
weir_aggregate_own(Aggref *agg)
{
	const char *name = get_func_name(agg->aggfnoid);
	StringInfoData buf;

	if (strcmp(name, "top") != 0 && strcmp(name, "bottom") != 0 && !weir_aggregate_by_arrival(agg))
		return NULL;
	if (!is_own_aggregate(agg) || agg->args == NIL || get_func_nargs(agg->aggfnoid) < 2)
		return NULL;
	initStringInfo(&buf);
	for (int i = 1; i < get_func_nargs(agg->aggfnoid); i++)
	{
		Const	   *limit = (Const *) list_nth_node(TargetEntry, agg->args, i)->expr;

		if (!IsA(limit, Const) || limit->constisnull)
			return NULL;
		if (limit->consttype == BOOLOID)
			appendStringInfoString(&buf, DatumGetBool(limit->constvalue) ? ", true" : ", false");
		else
			appendStringInfo(&buf, ", %d", DatumGetInt32(limit->constvalue));
	}
	appendStringInfoChar(&buf, ')');
	return psprintf("weir.%s_merge(%%s, %%s%s", name, buf.data);
}

/* merge_in_place tells how two results of an aggregate merge into one; false if results are not enough. */
static bool
merge_in_place(Aggref *agg, MergeKind *merge)
{
	MergeInfo		info;

	switch (agg->aggfnoid)
	{
		case F_COUNT_:
		case F_COUNT_ANY:
			*merge = MERGE_COUNT;
			return true;
		case F_SUM_INT2:
		case F_SUM_INT4:
		case F_SUM_INT8:
		case F_SUM_NUMERIC:
		case F_SUM_FLOAT4:
		case F_SUM_FLOAT8:
		case F_SUM_MONEY:
		case F_SUM_INTERVAL:
			*merge = MERGE_PLUS;
			return true;
	}
	if (weir_aggregate_own(agg) != NULL)
	{
		*merge = MERGE_OWN;
		return true;
	}
	read_aggregate(agg, &info);
	if (OidIsValid(info.finalfn) || !OidIsValid(info.combinefn) ||
		info.transtype == INTERNALOID || info.transtype != agg->aggtype)
		return false;
	*merge = callable_from_sql(info.combinefn) ? MERGE_FUNCTION : MERGE_COMBINE;
	return true;
}

/* Averages that are kept as sum and count. */
static bool
is_split_avg(Oid agg)
{
	return agg == F_AVG_INT2 || agg == F_AVG_INT4 || agg == F_AVG_INT8 || agg == F_AVG_NUMERIC ||
		agg == F_AVG_FLOAT4 || agg == F_AVG_FLOAT8 || agg == F_AVG_INTERVAL;
}

/* weir_aggregate_merges tells whether results or states of an aggregate's call can be merged. */
bool
weir_aggregate_merges(Aggref *agg)
{
	MergeInfo	info;
	MergeKind	merge;

	if (agg->aggkind != AGGKIND_NORMAL || agg->aggdistinct || agg->aggorder)
		return false;
	if (merge_in_place(agg, &merge) || is_split_avg(agg->aggfnoid) || is_single_value(agg))
		return true;
	read_aggregate(agg, &info);
	return OidIsValid(info.combinefn) && !info.polymorphic && agg->args != NIL &&
		(info.transtype != INTERNALOID || OidIsValid(info.serialfn));
}

/* --- building states ------------------------------------------------------ */

typedef struct ShapeContext
{
	ViewShape  *shape;
	int			sublevels_up;
} ShapeContext;

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
static Expr *
merged_var(ShapeContext *context, Expr *partial, int column)
{
	return (Expr *) makeVar(1, column + 1, exprType((Node *) partial),
							exprTypmod((Node *) partial),
							exprCollation((Node *) partial),
							context->sublevels_up);
}

static Expr *
merged_state(ShapeContext *context, Expr *partial, MergeKind merge, Oid agg)
{
	int			column = state_column(context->shape, partial, merge, agg);

	return merged_var(context, partial, list_length(context->shape->keys) + column);
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
	total = merged_state(context, (Expr *) sum, MERGE_PLUS, sum->aggfnoid);
	count = merged_state(context, (Expr *) sibling(agg, F_COUNT_ANY, INT8OID), MERGE_COUNT, F_COUNT_ANY);
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

/* A function of weir's own, by name and argument types. */
static Oid
own_function(const char *name, int nargs, Oid *types)
{
	return LookupFuncName(list_make2(makeString(WEIR_SCHEMA), makeString(pstrdup(name))),
						  nargs, types, false);
}

static Const *
aggregate_const(Oid agg)
{
	return makeConst(REGPROCEDUREOID, -1, InvalidOid, sizeof(Oid),
					 ObjectIdGetDatum(agg), false, true);
}

/* weir.partial('agg'::regprocedure, args ...) FILTER (...), in the place of agg */
static Aggref *
partial_aggregate(Aggref *agg)
{
	Oid			types[2] = {REGPROCEDUREOID, ANYOID};
	Aggref	   *partial = sibling(agg, own_function("partial", 2, types), BYTEAOID);
	AttrNumber	resno = 1;
	ListCell   *lc;

	partial->aggcollid = InvalidOid;
	partial->aggvariadic = false;
	partial->aggstar = false;
	foreach(lc, partial->args)
		((TargetEntry *) lfirst(lc))->resno = ++resno;
	partial->args = lcons(makeTargetEntry((Expr *) aggregate_const(agg->aggfnoid), 1, NULL, false),
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

	read_aggregate(agg, &info);
	if (!OidIsValid(info.combinefn) ||
		(info.transtype == INTERNALOID && !OidIsValid(info.serialfn)))
		weir_refuse(shape->name, psprintf("Aggregate %s has no combine function: its results cannot be merged.",
										  format_procedure(agg->aggfnoid)),
					"Use aggregates that can be merged: count, sum, avg, min, max, bool_and, stddev ...");
	if (info.polymorphic || list_length(agg->args) == 0)
		weir_refuse(shape->name, psprintf("Aggregate %s is polymorphic: its states cannot be stored.",
										  format_procedure(agg->aggfnoid)),
					"Use an aggregate that is declared for the type itself.");
	state = merged_state(context, (Expr *) partial_aggregate(agg), MERGE_STATE, agg->aggfnoid);
	final = makeFuncExpr(own_function("finalize", 3, types), agg->aggtype,
						 list_make3(aggregate_const(agg->aggfnoid), state,
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
	state = sibling(agg, own_function(get_func_name(agg->aggfnoid), 2, types), type);
	foreach(lc, state->args)
	{
		TargetEntry *arg = lfirst(lc);

		if (arg->resno > 1)
			arg->resno++;
	}
	state->args = list_insert_nth(state->args, 1, makeTargetEntry(one, 2, NULL, false));
	state->aggargtypes = lappend_oid(list_copy(state->aggargtypes), INT4OID);
	return (Expr *) makeFuncExpr(own_function("only_value", 1, array), agg->aggtype,
								 list_make1(merged_state(context, (Expr *) state, MERGE_OWN, state->aggfnoid)),
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
	if (merge_in_place(plain, &merge))
		return merged_state(context, (Expr *) plain, merge, plain->aggfnoid);
	if (is_single_value(plain))
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
static Node *
final_mutator(Node *node, ShapeContext *context)
{
	int			key;

	if (node == NULL)
		return NULL;
	key = key_number(context, node);
	if (key >= 0)
		return (Node *) merged_var(context, ((TargetEntry *) list_nth(context->shape->keys, key))->expr, key);
	if (IsA(node, Aggref) && ((Aggref *) node)->agglevelsup == context->sublevels_up)
		return (Node *) final_aggregate(context, (Aggref *) node);
	if (IsA(node, Var) && ((Var *) node)->varlevelsup == context->sublevels_up)
	{
		/* a column that depends on the keys (GROUP BY a primary key) */
		Var		   *var = copyObject((Var *) node);

		var->varlevelsup = 0;
		return (Node *) merged_state(context, (Expr *) var, MERGE_NEW, InvalidOid);
	}
	if (IsA(node, Query))
	{
		Query	   *query;

		context->sublevels_up++;
		query = query_tree_mutator((Query *) node, final_mutator, context, 0);
		context->sublevels_up--;
		return (Node *) query;
	}
	return expression_tree_mutator(node, final_mutator, context);
}

/* --- the two queries ------------------------------------------------------- */

/* Common table expressions that do not read a delta: sub-selects of the final query may use them. */
static List *
table_ctes(List *ctes)
{
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, ctes)
	{
		CommonTableExpr *cte = lfirst(lc);

		if (!weir_query_has_delta(cte->ctequery))
			result = lappend(result, copyObject(cte));
	}
	return result;
}

/* SELECT keys, states FROM deltas ... GROUP BY keys: the definition with another select list. */
static Query *
make_partial_query(ViewShape *shape)
{
	Query	   *query = copyObject(shape->query);
	AttrNumber	resno = 0;
	ListCell   *lc;
	int			i = 0;

	query->targetList = NIL;
	query->havingQual = NULL;
	foreach(lc, shape->keys)
	{
		TargetEntry *key = copyObject(lfirst_node(TargetEntry, lc));

		key->resno = ++resno;
		key->resjunk = false;
		key->resname = psprintf("k%d", resno);
		query->targetList = lappend(query->targetList, key);
	}
	foreach(lc, shape->states)
	{
		StateColumn *state = lfirst(lc);

		query->targetList = lappend(query->targetList,
									makeTargetEntry(copyObject(state->partial), ++resno,
													psprintf("s%d", ++i), false));
	}
	return query;
}

/* The merged states as a FROM item; two levels below the statement that has WEIR_MERGED. */
static RangeTblEntry *
merged_rte(Query *partial)
{
	RangeTblEntry *rte = makeNode(RangeTblEntry);
	List	   *names = NIL;
	ListCell   *lc;

	rte->rtekind = RTE_CTE;
	rte->ctename = pstrdup(WEIR_MERGED);
	rte->ctelevelsup = 2;
	foreach(lc, partial->targetList)
	{
		TargetEntry *tle = lfirst(lc);

		names = lappend(names, makeString(pstrdup(tle->resname)));
		rte->coltypes = lappend_oid(rte->coltypes, exprType((Node *) tle->expr));
		rte->coltypmods = lappend_int(rte->coltypmods, exprTypmod((Node *) tle->expr));
		rte->colcollations = lappend_oid(rte->colcollations, exprCollation((Node *) tle->expr));
	}
	rte->eref = makeAlias(WEIR_MERGED, names);
	rte->inFromCl = true;
	return rte;
}

static Query *
make_final_query(ViewShape *shape, List *targets)
{
	Query	   *query = makeNode(Query);
	RangeTblRef *ref = makeNode(RangeTblRef);
	ListCell   *lc;

	query->commandType = CMD_SELECT;
	query->canSetTag = true;
	query->cteList = table_ctes(shape->query->cteList);
	query->hasSubLinks = checkExprHasSubLink((Node *) targets);
	query->hasRecursive = shape->query->hasRecursive;
	query->rtable = list_make1(merged_rte(shape->partial));
	ref->rtindex = 1;
	query->jointree = makeFromExpr(list_make1(ref), NULL);
	query->targetList = targets;
	foreach(lc, targets)
		((TargetEntry *) lfirst(lc))->ressortgroupref = 0;
	return query;
}

/* --- classification -------------------------------------------------------- */

static bool
is_key(Query *query, TargetEntry *tle)
{
	return tle->ressortgroupref != 0 &&
		get_sortgroupref_clause_noerr(tle->ressortgroupref, query->groupClause) != NULL;
}

/* classify_in_place fills shape->states with one merge per target; false if a target's result is not enough to go on from. */
static bool
classify_in_place(ViewShape *shape)
{
	ListCell   *lc;

	foreach(lc, shape->query->targetList)
	{
		TargetEntry *tle = lfirst(lc);
		StateColumn *state;
		MergeKind	merge = MERGE_NEW;

		if (is_key(shape->query, tle))
			continue;
		if (IsA(tle->expr, Aggref))
		{
			if (!merge_in_place((Aggref *) tle->expr, &merge))
			{
				shape->why = psprintf("%s needs more than its result to go on from",
									  get_func_name(((Aggref *) tle->expr)->aggfnoid));
				return false;
			}
		}
		else if (contain_aggs_of_level((Node *) tle->expr, 0))
		{
			shape->why = psprintf("column \"%s\" is an expression over aggregates", tle->resname);
			return false;
		}
		state = palloc0(sizeof(StateColumn));
		state->partial = tle->expr;
		state->merge = merge;
		state->agg = IsA(tle->expr, Aggref) ? ((Aggref *) tle->expr)->aggfnoid : InvalidOid;
		shape->states = lappend(shape->states, state);
	}
	return true;
}

/* SELECT DISTINCT of plain rows is GROUP BY over all columns. */
static void
distinct_as_groups(Query *query)
{
	if (query->distinctClause == NIL || query->hasDistinctOn || query->hasAggs ||
		query->groupClause || query->groupingSets || query->hasWindowFuncs || query->hasTargetSRFs)
		return;
	query->groupClause = query->distinctClause;
	query->distinctClause = NIL;
}

/*
 * HAVING: a column behind the others tells whether the row is in the result. The states of all groups are
 * kept; rows that do not qualify (any more) are deleted. That looks at the result as it is,
 * so writers take turns.
 */
static TargetEntry *
pass_target(ViewShape *shape, ShapeContext *context)
{
	Node	   *having = shape->query->havingQual;
	BooleanTest *test = makeNode(BooleanTest);

	if (IsA(having, List))
		having = (Node *) make_ands_explicit((List *) having);
	test->arg = (Expr *) final_mutator(copyObject(having), context);
	test->booltesttype = IS_TRUE;
	test->location = -1;
	shape->passes = true;
	shape->exclusive = true;
	return makeTargetEntry((Expr *) test, list_length(shape->query->targetList) + 1, pstrdup("weir_pass"), false);
}

static void
find_keys(ViewShape *shape)
{
	ListCell   *lc;

	foreach(lc, shape->query->targetList)
	{
		if (is_key(shape->query, lfirst(lc)))
			shape->keys = lappend(shape->keys, lfirst(lc));
	}
	if (list_length(shape->keys) + list_length(shape->hidden_keys) > INDEX_MAX_KEYS)
		weir_refuse(shape->name, psprintf("GROUP BY has more than %d expressions.", INDEX_MAX_KEYS), NULL);
}

static void
classify_grouped(ViewShape *shape)
{
	ShapeContext context = {shape, 0};
	List	   *targets;

	find_keys(shape);
	shape->strategy = "combine";
	if (shape->query->havingQual)
		shape->why = "HAVING: groups that do not qualify are counted, too";
	else
		shape->in_place = classify_in_place(shape);
	if (shape->in_place)
	{
		shape->why = shape->query->hasAggs ? "every aggregate merges with its own result" :
			"each distinct row is kept once";
		shape->partial = copyObject(shape->query);
		return;
	}
	shape->states = NIL;
	targets = (List *) final_mutator(copyObject((Node *) shape->query->targetList), &context);
	if (shape->query->havingQual)
		targets = lappend(targets, pass_target(shape, &context));
	shape->partial = make_partial_query(shape);
	shape->final = make_final_query(shape, targets);
}

/*
 * classify_final makes the two queries of a final view: states always stand in a
 * table of their own, with the window's end, and HAVING is asked when they are final.
 */
static void
classify_final(ViewShape *shape)
{
	ShapeContext context = {shape, 0};
	List	   *targets;
	Node	   *having;
	Expr	   *end;
	int			key;

	find_keys(shape);
	shape->keys = list_concat(shape->keys, shape->hidden_keys);
	shape->end = weir_final_end(shape, &key);
	shape->strategy = "combine";
	shape->why = "states of open windows are merged; a window's rows are inserted when it closes";
	if (key >= 0)
		end = merged_var(&context, shape->end, key);
	else
		end = merged_state(&context, weir_final_max(shape->end), MERGE_FUNCTION, F_MAX_TIMESTAMPTZ);
	shape->end_column = ((Var *) end)->varattno;
	if (exprType((Node *) shape->end) == TIMESTAMPOID && key < 0)
		((StateColumn *) linitial(shape->states))->agg = F_MAX_TIMESTAMP;
	targets = (List *) final_mutator(copyObject((Node *) shape->query->targetList), &context);
	having = final_mutator(copyObject(shape->query->havingQual), &context);
	shape->partial = make_partial_query(shape);
	shape->partial->havingQual = NULL;
	shape->partial->hasAggs = shape->states != NIL;
	shape->final = make_final_query(shape, targets);
	shape->final->jointree->quals = having;
	shape->final->hasSubLinks |= checkExprHasSubLink(having);
	weir_final_sort(shape->final, end);
}

/* The select list is what counts: ORDER BY and its hidden targets go. */
static void
strip_order(Query *query)
{
	List	   *targets = NIL;
	ListCell   *lc;

	query->sortClause = NIL;
	foreach(lc, query->targetList)
	{
		TargetEntry *tle = lfirst(lc);

		if (!tle->resjunk)
			targets = lappend(targets, tle);
	}
	query->targetList = targets;
}

static bool
table_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, RangeTblEntry))
	{
		RangeTblEntry *rte = (RangeTblEntry *) node;

		return rte->rtekind == RTE_RELATION && rte->inFromCl;
	}
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, table_walker, context, QTW_EXAMINE_RTES_BEFORE);
	return expression_tree_walker(node, table_walker, context);
}

/*
 * weir_shape_make understands a definition, or raises 0A000. lateness and keep
 * are the view's, or NULL. All in CurrentMemoryContext.
 */
ViewShape *
weir_shape_make(Query *definition, const char *name, bool final, Interval *lateness, Interval *keep)
{
	ViewShape  *shape = palloc0(sizeof(ViewShape));
	LateRule	rule = {lateness, keep,.final = final};
	bool		recompute;
	bool		at_close;

	shape->name = name;
	shape->query = weir_rewrite_expand(definition);
	weir_compat_flatten_groups(shape->query);
	shape->finals = final;
	distinct_as_groups(shape->query);
	recompute = weir_recompute_prepare(&shape->query);
	at_close = final && (recompute || (!shape->query->hasAggs && shape->query->groupClause == NIL));
	weir_check_query(shape->query, name, final, recompute);
	if (final && !at_close)
		shape->hidden_keys = weir_final_hidden_keys(shape->query);
	if (!recompute)
		strip_order(shape->query);
	shape->streams = weir_rewrite_streams(shape->query);
	shape->joins_table = table_walker((Node *) shape->query, NULL);
	shape->grouped = shape->query->hasAggs || shape->query->groupClause != NIL;
	weir_arrival_order(recompute ? weir_recompute_lowest(shape->query) : shape->query);
	if (recompute)
		weir_recompute_analyse(shape);
	if (keep && !final)
		rule.keep_attno = weir_keep_window(shape);
	if (at_close)
		weir_atclose_make(shape, &rule);
	else if (recompute)
		weir_recompute_filter(shape, &rule);
	else
		weir_late_filter(shape, &rule);
	if (at_close)
		return shape;
	if (recompute)
		weir_recompute_build(shape);
	else if (final)
		classify_final(shape);
	else if (shape->grouped)
		classify_grouped(shape);
	else
	{
		shape->strategy = "append";
		shape->why = "the query has no aggregates: each row of a batch adds its own rows";
		shape->in_place = true;
		shape->partial = copyObject(shape->query);
	}
	weir_slices_make(shape);
	return shape;
}

/* weir_shape_definition copies the query that a view's weir.query_N holds. */
Query *
weir_shape_definition(Oid query_relid)
{
	Relation	rel = table_open(query_relid, AccessShareLock);
	Query	   *query = copyObject(get_view_query(rel));

	table_close(rel, NoLock);
	return query;
}
