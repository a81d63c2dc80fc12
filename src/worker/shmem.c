/*
 * shmem.c
 *	  weir's shared memory: wake-ups, workers, databases that are being left.
 *
 * Every session runs this. Shared memory exists only if the library was
 * preloaded; without it all functions here do nothing and the generation is 0.
 *
 * Locks: WeirShared.lock guards worker slots, holds and the launcher's latch.
 * It is held for a few instructions, never across anything that can wait or raise.
 * Hubs are atomics and condition variables and need no lock.
 *
 * The order that makes a catalog change seen: the changing transaction raises
 * the generation after it has become visible (ProcArrayEndTransaction) and
 * before its locks go (CallXactCallbacks(XACT_EVENT_COMMIT) stands between
 * the two in CommitTransaction). A worker that has got its lock on a stream
 * and then finds the generation it knows can rely on what it has read.
 */
#include "worker/shmem.h"

#include <signal.h>

#include "access/xact.h"
#include "catalog/catalog.h"
#include "commands/trigger.h"
#include "compat.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/shmem.h"
#include "utils/memutils.h"
#include "utils/wait_event.h"
#include "worker/shared.h"

WeirShared *weir_shared = NULL;

static shmem_request_hook_type prev_shmem_request_hook = NULL;
static shmem_startup_hook_type prev_shmem_startup_hook = NULL;

static bool catalog_change_pending = false; /* this transaction changed weir's catalog */
static bool maintenance_pending = false;	/* this transaction leaves expiry to a worker */
static List *held_databases = NIL;	/* OIDs that this backend holds; TopMemoryContext */

PG_FUNCTION_INFO_V1(weir_catalog_changed_trigger);
PG_FUNCTION_INFO_V1(weir_announce);

static int
num_slots(void)
{
	return weir_max_databases * WEIR_MAX_PROCESSES;
}

static Size
shared_size(void)
{
	return add_size(offsetof(WeirShared, slots),
					mul_size(num_slots(), sizeof(WorkerSlot)));
}

static void
shmem_request(void)
{
	if (prev_shmem_request_hook)
		prev_shmem_request_hook();
	RequestAddinShmemSpace(add_size(shared_size(), weir_stats_size()));
	RequestNamedLWLockTranche("weir", 2);
}

static void
shmem_startup(void)
{
	bool		found;

	if (prev_shmem_startup_hook)
		prev_shmem_startup_hook();

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	weir_shared = ShmemInitStruct("weir", shared_size(), &found);
	if (!found)
	{
		LWLockPadded *locks = GetNamedLWLockTranche("weir");

		memset(weir_shared, 0, shared_size());
		weir_shared->lock = &locks[0].lock;
		weir_shared->stats_lock = &locks[1].lock;
		pg_atomic_init_u32(&weir_shared->nworkers, weir_workers);
		pg_atomic_init_u64(&weir_shared->untracked, 0);
		ConditionVariableInit(&weir_shared->gone);
		for (int i = 0; i < WEIR_NUM_HUBS; i++)
		{
			pg_atomic_init_u64(&weir_shared->hubs[i].generation, 1);
			pg_atomic_init_u64(&weir_shared->hubs[i].request, 0);
			pg_atomic_init_u64(&weir_shared->hubs[i].maintenance, 0);
			pg_atomic_init_u64(&weir_shared->hubs[i].outbox, 0);
			pg_atomic_init_u32(&weir_shared->hubs[i].publisher_waits, 0);
			pg_atomic_init_u64(&weir_shared->hubs[i].expire_next, (uint64) DT_NOBEGIN);
			pg_atomic_init_u64(&weir_shared->hubs[i].expire_told, PG_INT64_MAX);
			ConditionVariableInit(&weir_shared->hubs[i].progress);
		}
		weir_shared->nslots = num_slots();
	}
	weir_stats_startup();
	LWLockRelease(AddinShmemInitLock);
}

/* The hub of a database. Only where weir_shared is there. */
Hub *
weir_hub(Oid dboid)
{
	return &weir_shared->hubs[dboid % WEIR_NUM_HUBS];
}

uint64
weir_generation(void)
{
	if (weir_shared == NULL)
		return 0;
	return pg_atomic_read_u64(&weir_hub(MyDatabaseId)->generation);
}

void
weir_progress_broadcast(void)
{
	if (weir_shared != NULL)
		ConditionVariableBroadcast(&weir_hub(MyDatabaseId)->progress);
}

void
weir_launcher_wake(void)
{
	if (weir_shared == NULL)
		return;
	LWLockAcquire(weir_shared->lock, LW_SHARED);
	if (weir_shared->launcher_latch != NULL)
		SetLatch(weir_shared->launcher_latch);
	LWLockRelease(weir_shared->lock);
}

/* weir_wake_workers sets the latch of every worker of a database. */
void
weir_wake_workers(Oid dboid)
{
	LWLockAcquire(weir_shared->lock, LW_SHARED);
	for (int i = 0; i < weir_shared->nslots; i++)
	{
		WorkerSlot *slot = &weir_shared->slots[i];

		if (slot->dboid == dboid && slot->latch != NULL)
			SetLatch(slot->latch);
	}
	LWLockRelease(weir_shared->lock);
}

/*
 * weir_publisher_wake tells the publisher that something was committed to the
 * outbox. Only a publisher that waits costs more than two atomic operations.
 */
void
weir_publisher_wake(void)
{
	Hub		   *hub;

	if (weir_shared == NULL)
		return;
	hub = weir_hub(MyDatabaseId);
	pg_atomic_fetch_add_u64(&hub->outbox, 1);
	if (pg_atomic_exchange_u32(&hub->publisher_waits, 0) == 0)
		return;
	LWLockAcquire(weir_shared->lock, LW_SHARED);
	for (int i = 0; i < weir_shared->nslots; i++)
	{
		WorkerSlot *slot = &weir_shared->slots[i];

		/* whoever shares the hub: one of them has set the flag */
		if (slot->index == WEIR_PUBLISHER && slot->latch != NULL && weir_hub(slot->dboid) == hub)
			SetLatch(slot->latch);
	}
	LWLockRelease(weir_shared->lock);
}

/* Tells workers and launcher that the catalog of this database is another now. */
static void
publish_catalog_change(void)
{
	pg_atomic_fetch_add_u64(&weir_hub(MyDatabaseId)->generation, 1);
	weir_wake_workers(MyDatabaseId);
	weir_launcher_wake();
	weir_progress_broadcast();
}

/* Ends one hold of this backend on a database; the caller mends the list. */
static void
drop_hold(Oid dboid)
{
	LWLockAcquire(weir_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < WEIR_MAX_HOLDS; i++)
	{
		Hold	   *hold = &weir_shared->holds[i];

		if (hold->dboid == dboid && --hold->holders == 0)
			hold->dboid = InvalidOid;
	}
	LWLockRelease(weir_shared->lock);
}

static void
release_holds(void)
{
	ListCell   *lc;

	foreach(lc, held_databases)
		drop_hold(lfirst_oid(lc));
	list_free(held_databases);
	held_databases = NIL;
	weir_launcher_wake();
}

/* Wakes the first worker of this database, which expires kept rows. */
static void
publish_maintenance(void)
{
	pg_atomic_fetch_add_u64(&weir_hub(MyDatabaseId)->maintenance, 1);
	LWLockAcquire(weir_shared->lock, LW_SHARED);
	for (int i = 0; i < weir_shared->nslots; i++)
	{
		WorkerSlot *slot = &weir_shared->slots[i];

		if (slot->dboid == MyDatabaseId && slot->index == 0 && slot->latch != NULL)
			SetLatch(slot->latch);
	}
	LWLockRelease(weir_shared->lock);
}

static void
on_transaction(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_COMMIT:
			if (maintenance_pending && weir_shared != NULL)
				publish_maintenance();
			if (catalog_change_pending && weir_shared != NULL)
				publish_catalog_change();
			catalog_change_pending = maintenance_pending = false;
			break;
		case XACT_EVENT_ABORT:
			catalog_change_pending = maintenance_pending = false;
			break;
		case XACT_EVENT_PRE_PREPARE:
			if (catalog_change_pending)
				ereport(ERROR,
						(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						 errmsg("cannot prepare a transaction that created, changed or dropped streams or continuous views")));
			break;
		default:
			break;
	}
	if ((event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT) &&
		held_databases != NIL)
		release_holds();
}

void
weir_catalog_changed(void)
{
	weir_cache_forget();
	catalog_change_pending = true;
}

void
weir_request_maintenance(void)
{
	maintenance_pending = true;
}

/* Trigger of weir's catalog tables. */
Datum
weir_catalog_changed_trigger(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		elog(ERROR, "weir.catalog_changed() must be called as a trigger");
	weir_catalog_changed();
	return PointerGetDatum(NULL);
}

/*
 * weir_announce runs at the end of CREATE EXTENSION: the launcher looks for
 * the extension at commit, or the user hears what is missing.
 */
Datum
weir_announce(PG_FUNCTION_ARGS)
{
	if (!weir_preloaded)
		ereport(WARNING,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("weir is not loaded by the server, so nothing reads from Kafka"),
				 errhint("Add this line to postgresql.conf and restart the server: shared_preload_libraries = 'weir'")));
	weir_catalog_changed();
	PG_RETURN_VOID();
}

/*----------------------------------------------------------------------
 * Leaving databases
 *----------------------------------------------------------------------*/

/* Does somebody want this database without workers? Needs the lock. */
bool
weir_database_held(Oid dboid)
{
	for (int i = 0; i < WEIR_MAX_HOLDS; i++)
		if (weir_shared->holds[i].dboid == dboid)
			return true;
	return false;
}

/* Enters a hold of this backend. False: no room. */
static bool
add_hold(Oid dboid)
{
	Hold	   *found = NULL;

	LWLockAcquire(weir_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < WEIR_MAX_HOLDS; i++)
	{
		Hold	   *hold = &weir_shared->holds[i];

		if (hold->dboid == dboid)
		{
			found = hold;
			break;
		}
		if (found == NULL && !OidIsValid(hold->dboid))
			found = hold;
	}
	if (found != NULL)
	{
		found->dboid = dboid;
		found->holders++;
	}
	LWLockRelease(weir_shared->lock);
	return found != NULL;
}

/* Asks the workers of a database to leave; returns how many are still there. */
static int
signal_workers(Oid dboid)
{
	int			n = 0;

	LWLockAcquire(weir_shared->lock, LW_SHARED);
	for (int i = 0; i < weir_shared->nslots; i++)
	{
		WorkerSlot *slot = &weir_shared->slots[i];

		if (slot->dboid == dboid &&
			(slot->state == WORKER_CONNECTING || slot->state == WORKER_RUNNING))
		{
			kill(slot->pid, SIGTERM);
			n++;
		}
	}
	LWLockRelease(weir_shared->lock);
	return n;
}

void
weir_database_leave(Oid dboid)
{
	MemoryContext oldcxt;

	if (weir_shared == NULL)
		return;

	/* First the list, so that an error in between cannot leave a hold behind. */
	oldcxt = MemoryContextSwitchTo(TopMemoryContext);
	held_databases = lappend_oid(held_databases, dboid);
	MemoryContextSwitchTo(oldcxt);
	if (!add_hold(dboid))
	{
		held_databases = list_delete_last(held_databases);
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("too many databases are being changed at the same time")));
	}

	ConditionVariablePrepareToSleep(&weir_shared->gone);
	while (signal_workers(dboid) > 0)
		ConditionVariableTimedSleep(&weir_shared->gone, 1000L, PG_WAIT_EXTENSION);
	ConditionVariableCancelSleep();
}

void
weir_shmem_init(void)
{
	RegisterXactCallback(on_transaction, NULL);
	weir_unlogged_init();
	if (!weir_preloaded)
		return;
	prev_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = shmem_request;
	prev_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = shmem_startup;
}
