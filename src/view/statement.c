/*
 * statement.c
 *	  A view's shape as one statement: INSERT ... ON CONFLICT DO UPDATE.
 *
 * aggregates ⇒ statement ⇒ apply. The frame (which columns, which key, how old
 * and new merge) is written as text and parsed under a pinned search_path; it
 * names everything in full (statement_text.c). Where the definition's query belongs, the frame has a
 * placeholder, which is then replaced by the query tree.
 *
 * In place:
 *	  INSERT INTO v AS t (...) SELECT ... FROM <partial> ORDER BY keys
 *	  ON CONFLICT (keys) DO UPDATE SET c = merge(t.c, excluded.c) WHERE changed
 * With a state table:
 *	  WITH weir_merged AS (<the same into the state table> RETURNING ...)
 *	  INSERT INTO v AS t (...) SELECT ... FROM <final over weir_merged>
 *	  ON CONFLICT (keys) DO UPDATE SET c = excluded.c WHERE changed
 *
 * With HAVING, weir_merged goes on to
 *	  weir_result AS (<final over weir_merged, and whether the row qualifies>),
 *	  weir_gone AS (DELETE FROM v USING weir_result WHERE it does not)
 *	  INSERT INTO v SELECT ... FROM weir_result WHERE it does ON CONFLICT ...
 *
 * Keys are sorted, so that two transactions lock rows in the same order.
 */
#include "postgres.h"

#include "catalog/catalog.h"
#include "catalog/pg_type.h"
#include "nodes/nodeFuncs.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "view/distinct.h"
#include "view/join.h"
#include "view/over.h"
#include "view/recompute.h"
#include "view/session.h"
#include "view/shape.h"
#include "view/upstream.h"

/* --- how old and new merge --------------------------------------------------------- */

/* weir.top_merge(old, new, n) and its kin */
static char *
own_merge(Aggref *agg, const char *old, const char *new)
{
	char	   *form = weir_aggregate_own(agg);
	char	   *first = strstr(form, "%s");
	char	   *second = strstr(first + 2, "%s");

	return psprintf("%.*s%s%.*s%s%s", (int) (first - form), form, old,
					(int) (second - first - 2), first + 2, new, second + 2);
}

/* How a column takes in the delta's value, as SQL. */
static char *
merge_expression(StateColumn *state, const char *name)
{
	char	   *old = psprintf("t.%s", quote_identifier(name));
	char	   *new = psprintf("excluded.%s", quote_identifier(name));
	Oid			combinefn;
	char	   *merged;

	switch (state->merge)
	{
		case MERGE_NEW:
			return new;
		case MERGE_COUNT:
			return psprintf("%s OPERATOR(pg_catalog.+) %s", old, new);
		case MERGE_PLUS:
			return psprintf("COALESCE(%s OPERATOR(pg_catalog.+) %s, %s, %s)", old, new, old, new);
		case MERGE_COMBINE:
			return psprintf("weir.combine('%u'::pg_catalog.regprocedure, %s, %s)", state->agg, old, new);
		case MERGE_STATE:
			return psprintf("weir.merge('%u'::pg_catalog.regprocedure, %s, %s)", state->agg, old, new);
		case MERGE_OWN:
			return own_merge((Aggref *) state->partial, old, new);
		case MERGE_NET:
			return psprintf("COALESCE(weir.net_add(%s, %s), %s, %s)", old, new, old, new);
		case MERGE_LOST:
			return pstrdup("false");
		case MERGE_EXTREME:		/* needs other columns: weir_retract_extreme */
		case MERGE_FUNCTION:
			break;
	}
	combinefn = weir_aggregate_combinefn(state->agg);
	merged = psprintf("%s(%s, %s)",
					  quote_qualified_identifier(get_namespace_name(get_func_namespace(combinefn)),
												 get_func_name(combinefn)),
					  old, new);
	if (func_strict(combinefn))
		merged = psprintf("COALESCE(%s, %s, %s)", merged, old, new);
	return merged;
}

/* --- the two inserts ---------------------------------------------------------- */

typedef struct UpsertTable
{
	char	   *name;			/* qualified, quoted */
	List	   *columns;		/* of char *, all columns in order of the source */
	List	   *keys;			/* of char *; NIL: one row */
	List	   *values;			/* of char *: names of the other columns */
	List	   *merges;			/* of char *: what they become, one per value */
	List	   *watched;		/* of char *: merges to compare, to leave unchanged rows alone; NIL: always changed */
} UpsertTable;

static void
append_conflict(StringInfo buf, UpsertTable *table)
{
	ListCell   *lc,
			   *lm;
	bool		first = true;

	if (table->keys == NIL)
		appendStringInfoString(buf, "\n ON CONFLICT ((true))");
	else
		appendStringInfo(buf, "\n ON CONFLICT (%s)", weir_text_names("", table->keys));
	if (table->values == NIL)
	{
		appendStringInfoString(buf, " DO NOTHING");
		return;
	}
	appendStringInfoString(buf, " DO UPDATE SET ");
	forboth(lc, table->values, lm, table->merges)
	{
		appendStringInfo(buf, "%s%s = %s", first ? "" : ", ",
						 quote_identifier(lfirst(lc)), (char *) lfirst(lm));
		first = false;
	}
	if (table->watched == NIL)
		return;
	appendStringInfo(buf, "\n WHERE CAST(ROW(%s) AS pg_catalog.record) OPERATOR(pg_catalog.*<>) CAST(ROW(",
					 weir_text_names("t.", table->values));
	first = true;
	foreach(lm, table->watched)
	{
		appendStringInfo(buf, "%s%s", first ? "" : ", ", (char *) lfirst(lm));
		first = false;
	}
	appendStringInfoString(buf, ") AS pg_catalog.record)");
}

static void
append_insert(StringInfo buf, UpsertTable *table, const char *source, const char *alias,
			  List *order, bool upsert)
{
	bool		first = true;
	ListCell   *lc;

	appendStringInfo(buf, "INSERT INTO %s AS t (%s)\n SELECT ", table->name,
					 weir_text_names("", table->columns));
	for (int i = 1; i <= list_length(table->columns); i++)
		appendStringInfo(buf, "%s%s.c%d", i > 1 ? ", " : "", alias, i);
	appendStringInfo(buf, "\n FROM %s AS %s", source,
					 weir_text_aliases(alias, list_length(table->columns)));
	foreach(lc, order)
	{
		appendStringInfo(buf, "%s%s.c%d", first ? "\n ORDER BY " : ", ", alias, lfirst_int(lc));
		first = false;
	}
	if (upsert)
		append_conflict(buf, table);
}

/* --- tables behind a shape ------------------------------------------------------ */

/* Does an update change the row in any case? A plain count(*) does. */
static bool
always_changes(List *states)
{
	ListCell   *lc;

	foreach(lc, states)
	{
		StateColumn *state = lfirst(lc);
		Aggref	   *agg = (Aggref *) state->partial;

		if (state->merge == MERGE_COUNT && IsA(agg, Aggref) && agg->aggstar && agg->aggfilter == NULL)
			return true;
	}
	return false;
}

static bool
is_key_target(ViewShape *shape, TargetEntry *tle)
{
	ListCell   *lc;

	foreach(lc, shape->keys)
	{
		if (((TargetEntry *) lfirst(lc))->resno == tle->resno)
			return true;
	}
	return false;
}

/* The view's own table. values and merges are in the order of the target list without keys. */
static void
describe_result(ViewShape *shape, Oid relid, UpsertTable *table)
{
	ListCell   *lt,
			   *ln;
	int			i = 0;

	memset(table, 0, sizeof(*table));
	table->name = weir_relation_name(relid);
	table->columns = weir_statement_columns(relid, shape->query->targetList);
	if (!shape->grouped)
		return;
	forboth(lt, shape->query->targetList, ln, table->columns)
	{
		char	   *name = lfirst(ln);

		if (is_key_target(shape, lfirst(lt)))
		{
			table->keys = lappend(table->keys, name);
			continue;
		}
		table->values = lappend(table->values, name);
		if (shape->in_place)
			table->merges = lappend(table->merges,
									merge_expression(list_nth(shape->states, i++), name));
		else
			table->merges = lappend(table->merges,
									psprintf("excluded.%s", quote_identifier(name)));
	}
	if (!shape->in_place || !always_changes(shape->states))
		table->watched = table->merges;
}

static char *
merge_state(ViewShape *shape, StateColumn *state, UpsertTable *table, const char *name)
{
	return state->merge == MERGE_EXTREME ? weir_retract_extreme(shape, state, table->columns) :
		merge_expression(state, name);
}

static void
describe_state(ViewShape *shape, Oid relid, UpsertTable *table)
{
	int			nkeys = list_length(shape->keys);
	ListCell   *lc;
	int			i = 0;

	memset(table, 0, sizeof(*table));
	table->name = weir_relation_name(relid);
	table->columns = weir_statement_columns(relid, shape->partial->targetList);
	foreach(lc, table->columns)
	{
		char	   *name = lfirst(lc);

		if (i < nkeys)
			table->keys = lappend(table->keys, name);
		else
		{
			table->values = lappend(table->values, name);
			table->merges = lappend(table->merges, merge_state(shape, list_nth(shape->states, i - nkeys), table, name));
		}
		i++;
	}
}

/* Numbers of the source's columns that are keys. */
static List *
key_order(List *keys, bool by_resno)
{
	List	   *order = NIL;
	ListCell   *lc;
	int			i = 0;

	foreach(lc, keys)
	{
		i++;
		order = lappend_int(order, by_resno ? ((TargetEntry *) lfirst(lc))->resno : i);
	}
	return order;
}

/* DELETE of the result rows whose groups do not qualify (any more). */
static void
append_delete(StringInfo buf, ViewShape *shape, UpsertTable *table)
{
	ListCell   *lc;

	appendStringInfo(buf, "DELETE FROM %s AS t USING %s AS r\n WHERE NOT r.c%d", table->name, WEIR_RESULT,
					 list_length(table->columns) + 1);
	foreach(lc, shape->keys)
	{
		TargetEntry *tle = lfirst(lc);
		char	   *name = list_nth(table->columns, tle->resno - 1);

		appendStringInfo(buf, " AND %s", weir_match_text(psprintf("t.%s", quote_identifier(name)),
														 psprintf("r.c%d", tle->resno),
														 exprType((Node *) tle->expr), false));
	}
}

/* HAVING: from the merged states, rows that qualify are put into the result, others leave it. */
static void
append_passing(StringInfo buf, ViewShape *shape, UpsertTable *table)
{
	int			n = list_length(table->columns);
	StringInfoData source;

	appendStringInfo(buf, ", %s AS MATERIALIZED (SELECT * FROM %s AS %s)\n", weir_text_aliases(WEIR_RESULT, n + 1),
					 weir_statement_placeholder(shape->final->targetList), weir_text_aliases(WEIR_FINAL, n + 1));
	appendStringInfoString(buf, ", weir_gone AS (");
	append_delete(buf, shape, table);
	appendStringInfoString(buf, ")\n");
	initStringInfo(&source);
	appendStringInfoString(&source, "(SELECT ");
	for (int i = 1; i <= n; i++)
		appendStringInfo(&source, "%sr.c%d", i > 1 ? ", " : "", i);
	appendStringInfo(&source, " FROM %s AS r WHERE r.c%d)", WEIR_RESULT, n + 1);
	append_insert(buf, table, source.data, "p", NIL, true);
}

/* What stands for the partial query: a placeholder, or more text around some (distinct.c). */
static char *
partial_source(ViewShape *shape)
{
	return shape->distinct ? weir_distinct_source(shape) : weir_statement_placeholder(shape->partial->targetList);
}

/* weir_statement_states merges states, for which WEIR_PART stands, into the state table. */
char *
weir_statement_states(ViewShape *shape, Oid state)
{
	StringInfoData buf;
	UpsertTable table;

	initStringInfo(&buf);
	describe_state(shape, state, &table);
	append_insert(&buf, &table, partial_source(shape), WEIR_PART, key_order(shape->keys, false), true);
	return buf.data;
}

static char *
statement_text(ViewShape *shape, Oid result, Oid state)
{
	StringInfoData buf;
	UpsertTable table;
	char	   *source = partial_source(shape);
	char	   *values = shape->distinct ? weir_distinct_insert(shape) : NULL;

	initStringInfo(&buf);
	if (values)
		appendStringInfo(&buf, "WITH %s\n", values);
	if (shape->finals)
	{
		appendStringInfoString(&buf, weir_statement_states(shape, state));
		return buf.data;
	}
	if (shape->in_place)
	{
		describe_result(shape, result, &table);
		append_insert(&buf, &table, source, WEIR_PART, key_order(shape->keys, true), shape->grouped);
		return buf.data;
	}
	describe_state(shape, state, &table);
	appendStringInfo(&buf, "%s %s AS (", values ? "," : "WITH", WEIR_MERGED);
	append_insert(&buf, &table, source, WEIR_PART, key_order(shape->keys, false), true);
	appendStringInfo(&buf, "\n RETURNING %s)\n", weir_text_names("t.", table.columns));
	describe_result(shape, result, &table);
	if (shape->passes)
	{
		append_passing(&buf, shape, &table);
		return buf.data;
	}
	append_insert(&buf, &table, weir_statement_placeholder(shape->final->targetList),
				  WEIR_FINAL, NIL, true);
	return buf.data;
}

/* --- the statements ----------------------------------------------------------------- */

/*
 * weir_statement_whole returns the statement that merges a query over deltas, analysed, not rewritten: the
 * maintenance statement, unless the view joins streams.
 */
Query *
weir_statement_whole(ViewShape *shape, Oid result, Oid state)
{
	Query	   *query;

	if (shape->tables && !shape->retracts && shape->recompute->keys == NIL)
		return weir_recompute_all_statement(shape, result);
	if (shape->recompute && !shape->retracts)
		return weir_recompute_statement(shape, result);
	query = weir_statement_parse(statement_text(shape, result, state));
	if (shape->distinct)
		weir_distinct_splice(shape, query);
	else if (weir_retract_looks_up(shape))
		weir_statement_splice(query, WEIR_PART, weir_session_scan(WEIR_CHANGES, shape->partial->targetList));
	else
		weir_statement_splice(query, WEIR_PART, copyObject(shape->partial));
	if (shape->final && !shape->finals)
		weir_statement_splice(query, WEIR_FINAL, weir_session_final(shape));
	if (shape->retracts)
		weir_retract_splice(shape, query);
	return query;
}

/* weir_statement_make returns the maintenance statement, analysed, not rewritten. */
Query *
weir_statement_make(ViewShape *shape, Oid result, Oid state)
{
	Query	   *query;

	if (shape->at_once && shape->recompute == NULL)
		return weir_once_statement(shape, result);
	query = weir_statement_whole(shape, result, state);
	if (shape->at_once)
		weir_join_touched(query, result);
	else if (shape->joins)
		weir_join_delta(query, result);
	return query;
}

/* weir_view_shape understands a view's stored definition as it is today. */
ViewShape *
weir_view_shape(View *view)
{
	ViewShape  *shape = weir_shape_make_as(view->strategy, weir_shape_definition(view->query_relid),
										   get_rel_name(view->relid), strcmp(view->emit, "final") == 0, view->at_once,
										   view->lateness, view->keep);

	shape->values_relid = view->values_relid;
	return shape;
}

/* Once per row and view, however many rows of tables a late row joins with. */
static Query *
late_statement(ViewShape *shape)
{
	TargetEntry *window = list_nth_node(TargetEntry, shape->late->targetList, 3);
	bool		zoned = exprType((Node *) window->expr) == TIMESTAMPTZOID;
	int			ncolumns = list_length(shape->late->targetList);
	Query	   *query;

	query = weir_statement_parse(psprintf("SELECT " WEIR_LATE ".c1, " WEIR_LATE ".c2, pg_catalog.max(" WEIR_LATE ".c3), pg_catalog.max(%s), %s%s FROM %s AS %s GROUP BY " WEIR_LATE ".c1, " WEIR_LATE ".c2",
										  zoned ? WEIR_LATE ".c4" : "pg_catalog.timezone('UTC'::pg_catalog.text, " WEIR_LATE ".c4)",
										  weir_late_wanted(shape->streams) ?
										  "pg_catalog.min(CAST(pg_catalog.to_jsonb(" WEIR_LATE ".c5) AS pg_catalog.text))" :
										  "CAST(NULL AS pg_catalog.text)",
										  ncolumns > 5 ? ", pg_catalog.min(" WEIR_LATE ".c6)" : "",
										  weir_statement_placeholder(shape->late->targetList),
										  weir_text_aliases(WEIR_LATE, ncolumns)));
	weir_statement_splice(query, WEIR_LATE, copyObject(shape->late));
	return query;
}

/*
 * weir_view_statements makes a view's statements. The search_path is pinned
 * inside; the caller is the view's owner.
 */
void
weir_view_statements(View *view, ViewStatements *statements)
{
	int			guc_level = NewGUCNestLevel();
	ViewShape  *shape;

	weir_view_scope_pin();
	shape = weir_view_shape(view);
	if ((!shape->in_place && !OidIsValid(view->state_relid)) ||
		((shape->distinct || (shape->session && shape->session->by_rows)) && !OidIsValid(view->values_relid)))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("continuous view %s has no table for its states", view->name),
				 errdetail("A view below it was replaced by one of another shape."),
				 errhint("Drop the view and create it again.")));
	statements->streams = shape->streams;
	statements->ncolumns = list_length(shape->query->targetList);
	statements->merge = shape->at_close ? NULL : weir_statement_make(shape, view->relid, view->state_relid);
	statements->whole = NULL;
	if (shape->joins && !shape->at_close)
	{
		statements->whole = weir_statement_whole(shape, view->relid, view->state_relid);
		if (!shape->at_once)
			weir_join_pairs(statements->whole);
	}
	statements->all = shape->tables ? weir_recompute_all_statement(shape, view->relid) : NULL;
	statements->clear = shape->retracts ? weir_retract_clear(view->state_relid) : NULL;
	statements->states = shape->retracts ? weir_retract_states(shape, view->state_relid) : NULL;
	statements->empty = shape->retracts && shape->keys ? weir_retract_empty(shape, view->state_relid) : NULL;
	statements->retract = shape->retracts ? weir_retract_lookup(shape, view->state_relid) : NULL;
	statements->next = shape->at_close ? weir_atclose_next(shape) : NULL;
	statements->span = shape->window_span;
	statements->late = shape->late ? late_statement(shape) : NULL;
	statements->sessions = shape->session ? weir_session_statements(shape, view->relid, view->state_relid) : NULL;
	if (shape->session && shape->finals)
		statements->close = weir_session_close_statement(shape, view->relid, view->state_relid);
	else if (shape->at_close)
		statements->close = weir_atclose_statement(shape, view->relid, view->state_relid);
	else if (shape->closes)
		statements->close = weir_outer_statement(shape, view->relid, view->state_relid);
	else
		statements->close = shape->finals ? weir_final_close_statement(shape, view->relid, view->state_relid) : NULL;
	statements->remember = shape->remembered > 0 ? weir_over_memory_statement(shape, view->state_relid) : NULL;
	statements->exclusive = shape->exclusive;
	AtEOXact_GUC(false, guc_level);
}
