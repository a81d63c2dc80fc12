/*
 * statement_text.c
 *	  What the texts of weir's statements are put together from, and the trees that take the place of the definition in them.
 *
 * A frame is written as text and parsed under a pinned search_path; it names everything in full. Where
 * a query belongs, the frame has a placeholder sub-select of the same column types, with an alias by which the query's
 * tree is then put in its place. So the user's expressions never go through text.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_operator.h"
#include "nodes/nodeFuncs.h"
#include "parser/analyze.h"
#include "parser/parser.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/ruleutils.h"
#include "utils/syscache.h"
#include "utils/typcache.h"
#include "view/shape.h"

/* --- parts of the text ------------------------------------------------------ */

char *
weir_statement_type(Oid type, int32 typmod)
{
	return format_type_extended(type, typmod,
								FORMAT_TYPE_TYPEMOD_GIVEN | FORMAT_TYPE_FORCE_QUALIFY);
}

/* (SELECT NULL::type AS c1, ...): stands for a query with these targets. */
char *
weir_statement_placeholder(List *targets)
{
	StringInfoData buf;
	ListCell   *lc;
	int			i = 0;

	initStringInfo(&buf);
	appendStringInfoString(&buf, "(SELECT ");
	foreach(lc, targets)
	{
		Node	   *expr = (Node *) ((TargetEntry *) lfirst(lc))->expr;
		Oid			collation = exprCollation(expr);

		appendStringInfo(&buf, "%sCAST(NULL AS %s)", i++ ? ", " : "",
						 weir_statement_type(exprType(expr), exprTypmod(expr)));
		if (OidIsValid(collation))
			appendStringInfo(&buf, " COLLATE %s", generate_collation_name(collation));
		appendStringInfo(&buf, " AS c%d", i);
	}
	appendStringInfoChar(&buf, ')');
	return buf.data;
}

/* weir_text_numbered: c1, c2, ... each behind a prefix */
char *
weir_text_numbered(const char *prefix, int n)
{
	StringInfoData buf;

	initStringInfo(&buf);
	for (int i = 1; i <= n; i++)
		appendStringInfo(&buf, "%s%sc%d", i > 1 ? ", " : "", prefix, i);
	return buf.data;
}

/* weir_text_aliases: name(c1, c2, ...) */
char *
weir_text_aliases(const char *name, int n)
{
	return psprintf("%s(%s)", name, weir_text_numbered("", n));
}

/* weir_text_names: names, quoted, each behind a prefix */
char *
weir_text_names(const char *prefix, List *names)
{
	StringInfoData buf;
	ListCell   *lc;

	initStringInfo(&buf);
	foreach(lc, names)
		appendStringInfo(&buf, "%s%s%s", buf.len ? ", " : "", prefix, quote_identifier(lfirst(lc)));
	return buf.data;
}

/* weir_text_row: columns as one text; equal texts are equal values, NULLs included */
char *
weir_text_row(const char *columns)
{
	return psprintf("CAST(ROW(%s) AS pg_catalog.text) COLLATE \"C\"", columns);
}

/* weir_operator_text: an operator with its schema, as OPERATOR(...) */
char *
weir_operator_text(Oid operator)
{
	HeapTuple	tuple = SearchSysCache1(OPEROID, ObjectIdGetDatum(operator));
	Form_pg_operator form;
	char	   *text;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for operator %u", operator);
	form = (Form_pg_operator) GETSTRUCT(tuple);
	text = psprintf("OPERATOR(%s.%s)", quote_identifier(get_namespace_name(form->oprnamespace)),
					NameStr(form->oprname));
	ReleaseSysCache(tuple);
	return text;
}

/* The schema-qualified equality of a type, as OPERATOR(...). */
static char *
equality_text(Oid type)
{
	Oid			eq = lookup_type_cache(type, TYPECACHE_EQ_OPR)->eq_opr;

	if (!OidIsValid(eq))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("could not identify an equality operator for type %s", format_type_be(type))));
	return weir_operator_text(eq);
}

/* weir_null_text: a condition that holds for NULL only, not for a row of NULLs, which IS NULL as well. */
char *
weir_null_text(const char *value, Oid type)
{
	return psprintf(type_is_rowtype(type) ? "%s IS NOT DISTINCT FROM NULL" : "%s IS NULL", value);
}

/* A condition that holds for equal values, NULL being equal to NULL; a form that can use an index. */
char *
weir_match_text(const char *left, const char *right, Oid type, bool never_null)
{
	char	   *equal = psprintf("%s %s %s", left, equality_text(type), right);

	return never_null ? equal :
		psprintf("(%s OR (%s AND %s))", equal, weir_null_text(left, type), weir_null_text(right, type));
}

/* --- columns of tables -------------------------------------------------------- */

static void
refuse_changed_table(Relation rel, const char *column)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("table of continuous view \"%s\" no longer fits its query", RelationGetRelationName(rel)),
			 errdetail("Column \"%s\" was dropped or has another type.", column),
			 errhint("Drop the view and create it again.")));
}

/* weir_live_column: the n-th column of a table, dropped ones left out (weir.replace may drop some); 0: there are not so many */
AttrNumber
weir_live_column(Oid relid, int n)
{
	Relation	rel = table_open(relid, AccessShareLock);
	TupleDesc	desc = RelationGetDescr(rel);
	AttrNumber	result = 0;

	for (int i = 0; i < desc->natts && result == 0; i++)
	{
		if (!TupleDescAttr(desc, i)->attisdropped && --n == 0)
			result = i + 1;
	}
	table_close(rel, NoLock);
	return result;
}

/* weir_live_number: the other way round */
int
weir_live_number(Oid relid, AttrNumber attno)
{
	Relation	rel = table_open(relid, AccessShareLock);
	int			n = weir_delta_column(rel, attno) + 1;

	table_close(rel, NoLock);
	return n;
}

/*
 * weir_statement_columns returns today's names of a table's first columns, which stand
 * for these targets: columns may have been renamed, and others added behind.
 */
List *
weir_statement_columns(Oid relid, List *targets)
{
	Relation	rel = table_open(relid, AccessShareLock);
	TupleDesc	desc = RelationGetDescr(rel);
	List	   *names = NIL;
	ListCell   *lc;
	int			i = 0;

	foreach(lc, targets)
	{
		TargetEntry *tle = lfirst(lc);
		Form_pg_attribute att;

		while (i < desc->natts && TupleDescAttr(desc, i)->attisdropped)
			i++;
		att = i < desc->natts ? TupleDescAttr(desc, i) : NULL;
		if (att == NULL || att->atttypid != exprType((Node *) tle->expr))
			refuse_changed_table(rel, tle->resname ? tle->resname : "?");
		names = lappend(names, pstrdup(NameStr(att->attname)));
		i++;
	}
	table_close(rel, NoLock);
	return names;
}

/* --- text ⇒ tree ---------------------------------------------------------------- */

/* weir_statement_parse analyses one statement; the caller has pinned the search_path. */
Query *
weir_statement_parse(const char *sql)
{
	List	   *raw = raw_parser(sql, RAW_PARSE_DEFAULT);

	return parse_analyze_fixedparams(linitial_node(RawStmt, raw), sql, NULL, 0, NULL);
}

typedef struct Splice
{
	const char *alias;
	Query	   *part;
	int			found;
} Splice;

static bool
splice_walker(Node *node, Splice *splice)
{
	if (node == NULL)
		return false;
	if (IsA(node, RangeTblEntry))
	{
		RangeTblEntry *rte = (RangeTblEntry *) node;

		if (rte->rtekind == RTE_SUBQUERY && strcmp(rte->eref->aliasname, splice->alias) == 0)
		{
			rte->subquery = splice->part;
			splice->found++;
		}
		return false;
	}
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, splice_walker, splice,
								 QTW_EXAMINE_RTES_AFTER);
	return expression_tree_walker(node, splice_walker, splice);
}

/* weir_statement_splice puts part in the place of the one placeholder with this alias. */
void
weir_statement_splice(Query *query, const char *alias, Query *part)
{
	Splice		splice = {alias, part, 0};

	(void) splice_walker((Node *) query, &splice);
	if (splice.found != 1)
		elog(ERROR, "%d placeholders \"%s\" in weir's statement", splice.found, alias);
}

/* weir_statement_unite: SELECT ... UNION ALL SELECT ...; NULL if there are no queries. alias: of the arms, with numbers */
Query *
weir_statement_unite(const char *alias, List *queries)
{
	StringInfoData sql;
	Query	   *query;
	ListCell   *lc;

	if (list_length(queries) <= 1)
		return queries ? linitial(queries) : NULL;
	initStringInfo(&sql);
	foreach(lc, queries)
		appendStringInfo(&sql, "%sSELECT * FROM %s AS %s_%d", sql.len ? "\nUNION ALL " : "",
						 weir_statement_placeholder(lfirst_node(Query, lc)->targetList), alias, foreach_current_index(lc) + 1);
	query = weir_statement_parse(sql.data);
	foreach(lc, queries)
		weir_statement_splice(query, psprintf("%s_%d", alias, foreach_current_index(lc) + 1), lfirst(lc));
	return query;
}
