/*
 * upstream.c
 *	  A continuous view as the source of others.
 *
 * rewrite, late, recompute, close ⇒ here. To the files that deal with streams, a final view is a stream that is
 * logged, keeps as many rows as the view does, and is fed by the view's own statements (capture.c). Its rows have
 * the hidden columns of a delta, too:
 *	  partition -1; offset: a number in order of arrival within a batch; event time and stream time:
 *	  the earliest window column that the view shows, or -infinity. So no row is late by itself.
 *
 * Time: the rows of a final view come window by window. All that have window_end up to what
 * is closed are there; by window_start, all that began before the first window that is still open. That
 * is the watermark of what reads the view.
 *
 * Memory: what is known of a view's columns is remembered per backend until the catalog changes; what is out of date
 * stays until the end of the transaction.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/catalog.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"
#include "utils/timestamp.h"
#include "delta/segments.h"
#include "view/close.h"
#include "view/session.h"
#include "view/upstream.h"

/* A view without weir.keep keeps its rows for ever. */
#define FOR_EVER_MONTHS	(1000 * MONTHS_PER_YEAR)

/* A column of a view by which its rows can be windowed again. */
typedef struct TimeColumn
{
	AttrNumber	attno;
	bool		end;			/* window_end: closes in order */
	char	   *first_open;		/* SQL with one %s, a time: start of the first window that is open then; NULL: not constant */
} TimeColumn;

typedef struct ViewTimes
{
	Oid			view;			/* hash key */
	uint64		version;		/* of the cache of weir's catalog */
	MemoryContext cxt;
	List	   *columns;		/* of TimeColumn */
	bool		tables;			/* it reads views that change (tables.c) */
	List	   *not_null;		/* of int: numbers of columns that are never NULL */
	List	   *used;			/* of UsedColumn: what its own windows go by */
	bool		used_known;
} ViewTimes;

/* Which column of an upstream a final view's windows go by. */
typedef struct UsedColumn
{
	Oid			upstream;
	AttrNumber	attno;
} UsedColumn;

static HTAB *view_times = NULL;

/* --- columns that tell the time ------------------------------------------------- */

/* The same call of a window function for the time t.at, as f; steps: with windows as long as hop() advances. NULL unless its other arguments are constants. */
static char *
call_at(FuncExpr *call, bool zoned, bool steps)
{
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, "%s(%s",
					 quote_qualified_identifier(get_namespace_name(get_func_namespace(call->funcid)), get_func_name(call->funcid)),
					 zoned ? "t.at" : "pg_catalog.timezone('UTC'::pg_catalog.text, t.at)");
	for (int i = 1; i < list_length(call->args); i++)
	{
		Node	   *node = list_nth(call->args, steps && i == 1 ? 2 : i);
		char	   *arg;

		if (!IsA(node, Const))
			return NULL;
		arg = deparse_expression(node, NIL, false, false);
		if (strchr(arg, '%'))
			return NULL;
		appendStringInfo(&sql, ", %s", arg);
	}
	appendStringInfoString(&sql, ") AS f");
	return sql.data;
}

/*
 * first_open_text returns SQL for the least window_start of the windows that a time is in; NULL unless all arguments are
 * constants. For a time in a gap that hop() leaves: the start of the next window, where one as long as the advance would end.
 */
static char *
first_open_text(FuncExpr *call)
{
	const char *const bound = "(SELECT pg_catalog.min(%s) FROM %s)";
	bool		zoned = exprType(linitial(call->args)) == TIMESTAMPTZOID;
	char	   *windows = call_at(call, zoned, false);
	char	   *first;

	if (windows == NULL)
		return NULL;
	first = psprintf(bound, zoned ? "f.window_start" : "pg_catalog.timezone('UTC'::pg_catalog.text, f.window_start)", windows);
	if (strcmp(get_func_name(call->funcid), "hop") == 0)
		first = psprintf("COALESCE(%s, %s)", first,
						 psprintf(bound, zoned ? "f.window_end" : "pg_catalog.timezone('UTC'::pg_catalog.text, f.window_end)",
								  call_at(call, zoned, true)));
	return psprintf("SELECT %s FROM (VALUES (%%s)) AS t(at)", first);
}

static bool
is_session(FuncExpr *call)
{
	return call == NULL || strcmp(get_func_name(call->funcid), "session") == 0;
}

static List *
find_time_columns(View *view, List **not_null, bool *tables)
{
	ViewShape  *shape = weir_view_shape(view);
	List	   *result = NIL;
	ListCell   *lc;

	*not_null = NIL;
	*tables = shape->tables;
	foreach(lc, shape->query->targetList)
	{
		TargetEntry *tle = lfirst(lc);
		ColumnOrigin origin = {0};
		TimeColumn *column;

		if (tle->resjunk || !(shape->session ? weir_session_origin(shape, tle, &origin) :
							  weir_trace_column(shape->query, (Node *) tle->expr, &origin)))
			continue;
		if (list_member_int(shape->unsure, tle->resno))
			continue;
		if ((origin.window != 0 || origin.not_null) && !shape->closes && !shape->outer && weir_shape_passes(shape, tle))
			*not_null = lappend_int(*not_null, weir_live_column(view->relid, tle->resno));
		if ((origin.window == 0 && !shape->first && !shape->over) || !origin.event_time || weir_source_changes(view->relid))
			continue;
		if (origin.window == 1 && is_session(origin.call))
			continue;			/* a session that is still open may have begun any time ago */
		column = palloc0(sizeof(TimeColumn));
		column->attno = weir_live_column(view->relid, tle->resno);
		column->end = origin.window != 1;	/* rows that have a time, too, come in its order */
		if (!column->end)
			column->first_open = first_open_text(origin.call);
		if (column->end || column->first_open)
			result = lappend(result, column);
	}
	return result;
}

static ViewTimes *
times_of(Oid relid)
{
	ViewTimes  *times;
	bool		found;
	uint64		version = weir_cache_version();
	MemoryContext cxt;
	MemoryContext old;
	View	   *view = weir_view_require(relid);
	List	   *columns;
	List	   *not_null;
	bool		tables;
	int			guc_level;

	if (view_times == NULL)
	{
		HASHCTL		ctl = {.keysize = sizeof(Oid),.entrysize = sizeof(ViewTimes)};

		view_times = hash_create("weir times of views", 32, &ctl, HASH_ELEM | HASH_BLOBS);
	}
	times = hash_search(view_times, &relid, HASH_FIND, NULL);
	if (times && times->version == version)
		return times;
	check_stack_depth();
	cxt = AllocSetContextCreate(CurrentMemoryContext, "weir times of a view", ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(cxt);
	guc_level = NewGUCNestLevel();
	weir_view_scope_pin();
	columns = find_time_columns(view, &not_null, &tables);
	AtEOXact_GUC(false, guc_level);
	MemoryContextSwitchTo(old);
	times = hash_search(view_times, &relid, HASH_ENTER, &found);
	if (found)
		MemoryContextSetParent(times->cxt, TopTransactionContext);	/* somebody may be reading it */
	MemoryContextSetParent(cxt, TopMemoryContext);
	times->version = version;
	times->cxt = cxt;
	times->columns = columns;
	times->not_null = not_null;
	times->tables = tables;
	times->used = NIL;
	times->used_known = false;
	return times;
}

bool
weir_upstream_is_event_time(Oid view, const char *column)
{
	AttrNumber	attno;
	ListCell   *lc;

	if (column == NULL || weir_view_get(view) == NULL)
		return false;
	attno = get_attnum(view, column);
	foreach(lc, times_of(view)->columns)
	{
		if (((TimeColumn *) lfirst(lc))->attno == attno)
			return true;
	}
	return false;
}

bool
weir_view_over_tables(View *view)
{
	return view->upstreams != NIL && times_of(view->relid)->tables;
}

bool
weir_upstream_never_null(Oid view, AttrNumber attno)
{
	return list_member_int(times_of(view)->not_null, attno);
}

AttrNumber
weir_upstream_time_column(Oid view, bool later)
{
	AttrNumber	result = 0;
	ListCell   *lc;

	foreach(lc, times_of(view)->columns)
	{
		TimeColumn *column = lfirst(lc);

		if (result == 0 || column->end == later)
			result = column->attno;
	}
	return result;
}

/* --- as a stream ------------------------------------------------------------------- */

static Oid	as_rows = InvalidOid;	/* the append view that stands for its rows now, not for its query */

void
weir_upstream_as_rows(Oid view)
{
	as_rows = view;
}

bool
weir_upstream_is_rows(Oid view)
{
	return view == as_rows;
}

bool
weir_view_is_inlined(View *view)
{
	return strcmp(view->strategy, "append") == 0 && !view->joins && view->relid != as_rows;
}

bool
weir_source_changes(Oid relid)
{
	View	   *view = weir_view_get(relid);

	return view != NULL && strcmp(view->emit, "final") != 0;
}

Stream *
weir_source_get(Oid relid)
{
	Stream	   *stream = weir_stream_get(relid);
	View	   *view = stream ? NULL : weir_view_get(relid);
	AttrNumber	attno;

	if (view == NULL)
		return stream;
	stream = palloc0(sizeof(Stream));
	stream->relid = stream->rows_relid = relid;
	stream->owner = view->owner;
	stream->name = view->name;
	stream->topics = palloc0(sizeof(char *));
	stream->keep = view->keep;
	if (stream->keep == NULL)
	{
		stream->keep = palloc0(sizeof(Interval));
		stream->keep->month = FOR_EVER_MONTHS;
	}
	stream->keeps_rows = weir_span_is_positive(stream->keep);
	stream->logged = true;
	attno = weir_upstream_time_column(relid, false);
	if (attno != 0)
	{
		stream->event_time = get_attname(relid, attno, false);
		stream->event_attnum = attno;
		stream->event_type = get_atttype(relid, attno);
	}
	return stream;
}

Stream *
weir_source_require(Oid relid)
{
	Stream	   *stream = weir_source_get(relid);

	return stream ? stream : weir_stream_require(relid);
}

/* --- its rows ------------------------------------------------------------------------ */

/* A column as a timestamptz, with an alias before it. */
static char *
time_of_column(Oid view, AttrNumber attno, const char *alias)
{
	const char *name = quote_identifier(get_attname(view, attno, false));

	return psprintf(get_atttype(view, attno) == TIMESTAMPTZOID ? "%s.%s" : "pg_catalog.timezone('UTC'::pg_catalog.text, %s.%s)",
					alias, name);
}

char *
weir_upstream_time(Oid view, bool later, const char *alias)
{
	return time_of_column(view, weir_upstream_time_column(view, later), alias);
}

/* SELECT of the columns of a delta of the view from a FROM item whose alias is r; search_path is pinned. */
static char *
select_from(Oid view, const char *from)
{
	Relation	rel = table_open(view, AccessShareLock);
	TupleDesc	desc = RelationGetDescr(rel);
	AttrNumber	attno = weir_upstream_time_column(view, false);
	char	   *time = attno ? time_of_column(view, attno, "r") : pstrdup("'-infinity'::pg_catalog.timestamptz");
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfoString(&sql, "SELECT ");
	for (int i = 0; i < desc->natts; i++)
	{
		if (!TupleDescAttr(desc, i)->attisdropped)
			appendStringInfo(&sql, "r.%s, ", quote_identifier(NameStr(TupleDescAttr(desc, i)->attname)));
	}
	appendStringInfo(&sql, "-1 AS " WEIR_COL_PARTITION ", 0::pg_catalog.int8 AS " WEIR_COL_OFFSET
					 ", %s AS " WEIR_COL_EVENT_TIME ", %s AS " WEIR_COL_STREAM_TIME " FROM %s",
					 time, time, from);
	table_close(rel, NoLock);
	return sql.data;
}

char *
weir_upstream_select(Oid view)
{
	return select_from(view, psprintf("%s AS r", weir_relation_name(view)));
}

/* Runs SQL that gives the columns of a delta of the view, and makes one of it. */
static Delta *
read_delta(Oid view, const char *sql)
{
	Relation	rel = table_open(view, AccessShareLock);
	Delta	   *delta = weir_delta_create(rel, work_mem);
	CatalogScope scope;

	weir_catalog_open(&scope);
	weir_view_scope_plain();
	weir_delta_put_query(delta, sql, true, weir_relation_name(view));
	weir_catalog_close(&scope);
	table_close(rel, NoLock);
	return delta;
}

/* The rows of a view's table in the order of their event time. */
static Delta *
read_table(Oid view, const char *qual)
{
	AttrNumber	attno = weir_upstream_time_column(view, true);
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, "SELECT * FROM (%s) AS x", weir_upstream_select(view));
	if (qual)
		appendStringInfo(&sql, " WHERE %s", qual);
	if (attno)
		appendStringInfo(&sql, " ORDER BY x.%s", quote_identifier(get_attname(view, attno, false)));
	return read_delta(view, sql.data);
}

Delta *
weir_source_read(Oid relid, const char *qual)
{
	Stream	   *stream = weir_stream_get(relid);

	return stream ? weir_segments_read(stream, qual) : read_table(relid, qual);
}

Delta *
weir_upstream_missed(View *view, Oid upstream)
{
	char	   *from = psprintf("weir.missed_row AS m, LATERAL (SELECT (CAST(m.record AS %s)).*) AS r"
								" WHERE m.view = %u AND m.source = %u ORDER BY m.n",
								weir_relation_name(upstream), view->relid, upstream);

	return read_delta(upstream, select_from(upstream, from));
}

char *
weir_upstream_between(Oid view, TimestampTz from, TimestampTz until)
{
	AttrNumber	first = weir_upstream_time_column(view, false);
	AttrNumber	last = weir_upstream_time_column(view, true);
	StringInfoData buf;

	if (first == 0)
		return NULL;
	initStringInfo(&buf);
	appendStringInfoString(&buf, "true");
	if (!TIMESTAMP_NOT_FINITE(from))
		appendStringInfo(&buf, " AND x.%s", weir_age_condition(view, weir_live_number(view, last), ">=", from));
	if (!TIMESTAMP_NOT_FINITE(until))
		appendStringInfo(&buf, " AND x.%s", weir_age_condition(view, weir_live_number(view, first), "<", until));
	return buf.data;
}

/* The first or last time of the view's rows that meet a condition; none: what is given. */
static TimestampTz
time_of_rows(Oid view, const char *aggregate, const char *condition, TimestampTz none)
{
	AttrNumber	attno = weir_upstream_time_column(view, false);
	TimestampTz result = none;
	CatalogScope scope;

	if (attno == 0)
		return result;
	weir_catalog_open(&scope);
	weir_catalog_exec("SELECT pg_catalog.%s(%s) FROM %s AS x WHERE %s", aggregate, time_of_column(view, attno, "x"), weir_relation_name(view), condition);
	if (SPI_processed == 1)
	{
		bool		isnull;
		Datum		value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);

		if (!isnull)
			result = DatumGetTimestampTz(value);
	}
	weir_catalog_close(&scope);
	return result;
}

TimestampTz
weir_upstream_newest(Oid view)
{
	return time_of_rows(view, "max", "true", DT_NOBEGIN);
}

TimestampTz
weir_upstream_oldest(Oid view, TimestampTz from)
{
	char	   *since = weir_upstream_between(view, from, DT_NOEND);

	return time_of_rows(view, "min", since ? since : "true", DT_NOEND);
}

/* --- its time -------------------------------------------------------------------------- */

static TimeColumn *
find_column(Oid view, AttrNumber attno)
{
	ListCell   *lc;

	foreach(lc, times_of(view)->columns)
	{
		if (((TimeColumn *) lfirst(lc))->attno == attno)
			return lfirst(lc);
	}
	return NULL;
}

static void
add_used(List **used, Query *query, Node *node)
{
	ColumnOrigin origin = {0};
	UsedColumn *entry;

	if (!weir_trace_column(query, node, &origin) || origin.column == NULL)
		return;
	entry = palloc(sizeof(UsedColumn));
	entry->upstream = origin.stream;
	entry->attno = get_attnum(origin.stream, origin.column);
	*used = lappend(*used, entry);
}

/* Which columns of its upstreams a view's windows go by, as far as that is plain to see. */
static List *
used_columns(View *view)
{
	ViewTimes  *times = times_of(view->relid);
	MemoryContext old;
	List	   *found = NIL;
	List	   *used = NIL;
	ListCell   *lc;
	int			guc_level;

	if (times->used_known)
		return times->used;
	guc_level = NewGUCNestLevel();
	weir_view_scope_pin();
	if (strcmp(view->strategy, "at close") != 0)
	{
		ViewShape  *shape = weir_view_shape(view);

		if (shape->end)
			add_used(&found, shape->query, (Node *) shape->end);
	}
	AtEOXact_GUC(false, guc_level);
	times = times_of(view->relid);
	old = MemoryContextSwitchTo(times->cxt);
	foreach(lc, found)
	{
		UsedColumn *entry = palloc(sizeof(UsedColumn));

		*entry = *(UsedColumn *) lfirst(lc);
		used = lappend(used, entry);
	}
	MemoryContextSwitchTo(old);
	times->used = used;
	times->used_known = true;
	return used;
}

/* Start of the first window that is still open when this much is closed. */
static TimestampTz
first_open(TimeColumn *column, TimestampTz closed)
{
	TimestampTz result = closed;
	CatalogScope scope;

	weir_catalog_open(&scope);
	weir_catalog_exec(column->first_open,
					  psprintf("%s::pg_catalog.timestamptz", weir_time_literal(closed)));
	if (SPI_processed == 1)
	{
		bool		isnull;
		Datum		value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);

		if (!isnull)
			result = DatumGetTimestampTz(value);
	}
	weir_catalog_close(&scope);
	return result;
}

TimestampTz
weir_upstream_watermark(View *view, Oid upstream)
{
	TimestampTz closed = weir_close_read(weir_view_require(upstream));
	TimeColumn *column = NULL;
	ListCell   *lc;

	if (TIMESTAMP_NOT_FINITE(closed))
		return closed;
	foreach(lc, used_columns(view))
	{
		UsedColumn *used = lfirst(lc);
		TimeColumn *found = used->upstream == upstream ? find_column(upstream, used->attno) : NULL;

		if (found && (column == NULL || column->end))
			column = found;
	}
	if (column == NULL)
		column = find_column(upstream, weir_upstream_time_column(upstream, false));
	return column == NULL || column->end ? closed : first_open(column, closed);
}

char *
weir_upstream_since(Oid view)
{
	TimestampTz closed = weir_close_read(weir_view_require(view));
	TimeColumn *column = find_column(view, weir_upstream_time_column(view, false));

	if (TIMESTAMP_NOT_FINITE(closed))
		return NULL;
	if (column == NULL)
		return pstrdup("?");
	return psprintf(WEIR_COL_EVENT_TIME " %s %s::pg_catalog.timestamptz", column->end ? ">" : ">=",
					weir_time_literal(column->end ? closed : first_open(column, closed)));
}
