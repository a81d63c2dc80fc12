/*
 * aggregates.c
 *	  Whether and how results or states of an aggregate merge.
 *
 * shape ⇒ aggregates ⇒ states. What PostgreSQL's catalog says of an aggregate, and what weir
 * knows of its own. Nothing here looks at a view.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/nbtree.h"
#include "access/transam.h"
#include "catalog/catalog.h"
#include "catalog/dependency.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "nodes/nodeFuncs.h"
#include "parser/parse_agg.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/typcache.h"
#include "view/distinct.h"
#include "view/states.h"

void
weir_aggregate_read(Aggref *agg, MergeInfo *info)
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
bool
weir_aggregate_single(Aggref *agg)
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

/* weir_aggregate_in_place tells how two results of an aggregate merge into one; false if results are not enough. */
bool
weir_aggregate_in_place(Aggref *agg, MergeKind *merge)
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
	weir_aggregate_read(agg, &info);
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

	if (agg->aggkind != AGGKIND_NORMAL || agg->aggorder || (agg->aggdistinct && !weir_distinct_kept(agg)))
		return false;
	if (weir_aggregate_in_place(agg, &merge) || is_split_avg(agg->aggfnoid) || weir_aggregate_single(agg))
		return true;
	weir_aggregate_read(agg, &info);
	return OidIsValid(info.combinefn) && !info.polymorphic && agg->args != NIL &&
		(info.transtype != INTERNALOID || OidIsValid(info.serialfn));
}

/* weir_equal_is_same: do values of this type that are equal by an operator consist of the same bytes? */
bool
weir_equal_is_same(Oid type, Oid collation, Oid operator)
{
	TypeCacheEntry *entry = lookup_type_cache(type, TYPECACHE_BTREE_OPFAMILY | TYPECACHE_EQ_OPR);
	Oid			function;

	if (getBaseType(type) == BPCHAROID || !OidIsValid(entry->btree_opf) || entry->eq_opr != operator || entry->typlen < -1)
		return false;
	function = get_opfamily_proc(entry->btree_opf, entry->btree_opintype, entry->btree_opintype,
								 BTEQUALIMAGE_PROC);
	return OidIsValid(function) &&
		DatumGetBool(OidFunctionCall1Coll(function, collation, ObjectIdGetDatum(entry->btree_opintype)));
}
