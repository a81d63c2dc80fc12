/*
 * readable.c
 *	  Copies of statements that pg_get_querydef can print, for weir.explain and logs.
 *
 * rewrite and its followers ⇒ this ⇒ inspect.c. What is printed is never run. pg_get_querydef knows no
 * ephemeral relations, so a delta becomes a CTE that nobody defines. And it wants every join to list all
 * columns of its items, while rewriting adds hidden ones to sub-selects and gives dropped ones their
 * number back: the copy's joins are widened, and who names a join's column is told its new number.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/parsetree.h"
#include "view/shape.h"

/* The joins of one query that were widened. */
typedef struct Widened
{
	Query	   *query;
	AttrNumber **maps;			/* by number of the FROM item: old column ⇒ new one; NULL: no join */
	int			sublevels;
} Widened;

/* A join that is being widened. */
typedef struct WideJoin
{
	RangeTblEntry *rte;
	List	   *aliasvars;		/* the new lists */
	List	   *names;
	List	   *given;			/* the user's names */
	AttrNumber *map;
} WideJoin;

/* Takes an old column of the join over into the new lists. */
static void
keep_column(WideJoin *join, int old)
{
	List	   *given = join->rte->alias ? join->rte->alias->colnames : NIL;
	Node	   *name = list_nth(join->rte->eref->colnames, old);

	join->aliasvars = lappend(join->aliasvars, list_nth(join->rte->joinaliasvars, old));
	join->names = lappend(join->names, name);
	join->given = lappend(join->given, old < list_length(given) ? list_nth(given, old) : name);
	join->map[old + 1] = list_length(join->names);
}

/*
 * widen_side appends the columns of one item of the join that are not merged; returns all of that item's columns,
 * merged ones first. cols: those that the join has listed, from its column number first on.
 */
static List *
widen_side(WideJoin *join, RangeTblEntry *child, List *cols, int first)
{
	int			nmerged = join->rte->joinmergedcols;
	List	   *result = list_copy_head(cols, nmerged);

	for (int column = 1; column <= list_length(child->eref->colnames); column++)
	{
		int			place = 0;
		ListCell   *lc;

		foreach(lc, cols)
		{
			if (lfirst_int(lc) == column)
				break;
			place++;
		}
		if (place < nmerged)
			continue;
		if (place < list_length(cols))
			keep_column(join, first + place - nmerged);
		else if (child->rtekind == RTE_RELATION || child->rtekind == RTE_FUNCTION)
			continue;			/* pg_get_querydef asks the catalog */
		else
		{
			/* nobody refers to it: its type does not matter */
			join->aliasvars = lappend(join->aliasvars, makeNullConst(INT4OID, -1, InvalidOid));
			join->names = lappend(join->names, list_nth(child->eref->colnames, column - 1));
			join->given = lappend(join->given, list_nth(child->eref->colnames, column - 1));
		}
		result = lappend_int(result, column);
	}
	return result;
}

/* The columns of an item that a join has listed, by the numbers that they have now. */
static List *
current_columns(List *cols, const AttrNumber *map)
{
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, cols)
		result = lappend_int(result, map ? map[lfirst_int(lc)] : lfirst_int(lc));
	return result;
}

/* Widens the joins below a node of FROM, and itself; returns the number of its item. */
static int
widen(Widened *widened, Node *node)
{
	JoinExpr   *expr = (JoinExpr *) node;
	WideJoin	join = {NULL};
	int			left,
				right,
				nleft;
	List	   *left_cols,
			   *right_cols;

	check_stack_depth();
	if (IsA(node, RangeTblRef))
		return ((RangeTblRef *) node)->rtindex;
	left = widen(widened, expr->larg);
	right = widen(widened, expr->rarg);
	join.rte = rt_fetch(expr->rtindex, widened->query->rtable);
	join.map = palloc0(sizeof(AttrNumber) * (list_length(join.rte->joinaliasvars) + 1));
	left_cols = current_columns(join.rte->joinleftcols, widened->maps[left]);
	right_cols = current_columns(join.rte->joinrightcols, widened->maps[right]);
	nleft = list_length(left_cols);
	for (int i = 0; i < join.rte->joinmergedcols; i++)
		keep_column(&join, i);
	left_cols = widen_side(&join, rt_fetch(left, widened->query->rtable), left_cols, join.rte->joinmergedcols);
	right_cols = widen_side(&join, rt_fetch(right, widened->query->rtable), right_cols, nleft);
	join.rte->joinaliasvars = join.aliasvars;
	join.rte->joinleftcols = left_cols;
	join.rte->joinrightcols = right_cols;
	join.rte->eref = makeAlias(join.rte->eref->aliasname, join.names);
	if (join.rte->alias && join.rte->alias->colnames)
		join.rte->alias->colnames = join.given;
	widened->maps[expr->rtindex] = join.map;
	return expr->rtindex;
}

static AttrNumber
new_number(const Widened *widened, Index item, AttrNumber column)
{
	return item > 0 && item <= list_length(widened->query->rtable) && column > 0 && widened->maps[item] ?
		widened->maps[item][column] : column;
}

/* Tells columns of widened joins their new numbers. */
static bool
renumber_walker(Node *node, Widened *widened)
{
	if (node == NULL)
		return false;
	if (IsA(node, Var))
	{
		Var		   *var = (Var *) node;

		if (var->varlevelsup == widened->sublevels)
		{
			var->varattno = new_number(widened, var->varno, var->varattno);
			var->varattnosyn = new_number(widened, var->varnosyn, var->varattnosyn);
		}
		return false;
	}
	if (IsA(node, Query))
	{
		bool		result;

		check_stack_depth();
		widened->sublevels++;
		result = query_tree_walker((Query *) node, renumber_walker, widened, 0);
		widened->sublevels--;
		return result;
	}
	return expression_tree_walker(node, renumber_walker, widened);
}

static void
widen_joins(Query *query)
{
	Widened		widened = {query};
	ListCell   *lc;
	bool		joins = false;

	if (query->jointree == NULL)
		return;
	widened.maps = palloc0(sizeof(AttrNumber *) * (list_length(query->rtable) + 1));
	foreach(lc, query->jointree->fromlist)
	{
		joins |= IsA(lfirst(lc), JoinExpr);
		(void) widen(&widened, lfirst(lc));
	}
	if (joins)
		(void) query_tree_walker(query, renumber_walker, &widened, 0);
}

/* The ephemeral relation behind a sub-select that does nothing but read a delta's columns; NULL: it computes something. */
static RangeTblEntry *
plain_delta(Query *query)
{
	RangeTblEntry *delta = query->rtable ? llast_node(RangeTblEntry, query->rtable) : NULL;
	ListCell   *lc;

	if (delta == NULL || delta->rtekind != RTE_NAMEDTUPLESTORE || query->jointree->quals)
		return NULL;
	foreach(lc, query->targetList)
	{
		Node	   *expr = (Node *) lfirst_node(TargetEntry, lc)->expr;

		if (!IsA(expr, Var) && !IsA(expr, Const))
			return NULL;
	}
	return delta;
}

static void
make_readable(RangeTblEntry *rte, RangeTblEntry *delta)
{
	rte->rtekind = RTE_CTE;
	rte->ctename = delta->enrname;
	rte->ctelevelsup = 0;
	rte->subquery = NULL;
}

static bool
readable_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, RangeTblEntry))
	{
		RangeTblEntry *rte = (RangeTblEntry *) node;

		if (rte->rtekind == RTE_NAMEDTUPLESTORE)
			make_readable(rte, rte);
		else if (rte->rtekind == RTE_SUBQUERY && plain_delta(rte->subquery))
			make_readable(rte, plain_delta(rte->subquery));
		return false;
	}
	if (IsA(node, Query))
	{
		check_stack_depth();
		widen_joins((Query *) node);
		return query_tree_walker((Query *) node, readable_walker, context,
								 QTW_EXAMINE_RTES_BEFORE);
	}
	return expression_tree_walker(node, readable_walker, context);
}

/*
 * weir_rewrite_readable returns a copy that pg_get_querydef can print: it knows
 * no ephemeral relations, and people need not see the sub-select around them.
 */
Query *
weir_rewrite_readable(Query *query)
{
	query = copyObject(query);
	(void) readable_walker((Node *) query, NULL);
	return query;
}
