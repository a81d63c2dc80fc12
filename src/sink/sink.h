/*
 * sink.h
 *	  What leaves the database: entry points for the rest of weir.
 */
#ifndef WEIR_SINK_H
#define WEIR_SINK_H

#include "weir.h"

/*
 * weir_sink_check_trigger looks at a trigger that CREATE TRIGGER just made: if
 * it executes weir.publish or weir.notify, checks its arguments, and makes a
 * weir.sink row for the former. Needs the statement's lock on the table.
 */
extern void weir_sink_check_trigger(Oid relid, const char *name);

/* A server, or a column of a table, has another name: arguments of triggers follow. */
extern void weir_sink_server_renamed(const char *from, const char *to);
extern void weir_sink_column_renamed(Oid relid, const char *from, const char *to);

/* A COMMIT PREPARED: at its end the publisher looks at the outbox. */
extern void weir_sink_prepared_committed(void);

#endif							/* WEIR_SINK_H */
