/*
 * dead_letters.c
 *	  Writing weir.dead_letter.
 *
 * Runs in the batch's transaction: a message is applied or it is a dead
 * letter, never both and never neither. Bounded per stream by
 * weir.dead_letter_limit: the oldest go first.
 */
#include "delta/dead_letters.h"

#include "catalog/catalog.h"
#include "catalog/pg_type.h"
#include "decode/headers.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

/* Beyond this, enforcing the limit waits for the end of a batch. */
static int64 added_since_check = 0;
static Oid	last_stream = InvalidOid;

static Datum
bytes_datum(const char *data, size_t len)
{
	bytea	   *result = palloc(len + VARHDRSZ);

	SET_VARSIZE(result, len + VARHDRSZ);
	memcpy(VARDATA(result), data, len);
	return PointerGetDatum(result);
}

void
weir_dead_letter_add(Oid stream, Oid view, const WeirMessage *msg,
					 int sqlstate, const char *message, const char *detail)
{
	static const Oid types[] = {OIDOID, OIDOID, TEXTOID, INT4OID, INT8OID, BYTEAOID, BYTEAOID,
	JSONBOID, FLOAT8OID, TEXTOID, TEXTOID};
	Datum		values[lengthof(types)];
	char		nulls[lengthof(types)];
	CatalogScope scope;

	weir_catalog_open(&scope);
	memset(nulls, ' ', sizeof(nulls));
	values[0] = ObjectIdGetDatum(stream);
	values[1] = ObjectIdGetDatum(view);
	nulls[1] = OidIsValid(view) ? ' ' : 'n';
	values[2] = CStringGetTextDatum(msg->topic);
	values[3] = Int32GetDatum(msg->partition);
	values[4] = Int64GetDatum(msg->offset);
	nulls[5] = msg->key ? ' ' : 'n';
	values[5] = msg->key ? bytes_datum(msg->key, msg->key_len) : (Datum) 0;
	nulls[6] = msg->value ? ' ' : 'n';
	values[6] = msg->value ? bytes_datum(msg->value, msg->value_len) : (Datum) 0;
	nulls[7] = msg->nheaders > 0 ? ' ' : 'n';
	values[7] = msg->nheaders > 0 ? weir_headers_to_jsonb(msg) : (Datum) 0;
	nulls[8] = msg->timestamp_ms >= 0 ? ' ' : 'n';
	values[8] = Float8GetDatum(msg->timestamp_ms / 1000.0);
	values[9] = CStringGetTextDatum(unpack_sql_state(sqlstate));
	values[10] = CStringGetTextDatum(detail ? psprintf("%s: %s", message, detail) : message);
	if (SPI_execute_with_args("INSERT INTO weir.dead_letter (stream, view, topic, partition,"
							  " \"offset\", key, payload, headers, \"timestamp\", sqlstate, message)"
							  " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, to_timestamp($9), $10, $11)",
							  lengthof(types), (Oid *) types, values, nulls, false, 0) != SPI_OK_INSERT)
		elog(ERROR, "could not write a dead letter");
	weir_catalog_close(&scope);
	added_since_check++;
	last_stream = stream;
}

void
weir_dead_letter_flush(void)
{
	CatalogScope scope;

	if (added_since_check <= weir_dead_letter_limit / 10)
		return;
	weir_catalog_open(&scope);
	weir_catalog_exec("DELETE FROM weir.dead_letter WHERE stream = %u AND id <="
					  " (SELECT id FROM weir.dead_letter WHERE stream = %u"
					  "  ORDER BY id DESC OFFSET %d LIMIT 1)",
					  last_stream, last_stream, weir_dead_letter_limit);
	weir_catalog_close(&scope);
	added_since_check = 0;
}
