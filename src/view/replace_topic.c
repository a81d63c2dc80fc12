/*
 * replace_topic.c
 *	  weir.replace(..., start => 'earliest'): the new query is filled from the topic, then takes its place.
 *
 * replace.c ⇒ begin; catch_up.c fills ⇒ worker/swapper.c ⇒ finish. The second view is a continuous view like
 * any other, in the schema of the first and dropped with it; weir.view_def.replaces says whose place it will take. So
 * whatever is killed, it goes on from its positions, and the first view is kept meanwhile.
 *
 * It may take the place at any moment after it has caught up at every partition: from then on both
 * hold what the streams have brought up to the last commit.
 *
 * Runs in a session (begin, give up) and in the first worker (finish).
 * Locks of finish: Share on the streams, Exclusive on the first view's table, AccessExclusive if columns
 * come or go. They are waited for LOCK_TIMEOUT at most, since whoever comes later waits behind them.
 */
#include "postgres.h"

#include "catalog/catalog.h"
#include "catalog/dependency.h"
#include "catalog/pg_class.h"
#include "commands/defrem.h"
#include "delta/ingest.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "view/close.h"
#include "view/define.h"
#include "view/replace.h"
#include "view/shape.h"
#include "worker/shared.h"

#define LOCK_TIMEOUT	"1s"

/* --- begin and give up ----------------------------------------------------------- */

/* weir_replace_name: of the second view, beside the first. */
char *
weir_replace_name(View *view)
{
	return ChooseRelationName(get_rel_name(view->relid), NULL, "replacement",
							  get_rel_namespace(view->relid), false);
}

View *
weir_replace_pending(Oid view)
{
	ListCell   *lc;

	foreach(lc, weir_view_oids())
	{
		View	   *other = weir_view_get(lfirst_oid(lc));

		if (other && other->replaces == view)
			return other;
	}
	return NULL;
}

void
weir_replace_give_up(View *view)
{
	View	   *beside = weir_replace_pending(view->relid);
	CatalogScope scope;

	if (beside == NULL)
		return;
	weir_catalog_open(&scope);
	(void) weir_catalog_exec("DROP TABLE %s", weir_relation_name(beside->relid));
	weir_catalog_close(&scope);
	CommandCounterIncrement();
	weir_cache_forget();
}

/* Views that the first stands for its query in are refreshed when it has another: from the kept rows. */
static void
check_above(View *view)
{
	ListCell   *lc;

	foreach(lc, weir_replace_inlined(view))
	{
		View	   *above = weir_view_require(lfirst_oid(lc));

		if (!weir_view_is_whole(above))
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("continuous view %s reads %s, and kept rows cannot tell what it would hold", above->name, view->name),
					 errdetail("Rows that it has counted are no longer kept (weir.keep of the stream)."),
					 errhint("Drop it first, and create it again with weir.start = 'earliest'.")));
	}
}

void
weir_replace_begin(Replace *replace)
{
	ObjectAddress beside;
	ObjectAddress view;
	CatalogScope scope;

	weir_replace_check_kind(replace);
	check_above(replace->view);
	ObjectAddressSet(beside, RelationRelationId, replace->beside->relid);
	ObjectAddressSet(view, RelationRelationId, replace->view->relid);
	recordDependencyOn(&beside, &view, DEPENDENCY_AUTO);
	weir_catalog_open(&scope);
	(void) weir_catalog_exec("UPDATE weir.view_def SET replaces = %u WHERE view = %u",
							 replace->view->relid, replace->beside->relid);
	weir_catalog_changed();
	weir_catalog_close(&scope);
	weir_cache_forget();
}

/* --- finish ------------------------------------------------------------------------ */

/* Has the view caught up everywhere, and does the other one not stand still by order? */
static bool
is_ready(View *beside)
{
	View	   *view = beside ? weir_view_get(beside->replaces) : NULL;
	CatalogScope scope;
	bool		ready;

	if (view == NULL || beside->status != VIEW_RUNNING || view->status == VIEW_PAUSED)
		return false;
	weir_catalog_open(&scope);
	ready = weir_catalog_exec("SELECT FROM weir.view_position WHERE view = %u", beside->relid) == 0;
	weir_catalog_close(&scope);
	return ready;
}

List *
weir_replace_ready(void)
{
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, weir_view_oids())
	{
		View	   *view = weir_view_get(lfirst_oid(lc));

		if (view && OidIsValid(view->replaces) && is_ready(view))
			result = lappend_oid(result, view->relid);
	}
	return result;
}

/* The first view's owner may have changed since. */
static void
follow_owner(Replace *replace)
{
	CatalogScope scope;

	if (replace->view->owner == replace->beside->owner)
		return;
	weir_catalog_open(&scope);
	(void) weir_catalog_exec("ALTER TABLE %s OWNER TO %s", weir_relation_name(replace->beside->relid),
							 quote_identifier(GetUserNameFromId(replace->view->owner, false)));
	weir_catalog_close(&scope);
	CommandCounterIncrement();
	weir_cache_forget();
	replace->view = weir_view_require(replace->view->relid);
	replace->beside = weir_view_require(replace->beside->relid);
}

/* Columns of the first view's table may have been renamed since. */
static void
check_order(Replace *replace, Query *query)
{
	ListCell   *lc;

	foreach(lc, list_concat_copy(replace->kept, replace->added))
	{
		TargetEntry *tle = list_nth(query->targetList, foreach_current_index(lc));

		if (strcmp(tle->resname, lfirst(lc)) != 0)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("columns of continuous view %s have changed since weir.replace was called", replace->view->name),
					 errhint("Call weir.replace again.")));
	}
}

static void
finish_body(void *arg)
{
	Replace    *replace = arg;
	Query	   *query;

	weir_replace_check(replace->view);
	follow_owner(replace);
	query = weir_shape_definition(replace->beside->query_relid);
	weir_replace_compare(replace, query);
	check_order(replace, query);
	weir_replace_take_place(replace, true);
}

void
weir_replace_finish(Oid relid)
{
	View	   *beside = weir_view_get(relid);
	View	   *view = beside ? weir_view_get(beside->replaces) : NULL;
	Replace		replace = {0};
	ErrorData  *error;

	if (view == NULL)
		return;
	(void) set_config_option("lock_timeout", LOCK_TIMEOUT, PGC_SUSET, PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
	weir_view_lock_streams(list_concat_unique_oid(weir_view_base_streams(view), weir_view_base_streams(beside)));
	LockRelationOid(view->relid, ExclusiveLock);
	replace.beside = weir_view_get(relid);
	if (!is_ready(replace.beside))
		return;
	replace.view = weir_view_require(replace.beside->replaces);
	replace.table = weir_relation_name(replace.view->relid);
	error = weir_try(finish_body, &replace);
	if (error == NULL)
	{
		ereport(LOG, (errmsg("continuous view %s has its new query", replace.view->name)));
		return;
	}
	weir_cache_forget();
	ereport(LOG,
			(errmsg("continuous view %s cannot take the place of %s: %s", weir_relation_name(relid),
					weir_relation_name(view->relid), error->message)));
	weir_view_set_status(relid, VIEW_FAILED, psprintf("cannot take the place of %s: %s", weir_relation_name(view->relid), error->message));
}
