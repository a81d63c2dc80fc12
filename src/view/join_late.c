/*
 * join_late.c
 *	  Joins of streams: late rows are left out where the deltas are read, and found by a query of their own.
 *
 * join (filter) ⇒ here ⇒ join_delta. A row is late when, by the stream time of its partition, no row that it
 * would meet can come any more; where rows without a match come at close, or pairs are finals, also
 * when what it belongs to is closed. join.c says what that asks of the rows kept.
 */
#include "postgres.h"

#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "catalog/stream.h"
#include "compat.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/parsetree.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/timestamp.h"
#include "view/join.h"
#include "view/parts.h"

static int
hidden_column(RangeTblEntry *delta, const char *name)
{
	int			i = 0;
	ListCell   *lc;

	foreach(lc, delta->eref->colnames)
	{
		i++;
		if (strcmp(strVal(lfirst(lc)), name) == 0)
			return i;
	}
	elog(ERROR, "delta \"%s\" has no column \"%s\"", delta->enrname, name);
}

static Expr *
hidden_var(RangeTblEntry *delta, int rtindex, const char *name, Oid type)
{
	return (Expr *) makeVar(rtindex, hidden_column(delta, name), type, -1, InvalidOid, 0);
}

/* (event time + microseconds < stream time), of the delta's FROM item */
static Expr *
late_condition(RangeTblEntry *delta, int rtindex, int64 microseconds)
{
	Interval   *span = palloc0(sizeof(Interval));
	Expr	   *until;

	span->time = microseconds;
	until = (Expr *) makeFuncExpr(F_TIMESTAMPTZ_PL_INTERVAL, TIMESTAMPTZOID,
								  list_make2(hidden_var(delta, rtindex, WEIR_COL_EVENT_TIME, TIMESTAMPTZOID),
											 makeConst(INTERVALOID, -1, InvalidOid, sizeof(Interval),
													   IntervalPGetDatum(span), false, false)),
								  InvalidOid, InvalidOid, COERCE_EXPLICIT_CALL);
	return weir_before(until, hidden_var(delta, rtindex, WEIR_COL_STREAM_TIME, TIMESTAMPTZOID));
}

/*
 * Is a row of the delta behind what an outer join has closed? Its partition had been idle,
 * else it would be late by its own stream time.
 */
static Expr *
closed_condition(RangeTblEntry *delta, int rtindex, JoinNode *node)
{
	Interval   *span = palloc0(sizeof(Interval));
	Expr	   *from;

	span->time = node->back;
	from = (Expr *) makeFuncExpr(F_TIMESTAMPTZ_MI_INTERVAL, TIMESTAMPTZOID,
								 list_make2(hidden_var(delta, rtindex, WEIR_COL_EVENT_TIME, TIMESTAMPTZOID),
											makeConst(INTERVALOID, -1, InvalidOid, sizeof(Interval),
													  IntervalPGetDatum(span), false, false)),
								 InvalidOid, InvalidOid, COERCE_EXPLICIT_CALL);
	return weir_before(from, weir_final_time("closed_until"));
}

/* The same where pairs are finals: as if its partition's stream time had come to what is closed, and the join's reach behind that. */
static Expr *
over_condition(RangeTblEntry *delta, int rtindex, int64 later)
{
	Interval   *span = palloc0(sizeof(Interval));
	Expr	   *until;

	span->time = later;
	until = (Expr *) makeFuncExpr(F_TIMESTAMPTZ_PL_INTERVAL, TIMESTAMPTZOID,
								  list_make2(weir_final_time("closed_until"),
											 makeConst(INTERVALOID, -1, InvalidOid, sizeof(Interval),
													   IntervalPGetDatum(span), false, false)),
								  InvalidOid, InvalidOid, COERCE_EXPLICIT_CALL);
	return weir_before(hidden_var(delta, rtindex, WEIR_COL_EVENT_TIME, TIMESTAMPTZOID), until);
}

/* ROW(the columns that users know) */
static Expr *
delta_record(RangeTblEntry *delta, int rtindex)
{
	RowExpr    *row = makeNode(RowExpr);
	int			i = 0;
	ListCell   *lc;

	foreach(lc, delta->eref->colnames)
	{
		char	   *name = strVal(lfirst(lc));

		i++;
		if (strncmp(name, WEIR_HIDDEN_PREFIX, strlen(WEIR_HIDDEN_PREFIX)) == 0)
			continue;
		row->args = lappend(row->args, makeVar(rtindex, i, list_nth_oid(delta->coltypes, i - 1),
											   list_nth_int(delta->coltypmods, i - 1),
											   list_nth_oid(delta->colcollations, i - 1), 0));
		row->colnames = lappend(row->colnames, makeString(pstrdup(name)));
	}
	row->row_typeid = RECORDOID;
	row->row_format = COERCE_IMPLICIT_CAST;
	row->location = -1;
	return (Expr *) row;
}

/* SELECT partition, offset, event time, NULL, the row, why FROM delta WHERE it is late */
static Query *
late_rows(Query *reader, int rtindex, Expr *condition)
{
	Query	   *late = copyObject(reader);
	RangeTblEntry *delta = rt_fetch(rtindex, late->rtable);
	Expr	   *exprs[6];

	exprs[0] = hidden_var(delta, rtindex, WEIR_COL_PARTITION, INT4OID);
	exprs[1] = hidden_var(delta, rtindex, WEIR_COL_OFFSET, INT8OID);
	exprs[2] = hidden_var(delta, rtindex, WEIR_COL_EVENT_TIME, TIMESTAMPTZOID);
	exprs[3] = (Expr *) makeNullConst(TIMESTAMPTZOID, -1, InvalidOid);
	exprs[4] = delta_record(delta, rtindex);
	exprs[5] = (Expr *) makeConst(TEXTOID, -1, DEFAULT_COLLATION_OID, -1,
								  CStringGetTextDatum("no row that it would meet in the join is to come any more"), false, false);
	late->targetList = NIL;
	for (int i = 0; i < 6; i++)
		late->targetList = lappend(late->targetList, makeTargetEntry(exprs[i], i + 1, psprintf("l%d", i + 1), false));
	late->jointree->quals = (Node *) copyObject(condition);
	return late;
}

/* What is common to the joins of a view. */
typedef struct JoinFilter
{
	ViewShape  *shape;
	LateRule   *rule;
	JoinNode   *node;			/* at hand */
	List	   *late;			/* of Query */
} JoinFilter;

/* How much later than its match a row may come, beside what the partition's stream time allows; -1: no matter. */
static int64
lateness_of(JoinFilter *filter, Stream *stream)
{
	Interval   *lateness = filter->rule->lateness ? filter->rule->lateness : stream->lateness;

	if (lateness)
		return weir_span_length(lateness);
	return filter->rule->final || filter->shape->closes ? 0 : filter->shape->join_slack;
}

static bool
filter_walker(Node *node, JoinFilter *filter)
{
	Query	   *query = (Query *) node;
	int			i = 0;
	ListCell   *lc;

	if (node == NULL)
		return false;
	if (!IsA(node, Query))
		return expression_tree_walker(node, filter_walker, filter);
	foreach(lc, query->rtable)
	{
		RangeTblEntry *rte = lfirst(lc);
		Expr	   *condition;
		Stream	   *stream;

		i++;
		if (rte->rtekind != RTE_NAMEDTUPLESTORE)
			continue;
		stream = weir_stream_require(strtoul(rte->enrname + strlen(WEIR_DELTA_PREFIX), NULL, 10));
		condition = late_condition(rte, i, filter->node->forward + lateness_of(filter, stream));
		filter->late = lappend(filter->late,
							   late_rows(query, i, filter->shape->closes ?
										 makeBoolExpr(OR_EXPR, list_make2(condition, closed_condition(rte, i, filter->node)), -1) :
										 filter->shape->instants ?
										 makeBoolExpr(OR_EXPR, list_make2(condition, over_condition(rte, i, filter->shape->close_shift - filter->node->forward)), -1) :
										 condition));
		query->jointree->quals = (Node *) weir_boolean_test(condition, IS_NOT_TRUE);
		return false;
	}
	return query_tree_walker(query, filter_walker, filter, 0);
}

/* SELECT ... UNION ALL SELECT ... of the late queries */
static Query *
unite_late(List *parts)
{
	StringInfoData sql;
	Query	   *query;
	int			i = 0;
	ListCell   *lc;

	if (list_length(parts) == 1)
		return linitial(parts);
	initStringInfo(&sql);
	foreach(lc, parts)
	{
		i++;
		appendStringInfo(&sql, "%sSELECT * FROM %s AS weir_late_%d(c1, c2, c3, c4, c5, c6)",
						 i > 1 ? " UNION ALL " : "", weir_statement_placeholder(lfirst_node(Query, lc)->targetList), i);
	}
	query = weir_statement_parse(sql.data);
	i = 0;
	foreach(lc, parts)
		weir_statement_splice(query, psprintf("weir_late_%d", ++i), lfirst(lc));
	return query;
}

/*
 * weir_join_late leaves late rows out of these joins, in place, and returns the query that finds them:
 * SELECT partition, offset, event time, NULL, the row, why.
 */
Query *
weir_join_late(ViewShape *shape, LateRule *rule, List *joins)
{
	JoinFilter	filter = {shape, rule};
	ListCell   *lc;

	foreach(lc, joins)
	{
		JoinBounds *bounds = weir_join_bounds(lfirst(lc));

		for (int i = 0; i < bounds->n; i++)
		{
			filter.node = &bounds->nodes[i];
			(void) filter_walker((Node *) filter.node->query, &filter);
		}
	}
	return unite_late(filter.late);
}

static bool
closed_walker(Node *node, JoinNode *join_node)
{
	Query	   *query = (Query *) node;
	int			i = 0;
	ListCell   *lc;

	if (node == NULL)
		return false;
	if (!IsA(node, Query))
		return expression_tree_walker(node, closed_walker, join_node);
	foreach(lc, query->rtable)
	{
		RangeTblEntry *rte = lfirst(lc);

		i++;
		if (rte->rtekind != RTE_NAMEDTUPLESTORE)
			continue;
		weir_add_where(query, weir_boolean_test(closed_condition(rte, i, join_node), IS_NOT_TRUE));
		return false;
	}
	return query_tree_walker(query, closed_walker, join_node, 0);
}

/* weir_join_closed_late leaves such rows out where an item reads its delta, in place. */
void
weir_join_closed_late(JoinBounds *bounds, int item)
{
	for (int i = 0; i < bounds->n; i++)
	{
		if (bounds->nodes[i].item == item)
			(void) closed_walker((Node *) bounds->nodes[i].query, &bounds->nodes[i]);
	}
}
