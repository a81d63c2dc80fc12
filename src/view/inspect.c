/*
 * inspect.c
 *	  weir.explain and weir.verify: how a view is kept, and whether it equals its query.
 *
 * Run in the user's backend, for the view's owner and superusers. verify runs
 * the definition over the kept rows, registered as one delta per stream, as
 * the owner, with the view's settings; under ShareLock on the streams, so that
 * table and rows are of the same moment.
 *
 * The kept rows can tell about a window only if all its rows are still
 * there: rows more than weir.keep behind the stream's time may be gone.
 */
#include "postgres.h"

#include <math.h>

#include "access/table.h"
#include "catalog/catalog.h"
#include "catalog/pg_type.h"
#include "catalog/stream.h"
#include "delta/segments.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "executor/tstoreReceiver.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/parse_oper.h"
#include "storage/lmgr.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "view/close.h"
#include "view/distinct.h"
#include "view/join.h"
#include "view/measure.h"
#include "view/over.h"
#include "view/recompute.h"
#include "view/ring.h"
#include "view/session.h"
#include "view/shape.h"
#include "view/upstream.h"
#include "worker/positions.h"

PG_FUNCTION_INFO_V1(weir_explain);
PG_FUNCTION_INFO_V1(weir_verify);
PG_FUNCTION_INFO_V1(weir_close);

#define WEIR_QUERY	"weir_query"	/* placeholder of the definition in verify's statement */

/* Float results depend on the order of addition: this much difference is none. */
#define FLOAT8_TOLERANCE	1e-9
#define FLOAT4_TOLERANCE	1e-4

/* --- explain ------------------------------------------------------------------- */

static void
put_line(ReturnSetInfo *rsinfo, const char *line, int len)
{
	Datum		value = PointerGetDatum(cstring_to_text_with_len(line, len));
	bool		isnull = false;

	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, &value, &isnull);
}

static void
put_lines(ReturnSetInfo *rsinfo, const char *text)
{
	while (*text)
	{
		const char *end = strchrnul(text, '\n');

		put_line(rsinfo, text, end - text);
		text = *end ? end + 1 : end;
	}
}

static char *
stream_names(List *streams)
{
	StringInfoData buf;
	ListCell   *lc;

	initStringInfo(&buf);
	foreach(lc, streams)
		appendStringInfo(&buf, "%s%s", buf.len ? ", " : "", weir_relation_name(lfirst_oid(lc)));
	return buf.data;
}

/*
 * statement_text prints a statement. Two INSERTs in one have two relations
 * "excluded", which pg_get_querydef tells apart by a number that SQL does not know.
 */
static char *
statement_text(Query *query)
{
	char	   *text = pg_get_querydef(weir_rewrite_readable(query), true);
	char	   *from = text;
	char	   *to = text;

	while (*from)
	{
		if (strncmp(from, "excluded_1.", 11) == 0)
		{
			memcpy(to, "excluded", 8);
			to += 8;
			from += 10;
		}
		else
			*to++ = *from++;
	}
	*to = '\0';
	return text;
}

static void
append_retract(StringInfo buf, RetractStatements *retract)
{
	if (retract)
		appendStringInfo(buf, "\nweir_changes:\n%s\nweir_lost:\n%s\nweir_found, if any are lost:\n%s\nand put into the states:\n%s",
						 statement_text(retract->changes), statement_text(retract->lost), statement_text(retract->found), statement_text(retract->set));
}

static void
append_sessions(StringInfo buf, View *view, ViewShape *shape)
{
	if (shape->session->by_rows)
		appendStringInfo(buf, "rows kept: %s, one for each row that is in a session%s\ncost: %s\n", weir_relation_name(view->values_relid),
						 shape->finals ? ", until it closes" : view->keep ? ", until weir.keep of the view removes the session" : "",
						 shape->finals ? "per batch, its rows; when a session closes, all its rows, found by key and time" :
						 "per batch, its rows, and all rows of the sessions that they touch, found by key and time");
	appendStringInfo(buf, "sessions: rows of a key at most %s apart; looked up by key and time, merged where they meet\nrows:\n%s\n",
					 weir_session_gap(shape), statement_text(shape->session->source));
	if (shape->session->by_rows)
		appendStringInfo(buf, "rows to keep:\n%s\n", statement_text(weir_session_keep_statement(shape)));
}

/* weir.explain(view regclass, live boolean) */
Datum
weir_explain(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	View	   *view;
	ViewScope	scope;
	ViewShape  *shape;
	StringInfoData buf;

	InitMaterializedSRF(fcinfo, MAT_SRF_USE_EXPECTED_DESC);
	if (PG_ARGISNULL(0))
		return (Datum) 0;
	view = weir_view_require(PG_GETARG_OID(0));
	weir_check_owner(view->relid);
	weir_view_scope_open(view, &scope);
	weir_view_scope_pin();
	weir_view_scope_plain();
	shape = weir_view_shape(view);
	initStringInfo(&buf);
	appendStringInfo(&buf, "strategy: %s\nwhy: %s\nstreams: %s\n",
					 shape->strategy, shape->why, stream_names(shape->streams));
	if (shape->recompute)
		appendStringInfo(&buf, "cost: %s\n", shape->retracts ? weir_retract_cost(shape) : weir_recompute_cost(shape));
	if (shape->joins)
		appendStringInfo(&buf, "cost of the join: %s\n", weir_join_cost(shape));
	if (!shape->in_place)
		appendStringInfo(&buf, "states: %s\n", weir_relation_name(view->state_relid));
	if (shape->distinct)
		appendStringInfo(&buf, "distinct values kept: %s, a row per group and value; per batch, one look-up for each value of each group that it touches\n",
						 weir_relation_name(view->values_relid));
	if (shape->joins_table)
		appendStringInfoString(&buf, "tables: read as they are when a batch is processed\n");
	if (shape->session)
		append_sessions(&buf, view, shape);
	if (weir_view_passes(view))
	{
		char	   *obstacle = weir_pass_obstacle(view, list_length(shape->query->targetList));

		if (obstacle)
			appendStringInfo(&buf, "keep: nothing; rows go through the table, since %s\n", obstacle);
		else
			appendStringInfoString(&buf, "keep: nothing; rows go from the query to the triggers, without the INSERT shown\n");
	}
	if (!shape->at_close)
		appendStringInfo(&buf, "statement:\n%s",
					 statement_text(weir_statement_make(shape, view->relid, view->state_relid)));
	if (shape->retracts)
		append_retract(&buf, weir_retract_lookup(shape, view->state_relid));
	if (shape->finals)
		appendStringInfo(&buf, "%sstatement that closes windows:\n%s", shape->at_close ? "" : "\n",
						 statement_text(shape->at_close ? weir_atclose_statement(shape, view->relid, view->state_relid) :
									shape->session ? weir_session_close_statement(shape, view->relid, view->state_relid) :
									weir_final_close_statement(shape, view->relid, view->state_relid)));
	if (shape->remembered > 0)
		appendStringInfo(&buf, "\nstatement that remembers the last rows of keys:\n%s",
						 statement_text(weir_over_memory_statement(shape, view->state_relid)));
	if (shape->closes)
		appendStringInfo(&buf, "\nstatement for rows that find no match:\n%s",
						 statement_text(weir_outer_statement(shape, view->relid, view->state_relid)));
	put_lines(rsinfo, buf.data);
	weir_view_scope_close(&scope);
	if (!PG_ARGISNULL(1) && PG_GETARG_BOOL(1))
		put_lines(rsinfo, weir_measure_ask(view));
	return (Datum) 0;
}

/* --- what the kept rows can tell --------------------------------------------------- */

/* Number of one SQL query; NULL is -1. Inside weir_catalog_open/close. */
static int64
query_number(const char *sql)
{
	bool		isnull;
	Datum		value;

	if (SPI_execute(sql, true, 1) != SPI_OK_SELECT || SPI_processed != 1)
		elog(ERROR, "could not run %s", sql);
	value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	return isnull ? -1 : DatumGetInt64(value);
}

/* Highest event time among the kept rows and what the positions know. */
static TimestampTz
newest_row(Stream *stream)
{
	CatalogScope scope;
	int64		kept;

	if (!stream->keeps_rows)
		return weir_segments_stream_time(stream);
	weir_catalog_open(&scope);
	kept = query_number(psprintf("SELECT (extract(epoch FROM max(" WEIR_COL_EVENT_TIME ")) * 1000000)::bigint FROM %s",
								 weir_relation_name(stream->rows_relid)));
	weir_catalog_close(&scope);
	if (kept != -1)
		kept -= (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;
	return kept == -1 ? weir_segments_stream_time(stream) :
		Max((TimestampTz) kept, weir_segments_stream_time(stream));
}

/*
 * view_horizon: DT_NOBEGIN if the kept rows are all; else only rows from
 * there on are sure to be kept; DT_NOEND: none. To be asked after they were read.
 */
static TimestampTz
view_horizon(View *view)
{
	TimestampTz result = DT_NOBEGIN;
	ListCell   *lc;

	foreach(lc, view->streams)
	{
		Stream	   *stream = weir_stream_require(lfirst_oid(lc));

		if (!stream->keeps_rows || (!stream->logged && !weir_marker_there(stream->relid)))
			return DT_NOEND;
		result = Max(result, weir_segments_whole_since(stream));
	}
	foreach(lc, view->upstreams)
	{
		if (weir_source_changes(lfirst_oid(lc)))
			continue;
		if (!weir_source_require(lfirst_oid(lc))->keeps_rows)
			return DT_NOEND;
		result = Max(result, weir_segments_whole_since(weir_source_require(lfirst_oid(lc))));
	}
	return result;
}

static void
refuse_uncovered(View *view, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("kept rows cannot tell what continuous view %s should hold", view->name),
			 errdetail("Rows that it has counted are no longer kept (weir.keep of the stream)."),
			 errhint("%s", hint)));
}

/* Which kept rows belong to the view: those since WITH NO DATA. SQL over the hidden columns, or NULL for all. */
char *
weir_view_since(View *view, Oid stream)
{
	CatalogScope scope;
	char	   *result = NULL;
	MemoryContext cxt = CurrentMemoryContext;

	weir_catalog_open(&scope);
	if (SPI_execute(psprintf("SELECT u.q FROM weir.view_def v, unnest(v.streams, v.since) u(s, q)"
							 " WHERE v.view = %u AND u.s = %u", view->relid, stream), true, 1) == SPI_OK_SELECT &&
		SPI_processed == 1)
	{
		char	   *value = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);

		result = value ? MemoryContextStrdup(cxt, value) : NULL;
	}
	weir_catalog_close(&scope);
	return result;
}

static List *
kept_deltas(View *view)
{
	List	   *deltas = NIL;
	ListCell   *lc;

	foreach(lc, view->streams)
		deltas = lappend(deltas, weir_segments_read(weir_stream_require(lfirst_oid(lc)),
													weir_view_since(view, lfirst_oid(lc))));
	foreach(lc, view->upstreams)
		deltas = lappend(deltas, weir_source_read(lfirst_oid(lc), weir_view_since(view, lfirst_oid(lc))));
	return deltas;
}

/* Runs a plan that may ask what the view had closed for each row (join_applied.c). */
static void
run_knowing(View *view, PlannedStmt *plan, QueryEnvironment *env, DestReceiver *dest)
{
	JoinApplied *saved = weir_applied_enter(weir_applied_begin(view->relid, NULL));

	PG_TRY();
	{
		(void) weir_run_plan(plan, "kept rows of a continuous view", env, dest);
	}
	PG_FINALLY();
	{
		(void) weir_applied_enter(saved);
	}
	PG_END_TRY();
}

/*
 * run_over_kept_rows runs a query over deltas with all kept rows, and frees
 * them; the result goes into rows. Returns an empty slot for them. In the view's scope.
 */
static TupleTableSlot *
run_over_kept_rows(View *view, ViewShape *shape, Query *query, List *deltas, Tuplestorestate *rows)
{
	DestReceiver *dest = CreateTuplestoreDestReceiver();
	QueryEnvironment *env;
	SessionWork work;
	PlannedStmt *plan;
	ListCell   *lc;

	query = linitial_node(Query, weir_run_rewrite(query));
	weir_rewrite_estimate(query, 100000);
	env = weir_run_environment(shape->streams, deltas);
	weir_view_scope_settings(view);
	if (shape->session)
		env = weir_session_replay(shape, env, &work);
	PushActiveSnapshot(GetTransactionSnapshot());
	plan = pg_plan_query(query, "kept rows of a continuous view", 0, NULL);
	plan->jitFlags = 0;			/* compiling costs more than it saves */
	PopActiveSnapshot();
	SetTuplestoreDestReceiverParams(dest, rows, CurrentMemoryContext, false, NULL, NULL);
	run_knowing(view, plan, env, dest);
	if (shape->session)
		weir_session_free(&work);
	foreach(lc, deltas)
		weir_delta_free(lfirst(lc));
	return MakeSingleTupleTableSlot(ExecCleanTypeFromTL(plan->planTree->targetlist), &TTSOpsMinimalTuple);
}

/* weir_query(c1, c2, ...) */
static char *
query_alias(ViewShape *shape)
{
	return weir_text_aliases(WEIR_QUERY, list_length(shape->query->targetList));
}

/* First start of a window at or after a time, over the kept rows; DT_NOEND if there is none. */
static TimestampTz
first_window(View *view, ViewShape *shape, int column, TimestampTz from)
{
	TargetEntry *tle = list_nth_node(TargetEntry, shape->query->targetList, column - 1);
	bool		zoned = exprType((Node *) tle->expr) == TIMESTAMPTZOID;
	char	   *value = psprintf(zoned ? WEIR_QUERY ".c%d" : "pg_catalog.timezone('UTC'::pg_catalog.text, " WEIR_QUERY ".c%d)", column);
	Query	   *query = weir_statement_parse(psprintf("SELECT pg_catalog.min(%s) FROM %s AS %s WHERE %s OPERATOR(pg_catalog.>=) %s::pg_catalog.timestamptz",
													  value, weir_statement_placeholder(shape->query->targetList),
													  query_alias(shape), value, weir_time_literal(from)));
	Tuplestorestate *rows = tuplestore_begin_heap(false, false, work_mem);
	TupleTableSlot *slot;
	TimestampTz result = DT_NOEND;
	bool		isnull;

	weir_statement_splice(query, WEIR_QUERY, copyObject(shape->query));
	slot = run_over_kept_rows(view, shape, query, kept_deltas(view), rows);
	if (tuplestore_gettupleslot(rows, true, false, slot))
	{
		Datum		start = slot_getattr(slot, 1, &isnull);

		if (!isnull)
			result = DatumGetTimestampTz(start);
	}
	ExecDropSingleTupleTableSlot(slot);
	tuplestore_end(rows);
	return result;
}

/* weir_view_has_topics tells whether the rows of a view's streams can all be read again. */
bool
weir_view_has_topics(View *view)
{
	ListCell   *lc;

	foreach(lc, view->streams)
	{
		if (weir_stream_require(lfirst_oid(lc))->server == NULL)
			return false;
	}
	return view->upstreams == NIL;
}

/* What to do where kept rows are not enough. */
static const char *
way_out(View *view)
{
	if (!weir_view_has_topics(view))
		return "Create the view again: it begins with the rows that are kept.";
	if (list_length(view->streams) > 1)
		return "Drop the view, weir.seek its streams to 'earliest' with rebuild => true, and create it again.";
	return "weir.seek(stream, 'earliest', rebuild => true) builds the views afresh from the topic.";
}

bool
weir_view_is_whole(View *view)
{
	return view_horizon(view) == DT_NOBEGIN;
}

/* Can a part of a join of streams be told by the rows of a part of the time? */
static bool
join_has_parts(View *view)
{
	ListCell   *lc;

	if (view->join_reach < 0 || view->at_once || weir_view_closes(view))
		return false;
	foreach(lc, view->streams)
	{
		if (weir_view_since(view, lfirst_oid(lc)))
			return false;
	}
	return true;
}

TimestampTz
weir_view_covered_from(View *view, int *column)
{
	TimestampTz horizon = view_horizon(view);
	ViewShape  *shape;
	ViewScope	scope;
	bool		overlapping;

	*column = 0;
	if (horizon == DT_NOBEGIN)
		return horizon;
	weir_view_scope_open(view, &scope);
	weir_view_scope_pin();
	shape = weir_view_shape(view);
	*column = weir_first_event_column(shape, &overlapping);
	if (horizon == DT_NOEND || *column == 0 || (view->joins ? !join_has_parts(view) : overlapping))
		refuse_uncovered(view, way_out(view));
	horizon = view->joins ? horizon + view->join_reach : first_window(view, shape, *column, horizon);
	weir_view_scope_close(&scope);
	return horizon;
}

/* --- verify ------------------------------------------------------------------------- */

/* Has the type an equality that EXCEPT can use? */
static bool
comparable(Oid type)
{
	Oid			lt;
	Oid			eq;
	bool		hashable;

	get_sort_group_operators(type, false, false, false, &lt, &eq, NULL, &hashable);
	return OidIsValid(eq) && (OidIsValid(lt) || hashable);
}

static bool
is_float_result(ViewShape *shape, TargetEntry *tle)
{
	Oid			type = exprType((Node *) tle->expr);

	return shape->grouped && (type == FLOAT8OID || type == FLOAT4OID) &&
		!list_member_ptr(shape->keys, tle);
}

/* The columns of one side, comparable: c1, c2, ... */
static char *
comparable_columns(ViewShape *shape, List *names)
{
	StringInfoData buf;
	ListCell   *lc;
	int			i = 0;

	initStringInfo(&buf);
	foreach(lc, shape->query->targetList)
	{
		Oid			type = exprType((Node *) lfirst_node(TargetEntry, lc)->expr);
		char	   *name = names ? psprintf("h.%s", quote_identifier(list_nth(names, i))) :
			psprintf(WEIR_QUERY ".c%d", i + 1);

		i++;
		appendStringInfo(&buf, comparable(type) ? "%s%s AS c%d" : "%sCAST(%s AS pg_catalog.text) AS c%d",
						 i > 1 ? ", " : "", name, i);
	}
	return buf.data;
}

static char *
key_columns(ViewShape *shape, const char *alias)
{
	StringInfoData buf;
	ListCell   *lc;

	initStringInfo(&buf);
	foreach(lc, shape->keys)
		appendStringInfo(&buf, "%s%s.c%d", buf.len ? ", " : "", alias, lfirst_node(TargetEntry, lc)->resno);
	return buf.data;
}

/* Condition under which rows a and b are the same but for the order of float additions. */
static char *
close_condition(ViewShape *shape)
{
	StringInfoData buf;
	ListCell   *lc;
	int			i = 0;
	bool		any = false;

	initStringInfo(&buf);
	if (shape->keys)
		appendStringInfo(&buf, "pg_catalog.hash_record(ROW(%s)) OPERATOR(pg_catalog.=) pg_catalog.hash_record(ROW(%s)) AND ",
						 key_columns(shape, "a"), key_columns(shape, "b"));
	foreach(lc, shape->query->targetList)
	{
		TargetEntry *tle = lfirst(lc);

		i++;
		appendStringInfoString(&buf, i > 1 ? " AND " : "");
		if (is_float_result(shape, tle))
		{
			appendStringInfo(&buf, "weir.close(CAST(a.c%d AS pg_catalog.float8), CAST(b.c%d AS pg_catalog.float8), %g)", i, i,
							 exprType((Node *) tle->expr) == FLOAT4OID ? FLOAT4_TOLERANCE : FLOAT8_TOLERANCE);
			any = true;
		}
		else
			appendStringInfo(&buf, "CAST(ROW(a.c%d) AS pg_catalog.record) IS NOT DISTINCT FROM CAST(ROW(b.c%d) AS pg_catalog.record)", i, i);
	}
	return any ? buf.data : pstrdup("false");
}

/* a row's columns under the view's names */
static char *
record_columns(List *names)
{
	StringInfoData buf;
	ListCell   *lc;
	int			i = 0;

	initStringInfo(&buf);
	foreach(lc, names)
	{
		i++;
		appendStringInfo(&buf, "%sa.c%d AS %s", i > 1 ? ", " : "", i, quote_identifier(lfirst(lc)));
	}
	return buf.data;
}

static char *
verify_text(View *view, ViewShape *shape, List *names, const char *condition)
{
	StringInfoData buf;
	const char *sides[] = {"missing", "extra"};
	char	   *close = close_condition(shape);

	initStringInfo(&buf);
	appendStringInfo(&buf, "WITH expected AS MATERIALIZED (SELECT %s FROM %s AS %s),\n",
					 comparable_columns(shape, NIL),
					 weir_statement_placeholder(shape->query->targetList), query_alias(shape));
	appendStringInfo(&buf, " held AS MATERIALIZED (SELECT %s FROM %s%s AS h),\n",
					 comparable_columns(shape, names), weir_ring_is(view->relid) ? "" : "ONLY ", view->name);
	appendStringInfo(&buf, " missing AS MATERIALIZED (SELECT * FROM expected AS c %s EXCEPT ALL SELECT * FROM held AS c %s),\n", condition, condition);
	appendStringInfo(&buf, " extra AS MATERIALIZED (SELECT * FROM held AS c %s EXCEPT ALL SELECT * FROM expected AS c %s)\n", condition, condition);
	for (int i = 0; i < 2; i++)
		appendStringInfo(&buf, "%s SELECT '%s'::pg_catalog.text, pg_catalog.to_jsonb(r) FROM (SELECT %s FROM %s AS a"
						 " WHERE NOT EXISTS (SELECT FROM %s AS b WHERE %s)) AS r\n",
						 i ? "UNION ALL" : "", sides[i], record_columns(names), sides[i], sides[1 - i], close);
	return buf.data;
}

/* c<column> <operator> <time>, for a column of either side of verify's comparison */
static char *
side_condition(ViewShape *shape, int column, const char *operator, TimestampTz time)
{
	TargetEntry *tle = list_nth_node(TargetEntry, shape->query->targetList, column - 1);
	bool		zoned = exprType((Node *) tle->expr) == TIMESTAMPTZOID;

	return psprintf("c.c%d OPERATOR(pg_catalog.%s) %s%s::pg_catalog.timestamptz%s", column, operator,
					zoned ? "" : "pg_catalog.timezone('UTC'::pg_catalog.text, ",
					weir_time_literal(time), zoned ? "" : ")");
}

/* Rows that the view itself still has to keep, of those that the kept rows can tell about. */
static char *
covered_condition(View *view, ViewShape *shape)
{
	TimestampTz horizon = view_horizon(view);
	bool		overlapping;
	int			column = weir_first_event_column(shape, &overlapping);
	char	   *condition = pstrdup("WHERE true");
	TimestampTz newest = DT_NOBEGIN;
	ListCell   *lc;

	if (horizon != DT_NOBEGIN)
	{
		if (horizon == DT_NOEND || column == 0 || shape->first || shape->remembered > 0)
			refuse_uncovered(view, horizon == DT_NOEND ?
							 "Give the stream a weir.keep." :
							 "Give the stream a longer weir.keep, or group by window_start of tumble().");
		if (shape->session)
			horizon = weir_session_end_of(horizon, 2 * shape->session->rule.gap);	/* rows before may have touched rows behind */
		if (view->joins && view->join_reach < 0)
			refuse_uncovered(view, "Give the join a bound on event times.");
		condition = psprintf("%s AND %s", condition, side_condition(shape, column, ">=", horizon + Max(view->join_reach, 0) + shape->window_before));
	}
	foreach(lc, view->streams)
		newest = Max(newest, newest_row(weir_stream_require(lfirst_oid(lc))));
	foreach(lc, view->upstreams)
		newest = Max(newest, weir_upstream_newest(lfirst_oid(lc)));
	if (view->keep && view->keep_column && !TIMESTAMP_NOT_FINITE(newest))
		condition = psprintf("%s AND %s", condition,
							 side_condition(shape, weir_live_number(view->relid, get_attnum(view->relid, view->keep_column)), ">",
											weir_view_keep_limit(view, newest)));
	return condition;
}

static List *
table_column_names(Oid relid, int n)
{
	List	   *names = NIL;

	for (int i = 1; i <= n; i++)
		names = lappend(names, get_attname(relid, weir_live_column(relid, i), false));
	return names;
}

static void
check_follows(View *view)
{
	CatalogScope scope;
	int64		behind;

	weir_catalog_open(&scope);
	behind = query_number(psprintf("SELECT count(*) FROM weir.view_position WHERE view = %u", view->relid));
	weir_catalog_close(&scope);
	if (view->status != VIEW_RUNNING || behind > 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("continuous view %s does not follow its stream now", view->name),
				 errhint("weir.resume it, and wait with weir.wait().")));
}

/* weir.verify(view regclass) */
Datum
weir_verify(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	View	   *view;
	ViewScope	scope;
	ViewShape  *shape;
	Query	   *query;
	Query	   *definition;
	List	   *deltas = NIL;
	TupleTableSlot *slot;
	ListCell   *lc;

	InitMaterializedSRF(fcinfo, 0);
	if (PG_ARGISNULL(0))
		return (Datum) 0;
	PreventCommandDuringRecovery("weir.verify()");	/* there is no lock that keeps rows away */
	view = weir_view_require(PG_GETARG_OID(0));
	weir_check_owner(view->relid);
	if (weir_view_passes(view))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("continuous view %s stores nothing that could be verified", view->name),
				 errdetail("Its weir.keep is 0."),
				 errhint("Compare what its triggers sent with its query.")));
	weir_view_lock_streams(weir_view_base_streams(view));
	foreach(lc, view->upstreams)
		LockRelationOid(lfirst_oid(lc), ShareLock); /* nor is anything expired there */
	check_follows(view);
	weir_window_times = (WindowTimes) {DT_NOBEGIN, weir_close_read(view)};
	foreach(lc, kept_deltas(view))
	{
		Delta	   *delta = lfirst(lc);

		deltas = lappend(deltas, weir_stream_get(delta->stream) && !weir_behind_asked(view) ? weir_behind_lift(view, delta) : delta);
	}

	weir_view_scope_open(view, &scope);
	weir_view_scope_pin();
	shape = weir_view_shape(view);
	query = weir_statement_parse(verify_text(view, shape,
											 table_column_names(view->relid, list_length(shape->query->targetList)),
											 covered_condition(view, shape)));
	definition = shape->finals ? weir_final_closed(shape) : copyObject(shape->query);
	if (shape->closes)
		weir_outer_closed(definition);
	else if (weir_behind_asked(view))
		weir_late_only_found_open(definition);
	weir_statement_splice(query, WEIR_QUERY, definition);
	slot = run_over_kept_rows(view, shape, query, deltas, rsinfo->setResult);
	ExecDropSingleTupleTableSlot(slot);
	weir_view_scope_close(&scope);
	if (shape->joins_table)
		ereport(NOTICE,
				(errmsg("the query of continuous view %s joins tables", view->name),
				 errdetail("They are compared as they are now: rows that changed since may show as differences.")));
	return (Datum) 0;
}

/* weir.close(a, b, tolerance): are two results of float aggregates the same but for rounding? */
Datum
weir_close(PG_FUNCTION_ARGS)
{
	double		a = PG_ARGISNULL(0) ? 0 : PG_GETARG_FLOAT8(0);
	double		b = PG_ARGISNULL(1) ? 0 : PG_GETARG_FLOAT8(1);
	double		tolerance = PG_GETARG_FLOAT8(2);

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		PG_RETURN_BOOL(PG_ARGISNULL(0) && PG_ARGISNULL(1));
	if (a == b || (isnan(a) && isnan(b)))
		PG_RETURN_BOOL(true);
	PG_RETURN_BOOL(fabs(a - b) <= tolerance * (1 + Max(fabs(a), fabs(b))));
}
