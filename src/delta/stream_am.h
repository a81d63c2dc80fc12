/*
 * stream_am.h
 *	  The table access method of streams.
 */
#ifndef WEIR_STREAM_AM_H
#define WEIR_STREAM_AM_H

#include "weir.h"
#include "catalog/stream.h"
#include "delta/delta.h"
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

/* Has the stream INSERT triggers besides weir's own? */
extern bool weir_stream_has_triggers(Relation rel);

/* Fires them for rows from Kafka, as the stream's owner; raises what they raise. */
extern void weir_stream_fire_triggers(Stream *stream, Relation rel, Delta *delta);

#endif							/* WEIR_STREAM_AM_H */
