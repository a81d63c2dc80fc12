/*
 * change.c
 *	  A continuous view after CREATE: REFRESH, ALTER, and what remains after DROP.
 *
 * The hook (catalog/ddl.c) and weir.seek ⇒ change. REFRESH holds Share on the
 * streams, so that nothing arrives between emptying and filling, and
 * Exclusive on the view's table: readers see the old rows until commit.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/catalog.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "catalog/stream.h"
#include "commands/tablecmds.h"
#include "delta/stream_am.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "view/apply.h"
#include "view/close.h"
#include "view/define.h"
#include "view/replace.h"
#include "view/ring.h"
#include "view/session.h"
#include "view/shape.h"
#include "view/upstream.h"
#include "worker/positions.h"
#include "worker/shared.h"

/* Deletes rows (all, or those that meet a condition) as the owner; users' triggers see it. */
static void
delete_rows(Oid relid, const char *condition)
{
	weir_applying_exec(psprintf("DELETE FROM %s WHERE %s", weir_relation_name(relid), condition));
}

/* Empties the view's tables, or what is at or after a time in a column of the view. */
static void
empty_view(View *view, ViewShape *shape, int column, TimestampTz from)
{
	ViewScope	scope;

	weir_view_scope_open(view, &scope);
	weir_view_scope_pin();
	SPI_connect();
	delete_rows(view->relid, weir_age_condition(view->relid, column, ">=", from));
	if (OidIsValid(view->state_relid))
		delete_rows(view->state_relid,
					weir_age_condition(view->state_relid, weir_state_key(shape, column), ">=", from));
	if (OidIsValid(view->values_relid))
		delete_rows(view->values_relid,
					weir_age_condition(view->values_relid, weir_state_key(shape, column), ">=", from));
	SPI_finish();
	weir_view_scope_close(&scope);
}

static bool
is_global(ViewShape *shape)
{
	return shape->grouped && shape->keys == NIL;
}

/*
 * weir_view_start_now notes where the streams are: what is kept from before
 * does not belong to the view (WITH NO DATA), and weir.verify leaves it out. The caller
 * holds the streams locked, so a block of arrival numbers drawn now is below all to come.
 */
void
weir_view_start_now(View *view)
{
	CatalogScope scope;
	ListCell   *lc;

	if (view->upstreams)
	{
		StringInfoData since;

		initStringInfo(&since);
		foreach(lc, view->upstreams)
		{
			char	   *qual = weir_upstream_since(lfirst_oid(lc));

			appendStringInfo(&since, "%s%s", since.len ? ", " : "", qual ? quote_literal_cstr(qual) : "NULL");
		}
		weir_catalog_open(&scope);
		(void) weir_catalog_exec("UPDATE weir.view_def SET since = ARRAY[%s]::text[] WHERE view = %u", since.data, view->relid);
		weir_catalog_close(&scope);
		return;
	}
	weir_catalog_open(&scope);
	(void) weir_catalog_exec("UPDATE weir.view_def v SET since = (SELECT array_agg("
							 " format('CASE " WEIR_COL_PARTITION " WHEN -1 THEN " WEIR_COL_OFFSET " >= %%s%%s ELSE true END',"
							 "  nextval('weir.arrival') << %d,"
							 "  (SELECT string_agg(format(' WHEN %%s THEN " WEIR_COL_OFFSET " >= %%s', " WEIR_TOPIC_NUMBER_SQL ", p.next_offset), '')"
							 "   FROM weir.position p WHERE p.stream = d.stream AND p.partition >= 0)) ORDER BY n)"
							 " FROM unnest(v.streams) WITH ORDINALITY u(s, n) JOIN weir.stream_def d ON d.stream = u.s)"
							 " WHERE view = %u", WEIR_ARRIVAL_BLOCK_BITS, view->relid);
	weir_catalog_close(&scope);
}

static void
forget_start(View *view)
{
	CatalogScope scope;

	weir_catalog_open(&scope);
	(void) weir_catalog_exec("DELETE FROM weir.kept WHERE stream = %u", view->relid);
	(void) weir_catalog_exec("DELETE FROM weir.missed_row WHERE view = %u", view->relid);
	(void) weir_catalog_exec("UPDATE weir.view_def SET since = NULL WHERE view = %u AND since IS NOT NULL", view->relid);
	weir_catalog_close(&scope);
}

void
weir_view_reset(View *view)
{
	ViewShape  *shape = weir_view_shape(view);

	weir_cascade_reset(view);
	empty_view(view, shape, 0, DT_NOBEGIN);
	if (weir_view_closes(view))
		weir_close_begin(view);
	forget_start(view);
	if (is_global(shape))
		(void) weir_view_apply_empty(view);
}

/* Rows that the view has missed may be older than what a part of it is rebuilt from. */
static void
check_follows(View *view)
{
	CatalogScope scope;
	bool		behind;

	weir_catalog_open(&scope);
	behind = weir_catalog_exec("SELECT FROM weir.view_position WHERE view = %u", view->relid) > 0;
	weir_catalog_close(&scope);
	if (behind || view->status != VIEW_RUNNING)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("continuous view %s does not follow its stream now", view->name),
				 errdetail("The kept rows tell about a part of it only, and it may have missed rows of the others."),
				 errhint("weir.resume it, and wait with weir.wait().")));
}

/*
 * forget_letters takes away the view's dead letters whose rows it is about to take in from the kept rows, those
 * from a time on (DT_NOBEGIN: all): weir.retry would count them again.
 */
static void
forget_letters(View *view, TimestampTz from)
{
	CatalogScope scope;
	ListCell   *lc;

	weir_catalog_open(&scope);
	if (from == DT_NOBEGIN)
		(void) weir_catalog_exec("DELETE FROM weir.dead_letter WHERE view = %u", view->relid);
	foreach(lc, from == DT_NOBEGIN ? NIL : view->streams)
	{
		Stream	   *stream = weir_stream_require(lfirst_oid(lc));

		if (weir_catalog_exec("SELECT FROM weir.dead_letter WHERE view = %u AND stream = %u LIMIT 1", view->relid, stream->relid) > 0)
			(void) weir_catalog_exec("DELETE FROM weir.dead_letter p USING weir.stream_def d, %s r WHERE p.view = %u AND p.stream = %u AND d.stream = p.stream"
									 " AND " WEIR_TOPIC_NUMBER_SQL " = r." WEIR_COL_PARTITION " AND p.\"offset\" = r." WEIR_COL_OFFSET
									 " AND r." WEIR_COL_EVENT_TIME " >= %s::timestamptz",
									 weir_relation_name(stream->rows_relid), view->relid, stream->relid, weir_time_literal(from));
	}
	weir_catalog_close(&scope);
}

static void
refresh_locked(View *view, bool skip_data)
{
	TimestampTz from;
	int			column;

	if (weir_view_over_tables(view))
	{
		(void) weir_view_apply_all(view);
		return;
	}
	from = skip_data || weir_fill_below(view, true, NULL) ? DT_NOBEGIN : weir_view_covered_from(view, &column);
	if (from == DT_NOBEGIN)
	{
		weir_view_reset(view);
		weir_position_skip_missed(view->relid);
		if (skip_data)
			weir_view_start_now(view);
		else
		{
			forget_letters(view, DT_NOBEGIN);
			(void) weir_view_fill(view, NULL);
		}
		if (weir_view_closes(view) && !skip_data)
			(void) weir_close_view(view, InvalidOid, NULL, 0);
		return;
	}
	check_follows(view);
	if (weir_view_is_final(view))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("kept rows do not tell all finals of continuous view %s", view->name),
				 errhint("%s", weir_view_has_topics(view) ?
						 "weir.seek(stream, 'earliest', rebuild => true) builds the views afresh from the topic." :
						 "Create the view again: it begins with the rows that are kept.")));
	if (view->joins)
	{
		weir_refresh_join(view, column, from);
		return;
	}
	empty_view(view, weir_view_shape(view), column, from);
	forget_letters(view, from);
	(void) weir_view_fill(view, psprintf(WEIR_COL_EVENT_TIME " >= %s::timestamptz", weir_time_literal(from)));
}

/*
 * weir_view_refresh rebuilds what the kept rows cover: all, or the windows
 * that begin after the oldest row that is surely kept; older windows stay. Raises
 * 55000 if the kept rows can tell about nothing.
 */
void
weir_view_refresh(View *view, bool skip_data)
{
	weir_check_owner(view->relid);
	if (weir_view_passes(view))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("continuous view %s stores nothing that could be refreshed", view->name),
				 errdetail("Its weir.keep is 0."),
				 errhint("weir.seek(stream, ..., rebuild => true) sends what the topic holds once more.")));
	weir_view_lock_streams(weir_view_base_streams(view));
	LockRelationOid(view->relid, ExclusiveLock);
	refresh_locked(view, skip_data);
	weir_cascade_run(false);
}

/* weir.keep is 0 from now on: what is stored goes, as if it had become too old. */
static void
forget_rows(View *view)
{
	ViewScope	scope;

	weir_view_scope_open(view, &scope);
	weir_view_scope_pin();
	SPI_connect();
	delete_rows(view->relid, "true");
	SPI_finish();
	weir_view_scope_close(&scope);
}

void
weir_view_alter(View *view, List *defs, bool reset)
{
	WeirViewOptions options;
	ViewShape  *shape;
	char	   *keep_column = NULL;
	Oid			types[4] = {INTERVALOID, INTERVALOID, TEXTOID, REGCLASSOID};
	Datum		values[4];
	char		nulls[4] = {' ', ' ', ' ', ' '};
	CatalogScope scope;

	weir_options_view_defaults(&options);
	options.continuous = true;
	options.lateness = view->lateness;
	options.keep = view->keep;
	weir_options_parse_view(defs, reset, &options);
	shape = weir_shape_make(weir_shape_definition(view->query_relid), get_rel_name(view->relid),
							strcmp(view->emit, "final") == 0, view->at_once, options.lateness, options.keep);
	if (shape->session && !shape->finals && options.lateness == NULL)
		options.lateness = options.keep;
	if (options.lateness && view->lateness == NULL)
	{
		weir_view_lock_streams(weir_view_base_streams(view));
		weir_close_prepare(view->streams, true);
	}
	if (options.keep)
	{
		keep_column = weir_keep_column(shape, weir_statement_columns(view->relid, shape->query->targetList),
									   weir_span_is_positive(options.keep));
	}
	values[0] = PointerGetDatum(options.lateness);
	nulls[0] = options.lateness ? ' ' : 'n';
	values[1] = PointerGetDatum(options.keep);
	nulls[1] = options.keep ? ' ' : 'n';
	values[2] = keep_column ? CStringGetTextDatum(keep_column) : (Datum) 0;
	nulls[2] = keep_column ? ' ' : 'n';
	values[3] = ObjectIdGetDatum(view->relid);
	weir_catalog_open(&scope);
	if (SPI_execute_with_args("UPDATE weir.view_def SET lateness = $1, keep = $2, keep_column = $3::name WHERE view = $4",
							  4, types, values, nulls, false, 0) != SPI_OK_UPDATE)
		elog(ERROR, "could not update weir.view_def");
	weir_catalog_close(&scope);
	weir_cache_forget();
	CommandCounterIncrement();
	view = weir_view_require(view->relid);
	if (weir_view_passes(view))
		forget_rows(view);
	else if (options.keep)
		weir_view_index_age(view);
	if (weir_replace_pending(view->relid))
		weir_view_alter(weir_replace_pending(view->relid), defs, reset);
}

static void follow_owner_slots(Oid relid, Oid owner);

/* The definition and the states follow the owner of the view's table. */
static void
follow_owner(Oid relid, Oid owner)
{
	Relation	rel;
	bool		differs;

	if (!OidIsValid(relid))
		return;
	rel = relation_open(relid, AccessExclusiveLock);
	differs = rel->rd_rel->relowner != owner;
	relation_close(rel, NoLock);
	if (differs)
		ATExecChangeOwner(relid, owner, true, AccessExclusiveLock);
	follow_owner_slots(relid, owner);
}

/* ALTER TABLE ... OWNER does not go on to partitions. */
static void
follow_owner_slots(Oid relid, Oid owner)
{
	ListCell   *lc;

	if (!weir_ring_is(relid))
		return;
	foreach(lc, weir_ring_slots(relid))
		follow_owner(lfirst_oid(lc), owner);
}

/* Nor does REPLICA IDENTITY, but for an index, which has another name in each slot. */
static void
follow_replica_identity(Oid relid)
{
	Relation	rel = relation_open(relid, AccessShareLock);
	char		identity = rel->rd_rel->relreplident;
	ListCell   *lc;

	relation_close(rel, NoLock);
	if (!weir_ring_is(relid) || identity == REPLICA_IDENTITY_INDEX)
		return;
	foreach(lc, weir_ring_slots(relid))
	{
		bool		differs;

		rel = relation_open(lfirst_oid(lc), AccessShareLock);
		differs = rel->rd_rel->relreplident != identity;
		relation_close(rel, NoLock);
		if (differs)
			(void) weir_catalog_exec("ALTER TABLE %s REPLICA IDENTITY %s", weir_relation_name(lfirst_oid(lc)),
									 identity == REPLICA_IDENTITY_FULL ? "FULL" : identity == REPLICA_IDENTITY_NOTHING ? "NOTHING" : "DEFAULT");
	}
}

static bool columns_change = false;	/* weir.replace: the query that they fit comes later */

/* weir_view_alter_columns changes columns of a view's table without asking whether they fit its query still. */
pg_noinline void
weir_view_alter_columns(const char *commands, const char *table)
{
	columns_change = true;
	PG_TRY();
	{
		(void) weir_catalog_exec("ALTER TABLE %s%s", table, commands);
	}
	PG_FINALLY();
	{
		columns_change = false;
	}
	PG_END_TRY();
}

void
weir_view_after_alter(View *view, AlterTableStmt *stmt)
{
	CatalogScope scope;
	Oid			owner;
	ViewStatements statements;

	if (columns_change)
		return;

	CommandCounterIncrement();
	weir_cache_forget();
	view = weir_view_require(view->relid);
	owner = view->owner;
	weir_catalog_open(&scope);
	follow_owner(view->query_relid, owner);
	follow_owner(view->state_relid, owner);
	follow_owner_slots(view->relid, owner);
	follow_owner(view->values_relid, owner);
	follow_replica_identity(view->relid);
	weir_catalog_close(&scope);
	CommandCounterIncrement();
	weir_cache_forget();
	weir_view_statements(weir_view_require(view->relid), &statements);	/* raises if it does not fit any more */
}

void
weir_view_check_stream(Oid stream)
{
	ListCell   *lc;

	foreach(lc, weir_view_oids_of_stream(stream))
	{
		View	   *view = weir_view_get(lfirst_oid(lc));
		ViewScope	scope;

		if (view == NULL || (strcmp(view->strategy, "recompute") != 0 && !view->joins))
			continue;
		weir_view_scope_open(view, &scope);
		weir_view_scope_pin();
		(void) weir_view_shape(view);
		weir_view_scope_close(&scope);
	}
}
