/*
 * delta.c
 *	  A batch of new rows of one stream.
 *
 * decode or INSERT ⇒ delta ⇒ segments (kept rows) and views.
 *
 * Rows lie as arrays of Datums and null flags in blocks, the way the executor
 * wants them, so that reading one costs nothing (scan.c). A block is filled from
 * both ends: rows from the front, the values they point to from the back.
 *
 * Memory: the delta lives in the context that was current at
 * weir_delta_create(), bounded by the kilobytes given there. Rows beyond that go
 * to a tuplestore, which writes them to a temporary file that the current
 * transaction's resource owner closes; they are read behind the others.
 */
#include "delta/delta.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "executor/spi.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "utils/expandeddatum.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"

/* A lone row needs little; for many, blocks grow to what the allocator asks the system for anyway. */
#define FIRST_BLOCK ((Size) 4 * 1024)
#define LARGEST_BLOCK ((Size) 256 * 1024)

/* Work memory of the tuplestore of spilled rows: the delta has had its share. */
#define SPILL_KILOBYTES 64

/* Rows that a query gives at once. */
#define FETCH_ROWS 1000

struct DeltaBlock
{
	DeltaBlock *next;
	int			nrows;
	char	   *free;			/* end of the rows */
	char	   *end;			/* begin of the values */
	Datum		rows[FLEXIBLE_ARRAY_MEMBER];
};

char *
weir_delta_name(Oid stream)
{
	return psprintf(WEIR_DELTA_PREFIX "%u", stream);
}

/*
 * weir_delta_desc describes a delta's rows: the live columns of the stream's
 * table, then the hidden ones. Constraints and defaults are left behind: a
 * delta holds rows that have passed them.
 */
TupleDesc
weir_delta_desc(Relation rel)
{
	static const struct
	{
		const char *name;
		Oid			type;
	}			hidden[WEIR_NUM_HIDDEN] = {
		{WEIR_COL_PARTITION, INT4OID},
		{WEIR_COL_OFFSET, INT8OID},
		{WEIR_COL_EVENT_TIME, TIMESTAMPTZOID},
		{WEIR_COL_STREAM_TIME, TIMESTAMPTZOID},
	};
	TupleDesc	source = RelationGetDescr(rel);
	TupleDesc	desc;
	int			nlive = 0;

	for (int i = 0; i < source->natts; i++)
	{
		if (!TupleDescAttr(source, i)->attisdropped)
			nlive++;
	}
	desc = CreateTemplateTupleDesc(nlive + WEIR_NUM_HIDDEN);
	nlive = 0;
	for (int i = 0; i < source->natts; i++)
	{
		if (!TupleDescAttr(source, i)->attisdropped)
			TupleDescCopyEntry(desc, ++nlive, source, i + 1);
	}
	for (int i = 0; i < WEIR_NUM_HIDDEN; i++)
		TupleDescInitEntry(desc, nlive + i + 1, hidden[i].name, hidden[i].type, -1, 0);
	return BlessTupleDesc(desc);
}

int
weir_delta_column(Relation rel, AttrNumber attnum)
{
	int			column = 0;

	if (attnum <= 0)
		return -1;
	for (int i = 0; i < attnum - 1; i++)
	{
		if (!TupleDescAttr(RelationGetDescr(rel), i)->attisdropped)
			column++;
	}
	return column;
}

Delta *
weir_delta_create(Relation rel, int kilobytes)
{
	Delta	   *delta = palloc0(sizeof(Delta));

	delta->magic = WEIR_DELTA_MAGIC;
	delta->stream = RelationGetRelid(rel);
	delta->desc = weir_delta_desc(rel);
	delta->ndeclared = delta->desc->natts - WEIR_NUM_HIDDEN;
	delta->stream_time = DT_NOBEGIN;
	delta->least_seen = DT_NOEND;
	delta->cxt = CurrentMemoryContext;
	delta->limit = (Size) kilobytes * 1024;
	delta->row_size = MAXALIGN(delta->desc->natts * (sizeof(Datum) + sizeof(bool)));
	delta->byref = palloc(delta->desc->natts * sizeof(int));
	for (int i = 0; i < delta->desc->natts; i++)
	{
		if (!TupleDescAttr(delta->desc, i)->attbyval)
			delta->byref[delta->nbyref++] = i;
	}
	return delta;
}

/* Makes room for size bytes; false: the delta has had its memory. */
static bool
reserve(Delta *delta, Size size)
{
	DeltaBlock *block = delta->last;
	Size		wanted;

	if (block && block->end - block->free >= size)
		return true;
	wanted = block == NULL ? FIRST_BLOCK : Min(Max(FIRST_BLOCK, delta->bytes), LARGEST_BLOCK);
	wanted = Max(wanted, size + offsetof(DeltaBlock, rows));
	if (block && delta->bytes + wanted > delta->limit)
		return false;
	block = MemoryContextAllocHuge(delta->cxt, wanted);
	block->next = NULL;
	block->nrows = 0;
	block->free = (char *) block->rows;
	block->end = (char *) block + MAXALIGN_DOWN(wanted);
	if (delta->last)
		delta->last->next = block;
	else
		delta->first = block;
	delta->last = block;
	delta->bytes += wanted;
	return true;
}

/* Bytes of a value that is not in the row itself. */
static inline Size
value_size(Datum value, int16 typlen)
{
	if (typlen > 0)
		return typlen;
	if (typlen == -2)
		return strlen(DatumGetCString(value)) + 1;
	if (unlikely(VARATT_IS_EXTERNAL_EXPANDED(DatumGetPointer(value))))
		return EOH_get_flat_size(DatumGetEOHP(value));
	return VARSIZE_ANY(DatumGetPointer(value));
}

/* Copies a value of this size into the last block, which has room for it. */
static inline Datum
copy_value(DeltaBlock *block, Datum value, int16 typlen, Size size)
{
	block->end -= MAXALIGN(size);
	if (unlikely(typlen == -1 && VARATT_IS_EXTERNAL_EXPANDED(DatumGetPointer(value))))
		EOH_flatten_into(DatumGetEOHP(value), block->end, size);
	else
		memcpy(block->end, DatumGetPointer(value), size);
	return PointerGetDatum(block->end);
}

/* Puts the row behind those in memory; false: it does not fit. */
static bool
put_in_memory(Delta *delta, const Datum *values, const bool *isnull)
{
	int			natts = delta->desc->natts;
	Datum	   *row;
	Size		total = delta->row_size;

	for (int k = 0; k < delta->nbyref; k++)
	{
		int			i = delta->byref[k];

		if (!isnull[i])
			total += MAXALIGN(value_size(values[i], TupleDescAttr(delta->desc, i)->attlen));
	}
	if (!reserve(delta, total))
		return false;
	row = (Datum *) delta->last->free;
	memcpy(row, values, natts * sizeof(Datum));
	memcpy(row + natts, isnull, natts * sizeof(bool));
	for (int k = 0; k < delta->nbyref; k++)
	{
		int			i = delta->byref[k];
		int16		typlen = TupleDescAttr(delta->desc, i)->attlen;

		if (!isnull[i])
			row[i] = copy_value(delta->last, values[i], typlen, value_size(values[i], typlen));
	}
	delta->last->free += delta->row_size;
	delta->last->nrows++;
	return true;
}

static void
put_spilled(Delta *delta, Datum *values, bool *isnull)
{
	if (delta->spilled == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(delta->cxt);
		ResourceOwner save = CurrentResourceOwner;

		/* INSERTed rows wait longer than the query that brings them */
		CurrentResourceOwner = delta->owner ? delta->owner : CurTransactionResourceOwner;
		delta->spilled = tuplestore_begin_heap(true, false, SPILL_KILOBYTES);
		CurrentResourceOwner = save;
		MemoryContextSwitchTo(old);
	}
	tuplestore_putvalues(delta->spilled, delta->desc, values, isnull);
}

void
weir_delta_put(Delta *delta, Datum *values, bool *isnull)
{
	TimestampTz event_time = DatumGetTimestampTz(values[delta->ndeclared + 2]);
	TimestampTz seen = DatumGetTimestampTz(values[delta->ndeclared + 3]);

	if (delta->spilled || !put_in_memory(delta, values, isnull))
		put_spilled(delta, values, isnull);
	delta->nrows++;
	if (event_time > delta->stream_time)
		delta->stream_time = event_time;
	if (seen < delta->least_seen)
		delta->least_seen = seen;
}

void
weir_delta_free(Delta *delta)
{
	while (delta->first)
	{
		DeltaBlock *block = delta->first;

		delta->first = block->next;
		pfree(block);
	}
	if (delta->spilled)
		tuplestore_end(delta->spilled);
	FreeTupleDesc(delta->desc);
	pfree(delta->byref);
	delta->magic = 0;
	pfree(delta);
}

bool
weir_delta_in_memory(const Delta *delta)
{
	return delta->spilled == NULL;
}

/* ---- reading ---- */

void
weir_delta_open(DeltaCursor *cursor, Delta *delta)
{
	cursor->delta = delta;
	cursor->cxt = CurrentMemoryContext;
	cursor->slot = NULL;
	if (delta->spilled)
	{
		cursor->slot = MakeSingleTupleTableSlot(delta->desc, &TTSOpsMinimalTuple);
		cursor->pointer = tuplestore_alloc_read_pointer(delta->spilled, EXEC_FLAG_REWIND);
	}
	weir_delta_rewind(cursor);
}

void
weir_delta_rewind(DeltaCursor *cursor)
{
	cursor->block = cursor->delta->first;
	cursor->row = 0;
	if (cursor->slot)
	{
		tuplestore_select_read_pointer(cursor->delta->spilled, cursor->pointer);
		tuplestore_rescan(cursor->delta->spilled);
	}
}

void
weir_delta_close(DeltaCursor *cursor)
{
	if (cursor->slot)
		ExecDropSingleTupleTableSlot(cursor->slot);
	cursor->slot = NULL;
}

void
weir_delta_skip(DeltaCursor *cursor, int64 nrows)
{
	while (cursor->block && nrows >= cursor->block->nrows - cursor->row)
	{
		nrows -= cursor->block->nrows - cursor->row;
		cursor->block = cursor->block->next;
		cursor->row = 0;
	}
	if (cursor->block)
		cursor->row += nrows;
	else if (nrows > 0)
	{
		tuplestore_select_read_pointer(cursor->delta->spilled, cursor->pointer);
		tuplestore_skiptuples(cursor->delta->spilled, nrows, true);
	}
}

/* The next row among the spilled ones. */
static pg_noinline bool
next_spilled(DeltaCursor *cursor)
{
	MemoryContext old = MemoryContextSwitchTo(cursor->cxt);
	bool		found;

	CHECK_FOR_INTERRUPTS();
	tuplestore_select_read_pointer(cursor->delta->spilled, cursor->pointer);
	found = tuplestore_gettupleslot(cursor->delta->spilled, true, false, cursor->slot);
	if (found)
		slot_getallattrs(cursor->slot);
	MemoryContextSwitchTo(old);
	return found;
}

bool
weir_delta_next(DeltaCursor *cursor, Datum **values, bool **isnull)
{
	Delta	   *delta = cursor->delta;

	while (cursor->block)
	{
		if (likely(cursor->row < cursor->block->nrows))
		{
			*values = (Datum *) ((char *) cursor->block->rows + cursor->row++ * delta->row_size);
			*isnull = (bool *) (*values + delta->desc->natts);
			return true;
		}
		CHECK_FOR_INTERRUPTS();
		cursor->block = cursor->block->next;
		cursor->row = 0;
	}
	if (cursor->slot == NULL || !next_spilled(cursor))
		return false;
	*values = cursor->slot->tts_values;
	*isnull = cursor->slot->tts_isnull;
	return true;
}

void
weir_delta_put_query(Delta *delta, const char *sql, bool number, const char *source)
{
	Datum	   *values = palloc(sizeof(Datum) * delta->desc->natts);
	bool	   *isnull = palloc(sizeof(bool) * delta->desc->natts);
	SPIPlanPtr	plan;
	Portal		portal;

	PushActiveSnapshot(GetLatestSnapshot());
	plan = SPI_prepare(sql, 0, NULL);
	if (plan == NULL)
		elog(ERROR, "could not read the rows of %s", source);
	portal = SPI_cursor_open(NULL, plan, NULL, NULL, true);
	for (;;)
	{
		SPI_cursor_fetch(portal, true, FETCH_ROWS);
		if (SPI_processed == 0)
			break;
		for (uint64 i = 0; i < SPI_processed; i++)
		{
			heap_deform_tuple(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, values, isnull);
			if (number)
				values[delta->ndeclared + 1] = Int64GetDatum(delta->nrows);
			weir_delta_put(delta, values, isnull);
		}
		SPI_freetuptable(SPI_tuptable);
	}
	SPI_cursor_close(portal);
	PopActiveSnapshot();
}
