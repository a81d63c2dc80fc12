/*
 * snapshot.c
 *	  weir.snapshot: the present contents of a table through one of its
 *	  weir.publish triggers, before all later changes.
 *
 * SQL ⇒ here ⇒ publish.c's way of a row ⇒ collect ⇒ outbox. A SHARE lock on
 * the table keeps writers out until the caller commits: what they committed
 * before is in the contents (and may wait in the outbox with a lower number),
 * what comes later gets a higher number. So there is no gap, and a key's last
 * record is its last state.
 */
#include "weir.h"

#include "access/table.h"
#include "access/tableam.h"
#include "catalog/catalog.h"
#include "catalog/stream.h"
#include "catalog/view.h"
#include "commands/trigger.h"
#include "compat.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/primnodes.h"
#include "optimizer/optimizer.h"
#include "rewrite/prs2lock.h"
#include "rewrite/rewriteManip.h"
#include "sink/change.h"
#include "sink/publish.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "view/ring.h"

PG_FUNCTION_INFO_V1(weir_snapshot);

/* A copy: the relation's own triggers go when it is cached anew. */
static Trigger *
find_trigger(Relation rel, const char *name)
{
	TriggerDesc *triggers = CopyTriggerDesc(rel->trigdesc);

	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
	{
		Trigger    *trigger = &triggers->triggers[i];

		if (strcmp(trigger->tgname, name) != 0)
			continue;
		if (get_func_namespace(trigger->tgfoid) == weir_schema_oid() &&
			strcmp(get_func_name(trigger->tgfoid), "publish") == 0)
			return trigger;
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("trigger \"%s\" does not execute weir.publish", name)));
	}
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("trigger \"%s\" for table \"%s\" does not exist", name,
					RelationGetRelationName(rel))));
}

/* The trigger's WHEN condition over a new row (the econtext's outer tuple); NULL: it has none. */
static ExprState *
prepare_when(Trigger *trigger, EState *estate)
{
	Node	   *qual;

	if (trigger->tgqual == NULL)
		return NULL;
	qual = stringToNode(trigger->tgqual);
	if (bms_is_member(PRS2_OLD_VARNO, pull_varnos(NULL, qual)))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("trigger \"%s\" looks at old rows in its WHEN condition", trigger->tgname),
				 errdetail("The present contents have no old rows.")));
	ChangeVarNodes(qual, PRS2_NEW_VARNO, OUTER_VAR, 0);
	return ExecPrepareQual(make_ands_implicit((Expr *) qual), estate);
}

static int64
publish_contents(Relation rel, Trigger *trigger)
{
	SinkTrigger *parsed = weir_sink_trigger_get(rel, trigger, false);
	EState	   *estate = CreateExecutorState();
	ExprContext *econtext = GetPerTupleExprContext(estate);
	ExprState  *when = prepare_when(trigger, estate);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	TableScanDesc scan = table_beginscan(rel, snapshot, 0, NULL);
	int64		n = 0;

	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		MemoryContext oldcxt = MemoryContextSwitchTo(GetPerTupleMemoryContext(estate));

		CHECK_FOR_INTERRUPTS();
		econtext->ecxt_outertuple = slot;
		if (when == NULL || ExecQual(when, econtext))
		{
			weir_publish_row(parsed, slot);
			n++;
		}
		MemoryContextSwitchTo(oldcxt);
		ResetPerTupleExprContext(estate);
	}
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	ExecDropSingleTupleTableSlot(slot);
	FreeExecutorState(estate);
	return n;
}

/* A segmented view's rows are in its slots, each with a clone of the trigger. */
static int64
publish_slots(Oid view, const char *trigger)
{
	int64		n = 0;
	ListCell   *lc;

	foreach(lc, weir_ring_slots(view))
	{
		Relation	slot = table_open(lfirst_oid(lc), AccessShareLock);

		n += publish_contents(slot, find_trigger(slot, trigger));
		table_close(slot, NoLock);
	}
	return n;
}

Datum
weir_snapshot(PG_FUNCTION_ARGS)
{
	Oid			relid = PG_GETARG_OID(0);
	Relation	rel;
	int64		n;

	weir_check_owner(relid);
	PreventCommandIfReadOnly("weir.snapshot()");
	rel = table_open(relid, ShareLock);
	if ((rel->rd_rel->relkind != RELKIND_RELATION && weir_view_get(relid) == NULL) || weir_stream_get(relid) != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("weir.snapshot works on tables and continuous views, not on \"%s\"",
						RelationGetRelationName(rel))));
	if (weir_ring_is(relid))
	{
		(void) find_trigger(rel, NameStr(*PG_GETARG_NAME(1)));
		n = publish_slots(relid, NameStr(*PG_GETARG_NAME(1)));
	}
	else
		n = publish_contents(rel, find_trigger(rel, NameStr(*PG_GETARG_NAME(1))));
	table_close(rel, NoLock);
	PG_RETURN_INT64(n);
}
