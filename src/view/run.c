/*
 * run.c
 *	  Planning and running weir's statements over deltas.
 *
 * apply ⇒ run ⇒ PostgreSQL's planner and executor. The statement is a query
 * tree, so SPI and its plan cache (which start from text) are not used; a plan's
 * validity is the caller's concern (apply.c).
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/table.h"
#include "catalog/pg_class.h"
#include "catalog/stream.h"
#include "compat.h"
#include "delta/delta.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "rewrite/rewriteHandler.h"
#include "storage/lmgr.h"
#include "tcop/tcopprot.h"
#include "utils/snapmgr.h"
#include "view/measure.h"
#include "view/recompute.h"
#include "view/shape.h"

/* weir_run_rewrite locks what an analysed query names and applies views, rules and row security; query is scribbled on. */
List *
weir_run_rewrite(Query *query)
{
	AcquireRewriteLocks(query, true, false);
	return pg_rewrite_query(query);
}

static void
register_delta(QueryEnvironment *env, char *name, Oid stream, Delta *delta)
{
	if (delta == NULL)
	{
		Relation	rel = table_open(stream, AccessShareLock);

		delta = weir_delta_create(rel, work_mem);
		table_close(rel, NoLock);
	}
	register_ENR(env, weir_delta_relation(name, delta));
}

/*
 * weir_run_environment registers a delta per stream, and the batch that it is part of; streams without
 * one have no new rows.
 */
QueryEnvironment *
weir_run_environment(List *streams, List *deltas)
{
	QueryEnvironment *env = create_queryEnv();
	ListCell   *ls,
			   *ld;

	foreach(ls, streams)
	{
		Delta	   *mine = NULL;

		foreach(ld, deltas)
		{
			if (((Delta *) lfirst(ld))->stream == lfirst_oid(ls))
				mine = lfirst(ld);
		}
		register_delta(env, weir_delta_name(lfirst_oid(ls)), lfirst_oid(ls), mine);
		register_delta(env, psprintf(WEIR_BATCH_PREFIX "%u", lfirst_oid(ls)), lfirst_oid(ls),
					   mine && mine->batch ? mine->batch : mine);
	}
	return env;
}

/*
 * weir_run_take_turn makes this transaction the only one that changes a view,
 * until it ends. The lock is one that nothing else takes, so vacuum and readers are not in the way.
 */
void
weir_run_take_turn(Oid view)
{
	LockDatabaseObject(RelationRelationId, view, 1, ExclusiveLock);
}

/* weir_run_try_turn does so unless another transaction has the turn; returns whether it is ours. */
bool
weir_run_try_turn(Oid view)
{
	LOCKTAG		tag;

	SET_LOCKTAG_OBJECT(tag, MyDatabaseId, RelationRelationId, view, 1);
	return LockAcquire(&tag, ExclusiveLock, false, true) != LOCKACQUIRE_NOT_AVAIL;
}

/* Runs a plan under the active snapshot and pops that. */
static uint64
run_plan(PlannedStmt *plan, const char *text, QueryEnvironment *env, DestReceiver *dest)
{
	QueryDesc  *desc;
	uint64		processed;

	desc = CreateQueryDesc(plan, text, GetActiveSnapshot(), InvalidSnapshot,
						   dest, NULL, env, weir_measure_options());
	ExecutorStart(desc, 0);
	weir_compat_executor_run(desc);
	processed = desc->estate->es_processed;
	ExecutorFinish(desc);
	weir_measure_plan(desc);
	ExecutorEnd(desc);
	FreeQueryDesc(desc);
	PopActiveSnapshot();
	CommandCounterIncrement();
	return processed;
}

/* weir_run_plan runs a plan to its end under a new snapshot; returns the rows it processed. */
uint64
weir_run_plan(PlannedStmt *plan, const char *text, QueryEnvironment *env, DestReceiver *dest)
{
	PushActiveSnapshot(GetTransactionSnapshot());
	return run_plan(plan, text, env, dest);
}

/*
 * weir_run_plan_newest does so under a snapshot that sees all that is
 * committed, in REPEATABLE READ too: for statements that go on from what the
 * view holds, under the lock of weir_run_take_turn. Foreign keys are checked the same way.
 */
uint64
weir_run_plan_newest(PlannedStmt *plan, const char *text, QueryEnvironment *env, DestReceiver *dest)
{
	(void) GetTransactionSnapshot();
	PushActiveSnapshot(GetLatestSnapshot());
	return run_plan(plan, text, env, dest);
}
