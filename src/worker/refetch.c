/*
 * refetch.c
 *	  Kept rows that a crash has emptied are read again from Kafka.
 *
 * An unlogged stream loses its rows when the server crashes, and weir.marker,
 * unlogged too, its row for the stream: that is how it is noticed. One
 * worker (the one of partition 0 of topic '') reads all partitions again, from
 * weir.keep before the highest stream time up to the positions, and keeps the rows; views and
 * positions are not touched, dead letters not written again. Nothing new of the stream is applied
 * meanwhile. At the end the marker is there again, which wakes the other workers.
 *
 * A worker that is ended half-way leaves no marker, so it all begins again,
 * with the removal of what was fetched. Rows that were INSERTed cannot come
 * back; those INSERTed since the crash stay.
 */
#include "worker/worker.h"

#include "catalog/catalog.h"
#include "compat.h"
#include "delta/ingest.h"
#include "pgstat.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "view/close.h"
#include "view/watermark.h"
#include "worker/shared.h"
#include "worker/shmem.h"

#define UNIX_EPOCH	((TimestampTz) (UNIX_EPOCH_JDATE - POSTGRES_EPOCH_JDATE) * USECS_PER_DAY)

typedef struct Refetch
{
	Reader	   *reader;
	MemoryContext cxt;			/* of positions */
	List	   *positions;		/* of SavedPosition * */
	TimestampTz oldest;			/* rows older than this are not kept; DT_NOBEGIN: no rows ever */
	bool		stale;
	bool		complete;		/* this is the last batch */
} Refetch;

/* Empties what is left of the kept rows and finds out what to read. */
static bool
prepare_body(void *arg)
{
	Refetch    *refetch = arg;
	Stream	   *stream;
	TimestampTz newest = DT_NOBEGIN;
	MemoryContext oldcxt;
	CatalogScope scope;
	ListCell   *lc;

	LockRelationOid(refetch->reader->stream, RowExclusiveLock);
	stream = weir_generation() == worker.generation ?
		weir_stream_get(refetch->reader->stream) : NULL;
	refetch->stale = stream == NULL;
	if (stream == NULL)
		return false;
	weir_catalog_open(&scope);
	weir_catalog_exec("DELETE FROM %s WHERE " WEIR_COL_PARTITION " >= 0",
					  weir_relation_name(stream->rows_relid));
	weir_catalog_close(&scope);

	oldcxt = MemoryContextSwitchTo(refetch->cxt);
	refetch->positions = weir_positions_load(stream->relid);
	MemoryContextSwitchTo(oldcxt);
	foreach(lc, refetch->positions)
		newest = Max(newest, ((SavedPosition *) lfirst(lc))->stream_time);
	refetch->oldest = weir_time_plus(newest, stream->keep, -1);
	if (newest != DT_NOBEGIN)
		refetch->oldest = Max(Min(refetch->oldest, Min(weir_close_needs_from(stream->relid), weir_join_needs_from(stream->relid))),
							  UNIX_EPOCH);
	return true;
}

/* Which partitions, from where, up to where. False with *error. */
static bool
plan_replay(Refetch *refetch, Replay *replay, char **error)
{
	KafkaConsumer *asker = weir_asker_get(refetch->reader, error);
	ListCell   *lc;

	if (asker == NULL)
		return false;
	foreach(lc, refetch->positions)
	{
		SavedPosition *pos = lfirst(lc);
		int64		start,
					low,
					high;

		if (pos->stream_time == DT_NOBEGIN)
			continue;
		if (!weir_topics_ends(refetch->reader, pos->topic, pos->partition, &low, &high, error) ||
			!weir_kafka_offset_for_time(asker, pos->topic, pos->partition,
										weir_epoch_ms(refetch->oldest), &start, 2000, error))
			return false;
		start = Max(start, low);
		if (start < pos->next_offset && pos->next_offset <= high)
			weir_replay_add(replay, pos->topic, pos->partition, start, pos->next_offset);
	}
	return true;
}

static void
begin(Reader *reader)
{
	Refetch		refetch = {.reader = reader, .cxt = worker.turn_cxt};
	char	   *error = NULL;

	reader->topics_at = 0;
	if (weir_worker_of_partition(reader->stream, "", 0) != worker.index)
	{
		weir_stat_share(reader->stream, worker.index, SHARE_WAITING,
						"kept rows are being fetched again");
		return;
	}
	if (reader->asked == 0)
		ereport(LOG,
				(errmsg("stream %s: kept rows were lost in a crash, fetching them again from Kafka",
						reader->name)));
	if (!weir_worker_transaction(prepare_body, &refetch, &reader->last_error, reader->cxt))
	{
		if (refetch.stale)
		{
			/* the catalog changed meanwhile: after the reload begin again */
			worker.reload = true;
			reader->topics_at = GetCurrentTimestamp();
		}
		else
			weir_reader_trouble(reader, reader->last_error);
		return;
	}
	reader->refetch = weir_replay_create(reader);
	if (!plan_replay(&refetch, reader->refetch, &error) ||
		!weir_replay_open(reader, reader->refetch, &error))
	{
		weir_refetch_close(reader);
		weir_reader_trouble(reader, error);
		return;
	}
	weir_stat_share(reader->stream, worker.index, SHARE_WAITING, "kept rows are being fetched again");
}

void
weir_refetch_close(Reader *reader)
{
	if (reader->refetch != NULL)
		weir_replay_close(reader->refetch);
	reader->refetch = NULL;
}

/* The messages in hand that were applied before; also says whether these are the last. */
static WeirMessage *
select_kept(Replay *replay, IngestTarget *target, int *count, bool *complete)
{
	int			n;
	const WeirMessage *msgs = weir_kafka_batch_messages(replay->batch, &n);
	WeirMessage *result = palloc(sizeof(WeirMessage) * Max(n, 1));
	ListCell   *lc;

	target->partitions = palloc0(sizeof(BatchPartition) * Max(list_length(replay->partitions), 1));
	*complete = true;
	foreach(lc, replay->partitions)
	{
		ReplayPartition *part = lfirst(lc);
		BatchPartition *to = &target->partitions[target->npartitions++];

		to->topic = part->topic;
		to->partition = part->partition;
		to->first_offset = part->start;
		to->stream_time = part->stream_time;
		*complete &= part->read_offset >= part->until || part->gone;
	}
	*count = 0;
	for (int i = 0; i < replay->nnoted; i++)
	{
		ReplayPartition *part = weir_replay_partition(replay, msgs[i].topic, msgs[i].partition);

		if (part != NULL && msgs[i].offset < part->until)
			result[(*count)++] = msgs[i];
	}
	return result;
}

static bool
refetch_body(void *arg)
{
	Refetch    *refetch = arg;
	Reader	   *reader = refetch->reader;
	IngestTarget target = {.keep_rows = true, .again = true};
	IngestResult result = {0};
	WeirMessage *msgs;
	Stream	   *stream;
	ListCell   *lc;
	int			n;

	pgstat_report_activity(STATE_RUNNING,
						   psprintf("stream %s: kept rows are read again, %d messages",
									reader->name, reader->refetch->nnoted));
	LockRelationOid(reader->stream, RowExclusiveLock);
	stream = weir_generation() == worker.generation ? weir_stream_get(reader->stream) : NULL;
	refetch->stale = stream == NULL;
	if (stream == NULL)
		return false;
	msgs = select_kept(reader->refetch, &target, &n, &refetch->complete);
	n = weir_replay_drop_letters(stream->relid, msgs, n);
	if (n > 0)
		weir_ingest_messages(stream, msgs, n, &target, &result);
	foreach(lc, reader->refetch->partitions)
		((ReplayPartition *) lfirst(lc))->stream_time =
			target.partitions[foreach_current_index(lc)].stream_time;
	if (refetch->complete)
		weir_marker_put(reader->stream);
	return true;
}

/* Its turn, instead of the reader's, while the stream's kept rows are incomplete. */
void
weir_refetch_run(Reader *reader)
{
	Refetch		refetch = {.reader = reader};
	Replay	   *replay;

	if (reader->refetch == NULL)
		begin(reader);
	replay = reader->refetch;
	if (replay == NULL)
		return;
	weir_replay_gather(reader, replay);
	if (!replay->news)
		return;
	if (weir_worker_transaction(refetch_body, &refetch, &reader->last_error, reader->cxt))
	{
		weir_replay_applied(replay);
		if (refetch.complete)
			worker.reload = true;	/* sees the marker and begins to read */
	}
	else
	{
		worker.reload |= refetch.stale;
		weir_replay_failed(replay);
	}
}
