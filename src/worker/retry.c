/*
 * retry.c
 *	  weir.retry(): dead letters of a stream are applied again.
 *
 * Runs in a session, one transaction, with ShareRowExclusive on the stream
 * (a worker's batch and this would lock the views' rows in different orders).
 * Each letter runs in a subtransaction of its own: decoded, kept, applied to the views (or, if it
 * was one view that refused it, to that view), and deleted; or rolled back, and the letter stays.
 *
 * All views must follow the stream: one that catches up on its own would miss
 * the message, or get it twice.
 */
#include "weir.h"

#include "access/xact.h"
#include "catalog/catalog.h"
#include "catalog/stream.h"
#include "catalog/view.h"
#include "compat.h"
#include "delta/ingest.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"
#include "worker/positions.h"
#include "worker/shared.h"

#define LETTERS_AT_ONCE 100		/* in memory */

PG_FUNCTION_INFO_V1(weir_retry);

typedef struct Letter
{
	int64		id;
	Oid			view;			/* InvalidOid: it could not be decoded */
	WeirMessage msg;
} Letter;

/* A bytea column as bytes of a message; NULL stays NULL. */
static const char *
bytes_field(HeapTuple row, int column, size_t *len)
{
	bool		isnull;
	Datum		value = SPI_getbinval(row, SPI_tuptable->tupdesc, column, &isnull);
	bytea	   *bytes;
	char	   *copy;

	*len = 0;
	if (isnull)
		return NULL;
	bytes = DatumGetByteaPP(value);
	*len = VARSIZE_ANY_EXHDR(bytes);
	copy = palloc(*len + 1);
	memcpy(copy, VARDATA_ANY(bytes), *len);
	copy[*len] = '\0';
	return copy;
}

static int64
number_field(HeapTuple row, int column, int64 if_null)
{
	bool		isnull;
	Datum		value = SPI_getbinval(row, SPI_tuptable->tupdesc, column, &isnull);

	return isnull ? if_null : DatumGetInt64(value);
}

static Letter *
read_letter(HeapTuple row)
{
	Letter	   *letter = palloc0(sizeof(Letter));
	WeirMessage *msg = &letter->msg;
	char	   *topic = SPI_getvalue(row, SPI_tuptable->tupdesc, 3);

	letter->id = number_field(row, 1, 0);
	letter->view = (Oid) number_field(row, 2, InvalidOid);
	msg->topic = topic ? topic : "";
	msg->partition = (int32) number_field(row, 4, WEIR_INSERT_PARTITION);
	msg->offset = number_field(row, 5, 0);
	msg->timestamp_ms = number_field(row, 6, -1);
	msg->key = bytes_field(row, 7, &msg->key_len);
	msg->value = bytes_field(row, 8, &msg->value_len);
	return letter;
}

/* Gives a letter its message's headers back. */
static void
read_headers(Letter *letter, MemoryContext cxt)
{
	WeirHeader *headers;

	weir_catalog_exec("SELECT h.value ->> 'key', CASE WHEN h.value ? 'base64'"
					  " THEN pg_catalog.decode(h.value ->> 'base64', 'base64')"
					  " ELSE pg_catalog.convert_to(h.value ->> 'value', 'UTF8') END"
					  " FROM weir.dead_letter l,"
					  " pg_catalog.jsonb_array_elements(l.headers) WITH ORDINALITY h(value, n)"
					  " WHERE l.id = " INT64_FORMAT " ORDER BY h.n", letter->id);
	headers = MemoryContextAllocZero(cxt, sizeof(WeirHeader) * Max(SPI_processed, 1));
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		MemoryContext oldcxt = MemoryContextSwitchTo(cxt);

		headers[i].name = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1);
		headers[i].value = bytes_field(SPI_tuptable->vals[i], 2, &headers[i].value_len);
		MemoryContextSwitchTo(oldcxt);
	}
	letter->msg.headers = headers;
	letter->msg.nheaders = (int) SPI_processed;
}

/* The next letters behind an id, List of Letter*, in CurrentMemoryContext. */
static List *
read_letters(Stream *stream, int64 after, int64 last)
{
	MemoryContext cxt = CurrentMemoryContext;
	CatalogScope scope;
	List	   *letters = NIL;
	ListCell   *lc;

	weir_catalog_open(&scope);
	weir_catalog_exec("SELECT id, view::oid::int8, topic, partition::int8, \"offset\","
					  " pg_catalog.round(EXTRACT(epoch FROM \"timestamp\") * 1000)::int8, key, payload"
					  " FROM weir.dead_letter WHERE stream = %u AND id > " INT64_FORMAT
					  " AND id <= " INT64_FORMAT " AND topic IS NOT NULL"
					  " ORDER BY id LIMIT %d", stream->relid, after, last, LETTERS_AT_ONCE);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		MemoryContext oldcxt = MemoryContextSwitchTo(cxt);

		letters = lappend(letters, read_letter(SPI_tuptable->vals[i]));
		MemoryContextSwitchTo(oldcxt);
	}
	foreach(lc, letters)
		read_headers(lfirst(lc), cxt);
	weir_catalog_close(&scope);
	return letters;
}

static int64
query_id(const char *sql)
{
	CatalogScope scope;
	bool		isnull;
	int64		id = 0;

	weir_catalog_open(&scope);
	weir_catalog_exec("%s", sql);
	if (SPI_processed == 1)
	{
		Datum		value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);

		id = isnull ? 0 : DatumGetInt64(value);
	}
	weir_catalog_close(&scope);
	return id;
}

/* The highest event time so far of the letter's partition. */
static TimestampTz
stream_time_of(Stream *stream, const WeirMessage *msg)
{
	ListCell   *lc;

	foreach(lc, weir_positions_load(stream->relid))
	{
		SavedPosition *pos = lfirst(lc);

		if (pos->partition == msg->partition && strcmp(pos->topic, msg->topic) == 0)
			return pos->stream_time;
	}
	return DT_NOBEGIN;
}

/* Do all views follow the stream? Raises if not. */
static void
check_views(Stream *stream)
{
	List	   *detached = weir_positions_detached(stream->relid);
	Oid			bad = detached == NIL ? InvalidOid : ((DetachedView *) linitial(detached))->view;
	ListCell   *lc;

	foreach(lc, weir_view_oids_of_stream(stream->relid))
		if (weir_view_require(lfirst_oid(lc))->status != VIEW_RUNNING)
			bad = lfirst_oid(lc);
	if (OidIsValid(bad))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot retry: view %s does not follow stream %s now",
						weir_relation_name(bad), stream->name),
				 errhint("SELECT weir.resume('%s'); and weir.wait() first.", weir_relation_name(bad))));
}

/*
 * apply_letter applies one letter and deletes it; false: it failed again, or
 * made a view fail, and the caller has to roll back.
 */
static bool
apply_letter(Stream *stream, Letter *letter)
{
	BatchPartition part = {0};
	IngestTarget target = {0};
	IngestResult result = {0};
	CatalogScope scope;
	ListCell   *lc;
	bool		of_view = OidIsValid(letter->view);

	part.topic = letter->msg.topic;
	part.partition = letter->msg.partition;
	part.first_offset = letter->msg.offset;
	part.stream_time = stream_time_of(stream, &letter->msg);
	target.partitions = &part;
	target.npartitions = 1;
	target.keep_rows = !of_view;
	target.again = of_view;
	target.views = of_view ? list_make1_oid(letter->view) :
		list_copy(weir_view_oids_of_stream(stream->relid));
	weir_ingest_messages(stream, &letter->msg, 1, &target, &result);

	if (result.bad > 0 || result.rows == 0)
		return false;
	foreach(lc, target.views)
	{
		View	   *view = weir_view_get(lfirst_oid(lc));

		if (view == NULL || view->status != VIEW_RUNNING)
			return false;
	}
	if (of_view && query_id(psprintf("SELECT max(id) FROM weir.dead_letter WHERE view = %u", letter->view)) > letter->id &&
		query_id(psprintf("SELECT count(*) FROM weir.dead_letter WHERE view = %u AND topic = %s"
						  " AND partition = %d AND \"offset\" = " INT64_FORMAT, letter->view,
						  quote_literal_cstr(letter->msg.topic), letter->msg.partition,
						  (int64) letter->msg.offset)) > 1)
		return false;			/* it is a new dead letter of that view */
	weir_catalog_open(&scope);
	weir_catalog_exec("DELETE FROM weir.dead_letter WHERE id = " INT64_FORMAT, letter->id);
	weir_catalog_close(&scope);
	return true;
}

/* apply_letter in a subtransaction; errors that are not the letter's are raised on. */
static bool
try_letter(Stream *stream, Letter *letter)
{
	MemoryContext cxt = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool ok = false;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(cxt);
	PG_TRY();
	{
		ok = apply_letter(stream, letter);
		if (ok)
			ReleaseCurrentSubTransaction();
		else
			RollbackAndReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData  *edata;

		MemoryContextSwitchTo(cxt);
		edata = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		if (ERRCODE_TO_CATEGORY(edata->sqlerrcode) == ERRCODE_OPERATOR_INTERVENTION)
			ReThrowError(edata);
		ok = false;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(cxt);
	CurrentResourceOwner = owner;
	return ok;
}

/* weir.retry(stream regclass) → bigint: how many were applied */
Datum
weir_retry(PG_FUNCTION_ARGS)
{
	Oid			relid = PG_GETARG_OID(0);
	MemoryContext cxt = AllocSetContextCreate(CurrentMemoryContext, "weir retry", ALLOCSET_DEFAULT_SIZES);
	int64		applied = 0;
	int64		last_id = 0;
	int64		max_id;
	List	   *letters;

	weir_stream_require(relid);
	weir_check_owner(relid);
	LockRelationOid(relid, ShareRowExclusiveLock);
	check_views(weir_stream_require(relid));
	max_id = query_id(psprintf("SELECT max(id) FROM weir.dead_letter WHERE stream = %u", relid));
	do
	{
		MemoryContext oldcxt = MemoryContextSwitchTo(cxt);
		ListCell   *lc;

		letters = read_letters(weir_stream_require(relid), last_id, max_id);
		foreach(lc, letters)
		{
			Letter	   *letter = lfirst(lc);

			CHECK_FOR_INTERRUPTS();
			applied += try_letter(weir_stream_require(relid), letter);
			last_id = letter->id;
		}
		MemoryContextSwitchTo(oldcxt);
		if (letters != NIL)
			MemoryContextReset(cxt);
	} while (letters != NIL);
	MemoryContextDelete(cxt);
	PG_RETURN_INT64(applied);
}
