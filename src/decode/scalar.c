/*
 * scalar.c
 *	  Converters of truth values, texts, uuid, json, enums and types not known by heart.
 *
 * See convert.h. As in number.c: the usual form directly, other forms through
 * the type's input function, hopeless ones refused softly.
 */
#include "decode/convert.h"

#include <ctype.h>

#include "catalog/pg_type.h"
#include "compat.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/syscache.h"
#include "utils/uuid.h"

bool
weir_convert_bool(Converter *self, const JsonField *value, Datum *datum)
{
	const char *text = value->text;
	size_t		len = value->len;
	bool		truth;

	if (value->kind == JSON_KIND_TRUE || value->kind == JSON_KIND_FALSE)
	{
		*datum = BoolGetDatum(value->kind == JSON_KIND_TRUE);
		return true;
	}
	weir_convert_trim(&text, &len);
	if (!parse_bool_with_len(text, len, &truth))
		return weir_convert_fail_syntax(self, value, ERRCODE_INVALID_TEXT_REPRESENTATION);
	*datum = BoolGetDatum(truth);
	return true;
}

/* A value's text in the database's encoding; false: it holds \u0000. */
static inline bool
server_text(Converter *self, const JsonField *value, const char **text, size_t *len)
{
	*text = value->text;
	*len = value->len;
	/* Only strings that had escapes can hold it, and the bytes of _key and _value. */
	if (value->text != value->raw + 1 && !weir_convert_check_nul(self->run, value->text, value->len))
		return false;
	if (!self->run->utf8)
	{
		*text = pg_any_to_server(pnstrdup(*text, *len), *len, PG_UTF8);
		*len = strlen(*text);
	}
	return true;
}

bool
weir_convert_text(Converter *self, const JsonField *value, Datum *datum)
{
	const char *text;
	size_t		len;

	if (!server_text(self, value, &text, &len))
		return false;
	*datum = PointerGetDatum(cstring_to_text_with_len(text, len));
	return true;
}

/* Bytes of the first max characters; notes the failure if anything but spaces is cut off. */
static bool
clip_to_typmod(Converter *self, const char *text, size_t *len, int max)
{
	size_t		clipped;

	if (*len <= (size_t) max)
		return true;
	clipped = pg_mbcharcliplen(text, *len, max);
	for (size_t i = clipped; i < *len; i++)
		if (text[i] != ' ')
			return weir_convert_fail(self->run, ERRCODE_STRING_DATA_RIGHT_TRUNCATION,
									 "value too long for type %s",
									 format_type_with_typemod(self->type, self->typmod));
	*len = clipped;
	return true;
}

bool
weir_convert_varchar(Converter *self, const JsonField *value, Datum *datum)
{
	const char *text;
	size_t		len;

	if (!server_text(self, value, &text, &len))
		return false;
	if (self->typmod >= (int32) VARHDRSZ &&
		!clip_to_typmod(self, text, &len, self->typmod - VARHDRSZ))
		return false;
	*datum = PointerGetDatum(cstring_to_text_with_len(text, len));
	return true;
}

bool
weir_convert_bpchar(Converter *self, const JsonField *value, Datum *datum)
{
	const char *text;
	size_t		len;
	int			missing = 0;
	BpChar	   *result;

	if (!server_text(self, value, &text, &len))
		return false;
	if (self->typmod >= (int32) VARHDRSZ)
	{
		int			max = self->typmod - VARHDRSZ;

		if (!clip_to_typmod(self, text, &len, max))
			return false;
		missing = Max(0, max - pg_mbstrlen_with_len(text, len));
	}
	result = palloc(VARHDRSZ + len + missing);
	SET_VARSIZE(result, VARHDRSZ + len + missing);
	memcpy(VARDATA(result), text, len);
	memset(VARDATA(result) + len, ' ', missing);
	*datum = PointerGetDatum(result);
	return true;
}

/* Value of a hexadecimal digit with IS_HEX set; 0 for anything else. */
#define IS_HEX 0x10
static const uint8 hex_digits[256] = {
	['0'] = 0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 0x19,
	['a'] = 0x1A, 0x1B, 0x1C, 0x1D, 0x1E, 0x1F,
	['A'] = 0x1A, 0x1B, 0x1C, 0x1D, 0x1E, 0x1F,
};

/* Sixteen bytes from the usual form, 8-4-4-4-12. */
static bool
parse_uuid(const unsigned char *p, pg_uuid_t *uuid)
{
	static const uint8 places[UUID_LEN] = {0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34};
	uint8		good = IS_HEX;

	for (int i = 0; i < UUID_LEN; i++)
	{
		uint8		high = hex_digits[p[places[i]]];
		uint8		low = hex_digits[p[places[i] + 1]];

		good &= high & low;
		uuid->data[i] = high << 4 | (low & 0x0F);
	}
	return good == IS_HEX && p[8] == '-' && p[13] == '-' && p[18] == '-' && p[23] == '-';
}

bool
weir_convert_uuid(Converter *self, const JsonField *value, Datum *datum)
{
	bool		plausible = value->kind == JSON_KIND_STRING && value->len >= 32;

	if (value->len == 36)
	{
		pg_uuid_t  *uuid = palloc(sizeof(pg_uuid_t));

		if (parse_uuid((const unsigned char *) value->text, uuid))
		{
			*datum = UUIDPGetDatum(uuid);
			return true;
		}
	}
	for (size_t i = 0; plausible && i < value->len; i++)
		plausible = isxdigit((unsigned char) value->text[i]) || strchr("{-}", value->text[i]) != NULL;
	if (plausible)
		return weir_convert_input(self, value->text, value->len, datum);
	return weir_convert_fail_syntax(self, value, ERRCODE_INVALID_TEXT_REPRESENTATION);
}

/* The document as it stands in the message, so numbers keep their digits and strings their quotes. */
bool
weir_convert_json(Converter *self, const JsonField *value, Datum *datum)
{
	const char *text = value->raw;
	size_t		len = value->raw_len;

	if (!self->run->utf8)
	{
		text = pg_any_to_server(pnstrdup(text, len), len, PG_UTF8);
		len = strlen(text);
	}
	*datum = PointerGetDatum(cstring_to_text_with_len(text, len));
	return true;
}

bool
weir_convert_jsonb(Converter *self, const JsonField *value, Datum *datum)
{
	return weir_convert_input(self, value->raw, value->raw_len, datum);
}

/* Known labels of enums; emptied when any enum changes. */
#define ENUM_CACHE_SIZE 64

typedef struct EnumLabel
{
	Oid			type;
	Oid			value;
	NameData	label;
} EnumLabel;

static EnumLabel enum_cache[ENUM_CACHE_SIZE];
static bool enum_cache_registered = false;

static void
forget_enums(Datum arg, int cacheid, uint32 hashvalue)
{
	memset(enum_cache, 0, sizeof(enum_cache));
}

bool
weir_convert_enum(Converter *self, const JsonField *value, Datum *datum)
{
	EnumLabel  *cached;
	char		label[NAMEDATALEN];
	uint32		hash = self->type;

	if (value->len == 0 || value->len >= NAMEDATALEN || memchr(value->text, '\0', value->len) != NULL)
		goto unknown;
	for (size_t i = 0; i < value->len; i++)
		hash = hash * 31 + (unsigned char) value->text[i];
	cached = &enum_cache[hash % ENUM_CACHE_SIZE];
	if (cached->type == self->type && memcmp(NameStr(cached->label), value->text, value->len) == 0 &&
		NameStr(cached->label)[value->len] == '\0')
	{
		*datum = ObjectIdGetDatum(cached->value);
		return true;
	}

	if (!enum_cache_registered)
	{
		CacheRegisterSyscacheCallback(ENUMOID, forget_enums, (Datum) 0);
		enum_cache_registered = true;
	}
	memcpy(label, value->text, value->len);
	label[value->len] = '\0';
	if (self->run->utf8 &&
		!SearchSysCacheExists2(ENUMTYPOIDNAME, ObjectIdGetDatum(self->type), CStringGetDatum(label)))
		goto unknown;
	if (!weir_convert_input(self, value->text, value->len, datum))
		return false;
	cached->type = self->type;
	cached->value = DatumGetObjectId(*datum);
	strlcpy(NameStr(cached->label), label, NAMEDATALEN);
	return true;

unknown:
	return weir_convert_fail(self->run, ERRCODE_INVALID_TEXT_REPRESENTATION,
							 "invalid input value for enum %s: \"%s\"", self->type_name,
							 weir_convert_excerpt(self->run, value->text, value->len));
}

/* A type that is not known by heart: its input function reads the string, the digits or the JSON. */
bool
weir_convert_any(Converter *self, const JsonField *value, Datum *datum)
{
	return weir_convert_input(self, value->text, value->len, datum);
}
