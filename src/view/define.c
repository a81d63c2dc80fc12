/*
 * define.c
 *	  CREATE MATERIALIZED VIEW ... WITH (weir.continuous), and its end.
 *
 * The hook (catalog/ddl.c) ⇒ define ⇒ apply, for the rows kept so far. A view is
 *	  - the result table, the user's, with a unique index over the group keys;
 *	  - weir.query_N, an ordinary view that holds the definition: PostgreSQL's own
 *	    way to store a query, which follows renames and knows its dependencies;
 *	  - weir.state_N, if the result is not enough to go on from;
 *	  - weir.values_N, if values of DISTINCT aggregates are kept;
 *	  - a row of weir.view_def.
 * These tables depend internally on the first: DROP TABLE takes all, and what
 * drops a stream reports or takes the view.
 *
 * Locks: Share on every stream, in order of OID, until commit. So no row
 * can arrive between reading the kept rows and the view being there.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/reloptions.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/catalog.h"
#include "catalog/dependency.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "catalog/stream.h"
#include "catalog/toasting.h"
#include "commands/createas.h"
#include "commands/defrem.h"
#include "commands/tablecmds.h"
#include "commands/view.h"
#include "delta/segments.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "view/apply.h"
#include "view/close.h"
#include "view/define.h"
#include "view/distinct.h"
#include "view/join.h"
#include "view/recompute.h"
#include "view/ring.h"
#include "view/session.h"
#include "view/shape.h"
#include "view/upstream.h"
#include "worker/positions.h"
#include "worker/shared.h"

/* Groups are updated all the time: room for heap-only updates in every page. */
#define UPDATED_FILLFACTOR 70

/* --- tables ------------------------------------------------------------------- */

/* Column definitions for a query's targets; names: of char *, or NIL for the targets' own. */
static List *
column_definitions(List *targets, List *names)
{
	List	   *columns = NIL;
	ListCell   *lc;
	int			i = 0;

	foreach(lc, targets)
	{
		TargetEntry *tle = lfirst(lc);
		Node	   *expr = (Node *) tle->expr;
		char	   *name = i < list_length(names) ? list_nth(names, i) : tle->resname;
		ColumnDef  *column = makeColumnDef(name, exprType(expr), exprTypmod(expr),
										   exprCollation(expr));

		if (!OidIsValid(column->collOid) && type_is_collatable(exprType(expr)))
			ereport(ERROR,
					(errcode(ERRCODE_INDETERMINATE_COLLATION),
					 errmsg("no collation was derived for column \"%s\" with collatable type %s",
							name, format_type_be(exprType(expr))),
					 errhint("Use the COLLATE clause to set the collation explicitly.")));
		columns = lappend(columns, column);
		i++;
	}
	return columns;
}

static List *
with_fillfactor(List *options)
{
	ListCell   *lc;

	foreach(lc, options)
	{
		if (strcmp(lfirst_node(DefElem, lc)->defname, "fillfactor") == 0)
			return options;
	}
	return lappend(list_copy(options),
				   makeDefElem("fillfactor", (Node *) makeInteger(UPDATED_FILLFACTOR), -1));
}

/* How a table is stored: of a segmented view it is the slots that are. */
typedef struct Storage
{
	List	   *options;
	char	   *tablespace;
	char	   *access_method;
} Storage;

static ObjectAddress
store_table(CreateStmt *create, Storage *storage, Oid owner)
{
	static char *namespaces[] = HEAP_RELOPT_NAMESPACES;
	ObjectAddress address;
	Datum		toast;

	create->options = storage->options;
	create->tablespacename = storage->tablespace;
	create->accessMethod = storage->access_method;
	address = DefineRelation(create, RELKIND_RELATION, owner, NULL, NULL);
	CommandCounterIncrement();
	toast = transformRelOptions((Datum) 0, storage->options, "toast",
								weir_reloption_namespaces(namespaces), true, false);
	(void) heap_reloptions(RELKIND_TOASTVALUE, toast, true);
	NewRelationCreateToastTable(address.objectId, toast);
	CommandCounterIncrement();
	return address;
}

/* ring: NULL, or column is the number of the one that its slots go by; create_slots is for later. */
static ObjectAddress
create_table(RangeVar *name, List *columns, Storage *storage, Oid owner, RingPlan *ring, int column)
{
	CreateStmt *create = makeNode(CreateStmt);
	ObjectAddress address;

	create->relation = name;
	create->tableElts = columns;
	create->oncommit = ONCOMMIT_NOOP;
	if (ring == NULL)
		return store_table(create, storage, owner);
	create->partspec = weir_ring_spec(ring, columns, column);
	create->tablespacename = storage->tablespace;	/* that of indexes and the like, to come */
	address = DefineRelation(create, RELKIND_RELATION, owner, NULL, NULL);
	CommandCounterIncrement();
	return address;
}

/* The user's names of the select list: the statement's column list wins. */
static List *
result_names(ViewShape *shape, List *given)
{
	List	   *names = NIL;
	ListCell   *lc;
	int			i = 0;

	if (list_length(given) > list_length(shape->query->targetList))
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR),
				 errmsg("too many column names were specified")));
	foreach(lc, shape->query->targetList)
	{
		names = lappend(names, i < list_length(given) ? strVal(list_nth(given, i)) :
						lfirst_node(TargetEntry, lc)->resname);
		i++;
	}
	return names;
}

static Storage
result_storage(IntoClause *into, ViewShape *shape)
{
	return (Storage) {shape->grouped ? with_fillfactor(into->options) : into->options,
		into->tableSpaceName, into->accessMethod};
}

static ObjectAddress
create_result(IntoClause *into, ViewShape *shape, List *names, RingPlan *ring)
{
	Storage		storage = result_storage(into, shape);

	if (into->accessMethod && strcmp(into->accessMethod, WEIR_STREAM_AM) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("a continuous view cannot use access method \"%s\"", into->accessMethod),
				 errhint("Leave out USING.")));
	return create_table(copyObject(into->rel),
						column_definitions(shape->query->targetList, names),
						&storage, InvalidOid, ring, ring ? ring->column : 0);
}

/* weir.<kind>_<oid>, or the next free name: a restored database may hold any. */
static RangeVar *
own_name(const char *kind, Oid relid)
{
	char	   *name = psprintf("%s_%u", kind, relid);

	for (int i = 1; OidIsValid(get_relname_relid(name, weir_schema_oid())); i++)
		name = psprintf("%s_%u_%d", kind, relid, i);
	return makeRangeVar(pstrdup(WEIR_SCHEMA), name, -1);
}

static void
protect_rows(Oid relid)
{
	(void) weir_catalog_exec("CREATE TRIGGER weir_refuse_change BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE"
							 " ON %s FOR EACH STATEMENT EXECUTE FUNCTION weir.refuse_change()", weir_relation_name(relid));
}

/* The partitions of a segmented view's table; nobody but weir writes into them. Inside a catalog scope. */
static void
create_slots(ObjectAddress table, Storage *storage, Oid owner, RingPlan *ring)
{
	for (int i = 0; i < ring->nslots; i++)
	{
		Storage		mine = {list_copy_deep(storage->options), storage->tablespace, storage->access_method};
		ObjectAddress slot = store_table(weir_ring_slot(ring, table.objectId, own_name("slot", table.objectId), i), &mine, owner);

		protect_rows(slot.objectId);
	}
}

static void
depend_internally(ObjectAddress dependent, ObjectAddress on)
{
	recordDependencyOn(&dependent, &on, DEPENDENCY_INTERNAL);
}

/* weir.query_N, owned by the view's owner so that it runs with his rights. */
static ObjectAddress
create_query_view(Query *query, List *names, ObjectAddress result, Oid owner)
{
	CreateStmt *create = makeNode(CreateStmt);
	List	   *visible = NIL;
	ListCell   *lc;
	ListCell   *ln = list_head(names);
	ObjectAddress address;

	query = copyObject(query);
	foreach(lc, query->targetList)
	{
		TargetEntry *tle = lfirst(lc);

		if (tle->resjunk)
			continue;
		tle->resname = pstrdup(lfirst(ln));
		ln = lnext(names, ln);
		visible = lappend(visible, tle);
	}
	create->relation = own_name("query", result.objectId);
	create->tableElts = column_definitions(visible, names);
	create->oncommit = ONCOMMIT_NOOP;
	address = DefineRelation(create, RELKIND_VIEW, owner, NULL, NULL);
	CommandCounterIncrement();
	StoreViewQuery(address.objectId, query, false);
	CommandCounterIncrement();
	depend_internally(address, result);
	return address;
}

/* States expire as the rows do; those of finals go when their window closes. */
static Oid
create_state_table(ViewShape *shape, ObjectAddress result, Oid owner, RingPlan *ring)
{
	Storage		storage = {with_fillfactor(NIL)};
	ObjectAddress address;

	if (shape->in_place)
		return InvalidOid;
	if (shape->finals)
		ring = NULL;
	address = create_table(own_name("state", result.objectId),
						   column_definitions(shape->partial->targetList, NIL),
						   &storage, owner, ring, ring ? weir_state_key(shape, ring->column) : 0);
	depend_internally(address, result);
	if (ring)
		create_slots(address, &storage, owner, ring);
	return address.objectId;
}

/* The same of a view over sessions: what aggregates that do not merge need of each row. */
static Oid
create_session_rows(ViewShape *shape, ObjectAddress result, Oid owner)
{
	Storage		storage = {NIL};
	ObjectAddress address = create_table(own_name("values", result.objectId),
										 column_definitions(weir_session_kept_targets(shape), NIL), &storage, owner, NULL, 0);

	depend_internally(address, result);
	(void) weir_catalog_exec("CREATE INDEX ON %s (%s)", weir_relation_name(address.objectId), weir_session_kept_index());
	protect_rows(address.objectId);
	return address.objectId;
}

/* weir.values_N, with its unique index; names: of the view's columns. */
static Oid
create_values_table(ViewShape *shape, List *names, ObjectAddress result, Oid owner, RingPlan *ring)
{
	Storage		storage = {NIL};
	ObjectAddress address;
	List	   *targets;
	char	   *age;
	int			column = 0;
	ListCell   *lc;

	if (shape->session && shape->session->by_rows)
		return create_session_rows(shape, result, owner);
	if (shape->distinct == NULL)
		return InvalidOid;
	targets = weir_distinct_targets(shape);
	if (shape->finals)
		ring = NULL;
	address = create_table(own_name("values", result.objectId), column_definitions(targets, NIL), &storage, owner,
						   ring, ring ? weir_state_key(shape, ring->column) : 0);
	depend_internally(address, result);
	if (ring)
		create_slots(address, &storage, owner, ring);
	age = shape->finals ? NULL : weir_keep_column(shape, names, false);
	foreach(lc, names)
	{
		if (age && strcmp(lfirst(lc), age) == 0)
			column = weir_state_key(shape, foreach_current_index(lc) + 1);
	}
	(void) weir_catalog_exec("CREATE UNIQUE INDEX ON %s (%s) NULLS NOT DISTINCT", weir_relation_name(address.objectId),
							 weir_distinct_index(shape, weir_statement_columns(address.objectId, targets), column));
	protect_rows(address.objectId);
	return address.objectId;
}

/* Unique over the keys, and closed to changes by others. */
static void
protect_table(Oid relid, List *keys, bool unique)
{
	char	   *name = weir_relation_name(relid);
	char	   *columns = weir_text_names("", keys);

	if (!unique && keys)
		(void) weir_catalog_exec("CREATE INDEX ON %s (%s)", name, columns);
	if (unique)
		(void) weir_catalog_exec("CREATE UNIQUE INDEX ON %s (%s) NULLS NOT DISTINCT",
								 name, keys ? columns : "(true)");
	protect_rows(relid);
}

static List *
names_of_keys(ViewShape *shape, List *names)
{
	List	   *keys = NIL;
	ListCell   *lc;

	foreach(lc, shape->keys)
		keys = lappend(keys, list_nth(names, lfirst_node(TargetEntry, lc)->resno - 1));
	return keys;
}

static List *
names_of_state_keys(ViewShape *shape)
{
	List	   *keys = NIL;
	int			last = shape->session ? shape->session->rule.state_start : 0;	/* sessions of a key side by side */

	for (int i = 1; i <= list_length(shape->keys); i++)
	{
		if (i != last)
			keys = lappend(keys, psprintf("k%d", i));
	}
	return last ? lappend(keys, psprintf("k%d", last)) : keys;
}

/* --- the catalog row --------------------------------------------------------------- */

static Datum
settings_array(void)
{
	Datum		values[4];

	for (int i = 0; i < 4; i++)
		values[i] = CStringGetTextDatum(GetConfigOption(weir_view_setting_names[i], false, false));
	return PointerGetDatum(construct_array(values, 4, TEXTOID, -1, false, TYPALIGN_INT));
}

static Datum
streams_array(List *streams)
{
	Datum	   *values = palloc(sizeof(Datum) * list_length(streams));
	int			n = 0;
	ListCell   *lc;

	foreach(lc, streams)
		values[n++] = ObjectIdGetDatum(lfirst_oid(lc));
	return PointerGetDatum(construct_array(values, n, REGCLASSOID, sizeof(Oid), true, TYPALIGN_INT));
}

static void
insert_view_def(Oid relid, Oid query, Oid state, Oid distinct_values, ViewShape *shape,
				WeirViewOptions *options, const char *keep_column, Datum settings)
{
	Oid			types[17] = {REGCLASSOID, REGCLASSOID, REGCLASSOID, REGCLASSARRAYOID, TEXTOID,
	TEXTOID, INTERVALOID, INTERVALOID, TEXTOID, TEXTOID, TEXTARRAYOID, INT8OID, BOOLOID, INT8OID, TEXTOID, REGCLASSOID, BOOLOID};
	Datum		values[17];
	char		nulls[17];

	memset(nulls, ' ', sizeof(nulls));
	values[0] = ObjectIdGetDatum(relid);
	values[1] = ObjectIdGetDatum(query);
	values[2] = ObjectIdGetDatum(state);
	nulls[2] = OidIsValid(state) ? ' ' : 'n';
	values[3] = streams_array(shape->streams);
	values[4] = CStringGetTextDatum(options->emit);
	values[5] = CStringGetTextDatum(shape->strategy);
	values[6] = PointerGetDatum(options->lateness);
	nulls[6] = options->lateness ? ' ' : 'n';
	values[7] = PointerGetDatum(options->keep);
	nulls[7] = options->keep ? ' ' : 'n';
	values[8] = keep_column ? CStringGetTextDatum(keep_column) : (Datum) 0;
	nulls[8] = keep_column ? ' ' : 'n';
	values[9] = CStringGetTextDatum(options->unmatched);
	values[10] = settings;
	values[11] = Int64GetDatum(shape->join_reach);
	nulls[11] = shape->joins ? ' ' : 'n';
	values[12] = BoolGetDatum(shape->closes);
	values[13] = Int64GetDatum(shape->close_shift);
	values[14] = options->start ? CStringGetTextDatum(options->start) : (Datum) 0;
	nulls[14] = options->start ? ' ' : 'n';
	values[15] = ObjectIdGetDatum(distinct_values);
	nulls[15] = OidIsValid(distinct_values) ? ' ' : 'n';
	values[16] = BoolGetDatum(shape->instants);
	if (SPI_execute_with_args("INSERT INTO weir.view_def (view, query, state, streams, emit,"
							  " strategy, lateness, keep, keep_column, unmatched, settings, join_reach, closes, close_shift, start, distinct_values, instants)"
							  " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9::name, $10, $11, $12, $13, $14, $15, $16, $17)",
							  17, types, values, nulls, false, 0) != SPI_OK_INSERT)
		elog(ERROR, "could not insert into weir.view_def");
}

/* --- filling ------------------------------------------------------------------------- */

/* All kept rows of all streams at once: what is new in a join is not the sum over its streams. */
static uint64
fill_joined(View *view)
{
	List	   *deltas = NIL;
	uint64		rows;
	ListCell   *lc;

	foreach(lc, view->streams)
		deltas = lappend(deltas, weir_segments_read(weir_stream_require(lfirst_oid(lc)), NULL));
	rows = weir_view_apply_whole(view, deltas);
	foreach(lc, deltas)
		weir_delta_free(lfirst(lc));
	return rows;
}

/* The rows kept (those that meet qual), through the same statement as any other delta. */
uint64
weir_view_fill(View *view, const char *qual)
{
	uint64		rows = 0;
	ListCell   *lc;

	if (qual == NULL && weir_fill_below(view, false, &rows))
		return rows;
	if (view->joins)
		return fill_joined(view);
	foreach(lc, view->streams)
	{
		Delta	   *delta = weir_segments_read(weir_stream_require(lfirst_oid(lc)), qual);

		rows += weir_view_apply(view, delta);
		weir_delta_free(delta);
	}
	foreach(lc, view->upstreams)
	{
		Delta	   *delta = weir_source_read(lfirst_oid(lc), qual);

		rows += weir_view_apply(view, delta);
		weir_delta_free(delta);
	}
	return rows;
}

/*
 * weir.start on a view: it reads the topics from their beginning, beside its streams, until it has caught up. Rows that were
 * INSERTed are in no topic: those that are kept.
 */
static void
detach_to_beginning(View *view)
{
	CatalogScope scope;
	ListCell   *lc;

	foreach(lc, view->streams)
	{
		Stream	   *stream = weir_stream_require(lfirst_oid(lc));
		Delta	   *delta;

		if (!stream->keeps_rows)
			continue;
		delta = weir_segments_read(stream, WEIR_COL_PARTITION " = -1");
		if (delta->nrows > 0)
			(void) weir_view_apply(view, delta);
		weir_delta_free(delta);
	}

	weir_catalog_open(&scope);
	(void) weir_catalog_exec("INSERT INTO weir.view_position (view, stream, topic, partition, next_offset)"
							 " SELECT %u, p.stream, p.topic, p.partition, -2"
							 " FROM weir.position p JOIN weir.view_def v ON p.stream = ANY (v.streams)"
							 " WHERE v.view = %u AND p.partition >= 0", view->relid, view->relid);
	weir_catalog_changed();
	weir_catalog_close(&scope);
}

static void
check_options(WeirViewOptions *options, const char *name)
{
	if (options->start && strcmp(options->start, "earliest") != 0)
		weir_refuse(name, "weir.start of a view other than 'earliest' is not supported.",
					"weir.start = 'earliest' replays the topic; WITH NO DATA starts from now.");
}

/* weir.start replays topics: rows that were INSERTed are not in any. */
static void
check_replayable(ViewShape *shape)
{
	ListCell   *lc;

	foreach(lc, shape->streams)
	{
		if (weir_source_require(lfirst_oid(lc))->ntopics == 0)
			weir_refuse(shape->name, psprintf("weir.start replays the topic, and the stream %s has none.",
											  weir_relation_name(lfirst_oid(lc))),
						"Leave out weir.start: WITH DATA, the default, begins with the rows kept.");
	}
}

/* Checks SELECT on all that the query names, as PostgreSQL does when a view is read. */
static void
check_rights(Oid query_relid)
{
	SPI_connect();
	if (SPI_execute(psprintf("SELECT FROM %s LIMIT 0", weir_relation_name(query_relid)), true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read %s", weir_relation_name(query_relid));
	SPI_finish();
}

/*
 * weir_view_lock_streams keeps new rows away from streams (and those of views) until commit, in every stream's
 * order of OID, and kept rows from being expired meanwhile (which takes the segments exclusively).
 */
void
weir_view_lock_streams(List *streams)
{
	List	   *base = NIL;
	ListCell   *lc,
			   *ls;

	foreach(lc, streams)
	{
		View	   *view = weir_view_get(lfirst_oid(lc));

		base = view ? list_concat_unique_oid(base, weir_view_base_streams(view)) :
			list_append_unique_oid(base, lfirst_oid(lc));
	}
	list_sort(base, list_oid_cmp);
	foreach(lc, base)
	{
		LockRelationOid(lfirst_oid(lc), ShareLock);
		foreach(ls, weir_segments_all(lfirst_oid(lc)))
			LockRelationOid(lfirst_oid(ls), AccessShareLock);
	}
}

/* All that belongs to the view, without rows. */
static ObjectAddress
create_objects(CreateTableAsStmt *stmt, WeirViewOptions *options, ViewShape *shape)
{
	List	   *names = result_names(shape, stmt->into->colNames);
	char	   *keep_column = weir_keep_column(shape, names, options->keep && weir_span_is_positive(options->keep));
	Oid			owner = GetUserId();
	Datum		settings = settings_array();	/* the user's: weir_catalog_open has its own */
	RingPlan   *ring = options->segmented ? weir_ring_plan(shape, options->keep, names, keep_column) : NULL;
	ObjectAddress result = create_result(stmt->into, shape, names, ring);
	Storage		storage = result_storage(stmt->into, shape);
	ObjectAddress query;
	Oid			state;
	Oid			distinct_values;
	CatalogScope scope;

	weir_catalog_open(&scope);
	query = create_query_view(castNode(Query, stmt->query), names, result, owner);
	if (ring)
		create_slots(result, &storage, owner, ring);
	state = create_state_table(shape, result, owner, ring);
	if (shape->hidden_keys)
		protect_table(result.objectId, NIL, false);
	else
		protect_table(result.objectId, names_of_keys(shape, names), shape->grouped);
	if (OidIsValid(state))
		protect_table(state, shape->remembered > 0 ? list_make1("h") : names_of_state_keys(shape), shape->remembered == 0);
	distinct_values = create_values_table(shape, names, result, owner, ring);
	if (shape->finals && OidIsValid(state) && !shape->at_close)
		(void) weir_catalog_exec("CREATE INDEX ON %s (%s)", weir_relation_name(state),
								 quote_identifier(get_attname(state, shape->end_column, false)));
	if (shape->retracts && shape->keys)
		(void) weir_catalog_exec("CREATE INDEX ON %s ((true)) WHERE s1 OPERATOR(pg_catalog.=) 0", weir_relation_name(state));
	if (shape->at_once)
		weir_once_index(shape, result.objectId);
	weir_catalog_close(&scope);

	check_rights(query.objectId);

	weir_catalog_open(&scope);
	insert_view_def(result.objectId, query.objectId, state, distinct_values, shape, options,
					options->keep ? keep_column : NULL, settings);
	weir_catalog_close(&scope);
	CommandCounterIncrement();
	weir_cache_forget();
	return result;
}

/* May the view begin with all that the topics still have? */
static void
check_start(ViewShape *shape)
{
	if (shape->joins)
		weir_refuse(shape->name, "weir.start: a join of streams needs the rows kept of each, as they were when the other's came.",
					"Leave out weir.start: WITH DATA, the default, begins with the rows kept.");
	if (shape->recompute && !shape->recompute->from_result)
		weir_refuse(shape->name, "weir.start: the rows that the topic still has would be needed beside those kept, to compute keys anew.",
					"Leave out weir.start, or weir.seek(stream, 'earliest', rebuild => true) when the view is there.");
	check_replayable(shape);
}

/* Locks the streams until commit, and lets them keep what the view needs, and find it. */
static void
prepare_streams(ViewShape *shape, WeirViewOptions *options)
{
	ListCell   *lc;

	weir_view_lock_streams(shape->streams);
	foreach(lc, shape->streams)
	{
		if (weir_view_get(lfirst_oid(lc)))
			weir_capture_watch(lfirst_oid(lc));
	}
	weir_close_prepare(shape->streams, shape->finals || options->lateness || shape->recompute || shape->joins);
	if (shape->recompute)
		weir_recompute_index(shape);
	if (shape->joins)
		weir_join_prepare(shape);
	foreach(lc, shape->first || shape->over ? shape->streams : NIL)
	{
		if (weir_stream_get(lfirst_oid(lc)))
			weir_segments_index_time(weir_stream_get(lfirst_oid(lc)));
	}
}

ObjectAddress
weir_view_create(CreateTableAsStmt *stmt, WeirViewOptions *options,
				 const char *shown_name, QueryCompletion *qc)
{
	const char *name = shown_name ? shown_name : stmt->into->rel->relname;
	ObjectAddress result;
	ViewShape  *shape;
	View	   *view;
	uint64		rows = 0;

	if (CreateTableAsRelExists(stmt))
		return InvalidObjectAddress;
	check_options(options, name);
	weir_rewrite_check_settings(castNode(Query, stmt->query));
	shape = weir_shape_make(castNode(Query, stmt->query), name,
							strcmp(options->emit, "final") == 0, strcmp(options->unmatched, "at once") == 0,
							options->lateness, options->keep);
	if (options->start)
		check_start(shape);
	if (shape->session && !shape->finals && options->lateness == NULL)
		options->lateness = options->keep;	/* what is kept is the same for every row then */
	prepare_streams(shape, options);
	if (shape->tables)
		weir_tables_announce(shape);
	else
		weir_tables_announce_beside(shape);
	if (shape->limits)
		ereport(NOTICE, (errmsg("LIMIT of view \"%s\" counts for each window by itself", name)));
	result = create_objects(stmt, options, shape);
	view = weir_view_require(result.objectId);
	if (view->keep && !weir_view_passes(view))
		weir_view_index_age(view);
	if (shape->grouped && shape->keys == NIL)
		(void) weir_view_apply_empty(view);
	if (shape->finals || shape->closes)
		weir_close_begin(view);
	if (options->start)
		detach_to_beginning(view);
	else if (shape->tables)
		rows = weir_view_apply_all(view);
	else if (!stmt->into->skipData)
		rows = weir_view_fill(view, NULL);
	else
		weir_view_start_now(view);
	if ((shape->finals || shape->closes) && !options->start && !stmt->into->skipData)
		rows = (shape->finals ? 0 : rows) + weir_close_view(view, InvalidOid, NULL, 0);
	if (qc && !stmt->into->skipData)
		SetQueryCompletion(qc, CMDTAG_SELECT, rows);
	return result;
}
