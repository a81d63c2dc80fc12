/*
 * positions.h
 *	  The exactly-once file: positions in PostgreSQL, changed in the batch's transaction.
 */
#ifndef WEIR_POSITIONS_H
#define WEIR_POSITIONS_H

#include "weir.h"

/* Detaches a view from its stream at this position: it is no longer applied there, and
 * catches up from next_offset once it runs again. Keeps an older position if there is one. */
extern void weir_position_detach_view(Oid view, Oid stream, const char *topic,
									  int32 partition, int64 next_offset);

#endif							/* WEIR_POSITIONS_H */
