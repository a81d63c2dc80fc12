/*
 * record.h
 *	  One change on its way out, and the bytes it travels in.
 *
 * Trigger ⇒ record ⇒ collect ⇒ outbox ⇒ publisher ⇒ Kafka (or NOTIFY). The
 * outbox stores runs of records ("chunks"); the publisher's thread reads them.
 * So reading must not touch PostgreSQL. Host byte order: chunks do not leave the machine.
 */
#ifndef WEIR_RECORD_H
#define WEIR_RECORD_H

#include "weir.h"

#include "lib/stringinfo.h"

typedef enum RecordOp
{
	RECORD_INSERT,
	RECORD_UPDATE,
	RECORD_DELETE
} RecordOp;

/* A piece of a record; data NULL: not there. */
typedef struct RecordField
{
	const char *data;
	uint32		len;
} RecordField;

typedef struct Record
{
	RecordOp	op;
	RecordField topic;			/* not there: the sink's own */
	RecordField key;
	RecordField value;			/* not there: a tombstone */
	RecordField headers;		/* as weir_record_put_header wrote them */
	int32		partition;		/* -1: by key */
	int64		timestamp;		/* ms since 1970; -1: none given */
} Record;

/* Appends a record to a chunk. */
extern void weir_record_append(StringInfo chunk, const Record *record);

/*
 * weir_record_read fills record with pointers into the chunk at data; returns
 * the place behind it. The bytes must be a chunk of weir_record_append.
 */
extern const char *weir_record_read(const char *data, Record *record);

/* Headers: name, then value (NULL: a null value). Reading returns the place behind it. */
extern void weir_record_put_header(StringInfo headers, const char *name, const char *value, int len);
extern const char *weir_record_read_header(const char *data, RecordField *name, RecordField *value);

#endif							/* WEIR_RECORD_H */
