/*
 * swapper.c
 *	  Views that weir.replace() built from the topic take the places of those they were made for.
 *
 * catch_up.c (the last partition is caught up: the catalog's generation is raised) ⇒ here ⇒ view/replace_topic.c.
 * The first worker of a database looks when the catalog has changed; each such view is one transaction. If locks
 * cannot be had within a second it tries again later, and later again: readers and writers come first.
 * No such view: no timer, and one look at the cache of the catalog per change of it.
 */
#include "worker/worker.h"

#include "miscadmin.h"
#include "utils/timestamp.h"
#include "view/replace.h"

#define BACKOFF_MIN	1000		/* ms */
#define BACKOFF_MAX	30000

static TimestampTz look_at = 0;	/* 0: when the catalog changes */
static int	backoff = 0;
static uint64 generation = PG_UINT64_MAX;

static bool
list_body(void *arg)
{
	List	   *ready = weir_replace_ready();
	MemoryContext old = MemoryContextSwitchTo(worker.turn_cxt);

	*(List **) arg = list_copy(ready);
	MemoryContextSwitchTo(old);
	return true;
}

static bool
finish_body(void *arg)
{
	weir_replace_finish(*(Oid *) arg);
	return true;
}

static void
look(void)
{
	static char *last_error = NULL;
	List	   *ready = NIL;
	bool		done = weir_worker_transaction(list_body, &ready, &last_error, worker.cxt);
	ListCell   *lc;

	foreach(lc, ready)
		done &= weir_worker_transaction(finish_body, &lfirst_oid(lc), &last_error, worker.cxt);
	backoff = done ? 0 : Min(Max(backoff * 2, BACKOFF_MIN), BACKOFF_MAX);
	look_at = done ? 0 : TimestampTzPlusMilliseconds(GetCurrentTimestamp(), backoff);
}

/* weir_swapper_run does what is due now. */
void
weir_swapper_run(void)
{
	if (worker.index != 0)
		return;
	if (generation == worker.generation && (look_at == 0 || look_at > GetCurrentTimestamp()))
		return;
	generation = worker.generation;
	look();
}

/* When to run it again; 0: when something happens. */
TimestampTz
weir_swapper_next_time(void)
{
	return look_at;
}
