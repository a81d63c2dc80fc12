/*
 * ring.c
 *	  Slots of segmented views, emptied when all that they hold is too old.
 *
 * views.c ⇒ ring. A slot (view/ring.h) whose span of time lies behind the limit is truncated: the same cost for a thousand rows
 * and for a billion. That needs AccessExclusive on this one partition, which is tried and never waited for: no reader ever queues
 * behind it, and it is held for the milliseconds of the TRUNCATE and its commit. With somebody in the slot it is tried again a little
 * later. A ring has a slot to spare, so there is the time of a whole span for it; after that (and ten seconds, if the data
 * runs ahead), its rows are deleted in pieces, as those of other views are.
 *
 * Rows are deleted one by one, too, where somebody wants to see them go (DELETE triggers, foreign keys, a publication), and of a slot that holds
 * others as well: NULL, infinity, rows far ahead of their time, or more than one span after weir.keep was made longer.
 *
 * Runs in the expirer, in the view's transaction, as its owner and with its tables open for changes.
 */
#include "expire/expire.h"

#include "access/table.h"
#include "access/xlog.h"
#include "catalog/catalog.h"
#include "catalog/pg_publication.h"
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"
#include "view/ring.h"

/*
 * weir_expire_piece deletes at most so many rows that meet a condition, oldest first. By place: an index finds
 * each row once. In a ring a place is one in each slot, so the slot is told as well.
 */
uint64
weir_expire_piece(Oid table, Oid slot, int column, const char *due, int piece)
{
	char	   *from = weir_relation_name(OidIsValid(slot) ? slot : table);
	char	   *only = OidIsValid(slot) ? psprintf("tableoid OPERATOR(pg_catalog.=) '%u'::pg_catalog.oid AND ", slot) : "";

	return weir_catalog_exec("DELETE FROM %s WHERE %sctid OPERATOR(pg_catalog.=) ANY (ARRAY(SELECT ctid FROM %s WHERE %s ORDER BY %s LIMIT %d))",
							 weir_relation_name(table), only, from, due,
							 quote_identifier(get_attname(table, weir_live_column(table, column), false)), piece);
}

/* The first row's time in this order; false: no row, or NULL (which *found then tells apart). */
static bool
edge_time(Oid slot, const char *column, const char *order, TimestampTz *time, bool *found)
{
	bool		isnull = true;

	*found = weir_catalog_exec("SELECT %s FROM %s ORDER BY %s %s LIMIT 1", column, weir_relation_name(slot), column, order) > 0;
	if (*found)
		*time = DatumGetTimestampTz(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	return !isnull;
}

static bool
has_watching_trigger(Relation rel)
{
	for (int i = 0; rel->trigdesc != NULL && i < rel->trigdesc->numtriggers; i++)
	{
		const Trigger *trigger = &rel->trigdesc->triggers[i];

		if ((TRIGGER_FOR_DELETE(trigger->tgtype) || TRIGGER_FOR_TRUNCATE(trigger->tgtype)) &&
			trigger->tgenabled != TRIGGER_DISABLED && strcmp(trigger->tgname, "weir_refuse_change") != 0)
			return true;
	}
	return false;
}

/* Does anybody want to see rows go? */
static bool
is_watched(Oid table, Oid slot)
{
	Relation	rel = table_open(table, AccessShareLock);
	bool		watched = has_watching_trigger(rel);
	PublicationDesc desc;

	table_close(rel, NoLock);
	if (watched)
		return true;
	rel = table_open(slot, AccessShareLock);
	watched = has_watching_trigger(rel);
	if (!watched && XLogLogicalInfoActive())
	{
		RelationBuildPublicationDesc(rel, &desc);	/* those of the partitioned table count */
		watched = desc.pubactions.pubdelete;
	}
	table_close(rel, NoLock);
	return watched;
}

/* Is all that the slot holds due? By its last time: NULLs come before it. */
static bool
is_due_whole(Oid slot, const char *column, TimestampTz limit)
{
	TimestampTz last;
	bool		found;

	return edge_time(slot, column, "DESC", &last, &found) && last <= limit;
}

/* One slot. Returns how many rows went (1 for all of them); *locked as weir_expire_ring. */
static uint64
expire_slot(Oid table, Oid slot, int column, TimestampTz limit, int piece, bool patient, bool *locked)
{
	const char *name = quote_identifier(get_attname(table, weir_live_column(table, column), false));
	int			bits = weir_ring_bits(table);
	TimestampTz first;
	TimestampTz span_end;
	bool		found;

	if (!edge_time(slot, name, "", &first, &found) || first > limit)
		return 0;
	span_end = weir_ring_span_end(first, bits);
	if (span_end > limit)
		return 0;				/* more of it is to come */
	if (!is_watched(table, slot) && is_due_whole(slot, name, limit))
	{
		if (ConditionalLockRelationOid(slot, AccessExclusiveLock))
		{
			/* a row far ahead may have come meanwhile */
			if (is_due_whole(slot, name, limit))
			{
				(void) weir_catalog_exec("TRUNCATE ONLY %s", weir_relation_name(slot));
				return 1;
			}
		}
		else if (patient || weir_ring_span_end(limit, bits) - span_end <= INT64CONST(1) << bits)
		{
			*locked = true;
			return 0;			/* it is not needed yet */
		}
	}
	return weir_expire_piece(table, slot, column, weir_age_condition(slot, column, "<=", limit), piece);
}

uint64
weir_expire_ring(Oid table, int column, TimestampTz limit, int piece, bool patient, bool *locked)
{
	uint64		gone = 0;
	ListCell   *lc;

	foreach(lc, weir_ring_slots(table))
	{
		if (gone < piece)
			gone += expire_slot(table, lfirst_oid(lc), column, limit, piece - gone, patient, locked);
	}
	return gone;
}

/* Rows that come later lie behind the limit: their spans end where the next one after it ends, or later. */
TimestampTz
weir_expire_ring_rest(Oid table, TimestampTz limit)
{
	return weir_ring_span_end(limit + 1, weir_ring_bits(table)) - 1;
}
