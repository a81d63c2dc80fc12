/*
 * windowed_bound.c
 *	  Rows of a stream that belong to a window because conditions bound them by its columns.
 *
 * windowed ⇒ windowed_bound ⇒ windowed_late. Such rows are joined with a part that has a window, as in
 *	  bid b JOIN (SELECT max(price) AS price, window_end FROM bid, tumble(...) GROUP BY ...) m
 *		ON b.price = m.price AND b.at >= m.window_end - interval '10 s' AND b.at < m.window_end
 * How far before and behind the window's end they may be says which kept rows a close reads, and how much later
 * than its end the window closes. Both bounds must be there.
 */
#include "postgres.h"

#include "access/stratnum.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"
#include "view/parts.h"
#include "view/windowed.h"

/* weir_windowed_binds: does a condition that compares two entries hold for every row that both have a part in? */
bool
weir_windowed_binds(Condition *condition, int a, int b)
{
	switch (condition->type)
	{
		case JOIN_INNER:
			return true;
		case JOIN_LEFT:
			return bms_is_member(a, condition->right) || bms_is_member(b, condition->right);
		case JOIN_RIGHT:
			return bms_is_member(a, condition->left) || bms_is_member(b, condition->left);
		default:
			return bms_is_member(a, condition->left) != bms_is_member(b, condition->left);
	}
}

/* weir_windowed_comparison: BTLessStrategyNumber and so on, for operators on one type of time; 0: another operator */
int
weir_windowed_comparison(OpExpr *op)
{
	Oid			type;
	TypeCacheEntry *cache;

	if (!IsA(op, OpExpr) || list_length(op->args) != 2)
		return 0;
	type = exprType(linitial(op->args));
	if ((type != TIMESTAMPTZOID && type != TIMESTAMPOID) || exprType(lsecond(op->args)) != type)
		return 0;
	cache = lookup_type_cache(type, TYPECACHE_BTREE_OPFAMILY);
	return OidIsValid(cache->btree_opf) ? get_op_opfamily_strategy(op->opno, cache->btree_opf) : 0;
}

/* A time give or take a constant interval without months; *offset in microseconds, *slack where it has days. */
static Node *
without_offset(Node *node, int64 *offset, int64 *slack)
{
	for (;;)
	{
		OpExpr	   *op;
		Const	   *span;
		Interval   *interval;
		int64		length;

		node = strip_implicit_coercions(node);
		op = (OpExpr *) node;
		if (!IsA(op, OpExpr) || list_length(op->args) != 2)
			return node;
		span = (Const *) eval_const_expressions(NULL, lsecond(op->args));
		if (!IsA(span, Const) || span->constisnull || span->consttype != INTERVALOID)
			return node;
		interval = DatumGetIntervalP(span->constvalue);
		if (interval->month != 0)
			return node;
		length = interval->time + (int64) interval->day * USECS_PER_DAY;
		switch (get_opcode(op->opno))
		{
			case F_TIMESTAMPTZ_PL_INTERVAL:
			case F_TIMESTAMP_PL_INTERVAL:
				break;
			case F_TIMESTAMPTZ_MI_INTERVAL:
			case F_TIMESTAMP_MI_INTERVAL:
				length = -length;
				break;
			default:
				return node;
		}
		*offset += length;
		if (interval->day != 0 && get_opcode(op->opno) != F_TIMESTAMP_PL_INTERVAL && get_opcode(op->opno) != F_TIMESTAMP_MI_INTERVAL)
			*slack += 3 * USECS_PER_HOUR;	/* a local day may be so much longer or shorter */
		node = linitial(op->args);
	}
}

/* Length of windows that last the same each, microseconds; -1: days and months of a calendar. */
static int64
fixed_size(FuncExpr *call)
{
	Interval   *size = DatumGetIntervalP(((Const *) lsecond(call->args))->constvalue);

	if (weir_is_cumulate(call) || size->month != 0 || exprType(llast(call->args)) == TEXTOID)
		return -1;
	return size->time + (int64) size->day * USECS_PER_DAY;
}

/* Rows of a level that no window function is over, and what bounds them so far. */
typedef struct Bounded
{
	int			rows;
	int			entry;			/* whose window it is; 0: none found */
	Expr	   *end;
	int64		before;
	int64		after;
	Node	  **quals;
} Bounded;

/* rows' time <strategy> the window's bound */
static void
note_bound(Level *level, Condition *condition, Bounded *bounded, Node *time, Node *other, int strategy)
{
	int64		offset = 0;		/* of the bound, less that of the time */
	int64		slack = 0;
	Node	   *row_time;
	Node	   *window;
	Bound		bound;

	row_time = without_offset(time, &offset, &slack);
	offset = -offset;
	window = without_offset(other, &offset, &slack);
	if (!IsA(row_time, Var) || ((Var *) row_time)->varlevelsup != 0 || ((Var *) row_time)->varno != bounded->rows ||
		!weir_is_event_time(level->query, row_time))
		return;
	bound = weir_windowed_bound_of(level, window);
	if (bound.column == 0 || !weir_windowed_binds(condition, bounded->rows, bound.entry) || condition->type == JOIN_FULL ||
		(condition->type == JOIN_LEFT && !bms_is_member(bounded->rows, condition->right)) ||
		(condition->type == JOIN_RIGHT && !bms_is_member(bounded->rows, condition->left)) ||
		(bounded->entry != 0 && level->entries[bounded->entry].group != level->entries[bound.entry].group))
		return;
	if (bound.column == 1)
	{
		int64		size = fixed_size(bound.call);

		if (size < 0)
			return;
		offset -= size;
		window = (Node *) weir_time_later(weir_as_timestamptz((Expr *) copyObject(window)), size);
	}
	bounded->entry = bound.entry;
	bounded->end = weir_as_timestamptz((Expr *) copyObject(window));
	bounded->quals = condition->quals;
	if (strategy >= BTEqualStrategyNumber)
		bounded->before = Min(bounded->before, slack - offset);
	if (strategy <= BTEqualStrategyNumber)
		bounded->after = Min(bounded->after, offset + slack - (strategy == BTLessStrategyNumber ? 1 : 0));
}

/* weir_windowed_bound_rows finds the window that conditions bind rows to which no window function is over; raises 0A000 if there is none. */
void
weir_windowed_bound_rows(Level *level, int rows)
{
	Bounded		bounded = {rows, 0, NULL, PG_INT64_MAX, PG_INT64_MAX, NULL};
	WindowPart *part;
	ListCell   *lc;

	foreach(lc, level->conditions)
	{
		Condition  *condition = lfirst(lc);
		OpExpr	   *op = (OpExpr *) condition->node;
		int			strategy = weir_windowed_comparison(op);

		if (strategy == 0)
			continue;
		note_bound(level, condition, &bounded, linitial(op->args), lsecond(op->args), strategy);
		note_bound(level, condition, &bounded, lsecond(op->args), linitial(op->args), BTMaxStrategyNumber + 1 - strategy);
	}
	if (bounded.before == PG_INT64_MAX || bounded.after == PG_INT64_MAX)
		weir_refuse(level->windowed->name, "weir.emit = 'final' inserts rows when their window closes, and rows of a stream go through no window: no condition bounds their event time by a window's columns, from both sides.",
					"Put tumble(), hop() or cumulate() beside the stream into FROM, or a condition such as o.at >= w.window_start AND o.at < w.window_end.");
	part = weir_windowed_add_part(level, rows, 0);
	part->end = bounded.end;
	part->before = bounded.before;
	part->after = bounded.after;
	part->quals = bounded.quals;
	weir_windowed_unite(level, bounded.entry, rows);
}
