/*
 * collect.h
 *	  Changes of a transaction, gathered until it commits.
 */
#ifndef WEIR_COLLECT_H
#define WEIR_COLLECT_H

#include "weir.h"

#include "sink/record.h"

/* Where a change goes to. */
typedef struct CollectTarget
{
	Oid			trigger;		/* weir.notify: its trigger; weir.publish, weir.produce: InvalidOid */
	int64		sink;			/* weir.sink.id; 0: weir.notify */
	bool		last;			/* only the last state per key */
	Oid			view;			/* weir.notify: continuous view whose batch is counted, or InvalidOid */
	bool		per_batch;		/* weir.notify: one notice per channel, whatever changed */
	const char *relation_name;	/* weir.notify */
} CollectTarget;

/* Adds a change; what belongs to a subtransaction that aborts is dropped again. */
extern void weir_collect(const CollectTarget *target, const Record *record);

/* Records of one buffer, in order, as handed to its writer. */
typedef struct CollectRun
{
	const CollectTarget *target;
	const char *data;			/* chunk */
	const uint32 *offsets;		/* of the records in it */
	int			n;
	bool		overflow;		/* weir.notify: there were more keys than fit */
} CollectRun;

/* collect.c hands runs to these. */
extern void weir_outbox_write(const CollectRun *run, int64 block);	/* outbox.c */
extern int64 weir_outbox_block(void);		/* outbox.c: numbers for a run, later runs get higher ones */
extern void weir_notify_send(List *runs);	/* notify.c: List of CollectRun *, all of a transaction */

extern void weir_collect_init(void);

#endif							/* WEIR_COLLECT_H */
