/*
 * watermark.c
 *	  How far the event time of a stream has come.
 *
 * positions, statistics ⇒ watermark ⇒ close.c, joins, weir.stat_streams.
 *
 * The watermark of a stream is the lowest stream time over its partitions, those left out that are
 * idle: caught up with the broker, and silent for weir.idle_timeout. All idle: the highest stream
 * time plus the time since. INSERTed rows never hold a topic's stream back. Of a view over several streams it is the lowest
 * of theirs, those left out that are idle, as if all partitions were of one stream.
 *
 * Idleness needs the broker's word: that a partition had nothing more is to be heard after it has been silent so
 * long, for what looks like silence may be a broker that is away, or a worker that has not begun to
 * read. The first worker asks (worker/closer.c), once per silence.
 *
 * Reads what is committed, and what the caller adds of its own batch. No locks.
 */
#include "view/watermark.h"

#include "catalog/catalog.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"
#include "view/close.h"
#include "view/upstream.h"
#include "worker/positions.h"
#include "worker/shared.h"

#define ASK_RETRY	1000		/* ms until a partition that should be idle is looked at again, if the broker has not answered */

PG_FUNCTION_INFO_V1(weir_stream_watermark);

TimestampTz
weir_time_plus(TimestampTz time, const Interval *span, int sign)
{
	if (span == NULL || TIMESTAMP_NOT_FINITE(time))
		return time;
	time += sign * weir_span_length(span);
	return IS_VALID_TIMESTAMP(time) ? time : sign > 0 ? DT_NOEND : DT_NOBEGIN;
}

TimestampTz
weir_time_window_back(TimestampTz time, const Interval *span)
{
	if (TIMESTAMP_NOT_FINITE(time))
		return time;
	return DatumGetTimestamp(DirectFunctionCall2(timestamp_mi_interval, TimestampGetDatum(time), IntervalPGetDatum(span)));
}

/* One partition as it counts for a view. */
typedef struct MarkPartition
{
	char	   *topic;
	int32		partition;
	int64		next_offset;
	TimestampTz stream_time;
	bool		detached;		/* the view has not caught up */
	bool		fresh;			/* has rows in this batch */
	bool		silent;			/* for weir.idle_timeout, and nothing more is known to be there */
	bool		idle;			/* and the broker has said so since */
	PartitionNews news;
} MarkPartition;

static void
overlay(MarkPartition *part, BatchPartition *parts, int nparts)
{
	for (int i = 0; i < nparts; i++)
	{
		if (parts[i].partition != part->partition || strcmp(parts[i].topic, part->topic) != 0)
			continue;
		part->fresh = true;
		part->stream_time = Max(part->stream_time, parts[i].stream_time);
	}
}

/* Is the partition idle, or when may it be? */
static void
judge_idle(MarkPartition *part, Stream *stream, TimestampTz now, Watermark *mark)
{
	TimestampTz idle_at;

	weir_stat_news(stream->relid, part->topic, part->partition, &part->news);
	if (part->fresh)
		part->news.silent_since = now;
	if (stream->idle_timeout == NULL || part->detached || part->news.silent_since == 0)
		return;
	if (part->partition >= 0 && (part->news.high < 0 || part->news.high > part->next_offset))
		return;					/* there is more to read, or nobody has looked */
	idle_at = weir_time_plus(part->news.silent_since, stream->idle_timeout, 1);
	part->silent = !part->fresh && idle_at <= now;
	part->idle = part->silent && (mark->trusting || part->partition < 0 || part->news.high_at >= idle_at);
	if (part->silent && !part->idle)
		idle_at = TimestampTzPlusMilliseconds(now, ASK_RETRY);
	if (!part->idle && (mark->changes_at == 0 || idle_at < mark->changes_at))
		mark->changes_at = idle_at;
}

/* A topic that was taken out of weir.topic does not move any more. */
static bool
is_read(Stream *stream, int32 partition, const char *topic)
{
	for (int i = 0; partition >= 0 && i < stream->ntopics; i++)
	{
		if (strcmp(stream->topics[i], topic) == 0)
			return true;
	}
	return partition < 0;
}

/*
 * The stream's partitions as the view stands there; view NULL: as the stream does. INSERTed
 * rows of a topic's stream are left out.
 */
static List *
read_partitions(View *view, Stream *stream)
{
	MemoryContext cxt = CurrentMemoryContext;
	List	   *result = NIL;
	CatalogScope scope;
	bool		isnull;

	weir_catalog_open(&scope);
	weir_catalog_exec("SELECT p.topic, p.partition, p.next_offset,"
					  " CASE WHEN v.view IS NULL THEN p.stream_time ELSE v.stream_time END, v.view IS NOT NULL"
					  " FROM weir.position p LEFT JOIN weir.view_position v ON v.view = %u AND v.stream = p.stream"
					  " AND v.topic = p.topic AND v.partition = p.partition"
					  " WHERE p.stream = %u%s", view ? view->relid : InvalidOid, stream->relid,
					  stream->server ? " AND p.partition >= 0" : "");
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		MemoryContext spi = MemoryContextSwitchTo(cxt);
		MarkPartition *part = palloc0(sizeof(MarkPartition));
		HeapTuple	row = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		Datum		stream_time = SPI_getbinval(row, desc, 4, &isnull);

		part->stream_time = isnull ? DT_NOBEGIN : DatumGetTimestampTz(stream_time);
		part->topic = TextDatumGetCString(SPI_getbinval(row, desc, 1, &isnull));
		part->partition = DatumGetInt32(SPI_getbinval(row, desc, 2, &isnull));
		part->next_offset = part->partition < 0 ? PG_INT64_MAX :
			DatumGetInt64(SPI_getbinval(row, desc, 3, &isnull));
		part->detached = DatumGetBool(SPI_getbinval(row, desc, 5, &isnull));
		if (is_read(stream, part->partition, part->topic))
			result = lappend(result, part);
		MemoryContextSwitchTo(spi);
	}
	weir_catalog_close(&scope);
	return result;
}

static void
find_watermark(Stream *stream, List *partitions, BatchPartition *parts, int nparts, Watermark *mark)
{
	TimestampTz now = GetCurrentTimestamp();
	MarkPartition *newest = NULL;
	bool		active = false;
	ListCell   *lc;

	mark->time = DT_NOEND;
	foreach(lc, partitions)
	{
		MarkPartition *part = lfirst(lc);

		overlay(part, parts, nparts);
		judge_idle(part, stream, now, mark);
		if (part->stream_time != DT_NOBEGIN && (newest == NULL || part->stream_time > newest->stream_time))
			newest = part;
		if (part->idle)
			continue;
		active = true;
		mark->time = Min(mark->time, part->stream_time);
	}
	if (active)
		return;
	mark->time = DT_NOBEGIN;
	mark->unborn = newest == NULL;
	if (mark->unborn)
		return;
	mark->moves = true;
	mark->time = newest->stream_time + Max(now - newest->news.silent_since, 0);
}

TimestampTz
weir_close_mark(View *view, Stream *stream)
{
	Watermark	mark = {0};

	find_watermark(stream, read_partitions(view, stream), NULL, 0, &mark);
	return mark.unborn ? DT_NOEND : mark.time;
}

TimestampTz
weir_watermark_of_view(View *view, Oid with, BatchPartition *parts, int nparts, Watermark *view_mark)
{
	TimestampTz result = DT_NOEND;
	TimestampTz quiet = DT_NOBEGIN; /* of the streams that are idle */
	ListCell   *lc;

	memset(view_mark, 0, sizeof(*view_mark));
	foreach(lc, view->streams)
	{
		Stream	   *stream = weir_stream_require(lfirst_oid(lc));
		List	   *partitions = read_partitions(view, stream);
		Watermark	mark = {0};
		TimestampTz time;

		find_watermark(stream, partitions, parts, with == stream->relid ? nparts : 0, &mark);
		if (mark.changes_at != 0 && (view_mark->changes_at == 0 || mark.changes_at < view_mark->changes_at))
			view_mark->changes_at = mark.changes_at;
		time = weir_time_plus(mark.time, view->lateness ? view->lateness : stream->lateness, -1);
		if (mark.moves || (mark.unborn && partitions != NIL))
			quiet = Max(quiet, time);
		else
			result = Min(result, time);
	}
	if (result == DT_NOEND && view->streams != NIL)
	{
		result = quiet;			/* all are idle: by the clock */
		view_mark->moves = quiet != DT_NOBEGIN;
	}
	foreach(lc, view->upstreams)
	{
		View	   *below = weir_view_require(lfirst_oid(lc));
		Watermark	mark = {0};

		(void) weir_watermark_of_view(below, with, parts, nparts, &mark);
		view_mark->moves |= mark.moves;
		if (mark.changes_at != 0 && (view_mark->changes_at == 0 || mark.changes_at < view_mark->changes_at))
			view_mark->changes_at = mark.changes_at;
		result = Min(result, weir_time_plus(weir_upstream_watermark(view, below->relid), view->lateness, -1));
	}
	return TIMESTAMP_NOT_FINITE(result) ? result : result - weir_close_shift(view);
}

bool
weir_watermark_matters(View *view)
{
	return view != NULL && view->status == VIEW_RUNNING && (weir_view_closes(view) || view->joins);
}

List *
weir_watermark_silent(View *view)
{
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, weir_view_base_streams(view))
	{
		Stream	   *stream = weir_stream_require(lfirst_oid(lc));
		List	   *partitions = read_partitions(view, stream);
		Watermark	mark = {0};
		ListCell   *cell;

		find_watermark(stream, partitions, NULL, 0, &mark);
		foreach(cell, partitions)
		{
			MarkPartition *part = lfirst(cell);
			SilentPartition *silent;

			if (!part->silent || part->idle)
				continue;
			silent = palloc(sizeof(SilentPartition));
			*silent = (SilentPartition) {stream->relid, part->topic, part->partition};
			result = lappend(result, silent);
		}
	}
	return result;
}

/* Nothing needs the stream time of INSERTed rows, so it is not saved: statistics know it. */
static List *
inserts_only(Stream *stream)
{
	MarkPartition *part = palloc0(sizeof(MarkPartition));

	part->topic = WEIR_INSERT_TOPIC;
	part->partition = WEIR_INSERT_PARTITION;
	part->next_offset = PG_INT64_MAX;
	weir_stat_news(stream->relid, part->topic, part->partition, &part->news);
	part->stream_time = part->news.stream_time;
	return list_make1(part);
}

/* weir.stream_watermark(stream) */
Datum
weir_stream_watermark(PG_FUNCTION_ARGS)
{
	Stream	   *stream = weir_stream_get(PG_GETARG_OID(0));
	List	   *partitions;
	Watermark	mark = {.trusting = true};
	ListCell   *lc;

	if (stream == NULL)
		PG_RETURN_NULL();
	foreach(lc, weir_view_oids_of_stream(stream->relid))
		mark.trusting &= !weir_watermark_matters(weir_view_get(lfirst_oid(lc)));
	partitions = read_partitions(NULL, stream);
	if (partitions == NIL && stream->server == NULL)
		partitions = inserts_only(stream);
	find_watermark(stream, partitions, NULL, 0, &mark);
	if (TIMESTAMP_NOT_FINITE(mark.time))
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ(mark.time);
}
