/*
 * states.h
 *	  Aggregates of a view and the states they go on from: shared by shape.c, aggregates.c and states.c.
 */
#ifndef WEIR_STATES_H
#define WEIR_STATES_H

#include "view/shape.h"

/* What pg_aggregate says, as far as merging is concerned. */
typedef struct MergeInfo
{
	Oid			transfn;
	Oid			finalfn;
	Oid			combinefn;
	Oid			serialfn;
	Oid			transtype;		/* resolved */
	bool		polymorphic;	/* state or arguments depend on the call */
} MergeInfo;

typedef struct ShapeContext
{
	ViewShape  *shape;
	int			sublevels_up;
} ShapeContext;

/* aggregates.c */
extern void weir_aggregate_read(Aggref *agg, MergeInfo *info);
extern bool weir_aggregate_in_place(Aggref *agg, MergeKind *merge);
extern bool weir_aggregate_single(Aggref *agg);

/* states.c */
extern Expr *weir_merged_var(ShapeContext *context, Expr *partial, int column);
extern Expr *weir_merged_state(ShapeContext *context, Expr *partial, MergeKind merge, Oid agg);
extern Node *weir_final_mutator(Node *node, ShapeContext *context);
extern Const *weir_aggregate_const(Oid agg);
extern Oid weir_function_named(const char *name, int nargs, Oid *types);

/* retract.c */
extern bool weir_retract_is_extreme(Aggref *agg, bool *least);
extern Oid	weir_retract_numeric(Oid agg, bool *squares);

/* retract_states.c */
extern Expr *weir_retract_result(ShapeContext *context, Aggref *agg);

#endif							/* WEIR_STATES_H */
