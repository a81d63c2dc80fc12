/*
 * topn.c
 *	  The first rows per key, from the old result and the new rows.
 *
 * recompute ⇒ topn ⇒ recompute_statement.
 */
#include "postgres.h"

#include "access/transam.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_type.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parsetree.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "view/recompute.h"
#include "view/shape.h"

/* The value of an integer constant; false if it is none. */
static bool
integer_constant(Node *node, int64 *value)
{
	Const	   *constant = (Const *) node;

	if (!IsA(constant, Const) || constant->constisnull)
		return false;
	switch (constant->consttype)
	{
		case INT2OID:
			*value = DatumGetInt16(constant->constvalue);
			return true;
		case INT4OID:
			*value = DatumGetInt32(constant->constvalue);
			return true;
		case INT8OID:
			*value = DatumGetInt64(constant->constvalue);
			return true;
		default:
			return false;
	}
}

/* The rank (row_number, rank, dense_rank) that a column of this level is in the next one, or NULL. */
static WindowFunc *
rank_of(Query *next, int rtindex, Node *node)
{
	Var		   *var = (Var *) strip_implicit_coercions(node);
	WindowFunc *rank;

	if (!IsA(var, Var) || var->varno != rtindex || var->varlevelsup != 0 || var->varattno <= 0)
		return NULL;
	rank = (WindowFunc *) list_nth_node(TargetEntry, next->targetList, var->varattno - 1)->expr;
	if (!IsA(rank, WindowFunc) || rank->aggfilter)
		return NULL;
	return rank->winfnoid == F_ROW_NUMBER || rank->winfnoid == F_RANK_ || rank->winfnoid == F_DENSE_RANK_ ?
		rank : NULL;
}

/*
 * weir_rank_condition understands rank <= limit, rank < limit + 1 and rank = 1
 * about a column of the next level; returns the rank, or NULL if it is something else.
 */
WindowFunc *
weir_rank_condition(Query *level, Query *next, int rtindex, Node *condition, int64 *limit)
{
	OpExpr	   *op = (OpExpr *) condition;
	const char *name;
	Node	   *left;
	Node	   *right;
	WindowFunc *rank;

	if (!IsA(op, OpExpr) || list_length(op->args) != 2)
		return NULL;
	name = get_opname(op->opno);
	if (op->opno >= FirstGenbkiObjectId || name == NULL)
		return NULL;
	left = linitial(op->args);
	right = lsecond(op->args);
	if (integer_constant(left, limit))
	{
		Oid			commutator = get_commutator(op->opno);

		if (!OidIsValid(commutator))
			return NULL;
		name = get_opname(commutator);
		left = right;
	}
	else if (!integer_constant(right, limit))
		return NULL;
	rank = rank_of(next, rtindex, left);
	if (rank == NULL)
		return NULL;
	if (strcmp(name, "<") == 0)
		(*limit)--;
	else if (strcmp(name, "<=") != 0 && !(strcmp(name, "=") == 0 && *limit == 1))
		return NULL;
	return rank;
}

void
weir_topn_choose(ViewShape *shape)
{
}

Query *
weir_topn_query(ViewShape *shape, Oid result)
{
	return NULL;
}
