/*
 * join_bounds.c
 *	  How far apart in event time rows are that meet in a join of streams.
 *
 * join ⇒ join_bounds. Conditions that every row of the join meets are read as bounds on
 * differences of event times: x < y, x <= y, x = y and their mirror images, where x and y are
 * the event time of a stream, the start or end of a window over it (which is that
 * time less, or plus, at most the window's size), or one of these plus or minus constant intervals;
 * and comparisons of a difference of two such times with a constant interval. Bounds of
 * several streams follow from each other (shortest paths). In an outer join a condition holds only where both
 * sides have rows.
 *
 * A bound is never too narrow: days and months count as long, or as short, as they can be.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parsetree.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"
#include "view/join.h"

/* A day in a time zone may be so much longer or shorter, and a month. */
#define DAY_SLACK		(3 * USECS_PER_HOUR)
#define SHORTEST_MONTH	28
#define LONGEST_MONTH	31

/* The event time of a node, plus something between lo and hi microseconds. */
typedef struct TimeOf
{
	Query	   *node;
	int64		lo;
	int64		hi;
} TimeOf;

static bool trace_time(Query *query, Node *node, TimeOf *result);

/* --- intervals ------------------------------------------------------------- */

static void
interval_range(const Interval *span, int64 *lo, int64 *hi)
{
	int64		slack = span->day != 0 || span->month != 0 ? DAY_SLACK : 0;
	int64		base = span->time + (int64) span->day * USECS_PER_DAY;
	int64		a = base + (int64) span->month * SHORTEST_MONTH * USECS_PER_DAY;
	int64		b = base + (int64) span->month * LONGEST_MONTH * USECS_PER_DAY;

	*lo = Min(a, b) - slack;
	*hi = Max(a, b) + slack;
}

/* weir_interval_longest returns the most microseconds that an interval can last. */
int64
weir_interval_longest(const Interval *span)
{
	int64		lo,
				hi;

	interval_range(span, &lo, &hi);
	return hi;
}

static Interval *
constant_interval(Node *node)
{
	Const	   *constant = (Const *) node;

	if (!IsA(constant, Const) || constant->constisnull || constant->consttype != INTERVALOID)
		return NULL;
	return DatumGetIntervalP(constant->constvalue);
}

/* --- where a time comes from ------------------------------------------------- */

static bool
is_time(Oid type)
{
	return type == TIMESTAMPTZOID || type == TIMESTAMPOID;
}

/* weir_join_window_size returns the most that a window of this FROM item lasts, microseconds; -1: not constant. */
int64
weir_join_window_size(RangeTblEntry *rte)
{
	FuncExpr   *call = weir_window_call(rte);
	int			position = 0;
	ListCell   *lc;

	foreach(lc, call->args)
	{
		NamedArgExpr *named = lfirst(lc);
		bool		is_named = IsA(named, NamedArgExpr);
		Interval   *size;

		if (is_named ? named->argnumber == 1 : position == 1)
		{
			size = constant_interval(eval_const_expressions(NULL, is_named ? (Node *) named->arg : (Node *) named));
			return size ? weir_interval_longest(size) : -1;
		}
		position++;
	}
	return -1;
}

static bool
trace_window(Query *query, RangeTblEntry *rte, AttrNumber column, TimeOf *result)
{
	int64		size = weir_join_window_size(rte);

	if (size < 0 || column > 2 || !trace_time(query, linitial(weir_window_call(rte)->args), result))
		return false;
	if (column == 1)
		result->lo -= size;
	else
		result->hi += size;
	return true;
}

/* A column of a UNION ALL: the same kind of time in every arm. */
static bool
trace_arms(Query *query, AttrNumber column, TimeOf *result)
{
	bool		first = true;
	ListCell   *lc;

	foreach(lc, query->rtable)
	{
		RangeTblEntry *rte = lfirst(lc);
		TimeOf		arm;

		if (rte->rtekind != RTE_SUBQUERY)
			continue;
		if (!trace_time(rte->subquery, (Node *) list_nth_node(TargetEntry, rte->subquery->targetList, column - 1)->expr, &arm))
			return false;
		result->lo = first ? arm.lo : Min(result->lo, arm.lo);
		result->hi = first ? arm.hi : Max(result->hi, arm.hi);
		first = false;
	}
	result->node = query;
	return !first;
}

static bool
reads_delta(Query *query)
{
	ListCell   *lc;

	foreach(lc, query->rtable)
	{
		if (lfirst_node(RangeTblEntry, lc)->rtekind == RTE_NAMEDTUPLESTORE)
			return true;
	}
	return false;
}

static bool
trace_column(Query *query, Var *var, TimeOf *result)
{
	RangeTblEntry *rte = rt_fetch(var->varno, query->rtable);
	Node	   *expr;

	if (rte->rtekind == RTE_JOIN)
		return trace_time(query, list_nth(rte->joinaliasvars, var->varattno - 1), result);
	if (weir_is_window(rte))
		return trace_window(query, rte, var->varattno, result);
	if (rte->rtekind != RTE_SUBQUERY)
		return false;
	if (rte->subquery->setOperations)
		return trace_arms(rte->subquery, var->varattno, result);
	expr = (Node *) list_nth_node(TargetEntry, rte->subquery->targetList, var->varattno - 1)->expr;
	if (!reads_delta(rte->subquery))
		return trace_time(rte->subquery, expr, result);
	if (!weir_is_event_time(rte->subquery, expr))
		return false;
	*result = (TimeOf) {rte->subquery, 0, 0};
	return true;
}

/* time + interval, time - interval, interval + time */
static bool
trace_sum(Query *query, OpExpr *op, TimeOf *result)
{
	Interval   *span;
	int64		lo,
				hi;

	if (list_length(op->args) != 2 || !is_time(op->opresulttype))
		return false;
	span = constant_interval(lsecond(op->args));
	if (span != NULL)
	{
		if (!trace_time(query, linitial(op->args), result))
			return false;
	}
	else if ((span = constant_interval(linitial(op->args))) == NULL ||
			 !trace_time(query, lsecond(op->args), result))
		return false;
	interval_range(span, &lo, &hi);
	switch (get_opcode(op->opno))
	{
		case F_TIMESTAMPTZ_PL_INTERVAL:
		case F_TIMESTAMP_PL_INTERVAL:
		case F_INTERVAL_PL_TIMESTAMPTZ:
		case F_INTERVAL_PL_TIMESTAMP:
			result->lo += lo;
			result->hi += hi;
			return true;
		case F_TIMESTAMPTZ_MI_INTERVAL:
		case F_TIMESTAMP_MI_INTERVAL:
			result->lo -= hi;
			result->hi -= lo;
			return true;
		default:
			return false;
	}
}

/* Is an expression of this level the event time of a node, give or take? */
static bool
trace_time(Query *query, Node *node, TimeOf *result)
{
	Var		   *var;

	check_stack_depth();
	if (node == NULL || !is_time(exprType(node)))
		return false;
	node = strip_implicit_coercions(node);
	if (!is_time(exprType(node)))
		return false;
	if (IsA(node, OpExpr))
		return trace_sum(query, (OpExpr *) node, result);
	var = (Var *) node;
	if (!IsA(var, Var) || var->varlevelsup != 0 || var->varattno <= 0)
		return false;
	return trace_column(query, var, result);
}

/* --- conditions ---------------------------------------------------------------- */

static int
node_number(JoinBounds *bounds, Query *query)
{
	for (int i = 0; i < bounds->n; i++)
	{
		if (bounds->nodes[i].query == query)
			return i;
	}
	return -1;
}

/* x <= y */
static void
note_order(JoinBounds *bounds, TimeOf *x, TimeOf *y)
{
	int			i = node_number(bounds, x->node);
	int			j = node_number(bounds, y->node);
	int64	   *upper;

	if (i < 0 || j < 0 || i == j)
		return;
	upper = &bounds->upper[j * bounds->n + i];
	*upper = Min(*upper, y->hi - x->lo);
}

/* BTLessStrategyNumber and so on, for operators on one type; 0: another operator */
static int
comparison(Oid opno, Oid type)
{
	TypeCacheEntry *entry = lookup_type_cache(type, TYPECACHE_BTREE_OPFAMILY);

	return OidIsValid(entry->btree_opf) ? get_op_opfamily_strategy(opno, entry->btree_opf) : 0;
}

/* x <strategy> y */
static void
note_comparison(JoinBounds *bounds, int strategy, TimeOf *x, TimeOf *y)
{
	if (strategy == 0)
		return;
	if (strategy <= BTEqualStrategyNumber)
		note_order(bounds, x, y);
	if (strategy >= BTEqualStrategyNumber)
		note_order(bounds, y, x);
}

/* (x - y) <strategy> constant; timestamps' difference has days of 24 hours */
static void
note_difference(JoinBounds *bounds, Query *query, Node *left, Node *right, int strategy)
{
	OpExpr	   *minus = (OpExpr *) strip_implicit_coercions(left);
	Interval   *span = constant_interval(right);
	TimeOf		x,
				y;
	int64		length;

	if (span == NULL || !IsA(minus, OpExpr) ||
		(get_opcode(minus->opno) != F_TIMESTAMPTZ_MI && get_opcode(minus->opno) != F_TIMESTAMP_MI) ||
		!trace_time(query, linitial(minus->args), &x) || !trace_time(query, lsecond(minus->args), &y))
		return;
	length = span->time + ((int64) span->day + (int64) span->month * DAYS_PER_MONTH) * USECS_PER_DAY;
	y.lo += length;
	y.hi += length;
	note_comparison(bounds, strategy, &x, &y);
}

static void
note_condition(JoinBounds *bounds, Query *query, Node *condition)
{
	OpExpr	   *op = (OpExpr *) condition;
	Node	   *left,
			   *right;
	TimeOf		x,
				y;
	Oid			type;
	int			strategy;

	if (!IsA(op, OpExpr) || list_length(op->args) != 2)
		return;
	left = linitial(op->args);
	right = lsecond(op->args);
	type = exprType(left);
	if (type != exprType(right) || (!is_time(type) && type != INTERVALOID))
		return;
	strategy = comparison(op->opno, type);
	if (is_time(type))
	{
		if (trace_time(query, left, &x) && trace_time(query, right, &y))
			note_comparison(bounds, strategy, &x, &y);
		return;
	}
	note_difference(bounds, query, left, right, strategy);
	if (strategy != 0)
		note_difference(bounds, query, right, left, BTGreaterStrategyNumber + 1 - strategy);
}

static void
note_conditions(JoinBounds *bounds, Query *query, Node *quals)
{
	ListCell   *lc;

	if (quals == NULL)
		return;
	quals = eval_const_expressions(NULL, copyObject(quals));
	foreach(lc, make_ands_implicit((Expr *) quals))
	{
		Node	   *condition = lfirst(lc);

		if (is_andclause(condition))
			note_conditions(bounds, query, condition);
		else
			note_condition(bounds, query, condition);
	}
}

static bool
holds_node(Query *query, Node *from)
{
	ListCell   *lc;

	if (IsA(from, RangeTblRef))
		return weir_query_has_delta((Node *) rt_fetch(((RangeTblRef *) from)->rtindex, query->rtable)->subquery);
	if (IsA(from, JoinExpr))
		return holds_node(query, ((JoinExpr *) from)->larg) || holds_node(query, ((JoinExpr *) from)->rarg);
	foreach(lc, ((FromExpr *) from)->fromlist)
	{
		if (holds_node(query, lfirst(lc)))
			return true;
	}
	return false;
}

/* The kind of outer join that has streams on both sides; JOIN_INNER: there is none. */
static JoinType
find_outer(Query *query, Node *from)
{
	JoinExpr   *join = (JoinExpr *) from;
	JoinType	below;
	ListCell   *lc;

	if (IsA(from, RangeTblRef))
		return JOIN_INNER;
	if (IsA(from, FromExpr))
	{
		foreach(lc, ((FromExpr *) from)->fromlist)
		{
			below = find_outer(query, lfirst(lc));
			if (below != JOIN_INNER)
				return below;
		}
		return JOIN_INNER;
	}
	if (join->jointype != JOIN_INNER && holds_node(query, join->larg) && holds_node(query, join->rarg))
		return join->jointype;
	below = find_outer(query, join->larg);
	return below != JOIN_INNER ? below : find_outer(query, join->rarg);
}

/* Conditions of joins that have streams on both sides, or are inner joins. (A left join with a table says nothing about streams.) */
static void
note_from(JoinBounds *bounds, Query *query, Node *from)
{
	ListCell   *lc;

	if (IsA(from, RangeTblRef))
		return;
	if (IsA(from, FromExpr))
	{
		foreach(lc, ((FromExpr *) from)->fromlist)
			note_from(bounds, query, lfirst(lc));
		note_conditions(bounds, query, ((FromExpr *) from)->quals);
		return;
	}
	note_from(bounds, query, ((JoinExpr *) from)->larg);
	note_from(bounds, query, ((JoinExpr *) from)->rarg);
	if (((JoinExpr *) from)->jointype == JOIN_INNER ||
		(holds_node(query, ((JoinExpr *) from)->larg) && holds_node(query, ((JoinExpr *) from)->rarg)))
		note_conditions(bounds, query, ((JoinExpr *) from)->quals);
}

/* --- outer joins ----------------------------------------------------------------- */

/* What a part of FROM says about the nodes in it, wherever two of them have a row. */
typedef struct PartBounds
{
	Bitmapset  *nodes;
	int64	   *upper;			/* as in JoinBounds */
} PartBounds;

static void
shorten(int64 *upper, int n, int through)
{
	for (int i = 0; i < n; i++)
		for (int j = 0; j < n; j++)
		{
			int64		first = upper[i * n + through];
			int64		second = upper[through * n + j];

			if (i != j && first != JOIN_UNBOUNDED && second != JOIN_UNBOUNDED)
				upper[i * n + j] = Min(upper[i * n + j], first + second);
		}
}

static PartBounds
part_of_item(JoinBounds *bounds, int item)
{
	PartBounds	part = {NULL, palloc(sizeof(int64) * bounds->n * bounds->n)};

	for (int i = 0; i < bounds->n; i++)
	{
		if (bounds->nodes[i].item == item)
			part.nodes = bms_add_member(part.nodes, i);
	}
	for (int i = 0; i < bounds->n * bounds->n; i++)
		part.upper[i] = JOIN_UNBOUNDED;
	return part;
}

/*
 * Two parts joined. Where both have rows the condition holds, and other bounds follow by way of the nodes that
 * it names, which have rows then; nodes that it does not name may have none. Where only one part has rows,
 * what held in it holds on.
 */
static PartBounds
join_parts(JoinBounds *bounds, Query *query, JoinType type, PartBounds left, PartBounds right, Node *quals)
{
	int			n = bounds->n;
	JoinBounds	both = *bounds;
	Bitmapset  *named = NULL;
	PartBounds	result = {bms_union(left.nodes, right.nodes), palloc(sizeof(int64) * n * n)};

	both.upper = palloc(sizeof(int64) * n * n);
	for (int i = 0; i < n * n; i++)
		both.upper[i] = JOIN_UNBOUNDED;
	note_conditions(&both, query, quals);
	for (int i = 0; i < n * n; i++)
	{
		if (both.upper[i] != JOIN_UNBOUNDED)
			named = bms_add_member(bms_add_member(named, i / n), i % n);
		both.upper[i] = Min(both.upper[i], Min(left.upper[i], right.upper[i]));
	}
	for (int i = -1; (i = bms_next_member(named, i)) >= 0;)
		shorten(both.upper, n, i);
	for (int i = 0; i < n * n; i++)
	{
		bool		in_left = bms_is_member(i / n, left.nodes) && bms_is_member(i % n, left.nodes);
		bool		in_right = bms_is_member(i / n, right.nodes) && bms_is_member(i % n, right.nodes);

		if (in_left && (type == JOIN_LEFT || type == JOIN_FULL))
			result.upper[i] = left.upper[i];
		else if (in_right && (type == JOIN_RIGHT || type == JOIN_FULL))
			result.upper[i] = right.upper[i];
		else
			result.upper[i] = both.upper[i];
	}
	return result;
}

static PartBounds
part_of(JoinBounds *bounds, Query *query, Node *from)
{
	JoinExpr   *join = (JoinExpr *) from;
	PartBounds	result;
	ListCell   *lc;

	check_stack_depth();
	if (IsA(from, RangeTblRef))
		return part_of_item(bounds, ((RangeTblRef *) from)->rtindex);
	if (IsA(from, JoinExpr))
		return join_parts(bounds, query, join->jointype, part_of(bounds, query, join->larg),
						  part_of(bounds, query, join->rarg), join->quals);
	result = part_of_item(bounds, 0);
	foreach(lc, ((FromExpr *) from)->fromlist)
		result = join_parts(bounds, query, JOIN_INNER, result, part_of(bounds, query, lfirst(lc)), NULL);
	return result;				/* WHERE above an outer join does not decide which rows match */
}

/* Conditions of all levels: rows that meet meet them all. */
static void
note_levels(JoinBounds *bounds, Query *query)
{
	ListCell   *lc;

	check_stack_depth();
	if (query->setOperations || reads_delta(query))
		return;
	note_from(bounds, query, (Node *) query->jointree);
	foreach(lc, query->rtable)
	{
		RangeTblEntry *rte = lfirst(lc);

		if (rte->rtekind == RTE_SUBQUERY && weir_query_has_delta((Node *) rte->subquery))
			note_levels(bounds, rte->subquery);
	}
}

/* --- nodes --------------------------------------------------------------------------- */

static bool
streams_walker(Node *node, List **streams)
{
	if (node == NULL)
		return false;
	if (IsA(node, RangeTblEntry))
	{
		RangeTblEntry *rte = (RangeTblEntry *) node;

		if (rte->rtekind == RTE_NAMEDTUPLESTORE)
			*streams = list_append_unique_oid(*streams, weir_delta_stream(rte));
		return false;
	}
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, streams_walker, streams, QTW_EXAMINE_RTES_BEFORE);
	return expression_tree_walker(node, streams_walker, streams);
}

static void
find_nodes(Query *query, int item, List **nodes)
{
	ListCell   *lc;

	check_stack_depth();
	if (query->setOperations || reads_delta(query))
	{
		JoinNode   *node = palloc0(sizeof(JoinNode));

		node->query = query;
		node->item = item;
		(void) streams_walker((Node *) query, &node->streams);
		*nodes = lappend(*nodes, node);
		return;
	}
	foreach(lc, query->rtable)
	{
		RangeTblEntry *rte = lfirst(lc);

		if (rte->rtekind == RTE_SUBQUERY && weir_query_has_delta((Node *) rte->subquery))
			find_nodes(rte->subquery, item, nodes);
	}
}

static void
measure(JoinBounds *bounds)
{
	int			n = bounds->n;

	bounds->bounded = true;
	for (int i = 0; i < n; i++)
	{
		JoinNode   *node = &bounds->nodes[i];

		for (int j = 0; j < n; j++)
		{
			if (i == j)
				continue;
			if (bounds->upper[i * n + j] == JOIN_UNBOUNDED || bounds->upper[j * n + i] == JOIN_UNBOUNDED)
			{
				bounds->bounded = false;
				return;
			}
			node->forward = Max(node->forward, bounds->upper[i * n + j]);
			node->back = Max(node->back, bounds->upper[j * n + i]);
		}
		bounds->span = Max(bounds->span, node->forward + node->back);
	}
}

/* weir_join_bounds understands a join of streams, over deltas. */
JoinBounds *
weir_join_bounds(Query *join)
{
	JoinBounds *bounds = palloc0(sizeof(JoinBounds));
	List	   *nodes = NIL;
	int			i = 0;
	ListCell   *lc;

	foreach(lc, join->rtable)
	{
		RangeTblEntry *rte = lfirst(lc);

		i++;
		if (rte->rtekind == RTE_SUBQUERY && weir_query_has_delta((Node *) rte->subquery))
			find_nodes(rte->subquery, i, &nodes);
	}
	bounds->n = list_length(nodes);
	bounds->nodes = palloc(sizeof(JoinNode) * bounds->n);
	i = 0;
	foreach(lc, nodes)
		bounds->nodes[i++] = *(JoinNode *) lfirst(lc);
	bounds->upper = palloc(sizeof(int64) * bounds->n * bounds->n);
	for (i = 0; i < bounds->n * bounds->n; i++)
		bounds->upper[i] = JOIN_UNBOUNDED;
	bounds->outer = find_outer(join, (Node *) join->jointree);
	if (bounds->outer != JOIN_INNER)
		bounds->upper = part_of(bounds, join, (Node *) join->jointree).upper;
	else
	{
		note_levels(bounds, join);
		for (i = 0; i < bounds->n; i++)
			shorten(bounds->upper, bounds->n, i);
	}
	measure(bounds);
	return bounds;
}
