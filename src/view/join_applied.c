/*
 * join_applied.c
 *	  Which kept rows a view that joins streams has taken in.
 *
 * apply ⇒ join_applied, called from the statement (join_delta.c) for kept rows that may meet the
 * batch. Not taken in are
 *	  - rows of the batch at hand itself, which stand among the kept ones already;
 *	  - rows that came while the view was paused or had failed, as far as it has not caught up;
 *	  - rows that the view refused (its dead letters).
 * What the first two come to later finds these rows then, so each pair counts once. A row is known by
 * partition and offset; partitions of several topics have numbers of their own (topic_number.c).
 *
 * Memory: hash tables in the context of the statement, made when first asked for.
 */
#include "postgres.h"

#include "catalog/catalog.h"
#include "catalog/stream.h"
#include "delta/delta.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "view/close.h"
#include "view/join.h"

PG_FUNCTION_INFO_V1(weir_applied);
PG_FUNCTION_INFO_V1(weir_found_closed);

typedef struct RowKey
{
	int64		offset;
	int64		partition;
} RowKey;

/* From which offset on a partition's rows are not taken in. */
typedef struct Behind
{
	int32		partition;
	int64		offset;
} Behind;

/* What is known of one stream. */
typedef struct StreamApplied
{
	Oid			stream;
	List	   *behind;			/* of Behind */
	HTAB	   *missing;		/* of RowKey; NULL: none */
	HTAB	   *done;			/* of RowKey: rows of the batch that were applied already, in another part of it */
} StreamApplied;

/* What rows of a stream found closed. */
typedef struct StreamBehind
{
	Oid			stream;
	BehindRanges *ranges;
} StreamBehind;

struct JoinApplied
{
	Oid			view;
	Delta	   *delta;
	MemoryContext cxt;
	List	   *streams;		/* of StreamApplied */
	List	   *behind;			/* of StreamBehind */
};

static JoinApplied *applied = NULL;

/* weir_applied_enter makes an answer the current one and returns the last, to be put back. */
JoinApplied *
weir_applied_enter(JoinApplied *now)
{
	JoinApplied *last = applied;

	applied = now;
	return last;
}

/* weir_applied_begin: what a view has taken in before this delta; lives in CurrentMemoryContext. */
JoinApplied *
weir_applied_begin(Oid view, Delta *delta)
{
	JoinApplied *result = palloc0(sizeof(JoinApplied));

	result->view = view;
	result->delta = delta;
	result->cxt = CurrentMemoryContext;
	return result;
}

static void
add_key(HTAB **set, int32 partition, int64 offset)
{
	RowKey		key = {offset, partition};

	if (*set == NULL)
	{
		HASHCTL		ctl = {.keysize = sizeof(RowKey),.entrysize = sizeof(RowKey),.hcxt = applied->cxt};

		*set = hash_create("weir rows applied", 1024, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	(void) hash_search(*set, &key, HASH_ENTER, NULL);
}

static bool
has_key(HTAB *set, RowKey *key)
{
	return set != NULL && hash_search(set, key, HASH_FIND, NULL) != NULL;
}

static void
add_delta(HTAB **set, Delta *delta)
{
	DeltaCursor cursor;
	Datum	   *values;
	bool	   *isnull;

	weir_delta_open(&cursor, delta);
	while (weir_delta_next(&cursor, &values, &isnull))
		add_key(set, DatumGetInt32(values[delta->ndeclared]), DatumGetInt64(values[delta->ndeclared + 1]));
	weir_delta_close(&cursor);
}

/* The partition of a row of the catalog that is (topic, partition, offset), as kept rows know it. */
static bool
read_partition(Stream *stream, uint64 row, int32 *partition, int64 *offset)
{
	HeapTuple	tuple = SPI_tuptable->vals[row];
	TupleDesc	desc = SPI_tuptable->tupdesc;
	char	   *topic = SPI_getvalue(tuple, desc, 1);
	bool		isnull;

	*offset = DatumGetInt64(SPI_getbinval(tuple, desc, 3, &isnull));
	return weir_topic_number(stream, topic ? topic : WEIR_INSERT_TOPIC, DatumGetInt32(SPI_getbinval(tuple, desc, 2, &isnull)), partition);
}

static void
read_catalog(StreamApplied *entry)
{
	Stream	   *stream = weir_stream_require(entry->stream);
	CatalogScope scope;
	MemoryContext old;
	int32		partition;
	int64		offset;

	weir_catalog_open(&scope);
	weir_catalog_exec("SELECT topic, partition, next_offset FROM weir.view_position WHERE view = %u AND stream = %u",
					  applied->view, entry->stream);
	old = MemoryContextSwitchTo(applied->cxt);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		Behind	   *behind = palloc(sizeof(Behind));

		if (read_partition(stream, i, &behind->partition, &behind->offset))
			entry->behind = lappend(entry->behind, behind);
	}
	MemoryContextSwitchTo(old);
	weir_catalog_exec("SELECT topic, partition, \"offset\" FROM weir.dead_letter WHERE view = %u AND stream = %u AND partition IS NOT NULL",
					  applied->view, entry->stream);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		if (read_partition(stream, i, &partition, &offset))
			add_key(&entry->missing, partition, offset);
	}
	weir_catalog_close(&scope);
}

static StreamApplied *
entry_of(Oid stream)
{
	StreamApplied *entry;
	MemoryContext old;
	ListCell   *lc;

	foreach(lc, applied->streams)
	{
		entry = lfirst(lc);
		if (entry->stream == stream)
			return entry;
	}
	old = MemoryContextSwitchTo(applied->cxt);
	entry = palloc0(sizeof(StreamApplied));
	entry->stream = stream;
	applied->streams = lappend(applied->streams, entry);
	read_catalog(entry);
	if (applied->delta && applied->delta->stream == stream)
	{
		add_delta(&entry->missing, applied->delta->batch ? applied->delta->batch : applied->delta);
		if (applied->delta->done)
			add_delta(&entry->done, applied->delta->done);
	}
	MemoryContextSwitchTo(old);
	return entry;
}

/* weir.applied(stream, partition, offset): has the view at hand taken in this kept row before its batch? */
Datum
weir_applied(PG_FUNCTION_ARGS)
{
	StreamApplied *entry;
	RowKey		key = {0};
	ListCell   *lc;

	if (applied == NULL)
		PG_RETURN_BOOL(true);
	entry = entry_of(PG_GETARG_OID(0));
	key.partition = PG_GETARG_INT32(1);
	key.offset = PG_GETARG_INT64(2);
	if (has_key(entry->done, &key))
		PG_RETURN_BOOL(true);
	foreach(lc, entry->behind)
	{
		Behind	   *behind = lfirst(lc);

		if (behind->partition == key.partition && key.offset >= behind->offset)
			PG_RETURN_BOOL(false);
	}
	PG_RETURN_BOOL(!has_key(entry->missing, &key));
}

static BehindRanges *
behind_of(Oid stream)
{
	StreamBehind *entry;
	MemoryContext old;
	ListCell   *lc;

	foreach(lc, applied->behind)
	{
		entry = lfirst(lc);
		if (entry->stream == stream)
			return entry->ranges;
	}
	old = MemoryContextSwitchTo(applied->cxt);
	entry = palloc(sizeof(StreamBehind));
	*entry = (StreamBehind) {stream, weir_behind_read(weir_view_require(applied->view), stream)};
	applied->behind = lappend(applied->behind, entry);
	MemoryContextSwitchTo(old);
	return entry->ranges;
}

/* weir.found_closed(stream, partition, offset): up to when had the view at hand closed when this row came? NULL: no further than its partition had come. */
Datum
weir_found_closed(PG_FUNCTION_ARGS)
{
	TimestampTz closed;

	if (applied == NULL || !weir_behind_found(behind_of(PG_GETARG_OID(0)), PG_GETARG_INT32(1), PG_GETARG_INT64(2), &closed))
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ(closed);
}
