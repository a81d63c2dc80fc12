/*
 * plan.c
 *	  The kept plans of a view's statements.
 *
 * statement ⇒ plan ⇒ apply. Each backend keeps, per view, the statements' query trees and up to four
 * plans of each, one per size of delta: a plan made for ten rows would join row by row for a
 * million. All are forgotten when weir's catalog, or anything that the
 * statement depends on, changes (the callbacks below; the same events that the
 * plan cache of PostgreSQL listens to).
 *
 * Locks: RowExclusive on the view's tables, AccessShare on what the query
 * reads, taken before the plan's validity is looked at, so that no DDL can
 * come between. Memory: one context per view and backend.
 */
#include "postgres.h"

#include "catalog/catalog.h"
#include "catalog/stream.h"
#include "compat.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "storage/lmgr.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "view/apply.h"
#include "view/group.h"
#include "view/join.h"
#include "view/plan.h"
#include "view/session.h"
#include "view/shape.h"
#include "view/upstream.h"

/* What is read with every batch is in the cache: random_page_cost for its plans. */
#define CACHED_PAGE_COST 1.1

/*
 * A delta of the k-th class has fewer than 1000, 10 000, 100 000 rows, or more; it is planned for this many.
 * Where tables are joined the first class reaches to 3000: up to there looking up a table's rows by
 * its index is as good as reading all of a small one.
 */
static const double planned_rows[PLAN_SIZES] = {100, 3000, 30000, 100000};

typedef struct RelationLock
{
	Oid			relid;
	LOCKMODE	mode;
} RelationLock;

typedef struct ViewPlanEntry
{
	Oid			view;			/* hash key */
	ViewPlan   *plan;
} ViewPlanEntry;

static HTAB *view_plans = NULL;

/* --- invalidation ------------------------------------------------------------- */

static void
relation_changed(Datum arg, Oid relid)
{
	HASH_SEQ_STATUS scan;
	ViewPlanEntry *entry;

	if (view_plans == NULL)
		return;
	hash_seq_init(&scan, view_plans);
	while ((entry = hash_seq_search(&scan)) != NULL)
	{
		if (entry->plan && (relid == InvalidOid || list_member_oid(entry->plan->relids, relid)))
			entry->plan->valid = false;
	}
}

static void
object_changed(Datum arg, int cacheid, uint32 hashvalue)
{
	HASH_SEQ_STATUS scan;
	ViewPlanEntry *entry;

	if (view_plans == NULL)
		return;
	hash_seq_init(&scan, view_plans);
	while ((entry = hash_seq_search(&scan)) != NULL)
	{
		ListCell   *lc;

		if (entry->plan == NULL)
			continue;
		foreach(lc, entry->plan->items)
		{
			PlanInvalItem *item = lfirst(lc);

			if (item->cacheId == cacheid &&
				(hashvalue == 0 || item->hashValue == hashvalue))
				entry->plan->valid = false;
		}
	}
}

static void
anything_changed(Datum arg, int cacheid, uint32 hashvalue)
{
	relation_changed(arg, InvalidOid);
}

/* weir_view_init is called once per process, from _PG_init. */
void
weir_view_init(void)
{
	CacheRegisterRelcacheCallback(relation_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(PROCOID, object_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(TYPEOID, object_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(NAMESPACEOID, anything_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(OPEROID, anything_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(AMOPOPID, anything_changed, (Datum) 0);
}

/* --- building ------------------------------------------------------------------ */

static void
add_lock(ViewPlan *plan, Oid relid, LOCKMODE mode)
{
	RelationLock *lock;
	ListCell   *lc;

	foreach(lc, plan->locks)
	{
		lock = lfirst(lc);
		if (lock->relid == relid && lock->mode >= mode)
			return;
	}
	lock = palloc(sizeof(RelationLock));
	lock->relid = relid;
	lock->mode = mode;
	plan->locks = lappend(plan->locks, lock);
	plan->relids = list_append_unique_oid(plan->relids, relid);
}

static void
add_rte_lock(ViewPlan *plan, RangeTblEntry *rte)
{
	if (OidIsValid(rte->relid) && rte->rellockmode != NoLock &&
		(rte->rtekind == RTE_RELATION || rte->rtekind == RTE_SUBQUERY))
		add_lock(plan, rte->relid, rte->rellockmode);
}

static bool
lock_walker(Node *node, ViewPlan *plan)
{
	if (node == NULL)
		return false;
	if (IsA(node, RangeTblEntry))
	{
		add_rte_lock(plan, (RangeTblEntry *) node);
		return false;
	}
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, lock_walker, plan, QTW_EXAMINE_RTES_BEFORE);
	return expression_tree_walker(node, lock_walker, plan);
}

static void
free_plan(ViewPlan *plan)
{
	MemoryContextDelete(plan->cxt);
}

/* The rewritten statement, or an error for what somebody put between: rules on the view's table. */
static Query *
single_statement(View *view, Query *statement)
{
	List	   *rewritten;

	if (statement == NULL)
		return NULL;
	weir_tumble_unfold(statement);
	rewritten = weir_run_rewrite(statement);
	if (list_length(rewritten) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("continuous view %s has rules on its table", view->name),
				 errhint("Drop the rules; use triggers.")));
	return linitial_node(Query, rewritten);
}

static void
rewrite_sessions(View *view, SessionStatements *sessions)
{
	sessions->source = single_statement(view, sessions->source);
	sessions->absorb = single_statement(view, sessions->absorb);
	sessions->gone = single_statement(view, sessions->gone);
	sessions->shadow = single_statement(view, sessions->shadow);
	sessions->purge = single_statement(view, sessions->purge);
	sessions->keep = single_statement(view, sessions->keep);
	sessions->free = single_statement(view, sessions->free);
}

static void
rewrite_retract(View *view, RetractStatements *retract)
{
	retract->changes = single_statement(view, retract->changes);
	retract->lost = single_statement(view, retract->lost);
	retract->found = single_statement(view, retract->found);
	retract->set = single_statement(view, retract->set);
}

static RetractStatements *
copy_retract(RetractStatements *from)
{
	RetractStatements *retract = palloc(sizeof(RetractStatements));

	retract->changes = copyObject(from->changes);
	retract->lost = copyObject(from->lost);
	retract->found = copyObject(from->found);
	retract->set = copyObject(from->set);
	return retract;
}

static SessionStatements *
copy_sessions(SessionStatements *from)
{
	SessionStatements *sessions = palloc(sizeof(SessionStatements));

	sessions->rule = from->rule;
	sessions->source = copyObject(from->source);
	sessions->absorb = copyObject(from->absorb);
	sessions->gone = copyObject(from->gone);
	sessions->shadow = copyObject(from->shadow);
	sessions->purge = copyObject(from->purge);
	sessions->keep = copyObject(from->keep);
	sessions->free = copyObject(from->free);
	return sessions;
}

/*
 * build_plan makes the statement of a view from its definition. Runs as the view's
 * owner; the definition is analysed as of now, so renames and added columns are followed.
 */
static ViewPlan *
build_plan(View *view)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "weir view plan",
											  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old;
	ViewPlan   *plan = MemoryContextAllocZero(cxt, sizeof(ViewPlan));
	ViewStatements statements;
	ListCell   *lc;

	plan->cxt = cxt;
	plan->valid = true;
	plan->purged = DT_NOBEGIN;
	plan->catalog_version = weir_cache_version();
	weir_view_statements(view, &statements);
	plan->passes = weir_view_passes(view);
	if (plan->passes)
	{
		bool		direct = weir_pass_obstacle(view, statements.ncolumns) == NULL;

		weir_pass_prepare(statements.close ? statements.close : statements.merge, direct);
		if (statements.whole && !statements.close)
			weir_pass_prepare(statements.whole, direct);
	}
	if (statements.merge)
		statements.merge = single_statement(view, statements.merge);
	statements.whole = single_statement(view, statements.whole);
	statements.all = single_statement(view, statements.all);
	statements.clear = single_statement(view, statements.clear);
	statements.states = single_statement(view, statements.states);
	statements.empty = single_statement(view, statements.empty);
	if (statements.next)
		statements.next = single_statement(view, statements.next);
	statements.late = single_statement(view, statements.late);
	statements.close = single_statement(view, statements.close);
	statements.remember = single_statement(view, statements.remember);
	if (statements.sessions)
		rewrite_sessions(view, statements.sessions);
	if (statements.retract)
		rewrite_retract(view, statements.retract);

	old = MemoryContextSwitchTo(cxt);
	plan->text = psprintf("maintain continuous view %s", view->name);
	plan->exclusive = statements.exclusive;
	plan->streams = list_copy(statements.streams);
	plan->tree = copyObject(statements.merge);
	plan->whole = copyObject(statements.whole);
	plan->all = copyObject(statements.all);
	plan->clear = copyObject(statements.clear);
	plan->states = copyObject(statements.states);
	plan->empty = copyObject(statements.empty);
	plan->late = copyObject(statements.late);
	plan->close = copyObject(statements.close);
	plan->next = copyObject(statements.next);
	plan->remember = copyObject(statements.remember);
	if (statements.span)
		plan->span = *statements.span;
	(void) lock_walker((Node *) plan->tree, plan);
	(void) lock_walker((Node *) plan->whole, plan);
	(void) lock_walker((Node *) plan->all, plan);
	(void) lock_walker((Node *) plan->states, plan);
	(void) lock_walker((Node *) plan->close, plan);
	(void) lock_walker((Node *) plan->remember, plan);
	if (statements.sessions)
	{
		plan->sessions = copy_sessions(statements.sessions);
		(void) lock_walker((Node *) plan->sessions->source, plan);
		(void) lock_walker((Node *) plan->sessions->keep, plan);
	}
	if (statements.retract)
	{
		plan->retract = copy_retract(statements.retract);
		(void) lock_walker((Node *) plan->retract->found, plan);
	}
	add_lock(plan, view->query_relid, AccessShareLock);
	foreach(lc, plan->streams)
		add_lock(plan, lfirst_oid(lc), AccessShareLock);
	MemoryContextSwitchTo(old);
	return plan;
}

static ViewPlanEntry *
plan_entry(Oid view)
{
	ViewPlanEntry *entry;
	bool		found;

	if (view_plans == NULL)
	{
		HASHCTL		ctl = {.keysize = sizeof(Oid),.entrysize = sizeof(ViewPlanEntry)};

		view_plans = hash_create("weir view plans", 32, &ctl, HASH_ELEM | HASH_BLOBS);
	}
	entry = hash_search(view_plans, &view, HASH_ENTER, &found);
	if (!found)
		entry->plan = NULL;
	return entry;
}

ViewPlan *
weir_plan_current(View *view)
{
	for (;;)
	{
		ViewPlanEntry *entry = plan_entry(view->relid);
		ViewPlan   *plan = entry->plan;
		ListCell   *lc;

		if (plan == NULL || !plan->valid || plan->catalog_version != weir_cache_version())
		{
			entry->plan = NULL;
			if (plan && plan->in_use > 0)
				plan->orphaned = true;
			else if (plan)
				free_plan(plan);
			plan = build_plan(view);
			MemoryContextSetParent(plan->cxt, CacheMemoryContext);
			entry = plan_entry(view->relid);	/* building may have grown the table */
			entry->plan = plan;
		}
		foreach(lc, plan->locks)
		{
			RelationLock *lock = lfirst(lc);

			LockRelationOid(lock->relid, lock->mode);
		}
		if (plan->valid)
			return plan;
	}
}

/* Does the statement read tables? */
static bool
reads_tables(Node *node, void *context)
{
	Query	   *query = (Query *) node;
	ListCell   *lc;

	if (node == NULL || !IsA(node, Query))
		return node != NULL && expression_tree_walker(node, reads_tables, context);
	foreach(lc, query->rtable)
	{
		RangeTblEntry *rte = lfirst(lc);

		if (rte->rtekind == RTE_RELATION && rte->inFromCl)
			return true;
	}
	return query_tree_walker(query, reads_tables, context, 0);
}

static int
size_class(Query *tree, int64 nrows)
{
	if (nrows < 1000 || (nrows < 3000 && reads_tables((Node *) tree, NULL)))
		return 0;
	if (nrows < 10000)
		return 1;
	return nrows < 100000 ? 2 : 3;
}

/* Plans a tree for so many rows. */
static PlannedStmt *
make_plan(ViewPlan *plan, Query *tree, double nrows)
{
	PlannedStmt *planned;
	int			guc_level = NewGUCNestLevel();

	tree = copyObject(tree);
	weir_rewrite_estimate(tree, nrows);
	if (random_page_cost > CACHED_PAGE_COST)
		(void) set_config_option("random_page_cost", CppAsString2(CACHED_PAGE_COST), PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
	PushActiveSnapshot(GetTransactionSnapshot());
	planned = pg_plan_query(tree, plan->text, 0, NULL);
	PopActiveSnapshot();
	AtEOXact_GUC(false, guc_level);
	planned->jitFlags = 0;		/* compiling costs more than a batch */
	return planned;
}

PlannedStmt *
weir_plan_once(ViewPlan *plan, Query *tree, double nrows)
{
	return make_plan(plan, tree, Max(nrows, 1));
}

PlannedStmt *
weir_plan_for_size(ViewPlan *plan, Query *tree, PlannedStmt **plans, int64 nrows)
{
	int			class = size_class(tree, nrows);
	MemoryContext old;
	PlannedStmt *planned;
	ListCell   *lc;

	if (plans[class])
		return plans[class];
	planned = make_plan(plan, tree, planned_rows[class]);
	weir_group_replace(planned);
	if (planned->transientPlan)
		return planned;

	old = MemoryContextSwitchTo(plan->cxt);
	planned = copyObject(planned);
	foreach(lc, planned->rtable)
		add_rte_lock(plan, lfirst(lc));
	foreach(lc, planned->relationOids)
		plan->relids = list_append_unique_oid(plan->relids, lfirst_oid(lc));
	plan->items = list_concat(plan->items, planned->invalItems);
	plans[class] = planned;
	MemoryContextSwitchTo(old);
	return planned;
}

/* Plans without the first n of these. */
static PlannedStmt *
plan_without(ViewPlan *plan, Query *tree, PlannedStmt **plans, int64 nrows, int n)
{
	static const char *const others[] = {"enable_seqscan", "enable_hashjoin", "enable_mergejoin"};
	int			guc_level = NewGUCNestLevel();
	PlannedStmt *planned;

	for (int i = 0; i < n; i++)
		(void) set_config_option(others[i], "off", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	planned = weir_plan_for_size(plan, tree, plans, nrows);
	AtEOXact_GUC(false, guc_level);
	return planned;
}

PlannedStmt *
weir_plan_by_index(ViewPlan *plan, Query *tree, PlannedStmt **plans, int64 nrows)
{
	return plan_without(plan, tree, plans, nrows, 3);
}

PlannedStmt *
weir_plan_no_scan(ViewPlan *plan, Query *tree, PlannedStmt **plans, int64 nrows)
{
	return plan_without(plan, tree, plans, nrows, 1);
}

void
weir_plan_release(ViewPlan *plan)
{
	plan->in_use--;
	if (plan->orphaned && plan->in_use == 0)
		free_plan(plan);
}
