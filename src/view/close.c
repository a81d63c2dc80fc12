/*
 * close.c
 *	  When windows close: watermarks, and the moment of finals.
 *
 * ingest (end of a batch or INSERT), or a worker's clock ⇒ close ⇒ apply (the close
 * statement, final.c) ⇒ the view's table, whose AFTER INSERT triggers see each final once.
 *
 * weir.view_close holds, per final view, the time up to which its windows are closed. It
 * moves in the transaction that inserts the finals and deletes their states, so
 * each window is closed once, whatever crashes. Its row is locked before
 * rows are merged into the view: workers and sessions that share a final view take turns, and each
 * sees the positions that those before it have committed. So the last one to commit closes.
 *
 * How far they close is watermark.c's. A row for a window that is closed (its partition had been left
 * out of the watermark) is late.
 */
#include "view/close.h"

#include "catalog/catalog.h"
#include "catalog/pg_type.h"
#include "catalog/stream.h"
#include "delta/segments.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "view/apply.h"
#include "view/shape.h"
#include "view/upstream.h"
#include "view/watermark.h"
#include "worker/positions.h"
#include "worker/shared.h"

/* A view that somebody else works on is looked at again after this time. */
#define LOCKED_RETRY	200		/* ms */

PG_FUNCTION_INFO_V1(weir_closed_until);
PG_FUNCTION_INFO_V1(weir_closing_until);

WindowTimes weir_window_times = {DT_NOBEGIN, DT_NOBEGIN};

bool
weir_view_is_final(View *view)
{
	return strcmp(view->emit, "final") == 0;
}

bool
weir_view_closes(View *view)
{
	return weir_view_is_final(view) || view->closes;
}

static bool
is_at_close(View *view)
{
	return strcmp(view->strategy, "at close") == 0;
}

/* weir.closed_until(): windows of the view at hand that ended by then were closed before */
Datum
weir_closed_until(PG_FUNCTION_ARGS)
{
	PG_RETURN_TIMESTAMPTZ(weir_window_times.closed);
}

/* weir.closing_until(): and those that ended by then are closed now */
Datum
weir_closing_until(PG_FUNCTION_ARGS)
{
	PG_RETURN_TIMESTAMPTZ(weir_window_times.closing);
}

/* --- weir.view_close --------------------------------------------------------- */

static TimestampTz
result_time(uint64 row, int column)
{
	bool		isnull;
	Datum		value = SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, &isnull);

	return isnull ? DT_NOBEGIN : DatumGetTimestampTz(value);
}

/* Reads the view's row, with a lock clause; false: it is not there, or somebody else has it. */
static bool
read_row(View *view, const char *clause, TimestampTz *closed)
{
	CatalogScope scope;
	bool		found;

	weir_catalog_open(&scope);
	weir_catalog_exec("SELECT closed FROM weir.view_close WHERE view = %u %s",
					  view->relid, clause);
	found = SPI_processed == 1;
	*closed = found ? result_time(0, 1) : DT_NOBEGIN;
	weir_catalog_close(&scope);
	return found;
}

TimestampTz
weir_close_lock(View *view)
{
	TimestampTz closed;

	LockRelationOid(view->relid, RowExclusiveLock); /* before its row, as DROP does */
	if (view->joins)
		weir_run_take_turn(view->relid);	/* before its row, as INSERT does */
	if (!read_row(view, "FOR UPDATE", &closed))
		elog(ERROR, "final view %s has no row in weir.view_close", view->name);
	return closed;
}

TimestampTz
weir_close_read(View *view)
{
	TimestampTz closed;

	(void) read_row(view, "", &closed);
	return closed;
}

static void
save_closed(View *view, TimestampTz closed, TimestampTz needs)
{
	Oid			types[3] = {OIDOID, TIMESTAMPTZOID, TIMESTAMPTZOID};
	Datum		values[3] = {ObjectIdGetDatum(view->relid), TimestampTzGetDatum(closed), TimestampTzGetDatum(needs)};
	char		nulls[3] = {' ', ' ', TIMESTAMP_NOT_FINITE(needs) ? 'n' : ' '};
	CatalogScope scope;

	weir_catalog_open(&scope);
	if (SPI_execute_with_args("UPDATE weir.view_close SET closed = $2, needs = $3 WHERE view = $1",
							  3, types, values, nulls, false, 0) != SPI_OK_UPDATE || SPI_processed != 1)
		elog(ERROR, "could not save what is closed of view %s", view->name);
	weir_catalog_close(&scope);
}

void
weir_close_begin(View *view)
{
	CatalogScope scope;

	weir_catalog_open(&scope);
	weir_catalog_exec("INSERT INTO weir.view_close (view) VALUES (%u)"
					  " ON CONFLICT (view) DO UPDATE SET closed = NULL, needs = NULL", view->relid);
	weir_behind_forget(view->relid);
	weir_catalog_close(&scope);
}

/* --- closing -------------------------------------------------------------------- */

/* After a crash the rows of an unlogged stream have to be fetched again first. */
static bool
kept_rows_are_whole(View *view)
{
	ListCell   *lc;

	foreach(lc, view->streams)
	{
		Stream	   *stream = weir_stream_require(lfirst_oid(lc));

		if (!stream->logged && !weir_marker_there(stream->relid))
			return false;
	}
	return true;
}

/* Closes what is due; the view is locked. */
static uint64
close_locked(View *view, TimestampTz closed, TimestampTz closing)
{
	uint64		finals;
	Interval	span = {0};

	if (closing <= closed || ((is_at_close(view) || view->joins) && !kept_rows_are_whole(view)))
		return 0;
	finals = weir_view_apply_close(view, closed, closing, &span);
	save_closed(view, closing, is_at_close(view) ? weir_time_window_back(closing, &span) : DT_NOBEGIN);
	weir_capture_closed(view->relid);
	return finals;
}

uint64
weir_close_view(View *view, Oid stream, BatchPartition *parts, int nparts)
{
	TimestampTz closed = weir_close_lock(view);
	Watermark	mark;

	return close_locked(view, closed, weir_watermark_of_view(view, stream, parts, nparts, &mark));
}

/* What weir_close_guarded guards. */
typedef struct Closing
{
	View	   *view;
	Oid			stream;
	BatchPartition *parts;
	int			nparts;
} Closing;

static void
close_body(void *arg)
{
	Closing    *closing = arg;

	weir_close_view(closing->view, closing->stream, closing->parts, closing->nparts);
}

void
weir_close_guarded(View *view, Oid stream, BatchPartition *parts, int nparts)
{
	Closing		closing = {view, stream, parts, nparts};
	ErrorData  *edata = weir_try(close_body, &closing);

	if (edata == NULL)
		return;

	/* its states hold what came so far, and the next batch detaches it there: it can go on later */
	weir_view_set_status(view->relid, VIEW_FAILED, edata->message);
	ereport(LOG,
			(errcode(edata->sqlerrcode),
			 errmsg("continuous view %s failed while closing windows: %s", view->name, edata->message),
			 edata->detail ? errdetail("%s", edata->detail) : 0,
			 errhint("When the cause is mended: SELECT weir.resume('%s');", view->name)));
}

/* --- by the clock ------------------------------------------------------------------ */

/* The same for a view that is run at close: windows that began after the newest row are empty. */
static TimestampTz
first_open_at_close(View *view)
{
	TimestampTz newest = DT_NOBEGIN;
	TimestampTz end;
	Interval   *span;
	ListCell   *lc;

	foreach(lc, view->streams)
		newest = Max(newest, weir_segments_stream_time(weir_stream_require(lfirst_oid(lc))));
	foreach(lc, view->upstreams)
		newest = Max(newest, weir_upstream_newest(lfirst_oid(lc)));
	if (TIMESTAMP_NOT_FINITE(newest))
		return DT_NOBEGIN;
	end = weir_view_next_end(view, weir_close_read(view), &span);
	if (TIMESTAMP_NOT_FINITE(end))
		return newest;			/* nothing was closed yet, or a gap between windows */
	return weir_time_window_back(end, span) <= newest ? end : DT_NOBEGIN;
}

TimestampTz
weir_close_needs_from(Oid stream)
{
	TimestampTz result = DT_NOEND;
	CatalogScope scope;
	ListCell   *lc;

	foreach(lc, list_concat(weir_view_oids_of_stream(stream), weir_view_oids_above(stream)))
	{
		View	   *view = weir_view_get(lfirst_oid(lc));

		if (view == NULL || !is_at_close(view))
			continue;
		weir_catalog_open(&scope);
		weir_catalog_exec("SELECT needs FROM weir.view_close WHERE view = %u", view->relid);
		if (SPI_processed == 1)
			result = Min(result, result_time(0, 1));
		weir_catalog_close(&scope);
	}
	return result;
}

/* End of the first open window, DT_NOBEGIN if none is. */
static TimestampTz
first_open(View *view)
{
	ViewScope	scope;
	ViewShape  *shape;
	CatalogScope catalog;
	char	   *column;
	TimestampTz result;

	if (view->instants)
		return weir_join_first_open(view);
	if (is_at_close(view))
		return first_open_at_close(view);
	if (view->closes)
		return weir_join_first_open(view);
	weir_view_scope_open(view, &scope);
	weir_view_scope_pin();
	shape = weir_view_shape(view);
	weir_view_scope_close(&scope);
	column = psprintf("pg_catalog.min(%s)", quote_identifier(get_attname(view->state_relid, shape->end_column, false)));
	if (exprType((Node *) shape->end) == TIMESTAMPOID)
		column = psprintf("pg_catalog.timezone('UTC', %s)", column);
	weir_catalog_open(&catalog);
	/* closed sessions stay among the states for a while */
	weir_catalog_exec("SELECT %s FROM %s WHERE %s", column, weir_relation_name(view->state_relid),
					  shape->session ? weir_age_condition(view->state_relid, shape->end_column, ">=", weir_close_read(view)) : "true");
	result = result_time(0, 1);
	weir_catalog_close(&catalog);
	return result;
}

/* Closes the views that a view reads, the lowest first; false: somebody else works on one. */
static bool
close_below(View *view)
{
	ListCell   *lc;

	check_stack_depth();
	foreach(lc, list_copy(view->upstreams))
	{
		View	   *below = weir_view_get(lfirst_oid(lc));
		TimestampTz closed;

		if (below == NULL || !weir_view_is_final(below) || below->status != VIEW_RUNNING)
			continue;
		if (!close_below(below))
			return false;
		LockRelationOid(below->relid, RowExclusiveLock);
		if ((below->joins && !weir_run_try_turn(below->relid)) ||	/* before its row, as weir_close_lock does */
			!read_row(below, "FOR UPDATE SKIP LOCKED", &closed))
			return false;
		weir_close_guarded(below, InvalidOid, NULL, 0);
		weir_cascade_run(true);
	}
	return true;
}

TimestampTz
weir_close_due(Oid relid)
{
	View	   *view = weir_view_get(relid);
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz closed;
	TimestampTz closing;
	TimestampTz open;
	Watermark	mark;
	ListCell   *lc;

	if (view == NULL || !weir_view_closes(view) || view->status != VIEW_RUNNING)
		return 0;
	foreach(lc, weir_view_base_streams(view))
		LockRelationOid(lfirst_oid(lc), RowExclusiveLock);
	if (!close_below(view))
		return TimestampTzPlusMilliseconds(now, LOCKED_RETRY);
	LockRelationOid(relid, RowExclusiveLock);
	view = weir_view_get(relid);
	if (view == NULL || view->status != VIEW_RUNNING)
		return 0;
	if ((view->joins && !weir_run_try_turn(relid)) ||
		!read_row(view, "FOR UPDATE SKIP LOCKED", &closed))
		return TimestampTzPlusMilliseconds(now, LOCKED_RETRY);
	weir_close_guarded(view, InvalidOid, NULL, 0);
	weir_cascade_run(true);
	CommandCounterIncrement();

	view = weir_view_get(relid);
	if (view == NULL || view->status != VIEW_RUNNING)
		return 0;
	open = first_open(view);
	if (open == DT_NOBEGIN)
		return 0;
	closing = weir_watermark_of_view(view, InvalidOid, NULL, 0, &mark);
	if (mark.moves && closing != DT_NOBEGIN)
		return mark.changes_at != 0 ? Min(mark.changes_at, now + Max(open - closing, 1000)) :
			now + Max(open - closing, 1000);
	return mark.changes_at;
}

/* --- stream time of INSERTed rows ----------------------------------------------------- */

/* Does anything over the stream go by the stream time of INSERTed rows already? */
static bool
is_tracked(Stream *stream)
{
	ListCell   *lc;

	foreach(lc, weir_view_oids_of_stream(stream->relid))
	{
		View	   *view = weir_view_get(lfirst_oid(lc));

		if (stream->lateness || view->lateness || weir_view_is_final(view))
			return true;
	}
	return false;
}

static void
track_inserts(Stream *stream)
{
	char	   *rows = weir_relation_name(stream->rows_relid);
	CatalogScope scope;

	weir_catalog_open(&scope);
	weir_catalog_exec("UPDATE %s AS r SET " WEIR_COL_STREAM_TIME " = s.t"
					  " FROM (SELECT tableoid AS o, ctid AS c, pg_catalog.max(" WEIR_COL_EVENT_TIME ")"
					  " OVER (ORDER BY " WEIR_COL_OFFSET ") AS t FROM %s WHERE " WEIR_COL_PARTITION " = -1) AS s"
					  " WHERE r.tableoid = s.o AND r.ctid = s.c AND r." WEIR_COL_STREAM_TIME " < s.t", rows, rows);
	weir_catalog_exec("INSERT INTO weir.position AS p (stream, topic, partition, next_offset, stream_time)"
					  " SELECT %u, '', -1, 0, max(" WEIR_COL_EVENT_TIME ") FROM %s"
					  " WHERE " WEIR_COL_PARTITION " = -1 HAVING count(*) > 0"
					  " ON CONFLICT (stream, topic, partition) DO UPDATE"
					  " SET stream_time = GREATEST(p.stream_time, excluded.stream_time)",
					  stream->relid, rows);
	weir_catalog_close(&scope);
}

void
weir_close_prepare(List *streams, bool has_lateness)
{
	ListCell   *lc;

	foreach(lc, streams)
	{
		Stream	   *stream = weir_stream_get(lfirst_oid(lc));

		if (stream && (has_lateness || stream->lateness) && !is_tracked(stream))
			track_inserts(stream);
	}
}
