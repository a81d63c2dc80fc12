/*
 * over_memory.c
 *	  Finals of OVER that reach back by rows, or to the beginning: what is remembered of each key.
 *
 * over ⇒ over_memory ⇒ apply (close). lag(), ROWS n PRECEDING, running totals and row numbers need rows that the stream may
 * have forgotten long since. So weir.state_N holds the last rows of each key (partition), as far as
 * frames count rows back: the columns that OVER reads (c1, c2 ...), a hash of the key (h), and for each result
 * that goes back to the beginning what it is over all rows before that row's time (r1, r2 ...; of dense_rank() before that row).
 *
 * A close runs the level with OVER over the rows that close and the remembered rows of their keys; a
 * running result is what the first of these carries, merged with the result from there on. Then the keys' rows are
 * remembered anew, by a second statement. Rows of equal times are remembered together: they are
 * peers, and whichever way ORDER BY has them, all are there.
 *
 * Both run in the transaction of the close, under the row of weir.view_close: nothing is remembered twice or forgotten. The
 * table grows with the number of keys, not of rows.
 */
#include "postgres.h"

#include "catalog/catalog.h"
#include "catalog/namespace.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "optimizer/tlist.h"
#include "parser/parse_oper.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteManip.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"
#include "view/over.h"
#include "view/recompute.h"
#include "view/shape.h"
#include "view/states.h"

#define NEW_ROWS	"weir_rows"		/* placeholder: rows that close */
#define NEW_HASHES	"weir_hashes"	/* placeholder: the hashes of their keys */
#define MEMORY		"weir_memory"	/* placeholder: all rows, and what is to be remembered with them */

/* What is to know of a level. */
typedef struct Memory
{
	Query	   *level;
	WindowClause *window;		/* one that is used */
	List	   *vars;			/* of Var: what the level reads of a row */
	List	   *carries;		/* of WindowFunc: results that go back to the beginning */
	List	   *keys;			/* of Node: the partition */
	AttrNumber	time;			/* number of the event time among vars */
	Index		first;			/* winref of the window that has the first row of the key */
	Index	   *own_first;		/* by the number of what is carried: the same in the order of its own window, or 0 */
	Index		before;			/* and of all rows of earlier times; 0: it goes over new and old rows only */
} Memory;

/* --- avg ------------------------------------------------------------------------------- */

static WindowFunc *
sibling(WindowFunc *func, Oid funcid, Oid type)
{
	WindowFunc *other = copyObject(func);

	other->winfnoid = funcid;
	other->wintype = type;
	return other;
}

static Expr *
call(Oid funcid, Oid type, Expr *a, Expr *b)
{
	return (Expr *) makeFuncExpr(funcid, type, b ? list_make2(a, b) : list_make1(a), InvalidOid, InvalidOid, COERCE_EXPLICIT_CALL);
}

/* sum / count, as the final functions of avg have it; NULL if it is no avg of an exact type */
static Expr *
split_avg(WindowFunc *func)
{
	Expr	   *sum;
	Expr	   *count = (Expr *) sibling(func, F_COUNT_ANY, INT8OID);

	switch (func->winfnoid)
	{
		case F_AVG_INT2:
			sum = call(F_NUMERIC_INT8, NUMERICOID, (Expr *) sibling(func, F_SUM_INT2, INT8OID), NULL);
			break;
		case F_AVG_INT4:
			sum = call(F_NUMERIC_INT8, NUMERICOID, (Expr *) sibling(func, F_SUM_INT4, INT8OID), NULL);
			break;
		case F_AVG_INT8:
			sum = (Expr *) sibling(func, F_SUM_INT8, NUMERICOID);
			break;
		case F_AVG_NUMERIC:
			sum = (Expr *) sibling(func, F_SUM_NUMERIC, NUMERICOID);
			break;
		case F_AVG_INTERVAL:
			return call(F_INTERVAL_DIV, INTERVALOID, (Expr *) sibling(func, F_SUM_INTERVAL, INTERVALOID),
						call(F_FLOAT8_INT8, FLOAT8OID, count, NULL));
		default:
			return NULL;
	}
	return call(F_NUMERIC_DIV, NUMERICOID, sum, call(F_NUMERIC_INT8, NUMERICOID, count, NULL));
}

static bool
from_beginning(Query *level, WindowFunc *func)
{
	WindowClause *window = list_nth(level->windowClause, func->winref - 1);

	if (func->winagg)
		return (window->frameOptions & FRAMEOPTION_START_UNBOUNDED_PRECEDING) != 0;
	return func->winfnoid == F_ROW_NUMBER || func->winfnoid == F_RANK_ || func->winfnoid == F_DENSE_RANK_;
}

/* Averages from the beginning become sum / count, so that what they carry can be merged. */
static Node *
avg_mutator(Node *node, Query *level)
{
	Expr	   *split;

	if (node == NULL)
		return NULL;
	if (IsA(node, WindowFunc) && from_beginning(level, (WindowFunc *) node) && (split = split_avg((WindowFunc *) node)) != NULL)
		return (Node *) split;
	return expression_tree_mutator(node, avg_mutator, level);
}

/* --- what can be carried ------------------------------------------------------------------ */

/* How a result merges with that of all rows before; false: it does not, or not exactly. */
static bool
merge_kind(WindowFunc *func, MergeKind *merge)
{
	Aggref	   *agg;
	ListCell   *lc;

	*merge = MERGE_COUNT;
	if (!func->winagg)
		return true;
	if (func->winfnoid == F_SUM_FLOAT4 || func->winfnoid == F_SUM_FLOAT8)
		return false;
	agg = makeNode(Aggref);
	agg->aggfnoid = func->winfnoid;
	agg->aggtype = func->wintype;
	agg->inputcollid = func->inputcollid;
	agg->aggkind = AGGKIND_NORMAL;
	foreach(lc, func->args)
		agg->aggargtypes = lappend_oid(agg->aggargtypes, exprType(lfirst(lc)));
	return weir_aggregate_in_place(agg, merge) && (*merge == MERGE_COUNT || *merge == MERGE_PLUS || *merge == MERGE_FUNCTION);
}

/* weir_over_carries: can what a function has over all rows up to now be carried on? */
bool
weir_over_carries(WindowFunc *func)
{
	MergeKind	merge;

	return split_avg(func) != NULL || merge_kind(func, &merge);
}

static Expr *
coalesce(Oid type, Oid collation, List *args)
{
	CoalesceExpr *expr = makeNode(CoalesceExpr);

	expr->coalescetype = type;
	expr->coalescecollid = collation;
	expr->args = args;
	expr->location = -1;
	return (Expr *) expr;
}

/* What a function gives over all rows: what is carried, merged with what it gives from there on. */
static Expr *
merged(WindowFunc *func, Expr *carried, Expr *since)
{
	MergeKind	merge;
	Oid			type = func->wintype;
	Expr	   *both;

	(void) merge_kind(func, &merge);
	if (merge == MERGE_COUNT)
		return call(F_INT8PL, INT8OID,
					coalesce(INT8OID, InvalidOid,
							 list_make2(carried, makeConst(INT8OID, -1, InvalidOid, sizeof(int64), Int64GetDatum(0), false, true))), since);
	if (merge == MERGE_PLUS)
		both = make_opclause(OpernameGetOprid(list_make2(makeString("pg_catalog"), makeString("+")), type, type),
							 type, false, carried, since, InvalidOid, InvalidOid);
	else
		both = (Expr *) makeFuncExpr(weir_aggregate_combinefn(func->winfnoid), type, list_make2(carried, since),
									 func->wincollid, func->inputcollid, COERCE_EXPLICIT_CALL);
	if (merge == MERGE_FUNCTION && !func_strict(weir_aggregate_combinefn(func->winfnoid)))
		return both;
	return coalesce(type, func->wincollid, list_make3(both, copyObject(carried), copyObject(since)));
}

/* --- the level ------------------------------------------------------------------------------ */

static bool
carry_walker(Node *node, Memory *memory)
{
	if (node == NULL)
		return false;
	if (IsA(node, WindowFunc))
	{
		WindowFunc *func = (WindowFunc *) node;

		if (memory->window == NULL)
			memory->window = list_nth(memory->level->windowClause, func->winref - 1);
		if (from_beginning(memory->level, func))
			memory->carries = list_append_unique(memory->carries, func);
		return false;
	}
	return expression_tree_walker(node, carry_walker, memory);
}

/* A level with OVER, which is changed: averages are split. */
static Memory
understand(Query *level)
{
	Memory		memory = {level};
	ListCell   *lc;

	level->targetList = castNode(List, avg_mutator((Node *) level->targetList, level));
	foreach(lc, pull_var_clause((Node *) level->targetList, PVC_RECURSE_WINDOWFUNCS))
		memory.vars = list_append_unique(memory.vars, lfirst(lc));
	(void) carry_walker((Node *) level->targetList, &memory);
	foreach(lc, memory.window->partitionClause)
		memory.keys = lappend(memory.keys, get_sortgroupclause_expr(lfirst(lc), level->targetList));
	foreach(lc, level->targetList)
	{
		TargetEntry *tle = lfirst(lc);

		for (int i = 0; strcmp(tle->resname, WEIR_COL_EVENT_TIME) == 0 && i < list_length(memory.vars); i++)
		{
			if (equal(tle->expr, list_nth(memory.vars, i)))
				memory.time = i + 1;
		}
	}
	if (memory.time == 0)
		elog(ERROR, "a level with OVER shows no event time");
	return memory;
}

static List *
var_targets(Memory *memory)
{
	List	   *targets = NIL;
	ListCell   *lc;

	foreach(lc, memory->vars)
	{
		AttrNumber	n = list_length(targets) + 1;

		targets = lappend(targets, makeTargetEntry(copyObject(lfirst(lc)), n, psprintf("c%d", n), false));
	}
	return targets;
}

static Expr *
key_hash(List *keys)
{
	return keys ? weir_touched_hash(copyObject(keys)) :
		(Expr *) makeConst(INT8OID, -1, InvalidOid, sizeof(int64), Int64GetDatum(0), false, true);
}

/* weir_over_remember fills shape->partial: what the state table holds. Raises 0A000 for what it cannot. */
void
weir_over_remember(ViewShape *shape)
{
	Memory		memory = understand(weir_over_level(copyObject(shape->query)));
	Query	   *partial = makeNode(Query);
	ListCell   *lc;
	int			i = 0;

	if (checkExprHasSubLink((Node *) memory.level->targetList))
		weir_refuse(shape->name, "weir.emit = 'final': a sub-select in an expression stands beside OVER that reaches back by rows.", "Put it into a SELECT above.");
	foreach(lc, memory.vars)
	{
		if (lfirst_node(Var, lc)->varattno == 0)
			weir_refuse(shape->name, "weir.emit = 'final': a whole row stands beside OVER that reaches back by rows.", "Name its columns.");
	}
	foreach(lc, memory.keys)
	{
		Oid			type = exprType(lfirst(lc));

		if (!OidIsValid(lookup_type_cache(type, TYPECACHE_HASH_EXTENDED_PROC)->hash_extended_proc))
			weir_refuse(shape->name, psprintf("PARTITION BY has a column of type %s, which has no hash.", format_type_be(type)), "Cast it to text.");
	}
	partial->commandType = CMD_SELECT;
	partial->targetList = var_targets(&memory);
	partial->targetList = lappend(partial->targetList, makeTargetEntry(key_hash(memory.keys), list_length(memory.vars) + 1, pstrdup("h"), false));
	foreach(lc, memory.carries)
	{
		i++;
		partial->targetList = lappend(partial->targetList, makeTargetEntry(copyObject(lfirst(lc)), list_length(partial->targetList) + 1,
																		   psprintf("r%d", i), false));
	}
	shape->partial = partial;
}

/* --- new and remembered rows ------------------------------------------------------------------ */

/* prefix1, prefix2 ... */
static char *
numbered(const char *prefix, int n)
{
	StringInfoData buf;

	initStringInfo(&buf);
	for (int i = 1; i <= n; i++)
		appendStringInfo(&buf, "%s%s%d", i > 1 ? ", " : "", prefix, i);
	return buf.data;
}

/*
 * Rows that close, and remembered rows of their keys: what the level reads, and then what is carried. until_close: no rows
 * behind what closes now, which frames may reach forth to.
 */
static Query *
all_rows(Memory *memory, Oid state, bool until_close)
{
	Query	   *rows = weir_recompute_linear_part(memory->level, var_targets(memory));
	Query	   *hashes = weir_recompute_linear_part(memory->level, list_make1(makeTargetEntry(key_hash(memory->keys), 1, pstrdup("c1"), false)));
	char	   *columns = numbered("c", list_length(memory->vars));
	StringInfoData buf;
	Query	   *query;
	ListCell   *lc;
	int			i = 0;

	initStringInfo(&buf);
	appendStringInfo(&buf, "SELECT %s", columns);
	foreach(lc, memory->carries)
		appendStringInfo(&buf, ", CAST(NULL AS %s)", weir_statement_type(lfirst_node(WindowFunc, lc)->wintype, -1));
	appendStringInfo(&buf, " FROM %s AS " NEW_ROWS "(%s)\nUNION ALL SELECT %s", weir_statement_placeholder(rows->targetList), columns,
					 numbered("t.c", list_length(memory->vars)));
	foreach(lc, memory->carries)
		appendStringInfo(&buf, ", t.r%d", ++i);
	appendStringInfo(&buf, " FROM (SELECT DISTINCT c1 FROM %s AS " NEW_HASHES "(c1)) AS k(h),"
					 " LATERAL (SELECT * FROM %s AS s WHERE s.h OPERATOR(pg_catalog.=) k.h OFFSET 0) AS t",
					 weir_statement_placeholder(hashes->targetList), weir_relation_name(state));
	query = weir_statement_parse(buf.data);
	weir_instant_closing_from(rows, until_close);
	weir_instant_closing_from(hashes, until_close);
	weir_statement_splice(query, NEW_ROWS, rows);
	weir_statement_splice(query, NEW_HASHES, hashes);
	return query;
}

/* A column of these rows. */
static Expr *
column(Memory *memory, int n)
{
	int			nvars = list_length(memory->vars);
	Node	   *like = n <= nvars ? list_nth(memory->vars, n - 1) : list_nth(memory->carries, n - nvars - 1);

	return (Expr *) makeVar(1, n, exprType(like), n <= nvars ? exprTypmod(like) : -1, exprCollation(like), 0);
}

static int
number_of(List *list, Node *node)
{
	for (int i = 0; i < list_length(list); i++)
	{
		if (equal(list_nth(list, i), node))
			return i + 1;
	}
	return 0;
}

/* What is carried to the first row of the key that is there. */
static Expr *
carried(Memory *memory, int n)
{
	Expr	   *carry = column(memory, list_length(memory->vars) + n);
	WindowFunc *func = makeNode(WindowFunc);

	func->winfnoid = F_FIRST_VALUE;
	func->wintype = exprType((Node *) carry);
	func->wincollid = func->inputcollid = exprCollation((Node *) carry);
	func->args = list_make1(carry);
	func->winref = memory->own_first[n] ? memory->own_first[n] : memory->first;
	func->location = -1;
	return (Expr *) func;
}

/* Expressions of the level over these rows. */
static Node *
over_mutator(Node *node, Memory *memory)
{
	if (node == NULL)
		return NULL;
	if (IsA(node, Var))
		return (Node *) column(memory, number_of(memory->vars, node));
	if (IsA(node, WindowFunc))
	{
		int			n = number_of(memory->carries, node);
		Expr	   *since = (Expr *) expression_tree_mutator(node, over_mutator, memory);

		return n == 0 ? (Node *) since : (Node *) merged((WindowFunc *) node, carried(memory, n), since);
	}
	return expression_tree_mutator(node, over_mutator, memory);
}

/* One more window of a query: the partition of the level's, and an order; NIL: that of the event time. */
static Index
add_window(Memory *memory, Query *query, List *order, int frame, int64 end)
{
	WindowClause *window = makeNode(WindowClause);

	window->partitionClause = copyObject(memory->window->partitionClause);
	window->orderClause = order ? copyObject(order) : list_make1(copyObject(linitial(memory->window->orderClause)));
	window->frameOptions = FRAMEOPTION_NONDEFAULT | FRAMEOPTION_BETWEEN | FRAMEOPTION_START_UNBOUNDED_PRECEDING | frame;
	if (end > 0)
		window->endOffset = (Node *) makeConst(INT8OID, -1, InvalidOid, sizeof(int64), Int64GetDatum(end), false, true);
	window->winref = list_length(query->windowClause) + 1;
	query->windowClause = lappend(query->windowClause, window);
	return window->winref;
}

static List *
order_of(Memory *memory, WindowFunc *func)
{
	return list_nth_node(WindowClause, memory->level->windowClause, func->winref - 1)->orderClause;
}

/*
 * Windows that have the first row of the key. dense_rank() counts what its own ORDER BY tells apart, which may be more than
 * the times: each row has its own then, and the first in that order is the one to carry on from.
 */
static void
add_first(Memory *memory, Query *query)
{
	int			frame = FRAMEOPTION_ROWS | FRAMEOPTION_END_CURRENT_ROW;

	memory->own_first = palloc0(sizeof(Index) * (list_length(memory->carries) + 1));
	if (memory->carries == NIL)
		return;
	memory->first = add_window(memory, query, NIL, frame, 0);
	for (int i = 1; i <= list_length(memory->carries); i++)
	{
		WindowFunc *func = list_nth(memory->carries, i - 1);

		if (func->winfnoid == F_DENSE_RANK_)
			memory->own_first[i] = add_window(memory, query, order_of(memory, func), frame, 0);
	}
}

/* SELECT FROM these rows */
static Query *
query_over(Query *rows)
{
	Query	   *query = makeNode(Query);
	RangeTblEntry *rte = makeNode(RangeTblEntry);
	RangeTblRef *ref = makeNode(RangeTblRef);
	ListCell   *lc;

	query->commandType = CMD_SELECT;
	query->canSetTag = true;
	query->hasWindowFuncs = true;
	rte->rtekind = RTE_SUBQUERY;
	rte->subquery = rows;
	rte->alias = makeAlias("weir_remembered", NIL);
	rte->eref = makeAlias("weir_remembered", NIL);
	foreach(lc, rows->targetList)
		rte->eref->colnames = lappend(rte->eref->colnames, makeString(pstrdup(lfirst_node(TargetEntry, lc)->resname)));
	rte->inFromCl = true;
	query->rtable = list_make1(rte);
	ref->rtindex = 1;
	query->jointree = makeFromExpr(list_make1(ref), NULL);
	return query;
}

/* weir_over_with_memory makes the level with OVER of a query read the remembered rows, too, in place. */
void
weir_over_with_memory(Query *query, Oid state)
{
	Query	   *level = weir_over_level(query);
	Memory		memory = understand(level);
	Query	   *over = query_over(all_rows(&memory, state, false));

	over->windowClause = copyObject(level->windowClause);
	add_first(&memory, over);
	over->targetList = castNode(List, over_mutator((Node *) level->targetList, &memory));
	memcpy(level, over, sizeof(Query));
}

/* --- remembering ------------------------------------------------------------------------------ */

/* What a result is over all rows of earlier times; of dense_rank(): over those before the row in its own order. */
static Expr *
result_before(Memory *memory, int n)
{
	WindowFunc *func = list_nth(memory->carries, n - 1);
	WindowFunc *since;

	if (func->winagg)
		since = (WindowFunc *) expression_tree_mutator((Node *) func, over_mutator, memory);
	else
	{
		since = makeNode(WindowFunc);
		since->winfnoid = func->winfnoid == F_DENSE_RANK_ ? F_DENSE_RANK_ : F_COUNT_;
		since->winagg = since->winstar = func->winfnoid != F_DENSE_RANK_;
		since->wintype = INT8OID;
		since->location = -1;
	}
	since->winref = memory->own_first[n] ? memory->own_first[n] : memory->before;
	if (since->winfnoid == F_DENSE_RANK_)
		return merged(func, carried(memory, n),
					  call(F_INT8MI, INT8OID, (Expr *) since,
						   (Expr *) makeConst(INT8OID, -1, InvalidOid, sizeof(int64), Int64GetDatum(1), false, true)));
	return merged(func, carried(memory, n), (Expr *) since);
}

/* How many times there are behind a row's, and 1: dense_rank() OVER (... ORDER BY time DESC). */
static Expr *
from_last(Memory *memory, Query *query)
{
	WindowFunc *rank = makeNode(WindowFunc);
	WindowClause *window;
	SortGroupClause *order;

	rank->winref = add_window(memory, query, NIL, FRAMEOPTION_ROWS | FRAMEOPTION_END_CURRENT_ROW, 0);
	rank->winfnoid = F_DENSE_RANK_;
	rank->wintype = INT8OID;
	rank->location = -1;
	window = llast(query->windowClause);
	order = linitial(window->orderClause);
	get_sort_group_operators(exprType(get_sortgroupclause_expr(order, memory->level->targetList)), false, true, true,
							 NULL, &order->eqop, &order->sortop, &order->hashable);
	weir_compat_descending(order);
	return (Expr *) rank;
}

static bool
is_sorted_by(Query *query, Index ref)
{
	ListCell   *lc;

	foreach(lc, query->targetList)
	{
		if (lfirst_node(TargetEntry, lc)->ressortgroupref == ref)
			return true;
	}
	return false;
}

/* All rows, and with each what is to be remembered: the state table's columns, and from_last. */
static Query *
rows_to_remember(Memory *memory, Oid state)
{
	Query	   *query = query_over(all_rows(memory, state, true));
	int			nvars = list_length(memory->vars);
	List	   *sorts;
	ListCell   *lc;
	AttrNumber	n = 0;

	while (n < nvars)
	{
		n++;
		query->targetList = lappend(query->targetList, makeTargetEntry(column(memory, n), n, psprintf("c%d", n), false));
	}
	query->targetList = lappend(query->targetList, makeTargetEntry((Expr *) over_mutator((Node *) key_hash(memory->keys), memory), ++n,
																   pstrdup("h"), false));
	add_first(memory, query);
	if (memory->carries)
		memory->before = add_window(memory, query, NIL, FRAMEOPTION_GROUPS | FRAMEOPTION_END_OFFSET_PRECEDING, 1);
	for (int i = 1; i <= list_length(memory->carries); i++)
		query->targetList = lappend(query->targetList, makeTargetEntry(result_before(memory, i), ++n, psprintf("r%d", i), false));
	query->targetList = lappend(query->targetList, makeTargetEntry(from_last(memory, query), ++n, pstrdup("d"), false));
	sorts = list_concat(list_copy(memory->window->partitionClause), list_make1(linitial(memory->window->orderClause)));
	foreach(lc, memory->carries)
		sorts = list_concat(sorts, order_of(memory, lfirst(lc)));
	foreach(lc, sorts)
	{
		TargetEntry *tle = copyObject(get_sortgroupclause_tle(lfirst(lc), memory->level->targetList));

		if (is_sorted_by(query, tle->ressortgroupref))
			continue;
		tle->expr = (Expr *) over_mutator((Node *) tle->expr, memory);
		tle->resno = ++n;
		tle->resjunk = true;
		query->targetList = lappend(query->targetList, tle);
	}
	return query;
}

/*
 * weir_over_memory_statement returns the statement that remembers the last rows of the keys that close, in the
 * place of those that are remembered; analysed, search_path is pinned. The array makes these be found by the index: a join
 * with it may be one that reads all keys.
 */
Query *
weir_over_memory_statement(ViewShape *shape, Oid state)
{
	Memory		memory = understand(weir_over_level(copyObject(shape->query)));
	Query	   *rows = rows_to_remember(&memory, state);
	int			ncolumns = list_length(shape->partial->targetList);
	StringInfoData columns;
	StringInfoData values;
	Query	   *query;
	ListCell   *lc;

	initStringInfo(&columns);
	initStringInfo(&values);
	foreach(lc, shape->partial->targetList)
	{
		TargetEntry *tle = lfirst(lc);

		appendStringInfo(&columns, "%s%s", tle->resno > 1 ? ", " : "", tle->resname);
		appendStringInfo(&values, "%sm.%s", tle->resno > 1 ? ", " : "", tle->resname);
	}
	query = weir_statement_parse(psprintf("WITH m AS MATERIALIZED (SELECT * FROM %s AS " MEMORY "(%s, d)),\n"
										  " weir_gone AS (DELETE FROM %s AS t WHERE t.h OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT DISTINCT m.h FROM m)))\n"
										  "INSERT INTO %s AS t (%s) SELECT %s FROM m WHERE m.d <= " INT64_FORMAT
										  " OR m.c%d >= weir.closing_until() - pg_catalog.make_interval(secs => %.6f)",
										  weir_statement_placeholder(list_copy_head(rows->targetList, ncolumns + 1)), columns.data,
										  weir_relation_name(state), weir_relation_name(state), columns.data, values.data,
										  shape->remembered, memory.time, shape->remembered_span / 1000000.0));
	weir_statement_splice(query, MEMORY, rows);
	return query;
}
