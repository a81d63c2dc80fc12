/*
 * launcher.c
 *	  The process that keeps a pool of workers in every database with weir.
 *
 * Static background worker, connected to no database (it reads pg_database
 * only). It waits on its latch, with a timer only while something has to be
 * tried again; what wakes it: the end of a worker, CREATE EXTENSION and every
 * other catalog change of weir, CREATE DATABASE, a reload of the settings.
 *
 * Whether a database has the extension only a process inside it can see: the
 * first worker of a database is the probe, and exits at once with
 * WORKER_ABSENT if there is nothing for it to do. One probe at a time.
 *
 * Slot life: launcher FREE -> STARTING, worker CONNECTING -> RUNNING ->
 * DONE | LEFT | ABSENT | FULL, launcher -> FREE. When the launcher dies it takes its
 * workers with it; its successor has a new epoch and lets nobody start that the
 * old one registered.
 *
 * Locks: WeirShared.lock for the slots. Memory: life context for the list of
 * databases; a scan's own context is reset each round.
 */
#include "worker/shmem.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "compat.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/procsignal.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"
#include "worker/shared.h"
#include "worker/worker.h"

#define RESTART_TIME		5	/* s, of the launcher itself */
#define BACKOFF_MIN			1000	/* ms before a worker that failed is started again */
#define BACKOFF_MAX			30000
#define BACKOFF_FORGET		30000	/* ms that a worker must have lived to be trusted again */
#define SHORTAGE_RETRY		10000	/* ms between tries while max_worker_processes is used up */

typedef enum Verdict
{
	DATABASE_UNKNOWN,
	DATABASE_PRESENT,			/* has the extension */
	DATABASE_ABSENT,
	DATABASE_FULL				/* has it, but weir.max_databases are there already */
} Verdict;

typedef struct WorkerEntry
{
	int			slot;			/* -1: not running */
	BackgroundWorkerHandle *handle;
	TimestampTz started_at;
	TimestampTz not_before;		/* 0: at once */
	int			backoff;		/* ms */
} WorkerEntry;

typedef struct DatabaseEntry
{
	Oid			dboid;
	NameData	name;
	Verdict		verdict;
	uint64		generation;		/* of the catalog when the verdict was made */
	bool		seen;			/* in this scan of pg_database */
	WorkerEntry workers[WEIR_MAX_PROCESSES];
} DatabaseEntry;

static List *databases = NIL;	/* of DatabaseEntry */
static bool shortage = false;	/* max_worker_processes was used up at the last try */
static MemoryContext life_cxt;

PGDLLEXPORT void weir_launcher_main(Datum arg);

/*----------------------------------------------------------------------
 * pg_database
 *----------------------------------------------------------------------*/

static DatabaseEntry *
find_database(Oid dboid)
{
	ListCell   *lc;

	foreach(lc, databases)
	{
		DatabaseEntry *db = lfirst(lc);

		if (db->dboid == dboid)
			return db;
	}
	return NULL;
}

static void
note_database(Form_pg_database form)
{
	DatabaseEntry *db = find_database(form->oid);

	if (db == NULL)
	{
		MemoryContext oldcxt = MemoryContextSwitchTo(life_cxt);

		db = palloc0(sizeof(DatabaseEntry));
		db->dboid = form->oid;
		for (int i = 0; i < WEIR_MAX_PROCESSES; i++)
			db->workers[i].slot = -1;
		databases = lappend(databases, db);
		MemoryContextSwitchTo(oldcxt);
	}
	db->name = form->datname;
	db->seen = true;
}

/* Brings the list of databases up to date with pg_database. */
static void
scan_databases(void)
{
	Relation	rel;
	TableScanDesc scan;
	HeapTuple	tuple;
	ListCell   *lc;

	foreach(lc, databases)
		((DatabaseEntry *) lfirst(lc))->seen = false;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	rel = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	while (HeapTupleIsValid(tuple = heap_getnext(scan, ForwardScanDirection)))
	{
		Form_pg_database form = (Form_pg_database) GETSTRUCT(tuple);

		if (form->datallowconn && !form->datistemplate &&
			form->datconnlimit != WEIR_DATCONNLIMIT_INVALID)
			note_database(form);
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	PopActiveSnapshot();
	CommitTransactionCommand();

	/* A database that is gone keeps its entry until its workers are. */
	foreach(lc, databases)
	{
		DatabaseEntry *db = lfirst(lc);
		bool		busy = false;

		for (int i = 0; i < WEIR_MAX_PROCESSES; i++)
			busy |= db->workers[i].slot >= 0;
		if (!db->seen && !busy)
		{
			databases = foreach_delete_current(databases, lc);
			pfree(db);
		}
	}
}

/*----------------------------------------------------------------------
 * Workers
 *----------------------------------------------------------------------*/

/* Frees a worker's slot and decides when it may come back. */
static void
collect_worker(DatabaseEntry *db, WorkerEntry *worker, WorkerState state, uint64 generation)
{
	TimestampTz now = GetCurrentTimestamp();

	worker->slot = -1;
	pfree(worker->handle);
	worker->handle = NULL;

	if (state == WORKER_ABSENT || state == WORKER_FULL)
	{
		if (state == WORKER_FULL && db->verdict != DATABASE_FULL)
			ereport(WARNING,
					(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
					 errmsg("no workers for database \"%s\"", NameStr(db->name)),
					 errdetail("weir has workers in %d databases already.", weir_max_databases),
					 errhint("Raise weir.max_databases and restart the server.")));
		db->verdict = state == WORKER_ABSENT ? DATABASE_ABSENT : DATABASE_FULL;
		db->generation = generation;
		return;
	}

	/* After an error it may return at once the first time, then later and later. */
	if (state == WORKER_DONE ||
		TimestampDifferenceExceeds(worker->started_at, now, BACKOFF_FORGET))
		worker->backoff = 0;
	worker->not_before = worker->backoff == 0 ? 0 :
		TimestampTzPlusMilliseconds(now, worker->backoff);
	if (state != WORKER_DONE)
		worker->backoff = Min(Max(worker->backoff * 2, BACKOFF_MIN), BACKOFF_MAX);
}

/* Databases that had no room under weir.max_databases are tried again when a worker is gone from another. */
static void
reconsider_full(void)
{
	ListCell   *lc;

	foreach(lc, databases)
	{
		DatabaseEntry *db = lfirst(lc);

		if (db->verdict == DATABASE_FULL)
			db->verdict = DATABASE_UNKNOWN;
	}
}

/* Looks at every worker that was started: has it settled, is it gone? */
static void
collect_workers(void)
{
	ListCell   *lc;

	foreach(lc, databases)
	{
		DatabaseEntry *db = lfirst(lc);

		for (int i = 0; i < WEIR_MAX_PROCESSES; i++)
		{
			WorkerEntry *worker = &db->workers[i];
			WorkerSlot *slot;
			WorkerState state;
			uint64		generation;
			pid_t		pid;

			if (worker->slot < 0)
				continue;
			slot = &weir_shared->slots[worker->slot];
			if (GetBackgroundWorkerPid(worker->handle, &pid) != BGWH_STOPPED)
			{
				if (slot->state == WORKER_RUNNING)
					db->verdict = DATABASE_PRESENT;
				continue;
			}
			LWLockAcquire(weir_shared->lock, LW_EXCLUSIVE);
			state = slot->state;
			generation = slot->generation;
			memset(slot, 0, sizeof(WorkerSlot));
			LWLockRelease(weir_shared->lock);
			if (db->verdict == DATABASE_PRESENT && state != WORKER_FULL)
				reconsider_full();
			collect_worker(db, worker, state, generation);
			shortage = false;
		}
	}
}

/* Takes a free slot for a worker; -1 if its database is to be left alone or all are taken. */
static int
take_slot(Oid dboid, int index)
{
	uint32		nworkers = pg_atomic_read_u32(&weir_shared->nworkers);
	int			found = -1;

	LWLockAcquire(weir_shared->lock, LW_EXCLUSIVE);
	if (!weir_database_held(dboid))
	{
		for (int i = 0; i < weir_shared->nslots; i++)
		{
			WorkerSlot *slot = &weir_shared->slots[i];

			if (slot->state == WORKER_FREE && found < 0)
				found = i;
			/*
			 * Left behind by a launcher that died, or of a pool of another
			 * size: wait until it is gone, so that no partition ever has two readers.
			 * Publisher and expirer read none and stay.
			 */
			if (slot->state != WORKER_FREE && slot->dboid == dboid &&
				(slot->index == index ||
				 (slot->nworkers != nworkers && slot->index < WEIR_MAX_WORKERS &&
				  index < WEIR_MAX_WORKERS)))
			{
				found = -1;
				break;
			}
		}
		if (found >= 0)
		{
			WorkerSlot *slot = &weir_shared->slots[found];

			slot->state = WORKER_STARTING;
			slot->dboid = dboid;
			slot->index = index;
			slot->nworkers = nworkers;
			slot->epoch = weir_shared->epoch;
		}
	}
	LWLockRelease(weir_shared->lock);
	return found;
}

static void
free_slot(int slot)
{
	LWLockAcquire(weir_shared->lock, LW_EXCLUSIVE);
	memset(&weir_shared->slots[slot], 0, sizeof(WorkerSlot));
	LWLockRelease(weir_shared->lock);
}

/* Starts one worker. False: the server has no process left for it. */
static bool
start_worker(DatabaseEntry *db, int index)
{
	WorkerEntry *entry = &db->workers[index];
	BackgroundWorker worker = {0};
	WorkerStart start = {0};
	int			slot = take_slot(db->dboid, index);
	MemoryContext oldcxt;
	bool		ok;

	if (slot < 0)
		return true;
	start.slot = slot;
	start.dboid = db->dboid;
	start.index = index;
	start.nworkers = pg_atomic_read_u32(&weir_shared->nworkers);
	start.epoch = weir_shared->epoch;

	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	strlcpy(worker.bgw_library_name, "weir", sizeof(worker.bgw_library_name));
	strlcpy(worker.bgw_function_name, "weir_worker_main", sizeof(worker.bgw_function_name));
	strlcpy(worker.bgw_type, index == WEIR_PUBLISHER ? "weir publisher" :
			index == WEIR_EXPIRER ? "weir expirer" : "weir worker", BGW_MAXLEN);
	if (index < WEIR_MAX_WORKERS)
		snprintf(worker.bgw_name, BGW_MAXLEN, "weir worker %d of %s", index, NameStr(db->name));
	else
		snprintf(worker.bgw_name, BGW_MAXLEN, "%s of %s", worker.bgw_type, NameStr(db->name));
	memcpy(worker.bgw_extra, &start, sizeof(start));
	worker.bgw_notify_pid = MyProcPid;

	oldcxt = MemoryContextSwitchTo(life_cxt);
	ok = RegisterDynamicBackgroundWorker(&worker, &entry->handle);
	MemoryContextSwitchTo(oldcxt);
	if (!ok)
	{
		free_slot(slot);
		return false;
	}
	entry->slot = slot;
	entry->started_at = GetCurrentTimestamp();
	return true;
}

/* Has the first worker found that the database publishes something? */
static bool
wants_publisher(DatabaseEntry *db)
{
	return db->workers[0].slot >= 0 && weir_shared->slots[db->workers[0].slot].publishes;
}

/* Has it found that the database has tables with weir.expires? */
static bool
wants_expirer(DatabaseEntry *db)
{
	return db->workers[0].slot >= 0 && weir_shared->slots[db->workers[0].slot].expires;
}

/* May a worker be started here, as far as is known? */
static bool
wants_worker(DatabaseEntry *db, int index, bool probing)
{
	if (!db->seen || db->workers[index].slot >= 0)
		return false;
	if (index == WEIR_PUBLISHER)
		return db->verdict == DATABASE_PRESENT && wants_publisher(db);
	if (index == WEIR_EXPIRER)
		return db->verdict == DATABASE_PRESENT && wants_expirer(db);
	if (index >= weir_workers)
		return false;
	if (db->verdict == DATABASE_PRESENT)
		return true;
	if (index > 0 || probing)
		return false;
	/* look (again) only where something may have changed */
	return db->verdict == DATABASE_UNKNOWN ||
		db->generation != pg_atomic_read_u64(&weir_hub(db->dboid)->generation);
}

/* Is a first worker on its way in a database that is not known to have weir? */
static bool
is_probing(void)
{
	ListCell   *lc;

	foreach(lc, databases)
	{
		DatabaseEntry *db = lfirst(lc);

		if (db->workers[0].slot >= 0 && db->verdict != DATABASE_PRESENT)
			return true;
	}
	return false;
}

/*
 * start_workers starts what is missing and returns the ms until something
 * has to be tried again; -1: nothing has.
 */
static long
start_workers(void)
{
	TimestampTz now = GetCurrentTimestamp();
	long		timeout = -1;
	bool		probing = is_probing();
	ListCell   *lc;

	foreach(lc, databases)
	{
		DatabaseEntry *db = lfirst(lc);

		for (int i = 0; i < WEIR_MAX_PROCESSES; i++)
		{
			WorkerEntry *worker = &db->workers[i];

			if (!wants_worker(db, i, probing))
				continue;
			if (worker->not_before > now)
			{
				long		ms = TimestampDifferenceMilliseconds(now, worker->not_before) + 1;

				timeout = timeout < 0 ? ms : Min(timeout, ms);
				continue;
			}
			if (!start_worker(db, i))
			{
				if (!shortage)
					ereport(WARNING,
							(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
							 errmsg("out of background worker slots: no worker of weir can start in database \"%s\"",
									NameStr(db->name)),
							 errhint("Raise max_worker_processes and restart the server.")));
				shortage = true;
				return timeout < 0 ? SHORTAGE_RETRY : Min(timeout, SHORTAGE_RETRY);
			}
			probing |= db->verdict != DATABASE_PRESENT && worker->slot >= 0;
		}
	}
	return timeout;
}

/*----------------------------------------------------------------------
 * The process
 *----------------------------------------------------------------------*/

/* The launcher is ending: its workers leave with it. */
static void
leave(int code, Datum arg)
{
	LWLockAcquire(weir_shared->lock, LW_EXCLUSIVE);
	weir_shared->launcher_latch = NULL;
	for (int i = 0; i < weir_shared->nslots; i++)
	{
		WorkerSlot *slot = &weir_shared->slots[i];

		if (slot->state == WORKER_CONNECTING || slot->state == WORKER_RUNNING)
			kill(slot->pid, SIGTERM);
		else
			memset(slot, 0, sizeof(WorkerSlot));
	}
	LWLockRelease(weir_shared->lock);
}

static void
enter(void)
{
	LWLockAcquire(weir_shared->lock, LW_EXCLUSIVE);
	weir_shared->epoch++;
	weir_shared->launcher_latch = MyLatch;
	for (int i = 0; i < weir_shared->nslots; i++)
	{
		WorkerSlot *slot = &weir_shared->slots[i];

		if (slot->state != WORKER_CONNECTING && slot->state != WORKER_RUNNING)
			memset(slot, 0, sizeof(WorkerSlot));
	}
	LWLockRelease(weir_shared->lock);
	before_shmem_exit(leave, (Datum) 0);
	pg_atomic_write_u32(&weir_shared->nworkers, weir_workers);
}

/* Reads the settings; workers hear how many they are now. */
static void
reload(void)
{
	ConfigReloadPending = false;
	ProcessConfigFile(PGC_SIGHUP);
	pg_atomic_write_u32(&weir_shared->nworkers, weir_workers);
	shortage = false;
	LWLockAcquire(weir_shared->lock, LW_SHARED);
	for (int i = 0; i < weir_shared->nslots; i++)
		if (weir_shared->slots[i].latch != NULL)
			SetLatch(weir_shared->slots[i].latch);
	LWLockRelease(weir_shared->lock);
}

void
weir_launcher_main(Datum arg)
{
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	pgstat_report_appname("weir launcher");
	life_cxt = AllocSetContextCreate(TopMemoryContext, "weir launcher", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(life_cxt);
	enter();

	while (!ShutdownRequestPending)
	{
		long		timeout = -1;

		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
			reload();
		collect_workers();
		if (weir_enabled)
		{
			scan_databases();
			timeout = start_workers();
		}
		if (ShutdownRequestPending)
			break;
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_EXIT_ON_PM_DEATH | (timeout >= 0 ? WL_TIMEOUT : 0),
						 timeout, PG_WAIT_EXTENSION);
	}
	/* not 0: the postmaster is to start it again, unless it shuts down */
	proc_exit(1);
}

void
weir_launcher_init(void)
{
	BackgroundWorker worker = {0};

	if (!weir_preloaded || IsBinaryUpgrade)
		return;
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = RESTART_TIME;
	strlcpy(worker.bgw_library_name, "weir", sizeof(worker.bgw_library_name));
	strlcpy(worker.bgw_function_name, "weir_launcher_main", sizeof(worker.bgw_function_name));
	strlcpy(worker.bgw_name, "weir launcher", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "weir launcher", BGW_MAXLEN);
	RegisterBackgroundWorker(&worker);
}
