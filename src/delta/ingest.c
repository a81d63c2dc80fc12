/*
 * ingest.c
 *	  From messages or inserted rows to kept rows and views.
 *
 * source ⇒ decode ⇒ ingest ⇒ segments, views. Runs inside the transaction of
 * a worker's batch, or of the session that INSERTs.
 *
 * Kafka path: what is wrong with one message makes a dead letter of it and
 * nothing else. Decoding runs in a subtransaction that is opened anew after
 * each row that raised an error. Views and the stream's own triggers may refuse rows, too (refused.c).
 * Errors that are nobody's fault here (deadlock, cancel, out of disk) are raised on.
 *
 * INSERT path: every error is the user's.
 *
 * Memory: everything lives in the caller's batch context.
 */
#include "delta/batch.h"

#include "access/table.h"
#include "catalog/catalog.h"
#include "catalog/pg_type.h"
#include "catalog/view.h"
#include "decode/decode.h"
#include "delta/dead_letters.h"
#include "delta/segments.h"
#include "delta/stream_am.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "view/apply.h"
#include "view/close.h"
#include "view/upstream.h"
#include "view/watermark.h"
#include "worker/positions.h"
#include "worker/shared.h"

/* A message that cannot become a row; written down once decoding is through. */
typedef struct BadMessage
{
	int			msg;			/* its number in the batch */
	RowError	error;
} BadMessage;

/* ---- decoders, one per stream, made anew when the catalog changed ---- */

typedef struct DecoderEntry
{
	Oid			stream;
	RowDecoder *decoder;
	MemoryContext cxt;
	uint64		generation;
} DecoderEntry;

static List *decoders = NIL;	/* of DecoderEntry *, in TopMemoryContext */

static RowDecoder *
decoder_for(Stream *stream, Relation rel)
{
	DecoderEntry *entry = NULL;
	MemoryContext old;
	ListCell   *lc;

	foreach(lc, decoders)
	{
		entry = lfirst(lc);
		if (entry->stream == stream->relid)
			break;
		entry = NULL;
	}
	old = MemoryContextSwitchTo(TopMemoryContext);
	if (entry == NULL)
	{
		entry = palloc0(sizeof(DecoderEntry));
		entry->stream = stream->relid;
		decoders = lappend(decoders, entry);
	}
	if (entry->decoder && entry->generation != weir_cache_version())
	{
		weir_decoder_free(entry->decoder);
		entry->decoder = NULL;
		MemoryContextDelete(entry->cxt);
	}
	if (entry->decoder == NULL)
	{
		entry->cxt = AllocSetContextCreate(TopMemoryContext, "weir decoder",
										   ALLOCSET_DEFAULT_SIZES);
		entry->decoder = weir_decoder_create(stream, rel, entry->cxt);
		entry->generation = weir_cache_version();
	}
	MemoryContextSwitchTo(old);
	return entry->decoder;
}

bool
weir_ingest_wants_headers(Stream *stream)
{
	Relation	rel = table_open(stream->relid, AccessShareLock);
	bool		wants = weir_decoder_wants_headers(decoder_for(stream, rel));

	table_close(rel, NoLock);
	return wants;
}

/* ---- event time ---- */

/* NULL if the event time is fine, else why it is not. */
static const char *
event_time_fault(Stream *stream, TimestampTz event_time, TimestampTz latest)
{
	if (TIMESTAMP_NOT_FINITE(event_time))
		return "event time is infinite";
	if (event_time > latest)
		return "event time is ahead of the clock by more than weir.max_clock_skew";
	return NULL;
}

/* The latest event time that is no error now. */
static TimestampTz
latest_event_time(Stream *stream)
{
	if (stream->max_clock_skew == NULL)
		return DT_NOEND;
	return weir_time_plus(GetCurrentTimestamp(), stream->max_clock_skew, 1);
}

void
weir_ingest_check_event_time(Stream *stream, TimestampTz event_time)
{
	const char *fault = event_time_fault(stream, event_time, latest_event_time(stream));

	if (fault)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("%s", fault),
				 errdetail("Stream %s, event time %s.", stream->name,
						   timestamptz_to_str(event_time)),
				 TIMESTAMP_NOT_FINITE(event_time) ? 0 :
				 errhint("ALTER TABLE %s SET (weir.max_clock_skew = 'off') accepts any time.",
						 stream->name)));
}

/* Epoch milliseconds to timestamptz; DT_NOEND if it cannot be one. */
static TimestampTz
from_epoch_ms(int64 ms)
{
	const int64 epoch = ((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE)) * USECS_PER_DAY;
	TimestampTz result;

	if (ms > PG_INT64_MAX / 1000 || ms < PG_INT64_MIN / 1000)
		return DT_NOEND;
	result = ms * 1000 - epoch;
	return IS_VALID_TIMESTAMP(result) ? result : DT_NOEND;
}

/* ---- decoding a batch ---- */

static BatchPartition *
partition_of(IngestTarget *target, const WeirMessage *msg)
{
	for (int i = 0; i < target->npartitions; i++)
	{
		BatchPartition *part = &target->partitions[i];

		if (part->partition == msg->partition &&
			(part->topic == msg->topic || strcmp(part->topic, msg->topic) == 0))
			return part;
	}
	elog(ERROR, "message of partition %d of topic \"%s\" is not of this batch",
		 msg->partition, msg->topic);
}

static void
number_partitions(Stream *stream, IngestTarget *target)
{
	for (int i = 0; i < target->npartitions; i++)
	{
		BatchPartition *part = &target->partitions[i];

		if (!weir_topic_number(stream, part->topic, part->partition, &part->number))
			elog(ERROR, "stream %s has no topic \"%s\"", stream->name, part->topic);
	}
}

/*
 * bad_message remembers a message that cannot become a row. It is written
 * when no subtransaction of decoding can roll it back any more.
 */
static void
bad_message(Batch *batch, int msg, int sqlstate, const char *message, const char *detail)
{
	MemoryContext old = MemoryContextSwitchTo(batch->cxt);
	BadMessage *bad = palloc(sizeof(BadMessage));

	bad->msg = msg;
	bad->error.sqlstate = sqlstate;
	bad->error.message = pstrdup(message);
	bad->error.detail = detail ? pstrdup(detail) : NULL;
	batch->bad = lappend(batch->bad, bad);
	MemoryContextSwitchTo(old);
}

static void
write_bad_messages(Batch *batch)
{
	ListCell   *lc;

	foreach(lc, batch->bad)
	{
		BadMessage *bad = lfirst(lc);

		partition_of(batch->target, &batch->msgs[bad->msg])->bad++;
		if (batch->target->again)
			continue;			/* has its dead letter already */
		weir_dead_letter_add(batch->stream->relid, InvalidOid, &batch->msgs[bad->msg],
							 bad->error.sqlstate, bad->error.message, bad->error.detail);
	}
	batch->result->bad = list_length(batch->bad);
}

/*
 * finish_row fills in the hidden columns and puts the row into the delta.
 * Returns false with *error filled if the row has no usable event time.
 */
static bool
finish_row(Batch *batch, const WeirMessage *msg, int event_column, TimestampTz latest,
		   Datum *values, bool *isnull, RowError *error)
{
	BatchPartition *part = partition_of(batch->target, msg);
	int			hidden = batch->delta->ndeclared;
	TimestampTz event_time;
	const char *fault;

	if (event_column >= 0 && isnull[event_column])
	{
		error->sqlstate = ERRCODE_NULL_VALUE_NOT_ALLOWED;
		error->message = "event time is null";
		error->detail = psprintf("Column \"%s\" is the event time.", batch->stream->event_time);
		return false;
	}
	if (event_column >= 0)
		event_time = DatumGetTimestampTz(values[event_column]);
	else if (msg->timestamp_ms >= 0)
		event_time = from_epoch_ms(msg->timestamp_ms);
	else
		event_time = GetCurrentTimestamp();
	fault = event_time_fault(batch->stream, event_time, latest);
	if (fault)
	{
		error->sqlstate = ERRCODE_DATETIME_VALUE_OUT_OF_RANGE;
		error->message = (char *) fault;
		error->detail = psprintf("The event time is %s.", timestamptz_to_str(event_time));
		return false;
	}
	part->stream_time = Max(part->stream_time, event_time);
	values[hidden] = Int32GetDatum(part->number);
	values[hidden + 1] = Int64GetDatum(msg->offset);
	values[hidden + 2] = TimestampTzGetDatum(event_time);
	values[hidden + 3] = TimestampTzGetDatum(part->stream_time);
	weir_delta_put(batch->delta, values, isnull);
	return true;
}

/* What decode_from works with; the same over all its calls for a batch. */
typedef struct DecodeState
{
	RowDecoder *decoder;
	MemoryContext row_cxt;
	Datum	   *values;
	bool	   *isnull;
	int			event_column;
	TimestampTz latest;
	volatile int next;			/* message at hand */
} DecodeState;

/* Decodes from state->next on to the end; raises what a row raises, with state->next at that row. */
static void
decode_from(Batch *batch, DecodeState *state, int nmsgs)
{
	MemoryContext old = MemoryContextSwitchTo(state->row_cxt);

	for (; state->next < nmsgs; state->next++)
	{
		const WeirMessage *msg = &batch->msgs[state->next];
		RowError	error = {0};

		if ((state->next & 1023) == 0)
			CHECK_FOR_INTERRUPTS();
		batch->result->bytes += msg->value_len + msg->key_len;
		if (msg->value == NULL)
		{
			batch->result->skipped++;
			continue;
		}
		if (weir_decoder_row(state->decoder, msg, state->values, state->isnull, &error) &&
			finish_row(batch, msg, state->event_column, state->latest,
					   state->values, state->isnull, &error))
			batch->source[batch->delta->nrows - 1] = state->next;
		else
			bad_message(batch, state->next, error.sqlstate, error.message, error.detail);
		MemoryContextReset(state->row_cxt);
	}
	MemoryContextSwitchTo(old);
}

/* What decode_batch guards. */
typedef struct Decoding
{
	Batch	   *batch;
	DecodeState *state;
	int			nmsgs;
} Decoding;

static void
decode_guarded(void *arg)
{
	Decoding   *decoding = arg;

	decode_from(decoding->batch, decoding->state, decoding->nmsgs);
}

/*
 * decode_batch turns all messages into the delta. After a row that raised an
 * error the subtransaction is rolled back and decoding goes on behind it; the rows before it are plain
 * memory and stay.
 */
static void
decode_batch(Batch *batch, DecodeState *state, int nmsgs)
{
	Decoding	decoding = {batch, state, nmsgs};

	while (state->next < nmsgs)
	{
		ErrorData  *edata = weir_try(decode_guarded, &decoding);

		if (edata == NULL)
			continue;
		if (state->next >= nmsgs)
			ReThrowError(edata);
		bad_message(batch, state->next++, edata->sqlerrcode,
					edata->message, edata->detail);
		MemoryContextReset(state->row_cxt);
		FreeErrorData(edata);
	}
}

/* ---- views ---- */

/* Final views insert what this batch has closed. */
static void
close_windows(Batch *batch)
{
	ListCell   *lc;

	foreach(lc, batch->target->views)
	{
		View	   *view = weir_view_get(lfirst_oid(lc));

		if (view == NULL || view->status != VIEW_RUNNING || !weir_view_closes(view))
			continue;
		weir_close_guarded(view, batch->stream->relid, batch->target->partitions,
						   batch->target->npartitions);
		weir_request_maintenance(); /* what stays open may close by the clock */
	}
}

/* ---- the two entrances ---- */

void
weir_ingest_messages(Stream *stream, const WeirMessage *msgs, int nmsgs,
					 IngestTarget *target, IngestResult *result)
{
	Relation	rel = table_open(stream->relid, RowExclusiveLock);
	Batch		batch = {.stream = stream,.rel = rel,.msgs = msgs,.target = target,.result = result};
	DecodeState state = {0};

	memset(result, 0, sizeof(*result));
	batch.cxt = CurrentMemoryContext;
	batch.delta = weir_delta_create(rel, weir_memory / 2);
	batch.source = palloc(sizeof(int) * Max(nmsgs, 1));
	state.decoder = decoder_for(stream, rel);
	state.row_cxt = AllocSetContextCreate(CurrentMemoryContext, "weir row", ALLOCSET_DEFAULT_SIZES);
	state.values = palloc(sizeof(Datum) * batch.delta->desc->natts);
	state.isnull = palloc0(sizeof(bool) * batch.delta->desc->natts);
	state.event_column = weir_delta_column(rel, stream->event_attnum);
	state.latest = latest_event_time(stream);
	number_partitions(stream, target);

	decode_batch(&batch, &state, nmsgs);
	write_bad_messages(&batch);
	if (batch.delta->nrows > 0 && target->keep_rows && !target->again &&
		weir_stream_has_triggers(rel))
		weir_batch_fire_triggers(&batch);
	result->rows = batch.delta->nrows;
	if (batch.delta->nrows > 0)
	{
		if (target->keep_rows)
			weir_segments_keep(stream, batch.delta, false);
		weir_batch_apply_views(&batch);
		if (target->keep_rows && stream->keeps_rows)
			weir_segments_expire(stream);	/* not before: views may have read them */
		close_windows(&batch);
		weir_cascade_run(true);
	}
	weir_dead_letter_flush();
	weir_delta_free(batch.delta);
	table_close(rel, NoLock);
}

void
weir_ingest_inserted(Stream *stream, Delta *delta)
{
	BatchPartition inserts = {.topic = WEIR_INSERT_TOPIC,.partition = WEIR_INSERT_PARTITION,.stream_time = DT_NOBEGIN};
	ListCell   *lc;

	weir_segments_keep(stream, delta, false);
	foreach(lc, weir_view_oids_of_stream(stream->relid))
	{
		View	   *view = weir_view_lock(lfirst_oid(lc));

		if (view == NULL || view->status != VIEW_RUNNING ||
			list_member_oid(view->detached_inserts, stream->relid))
			continue;
		weir_view_apply(view, delta);
		if (weir_view_closes(view))
		{
			weir_close_view(view, stream->relid, &inserts, 1);
			weir_request_maintenance();
		}
	}
	weir_cascade_run(false);
	weir_stat_inserted(stream->relid, delta->nrows, delta->stream_time);
	if (stream->keeps_rows)
		weir_request_maintenance();
}
