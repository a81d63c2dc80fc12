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
#include "utils/relcache.h"

typedef struct CatalogScope
{
	Oid			save_userid;
	int			save_sec_context;
	int			guc_level;
} CatalogScope;

extern void weir_catalog_open(CatalogScope *scope);
extern void weir_catalog_close(CatalogScope *scope);

/*
 * weir_catalog_exec runs one SQL command inside an open scope and raises if
 * its SPI result is not as expected. printf-like arguments are for numbers
 * and for text that quote_identifier / quote_literal_cstr already went over.
 */
extern uint64 weir_catalog_exec(const char *fmt,...) pg_attribute_printf(1, 2);

/* Is the extension there in this database? Cheap; needs a transaction. */
extern bool weir_installed(void);

/* OID of schema weir, of the extension, of the stream access method; InvalidOid if not there. */
extern Oid	weir_schema_oid(void);
extern Oid	weir_extension_oid(void);
extern Oid	weir_stream_am_oid(void);

/* Qualified and quoted name of a relation, palloc'd; "(oid)" if it is gone. */
extern char *weir_relation_name(Oid relid);

/* Quoted names of the columns that an INSERT may give, as a list for SQL: neither dropped nor generated. */
extern char *weir_insertable_columns(Relation rel);

/* Raises 42501 unless the current user owns the relation (or is superuser). */
extern void weir_check_owner(Oid relid);

/* Raises 55000 with the line to add unless the library was preloaded. */
extern void weir_check_preloaded(void);

/*
 * The backend's cache of streams and views (stream.h, view.h) is stale: read
 * it again at its next use. Pointers handed out stay valid until the end of the transaction.
 * weir_catalog_changed() calls it.
 */
extern void weir_cache_forget(void);
extern void weir_cache_init(void);

/* Goes up with each load of the cache: what was derived from an older one may be stale. */
extern uint64 weir_cache_version(void);

/* relink.c: dependencies that pg_upgrade has left out. Inside a transaction. */
extern void weir_relink_missing(void);

#endif							/* WEIR_CATALOG_H */
