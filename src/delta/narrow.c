/*
 * narrow.c
 *	  Segments that are too wide because weir.keep became shorter.
 *
 * ALTER TABLE ... SET (weir.keep), and expiry after it ⇒ narrow. A segment is a quarter of weir.keep
 * wide. One of a longer weir.keep would be kept until its end expires; instead, once its beginning has,
 * the rows that are still kept move into segments of today's width, and it is emptied. That is done once
 * per segment, and costs by the rows that stay.
 *
 * Locks: AccessExclusive on the segment, tried and not waited for, as for expiry; with a reader in
 * the way the next batch tries again. Inside a catalog scope, in the transaction of the ALTER or the batch.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/catalog.h"
#include "delta/segments.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "view/shape.h"

/* The columns that an INSERT may name; generated ones come out as they were. */
static char *
writable_columns(Oid segment)
{
	Relation	rel = table_open(segment, NoLock);
	TupleDesc	desc = RelationGetDescr(rel);
	StringInfoData buf;

	initStringInfo(&buf);
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		if (!att->attisdropped && att->attgenerated == '\0')
			appendStringInfo(&buf, "%s%s", buf.len ? ", " : "", quote_identifier(NameStr(att->attname)));
	}
	table_close(rel, NoLock);
	return buf.data;
}

static TimestampTz
newest_in(Oid segment)
{
	return weir_segments_query_time(psprintf("SELECT max(" WEIR_COL_EVENT_TIME ") FROM ONLY %s WHERE $1 IS NOT NULL",
											 weir_relation_name(segment)), segment);
}

/* Moves the rows from this time on into segments of today's width and empties the wide one. */
static void
split(Stream *stream, Oid wide, TimestampTz from)
{
	int64		width = weir_segments_width(stream);
	TimestampTz newest = newest_in(wide);
	char	   *columns = writable_columns(wide);

	for (TimestampTz lo = weir_segments_start(from, width); lo <= newest; lo += width)
	{
		Oid			segment = weir_segments_claim(stream, lo, lo + width);

		(void) weir_catalog_exec("INSERT INTO %s (%s) SELECT %s FROM ONLY %s WHERE " WEIR_COL_EVENT_TIME " >= %s"
								 " AND " WEIR_COL_EVENT_TIME " < %s", weir_relation_name(segment), columns, columns,
								 weir_relation_name(wide), weir_time_literal(Max(lo, from)),
								 weir_time_literal(lo + width));
	}
	weir_segments_empty(wide);
}

/* weir_segments_narrow splits the segments that began before from, though the stream's are narrower by now. */
void
weir_segments_narrow(Stream *stream, TimestampTz from)
{
	char	   *too_wide;
	ListCell   *lc;

	if (TIMESTAMP_NOT_FINITE(from))
		return;
	too_wide = psprintf("lo < $2 AND hi > $2 AND extract(epoch FROM hi - lo) * 1000000 > " INT64_FORMAT,
						weir_segments_width(stream));
	foreach(lc, weir_segments_list(stream->relid, too_wide, from))
	{
		if (ConditionalLockRelationOid(lfirst_oid(lc), AccessExclusiveLock))
		{
			weir_segments_missing(stream->relid, from);
			split(stream, lfirst_oid(lc), from);
		}
	}
}
