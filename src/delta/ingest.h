/*
 * ingest.h
 *	  From decoded rows to kept rows and views: the middle of a batch's transaction.
 */
#ifndef WEIR_INGEST_H
#define WEIR_INGEST_H

#include "weir.h"
#include "catalog/stream.h"
#include "decode/message.h"
#include "delta/delta.h"

/* A partition's part of a batch. */
typedef struct BatchPartition
{
	const char *topic;
	int32		partition;
	int32		number;			/* weir_ingest_messages sets it: what the rows know topic and partition by */
	int64		first_offset;	/* position before the batch: next offset to read then */
	TimestampTz stream_time;	/* in: before the batch (DT_NOBEGIN if none); out: after it */
	int64		bad;			/* out: dead letters of the decode step, of this partition */
} BatchPartition;

typedef struct IngestTarget
{
	bool		keep_rows;		/* write kept rows? */
	bool		again;			/* read before (a view catches up, kept rows are fetched anew):
								 * messages that cannot be decoded have their dead letter already, leave them out silently */
	List	   *views;			/* OIDs of the views to apply, ascending */
	BatchPartition *partitions; /* every (topic, partition) that occurs in the messages */
	int			npartitions;
} IngestTarget;

typedef struct IngestResult
{
	int64		rows;			/* rows that reached the delta */
	int64		bad;			/* dead letters of the decode step */
	int64		skipped;		/* null values */
	int64		bytes;			/* of values and keys */
} IngestResult;

/*
 * weir_ingest_messages runs inside the batch's transaction, with RowExclusive
 * on the stream held: decodes (bad messages become dead letters), keeps the
 * rows, applies the views, each in a subtransaction. A view that fails is
 * bisected to its bad rows, or set to failed and detached from its stream at
 * the partitions' first_offset (weir.view_position). Errors that are not of
 * a row or a view are raised: abort and try the batch again. msgs may hold several
 * partitions, each in offset order. May be called again with the same
 * messages after an abort (stream_time of the partitions must be reset by the caller).
 */
extern void weir_ingest_messages(Stream *stream, const WeirMessage *msgs, int nmsgs,
								 IngestTarget *target, IngestResult *result);

/*
 * weir_ingest_check_event_time raises 22008 for an event time that is
 * infinite or ahead of the clock by more than weir.max_clock_skew.
 */
extern void weir_ingest_check_event_time(Stream *stream, TimestampTz event_time);

/* Applies views to rows that were INSERTed; any error is the user's. */
extern void weir_ingest_inserted(Stream *stream, Delta *delta);

/*
 * weir_try runs body in a subtransaction. Returns NULL, or what it raised, rolled back, in the
 * context that was current; raises on the errors that are nobody's fault here.
 */
extern ErrorData *weir_try(void (*body) (void *arg), void *arg);

/* Does the reader have to fill WeirMessage.headers for this stream? */
extern bool weir_ingest_wants_headers(Stream *stream);

#endif							/* WEIR_INGEST_H */
