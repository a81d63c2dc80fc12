/*
 * session_statement.c
 *	  The statements of a view over sessions.
 *
 * session, shape ⇒ session_statement ⇒ apply. What merges the rows of a batch is the statement that every
 * view with a state table has (statement.c), reading weir_session_rows. Before it, where sessions of the
 * batch now begin elsewhere or have become part of others:
 *	  absorb: INSERT INTO <states> SELECT ... FROM weir_session_moved ON CONFLICT (keys) DO UPDATE ...
 *	  gone:	  DELETE FROM v USING weir_session_gone WHERE keys are equal
 * and for finals, when the watermark has moved:
 *	  close:  WITH weir_merged AS (SELECT ... FROM <states> WHERE weir.closed_until() <= end < weir.closing_until())
 *			  INSERT INTO v SELECT ... FROM <final over weir_merged>
 *	  shadow: DELETE FROM <states> USING <states just closed> WHERE of the same key, and before
 *	  purge:  DELETE FROM <states> WHERE too old for any row to touch
 *
 * The last closed session of a key stays among the states. Rows within its gap are late, even where
 * they touch a session that is open and goes back that far, so it must be known. Not for ever: a row more than
 * weir_session_memory() older than any that could begin a session moves no start (session_assign.c).
 */
#include "postgres.h"

#include "catalog/catalog.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "view/parts.h"
#include "view/session.h"

/* weir_session_scan makes SELECT c1, c2 ... FROM an ephemeral relation whose columns are like these targets. */
Query *
weir_session_scan(char *name, List *targets)
{
	Query	   *query = makeNode(Query);
	RangeTblEntry *rte = makeNode(RangeTblEntry);
	List	   *names = NIL;
	AttrNumber	attno = 0;
	ListCell   *lc;

	rte->rtekind = RTE_NAMEDTUPLESTORE;
	rte->enrname = pstrdup(name);
	rte->enrtuples = 1000;
	rte->inFromCl = true;
	query->commandType = CMD_SELECT;
	query->canSetTag = true;
	foreach(lc, targets)
	{
		TargetEntry *tle = lfirst(lc);
		Node	   *expr = (Node *) tle->expr;

		if (tle->resjunk)
			continue;
		attno++;
		names = lappend(names, makeString(pstrdup(tle->resname ? tle->resname : psprintf("c%d", attno))));
		rte->coltypes = lappend_oid(rte->coltypes, exprType(expr));
		rte->coltypmods = lappend_int(rte->coltypmods, exprTypmod(expr));
		rte->colcollations = lappend_oid(rte->colcollations, exprCollation(expr));
		query->targetList = lappend(query->targetList,
									makeTargetEntry((Expr *) makeVar(1, attno, exprType(expr), exprTypmod(expr), exprCollation(expr), 0),
													attno, pstrdup(strVal(llast(names))), false));
	}
	rte->eref = makeAlias(rte->enrname, names);
	weir_select_from(query, rte);
	return query;
}

/* weir_session_end is the end of a row's session, over weir_session_rows. */
Expr *
weir_session_end(ViewShape *shape)
{
	return (Expr *) makeVar(1, SESSION_COL_END, shape->session->time_type, -1, InvalidOid, 0);
}

/* weir_session_late_query: partition, offset, event time, time of the row, the row if it is wanted, reason */
Query *
weir_session_late_query(ViewShape *shape)
{
	SessionShape *session = shape->session;
	Oid			types[6] = {INT4OID, INT8OID, TIMESTAMPTZOID, session->time_type,
	session->rule.record ? RECORDOID : TEXTOID, TEXTOID};
	List	   *targets = NIL;

	for (int i = 0; i < 6; i++)
		targets = lappend(targets, makeTargetEntry((Expr *) makeNullConst(types[i], -1, get_typcollation(types[i])),
												   i + 1, psprintf("c%d", i + 1), false));
	return weir_session_scan(WEIR_SESSION_LATE, targets);
}

/* --- before the batch's rows are merged ------------------------------------------- */

static Query *
absorb_statement(ViewShape *shape, Oid state)
{
	Query	   *query = weir_statement_parse(weir_statement_states(shape, state));

	weir_statement_splice(query, WEIR_PART, weir_session_scan(WEIR_SESSION_MOVED, shape->partial->targetList));
	return query;
}

static Query *
gone_statement(ViewShape *shape, Oid result)
{
	List	   *names = weir_statement_columns(result, shape->query->targetList);
	StringInfoData buf;
	Query	   *query;
	ListCell   *lc;
	int			i = 0;

	initStringInfo(&buf);
	appendStringInfo(&buf, "DELETE FROM %s AS t USING %s AS %s WHERE true", weir_relation_name(result),
					 weir_statement_placeholder(shape->partial->targetList),
					 weir_text_aliases(WEIR_SESSION_GONE, list_length(shape->partial->targetList)));
	foreach(lc, shape->keys)
	{
		TargetEntry *key = lfirst(lc);

		i++;
		appendStringInfo(&buf, " AND %s",
						 weir_match_text(psprintf("t.%s", quote_identifier(list_nth(names, key->resno - 1))),
										 psprintf(WEIR_SESSION_GONE ".c%d", i), exprType((Node *) key->expr),
										 shape->session->rule.state_start == i));
	}
	query = weir_statement_parse(buf.data);
	weir_statement_splice(query, WEIR_SESSION_GONE, weir_session_scan(WEIR_SESSION_GONE, shape->partial->targetList));
	return query;
}

/* --- when sessions close -------------------------------------------------------------- */

/* weir.closing_until() or weir.closed_until() in the type of the session's times */
static char *
limit_text(SessionShape *session, const char *function)
{
	return psprintf(session->time_type == TIMESTAMPTZOID ? "weir.%s()" :
					"pg_catalog.timezone('UTC'::pg_catalog.text, weir.%s())", function);
}

char *
weir_session_state_column(Oid state, const char *alias, int column)
{
	return psprintf("%s.%s", alias, quote_identifier(get_attname(state, column, false)));
}

/* Sessions before one that closes now: it stands between them and whatever is still open. */
static Query *
shadow_statement(ViewShape *shape, Oid state)
{
	SessionRule *rule = &shape->session->rule;
	char	   *table = weir_relation_name(state);
	char	   *end = weir_session_state_column(state, "n", rule->state_end);
	StringInfoData buf;

	initStringInfo(&buf);
	appendStringInfo(&buf, "DELETE FROM %s AS t USING %s AS n WHERE %s OPERATOR(pg_catalog.>=) %s AND %s OPERATOR(pg_catalog.<) %s"
					 " AND %s OPERATOR(pg_catalog.<) %s", table, table,
					 end, limit_text(shape->session, "closed_until"), end, limit_text(shape->session, "closing_until"),
					 weir_session_state_column(state, "t", rule->state_start), weir_session_state_column(state, "n", rule->state_start));
	for (int i = 0; i < rule->nkeys; i++)
		appendStringInfo(&buf, " AND %s", weir_match_text(weir_session_state_column(state, "t", rule->state_keys[i]),
														  weir_session_state_column(state, "n", rule->state_keys[i]),
														  get_atttype(state, rule->state_keys[i]), false));
	return weir_statement_parse(buf.data);
}

/* Which sessions no row can touch any more. */
static char *
forgotten_text(ViewShape *shape, Oid state)
{
	SessionRule *rule = &shape->session->rule;

	return psprintf("%s OPERATOR(pg_catalog.<) (%s OPERATOR(pg_catalog.-) '" INT64_FORMAT " microseconds'::pg_catalog.interval)",
					weir_session_state_column(state, "t", rule->state_end), limit_text(shape->session, "closing_until"),
					rule->gap + weir_session_memory(rule->gap));
}

static Query *
purge_statement(ViewShape *shape, Oid state)
{
	return weir_statement_parse(psprintf("DELETE FROM %s AS t WHERE %s", weir_relation_name(state), forgotten_text(shape, state)));
}

/* Rows kept for aggregates go when their session closes; if none closes, with its states. */
static Query *
free_statement(ViewShape *shape, Oid state)
{
	char	   *end = weir_session_state_column(state, "t", shape->end_column);

	return weir_session_free_statement(shape, state, shape->finals ?
									   psprintf("%s OPERATOR(pg_catalog.>=) %s AND %s OPERATOR(pg_catalog.<) %s",
												end, limit_text(shape->session, "closed_until"), end, limit_text(shape->session, "closing_until")) :
									   forgotten_text(shape, state));
}

/* prefix.c1, prefix.c2 ... for the first columns of a table */
static char *
columns_of(Oid relid, const char *prefix, int n)
{
	StringInfoData buf;

	initStringInfo(&buf);
	for (int i = 1; i <= n; i++)
		appendStringInfo(&buf, "%s%s%s", i > 1 ? ", " : "", prefix, quote_identifier(get_attname(relid, weir_live_column(relid, i), false)));
	return buf.data;
}

/* weir_session_close_statement returns the statement that inserts finals, analysed; search_path is pinned. */
Query *
weir_session_close_statement(ViewShape *shape, Oid result, Oid state)
{
	int			ncolumns = list_length(shape->query->targetList);
	char	   *end = weir_session_state_column(state, "t", shape->end_column);
	StringInfoData buf;
	Query	   *query;

	initStringInfo(&buf);
	appendStringInfo(&buf, "WITH " WEIR_MERGED " AS MATERIALIZED (SELECT %s FROM %s AS t"
					 " WHERE %s OPERATOR(pg_catalog.>=) %s AND %s OPERATOR(pg_catalog.<) %s)\n",
					 columns_of(state, "t.", list_length(shape->partial->targetList)), weir_relation_name(state),
					 end, limit_text(shape->session, "closed_until"), end, limit_text(shape->session, "closing_until"));
	appendStringInfo(&buf, "INSERT INTO %s AS t (%s) SELECT ", weir_relation_name(result), columns_of(result, "", ncolumns));
	for (int i = 1; i <= ncolumns; i++)
		appendStringInfo(&buf, "%s" WEIR_FINAL ".c%d", i > 1 ? ", " : "", i);
	appendStringInfo(&buf, " FROM %s AS %s",
					 weir_statement_placeholder(list_copy_head(shape->final->targetList, ncolumns)),
					 weir_text_aliases(WEIR_FINAL, ncolumns));
	query = weir_statement_parse(buf.data);
	weir_statement_splice(query, WEIR_FINAL, weir_session_final(shape));
	linitial_node(CommonTableExpr, query->cteList)->cterefcount = 1;	/* spliced in, the parser has not seen it */
	return query;
}

SessionStatements *
weir_session_statements(ViewShape *shape, Oid result, Oid state)
{
	SessionStatements *statements = palloc0(sizeof(SessionStatements));

	statements->rule = shape->session->rule;
	statements->source = copyObject(shape->session->source);
	statements->absorb = absorb_statement(shape, state);
	statements->gone = shape->finals ? NULL : gone_statement(shape, result);
	statements->shadow = shape->finals ? shadow_statement(shape, state) : NULL;
	statements->purge = purge_statement(shape, state);
	if (shape->session->by_rows)
	{
		statements->keep = weir_session_keep_statement(shape);
		statements->free = free_statement(shape, state);
	}
	return statements;
}

/* --- from nothing ------------------------------------------------------------------------ */

/*
 * weir_session_replay gives all rows of the deltas in env their sessions, from nothing, and returns
 * the environment in which shape->query can run. Of finals, only those closed by
 * weir.closing_until(). *work is to be freed behind it.
 */
QueryEnvironment *
weir_session_replay(ViewShape *shape, QueryEnvironment *env, SessionWork *work)
{
	Query	   *query = linitial_node(Query, weir_run_rewrite(copyObject(shape->session->source)));
	PlannedStmt *plan;

	weir_rewrite_estimate(query, 100000);
	PushActiveSnapshot(GetTransactionSnapshot());
	plan = pg_plan_query(query, "kept rows of a continuous view", 0, NULL);
	plan->jitFlags = 0;			/* compiling costs more than it saves */
	PopActiveSnapshot();
	weir_session_run(&shape->session->rule, plan, "kept rows of a continuous view", env, InvalidOid,
					 DT_NOBEGIN, weir_window_times.closing, work);
	return weir_session_environment(work, NULL);
}

/* weir_session_gap returns the gap as text. */
char *
weir_session_gap(ViewShape *shape)
{
	Interval	gap = {.time = shape->session->rule.gap};

	return DatumGetCString(DirectFunctionCall1(interval_out, IntervalPGetDatum(&gap)));
}
