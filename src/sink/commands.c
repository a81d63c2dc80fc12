/*
 * commands.c
 *	  weir.pause_sink, weir.resume_sink, weir.discard, weir.outbox_records.
 *
 * Run in the user's session. A sink belongs to who publishes: the owner of
 * the trigger's table, or the role that called weir.produce(). A change of weir.sink tells the
 * publisher, at commit, to look again.
 */
#include "weir.h"

#include "catalog/catalog.h"
#include "catalog/pg_type.h"
#include "decode/headers.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "sink/record.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(weir_pause_sink);
PG_FUNCTION_INFO_V1(weir_resume_sink);
PG_FUNCTION_INFO_V1(weir_discard);
PG_FUNCTION_INFO_V1(weir_outbox_records);

#define MAX_HEADERS 1000

/* The sink of that name, if the user may steer it. Inside a catalog scope of his. */
static int64
find_sink(CatalogScope *scope, text *name)
{
	Datum		value = PointerGetDatum(name);
	Oid			type = TEXTOID;
	bool		isnull;
	Oid			owner;

	if (SPI_execute_with_args("SELECT id, owner FROM weir.sink_name WHERE name = $1",
							  1, &type, &value, NULL, false, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read weir.sink_name");
	if (SPI_processed == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("sink \"%s\" does not exist", text_to_cstring(name)),
				 errhint("SELECT sink FROM weir.stat_sinks shows the names.")));
	owner = DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull));
	if (!has_privs_of_role(scope->save_userid, owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be owner of sink \"%s\"", text_to_cstring(name))));
	return DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
}

Datum
weir_pause_sink(PG_FUNCTION_ARGS)
{
	CatalogScope scope;
	int64		sink;

	weir_catalog_open(&scope);
	sink = find_sink(&scope, PG_GETARG_TEXT_PP(0));
	(void) weir_catalog_exec("UPDATE weir.sink SET paused = true WHERE id = " INT64_FORMAT
							 " AND NOT paused", sink);
	weir_catalog_close(&scope);
	PG_RETURN_VOID();
}

Datum
weir_resume_sink(PG_FUNCTION_ARGS)
{
	CatalogScope scope;
	int64		sink;

	weir_catalog_open(&scope);
	sink = find_sink(&scope, PG_GETARG_TEXT_PP(0));
	(void) weir_catalog_exec("UPDATE weir.sink_progress SET error = NULL WHERE sink = " INT64_FORMAT
							 " AND error IS NOT NULL", sink);
	(void) weir_catalog_exec("UPDATE weir.sink SET paused = false WHERE id = " INT64_FORMAT
							 " AND paused", sink);
	weir_catalog_close(&scope);
	PG_RETURN_VOID();
}

/* ---- weir.discard ---- */

/* One waiting chunk of the sink: the one with the refused record, else the first. */
typedef struct WaitingChunk
{
	Oid			segment;
	int64		seq;
	int			records;
	int			bad;			/* place of the record that Kafka refused, 0: none in here */
	bytea	   *payload;
} WaitingChunk;

#define FIRST_CHUNK_SQL \
	"SELECT o.tableoid, o.seq, o.records, o.payload," \
	" CASE WHEN o.seq = p.bad_seq THEN p.bad_record ELSE 0 END FROM weir.outbox o" \
	" LEFT JOIN weir.sink_progress p ON p.sink = o.sink" \
	" WHERE o.sink = $1 AND o.seq >= COALESCE(p.bad_seq, o.seq) AND NOT COALESCE(pg_visible_in_snapshot(o.xid, p.done)" \
	"  OR (o.seq <= p.seq AND pg_visible_in_snapshot(o.xid, p.target)), false)" \
	" ORDER BY o.seq LIMIT 1"

static bool
first_chunk(int64 sink, WaitingChunk *chunk)
{
	Datum		value = Int64GetDatum(sink);
	Oid			type = INT8OID;
	HeapTuple	tuple;
	TupleDesc	desc;
	bool		isnull;

	if (SPI_execute_with_args(FIRST_CHUNK_SQL, 1, &type, &value, NULL, false, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read weir.outbox");
	if (SPI_processed == 0)
		return false;
	tuple = SPI_tuptable->vals[0];
	desc = SPI_tuptable->tupdesc;
	chunk->segment = DatumGetObjectId(SPI_getbinval(tuple, desc, 1, &isnull));
	chunk->seq = DatumGetInt64(SPI_getbinval(tuple, desc, 2, &isnull));
	chunk->records = DatumGetInt32(SPI_getbinval(tuple, desc, 3, &isnull));
	chunk->bad = DatumGetInt32(SPI_getbinval(tuple, desc, 5, &isnull));
	chunk->payload = DatumGetByteaPCopy(SPI_getbinval(tuple, desc, 4, &isnull));
	return true;
}

static Datum
field_datum(const RecordField *field)
{
	bytea	   *result = palloc(VARHDRSZ + field->len);

	SET_VARSIZE(result, VARHDRSZ + field->len);
	memcpy(VARDATA(result), field->data, field->len);
	return PointerGetDatum(result);
}

/* Headers as in the column _headers; NULL if there are none. */
static Jsonb *
headers_jsonb(const RecordField *headers)
{
	WeirHeader *list = palloc0(sizeof(WeirHeader) * MAX_HEADERS);
	WeirMessage msg = {.headers = list};
	const char *p = headers->data;

	if (p == NULL)
		return NULL;
	while (p < headers->data + headers->len && msg.nheaders < MAX_HEADERS)
	{
		RecordField name;
		RecordField value;
		WeirHeader *header = &list[msg.nheaders++];

		p = weir_record_read_header(p, &name, &value);
		header->name = pnstrdup(name.data, name.len);
		header->value = value.data;
		header->value_len = value.len;
	}
	return DatumGetJsonbP(weir_headers_to_jsonb(&msg));
}

static void
move_to_dead_letters(int64 sink, const Record *record)
{
	Oid			types[5] = {INT8OID, TEXTOID, BYTEAOID, BYTEAOID, JSONBOID};
	Datum		values[5] = {Int64GetDatum(sink)};
	char		nulls[6] = "  nnn";
	Jsonb	   *headers = headers_jsonb(&record->headers);

	nulls[1] = record->topic.data ? ' ' : 'n';
	if (record->topic.data)
		values[1] = PointerGetDatum(cstring_to_text_with_len(record->topic.data, record->topic.len));
	if (record->key.data)
		values[2] = field_datum(&record->key), nulls[2] = ' ';
	if (record->value.data)
		values[3] = field_datum(&record->value), nulls[3] = ' ';
	if (headers)
		values[4] = JsonbPGetDatum(headers), nulls[4] = ' ';
	if (SPI_execute_with_args("INSERT INTO weir.dead_letter (stream, topic, key, payload, headers, sqlstate, message)"
							  " SELECT COALESCE(s.relation, 0), COALESCE($2, s.topic), $3, $4, $5, '55000',"
							  "  COALESCE(p.error, 'discarded')"
							  " FROM weir.sink s LEFT JOIN weir.sink_progress p ON p.sink = s.id WHERE s.id = $1",
							  5, types, values, nulls, false, 0) != SPI_OK_INSERT)
		elog(ERROR, "could not write a dead letter");
}

/*
 * Takes records out of a chunk, from the refused one on, or the chunk away.
 * Returns how many were taken.
 */
static int
discard_from(int64 sink, WaitingChunk *chunk, int wanted)
{
	const char *start = VARDATA(chunk->payload);
	const char *end = start + VARSIZE_ANY_EXHDR(chunk->payload);
	const char *from = start;
	const char *to;
	int			taken = 0;
	Record		record;
	Oid			types[3] = {BYTEAOID, INT4OID, INT8OID};
	StringInfoData rest;
	RecordField field;
	Datum		values[3];

	for (int i = 0; i < chunk->bad && from < end; i++)
		from = weir_record_read(from, &record);
	for (to = from; to < end && taken < wanted; taken++)
	{
		to = weir_record_read(to, &record);
		move_to_dead_letters(sink, &record);
	}
	if (taken == chunk->records)
	{
		(void) weir_catalog_exec("DELETE FROM %s WHERE seq = " INT64_FORMAT,
								 weir_relation_name(chunk->segment), chunk->seq);
		return taken;
	}
	initStringInfo(&rest);
	appendBinaryStringInfo(&rest, start, from - start);
	appendBinaryStringInfo(&rest, to, end - to);
	field.data = rest.data;
	field.len = rest.len;
	values[0] = field_datum(&field);
	values[1] = Int32GetDatum(chunk->records - taken);
	values[2] = Int64GetDatum(chunk->seq);
	if (SPI_execute_with_args(psprintf("UPDATE %s SET payload = $1, records = $2 WHERE seq = $3",
									   weir_relation_name(chunk->segment)),
							  3, types, values, NULL, false, 0) != SPI_OK_UPDATE)
		elog(ERROR, "could not change weir.outbox");
	return taken;
}

Datum
weir_discard(PG_FUNCTION_ARGS)
{
	int			wanted = PG_GETARG_INT32(1);
	int64		taken = 0;
	CatalogScope scope;
	WaitingChunk chunk;
	int64		sink;

	weir_catalog_open(&scope);
	sink = find_sink(&scope, PG_GETARG_TEXT_PP(0));
	(void) weir_catalog_exec("SELECT FROM weir.sink WHERE paused AND id = " INT64_FORMAT
							 " FOR UPDATE", sink);
	if (SPI_processed == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("sink \"%s\" is running", text_to_cstring(PG_GETARG_TEXT_PP(0))),
				 errhint("SELECT weir.pause_sink(%s) first.",
						 quote_literal_cstr(text_to_cstring(PG_GETARG_TEXT_PP(0))))));
	while (taken < wanted && first_chunk(sink, &chunk))
	{
		taken += discard_from(sink, &chunk, wanted - taken);
		(void) weir_catalog_exec("UPDATE weir.sink_progress SET bad_seq = NULL, bad_record = NULL"
								 " WHERE sink = " INT64_FORMAT, sink);
	}
	weir_catalog_close(&scope);
	PG_RETURN_INT64(taken);
}

/* ---- weir.outbox_records ---- */

Datum
weir_outbox_records(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	bytea	   *payload = PG_GETARG_BYTEA_PP(0);
	const char *p = VARDATA_ANY(payload);
	const char *end = p + VARSIZE_ANY_EXHDR(payload);

	InitMaterializedSRF(fcinfo, 0);
	while (p < end)
	{
		Record		record;
		Datum		values[6] = {0};
		bool		nulls[6] = {true, true, true, true, true, true};
		Jsonb	   *headers;

		p = weir_record_read(p, &record);
		headers = headers_jsonb(&record.headers);
		if (record.topic.data)
			values[0] = PointerGetDatum(cstring_to_text_with_len(record.topic.data, record.topic.len)),
				nulls[0] = false;
		if (record.partition >= 0)
			values[1] = Int32GetDatum(record.partition), nulls[1] = false;
		if (record.key.data)
			values[2] = field_datum(&record.key), nulls[2] = false;
		if (record.value.data)
			values[3] = field_datum(&record.value), nulls[3] = false;
		if (headers)
			values[4] = JsonbPGetDatum(headers), nulls[4] = false;
		if (record.timestamp >= 0)
			values[5] = TimestampTzGetDatum(time_t_to_timestamptz(0) + record.timestamp * 1000),
				nulls[5] = false;
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}
