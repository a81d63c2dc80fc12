/*
 * recompute.h
 *	  Views whose touched keys are computed anew: shared by recompute*.c and their callers in src/view.
 */
#ifndef WEIR_RECOMPUTE_H
#define WEIR_RECOMPUTE_H

#include "delta/delta.h"
#include "view/shape.h"

/* Names inside the statement, besides those of shape.h. */
#define WEIR_TOUCHED	"weir_touched"	/* keys that the delta touches */
#define WEIR_KEYS		"weir_keys"		/* placeholder: keys of each row of the delta */
#define WEIR_NEW		"weir_new"		/* result rows of these keys, computed anew */
#define WEIR_ROWS		"weir_rows"		/* placeholder: the definition over the kept rows */
#define WEIR_OLD		"weir_old"		/* result rows of these keys until now */
#define WEIR_TOUCHED_REFERENCE "weir_touched_keys"	/* placeholder that becomes a reference to WEIR_TOUCHED */
#define WEIR_GONE		"weir_gone"
#define WEIR_UNKEPT		"weir_unkept"	/* placeholder: rows of the batch that were too old to be kept */

/* One column of the recompute key. */
typedef struct TouchKey
{
	TargetEntry *target;		/* of the view's query */
	Expr	   *expr;			/* at the level whose rows decide */
	bool		never_null;
} TouchKey;

typedef struct Recompute
{
	List	   *levels;			/* of Query: from the view's query down to the lowest level that is not linear */
	List	   *path;			/* of int: range table index of the next level in each but the last */
	List	   *keys;			/* of TouchKey */
	bool		unique;			/* shape->keys is unique in the result */
	bool		windowed;		/* a window over event time is in the key */
	bool		one_window;		/* windowed: and it tells one from all others; those of cumulate() begin together */
	Expr	   *window_start;	/* windowed: at the lowest level */
	Expr	   *window_end;		/* windowed: the same, or NULL if it does not get so far */
	int64		span;			/* windowed, over a join of streams: rows that meet are at most so far apart, microseconds */
	bool		hashed;			/* columns that may be NULL are compared by a hash first */
	bool		joined;			/* shape->tables: several views are joined */
	bool		from_result;	/* old result and delta are enough: no kept rows are read */
	int64		limit;			/* from_result by rank: ranks up to this stay */
	Query	   *touched;		/* keys, then window_start and window_end as far as they are there, of each row of the delta */
	Query	   *rows;			/* result rows of the keys in WEIR_TOUCHED */
	Query	   *all;			/* shape->tables: all result rows */
} Recompute;

/* levels.c */
extern void weir_levels_inline(Query *query);
extern bool weir_recompute_prepare(Query **query, bool grouped);
extern Query *weir_recompute_lowest(Query *query);
extern bool weir_recompute_groups(Query *query);
extern bool weir_recompute_groups_below(Query *query);
extern Query *weir_recompute_wrap(Query *query);
extern Query *weir_recompute_stream_part(Query *level, int *rtindex);
extern void weir_recompute_levels(ViewShape *shape);
extern const char *weir_unmergeable_aggregate(Query *query);
extern const char *weir_describe_aggregate(Aggref *agg);

/* recompute_key.c */
extern void weir_recompute_keys(ViewShape *shape);
extern void weir_recompute_unique(ViewShape *shape);

/* recompute.c */
extern void weir_recompute_analyse(ViewShape *shape);
extern void weir_recompute_filter(ViewShape *shape, LateRule *rule);
extern void weir_recompute_index(ViewShape *shape);
extern const char *weir_recompute_cost(ViewShape *shape);
extern bool weir_recompute_is_key(ViewShape *shape, TargetEntry *target);

/* touched.c */
extern void weir_recompute_build(ViewShape *shape);
extern Expr *weir_touched_hash(List *exprs);
extern Query *weir_touched_ephemeral(RangeTblEntry *like, const char *name);
extern void weir_touched_no_permissions(Query *query);
extern RangeTblEntry *weir_touched_rte(Recompute *recompute, int levels);
extern Query *weir_recompute_linear_part(Query *level, List *targets);

/* kept.c */
extern Delta *weir_kept_enter(Delta *delta);

/* topn.c */
extern void weir_topn_choose(ViewShape *shape);
extern void weir_topn_ties(ViewShape *shape);
extern Query *weir_topn_query(ViewShape *shape, Oid result);
extern WindowFunc *weir_rank_condition(Query *level, Query *next, int rtindex, Node *condition, int64 *limit);

/* recompute_statement.c */
extern char *weir_touched_reference(Recompute *recompute);
extern char *weir_touched_rows(ViewShape *shape, Oid result, List *names, const char *columns);
extern Query *weir_recompute_statement(ViewShape *shape, Oid result);
extern Query *weir_recompute_all_statement(ViewShape *shape, Oid result);

#endif							/* WEIR_RECOMPUTE_H */
