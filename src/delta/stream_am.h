/*
 * stream_am.h
 *	  The table access method of streams.
 */
#ifndef WEIR_STREAM_AM_H
#define WEIR_STREAM_AM_H

#include "weir.h"
#include "utils/rel.h"

/*
 * Arrival numbers of INSERTed rows (hidden column __weir_offset) come from the
 * sequence weir.arrival, in blocks: a row inserted after a lock that waited for
 * all writers has a number >= (last_value + 1) << 20.
 */
#define WEIR_ARRIVAL_BLOCK_BITS 20

/*
 * weir_stream_hide_indexes makes this backend believe, until called with
 * false, that a stream has no indexes (true), as COPY must. Returns whether it has any.
 */
extern bool weir_stream_hide_indexes(Relation rel, bool hide);

#endif							/* WEIR_STREAM_AM_H */
