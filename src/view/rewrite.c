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
#include "optimizer/optimizer.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteHandler.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/rel.h"
#include "utils/rls.h"
#include "view/shape.h"
#include "view/upstream.h"

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

/* Columns that were dropped from the table have their number still: NULLs that nobody reads. */
static void
leave_gaps(Query *query, TupleDesc table)
{
	for (int i = 0; i < table->natts; i++)
	{
		ListCell   *lc;

		if (!TupleDescAttr(table, i)->attisdropped)
			continue;
		foreach(lc, query->targetList)
		{
			if (lfirst_node(TargetEntry, lc)->resno > i)
				lfirst_node(TargetEntry, lc)->resno++;
		}
		query->targetList = list_insert_nth(query->targetList, i,
											makeTargetEntry((Expr *) makeNullConst(INT4OID, -1, InvalidOid),
															i + 1, psprintf("dropped_%d", i + 1), false));
	}
}

/* Puts an ordinary view's query in the place of the view, or of a table with the same columns. */
static void
expand_view(RangeTblEntry *rte, Relation rel, Relation table)
{
	Query	   *subquery = copyObject(get_view_query(rel));
	List	   *names = NIL;
	ListCell   *lc;
	int			i = 0;

	leave_gaps(subquery, RelationGetDescr(table));
	foreach(lc, subquery->targetList)
	{
		TargetEntry *tle = lfirst(lc);

		if (tle->resjunk)
			continue;
		tle->resname = pstrdup(NameStr(TupleDescAttr(RelationGetDescr(table), i)->attname));
		names = lappend(names, tle->resname);
		i++;
	}
	name_columns(rte, names);
	weir_compat_flatten_groups(subquery);
	weir_compat_rte_to_subquery(rte, subquery, subquery->rtable ? linitial(subquery->rtable) : NULL);
	rte->security_barrier = RelationIsSecurityView(rel);
}

/* A continuous view in FROM of what is maintained, or of a view that may be expanded there; NULL: it is another item. */
static View *
continuous_view(RangeTblEntry *rte)
{
	if (rte->rtekind != RTE_RELATION || !weir_view_relkind(rte->relkind) || !rte->inFromCl)
		return NULL;
	return weir_view_get(rte->relid);
}

static bool
reads_view_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, RangeTblEntry))
	{
		RangeTblEntry *rte = (RangeTblEntry *) node;
		Relation	rel;
		bool		found;

		if (rte->rtekind != RTE_RELATION || rte->relkind != RELKIND_VIEW || !rte->inFromCl)
			return continuous_view(rte) != NULL;
		check_stack_depth();
		rel = table_open(rte->relid, AccessShareLock);
		found = reads_view_walker((Node *) get_view_query(rel), NULL);
		table_close(rel, NoLock);
		return found;
	}
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, reads_view_walker, context, QTW_EXAMINE_RTES_BEFORE);
	return expression_tree_walker(node, reads_view_walker, context);
}

/* An append view is what its query gives. Its rights are those of its table; its definition is an ordinary view beside it. */
static void
expand_append(RangeTblEntry *rte, View *view)
{
	Relation	table = table_open(rte->relid, AccessShareLock);
	Relation	query = table_open(view->query_relid, AccessShareLock);
	RangeTblEntry *old;

	int			nlive = 0;

	for (int i = 0; i < RelationGetNumberOfAttributes(table); i++)
		nlive += !TupleDescAttr(RelationGetDescr(table), i)->attisdropped;
	if (nlive != RelationGetNumberOfAttributes(query))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("continuous view %s cannot be read by another one", view->name),
				 errdetail("Columns were added to its table.")));
	if (nlive != RelationGetNumberOfAttributes(table) && get_view_query(query)->setOperations)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("continuous view %s cannot be read by another one", view->name),
				 errdetail("It is a UNION ALL, and columns of it were dropped."),
				 errhint("Drop the view and create it again.")));
	if (rte->tablesample)
		weir_refuse(view->name, "TABLESAMPLE over a continuous view is not supported.",
					"Filter in WHERE instead, for example by a hash of a column.");
	expand_view(rte, query, table);
	old = rte->subquery->rtable ? linitial(rte->subquery->rtable) : NULL;
	weir_compat_permission_rte_names(rte, old, RelationGetRelid(table));
	table_close(query, NoLock);
	table_close(table, NoLock);
}

static void
expand_rte(RangeTblEntry *rte)
{
	View	   *view = continuous_view(rte);
	Relation	rel;

	if (view && weir_view_is_inlined(view))
		expand_append(rte, view);
	if (rte->rtekind != RTE_RELATION || rte->relkind != RELKIND_VIEW || !rte->inFromCl)
		return;
	rel = table_open(rte->relid, AccessShareLock);
	if (weir_query_has_stream((Node *) get_view_query(rel)) ||
		reads_view_walker((Node *) get_view_query(rel), NULL))
		expand_view(rte, rel, rel);
	table_close(rel, NoLock);
}

/*
 * order_arguments puts the arguments of a window function that were given by name in their
 * places, so that all that follows finds the time first. No function of these has defaults.
 */
static void
order_arguments(RangeTblEntry *rte)
{
	FuncExpr   *call = weir_window_call(rte);
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

static bool
same_settings(View *view)
{
	for (int i = 1; i < lengthof(view->settings); i++)	/* search_path does not change what is computed */
	{
		if (view->settings[i] && strcmp(view->settings[i], GetConfigOption(weir_view_setting_names[i], false, false)) != 0)
			return false;
	}
	return true;
}

static bool
settings_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, RangeTblEntry))
	{
		RangeTblEntry *rte = (RangeTblEntry *) node;
		View	   *view = continuous_view(rte);
		Query	   *query = NULL;

		if (view && weir_view_is_inlined(view))
			query = weir_shape_definition(view->query_relid);
		else if (rte->rtekind == RTE_RELATION && rte->relkind == RELKIND_VIEW && rte->inFromCl)
			query = weir_shape_definition(rte->relid);
		if (query && view && contain_mutable_functions((Node *) query) && !same_settings(view))
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("continuous view %s was made under other settings", view->name),
					 errdetail("Its expressions depend on TimeZone, DateStyle or IntervalStyle, and it stands for its query here."),
					 errhint("SET TimeZone = %s; or as it may be.", quote_literal_cstr(view->settings[1]))));
		return query && settings_walker((Node *) query, context);
	}
	if (IsA(node, Query))
	{
		check_stack_depth();
		return query_tree_walker((Query *) node, settings_walker, context, QTW_EXAMINE_RTES_BEFORE);
	}
	return expression_tree_walker(node, settings_walker, context);
}

/*
 * weir_rewrite_check_settings is for CREATE: an append view that the query reads is computed again, and must
 * give what it gave.
 */
void
weir_rewrite_check_settings(Query *query)
{
	(void) settings_walker((Node *) query, NULL);
}

/*
 * weir_rewrite_expand returns a copy in which ordinary views that read a stream or a continuous view, and append
 * views, are sub-selects, and window functions have their arguments in order.
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

typedef struct Replace
{
	bool		views;			/* continuous views; else streams */
	List	   *found;			/* of Oid */
} Replace;

static bool
is_to_replace(RangeTblEntry *rte, Replace *replace)
{
	if (rte->rtekind != RTE_RELATION || !rte->inFromCl || !weir_view_relkind(rte->relkind))
		return false;
	return replace->views ? weir_view_get(rte->relid) != NULL : weir_stream_get(rte->relid) != NULL;
}

static bool
replace_walker(Node *node, Replace *replace)
{
	if (node == NULL)
		return false;
	if (IsA(node, RangeTblEntry))
	{
		RangeTblEntry *rte = (RangeTblEntry *) node;

		if (is_to_replace(rte, replace))
		{
			List	   *names;
			Query	   *subquery;

			if (rte->tablesample)
				weir_refuse(rte->eref->aliasname, "TABLESAMPLE over a continuous view is not supported.",
							"Filter in WHERE instead, for example by a hash of a column.");
			subquery = delta_query(rte, &names);
			check_row_security(rte->relid);
			replace->found = list_append_unique_oid(replace->found, rte->relid);
			name_columns(rte, names);
			weir_compat_rte_to_subquery(rte, subquery, NULL);
		}
		return false;
	}
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, replace_walker, replace,
								 QTW_EXAMINE_RTES_AFTER);
	return expression_tree_walker(node, replace_walker, replace);
}

/* weir_rewrite_streams turns every stream of an expanded query into its delta, in place; returns their OIDs, ascending. */
List *
weir_rewrite_streams(Query *query)
{
	Replace		replace = {false, NIL};

	(void) replace_walker((Node *) query, &replace);
	list_sort(replace.found, list_oid_cmp);
	return replace.found;
}

/* weir_rewrite_views does the same with continuous views. Beside a stream they are tables; so only where there is none. */
List *
weir_rewrite_views(Query *query)
{
	Replace		replace = {true, NIL};

	(void) replace_walker((Node *) query, &replace);
	list_sort(replace.found, list_oid_cmp);
	return replace.found;
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
