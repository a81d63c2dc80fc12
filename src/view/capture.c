/*
 * capture.c
 *	  What weir's own statements change in a view, for the views that read it.
 *
 * A statement on the view's table (merge, close, REFRESH, expiry) ⇒ here ⇒ cascade.c. A view
 * that others follow has three statement triggers with transition tables, which fire in
 * all replication roles. They copy what came (of a view that changes, also what went)
 * into a delta; nothing is applied before the statement has ended. Rows that come
 * otherwise (pg_restore) are not looked at.
 *
 * Memory: TopTransactionContext; deltas spill to temporary files of the transaction. What a subtransaction
 * captured goes with it when it is rolled back.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/catalog.h"
#include "commands/trigger.h"
#include "executor/tuptable.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"
#include "view/upstream.h"

PG_FUNCTION_INFO_V1(weir_capture);

static List *captures = NIL;	/* of Capture *, in TopTransactionContext */

/* --- the list -------------------------------------------------------------------- */

List *
weir_captures(void)
{
	return captures;
}

void
weir_capture_forget(Capture *capture)
{
	captures = list_delete_ptr(captures, capture);
	if (capture->rows)
		weir_delta_free(capture->rows);
	list_free(capture->done);
	pfree(capture);
}

/*
 * weir_capture_skip: a view was computed from the tables as they are now, so what was captured so far is in it.
 */
void
weir_capture_skip(Oid view)
{
	ListCell   *lc;

	foreach(lc, captures)
	{
		Capture    *capture = lfirst(lc);
		MemoryContext old;

		if (!weir_source_changes(capture->view) || list_member_oid(capture->done, view) ||
			!list_member_oid(weir_view_oids_above(capture->view), view))
			continue;
		old = MemoryContextSwitchTo(TopTransactionContext);
		capture->done = lappend_oid(capture->done, view);
		MemoryContextSwitchTo(old);
	}
}

static Capture *
add_capture(Oid view)
{
	MemoryContext old = MemoryContextSwitchTo(TopTransactionContext);
	Capture    *capture = palloc0(sizeof(Capture));

	capture->view = view;
	capture->subid = GetCurrentSubTransactionId();
	captures = lappend(captures, capture);
	MemoryContextSwitchTo(old);
	return capture;
}

/* weir_capture_closed notes that windows of a final view closed, even if no row came. */
void
weir_capture_closed(Oid view)
{
	if (weir_view_oids_above(view) != NIL)
		(void) add_capture(view);
}

/* The delta that this subtransaction's changes of a view go to. */
static Delta *
capture_delta(Relation rel)
{
	SubTransactionId subid = GetCurrentSubTransactionId();
	MemoryContext old;
	Capture    *capture;
	ListCell   *lc;

	foreach(lc, captures)
	{
		capture = lfirst(lc);
		if (capture->view == RelationGetRelid(rel) && capture->subid == subid &&
			capture->rows && capture->done == NIL)
			return capture->rows;
	}
	capture = add_capture(RelationGetRelid(rel));

	/* it outlives the subtransaction that a worker runs each view in */
	old = MemoryContextSwitchTo(TopTransactionContext);
	capture->rows = weir_delta_create(rel, work_mem);
	capture->rows->owner = TopTransactionResourceOwner;
	MemoryContextSwitchTo(old);
	return capture->rows;
}

/* --- the trigger ------------------------------------------------------------------- */

static TimestampTz
row_time(TupleTableSlot *slot, AttrNumber attno)
{
	bool		isnull = true;
	Datum		value = attno ? slot_getattr(slot, attno, &isnull) : (Datum) 0;

	return isnull ? DT_NOBEGIN : DatumGetTimestampTz(value);
}

static void
copy_rows(Relation rel, Tuplestorestate *rows, int32 partition)
{
	TupleDesc	desc = RelationGetDescr(rel);
	Delta	   *delta = capture_delta(rel);
	AttrNumber	attno = weir_upstream_time_column(RelationGetRelid(rel), false);
	TupleTableSlot *slot = MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple);
	Datum	   *values = palloc(sizeof(Datum) * delta->desc->natts);
	bool	   *isnull = palloc0(sizeof(bool) * delta->desc->natts);

	tuplestore_select_read_pointer(rows, tuplestore_alloc_read_pointer(rows, EXEC_FLAG_REWIND));
	tuplestore_rescan(rows);
	while (tuplestore_gettupleslot(rows, true, false, slot))
	{
		int			n = 0;
		TimestampTz time = row_time(slot, attno);

		CHECK_FOR_INTERRUPTS();
		slot_getallattrs(slot);
		for (int i = 0; i < desc->natts; i++)
		{
			if (TupleDescAttr(desc, i)->attisdropped)
				continue;
			values[n] = slot->tts_values[i];
			isnull[n++] = slot->tts_isnull[i];
		}
		values[n++] = Int32GetDatum(partition);
		values[n++] = Int64GetDatum(delta->nrows);
		values[n++] = TimestampTzGetDatum(time);
		values[n++] = TimestampTzGetDatum(time);
		weir_delta_put(delta, values, isnull);
	}
	ExecDropSingleTupleTableSlot(slot);
}

/* weir.capture(): AFTER INSERT, UPDATE or DELETE FOR EACH STATEMENT, with transition tables */
Datum
weir_capture(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	Oid			relid;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_FOR_STATEMENT(trigger->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("weir.capture() must be called as a statement trigger")));
	relid = RelationGetRelid(trigger->tg_relation);
	if (!weir_is_applying() || weir_view_get(relid) == NULL || weir_view_oids_above(relid) == NIL)
		PG_RETURN_POINTER(NULL);
	if (trigger->tg_oldtable && weir_source_changes(relid))
		copy_rows(trigger->tg_relation, trigger->tg_oldtable, WEIR_GONE_PARTITION);
	if (trigger->tg_newtable)
		copy_rows(trigger->tg_relation, trigger->tg_newtable, WEIR_INSERT_PARTITION);
	PG_RETURN_POINTER(NULL);
}

/* weir_capture_watch gives a view the triggers, unless it has them. The caller holds off its writers. */
void
weir_capture_watch(Oid view)
{
	static const char *const triggers[][2] = {
		{"insert", "NEW TABLE AS came"},
		{"update", "OLD TABLE AS went NEW TABLE AS came"},
		{"delete", "OLD TABLE AS went"},
	};
	char	   *name = weir_relation_name(view);
	CatalogScope scope;

	weir_catalog_open(&scope);
	if (weir_catalog_exec("SELECT FROM pg_catalog.pg_trigger WHERE tgrelid = %u AND tgname = 'weir_capture_insert'", view) == 0)
		for (int i = 0; i < lengthof(triggers); i++)
		{
			weir_catalog_exec("CREATE TRIGGER weir_capture_%s AFTER %s ON %s REFERENCING %s"
							  " FOR EACH STATEMENT EXECUTE FUNCTION weir.capture()",
							  triggers[i][0], triggers[i][0], name, triggers[i][1]);
			weir_catalog_exec("ALTER TABLE %s ENABLE ALWAYS TRIGGER weir_capture_%s", name, triggers[i][0]);
		}
	weir_catalog_close(&scope);
}

/* --- transactions -------------------------------------------------------------------- */

static void
capture_xact_ended(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
		captures = NIL;			/* its memory went with the transaction */
}

static void
capture_subxact_ended(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *arg)
{
	ListCell   *lc;
	List	   *gone = NIL;

	if (event != SUBXACT_EVENT_ABORT_SUB && event != SUBXACT_EVENT_COMMIT_SUB)
		return;
	foreach(lc, captures)
	{
		Capture    *capture = lfirst(lc);

		if (capture->subid != mine)
			continue;
		if (event == SUBXACT_EVENT_COMMIT_SUB)
			capture->subid = parent;
		else
			gone = lappend(gone, capture);
	}
	foreach(lc, gone)
		weir_capture_forget(lfirst(lc));
	list_free(gone);
}

/* weir_capture_init is called once per process, from _PG_init. */
void
weir_capture_init(void)
{
	RegisterXactCallback(capture_xact_ended, NULL);
	RegisterSubXactCallback(capture_subxact_ended, NULL);
}
