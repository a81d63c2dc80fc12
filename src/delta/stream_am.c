/*
 * stream_am.c
 *	  The table access method of streams: INSERT and COPY become a delta.
 *
 * INSERT ⇒ stream_am ⇒ ingest (kept rows, views). Runs in the session that
 * inserts, in its transaction.
 *
 * A stream's own storage stays empty: what tuple_insert gets is put into a
 * pending delta, and at the end of the statement the trigger
 * weir.stream_insert() hands the delta to weir_ingest_inserted(), which writes
 * the kept rows into the child tables (segments) and merges the views. So
 * counts, RETURNING, COPY, row triggers and foreign keys work as on any
 * table, and rows are written once. Rows that no statement trigger took
 * (logical replication's apply worker fires none) go the same way before
 * commit.
 *
 * Everything else is heap, on an empty relation. Its indexes stay empty, too:
 * the executor is told that there are none (ExecutorStart hook; for COPY the
 * utility hook, by weir_stream_hide_indexes). Should an entry get in by
 * another way (logical replication), fetches by it find nothing and report it
 * as dead.
 *
 * Subtransactions: a pending delta belongs to the subtransaction that
 * inserted; its abort drops it, its commit hands it to the parent.
 *
 * Rows from Kafka do not come this way, unless the stream has triggers of its
 * owner: then they are run through an INSERT that stores nothing
 * (weir_stream_fire_triggers) before they are kept and applied.
 *
 * AFTER ROW triggers read the row again by its TID: such rows are also
 * remembered, in memory, until the transaction ends.
 */
#include "delta/stream_am.h"

#include "access/heapam.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/catalog.h"
#include "catalog/stream.h"
#include "catalog/view.h"
#include "commands/sequence.h"
#include "commands/trigger.h"
#include "compat.h"
#include "delta/ingest.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "catalog/namespace.h"
#include "catalog/pg_am.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "view/apply.h"

PG_FUNCTION_INFO_V1(weir_stream_am_handler);
PG_FUNCTION_INFO_V1(weir_stream_insert);

/* Rows of one statement (mostly) that wait for its end. */
typedef struct Pending
{
	Oid			relid;
	SubTransactionId subid;
	MemoryContext cxt;
	Delta	   *delta;
	Stream	   *stream;
	int			event_column;	/* place of the event-time column in the delta, or -1 */
	bool		tracks_time;	/* the pseudo-partition's stream time is kept in weir.position */
	int64		next_offset;	/* arrival number of the next row */
	int64		last_offset;	/* last number that may be given without asking the sequence */
	TimestampTz stream_time;
	Datum	   *values;
	bool	   *isnull;
} Pending;

static List *pendings = NIL;	/* of Pending *, in TopTransactionContext */
static bool firing_only = false;	/* rows come from Kafka: only their triggers are wanted */
static int64 firing_number = 0; /* arrival numbers of such rows, for their TIDs */
static HTAB *remembered = NULL; /* rows for AFTER ROW triggers, in TopTransactionContext */
static ExecutorStart_hook_type previous_start = NULL;
static TableAmRoutine stream_am;

/* ---- pending deltas ---- */

static int64
draw_arrival_block(void)
{
	Oid			sequence = get_relname_relid("arrival", weir_schema_oid());

	return nextval_internal(sequence, false) << WEIR_ARRIVAL_BLOCK_BITS;
}

/* Does anything of this stream depend on the stream time of INSERTed rows? */
static bool
stream_tracks_time(Stream *stream)
{
	ListCell   *lc;

	foreach(lc, weir_view_oids_of_stream(stream->relid))
	{
		View	   *view = weir_view_get(lfirst_oid(lc));

		if (stream->lateness || view->lateness || strcmp(view->emit, "final") == 0 ||
			strcmp(view->strategy, "recompute") == 0 || view->joins)
			return true;
	}
	return false;
}

/*
 * lock_stream_time reads the pseudo-partition's stream time and holds its row
 * until the transaction ends: sessions take turns, so what is late does not depend on luck.
 */
static TimestampTz
lock_stream_time(Oid relid)
{
	CatalogScope scope;
	TimestampTz result = DT_NOBEGIN;
	bool		isnull;
	Datum		value;

	weir_catalog_open(&scope);
	weir_catalog_exec("INSERT INTO weir.position (stream, topic, partition, next_offset)"
					  " VALUES (%u, '', -1, 0) ON CONFLICT DO NOTHING", relid);
	weir_catalog_exec("SELECT stream_time FROM weir.position WHERE stream = %u"
					  " AND topic = '' AND partition = -1 FOR UPDATE", relid);
	if (SPI_processed == 1)
	{
		value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
		if (!isnull)
			result = DatumGetTimestampTz(value);
	}
	weir_catalog_close(&scope);
	return result;
}

static void
save_stream_time(Oid relid, TimestampTz stream_time)
{
	CatalogScope scope;
	Oid			types[2] = {OIDOID, TIMESTAMPTZOID};
	Datum		values[2] = {ObjectIdGetDatum(relid), TimestampTzGetDatum(stream_time)};

	weir_catalog_open(&scope);
	if (SPI_execute_with_args("UPDATE weir.position SET stream_time = $2 WHERE stream = $1"
							  " AND topic = '' AND partition = -1"
							  " AND stream_time IS DISTINCT FROM $2",
							  2, types, values, NULL, false, 0) != SPI_OK_UPDATE)
		elog(ERROR, "could not save the stream time of stream %u", relid);
	weir_catalog_close(&scope);
}

static Pending *
create_pending(Relation rel)
{
	Stream	   *stream;
	MemoryContext cxt;
	MemoryContext old;
	Pending    *pending;

	weir_check_preloaded();
	stream = weir_stream_get(RelationGetRelid(rel));
	if (stream == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" uses the access method of streams but is no stream",
						RelationGetRelationName(rel)),
				 errhint("ALTER TABLE %s SET ACCESS METHOD heap, or create it with WITH (weir.stream).",
						 RelationGetRelationName(rel))));

	cxt = AllocSetContextCreate(TopTransactionContext, "weir pending rows", ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(cxt);
	pending = palloc0(sizeof(Pending));
	pending->cxt = cxt;
	pending->relid = RelationGetRelid(rel);
	pending->subid = GetCurrentSubTransactionId();
	pending->stream = stream;
	pending->delta = weir_delta_create(rel, work_mem);
	pending->event_column = weir_delta_column(rel, stream->event_attnum);
	pending->values = palloc(sizeof(Datum) * pending->delta->desc->natts);
	pending->isnull = palloc0(sizeof(bool) * pending->delta->desc->natts);
	pending->tracks_time = stream_tracks_time(stream);
	weir_join_take_turns(pending->relid);
	pending->stream_time = pending->tracks_time ? lock_stream_time(pending->relid) : DT_NOBEGIN;
	MemoryContextSwitchTo(TopTransactionContext);
	pendings = lcons(pending, pendings);
	MemoryContextSwitchTo(old);
	return pending;
}

static Pending *
find_pending(Relation rel)
{
	SubTransactionId subid = GetCurrentSubTransactionId();
	ListCell   *lc;

	foreach(lc, pendings)
	{
		Pending    *pending = lfirst(lc);

		if (pending->relid == RelationGetRelid(rel) && pending->subid == subid)
			return pending;
	}
	return create_pending(rel);
}

static void
drop_pending(Pending *pending)
{
	pendings = list_delete_ptr(pendings, pending);
	weir_delta_free(pending->delta);
	MemoryContextDelete(pending->cxt);
}

/* Hands a pending delta on and forgets it. */
static void
flush_pending(Pending *pending)
{
	Stream	   *stream;

	pendings = list_delete_ptr(pendings, pending);

	/* ask again: what the statement itself did may have changed it */
	stream = weir_stream_get(pending->relid);
	if (stream != NULL && pending->delta->nrows > 0)
	{
		if (pending->tracks_time)
			save_stream_time(pending->relid, pending->stream_time);
		weir_ingest_inserted(stream, pending->delta);
	}
	weir_delta_free(pending->delta);
	MemoryContextDelete(pending->cxt);
}

static TimestampTz
row_event_time(Pending *pending)
{
	TimestampTz event_time;

	if (pending->event_column < 0)
		return GetCurrentTimestamp();
	if (pending->isnull[pending->event_column])
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("event time of stream %s must not be null", pending->stream->name),
				 errdetail("Column \"%s\" is the event time (weir.event_time).",
						   pending->stream->event_time)));
	event_time = DatumGetTimestampTz(pending->values[pending->event_column]);
	weir_ingest_check_event_time(pending->stream, event_time);
	return event_time;
}

/* Puts one row into the pending delta, hidden columns included. */
static void
put_row(Relation rel, Pending *pending, TupleTableSlot *slot)
{
	TupleDesc	desc = RelationGetDescr(rel);
	Datum	   *values = pending->values;
	bool	   *isnull = pending->isnull;
	TimestampTz event_time;
	int			n = 0;

	slot_getallattrs(slot);
	for (int i = 0; i < desc->natts; i++)
	{
		if (TupleDescAttr(desc, i)->attisdropped)
			continue;
		values[n] = slot->tts_values[i];
		isnull[n++] = slot->tts_isnull[i];
	}
	event_time = row_event_time(pending);
	pending->stream_time = Max(pending->stream_time, event_time);
	if (pending->next_offset >= pending->last_offset)
	{
		pending->next_offset = draw_arrival_block();
		pending->last_offset = pending->next_offset + (INT64CONST(1) << WEIR_ARRIVAL_BLOCK_BITS);
	}
	values[n++] = Int32GetDatum(WEIR_INSERT_PARTITION);
	values[n++] = Int64GetDatum(pending->next_offset++);
	values[n++] = TimestampTzGetDatum(event_time);
	values[n++] = TimestampTzGetDatum(pending->stream_time);
	weir_delta_put(pending->delta, values, isnull);
}

/* ---- rows that AFTER ROW triggers fetch ---- */

/*
 * A row's TID is its arrival number, 1000 to a block. It repeats after some
 * 4 * 10^12 numbers, when nobody remembers the row any more.
 */
#define TIDS_PER_BLOCK	1000

typedef struct RowKey
{
	Oid			relid;
	BlockNumber block;
	uint32		offset;			/* no padding: the key is hashed as bytes */
} RowKey;

typedef struct RememberedRow
{
	RowKey		key;
	HeapTuple	tuple;
} RememberedRow;

static RowKey
row_key(Oid relid, ItemPointer tid)
{
	return (RowKey) {relid, ItemPointerGetBlockNumber(tid), ItemPointerGetOffsetNumber(tid)};
}

static void
create_remembered(void)
{
	HASHCTL		info = {.keysize = sizeof(RowKey),.entrysize = sizeof(RememberedRow),
	.hcxt = TopTransactionContext};

	remembered = hash_create("weir inserted rows", 256, &info,
							 HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

/* Gives the row that was just put its TID, and remembers it if a row trigger will ask for it. */
static void
number_row(Relation rel, int64 number, TupleTableSlot *slot)
{
	RowKey		key;
	RememberedRow *row;
	MemoryContext old;

	slot->tts_tableOid = RelationGetRelid(rel);
	ItemPointerSet(&slot->tts_tid, (number / TIDS_PER_BLOCK) % MaxBlockNumber,
				   number % TIDS_PER_BLOCK + 1);
	if (rel->trigdesc == NULL || !rel->trigdesc->trig_insert_after_row)
		return;
	if (remembered == NULL)
		create_remembered();
	key = row_key(RelationGetRelid(rel), &slot->tts_tid);
	row = hash_search(remembered, &key, HASH_ENTER, NULL);
	old = MemoryContextSwitchTo(TopTransactionContext);
	row->tuple = ExecCopySlotHeapTuple(slot);
	row->tuple->t_self = slot->tts_tid;
	row->tuple->t_tableOid = RelationGetRelid(rel);
	MemoryContextSwitchTo(old);
}

/* ---- the access method ---- */

static void
stream_tuple_insert(Relation rel, TupleTableSlot *slot, CommandId cid, int options,
					struct BulkInsertStateData *bistate)
{
	Pending    *pending;

	if (firing_only)
	{
		number_row(rel, firing_number++, slot);
		return;
	}
	pending = find_pending(rel);
	put_row(rel, pending, slot);
	number_row(rel, pending->next_offset - 1, slot);
}

static void
stream_multi_insert(Relation rel, TupleTableSlot **slots, int nslots, CommandId cid,
					int options, struct BulkInsertStateData *bistate)
{
	for (int i = 0; i < nslots; i++)
		stream_tuple_insert(rel, slots[i], cid, options, bistate);
}

static void
stream_insert_speculative(Relation rel, TupleTableSlot *slot, CommandId cid, int options,
						  struct BulkInsertStateData *bistate, uint32 token)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("ON CONFLICT is not supported on streams")));
}

static bool
stream_fetch_row_version(Relation rel, ItemPointer tid, Snapshot snapshot, TupleTableSlot *slot)
{
	RowKey		key = row_key(RelationGetRelid(rel), tid);
	RememberedRow *row;

	row = remembered ? hash_search(remembered, &key, HASH_FIND, NULL) : NULL;
	if (row == NULL)
		return false;
	ExecForceStoreHeapTuple(row->tuple, slot, false);
	return true;
}

/* Foreign keys ask whether the row is still there; only this transaction's rows are ever fetched. */
static bool
stream_satisfies_snapshot(Relation rel, TupleTableSlot *slot, Snapshot snapshot)
{
	return true;
}

static bool
stream_index_fetch_tuple(struct IndexFetchTableData *scan, ItemPointer tid, Snapshot snapshot,
						 TupleTableSlot *slot, bool *call_again, bool *all_dead)
{
	*call_again = false;
	if (all_dead)
		*all_dead = true;
	return false;
}

static TransactionId
stream_index_delete_tuples(Relation rel, TM_IndexDeleteOp *delstate)
{
	for (int i = 0; i < delstate->ndeltids; i++)
		delstate->status[delstate->deltids[i].id].knowndeletable = true;
	return InvalidTransactionId;
}

/* Oversized values stand in the segments; the toast table here is empty, too. */
static Oid
stream_toast_am(Relation rel)
{
	return HEAP_TABLE_AM_OID;
}

/* There is nothing to index; heap's own would insist on heap. */
static double
stream_index_build(Relation rel, Relation index, struct IndexInfo *info, bool allow_sync,
				   bool anyvisible, bool progress, BlockNumber start, BlockNumber nblocks,
				   IndexBuildCallback callback, void *state, TableScanDesc scan)
{
	if (scan)
		table_endscan(scan);
	return 0;
}

static void
stream_index_validate(Relation rel, Relation index, struct IndexInfo *info, Snapshot snapshot,
					  struct ValidateIndexState *state)
{
}

Datum
weir_stream_am_handler(PG_FUNCTION_ARGS)
{
	if (stream_am.type != T_TableAmRoutine)
	{
		memcpy(&stream_am, GetHeapamTableAmRoutine(), sizeof(stream_am));
		stream_am.tuple_insert = stream_tuple_insert;
		stream_am.multi_insert = stream_multi_insert;
		stream_am.tuple_insert_speculative = stream_insert_speculative;
		stream_am.tuple_fetch_row_version = stream_fetch_row_version;
		stream_am.tuple_satisfies_snapshot = stream_satisfies_snapshot;
		stream_am.index_fetch_tuple = stream_index_fetch_tuple;
		stream_am.index_delete_tuples = stream_index_delete_tuples;
		stream_am.relation_toast_am = stream_toast_am;
		stream_am.index_build_range_scan = stream_index_build;
		stream_am.index_validate_scan = stream_index_validate;
	}
	PG_RETURN_POINTER(&stream_am);
}

/*
 * weir_stream_insert is the AFTER INSERT statement trigger of every stream.
 */
Datum
weir_stream_insert(PG_FUNCTION_ARGS)
{
	TriggerData *trigdata = (TriggerData *) fcinfo->context;
	Oid			relid;
	ListCell   *lc;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_AFTER(trigdata->tg_event) ||
		!TRIGGER_FIRED_BY_INSERT(trigdata->tg_event) ||
		!TRIGGER_FIRED_FOR_STATEMENT(trigdata->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("weir.stream_insert() must be an AFTER INSERT trigger FOR EACH STATEMENT")));

	/* newest first; a flush may add others of the same stream (nested statements): start over */
	relid = RelationGetRelid(trigdata->tg_relation);
	for (;;)
	{
		Pending    *found = NULL;

		foreach(lc, pendings)
		{
			Pending    *pending = lfirst(lc);

			if (pending->relid == relid)
				found = pending;
		}
		if (found == NULL)
			break;
		flush_pending(found);
	}
	return PointerGetDatum(NULL);
}

/* ---- triggers of users, for rows from Kafka ---- */

bool
weir_stream_has_triggers(Relation rel)
{
	for (int i = 0; rel->trigdesc && i < rel->trigdesc->numtriggers; i++)
	{
		Trigger    *trigger = &rel->trigdesc->triggers[i];

		if ((trigger->tgtype & TRIGGER_TYPE_INSERT) != 0 && strcmp(trigger->tgname, "weir_insert") != 0 &&
			trigger->tgenabled != TRIGGER_DISABLED)
			return true;
	}
	return false;
}

/*
 * weir_stream_fire_triggers runs the delta through INSERT INTO the stream as
 * its owner, with an access method that stores nothing.
 */
void
weir_stream_fire_triggers(Stream *stream, Relation rel, Delta *delta)
{
	EphemeralNamedRelation enr = weir_delta_relation(weir_delta_name(stream->relid), delta);
	char	   *columns = weir_insertable_columns(rel);
	char	   *sql;
	Oid			save_userid;
	int			save_sec_context;

	sql = psprintf("INSERT INTO %s (%s) OVERRIDING SYSTEM VALUE SELECT %s FROM %s",
				   stream->name, columns, columns, enr->md.name);

	GetUserIdAndSecContext(&save_userid, &save_sec_context);
	SetUserIdAndSecContext(stream->owner, save_sec_context | SECURITY_RESTRICTED_OPERATION);
	firing_number = draw_arrival_block();
	firing_only = true;
	PG_TRY();
	{
		SPI_connect();
		if (SPI_register_relation(enr) != SPI_OK_REL_REGISTER ||
			SPI_execute(sql, false, 0) != SPI_OK_INSERT)
			elog(ERROR, "could not fire the triggers of stream %s", stream->name);
		SPI_finish();
	}
	PG_FINALLY();
	{
		firing_only = false;
	}
	PG_END_TRY();
	SetUserIdAndSecContext(save_userid, save_sec_context);
}

static void
stream_am_xact(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
		case XACT_EVENT_PRE_PREPARE:
			while (pendings != NIL)
			{
				PushActiveSnapshot(GetTransactionSnapshot());
				flush_pending(llast(pendings));
				PopActiveSnapshot();
			}
			break;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			/* memory went with the transaction */
			pendings = NIL;
			remembered = NULL;
			break;
		default:
			break;
	}
}

static void
stream_am_subxact(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *arg)
{
	List	   *copy;
	ListCell   *lc;

	if (event != SUBXACT_EVENT_ABORT_SUB && event != SUBXACT_EVENT_COMMIT_SUB)
		return;
	copy = list_copy(pendings);
	foreach(lc, copy)
	{
		Pending    *pending = lfirst(lc);

		if (pending->subid != mine)
			continue;
		if (event == SUBXACT_EVENT_COMMIT_SUB)
			pending->subid = parent;
		else
			drop_pending(pending);
	}
	list_free(copy);
}

/* ---- keeping the executor from the stream's own indexes ---- */

static void
stream_executor_start(QueryDesc *query, int eflags)
{
	ListCell   *lc;

	if (previous_start)
		previous_start(query, eflags);
	else
		standard_ExecutorStart(query, eflags);
	if (query->operation != CMD_INSERT || stream_am.type != T_TableAmRoutine)
		return;
	foreach(lc, query->estate->es_opened_result_relations)
	{
		ResultRelInfo *result = lfirst(lc);

		/* "opened already, and there were none" */
		if (result->ri_RelationDesc->rd_tableam == &stream_am &&
			result->ri_IndexRelationDescs == NULL)
			result->ri_IndexRelationDescs = MemoryContextAllocZero(query->estate->es_query_cxt,
																   sizeof(Relation));
	}
}

bool
weir_stream_hide_indexes(Relation rel, bool hide)
{
	bool		had = rel->rd_rel->relhasindex;

	if (stream_am.type == T_TableAmRoutine && rel->rd_tableam == &stream_am)
		rel->rd_rel->relhasindex = !hide;
	return had;
}

void
weir_stream_am_init(void)
{
	previous_start = ExecutorStart_hook;
	ExecutorStart_hook = stream_executor_start;
	RegisterXactCallback(stream_am_xact, NULL);
	RegisterSubXactCallback(stream_am_subxact, NULL);
}
