/*
 * options.h
 *	  The weir.* options of streams and views: one table drives parsing, checks and messages.
 */
#ifndef WEIR_OPTIONS_H
#define WEIR_OPTIONS_H

#include "weir.h"
#include "utils/timestamp.h"

/* Options of CREATE TABLE ... WITH (weir.*), checked; what stands in weir.stream_def. */
typedef struct StreamOptions
{
	char	   *server;			/* NULL: none */
	List	   *topics;			/* of char * */
	bool		stream;			/* weir.stream: fed by INSERT */
	char	   *format;
	char	   *mode;
	char	   *start;
	char	   *event_time;		/* NULL: the message's timestamp */
	char	   *time_unit;
	Interval   *lateness;		/* NULL: none given */
	Interval   *idle_timeout;	/* NULL: off */
	Interval   *max_clock_skew; /* NULL: off */
	char	   *late;
	Interval   *keep;
	char	   *isolation;
} StreamOptions;

/* Options of CREATE MATERIALIZED VIEW ... WITH (weir.continuous, ...), checked. */
typedef struct WeirViewOptions
{
	bool		continuous;
	char	   *emit;			/* 'changes' (default) | 'final' */
	Interval   *lateness;		/* NULL: not given */
	Interval   *keep;			/* NULL: for ever */
	char	   *start;			/* NULL: not given */
	char	   *unmatched;		/* 'at close' (default) | 'at once' */
	bool		segmented;		/* the table is a ring of partitions (view/ring.h) */
} WeirViewOptions;

/* Takes DefElems with namespace "weir" out of *options and returns them. */
extern List *weir_options_extract(List **options);

/*
 * Set the fields that defs (DefElems of namespace weir) name; a DefElem
 * without value (RESET) sets the default. Raise 22023 for a bad value, 42704 with the nearest name
 * as hint for an unknown option. The structs must hold defaults or present values before.
 */
extern void weir_options_stream_defaults(StreamOptions *options);
extern void weir_options_parse_stream(List *defs, bool reset, StreamOptions *options);
extern void weir_options_view_defaults(WeirViewOptions *options);
extern void weir_options_parse_view(List *defs, bool reset, WeirViewOptions *options);

/* Checks that concern several options at once and the table's columns (relation may be InvalidOid). */
extern void weir_options_check_stream(StreamOptions *options, Oid relid);

#endif							/* WEIR_OPTIONS_H */
