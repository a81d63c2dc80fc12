/*
 * catalog.c
 *	  The way to weir's own tables, and small look-ups that everybody needs.
 *
 * Runs in backends and workers. Holds no locks beyond those of the SQL that
 * is run. Never leaves the user or search_path changed: an error's abort
 * restores both, weir_catalog_close() does otherwise.
 */
#include "catalog/catalog.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "catalog/pg_namespace.h"
#include "commands/defrem.h"
#include "commands/extension.h"
#include "compat.h"
#include "executor/spi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

Oid
weir_schema_oid(void)
{
	return get_namespace_oid(WEIR_SCHEMA, true);
}

Oid
weir_extension_oid(void)
{
	return get_extension_oid(WEIR_EXTENSION, true);
}

Oid
weir_stream_am_oid(void)
{
	return get_table_am_oid(WEIR_STREAM_AM, true);
}

bool
weir_installed(void)
{
	return OidIsValid(weir_stream_am_oid()) && OidIsValid(weir_extension_oid());
}

/* The role that owns schema weir, and with it the extension's tables. */
static Oid
catalog_owner(void)
{
	HeapTuple	tuple;
	Oid			owner;

	tuple = SearchSysCache1(NAMESPACEOID, ObjectIdGetDatum(weir_schema_oid()));
	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("extension \"weir\" is not installed in this database"),
				 errhint("CREATE EXTENSION weir;")));
	owner = ((Form_pg_namespace) GETSTRUCT(tuple))->nspowner;
	ReleaseSysCache(tuple);
	return owner;
}

/*
 * weir_catalog_open switches to the extension's owner with a pinned
 * search_path and connects SPI.
 */
void
weir_catalog_open(CatalogScope *scope)
{
	Oid			owner = catalog_owner();

	GetUserIdAndSecContext(&scope->save_userid, &scope->save_sec_context);
	SetUserIdAndSecContext(owner,
						   scope->save_sec_context | SECURITY_LOCAL_USERID_CHANGE);
	scope->guc_level = NewGUCNestLevel();
	(void) set_config_option("search_path", "pg_catalog, pg_temp",
							 PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	SPI_connect();
}

void
weir_catalog_close(CatalogScope *scope)
{
	SPI_finish();
	AtEOXact_GUC(false, scope->guc_level);
	SetUserIdAndSecContext(scope->save_userid, scope->save_sec_context);
}

uint64
weir_catalog_exec(const char *fmt,...)
{
	StringInfoData sql;
	int			rc;

	initStringInfo(&sql);
	for (;;)
	{
		va_list		args;
		int			needed;

		va_start(args, fmt);
		needed = appendStringInfoVA(&sql, fmt, args);
		va_end(args);
		if (needed == 0)
			break;
		enlargeStringInfo(&sql, needed);
	}
	rc = SPI_execute(sql.data, false, 0);
	if (rc < 0)
		elog(ERROR, "SPI_execute failed (%s): %s",
			 SPI_result_code_string(rc), sql.data);
	pfree(sql.data);
	return SPI_processed;
}

char *
weir_relation_name(Oid relid)
{
	char	   *name = get_rel_name(relid);

	if (name == NULL)
		return psprintf("(%u)", relid);
	return quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)),
									  name);
}

char *
weir_insertable_columns(Relation rel)
{
	StringInfoData columns;

	initStringInfo(&columns);
	for (int i = 0; i < RelationGetNumberOfAttributes(rel); i++)
	{
		Form_pg_attribute att = TupleDescAttr(RelationGetDescr(rel), i);

		if (!att->attisdropped && !att->attgenerated)
			appendStringInfo(&columns, "%s%s", columns.len ? ", " : "",
							 quote_identifier(NameStr(att->attname)));
	}
	return columns.data;
}

void
weir_check_owner(Oid relid)
{
	if (!weir_compat_owns_relation(relid, GetUserId()))
		aclcheck_error(ACLCHECK_NOT_OWNER, get_relkind_objtype(get_rel_relkind(relid)),
					   get_rel_name(relid));
}

void
weir_check_preloaded(void)
{
	if (!weir_preloaded)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("weir is not loaded by the server"),
				 errdetail("The library must be there from the start of the server on."),
				 errhint("Add shared_preload_libraries = 'weir' to postgresql.conf and restart the server.")));
}
