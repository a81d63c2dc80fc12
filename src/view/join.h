/*
 * join.h
 *	  Joins of streams: shared by join*.c and their callers in src/view.
 *
 * A level of a query that joins streams is set apart as a sub-select of its own (join.c),
 * the join. The definition over whole streams has it as it is; the maintenance
 * statement has in its place what a delta adds to it (join_delta.c).
 */
#ifndef WEIR_JOIN_H
#define WEIR_JOIN_H

#include "catalog/stream.h"
#include "delta/delta.h"
#include "view/shape.h"

/* Microseconds that are no bound. */
#define JOIN_UNBOUNDED	PG_INT64_MAX

/* A place in a join where rows of a stream (or of several, united) come from. */
typedef struct JoinNode
{
	Query	   *query;			/* the sub-select that reads the delta, or the UNION ALL */
	int			item;			/* range table index of the FROM item of the join that holds it */
	List	   *streams;		/* of Oid */
	int64		forward;		/* how much later than its own a row's match may be, microseconds */
	int64		back;			/* how much earlier */
} JoinNode;

/* What the conditions of a join say about the event times of rows that meet in it. */
typedef struct JoinBounds
{
	int			n;
	JoinNode   *nodes;			/* in the order of the range tables, depth first */
	int64	   *upper;			/* [i * n + j]: time of j less time of i is at most this */
	bool		bounded;		/* any two of them */
	JoinType	outer;			/* of an outer join that has streams on both sides; JOIN_INNER: there is none */
	int64		span;			/* bounded: the most that forward and back of a node are together */
} JoinBounds;

/* A join over what a batch changes, or over what closes, and the rows kept around that. */
typedef struct Arm
{
	Oid			view;
	JoinBounds *bounds;			/* of the arm's own tree */
	int			item;			/* the FROM item that is the delta; 0: none alone */
	List	   *sources;		/* of RangeTblEntry: the deltas in it, one per stream */
	bool		closing;		/* the item is what closes, not a delta */
	bool		by_key;			/* an index on the join's columns is better than the one on event time, if there is one */
	int64		reach;			/* rows of all other nodes are at most so far from it, microseconds; 0: as the bounds say */
} Arm;

/* join_bounds.c */
extern JoinBounds *weir_join_bounds(Query *join);
extern int64 weir_join_window_size(RangeTblEntry *rte);
extern int64 weir_interval_longest(const Interval *span);

/* join.c */
extern bool weir_join_isolate(Query *query);
extern bool weir_join_level(Query *query);
extern List *weir_join_items(Query *join);
extern List *weir_join_find(Query *query);
extern List *weir_join_order(Query *level);
extern void weir_join_filter(ViewShape *shape, LateRule *rule);
extern void weir_join_prepare(ViewShape *shape);
extern const char *weir_join_cost(ViewShape *shape);

/* join_late.c */
extern Query *weir_join_late(ViewShape *shape, LateRule *rule, List *joins);
extern Expr *weir_join_found_closed(RangeTblEntry *delta, int rtindex);

/* join_outer.c */
extern void weir_outer_expose(Query *join);
extern void weir_outer_meet_open(Query *join);
extern void weir_outer_pairs(Query *join);
extern bool weir_outer_keeps(Query *join, int item);
extern void weir_outer_unmatched(Query *join, int item);
extern void weir_outer_incomplete(Query *join);
extern void weir_outer_closed(Query *query);
extern Query *weir_outer_statement(ViewShape *shape, Oid result, Oid state);

extern Var *weir_outer_column(Query *join, int item, TargetEntry *column);
extern void weir_outer_present(Query *join, int item, bool present);

/* join_once.c */
extern bool weir_once_wanted(Query *query);
extern void weir_once_check(ViewShape *shape, Query *join);
extern List *weir_once_arms(Query *join, bool after, Oid view);
extern Query *weir_once_statement(ViewShape *shape, Oid result);
extern void weir_once_index(ViewShape *shape, Oid result);

/* join_keep.c */
extern void weir_join_check_kept(View *view);

/* join_delta.c */
extern void weir_join_delta(Query *statement, Oid view);
extern void weir_join_pairs(Query *statement);
extern void weir_join_unmatched(Query *statement, Oid view);
extern void weir_join_after(Query *query, Oid view);
extern void weir_join_before(Query *query, Oid view);
extern void weir_join_touched(Query *statement, Oid view);
extern void weir_arm_begin(Arm *arm, Query *query, int item, Oid view);
extern void weir_arm_replace(Arm *arm, int node, bool with_delta);

/* join_applied.c */
typedef struct JoinApplied JoinApplied;
extern JoinApplied *weir_applied_enter(JoinApplied *now);
extern JoinApplied *weir_applied_begin(Oid view, Delta *delta);

#endif							/* WEIR_JOIN_H */
