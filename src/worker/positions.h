/*
 * positions.h
 *	  The exactly-once file: positions in PostgreSQL, changed in the batch's transaction.
 */
#ifndef WEIR_POSITIONS_H
#define WEIR_POSITIONS_H

#include "weir.h"

/* A row of weir.position. */
typedef struct SavedPosition
{
	char	   *topic;
	int32		partition;
	int64		next_offset;
	int64		last_offset;	/* the last message seen; -1: none */
	int64		fingerprint;	/* of that message */
	TimestampTz stream_time;	/* DT_NOBEGIN: none */
} SavedPosition;

/* A row of weir.view_position: a view continues here. */
typedef struct DetachedView
{
	Oid			view;
	char	   *topic;
	int32		partition;
	int64		next_offset;	/* -2: the beginning of the partition */
	TimestampTz stream_time;	/* of the partition at that offset; DT_NOBEGIN: unknown */
	int64		start;			/* where this replay began; -1: not opened yet */
} DetachedView;

/* Detaches a view from its stream at this position: it is no longer applied there, and
 * catches up from next_offset once it runs again. Keeps an older position if there is one. */
extern void weir_position_detach_view(Oid view, Oid stream, const char *topic,
									  int32 partition, int64 next_offset);

/* Detaches a view from the INSERTs into a stream, if that keeps rows: they wait among these (control.c). */
/*
 * weir_position_skip_missed: a view that does not follow its streams was built afresh from all that they hold;
 * where it goes on is where they stand now. The caller holds ShareLock on them.
 */
extern void weir_position_skip_missed(Oid view);
extern void weir_position_detach_inserts(Oid view, Oid stream);

/*
 * All below: inside a transaction; own catalog scope; results in the caller's
 * memory context.
 */

/* Positions of a stream's topics, List of SavedPosition*, INSERT's pseudo-partition left out. */
extern List *weir_positions_load(Oid stream);

/* Adds a position unless there is one. */
extern void weir_position_init(Oid stream, const char *topic, int32 partition, int64 next_offset);

/*
 * weir_positions_lock locks the rows of these partitions (topic, partition)
 * until the end of the transaction and returns true if every next_offset is
 * as given: nobody moved them.
 */
extern bool weir_positions_lock(Oid stream, SavedPosition *positions, int n);

/* Writes the rows; they must have been locked before. */
extern void weir_positions_save(Oid stream, SavedPosition *positions, int n);

/* The detached views of a stream, List of DetachedView*, INSERT's pseudo-partition left out. */
extern List *weir_positions_detached(Oid stream);

/*
 * weir_position_move_view moves a detached view on to where it is now, or
 * with attach makes it follow its stream again. Raises unless the row is still where detached says.
 */
extern void weir_position_move_view(Oid stream, const DetachedView *detached, int64 next_offset,
									TimestampTz stream_time, bool attach);

/* Is there a marker that says: kept rows of this stream are whole? And put it there. */
extern bool weir_marker_there(Oid stream);
extern void weir_marker_put(Oid stream);

/* A time as Kafka tells it: milliseconds since 1970. */
static inline int64
weir_epoch_ms(TimestampTz t)
{
	return t / 1000 + ((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE)) * SECS_PER_DAY * 1000;
}

#endif							/* WEIR_POSITIONS_H */
