/*
 * delta.c
 *	  A batch of new rows of one stream, as a tuplestore.
 *
 * decode or INSERT ⇒ delta ⇒ segments (kept rows) and views.
 *
 * Memory: the delta and its tuplestore live in the context that was current
 * at weir_delta_create(), bounded by the kilobytes given there; beyond that
 * the tuplestore spills to a temporary file that the current transaction's resource owner closes.
 */
#include "delta/delta.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "utils/resowner.h"

char *
weir_delta_name(Oid stream)
{
	return psprintf("weir_delta_%u", stream);
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
	ResourceOwner save = CurrentResourceOwner;

	delta->stream = RelationGetRelid(rel);
	delta->desc = weir_delta_desc(rel);
	delta->ndeclared = delta->desc->natts - WEIR_NUM_HIDDEN;
	delta->stream_time = DT_NOBEGIN;

	/* INSERTed rows wait longer than the query that brings them */
	CurrentResourceOwner = CurTransactionResourceOwner;
	delta->rows = tuplestore_begin_heap(true, false, kilobytes);
	CurrentResourceOwner = save;
	return delta;
}

void
weir_delta_put(Delta *delta, Datum *values, bool *isnull)
{
	TimestampTz event_time = DatumGetTimestampTz(values[delta->ndeclared + 2]);

	tuplestore_putvalues(delta->rows, delta->desc, values, isnull);
	delta->nrows++;
	if (event_time > delta->stream_time)
		delta->stream_time = event_time;
}

void
weir_delta_free(Delta *delta)
{
	tuplestore_end(delta->rows);
	FreeTupleDesc(delta->desc);
	pfree(delta);
}
