/*
 * publisher.c
 *	  The process that sends the outbox to Kafka.
 *
 * outbox ⇒ pending.c (what comes next) ⇒ here ⇒ sender.c (a thread per sink) ⇒ Kafka.
 *
 * One per database, started by the launcher when the first worker has seen
 * that there are sinks (worker.c sets it up: slot, signals, connection). It
 * waits on its latch and on one eventfd that all senders write to. What wakes it:
 * commits to the outbox (worker/shmem.c), senders, catalog changes, settings, the order to leave.
 * There is a timer only while something has to be tried again or space to be given back.
 *
 * Per sink: nothing waiting, no thread. With the first row the sender is
 * started; it says where to go on; then fetch, send, acknowledge, one batch after the other, the
 * next one fetched while the last one is being sent.
 *
 * Locks: an advisory lock on the database's sinks, for the life of the
 * process. Memory: worker.cxt, a context per sink, malloc for batches.
 */
#include "sink/publisher.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include "access/xlog.h"
#include "catalog/catalog.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "sink/outbox.h"
#include "sink/publisher_internal.h"
#include "sink/trigger.h"
#include "source/kafka_client.h"
#include "source/kafka_options.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lock.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"
#include "worker/shared.h"
#include "worker/shmem.h"
#include "worker/worker.h"

#define RETRY_MS	1000		/* after an error */
#define RECLAIM_MS	1000		/* at most so often space is given back */
#define RECLAIM_LATER_MS 5000	/* while it cannot be given back yet */

/* "weir" as an advisory lock's class. */
#define LOCK_CLASS	0x77656972

static List *sinks = NIL;		/* of Sink * */
static int	wake_fd = -1;
static uint64 generation = 0;	/* of the catalog that was read */
static uint64 outbox_seen = 0;
static TimestampTz reclaim_at = 0;	/* 0: nothing to give back */
static TimestampTz reload_at = 0;	/* 0: not to be tried again */

/* ---- sinks ---- */

static Sink *
find_sink(int64 id)
{
	ListCell   *lc;

	foreach(lc, sinks)
	{
		if (((Sink *) lfirst(lc))->id == id)
			return lfirst(lc);
	}
	return NULL;
}

static Sink *
make_sink(int64 id)
{
	MemoryContext cxt = AllocSetContextCreate(worker.cxt, "weir sink", ALLOCSET_DEFAULT_SIZES);
	Sink	   *sink = MemoryContextAllocZero(cxt, sizeof(Sink));
	MemoryContext oldcxt = MemoryContextSwitchTo(worker.cxt);

	sink->cxt = cxt;
	sink->id = id;
	sink->batch_cxt = AllocSetContextCreate(cxt, "weir sink batch", ALLOCSET_DEFAULT_SIZES);
	sink->dirty = true;
	sinks = lappend(sinks, sink);
	MemoryContextSwitchTo(oldcxt);
	return sink;
}

/* Ends the sender; what it has not got through is fetched again. */
static void
stop_sink(Sink *sink)
{
	if (sink->sender != NULL)
		weir_sender_stop(sink->sender);
	sink->sender = NULL;
	weir_sender_batch_free(sink->batch);
	sink->batch = NULL;
	sink->opened = false;
	sink->dirty = true;
}

static void
stop_all(int code, Datum arg)
{
	ListCell   *lc;

	foreach(lc, sinks)
		stop_sink(lfirst(lc));
}

/* All that makes a new connection necessary when it changes. Holds secrets. */
static char *
source_text(Oid owner, List *options)
{
	StringInfoData text;
	ListCell   *lc;

	initStringInfo(&text);
	appendStringInfo(&text, "%u\n", owner);
	foreach(lc, options)
	{
		KafkaOption *option = lfirst(lc);

		appendStringInfo(&text, "%s=%s\n", option->name, option->value);
	}
	return text.data;
}

/* What weir.sink says of one sink. */
typedef struct SinkRow
{
	int64		id;
	char	   *name;
	char	   *server;
	char	   *topic;
	Oid			owner;
	bool		exactly_once;
	bool		paused;
} SinkRow;

/* Why the owner cannot publish to the server at all; NULL: he can. */
static char *
server_problem(const SinkRow *row)
{
	Oid			serverid = weir_kafka_server_oid(row->server, true);

	if (!OidIsValid(serverid))
		return psprintf("server \"%s\" does not exist", row->server);
	if (!weir_compat_may_use_server(serverid, row->owner))
		return psprintf("permission denied for foreign server %s", row->server);
	return NULL;
}

/* Takes over a sink's definition. */
static void
define_sink(Sink *sink, const SinkRow *row)
{
	MemoryContext def_cxt = AllocSetContextCreate(sink->cxt, "weir sink definition",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext oldcxt = MemoryContextSwitchTo(def_cxt);
	List	   *options;
	char	   *source;
	bool		same;

	sink->problem = server_problem(row);
	options = sink->problem ? NIL : weir_kafka_options(row->server, row->owner);
	source = source_text(row->owner, options);
	same = sink->source != NULL && strcmp(sink->source, source) == 0 &&
		sink->exactly_once == row->exactly_once &&
		(sink->topic ? row->topic && strcmp(sink->topic, row->topic) == 0 : row->topic == NULL);
	sink->restart |= !same || (row->paused && !sink->paused);
	sink->name = pstrdup(row->name);
	sink->topic = row->topic ? pstrdup(row->topic) : NULL;
	sink->source = source;
	sink->options = options;
	sink->exactly_once = row->exactly_once;
	if (sink->paused && !row->paused)
	{
		sink->dirty = true;
		sink->told[0] = '\0';
	}
	sink->paused = row->paused;
	MemoryContextSwitchTo(oldcxt);
	if (sink->def_cxt != NULL)
		MemoryContextDelete(sink->def_cxt);
	sink->def_cxt = def_cxt;
}

static List *
read_rows(void)
{
	List	   *rows = NIL;
	CatalogScope scope;
	MemoryContext cxt = CurrentMemoryContext;

	weir_catalog_open(&scope);
	(void) weir_catalog_exec("SELECT s.id::text, n.name, s.server::text, s.topic,"
							 " COALESCE(c.relowner, s.owner)::text, s.delivery, s.paused::text"
							 " FROM weir.sink s JOIN weir.sink_name n USING (id)"
							 " LEFT JOIN pg_class c ON c.oid = s.relation ORDER BY s.id");
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		MemoryContext oldcxt = MemoryContextSwitchTo(cxt);
		SinkRow    *row = palloc(sizeof(SinkRow));

		row->id = pg_strtoint64(SPI_getvalue(tuple, desc, 1));
		row->name = SPI_getvalue(tuple, desc, 2);
		row->server = SPI_getvalue(tuple, desc, 3);
		row->topic = SPI_getvalue(tuple, desc, 4);
		row->owner = atooid(SPI_getvalue(tuple, desc, 5));
		row->exactly_once = strcmp(SPI_getvalue(tuple, desc, 6), "exactly_once") == 0;
		row->paused = strcmp(SPI_getvalue(tuple, desc, 7), "true") == 0;
		rows = lappend(rows, row);
		MemoryContextSwitchTo(oldcxt);
	}
	weir_catalog_close(&scope);
	return rows;
}

static bool
reload_body(void *arg)
{
	ListCell   *lc;

	/* who changed a server told us before its invalidation messages were sent */
	InvalidateSystemCaches();
	worker.leave = !weir_installed();
	if (worker.leave)
		return true;
	weir_pending_sweep();
	foreach(lc, read_rows())
	{
		SinkRow    *row = lfirst(lc);
		Sink	   *sink = find_sink(row->id);

		if (sink == NULL)
			sink = make_sink(row->id);
		sink->seen = true;
		define_sink(sink, row);
	}
	return true;
}

/* Reads weir.sink again: sinks appear, change, go. */
static void
reload(void)
{
	static char *last_error = NULL;
	uint64		now = weir_generation();
	ListCell   *lc;

	foreach(lc, sinks)
		((Sink *) lfirst(lc))->seen = false;
	reload_at = 0;
	if (!weir_worker_transaction(reload_body, NULL, &last_error, worker.cxt))
	{
		foreach(lc, sinks)
			((Sink *) lfirst(lc))->seen = true;
		reload_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), RETRY_MS);
		generation = now;
		return;
	}
	generation = now;
	foreach(lc, sinks)
	{
		Sink	   *sink = lfirst(lc);

		if (sink->seen && !sink->restart)
			continue;
		stop_sink(sink);
		sink->restart = false;
		if (sink->seen)
			continue;
		sinks = foreach_delete_current(sinks, lc);
		MemoryContextDelete(sink->cxt);
	}
}

/* ---- one sink ---- */

static bool
any_body(void *arg)
{
	Sink	   *sink = arg;

	sink->any = weir_pending_any(sink);
	return true;
}

static bool
resume_body(void *arg)
{
	weir_pending_resume(arg);
	return true;
}

static bool
fetch_body(void *arg)
{
	Sink	   *sink = arg;

	pgstat_report_activity(STATE_RUNNING, psprintf("sink %s: reading the outbox", sink->name));
	sink->any = weir_pending_fetch(sink);
	return true;
}

static bool
acknowledge_body(void *arg)
{
	weir_pending_acknowledge(arg);
	return true;
}

/* An error to be written down. */
typedef struct Trouble
{
	Sink	   *sink;
	const char *error;
	bool		refused;
	int			bad_record;
} Trouble;

static bool
trouble_body(void *arg)
{
	Trouble    *trouble = arg;

	weir_pending_error(trouble->sink, trouble->error, trouble->refused, trouble->bad_record);
	return true;
}

/* Runs a body for a sink; after an error the sink waits a while. */
static bool
run(TransactionBody body, void *arg, Sink *sink)
{
	static char *last_error = NULL;

	if (weir_worker_transaction(body, arg, &last_error, worker.cxt))
		return true;
	sink->retry_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), RETRY_MS);
	return false;
}

/* Writes down what the sink is waiting for, once. */
static void
tell(Sink *sink, const char *error)
{
	Trouble		trouble = {sink, error, false, -1};

	if (error[0] == '\0' || strcmp(sink->told, error) == 0)
		return;
	if (run(trouble_body, &trouble, sink))
	{
		sink->retries = 0;
		strlcpy(sink->told, error, sizeof(sink->told));
		ereport(LOG, (errmsg("sink %s: %s", sink->name, error)));
	}
}

/* Kafka will never take a record: the sink stands still until the user has seen to it. */
static void
refuse(Sink *sink)
{
	Trouble		trouble = {sink, sink->report.error, true, sink->report.bad_record};

	if (!run(trouble_body, &trouble, sink))
		return;
	ereport(WARNING,
			(errmsg("sink %s is paused: %s", sink->name, sink->report.error),
			 errhint("SELECT weir.resume_sink('%s') when the cause is gone, or weir.discard('%s') to move the record to weir.dead_letters.",
					 sink->name, sink->name)));
	sink->retries = 0;
	strlcpy(sink->told, sink->report.error, sizeof(sink->told));
	stop_sink(sink);
	sink->paused = true;
}

static void
start_sender(Sink *sink)
{
	char		identity[80];
	char	   *error;
	SenderConfig config = {0};

	snprintf(identity, sizeof(identity), "weir-" UINT64_FORMAT "-%u-" INT64_FORMAT,
			 GetSystemIdentifier(), MyDatabaseId, sink->id);
	config.options = sink->options;
	config.identity = identity;
	config.topic = sink->topic;
	config.exactly_once = sink->exactly_once;
	config.hint = sink->hint;
	config.wake_fd = wake_fd;
	sink->sender = weir_sender_start(&config, &error);
	if (sink->sender == NULL)
	{
		tell(sink, error);
		sink->retry_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), RETRY_MS);
	}
}

/* The sender has (re)opened: whatever was under way, Kafka says where to go on. */
static bool
resume(Sink *sink)
{
	weir_sender_batch_free(sink->batch);
	sink->batch = NULL;
	sink->dirty = true;
	sink->opened = run(resume_body, sink, sink);
	return sink->opened;
}

static bool
acknowledge(Sink *sink)
{
	sink->hint = sink->report.hint;
	if (!run(acknowledge_body, sink, sink))
		return false;
	sink->at = sink->after;
	sink->max_seq = Max(sink->max_seq, sink->at.seq);
	sink->retries = 0;
	sink->told[0] = '\0';
	weir_sender_next(sink->sender);
	if (reclaim_at == 0)
		reclaim_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), RECLAIM_MS);
	return true;
}

/* Reads the next batch; a fetch that fails leaves everything as it was. */
static void
fetch(Sink *sink)
{
	SinkProgress before = sink->at;

	sink->dirty = false;
	sink->any = false;
	if (!run(fetch_body, sink, sink))
	{
		sink->at = before;
		weir_sender_batch_free(sink->batch);
		sink->batch = NULL;
		sink->dirty = true;
		return;
	}
	if (sink->batch == NULL)
		return;
	sink->dirty = true;			/* there may be more behind it */
	weir_sender_send(sink->sender, sink->batch);
	sink->batch = NULL;
}

static void
log_lines(Sink *sink)
{
	char		text[SENDER_TEXT];

	while (weir_sender_log(sink->sender, text))
		ereport(LOG, (errmsg("sink %s: %s", sink->name, text)));
}

/* Does what can be done for a sink now. */
static void
serve(Sink *sink)
{
	if (sink->problem != NULL)
		tell(sink, sink->problem);
	if (sink->paused || sink->problem != NULL)
		return;
	if (sink->retry_at > GetCurrentTimestamp())
		return;
	sink->retry_at = 0;
	if (sink->sender == NULL)
	{
		if (sink->dirty && run(any_body, sink, sink))
		{
			sink->dirty = sink->any;
			if (sink->any)
				start_sender(sink);
		}
		return;
	}
	log_lines(sink);
	weir_sender_report(sink->sender, &sink->report);
	sink->retries += sink->report.retries;
	if (sink->report.opened)
		sink->opened = false;
	switch (sink->report.state)
	{
		case SENDER_OPENING:
		case SENDER_SENDING:
			tell(sink, sink->report.error);
			return;
		case SENDER_REFUSED:
			refuse(sink);
			return;
		case SENDER_SENT:
			if (!acknowledge(sink))
				return;
			break;
		case SENDER_READY:
			break;
	}
	if (!sink->opened && !resume(sink))
		return;
	if (sink->dirty)
		fetch(sink);
}

/* ---- the loop ---- */

static bool
reclaim_body(void *arg)
{
	*(bool *) arg = weir_outbox_reclaim();
	weir_pending_sweep();
	return true;
}

static void
reclaim(void)
{
	static char *last_error = NULL;
	bool		left = true;

	if (reclaim_at == 0 || reclaim_at > GetCurrentTimestamp())
		return;
	(void) weir_worker_transaction(reclaim_body, &left, &last_error, worker.cxt);
	reclaim_at = left ? TimestampTzPlusMilliseconds(GetCurrentTimestamp(), RECLAIM_LATER_MS) : 0;
}

static bool
lock_body(void *arg)
{
	LOCKTAG		tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, LOCK_CLASS, 0, 2);
	(void) LockAcquire(&tag, ExclusiveLock, true, false);
	return true;
}

static void
follow_changes(void)
{
	uint64		outbox = pg_atomic_read_u64(&weir_hub(MyDatabaseId)->outbox);
	ListCell   *lc;

	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
	if (generation != weir_generation() ||
		(reload_at != 0 && reload_at <= GetCurrentTimestamp()))
		reload();
	if (outbox == outbox_seen)
		return;
	outbox_seen = outbox;
	foreach(lc, sinks)
		((Sink *) lfirst(lc))->dirty = true;
}

/* ms until something is due; -1: nothing is. */
static long
next_timeout(void)
{
	TimestampTz next = reclaim_at;
	ListCell   *lc;

	if (reload_at != 0 && (next == 0 || reload_at < next))
		next = reload_at;
	foreach(lc, sinks)
	{
		TimestampTz at = ((Sink *) lfirst(lc))->retry_at;

		if (at != 0 && (next == 0 || at < next))
			next = at;
	}
	return next == 0 ? -1 : weir_worker_ms_until(next);
}

/* Sleeps until there is something to do. */
static void
wait_for_work(WaitEventSet *set)
{
	Hub		   *hub = weir_hub(MyDatabaseId);
	WaitEvent	events[3];
	uint64		counter;

	(void) pg_atomic_exchange_u32(&hub->publisher_waits, 1);
	if (pg_atomic_read_u64(&hub->outbox) == outbox_seen)
		(void) WaitEventSetWait(set, next_timeout(), events, lengthof(events), PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	if (read(wake_fd, &counter, sizeof(counter)) < 0)
		return;					/* nobody has written */
}

static void
set_up(void)
{
	static char *last_error = NULL;

	wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (wake_fd < 0)
		ereport(FATAL, (errmsg("could not create an eventfd: %m")));
	before_shmem_exit(stop_all, (Datum) 0);
	/* what is acknowledged here is a copy; Kafka has the original */
	SetConfigOption("synchronous_commit", "off", PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("enable_seqscan", "off", PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("enable_bitmapscan", "off", PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("enable_sort", "off", PGC_SUSET, PGC_S_OVERRIDE);
	(void) weir_worker_transaction(lock_body, NULL, &last_error, worker.cxt);
}

void
weir_publisher_run(void)
{
	WaitEventSet *set;
	ListCell   *lc;

	set_up();
	set = weir_compat_wait_event_set(worker.cxt, 3);
	AddWaitEventToSet(set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	AddWaitEventToSet(set, WL_SOCKET_READABLE, wake_fd, NULL, NULL);
	while (!ShutdownRequestPending)
	{
		MemoryContextReset(worker.turn_cxt);
		QueryCancelPending = false; /* nothing to cancel */
		CHECK_FOR_INTERRUPTS();
		follow_changes();
		if (worker.leave || !weir_enabled || (sinks == NIL && reload_at == 0))
			break;
		foreach(lc, sinks)
			serve(lfirst(lc));
		reclaim();
		if (!ShutdownRequestPending && generation == weir_generation())
			wait_for_work(set);
	}
	stop_all(0, (Datum) 0);
}
