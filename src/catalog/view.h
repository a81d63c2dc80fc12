/*
 * view.h
 *	  A continuous view as weir.view_def describes it.
 */
#ifndef WEIR_VIEW_H
#define WEIR_VIEW_H

#include "weir.h"
#include "catalog/pg_class.h"
#include "utils/timestamp.h"

typedef enum ViewStatus
{
	VIEW_RUNNING,
	VIEW_PAUSED,
	VIEW_FAILED
} ViewStatus;

typedef struct View
{
	Oid			relid;			/* the result table, the user's */
	Oid			query_relid;	/* weir.query_N: an ordinary view that holds the definition */
	Oid			state_relid;	/* weir.state_N: transition states, or InvalidOid */
	Oid			values_relid;	/* weir.values_N: values of DISTINCT aggregates, or rows of sessions for aggregates; or InvalidOid */
	Oid			owner;
	char	   *name;			/* qualified, quoted */
	List	   *streams;		/* of Oid, ascending: streams that it reads itself */
	List	   *upstreams;		/* of Oid, ascending: views that it reads and whose changes it follows */
	char	   *emit;			/* 'changes' | 'final' */
	char	   *strategy;		/* 'append' | 'combine' | 'recompute' | 'at close' */
	Interval   *lateness;		/* NULL: the stream's */
	Interval   *keep;			/* NULL: for ever */
	char	   *keep_column;	/* the column that weir.keep goes by, or NULL */
	char	   *settings[4];	/* search_path, TimeZone, DateStyle, IntervalStyle at CREATE */
	bool		joins;			/* joins streams (view/join.c) */
	bool		instants;		/* final without windows (view/instant.c) */
	bool		closes;			/* with an outer join: rows without a match come at a close */
	int64		close_shift;	/* how much later than their end its windows close, or than their time rows of a join, microseconds */
	int64		join_reach;		/* how far behind the watermark, less lateness, their kept rows are needed, microseconds; -1: no bound */
	bool		at_once;		/* weir.unmatched = 'at once' */
	List	   *detached_inserts;	/* of Oid: streams whose INSERTed rows the view does not follow now */
	Oid			replaces;		/* weir.replace: the view whose place it will take, or InvalidOid */
	bool		from_topic;		/* made with weir.start = 'earliest' */
	ViewStatus	status;
	char	   *error;
} View;

extern const char *const weir_view_setting_names[4];

/* May a relation of this kind be a continuous view? It is partitioned with weir.segmented. */
static inline bool
weir_view_relkind(char relkind)
{
	return relkind == RELKIND_RELATION || relkind == RELKIND_PARTITIONED_TABLE;
}

/* As weir_stream_get / weir_stream_require. */
extern View *weir_view_get(Oid relid);
extern View *weir_view_require(Oid relid);

/*
 * weir_view_lock takes RowExclusiveLock on the result table until the end of the
 * transaction; waits for a DROP that holds it, and returns NULL if the view is gone then.
 */
extern View *weir_view_lock(Oid relid);

/* Views that read a stream (or a view) themselves, as List of Oid in ascending order (the order of locks). */
extern List *weir_view_oids_of_stream(Oid stream);
extern List *weir_view_oids_above(Oid view);
extern List *weir_view_oids_over(Oid stream);	/* and through other views */

/* How many views lie between a view and its streams; the streams themselves, ascending. */
extern int	weir_view_depth(View *view);
extern List *weir_view_base_streams(View *view);
extern List *weir_view_oids(void);

extern void weir_view_set_status(Oid relid, ViewStatus status, const char *error);

#endif							/* WEIR_VIEW_H */
