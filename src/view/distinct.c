/*
 * distinct.c
 *	  count(DISTINCT x) and its kin, kept from the set of values seen so far.
 *
 * shape ⇒ distinct ⇒ distinct_statement. An aggregate that merges does so with DISTINCT, too, if only values that
 * its group has not had come in. A table of the view (weir.values_N) holds what there was, with a unique index
 * over group and value; the maintenance statement puts the batch's values into it and goes on with those that are new:
 *
 *	  WITH weir_values AS (INSERT INTO <values> SELECT keys, set, values FROM delta GROUP BY ... ORDER BY ...
 *						   ON CONFLICT DO NOTHING RETURNING ...)
 *	  ... SELECT keys, <plain states>, count(v1) FILTER (WHERE s = 1) ...
 *		  FROM (<plain states of the delta> UNION ALL weir_values) GROUP BY keys
 *
 * Each group of the batch has one row with its plain states (s = 0), and its new values beside. Aggregates with the same
 * arguments and FILTER share a set; sets share columns of the same type. What comes out is merged as any
 * other state. No kept rows are needed, and nothing else changes: an aggregate's arguments and
 * FILTER stay trees, as everywhere.
 *
 * Equality is that of the values' default operator class, as DISTINCT has it; so numeric 1.0 is 1.00. Of long texts
 * the index holds a digest (weir.value_key). Values of types that an index may not hold
 * (jsonb, arrays) have no set: such a view is computed anew from the kept rows.
 *
 * Two writers with the same new value: the second waits for the first one's end, as with any unique index. Both insert in
 * the order of the index, and before they touch states or results, so neither can wait for the other in a circle.
 * min, max, bool_and and the like do not care for DISTINCT at all: it is dropped.
 */
#include "postgres.h"

#include "catalog/pg_aggregate.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "fmgr.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parse_clause.h"
#include "parser/parse_oper.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteManip.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"
#include "view/distinct.h"
#include "view/parts.h"
#include "view/states.h"

/* Longer values stand in the index as a digest: an index's row is limited to a third of a page. */
#define LONGEST_KEY		255

PG_FUNCTION_INFO_V1(weir_value_key);

/* weir.value_key(text or bytea) → bytea: the same for equal values, and different for others; short */
Datum
weir_value_key(PG_FUNCTION_ARGS)
{
	bytea	   *value = PG_GETARG_BYTEA_PP(0);
	bool		digest = VARSIZE_ANY_EXHDR(value) > LONGEST_KEY;
	bytea	   *key;
	int			len;

	if (digest)
		value = DatumGetByteaPP(DirectFunctionCall1(sha256_bytea, PointerGetDatum(value)));
	len = VARSIZE_ANY_EXHDR(value);
	key = palloc(VARHDRSZ + 1 + len);
	SET_VARSIZE(key, VARHDRSZ + 1 + len);
	*VARDATA(key) = digest ? 1 : 0;
	memcpy(VARDATA(key) + 1, VARDATA_ANY(value), len);
	PG_RETURN_BYTEA_P(key);
}

PG_FUNCTION_INFO_V1(weir_only_step);

/* weir.only_step(state, value) → value */
Datum
weir_only_step(PG_FUNCTION_ARGS)
{
	if (PG_ARGISNULL(1))
		PG_RETURN_NULL();
	PG_RETURN_DATUM(PG_GETARG_DATUM(1));
}

/* --- which aggregates ------------------------------------------------------------ */

/* Is the result the same with and without DISTINCT? */
static bool
ignores_repetition(Aggref *agg)
{
	static const char *const names[] = {"min", "max", "bool_and", "bool_or", "every", "bit_and", "bit_or"};
	const char *name = get_func_name(agg->aggfnoid);

	if (get_func_namespace(agg->aggfnoid) != PG_CATALOG_NAMESPACE || agg->aggkind != AGGKIND_NORMAL)
		return false;
	for (int i = 0; i < lengthof(names); i++)
	{
		if (strcmp(name, names[i]) == 0)
			return true;
	}
	return false;
}

/* weir_distinct_drop makes a call one without DISTINCT. */
void
weir_distinct_drop(Aggref *agg)
{
	ListCell   *lc;

	agg->aggdistinct = NIL;
	foreach(lc, agg->args)
		((TargetEntry *) lfirst(lc))->ressortgroupref = 0;
}

static bool
simplify_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Aggref))
	{
		Aggref	   *agg = (Aggref *) node;

		if (agg->aggdistinct && agg->aggorder == NIL && ignores_repetition(agg))
			weir_distinct_drop(agg);
	}
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, simplify_walker, context, 0);
	return expression_tree_walker(node, simplify_walker, context);
}

/* weir_distinct_simplify drops DISTINCT where it changes nothing, at every level, in place. */
void
weir_distinct_simplify(Query *query)
{
	(void) simplify_walker((Node *) query, NULL);
}

/* Can an index hold every value of the type, or its digest? */
static bool
fits_index(Oid type)
{
	char		category;
	bool		preferred;

	type = getBaseType(type);
	if (!OidIsValid(lookup_type_cache(type, TYPECACHE_BTREE_OPFAMILY)->btree_opf) || type_is_rowtype(type))
		return false;
	if (get_typlen(type) > 0)
		return true;
	if (get_typlen(type) != -1)
		return false;
	if (type_is_range(type))
		return get_range_subtype(type) == NUMERICOID || get_typlen(get_range_subtype(type)) > 0;
	get_type_category_preferred(type, &category, &preferred);
	return category == TYPCATEGORY_STRING || category == TYPCATEGORY_BITSTRING || category == TYPCATEGORY_NETWORK ||
		type == NUMERICOID || type == BYTEAOID;
}

/* weir_distinct_row: an argument like (a, b), whose columns are kept one by one; else NULL */
RowExpr *
weir_distinct_row(Expr *arg)
{
	RowExpr    *row = (RowExpr *) arg;

	return IsA(row, RowExpr) && row->row_typeid == RECORDOID ? row : NULL;
}

/* What is kept of a call's arguments: all that are no constants. */
static List *
values_of(Aggref *agg)
{
	List	   *values = NIL;
	ListCell   *lc,
			   *la;

	foreach(lc, agg->args)
	{
		Expr	   *arg = lfirst_node(TargetEntry, lc)->expr;
		RowExpr    *row = weir_distinct_row(arg);

		foreach(la, row ? row->args : list_make1(arg))
		{
			if (!IsA(lfirst(la), Const))
				values = lappend(values, lfirst(la));
		}
	}
	return values;
}

/* weir_distinct_kept: can a set of its values be kept for this call with DISTINCT? */
bool
weir_distinct_kept(Aggref *agg)
{
	ListCell   *lc;

	if (agg->aggkind != AGGKIND_NORMAL || agg->aggorder || weir_aggregate_by_arrival(agg) ||
		agg->aggfnoid == F_STRING_AGG_TEXT_TEXT || agg->aggfnoid == F_STRING_AGG_BYTEA_BYTEA)
		return false;			/* DISTINCT sorts, and there the order shows */
	foreach(lc, values_of(agg))
	{
		if (!fits_index(exprType(lfirst(lc))))
			return false;
	}
	return true;
}

/* --- sets ---------------------------------------------------------------------------- */

bool
weir_distinct_is(StateColumn *state)
{
	return IsA(state->partial, Aggref) && ((Aggref *) state->partial)->aggdistinct != NIL;
}

/* The number of a column of the values' table for a value of a set, which uses each column once. */
static int
find_column(DistinctShape *distinct, List *used, Node *value)
{
	Const	   *like = makeNullConst(exprType(value), exprTypmod(value), exprCollation(value));
	int			i = 0;
	ListCell   *lc;

	foreach(lc, distinct->columns)
	{
		if (!list_member_int(used, i) && equal(lfirst(lc), like))
			return i;
		i++;
	}
	distinct->columns = lappend(distinct->columns, like);
	return i;
}

/* weir_distinct_set: the set that a state's values are in, made if there is none yet */
DistinctSet *
weir_distinct_set(DistinctShape *distinct, StateColumn *state)
{
	DistinctSet *set = palloc0(sizeof(DistinctSet));
	ListCell   *lc;

	set->values = copyObject(values_of((Aggref *) state->partial));
	set->filter = copyObject(((Aggref *) state->partial)->aggfilter);
	foreach(lc, distinct->sets)
	{
		DistinctSet *other = lfirst(lc);

		if (equal(set->values, other->values) && equal(set->filter, other->filter))
			return other;
	}
	foreach(lc, set->values)
		set->columns = lappend_int(set->columns, find_column(distinct, set->columns, lfirst(lc)));
	distinct->sets = lappend(distinct->sets, set);
	set->number = list_length(distinct->sets);
	return set;
}

/* --- queries over a delta ----------------------------------------------------------------- */

/* The group keys as the first targets of a copy of the partial query that has nothing else. */
static Query *
keys_query(ViewShape *shape)
{
	Query	   *query = copyObject(shape->partial);
	ListCell   *lc;

	query->targetList = NIL;
	query->havingQual = NULL;
	foreach(lc, shape->keys)
	{
		TargetEntry *key = copyObject(lfirst_node(TargetEntry, lc));

		key->resno = list_length(query->targetList) + 1;
		key->resjunk = false;
		key->resname = psprintf("k%d", key->resno);
		query->targetList = lappend(query->targetList, key);
	}
	return query;
}

static void
add_group_key(Query *query, Expr *expr, const char *name)
{
	TargetEntry *tle = makeTargetEntry(expr, list_length(query->targetList) + 1, pstrdup(name), false);

	query->targetList = lappend(query->targetList, tle);
	query->groupClause = lappend(query->groupClause, weir_sort_clause(query, tle));
}

/* The value, or NULL where FILTER leaves the row out. */
static Expr *
filtered(DistinctSet *set, Expr *value)
{
	CaseExpr   *result;
	CaseWhen   *when;

	value = copyObject(value);
	if (set->filter == NULL)
		return value;
	result = makeNode(CaseExpr);
	when = makeNode(CaseWhen);
	when->expr = copyObject(set->filter);
	when->result = value;
	when->location = result->location = -1;
	result->casetype = exprType((Node *) value);
	result->casecollid = exprCollation((Node *) value);
	result->args = list_make1(when);
	result->defresult = (Expr *) makeNullConst(result->casetype, exprTypmod((Node *) value), result->casecollid);
	return (Expr *) result;
}

/*
 * Each value of a set once per group, NULL being one: what becomes of it is the aggregate's affair. FILTER is looked at behind
 * WHERE, as an aggregate does, and not in it, where the planner might move it before other conditions: OFFSET 0 keeps it out.
 */
static Query *
rows_of_set(ViewShape *shape, DistinctSet *set)
{
	Query	   *query = keys_query(shape);
	ViewShape	part = {.name = shape->name,.grouped = true,.why = shape->why};
	ListCell   *lc;

	query->hasAggs = false;
	if (shape->distinct->end)
		add_group_key(query, copyObject(shape->distinct->end), "e");
	foreach(lc, set->values)
		add_group_key(query, filtered(set, lfirst(lc)), psprintf("v%d", foreach_current_index(lc) + 1));
	if (set->filter)
		add_group_key(query, weir_boolean_test(copyObject(set->filter), IS_TRUE), "f");
	else if (query->groupClause == NIL)
		add_group_key(query, (Expr *) makeConst(INT4OID, -1, InvalidOid, sizeof(int32), Int32GetDatum(0), false, true), "n");
	query->hasSubLinks |= checkExprHasSubLink((Node *) query->targetList);
	part.partial = query;
	weir_slices_make(&part);
	part.partial->limitOffset = (Node *) makeConst(INT8OID, -1, InvalidOid, sizeof(int64), Int64GetDatum(0), false, FLOAT8PASSBYVAL);
	return part.partial;
}

/* Keys and all states that go without DISTINCT; NULL: there are none. */
static Query *
plain_query(ViewShape *shape)
{
	Query	   *query = keys_query(shape);
	ViewShape	part = {.name = shape->name,.grouped = true,.why = shape->why};
	ListCell   *lc;

	foreach(lc, shape->states)
	{
		StateColumn *state = lfirst(lc);

		if (weir_distinct_is(state))
			continue;
		part.states = lappend(part.states, state);
		query->targetList = lappend(query->targetList,
									makeTargetEntry(copyObject(state->partial), list_length(query->targetList) + 1,
													psprintf("p%d", list_length(part.states)), false));
	}
	query->hasAggs = contain_aggs_of_level((Node *) query->targetList, 0);
	if (query->targetList == NIL)
		return NULL;
	part.partial = query;
	weir_slices_make(&part);
	shape->why = part.why;
	return part.partial;
}

/* Finals: what tells when the values of a group may go. */
static void
note_end(ViewShape *shape)
{
	DistinctShape *distinct = shape->distinct;
	RangeTblEntry *rte;
	FuncExpr   *call;
	ListCell   *lc;

	foreach(lc, shape->keys)
	{
		if (equal(lfirst_node(TargetEntry, lc)->expr, shape->end))
		{
			distinct->end_column = foreach_current_index(lc) + 1;
			return;
		}
	}
	rte = rt_fetch(castNode(Var, shape->end)->varno, shape->partial->rtable);
	call = weir_window_call(rte);
	if (contain_var_clause((Node *) list_copy_tail(call->args, 1)))
		weir_refuse(shape->name, "DISTINCT in a final view over windows whose size depends on the row.",
					"Group by window_end, too.");
	distinct->end = shape->end;
	distinct->end_column = list_length(shape->keys) + 1;
}

/* weir_distinct_make: what a shape with DISTINCT aggregates needs besides; false: it has none, or does not go by states. */
bool
weir_distinct_make(ViewShape *shape)
{
	DistinctShape *distinct = NULL;
	ListCell   *lc;

	if (!shape->grouped || shape->partial == NULL)
		return false;
	foreach(lc, shape->states)
	{
		if (!weir_distinct_is(lfirst(lc)))
			continue;
		if (distinct == NULL)
			distinct = palloc0(sizeof(DistinctShape));
		(void) weir_distinct_set(distinct, lfirst(lc));
	}
	if (distinct == NULL)
		return false;
	shape->distinct = distinct;
	if (shape->finals)
		note_end(shape);
	if (list_length(shape->keys) + 2 + list_length(distinct->columns) > INDEX_MAX_KEYS)
		weir_refuse(shape->name, psprintf("GROUP BY and the arguments with DISTINCT are more than %d columns together.", INDEX_MAX_KEYS - 2), NULL);
	shape->why = psprintf("%s; of DISTINCT, values are kept, and new ones merged", shape->why);
	distinct->plain = plain_query(shape);
	foreach(lc, distinct->sets)
	{
		DistinctSet *set = lfirst(lc);

		set->rows = rows_of_set(shape, set);
	}
	return true;
}
