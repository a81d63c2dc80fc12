/*
 * number.c
 *	  Converters of integers, floats and numeric.
 *
 * See convert.h. A JSON number is exact in whatever type can hold it: nothing
 * goes through a double but double precision itself. Each converter takes the
 * usual form of a value directly and leaves unusual strings to the type's
 * input function, so that what a string means is always what PostgreSQL says;
 * strings that it is sure to refuse are told softly before it could raise.
 */
#include "decode/convert.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>

#include "catalog/pg_type.h"
#include "compat.h"
#include "decode/numeric_layout.h"
#include "utils/numeric.h"

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

	weir_convert_trim(&text, &len);
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

/* Could a string be a number, NaN or Infinity for an input function? Else notes the failure. */
static bool
check_plausible_number(Converter *self, const JsonField *value)
{
	const char *text = value->text;
	size_t		len = value->len;

	weir_convert_trim(&text, &len);
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

/*
 * numeric_from_decimal builds a numeric of at most 18 digits without its
 * input function, in the short form of numeric_layout.h.
 */
#define NUMERIC_DIGITS_MAX	6	/* 18 decimal digits, the point anywhere between */

static Datum
numeric_from_decimal(uint64 digits, int scale, int display_scale, bool negative)
{
	static const int power_of_ten_mod[] = {1, 1000, 100, 10};
	int16		groups[NUMERIC_DIGITS_MAX];
	int			first = NUMERIC_DIGITS_MAX;
	int			last = NUMERIC_DIGITS_MAX;
	int			weight = -((scale + 3) / 4);	/* of the last group, then of the first */
	int			tail = power_of_ten_mod[scale % 4];
	uint16		header = SHORT_NUMERIC | (display_scale << SHORT_SCALE_SHIFT);
	Size		size;
	char	   *result;

	/* The last group may be cut by the end of the fraction: fill it up with zeros. */
	if (digits != 0)
	{
		uint64		group = digits % (10000 / tail) * tail;

		digits /= 10000 / tail;
		for (;;)
		{
			groups[--first] = (int16) group;
			if (digits == 0)
				break;
			group = digits % 10000;
			digits /= 10000;
			weight++;
		}
		while (groups[last - 1] == 0)
			last--;
		if (negative)
			header |= SHORT_NEGATIVE;
		header |= (weight & SHORT_WEIGHT_MASK) | (weight < 0 ? SHORT_WEIGHT_SIGN : 0);
	}
	size = VARHDRSZ + sizeof(uint16) + (last - first) * sizeof(int16);
	result = palloc(size);
	SET_VARSIZE(result, size);
	memcpy(result + VARHDRSZ, &header, sizeof(uint16));
	memcpy(result + VARHDRSZ + sizeof(uint16), groups + first, (last - first) * sizeof(int16));
	return PointerGetDatum(result);
}

/* A plain decimal of at most 18 digits that typmod does not round; false: any other value. */
static bool
convert_short_numeric(Converter *self, const JsonField *value, Datum *datum)
{
	const char *p = value->text;
	const char *end = p + value->len;
	bool		negative = *p == '-';
	uint64		digits = 0;
	int			scale = 0;
	int			display_scale;
	const char *point = NULL;

	p += negative;
	if (end - p > 18)
		return false;
	for (; p < end; p++)
	{
		if (is_digit(*p))
			digits = digits * 10 + (*p - '0');
		else if (*p == '.')
			point = p;
		else
			return false;		/* an exponent */
	}
	if (point)
		scale = end - point - 1;
	display_scale = scale;
	if (self->typmod >= (int32) VARHDRSZ)
	{
		int			precision = ((self->typmod - VARHDRSZ) >> 16) & 0xFFFF;
		uint64		limit = 1;

		display_scale = (self->typmod - VARHDRSZ) & 0x7FF;
		if (display_scale < scale || display_scale > 18 || precision < display_scale)
			return false;		/* rounded, or a negative or large scale */
		/* fewer than precision - display_scale digits in front of the point */
		for (int i = Min(precision - display_scale + scale, 18); i > 0; i--)
			limit *= 10;
		if (digits >= limit)
			return false;
	}
	*datum = numeric_from_decimal(digits, scale, display_scale, negative);
	return true;
}

/* Exact: from the digits as they stand, with the scale they have. */
bool
weir_convert_numeric(Converter *self, const JsonField *value, Datum *datum)
{
	if (value->kind == JSON_KIND_NUMBER && convert_short_numeric(self, value, datum))
		return true;
	if (!check_plausible_number(self, value))
		return false;
	return weir_convert_input(self, value->text, value->len, datum);
}
