/*
 * stream_ddl.c
 *	  CREATE TABLE ... WITH (weir.*), ALTER TABLE ... SET (weir.*), and what follows from other DDL.
 *
 * Runs in the session that types the statement, in its transaction, which
 * holds the statement's own locks on the table (AccessExclusive for CREATE and
 * most ALTERs): no batch of the stream is under way meanwhile. Workers see
 * the change when it commits (worker/shared.h: generation).
 */
#include "catalog/stream_ddl.h"

#include "access/table.h"
#include "catalog/catalog.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/options.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_index.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "catalog/stream.h"
#include "catalog/view.h"
#include "commands/tablecmds.h"
#include "commands/trigger.h"
#include "compat.h"
#include "delta/segments.h"
#include "executor/spi.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "source/kafka_client.h"
#include "source/kafka_options.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "view/close.h"
#include "view/define.h"
#include "view/ring.h"
#include "worker/shared.h"

/* How long CREATE TABLE waits for a broker that may be down. */
#define PROBE_TIMEOUT_MS	2000

/* ---- checks ---- */

static void
refuse_on_stream(const char *what, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("%s is not supported on a stream", what),
			 errhint("%s", hint)));
}

void
weir_stream_prepare_create(CreateStmt *stmt, List *defs)
{
	StreamOptions options;

	if (!weir_installed())
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("extension \"weir\" is not installed in this database"),
				 errhint("CREATE EXTENSION weir;")));
	weir_options_stream_defaults(&options);
	weir_options_parse_stream(defs, false, &options);
	weir_options_check_stream(&options, InvalidOid);
	if (stmt->relation->relpersistence == RELPERSISTENCE_TEMP)
		refuse_on_stream("a temporary table", "CREATE UNLOGGED TABLE.");
	if (stmt->partspec || stmt->partbound)
		refuse_on_stream("partitioning", "A stream divides its kept rows by event time itself.");
	if (stmt->inhRelations)
		refuse_on_stream("INHERITS", "Use LIKE to copy columns.");
	if (stmt->ofTypename)
		refuse_on_stream("OF type", "List the columns.");
	if (stmt->accessMethod && strcmp(stmt->accessMethod, WEIR_STREAM_AM) != 0)
		refuse_on_stream("USING another access method", "Leave USING out.");
	stmt->accessMethod = WEIR_STREAM_AM;
}

static bool
has_unique_index(Relation rel)
{
	List	   *indexes = RelationGetIndexList(rel);
	ListCell   *lc;
	bool		result = false;

	foreach(lc, indexes)
	{
		HeapTuple	tuple = SearchSysCache1(INDEXRELID, ObjectIdGetDatum(lfirst_oid(lc)));
		Form_pg_index index = (Form_pg_index) GETSTRUCT(tuple);

		if (index->indisunique || index->indisexclusion)
			result = true;
		ReleaseSysCache(tuple);
	}
	list_free(indexes);
	return result;
}

/* What must hold of the table under a stream, after CREATE and after ALTER. */
static void
check_table(Relation rel)
{
	TupleDesc	desc = RelationGetDescr(rel);

	if (rel->rd_rel->relkind != RELKIND_RELATION)
		refuse_on_stream("anything but a table", "CREATE UNLOGGED TABLE.");
	if (has_unique_index(rel))
		refuse_on_stream("a unique, primary key or exclusion constraint",
						 "Every message of a topic is a row; remove duplicates in a continuous view. A plain index is fine.");
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		if (!att->attisdropped &&
			strncmp(NameStr(att->attname), WEIR_HIDDEN_PREFIX, strlen(WEIR_HIDDEN_PREFIX)) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_RESERVED_NAME),
					 errmsg("column name \"%s\" is reserved", NameStr(att->attname)),
					 errdetail("Names of columns that begin with \"%s\" are weir's.",
							   WEIR_HIDDEN_PREFIX)));
		if (!att->attisdropped && weir_compat_is_virtual(att))
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("a virtual generated column is not supported on a stream"),
					 errdetail("Column \"%s\" would be computed when it is read, and views take in rows as they come.",
							   NameStr(att->attname)),
					 errhint("Write STORED behind its expression.")));
	}
}

/* The server's OID; raises if it is not there or not to be used by this user. */
static Oid
check_server(const char *server)
{
	Oid			serverid = weir_kafka_server_oid(server, false);

	if (!weir_compat_may_use_server(serverid, GetUserId()))
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_FOREIGN_SERVER, server);
	return serverid;
}

/* A broker that is down or a topic that is missing is a warning: both may come later. */
static void
warn_if_unreachable(const StreamOptions *options)
{
	int			ntopics = list_length(options->topics);
	char	  **topics = palloc(sizeof(char *) * (ntopics + 1));
	char	   *trouble;
	int			i = 0;
	ListCell   *lc;

	foreach(lc, options->topics)
		topics[i++] = lfirst(lc);
	trouble = weir_kafka_probe(weir_kafka_options(options->server, GetUserId()),
							   ntopics, topics, PROBE_TIMEOUT_MS);
	if (trouble)
		ereport(WARNING,
				(errcode(ERRCODE_CONNECTION_FAILURE),
				 errmsg("server \"%s\" does not serve the stream now: %s", options->server, trouble),
				 errdetail("The stream begins to read as soon as it does.")));
}

/* ---- triggers and dependencies ---- */

static void
create_trigger(Oid relid, const char *name, int16 timing, int16 events, const char *function)
{
	CreateTrigStmt *stmt = makeNode(CreateTrigStmt);
	CatalogScope scope;

	stmt->trigname = pstrdup(name);
	stmt->relation = makeRangeVar(get_namespace_name(get_rel_namespace(relid)),
								  get_rel_name(relid), -1);
	stmt->funcname = list_make2(makeString(WEIR_SCHEMA), makeString(pstrdup(function)));
	stmt->row = false;
	stmt->timing = timing;
	stmt->events = events;
	(void) CreateTrigger(stmt, NULL, relid, InvalidOid, InvalidOid, InvalidOid,
						 InvalidOid, InvalidOid, NULL, false, false);
	CommandCounterIncrement();

	/* rows must not vanish in a session with session_replication_role = replica */
	weir_catalog_open(&scope);
	weir_catalog_exec("ALTER TABLE ONLY %s ENABLE ALWAYS TRIGGER %s",
					  weir_relation_name(relid), quote_identifier(name));
	weir_catalog_close(&scope);
}

static void
depend_on_server(Oid relid, Oid serverid)
{
	ObjectAddress stream,
				server;

	deleteDependencyRecordsForClass(RelationRelationId, relid,
									ForeignServerRelationId, DEPENDENCY_NORMAL);
	if (!OidIsValid(serverid))
		return;
	ObjectAddressSet(stream, RelationRelationId, relid);
	ObjectAddressSet(server, ForeignServerRelationId, serverid);
	recordDependencyOn(&stream, &server, DEPENDENCY_NORMAL);
}

/* ---- weir.stream_def ---- */

#define STREAM_PARAMS 16

static Datum
topics_datum(List *topics)
{
	Datum	   *elems = palloc(sizeof(Datum) * (list_length(topics) + 1));
	int			n = 0;
	ListCell   *lc;

	foreach(lc, topics)
		elems[n++] = CStringGetTextDatum((char *) lfirst(lc));
	return PointerGetDatum(construct_array(elems, n, TEXTOID, -1, false, TYPALIGN_INT));
}

/* Writes all options of a stream; rows: weir.rows_N for a new one, else InvalidOid. */
static void
write_options(Oid relid, Oid rows, const StreamOptions *options)
{
	static const Oid types[STREAM_PARAMS] = {
		OIDOID, OIDOID, TEXTOID, TEXTARRAYOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID,
		INTERVALOID, INTERVALOID, INTERVALOID, TEXTOID, INTERVALOID, TEXTOID, OIDOID
	};
	Datum		values[STREAM_PARAMS];
	char		nulls[STREAM_PARAMS];
	const char *const texts[] = {options->server, NULL, options->format, options->mode,
	options->start, options->event_time, options->time_unit};
	const Interval *const spans[] = {options->lateness, options->idle_timeout, options->max_clock_skew};
	const char *sql;
	CatalogScope scope;

	memset(nulls, ' ', sizeof(nulls));
	values[0] = values[15] = ObjectIdGetDatum(relid);
	values[1] = ObjectIdGetDatum(rows);
	for (int i = 0; i < lengthof(texts); i++)
	{
		nulls[2 + i] = texts[i] ? ' ' : 'n';
		values[2 + i] = texts[i] ? CStringGetTextDatum(texts[i]) : (Datum) 0;
	}
	nulls[3] = ' ';
	values[3] = topics_datum(options->topics);
	for (int i = 0; i < lengthof(spans); i++)
	{
		nulls[9 + i] = spans[i] ? ' ' : 'n';
		values[9 + i] = PointerGetDatum(spans[i]);
	}
	values[12] = CStringGetTextDatum(options->late);
	values[13] = PointerGetDatum(options->keep);
	values[14] = CStringGetTextDatum(options->isolation);

	sql = OidIsValid(rows) ?
		"INSERT INTO weir.stream_def (stream, rows, server, topics, topics_seen, format, mode, start,"
		" event_time, time_unit, lateness, idle_timeout, max_clock_skew, late, keep, isolation)"
		" SELECT $1, $2, $3::name, $4, $4, $5, $6, $7, $8::name, $9, $10, $11, $12, $13, $14, $15"
		" WHERE $16 IS NOT NULL" :
		"UPDATE weir.stream_def SET server = $3::name, topics = $4,"
		" topics_seen = topics_seen || ARRAY(SELECT t FROM pg_catalog.unnest($4) WITH ORDINALITY u(t, n)"
		"  WHERE t <> ALL (topics_seen) ORDER BY n), format = $5, mode = $6, start = $7,"
		" event_time = $8::name, time_unit = $9, lateness = $10, idle_timeout = $11,"
		" max_clock_skew = $12, late = $13, keep = $14, isolation = $15"
		" WHERE stream = $1 AND $2 IS NOT NULL AND $16 IS NOT NULL";
	weir_catalog_open(&scope);
	if (SPI_execute_with_args(sql, STREAM_PARAMS, (Oid *) types, values, nulls, false, 0) < 0)
		elog(ERROR, "could not write weir.stream_def");
	weir_catalog_close(&scope);
}

void
weir_stream_create(Oid relid, List *defs)
{
	StreamOptions options;
	Relation	rel;
	Oid			rows;
	Oid			serverid = InvalidOid;
	CatalogScope scope;

	weir_options_stream_defaults(&options);
	weir_options_parse_stream(defs, false, &options);
	weir_options_check_stream(&options, relid);
	rel = table_open(relid, NoLock);
	check_table(rel);
	table_close(rel, NoLock);
	if (options.server)
		serverid = check_server(options.server);

	rows = weir_segments_create_parent(relid, weir_span_is_positive(options.keep));
	weir_topic_check_count(list_length(options.topics));
	write_options(relid, rows, &options);
	create_trigger(relid, "weir_insert", TRIGGER_TYPE_AFTER, TRIGGER_TYPE_INSERT, "stream_insert");
	create_trigger(relid, "weir_refuse_update", TRIGGER_TYPE_BEFORE, TRIGGER_TYPE_UPDATE,
				   "refuse_change");
	depend_on_server(relid, serverid);
	if (get_rel_persistence(relid) == RELPERSISTENCE_UNLOGGED)
	{
		weir_catalog_open(&scope);
		weir_catalog_exec("INSERT INTO weir.marker (stream) VALUES (%u)", relid);
		weir_catalog_close(&scope);
	}
	if (options.server)
		warn_if_unreachable(&options);
}

/* The options that a stream has now, as ALTER changes them. */
static void
present_options(const Stream *stream, StreamOptions *options)
{
	static const char *const units[] = {"s", "ms", "us"};

	weir_options_stream_defaults(options);
	options->server = stream->server;
	for (int i = 0; i < stream->ntopics; i++)
		options->topics = lappend(options->topics, stream->topics[i]);
	options->stream = stream->ntopics == 0;
	options->format = stream->format == STREAM_FORMAT_TEXT ? "text" : "json";
	options->start = stream->start;
	options->event_time = stream->event_time;
	options->time_unit = (char *) units[stream->time_unit];
	options->lateness = stream->lateness;
	options->idle_timeout = stream->idle_timeout;
	options->max_clock_skew = stream->max_clock_skew;
	options->late = stream->late_keep ? "keep" : "count";
	options->keep = stream->keep;
	options->isolation = stream->read_committed ? "read_committed" : "read_uncommitted";
}

static bool
same_topics(const Stream *stream, const StreamOptions *options)
{
	if (stream->ntopics != list_length(options->topics))
		return false;
	for (int i = 0; i < stream->ntopics; i++)
	{
		if (strcmp(stream->topics[i], list_nth(options->topics, i)) != 0)
			return false;
	}
	return true;
}

static bool
is_shorter(const Interval *a, const Interval *b)
{
	return DatumGetBool(DirectFunctionCall2(interval_lt, IntervalPGetDatum(a), IntervalPGetDatum(b)));
}

/* A view that has not caught up would wait for ever for what nobody reads any more. */
static void
check_dropped_topics(const Stream *stream, const StreamOptions *options)
{
	CatalogScope scope;

	weir_catalog_open(&scope);
	for (int i = 0; i < stream->ntopics; i++)
	{
		ListCell   *lc;
		bool		stays = false;

		foreach(lc, options->topics)
			stays |= strcmp(lfirst(lc), stream->topics[i]) == 0;
		if (!stays && weir_catalog_exec("SELECT view::text FROM weir.view_position WHERE stream = %u AND topic = %s LIMIT 1",
										stream->relid, quote_literal_cstr(stream->topics[i])) > 0)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("topic \"%s\" cannot be taken out of stream %s now", stream->topics[i], stream->name),
					 errdetail("View %s has not read it to where the stream stands.", SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1)),
					 errhint("weir.resume the view, and wait with weir.wait().")));
	}
	weir_catalog_close(&scope);
}

void
weir_stream_alter(Oid relid, List *defs, bool reset)
{
	Stream	   *stream = weir_stream_require(relid);
	StreamOptions options;

	weir_check_owner(relid);
	/* no batch of this stream runs while its definition changes */
	LockRelationOid(relid, ShareRowExclusiveLock);
	present_options(stream, &options);
	weir_options_parse_stream(defs, reset, &options);
	if (options.topics && stream->ntopics == 0)
		options.stream = false;
	weir_options_check_stream(&options, relid);
	if (options.server)
		depend_on_server(relid, check_server(options.server));
	else
		depend_on_server(relid, InvalidOid);
	check_dropped_topics(stream, &options);
	weir_close_prepare(list_make1_oid(relid), options.lateness != NULL);
	write_options(relid, InvalidOid, &options);
	CommandCounterIncrement();
	weir_cache_forget();
	weir_topic_check_count(weir_stream_require(relid)->nseen);
	weir_view_check_stream(relid);
	if (is_shorter(options.keep, stream->keep))
	{
		weir_segments_shrunk(weir_stream_require(relid));
		weir_request_maintenance();
	}
	if (options.server &&
		(stream->server == NULL || strcmp(options.server, stream->server) != 0 ||
		 !same_topics(stream, &options)))
		warn_if_unreachable(&options);
}

/* ---- other ALTER TABLE ---- */

void
weir_stream_check_alter(Oid relid, AlterTableStmt *stmt)
{
	Stream	   *stream = weir_stream_require(relid);
	ListCell   *lc;

	foreach(lc, stmt->cmds)
	{
		AlterTableCmd *cmd = lfirst_node(AlterTableCmd, lc);

		switch (cmd->subtype)
		{
			case AT_SetAccessMethod:
				refuse_on_stream("SET ACCESS METHOD", "DROP EXTENSION weir CASCADE turns streams into plain tables.");
				break;
			case AT_AddInherit:
			case AT_DropInherit:
			case AT_AddOf:
			case AT_AttachPartition:
			case AT_DetachPartition:
				refuse_on_stream("this form of ALTER TABLE", "A stream's child tables are weir's.");
				break;
			case AT_DropColumn:
				if (stream->event_time && strcmp(cmd->name, stream->event_time) == 0)
					ereport(ERROR,
							(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
							 errmsg("cannot drop column \"%s\": it is the event time of stream %s",
									cmd->name, stream->name),
							 errhint("ALTER TABLE %s RESET (weir.event_time);", stream->name)));
				break;
			default:
				break;
		}
	}
}

static void
children_follow(Oid relid, AlterTableCmd *cmd)
{
	CatalogScope scope;
	ListCell   *lc;
	Oid			owner;

	if (cmd->subtype != AT_ChangeOwner && cmd->subtype != AT_SetLogged &&
		cmd->subtype != AT_SetUnLogged && cmd->subtype != AT_SetTableSpace)
		return;
	owner = weir_compat_relation_owner(relid);
	weir_catalog_open(&scope);
	foreach(lc, weir_segments_all(relid))
	{
		Oid			child = lfirst_oid(lc);

		if (cmd->subtype == AT_ChangeOwner)
			ATExecChangeOwner(child, owner, true, AccessExclusiveLock);
		else if (cmd->subtype == AT_SetTableSpace)
			weir_catalog_exec("ALTER TABLE %s SET TABLESPACE %s", weir_relation_name(child),
							  quote_identifier(cmd->name));
		else
			weir_catalog_exec("ALTER TABLE %s SET %s", weir_relation_name(child),
							  cmd->subtype == AT_SetLogged ? "LOGGED" : "UNLOGGED");
	}
	if (cmd->subtype == AT_SetUnLogged)
		weir_catalog_exec("INSERT INTO weir.marker (stream) VALUES (%u) ON CONFLICT DO NOTHING", relid);
	weir_catalog_close(&scope);
}

void
weir_stream_after_alter(Oid relid, AlterTableStmt *stmt)
{
	Stream	   *stream;
	StreamOptions options;
	Relation	rel;
	ListCell   *lc;

	CommandCounterIncrement();
	foreach(lc, stmt->cmds)
		children_follow(relid, lfirst_node(AlterTableCmd, lc));
	weir_cache_forget();
	stream = weir_stream_require(relid);
	rel = table_open(relid, NoLock);
	check_table(rel);
	table_close(rel, NoLock);
	present_options(stream, &options);
	weir_options_check_stream(&options, relid);
	weir_catalog_changed();
}

void
weir_stream_column_renamed(Oid relid, const char *from, const char *to)
{
	CatalogScope scope;

	if (strncmp(to, WEIR_HIDDEN_PREFIX, strlen(WEIR_HIDDEN_PREFIX)) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_RESERVED_NAME),
				 errmsg("column name \"%s\" is reserved", to)));
	weir_catalog_open(&scope);
	weir_catalog_exec("UPDATE weir.stream_def SET event_time = %s"
					  " WHERE stream = %u AND event_time = %s",
					  quote_literal_cstr(to), relid, quote_literal_cstr(from));
	weir_catalog_exec("UPDATE weir.view_def SET keep_column = %s"
					  " WHERE view = %u AND keep_column = %s",
					  quote_literal_cstr(to), relid, quote_literal_cstr(from));
	weir_catalog_close(&scope);
	weir_cache_forget();
	weir_catalog_changed();
}

void
weir_server_renamed(const char *from, const char *to)
{
	CatalogScope scope;

	weir_catalog_open(&scope);
	weir_catalog_exec("UPDATE weir.stream_def SET server = %s WHERE server = %s",
					  quote_literal_cstr(to), quote_literal_cstr(from));
	weir_catalog_close(&scope);
}

/* ---- the end ---- */

/* Views that no other view reads any more need not capture their changes. */
static void
drop_captures(void)
{
	weir_catalog_exec("DO $weir$ DECLARE t record; BEGIN"
					  " FOR t IN SELECT tgname, tgrelid::regclass AS view FROM pg_trigger"
					  " WHERE tgfoid = 'weir.capture()'::regprocedure"
					  " AND NOT EXISTS (SELECT FROM weir.view_def d WHERE tgrelid::regclass = ANY (d.streams))"
					  " LOOP EXECUTE format('DROP TRIGGER %%I ON %%s', t.tgname, t.view); END LOOP;"
					  " END $weir$");
}

void
weir_relations_dropped(List *relids)
{
	StringInfoData list;
	CatalogScope scope;
	ListCell   *lc;

	initStringInfo(&list);
	foreach(lc, relids)
		appendStringInfo(&list, "%s%u", list.len ? "," : "", lfirst_oid(lc));
	weir_catalog_open(&scope);
	weir_catalog_exec("DELETE FROM weir.segment WHERE segment::oid IN (%s) OR stream::oid IN (%s)",
					  list.data, list.data);
	if (weir_catalog_exec("DELETE FROM weir.stream_def WHERE stream::oid IN (%s)", list.data) > 0)
	{
		weir_catalog_exec("DELETE FROM weir.position WHERE stream::oid IN (%s)", list.data);
		weir_catalog_exec("DELETE FROM weir.dead_letter WHERE stream::oid IN (%s)", list.data);
		weir_catalog_exec("DELETE FROM weir.late_row WHERE stream::oid IN (%s)", list.data);
		weir_catalog_exec("DELETE FROM weir.marker WHERE stream::oid IN (%s)", list.data);
		weir_catalog_exec("DELETE FROM weir.kept WHERE stream::oid IN (%s)", list.data);
	}
	if (weir_catalog_exec("DELETE FROM weir.view_def WHERE view::oid IN (%s)", list.data) > 0)
	{
		weir_catalog_exec("DELETE FROM weir.late_row WHERE view::oid IN (%s)", list.data);
		weir_catalog_exec("DELETE FROM weir.view_close WHERE view::oid IN (%s)", list.data);
		weir_catalog_exec("DELETE FROM weir.view_behind WHERE view::oid IN (%s)", list.data);
		weir_catalog_exec("DELETE FROM weir.missed_row WHERE view::oid IN (%s) OR source::oid IN (%s)", list.data, list.data);
		weir_catalog_exec("DELETE FROM weir.kept WHERE stream::oid IN (%s)", list.data);
		drop_captures();
		weir_catalog_exec("DELETE FROM weir.dead_letter WHERE view::oid IN (%s)", list.data);
	}
	weir_catalog_exec("DELETE FROM weir.view_position WHERE view::oid IN (%s) OR stream::oid IN (%s)",
					  list.data, list.data);
	weir_catalog_close(&scope);
	foreach(lc, relids)
		weir_stat_forget(lfirst_oid(lc));
}

/*
 * dissolve_stream keeps the rows of a stream as those of a plain table. Its
 * own storage is empty, so changing the access method rewrites nothing.
 */
static void
dissolve_stream(Oid relid)
{
	Stream	   *stream = weir_stream_require(relid);
	char	   *name = weir_relation_name(relid);
	Relation	rel = table_open(relid, AccessExclusiveLock);
	char	   *columns = weir_insertable_columns(rel);

	table_close(rel, NoLock);

	/* from here on it is a table like any other for the utility hook */
	weir_catalog_exec("DELETE FROM weir.stream_def WHERE stream = %u", relid);
	weir_cache_forget();
	depend_on_server(relid, InvalidOid);
	weir_catalog_exec("DROP TRIGGER IF EXISTS weir_insert ON %s", name);
	weir_catalog_exec("DROP TRIGGER IF EXISTS weir_refuse_update ON %s", name);
	weir_catalog_exec("ALTER TABLE ONLY %s SET ACCESS METHOD heap", name);
	weir_catalog_exec("ALTER TABLE %s DISABLE TRIGGER USER", name);
	if (columns[0] != '\0')
		weir_catalog_exec("INSERT INTO %s (%s) OVERRIDING SYSTEM VALUE SELECT %s FROM %s", name,
						  columns, columns, weir_relation_name(stream->rows_relid));
	weir_catalog_exec("ALTER TABLE %s ENABLE TRIGGER USER", name);
	weir_catalog_exec("DROP TABLE %s CASCADE", weir_relation_name(stream->rows_relid));
}

/* One of weir's own tables behind a view. */
static void
dissolve_table(Oid relid)
{
	if (!OidIsValid(relid))
		return;
	deleteDependencyRecordsForClass(RelationRelationId, relid, RelationRelationId, DEPENDENCY_INTERNAL);
	CommandCounterIncrement();
	weir_catalog_exec("DROP TABLE %s", weir_relation_name(relid));
}

static void
dissolve_view(Oid relid)
{
	View	   *view = weir_view_require(relid);
	char	   *name = weir_relation_name(relid);

	/* both belong to the table; released first, so that they can go without it */
	deleteDependencyRecordsForClass(RelationRelationId, view->query_relid,
									RelationRelationId, DEPENDENCY_INTERNAL);
	CommandCounterIncrement();
	weir_catalog_exec("DROP VIEW %s", weir_relation_name(view->query_relid));
	dissolve_table(view->state_relid);
	dissolve_table(view->values_relid);
	weir_catalog_exec("DO $weir$ DECLARE t record; BEGIN"
					  " FOR t IN SELECT tgname FROM pg_trigger WHERE tgrelid = %u"
					  " AND tgfoid IN ('weir.refuse_change()'::regprocedure, 'weir.capture()'::regprocedure) AND NOT tgisinternal"
					  " LOOP EXECUTE format('DROP TRIGGER %%I ON %%s', t.tgname, %s); END LOOP;"
					  " END $weir$", relid, quote_literal_cstr(name));
}

/* A segmented view's table is partitioned by an operator class of the extension: CASCADE would take its rows. */
static void
refuse_segmented(List *views)
{
	ListCell   *lc;

	foreach(lc, views)
	{
		View	   *view = weir_view_get(lfirst_oid(lc));

		if (view && weir_ring_is(view->relid))
			ereport(ERROR,
					(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
					 errmsg("cannot drop extension weir: the rows of continuous view %s would go with it", view->name),
					 errdetail("The view is segmented (weir.segmented): its partitions need the extension."),
					 errhint("DROP MATERIALIZED VIEW it first; CREATE TABLE ... AS TABLE %s keeps its rows.", view->name)));
	}
}

void
weir_extension_dissolve(void)
{
	List	   *views = list_copy(weir_view_oids());
	List	   *streams = list_copy(weir_stream_oids());
	CatalogScope scope;
	ListCell   *lc;

	refuse_segmented(views);
	weir_catalog_open(&scope);
	foreach(lc, views)
		dissolve_view(lfirst_oid(lc));
	foreach(lc, streams)
		dissolve_stream(lfirst_oid(lc));
	weir_catalog_exec("DELETE FROM weir.view_def");
	weir_cache_forget();
	weir_catalog_close(&scope);
}
