/*
 * fill_below.c
 *	  A new view over an append view of whose rows not all are kept in the stream: filled from the append view's table.
 *
 * define, change (REFRESH) ⇒ here. An append view stands for its query where it is read (rewrite.c), so WITH DATA would give
 * the view above the rows that the stream keeps, though the table below holds all. So for the filling alone
 * the statement is made as if the view below were a stream of its own, whose rows are its table's. That is the same result,
 * where a row is counted whatever it saw of the stream's time and order: not with a lateness, finals, sessions, joins of
 * streams, keys computed again from the kept rows, or aggregates that go by the order of arrival. Nor with dead letters of the view
 * below, which weir.retry would give to that one only.
 *
 * Runs in the session, with Share on the streams. The view below must follow its streams: its table holds then what they
 * have brought, as the view above goes on from there.
 */
#include "postgres.h"

#include "catalog/catalog.h"
#include "catalog/pg_class.h"
#include "catalog/stream.h"
#include "delta/ingest.h"
#include "executor/spi.h"
#include "nodes/nodeFuncs.h"
#include "tcop/tcopprot.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "view/apply.h"
#include "view/close.h"
#include "view/define.h"
#include "view/shape.h"
#include "view/upstream.h"

typedef struct Below
{
	List	   *views;			/* of Oid: append views in FROM */
	bool		others;			/* streams and other views besides */
	bool		arrival;		/* an aggregate goes by the order of arrival */
} Below;

static bool
below_walker(Node *node, Below *below)
{
	if (node == NULL)
		return false;
	if (IsA(node, RangeTblEntry))
	{
		RangeTblEntry *rte = (RangeTblEntry *) node;
		View	   *view = rte->rtekind == RTE_RELATION && rte->inFromCl ? weir_view_get(rte->relid) : NULL;

		if (view && weir_view_is_inlined(view))
			below->views = list_append_unique_oid(below->views, view->relid);
		else if (view || (rte->rtekind == RTE_RELATION && rte->inFromCl &&
						  (rte->relkind == RELKIND_VIEW || weir_stream_get(rte->relid))))
			below->others = true;
		return false;
	}
	if (IsA(node, Aggref))
		below->arrival |= weir_aggregate_by_arrival((Aggref *) node);
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, below_walker, below, QTW_EXAMINE_RTES_BEFORE);
	return expression_tree_walker(node, below_walker, below);
}

/* The view below whose table tells all that the view would have counted; NULL: there is none. */
static View *
find_below(View *view, Query *definition)
{
	Below		found = {0};
	View	   *below;
	CatalogScope scope;
	bool		follows;
	ListCell   *lc;

	if (view->joins || view->lateness || weir_view_is_final(view) || weir_view_passes(view) ||
		view->streams == NIL || weir_view_is_whole(view) ||
		(strcmp(view->strategy, "append") != 0 && strcmp(view->strategy, "combine") != 0))
		return NULL;
	foreach(lc, view->streams)
	{
		if (weir_stream_require(lfirst_oid(lc))->lateness)
			return NULL;
	}
	(void) below_walker((Node *) definition, &found);
	if (found.others || found.arrival || list_length(found.views) != 1)
		return NULL;
	below = weir_view_require(linitial_oid(found.views));
	weir_catalog_open(&scope);
	follows = weir_catalog_exec("SELECT FROM weir.view_position WHERE view = %u", below->relid) == 0 &&
		weir_catalog_exec("SELECT FROM weir.dead_letter WHERE view = %u LIMIT 1", below->relid) == 0;
	weir_catalog_close(&scope);
	return follows && below->keep == NULL && below->status == VIEW_RUNNING ? below : NULL;
}

typedef struct Making
{
	View	   *view;
	View	   *below;
	Query	   *definition;
	Query	   *statement;
} Making;

static void
make_body(void *arg)
{
	Making	   *making = arg;
	View	   *view = making->view;
	ViewShape  *own = weir_view_shape(view);
	ViewShape  *shape;

	weir_upstream_as_rows(making->below->relid);
	shape = weir_shape_make(making->definition, get_rel_name(view->relid), false, false, NULL, NULL);
	if (equal(shape->streams, list_make1_oid(making->below->relid)) && strcmp(shape->strategy, own->strategy) == 0 &&
		!shape->recompute && !shape->session && !shape->tables && !own->recompute && !own->session &&
		list_length(shape->partial->targetList) == list_length(own->partial->targetList))
		making->statement = weir_statement_make(shape, view->relid, view->state_relid);
}

/* The statement that merges rows of the view below; NULL: it cannot be made so. Search_path is pinned. */
static Query *
make_statement(View *view, View *below, Query *definition)
{
	Making		making = {view, below, definition, NULL};
	ErrorData  *error = NULL;

	PG_TRY();
	{
		error = weir_try(make_body, &making);
	}
	PG_FINALLY();
	{
		weir_upstream_as_rows(InvalidOid);
	}
	PG_END_TRY();
	return error ? NULL : making.statement;
}

static uint64
run_statement(View *view, View *below, Query *statement, Delta *delta)
{
	Query	   *query = linitial_node(Query, weir_run_rewrite(statement));
	PlannedStmt *plan;
	const int	outer_depth = weir_applying_begin();
	volatile uint64 rows = 0;

	weir_rewrite_estimate(query, Max(delta->nrows, 1));
	PG_TRY();
	{
		PushActiveSnapshot(GetTransactionSnapshot());
		plan = pg_plan_query(query, "rows of the view below", 0, NULL);
		PopActiveSnapshot();
		rows = weir_run_plan_newest(plan, "rows of the view below",
									weir_run_environment(list_make1_oid(below->relid), list_make1(delta)), None_Receiver);
	}
	PG_CATCH();
	{
		weir_applying_end(outer_depth);
		PG_RE_THROW();
	}
	PG_END_TRY();
	weir_applying_end(outer_depth);
	return rows;
}

/* weir_fill_below fills a view, which is empty, if that can be done so; or only tells whether it can. */
bool
weir_fill_below(View *view, bool only_tell, uint64 *rows)
{
	Query	   *definition = weir_shape_definition(view->query_relid);
	View	   *below = find_below(view, definition);
	Query	   *statement;
	ViewScope	scope;

	if (below == NULL)
		return false;
	weir_view_scope_open(view, &scope);
	weir_view_scope_pin();
	statement = make_statement(view, below, definition);
	if (statement && !only_tell)
	{
		Delta	   *delta = weir_source_read(below->relid, NULL);

		weir_view_scope_settings(view);
		*rows = run_statement(view, below, statement, delta);
		weir_delta_free(delta);
	}
	weir_view_scope_close(&scope);
	return statement != NULL;
}
