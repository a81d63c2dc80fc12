/*
 * limit.c
 *	  ORDER BY ... LIMIT of a final view: the first rows of each window.
 *
 * rewrite ⇒ limit ⇒ windowed. A final view's query is run once for each window that closes, so LIMIT
 * and OFFSET count in each window by themselves. So that one run serves several windows, they become
 *	  SELECT ... FROM (SELECT ..., row_number() OVER (PARTITION BY <window> ORDER BY ...) ...) WHERE number <= n
 * (FETCH ... WITH TIES: rank()). Where the order leaves ties open the other columns of the result
 * decide, so that the same rows are picked each time.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "optimizer/tlist.h"
#include "parser/parse_clause.h"
#include "parser/parse_oper.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/typcache.h"
#include "view/parts.h"
#include "view/recompute.h"
#include "view/windowed.h"

/* The value of LIMIT or OFFSET; none if it is not given, or NULL. */
static int64
constant_count(Node *node, int64 none, const char *name)
{
	Const	   *constant = (Const *) (node ? eval_const_expressions(NULL, node) : NULL);

	if (constant == NULL)
		return none;
	if (!IsA(constant, Const) || constant->consttype != INT8OID)
		weir_refuse(name, "LIMIT or OFFSET is not a constant.", "Write the number as a literal.");
	if (!constant->constisnull && DatumGetInt64(constant->constvalue) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_ROW_COUNT_IN_LIMIT_CLAUSE),
				 errmsg("LIMIT and OFFSET must not be negative")));
	return constant->constisnull ? none : DatumGetInt64(constant->constvalue);
}

/* The level whose rows are numbered: the query, or one above it where rows are made of those that it groups last. */
static Query *
level_to_number(Query *query, const char *name)
{
	Query	   *level;
	ListCell   *lc;

	query = copyObject(query);
	query->limitCount = query->limitOffset = NULL;
	query->limitOption = LIMIT_OPTION_COUNT;
	if (!query->setOperations && !query->distinctClause && !query->hasWindowFuncs && !query->hasTargetSRFs)
		return query;
	foreach(lc, query->sortClause)
	{
		if (get_sortgroupclause_tle(lfirst(lc), query->targetList)->resjunk)
			weir_refuse(name, "ORDER BY ... LIMIT sorts by something that the select list does not show, beside OVER or a set-returning function.",
						"Show it in the select list.");
	}
	level = weir_recompute_wrap(query);
	foreach(lc, level->targetList)
	{
		TargetEntry *tle = lfirst(lc);

		tle->ressortgroupref = list_nth_node(TargetEntry, query->targetList, tle->resno - 1)->ressortgroupref;
	}
	level->sortClause = copyObject(query->sortClause);
	return level;
}

static SortGroupClause *
partition_by(Query *level, Expr *key)
{
	TargetEntry *found = NULL;
	ListCell   *lc;

	foreach(lc, level->targetList)
	{
		if (equal(lfirst_node(TargetEntry, lc)->expr, key))
			found = lfirst(lc);
	}
	if (found == NULL)
	{
		found = makeTargetEntry(key, list_length(level->targetList) + 1, pstrdup("weir_window"), true);
		level->targetList = lappend(level->targetList, found);
	}
	return weir_sort_clause(level, found);
}

/* ORDER BY, then the other columns that are shown. */
static List *
whole_order(Query *level)
{
	List	   *order = copyObject(level->sortClause);
	ListCell   *lc;

	foreach(lc, level->targetList)
	{
		TargetEntry *tle = lfirst(lc);

		if (tle->resjunk || IsA(tle->expr, Const) ||
			(tle->ressortgroupref && get_sortgroupref_clause_noerr(tle->ressortgroupref, order)) ||
			!OidIsValid(lookup_type_cache(exprType((Node *) tle->expr), TYPECACHE_LT_OPR)->lt_opr))
			continue;
		order = lappend(order, weir_sort_clause(level, tle));
	}
	return order;
}

/* Appends the number to the select list, before what is hidden; returns its place. */
static AttrNumber
add_number(Query *level, Expr *key, bool ties)
{
	WindowClause *window = makeNode(WindowClause);
	WindowFunc *number = makeNode(WindowFunc);
	List	   *targets = NIL;
	List	   *hidden = NIL;
	AttrNumber	result;
	ListCell   *lc;

	window->partitionClause = list_make1(partition_by(level, key));
	window->orderClause = ties ? copyObject(level->sortClause) : whole_order(level);
	window->frameOptions = FRAMEOPTION_DEFAULTS;
	window->winref = list_length(level->windowClause) + 1;
	level->windowClause = lappend(level->windowClause, window);
	level->hasWindowFuncs = true;
	level->sortClause = NIL;
	number->winfnoid = ties ? F_RANK_ : F_ROW_NUMBER;
	number->wintype = INT8OID;
	number->winref = window->winref;
	number->location = -1;
	foreach(lc, level->targetList)
	{
		if (lfirst_node(TargetEntry, lc)->resjunk)
			hidden = lappend(hidden, lfirst(lc));
		else
			targets = lappend(targets, lfirst(lc));
	}
	result = list_length(targets) + 1;
	targets = lappend(targets, makeTargetEntry((Expr *) number, result, pstrdup("weir_number"), false));
	level->targetList = list_concat(targets, hidden);
	foreach(lc, level->targetList)
		lfirst_node(TargetEntry, lc)->resno = foreach_current_index(lc) + 1;
	return result;
}

static Expr *
compare(Expr *number, Oid function, int64 limit)
{
	return (Expr *) makeFuncExpr(function, BOOLOID,
								 list_make2(number, makeConst(INT8OID, -1, InvalidOid, sizeof(int64), Int64GetDatum(limit), false, FLOAT8PASSBYVAL)),
								 InvalidOid, InvalidOid, COERCE_EXPLICIT_CALL);
}

/* weir_limit_per_window returns a final view's query over deltas with LIMIT and OFFSET made conditions; raises 0A000 where they cannot be. */
Query *
weir_limit_per_window(Query *query, const char *name)
{
	bool		ties = query->limitOption == LIMIT_OPTION_WITH_TIES;
	int64		skip = constant_count(query->limitOffset, 0, name);
	int64		count = constant_count(query->limitCount, PG_INT64_MAX, name);
	Query	   *level;
	Query	   *outer;
	Expr	   *key;
	Var		   *number;
	AttrNumber	attno;
	List	   *conditions = NIL;

	if (query->limitCount == NULL && query->limitOffset == NULL)
		return query;
	if (ties && skip > 0)
		weir_refuse(name, "OFFSET together with WITH TIES is not supported.", "Number the rows with rank() and row_number() OVER (PARTITION BY window_start ORDER BY x).");
	level = level_to_number(query, name);
	key = weir_windowed_key(level, name);
	if (key == NULL)
		weir_refuse(name, "LIMIT counts for each window by itself, and no column tells the window of a row.",
					"Pass window_start and window_end on to the outermost SELECT, and group by them if it groups.");
	attno = add_number(level, key, ties);
	outer = weir_recompute_wrap(level);
	outer->targetList = list_delete_nth_cell(outer->targetList, attno - 1);
	number = makeVar(1, attno, INT8OID, -1, InvalidOid, 0);
	if (count < PG_INT64_MAX - skip)
		conditions = lappend(conditions, compare((Expr *) number, F_INT8LE, skip + count));
	if (skip > 0)
		conditions = lappend(conditions, compare(copyObject((Expr *) number), F_INT8GT, skip));
	outer->jointree->quals = conditions ? (Node *) make_ands_explicit(conditions) : NULL;
	return outer;
}
