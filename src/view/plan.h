/*
 * plan.h
 *	  The kept plans of a view's statements: between plan.c and apply.c.
 */
#ifndef WEIR_PLAN_H
#define WEIR_PLAN_H

#include "weir.h"
#include "catalog/view.h"
#include "nodes/plannodes.h"
#include "utils/queryenvironment.h"
#include "view/session.h"
#include "view/shape.h"

#define PLAN_SIZES 4			/* classes of deltas, by their number of rows */

typedef struct ViewPlan
{
	MemoryContext cxt;
	bool		valid;
	int			in_use;			/* a trigger may insert into the view's own stream */
	bool		orphaned;		/* replaced while in use: whoever uses it frees it */
	uint64		catalog_version;
	bool		exclusive;		/* writers take turns */
	bool		passes;			/* rows of the view are not stored */
	char	   *text;			/* for log and statistics: not what is run */
	List	   *streams;
	Query	   *tree;			/* rewritten; NULL: nothing to do before windows close */
	Query	   *whole;			/* of a view that joins streams: merges all rows of all streams; NULL: tree does */
	Query	   *all;			/* of a view over views that change, or NULL */
	Query	   *clear;			/* of one that takes back what goes there (retract.c), or NULL; states too */
	Query	   *states;
	Query	   *empty;			/* or NULL */
	RetractStatements *retract; /* or NULL */
	Query	   *late;			/* finds late rows; NULL: none can be late */
	Query	   *close;			/* of a final view: closes windows */
	Query	   *next;			/* of one that is run at close, or NULL */
	Query	   *remember;		/* behind close, or NULL (over_memory.c) */
	Interval	span;
	PlannedStmt *next_plans[PLAN_SIZES];
	PlannedStmt *remember_plans[PLAN_SIZES];
	PlannedStmt *plans[PLAN_SIZES];
	PlannedStmt *whole_plans[PLAN_SIZES];
	PlannedStmt *all_plans[PLAN_SIZES];
	PlannedStmt *clear_plans[PLAN_SIZES];
	PlannedStmt *states_plans[PLAN_SIZES];
	PlannedStmt *empty_plans[PLAN_SIZES];
	PlannedStmt *changes_plans[PLAN_SIZES];
	PlannedStmt *lost_plans[PLAN_SIZES];
	PlannedStmt *set_plans[PLAN_SIZES];
	PlannedStmt *close_plans[PLAN_SIZES];
	PlannedStmt *late_plans[PLAN_SIZES];
	SessionStatements *sessions;	/* of a view over sessions, or NULL */
	PlannedStmt *source_plans[PLAN_SIZES];
	PlannedStmt *absorb_plans[PLAN_SIZES];
	PlannedStmt *gone_plans[PLAN_SIZES];
	PlannedStmt *shadow_plans[PLAN_SIZES];
	PlannedStmt *purge_plans[PLAN_SIZES];
	PlannedStmt *keep_plans[PLAN_SIZES];
	PlannedStmt *free_plans[PLAN_SIZES];
	TimestampTz purged;			/* closed sessions were forgotten up to there */
	List	   *locks;			/* of RelationLock */
	List	   *relids;			/* of Oid: relations whose change makes it invalid */
	List	   *items;			/* of PlanInvalItem: functions and types */
} ViewPlan;

/*
 * weir_plan_current finds or builds the statements of a view, with all locks held and valid under
 * them. Who uses it counts itself in in_use, and gives it back by weir_plan_release.
 */
extern ViewPlan *weir_plan_current(View *view);
extern void weir_plan_release(ViewPlan *plan);

/*
 * weir_plan_for_size returns the plan of one of the trees for a delta of this size; made under the
 * view's settings, with its user functions' search_path. plans: where the tree's plans are kept.
 */
extern PlannedStmt *weir_plan_for_size(ViewPlan *plan, Query *tree, PlannedStmt **plans, int64 nrows);

/* The same, by indexes only: whatever the planner thinks of a table that was small once. */
extern PlannedStmt *weir_plan_by_index(ViewPlan *plan, Query *tree, PlannedStmt **plans, int64 nrows);

/* The same with any joins, but no scan of a whole table that has an index. */
extern PlannedStmt *weir_plan_no_scan(ViewPlan *plan, Query *tree, PlannedStmt **plans, int64 nrows);

/* Planned for this call alone, for so many rows: what takes longer than planning. In the caller's memory. */
extern PlannedStmt *weir_plan_once(ViewPlan *plan, Query *tree, double nrows);

/* retract_run.c */
extern uint64 weir_retract_run(ViewPlan *plan, QueryEnvironment *env, int64 nrows);

#endif							/* WEIR_PLAN_H */
