/*
 * change.c
 *	  The frame of weir's trigger functions: rows one by one, or the
 *	  transition tables of a statement.
 *
 * Trigger manager ⇒ here ⇒ notify.c, publish.c ⇒ collect. Memory: for a row
 * the trigger manager's own context, which it resets; for a statement one that is reset per row.
 */
#include "sink/change.h"

#include "commands/trigger.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/tuplestore.h"

/* Compares the key columns as bytes, the cheap way, then as text. */
bool
weir_change_same_key(SinkTrigger *trigger, TupleTableSlot *old, TupleTableSlot *new)
{
	if (old == NULL)
		return true;
	for (int i = 0; i < trigger->key->ncolumns; i++)
	{
		JsonColumn *column = &trigger->key->columns[i];
		Form_pg_attribute attr = TupleDescAttr(new->tts_tupleDescriptor, column->attnum - 1);
		bool		old_null;
		bool		new_null;
		Datum		old_value = slot_getattr(old, column->attnum, &old_null);
		Datum		new_value = slot_getattr(new, column->attnum, &new_null);
		StringInfoData a;
		StringInfoData b;

		if (old_null != new_null)
			return false;
		if (old_null || datum_image_eq(old_value, new_value, attr->attbyval, attr->attlen))
			continue;
		initStringInfo(&a);
		initStringInfo(&b);
		(void) weir_json_plain(&a, column, old);
		(void) weir_json_plain(&b, column, new);
		if (a.len != b.len || memcmp(a.data, b.data, a.len) != 0)
			return false;
	}
	return true;
}

static RecordOp
op_of_event(TriggerEvent event)
{
	return TRIGGER_FIRED_BY_INSERT(event) ? RECORD_INSERT :
		TRIGGER_FIRED_BY_DELETE(event) ? RECORD_DELETE : RECORD_UPDATE;
}

/* One row: the slots are the trigger manager's. */
static void
pass_row(TriggerData *data, SinkTrigger *trigger, ChangeSink sink)
{
	RecordOp	op = op_of_event(data->tg_event);

	if (op == RECORD_INSERT)
		sink(trigger, op, NULL, data->tg_trigslot);
	else if (op == RECORD_DELETE)
		sink(trigger, op, data->tg_trigslot, NULL);
	else
		sink(trigger, op, data->tg_trigslot, data->tg_newslot);
}

/* A statement: its transition tables, side by side for UPDATE. */
static void
pass_statement(TriggerData *data, SinkTrigger *trigger, ChangeSink sink)
{
	RecordOp	op = op_of_event(data->tg_event);
	Tuplestorestate *old = op == RECORD_INSERT ? NULL : data->tg_oldtable;
	Tuplestorestate *new = op == RECORD_DELETE ? NULL : data->tg_newtable;
	TupleDesc	desc = RelationGetDescr(data->tg_relation);
	TupleTableSlot *old_slot = old ? MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple) : NULL;
	TupleTableSlot *new_slot = new ? MakeSingleTupleTableSlot(desc, &TTSOpsMinimalTuple) : NULL;
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "weir sink row",
											  ALLOCSET_DEFAULT_SIZES);

	/* a read pointer of the tuplestore may have been moved by another trigger */
	if (old)
		tuplestore_rescan(old);
	if (new)
		tuplestore_rescan(new);
	for (;;)
	{
		MemoryContext oldcxt;

		CHECK_FOR_INTERRUPTS();
		if ((old && !tuplestore_gettupleslot(old, true, false, old_slot)) ||
			(new && !tuplestore_gettupleslot(new, true, false, new_slot)))
			break;
		oldcxt = MemoryContextSwitchTo(cxt);
		sink(trigger, op, old_slot, new_slot);
		MemoryContextSwitchTo(oldcxt);
		MemoryContextReset(cxt);
	}
	if (old_slot)
		ExecDropSingleTupleTableSlot(old_slot);
	if (new_slot)
		ExecDropSingleTupleTableSlot(new_slot);
}

Datum
weir_change_trigger(FunctionCallInfo fcinfo, bool notify, ChangeSink sink)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	SinkTrigger *trigger;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("weir.%s can only be called as a trigger", notify ? "notify" : "publish"),
				 errhint("CREATE TRIGGER ... AFTER INSERT OR UPDATE OR DELETE ON ... FOR EACH ROW EXECUTE FUNCTION weir.%s;",
						 notify ? "notify('channel')" : "publish('server', 'topic')")));
	trigger = weir_sink_trigger_get(data->tg_relation, data->tg_trigger, notify);
	if (TRIGGER_FIRED_FOR_STATEMENT(data->tg_event))
		pass_statement(data, trigger, sink);
	else
		pass_row(data, trigger, sink);
	return PointerGetDatum(NULL);
}
