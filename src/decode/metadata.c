/*
 * metadata.c
 *	  What Kafka says about a message, into _key, _value, _partition, _offset, _timestamp and _headers.
 *
 * See convert.h. Each value goes straight to the type that the column
 * usually has, and through the column's converter to any other.
 */
#include "decode/convert.h"

#include "catalog/pg_type.h"
#include "common/int.h"
#include "decode/headers.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

#define EPOCH_DIFFERENCE ((POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY)

/* A key or a value: bytes as they are, or text, or what their text means to the column's type. */
bool
weir_convert_bytes(Converter *self, const char *bytes, size_t len, Datum *datum)
{
	JsonField	field = {
		.kind = JSON_KIND_STRING,.text = bytes,.len = len,.raw = bytes,.raw_len = len
	};

	if (self->type == BYTEAOID)
	{
		*datum = PointerGetDatum(cstring_to_text_with_len(bytes, len));
		return true;
	}
	self->run->value = &field;
	if (!pg_verify_mbstr(PG_UTF8, bytes, len, true))
		return weir_convert_fail(self->run, ERRCODE_CHARACTER_NOT_IN_REPERTOIRE,
								 "invalid byte sequence for encoding \"UTF8\"");
	if (self->type == JSONOID)
		return weir_convert_input(self, bytes, len, datum);
	return self->convert(self, &field, datum);
}

/* A partition or an offset. */
bool
weir_convert_int64(Converter *self, int64 number, Datum *datum)
{
	char		digits[32];
	JsonField	field = {.kind = JSON_KIND_NUMBER, .text = digits, .raw = digits};

	if (self->type == INT8OID)
	{
		*datum = Int64GetDatum(number);
		return true;
	}
	field.len = field.raw_len = pg_lltoa(number, digits);
	self->run->value = &field;
	return self->convert(self, &field, datum);
}

bool
weir_convert_message_time(Converter *self, int64 timestamp_ms, Datum *datum)
{
	Timestamp	time;

	if (self->type != TIMESTAMPTZOID && self->type != TIMESTAMPOID)
		return weir_convert_int64(self, timestamp_ms, datum);
	if (pg_mul_s64_overflow(timestamp_ms, 1000, &time) ||
		pg_sub_s64_overflow(time, EPOCH_DIFFERENCE, &time) || !IS_VALID_TIMESTAMP(time))
		return weir_convert_fail(self->run, ERRCODE_DATETIME_FIELD_OVERFLOW,
								 "the message's timestamp is out of range: " INT64_FORMAT, timestamp_ms);
	*datum = TimestampGetDatum(time);
	return true;
}

bool
weir_convert_headers(Converter *self, const WeirMessage *msg, Datum *datum)
{
	JsonField	field = {.kind = JSON_KIND_ARRAY};
	Datum		headers = weir_headers_to_jsonb(msg);
	char	   *text;

	if (self->type == JSONBOID)
	{
		*datum = headers;
		return true;
	}
	text = JsonbToCString(NULL, &DatumGetJsonbP(headers)->root, VARSIZE(DatumGetPointer(headers)));
	field.text = field.raw = pg_server_to_any(text, strlen(text), PG_UTF8);
	field.len = field.raw_len = strlen(field.text);
	self->run->value = &field;
	return self->convert(self, &field, datum);
}
