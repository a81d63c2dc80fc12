/*
 * control.c
 *	  weir.pause() and weir.resume() of streams and views.
 *
 * Run in a session, in its transaction. Both take ShareLock on the streams
 * concerned, in order of OID: that waits for batches and INSERTs under way,
 * and holds off new ones until commit. Workers follow by the catalog's generation.
 *
 * From Kafka a view catches up by itself (catch_up.c). INSERTed rows wait
 * among the kept rows: pausing notes the arrival number from which on they
 * are missing (weir.view_position, topic '' and partition -1), resuming applies them. A view does not
 * follow INSERTs while such a row stands; it goes when both the view and the stream run.
 */
#include "weir.h"

#include "catalog/catalog.h"
#include "catalog/stream.h"
#include "catalog/view.h"
#include "compat.h"
#include "delta/segments.h"
#include "delta/stream_am.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "view/apply.h"
#include "view/close.h"
#include "view/upstream.h"
#include "worker/positions.h"
#include "worker/shared.h"

PG_FUNCTION_INFO_V1(weir_pause);
PG_FUNCTION_INFO_V1(weir_resume);

/* The one number that an SQL text gives, inside a catalog scope. */
static int64
query_int64(const char *sql, bool *found)
{
	bool		isnull;
	Datum		value;

	weir_catalog_exec("%s", sql);
	*found = SPI_processed == 1;
	if (!*found)
		return 0;
	value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	*found = !isnull;
	return DatumGetInt64(value);
}

/* The lowest arrival number that a row INSERTed from now on can have; writers are locked out. */
static int64
next_arrival(void)
{
	CatalogScope scope;
	bool		found;
	int64		block;

	weir_catalog_open(&scope);
	block = query_int64("SELECT last_value + CASE WHEN is_called THEN 1 ELSE 0 END FROM weir.arrival",
						&found);
	weir_catalog_close(&scope);
	return block << WEIR_ARRIVAL_BLOCK_BITS;
}

/*
 * From now on the view does not follow the INSERTs into this stream. Exact if
 * writers are locked out; for a view that fails in a worker's batch, rows of an INSERT
 * that is under way in that very moment may be missing when the view goes on.
 */
void
weir_position_detach_inserts(Oid view, Oid stream)
{
	Stream	   *definition = weir_stream_get(stream);

	if (definition != NULL && definition->keeps_rows)
		weir_position_detach_view(view, stream, WEIR_INSERT_TOPIC,
								  WEIR_INSERT_PARTITION, next_arrival());
}

void
weir_position_skip_missed(Oid view)
{
	int64		inserts = next_arrival();
	CatalogScope scope;

	weir_catalog_open(&scope);
	weir_catalog_exec("UPDATE weir.view_position v SET next_offset = CASE WHEN v.partition < 0 THEN " INT64_FORMAT " ELSE p.next_offset END,"
					  " stream_time = p.stream_time"
					  " FROM weir.view_position w LEFT JOIN weir.position p"
					  " ON p.stream = w.stream AND p.topic = w.topic AND p.partition = w.partition"
					  " WHERE v.view = %u AND w.view = v.view AND w.stream = v.stream AND w.topic = v.topic AND w.partition = v.partition",
					  inserts, view);
	weir_catalog_close(&scope);
	weir_catalog_changed();
}

/* The view gets the rows INSERTed since it was detached, and follows INSERTs again. */
static void
attach_inserts(View *view, Stream *stream)
{
	CatalogScope scope;
	bool		found;
	int64		from;

	weir_catalog_open(&scope);
	from = query_int64(psprintf("DELETE FROM weir.view_position WHERE view = %u AND stream = %u"
								" AND topic = '' AND partition = -1 RETURNING next_offset",
								view->relid, stream->relid), &found);
	weir_catalog_close(&scope);
	if (found && stream->keeps_rows)
	{
		Delta	   *delta = weir_segments_read(stream,
											   psprintf(WEIR_COL_PARTITION " = -1 AND " WEIR_COL_OFFSET " >= " INT64_FORMAT,
														from));

		CommandCounterIncrement();
		if (delta->nrows > 0)
			weir_view_apply(view, delta);
		weir_delta_free(delta);
	}
	if (found)
		weir_catalog_changed();
}

/* What it got may close windows; only when all its streams have given it theirs, or rows would come too late. */
static void
close_attached(View *view)
{
	if (!weir_view_closes(view) || view->upstreams != NIL)
		return;
	(void) weir_close_view(view, InvalidOid, NULL, 0);
	weir_request_maintenance();
}

static void
set_stream_paused(Oid stream, bool paused)
{
	CatalogScope scope;

	weir_catalog_open(&scope);
	weir_catalog_exec("UPDATE weir.stream_def SET paused = %s WHERE stream = %u",
					  paused ? "true" : "false", stream);
	weir_catalog_close(&scope);
	CommandCounterIncrement();
}

/* Refuses what could never be made up for. */
static void
check_can_pause(Stream *stream)
{
	if (stream->server == NULL && !stream->keeps_rows)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot pause: rows inserted into stream %s meanwhile would be lost", stream->name),
				 errdetail("The stream has no topic and keeps no rows (weir.keep = 0), so views could not catch up."),
				 errhint("ALTER TABLE %s SET (weir.keep = '1 day');", stream->name)));
}

/* Locks the streams of a view (ascending, as everybody does) and returns the view as it is now. */
static View *
lock_view(Oid relid)
{
	View	   *view = weir_view_require(relid);
	ListCell   *lc;

	weir_check_owner(relid);
	foreach(lc, weir_view_base_streams(view))
		LockRelationOid(lfirst_oid(lc), ShareLock);
	return weir_view_require(relid);
}

static Stream *
lock_stream(Oid relid)
{
	weir_stream_require(relid);
	weir_check_owner(relid);
	LockRelationOid(relid, ShareLock);
	return weir_stream_require(relid);
}

static void
pause_stream(Stream *stream)
{
	ListCell   *lc;

	check_can_pause(stream);
	foreach(lc, list_copy(weir_view_oids_of_stream(stream->relid)))
		weir_position_detach_inserts(lfirst_oid(lc), stream->relid);
	set_stream_paused(stream->relid, true);
}

static void
pause_view(View *view)
{
	ListCell   *lc;

	foreach(lc, list_copy(view->streams))
		check_can_pause(weir_stream_require(lfirst_oid(lc)));
	foreach(lc, list_copy(view->streams))
		weir_position_detach_inserts(view->relid, lfirst_oid(lc));
	weir_view_set_status(view->relid, VIEW_PAUSED, NULL);
}

static void
resume_stream(Oid relid)
{
	Stream	   *stream = weir_stream_require(relid);
	ListCell   *lc;

	set_stream_paused(relid, false);
	if (stream->error != NULL)
		weir_stream_set_error(relid, NULL);
	stream = weir_stream_require(relid);
	foreach(lc, list_copy(weir_view_oids_of_stream(relid)))
	{
		View	   *view = weir_view_require(lfirst_oid(lc));

		if (view->status != VIEW_RUNNING)
			continue;
		attach_inserts(view, stream);
		close_attached(view);
	}
	weir_cascade_run(false);
}

static void
resume_view(Oid relid)
{
	View	   *view;
	ListCell   *lc;

	weir_view_set_status(relid, VIEW_RUNNING, NULL);
	CommandCounterIncrement();
	view = weir_view_require(relid);
	foreach(lc, list_copy(view->streams))
	{
		Stream	   *stream = weir_stream_require(lfirst_oid(lc));

		if (!stream->paused)
			attach_inserts(view, stream);
	}
	close_attached(view);
	weir_cascade_resume(view);
	weir_cascade_run(false);
}

/* weir.pause(regclass) → void */
Datum
weir_pause(PG_FUNCTION_ARGS)
{
	Oid			relid = PG_GETARG_OID(0);

	if (weir_view_get(relid) != NULL)
		pause_view(lock_view(relid));
	else
		pause_stream(lock_stream(relid));
	PG_RETURN_VOID();
}

/* weir.resume(regclass) → void; of something that failed: try again */
Datum
weir_resume(PG_FUNCTION_ARGS)
{
	Oid			relid = PG_GETARG_OID(0);

	if (weir_view_get(relid) != NULL)
	{
		lock_view(relid);
		resume_view(relid);
	}
	else
	{
		lock_stream(relid);
		resume_stream(relid);
	}
	PG_RETURN_VOID();
}
