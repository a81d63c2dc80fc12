/*
 * publish.c
 *	  weir.publish: changes of a table as records of a Kafka topic.
 *
 * Trigger ⇒ here ⇒ collect ⇒ outbox ⇒ publisher. Runs in the session or
 * worker that makes the changes, in its transaction: what is rolled back is
 * never published.
 */
#include "sink/change.h"

#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "sink/collect.h"
#include "sink/headers.h"
#include "sink/publish.h"
#include "sink/sinks.h"
#include "sink/trigger.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(weir_publish);

/* Kafka's text is UTF-8. */
static RecordField
utf8_field(const StringInfoData *text)
{
	RecordField field = {text->data, (uint32) text->len};

	if (GetDatabaseEncoding() != PG_UTF8)
	{
		char	   *converted = pg_server_to_any(text->data, text->len, PG_UTF8);

		if (converted != text->data)
		{
			field.data = converted;
			field.len = strlen(converted);
		}
	}
	return field;
}

/* A column's value by itself: text in UTF-8, bytea as it is; not there if null. */
static RecordField
plain_field(JsonColumn *column, TupleTableSlot *slot)
{
	RecordField none = {NULL, 0};
	StringInfoData text;

	initStringInfo(&text);
	if (!weir_json_plain(&text, column, slot))
		return none;
	if (column->kind == JSON_BYTEA)
	{
		none.data = text.data;
		none.len = text.len;
		return none;
	}
	return utf8_field(&text);
}

/* One column: its value without quotes; several: a JSON object. */
static RecordField
key_field(SinkTrigger *trigger, TupleTableSlot *slot)
{
	RecordField none = {NULL, 0};
	StringInfoData text;

	if (trigger->key == NULL)
		return none;
	if (trigger->key->ncolumns == 1)
		return plain_field(&trigger->key->columns[0], slot);
	initStringInfo(&text);
	weir_json_row(&text, trigger->key, slot, false, NULL);
	return utf8_field(&text);
}

static RecordField
value_field(SinkTrigger *trigger, RecordOp op, TupleTableSlot *slot)
{
	RecordField none = {NULL, 0};
	StringInfoData text;

	if (op == RECORD_DELETE && trigger->on_delete == DELETE_TOMBSTONE)
		return none;
	if (trigger->format == SINK_TEXT)
		return plain_field(&trigger->value->columns[0], slot);
	initStringInfo(&text);
	weir_json_row(&text, trigger->value, slot, trigger->omit_nulls,
				  op == RECORD_DELETE ? "\"deleted\":true" : NULL);
	return utf8_field(&text);
}

static int32
partition_of(JsonColumn *column, TupleTableSlot *slot)
{
	bool		isnull;
	Datum		value;
	int64		number;

	if (column == NULL)
		return -1;
	value = slot_getattr(slot, column->attnum, &isnull);
	if (isnull)
		return -1;
	number = column->kind == JSON_INT2 ? DatumGetInt16(value) :
		column->kind == JSON_INT4 ? DatumGetInt32(value) : DatumGetInt64(value);
	if (number < 0 || number > PG_INT32_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("%lld is not the number of a partition", (long long) number)));
	return (int32) number;
}

static int64
timestamp_of(JsonColumn *column, TupleTableSlot *slot)
{
	bool		isnull;
	Timestamp	value;

	if (column == NULL)
		return -1;
	value = DatumGetTimestamp(slot_getattr(slot, column->attnum, &isnull));
	if (isnull)
		return -1;
	value = weir_record_timestamp(value);
	if (value < 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("a record's timestamp must be finite and not before 1970")));
	return value;
}

/* One state of a row goes to the outbox. */
static void
collect_state(SinkTrigger *trigger, RecordOp op, TupleTableSlot *slot)
{
	CollectTarget target = {.sink = weir_sink_of_trigger(trigger),
	.last = !trigger->all_changes && trigger->key != NULL};
	Record		record = {.op = op};
	StringInfoData headers;
	bool		isnull;
	Datum		value;

	if (op == RECORD_DELETE && trigger->on_delete == DELETE_IGNORE)
		return;
	record.key = key_field(trigger, slot);
	if (record.key.data == NULL && op == RECORD_DELETE && trigger->on_delete == DELETE_TOMBSTONE)
		return;					/* a null key: there is nothing to bury */
	record.value = value_field(trigger, op, slot);
	if (trigger->target_column)
		record.topic = plain_field(trigger->target_column, slot);
	if (record.topic.data == NULL && trigger->target[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("a row has no topic"),
				 errdetail("Column \"%s\" is null, and the trigger on %s names no topic to use instead.",
						   NameStr(TupleDescAttr(slot->tts_tupleDescriptor,
												 trigger->target_column->attnum - 1)->attname),
						   trigger->relation_name)));
	record.partition = partition_of(trigger->partition, slot);
	record.timestamp = timestamp_of(trigger->timestamp, slot);
	if (trigger->headers)
	{
		value = slot_getattr(slot, trigger->headers->attnum, &isnull);
		if (!isnull)
		{
			initStringInfo(&headers);
			weir_headers_encode(&headers, DatumGetJsonbP(value));
			record.headers.data = headers.data;
			record.headers.len = headers.len;
		}
	}
	weir_collect(&target, &record);
}

void
weir_publish_row(SinkTrigger *trigger, TupleTableSlot *slot)
{
	collect_state(trigger, RECORD_INSERT, slot);
}

static void
publish_change(SinkTrigger *trigger, RecordOp op, TupleTableSlot *old, TupleTableSlot *new)
{
	if (op == RECORD_DELETE)
	{
		collect_state(trigger, RECORD_DELETE, old);
		return;
	}
	/* a changed key is the end of one record and the beginning of another */
	if (op == RECORD_UPDATE && trigger->key && !weir_change_same_key(trigger, old, new))
		collect_state(trigger, RECORD_DELETE, old);
	collect_state(trigger, op, new);
}

Datum
weir_publish(PG_FUNCTION_ARGS)
{
	return weir_change_trigger(fcinfo, false, publish_change);
}
