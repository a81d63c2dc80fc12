/*
 * parts.c
 *	  Small parts of queries, made and put in: the nodes, with nothing of what they mean.
 *
 * Arguments become part of what is made: who uses one twice copies it.
 */
#include "postgres.h"

#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/parse_clause.h"
#include "parser/parse_oper.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/timestamp.h"
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

/* weir_time_later: time (a timestamptz) + microseconds */
Expr *
weir_time_later(Expr *time, int64 microseconds)
{
	Interval   *span = palloc0(sizeof(Interval));

	if (microseconds == 0)
		return time;
	span->time = microseconds;
	return (Expr *) makeFuncExpr(F_TIMESTAMPTZ_PL_INTERVAL, TIMESTAMPTZOID,
								 list_make2(time, makeConst(INTERVALOID, -1, InvalidOid, sizeof(Interval),
															IntervalPGetDatum(span), false, false)),
								 InvalidOid, InvalidOid, COERCE_EXPLICIT_CALL);
}

/* weir_time_extreme makes LEAST or GREATEST of times, NULLs left out. */
Expr *
weir_time_extreme(MinMaxOp op, List *times)
{
	MinMaxExpr *expr = makeNode(MinMaxExpr);

	expr->args = times;
	expr->op = op;
	expr->minmaxtype = TIMESTAMPTZOID;
	expr->location = -1;
	return (Expr *) expr;
}

/* weir_as_timestamptz: a timestamp is one in UTC */
Expr *
weir_as_timestamptz(Expr *time)
{
	if (exprType((Node *) time) != TIMESTAMPOID)
		return time;
	return (Expr *) makeFuncExpr(F_TIMEZONE_TEXT_TIMESTAMP, TIMESTAMPTZOID,
								 list_make2(makeConst(TEXTOID, -1, DEFAULT_COLLATION_OID, -1,
													  CStringGetTextDatum("UTC"), false, false), time),
								 InvalidOid, DEFAULT_COLLATION_OID, COERCE_EXPLICIT_CALL);
}

/* weir_sort_clause sorts by a target, or groups by it, in the way of its type. */
SortGroupClause *
weir_sort_clause(Query *query, TargetEntry *tle)
{
	SortGroupClause *clause = makeNode(SortGroupClause);

	get_sort_group_operators(exprType((Node *) tle->expr), true, true, false,
							 &clause->sortop, &clause->eqop, NULL, &clause->hashable);
	clause->tleSortGroupRef = assignSortGroupRef(tle, query->targetList);
	return clause;
}

/* weir_only_union_all: is there no other set operation in it? */
bool
weir_only_union_all(Node *node)
{
	SetOperationStmt *op = (SetOperationStmt *) node;

	return IsA(op, RangeTblRef) ||
		(op->op == SETOP_UNION && op->all && weir_only_union_all(op->larg) && weir_only_union_all(op->rarg));
}

/* weir_subquery_entry: a sub-select in FROM */
RangeTblEntry *
weir_subquery_entry(Query *query, const char *alias)
{
	RangeTblEntry *rte = makeNode(RangeTblEntry);
	List	   *names = NIL;
	ListCell   *lc;

	foreach(lc, query->targetList)
	{
		TargetEntry *tle = lfirst(lc);

		if (!tle->resjunk)
			names = lappend(names, makeString(pstrdup(tle->resname)));
	}
	rte->rtekind = RTE_SUBQUERY;
	rte->subquery = query;
	rte->alias = makeAlias(alias, NIL);
	rte->eref = makeAlias(alias, names);
	rte->inFromCl = true;
	return rte;
}

/* weir_select_from gives a query this FROM, without WHERE, and nothing else. */
void
weir_select_from(Query *query, RangeTblEntry *rte)
{
	RangeTblRef *ref = makeNode(RangeTblRef);

	ref->rtindex = 1;
	query->rtable = list_make1(rte);
	query->jointree = makeFromExpr(list_make1(ref), NULL);
}
