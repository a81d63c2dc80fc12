/*
 * seek.c
 *	  weir.seek(): moves a stream's positions, and with rebuild begins its views afresh from there.
 *
 * Runs in a session, one transaction, with ShareRowExclusive on the stream:
 * no batch and no INSERT is under way. The session asks the brokers itself. Workers see the
 * catalog's new generation, drop what they have in hand and start from the table.
 *
 * Each message counts once in any case: going back over messages that are in
 * the views is refused unless the views are emptied in the same transaction.
 */
#include "weir.h"

#include "catalog/catalog.h"
#include "catalog/stream.h"
#include "catalog/view.h"
#include "compat.h"
#include "delta/segments.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "source/kafka_client.h"
#include "source/kafka_options.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"
#include "view/apply.h"
#include "view/upstream.h"
#include "worker/positions.h"
#include "worker/shared.h"

#define ASK_TIMEOUT		10000	/* ms per question; interruptible */
#define ASKER_MEMORY	(1024 * 1024)

PG_FUNCTION_INFO_V1(weir_seek_text);
PG_FUNCTION_INFO_V1(weir_seek_time);
PG_FUNCTION_INFO_V1(weir_seek_offsets);

typedef enum TargetKind
{
	SEEK_EARLIEST,
	SEEK_LATEST,
	SEEK_TIME,
	SEEK_OFFSETS
} TargetKind;

typedef struct Target
{
	TargetKind	kind;
	TimestampTz time;
	char	   *offsets;		/* JSON text: {"partition": offset, ...} */
} Target;

/* A partition's new position. */
typedef struct Move
{
	char	   *topic;
	int32		partition;
	int64		from;			/* -1: it has no position yet */
	int64		to;
} Move;

typedef struct Seek
{
	Stream	   *stream;
	Target	   *target;
	KafkaConsumer *asker;
	List	   *saved;			/* of SavedPosition * */
	List	   *moves;			/* of Move * */
	char	   *error;			/* the brokers' */
	bool		backwards;
} Seek;

/*----------------------------------------------------------------------
 * Where to
 *----------------------------------------------------------------------*/

static int64
position_of(Seek *seek, const char *topic, int32 partition)
{
	ListCell   *lc;

	foreach(lc, seek->saved)
	{
		SavedPosition *pos = lfirst(lc);

		if (pos->partition == partition && strcmp(pos->topic, topic) == 0)
			return pos->next_offset;
	}
	return -1;
}

static void
add_move(Seek *seek, const char *topic, int32 partition, int64 to)
{
	Move	   *move = palloc(sizeof(Move));

	move->topic = pstrdup(topic);
	move->partition = partition;
	move->from = position_of(seek, topic, partition);
	move->to = to;
	seek->backwards |= to < move->from;
	seek->moves = lappend(seek->moves, move);
}

/* Adds the move of one partition to a target that is not given in offsets. False: seek->error. */
static bool
plan_partition(Seek *seek, const char *topic, int32 partition)
{
	int64		low,
				high,
				to;

	if (!weir_kafka_watermarks(seek->asker, topic, partition, &low, &high, ASK_TIMEOUT, &seek->error))
		return false;
	to = seek->target->kind == SEEK_LATEST ? high : low;
	if (seek->target->kind == SEEK_TIME &&
		!weir_kafka_offset_for_time(seek->asker, topic, partition, weir_epoch_ms(seek->target->time),
									&to, ASK_TIMEOUT, &seek->error))
		return false;
	add_move(seek, topic, partition, to);
	return true;
}

/* Plans the moves of all partitions of all topics. False: seek->error. */
static bool
plan_all(Seek *seek)
{
	for (int i = 0; i < seek->stream->ntopics; i++)
	{
		char	   *topic = seek->stream->topics[i];
		int			n = weir_kafka_partitions(seek->asker, topic, ASK_TIMEOUT, &seek->error);

		if (n < 0)
			return false;
		if (n == 0)
		{
			seek->error = psprintf("topic \"%s\" does not exist", topic);
			return false;
		}
		for (int32 p = 0; p < n; p++)
			if (!plan_partition(seek, topic, p))
				return false;
	}
	return true;
}

static void
bad_offsets(const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid offsets for weir.seek"),
			 errdetail("%s", detail),
			 errhint("Write {\"0\": 12, \"1\": 0}: partition and offset; with several topics {\"topic\": {\"0\": 12}}.")));
}

/* Reads {"partition": offset} or {"topic": {"partition": offset}} into moves. */
static void
parse_offsets(Seek *seek)
{
	MemoryContext cxt = CurrentMemoryContext;
	CatalogScope scope;
	const char *json = quote_literal_cstr(seek->target->offsets);

	weir_catalog_open(&scope);
	weir_catalog_exec("WITH o(topic, doc) AS ("
					  " SELECT NULL, %s::jsonb WHERE NOT EXISTS (SELECT FROM pg_catalog.jsonb_each(%s::jsonb)"
					  "   WHERE pg_catalog.jsonb_typeof(value) = 'object')"
					  " UNION ALL SELECT key, value FROM pg_catalog.jsonb_each(%s::jsonb)"
					  "   WHERE pg_catalog.jsonb_typeof(value) = 'object')"
					  " SELECT o.topic, e.key, e.value FROM o, pg_catalog.jsonb_each_text(o.doc) e",
					  json, json, json);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		HeapTuple	row = SPI_tuptable->vals[i];
		char	   *topic = SPI_getvalue(row, SPI_tuptable->tupdesc, 1);
		char	   *partition = SPI_getvalue(row, SPI_tuptable->tupdesc, 2);
		char	   *offset = SPI_getvalue(row, SPI_tuptable->tupdesc, 3);
		MemoryContext oldcxt;

		if (topic == NULL && seek->stream->ntopics > 1)
			bad_offsets("The stream has several topics.");
		if (strspn(partition, "0123456789") != strlen(partition) || strlen(partition) > 9 ||
			offset == NULL || strspn(offset, "0123456789") != strlen(offset) || offset[0] == '\0')
			bad_offsets(psprintf("\"%s\": %s is no partition and offset.", partition,
								 offset ? offset : "null"));
		oldcxt = MemoryContextSwitchTo(cxt);
		add_move(seek, topic ? topic : seek->stream->topics[0],
				 pg_strtoint32(partition), pg_strtoint64(offset));
		MemoryContextSwitchTo(oldcxt);
	}
	weir_catalog_close(&scope);
	if (seek->moves == NIL)
		bad_offsets("No partition is given.");
}

/* Sees that given offsets lie inside what the brokers have. False: seek->error. */
static bool
check_offsets(Seek *seek)
{
	ListCell   *lc;

	foreach(lc, seek->moves)
	{
		Move	   *move = lfirst(lc);
		int			n = weir_kafka_partitions(seek->asker, move->topic, ASK_TIMEOUT, &seek->error);
		int64		low,
					high;

		if (n < 0)
			return false;
		if (move->partition >= n)
		{
			seek->error = psprintf("topic \"%s\" has no partition %d", move->topic, move->partition);
			return false;
		}
		if (!weir_kafka_watermarks(seek->asker, move->topic, move->partition, &low, &high,
								   ASK_TIMEOUT, &seek->error))
			return false;
		if (move->to < low || move->to > high)
		{
			seek->error = psprintf("offset " INT64_FORMAT " of topic \"%s\", partition %d is not in the log, which goes from "
								   INT64_FORMAT " to " INT64_FORMAT,
								   move->to, move->topic, move->partition, low, high);
			return false;
		}
	}
	return true;
}

/*
 * With rebuild the views are emptied of all partitions: those that were not
 * named begin at their beginning. False: seek->error.
 */
static bool
plan_unnamed(Seek *seek)
{
	List	   *named = list_copy(seek->moves);
	ListCell   *lc;

	foreach(lc, seek->saved)
	{
		SavedPosition *pos = lfirst(lc);
		ListCell   *lc2;
		bool		found = false;

		foreach(lc2, named)
		{
			Move	   *move = lfirst(lc2);

			found |= move->partition == pos->partition && strcmp(move->topic, pos->topic) == 0;
		}
		if (!found && !plan_partition(seek, pos->topic, pos->partition))
			return false;
	}
	return true;
}

/* Asks the brokers and fills in the moves. */
static void
plan(Seek *seek, bool with_rebuild)
{
	List	   *options = weir_kafka_options(seek->stream->server, seek->stream->owner);
	volatile bool ok;

	if (seek->target->kind == SEEK_OFFSETS)
		parse_offsets(seek);
	seek->asker = weir_kafka_open(options, "weir", seek->stream->read_committed,
								  ASKER_MEMORY, &seek->error);
	ok = seek->asker != NULL;
	if (ok)
	{
		PG_TRY();
		{
			if (seek->target->kind == SEEK_OFFSETS)
				ok = check_offsets(seek) && (!with_rebuild || plan_unnamed(seek));
			else
				ok = plan_all(seek);
		}
		PG_FINALLY();
		{
			weir_kafka_close(seek->asker);
		}
		PG_END_TRY();
	}
	CHECK_FOR_INTERRUPTS();
	if (!ok)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot move stream %s", seek->stream->name),
				 errdetail("%s.", seek->error)));
}

/*----------------------------------------------------------------------
 * Moving
 *----------------------------------------------------------------------*/

/* Without rebuild: nothing that the views hold may come again, and none may be behind. */
static void
check_without_rebuild(Seek *seek)
{
	Stream	   *stream = seek->stream;
	List	   *detached = weir_positions_detached(stream->relid);

	if (weir_view_oids_of_stream(stream->relid) == NIL)
		return;
	if (seek->backwards)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot move stream %s backwards: its messages are in continuous views already",
						stream->name),
				 errhint("Add rebuild => true to empty the views and the kept rows and build them afresh from there.")));
	if (detached != NIL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot move stream %s: view %s has not caught up with it", stream->name,
						weir_relation_name(((DetachedView *) linitial(detached))->view)),
				 errhint("Resume the view and wait with weir.wait(), or add rebuild => true.")));
}

/* Empties a view; the INSERTed rows among the kept ones are applied again. */
static void
rebuild_view(Stream *stream, Oid relid)
{
	View	   *view = weir_view_require(relid);
	Delta	   *delta;

	if (list_length(view->streams) > 1)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot rebuild view %s from stream %s alone", view->name, stream->name),
				 errdetail("The view reads other streams, too."),
				 errhint("Drop the view, move the streams, and create it again.")));
	weir_view_reset(view);
	if (view->status == VIEW_FAILED)
		weir_view_set_status(relid, VIEW_RUNNING, NULL);
	view = weir_view_require(relid);
	if (!stream->keeps_rows || view->status != VIEW_RUNNING ||
		list_member_oid(view->detached_inserts, stream->relid))
		return;
	delta = weir_segments_read(stream, WEIR_COL_PARTITION " = -1");
	if (delta->nrows > 0)
		weir_view_apply(view, delta);
	weir_delta_free(delta);
}

static void
rebuild(Seek *seek)
{
	Stream	   *stream = seek->stream;
	CatalogScope scope;
	ListCell   *lc;

	foreach(lc, list_copy(weir_view_oids_of_stream(stream->relid)))
		rebuild_view(stream, lfirst_oid(lc));
	weir_cascade_run(false);

	/* a paused view begins where the stream does, and with the first INSERTed row that is kept */
	weir_catalog_open(&scope);
	weir_catalog_exec("DELETE FROM weir.view_position WHERE stream = %u AND partition >= 0", stream->relid);
	weir_catalog_exec("UPDATE weir.view_position SET next_offset = 0 WHERE stream = %u", stream->relid);
	weir_catalog_exec("DELETE FROM weir.late_row WHERE stream = %u", stream->relid);
	weir_catalog_close(&scope);
}

/* Rows from Kafka would be kept twice otherwise. */
static void
empty_kept_rows(Stream *stream)
{
	CatalogScope scope;

	if (!stream->keeps_rows)
		return;
	weir_catalog_open(&scope);
	weir_catalog_exec("DELETE FROM %s WHERE " WEIR_COL_PARTITION " >= 0",
					  weir_relation_name(stream->rows_relid));
	weir_catalog_close(&scope);
}

/*
 * move_positions writes the new positions. afresh: messages from there on are
 * read again, so their dead letters go: each is applied then, or leaves a new one.
 */
static void
move_positions(Seek *seek, bool afresh)
{
	CatalogScope scope;
	ListCell   *lc;

	weir_catalog_open(&scope);
	foreach(lc, seek->moves)
	{
		Move	   *move = lfirst(lc);

		weir_catalog_exec("INSERT INTO weir.position (stream, topic, partition, next_offset)"
						  " VALUES (%u, %s, %d, " INT64_FORMAT ")"
						  " ON CONFLICT (stream, topic, partition) DO UPDATE SET"
						  " next_offset = excluded.next_offset, last_offset = NULL, fingerprint = NULL,"
						  " stream_time = %s",
						  seek->stream->relid, quote_literal_cstr(move->topic), move->partition,
						  move->to, afresh ? "NULL" : "position.stream_time");
		if (afresh)
			weir_catalog_exec("DELETE FROM weir.dead_letter WHERE stream = %u AND topic = %s"
							  " AND partition = %d AND \"offset\" >= " INT64_FORMAT,
							  seek->stream->relid, quote_literal_cstr(move->topic),
							  move->partition, move->to);
	}
	weir_catalog_close(&scope);
}

static void
seek_stream(Oid relid, Target *target, bool with_rebuild)
{
	Seek		seek = {.target = target};

	weir_stream_require(relid);
	weir_check_owner(relid);
	LockRelationOid(relid, ShareRowExclusiveLock);
	seek.stream = weir_stream_require(relid);
	if (seek.stream->server == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("stream %s has no topic to move in", seek.stream->name)));
	seek.saved = weir_positions_load(relid);
	plan(&seek, with_rebuild);
	if (with_rebuild)
		rebuild(&seek);
	else
		check_without_rebuild(&seek);
	if (with_rebuild || seek.backwards)
		empty_kept_rows(seek.stream);
	move_positions(&seek, with_rebuild || seek.backwards);
	if (seek.stream->error != NULL)
		weir_stream_set_error(relid, NULL);
	weir_catalog_changed();
}

/* weir.seek(stream regclass, target timestamptz, rebuild boolean) → void */
Datum
weir_seek_time(PG_FUNCTION_ARGS)
{
	Target		target = {.kind = SEEK_TIME, .time = PG_GETARG_TIMESTAMPTZ(1)};

	if (target.time == DT_NOBEGIN)
		target.kind = SEEK_EARLIEST;
	else if (target.time == DT_NOEND)
		target.kind = SEEK_LATEST;
	seek_stream(PG_GETARG_OID(0), &target, PG_GETARG_BOOL(2));
	PG_RETURN_VOID();
}

/* weir.seek(stream regclass, target jsonb, rebuild boolean) → void */
Datum
weir_seek_offsets(PG_FUNCTION_ARGS)
{
	Jsonb	   *json = PG_GETARG_JSONB_P(1);
	Target		target = {.kind = SEEK_OFFSETS};

	if (!JB_ROOT_IS_OBJECT(json))
		bad_offsets("The value is no JSON object.");
	target.offsets = JsonbToCString(NULL, &json->root, VARSIZE(json));
	seek_stream(PG_GETARG_OID(0), &target, PG_GETARG_BOOL(2));
	PG_RETURN_VOID();
}

/* weir.seek(stream regclass, target text, rebuild boolean) → void */
Datum
weir_seek_text(PG_FUNCTION_ARGS)
{
	char	   *word = text_to_cstring(PG_GETARG_TEXT_PP(1));
	Target		target = {0};

	if (pg_strcasecmp(word, "earliest") == 0)
		target.kind = SEEK_EARLIEST;
	else if (pg_strcasecmp(word, "latest") == 0)
		target.kind = SEEK_LATEST;
	else if (word[strspn(word, " \t\r\n")] == '{')
		return DirectFunctionCall3(weir_seek_offsets, PG_GETARG_DATUM(0),
								   DirectFunctionCall1(jsonb_in, CStringGetDatum(word)),
								   PG_GETARG_DATUM(2));
	else
		return DirectFunctionCall3(weir_seek_time, PG_GETARG_DATUM(0),
								   DirectFunctionCall3(timestamptz_in, CStringGetDatum(word),
													   ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)),
								   PG_GETARG_DATUM(2));
	seek_stream(PG_GETARG_OID(0), &target, PG_GETARG_BOOL(2));
	PG_RETURN_VOID();
}
