/*
 * positions.c
 *	  Where streams and detached views go on: weir.position, weir.view_position, weir.marker.
 *
 * This is what makes a message count exactly once. The worker's batch locks
 * its partitions' rows, compares them with what it believes (another worker
 * or weir.seek() may have been there), applies the messages, moves the rows,
 * and commits: views and positions change together or not at all, also with
 * synchronous_commit = off, where a crash takes both back.
 *
 * Locks: row locks, taken in the order of (topic, partition). Plans of the hot
 * statements are kept for the life of the process.
 */
#include "worker/positions.h"

#include "catalog/catalog.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "executor/spi.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "worker/shared.h"

#define LOCK_SQL \
	"SELECT p.next_offset, u.next_offset" \
	" FROM weir.position p," \
	" ROWS FROM (unnest($2), pg_catalog.unnest($3), pg_catalog.unnest($4))" \
	" AS u(topic, partition, next_offset)" \
	" WHERE p.stream = $1 AND p.topic = u.topic AND p.partition = u.partition" \
	" ORDER BY p.topic, p.partition FOR UPDATE OF p"

#define SAVE_SQL \
	"UPDATE weir.position p SET next_offset = u.next_offset, last_offset = u.last_offset," \
	" fingerprint = u.fingerprint, stream_time = u.stream_time" \
	" FROM ROWS FROM (unnest($2), pg_catalog.unnest($3), pg_catalog.unnest($4)," \
	" pg_catalog.unnest($5), pg_catalog.unnest($6), pg_catalog.unnest($7))" \
	" AS u(topic, partition, next_offset, last_offset, fingerprint, stream_time)" \
	" WHERE p.stream = $1 AND p.topic = u.topic AND p.partition = u.partition"

static SPIPlanPtr lock_plan = NULL;
static SPIPlanPtr save_plan = NULL;

/* Prepares a statement once per process; inside a catalog scope. */
static SPIPlanPtr
kept_plan(SPIPlanPtr *plan, const char *sql, int nargs, Oid *types)
{
	if (*plan == NULL)
	{
		SPIPlanPtr	made = SPI_prepare(sql, nargs, types);

		if (made == NULL)
			elog(ERROR, "SPI_prepare failed (%s): %s",
				 SPI_result_code_string(SPI_result), sql);
		SPI_keepplan(made);
		*plan = made;
	}
	return *plan;
}

static void
check_spi(int rc, int expected)
{
	if (rc != expected)
		elog(ERROR, "SPI failed: %s", SPI_result_code_string(rc));
}

/* A column of the result's row i; *isnull may be asked for. */
static Datum
field(int row, int column, bool *isnull)
{
	bool		null;
	Datum		value = SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc,
									  column, &null);

	if (isnull != NULL)
		*isnull = null;
	return value;
}

static int64
field_int64(int row, int column, int64 if_null)
{
	bool		isnull;
	Datum		value = field(row, column, &isnull);

	return isnull ? if_null : DatumGetInt64(value);
}

List *
weir_positions_load(Oid stream)
{
	MemoryContext cxt = CurrentMemoryContext;
	CatalogScope scope;
	List	   *result = NIL;

	weir_catalog_open(&scope);
	weir_catalog_exec("SELECT topic, partition, next_offset, last_offset, fingerprint, stream_time"
					  " FROM weir.position WHERE stream = %u AND partition >= 0"
					  " ORDER BY topic, partition", stream);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		MemoryContext oldcxt = MemoryContextSwitchTo(cxt);
		SavedPosition *pos = palloc0(sizeof(SavedPosition));

		pos->topic = TextDatumGetCString(field(i, 1, NULL));
		pos->partition = DatumGetInt32(field(i, 2, NULL));
		pos->next_offset = DatumGetInt64(field(i, 3, NULL));
		pos->last_offset = field_int64(i, 4, -1);
		pos->fingerprint = field_int64(i, 5, 0);
		pos->stream_time = field_int64(i, 6, DT_NOBEGIN);
		result = lappend(result, pos);
		MemoryContextSwitchTo(oldcxt);
	}
	weir_catalog_close(&scope);
	return result;
}

void
weir_position_init(Oid stream, const char *topic, int32 partition, int64 next_offset)
{
	CatalogScope scope;

	weir_catalog_open(&scope);
	weir_catalog_exec("INSERT INTO weir.position (stream, topic, partition, next_offset)"
					  " VALUES (%u, %s, %d, " INT64_FORMAT ") ON CONFLICT DO NOTHING",
					  stream, quote_literal_cstr(topic), partition, next_offset);
	weir_catalog_close(&scope);
}

typedef enum PositionColumn
{
	COL_TOPIC,
	COL_PARTITION,
	COL_NEXT,
	COL_LAST,
	COL_FINGERPRINT,
	COL_STREAM_TIME
} PositionColumn;

/* One column of an array of positions, as an SQL array. */
static Datum
column_array(SavedPosition *positions, int n, PositionColumn column)
{
	static const Oid types[] = {TEXTOID, INT4OID, INT8OID, INT8OID, INT8OID, TIMESTAMPTZOID};
	Datum	   *values = palloc(sizeof(Datum) * n);
	bool	   *nulls = palloc0(sizeof(bool) * n);
	int			dims[1] = {n};
	int			lbs[1] = {1};
	bool		is_text = column == COL_TOPIC;
	bool		is_int4 = column == COL_PARTITION;

	for (int i = 0; i < n; i++)
	{
		SavedPosition *pos = &positions[i];

		switch (column)
		{
			case COL_TOPIC:
				values[i] = CStringGetTextDatum(pos->topic);
				break;
			case COL_PARTITION:
				values[i] = Int32GetDatum(pos->partition);
				break;
			case COL_NEXT:
				values[i] = Int64GetDatum(pos->next_offset);
				break;
			case COL_LAST:
				values[i] = Int64GetDatum(pos->last_offset);
				nulls[i] = pos->last_offset < 0;
				break;
			case COL_FINGERPRINT:
				values[i] = Int64GetDatum(pos->fingerprint);
				nulls[i] = pos->last_offset < 0;
				break;
			case COL_STREAM_TIME:
				values[i] = TimestampTzGetDatum(pos->stream_time);
				nulls[i] = pos->stream_time == DT_NOBEGIN;
				break;
		}
	}
	return PointerGetDatum(construct_md_array(values, nulls, 1, dims, lbs, types[column],
											  is_text ? -1 : is_int4 ? 4 : 8,
											  !is_text && (is_int4 || FLOAT8PASSBYVAL),
											  is_text || is_int4 ? TYPALIGN_INT : TYPALIGN_DOUBLE));
}

bool
weir_positions_lock(Oid stream, SavedPosition *positions, int n)
{
	Oid			types[] = {REGCLASSOID, TEXTARRAYOID, INT4ARRAYOID, INT8ARRAYOID};
	Datum		values[4];
	CatalogScope scope;
	bool		same;

	weir_catalog_open(&scope);
	values[0] = ObjectIdGetDatum(stream);
	values[1] = column_array(positions, n, COL_TOPIC);
	values[2] = column_array(positions, n, COL_PARTITION);
	values[3] = column_array(positions, n, COL_NEXT);
	check_spi(SPI_execute_plan(kept_plan(&lock_plan, LOCK_SQL, lengthof(types), types),
							   values, NULL, false, 0),
			  SPI_OK_SELECT);
	same = SPI_processed == n;
	for (uint64 i = 0; i < SPI_processed; i++)
		same &= DatumGetInt64(field(i, 1, NULL)) == DatumGetInt64(field(i, 2, NULL));
	weir_catalog_close(&scope);
	return same;
}

void
weir_positions_save(Oid stream, SavedPosition *positions, int n)
{
	Oid			types[] = {REGCLASSOID, TEXTARRAYOID, INT4ARRAYOID, INT8ARRAYOID,
	INT8ARRAYOID, INT8ARRAYOID, TIMESTAMPTZARRAYOID};
	Datum		values[7];
	CatalogScope scope;

	weir_catalog_open(&scope);
	values[0] = ObjectIdGetDatum(stream);
	for (int i = COL_TOPIC; i <= COL_STREAM_TIME; i++)
		values[i + 1] = column_array(positions, n, i);
	check_spi(SPI_execute_plan(kept_plan(&save_plan, SAVE_SQL, lengthof(types), types),
							   values, NULL, false, 0),
			  SPI_OK_UPDATE);
	if (SPI_processed != n)
		elog(ERROR, "expected %d positions of stream %u, found " UINT64_FORMAT,
			 n, stream, (uint64) SPI_processed);
	weir_catalog_close(&scope);
}

/*----------------------------------------------------------------------
 * Views that do not follow their stream
 *----------------------------------------------------------------------*/

void
weir_position_detach_view(Oid view, Oid stream, const char *topic,
						  int32 partition, int64 next_offset)
{
	CatalogScope scope;

	/* the stream time belongs to this offset only if the stream stands there */
	weir_catalog_open(&scope);
	weir_catalog_exec("INSERT INTO weir.view_position"
					  " (view, stream, topic, partition, next_offset, stream_time)"
					  " VALUES (%u, %u, %s, %d, " INT64_FORMAT ","
					  " (SELECT p.stream_time FROM weir.position p WHERE p.stream = %u"
					  "   AND p.topic = %s AND p.partition = %d AND p.next_offset = " INT64_FORMAT "))"
					  " ON CONFLICT DO NOTHING",
					  view, stream, quote_literal_cstr(topic), partition, next_offset,
					  stream, quote_literal_cstr(topic), partition, next_offset);
	weir_catalog_close(&scope);
	weir_catalog_changed();
}

List *
weir_positions_detached(Oid stream)
{
	MemoryContext cxt = CurrentMemoryContext;
	CatalogScope scope;
	List	   *result = NIL;

	weir_catalog_open(&scope);
	weir_catalog_exec("SELECT view, topic, partition, next_offset, stream_time"
					  " FROM weir.view_position WHERE stream = %u AND partition >= 0"
					  " ORDER BY view::oid, topic, partition", stream);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		MemoryContext oldcxt = MemoryContextSwitchTo(cxt);
		DetachedView *detached = palloc0(sizeof(DetachedView));

		detached->view = DatumGetObjectId(field(i, 1, NULL));
		detached->topic = TextDatumGetCString(field(i, 2, NULL));
		detached->partition = DatumGetInt32(field(i, 3, NULL));
		detached->next_offset = DatumGetInt64(field(i, 4, NULL));
		detached->stream_time = field_int64(i, 5, DT_NOBEGIN);
		detached->start = -1;
		result = lappend(result, detached);
		MemoryContextSwitchTo(oldcxt);
	}
	weir_catalog_close(&scope);
	return result;
}

void
weir_position_move_view(Oid stream, const DetachedView *detached, int64 next_offset,
						TimestampTz stream_time, bool attach)
{
	char	   *which = psprintf("view = %u AND stream = %u AND topic = %s AND partition = %d"
								 " AND next_offset = " INT64_FORMAT,
								 detached->view, stream, quote_literal_cstr(detached->topic),
								 detached->partition, detached->next_offset);
	CatalogScope scope;
	uint64		n;

	weir_catalog_open(&scope);
	if (attach)
		n = weir_catalog_exec("DELETE FROM weir.view_position WHERE %s", which);
	else
		n = weir_catalog_exec("UPDATE weir.view_position SET next_offset = " INT64_FORMAT
							  ", stream_time = %s, start_offset = COALESCE(start_offset, " INT64_FORMAT ") WHERE %s", next_offset,
							  stream_time == DT_NOBEGIN ? "NULL" :
							  quote_literal_cstr(timestamptz_to_str(stream_time)),
							  Max(detached->start, detached->next_offset), which);
	if (n != 1)
		elog(ERROR, "position of view %u on stream %u was moved", detached->view, stream);
	weir_catalog_close(&scope);
}

/*----------------------------------------------------------------------
 * Markers
 *----------------------------------------------------------------------*/

bool
weir_marker_there(Oid stream)
{
	CatalogScope scope;
	bool		there;

	weir_catalog_open(&scope);
	there = weir_catalog_exec("SELECT FROM weir.marker WHERE stream = %u", stream) > 0;
	weir_catalog_close(&scope);
	return there;
}

void
weir_marker_put(Oid stream)
{
	CatalogScope scope;

	weir_catalog_open(&scope);
	weir_catalog_exec("INSERT INTO weir.marker VALUES (%u) ON CONFLICT DO NOTHING", stream);
	weir_catalog_close(&scope);
	weir_catalog_changed();
}
