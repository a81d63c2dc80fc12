/*
 * outbox.c
 *	  The tables in which changes wait until Kafka has them.
 *
 * collect ⇒ here (weir.outbox_N, in the transaction of the change) ⇒ publisher.
 *
 * Each row is a chunk: some records of one sink (record.h), a number and
 * the transaction. Chunks make it cheap: the cost of a table row and its index
 * entries is shared by hundreds of records.
 *
 * Space: the children of weir.outbox are filled in turn, the one that
 * weir.outbox_state names. A writer may go by an old state; it then writes
 * into an older segment, which does no harm: a segment is truncated under a lock that
 * excludes writers until they have committed, when everything in it is acknowledged. So there are no
 * dead rows and no vacuum. Locks: RowExclusive on the segment for writers;
 * AccessExclusive, never waited for, to truncate.
 */
#include "sink/outbox.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/catalog.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "sink/collect.h"
#include "sink/sink.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/xid8.h"
#include "worker/shared.h"

/* A chunk ends when it has so many bytes: what is detoasted at one time. */
#define CHUNK_BYTES		(256 * 1024)

/* Chunks of one run are numbered within the block that the run has drawn. */
#define BLOCK_BITS		20

/* How old a backend's knowledge of the outbox's size and segment may be. */
#define STATE_AGE_MS	1000

/* A segment is given up for the next one at this size, or an eighth of the limit. */
#define SEGMENT_BYTES	(INT64CONST(64) * 1024 * 1024)

/* An idle segment of this size is emptied, too. */
#define IDLE_BYTES		(INT64CONST(1) * 1024 * 1024)

#define NUM_COLUMNS 6			/* sink, seq, xid, at, records, payload */

/* What this backend knows of the outbox. */
static int	current_segment = 0;
static int64 known_bytes = 0;
static TimestampTz known_at = 0;	/* 0: nothing */
static bool wake_pending = false;

static int64
single_int64(const char *sql)
{
	bool		isnull;
	Datum		value;

	if (SPI_execute(sql, false, 1) != SPI_OK_SELECT || SPI_processed != 1)
		elog(ERROR, "weir.outbox_state is damaged");
	value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	return isnull ? 0 : DatumGetInt64(value);
}

static void
read_state(void)
{
	CatalogScope scope;

	weir_catalog_open(&scope);
	current_segment = (int) single_int64("SELECT current::bigint FROM weir.outbox_state");
	known_bytes = single_int64("SELECT sum(pg_table_size(inhrelid))::bigint FROM pg_inherits"
							   " WHERE inhparent = 'weir.outbox'::regclass"
							   " AND pg_relation_size(inhrelid) > 0");
	weir_catalog_close(&scope);
	known_at = GetCurrentTimestamp();
}

static void
refresh_state(void)
{
	if (known_at == 0 ||
		TimestampDifferenceExceeds(known_at, GetCurrentTimestamp(), STATE_AGE_MS) ||
		known_bytes >= (int64) weir_outbox_limit * 1024)
		read_state();
}

/* Raises 53100 if the outbox has reached weir.outbox_limit. Cheap: looks once a second. */
static void
check_limit(void)
{
	refresh_state();
	if (known_bytes < (int64) weir_outbox_limit * 1024)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_DISK_FULL),
			 errmsg("the outbox is full"),
			 errdetail("Changes that Kafka has not got yet fill %lld MB (weir.outbox_limit).",
					   (long long) known_bytes / (1024 * 1024)),
			 errhint("SELECT * FROM weir.stat_sinks shows what is waiting and why; weir.outbox_limit can be raised.")));
}

int64
weir_outbox_block(void)
{
	return nextval_internal(get_relname_relid("outbox_seq", weir_schema_oid()), false);
}

static Relation
open_segment(CatalogIndexState *indexes)
{
	Oid			relid = get_relname_relid(psprintf("outbox_%d", current_segment), weir_schema_oid());
	Relation	rel;

	if (!OidIsValid(relid))
		elog(ERROR, "weir.outbox_%d does not exist", current_segment);
	rel = table_open(relid, RowExclusiveLock);
	*indexes = CatalogOpenIndexes(rel);
	return rel;
}

/* Writes one row: n records that take the bytes of payload (a bytea). */
static void
write_chunk(Relation rel, CatalogIndexState indexes, int64 sink, int64 seq, int n, bytea *payload)
{
	Datum		values[NUM_COLUMNS];
	bool		nulls[NUM_COLUMNS] = {false};
	HeapTuple	tuple;

	values[0] = Int64GetDatum(sink);
	values[1] = Int64GetDatum(seq);
	values[2] = FullTransactionIdGetDatum(GetTopFullTransactionId());
	values[3] = TimestampTzGetDatum(GetCurrentTimestamp());
	values[4] = Int32GetDatum(n);
	values[5] = PointerGetDatum(payload);
	tuple = heap_form_tuple(RelationGetDescr(rel), values, nulls);
	CatalogTupleInsertWithInfo(rel, tuple, indexes);
	heap_freetuple(tuple);
	known_bytes += VARSIZE(payload);
}

static uint32
record_length(const CollectRun *run, int i)
{
	uint32		len;

	memcpy(&len, run->data + run->offsets[i], sizeof(len));
	return len;
}

void
weir_outbox_write(const CollectRun *run, int64 block)
{
	CatalogIndexState indexes;
	Relation	rel;
	int64		seq = block << BLOCK_BITS;

	if (run->n == 0)
		return;
	check_limit();
	rel = open_segment(&indexes);
	for (int i = 0; i < run->n;)
	{
		Size		len = record_length(run, i);
		int			n = 1;
		bytea	   *payload;
		char	   *p;

		while (i + n < run->n && len + record_length(run, i + n) <= CHUNK_BYTES)
			len += record_length(run, i + n++);
		payload = palloc(VARHDRSZ + len);
		SET_VARSIZE(payload, VARHDRSZ + len);
		p = VARDATA(payload);
		for (int j = i; j < i + n; j++)
		{
			memcpy(p, run->data + run->offsets[j], record_length(run, j));
			p += record_length(run, j);
		}
		write_chunk(rel, indexes, run->target->sink, seq++, n, payload);
		pfree(payload);
		i += n;
	}
	CatalogCloseIndexes(indexes);
	table_close(rel, NoLock);
	wake_pending = true;
}

void
weir_sink_prepared_committed(void)
{
	wake_pending = true;
}

static void
outbox_xact(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT && wake_pending)
		weir_publisher_wake();
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
		wake_pending = false;
	if (event == XACT_EVENT_ABORT)
		known_at = 0;
}

void
weir_outbox_init(void)
{
	RegisterXactCallback(outbox_xact, NULL);
}

/* ---- space ---- */

/* Is everything in the segment acknowledged? Rows of sinks that are gone count as acknowledged. */
static bool
all_acknowledged(int segment)
{
	(void) weir_catalog_exec("SELECT FROM weir.outbox_%d o JOIN weir.sink s ON s.id = o.sink"
							 " LEFT JOIN weir.sink_progress p ON p.sink = o.sink"
							 " WHERE p.sink IS NULL OR NOT (pg_visible_in_snapshot(o.xid, p.done)"
							 "  OR (p.target IS NOT NULL AND pg_visible_in_snapshot(o.xid, p.target)"
							 "   AND o.seq <= p.seq)) LIMIT 1", segment);
	return SPI_processed == 0;
}

/* Truncates a segment if that is possible now; false: not yet. */
static bool
try_truncate(int segment)
{
	Oid			relid = get_relname_relid(psprintf("outbox_%d", segment), weir_schema_oid());
	bool		ok;

	if (!all_acknowledged(segment))
		return false;
	if (!ConditionalLockRelationOid(relid, AccessExclusiveLock))
		return false;
	/* nobody writes to it now; what was committed meanwhile shows in a new snapshot */
	PushActiveSnapshot(GetLatestSnapshot());
	ok = all_acknowledged(segment);
	PopActiveSnapshot();
	if (ok)
		(void) weir_catalog_exec("TRUNCATE ONLY weir.outbox_%d", segment);
	return ok;
}

/* With its oversized values; 0 if it is empty (the index of these has always a page). */
static int64
segment_bytes(int segment)
{
	return single_int64(psprintf("SELECT CASE WHEN pg_relation_size('weir.outbox_%d') > 0"
								 " THEN pg_table_size('weir.outbox_%d') END", segment, segment));
}

/* The next segment, if it is empty and the present one is large. */
static void
rotate(int64 bytes)
{
	int			next = (current_segment + 1) % WEIR_OUTBOX_SEGMENTS;
	int64		limit = Min(SEGMENT_BYTES, (int64) weir_outbox_limit * 1024 / WEIR_OUTBOX_SEGMENTS);

	if (bytes < limit && (bytes < IDLE_BYTES || !all_acknowledged(current_segment)))
		return;
	if (segment_bytes(next) > 0)
		return;
	(void) weir_catalog_exec("UPDATE weir.outbox_state SET current = %d", next);
	current_segment = next;
	known_at = 0;
}

bool
weir_outbox_reclaim(void)
{
	CatalogScope scope;
	bool		left = false;

	weir_catalog_open(&scope);
	current_segment = (int) single_int64("SELECT current::bigint FROM weir.outbox_state");
	rotate(segment_bytes(current_segment));
	for (int i = 0; i < WEIR_OUTBOX_SEGMENTS; i++)
	{
		if (i != current_segment && segment_bytes(i) > 0 && !try_truncate(i))
			left = true;
	}
	weir_catalog_close(&scope);
	return left;
}
