/*
 * late.c
 *	  Rows that come too late for their window do not count.
 *
 * rewrite ⇒ late ⇒ aggregates. A row is late if its window ended at least
 * weir.lateness before the stream time that the row itself saw (a hidden
 * column of the delta), so the answer depends on the partition's contents alone. With weir.keep,
 * a row is also late for a window that has expired by then.
 *
 * Every level of the query that calls a window function beside a stream gets the
 * condition; the hidden column is passed up to that level through sub-selects,
 * common table expressions and the arms of UNION ALL. The late query, which
 * finds the rows left out, is made from the outermost level.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "catalog/stream.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parsetree.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/timestamp.h"
#include "view/join.h"
#include "view/parts.h"
#include "view/shape.h"
#include "view/upstream.h"

/* Computed columns of a delta that are passed up, besides the hidden ones. */
#define COL_DEADLINE	"__weir_deadline"	/* windows that ended by then are over for this row */
#define COL_EXPIRED		"__weir_expired"	/* rows of the view up to then are no longer kept for this row */
#define COL_UNKEPT		"__weir_unkept"		/* nor are rows of the stream */
#define FOR_EVER		4000				/* years: a longer span would reach behind the beginning of the calendar */

static AttrNumber expose_in_query(Query *query, const char *column, LateRule *rule);

/* --- passing hidden columns up ---------------------------------------------------- */

static bool
delta_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, RangeTblEntry))
		return ((RangeTblEntry *) node)->rtekind == RTE_NAMEDTUPLESTORE;
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, delta_walker, context, QTW_EXAMINE_RTES_BEFORE);
	return expression_tree_walker(node, delta_walker, context);
}

/* Does a query or expression read a delta, at any depth? */
bool
weir_query_has_delta(Node *node)
{
	return delta_walker(node, NULL);
}

static CommonTableExpr *
cte_of(Query *query, RangeTblEntry *rte)
{
	ListCell   *lc;

	foreach(lc, query->cteList)
	{
		CommonTableExpr *cte = lfirst(lc);

		if (rte->ctelevelsup == 0 && strcmp(cte->ctename, rte->ctename) == 0)
			return cte;
	}
	return NULL;
}

/* The query behind a FROM item that stands for rows of a stream, or NULL. */
static Query *
stream_query(Query *query, RangeTblEntry *rte)
{
	Query	   *below = NULL;

	if (rte->rtekind == RTE_SUBQUERY)
		below = rte->subquery;
	else if (rte->rtekind == RTE_CTE)
	{
		CommonTableExpr *cte = cte_of(query, rte);

		below = cte ? (Query *) cte->ctequery : NULL;
	}
	return below && weir_query_has_delta((Node *) below) ? below : NULL;
}

/* Number of the one FROM item of a level that stands for a stream's rows; 0: none. */
static int
stream_item(Query *query)
{
	int			i = 0;
	ListCell   *lc;

	foreach(lc, query->rtable)
	{
		i++;
		if (stream_query(query, lfirst(lc)))
			return i;
	}
	return 0;
}

static Oid
hidden_type(const char *column)
{
	if (strcmp(column, WEIR_COL_PARTITION) == 0)
		return INT4OID;
	if (strcmp(column, WEIR_COL_OFFSET) == 0)
		return INT8OID;
	return TIMESTAMPTZOID;
}

static void
extend_cte(CommonTableExpr *cte, const char *column, int natts)
{
	Oid			type = hidden_type(column);

	if (list_length(cte->ctecolnames) >= natts)
		return;
	cte->ctecolnames = lappend(cte->ctecolnames, makeString(pstrdup(column)));
	cte->ctecoltypes = lappend_oid(cte->ctecoltypes, type);
	cte->ctecoltypmods = lappend_int(cte->ctecoltypmods, -1);
	cte->ctecolcollations = lappend_oid(cte->ctecolcollations, InvalidOid);
}

static void
extend_rte(RangeTblEntry *rte, const char *column, int natts)
{
	if (list_length(rte->eref->colnames) >= natts)
		return;
	rte->eref->colnames = lappend(rte->eref->colnames, makeString(pstrdup(column)));
	if (rte->alias && rte->alias->colnames)
		rte->alias->colnames = lappend(rte->alias->colnames, makeString(pstrdup(column)));
	if (rte->rtekind != RTE_CTE)
		return;
	rte->coltypes = lappend_oid(rte->coltypes, hidden_type(column));
	rte->coltypmods = lappend_int(rte->coltypmods, -1);
	rte->colcollations = lappend_oid(rte->colcollations, InvalidOid);
}

/* A hidden column of one FROM item of this level, as a Var. */
static Expr *
expose_item(Query *query, int rtindex, const char *column, LateRule *rule)
{
	RangeTblEntry *rte = rt_fetch(rtindex, query->rtable);
	AttrNumber	attno = expose_in_query(stream_query(query, rte), column, rule);

	if (rte->rtekind == RTE_CTE)
		extend_cte(cte_of(query, rte), column, attno);
	extend_rte(rte, column, attno);
	return (Expr *) makeVar(rtindex, attno, hidden_type(column), -1, InvalidOid, 0);
}

/* The same of the one that stands for a stream's rows. */
static Expr *
expose(Query *query, const char *column, LateRule *rule)
{
	return expose_item(query, stream_item(query), column, rule);
}

/* weir_late_expose passes a hidden column of the deltas up to a level, as a Var there. */
Expr *
weir_late_expose(Query *query, const char *column)
{
	LateRule	none = {0};

	return expose(query, column, &none);
}

/* weir_late_expose_in does so in the select list of a FROM item (its sub-select, and its entry); returns its number. */
AttrNumber
weir_late_expose_in(Query *query, const char *column, RangeTblEntry *rte)
{
	LateRule	none = {0};
	AttrNumber	attno = expose_in_query(query, column, &none);

	extend_rte(rte, column, attno);
	return attno;
}

/* minus_interval: a time less a span; NULL, nothing is that late, where there is none or it is for ever */
static Expr *
minus_interval(Expr *time, Interval *span)
{
	Interval   *length = palloc0(sizeof(Interval));

	if (span == NULL || span->month / MONTHS_PER_YEAR + span->day / DAYS_PER_YEAR > FOR_EVER)
		return (Expr *) makeNullConst(TIMESTAMPTZOID, -1, InvalidOid);
	length->time = weir_span_length(span);
	return make_opclause(OpernameGetOprid(list_make2(makeString("pg_catalog"), makeString("-")),
										  TIMESTAMPTZOID, INTERVALOID),
						 TIMESTAMPTZOID, false, time,
						 (Expr *) makeConst(INTERVALOID, -1, InvalidOid, sizeof(Interval),
											IntervalPGetDatum(length), false, false),
						 InvalidOid, InvalidOid);
}

/* NULL: rows of this stream are never late. */
static Interval *
lateness_of(Stream *stream, LateRule *rule)
{
	Interval   *result = palloc0(sizeof(Interval));

	if (rule->lateness)
		*result = *rule->lateness;
	else if (stream->lateness)
		*result = *stream->lateness;
	else if (!rule->final)
		return NULL;
	result->time += rule->shift;
	return result;
}

static Expr *
delta_time(RangeTblEntry *rte, int rtindex, const char *column, LateRule *rule)
{
	const char *source = column;
	Stream	   *stream = weir_source_get(weir_delta_stream(rte));
	int			i = 0;
	ListCell   *lc;
	Expr	   *var = NULL;

	if (strcmp(column, COL_DEADLINE) == 0 || strcmp(column, COL_EXPIRED) == 0 ||
		strcmp(column, COL_UNKEPT) == 0)
		source = WEIR_COL_STREAM_TIME;
	foreach(lc, rte->eref->colnames)
	{
		i++;
		if (strcmp(strVal(lfirst(lc)), source) == 0)
			var = (Expr *) makeVar(rtindex, i, hidden_type(source), -1, InvalidOid, 0);
	}
	if (var == NULL)
		elog(ERROR, "delta \"%s\" has no column \"%s\"", rte->enrname, source);
	if (strcmp(column, COL_DEADLINE) == 0)
		return minus_interval(var, lateness_of(stream, rule));
	if (strcmp(column, COL_EXPIRED) == 0)
		return minus_interval(var, rule->keep);
	if (strcmp(column, COL_UNKEPT) == 0)
		return minus_interval(var, stream->keep);
	return var;
}

/* A hidden or computed column in the query that reads the delta itself. */
static Expr *
delta_column(RangeTblEntry *rte, int rtindex, const char *column, LateRule *rule)
{
	return strcmp(column, WEIR_COL_FOUND) == 0 ? weir_join_found_closed(rte, rtindex) :
		delta_time(rte, rtindex, column, rule);
}

static void
extend_set_operation(Node *node, Oid type)
{
	SetOperationStmt *op = (SetOperationStmt *) node;

	if (!IsA(op, SetOperationStmt))
		return;
	op->colTypes = lappend_oid(op->colTypes, type);
	op->colTypmods = lappend_int(op->colTypmods, -1);
	op->colCollations = lappend_oid(op->colCollations, InvalidOid);
	extend_set_operation(op->larg, type);
	extend_set_operation(op->rarg, type);
}

/* The same column in every arm of UNION ALL; all arms have as many columns. */
static Expr *
expose_in_arms(Query *query, const char *column, LateRule *rule)
{
	AttrNumber	attno = 0;
	int			first = 0;
	int			i = 0;
	ListCell   *lc;

	foreach(lc, query->rtable)
	{
		RangeTblEntry *rte = lfirst(lc);

		i++;
		if (rte->rtekind != RTE_SUBQUERY)
			continue;
		attno = expose_in_query(rte->subquery, column, rule);
		extend_rte(rte, column, attno);
		if (first == 0)
			first = i;
	}
	extend_set_operation(query->setOperations, hidden_type(column));
	return (Expr *) makeVar(first, attno, hidden_type(column), -1, InvalidOid, 0);
}

/* ORDER BY of a level without LIMIT says nothing; its hidden targets would stand in the way. */
static void
drop_order(Query *query)
{
	List	   *targets = NIL;
	ListCell   *lc;

	query->sortClause = NIL;
	foreach(lc, query->targetList)
	{
		if (!lfirst_node(TargetEntry, lc)->resjunk)
			targets = lappend(targets, lfirst(lc));
	}
	query->targetList = targets;
}

/* What the rows of a level found closed: the furthest of all FROM items that stand for a stream's rows. */
static Expr *
expose_found(Query *query)
{
	LateRule	none = {0};
	List	   *founds = NIL;
	int			i = 0;
	ListCell   *lc;

	foreach(lc, query->rtable)
	{
		i++;
		if (stream_query(query, lfirst(lc)))
			founds = lappend(founds, expose_item(query, i, WEIR_COL_FOUND, &none));
	}
	return list_length(founds) == 1 ? linitial(founds) : weir_time_extreme(IS_GREATEST, founds);
}

/* Adds a column to a level's select list, unless it is there; returns its number. */
static AttrNumber
expose_in_query(Query *query, const char *column, LateRule *rule)
{
	ListCell   *lc;
	int			i = 0;
	Expr	   *expr = NULL;

	check_stack_depth();
	foreach(lc, query->targetList)
	{
		TargetEntry *tle = lfirst(lc);

		if (tle->resname && strcmp(tle->resname, column) == 0)
			return tle->resno;
	}
	drop_order(query);
	foreach(lc, query->rtable)
	{
		RangeTblEntry *rte = lfirst(lc);

		i++;
		if (rte->rtekind == RTE_NAMEDTUPLESTORE)
			expr = delta_column(rte, i, column, rule);
	}
	if (expr == NULL && query->setOperations)
		expr = expose_in_arms(query, column, rule);
	if (expr == NULL)
		expr = strcmp(column, WEIR_COL_FOUND) == 0 ? expose_found(query) : expose(query, column, rule);
	query->targetList = lappend(query->targetList,
								makeTargetEntry(expr, list_length(query->targetList) + 1,
												pstrdup(column), false));
	return list_length(query->targetList);
}

/* --- the condition --------------------------------------------------------------------- */

/* window <= limit, for a column of a window function, which may be a timestamp in UTC */
static Expr *
window_until(RangeTblEntry *rte, int rtindex, AttrNumber attno, Expr *limit)
{
	Oid			type = exprType(linitial(weir_window_call(rte)->args));
	Expr	   *window = weir_as_timestamptz((Expr *) makeVar(rtindex, attno, type, -1, InvalidOid, 0));

	return make_opclause(OpernameGetOprid(list_make2(makeString("pg_catalog"), makeString("<=")),
										  TIMESTAMPTZOID, TIMESTAMPTZOID),
						 BOOLOID, false, window, limit, InvalidOid, InvalidOid);
}

/*
 * past_deadline: has the window ended lateness before the row? A row of the
 * newest event time so far is in a window of tumble() that goes on, so for most
 * rows the window itself need not be computed here.
 */
static Expr *
past_deadline(Query *query, int rtindex, int item, LateRule *rule)
{
	RangeTblEntry *rte = rt_fetch(rtindex, query->rtable);
	FuncExpr   *call = weir_window_call(rte);
	Expr	   *late = window_until(rte, rtindex, 2, expose_item(query, item, COL_DEADLINE, rule));
	Expr	   *older;

	if (!weir_is_tumble(rte) || !weir_is_event_time(query, linitial(call->args)))
		return late;
	older = make_opclause(OpernameGetOprid(list_make2(makeString("pg_catalog"), makeString("<")),
										   TIMESTAMPTZOID, TIMESTAMPTZOID),
						  BOOLOID, false, expose_item(query, item, WEIR_COL_EVENT_TIME, rule),
						  expose_item(query, item, WEIR_COL_STREAM_TIME, rule), InvalidOid, InvalidOid);
	return makeBoolExpr(AND_EXPR, list_make2(older, late), -1);
}

/* weir_late_condition: is a row of an item late for the window of another FROM item? */
Expr *
weir_late_condition(Query *query, int rtindex, int item, LateRule *rule)
{
	RangeTblEntry *rte = rt_fetch(rtindex, query->rtable);
	List	   *terms = NIL;

	if (rule->final)
		terms = lappend(terms, window_until(rte, rtindex, 2, weir_final_time("closed_until")));
	if (rule->has_lateness)
		terms = lappend(terms, past_deadline(query, rtindex, item, rule));
	if (rule->keep && rule->keep_attno != 0)
		terms = lappend(terms, window_until(rte, rtindex, rule->keep_attno,
											expose_item(query, item, COL_EXPIRED, rule)));
	if (rule->kept)
		terms = lappend(terms, window_until(rte, rtindex, 1, expose_item(query, item, COL_UNKEPT, rule)));
	return list_length(terms) == 1 ? linitial(terms) : makeBoolExpr(OR_EXPR, terms, -1);
}

/* Are the rows of a level those of a join of streams, here or in plain sub-selects below? What is late is judged there. */
static bool
joins_below(Query *query)
{
	int			rtindex;
	Query	   *below;

	check_stack_depth();
	if (query->setOperations)
		return false;
	if (weir_join_level(query))
		return true;
	rtindex = stream_item(query);
	below = rtindex > 0 ? stream_query(query, rt_fetch(rtindex, query->rtable)) : NULL;
	return below != NULL && joins_below(below);
}

/*
 * Late conditions of one level: one per window function beside a stream. Beside a join of streams rows are late by
 * the join's own rule (join.c), and there only what is closed is left out here.
 */
static List *
late_conditions(Query *query, LateRule *rule)
{
	List	   *result = NIL;
	int			n = list_length(query->rtable);

	bool		joins = joins_below(query);

	if (query->setOperations || stream_item(query) == 0 || (joins && !rule->final))
		return NIL;
	for (int i = 1; i <= n; i++)
	{
		RangeTblEntry *rte = rt_fetch(i, query->rtable);

		if (weir_is_window(rte))
			result = lappend(result, joins ? window_until(rte, i, 2, weir_final_time("closed_until")) :
							 weir_late_condition(query, i, stream_item(query), rule));
	}
	return result;
}

/* weir_late_only_closed leaves out the windows that end after weir.closing_until(), at every level, in place. */
void
weir_late_only_closed(Query *query)
{
	int			n = list_length(query->rtable);
	ListCell   *lc;

	check_stack_depth();
	for (int i = 1; i <= n; i++)
	{
		RangeTblEntry *rte = rt_fetch(i, query->rtable);

		if (query->setOperations == NULL && weir_is_window(rte))
			weir_add_where(query, window_until(rte, i, 2, weir_final_time("closing_until")));
		if (rte->rtekind == RTE_SUBQUERY && weir_query_has_delta((Node *) rte->subquery))
			weir_late_only_closed(rte->subquery);
	}
	foreach(lc, query->cteList)
	{
		CommonTableExpr *cte = lfirst(lc);

		if (weir_query_has_delta(cte->ctequery))
			weir_late_only_closed((Query *) cte->ctequery);
	}
}

/*
 * weir_late_only_found_open leaves out, at every level, in place, what was in a window that one of its rows found
 * closed (behind.c): for verify, of views that join streams.
 */
void
weir_late_only_found_open(Query *query)
{
	int			n = list_length(query->rtable);
	ListCell   *lc;

	check_stack_depth();
	for (int i = 1; i <= n; i++)
	{
		RangeTblEntry *rte = rt_fetch(i, query->rtable);

		if (query->setOperations == NULL && weir_is_window(rte) && stream_item(query) != 0)
			weir_add_where(query, weir_boolean_test(window_until(rte, i, 2, expose_found(query)), IS_NOT_TRUE));
		if (rte->rtekind == RTE_SUBQUERY && weir_query_has_delta((Node *) rte->subquery))
			weir_late_only_found_open(rte->subquery);
	}
	foreach(lc, query->cteList)
	{
		CommonTableExpr *cte = lfirst(lc);

		if (weir_query_has_delta(cte->ctequery))
			weir_late_only_found_open((Query *) cte->ctequery);
	}
}

/* Leaves late rows out at every level; true if there was a window. */
static bool
filter_levels(Query *query, LateRule *rule)
{
	bool		found = false;
	ListCell   *lc;

	check_stack_depth();
	foreach(lc, late_conditions(query, rule))
	{
		weir_add_where(query, weir_boolean_test(lfirst(lc), IS_NOT_TRUE));
		found = true;
	}
	foreach(lc, query->rtable)
	{
		RangeTblEntry *rte = lfirst(lc);

		if (rte->rtekind == RTE_SUBQUERY && weir_query_has_delta((Node *) rte->subquery))
			found |= filter_levels(rte->subquery, rule);
	}
	foreach(lc, query->cteList)
	{
		CommonTableExpr *cte = lfirst(lc);

		if (weir_query_has_delta(cte->ctequery))
			found |= filter_levels((Query *) cte->ctequery, rule);
	}
	return found;
}

/* --- the late query ----------------------------------------------------------------------- */

/* ROW(all columns of the stream's FROM item) under their names */
static Expr *
stream_row(Query *query, int rtindex)
{
	RangeTblEntry *rte = rt_fetch(rtindex, query->rtable);
	Query	   *below = stream_query(query, rte);
	RowExpr    *row = makeNode(RowExpr);
	ListCell   *lc;

	foreach(lc, below->targetList)
	{
		TargetEntry *tle = lfirst(lc);
		const char *name = strVal(list_nth(rte->eref->colnames, tle->resno - 1));

		if (IsA(tle->expr, Const) && strncmp(name, "dropped_", 8) == 0)
			continue;
		if (tle->resjunk || strncmp(name, WEIR_HIDDEN_PREFIX, strlen(WEIR_HIDDEN_PREFIX)) == 0)
			continue;
		row->args = lappend(row->args, makeVarFromTargetEntry(rtindex, tle));
		row->colnames = lappend(row->colnames, makeString(pstrdup(name)));
	}
	row->row_typeid = RECORDOID;
	row->row_format = COERCE_IMPLICIT_CAST;
	row->location = -1;
	return (Expr *) row;
}

/* The time that a window function is called with. */
static Node *
window_time(Query *query, int rtindex)
{
	RangeTblEntry *rte = rt_fetch(rtindex, query->rtable);

	return linitial(weir_window_call(rte)->args);
}

/* Is a row older than the newest of its partition, or older than a window that is closed? */
static Expr *
behind_newest(Expr *event_time, Expr *stream_time, LateRule *rule)
{
	Expr	   *behind = weir_before(event_time, stream_time);

	if (rule->final)
		behind = makeBoolExpr(OR_EXPR, list_make2(behind, weir_before(copyObject(event_time), weir_final_time("closed_until"))), -1);
	return behind;
}

/*
 * weir_late_query selects, of the rows that the outermost level leaves out as late:
 * partition, offset, event time, window_start, the row. NULL if that level has no window.
 * A row of the newest event time so far is in a window that goes on: most rows
 * need no look at the window.
 */
Query *
weir_late_query(Query *query, LateRule *rule)
{
	List	   *conditions;
	int			rtindex = stream_item(query);
	int			window = 0;
	Expr	   *exprs[5];
	Query	   *late = copyObject(query);

	conditions = late_conditions(late, rule);
	if (conditions == NIL)
		return NULL;
	for (int i = list_length(late->rtable); i > 0; i--)
	{
		if (weir_is_window(rt_fetch(i, late->rtable)))
			window = i;
	}
	exprs[0] = expose(late, WEIR_COL_PARTITION, rule);
	exprs[1] = expose(late, WEIR_COL_OFFSET, rule);
	exprs[2] = expose(late, WEIR_COL_EVENT_TIME, rule);
	exprs[3] = (Expr *) makeVar(window, 1, exprType(window_time(late, window)), -1, InvalidOid, 0);
	exprs[4] = stream_row(late, rtindex);
	if (weir_is_event_time(late, window_time(late, window)) && rule->keep_attno != 1)
		weir_add_where(late, behind_newest(exprs[2], expose(late, WEIR_COL_STREAM_TIME, rule), rule));
	weir_add_where(late, weir_boolean_test(list_length(conditions) == 1 ? linitial(conditions) : makeBoolExpr(OR_EXPR, conditions, -1), IS_TRUE));
	weir_late_targets(late, exprs, 5);
	late->groupClause = NIL;
	late->havingQual = NULL;
	late->hasAggs = false;
	late->hasTargetSRFs = false;
	late->constraintDeps = NIL;
	return late;
}

/* Are there latenesses to go by: the view's own, or that of one of its streams? */
static bool
any_lateness(List *streams, LateRule *rule)
{
	ListCell   *lc;

	foreach(lc, streams)
	{
		if (weir_source_get(lfirst_oid(lc))->lateness)
			return true;
	}
	return rule->lateness != NULL || rule->final;
}

/* weir_late_note finds out whether there is a lateness. */
void
weir_late_note(List *streams, LateRule *rule)
{
	rule->has_lateness = any_lateness(streams, rule);
}

/*
 * weir_late_deadline passes up to a level what its rows are judged by: the time before which (expired:
 * by which) windows are over for a row.
 */
Expr *
weir_late_deadline(Query *query, LateRule *rule, bool expired)
{
	return expose(query, expired ? COL_EXPIRED : COL_DEADLINE, rule);
}

/* weir_late_deadline_of does so with rows of one FROM item. */
Expr *
weir_late_deadline_of(Query *query, int rtindex, LateRule *rule)
{
	return expose_item(query, rtindex, COL_DEADLINE, rule);
}

/* weir_late_targets gives a query the select list of late rows, n of partition, offset, event time, window_start, the row, the reason. */
void
weir_late_targets(Query *late, Expr **exprs, int n)
{
	late->targetList = NIL;
	for (int i = 0; i < n; i++)
		late->targetList = lappend(late->targetList, makeTargetEntry(exprs[i], i + 1, psprintf("l%d", i + 1), false));
}

/* weir_late_select_rows does so where rows are in no window; the deltas are read below. */
void
weir_late_select_rows(Query *late)
{
	Expr	   *exprs[5];

	exprs[0] = weir_late_expose(late, WEIR_COL_PARTITION);
	exprs[1] = weir_late_expose(late, WEIR_COL_OFFSET);
	exprs[2] = weir_late_expose(late, WEIR_COL_EVENT_TIME);
	exprs[3] = (Expr *) makeNullConst(TIMESTAMPTZOID, -1, InvalidOid);
	exprs[4] = weir_late_record(late);
	weir_late_targets(late, exprs, 5);
}

/* weir_late_wanted tells whether some stream keeps its late rows. */
bool
weir_late_wanted(List *streams)
{
	ListCell   *lc;

	foreach(lc, streams)
	{
		if (weir_source_get(lfirst_oid(lc))->late_keep)
			return true;
	}
	return false;
}

/* weir_late_record makes a stream's row as late rows are kept, at a level. */
Expr *
weir_late_record(Query *query)
{
	return stream_row(query, stream_item(query));
}

/*
 * weir_late_filter makes a rewritten query leave late rows out, in place, and
 * sets shape->late. Raises 0A000 if the view gives a lateness and has no window.
 */
void
weir_late_filter(ViewShape *shape, LateRule *rule)
{
	Query	   *late;

	rule->has_lateness = any_lateness(shape->streams, rule);
	if (!rule->has_lateness && !(rule->keep && rule->keep_attno != 0) && !rule->kept)
		return;
	late = weir_late_query(shape->query, rule);
	if (!filter_levels(shape->query, rule))
	{
		if (rule->lateness && !shape->joins)
			weir_refuse(shape->name, "weir.lateness needs a window, and the query has none.",
						"Put tumble(...) beside the stream into FROM, or leave out weir.lateness.");
		return;
	}
	shape->late = late;
}
