/*
 * ddl.c
 *	  The ProcessUtility hook: statements that users know, made to work on
 *	  streams and continuous views.
 *
 * A table from node tag to handler. A handler looks at the statement; if it
 * concerns a stream or a continuous view it does its part, before or after
 * PostgreSQL's own, or all of it. Everybody else's statements pass untouched, after a
 * look at their tag (and, for a few tags, a syscache look-up).
 *
 * Dropped relations are noted by an object access hook and their catalog
 * rows removed at the end of the outermost utility statement, so that DROP SCHEMA CASCADE, DROP OWNED
 * and the like need no handler.
 *
 * Locks: those of the statements; a handler takes the lock the statement
 * itself takes, before it looks anything up.
 */
#include "catalog/catalog.h"

#include "access/relation.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/objectaccess.h"
#include "catalog/options.h"
#include "catalog/pg_class.h"
#include "catalog/stream.h"
#include "catalog/stream_ddl.h"
#include "catalog/utility.h"
#include "catalog/view.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "commands/extension.h"
#include "commands/tablecmds.h"
#include "compat.h"
#include "delta/segments.h"
#include "delta/stream_am.h"
#include "expire/expire.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "sink/sink.h"
#include "storage/lmgr.h"
#include "tcop/utility.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "view/define.h"
#include "worker/shared.h"

static ProcessUtility_hook_type previous_utility = NULL;
static object_access_hook_type previous_access = NULL;

static int	nesting = 0;		/* utility statements under way */
static List *dropped = NIL;		/* relations dropped by them, in TopTransactionContext */

/* PostgreSQL's own part of the statement. */
void
weir_utility_pass_on(Utility *u)
{
	if (previous_utility)
		previous_utility(u->pstmt, u->query, false, u->context, u->params, u->env, u->dest, u->qc);
	else
		standard_ProcessUtility(u->pstmt, u->query, false, u->context, u->params, u->env,
								u->dest, u->qc);
}

/* The relation that a statement names, locked; InvalidOid if there is none. */
Oid
weir_utility_relation(RangeVar *name, LOCKMODE lock)
{
	if (name == NULL)
		return InvalidOid;
	return RangeVarGetRelidExtended(name, lock, RVR_MISSING_OK, NULL, NULL);
}

bool
weir_utility_is_stream(Oid relid)
{
	return OidIsValid(relid) && weir_installed() && weir_stream_get(relid) != NULL;
}

bool
weir_utility_is_view(Oid relid)
{
	return OidIsValid(relid) && weir_view_relkind(get_rel_relkind(relid)) &&
		weir_installed() && weir_view_get(relid) != NULL;
}

/* ---- CREATE ---- */

static void
handle_create_table(Utility *u)
{
	CreateStmt *stmt = castNode(CreateStmt, u->pstmt->utilityStmt);
	List	   *defs = weir_options_extract(&stmt->options);
	Oid			relid;

	if (defs == NIL)
	{
		weir_utility_pass_on(u);
		return;
	}
	if (stmt->if_not_exists && OidIsValid(weir_utility_relation(stmt->relation, NoLock)))
	{
		weir_utility_pass_on(u);				/* says that it is there */
		return;
	}
	if (weir_expire_is_option(defs))
	{
		weir_utility_pass_on(u);
		CommandCounterIncrement();
		weir_expire_alter(RangeVarGetRelid(stmt->relation, NoLock, false), defs, false);
		return;
	}
	weir_expire_refuse(defs);
	weir_stream_prepare_create(stmt, defs);
	weir_utility_pass_on(u);
	CommandCounterIncrement();
	relid = RangeVarGetRelid(stmt->relation, NoLock, false);
	weir_stream_create(relid, defs);
}

static void
handle_create_table_as(Utility *u)
{
	CreateTableAsStmt *stmt = castNode(CreateTableAsStmt, u->pstmt->utilityStmt);
	List	   *defs = weir_options_extract(&stmt->into->options);
	WeirViewOptions options;

	if (defs == NIL)
	{
		weir_utility_pass_on(u);
		return;
	}
	if (stmt->objtype != OBJECT_MATVIEW)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("CREATE TABLE AS cannot make a stream"),
				 errhint("CREATE TABLE with columns, or CREATE MATERIALIZED VIEW ... WITH (weir.continuous).")));
	weir_options_view_defaults(&options);
	weir_options_parse_view(defs, false, &options);
	if (!options.continuous)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("options of a continuous view need weir.continuous"),
				 errhint("CREATE MATERIALIZED VIEW ... WITH (weir.continuous, ...).")));
	if (!weir_installed())
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("extension \"weir\" is not installed in this database"),
				 errhint("CREATE EXTENSION weir;")));
	PreventCommandIfReadOnly("CREATE MATERIALIZED VIEW");
	weir_view_create(stmt, &options, NULL, u->qc);
}

static void
handle_create_index(Utility *u)
{
	IndexStmt  *stmt = castNode(IndexStmt, u->pstmt->utilityStmt);
	Oid			relid = weir_utility_relation(stmt->relation, NoLock);
	Relation	rel;
	List	   *before = NIL;
	List	   *after;
	ListCell   *lc;

	if (!weir_utility_is_stream(relid))
	{
		weir_utility_pass_on(u);
		return;
	}
	if (stmt->unique || stmt->primary)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("a unique index is not supported on a stream"),
				 errhint("Every message of a topic is a row; remove duplicates in a continuous view.")));
	if (stmt->concurrent)
	{
		ereport(NOTICE,
				(errmsg("index on stream \"%s\" is not built concurrently", stmt->relation->relname),
				 errdetail("A stream keeps few rows; it waits while they are indexed.")));
		stmt->concurrent = false;
	}
	rel = relation_open(relid, ShareLock);
	before = list_copy(RelationGetIndexList(rel));
	relation_close(rel, NoLock);
	weir_utility_pass_on(u);
	CommandCounterIncrement();
	rel = relation_open(relid, NoLock);
	after = list_copy(RelationGetIndexList(rel));
	relation_close(rel, NoLock);
	foreach(lc, after)
	{
		if (!list_member_oid(before, lfirst_oid(lc)))
			weir_segments_clone_index(relid, lfirst_oid(lc));
	}
}

/* A weir.publish or weir.notify trigger: its arguments are checked now, not when it fires. */
static void
handle_create_trigger(Utility *u)
{
	CreateTrigStmt *stmt = castNode(CreateTrigStmt, u->pstmt->utilityStmt);
	Oid			relid;

	weir_utility_pass_on(u);
	relid = weir_utility_relation(stmt->relation, NoLock);
	if (OidIsValid(relid) && weir_installed())
	{
		CommandCounterIncrement();
		weir_sink_check_trigger(relid, stmt->trigname);
		weir_expire_check_trigger(relid, stmt->trigname);
	}
}

/* COPY into a stream: its own indexes stay empty (see delta/stream_am.c). */
static void
handle_copy(Utility *u)
{
	CopyStmt   *stmt = castNode(CopyStmt, u->pstmt->utilityStmt);
	Oid			relid = stmt->is_from ? weir_utility_relation(stmt->relation, RowExclusiveLock) : InvalidOid;
	Relation	rel;
	bool		had;

	if (!weir_utility_is_stream(relid))
	{
		weir_utility_pass_on(u);
		return;
	}
	rel = relation_open(relid, NoLock);
	had = weir_stream_hide_indexes(rel, true);
	PG_TRY();
	{
		weir_utility_pass_on(u);
	}
	PG_FINALLY();
	{
		weir_stream_hide_indexes(rel, !had);
	}
	PG_END_TRY();
	relation_close(rel, NoLock);
}

/* ---- REFRESH ---- */

static void
handle_refresh(Utility *u)
{
	RefreshMatViewStmt *stmt = castNode(RefreshMatViewStmt, u->pstmt->utilityStmt);
	Oid			relid = weir_utility_relation(stmt->relation, NoLock);

	if (!weir_utility_is_view(relid))
	{
		weir_utility_pass_on(u);
		return;
	}
	weir_check_owner(relid);
	weir_view_refresh(weir_view_require(relid), stmt->skipData);
	if (u->qc)
		SetQueryCompletion(u->qc, CMDTAG_REFRESH_MATERIALIZED_VIEW, 0);
}

/* ---- DROP ---- */

/* DROP MATERIALIZED VIEW a, b: continuous ones are tables. */
static void
split_drop_matview(Utility *u)
{
	DropStmt   *stmt = castNode(DropStmt, u->pstmt->utilityStmt);
	List	   *mine = NIL;
	List	   *rest = NIL;
	ListCell   *lc;

	foreach(lc, stmt->objects)
	{
		Oid			relid = weir_utility_relation(makeRangeVarFromNameList((List *) lfirst(lc)), NoLock);

		if (weir_utility_is_view(relid))
			mine = lappend(mine, lfirst(lc));
		else
			rest = lappend(rest, lfirst(lc));
	}
	if (mine != NIL)
	{
		stmt->objects = mine;
		stmt->removeType = OBJECT_TABLE;
		weir_utility_pass_on(u);
		stmt->removeType = OBJECT_MATVIEW;
	}
	if (rest != NIL)
	{
		stmt->objects = rest;
		weir_utility_pass_on(u);
	}
}

static bool
drops_weir(DropStmt *stmt)
{
	ListCell   *lc;

	foreach(lc, stmt->objects)
	{
		if (strcmp(strVal(lfirst(lc)), WEIR_EXTENSION) == 0)
			return true;
	}
	return false;
}

static void
handle_drop(Utility *u)
{
	DropStmt   *stmt = castNode(DropStmt, u->pstmt->utilityStmt);

	if (stmt->removeType == OBJECT_MATVIEW)
		split_drop_matview(u);
	else if (stmt->removeType == OBJECT_EXTENSION && drops_weir(stmt) && weir_installed())
	{
		Oid			extension = weir_extension_oid();

		/* a worker that begins or ends a batch would take the same locks in another order */
		if (weir_compat_owns_extension(extension, GetUserId()))
		{
			weir_database_leave(MyDatabaseId);
			if (stmt->behavior == DROP_CASCADE)
				weir_extension_dissolve();
		}
		weir_utility_pass_on(u);
		weir_catalog_changed();
	}
	else
	{
		weir_utility_pass_on(u);
		/* what is left of a sink whose server is gone says so */
		if (stmt->removeType == OBJECT_FOREIGN_SERVER && weir_installed())
			weir_catalog_changed();
	}
}

/* ---- extensions and databases ---- */

static void
handle_create_extension(Utility *u)
{
	CreateExtensionStmt *stmt = castNode(CreateExtensionStmt, u->pstmt->utilityStmt);

	weir_utility_pass_on(u);
	if (strcmp(stmt->extname, WEIR_EXTENSION) == 0)
		weir_catalog_changed();
}

static void
handle_create_database(Utility *u)
{
	CreatedbStmt *stmt = castNode(CreatedbStmt, u->pstmt->utilityStmt);
	const char *template = "template1";
	Oid			dboid;
	ListCell   *lc;

	foreach(lc, stmt->options)
	{
		DefElem    *def = lfirst_node(DefElem, lc);

		if (strcmp(def->defname, "template") == 0 && def->arg)
			template = defGetString(def);
	}
	/* a template must have no connections; its workers come back afterwards */
	dboid = get_database_oid(template, true);
	if (OidIsValid(dboid))
		weir_database_leave(dboid);
	weir_utility_pass_on(u);
	weir_launcher_wake();
}

static void
handle_drop_database(Utility *u)
{
	DropdbStmt *stmt = castNode(DropdbStmt, u->pstmt->utilityStmt);
	Oid			dboid = get_database_oid(stmt->dbname, true);

	if (OidIsValid(dboid))
		weir_database_leave(dboid);
	weir_utility_pass_on(u);
}

static void
handle_alter_database(Utility *u)
{
	AlterDatabaseStmt *stmt = castNode(AlterDatabaseStmt, u->pstmt->utilityStmt);
	ListCell   *lc;

	foreach(lc, stmt->options)
	{
		if (strcmp(lfirst_node(DefElem, lc)->defname, "tablespace") == 0)
			weir_database_leave(get_database_oid(stmt->dbname, false));
	}
	weir_utility_pass_on(u);
	weir_launcher_wake();
}

/* Servers and user mappings: workers connect anew. */
static void
handle_server(Utility *u)
{
	weir_utility_pass_on(u);
	if (weir_installed())
		weir_catalog_changed();
}

/* ---- the hook ---- */

typedef struct Handler
{
	NodeTag		tag;
	void		(*handle) (Utility *u);
} Handler;

static const Handler handlers[] = {
	{T_CreateStmt, handle_create_table},
	{T_CreateTableAsStmt, handle_create_table_as},
	{T_IndexStmt, handle_create_index},
	{T_CreateTrigStmt, handle_create_trigger},
	{T_CopyStmt, handle_copy},
	{T_AlterTableStmt, weir_utility_alter_table},
	{T_RenameStmt, weir_utility_rename},
	{T_AlterObjectSchemaStmt, weir_utility_set_schema},
	{T_CommentStmt, weir_utility_comment},
	{T_RefreshMatViewStmt, handle_refresh},
	{T_DropStmt, handle_drop},
	{T_CreateExtensionStmt, handle_create_extension},
	{T_CreateForeignServerStmt, handle_server},
	{T_AlterForeignServerStmt, handle_server},
	{T_CreateUserMappingStmt, handle_server},
	{T_AlterUserMappingStmt, handle_server},
	{T_DropUserMappingStmt, handle_server},
	{T_CreatedbStmt, handle_create_database},
	{T_DropdbStmt, handle_drop_database},
	{T_AlterDatabaseStmt, handle_alter_database},
};

static const Handler *
find_handler(NodeTag tag)
{
	for (int i = 0; i < lengthof(handlers); i++)
	{
		if (handlers[i].tag == tag)
			return &handlers[i];
	}
	return NULL;
}

/* Removes what the catalog says of relations that are gone. */
static void
forget_dropped(void)
{
	List	   *relids = dropped;

	dropped = NIL;
	if (relids != NIL && weir_installed())
	{
		CommandCounterIncrement();
		weir_relations_dropped(relids);
	}
}

static void
weir_utility(PlannedStmt *pstmt, const char *query, bool read_only_tree,
			 ProcessUtilityContext context, ParamListInfo params, QueryEnvironment *env,
			 DestReceiver *dest, QueryCompletion *qc)
{
	const Handler *handler = find_handler(nodeTag(pstmt->utilityStmt));
	Utility		u = {pstmt, query, context, params, env, dest, qc};

	/* what a prepared transaction has written to the outbox is seen from its commit on */
	if (IsA(pstmt->utilityStmt, TransactionStmt) &&
		castNode(TransactionStmt, pstmt->utilityStmt)->kind == TRANS_STMT_COMMIT_PREPARED)
	{
		weir_sink_prepared_committed();
		weir_expire_prepared_committed();
	}

	/* outside of transactions (COMMIT, ...) there is nothing for us */
	if (handler == NULL || IsBinaryUpgrade || !IsTransactionState())
	{
		if (previous_utility)
			previous_utility(pstmt, query, read_only_tree, context, params, env, dest, qc);
		else
			standard_ProcessUtility(pstmt, query, read_only_tree, context, params, env, dest, qc);
		if (nesting == 0 && dropped != NIL && IsTransactionState())
			forget_dropped();
		return;
	}
	u.pstmt = copyObject(pstmt);
	nesting++;
	PG_TRY();
	{
		handler->handle(&u);
	}
	PG_FINALLY();
	{
		nesting--;
	}
	PG_END_TRY();
	if (nesting == 0 && dropped != NIL)
		forget_dropped();
}

static void
weir_object_access(ObjectAccessType access, Oid class_id, Oid object_id, int sub_id, void *arg)
{
	if (previous_access)
		previous_access(access, class_id, object_id, sub_id, arg);
	if (access == OAT_DROP && class_id == RelationRelationId && sub_id == 0)
	{
		char		kind = get_rel_relkind(object_id);

		if (weir_view_relkind(kind) &&
			get_rel_persistence(object_id) != RELPERSISTENCE_TEMP)
		{
			MemoryContext old = MemoryContextSwitchTo(TopTransactionContext);

			dropped = lappend_oid(dropped, object_id);
			MemoryContextSwitchTo(old);
		}
	}
}

static void
ddl_xact_ended(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
	{
		dropped = NIL;			/* its memory went with the transaction */
		nesting = 0;
	}
}

void
weir_ddl_init(void)
{
	previous_utility = ProcessUtility_hook;
	ProcessUtility_hook = weir_utility;
	previous_access = object_access_hook;
	object_access_hook = weir_object_access;
	RegisterXactCallback(ddl_xact_ended, NULL);
	weir_cache_init();
}
