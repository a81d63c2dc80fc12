/*
 * keep.c
 *	  Which column tells how old a view's row is, and what weir.keep does with old rows.
 *
 * The column is the window's end (or start) of tumble() and its kin in the select list,
 * else the event-time column of the stream. Rows more than weir.keep behind
 * the stream's time are deleted as the data moves on, in steps, not with every batch.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/catalog.h"
#include "catalog/dependency.h"
#include "catalog/pg_proc.h"
#include "catalog/stream.h"
#include "delta/segments.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parsetree.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "view/recompute.h"
#include "view/session.h"
#include "view/shape.h"
#include "view/upstream.h"
#include "view/windowed.h"

/* weir_own_function returns the name of the function of weir's that a FROM item calls, or NULL. */
char *
weir_own_function(RangeTblEntry *rte)
{
	FuncExpr   *call;

	if (rte->rtekind != RTE_FUNCTION || list_length(rte->functions) != 1)
		return NULL;
	call = (FuncExpr *) linitial_node(RangeTblFunction, rte->functions)->funcexpr;
	if (!IsA(call, FuncExpr) ||
		getExtensionOfObject(ProcedureRelationId, call->funcid) != weir_extension_oid())
		return NULL;
	return get_func_name(call->funcid);
}

/* weir_delta_stream: the stream that a delta in FROM is of */
Oid
weir_delta_stream(RangeTblEntry *rte)
{
	return strtoul(rte->enrname + strlen(WEIR_DELTA_PREFIX), NULL, 10);
}

/* weir_window_call: how a FROM item calls it. Only for what calls one function of weir's. */
FuncExpr *
weir_window_call(RangeTblEntry *rte)
{
	return castNode(FuncExpr, linitial_node(RangeTblFunction, rte->functions)->funcexpr);
}

/* Is it one of weir's window functions: tumble(), hop(), cumulate()? */
bool
weir_is_window(RangeTblEntry *rte)
{
	char	   *name = weir_own_function(rte);

	return name &&
		(strcmp(name, "tumble") == 0 || strcmp(name, "hop") == 0 || strcmp(name, "cumulate") == 0);
}

/* Windows of tumble() do not overlap. Only for what weir_is_window() says yes to. */
bool
weir_is_tumble(RangeTblEntry *rte)
{
	return strcmp(get_func_name(weir_window_call(rte)->funcid), "tumble") == 0;
}

/* weir_is_cumulate: of a call of a window function */
bool
weir_is_cumulate(FuncExpr *call)
{
	return strcmp(get_func_name(call->funcid), "cumulate") == 0;
}

static bool
window_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, RangeTblEntry))
		return weir_is_window((RangeTblEntry *) node);
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, window_walker, context, QTW_EXAMINE_RTES_BEFORE);
	return expression_tree_walker(node, window_walker, context);
}

/* weir_has_window: does a query call a window function in FROM, at any depth? */
bool
weir_has_window(Query *query)
{
	return window_walker((Node *) query, NULL);
}

/* Where a column of the select list comes from. */
typedef struct Origin
{
	AttrNumber	window;			/* 1: window_start, 2: window_end of tumble() and its kin; 0: no */
	bool		overlapping;	/* the windows do */
	FuncExpr   *call;			/* of the window function */
	Oid			stream;			/* a column of this stream, or a window over it */
	char	   *column;
} Origin;

static bool trace(Query *query, Node *node, Origin *origin);

/* Is it the column by which the stream's rows are kept? */
static bool
is_event_time(Origin *origin)
{
	Stream	   *stream = OidIsValid(origin->stream) ? weir_stream_get(origin->stream) : NULL;

	if (stream == NULL && OidIsValid(origin->stream))
		return weir_upstream_is_event_time(origin->stream, origin->column);
	return stream != NULL &&
		strcmp(origin->column, stream->event_time ? stream->event_time : "_timestamp") == 0;
}

/*
 * A column of a sub-select. One of UNION ALL comes from a column of each arm: they must be
 * the same column, or the event times of their streams, in the same kind of window if in any.
 */
static bool
trace_below(Query *below, AttrNumber attno, Origin *origin)
{
	bool		first = true;
	ListCell   *lc;

	if (below->setOperations == NULL)
		return trace(below, (Node *) list_nth_node(TargetEntry, below->targetList, attno - 1)->expr, origin);
	check_stack_depth();
	foreach(lc, below->rtable)
	{
		RangeTblEntry *rte = lfirst(lc);
		Origin		arm = {0};

		if (rte->rtekind != RTE_SUBQUERY)
			continue;
		if (!trace_below(rte->subquery, attno, &arm))
			return false;
		if (first)
			*origin = arm;
		first = false;
		origin->overlapping |= arm.overlapping;
		if (arm.call && weir_is_cumulate(arm.call))
			origin->call = arm.call;	/* whose start alone tells least */
		if (arm.window != origin->window)
			return false;
		if (is_event_time(&arm) && is_event_time(origin))
			continue;
		if (arm.stream != origin->stream || arm.column == NULL || origin->column == NULL ||
			strcmp(arm.column, origin->column) != 0)
			return false;
	}
	return !first;
}

static bool
trace(Query *query, Node *node, Origin *origin)
{
	Var		   *var = (Var *) strip_implicit_coercions(node);
	RangeTblEntry *rte;
	ListCell   *lc;

	if (!IsA(var, Var) || var->varlevelsup != 0 || var->varattno <= 0)
		return false;
	rte = rt_fetch(var->varno, query->rtable);
	switch (rte->rtekind)
	{
		case RTE_FUNCTION:
			if (!weir_is_window(rte))
				return false;
			if (!trace(query, linitial(weir_window_call(rte)->args), origin))
				*origin = (Origin) {0};
			origin->window = var->varattno;
			origin->call = weir_window_call(rte);
			origin->overlapping = !weir_is_tumble(rte);
			return true;
		case RTE_NAMEDTUPLESTORE:
			origin->stream = weir_delta_stream(rte);
			origin->column = strVal(list_nth(rte->eref->colnames, var->varattno - 1));
			return true;
		case RTE_JOIN:
			return trace(query, list_nth(rte->joinaliasvars, var->varattno - 1), origin);
		case RTE_SUBQUERY:
			return trace_below(rte->subquery, var->varattno, origin);
		case RTE_CTE:
			foreach(lc, query->cteList)
			{
				CommonTableExpr *cte = lfirst(lc);

				if (rte->ctelevelsup == 0 && strcmp(cte->ctename, rte->ctename) == 0)
					return trace_below((Query *) cte->ctequery, var->varattno, origin);
			}
			return false;
		default:
			return false;
	}
}

/* weir_is_event_time tells whether an expression of this level is the event-time column of a stream. */
bool
weir_is_event_time(Query *query, Node *node)
{
	Origin		origin = {0};

	return trace(query, node, &origin) && origin.window == 0 && is_event_time(&origin);
}

static bool
column_is_not_null(Oid stream, const char *column)
{
	AttrNumber	attno = get_attnum(stream, column);
	HeapTuple	tuple;
	bool		result;

	if (attno == InvalidAttrNumber)
		return false;			/* one of the hidden columns */
	if (weir_view_get(stream))
		return weir_upstream_never_null(stream, attno);
	tuple = SearchSysCache2(ATTNUM, ObjectIdGetDatum(stream), Int16GetDatum(attno));
	result = HeapTupleIsValid(tuple) && ((Form_pg_attribute) GETSTRUCT(tuple))->attnotnull;
	if (HeapTupleIsValid(tuple))
		ReleaseSysCache(tuple);
	return result;
}

/*
 * weir_trace_window tells which column of a window function an expression of this
 * level is: 1 window_start, 2 window_end, 0 none; *event_time: of a window over event time.
 */
AttrNumber
weir_trace_window(Query *query, Node *node, bool *event_time)
{
	Origin		origin = {0};

	if (!trace(query, node, &origin) || origin.window == 0)
		return 0;
	*event_time = origin.column != NULL && is_event_time(&origin);
	return origin.window;
}

bool
weir_trace_column(Query *query, Node *node, ColumnOrigin *result)
{
	Origin		origin = {0};

	if (!trace(query, node, &origin))
		return false;
	result->window = origin.window;
	result->stream = origin.stream;
	result->column = origin.column;
	result->call = origin.call;
	result->event_time = origin.column != NULL && is_event_time(&origin);
	result->not_null = origin.column != NULL && origin.window == 0 &&
		column_is_not_null(origin.stream, origin.column);
	return true;
}

/*
 * A column that never changes once its row is there: any of a view that appends or inserts finals, a key of a
 * grouped one, the recompute key.
 */
static bool
is_kept_as_it_is(ViewShape *shape, TargetEntry *tle)
{
	if (shape->recompute && !shape->retracts)
		return weir_recompute_is_key(shape, tle);
	if (list_member_int(shape->unsure, tle->resno))
		return false;
	return !shape->grouped || shape->finals ||
		(tle->ressortgroupref != 0 &&
		 get_sortgroupref_clause_noerr(tle->ressortgroupref, shape->query->groupClause) != NULL);
}

/* How well a column tells a row's age: 3 window_end, 2 window_start, 1 event time, 0 not at all. */
static int
rank_column(ViewShape *shape, TargetEntry *tle)
{
	Origin		origin = {0};

	if (shape->session)
		return shape->session->shown[tle->resno - 1] == SESSION_COL_END ? 3 : 0;	/* its start says nothing of its age */
	if (!is_kept_as_it_is(shape, tle))
		return 0;
	if (!trace(shape->query, (Node *) tle->expr, &origin))
		return 0;
	if (origin.window != 0)
		return origin.window == 2 ? 3 : 2;
	return is_event_time(&origin) ? 1 : 0;
}

/*
 * weir_first_event_column returns the number of a column that no row of the stream that
 * counts in the view's row is older than: window_start over event time, or
 * event time itself; 0 if there is none. *overlapping: a stream row counts for several windows.
 */
int
weir_first_event_column(ViewShape *shape, bool *overlapping)
{
	ListCell   *lc;

	foreach(lc, shape->query->targetList)
	{
		TargetEntry *tle = lfirst(lc);
		Origin		origin = {0};

		if (shape->session)
		{
			*overlapping = true;	/* what is no longer kept may have begun it */
			if (shape->session->event_time && shape->session->shown[tle->resno - 1] == SESSION_COL_START)
				return tle->resno;
			continue;
		}
		if (!is_kept_as_it_is(shape, tle))
			continue;
		if (trace(shape->query, (Node *) tle->expr, &origin) &&
			origin.window != 2 && is_event_time(&origin))
		{
			*overlapping = origin.overlapping;
			return tle->resno;
		}
	}
	return 0;
}

/* weir_keep_window tells which column of tumble() weir.keep goes by: 2 window_end, 1 window_start, 0 neither. */
AttrNumber
weir_keep_window(ViewShape *shape)
{
	AttrNumber	best = 0;
	ListCell   *lc;

	foreach(lc, shape->query->targetList)
		best = Max(best, rank_column(shape, lfirst(lc)) - 1);
	return best;
}

/*
 * weir_keep_column picks the column that weir.keep goes by; names: the
 * columns' names. NULL if there is none; raises 0A000 then if one is required.
 */
char *
weir_keep_column(ViewShape *shape, List *names, bool required)
{
	int			best = 0;
	char	   *result = NULL;
	ListCell   *lc,
			   *ln;

	forboth(lc, shape->query->targetList, ln, names)
	{
		int			rank = rank_column(shape, lfirst(lc));

		if (rank > best)
		{
			best = rank;
			result = lfirst(ln);
		}
	}
	if (result == NULL && required)
		weir_refuse(shape->name, "weir.keep needs a column that tells how old a row is, and the select list has none.",
					"Add window_end or window_start of tumble(), or the stream's event-time column, to the select list (and to GROUP BY).");
	return result;
}

/* weir_shape_passes: is a column, in each row, what it is in the row that it is taken from? Not so, say, with GROUPING SETS. */
bool
weir_shape_passes(ViewShape *shape, TargetEntry *tle)
{
	return is_kept_as_it_is(shape, tle);
}
