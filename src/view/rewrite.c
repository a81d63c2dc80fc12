/*
 * rewrite.c
 *	  From a definition over streams to the same query over deltas.
 *
 * check ⇒ rewrite ⇒ aggregates. Works on PostgreSQL's own query trees, never on
 * text: what CREATE bound (functions, operators of IN, NULLIF and USING,
 * collations, columns by number) stays bound, whatever the search_path is
 * later. A stream in FROM becomes what an ordinary view in FROM becomes, a
 * sub-select: SELECT its columns FROM the ephemeral relation that the delta is
 * registered as. Column numbers stay those of the table (dropped columns are
 * NULLs that nobody reads), so nothing else in the tree needs to change.
 *
 * Rights stay as PostgreSQL has them for views: tables are read as the owner
 * of the view that names them, and SELECT on the stream is still checked.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/catalog.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "catalog/stream.h"
#include "compat.h"
#include "delta/delta.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteHandler.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/rls.h"
#include "view/shape.h"

/* A FROM item named after attribute names, or after the user's aliases where he gave some. */
static void
name_columns(RangeTblEntry *rte, List *names)
{
	List	   *given = rte->alias ? rte->alias->colnames : NIL;
	List	   *colnames = NIL;
	ListCell   *lc;
	int			i = 0;

	foreach(lc, names)
	{
		char	   *name = lfirst(lc);

		if (i < list_length(given) && strVal(list_nth(given, i))[0] != '\0')
			name = strVal(list_nth(given, i));
		colnames = lappend(colnames, makeString(name));
		i++;
	}
	rte->eref = makeAlias(rte->eref->aliasname, colnames);
	if (given == NIL)
		rte->alias = makeAlias(rte->eref->aliasname, NIL);
	else
		rte->alias = copyObject(rte->eref);
}

/* Puts an ordinary view's query in the place of the view. */
static void
expand_view(RangeTblEntry *rte, Relation rel)
{
	Query	   *subquery = copyObject(get_view_query(rel));
	List	   *names = NIL;
	ListCell   *lc;
	int			i = 0;

	foreach(lc, subquery->targetList)
	{
		TargetEntry *tle = lfirst(lc);

		if (tle->resjunk)
			continue;
		tle->resname = pstrdup(NameStr(TupleDescAttr(RelationGetDescr(rel), i)->attname));
		names = lappend(names, tle->resname);
		i++;
	}
	name_columns(rte, names);
	weir_compat_flatten_groups(subquery);
	weir_compat_rte_to_subquery(rte, subquery, subquery->rtable ? linitial(subquery->rtable) : NULL);
	rte->security_barrier = RelationIsSecurityView(rel);
}

static void
expand_rte(RangeTblEntry *rte)
{
	Relation	rel;

	if (rte->rtekind != RTE_RELATION || rte->relkind != RELKIND_VIEW || !rte->inFromCl)
		return;
	rel = table_open(rte->relid, AccessShareLock);
	if (weir_query_has_stream((Node *) get_view_query(rel)))
		expand_view(rte, rel);
	table_close(rel, NoLock);
}

/*
 * order_arguments puts the arguments of a window function that were given by name in their
 * places, so that all that follows finds the time first. No function of these has defaults.
 */
static void
order_arguments(RangeTblEntry *rte)
{
	FuncExpr   *call = (FuncExpr *) linitial_node(RangeTblFunction, rte->functions)->funcexpr;
	List	   *ordered = NIL;

	for (int i = 0; i < list_length(call->args); i++)
	{
		ListCell   *lc;

		foreach(lc, call->args)
		{
			NamedArgExpr *named = lfirst(lc);

			if (!IsA(named, NamedArgExpr) && foreach_current_index(lc) == i)
				ordered = lappend(ordered, named);
			else if (IsA(named, NamedArgExpr) && named->argnumber == i)
				ordered = lappend(ordered, named->arg);
		}
	}
	if (list_length(ordered) != list_length(call->args))
		elog(ERROR, "arguments of a window function could not be ordered");
	call->args = ordered;
}

static bool
expand_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, RangeTblEntry))
	{
		/* the walk goes on into the sub-select that the entry now holds */
		expand_rte((RangeTblEntry *) node);
		if (weir_is_window((RangeTblEntry *) node))
			order_arguments((RangeTblEntry *) node);
		return false;
	}
	if (IsA(node, Query))
	{
		check_stack_depth();
		return query_tree_walker((Query *) node, expand_walker, context,
								 QTW_EXAMINE_RTES_BEFORE);
	}
	return expression_tree_walker(node, expand_walker, context);
}

/*
 * weir_rewrite_expand returns a copy in which ordinary views that read a stream are sub-selects,
 * and window functions have their arguments in order.
 */
Query *
weir_rewrite_expand(Query *query)
{
	query = copyObject(query);
	(void) expand_walker((Node *) query, NULL);
	return query;
}

/* The ephemeral relation of a stream's delta as a FROM item. */
static RangeTblEntry *
delta_rte(Oid stream, TupleDesc desc)
{
	RangeTblEntry *rte = makeNode(RangeTblEntry);
	List	   *names = NIL;

	rte->rtekind = RTE_NAMEDTUPLESTORE;
	rte->enrname = weir_delta_name(stream);
	rte->enrtuples = 1000;
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		names = lappend(names, makeString(pstrdup(NameStr(att->attname))));
		rte->coltypes = lappend_oid(rte->coltypes, att->atttypid);
		rte->coltypmods = lappend_int(rte->coltypmods, att->atttypmod);
		rte->colcollations = lappend_oid(rte->colcollations, att->attcollation);
	}
	rte->eref = makeAlias(rte->enrname, names);
	rte->inFromCl = true;
	return rte;
}

static Expr *
delta_var(Index varno, TupleDesc desc, int i)
{
	Form_pg_attribute att = TupleDescAttr(desc, i);

	return (Expr *) makeVar(varno, i + 1, att->atttypid, att->atttypmod,
							att->attcollation, 0);
}

/*
 * delta_query builds SELECT <columns of the stream> FROM <its delta>. Target
 * i is the table's column i; the hidden columns are added when asked for.
 * *names gets the names of all targets.
 */
static Query *
delta_query(RangeTblEntry *stream_rte, List **names)
{
	Relation	rel = table_open(stream_rte->relid, AccessShareLock);
	TupleDesc	table = RelationGetDescr(rel);
	TupleDesc	desc = weir_delta_desc(rel);
	Query	   *query = makeNode(Query);
	RangeTblRef *ref = makeNode(RangeTblRef);
	int			next = 0;

	query->commandType = CMD_SELECT;
	query->canSetTag = true;
	query->rtable = weir_compat_permission_rtes(stream_rte);
	query->rtable = lappend(query->rtable, delta_rte(stream_rte->relid, desc));
	ref->rtindex = list_length(query->rtable);
	query->jointree = makeFromExpr(list_make1(ref), NULL);

	*names = NIL;
	for (int i = 0; i < table->natts; i++)
	{
		char	   *name;
		Expr	   *expr;

		if (TupleDescAttr(table, i)->attisdropped)
		{
			name = psprintf("dropped_%d", i + 1);
			expr = (Expr *) makeNullConst(INT4OID, -1, InvalidOid);
		}
		else
		{
			name = pstrdup(NameStr(TupleDescAttr(desc, next)->attname));
			expr = delta_var(ref->rtindex, desc, next++);
		}
		query->targetList = lappend(query->targetList,
									makeTargetEntry(expr, i + 1, name, false));
		*names = lappend(*names, name);
	}
	table_close(rel, NoLock);
	return query;
}

/* Policies choose rows for who reads a table; a delta has all rows. */
static void
check_row_security(Oid stream)
{
	if (check_enable_rls(stream, InvalidOid, true) == RLS_ENABLED)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("stream %s has row security, which a continuous view would not see", weir_relation_name(stream)),
				 errhint("Let the owner of the stream own the view, and give the view policies of its own.")));
}

static bool
replace_walker(Node *node, List **streams)
{
	if (node == NULL)
		return false;
	if (IsA(node, RangeTblEntry))
	{
		RangeTblEntry *rte = (RangeTblEntry *) node;

		if (rte->rtekind == RTE_RELATION && rte->inFromCl &&
			rte->relkind == RELKIND_RELATION && weir_stream_get(rte->relid))
		{
			List	   *names;
			Query	   *subquery = delta_query(rte, &names);

			check_row_security(rte->relid);
			*streams = list_append_unique_oid(*streams, rte->relid);
			name_columns(rte, names);
			weir_compat_rte_to_subquery(rte, subquery, NULL);
		}
		return false;
	}
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, replace_walker, streams,
								 QTW_EXAMINE_RTES_AFTER);
	return expression_tree_walker(node, replace_walker, streams);
}

/* weir_rewrite_streams turns every stream of an expanded query into its delta, in place; returns their OIDs, ascending. */
List *
weir_rewrite_streams(Query *query)
{
	List	   *streams = NIL;

	(void) replace_walker((Node *) query, &streams);
	list_sort(streams, list_oid_cmp);
	return streams;
}

/* The ephemeral relation behind a sub-select that does nothing but read a delta's columns; NULL: it computes something. */
static RangeTblEntry *
plain_delta(Query *query)
{
	RangeTblEntry *delta = query->rtable ? llast_node(RangeTblEntry, query->rtable) : NULL;
	ListCell   *lc;

	if (delta == NULL || delta->rtekind != RTE_NAMEDTUPLESTORE || query->jointree->quals)
		return NULL;
	foreach(lc, query->targetList)
	{
		Node	   *expr = (Node *) lfirst_node(TargetEntry, lc)->expr;

		if (!IsA(expr, Var) && !IsA(expr, Const))
			return NULL;
	}
	return delta;
}

static void
make_readable(RangeTblEntry *rte, RangeTblEntry *delta)
{
	rte->rtekind = RTE_CTE;
	rte->ctename = delta->enrname;
	rte->ctelevelsup = 0;
	rte->subquery = NULL;
}

static bool
readable_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, RangeTblEntry))
	{
		RangeTblEntry *rte = (RangeTblEntry *) node;

		if (rte->rtekind == RTE_NAMEDTUPLESTORE)
			make_readable(rte, rte);
		else if (rte->rtekind == RTE_SUBQUERY && plain_delta(rte->subquery))
			make_readable(rte, plain_delta(rte->subquery));
		return false;
	}
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, readable_walker, context,
								 QTW_EXAMINE_RTES_BEFORE);
	return expression_tree_walker(node, readable_walker, context);
}

/*
 * weir_rewrite_readable returns a copy that pg_get_querydef can print: it knows
 * no ephemeral relations, and people need not see the sub-select around them.
 */
Query *
weir_rewrite_readable(Query *query)
{
	query = copyObject(query);
	(void) readable_walker((Node *) query, NULL);
	return query;
}

static bool
estimate_walker(Node *node, double *rows)
{
	if (node == NULL)
		return false;
	if (IsA(node, RangeTblEntry))
	{
		RangeTblEntry *rte = (RangeTblEntry *) node;

		if (rte->rtekind == RTE_NAMEDTUPLESTORE)
			rte->enrtuples = *rows;
		return false;
	}
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, estimate_walker, rows,
								 QTW_EXAMINE_RTES_BEFORE);
	return expression_tree_walker(node, estimate_walker, rows);
}

/* weir_rewrite_estimate tells the planner how many rows a delta has, in place. */
void
weir_rewrite_estimate(Query *query, double rows)
{
	(void) estimate_walker((Node *) query, &rows);
}
