/*
 * recompute_statement.c
 *	  The maintenance statement of a view whose touched keys are computed anew.
 *
 * touched ⇒ recompute_statement ⇒ apply. One statement, as for the other
 * strategies:
 *	  WITH weir_touched AS (keys of the delta, each once),
 *	  weir_new AS (the definition over the kept rows of these keys),
 * and, where the result has a unique key,
 *	  weir_old AS (SELECT ctid, unique key FROM v, rows of these keys),
 *	  weir_gone AS (DELETE FROM v, rows of weir_old whose unique key weir_new has not)
 *	  INSERT INTO v SELECT ... FROM weir_new ON CONFLICT DO UPDATE ... WHERE changed
 * else the difference of old and new rows as multisets:
 *	  weir_old AS (SELECT ctid ... FROM v, rows of these keys),
 *	  weir_gone AS (DELETE FROM v, rows of weir_old that weir_new has not)
 *	  INSERT INTO v SELECT ... FROM weir_new, rows that weir_old has not
 * Rows are told apart by their text there, and numbered among equals. The INSERT asks for weir_gone, so
 * that triggers see deleted rows first.
 *
 * Rows that come for a window of which rows may have expired leave no touched key.
 *
 * Promises: a row that does not change is not touched. Must only run by one
 * transaction at a time for a view, under a snapshot taken when it is its turn.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/catalog.h"
#include "catalog/pg_type.h"
#include "catalog/stream.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "view/recompute.h"
#include "view/shape.h"

typedef struct Text
{
	ViewShape  *shape;
	Recompute  *recompute;
	Oid			result;			/* the view's table */
	const char *table;			/* its name, qualified */
	List	   *names;			/* of char *: its columns */
	int			ncolumns;
	bool		all;			/* all rows are touched */
} Text;

static char *
name_of(Text *text, TargetEntry *target)
{
	return psprintf("t.%s", quote_identifier(list_nth(text->names, target->resno - 1)));
}

/* Names of the columns that follow the keys. */
static const char *
window_columns(Recompute *recompute)
{
	if (recompute->window_end)
		return ", w, e";
	return recompute->windowed ? ", w" : "";
}

/* weir.complete_from() of each stream */
static char *
complete_from(List *streams)
{
	StringInfoData buf;
	ListCell   *lc;

	initStringInfo(&buf);
	foreach(lc, streams)
		appendStringInfo(&buf, "%sweir.complete_from(%u)", buf.len ? ", " : "", lfirst_oid(lc));
	return buf.data;
}

/* The keys of the delta, each once. */
static void
append_touched(StringInfo buf, Text *text)
{
	Recompute  *recompute = text->recompute;
	int			nkeys = list_length(recompute->keys);
	StringInfoData nullable;
	int			i = 0;
	ListCell   *lc;

	initStringInfo(&nullable);
	foreach(lc, recompute->keys)
	{
		i++;
		if (!((TouchKey *) lfirst(lc))->never_null)
			appendStringInfo(&nullable, "%sk.c%d", nullable.len ? ", " : "", i);
	}
	appendStringInfo(buf, "WITH " WEIR_TOUCHED " AS MATERIALIZED (SELECT *");
	if (recompute->hashed)
		appendStringInfo(buf, ", pg_catalog.hash_record_extended(ROW(%s), 0) AS h", nullable.data);
	appendStringInfo(buf, "\n FROM (SELECT %s%s%s FROM %s AS " WEIR_KEYS "(%s%s)",
					 weir_text_numbered(WEIR_KEYS ".", nkeys),
					 recompute->windowed ? ", pg_catalog.min(" WEIR_KEYS ".w) AS w" : "",
					 recompute->window_end ? ", pg_catalog.max(" WEIR_KEYS ".e) AS e" : "",
					 weir_statement_placeholder(recompute->touched->targetList),
					 weir_text_numbered("", nkeys), window_columns(recompute));
	if (recompute->windowed && !recompute->from_result)
	{
		bool		zoned = exprType((Node *) recompute->window_start) == TIMESTAMPTZOID;

		appendStringInfo(buf, "\n WHERE %s OPERATOR(pg_catalog.>=) (SELECT GREATEST(%s)%s)",
						 zoned ? WEIR_KEYS ".w" : "pg_catalog.timezone('UTC'::pg_catalog.text, " WEIR_KEYS ".w)",
						 complete_from(text->shape->streams),
						 recompute->span == 0 ? "" :
						 psprintf(" OPERATOR(pg_catalog.+) '" INT64_FORMAT " microseconds'::pg_catalog.interval", recompute->span));
	}
	appendStringInfo(buf, "\n GROUP BY %s) AS k)", weir_text_numbered(WEIR_KEYS ".", nkeys));
}

/* Conditions under which row t of the view's table has the touched key k. null_safe: NULL is equal to NULL. */
static char *
key_match(ViewShape *shape, List *names, bool null_safe)
{
	StringInfoData buf;
	int			i = 0;
	ListCell   *lc;

	initStringInfo(&buf);
	foreach(lc, shape->recompute->keys)
	{
		TouchKey   *key = lfirst(lc);

		appendStringInfo(&buf, "%s%s", i ? " AND " : "",
						 weir_match_text(psprintf("t.%s", quote_identifier(list_nth(names, key->target->resno - 1))),
										 psprintf("k.c%d", i + 1), exprType((Node *) key->expr),
										 key->never_null || !null_safe));
		i++;
	}
	return buf.data;
}

/*
 * weir_touched_rows selects from the view's table (its columns' names are given) the rows t
 * with a touched key. Keys without NULL, most of them, go by plain equality, which can use
 * the index; those with one have an arm of their own.
 */
char *
weir_touched_rows(ViewShape *shape, Oid result, List *names, const char *columns)
{
	const char *touched = weir_touched_reference(shape->recompute);
	const char *table = weir_relation_name(result);
	StringInfoData nulls;
	int			i = 0;
	ListCell   *lc;

	initStringInfo(&nulls);
	foreach(lc, shape->recompute->keys)
	{
		TouchKey   *key = lfirst(lc);

		i++;
		if (!key->never_null)
			appendStringInfo(&nulls, "%s%s", nulls.len ? " OR " : "",
							 weir_null_text(psprintf("k.c%d", i), exprType((Node *) key->expr)));
	}
	if (nulls.len == 0)
		return psprintf("SELECT %s FROM %s AS t, %s AS k\n WHERE %s", columns, table, touched,
						key_match(shape, names, false));
	return psprintf("SELECT %s FROM %s AS t, %s AS k\n WHERE %s\n"
					"UNION ALL SELECT %s FROM %s AS t, %s AS k\n WHERE (%s) AND %s",
					columns, table, touched, key_match(shape, names, false),
					columns, table, touched, nulls.data, key_match(shape, names, true));
}

/* The view's rows with a touched key, or all. */
static char *
old_rows(Text *text, const char *columns)
{
	if (text->all)
		return psprintf("SELECT %s FROM %s AS t", columns, text->table);
	return weir_touched_rows(text->shape, text->result, text->names, columns);
}

/* A row, or its key, as text. */
static char *
row_text(const char *columns)
{
	return psprintf("%s AS r", weir_text_row(columns));
}

/* --- with a unique key ------------------------------------------------------------- */

/* The unique key as one text; columns: of the table t, or of n. */
static char *
unique_text(Text *text, bool of_table)
{
	StringInfoData buf;
	ListCell   *lc;

	initStringInfo(&buf);
	foreach(lc, text->shape->keys)
	{
		TargetEntry *target = lfirst(lc);

		appendStringInfo(&buf, "%s%s", buf.len ? ", " : "",
						 of_table ? name_of(text, target) : psprintf("n.c%d", target->resno));
	}
	return row_text(buf.data);
}

static void
append_conflict(StringInfo buf, Text *text)
{
	StringInfoData keys;
	StringInfoData set;
	StringInfoData old;
	StringInfoData new;
	ListCell   *lc;
	int			i = 0;

	initStringInfo(&keys);
	initStringInfo(&set);
	initStringInfo(&old);
	initStringInfo(&new);
	foreach(lc, text->shape->query->targetList)
	{
		const char *name = quote_identifier(list_nth(text->names, i++));
		const char *comma = set.len ? ", " : "";

		if (list_member_ptr(text->shape->keys, lfirst(lc)))
		{
			appendStringInfo(&keys, "%s%s", keys.len ? ", " : "", name);
			continue;
		}
		appendStringInfo(&set, "%s%s = excluded.%s", comma, name, name);
		appendStringInfo(&old, "%st.%s", old.len ? ", " : "", name);
		appendStringInfo(&new, "%sexcluded.%s", new.len ? ", " : "", name);
	}
	appendStringInfo(buf, "\n ON CONFLICT (%s)", keys.data);
	if (set.len == 0)
		appendStringInfoString(buf, " DO NOTHING");
	else
		appendStringInfo(buf, " DO UPDATE SET %s\n WHERE CAST(ROW(%s) AS pg_catalog.record) OPERATOR(pg_catalog.*<>) CAST(ROW(%s) AS pg_catalog.record)",
						 set.data, old.data, new.data);
}

static void
append_unique(StringInfo buf, Text *text)
{
	ListCell   *lc;
	const char *comma = "\n ORDER BY ";

	appendStringInfo(buf, ",\n " WEIR_OLD " AS MATERIALIZED (%s)",
					 old_rows(text, psprintf("t.ctid AS id, %s", unique_text(text, true))));
	appendStringInfo(buf, ",\n weir_stays AS MATERIALIZED (SELECT %s FROM " WEIR_NEW " AS n)", unique_text(text, false));
	appendStringInfo(buf, ",\n " WEIR_GONE " AS (DELETE FROM %s AS t WHERE t.ctid OPERATOR(pg_catalog.=) ANY"
					 " (ARRAY(SELECT o.id FROM " WEIR_OLD " AS o WHERE NOT EXISTS (SELECT FROM weir_stays AS n WHERE o.r OPERATOR(pg_catalog.=) n.r))))\n",
					 text->table);
	appendStringInfo(buf, "INSERT INTO %s AS t (%s)\n SELECT %s FROM " WEIR_NEW " AS n", text->table,
					 weir_text_names("", text->names), weir_text_numbered("n.", text->ncolumns));
	foreach(lc, text->shape->keys)
	{
		appendStringInfo(buf, "%sn.c%d", comma, lfirst_node(TargetEntry, lc)->resno);
		comma = ", ";
	}
	append_conflict(buf, text);
}

/* --- without one ---------------------------------------------------------------------- */

/* A row as text, and its number among equal ones. */
static char *
row_identity(const char *columns)
{
	return psprintf("x.r, pg_catalog.row_number() OVER (PARTITION BY x.r) AS d, %s", columns);
}

static void
append_multiset(StringInfo buf, Text *text)
{
	const char *same = "o.r OPERATOR(pg_catalog.=) n.r AND o.d OPERATOR(pg_catalog.=) n.d";
	char	   *columns = weir_text_numbered("n.", text->ncolumns);

	appendStringInfo(buf, ",\n weir_numbered AS MATERIALIZED (SELECT %s FROM (SELECT n.*, %s FROM " WEIR_NEW " AS n) AS x)",
					 row_identity(weir_text_numbered("x.", text->ncolumns)), row_text(columns));
	appendStringInfo(buf, ",\n " WEIR_OLD " AS MATERIALIZED (SELECT %s FROM (%s) AS x)",
					 row_identity("x.id"),
					 old_rows(text, psprintf("t.ctid AS id, %s", row_text(weir_text_names("t.", text->names)))));
	appendStringInfo(buf, ",\n " WEIR_GONE " AS (DELETE FROM %s AS t WHERE t.ctid OPERATOR(pg_catalog.=) ANY"
					 " (ARRAY(SELECT o.id FROM " WEIR_OLD " AS o WHERE NOT EXISTS (SELECT FROM weir_numbered AS n WHERE %s)))\n RETURNING 1)\n",
					 text->table, same);
	appendStringInfo(buf, "INSERT INTO %s AS t (%s)\n SELECT %s FROM weir_numbered AS n WHERE (SELECT pg_catalog.count(*) FROM " WEIR_GONE ") OPERATOR(pg_catalog.>=) 0"
					 " AND NOT EXISTS (SELECT FROM " WEIR_OLD " AS o WHERE %s)",
					 text->table, weir_text_names("", text->names), columns, same);
}

/* --- references to the touched keys ---------------------------------------------------------- */

/* weir_touched_reference: text of a FROM item with the columns of WEIR_TOUCHED, which it becomes in the end. */
char *
weir_touched_reference(Recompute *recompute)
{
	List	   *targets = NIL;
	ListCell   *lc;

	foreach(lc, recompute->keys)
		targets = lappend(targets, makeTargetEntry(((TouchKey *) lfirst(lc))->expr, list_length(targets) + 1, NULL, false));
	if (recompute->windowed)
		targets = lappend(targets, makeTargetEntry(recompute->window_start, list_length(targets) + 1, NULL, false));
	if (recompute->window_end)
		targets = lappend(targets, makeTargetEntry(recompute->window_end, list_length(targets) + 1, NULL, false));
	return psprintf("(SELECT * FROM %s AS " WEIR_TOUCHED_REFERENCE "(%s%s))", weir_statement_placeholder(targets),
					weir_text_numbered("", list_length(recompute->keys)), window_columns(recompute));
}

typedef struct Resolve
{
	Recompute  *recompute;
	int			depth;			/* of the query at hand below the statement */
} Resolve;

static bool
resolve_walker(Node *node, Resolve *resolve)
{
	if (node == NULL)
		return false;
	if (IsA(node, RangeTblEntry))
	{
		RangeTblEntry *rte = (RangeTblEntry *) node;

		if (rte->rtekind == RTE_SUBQUERY && strcmp(rte->eref->aliasname, WEIR_TOUCHED_REFERENCE) == 0)
			*rte = *weir_touched_rte(resolve->recompute, resolve->depth);
		return false;
	}
	if (IsA(node, Query))
	{
		bool		result;

		resolve->depth++;
		result = query_tree_walker((Query *) node, resolve_walker, resolve, QTW_EXAMINE_RTES_BEFORE);
		resolve->depth--;
		return result;
	}
	return expression_tree_walker(node, resolve_walker, resolve);
}

/* --- all together ------------------------------------------------------------------------ */

/* weir_recompute_statement returns the maintenance statement, analysed, not rewritten. */
Query *
weir_recompute_statement(ViewShape *shape, Oid result)
{
	Recompute  *recompute = shape->recompute;
	Text		text = {shape, recompute};
	Query	   *rows = recompute->rows;
	StringInfoData buf;
	Query	   *query;
	Resolve		resolve = {recompute, 0};

	text.result = result;
	text.table = weir_relation_name(result);
	text.names = weir_statement_columns(result, shape->query->targetList);
	text.ncolumns = list_length(text.names);
	initStringInfo(&buf);
	append_touched(&buf, &text);
	appendStringInfo(&buf, ",\n " WEIR_NEW " AS MATERIALIZED (SELECT * FROM %s AS " WEIR_ROWS "(%s))",
					 weir_statement_placeholder(shape->query->targetList), weir_text_numbered("", text.ncolumns));
	if (recompute->unique)
		append_unique(&buf, &text);
	else
		append_multiset(&buf, &text);
	if (recompute->from_result)
		rows = weir_topn_query(shape, result);
	query = weir_statement_parse(buf.data);
	weir_statement_splice(query, WEIR_KEYS, copyObject(recompute->touched));
	weir_statement_splice(query, WEIR_ROWS, copyObject(rows));
	(void) query_tree_walker(query, resolve_walker, &resolve, QTW_EXAMINE_RTES_BEFORE);
	linitial_node(CommonTableExpr, query->cteList)->cterefcount = 1;	/* at least; it is materialized anyway */
	return query;
}

/*
 * weir_recompute_all_statement returns the statement that makes a view over views that change equal its
 * query: all its rows are compared with those of the query, and the ones that differ are changed.
 */
Query *
weir_recompute_all_statement(ViewShape *shape, Oid result)
{
	Text		text = {shape, shape->recompute};
	StringInfoData buf;
	Query	   *query;

	text.result = result;
	text.table = weir_relation_name(result);
	text.names = weir_statement_columns(result, shape->query->targetList);
	text.ncolumns = list_length(text.names);
	text.all = true;
	initStringInfo(&buf);
	appendStringInfo(&buf, "WITH " WEIR_NEW " AS MATERIALIZED (SELECT * FROM %s AS " WEIR_ROWS "(%s))",
					 weir_statement_placeholder(shape->query->targetList), weir_text_numbered("", text.ncolumns));
	if (shape->recompute->unique)
		append_unique(&buf, &text);
	else
		append_multiset(&buf, &text);
	query = weir_statement_parse(buf.data);
	weir_statement_splice(query, WEIR_ROWS, copyObject(shape->recompute->all));
	return query;
}
