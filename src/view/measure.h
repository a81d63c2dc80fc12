/*
 * measure.h
 *	  weir.explain(view, live => true): figures of a view's next batch.
 */
#ifndef WEIR_MEASURE_H
#define WEIR_MEASURE_H

#include "view/shape.h"
#include "executor/execdesc.h"

/* What one batch has cost so far; in the memory of the batch. */
typedef struct Measure Measure;

/* Who maintains the view. All but enter and leave do nothing unless a batch of a view that somebody asked about is at hand. */
extern Measure *weir_measure_enter(View *view, int64 nrows);	/* returns the batch around this one, for leave */
extern void weir_measure_leave(Measure *outer, bool well);
extern void weir_measure_part(const char *name, bool is_main);	/* what runs next */
extern int	weir_measure_options(void);	/* for CreateQueryDesc */
extern void weir_measure_plan(QueryDesc *desc);	/* run and finished, not yet ended */

/* Who asks: waits for the next batch of the view and returns what it cost, as lines. */
extern char *weir_measure_ask(View *view);

#endif							/* WEIR_MEASURE_H */
