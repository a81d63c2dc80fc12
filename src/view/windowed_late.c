/*
 * windowed_late.c
 *	  Late rows of queries all parts of which belong to one window.
 *
 * windowed ⇒ windowed_late ⇒ atclose. Each row is judged for its window where it comes into it: beside the
 * window function, or in the condition that bounds it. A row is late for a window if this was over before its own
 * partition's stream time, less the lateness, came to it: at the end of the window, or so much later as the
 * query asks for rows behind that end. What the view has closed takes no rows either.
 *
 * The late query finds the rows left out: of each part one arm of UNION ALL. Rows that are only bounded
 * count as late when every window that they could be in is over for them.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "compat.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteManip.h"
#include "utils/fmgroids.h"
#include "utils/timestamp.h"
#include "view/join.h"
#include "view/parts.h"
#include "view/recompute.h"
#include "view/windowed.h"

static Expr *
not_after(Expr *a, Expr *b)
{
	return weir_time_compare(F_TIMESTAMPTZ_LE, a, b);
}

/* FROM rows alone, or rows and a window function over them */
static Query *
alone(WindowPart *part)
{
	Query	   *query = makeNode(Query);

	query->commandType = CMD_SELECT;
	query->canSetTag = true;
	weir_select_from(query, copyObject(rt_fetch(part->rows, part->level->rtable)));
	weir_compat_copy_permissions(query, part->level);
	if (part->window)
	{
		RangeTblEntry *window = copyObject(rt_fetch(part->window, part->level->rtable));
		RangeTblRef *second = makeNode(RangeTblRef);
		FuncExpr   *call = weir_window_call(window);
		Node	   *time = strip_implicit_coercions(linitial(call->args));

		while (IsA(time, Var) && ((Var *) time)->varno != part->rows)
			time = strip_implicit_coercions(list_nth(rt_fetch(((Var *) time)->varno, part->level->rtable)->joinaliasvars,
													 ((Var *) time)->varattno - 1));
		linitial(call->args) = copyObject(time);
		ChangeVarNodes((Node *) call, part->rows, 1, 0);
		query->rtable = lappend(query->rtable, window);
		second->rtindex = 2;
		query->jointree->fromlist = lappend(query->jointree->fromlist, second);
	}
	return query;
}

/* SELECT partition, offset, event time, window_start, the row, of the late rows of a part */
static Query *
late_of_part(WindowPart *part, LateRule *rule)
{
	Query	   *late;
	Expr	   *time;
	Expr	   *over;

	if (part->window && !weir_join_level(part->level))
		return weir_late_query(weir_recompute_linear_part(part->level, NIL), rule);
	late = alone(part);
	if (part->window)
		return weir_late_query(late, rule);
	time = weir_late_expose(late, WEIR_COL_EVENT_TIME);
	over = not_after(weir_time_later(copyObject(time), part->before), weir_late_deadline(late, rule, false));
	if (rule->final)
		over = makeBoolExpr(OR_EXPR, list_make2(over, not_after(weir_time_later(copyObject(time), part->before), weir_final_time("closed_until"))), -1);
	weir_add_where(late, weir_boolean_test(over, IS_TRUE));
	weir_late_select_rows(late);
	return late;
}

/* Leaves late rows out where they come into their window. */
static void
filter_part(WindowPart *part, LateRule *rule)
{
	if (part->window)
		weir_add_where(part->level, weir_boolean_test(weir_late_condition(part->level, part->window, part->rows, rule), IS_NOT_TRUE));
	else
		weir_add_condition(part->quals,
						   weir_boolean_test(not_after(copyObject(part->end), weir_late_deadline_of(part->level, part->rows, rule)), IS_NOT_TRUE));
}

/* weir_windowed_late makes an analysed query leave late rows out, in place, and sets shape->late. */
void
weir_windowed_late(ViewShape *shape, Windowed *windowed, LateRule *rule)
{
	List	   *late = NIL;
	ListCell   *lc;

	weir_late_note(shape->streams, rule);
	rule->shift = windowed->after;
	foreach(lc, windowed->parts)
	{
		WindowPart *part = lfirst(lc);
		Query	   *query = part->again ? NULL : late_of_part(part, rule);
		TargetEntry *start;

		if (query == NULL)
			continue;
		start = list_nth_node(TargetEntry, query->targetList, 3);
		start->expr = weir_as_timestamptz(start->expr);
		late = lappend(late, query);
	}
	foreach(lc, windowed->parts)
		filter_part(lfirst(lc), rule);
	shape->late = weir_statement_unite("weir_late", late);
}
