/*
 * check.c
 *	  What a continuous view's query must not contain.
 *
 * define ⇒ check ⇒ rewrite. A query can be kept if it is linear in its
 * streams below its one level of grouping: the result for old and new rows
 * together is the merge of both results. So a stream may be filtered,
 * projected, joined with tables on the side that keeps its rows,
 * united with other streams, and joined with them (join.c); each thing beyond that is refused here, by name,
 * with what to write instead. Runs at CREATE, and again whenever a backend
 * builds the maintenance statement, because an ordinary view below may have
 * been replaced.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/catalog.h"
#include "catalog/dependency.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_class.h"
#include "catalog/pg_proc.h"
#include "catalog/stream.h"
#include "delta/delta.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "optimizer/tlist.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteHandler.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/regproc.h"
#include "view/distinct.h"
#include "view/session.h"
#include "view/shape.h"
#include "view/upstream.h"
#include "view/window.h"

#define MAX_WINDOWS_PER_ROW	1000000		/* a row of each group that a batch touches is written for each of them */

static void check_query(Query *query, const char *name, bool top, CheckMode mode);

void
weir_refuse(const char *name, const char *detail, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("view \"%s\" cannot be maintained incrementally", name),
			 errdetail_internal("%s", detail),
			 hint ? errhint("%s", hint) : 0));
}

/* Does an ordinary view read a stream, directly or through other views? */
static bool
view_has_stream(Oid relid)
{
	Relation	rel = table_open(relid, AccessShareLock);
	bool		found = weir_query_has_stream((Node *) get_view_query(rel));

	table_close(rel, NoLock);
	return found;
}

static bool
rte_has_stream(RangeTblEntry *rte)
{
	View	   *view;

	if (rte->rtekind == RTE_NAMEDTUPLESTORE)	/* the delta of a view */
		return strncmp(rte->enrname, WEIR_DELTA_PREFIX, strlen(WEIR_DELTA_PREFIX)) == 0;
	if (rte->rtekind != RTE_RELATION || !rte->inFromCl)
		return false;			/* OLD and NEW of a stored view are not in its FROM */
	if (weir_view_relkind(rte->relkind))
	{
		view = weir_view_get(rte->relid);
		return view ? weir_view_is_inlined(view) && view->streams != NIL : weir_stream_get(rte->relid) != NULL;
	}
	return rte->relkind == RELKIND_VIEW && view_has_stream(rte->relid);
}

static bool
has_stream_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, RangeTblEntry))
		return rte_has_stream((RangeTblEntry *) node);
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, has_stream_walker, context,
								 QTW_EXAMINE_RTES_BEFORE);
	return expression_tree_walker(node, has_stream_walker, context);
}

/* weir_query_has_stream tells whether a query or expression reads a stream, at any depth. */
bool
weir_query_has_stream(Node *node)
{
	check_stack_depth();
	return has_stream_walker(node, NULL);
}

static CommonTableExpr *
find_cte(Query *query, RangeTblEntry *rte)
{
	ListCell   *lc;

	if (rte->ctelevelsup != 0)
		return NULL;
	foreach(lc, query->cteList)
	{
		CommonTableExpr *cte = lfirst(lc);

		if (strcmp(cte->ctename, rte->ctename) == 0)
			return cte;
	}
	return NULL;
}

/* Does this FROM item stand for rows of a stream? */
static bool
item_has_stream(Query *query, RangeTblEntry *rte, const char *name)
{
	switch (rte->rtekind)
	{
		case RTE_RELATION:
		case RTE_NAMEDTUPLESTORE:
			return rte_has_stream(rte);
		case RTE_SUBQUERY:
			return weir_query_has_stream((Node *) rte->subquery);
		case RTE_CTE:
			{
				CommonTableExpr *cte = find_cte(query, rte);

				return cte != NULL && weir_query_has_stream(cte->ctequery);
			}
		default:
			return false;
	}
}

static void
check_stream_item(RangeTblEntry *rte, const char *name)
{
	const char *stream = rte->eref->aliasname;

	if (rte->rtekind != RTE_RELATION)
		return;
	if (rte->tablesample)
		weir_refuse(name, psprintf("TABLESAMPLE over the stream \"%s\" is not supported.", stream),
					"Filter in WHERE instead, for example by a hash of a column.");
	if (!rte->inh)
		weir_refuse(name, psprintf("ONLY before the stream \"%s\" is not supported: its rows stand in child tables.", stream),
					"Leave out ONLY.");
}

static void
check_outer_join(JoinExpr *join, bool left, bool right, const char *name)
{
	if (left && right)
		return;					/* join.c */
	if (join->jointype == JOIN_FULL && (left || right))
		weir_refuse(name, "FULL JOIN with a stream: rows of the table without a match would have to go when a match arrives.",
					"Use a LEFT JOIN with the stream on the left side.");
	if ((join->jointype == JOIN_LEFT && right) || (join->jointype == JOIN_RIGHT && left))
		weir_refuse(name, psprintf("The stream is on the nullable side of a %s JOIN: rows of the table without a match would have to go when a match arrives.",
								   join->jointype == JOIN_LEFT ? "LEFT" : "RIGHT"),
					"Put the stream on the side whose rows are all kept, or use an inner join.");
}

/*
 * check_from tells whether a FROM node holds a stream. Refuses outer joins
 * that invent rows without a stream's.
 */
static bool
check_from(Query *query, Node *node, const char *name)
{
	bool		left;
	bool		right;
	JoinExpr   *join;

	if (IsA(node, RangeTblRef))
	{
		RangeTblEntry *rte = rt_fetch(((RangeTblRef *) node)->rtindex, query->rtable);

		if (!item_has_stream(query, rte, name))
			return false;
		check_stream_item(rte, name);
		return true;
	}
	if (IsA(node, FromExpr))
	{
		ListCell   *lc;
		bool		found = false;

		foreach(lc, ((FromExpr *) node)->fromlist)
		{
			if (check_from(query, lfirst(lc), name))
				found = true;
		}
		return found;
	}
	join = castNode(JoinExpr, node);
	left = check_from(query, join->larg, name);
	right = check_from(query, join->rarg, name);
	check_outer_join(join, left, right, name);
	return left || right;
}

static const char *
set_operation_name(SetOperationStmt *op)
{
	switch (op->op)
	{
		case SETOP_UNION:
			return "UNION without ALL";
		case SETOP_INTERSECT:
			return "INTERSECT";
		default:
			return "EXCEPT";
	}
}

/* Only UNION ALL, and every arm a query over a stream. */
static void
check_set_operation(Query *query, Node *node, const char *name, CheckMode mode)
{
	SetOperationStmt *op;

	if (IsA(node, RangeTblRef))
	{
		RangeTblEntry *rte = rt_fetch(((RangeTblRef *) node)->rtindex, query->rtable);

		if (!weir_query_has_stream((Node *) rte->subquery))
			weir_refuse(name, "UNION ALL of a stream with a query that reads no stream: its rows would count again with every batch.",
						"Unite streams only, and add the other rows where the view is read.");
		check_query(rte->subquery, name, false, mode == CHECK_WINDOWED ? mode : CHECK_MERGES);
		return;
	}
	op = castNode(SetOperationStmt, node);
	if (mode != CHECK_WINDOWED && (op->op != SETOP_UNION || !op->all))
		weir_refuse(name, psprintf("%s over a stream is not supported.", set_operation_name(op)),
					op->op == SETOP_UNION ? "Use UNION ALL of streams in a sub-select, and SELECT DISTINCT above it." :
					"Make each side a continuous view with GROUP BY or DISTINCT, and this one a view over both.");
	check_set_operation(query, op->larg, name, mode);
	check_set_operation(query, op->rarg, name, mode);
}

/* Clauses that no level with a stream may have. */
static void
check_clauses(Query *query, const char *name, CheckMode mode)
{
	if ((query->limitCount || query->limitOffset) && mode != CHECK_WINDOWED)
		weir_refuse(name, "LIMIT and OFFSET over a stream are not supported.",
					"Keep all groups, and put ORDER BY ... LIMIT where the view is read.");
	if (query->rowMarks)
		weir_refuse(name, "FOR UPDATE and FOR SHARE are not supported.", "Leave out the locking clause.");
	if (mode != CHECK_MERGES)
		return;
	if (query->hasDistinctOn)
		weir_refuse(name, "DISTINCT ON over a stream is not supported.",
					"Group by the key, with min() or max() for the other columns.");
	if (query->distinctClause)
		weir_refuse(name, "SELECT DISTINCT over a stream is not supported.",
					"Use GROUP BY over the same columns.");
	if (query->groupingSets)
		weir_refuse(name, "GROUPING SETS, ROLLUP and CUBE are not supported.",
					"Create one continuous view for each set of columns.");
	if (query->havingQual && !query->hasAggs && query->groupClause == NIL)
		weir_refuse(name, "HAVING without GROUP BY and aggregates is not supported.", "Use WHERE.");
	if (query->hasWindowFuncs)
		weir_refuse(name, "Window functions (OVER) over a stream are not supported.",
					"Keep the aggregates, and use OVER where the view is read.");
}

static bool
sublink_walker(Node *node, void *name)
{
	if (node == NULL)
		return false;
	if (IsA(node, SubLink) && weir_query_has_stream(((SubLink *) node)->subselect))
		weir_refuse(name, "A sub-select in an expression (EXISTS, IN, scalar) reads a stream.",
					"Join in FROM; sub-selects in expressions may read ordinary tables.");
	if (IsA(node, Query))
		return false;			/* levels with a stream are checked one by one */
	return expression_tree_walker(node, sublink_walker, name);
}

static void
check_ctes(Query *query, const char *name, CheckMode mode)
{
	ListCell   *lc;

	foreach(lc, query->cteList)
	{
		CommonTableExpr *cte = lfirst(lc);

		if (strncmp(cte->ctename, "weir_", 5) == 0)
			weir_refuse(name, psprintf("The common table expression \"%s\" has a name that weir uses itself.", cte->ctename),
						"Rename it: names that begin with weir_ are taken.");
		if (!weir_query_has_stream(cte->ctequery))
			continue;
		if (cte->cterecursive)
			weir_refuse(name, psprintf("The recursive common table expression \"%s\" reads a stream.", cte->ctename),
						"Recursion may read ordinary tables only.");
		check_query(castNode(Query, cte->ctequery), name, false, mode);
	}
}

static void
check_grouping(Query *query, const char *name, bool top)
{
	if (!query->hasAggs && query->groupClause == NIL)
		return;
	if (!top)
		weir_refuse(name, "A sub-select, common table expression or view over a stream has GROUP BY or aggregates.",
					"Aggregate in the outermost SELECT only, or make a second continuous view.");
	if (query->hasTargetSRFs)
		weir_refuse(name, "The select list of a grouped view calls a set-returning function.",
					"Call it in FROM, for example CROSS JOIN LATERAL unnest(...).");
}

/* Rows of a view that change are found by their keys. Finals never change. */
static void
check_shown_keys(Query *query, const char *name)
{
	ListCell   *lc;

	foreach(lc, query->targetList)
	{
		TargetEntry *tle = lfirst(lc);

		if (tle->resjunk && tle->ressortgroupref != 0 &&
			get_sortgroupref_clause_noerr(tle->ressortgroupref, query->groupClause))
			weir_refuse(name, "An expression of GROUP BY is missing in the select list: the groups could not be told apart.",
						"Add every GROUP BY expression to the select list.");
	}
}

/* One level; nothing to say about levels that read no stream. */
static void
check_query(Query *query, const char *name, bool top, CheckMode mode)
{
	ListCell   *lc;

	if (!weir_query_has_stream((Node *) query))
		return;
	check_stack_depth();
	check_clauses(query, name, mode);
	check_ctes(query, name, mode);
	if (query->setOperations)
	{
		check_set_operation(query, query->setOperations, name, mode);
		return;
	}
	check_grouping(query, name, top || mode != CHECK_MERGES);
	(void) query_tree_walker(query, sublink_walker, (void *) name,
							 QTW_IGNORE_RT_SUBQUERIES | QTW_IGNORE_CTE_SUBQUERIES);
	if (!check_from(query, (Node *) query->jointree, name))
		weir_refuse(name, "The stream is read in a part of the query whose rows do not come from FROM.",
					"Put the stream into FROM of the outermost SELECT.");
	foreach(lc, query->rtable)
	{
		RangeTblEntry *rte = lfirst(lc);

		if (rte->rtekind == RTE_SUBQUERY)
			check_query(rte->subquery, name, false, mode);
	}
}

/* --- expressions, at every level ----------------------------------------- */

static bool
is_now_function(Oid funcid)
{
	switch (funcid)
	{
		case F_NOW:
		case F_TRANSACTION_TIMESTAMP:
		case F_STATEMENT_TIMESTAMP:
		case F_CLOCK_TIMESTAMP:
		case F_TIMEOFDAY:
		case F_AGE_TIMESTAMPTZ:
		case F_AGE_TIMESTAMP:
			return true;
		default:
			return false;
	}
}

static void
refuse_now(const char *name, const char *what)
{
	weir_refuse(name, psprintf("%s depends on the time at which the view is maintained.", what),
				"Use event time: a column of the stream. Old results go by weir.keep.");
}

static bool
check_function(Oid funcid, void *name)
{
	if (is_now_function(funcid))
		refuse_now(name, psprintf("Function %s", format_procedure(funcid)));
	if (func_volatile(funcid) == PROVOLATILE_VOLATILE)
		weir_refuse(name, psprintf("Function %s is volatile: it gives another result each time.", format_procedure(funcid)),
					"Declare the function IMMUTABLE or STABLE if that is what it is.");
	return false;
}

static const char *
sql_value_name(SQLValueFunctionOp op)
{
	switch (op)
	{
		case SVFOP_CURRENT_DATE:
			return "CURRENT_DATE";
		case SVFOP_CURRENT_TIME:
		case SVFOP_CURRENT_TIME_N:
			return "CURRENT_TIME";
		case SVFOP_CURRENT_TIMESTAMP:
		case SVFOP_CURRENT_TIMESTAMP_N:
			return "CURRENT_TIMESTAMP";
		case SVFOP_LOCALTIME:
		case SVFOP_LOCALTIME_N:
			return "LOCALTIME";
		case SVFOP_LOCALTIMESTAMP:
		case SVFOP_LOCALTIMESTAMP_N:
			return "LOCALTIMESTAMP";
		default:
			return NULL;
	}
}

static void
check_aggregate(Aggref *agg, const char *name)
{
	char	   *func = get_func_name(agg->aggfnoid);

	if (agg->aggkind != AGGKIND_NORMAL)
		weir_refuse(name, psprintf("%s(...) WITHIN GROUP needs all rows of a group.", func),
					"Use aggregates that can be merged: count, sum, avg, min, max, stddev ...");
	if (agg->aggdistinct && !weir_distinct_kept(agg))
		weir_refuse(name, psprintf("%s(DISTINCT ...) needs all rows of a group.", func),
					"Add the column to GROUP BY and count where the view is read, or use an approximate count (hll).");
	if (agg->aggorder)
		weir_refuse(name, psprintf("%s(... ORDER BY ...) needs all rows of a group.", func),
					"Leave out ORDER BY inside the aggregate.");
}

typedef struct ExpressionCheck
{
	const char *name;
	List	   *levels;			/* of Query, innermost first */
	bool		recompute;		/* any aggregate will do */
} ExpressionCheck;

/* System columns of kept rows (ctid, xmin ...) mean nothing in a delta. */
static void
check_var(Var *var, ExpressionCheck *check)
{
	Query	   *query;
	RangeTblEntry *rte;

	if (var->varattno >= 0 || var->varlevelsup >= list_length(check->levels))
		return;
	query = list_nth(check->levels, var->varlevelsup);
	rte = rt_fetch(var->varno, query->rtable);
	if (rte_has_stream(rte) || rte->rtekind == RTE_SUBQUERY)
		weir_refuse(check->name, psprintf("System columns of the stream \"%s\" are not supported.", rte->eref->aliasname),
					"Use columns such as _partition and _offset for what identifies a message.");
}

/* Sizes, origin and time zone of a window that are constants are tried out, so that not every new row raises their error. */
static void
check_window(FuncExpr *call, const char *name)
{
	char	   *function = get_func_name(call->funcid);
	Datum		args[WEIR_WINDOW_ARGS] = {0};
	Oid			last = InvalidOid;
	int			i = 0;
	ListCell   *lc;

	if ((strcmp(function, "tumble") != 0 && strcmp(function, "hop") != 0 && strcmp(function, "cumulate") != 0) ||
		getExtensionOfObject(ProcedureRelationId, call->funcid) != weir_extension_oid())
		return;
	foreach(lc, ((FuncExpr *) eval_const_expressions(NULL, copyObject((Node *) call)))->args)
	{
		Const	   *arg = lfirst(lc);

		last = exprType((Node *) arg);
		if (i++ == 0)
			continue;			/* the time */
		if (!IsA(arg, Const) || arg->constisnull)
			return;
		args[i - 1] = arg->constvalue;
	}
	if (weir_window_try(function, args, i, last) > MAX_WINDOWS_PER_ROW)
		weir_refuse(name, psprintf("%s() with these sizes has each row in more than %d windows.", function, MAX_WINDOWS_PER_ROW),
					"Choose a longer step.");
}

static bool
expression_walker(Node *node, ExpressionCheck *check)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
	{
		bool		result;

		check->levels = lcons(node, check->levels);
		result = query_tree_walker((Query *) node, expression_walker, check, 0);
		check->levels = list_delete_first(check->levels);
		return result;
	}
	if (IsA(node, Var))
		check_var((Var *) node, check);
	if (IsA(node, Aggref) && !check->recompute && weir_query_has_stream(linitial(check->levels)))
		check_aggregate((Aggref *) node, check->name);
	if (IsA(node, SQLValueFunction))
	{
		const char *what = sql_value_name(((SQLValueFunction *) node)->op);

		if (what)
			refuse_now(check->name, what);
	}
	if (IsA(node, FuncExpr))
		check_window((FuncExpr *) node, check->name);
	if (IsA(node, NextValueExpr))
		weir_refuse(check->name, "nextval gives another result each time.", NULL);
	(void) check_functions_in_node(node, check_function, (void *) check->name);
	return expression_tree_walker(node, expression_walker, check);
}

/*
 * weir_check_query raises 0A000, naming the clause, unless the query can be
 * kept incrementally. Its views over streams are expanded already; how
 * aggregates merge is judged in aggregates.c.
 */
void
weir_check_query(Query *query, const char *name, bool final, CheckMode mode)
{
	ExpressionCheck check = {name, NIL, mode != CHECK_MERGES || weir_session_level(query)};
	Node	   *having = query->havingQual;

	if (!weir_query_has_stream((Node *) query))
		weir_refuse(name, "The query reads no stream.",
					"Use an ordinary materialized view, or make the table a stream with weir.stream or weir.topic.");
	if (final)
	{
		/* it is asked once, when the group's window closes */
		(void) sublink_walker(having, (void *) name);
		query->havingQual = NULL;
	}
	else if (mode == CHECK_MERGES)
		check_shown_keys(query, name);
	check_query(query, name, true, mode);
	query->havingQual = having;
	(void) expression_walker((Node *) query, &check);
}

/* weir_check_expressions does so for a query over views that change: whatever else it may be, its result must be the same each time. */
void
weir_check_expressions(Query *query, const char *name)
{
	ExpressionCheck check = {name, NIL, true};

	(void) expression_walker((Node *) query, &check);
}

/* Range tables around the expression at hand, the innermost first. */
typedef struct WholeRows
{
	const char *name;
	List	   *rtables;		/* of List */
} WholeRows;

static bool
whole_rows_walker(Node *node, WholeRows *rows)
{
	Var		   *var = (Var *) node;
	RangeTblEntry *rte;

	if (node == NULL)
		return false;
	if (IsA(node, Query))
	{
		check_stack_depth();
		rows->rtables = lcons(((Query *) node)->rtable, rows->rtables);
		(void) query_tree_walker((Query *) node, whole_rows_walker, rows, 0);
		rows->rtables = list_delete_first(rows->rtables);
		return false;
	}
	if (!IsA(var, Var) || var->varattno != InvalidAttrNumber || var->varlevelsup >= list_length(rows->rtables))
		return expression_tree_walker(node, whole_rows_walker, rows);
	rte = rt_fetch(var->varno, (List *) list_nth(rows->rtables, var->varlevelsup));
	if (rte->rtekind == RTE_SUBQUERY && rte->eref->colnames != NIL &&
		strncmp(strVal(llast(rte->eref->colnames)), WEIR_HIDDEN_PREFIX, strlen(WEIR_HIDDEN_PREFIX)) == 0)
		weir_refuse(rows->name, psprintf("The whole row of \"%s\" is used as a value, in a query that has to know when and where its rows came from.", rte->eref->aliasname),
					psprintf("Name the columns: ROW(%s.a, %s.b), or to_jsonb() of a row of them.", rte->eref->aliasname, rte->eref->aliasname));
	return false;
}

/* weir_check_whole_rows raises 0A000 for values that are whole rows of FROM items with hidden columns: these would be in them. */
void
weir_check_whole_rows(Query *query, const char *name)
{
	WholeRows	rows = {name, NIL};

	(void) whole_rows_walker((Node *) query, &rows);
}
