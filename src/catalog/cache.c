/*
 * cache.c
 *	  The backend's cache of weir.stream_def and weir.view_def.
 *
 * Both tables are read whole, with the latest snapshot, at the first use
 * after something changed: the shared generation went up (another session
 * committed a change), this transaction changed the catalog, or a relation in
 * the cache was invalidated (rename, owner, columns). Who holds a lock on a
 * stream that excludes DDL therefore sees its true definition, also in a
 * REPEATABLE READ transaction, because the generation rises before the
 * changing transaction releases its locks. On a standby nothing raises it: there
 * what was read serves one transaction, so a session that lives
 * through the promotion begins with the truth.
 *
 * Memory: one context per load. A stale one is kept until the end of the
 * transaction, so pointers handed out stay valid that long.
 */
#include "catalog/catalog.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_type.h"
#include "catalog/stream.h"
#include "catalog/view.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "worker/shared.h"

const char *const weir_view_setting_names[4] = {
	"search_path", "TimeZone", "DateStyle", "IntervalStyle"
};

typedef struct CatalogCache
{
	MemoryContext cxt;
	uint64		generation;
	bool		recovery;		/* was read on a standby */
	List	   *streams;		/* of Stream *, by relid */
	List	   *views;			/* of View *, by relid */
} CatalogCache;

static CatalogCache *cache = NULL;	/* the current one */
static bool cache_stale = true;
static bool changed_in_xact = false;	/* this transaction changed the catalog */
static uint64 loads = 0;			/* how often the cache was read */
static List *retired = NIL;		/* contexts to delete at the end of the transaction */

/* Does a relcache invalidation concern something that the cache describes? */
static bool
cache_knows(Oid relid)
{
	ListCell   *lc;

	foreach(lc, cache->streams)
	{
		if (((Stream *) lfirst(lc))->relid == relid)
			return true;
	}
	foreach(lc, cache->views)
	{
		View	   *view = lfirst(lc);

		if (view->relid == relid || view->query_relid == relid)
			return true;
	}
	return false;
}

static void
relation_invalidated(Datum arg, Oid relid)
{
	if (cache != NULL && !cache_stale &&
		(relid == InvalidOid || cache_knows(relid)))
		cache_stale = true;
}

void
weir_cache_forget(void)
{
	cache_stale = true;
	changed_in_xact = true;
}

static void
xact_ended(XactEvent event, void *arg)
{
	ListCell   *lc;

	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT &&
		event != XACT_EVENT_PREPARE)
		return;
	if (changed_in_xact || (cache != NULL && cache->recovery))
		cache_stale = true;
	changed_in_xact = false;
	foreach(lc, retired)
		MemoryContextDelete((MemoryContext) lfirst(lc));
	list_free(retired);
	retired = NIL;
}

static void
subxact_ended(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB && changed_in_xact)
		cache_stale = true;
}

void
weir_cache_init(void)
{
	CacheRegisterRelcacheCallback(relation_invalidated, (Datum) 0);
	RegisterXactCallback(xact_ended, NULL);
	RegisterSubXactCallback(subxact_ended, NULL);
}

/* One row of SPI_tuptable, read column by column in the order of the query. */
typedef struct RowReader
{
	HeapTuple	tuple;
	TupleDesc	desc;
	int			column;
} RowReader;

static Datum
next_datum(RowReader *row, bool *isnull)
{
	return SPI_getbinval(row->tuple, row->desc, ++row->column, isnull);
}

static Oid
next_oid(RowReader *row)
{
	bool		isnull;
	Datum		value = next_datum(row, &isnull);

	return isnull ? InvalidOid : DatumGetObjectId(value);
}

static bool
next_bool(RowReader *row)
{
	bool		isnull;
	Datum		value = next_datum(row, &isnull);

	return !isnull && DatumGetBool(value);
}

/* text or name; NULL if null */
static char *
next_string(RowReader *row)
{
	return SPI_getvalue(row->tuple, row->desc, ++row->column);
}

static Interval *
next_interval(RowReader *row)
{
	bool		isnull;
	Datum		value = next_datum(row, &isnull);
	Interval   *copy;

	if (isnull)
		return NULL;
	copy = palloc(sizeof(Interval));
	memcpy(copy, DatumGetIntervalP(value), sizeof(Interval));
	return copy;
}

static Datum *
next_array(RowReader *row, Oid elemtype, int16 len, bool byval, char align, int *n)
{
	bool		isnull;
	Datum		value = next_datum(row, &isnull);
	Datum	   *elems;

	*n = 0;
	if (isnull)
		return NULL;
	deconstruct_array(DatumGetArrayTypePCopy(value), elemtype, len, byval, align,
					  &elems, NULL, n);
	return elems;
}

static char **
next_texts(RowReader *row, int *n)
{
	Datum	   *elems = next_array(row, TEXTOID, -1, false, TYPALIGN_INT, n);
	char	  **texts = palloc0(sizeof(char *) * (*n + 1));

	for (int i = 0; i < *n; i++)
		texts[i] = TextDatumGetCString(elems[i]);
	return texts;
}

static Stream *
read_stream(RowReader *row)
{
	Stream	   *stream = palloc0(sizeof(Stream));
	char	   *word;

	stream->relid = next_oid(row);
	stream->rows_relid = next_oid(row);
	stream->owner = next_oid(row);
	stream->logged = next_bool(row);
	stream->server = next_string(row);
	stream->topics = next_texts(row, &stream->ntopics);
	stream->topics_seen = next_texts(row, &stream->nseen);
	word = next_string(row);
	stream->format = strcmp(word, "text") == 0 ? STREAM_FORMAT_TEXT : STREAM_FORMAT_JSON;
	stream->start = next_string(row);
	stream->event_time = next_string(row);
	word = next_string(row);
	stream->time_unit = strcmp(word, "s") == 0 ? STREAM_TIME_S :
		strcmp(word, "us") == 0 ? STREAM_TIME_US : STREAM_TIME_MS;
	stream->lateness = next_interval(row);
	stream->idle_timeout = next_interval(row);
	stream->max_clock_skew = next_interval(row);
	stream->late_keep = next_bool(row);
	stream->keep = next_interval(row);
	stream->keeps_rows = weir_span_is_positive(stream->keep);
	stream->read_committed = next_bool(row);
	stream->paused = next_bool(row);
	stream->error = next_string(row);
	stream->name = weir_relation_name(stream->relid);
	if (stream->event_time)
	{
		stream->event_attnum = get_attnum(stream->relid, stream->event_time);
		stream->event_type = get_atttype(stream->relid, stream->event_attnum);
	}
	return stream;
}

static View *
read_view(RowReader *row)
{
	View	   *view = palloc0(sizeof(View));
	Datum	   *elems;
	char	   *word;
	int			n;

	view->relid = next_oid(row);
	view->query_relid = next_oid(row);
	view->state_relid = next_oid(row);
	view->values_relid = next_oid(row);
	view->owner = next_oid(row);
	elems = next_array(row, REGCLASSOID, sizeof(Oid), true, TYPALIGN_INT, &n);
	for (int i = 0; i < n; i++)
		view->streams = lappend_oid(view->streams, DatumGetObjectId(elems[i]));
	list_sort(view->streams, list_oid_cmp);
	view->emit = next_string(row);
	view->strategy = next_string(row);
	view->lateness = next_interval(row);
	view->keep = next_interval(row);
	view->keep_column = next_string(row);
	elems = next_array(row, TEXTOID, -1, false, TYPALIGN_INT, &n);
	for (int i = 0; i < n && i < lengthof(view->settings); i++)
		view->settings[i] = TextDatumGetCString(elems[i]);
	elems = next_array(row, REGCLASSOID, sizeof(Oid), true, TYPALIGN_INT, &n);
	for (int i = 0; i < n; i++)
		view->detached_inserts = lappend_oid(view->detached_inserts, DatumGetObjectId(elems[i]));
	word = next_string(row);
	view->joins = word != NULL;
	view->join_reach = word ? strtoll(word, NULL, 10) : 0;
	view->close_shift = strtoll(next_string(row), NULL, 10);
	view->at_once = strcmp(next_string(row), "at once") == 0;
	word = next_string(row);
	view->closes = strcmp(word, "true") == 0;
	view->instants = strcmp(next_string(row), "true") == 0;
	word = next_string(row);
	view->replaces = word ? strtoul(word, NULL, 10) : InvalidOid;
	view->from_topic = next_string(row) != NULL;
	word = next_string(row);
	view->status = strcmp(word, "paused") == 0 ? VIEW_PAUSED :
		strcmp(word, "failed") == 0 ? VIEW_FAILED : VIEW_RUNNING;
	view->error = next_string(row);
	view->name = weir_relation_name(view->relid);
	return view;
}

/* Runs sql with the latest snapshot and adds what read() makes of each row, allocated in cxt, to a list. */
static List *
read_all(const char *sql, void *(*read) (RowReader *), MemoryContext cxt)
{
	List	   *result = NIL;
	int			rc = SPI_execute(sql, true, 0);

	if (rc != SPI_OK_SELECT)
		elog(ERROR, "could not read weir's catalog: %s", SPI_result_code_string(rc));
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		RowReader	row = {SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 0};
		MemoryContext old = MemoryContextSwitchTo(cxt);

		result = lappend(result, read(&row));
		MemoryContextSwitchTo(old);
	}
	return result;
}

static void *
read_stream_row(RowReader *row)
{
	return read_stream(row);
}

static void *
read_view_row(RowReader *row)
{
	return read_view(row);
}

static View *
find_view(List *views, Oid relid)
{
	ListCell   *lc;

	foreach(lc, views)
	{
		if (((View *) lfirst(lc))->relid == relid)
			return lfirst(lc);
	}
	return NULL;
}

/* Of what weir.view_def calls streams, some may be views. */
static void
split_sources(CatalogCache *new_cache, MemoryContext cxt)
{
	MemoryContext old = MemoryContextSwitchTo(cxt);
	ListCell   *lc,
			   *ls;

	foreach(lc, new_cache->views)
	{
		View	   *view = lfirst(lc);
		List	   *streams = NIL;

		foreach(ls, view->streams)
		{
			if (find_view(new_cache->views, lfirst_oid(ls)))
				view->upstreams = lappend_oid(view->upstreams, lfirst_oid(ls));
			else
				streams = lappend_oid(streams, lfirst_oid(ls));
		}
		view->streams = streams;
	}
	MemoryContextSwitchTo(old);
}

static CatalogCache *
load_cache(void)
{
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext,
											  "weir catalog cache", ALLOCSET_SMALL_SIZES);
	CatalogCache *new_cache = MemoryContextAllocZero(cxt, sizeof(CatalogCache));
	CatalogScope scope;

	new_cache->cxt = cxt;
	new_cache->generation = weir_generation();
	new_cache->recovery = RecoveryInProgress();
	if (!weir_installed())
		return new_cache;

	weir_catalog_open(&scope);
	PushActiveSnapshot(GetLatestSnapshot());
	new_cache->streams =
		read_all("SELECT s.stream, s.rows, c.relowner, c.relpersistence = 'p', s.server, s.topics, s.topics_seen,"
				 " s.format, s.start, s.event_time, s.time_unit, s.lateness, s.idle_timeout,"
				 " s.max_clock_skew, s.late = 'keep', s.keep, s.isolation = 'read_committed',"
				 " s.paused, s.error"
				 " FROM weir.stream_def s JOIN pg_catalog.pg_class c ON c.oid = s.stream"
				 " ORDER BY s.stream::oid", read_stream_row, cxt);
	new_cache->views =
		read_all("SELECT v.view, v.query, v.state, v.distinct_values, c.relowner, v.streams, v.emit, v.strategy,"
				 " v.lateness, v.keep, v.keep_column, v.settings,"
				 " (SELECT pg_catalog.array_agg(p.stream) FROM weir.view_position p"
				 "   WHERE p.view = v.view AND p.partition = -1), v.join_reach::text, v.close_shift::text, v.unmatched, v.closes::text, v.instants::text, v.replaces::oid::text, v.start, v.status, v.error"
				 " FROM weir.view_def v JOIN pg_catalog.pg_class c ON c.oid = v.view"
				 " ORDER BY v.view::oid", read_view_row, cxt);
	PopActiveSnapshot();
	weir_catalog_close(&scope);
	split_sources(new_cache, cxt);
	return new_cache;
}

static CatalogCache *
current_cache(void)
{
	CatalogCache *new_cache;

	if (cache != NULL && !cache_stale && cache->generation == weir_generation())
		return cache;

	/*
	 * A load that is invalidated while it runs (the flag is raised again) is
	 * used once and read again at the next call.
	 */
	cache_stale = false;
	new_cache = load_cache();
	MemoryContextSetParent(new_cache->cxt, TopMemoryContext);
	if (cache != NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		retired = lappend(retired, cache->cxt);
		MemoryContextSwitchTo(old);
	}
	cache = new_cache;
	loads++;
	return cache;
}

uint64
weir_cache_version(void)
{
	(void) current_cache();
	return loads;
}

Stream *
weir_stream_get(Oid relid)
{
	ListCell   *lc;

	foreach(lc, current_cache()->streams)
	{
		Stream	   *stream = lfirst(lc);

		if (stream->relid == relid)
			return stream;
	}
	return NULL;
}

Stream *
weir_stream_require(Oid relid)
{
	Stream	   *stream = weir_stream_get(relid);

	if (stream == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("%s is not a stream", weir_relation_name(relid)),
				 errhint("Streams are listed in weir.streams.")));
	return stream;
}

List *
weir_stream_oids(void)
{
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, current_cache()->streams)
		result = lappend_oid(result, ((Stream *) lfirst(lc))->relid);
	return result;
}

View *
weir_view_get(Oid relid)
{
	return find_view(current_cache()->views, relid);
}

View *
weir_view_lock(Oid relid)
{
	LockRelationOid(relid, RowExclusiveLock);
	if (SearchSysCacheExists1(RELOID, ObjectIdGetDatum(relid)))
		return weir_view_get(relid);
	UnlockRelationOid(relid, RowExclusiveLock);
	return NULL;
}

View *
weir_view_require(Oid relid)
{
	View	   *view = weir_view_get(relid);

	if (view == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("%s is not a continuous view", weir_relation_name(relid)),
				 errhint("Continuous views are listed in weir.views.")));
	return view;
}

List *
weir_view_oids(void)
{
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, current_cache()->views)
		result = lappend_oid(result, ((View *) lfirst(lc))->relid);
	return result;
}

List *
weir_view_oids_of_stream(Oid stream)
{
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, current_cache()->views)
	{
		View	   *view = lfirst(lc);

		if (list_member_oid(view->streams, stream))
			result = lappend_oid(result, view->relid);
	}
	return result;
}

List *
weir_view_oids_above(Oid relid)
{
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, current_cache()->views)
	{
		View	   *view = lfirst(lc);

		if (list_member_oid(view->upstreams, relid))
			result = lappend_oid(result, view->relid);
	}
	return result;
}

List *
weir_view_oids_over(Oid stream)
{
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, current_cache()->views)
	{
		View	   *view = lfirst(lc);

		if (list_member_oid(weir_view_base_streams(view), stream))
			result = lappend_oid(result, view->relid);
	}
	return result;
}

int
weir_view_depth(View *view)
{
	int			depth = 0;
	ListCell   *lc;

	check_stack_depth();
	foreach(lc, view->upstreams)
	{
		View	   *below = weir_view_get(lfirst_oid(lc));

		if (below)
			depth = Max(depth, 1 + weir_view_depth(below));
	}
	return depth;
}

List *
weir_view_base_streams(View *view)
{
	List	   *result = list_copy(view->streams);
	ListCell   *lc;

	check_stack_depth();
	foreach(lc, view->upstreams)
	{
		View	   *below = weir_view_get(lfirst_oid(lc));

		if (below)
			result = list_concat_unique_oid(result, weir_view_base_streams(below));
	}
	list_sort(result, list_oid_cmp);
	return result;
}

/* Updates one text-or-null pair of a catalog row; bind parameters only. */
static void
exec_with_texts(const char *sql, Oid relid, const char *first, const char *second)
{
	CatalogScope scope;
	Oid			types[3] = {REGCLASSOID, TEXTOID, TEXTOID};
	Datum		values[3];
	char		nulls[3] = {' ', ' ', ' '};
	int			rc;

	weir_catalog_open(&scope);
	values[0] = ObjectIdGetDatum(relid);
	values[1] = first ? CStringGetTextDatum(first) : (Datum) 0;
	values[2] = second ? CStringGetTextDatum(second) : (Datum) 0;
	nulls[1] = first ? ' ' : 'n';
	nulls[2] = second ? ' ' : 'n';
	rc = SPI_execute_with_args(sql, 3, types, values, nulls, false, 0);
	if (rc < 0)
		elog(ERROR, "SPI_execute_with_args failed: %s", SPI_result_code_string(rc));
	weir_catalog_close(&scope);
}

void
weir_stream_set_error(Oid relid, const char *message)
{
	exec_with_texts("UPDATE weir.stream_def SET error = $2"
					" WHERE stream = $1 AND error IS DISTINCT FROM $2 AND $3::text IS NULL",
					relid, message, NULL);
}

void
weir_view_set_status(Oid relid, ViewStatus status, const char *error)
{
	static const char *const names[] = {"running", "paused", "failed"};

	exec_with_texts("UPDATE weir.view_def SET status = $2, error = $3 WHERE view = $1",
					relid, names[status], error);
}
