/*
 * shape.c
 *	  How a view's definition is kept: the query over a delta and the one over merged states.
 *
 * rewrite ⇒ shape ⇒ statement. The query over a delta is split in two:
 * a partial query (group keys and mergeable states of the delta) and a final
 * query (the select list over merged states).
 *
 * In place: if every column is a key, a function of keys, or a bare aggregate
 * whose result is its whole state (count, sum, min, max, bool_*, bit_* and any
 * aggregate without final function whose state has the result's type), the view's
 * table is the state and the final query is not needed.
 *
 * Else a state table holds the states (states.c).
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "optimizer/tlist.h"
#include "parser/parse_agg.h"
#include "rewrite/rewriteHandler.h"
#include "rewrite/rewriteManip.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "view/distinct.h"
#include "view/join.h"
#include "view/parts.h"
#include "view/recompute.h"
#include "view/session.h"
#include "view/states.h"
#include "view/upstream.h"
#include "view/windowed.h"

/* --- the two queries ------------------------------------------------------- */

/* Common table expressions that do not read a delta: sub-selects of the final query may use them. */
static List *
table_ctes(List *ctes)
{
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, ctes)
	{
		CommonTableExpr *cte = lfirst(lc);

		if (!weir_query_has_delta(cte->ctequery))
			result = lappend(result, copyObject(cte));
	}
	return result;
}

/* SELECT keys, states FROM deltas ... GROUP BY keys: the definition with another select list. */
static Query *
make_partial_query(ViewShape *shape)
{
	Query	   *query = copyObject(shape->query);
	AttrNumber	resno = 0;
	ListCell   *lc;
	int			i = 0;

	query->targetList = NIL;
	query->havingQual = NULL;
	foreach(lc, shape->keys)
	{
		TargetEntry *key = copyObject(lfirst_node(TargetEntry, lc));

		key->resno = ++resno;
		key->resjunk = false;
		key->resname = psprintf("k%d", resno);
		query->targetList = lappend(query->targetList, key);
	}
	foreach(lc, shape->states)
	{
		StateColumn *state = lfirst(lc);

		query->targetList = lappend(query->targetList,
									makeTargetEntry(copyObject(state->partial), ++resno,
													psprintf("s%d", ++i), false));
	}
	return query;
}

/* The merged states as a FROM item; two levels below the statement that has WEIR_MERGED. */
static RangeTblEntry *
merged_rte(Query *partial)
{
	RangeTblEntry *rte = makeNode(RangeTblEntry);
	List	   *names = NIL;
	ListCell   *lc;

	rte->rtekind = RTE_CTE;
	rte->ctename = pstrdup(WEIR_MERGED);
	rte->ctelevelsup = 2;
	foreach(lc, partial->targetList)
	{
		TargetEntry *tle = lfirst(lc);

		names = lappend(names, makeString(pstrdup(tle->resname)));
		rte->coltypes = lappend_oid(rte->coltypes, exprType((Node *) tle->expr));
		rte->coltypmods = lappend_int(rte->coltypmods, exprTypmod((Node *) tle->expr));
		rte->colcollations = lappend_oid(rte->colcollations, exprCollation((Node *) tle->expr));
	}
	rte->eref = makeAlias(WEIR_MERGED, names);
	rte->inFromCl = true;
	return rte;
}

static Query *
make_final_query(ViewShape *shape, List *targets)
{
	Query	   *query = makeNode(Query);
	ListCell   *lc;

	query->commandType = CMD_SELECT;
	query->canSetTag = true;
	query->cteList = table_ctes(shape->query->cteList);
	query->hasSubLinks = checkExprHasSubLink((Node *) targets);
	query->hasRecursive = shape->query->hasRecursive;
	weir_select_from(query, merged_rte(shape->partial));
	query->targetList = targets;
	foreach(lc, targets)
		((TargetEntry *) lfirst(lc))->ressortgroupref = 0;
	if (shape->session && shape->session->by_rows)
		weir_session_add_rows(shape, query);
	return query;
}

/* --- classification -------------------------------------------------------- */

static bool
is_key(Query *query, TargetEntry *tle)
{
	return tle->ressortgroupref != 0 &&
		get_sortgroupref_clause_noerr(tle->ressortgroupref, query->groupClause) != NULL;
}

/* classify_in_place fills shape->states with one merge per target; false if a target's result is not enough to go on from. */
static bool
classify_in_place(ViewShape *shape)
{
	ListCell   *lc;

	foreach(lc, shape->query->targetList)
	{
		TargetEntry *tle = lfirst(lc);
		StateColumn *state;
		MergeKind	merge = MERGE_NEW;

		if (is_key(shape->query, tle))
			continue;
		if (IsA(tle->expr, Aggref))
		{
			if (!weir_aggregate_in_place((Aggref *) tle->expr, &merge))
			{
				shape->why = psprintf("%s needs more than its result to go on from",
									  get_func_name(((Aggref *) tle->expr)->aggfnoid));
				return false;
			}
		}
		else if (contain_aggs_of_level((Node *) tle->expr, 0))
		{
			shape->why = psprintf("column \"%s\" is an expression over aggregates", tle->resname);
			return false;
		}
		state = palloc0(sizeof(StateColumn));
		state->partial = tle->expr;
		state->merge = merge;
		state->agg = IsA(tle->expr, Aggref) ? ((Aggref *) tle->expr)->aggfnoid : InvalidOid;
		shape->states = lappend(shape->states, state);
	}
	return true;
}

/* weir_distinct_as_groups: SELECT DISTINCT of plain rows is GROUP BY over all columns. */
void
weir_distinct_as_groups(Query *query)
{
	if (query->distinctClause == NIL || query->hasDistinctOn || query->hasAggs ||
		query->groupClause || query->groupingSets || query->hasWindowFuncs || query->hasTargetSRFs)
		return;
	query->groupClause = query->distinctClause;
	query->distinctClause = NIL;
}

/*
 * HAVING: a column behind the others tells whether the row is in the result. The states of all groups are
 * kept; rows that do not qualify (any more) are deleted. That looks at the result as it is,
 * so writers take turns. rows: over the merged states, how many rows the group has, if it may have none; or NULL.
 */
static TargetEntry *
pass_target(ViewShape *shape, ShapeContext *context, Expr *rows)
{
	Node	   *having = shape->query->havingQual;
	List	   *conditions = NIL;

	if (having && IsA(having, List))
		having = (Node *) make_ands_explicit((List *) having);
	if (having)
		conditions = list_make1(weir_final_mutator(copyObject(having), context));
	if (rows)
		conditions = lappend(conditions, makeFuncExpr(F_INT8GT, BOOLOID,
													  list_make2(rows, makeConst(INT8OID, -1, InvalidOid, sizeof(int64), Int64GetDatum(0), false, true)),
													  InvalidOid, InvalidOid, COERCE_EXPLICIT_CALL));
	shape->passes = true;
	shape->exclusive = true;
	return makeTargetEntry(weir_boolean_test(make_ands_explicit(conditions), IS_TRUE),
						   list_length(shape->query->targetList) + 1, pstrdup("weir_pass"), false);
}

static void
find_keys(ViewShape *shape)
{
	ListCell   *lc;

	foreach(lc, shape->query->targetList)
	{
		if (is_key(shape->query, lfirst(lc)))
			shape->keys = lappend(shape->keys, lfirst(lc));
	}
	if (list_length(shape->keys) + list_length(shape->hidden_keys) > INDEX_MAX_KEYS)
		weir_refuse(shape->name, psprintf("GROUP BY has more than %d expressions.", INDEX_MAX_KEYS), NULL);
}

/* The state that tells a session's end; writers take turns, since sessions of two may merge. */
static void
note_session_end(ViewShape *shape, ShapeContext *context)
{
	shape->end = weir_session_end(shape);
	shape->end_column = ((Var *) weir_merged_state(context, weir_final_max(shape->end), MERGE_FUNCTION,
												   exprType((Node *) shape->end) == TIMESTAMPOID ?
												   F_MAX_TIMESTAMP : F_MAX_TIMESTAMPTZ))->varattno;
	shape->exclusive = true;
}

static void
classify_grouped(ViewShape *shape)
{
	ShapeContext context = {shape, 0};
	List	   *targets;

	find_keys(shape);
	shape->strategy = "combine";
	if (shape->session)
		shape->why = "states of sessions are merged, and those of sessions that become one";
	else if (shape->query->havingQual)
		shape->why = "HAVING: groups that do not qualify are counted, too";
	else
		shape->in_place = classify_in_place(shape);
	if (shape->in_place)
	{
		shape->why = shape->query->hasAggs ? "every aggregate merges with its own result" :
			"each distinct row is kept once";
		shape->partial = copyObject(shape->query);
		return;
	}
	shape->states = NIL;
	if (shape->session)
		note_session_end(shape, &context);
	targets = (List *) weir_final_mutator(copyObject((Node *) shape->query->targetList), &context);
	if (shape->query->havingQual)
		targets = lappend(targets, pass_target(shape, &context, NULL));
	shape->partial = make_partial_query(shape);
	shape->final = make_final_query(shape, targets);
}

/*
 * classify_final makes the two queries of a final view: states always stand in a
 * table of their own, with the window's end, and HAVING is asked when they are final.
 */
static void
classify_final(ViewShape *shape)
{
	ShapeContext context = {shape, 0};
	List	   *targets;
	Node	   *having;
	Expr	   *end;
	int			key = -1;

	find_keys(shape);
	shape->keys = list_concat(shape->keys, shape->hidden_keys);
	shape->end = shape->session ? weir_session_end(shape) : weir_final_end(shape, &key);
	shape->strategy = "combine";
	shape->why = "states of open windows are merged; a window's rows are inserted when it closes";
	shape->exclusive = shape->session != NULL;
	if (key >= 0)
		end = weir_merged_var(&context, shape->end, key);
	else
		end = weir_merged_state(&context, weir_final_max(shape->end), MERGE_FUNCTION, F_MAX_TIMESTAMPTZ);
	shape->end_column = ((Var *) end)->varattno;
	if (exprType((Node *) shape->end) == TIMESTAMPOID && key < 0)
		((StateColumn *) linitial(shape->states))->agg = F_MAX_TIMESTAMP;
	targets = (List *) weir_final_mutator(copyObject((Node *) shape->query->targetList), &context);
	having = weir_final_mutator(copyObject(shape->query->havingQual), &context);
	shape->partial = make_partial_query(shape);
	shape->partial->havingQual = NULL;
	shape->partial->hasAggs = shape->states != NIL;
	shape->final = make_final_query(shape, targets);
	shape->final->jointree->quals = having;
	shape->final->hasSubLinks |= checkExprHasSubLink(having);
	weir_final_sort(shape->final, end);
}

/* What goes in the views below is taken back from states; a group is there as long as it has rows. */
static void
classify_retracted(ViewShape *shape)
{
	ShapeContext context = {shape, 0};
	Expr	   *rows;
	List	   *targets;

	find_keys(shape);
	shape->recompute->unique = shape->keys != NIL;
	rows = weir_merged_state(&context, weir_retract_rows(shape), MERGE_COUNT, F_COUNT_);
	targets = (List *) weir_final_mutator(copyObject((Node *) shape->query->targetList), &context);
	if (shape->keys || shape->query->havingQual)
		targets = lappend(targets, pass_target(shape, &context, shape->keys ? rows : NULL));
	shape->partial = make_partial_query(shape);
	shape->partial->hasAggs = true;
	shape->final = make_final_query(shape, targets);
}

/* The select list is what counts: ORDER BY and its hidden targets go. */
static void
strip_order(Query *query)
{
	List	   *targets = NIL;
	ListCell   *lc;

	query->sortClause = NIL;
	foreach(lc, query->targetList)
	{
		TargetEntry *tle = lfirst(lc);

		if (!tle->resjunk)
			targets = lappend(targets, tle);
	}
	query->targetList = targets;
}

static bool
table_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, RangeTblEntry))
	{
		RangeTblEntry *rte = (RangeTblEntry *) node;

		return rte->rtekind == RTE_RELATION && rte->inFromCl;
	}
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, table_walker, context, QTW_EXAMINE_RTES_BEFORE);
	return expression_tree_walker(node, table_walker, context);
}

/* A view over views that change. */
static void
make_over_tables(ViewShape *shape, const char *strategy, bool final, Interval *lateness, Interval *keep)
{
	if (final)
		weir_refuse(shape->name, "weir.emit = 'final' over a view that changes: its rows are never final.",
					"Read a view with weir.emit = 'final', or leave out weir.emit.");
	if (lateness)
		weir_refuse(shape->name, "weir.lateness over a view that changes: its rows are never late.",
					"Set weir.lateness on the view below.");
	if (keep)
		weir_refuse(shape->name, "weir.keep over a view that changes: its rows follow from those of the view below.",
					"Set weir.keep on the view below; rows that it drops leave this view's results, too.");
	weir_session_refuse_tables(shape->query, shape->name);
	shape->query = weir_recompute_wrap(shape->query);
	weir_check_expressions(shape->query, shape->name);
	shape->joins_table = table_walker((Node *) shape->query, NULL);
	if (weir_retract_prepare(shape, strategy))
		classify_retracted(shape);
	else
		weir_tables_analyse(shape);
}

/* A final view whose query only the rules for windows as a whole can tell to be right (windowed.c). */
static void
make_windowed(ViewShape *shape, bool over_views, LateRule *rule)
{
	weir_check_query(shape->query, shape->name, true, CHECK_WINDOWED);
	weir_levels_inline(shape->query);
	if (!over_views)
		shape->streams = weir_rewrite_streams(shape->query);
	shape->limits = shape->query->limitCount || shape->query->limitOffset;
	shape->query = weir_recompute_wrap(weir_limit_per_window(shape->query, shape->name));
	shape->joins_table = table_walker((Node *) shape->query, NULL);
	weir_atclose_windowed(shape, rule);
}

static void
classify_append(ViewShape *shape)
{
	shape->strategy = "append";
	shape->why = "the query has no aggregates: each row of a batch adds its own rows";
	shape->in_place = true;
	shape->partial = copyObject(shape->query);
	if (shape->at_once)
	{
		shape->strategy = "recompute";
		shape->why = "rows without a match come at once: what a batch may change is compared as it is before and after it";
	}
}

/* What is late is left out where the rows come in, which is not the same place in each kind of view. */
static void
leave_late_out(ViewShape *shape, LateRule *rule, bool session, bool recompute, bool at_close)
{
	if (session)
		weir_session_split(shape, rule);
	else if (rule->keep && !shape->finals)
		rule->keep_attno = weir_keep_window(shape);
	if (at_close)
		weir_atclose_make(shape, rule);
	else if (recompute)
		weir_recompute_filter(shape, rule);
	else if (!session)
		weir_late_filter(shape, rule);
	if (shape->joins)
		weir_join_filter(shape, rule);
}

/* weir_shape_make_as does so for a view that is there, whose strategy stays what it was at CREATE. */
ViewShape *
weir_shape_make_as(const char *strategy, Query *definition, const char *name, bool final, bool at_once,
				   Interval *lateness, Interval *keep)
{
	ViewShape  *shape = palloc0(sizeof(ViewShape));
	bool		passes = keep != NULL && !weir_span_is_positive(keep);
	LateRule	rule = {lateness, passes ? NULL : keep,.final = final,.passes = passes};
	bool		recompute;
	bool		at_close;
	bool		session;
	List	   *views = NIL;

	shape->name = name;
	shape->query = weir_rewrite_expand(definition);
	weir_compat_flatten_groups(shape->query);
	if (!weir_query_has_stream((Node *) shape->query))
		views = weir_rewrite_views(shape->query);
	shape->streams = views;
	if (views && weir_tables_needed(shape->query, views))
	{
		make_over_tables(shape, strategy, final, lateness, keep);
		return shape;
	}
	shape->finals = final;
	weir_distinct_as_groups(shape->query);
	weir_distinct_simplify(shape->query);
	session = weir_session_prepare(shape->query, name);
	if (final && !session && weir_windowed_wanted(shape->query))
	{
		make_windowed(shape, views != NIL, &rule);
		return shape;
	}
	shape->joins = weir_join_isolate(shape->query);
	if (session && shape->joins)
		weir_refuse(name, "session() stands beside a join of streams.",
					"Give each of them a view of its own: sessions of one stream, and a join.");
	shape->at_once = at_once && shape->joins && weir_once_wanted(shape->query);
	if (final && shape->at_once)
		weir_refuse(name, "weir.unmatched = 'at once' with weir.emit = 'final': a row that comes at once may be taken back.", "Leave out one of the two.");
	recompute = weir_recompute_prepare(&shape->query, shape->at_once);
	if (session && recompute)
		weir_session_refuse_merging(name);
	at_close = final && (recompute || (!shape->query->hasAggs && shape->query->groupClause == NIL));
	weir_check_query(shape->query, name, final, recompute ? CHECK_RECOMPUTE : CHECK_MERGES);
	if (final && !at_close)
		shape->hidden_keys = weir_final_hidden_keys(shape->query);
	if (!recompute)
		strip_order(shape->query);
	if (views == NIL)
		shape->streams = weir_rewrite_streams(shape->query);
	shape->joins_table = table_walker((Node *) shape->query, NULL);
	shape->grouped = shape->query->hasAggs || shape->query->groupClause != NIL;
	weir_arrival_order(recompute ? weir_recompute_lowest(shape->query) : shape->query);
	if (recompute)
		weir_recompute_analyse(shape);
	leave_late_out(shape, &rule, session, recompute, at_close);
	if (at_close)
		return shape;
	if (recompute)
		weir_recompute_build(shape);
	else if (final)
		classify_final(shape);
	else if (shape->grouped)
		classify_grouped(shape);
	else
		classify_append(shape);
	if (session)
		weir_session_finish(shape);
	else if (!weir_distinct_make(shape))
		weir_slices_make(shape);
	if (passes)
		weir_pass_check(shape);
	return shape;
}

/*
 * weir_shape_make understands a definition, or raises 0A000. at_once: rows of outer joins without a
 * match come at once. lateness and keep are the view's, or NULL. All in CurrentMemoryContext.
 */
ViewShape *
weir_shape_make(Query *definition, const char *name, bool final, bool at_once, Interval *lateness, Interval *keep)
{
	ViewShape  *shape = weir_shape_make_as(NULL, definition, name, final, at_once, lateness, keep);

	weir_check_whole_rows(shape->query, name);
	return shape;
}

/* weir_shape_definition copies the query that a view's weir.query_N holds. */
Query *
weir_shape_definition(Oid query_relid)
{
	Relation	rel = table_open(query_relid, AccessShareLock);
	Query	   *query = copyObject(get_view_query(rel));

	table_close(rel, NoLock);
	return query;
}
