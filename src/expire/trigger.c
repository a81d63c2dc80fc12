/*
 * trigger.c
 *	  weir.expire(): the trigger of weir.expires. A row is due: when?
 *
 * Runs in the session that writes. The earliest time of a transaction's rows
 * is told to the expirer after the commit, when it can see them. A
 * subtransaction that is rolled back costs a look for nothing.
 */
#include "expire/expire.h"

#include "access/xact.h"
#include "commands/trigger.h"
#include "executor/tuptable.h"
#include "fmgr.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(weir_expire);

static TimestampTz earliest = PG_INT64_MAX; /* of this transaction; a timestamp is taken as UTC */

/* The trigger's column, found once per trigger and command. */
static AttrNumber
column_of(FunctionCallInfo fcinfo, Relation rel)
{
	typedef struct Known
	{
		Oid			relid;
		AttrNumber	attnum;
	} Known;
	Known	   *known = fcinfo->flinfo->fn_extra;

	if (known == NULL)
		known = fcinfo->flinfo->fn_extra =
			MemoryContextAllocZero(fcinfo->flinfo->fn_mcxt, sizeof(Known));
	if (known->relid != RelationGetRelid(rel))
	{
		TriggerData *data = (TriggerData *) fcinfo->context;

		known->attnum = weir_expire_trigger_column(data->tg_trigger);
		known->relid = RelationGetRelid(rel);
	}
	return known->attnum;
}

Datum
weir_expire(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	TupleTableSlot *slot;
	AttrNumber	attnum;
	TimestampTz due;
	bool		isnull;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_FOR_ROW(data->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("weir.expire() must be called as a trigger for each row")));
	slot = TRIGGER_FIRED_BY_UPDATE(data->tg_event) ? data->tg_newslot : data->tg_trigslot;
	attnum = column_of(fcinfo, data->tg_relation);
	if (attnum == InvalidAttrNumber)
		return PointerGetDatum(NULL);
	due = DatumGetTimestampTz(slot_getattr(slot, attnum, &isnull));
	if (!isnull && due < earliest && !TIMESTAMP_IS_NOEND(due))
		earliest = due;
	return PointerGetDatum(NULL);
}

void
weir_expire_prepared_committed(void)
{
	earliest = DT_NOBEGIN;
}

static void
expire_xact(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT && earliest != PG_INT64_MAX)
		weir_expire_tell(earliest);
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
		earliest = PG_INT64_MAX;
}

void
weir_expire_init(void)
{
	RegisterXactCallback(expire_xact, NULL);
}
