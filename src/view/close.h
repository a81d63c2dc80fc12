/*
 * close.h
 *	  When windows close: watermarks, and the finals of views with weir.emit = 'final'.
 */
#ifndef WEIR_CLOSE_H
#define WEIR_CLOSE_H

#include "weir.h"
#include "catalog/stream.h"
#include "catalog/view.h"
#include "delta/ingest.h"

/* Has the view weir.emit = 'final'? */
extern bool weir_view_is_final(View *view);

/* Do rows of it come when a window closes, or when nothing can match them any more? */
extern bool weir_view_closes(View *view);

/*
 * weir_close_lock locks a final view until the end of the transaction, so that
 * no two transactions merge into it or close its windows at a time, and returns the time
 * up to which its windows are closed (DT_NOBEGIN: none). To be called before
 * rows are merged.
 */
extern TimestampTz weir_close_lock(View *view);
/* The same without a lock; DT_NOBEGIN also for a view that is not final. */
extern TimestampTz weir_close_read(View *view);

/*
 * weir_close_view closes what the view's watermark has passed, in this transaction,
 * and returns the number of finals. parts: partitions of stream whose positions
 * are not saved yet; their stream_time counts (DT_NOBEGIN: the saved one does), and they are not idle.
 */
extern uint64 weir_close_view(View *view, Oid stream, BatchPartition *parts, int nparts);

/* The same in a subtransaction; a view whose close raises an error of its own is set to failed. */
extern void weir_close_guarded(View *view, Oid stream, BatchPartition *parts, int nparts);

/*
 * weir_close_due closes what is due of a view by the clock, in this transaction (a worker's).
 * Returns when to look again; 0 if nothing of it is open, or not by the clock.
 */
extern TimestampTz weir_close_due(Oid view);

/*
 * weir_close_needs_from returns from when on views that are run at close still need a stream's
 * kept rows; DT_NOEND: there are none. A partition that lags, or a view that is paused, holds it back.
 */
extern TimestampTz weir_close_needs_from(Oid stream);

/*
 * weir_behind_note is told of each delta that is merged into a final view, or an outer join, whose windows or rows were closed by
 * then, and remembers what rows of partitions that lag behind that found closed. weir_behind_lift returns
 * kept rows (frees the delta given) with stream times by which the same rows are late.
 */
extern void weir_behind_note(View *view, Delta *delta, TimestampTz closed);
extern Delta *weir_behind_lift(View *view, Delta *delta);

/* The same row by row, of the joins of streams that ask so: what a kept row, or one of the batch, found closed. */
extern bool weir_behind_asked(View *view);
typedef struct BehindRanges BehindRanges;
extern BehindRanges *weir_behind_read(View *view, Oid stream);
extern bool weir_behind_found(BehindRanges *behind, int32 partition, int64 offset, TimestampTz *closed);
extern void weir_behind_forget(Oid view);	/* inside a catalog scope */
/* A stream's watermark as a view stands there; DT_NOBEGIN: none yet; DT_NOEND: the stream has no rows yet, and is not waited for. */
extern TimestampTz weir_close_mark(View *view, Stream *stream);

/*
 * weir_join_needs_from returns from when on views that join a stream with others, or itself, still need its
 * kept rows; DT_NOEND: there are none. A stream that lags, or a view that is paused, holds it back.
 */
extern TimestampTz weir_join_needs_from(Oid stream);

/*
 * How much later than their end windows of a view close, microseconds: as long as rows behind it may still count, or
 * rows of streams that are joined wait for each other. And of a view that joins streams: the first of its rows
 * that has not closed, DT_NOBEGIN if there is none.
 */
extern int64 weir_close_shift(View *view);
extern TimestampTz weir_join_first_open(View *view);

/* A new or emptied final view: nothing is closed. */
extern void weir_close_begin(View *view);

/*
 * weir_close_prepare: a view over these streams is being made, whose rows can be
 * late if has_lateness. From now on the stream time of INSERTed rows is tracked: brings it, and what
 * the rows kept so far saw as stream time, up to what they would be had it always been. The
 * caller holds ShareLock on the streams.
 */
extern void weir_close_prepare(List *streams, bool has_lateness);

#endif							/* WEIR_CLOSE_H */
