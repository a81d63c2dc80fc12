/*
 * kept.c
 *	  What is kept of the stream that a batch belongs to, for the statement that runs.
 *
 * apply ⇒ kept. Statements that read kept rows (touched.c) ask by two SQL functions:
 * which rows of the batch are not among them, and from when on they are
 * whole. The answers are those of the delta at hand: apply.c says which that is. Outside
 * of a view's maintenance all rows are kept, as far as weir.kept says.
 */
#include "postgres.h"

#include "catalog/stream.h"
#include "delta/delta.h"
#include "delta/segments.h"
#include "fmgr.h"
#include "utils/timestamp.h"
#include "view/recompute.h"
#include "view/shape.h"
#include "view/upstream.h"

PG_FUNCTION_INFO_V1(weir_kept_from);
PG_FUNCTION_INFO_V1(weir_complete_from);

static Delta *current_delta = NULL;

/* weir_kept_enter makes a delta the one that is asked about, and returns the last one, to be put back. */
Delta *
weir_kept_enter(Delta *delta)
{
	Delta	   *last = current_delta;

	current_delta = delta;
	return last;
}

/* weir.kept_from(stream): rows of the batch with an event time before this are not among the kept rows */
Datum
weir_kept_from(PG_FUNCTION_ARGS)
{
	Oid			stream = PG_GETARG_OID(0);

	if (current_delta && current_delta->stream == stream && current_delta->partly_kept)
		PG_RETURN_TIMESTAMPTZ(current_delta->kept_from);
	PG_RETURN_TIMESTAMPTZ(DT_NOBEGIN);
}

/* weir.complete_from(stream): with those of the batch, kept rows are whole from this event time on */
Datum
weir_complete_from(PG_FUNCTION_ARGS)
{
	Oid			stream = PG_GETARG_OID(0);

	if (current_delta && current_delta->stream == stream && current_delta->partly_kept)
		PG_RETURN_TIMESTAMPTZ(current_delta->whole_since);
	PG_RETURN_TIMESTAMPTZ(weir_segments_whole_since(weir_source_require(stream)));
}
