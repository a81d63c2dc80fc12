/*
 * distinct_statement.c
 *	  The table of values that DISTINCT aggregates have had, and its part in the statements.
 *
 * distinct ⇒ distinct_statement ⇒ statement, final, define. The table's columns: the group's keys (k1, ...), of a final view
 * the end of its window unless that is a key (e), the number of the set (s), values (v1, ...; those of other sets
 * are NULL). Text is as everywhere a frame with placeholders, where query trees and aggregates are put.
 */
#include "postgres.h"

#include "catalog/catalog.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/ruleutils.h"
#include "view/distinct.h"

/* --- the table ----------------------------------------------------------------------------- */

/* Equal values have equal bytes, whatever the language: the order of bytes is the cheapest. */
static Oid
stored_collation(Oid collation)
{
	return OidIsValid(collation) && get_collation_isdeterministic(collation) ? C_COLLATION_OID : collation;
}

static void
add_stored(List **targets, Node *like, const char *name)
{
	Const	   *null = makeNullConst(exprType(like), exprTypmod(like), stored_collation(exprCollation(like)));

	*targets = lappend(*targets, makeTargetEntry((Expr *) null, list_length(*targets) + 1, pstrdup(name), false));
}

/* weir_distinct_targets returns targets like the columns of the values' table: keys, the window's end, number of the set, values. */
List *
weir_distinct_targets(ViewShape *shape)
{
	DistinctShape *distinct = shape->distinct;
	List	   *targets = NIL;
	ListCell   *lc;

	foreach(lc, shape->keys)
		add_stored(&targets, (Node *) lfirst_node(TargetEntry, lc)->expr, psprintf("k%d", foreach_current_index(lc) + 1));
	if (distinct->end)
		add_stored(&targets, (Node *) distinct->end, "e");
	add_stored(&targets, (Node *) makeNullConst(INT4OID, -1, InvalidOid), "s");
	foreach(lc, distinct->columns)
		add_stored(&targets, lfirst(lc), psprintf("v%d", foreach_current_index(lc) + 1));
	return targets;
}

/* Number of the first value's column in the table. */
static int
first_value(ViewShape *shape)
{
	return list_length(shape->keys) + (shape->distinct->end ? 2 : 1) + 1;
}

/* A column of the table as the unique index has it. */
static char *
index_column(ViewShape *shape, List *targets, List *names, int column)
{
	Node	   *expr = (Node *) list_nth_node(TargetEntry, targets, column - 1)->expr;
	Oid			type = getBaseType(exprType(expr));
	const char *name = quote_identifier(list_nth(names, column - 1));

	if (column >= first_value(shape) &&
		(type == BYTEAOID || ((type == TEXTOID || type == VARCHAROID) && exprCollation(expr) == C_COLLATION_OID)))
		return psprintf("weir.value_key(%s)", name);
	return pstrdup(name);
}

/*
 * weir_distinct_index returns the columns of the unique index. The one that tells a row's age comes first, so
 * that old rows are found by the same index: the window's end, or column age (0: none).
 */
char *
weir_distinct_index(ViewShape *shape, List *names, int age)
{
	List	   *targets = weir_distinct_targets(shape);
	int			first = shape->finals ? shape->distinct->end_column : age;
	StringInfoData buf;

	initStringInfo(&buf);
	if (first > 0)
		appendStringInfoString(&buf, index_column(shape, targets, names, first));
	for (int i = 1; i <= list_length(targets); i++)
	{
		if (i != first)
			appendStringInfo(&buf, "%s%s", buf.len > 0 ? ", " : "", index_column(shape, targets, names, i));
	}
	return buf.data;
}

/* --- the statement ---------------------------------------------------------------------------- */

static char *
collated(const char *text, Oid collation)
{
	return OidIsValid(collation) ? psprintf("%s COLLATE %s", text, generate_collation_name(collation)) : pstrdup(text);
}

static char *
null_text(Node *like)
{
	return collated(psprintf("CAST(NULL AS %s)", weir_statement_type(exprType(like), exprTypmod(like))), exprCollation(like));
}

/* SELECT of one set's rows in the form of the table. */
static void
append_set(StringInfo buf, ViewShape *shape, DistinctSet *set, List *targets)
{
	int			nfixed = first_value(shape) - 2;	/* keys and the window's end */
	char	   *alias = psprintf("weir_set%d", set->number);

	appendStringInfoString(buf, set->number > 1 ? "\n UNION ALL SELECT " : "SELECT ");
	for (int i = 1; i <= list_length(targets); i++)
	{
		Node	   *expr = (Node *) list_nth_node(TargetEntry, targets, i - 1)->expr;
		int			value = -1;
		ListCell   *lc;

		if (i > 1)
			appendStringInfoString(buf, ", ");
		foreach(lc, set->columns)
		{
			if (lfirst_int(lc) == i - first_value(shape))
				value = foreach_current_index(lc);
		}
		if (i == nfixed + 1)
			appendStringInfo(buf, "%d", set->number);
		else if (i <= nfixed)
			appendStringInfoString(buf, collated(psprintf("%s.c%d", alias, i), exprCollation(expr)));
		else if (value >= 0)
			appendStringInfoString(buf, collated(psprintf("%s.c%d", alias, nfixed + 1 + value), exprCollation(expr)));
		else
			appendStringInfoString(buf, null_text(expr));
	}
	appendStringInfo(buf, " FROM %s AS %s", weir_statement_placeholder(set->rows->targetList),
					 weir_text_aliases(alias, list_length(set->rows->targetList)));
	if (set->filter)
		appendStringInfo(buf, " WHERE %s.c%d", alias, list_length(set->rows->targetList));
}

/* weir_distinct_insert: weir_values AS (INSERT INTO the table ... RETURNING what is new), for a WITH */
char *
weir_distinct_insert(ViewShape *shape)
{
	List	   *targets = weir_distinct_targets(shape);
	List	   *names = weir_statement_columns(shape->values_relid, targets);
	StringInfoData buf;
	ListCell   *lc;

	initStringInfo(&buf);
	appendStringInfo(&buf, WEIR_VALUES " AS (INSERT INTO %s AS t (%s)\n SELECT * FROM (",
					 weir_relation_name(shape->values_relid), weir_text_names("", names));
	foreach(lc, shape->distinct->sets)
		append_set(&buf, shape, lfirst(lc), targets);
	appendStringInfo(&buf, ") AS %s\n ORDER BY %s\n ON CONFLICT (%s) DO NOTHING RETURNING %s)",
					 weir_text_aliases("x", list_length(targets)), weir_text_numbered("x.", list_length(targets)),
					 weir_distinct_index(shape, names, 0), weir_text_names("t.", names));
	return buf.data;
}

/* The columns of u: s, keys, plain states, values. */
static void
append_union(StringInfo buf, ViewShape *shape)
{
	DistinctShape *distinct = shape->distinct;
	int			nkeys = list_length(shape->keys);
	int			nplain = distinct->plain ? list_length(distinct->plain->targetList) : 0;
	int			nfixed = first_value(shape) - 2;
	ListCell   *lc;

	if (distinct->plain)
	{
		appendStringInfoString(buf, "SELECT 0");
		for (int i = 1; i <= nplain; i++)
			appendStringInfo(buf, ", weir_plain.c%d", i);
		foreach(lc, distinct->columns)
			appendStringInfo(buf, ", %s", null_text(lfirst(lc)));
		appendStringInfo(buf, " FROM %s AS %s\n UNION ALL ", weir_statement_placeholder(distinct->plain->targetList),
						 weir_text_aliases("weir_plain", nplain));
	}
	appendStringInfo(buf, "SELECT v.c%d", nfixed + 1);
	for (int i = 1; i <= nkeys; i++)
		appendStringInfo(buf, ", %s", collated(psprintf("v.c%d", i), exprCollation((Node *) list_nth_node(TargetEntry, shape->keys, i - 1)->expr)));
	for (int i = nkeys + 1; i <= nplain; i++)
		appendStringInfo(buf, ", %s", null_text((Node *) list_nth_node(TargetEntry, distinct->plain->targetList, i - 1)->expr));
	foreach(lc, distinct->columns)
		appendStringInfo(buf, ", %s", collated(psprintf("v.c%d", nfixed + 2 + foreach_current_index(lc)), exprCollation(lfirst(lc))));
	appendStringInfo(buf, " FROM " WEIR_VALUES " AS %s", weir_text_aliases("v", nfixed + 1 + list_length(distinct->columns)));
}

/* Which of the keys a target of the partial query is, from 0; -1: none. */
static int
key_number(ViewShape *shape, TargetEntry *tle)
{
	ListCell   *lc;

	foreach(lc, shape->keys)
	{
		if (tle->ressortgroupref != 0 && lfirst_node(TargetEntry, lc)->ressortgroupref == tle->ressortgroupref)
			return foreach_current_index(lc);
	}
	return -1;
}

/* weir_distinct_source is what stands for the partial query in the statement; aggregates come by weir_distinct_splice. */
char *
weir_distinct_source(ViewShape *shape)
{
	int			nkeys = list_length(shape->keys);
	int			nplain = 0;
	int			ncolumns;
	int			nstates = 0;
	StringInfoData buf;
	ListCell   *lc;

	initStringInfo(&buf);
	appendStringInfoString(&buf, "(SELECT ");
	foreach(lc, shape->partial->targetList)
	{
		TargetEntry *tle = lfirst(lc);
		int			key = key_number(shape, tle);

		if (foreach_current_index(lc) > 0)
			appendStringInfoString(&buf, ", ");
		if (key >= 0)
			appendStringInfo(&buf, "u.c%d", key + 2);
		else if (weir_distinct_is(list_nth(shape->states, nstates++)))
			appendStringInfoString(&buf, null_text((Node *) tle->expr));
		else
			appendStringInfo(&buf, "weir.only(u.c%d) FILTER (WHERE u.c1 OPERATOR(pg_catalog.=) 0)", nkeys + 2 + nplain++);
		appendStringInfo(&buf, " AS c%d", foreach_current_index(lc) + 1);
	}
	ncolumns = 1 + (shape->distinct->plain ? nkeys + nplain : 0) + list_length(shape->distinct->columns);
	appendStringInfoString(&buf, "\n FROM (");
	append_union(&buf, shape);
	appendStringInfo(&buf, ") AS %s", weir_text_aliases("u", ncolumns));
	for (int i = 0; i < nkeys; i++)
		appendStringInfo(&buf, "%su.c%d", i > 0 ? ", " : "\n GROUP BY ", i + 2);
	appendStringInfoChar(&buf, ')');
	return buf.data;
}

/* The n-th value of a set as a column of u. */
static Expr *
value_var(ViewShape *shape, DistinctSet *set, int n)
{
	DistinctShape *distinct = shape->distinct;
	int			column = list_nth_int(set->columns, n);
	Node	   *like = list_nth(distinct->columns, column);
	int			before = 1 + (distinct->plain ? list_length(distinct->plain->targetList) : 0);

	return (Expr *) makeVar(1, before + column + 1, exprType(like), exprTypmod(like), exprCollation(like), 0);
}

/* The aggregate of a state over u: its new values. */
static Aggref *
aggregate_of_new(ViewShape *shape, StateColumn *state)
{
	Aggref	   *agg = copyObject((Aggref *) state->partial);
	DistinctSet *set = weir_distinct_set(shape->distinct, state);
	int			n = 0;
	ListCell   *lc,
			   *la;

	weir_distinct_drop(agg);
	agg->aggfilter = make_opclause(Int4EqualOperator, BOOLOID, false,
								   (Expr *) makeVar(1, 1, INT4OID, -1, InvalidOid, 0),
								   (Expr *) makeConst(INT4OID, -1, InvalidOid, sizeof(int32), Int32GetDatum(set->number), false, true),
								   InvalidOid, InvalidOid);
	foreach(lc, agg->args)
	{
		TargetEntry *arg = lfirst(lc);
		RowExpr    *row = weir_distinct_row(arg->expr);

		if (row == NULL && !IsA(arg->expr, Const))
			arg->expr = value_var(shape, set, n++);
		foreach(la, row ? row->args : NIL)
		{
			if (!IsA(lfirst(la), Const))
				lfirst(la) = value_var(shape, set, n++);
		}
	}
	return agg;
}

static bool
find_walker(Node *node, Query **found)
{
	if (node == NULL)
		return false;
	if (IsA(node, RangeTblEntry))
	{
		RangeTblEntry *rte = (RangeTblEntry *) node;

		if (rte->rtekind == RTE_SUBQUERY && strcmp(rte->eref->aliasname, WEIR_PART) == 0)
			*found = rte->subquery;
		return false;
	}
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, find_walker, found, QTW_EXAMINE_RTES_BEFORE);
	return expression_tree_walker(node, find_walker, found);
}

/* weir_distinct_splice puts queries and aggregates where the statement's text has NULLs, in place. */
void
weir_distinct_splice(ViewShape *shape, Query *statement)
{
	Query	   *source = NULL;
	int			nstates = 0;
	ListCell   *lc;

	(void) find_walker((Node *) statement, &source);
	if (source == NULL)
		elog(ERROR, "weir's statement has no \"%s\"", WEIR_PART);
	source->hasAggs = true;
	foreach(lc, shape->partial->targetList)
	{
		TargetEntry *tle = lfirst(lc);
		StateColumn *state;

		if (key_number(shape, tle) >= 0)
			continue;
		state = list_nth(shape->states, nstates++);
		if (weir_distinct_is(state))
			list_nth_node(TargetEntry, source->targetList, foreach_current_index(lc))->expr =
				(Expr *) aggregate_of_new(shape, state);
	}
	if (shape->distinct->plain)
		weir_statement_splice(statement, "weir_plain", copyObject(shape->distinct->plain));
	foreach(lc, shape->distinct->sets)
	{
		DistinctSet *set = lfirst(lc);

		weir_statement_splice(statement, psprintf("weir_set%d", set->number), copyObject(set->rows));
	}
}

/* weir_distinct_free: weir_freed AS (DELETE of the values of windows that close now), for a WITH; limit: SQL */
char *
weir_distinct_free(ViewShape *shape, const char *limit)
{
	List	   *names = weir_statement_columns(shape->values_relid, weir_distinct_targets(shape));

	return psprintf("weir_freed AS (DELETE FROM %s AS t WHERE t.%s OPERATOR(pg_catalog.<=) %s)",
					weir_relation_name(shape->values_relid),
					quote_identifier(list_nth(names, shape->distinct->end_column - 1)), limit);
}
