/*
 * late_rows.c
 *	  Late rows are counted, and kept if the stream says so; never dropped unseen.
 *
 * apply ⇒ late_rows ⇒ weir.stat_views.late, weir.late_rows. Runs in the
 * transaction of the batch, so what is kept is as exact as the view itself.
 */
#include "postgres.h"

#include "catalog/catalog.h"
#include "catalog/pg_type.h"
#include "catalog/stream.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "executor/tstoreReceiver.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "utils/builtins.h"
#include "utils/tuplestore.h"
#include "view/shape.h"
#include "view/upstream.h"

static void
keep_late_row(View *view, Oid stream, TupleTableSlot *slot)
{
	Oid			types[9] = {REGCLASSOID, REGCLASSOID, INT4OID, INT8OID, TIMESTAMPTZOID, TIMESTAMPTZOID, TEXTOID, TEXTOID, TEXTOID};
	Datum		values[9];
	char		nulls[9];
	int			ncolumns = slot->tts_tupleDescriptor->natts;
	Stream	   *base = weir_stream_get(stream);
	const char *topic = NULL;
	int32		partition;

	slot_getallattrs(slot);
	values[0] = ObjectIdGetDatum(stream);
	values[1] = ObjectIdGetDatum(view->relid);
	nulls[0] = nulls[1] = ' ';
	for (int i = 0; i < 6; i++)
	{
		values[i + 2] = i < ncolumns ? slot->tts_values[i] : (Datum) 0;
		nulls[i + 2] = i >= ncolumns || slot->tts_isnull[i] ? 'n' : ' ';
	}
	if (base != NULL && nulls[2] == ' ')
	{
		topic = weir_topic_of_number(base, DatumGetInt32(values[2]), &partition);
		values[2] = Int32GetDatum(partition);
	}
	nulls[8] = topic ? ' ' : 'n';
	values[8] = topic ? CStringGetTextDatum(topic) : (Datum) 0;
	if (SPI_execute_with_args("INSERT INTO weir.late_row (stream, view, partition, \"offset\", event_time,"
							  " window_start, reason, record, topic)"
							  " VALUES ($1, $2, $3, $4, $5, $6, coalesce($8, 'the window had closed'), coalesce($7, '{}')::jsonb, $9)",
							  9, types, values, nulls, false, 0) != SPI_OK_INSERT)
		elog(ERROR, "could not insert into weir.late_row");
}

static void
keep_late_rows(View *view, Oid stream, Tuplestorestate *rows, TupleDesc desc)
{
	TupleTableSlot *slot = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	CatalogScope scope;

	weir_catalog_open(&scope);
	while (tuplestore_gettupleslot(rows, true, false, slot))
		keep_late_row(view, stream, slot);
	weir_catalog_close(&scope);
	ExecDropSingleTupleTableSlot(slot);
}

int64
weir_late_collect(View *view, Oid stream, PlannedStmt *plan, QueryEnvironment *env)
{
	Tuplestorestate *rows = tuplestore_begin_heap(false, false, work_mem);
	DestReceiver *dest = CreateTuplestoreDestReceiver();
	int64		count;

	SetTuplestoreDestReceiverParams(dest, rows, CurrentMemoryContext, false, NULL, NULL);
	(void) weir_run_plan(plan, "find late rows", env, dest);
	count = tuplestore_tuple_count(rows);
	if (count > 0 && weir_source_require(stream)->late_keep)
		keep_late_rows(view, stream, rows, ExecCleanTypeFromTL(plan->planTree->targetlist));
	tuplestore_end(rows);
	return count;
}
