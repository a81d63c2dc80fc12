/*
 * decode.c
 *	  Messages to typed rows: the walk over a table's columns.
 *
 * source ⇒ this ⇒ delta. json_reader.cpp takes a message apart, convert.c and
 * its kin make Datums of the pieces, metadata.c adds what Kafka says, rules.c
 * fills in defaults and checks the row. Runs in a worker inside the batch's
 * transaction or in a backend (weir.decode); takes no locks, the caller holds
 * one on the stream. Defaults, checks and domains may call users' code, and
 * workers are superusers: so everything here runs as the stream's owner,
 * security restricted; an error leaves it to the (sub)transaction's abort to
 * switch back.
 *
 * Memory: what is prepared lives in the decoder's context, the JSON parser in
 * malloc'd memory that ends with it; per row only pass-by-reference values
 * are allocated, in CurrentMemoryContext. The hot path looks up no catalog.
 */
#include "decode/decode.h"

#include "access/tupdesc.h"
#include "decode/convert.h"
#include "decode/rules.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

typedef enum ColumnSource
{
	FROM_FIELD,					/* a field of the JSON object */
	FROM_DEFAULT,				/* never in a message */
	FROM_RULES,					/* generated */
	FROM_KEY,
	FROM_VALUE,
	FROM_PARTITION,
	FROM_OFFSET,
	FROM_TIMESTAMP,
	FROM_HEADERS
} ColumnSource;

typedef struct Column
{
	ColumnSource source;
	int			field;			/* FROM_FIELD: number of the field */
	Converter  *converter;
	char	   *name;
} Column;

struct RowDecoder
{
	MemoryContext cxt;
	MemoryContextCallback on_reset;
	DecodeRun	run;
	Oid			owner;			/* of the stream */
	StreamFormat format;
	int			ncolumns;
	Column	   *columns;
	JsonReader *reader;			/* NULL: not JSON */
	JsonField  *fields;
	RowRules   *rules;
	bool		wants_headers;
};

static const struct
{
	const char *name;
	ColumnSource source;
}			metadata_columns[] = {
	{"_key", FROM_KEY},
	{"_value", FROM_VALUE},
	{"_partition", FROM_PARTITION},
	{"_offset", FROM_OFFSET},
	{"_timestamp", FROM_TIMESTAMP},
	{"_headers", FROM_HEADERS},
};

/* As whom the caller ran. */
typedef struct Caller
{
	Oid			userid;
	int			sec_context;
	bool		pushed_snapshot;
} Caller;

/* Makes the stream's owner the current user, with a snapshot if code may run that needs one. */
static inline void
become_owner(Oid owner, bool runs_code, Caller *caller)
{
	GetUserIdAndSecContext(&caller->userid, &caller->sec_context);
	SetUserIdAndSecContext(owner, caller->sec_context |
						   SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
	caller->pushed_snapshot = runs_code && !ActiveSnapshotSet();
	if (caller->pushed_snapshot)
		PushActiveSnapshot(GetTransactionSnapshot());
}

static inline void
become_caller(const Caller *caller)
{
	if (caller->pushed_snapshot)
		PopActiveSnapshot();
	SetUserIdAndSecContext(caller->userid, caller->sec_context);
}

static ColumnSource
source_of_column(const char *name, StreamFormat format)
{
	for (int i = 0; i < lengthof(metadata_columns); i++)
		if (strcmp(name, metadata_columns[i].name) == 0)
			return metadata_columns[i].source;
	return format == STREAM_FORMAT_JSON ? FROM_FIELD : FROM_DEFAULT;
}

static void
free_reader(void *arg)
{
	RowDecoder *decoder = arg;

	weir_json_reader_free(decoder->reader);
	decoder->reader = NULL;
}

/* Makes the JSON reader for the columns that come from fields. */
static void
create_reader(RowDecoder *decoder)
{
	const char **names = palloc((decoder->ncolumns + 1) * sizeof(char *));
	size_t	   *lengths = palloc((decoder->ncolumns + 1) * sizeof(size_t));
	int			nfields = 0;

	for (int i = 0; i < decoder->ncolumns; i++)
	{
		Column	   *column = &decoder->columns[i];

		if (column->source != FROM_FIELD)
			continue;
		names[nfields] = pg_server_to_any(column->name, strlen(column->name), PG_UTF8);
		lengths[nfields] = strlen(names[nfields]);
		column->field = nfields++;
	}
	decoder->fields = palloc0((nfields + 1) * sizeof(JsonField));
	decoder->reader = weir_json_reader_create(names, lengths, nfields);
	if (decoder->reader == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY),
				 errmsg("out of memory")));
}

RowDecoder *
weir_decoder_create(Stream *stream, Relation rel, MemoryContext cxt)
{
	MemoryContext own = AllocSetContextCreate(cxt, "weir row decoder", ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(own);
	TupleDesc	desc = RelationGetDescr(rel);
	RowDecoder *decoder = palloc0(sizeof(RowDecoder));
	Caller		caller;

	become_owner(stream->owner, true, &caller);
	decoder->cxt = own;
	decoder->owner = stream->owner;
	decoder->format = stream->format;
	decoder->run.cxt = own;
	decoder->run.utf8 = GetDatabaseEncoding() == PG_UTF8;
	decoder->run.time_unit = stream->time_unit;
	decoder->rules = weir_rules_create(&decoder->run, rel);
	decoder->columns = palloc0((desc->natts + 1) * sizeof(Column));
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);
		Column	   *column = &decoder->columns[decoder->ncolumns];

		if (att->attisdropped)
			continue;
		column->name = pstrdup(NameStr(att->attname));
		column->converter = weir_converter_create(&decoder->run, att->atttypid, att->atttypmod);
		column->source = source_of_column(column->name, stream->format);
		if (weir_rules_generated(decoder->rules, decoder->ncolumns))
			column->source = FROM_RULES;
		decoder->wants_headers |= column->source == FROM_HEADERS;
		decoder->ncolumns++;
	}
	if (decoder->format == STREAM_FORMAT_JSON)
	{
		/* Registered first, so that whatever fails afterwards leaks no parser. */
		decoder->on_reset.func = free_reader;
		decoder->on_reset.arg = decoder;
		MemoryContextRegisterResetCallback(own, &decoder->on_reset);
		create_reader(decoder);
	}
	MemoryContextSwitchTo(old);
	become_caller(&caller);
	return decoder;
}

void
weir_decoder_free(RowDecoder *decoder)
{
	weir_rules_free(decoder->rules);
	MemoryContextDelete(decoder->cxt);
}

bool
weir_decoder_wants_headers(const RowDecoder *decoder)
{
	return decoder->wants_headers;
}

/* Column i from what is not in the JSON: what Kafka says (null if it says nothing), or the default. */
static bool
decode_other(RowDecoder *decoder, int i, const WeirMessage *msg, Datum *datum, bool *isnull)
{
	static const JsonField null = {.kind = JSON_KIND_NULL};
	Column	   *column = &decoder->columns[i];

	decoder->run.value = NULL;
	*isnull = false;
	switch (column->source)
	{
		case FROM_KEY:
			if (msg->key)
				return weir_convert_bytes(column->converter, msg->key, msg->key_len, datum);
			break;
		case FROM_VALUE:
			if (msg->value)
				return weir_convert_bytes(column->converter, msg->value, msg->value_len, datum);
			break;
		case FROM_PARTITION:
			return weir_convert_int64(column->converter, msg->partition, datum);
		case FROM_OFFSET:
			return weir_convert_int64(column->converter, msg->offset, datum);
		case FROM_TIMESTAMP:
			if (msg->timestamp_ms != -1)
				return weir_convert_message_time(column->converter, msg->timestamp_ms, datum);
			break;
		case FROM_HEADERS:
			return weir_convert_headers(column->converter, msg, datum);
		case FROM_RULES:
			break;
		default:
			return weir_rules_default(decoder->rules, i, column->converter, datum, isnull);
	}
	*isnull = true;
	*datum = (Datum) 0;
	if (column->source == FROM_RULES)
		return true;			/* weir_rules_apply computes it */
	decoder->run.value = &null;
	return weir_convert(column->converter, &null, datum, isnull);
}

static bool
read_json(RowDecoder *decoder, const WeirMessage *msg)
{
	const char *reason;
	int			sqlstate;

	if (msg->value == NULL)
		return weir_convert_fail(&decoder->run, ERRCODE_NULL_VALUE_NOT_ALLOWED, "the message has no value");
	switch (weir_json_reader_parse(decoder->reader, msg->value, msg->value_len, decoder->fields, &reason))
	{
		case JSON_OK:
			return true;
		case JSON_ERROR_ENCODING:
			sqlstate = ERRCODE_CHARACTER_NOT_IN_REPERTOIRE;
			break;
		case JSON_ERROR_LIMIT:
			sqlstate = ERRCODE_PROGRAM_LIMIT_EXCEEDED;
			break;
		case JSON_ERROR_MEMORY:
			ereport(ERROR,
					(errcode(ERRCODE_OUT_OF_MEMORY),
					 errmsg("out of memory")));
			break;
		default:
			sqlstate = ERRCODE_INVALID_TEXT_REPRESENTATION;
			break;
	}
	weir_convert_fail(&decoder->run, sqlstate, "invalid JSON");
	decoder->run.error->detail = pstrdup(reason);
	return false;
}

static bool
decode_row(RowDecoder *decoder, const WeirMessage *msg, Datum *values, bool *isnull)
{
	DecodeRun  *run = &decoder->run;

	if (decoder->reader && !read_json(decoder, msg))
		return false;
	for (int i = 0; i < decoder->ncolumns; i++)
	{
		Column	   *column = &decoder->columns[i];
		bool		fine;

		run->column = column->name;
		if (column->source == FROM_FIELD && decoder->fields[column->field].kind != JSON_KIND_MISSING)
		{
			const JsonField *value = &decoder->fields[column->field];

			run->value = value;
			if (value->kind == JSON_KIND_NULL)
				fine = weir_convert(column->converter, value, &values[i], &isnull[i]);
			else
			{
				isnull[i] = false;
				fine = column->converter->convert(column->converter, value, &values[i]);
			}
		}
		else
			fine = decode_other(decoder, i, msg, &values[i], &isnull[i]);
		if (!fine)
			return false;
	}
	run->column = NULL;
	run->value = NULL;
	return weir_rules_apply(decoder->rules, values, isnull);
}

/* Names the column in an error that an input function, a domain or a default raises; no huge value stays in its message. */
static void
name_column(void *arg)
{
	DecodeRun  *run = arg;

	if (run->input && run->value && run->value->len > WEIR_LONG_VALUE)
		errmsg_internal("invalid value for type %s: \"%s\"", run->input->type_name,
						weir_convert_excerpt(run, run->value->text, run->value->len));
	if (run->column && run->value && run->value->raw)
		errdetail("Column \"%s\" was given %s.", run->column,
				  weir_convert_excerpt(run, run->value->raw, run->value->raw_len));
	else if (run->column && run->value)
		errdetail("Column \"%s\" is missing in the message.", run->column);
	else if (run->column)
		errcontext("column \"%s\"", run->column);
}

bool
weir_decoder_row(RowDecoder *decoder, const WeirMessage *msg,
				 Datum *values, bool *isnull, RowError *error)
{
	ErrorContextCallback callback = {
		.previous = error_context_stack,
		.callback = name_column,
		.arg = &decoder->run
	};
	Caller		caller;
	bool		fine;

	decoder->run.error = error;
	decoder->run.column = NULL;
	decoder->run.value = NULL;
	decoder->run.input = NULL;
	error_context_stack = &callback;
	become_owner(decoder->owner, decoder->run.runs_code, &caller);
	fine = decode_row(decoder, msg, values, isnull);
	become_caller(&caller);
	error_context_stack = callback.previous;
	return fine;
}
