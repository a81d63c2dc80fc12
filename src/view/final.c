/*
 * final.c
 *	  Views whose rows are inserted once, when their window closes: what they look like.
 *
 * aggregates ⇒ final ⇒ statement. The states of open windows stand in the state
 * table, merged as those of a changing view that needs one. One of its columns is the
 * window's end. The close statement takes out the rows whose window has ended by
 * weir.closing_until() and inserts what they give:
 *
 *	  WITH weir_merged AS (DELETE FROM <states> WHERE end <= weir.closing_until() RETURNING ...)
 *	  INSERT INTO v SELECT ... FROM <final over weir_merged> ORDER BY end
 *
 * When it runs, and what the two functions give, is close.c's.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/catalog.h"
#include "catalog/namespace.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_type.h"
#include "catalog/stream.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parse_func.h"
#include "parser/parse_oper.h"
#include "parser/parsetree.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "view/distinct.h"
#include "view/parts.h"
#include "view/shape.h"

/* weir_final_hidden_keys collects the group keys that stand in the select list only because GROUP BY names them. */
List *
weir_final_hidden_keys(Query *query)
{
	List	   *keys = NIL;
	ListCell   *lc;

	foreach(lc, query->targetList)
	{
		TargetEntry *tle = lfirst(lc);

		if (tle->resjunk && tle->ressortgroupref != 0 &&
			get_sortgroupref_clause_noerr(tle->ressortgroupref, query->groupClause))
			keys = lappend(keys, tle);
	}
	return keys;
}

/* weir.closed_until(), weir.closing_until() */
Expr *
weir_final_time(const char *function)
{
	Oid			funcid = LookupFuncName(list_make2(makeString(WEIR_SCHEMA), makeString(pstrdup(function))),
										0, NULL, false);

	return (Expr *) makeFuncExpr(funcid, TIMESTAMPTZOID, NIL, InvalidOid, InvalidOid, COERCE_EXPLICIT_CALL);
}

/* The window function that a column of this level comes from, through join aliases; NULL: none. */
static RangeTblEntry *
window_of(Query *query, Node *node, int *varno)
{
	for (;;)
	{
		Var		   *var = (Var *) strip_implicit_coercions(node);
		RangeTblEntry *rte;

		if (!IsA(var, Var) || var->varlevelsup != 0)
			return NULL;
		rte = rt_fetch(var->varno, query->rtable);
		if (rte->rtekind == RTE_JOIN)
		{
			node = list_nth(rte->joinaliasvars, var->varattno - 1);
			continue;
		}
		*varno = var->varno;
		return weir_is_window(rte) ? rte : NULL;
	}
}

void
weir_final_refuse_time(ViewShape *shape)
{
	weir_refuse(shape->name, "weir.emit = 'final' closes windows by the stream's event time, and this window is over something else.",
				"Give the window function the column of weir.event_time (or _timestamp where the stream has none), or leave out weir.emit.");
}

/*
 * weir_final_end returns the end of the window that a group of a final view is in, over the
 * delta; *key: number of the group key that it is, from 0, or -1. Raises 0A000 if a group is not in one window.
 */
Expr *
weir_final_end(ViewShape *shape, int *key)
{
	Expr	   *found = NULL;
	int			i = 0;
	ListCell   *lc;

	*key = -1;
	foreach(lc, shape->keys)
	{
		Node	   *expr = (Node *) lfirst_node(TargetEntry, lc)->expr;
		bool		event_time;
		AttrNumber	column = weir_trace_window(shape->query, expr, &event_time);
		RangeTblEntry *rte;
		int			varno;

		if (column != 0 && !event_time)
			weir_final_refuse_time(shape);
		if (column == 2)
		{
			*key = i;
			return (Expr *) expr;
		}
		i++;
		if (column != 1 || (rte = window_of(shape->query, expr, &varno)) == NULL || weir_is_cumulate(weir_window_call(rte)))
			continue;
		found = (Expr *) makeVar(varno, 2, exprType(expr), -1, InvalidOid, 0);
	}
	if (found == NULL)
		weir_refuse(shape->name, "weir.emit = 'final' inserts a group when its window closes, and GROUP BY names no window.",
					"Put tumble(), hop() or cumulate() beside the stream into FROM, and window_start and window_end into GROUP BY.");
	return found;
}

/* weir_final_max makes max(end), for a state that is no key. */
Expr *
weir_final_max(Expr *end)
{
	Aggref	   *agg = makeNode(Aggref);
	Oid			type = exprType((Node *) end);

	agg->aggfnoid = type == TIMESTAMPOID ? F_MAX_TIMESTAMP : F_MAX_TIMESTAMPTZ;
	agg->aggtype = type;
	agg->aggargtypes = list_make1_oid(type);
	agg->args = list_make1(makeTargetEntry(end, 1, NULL, false));
	agg->aggkind = AGGKIND_NORMAL;
	agg->aggsplit = AGGSPLIT_SIMPLE;
	agg->aggno = agg->aggtransno = -1;
	agg->location = -1;
	return (Expr *) agg;
}

/* weir_final_sort orders a final query by the end of the window, given over its FROM item. */
void
weir_final_sort(Query *final, Expr *end)
{
	TargetEntry *tle = makeTargetEntry(end, list_length(final->targetList) + 1, NULL, true);

	final->targetList = lappend(final->targetList, tle);
	final->sortClause = list_make1(weir_sort_clause(final, tle));
}

/* weir_final_close_statement returns the statement that closes windows, analysed; search_path is pinned. */
Query *
weir_final_close_statement(ViewShape *shape, Oid result, Oid state)
{
	int			ncolumns = list_length(shape->query->targetList);
	bool		zoned = exprType((Node *) shape->end) == TIMESTAMPTZOID;
	List	   *visible = list_copy_head(shape->final->targetList, ncolumns);
	const char *limit = zoned ? "weir.closing_until()" : "pg_catalog.timezone('UTC'::pg_catalog.text, weir.closing_until())";
	Query	   *query;

	query = weir_statement_parse(psprintf("WITH " WEIR_MERGED " AS (DELETE FROM %s AS t WHERE t.%s OPERATOR(pg_catalog.<=) %s RETURNING %s)%s%s\n"
										  "INSERT INTO %s AS t (%s) SELECT %s FROM %s AS " WEIR_FINAL "(%s)",
										  weir_relation_name(state),
										  quote_identifier(get_attname(state, shape->end_column, false)),
										  limit, weir_text_names("t.", weir_statement_columns(state, shape->partial->targetList)),
										  shape->distinct ? ", " : "", shape->distinct ? weir_distinct_free(shape, limit) : "",
										  weir_relation_name(result), weir_text_names("", weir_statement_columns(result, visible)),
										  weir_text_numbered(WEIR_FINAL ".", ncolumns),
										  weir_statement_placeholder(visible), weir_text_numbered("", ncolumns)));
	weir_statement_splice(query, WEIR_FINAL, copyObject(shape->final));
	return query;
}

/*
 * weir_final_closed returns a copy of a view's query over deltas that
 * gives the rows of closed windows only: those that ended by weir.closing_until().
 */
Query *
weir_final_closed(ViewShape *shape)
{
	Query	   *query = copyObject(shape->query);
	ListCell   *lc;

	foreach(lc, shape->hidden_keys)
	{
		TargetEntry *tle = copyObject(lfirst_node(TargetEntry, lc));

		tle->resno = list_length(query->targetList) + 1;
		query->targetList = lappend(query->targetList, tle);
	}
	weir_late_only_closed(query);
	return query;
}
