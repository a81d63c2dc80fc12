/*
 * reload.c
 *	  A worker reads weir's catalog again and brings its readers up to date.
 *
 * Called at the start, after a catalog change, a reload of the settings, and
 * when a batch found its position moved. One transaction reads everything;
 * then readers are made, kept, closed (they open again by themselves) or dropped.
 *
 * The generation is read before the catalog: a change in between costs one
 * more reload, and none is missed.
 */
#include "worker/worker.h"

#include "catalog/catalog.h"
#include "catalog/view.h"
#include "delta/ingest.h"
#include "expire/expire.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "source/kafka_options.h"
#include "storage/latch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"
#include "worker/shared.h"
#include "worker/shmem.h"

#define RELOAD_RETRY	1000	/* ms after a reload that failed */

static Reader *
find_reader(Oid stream)
{
	ListCell   *lc;

	foreach(lc, worker.readers)
	{
		Reader	   *reader = lfirst(lc);

		if (reader->stream == stream)
			return reader;
	}
	return NULL;
}

/* All that makes a new consumer necessary when it changes. Holds secrets. */
static char *
source_text(Stream *stream, List *options)
{
	StringInfoData text;
	ListCell   *lc;

	initStringInfo(&text);
	appendStringInfo(&text, "%u %d\n", stream->owner, stream->read_committed);
	for (int i = 0; i < stream->ntopics; i++)
		appendStringInfo(&text, "%s\n", stream->topics[i]);
	foreach(lc, options)
	{
		KafkaOption *option = lfirst(lc);

		appendStringInfo(&text, "%s=%s\n", option->name, option->value);
	}
	return text.data;
}

static List *
read_views(Oid stream)
{
	List	   *views = NIL;
	ListCell   *lc;

	foreach(lc, weir_view_oids_of_stream(stream))
	{
		View	   *view = weir_view_get(lfirst_oid(lc));
		ReaderView *entry;

		if (view == NULL)
			continue;
		entry = palloc(sizeof(ReaderView));
		entry->view = view->relid;
		entry->running = view->status == VIEW_RUNNING;
		views = lappend(views, entry);
	}
	return views;
}

/* Do the positions in the table differ from what the reader goes by? */
static bool
positions_moved(Reader *reader)
{
	List	   *saved = weir_positions_load(reader->stream);
	ListCell   *lc;

	foreach(lc, reader->partitions)
	{
		Partition  *part = lfirst(lc);
		bool		same = false;
		ListCell   *lc2;

		foreach(lc2, saved)
		{
			SavedPosition *pos = lfirst(lc2);

			if (pos->partition == part->saved.partition &&
				strcmp(pos->topic, part->saved.topic) == 0)
				same = pos->next_offset == part->saved.next_offset &&
					pos->last_offset == part->saved.last_offset;
		}
		if (!same)
			return true;
	}
	return false;
}

/* Reads a stream's definition into *next, in its def_cxt. */
static void
read_definition(Reader *next, Stream *stream)
{
	next->name = pstrdup(stream->name);
	next->start = pstrdup(stream->start);
	next->read_committed = stream->read_committed;
	next->paused = stream->paused;
	next->failed = stream->error != NULL;
	next->topics = NIL;
	for (int i = 0; i < stream->ntopics; i++)
		next->topics = lappend(next->topics, pstrdup(stream->topics[i]));
	next->views = read_views(stream->relid);
	next->detached = weir_positions_detached(stream->relid);
	next->incomplete = stream->keeps_rows && !stream->logged &&
		!weir_marker_there(stream->relid);
	next->options = weir_kafka_options(stream->server, stream->owner);
	next->want_headers = weir_ingest_wants_headers(stream);
	next->source = source_text(stream, next->options);
}

/*
 * define_reader takes over a stream's definition; closes the reader if it
 * cannot go on as it is. An error leaves the reader as it was.
 */
static void
define_reader(Reader *reader, Stream *stream)
{
	Reader		next = *reader;
	MemoryContext oldcxt;
	bool		reopen;

	next.def_cxt = AllocSetContextCreate(reader->cxt, "weir stream definition",
										 ALLOCSET_SMALL_SIZES);
	oldcxt = MemoryContextSwitchTo(next.def_cxt);
	read_definition(&next, stream);
	MemoryContextSwitchTo(oldcxt);
	reopen = reader->source == NULL || strcmp(next.source, reader->source) != 0 ||
		next.want_headers != reader->want_headers ||
		(reader->failed && !next.failed) ||
		next.paused != reader->paused || next.incomplete != reader->incomplete ||
		positions_moved(reader);

	MemoryContextDelete(reader->def_cxt);
	*reader = next;
	weir_catch_up_close(reader);
	if (reopen)
	{
		reader->asked = 0;
		weir_reader_restart(reader, 0);
	}
	if (reader->paused)
		weir_stat_share(reader->stream, worker.index, SHARE_PAUSED, NULL);
}

/* Tells the launcher whether the database needs a publisher and an expirer. */
static void
tell_needs(void)
{
	WorkerSlot *slot = &weir_shared->slots[worker.slot];
	CatalogScope scope;
	bool		publishes;
	bool		expires;

	if (worker.index != 0)
		return;
	weir_catalog_open(&scope);
	publishes = weir_catalog_exec("SELECT FROM weir.sink LIMIT 1") > 0;
	weir_catalog_close(&scope);
	expires = weir_expire_tables() != NIL || weir_expire_has_views();
	if (slot->publishes == publishes && slot->expires == expires)
		return;
	LWLockAcquire(weir_shared->lock, LW_EXCLUSIVE);
	slot->publishes = publishes;
	slot->expires = expires;
	LWLockRelease(weir_shared->lock);
	weir_launcher_wake();
}

static bool
reload_body(void *arg)
{
	ListCell   *lc;

	/* who changed a server or a table told us before its invalidation messages were sent */
	InvalidateSystemCaches();
	worker.leave = !weir_installed();
	if (worker.leave)
		return true;
	tell_needs();
	foreach(lc, weir_stream_oids())
	{
		Stream	   *stream = weir_stream_get(lfirst_oid(lc));
		Reader	   *reader;

		if (stream == NULL || stream->server == NULL ||
			!OidIsValid(weir_kafka_server_oid(stream->server, true)))
			continue;
		reader = find_reader(stream->relid);
		if (reader == NULL)
		{
			MemoryContext oldcxt = MemoryContextSwitchTo(worker.cxt);

			reader = weir_reader_create(stream->relid);
			worker.readers = lappend(worker.readers, reader);
			MemoryContextSwitchTo(oldcxt);
		}
		define_reader(reader, stream);
		reader->seen = true;
	}
	return true;
}

/* A reader whose stream is no stream any more, or has lost its topic. */
static void
drop_unseen(void)
{
	ListCell   *lc;

	foreach(lc, worker.readers)
	{
		Reader	   *reader = lfirst(lc);

		if (reader->seen)
			continue;
		weir_stat_forget(reader->stream);
		worker.readers = foreach_delete_current(worker.readers, lc);
		weir_reader_drop(reader);
	}
}

/* More readers: the memory of each is less. Those opened with far too much open again. */
static void
share_memory(void)
{
	ListCell   *lc;
	Size		share = (Size) weir_memory * 1024 / Max(list_length(worker.readers), 1);

	foreach(lc, worker.readers)
	{
		Reader	   *reader = lfirst(lc);

		if (reader->state == READER_OPEN &&
			(share < reader->memory / 2 || share > reader->memory * 2))
			weir_reader_restart(reader, 0);
	}
}

/* Shows in pg_stat_activity which streams this worker serves. */
static void
report_streams(void)
{
	StringInfoData text;
	ListCell   *lc;

	initStringInfo(&text);
	appendStringInfoString(&text, list_length(worker.readers) == 1 ? "stream" : "streams");
	foreach(lc, worker.readers)
	{
		Reader	   *reader = lfirst(lc);

		appendStringInfo(&text, "%s %s%s", lc == list_head(worker.readers) ? "" : ",",
						 reader->name, reader->paused ? " (paused)" : "");
	}
	if (worker.readers == NIL)
		appendStringInfoString(&text, ": none");
	pgstat_report_activity(STATE_IDLE, text.data);
}

void
weir_worker_reload(void)
{
	static char *last_error = NULL;
	uint64		generation = weir_generation();
	ListCell   *lc;

	worker.reload = false;
	worker.fds_changed = true;
	foreach(lc, worker.readers)
		((Reader *) lfirst(lc))->seen = false;
	if (!weir_worker_transaction(reload_body, NULL, &last_error, worker.cxt))
	{
		/* something is odd; what is read now can go on, and a change wakes us */
		foreach(lc, worker.readers)
			((Reader *) lfirst(lc))->seen = true;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 RELOAD_RETRY, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		worker.reload = true;
		return;
	}
	worker.generation = generation;
	if (worker.leave)
		return;
	drop_unseen();
	weir_asker_sweep(false);
	share_memory();
	report_streams();
}
