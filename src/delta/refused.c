/*
 * refused.c
 *	  Rows of a batch that a view, or a trigger of the stream, refuses.
 *
 * ingest ⇒ refused ⇒ view/apply. Each view runs in a subtransaction of its own; when it raises an error
 * that a row can be blamed for, its delta is halved until the rows at fault stand alone; they are dead
 * letters of that view. A view whose statement cannot run, or that refuses every row of a batch, is set to
 * failed and detached at the position before the batch, so it can catch up. What the stream's own triggers
 * refuse is no row of the stream: a dead letter, and left out of the delta before it is kept.
 *
 * In a worker, inside the transaction of its batch. Memory: the caller's batch context.
 */
#include "delta/batch.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_index.h"
#include "catalog/view.h"
#include "delta/dead_letters.h"
#include "delta/stream_am.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/syscache.h"
#include "view/apply.h"
#include "worker/positions.h"
#include "worker/shared.h"

/* A view that refused so many rows of one batch is broken, not unlucky. */
#define MAX_BAD_ROWS_PER_VIEW	1000
/* A view that refused so many batches of one row in a row is broken, too. */
#define MAX_LONE_FAILURES		10

/* Errors that one row can be blamed for. */
static bool
error_is_of_row(int sqlstate)
{
	switch (ERRCODE_TO_CATEGORY(sqlstate))
	{
		case ERRCODE_DATA_EXCEPTION:	/* 22 */
		case ERRCODE_INTEGRITY_CONSTRAINT_VIOLATION:	/* 23 */
		case ERRCODE_CARDINALITY_VIOLATION: /* 21 */
		case ERRCODE_WITH_CHECK_OPTION_VIOLATION:	/* 44 */
		case ERRCODE_PLPGSQL_ERROR: /* P0: RAISE */
			return true;
		case ERRCODE_PROGRAM_LIMIT_EXCEEDED:	/* 54: e.g. an index row too large */
			return true;
		default:
			return false;
	}
}

/* ---- views ---- */

/* What try_view guards. */
typedef struct Attempt
{
	Batch	   *batch;
	View	   *view;
	Delta	   *delta;
} Attempt;

static void
attempt(void *arg)
{
	Attempt    *what = arg;

	if (what->view)
		weir_view_apply(what->view, what->delta);
	else
		weir_stream_fire_triggers(what->batch->stream, what->batch->rel, what->delta);
}

/*
 * Applies a view to a delta in a subtransaction, or, if view is NULL, fires
 * the stream's own triggers. Returns NULL, or the error it raised.
 */
static ErrorData *
try_view(Batch *batch, View *view, Delta *delta)
{
	Attempt		what = {batch, view, delta};

	return weir_try(attempt, &what);
}

/* Rows [from, to) of a delta as a delta of their own. */
static Delta *
slice(Batch *batch, int64 from, int64 to)
{
	Delta	   *part = weir_delta_create(batch->rel, work_mem);
	DeltaCursor cursor;
	Datum	   *values;
	bool	   *isnull;

	part->partly_kept = batch->delta->partly_kept;
	part->kept_from = batch->delta->kept_from;
	part->whole_since = batch->delta->whole_since;
	part->batch = batch->delta;
	weir_delta_open(&cursor, batch->delta);
	weir_delta_skip(&cursor, from);
	for (int64 i = from; i < to; i++)
	{
		if (!weir_delta_next(&cursor, &values, &isnull))
			elog(ERROR, "a delta has fewer rows than it counted");
		weir_delta_put(part, values, isnull);
	}
	weir_delta_close(&cursor);
	return part;
}

/* A search for the rows of a batch that a view refuses. */
typedef struct Bisection
{
	Batch	   *batch;
	View	   *view;			/* NULL: the stream's own triggers */
	bool	   *refused;		/* one flag per row of the delta; NULL: not wanted */
	int64		good;
	int64		bad;
	ErrorData  *last;
	Delta	   *done;			/* the good rows so far */
	bool		hopeless;		/* not a row's error, or too many */
} Bisection;

/* A part was applied: a view that joins the stream with itself has to know (join_applied.c). Frees the part. */
static void
add_done(Bisection *search, Delta *part)
{
	DeltaCursor cursor;
	Datum	   *values;
	bool	   *isnull;

	if (search->done == NULL)
		search->done = weir_delta_create(search->batch->rel, work_mem);
	weir_delta_open(&cursor, part);
	while (weir_delta_next(&cursor, &values, &isnull))
		weir_delta_put(search->done, values, isnull);
	weir_delta_close(&cursor);
	weir_delta_free(part);
}

/* Applies the rows [from, to), which failed together, as far as they can be. */
static void
bisect(Bisection *search, int64 from, int64 to)
{
	int64		middle = from + (to - from) / 2;
	int64		bounds[3] = {from, middle, to};

	check_stack_depth();
	for (int half = 0; half < 2 && !search->hopeless; half++)
	{
		int64		lo = bounds[half],
					hi = bounds[half + 1];
		Delta	   *part;
		ErrorData  *edata;

		if (lo == hi)
			continue;
		part = slice(search->batch, lo, hi);
		part->done = search->done;
		edata = try_view(search->batch, search->view, part);
		if (edata == NULL)
		{
			search->good += hi - lo;
			add_done(search, part);
			continue;
		}
		weir_delta_free(part);
		search->last = edata;
		if (!error_is_of_row(edata->sqlerrcode) || search->bad >= MAX_BAD_ROWS_PER_VIEW)
			search->hopeless = true;
		else if (hi - lo > 1)
			bisect(search, lo, hi);
		else
		{
			search->bad++;
			if (search->refused)
				search->refused[lo] = true;
			weir_dead_letter_add(search->batch->stream->relid,
								 search->view ? search->view->relid : InvalidOid,
								 &search->batch->msgs[search->batch->source[lo]],
								 edata->sqlerrcode, edata->message, edata->detail);
		}
	}
}

static void
fail_view(Batch *batch, View *view, ErrorData *edata)
{
	ListCell   *lc;

	for (int i = 0; i < batch->target->npartitions; i++)
	{
		BatchPartition *part = &batch->target->partitions[i];

		weir_position_detach_view(view->relid, batch->stream->relid, part->topic,
								  part->partition, part->first_offset);
	}
	foreach(lc, view->streams)
		weir_position_detach_inserts(view->relid, lfirst_oid(lc));
	weir_view_set_status(view->relid, VIEW_FAILED, edata->message);
	ereport(LOG,
			(errcode(edata->sqlerrcode),
			 errmsg("continuous view %s failed: %s", view->name, edata->message),
			 edata->detail ? errdetail("%s", edata->detail) : 0,
			 errhint("It keeps its position. When the cause is mended: SELECT weir.resume('%s');",
					 view->name)));
}

/* Batches of one row that a view refused one after the other (since its last success). */
typedef struct LoneFailures
{
	Oid			view;
	int			count;
} LoneFailures;

static LoneFailures lone_failures[16];

static int
count_lone_failure(Oid view, bool failed)
{
	LoneFailures *entry = &lone_failures[view % lengthof(lone_failures)];

	if (entry->view != view)
		*entry = (LoneFailures) {view, 0};
	entry->count = failed ? entry->count + 1 : 0;
	return entry->count;
}

static bool
has_unique_index(Oid relid)
{
	Relation	rel = table_open(relid, AccessShareLock);
	List	   *indexes = RelationGetIndexList(rel);
	bool		unique = false;
	ListCell   *lc;

	foreach(lc, indexes)
	{
		HeapTuple	tuple = SearchSysCache1(INDEXRELID, ObjectIdGetDatum(lfirst_oid(lc)));

		if (!HeapTupleIsValid(tuple))
			continue;
		unique |= ((Form_pg_index) GETSTRUCT(tuple))->indisunique;
		ReleaseSysCache(tuple);
	}
	table_close(rel, NoLock);
	return unique;
}

/*
 * Is the view's key not there yet? A dump restores indexes after the data, positions among it: workers
 * may begin before, and have to try again.
 */
static bool
lacks_key(View *view, ErrorData *edata)
{
	return edata->sqlerrcode == ERRCODE_INVALID_COLUMN_REFERENCE && strcmp(view->strategy, "combine") == 0 &&
		(!has_unique_index(view->relid) || (OidIsValid(view->state_relid) && !has_unique_index(view->state_relid)));
}

/*
 * isolate_bad_rows deals with a view that refused the whole delta: applies
 * what it can, in a subtransaction that is kept only if some row was good.
 */
static void
isolate_bad_rows(Batch *batch, View *view, ErrorData *edata)
{
	Bisection	search = {.batch = batch,.view = view,.last = edata};
	MemoryContext cxt = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	bool		keep;

	if (lacks_key(view, edata))
		ReThrowError(edata);
	if (!error_is_of_row(edata->sqlerrcode))
	{
		fail_view(batch, view, edata);
		return;
	}
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(cxt);
	bisect(&search, 0, batch->delta->nrows);
	if (batch->delta->nrows == 1)
		keep = count_lone_failure(view->relid, true) < MAX_LONE_FAILURES;
	else
		keep = !search.hopeless && search.good > 0;
	if (keep)
		ReleaseCurrentSubTransaction();
	else
		RollbackAndReleaseCurrentSubTransaction();
	MemoryContextSwitchTo(cxt);
	CurrentResourceOwner = owner;
	if (!keep)
		fail_view(batch, view, search.last);
	else
		weir_stat_view(view->relid, 0, 0, 0, search.bad, 0);
}

/* weir_batch_apply_views applies each view, as far as it takes the rows. */
void
weir_batch_apply_views(Batch *batch)
{
	ListCell   *lc;

	foreach(lc, batch->target->views)
	{
		View	   *view = weir_view_lock(lfirst_oid(lc));
		ErrorData  *edata;

		if (view == NULL)
			continue;			/* dropped meanwhile */
		edata = try_view(batch, view, batch->delta);
		if (edata)
			isolate_bad_rows(batch, view, edata);
		else if (batch->delta->nrows == 1)
			count_lone_failure(view->relid, false);
	}
}

/* ---- the stream's own triggers ---- */

/* Leaves out the rows of the delta that the triggers refused. */
static void
remove_refused(Batch *batch, const bool *refused)
{
	Delta	   *all = batch->delta;
	Delta	   *rest = weir_delta_create(batch->rel, weir_memory / 2);
	DeltaCursor cursor;
	Datum	   *values;
	bool	   *isnull;

	weir_delta_open(&cursor, all);
	for (int64 i = 0; weir_delta_next(&cursor, &values, &isnull); i++)
	{
		if (refused[i])
			continue;
		batch->source[rest->nrows] = batch->source[i];
		weir_delta_put(rest, values, isnull);
	}
	weir_delta_close(&cursor);
	weir_delta_free(all);
	batch->delta = rest;
}

/*
 * weir_batch_fire_triggers runs the stream's own triggers (foreign keys are such). Rows that they refuse are
 * dead letters; if they refuse all of several rows, or cannot run, the batch
 * is given up with the error: the worker shows it and tries again.
 */
void
weir_batch_fire_triggers(Batch *batch)
{
	Bisection	search = {.batch = batch};
	ErrorData  *edata = try_view(batch, NULL, batch->delta);

	if (edata == NULL)
		return;
	if (!error_is_of_row(edata->sqlerrcode))
		ReThrowError(edata);
	search.refused = palloc0(sizeof(bool) * batch->delta->nrows);
	bisect(&search, 0, batch->delta->nrows);
	if (search.hopeless || (search.good == 0 && batch->delta->nrows > 1))
		ReThrowError(search.last);
	batch->result->bad += search.bad;
	remove_refused(batch, search.refused);
}
