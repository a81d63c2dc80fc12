/*
 * slices.c
 *	  Overlapping windows without counting a row once per window.
 *
 * aggregates ⇒ slices ⇒ statement. The partial query of a view over hop() or
 * cumulate() is
 *	  SELECT keys, states FROM delta, hop(ts, size, advance) GROUP BY keys
 * where each row meets size / advance windows. Every window is made of whole slices, tumbling
 * windows of gcd(size, advance). So rows are aggregated into slices first, and
 * the few groups that come out are expanded into windows:
 *	  SELECT keys, merged states
 *	  FROM (SELECT slice, other keys, states FROM delta GROUP BY slice, other keys), hop(slice, size, advance)
 *	  GROUP BY keys
 *
 * A late row counts in those of its windows that are open for it. Windows end at
 * the end of a slice, so all rows of a slice whose deadlines lie in the same slice miss the same
 * windows: that slice is one more key of the inner query. Most deadlines lie before their row's own slice, where
 * no window of it has ended; they are all one.
 *
 * Done where it is plain to see that it gives the same: sizes are constant lengths (no
 * months, no time zone), the window's columns are bare group keys, and every state merges by an
 * aggregate. Else the query stays as it is.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parse_func.h"
#include "parser/parse_oper.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteManip.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "view/parts.h"
#include "view/shape.h"
#include "view/window.h"

typedef struct Slices
{
	Query	   *inner;			/* becomes the query over slices */
	Query	   *outer;
	int			window;			/* FROM item of hop() or cumulate() in inner */
	FuncExpr   *call;
	Oid			type;			/* of its time: timestamptz or timestamp */
	Interval   *slice;
	Expr	   *start;			/* start of a row's slice */
	List	   *deadlines;		/* of Expr: windows that ended by then are over for the row */
	List	   *outer_quals;	/* on windows */
	AttrNumber	start_column;	/* in inner's select list */
	AttrNumber	deadline_column;	/* 0: none */
} Slices;

static bool
mentions_window(Slices *slices, Node *node)
{
	return bms_is_member(slices->window, pull_varnos(NULL, node));
}

/* --- is it possible? ------------------------------------------------------------------ */

static int64
gcd(int64 a, int64 b)
{
	while (b != 0)
	{
		int64		rest = a % b;

		a = b;
		b = rest;
	}
	return a;
}

static Interval *
constant_interval(Node *node)
{
	Const	   *value = (Const *) node;

	return IsA(value, Const) && !value->constisnull && value->consttype == INTERVALOID ?
		DatumGetIntervalP(value->constvalue) : NULL;
}

/* The windows' slice, or NULL if they do not overlap, or are not of constant length. */
static Interval *
slice_of(FuncExpr *call)
{
	Interval   *size = constant_interval(lsecond(call->args));
	Interval   *step = constant_interval(lthird(call->args));
	Interval   *slice = palloc0(sizeof(Interval));
	int64		whole;
	int64		part;

	if (size == NULL || step == NULL || size->month != 0 || step->month != 0)
		return NULL;
	whole = size->day * USECS_PER_DAY + size->time;
	part = step->day * USECS_PER_DAY + step->time;
	if (part <= 0 || whole <= part)
		return NULL;
	slice->time = gcd(whole, part);
	return slice;
}

/* Finds the one window function, standing alone in FROM; false: not here. */
static bool
find_window(Slices *slices)
{
	ListCell   *lc;

	foreach(lc, slices->inner->jointree->fromlist)
	{
		RangeTblRef *ref = lfirst(lc);
		RangeTblEntry *rte;

		if (!IsA(ref, RangeTblRef))
			continue;
		rte = rt_fetch(ref->rtindex, slices->inner->rtable);
		if (!weir_is_window(rte))
			continue;
		if (slices->window != 0 || rte->funcordinality)
			return false;
		slices->window = ref->rtindex;
		slices->call = weir_window_call(rte);
	}
	if (slices->window == 0 || list_length(slices->call->args) < 3)
		return false;
	slices->type = exprType(linitial(slices->call->args));
	if (list_length(slices->call->args) > 3 &&
		(slices->type != TIMESTAMPTZOID || !IsA(lfourth(slices->call->args), Const) ||
		 exprType(lfourth(slices->call->args)) != TIMESTAMPTZOID))
		return false;
	slices->slice = slice_of(slices->call);
	return slices->slice != NULL;
}

/* Does another FROM item use the window's columns? */
static bool
window_feeds_others(Slices *slices)
{
	int			i = 0;
	ListCell   *lc;

	foreach(lc, slices->inner->rtable)
	{
		RangeTblEntry *rte = lfirst(lc);

		i++;
		if (i == slices->window)
			continue;
		if (rte->rtekind == RTE_JOIN || (rte->rtekind == RTE_FUNCTION && mentions_window(slices, (Node *) rte->functions)))
			return true;
		if (rte->rtekind == RTE_SUBQUERY && rte->lateral &&
			bms_is_member(slices->window, pull_varnos_of_level(NULL, (Node *) rte->subquery, 1)))
			return true;
	}
	return false;
}

/* --- conditions ---------------------------------------------------------------------------- */

static bool
is_window_column(Slices *slices, Node *node)
{
	Var		   *var = (Var *) node;

	return IsA(var, Var) && var->varno == slices->window && var->varlevelsup == 0;
}

/* window_end, as timestamptz */
static bool
is_window_end(Slices *slices, Node *node)
{
	if (IsA(node, FuncExpr) && ((FuncExpr *) node)->funcid == F_TIMEZONE_TEXT_TIMESTAMP)
		node = lsecond(((FuncExpr *) node)->args);
	return is_window_column(slices, node) && ((Var *) node)->varattno == 2;
}

/* One term of late.c's condition, window_end <= limit: noted; false: something else. */
static bool
take_limit(Slices *slices, Node *term, List **outer_terms)
{
	OpExpr	   *op = (OpExpr *) term;

	if (!IsA(op, OpExpr) || !is_window_end(slices, linitial(op->args)) ||
		mentions_window(slices, lsecond(op->args)))
		return false;
	if (IsA(lsecond(op->args), FuncExpr))
		*outer_terms = lappend(*outer_terms, op);
	else
		slices->deadlines = lappend(slices->deadlines, lsecond(op->args));
	return true;
}

/* (window_end <= a OR window_end <= b ...) IS NOT TRUE */
static bool
take_late_condition(Slices *slices, Node *qual)
{
	BooleanTest *test = (BooleanTest *) qual;
	List	   *terms;
	List	   *outer_terms = NIL;
	ListCell   *lc;

	if (!IsA(test, BooleanTest) || test->booltesttype != IS_NOT_TRUE)
		return false;
	terms = is_orclause(test->arg) ? ((BoolExpr *) test->arg)->args : list_make1(test->arg);
	foreach(lc, terms)
	{
		if (!take_limit(slices, lfirst(lc), &outer_terms))
			return false;
	}
	if (outer_terms != NIL)
	{
		BooleanTest *outer = copyObject(test);

		outer->arg = list_length(outer_terms) == 1 ? linitial(outer_terms) : makeBoolExpr(OR_EXPR, outer_terms, -1);
		slices->outer_quals = lappend(slices->outer_quals, outer);
	}
	return true;
}

static List *
flatten_and(Node *node)
{
	List	   *result = NIL;
	ListCell   *lc;

	if (node == NULL)
		return NIL;
	if (IsA(node, List))
		return (List *) node;
	if (!is_andclause(node))
		return list_make1(node);
	foreach(lc, ((BoolExpr *) node)->args)
		result = list_concat(result, flatten_and(lfirst(lc)));
	return result;
}

/* Conditions on rows stay inside, those that leave late rows out of windows are taken apart. */
static bool
split_quals(Slices *slices)
{
	List	   *inner = NIL;
	ListCell   *lc;

	foreach(lc, flatten_and(slices->inner->jointree->quals))
	{
		if (!mentions_window(slices, lfirst(lc)))
			inner = lappend(inner, lfirst(lc));
		else if (!take_late_condition(slices, lfirst(lc)))
			return false;
	}
	slices->inner->jointree->quals = inner == NIL ? NULL : (Node *) make_ands_explicit(inner);
	return true;
}

/* --- the inner query --------------------------------------------------------------------------- */

static Expr *
constant_of_interval(Interval *value)
{
	return (Expr *) makeConst(INTERVALOID, -1, InvalidOid, sizeof(Interval),
							  IntervalPGetDatum(value), false, false);
}

/* weir.window_start(time, slice [, origin]) */
static Expr *
slice_start(Slices *slices, Node *time)
{
	List	   *args = list_make2(time, constant_of_interval(slices->slice));
	Oid			types[3] = {slices->type, INTERVALOID, slices->type};
	Oid			funcid;

	if (list_length(slices->call->args) > 3)
		args = lappend(args, copyObject(lfourth(slices->call->args)));
	funcid = LookupFuncName(list_make2(makeString(WEIR_SCHEMA), makeString(pstrdup("window_start"))),
							list_length(args), types, false);
	return (Expr *) makeFuncExpr(funcid, slices->type, args, InvalidOid, InvalidOid, COERCE_EXPLICIT_CALL);
}

static Expr *
to_utc(Slices *slices, Expr *time)
{
	if (slices->type == TIMESTAMPTZOID)
		return time;
	return (Expr *) makeFuncExpr(F_TIMEZONE_TEXT_TIMESTAMPTZ, TIMESTAMPOID,
								 list_make2(makeConst(TEXTOID, -1, DEFAULT_COLLATION_OID, -1,
													  CStringGetTextDatum("UTC"), false, false), time),
								 InvalidOid, DEFAULT_COLLATION_OID, COERCE_EXPLICIT_CALL);
}

/* greatest(slice, slice of each deadline) */
static Expr *
deadline_key(Slices *slices)
{
	MinMaxExpr *greatest = makeNode(MinMaxExpr);
	ListCell   *lc;

	greatest->op = IS_GREATEST;
	greatest->minmaxtype = slices->type;
	greatest->location = -1;
	greatest->args = list_make1(copyObject(slices->start));
	foreach(lc, slices->deadlines)
		greatest->args = lappend(greatest->args,
								 slice_start(slices, (Node *) to_utc(slices, copyObject(lfirst(lc)))));
	return (Expr *) greatest;
}

/* Adds a target that the inner query groups by; returns its number. */
static AttrNumber
add_inner_key(Slices *slices, List **targets, Expr *expr, const char *name)
{
	TargetEntry *tle = makeTargetEntry(expr, list_length(*targets) + 1, pstrdup(name), false);
	SortGroupClause *group = makeNode(SortGroupClause);
	Oid			sortop;
	bool		hashable;

	tle->ressortgroupref = list_length(*targets) + 1;
	get_sort_group_operators(exprType((Node *) expr), false, true, false,
							 &sortop, &group->eqop, NULL, &hashable);
	group->sortop = sortop;
	group->hashable = hashable;
	group->tleSortGroupRef = tle->ressortgroupref;
	slices->inner->groupClause = lappend(slices->inner->groupClause, group);
	*targets = lappend(*targets, tle);
	return tle->resno;
}

static AttrNumber
add_inner_state(List **targets, Expr *expr, const char *name)
{
	*targets = lappend(*targets, makeTargetEntry(expr, list_length(*targets) + 1, pstrdup(name), false));
	return list_length(*targets);
}

static void
remove_window(Slices *slices)
{
	Query	   *inner = slices->inner;
	List	   *kept = NIL;
	ListCell   *lc;

	foreach(lc, inner->jointree->fromlist)
	{
		RangeTblRef *ref = lfirst(lc);

		if (!IsA(ref, RangeTblRef) || ref->rtindex != slices->window)
			kept = lappend(kept, ref);
	}
	inner->jointree->fromlist = kept;
	weir_add_where(inner, weir_null_test(copyObject(linitial(slices->call->args)), IS_NOT_NULL));
}

/* --- the outer query ------------------------------------------------------------------------------ */

static Expr *
inner_var(AttrNumber attno, Expr *of)
{
	return (Expr *) makeVar(1, attno, exprType((Node *) of), exprTypmod((Node *) of),
							exprCollation((Node *) of), 0);
}

static Expr *
aggregate_over(Oid funcid, Oid type, Expr *arg, Oid collation)
{
	Aggref	   *agg = makeNode(Aggref);
	Oid			argtype = exprType((Node *) arg);

	agg->aggfnoid = funcid;
	agg->aggtype = type;
	agg->aggcollid = collation;
	agg->inputcollid = collation;
	agg->aggargtypes = list_make1_oid(argtype);
	agg->args = list_make1(makeTargetEntry(arg, 1, NULL, false));
	agg->aggkind = AGGKIND_NORMAL;
	agg->aggsplit = AGGSPLIT_SIMPLE;
	agg->aggno = agg->aggtransno = -1;
	agg->location = -1;
	return (Expr *) agg;
}

/* weir.total(bigint): the sum as bigint */
static Oid
total_function(void)
{
	Oid			type = INT8OID;

	return LookupFuncName(list_make2(makeString(WEIR_SCHEMA), makeString(pstrdup("total"))), 1, &type, false);
}

static Oid
sum_function(Oid type)
{
	switch (type)
	{
		case INT8OID:
			return total_function();
		case NUMERICOID:
			return F_SUM_NUMERIC;
		case FLOAT4OID:
			return F_SUM_FLOAT4;
		case FLOAT8OID:
			return F_SUM_FLOAT8;
		case MONEYOID:
			return F_SUM_MONEY;
		case INTERVALOID:
			return F_SUM_INTERVAL;
		default:
			return InvalidOid;
	}
}

/* Is an aggregate of aggregates the aggregate of all? min, max, bool_and ... */
static bool
merges_itself(Aggref *agg)
{
	HeapTuple	tuple = SearchSysCache1(AGGFNOID, ObjectIdGetDatum(agg->aggfnoid));
	Form_pg_aggregate form;
	bool		result;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for aggregate %u", agg->aggfnoid);
	form = (Form_pg_aggregate) GETSTRUCT(tuple);
	result = form->aggtransfn == form->aggcombinefn && !OidIsValid(form->aggfinalfn) &&
		list_length(agg->args) == 1 && linitial_oid(agg->aggargtypes) == form->aggtranstype &&
		agg->aggtype == form->aggtranstype;
	ReleaseSysCache(tuple);
	return result;
}

/* The aggregate that merges a state's slices, as a function; InvalidOid: there is none. */
static Oid
merging_function(StateColumn *state)
{
	switch (state->merge)
	{
		case MERGE_COUNT:
			return total_function();
		case MERGE_PLUS:
			return sum_function(exprType((Node *) state->partial));
		case MERGE_FUNCTION:
		case MERGE_COMBINE:
			return IsA(state->partial, Aggref) && merges_itself((Aggref *) state->partial) ?
				((Aggref *) state->partial)->aggfnoid : InvalidOid;
		default:
			return InvalidOid;
	}
}

/* A column of the window, as the outer query sees it. */
static Expr *
outer_window_column(Slices *slices, Node *column)
{
	Var		   *var = copyObject((Var *) column);

	Assert(is_window_column(slices, column));
	var->varno = 2;
	var->varnosyn = 0;
	var->varattnosyn = 0;
	return (Expr *) var;
}

/* One key or state, split into what is made inside and outside; NULL: it cannot be. */
static Expr *
split_target(Slices *slices, TargetEntry *tle, StateColumn *state, List **inner_targets)
{
	Expr	   *expr = tle->expr;
	Oid			merge;

	if (state == NULL)
	{
		if (is_window_column(slices, (Node *) expr))
			return outer_window_column(slices, (Node *) expr);
		if (mentions_window(slices, (Node *) expr))
			return NULL;
		return inner_var(add_inner_key(slices, inner_targets, copyObject(expr), tle->resname), expr);
	}
	if (mentions_window(slices, (Node *) expr))
	{
		/* max(window_end) of a final view */
		Aggref	   *agg = (Aggref *) expr;

		if (!IsA(agg, Aggref) || list_length(agg->args) != 1 || agg->aggfilter ||
			(agg->aggfnoid != F_MAX_TIMESTAMPTZ && agg->aggfnoid != F_MAX_TIMESTAMP) ||
			!is_window_column(slices, (Node *) linitial_node(TargetEntry, agg->args)->expr))
			return NULL;
		return aggregate_over(agg->aggfnoid, agg->aggtype,
							  outer_window_column(slices, (Node *) linitial_node(TargetEntry, agg->args)->expr), InvalidOid);
	}
	merge = merging_function(state);
	if (!OidIsValid(merge))
		return NULL;
	return aggregate_over(merge, exprType((Node *) expr),
						  inner_var(add_inner_state(inner_targets, copyObject(expr), tle->resname), expr),
						  exprCollation((Node *) expr));
}

static bool
is_group_key(Query *query, TargetEntry *tle)
{
	ListCell   *lc;

	foreach(lc, query->groupClause)
	{
		if (tle->ressortgroupref != 0 && lfirst_node(SortGroupClause, lc)->tleSortGroupRef == tle->ressortgroupref)
			return true;
	}
	return false;
}

/* The select lists of both queries. */
static bool
split_targets(Slices *slices, ViewShape *shape)
{
	Query	   *partial = shape->partial;
	List	   *inner_targets = NIL;
	List	   *outer_targets = NIL;
	int			nstates = 0;
	ListCell   *lc;

	slices->inner->groupClause = NIL;
	slices->start_column = add_inner_key(slices, &inner_targets, slices->start, "slice");
	if (slices->deadlines)
		slices->deadline_column = add_inner_key(slices, &inner_targets, deadline_key(slices), "deadline");
	foreach(lc, partial->targetList)
	{
		TargetEntry *tle = lfirst(lc);
		StateColumn *state = is_group_key(partial, tle) ? NULL : list_nth(shape->states, nstates++);
		TargetEntry *outer = flatCopyTargetEntry(tle);

		outer->expr = split_target(slices, tle, state, &inner_targets);
		if (outer->expr == NULL)
			return false;
		outer_targets = lappend(outer_targets, outer);
	}
	slices->inner->targetList = inner_targets;
	slices->inner->hasAggs = contain_aggs_of_level((Node *) inner_targets, 0);
	slices->outer->targetList = outer_targets;
	slices->outer->groupClause = copyObject(partial->groupClause);
	return true;
}

/* The window function, called with the slice. */
static RangeTblEntry *
window_item(Slices *slices)
{
	RangeTblEntry *rte = copyObject(rt_fetch(slices->window, slices->inner->rtable));
	FuncExpr   *call = weir_window_call(rte);

	linitial(call->args) = inner_var(slices->start_column, slices->start);
	rte->lateral = true;
	return rte;
}

/* Window columns in late.c's conditions stand for the outer query's now. */
static Node *
renumber_mutator(Node *node, Slices *slices)
{
	if (node == NULL)
		return NULL;
	if (is_window_column(slices, node))
		return (Node *) outer_window_column(slices, node);
	return expression_tree_mutator(node, renumber_mutator, slices);
}

static void
finish_outer(Slices *slices)
{
	Query	   *outer = slices->outer;
	List	   *quals = (List *) renumber_mutator((Node *) slices->outer_quals, slices);
	RangeTblRef *refs[2];

	if (slices->deadline_column)
	{
		Expr	   *end = (Expr *) makeVar(2, 2, slices->type, -1, InvalidOid, 0);
		Expr	   *over = make_opclause(OpernameGetOprid(list_make2(makeString("pg_catalog"), makeString("<=")),
														  slices->type, slices->type),
										 BOOLOID, false, end, inner_var(slices->deadline_column, slices->start),
										 InvalidOid, InvalidOid);

		quals = lappend(quals, weir_boolean_test(over, IS_NOT_TRUE));
	}
	outer->rtable = list_make2(weir_subquery_entry(slices->inner, "weir_slices"), window_item(slices));
	for (int i = 0; i < 2; i++)
	{
		refs[i] = makeNode(RangeTblRef);
		refs[i]->rtindex = i + 1;
	}
	outer->jointree = makeFromExpr(list_make2(refs[0], refs[1]),
								   quals == NIL ? NULL : (Node *) make_ands_explicit(quals));
}

/*
 * weir_slices_make gives a shape whose windows overlap a partial query that goes by
 * slices, where that is possible.
 */
void
weir_slices_make(ViewShape *shape)
{
	Slices		slices = {0};

	if (!shape->grouped || shape->partial == NULL || shape->partial->groupingSets ||
		shape->partial->setOperations || shape->partial->havingQual ||
		(!shape->partial->hasAggs && shape->partial->groupClause == NIL))
		return;
	slices.inner = copyObject(shape->partial);
	if (!find_window(&slices) || window_feeds_others(&slices) || !split_quals(&slices))
		return;
	slices.start = slice_start(&slices, copyObject(linitial(slices.call->args)));
	slices.outer = makeNode(Query);
	slices.outer->commandType = CMD_SELECT;
	slices.outer->canSetTag = true;
	if (!split_targets(&slices, shape))
		return;
	slices.outer->hasAggs = slices.inner->hasAggs || shape->partial->hasAggs;
	finish_outer(&slices);
	remove_window(&slices);
	shape->partial = slices.outer;
	shape->why = psprintf("%s; rows are aggregated into slices of %s, these into windows", shape->why,
						  DatumGetCString(DirectFunctionCall1(interval_out, IntervalPGetDatum(slices.slice))));
}
