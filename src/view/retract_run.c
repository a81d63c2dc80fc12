/*
 * retract_run.c
 *	  What came and went in the views below, merged into the states of its groups.
 *
 * apply ⇒ retract_run ⇒ the view's tables. One statement, unless the view has min or max by keys. Then:
 *	  changes: net states of the groups that the batch touches, into weir_changes
 *	  lost:	   keys of those whose least or greatest value went and is not known any more, into weir_lost
 *	  found:   that value of all of them together, from the tables below, into weir_found
 *	  set:	   UPDATE of the states by it
 *	  merge:   the maintenance statement, over weir_changes
 * The third is planned each time, for as many groups as there are: a few are looked up by an index, if there is one on the
 * key, for many the tables below are read once. The last three are run only if a value was lost.
 *
 * The caller has the turn (weir_run_take_turn). Memory: tuplestores that spill.
 */
#include "postgres.h"

#include "executor/executor.h"
#include "executor/tstoreReceiver.h"
#include "miscadmin.h"
#include "view/measure.h"
#include "view/plan.h"
#include "view/shape.h"

/* Runs a query, and registers its rows under a name. */
static Tuplestorestate *
run_into(PlannedStmt *planned, const char *text, QueryEnvironment *env, char *name)
{
	Tuplestorestate *rows = tuplestore_begin_heap(true, false, work_mem);
	DestReceiver *dest = CreateTuplestoreDestReceiver();
	EphemeralNamedRelation enr = palloc0(sizeof(EphemeralNamedRelationData));

	SetTuplestoreDestReceiverParams(dest, rows, CurrentMemoryContext, false, NULL, NULL);
	(void) weir_run_plan_newest(planned, text, env, dest);
	enr->md.name = name;
	enr->md.reliddesc = InvalidOid;
	enr->md.enrtype = ENR_NAMED_TUPLESTORE;
	enr->md.tupdesc = ExecCleanTypeFromTL(planned->planTree->targetlist);
	enr->md.enrtuples = (double) tuplestore_tuple_count(rows);
	enr->reldata = rows;
	register_ENR(env, enr);
	return rows;
}

/* Brings the states of groups that lost their least or greatest value up to date. */
static void
look_up_extremes(ViewPlan *plan, QueryEnvironment *env)
{
	RetractStatements *retract = plan->retract;
	Tuplestorestate *lost;
	Tuplestorestate *found;

	weir_measure_part("groups that lost their extreme", false);
	lost = run_into(weir_plan_by_index(plan, retract->lost, plan->lost_plans, 0), plan->text, env, WEIR_LOST_GROUPS);
	if (tuplestore_tuple_count(lost) > 0)
	{
		weir_measure_part("extremes looked up", false);
		found = run_into(weir_plan_once(plan, retract->found, (double) tuplestore_tuple_count(lost)), plan->text, env, WEIR_FOUND);
		(void) weir_run_plan_newest(weir_plan_by_index(plan, retract->set, plan->set_plans, 0), plan->text, env, None_Receiver);
		tuplestore_end(found);
	}
	tuplestore_end(lost);
}

/* weir_retract_run returns the number of rows of the view that changed; env: with the deltas, of nrows rows. */
uint64
weir_retract_run(ViewPlan *plan, QueryEnvironment *env, int64 nrows)
{
	Tuplestorestate *changes = NULL;
	uint64		changed;

	if (plan->retract)
	{
		weir_measure_part("groups that changed", false);
		changes = run_into(weir_plan_for_size(plan, plan->retract->changes, plan->changes_plans, nrows), plan->text, env, WEIR_CHANGES);
		look_up_extremes(plan, env);
	}
	weir_measure_part("statement", true);
	changed = weir_run_plan_newest(weir_plan_by_index(plan, plan->tree, plan->plans, nrows), plan->text, env, None_Receiver);
	if (plan->empty)
	{
		weir_measure_part("groups without rows", false);
		(void) weir_run_plan_newest(weir_plan_by_index(plan, plan->empty, plan->empty_plans, 0), plan->text, env, None_Receiver);
	}
	if (changes)
		tuplestore_end(changes);
	return changed;
}
