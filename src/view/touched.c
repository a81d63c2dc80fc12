/*
 * touched.c
 *	  The queries of a view whose touched keys are computed anew.
 *
 * recompute ⇒ touched ⇒ recompute_statement. From the analysed definition over
 * deltas two queries are made. One gives the key of each row of the delta: the linear
 * part of the lowest level. The other is the definition with its deltas replaced
 * by the kept rows, and with a condition in the lowest level, below what groups
 * and numbers: the row's key is one of the touched.
 *
 * NULL equals NULL in that condition. Columns that are never NULL are compared by
 * their equality, which joins by hash or index; the others by a hash
 * of all of them, then by equality or both being NULL.
 *
 * Kept rows are what weir.rows_N and its segments hold, and those rows of the batch that were too old
 * to be kept when it arrived: a batch may span more than weir.keep.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/catalog.h"
#include "catalog/pg_type.h"
#include "catalog/stream.h"
#include "compat.h"
#include "delta/delta.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteManip.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/typcache.h"
#include "view/join.h"
#include "view/parts.h"
#include "view/recompute.h"
#include "view/shape.h"
#include "view/upstream.h"

/* --- keys of the delta ---------------------------------------------------------- */

/* weir_recompute_linear_part returns a level without what groups, numbers and makes distinct, with other targets. */
Query *
weir_recompute_linear_part(Query *level, List *targets)
{
	Query	   *query = copyObject(level);

	query->targetList = targets;
	query->groupClause = NIL;
	query->groupDistinct = false;
	query->groupingSets = NIL;
	query->havingQual = NULL;
	query->windowClause = NIL;
	query->distinctClause = NIL;
	query->hasDistinctOn = false;
	query->sortClause = NIL;
	query->hasAggs = false;
	query->hasWindowFuncs = false;
	query->hasTargetSRFs = expression_returns_set((Node *) targets);
	query->constraintDeps = NIL;
	return query;
}

static Query *
touched_query(Recompute *recompute)
{
	List	   *targets = NIL;
	ListCell   *lc;

	foreach(lc, recompute->keys)
	{
		TouchKey   *key = lfirst(lc);
		AttrNumber	n = list_length(targets) + 1;

		targets = lappend(targets, makeTargetEntry(copyObject(key->expr), n, psprintf("k%d", n), false));
	}
	if (recompute->windowed)
		targets = lappend(targets, makeTargetEntry(copyObject(recompute->window_start),
												   list_length(targets) + 1, pstrdup("w"), false));
	if (recompute->window_end)
		targets = lappend(targets, makeTargetEntry(copyObject(recompute->window_end),
												   list_length(targets) + 1, pstrdup("e"), false));
	return weir_recompute_linear_part(llast(recompute->levels), targets);
}

/* --- the condition -------------------------------------------------------------- */

static Expr *
equal_expr(Expr *left, Expr *right)
{
	Oid			type = exprType((Node *) left);
	TypeCacheEntry *entry = lookup_type_cache(type, TYPECACHE_EQ_OPR);

	if (!OidIsValid(entry->eq_opr))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("could not identify an equality operator for type %s", format_type_be(type))));
	return make_opclause(entry->eq_opr, BOOLOID, false, left, right, InvalidOid,
						 exprCollation((Node *) left));
}

static Expr *
null_safe_equal(Expr *left, Expr *right)
{
	Expr	   *both = makeBoolExpr(AND_EXPR, list_make2(weir_null_test(copyObject(left), IS_NULL), weir_null_test(copyObject(right), IS_NULL)), -1);

	return makeBoolExpr(OR_EXPR, list_make2(equal_expr(left, right), both), -1);
}

/* weir_touched_hash: hash_record_extended(ROW(exprs), 0) */
Expr *
weir_touched_hash(List *exprs)
{
	RowExpr    *row = makeNode(RowExpr);

	row->args = exprs;
	row->row_typeid = RECORDOID;
	row->row_format = COERCE_EXPLICIT_CALL;
	for (int i = 1; i <= list_length(exprs); i++)
		row->colnames = lappend(row->colnames, makeString(psprintf("f%d", i)));
	row->location = -1;
	return (Expr *) makeFuncExpr(F_HASH_RECORD_EXTENDED, INT8OID,
								 list_make2(row, makeConst(INT8OID, -1, InvalidOid, sizeof(int64),
														   Int64GetDatum(0), false, true)),
								 InvalidOid, InvalidOid, COERCE_EXPLICIT_CALL);
}

static Oid
int8_equal(void)
{
	return lookup_type_cache(INT8OID, TYPECACHE_EQ_OPR)->eq_opr;
}

static void
add_column(RangeTblEntry *rte, List **names, const char *name, Oid type, int32 typmod, Oid collation)
{
	*names = lappend(*names, makeString(pstrdup(name)));
	rte->coltypes = lappend_oid(rte->coltypes, type);
	rte->coltypmods = lappend_int(rte->coltypmods, typmod);
	rte->colcollations = lappend_oid(rte->colcollations, collation);
}

/* weir_touched_rte: WEIR_TOUCHED as a FROM item, levels below the statement that defines it. */
RangeTblEntry *
weir_touched_rte(Recompute *recompute, int levels)
{
	RangeTblEntry *rte = makeNode(RangeTblEntry);
	List	   *names = NIL;
	ListCell   *lc;

	rte->rtekind = RTE_CTE;
	rte->ctename = pstrdup(WEIR_TOUCHED);
	rte->ctelevelsup = levels;
	foreach(lc, recompute->keys)
	{
		Node	   *expr = (Node *) ((TouchKey *) lfirst(lc))->expr;

		add_column(rte, &names, psprintf("c%d", list_length(names) + 1), exprType(expr),
				   exprTypmod(expr), exprCollation(expr));
	}
	if (recompute->windowed)
		add_column(rte, &names, "w", exprType((Node *) recompute->window_start), -1, InvalidOid);
	if (recompute->window_end)
		add_column(rte, &names, "e", exprType((Node *) recompute->window_end), -1, InvalidOid);
	if (recompute->hashed)
		add_column(rte, &names, "h", INT8OID, -1, InvalidOid);
	rte->eref = makeAlias(WEIR_TOUCHED, names);
	rte->inFromCl = true;
	return rte;
}

/* EXISTS (SELECT FROM WEIR_TOUCHED WHERE its key = the key of the row at hand) */
static Expr *
touched_condition(Recompute *recompute, int levels)
{
	SubLink    *link = makeNode(SubLink);
	Query	   *query = makeNode(Query);
	List	   *conditions = NIL;
	List	   *nullable = NIL;
	AttrNumber	attno = 0;
	ListCell   *lc;

	foreach(lc, recompute->keys)
	{
		TouchKey   *key = lfirst(lc);
		Expr	   *mine = copyObject(key->expr);
		Expr	   *touched;

		IncrementVarSublevelsUp((Node *) mine, 1, 0);
		touched = (Expr *) makeVar(1, ++attno, exprType((Node *) mine), exprTypmod((Node *) mine),
								   exprCollation((Node *) mine), 0);
		if (key->never_null)
			conditions = lappend(conditions, equal_expr(mine, touched));
		else
		{
			conditions = lappend(conditions, null_safe_equal(copyObject(mine), touched));
			nullable = lappend(nullable, mine);
		}
	}
	if (recompute->hashed)
		conditions = lappend(conditions,
							 make_opclause(int8_equal(), BOOLOID, false, weir_touched_hash(nullable),
										   (Expr *) makeVar(1, attno + 1 + (recompute->windowed ? 1 : 0) + (recompute->window_end ? 1 : 0), INT8OID, -1, InvalidOid, 0),
										   InvalidOid, InvalidOid));
	query->commandType = CMD_SELECT;
	query->canSetTag = true;
	weir_select_from(query, weir_touched_rte(recompute, levels));
	query->jointree->quals = (Node *) make_ands_explicit(conditions);
	link->subLinkType = EXISTS_SUBLINK;
	link->subselect = (Node *) query;
	link->location = -1;
	return (Expr *) link;
}

/* Can the columns that may be NULL be hashed together? */
static bool
can_hash(Recompute *recompute)
{
	bool		any = false;
	ListCell   *lc;

	foreach(lc, recompute->keys)
	{
		TouchKey   *key = lfirst(lc);

		if (key->never_null)
			continue;
		any = true;
		if (!OidIsValid(lookup_type_cache(exprType((Node *) key->expr), TYPECACHE_HASH_EXTENDED_PROC)->hash_extended_proc))
			return false;
	}
	return any;
}

/* --- kept rows in the place of deltas ---------------------------------------------- */

/* weir_touched_ephemeral makes SELECT * FROM an ephemeral relation with a delta's columns. */
Query *
weir_touched_ephemeral(RangeTblEntry *like, const char *name)
{
	Query	   *query = makeNode(Query);
	RangeTblEntry *rte = copyObject(like);

	rte->enrname = pstrdup(name);
	query->commandType = CMD_SELECT;
	query->canSetTag = true;
	weir_select_from(query, rte);
	for (int i = 0; i < list_length(rte->coltypes); i++)
		query->targetList = lappend(query->targetList,
									makeTargetEntry((Expr *) makeVar(1, i + 1, list_nth_oid(rte->coltypes, i),
																	 list_nth_int(rte->coltypmods, i),
																	 list_nth_oid(rte->colcollations, i), 0),
													i + 1, pstrdup(strVal(list_nth(rte->eref->colnames, i))), false));
	return query;
}

static bool
no_permissions_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
	{
		weir_compat_forget_permissions((Query *) node);
		return query_tree_walker((Query *) node, no_permissions_walker, context, 0);
	}
	return expression_tree_walker(node, no_permissions_walker, context);
}

/* weir_touched_no_permissions: the tables that a query of weir's own reads are weir's; in place. */
void
weir_touched_no_permissions(Query *query)
{
	(void) no_permissions_walker((Node *) query, NULL);
}

/* min(w) or max(e) of the touched keys, as a timestamptz */
static char *
span_bound(Recompute *recompute, const char *bound)
{
	bool		zoned = exprType((Node *) recompute->window_start) == TIMESTAMPTZOID;

	return psprintf("(SELECT %s%s%s FROM %s AS x)", zoned ? "" : "pg_catalog.timezone('UTC'::pg_catalog.text, ",
					bound, zoned ? "" : ")", weir_touched_reference(recompute));
}

/* WHERE for kept rows: what the windows of the touched keys span. Their index on event time finds these. */
static char *
touched_span(Recompute *recompute)
{
	StringInfoData buf;
	char	   *span = recompute->span == 0 ? "" :
		psprintf(" '" INT64_FORMAT " microseconds'::pg_catalog.interval", recompute->span);

	initStringInfo(&buf);
	appendStringInfo(&buf, "\n WHERE r." WEIR_COL_EVENT_TIME " OPERATOR(pg_catalog.>=) (%s%s%s)",
					 span_bound(recompute, "pg_catalog.min(x.w)"), *span ? " OPERATOR(pg_catalog.-)" : "", span);
	if (recompute->window_end)
		appendStringInfo(&buf, " AND r." WEIR_COL_EVENT_TIME " OPERATOR(pg_catalog.<) (%s%s%s)",
						 span_bound(recompute, "pg_catalog.max(x.e)"), *span ? " OPERATOR(pg_catalog.+)" : "", span);
	return buf.data;
}

/* The same for a view that is read: its table is what it keeps. Its windows may go by the start or the end of its rows' own. */
static Query *
table_query(Oid view, Recompute *recompute)
{
	StringInfoData buf;
	Query	   *query;

	initStringInfo(&buf);
	appendStringInfo(&buf, "SELECT * FROM (%s) AS r", weir_upstream_select(view));
	if (recompute->windowed)
	{
		appendStringInfo(&buf, " WHERE %s OPERATOR(pg_catalog.>=) %s", weir_upstream_time(view, true, "r"),
						 span_bound(recompute, "pg_catalog.min(x.w)"));
		if (recompute->window_end)
			appendStringInfo(&buf, " AND %s OPERATOR(pg_catalog.<) %s", weir_upstream_time(view, false, "r"),
							 span_bound(recompute, "pg_catalog.max(x.e)"));
	}
	query = weir_statement_parse(buf.data);
	(void) no_permissions_walker((Node *) query, NULL);
	return query;
}

/*
 * rows_query selects a stream's kept rows with the columns of its delta. SELECT on the stream itself is
 * checked with the rest of the query; the tables behind it are weir's.
 */
static Query *
rows_query(RangeTblEntry *delta, Recompute *recompute)
{
	Oid			relid = weir_delta_stream(delta);
	Stream	   *stream = weir_stream_get(relid);
	Query	   *unkept = weir_touched_ephemeral(delta, psprintf(WEIR_BATCH_PREFIX "%u", relid));
	StringInfoData buf;
	char	   *columns = weir_text_numbered("", list_length(delta->eref->colnames));
	int			event_time = 0;
	int			i = 0;
	ListCell   *lc;
	Query	   *query;

	if (stream == NULL)
		return table_query(relid, recompute);
	initStringInfo(&buf);
	appendStringInfoString(&buf, "SELECT ");
	foreach(lc, delta->eref->colnames)
	{
		char	   *name = strVal(lfirst(lc));

		appendStringInfo(&buf, "%sr.%s", i ? ", " : "", quote_identifier(name));
		i++;
		if (strcmp(name, WEIR_COL_EVENT_TIME) == 0)
			event_time = i;
	}
	appendStringInfo(&buf, " FROM %s AS r%s\nUNION ALL SELECT %s FROM %s AS " WEIR_UNKEPT "(%s)"
					 " WHERE c%d OPERATOR(pg_catalog.<) (SELECT weir.kept_from(%u))",
					 weir_relation_name(stream->rows_relid), recompute->windowed ? touched_span(recompute) : "",
					 columns,
					 weir_statement_placeholder(unkept->targetList), columns, event_time, relid);
	query = weir_statement_parse(buf.data);
	weir_touched_no_permissions(query);
	weir_statement_splice(query, WEIR_UNKEPT, unkept);
	return query;
}

typedef struct KeptRows
{
	Recompute  *recompute;
	int			delta;			/* number of the delta that stays one, from 1; 0: none */
	int			seen;
} KeptRows;

#define WEIR_CHANGES "weir_changes"	/* placeholders: a delta, a table */
#define WEIR_TABLE "weir_table"

/* A view's table and what changed in it, old versions of rows included: what another delta may be joined with. */
static Query *
table_and_changes(RangeTblEntry *delta, Query *table)
{
	Query	   *changes = weir_touched_ephemeral(delta, delta->enrname);
	Query	   *query = weir_statement_parse(psprintf("SELECT * FROM %s AS " WEIR_TABLE " UNION ALL SELECT * FROM %s AS " WEIR_CHANGES,
													  weir_statement_placeholder(table->targetList),
													  weir_statement_placeholder(changes->targetList)));

	weir_statement_splice(query, WEIR_TABLE, table);
	weir_statement_splice(query, WEIR_CHANGES, changes);
	return query;
}

static bool
kept_rows_walker(Node *node, KeptRows *kept)
{
	if (node == NULL)
		return false;
	if (IsA(node, RangeTblEntry))
	{
		RangeTblEntry *rte = (RangeTblEntry *) node;

		if (rte->rtekind == RTE_NAMEDTUPLESTORE && ++kept->seen != kept->delta)
		{
			Query	   *query = rows_query(rte, kept->recompute);

			if (kept->delta > 0)
				query = table_and_changes(rte, query);

			rte->rtekind = RTE_SUBQUERY;
			rte->subquery = query;
			rte->enrname = NULL;
			rte->enrtuples = 0;
			rte->coltypes = rte->coltypmods = rte->colcollations = NIL;
		}
		return false;
	}
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, kept_rows_walker, kept, QTW_EXAMINE_RTES_AFTER);
	return expression_tree_walker(node, kept_rows_walker, kept);
}

/* Puts kept rows in the place of all deltas of a query but one, in place; returns how many deltas there were. */
static int
use_kept_rows(Query *query, Recompute *recompute, int but)
{
	KeptRows	kept = {recompute, but, 0};

	(void) kept_rows_walker((Node *) query, &kept);
	return kept.seen;
}

/* The keys that each delta touches, joined with the tables and deltas of the others, all together. */
static Query *
joined_touched_query(Recompute *recompute)
{
	Query	   *one = touched_query(recompute);
	int			n = use_kept_rows(copyObject(one), recompute, 0);
	List	   *parts = NIL;

	for (int i = 1; i <= n; i++)
	{
		Query	   *part = copyObject(one);

		(void) use_kept_rows(part, recompute, i);
		parts = lappend(parts, part);
	}
	return weir_statement_unite("weir_part", parts);
}

/* The definition over the kept rows of the touched keys. */
static Query *
rows_of_touched_keys(ViewShape *shape)
{
	Recompute  *recompute = shape->recompute;
	Query	   *query = copyObject(shape->query);
	Query	   *level = query;
	int			depth = 3;		/* of the condition below the statement: WEIR_NEW, the definition, EXISTS */
	ListCell   *lc;
	Expr	   *condition;

	foreach(lc, recompute->path)
	{
		level = rt_fetch(lfirst_int(lc), level->rtable)->subquery;
		depth++;
	}
	if (shape->closes)
		weir_outer_closed(query);
	(void) use_kept_rows(query, recompute, 0);
	condition = touched_condition(recompute, depth);
	weir_add_where(level, condition);
	level->hasSubLinks = true;
	return query;
}

/* weir_recompute_build makes the queries of an analysed view, late rows left out already. */
void
weir_recompute_build(ViewShape *shape)
{
	Recompute  *recompute = shape->recompute;

	recompute->hashed = can_hash(recompute);
	if (shape->tables)
	{
		recompute->all = copyObject(shape->query);
		(void) use_kept_rows(recompute->all, recompute, 0);
	}
	if (shape->tables && recompute->keys == NIL)
	{
		shape->partial = shape->query;
		return;
	}
	recompute->touched = recompute->joined ? joined_touched_query(recompute) : touched_query(recompute);
	if (!recompute->from_result)
		recompute->rows = rows_of_touched_keys(shape);
	shape->partial = recompute->touched;
}
