/*
 * rules.h
 *	  What a table demands of a row besides types: defaults, generated columns, NOT NULL, CHECK.
 */
#ifndef WEIR_RULES_H
#define WEIR_RULES_H

#include "decode/convert.h"
#include "utils/rel.h"

typedef struct RowRules RowRules;

/* Prepares the rules of rel, in run->cxt; expressions are set up as the current user. */
extern RowRules *weir_rules_create(DecodeRun *run, Relation rel);

/* Ends what is not plain memory. */
extern void weir_rules_free(RowRules *rules);

/* Is column i (number among the live ones) computed from the others? */
extern bool weir_rules_generated(const RowRules *rules, int i);

/* The default of column i; converter: of the column. */
extern bool weir_rules_default(RowRules *rules, int i, Converter *converter, Datum *datum, bool *isnull);

/* Computes generated columns, then checks NOT NULL and CHECK. False: weir_convert_fail was called. */
extern bool weir_rules_apply(RowRules *rules, Datum *values, bool *isnull);

#endif							/* WEIR_RULES_H */
