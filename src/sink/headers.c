/*
 * headers.c
 *	  Headers of records to be published, from jsonb.
 *
 * For weir.produce() and for triggers with 'headers='. Runs in a transaction.
 */
#include "sink/headers.h"

#include "common/base64.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "sink/record.h"
#include "utils/builtins.h"

/* Kafka's epoch, as PostgreSQL counts. */
#define UNIX_EPOCH_MS	((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * SECS_PER_DAY * 1000)

int64
weir_record_timestamp(Timestamp value)
{
	if (TIMESTAMP_NOT_FINITE(value))
		return -1;
	value = value >= 0 ? value / 1000 : -((-value + 999) / 1000);
	return value + UNIX_EPOCH_MS;
}

static void
bad_headers(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("headers must be an object of strings, or an array of objects with \"key\" and \"value\""),
			 errhint("{\"source\": \"weir\"} or [{\"key\": \"source\", \"value\": \"weir\"}].")));
}

static char *
to_utf8(const char *text, int len)
{
	char	   *copy = pnstrdup(text, len);

	return pg_server_to_any(copy, len, PG_UTF8);
}

/* A value as bytes in UTF-8; NULL for JSON's null. */
static char *
value_text(JsonbValue *value)
{
	Jsonb	   *jsonb;
	char	   *text;

	if (value->type == jbvNull)
		return NULL;
	if (value->type == jbvString)
		return to_utf8(value->val.string.val, value->val.string.len);
	jsonb = JsonbValueToJsonb(value);
	text = JsonbToCString(NULL, &jsonb->root, VARSIZE(jsonb));
	return to_utf8(text, strlen(text));
}

static void
put_text(StringInfo out, JsonbValue *name, JsonbValue *value)
{
	char	   *text = value_text(value);

	weir_record_put_header(out, to_utf8(name->val.string.val, name->val.string.len),
						   text, text ? strlen(text) : 0);
}

static void
put_base64(StringInfo out, JsonbValue *name, JsonbValue *value)
{
	int			len = value->val.string.len;
	char	   *bytes = palloc(pg_b64_dec_len(len) + 1);
	int			written = pg_b64_decode(value->val.string.val, len, (void *) bytes,
										pg_b64_dec_len(len));

	if (written < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a header's \"base64\" is not valid base64")));
	weir_record_put_header(out, to_utf8(name->val.string.val, name->val.string.len), bytes, written);
}

static void
encode_element(StringInfo out, JsonbValue *element)
{
	JsonbContainer *object = element->val.binary.data;
	JsonbValue	name;
	JsonbValue	value;

	if (element->type != jbvBinary || !JsonContainerIsObject(object) ||
		!getKeyJsonValueFromContainer(object, "key", 3, &name) || name.type != jbvString)
		bad_headers();
	if (getKeyJsonValueFromContainer(object, "value", 5, &value))
		put_text(out, &name, &value);
	else if (getKeyJsonValueFromContainer(object, "base64", 6, &value) && value.type == jbvString)
		put_base64(out, &name, &value);
	else
		bad_headers();
}

void
weir_headers_encode(StringInfo out, Jsonb *headers)
{
	JsonbIterator *it = JsonbIteratorInit(&headers->root);
	JsonbIteratorToken token;
	JsonbValue	value;
	JsonbValue	name;

	if (JB_ROOT_IS_SCALAR(headers))
		bad_headers();
	(void) JsonbIteratorNext(&it, &value, true);
	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		if (token == WJB_KEY)
		{
			name = value;
			(void) JsonbIteratorNext(&it, &value, true);
			put_text(out, &name, &value);
		}
		else if (token == WJB_ELEM)
			encode_element(out, &value);
	}
}
