/*
 * upstream.h
 *	  Continuous views in FROM of continuous views: what they are as a source.
 *
 * An append view is no source of its own: it stands for its query, as an ordinary view
 * does (rewrite.c). A final view is a stream: its rows are inserted once. Any
 * other view changes; what reads it is computed anew from its table.
 */
#ifndef WEIR_UPSTREAM_H
#define WEIR_UPSTREAM_H

#include "weir.h"
#include "catalog/stream.h"
#include "catalog/view.h"
#include "delta/delta.h"
#include "view/shape.h"

/* upstream.c: a stream, or a view dressed up as one (logged, fed by nobody, its table are its kept rows); NULL: neither. */
extern Stream *weir_source_get(Oid relid);
extern Stream *weir_source_require(Oid relid);

/* Is the view computed from the tables of views that change? */
extern bool weir_view_over_tables(View *view);

/* Does the view stand for its query where it is read? Not a join of streams: its pairs are what met when they came. */
extern bool weir_view_is_inlined(View *view);

/*
 * While a statement is made that fills a view from such a view's table (fill_below.c) that stands for its
 * rows, as a final view does. InvalidOid: none. To be put back, after an error too.
 */
extern void weir_upstream_as_rows(Oid view);
extern bool weir_upstream_is_rows(Oid view);

/* Do rows of a source change or go (other than by retention)? Of streams and final views they do not. */
extern bool weir_source_changes(Oid relid);

/* Is this column of a view, by name, its rows' event time for what reads it? */
extern bool weir_upstream_is_event_time(Oid view, const char *column);

/* Up to which event time all rows of an upstream view are there, as a final view above it counts them. */
extern TimestampTz weir_upstream_watermark(View *view, Oid upstream);

/* Is a column of a view never NULL? */
extern bool weir_upstream_never_null(Oid view, AttrNumber attno);

/* Number of the column that rows of an upstream go by, 0: none; later: the later one of two. */
extern AttrNumber weir_upstream_time_column(Oid view, bool later);

/* Rows of a source that it holds now, as a delta. qual: SQL over the hidden columns of a stream, or NULL. */
extern Delta *weir_source_read(Oid relid, const char *qual);

/* Its rows' event time (the later one of two) as SQL over its columns. */
extern char *weir_upstream_time(Oid view, bool later, const char *alias);

/* SELECT of a view's table with the columns of a delta of it; search_path is pinned. */
extern char *weir_upstream_select(Oid view);

/* SQL over the hidden columns for the rows of a final view that come from now on; NULL: all; "?": they cannot be told. */
extern char *weir_upstream_since(Oid view);

/* Rows that a view missed while it did not run. */
extern Delta *weir_upstream_missed(View *view, Oid upstream);

/* SQL for WHERE of the rows of a final view whose event time is between two times; NULL: it shows no time. */
extern char *weir_upstream_between(Oid view, TimestampTz from, TimestampTz until);

/* Highest event time among a view's rows; DT_NOBEGIN: there are none, or it shows no time. */
extern TimestampTz weir_upstream_newest(Oid view);

/* weir_upstream_oldest: the earliest time of its rows that are not before a time; DT_NOEND: there are none. */
extern TimestampTz weir_upstream_oldest(Oid view, TimestampTz from);

/* tables.c: queries over views that change */
extern bool weir_tables_needed(Query *query, List *sources);
extern void weir_tables_analyse(ViewShape *shape);
extern void weir_tables_announce(ViewShape *shape);
extern void weir_tables_announce_beside(ViewShape *shape);
extern bool weir_tables_linear(Query *query);
extern List *weir_unique_columns(Oid view);

/* capture.c: what a view's own statements change in it, for the views above */
typedef struct Capture
{
	Oid			view;
	SubTransactionId subid;
	Delta	   *rows;			/* came (and, of a view that changes, went); NULL: only its windows closed */
	List	   *done;			/* of Oid: views that have it already */
	int			users;			/* that work with it now */
} Capture;

extern void weir_capture_watch(Oid view);
extern void weir_capture_closed(Oid view);
extern List *weir_captures(void);
extern void weir_capture_forget(Capture *capture);
extern void weir_capture_skip(Oid view);

/* cascade.c */
extern void weir_cascade_run(bool guarded);
extern void weir_cascade_resume(View *view);
extern void weir_cascade_reset(View *view);

#endif							/* WEIR_UPSTREAM_H */
