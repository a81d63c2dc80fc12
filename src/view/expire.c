/*
 * expire.c
 *	  Rows of a view that weir.keep no longer covers.
 *
 * What is too old, the condition and the index to find it. The expirer deletes it (expire/views.c); of a
 * view of sessions, or one that other views read, one DELETE over the index in the
 * batch's transaction. The states go with their rows.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "catalog/catalog.h"
#include "catalog/pg_type.h"
#include "delta/segments.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/timestamp.h"
#include "view/close.h"
#include "view/shape.h"
#include "view/upstream.h"
#include "view/watermark.h"

/* A time as an SQL literal that means the same under all settings. */
char *
weir_time_literal(TimestampTz time)
{
	struct pg_tm tm;
	fsec_t		fsec;
	char		buf[MAXDATELEN + 1];

	if (TIMESTAMP_NOT_FINITE(time))
		return pstrdup(TIMESTAMP_IS_NOEND(time) ? "'infinity'" : "'-infinity'");
	if (timestamp2tm((Timestamp) time, NULL, &tm, &fsec, NULL, NULL) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("timestamp out of range")));
	tm.tm_isdst = 0;			/* -1, as timestamp2tm leaves it, would hide the zone */
	EncodeDateTime(&tm, fsec, true, 0, NULL, USE_ISO_DATES, buf);
	return quote_literal_cstr(buf);
}

/*
 * weir_age_condition is SQL that compares the table's column of this number (dropped ones not counted), which may be a timestamp in
 * UTC, with a time; column 0: true.
 */
char *
weir_age_condition(Oid relid, int column, const char *operator, TimestampTz time)
{
	bool		zoned;
	AttrNumber	attno;

	if (column == 0)
		return pstrdup("true");
	attno = weir_live_column(relid, column);
	zoned = get_atttype(relid, attno) == TIMESTAMPTZOID;
	return psprintf("%s OPERATOR(pg_catalog.%s) %s%s::pg_catalog.timestamptz%s",
					quote_identifier(get_attname(relid, attno, false)), operator,
					zoned ? "" : "pg_catalog.timezone('UTC'::pg_catalog.text, ",
					weir_time_literal(time), zoned ? "" : ")");
}

/* Number of the state table's column for a key column of the view; 0 if it is none. */
int
weir_state_key(ViewShape *shape, int column)
{
	ListCell   *lc;
	int			i = 0;

	foreach(lc, shape->keys)
	{
		i++;
		if (lfirst_node(TargetEntry, lc)->resno == column)
			return i;
	}
	return 0;
}

/* weir_view_keep_limit: rows of the view up to this time are no longer kept */
TimestampTz
weir_view_keep_limit(View *view, TimestampTz stream_time)
{
	return weir_time_plus(stream_time, view->keep, -1);
}

/*
 * weir_view_expires_by_batches: rows of sessions may still be touched by a batch, and what goes from a view that
 * other views read has to go from these in the same transaction. All others are left to the expirer.
 */
bool
weir_view_expires_by_batches(View *view, bool sessions)
{
	return sessions || weir_view_oids_above(view->relid) != NIL;
}

/*
 * weir_view_expire runs in the view's scope (owner and settings), with the
 * tables open for changes.
 */
uint64
weir_view_expire(View *view, TimestampTz stream_time)
{
	TimestampTz limit;
	int			column;
	uint64		deleted;

	if (view->keep == NULL || view->keep_column == NULL)
		return 0;
	limit = Min(weir_view_keep_limit(view, stream_time), weir_close_needs_from(view->relid));
	column = weir_live_number(view->relid, get_attnum(view->relid, view->keep_column));
	SPI_connect();
	deleted = weir_catalog_exec("DELETE FROM %s WHERE %s", view->name,
								weir_age_condition(view->relid, column, "<=", limit));
	if (deleted > 0 && !weir_view_is_final(view))
	{
		Oid			tables[2] = {view->state_relid, view->values_relid};

		for (int i = 0; i < lengthof(tables); i++)
		{
			int			key = OidIsValid(tables[i]) ? weir_state_key(weir_view_shape(view), column) : 0;

			if (key > 0)
				(void) weir_catalog_exec("DELETE FROM %s WHERE %s", weir_relation_name(tables[i]),
										 weir_age_condition(tables[i], key, "<=", limit));
		}
	}
	SPI_finish();
	if (deleted > 0)
		weir_segments_missing(view->relid, limit + 1);	/* views above cannot be made anew from it */
	return deleted;
}

/* Is the column the first of some index? */
static bool
indexed_first(Oid relid, AttrNumber attno)
{
	Relation	rel = table_open(relid, AccessShareLock);
	bool		found = false;
	ListCell   *lc;

	foreach(lc, RelationGetIndexList(rel))
	{
		Relation	index = index_open(lfirst_oid(lc), AccessShareLock);

		found |= index->rd_index->indkey.values[0] == attno;
		index_close(index, AccessShareLock);
	}
	table_close(rel, NoLock);
	return found;
}

static void
index_column(Oid relid, int column)
{
	if (column > 0 && !indexed_first(relid, weir_live_column(relid, column)))
		(void) weir_catalog_exec("CREATE INDEX ON %s (%s)", weir_relation_name(relid),
								 quote_identifier(get_attname(relid, weir_live_column(relid, column), false)));
}

/* weir_view_index_age makes an index on the column that weir.keep goes by, unless one begins with it. */
void
weir_view_index_age(View *view)
{
	CatalogScope scope;
	int			column = weir_live_number(view->relid, get_attnum(view->relid, view->keep_column));
	ViewShape  *shape = weir_view_shape(view);

	weir_catalog_open(&scope);
	index_column(view->relid, column);
	if (OidIsValid(view->state_relid))
		index_column(view->state_relid, shape->session ? shape->end_column : weir_state_key(shape, column));
	if (OidIsValid(view->values_relid) && !shape->finals)
		index_column(view->values_relid, weir_state_key(shape, column));
	weir_catalog_close(&scope);
}
