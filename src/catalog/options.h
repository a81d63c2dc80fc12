/*
 * options.h
 *	  The weir.* options of streams and views: one table drives parsing, checks and messages.
 */
#ifndef WEIR_OPTIONS_H
#define WEIR_OPTIONS_H

#include "weir.h"
#include "utils/timestamp.h"

/* Options of CREATE MATERIALIZED VIEW ... WITH (weir.continuous, ...), checked. */
typedef struct ViewOptions
{
	char	   *emit;			/* 'changes' (default) | 'final' */
	Interval   *lateness;		/* NULL: not given */
	Interval   *keep;			/* NULL: for ever */
	char	   *start;			/* NULL: not given */
	char	   *unmatched;		/* 'at close' (default) | 'at once' */
} ViewOptions;

/* Takes DefElems with namespace "weir" out of *options and returns them. */
extern List *weir_options_extract(List **options);

/* Checks and parses view options; raises 22023 / 42601 with the nearest name as hint. */
extern void weir_options_parse_view(List *defs, ViewOptions *options);

#endif							/* WEIR_OPTIONS_H */
