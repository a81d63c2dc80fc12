/*
 * datetime.c
 *	  Converters of timestamptz, timestamp, date and time.
 *
 * See convert.h. Strings of the usual ISO 8601 form (2024-02-29T12:34:56.789Z,
 * with a space instead of T, without seconds, with an offset or none) are
 * taken apart here, about ten times as fast as by the input functions, with
 * the very result of these; any other form goes to them.
 * JSON numbers count weir.time_unit since 1970 UTC (type time: since
 * midnight), a fraction allowed, exact to the microsecond.
 */
#include "decode/convert.h"

#include "common/int.h"
#include "pgtime.h"
#include "utils/builtins.h"
#include "utils/date.h"
#include "utils/datetime.h"
#include "utils/timestamp.h"

#define EPOCH_DIFFERENCE ((POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY)

typedef enum IsoResult
{
	ISO_OK,
	ISO_OTHER,					/* not of the form: for the input function */
	ISO_RANGE					/* of the form, but there is no such time */
} IsoResult;

typedef struct IsoTime
{
	int			year;
	int			month;
	int			day;
	int			hour;
	int			minute;
	int			second;
	int			microsecond;
	bool		has_time;
	bool		has_zone;
	int			offset;			/* seconds east of UTC */
} IsoTime;

/* Two digits at *p, which moves on; -1: something else. */
static inline int
two_digits(const char **p, const char *end)
{
	unsigned int tens;
	unsigned int ones;

	if (end - *p < 2)
		return -1;
	tens = (unsigned char) (*p)[0] - '0';
	ones = (unsigned char) (*p)[1] - '0';
	if (tens > 9 || ones > 9)
		return -1;
	*p += 2;
	return tens * 10 + ones;
}

/*
 * .789 and the like to microseconds, rounded. A fraction that stands exactly
 * between two microseconds is left to the input function and its rounding.
 */
static IsoResult
parse_fraction(const char **p, const char *end, IsoTime *iso)
{
	int			ndigits = 0;
	int			rest = 0;		/* the seventh digit and on, first two and whether more */

	iso->microsecond = 0;
	for (; *p < end && **p >= '0' && **p <= '9'; (*p)++, ndigits++)
	{
		int			digit = **p - '0';

		if (ndigits < 6)
			iso->microsecond = iso->microsecond * 10 + digit;
		else if (ndigits == 6)
			rest = digit * 10;
		else if (digit != 0)
			rest |= 1;
	}
	if (ndigits == 0 || rest == 50)
		return ISO_OTHER;
	for (; ndigits < 6; ndigits++)
		iso->microsecond *= 10;
	if (rest > 50)
		iso->microsecond++;
	return ISO_OK;
}

/* hh:mm[:ss[.fraction]] */
static IsoResult
parse_clock(const char **p, const char *end, IsoTime *iso)
{
	iso->second = iso->microsecond = 0;
	iso->has_time = true;
	if ((iso->hour = two_digits(p, end)) < 0 || *p == end || **p != ':')
		return ISO_OTHER;
	(*p)++;
	if ((iso->minute = two_digits(p, end)) < 0)
		return ISO_OTHER;
	if (*p < end && **p == ':')
	{
		(*p)++;
		if ((iso->second = two_digits(p, end)) < 0)
			return ISO_OTHER;
		if (*p < end && **p == '.')
		{
			(*p)++;
			if (parse_fraction(p, end, iso) != ISO_OK)
				return ISO_OTHER;
		}
	}
	/* 24:00 and second 60 are times as well, if rare ones */
	if (iso->hour == 24 || iso->second == 60)
		return ISO_OTHER;
	return iso->hour > 24 || iso->minute > 59 || iso->second > 60 ? ISO_RANGE : ISO_OK;
}

/* Z, +hh, +hhmm, +hh:mm */
static IsoResult
parse_zone(const char **p, const char *end, IsoTime *iso)
{
	bool		west;
	int			hours;
	int			minutes = 0;

	iso->has_zone = true;
	iso->offset = 0;
	if (**p == 'Z' || **p == 'z')
	{
		(*p)++;
		return *p == end ? ISO_OK : ISO_OTHER;
	}
	if (**p != '+' && **p != '-')
		return ISO_OTHER;
	west = *(*p)++ == '-';
	if ((hours = two_digits(p, end)) < 0)
		return ISO_OTHER;
	if (*p < end)
	{
		if (**p == ':')
			(*p)++;
		if ((minutes = two_digits(p, end)) < 0)
			return ISO_OTHER;
	}
	if (*p != end || hours > MAX_TZDISP_HOUR || minutes > 59)
		return ISO_OTHER;
	iso->offset = hours * SECS_PER_HOUR + minutes * SECS_PER_MINUTE;
	if (west)
		iso->offset = -iso->offset;
	return ISO_OK;
}

/* yyyy-mm-dd */
static IsoResult
parse_date(const char **p, const char *end, IsoTime *iso)
{
	int			century = two_digits(p, end);
	int			year = century < 0 ? -1 : two_digits(p, end);

	if (year < 0 || *p == end || *(*p)++ != '-')
		return ISO_OTHER;
	iso->year = century * 100 + year;
	if ((iso->month = two_digits(p, end)) < 0 || *p == end || *(*p)++ != '-')
		return ISO_OTHER;
	if ((iso->day = two_digits(p, end)) < 0)
		return ISO_OTHER;
	if (iso->year == 0)
		return ISO_OTHER;
	if (iso->month < 1 || iso->month > 12 || iso->day < 1 ||
		iso->day > day_tab[isleap(iso->year)][iso->month - 1])
		return ISO_RANGE;
	return ISO_OK;
}

/* A whole ISO timestamp or date. */
static IsoResult
parse_iso(const JsonField *value, IsoTime *iso)
{
	const char *p = value->text;
	const char *end = p + value->len;
	IsoResult	result = parse_date(&p, end, iso);

	iso->has_time = iso->has_zone = false;
	iso->hour = iso->minute = iso->second = iso->microsecond = iso->offset = 0;
	if (result == ISO_OTHER || p == end)
		return result;
	if (*p != 'T' && *p != ' ' && *p != 't')
		return ISO_OTHER;
	p++;
	switch (parse_clock(&p, end, iso))
	{
		case ISO_OTHER:
			return ISO_OTHER;
		case ISO_RANGE:
			result = ISO_RANGE;
			break;
		default:
			break;
	}
	if (p < end && parse_zone(&p, end, iso) != ISO_OK)
		return ISO_OTHER;
	return result;
}

static inline int64
clock_microseconds(const IsoTime *iso)
{
	return ((iso->hour * 60 + iso->minute) * 60 + iso->second) * USECS_PER_SEC + iso->microsecond;
}

/* Days since 2000; remembers the last answer, since most rows of a batch are of one day. */
static inline int
iso_days(const IsoTime *iso)
{
	static int	last_date = -1;
	static int	last_days;
	int			date = (iso->year * 16 + iso->month) * 32 + iso->day;

	if (date != last_date)
	{
		last_days = date2j(iso->year, iso->month, iso->day) - POSTGRES_EPOCH_JDATE;
		last_date = date;
	}
	return last_days;
}

static inline Timestamp
iso_timestamp(const IsoTime *iso)
{
	return iso_days(iso) * USECS_PER_DAY + clock_microseconds(iso);
}

/* What the session's time zone was at that local time. */
static int
local_offset(const IsoTime *iso)
{
	struct pg_tm tm;

	memset(&tm, 0, sizeof(tm));
	tm.tm_year = iso->year;
	tm.tm_mon = iso->month;
	tm.tm_mday = iso->day;
	tm.tm_hour = iso->hour;
	tm.tm_min = iso->minute;
	tm.tm_sec = iso->second;
	tm.tm_isdst = -1;
	return -DetermineTimeZoneOffset(&tm, session_timezone);
}

/* timestamp(n): rounded to n digits, halves away from zero as in AdjustTimestampForTypmod. */
static int64
round_to_typmod(int64 time, int32 typmod)
{
	static const int64 scales[] = {1000000, 100000, 10000, 1000, 100, 10, 1};
	int64		scale;

	if (typmod < 0 || typmod >= 6)
		return time;
	scale = scales[typmod];
	if (time >= 0)
		return (time + scale / 2) / scale * scale;
	return -((-time + scale / 2) / scale * scale);
}

/* A JSON number in weir.time_unit to microseconds, rounded; false: far out of any range. */
static bool
number_to_microseconds(Converter *self, const JsonField *value, int64 *result)
{
	static const int digits_of_unit[] = {
		[STREAM_TIME_S] = 6,[STREAM_TIME_MS] = 3,[STREAM_TIME_US] = 0
	};
	Decimal		decimal;

	weir_decimal_parse(value->text, value->len, &decimal);
	decimal.exponent += digits_of_unit[self->run->time_unit];
	if (decimal.digits == 0)
		decimal.exponent = 0;
	for (; decimal.exponent > 0; decimal.exponent--)
	{
		if (decimal.digits > PG_INT64_MAX / 10)
			return false;
		decimal.digits *= 10;
	}
	if (decimal.exponent < -20)
		decimal.digits = 0;
	for (; decimal.exponent < 0 && decimal.digits != 0; decimal.exponent++)
	{
		bool		last = decimal.exponent == -1;

		decimal.digits = decimal.digits / 10 + (last && decimal.digits % 10 >= 5 ? 1 : 0);
	}
	if (decimal.digits > PG_INT64_MAX)
		return false;
	*result = decimal.negative ? -(int64) decimal.digits : (int64) decimal.digits;
	return true;
}

static bool
fail_time_range(Converter *self, const JsonField *value)
{
	return weir_convert_fail(self->run, ERRCODE_DATETIME_FIELD_OVERFLOW,
							 "date/time field value out of range: \"%s\"",
							 weir_convert_excerpt(self->run, value->text, value->len));
}

/* A JSON number to a timestamp. */
static bool
number_to_timestamp(Converter *self, const JsonField *value, Timestamp *time)
{
	if (!number_to_microseconds(self, value, time) ||
		pg_sub_s64_overflow(*time, EPOCH_DIFFERENCE, time) ||
		!IS_VALID_TIMESTAMP(*time))
		return fail_time_range(self, value);
	*time = round_to_typmod(*time, self->typmod);
	return true;
}

/* What is no ISO string: to the input function, if there is any hope. */
static bool
convert_other(Converter *self, const JsonField *value, IsoResult result, Datum *datum)
{
	static const char *const words[] = {
		"now", "today", "tomorrow", "yesterday", "epoch", "infinity", "allballs"
	};
	bool		hope = false;

	if (result == ISO_RANGE)
		return fail_time_range(self, value);
	for (size_t i = 0; !hope && i < value->len; i++)
	{
		hope = value->text[i] >= '0' && value->text[i] <= '9';
		for (int w = 0; !hope && w < lengthof(words); w++)
			hope = value->len - i >= strlen(words[w]) &&
				pg_strncasecmp(value->text + i, words[w], strlen(words[w])) == 0;
	}
	if (value->kind == JSON_KIND_STRING && hope)
		return weir_convert_input(self, value->text, value->len, datum);
	return weir_convert_fail_syntax(self, value, ERRCODE_INVALID_DATETIME_FORMAT);
}

bool
weir_convert_timestamptz(Converter *self, const JsonField *value, Datum *datum)
{
	Timestamp	time;
	IsoTime		iso;
	IsoResult	result;

	if (value->kind == JSON_KIND_NUMBER)
	{
		if (!number_to_timestamp(self, value, &time))
			return false;
		*datum = TimestampTzGetDatum(time);
		return true;
	}
	result = parse_iso(value, &iso);
	if (result != ISO_OK)
		return convert_other(self, value, result, datum);
	time = iso_timestamp(&iso);
	time -= (int64) (iso.has_zone ? iso.offset : local_offset(&iso)) * USECS_PER_SEC;
	*datum = TimestampTzGetDatum(round_to_typmod(time, self->typmod));
	return true;
}

/* As PostgreSQL does, a zone in the string is read over. */
bool
weir_convert_timestamp(Converter *self, const JsonField *value, Datum *datum)
{
	Timestamp	time;
	IsoTime		iso;
	IsoResult	result;

	if (value->kind == JSON_KIND_NUMBER)
	{
		if (!number_to_timestamp(self, value, &time))
			return false;
		*datum = TimestampGetDatum(time);
		return true;
	}
	result = parse_iso(value, &iso);
	if (result != ISO_OK)
		return convert_other(self, value, result, datum);
	*datum = TimestampGetDatum(round_to_typmod(iso_timestamp(&iso), self->typmod));
	return true;
}

bool
weir_convert_date(Converter *self, const JsonField *value, Datum *datum)
{
	Timestamp	time;
	IsoTime		iso;
	IsoResult	result;

	if (value->kind == JSON_KIND_NUMBER)
	{
		int64		day;

		if (!number_to_timestamp(self, value, &time))
			return false;
		day = time / USECS_PER_DAY;
		if (time % USECS_PER_DAY < 0)
			day--;
		*datum = DateADTGetDatum((DateADT) day);
		return true;
	}
	result = parse_iso(value, &iso);
	if (result != ISO_OK)
		return convert_other(self, value, result, datum);
	*datum = DateADTGetDatum(iso_days(&iso));
	return true;
}

bool
weir_convert_time(Converter *self, const JsonField *value, Datum *datum)
{
	const char *p = value->text;
	const char *end = p + value->len;
	TimeADT		time;
	IsoTime		iso;
	IsoResult	result;

	if (value->kind == JSON_KIND_NUMBER)
	{
		if (!number_to_microseconds(self, value, &time) || time < 0 || time > USECS_PER_DAY)
			return fail_time_range(self, value);
	}
	else
	{
		result = parse_clock(&p, end, &iso);
		if (result == ISO_OTHER || p != end)
			return convert_other(self, value, ISO_OTHER, datum);
		if (result == ISO_RANGE)
			return convert_other(self, value, ISO_RANGE, datum);
		time = clock_microseconds(&iso);
	}
	*datum = TimeADTGetDatum(round_to_typmod(time, self->typmod));
	return true;
}
