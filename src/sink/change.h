/*
 * change.h
 *	  What weir.publish and weir.notify have in common as trigger functions.
 */
#ifndef WEIR_CHANGE_H
#define WEIR_CHANGE_H

#include "weir.h"

#include "fmgr.h"
#include "sink/record.h"
#include "sink/trigger.h"

/* Takes one change; old is NULL for INSERT (and may be for UPDATE), new for DELETE. */
typedef void (*ChangeSink) (SinkTrigger *trigger, RecordOp op,
							TupleTableSlot *old, TupleTableSlot *new);

/* The body of a trigger function, for rows and for statements; calls sink in a short-lived context. */
extern Datum weir_change_trigger(FunctionCallInfo fcinfo, bool notify, ChangeSink sink);

/* Have both rows the same key? True if old is NULL. */
extern bool weir_change_same_key(SinkTrigger *trigger, TupleTableSlot *old, TupleTableSlot *new);

#endif							/* WEIR_CHANGE_H */
