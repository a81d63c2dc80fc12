/*
 * recompute.c
 *	  Which part of a view's result new rows can change, where results cannot be merged.
 *
 * check ⇒ levels ⇒ recompute ⇒ recompute_key ⇒ touched ⇒ recompute_statement. Such a view is a chain of
 * levels, each one's FROM holding the next, that ends above a part that is linear in
 * its streams (filters, projections, joins with tables, UNION ALL). Levels
 * that are not linear group, number (OVER) or make distinct. Columns of the result that
 * are keys of every one of them, passed on as they are, form the recompute key: rows
 * of one key come from stream rows of the same key only. So a delta changes only
 * result rows of the keys that it holds.
 *
 * These keys are computed again from the kept rows. For that to be right, all rows of
 * a key must still be kept: a window over event time must be in the key, or
 * the stream keep its rows for ever.
 */
#include "postgres.h"

#include "catalog/stream.h"
#include "compat.h"
#include "delta/segments.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "view/recompute.h"
#include "view/shape.h"
#include "view/upstream.h"

/* Rows kept for so long are kept for ever. */
#define FOR_EVER_YEARS	100
static const char *
what_needs_rows(ViewShape *shape)
{
	ListCell   *lc;

	foreach(lc, shape->recompute->levels)
	{
		Query	   *level = lfirst(lc);
		const char *aggregate = weir_unmergeable_aggregate(level);

		if (aggregate)
			return aggregate;
		if (level->groupingSets)
			return "GROUPING SETS";
		if (level->hasWindowFuncs)
			return "OVER";
		if (level->hasDistinctOn)
			return "DISTINCT ON";
	}
	return shape->at_once ? "Grouping above an outer join whose rows without a match come at once" : "An aggregate over an aggregate";
}

static bool
keeps_for_ever(Stream *stream)
{
	int64		months = (int64) stream->keep->month + stream->keep->day / DAYS_PER_MONTH;

	return months >= FOR_EVER_YEARS * MONTHS_PER_YEAR;
}

static void
check_stream(ViewShape *shape, Stream *stream)
{
	const char *what = what_needs_rows(shape);
	Recompute  *recompute = shape->recompute;

	if (!stream->keeps_rows)
		weir_refuse(shape->name, psprintf("%s over %s needs the rows themselves, and the stream keeps none (weir.keep = 0).", what, stream->name),
					psprintf("ALTER TABLE %s SET (weir.keep = '1 day').", stream->name));
	if (!stream->logged && stream->server == NULL)
		weir_refuse(shape->name, psprintf("%s over %s needs the rows kept. After a crash they would be gone: the stream is unlogged and fed by INSERT only.", what, stream->name),
					"CREATE TABLE instead of CREATE UNLOGGED TABLE.");
	if (!recompute->windowed && !keeps_for_ever(stream))
		weir_refuse(shape->name, psprintf("%s over %s needs all rows of a key, and the stream keeps those of the last %s only.", what, stream->name,
										  DatumGetCString(DirectFunctionCall1(interval_out, IntervalPGetDatum(stream->keep)))),
					psprintf("Add window_start of tumble() over the event time to the select list and to each GROUP BY, DISTINCT ON and PARTITION BY, or keep all rows: ALTER TABLE %s SET (weir.keep = '%d years').%s",
							 stream->name, FOR_EVER_YEARS,
							 strcmp(what, "OVER") == 0 ? " Frames in the order of the event time can be kept with weir.emit = 'final'." : ""));
}

bool
weir_recompute_is_key(ViewShape *shape, TargetEntry *target)
{
	ListCell   *lc;

	foreach(lc, shape->recompute->keys)
	{
		if (((TouchKey *) lfirst(lc))->target == target)
			return true;
	}
	return false;
}

/* Raises 0A000 unless touched keys can be computed from the kept rows. */
static void
check_kept(ViewShape *shape)
{
	ListCell   *lc;

	if (shape->recompute->from_result)
		return;
	foreach(lc, shape->streams)
		check_stream(shape, weir_source_require(lfirst_oid(lc)));
	shape->why = psprintf("%s: keys that new rows touch are computed anew from the rows kept", what_needs_rows(shape));
}

/*
 * weir_recompute_filter leaves late rows out. The late rows are those of the lowest level: what
 * stands above it does not see single rows.
 */
void
weir_recompute_filter(ViewShape *shape, LateRule *rule)
{
	ViewShape	lowest = *shape;

	if (!shape->at_once)		/* rows of the join are taken back */
		weir_topn_choose(shape);
	if (shape->recompute->from_result && (shape->recompute->limit > 1 || shape->joins))
		weir_topn_ties(shape);
	else
		weir_arrival_ties(llast(shape->recompute->levels));
	check_kept(shape);
	rule->kept = shape->recompute->windowed && !shape->recompute->from_result;
	lowest.query = weir_recompute_linear_part(llast(shape->recompute->levels), NIL);
	weir_late_filter(&lowest, rule);
	weir_late_filter(shape, rule);
	shape->late = lowest.late;
}

/* weir_recompute_index gives the kept rows an index that finds those of a window. */
void
weir_recompute_index(ViewShape *shape)
{
	ListCell   *lc;

	if (!shape->recompute->windowed || shape->recompute->from_result)
		return;
	foreach(lc, shape->streams)
	{
		Stream	   *stream = weir_stream_get(lfirst_oid(lc));

		if (stream)
			weir_segments_index_time(stream);
	}
}

/* weir_recompute_cost says for weir.explain what a batch costs. */
const char *
weir_recompute_cost(ViewShape *shape)
{
	Recompute  *recompute = shape->recompute;

	if (shape->tables && recompute->keys == NIL)
		return "per batch, the whole query over the tables of the views that it reads; writers take turns";
	if (shape->tables)
		return "per batch, the rows of the touched keys in the views that it reads, found by an index that these have on the key, else by reading them all; writers take turns";
	if (recompute->from_result)
		return "per touched key, its rows in the result; writers take turns";
	if (recompute->windowed)
		return "per batch, the kept rows of all touched windows, found by their event time; writers take turns";
	return "per batch, all kept rows, or those of the touched keys where the stream has an index on the key and it is NOT NULL; writers take turns";
}

/* weir_recompute_analyse understands a query over deltas; raises 0A000 if new rows may change any row of the result. */
void
weir_recompute_analyse(ViewShape *shape)
{
	shape->recompute = palloc0(sizeof(Recompute));
	shape->strategy = "recompute";
	shape->in_place = true;
	shape->exclusive = true;
	weir_recompute_levels(shape);
	weir_recompute_keys(shape);
	if (shape->recompute->keys == NIL && (!shape->finals || shape->joins))
		weir_refuse(shape->name, psprintf("%s: no column of the select list is a key of every GROUP BY, DISTINCT ON and PARTITION BY, so new rows may change any row of the result.",
										  what_needs_rows(shape)),
					list_length(shape->recompute->levels) > 1 ?
					"Group (or partition) by a column, best by window_start of tumble(), and show it in the select list; or make the inner query a continuous view of its own, and this one a view over it." :
					"Group (or partition) by a column, best by window_start of tumble(), and show it in the select list.");
	weir_recompute_unique(shape);
	shape->grouped = shape->recompute->unique;
}
