/*
 * direct.c
 *	  Views that store nothing (weir.keep = 0): rows go from the query to
 *	  the triggers.
 *
 * apply ⇒ the executor ⇒ here ⇒ publish.c, notify.c ⇒ collect. Stands in for INSERT ... SELECT into
 * a table whose INSERT triggers are all weir.publish or weir.notify FOR EACH ROW: their
 * functions see each row as it leaves the query, so there is no table write, no queue of
 * trigger events, and no row to fetch again. Runs in the batch's transaction, as the view's owner.
 * Memory: one row's, reset after it.
 */
#include "sink/direct.h"

#include "access/htup_details.h"
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "nodes/makefuncs.h"
#include "optimizer/optimizer.h"
#include "rewrite/rewriteManip.h"
#include "sink/publish.h"
#include "sink/sinks.h"
#include "utils/memutils.h"
#include "utils/reltrigger.h"

/* A trigger that fires for INSERT. */
typedef struct DirectTrigger
{
	SinkTrigger *sink;
	ExprState  *when;			/* NULL: always */
} DirectTrigger;

typedef struct DirectReceiver
{
	DestReceiver pub;
	Relation	rel;
	EState	   *estate;
	ResultRelInfo *result;		/* for constraints; NULL: there are none */
	int			ntriggers;
	DirectTrigger *triggers;
	MemoryContext row_cxt;
} DirectReceiver;

static bool
is_sink(const Trigger *trigger, bool *notify)
{
	*notify = weir_sink_is_function(trigger->tgfoid, "notify");
	return *notify || weir_sink_is_function(trigger->tgfoid, "publish");
}

char *
weir_direct_obstacle(Relation rel, int ncolumns)
{
	TriggerDesc *triggers = CopyTriggerDesc(rel->trigdesc); /* look-ups may have the relation cached anew */

	if (RelationGetDescr(rel)->natts != ncolumns)
		return pstrdup("its table has columns of its own");
	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
	{
		const Trigger *trigger = &triggers->triggers[i];
		bool		notify;

		if (!TRIGGER_FOR_INSERT(trigger->tgtype) || trigger->tgenabled == TRIGGER_DISABLED ||
			weir_sink_is_function(trigger->tgfoid, "refuse_change"))
			continue;
		if (trigger->tgisinternal)
			return pstrdup("its table has a foreign key");
		if (!is_sink(trigger, &notify))
			return psprintf("its trigger \"%s\" is not one of weir's", trigger->tgname);
		if (!TRIGGER_FOR_ROW(trigger->tgtype))
			return psprintf("its trigger \"%s\" is not FOR EACH ROW", trigger->tgname);
	}
	return NULL;
}

/* Does it fire in this session? */
static bool
fires(const Trigger *trigger)
{
	if (!TRIGGER_FOR_INSERT(trigger->tgtype) || !TRIGGER_FOR_ROW(trigger->tgtype) ||
		trigger->tgenabled == TRIGGER_DISABLED)
		return false;
	return trigger->tgenabled !=
		(SessionReplicationRole == SESSION_REPLICATION_ROLE_REPLICA ?
		 TRIGGER_FIRES_ON_ORIGIN : TRIGGER_FIRES_ON_REPLICA);
}

/* WHEN, with NEW as the outer row. */
static ExprState *
prepare_when(const Trigger *trigger, EState *estate)
{
	Node	   *qual;

	if (trigger->tgqual == NULL)
		return NULL;
	qual = stringToNode(trigger->tgqual);
	ChangeVarNodes(qual, PRS2_NEW_VARNO, OUTER_VAR, 0);
	return ExecPrepareQual(make_ands_implicit((Expr *) qual), estate);
}

static void
direct_startup(DestReceiver *self, int operation, TupleDesc desc)
{
	DirectReceiver *direct = (DirectReceiver *) self;
	TriggerDesc *triggers = CopyTriggerDesc(direct->rel->trigdesc); /* as above */
	TupleConstr *constraints = RelationGetDescr(direct->rel)->constr;

	direct->estate = CreateExecutorState();
	direct->row_cxt = GetPerTupleMemoryContext(direct->estate);
	if (constraints != NULL && (constraints->has_not_null || constraints->num_check > 0))
	{
		direct->result = makeNode(ResultRelInfo);
		InitResultRelInfo(direct->result, direct->rel, 0, NULL, 0);
	}
	if (triggers == NULL)
		return;
	direct->triggers = palloc(sizeof(DirectTrigger) * triggers->numtriggers);
	for (int i = 0; i < triggers->numtriggers; i++)
	{
		Trigger    *trigger = &triggers->triggers[i];
		DirectTrigger *mine = &direct->triggers[direct->ntriggers];
		bool		notify;

		if (!fires(trigger) || !is_sink(trigger, &notify))
			continue;
		mine->sink = weir_sink_trigger_get(direct->rel, trigger, notify);
		mine->when = prepare_when(trigger, direct->estate);
		direct->ntriggers++;
	}
}

static bool
direct_receive(TupleTableSlot *slot, DestReceiver *self)
{
	DirectReceiver *direct = (DirectReceiver *) self;
	MemoryContext oldcxt;

	if (direct->result)
		ExecConstraints(direct->result, slot, direct->estate);
	oldcxt = MemoryContextSwitchTo(direct->row_cxt);
	for (int i = 0; i < direct->ntriggers; i++)
	{
		DirectTrigger *trigger = &direct->triggers[i];

		if (trigger->when)
		{
			ExprContext *econtext = GetPerTupleExprContext(direct->estate);

			econtext->ecxt_outertuple = slot;
			if (!ExecQual(trigger->when, econtext))
				continue;
		}
		if (trigger->sink->notify)
			weir_notify_row(trigger->sink, slot);
		else
			weir_publish_row(trigger->sink, slot);
	}
	MemoryContextSwitchTo(oldcxt);
	MemoryContextReset(direct->row_cxt);
	return true;
}

static void
direct_shutdown(DestReceiver *self)
{
	DirectReceiver *direct = (DirectReceiver *) self;

	FreeExecutorState(direct->estate);
	direct->estate = NULL;
}

static void
direct_destroy(DestReceiver *self)
{
	pfree(self);
}

DestReceiver *
weir_direct_receiver(Relation rel)
{
	DirectReceiver *direct = palloc0(sizeof(DirectReceiver));

	direct->pub.receiveSlot = direct_receive;
	direct->pub.rStartup = direct_startup;
	direct->pub.rShutdown = direct_shutdown;
	direct->pub.rDestroy = direct_destroy;
	direct->pub.mydest = DestNone;
	direct->rel = rel;
	return &direct->pub;
}
