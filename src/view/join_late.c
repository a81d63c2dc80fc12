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
#include "parser/parse_func.h"
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
	Expr	   *until = weir_time_later(hidden_var(delta, rtindex, WEIR_COL_EVENT_TIME, TIMESTAMPTZOID), microseconds);

	return weir_before(until, hidden_var(delta, rtindex, WEIR_COL_STREAM_TIME, TIMESTAMPTZOID));
}

/* weir_join_found_closed: what a row of a delta found closed (behind.c), NULL for most; by its stream, partition and offset. */
Expr *
weir_join_found_closed(RangeTblEntry *delta, int rtindex)
{
	static const Oid types[] = {OIDOID, INT4OID, INT8OID};
	Oid			stream = weir_delta_stream(delta);
	Oid			funcid = LookupFuncName(list_make2(makeString(WEIR_SCHEMA), makeString("found_closed")), lengthof(types), types, false);

	return (Expr *) makeFuncExpr(funcid, TIMESTAMPTZOID,
								 list_make3(makeConst(OIDOID, -1, InvalidOid, sizeof(Oid), ObjectIdGetDatum(stream), false, true),
											hidden_var(delta, rtindex, WEIR_COL_PARTITION, INT4OID),
											hidden_var(delta, rtindex, WEIR_COL_OFFSET, INT8OID)),
								 InvalidOid, InvalidOid, COERCE_EXPLICIT_CALL);
}

/* Is a row of the delta itself behind what it found closed? Its partition had been idle, else it would be late by its own stream time. */
static Expr *
closed_condition(RangeTblEntry *delta, int rtindex)
{
	return weir_before(hidden_var(delta, rtindex, WEIR_COL_EVENT_TIME, TIMESTAMPTZOID), weir_join_found_closed(delta, rtindex));
}

/* The same where pairs are finals: as if its partition's stream time had come to what is closed, and the join's reach behind that. */
static Expr *
over_condition(RangeTblEntry *delta, int rtindex, int64 later)
{
	return weir_before(hidden_var(delta, rtindex, WEIR_COL_EVENT_TIME, TIMESTAMPTZOID),
					   weir_time_later(weir_final_time("closed_until"), later));
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
	weir_late_targets(late, exprs, 6);
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

/* What reads a delta: a query with nothing else in FROM that counts. */
typedef struct DeltaReader
{
	Query	   *query;
	int			rtindex;
} DeltaReader;

static bool
reader_walker(Node *node, List **readers)
{
	Query	   *query = (Query *) node;
	int			i = 0;
	ListCell   *lc;

	if (node == NULL)
		return false;
	if (!IsA(node, Query))
		return expression_tree_walker(node, reader_walker, readers);
	foreach(lc, query->rtable)
	{
		i++;
		if (lfirst_node(RangeTblEntry, lc)->rtekind == RTE_NAMEDTUPLESTORE)
		{
			DeltaReader *reader = palloc(sizeof(DeltaReader));

			*reader = (DeltaReader) {query, i};
			*readers = lappend(*readers, reader);
			return false;
		}
	}
	return query_tree_walker(query, reader_walker, readers, 0);
}

/* Where an item of a join reads its deltas. */
static List *
delta_readers(JoinNode *node)
{
	List	   *readers = NIL;

	(void) reader_walker((Node *) node->query, &readers);
	return readers;
}

/* Leaves late rows out where they are read, and notes the query that finds them. */
static void
filter_reader(JoinFilter *filter, DeltaReader *reader)
{
	RangeTblEntry *delta = rt_fetch(reader->rtindex, reader->query->rtable);
	Stream	   *stream = weir_stream_require(weir_delta_stream(delta));
	Expr	   *late = late_condition(delta, reader->rtindex, filter->node->forward + lateness_of(filter, stream));
	Expr	   *closed = NULL;

	if (filter->shape->closes)
		late = makeBoolExpr(OR_EXPR, list_make2(late, closed_condition(delta, reader->rtindex)), -1);
	else if (filter->shape->instants)
		closed = over_condition(delta, reader->rtindex, filter->shape->close_shift - filter->node->forward);
	filter->late = lappend(filter->late, late_rows(reader->query, reader->rtindex,
												   closed ? makeBoolExpr(OR_EXPR, list_make2(late, closed), -1) : late));
	reader->query->jointree->quals = (Node *) weir_boolean_test(late, IS_NOT_TRUE);
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
			ListCell   *reader;

			filter.node = &bounds->nodes[i];
			foreach(reader, delta_readers(filter.node))
				filter_reader(&filter, lfirst(reader));
		}
	}
	return weir_statement_unite("weir_late", filter.late);
}
