/*
 * row_json.h
 *	  Rows as JSON, each value as to_jsonb gives it in UTC with exact numerics.
 */
#ifndef WEIR_ROW_JSON_H
#define WEIR_ROW_JSON_H

#include "weir.h"

#include "access/tupdesc.h"
#include "executor/tuptable.h"
#include "fmgr.h"
#include "lib/stringinfo.h"

typedef enum JsonKind
{
	JSON_BOOL,
	JSON_INT2,
	JSON_INT4,
	JSON_INT8,
	JSON_FLOAT8,
	JSON_NUMERIC,
	JSON_TEXT,
	JSON_UUID,
	JSON_BYTEA,
	JSON_DATETIME,
	JSON_JSONB,
	JSON_OTHER					/* by to_jsonb itself */
} JsonKind;

typedef struct JsonColumn
{
	AttrNumber	attnum;
	JsonKind	kind;
	Oid			type;			/* of a domain: its base type */
	char	   *label;			/* "name": with quotes and colon */
	int			label_len;
	FmgrInfo	to_jsonb;		/* of JSON_OTHER */
} JsonColumn;

typedef struct JsonRow
{
	int			ncolumns;
	JsonColumn *columns;
} JsonRow;

/* Prepares columns of a row type for writing. Memory: CurrentMemoryContext. */
extern JsonRow *weir_json_prepare(TupleDesc desc, const AttrNumber *attnums, int n);

/*
 * weir_json_row appends the object; extra (may be NULL) goes behind its last
 * member. Leaves garbage in CurrentMemoryContext.
 */
extern void weir_json_row(StringInfo out, JsonRow *row, TupleTableSlot *slot,
						  bool omit_nulls, const char *extra);

/* Appends one column's value without quotes (bytea: its bytes); false: it is null. */
extern bool weir_json_plain(StringInfo out, JsonColumn *column, TupleTableSlot *slot);

/* Appends a JSON string. */
extern void weir_json_string(StringInfo out, const char *text, int len);

#endif							/* WEIR_ROW_JSON_H */
