/*
 * define.c
 *	  ALTER TABLE ... SET (weir.expires = 'column'), and the trigger that it makes.
 *
 * Runs in the session that types the DDL, with the locks of CREATE and DROP
 * TRIGGER. Nothing else is stored (expire.h says why).
 */
#include "expire/expire.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/catalog.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "nodes/makefuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parse_func.h"
#include "parser/parse_type.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "worker/shared.h"

static List *
function_name(void)
{
	return list_make2(makeString(WEIR_SCHEMA), makeString("expire"));
}

/* InvalidOid where the extension is not there. */
static Oid
function_oid(void)
{
	if (!weir_installed())
		return InvalidOid;
	return LookupFuncName(function_name(), 0, NULL, true);
}

static bool
is_time(Oid type)
{
	type = getBaseType(type);
	return type == TIMESTAMPTZOID || type == TIMESTAMPOID;
}

/* The column that a trigger's WHEN names; InvalidAttrNumber if it is not as weir makes it. */
AttrNumber
weir_expire_trigger_column(const Trigger *trigger)
{
	NullTest   *test;
	Var		   *var;

	if (trigger->tgqual == NULL)
		return InvalidAttrNumber;
	test = (NullTest *) stringToNode(trigger->tgqual);
	if (!IsA(test, NullTest) || test->nulltesttype != IS_NOT_NULL || !IsA(test->arg, Var))
		return InvalidAttrNumber;
	var = (Var *) test->arg;
	if (var->varno != PRS2_NEW_VARNO || var->varattno <= 0 || !is_time(var->vartype))
		return InvalidAttrNumber;
	return var->varattno;
}

AttrNumber
weir_expire_column(Relation rel, bool *disabled)
{
	Oid			function = function_oid();

	for (int i = 0; rel->trigdesc != NULL && i < rel->trigdesc->numtriggers; i++)
	{
		const Trigger *trigger = &rel->trigdesc->triggers[i];

		if (trigger->tgfoid != function || !OidIsValid(function) || trigger->tgisclone)
			continue;
		*disabled = trigger->tgenabled == TRIGGER_DISABLED;
		return weir_expire_trigger_column(trigger);
	}
	return InvalidAttrNumber;
}

bool
weir_expire_is_set(Oid relid)
{
	char		kind = OidIsValid(relid) ? get_rel_relkind(relid) : '\0';
	Relation	rel;
	bool		disabled;
	bool		is_set;

	if (kind != RELKIND_RELATION && kind != RELKIND_PARTITIONED_TABLE)
		return false;
	rel = table_open(relid, AccessShareLock);
	is_set = weir_expire_column(rel, &disabled) != InvalidAttrNumber;
	table_close(rel, NoLock);
	return is_set;
}

List *
weir_expire_tables(void)
{
	CatalogScope scope;
	List	   *tables = NIL;
	MemoryContext cxt = CurrentMemoryContext;

	weir_catalog_open(&scope);
	(void) weir_catalog_exec("SELECT DISTINCT t.tgrelid FROM pg_depend d JOIN pg_trigger t ON t.oid = d.objid"
							 " WHERE d.classid = 'pg_trigger'::regclass AND d.refclassid = 'pg_proc'::regclass"
							 " AND d.refobjid = 'weir.expire()'::regprocedure AND t.tgparentid = 0"
							 " ORDER BY 1");
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;
		Datum		relid = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull);
		MemoryContext old = MemoryContextSwitchTo(cxt);

		tables = lappend_oid(tables, DatumGetObjectId(relid));
		MemoryContextSwitchTo(old);
	}
	weir_catalog_close(&scope);
	return tables;
}

/* ---- the option ---- */

bool
weir_expire_is_option(List *defs)
{
	ListCell   *lc;

	foreach(lc, defs)
	{
		if (strcmp(lfirst_node(DefElem, lc)->defname, WEIR_EXPIRE_OPTION) != 0)
			return false;
	}
	return defs != NIL;
}

void
weir_expire_refuse(List *defs)
{
	ListCell   *lc;

	foreach(lc, defs)
	{
		if (strcmp(lfirst_node(DefElem, lc)->defname, WEIR_EXPIRE_OPTION) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("weir.expires is for ordinary tables, and stands alone"),
					 errhint("Rows of streams and continuous views go by weir.keep.")));
	}
}

static void
check_table(Relation rel)
{
	char		kind = RelationGetForm(rel)->relkind;

	if (kind != RELKIND_RELATION && kind != RELKIND_PARTITIONED_TABLE)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("weir.expires needs a table, and \"%s\" is none", RelationGetRelationName(rel))));
	if (RelationGetForm(rel)->relpersistence == RELPERSISTENCE_TEMP)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("weir.expires is not supported on a temporary table"),
				 errdetail("No other process sees its rows."),
				 errhint("Use an unlogged table.")));
	if (RelationGetForm(rel)->relispartition)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("weir.expires is not supported on a partition"),
				 errhint("Set it on the partitioned table.")));
}

static AttrNumber
check_column(Relation rel, const char *column)
{
	AttrNumber	attnum = get_attnum(RelationGetRelid(rel), column);
	Oid			type;

	if (attnum <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("column \"%s\" of weir.expires does not exist in %s",
						column, RelationGetRelationName(rel))));
	type = get_atttype(RelationGetRelid(rel), attnum);
	if (!is_time(type))
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("column \"%s\" of weir.expires has type %s", column, format_type_be(type)),
				 errhint("Rows expire by a column of type timestamptz, or timestamp in UTC.")));
	return attnum;
}

/* Is the column the first of a btree index of all rows? */
static bool
is_indexed(Relation rel, AttrNumber attnum)
{
	bool		found = false;
	ListCell   *lc;

	foreach(lc, RelationGetIndexList(rel))
	{
		Relation	index = index_open(lfirst_oid(lc), AccessShareLock);

		found |= index->rd_index->indkey.values[0] == attnum && index->rd_index->indisvalid &&
			index->rd_rel->relam == get_index_am_oid("btree", false) &&
			heap_attisnull(index->rd_indextuple, Anum_pg_index_indpred, NULL);
		index_close(index, AccessShareLock);
	}
	return found;
}

static void
create_trigger(Relation rel, const char *column)
{
	CreateTrigStmt *stmt = makeNode(CreateTrigStmt);
	ColumnRef  *ref = makeNode(ColumnRef);
	NullTest   *test = makeNode(NullTest);

	ref->fields = list_make2(makeString("new"), makeString(pstrdup(column)));
	ref->location = -1;
	test->arg = (Expr *) ref;
	test->nulltesttype = IS_NOT_NULL;
	test->location = -1;
	stmt->trigname = WEIR_EXPIRE_TRIGGER;
	stmt->relation = makeRangeVar(get_namespace_name(RelationGetNamespace(rel)),
								  pstrdup(RelationGetRelationName(rel)), -1);
	stmt->funcname = function_name();
	stmt->row = true;
	stmt->timing = TRIGGER_TYPE_AFTER;
	stmt->events = TRIGGER_TYPE_INSERT | TRIGGER_TYPE_UPDATE;
	stmt->whenClause = (Node *) test;
	/* also in a session with session_replication_role = replica */
	(void) CreateTriggerFiringOn(stmt, NULL, RelationGetRelid(rel), InvalidOid, InvalidOid, InvalidOid,
								 InvalidOid, InvalidOid, NULL, false, false, TRIGGER_FIRES_ALWAYS);
	CommandCounterIncrement();
}

static void
drop_trigger(Oid relid)
{
	CatalogScope scope;

	if (!weir_expire_is_set(relid))
		return;
	weir_catalog_open(&scope);
	(void) weir_catalog_exec("DROP TRIGGER " WEIR_EXPIRE_TRIGGER " ON %s",
							 weir_relation_name(relid));
	weir_catalog_close(&scope);
	CommandCounterIncrement();
}

void
weir_expire_alter(Oid relid, List *defs, bool reset)
{
	Relation	rel = table_open(relid, ShareRowExclusiveLock);
	const char *column = NULL;
	AttrNumber	attnum = InvalidAttrNumber;

	check_table(rel);
	weir_check_owner(relid);
	if (!reset)
	{
		weir_check_preloaded();
		column = defGetString(llast_node(DefElem, defs));
		attnum = check_column(rel, column);
	}
	drop_trigger(relid);
	if (!reset)
	{
		create_trigger(rel, column);
		if (!is_indexed(rel, attnum))
			ereport(NOTICE,
					(errmsg("no index begins with column \"%s\", so every look for rows that have expired reads all of \"%s\"",
							column, RelationGetRelationName(rel)),
					 errhint("CREATE INDEX ON %s (%s);", weir_relation_name(relid),
							 quote_identifier(column))));
	}
	weir_catalog_changed();
	table_close(rel, NoLock);
}

/* Made by hand or by pg_restore: weir.expires is as if set. */
void
weir_expire_check_trigger(Oid relid, const char *name)
{
	Relation	rel = table_open(relid, NoLock);
	Oid			function = function_oid();
	bool		mine = false;
	bool		good = false;

	for (int i = 0; rel->trigdesc != NULL && i < rel->trigdesc->numtriggers; i++)
	{
		const Trigger *trigger = &rel->trigdesc->triggers[i];

		if (trigger->tgfoid != function || !OidIsValid(function) || strcmp(trigger->tgname, name) != 0)
			continue;
		mine = true;
		good = weir_expire_trigger_column(trigger) != InvalidAttrNumber && strcmp(name, WEIR_EXPIRE_TRIGGER) == 0 &&
			TRIGGER_FOR_ROW(trigger->tgtype) && TRIGGER_FOR_AFTER(trigger->tgtype) &&
			TRIGGER_FOR_INSERT(trigger->tgtype) && TRIGGER_FOR_UPDATE(trigger->tgtype) &&
			trigger->tgnattr == 0;
	}
	if (mine && !good)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_OBJECT_DEFINITION),
				 errmsg("trigger \"%s\" is not what weir.expires makes", name),
				 errhint("ALTER TABLE %s SET (weir.expires = '...');", weir_relation_name(relid))));
	if (mine)
	{
		check_table(rel);
		weir_catalog_changed();
	}
	table_close(rel, NoLock);
}
