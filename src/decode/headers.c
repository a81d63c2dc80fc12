/*
 * headers.c
 *	  Message headers as jsonb: for the column _headers and for dead letters.
 *
 * Runs inside a transaction. Rare enough that it goes through JSON text.
 */
#include "decode/headers.h"

#include "common/base64.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"

/* Is it text that the database can hold? */
static bool
is_text(const char *bytes, size_t len)
{
	return memchr(bytes, '\0', len) == NULL &&
		pg_verify_mbstr(PG_UTF8, bytes, len, true);
}

static void
append_text(StringInfo json, const char *bytes, size_t len)
{
	char	   *copy = pnstrdup(bytes, len);
	char	   *server = pg_any_to_server(copy, len, PG_UTF8);

	escape_json(json, server);
	if (server != copy)
		pfree(server);
	pfree(copy);
}

static void
append_base64(StringInfo json, const char *bytes, size_t len)
{
	int			room = pg_b64_enc_len(len);
	int			written;

	enlargeStringInfo(json, room + 2);
	appendStringInfoChar(json, '"');
	written = pg_b64_encode((const void *) bytes, len, json->data + json->len, room);
	if (written < 0)
		elog(ERROR, "could not encode a header");
	json->len += written;
	json->data[json->len] = '\0';
	appendStringInfoChar(json, '"');
}

Datum
weir_headers_to_jsonb(const WeirMessage *msg)
{
	StringInfoData json;
	Datum		result;

	initStringInfo(&json);
	appendStringInfoChar(&json, '[');
	for (int i = 0; i < msg->nheaders; i++)
	{
		const WeirHeader *header = &msg->headers[i];

		appendStringInfoString(&json, i ? ", {\"key\": " : "{\"key\": ");
		if (is_text(header->name, strlen(header->name)))
			append_text(&json, header->name, strlen(header->name));
		else
			append_base64(&json, header->name, strlen(header->name));
		if (header->value == NULL)
			appendStringInfoString(&json, ", \"value\": null}");
		else if (is_text(header->value, header->value_len))
		{
			appendStringInfoString(&json, ", \"value\": ");
			append_text(&json, header->value, header->value_len);
			appendStringInfoChar(&json, '}');
		}
		else
		{
			appendStringInfoString(&json, ", \"base64\": ");
			append_base64(&json, header->value, header->value_len);
			appendStringInfoChar(&json, '}');
		}
	}
	appendStringInfoChar(&json, ']');
	result = DirectFunctionCall1(jsonb_in, CStringGetDatum(json.data));
	pfree(json.data);
	return result;
}
