/*
 * partial.c
 *	  Transition states of any aggregate, as values in a table.
 *
 * weir.partial(agg, args) runs another aggregate's transition function and
 * returns its state as bytea; weir.merge(agg, a, b) combines two such states;
 * weir.finalize(agg, state, NULL::type) is the aggregate's result. NULL is the
 * state of no rows. A state of type internal is written by the aggregate's own
 * serialisation function, any other by its type's send function.
 *
 * Aggregates' support functions insist on being called by an aggregate. The
 * transition function gets the executor's own AggState, the one that runs
 * weir.partial. Outside of an aggregate (merge, finalize) they get an AggState
 * that has nothing but the two memory contexts that AggCheckCallContext and
 * AggGetTempMemoryContext look at.
 *
 * Argument types are checked at the first call, since everybody may call these functions.
 * Memory: what is looked up lives with the calling expression (fn_mcxt), states of partial
 * in the group's context, all else in the caller's short-lived context.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "nodes/makefuncs.h"
#include "parser/parse_coerce.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/regproc.h"
#include "utils/syscache.h"
#include "view/shape.h"

PG_FUNCTION_INFO_V1(weir_partial_step);
PG_FUNCTION_INFO_V1(weir_partial_final);
PG_FUNCTION_INFO_V1(weir_merge);
PG_FUNCTION_INFO_V1(weir_finalize);
PG_FUNCTION_INFO_V1(weir_combine);

/* An aggregate, ready to be called. */
typedef struct AggCall
{
	Oid			agg;
	Oid			transtype;
	int16		len;
	bool		byval;
	int			nargs;
	Oid		   *argtypes;
	bool		final_extra;
	bool		has_final;
	Oid			result;
	FmgrInfo	transfn;
	FmgrInfo	finalfn;
	FmgrInfo	combinefn;
	FmgrInfo	writefn;		/* serialisation or send function */
	FmgrInfo	readfn;			/* deserialisation or receive function */
	Oid			ioparam;
	Datum		initial;
	bool		initial_null;
	AggState   *fake;
} AggCall;

static Datum
initial_value(HeapTuple tuple, Oid transtype, bool *isnull)
{
	Datum		value = SysCacheGetAttr(AGGFNOID, tuple, Anum_pg_aggregate_agginitval, isnull);
	Oid			input;
	Oid			ioparam;

	if (*isnull)
		return (Datum) 0;
	getTypeInputInfo(transtype, &input, &ioparam);
	return OidInputFunctionCall(input, TextDatumGetCString(value), ioparam, -1);
}

/* How states are written and read. */
static void
lookup_io(AggCall *call, Form_pg_aggregate form, MemoryContext cxt)
{
	Oid			func;
	bool		varlena;

	if (call->transtype == INTERNALOID)
	{
		if (!OidIsValid(form->aggserialfn) || !OidIsValid(form->aggdeserialfn))
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("states of aggregate %s cannot be stored", format_procedure(call->agg))));
		fmgr_info_cxt(form->aggserialfn, &call->writefn, cxt);
		fmgr_info_cxt(form->aggdeserialfn, &call->readfn, cxt);
		return;
	}
	getTypeBinaryOutputInfo(call->transtype, &func, &varlena);
	fmgr_info_cxt(func, &call->writefn, cxt);
	getTypeBinaryInputInfo(call->transtype, &func, &call->ioparam);
	fmgr_info_cxt(func, &call->readfn, cxt);
}

static AggState *
fake_agg_state(void)
{
	AggState   *state = makeNode(AggState);

	state->curaggcontext = makeNode(ExprContext);
	state->tmpcontext = makeNode(ExprContext);
	return state;
}

static void
check_aggregate_oid(Oid agg)
{
	AclResult	acl;

	if (get_func_prokind(agg) != PROKIND_AGGREGATE)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("%s is not an aggregate", format_procedure(agg))));
	acl = weir_compat_function_execute(agg, GetUserId());
	if (acl != ACLCHECK_OK)
		aclcheck_error(acl, OBJECT_AGGREGATE, get_func_name(agg));
}

/* Looks an aggregate up; everything lives in cxt. */
static AggCall *
lookup_aggregate(Oid agg, MemoryContext cxt)
{
	MemoryContext old = MemoryContextSwitchTo(cxt);
	AggCall    *call = palloc0(sizeof(AggCall));
	HeapTuple	tuple;
	Form_pg_aggregate form;

	check_aggregate_oid(agg);
	tuple = SearchSysCache1(AGGFNOID, ObjectIdGetDatum(agg));
	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for aggregate %u", agg);
	form = (Form_pg_aggregate) GETSTRUCT(tuple);
	if (form->aggkind != AGGKIND_NORMAL || !OidIsValid(form->aggcombinefn))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("states of aggregate %s cannot be merged", format_procedure(agg))));
	call->agg = agg;
	call->transtype = form->aggtranstype;
	call->result = get_func_signature(agg, &call->argtypes, &call->nargs);
	get_typlenbyval(call->transtype, &call->len, &call->byval);
	fmgr_info_cxt(form->aggtransfn, &call->transfn, cxt);
	fmgr_info_cxt(form->aggcombinefn, &call->combinefn, cxt);
	call->has_final = OidIsValid(form->aggfinalfn);
	call->final_extra = form->aggfinalextra;
	if (call->has_final)
		fmgr_info_cxt(form->aggfinalfn, &call->finalfn, cxt);
	call->initial = initial_value(tuple, call->transtype, &call->initial_null);
	call->fake = fake_agg_state();
	if (!IsPolymorphicType(call->transtype))
		lookup_io(call, form, cxt);
	ReleaseSysCache(tuple);
	MemoryContextSwitchTo(old);
	return call;
}

/* The aggregate of a call site: the first argument, looked up once. */
static AggCall *
cached_call(FunctionCallInfo fcinfo, int argno)
{
	AggCall    *call = fcinfo->flinfo->fn_extra;
	Oid			agg;

	if (PG_ARGISNULL(argno))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("aggregate must not be null")));
	agg = PG_GETARG_OID(argno);
	if (call == NULL || call->agg != agg)
	{
		call = lookup_aggregate(agg, fcinfo->flinfo->fn_mcxt);
		fcinfo->flinfo->fn_extra = call;
	}
	/* the fake aggregate's states live as long as the caller's row */
	call->fake->curaggcontext->ecxt_per_tuple_memory = CurrentMemoryContext;
	call->fake->tmpcontext->ecxt_per_tuple_memory = CurrentMemoryContext;
	return call;
}

static void
require_plain_types(AggCall *call)
{
	bool		polymorphic = IsPolymorphicType(call->transtype);

	for (int i = 0; i < call->nargs; i++)
	{
		if (call->argtypes[i] == ANYOID || IsPolymorphicType(call->argtypes[i]))
			polymorphic = true;
	}
	if (polymorphic)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("states of polymorphic aggregate %s cannot be stored", format_procedure(call->agg))));
}

/* --- states ⇔ bytea --------------------------------------------------------- */

/* Calls one of the aggregate's functions, with an aggregate's context. */
static Datum
call_support(FmgrInfo *func, Node *context, Oid collation, int nargs, NullableDatum *args, bool *isnull)
{
	LOCAL_FCINFO(fcinfo, FUNC_MAX_ARGS);
	Datum		result;

	InitFunctionCallInfoData(*fcinfo, func, nargs, collation, context, NULL);
	for (int i = 0; i < nargs; i++)
		fcinfo->args[i] = args[i];
	result = FunctionCallInvoke(fcinfo);
	*isnull = fcinfo->isnull;
	return result;
}

static bytea *
write_state(AggCall *call, Datum state, Node *context)
{
	NullableDatum arg = {state, false};
	bool		isnull;
	Datum		result;

	if (call->transtype != INTERNALOID)
		return SendFunctionCall(&call->writefn, state);
	result = call_support(&call->writefn, context, InvalidOid, 1, &arg, &isnull);
	if (isnull)
		elog(ERROR, "aggregate %u serialised a state to null", call->agg);
	return DatumGetByteaPP(result);
}

static Datum
read_state(AggCall *call, bytea *bytes)
{
	NullableDatum args[2];
	StringInfoData buf;
	bool		isnull;

	if (call->transtype != INTERNALOID)
	{
		initStringInfo(&buf);
		appendBinaryStringInfo(&buf, VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes));
		return ReceiveFunctionCall(&call->readfn, &buf, call->ioparam, -1);
	}
	args[0].value = PointerGetDatum(bytes);
	args[0].isnull = false;
	args[1].value = (Datum) 0;
	args[1].isnull = false;
	return call_support(&call->readfn, (Node *) call->fake, InvalidOid, 2, args, &isnull);
}

/* --- weir.partial -------------------------------------------------------------- */

typedef struct PartialState
{
	AggCall    *call;
	Datum		value;
	bool		isnull;
	bool		started;		/* value counts: initial value or first input taken */
} PartialState;

static void
check_argument_types(FunctionCallInfo fcinfo, AggCall *call)
{
	require_plain_types(call);
	if (PG_NARGS() - 2 != call->nargs)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("aggregate %s takes %d arguments", format_procedure(call->agg), call->nargs)));
	for (int i = 0; i < call->nargs; i++)
	{
		Oid			type = get_fn_expr_argtype(fcinfo->flinfo, i + 2);

		if (!IsBinaryCoercible(type, call->argtypes[i]))
			ereport(ERROR,
					(errcode(ERRCODE_DATATYPE_MISMATCH),
					 errmsg("aggregate %s cannot take an argument of type %s",
							format_procedure(call->agg), format_type_be(type))));
	}
}

static PartialState *
begin_partial(FunctionCallInfo fcinfo, MemoryContext group)
{
	AggCall    *call = fcinfo->flinfo->fn_extra;
	PartialState *state;

	if (call == NULL || call->agg != PG_GETARG_OID(1))
	{
		call = cached_call(fcinfo, 1);
		check_argument_types(fcinfo, call);
	}
	state = MemoryContextAllocZero(group, sizeof(PartialState));
	state->call = call;
	state->isnull = call->initial_null;
	state->started = !call->initial_null;
	if (!state->isnull)
	{
		MemoryContext old = MemoryContextSwitchTo(group);

		state->value = datumCopy(call->initial, call->byval, call->len);
		MemoryContextSwitchTo(old);
	}
	return state;
}

/* Keeps a new state in the group's context and lets go of the old one, as nodeAgg.c does. */
static void
take_value(PartialState *state, Datum value, bool isnull, MemoryContext group)
{
	AggCall    *call = state->call;

	if (!call->byval && DatumGetPointer(value) != DatumGetPointer(state->value))
	{
		MemoryContext old = MemoryContextSwitchTo(group);

		if (!isnull)
			value = datumCopy(value, call->byval, call->len);
		if (!state->isnull)
			pfree(DatumGetPointer(state->value));
		MemoryContextSwitchTo(old);
	}
	state->value = value;
	state->isnull = isnull;
	state->started = true;
}

static void
advance(PartialState *state, FunctionCallInfo fcinfo, MemoryContext group)
{
	AggCall    *call = state->call;
	NullableDatum args[FUNC_MAX_ARGS];
	Datum		value;
	bool		isnull;

	if (call->transfn.fn_strict)
	{
		for (int i = 0; i < call->nargs; i++)
		{
			if (PG_ARGISNULL(i + 2))
				return;
		}
		if (!state->started)
		{
			take_value(state, PG_GETARG_DATUM(2), false, group);
			return;
		}
		if (state->isnull)
			return;
	}
	args[0].value = state->value;
	args[0].isnull = state->isnull;
	for (int i = 0; i < call->nargs; i++)
		args[i + 1] = fcinfo->args[i + 2];
	value = call_support(&call->transfn, fcinfo->context, PG_GET_COLLATION(),
						 call->nargs + 1, args, &isnull);
	take_value(state, value, isnull, group);
}

Datum
weir_partial_step(PG_FUNCTION_ARGS)
{
	MemoryContext group;
	PartialState *state;

	if (AggCheckCallContext(fcinfo, &group) != AGG_CONTEXT_AGGREGATE)
		elog(ERROR, "weir.partial_step called outside of an aggregate");
	if (PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("aggregate must not be null")));
	state = PG_ARGISNULL(0) ? begin_partial(fcinfo, group) :
		(PartialState *) PG_GETARG_POINTER(0);
	advance(state, fcinfo, group);
	PG_RETURN_POINTER(state);
}

Datum
weir_partial_final(PG_FUNCTION_ARGS)
{
	PartialState *state;

	if (AggCheckCallContext(fcinfo, NULL) != AGG_CONTEXT_AGGREGATE)
		elog(ERROR, "weir.partial_final called outside of an aggregate");
	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	state = (PartialState *) PG_GETARG_POINTER(0);
	if (state->isnull)
		PG_RETURN_NULL();
	PG_RETURN_BYTEA_P(write_state(state->call, state->value, fcinfo->context));
}

/* --- weir.merge, weir.finalize, weir.combine ----------------------------------- */

/* The combine function on two states that are not null. */
static Datum
combine_states(AggCall *call, Datum a, Datum b, bool *isnull)
{
	NullableDatum args[2] = {{a, false}, {b, false}};

	return call_support(&call->combinefn, (Node *) call->fake, DEFAULT_COLLATION_OID, 2, args, isnull);
}

Datum
weir_merge(PG_FUNCTION_ARGS)
{
	AggCall    *call = cached_call(fcinfo, 0);
	Datum		merged;
	bool		isnull;

	if (PG_ARGISNULL(1) || PG_ARGISNULL(2))
	{
		int			there = PG_ARGISNULL(1) ? 2 : 1;

		if (PG_ARGISNULL(there))
			PG_RETURN_NULL();
		PG_RETURN_DATUM(PG_GETARG_DATUM(there));
	}
	require_plain_types(call);
	merged = combine_states(call, read_state(call, PG_GETARG_BYTEA_PP(1)),
							read_state(call, PG_GETARG_BYTEA_PP(2)), &isnull);
	if (isnull)
		PG_RETURN_NULL();
	PG_RETURN_BYTEA_P(write_state(call, merged, (Node *) call->fake));
}

Datum
weir_finalize(PG_FUNCTION_ARGS)
{
	AggCall    *call = cached_call(fcinfo, 0);
	NullableDatum args[FUNC_MAX_ARGS];
	Datum		result;
	bool		isnull;
	int			nargs = 1;

	require_plain_types(call);
	if (get_fn_expr_rettype(fcinfo->flinfo) != call->result)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("result of aggregate %s is of type %s",
						format_procedure(call->agg), format_type_be(call->result))));
	args[0].isnull = PG_ARGISNULL(1) ? call->initial_null : false;
	args[0].value = PG_ARGISNULL(1) ? call->initial : read_state(call, PG_GETARG_BYTEA_PP(1));
	if (PG_ARGISNULL(1) && !call->initial_null)
		args[0].value = datumCopy(call->initial, call->byval, call->len);
	if (!call->has_final)
	{
		if (args[0].isnull)
			PG_RETURN_NULL();
		PG_RETURN_DATUM(args[0].value);
	}
	if (call->final_extra)
	{
		for (; nargs <= call->nargs; nargs++)
		{
			args[nargs].value = (Datum) 0;
			args[nargs].isnull = true;
		}
	}
	if (call->finalfn.fn_strict && (args[0].isnull || nargs > 1))
		PG_RETURN_NULL();
	result = call_support(&call->finalfn, (Node *) call->fake, PG_GET_COLLATION(), nargs, args, &isnull);
	if (isnull)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(result);
}

/* weir.combine merges two values of an aggregate whose result is its state; NULL: no rows. */
Datum
weir_combine(PG_FUNCTION_ARGS)
{
	AggCall    *call = cached_call(fcinfo, 0);
	Oid			type = get_fn_expr_argtype(fcinfo->flinfo, 1);
	NullableDatum args[2] = {fcinfo->args[1], fcinfo->args[2]};
	Datum		result;
	bool		isnull;

	if (IsPolymorphicType(call->transtype) ?
		!check_generic_type_consistency(&type, &call->transtype, 1) :
		!IsBinaryCoercible(type, call->transtype))
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("states of aggregate %s are not of type %s",
						format_procedure(call->agg), format_type_be(type))));
	if (call->transtype == INTERNALOID)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("states of aggregate %s are not its results", format_procedure(call->agg))));
	if (call->combinefn.fn_strict && (args[0].isnull || args[1].isnull))
	{
		int			there = args[0].isnull ? 1 : 0;

		if (args[there].isnull)
			PG_RETURN_NULL();
		PG_RETURN_DATUM(args[there].value);
	}
	if (call->combinefn.fn_expr == NULL)
	{
		/* polymorphic functions ask for the type of their arguments */
		MemoryContext old = MemoryContextSwitchTo(fcinfo->flinfo->fn_mcxt);
		Node	   *arg = (Node *) makeNullConst(type, -1, InvalidOid);

		fmgr_info_set_expr((Node *) makeFuncExpr(call->combinefn.fn_oid, type, list_make2(arg, arg),
												 InvalidOid, InvalidOid, COERCE_EXPLICIT_CALL),
						   &call->combinefn);
		MemoryContextSwitchTo(old);
	}
	result = call_support(&call->combinefn, (Node *) call->fake, PG_GET_COLLATION(), 2, args, &isnull);
	if (isnull)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(result);
}
