/*
 * apply.c
 *	  Running a view's maintenance statement over a delta.
 *
 * ingest ⇒ apply ⇒ the view's tables. Runs in the transaction of the batch: in a
 * worker, or in the backend that INSERTed.
 *
 * Each backend keeps, per view, the statement's query tree and up to four
 * plans, one per size of delta: a plan made for ten rows would join row by row for a
 * million. All are forgotten when weir's catalog, or anything that the
 * statement depends on, changes (the callbacks below; the same events that the
 * plan cache of PostgreSQL listens to).
 *
 * Locks: RowExclusive on the view's tables, AccessShare on what the query
 * reads, taken before the plan's validity is looked at, so that no DDL can
 * come between. Memory: one context per view and backend; one scratch context per call.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/catalog.h"
#include "catalog/stream.h"
#include "compat.h"
#include "miscadmin.h"
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
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "view/apply.h"
#include "view/close.h"
#include "view/group.h"
#include "view/join.h"
#include "view/measure.h"
#include "view/recompute.h"
#include "view/session.h"
#include "view/shape.h"
#include "view/upstream.h"
#include "worker/shared.h"

/* What is read with every batch is in the cache: random_page_cost for its plans. */
#define CACHED_PAGE_COST 1.1

/*
 * A delta of the k-th class has fewer than 1000, 10 000, 100 000 rows, or more; it is planned for this many.
 * Where tables are joined the first class reaches to 3000: up to there looking up a table's rows by
 * its index is as good as reading all of a small one.
 */
#define SIZE_CLASSES 4
static const double planned_rows[SIZE_CLASSES] = {100, 3000, 30000, 100000};

typedef struct RelationLock
{
	Oid			relid;
	LOCKMODE	mode;
} RelationLock;

typedef struct ViewPlan
{
	MemoryContext cxt;
	bool		valid;
	int			in_use;			/* a trigger may insert into the view's own stream */
	bool		orphaned;		/* replaced while in use: whoever uses it frees it */
	uint64		catalog_version;
	bool		exclusive;		/* writers take turns */
	bool		passes;			/* rows of the view are not stored */
	char	   *text;			/* for log and statistics: not what is run */
	List	   *streams;
	Query	   *tree;			/* rewritten; NULL: nothing to do before windows close */
	Query	   *whole;			/* of a view that joins streams: merges all rows of all streams; NULL: tree does */
	Query	   *all;			/* of a view over views that change, or NULL */
	Query	   *late;			/* finds late rows; NULL: none can be late */
	Query	   *close;			/* of a final view: closes windows */
	Query	   *next;			/* of one that is run at close, or NULL */
	Interval	span;
	PlannedStmt *next_plans[SIZE_CLASSES];
	PlannedStmt *plans[SIZE_CLASSES];
	PlannedStmt *whole_plans[SIZE_CLASSES];
	PlannedStmt *all_plans[SIZE_CLASSES];
	PlannedStmt *close_plans[SIZE_CLASSES];
	PlannedStmt *late_plans[SIZE_CLASSES];
	SessionStatements *sessions;	/* of a view over sessions, or NULL */
	PlannedStmt *source_plans[SIZE_CLASSES];
	PlannedStmt *absorb_plans[SIZE_CLASSES];
	PlannedStmt *gone_plans[SIZE_CLASSES];
	PlannedStmt *shadow_plans[SIZE_CLASSES];
	PlannedStmt *purge_plans[SIZE_CLASSES];
	TimestampTz purged;			/* closed sessions were forgotten up to there */
	List	   *locks;			/* of RelationLock */
	List	   *relids;			/* of Oid: relations whose change makes it invalid */
	List	   *items;			/* of PlanInvalItem: functions and types */
} ViewPlan;

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
	if (statements.next)
		statements.next = single_statement(view, statements.next);
	statements.late = single_statement(view, statements.late);
	statements.close = single_statement(view, statements.close);
	if (statements.sessions)
		rewrite_sessions(view, statements.sessions);

	old = MemoryContextSwitchTo(cxt);
	plan->text = psprintf("maintain continuous view %s", view->name);
	plan->exclusive = statements.exclusive;
	plan->streams = list_copy(statements.streams);
	plan->tree = copyObject(statements.merge);
	plan->whole = copyObject(statements.whole);
	plan->all = copyObject(statements.all);
	plan->late = copyObject(statements.late);
	plan->close = copyObject(statements.close);
	plan->next = copyObject(statements.next);
	if (statements.span)
		plan->span = *statements.span;
	(void) lock_walker((Node *) plan->tree, plan);
	(void) lock_walker((Node *) plan->whole, plan);
	(void) lock_walker((Node *) plan->all, plan);
	(void) lock_walker((Node *) plan->close, plan);
	if (statements.sessions)
	{
		plan->sessions = copy_sessions(statements.sessions);
		(void) lock_walker((Node *) plan->sessions->source, plan);
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

/* current_plan finds or builds the statement, with all locks held and valid under them. */
static ViewPlan *
current_plan(View *view)
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

/*
 * plan_for_size returns the plan of a tree (merge or late) for a delta of this
 * size; made under the view's settings, with its user functions' search_path.
 */
static PlannedStmt *
plan_for_size(ViewPlan *plan, Query *tree, PlannedStmt **plans, int64 nrows)
{
	int			class = size_class(tree, nrows);
	MemoryContext old;
	PlannedStmt *planned;
	ListCell   *lc;
	int			guc_level;

	if (plans[class])
		return plans[class];
	tree = copyObject(tree);
	weir_rewrite_estimate(tree, planned_rows[class]);
	guc_level = NewGUCNestLevel();
	if (random_page_cost > CACHED_PAGE_COST)
		(void) set_config_option("random_page_cost", CppAsString2(CACHED_PAGE_COST), PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
	PushActiveSnapshot(GetTransactionSnapshot());
	planned = pg_plan_query(tree, plan->text, 0, NULL);
	PopActiveSnapshot();
	AtEOXact_GUC(false, guc_level);
	weir_group_replace(planned);
	planned->jitFlags = 0;		/* compiling costs more than a batch */
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

/* The same, by indexes only: whatever the planner thinks of a table that was small once. */
static PlannedStmt *
plan_by_index(ViewPlan *plan, Query *tree, PlannedStmt **plans, int64 nrows)
{
	static const char *const others[] = {"enable_seqscan", "enable_hashjoin", "enable_mergejoin"};
	int			guc_level = NewGUCNestLevel();
	PlannedStmt *planned;

	for (int i = 0; i < lengthof(others); i++)
		(void) set_config_option(others[i], "off", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	planned = plan_for_size(plan, tree, plans, nrows);
	AtEOXact_GUC(false, guc_level);
	return planned;
}

/* --- running --------------------------------------------------------------------- */

static void
view_error_context(void *arg)
{
	errcontext("maintaining continuous view %s", ((View *) arg)->name);
}

static pg_noinline void
release_plan(ViewPlan *plan)
{
	plan->in_use--;
	if (plan->orphaned && plan->in_use == 0)
		free_plan(plan);
}

/* What one call is to do, and has done. */
typedef struct ApplyResult
{
	bool		all;			/* make the view equal its query instead of merging rows */
	bool		close;			/* close windows instead */
	bool		ask;			/* only ask for next_end */
	List	   *whole;			/* of Delta: merge all rows of all streams, into an empty view */
	TimestampTz next_end;
	Interval	span;
	WindowTimes times;			/* of a final view */
	uint64		changed;
	int64		late;
} ApplyResult;

/*
 * Rows of the view expire in steps of a twentieth of weir.keep, at least a second: the
 * expirer is told now and then, not with every batch.
 */
static bool
time_to_expire(View *view, ViewPlan *plan, TimestampTz stream_time)
{
	int64		keep;
	TimestampTz last;			/* not what a transaction that was rolled back has come to */

	if (view->keep == NULL || plan->passes || TIMESTAMP_NOT_FINITE(stream_time))
		return false;
	last = weir_stat_view_stream_time(view->relid);
	if (last == DT_NOBEGIN)
		return true;
	keep = view->keep->time + view->keep->day * USECS_PER_DAY +
		view->keep->month * DAYS_PER_MONTH * USECS_PER_DAY;
	return stream_time - last >= Max(keep / 20, USECS_PER_SEC);
}

/*
 * Rows of the delta get their sessions (session_run.c), sessions that have moved are brought to where they are
 * now, and the rows merged.
 */
static void
run_sessions(View *view, ViewPlan *plan, Delta *delta, QueryEnvironment *env, ApplyResult *result)
{
	SessionStatements *sessions = plan->sessions;
	SessionWork work;
	ListCell   *lc;

	weir_measure_part("rows and their sessions", false);
	weir_session_run(&sessions->rule, plan_for_size(plan, sessions->source, plan->source_plans, delta->nrows),
					 plan->text, env, view->state_relid,
					 sessions->rule.finals ? result->times.closed : DT_NOBEGIN, DT_NOBEGIN, &work);
	weir_measure_part("sessions that merge", false);
	foreach(lc, work.moved)
		(void) weir_run_plan_newest(plan_for_size(plan, sessions->absorb, plan->absorb_plans, 0), plan->text,
									weir_session_environment(&work, lfirst(lc)), None_Receiver);
	env = weir_session_environment(&work, NULL);
	if (work.moved && sessions->gone)
		result->changed += weir_run_plan_newest(plan_by_index(plan, sessions->gone, plan->gone_plans, 0),
												plan->text, env, None_Receiver);
	weir_measure_part("statement", true);
	if (work.nrows > 0)
		result->changed += weir_run_plan_newest(plan_for_size(plan, plan->tree, plan->plans, work.nrows),
												plan->text, env, None_Receiver);
	weir_measure_part("late rows", false);
	if (work.nlate > 0 && plan->late)
		result->late = weir_late_collect(view, delta->stream,
										 plan_for_size(plan, plan->late, plan->late_plans, work.nlate), env);
	weir_session_free(&work);
}

/* Closed sessions that no row can touch any more are forgotten, in steps of a gap. */
static void
purge_sessions(ViewPlan *plan, TimestampTz until)
{
	if (TIMESTAMP_NOT_FINITE(until) ||
		(plan->purged != DT_NOBEGIN && until - plan->purged < plan->sessions->rule.gap))
		return;
	weir_window_times.closing = until;
	(void) weir_run_plan_newest(plan_by_index(plan, plan->sessions->purge, plan->purge_plans, 0), plan->text,
								create_queryEnv(), None_Receiver);
	plan->purged = until;
}

/* Closes windows, or finds out when the next one ends. */
static void
run_close(View *view, ViewPlan *plan, QueryEnvironment *env, ApplyResult *result)
{
	List	   *deltas = NIL;
	int64		nrows = 0;
	PlannedStmt *planned;
	ListCell   *lc;

	if (plan->next)
	{
		weir_measure_part("next window to close", false);
		result->span = plan->span;
		result->next_end = weir_atclose_end(plan_for_size(plan, plan->next, plan->next_plans, 0), env);
		if (result->ask || result->next_end > result->times.closing)
			return;
		deltas = weir_atclose_deltas(view, &plan->span);
		foreach(lc, deltas)
			nrows += ((Delta *) lfirst(lc))->nrows;
		env = weir_run_environment(plan->streams, deltas);
	}
	if (plan->sessions)
	{
		weir_measure_part("sessions closed", true);
		planned = plan_by_index(plan, plan->close, plan->close_plans, 0);
		result->changed = plan->passes ? weir_pass_run(view, planned, plan->text, env, true) :
			weir_run_plan_newest(planned, plan->text, env, None_Receiver);
		(void) weir_run_plan_newest(plan_by_index(plan, plan->sessions->shadow, plan->shadow_plans, 0), plan->text,
									env, None_Receiver);
		purge_sessions(plan, result->times.closing);
		return;
	}
	planned = plan_for_size(plan, plan->close, plan->close_plans, nrows);
	weir_measure_part("windows closed", true);
	result->changed = plan->passes ? weir_pass_run(view, planned, plan->text, env, plan->exclusive) :
		plan->exclusive ? weir_run_plan_newest(planned, plan->text, env, None_Receiver) :
		weir_run_plan(planned, plan->text, env, None_Receiver);
	foreach(lc, deltas)
		weir_delta_free(lfirst(lc));
}

static void
run_whole(View *view, ViewPlan *plan, ApplyResult *result)
{
	int64		nrows = 0;
	QueryEnvironment *env = weir_run_environment(plan->streams, result->whole);
	PlannedStmt *planned;
	ListCell   *lc;

	if (plan->whole == NULL)
		return;					/* run at close: nothing to do before */
	foreach(lc, result->whole)
		nrows += ((Delta *) lfirst(lc))->nrows;
	planned = plan_for_size(plan, plan->whole, plan->whole_plans, nrows);
	if (plan->passes && !plan->close)
		result->changed = weir_pass_run(view, planned, plan->text, env, true);
	else
		result->changed = weir_run_plan_newest(planned, plan->text, env, None_Receiver);
}

static pg_noinline void
run_planned(View *view, ViewPlan *plan, List *deltas, ApplyResult *result)
{
	Delta	   *delta = deltas ? linitial(deltas) : NULL;
	int64		nrows = delta ? delta->nrows : 0;
	QueryEnvironment *env = weir_run_environment(plan->streams, deltas);
	PlannedStmt *planned;

	if (result->close)
	{
		run_close(view, plan, env, result);
		return;
	}
	if (result->whole)
	{
		run_whole(view, plan, result);
		return;
	}
	if (result->all)
	{
		planned = plan_for_size(plan, plan->all, plan->all_plans, PG_INT64_MAX);
		weir_measure_part("statement", true);
		result->changed = weir_run_plan_newest(planned, plan->text, env, None_Receiver);
		return;
	}
	if (plan->sessions)
	{
		if (delta)
			run_sessions(view, plan, delta, env, result);
	}
	else if (plan->tree)
	{
		planned = plan_for_size(plan, plan->tree, plan->plans, nrows);
		weir_measure_part("statement", true);
		if (plan->passes && !plan->close)
			result->changed = weir_pass_run(view, planned, plan->text, env, plan->exclusive);
		else
			result->changed = plan->exclusive ?
				weir_run_plan_newest(planned, plan->text, env, None_Receiver) :
				weir_run_plan(planned, plan->text, env, None_Receiver);
	}
	if (plan->late && delta && !plan->sessions)
	{
		weir_measure_part("late rows", false);
		result->late = weir_late_collect(view, delta->stream,
										 plan_for_size(plan, plan->late, plan->late_plans, nrows), env);
	}
	if (delta && time_to_expire(view, plan, delta->stream_time))
	{
		if (weir_view_expires_by_batches(view, plan->sessions != NULL))
			result->changed += weir_view_expire(view, delta->stream_time);
		weir_stat_view_time(view->relid, delta->stream_time);
		if (plan->sessions && !plan->sessions->rule.finals)
			purge_sessions(plan, weir_view_keep_limit(view, delta->stream_time));
	}
}

/* Runs the plan with the table open for changes; the counters are right again after an error. */
static pg_noinline void
run_guarded(View *view, ViewPlan *plan, List *deltas, ApplyResult *result)
{
	WindowTimes save = weir_window_times;
	Delta	   *delta = deltas ? linitial(deltas) : NULL;
	Delta	   *save_delta = weir_kept_enter(delta);
	Measure    *save_measure = weir_measure_enter(view, delta ? delta->nrows : 0);
	JoinApplied *save_applied = weir_applied_enter(weir_applied_begin(view->relid, delta));
	const int	outer_depth = weir_applying_begin();

	plan->in_use++;
	weir_window_times = result->times;
	PG_TRY();
	{
		run_planned(view, plan, deltas, result);
	}
	PG_CATCH();
	{
		weir_applying_end(outer_depth);
		weir_window_times = save;
		(void) weir_kept_enter(save_delta);
		weir_measure_leave(save_measure, false);
		(void) weir_applied_enter(save_applied);
		release_plan(plan);
		PG_RE_THROW();
	}
	PG_END_TRY();
	weir_applying_end(outer_depth);
	weir_window_times = save;
	(void) weir_kept_enter(save_delta);
	weir_measure_leave(save_measure, true);
	(void) weir_applied_enter(save_applied);
	release_plan(plan);
}

static void
apply_deltas(View *view, List *deltas, ApplyResult *result)
{
	ErrorContextCallback callback = {error_context_stack, view_error_context, view};
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "weir view apply",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(scratch);
	ViewScope	scope;
	ViewPlan   *plan;

	error_context_stack = &callback;
	weir_view_scope_open(view, &scope);
	plan = current_plan(view);
	if (plan->exclusive)
		weir_run_take_turn(view->relid);
	weir_view_scope_settings(view);
	run_guarded(view, plan, deltas, result);
	weir_view_scope_close(&scope);
	error_context_stack = callback.previous;
	MemoryContextSwitchTo(old);
	MemoryContextDelete(scratch);
}

uint64
weir_view_apply(View *view, Delta *delta)
{
	TimestampTz started = GetCurrentTimestamp();
	ApplyResult result = {0};

	if (delta->nrows == 0)
		return 0;
	if (view->joins)
		weir_join_check_kept(view);
	if (weir_view_closes(view))
		result.times.closed = weir_close_lock(view);
	apply_deltas(view, list_make1(delta), &result);
	if (weir_view_is_final(view))
	{
		result.changed = 0;		/* states, not rows */
		if (view->upstreams == NIL)
			weir_behind_note(view, delta, result.times.closed);
	}
	weir_stat_view(view->relid, delta->nrows, (int64) result.changed, result.late, 0,
				   GetCurrentTimestamp() - started);
	return result.changed;
}

uint64
weir_view_apply_changes(View *view, List *deltas)
{
	TimestampTz started = GetCurrentTimestamp();
	ApplyResult result = {0};
	int64		nrows = 0;
	ListCell   *lc;

	foreach(lc, deltas)
		nrows += ((Delta *) lfirst(lc))->nrows;
	if (nrows == 0)
		return 0;
	apply_deltas(view, deltas, &result);
	weir_stat_view(view->relid, nrows, (int64) result.changed, 0, 0, GetCurrentTimestamp() - started);
	return result.changed;
}

/* weir_view_apply_empty merges no rows: gives a global aggregate its one row. */
uint64
weir_view_apply_empty(View *view)
{
	ApplyResult result = {0};

	apply_deltas(view, NIL, &result);
	return result.changed;
}

uint64
weir_view_apply_all(View *view)
{
	ApplyResult result = {.all = true};

	apply_deltas(view, NIL, &result);
	return result.changed;
}

/*
 * weir_view_apply_whole merges all rows of a view that joins streams, one delta per
 * stream, into the view, which is empty; returns the number of result rows.
 */
uint64
weir_view_apply_whole(View *view, List *deltas)
{
	ApplyResult result = {.whole = deltas};

	apply_deltas(view, NIL, &result);
	return result.changed;
}

/*
 * weir_view_next_end returns when the first window ends that a view run at close has not
 * closed yet (DT_NOBEGIN: not known), and how long windows last.
 */
TimestampTz
weir_view_next_end(View *view, TimestampTz closed, Interval **span)
{
	ApplyResult result = {.close = true,.ask = true,.times = {closed, closed}};

	apply_deltas(view, NIL, &result);
	*span = palloc(sizeof(Interval));
	**span = result.span;
	return result.next_end;
}

/*
 * weir_view_apply_close inserts the rows of windows that ended after closed
 * and by closing, and returns their number. The view is locked (close.c). *span: how long
 * windows last, of a view that is run at close.
 */
uint64
weir_view_apply_close(View *view, TimestampTz closed, TimestampTz closing, Interval *span)
{
	TimestampTz started = GetCurrentTimestamp();
	ApplyResult result = {.close = true,.times = {closed, closing}};

	apply_deltas(view, NIL, &result);
	*span = result.span;
	if (result.changed > 0)
		weir_stat_view(view->relid, 0, (int64) result.changed, 0, 0, GetCurrentTimestamp() - started);
	return result.changed;
}
