/*
 * alter_ddl.c
 *	  ALTER, RENAME, SET SCHEMA and COMMENT of streams and continuous views.
 *
 * ddl.c ⇒ here. A continuous view is a table, whatever the statement calls it; weir's options are taken out
 * of a statement before PostgreSQL sees it.
 */
#include "catalog/utility.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/options.h"
#include "catalog/stream.h"
#include "catalog/stream_ddl.h"
#include "catalog/view.h"
#include "commands/dbcommands.h"
#include "expire/expire.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/parsenodes.h"
#include "sink/sink.h"
#include "utils/lsyscache.h"
#include "view/define.h"
#include "worker/shared.h"

static void
alter_view_options(Oid relid, List *defs, bool reset)
{
	ListCell   *lc;

	foreach(lc, defs)
	{
		const char *name = lfirst_node(DefElem, lc)->defname;

		if (strcmp(name, "lateness") != 0 && strcmp(name, "keep") != 0)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("option \"weir.%s\" of a continuous view cannot be changed", name),
					 errhint("Drop the view and create it again.")));
	}
	weir_view_alter(weir_view_require(relid), defs, reset);
}

/* Takes weir's options out of an ALTER TABLE; true if nothing is left of it. */
static bool
apply_option_commands(AlterTableStmt *stmt, Oid relid)
{
	List	   *rest = NIL;
	ListCell   *lc;

	foreach(lc, stmt->cmds)
	{
		AlterTableCmd *cmd = lfirst_node(AlterTableCmd, lc);
		List	   *options;
		List	   *defs;
		bool		reset = cmd->subtype == AT_ResetRelOptions;

		if (cmd->subtype != AT_SetRelOptions && cmd->subtype != AT_ResetRelOptions)
		{
			rest = lappend(rest, cmd);
			continue;
		}
		options = (List *) cmd->def;
		defs = weir_options_extract(&options);
		cmd->def = (Node *) options;
		if (defs == NIL || options != NIL)
			rest = lappend(rest, cmd);
		if (defs == NIL)
			continue;
		weir_check_owner(relid);
		if (weir_utility_is_stream(relid) || weir_utility_is_view(relid) || !weir_expire_is_option(defs))
			weir_expire_refuse(defs);
		if (weir_utility_is_stream(relid))
			weir_stream_alter(relid, defs, reset);
		else if (weir_utility_is_view(relid))
			alter_view_options(relid, defs, reset);
		else if (weir_installed() && weir_expire_is_option(defs))
			weir_expire_alter(relid, defs, reset);
		else
			ereport(ERROR,
					(errcode(ERRCODE_WRONG_OBJECT_TYPE),
					 errmsg("\"%s\" is neither a stream nor a continuous view",
							stmt->relation->relname),
					 errhint("A stream is made by CREATE TABLE ... WITH (weir.topic = ...) or WITH (weir.stream).")));
	}
	stmt->cmds = rest;
	return rest == NIL;
}

/* Does the statement set an option in weir's namespace? */
static bool
has_weir_options(AlterTableStmt *stmt)
{
	ListCell   *lc,
			   *lo;

	foreach(lc, stmt->cmds)
	{
		AlterTableCmd *cmd = lfirst_node(AlterTableCmd, lc);

		if (cmd->subtype != AT_SetRelOptions && cmd->subtype != AT_ResetRelOptions)
			continue;
		foreach(lo, (List *) cmd->def)
		{
			DefElem    *def = lfirst_node(DefElem, lo);

			if (def->defnamespace && strcmp(def->defnamespace, WEIR_OPTION_NAMESPACE) == 0)
				return true;
		}
	}
	return false;
}

void
weir_utility_alter_table(Utility *u)
{
	AlterTableStmt *stmt = castNode(AlterTableStmt, u->pstmt->utilityStmt);
	Oid			relid = weir_utility_relation(stmt->relation, NoLock);
	bool		stream = weir_utility_is_stream(relid);

	if (!stream && weir_utility_is_view(relid))
	{
		if (stmt->objtype == OBJECT_MATVIEW)
			stmt->objtype = OBJECT_TABLE;
	}
	if (has_weir_options(stmt))
	{
		if (!OidIsValid(relid) && stmt->missing_ok)
		{
			weir_utility_pass_on(u);
			return;
		}
		relid = RangeVarGetRelid(stmt->relation, AccessShareLock, false);
		if (apply_option_commands(stmt, relid))
			return;
	}
	if (!stream)
	{
		/* a partition with rows, a trigger enabled again: the expirer looks */
		if (OidIsValid(relid) && weir_installed() && weir_expire_is_set(relid))
			weir_catalog_changed();
		weir_utility_pass_on(u);
		if (weir_utility_is_view(relid))
			weir_view_after_alter(weir_view_require(relid), stmt);
		return;
	}
	weir_stream_check_alter(relid, stmt);
	weir_utility_pass_on(u);
	weir_stream_after_alter(relid, stmt);
}

void
weir_utility_rename(Utility *u)
{
	RenameStmt *stmt = castNode(RenameStmt, u->pstmt->utilityStmt);
	Oid			relid = InvalidOid;

	switch (stmt->renameType)
	{
		case OBJECT_DATABASE:
			weir_database_leave(get_database_oid(stmt->subname, false));
			weir_utility_pass_on(u);
			return;
		case OBJECT_FOREIGN_SERVER:
			weir_utility_pass_on(u);
			if (weir_installed())
			{
				weir_server_renamed(strVal(stmt->object), stmt->newname);
				weir_sink_server_renamed(strVal(stmt->object), stmt->newname);
				weir_catalog_changed();
			}
			return;
		case OBJECT_MATVIEW:
		case OBJECT_TABLE:
		case OBJECT_COLUMN:
			relid = weir_utility_relation(stmt->relation, NoLock);
			break;
		default:
			break;
	}
	if (stmt->renameType == OBJECT_MATVIEW && weir_utility_is_view(relid))
		stmt->renameType = OBJECT_TABLE;
	if (stmt->renameType == OBJECT_COLUMN && stmt->relationType == OBJECT_MATVIEW && weir_utility_is_view(relid))
		stmt->relationType = OBJECT_TABLE;
	weir_utility_pass_on(u);
	if (!OidIsValid(relid) || !weir_installed())
		return;
	if (stmt->renameType == OBJECT_COLUMN)
		weir_sink_column_renamed(relid, stmt->subname, stmt->newname);
	if (stmt->renameType == OBJECT_COLUMN && (weir_utility_is_stream(relid) || weir_utility_is_view(relid)))
	{
		CommandCounterIncrement();
		weir_stream_column_renamed(relid, stmt->subname, stmt->newname);
	}
	else if (weir_utility_is_stream(relid) || weir_utility_is_view(relid))
		weir_catalog_changed();
}

void
weir_utility_set_schema(Utility *u)
{
	AlterObjectSchemaStmt *stmt = castNode(AlterObjectSchemaStmt, u->pstmt->utilityStmt);
	Oid			relid = weir_utility_relation(stmt->relation, NoLock);

	if (stmt->objectType == OBJECT_MATVIEW && weir_utility_is_view(relid))
		stmt->objectType = OBJECT_TABLE;
	weir_utility_pass_on(u);
	if (weir_utility_is_stream(relid) || weir_utility_is_view(relid))
		weir_catalog_changed();
}

void
weir_utility_comment(Utility *u)
{
	CommentStmt *stmt = castNode(CommentStmt, u->pstmt->utilityStmt);

	if (stmt->objtype == OBJECT_MATVIEW &&
		weir_utility_is_view(weir_utility_relation(makeRangeVarFromNameList(castNode(List, stmt->object)), NoLock)))
		stmt->objtype = OBJECT_TABLE;
	weir_utility_pass_on(u);
}
