/*
 * tables.c
 *	  Queries over views that change: computed from the views' tables.
 *
 * shape ⇒ tables ⇒ touched, recompute_statement. Such a view's truth is its query over the tables of the
 * views below it as they are now: these are complete, so any query will do. What changed
 * (capture.c: old and new versions of rows) only tells which rows of the result to look at. Two ways:
 *
 *	- by keys, as for streams (recompute.h): columns of the result that are keys of every level that groups,
 *	  numbers or makes distinct. Without such a level: the unique key of the view below, or else any columns.
 *	- the query as a whole, where no such key is known for sure (no GROUP BY; LIMIT, EXCEPT, outer joins of two
 *	  views, sub-selects in expressions). The result is compared with what the view holds; only rows
 *	  that differ are changed.
 *
 * Where several views are joined, the keys that a change of one touches are found by joining it with
 * the tables of the others, and with what changed in these: the old version of a row may have met the old one of another.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "catalog/catalog.h"
#include "catalog/pg_index.h"
#include "compat.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/parsetree.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/typcache.h"
#include "view/close.h"
#include "view/parts.h"
#include "view/recompute.h"
#include "view/upstream.h"

/* Of a query without GROUP BY, DISTINCT or OVER over a view without a key, so many columns identify a row well enough. */
#define LINEAR_KEYS		4

/* What is known of the part below the lowest level that groups. */
typedef struct Feeds
{
	bool		joined;			/* several views in one join */
	bool		united;			/* UNION ALL */
	int			views;
} Feeds;

/* --- is it such a query? --------------------------------------------------------------- */

static bool
item_has_delta(RangeTblEntry *rte)
{
	return rte->rtekind == RTE_NAMEDTUPLESTORE ||
		(rte->rtekind == RTE_SUBQUERY && weir_query_has_delta((Node *) rte->subquery));
}

static int
count_items(Query *query)
{
	int			n = 0;
	ListCell   *lc;

	foreach(lc, query->rtable)
		n += item_has_delta(lfirst(lc));
	return n;
}

static bool
sublink_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, SubLink) && weir_query_has_delta(((SubLink *) node)->subselect))
		return true;
	if (IsA(node, Query))
		return false;
	return expression_tree_walker(node, sublink_walker, context);
}

/* Does an expression of this level, or a common table expression, read a view? */
static bool
reads_aside(Query *query)
{
	ListCell   *lc;

	foreach(lc, query->cteList)
	{
		if (weir_query_has_delta(lfirst_node(CommonTableExpr, lc)->ctequery))
			return true;
	}
	return query_tree_walker(query, sublink_walker, NULL, QTW_IGNORE_RT_SUBQUERIES | QTW_IGNORE_CTE_SUBQUERIES);
}

static bool
not_as_stream_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
	{
		Query	   *query = (Query *) node;

		check_stack_depth();
		if (query->setOperations == NULL && count_items(query) > 1)
			return true;
		return query_tree_walker(query, not_as_stream_walker, context, 0);
	}
	return expression_tree_walker(node, not_as_stream_walker, context);
}

/* weir_tables_needed: a view among the sources changes, or several are joined. */
bool
weir_tables_needed(Query *query, List *sources)
{
	ListCell   *lc;

	foreach(lc, sources)
	{
		if (weir_source_changes(lfirst_oid(lc)) && !weir_upstream_is_rows(lfirst_oid(lc)))
			return true;
	}
	return not_as_stream_walker((Node *) query, NULL);
}

/* --- is the way from a view's rows to the result's known? -------------------------------- */

/* Are rows of the item joined so that each row of the result that has none of them does not depend on them? */
static bool
rows_decide(Node *node, int rtindex, bool *found)
{
	ListCell   *lc;
	bool		ok = true;

	if (IsA(node, RangeTblRef))
	{
		*found = ((RangeTblRef *) node)->rtindex == rtindex;
		return true;
	}
	if (IsA(node, JoinExpr))
	{
		JoinExpr   *join = (JoinExpr *) node;
		bool		left;
		bool		right;

		ok = rows_decide(join->larg, rtindex, &left) && rows_decide(join->rarg, rtindex, &right);
		*found = ok && (left || right);
		if (ok && left)
			return join->jointype == JOIN_INNER || join->jointype == JOIN_LEFT;
		if (ok && right)
			return join->jointype == JOIN_INNER || join->jointype == JOIN_RIGHT;
		return ok;
	}
	*found = false;
	foreach(lc, ((FromExpr *) node)->fromlist)
	{
		bool		here = false;

		ok &= rows_decide(lfirst(lc), rtindex, &here);
		*found |= here;
	}
	return ok;
}

static bool
inner_joins_only(Node *node)
{
	ListCell   *lc;

	if (IsA(node, JoinExpr))
		return ((JoinExpr *) node)->jointype == JOIN_INNER &&
			inner_joins_only(((JoinExpr *) node)->larg) && inner_joins_only(((JoinExpr *) node)->rarg);
	if (IsA(node, FromExpr))
	{
		foreach(lc, ((FromExpr *) node)->fromlist)
		{
			if (!inner_joins_only(lfirst(lc)))
				return false;
		}
	}
	return true;
}

/* Does each change of a view below reach the keys of this level row by row? */
static bool
understand_feeds(Query *query, Feeds *feeds)
{
	int			items = count_items(query);
	int			i = 0;
	ListCell   *lc;

	check_stack_depth();
	if (query->limitCount || query->limitOffset || reads_aside(query))
		return false;
	if (query->setOperations)
	{
		feeds->united = true;
		if (!weir_only_union_all(query->setOperations))
			return false;
	}
	else if (items > 1)
	{
		feeds->joined = true;
		if (!inner_joins_only((Node *) query->jointree))
			return false;
	}
	foreach(lc, query->rtable)
	{
		RangeTblEntry *rte = lfirst(lc);
		bool		found = false;

		i++;
		if (!item_has_delta(rte))
			continue;
		if (query->setOperations == NULL && !rows_decide((Node *) query->jointree, i, &found))
			return false;
		if (rte->rtekind == RTE_NAMEDTUPLESTORE)
			feeds->views++;
		else if (!understand_feeds(rte->subquery, feeds))
			return false;
	}
	return true;
}

/* Fills levels and path, as far down as levels group; false: changes cannot be followed. */
static bool
understand_levels(Recompute *recompute, Query *top, Feeds *feeds)
{
	Query	   *level = top;

	recompute->levels = list_make1(level);
	recompute->path = NIL;
	while (weir_recompute_groups_below(level))
	{
		int			rtindex;
		Query	   *next = weir_recompute_stream_part(level, &rtindex);
		bool		found;

		if (next == NULL || count_items(level) != 1 || level->limitCount || level->limitOffset ||
			reads_aside(level) || !rows_decide((Node *) level->jointree, rtindex, &found))
			return false;
		recompute->path = lappend_int(recompute->path, rtindex);
		recompute->levels = lappend(recompute->levels, next);
		weir_compat_flatten_groups(next);
		level = next;
	}
	return level->setOperations == NULL && understand_feeds(level, feeds) && !(feeds->joined && feeds->united);
}

/* weir_tables_linear: below the uppermost level, does each change of a view below reach it row by row, alone? */
bool
weir_tables_linear(Query *query)
{
	Recompute	recompute = {0};
	Feeds		feeds = {0};

	return understand_levels(&recompute, query, &feeds) && list_length(recompute.levels) == 1 && !feeds.joined;
}

/* --- keys of a query that does not group --------------------------------------------------- */

/* Is it one view's rows, each at most once? */
static bool
each_row_once(Query *query)
{
	RangeTblEntry *rte;

	if (query->setOperations || query->hasTargetSRFs || list_length(query->jointree->fromlist) != 1 ||
		!IsA(linitial(query->jointree->fromlist), RangeTblRef))
		return false;
	rte = rt_fetch(((RangeTblRef *) linitial(query->jointree->fromlist))->rtindex, query->rtable);
	return rte->rtekind == RTE_NAMEDTUPLESTORE ||
		(rte->rtekind == RTE_SUBQUERY && each_row_once(rte->subquery));
}

/* weir_unique_columns: columns of weir's own unique index on a view's table; NIL: it has none. */
List *
weir_unique_columns(Oid view)
{
	Relation	rel = table_open(view, AccessShareLock);
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, RelationGetIndexList(rel))
	{
		Relation	index = index_open(lfirst_oid(lc), AccessShareLock);
		Form_pg_index form = index->rd_index;

		if (result == NIL && form->indisunique && form->indimmediate && form->indnullsnotdistinct &&
			RelationGetIndexPredicate(index) == NIL && RelationGetIndexExpressions(index) == NIL)
			for (int i = 0; i < form->indnkeyatts; i++)
				result = lappend_int(result, form->indkey.values[i]);
		index_close(index, AccessShareLock);
	}
	table_close(rel, NoLock);
	return result;
}

/* The key that shows this column of the view, or NULL. */
static TouchKey *
key_of_column(ViewShape *shape, List *keys, Oid view, AttrNumber attno)
{
	ListCell   *lc;

	foreach(lc, keys)
	{
		TouchKey   *key = lfirst(lc);
		ColumnOrigin origin = {0};

		if (weir_trace_column(shape->query, (Node *) key->target->expr, &origin) && origin.window == 0 &&
			origin.stream == view && origin.column && get_attnum(view, origin.column) == attno)
			return key;
	}
	return NULL;
}

static bool
can_be_indexed(TouchKey *key)
{
	TypeCacheEntry *entry = lookup_type_cache(exprType((Node *) key->expr), TYPECACHE_EQ_OPR | TYPECACHE_LT_OPR);

	return OidIsValid(entry->eq_opr) && OidIsValid(entry->lt_opr);
}

/* All columns would do; the key of the view below, if it is shown, is best. */
static void
choose_linear_keys(ViewShape *shape, Feeds *feeds)
{
	Recompute  *recompute = shape->recompute;
	List	   *all = recompute->keys;
	Oid			view = linitial_oid(shape->streams);
	List	   *columns = feeds->views == 1 ? weir_unique_columns(view) : NIL;
	ListCell   *lc;

	recompute->keys = NIL;
	foreach(lc, columns)
	{
		TouchKey   *key = key_of_column(shape, all, view, lfirst_int(lc));

		if (key)
			recompute->keys = lappend(recompute->keys, key);
	}
	recompute->unique = columns && list_length(recompute->keys) == list_length(columns) && each_row_once(shape->query);
	if (recompute->keys)
		return;
	foreach(lc, all)
	{
		if (list_length(recompute->keys) < LINEAR_KEYS && can_be_indexed(lfirst(lc)))
			recompute->keys = lappend(recompute->keys, lfirst(lc));
	}
}

/* --- all together ------------------------------------------------------------------------------ */

static void
find_keys(ViewShape *shape)
{
	Recompute  *recompute = shape->recompute;
	Feeds		feeds = {0};
	ListCell   *lc;

	if (!understand_levels(recompute, shape->query, &feeds))
		return;
	recompute->joined = feeds.joined;
	weir_recompute_keys(shape);
	recompute->windowed = false;
	recompute->window_start = recompute->window_end = NULL;
	if (list_length(recompute->levels) == 1)
	{
		choose_linear_keys(shape, &feeds);
		foreach(lc, recompute->keys)
			shape->keys = lappend(shape->keys, ((TouchKey *) lfirst(lc))->target);
	}
	else if (recompute->keys)
		weir_recompute_unique(shape);
}

/*
 * weir_tables_analyse completes the shape of a view over views that change. shape->query is
 * the definition over deltas, in one tree of sub-selects.
 */
void
weir_tables_analyse(ViewShape *shape)
{
	shape->recompute = palloc0(sizeof(Recompute));
	shape->tables = true;
	shape->strategy = "recompute";
	shape->in_place = true;
	shape->exclusive = true;
	shape->recompute->levels = list_make1(shape->query);
	find_keys(shape);
	shape->grouped = shape->recompute->unique;
	shape->why = shape->recompute->keys ?
		"it reads views that change: keys that a change touches are computed anew from the views' tables" :
		"it reads views that change: the query is computed anew from the views' tables, and rows that differ are changed";
	weir_recompute_build(shape);
}

/* weir_tables_announce says at CREATE when every batch costs the whole query: that is nobody's surprise later. */
void
weir_tables_announce(ViewShape *shape)
{
	if (shape->retracts || shape->recompute->keys != NIL)
		return;
	ereport(NOTICE,
			(errmsg("view \"%s\" is computed as a whole with every batch", shape->name),
			 shape->obstacle ? errdetail("It reads views that change; what goes there cannot be taken back (%s), and no column of the select list tells which rows a change concerns.", shape->obstacle) :
			 errdetail("It reads views that change, and no column of its select list tells which of its rows a change concerns."),
			 errhint("Group by a column and show it in the select list: then the touched keys are computed alone.")));
}

/* Views whose rows only come, and which stand as tables beside a stream: one might take them for streams. */
static bool
beside_walker(Node *node, ViewShape *shape)
{
	if (node == NULL)
		return false;
	if (IsA(node, RangeTblEntry))
	{
		RangeTblEntry *rte = (RangeTblEntry *) node;
		View	   *view = rte->rtekind == RTE_RELATION && rte->inFromCl ? weir_view_get(rte->relid) : NULL;

		if (view && !list_member_oid(shape->streams, view->relid) &&
			(weir_view_is_final(view) || strcmp(view->strategy, "append") == 0))
			ereport(NOTICE,
					(errmsg("view \"%s\" reads continuous view %s as a table, as it is when rows of a stream come", shape->name, view->name),
					 errdetail("Rows that come to it later do not meet rows of the stream that came before."),
					 errhint("To join them in time, write its query into this one: streams joined with a bound on their event times, or weir.emit = 'final' over one window.")));
		return false;
	}
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, beside_walker, shape, QTW_EXAMINE_RTES_BEFORE);
	return expression_tree_walker(node, beside_walker, shape);
}

/* weir_tables_announce_beside says so at CREATE. */
void
weir_tables_announce_beside(ViewShape *shape)
{
	(void) beside_walker((Node *) shape->query, shape);
}
