/*
 * delta.h
 *	  A batch of new rows of one stream: the unit of everything behind it.
 */
#ifndef WEIR_DELTA_H
#define WEIR_DELTA_H

#include "weir.h"
#include "access/tupdesc.h"
#include "funcapi.h"
#include "catalog/stream.h"
#include "nodes/plannodes.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/queryenvironment.h"
#include "utils/tuplestore.h"

/* Names of ephemeral relations, with the stream's OID behind them; none of a user's may begin so. */
#define WEIR_DELTA_PREFIX	"weir_delta_"
#define WEIR_BATCH_PREFIX	"weir_batch_"	/* the whole batch that a delta is part of */

#define WEIR_DELTA_MAGIC	0x57454952

typedef struct DeltaBlock DeltaBlock;

typedef struct Delta
{
	uint32		magic;			/* WEIR_DELTA_MAGIC: what an ephemeral relation of weir's points to */
	Oid			stream;
	TupleDesc	desc;			/* live declared columns in attnum order, then the hidden ones */
	int			ndeclared;		/* so hidden columns start at index ndeclared */
	int64		nrows;
	MemoryContext cxt;
	DeltaBlock *first;			/* rows in memory, in order */
	DeltaBlock *last;
	Size		row_size;		/* of a row's values and null flags */
	int			nbyref;			/* columns whose values are not in the row itself */
	int		   *byref;
	Size		bytes;			/* of all blocks */
	Size		limit;
	ResourceOwner owner;		/* of the file that they go to; NULL: the subtransaction at hand */
	Tuplestorestate *spilled;	/* rows that did not fit, behind those in memory; NULL: none */
	TimestampTz stream_time;	/* highest event time in it; DT_NOBEGIN if empty */
	TimestampTz least_seen;		/* lowest stream time that a row of it saw; DT_NOEND if empty */
	bool		partly_kept;	/* rows older than kept_from were too old to be kept */
	TimestampTz kept_from;
	TimestampTz whole_since;	/* partly_kept: what weir_segments_whole_since said before */
	struct Delta *batch;		/* the whole batch, if this is a part of it */
	struct Delta *done;			/* and what of it the view has taken in before, or NULL */
} Delta;

/* Name under which a stream's delta is registered with SPI: "weir_delta_<oid>"; palloc'd. */
extern char *weir_delta_name(Oid stream);

/* Descriptor of a delta of this relation (live declared columns, then hidden), palloc'd. */
extern TupleDesc weir_delta_desc(Relation rel);

/* Place of a live column of the table in its deltas; -1 for attnum 0 (none). */
extern int	weir_delta_column(Relation rel, AttrNumber attnum);

/* An empty delta in CurrentMemoryContext; rows that need more than kilobytes go to a temporary file. */
extern Delta *weir_delta_create(Relation rel, int kilobytes);
/* values/isnull: desc->natts of them, hidden columns included; copied. */
extern void weir_delta_put(Delta *delta, Datum *values, bool *isnull);

/*
 * Puts what a query gives, the delta's columns in their order, under the latest snapshot. SPI is connected.
 * number: rows get offsets from the delta's number of rows on. source: for the error.
 */
extern void weir_delta_put_query(Delta *delta, const char *sql, bool number, const char *source);
extern void weir_delta_free(Delta *delta);

/* Reads a delta's rows in order; as many cursors as one likes. */
typedef struct DeltaCursor
{
	Delta	   *delta;
	DeltaBlock *block;
	int			row;			/* next one in block */
	MemoryContext cxt;
	int			pointer;		/* of delta->spilled */
	TupleTableSlot *slot;		/* of spilled rows */
} DeltaCursor;

/* What the cursor needs lives in CurrentMemoryContext; the delta must be complete. */
extern void weir_delta_open(DeltaCursor *cursor, Delta *delta);
extern void weir_delta_rewind(DeltaCursor *cursor);
extern void weir_delta_skip(DeltaCursor *cursor, int64 nrows);
extern void weir_delta_close(DeltaCursor *cursor);

/* weir_delta_next gives the next row, valid until the next call, and if weir_delta_in_memory as long as the delta. */
extern bool weir_delta_next(DeltaCursor *cursor, Datum **values, bool **isnull);
extern bool weir_delta_in_memory(const Delta *delta);

/* scan.c: the delta as a relation of that name in a query; the delta of such a relation. */
extern EphemeralNamedRelation weir_delta_relation(char *name, Delta *delta);
extern Delta *weir_delta_find(QueryEnvironment *env, const char *name);
extern bool weir_is_delta_scan(CustomScan *scan);	/* its custom_private begins with the relation's name */

#endif							/* WEIR_DELTA_H */
