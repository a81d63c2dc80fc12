/*
 * catch_up.c
 *	  Views that fell behind their stream read what they missed, until they follow again.
 *
 * A view that was paused, failed or is being backfilled has a position of its
 * own for each partition (weir.view_position) and is left out of the stream's
 * batches. Once it runs, this worker's partitions are read a second time (replay.c), from
 * the lowest such position, and applied to these views only, each view from where it stands up to
 * the stream's position. In the same transaction its row moves on, or goes when it has come to the
 * stream's position: from the next batch on the view is one of the stream's again.
 *
 * That is exact because a partition has one reader: between two of its
 * batches the stream's position cannot move. It is locked and compared all the same.
 */
#include "worker/worker.h"

#include "catalog/view.h"
#include "compat.h"
#include "delta/ingest.h"
#include "pgstat.h"
#include "storage/lmgr.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "worker/shared.h"

#define OPEN_RETRY	2000		/* ms until catching up is tried again after the brokers did not answer */

/* One detached position of a running view, at a partition of this worker. */
typedef struct Behind
{
	DetachedView *detached;		/* in reader->detached */
	Partition  *part;			/* the stream's */
	int64		reached;		/* where the view stands after this batch */
	TimestampTz stream_time;
	bool		attach;
} Behind;

typedef struct CatchUp
{
	Reader	   *reader;
	Replay	   *replay;
	List	   *behind;			/* of Behind * */
	bool		stale;			/* the catalog has changed, or a position */
} CatchUp;

static bool
is_running(Reader *reader, Oid view)
{
	ListCell   *lc;

	foreach(lc, reader->views)
	{
		ReaderView *entry = lfirst(lc);

		if (entry->view == view)
			return entry->running;
	}
	return false;
}

/* What has to catch up here and now. */
static List *
find_behind(Reader *reader)
{
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, reader->detached)
	{
		DetachedView *detached = lfirst(lc);
		Partition  *part = weir_reader_partition(reader, detached->topic, detached->partition);
		Behind	   *behind;

		if (part == NULL || part->failed || !is_running(reader, detached->view))
			continue;
		behind = palloc0(sizeof(Behind));
		behind->detached = detached;
		behind->part = part;
		behind->reached = detached->next_offset;
		result = lappend(result, behind);
	}
	return result;
}

/*----------------------------------------------------------------------
 * Opening
 *----------------------------------------------------------------------*/

typedef struct ViewFailure
{
	Oid			stream;
	Oid			view;
	char	   *message;
} ViewFailure;

static bool
fail_view_body(void *arg)
{
	ViewFailure *failure = arg;

	LockRelationOid(failure->stream, RowExclusiveLock);
	if (weir_view_get(failure->view) != NULL)
		weir_view_set_status(failure->view, VIEW_FAILED, failure->message);
	return true;
}

/* Messages that a view still needs are gone: it cannot become right any more by itself. */
static void
fail_view(Reader *reader, Behind *behind, int64 low)
{
	ViewFailure failure = {reader->stream, behind->detached->view, NULL};

	failure.message = psprintf("cannot catch up: offset " INT64_FORMAT " of topic \"%s\", partition %d has been deleted (the log begins at " INT64_FORMAT ")",
							   behind->detached->next_offset, behind->detached->topic,
							   behind->detached->partition, low);
	ereport(LOG, (errmsg("stream %s: a view %s", reader->name, failure.message)));
	(void) weir_worker_transaction(fail_view_body, &failure, &reader->last_error, reader->cxt);
}

/* Adds the partition to the replay, or lowers its start. */
static void
plan_replay(Replay *replay, Behind *behind)
{
	ReplayPartition *part = weir_replay_partition(replay, behind->detached->topic,
												  behind->detached->partition);
	int64		start = Min(behind->detached->start, behind->part->saved.next_offset);

	if (part == NULL)
		weir_replay_add(replay, behind->detached->topic, behind->detached->partition,
						start, PG_INT64_MAX);
	else
		part->start = part->read_offset = Min(part->start, start);
}

/* Returns false if not now; a timer is set, or a reload will follow. */
static bool
open_catch_up(Reader *reader, List *all_behind)
{
	Replay	   *replay = weir_replay_create(reader);
	char	   *error = NULL;
	ListCell   *lc;

	reader->catch_up = replay;
	foreach(lc, all_behind)
	{
		Behind	   *behind = lfirst(lc);
		int64		low,
					high;

		if (!weir_topics_ends(reader, behind->detached->topic, behind->detached->partition,
							  &low, &high, &error))
			goto failed;
		behind->detached->start = Max(behind->detached->next_offset, low);
		if (behind->detached->next_offset < low && behind->detached->next_offset >= 0)
		{
			fail_view(reader, behind, low);
			worker.reload = true;
			goto failed;
		}
		plan_replay(replay, behind);
	}
	if (weir_replay_open(reader, replay, &error))
		return true;

failed:
	weir_catch_up_close(reader);
	reader->catch_up_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), OPEN_RETRY);
	return false;
}

void
weir_catch_up_close(Reader *reader)
{
	if (reader->catch_up != NULL)
		weir_replay_close(reader->catch_up);
	reader->catch_up = NULL;
	reader->catch_up_at = 0;
}

/*----------------------------------------------------------------------
 * A batch of what was missed
 *----------------------------------------------------------------------*/

/* All that one view has to do in this batch. */
typedef struct ViewWork
{
	Oid			view;
	List	   *behind;			/* of Behind * */
} ViewWork;

static List *
group_by_view(List *all_behind)
{
	List	   *result = NIL;
	ViewWork   *work = NULL;
	ListCell   *lc;

	foreach(lc, all_behind)		/* weir_positions_detached sorts by view */
	{
		Behind	   *behind = lfirst(lc);

		if (work == NULL || work->view != behind->detached->view)
		{
			work = palloc0(sizeof(ViewWork));
			work->view = behind->detached->view;
			result = lappend(result, work);
		}
		work->behind = lappend(work->behind, behind);
	}
	return result;
}

/* The messages in hand that this view has missed. */
static WeirMessage *
select_missed(Replay *replay, List *all_behind, int *count)
{
	int			n;
	const WeirMessage *msgs = weir_kafka_batch_messages(replay->batch, &n);
	WeirMessage *result = palloc(sizeof(WeirMessage) * Max(n, 1));

	*count = 0;
	for (int i = 0; i < replay->nnoted; i++)
	{
		ListCell   *lc;

		foreach(lc, all_behind)
		{
			Behind	   *behind = lfirst(lc);

			if (msgs[i].partition == behind->detached->partition &&
				msgs[i].offset >= behind->detached->next_offset &&
				msgs[i].offset < behind->part->saved.next_offset &&
				strcmp(msgs[i].topic, behind->detached->topic) == 0)
				result[(*count)++] = msgs[i];
		}
	}
	return result;
}

/* Applies what one view has missed and moves its positions. */
static void
work_on_view(CatchUp *catch_up, Stream *stream, ViewWork *work)
{
	IngestTarget target = {.again = true, .views = list_make1_oid(work->view)};
	IngestResult result = {0};
	int			n;
	WeirMessage *msgs = select_missed(catch_up->replay, work->behind, &n);
	View	   *view;
	ListCell   *lc;

	target.partitions = palloc0(sizeof(BatchPartition) * list_length(work->behind));
	foreach(lc, work->behind)
	{
		Behind	   *behind = lfirst(lc);
		BatchPartition *part = &target.partitions[target.npartitions++];

		part->topic = behind->detached->topic;
		part->partition = behind->detached->partition;
		part->first_offset = Max(behind->detached->next_offset, behind->detached->start);
		part->stream_time = behind->detached->stream_time;
	}
	n = weir_replay_drop_letters(stream->relid, msgs, n);
	if (n > 0)
		weir_ingest_messages(stream, msgs, n, &target, &result);
	view = weir_view_get(work->view);
	if (view == NULL || view->status != VIEW_RUNNING)
		return;					/* it has failed: stays where it was, a reload follows */

	foreach(lc, work->behind)
	{
		Behind	   *behind = lfirst(lc);
		ReplayPartition *part = weir_replay_partition(catch_up->replay, behind->detached->topic,
													  behind->detached->partition);

		behind->reached = Max(behind->detached->next_offset,
							  Min(part->read_offset, behind->part->saved.next_offset));
		behind->attach = behind->reached >= behind->part->saved.next_offset;
		behind->stream_time = target.partitions[foreach_current_index(lc)].stream_time;
		if (behind->attach || behind->reached > behind->detached->next_offset)
			weir_position_move_view(stream->relid, behind->detached, behind->reached,
									behind->stream_time, behind->attach);
		if (behind->attach && OidIsValid(view->replaces))
			weir_catalog_changed(); /* it may take its place now: swapper.c */
	}
}

/* Locks the stream's positions of the partitions concerned. */
static bool
lock_positions(CatchUp *catch_up)
{
	SavedPosition *positions = palloc(sizeof(SavedPosition) * list_length(catch_up->replay->partitions));
	int			n = 0;
	ListCell   *lc;

	foreach(lc, catch_up->replay->partitions)
	{
		ReplayPartition *part = lfirst(lc);
		Partition  *own = weir_reader_partition(catch_up->reader, part->topic, part->partition);

		if (own != NULL)
			positions[n++] = own->saved;
	}
	return weir_positions_lock(catch_up->reader->stream, positions, n);
}

static bool
catch_up_body(void *arg)
{
	CatchUp    *catch_up = arg;
	Reader	   *reader = catch_up->reader;
	Stream	   *stream;
	ListCell   *lc;

	pgstat_report_activity(STATE_RUNNING,
						   psprintf("stream %s: views catch up, %d messages", reader->name,
									catch_up->replay->nnoted));
	LockRelationOid(reader->stream, RowExclusiveLock);
	stream = weir_generation() == worker.generation ? weir_stream_get(reader->stream) : NULL;
	if (stream == NULL || !lock_positions(catch_up))
	{
		catch_up->stale = true;
		return false;
	}
	foreach(lc, group_by_view(catch_up->behind))
		work_on_view(catch_up, stream, lfirst(lc));
	return true;
}

/* Takes over in memory what was committed. */
static void
finish(CatchUp *catch_up)
{
	ListCell   *lc;

	foreach(lc, catch_up->behind)
	{
		Behind	   *behind = lfirst(lc);

		if (behind->attach)
			catch_up->reader->detached = list_delete_ptr(catch_up->reader->detached,
														 behind->detached);
		else if (behind->reached > behind->detached->next_offset)
		{
			behind->detached->next_offset = behind->reached;
			behind->detached->stream_time = behind->stream_time;
		}
	}
	weir_replay_applied(catch_up->replay);
	weir_progress_broadcast();
}

/* A partition whose replay stands still for good is begun anew, which finds out why. */
static bool
has_gone(Replay *replay)
{
	ListCell   *lc;

	foreach(lc, replay->partitions)
		if (((ReplayPartition *) lfirst(lc))->gone)
			return true;
	return false;
}

void
weir_catch_up_run(Reader *reader)
{
	CatchUp		catch_up = {.reader = reader};

	if (reader->detached == NIL)
	{
		if (reader->catch_up != NULL)
			weir_catch_up_close(reader);
		return;
	}
	catch_up.behind = find_behind(reader);
	if (catch_up.behind == NIL)
	{
		if (reader->catch_up != NULL)
			weir_catch_up_close(reader);
		return;
	}
	if (reader->catch_up == NULL)
	{
		if (reader->catch_up_at > GetCurrentTimestamp() ||
			!open_catch_up(reader, catch_up.behind))
			return;
	}
	catch_up.replay = reader->catch_up;
	weir_replay_gather(reader, catch_up.replay);
	if (has_gone(catch_up.replay))
	{
		weir_catch_up_close(reader);
		reader->catch_up_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), OPEN_RETRY);
		return;
	}
	if (!catch_up.replay->news)
		return;
	if (weir_worker_transaction(catch_up_body, &catch_up, &reader->last_error, reader->cxt))
		finish(&catch_up);
	else
	{
		worker.reload |= catch_up.stale;
		weir_replay_failed(catch_up.replay);
	}
}
