/*
 * batch.c
 *	  One batch, one transaction: the place where each message counts exactly once.
 *
 * reader.c ⇒ here ⇒ delta/ingest.c, positions.c. In one transaction: lock the
 * stream (RowExclusive: DDL waits for us or we for it), see that the catalog
 * is the one we read, lock the positions and see that they are where the
 * batch begins, apply the messages, move the positions, commit. Only then
 * are the messages freed, statistics told, and offsets told to Kafka.
 *
 * After an error the transaction is gone with all its effects, the messages
 * are still in hand and are tried again, after 100 ms, then later and later. After a mismatch (somebody
 * else was here, or weir.seek) the messages are dropped and read again from the table's position.
 */
#include "worker/worker.h"

#include "compat.h"
#include "delta/ingest.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/lmgr.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "worker/shared.h"
#include "worker/shmem.h"

#define BACKOFF_MIN		100		/* ms until a failed batch is tried again */
#define BACKOFF_MAX		10000
#define LOCK_BACKOFF_MAX 500	/* ms; while somebody else holds the stream's lock */

typedef enum BatchOutcome
{
	BATCH_ERROR,				/* an error was raised: try again */
	BATCH_DONE,
	BATCH_LOCKED,				/* somebody holds the stream's lock: try again */
	BATCH_STALE,				/* catalog changed: reload, then try again */
	BATCH_MOVED					/* positions are not where the batch begins: start again from the table */
} BatchOutcome;

/* A batch on its way. All of it lives in the transaction's memory, except the outcome. */
typedef struct Batch
{
	Reader	   *reader;
	BatchOutcome outcome;
	int			nparts;
	Partition **parts;			/* those that move */
	SavedPosition *before;		/* their positions */
	SavedPosition *after;
	BatchPartition *targets;	/* in the same order */
	MemoryContext cxt;			/* worker.turn_cxt: outlives the transaction */
} Batch;

/* Collects the partitions that have messages or whose position moves over a hole. */
static void
collect_partitions(Batch *batch)
{
	Reader	   *reader = batch->reader;
	int			max = list_length(reader->partitions);
	ListCell   *lc;

	batch->parts = palloc(sizeof(Partition *) * max);
	batch->before = palloc(sizeof(SavedPosition) * max);
	batch->after = palloc(sizeof(SavedPosition) * max);
	batch->targets = palloc0(sizeof(BatchPartition) * max);
	foreach(lc, reader->partitions)
	{
		Partition  *part = lfirst(lc);
		int			i = batch->nparts;

		if (part->failed || part->read_offset <= part->saved.next_offset)
			continue;
		batch->parts[i] = part;
		batch->before[i] = part->saved;
		batch->targets[i].topic = part->saved.topic;
		batch->targets[i].partition = part->saved.partition;
		batch->targets[i].first_offset = part->saved.next_offset;
		batch->targets[i].stream_time = part->saved.stream_time;
		batch->nparts++;
	}
}

/* Is this view detached at the i-th partition of the batch? */
static bool
is_detached(Batch *batch, Oid view, int i)
{
	ListCell   *lc;

	foreach(lc, batch->reader->detached)
	{
		DetachedView *detached = lfirst(lc);

		if (detached->view == view &&
			detached->partition == batch->targets[i].partition &&
			strcmp(detached->topic, batch->targets[i].topic) == 0)
			return true;
	}
	return false;
}

/*
 * views_of returns the views to apply to the i-th partition. One that is not
 * running is left out, and its position is noted first, so that it can catch up.
 */
static List *
views_of(Batch *batch, int i)
{
	List	   *views = NIL;
	ListCell   *lc;

	foreach(lc, batch->reader->views)
	{
		ReaderView *view = lfirst(lc);

		if (is_detached(batch, view->view, i))
			continue;
		if (view->running)
			views = lappend_oid(views, view->view);
		else
			weir_position_detach_view(view->view, batch->reader->stream,
									  batch->targets[i].topic, batch->targets[i].partition,
									  batch->targets[i].first_offset);
	}
	return views;
}

/* The messages of partitions [from, to) of the batch that are to be applied, each once. */
static WeirMessage *
select_messages(Batch *batch, int from, int to, int *count)
{
	Reader	   *reader = batch->reader;
	int			n;
	const WeirMessage *msgs = weir_kafka_batch_messages(reader->batch, &n);
	WeirMessage *result = palloc(sizeof(WeirMessage) * Max(n, 1));
	int64	   *next = palloc(sizeof(int64) * Max(batch->nparts, 1));

	for (int i = from; i < to; i++)
		next[i] = batch->targets[i].first_offset;
	*count = 0;
	for (int m = 0; m < reader->nnoted; m++)
	{
		const WeirMessage *msg = &msgs[m];

		for (int i = from; i < to; i++)
		{
			BatchPartition *target = &batch->targets[i];

			if (msg->partition != target->partition || strcmp(msg->topic, target->topic) != 0)
				continue;
			if (msg->offset >= next[i])
			{
				result[(*count)++] = *msg;
				next[i] = msg->offset + 1;
			}
			break;
		}
	}
	return result;
}

static void
ingest(Batch *batch, Stream *stream, int from, int to, List *views)
{
	IngestTarget target = {0};
	IngestResult result = {0};
	const WeirMessage *msgs;
	int			n;

	target.keep_rows = true;
	target.views = views;
	target.partitions = &batch->targets[from];
	target.npartitions = to - from;
	if (from == 0 && to == batch->nparts && !batch->reader->filtered)
		msgs = weir_kafka_batch_messages(batch->reader->batch, &n);
	else
		msgs = select_messages(batch, from, to, &n);
	if (n > 0)
		weir_ingest_messages(stream, msgs, n, &target, &result);
}

/* Applies the messages; partitions that have not the same views one after the other. */
static void
apply_messages(Batch *batch, Stream *stream)
{
	List	   *views = NIL;
	bool		alike = true;
	List	  **each = palloc(sizeof(List *) * Max(batch->nparts, 1));

	for (int i = 0; i < batch->nparts; i++)
	{
		each[i] = views_of(batch, i);
		if (i == 0)
			views = each[i];
		alike &= equal(views, each[i]);
	}
	if (alike)
		ingest(batch, stream, 0, batch->nparts, views);
	else
		for (int i = 0; i < batch->nparts; i++)
			ingest(batch, stream, i, i + 1, each[i]);
}

/* Fills in where the partitions stand after the batch. */
static void
advance(Batch *batch)
{
	int			n;
	const WeirMessage *msgs = weir_kafka_batch_messages(batch->reader->batch, &n);

	for (int i = 0; i < batch->nparts; i++)
	{
		Partition  *part = batch->parts[i];
		SavedPosition *after = &batch->after[i];

		*after = part->saved;
		after->next_offset = part->read_offset;
		after->stream_time = Max(part->saved.stream_time, batch->targets[i].stream_time);
		if (part->nmsgs > 0)
		{
			after->last_offset = msgs[part->last].offset;
			after->fingerprint = (int64) weir_kafka_fingerprint(&msgs[part->last]);
		}
	}
}

/*
 * Locks the stream. A worker with several streams does not stand in the queue:
 * a lock that is held for minutes must not hold up the others.
 */
static bool
lock_stream(Reader *reader)
{
	if (list_length(worker.readers) > 1)
		return ConditionalLockRelationOid(reader->stream, RowExclusiveLock);
	LockRelationOid(reader->stream, RowExclusiveLock);
	return true;
}

static bool
batch_body(void *arg)
{
	Batch	   *batch = arg;
	Reader	   *reader = batch->reader;
	Stream	   *stream;

	pgstat_report_activity(STATE_RUNNING,
						   psprintf("stream %s: batch of %d messages", reader->name, reader->nmsgs));
	if (!lock_stream(reader))
	{
		batch->outcome = BATCH_LOCKED;
		return false;
	}
	stream = weir_generation() == worker.generation ? weir_stream_get(reader->stream) : NULL;
	if (stream == NULL)
	{
		batch->outcome = BATCH_STALE;
		return false;
	}
	if (!weir_positions_lock(reader->stream, batch->before, batch->nparts))
	{
		batch->outcome = BATCH_MOVED;
		return false;
	}
	if (reader->nmsgs > 0)
		apply_messages(batch, stream);
	advance(batch);
	weir_positions_save(reader->stream, batch->after, batch->nparts);
	return true;
}

/* The batch is committed: take over its positions, tell statistics and waiters, let go of the messages. */
static void
finish(Batch *batch)
{
	Reader	   *reader = batch->reader;

	for (int i = 0; i < batch->nparts; i++)
	{
		Partition  *part = batch->parts[i];
		BatchPartition *target = &batch->targets[i];

		part->saved = batch->after[i];
		weir_stat_ingest(reader->stream, target->topic, target->partition,
						 part->nmsgs - part->nulls - target->bad, part->bytes,
						 target->bad, part->nulls, part->saved.stream_time);
		weir_stat_position(reader->stream, target->topic, target->partition,
						   part->saved.next_offset);
		part->nmsgs = 0;
		part->bytes = part->nulls = 0;
	}
	weir_kafka_batch_reset(reader->batch);
	reader->nnoted = reader->nmsgs = 0;
	reader->filtered = false;
	if (reader->retry_at != 0)
		worker.fds_changed = true;
	reader->due_at = reader->retry_at = 0;
	reader->backoff = 0;
	reader->last_batch_at = GetCurrentTimestamp();
	weir_progress_broadcast();
}

/* The batch stays in hand and is tried again later; nothing is read until then. */
static void
retry_later(Batch *batch)
{
	Reader	   *reader = batch->reader;

	for (int i = 0; i < batch->nparts; i++)
		weir_stat_error(reader->stream, batch->parts[i]->saved.topic,
						batch->parts[i]->saved.partition,
						batch->outcome == BATCH_LOCKED ? "waits for a lock" : reader->last_error);
	reader->backoff = Min(Max(reader->backoff * 2, BACKOFF_MIN),
						  batch->outcome == BATCH_LOCKED ? LOCK_BACKOFF_MAX : BACKOFF_MAX);
	reader->retry_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), reader->backoff);
	worker.fds_changed = true;
}

void
weir_batch_apply(Reader *reader)
{
	Batch		batch = {.reader = reader, .cxt = worker.turn_cxt};
	bool		committed;

	if (!weir_verify_batch(reader))
		return;
	if (!weir_reader_has_work(reader))
	{
		/* nothing but messages of partitions that have failed just now */
		weir_kafka_batch_reset(reader->batch);
		reader->nnoted = 0;
		reader->filtered = false;
		reader->due_at = 0;
		return;
	}
	collect_partitions(&batch);
	committed = weir_worker_transaction(batch_body, &batch, &reader->last_error, reader->cxt);
	if (committed)
		finish(&batch);
	else if (batch.outcome == BATCH_STALE)
		worker.reload = true;	/* the batch stays in hand, if the reader does */
	else if (batch.outcome == BATCH_MOVED)
	{
		ereport(DEBUG1, (errmsg_internal("stream %s: positions were moved", reader->name)));
		weir_reader_restart(reader, 0);
	}
	else
		retry_later(&batch);
}
