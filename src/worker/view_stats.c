/*
 * view_stats.c
 *	  What a transaction has done to views, told to statistics when it commits.
 *
 * apply, ingest ⇒ view_stats ⇒ stats.c. Rows and late rows of a transaction or savepoint that is rolled back,
 * and of a batch that a worker tries again, have not been: weir.stat_views counts each row once.
 * Counts wait in the transaction's memory, per view and level of subtransaction.
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/memutils.h"
#include "worker/shmem.h"
#include "worker/shared.h"

typedef struct PendingCounts
{
	Oid			view;
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

static void
xact_ended(XactEvent event, void *arg)
{
	ListCell   *lc;

	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE)
		return;
	if (event != XACT_EVENT_ABORT)
	{
		foreach(lc, pending)
		{
			PendingCounts *entry = lfirst(lc);

			weir_stat_view_add(entry->view, &entry->counts);
		}
	}
	pending = NIL;
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

/* weir_stat_view counts what this transaction did to a view: nothing of it if it is rolled back. */
void
weir_stat_view(Oid view, int64 rows_in, int64 rows_changed, int64 late,
			   int64 dead_letters, int64 busy_us)
{
	static bool registered = false;
	ViewCounts	counts = {rows_in, rows_changed, late, dead_letters, 1, busy_us};
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
		entry->level = GetCurrentTransactionNestLevel();
		pending = lappend(pending, entry);
		MemoryContextSwitchTo(old);
	}
	add(&entry->counts, &counts);
}
