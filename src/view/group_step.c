/*
 * group_step.c
 *	  The steps of aggregates that group.c knows.
 *
 * Counts and sums are kept as integers: of int8 in 128 bits, of numeric as
 * fixed-point numbers of 128 bits with 12 decimals, which are exact for values below 10^16; their display scale is
 * the largest one seen, as PostgreSQL's sum() has it. All other aggregates whose state is of the type of their
 * argument and begins with the first one (min, max, bit_and, sum of floats ...) call
 * their own transition function.
 *
 * weir_group_advance returns false for what it cannot do exactly (NaN, many
 * digits): group.c then leaves all to the executor.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/transam.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "decode/numeric_layout.h"
#include "nodes/nodeFuncs.h"
#include "parser/parse_coerce.h"
#include "utils/datum.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "view/group.h"

#ifdef HAVE_INT128

/* Fixed-point numbers: groups of four decimals behind and before the point. */
#define FRACTION_GROUPS 3
#define INTEGER_GROUPS 4

/* So many values cannot overflow 128 bits. */
#define MOST_VALUES INT64CONST(1000000000)

#define TEN_TO_16 UINT64CONST(10000000000000000)

/* ---- which aggregates ---- */

/* The transition function if it is all that the aggregate consists of, else InvalidOid. */
static Oid
plain_function(Aggref *aggref)
{
	HeapTuple	tuple = SearchSysCache1(AGGFNOID, ObjectIdGetDatum(aggref->aggfnoid));
	Form_pg_aggregate form;
	Oid			function = InvalidOid;
	bool		no_initial;

	if (!HeapTupleIsValid(tuple))
		return InvalidOid;
	form = (Form_pg_aggregate) GETSTRUCT(tuple);
	(void) SysCacheGetAttr(AGGFNOID, tuple, Anum_pg_aggregate_agginitval, &no_initial);
	if (no_initial && !OidIsValid(form->aggfinalfn) && list_length(aggref->args) == 1 &&
		form->aggtranstype != INTERNALOID && !IsPolymorphicType(form->aggtranstype) &&
		IsBinaryCoercible(exprType((Node *) linitial_node(TargetEntry, aggref->args)->expr), form->aggtranstype) &&
		func_strict(form->aggtransfn) && get_func_nargs(form->aggtransfn) == 2)
		function = form->aggtransfn;
	ReleaseSysCache(tuple);
	return function;
}

/* weir_group_step tells how an aggregate is computed; *function: of STEP_FUNCTION. */
GroupStep
weir_group_step(Aggref *aggref, Oid *function)
{
	*function = InvalidOid;
	switch (aggref->aggfnoid)
	{
		case F_COUNT_:
		case F_COUNT_ANY:
			return STEP_COUNT;
		case F_SUM_INT2:
			return STEP_SUM_INT2;
		case F_SUM_INT4:
			return STEP_SUM_INT4;
		case F_SUM_INT8:
			return STEP_SUM_INT8;
		case F_SUM_NUMERIC:
			return STEP_SUM_NUMERIC;
		default:
			if (aggref->aggfnoid < FirstNormalObjectId)
				*function = plain_function(aggref);
			return OidIsValid(*function) ? STEP_FUNCTION : STEP_NONE;
	}
}

/* ---- numeric as fixed-point numbers ---- */

/* Adds a numeric; false: it is none that fits. */
static bool
add_numeric(GroupValue *state, Datum datum)
{
	static const uint64 powers[] = {1, 10000, 100000000, UINT64CONST(1000000000000), TEN_TO_16};
	struct varlena *numeric = PG_DETOAST_DATUM_PACKED(datum);
	const char *p = VARDATA_ANY(numeric);
	const char *end = p + VARSIZE_ANY_EXHDR(numeric);
	uint16		header;
	int16		weight;
	int			scale;
	int			ndigits;
	int			shift;
	bool		negative;
	int128		value = 0;

	memcpy(&header, p, sizeof(header));
	p += sizeof(header);
	if ((header & NUMERIC_FORM_MASK) == NUMERIC_FORM_SPECIAL)
		return false;
	if (header & NUMERIC_IS_SHORT_FORM)
	{
		negative = (header & SHORT_NEGATIVE) != 0;
		scale = (header & SHORT_SCALE_MASK) >> SHORT_SCALE_SHIFT;
		weight = header & SHORT_WEIGHT_MASK;
		if (header & SHORT_WEIGHT_SIGN)
			weight |= ~SHORT_WEIGHT_MASK;
	}
	else
	{
		negative = (header & NUMERIC_LONG_NEGATIVE) != 0;
		scale = header & NUMERIC_LONG_SCALE_MASK;
		memcpy(&weight, p, sizeof(weight));
		p += sizeof(weight);
	}
	ndigits = (end - p) / sizeof(int16);
	shift = weight - (ndigits - 1) + FRACTION_GROUPS;
	if (scale > SHORT_SCALE_MAX || (ndigits > 0 && (weight >= INTEGER_GROUPS || shift < 0)))
		return false;

	if (ndigits <= 4)
	{
		int64		head = 0;

		for (int i = 0; i < ndigits; i++, p += sizeof(int16))
		{
			int16		digit;

			memcpy(&digit, p, sizeof(digit));
			head = head * 10000 + digit;
		}
		value = head;
	}
	else
		for (int i = 0; i < ndigits; i++, p += sizeof(int16))
		{
			int16		digit;

			memcpy(&digit, p, sizeof(digit));
			value = value * 10000 + digit;
		}
	if (ndigits > 0)
	{
		if (shift > 4)
		{
			value *= powers[4];
			shift -= 4;
		}
		value *= powers[shift];
	}
	state->u.sum += negative ? -value : value;
	state->scale = Max(state->scale, scale);
	return true;
}

/* The numeric of sum / 10000^fraction_groups. */
static Datum
numeric_from_fixed(int128 sum, int fraction_groups, int scale)
{
	int16		groups[12];		/* the last is the lowest */
	int			first = lengthof(groups);
	int			last = lengthof(groups);
	bool		negative = sum < 0;
	uint128		rest = negative ? -(uint128) sum : (uint128) sum;
	uint16		header = SHORT_NUMERIC | (scale << SHORT_SCALE_SHIFT);
	int			weight;
	Size		size;
	char	   *result;

	while (rest != 0)
	{
		uint64		part = (uint64) (rest % TEN_TO_16); /* four groups at a time */

		rest /= TEN_TO_16;
		for (int i = 0; i < 4 && (rest != 0 || part != 0); i++, part /= 10000)
			groups[--first] = (int16) (part % 10000);
	}
	weight = lengthof(groups) - first - 1 - fraction_groups;
	if (first < last)
	{
		while (groups[last - 1] == 0)
			last--;
		header |= negative ? SHORT_NEGATIVE : 0;
		header |= (weight & SHORT_WEIGHT_MASK) | (weight < 0 ? SHORT_WEIGHT_SIGN : 0);
	}
	size = VARHDRSZ + sizeof(header) + (last - first) * sizeof(int16);
	result = palloc(size);
	SET_VARSIZE(result, size);
	memcpy(result + VARHDRSZ, &header, sizeof(header));
	memcpy(result + VARHDRSZ + sizeof(header), groups + first, (last - first) * sizeof(int16));
	return PointerGetDatum(result);
}

/* ---- steps ---- */

/* Calls the transition function, or takes over the first value; false: it returned NULL. */
static bool
advance_function(GroupCall *call, GroupValue *state, Datum value, MemoryContext cxt)
{
	FunctionCallInfo fcinfo = call->fcinfo;
	MemoryContext old;
	Datum		result = value;

	if (state->count > 0)
	{
		fcinfo->args[0].value = state->u.value;
		fcinfo->args[1].value = value;
		fcinfo->isnull = false;
		result = FunctionCallInvoke(fcinfo);
		if (fcinfo->isnull)
			return false;
	}
	if (!call->typbyval && (state->count == 0 || result != state->u.value))
	{
		old = MemoryContextSwitchTo(cxt);
		result = datumCopy(result, false, call->typlen);
		if (state->count > 0)
			pfree(DatumGetPointer(state->u.value));
		MemoryContextSwitchTo(old);
	}
	state->u.value = result;
	return true;
}

/*
 * weir_group_advance takes a value that is not NULL into a state, whose memory
 * is cxt; garbage stays in CurrentMemoryContext. False: see above.
 */
bool
weir_group_advance(GroupCall *call, GroupValue *state, Datum value, MemoryContext cxt)
{
	switch (call->step)
	{
		case STEP_COUNT:
			break;
		case STEP_SUM_INT2:
			state->u.sum += DatumGetInt16(value);
			break;
		case STEP_SUM_INT4:
			state->u.sum += DatumGetInt32(value);
			break;
		case STEP_SUM_INT8:
			state->u.sum += DatumGetInt64(value);
			break;
		case STEP_SUM_NUMERIC:
			if (!add_numeric(state, value) || state->count >= MOST_VALUES)
				return false;
			break;
		case STEP_FUNCTION:
			if (!advance_function(call, state, value, cxt))
				return false;
			break;
		case STEP_NONE:
			return false;
	}
	state->count++;
	return true;
}

/* weir_group_result returns the aggregate's value, in CurrentMemoryContext or the state. */
Datum
weir_group_result(GroupCall *call, GroupValue *state, bool *isnull)
{
	*isnull = call->step != STEP_COUNT && state->count == 0;
	if (*isnull)
		return (Datum) 0;
	switch (call->step)
	{
		case STEP_COUNT:
			return Int64GetDatum(state->count);
		case STEP_SUM_INT2:
		case STEP_SUM_INT4:
			return Int64GetDatum((int64) state->u.sum);
		case STEP_SUM_INT8:
			return numeric_from_fixed(state->u.sum, 0, 0);
		case STEP_SUM_NUMERIC:
			return numeric_from_fixed(state->u.sum, FRACTION_GROUPS, state->scale);
		default:
			return state->u.value;
	}
}

#endif							/* HAVE_INT128 */
