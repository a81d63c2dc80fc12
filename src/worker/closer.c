/*
 * closer.c
 *	  Windows that close by the clock, because their streams have gone quiet.
 *
 * The first worker of a database looks at each final view that has open windows,
 * at the time at which a partition may become idle or the watermark will have moved
 * far enough with the clock (view/close.c tells when). No such view: no timer. What sets the timer
 * again is a commit that left windows open (weir_request_maintenance), or a change of the catalog.
 * A view's look is one transaction. Before it, the broker is asked about partitions that have been silent so
 * long that they may be idle (view/watermark.c tells why).
 */
#include "worker/worker.h"

#include "catalog/view.h"
#include "miscadmin.h"
#include "utils/timestamp.h"
#include "view/close.h"
#include "view/watermark.h"
#include "worker/shmem.h"

#define FIRST_LOOK	100			/* ms after a commit that left windows open: others may follow at once */
#define ERROR_RETRY 2000		/* ms */

static TimestampTz close_at = 0;	/* 0: nothing is open, as far as is known */
static uint64 seen = 0;			/* Hub.maintenance */
static uint64 generation = PG_UINT64_MAX;

static bool
list_body(void *arg)
{
	MemoryContext old = MemoryContextSwitchTo(worker.turn_cxt);

	*(List **) arg = list_copy(weir_view_oids());
	MemoryContextSwitchTo(old);
	return true;
}

typedef struct Look
{
	Oid			view;
	TimestampTz next;
} Look;

static bool
look_body(void *arg)
{
	Look	   *look = arg;

	look->next = weir_close_due(look->view);
	return true;
}

/* Silent partitions of a view's streams, by what the reader of the stream knows. */
typedef struct Questions
{
	Oid			view;
	List	   *partitions;		/* of SilentPartition *, in worker.turn_cxt */
} Questions;

static bool
silent_body(void *arg)
{
	Questions  *questions = arg;
	View	   *view = weir_view_get(questions->view);
	MemoryContext old;

	if (!weir_watermark_matters(view))
		return true;
	old = MemoryContextSwitchTo(worker.turn_cxt);
	questions->partitions = weir_watermark_silent(view);
	MemoryContextSwitchTo(old);
	return true;
}

static Reader *
reader_of(Oid stream)
{
	ListCell   *lc;

	foreach(lc, worker.readers)
	{
		if (((Reader *) lfirst(lc))->stream == stream)
			return lfirst(lc);
	}
	return NULL;
}

/*
 * ask_about_silence asks the broker whether silent partitions really have nothing more. What it
 * says is noted for everybody; if it does not answer, they do not count as idle, and their silence
 * begins anew when it does: producers need time to come back, too.
 */
static void
ask_about_silence(Oid view)
{
	static char *last_error = NULL;
	Questions	questions = {view, NIL};
	bool		away = false;
	ListCell   *lc;

	if (!weir_worker_transaction(silent_body, &questions, &last_error, worker.cxt))
		return;
	foreach(lc, questions.partitions)
	{
		SilentPartition *silent = lfirst(lc);
		Reader	   *reader = reader_of(silent->stream);
		int64		low,
					high;
		char	   *error = NULL;

		if (reader == NULL)
			continue;
		away = away || !weir_topics_ends(reader, silent->topic, silent->partition, &low, &high, &error);
		if (away)
			weir_stat_doubt(silent->stream, silent->topic, silent->partition);
		else
			weir_stat_high(silent->stream, silent->topic, silent->partition, high);
	}
}

static void
look_at_views(void)
{
	static char *last_error = NULL;
	List	   *views = NIL;
	ListCell   *lc;

	close_at = 0;
	if (!weir_worker_transaction(list_body, &views, &last_error, worker.cxt))
	{
		close_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ERROR_RETRY);
		return;
	}
	foreach(lc, views)
	{
		Look		look = {lfirst_oid(lc), 0};

		ask_about_silence(look.view);
		if (!weir_worker_transaction(look_body, &look, &last_error, worker.cxt))
			look.next = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ERROR_RETRY);
		if (look.next != 0 && (close_at == 0 || look.next < close_at))
			close_at = look.next;
	}
}

/* weir_closer_run does what is due now. */
void
weir_closer_run(void)
{
	uint64		commits = pg_atomic_read_u64(&weir_hub(MyDatabaseId)->maintenance);

	if (worker.index != 0)
		return;
	if (generation != worker.generation)
	{
		generation = worker.generation;
		close_at = GetCurrentTimestamp();
	}
	if (commits != seen && close_at == 0)
		close_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), FIRST_LOOK);
	seen = commits;
	if (close_at != 0 && close_at <= GetCurrentTimestamp())
		look_at_views();
}

/* When to run it again; 0: when something happens. */
TimestampTz
weir_closer_next_time(void)
{
	return close_at;
}
