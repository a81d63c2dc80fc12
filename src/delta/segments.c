/*
 * segments.c
 *	  The rows a stream keeps, in child tables by event time.
 *
 * delta ⇒ segments. Runs in the batch's transaction: in a worker, or in the
 * session that inserts.
 *
 * orders <- weir.rows_N (adds the hidden columns, always empty) <- segments.
 * A segment holds the rows of [lo, hi) of event time, a quarter of weir.keep.
 * It expires as a whole once hi is weir.keep behind the stream's highest event
 * time: it is truncated and free for reuse. So expiry costs the same however
 * many rows there are, and a stream keeps between 1 and 1.25 times weir.keep.
 *
 * Two sessions that need a segment for the same interval may each take one:
 * several segments of one interval are right, and nobody waits. A free segment is
 * claimed by locking its row in weir.segment, skipping locked ones. Only if there is no free
 * one a table is created, which holds ShareUpdateExclusive on weir.rows_N
 * until commit. Expiry needs AccessExclusive on the segment; it is only tried,
 * never waited for, and only by workers, whose transactions are short.
 *
 * Rows of tables in schema weir are written as their owner: the user's rights on the stream were checked there.
 */
#include "delta/segments.h"

#include "access/attmap.h"
#include "access/genam.h"
#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/catalog.h"
#include "catalog/dependency.h"
#include "catalog/index.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "commands/sequence.h"
#include "commands/tablecmds.h"
#include "compat.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "parser/parse_utilcmd.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "view/close.h"
#include "view/watermark.h"

#define SEGMENTS_PER_KEEP	4	/* a quarter more than weir.keep is kept at most */
#define FIRST_SEGMENTS		6	/* made with the stream: 5 in use, 1 being emptied */
#define MIN_SEGMENT_WIDTH	USECS_PER_SEC
#define WRITE_BATCH			256 /* rows per table_multi_insert */

/* ---- making and finding segments ---- */

/* The child goes with the parent; PostgreSQL's own choice would ask for CASCADE. */
static void
depend_automatically(Oid child, Oid parent)
{
	ObjectAddress child_address,
				parent_address;

	ObjectAddressSet(child_address, RelationRelationId, child);
	ObjectAddressSet(parent_address, RelationRelationId, parent);
	deleteDependencyRecordsForClass(RelationRelationId, child,
									RelationRelationId, DEPENDENCY_NORMAL);
	recordDependencyOn(&child_address, &parent_address, DEPENDENCY_AUTO);
}

static Oid
create_child(Oid parent, const char *name, const char *columns, char persistence, Oid owner)
{
	char	   *quiet = pstrdup(GetConfigOption("client_min_messages", false, false));
	Oid			child;

	(void) set_config_option("client_min_messages", "warning", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	weir_catalog_exec("CREATE %s TABLE weir.%s (%s) INHERITS (%s) USING heap",
					  persistence == RELPERSISTENCE_UNLOGGED ? "UNLOGGED" : "",
					  quote_identifier(name), columns, weir_relation_name(parent));
	(void) set_config_option("client_min_messages", quiet, PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	child = get_relname_relid(name, weir_schema_oid());
	depend_automatically(child, parent);
	if (weir_compat_relation_owner(child) != owner)
		ATExecChangeOwner(child, owner, true, AccessExclusiveLock);
	CommandCounterIncrement();
	return child;
}

/*
 * clone_index makes on a segment the index that the stream has; it depends on
 * the stream's index, so that DROP INDEX takes it along.
 */
static void
clone_index(Oid index, Oid stream, Oid segment)
{
	Relation	parent = table_open(stream, NoLock);
	Relation	child = table_open(segment, ShareLock);
	Relation	source = index_open(index, AccessShareLock);
	AttrMap    *attmap;
	IndexStmt  *stmt;
	Oid			constraint;
	Oid			result;
	ObjectAddress child_address,
				parent_address;

	attmap = weir_compat_attrmap_by_name(RelationGetDescr(child), RelationGetDescr(parent));
	stmt = generateClonedIndexStmt(NULL, source, attmap, &constraint);
	result = weir_compat_define_index(segment, stmt);
	ObjectAddressSet(child_address, RelationRelationId, result);
	ObjectAddressSet(parent_address, RelationRelationId, index);
	recordDependencyOn(&child_address, &parent_address, DEPENDENCY_AUTO);
	index_close(source, AccessShareLock);
	table_close(child, NoLock);
	table_close(parent, NoLock);
	CommandCounterIncrement();
}

/* The index of weir.rows_N on event time, or InvalidOid. */
static Oid
time_index(Oid rows)
{
	AttrNumber	column = get_attnum(rows, WEIR_COL_EVENT_TIME);
	Relation	rel = table_open(rows, NoLock);
	Oid			result = InvalidOid;
	ListCell   *lc;

	foreach(lc, RelationGetIndexList(rel))
	{
		Relation	index = index_open(lfirst_oid(lc), AccessShareLock);

		if (index->rd_index->indkey.values[0] == column)
			result = lfirst_oid(lc);
		index_close(index, AccessShareLock);
	}
	table_close(rel, NoLock);
	return result;
}

/* A new, free segment; inside an open catalog scope. */
static Oid
create_segment(Oid stream, Oid rows)
{
	Oid			segment;
	char	   *name;
	Relation	rel;
	List	   *indexes;
	ListCell   *lc;

	/* a number that no other session has, so that two may make segments at once */
	name = psprintf("segment_%u_" INT64_FORMAT, stream,
					nextval_internal(get_relname_relid("arrival", weir_schema_oid()), false));
	segment = create_child(rows, name, "", get_rel_persistence(stream), weir_compat_relation_owner(stream));
	rel = table_open(stream, NoLock);
	indexes = RelationGetIndexList(rel);
	table_close(rel, NoLock);
	foreach(lc, indexes)
		clone_index(lfirst_oid(lc), stream, segment);
	if (OidIsValid(time_index(rows)))
		clone_index(time_index(rows), rows, segment);
	weir_catalog_exec("INSERT INTO weir.segment (stream, segment) VALUES (%u, %u)",
					  stream, segment);
	return segment;
}

Oid
weir_segments_create_parent(Oid stream, bool keeps_rows)
{
	CatalogScope scope;
	Oid			rows;

	weir_catalog_open(&scope);
	rows = create_child(stream, psprintf("rows_%u", stream),
						WEIR_COL_PARTITION " pg_catalog.int4, "
						WEIR_COL_OFFSET " pg_catalog.int8, "
						WEIR_COL_EVENT_TIME " pg_catalog.timestamptz, "
						WEIR_COL_STREAM_TIME " pg_catalog.timestamptz",
						get_rel_persistence(stream), weir_compat_relation_owner(stream));
	for (int i = 0; keeps_rows && i < FIRST_SEGMENTS; i++)
		create_segment(stream, rows);
	weir_catalog_close(&scope);
	return rows;
}

List *
weir_segments_all(Oid stream)
{
	List	   *all = find_all_inheritors(stream, NoLock, NULL);

	return list_delete_oid(all, stream);
}

void
weir_segments_clone_index(Oid stream, Oid index)
{
	CatalogScope scope;
	ListCell   *lc;

	weir_catalog_open(&scope);
	foreach(lc, weir_segments_all(stream))
		clone_index(index, stream, lfirst_oid(lc));
	weir_catalog_close(&scope);
}

/*
 * weir_segments_index_time makes an index on event time, unless there is one, for views that
 * read the kept rows of a window. The caller holds Share on the stream. That of
 * weir.rows_N tells that new segments get one.
 */
void
weir_segments_index_time(Stream *stream)
{
	CatalogScope scope;
	Oid			index;
	ListCell   *lc;

	LockRelationOid(stream->rows_relid, ShareLock);
	if (OidIsValid(time_index(stream->rows_relid)))
		return;
	weir_catalog_open(&scope);
	weir_catalog_exec("CREATE INDEX ON %s (" WEIR_COL_EVENT_TIME ")", weir_relation_name(stream->rows_relid));
	CommandCounterIncrement();
	index = time_index(stream->rows_relid);
	foreach(lc, weir_segments_all(stream->relid))
	{
		if (lfirst_oid(lc) != stream->rows_relid)
			clone_index(index, stream->rows_relid, lfirst_oid(lc));
	}
	weir_catalog_close(&scope);
}

/* ---- intervals ---- */

int64
weir_segments_width(Stream *stream)
{
	return Max(weir_span_length(stream->keep) / SEGMENTS_PER_KEEP, MIN_SEGMENT_WIDTH);
}

/* Start of the interval that an event time falls into, aligned to the epoch of timestamps. */
TimestampTz
weir_segments_start(TimestampTz event_time, int64 width)
{
	int64		rest = event_time % width;

	return event_time - (rest < 0 ? rest + width : rest);
}

/* Rows with an event time below this need not be kept. */
static TimestampTz
keep_from(Stream *stream, TimestampTz stream_time)
{
	TimestampTz from;

	if (stream_time == DT_NOBEGIN)
		return DT_NOBEGIN;
	from = weir_time_plus(stream_time, stream->keep, -1);
	return Min(from, Min(weir_close_needs_from(stream->relid), weir_join_needs_from(stream->relid)));
}

/* weir_segments_query_time returns one timestamptz result of a query over $1 = stream; DT_NOBEGIN if null. Inside a scope. */
TimestampTz
weir_segments_query_time(const char *sql, Oid stream)
{
	Oid			types[1] = {OIDOID};
	Datum		values[1] = {ObjectIdGetDatum(stream)};
	bool		isnull = true;
	Datum		value = (Datum) 0;

	PushActiveSnapshot(GetLatestSnapshot());
	if (SPI_execute_with_args(sql, 1, types, values, NULL, true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read weir's catalog");
	PopActiveSnapshot();
	if (SPI_processed == 1)
		value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	return isnull ? DT_NOBEGIN : DatumGetTimestampTz(value);
}

/*
 * weir_segments_stream_time: the positions know it for topics; for INSERTed
 * rows the youngest segment does, to its width.
 */
TimestampTz
weir_segments_stream_time(Stream *stream)
{
	CatalogScope scope;
	TimestampTz of_topics,
				of_segments;

	weir_catalog_open(&scope);
	of_topics = weir_segments_query_time("SELECT max(stream_time) FROM weir.position WHERE stream = $1",
						   stream->relid);
	of_segments = weir_segments_query_time("SELECT max(lo) FROM weir.segment WHERE stream = $1",
							 stream->relid);
	weir_catalog_close(&scope);
	return Max(of_topics, of_segments);
}

/* ---- claiming ---- */

/* A segment in use, open for writing in this transaction. */
typedef struct SegmentWriter
{
	TimestampTz lo,
				hi;
	Relation	rel;
	EState	   *estate;
	ResultRelInfo *result;
	int		   *from_delta;		/* place in the delta of each of its columns; -1: dropped */
	BulkInsertState bistate;
	TupleTableSlot **slots;
	int			nslots;			/* filled */
	int			mslots;			/* made */
} SegmentWriter;

/* Finds the segment of [lo, hi), claims a free one, or makes one. */
Oid
weir_segments_claim(Stream *stream, TimestampTz lo, TimestampTz hi)
{
	CatalogScope scope;
	Oid			types[3] = {OIDOID, TIMESTAMPTZOID, TIMESTAMPTZOID};
	Datum		values[3] = {ObjectIdGetDatum(stream->relid),
	TimestampTzGetDatum(lo), TimestampTzGetDatum(hi)};
	Oid			segment = InvalidOid;
	bool		isnull;

	weir_catalog_open(&scope);
	PushActiveSnapshot(GetLatestSnapshot());
	SPI_execute_with_args("SELECT segment FROM weir.segment"
						  " WHERE stream = $1 AND lo = $2 AND hi = $3 ORDER BY segment::oid",
						  3, types, values, NULL, true, 1);
	PopActiveSnapshot();
	if (SPI_processed == 0)
		SPI_execute_with_args("UPDATE weir.segment SET lo = $2, hi = $3"
							  " WHERE segment = (SELECT segment FROM weir.segment"
							  "   WHERE stream = $1 AND lo IS NULL"
							  "   LIMIT 1 FOR UPDATE SKIP LOCKED)"
							  " RETURNING segment", 3, types, values, NULL, false, 0);
	if (SPI_processed == 1)
		segment = DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[0],
												 SPI_tuptable->tupdesc, 1, &isnull));
	else
	{
		segment = create_segment(stream->relid, stream->rows_relid);
		SPI_execute_with_args("UPDATE weir.segment SET lo = $2, hi = $3 WHERE segment = $4::oid"
							  " AND stream = $1", 4,
							  (Oid[]) {OIDOID, TIMESTAMPTZOID, TIMESTAMPTZOID, OIDOID},
							  (Datum[]) {values[0], values[1], values[2],
		ObjectIdGetDatum(segment)}, NULL, false, 0);
	}
	weir_catalog_close(&scope);
	return segment;
}

/* ---- writing ---- */

static SegmentWriter *
open_writer(Stream *stream, Delta *delta, TimestampTz lo, TimestampTz hi)
{
	SegmentWriter *writer = palloc0(sizeof(SegmentWriter));
	TupleDesc	desc;

	writer->lo = lo;
	writer->hi = hi;
	writer->rel = table_open(weir_segments_claim(stream, lo, hi), RowExclusiveLock);
	writer->estate = CreateExecutorState();
	writer->result = makeNode(ResultRelInfo);
	InitResultRelInfo(writer->result, writer->rel, 0, NULL, 0);
	ExecOpenIndices(writer->result, false);
	writer->bistate = GetBulkInsertState();
	writer->slots = palloc0(sizeof(TupleTableSlot *) * WRITE_BATCH);

	desc = RelationGetDescr(writer->rel);
	writer->from_delta = palloc(sizeof(int) * desc->natts);
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		writer->from_delta[i] = -1;
		for (int j = 0; j < delta->desc->natts && !att->attisdropped; j++)
		{
			if (namestrcmp(&att->attname, NameStr(TupleDescAttr(delta->desc, j)->attname)) == 0)
				writer->from_delta[i] = j;
		}
	}
	return writer;
}

static void
flush_writer(SegmentWriter *writer)
{
	if (writer->nslots == 0)
		return;
	table_multi_insert(writer->rel, writer->slots, writer->nslots,
					   GetCurrentCommandId(true), 0, writer->bistate);
	for (int i = 0; i < writer->nslots; i++)
	{
		if (writer->result->ri_NumIndices > 0)
		{
			List	   *recheck = weir_compat_insert_index_tuples(writer->result,
																  writer->slots[i],
																  writer->estate);

			list_free(recheck);
			ResetPerTupleExprContext(writer->estate);
		}
		ExecClearTuple(writer->slots[i]);
	}
	writer->nslots = 0;
}

static void
close_writer(SegmentWriter *writer)
{
	flush_writer(writer);
	table_finish_bulk_insert(writer->rel, 0);
	FreeBulkInsertState(writer->bistate);
	for (int i = 0; i < writer->mslots; i++)
		ExecDropSingleTupleTableSlot(writer->slots[i]);
	ExecCloseIndices(writer->result);
	table_close(writer->rel, NoLock);
	FreeExecutorState(writer->estate);
}

/*
 * write_row puts one row of the delta into the writer's next slot. stable:
 * the row's values live as long as the delta, so that they need no copy.
 */
static void
write_row(SegmentWriter *writer, const Datum *values, const bool *isnull, bool stable)
{
	TupleDesc	desc = RelationGetDescr(writer->rel);
	TupleTableSlot *slot;

	if (writer->nslots == writer->mslots)
		writer->slots[writer->mslots++] = table_slot_create(writer->rel, NULL);
	slot = writer->slots[writer->nslots++];
	ExecClearTuple(slot);
	for (int i = 0; i < desc->natts; i++)
	{
		int			from = writer->from_delta[i];

		slot->tts_values[i] = from < 0 ? (Datum) 0 : values[from];
		slot->tts_isnull[i] = from < 0 ? true : isnull[from];
	}
	ExecStoreVirtualTuple(slot);
	if (!stable)
		ExecMaterializeSlot(slot);
	if (writer->nslots == WRITE_BATCH)
		flush_writer(writer);
}

static SegmentWriter *
writer_for(List **writers, Stream *stream, Delta *delta, TimestampTz event_time, int64 width)
{
	SegmentWriter *writer;
	TimestampTz lo;
	ListCell   *lc;

	foreach(lc, *writers)
	{
		writer = lfirst(lc);
		if (event_time >= writer->lo && event_time < writer->hi)
			return writer;
	}
	lo = weir_segments_start(event_time, width);
	writer = open_writer(stream, delta, lo, lo + width);
	*writers = lappend(*writers, writer);
	return writer;
}

void
weir_segments_keep(Stream *stream, Delta *delta, bool may_expire)
{
	TimestampTz from;
	int64		width;
	DeltaCursor cursor;
	Datum	   *values;
	bool	   *isnull;
	TimestampTz missing = DT_NOBEGIN;	/* latest event time of a row that is not kept */
	List	   *writers = NIL;
	ListCell   *lc;

	if (!stream->keeps_rows || delta->nrows == 0)
		return;
	from = keep_from(stream, Max(delta->stream_time, weir_segments_stream_time(stream)));
	width = weir_segments_width(stream);
	weir_delta_open(&cursor, delta);
	while (weir_delta_next(&cursor, &values, &isnull))
	{
		TimestampTz event_time = DatumGetTimestampTz(values[delta->ndeclared + 2]);

		if (event_time >= from)
			write_row(writer_for(&writers, stream, delta, event_time, width),
					  values, isnull, weir_delta_in_memory(delta));
		else
			missing = Max(missing, event_time);
		CHECK_FOR_INTERRUPTS();
	}
	if (missing != DT_NOBEGIN)
	{
		delta->partly_kept = true;
		delta->kept_from = from;
		delta->whole_since = weir_segments_whole_since(stream);
		weir_segments_missing(stream->relid, missing + 1);
	}
	foreach(lc, writers)
		close_writer(lfirst(lc));
	weir_delta_close(&cursor);
	CommandCounterIncrement();
	if (may_expire)
		weir_segments_expire(stream);
}

/* ---- expiry ---- */

/* Segments of a stream that qualify, as OIDs; inside a scope. */
List *
weir_segments_list(Oid stream, const char *condition, TimestampTz limit)
{
	List	   *result = NIL;
	Oid			types[2] = {OIDOID, TIMESTAMPTZOID};
	Datum		values[2] = {ObjectIdGetDatum(stream), TimestampTzGetDatum(limit)};
	bool		isnull;

	PushActiveSnapshot(GetLatestSnapshot());
	SPI_execute_with_args(psprintf("SELECT segment FROM weir.segment"
								   " WHERE stream = $1 AND (%s) AND $2 IS NOT NULL"
								   " ORDER BY segment::oid", condition),
						  2, types, values, NULL, true, 0);
	PopActiveSnapshot();
	for (uint64 i = 0; i < SPI_processed; i++)
		result = lappend_oid(result,
							 DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[i],
															SPI_tuptable->tupdesc, 1, &isnull)));
	return result;
}

/* weir_segments_missing notes that rows with an event time before until may not be there. */
void
weir_segments_missing(Oid stream, TimestampTz until)
{
	CatalogScope scope;
	Oid			types[2] = {REGCLASSOID, TIMESTAMPTZOID};
	Datum		values[2] = {ObjectIdGetDatum(stream), TimestampTzGetDatum(until)};

	weir_catalog_open(&scope);
	if (SPI_execute_with_args("INSERT INTO weir.kept AS k VALUES ($1, $2) ON CONFLICT (stream)"
							  " DO UPDATE SET since = excluded.since WHERE k.since < excluded.since",
							  2, types, values, NULL, false, 0) != SPI_OK_INSERT)
		elog(ERROR, "could not update weir.kept");
	weir_catalog_close(&scope);
}

/* weir_segments_whole_since tells from which event time on all rows are there; DT_NOBEGIN: all that ever came. */
TimestampTz
weir_segments_whole_since(Stream *stream)
{
	CatalogScope scope;
	TimestampTz since;

	weir_catalog_open(&scope);
	since = weir_segments_query_time("SELECT since FROM weir.kept WHERE stream = $1", stream->relid);
	weir_catalog_close(&scope);
	return since;
}

static TimestampTz
segment_end(Oid segment)
{
	return weir_segments_query_time("SELECT hi FROM weir.segment WHERE segment = $1", segment);
}

void
weir_segments_empty(Oid segment)
{
	weir_catalog_exec("TRUNCATE ONLY %s", weir_relation_name(segment));
	weir_catalog_exec("UPDATE weir.segment SET lo = NULL, hi = NULL WHERE segment = %u", segment);
}

/* Empties what ends before from, and splits segments that became too wide. */
static void
expire_before(Stream *stream, TimestampTz from)
{
	CatalogScope scope;
	ListCell   *lc;

	weir_catalog_open(&scope);
	foreach(lc, weir_segments_list(stream->relid, "hi <= $2", from))
	{
		/* readers come first: the next batch tries again */
		if (ConditionalLockRelationOid(lfirst_oid(lc), AccessExclusiveLock))
		{
			weir_segments_missing(stream->relid, segment_end(lfirst_oid(lc)));
			weir_segments_empty(lfirst_oid(lc));
		}
	}
	weir_segments_narrow(stream, from);
	weir_catalog_close(&scope);
}

void
weir_segments_expire(Stream *stream)
{
	TimestampTz stream_time = weir_segments_stream_time(stream);

	if (stream_time != DT_NOBEGIN)
		expire_before(stream, stream->keeps_rows ? keep_from(stream, stream_time) : DT_NOEND);
}

void
weir_segments_shrunk(Stream *stream)
{
	CatalogScope scope;
	TimestampTz newest;

	weir_catalog_open(&scope);
	newest = weir_segments_query_time(psprintf("SELECT max(" WEIR_COL_EVENT_TIME ") FROM %s WHERE $1 IS NOT NULL",
											   weir_relation_name(stream->rows_relid)), stream->relid);
	weir_catalog_close(&scope);
	if (newest != DT_NOBEGIN)
		expire_before(stream, stream->keeps_rows ? keep_from(stream, newest) : DT_NOEND);
}

/* ---- reading ---- */

Delta *
weir_segments_read(Stream *stream, const char *qual)
{
	Relation	rel = table_open(stream->relid, AccessShareLock);
	Delta	   *delta = weir_delta_create(rel, work_mem);
	StringInfoData sql;
	CatalogScope scope;

	initStringInfo(&sql);
	appendStringInfoString(&sql, "SELECT ");
	for (int i = 0; i < delta->desc->natts; i++)
		appendStringInfo(&sql, "%s%s", i ? ", " : "",
						 quote_identifier(NameStr(TupleDescAttr(delta->desc, i)->attname)));
	appendStringInfo(&sql, " FROM %s%s%s ORDER BY %s, %s",
					 weir_relation_name(stream->rows_relid),
					 qual ? " WHERE " : "", qual ? qual : "",
					 WEIR_COL_PARTITION, WEIR_COL_OFFSET);

	weir_catalog_open(&scope);
	weir_delta_put_query(delta, sql.data, false, stream->name);
	weir_catalog_close(&scope);
	table_close(rel, NoLock);
	return delta;
}
