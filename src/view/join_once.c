/*
 * join_once.c
 *	  Outer joins of streams with weir.unmatched = 'at once': a row without a match comes in its batch, and goes
 *	  when a match comes.
 *
 * join (filter) ⇒ join_once ⇒ statement, join_delta. Nothing closes. A batch may change only
 * rows of the result that hold, or could now hold, one of its rows. Each row of the result has a row of one item of the
 * join for certain, the spine: the first of a chain of LEFT JOINs, the preserved side of two streams; of a FULL JOIN
 * the left one, and the right one where that has no row. So a batch touches of the spine
 *	  - its own rows;
 *	  - those old ones that some row of the batch meets: the spine's old rows joined with the batch, up to
 *	    the join that brings the batch's item in (what stands behind takes nothing away there).
 * Over these rows alone the join is run twice, over the rows with the batch and without it. What is only in the first
 * is inserted, what is only in the second is deleted from the view: bags of whole rows of the result,
 * told apart by their text and numbered among equals, as in recompute_statement.c. Above what groups,
 * both give the keys that are touched.
 *
 * Rows to delete are found by a hash of all their columns, for which the view has an index.
 *
 * Old rows are those that weir.applied() says (join_applied.c). They are needed twice as far back as
 * in an inner join: what the batch meets, and what that has met before.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "catalog/catalog.h"
#include "compat.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "parser/parsetree.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "utils/typcache.h"
#include "view/join.h"
#include "view/recompute.h"

/* --- the form of the join -------------------------------------------------------- */

/* Range table indexes of the items with streams below a FROM node. */
static List *
items_of(Query *join, Node *from)
{
	List	   *result = NIL;
	ListCell   *lc;

	check_stack_depth();
	if (IsA(from, RangeTblRef))
	{
		int			item = ((RangeTblRef *) from)->rtindex;

		return list_member_int(weir_join_items(join), item) ? list_make1_int(item) : NIL;
	}
	if (IsA(from, JoinExpr))
		return list_concat(items_of(join, ((JoinExpr *) from)->larg), items_of(join, ((JoinExpr *) from)->rarg));
	foreach(lc, ((FromExpr *) from)->fromlist)
		result = list_concat(result, items_of(join, lfirst(lc)));
	return result;
}

/* The FROM node that joins the streams, without what stands beside. */
static Node *
core_of(Query *join)
{
	Node	   *from = (Node *) join->jointree;

	for (;;)
	{
		Node	   *next = NULL;
		ListCell   *lc;

		if (IsA(from, FromExpr))
		{
			foreach(lc, ((FromExpr *) from)->fromlist)
			{
				if (items_of(join, lfirst(lc)) == NIL)
					continue;
				if (next)
					return NULL;
				next = lfirst(lc);
			}
		}
		else if (IsA(from, JoinExpr) && items_of(join, ((JoinExpr *) from)->rarg) == NIL)
			next = ((JoinExpr *) from)->larg;
		else if (IsA(from, JoinExpr) && items_of(join, ((JoinExpr *) from)->larg) == NIL)
			next = ((JoinExpr *) from)->rarg;
		if (next == NULL)
			return from;
		from = next;
	}
}

/* Streams joined by inner joins only, or one alone. */
static bool
is_inner(Query *join, Node *from)
{
	JoinExpr   *node = (JoinExpr *) from;

	if (list_length(items_of(join, from)) < 2)
		return true;
	return IsA(node, JoinExpr) && node->jointype == JOIN_INNER && is_inner(join, node->larg) && is_inner(join, node->rarg);
}

/* (inner) LEFT JOIN (inner) LEFT JOIN (inner) ... */
static bool
is_chain(Query *join, Node *from)
{
	JoinExpr   *node = (JoinExpr *) from;

	check_stack_depth();
	return is_inner(join, from) ||
		(IsA(node, JoinExpr) && node->jointype == JOIN_LEFT && is_chain(join, node->larg) && is_inner(join, node->rarg));
}

/* The items of which each row of the join has one row: the first one of these that is there counts. NIL: not known. */
static List *
spines_of(Query *join)
{
	Node	   *core = core_of(join);
	List	   *items = core ? items_of(join, core) : NIL;

	if (core == NULL)
		return NIL;
	if (is_chain(join, core))
		return list_make1_int(linitial_int(items));
	if (list_length(items) != 2)
		return NIL;
	return ((JoinExpr *) core)->jointype == JOIN_RIGHT ? list_make1_int(lsecond_int(items)) : items;
}

/* Is a row of this sub-select one row of one stream? */
static bool
one_row_each(Query *query)
{
	int			sources = 0;
	ListCell   *lc;

	check_stack_depth();
	if (query->setOperations || query->hasTargetSRFs)
		return false;
	foreach(lc, query->targetList)
	{
		if (lfirst_node(TargetEntry, lc)->resjunk)
			return false;
	}
	foreach(lc, query->rtable)
	{
		RangeTblEntry *rte = lfirst(lc);

		if (rte->rtekind == RTE_NAMEDTUPLESTORE)
			sources++;
		else if (rte->rtekind == RTE_SUBQUERY && one_row_each(rte->subquery))
			sources++;
		else if (rte->rtekind != RTE_JOIN && (rte->rtekind != RTE_RELATION || rte->inFromCl) &&
				 !(weir_is_window(rte) && weir_is_tumble(rte)))
			return false;
	}
	return sources == 1;
}

static bool
wanted_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, JoinExpr))
	{
		JoinExpr   *join = (JoinExpr *) node;

		if (join->jointype != JOIN_INNER && items_of(context, join->larg) != NIL && items_of(context, join->rarg) != NIL)
			return true;
	}
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, wanted_walker, node, 0);
	return expression_tree_walker(node, wanted_walker, context);
}

/* weir_once_wanted: is there an outer join of streams in a query over streams? */
bool
weir_once_wanted(Query *query)
{
	return wanted_walker((Node *) query, NULL);
}

/* weir_once_check raises 0A000 for outer joins of which rows could not be taken back; its items pass on what tells their rows apart. */
void
weir_once_check(ViewShape *shape, Query *join)
{
	ListCell   *lc;

	if (spines_of(join) == NIL)
		weir_refuse(shape->name, "weir.unmatched = 'at once' takes LEFT JOINs in a chain, and RIGHT and FULL JOIN of two streams.",
					"Write a LEFT JOIN b ON ... LEFT JOIN c ON ..., or leave out weir.unmatched: rows without a match come when none can come any more.");
	if (shape->joins_table)
		weir_refuse(shape->name, "weir.unmatched = 'at once' takes rows back, and they could not be told any more once a table that they were joined with has changed.",
					"Join the table where the view is read, for example in an ordinary view; or leave out weir.unmatched.");
	foreach(lc, weir_join_items(join))
	{
		RangeTblEntry *rte = rt_fetch(lfirst_int(lc), join->rtable);

		if (!one_row_each(rte->subquery))
			weir_refuse(shape->name, psprintf("weir.unmatched = 'at once' needs single streams on the sides of the join, and \"%s\" is a sub-select that does more than filter, compute and tumble().", rte->eref->aliasname),
						"Put what it does beside the join, or leave out weir.unmatched.");
		(void) weir_late_expose_in(rte->subquery, WEIR_COL_PARTITION, rte);
		(void) weir_late_expose_in(rte->subquery, WEIR_COL_OFFSET, rte);
	}
}

/* --- rows of the spine that the batch touches ------------------------------------------ */

static int
column_number(Query *item, const char *name)
{
	ListCell   *lc;

	foreach(lc, item->targetList)
	{
		if (strcmp(lfirst_node(TargetEntry, lc)->resname, name) == 0)
			return lfirst_node(TargetEntry, lc)->resno;
	}
	elog(ERROR, "side of a join has no column \"%s\"", name);
}

/* A join that is left out of FROM leaves nothing in the range table either: the planner counts outer joins there. */
static void
forget_joins(Query *join, Node *from, Node *but)
{
	JoinExpr   *node = (JoinExpr *) from;
	RangeTblEntry *rte;

	if (from == but || !IsA(node, JoinExpr))
		return;
	rte = rt_fetch(node->rtindex, join->rtable);
	rte->rtekind = RTE_RESULT;
	rte->jointype = JOIN_INNER;
	rte->joinaliasvars = rte->joinleftcols = rte->joinrightcols = NIL;
	rte->joinmergedcols = 0;
	forget_joins(join, node->larg, but);
	forget_joins(join, node->rarg, but);
}

/* Leaves of FROM what joins the streams, up to the join that brings an item in; and no WHERE. */
static void
prune(Query *join, int item)
{
	Node	   *from = core_of(join);
	ListCell   *lc;

	while (IsA(from, JoinExpr) && ((JoinExpr *) from)->jointype == JOIN_LEFT &&
		   !list_member_int(items_of(join, ((JoinExpr *) from)->rarg), item))
		from = ((JoinExpr *) from)->larg;
	foreach(lc, join->jointree->fromlist)
		forget_joins(join, lfirst(lc), from);
	join->jointree = makeFromExpr(list_make1(from), NULL);
}

/* SELECT the spine's columns, of its old rows that meet the batch's rows of another item. */
static Query *
touched_arm(Query *join, int spine, int item, Oid view)
{
	Query	   *query = copyObject(join);
	Query	   *part = rt_fetch(spine, query->rtable)->subquery;
	Arm			arm;
	ListCell   *lc;

	weir_arm_begin(&arm, query, item, view);
	arm.by_key = true;
	prune(query, item);
	query->targetList = NIL;
	foreach(lc, part->targetList)
	{
		TargetEntry *tle = lfirst(lc);

		query->targetList = lappend(query->targetList,
									makeTargetEntry((Expr *) weir_outer_column(query, spine, tle), tle->resno, psprintf("c%d", tle->resno), false));
	}
	weir_outer_present(query, spine, true);
	weir_outer_present(query, item, true);
	for (int i = 0; i < arm.bounds->n; i++)
	{
		if (arm.bounds->nodes[i].item != item)
			weir_arm_replace(&arm, i, arm.bounds->nodes[i].item != spine);
	}
	return query;
}

/* The spine's old rows that the batch touches, each once, and (after) its new ones. */
static Query *
touched_spine(Query *join, int spine, bool after, Oid view)
{
	Query	   *part = rt_fetch(spine, join->rtable)->subquery;
	char	   *placeholder = weir_statement_placeholder(part->targetList);
	char	   *columns = weir_text_numbered("", list_length(part->targetList));
	int			partition = column_number(part, WEIR_COL_PARTITION);
	int			offset = column_number(part, WEIR_COL_OFFSET);
	StringInfoData sql;
	Query	   *query;
	bool		first = true;
	ListCell   *lc;

	initStringInfo(&sql);
	appendStringInfo(&sql, "SELECT * FROM (SELECT DISTINCT ON (x.c%d, x.c%d) x.* FROM (", partition, offset);
	foreach(lc, weir_join_items(join))
	{
		if (lfirst_int(lc) == spine)
			continue;
		appendStringInfo(&sql, "%sSELECT * FROM %s AS weir_meets_%d", first ? "" : " UNION ALL ", placeholder, lfirst_int(lc));
		first = false;
	}
	appendStringInfo(&sql, ") AS x(%s)) AS weir_meets", columns);
	if (after)
		appendStringInfo(&sql, " UNION ALL SELECT * FROM %s AS weir_spine", placeholder);
	query = weir_statement_parse(sql.data);
	foreach(lc, weir_join_items(join))
	{
		if (lfirst_int(lc) != spine)
			weir_statement_splice(query, psprintf("weir_meets_%d", lfirst_int(lc)), touched_arm(join, spine, lfirst_int(lc), view));
	}
	if (after)
		weir_statement_splice(query, "weir_spine", copyObject(part));
	return query;
}

/* --- the join before and after the batch -------------------------------------------------- */

static Query *
once_arm(Query *join, List *spines, int n, bool after, Oid view)
{
	Query	   *query = copyObject(join);
	int			spine = list_nth_int(spines, n);
	Arm			arm;

	weir_arm_begin(&arm, query, 0, view);
	arm.by_key = true;
	arm.reach = 2 * arm.bounds->span + 1;	/* 0 would say nothing */
	for (int i = 0; i < n; i++)
		weir_outer_present(query, list_nth_int(spines, i), false);
	weir_outer_present(query, spine, true);
	for (int i = 0; i < arm.bounds->n; i++)
	{
		if (arm.bounds->nodes[i].item != spine)
			weir_arm_replace(&arm, i, after);
	}
	rt_fetch(spine, query->rtable)->subquery = touched_spine(join, spine, after, view);
	return query;
}

/* weir_once_arms returns the rows of a join that a batch may change, with the batch (after) or without it, one query per spine. */
List *
weir_once_arms(Query *join, bool after, Oid view)
{
	List	   *spines = spines_of(join);
	List	   *arms = NIL;

	for (int i = 0; i < list_length(spines); i++)
		arms = lappend(arms, once_arm(join, spines, i, after, view));
	return arms;
}

/* --- the statement ---------------------------------------------------------------------------- */

static bool
can_hash(Oid type)
{
	return OidIsValid(lookup_type_cache(type, TYPECACHE_HASH_EXTENDED_PROC)->hash_extended_proc);
}

/* A hash of a row's columns; names: of the table's columns, or NIL for c1, c2, .... NULL: no column has one. */
static char *
row_hash(ViewShape *shape, const char *prefix, List *names)
{
	StringInfoData buf;
	ListCell   *lc;
	int			i = 0;

	initStringInfo(&buf);
	foreach(lc, shape->query->targetList)
	{
		const char *name = names ? quote_identifier(list_nth(names, i)) : psprintf("c%d", i + 1);

		i++;
		if (can_hash(exprType((Node *) lfirst_node(TargetEntry, lc)->expr)))
			appendStringInfo(&buf, "%s%s%s", buf.len ? ", " : "", prefix, name);
	}
	return buf.len == 0 ? NULL : psprintf("pg_catalog.hash_record_extended(ROW(%s), 0)", buf.data);
}

static char *
statement_text(ViewShape *shape, Oid result)
{
	const char *table = weir_relation_name(result);
	List	   *names = weir_statement_columns(result, shape->query->targetList);
	int			n = list_length(names);
	char	   *columns = weir_text_numbered("x.", n);
	char	   *hash = row_hash(shape, "x.", NIL);
	char	   *placeholder = weir_statement_placeholder(shape->query->targetList);
	const char *same = "o.r OPERATOR(pg_catalog.=) n.r AND o.d OPERATOR(pg_catalog.=) n.d";
	StringInfoData buf;

	initStringInfo(&buf);
	appendStringInfo(&buf, "WITH weir_after AS MATERIALIZED (SELECT y.*, pg_catalog.row_number() OVER (PARTITION BY y.r) AS d\n"
					 " FROM (SELECT x.*, %s AS r FROM %s AS x(%s)) AS y),\n",
					 weir_text_row(columns), placeholder, weir_text_numbered("", n));
	appendStringInfo(&buf, " weir_before AS MATERIALIZED (SELECT y.r, y.h, pg_catalog.row_number() OVER (PARTITION BY y.r) AS d\n"
					 " FROM (SELECT %s AS r, %s AS h FROM %s AS x(%s)) AS y),\n",
					 weir_text_row(columns), hash ? hash : "0", placeholder, weir_text_numbered("", n));
	appendStringInfo(&buf, " weir_taken AS MATERIALIZED (SELECT o.r, o.h, pg_catalog.count(*) AS n FROM weir_before AS o\n"
					 " WHERE NOT EXISTS (SELECT FROM weir_after AS n WHERE %s) GROUP BY o.r, o.h),\n", same);
	appendStringInfo(&buf, " " WEIR_GONE " AS (DELETE FROM %s AS t WHERE t.ctid OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT y.id FROM\n"
					 " (SELECT t.ctid AS id, k.n, pg_catalog.row_number() OVER (PARTITION BY k.r ORDER BY t.ctid) AS d FROM weir_taken AS k, %s AS t\n"
					 " WHERE %s%s%s OPERATOR(pg_catalog.=) k.r) AS y WHERE y.d OPERATOR(pg_catalog.<=) y.n)) RETURNING 1)\n",
					 table, table, hash ? row_hash(shape, "t.", names) : "", hash ? " OPERATOR(pg_catalog.=) k.h AND " : "",
					 weir_text_row(weir_text_names("t.", names)));
	appendStringInfo(&buf, "INSERT INTO %s AS t (%s)\n SELECT %s FROM weir_after AS n WHERE (SELECT pg_catalog.count(*) FROM " WEIR_GONE ") OPERATOR(pg_catalog.>=) 0"
					 " AND NOT EXISTS (SELECT FROM weir_before AS o WHERE %s)",
					 table, weir_text_names("", names), weir_text_numbered("n.", n), same);
	return buf.data;
}

typedef struct Fill
{
	Query	   *parts[2];		/* after, before */
	int			n;
} Fill;

/* The statement has two placeholders x, in this order. */
static bool
fill_walker(Node *node, Fill *fill)
{
	if (node == NULL)
		return false;
	if (IsA(node, RangeTblEntry))
	{
		RangeTblEntry *rte = (RangeTblEntry *) node;

		if (rte->rtekind == RTE_SUBQUERY && strcmp(rte->eref->aliasname, "x") == 0 && fill->n < 2)
			rte->subquery = fill->parts[fill->n++];
		return false;
	}
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, fill_walker, fill, QTW_EXAMINE_RTES_AFTER);
	return expression_tree_walker(node, fill_walker, fill);
}

/* weir_once_statement returns the maintenance statement of a view whose query has no groups, analysed. */
Query *
weir_once_statement(ViewShape *shape, Oid result)
{
	Query	   *query = weir_statement_parse(statement_text(shape, result));
	Fill		fill = {{copyObject(shape->query), copyObject(shape->query)}, 0};

	weir_join_after(fill.parts[0], result);
	weir_join_before(fill.parts[1], result);
	(void) query_tree_walker(query, fill_walker, &fill, QTW_EXAMINE_RTES_AFTER);
	if (fill.n != 2)
		elog(ERROR, "%d placeholders in the statement of an outer join", fill.n);
	return query;
}

/* --- the index by which rows are taken back --------------------------------------------------- */

/* Is it an index over a hash of all these columns? */
static bool
is_row_index(Relation index, List *columns)
{
	List	   *expressions = RelationGetIndexExpressions(index);
	FuncExpr   *call = expressions ? linitial(expressions) : NULL;
	ListCell   *lc,
			   *ln;

	if (list_length(expressions) != 1 || !IsA(call, FuncExpr) || call->funcid != F_HASH_RECORD_EXTENDED ||
		!IsA(linitial(call->args), RowExpr) || list_length(linitial_node(RowExpr, call->args)->args) != list_length(columns))
		return false;
	forboth(lc, linitial_node(RowExpr, call->args)->args, ln, columns)
	{
		if (!IsA(lfirst(lc), Var) || lfirst_node(Var, lc)->varattno != lfirst_int(ln))
			return false;
	}
	return true;
}

/* weir_once_index gives the view's table that index, unless it has it. In weir's own scope. */
void
weir_once_index(ViewShape *shape, Oid result)
{
	List	   *names;
	List	   *columns = NIL;
	Relation	rel;
	bool		found = false;
	ListCell   *lc;

	if (shape->recompute)
		return;
	names = weir_statement_columns(result, shape->query->targetList);
	foreach(lc, shape->query->targetList)
	{
		if (can_hash(exprType((Node *) lfirst_node(TargetEntry, lc)->expr)))
			columns = lappend_int(columns, get_attnum(result, list_nth(names, foreach_current_index(lc))));
	}
	if (columns == NIL)
		return;
	rel = table_open(result, AccessShareLock);
	foreach(lc, RelationGetIndexList(rel))
	{
		Relation	index = index_open(lfirst_oid(lc), AccessShareLock);

		found |= is_row_index(index, columns);
		index_close(index, AccessShareLock);
	}
	table_close(rel, AccessShareLock);
	if (!found)
		(void) weir_catalog_exec("CREATE INDEX ON %s (%s)", weir_relation_name(result), row_hash(shape, "", names));
}
