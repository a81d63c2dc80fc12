/*
 * stream_am.h
 *	  The table access method of streams.
 */
#ifndef WEIR_STREAM_AM_H
#define WEIR_STREAM_AM_H

#include "weir.h"

/*
 * Arrival numbers of INSERTed rows (hidden column __weir_offset) come from the
 * sequence weir.arrival, in blocks: a row inserted after a lock that waited for
 * all writers has a number >= (last_value + 1) << 20.
 */
#define WEIR_ARRIVAL_BLOCK_BITS 20

#endif							/* WEIR_STREAM_AM_H */
