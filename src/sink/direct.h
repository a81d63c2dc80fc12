/*
 * direct.h
 *	  Rows of a query as if they had been inserted into a table: handed to its
 *	  weir.publish and weir.notify triggers, and stored nowhere.
 */
#ifndef WEIR_DIRECT_H
#define WEIR_DIRECT_H

#include "weir.h"

#include "sink/trigger.h"
#include "tcop/dest.h"
#include "utils/rel.h"

/*
 * weir_direct_obstacle tells why INSERTs of a table's first ncolumns columns cannot be
 * replaced by this: something but weir's row triggers wants to see them. NULL: they can. Palloc'd.
 */
extern char *weir_direct_obstacle(Relation rel, int ncolumns);

/*
 * weir_direct_receiver makes a receiver of rows of the table's first columns, for one run of
 * the executor as the table's owner. Constraints and WHEN conditions are heeded. In CurrentMemoryContext.
 */
extern DestReceiver *weir_direct_receiver(Relation rel);

/* notify.c: collects a row as if it had been inserted. Leaves garbage in CurrentMemoryContext. */
extern void weir_notify_row(SinkTrigger *trigger, TupleTableSlot *slot);

#endif							/* WEIR_DIRECT_H */
