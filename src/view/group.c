/*
 * group.c
 *	  Groups a delta's rows and computes their aggregates: the plan node of group_plan.c.
 *
 * Reads the delta's arrays directly; keys and arguments that are columns, and windows
 * of a fixed length over them, cost no expression evaluation. Groups are found by the
 * bytes of their keys in a hash table with open addressing.
 *
 * The way out: when a value cannot be taken in exactly, when the groups
 * need more than a HashAggregate may have in memory, or when weir.fast_grouping is off,
 * all groups are dropped and the HashAggregate that the planner made is run from the delta's first row.
 * Nothing has been handed out then, and no expression has side effects.
 *
 * Memory: groups live in a context of their own, until the node is rescanned or
 * ends; what rows leave behind is reset per row.
 */
#include "postgres.h"

#include "common/int.h"
#include "compat.h"
#include "datatype/timestamp.h"
#include "delta/delta.h"
#include "executor/executor.h"
#include "executor/nodeHash.h"
#include "miscadmin.h"
#include "nodes/extensible.h"
#include "nodes/nodeFuncs.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "view/group.h"
#include "view/window.h"

#ifdef HAVE_INT128

#define FIRST_TABLE_SIZE 256	/* a power of two */
#define LONGEST_DAYS 1000000	/* of a window */
#define GROUPS_PER_CHECK 256	/* of the memory they need */

/* A group key. */
typedef struct GroupKey
{
	int			column;			/* of the delta; -1: expr */
	ExprState  *expr;
	bool		typbyval;
	int16		typlen;

	/* a boundary of tumbling windows over column: the window of the last row */
	const Interval *size;		/* NULL: the column itself */
	Timestamp	origin;
	int			boundary;		/* 0: start, 1: end */
	int64		length;
	Timestamp	from;
	Timestamp	until;			/* from = until: none yet */
} GroupKey;

typedef struct KeyGroup
{
	GroupValue *values;			/* one per call */
	bool	   *isnull;			/* one per key */
	Datum		keys[FLEXIBLE_ARRAY_MEMBER];
} KeyGroup;

typedef struct GroupSlot
{
	uint64		hash;
	KeyGroup   *group;			/* NULL: free */
} GroupSlot;

typedef struct GroupScan
{
	CustomScanState css;
	Delta	   *delta;
	TupleTableSlot *row;		/* the delta's row at hand, for expressions */
	Datum	   *values;			/* the same */
	bool	   *isnull;
	bool		evaluates;		/* there are expressions */
	int			nrequired;		/* columns that must not be NULL */
	int		   *required;
	ExprState  *qual;			/* other conditions, or NULL */
	int			nkeys;
	GroupKey   *keys;
	Datum	   *key_values;		/* of the row at hand */
	bool	   *key_nulls;
	int			ncalls;
	GroupCall  *calls;

	MemoryContext cxt;			/* the groups and the table */
	Size		limit;			/* of its size */
	GroupSlot  *table;
	uint64		size;
	uint64		ngroups;
	uint64		next;			/* slot to be handed out */
	bool		grouped;		/* all rows are in */
	PlanState  *plain;			/* the HashAggregate, once it runs instead */
} GroupScan;

/* ---- keys ---- */

/* The boundary of the window that ts lies in; mostly that of the row before. */
static inline Datum
window_boundary(GroupKey *key, Timestamp ts)
{
	Timestamp	boundary;

	if (unlikely(ts < key->from || ts >= key->until))
	{
		boundary = weir_window_boundary(ts, key->size, key->origin, key->boundary);
		key->from = key->until = boundary;
		if (TIMESTAMP_NOT_FINITE(ts) ||
			(key->boundary == 0 ? pg_add_s64_overflow(boundary, key->length, &key->until) :
			 pg_sub_s64_overflow(boundary, key->length, &key->from)))
		{
			key->from = key->until = 0;
			return TimestampGetDatum(boundary);
		}
	}
	return TimestampGetDatum(key->boundary == 0 ? key->from : key->until);
}

static inline uint64
mix(uint64 hash, uint64 word)
{
	hash = (hash ^ word) * UINT64CONST(0x9E3779B97F4A7C15);
	return hash ^ (hash >> 32);
}

static uint64
mix_bytes(uint64 hash, const char *data, Size len)
{
	uint64		word;

	hash = mix(hash, len);
	for (; len >= sizeof(word); data += sizeof(word), len -= sizeof(word))
	{
		memcpy(&word, data, sizeof(word));
		hash = mix(hash, word);
	}
	if (len > 0)
	{
		word = 0;
		memcpy(&word, data, len);
		hash = mix(hash, word);
	}
	return hash;
}

/* The bytes that a value by reference consists of. */
static inline void
value_bytes(const GroupKey *key, Datum value, const char **data, Size *len)
{
	*data = key->typlen > 0 ? DatumGetPointer(value) : VARDATA_ANY(DatumGetPointer(value));
	*len = key->typlen > 0 ? key->typlen : VARSIZE_ANY_EXHDR(DatumGetPointer(value));
}

/* Computes the keys of the row at hand; returns their hash. */
static inline uint64
compute_keys(GroupScan *state)
{
	uint64		hash = 0;

	for (int i = 0; i < state->nkeys; i++)
	{
		GroupKey   *key = &state->keys[i];
		bool		isnull;
		Datum		value;

		if (key->column < 0)
			value = ExecEvalExprSwitchContext(key->expr, state->css.ss.ps.ps_ExprContext, &isnull);
		else
		{
			value = state->values[key->column];
			isnull = state->isnull[key->column];
			if (key->size && !isnull)
				value = window_boundary(key, DatumGetTimestamp(value));
		}
		state->key_nulls[i] = isnull;
		if (isnull)
			hash = mix(hash, ~UINT64CONST(0));
		else if (key->typbyval)
			hash = mix(hash, value);
		else
		{
			const char *data;
			Size		len;

			if (key->typlen < 0 && unlikely(VARATT_IS_EXTERNAL(DatumGetPointer(value)) ||
											VARATT_IS_COMPRESSED(DatumGetPointer(value))))
			{
				MemoryContext old = MemoryContextSwitchTo(state->css.ss.ps.ps_ExprContext->ecxt_per_tuple_memory);

				value = PointerGetDatum(PG_DETOAST_DATUM_PACKED(value));
				MemoryContextSwitchTo(old);
			}
			value_bytes(key, value, &data, &len);
			hash = mix_bytes(hash, data, len);
		}
		state->key_values[i] = value;
	}
	return hash;
}

/* ---- groups ---- */

static inline bool
same_keys(const GroupScan *state, const KeyGroup *group)
{
	for (int i = 0; i < state->nkeys; i++)
	{
		const GroupKey *key = &state->keys[i];
		const char *mine,
				   *other;
		Size		mine_len,
					other_len;

		if (state->key_nulls[i] != group->isnull[i])
			return false;
		if (group->isnull[i])
			continue;
		if (key->typbyval)
		{
			if (state->key_values[i] != group->keys[i])
				return false;
			continue;
		}
		value_bytes(key, state->key_values[i], &mine, &mine_len);
		value_bytes(key, group->keys[i], &other, &other_len);
		if (mine_len != other_len || memcmp(mine, other, mine_len) != 0)
			return false;
	}
	return true;
}

static void
grow_table(GroupScan *state)
{
	GroupSlot  *old = state->table;
	uint64		old_size = state->size;

	state->size = old ? old_size * 2 : FIRST_TABLE_SIZE;
	state->table = MemoryContextAllocExtended(state->cxt, state->size * sizeof(GroupSlot),
											  MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	for (uint64 i = 0; i < old_size; i++)
	{
		uint64		place = old[i].hash & (state->size - 1);

		if (old[i].group == NULL)
			continue;
		while (state->table[place].group)
			place = (place + 1) & (state->size - 1);
		state->table[place] = old[i];
	}
	if (old)
		pfree(old);
}

/* A new group with the keys of the row at hand; NULL: there is no memory for more. */
static KeyGroup *
add_group(GroupScan *state)
{
	Size		keys_size = offsetof(KeyGroup, keys) + state->nkeys * sizeof(Datum);
	Size		values_at = MAXALIGN(keys_size + state->nkeys * sizeof(bool));
	MemoryContext old;
	KeyGroup   *group;

	if (state->ngroups % GROUPS_PER_CHECK == 0 && MemoryContextMemAllocated(state->cxt, true) > state->limit)
		return NULL;
	old = MemoryContextSwitchTo(state->cxt);
	group = palloc0(values_at + state->ncalls * sizeof(GroupValue));
	group->values = (GroupValue *) ((char *) group + values_at);
	group->isnull = (bool *) ((char *) group + keys_size);
	for (int i = 0; i < state->nkeys; i++)
	{
		group->isnull[i] = state->key_nulls[i];
		if (!group->isnull[i])
			group->keys[i] = datumCopy(state->key_values[i], state->keys[i].typbyval, state->keys[i].typlen);
	}
	MemoryContextSwitchTo(old);
	state->ngroups++;
	return group;
}

/* The group of the row at hand; NULL: there is no memory for more. */
static inline KeyGroup *
find_group(GroupScan *state, uint64 hash)
{
	uint64		place = hash & (state->size - 1);

	for (; state->table[place].group; place = (place + 1) & (state->size - 1))
	{
		if (state->table[place].hash == hash && same_keys(state, state->table[place].group))
			return state->table[place].group;
	}
	if (state->ngroups >= state->size / 2)
	{
		grow_table(state);
		place = hash & (state->size - 1);
		while (state->table[place].group)
			place = (place + 1) & (state->size - 1);
	}
	state->table[place].hash = hash;
	state->table[place].group = add_group(state);
	return state->table[place].group;
}

/* ---- rows ---- */

static inline bool
row_qualifies(GroupScan *state)
{
	for (int i = 0; i < state->nrequired; i++)
	{
		if (state->isnull[state->required[i]])
			return false;
	}
	return state->qual == NULL || ExecQual(state->qual, state->css.ss.ps.ps_ExprContext);
}

/* Takes the row at hand into its group; false: it cannot be done here. */
static inline bool
take_row(GroupScan *state)
{
	ExprContext *econtext = state->css.ss.ps.ps_ExprContext;
	KeyGroup   *group = find_group(state, compute_keys(state));

	if (unlikely(group == NULL))
		return false;
	for (int i = 0; i < state->ncalls; i++)
	{
		GroupCall  *call = &state->calls[i];
		Datum		value = (Datum) 0;
		bool		isnull = false;

		if (call->filter && !ExecQual(call->filter, econtext))
			continue;
		if (call->column >= 0)
		{
			value = state->values[call->column];
			isnull = state->isnull[call->column];
		}
		else if (call->expr)
			value = ExecEvalExprSwitchContext(call->expr, econtext, &isnull);
		if (!isnull && !weir_group_advance(call, &group->values[i], value, state->cxt))
			return false;
	}
	return true;
}

static void
reset_groups(GroupScan *state)
{
	MemoryContextReset(state->cxt);
	state->table = NULL;
	state->size = state->ngroups = state->next = 0;
	state->grouped = false;
	grow_table(state);
}

/* Groups all rows; false: it cannot be done here. */
static bool
group_rows(GroupScan *state)
{
	ExprContext *econtext = state->css.ss.ps.ps_ExprContext;
	TupleTableSlot *row = state->row;
	MemoryContext old;
	DeltaCursor cursor;
	int64		nrows = 0;
	bool		fine = true;

	weir_delta_open(&cursor, state->delta);
	old = MemoryContextSwitchTo(econtext->ecxt_per_tuple_memory);
	econtext->ecxt_scantuple = row;
	row->tts_flags &= ~TTS_FLAG_EMPTY;
	row->tts_nvalid = row->tts_tupleDescriptor->natts;
	if (state->nkeys == 0)
		fine = find_group(state, 0) != NULL;	/* also of no rows there is one result */
	while (fine && weir_delta_next(&cursor, &state->values, &state->isnull))
	{
		if ((++nrows & 1023) == 0)
			CHECK_FOR_INTERRUPTS();
		row->tts_values = state->values;
		row->tts_isnull = state->isnull;
		if (row_qualifies(state))
			fine = take_row(state);
		if (state->evaluates || (nrows & 1023) == 0)
			ResetExprContext(econtext);
	}
	MemoryContextSwitchTo(old);
	ExecClearTuple(row);
	weir_delta_close(&cursor);
	if (fine)
		elog(DEBUG1, "grouped " INT64_FORMAT " rows into " UINT64_FORMAT " groups", nrows, state->ngroups);
	state->grouped = fine;
	return fine;
}

/* ---- the node ---- */

static void
run_plain(GroupScan *state)
{
	EState	   *estate = state->css.ss.ps.state;
	MemoryContext old = MemoryContextSwitchTo(estate->es_query_cxt);
	CustomScan *node = (CustomScan *) state->css.ss.ps.plan;

	elog(DEBUG1, "rows are left to HashAggregate");
	reset_groups(state);
	state->plain = ExecInitNode(linitial(node->custom_plans), estate, 0);
	state->css.custom_ps = list_make1(state->plain);
	MemoryContextSwitchTo(old);
}

/* The next group as the node's tuple. */
static TupleTableSlot *
next_group(ScanState *node)
{
	GroupScan *state = (GroupScan *) node;
	TupleTableSlot *slot = node->ss_ScanTupleSlot;
	KeyGroup   *group;

	ExecClearTuple(slot);
	while (state->next < state->size && state->table[state->next].group == NULL)
		state->next++;
	if (state->next >= state->size)
		return slot;
	group = state->table[state->next++].group;
	for (int i = 0; i < state->nkeys; i++)
	{
		slot->tts_values[i] = group->keys[i];
		slot->tts_isnull[i] = group->isnull[i];
	}
	for (int i = 0; i < state->ncalls; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(node->ps.ps_ExprContext->ecxt_per_tuple_memory);
		int			column = state->nkeys + i;

		slot->tts_values[column] = weir_group_result(&state->calls[i], &group->values[i],
													 &slot->tts_isnull[column]);
		MemoryContextSwitchTo(old);
	}
	return ExecStoreVirtualTuple(slot);
}

/* When a plan is run again for a row that was locked, all of the delta is read again. */
static bool
recheck_group(ScanState *node, TupleTableSlot *slot)
{
	return !TupIsNull(next_group(node));
}

static TupleTableSlot *
exec_group(CustomScanState *node)
{
	GroupScan *state = (GroupScan *) node;

	if (state->plain == NULL && !state->grouped && (!weir_fast_grouping || !group_rows(state)))
		run_plain(state);
	if (state->plain)
		return ExecProcNode(state->plain);
	return ExecScan(&node->ss, next_group, recheck_group);
}

/* ---- preparing ---- */

/* The column of the delta that an expression is, or -1. */
static int
column_of(Node *node)
{
	Var		   *var = (Var *) node;

	return node && IsA(var, Var) && var->varno == INDEX_VAR && var->varattno > 0 ? var->varattno - 1 : -1;
}

static ExprState *
prepare_expression(GroupScan *state, Node *node)
{
	state->evaluates = true;
	return ExecInitExpr((Expr *) node, &state->css.ss.ps);
}

/* Is the key a boundary of windows of a fixed length over a column? */
static bool
prepare_window(GroupKey *key, Node *node)
{
	FuncExpr   *call = (FuncExpr *) node;
	FmgrInfo	function;
	Const	   *size;
	Const	   *origin = NULL;
	const Interval *interval;

	if (!IsA(node, FuncExpr) || list_length(call->args) < 2 || list_length(call->args) > 3 ||
		!IsA(lsecond(call->args), Const) || column_of(linitial(call->args)) < 0)
		return false;
	fmgr_info(call->funcid, &function);
	if (!function.fn_strict || (function.fn_addr != weir_window_start && function.fn_addr != weir_window_end))
		return false;
	size = lsecond(call->args);
	if (list_length(call->args) == 3)
	{
		origin = lthird(call->args);
		if (!IsA(origin, Const) || origin->constisnull)
			return false;
	}
	if (size->constisnull)
		return false;
	interval = DatumGetIntervalP(size->constvalue);
	if (interval->month != 0 || interval->day < 0 || interval->day > LONGEST_DAYS ||
		interval->time < 0 || interval->time > LONGEST_DAYS * USECS_PER_DAY ||
		(interval->day == 0 && interval->time == 0))
		return false;			/* the function has its say */
	key->column = column_of(linitial(call->args));
	key->size = interval;
	key->length = interval->day * USECS_PER_DAY + interval->time;
	key->origin = origin ? DatumGetTimestamp(origin->constvalue) : WEIR_WINDOW_EPOCH;
	key->boundary = function.fn_addr == weir_window_start ? 0 : 1;
	return true;
}

static void
prepare_key(GroupScan *state, GroupKey *key, Node *node)
{
	get_typlenbyval(exprType(node), &key->typlen, &key->typbyval);
	key->column = column_of(node);
	if (key->column < 0 && !prepare_window(key, node))
		key->expr = prepare_expression(state, node);
}

static void
prepare_call(GroupScan *state, GroupCall *call, Aggref *aggref)
{
	Node	   *argument = aggref->args ? (Node *) linitial_node(TargetEntry, aggref->args)->expr : NULL;
	Oid			function;

	call->step = weir_group_step(aggref, &function);
	call->column = column_of(argument);
	if (argument && call->column < 0)
		call->expr = prepare_expression(state, argument);
	if (aggref->aggfilter)
	{
		state->evaluates = true;
		call->filter = ExecInitQual(list_make1(aggref->aggfilter), &state->css.ss.ps);
	}
	if (call->step != STEP_FUNCTION)
		return;
	state->evaluates = true;	/* functions may leave memory behind */
	fmgr_info(function, &call->function);
	call->fcinfo = palloc0(SizeForFunctionCallInfo(2));
	InitFunctionCallInfoData(*call->fcinfo, &call->function, 2, aggref->inputcollid, NULL, NULL);
	get_typlenbyval(aggref->aggtranstype, &call->typlen, &call->typbyval);
}

/* Splits the conditions into columns that must not be NULL and all else. */
static void
prepare_qual(GroupScan *state, List *qual)
{
	List	   *rest = NIL;
	ListCell   *lc;

	state->required = palloc(sizeof(int) * (list_length(qual) + 1));
	foreach(lc, qual)
	{
		NullTest   *test = lfirst(lc);

		if (IsA(test, NullTest) && test->nulltesttype == IS_NOT_NULL && !test->argisrow &&
			column_of((Node *) test->arg) >= 0)
			state->required[state->nrequired++] = column_of((Node *) test->arg);
		else
			rest = lappend(rest, test);
	}
	if (rest == NIL)
		return;
	state->evaluates = true;
	state->qual = ExecInitQual(rest, &state->css.ss.ps);
}

/* May the current user call all the aggregates? If not, the executor says so. */
static bool
may_call(List *calls)
{
	ListCell   *lc;

	foreach(lc, calls)
	{
		if (weir_compat_function_execute(lfirst_node(Aggref, lc)->aggfnoid, GetUserId()) != ACLCHECK_OK)
			return false;
	}
	return true;
}

static void
begin_group(CustomScanState *node, EState *estate, int eflags)
{
	GroupScan *state = (GroupScan *) node;
	CustomScan *scan = (CustomScan *) node->ss.ps.plan;
	List	   *keys = list_nth(scan->custom_exprs, GROUP_EXPRS_KEYS);
	List	   *calls = list_nth(scan->custom_exprs, GROUP_EXPRS_CALLS);
	ListCell   *lc;

	state->delta = weir_delta_find(estate->es_queryEnv, strVal(list_nth(scan->custom_private, GROUP_PRIVATE_NAME)));
	state->row = ExecInitExtraTupleSlot(estate, state->delta->desc, &TTSOpsVirtual);
	state->keys = palloc0(sizeof(GroupKey) * (list_length(keys) + 1));
	state->key_values = palloc0(sizeof(Datum) * (list_length(keys) + 1));
	state->key_nulls = palloc0(sizeof(bool) * (list_length(keys) + 1));
	foreach(lc, keys)
		prepare_key(state, &state->keys[state->nkeys++], lfirst(lc));
	state->calls = palloc0(sizeof(GroupCall) * (list_length(calls) + 1));
	foreach(lc, calls)
		prepare_call(state, &state->calls[state->ncalls++], lfirst(lc));
	prepare_qual(state, list_nth(scan->custom_exprs, GROUP_EXPRS_QUAL));
	state->limit = get_hash_memory_limit();
	state->cxt = AllocSetContextCreate(estate->es_query_cxt, "weir groups", ALLOCSET_DEFAULT_SIZES);
	reset_groups(state);
	if (!may_call(calls))
		run_plain(state);
}

static void
end_group(CustomScanState *node)
{
	GroupScan *state = (GroupScan *) node;

	if (state->plain)
		ExecEndNode(state->plain);
	MemoryContextDelete(state->cxt);
}

static void
rescan_group(CustomScanState *node)
{
	GroupScan *state = (GroupScan *) node;

	ExecScanReScan(&node->ss);
	if (state->plain)
		ExecReScan(state->plain);
	else
		reset_groups(state);
}

static const CustomExecMethods exec_methods = {
	.CustomName = "WeirGroup",
	.BeginCustomScan = begin_group,
	.ExecCustomScan = exec_group,
	.EndCustomScan = end_group,
	.ReScanCustomScan = rescan_group,
};

static Node *
create_group_state(CustomScan *scan)
{
	GroupScan *state = palloc0(sizeof(GroupScan));

	NodeSetTag(state, T_CustomScanState);
	state->css.methods = &exec_methods;
	return (Node *) state;
}

const CustomScanMethods weir_group_methods = {
	.CustomName = "WeirGroup",
	.CreateCustomScanState = create_group_state,
};

#endif							/* HAVE_INT128 */
