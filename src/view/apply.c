/*
 * apply.c
 *	  Running a view's maintenance statement over a delta.
 *
 * ingest ⇒ plan ⇒ apply ⇒ the view's tables. Runs in the transaction of the batch: in a
 * worker, or in the backend that INSERTed. The statements and their locks are plan.c's.
 * Memory: one scratch context per call.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/catalog.h"
#include "catalog/stream.h"
#include "compat.h"
#include "miscadmin.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "view/apply.h"
#include "view/close.h"
#include "view/join.h"
#include "view/measure.h"
#include "view/plan.h"
#include "view/recompute.h"
#include "view/session.h"
#include "view/shape.h"
#include "view/upstream.h"
#include "worker/shared.h"

static void
view_error_context(void *arg)
{
	errcontext("maintaining continuous view %s", ((View *) arg)->name);
}

/* What one call is to do, and has done. */
typedef struct ApplyResult
{
	bool		all;			/* make the view equal its query instead of merging rows */
	bool		close;			/* close windows instead */
	bool		ask;			/* only ask for next_end */
	List	   *whole;			/* of Delta: merge all rows of all streams, into an empty view */
	TimestampTz next_end;
	Interval	span;
	WindowTimes times;			/* of a final view */
	uint64		changed;
	int64		late;
} ApplyResult;

/*
 * Rows of the view expire in steps of a twentieth of weir.keep, at least a second: the
 * expirer is told now and then, not with every batch.
 */
static bool
time_to_expire(View *view, ViewPlan *plan, TimestampTz stream_time)
{
	int64		keep;
	TimestampTz last;			/* not what a transaction that was rolled back has come to */

	if (view->keep == NULL || plan->passes || TIMESTAMP_NOT_FINITE(stream_time))
		return false;
	last = weir_stat_view_stream_time(view->relid);
	if (last == DT_NOBEGIN)
		return true;
	keep = view->keep->time + view->keep->day * USECS_PER_DAY +
		view->keep->month * DAYS_PER_MONTH * USECS_PER_DAY;
	return stream_time - last >= Max(keep / 20, USECS_PER_SEC);
}

/*
 * Rows of the delta get their sessions (session_run.c), sessions that have moved are brought to where they are
 * now, and the rows merged.
 */
static void
run_sessions(View *view, ViewPlan *plan, Delta *delta, QueryEnvironment *env, ApplyResult *result)
{
	SessionStatements *sessions = plan->sessions;
	SessionWork work;
	ListCell   *lc;

	weir_measure_part("rows and their sessions", false);
	weir_session_run(&sessions->rule, weir_plan_for_size(plan, sessions->source, plan->source_plans, delta->nrows),
					 plan->text, env, view->state_relid,
					 sessions->rule.finals ? result->times.closed : DT_NOBEGIN, DT_NOBEGIN, &work);
	weir_measure_part("sessions that merge", false);
	foreach(lc, work.moved)
		(void) weir_run_plan_newest(weir_plan_for_size(plan, sessions->absorb, plan->absorb_plans, 0), plan->text,
									weir_session_environment(&work, lfirst(lc)), None_Receiver);
	env = weir_session_environment(&work, NULL);
	if (work.moved && sessions->gone)
		result->changed += weir_run_plan_newest(weir_plan_by_index(plan, sessions->gone, plan->gone_plans, 0),
												plan->text, env, None_Receiver);
	if (work.nrows > 0 && sessions->keep)
	{
		weir_measure_part("rows kept for aggregates", false);
		(void) weir_run_plan_newest(weir_plan_for_size(plan, sessions->keep, plan->keep_plans, work.nrows), plan->text, env, None_Receiver);
	}
	weir_measure_part("statement", true);
	if (work.nrows > 0)
		result->changed += weir_run_plan_newest(sessions->keep ? weir_plan_by_index(plan, plan->tree, plan->plans, work.nrows) :
												weir_plan_for_size(plan, plan->tree, plan->plans, work.nrows),
												plan->text, env, None_Receiver);
	weir_measure_part("late rows", false);
	if (work.nlate > 0 && plan->late)
		result->late = weir_late_collect(view, delta->stream,
										 weir_plan_for_size(plan, plan->late, plan->late_plans, work.nlate), env);
	weir_session_free(&work);
}

/* Rows that no aggregate over a session needs any more. */
static void
free_rows(ViewPlan *plan)
{
	weir_measure_part("rows forgotten", false);
	(void) weir_run_plan_newest(weir_plan_by_index(plan, plan->sessions->free, plan->free_plans, 0), plan->text,
								create_queryEnv(), None_Receiver);
}

/* Closed sessions that no row can touch any more are forgotten, in steps of a gap. */
static void
purge_sessions(ViewPlan *plan, TimestampTz until)
{
	if (TIMESTAMP_NOT_FINITE(until) ||
		(plan->purged != DT_NOBEGIN && until - plan->purged < plan->sessions->rule.gap))
		return;
	weir_window_times.closing = until;
	if (plan->sessions->free && !plan->sessions->rule.finals)
		free_rows(plan);
	(void) weir_run_plan_newest(weir_plan_by_index(plan, plan->sessions->purge, plan->purge_plans, 0), plan->text,
								create_queryEnv(), None_Receiver);
	plan->purged = until;
}

/* Closes windows, or finds out when the next one ends. */
static void
run_close(View *view, ViewPlan *plan, QueryEnvironment *env, ApplyResult *result)
{
	List	   *deltas = NIL;
	int64		nrows = 0;
	PlannedStmt *planned;
	ListCell   *lc;

	if (plan->next)
	{
		weir_measure_part("next window to close", false);
		result->span = plan->span;
		result->next_end = weir_atclose_end(weir_plan_for_size(plan, plan->next, plan->next_plans, 0), env);
		if (result->ask || result->next_end > result->times.closing)
			return;
		deltas = weir_atclose_deltas(view, &plan->span);
		foreach(lc, deltas)
			nrows += ((Delta *) lfirst(lc))->nrows;
		env = weir_run_environment(plan->streams, deltas);
	}
	if (plan->sessions)
	{
		weir_measure_part("sessions closed", true);
		planned = weir_plan_by_index(plan, plan->close, plan->close_plans, 0);
		result->changed = plan->passes ? weir_pass_run(view, planned, plan->text, env, true) :
			weir_run_plan_newest(planned, plan->text, env, None_Receiver);
		if (plan->sessions->free)
			free_rows(plan);
		(void) weir_run_plan_newest(weir_plan_by_index(plan, plan->sessions->shadow, plan->shadow_plans, 0), plan->text,
									env, None_Receiver);
		purge_sessions(plan, result->times.closing);
		return;
	}
	planned = plan->remember ? weir_plan_no_scan(plan, plan->close, plan->close_plans, nrows) :
		weir_plan_for_size(plan, plan->close, plan->close_plans, nrows);
	weir_measure_part("windows closed", true);
	result->changed = plan->passes ? weir_pass_run(view, planned, plan->text, env, plan->exclusive) :
		plan->exclusive ? weir_run_plan_newest(planned, plan->text, env, None_Receiver) :
		weir_run_plan(planned, plan->text, env, None_Receiver);
	if (plan->remember)
	{
		weir_measure_part("last rows of keys", false);
		(void) weir_run_plan_newest(weir_plan_no_scan(plan, plan->remember, plan->remember_plans, nrows), plan->text,
									env, None_Receiver);
	}
	foreach(lc, deltas)
		weir_delta_free(lfirst(lc));
}

static void
run_whole(View *view, ViewPlan *plan, ApplyResult *result)
{
	int64		nrows = 0;
	QueryEnvironment *env = weir_run_environment(plan->streams, result->whole);
	PlannedStmt *planned;
	ListCell   *lc;

	if (plan->whole == NULL)
		return;					/* run at close: nothing to do before */
	foreach(lc, result->whole)
		nrows += ((Delta *) lfirst(lc))->nrows;
	planned = weir_plan_for_size(plan, plan->whole, plan->whole_plans, nrows);
	if (plan->passes && !plan->close)
		result->changed = weir_pass_run(view, planned, plan->text, env, true);
	else
		result->changed = weir_run_plan_newest(planned, plan->text, env, None_Receiver);
}

/* Makes the view equal its query over the tables of the views below. */
static void
run_all(View *view, ViewPlan *plan, QueryEnvironment *env, ApplyResult *result)
{
	PlannedStmt *planned = weir_plan_for_size(plan, plan->all, plan->all_plans, PG_INT64_MAX);

	weir_measure_part("statement", true);
	result->changed = weir_run_plan_newest(planned, plan->text, env, None_Receiver);
	if (plan->clear == NULL)
		return;
	(void) weir_run_plan_newest(weir_plan_for_size(plan, plan->clear, plan->clear_plans, 0), plan->text, env, None_Receiver);
	(void) weir_run_plan_newest(weir_plan_for_size(plan, plan->states, plan->states_plans, PG_INT64_MAX), plan->text,
								env, None_Receiver);
	weir_capture_skip(view->relid);
}

static pg_noinline void
run_planned(View *view, ViewPlan *plan, List *deltas, ApplyResult *result)
{
	Delta	   *delta = deltas ? linitial(deltas) : NULL;
	int64		nrows = delta ? delta->nrows : 0;
	QueryEnvironment *env = weir_run_environment(plan->streams, deltas);
	PlannedStmt *planned;

	if (result->close)
	{
		run_close(view, plan, env, result);
		return;
	}
	if (result->whole)
	{
		run_whole(view, plan, result);
		return;
	}
	if (result->all)
	{
		run_all(view, plan, env, result);
		return;
	}
	if (plan->sessions)
	{
		if (delta)
			run_sessions(view, plan, delta, env, result);
	}
	else if (plan->clear)
		result->changed = weir_retract_run(plan, env, nrows);
	else if (plan->tree)
	{
		planned = weir_plan_for_size(plan, plan->tree, plan->plans, nrows);
		weir_measure_part("statement", true);
		if (plan->passes && !plan->close)
			result->changed = weir_pass_run(view, planned, plan->text, env, plan->exclusive);
		else
			result->changed = plan->exclusive ?
				weir_run_plan_newest(planned, plan->text, env, None_Receiver) :
				weir_run_plan(planned, plan->text, env, None_Receiver);
	}
	if (plan->late && delta && !plan->sessions)
	{
		weir_measure_part("late rows", false);
		result->late = weir_late_collect(view, delta->stream,
										 weir_plan_for_size(plan, plan->late, plan->late_plans, nrows), env);
	}
	if (delta && time_to_expire(view, plan, delta->stream_time))
	{
		if (weir_view_expires_by_batches(view, plan->sessions != NULL))
			result->changed += weir_view_expire(view, delta->stream_time);
		weir_stat_view_time(view->relid, delta->stream_time);
		if (plan->sessions && !plan->sessions->rule.finals)
			purge_sessions(plan, weir_view_keep_limit(view, delta->stream_time));
	}
}

/* Runs the plan with the table open for changes; the counters are right again after an error. */
static pg_noinline void
run_guarded(View *view, ViewPlan *plan, List *deltas, ApplyResult *result)
{
	WindowTimes save = weir_window_times;
	Delta	   *delta = deltas ? linitial(deltas) : NULL;
	Delta	   *save_delta = weir_kept_enter(delta);
	Measure    *save_measure = weir_measure_enter(view, delta ? delta->nrows : 0);
	JoinApplied *save_applied = weir_applied_enter(weir_applied_begin(view->relid, delta));
	const int	outer_depth = weir_applying_begin();

	plan->in_use++;
	weir_window_times = result->times;
	PG_TRY();
	{
		run_planned(view, plan, deltas, result);
	}
	PG_CATCH();
	{
		weir_applying_end(outer_depth);
		weir_window_times = save;
		(void) weir_kept_enter(save_delta);
		weir_measure_leave(save_measure, false);
		(void) weir_applied_enter(save_applied);
		weir_plan_release(plan);
		PG_RE_THROW();
	}
	PG_END_TRY();
	weir_applying_end(outer_depth);
	weir_window_times = save;
	(void) weir_kept_enter(save_delta);
	weir_measure_leave(save_measure, true);
	(void) weir_applied_enter(save_applied);
	weir_plan_release(plan);
}

static void
apply_deltas(View *view, List *deltas, ApplyResult *result)
{
	ErrorContextCallback callback = {error_context_stack, view_error_context, view};
	MemoryContext scratch = AllocSetContextCreate(CurrentMemoryContext, "weir view apply",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(scratch);
	ViewScope	scope;
	ViewPlan   *plan;

	error_context_stack = &callback;
	weir_view_scope_open(view, &scope);
	plan = weir_plan_current(view);
	if (plan->exclusive)
		weir_run_take_turn(view->relid);
	weir_view_scope_settings(view);
	run_guarded(view, plan, deltas, result);
	weir_view_scope_close(&scope);
	error_context_stack = callback.previous;
	MemoryContextSwitchTo(old);
	MemoryContextDelete(scratch);
}

uint64
weir_view_apply(View *view, Delta *delta)
{
	TimestampTz started = GetCurrentTimestamp();
	ApplyResult result = {0};

	if (delta->nrows == 0)
		return 0;
	if (view->joins)
		weir_join_check_kept(view);
	if (weir_view_closes(view))
		result.times.closed = result.times.closing = weir_close_lock(view);
	if (view->closes)
		weir_behind_note(view, delta, result.times.closed); /* the statement asks for it */
	apply_deltas(view, list_make1(delta), &result);
	if (weir_view_is_final(view))
	{
		result.changed = 0;		/* states, not rows */
		if (view->upstreams == NIL)
			weir_behind_note(view, delta, result.times.closed);
	}
	weir_stat_view(view->relid, delta->nrows, (int64) result.changed, result.late, 0,
				   GetCurrentTimestamp() - started);
	return result.changed;
}

uint64
weir_view_apply_changes(View *view, List *deltas)
{
	TimestampTz started = GetCurrentTimestamp();
	ApplyResult result = {0};
	int64		nrows = 0;
	ListCell   *lc;

	foreach(lc, deltas)
		nrows += ((Delta *) lfirst(lc))->nrows;
	if (nrows == 0)
		return 0;
	apply_deltas(view, deltas, &result);
	weir_stat_view(view->relid, nrows, (int64) result.changed, 0, 0, GetCurrentTimestamp() - started);
	return result.changed;
}

/* weir_view_apply_empty merges no rows: gives a global aggregate its one row. */
uint64
weir_view_apply_empty(View *view)
{
	ApplyResult result = {0};

	apply_deltas(view, NIL, &result);
	return result.changed;
}

uint64
weir_view_apply_all(View *view)
{
	ApplyResult result = {.all = true};

	apply_deltas(view, NIL, &result);
	return result.changed;
}

/*
 * weir_view_apply_whole merges all rows of a view that joins streams, one delta per
 * stream, into the view, which is empty; returns the number of result rows.
 */
uint64
weir_view_apply_whole(View *view, List *deltas)
{
	ApplyResult result = {.whole = deltas,.times = {DT_NOBEGIN, DT_NOBEGIN}};

	if (weir_view_closes(view))
		result.times.closed = result.times.closing = weir_close_read(view);
	apply_deltas(view, NIL, &result);
	return result.changed;
}

/*
 * weir_view_next_end returns when the first window ends that a view run at close has not
 * closed yet (DT_NOBEGIN: not known), and how long windows last.
 */
TimestampTz
weir_view_next_end(View *view, TimestampTz closed, Interval **span)
{
	ApplyResult result = {.close = true,.ask = true,.times = {closed, closed}};

	apply_deltas(view, NIL, &result);
	*span = palloc(sizeof(Interval));
	**span = result.span;
	return result.next_end;
}

/*
 * weir_view_apply_close inserts the rows of windows that ended after closed
 * and by closing, and returns their number. The view is locked (close.c). *span: how long
 * windows last, of a view that is run at close.
 */
uint64
weir_view_apply_close(View *view, TimestampTz closed, TimestampTz closing, Interval *span)
{
	TimestampTz started = GetCurrentTimestamp();
	ApplyResult result = {.close = true,.times = {closed, closing}};

	apply_deltas(view, NIL, &result);
	*span = result.span;
	if (result.changed > 0)
		weir_stat_view(view->relid, 0, (int64) result.changed, 0, 0, GetCurrentTimestamp() - started);
	return result.changed;
}
