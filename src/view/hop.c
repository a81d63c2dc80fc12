/*
 * hop.c
 *	  The arithmetic of windows that overlap: hop() and cumulate().
 *
 * Both are SQL functions that the planner inlines: the row, joined with the
 * numbers 0 .. count - 1, each of which stands for one window that the row may
 * be in. So these are plain functions of (time, size, step, n), as those of
 * window.c, whose rules for days, months and time zones hold here, too.
 *
 * hop(): windows begin at every step of advance from the origin and last
 * size. Window n of a row is the n-th before the last one that has begun. If
 * size is no multiple of advance, or below it, the row may have left it already:
 * its end is not after the row, and the SQL function leaves it out.
 *
 * cumulate(): the windows of a tumbling window of max_size all begin with it,
 * and end at every step, the last one with it. Window n is the one that ends n + 1 steps
 * after the start; NULL if a step before would have reached the end.
 */
#include "postgres.h"

#include <math.h>

#include "catalog/pg_type_d.h"
#include "common/int.h"
#include "datatype/timestamp.h"
#include "fmgr.h"
#include "nodes/primnodes.h"
#include "nodes/supportnodes.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"
#include "view/window.h"

PG_FUNCTION_INFO_V1(weir_hop_count);
PG_FUNCTION_INFO_V1(weir_hop_start);
PG_FUNCTION_INFO_V1(weir_hop_end);
PG_FUNCTION_INFO_V1(weir_hop_start_zone);
PG_FUNCTION_INFO_V1(weir_hop_end_zone);
PG_FUNCTION_INFO_V1(weir_cumulate_end);
PG_FUNCTION_INFO_V1(weir_cumulate_end_zone);
PG_FUNCTION_INFO_V1(weir_in_window);
PG_FUNCTION_INFO_V1(weir_in_window_support);

/* A day may be so much longer than 24 hours where clocks are put back. */
#define LONGEST_SHIFT	(3 * USECS_PER_HOUR)

static void
refuse_sizes(const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid sizes of windows"),
			 errdetail("%s", detail)));
}

/* Sizes that can be counted against each other: both of months, or both of days and times. */
static void
check_sizes(const Interval *size, const Interval *step)
{
	if ((size->month != 0) != (step->month != 0))
		refuse_sizes("Either both are months, or none.");
}

/* start + n times step, on the calendar where step has months */
static Timestamp
add_steps(Timestamp start, const Interval *step, int64 n)
{
	Interval	span = {0};
	int64		length;
	Timestamp	result;

	if (step->month != 0)
	{
		span.month = (int32) (step->month * n);
		return DatumGetTimestamp(DirectFunctionCall2(timestamp_pl_interval, TimestampGetDatum(start),
													 IntervalPGetDatum(&span)));
	}
	length = weir_window_length(step);
	if (pg_mul_s64_overflow(length, n, &length) ||
		pg_add_s64_overflow(start, length, &result) || !IS_VALID_TIMESTAMP(result))
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE), errmsg("timestamp out of range")));
	return result;
}

/* weir.hop_count(size, step): windows that one row is in, at most */
Datum
weir_hop_count(PG_FUNCTION_ARGS)
{
	Interval   *size = PG_GETARG_INTERVAL_P(0);
	Interval   *step = PG_GETARG_INTERVAL_P(1);
	bool		shifts = PG_NARGS() > 2 && PG_GETARG_BOOL(2);	/* days may be longer */
	int64		whole;
	int64		part;
	int64		count;

	check_sizes(size, step);
	if (size->month != 0)
	{
		whole = size->month;
		part = step->month;
		if (whole <= 0 || part <= 0)
			refuse_sizes("They must be positive.");
	}
	else
	{
		whole = weir_window_length(size);
		part = weir_window_length(step);
		if (shifts && size->day != 0 && step->day == 0)
			whole += LONGEST_SHIFT;
	}
	count = (whole - 1) / part + 1;
	if (count > PG_INT32_MAX)
		refuse_sizes("A row would be in too many windows.");
	PG_RETURN_INT32((int32) count);
}

/* Start of the n-th window before the last that has begun at ts. */
static Timestamp
hop_start(Timestamp ts, const Interval *size, const Interval *advance, int n, Timestamp origin)
{
	check_sizes(size, advance);
	if (TIMESTAMP_NOT_FINITE(ts))
		return ts;
	return weir_window_boundary(ts, advance, origin, -n);
}

static Timestamp
hop_end(Timestamp ts, const Interval *size, const Interval *advance, int n, Timestamp origin)
{
	if (TIMESTAMP_NOT_FINITE(ts))
		return ts;
	return add_steps(hop_start(ts, size, advance, n, origin), size, 1);
}

static Timestamp
origin_argument(FunctionCallInfo fcinfo, int i)
{
	return PG_NARGS() > i ? PG_GETARG_TIMESTAMP(i) : WEIR_WINDOW_EPOCH;
}

/* weir.hop_start(ts, size, advance, n [, origin]), for timestamp and timestamptz */
Datum
weir_hop_start(PG_FUNCTION_ARGS)
{
	PG_RETURN_TIMESTAMP(hop_start(PG_GETARG_TIMESTAMP(0), PG_GETARG_INTERVAL_P(1), PG_GETARG_INTERVAL_P(2),
								  PG_GETARG_INT32(3), origin_argument(fcinfo, 4)));
}

Datum
weir_hop_end(PG_FUNCTION_ARGS)
{
	PG_RETURN_TIMESTAMP(hop_end(PG_GETARG_TIMESTAMP(0), PG_GETARG_INTERVAL_P(1), PG_GETARG_INTERVAL_P(2),
								PG_GETARG_INT32(3), origin_argument(fcinfo, 4)));
}

/* Are both lengths of time only, which local clocks do not change? */
static bool
are_lengths(const Interval *size, const Interval *step)
{
	if ((size->day != 0 && (size->time != 0 || step->time != 0)) ||
		(step->day != 0 && (step->time != 0 || size->time != 0)))
		refuse_sizes("In a time zone, days cannot be mixed with times.");
	return size->month == 0 && size->day == 0;
}

static TimestampTz
hop_zone(FunctionCallInfo fcinfo, Timestamp (*f) (Timestamp, const Interval *, const Interval *, int, Timestamp))
{
	TimestampTz ts = PG_GETARG_TIMESTAMPTZ(0);
	Interval   *size = PG_GETARG_INTERVAL_P(1);
	Interval   *advance = PG_GETARG_INTERVAL_P(2);
	int			n = PG_GETARG_INT32(3);
	Datum		zone = PG_GETARG_DATUM(4);

	if (TIMESTAMP_NOT_FINITE(ts))
		return ts;
	if (are_lengths(size, advance))
		return f(ts, size, advance, n, weir_window_from_local(zone, WEIR_WINDOW_EPOCH));
	return weir_window_from_local(zone, f(weir_window_to_local(zone, ts), size, advance, n, WEIR_WINDOW_EPOCH));
}

/* weir.hop_start(ts, size, advance, n, time_zone) */
Datum
weir_hop_start_zone(PG_FUNCTION_ARGS)
{
	PG_RETURN_TIMESTAMPTZ(hop_zone(fcinfo, hop_start));
}

Datum
weir_hop_end_zone(PG_FUNCTION_ARGS)
{
	PG_RETURN_TIMESTAMPTZ(hop_zone(fcinfo, hop_end));
}

/* End of the n-th window in [start, end); false: there are not so many. */
static bool
cumulate_end(Timestamp start, Timestamp end, const Interval *step, int n, Timestamp *result)
{
	if (n > 0 && add_steps(start, step, n) >= end)
		return false;
	*result = Min(add_steps(start, step, n + 1), end);
	return true;
}

/* weir.cumulate_end(ts, max_size, step, n [, origin]) */
Datum
weir_cumulate_end(PG_FUNCTION_ARGS)
{
	Timestamp	ts = PG_GETARG_TIMESTAMP(0);
	Interval   *size = PG_GETARG_INTERVAL_P(1);
	Interval   *step = PG_GETARG_INTERVAL_P(2);
	Timestamp	origin = origin_argument(fcinfo, 4);
	Timestamp	result;

	check_sizes(size, step);
	if (TIMESTAMP_NOT_FINITE(ts))
		PG_RETURN_NULL();
	if (!cumulate_end(weir_window_boundary(ts, size, origin, 0), weir_window_boundary(ts, size, origin, 1),
					  step, PG_GETARG_INT32(3), &result))
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMP(result);
}

/*
 * weir.cumulate_end(ts, max_size, step, n, time_zone): steps below a day are
 * lengths, so on the day that clocks change there is one window more or less.
 */
Datum
weir_cumulate_end_zone(PG_FUNCTION_ARGS)
{
	TimestampTz ts = PG_GETARG_TIMESTAMPTZ(0);
	Interval   *size = PG_GETARG_INTERVAL_P(1);
	Interval   *step = PG_GETARG_INTERVAL_P(2);
	int			n = PG_GETARG_INT32(3);
	Datum		zone = PG_GETARG_DATUM(4);
	TimestampTz start;
	TimestampTz end;
	Timestamp	result;

	check_sizes(size, step);
	if (TIMESTAMP_NOT_FINITE(ts))
		PG_RETURN_NULL();
	start = weir_window_zone_boundary(ts, size, zone, 0);
	end = weir_window_zone_boundary(ts, size, zone, 1);
	if (step->month == 0 && step->day == 0)
	{
		if (!cumulate_end(start, end, step, n, &result))
			PG_RETURN_NULL();
		PG_RETURN_TIMESTAMPTZ(result);
	}
	if (step->time != 0)
		refuse_sizes("In a time zone, days cannot be mixed with times.");
	if (!cumulate_end(weir_window_to_local(zone, start), weir_window_to_local(zone, end), step, n, &result))
		PG_RETURN_NULL();
	PG_RETURN_TIMESTAMPTZ(weir_window_from_local(zone, result));
}

/* weir.in_window(ts, window_end): ts < window_end, with its own estimate */
Datum
weir_in_window(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(PG_GETARG_TIMESTAMP(0) < PG_GETARG_TIMESTAMP(1));
}

/* A span in microseconds, nearly: months are not equally long. */
static double
length_of(Node *arg)
{
	Interval   *span;

	if (!IsA(arg, Const) || ((Const *) arg)->constisnull)
		return 0;
	span = DatumGetIntervalP(((Const *) arg)->constvalue);
	return ((double) span->month * DAYS_PER_MONTH + span->day) * USECS_PER_DAY + span->time;
}

/* Of the numbered windows of a row, the share that hold it: 1, but for odd sizes of hop(); of cumulate() those that end after it. */
static double
share_held(List *args)
{
	FuncExpr   *end = list_length(args) == 2 ? lsecond(args) : NULL;
	double		size;
	double		step;
	double		count;

	if (end == NULL || !IsA(end, FuncExpr) || list_length(end->args) < 3)
		return 1;
	size = length_of(lsecond(end->args));
	step = length_of(lthird(end->args));
	if (size <= 0 || step <= 0)
		return 1;
	count = ceil(size / step);
	if (strcmp(get_func_name(end->funcid), "cumulate_end") == 0)
		return (step * count * (count - 1) / 2 + size) / (size * count);
	return size / (step * count);
}

/* How many rows are left of those joined with the numbers of their windows. */
Datum
weir_in_window_support(PG_FUNCTION_ARGS)
{
	Node	   *request = (Node *) PG_GETARG_POINTER(0);

	if (!IsA(request, SupportRequestSelectivity))
		PG_RETURN_POINTER(NULL);
	((SupportRequestSelectivity *) request)->selectivity = share_held(((SupportRequestSelectivity *) request)->args);
	PG_RETURN_POINTER(request);
}

int
weir_window_try(const char *function, const Datum *args, int nargs, Oid last)
{
	bool		hop = strcmp(function, "hop") == 0;
	bool		zone = last == TEXTOID;
	Datum		ts = TimestampGetDatum(WEIR_WINDOW_EPOCH);
	Datum		origin = last == TIMESTAMPTZOID ? args[nargs - 1] : ts;
	Datum		count;

	if (strcmp(function, "tumble") == 0)
	{
		if (zone)
			weir_window_zone_boundary(WEIR_WINDOW_EPOCH, DatumGetIntervalP(args[1]), args[2], 1);
		else
			weir_window_boundary(WEIR_WINDOW_EPOCH, DatumGetIntervalP(args[1]), DatumGetTimestamp(origin), 1);
		return 1;
	}
	count = DirectFunctionCall2(weir_hop_count, args[1], args[2]);
	DirectFunctionCall5(zone ? (hop ? weir_hop_end_zone : weir_cumulate_end_zone) : (hop ? weir_hop_end : weir_cumulate_end),
						ts, args[1], args[2], Int32GetDatum(0), zone ? args[3] : origin);
	return DatumGetInt32(count);
}
