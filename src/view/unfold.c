/*
 * unfold.c
 *	  tumble() in FROM as plain expressions.
 *
 * statement ⇒ unfold ⇒ planner. The planner inlines tumble() by itself, but
 * its WHERE (no time, no window) keeps an empty relation alive that every row
 * is joined with: a quarter of the cost of a row. Here the call becomes
 *	  LATERAL (SELECT weir.window_start(...), weir.window_end(...))
 * which vanishes in planning, and the condition goes where it costs nothing: to the
 * WHERE of the level. Only what is run is changed, not what weir.explain shows.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parse_func.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteManip.h"
#include "view/parts.h"
#include "view/shape.h"

/* weir.window_start or window_end for these arguments, or InvalidOid. */
static Oid
boundary_function(const char *name, List *args)
{
	Oid			types[3];
	int			n = 0;
	ListCell   *lc;

	if (list_length(args) > 3)
		return InvalidOid;
	foreach(lc, args)
		types[n++] = exprType(lfirst(lc));
	return LookupFuncName(list_make2(makeString(WEIR_SCHEMA), makeString(pstrdup(name))),
						  n, types, true);
}

static TargetEntry *
boundary_target(Oid funcid, List *args, AttrNumber resno, char *name)
{
	Oid			collation = list_length(args) == 3 ? exprCollation(lthird(args)) : InvalidOid;
	FuncExpr   *call = makeFuncExpr(funcid, exprType(linitial(args)), copyObject(args),
									InvalidOid, collation, COERCE_EXPLICIT_CALL);

	return makeTargetEntry((Expr *) call, resno, name, false);
}

/* weir_joined_inner tells whether an item of FROM is joined by inner joins only, up to the WHERE of its level. */
bool
weir_joined_inner(Node *node, int rtindex)
{
	ListCell   *lc;

	if (IsA(node, RangeTblRef))
		return ((RangeTblRef *) node)->rtindex == rtindex;
	if (IsA(node, JoinExpr))
	{
		JoinExpr   *join = (JoinExpr *) node;

		return join->jointype == JOIN_INNER &&
			(weir_joined_inner(join->larg, rtindex) || weir_joined_inner(join->rarg, rtindex));
	}
	foreach(lc, ((FromExpr *) node)->fromlist)
	{
		if (weir_joined_inner(lfirst(lc), rtindex))
			return true;
	}
	return false;
}

static void
unfold_item(Query *query, int rtindex)
{
	RangeTblEntry *rte = rt_fetch(rtindex, query->rtable);
	FuncExpr   *call = weir_window_call(rte);
	List	   *args = checkExprHasSubLink((Node *) call->args) ? NIL : copyObject(call->args);
	Oid			start = boundary_function("window_start", args);
	Oid			end = boundary_function("window_end", args);
	Query	   *subquery;
	ListCell   *lc;

	if (args == NIL || !OidIsValid(start) || !OidIsValid(end) ||
		!weir_joined_inner((Node *) query->jointree, rtindex))
		return;
	/* The time must not be NULL, nor a size, origin or zone that is no constant. */
	foreach(lc, args)
	{
		Expr	   *arg = lfirst(lc);

		if (!IsA(arg, Const) || ((Const *) arg)->constisnull)
			weir_add_where(query, weir_null_test(copyObject(arg), IS_NOT_NULL));
	}
	IncrementVarSublevelsUp((Node *) args, 1, 0);
	subquery = makeNode(Query);
	subquery->commandType = CMD_SELECT;
	subquery->canSetTag = true;
	subquery->jointree = makeFromExpr(NIL, NULL);
	subquery->targetList = list_make2(boundary_target(start, args, 1, "window_start"),
									  boundary_target(end, args, 2, "window_end"));
	rte->rtekind = RTE_SUBQUERY;
	rte->subquery = subquery;
	rte->functions = NIL;
	rte->lateral = true;
}

static bool
unfold_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
	{
		Query	   *query = (Query *) node;

		check_stack_depth();
		for (int i = 1; i <= list_length(query->rtable); i++)
		{
			RangeTblEntry *rte = rt_fetch(i, query->rtable);

			if (query->setOperations == NULL && weir_is_window(rte) && weir_is_tumble(rte) && !rte->funcordinality)
				unfold_item(query, i);
		}
		return query_tree_walker(query, unfold_walker, context, 0);
	}
	return expression_tree_walker(node, unfold_walker, context);
}

/* weir_tumble_unfold changes every level of a statement, in place. */
void
weir_tumble_unfold(Query *query)
{
	(void) unfold_walker((Node *) query, NULL);
}
