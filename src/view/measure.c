/*
 * measure.c
 *	  weir.explain(view, live => true): what the view's next batch costs, part by part.
 *
 * A session puts its question into shared memory (one at a time in the server) and sleeps. Who applies the
 * next batch to that view, be it a worker or a session that INSERTs, sees the question, runs the
 * statements instrumented as EXPLAIN ANALYZE does, and leaves the text there. The batch may still be rolled
 * back afterwards; what it has cost is true all the same. Without a question a batch pays one look at a word of memory.
 *
 * Locks: weir_shared->lock for the question, for a few instructions and the copy of a text. Memory: the batch's.
 */
#include "postgres.h"

#include "catalog/catalog.h"
#include "compat.h"
#include "executor/instrument.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/wait_event.h"
#include "view/measure.h"
#include "worker/shared.h"
#include "worker/shmem.h"

struct Measure
{
	MemoryContext cxt;
	Oid			view;
	uint32		number;			/* of the question */
	instr_time	started;		/* of the part at hand */
	bool		main_ran;		/* the statement that the question is about */
	StringInfoData text;
};

static Measure *measuring = NULL;

/*----------------------------------------------------------------------
 * Who applies the batch
 *----------------------------------------------------------------------*/

/* The number of the question about this view; 0: nobody asks. */
static uint32
question(Oid view)
{
	Question   *box = weir_shared ? &weir_shared->question : NULL;
	uint32		number = 0;

	if (box == NULL || box->view != view || box->dboid != MyDatabaseId)
		return 0;
	LWLockAcquire(weir_shared->lock, LW_SHARED);
	if (box->view == view && box->dboid == MyDatabaseId && box->asker != 0 && !box->answered)
		number = box->number;
	LWLockRelease(weir_shared->lock);
	return number;
}

Measure *
weir_measure_enter(View *view, int64 nrows)
{
	Measure    *outer = measuring;
	uint32		number = question(view->relid);

	measuring = NULL;
	if (number != 0)
	{
		measuring = palloc0(sizeof(Measure));
		measuring->cxt = CurrentMemoryContext;
		measuring->view = view->relid;
		measuring->number = number;
		initStringInfo(&measuring->text);
		if (nrows > 0)
			appendStringInfo(&measuring->text, "batch: " INT64_FORMAT " rows\n", nrows);
	}
	return outer;
}

/* Leaves the text for who has asked, if it is still the same question. */
static void
answer(Measure *measure)
{
	Question   *box = &weir_shared->question;
	int			len = Min(measure->text.len, WEIR_ANSWER_MAX - 1);

	len = pg_mbcliplen(measure->text.data, measure->text.len, len);
	LWLockAcquire(weir_shared->lock, LW_EXCLUSIVE);
	if (box->number == measure->number && box->asker != 0 && !box->answered)
	{
		memcpy(box->text, measure->text.data, len);
		box->text[len] = '\0';
		box->answered = true;
	}
	LWLockRelease(weir_shared->lock);
	weir_progress_broadcast();
}

void
weir_measure_leave(Measure *outer, bool well)
{
	if (measuring && well && measuring->main_ran)
		answer(measuring);
	measuring = outer;
}

void
weir_measure_part(const char *name, bool is_main)
{
	MemoryContext old;

	if (measuring == NULL)
		return;
	old = MemoryContextSwitchTo(measuring->cxt);
	appendStringInfo(&measuring->text, "%s:", name);
	measuring->main_ran |= is_main;
	INSTR_TIME_SET_CURRENT(measuring->started);
	MemoryContextSwitchTo(old);
}

int
weir_measure_options(void)
{
	return measuring ? INSTRUMENT_TIMER | INSTRUMENT_ROWS : 0;
}

/* The plan's text, two spaces in. */
static void
append_plan(StringInfo buf, QueryDesc *desc)
{
	ExplainState *es = NewExplainState();
	const char *line;

	es->analyze = true;
	es->costs = false;
	es->timing = true;
	ExplainBeginOutput(es);
	ExplainPrintPlan(es, desc);
	ExplainPrintTriggers(es, desc);
	ExplainEndOutput(es);
	for (line = es->str->data; *line;)
	{
		const char *end = strchrnul(line, '\n');

		appendStringInfo(buf, "  %.*s\n", (int) (end - line), line);
		line = *end ? end + 1 : end;
	}
}

void
weir_measure_plan(QueryDesc *desc)
{
	MemoryContext old;
	instr_time	now;

	if (measuring == NULL)
		return;
	old = MemoryContextSwitchTo(measuring->cxt);
	INSTR_TIME_SET_CURRENT(now);
	INSTR_TIME_SUBTRACT(now, measuring->started);
	appendStringInfo(&measuring->text, " %.3f ms, " UINT64_FORMAT " rows\n", INSTR_TIME_GET_MILLISEC(now),
					 (uint64) desc->estate->es_processed);
	append_plan(&measuring->text, desc);
	MemoryContextSwitchTo(old);
}

/*----------------------------------------------------------------------
 * Who asks
 *----------------------------------------------------------------------*/

static void
take_back(int code, Datum arg)
{
	LWLockAcquire(weir_shared->lock, LW_EXCLUSIVE);
	weir_shared->question.asker = 0;
	weir_shared->question.view = InvalidOid;
	LWLockRelease(weir_shared->lock);
}

static void
put_question(View *view)
{
	Question   *box = &weir_shared->question;
	bool		taken;

	LWLockAcquire(weir_shared->lock, LW_EXCLUSIVE);
	taken = box->asker != 0;
	if (!taken)
	{
		box->asker = MyProcPid;
		box->dboid = MyDatabaseId;
		box->answered = false;
		if (++box->number == 0)
			box->number = 1;
		box->view = view->relid;
	}
	LWLockRelease(weir_shared->lock);
	if (taken)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("another session waits for a batch to be measured"),
				 errhint("One at a time: try again, or see who runs weir.explain in pg_stat_activity.")));
}

static void
check_runs(Oid relid)
{
	View	   *view = weir_view_require(relid);

	if (view->status != VIEW_RUNNING)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("continuous view %s takes no batches now", view->name),
				 errhint("weir.resume(%s);", quote_literal_cstr(view->name))));
}

static void
await_answer(Oid view)
{
	Hub		   *hub = weir_hub(MyDatabaseId);
	uint64		generation = weir_generation();

	ConditionVariablePrepareToSleep(&hub->progress);
	for (;;)
	{
		bool		answered;

		LWLockAcquire(weir_shared->lock, LW_SHARED);
		answered = weir_shared->question.answered;
		LWLockRelease(weir_shared->lock);
		if (answered)
			break;
		if (generation != weir_generation())
		{
			generation = weir_generation();
			check_runs(view);
		}
		ConditionVariableSleep(&hub->progress, PG_WAIT_EXTENSION);
	}
	ConditionVariableCancelSleep();
}

char *
weir_measure_ask(View *view)
{
	Oid			relid = view->relid;
	char	   *text = palloc(WEIR_ANSWER_MAX);

	weir_check_preloaded();
	check_runs(relid);
	put_question(view);
	PG_ENSURE_ERROR_CLEANUP(take_back, (Datum) 0);
	{
		await_answer(relid);
		LWLockAcquire(weir_shared->lock, LW_SHARED);
		strlcpy(text, weir_shared->question.text, WEIR_ANSWER_MAX);
		LWLockRelease(weir_shared->lock);
	}
	PG_END_ENSURE_ERROR_CLEANUP(take_back, (Datum) 0);
	take_back(0, (Datum) 0);
	return text;
}
