/*
 * cascade.c
 *	  From a view to the views above it, in the transaction of the batch.
 *
 * apply, close (of all views of a batch or INSERT) ⇒ capture ⇒ cascade ⇒ apply, close of the next
 * view. Views are taken by their depth, then OID: so each has all that the views below it change before it is
 * applied, in chains and diamonds, and two transactions lock them in the same order.
 *
 * In a worker each view runs in a subtransaction. One that raises is set to failed; it harms neither the views
 * below it nor the batch. For an INSERT an error is the user's.
 *
 * What a view that is paused or has failed does not take: rows of final views wait in weir.missed_row, and are
 * applied when it is resumed. A view that is computed from tables is compared with these then.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/catalog.h"
#include "catalog/pg_type.h"
#include "delta/ingest.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "view/apply.h"
#include "view/close.h"
#include "view/upstream.h"
#include "worker/shared.h"

/* --- rows that a view has missed ---------------------------------------------------- */

/* A row of a delta as the text of its table's row type; settings are plain. */
static char *
row_as_text(Relation rel, Datum *row, bool *row_isnull, Datum *values, bool *isnull)
{
	TupleDesc	desc = RelationGetDescr(rel);
	int			n = 0;

	for (int i = 0; i < desc->natts; i++)
	{
		bool		dropped = TupleDescAttr(desc, i)->attisdropped;

		isnull[i] = dropped || row_isnull[n];
		values[i] = isnull[i] ? (Datum) 0 : row[n];
		n += !dropped;
	}
	return OidOutputFunctionCall(F_RECORD_OUT, heap_copy_tuple_as_datum(heap_form_tuple(desc, values, isnull), desc));
}

static void
keep_missed(View *view, Capture *capture)
{
	Oid			types[3] = {REGCLASSOID, REGCLASSOID, TEXTOID};
	Datum		args[3] = {ObjectIdGetDatum(view->relid), ObjectIdGetDatum(capture->view)};
	Relation	rel;
	DeltaCursor cursor;
	Datum	   *row;
	bool	   *row_isnull;
	Datum	   *values;
	bool	   *isnull;
	CatalogScope scope;

	if (capture->rows == NULL || weir_source_changes(capture->view))
		return;
	rel = table_open(capture->view, AccessShareLock);
	values = palloc(sizeof(Datum) * RelationGetDescr(rel)->natts);
	isnull = palloc(sizeof(bool) * RelationGetDescr(rel)->natts);
	weir_catalog_open(&scope);
	weir_view_scope_plain();
	weir_delta_open(&cursor, capture->rows);
	while (weir_delta_next(&cursor, &row, &row_isnull))
	{
		args[2] = CStringGetTextDatum(row_as_text(rel, row, row_isnull, values, isnull));
		if (SPI_execute_with_args("INSERT INTO weir.missed_row (view, source, record) VALUES ($1, $2, $3)",
								  3, types, args, NULL, false, 0) != SPI_OK_INSERT)
			elog(ERROR, "could not insert into weir.missed_row");
	}
	weir_delta_close(&cursor);
	weir_catalog_close(&scope);
	table_close(rel, NoLock);
}

static void
forget_missed(View *view)
{
	CatalogScope scope;

	weir_catalog_open(&scope);
	weir_catalog_exec("DELETE FROM weir.missed_row WHERE view = %u", view->relid);
	weir_catalog_close(&scope);
}

/* --- one view -------------------------------------------------------------------------- */

/* The changes of each view as one delta. */
static List *
merge_by_view(List *mine)
{
	List	   *deltas = NIL;
	ListCell   *lc,
			   *ld;

	foreach(lc, mine)
	{
		Capture    *capture = lfirst(lc);
		Relation	rel;
		Delta	   *delta = NULL;
		DeltaCursor cursor;
		Datum	   *values;
		bool	   *isnull;

		if (capture->rows == NULL)
			continue;
		foreach(ld, deltas)
		{
			if (((Delta *) lfirst(ld))->stream == capture->view)
				delta = lfirst(ld);
		}
		rel = table_open(capture->view, AccessShareLock);
		if (delta == NULL)
			deltas = lappend(deltas, delta = weir_delta_create(rel, work_mem));
		weir_delta_open(&cursor, capture->rows);
		while (weir_delta_next(&cursor, &values, &isnull))
			weir_delta_put(delta, values, isnull);
		weir_delta_close(&cursor);
		table_close(rel, NoLock);
	}
	return deltas;
}

static void
take(View *view, List *mine)
{
	ListCell   *lc;

	if (list_length(view->upstreams) > 1 && weir_view_over_tables(view))
	{
		List	   *deltas = merge_by_view(mine);

		(void) weir_view_apply_changes(view, deltas);
		foreach(lc, deltas)
			weir_delta_free(lfirst(lc));
		return;
	}
	foreach(lc, mine)
	{
		Capture    *capture = lfirst(lc);

		if (capture->rows)
			(void) weir_view_apply(view, capture->rows);
	}
	if (weir_view_is_final(view))
		(void) weir_close_view(view, InvalidOid, NULL, 0);
}

static void
keep_all_missed(View *view, List *mine)
{
	ListCell   *lc;

	foreach(lc, mine)
		keep_missed(view, lfirst(lc));
}

/* What a view is to take. */
typedef struct Taking
{
	View	   *view;
	List	   *mine;
} Taking;

static void
take_body(void *arg)
{
	Taking	   *taking = arg;

	take(taking->view, taking->mine);
}

/* take in a subtransaction; a view that raises an error of its own is set to failed. */
static void
take_guarded(View *view, List *mine)
{
	Taking		taking = {view, mine};
	ErrorData  *edata = weir_try(take_body, &taking);

	if (edata == NULL)
		return;
	keep_all_missed(view, mine);
	weir_view_set_status(view->relid, VIEW_FAILED, edata->message);
	ereport(LOG,
			(errcode(edata->sqlerrcode),
			 errmsg("continuous view %s failed: %s", view->name, edata->message),
			 edata->detail ? errdetail("%s", edata->detail) : 0,
			 errhint("When the cause is mended: SELECT weir.resume('%s');", view->name)));
}

/* --- all of them ------------------------------------------------------------------------- */

/* The next view that has something to take in this subtransaction; InvalidOid: none. */
static Oid
next_view(void)
{
	SubTransactionId subid = GetCurrentSubTransactionId();
	Oid			best = InvalidOid;
	int			best_depth = 0;
	ListCell   *lc,
			   *lv;

	foreach(lc, weir_captures())
	{
		Capture    *capture = lfirst(lc);

		if (capture->subid != subid)
			continue;
		foreach(lv, weir_view_oids_above(capture->view))
		{
			Oid			oid = lfirst_oid(lv);
			int			depth = weir_view_depth(weir_view_get(oid));

			if (list_member_oid(capture->done, oid))
				continue;
			if (!OidIsValid(best) || depth < best_depth || (depth == best_depth && oid < best))
			{
				best = oid;
				best_depth = depth;
			}
		}
	}
	return best;
}

/* What this view has to take; it is noted that it has. */
static List *
captures_for(Oid relid)
{
	SubTransactionId subid = GetCurrentSubTransactionId();
	List	   *mine = NIL;
	ListCell   *lc;

	foreach(lc, weir_captures())
	{
		Capture    *capture = lfirst(lc);
		MemoryContext old;

		if (capture->subid != subid || list_member_oid(capture->done, relid) ||
			!list_member_oid(weir_view_oids_above(capture->view), relid))
			continue;
		old = MemoryContextSwitchTo(TopTransactionContext);
		capture->done = lappend_oid(capture->done, relid);
		MemoryContextSwitchTo(old);
		capture->users++;
		mine = lappend(mine, capture);
	}
	return mine;
}

static bool
is_through(Capture *capture)
{
	ListCell   *lc;

	if (capture->users > 0 || capture->subid != GetCurrentSubTransactionId())
		return false;
	foreach(lc, weir_view_oids_above(capture->view))
	{
		if (!list_member_oid(capture->done, lfirst_oid(lc)))
			return false;
	}
	return true;
}

/*
 * weir_cascade_run applies what was captured in this (sub)transaction to the views above. To be called when the
 * views below are through with a batch, closing included. guarded: in a worker.
 */
void
weir_cascade_run(bool guarded)
{
	Oid			oid;
	ListCell   *lc;

	if (weir_captures() == NIL)
		return;
	while (OidIsValid(oid = next_view()))
	{
		List	   *mine = captures_for(oid);
		View	   *view = weir_view_lock(oid);

		if (view && view->status != VIEW_RUNNING)
			keep_all_missed(view, mine);
		else if (view && guarded)
			take_guarded(view, mine);
		else if (view)
			take(view, mine);
		foreach(lc, mine)
			((Capture *) lfirst(lc))->users--;
		list_free(mine);
		if (view && weir_view_is_final(view))
			weir_request_maintenance();
	}
	foreach(lc, list_copy(weir_captures()))
	{
		if (is_through(lfirst(lc)))
			weir_capture_forget(lfirst(lc));
	}
}

/* --- filling, resuming, emptying ----------------------------------------------------------- */

/* weir_cascade_resume gives a view what it has missed, and lets it follow again. Its streams are locked. */
void
weir_cascade_resume(View *view)
{
	ListCell   *lc;

	if (view->upstreams == NIL)
		return;
	if (weir_view_over_tables(view))
		(void) weir_view_apply_all(view);
	else
		foreach(lc, view->upstreams)
		{
			Delta	   *delta = weir_upstream_missed(view, lfirst_oid(lc));

			(void) weir_view_apply(view, delta);
			weir_delta_free(delta);
		}
	forget_missed(view);
	if (weir_view_is_final(view))
		(void) weir_close_view(view, InvalidOid, NULL, 0);
}

/* weir_cascade_reset empties the views that read a final view which begins anew: they will get its rows again. */
void
weir_cascade_reset(View *view)
{
	ListCell   *lc;

	if (!weir_view_is_final(view))
		return;
	foreach(lc, list_copy(weir_view_oids_above(view->relid)))
	{
		View	   *above = weir_view_lock(lfirst_oid(lc));

		if (above == NULL || weir_view_over_tables(above))
			continue;
		weir_view_reset(above);
		if (above->status == VIEW_FAILED)
			weir_view_set_status(above->relid, VIEW_RUNNING, NULL);
	}
}
