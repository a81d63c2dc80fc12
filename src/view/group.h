/*
 * group.h
 *	  Aggregating a delta without the executor's Agg node: shared by group*.c.
 *
 * The planner makes HashAggregate over the scan of a delta; group_plan.c puts a
 * custom node into its place, where it knows keys and aggregates by heart;
 * group.c runs it; group_step.c holds the steps of aggregates. The
 * HashAggregate stays below it as the way out: whatever is unusual at run time
 * makes the node drop what it has and run that instead.
 */
#ifndef WEIR_GROUP_H
#define WEIR_GROUP_H

#include "weir.h"
#include "fmgr.h"
#include "nodes/extensible.h"
#include "nodes/execnodes.h"
#include "nodes/plannodes.h"

/* What an aggregate does with a value. */
typedef enum GroupStep
{
	STEP_NONE,					/* not known here */
	STEP_COUNT,					/* count(*), count(x) */
	STEP_SUM_INT2,				/* sum(int2) and sum(int4): an int8 */
	STEP_SUM_INT4,
	STEP_SUM_INT8,				/* a numeric */
	STEP_SUM_NUMERIC,
	STEP_FUNCTION				/* state = function(state, x), the first x being the first state */
} GroupStep;

#ifdef HAVE_INT128

/* An aggregate's state in a group. */
typedef struct GroupValue
{
	union
	{
		int128		sum;		/* of numeric: times WEIR_FIXED_ONE */
		Datum		value;		/* of STEP_FUNCTION */
	}			u;
	int64		count;			/* values taken in */
	int			scale;			/* of numeric: the largest display scale seen */
} GroupValue;

typedef struct GroupCall
{
	GroupStep	step;
	int			column;			/* the argument, a column of the delta; -1: expr or none */
	ExprState  *expr;
	ExprState  *filter;			/* NULL: takes all rows */
	FmgrInfo	function;		/* STEP_FUNCTION */
	FunctionCallInfo fcinfo;
	bool		typbyval;		/* of the state */
	int16		typlen;
} GroupCall;

/* group_step.c */
extern GroupStep weir_group_step(Aggref *aggref, Oid *function);
extern bool weir_group_advance(GroupCall *call, GroupValue *state, Datum value, MemoryContext cxt);
extern Datum weir_group_result(GroupCall *call, GroupValue *state, bool *isnull);

/* group.c */
extern const CustomScanMethods weir_group_methods;

#endif							/* HAVE_INT128 */

/* What group_plan.c leaves in CustomScan.custom_private and custom_exprs, in this order. */
#define GROUP_PRIVATE_NAME	0	/* of the delta's ephemeral relation */
#define GROUP_EXPRS_KEYS	0
#define GROUP_EXPRS_CALLS	1	/* Aggrefs over the delta's columns */
#define GROUP_EXPRS_QUAL	2	/* which rows of the delta */

/* group_plan.c */
extern void weir_group_replace(PlannedStmt *stmt);

#endif							/* WEIR_GROUP_H */
