/*
 * replace.c
 *	  weir.replace(view, query): another query for a view that stays.
 *
 * A second view is made and filled beside the old one, as CREATE does it; then the second takes the place of
 * the first: the old table gets the columns of the new query, the difference of the rows, and the second
 * view's definition, states and positions. The second view is dropped. The table stays the
 * same for all that depends on it: triggers, indexes, grants, comments, ordinary views, foreign keys, views above.
 *
 * From the kept rows all is one transaction of the session. From the topic (replace_topic.c) the session only makes the
 * second view, the workers fill it, and the first worker lets it take the place.
 *
 * Locks: Share on the streams, so nothing arrives; readers are kept out only from the change of the
 * columns on (AccessExclusive, if columns come or go) until commit, and see the old rows or the new ones.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/catalog.h"
#include "catalog/dependency.h"
#include "catalog/options.h"
#include "catalog/pg_class.h"
#include "catalog/stream.h"
#include "commands/createas.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/analyze.h"
#include "parser/parser.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"
#include "view/close.h"
#include "view/define.h"
#include "view/replace.h"
#include "view/ring.h"
#include "view/shape.h"
#include "view/upstream.h"
#include "worker/positions.h"
#include "worker/shared.h"

PG_FUNCTION_INFO_V1(weir_replace);

/* --- the query ------------------------------------------------------------------- */

static Query *
analyse(const char *text)
{
	List	   *raw = raw_parser(text, RAW_PARSE_DEFAULT);
	Query	   *query;

	if (list_length(raw) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR),
				 errmsg("weir.replace needs one SELECT")));
	query = parse_analyze_fixedparams(linitial_node(RawStmt, raw), text, NULL, 0, NULL);
	if (query->commandType != CMD_SELECT || query->utilityStmt != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_SYNTAX_ERROR),
				 errmsg("weir.replace needs one SELECT")));
	return query;
}

static TargetEntry *
find_target(Query *query, const char *name)
{
	ListCell   *lc;

	foreach(lc, query->targetList)
	{
		TargetEntry *tle = lfirst(lc);

		if (!tle->resjunk && strcmp(tle->resname, name) == 0)
			return tle;
	}
	return NULL;
}

/* A column that stays must stay what it is. */
static void
check_type(Replace *replace, Form_pg_attribute att, TargetEntry *tle)
{
	Oid			type = exprType((Node *) tle->expr);

	if (type == att->atttypid && exprCollation((Node *) tle->expr) == att->attcollation)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("column \"%s\" of continuous view %s would become another type", NameStr(att->attname), replace->view->name),
			 errdetail("It is of type %s, and %s in the new query.", format_type_be(att->atttypid), format_type_be(type)),
			 errhint("Cast it to %s, or give it another name.", format_type_be(att->atttypid))));
}

static int
count_columns(Oid relid)
{
	Relation	rel = table_open(relid, AccessShareLock);
	int			n = RelationGetNumberOfAttributes(rel);

	table_close(rel, NoLock);
	return n;
}

/* weir_replace_compare tells which columns stay, come and go. Those that the user added to the table stay his. */
void
weir_replace_compare(Replace *replace, Query *query)
{
	Relation	rel = table_open(replace->view->relid, AccessShareLock);
	TupleDesc	desc = RelationGetDescr(rel);
	int			nmine = count_columns(replace->view->query_relid);
	char	   *others = NULL;	/* a column of the user's own */
	ListCell   *lc;

	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);
		TargetEntry *tle;

		if (att->attisdropped)
			continue;
		if (nmine-- <= 0)
		{
			others = NameStr(att->attname);
			break;
		}
		tle = find_target(query, NameStr(att->attname));
		if (tle)
		{
			check_type(replace, att, tle);
			replace->kept = lappend(replace->kept, pstrdup(NameStr(att->attname)));
		}
		else
			replace->dropped = lappend(replace->dropped, pstrdup(NameStr(att->attname)));
	}
	foreach(lc, query->targetList)
	{
		TargetEntry *tle = lfirst(lc);
		bool		there = tle->resjunk;
		ListCell   *lk;

		foreach(lk, replace->kept)
			there |= !tle->resjunk && strcmp(lfirst(lk), tle->resname) == 0;
		if (!there)
			replace->added = lappend(replace->added, tle->resname);
	}
	if (others && replace->added)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("continuous view %s cannot get column \"%s\"", replace->view->name, (char *) linitial(replace->added)),
				 errdetail("Column \"%s\", which is not of its query, stands where the query's columns would go on.", others),
				 errhint("ALTER TABLE %s DROP COLUMN %s, and add it again afterwards.", replace->view->name, quote_identifier(others))));
	table_close(rel, NoLock);
}

/* The table's order, then what is new; hidden targets behind. */
static void
order_columns(Replace *replace, Query *query)
{
	List	   *names = list_concat_copy(replace->kept, replace->added);
	List	   *targets = NIL;
	ListCell   *lc;

	foreach(lc, names)
		targets = lappend(targets, find_target(query, lfirst(lc)));
	if (query->setOperations && !equal(targets, list_copy_head(query->targetList, list_length(targets))))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("the columns of a UNION ALL stand in another order than in continuous view %s", replace->view->name),
				 errhint("List the columns that stay first, in the view's order, then the new ones.")));
	foreach(lc, query->targetList)
	{
		if (lfirst_node(TargetEntry, lc)->resjunk)
			targets = lappend(targets, lfirst(lc));
	}
	foreach(lc, targets)
		lfirst_node(TargetEntry, lc)->resno = foreach_current_index(lc) + 1;
	query->targetList = targets;
}

/* --- the view beside ------------------------------------------------------------------ */

/* As CREATE MATERIALIZED VIEW would make it, with the old one's options, for its owner. */
static void
make_beside(Replace *replace, Query *query, char *name, char *start)
{
	View	   *view = replace->view;
	CreateTableAsStmt *stmt = makeNode(CreateTableAsStmt);
	WeirViewOptions options;
	ObjectAddress made;

	stmt->query = (Node *) query;
	stmt->objtype = OBJECT_MATVIEW;
	stmt->into = makeNode(IntoClause);
	stmt->into->rel = makeRangeVar(get_namespace_name(get_rel_namespace(view->relid)), name, -1);
	weir_options_view_defaults(&options);
	options.continuous = true;
	options.emit = view->emit;
	options.lateness = view->lateness;
	options.keep = view->keep;
	if (view->at_once)
		options.unmatched = "at once";
	options.start = start;
	options.segmented = weir_ring_is(view->relid) && view->keep;
	made = weir_view_create(stmt, &options, get_rel_name(view->relid), NULL);
	CommandCounterIncrement();
	replace->beside = weir_view_require(made.objectId);
}

static void
check_whole(Replace *replace)
{
	if (replace->beside->streams == NIL || weir_view_is_whole(replace->beside))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("kept rows cannot tell what continuous view %s would hold", replace->view->name),
			 errdetail("Rows that it has counted are no longer kept (weir.keep of the stream)."),
			 weir_view_has_topics(replace->beside) ?
			 errhint("weir.replace(..., start => 'earliest') builds it from what the topic still has, while the old one goes on.") :
			 errhint("Create another view, which begins with the rows that are kept.")));
}

/* --- the table --------------------------------------------------------------------------- */

static void
change_columns(Replace *replace)
{
	StringInfoData sql;
	ListCell   *lc;
	ViewScope	scope;

	initStringInfo(&sql);
	foreach(lc, replace->dropped)
		appendStringInfo(&sql, "%s DROP COLUMN %s", sql.len ? "," : "", quote_identifier(lfirst(lc)));
	foreach(lc, replace->added)
	{
		AttrNumber	attno = get_attnum(replace->beside->relid, lfirst(lc));
		Oid			type;
		int32		typmod;
		Oid			collation;

		get_atttypetypmodcoll(replace->beside->relid, attno, &type, &typmod, &collation);
		appendStringInfo(&sql, "%s ADD COLUMN %s %s%s%s", sql.len ? "," : "", quote_identifier(lfirst(lc)),
						 weir_statement_type(type, typmod),
						 OidIsValid(collation) ? " COLLATE " : "", OidIsValid(collation) ? generate_collation_name(collation) : "");
	}
	if (sql.len == 0)
		return;
	weir_view_scope_open(replace->view, &scope);	/* a domain's check is run */
	weir_view_scope_pin();
	SPI_connect();
	weir_view_alter_columns(sql.data, replace->table);
	SPI_finish();
	weir_view_scope_close(&scope);
	CommandCounterIncrement();
}

/* Names of the columns of weir's unique index; NIL: none. */
static List *
unique_names(Oid relid)
{
	List	   *names = NIL;
	ListCell   *lc;

	foreach(lc, weir_unique_columns(relid))
		names = lappend(names, get_attname(relid, lfirst_int(lc), false));
	return names;
}

/*
 * The indexes that weir made for the new query: unique ones of the old query that it has not go, those that are missing
 * are made. Unique ones with NULLS NOT DISTINCT are weir's.
 */
static void
change_indexes(Replace *replace)
{
	CatalogScope scope;

	weir_catalog_open(&scope);
	(void) weir_catalog_exec("DO $weir$ DECLARE i record; BEGIN"
							 " FOR i IN SELECT o.indexrelid::regclass AS name FROM pg_index o WHERE o.indrelid = %u AND o.indisunique AND o.indnullsnotdistinct"
							 " AND NOT EXISTS (SELECT FROM pg_index n WHERE n.indrelid = %u AND substring(pg_get_indexdef(n.indexrelid) FROM ' USING .*') = substring(pg_get_indexdef(o.indexrelid) FROM ' USING .*'))"
							 " LOOP EXECUTE format('DROP INDEX %%s', i.name); END LOOP;"
							 " FOR i IN SELECT n.indisunique AS u, substring(pg_get_indexdef(n.indexrelid) FROM ' USING .*') AS d FROM pg_index n WHERE n.indrelid = %u"
							 " AND NOT EXISTS (SELECT FROM pg_index o WHERE o.indrelid = %u AND substring(pg_get_indexdef(o.indexrelid) FROM ' USING .*') = substring(pg_get_indexdef(n.indexrelid) FROM ' USING .*'))"
							 " LOOP EXECUTE format('CREATE %%s INDEX ON %%s %%s', CASE WHEN i.u THEN 'UNIQUE' END, %u::regclass, i.d); END LOOP; END $weir$",
							 replace->view->relid, replace->beside->relid, replace->beside->relid, replace->view->relid, replace->view->relid);
	weir_catalog_close(&scope);
	CommandCounterIncrement();
}

/* Is a row of the new query told apart by other columns than one of the old? */
static bool
key_differs(Replace *replace)
{
	static const char *const keys = "(SELECT array_agg(k ORDER BY k) FROM (SELECT substring(pg_get_indexdef(indexrelid) FROM ' USING .*') AS k FROM pg_index"
		" WHERE indrelid = %u AND indisunique AND indnullsnotdistinct) x)";
	CatalogScope scope;
	bool		result;

	weir_catalog_open(&scope);
	result = weir_catalog_exec("SELECT WHERE %s IS DISTINCT FROM %s", psprintf(keys, replace->view->relid),
							   psprintf(keys, replace->beside->relid)) > 0;
	weir_catalog_close(&scope);
	return result;
}

/* One statement, so that foreign keys and triggers see the difference only. */
static char *
difference_text(Replace *replace, List *key)
{
	List	   *all = list_concat_copy(replace->kept, replace->added);
	List	   *values = NIL;
	const char *beside = weir_relation_name(replace->beside->relid);
	StringInfoData set;
	ListCell   *lc;

	foreach(lc, all)
	{
		bool		is_key = false;
		ListCell   *lk;

		foreach(lk, key)
			is_key |= strcmp(lfirst(lk), lfirst(lc)) == 0;
		if (!is_key)
			values = lappend(values, lfirst(lc));
	}
	if (key == NIL)
		return psprintf("WITH o AS MATERIALIZED (SELECT t.tableoid AS o, t.ctid AS id, CAST(ROW(%s) AS text) AS r, row_number() OVER (PARTITION BY CAST(ROW(%s) AS text)) AS d FROM %s AS t),"
						" n AS MATERIALIZED (SELECT n.*, CAST(ROW(%s) AS text) AS weir_r, row_number() OVER (PARTITION BY CAST(ROW(%s) AS text)) AS weir_d FROM %s AS n),"
						" gone AS (DELETE FROM %s AS t USING o WHERE t.tableoid = o.o AND t.ctid = o.id AND NOT EXISTS (SELECT FROM n WHERE n.weir_r = o.r AND n.weir_d = o.d) RETURNING 1)"
						" INSERT INTO %s (%s) SELECT %s FROM n WHERE (SELECT count(*) FROM gone) >= 0 AND NOT EXISTS (SELECT FROM o WHERE o.r = n.weir_r AND o.d = n.weir_d)",
						weir_text_names("t.", all), weir_text_names("t.", all), replace->table,
						weir_text_names("n.", all), weir_text_names("n.", all), beside,
						replace->table, replace->table, weir_text_names("", all), weir_text_names("n.", all));
	initStringInfo(&set);
	foreach(lc, values)
		appendStringInfo(&set, "%s%s = excluded.%s", set.len ? ", " : "", quote_identifier(lfirst(lc)), quote_identifier(lfirst(lc)));
	return psprintf("WITH n AS MATERIALIZED (SELECT CAST(ROW(%s) AS text) AS r FROM %s AS n),"
					" gone AS (DELETE FROM %s AS t USING (SELECT t.tableoid AS o, t.ctid AS id FROM %s AS t WHERE NOT EXISTS (SELECT FROM n WHERE n.r = CAST(ROW(%s) AS text))) AS o WHERE t.tableoid = o.o AND t.ctid = o.id)"
					" INSERT INTO %s AS t (%s) SELECT %s FROM %s AS n ON CONFLICT (%s) %s%s%s%s%s%s",
					weir_text_names("n.", key), beside, replace->table, replace->table, weir_text_names("t.", key),
					replace->table, weir_text_names("", all), weir_text_names("n.", all), beside, weir_text_names("", key),
					values ? "DO UPDATE SET " : "DO NOTHING", set.data,
					values ? " WHERE CAST(ROW(" : "", values ? weir_text_names("t.", values) : "",
					values ? ") AS record) *<> CAST(ROW(" : "",
					values ? psprintf("%s) AS record)", weir_text_names("excluded.", values)) : "");
}

static void
run_as_owner(Replace *replace, const char *sql)
{
	ViewScope	scope;

	weir_view_scope_open(replace->view, &scope);
	weir_view_scope_pin();
	weir_view_scope_plain();
	SPI_connect();
	weir_applying_exec(sql);
	SPI_finish();
	weir_view_scope_close(&scope);
	CommandCounterIncrement();
}

static void
change_rows(Replace *replace)
{
	List	   *key = unique_names(replace->beside->relid);

	if (key_differs(replace))
		run_as_owner(replace, psprintf("DELETE FROM %s", replace->table));	/* old rows do not fit the new key */
	change_indexes(replace);
	run_as_owner(replace, difference_text(replace, key));
}

/* --- the catalog ---------------------------------------------------------------------------- */

/* weir.query_N or weir.state_N of one view belongs to the other. */
static void
hand_over(Oid object, Oid from, Oid to)
{
	ObjectAddress dependent;
	ObjectAddress on;

	if (!OidIsValid(object))
		return;
	(void) deleteDependencyRecordsForSpecific(RelationRelationId, object, DEPENDENCY_INTERNAL, RelationRelationId, from);
	ObjectAddressSet(dependent, RelationRelationId, object);
	ObjectAddressSet(on, RelationRelationId, to);
	if (OidIsValid(to))
		recordDependencyOn(&dependent, &on, DEPENDENCY_INTERNAL);
}

static void
take_over(Replace *replace)
{
	Oid			view = replace->view->relid;
	Oid			beside = replace->beside->relid;
	static const char *const tables[] = {"view_close", "view_position", "view_behind", "dead_letter", "late_row"};
	CatalogScope scope;

	hand_over(replace->view->query_relid, view, InvalidOid);
	hand_over(replace->view->state_relid, view, InvalidOid);
	hand_over(replace->view->values_relid, view, InvalidOid);
	hand_over(replace->beside->query_relid, beside, view);
	hand_over(replace->beside->state_relid, beside, view);
	hand_over(replace->beside->values_relid, beside, view);
	CommandCounterIncrement();
	weir_catalog_open(&scope);
	(void) weir_catalog_exec("WITH n AS (DELETE FROM weir.view_def WHERE view = %u RETURNING *)"
							 " UPDATE weir.view_def v SET query = n.query, state = n.state, distinct_values = n.distinct_values, streams = n.streams, strategy = n.strategy,"
							 " lateness = n.lateness, keep_column = n.keep_column, settings = n.settings, since = n.since,"
							 " join_reach = n.join_reach, close_shift = n.close_shift, closes = n.closes, instants = n.instants, start = coalesce(n.start, v.start), status = 'running', error = NULL"
							 " FROM n WHERE v.view = %u", beside, view);
	for (int i = 0; i < lengthof(tables); i++)
	{
		(void) weir_catalog_exec("DELETE FROM weir.%s WHERE view = %u", tables[i], view);
		(void) weir_catalog_exec("UPDATE weir.%s SET view = %u WHERE view = %u", tables[i], view, beside);
	}
	(void) weir_catalog_exec("DELETE FROM weir.missed_row WHERE view = %u", view);
	(void) weir_catalog_exec("DROP VIEW %s", weir_relation_name(replace->view->query_relid));
	if (OidIsValid(replace->view->state_relid))
		(void) weir_catalog_exec("DROP TABLE %s", weir_relation_name(replace->view->state_relid));
	if (OidIsValid(replace->view->values_relid))
		(void) weir_catalog_exec("DROP TABLE %s", weir_relation_name(replace->view->values_relid));
	(void) weir_catalog_exec("DROP TABLE %s", weir_relation_name(beside));
	weir_catalog_changed();
	weir_catalog_close(&scope);
	CommandCounterIncrement();
	weir_cache_forget();
}

/* --- views above ----------------------------------------------------------------------------- */

static bool
reads_walker(Node *node, Oid *relid)
{
	if (node == NULL)
		return false;
	if (IsA(node, RangeTblEntry))
	{
		RangeTblEntry *rte = (RangeTblEntry *) node;

		return rte->rtekind == RTE_RELATION && rte->inFromCl && rte->relid == *relid;
	}
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, reads_walker, relid, QTW_EXAMINE_RTES_BEFORE);
	return expression_tree_walker(node, reads_walker, relid);
}

/* weir_replace_inlined: views that this one stands for its query in; they are built anew after it. */
List *
weir_replace_inlined(View *view)
{
	List	   *result = NIL;
	ListCell   *lc;

	if (!weir_view_is_inlined(view))
		return NIL;
	foreach(lc, list_copy(weir_view_oids()))
	{
		View	   *above = weir_view_get(lfirst_oid(lc));

		if (above->relid != view->relid && reads_walker((Node *) weir_shape_definition(above->query_relid), &view->relid))
			result = lappend_oid(result, above->relid);
	}
	return result;
}

/* weir_replace_check_kind raises if views that read the old one could not read the new one in its place. */
void
weir_replace_check_kind(Replace *replace)
{
	bool		was = weir_view_is_inlined(replace->view);

	if ((weir_replace_inlined(replace->view) || weir_view_oids_above(replace->view->relid)) &&
		was != weir_view_is_inlined(replace->beside))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("continuous view %s would become another kind of source for the views that read it", replace->view->name),
				 errdetail(was ? "Its rows are appended, and those of the new query change." : "Its rows change, and those of the new query are appended."),
				 errhint("Drop the views that read it first.")));
}

/* weir_replace_twin makes a view with a view's own query, under a name of its own, from the kept rows. */
View *
weir_replace_twin(View *view)
{
	Replace		replace = {.view = view};
	int			guc_level = NewGUCNestLevel();

	weir_view_scope_settings(view);
	make_beside(&replace, weir_shape_definition(view->query_relid), psprintf("weir_twin_%u", view->relid), NULL);
	AtEOXact_GUC(false, guc_level);
	return replace.beside;
}

/* --- all together -------------------------------------------------------------------------------- */

/* weir_replace_check raises if a view cannot have another query at all. */
void
weir_replace_check(View *view)
{
	if (OidIsValid(view->replaces))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("continuous view %s is about to take the place of %s", view->name, weir_relation_name(view->replaces)),
				 errhint("weir.replace that one again.")));
	if (weir_view_is_final(view) && weir_view_oids_above(view->relid))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("continuous view %s is a stream for other views, which have counted its finals", view->name),
				 errhint("Drop the views that read it first.")));
	if (view->keep && !weir_span_is_positive(view->keep))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("continuous view %s stores nothing", view->name),
				 errhint("Drop it and create it again.")));
}

/* weir_replace_take_place: the view beside, which is complete, becomes the view. */
void
weir_replace_take_place(Replace *replace, bool guarded)
{
	List	   *inlined = weir_replace_inlined(replace->view);
	ListCell   *lc;

	weir_replace_check_kind(replace);
	change_columns(replace);
	change_rows(replace);
	take_over(replace);
	weir_cascade_run(guarded);
	foreach(lc, inlined)
		weir_view_refresh(weir_view_require(lfirst_oid(lc)), false);
}

/* Analyses the query as the view's owner and makes the view beside. */
static void
prepare(Replace *replace, const char *definition, char *start)
{
	Query	   *query;
	char	   *name = start ? weir_replace_name(replace->view) : psprintf("weir_replace_%u", replace->view->relid);
	Oid			save_userid;
	int			save_sec_context;

	GetUserIdAndSecContext(&save_userid, &save_sec_context);
	SetUserIdAndSecContext(replace->view->owner, save_sec_context | SECURITY_LOCAL_USERID_CHANGE);
	query = analyse(definition);
	if (reads_walker((Node *) query, &replace->view->relid))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("the new query of continuous view %s reads the view itself", replace->view->name)));
	weir_replace_compare(replace, query);
	order_columns(replace, query);
	make_beside(replace, query, name, start);
	SetUserIdAndSecContext(save_userid, save_sec_context);
}

/* Where the rows come from: the argument, else as when the view was made. NULL: the kept rows. */
static char *
start_of(FunctionCallInfo fcinfo, View *view)
{
	char	   *start;

	if (PG_ARGISNULL(2))
		return view->from_topic ? "earliest" : NULL;
	start = text_to_cstring(PG_GETARG_TEXT_PP(2));
	if (strcmp(start, "kept") == 0)
		return NULL;
	if (strcmp(start, "earliest") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid start for weir.replace: \"%s\"", start),
				 errhint("'earliest' reads the topic from its beginning, 'kept' the rows that the stream keeps.")));
	return start;
}

/* weir.replace(view regclass, query text, start text) → void */
Datum
weir_replace(PG_FUNCTION_ARGS)
{
	Replace		replace = {0};
	char	   *start;

	if (PG_ARGISNULL(0) || PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("view and query must not be null")));
	replace.view = weir_view_require(PG_GETARG_OID(0));
	weir_check_owner(replace.view->relid);
	weir_view_lock_streams(weir_view_base_streams(replace.view));
	LockRelationOid(replace.view->relid, ExclusiveLock);
	replace.view = weir_view_require(replace.view->relid);
	replace.table = weir_relation_name(replace.view->relid);
	start = start_of(fcinfo, replace.view);
	weir_replace_check(replace.view);
	weir_replace_give_up(replace.view);
	prepare(&replace, text_to_cstring(PG_GETARG_TEXT_PP(1)), start);
	if (start)
		weir_replace_begin(&replace);
	else
	{
		check_whole(&replace);
		weir_replace_take_place(&replace, false);
	}
	PG_RETURN_VOID();
}
