/*
 * row_json.c
 *	  Rows as JSON for Kafka and NOTIFY.
 *
 * Trigger ⇒ here ⇒ record. The common types are written directly, with the
 * very bytes that to_jsonb(value)::text would have under TimeZone UTC and the
 * other settings at their defaults; every other type goes through to_jsonb. The session's
 * own settings must not show in a topic, so they are put aside meanwhile.
 *
 * Runs in the session's or worker's transaction; no locks; leaves garbage in
 * CurrentMemoryContext, which the caller resets per row.
 */
#include "sink/row_json.h"

#include "catalog/pg_type.h"
#include "common/shortest_dec.h"
#include "compat.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "pgtime.h"
#include "utils/builtins.h"
#include "utils/bytea.h"
#include "utils/date.h"
#include "utils/datetime.h"
#include "utils/float.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/numeric.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

/* The settings that output functions look at. */
typedef struct OutputSettings
{
	int			date_style;
	int			date_order;
	int			interval_style;
	int			float_digits;
	int			bytea;
	pg_tz	   *timezone;
} OutputSettings;

static JsonKind
kind_of(Oid type)
{
	switch (type)
	{
		case BOOLOID:
			return JSON_BOOL;
		case INT2OID:
			return JSON_INT2;
		case INT4OID:
			return JSON_INT4;
		case INT8OID:
			return JSON_INT8;
		case FLOAT8OID:
			return JSON_FLOAT8;
		case NUMERICOID:
			return JSON_NUMERIC;
		case TEXTOID:
		case VARCHAROID:
		case BPCHAROID:
			return JSON_TEXT;
		case UUIDOID:
			return JSON_UUID;
		case BYTEAOID:
			return JSON_BYTEA;
		case DATEOID:
		case TIMESTAMPOID:
		case TIMESTAMPTZOID:
			return JSON_DATETIME;
		case JSONBOID:
			return JSON_JSONB;
		default:
			return JSON_OTHER;
	}
}

JsonRow *
weir_json_prepare(TupleDesc desc, const AttrNumber *attnums, int n)
{
	JsonRow    *row = palloc(sizeof(JsonRow));

	row->ncolumns = n;
	row->columns = palloc0(sizeof(JsonColumn) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		Form_pg_attribute attr = TupleDescAttr(desc, attnums[i] - 1);
		JsonColumn *column = &row->columns[i];
		StringInfoData label;

		column->attnum = attnums[i];
		column->type = getBaseType(attr->atttypid);
		column->kind = kind_of(column->type);
		initStringInfo(&label);
		weir_json_string(&label, NameStr(attr->attname), strlen(NameStr(attr->attname)));
		appendStringInfoChar(&label, ':');
		column->label = label.data;
		column->label_len = label.len;
		if (column->kind == JSON_OTHER)
		{
			Const	   *arg = makeNullConst(attr->atttypid, attr->atttypmod, attr->attcollation);

			fmgr_info(F_TO_JSONB, &column->to_jsonb);
			fmgr_info_set_expr((Node *) makeFuncExpr(F_TO_JSONB, JSONBOID, list_make1(arg),
													 InvalidOid, InvalidOid, COERCE_EXPLICIT_CALL),
							   &column->to_jsonb);
		}
	}
	return row;
}

/* The same escapes as escape_json, for text that does not end with a zero. */
void
weir_json_string(StringInfo out, const char *text, int len)
{
	int			done = 0;

	appendStringInfoChar(out, '"');
	for (int i = 0; i < len; i++)
	{
		unsigned char c = text[i];
		char		escape;

		if (likely(c >= 0x20 && c != '"' && c != '\\'))
			continue;
		appendBinaryStringInfo(out, text + done, i - done);
		done = i + 1;
		escape = c == '"' ? '"' : c == '\\' ? '\\' : c == '\b' ? 'b' : c == '\f' ? 'f' :
			c == '\n' ? 'n' : c == '\r' ? 'r' : c == '\t' ? 't' : '\0';
		if (escape == '\0')
			appendStringInfo(out, "\\u%04x", c);
		else
		{
			appendStringInfoChar(out, '\\');
			appendStringInfoChar(out, escape);
		}
	}
	appendBinaryStringInfo(out, text + done, len - done);
	appendStringInfoChar(out, '"');
}

static void
put_settings_aside(OutputSettings *saved)
{
	saved->date_style = DateStyle;
	saved->date_order = DateOrder;
	saved->interval_style = IntervalStyle;
	saved->float_digits = extra_float_digits;
	saved->bytea = bytea_output;
	saved->timezone = session_timezone;
	DateStyle = USE_ISO_DATES;
	DateOrder = DATEORDER_MDY;
	IntervalStyle = INTSTYLE_POSTGRES;
	extra_float_digits = 1;
	bytea_output = BYTEA_OUTPUT_HEX;
	session_timezone = pg_tzset("UTC");
}

static void
put_settings_back(const OutputSettings *saved)
{
	DateStyle = saved->date_style;
	DateOrder = saved->date_order;
	IntervalStyle = saved->interval_style;
	extra_float_digits = saved->float_digits;
	bytea_output = saved->bytea;
	session_timezone = saved->timezone;
}

/* What to_jsonb makes of the value, under the settings that count. */
static Jsonb *
value_to_jsonb(JsonColumn *column, Datum value)
{
	OutputSettings saved;
	Jsonb	   *result = NULL;

	put_settings_aside(&saved);
	PG_TRY();
	{
		result = DatumGetJsonbP(FunctionCall1(&column->to_jsonb, value));
	}
	PG_FINALLY();
	{
		put_settings_back(&saved);
	}
	PG_END_TRY();
	return result;
}

static void
append_numeric(StringInfo out, Datum value, bool quote)
{
	char	   *text = DatumGetCString(DirectFunctionCall1(numeric_out, value));
	bool		special = strspn(text, "0123456789.-") != strlen(text);

	if (special && quote)
		appendStringInfo(out, "\"%s\"", text);
	else
		appendStringInfoString(out, text);
}

/* A JSON number has no exponent in jsonb: through numeric where there is one. */
static void
append_float8(StringInfo out, float8 value, bool quote)
{
	char		buf[DOUBLE_SHORTEST_DECIMAL_LEN];

	if (isnan(value) || isinf(value))
	{
		const char *text = isnan(value) ? "NaN" : value > 0 ? "Infinity" : "-Infinity";

		appendStringInfo(out, quote ? "\"%s\"" : "%s", text);
		return;
	}
	double_to_shortest_decimal_buf(value, buf);
	if (strchr(buf, 'e') == NULL && strcmp(buf, "-0") != 0)
		appendStringInfoString(out, buf);
	else
		append_numeric(out, DirectFunctionCall3(numeric_in, CStringGetDatum(buf),
												ObjectIdGetDatum(InvalidOid),
												Int32GetDatum(-1)), quote);
}

static void
append_bytea_hex(StringInfo out, Datum value)
{
	bytea	   *bytes = DatumGetByteaPP(value);
	int			len = VARSIZE_ANY_EXHDR(bytes);

	enlargeStringInfo(out, len * 2 + 8);
	appendStringInfoString(out, "\"\\\\x");
	hex_encode(VARDATA_ANY(bytes), len, out->data + out->len);
	out->len += len * 2;
	out->data[out->len] = '\0';
	appendStringInfoChar(out, '"');
}

static void
append_jsonb(StringInfo out, Jsonb *jsonb)
{
	(void) JsonbToCString(out, &jsonb->root, VARSIZE(jsonb));
}

/* Kinds that are written alike with and without quotes; false: another one. */
static bool
append_bare(StringInfo out, JsonColumn *column, Datum value, bool quote)
{
	char		buf[MAXDATELEN + 32];
	int			utc = 0;

	switch (column->kind)
	{
		case JSON_BOOL:
			appendStringInfoString(out, DatumGetBool(value) ? "true" : "false");
			return true;
		case JSON_INT2:
			pg_ltoa(DatumGetInt16(value), buf);
			break;
		case JSON_INT4:
			pg_ltoa(DatumGetInt32(value), buf);
			break;
		case JSON_INT8:
			pg_lltoa(DatumGetInt64(value), buf);
			break;
		case JSON_FLOAT8:
			append_float8(out, DatumGetFloat8(value), quote);
			return true;
		case JSON_NUMERIC:
			append_numeric(out, value, quote);
			return true;
		case JSON_DATETIME:
			JsonEncodeDateTime(buf, value, column->type,
							   column->type == TIMESTAMPTZOID ? &utc : NULL);
			appendStringInfo(out, quote ? "\"%s\"" : "%s", buf);
			return true;
		case JSON_UUID:
			appendStringInfo(out, quote ? "\"%s\"" : "%s",
							 DatumGetCString(DirectFunctionCall1(uuid_out, value)));
			return true;
		default:
			return false;
	}
	appendStringInfoString(out, buf);
	return true;
}

static void
append_value(StringInfo out, JsonColumn *column, Datum value)
{
	text	   *string;

	if (append_bare(out, column, value, true))
		return;
	switch (column->kind)
	{
		case JSON_TEXT:
			string = DatumGetTextPP(value);
			weir_json_string(out, VARDATA_ANY(string), VARSIZE_ANY_EXHDR(string));
			break;
		case JSON_BYTEA:
			append_bytea_hex(out, value);
			break;
		case JSON_JSONB:
			append_jsonb(out, DatumGetJsonbP(value));
			break;
		default:
			append_jsonb(out, value_to_jsonb(column, value));
			break;
	}
}

/* A JSON string loses its quotes; everything else stays JSON. */
static void
append_jsonb_plain(StringInfo out, Jsonb *jsonb)
{
	JsonbValue	scalar;

	if (JB_ROOT_IS_SCALAR(jsonb) && JsonbExtractScalar(&jsonb->root, &scalar) &&
		scalar.type == jbvString)
		appendBinaryStringInfo(out, scalar.val.string.val, scalar.val.string.len);
	else
		append_jsonb(out, jsonb);
}

bool
weir_json_plain(StringInfo out, JsonColumn *column, TupleTableSlot *slot)
{
	bool		isnull;
	Datum		value = slot_getattr(slot, column->attnum, &isnull);
	struct varlena *bytes;

	if (isnull)
		return false;
	if (append_bare(out, column, value, false))
		return true;
	switch (column->kind)
	{
		case JSON_TEXT:
		case JSON_BYTEA:
			bytes = PG_DETOAST_DATUM_PACKED(value);
			appendBinaryStringInfo(out, VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes));
			break;
		case JSON_JSONB:
			append_jsonb_plain(out, DatumGetJsonbP(value));
			break;
		default:
			append_jsonb_plain(out, value_to_jsonb(column, value));
			break;
	}
	return true;
}

void
weir_json_row(StringInfo out, JsonRow *row, TupleTableSlot *slot, bool omit_nulls,
			  const char *extra)
{
	bool		first = true;

	appendStringInfoChar(out, '{');
	for (int i = 0; i < row->ncolumns; i++)
	{
		JsonColumn *column = &row->columns[i];
		bool		isnull;
		Datum		value = slot_getattr(slot, column->attnum, &isnull);

		if (isnull && omit_nulls)
			continue;
		if (!first)
			appendStringInfoChar(out, ',');
		first = false;
		appendBinaryStringInfo(out, column->label, column->label_len);
		if (isnull)
			appendBinaryStringInfo(out, "null", 4);
		else
			append_value(out, column, value);
	}
	if (extra != NULL)
		appendStringInfo(out, "%s%s", first ? "" : ",", extra);
	appendStringInfoChar(out, '}');
}
