/*
 * publisher_internal.h
 *	  What publisher.c and pending.c share.
 */
#ifndef WEIR_PUBLISHER_INTERNAL_H
#define WEIR_PUBLISHER_INTERNAL_H

#include "weir.h"

#include "sink/sender.h"

/* One chunk of the batch that is being sent. */
typedef struct SentChunk
{
	int64		seq;
	int			records;
} SentChunk;

/* A sink as the publisher serves it. Lives in its own context. */
typedef struct Sink
{
	MemoryContext cxt;
	MemoryContext def_cxt;		/* definition */
	int64		id;
	char	   *name;
	char	   *topic;			/* NULL: every record names one */
	char	   *source;			/* all that makes a new sender necessary, as text */
	List	   *options;		/* of KafkaOption *; secrets inside */
	bool		exactly_once;
	bool		paused;
	bool		seen;
	bool		restart;		/* its sender must go: the definition is another one */
	char	   *problem;		/* why it cannot be served at all, or NULL */

	Sender	   *sender;			/* NULL: nothing was waiting yet */
	SenderReport report;		/* its last one */
	bool		opened;			/* it has told where to go on, and that is where at is */
	bool		any;			/* weir_pending_any's answer */
	bool		dirty;			/* the outbox may have something new */
	TimestampTz retry_at;		/* 0: at once */

	/* what is sent; the rows of a round are those that target sees and done does not */
	SinkProgress at;
	int64		max_seq;		/* of all rows that done sees, as far as known */
	int64		hint;

	/* the batch under way */
	SenderBatch *batch;			/* fetched, not handed over yet */
	SinkProgress after;			/* where it leads to */
	MemoryContext batch_cxt;
	SentChunk  *chunks;
	int			nchunks;
	int64		nrecords;
	int64		nbytes;

	int64		retries;		/* not written down yet */
	char		told[SENDER_TEXT];	/* error last written down */
} Sink;

/* pending.c; all in a transaction with a snapshot. */

/* Does anything wait, as far as PostgreSQL knows? */
extern bool weir_pending_any(Sink *sink);

/* Where the sink goes on: Kafka's progress if it is to be trusted, else what PostgreSQL has acknowledged. */
extern void weir_pending_resume(Sink *sink);

/* Fills sink->batch with what comes next; false: nothing is waiting. */
extern bool weir_pending_fetch(Sink *sink);

/* The batch is in Kafka. */
extern void weir_pending_acknowledge(Sink *sink);

/* Writes an error (or NULL) down; refused: also pauses the sink. */
extern void weir_pending_error(Sink *sink, const char *error, bool refused, int bad_record);

/* Deletes sinks whose trigger is gone and of which nothing waits. */
extern void weir_pending_sweep(void);

#endif							/* WEIR_PUBLISHER_INTERNAL_H */
