/*
 * session.c
 *	  session() in FROM: what such a query must look like, and its two halves.
 *
 * rewrite ⇒ session ⇒ shape. A window of tumble() follows from the row alone; a session depends on
 * the other rows of its key. So the query is cut in two where its FROM and WHERE end:
 *	  source: SELECT keys, columns that aggregates read, hidden columns FROM ... WHERE ... ORDER BY keys, arrival
 *	  query:  SELECT ... FROM weir_session_rows GROUP BY keys, window_start HAVING ...
 * In between session_run.c gives each row of the source its session. From there on the second half
 * is a grouped query over a delta like any other: shape.c makes states and results of it.
 *
 * A session's key is (group keys, window_start). window_end grows; it is no key but max() of what
 * the rows were given, whether GROUP BY names it or not.
 *
 * Sessions merge, so what is computed of them must merge, in any order. Aggregates that do not
 * are computed anew for touched sessions, from what the view keeps of their rows (session_rows.c).
 */
#include "postgres.h"

#include "catalog/catalog.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "optimizer/tlist.h"
#include "parser/parse_clause.h"
#include "parser/parse_oper.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteManip.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"
#include "view/parts.h"
#include "view/session.h"
#include "view/window.h"

PG_FUNCTION_INFO_V1(weir_session);

/* session(ts, gap), called by hand */
Datum
weir_session(PG_FUNCTION_ARGS)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("session() works in continuous views only"),
			 errdetail("Which session a row is in depends on the rows around it."),
			 errhint("CREATE MATERIALIZED VIEW ... WITH (weir.continuous) AS SELECT ... FROM stream, session(ts, gap) GROUP BY window_start, ...")));
}

static bool
is_session(RangeTblEntry *rte)
{
	char	   *name = weir_own_function(rte);

	return name && strcmp(name, "session") == 0;
}

/* --- what the query must look like ------------------------------------------------- */

static bool
session_walker(Node *node, int *found)
{
	if (node == NULL)
		return false;
	if (IsA(node, RangeTblEntry))
	{
		*found += is_session((RangeTblEntry *) node) ? 1 : 0;
		return false;
	}
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, session_walker, found, QTW_EXAMINE_RTES_BEFORE);
	return expression_tree_walker(node, session_walker, found);
}

/* Number of the FROM item of a level that calls session(); 0: none. */
static int
session_item(Query *query)
{
	int			i = 0;
	ListCell   *lc;

	foreach(lc, query->rtable)
	{
		i++;
		if (is_session(lfirst(lc)))
			return i;
	}
	return 0;
}

/* The n-th argument of a call, which may be named. */
static Node *
argument(FuncExpr *call, int n)
{
	int			i = 0;
	ListCell   *lc;

	foreach(lc, call->args)
	{
		NamedArgExpr *named = lfirst(lc);

		if (IsA(named, NamedArgExpr) ? named->argnumber == n : i == n)
			return IsA(named, NamedArgExpr) ? (Node *) named->arg : (Node *) named;
		i++;
	}
	elog(ERROR, "session() has no argument %d", n);
}

/* weir_session_level: does a level's FROM call session()? */
bool
weir_session_level(Query *query)
{
	return session_item(query) != 0;
}

static FuncExpr *
session_call(Query *query, int rtindex)
{
	return weir_window_call(rt_fetch(rtindex, query->rtable));
}

typedef struct SessionUse
{
	int			rtindex;
	int			depth;
	bool		in_aggregate;	/* look inside of aggregates only */
	bool		inside;
} SessionUse;

static bool
use_walker(Node *node, SessionUse *use)
{
	if (node == NULL)
		return false;
	if (IsA(node, Var))
		return ((Var *) node)->varno == use->rtindex && ((Var *) node)->varlevelsup == use->depth &&
			(use->inside || !use->in_aggregate);
	if (IsA(node, Aggref) && ((Aggref *) node)->agglevelsup == use->depth)
	{
		bool		save = use->inside;
		bool		result;

		use->inside = true;
		result = expression_tree_walker(node, use_walker, use);
		use->inside = save;
		return result;
	}
	if (IsA(node, Query))
	{
		bool		result;

		use->depth++;
		result = query_tree_walker((Query *) node, use_walker, use, 0);
		use->depth--;
		return result;
	}
	return expression_tree_walker(node, use_walker, use);
}

static bool
uses_session(Node *node, int rtindex, bool in_aggregate)
{
	SessionUse	use = {rtindex, 0, in_aggregate, false};

	return use_walker(node, &use);
}

static void
check_from(Query *query, int rtindex, const char *name)
{
	int			i = 0;
	ListCell   *lc;

	if (rt_fetch(rtindex, query->rtable)->funcordinality)
		weir_refuse(name, "session() WITH ORDINALITY is not supported.", "Leave out WITH ORDINALITY.");
	if (!weir_joined_inner((Node *) query->jointree, rtindex))
		weir_refuse(name, "session() stands in an outer join.", "Put it beside the stream: FROM stream, session(ts, gap).");
	foreach(lc, query->rtable)
	{
		i++;
		if (i != rtindex && (is_session(lfirst(lc)) || weir_is_window(lfirst(lc))))
			weir_refuse(name, "session() stands beside another window function.", "Make one continuous view for each kind of window.");
	}
	if (uses_session((Node *) query->jointree, rtindex, false))
		weir_refuse(name, "WHERE or JOIN goes by window_start or window_end of session(): they change while the session goes on.",
					"Use HAVING: it is asked of the session as it is.");
	foreach(lc, query->rtable)
	{
		RangeTblEntry *rte = lfirst(lc);

		if ((rte->rtekind == RTE_SUBQUERY || rte->rtekind == RTE_FUNCTION) && rte->lateral &&
			uses_session(rte->rtekind == RTE_SUBQUERY ? (Node *) rte->subquery : (Node *) rte->functions, rtindex, false))
			weir_refuse(name, "FROM goes by window_start or window_end of session(): they change while the session goes on.", NULL);
	}
}

static void
check_gap(FuncExpr *call, const char *name)
{
	Const	   *gap = (Const *) eval_const_expressions(NULL, argument(call, 1));

	if (!IsA(gap, Const) || gap->constisnull)
		weir_refuse(name, "The gap of session() is not a constant.", "Write it as an interval, for example session(ts, '30 minutes').");
	if (DatumGetIntervalP(gap->constvalue)->month != 0)
		weir_refuse(name, "The gap of session() has months, which are not equally long.", "Use days, hours or less.");
	(void) weir_window_length(DatumGetIntervalP(gap->constvalue));
}

/* GROUP BY must name window_start; window_end is no key, and no other key may depend on them. */
static void
check_groups(Query *query, int rtindex, const char *name)
{
	List	   *groups = NIL;
	bool		found = false;
	ListCell   *lc;

	foreach(lc, query->groupClause)
	{
		Var		   *key = (Var *) get_sortgroupclause_expr(lfirst(lc), query->targetList);

		if (IsA(key, Var) && key->varno == rtindex && key->varlevelsup == 0)
		{
			found |= key->varattno == SESSION_COL_START;
			if (key->varattno == SESSION_COL_START)
				groups = lappend(groups, lfirst(lc));
			continue;
		}
		if (uses_session((Node *) key, rtindex, false))
			weir_refuse(name, "An expression of GROUP BY is computed from window_start or window_end of session().",
						"Group by window_start itself, and compute where the view is read.");
		groups = lappend(groups, lfirst(lc));
	}
	if (!found)
		weir_refuse(name, "session() needs GROUP BY window_start: a session is a group of rows.",
					"Add window_start (and window_end) to GROUP BY and to the select list.");
	query->groupClause = groups;
}

/*
 * weir_session_prepare tells whether an expanded definition calls session(). If so it checks, raises 0A000,
 * and takes window_end out of GROUP BY, in place.
 */
bool
weir_session_prepare(Query *query, const char *name)
{
	int			found = 0;
	int			rtindex;

	(void) session_walker((Node *) query, &found);
	if (found == 0)
		return false;
	rtindex = session_item(query);
	if (rtindex == 0 || query->setOperations)
		weir_refuse(name, "session() stands in a sub-select, a common table expression, an arm of UNION ALL or an ordinary view.",
					"Put it into FROM of the outermost SELECT, beside what it windows.");
	if (query->groupingSets)
		weir_refuse(name, "GROUPING SETS, ROLLUP and CUBE over sessions are not supported.",
					"Create one continuous view for each set of columns.");
	check_from(query, rtindex, name);
	check_gap(session_call(query, rtindex), name);
	check_groups(query, rtindex, name);
	if (uses_session((Node *) query->targetList, rtindex, true) || uses_session(query->havingQual, rtindex, true))
		weir_refuse(name, "An aggregate reads window_start or window_end of session(): they change while the session goes on.",
					"Compute with them outside of the aggregate.");
	return true;
}

/* weir_session_refuse_tables refuses session() in a query over views that change. */
void
weir_session_refuse_tables(Query *query, const char *name)
{
	int			found = 0;

	(void) session_walker((Node *) query, &found);
	if (found > 0)
		weir_refuse(name, "session() over a view that changes: its sessions would have to come apart again when rows go.",
					"Window a stream, or a view with weir.emit = 'final'.");
}

/* weir_session_refuse_merging is for a query over sessions that could be kept by computing keys anew only. */
void
weir_session_refuse_merging(const char *name)
{
	weir_refuse(name, "Sessions merge, and DISTINCT, OVER or a nested GROUP BY of the query does not.",
				"Put it where the view is read, or into a second continuous view over this one.");
}

/* --- cutting it in two ------------------------------------------------------------------ */

typedef struct Split
{
	ViewShape  *shape;
	int			rtindex;		/* of session() */
	List	   *keys;			/* of Expr: group keys but window_start */
	List	   *columns;		/* of Expr: keys, then columns that the second half reads */
	Oid			time_type;
	int			depth;
} Split;

static Var *
row_var(Split *split, int column, Expr *expr)
{
	return makeVar(1, column, exprType((Node *) expr), exprTypmod((Node *) expr), exprCollation((Node *) expr), split->depth);
}

static Expr *
at_depth(Split *split, Expr *expr)
{
	if (split->depth == 0)
		return expr;
	expr = copyObject(expr);
	IncrementVarSublevelsUp((Node *) expr, split->depth, 0);
	return expr;
}

/* The place of an expression among the source's columns, of n at most; -1: it is not there. */
static int
find_column(Split *split, List *columns, Expr *expr)
{
	int			i = 0;
	ListCell   *lc;

	foreach(lc, columns)
	{
		if (equal(at_depth(split, lfirst(lc)), expr))
			return i;
		i++;
	}
	return -1;
}

static Node *
session_column(Split *split, AttrNumber attno)
{
	Expr	   *var = (Expr *) makeVar(1, attno, split->time_type, -1, InvalidOid, 0);

	if (attno == SESSION_COL_END)
		var = weir_final_max(var);
	if (split->depth > 0)
		IncrementVarSublevelsUp((Node *) var, split->depth, 0);
	return (Node *) var;
}

/* An expression over FROM ⇒ the same over weir_session_rows. */
static Node *
split_mutator(Node *node, Split *split)
{
	int			column;

	if (node == NULL)
		return NULL;
	column = find_column(split, split->keys, (Expr *) node);
	if (column >= 0)
		return (Node *) row_var(split, SESSION_COL_END + 1 + column, (Expr *) node);
	if (IsA(node, Var) && ((Var *) node)->varlevelsup == split->depth)
	{
		Var		   *var = (Var *) node;

		if (var->varno == split->rtindex)
			return session_column(split, var->varattno);
		column = find_column(split, split->columns, (Expr *) node);
		if (column < 0)
		{
			var = copyObject(var);
			var->varlevelsup = 0;
			column = list_length(split->columns);
			split->columns = lappend(split->columns, var);
		}
		return (Node *) row_var(split, SESSION_COL_END + 1 + column, (Expr *) node);
	}
	if (IsA(node, Query))
	{
		Query	   *query;

		split->depth++;
		query = query_tree_mutator((Query *) node, split_mutator, split, 0);
		split->depth--;
		return (Node *) query;
	}
	return expression_tree_mutator(node, split_mutator, split);
}

/* Takes session() out of a FROM tree of inner joins; NULL: nothing is left of the node. */
static Node *
without_item(Node *node, int rtindex)
{
	ListCell   *lc;
	JoinExpr   *join;

	if (IsA(node, RangeTblRef))
		return ((RangeTblRef *) node)->rtindex == rtindex ? NULL : node;
	if (IsA(node, FromExpr))
	{
		FromExpr   *from = (FromExpr *) node;
		List	   *items = NIL;

		foreach(lc, from->fromlist)
		{
			Node	   *item = without_item(lfirst(lc), rtindex);

			if (item)
				items = lappend(items, item);
		}
		from->fromlist = items;
		return node;
	}
	join = castNode(JoinExpr, node);
	join->larg = without_item(join->larg, rtindex);
	join->rarg = without_item(join->rarg, rtindex);
	if (join->larg && join->rarg)
		return node;
	return (Node *) makeFromExpr(list_make1(join->larg ? join->larg : join->rarg), join->quals);
}

static AttrNumber
add_target(Query *source, Expr *expr, const char *name)
{
	source->targetList = lappend(source->targetList,
								 makeTargetEntry(expr, list_length(source->targetList) + 1, pstrdup(name), false));
	return list_length(source->targetList);
}

/*
 * Rows of a key must stand together, in whatever order the keys come: text is sorted by its hash
 * first, which is several times faster than by a language's rules.
 */
static void
sort_by_key(Query *source, TargetEntry *key)
{
	TypeCacheEntry *type = lookup_type_cache(exprType((Node *) key->expr), TYPECACHE_HASH_EXTENDED_PROC);
	Oid			collation = exprCollation((Node *) key->expr);

	if (OidIsValid(collation) && OidIsValid(type->hash_extended_proc))
	{
		Const	   *seed = makeConst(INT8OID, -1, InvalidOid, sizeof(int64), Int64GetDatum(0), false, FLOAT8PASSBYVAL);
		FuncExpr   *hash = makeFuncExpr(type->hash_extended_proc, INT8OID, list_make2(copyObject(key->expr), seed),
										InvalidOid, collation, COERCE_EXPLICIT_CALL);
		TargetEntry *tle = makeTargetEntry((Expr *) hash, list_length(source->targetList) + 1, pstrdup("weir_hash"), true);

		source->targetList = lappend(source->targetList, tle);
		source->sortClause = lappend(source->sortClause, weir_sort_clause(source, tle));
	}
	source->sortClause = lappend(source->sortClause, weir_sort_clause(source, key));
}

/* Whole rows of a stream have hidden columns by now. */
static bool
whole_row_walker(Node *node, Split *split)
{
	Var		   *var = (Var *) node;
	RangeTblEntry *rte;

	if (node == NULL)
		return false;
	if (!IsA(node, Var) || var->varattno != InvalidAttrNumber || var->varlevelsup != 0)
		return expression_tree_walker(node, whole_row_walker, split);
	rte = rt_fetch(var->varno, split->shape->query->rtable);
	if (rte->rtekind != RTE_RELATION)
		weir_refuse(split->shape->name, psprintf("The whole row of \"%s\" is used as a value, beside session().", rte->eref->aliasname),
					psprintf("Name the columns: ROW(%s.a, %s.b), or to_jsonb() of a row of them.", rte->eref->aliasname, rte->eref->aliasname));
	return false;
}

/* The first half: which rows make sessions. */
static Query *
make_source(Split *split, SessionShape *session, LateRule *rule)
{
	Query	   *query = split->shape->query;
	Query	   *source = copyObject(query);
	SessionRule *columns = &session->rule;
	Node	   *time = argument(session_call(query, split->rtindex), 0);
	int			ncolumns = 0;
	ListCell   *lc;

	source->targetList = NIL;
	source->groupClause = NIL;
	source->havingQual = NULL;
	source->hasAggs = false;
	source->constraintDeps = NIL;
	source->jointree = (FromExpr *) without_item((Node *) source->jointree, split->rtindex);
	(void) add_target(source, (Expr *) makeNullConst(split->time_type, -1, InvalidOid), "window_start");
	(void) add_target(source, (Expr *) makeNullConst(split->time_type, -1, InvalidOid), "window_end");
	foreach(lc, split->columns)
		(void) add_target(source, copyObject(lfirst(lc)), psprintf("c%d", ++ncolumns));
	columns->time = add_target(source, copyObject((Expr *) time), "weir_time");
	columns->partition = add_target(source, weir_late_expose(source, WEIR_COL_PARTITION), WEIR_COL_PARTITION);
	columns->offset = add_target(source, weir_late_expose(source, WEIR_COL_OFFSET), WEIR_COL_OFFSET);
	columns->event_time = add_target(source, weir_late_expose(source, WEIR_COL_EVENT_TIME), WEIR_COL_EVENT_TIME);
	if (rule->has_lateness)
		columns->deadline = add_target(source, weir_late_deadline(source, rule, false), "weir_deadline");
	if (rule->keep_attno != 0)
		columns->expired = add_target(source, weir_late_deadline(source, rule, true), "weir_expired");
	columns->judged = rule->has_lateness || rule->keep_attno != 0;
	if (columns->judged && weir_late_wanted(split->shape->streams))
		columns->record = add_target(source, weir_late_record(source), "weir_record");

	weir_add_where(source, weir_null_test(copyObject((Expr *) time), IS_NOT_NULL));

	source->sortClause = NIL;
	for (int i = 0; i < list_length(split->keys); i++)
		sort_by_key(source, list_nth(source->targetList, SESSION_COL_END + i));
	if (columns->judged)
	{
		source->sortClause = lappend(source->sortClause, weir_sort_clause(source, list_nth(source->targetList, columns->partition - 1)));
		source->sortClause = lappend(source->sortClause, weir_sort_clause(source, list_nth(source->targetList, columns->offset - 1)));
	}
	else
		source->sortClause = lappend(source->sortClause, weir_sort_clause(source, list_nth(source->targetList, columns->time - 1)));
	return source;
}

/* The second half: what is made of rows that have their sessions. */
static Query *
make_query(Split *split, List *targets, Node *having, Query *source)
{
	Query	   *old = split->shape->query;
	Query	   *query = weir_session_scan(WEIR_SESSION_ROWS, source->targetList);
	ListCell   *lc;

	query->targetList = targets;
	query->havingQual = having;
	query->groupClause = copyObject(old->groupClause);
	query->groupDistinct = old->groupDistinct;
	query->hasAggs = true;
	query->hasSubLinks = old->hasSubLinks;
	query->hasRecursive = old->hasRecursive;
	foreach(lc, old->cteList)
	{
		if (!weir_query_has_delta(lfirst_node(CommonTableExpr, lc)->ctequery))
			query->cteList = lappend(query->cteList, copyObject(lfirst(lc)));
	}
	return query;
}

static bool
is_group_key(Query *query, TargetEntry *tle)
{
	return tle->ressortgroupref != 0 && get_sortgroupref_clause_noerr(tle->ressortgroupref, query->groupClause) != NULL;
}

static void
note_shown(SessionShape *session, Split *split, List *targets)
{
	int			i = 0;
	ListCell   *lc;

	session->shown = palloc0(sizeof(AttrNumber) * list_length(targets));
	foreach(lc, targets)
	{
		Var		   *var = (Var *) strip_implicit_coercions((Node *) lfirst_node(TargetEntry, lc)->expr);

		if (IsA(var, Var) && var->varno == split->rtindex && var->varlevelsup == 0)
			session->shown[i] = var->varattno;
		i++;
	}
}

/*
 * weir_session_split cuts shape->query, which is over deltas by now, in place. Raises 0A000 for a
 * final view over another time than the stream's.
 */
void
weir_session_split(ViewShape *shape, LateRule *rule)
{
	SessionShape *session = palloc0(sizeof(SessionShape));
	Query	   *query = shape->query;
	Split		split = {shape, session_item(query)};
	FuncExpr   *call = session_call(query, split.rtindex);
	Node	   *time = argument(call, 0);
	Const	   *gap = (Const *) eval_const_expressions(NULL, argument(call, 1));
	List	   *targets;
	Node	   *having;
	ListCell   *lc;

	session->time_type = split.time_type = exprType(time);
	session->rule.gap = weir_window_length(DatumGetIntervalP(gap->constvalue));
	session->rule.finals = rule->final;
	session->event_time = weir_is_event_time(query, time);
	if (rule->final && !session->event_time)
		weir_final_refuse_time(shape);
	note_shown(session, &split, query->targetList);
	if (rule->keep && !rule->final)
		rule->keep_attno = 2;
	weir_late_note(shape->streams, rule);

	foreach(lc, list_concat_copy(query->targetList, shape->hidden_keys))
	{
		TargetEntry *tle = lfirst(lc);

		if (is_group_key(query, tle) && !uses_session((Node *) tle->expr, split.rtindex, false) &&
			find_column(&split, split.keys, tle->expr) < 0)
			split.keys = lappend(split.keys, copyObject(tle->expr));
	}
	split.columns = list_copy(split.keys);
	targets = (List *) split_mutator((Node *) query->targetList, &split);
	having = split_mutator(query->havingQual, &split);
	shape->hidden_keys = (List *) split_mutator((Node *) shape->hidden_keys, &split);
	shape->session = session;
	(void) whole_row_walker((Node *) split.columns, &split);
	session->source = make_source(&split, session, rule);
	shape->query = make_query(&split, targets, having, session->source);
	if (session->rule.judged)
		shape->late = weir_session_late_query(shape);
}

/* weir_session_origin: as weir_trace_column, of a column of a view over sessions; false: it is no window_start and no window_end. */
bool
weir_session_origin(ViewShape *shape, TargetEntry *tle, ColumnOrigin *origin)
{
	origin->window = shape->session->shown[tle->resno - 1];
	origin->event_time = shape->session->event_time;
	return origin->window != 0;
}

/* weir_session_finish notes where keys stand in the state table, once shape->partial is made. */
void
weir_session_finish(ViewShape *shape)
{
	SessionRule *rule = &shape->session->rule;
	int			i = 0;
	ListCell   *lc;

	foreach(lc, shape->keys)
	{
		Var		   *var = castNode(Var, lfirst_node(TargetEntry, lc)->expr);

		i++;
		if (var->varattno == SESSION_COL_START)
			rule->state_start = i;
		else
		{
			rule->source_keys[rule->nkeys] = var->varattno;
			rule->state_keys[rule->nkeys++] = i;
		}
	}
	rule->state_end = shape->end_column;
	if (shape->session->by_rows)
		shape->why = psprintf("%s; %s does not merge: it is computed from the session's rows, which the view keeps", shape->why, shape->session->why);
}
