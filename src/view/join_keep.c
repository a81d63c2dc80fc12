/*
 * join_keep.c
 *	  How long rows of a stream are kept because a join needs them.
 *
 * segments (keep, expire) ⇒ join_keep. A row that is not late may come as long as the watermark of its
 * stream, less lateness, has not passed it by more than it can match forward. What it may
 * match lies at most the join's reach before the lowest of these watermarks. weir.keep
 * covers that where the streams run in step; one that lags behind the others, or a view that
 * is paused, holds their rows back. Partitions that are idle do not.
 *
 * Runs in the transaction of a batch or INSERT: the positions are those before it.
 */
#include "postgres.h"

#include "catalog/catalog.h"
#include "catalog/stream.h"
#include "catalog/view.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "view/apply.h"
#include "view/close.h"
#include "view/join.h"
#include "view/upstream.h"
#include "worker/positions.h"

static TimestampTz
needs_of(View *view)
{
	TimestampTz result = DT_NOEND;
	int64		slack = PG_INT64_MAX;
	ListCell   *lc;

	foreach(lc, view->streams)
		slack = Min(slack, weir_span_length(weir_stream_require(lfirst_oid(lc))->keep));
	slack = Max(slack - view->join_reach, 0);
	foreach(lc, view->streams)
	{
		Stream	   *stream = weir_stream_require(lfirst_oid(lc));
		Interval   *lateness = view->lateness ? view->lateness : stream->lateness;
		TimestampTz mark = weir_close_mark(view, stream);

		if (!TIMESTAMP_NOT_FINITE(mark))
			mark -= view->join_reach + (lateness ? weir_span_length(lateness) :
										weir_view_closes(view) ? 0 : slack);
		result = Min(result, mark);
	}
	return result;
}

TimestampTz
weir_join_needs_from(Oid stream)
{
	TimestampTz result = DT_NOEND;
	ListCell   *lc;

	foreach(lc, weir_view_oids_of_stream(stream))
	{
		View	   *view = weir_view_get(lfirst_oid(lc));

		if (view != NULL && view->joins && view->join_reach >= 0)
			result = Min(result, needs_of(view));
	}
	return result;
}

int64
weir_close_shift(View *view)
{
	return weir_view_closes(view) ? view->close_shift : 0;
}

TimestampTz
weir_join_first_open(View *view)
{
	TimestampTz closed = weir_close_read(view);
	TimestampTz result = DT_NOEND;
	CatalogScope scope;
	ListCell   *lc;

	weir_catalog_open(&scope);
	foreach(lc, view->streams)
	{
		bool		isnull;
		Datum		time;

		weir_catalog_exec("SELECT min(" WEIR_COL_EVENT_TIME ") FROM %s WHERE " WEIR_COL_EVENT_TIME " >= %s::timestamptz",
						  weir_relation_name(weir_stream_require(lfirst_oid(lc))->rows_relid), weir_time_literal(closed));
		time = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
		if (!isnull)
			result = Min(result, DatumGetTimestampTz(time));
	}
	weir_catalog_close(&scope);
	foreach(lc, view->upstreams)
		result = Min(result, weir_upstream_oldest(lfirst_oid(lc), closed));
	return result == DT_NOEND ? DT_NOBEGIN : result;
}

void
weir_join_take_turns(Oid stream)
{
	ListCell   *lc;

	foreach(lc, weir_view_oids_of_stream(stream))
	{
		View	   *view = weir_view_get(lfirst_oid(lc));

		if (view != NULL && view->joins && view->status == VIEW_RUNNING)
			weir_run_take_turn(view->relid);
	}
}

/*
 * weir_join_check_kept raises 55P03 while kept rows of a stream are read again after a crash: a row could
 * miss its match. Workers try their batch again.
 */
void
weir_join_check_kept(View *view)
{
	ListCell   *lc;

	foreach(lc, view->streams)
	{
		Stream	   *stream = weir_stream_require(lfirst_oid(lc));

		if (!stream->logged && !weir_marker_there(stream->relid))
			ereport(ERROR,
					(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
					 errmsg("kept rows of stream %s are being read again after a crash", stream->name),
					 errdetail("View %s joins them.", view->name),
					 errhint("Try again when the stream is running.")));
	}
}
