/*
 * view_stats.c
 *	  What a transaction has done to views, and INSERTed into streams, told to statistics when it commits.
 *
 * apply, ingest ⇒ view_stats ⇒ stats.c. Rows and late rows of a transaction or savepoint that is rolled back,
 * and of a batch that a worker tries again, have not been: weir.stat_views counts each row once.
 * Counts wait in the transaction's memory, per view or stream and level of subtransaction.
 */
#include "postgres.h"

#include "access/xact.h"
#include "expire/expire.h"
#include "utils/memutils.h"
#include "worker/shmem.h"
#include "worker/shared.h"

typedef struct PendingCounts
{
	Oid			view;			/* or stream: rows_in and stream_time of what was INSERTed */
	bool		is_stream;
	int			level;			/* of the subtransaction */
	ViewCounts	counts;
} PendingCounts;

static List *pending = NIL;		/* of PendingCounts *, in TopTransactionContext */

static void
add(ViewCounts *to, const ViewCounts *from)
{
	to->rows_in += from->rows_in;
	to->rows_changed += from->rows_changed;
	to->late += from->late;
	to->dead_letters += from->dead_letters;
	to->batches += from->batches;
	to->busy_us += from->busy_us;
	if (from->stream_time != 0 && (to->stream_time == 0 || to->stream_time < from->stream_time))
		to->stream_time = from->stream_time;
}

static PendingCounts *
find(Oid view, int level)
{
	ListCell   *lc;

	foreach(lc, pending)
	{
		PendingCounts *entry = lfirst(lc);

		if (entry->view == view && entry->level == level)
			return entry;
	}
	return NULL;
}

/* Tells the counts of a transaction that has committed, or is prepared. True if rows of views may have become too old. */
static bool
tell(PendingCounts *entry, bool prepared)
{
	if (entry->is_stream)
	{
		weir_stat_ingest(entry->view, WEIR_INSERT_TOPIC, WEIR_INSERT_PARTITION, entry->counts.rows_in, 0, 0, 0,
						 prepared ? DT_NOBEGIN : entry->counts.stream_time);
		return false;
	}
	if (prepared)
		entry->counts.stream_time = 0;	/* it may still be rolled back, and what expired would be gone */
	weir_stat_view_add(entry->view, &entry->counts);
	return entry->counts.stream_time != 0;
}

static void
xact_ended(XactEvent event, void *arg)
{
	bool		expires = false;
	ListCell   *lc;

	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE)
		return;
	if (event != XACT_EVENT_ABORT)
	{
		foreach(lc, pending)
			expires |= tell(lfirst(lc), event == XACT_EVENT_PREPARE);
	}
	pending = NIL;
	if (expires)
		weir_expire_tell(DT_NOBEGIN);	/* rows of views may have become too old */
}

static void
subxact_ended(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *arg)
{
	int			level = GetCurrentTransactionNestLevel();
	ListCell   *lc;

	if (event != SUBXACT_EVENT_COMMIT_SUB && event != SUBXACT_EVENT_ABORT_SUB)
		return;
	foreach(lc, pending)
	{
		PendingCounts *entry = lfirst(lc);
		PendingCounts *outer;

		if (entry->level < level)
			continue;
		outer = event == SUBXACT_EVENT_COMMIT_SUB ? find(entry->view, level - 1) : NULL;
		if (outer)
			add(&outer->counts, &entry->counts);
		if (outer == NULL && event == SUBXACT_EVENT_COMMIT_SUB)
			entry->level = level - 1;
		else
			pending = foreach_delete_current(pending, lc);
	}
}

/* weir_stat_unnote forgets what waits for the commit, of a stream or view that is dropped. */
void
weir_stat_unnote(Oid relid)
{
	ListCell   *lc;

	foreach(lc, pending)
	{
		if (((PendingCounts *) lfirst(lc))->view == relid)
			pending = foreach_delete_current(pending, lc);
	}
}

static void
note(Oid view, bool is_stream, const ViewCounts *counts)
{
	static bool registered = false;
	PendingCounts *entry = find(view, GetCurrentTransactionNestLevel());

	if (weir_shared == NULL)
		return;
	if (!registered)
	{
		RegisterXactCallback(xact_ended, NULL);
		RegisterSubXactCallback(subxact_ended, NULL);
		registered = true;
	}
	if (entry == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(TopTransactionContext);

		entry = palloc0(sizeof(PendingCounts));
		entry->view = view;
		entry->is_stream = is_stream;
		entry->level = GetCurrentTransactionNestLevel();
		pending = lappend(pending, entry);
		MemoryContextSwitchTo(old);
	}
	add(&entry->counts, counts);
}

/* weir_stat_view counts what this transaction did to a view: nothing of it if it is rolled back. */
void
weir_stat_view(Oid view, int64 rows_in, int64 rows_changed, int64 late,
			   int64 dead_letters, int64 busy_us)
{
	ViewCounts	counts = {rows_in, rows_changed, late, dead_letters, 1, busy_us};

	note(view, false, &counts);
}

/* weir_stat_view_time tells, once this transaction is committed, how far a batch has brought a view. */
void
weir_stat_view_time(Oid view, TimestampTz stream_time)
{
	ViewCounts	counts = {.stream_time = stream_time};

	note(view, false, &counts);
}

/*
 * weir_stat_inserted counts rows INSERTed into a stream: nothing of it if they are rolled back. That
 * something came is told at once, so that the stream is not idle when they are there.
 */
void
weir_stat_inserted(Oid stream, int64 rows, TimestampTz stream_time)
{
	ViewCounts	counts = {.rows_in = rows,.stream_time = stream_time};

	weir_stat_heard(stream, WEIR_INSERT_TOPIC, WEIR_INSERT_PARTITION);
	note(stream, true, &counts);
}
