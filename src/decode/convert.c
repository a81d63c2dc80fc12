/*
 * convert.c
 *	  Choosing a converter for a type, input functions, and how failures are told.
 *
 * See convert.h. Runs per value; nothing here looks up a catalog except
 * weir_converter_create, which runs once per column, and the failure paths.
 */
#include "decode/convert.h"

#include <ctype.h>

#include "catalog/pg_type.h"
#include "compat.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

/* Bytes of a value that a message shows. */
#define EXCERPT_LENGTH 64

/* Longest text that is passed to an input function without an allocation. */
#define INPUT_BUFFER 256

/* Converter function of a base type that is known by heart, or NULL. */
static ConvertFunction
function_of_type(Oid type)
{
	switch (type)
	{
		case BOOLOID:
			return weir_convert_bool;
		case INT2OID:
			return weir_convert_int2;
		case INT4OID:
			return weir_convert_int4;
		case INT8OID:
			return weir_convert_int8;
		case FLOAT4OID:
			return weir_convert_float4;
		case FLOAT8OID:
			return weir_convert_float8;
		case NUMERICOID:
			return weir_convert_numeric;
		case TEXTOID:
			return weir_convert_text;
		case VARCHAROID:
			return weir_convert_varchar;
		case BPCHAROID:
			return weir_convert_bpchar;
		case UUIDOID:
			return weir_convert_uuid;
		case JSONOID:
			return weir_convert_json;
		case JSONBOID:
			return weir_convert_jsonb;
		case TIMESTAMPTZOID:
			return weir_convert_timestamptz;
		case TIMESTAMPOID:
			return weir_convert_timestamp;
		case DATEOID:
			return weir_convert_date;
		case TIMEOID:
			return weir_convert_time;
		default:
			return NULL;
	}
}

Converter *
weir_converter_create(DecodeRun *run, Oid type, int32 typmod)
{
	Converter  *converter = MemoryContextAllocZero(run->cxt, sizeof(Converter));
	char		kind = get_typtype(type);
	Oid			element;
	Oid			input;

	check_stack_depth();
	converter->run = run;
	converter->type = type;
	converter->typmod = typmod;
	converter->type_name = MemoryContextStrdup(run->cxt, format_type_be(type));
	getTypeInputInfo(type, &input, &converter->ioparam);
	fmgr_info_cxt(input, &converter->input, run->cxt);

	if (kind == TYPTYPE_DOMAIN)
	{
		int32		base_typmod = typmod;
		Oid			base = getBaseTypeAndTypmod(type, &base_typmod);

		converter->convert = weir_convert_domain;
		run->runs_code = true;
		converter->inner = weir_converter_create(run, base, base_typmod);
	}
	else if (kind == TYPTYPE_ENUM)
		converter->convert = weir_convert_enum;
	else if (kind == TYPTYPE_COMPOSITE)
		converter->convert = weir_convert_composite;
	else if ((converter->convert = function_of_type(type)) != NULL)
		 /* known by heart */ ;
	else if (OidIsValid(element = get_element_type(type)) && get_typlen(type) == -1)
	{
		Oid			base = getBaseType(element);

		converter->convert = weir_convert_array;
		converter->inner = weir_converter_create(run, element, typmod);
		converter->elements_nest = base != JSONOID && base != JSONBOID &&
			!OidIsValid(get_element_type(base));
		get_typlenbyvalalign(element, &converter->typlen, &converter->typbyval, &converter->typalign);
	}
	else
		converter->convert = weir_convert_any;
	return converter;
}

bool
weir_convert(Converter *converter, const JsonField *value, Datum *datum, bool *isnull)
{
	*isnull = value->kind == JSON_KIND_MISSING || value->kind == JSON_KIND_NULL;
	if (*isnull && converter->convert != weir_convert_domain)
	{
		*datum = (Datum) 0;
		return true;
	}
	return converter->convert(converter, value, datum);
}

char *
weir_convert_excerpt(DecodeRun *run, const char *text, size_t len)
{
	size_t		shown = len;
	char	   *excerpt;
	bool		ascii_only;

	if (shown > EXCERPT_LENGTH)
	{
		shown = EXCERPT_LENGTH;
		while (shown > EXCERPT_LENGTH - 4 && (text[shown] & 0xC0) == 0x80)
			shown--;
	}
	ascii_only = !run->utf8 || !pg_verify_mbstr(PG_UTF8, text, shown, true);
	excerpt = palloc(shown + 4);
	for (size_t i = 0; i < shown; i++)
	{
		unsigned char c = text[i];

		excerpt[i] = c < 0x20 || c == 0x7F || (c >= 0x80 && ascii_only) ? '?' : c;
	}
	strcpy(excerpt + shown, shown < len ? "..." : "");
	return excerpt;
}

bool
weir_convert_fail(DecodeRun *run, int sqlstate, const char *format,...)
{
	RowError   *error = run->error;
	StringInfoData message;

	initStringInfo(&message);
	for (;;)
	{
		va_list		args;
		int			needed;

		va_start(args, format);
		needed = appendStringInfoVA(&message, format, args);
		va_end(args);
		if (needed == 0)
			break;
		enlargeStringInfo(&message, needed);
	}
	error->sqlstate = sqlstate;
	error->message = message.data;
	error->detail = NULL;
	if (run->column && run->value && run->value->raw)
		error->detail = psprintf("Column \"%s\" was given %s.", run->column,
								 weir_convert_excerpt(run, run->value->raw, run->value->raw_len));
	else if (run->column)
		error->detail = psprintf("Column \"%s\".", run->column);
	return false;
}

bool
weir_convert_fail_syntax(Converter *self, const JsonField *value, int sqlstate)
{
	return weir_convert_fail(self->run, sqlstate, "invalid input syntax for type %s: \"%s\"",
							 self->type_name,
							 weir_convert_excerpt(self->run, value->text, value->len));
}

bool
weir_convert_fail_range(Converter *self, const JsonField *value)
{
	return weir_convert_fail(self->run, ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE,
							 "value \"%s\" is out of range for type %s",
							 weir_convert_excerpt(self->run, value->text, value->len),
							 self->type_name);
}

bool
weir_convert_check_nul(DecodeRun *run, const char *text, size_t len)
{
	if (memchr(text, '\0', len) == NULL)
		return true;
	return weir_convert_fail(run, ERRCODE_UNTRANSLATABLE_CHARACTER,
							 "\\u0000 cannot be converted to text");
}

bool
weir_convert_input(Converter *self, const char *text, size_t len, Datum *datum)
{
	char		buffer[INPUT_BUFFER];
	char	   *string = buffer;
	ErrorData  *error;
	bool		fine;

	if (!weir_convert_check_nul(self->run, text, len))
		return false;
	if (len >= INPUT_BUFFER)
		string = palloc(len + 1);
	memcpy(string, text, len);
	string[len] = '\0';
	if (!self->run->utf8)
		string = pg_any_to_server(string, len, PG_UTF8);

	self->run->input = self;
	fine = weir_compat_input_call(&self->input, string, self->ioparam, self->typmod, datum, &error);
	self->run->input = NULL;
	if (fine)
		return true;
	if (len > WEIR_LONG_VALUE)
		return weir_convert_fail(self->run, error->sqlerrcode, "invalid value for type %s: \"%s\"",
								 self->type_name, weir_convert_excerpt(self->run, text, len));
	return weir_convert_fail(self->run, error->sqlerrcode, "%s", error->message);
}

void
weir_convert_trim(const char **text, size_t *len)
{
	while (*len > 0 && isspace((unsigned char) **text))
	{
		(*text)++;
		(*len)--;
	}
	while (*len > 0 && isspace((unsigned char) (*text)[*len - 1]))
		(*len)--;
}
