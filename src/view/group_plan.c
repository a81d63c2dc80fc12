/*
 * group_plan.c
 *	  Which HashAggregates of a plan can be run by group.c.
 *
 * planner ⇒ this ⇒ the view's kept plan. Works on finished plans: an Agg node
 * over the bare scan of a delta becomes a custom node that does the work of
 * both, if
 *	- equal keys are the same bytes (the operator class says so: integers,
 *	  times, uuid, text with a deterministic collation ...; not numeric, floats, citext),
 *	- group_step.c knows all its aggregates, plain ones without DISTINCT or ORDER BY,
 *	- no expression is volatile or has a parameter or sub-plan, since a part of
 *	  the rows may be computed twice (group.c).
 * All others stay as they are.
 */
#include "postgres.h"

#include "access/nbtree.h"
#include "catalog/pg_aggregate.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "miscadmin.h"
#include "delta/delta.h"
#include "nodes/extensible.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"
#include "view/group.h"
#include "view/shape.h"

#ifdef HAVE_INT128

typedef struct Grouping
{
	Agg		   *agg;
	CustomScan *scan;			/* below it: of the delta */
	List	   *keys;			/* expressions over the delta's columns */
	List	   *calls;			/* Aggrefs over the delta's columns */
	List	   *aggrefs;		/* the same as they stand in agg */
	bool		refused;
} Grouping;

/* An expression over the scan's output as one over the delta's columns. */
static Node *
over_delta_mutator(Node *node, Grouping *grouping)
{
	if (node == NULL)
		return NULL;
	if (IsA(node, Var))
	{
		Var		   *var = (Var *) node;
		List	   *targets = grouping->scan->scan.plan.targetlist;

		if (var->varno == OUTER_VAR && var->varattno > 0 && var->varattno <= list_length(targets))
			return copyObject((Node *) list_nth_node(TargetEntry, targets, var->varattno - 1)->expr);
		grouping->refused = true;
		return node;
	}
	return expression_tree_mutator(node, over_delta_mutator, grouping);
}

/* May the expression be computed twice, at any time? */
static bool
has_state(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Param) || IsA(node, SubPlan) || IsA(node, AlternativeSubPlan))
		return true;
	return expression_tree_walker(node, has_state, context);
}

static void
check_pure(Grouping *grouping, Node *node)
{
	if (has_state(node, NULL) || contain_volatile_functions(node))
		grouping->refused = true;
}

static void
take_keys(Grouping *grouping)
{
	Agg		   *agg = grouping->agg;

	for (int i = 0; i < agg->numCols; i++)
	{
		Expr	   *key = list_nth_node(TargetEntry, grouping->scan->scan.plan.targetlist,
										agg->grpColIdx[i] - 1)->expr;

		if (!weir_equal_is_same(exprType((Node *) key), agg->grpCollations[i], agg->grpOperators[i]))
			grouping->refused = true;
		check_pure(grouping, (Node *) key);
		grouping->keys = lappend(grouping->keys, copyObject(key));
	}
}

/* The number of a call in the node's output, which has the keys first. */
static int
take_call(Grouping *grouping, Aggref *aggref)
{
	Oid			function;
	Aggref	   *call;
	int			i = 0;
	ListCell   *lc;

	foreach(lc, grouping->aggrefs)
	{
		if (equal(lfirst(lc), aggref))
			return i;
		i++;
	}
	if (aggref->aggkind != AGGKIND_NORMAL || aggref->aggdistinct || aggref->aggorder ||
		aggref->aggdirectargs || aggref->aggvariadic || aggref->agglevelsup > 0 ||
		aggref->aggsplit != AGGSPLIT_SIMPLE || weir_group_step(aggref, &function) == STEP_NONE)
		grouping->refused = true;
	call = copyObject(aggref);
	call->args = (List *) over_delta_mutator((Node *) aggref->args, grouping);
	call->aggfilter = (Expr *) over_delta_mutator((Node *) aggref->aggfilter, grouping);
	check_pure(grouping, (Node *) call->args);
	check_pure(grouping, (Node *) call->aggfilter);
	grouping->aggrefs = lappend(grouping->aggrefs, aggref);
	grouping->calls = lappend(grouping->calls, call);
	return i;
}

/* A target of the Agg as an expression over keys and calls. */
static Node *
over_groups_mutator(Node *node, Grouping *grouping)
{
	int			number = -1;

	if (node == NULL)
		return NULL;
	if (IsA(node, Aggref))
		number = list_length(grouping->keys) + take_call(grouping, (Aggref *) node);
	else if (IsA(node, Var))
	{
		for (int i = 0; i < grouping->agg->numCols; i++)
		{
			if (((Var *) node)->varno == OUTER_VAR && ((Var *) node)->varattno == grouping->agg->grpColIdx[i])
				number = i;
		}
		if (number < 0)
			grouping->refused = true;
	}
	else if (has_state(node, NULL))
		grouping->refused = true;
	if (number >= 0)
		return (Node *) makeVar(INDEX_VAR, number + 1, exprType(node), exprTypmod(node), exprCollation(node), 0);
	return expression_tree_mutator(node, over_groups_mutator, grouping);
}

/* An expression over the delta's columns with Vars as the query has them: EXPLAIN looks no further down. */
static Node *
over_query_mutator(Node *node, Grouping *grouping)
{
	if (node == NULL)
		return NULL;
	if (IsA(node, Var))
	{
		Assert(((Var *) node)->varno == INDEX_VAR);
		return copyObject((Node *) list_nth_node(TargetEntry, grouping->scan->custom_scan_tlist,
												 ((Var *) node)->varattno - 1)->expr);
	}
	return expression_tree_mutator(node, over_query_mutator, grouping);
}

/* What the node computes, for its tuple descriptor and for EXPLAIN. */
static List *
group_columns(Grouping *grouping)
{
	List	   *all = list_concat_copy(grouping->keys, grouping->calls);
	List	   *targets = NIL;
	ListCell   *lc;

	foreach(lc, all)
		targets = lappend(targets, makeTargetEntry((Expr *) over_query_mutator(lfirst(lc), grouping),
												   list_length(targets) + 1, NULL, false));
	return targets;
}

static bool
is_candidate(Plan *plan)
{
	Agg		   *agg = (Agg *) plan;
	Plan	   *below;

	if (!IsA(plan, Agg) || agg->aggsplit != AGGSPLIT_SIMPLE ||
		!(agg->aggstrategy == AGG_HASHED || (agg->aggstrategy == AGG_PLAIN && agg->numCols == 0)) ||
		agg->groupingSets || agg->chain || plan->qual || plan->initPlan || !bms_is_empty(agg->aggParams))
		return false;
	below = outerPlan(plan);
	return below && IsA(below, CustomScan) && below->initPlan == NIL &&
		weir_is_delta_scan((CustomScan *) below);
}

/* The node in the place of an Agg, or NULL. */
static Plan *
make_group(Plan *plan)
{
	Grouping	grouping = {.agg = (Agg *) plan,.scan = (CustomScan *) outerPlan(plan)};
	CustomScan *group;
	List	   *targets;

	take_keys(&grouping);
	check_pure(&grouping, (Node *) grouping.scan->scan.plan.qual);
	targets = (List *) over_groups_mutator((Node *) plan->targetlist, &grouping);
	if (grouping.refused)
		return NULL;
	group = makeNode(CustomScan);
	group->scan.plan = *plan;
	group->scan.plan.type = T_CustomScan;
	group->scan.plan.targetlist = targets;
	group->scan.plan.lefttree = NULL;
	group->flags = CUSTOMPATH_SUPPORT_PROJECTION;
	group->custom_plans = list_make1(plan);
	group->custom_scan_tlist = group_columns(&grouping);
	group->custom_exprs = list_make3(grouping.keys, grouping.calls,
									 copyObject(grouping.scan->scan.plan.qual));
	group->custom_private = list_make1(copyObject(linitial(grouping.scan->custom_private)));
	group->methods = &weir_group_methods;
	return (Plan *) group;
}

static Plan *replace(Plan *plan);

static void
replace_all(List *plans)
{
	ListCell   *lc;

	foreach(lc, plans)
		lfirst(lc) = replace(lfirst(lc));
}

static Plan *
replace(Plan *plan)
{
	Plan	   *group;

	if (plan == NULL)
		return NULL;
	check_stack_depth();
	if (is_candidate(plan) && (group = make_group(plan)) != NULL)
		return group;
	plan->lefttree = replace(plan->lefttree);
	plan->righttree = replace(plan->righttree);
	if (IsA(plan, Append))
		replace_all(((Append *) plan)->appendplans);
	else if (IsA(plan, MergeAppend))
		replace_all(((MergeAppend *) plan)->mergeplans);
	else if (IsA(plan, SubqueryScan))
		((SubqueryScan *) plan)->subplan = replace(((SubqueryScan *) plan)->subplan);
	return plan;
}

#endif							/* HAVE_INT128 */

/* weir_group_replace changes a finished plan in place. */
void
weir_group_replace(PlannedStmt *stmt)
{
#ifdef HAVE_INT128
	stmt->planTree = replace(stmt->planTree);
	replace_all(stmt->subplans);
#endif
}

/* weir_group_init is called once per process, from _PG_init. */
void
weir_group_init(void)
{
#ifdef HAVE_INT128
	RegisterCustomScanMethods(&weir_group_methods);
#endif
}
