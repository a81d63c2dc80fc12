/*
 * worker.c
 *	  The process that reads Kafka and applies batches: its life and its loop.
 *
 * Topics ⇒ reader.c (gather a batch) ⇒ batch.c (one transaction) ⇒ views.
 *
 * One worker serves the partitions of all streams of one database that fall
 * to it (weir_worker_of_partition). It waits on its latch and on the file
 * descriptors of its consumers, with a timer only while something is due. What wakes
 * it: messages, catalog changes (generation), weir.wait() (request), settings,
 * the order to leave.
 *
 * SIGTERM ends an idle worker quietly and a busy one like any session
 * (FATAL at the next CHECK_FOR_INTERRUPTS, also while it waits for a lock).
 * Consumers are always closed before exit(): librdkafka's threads must not run
 * into it, since a crash here restarts the whole server.
 *
 * Memory: Worker.cxt (life), turn_cxt (once round the loop), Reader contexts,
 * and the transaction's.
 * Locks: WeirShared.lock for its slot; those of the transactions.
 */
#include "worker/worker.h"

#include "access/xact.h"
#include "catalog/catalog.h"
#include "commands/trigger.h"
#include "common/hashfn.h"
#include "compat.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"
#include "delta/segments.h"
#include "expire/expire.h"
#include "sink/publisher.h"
#include "worker/shared.h"
#include "worker/shmem.h"

#define LONGEST_WAIT	(24L * 60 * 60 * 1000)	/* ms; fits WaitEventSetWait's int */

Worker		worker;

/* May SIGTERM interrupt what is done now? (A transaction: yes; librdkafka: no.) */
static volatile sig_atomic_t interruptible = false;
static WorkerState final_state = WORKER_LEFT;

/*----------------------------------------------------------------------
 * Slot and signals
 *----------------------------------------------------------------------*/

static void
on_sigterm(SIGNAL_ARGS)
{
	int			save_errno = errno;

	ShutdownRequestPending = true;
	if (interruptible)
		die(postgres_signal_arg);
	SetLatch(MyLatch);
	errno = save_errno;
}

/*
 * Gives the slot back. Runs after the process has left its database
 * (RemoveProcFromArray was registered later), so who waits for that can go on.
 */
static void
release_slot(int code, Datum arg)
{
	WorkerSlot *slot = &weir_shared->slots[worker.slot];

	LWLockAcquire(weir_shared->lock, LW_EXCLUSIVE);
	if (weir_shared->launcher_latch == NULL || slot->epoch != weir_shared->epoch)
		memset(slot, 0, sizeof(WorkerSlot));	/* nobody else would */
	else
	{
		slot->state = ShutdownRequestPending ? WORKER_DONE : final_state;
		slot->generation = worker.generation;
		slot->latch = NULL;
		slot->pid = 0;
	}
	if (weir_shared->launcher_latch != NULL)
		SetLatch(weir_shared->launcher_latch);
	LWLockRelease(weir_shared->lock);
	ConditionVariableBroadcast(&weir_shared->gone);
}

/* False: this process was started for a launcher that is gone, or is not wanted any more. */
static bool
claim_slot(const WorkerStart *start)
{
	WorkerSlot *slot = &weir_shared->slots[start->slot];
	bool		ok;

	LWLockAcquire(weir_shared->lock, LW_EXCLUSIVE);
	ok = slot->epoch == start->epoch && slot->epoch == weir_shared->epoch &&
		slot->dboid == start->dboid && slot->state == WORKER_STARTING;
	if (ok && weir_database_held(start->dboid))
	{
		slot->state = WORKER_DONE;
		ok = false;
	}
	if (ok)
	{
		slot->state = WORKER_CONNECTING;
		slot->pid = MyProcPid;
		slot->latch = MyLatch;
	}
	LWLockRelease(weir_shared->lock);
	if (ok)
		on_shmem_exit(release_slot, (Datum) 0);
	return ok;
}

/* The extension is here: from now on this database has workers, unless there are too many. */
static bool
settle(void)
{
	Oid			others[1024];
	int			nothers = 0;
	WorkerSlot *slot = &weir_shared->slots[worker.slot];
	bool		ok;

	LWLockAcquire(weir_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < weir_shared->nslots; i++)
	{
		WorkerSlot *other = &weir_shared->slots[i];
		bool		known = other->dboid == MyDatabaseId || other->state != WORKER_RUNNING;

		for (int j = 0; j < nothers && !known; j++)
			known = others[j] == other->dboid;
		if (!known)
			others[nothers++] = other->dboid;
	}
	ok = nothers < weir_max_databases;
	if (ok)
		slot->state = WORKER_RUNNING;
	LWLockRelease(weir_shared->lock);
	weir_launcher_wake();
	return ok;
}

/* Before the process ends, in whatever way: stop librdkafka's threads. */
static void
close_readers(int code, Datum arg)
{
	ListCell   *lc;

	foreach(lc, worker.readers)
	{
		Reader	   *reader = lfirst(lc);

		weir_reader_close(reader);
		weir_stat_share_forget(reader->stream, worker.index);
	}
	weir_asker_sweep(true);
}

/*----------------------------------------------------------------------
 * Transactions
 *----------------------------------------------------------------------*/

/*
 * Logs an error unless it was the last one, too. A body's error never ends
 * the worker: what it meant to do is tried again.
 */
static void
report_error(char **last_error, MemoryContext cxt)
{
	ErrorData  *edata;

	MemoryContextSwitchTo(cxt);
	edata = CopyErrorData();
	if (*last_error == NULL || strcmp(*last_error, edata->message) != 0)
	{
		EmitErrorReport();
		if (*last_error != NULL)
			pfree(*last_error);
		*last_error = pstrdup(edata->message);
	}
	FreeErrorData(edata);
}

/*
 * Deferred triggers would fire at the commit, as the superuser that the
 * worker is. So there are none: SET CONSTRAINTS ALL IMMEDIATE.
 */
static void
fire_triggers_at_once(void)
{
	ConstraintsSetStmt *stmt = makeNode(ConstraintsSetStmt);

	AfterTriggerSetState(stmt);
}

bool
weir_worker_transaction(TransactionBody body, void *arg,
						char **last_error, MemoryContext cxt)
{
	MemoryContext oldcxt = CurrentMemoryContext;
	volatile bool done = false;

	interruptible = true;
	if (ShutdownRequestPending) /* came before interruptible was set */
		proc_exit(0);
	PG_TRY();
	{
		SetCurrentStatementStartTimestamp();
		StartTransactionCommand();
		PushActiveSnapshot(GetTransactionSnapshot());
		fire_triggers_at_once();
		if (body(arg))
		{
			PopActiveSnapshot();
			CommitTransactionCommand();
			done = true;
			if (*last_error != NULL)
				pfree(*last_error);
			*last_error = NULL;
		}
		else
		{
			PopActiveSnapshot();
			AbortCurrentTransaction();
		}
	}
	PG_CATCH();
	{
		HOLD_INTERRUPTS();
		report_error(last_error, cxt);
		AbortCurrentTransaction();
		FlushErrorState();
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
	interruptible = false;
	MemoryContextSwitchTo(oldcxt);
	pgstat_report_stat(false);
	pgstat_report_activity(STATE_IDLE, NULL);
	return done;
}

/*----------------------------------------------------------------------
 * Small things
 *----------------------------------------------------------------------*/

long
weir_worker_ms_until(TimestampTz t)
{
	TimestampTz now = GetCurrentTimestamp();

	return t <= now ? 0 : Min((t - now + 999) / 1000, LONGEST_WAIT);
}

int
weir_worker_of_partition(Oid stream, const char *topic, int32 partition)
{
	uint32		hash = hash_combine(murmurhash32(stream), string_hash(topic, strlen(topic) + 1));

	/* neighbours go to different workers */
	return (hash + (uint32) partition) % worker.nworkers;
}

/* Settings of the session: an administrator's defaults for users must not stop the worker. */
static void
pin_settings(void)
{
	static const char *const settings[][2] = {
		{"statement_timeout", "0"},
		{"lock_timeout", "0"},
		{"idle_in_transaction_session_timeout", "0"},
		{"idle_session_timeout", "0"},
		{"default_transaction_isolation", "read committed"},
		{"default_transaction_read_only", "off"},
		{"session_replication_role", "origin"},
		{"jit", "off"},			/* batches are many and short */
	};

	for (int i = 0; i < lengthof(settings); i++)
		SetConfigOption(settings[i][0], settings[i][1], PGC_SUSET, PGC_S_OVERRIDE);

	/* the process that looks first gives way in a deadlock: this one, which tries again, and not the user's DDL */
	SetConfigOption("deadlock_timeout", psprintf("%d", Max(DeadlockTimeout / 2, 1)), PGC_SUSET, PGC_S_OVERRIDE);

	/* a batch of 100 000 rows must not spill when its groups are hashed or its keys sorted */
	SetConfigOption("work_mem", psprintf("%d", Max(work_mem, weir_memory / 8)),
					PGC_USERSET, PGC_S_OVERRIDE);
}

static bool
expire_body(void *arg)
{
	ListCell   *lc;

	foreach(lc, weir_stream_oids())
	{
		Stream	   *stream = weir_stream_get(lfirst_oid(lc));

		if (stream != NULL)
			weir_segments_expire(stream);
	}
	return true;
}

static bool
relink_body(void *arg)
{
	weir_relink_missing();
	return true;
}

/* Sessions that INSERT leave the emptying of old segments to the first worker. */
static void
run_maintenance(void)
{
	static char *last_error = NULL;
	uint64		wanted = pg_atomic_read_u64(&weir_hub(MyDatabaseId)->maintenance);

	if (worker.index != 0 || wanted == worker.maintenance)
		return;
	worker.maintenance = wanted;
	(void) weir_worker_transaction(expire_body, NULL, &last_error, worker.cxt);
}

/*----------------------------------------------------------------------
 * The loop
 *----------------------------------------------------------------------*/

static int
add_fd(WaitEventSet *set, int fd)
{
	if (fd < 0)
		return 0;
	AddWaitEventToSet(set, WL_SOCKET_READABLE, fd, NULL, NULL);
	return 1;
}

/* A wait event set of the latch and of all consumers that are to be read now. */
static WaitEventSet *
make_wait_set(void)
{
	WaitEventSet *set = weir_compat_wait_event_set(worker.cxt,
												   2 + 3 * list_length(worker.readers));
	ListCell   *lc;

	AddWaitEventToSet(set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	foreach(lc, worker.readers)
	{
		Reader	   *reader = lfirst(lc);

		if (weir_reader_reads(reader))
			add_fd(set, weir_kafka_fd(reader->consumer));
		add_fd(set, weir_replay_fd(reader->catch_up));
		add_fd(set, weir_replay_fd(reader->refetch));
	}
	return set;
}

static void
earliest(TimestampTz *t, TimestampTz other)
{
	if (other != 0 && (*t == 0 || other < *t))
		*t = other;
}

/* Waits for something to do. */
static void
wait_for_work(void)
{
	static WaitEventSet *set = NULL;
	TimestampTz next = 0;
	long		timeout = -1;
	WaitEvent	events[8];
	ListCell   *lc;

	foreach(lc, worker.readers)
	{
		Reader	   *reader = lfirst(lc);

		earliest(&next, weir_reader_next_time(reader));
		earliest(&next, weir_replay_next_time(reader->catch_up));
		earliest(&next, weir_replay_next_time(reader->refetch));
	}
	earliest(&next, weir_closer_next_time());
	earliest(&next, weir_swapper_next_time());
	if (next != 0)
		timeout = weir_worker_ms_until(next);
	if (set != NULL && worker.fds_changed)
	{
		FreeWaitEventSet(set);
		set = NULL;
	}
	if (set == NULL)
		set = make_wait_set();
	worker.fds_changed = false;
	(void) WaitEventSetWait(set, timeout, events, lengthof(events), PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
}

/* weir.wait() wants to know where the partitions end. */
static void
answer_requests(void)
{
	uint64		request = pg_atomic_read_u64(&weir_hub(MyDatabaseId)->request);
	ListCell   *lc;

	/*
	 * Who asks may have changed the catalog just before (weir.seek, a new
	 * stream): the request was read first, so such a change is seen here.
	 */
	if (worker.generation != weir_generation())
	{
		worker.reload = true;
		return;
	}
	foreach(lc, worker.readers)
	{
		Reader	   *reader = lfirst(lc);

		if (reader->answered < request)
			weir_topics_answer(reader, request);
	}
}

static void
follow_changes(void)
{
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
		worker.reload = true;
	}
	if (worker.generation != weir_generation())
		worker.reload = true;
	if (worker.reload)
		weir_worker_reload();
}

/* Partitions are spread over another number of workers: all leave, then others come. */
static bool
pool_has_changed(void)
{
	return worker.nworkers != pg_atomic_read_u32(&weir_shared->nworkers);
}

static void
work(void)
{
	while (!ShutdownRequestPending)
	{
		ListCell   *lc;

		MemoryContextReset(worker.turn_cxt);
		QueryCancelPending = false; /* nothing to cancel */
		CHECK_FOR_INTERRUPTS();
		follow_changes();
		if (worker.leave || !weir_enabled || pool_has_changed())
			break;
		foreach(lc, worker.readers)
			weir_reader_run(lfirst(lc));
		answer_requests();		/* behind it: a reader may just have been opened */
		run_maintenance();
		weir_closer_run();
		weir_swapper_run();
		if (!worker.reload && !ShutdownRequestPending)
			wait_for_work();
	}
}

void
weir_worker_main(Datum arg)
{
	WorkerStart start;

	memcpy(&start, MyBgworkerEntry->bgw_extra, sizeof(start));
	worker.slot = start.slot;
	worker.index = start.index;
	worker.nworkers = start.nworkers;
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, on_sigterm);
	if (!claim_slot(&start))
		proc_exit(0);
	interruptible = true;
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(start.dboid, InvalidOid, 0);
	interruptible = false;
	worker.cxt = AllocSetContextCreate(TopMemoryContext, "weir worker", ALLOCSET_DEFAULT_SIZES);
	worker.turn_cxt = AllocSetContextCreate(worker.cxt, "weir worker turn", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(worker.turn_cxt);
	before_shmem_exit(close_readers, (Datum) 0);
	pgstat_report_appname(MyBgworkerEntry->bgw_name);
	pin_settings();

	if (worker.index >= WEIR_MAX_WORKERS)
	{
		(void) settle();
		if (worker.index == WEIR_PUBLISHER)
			weir_publisher_run();
		else
			weir_expirer_run();
		final_state = WORKER_DONE;
		proc_exit(0);
	}
	worker.reload = true;
	follow_changes();
	if (!worker.leave && weir_enabled && !settle())
		final_state = WORKER_FULL;
	else
	{
		static char *last_error = NULL;

		if (!worker.leave)
			weir_kafka_tune_malloc();
		if (!worker.leave && worker.index == 0)
			(void) weir_worker_transaction(relink_body, NULL, &last_error, worker.cxt);
		work();
		final_state = worker.leave ? WORKER_ABSENT : WORKER_DONE;
	}
	proc_exit(0);
}
