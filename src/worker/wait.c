/*
 * wait.c
 *	  weir.wait(): returns when all that the topics held at the call is in the views.
 *
 * Runs in a session; reads no data through its transaction's snapshot. It
 * raises the database's request number and wakes the workers; each asks the
 * brokers where its partitions end now (under read_committed: the last stable offset),
 * writes that as target beside the request number, and says for each stream when it is
 * through with all of its partitions, new ones included (topics.c). Answers count only if they are of
 * one pool: when weir.workers changes, a worker that is about to leave answers for the partitions of its old share. From
 * then on the session compares positions with its own copy of the targets:
 * later requests cannot move them. Positions pass holes in the log, since
 * workers move them to the end that the broker tells.
 *
 * Of a view its streams are waited for, and then until no other is about to take its place (weir.replace from
 * the topic). Whoever waits for a stream does not wait for such a one: it is nobody's view yet.
 *
 * Sleeps on the database's condition variable; every commit of a batch,
 * every answer and every catalog change broadcasts it.
 */
#include "worker/shmem.h"

#include "catalog/catalog.h"
#include "catalog/stream.h"
#include "catalog/view.h"
#include "compat.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"
#include "view/replace.h"
#include "worker/shared.h"

PG_FUNCTION_INFO_V1(weir_wait);

/* One stream that is waited for. */
typedef struct StreamWait
{
	Oid			stream;
	bool		answered;		/* targets are known */
	List	   *targets;		/* of WaitTarget * */
} StreamWait;

/* Raises if something stands still that the wait would have to wait for. */
static void
check_standing(Stream *stream)
{
	ListCell   *lc;

	if (stream->error != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("stream %s has failed", stream->name),
				 errdetail("%s", stream->error),
				 errhint("SELECT weir.resume('%s') tries again; SELECT weir.seek('%s', 'earliest', rebuild => true) reads the topic afresh.",
						 stream->name, stream->name)));
	if (stream->paused)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("stream %s is paused", stream->name),
				 errhint("SELECT weir.resume('%s');", stream->name)));
	foreach(lc, weir_view_oids_over(stream->relid))
	{
		View	   *view = weir_view_get(lfirst_oid(lc));

		if (view == NULL || view->status == VIEW_RUNNING || OidIsValid(view->replaces))
			continue;
		if (view->status == VIEW_PAUSED)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("view %s is paused", view->name),
					 errhint("SELECT weir.resume('%s');", view->name)));
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("view %s has failed", view->name),
				 view->error ? errdetail("%s", view->error) : 0,
				 errhint("SELECT weir.resume('%s') tries again.", view->name)));
	}
}

/* Have the stream's partitions reached what they held at the call? */
static bool
positions_reached(StreamWait *wait)
{
	ListCell   *lc;

	foreach(lc, wait->targets)
	{
		WaitTarget *target = lfirst(lc);

		target->position = weir_stat_applied(wait->stream, target->topic, target->partition);
		if (target->position < target->target)
			return false;
	}
	return true;
}

/* Are all views past the targets, too? Reads the latest committed state. */
static bool
views_caught_up(StreamWait *wait)
{
	CatalogScope scope;
	ListCell   *lc;
	bool		behind = false;

	weir_catalog_open(&scope);
	PushActiveSnapshot(GetLatestSnapshot());
	foreach(lc, wait->targets)
	{
		WaitTarget *target = lfirst(lc);
		char	   *sql = psprintf("SELECT 1 FROM weir.view_position WHERE stream = %u AND topic = %s"
								   " AND partition = %d AND next_offset < " INT64_FORMAT
								   " AND view NOT IN (SELECT d.view FROM weir.view_def d WHERE d.replaces IS NOT NULL)",
								   wait->stream, quote_literal_cstr(target->topic),
								   target->partition, target->target);

		if (SPI_execute(sql, true, 1) != SPI_OK_SELECT)
			elog(ERROR, "could not read weir.view_position");
		behind |= SPI_processed > 0;
	}
	PopActiveSnapshot();
	weir_catalog_close(&scope);
	return !behind;
}

/* Is a stream done? Raises if it cannot become so. */
static bool
stream_reached(StreamWait *wait, uint64 request)
{
	Stream	   *stream = weir_stream_get(wait->stream);

	if (stream == NULL)
		return true;			/* dropped meanwhile */
	check_standing(stream);
	if (stream->server == NULL)
		return true;			/* committed inserts are in the views */
	if (!wait->answered)
		wait->answered = weir_stat_targets(wait->stream,
										   pg_atomic_read_u32(&weir_shared->nworkers),
										   request, &wait->targets);
	return wait->answered && positions_reached(wait) && views_caught_up(wait);
}

/* Is nothing about to take the place of this view? Raises if that has failed. */
static bool
replaced(Oid view)
{
	View	   *beside = weir_replace_pending(view);

	if (beside == NULL)
		return true;
	if (beside->status == VIEW_RUNNING)
		return false;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("view %s is %s and cannot take the place of %s", beside->name,
					beside->status == VIEW_PAUSED ? "paused" : "failed", weir_relation_name(view)),
			 beside->error ? errdetail("%s", beside->error) : 0,
			 errhint("SELECT weir.resume('%s') tries again, DROP MATERIALIZED VIEW %s gives it up.",
					 beside->name, beside->name)));
}

static int
count_workers(void)
{
	int			n = 0;

	LWLockAcquire(weir_shared->lock, LW_SHARED);
	for (int i = 0; i < weir_shared->nslots; i++)
		n += weir_shared->slots[i].dboid == MyDatabaseId &&
			weir_shared->slots[i].state == WORKER_RUNNING;
	LWLockRelease(weir_shared->lock);
	return n;
}

/* Says what a stream is still waiting for. */
static char *
describe_missing(StreamWait *wait)
{
	char	   *error = weir_stat_share_error(wait->stream);
	ListCell   *lc;

	if (count_workers() == 0)
		return pstrdup("No worker of weir is running in this database.");
	if (error != NULL)
		return psprintf("The worker reports: %s.", error);
	if (pg_atomic_read_u64(&weir_shared->untracked) > 0)
		return pstrdup("Some partitions found no room in the statistics: weir.max_partitions is too low.");
	if (!wait->answered)
		return pstrdup("The worker has not answered where the topics end.");
	foreach(lc, wait->targets)
	{
		WaitTarget *target = lfirst(lc);

		if (target->position < target->target)
			return psprintf("Topic \"%s\", partition %d is at offset " INT64_FORMAT ", and held messages up to " INT64_FORMAT ".",
							target->topic, target->partition, target->position, target->target);
	}
	return pstrdup("A view has not caught up yet.");
}

static void
raise_timeout(StreamWait *wait)
{
	ereport(ERROR,
			(errcode(ERRCODE_QUERY_CANCELED),
			 errmsg("timeout while waiting for stream %s", weir_relation_name(wait->stream)),
			 errdetail("%s", describe_missing(wait)),
			 count_workers() == 0 ?
			 errhint("See that weir.enabled is on and max_worker_processes is high enough, and look into the server's log.") :
			 errhint("SELECT * FROM weir.streams; SELECT * FROM weir.stat_streams; show what is going on.")));
}

static void
raise_replace_timeout(Oid view)
{
	ereport(ERROR,
			(errcode(ERRCODE_QUERY_CANCELED),
			 errmsg("timeout while waiting for the new query of continuous view %s", weir_relation_name(view)),
			 errhint("SELECT * FROM weir.views WHERE replaces = '%s'::regclass; shows how far it is.", weir_relation_name(view))));
}

/* Sleeps until something has moved; false: the time is up. */
static bool
sleep_on(Hub *hub, TimestampTz deadline)
{
	long		ms = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), deadline);

	CHECK_FOR_INTERRUPTS();
	if (ms <= 0)
		return false;
	ConditionVariableTimedSleep(&hub->progress, ms, PG_WAIT_EXTENSION);
	return true;
}

static TimestampTz
deadline_of(Interval *timeout)
{
	return DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval,
												   TimestampTzGetDatum(GetCurrentTimestamp()),
												   IntervalPGetDatum(timeout)));
}

/* weir.wait(stream or view regclass, timeout interval) → void */
Datum
weir_wait(PG_FUNCTION_ARGS)
{
	List	   *streams = NIL;
	TimestampTz deadline;
	Hub		   *hub;
	uint64		request;
	Oid			view = InvalidOid;
	ListCell   *lc;

	if (PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("timeout must not be null")));
	deadline = deadline_of(PG_GETARG_INTERVAL_P(1));
	if (!PG_ARGISNULL(0) && weir_view_get(PG_GETARG_OID(0)))
		view = PG_GETARG_OID(0);
	foreach(lc, PG_ARGISNULL(0) ? weir_stream_oids() :
			OidIsValid(view) ? weir_view_base_streams(weir_view_require(view)) :
			list_make1_oid(weir_stream_require(PG_GETARG_OID(0))->relid))
	{
		StreamWait *wait = palloc0(sizeof(StreamWait));

		wait->stream = lfirst_oid(lc);
		streams = lappend(streams, wait);
	}
	weir_check_preloaded();

	hub = weir_hub(MyDatabaseId);
	request = pg_atomic_add_fetch_u64(&hub->request, 1);
	weir_wake_workers(MyDatabaseId);
	ConditionVariablePrepareToSleep(&hub->progress);
	foreach(lc, streams)
	{
		StreamWait *wait = lfirst(lc);

		while (!stream_reached(wait, request))
		{
			if (!sleep_on(hub, deadline))
				raise_timeout(wait);
		}
	}
	while (OidIsValid(view) && !replaced(view))
	{
		if (!sleep_on(hub, deadline))
			raise_replace_timeout(view);
	}
	ConditionVariableCancelSleep();
	PG_RETURN_VOID();
}
