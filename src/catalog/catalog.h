/*
 * catalog.h
 *	  Reading and writing weir's own tables.
 *
 * weir's tables belong to the extension's owner; users have no rights on
 * them. Code that touches them does so between weir_catalog_open() and
 * weir_catalog_close(): SPI connected, user switched to the extension's
 * owner, search_path pinned to pg_catalog, pg_temp. After an error, the
 * (sub)transaction's abort puts everything back.
 */
#ifndef WEIR_CATALOG_H
#define WEIR_CATALOG_H

#include "weir.h"

typedef struct CatalogScope
{
	Oid			save_userid;
	int			save_sec_context;
	int			guc_level;
} CatalogScope;

extern void weir_catalog_open(CatalogScope *scope);
extern void weir_catalog_close(CatalogScope *scope);

/* Is the extension there in this database? Cheap; needs a transaction. */
extern bool weir_installed(void);

/* OID of schema weir, of the extension, of the stream access method; InvalidOid if not there. */
extern Oid	weir_schema_oid(void);
extern Oid	weir_extension_oid(void);
extern Oid	weir_stream_am_oid(void);

/* Qualified and quoted name of a relation, palloc'd; "(oid)" if it is gone. */
extern char *weir_relation_name(Oid relid);

/* Raises 42501 unless the current user owns the relation (or is superuser). */
extern void weir_check_owner(Oid relid);

#endif							/* WEIR_CATALOG_H */
