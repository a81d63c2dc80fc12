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

#include "access/attmap.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_class.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_foreign_server.h"
#include "commands/defrem.h"
#include "executor/executor.h"
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

#endif							/* WEIR_COMPAT_H */
