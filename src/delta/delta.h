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
#include "utils/rel.h"
#include "utils/tuplestore.h"

typedef struct Delta
{
	Oid			stream;
	TupleDesc	desc;			/* live declared columns in attnum order, then the hidden ones */
	int			ndeclared;		/* so hidden columns start at index ndeclared */
	Tuplestorestate *rows;
	int64		nrows;
	TimestampTz stream_time;	/* highest event time in it; DT_NOBEGIN if empty */
	bool		partly_kept;	/* rows older than kept_from were too old to be kept */
	TimestampTz kept_from;
	TimestampTz whole_since;	/* partly_kept: what weir_segments_whole_since said before */
	struct Delta *batch;		/* the whole batch, if this is a part of it */
} Delta;

/* Name under which a stream's delta is registered with SPI: "weir_delta_<oid>"; palloc'd. */
extern char *weir_delta_name(Oid stream);

/* Descriptor of a delta of this relation (live declared columns, then hidden), palloc'd. */
extern TupleDesc weir_delta_desc(Relation rel);

/* Place of a live column of the table in its deltas; -1 for attnum 0 (none). */
extern int	weir_delta_column(Relation rel, AttrNumber attnum);

/* An empty delta in CurrentMemoryContext; its tuplestore may use kilobytes before it spills. */
extern Delta *weir_delta_create(Relation rel, int kilobytes);
/* values/isnull: desc->natts of them, hidden columns included. */
extern void weir_delta_put(Delta *delta, Datum *values, bool *isnull);
extern void weir_delta_free(Delta *delta);

#endif							/* WEIR_DELTA_H */
