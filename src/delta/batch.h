/*
 * batch.h
 *	  A batch of messages on its way: shared by ingest.c and refused.c, and by nobody else.
 */
#ifndef WEIR_BATCH_H
#define WEIR_BATCH_H

#include "delta/ingest.h"

/* The delta and which message each of its rows came from. */
typedef struct Batch
{
	Stream	   *stream;
	Relation	rel;			/* the stream's table */
	const WeirMessage *msgs;
	IngestTarget *target;
	IngestResult *result;
	Delta	   *delta;
	int		   *source;			/* message of each delta row */
	List	   *bad;			/* of BadMessage * */
	MemoryContext cxt;			/* the batch's */
} Batch;

/* refused.c */
extern void weir_batch_apply_views(Batch *batch);
extern void weir_batch_fire_triggers(Batch *batch);

#endif							/* WEIR_BATCH_H */
