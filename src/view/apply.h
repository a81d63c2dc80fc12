/*
 * apply.h
 *	  Running a continuous view's maintenance statement over a delta.
 */
#ifndef WEIR_APPLY_H
#define WEIR_APPLY_H

#include "weir.h"
#include "catalog/view.h"
#include "delta/delta.h"

/*
 * weir_view_apply merges a delta of one of the view's streams into the view,
 * as the view's owner, security restricted, with the settings saved at
 * CREATE. Plans are kept per backend and rebuilt when the view, its streams or
 * weir's catalog change. Returns the number of result rows changed. Raises whatever
 * the statement or a trigger raises. Takes RowExclusive on the view's tables.
 */
extern uint64 weir_view_apply(View *view, Delta *delta);

/*
 * weir_join_take_turns makes this transaction the only one that changes views which join this stream
 * with others. To be called before the stream's own rows are locked, so that a transaction that
 * INSERTs into several of them meets no other half-way.
 */
extern void weir_join_take_turns(Oid stream);

/* The same for the changes of several views that it reads; no two deltas of one view. */
extern uint64 weir_view_apply_changes(View *view, List *deltas);

/* Makes a view over views that change equal its query, touching only rows that differ; returns their number. */
extern uint64 weir_view_apply_all(View *view);

/* Empties the view's tables and brings back what an empty view has (the one row of a global aggregate). */
extern void weir_view_reset(View *view);

#endif							/* WEIR_APPLY_H */
