/*
 * extreme.c
 *	  The least or greatest value that rows which came and went leave net.
 *
 * weir.net_min(x, gone) and weir.net_max(x, gone): values that came as often as they went cancel out, told apart by
 * their bytes; of those left, the least or greatest. weir.net_min_lost, weir.net_max_lost: did a value
 * equal to that one go? Then whoever holds it as his extreme must look for another (retract.c). The four share one state.
 *
 * No catalogs but the type's. Memory: a copy of every value that has not cancelled out, in the group's context.
 */
#include "postgres.h"

#include "compat.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"

PG_FUNCTION_INFO_V1(weir_extreme_step);
PG_FUNCTION_INFO_V1(weir_net_min);
PG_FUNCTION_INFO_V1(weir_net_max);
PG_FUNCTION_INFO_V1(weir_net_min_lost);
PG_FUNCTION_INFO_V1(weir_net_max_lost);

#define FIRST_ROOM	16

typedef struct Change
{
	Datum		value;
	int64		count;			/* came less went */
} Change;

typedef struct Changes
{
	TypeCacheEntry *type;
	Oid			collation;
	int			n;
	int			room;
	bool		sorted;			/* and each value once */
	Change	   *changes;
} Changes;

/* --- order ------------------------------------------------------------------------ */

static int
compare_bytes(Changes *state, Datum a, Datum b)
{
	Size		la;
	Size		lb;
	int			result;

	if (state->type->typbyval)
		return a < b ? -1 : a > b;
	la = datumGetSize(a, false, state->type->typlen);
	lb = datumGetSize(b, false, state->type->typlen);
	result = memcmp(DatumGetPointer(a), DatumGetPointer(b), Min(la, lb));
	return result ? result : la < lb ? -1 : la > lb;
}

static int
compare_values(Changes *state, Datum a, Datum b)
{
	return DatumGetInt32(FunctionCall2Coll(&state->type->cmp_proc_finfo, state->collation, a, b));
}

static int
compare_changes(const void *a, const void *b, void *arg)
{
	Changes    *state = arg;
	Datum		left = ((const Change *) a)->value;
	Datum		right = ((const Change *) b)->value;
	int			result;

	CHECK_FOR_INTERRUPTS();
	result = compare_values(state, left, right);
	return result ? result : compare_bytes(state, left, right);
}

static void
free_value(Changes *state, Datum value)
{
	if (!state->type->typbyval)
		pfree(DatumGetPointer(value));
}

/* Sorts, and leaves each value once, if it is not cancelled out. */
static void
settle(Changes *state)
{
	int			kept = 0;

	if (state->sorted)
		return;
	qsort_arg(state->changes, state->n, sizeof(Change), compare_changes, state);
	for (int i = 0; i < state->n;)
	{
		Change		change = state->changes[i++];

		while (i < state->n && compare_bytes(state, change.value, state->changes[i].value) == 0)
		{
			change.count += state->changes[i].count;
			free_value(state, state->changes[i++].value);
		}
		if (change.count != 0)
			state->changes[kept++] = change;
		else
			free_value(state, change.value);
	}
	state->n = kept;
	state->sorted = true;
}

/* --- the aggregates ------------------------------------------------------------------ */

static Changes *
begin(FunctionCallInfo fcinfo)
{
	Changes    *state = palloc0(sizeof(Changes));
	Oid			type = get_fn_expr_argtype(fcinfo->flinfo, 1);

	state->type = lookup_type_cache(type, TYPECACHE_CMP_PROC_FINFO);
	if (!OidIsValid(state->type->cmp_proc_finfo.fn_oid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("could not identify a comparison function for type %s", format_type_be(type))));
	state->collation = PG_GET_COLLATION();
	state->room = FIRST_ROOM;
	state->changes = palloc(sizeof(Change) * state->room);
	return state;
}

/* Makes room for one more: what cancels out goes first. */
static void
make_room(Changes *state)
{
	if (state->n < state->room)
		return;
	settle(state);
	if (state->n <= state->room / 2)
		return;
	state->room *= 2;
	state->changes = repalloc_huge(state->changes, sizeof(Change) * state->room);
}

/* weir.extreme_step(internal, anyelement, gone boolean) */
Datum
weir_extreme_step(PG_FUNCTION_ARGS)
{
	MemoryContext group;
	MemoryContext old;
	Changes    *state = PG_ARGISNULL(0) ? NULL : (Changes *) PG_GETARG_POINTER(0);
	Datum		value;

	if (AggCheckCallContext(fcinfo, &group) != AGG_CONTEXT_AGGREGATE)
		elog(ERROR, "weir.extreme_step called outside of an aggregate");
	if (PG_ARGISNULL(1))
	{
		if (state == NULL)
			PG_RETURN_NULL();
		PG_RETURN_POINTER(state);
	}
	old = MemoryContextSwitchTo(group);
	if (state == NULL)
		state = begin(fcinfo);
	make_room(state);
	value = state->type->typlen == -1 ? PointerGetDatum(PG_DETOAST_DATUM_COPY(PG_GETARG_DATUM(1))) :
		datumCopy(PG_GETARG_DATUM(1), state->type->typbyval, state->type->typlen);
	state->changes[state->n++] = (Change) {value, !PG_ARGISNULL(2) && PG_GETARG_BOOL(2) ? -1 : 1};
	state->sorted = false;
	MemoryContextSwitchTo(old);
	PG_RETURN_POINTER(state);
}

/* The extreme; NULL: nothing is left. *lost: a value equal to it went. */
static Change *
find_extreme(Changes *state, bool greatest, bool *lost)
{
	Change	   *found = NULL;

	*lost = false;
	settle(state);
	for (int i = 0; i < state->n; i++)
	{
		Change	   *change = &state->changes[greatest ? state->n - 1 - i : i];

		if (found && compare_values(state, found->value, change->value) != 0)
			break;
		if (found == NULL || (found->count < 0 && change->count > 0))
			found = change;
		*lost |= change->count < 0;
	}
	return found;
}

static Datum
final(FunctionCallInfo fcinfo, bool greatest, bool want_lost)
{
	bool		lost;
	Change	   *found;

	if (AggCheckCallContext(fcinfo, NULL) != AGG_CONTEXT_AGGREGATE)
		elog(ERROR, "weir.net_min called outside of an aggregate");
	found = PG_ARGISNULL(0) ? NULL : find_extreme((Changes *) PG_GETARG_POINTER(0), greatest, &lost);
	if (want_lost)
		PG_RETURN_BOOL(found && lost);
	if (found == NULL)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(found->value);
}

Datum
weir_net_min(PG_FUNCTION_ARGS)
{
	return final(fcinfo, false, false);
}

Datum
weir_net_max(PG_FUNCTION_ARGS)
{
	return final(fcinfo, true, false);
}

Datum
weir_net_min_lost(PG_FUNCTION_ARGS)
{
	return final(fcinfo, false, true);
}

Datum
weir_net_max_lost(PG_FUNCTION_ARGS)
{
	return final(fcinfo, true, true);
}
