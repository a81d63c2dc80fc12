/*
 * utility.h
 *	  A statement in the ProcessUtility hook: shared by ddl.c and alter_ddl.c, and by nobody else.
 */
#ifndef WEIR_UTILITY_H
#define WEIR_UTILITY_H

#include "catalog/catalog.h"
#include "storage/lockdefs.h"
#include "tcop/utility.h"

/* One statement on its way through the hook; what the next one in the chain needs. */
typedef struct Utility
{
	PlannedStmt *pstmt;			/* a copy that handlers may change */
	const char *query;
	ProcessUtilityContext context;
	ParamListInfo params;
	QueryEnvironment *env;
	DestReceiver *dest;
	QueryCompletion *qc;
} Utility;

/* ddl.c */
extern void weir_utility_pass_on(Utility *u);
extern Oid	weir_utility_relation(RangeVar *name, LOCKMODE lock);
extern bool weir_utility_is_stream(Oid relid);
extern bool weir_utility_is_view(Oid relid);

/* alter_ddl.c: handlers */
extern void weir_utility_alter_table(Utility *u);
extern void weir_utility_rename(Utility *u);
extern void weir_utility_set_schema(Utility *u);
extern void weir_utility_comment(Utility *u);

#endif							/* WEIR_UTILITY_H */
