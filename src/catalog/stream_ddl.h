/*
 * stream_ddl.h
 *	  CREATE, ALTER and the end of streams: what ddl.c's handlers call.
 */
#ifndef WEIR_STREAM_DDL_H
#define WEIR_STREAM_DDL_H

#include "weir.h"
#include "nodes/parsenodes.h"

/* Before CREATE TABLE: checks what the statement says, sets its access method. defs: the weir.* options. */
extern void weir_stream_prepare_create(CreateStmt *stmt, List *defs);

/* After CREATE TABLE: makes the table a stream. */
extern void weir_stream_create(Oid relid, List *defs);

/* ALTER TABLE ... SET/RESET (weir.*). */
extern void weir_stream_alter(Oid relid, List *defs, bool reset);

/* After any ALTER TABLE of a stream: what must still hold, and children that follow. */
extern void weir_stream_after_alter(Oid relid, AlterTableStmt *stmt);

/* Before ALTER TABLE of a stream: raises for what cannot be done to one. */
extern void weir_stream_check_alter(Oid relid, AlterTableStmt *stmt);

/* A column or a server got another name. */
extern void weir_stream_column_renamed(Oid relid, const char *from, const char *to);
extern void weir_server_renamed(const char *from, const char *to);

/* Turns every stream and continuous view into a plain table, before DROP EXTENSION. */
extern void weir_extension_dissolve(void);

/* Removes the catalog rows of relations that were dropped. */
extern void weir_relations_dropped(List *relids);

#endif							/* WEIR_STREAM_DDL_H */
