/*
 * join_delta.c
 *	  What a batch of one stream adds to a join of streams.
 *
 * statement ⇒ join_delta ⇒ apply. In a maintenance statement the join
 *	  a JOIN b JOIN c
 * becomes
 *	  delta of a JOIN old b JOIN old c UNION ALL
 *	  new a JOIN delta of b JOIN old c UNION ALL
 *	  new a JOIN new b JOIN delta of c
 * where new is old with the delta. The delta of all streams but the batch's is empty, so where a stream
 * is not the batch's, old and new are the rows kept; they differ where a stream is joined with itself.
 * Old rows are those kept that have been applied to the view: weir.applied() (join_applied.c)
 * leaves out those of the batch, those that a paused view has not come to yet, and those
 * that the view refused.
 *
 * Of an outer join the pairs are added so; when it closes rows without a match (join_outer.c), the same is
 * done with the rows that close in the place of a delta.
 *
 * Of the kept rows only those within the join's bounds around the batch are read, by the index on
 * event time. All conditions stay as they are.
 */
#include "postgres.h"

#include "catalog/catalog.h"
#include "catalog/stream.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/parsetree.h"
#include "utils/builtins.h"
#include "view/join.h"
#include "view/recompute.h"

/* What becomes of the joins of a statement. */
typedef enum JoinVariant
{
	JOIN_DELTA,					/* what the batch at hand adds */
	JOIN_PAIRS,					/* of an outer join: what has a match */
	JOIN_UNMATCHED,				/* of an outer join: what closes without a match */
	JOIN_AFTER,					/* at once: rows that the batch may change, as they are with it */
	JOIN_BEFORE,				/* and as they were without it */
	JOIN_TOUCHED				/* both */
} JoinVariant;

static void change_levels(Query *query, Oid view, JoinVariant variant, int depth);

/* --- the span of a batch ------------------------------------------------------------ */

/* min or max of the event times in the arm's deltas; placeholders are numbered from *n */
static char *
batch_time(Arm *arm, const char *function, const char *alias)
{
	StringInfoData buf;
	int			i = 0;
	ListCell   *lc;

	initStringInfo(&buf);
	if (list_length(arm->sources) > 1)
		appendStringInfoString(&buf, strcmp(function, "min") == 0 ? "LEAST(" : "GREATEST(");
	foreach(lc, arm->sources)
	{
		RangeTblEntry *delta = lfirst(lc);
		Query	   *select = weir_touched_ephemeral(delta, delta->enrname);
		int			column = 0;
		ListCell   *ln;

		foreach(ln, delta->eref->colnames)
		{
			column++;
			if (strcmp(strVal(lfirst(ln)), WEIR_COL_EVENT_TIME) == 0)
				break;
		}
		i++;
		appendStringInfo(&buf, "%s(SELECT pg_catalog.%s(x.c%d) FROM (SELECT * FROM %s AS %s) AS x)", i > 1 ? ", " : "", function,
						 column, weir_statement_placeholder(select->targetList),
						 weir_text_aliases(psprintf("%s%d", alias, i), list_length(select->targetList)));
	}
	if (list_length(arm->sources) > 1)
		appendStringInfoChar(&buf, ')');
	return buf.data;
}

static void
splice_batch_time(Query *query, Arm *arm, const char *alias)
{
	int			i = 0;
	ListCell   *lc;

	foreach(lc, arm->sources)
	{
		RangeTblEntry *delta = lfirst(lc);

		weir_statement_splice(query, psprintf("%s%d", alias, ++i), weir_touched_ephemeral(delta, delta->enrname));
	}
}

/* How far rows of a node may be from the delta's, both ways; JOIN_UNBOUNDED where it is not known. */
static void
distance(Arm *arm, int node, int64 *before, int64 *after)
{
	JoinBounds *bounds = arm->bounds;

	*before = *after = PG_INT64_MIN;
	if (bounds->nodes[node].item == arm->item)
	{
		*before = *after = 0;	/* what closes */
		return;
	}
	if (arm->reach > 0)
	{
		*before = *after = arm->reach;
		return;
	}
	for (int i = 0; i < bounds->n; i++)
	{
		if (bounds->nodes[i].item != arm->item)
			continue;
		*after = Max(*after, bounds->upper[i * bounds->n + node]);
		*before = Max(*before, bounds->upper[node * bounds->n + i]);
	}
}

/* --- kept rows in the place of a delta ------------------------------------------------ */

static bool
reads_batch(Arm *arm, RangeTblEntry *delta)
{
	ListCell   *lc;

	foreach(lc, arm->sources)
	{
		if (strcmp(lfirst_node(RangeTblEntry, lc)->enrname, delta->enrname) == 0)
			return true;
	}
	return false;
}

/* Names of a delta's columns, of char *. */
static List *
column_names(RangeTblEntry *delta)
{
	List	   *names = NIL;
	ListCell   *lc;

	foreach(lc, delta->eref->colnames)
		names = lappend(names, strVal(lfirst(lc)));
	return names;
}

/* The first or the last time that rows of a node may have. */
static char *
limit_time(Arm *arm, bool first)
{
	if (arm->closing)
		return first ? "weir.closed_until()" : "weir.closing_until()";
	return batch_time(arm, first ? "min" : "max", first ? "weir_first_" : "weir_last_");
}

/* AND: within reach of the batch, or of what closes */
static char *
time_condition(Arm *arm, int node)
{
	StringInfoData buf;
	int64		before,
				after;

	distance(arm, node, &before, &after);
	initStringInfo(&buf);
	if (before != JOIN_UNBOUNDED)
		appendStringInfo(&buf, "\n AND r." WEIR_COL_EVENT_TIME " OPERATOR(pg_catalog.>=) (SELECT %s OPERATOR(pg_catalog.-) '" INT64_FORMAT " microseconds'::pg_catalog.interval)",
						 limit_time(arm, true), before);
	if (after != JOIN_UNBOUNDED)
		/* by_key: not as the planner knows a range, which it takes for a two-hundredth of the rows */
		appendStringInfo(&buf, "\n AND r." WEIR_COL_EVENT_TIME "%s OPERATOR(pg_catalog.<=) (SELECT %s OPERATOR(pg_catalog.+) '" INT64_FORMAT " microseconds'::pg_catalog.interval)",
						 arm->by_key ? " OPERATOR(pg_catalog.-) '0'::pg_catalog.interval" : "", limit_time(arm, false), after);
	return buf.data;
}

/*
 * rows_text selects old or new rows of a stream. by_key: conditions stand above the UNION ALL, and the
 * delta's arm is a sub-select that stays one, so that the planner can look up each arm by the join's columns.
 */
static char *
rows_text(Arm *arm, RangeTblEntry *delta, int node, bool with_delta, const char *placeholder)
{
	Stream	   *stream = weir_stream_require(weir_delta_stream(delta));
	View	   *view = weir_view_get(arm->view);
	char	   *since = view ? weir_view_since(view, stream->relid) : NULL;
	List	   *names = column_names(delta);
	char	   *columns = weir_text_names("", names);
	char	   *rows = weir_relation_name(stream->rows_relid);
	char	   *applied = psprintf("weir.applied(%u, r." WEIR_COL_PARTITION ", r." WEIR_COL_OFFSET ")%s", stream->relid,
								   since ? psprintf(" AND (%s)", since) : "");
	char	   *conditions = time_condition(arm, node);

	if (!with_delta)
		return psprintf("SELECT %s FROM %s AS r WHERE %s%s", weir_text_names("r.", names), rows, applied, conditions);
	if (!arm->by_key)
		return psprintf("SELECT %s FROM %s AS r WHERE %s%s\nUNION ALL SELECT * FROM %s AS weir_new_rows(%s)",
						weir_text_names("r.", names), rows, applied, conditions, placeholder, columns);
	return psprintf("SELECT %s FROM (SELECT k.tableoid AS weir_kept, %s FROM %s AS k\n"
					"UNION ALL SELECT * FROM (SELECT CAST(0 AS pg_catalog.oid), %s FROM %s AS weir_new_rows(%s) OFFSET 0) AS n) AS r\n"
					" WHERE (r.weir_kept OPERATOR(pg_catalog.=) CAST(0 AS pg_catalog.oid) OR %s)%s",
					weir_text_names("r.", names), weir_text_names("k.", names), rows, columns, placeholder, columns, applied, conditions);
}

/* old or new rows of a stream, with the columns of its delta */
static Query *
rows_query(Arm *arm, RangeTblEntry *delta, int node, bool with_delta)
{
	Query	   *new = weir_touched_ephemeral(delta, delta->enrname);
	Query	   *query;
	int64		before,
				after;

	distance(arm, node, &before, &after);
	query = weir_statement_parse(rows_text(arm, delta, node, with_delta, weir_statement_placeholder(new->targetList)));
	weir_touched_no_permissions(query);
	if (before != JOIN_UNBOUNDED && !arm->closing)
		splice_batch_time(query, arm, "weir_first_");
	if (after != JOIN_UNBOUNDED && !arm->closing)
		splice_batch_time(query, arm, "weir_last_");
	if (with_delta)
		weir_statement_splice(query, "weir_new_rows", new);
	return query;
}

typedef struct Replace
{
	Arm		   *arm;
	int			node;
	bool		with_delta;
} Replace;

static bool
replace_walker(Node *node, Replace *replace)
{
	Query	   *query = (Query *) node;
	ListCell   *lc;

	if (node == NULL)
		return false;
	if (!IsA(node, Query))
		return expression_tree_walker(node, replace_walker, replace);
	foreach(lc, query->rtable)
	{
		RangeTblEntry *rte = lfirst(lc);

		if (rte->rtekind != RTE_NAMEDTUPLESTORE)
			continue;
		rte->subquery = rows_query(replace->arm, rte, replace->node,
								   replace->with_delta && reads_batch(replace->arm, rte));
		rte->rtekind = RTE_SUBQUERY;
		rte->enrname = NULL;
		rte->enrtuples = 0;
		rte->coltypes = rte->coltypmods = rte->colcollations = NIL;
		return false;
	}
	return query_tree_walker(query, replace_walker, replace, 0);
}

/* weir_arm_replace puts the rows kept (with the batch: with_delta) in the place of every delta of a node. */
void
weir_arm_replace(Arm *arm, int node, bool with_delta)
{
	Replace		replace = {arm, node, with_delta};

	(void) replace_walker((Node *) arm->bounds->nodes[node].query, &replace);
}

/* --- arms --------------------------------------------------------------------------------- */

/* The deltas of an item, one per stream. */
static bool
sources_walker(Node *node, List **sources)
{
	if (node == NULL)
		return false;
	if (IsA(node, RangeTblEntry))
	{
		RangeTblEntry *rte = (RangeTblEntry *) node;
		ListCell   *lc;

		if (rte->rtekind != RTE_NAMEDTUPLESTORE)
			return false;
		foreach(lc, *sources)
		{
			if (strcmp(lfirst_node(RangeTblEntry, lc)->enrname, rte->enrname) == 0)
				return false;
		}
		*sources = lappend(*sources, copyObject(rte));
		return false;
	}
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, sources_walker, sources, QTW_EXAMINE_RTES_BEFORE);
	return expression_tree_walker(node, sources_walker, sources);
}

/* weir_arm_begin starts an arm over a copy of a join, of whose item the deltas are read (0: of all). */
void
weir_arm_begin(Arm *arm, Query *query, int item, Oid view)
{
	*arm = (Arm) {.view = view,.item = item,.bounds = weir_join_bounds(query)};
	if (item != 0)
		(void) sources_walker((Node *) rt_fetch(item, query->rtable)->subquery, &arm->sources);
	else
		(void) query_tree_walker(query, sources_walker, &arm->sources, QTW_EXAMINE_RTES_BEFORE);
}

/* The join with one item's delta, new rows in the items before it and old ones behind. */
static Query *
make_arm(Query *join, int item, Oid view, int depth)
{
	Query	   *query = copyObject(join);
	RangeTblEntry *delta = rt_fetch(item, query->rtable);
	Arm			arm;

	weir_arm_begin(&arm, query, item, view);
	if (arm.bounds->outer != JOIN_INNER)
		weir_outer_pairs(query);
	for (int i = 0; i < arm.bounds->n; i++)
	{
		if (arm.bounds->nodes[i].item != item)
			weir_arm_replace(&arm, i, arm.bounds->nodes[i].item < item);
	}
	change_levels(delta->subquery, view, JOIN_DELTA, depth + 1);
	return query;
}

/* The join with rows of one item that close, and all rows of the other: those without a match. item 0: of all items. */
static Query *
make_unmatched(Query *join, int item, Oid view)
{
	Query	   *query = copyObject(join);
	Arm			arm = {.view = view,.item = item,.closing = true};

	arm.bounds = weir_join_bounds(query);
	if (item == 0)
	{
		arm.reach = arm.bounds->span + 1;	/* 0 would say nothing */
		weir_outer_incomplete(query);
	}
	else
		weir_outer_unmatched(query, item);
	for (int i = 0; i < arm.bounds->n; i++)
		weir_arm_replace(&arm, i, false);
	return query;
}

/* Nothing is in it. */
static Query *
leave_none(Query *query)
{
	query->jointree->quals = makeBoolConst(false, false);
	return query;
}

/* The same of a join whose rows without a match come at once. */
static List *
once_arms(Query *join, Oid view, JoinVariant variant)
{
	List	   *arms = NIL;

	if (variant != JOIN_BEFORE)
		arms = weir_once_arms(join, true, view);
	if (variant != JOIN_AFTER)
		arms = list_concat(arms, weir_once_arms(join, false, view));
	return arms;
}

/* What the variant has in the place of a join. */
static Query *
change_join(Query *join, Oid view, JoinVariant variant, int depth)
{
	List	   *arms = NIL;
	ListCell   *lc;

	check_stack_depth();
	if (variant == JOIN_PAIRS)
	{
		if (weir_join_bounds(join)->outer != JOIN_INNER)
			weir_outer_pairs(join);
		return join;
	}
	if (variant == JOIN_UNMATCHED && list_length(weir_join_items(join)) > 2)
		return weir_join_bounds(join)->outer == JOIN_INNER ? join : make_unmatched(join, 0, view);
	if (variant >= JOIN_AFTER && weir_join_bounds(join)->outer != JOIN_INNER)
		return weir_statement_unite(psprintf("weir_arm_%d", depth), once_arms(join, view, variant));
	if (variant == JOIN_BEFORE)
		return leave_none(join);
	foreach(lc, weir_join_items(join))
	{
		if (variant != JOIN_UNMATCHED)
			arms = lappend(arms, make_arm(join, lfirst_int(lc), view, depth));
		else if (weir_outer_keeps(join, lfirst_int(lc)))
			arms = lappend(arms, make_unmatched(join, lfirst_int(lc), view));
	}
	return arms == NIL ? join : weir_statement_unite(psprintf("weir_arm_%d", depth), arms);	/* an inner join of deltas, which are empty then */
}

/* Every join at or below a level becomes its variant. */
static void
change_levels(Query *query, Oid view, JoinVariant variant, int depth)
{
	ListCell   *lc;

	check_stack_depth();
	if (weir_join_level(query))
	{
		*query = *change_join(query, view, variant, depth);
		return;
	}
	foreach(lc, query->rtable)
	{
		RangeTblEntry *rte = lfirst(lc);

		if (rte->rtekind == RTE_SUBQUERY)
			change_levels(rte->subquery, view, variant, depth);
		else if (rte->rtekind == RTE_NAMEDTUPLESTORE && variant == JOIN_BEFORE)
			(void) leave_none(query);
	}
	foreach(lc, query->cteList)
	{
		CommonTableExpr *cte = lfirst(lc);

		if (IsA(cte->ctequery, Query))
			change_levels((Query *) cte->ctequery, view, variant, depth);
	}
}

/*
 * weir_join_delta works on an analysed maintenance statement, in place: joins of deltas become what the
 * batch at hand adds to the joins. The search_path is pinned.
 */
void
weir_join_delta(Query *statement, Oid view)
{
	change_levels(statement, view, JOIN_DELTA, 0);
}

/* weir_join_pairs leaves what has a match, over all deltas. */
void
weir_join_pairs(Query *statement)
{
	change_levels(statement, InvalidOid, JOIN_PAIRS, 0);
}

/* weir_join_unmatched leaves what closes without a match, from the rows kept. */
void
weir_join_unmatched(Query *statement, Oid view)
{
	change_levels(statement, view, JOIN_UNMATCHED, 0);
}

/* weir_join_after, weir_join_before: what a batch may change, with it and without it. */
void
weir_join_after(Query *query, Oid view)
{
	change_levels(query, view, JOIN_AFTER, 0);
}

void
weir_join_before(Query *query, Oid view)
{
	change_levels(query, view, JOIN_BEFORE, 0);
}

/* weir_join_touched: both, in a statement that computes touched keys anew. */
void
weir_join_touched(Query *statement, Oid view)
{
	change_levels(statement, view, JOIN_TOUCHED, 0);
}
