/*
 * dry_run.c
 *	  weir.decode(stream, value, key): the row that a message would become.
 *
 * For users who want to know why a message is bad, before or after it is in
 * weir.dead_letters. Uses the very decoder of the worker, which runs as the
 * stream's owner, and keeps nothing. Sequences in defaults move on. Takes
 * AccessShareLock on the stream.
 */
#include "decode/decode.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "compat.h"
#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(weir_decode);

/* An argument as a message carries it: UTF-8 bytes. */
static const char *
message_bytes(text *argument, size_t *len)
{
	char	   *string = text_to_cstring(argument);
	char	   *utf8 = pg_server_to_any(string, strlen(string), PG_UTF8);

	*len = strlen(utf8);
	return utf8;
}

/* Decodes msg and returns the row as a composite Datum of the stream's type. */
static Datum
decode_to_record(Stream *stream, Relation rel, const WeirMessage *msg)
{
	TupleDesc	desc = RelationGetDescr(rel);
	RowDecoder *decoder = weir_decoder_create(stream, rel, CurrentMemoryContext);
	Datum	   *live_values = palloc0((desc->natts + 1) * sizeof(Datum));
	bool	   *live_isnull = palloc0((desc->natts + 1) * sizeof(bool));
	Datum	   *values = palloc0((desc->natts + 1) * sizeof(Datum));
	bool	   *isnull = palloc0((desc->natts + 1) * sizeof(bool));
	RowError	error = {0};
	int			live = 0;
	Datum		record;

	if (!weir_decoder_row(decoder, msg, live_values, live_isnull, &error))
		ereport(ERROR,
				(errcode(error.sqlstate),
				 errmsg_internal("%s", error.message),
				 error.detail ? errdetail_internal("%s", error.detail) : 0));
	for (int i = 0; i < desc->natts; i++)
	{
		isnull[i] = true;
		if (TupleDescAttr(desc, i)->attisdropped)
			continue;
		values[i] = live_values[live];
		isnull[i] = live_isnull[live];
		live++;
	}
	record = HeapTupleGetDatum(heap_form_tuple(desc, values, isnull));
	weir_decoder_free(decoder);
	return record;
}

/* weir.decode(stream regclass, value text, key text DEFAULT NULL) RETURNS jsonb */
Datum
weir_decode(PG_FUNCTION_ARGS)
{
	Oid			relid;
	Stream	   *stream;
	Relation	rel;
	WeirMessage msg = {.topic = ""};
	int			guc_level;
	Datum		json;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	relid = PG_GETARG_OID(0);
	rel = table_open(relid, AccessShareLock);
	if (pg_class_aclcheck(relid, GetUserId(), ACL_SELECT) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, get_relkind_objtype(rel->rd_rel->relkind), RelationGetRelationName(rel));
	stream = weir_stream_require(relid);

	msg.timestamp_ms = (GetCurrentTransactionStartTimestamp() +
						(POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY) / 1000;
	if (!PG_ARGISNULL(1))
		msg.value = message_bytes(PG_GETARG_TEXT_PP(1), &msg.value_len);
	if (!PG_ARGISNULL(2))
		msg.key = message_bytes(PG_GETARG_TEXT_PP(2), &msg.key_len);

	/* Defaults run as the owner: nobody else may choose where their functions come from. */
	guc_level = NewGUCNestLevel();
	if (GetUserId() != stream->owner)
		(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
	json = DirectFunctionCall1(row_to_json, decode_to_record(stream, rel, &msg));
	AtEOXact_GUC(false, guc_level);

	table_close(rel, AccessShareLock);
	PG_RETURN_DATUM(DirectFunctionCall1(jsonb_in, CStringGetDatum(TextDatumGetCString(json))));
}
