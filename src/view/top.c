/*
 * top.c
 *	  weir.top, weir.bottom, weir.list, weir.first, weir.last: aggregates whose result is all that they need to go on.
 *
 * Arrays of at most n values. top and bottom hold the greatest or least ones,
 * best first, without NULLs; with distinct, each value once. list and first hold the first that came, in order, last the
 * last ones, last one first, all with NULLs. In a continuous view the order is that of arrival (arrival.c).
 * Two results merge into one (weir.top_merge and its kin), so a continuous view
 * keeps them in place and needs no kept rows.
 *
 * Plain functions over arrays; comparison by the default order of the element's type.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"

PG_FUNCTION_INFO_V1(weir_top_step);
PG_FUNCTION_INFO_V1(weir_bottom_step);
PG_FUNCTION_INFO_V1(weir_list_step);
PG_FUNCTION_INFO_V1(weir_top_merge);
PG_FUNCTION_INFO_V1(weir_bottom_merge);
PG_FUNCTION_INFO_V1(weir_list_merge);
PG_FUNCTION_INFO_V1(weir_last_step);
PG_FUNCTION_INFO_V1(weir_last_merge);

/* More than this many values belong into a table. */
#define MOST_VALUES	10000

typedef struct Values
{
	Datum	   *values;
	bool	   *nulls;
	int			n;
} Values;

/* The element's type, looked up once per call site. */
static TypeCacheEntry *
element_type(FunctionCallInfo fcinfo)
{
	TypeCacheEntry *entry = fcinfo->flinfo->fn_extra;
	Oid			array = get_fn_expr_argtype(fcinfo->flinfo, 0);
	Oid			element;

	if (entry)
		return entry;
	element = get_element_type(array);
	if (!OidIsValid(element))
		elog(ERROR, "type %u is not an array", array);
	entry = lookup_type_cache(element, TYPECACHE_CMP_PROC_FINFO);
	fcinfo->flinfo->fn_extra = entry;
	return entry;
}

static Values
read_values(FunctionCallInfo fcinfo, int argno, TypeCacheEntry *type)
{
	Values		result = {NULL, NULL, 0};

	if (!PG_ARGISNULL(argno))
		deconstruct_array(PG_GETARG_ARRAYTYPE_P(argno), type->type_id, type->typlen, type->typbyval,
						  type->typalign, &result.values, &result.nulls, &result.n);
	return result;
}

static Datum
write_values(Values *values, TypeCacheEntry *type)
{
	int			dims = values->n;
	int			lower = 1;

	return PointerGetDatum(construct_md_array(values->values, values->nulls, 1, &dims, &lower, type->type_id,
											  type->typlen, type->typbyval, type->typalign));
}

static int
limit_argument(FunctionCallInfo fcinfo, int argno)
{
	int			n;

	if (PG_NARGS() <= argno)
		return 1;				/* weir.first(x), weir.last(x) */
	n = PG_ARGISNULL(argno) ? 0 : PG_GETARG_INT32(argno);
	if (n < 1 || n > MOST_VALUES)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("number of values must be between 1 and %d", MOST_VALUES)));
	return n;
}

static bool
distinct_argument(FunctionCallInfo fcinfo, int argno)
{
	return PG_NARGS() > argno && !PG_ARGISNULL(argno) && PG_GETARG_BOOL(argno);
}

/* sign 1: greatest first, -1: least first. Below zero: a comes before b. */
static int
compare(FunctionCallInfo fcinfo, TypeCacheEntry *type, Datum a, Datum b, int sign)
{
	if (!OidIsValid(type->cmp_proc_finfo.fn_oid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("could not identify a comparison function for type %s", format_type_be(type->type_id))));
	return -sign * DatumGetInt32(FunctionCall2Coll(&type->cmp_proc_finfo, PG_GET_COLLATION(), a, b));
}

/* Merges two sorted lists into their first n values. */
static Values
merge_sorted(FunctionCallInfo fcinfo, TypeCacheEntry *type, Values *a, Values *b, int n, bool distinct, int sign)
{
	Values		result = {palloc(sizeof(Datum) * Max(Min(a->n + b->n, n), 1)), NULL, 0};
	int			i = 0;
	int			j = 0;

	while (result.n < n && (i < a->n || j < b->n))
	{
		int			order = i == a->n ? 1 : j == b->n ? -1 :
			compare(fcinfo, type, a->values[i], b->values[j], sign);

		if (order == 0 && distinct)
			j++;
		result.values[result.n++] = order <= 0 ? a->values[i++] : b->values[j++];
	}
	return result;
}

static Datum
step(FunctionCallInfo fcinfo, int sign)
{
	TypeCacheEntry *type = element_type(fcinfo);
	int			n = limit_argument(fcinfo, 2);
	Values		old;
	Datum		value = PG_GETARG_DATUM(1);
	Values		new = {&value, NULL, 1};
	Values		merged;

	if (PG_ARGISNULL(1))
	{
		if (PG_ARGISNULL(0))
			PG_RETURN_NULL();
		PG_RETURN_DATUM(PG_GETARG_DATUM(0));
	}
	old = read_values(fcinfo, 0, type);
	if (old.n >= n && compare(fcinfo, type, old.values[n - 1], value, sign) <= 0)
		PG_RETURN_DATUM(PG_GETARG_DATUM(0));
	merged = merge_sorted(fcinfo, type, &old, &new, n, distinct_argument(fcinfo, 3), sign);
	return write_values(&merged, type);
}

static Datum
merge(FunctionCallInfo fcinfo, int sign)
{
	TypeCacheEntry *type = element_type(fcinfo);
	int			n = limit_argument(fcinfo, 2);
	Values		a;
	Values		b;
	Values		merged;

	if (PG_ARGISNULL(0) && PG_ARGISNULL(1))
		PG_RETURN_NULL();
	a = read_values(fcinfo, 0, type);
	b = read_values(fcinfo, 1, type);
	merged = merge_sorted(fcinfo, type, &a, &b, n, distinct_argument(fcinfo, 3), sign);
	return write_values(&merged, type);
}

Datum
weir_top_step(PG_FUNCTION_ARGS)
{
	return step(fcinfo, 1);
}

Datum
weir_bottom_step(PG_FUNCTION_ARGS)
{
	return step(fcinfo, -1);
}

Datum
weir_top_merge(PG_FUNCTION_ARGS)
{
	return merge(fcinfo, 1);
}

Datum
weir_bottom_merge(PG_FUNCTION_ARGS)
{
	return merge(fcinfo, -1);
}

/* The first n of a and then b. */
static Datum
append_values(FunctionCallInfo fcinfo, TypeCacheEntry *type, Values *a, Values *b, int n)
{
	Values		result = {palloc(sizeof(Datum) * Max(a->n + b->n, 1)), palloc(sizeof(bool) * Max(a->n + b->n, 1)), 0};

	for (int i = 0; i < a->n + b->n && result.n < n; i++)
	{
		result.values[result.n] = i < a->n ? a->values[i] : b->values[i - a->n];
		result.nulls[result.n++] = i < a->n ? a->nulls[i] : b->nulls[i - a->n];
	}
	return write_values(&result, type);
}

Datum
weir_list_step(PG_FUNCTION_ARGS)
{
	TypeCacheEntry *type = element_type(fcinfo);
	int			n = limit_argument(fcinfo, 2);
	Values		old = read_values(fcinfo, 0, type);
	Datum		value = PG_ARGISNULL(1) ? (Datum) 0 : PG_GETARG_DATUM(1);
	bool		isnull = PG_ARGISNULL(1);
	Values		new = {&value, &isnull, 1};

	if (old.n >= n)
		PG_RETURN_DATUM(PG_GETARG_DATUM(0));
	return append_values(fcinfo, type, &old, &new, n);
}

Datum
weir_list_merge(PG_FUNCTION_ARGS)
{
	TypeCacheEntry *type = element_type(fcinfo);
	int			n = limit_argument(fcinfo, 2);
	Values		a = read_values(fcinfo, 0, type);
	Values		b = read_values(fcinfo, 1, type);

	if (PG_ARGISNULL(0) && PG_ARGISNULL(1))
		PG_RETURN_NULL();
	return append_values(fcinfo, type, &a, &b, n);
}

Datum
weir_last_step(PG_FUNCTION_ARGS)
{
	TypeCacheEntry *type = element_type(fcinfo);
	int			n = limit_argument(fcinfo, 2);
	Values		old = read_values(fcinfo, 0, type);
	Datum		value = PG_ARGISNULL(1) ? (Datum) 0 : PG_GETARG_DATUM(1);
	bool		isnull = PG_ARGISNULL(1);
	Values		new = {&value, &isnull, 1};

	return append_values(fcinfo, type, &new, &old, n);
}

/* The second state is the newer one. */
Datum
weir_last_merge(PG_FUNCTION_ARGS)
{
	TypeCacheEntry *type = element_type(fcinfo);
	int			n = limit_argument(fcinfo, 2);
	Values		a = read_values(fcinfo, 0, type);
	Values		b = read_values(fcinfo, 1, type);

	if (PG_ARGISNULL(0) && PG_ARGISNULL(1))
		PG_RETURN_NULL();
	return append_values(fcinfo, type, &b, &a, n);
}
