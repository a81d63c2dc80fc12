/*
 * produce.c
 *	  weir.produce: a record by hand, in the caller's transaction.
 *
 * SQL ⇒ here ⇒ collect ⇒ outbox ⇒ publisher. Who calls it publishes: USAGE
 * on the server is checked, and the publisher connects with the caller's user mapping.
 */
#include "weir.h"

#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "sink/collect.h"
#include "sink/headers.h"
#include "sink/outbox.h"
#include "sink/sinks.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(weir_produce_text);
PG_FUNCTION_INFO_V1(weir_produce_bytea);

/* Kafka's own rule; longer or other names never come to be topics. */
#define TOPIC_MAX 249

static void
check_topic(const char *topic)
{
	size_t		len = strlen(topic);

	if (len == 0 || len > TOPIC_MAX || strcmp(topic, ".") == 0 || strcmp(topic, "..") == 0 ||
		strspn(topic, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") != len)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("\"%s\" cannot be the name of a topic", topic),
				 errdetail("Kafka takes letters, digits, '.', '_' and '-', at most %d of them.", TOPIC_MAX)));
}

/* An argument as bytes; text in UTF-8. */
static RecordField
argument(FunctionCallInfo fcinfo, int n, bool is_text)
{
	RecordField field = {NULL, 0};
	struct varlena *bytes;

	if (PG_ARGISNULL(n))
		return field;
	bytes = PG_DETOAST_DATUM_PACKED(PG_GETARG_DATUM(n));
	field.data = VARDATA_ANY(bytes);
	field.len = VARSIZE_ANY_EXHDR(bytes);
	if (is_text && GetDatabaseEncoding() != PG_UTF8)
	{
		char	   *copy = pnstrdup(field.data, field.len);
		char	   *converted = pg_server_to_any(copy, field.len, PG_UTF8);

		field.data = converted;
		field.len = converted == copy ? field.len : strlen(converted);
	}
	return field;
}

static Datum
produce(FunctionCallInfo fcinfo, bool is_text)
{
	CollectTarget target = {0};
	Record		record = {.op = RECORD_INSERT,.partition = -1,.timestamp = -1};
	StringInfoData headers;
	char	   *server;
	char	   *topic;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("weir.produce needs a server and a topic")));
	server = NameStr(*PG_GETARG_NAME(0));
	topic = text_to_cstring(PG_GETARG_TEXT_PP(1));
	check_topic(topic);
	PreventCommandIfReadOnly("weir.produce()");
	weir_sink_check_server(server, GetUserId());
	target.sink = weir_sink_of_role(server, GetUserId());
	record.topic.data = topic;
	record.topic.len = strlen(topic);
	record.key = argument(fcinfo, 2, is_text);
	record.value = argument(fcinfo, 3, is_text);
	if (!PG_ARGISNULL(4))
	{
		initStringInfo(&headers);
		weir_headers_encode(&headers, PG_GETARG_JSONB_P(4));
		record.headers.data = headers.data;
		record.headers.len = headers.len;
	}
	weir_collect(&target, &record);
	PG_RETURN_VOID();
}

Datum
weir_produce_text(PG_FUNCTION_ARGS)
{
	return produce(fcinfo, true);
}

Datum
weir_produce_bytea(PG_FUNCTION_ARGS)
{
	return produce(fcinfo, false);
}
