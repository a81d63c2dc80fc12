/*
 * pending.c
 *	  Which rows of the outbox a sink has still to send, in which order.
 *
 * Neither numbers nor transaction ids are in the order of commits, so
 * progress is a snapshot: "done" has sent all that it sees. A round takes a
 * new snapshot, "target"; what target sees and done does not is sent in the order of
 * seq. A change of a key that was committed before another one is in the same round or an
 * earlier one, and within a round it has the lower seq, because numbers are
 * drawn while the row is locked. A round may be many batches: then progress is (done,
 * target, seq).
 *
 * A transaction that is not in done's list of running ones and not below its
 * xmax has begun after done was taken and so drawn its numbers after all
 * that done sees. So a round looks at seq > max_seq, and for the transactions that were
 * running at done by their ids.
 *
 * What is handed to Kafka must outlive a crash here: the WAL is flushed up to
 * its end first. That makes synchronous_commit = off safe, and the ids that
 * done and target count as finished are never given again.
 *
 * Runs in the publisher, in a transaction with an active snapshot.
 */
#include "sink/publisher_internal.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "catalog/catalog.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* A batch is one Kafka transaction: large enough to be cheap, small enough to take a second. */
#define BATCH_BYTES		(16 * 1024 * 1024)
#define BATCH_RECORDS	100000
#define FETCH_CHUNKS	64

/* Nothing is sent yet. */
#define EMPTY_SNAPSHOT	"1:1:"

#define FETCH_SQL \
	"SELECT o.seq, o.records, o.payload, (extract(epoch FROM o.at) * 1000)::bigint FROM weir.outbox o" \
	" WHERE o.sink = $1 AND o.seq > $2" \
	" AND NOT pg_visible_in_snapshot(o.xid, $3) AND pg_visible_in_snapshot(o.xid, $4)" \
	" ORDER BY o.seq"

static Datum
snapshot_datum(const char *text)
{
	return DirectFunctionCall1(pg_snapshot_in, CStringGetDatum(text));
}

static void
snapshot_copy(char *to, const char *from)
{
	if (strlcpy(to, from, SNAPSHOT_TEXT) >= SNAPSHOT_TEXT)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("too many transactions are in progress to publish")));
}

/* A statement with one row of one column; false: no row, or null. */
static bool
single_value(const char *sql, int nargs, Oid *types, Datum *values, Datum *result)
{
	bool		isnull;

	if (SPI_execute_with_args(sql, nargs, types, values, NULL, false, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read the outbox");
	if (SPI_processed == 0)
		return false;
	*result = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	return !isnull;
}

bool
weir_pending_any(Sink *sink)
{
	CatalogScope scope;
	Oid			type = INT8OID;
	Datum		value = Int64GetDatum(sink->id);
	Datum		result;
	bool		any;

	weir_catalog_open(&scope);
	any = single_value("SELECT 1 FROM weir.outbox o LEFT JOIN weir.sink_progress p ON p.sink = o.sink"
					   " WHERE o.sink = $1 AND NOT COALESCE(pg_visible_in_snapshot(o.xid, p.done)"
					   "  OR (o.seq <= p.seq AND pg_visible_in_snapshot(o.xid, p.target)), false) LIMIT 1",
					   1, &type, &value, &result);
	weir_catalog_close(&scope);
	return any;
}

/* The progress that PostgreSQL has written down; nothing if there is none. */
static void
acknowledged(Sink *sink, SinkProgress *progress)
{
	HeapTuple	tuple;
	TupleDesc	desc;
	char	   *target;
	char	   *hint;

	memset(progress, 0, sizeof(*progress));
	snapshot_copy(progress->done, EMPTY_SNAPSHOT);
	sink->hint = -1;
	(void) weir_catalog_exec("SELECT done::text, target::text, seq::text, hint::text FROM weir.sink_progress"
							 " WHERE sink = " INT64_FORMAT, sink->id);
	if (SPI_processed == 0)
		return;
	tuple = SPI_tuptable->vals[0];
	desc = SPI_tuptable->tupdesc;
	snapshot_copy(progress->done, SPI_getvalue(tuple, desc, 1));
	target = SPI_getvalue(tuple, desc, 2);
	if (target)
		snapshot_copy(progress->target, target);
	progress->seq = pg_strtoint64(SPI_getvalue(tuple, desc, 3));
	hint = SPI_getvalue(tuple, desc, 4);
	if (hint)
		sink->hint = pg_strtoint64(hint);
}

/* Is Kafka's progress about this history of the database? */
static bool
is_credible(const SinkProgress *progress)
{
	Oid			types[2] = {TEXTOID, TEXTOID};
	Datum		values[2];
	Datum		result;

	if (progress->timeline != GetWALInsertionTimeLine())
		return false;
	values[0] = CStringGetTextDatum(progress->done);
	values[1] = CStringGetTextDatum(progress->target[0] ? progress->target : progress->done);
	return single_value("SELECT 1 WHERE pg_snapshot_xmax(pg_current_snapshot()) >="
						" GREATEST(pg_snapshot_xmax($1::pg_snapshot), pg_snapshot_xmax($2::pg_snapshot))",
						2, types, values, &result);
}

/* Records, and their bytes, that sink->at has sent and ours has not. */
static void
count_between(Sink *sink, const SinkProgress *ours)
{
	Oid			types[7] = {INT8OID, PG_SNAPSHOTOID, PG_SNAPSHOTOID, INT8OID, PG_SNAPSHOTOID, PG_SNAPSHOTOID, INT8OID};
	Datum		values[7];
	char		nulls[8] = "       ";
	const SinkProgress *both[2] = {&sink->at, ours};
	bool		isnull;

	values[0] = Int64GetDatum(sink->id);
	for (int i = 0; i < 2; i++)
	{
		values[1 + i * 3] = snapshot_datum(both[i]->done);
		if (both[i]->target[0])
			values[2 + i * 3] = snapshot_datum(both[i]->target);
		else
			nulls[2 + i * 3] = 'n';
		values[3 + i * 3] = Int64GetDatum(both[i]->seq);
	}
	if (SPI_execute_with_args("SELECT COALESCE(sum(o.records), 0)::int8, COALESCE(sum(octet_length(o.payload)), 0)::int8"
							  " FROM weir.outbox o WHERE o.sink = $1"
							  " AND COALESCE(pg_visible_in_snapshot(o.xid, $2)"
							  "  OR (o.seq <= $4 AND pg_visible_in_snapshot(o.xid, $3)), false)"
							  " AND NOT COALESCE(pg_visible_in_snapshot(o.xid, $5)"
							  "  OR (o.seq <= $7 AND pg_visible_in_snapshot(o.xid, $6)), false)",
							  7, types, values, nulls, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read the outbox");
	sink->nrecords = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	sink->nbytes = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull));
}

/*
 * What was under way when the publisher stopped may be in Kafka all the same: Kafka's
 * progress is written down here, so that it counts as sent and its space is free, also if nothing follows it.
 */
void
weir_pending_resume(Sink *sink)
{
	const SenderReport *report = &sink->report;
	CatalogScope scope;
	SinkProgress *ours = palloc(sizeof(SinkProgress));
	bool		behind = false;

	weir_catalog_open(&scope);
	acknowledged(sink, ours);
	sink->at = *ours;
	if (report->has_progress)
	{
		sink->hint = report->hint;
		if (is_credible(&report->progress))
		{
			sink->at = report->progress;
			behind = strcmp(sink->at.done, ours->done) != 0 || strcmp(sink->at.target, ours->target) != 0 ||
				sink->at.seq != ours->seq;
			if (behind)
				count_between(sink, ours);
		}
		else
			ereport(WARNING,
					(errmsg("sink %s: the progress in Kafka belongs to another history of this database", sink->name),
					 errdetail("The database was restored or promoted; what it had sent and not acknowledged is sent again.")));
	}
	sink->max_seq = sink->at.seq;
	weir_catalog_close(&scope);
	if (behind)
	{
		sink->after = sink->at;
		weir_pending_acknowledge(sink);
		sink->retries = 0;
	}
}

/* Begins a round: the rows that are visible now and not sent. */
static void
begin_round(Sink *sink)
{
	Oid			types[2] = {INT8OID, PG_SNAPSHOTOID};
	Datum		values[2];
	Datum		value;

	if (!single_value("SELECT pg_current_snapshot()", 0, NULL, NULL, &value))
		elog(ERROR, "could not take a snapshot");
	snapshot_copy(sink->at.target, DatumGetCString(DirectFunctionCall1(pg_snapshot_out, value)));
	sink->at.seq = sink->max_seq;
	if (strrchr(sink->at.done, ':')[1] == '\0')
		return;					/* nothing was running at done */
	values[0] = Int64GetDatum(sink->id);
	values[1] = snapshot_datum(sink->at.done);
	if (single_value("SELECT min(o.seq) FROM weir.outbox o WHERE o.sink = $1"
					 " AND o.xid = ANY (ARRAY(SELECT pg_snapshot_xip($2)))",
					 2, types, values, &value))
		sink->at.seq = Min(sink->at.seq, DatumGetInt64(value) - 1);
}

/*
 * All WAL so far is on disk afterwards. The insert position may point behind
 * the header of a page that is not begun yet.
 */
static void
flush_wal(void)
{
	XLogRecPtr	end = GetXLogInsertRecPtr();

	if (end % XLOG_BLCKSZ == SizeOfXLogShortPHD)
		end -= SizeOfXLogShortPHD;
	else if (XLogSegmentOffset(end, wal_segment_size) == SizeOfXLogLongPHD)
		end -= SizeOfXLogLongPHD;
	XLogFlush(end);
}

/* Adds a row of FETCH_SQL to the batch; its chunk is noted. */
static void
add_chunk(Sink *sink, HeapTuple tuple, TupleDesc desc, int *capacity)
{
	bool		isnull;
	SentChunk	chunk;
	Datum		datum = SPI_getbinval(tuple, desc, 3, &isnull);
	bytea	   *payload = DatumGetByteaPP(datum);

	chunk.seq = DatumGetInt64(SPI_getbinval(tuple, desc, 1, &isnull));
	chunk.records = DatumGetInt32(SPI_getbinval(tuple, desc, 2, &isnull));
	if (sink->nchunks == 0)
		sink->batch->created_ms = DatumGetInt64(SPI_getbinval(tuple, desc, 4, &isnull));
	if (!weir_sender_batch_add(sink->batch, VARDATA_ANY(payload), VARSIZE_ANY_EXHDR(payload),
							   chunk.records))
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	if ((Pointer) payload != DatumGetPointer(datum))
		pfree(payload);
	if (sink->nchunks == *capacity)
	{
		*capacity *= 2;
		sink->chunks = repalloc_huge(sink->chunks, sizeof(SentChunk) * *capacity);
	}
	sink->chunks[sink->nchunks++] = chunk;
	sink->at.seq = chunk.seq;
}

/* Reads rows until the batch is full; true: the round has no more. */
static bool
read_rows(Sink *sink)
{
	Oid			types[4] = {INT8OID, INT8OID, PG_SNAPSHOTOID, PG_SNAPSHOTOID};
	Datum		values[4] = {Int64GetDatum(sink->id), Int64GetDatum(sink->at.seq),
	snapshot_datum(sink->at.done), snapshot_datum(sink->at.target)};
	static SPIPlanPtr plan = NULL;
	Portal		portal;
	int			capacity = FETCH_CHUNKS;
	bool		finished = false;

	sink->chunks = MemoryContextAlloc(sink->batch_cxt, sizeof(SentChunk) * capacity);
	if (plan == NULL)
	{
		plan = SPI_prepare(FETCH_SQL, 4, types);
		if (plan == NULL || SPI_keepplan(plan) != 0)
			elog(ERROR, "could not prepare the reading of the outbox");
	}
	/* not read-only: with a snapshot of its own, so that it sees all that target sees */
	portal = SPI_cursor_open(NULL, plan, values, NULL, false);
	while (!finished && sink->batch->len < BATCH_BYTES && sink->batch->records < BATCH_RECORDS)
	{
		SPI_cursor_fetch(portal, true, FETCH_CHUNKS);
		finished = SPI_processed < FETCH_CHUNKS;
		for (uint64 i = 0; i < SPI_processed; i++)
			add_chunk(sink, SPI_tuptable->vals[i], SPI_tuptable->tupdesc, &capacity);
		SPI_freetuptable(SPI_tuptable);
	}
	SPI_cursor_close(portal);
	return finished;
}

/* Where the sink is once the batch is sent. */
static void
note_after(Sink *sink, bool finished)
{
	sink->at.timeline = GetWALInsertionTimeLine();
	sink->after = sink->at;
	if (finished)
	{
		snapshot_copy(sink->after.done, sink->at.target);
		sink->after.target[0] = '\0';
		sink->after.seq = Max(sink->max_seq, sink->at.seq);
	}
	sink->batch->progress = sink->after;
}

bool
weir_pending_fetch(Sink *sink)
{
	CatalogScope scope;
	bool		finished;

	MemoryContextReset(sink->batch_cxt);
	sink->nchunks = 0;
	weir_sender_batch_free(sink->batch);
	sink->batch = weir_sender_batch_create();
	if (sink->batch == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	weir_catalog_open(&scope);
	if (sink->at.target[0] == '\0')
		begin_round(sink);
	finished = read_rows(sink);
	weir_catalog_close(&scope);
	note_after(sink, finished);
	sink->nrecords = sink->batch->records;
	sink->nbytes = sink->batch->len;
	if (sink->nrecords == 0)
	{
		sink->at = sink->after;
		weir_sender_batch_free(sink->batch);
		sink->batch = NULL;
		return false;
	}
	flush_wal();
	return true;
}

void
weir_pending_acknowledge(Sink *sink)
{
	Oid			types[9] = {INT8OID, PG_SNAPSHOTOID, PG_SNAPSHOTOID, INT8OID, INT8OID,
	INT8OID, INT8OID, INT8OID, INT8OID};
	Datum		values[9];
	char		nulls[10] = "         ";
	CatalogScope scope;

	values[0] = Int64GetDatum(sink->id);
	values[1] = snapshot_datum(sink->after.done);
	if (sink->after.target[0])
		values[2] = snapshot_datum(sink->after.target);
	else
		nulls[2] = 'n';
	values[3] = Int64GetDatum(sink->after.seq);
	values[4] = Int64GetDatum(sink->hint);
	nulls[4] = sink->hint < 0 ? 'n' : ' ';
	values[5] = Int64GetDatum(sink->nrecords);
	values[6] = Int64GetDatum(sink->nbytes);
	values[7] = Int64GetDatum(sink->retries);
	weir_catalog_open(&scope);
	if (SPI_execute_with_args("INSERT INTO weir.sink_progress AS p (sink, done, target, seq, hint, sent, bytes, retries)"
							  " VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"
							  " ON CONFLICT (sink) DO UPDATE SET done = $2, target = $3, seq = $4, hint = $5,"
							  " sent = p.sent + $6, bytes = p.bytes + $7, retries = p.retries + $8,"
							  " error = NULL, bad_seq = NULL, bad_record = NULL",
							  8, types, values, nulls, false, 0) != SPI_OK_INSERT)
		elog(ERROR, "could not write weir.sink_progress");
	weir_catalog_close(&scope);
}

/* The chunk of a record of the batch, and its place in it; false: unknown. */
static bool
locate(Sink *sink, int record, int64 *seq, int *place)
{
	if (record < 0)
		return false;
	for (int i = 0; i < sink->nchunks; i++)
	{
		if (record < sink->chunks[i].records)
		{
			*seq = sink->chunks[i].seq;
			*place = record;
			return true;
		}
		record -= sink->chunks[i].records;
	}
	return false;
}

void
weir_pending_error(Sink *sink, const char *error, bool refused, int bad_record)
{
	Oid			types[6] = {INT8OID, PG_SNAPSHOTOID, TEXTOID, INT8OID, INT4OID, INT8OID};
	Datum		values[6];
	char		nulls[7] = "      ";
	CatalogScope scope;
	int64		seq = 0;
	int			place = 0;
	bool		located = refused && locate(sink, bad_record, &seq, &place);

	values[0] = Int64GetDatum(sink->id);
	values[1] = snapshot_datum(EMPTY_SNAPSHOT);
	values[2] = error ? CStringGetTextDatum(error) : (Datum) 0;
	nulls[2] = error ? ' ' : 'n';
	values[3] = Int64GetDatum(seq);
	values[4] = Int32GetDatum(place);
	nulls[3] = nulls[4] = located ? ' ' : 'n';
	values[5] = Int64GetDatum(sink->retries);
	weir_catalog_open(&scope);
	if (SPI_execute_with_args("INSERT INTO weir.sink_progress AS p (sink, done, seq, error, bad_seq, bad_record, retries)"
							  " VALUES ($1, $2, 0, $3, $4, $5, $6)"
							  " ON CONFLICT (sink) DO UPDATE SET error = $3, bad_seq = $4, bad_record = $5,"
							  " retries = p.retries + $6",
							  6, types, values, nulls, false, 0) != SPI_OK_INSERT)
		elog(ERROR, "could not write weir.sink_progress");
	if (refused)
		(void) weir_catalog_exec("UPDATE weir.sink SET paused = true WHERE id = " INT64_FORMAT, sink->id);
	weir_catalog_close(&scope);
}

/* Sinks whose trigger is gone, with nothing left to send. */
#define DONE_WITH \
	"s.trigger IS NOT NULL AND NOT EXISTS (SELECT FROM pg_trigger t WHERE t.oid = s.trigger)" \
	" AND NOT EXISTS (SELECT FROM weir.outbox o LEFT JOIN weir.sink_progress p ON p.sink = o.sink" \
	"  WHERE o.sink = s.id AND NOT COALESCE(pg_visible_in_snapshot(o.xid, p.done)" \
	"   OR (o.seq <= p.seq AND pg_visible_in_snapshot(o.xid, p.target)), false))"

void
weir_pending_sweep(void)
{
	CatalogScope scope;

	weir_catalog_open(&scope);
	(void) weir_catalog_exec("SELECT FROM weir.sink s WHERE " DONE_WITH " LIMIT 1");
	if (SPI_processed > 0)
	{
		(void) weir_catalog_exec("DELETE FROM weir.sink s WHERE " DONE_WITH);
		(void) weir_catalog_exec("DELETE FROM weir.sink_progress p"
								 " WHERE NOT EXISTS (SELECT FROM weir.sink s WHERE s.id = p.sink)");
	}
	weir_catalog_close(&scope);
}
