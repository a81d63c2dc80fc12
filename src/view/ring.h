/*
 * ring.h
 *	  weir.segmented: a view's table as a ring of partitions, so that what weir.keep no longer covers goes as a whole.
 *
 * The table is partitioned BY HASH of the column that weir.keep goes by, with an operator class of weir's
 * (weir.ring_N) that hashes a time to the number of its span of 2^N microseconds. So the partitions, called slots, take spans in turn:
 * with M slots the spans n, n + M, n + 2M ... are one slot's. All are there from the beginning, every row has a place, and
 * nothing is made, attached or dropped while data comes.
 */
#ifndef WEIR_RING_H
#define WEIR_RING_H

#include "weir.h"
#include "datatype/timestamp.h"
#include "nodes/parsenodes.h"
#include "utils/rel.h"
#include "view/shape.h"

typedef struct RingPlan
{
	int			bits;			/* a span is 2^bits microseconds */
	int			nslots;
	int			column;			/* number of the view's column that weir.keep goes by */
} RingPlan;

/* What the options of CREATE ask for; raises 0A000 where a view cannot be segmented. */
extern RingPlan *weir_ring_plan(ViewShape *shape, Interval *keep, List *names, const char *keep_column);

/* The PARTITION BY clause for a table with this column, and the slots; columns: of ColumnDef. */
extern PartitionSpec *weir_ring_spec(RingPlan *ring, List *columns, int column);
extern CreateStmt *weir_ring_slot(RingPlan *ring, Oid table, RangeVar *name, int remainder);

/* Is the table a ring? Its slots, the bits of its spans. */
extern bool weir_ring_is(Oid table);
extern List *weir_ring_slots(Oid table);
extern int	weir_ring_bits(Oid table);

/* The last time of the span that a time is in. */
extern TimestampTz weir_ring_span_end(TimestampTz time, int bits);

#endif							/* WEIR_RING_H */
