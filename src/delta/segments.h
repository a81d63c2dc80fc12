/*
 * segments.h
 *	  The rows a stream keeps: one child table per interval of event time.
 */
#ifndef WEIR_SEGMENTS_H
#define WEIR_SEGMENTS_H

#include "delta/delta.h"

/*
 * weir_segments_create_parent makes weir.rows_N (a child of the stream with
 * the hidden columns) and, if the stream keeps rows, its first segments. Returns weir.rows_N.
 */
extern Oid	weir_segments_create_parent(Oid stream, bool keeps_rows);

/* Gives segments that a new index or a change of owner of the stream concerns the same. */
extern void weir_segments_clone_index(Oid stream, Oid index);
extern void weir_segments_index_time(Stream *stream);	/* an index on event time, for views that read windows of kept rows */
extern List *weir_segments_all(Oid stream);		/* weir.rows_N and every segment, as OIDs */

/*
 * weir_segments_keep writes a delta's rows that weir.keep covers, in the
 * batch's transaction. may_expire: also empties segments that fell out
 * (AccessExclusive on them until commit, only if it can be had at once): for workers, whose transactions are short.
 */
extern void weir_segments_keep(Stream *stream, Delta *delta, bool may_expire);

/* Empties segments whose rows are all older than weir.keep; own locks as above. */
extern void weir_segments_expire(Stream *stream);

/* The same right after weir.keep became shorter, by the newest row that is kept. The caller holds ShareRowExclusive on the stream. */
extern void weir_segments_shrunk(Stream *stream);


/*
 * weir_segments_read makes every kept row that qualifies into a delta, in
 * order of arrival. qual: SQL over the hidden columns, or NULL.
 */
extern Delta *weir_segments_read(Stream *stream, const char *qual);

/* Notes that rows with an event time before until may not be among the kept ones (any more). */
extern void weir_segments_missing(Oid stream, TimestampTz until);

/* From which event time on all rows of the stream are kept; DT_NOBEGIN: all that ever came. */
extern TimestampTz weir_segments_whole_since(Stream *stream);

/* Highest event time known of the stream, DT_NOBEGIN if none; rows below it minus keep may be gone. */
extern TimestampTz weir_segments_stream_time(Stream *stream);

/* Between segments.c and narrow.c; inside a catalog scope. */
extern int64 weir_segments_width(Stream *stream);
extern TimestampTz weir_segments_start(TimestampTz event_time, int64 width);
extern Oid	weir_segments_claim(Stream *stream, TimestampTz lo, TimestampTz hi);
extern List *weir_segments_list(Oid stream, const char *condition, TimestampTz limit);
extern TimestampTz weir_segments_query_time(const char *sql, Oid stream);
extern void weir_segments_empty(Oid segment);
extern void weir_segments_narrow(Stream *stream, TimestampTz from);

#endif							/* WEIR_SEGMENTS_H */
