/*
 * behind.c
 *	  What rows found closed: of partitions that were left out of the watermark, so that verify can repeat it.
 *
 * apply ⇒ behind; verify ⇒ behind. A row of a partition that had been idle, and one that is INSERTed into
 * a topic's stream, may find its window closed before its own partition's stream time has come that far. Then it is
 * late by what the view had closed when the row came, which the kept row does not tell. weir.view_behind
 * does: per view and partition, ranges of offsets and up to when windows were closed for them. A range is
 * written only for deltas that hold such rows, grows while nothing changes, and goes when its rows are no longer kept.
 *
 * For verify the kept rows are given the stream time that would have made them late: what was closed, and the lateness.
 * Joins of streams ask for each row instead: weir.found_closed(). A row may meet some that have closed, and others
 * that have not. Outer joins do so in their statements, too (join_outer.c), finals only in verify (late.c).
 */
#include "view/close.h"

#include "access/table.h"
#include "catalog/catalog.h"
#include "catalog/stream.h"
#include "delta/segments.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"
#include "view/shape.h"
#include "view/watermark.h"

/* Rows of one partition that found the same closed. */
typedef struct Range
{
	int32		partition;
	int64		first;
	int64		last;
	TimestampTz closed;
} Range;

struct BehindRanges
{
	Range	   *ranges;
	int			n;
};

/* The stream time at which windows that ended by closed are over. */
static TimestampTz
over_at(View *view, Stream *stream, TimestampTz closed)
{
	TimestampTz over = weir_time_plus(closed, view->lateness ? view->lateness : stream->lateness, 1);

	return TIMESTAMP_NOT_FINITE(over) ? over : over + view->close_shift;
}

/* Hidden columns of a row of a delta. */
#define PARTITION(delta, values)	DatumGetInt32((values)[(delta)->ndeclared])
#define OFFSET(delta, values)		DatumGetInt64((values)[(delta)->ndeclared + 1])
#define SEEN(delta, values)			DatumGetTimestampTz((values)[(delta)->ndeclared + 3])

/* --- writing -------------------------------------------------------------------- */

/* Ranges of a delta's rows whose partition has not come to over. */
static List *
find_ranges(Delta *delta, TimestampTz over, TimestampTz closed)
{
	DeltaCursor cursor;
	Datum	   *values;
	bool	   *isnull;
	List	   *ranges = NIL;

	weir_delta_open(&cursor, delta);
	while (weir_delta_next(&cursor, &values, &isnull))
	{
		Range	   *range = NULL;
		int64		offset = OFFSET(delta, values);
		ListCell   *lc;

		if (SEEN(delta, values) >= over)
			continue;
		foreach(lc, ranges)
		{
			range = lfirst(lc);
			if (range->partition == PARTITION(delta, values))
				break;
			range = NULL;
		}
		if (range == NULL)
		{
			range = palloc(sizeof(Range));
			*range = (Range) {PARTITION(delta, values), offset, offset, closed};
			ranges = lappend(ranges, range);
		}
		range->first = Min(range->first, offset);
		range->last = Max(range->last, offset);
	}
	weir_delta_close(&cursor);
	return ranges;
}

/* Writes a range, or makes the one before it longer. */
static void
save_range(View *view, Stream *stream, Range *range)
{
	char	   *which = psprintf("view = %u AND stream = %u AND partition = %d",
								 view->relid, stream->relid, range->partition);
	char	   *closed = weir_time_literal(range->closed);
	CatalogScope scope;

	weir_catalog_open(&scope);
	if (weir_catalog_exec("UPDATE weir.view_behind SET last_offset = GREATEST(last_offset, " INT64_FORMAT ")"
						  " WHERE %s AND closed = %s AND first_offset = (SELECT max(first_offset)"
						  " FROM weir.view_behind WHERE %s AND first_offset <= " INT64_FORMAT ")",
						  range->last, which, closed, which, range->first) == 0)
	{
		TimestampTz whole = weir_segments_whole_since(stream);

		/* rows that are behind what is over are older than that */
		if (!TIMESTAMP_NOT_FINITE(whole))
			weir_catalog_exec("DELETE FROM weir.view_behind WHERE view = %u AND stream = %u AND closed < %s",
							  view->relid, stream->relid,
							  weir_time_literal(weir_time_plus(whole - (view->closes ? 2 * view->close_shift : 0),
															   view->lateness ? view->lateness : stream->lateness, -1)));
		weir_catalog_exec("INSERT INTO weir.view_behind VALUES (%u, %u, %d, " INT64_FORMAT ", " INT64_FORMAT ", %s)"
						  " ON CONFLICT (view, stream, partition, first_offset) DO UPDATE"
						  " SET last_offset = excluded.last_offset, closed = excluded.closed",
						  view->relid, stream->relid, range->partition, range->first, range->last, closed);
	}
	weir_catalog_close(&scope);
}

void
weir_behind_note(View *view, Delta *delta, TimestampTz closed)
{
	Stream	   *stream = weir_stream_require(delta->stream);
	TimestampTz over = over_at(view, stream, closed);
	ListCell   *lc;

	if (closed == DT_NOBEGIN || delta->least_seen >= over || !stream->keeps_rows)
		return;
	foreach(lc, find_ranges(delta, over, closed))
		save_range(view, stream, lfirst(lc));
}

bool
weir_behind_asked(View *view)
{
	return view->joins && !view->instants;
}

void
weir_behind_forget(Oid view)
{
	weir_catalog_exec("DELETE FROM weir.view_behind WHERE view = %u", view);
}

/* --- reading --------------------------------------------------------------------- */

static Range *
read_ranges(View *view, Oid stream, int *n)
{
	MemoryContext cxt = CurrentMemoryContext;
	Range	   *ranges;
	CatalogScope scope;

	weir_catalog_open(&scope);
	*n = (int) weir_catalog_exec("SELECT partition, first_offset, last_offset, closed FROM weir.view_behind"
								 " WHERE view = %u AND stream = %u ORDER BY partition, first_offset", view->relid, stream);
	ranges = MemoryContextAlloc(cxt, sizeof(Range) * Max(*n, 1));
	for (int i = 0; i < *n; i++)
	{
		HeapTuple	row = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		bool		isnull;

		ranges[i].partition = DatumGetInt32(SPI_getbinval(row, desc, 1, &isnull));
		ranges[i].first = DatumGetInt64(SPI_getbinval(row, desc, 2, &isnull));
		ranges[i].last = DatumGetInt64(SPI_getbinval(row, desc, 3, &isnull));
		ranges[i].closed = DatumGetTimestampTz(SPI_getbinval(row, desc, 4, &isnull));
	}
	weir_catalog_close(&scope);
	return ranges;
}

/* The range with the highest first offset up to this one, if it reaches so far. */
static Range *
range_of(Range *ranges, int n, int32 partition, int64 offset)
{
	int			low = 0;
	int			high = n;

	while (low < high)
	{
		int			middle = low + (high - low) / 2;
		Range	   *range = &ranges[middle];

		if (range->partition < partition || (range->partition == partition && range->first <= offset))
			low = middle + 1;
		else
			high = middle;
	}
	if (low == 0 || ranges[low - 1].partition != partition || ranges[low - 1].last < offset)
		return NULL;
	return &ranges[low - 1];
}

BehindRanges *
weir_behind_read(View *view, Oid stream)
{
	BehindRanges *result = palloc0(sizeof(BehindRanges));

	result->ranges = read_ranges(view, stream, &result->n);
	return result;
}

bool
weir_behind_found(BehindRanges *behind, int32 partition, int64 offset, TimestampTz *closed)
{
	Range	   *range = behind->n == 0 ? NULL : range_of(behind->ranges, behind->n, partition, offset);

	if (range)
		*closed = range->closed;
	return range != NULL;
}

Delta *
weir_behind_lift(View *view, Delta *delta)
{
	Stream	   *stream = weir_stream_require(delta->stream);
	int			n;
	Range	   *ranges = read_ranges(view, delta->stream, &n);
	DeltaCursor cursor;
	Datum	   *values;
	bool	   *isnull;
	Delta	   *lifted;
	Relation	rel;

	if (n == 0)
		return delta;
	rel = table_open(delta->stream, AccessShareLock);
	lifted = weir_delta_create(rel, work_mem);
	weir_delta_open(&cursor, delta);
	while (weir_delta_next(&cursor, &values, &isnull))
	{
		Range	   *range = range_of(ranges, n, PARTITION(delta, values), OFFSET(delta, values));

		if (range)
			values[delta->ndeclared + 3] = TimestampTzGetDatum(Max(SEEN(delta, values), over_at(view, stream, range->closed)));
		weir_delta_put(lifted, values, isnull);
	}
	weir_delta_close(&cursor);
	table_close(rel, NoLock);
	weir_delta_free(delta);
	return lifted;
}
