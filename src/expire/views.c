/*
 * views.c
 *	  Rows of continuous views that weir.keep no longer covers, deleted by the expirer.
 *
 * apply tells of a view whose stream time has moved on ⇒ expirer ⇒ views. What is due goes in pieces of at
 * most PIECE_ROWS rows, a transaction each, oldest first by the index on the column that weir.keep goes by; so neither
 * a worker nor a session that INSERTs pays for it, no reader waits, and vacuum can make room for the next
 * rows between two pieces. Batches never touch these rows: windows that weir.keep no longer covers take none.
 *
 * A piece runs as the view's owner, with the view's settings; users' DELETE triggers and foreign keys see it. The states of
 * groups go with their rows. Views of sessions and views that other views read are left to their batches. If it raises, the view is left alone for a while and the error shown in the log.
 *
 * A segmented view (weir.segmented) loses whole slots instead: ring.c.
 *
 * How old is too old: behind the highest stream time that a committed batch of the view told, or that positions and kept
 * rows of its streams know; but nothing goes that a view above still has to close, and views above follow in the same
 * transaction. Locks: RowExclusive on the streams below and the view, tried only. Memory: worker.cxt for one entry per view.
 */
#include "expire/expire.h"

#include "catalog/catalog.h"
#include "catalog/stream.h"
#include "catalog/view.h"
#include "delta/segments.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "view/close.h"
#include "view/ring.h"
#include "view/shape.h"
#include "view/upstream.h"
#include "worker/shared.h"
#include "worker/worker.h"

#define PIECE_ROWS	10000		/* some 10 ms */
#define LOCKED_MS	500			/* the view is locked, by REFRESH or DROP */
#define PATIENCE_MS	10000		/* so long a slot that is needed again soon is tried, before its rows are deleted */
#define BACKOFF_MIN	1000		/* ms until a view whose rows could not be deleted is tried again */
#define BACKOFF_MAX	60000

typedef struct ExpiringView
{
	Oid			relid;
	bool		seen;
	TimestampTz look_at;		/* 0: when told */
	TimestampTz emptied;		/* nothing older is there, or due; DT_NOBEGIN: not known */
	bool		locked;			/* readers are in a slot that is due, */
	TimestampTz locked_since;	/* 0: not so */
	bool		known;			/* the next three are */
	bool		ring;			/* the table is (view/ring.h) */
	bool		sessions;		/* a view of sessions */
	int			state_key;		/* number of the column in the tables of states and values; 0: none */
	int			backoff;		/* ms */
	char	   *error;
} ExpiringView;

static List *views = NIL;		/* of ExpiringView *, in worker.cxt */

/* Is there a view with weir.keep in this database? Needs a transaction. */
bool
weir_expire_has_views(void)
{
	ListCell   *lc;

	foreach(lc, weir_view_oids())
	{
		View	   *view = weir_view_get(lfirst_oid(lc));

		if (view && view->keep && view->keep_column && weir_span_is_positive(view->keep))
			return true;
	}
	return false;
}

static void
note_view(Oid relid)
{
	ExpiringView *view;
	MemoryContext old;
	ListCell   *lc;

	foreach(lc, views)
	{
		view = lfirst(lc);
		if (view->relid != relid)
			continue;
		view->seen = true;
		view->known = false;
		view->emptied = DT_NOBEGIN;
		view->look_at = GetCurrentTimestamp();
		return;
	}
	old = MemoryContextSwitchTo(worker.cxt);
	view = palloc0(sizeof(ExpiringView));
	view->relid = relid;
	view->seen = true;
	view->emptied = DT_NOBEGIN;
	view->look_at = GetCurrentTimestamp();
	views = lappend(views, view);
	MemoryContextSwitchTo(old);
}

/* Reads which views have weir.keep; the caller's transaction has seen today's catalog. Returns whether there are any. */
bool
weir_expire_views_reload(void)
{
	ListCell   *lc;

	foreach(lc, views)
		((ExpiringView *) lfirst(lc))->seen = false;
	foreach(lc, weir_view_oids())
	{
		View	   *view = weir_view_get(lfirst_oid(lc));

		if (view && view->keep && view->keep_column && weir_span_is_positive(view->keep))
			note_view(view->relid);
	}
	foreach(lc, views)
	{
		ExpiringView *view = lfirst(lc);

		if (view->seen)
			continue;
		views = foreach_delete_current(views, lc);
		if (view->error)
			pfree(view->error);
		pfree(view);
	}
	return views != NIL;
}

/* Somebody has told: look at all that are not in trouble. */
void
weir_expire_views_told(void)
{
	ListCell   *lc;

	foreach(lc, views)
	{
		ExpiringView *view = lfirst(lc);

		if (view->backoff == 0)
			view->look_at = GetCurrentTimestamp();
	}
}

/* Deletes one piece of what a table has by this time. */
static uint64
delete_piece(Oid relid, int column, TimestampTz emptied, TimestampTz limit)
{
	char	   *due = weir_age_condition(relid, column, "<=", limit);

	if (emptied != DT_NOBEGIN)
		due = psprintf("%s AND %s", due, weir_age_condition(relid, column, ">=", emptied));
	return weir_expire_piece(relid, InvalidOid, column, due, PIECE_ROWS);
}

/* Readers in a slot are waited for only so long. */
static bool
is_patient(ExpiringView *entry)
{
	return entry->locked_since == 0 ||
		!TimestampDifferenceExceeds(entry->locked_since, GetCurrentTimestamp(), PATIENCE_MS);
}

/* The same of the view's table or of its states' table, whichever way it is stored. */
static uint64
delete_some(Oid relid, int column, TimestampTz limit, ExpiringView *entry)
{
	return weir_ring_is(relid) ? weir_expire_ring(relid, column, limit, PIECE_ROWS, is_patient(entry), &entry->locked) :
		delete_piece(relid, column, entry->ring ? DT_NOBEGIN : entry->emptied, limit);
}

/* What has to be known of the definition, once per change of the catalog. */
static void
learn(View *view, int column, ExpiringView *entry)
{
	ViewShape  *shape;

	if (entry->known)
		return;
	shape = weir_view_shape(view);
	entry->sessions = shape->session != NULL;
	entry->ring = weir_ring_is(view->relid);
	entry->state_key = weir_view_is_final(view) ? 0 : weir_state_key(shape, column);
	entry->known = true;
}

static uint64
delete_due(View *view, TimestampTz stream_time, ExpiringView *entry)
{
	int			column = weir_live_number(view->relid, get_attnum(view->relid, view->keep_column));
	Oid			behind[2] = {view->state_relid, view->values_relid};
	TimestampTz limit;
	uint64		deleted;

	learn(view, column, entry);
	if (weir_view_expires_by_batches(view, entry->sessions))
		return 0;
	if (TIMESTAMP_NOT_FINITE(stream_time))
		return 0;
	limit = Min(weir_view_keep_limit(view, stream_time), weir_close_needs_from(view->relid));
	if (limit == DT_NOBEGIN || (entry->ring && limit <= entry->emptied))
		return 0;
	deleted = delete_some(view->relid, column, limit, entry);
	if (deleted > 0)
		weir_segments_missing(view->relid, limit + 1);	/* views above cannot be made anew from it */
	for (int i = 0; i < lengthof(behind); i++)
	{
		if (OidIsValid(behind[i]) && entry->state_key > 0 && deleted < PIECE_ROWS)
			deleted = Max(deleted, delete_some(behind[i], entry->state_key, limit, entry));
	}
	if (deleted > 0)
		weir_segments_missing(view->relid, limit + 1);	/* views above, made later, cannot be made anew from it */
	if (deleted < PIECE_ROWS && !entry->locked)
		entry->emptied = entry->ring ? weir_expire_ring_rest(view->relid, limit) : limit;
	return deleted;
}

/* Opens the view's tables for the piece; the counter is right again after an error. */
static pg_noinline uint64
delete_guarded(View *view, TimestampTz stream_time, ExpiringView *entry)
{
	const int	outer_depth = weir_applying_begin();
	volatile uint64 deleted = 0;

	PG_TRY();
	{
		deleted = delete_due(view, stream_time, entry);
	}
	PG_FINALLY();
	{
		weir_applying_end(outer_depth);
	}
	PG_END_TRY();
	return deleted;
}

static bool
look_body(void *arg)
{
	ExpiringView *entry = arg;
	TimestampTz stream_time = weir_stat_view_stream_time(entry->relid);
	ViewScope	scope;
	View	   *view;
	uint64		deleted;
	ListCell   *lc;

	entry->look_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), LOCKED_MS);
	view = weir_view_get(entry->relid);
	foreach(lc, view ? list_copy(weir_view_base_streams(view)) : NIL)
	{
		if (!ConditionalLockRelationOid(lfirst_oid(lc), RowExclusiveLock))
			return true;
	}
	if (!ConditionalLockRelationOid(entry->relid, RowExclusiveLock))
		return true;
	view = weir_view_get(entry->relid);
	entry->look_at = 0;
	entry->locked = false;
	if (view == NULL || view->keep == NULL || view->keep_column == NULL || !weir_span_is_positive(view->keep))
		return true;
	foreach(lc, view->streams)
	{
		Stream	   *stream = weir_stream_get(lfirst_oid(lc));

		if (stream)
			stream_time = Max(stream_time, weir_segments_stream_time(stream));
	}
	pgstat_report_activity(STATE_RUNNING, psprintf("expire %s", view->name));
	weir_view_scope_open(view, &scope);
	weir_view_scope_pin();
	SPI_connect();
	deleted = delete_guarded(view, stream_time, entry);
	SPI_finish();
	weir_view_scope_close(&scope);
	weir_cascade_run(true);
	if (deleted >= PIECE_ROWS)
		entry->look_at = GetCurrentTimestamp();
	if (!entry->locked)
		entry->locked_since = 0;
	else if (entry->locked_since == 0)
		entry->locked_since = GetCurrentTimestamp();
	if (entry->locked && entry->look_at == 0)
		entry->look_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), LOCKED_MS);
	return true;
}

/* weir_expire_views_run deletes a piece of each view that has one due. Returns when to come again; DT_NOEND: when told. */
TimestampTz
weir_expire_views_run(void)
{
	TimestampTz next = DT_NOEND;
	ListCell   *lc;

	foreach(lc, views)
	{
		ExpiringView *view = lfirst(lc);

		if (view->look_at != 0 && view->look_at <= GetCurrentTimestamp())
		{
			if (weir_worker_transaction(look_body, view, &view->error, worker.cxt))
				view->backoff = 0;
			else
			{
				view->backoff = Min(Max(view->backoff * 2, BACKOFF_MIN), BACKOFF_MAX);
				view->emptied = DT_NOBEGIN;
				view->look_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), view->backoff);
			}
		}
		if (view->look_at != 0)
			next = Min(next, view->look_at);
	}
	return next;
}
