/*
 * parts.h
 *	  Small parts of queries, made and put in.
 */
#ifndef WEIR_PARTS_H
#define WEIR_PARTS_H

#include "nodes/parsenodes.h"

extern void weir_add_condition(Node **quals, Expr *condition);
extern void weir_add_where(Query *query, Expr *condition);
extern Expr *weir_boolean_test(Expr *arg, BoolTestType type);
extern Expr *weir_null_test(Expr *arg, NullTestType type);
extern Expr *weir_time_compare(Oid function, Expr *a, Expr *b);
extern Expr *weir_before(Expr *a, Expr *b);

#endif							/* WEIR_PARTS_H */
