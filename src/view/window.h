/*
 * window.h
 *	  Arithmetic that all windows share.
 */
#ifndef WEIR_WINDOW_H
#define WEIR_WINDOW_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "fmgr.h"

/* 1970-01-01 00:00 in microseconds since 2000-01-01 */
#define WEIR_WINDOW_EPOCH \
	((Timestamp) (UNIX_EPOCH_JDATE - POSTGRES_EPOCH_JDATE) * USECS_PER_DAY)

/* weir.window_start(ts, size [, origin]) and its counterpart */
extern PGDLLEXPORT Datum weir_window_start(PG_FUNCTION_ARGS);
extern PGDLLEXPORT Datum weir_window_end(PG_FUNCTION_ARGS);

/* Microseconds of an interval of days and times; raises unless it is positive. */
extern int64 weir_window_length(const Interval *size);

/* The n-th boundary of windows of this size, aligned to origin; 0: the last one that is not after ts. */
extern Timestamp weir_window_boundary(Timestamp ts, const Interval *size, Timestamp origin, int n);

/* The same on the calendar of a time zone (text). */
extern TimestampTz weir_window_zone_boundary(TimestampTz ts, const Interval *size, Datum zone, int n);

#define WEIR_WINDOW_ARGS	4	/* of tumble(), hop(), cumulate(), at most */

/*
 * weir_window_try computes a window of tumble, hop or cumulate, to raise what sizes, origin and zone that cannot be raise.
 * args[0], the time, is not looked at; last: type of the last argument. Returns how many windows a row is in, at most.
 */
extern int	weir_window_try(const char *function, const Datum *args, int nargs, Oid last);

extern Timestamp weir_window_to_local(Datum zone, TimestampTz ts);
extern TimestampTz weir_window_from_local(Datum zone, Timestamp ts);

#endif							/* WEIR_WINDOW_H */
