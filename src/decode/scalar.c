/*
 * scalar.c
 *	  Converters of numbers, truth values, texts, uuid, json and enums.
 *
 * See convert.h. Each takes the usual form of a value directly and leaves
 * unusual ones to the type's input function, so that what a string means is
 * always what PostgreSQL says; texts that the input function is sure to
 * refuse are told softly before it could raise.
 */
#include "decode/convert.h"

#include <errno.h>
#include <math.h>

#include "catalog/pg_type.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/syscache.h"
#include "utils/uuid.h"

/* Powers of ten that a double holds exactly; a float those up to 10^10. */
static const double power_of_ten[] = {
	1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11,
	1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22
};

/* Exponents beyond this are all the same to us. */
#define EXPONENT_LIMIT 1000000

static inline bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Drops the white space that input functions drop. */
static void
trim(const char **text, size_t *len)
{
	while (*len > 0 && isspace((unsigned char) **text))
	{
		(*text)++;
		(*len)--;
	}
	while (*len > 0 && isspace((unsigned char) (*text)[*len - 1]))
		(*len)--;
}

void
weir_decimal_parse(const char *text, size_t len, Decimal *decimal)
{
	const char *p = text;
	const char *end = text + len;
	bool		fraction = false;
	int			ndigits = 0;

	memset(decimal, 0, sizeof(*decimal));
	if (p < end && *p == '-')
	{
		decimal->negative = true;
		p++;
	}
	for (; p < end && (is_digit(*p) || *p == '.'); p++)
	{
		if (*p == '.')
		{
			fraction = true;
			continue;
		}
		if (ndigits < 19)
		{
			decimal->digits = decimal->digits * 10 + (*p - '0');
			if (decimal->digits != 0)
				ndigits++;
			if (fraction && decimal->exponent > -EXPONENT_LIMIT)
				decimal->exponent--;
		}
		else
		{
			if (*p != '0')
				decimal->inexact = true;
			if (!fraction && decimal->exponent < EXPONENT_LIMIT)
				decimal->exponent++;
		}
	}
	if (p < end)
	{
		bool		minus;
		int			exponent = 0;

		p++;					/* the e */
		minus = p < end && *p == '-';
		if (p < end && (*p == '-' || *p == '+'))
			p++;
		for (; p < end && exponent < EXPONENT_LIMIT; p++)
			exponent = exponent * 10 + (*p - '0');
		decimal->exponent += minus ? -exponent : exponent;
	}
}

static Datum
integer_datum(Oid type, int64 number)
{
	if (type == INT8OID)
		return Int64GetDatum(number);
	return type == INT4OID ? Int32GetDatum((int32) number) : Int16GetDatum((int16) number);
}

/* A JSON number that is not just a few digits: 1.0, 1e3 and 9223372036854775807 are whole numbers too. */
static bool
convert_long_integer(Converter *self, const JsonField *value, int64 max, Datum *datum)
{
	Decimal		decimal;

	weir_decimal_parse(value->text, value->len, &decimal);
	while (decimal.exponent < 0 && decimal.digits != 0 && decimal.digits % 10 == 0)
	{
		decimal.digits /= 10;
		decimal.exponent++;
	}
	if (decimal.digits == 0)
	{
		*datum = integer_datum(self->type, 0);
		return true;
	}
	if (decimal.exponent < 0 || (decimal.inexact && decimal.exponent == 0))
		return weir_convert_fail_syntax(self, value, ERRCODE_INVALID_TEXT_REPRESENTATION);
	for (; decimal.exponent > 0; decimal.exponent--)
	{
		if (decimal.digits > PG_UINT64_MAX / 10)
			return weir_convert_fail_range(self, value);
		decimal.digits *= 10;
	}
	if (decimal.inexact || decimal.digits > (uint64) max + (decimal.negative ? 1 : 0))
		return weir_convert_fail_range(self, value);
	*datum = integer_datum(self->type, decimal.negative ? (int64) (0 - decimal.digits) : (int64) decimal.digits);
	return true;
}

/* A string that is not just digits: signs, white space and what newer releases take (0x1F, 1_000). */
static bool
convert_odd_integer(Converter *self, const JsonField *value, Datum *datum)
{
	const char *text = value->text;
	size_t		len = value->len;
	bool		plausible;

	trim(&text, &len);
	if (len > 0 && (*text == '-' || *text == '+'))
		text++, len--;
	plausible = len > 0 && is_digit(*text);
	for (size_t i = 0; plausible && i < len; i++)
		plausible = isxdigit((unsigned char) text[i]) || strchr("_xXoO", text[i]) != NULL;
	if (plausible)
		return weir_convert_input(self, value->text, value->len, datum);
	return weir_convert_fail_syntax(self, value, ERRCODE_INVALID_TEXT_REPRESENTATION);
}

static inline bool
convert_integer(Converter *self, const JsonField *value, int64 min, int64 max, Datum *datum)
{
	const char *p = value->text;
	const char *end = p + value->len;
	bool		negative = p < end && *p == '-';
	int64		number = 0;

	if (negative)
		p++;
	if (p < end && end - p <= 18)
	{
		while (p < end && is_digit(*p))
			number = number * 10 + (*p++ - '0');
		if (p == end)
		{
			if (negative)
				number = -number;
			if (number < min || number > max)
				return weir_convert_fail_range(self, value);
			*datum = integer_datum(self->type, number);
			return true;
		}
	}
	if (value->kind == JSON_KIND_NUMBER)
		return convert_long_integer(self, value, max, datum);
	if (value->kind == JSON_KIND_STRING)
		return convert_odd_integer(self, value, datum);
	return weir_convert_fail_syntax(self, value, ERRCODE_INVALID_TEXT_REPRESENTATION);
}

bool
weir_convert_int2(Converter *self, const JsonField *value, Datum *datum)
{
	return convert_integer(self, value, PG_INT16_MIN, PG_INT16_MAX, datum);
}

bool
weir_convert_int4(Converter *self, const JsonField *value, Datum *datum)
{
	return convert_integer(self, value, PG_INT32_MIN, PG_INT32_MAX, datum);
}

bool
weir_convert_int8(Converter *self, const JsonField *value, Datum *datum)
{
	return convert_integer(self, value, PG_INT64_MIN, PG_INT64_MAX, datum);
}

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
	trim(&text, &len);
	if (!parse_bool_with_len(text, len, &truth))
		return weir_convert_fail_syntax(self, value, ERRCODE_INVALID_TEXT_REPRESENTATION);
	*datum = BoolGetDatum(truth);
	return true;
}

/* Could a string be a number, NaN or Infinity for an input function? Else notes the failure. */
static bool
check_plausible_number(Converter *self, const JsonField *value)
{
	const char *text = value->text;
	size_t		len = value->len;

	trim(&text, &len);
	if (value->kind == JSON_KIND_NUMBER ||
		(value->kind == JSON_KIND_STRING && len > 0 && (is_digit(*text) || strchr("+-.nNiI", *text) != NULL)))
		return true;
	return weir_convert_fail_syntax(self, value, ERRCODE_INVALID_TEXT_REPRESENTATION);
}

/*
 * A JSON number to a double, rounded once: digits that a double holds, times
 * or by a power of ten that a double holds (Clinger 1990), else strtod.
 */
bool
weir_convert_float8(Converter *self, const JsonField *value, Datum *datum)
{
	Decimal		decimal;
	double		number;

	if (!check_plausible_number(self, value))
		return false;
	if (value->kind != JSON_KIND_NUMBER)
		return weir_convert_input(self, value->text, value->len, datum);

	weir_decimal_parse(value->text, value->len, &decimal);
	if (!decimal.inexact && decimal.digits <= (UINT64CONST(1) << 53) &&
		decimal.exponent >= -22 && decimal.exponent <= 22)
	{
		number = (double) decimal.digits;
		if (decimal.exponent < 0)
			number /= power_of_ten[-decimal.exponent];
		else
			number *= power_of_ten[decimal.exponent];
		if (decimal.negative)
			number = -number;
	}
	else
	{
		errno = 0;
		number = strtod(pnstrdup(value->text, value->len), NULL);
		if (errno == ERANGE && (number == 0.0 || isinf(number)))
			return weir_convert_fail_range(self, value);
	}
	*datum = Float8GetDatum(number);
	return true;
}

/* As float8, rounded once to a float (never through a double). */
bool
weir_convert_float4(Converter *self, const JsonField *value, Datum *datum)
{
	float		number;

	if (!check_plausible_number(self, value))
		return false;
	if (value->kind != JSON_KIND_NUMBER)
		return weir_convert_input(self, value->text, value->len, datum);
	errno = 0;
	number = strtof(pnstrdup(value->text, value->len), NULL);
	if (errno == ERANGE && (number == 0.0f || isinf(number)))
		return weir_convert_fail_range(self, value);
	*datum = Float4GetDatum(number);
	return true;
}

/* From the digits as they stand: numeric's input function is exact and applies precision and scale. */
bool
weir_convert_numeric(Converter *self, const JsonField *value, Datum *datum)
{
	if (!check_plausible_number(self, value))
		return false;
	return weir_convert_input(self, value->text, value->len, datum);
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

static inline int
hex_digit(unsigned char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool
weir_convert_uuid(Converter *self, const JsonField *value, Datum *datum)
{
	const char *p = value->text;
	pg_uuid_t  *uuid;
	bool		plausible = value->kind == JSON_KIND_STRING;

	if (value->len == 36 && p[8] == '-' && p[13] == '-' && p[18] == '-' && p[23] == '-')
	{
		int			bad = 0;

		uuid = palloc(sizeof(pg_uuid_t));
		for (int i = 0; i < UUID_LEN; i++)
		{
			int			high = hex_digit(p[0]);
			int			low = hex_digit(p[1]);

			bad |= high | low;
			uuid->data[i] = (high << 4 | low) & 0xFF;
			p += 2;
			if (i == 3 || i == 5 || i == 7 || i == 9)
				p++;
		}
		if (bad >= 0)
		{
			*datum = UUIDPGetDatum(uuid);
			return true;
		}
	}
	for (size_t i = 0; plausible && i < value->len; i++)
		plausible = hex_digit(value->text[i]) >= 0 || strchr("{-}", value->text[i]) != NULL;
	if (plausible && value->len >= 32)
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
							 "invalid input value for enum %s: \"%s\"", format_type_be(self->type),
							 weir_convert_excerpt(self->run, value->text, value->len));
}

/* A type that is not known by heart: its input function reads the string, the digits or the JSON. */
bool
weir_convert_any(Converter *self, const JsonField *value, Datum *datum)
{
	return weir_convert_input(self, value->text, value->len, datum);
}
