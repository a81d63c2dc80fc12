/*
 * join.c
 *	  Joins of streams: set apart in the query, checked, and with late rows left out.
 *
 * expand ⇒ join (isolate) ⇒ check ⇒ rewrite ⇒ join (filter) ⇒ statement ⇒ join_delta.
 * A level whose FROM joins several streams, or one with itself, becomes a sub-select that
 * joins and filters, and passes on the columns that the level needs. What the level does
 * above it, it does as over a single stream. An inner join is linear in each of its streams: what a batch of
 * one adds is the batch joined with the rows of the others. These are read from the rows kept. So each
 * pair of rows is found once: by the one that is applied later. Writers of
 * the view take turns (run.c), each under a snapshot that sees all who had theirs before.
 *
 * The rows kept must reach back far enough. Conditions on event times say how much later
 * (forward) and earlier (back) than its own the time of a row's match may be. A row at t is late
 * if t + forward + lateness < stream time of its partition: then no row that is not late
 * itself can come any more that it would match. So of each stream rows are needed from the
 * watermark of all, less lateness, less forward and back together: the join's reach. They are held
 * back from expiry (join_keep.c) where the streams do not run in step. Without a lateness it is what
 * weir.keep leaves.
 */
#include "postgres.h"

#include "catalog/catalog.h"
#include "catalog/stream.h"
#include "compat.h"
#include "delta/segments.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/parsetree.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "view/join.h"
#include "view/parts.h"
#include "view/recompute.h"

/* --- setting the join apart --------------------------------------------------- */

/* What the level above still needs of its former FROM items. */
typedef struct Isolate
{
	Query	   *join;
	int			depth;			/* of the expression at hand below the level */
} Isolate;

static char *
column_name(Query *join, Var *var)
{
	RangeTblEntry *rte = rt_fetch(var->varno, join->rtable);

	return var->varattno == InvalidAttrNumber ? pstrdup(rte->eref->aliasname) :
		pstrdup(get_rte_attribute_name(rte, var->varattno));
}

/* The join's target that is this column of one of its items. */
static TargetEntry *
pass_column(Isolate *isolate, Var *var)
{
	Var		   *mine = copyObject(var);
	TargetEntry *tle;
	ListCell   *lc;

	mine->varlevelsup = 0;
	mine->location = -1;
	foreach(lc, isolate->join->targetList)
	{
		tle = lfirst(lc);
		if (equal(tle->expr, mine))
			return tle;
	}
	tle = makeTargetEntry((Expr *) mine, list_length(isolate->join->targetList) + 1,
						  column_name(isolate->join, mine), false);
	isolate->join->targetList = lappend(isolate->join->targetList, tle);
	return tle;
}

static Node *
isolate_mutator(Node *node, Isolate *isolate)
{
	if (node == NULL)
		return NULL;
	if (IsA(node, Var) && ((Var *) node)->varlevelsup == isolate->depth)
	{
		Var		   *var = makeVarFromTargetEntry(1, pass_column(isolate, (Var *) node));

		var->varlevelsup = isolate->depth;
		return (Node *) var;
	}
	if (IsA(node, Query))
	{
		Query	   *query;

		isolate->depth++;
		query = query_tree_mutator((Query *) node, isolate_mutator, isolate, 0);
		isolate->depth--;
		return (Node *) query;
	}
	return expression_tree_mutator(node, isolate_mutator, isolate);
}

/* Moves FROM and WHERE of a level into a sub-select. */
static void
isolate_level(Query *level)
{
	Query	   *join = makeNode(Query);
	Isolate		isolate = {join, 0};

	weir_compat_flatten_groups(level);
	join->commandType = CMD_SELECT;
	join->canSetTag = true;
	join->cteList = copyObject(level->cteList);
	join->rtable = level->rtable;
	join->jointree = level->jointree;
	join->hasSubLinks = level->hasSubLinks;
	weir_compat_move_permissions(join, level);

	level->targetList = (List *) isolate_mutator((Node *) level->targetList, &isolate);
	level->havingQual = isolate_mutator(level->havingQual, &isolate);
	level->windowClause = (List *) isolate_mutator((Node *) level->windowClause, &isolate);
	level->constraintDeps = NIL;
	if (join->targetList == NIL)
		join->targetList = list_make1(makeTargetEntry((Expr *) makeConst(INT4OID, -1, InvalidOid, sizeof(int32),
																		 Int32GetDatum(1), false, true),
													  1, pstrdup("one"), false));
	weir_select_from(level, weir_subquery_entry(join, "joined"));
}

static bool
delta_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, RangeTblEntry))
		return ((RangeTblEntry *) node)->rtekind == RTE_NAMEDTUPLESTORE &&
			strncmp(((RangeTblEntry *) node)->enrname, WEIR_DELTA_PREFIX, strlen(WEIR_DELTA_PREFIX)) == 0;
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, delta_walker, context, QTW_EXAMINE_RTES_BEFORE);
	return expression_tree_walker(node, delta_walker, context);
}

/* Does a FROM item stand for rows of a stream, or of its delta? */
static bool
item_has_stream(RangeTblEntry *rte)
{
	if (rte->rtekind == RTE_SUBQUERY)
		return delta_walker((Node *) rte->subquery, NULL) || weir_query_has_stream((Node *) rte->subquery);
	return rte->rtekind == RTE_RELATION && weir_query_has_stream((Node *) rte);
}

/* weir_join_level tells whether a level's FROM joins streams (over streams or over deltas; CTEs are inlined). */
bool
weir_join_level(Query *query)
{
	int			n = 0;
	ListCell   *lc;

	if (query->setOperations)
		return false;
	foreach(lc, query->rtable)
		n += item_has_stream(lfirst(lc)) ? 1 : 0;
	return n > 1;
}

static bool
isolate_walker(Node *node, bool *found)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
	{
		check_stack_depth();
		(void) query_tree_walker((Query *) node, isolate_walker, found, 0);
		if (weir_join_level((Query *) node))
		{
			isolate_level((Query *) node);
			*found = true;
		}
		return false;
	}
	return expression_tree_walker(node, isolate_walker, found);
}

static bool
any_join_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
		return weir_join_level((Query *) node) ||
			query_tree_walker((Query *) node, any_join_walker, context, 0);
	return expression_tree_walker(node, any_join_walker, context);
}

/*
 * weir_join_isolate works on an expanded definition, in place: every level that joins streams becomes
 * one above a join. Returns whether there is any.
 */
bool
weir_join_isolate(Query *query)
{
	bool		found = false;
	Query	   *inlined = copyObject(query);

	weir_levels_inline(inlined);
	if (!any_join_walker((Node *) inlined, NULL))
		return false;
	*query = *inlined;
	(void) isolate_walker((Node *) query, &found);
	return found;
}

/* --- finding joins over deltas ---------------------------------------------------- */

/* weir_join_items returns the range table indexes of a join's items that hold streams. */
List *
weir_join_items(Query *join)
{
	List	   *items = NIL;
	int			i = 0;
	ListCell   *lc;

	foreach(lc, join->rtable)
	{
		i++;
		if (item_has_stream(lfirst(lc)))
			items = lappend_int(items, i);
	}
	return items;
}

static bool
find_walker(Node *node, List **joins)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
	{
		if (weir_join_level((Query *) node))
		{
			*joins = lappend(*joins, node);
			return false;
		}
		return query_tree_walker((Query *) node, find_walker, joins, 0);
	}
	return expression_tree_walker(node, find_walker, joins);
}

/* weir_join_find returns the outermost joins of streams in a query over deltas. */
List *
weir_join_find(Query *query)
{
	List	   *joins = NIL;

	(void) find_walker((Node *) query, &joins);
	return joins;
}

/* --- the order of arrival ------------------------------------------------------------ */

static List *expose_order(RangeTblEntry *rte);

/* Partition and offset of every row that a row of this level was put together from, as Vars. */
static List *
order_columns(Query *level)
{
	List	   *vars = NIL;
	int			i = 0;
	ListCell   *lc;

	foreach(lc, level->rtable)
	{
		RangeTblEntry *rte = lfirst(lc);
		ListCell   *ln;

		i++;
		if (rte->rtekind != RTE_SUBQUERY || !weir_query_has_delta((Node *) rte->subquery))
			continue;
		foreach(ln, expose_order(rte))
			vars = lappend(vars, makeVarFromTargetEntry(i, list_nth_node(TargetEntry, rte->subquery->targetList, lfirst_int(ln) - 1)));
	}
	return vars;
}

/* Adds these columns to the select list of a FROM item; returns their numbers. */
static List *
expose_order(RangeTblEntry *rte)
{
	Query	   *query = rte->subquery;
	List	   *result = NIL;
	ListCell   *lc;

	check_stack_depth();
	if (weir_join_find(query) == NIL)
	{
		result = lappend_int(result, weir_late_expose_in(query, WEIR_COL_PARTITION, rte));
		return lappend_int(result, weir_late_expose_in(query, WEIR_COL_OFFSET, rte));
	}
	foreach(lc, order_columns(query))
	{
		AttrNumber	resno = list_length(query->targetList) + 1;
		char	   *name = psprintf(WEIR_HIDDEN_PREFIX "order_%d", resno);

		query->targetList = lappend(query->targetList, makeTargetEntry(lfirst(lc), resno, name, false));
		rte->eref->colnames = lappend(rte->eref->colnames, makeString(pstrdup(name)));
		result = lappend_int(result, resno);
	}
	return result;
}

/*
 * weir_join_order passes partition and offset of every row that a row was put together from up to a
 * level over a join, as Vars there: they tell rows apart, however they came together. NIL: no join below.
 */
List *
weir_join_order(Query *level)
{
	return weir_join_find(level) == NIL ? NIL : order_columns(level);
}

/* --- is enough kept? -------------------------------------------------------------------------- */

static char *
span_text(int64 microseconds)
{
	Interval	span = {.time = microseconds};

	return DatumGetCString(DirectFunctionCall1(interval_out, DirectFunctionCall1(interval_justify_hours, IntervalPGetDatum(&span))));
}

static void
check_stream(ViewShape *shape, LateRule *rule, Stream *stream)
{
	Interval   *lateness = rule->lateness ? rule->lateness : stream->lateness;
	int64		needed = shape->join_reach;

	if (!stream->keeps_rows)
		weir_refuse(shape->name, psprintf("A join of streams reads rows that came before, and stream %s keeps none (weir.keep = 0).", stream->name),
					psprintf("ALTER TABLE %s SET (weir.keep = '1 day').", stream->name));
	if (!stream->logged && stream->server == NULL)
		weir_refuse(shape->name, psprintf("A join of streams reads rows that came before. After a crash they would be gone: stream %s is unlogged and fed by INSERT only.", stream->name),
					"CREATE TABLE instead of CREATE UNLOGGED TABLE.");
	if (needed < 0)
		return;
	if (lateness)
		needed += weir_span_length(lateness);
	if (weir_span_length(stream->keep) < needed)
		weir_refuse(shape->name, psprintf("The join needs rows of stream %s for %s (its time bound%s), and the stream keeps them for %s.",
										  stream->name, span_text(needed), lateness ? " and the lateness" : "",
										  DatumGetCString(DirectFunctionCall1(interval_out, IntervalPGetDatum(stream->keep)))),
					psprintf("ALTER TABLE %s SET (weir.keep = '%s'), or longer.", stream->name, span_text(needed)));
}

/* The most that a window of the join, or of an item of it, lasts. */
static bool
size_walker(Node *node, int64 *size)
{
	if (node == NULL)
		return false;
	if (IsA(node, RangeTblEntry))
	{
		if (weir_is_window((RangeTblEntry *) node))
			*size = Max(*size, weir_join_window_size((RangeTblEntry *) node));
		return false;
	}
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, size_walker, size, QTW_EXAMINE_RTES_BEFORE);
	return expression_tree_walker(node, size_walker, size);
}

/* Sets what the view needs of its streams: join_reach, join_slack. */
static void
measure_reach(ViewShape *shape, List *joins)
{
	ListCell   *lc;

	shape->join_reach = shape->close_shift = 0;
	shape->join_slack = PG_INT64_MAX;
	foreach(lc, joins)
	{
		JoinBounds *bounds = weir_join_bounds(lfirst(lc));
		int64		reach = bounds->span;
		int64		size = 0;

		if (!bounds->bounded)
		{
			shape->join_reach = -1;
			return;
		}
		shape->close_shift = Max(shape->close_shift, reach);
		if (shape->recompute && shape->recompute->windowed && !shape->recompute->from_result)
		{
			(void) size_walker(lfirst(lc), &size);
			shape->recompute->span = Max(shape->recompute->span, reach);
			reach = 2 * reach + size;
		}
		else if (shape->closes || shape->at_once || shape->finals)
			reach *= 2;			/* a row that closes, or is taken back, and what it may have met */
		shape->join_reach = Max(shape->join_reach, reach);
	}
	foreach(lc, shape->streams)
		shape->join_slack = Min(shape->join_slack, weir_span_length(weir_stream_require(lfirst_oid(lc))->keep));
	shape->join_slack -= shape->join_reach;
}

/* Does a level below join streams by an outer join? */
static bool
outer_below_walker(Node *node, Query *join)
{
	if (node == NULL)
		return false;
	if (!IsA(node, Query))
		return expression_tree_walker(node, outer_below_walker, join);
	if ((Query *) node != join && weir_join_level((Query *) node) &&
		weir_join_bounds((Query *) node)->outer != JOIN_INNER)
		return true;
	return query_tree_walker((Query *) node, outer_below_walker, join, 0);
}

/* Only streams; outer joins: of streams each for itself, with a bound. */
static void
check_join(ViewShape *shape, Query *join)
{
	JoinBounds *bounds = weir_join_bounds(join);
	ListCell   *lc;

	for (int i = 0; i < bounds->n; i++)
	{
		foreach(lc, bounds->nodes[i].streams)
		{
			if (weir_stream_get(lfirst_oid(lc)) == NULL)
				weir_refuse(shape->name, psprintf("%s, a continuous view, stands in a join of streams.", weir_relation_name(lfirst_oid(lc))),
							"Join the streams themselves.");
		}
	}
	if (outer_below_walker((Node *) join, join))
		weir_refuse(shape->name, "A side of a join of streams is a sub-select with an outer join of streams.",
					"Write all joins into one FROM: a LEFT JOIN b ON ... JOIN c ON ....");
	if (bounds->outer == JOIN_INNER)
		return;
	if (bounds->n != list_length(weir_join_items(join)))
		weir_refuse(shape->name, "A side of an outer join of streams is a sub-select that joins streams.",
					"Write all joins into one FROM: a LEFT JOIN (b JOIN c ON ...) ON ....");
	if (!bounds->bounded)
		weir_refuse(shape->name, "An outer join of streams needs a bound on their event times in its ON condition: else a row could always still find a match.",
					"Add a condition such as r.ts BETWEEN l.ts - interval '10 s' AND l.ts + interval '10 s' to ON.");
	if (shape->instants)
		return;
	if (shape->finals)
		weir_refuse(shape->name, "An outer join of streams with weir.emit = 'final' is not supported.",
					"Leave out weir.emit: rows without a match come when none can come any more, and pairs do not change.");
	weir_outer_expose(join);
	if (shape->at_once)
		weir_once_check(shape, join);
	else
	{
		weir_outer_meet_open(join);
		shape->closes = true;
	}
}

/*
 * weir_join_filter completes the shape of a view that joins streams: raises 0A000 if they do not keep
 * enough, leaves late rows out where deltas are read, and sets shape->late.
 */
void
weir_join_filter(ViewShape *shape, LateRule *rule)
{
	List	   *joins = weir_join_find(shape->query);
	ListCell   *lc;

	shape->exclusive = true;
	foreach(lc, joins)
		check_join(shape, lfirst(lc));
	measure_reach(shape, joins);
	foreach(lc, shape->streams)
		check_stream(shape, rule, weir_stream_require(lfirst_oid(lc)));
	if (shape->join_reach < 0)
	{
		if (rule->final)
			weir_refuse(shape->name, "weir.emit = 'final' over a join without a bound on the event times: a row of a window that has closed could still find a match.",
						"Add a condition such as r.ts BETWEEN l.ts - interval '10 s' AND l.ts + interval '10 s', or join windows on equal bounds.");
		if (rule->lateness)
			weir_refuse(shape->name, "weir.lateness needs a bound on the event times that the join puts together, or a window.",
						"Add a condition such as r.ts BETWEEN l.ts - interval '10 s' AND l.ts + interval '10 s'.");
		shape->late = NULL;
		return;
	}
	shape->late = weir_join_late(shape, rule, joins);
}

/* weir_join_prepare gives the kept rows an index that finds those near a batch, and says what a join without a bound means. */
void
weir_join_prepare(ViewShape *shape)
{
	ListCell   *lc;

	if (shape->join_reach < 0)
	{
		ereport(NOTICE,
				(errmsg("view \"%s\" joins streams without a bound on their event times", shape->name),
				 errdetail("A row meets the rows of the other streams that are still kept (weir.keep) when it comes."),
				 errhint("A condition such as r.ts BETWEEN l.ts - interval '10 s' AND l.ts + interval '10 s' makes it exact, and cheap.")));
		return;
	}
	foreach(lc, shape->streams)
		weir_segments_index_time(weir_stream_require(lfirst_oid(lc)));
}

/* weir_join_cost says for weir.explain what a batch costs. */
const char *
weir_join_cost(ViewShape *shape)
{
	if (shape->join_reach < 0)
		return "per batch, the kept rows of the other streams, or those that an index on the join's columns finds; writers take turns";
	if (shape->at_once)
		return "per batch, the kept rows of the other streams within the time bound of what it touches, before and after it; rows taken back are found by a hash of their columns; writers take turns";
	return "per batch, the kept rows of the other streams within the time bound, found by their event time; writers take turns";
}
