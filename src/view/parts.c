/*
 * parts.c
 *	  Small parts of queries, made and put in: the nodes, with nothing of what they mean.
 *
 * Arguments become part of what is made: who uses one twice copies it.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "utils/fmgroids.h"
#include "view/parts.h"

/* weir_add_condition adds to a WHERE, or to a join's ON; *quals may be NULL. */
void
weir_add_condition(Node **quals, Expr *condition)
{
	*quals = *quals == NULL ? (Node *) condition : (Node *) makeBoolExpr(AND_EXPR, list_make2(*quals, condition), -1);
}

void
weir_add_where(Query *query, Expr *condition)
{
	weir_add_condition(&query->jointree->quals, condition);
}

Expr *
weir_boolean_test(Expr *arg, BoolTestType type)
{
	BooleanTest *test = makeNode(BooleanTest);

	test->arg = arg;
	test->booltesttype = type;
	test->location = -1;
	return (Expr *) test;
}

Expr *
weir_null_test(Expr *arg, NullTestType type)
{
	NullTest   *test = makeNode(NullTest);

	test->arg = arg;
	test->nulltesttype = type;
	test->argisrow = false;
	test->location = -1;
	return (Expr *) test;
}

/* weir_time_compare calls a function of two timestamptz that returns a boolean. */
Expr *
weir_time_compare(Oid function, Expr *a, Expr *b)
{
	return (Expr *) makeFuncExpr(function, BOOLOID, list_make2(a, b), InvalidOid, InvalidOid, COERCE_EXPLICIT_CALL);
}

/* weir_before: a < b, both timestamptz */
Expr *
weir_before(Expr *a, Expr *b)
{
	return weir_time_compare(F_TIMESTAMPTZ_LT, a, b);
}
