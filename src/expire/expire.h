/*
 * expire.h
 *	  weir.expires: rows of ordinary tables that go when their time has come.
 *
 * The option is a trigger, weir_expire: AFTER INSERT OR UPDATE FOR EACH ROW WHEN (new.COLUMN IS NOT NULL)
 * EXECUTE FUNCTION weir.expire(). So the column follows renames, PostgreSQL knows the
 * dependency, pg_dump carries it, and weir has nothing to remember. The trigger tells the
 * expirer (one process per database that has such tables) of a row that is due earlier than
 * what it waits for.
 */
#ifndef WEIR_EXPIRE_H
#define WEIR_EXPIRE_H

#include "weir.h"
#include "access/attnum.h"
#include "datatype/timestamp.h"
#include "utils/rel.h"

#define WEIR_EXPIRE_OPTION	"expires"
#define WEIR_EXPIRE_TRIGGER "weir_expire"

/* Are these DefElems of namespace weir just weir.expires? */
extern bool weir_expire_is_option(List *defs);

/* Raises if it is among the options of something else. */
extern void weir_expire_refuse(List *defs);

/* ALTER TABLE ... SET/RESET (weir.expires), and CREATE TABLE ... WITH. */
extern void weir_expire_alter(Oid relid, List *defs, bool reset);

/* After CREATE TRIGGER: is it one of these, then it must be as weir makes it. */
extern void weir_expire_check_trigger(Oid relid, const char *name);

/* The column that a trigger of weir.expire() goes by; InvalidAttrNumber if it is not as weir makes it. */
extern AttrNumber weir_expire_trigger_column(const Trigger *trigger);

/* Has the table the option? Its column, InvalidAttrNumber if not; *disabled: the trigger is. */
extern AttrNumber weir_expire_column(Relation rel, bool *disabled);
extern bool weir_expire_is_set(Oid relid);

/* OIDs of the tables of this database that have it; partitions go with their table. */
extern List *weir_expire_tables(void);

/* A COMMIT PREPARED: at its end the expirer looks. */
extern void weir_expire_prepared_committed(void);

/* Tells the expirer of a committed row that is due then; in expirer.c. */
extern void weir_expire_tell(TimestampTz due);

/* views.c: continuous views with weir.keep. */
extern bool weir_expire_has_views(void);
extern bool weir_expire_views_reload(void);
extern void weir_expire_views_told(void);
extern TimestampTz weir_expire_views_run(void);

/*
 * ring.c: a table that is a ring of slots. Does what is due by a limit, at most so many rows of it one by one. Returns how many rows
 * (or slots) went; *locked: a slot is full of rows that are due, and somebody reads it; not patient: its rows are deleted
 * then, if the slot is needed again soon.
 */
extern uint64 weir_expire_ring(Oid table, int column, TimestampTz limit, int piece, bool patient, bool *locked);

/* The time up to which there is nothing more to do in a ring that was looked at with this limit. */
extern TimestampTz weir_expire_ring_rest(Oid table, TimestampTz limit);

/* Deletes at most so many rows of a table, oldest first; slot: only those in this partition, or InvalidOid. */
extern uint64 weir_expire_piece(Oid table, Oid slot, int column, const char *due, int piece);

/* The expirer's work, in a process that worker.c has set up; returns when it is to end. */
extern void weir_expirer_run(void);

#endif							/* WEIR_EXPIRE_H */
