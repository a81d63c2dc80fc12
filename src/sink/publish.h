/*
 * publish.h
 *	  Publishing a row outside of its trigger.
 */
#ifndef WEIR_PUBLISH_H
#define WEIR_PUBLISH_H

#include "weir.h"

#include "sink/trigger.h"

/* Collects a row as if it had been inserted. Leaves garbage in CurrentMemoryContext. */
extern void weir_publish_row(SinkTrigger *trigger, TupleTableSlot *slot);

#endif							/* WEIR_PUBLISH_H */
