/*
 * ingest.c
 *	  From messages or inserted rows to kept rows and views.
 *
 * source ⇒ decode ⇒ ingest ⇒ segments, views. Runs inside the transaction of
 * a worker's batch, or of the session that INSERTs.
 *
 * Kafka path: what is wrong with one message makes a dead letter of it and
 * nothing else. Decoding runs in a subtransaction that is opened anew after
 * each row that raised an error. Each view runs in a subtransaction of its
 * own; when it raises an error that a row can be blamed for, its delta is halved until the rows at
 * fault stand alone; they are dead letters of that view. A view whose
 * statement cannot run, or that refuses every row of a batch, is set to
 * failed and detached at the position before the batch, so it can catch up.
 * Errors that are nobody's fault here (deadlock, cancel, out of disk) are raised on.
 *
 * INSERT path: every error is the user's.
 *
 * Memory: everything lives in the caller's batch context.
 */
#include "delta/ingest.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/catalog.h"
#include "catalog/pg_index.h"
#include "catalog/pg_type.h"
#include "catalog/view.h"
#include "decode/decode.h"
#include "delta/dead_letters.h"
#include "delta/segments.h"
#include "delta/stream_am.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "view/apply.h"
#include "view/close.h"
#include "view/upstream.h"
#include "view/watermark.h"
#include "worker/positions.h"
#include "worker/shared.h"

/* A view that refused so many rows of one batch is broken, not unlucky. */
#define MAX_BAD_ROWS_PER_VIEW	1000
/* A view that refused so many batches of one row in a row is broken, too. */
#define MAX_LONE_FAILURES		10

/* A message that cannot become a row; written down once decoding is through. */
typedef struct BadMessage
{
	int			msg;			/* its number in the batch */
	RowError	error;
} BadMessage;

/* A batch on its way: the delta and which message each of its rows came from. */
typedef struct Batch
{
	Stream	   *stream;
	Relation	rel;			/* the stream's table */
	const WeirMessage *msgs;
	IngestTarget *target;
	IngestResult *result;
	Delta	   *delta;
	int		   *source;			/* message of each delta row */
	List	   *bad;			/* of BadMessage * */
	MemoryContext cxt;			/* the batch's */
} Batch;

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

/* Errors that one row can be blamed for. */
static bool
error_is_of_row(int sqlstate)
{
	switch (ERRCODE_TO_CATEGORY(sqlstate))
	{
		case ERRCODE_DATA_EXCEPTION:	/* 22 */
		case ERRCODE_INTEGRITY_CONSTRAINT_VIOLATION:	/* 23 */
		case ERRCODE_CARDINALITY_VIOLATION: /* 21 */
		case ERRCODE_WITH_CHECK_OPTION_VIOLATION:	/* 44 */
		case ERRCODE_PLPGSQL_ERROR: /* P0: RAISE */
			return true;
		case ERRCODE_PROGRAM_LIMIT_EXCEEDED:	/* 54: e.g. an index row too large */
			return true;
		default:
			return false;
	}
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

/* What try_view guards. */
typedef struct Attempt
{
	Batch	   *batch;
	View	   *view;
	Delta	   *delta;
} Attempt;

static void
attempt(void *arg)
{
	Attempt    *what = arg;

	if (what->view)
		weir_view_apply(what->view, what->delta);
	else
		weir_stream_fire_triggers(what->batch->stream, what->batch->rel, what->delta);
}

/*
 * Applies a view to a delta in a subtransaction, or, if view is NULL, fires
 * the stream's own triggers. Returns NULL, or the error it raised.
 */
static ErrorData *
try_view(Batch *batch, View *view, Delta *delta)
{
	Attempt		what = {batch, view, delta};

	return weir_try(attempt, &what);
}

/* Rows [from, to) of a delta as a delta of their own. */
static Delta *
slice(Batch *batch, int64 from, int64 to)
{
	Delta	   *part = weir_delta_create(batch->rel, work_mem);
	DeltaCursor cursor;
	Datum	   *values;
	bool	   *isnull;

	part->partly_kept = batch->delta->partly_kept;
	part->kept_from = batch->delta->kept_from;
	part->whole_since = batch->delta->whole_since;
	part->batch = batch->delta;
	weir_delta_open(&cursor, batch->delta);
	weir_delta_skip(&cursor, from);
	for (int64 i = from; i < to; i++)
	{
		if (!weir_delta_next(&cursor, &values, &isnull))
			elog(ERROR, "a delta has fewer rows than it counted");
		weir_delta_put(part, values, isnull);
	}
	weir_delta_close(&cursor);
	return part;
}

/* A search for the rows of a batch that a view refuses. */
typedef struct Bisection
{
	Batch	   *batch;
	View	   *view;			/* NULL: the stream's own triggers */
	bool	   *refused;		/* one flag per row of the delta; NULL: not wanted */
	int64		good;
	int64		bad;
	ErrorData  *last;
	Delta	   *done;			/* the good rows so far */
	bool		hopeless;		/* not a row's error, or too many */
} Bisection;

/* A part was applied: a view that joins the stream with itself has to know (join_applied.c). Frees the part. */
static void
add_done(Bisection *search, Delta *part)
{
	DeltaCursor cursor;
	Datum	   *values;
	bool	   *isnull;

	if (search->done == NULL)
		search->done = weir_delta_create(search->batch->rel, work_mem);
	weir_delta_open(&cursor, part);
	while (weir_delta_next(&cursor, &values, &isnull))
		weir_delta_put(search->done, values, isnull);
	weir_delta_close(&cursor);
	weir_delta_free(part);
}

/* Applies the rows [from, to), which failed together, as far as they can be. */
static void
bisect(Bisection *search, int64 from, int64 to)
{
	int64		middle = from + (to - from) / 2;
	int64		bounds[3] = {from, middle, to};

	check_stack_depth();
	for (int half = 0; half < 2 && !search->hopeless; half++)
	{
		int64		lo = bounds[half],
					hi = bounds[half + 1];
		Delta	   *part;
		ErrorData  *edata;

		if (lo == hi)
			continue;
		part = slice(search->batch, lo, hi);
		part->done = search->done;
		edata = try_view(search->batch, search->view, part);
		if (edata == NULL)
		{
			search->good += hi - lo;
			add_done(search, part);
			continue;
		}
		weir_delta_free(part);
		search->last = edata;
		if (!error_is_of_row(edata->sqlerrcode) || search->bad >= MAX_BAD_ROWS_PER_VIEW)
			search->hopeless = true;
		else if (hi - lo > 1)
			bisect(search, lo, hi);
		else
		{
			search->bad++;
			if (search->refused)
				search->refused[lo] = true;
			weir_dead_letter_add(search->batch->stream->relid,
								 search->view ? search->view->relid : InvalidOid,
								 &search->batch->msgs[search->batch->source[lo]],
								 edata->sqlerrcode, edata->message, edata->detail);
		}
	}
}

static void
fail_view(Batch *batch, View *view, ErrorData *edata)
{
	ListCell   *lc;

	for (int i = 0; i < batch->target->npartitions; i++)
	{
		BatchPartition *part = &batch->target->partitions[i];

		weir_position_detach_view(view->relid, batch->stream->relid, part->topic,
								  part->partition, part->first_offset);
	}
	foreach(lc, view->streams)
		weir_position_detach_inserts(view->relid, lfirst_oid(lc));
	weir_view_set_status(view->relid, VIEW_FAILED, edata->message);
	ereport(LOG,
			(errcode(edata->sqlerrcode),
			 errmsg("continuous view %s failed: %s", view->name, edata->message),
			 edata->detail ? errdetail("%s", edata->detail) : 0,
			 errhint("It keeps its position. When the cause is mended: SELECT weir.resume('%s');",
					 view->name)));
}

/* Batches of one row that a view refused one after the other (since its last success). */
typedef struct LoneFailures
{
	Oid			view;
	int			count;
} LoneFailures;

static LoneFailures lone_failures[16];

static int
count_lone_failure(Oid view, bool failed)
{
	LoneFailures *entry = &lone_failures[view % lengthof(lone_failures)];

	if (entry->view != view)
		*entry = (LoneFailures) {view, 0};
	entry->count = failed ? entry->count + 1 : 0;
	return entry->count;
}

static bool
has_unique_index(Oid relid)
{
	Relation	rel = table_open(relid, AccessShareLock);
	List	   *indexes = RelationGetIndexList(rel);
	bool		unique = false;
	ListCell   *lc;

	foreach(lc, indexes)
	{
		HeapTuple	tuple = SearchSysCache1(INDEXRELID, ObjectIdGetDatum(lfirst_oid(lc)));

		if (!HeapTupleIsValid(tuple))
			continue;
		unique |= ((Form_pg_index) GETSTRUCT(tuple))->indisunique;
		ReleaseSysCache(tuple);
	}
	table_close(rel, NoLock);
	return unique;
}

/*
 * Is the view's key not there yet? A dump restores indexes after the data, positions among it: workers
 * may begin before, and have to try again.
 */
static bool
lacks_key(View *view, ErrorData *edata)
{
	return edata->sqlerrcode == ERRCODE_INVALID_COLUMN_REFERENCE && strcmp(view->strategy, "combine") == 0 &&
		(!has_unique_index(view->relid) || (OidIsValid(view->state_relid) && !has_unique_index(view->state_relid)));
}

/*
 * isolate_bad_rows deals with a view that refused the whole delta: applies
 * what it can, in a subtransaction that is kept only if some row was good.
 */
static void
isolate_bad_rows(Batch *batch, View *view, ErrorData *edata)
{
	Bisection	search = {.batch = batch,.view = view,.last = edata};
	MemoryContext cxt = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	bool		keep;

	if (lacks_key(view, edata))
		ReThrowError(edata);
	if (!error_is_of_row(edata->sqlerrcode))
	{
		fail_view(batch, view, edata);
		return;
	}
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(cxt);
	bisect(&search, 0, batch->delta->nrows);
	if (batch->delta->nrows == 1)
		keep = count_lone_failure(view->relid, true) < MAX_LONE_FAILURES;
	else
		keep = !search.hopeless && search.good > 0;
	if (keep)
		ReleaseCurrentSubTransaction();
	else
		RollbackAndReleaseCurrentSubTransaction();
	MemoryContextSwitchTo(cxt);
	CurrentResourceOwner = owner;
	if (!keep)
		fail_view(batch, view, search.last);
	else
		weir_stat_view(view->relid, 0, 0, 0, search.bad, 0);
}

static void
apply_views(Batch *batch)
{
	ListCell   *lc;

	foreach(lc, batch->target->views)
	{
		View	   *view = weir_view_lock(lfirst_oid(lc));
		ErrorData  *edata;

		if (view == NULL)
			continue;			/* dropped meanwhile */
		edata = try_view(batch, view, batch->delta);
		if (edata)
			isolate_bad_rows(batch, view, edata);
		else if (batch->delta->nrows == 1)
			count_lone_failure(view->relid, false);
	}
}

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

/* ---- the stream's own triggers ---- */

/* Leaves out the rows of the delta that the triggers refused. */
static void
remove_refused(Batch *batch, const bool *refused)
{
	Delta	   *all = batch->delta;
	Delta	   *rest = weir_delta_create(batch->rel, weir_memory / 2);
	DeltaCursor cursor;
	Datum	   *values;
	bool	   *isnull;

	weir_delta_open(&cursor, all);
	for (int64 i = 0; weir_delta_next(&cursor, &values, &isnull); i++)
	{
		if (refused[i])
			continue;
		batch->source[rest->nrows] = batch->source[i];
		weir_delta_put(rest, values, isnull);
	}
	weir_delta_close(&cursor);
	weir_delta_free(all);
	batch->delta = rest;
}

/*
 * fire_triggers runs the stream's own triggers (foreign keys are such). Rows that they refuse are
 * dead letters; if they refuse all of several rows, or cannot run, the batch
 * is given up with the error: the worker shows it and tries again.
 */
static void
fire_triggers(Batch *batch)
{
	Bisection	search = {.batch = batch};
	ErrorData  *edata = try_view(batch, NULL, batch->delta);

	if (edata == NULL)
		return;
	if (!error_is_of_row(edata->sqlerrcode))
		ReThrowError(edata);
	search.refused = palloc0(sizeof(bool) * batch->delta->nrows);
	bisect(&search, 0, batch->delta->nrows);
	if (search.hopeless || (search.good == 0 && batch->delta->nrows > 1))
		ReThrowError(search.last);
	batch->result->bad += search.bad;
	remove_refused(batch, search.refused);
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
		fire_triggers(&batch);
	result->rows = batch.delta->nrows;
	if (batch.delta->nrows > 0)
	{
		if (target->keep_rows)
			weir_segments_keep(stream, batch.delta, false);
		apply_views(&batch);
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
