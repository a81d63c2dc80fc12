/*
 * compat.h
 *	  The only file that tests PG_VERSION_NUM. One shim per difference, with
 *	  the release that made it.
 */
#ifndef WEIR_COMPAT_H
#define WEIR_COMPAT_H

#include "postgres.h"

#if PG_VERSION_NUM < 150000
#error "weir needs PostgreSQL 15 or newer"
#endif

/* 16 moved SET_VARSIZE and the like out of postgres.h (d952373a987). */
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

/* 18 replaced pg_attribute_noreturn() by pg_noreturn, which stands in front. */
#if PG_VERSION_NUM >= 180000
#define weir_noreturn pg_noreturn
#else
#define weir_noreturn __attribute__((noreturn))
#endif

/* 18 made the name lists of transformRelOptions const. */
#if PG_VERSION_NUM >= 180000
#define weir_reloption_namespaces(list) ((const char *const *) (list))
#else
#define weir_reloption_namespaces(list) ((char **) (list))
#endif

#include "access/attmap.h"
#include "access/genam.h"
#include "access/htup_details.h"
#include "access/sysattr.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_foreign_server.h"
#include "commands/defrem.h"
#include "commands/explain.h"
/* 18 has what EXPLAIN's own state and formats need in headers of their own. */
#if PG_VERSION_NUM >= 180000
#include "commands/explain_format.h"
#include "commands/explain_state.h"
#endif
#include "executor/executor.h"
#include "nodes/makefuncs.h"
#if PG_VERSION_NUM >= 160000
#include "nodes/miscnodes.h"
#endif
#include "nodes/parsenodes.h"
#include "optimizer/optimizer.h"
#if PG_VERSION_NUM >= 160000
#include "parser/parse_relation.h"
#endif
#include "replication/message.h"
#include "storage/latch.h"
#include "storage/smgr.h"
#include "utils/acl.h"
#include "utils/syscache.h"

/* 16 replaced the pg_xxx_ownercheck family by object_ownercheck (afbfc02983f). */
static inline bool
weir_compat_owns_relation(Oid relid, Oid userid)
{
#if PG_VERSION_NUM >= 160000
	return object_ownercheck(RelationRelationId, relid, userid);
#else
	return pg_class_ownercheck(relid, userid);
#endif
}

/* 16 made the strategy of PARTITION BY an enum (19d8e2308bc). */
static inline PartitionSpec *
weir_compat_partition_by_hash(PartitionElem *column)
{
	PartitionSpec *spec = makeNode(PartitionSpec);

#if PG_VERSION_NUM >= 160000
	spec->strategy = PARTITION_STRATEGY_HASH;
#else
	spec->strategy = pstrdup("hash");
#endif
	spec->partParams = list_make1(column);
	spec->location = -1;
	return spec;
}

static inline Oid
weir_compat_relation_owner(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid			owner = InvalidOid;

	if (HeapTupleIsValid(tuple))
	{
		owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
		ReleaseSysCache(tuple);
	}
	return owner;
}

static inline bool
weir_compat_owns_extension(Oid extension, Oid userid)
{
#if PG_VERSION_NUM >= 160000
	return object_ownercheck(ExtensionRelationId, extension, userid);
#else
	return pg_extension_ownercheck(extension, userid);
#endif
}

/* 16 replaced pg_foreign_server_aclcheck by object_aclcheck (c727f511bd7). */
static inline bool
weir_compat_may_use_server(Oid server, Oid userid)
{
#if PG_VERSION_NUM >= 160000
	return object_aclcheck(ForeignServerRelationId, server, userid, ACL_USAGE) == ACLCHECK_OK;
#else
	return pg_foreign_server_aclcheck(server, userid, ACL_USAGE) == ACLCHECK_OK;
#endif
}

/* 16 gave build_attrmap_by_name a missing_ok argument (ad86d159b6a). */
static inline AttrMap *
weir_compat_attrmap_by_name(TupleDesc in, TupleDesc out)
{
#if PG_VERSION_NUM >= 160000
	return build_attrmap_by_name(in, out, false);
#else
	return build_attrmap_by_name(in, out);
#endif
}

/* 16 gave DefineIndex the number of partitions (27f5c712b2c). */
static inline Oid
weir_compat_define_index(Oid relid, IndexStmt *stmt)
{
#if PG_VERSION_NUM >= 160000
	return DefineIndex(relid, stmt, InvalidOid, InvalidOid, InvalidOid, -1,
					   false, false, false, false, true).objectId;
#else
	return DefineIndex(relid, stmt, InvalidOid, InvalidOid, InvalidOid,
					   false, false, false, false, true).objectId;
#endif
}

/* 16 added onlySummarizing to ExecInsertIndexTuples (19d8e2308bc). */
static inline List *
weir_compat_insert_index_tuples(ResultRelInfo *result, TupleTableSlot *slot, EState *estate)
{
#if PG_VERSION_NUM >= 160000
	return ExecInsertIndexTuples(result, slot, estate, false, false, NULL, NIL, false);
#else
	return ExecInsertIndexTuples(result, slot, estate, false, false, NULL, NIL);
#endif
}

/* datconnlimit of a database whose DROP was interrupted: 15.4, 16 (c66a7d75e65). */
#define WEIR_DATCONNLIMIT_INVALID (-2)

/* 17 ties wait event sets to a resource owner; before, a memory context (50c67c2019a). */
static inline WaitEventSet *
weir_compat_wait_event_set(MemoryContext cxt, int nevents)
{
#if PG_VERSION_NUM >= 170000
	return CreateWaitEventSet(NULL, nevents);
#else
	return CreateWaitEventSet(cxt, nevents);
#endif
}

/*
 * A FROM item that names a relation becomes a sub-select, as the rewriter does
 * for views. 16 keeps the relation's permission check in the item itself
 * (47bb9db7599, a61b1f74823); before, it moves to an entry of the sub-select's
 * range table that is not in its FROM: old, if the sub-select has one.
 */
static inline void
weir_compat_rte_to_subquery(RangeTblEntry *rte, Query *subquery, RangeTblEntry *old)
{
	rte->rtekind = RTE_SUBQUERY;
	rte->subquery = subquery;
	rte->tablesample = NULL;
	rte->inh = false;
#if PG_VERSION_NUM < 160000
	if (old)
	{
		old->requiredPerms = rte->requiredPerms;
		old->checkAsUser = rte->checkAsUser;
		old->selectedCols = rte->selectedCols;
	}
	rte->relid = InvalidOid;
	rte->relkind = 0;
	rte->rellockmode = 0;
	rte->requiredPerms = 0;
	rte->checkAsUser = InvalidOid;
	rte->selectedCols = NULL;
#endif
}

/*
 * The rights that an item asks for are those of this relation, after weir_compat_rte_to_subquery. From 16 on they
 * are still those of the relation that it was.
 */
static inline void
weir_compat_permission_rte_names(RangeTblEntry *rte, RangeTblEntry *old, Oid relid)
{
#if PG_VERSION_NUM < 160000
	if (old)
	{
		old->relid = relid;
		old->relkind = RELKIND_RELATION;
	}
#endif
}

/* What stands before the FROM items of a sub-select that takes the place of a relation. */
static inline List *
weir_compat_permission_rtes(RangeTblEntry *rte)
{
#if PG_VERSION_NUM < 160000
	RangeTblEntry *old = copyObject(rte);

	old->inh = false;
	old->inFromCl = false;
	old->lateral = false;
	old->tablesample = NULL;
	return list_make1(old);
#else
	return NIL;
#endif
}

/*
 * The relations of a query are read without asking for the user's rights:
 * weir's own tables. From 16 on a relation must have its entry, and an entry must ask for
 * something: the bootstrap superuser is asked, who may.
 */
static inline void
weir_compat_forget_permissions(Query *query)
{
#if PG_VERSION_NUM >= 160000
	ListCell   *lc;

	foreach(lc, query->rteperminfos)
		lfirst_node(RTEPermissionInfo, lc)->checkAsUser = BOOTSTRAP_SUPERUSERID;
#else
	for (int i = 0; i < list_length(query->rtable); i++)
		list_nth_node(RangeTblEntry, query->rtable, i)->requiredPerms = 0;
#endif
}

/* The FROM items of a query have moved to another: so do their permission checks, from 16 on. */
static inline void
weir_compat_move_permissions(Query *to, Query *from)
{
#if PG_VERSION_NUM >= 160000
	to->rteperminfos = from->rteperminfos;
	from->rteperminfos = NIL;
#endif
}

/* FROM items of a query have been copied to another: so are their permission checks, from 16 on. */
static inline void
weir_compat_copy_permissions(Query *to, Query *from)
{
#if PG_VERSION_NUM >= 160000
	to->rteperminfos = copyObject(from->rteperminfos);
#endif
}

/* A statement reads one more column of a relation: 16 keeps that apart from the FROM item. */
static inline void
weir_compat_add_select(Query *query, RangeTblEntry *rte, AttrNumber attnum)
{
#if PG_VERSION_NUM >= 160000
	RTEPermissionInfo *info = getRTEPermissionInfo(query->rteperminfos, rte);

	info->requiredPerms |= ACL_SELECT;
	info->selectedCols = bms_add_member(info->selectedCols, attnum - FirstLowInvalidHeapAttributeNumber);
#else
	rte->requiredPerms |= ACL_SELECT;
	rte->selectedCols = bms_add_member(rte->selectedCols, attnum - FirstLowInvalidHeapAttributeNumber);
#endif
}

/* From 16 on a column above outer joins says which of them may make it NULL (2489d76c4906). */
static inline void
weir_compat_set_nulling(Var *var, Bitmapset *joins)
{
#if PG_VERSION_NUM >= 160000
	var->varnullingrels = joins;
#endif
}

/* A query whose FROM items name no relations any more. 16: see above. */
static inline void
weir_compat_no_permissions(Query *query)
{
#if PG_VERSION_NUM >= 160000
	query->rteperminfos = NIL;
#endif
#if PG_VERSION_NUM >= 180000
	query->hasGroupRTE = false;
#endif
}

/* A sort clause whose operator is ">": 18 keeps that beside the operator. */
static inline void
weir_compat_descending(SortGroupClause *clause)
{
#if PG_VERSION_NUM >= 180000
	clause->reverse_sort = true;
#else
	(void) clause;
#endif
}

/*
 * 18 lets expressions over group keys refer to a range table entry for the
 * grouping step (247dea89f76). Undo that: plain expressions, as before 18.
 */
static inline void
weir_compat_flatten_groups(Query *query)
{
#if PG_VERSION_NUM >= 180000
	ListCell   *lc;

	if (!query->hasGroupRTE)
		return;
	query->targetList = (List *) flatten_group_exprs(NULL, query, (Node *) query->targetList);
	query->havingQual = flatten_group_exprs(NULL, query, query->havingQual);
	query->hasGroupRTE = false;
	foreach(lc, query->rtable)
	{
		RangeTblEntry *rte = lfirst(lc);

		if (rte->rtekind == RTE_GROUP)
		{
			rte->rtekind = RTE_RESULT;
			rte->groupexprs = NIL;
		}
	}
#endif
}

/* 18 counts index searches for EXPLAIN (0fbceae841c). */
static inline IndexScanDesc
weir_compat_index_beginscan(Relation heap, Relation index, Snapshot snapshot, int nkeys)
{
#if PG_VERSION_NUM >= 180000
	return index_beginscan(heap, index, snapshot, NULL, nkeys, 0);
#else
	return index_beginscan(heap, index, snapshot, nkeys, 0);
#endif
}

/* 18 dropped ExecutorRun's execute_once (3eea7a0c97e). */
static inline void
weir_compat_executor_run(QueryDesc *desc)
{
#if PG_VERSION_NUM >= 180000
	ExecutorRun(desc, ForwardScanDirection, 0);
#else
	ExecutorRun(desc, ForwardScanDirection, 0, true);
#endif
}

/*
 * Calls a type's input function. 16 lets it return its errors (ccff2d20ed9,
 * d9f7f5d32f2): then false with *error. Before, it raises them.
 */
static inline bool
weir_compat_input_call(FmgrInfo *function, char *string, Oid ioparam, int32 typmod,
					   Datum *result, ErrorData **error)
{
#if PG_VERSION_NUM >= 160000
	ErrorSaveContext escontext = {.type = T_ErrorSaveContext,.details_wanted = true};

	if (InputFunctionCallSafe(function, string, ioparam, typmod, (Node *) &escontext, result))
		return true;
	*error = escontext.error_data;
	return false;
#else
	*result = InputFunctionCall(function, string, ioparam, typmod);
	return true;
#endif
}

/* 18 has CHECK constraints that are not enforced (ca87c415e2f). */
static inline bool
weir_compat_check_enforced(const ConstrCheck *check)
{
#if PG_VERSION_NUM >= 180000
	return check->ccenforced;
#else
	return true;
#endif
}

/* 18 has generated columns that are computed when they are read, and makes such unless told STORED (83ea6c54025). */
static inline bool
weir_compat_is_virtual(Form_pg_attribute att)
{
#if PG_VERSION_NUM >= 180000
	return att->attgenerated == ATTRIBUTE_GENERATED_VIRTUAL;
#else
	return false;
#endif
}

/* 16 replaced the pg_xxx_aclcheck family by object_aclcheck (c727f511bd7). */
static inline AclResult
weir_compat_function_execute(Oid funcid, Oid userid)
{
#if PG_VERSION_NUM >= 160000
	return object_aclcheck(ProcedureRelationId, funcid, userid, ACL_EXECUTE);
#else
	return pg_proc_aclcheck(funcid, userid, ACL_EXECUTE);
#endif
}

/* 16 renamed RelFileNode to RelFileLocator (b0a55e43299). */
#if PG_VERSION_NUM >= 160000
typedef RelFileLocator WeirRelFile;
#else
typedef RelFileNode WeirRelFile;
#endif

/* 17 renamed InvalidBackendId to INVALID_PROC_NUMBER (024c5211173). */
static inline SMgrRelation
weir_compat_smgropen(WeirRelFile file)
{
#if PG_VERSION_NUM >= 170000
	return smgropen(file, INVALID_PROC_NUMBER);
#else
	return smgropen(file, InvalidBackendId);
#endif
}

/* 17 gave LogLogicalMessage a flush argument (173b56f1ef5). */
static inline XLogRecPtr
weir_compat_log_message(const char *prefix, const char *message, size_t size)
{
#if PG_VERSION_NUM >= 170000
	return LogLogicalMessage(prefix, message, size, false, true);
#else
	return LogLogicalMessage(prefix, message, size, false);
#endif
}

#endif							/* WEIR_COMPAT_H */
