/*
 * topn.c
 *	  The first rows per key, from the old result and the new rows.
 *
 * recompute ⇒ topn ⇒ recompute_statement. Three shapes need no kept rows, because rows are only ever
 * added and what has left the first n never comes back:
 *	  SELECT DISTINCT ON (k) ... ORDER BY k, x
 *	  SELECT ... FROM (SELECT ..., row_number() OVER (PARTITION BY k ORDER BY x) AS n ...) WHERE n <= 3
 * and the same with rank() and dense_rank(), which keep all equals. What they sort by
 * must be columns of the result: then the old rows of a touched key can stand beside the
 * new rows of the delta, and the same query picks the first of both.
 *
 * Where the order leaves ties open, the first row to arrive is picked (arrival.c), and where
 * several are, the other columns decide.
 */
#include "postgres.h"

#include "access/transam.h"
#include "catalog/catalog.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"
#include "optimizer/tlist.h"
#include "parser/parse_clause.h"
#include "parser/parse_oper.h"
#include "parser/parsetree.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"
#include "view/parts.h"
#include "view/recompute.h"
#include "view/shape.h"

/* A partition before that of INSERTed rows. */
#define BEFORE_ALL	(-2)

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


/* The column of the view that shows target n of the lowest level; 0: none. */
static AttrNumber
shown_as(ViewShape *shape, AttrNumber n)
{
	Recompute  *recompute = shape->recompute;

	for (int i = list_length(recompute->levels) - 2; i >= 0 && n != 0; i--)
	{
		Query	   *level = list_nth(recompute->levels, i);
		AttrNumber	above = 0;
		ListCell   *lc;

		foreach(lc, level->targetList)
		{
			TargetEntry *tle = lfirst(lc);
			Var		   *var = (Var *) tle->expr;

			if (!tle->resjunk && above == 0 && IsA(var, Var) && var->varlevelsup == 0 &&
				var->varno == list_nth_int(recompute->path, i) && var->varattno == n)
				above = tle->resno;
		}
		n = above;
	}
	return n;
}

/* Are the targets that these clauses stand for columns of the view? */
static bool
all_shown(ViewShape *shape, Query *level, List *clauses)
{
	ListCell   *lc;

	foreach(lc, clauses)
	{
		TargetEntry *tle = get_sortgroupclause_tle(lfirst(lc), level->targetList);

		if (tle->resjunk || shown_as(shape, tle->resno) == 0)
			return false;
	}
	return true;
}

/* Does a level do no more than pass rows on? */
static bool
passes_rows_on(Query *level, bool condition)
{
	return list_length(level->jointree->fromlist) == 1 &&
		IsA(linitial(level->jointree->fromlist), RangeTblRef) &&
		!level->hasTargetSRFs && !level->hasSubLinks && level->cteList == NIL &&
		(condition || level->jointree->quals == NULL);
}

/* Columns of the levels above the lowest must be those of the level below, or constants: nothing is computed that is not stored. */
static bool
only_columns(Query *level)
{
	ListCell   *lc;

	foreach(lc, level->targetList)
	{
		if (!IsA(lfirst_node(TargetEntry, lc)->expr, Var))
			return false;
	}
	return true;
}

static bool
is_distinct_on(ViewShape *shape)
{
	List	   *levels = shape->recompute->levels;
	Query	   *level = llast(levels);

	return list_length(levels) == 2 && passes_rows_on(linitial(levels), false) &&
		level->hasDistinctOn && !level->hasAggs && level->groupClause == NIL &&
		level->groupingSets == NIL && !level->hasWindowFuncs && !level->hasTargetSRFs &&
		list_length(level->distinctClause) == list_length(shape->recompute->keys) &&
		all_shown(shape, level, level->distinctClause) && all_shown(shape, level, level->sortClause);
}

/* Are the window functions of a level ranks, all over one window? */
static bool
only_ranks(Query *level)
{
	ListCell   *lc;

	foreach(lc, level->targetList)
	{
		WindowFunc *rank = (WindowFunc *) lfirst_node(TargetEntry, lc)->expr;

		if (!contain_window_function((Node *) rank))
			continue;
		if (!IsA(rank, WindowFunc) || rank->aggfilter ||
			(rank->winfnoid != F_ROW_NUMBER && rank->winfnoid != F_RANK_ && rank->winfnoid != F_DENSE_RANK_))
			return false;
	}
	return list_length(level->windowClause) == 1;
}

static bool
is_top_n(ViewShape *shape)
{
	Recompute  *recompute = shape->recompute;
	Query	   *level = llast(recompute->levels);
	Query	   *outer;
	WindowClause *window;
	List	   *conditions;
	int64		limit;

	if (list_length(recompute->levels) != 3)
		return false;
	outer = lsecond(recompute->levels);
	conditions = make_ands_implicit((Expr *) outer->jointree->quals);
	if (!passes_rows_on(linitial(recompute->levels), false) || !passes_rows_on(outer, true) ||
		!only_columns(outer) || list_length(conditions) != 1 ||
		weir_rank_condition(outer, level, list_nth_int(recompute->path, 1), linitial(conditions), &limit) == NULL)
		return false;
	if (level->hasAggs || level->groupClause || level->groupingSets || level->distinctClause ||
		level->hasTargetSRFs || outer->distinctClause || outer->hasWindowFuncs || outer->groupClause ||
		outer->hasAggs || !only_ranks(level))
		return false;
	recompute->limit = limit;
	window = linitial(level->windowClause);
	return list_length(window->partitionClause) == list_length(recompute->keys) &&
		all_shown(shape, level, window->partitionClause) && all_shown(shape, level, window->orderClause);
}

/* weir_topn_choose finds out whether the old result and the delta are enough. */
void
weir_topn_choose(ViewShape *shape)
{
	if (!is_distinct_on(shape) && !is_top_n(shape))
		return;
	shape->recompute->from_result = true;
	shape->why = psprintf("the first rows per key follow from those until now and the new rows (%s); no kept rows are read",
						  list_length(shape->recompute->levels) == 2 ? "DISTINCT ON" : "OVER");
}

/*
 * weir_topn_ties lets the other columns of the result decide between equal rows, where row_number()
 * picks several, or the rows are pairs of a join: which of the old ones came first is not known.
 */
void
weir_topn_ties(ViewShape *shape)
{
	Query	   *level = llast(shape->recompute->levels);
	List	  **order = level->hasDistinctOn ? &level->sortClause :
		&linitial_node(WindowClause, level->windowClause)->orderClause;
	ListCell   *lc;

	if (level->hasDistinctOn && level->sortClause == NIL)
		level->sortClause = copyObject(level->distinctClause);
	foreach(lc, level->targetList)
	{
		WindowFunc *func = (WindowFunc *) lfirst_node(TargetEntry, lc)->expr;

		if (IsA(func, WindowFunc) && func->winfnoid != F_ROW_NUMBER)
			return;				/* equal rows have equal ranks */
	}
	foreach(lc, level->targetList)
	{
		TargetEntry *tle = lfirst(lc);
		Oid			type = exprType((Node *) tle->expr);

		if (tle->resjunk || shown_as(shape, tle->resno) == 0 || IsA(tle->expr, WindowFunc) ||
			!OidIsValid(lookup_type_cache(type, TYPECACHE_LT_OPR)->lt_opr))
			continue;
		*order = lappend(*order, weir_sort_clause(level, tle));
	}
}

/* --- the query over old result and delta -------------------------------------------------- */

/* The order of arrival behind the user's own order (arrival.c)? */
static bool
is_arrival(TargetEntry *tle)
{
	return tle->resjunk && tle->resname &&
		strncmp(tle->resname, WEIR_HIDDEN_PREFIX, strlen(WEIR_HIDDEN_PREFIX)) == 0;
}

/*
 * Targets of the lowest level that are stored, as targets of a query over the delta; *columns: where. What
 * tells the order of arrival is in column 0: old rows came before all others.
 */
static List *
stored_targets(ViewShape *shape, Query *level, List **columns)
{
	List	   *targets = NIL;
	ListCell   *lc;

	*columns = NIL;
	foreach(lc, level->targetList)
	{
		TargetEntry *tle = lfirst(lc);
		AttrNumber	column = tle->resjunk ? 0 : shown_as(shape, tle->resno);

		if ((column == 0 && !is_arrival(tle)) || contain_window_function((Node *) tle->expr))
			continue;
		targets = lappend(targets, makeTargetEntry(copyObject(tle->expr), list_length(targets) + 1,
												   pstrdup(tle->resname), false));
		*columns = lappend_int(*columns, column);
	}
	return targets;
}

/* SELECT new rows UNION ALL SELECT old rows of the touched keys */
static Query *
old_and_new(ViewShape *shape, Oid result, Query *added, List *columns)
{
	List	   *names = weir_statement_columns(result, shape->query->targetList);
	StringInfoData buf;
	char	   *aliases = weir_text_numbered("", list_length(columns));
	StringInfoData stored;
	Query	   *query;
	ListCell   *lc;

	initStringInfo(&buf);
	appendStringInfo(&buf, "SELECT %s FROM %s AS weir_added(%s)\nUNION ALL ", aliases,
					 weir_statement_placeholder(added->targetList), aliases);
	initStringInfo(&stored);
	foreach(lc, columns)
	{
		appendStringInfoString(&stored, stored.len ? ", " : "");
		if (lfirst_int(lc) == 0)
			appendStringInfo(&stored, "CAST(%d AS %s)", BEFORE_ALL,
							 weir_statement_type(exprType((Node *) list_nth_node(TargetEntry, added->targetList, foreach_current_index(lc))->expr), -1));
		else
			appendStringInfo(&stored, "t.%s", quote_identifier(list_nth(names, lfirst_int(lc) - 1)));
	}
	appendStringInfoString(&buf, weir_touched_rows(shape, result, names, stored.data));
	query = weir_statement_parse(buf.data);
	weir_statement_splice(query, "weir_added", added);
	return query;
}

/* The lowest level over other rows: stored targets become columns of these. */
static Query *
level_over(Query *level, Query *rows, List *targets)
{
	Query	   *query = copyObject(level);
	ListCell   *lc;

	weir_select_from(query, weir_subquery_entry(rows, "weir_first"));
	weir_compat_no_permissions(query);
	query->cteList = NIL;
	query->hasSubLinks = false;
	query->constraintDeps = NIL;
	foreach(lc, query->targetList)
	{
		TargetEntry *tle = lfirst(lc);
		Expr	   *stored = NULL;
		ListCell   *lt;

		if (contain_window_function((Node *) tle->expr))
			continue;
		foreach(lt, targets)
		{
			TargetEntry *target = lfirst(lt);

			if (stored == NULL && equal(target->expr, tle->expr))
				stored = (Expr *) makeVarFromTargetEntry(1, target);
		}
		tle->expr = stored ? stored :
			(Expr *) makeNullConst(exprType((Node *) tle->expr), exprTypmod((Node *) tle->expr),
								   exprCollation((Node *) tle->expr));
	}
	return query;
}

/* weir_topn_query is the definition over the old rows of the touched keys and the rows of the delta. */
Query *
weir_topn_query(ViewShape *shape, Oid result)
{
	Recompute  *recompute = shape->recompute;
	Query	   *query = copyObject(shape->query);
	Query	   *above = query;
	Query	   *level = llast(recompute->levels);
	List	   *columns;
	List	   *targets = stored_targets(shape, level, &columns);
	Query	   *rows = old_and_new(shape, result, weir_recompute_linear_part(level, copyObject(targets)), columns);
	int			last = list_length(recompute->path) - 1;

	for (int i = 0; i < last; i++)
		above = rt_fetch(list_nth_int(recompute->path, i), above->rtable)->subquery;
	rt_fetch(list_nth_int(recompute->path, last), above->rtable)->subquery = level_over(level, rows, targets);
	return query;
}
