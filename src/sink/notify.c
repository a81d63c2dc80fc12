/*
 * notify.c
 *	  weir.notify: changes of a table as notices, one per key and transaction.
 *
 * Trigger ⇒ collect ⇒ here, before commit ⇒ Async_Notify. Runs in the session
 * or worker that makes the changes.
 *
 * The batch of a continuous view: the first notice of a transaction raises
 * weir.view_def.batch, whose row lock is held until commit; so the numbers go
 * up in the order of commits, and a client that has read the view and its batch in one
 * snapshot knows which notices are news. Only views with such a trigger pay for it.
 * Views are counted in the order of their OIDs, so that transactions cannot deadlock here.
 */
#include "sink/collect.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/catalog.h"
#include "catalog/pg_type.h"
#include "commands/async.h"
#include "commands/trigger.h"
#include "common/hashfn.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "port/pg_bitutils.h"
#include "sink/change.h"
#include "sink/direct.h"
#include "sink/trigger.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

/* NOTIFY takes payloads of less than 8000 bytes. */
#define PAYLOAD_MAX 8000

PG_FUNCTION_INFO_V1(weir_notify);

static const char *const op_names[] = {"insert", "update", "delete"};

/* What a listener hears of one key. */
typedef struct Notice
{
	CollectRun *run;
	Record		record;
	RecordOp	op;
	bool		dropped;
} Notice;

/* One change of the trigger's table becomes a record: topic = channel, value = row. */
static void
collect_change(SinkTrigger *trigger, RecordOp op, TupleTableSlot *slot)
{
	CollectTarget target = {.trigger = trigger->trigger,.last = true,
		.view = trigger->is_view ? trigger->relid : InvalidOid,
		.per_batch = trigger->per_batch,
	.relation_name = trigger->relation_name};
	Record		record = {.op = op,.partition = -1,.timestamp = -1};
	StringInfoData channel;
	StringInfoData key;
	StringInfoData row;

	initStringInfo(&channel);
	if (trigger->target_column == NULL ||
		!weir_json_plain(&channel, trigger->target_column, slot))
		appendStringInfoString(&channel, trigger->target);
	if (channel.len == 0)
		return;
	if (channel.len >= NAMEDATALEN)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("channel name \"%s\" is too long", channel.data),
				 errdetail("It is the value of the column that 'channel_column=' names; at most %d bytes.",
						   NAMEDATALEN - 1)));
	record.topic.data = channel.data;
	record.topic.len = channel.len;
	if (trigger->per_batch)
	{
		/* all changes on a channel are one */
		record.op = RECORD_UPDATE;
		record.key.data = record.value.data = "";
		weir_collect(&target, &record);
		return;
	}
	initStringInfo(&row);
	weir_json_row(&row, trigger->value, slot, false, NULL);
	if (trigger->key)
	{
		initStringInfo(&key);
		weir_json_row(&key, trigger->key, slot, false, NULL);
		record.key.data = key.data;
		record.key.len = key.len;
	}
	record.value.data = row.data;
	record.value.len = row.len;
	weir_collect(&target, &record);
}

static void
notify_change(SinkTrigger *trigger, RecordOp op, TupleTableSlot *old, TupleTableSlot *new)
{
	/* a changed key is the end of one and the beginning of another */
	if (op == RECORD_UPDATE && trigger->key && !weir_change_same_key(trigger, old, new))
	{
		collect_change(trigger, RECORD_DELETE, old);
		op = RECORD_INSERT;
	}
	collect_change(trigger, op, op == RECORD_DELETE ? old : new);
}

void
weir_notify_row(SinkTrigger *trigger, TupleTableSlot *slot)
{
	collect_change(trigger, RECORD_INSERT, slot);
}

Datum
weir_notify(PG_FUNCTION_ARGS)
{
	return weir_change_trigger(fcinfo, true, notify_change);
}

/* ---- before commit ---- */

/* Raises the view's batch number and returns it; -1: it is no view any more. */
static int64
next_batch(Oid view)
{
	static SPIPlanPtr plan = NULL;
	Datum		value = ObjectIdGetDatum(view);
	Oid			type = OIDOID;
	int64		batch = -1;
	CatalogScope scope;
	bool		isnull;

	weir_catalog_open(&scope);
	if (plan == NULL)
	{
		plan = SPI_prepare("UPDATE weir.view_def SET batch = batch + 1 WHERE view = $1 RETURNING batch",
						   1, &type);
		if (plan == NULL || SPI_keepplan(plan) != 0)
			elog(ERROR, "could not prepare the counting of batches");
	}
	if (SPI_execute_plan(plan, &value, NULL, false, 0) != SPI_OK_UPDATE_RETURNING)
		elog(ERROR, "could not count a batch");
	if (SPI_processed == 1)
		batch = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	weir_catalog_close(&scope);
	return batch;
}

typedef struct ViewBatch
{
	Oid			view;
	int64		batch;
} ViewBatch;

static int
compare_batches(const void *a, const void *b)
{
	Oid			x = ((const ViewBatch *) a)->view;
	Oid			y = ((const ViewBatch *) b)->view;

	return x < y ? -1 : x > y;
}

/* Counts one batch for each view among the runs. */
static ViewBatch *
count_batches(List *runs, int *n)
{
	ViewBatch  *batches = palloc(sizeof(ViewBatch) * list_length(runs));
	ListCell   *lc;
	int			unique = 0;

	*n = 0;
	foreach(lc, runs)
	{
		Oid			view = ((CollectRun *) lfirst(lc))->target->view;

		if (OidIsValid(view))
			batches[(*n)++].view = view;
	}
	qsort(batches, *n, sizeof(ViewBatch), compare_batches);
	for (int i = 0; i < *n; i++)
	{
		if (i == 0 || batches[i].view != batches[unique - 1].view)
			batches[unique++] = batches[i];
	}
	*n = unique;
	for (int i = 0; i < *n; i++)
		batches[i].batch = next_batch(batches[i].view);
	return batches;
}

static int64
batch_of(Oid view, const ViewBatch *batches, int n)
{
	for (int i = 0; i < n; i++)
	{
		if (batches[i].view == view)
			return batches[i].batch;
	}
	return -1;
}

/* {"view":..,"op":..,"batch":.. : what all payloads begin with */
static void
begin_payload(StringInfo payload, const CollectRun *run, RecordOp op, int64 batch)
{
	resetStringInfo(payload);
	appendStringInfoString(payload, "{\"view\":");
	weir_json_string(payload, run->target->relation_name, strlen(run->target->relation_name));
	appendStringInfo(payload, ",\"op\":\"%s\",\"batch\":",
					 run->target->per_batch ? "batch" : op_names[op]);
	if (batch >= 0)
		appendStringInfo(payload, INT64_FORMAT, batch);
	else
		appendStringInfoString(payload, "null");
}

static void
send_notice(Notice *notice, int64 batch, StringInfo payload)
{
	Record	   *record = &notice->record;
	char	   *channel = pnstrdup(record->topic.data, record->topic.len);

	begin_payload(payload, notice->run, notice->op, batch);
	if (notice->run->target->per_batch)
		;						/* that is all */
	else if (payload->len + record->value.len + 16 < PAYLOAD_MAX)
	{
		appendStringInfoString(payload, ",\"row\":");
		appendBinaryStringInfo(payload, record->value.data, record->value.len);
	}
	else
	{
		if (record->key.data && payload->len + record->key.len + 32 < PAYLOAD_MAX)
		{
			appendStringInfoString(payload, ",\"key\":");
			appendBinaryStringInfo(payload, record->key.data, record->key.len);
		}
		appendStringInfoString(payload, ",\"overflow\":true");
	}
	appendStringInfoChar(payload, '}');
	Async_Notify(channel, payload->data);
	pfree(channel);
}

/* What two changes of one key, one after the other, are together; *gone: nothing. */
static RecordOp
merge_ops(RecordOp first, RecordOp second, bool *gone)
{
	*gone = first == RECORD_INSERT && second == RECORD_DELETE;
	if (first == RECORD_INSERT && second == RECORD_UPDATE)
		return RECORD_INSERT;
	if (first == RECORD_DELETE && second == RECORD_INSERT)
		return RECORD_UPDATE;
	return second;
}

/* The notices of a transaction, and a hash from channel and key to the last one of it. */
typedef struct NoticeSet
{
	Notice	   *notices;
	int			n;
	uint32		mask;
	int		   *slots;			/* number of a notice + 1 */
} NoticeSet;

static bool
same_bytes(const RecordField *a, const RecordField *b)
{
	return a->len == b->len && memcmp(a->data, b->data, a->len) == 0;
}

/* The notice just added takes the place of an earlier one of its key. */
static void
merge_last(NoticeSet *set)
{
	Notice	   *last = &set->notices[set->n - 1];
	Record	   *record = &last->record;
	uint32		slot = hash_combine(hash_bytes((const unsigned char *) record->key.data, record->key.len),
									hash_bytes((const unsigned char *) record->topic.data,
											   record->topic.len)) & set->mask;

	for (; set->slots[slot] != 0; slot = (slot + 1) & set->mask)
	{
		Notice	   *earlier = &set->notices[set->slots[slot] - 1];

		if (earlier->run->target->trigger != last->run->target->trigger ||
			!same_bytes(&earlier->record.key, &record->key) ||
			!same_bytes(&earlier->record.topic, &record->topic))
			continue;
		if (!earlier->dropped)
			last->op = merge_ops(earlier->op, last->op, &last->dropped);
		earlier->dropped = true;
		break;
	}
	set->slots[slot] = set->n;
}

static void
gather_notices(List *runs, NoticeSet *set)
{
	int			total = 0;
	ListCell   *lc;

	foreach(lc, runs)
		total += ((CollectRun *) lfirst(lc))->n;
	set->mask = pg_nextpower2_32(Max(total, 1) * 2) - 1;
	set->slots = palloc0(sizeof(int) * (set->mask + 1));
	set->notices = palloc(sizeof(Notice) * Max(total, 1));
	set->n = 0;
	foreach(lc, runs)
	{
		CollectRun *run = lfirst(lc);

		for (int i = 0; i < run->n; i++)
		{
			Notice	   *notice = &set->notices[set->n++];

			notice->run = run;
			notice->dropped = false;
			(void) weir_record_read(run->data + run->offsets[i], &notice->record);
			notice->op = notice->record.op;
			if (notice->record.key.data)
				merge_last(set);
		}
	}
}

/* Too many keys for one transaction: one notice for all of them, on each channel that was seen. */
static void
send_overflow(CollectRun *run, int64 batch, StringInfo payload)
{
	begin_payload(payload, run, RECORD_UPDATE, batch);
	appendStringInfoString(payload, run->target->per_batch ? "}" : ",\"overflow\":true}");
	for (int i = 0; i < run->n; i++)
	{
		Record		record;

		(void) weir_record_read(run->data + run->offsets[i], &record);
		Async_Notify(pnstrdup(record.topic.data, record.topic.len), payload->data);
	}
}

void
weir_notify_send(List *runs)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "weir notices",
											  ALLOCSET_DEFAULT_SIZES);
	MemoryContext oldcxt = MemoryContextSwitchTo(cxt);
	int			nbatches;
	ViewBatch  *batches = count_batches(runs, &nbatches);
	StringInfoData payload;
	NoticeSet	set;
	ListCell   *lc;

	initStringInfo(&payload);
	gather_notices(runs, &set);
	for (int i = 0; i < set.n; i++)
	{
		Notice	   *notice = &set.notices[i];

		if (!notice->dropped && !notice->run->overflow)
			send_notice(notice, batch_of(notice->run->target->view, batches, nbatches), &payload);
	}
	foreach(lc, runs)
	{
		CollectRun *run = lfirst(lc);

		if (run->overflow)
			send_overflow(run, batch_of(run->target->view, batches, nbatches), &payload);
	}
	MemoryContextSwitchTo(oldcxt);
	MemoryContextDelete(cxt);
}
