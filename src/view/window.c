/*
 * window.c
 *	  The arithmetic of tumbling windows.
 *
 * tumble() in SQL is inlined by the planner and calls these once per row and
 * used column, so they are plain functions of (time, size, origin) and hold no
 * state. Windows are [start, end), aligned to the origin, before it too.
 *
 * Sizes: days and times are lengths ('1 day' is 24 hours in UTC); months are
 * counted on the calendar. With a time zone, days and months follow its local
 * calendar, so '1 day' lasts 23 to 25 hours; sizes below a day are lengths,
 * aligned to local midnight of 1970-01-01.
 */
#include "postgres.h"

#include "common/int.h"
#include "datatype/timestamp.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"
#include "view/window.h"

PG_FUNCTION_INFO_V1(weir_window_start);
PG_FUNCTION_INFO_V1(weir_window_end);
PG_FUNCTION_INFO_V1(weir_window_start_zone);
PG_FUNCTION_INFO_V1(weir_window_end_zone);

static void
refuse_size(const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid size of a window"),
			 errdetail("%s", detail)));
}

static int64
floor_divide(int64 a, int64 b)
{
	int64		q = a / b;

	return (a % b != 0 && a < 0) ? q - 1 : q;
}

/* Months since year 0 of a timestamp's calendar date. */
static int64
month_number(Timestamp ts)
{
	struct pg_tm tm;
	fsec_t		fsec;

	if (timestamp2tm(ts, NULL, &tm, &fsec, NULL, NULL) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("timestamp out of range")));
	return (int64) tm.tm_year * MONTHS_PER_YEAR + tm.tm_mon - 1;
}

static Timestamp
add_months(Timestamp ts, int64 months)
{
	Interval	span = {0};

	span.month = (int32) months;
	return DatumGetTimestamp(DirectFunctionCall2(timestamp_pl_interval, TimestampGetDatum(ts),
												 IntervalPGetDatum(&span)));
}

/* The nth-from-ts boundary (0: start, 1: end) of windows of whole months from origin. */
static Timestamp
month_boundary(Timestamp ts, int32 months, Timestamp origin, int n)
{
	int64		k = floor_divide(month_number(ts) - month_number(origin), months);

	if (add_months(origin, k * months) > ts)
		k--;
	return add_months(origin, (k + n) * months);
}

/* The same for windows of a fixed length. */
static Timestamp
length_boundary(Timestamp ts, int64 length, Timestamp origin, int n)
{
	int64		offset;
	int64		result;

	if (pg_sub_s64_overflow(ts, origin, &offset) ||
		pg_mul_s64_overflow(floor_divide(offset, length) + n, length, &result) ||
		pg_add_s64_overflow(result, origin, &result) ||
		!IS_VALID_TIMESTAMP(result))
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("timestamp out of range")));
	return result;
}

int64
weir_window_length(const Interval *size)
{
	int64		length;

	if (pg_mul_s64_overflow(size->day, USECS_PER_DAY, &length) ||
		pg_add_s64_overflow(length, size->time, &length) || length <= 0)
		refuse_size("It must be positive.");
	return length;
}

Timestamp
weir_window_boundary(Timestamp ts, const Interval *size, Timestamp origin, int n)
{
	if (TIMESTAMP_NOT_FINITE(ts))
		return ts;
	if (TIMESTAMP_NOT_FINITE(origin))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("origin of windows is infinite")));
	if (size->month != 0)
	{
		if (size->day != 0 || size->time != 0)
			refuse_size("Months cannot be mixed with days or times.");
		if (size->month < 0)
			refuse_size("It must be positive.");
		return month_boundary(ts, size->month, origin, n);
	}
	return length_boundary(ts, weir_window_length(size), origin, n);
}

/* weir.window_start(ts, size, origin), for timestamp and timestamptz; origin NULL: 1970-01-01 UTC */
Datum
weir_window_start(PG_FUNCTION_ARGS)
{
	PG_RETURN_TIMESTAMP(weir_window_boundary(PG_GETARG_TIMESTAMP(0), PG_GETARG_INTERVAL_P(1),
								 PG_NARGS() > 2 ? PG_GETARG_TIMESTAMP(2) : WEIR_WINDOW_EPOCH, 0));
}

Datum
weir_window_end(PG_FUNCTION_ARGS)
{
	PG_RETURN_TIMESTAMP(weir_window_boundary(PG_GETARG_TIMESTAMP(0), PG_GETARG_INTERVAL_P(1),
								 PG_NARGS() > 2 ? PG_GETARG_TIMESTAMP(2) : WEIR_WINDOW_EPOCH, 1));
}

Timestamp
weir_window_to_local(Datum zone, TimestampTz ts)
{
	return DatumGetTimestamp(DirectFunctionCall2(timestamptz_zone, zone, TimestampTzGetDatum(ts)));
}

TimestampTz
weir_window_from_local(Datum zone, Timestamp ts)
{
	return DatumGetTimestampTz(DirectFunctionCall2(timestamp_zone, zone, TimestampGetDatum(ts)));
}

TimestampTz
weir_window_zone_boundary(TimestampTz ts, const Interval *size, Datum zone, int n)
{
	if (TIMESTAMP_NOT_FINITE(ts))
		return ts;
	if (size->month == 0 && size->day == 0)
		return weir_window_boundary(ts, size, weir_window_from_local(zone, WEIR_WINDOW_EPOCH), n);
	if (size->month == 0 && size->time != 0)
		refuse_size("In a time zone, days cannot be mixed with times.");
	return weir_window_from_local(zone, weir_window_boundary(weir_window_to_local(zone, ts), size, WEIR_WINDOW_EPOCH, n));
}

/* weir.window_start(ts, size, time_zone) */
Datum
weir_window_start_zone(PG_FUNCTION_ARGS)
{
	PG_RETURN_TIMESTAMPTZ(weir_window_zone_boundary(PG_GETARG_TIMESTAMPTZ(0), PG_GETARG_INTERVAL_P(1),
										PG_GETARG_DATUM(2), 0));
}

Datum
weir_window_end_zone(PG_FUNCTION_ARGS)
{
	PG_RETURN_TIMESTAMPTZ(weir_window_zone_boundary(PG_GETARG_TIMESTAMPTZ(0), PG_GETARG_INTERVAL_P(1),
										PG_GETARG_DATUM(2), 1));
}
