/*
 * parts.h
 *	  Small parts of queries, made and put in.
 */
#ifndef WEIR_PARTS_H
#define WEIR_PARTS_H

#include "nodes/parsenodes.h"
#include "nodes/primnodes.h"

extern void weir_add_condition(Node **quals, Expr *condition);
extern void weir_add_where(Query *query, Expr *condition);
extern Expr *weir_boolean_test(Expr *arg, BoolTestType type);
extern Expr *weir_null_test(Expr *arg, NullTestType type);
extern Expr *weir_time_compare(Oid function, Expr *a, Expr *b);
extern Expr *weir_before(Expr *a, Expr *b);
extern Expr *weir_as_timestamptz(Expr *time);
extern Expr *weir_time_later(Expr *time, int64 microseconds);
extern Expr *weir_time_extreme(MinMaxOp op, List *times);
extern SortGroupClause *weir_sort_clause(Query *query, TargetEntry *tle);
extern RangeTblEntry *weir_subquery_entry(Query *query, const char *alias);
extern void weir_select_from(Query *query, RangeTblEntry *rte);
extern bool weir_only_union_all(Node *setOperations);

#endif							/* WEIR_PARTS_H */
