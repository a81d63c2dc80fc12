/*
 * outbox.h
 *	  The tables in which changes wait until Kafka has them.
 */
#ifndef WEIR_OUTBOX_H
#define WEIR_OUTBOX_H

#include "weir.h"

/* Number of tables weir.outbox_0 .. that are filled and emptied in turn. */
#define WEIR_OUTBOX_SEGMENTS 8

/*
 * weir_outbox_reclaim empties the segments in which everything is
 * acknowledged (weir.sink_progress) and begins a new one when the present one is large
 * enough; publisher only, in a transaction of its own. True: something is left that could be emptied later.
 */
extern bool weir_outbox_reclaim(void);

extern void weir_outbox_init(void);

#endif							/* WEIR_OUTBOX_H */
