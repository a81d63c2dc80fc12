/*
 * rules.c
 *	  Defaults, stored generated columns, NOT NULL and CHECK constraints of a stream's table.
 *
 * decode.c asks for the defaults of columns that a message does not have and
 * lets the finished row be checked, as an INSERT would. Constant defaults are
 * computed once; all others (clock_timestamp(), sequences) per row.
 * Expressions run in CurrentMemoryContext, which the caller resets per row,
 * as the current user, whom decode.c has made the stream's owner.
 */
#include "decode/rules.h"

#include "access/tupdesc.h"
#include "compat.h"
#include "executor/executor.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "rewrite/rewriteHandler.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

typedef struct ColumnRule
{
	AttrNumber	attnum;
	char	   *name;
	bool		not_null;
	bool		generated;
	bool		asks_domain;	/* no default, but a domain that may refuse NULL */
	ExprState  *expression;		/* of the default or the generated column; NULL: constant */
	Datum		constant;
	bool		constant_isnull;
} ColumnRule;

typedef struct CheckRule
{
	char	   *name;
	ExprState  *expression;
} CheckRule;

struct RowRules
{
	DecodeRun  *run;
	EState	   *estate;
	ExprContext *econtext;
	char	   *relation;
	int			ncolumns;
	ColumnRule *columns;
	int			nchecks;
	CheckRule  *checks;
	bool		any_not_null;
	bool		any_generated;
	TupleDesc	desc;			/* the table's, dropped columns included */
	TupleTableSlot *slot;		/* NULL: no expression refers to columns */
};

/* Sets up a default or a generation expression. */
static void
prepare_column(RowRules *rules, ColumnRule *column, Relation rel, Form_pg_attribute att)
{
	Expr	   *expression = (Expr *) build_column_default(rel, att->attnum);

	column->constant_isnull = true;
	if (expression == NULL)
	{
		column->asks_domain = get_typtype(att->atttypid) == TYPTYPE_DOMAIN;
		return;
	}
	expression = expression_planner(expression);
	if (IsA(expression, Const))
	{
		Const	   *constant = (Const *) expression;

		column->constant_isnull = constant->constisnull;
		if (!constant->constisnull)
			column->constant = datumCopy(constant->constvalue, constant->constbyval, constant->constlen);
		if (!column->generated)
			return;
	}
	column->expression = ExecInitExpr(expression, NULL);
	rules->run->runs_code = true;
}

static void
prepare_checks(RowRules *rules, TupleConstr *constr)
{
	if (constr == NULL || constr->num_check == 0)
		return;
	rules->run->runs_code = true;
	rules->checks = palloc0(constr->num_check * sizeof(CheckRule));
	for (int i = 0; i < constr->num_check; i++)
	{
		ConstrCheck *check = &constr->check[i];

		if (!weir_compat_check_enforced(check))
			continue;
		rules->checks[rules->nchecks].name = pstrdup(check->ccname);
		rules->checks[rules->nchecks].expression =
			ExecPrepareExpr((Expr *) stringToNode(check->ccbin), rules->estate);
		rules->nchecks++;
	}
}

RowRules *
weir_rules_create(DecodeRun *run, Relation rel)
{
	MemoryContext old = MemoryContextSwitchTo(run->cxt);
	TupleDesc	desc = RelationGetDescr(rel);
	RowRules   *rules = palloc0(sizeof(RowRules));

	rules->run = run;
	rules->relation = pstrdup(RelationGetRelationName(rel));
	rules->estate = CreateExecutorState();
	rules->econtext = GetPerTupleExprContext(rules->estate);
	rules->columns = palloc0((desc->natts + 1) * sizeof(ColumnRule));
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);
		ColumnRule *column = &rules->columns[rules->ncolumns];

		if (att->attisdropped)
			continue;
		column->attnum = att->attnum;
		column->name = pstrdup(NameStr(att->attname));
		column->not_null = att->attnotnull;
		column->generated = att->attgenerated != '\0';
		rules->any_not_null |= column->not_null;
		rules->any_generated |= column->generated;
		prepare_column(rules, column, rel, att);
		rules->ncolumns++;
	}
	prepare_checks(rules, desc->constr);
	if (rules->any_generated || rules->nchecks > 0)
	{
		rules->desc = CreateTupleDescCopy(desc);
		rules->slot = MakeSingleTupleTableSlot(rules->desc, &TTSOpsVirtual);
		rules->econtext->ecxt_scantuple = rules->slot;
	}
	MemoryContextSwitchTo(old);
	return rules;
}

void
weir_rules_free(RowRules *rules)
{
	if (rules->slot)
		ExecDropSingleTupleTableSlot(rules->slot);
	FreeExecutorState(rules->estate);
}

bool
weir_rules_generated(const RowRules *rules, int i)
{
	return rules->columns[i].generated;
}

bool
weir_rules_default(RowRules *rules, int i, Converter *converter, Datum *datum, bool *isnull)
{
	static const JsonField missing = {.kind = JSON_KIND_MISSING};
	ColumnRule *column = &rules->columns[i];

	if (column->expression)
		*datum = ExecEvalExpr(column->expression, rules->econtext, isnull);
	else if (column->asks_domain)
	{
		rules->run->value = &missing;
		return weir_convert(converter, &missing, datum, isnull);
	}
	else
	{
		*datum = column->constant;
		*isnull = column->constant_isnull;
	}
	return true;
}

/* Puts the row into the slot that expressions look at. */
static void
fill_slot(RowRules *rules, Datum *values, bool *isnull)
{
	TupleTableSlot *slot = rules->slot;

	ExecClearTuple(slot);
	memset(slot->tts_isnull, true, rules->desc->natts * sizeof(bool));
	for (int i = 0; i < rules->ncolumns; i++)
	{
		slot->tts_values[rules->columns[i].attnum - 1] = values[i];
		slot->tts_isnull[rules->columns[i].attnum - 1] = isnull[i];
	}
	ExecStoreVirtualTuple(slot);
}

static void
compute_generated(RowRules *rules, Datum *values, bool *isnull)
{
	for (int i = 0; i < rules->ncolumns; i++)
	{
		ColumnRule *column = &rules->columns[i];

		if (!column->generated || column->expression == NULL)
			continue;
		rules->run->column = column->name;
		values[i] = ExecEvalExpr(column->expression, rules->econtext, &isnull[i]);
	}
	rules->run->column = NULL;
	fill_slot(rules, values, isnull);
}

bool
weir_rules_apply(RowRules *rules, Datum *values, bool *isnull)
{
	if (rules->slot)
	{
		ResetExprContext(rules->econtext);
		fill_slot(rules, values, isnull);
		if (rules->any_generated)
			compute_generated(rules, values, isnull);
	}
	for (int i = 0; rules->any_not_null && i < rules->ncolumns; i++)
	{
		if (!rules->columns[i].not_null || !isnull[i])
			continue;
		weir_convert_fail(rules->run, ERRCODE_NOT_NULL_VIOLATION,
						  "null value in column \"%s\" of relation \"%s\" violates not-null constraint",
						  rules->columns[i].name, rules->relation);
		return false;
	}
	for (int i = 0; i < rules->nchecks; i++)
	{
		if (!ExecCheck(rules->checks[i].expression, rules->econtext))
			return weir_convert_fail(rules->run, ERRCODE_CHECK_VIOLATION,
									 "new row for relation \"%s\" violates check constraint \"%s\"",
									 rules->relation, rules->checks[i].name);
	}
	return true;
}
