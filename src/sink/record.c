/*
 * record.c
 *	  Writing and reading the bytes of a change that waits in the outbox.
 *
 * A record: uint32 length of all of it, uint8 op, uint8 flags, int32
 * partition, int64 timestamp, then for each field there is a uint32 length
 * and its bytes. Nothing is aligned. weir_record_read and
 * weir_record_read_header are called by the publisher's threads, too: they touch nothing
 * but their arguments.
 */
#include "sink/record.h"

#define HAS_TOPIC	0x01
#define HAS_KEY		0x02
#define HAS_VALUE	0x04
#define HAS_HEADERS	0x08

static void
append_field(StringInfo chunk, const RecordField *field)
{
	if (field->data == NULL)
		return;
	appendBinaryStringInfo(chunk, (const char *) &field->len, sizeof(uint32));
	appendBinaryStringInfo(chunk, field->data, field->len);
}

void
weir_record_append(StringInfo chunk, const Record *record)
{
	int			start = chunk->len;
	uint32		len = 0;
	uint8		op = record->op;
	uint8		flags = (record->topic.data ? HAS_TOPIC : 0) |
		(record->key.data ? HAS_KEY : 0) |
		(record->value.data ? HAS_VALUE : 0) |
		(record->headers.data ? HAS_HEADERS : 0);

	enlargeStringInfo(chunk, 64 + record->key.len + record->value.len);
	appendBinaryStringInfo(chunk, (const char *) &len, sizeof(len));
	appendBinaryStringInfo(chunk, (const char *) &op, 1);
	appendBinaryStringInfo(chunk, (const char *) &flags, 1);
	appendBinaryStringInfo(chunk, (const char *) &record->partition, sizeof(int32));
	appendBinaryStringInfo(chunk, (const char *) &record->timestamp, sizeof(int64));
	append_field(chunk, &record->topic);
	append_field(chunk, &record->key);
	append_field(chunk, &record->value);
	append_field(chunk, &record->headers);
	len = chunk->len - start;
	memcpy(chunk->data + start, &len, sizeof(len));
}

static const char *
read_field(const char *data, bool there, RecordField *field)
{
	field->data = NULL;
	field->len = 0;
	if (!there)
		return data;
	memcpy(&field->len, data, sizeof(uint32));
	field->data = data + sizeof(uint32);
	return field->data + field->len;
}

const char *
weir_record_read(const char *data, Record *record)
{
	uint32		len;
	uint8		flags = data[sizeof(uint32) + 1];
	const char *p = data + sizeof(uint32) + 2;

	memcpy(&len, data, sizeof(len));
	record->op = (RecordOp) data[sizeof(uint32)];
	memcpy(&record->partition, p, sizeof(int32));
	p += sizeof(int32);
	memcpy(&record->timestamp, p, sizeof(int64));
	p += sizeof(int64);
	p = read_field(p, flags & HAS_TOPIC, &record->topic);
	p = read_field(p, flags & HAS_KEY, &record->key);
	p = read_field(p, flags & HAS_VALUE, &record->value);
	(void) read_field(p, flags & HAS_HEADERS, &record->headers);
	return data + len;
}

void
weir_record_put_header(StringInfo headers, const char *name, const char *value, int len)
{
	RecordField field = {name, (uint32) strlen(name)};
	uint32		null = PG_UINT32_MAX;

	append_field(headers, &field);
	field.data = value;
	field.len = len;
	if (value != NULL)
		append_field(headers, &field);
	else
		appendBinaryStringInfo(headers, (const char *) &null, sizeof(null));
}

const char *
weir_record_read_header(const char *data, RecordField *name, RecordField *value)
{
	uint32		len;

	data = read_field(data, true, name);
	memcpy(&len, data, sizeof(len));
	if (len != PG_UINT32_MAX)
		return read_field(data, true, value);
	value->data = NULL;
	value->len = 0;
	return data + sizeof(uint32);
}
