/*
 * scan.c
 *	  Deltas in queries: an ephemeral named relation, and the plan node that reads it.
 *
 * delta ⇒ this ⇒ executor. A query refers to a delta as to any ephemeral
 * named relation. Its reldata is the Delta itself, not a tuplestore, so the
 * planner's scan of tuplestores is replaced by a custom scan that hands out the
 * delta's arrays of values as they are, without forming or taking apart a tuple.
 *
 * The planner hook runs in every backend for every relation: it looks at
 * ephemeral relations with weir's names only, and among those only at ones
 * that belong to no table, which transition tables do.
 */
#include "delta/delta.h"

#include "compat.h"
#include "executor/executor.h"
#include "nodes/extensible.h"
#include "nodes/makefuncs.h"
#include "optimizer/pathnode.h"
#include "optimizer/paths.h"
#include "optimizer/restrictinfo.h"
#include "parser/parsetree.h"

typedef struct DeltaScanState
{
	CustomScanState css;
	DeltaCursor cursor;
	bool		lend;			/* the slot's arrays are the row's own */
} DeltaScanState;

static set_rel_pathlist_hook_type previous_pathlist = NULL;

/* ---- the ephemeral relation ---- */

EphemeralNamedRelation
weir_delta_relation(char *name, Delta *delta)
{
	EphemeralNamedRelation enr = palloc0(sizeof(EphemeralNamedRelationData));

	enr->md.name = name;
	enr->md.reliddesc = InvalidOid;
	enr->md.enrtype = ENR_NAMED_TUPLESTORE;
	enr->md.tupdesc = delta->desc;
	enr->md.enrtuples = (double) delta->nrows;
	enr->reldata = delta;
	return enr;
}

Delta *
weir_delta_find(QueryEnvironment *env, const char *name)
{
	EphemeralNamedRelation enr = get_ENR(env, name);
	Delta	   *delta = enr ? enr->reldata : NULL;

	if (delta == NULL || OidIsValid(enr->md.reliddesc) || delta->magic != WEIR_DELTA_MAGIC)
		elog(ERROR, "ephemeral relation \"%s\" is no delta", name);
	return delta;
}

static bool
is_delta(const RangeTblEntry *rte)
{
	return rte->rtekind == RTE_NAMEDTUPLESTORE && !OidIsValid(rte->relid) &&
		(strncmp(rte->enrname, WEIR_DELTA_PREFIX, strlen(WEIR_DELTA_PREFIX)) == 0 ||
		 strncmp(rte->enrname, WEIR_BATCH_PREFIX, strlen(WEIR_BATCH_PREFIX)) == 0);
}

/* ---- planning ---- */

/* All columns of a delta, in order: so a row's values are the scan's slot. */
static List *
scan_columns(Index varno, RangeTblEntry *rte)
{
	List	   *targets = NIL;
	ListCell   *type,
			   *typmod,
			   *collation;
	AttrNumber	attno = 0;

	forthree(type, rte->coltypes, typmod, rte->coltypmods, collation, rte->colcollations)
	{
		Var		   *var;

		attno++;
		var = makeVar(varno, attno, lfirst_oid(type), lfirst_int(typmod), lfirst_oid(collation), 0);
		targets = lappend(targets, makeTargetEntry((Expr *) var, attno,
												   pstrdup(strVal(list_nth(rte->eref->colnames, attno - 1))), false));
	}
	return targets;
}

static Node *create_scan_state(CustomScan *scan);

static const CustomScanMethods scan_methods = {
	.CustomName = "WeirDeltaScan",
	.CreateCustomScanState = create_scan_state,
};

static Plan *
plan_scan(PlannerInfo *root, RelOptInfo *rel, CustomPath *path, List *targets,
		  List *clauses, List *custom_plans)
{
	RangeTblEntry *rte = planner_rt_fetch(rel->relid, root);
	CustomScan *scan = makeNode(CustomScan);

	scan->scan.plan.targetlist = targets;
	scan->scan.plan.qual = extract_actual_clauses(clauses, false);
	scan->scan.scanrelid = 0;	/* there is no table to open */
	scan->flags = path->flags;
	scan->custom_scan_tlist = scan_columns(rel->relid, rte);
	scan->custom_private = list_make1(makeString(pstrdup(rte->enrname)));
	scan->methods = &scan_methods;
	return &scan->scan.plan;
}

static const CustomPathMethods path_methods = {
	.CustomName = "WeirDeltaScan",
	.PlanCustomPath = plan_scan,
};

bool
weir_is_delta_scan(CustomScan *scan)
{
	return scan->methods == &scan_methods;
}

/* Puts our scan in the place of the scan of a tuplestore. */
static void
replace_path(PlannerInfo *root, RelOptInfo *rel, Index rti, RangeTblEntry *rte)
{
	CustomPath *path;

	if (previous_pathlist)
		previous_pathlist(root, rel, rti, rte);
	if (!is_delta(rte) || rel->pathlist == NIL ||
		((Path *) linitial(rel->pathlist))->pathtype != T_NamedTuplestoreScan)
		return;					/* or it was proved empty */
	path = makeNode(CustomPath);
	path->path = *(Path *) linitial(rel->pathlist);
	path->path.type = T_CustomPath;
	path->path.pathtype = T_CustomScan;
	path->flags = CUSTOMPATH_SUPPORT_PROJECTION;
	path->methods = &path_methods;
	rel->pathlist = list_make1(path);
}

/* ---- running ---- */

static TupleTableSlot *
next_row(ScanState *node)
{
	DeltaScanState *state = (DeltaScanState *) node;
	TupleTableSlot *slot = node->ss_ScanTupleSlot;
	int			natts = slot->tts_tupleDescriptor->natts;
	Datum	   *values;
	bool	   *isnull;

	if (!weir_delta_next(&state->cursor, &values, &isnull))
		return ExecClearTuple(slot);
	if (state->lend)
	{
		slot->tts_values = values;
		slot->tts_isnull = isnull;
	}
	else
	{
		memcpy(slot->tts_values, values, natts * sizeof(Datum));
		memcpy(slot->tts_isnull, isnull, natts * sizeof(bool));
	}
	slot->tts_flags &= ~TTS_FLAG_EMPTY;
	slot->tts_nvalid = natts;
	return slot;
}

/* A plan that is run again for one row of another relation reads all of the delta again. */
static bool
recheck_row(ScanState *node, TupleTableSlot *slot)
{
	return !TupIsNull(next_row(node));
}

static TupleTableSlot *
exec_scan(CustomScanState *node)
{
	return ExecScan(&node->ss, next_row, recheck_row);
}

static void
begin_scan(CustomScanState *node, EState *estate, int eflags)
{
	CustomScan *scan = (CustomScan *) node->ss.ps.plan;

	DeltaScanState *state = (DeltaScanState *) node;

	weir_delta_open(&state->cursor,
					weir_delta_find(estate->es_queryEnv, strVal(linitial(scan->custom_private))));

	/* Without a projection the slot goes to the node above, which may write to it (ExecMaterializeSlot). */
	state->lend = node->ss.ps.ps_ProjInfo != NULL;
}

static void
end_scan(CustomScanState *node)
{
	weir_delta_close(&((DeltaScanState *) node)->cursor);
}

static void
rescan(CustomScanState *node)
{
	ExecScanReScan(&node->ss);
	weir_delta_rewind(&((DeltaScanState *) node)->cursor);
}

static const CustomExecMethods exec_methods = {
	.CustomName = "WeirDeltaScan",
	.BeginCustomScan = begin_scan,
	.ExecCustomScan = exec_scan,
	.EndCustomScan = end_scan,
	.ReScanCustomScan = rescan,
};

static Node *
create_scan_state(CustomScan *scan)
{
	DeltaScanState *state = palloc0(sizeof(DeltaScanState));

	NodeSetTag(state, T_CustomScanState);
	state->css.methods = &exec_methods;
	return (Node *) state;
}

/* weir_delta_scan_init is called once per process, from _PG_init. */
void
weir_delta_scan_init(void)
{
	RegisterCustomScanMethods(&scan_methods);
	previous_pathlist = set_rel_pathlist_hook;
	set_rel_pathlist_hook = replace_path;
}
