/*
 * define.h
 *	  CREATE MATERIALIZED VIEW ... WITH (weir.continuous), and its end.
 */
#ifndef WEIR_DEFINE_H
#define WEIR_DEFINE_H

#include "weir.h"
#include "catalog/objectaddress.h"
#include "catalog/options.h"
#include "nodes/parsenodes.h"
#include "tcop/cmdtag.h"
#include "catalog/view.h"

/*
 * weir_view_create does all of CREATE MATERIALIZED VIEW for a continuous view:
 * checks the query (0A000 with a hint for what cannot be kept), creates the result table, its
 * unique key, weir.query_N, weir.state_N if needed, the weir.view_def row, and fills the
 * view from the kept rows unless WITH NO DATA. stmt->query is the analysed Query (into->options without
 * weir.* any more). shown_name: the view's name in messages, or NULL: its own. Holds ShareLock on every stream until commit, so nothing arrives meanwhile.
 */
extern ObjectAddress weir_view_create(CreateTableAsStmt *stmt, WeirViewOptions *options,
									  const char *shown_name, QueryCompletion *qc);

/* REFRESH MATERIALIZED VIEW: rebuild from the kept rows. */
extern void weir_view_refresh(View *view, bool skip_data);

/* WITH DATA and REFRESH from the table of an append view below (fill_below.c); false: that would not be the same. */
extern bool weir_fill_below(View *view, bool only_tell, uint64 *rows);

/* Of a join of streams: rows from a time in one of its columns on (refresh_join.c). */
extern void weir_refresh_join(View *view, int column, TimestampTz since);

/* ALTER ... SET/RESET (weir.lateness, weir.keep): defs are DefElems, checked by options.c. */
extern void weir_view_alter(View *view, List *defs, bool reset);

/* After any other ALTER TABLE of a view's table: owner, columns and the like. */
extern void weir_view_after_alter(View *view, AlterTableStmt *stmt);

/* After ALTER TABLE of a stream: raises 0A000 if a view that computes from its kept rows cannot any more. */
extern void weir_view_check_stream(Oid stream);

#endif							/* WEIR_DEFINE_H */
