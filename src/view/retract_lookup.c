/*
 * retract_lookup.c
 *	  Statements that find least and greatest values which a batch took away.
 *
 * retract ⇒ retract_lookup ⇒ retract_run, where it is told what they are for. Only of views with group keys; without any a
 * sub-select in the maintenance statement does it (retract_states.c), which an index on the value makes cheap.
 *
 * Keys without NULL go by plain equality, so that all groups are found in one pass by a hash join, or by an index; those
 * with one have an arm of their own.
 */
#include "postgres.h"

#include "catalog/catalog.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"
#include "view/recompute.h"
#include "view/session.h"
#include "view/shape.h"

/* Placeholders */
#define CHANGED		"weir_changed"
#define BELOW		"weir_below_"
#define GROUPS		"weir_groups_"

/* weir_retract_looks_up: are extremes looked up by statements of their own? */
bool
weir_retract_looks_up(ViewShape *shape)
{
	ListCell   *lc;

	if (!shape->retracts || shape->keys == NIL)
		return false;
	foreach(lc, shape->states)
	{
		if (((StateColumn *) lfirst(lc))->merge == MERGE_EXTREME)
			return true;
	}
	return false;
}

/* Of StateColumn. */
static List *
extremes_of(ViewShape *shape)
{
	List	   *extremes = NIL;
	ListCell   *lc;

	foreach(lc, shape->states)
	{
		if (((StateColumn *) lfirst(lc))->merge == MERGE_EXTREME)
			extremes = lappend(extremes, lfirst(lc));
	}
	return extremes;
}

/* prefix.c<first>, prefix.c<first + 1> ... */
static char *
columns(const char *prefix, int first, int n)
{
	StringInfoData buf;

	initStringInfo(&buf);
	for (int i = first; i < first + n; i++)
		appendStringInfo(&buf, "%s%sc%d", buf.len ? ", " : "", prefix, i);
	return buf.data;
}

static List *
key_targets(ViewShape *shape)
{
	return list_copy_head(shape->partial->targetList, list_length(shape->keys));
}

/* Typed NULLs like the extremes. */
static List *
extreme_targets(ViewShape *shape)
{
	List	   *targets = NIL;
	ListCell   *lc;

	foreach(lc, extremes_of(shape))
	{
		Node	   *value = (Node *) ((StateColumn *) lfirst(lc))->partial;

		targets = lappend(targets, makeTargetEntry((Expr *) makeNullConst(exprType(value), exprTypmod(value), exprCollation(value)),
												   list_length(targets) + 1, psprintf("x%d", list_length(targets) + 1), false));
	}
	return targets;
}

/* Conditions under which keys left.c1 ... (or columns of a table) are those of right.c1 ... */
static char *
keys_match(ViewShape *shape, const char *left, List *names, const char *right, bool null_safe)
{
	StringInfoData buf;
	ListCell   *lc;
	int			i = 0;

	initStringInfo(&buf);
	foreach(lc, shape->keys)
	{
		char	   *column = names ? psprintf("%s.%s", left, quote_identifier(list_nth(names, i))) : psprintf("%s.c%d", left, i + 1);

		i++;
		appendStringInfo(&buf, "%s%s", i > 1 ? " AND " : "",
						 weir_match_text(column, psprintf("%s.c%d", right, i), exprType((Node *) lfirst_node(TargetEntry, lc)->expr), !null_safe));
	}
	return buf.data;
}

/* Groups of the batch whose extreme went, and is not one that came, nor behind what the state has. */
static Query *
lost_statement(ViewShape *shape, Oid state)
{
	List	   *names = weir_statement_columns(state, shape->partial->targetList);
	int			nkeys = list_length(shape->keys);
	StringInfoData lost;
	Query	   *query;
	ListCell   *lc;

	initStringInfo(&lost);
	foreach(lc, extremes_of(shape))
	{
		StateColumn *column = lfirst(lc);

		appendStringInfo(&lost, "%s(" CHANGED ".c%d AND (t.%s %s " CHANGED ".c%d) IS NOT TRUE)", lost.len ? " OR " : "",
						 nkeys + column->lost + 1, quote_identifier(list_nth(names, nkeys + weir_retract_number(shape, column))),
						 weir_retract_before(column), nkeys + weir_retract_number(shape, column) + 1);
	}
	query = weir_statement_parse(psprintf("SELECT %s FROM %s AS " CHANGED "(%s), %s AS t WHERE (%s)"
										  " AND t.%s OPERATOR(pg_catalog.+) " CHANGED ".c%d OPERATOR(pg_catalog.>) 0 AND %s",
										  columns(CHANGED ".", 1, nkeys), weir_statement_placeholder(shape->partial->targetList),
										  columns("", 1, list_length(shape->partial->targetList)), weir_relation_name(state), lost.data,
										  quote_identifier(list_nth(names, nkeys)), nkeys + 1,
										  keys_match(shape, "t", names, CHANGED, true)));
	weir_statement_splice(query, CHANGED, weir_session_scan(WEIR_CHANGES, shape->partial->targetList));
	return query;
}

/* One arm of what the groups have below: their keys and values. */
static char *
arm_text(ViewShape *shape, Query *below, int arm)
{
	int			nkeys = list_length(shape->keys);
	char	   *rows = psprintf(BELOW "%d", arm);
	char	   *groups = psprintf(GROUPS "%d", arm);
	StringInfoData nulls;

	initStringInfo(&nulls);
	for (int i = 1; i <= nkeys; i++)
		appendStringInfo(&nulls, "%s%s.c%d IS NULL", i > 1 ? " OR " : "", groups, i);
	return psprintf("SELECT %s, %s FROM %s AS %s(%s), %s AS %s(%s) WHERE %s%s",
					columns(psprintf("%s.", groups), 1, nkeys), columns(psprintf("%s.", rows), nkeys + 1, list_length(below->targetList) - nkeys),
					weir_statement_placeholder(key_targets(shape)), groups, columns("", 1, nkeys),
					weir_statement_placeholder(below->targetList), rows, columns("", 1, list_length(below->targetList)),
					arm == 1 ? "" : psprintf("(%s) AND ", nulls.data), keys_match(shape, rows, NIL, groups, arm == 2));
}

/* Keys of the groups and their extremes, NULL where nothing is left. */
static Query *
found_statement(ViewShape *shape)
{
	Query	   *below = weir_retract_below(shape, extremes_of(shape));
	int			nkeys = list_length(shape->keys);
	int			ncolumns = list_length(below->targetList);
	StringInfoData results;
	Query	   *query;
	ListCell   *lc;

	initStringInfo(&results);
	foreach(lc, extremes_of(shape))
	{
		Oid			function = ((StateColumn *) lfirst(lc))->extreme->aggfnoid;

		appendStringInfo(&results, ", %s(u.c%d)", quote_qualified_identifier(get_namespace_name(get_func_namespace(function)), get_func_name(function)),
						 nkeys + 1 + foreach_current_index(lc));
	}
	query = weir_statement_parse(psprintf("SELECT %s%s FROM (SELECT %s, %s FROM %s AS " GROUPS "0(%s), %s AS weir_nothing(%s)"
										  " UNION ALL %s UNION ALL %s) AS u(%s) GROUP BY %s",
										  columns("u.", 1, nkeys), results.data, columns(GROUPS "0.", 1, nkeys), columns("weir_nothing.", 1, ncolumns - nkeys),
										  weir_statement_placeholder(key_targets(shape)), columns("", 1, nkeys),
										  weir_statement_placeholder(extreme_targets(shape)), columns("", 1, ncolumns - nkeys),
										  arm_text(shape, below, 1), arm_text(shape, below, 2), columns("", 1, ncolumns), columns("u.", 1, nkeys)));
	for (int i = 0; i <= 2; i++)
	{
		weir_statement_splice(query, psprintf(GROUPS "%d", i), weir_session_scan(WEIR_LOST_GROUPS, key_targets(shape)));
		if (i > 0)
			weir_statement_splice(query, psprintf(BELOW "%d", i), copyObject(below));
	}
	return query;
}

/* Found values into the states; lost is NULL until the batch is merged: what is there takes it in already. */
static Query *
set_statement(ViewShape *shape, Oid state)
{
	List	   *names = weir_statement_columns(state, shape->partial->targetList);
	List	   *targets = list_concat_copy(key_targets(shape), extreme_targets(shape));
	int			nkeys = list_length(shape->keys);
	StringInfoData set;
	Query	   *query;
	ListCell   *lc;

	initStringInfo(&set);
	foreach(lc, extremes_of(shape))
	{
		StateColumn *column = lfirst(lc);

		appendStringInfo(&set, "%s%s = " WEIR_FOUND ".c%d, %s = NULL", set.len ? ", " : "",
						 quote_identifier(list_nth(names, nkeys + weir_retract_number(shape, column))),
						 nkeys + 1 + foreach_current_index(lc), quote_identifier(list_nth(names, nkeys + column->lost)));
	}
	query = weir_statement_parse(psprintf("UPDATE %s AS t SET %s FROM %s AS " WEIR_FOUND "(%s) WHERE %s", weir_relation_name(state), set.data,
										  weir_statement_placeholder(targets), columns("", 1, list_length(targets)),
										  keys_match(shape, "t", names, WEIR_FOUND, true)));
	weir_statement_splice(query, WEIR_FOUND, weir_session_scan(WEIR_FOUND, targets));
	return query;
}

/* weir_retract_lookup makes these statements, or NULL if the view needs none; search_path is pinned. */
RetractStatements *
weir_retract_lookup(ViewShape *shape, Oid state)
{
	RetractStatements *statements;

	if (!weir_retract_looks_up(shape))
		return NULL;
	statements = palloc0(sizeof(RetractStatements));
	statements->changes = copyObject(shape->partial);
	statements->lost = lost_statement(shape, state);
	statements->found = found_statement(shape);
	statements->set = set_statement(shape, state);
	return statements;
}
