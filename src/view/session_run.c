/*
 * session_run.c
 *	  The rows of a batch and what they do to sessions.
 *
 * apply, inspect ⇒ session_run ⇒ the maintenance statement. The source query gives the rows that make
 * sessions, sorted by key and, where rows can be late, by arrival (partition and offset), else by time. Key by key:
 * the stored sessions near the rows are looked up, each row gets its session
 * (session_assign.c), and goes on with that session's bounds as they are after the whole batch.
 * A stored session that now has another start is taken out of the state table; its
 * states come back under the new start (weir_session_moved) before the batch's rows are merged.
 * Late rows go into a relation of their own.
 *
 * The same over all kept rows, without stored sessions, is what REFRESH, WITH DATA and
 * weir.verify get: a row's place depends on the rows before it and on the stream time that is kept
 * with it, never on where batches were cut.
 *
 * Memory: tuplestores that spill; besides, 32 bytes per row of the key at hand and
 * its sessions.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "executor/tstoreReceiver.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"
#include "view/session.h"

typedef struct SessionRun
{
	SessionRule *rule;
	SessionWork *work;
	SessionLookup *lookup;		/* NULL: from nothing */
	TimestampTz closing;		/* from nothing, finals: only sessions that ended before */
	Tuplestorestate *input;
	TupleTableSlot *ahead;		/* read pointer 0: gathers the rows of a key */
	TupleTableSlot *behind;		/* read pointer 1: passes them on */
	FmgrInfo   *equal[INDEX_MAX_KEYS];
	MemoryContext outer;		/* of the whole run */
	MemoryContext cxt;			/* of the key at hand */
	Datum		keys[INDEX_MAX_KEYS];
	bool		key_null[INDEX_MAX_KEYS];
	SessionRow *rows;
	int64		nrows;
	int64		max_rows;
	SessionSet	set;
	List	   *stored;			/* of StoredSession */
} SessionRun;

/* --- keys ----------------------------------------------------------------------- */

static void
find_equalities(SessionRun *run)
{
	for (int i = 0; i < run->rule->nkeys; i++)
	{
		Form_pg_attribute att = TupleDescAttr(run->work->desc, run->rule->source_keys[i] - 1);
		TypeCacheEntry *type = lookup_type_cache(att->atttypid, TYPECACHE_EQ_OPR_FINFO);

		if (!OidIsValid(type->eq_opr_finfo.fn_oid))
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_FUNCTION),
					 errmsg("could not identify an equality operator for type %s", format_type_be(att->atttypid))));
		run->equal[i] = &type->eq_opr_finfo;
	}
}

static bool
same_key(SessionRun *run)
{
	for (int i = 0; i < run->rule->nkeys; i++)
	{
		AttrNumber	attno = run->rule->source_keys[i];
		bool		isnull;
		Datum		value = slot_getattr(run->ahead, attno, &isnull);

		if (isnull != run->key_null[i])
			return false;
		if (!isnull && !DatumGetBool(FunctionCall2Coll(run->equal[i], TupleDescAttr(run->work->desc, attno - 1)->attcollation,
													   run->keys[i], value)))
			return false;
	}
	return true;
}

static void
begin_key(SessionRun *run)
{
	MemoryContext old;

	MemoryContextReset(run->cxt);
	old = MemoryContextSwitchTo(run->cxt);
	for (int i = 0; i < run->rule->nkeys; i++)
	{
		AttrNumber	attno = run->rule->source_keys[i];
		Form_pg_attribute att = TupleDescAttr(run->work->desc, attno - 1);

		run->keys[i] = slot_getattr(run->ahead, attno, &run->key_null[i]);
		if (!run->key_null[i])
			run->keys[i] = datumCopy(run->keys[i], att->attbyval, att->attlen);
	}
	MemoryContextSwitchTo(old);
	run->nrows = 0;
	weir_session_set_clear(&run->set);
}

static int64
time_of(TupleTableSlot *slot, AttrNumber attno)
{
	bool		isnull = true;
	Datum		value = attno > 0 ? slot_getattr(slot, attno, &isnull) : (Datum) 0;

	return isnull ? DT_NOBEGIN : DatumGetTimestampTz(value);
}

static void
add_row(SessionRun *run)
{
	SessionRow *row;

	if (run->nrows == run->max_rows)
	{
		run->max_rows *= 2;
		run->rows = repalloc_huge(run->rows, sizeof(SessionRow) * (Size) run->max_rows);
	}
	row = &run->rows[run->nrows++];
	row->time = time_of(run->ahead, run->rule->time);
	row->deadline = time_of(run->ahead, run->rule->deadline);
	row->expired = time_of(run->ahead, run->rule->expired);
	(void) weir_session_end_of(row->time, run->set.gap);	/* raises for times that cannot be */
}

/* --- stored sessions ---------------------------------------------------------------- */

static int
compare_times(const void *a, const void *b)
{
	int64		x = *(const int64 *) a;
	int64		y = *(const int64 *) b;

	return x < y ? -1 : x > y;
}

/* Adds the sessions that a cluster of rows may touch, without those that the last cluster had. */
static void
add_stored(SessionRun *run, int64 from, int64 to)
{
	ListCell   *lc;

	foreach(lc, weir_session_lookup(run->lookup, run->keys, run->key_null, from, to))
	{
		StoredSession *stored = lfirst(lc);

		if (run->stored && ((StoredSession *) llast(run->stored))->start >= stored->start)
			continue;
		run->stored = lappend(run->stored, stored);
		weir_session_add_stored(&run->set, stored->start, stored->end - run->set.gap, list_length(run->stored) - 1);
	}
}

/* Rows of a key far from each other are looked up apart: what lies between is not read. */
static void
look_up(SessionRun *run)
{
	int64	   *times;
	int64		first = 0;

	run->stored = NIL;
	if (run->lookup == NULL)
		return;
	times = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(int64) * (Size) run->nrows);
	for (int64 i = 0; i < run->nrows; i++)
		times[i] = run->rows[i].time;
	if (run->rule->judged)
		qsort(times, run->nrows, sizeof(int64), compare_times);
	for (int64 i = 1; i <= run->nrows; i++)
	{
		if (i < run->nrows && times[i] <= weir_session_end_of(times[i - 1], run->set.gap))
			continue;
		add_stored(run, times[first], times[i - 1]);
		first = i;
	}
}

/* The n-th tuplestore of moved states: no two of its rows belong to the same session. */
static Tuplestorestate *
moved_states(SessionRun *run, int n)
{
	while (list_length(run->work->moved) <= n)
	{
		MemoryContext old = MemoryContextSwitchTo(run->outer);

		run->work->moved = lappend(run->work->moved, tuplestore_begin_heap(false, false, work_mem));
		MemoryContextSwitchTo(old);
	}
	return list_nth(run->work->moved, n);
}

/* Takes a stored session out of its table, to be merged into the one that begins at start. */
static void
move_session(SessionRun *run, StoredSession *stored, int64 start, int n)
{
	TupleDesc	desc = weir_session_lookup_desc(run->lookup);
	HeapTuple	tuple = weir_session_lookup_take(run->lookup, stored);
	Datum	   *values = palloc(sizeof(Datum) * desc->natts);
	bool	   *isnull = palloc(sizeof(bool) * desc->natts);

	if (run->work->gone)
		tuplestore_puttuple(run->work->gone, tuple);
	heap_deform_tuple(tuple, desc, values, isnull);
	values[run->rule->state_start - 1] = TimestampTzGetDatum(start);
	tuplestore_putvalues(moved_states(run, n), desc, values, isnull);
}

static void
move_sessions(SessionRun *run)
{
	for (int i = 0; i < run->set.nsessions; i++)
	{
		Session    *session = &run->set.sessions[i];
		Session    *root;

		/* a session that was extended forwards has its own start no more: compare with what was stored */
		if (session->stored < 0)
			continue;
		root = &run->set.sessions[weir_session_root(&run->set, i)];
		if (root->start != ((StoredSession *) list_nth(run->stored, session->stored))->start)
			move_session(run, list_nth(run->stored, session->stored), root->start, root->moved++);
	}
}

/* --- passing rows on ------------------------------------------------------------------ */

static void
put_late(SessionRun *run, SessionRow *row)
{
	SessionRule *rule = run->rule;
	AttrNumber	sources[5] = {rule->partition, rule->offset, rule->event_time, rule->time, rule->record};
	Datum		values[6];
	bool		isnull[6];

	for (int i = 0; i < 5; i++)
	{
		isnull[i] = true;
		values[i] = sources[i] > 0 ? slot_getattr(run->behind, sources[i], &isnull[i]) : (Datum) 0;
	}
	values[5] = CStringGetTextDatum(row->session == SESSION_LATE_CLOSED ? "within the gap of a closed session" :
									"the session had closed");
	isnull[5] = false;
	tuplestore_putvalues(run->work->late, run->work->late_desc, values, isnull);
	run->work->nlate++;
}

/* The slot keeps a row that was read from a file, beyond the key at hand. */
static bool
next_behind(SessionRun *run)
{
	MemoryContext old = MemoryContextSwitchTo(run->outer);
	bool		found = tuplestore_gettupleslot(run->input, true, false, run->behind);

	CHECK_FOR_INTERRUPTS();
	MemoryContextSwitchTo(old);
	return found;
}

static void
pass_on(SessionRun *run)
{
	for (int64 i = 0; i < run->nrows; i++)
	{
		SessionRow *row = &run->rows[i];
		Session    *session;
		int64		end;

		if (!next_behind(run))
			elog(ERROR, "rows of sessions are fewer than they were");
		if (row->session < 0)
		{
			put_late(run, row);
			continue;
		}
		session = &run->set.sessions[weir_session_root(&run->set, row->session)];
		end = weir_session_end_of(session->last, run->set.gap);
		if (run->lookup == NULL && run->rule->finals && end >= run->closing)
			continue;
		slot_getallattrs(run->behind);
		run->behind->tts_values[SESSION_COL_START - 1] = TimestampTzGetDatum(session->start);
		run->behind->tts_isnull[SESSION_COL_START - 1] = false;
		run->behind->tts_values[SESSION_COL_END - 1] = TimestampTzGetDatum(end);
		run->behind->tts_isnull[SESSION_COL_END - 1] = false;
		tuplestore_putvalues(run->work->rows, run->work->desc, run->behind->tts_values, run->behind->tts_isnull);
		run->work->nrows++;
	}
}

/* All rows of a key are there. */
static void
finish_key(SessionRun *run)
{
	MemoryContext old = MemoryContextSwitchTo(run->cxt);

	CHECK_FOR_INTERRUPTS();
	look_up(run);
	for (int64 i = 0; i < run->nrows; i++)
		weir_session_assign(&run->set, &run->rows[i]);
	move_sessions(run);
	tuplestore_select_read_pointer(run->input, 1);
	pass_on(run);
	tuplestore_select_read_pointer(run->input, 0);
	MemoryContextSwitchTo(old);
}

static void
walk_keys(SessionRun *run)
{
	bool		any = false;

	while (tuplestore_gettupleslot(run->input, true, false, run->ahead))
	{
		CHECK_FOR_INTERRUPTS();
		if (any && !same_key(run))
		{
			finish_key(run);
			any = false;
		}
		if (!any)
			begin_key(run);
		any = true;
		add_row(run);
	}
	if (any)
		finish_key(run);
}

/* --- the whole ---------------------------------------------------------------------------- */

static TupleDesc
late_desc(SessionRule *rule, TupleDesc source)
{
	TupleDesc	desc = CreateTemplateTupleDesc(6);

	TupleDescInitEntry(desc, 1, "c1", INT4OID, -1, 0);
	TupleDescInitEntry(desc, 2, "c2", INT8OID, -1, 0);
	TupleDescInitEntry(desc, 3, "c3", TIMESTAMPTZOID, -1, 0);
	TupleDescInitEntry(desc, 4, "c4", TupleDescAttr(source, rule->time - 1)->atttypid, -1, 0);
	TupleDescInitEntry(desc, 5, "c5", rule->record ? RECORDOID : TEXTOID, -1, 0);
	TupleDescInitEntry(desc, 6, "c6", TEXTOID, -1, 0);
	return desc;
}

/*
 * weir_session_run runs the source query and fills *work. state: the table of stored sessions, or InvalidOid
 * to begin from nothing; closed: sessions that ended before are closed; closing: see above.
 */
void
weir_session_run(SessionRule *rule, PlannedStmt *source, const char *text, QueryEnvironment *env,
				 Oid state, TimestampTz closed, TimestampTz closing, SessionWork *work)
{
	SessionRun	run = {.rule = rule,.work = work,.closing = closing,.max_rows = 64,.outer = CurrentMemoryContext};
	DestReceiver *dest = CreateTuplestoreDestReceiver();

	memset(work, 0, sizeof(*work));
	work->desc = ExecCleanTypeFromTL(source->planTree->targetlist);
	work->late_desc = late_desc(rule, work->desc);
	run.input = tuplestore_begin_heap(false, false, work_mem);
	(void) tuplestore_alloc_read_pointer(run.input, 0);
	SetTuplestoreDestReceiverParams(dest, run.input, CurrentMemoryContext, false, NULL, NULL);
	(void) weir_run_plan(source, text, env, dest);

	work->rows = tuplestore_begin_heap(true, false, work_mem);
	work->late = tuplestore_begin_heap(true, false, work_mem);
	if (OidIsValid(state))
	{
		run.lookup = weir_session_lookup_begin(rule, state);
		work->state_desc = CreateTupleDescCopy(weir_session_lookup_desc(run.lookup));
		if (!rule->finals)
			work->gone = tuplestore_begin_heap(true, false, work_mem);
	}
	run.ahead = MakeSingleTupleTableSlot(work->desc, &TTSOpsMinimalTuple);
	run.behind = MakeSingleTupleTableSlot(work->desc, &TTSOpsMinimalTuple);
	run.cxt = AllocSetContextCreate(CurrentMemoryContext, "weir sessions of a key", ALLOCSET_DEFAULT_SIZES);
	run.rows = palloc(sizeof(SessionRow) * run.max_rows);
	weir_session_set_init(&run.set, rule->gap, closed);
	find_equalities(&run);

	walk_keys(&run);

	if (run.lookup)
		weir_session_lookup_end(run.lookup);
	ExecDropSingleTupleTableSlot(run.ahead);
	ExecDropSingleTupleTableSlot(run.behind);
	tuplestore_end(run.input);
	MemoryContextDelete(run.cxt);
	CommandCounterIncrement();
}

static void
register_rows(QueryEnvironment *env, char *name, TupleDesc desc, Tuplestorestate *rows)
{
	EphemeralNamedRelation enr;

	if (rows == NULL)
		return;
	enr = palloc0(sizeof(EphemeralNamedRelationData));
	enr->md.name = name;
	enr->md.reliddesc = InvalidOid;
	enr->md.enrtype = ENR_NAMED_TUPLESTORE;
	enr->md.tupdesc = desc;
	enr->md.enrtuples = (double) tuplestore_tuple_count(rows);
	enr->reldata = rows;
	register_ENR(env, enr);
}

/* weir_session_environment registers what a run has found; moved: one of its relations of moved states, or NULL. */
QueryEnvironment *
weir_session_environment(SessionWork *work, Tuplestorestate *moved)
{
	QueryEnvironment *env = create_queryEnv();

	register_rows(env, WEIR_SESSION_ROWS, work->desc, work->rows);
	register_rows(env, WEIR_SESSION_MOVED, work->state_desc, moved);
	register_rows(env, WEIR_SESSION_GONE, work->state_desc, work->gone);
	register_rows(env, WEIR_SESSION_LATE, work->late_desc, work->late);
	return env;
}

void
weir_session_free(SessionWork *work)
{
	ListCell   *lc;

	foreach(lc, work->moved)
		tuplestore_end(lfirst(lc));
	if (work->gone)
		tuplestore_end(work->gone);
	tuplestore_end(work->rows);
	tuplestore_end(work->late);
}
