/*
 * session_rows.c
 *	  Aggregates over sessions that do not merge: count(DISTINCT), array_agg(... ORDER BY), percentile_cont ...
 *
 * shape ⇒ session_rows ⇒ session_statement. The view keeps what such aggregates are given, a row for each row that
 * is in a session, in a table of its own (weir.values_N): a hash of the group keys, the row's time, the keys, and the
 * values of arguments, ORDER BY and FILTER as they were when the row came. Sessions of a key never overlap in time,
 * so a row does not say which session it is in: the session's bounds, which merge like any state, tell
 * its rows. Where sessions become one, or begin earlier, nothing here has to change.
 *
 *	  keep:	 INSERT INTO <values> SELECT hash, time, keys, arguments FROM weir_session_rows
 *	  result: ... FROM weir_merged, LATERAL (SELECT aggregates FROM <values> WHERE hash and keys are those of
 *			  weir_merged, and time is between its start and its last row)
 *	  free:	 DELETE FROM <values> USING <states> WHERE closed, or forgotten
 *
 * So a batch costs its rows and those of the sessions that it touches, found by an index over hash and
 * time; finals are computed once, when they close. The stream need not keep a row, and rows that were too late, which it does
 * keep, are not here. Locks: writers of a view over sessions take turns.
 *
 * Where the order of rows shows and the query leaves it open, it is that of arrival: partition and offset stand
 * behind what ORDER BY has.
 */
#include "postgres.h"

#include "catalog/catalog.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "rewrite/rewriteManip.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"
#include "view/distinct.h"
#include "view/recompute.h"
#include "view/session.h"

#define BOUNDS		"weir_session_bounds"	/* placeholder: keys, start and end of the session at hand */
#define KEPT		"weir_session_kept"		/* placeholder: what is kept of rows */
#define KEY_COLUMNS 2						/* columns of the table before the keys: hash and time */

/* weir_session_by_rows: does an aggregate's call need the rows of the whole session? */
bool
weir_session_by_rows(Aggref *agg)
{
	return agg->aggdistinct || weir_aggregate_by_arrival(agg) || agg->aggfnoid == F_STRING_AGG_TEXT_TEXT ||
		agg->aggfnoid == F_STRING_AGG_BYTEA_BYTEA || !weir_aggregate_merges(agg);
}

/* --- what is kept of a row ---------------------------------------------------------- */

/* The n-th column kept is a Var of varno 1 here, until the statement is made. */
static Expr *
kept_column(SessionShape *session, Expr *expr)
{
	int			i = 0;
	ListCell   *lc;

	foreach(lc, session->kept)
	{
		if (equal(lfirst(lc), expr))
			break;
		i++;
	}
	if (i == list_length(session->kept))
		session->kept = lappend(session->kept, copyObject(expr));
	return (Expr *) makeVar(1, i + 1, exprType((Node *) expr), exprTypmod((Node *) expr), exprCollation((Node *) expr), 0);
}

/* A column of the type of a table's rows would stand in the way of ALTER TABLE. */
static bool
is_table_row(Oid type)
{
	Oid			relid = get_typ_typrelid(getBaseType(type));

	return OidIsValid(relid) && get_rel_relkind(relid) != RELKIND_COMPOSITE_TYPE;
}

/* What an aggregate is given, from what is kept. Rows made on the spot, whose type no column can have, are kept column by column. */
static Expr *
from_kept(ViewShape *shape, Aggref *agg, Expr *expr)
{
	RowExpr    *row = weir_distinct_row(expr);
	Oid			type = exprType((Node *) expr);
	ListCell   *lc;

	if (IsA(expr, Const))
		return copyObject(expr);
	if (row)
	{
		row = copyObject(row);
		foreach(lc, row->args)
			lfirst(lc) = from_kept(shape, agg, lfirst(lc));
		return (Expr *) row;
	}
	if (get_typtype(type) == TYPTYPE_PSEUDO || is_table_row(type))
		weir_refuse(shape->name, psprintf("An argument of %s(...) is of type %s, which the view cannot keep in a column.",
										  get_func_name(agg->aggfnoid), format_type_be(type)),
					"Name the columns: ROW(a, b), or to_jsonb() of a row of them.");
	return kept_column(shape->session, expr);
}

/* Direct arguments may hold group keys: those of the session at hand, one level up. */
static List *
direct_arguments(ViewShape *shape, List *args)
{
	ShapeContext context = {shape, 0};

	args = (List *) weir_final_mutator((Node *) args, &context);
	IncrementVarSublevelsUp((Node *) args, 1, 0);
	return args;
}

/*
 * weir_session_result returns the result of an aggregate (of the query's own level) that goes by the session's rows: a column of the
 * final query's second FROM item.
 */
Expr *
weir_session_result(ShapeContext *context, Aggref *agg)
{
	SessionShape *session = context->shape->session;
	int			n = 0;
	ListCell   *lc;

	if (session->why == NULL)
		session->why = weir_describe_aggregate(agg);
	agg = copyObject(agg);
	foreach(lc, agg->args)
	{
		TargetEntry *arg = lfirst(lc);

		arg->expr = from_kept(context->shape, agg, arg->expr);
	}
	if (agg->aggfilter)
		agg->aggfilter = from_kept(context->shape, agg, agg->aggfilter);
	agg->aggdirectargs = direct_arguments(context->shape, agg->aggdirectargs);
	foreach(lc, session->by_rows)
	{
		if (equal(lfirst(lc), agg))
			break;
		n++;
	}
	if (n == list_length(session->by_rows))
		session->by_rows = lappend(session->by_rows, agg);
	return (Expr *) makeVar(2, n + 1, exprType((Node *) agg), exprTypmod((Node *) agg), exprCollation((Node *) agg),
							context->sublevels_up);
}

/* weir_session_add_rows gives the final query its second FROM item; what stands in it follows with the table's name. */
void
weir_session_add_rows(ViewShape *shape, Query *final)
{
	RangeTblEntry *rte = makeNode(RangeTblEntry);
	RangeTblRef *ref = makeNode(RangeTblRef);
	List	   *names = NIL;

	for (int i = 1; i <= list_length(shape->session->by_rows); i++)
		names = lappend(names, makeString(psprintf("c%d", i)));
	rte->rtekind = RTE_SUBQUERY;
	rte->eref = makeAlias("weir_session_results", names);
	rte->lateral = true;
	rte->inFromCl = true;
	final->rtable = lappend(final->rtable, rte);
	ref->rtindex = 2;
	final->jointree->fromlist = lappend(final->jointree->fromlist, ref);
}

/* --- their table ------------------------------------------------------------------------ */

static void
add_column(List **targets, Oid type, int32 typmod, Oid collation, const char *name)
{
	*targets = lappend(*targets, makeTargetEntry((Expr *) makeNullConst(type, typmod, collation),
												 list_length(*targets) + 1, pstrdup(name), false));
}

/* weir_session_kept_targets returns targets like the columns of the table: hash, time, group keys, values. */
List *
weir_session_kept_targets(ViewShape *shape)
{
	SessionRule *rule = &shape->session->rule;
	List	   *targets = NIL;
	ListCell   *lc;

	add_column(&targets, INT8OID, -1, InvalidOid, "h");
	add_column(&targets, shape->session->time_type, -1, InvalidOid, "at");
	for (int i = 0; i < rule->nkeys; i++)
	{
		Node	   *key = (Node *) list_nth_node(TargetEntry, shape->keys, rule->state_keys[i] - 1)->expr;

		add_column(&targets, exprType(key), exprTypmod(key), exprCollation(key), psprintf("k%d", i + 1));
	}
	foreach(lc, shape->session->kept)
	{
		Node	   *expr = lfirst(lc);

		add_column(&targets, exprType(expr), exprTypmod(expr), exprCollation(expr), psprintf("v%d", foreach_current_index(lc) + 1));
	}
	return targets;
}

static List *
kept_names(ViewShape *shape)
{
	return weir_statement_columns(shape->values_relid, weir_session_kept_targets(shape));
}

/* weir_session_kept_index returns the columns of its index. */
char *
weir_session_kept_index(void)
{
	return pstrdup("h, at");
}

/* The hash of group keys, which are alias.c1, c2 ...; those of types that have none are left out. */
static char *
hash_text(ViewShape *shape, char **keys)
{
	SessionRule *rule = &shape->session->rule;
	StringInfoData buf;

	initStringInfo(&buf);
	for (int i = 0; i < rule->nkeys; i++)
	{
		Oid			type = exprType((Node *) list_nth_node(TargetEntry, shape->keys, rule->state_keys[i] - 1)->expr);

		if (OidIsValid(lookup_type_cache(type, TYPECACHE_HASH_EXTENDED_PROC)->hash_extended_proc))
			appendStringInfo(&buf, "%s%s", buf.len ? ", " : "", keys[i]);
	}
	if (buf.len == 0)
		return pstrdup("CAST(0 AS pg_catalog.int8)");
	return psprintf("pg_catalog.hash_record_extended(ROW(%s), CAST(0 AS pg_catalog.int8))", buf.data);
}

/* Conditions under which row w of the table is in a session of these keys and bounds. */
static char *
match_text(ViewShape *shape, List *names, char **keys, const char *start, const char *end)
{
	SessionRule *rule = &shape->session->rule;
	char	   *at = psprintf("w.%s", quote_identifier(list_nth(names, 1)));
	StringInfoData buf;

	initStringInfo(&buf);
	appendStringInfo(&buf, "w.%s OPERATOR(pg_catalog.=) %s AND %s OPERATOR(pg_catalog.>=) %s"
					 " AND %s OPERATOR(pg_catalog.<=) (%s OPERATOR(pg_catalog.-) '" INT64_FORMAT " microseconds'::pg_catalog.interval)",
					 quote_identifier(linitial(names)), hash_text(shape, keys), at, start, at, end, rule->gap);
	for (int i = 0; i < rule->nkeys; i++)
		appendStringInfo(&buf, " AND %s",
						 weir_match_text(psprintf("w.%s", quote_identifier(list_nth(names, KEY_COLUMNS + i))), keys[i],
										 exprType((Node *) list_nth_node(TargetEntry, shape->keys, rule->state_keys[i] - 1)->expr), false));
	return buf.data;
}

/* alias.c<first>, alias.c<first + 1> ... for the group keys */
static char **
numbered_keys(ViewShape *shape, const char *alias, int first)
{
	char	  **keys = palloc(sizeof(char *) * Max(shape->session->rule.nkeys, 1));

	for (int i = 0; i < shape->session->rule.nkeys; i++)
		keys[i] = psprintf("%s.c%d", alias, first + i);
	return keys;
}

/* --- statements --------------------------------------------------------------------------- */

/* weir_session_keep_statement: the batch's rows that are in sessions, into the table */
Query *
weir_session_keep_statement(ViewShape *shape)
{
	SessionRule *rule = &shape->session->rule;
	Query	   *rows = weir_session_scan(WEIR_SESSION_ROWS, shape->session->source->targetList);
	List	   *scan = rows->targetList;
	List	   *exprs = list_make1(list_nth_node(TargetEntry, scan, rule->time - 1)->expr);
	List	   *names = kept_names(shape);
	StringInfoData buf;
	Query	   *query;
	ListCell   *lc;

	for (int i = 0; i < rule->nkeys; i++)
		exprs = lappend(exprs, list_nth_node(TargetEntry, scan, rule->source_keys[i] - 1)->expr);
	exprs = list_concat(exprs, shape->session->kept);
	rows->targetList = NIL;
	foreach(lc, exprs)
		rows->targetList = lappend(rows->targetList, makeTargetEntry(copyObject(lfirst(lc)), foreach_current_index(lc) + 1,
																	 psprintf("c%d", foreach_current_index(lc) + 1), false));
	rows->cteList = copyObject(shape->query->cteList);
	rows->hasRecursive = shape->query->hasRecursive;
	rows->hasSubLinks = checkExprHasSubLink((Node *) rows->targetList);

	initStringInfo(&buf);
	appendStringInfo(&buf, "INSERT INTO %s AS t (", weir_relation_name(shape->values_relid));
	foreach(lc, names)
		appendStringInfo(&buf, "%s%s", foreach_current_index(lc) ? ", " : "", quote_identifier(lfirst(lc)));
	appendStringInfo(&buf, ")\n SELECT %s", hash_text(shape, numbered_keys(shape, KEPT, 2)));
	for (int i = 1; i <= list_length(exprs); i++)
		appendStringInfo(&buf, ", " KEPT ".c%d", i);
	appendStringInfo(&buf, "\n FROM %s AS %s", weir_statement_placeholder(rows->targetList), weir_text_aliases(KEPT, list_length(exprs)));
	query = weir_statement_parse(buf.data);
	weir_statement_splice(query, KEPT, rows);
	return query;
}

/* Keys, start and end of the session at hand: columns of WEIR_MERGED, two levels up. */
static List *
bounds_targets(ViewShape *shape)
{
	SessionRule *rule = &shape->session->rule;
	List	   *targets = NIL;

	for (int i = 0; i < rule->nkeys + 2; i++)
	{
		int			column = i < rule->nkeys ? rule->state_keys[i] : i == rule->nkeys ? rule->state_start : rule->state_end;
		Node	   *expr = (Node *) list_nth_node(TargetEntry, shape->partial->targetList, column - 1)->expr;

		targets = lappend(targets, makeTargetEntry((Expr *) makeVar(1, column, exprType(expr), exprTypmod(expr), exprCollation(expr), 2),
												   i + 1, psprintf("c%d", i + 1), false));
	}
	return targets;
}

static Node *
column_mutator(Node *node, List *columns)
{
	if (node == NULL)
		return NULL;
	if (IsA(node, Var) && ((Var *) node)->varlevelsup == 0)
		return (Node *) copyObject(list_nth_node(TargetEntry, columns, ((Var *) node)->varattno - 1)->expr);
	return expression_tree_mutator(node, column_mutator, columns);
}

/* What stands in the final query's second FROM item. */
static Query *
results_query(ViewShape *shape)
{
	SessionRule *rule = &shape->session->rule;
	List	   *names = kept_names(shape);
	List	   *targets = bounds_targets(shape);
	Query	   *bounds = makeNode(Query);
	List	   *results = NIL;
	StringInfoData buf;
	Query	   *query;
	ListCell   *lc;

	initStringInfo(&buf);
	appendStringInfoString(&buf, "SELECT ");
	for (int i = KEY_COLUMNS + rule->nkeys; i < list_length(names); i++)
		appendStringInfo(&buf, "%sw.%s", i > KEY_COLUMNS + rule->nkeys ? ", " : "", quote_identifier(list_nth(names, i)));
	appendStringInfo(&buf, " FROM LATERAL %s AS %s, %s AS w WHERE %s",
					 weir_statement_placeholder(targets), weir_text_aliases(BOUNDS, list_length(targets)),
					 weir_relation_name(shape->values_relid),
					 match_text(shape, names, numbered_keys(shape, BOUNDS, 1), psprintf(BOUNDS ".c%d", rule->nkeys + 1),
								psprintf(BOUNDS ".c%d", rule->nkeys + 2)));
	query = weir_statement_parse(buf.data);
	bounds->commandType = CMD_SELECT;
	bounds->canSetTag = true;
	bounds->jointree = makeFromExpr(NIL, NULL);
	bounds->targetList = targets;
	weir_statement_splice(query, BOUNDS, bounds);
	foreach(lc, shape->session->by_rows)
	{
		Aggref	   *agg = lfirst(lc);
		Aggref	   *own = copyObject(agg);

		own->args = (List *) column_mutator((Node *) agg->args, query->targetList);
		own->aggfilter = (Expr *) column_mutator((Node *) agg->aggfilter, query->targetList);
		results = lappend(results, makeTargetEntry((Expr *) own, list_length(results) + 1,
												   psprintf("c%d", list_length(results) + 1), false));
	}
	query->targetList = results;
	query->hasAggs = true;
	query->hasSubLinks = checkExprHasSubLink((Node *) results);
	return query;
}

/* weir_session_final copies the final query, with the table that it reads. */
Query *
weir_session_final(ViewShape *shape)
{
	Query	   *final = copyObject(shape->final);

	if (shape->session && shape->session->by_rows)
		lsecond_node(RangeTblEntry, final->rtable)->subquery = results_query(shape);
	return final;
}

/* weir_session_free_statement deletes the rows of sessions; condition: which ones, over t, the state table. */
Query *
weir_session_free_statement(ViewShape *shape, Oid state, const char *condition)
{
	SessionRule *rule = &shape->session->rule;
	char	  **keys = palloc(sizeof(char *) * Max(rule->nkeys, 1));
	char	   *bounds[2];

	for (int i = 0; i < rule->nkeys; i++)
		keys[i] = weir_session_state_column(state, "t", rule->state_keys[i]);
	bounds[0] = weir_session_state_column(state, "t", rule->state_start);
	bounds[1] = weir_session_state_column(state, "t", rule->state_end);
	return weir_statement_parse(psprintf("DELETE FROM %s AS w USING %s AS t WHERE %s AND %s",
										 weir_relation_name(shape->values_relid), weir_relation_name(state), condition,
										 match_text(shape, kept_names(shape), keys, bounds[0], bounds[1])));
}
