/*
 * windowed.c
 *	  Queries all parts of which belong to one window.
 *
 * rewrite ⇒ windowed ⇒ atclose. A query may join, unite and group what it likes and still be computed
 * window by window, if no row of any level depends on rows of two windows. That is found out here, from the
 * lowest levels up. Rows of a stream come into a window by a window function over their event
 * time, or because conditions bound it by a window's column (parts). The parts of one level must be
 * joined by equality of their windows: the same window_end, or the same window_start of the same
 * window function. What a level groups, numbers or makes distinct must have the window among its keys.
 *
 * Two windows that end together close together, whatever their sizes: so a window is known by its
 * end. In an outer join the condition binds the side that may be missing, and the columns of that side say
 * nothing of the window of a row, but coalesce() of both sides of a FULL JOIN does.
 *
 * Works on queries over deltas whose common table expressions are sub-selects. Raises 0A000 for what depends on more.
 */
#include "postgres.h"

#include "access/stratnum.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parse_agg.h"
#include "parser/parsetree.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"
#include "utils/typcache.h"
#include "view/join.h"
#include "view/parts.h"
#include "view/recompute.h"
#include "view/windowed.h"

static Bound *analyse(Windowed *windowed, Query *query);

/* --- which queries need this -------------------------------------------------------- */

static bool
outer_join_of_streams(Query *query, Node *node, bool *has_stream)
{
	bool		left = false;
	bool		right = false;
	ListCell   *lc;

	if (IsA(node, RangeTblRef))
	{
		RangeTblEntry *rte = rt_fetch(((RangeTblRef *) node)->rtindex, query->rtable);

		*has_stream |= weir_query_has_stream(rte->rtekind == RTE_SUBQUERY ? (Node *) rte->subquery : (Node *) rte);
		return false;
	}
	if (IsA(node, FromExpr))
	{
		foreach(lc, ((FromExpr *) node)->fromlist)
		{
			if (outer_join_of_streams(query, lfirst(lc), has_stream))
				return true;
		}
		return false;
	}
	if (outer_join_of_streams(query, ((JoinExpr *) node)->larg, &left) ||
		outer_join_of_streams(query, ((JoinExpr *) node)->rarg, &right))
		return true;
	*has_stream |= left || right;
	return left && right && ((JoinExpr *) node)->jointype != JOIN_INNER;
}

/* UNION ALL of what is linear is linear; anything else compares rows. */
static bool
set_operation_compares(Query *query, Node *node)
{
	SetOperationStmt *op = (SetOperationStmt *) node;

	if (IsA(op, RangeTblRef))
	{
		Query	   *arm = rt_fetch(((RangeTblRef *) op)->rtindex, query->rtable)->subquery;

		return weir_recompute_groups(arm);
	}
	return op->op != SETOP_UNION || !op->all ||
		set_operation_compares(query, op->larg) || set_operation_compares(query, op->rarg);
}

static bool
wanted_walker(Node *node, void *context)
{
	Query	   *query = (Query *) node;
	bool		has_stream = false;
	ListCell   *lc;

	if (node == NULL)
		return false;
	if (!IsA(node, Query))
		return expression_tree_walker(node, wanted_walker, context);
	if (!weir_query_has_stream(node))
		return false;
	check_stack_depth();
	if (query->setOperations)
	{
		if (set_operation_compares(query, query->setOperations))
			return true;
	}
	else if (weir_join_level(query))
	{
		if (outer_join_of_streams(query, (Node *) query->jointree, &has_stream))
			return true;
		foreach(lc, query->rtable)
		{
			RangeTblEntry *rte = lfirst(lc);

			if (rte->rtekind == RTE_SUBQUERY && weir_recompute_groups(rte->subquery))
				return true;
		}
	}
	return query_tree_walker(query, wanted_walker, context, 0);
}

/*
 * weir_windowed_wanted tells whether a final view's query over streams has a form that only this file knows: LIMIT, a set
 * operation that compares rows, a join with a side that groups, an outer join.
 */
bool
weir_windowed_wanted(Query *query)
{
	Query	   *inlined;

	if (!weir_has_window(query))
		return false;
	if (query->limitCount || query->limitOffset)
		return true;
	inlined = copyObject(query);
	weir_levels_inline(inlined);
	return wanted_walker((Node *) inlined, NULL);
}

/* --- bounds of windows ------------------------------------------------------------------ */

static bool
same_windows(FuncExpr *a, FuncExpr *b)
{
	return a->funcid == b->funcid && list_length(a->args) == list_length(b->args) &&
		equal(list_copy_tail(a->args, 1), list_copy_tail(b->args, 1));
}

/* Does it tell which window a row is in? */
static bool
tells_window(Bound bound)
{
	return !bound.nullable && (bound.column == 2 || (bound.column == 1 && !weir_is_cumulate(bound.call)));
}

/* coalesce() of the same bound of what may be missing, one of which is always there: of both sides of a FULL JOIN. */
static Bound
bound_of_coalesce(Level *level, CoalesceExpr *coalesce)
{
	Bound		result = {0};
	Bitmapset  *seen = NULL;
	bool		always = false;
	ListCell   *lc;

	foreach(lc, coalesce->args)
	{
		Bound		arg = weir_windowed_bound_of(level, lfirst(lc));

		if (arg.column == 0 || (result.column != 0 && (arg.column != result.column || !same_windows(arg.call, result.call))))
			return (Bound) {0};
		always |= !arg.nullable;
		seen = bms_add_member(seen, arg.entry);
		result = arg;
	}
	for (int i = 1; i <= level->n && !always; i++)
	{
		if (level->entries[i].kind == ENTRY_PART && !bms_is_member(i, seen))
			return (Bound) {0};
	}
	result.nullable = false;
	return result;
}

/* weir_windowed_bound_of returns the bound of a window that an expression of a level is. */
Bound
weir_windowed_bound_of(Level *level, Node *node)
{
	Var		   *var = (Var *) strip_implicit_coercions(node);
	RangeTblEntry *rte;
	Entry	   *entry;
	Bound		result = {0};

	if (IsA(var, CoalesceExpr))
		return bound_of_coalesce(level, (CoalesceExpr *) var);
	if (!IsA(var, Var) || var->varlevelsup != 0 || var->varattno <= 0)
		return result;
	rte = rt_fetch(var->varno, level->query->rtable);
	if (rte->rtekind == RTE_JOIN)
		return weir_windowed_bound_of(level, list_nth(rte->joinaliasvars, var->varattno - 1));
	entry = &level->entries[var->varno];
	if (entry->kind == ENTRY_WINDOW && var->varattno <= 2)
		result = (Bound) {var->varattno, weir_window_call(rte)};
	else if (entry->kind == ENTRY_PART)
		result = entry->columns[var->varattno];
	result.nullable |= entry->nullable;
	result.entry = var->varno;
	return result;
}

/* --- what stands in FROM ------------------------------------------------------------------- */

WindowPart *
weir_windowed_add_part(Level *level, int rows, int window)
{
	WindowPart *part = palloc0(sizeof(WindowPart));

	part->level = level->query;
	part->rows = rows;
	part->window = window;
	part->again = level->entries[rows].part != NULL;
	level->entries[rows].part = part;
	level->windowed->parts = lappend(level->windowed->parts, part);
	return part;
}

static void
add_subquery(Level *level, int i, RangeTblEntry *rte)
{
	Entry	   *entry = &level->entries[i];

	if (rte->lateral)
		weir_refuse(level->windowed->name, "A LATERAL sub-select reads a stream.",
					"Join a sub-select in FROM, on window_start and window_end; row_number() OVER (PARTITION BY window_start, key ORDER BY x) gives the first rows of each key.");
	if (weir_has_window(rte->subquery))
	{
		entry->columns = analyse(level->windowed, rte->subquery);
		entry->kind = ENTRY_PART;
		return;
	}
	if (weir_recompute_groups(rte->subquery))
		weir_refuse(level->windowed->name, "weir.emit = 'final' inserts rows when their window closes, and a part of the query groups, numbers or makes distinct rows that go through no window.",
					"Put tumble(), hop() or cumulate() beside the stream into FROM of that part, and window_start and window_end into its keys.");
	entry->kind = ENTRY_ROWS;
}

/* A window function goes with the rows whose event time it is called with. */
static void
add_window(Level *level, int i, RangeTblEntry *rte)
{
	FuncExpr   *call = weir_window_call(rte);
	Node	   *time = strip_implicit_coercions(linitial(call->args));
	Entry	   *rows = NULL;
	int			varno = 0;

	while (IsA(time, Var) && ((Var *) time)->varlevelsup == 0 &&
		   rt_fetch(((Var *) time)->varno, level->query->rtable)->rtekind == RTE_JOIN)
		time = strip_implicit_coercions(list_nth(rt_fetch(((Var *) time)->varno, level->query->rtable)->joinaliasvars,
												 ((Var *) time)->varattno - 1));
	if (IsA(time, Var) && ((Var *) time)->varlevelsup == 0)
		varno = ((Var *) time)->varno;
	rows = varno ? &level->entries[varno] : NULL;
	if (rows != NULL && rows->kind == ENTRY_PART)
		weir_refuse(level->windowed->name, "A window function in FROM stands beside a sub-select whose rows have a window already.",
					"Window the stream itself, in the innermost SELECT, and pass window_start and window_end on; or make a final view of the sub-select, and window that.");
	if (rows == NULL || rows->kind != ENTRY_ROWS || !weir_is_event_time(level->query, time))
		weir_refuse(level->windowed->name, "weir.emit = 'final' closes windows by the stream's event time, and this window is over something else.",
					"Give the window function the column of weir.event_time (or _timestamp where the stream has none), or leave out weir.emit.");
	for (int n = 1; n < list_length(call->args); n++)
	{
		if (!IsA(list_nth(call->args, n), Const))
			weir_refuse(level->windowed->name, "A final view that is run when its windows close needs windows of constant size.",
						"Write the sizes as literals.");
	}
	level->entries[i].kind = ENTRY_WINDOW;
	level->entries[i].group = rows->group;
	level->windowed->calls = lappend(level->windowed->calls, call);
	(void) weir_windowed_add_part(level, varno, i);
}

static void
add_entries(Level *level)
{
	for (int i = 1; i <= level->n; i++)
	{
		RangeTblEntry *rte = rt_fetch(i, level->query->rtable);

		level->entries[i].group = i;
		if (rte->rtekind == RTE_SUBQUERY && weir_query_has_delta((Node *) rte->subquery))
			add_subquery(level, i, rte);
		else if (rte->rtekind == RTE_NAMEDTUPLESTORE)
			weir_refuse(level->windowed->name, "weir.emit = 'final' inserts rows when their window closes, and rows of a stream go through no window.",
						"Put tumble(), hop() or cumulate() beside the stream into FROM.");
	}
	for (int i = 1; i <= level->n; i++)
	{
		if (weir_is_window(rt_fetch(i, level->query->rtable)))
			add_window(level, i, rt_fetch(i, level->query->rtable));
	}
}

/* --- conditions ----------------------------------------------------------------------------- */

static void
note_conditions(Level *level, Node **quals, JoinType type, Bitmapset *left, Bitmapset *right)
{
	ListCell   *lc;

	foreach(lc, make_ands_implicit((Expr *) *quals))
	{
		Condition  *condition = palloc(sizeof(Condition));

		*condition = (Condition) {lfirst(lc), type, left, right, quals};
		level->conditions = lappend(level->conditions, condition);
	}
}

static void
set_nullable(Level *level, Bitmapset *entries)
{
	int			i = -1;

	level->windowed->outer = true;
	while ((i = bms_next_member(entries, i)) >= 0)
		level->entries[i].nullable = true;
}

/* Collects the conditions of FROM and WHERE; returns the entries below a node. */
static Bitmapset *
walk_from(Level *level, Node *node)
{
	Bitmapset  *left = NULL;
	Bitmapset  *right;
	JoinExpr   *join;
	ListCell   *lc;

	if (IsA(node, RangeTblRef))
		return bms_make_singleton(((RangeTblRef *) node)->rtindex);
	if (IsA(node, FromExpr))
	{
		foreach(lc, ((FromExpr *) node)->fromlist)
			left = bms_add_members(left, walk_from(level, lfirst(lc)));
		note_conditions(level, &((FromExpr *) node)->quals, JOIN_INNER, NULL, NULL);
		return left;
	}
	join = castNode(JoinExpr, node);
	left = walk_from(level, join->larg);
	right = walk_from(level, join->rarg);
	note_conditions(level, &join->quals, join->jointype, left, right);
	if (join->jointype == JOIN_LEFT || join->jointype == JOIN_FULL)
		set_nullable(level, right);
	if (join->jointype == JOIN_RIGHT || join->jointype == JOIN_FULL)
		set_nullable(level, left);
	return bms_union(left, right);
}

/* weir_windowed_unite: what two entries come from is in one window. */
void
weir_windowed_unite(Level *level, int a, int b)
{
	int			from = level->entries[b].group;
	int			to = level->entries[a].group;

	for (int i = 1; i <= level->n; i++)
	{
		if (level->entries[i].group == from)
			level->entries[i].group = to;
	}
}

/* window = window */
static void
unite_windows(Level *level, Condition *condition)
{
	OpExpr	   *op = (OpExpr *) condition->node;
	Bound		a;
	Bound		b;

	if (weir_windowed_comparison(op) != BTEqualStrategyNumber)
		return;
	a = weir_windowed_bound_of(level, linitial(op->args));
	b = weir_windowed_bound_of(level, lsecond(op->args));
	if (a.column == 0 || a.column != b.column || !weir_windowed_binds(condition, a.entry, b.entry))
		return;
	if (a.column == 2 || (same_windows(a.call, b.call) && !weir_is_cumulate(a.call)))
		weir_windowed_unite(level, a.entry, b.entry);
}

/* --- a level ---------------------------------------------------------------------------------- */

/* Are all parts of the level in the same window? */
static void
check_one_window(Level *level)
{
	int			first = 0;

	for (int i = 1; i <= level->n; i++)
	{
		Entry	   *entry = &level->entries[i];

		if (entry->kind == ENTRY_OTHER)
			continue;
		if (entry->kind == ENTRY_WINDOW && entry->nullable)
			weir_refuse(level->windowed->name, "A window function stands on the side of an outer join that may be missing.",
						"Put the stream and its window function into a sub-select, and join that.");
		if (first == 0)
			first = i;
		else if (entry->group != level->entries[first].group)
			weir_refuse(level->windowed->name, "Parts of the query that are joined belong to different windows: a row of the result would depend on several.",
						"Join them on equal window_start and window_end.");
	}
}

static bool
has_bound(Level *level, List *clauses)
{
	ListCell   *lc;

	foreach(lc, clauses)
	{
		if (tells_window(weir_windowed_bound_of(level, get_sortgroupclause_expr(lfirst(lc), level->query->targetList))))
			return true;
	}
	return false;
}

static bool
in_every_grouping_set(Level *level)
{
	Query	   *query = level->query;
	ListCell   *lc,
			   *ls;

	foreach(lc, expand_grouping_sets(query->groupingSets, query->groupDistinct, -1))
	{
		List	   *clauses = NIL;

		foreach(ls, (List *) lfirst(lc))
			clauses = lappend(clauses, get_sortgroupref_clause(lfirst_int(ls), query->groupClause));
		if (!has_bound(level, clauses))
			return false;
	}
	return true;
}

static void
refuse_several(Level *level, const char *clause)
{
	weir_refuse(level->windowed->name, psprintf("Rows of the result would depend on rows of several windows: %s has no window among its columns.", clause),
				"Put window_start (of cumulate(): window_end) into each GROUP BY, DISTINCT, DISTINCT ON and PARTITION BY.");
}

static void
check_keys(Level *level)
{
	Query	   *query = level->query;
	ListCell   *lc;

	if (query->groupingSets ? !in_every_grouping_set(level) :
		(query->groupClause || query->hasAggs || query->havingQual) && !has_bound(level, query->groupClause))
		refuse_several(level, query->groupClause ? "GROUP BY" : "an aggregate without GROUP BY");
	foreach(lc, query->windowClause)
	{
		if (!has_bound(level, lfirst_node(WindowClause, lc)->partitionClause))
			refuse_several(level, "OVER");
	}
	if (query->distinctClause && !has_bound(level, query->distinctClause))
		refuse_several(level, query->hasDistinctOn ? "DISTINCT ON" : "DISTINCT");
}

/* The select list's bounds of windows. What GROUPING SETS leave out in some rows is none. */
static Bound *
bounds_of_targets(Level *level)
{
	Query	   *query = level->query;
	Bound	   *result = palloc0(sizeof(Bound) * (list_length(query->targetList) + 1));
	ListCell   *lc;

	foreach(lc, query->targetList)
	{
		TargetEntry *tle = lfirst(lc);

		if (tle->resjunk || query->groupingSets)
			continue;
		result[tle->resno] = weir_windowed_bound_of(level, (Node *) tle->expr);
	}
	return result;
}

static Level *
analyse_level(Windowed *windowed, Query *query)
{
	Level	   *level = palloc0(sizeof(Level));
	ListCell   *lc;

	weir_compat_flatten_groups(query);
	level->windowed = windowed;
	level->query = query;
	level->n = list_length(query->rtable);
	level->entries = palloc0(sizeof(Entry) * (level->n + 1));
	add_entries(level);
	(void) walk_from(level, (Node *) query->jointree);
	foreach(lc, level->conditions)
		unite_windows(level, lfirst(lc));
	for (int i = 1; i <= level->n; i++)
	{
		if (level->entries[i].kind == ENTRY_ROWS && level->entries[i].part == NULL)
			weir_windowed_bound_rows(level, i);
	}
	check_one_window(level);
	return level;
}

/* The select list of a set operation has the bounds that all arms have. */
static Bound *
analyse_arms(Windowed *windowed, Query *query)
{
	Bound	   *result = NULL;
	int			n = list_length(query->targetList);
	bool		tells = false;
	ListCell   *lc;

	foreach(lc, query->rtable)
	{
		RangeTblEntry *rte = lfirst(lc);
		Bound	   *arm;

		if (rte->rtekind != RTE_SUBQUERY)
			continue;
		arm = analyse(windowed, rte->subquery);
		for (int i = 1; result && i <= n; i++)
		{
			if (result[i].column != arm[i].column || result[i].column == 0 || !same_windows(result[i].call, arm[i].call))
				result[i] = (Bound) {0};
			result[i].nullable |= arm[i].nullable;
		}
		result = result ? result : arm;
	}
	for (int i = 1; i <= n; i++)
		tells |= tells_window(result[i]);
	if (!tells && !weir_only_union_all(query->setOperations))
		weir_refuse(windowed->name, "Rows of the result would depend on rows of several windows: UNION, INTERSECT or EXCEPT compares rows that do not show their window.",
					"Put window_start (of cumulate(): window_end) into the select list of each arm, at the same place.");
	return result;
}

/* Understands a query; returns the bounds of windows in its select list, by number. */
static Bound *
analyse(Windowed *windowed, Query *query)
{
	Level	   *level;

	check_stack_depth();
	if (query->limitCount || query->limitOffset)
		weir_refuse(windowed->name, "LIMIT or OFFSET stands in a sub-select over a stream.",
					"Number the rows instead: row_number() OVER (PARTITION BY window_start ORDER BY x) AS n, and above that WHERE n <= 10.");
	if (query->setOperations)
		return analyse_arms(windowed, query);
	level = analyse_level(windowed, query);
	check_keys(level);
	return bounds_of_targets(level);
}

/* weir_windowed_analyse understands a query, or raises 0A000. */
Windowed *
weir_windowed_analyse(Query *query, const char *name)
{
	Windowed   *windowed = palloc0(sizeof(Windowed));
	Bound	   *bounds;
	ListCell   *lc;

	windowed->name = name;
	bounds = analyse(windowed, query);
	foreach(lc, query->targetList)
	{
		TargetEntry *tle = lfirst(lc);

		if (!tle->resjunk && bounds[tle->resno].column != 0 && bounds[tle->resno].nullable)
			windowed->unsure = lappend_int(windowed->unsure, tle->resno);
	}
	foreach(lc, windowed->parts)
	{
		WindowPart *part = lfirst(lc);

		if (part->window != 0)
			continue;
		windowed->before = Max(windowed->before, part->before);
		windowed->after = Max(windowed->after, part->after + 1);
	}
	return windowed;
}

/* weir_windowed_key returns what tells the window of a row of the outermost level, in its FROM or its GROUP BY; NULL if there is nothing. */
Expr *
weir_windowed_key(Query *query, const char *name)
{
	Windowed	windowed = {name};
	Level	   *level = analyse_level(&windowed, copyObject(query));
	ListCell   *lc;

	if (query->hasAggs || query->groupClause)
	{
		check_keys(level);
		foreach(lc, query->groupingSets ? NIL : query->groupClause)
		{
			Node	   *expr = get_sortgroupclause_expr(lfirst(lc), query->targetList);

			if (tells_window(weir_windowed_bound_of(level, expr)))
				return (Expr *) copyObject(expr);
		}
		return NULL;
	}
	for (int i = 1; i <= level->n; i++)
	{
		RangeTblEntry *rte = rt_fetch(i, query->rtable);
		Entry	   *entry = &level->entries[i];

		if (entry->nullable)
			continue;
		if (entry->kind == ENTRY_WINDOW)
			return (Expr *) makeVar(i, 2, exprType(linitial(weir_window_call(rte)->args)), -1, InvalidOid, 0);
		for (int n = 1; entry->kind == ENTRY_PART && n <= list_length(rte->subquery->targetList); n++)
		{
			if (tells_window(entry->columns[n]))
				return (Expr *) makeVarFromTargetEntry(i, list_nth(rte->subquery->targetList, n - 1));
		}
	}
	return NULL;
}
