/*
 * distinct.h
 *	  Aggregates with DISTINCT, kept from the set of values seen so far: distinct.c and its callers in src/view.
 */
#ifndef WEIR_DISTINCT_H
#define WEIR_DISTINCT_H

#include "view/shape.h"

#define WEIR_VALUES		"weir_values"	/* values of the batch that their group has not had */

/* Values that count together: of aggregates with the same arguments and FILTER. */
typedef struct DistinctSet
{
	int			number;			/* from 1; 0 stands for the plain states of a group */
	List	   *values;			/* of Expr over the delta */
	Expr	   *filter;			/* or NULL */
	List	   *columns;		/* of int: for each value, its column in DistinctShape.columns */
	Query	   *rows;			/* keys, the window's end, values, whether FILTER takes them: each once */
} DistinctSet;

typedef struct DistinctShape
{
	List	   *sets;			/* of DistinctSet */
	List	   *columns;		/* of Const: NULLs of the types of values; sets share them */
	Query	   *plain;			/* keys and the states without DISTINCT; NULL: neither */
	Expr	   *end;			/* finals: the window's end, unless it is a key */
	int			end_column;		/* finals: its column in the table, from 1 */
} DistinctShape;

/* distinct.c */
extern void weir_distinct_simplify(Query *query);
extern void weir_distinct_drop(Aggref *agg);
extern RowExpr *weir_distinct_row(Expr *arg);
extern bool weir_distinct_kept(Aggref *agg);
extern bool weir_distinct_is(StateColumn *state);
extern DistinctSet *weir_distinct_set(DistinctShape *distinct, StateColumn *state);
extern bool weir_distinct_make(ViewShape *shape);

/* distinct_statement.c */
extern List *weir_distinct_targets(ViewShape *shape);
extern char *weir_distinct_index(ViewShape *shape, List *names, int age);
extern char *weir_distinct_insert(ViewShape *shape);
extern char *weir_distinct_source(ViewShape *shape);
extern void weir_distinct_splice(ViewShape *shape, Query *statement);
extern char *weir_distinct_free(ViewShape *shape, const char *limit);

#endif							/* WEIR_DISTINCT_H */
