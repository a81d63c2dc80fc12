/*
 * refresh_join.c
 *	  REFRESH of a join of streams of which not all rows are kept any more.
 *
 * change.c ⇒ here. Rows of the view from a time on are sure to have come from rows that are all kept (the oldest
 * of these, and as far behind it as the join reaches): they are taken from a second view with the same query, which is made and filled from
 * the kept rows as CREATE does it, and dropped again. Older rows stay. States and values of DISTINCT aggregates go the same way as results.
 *
 * Runs in the session that refreshes, with Share on the streams and Exclusive on the view's table.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/catalog.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "view/define.h"
#include "view/distinct.h"
#include "view/replace.h"
#include "view/shape.h"

/* Rows of a table from a time in one of its columns on become those of another one with the same columns. */
static void
take_rows(Oid to, Oid from, List *targets, int column, TimestampTz since)
{
	const char *to_name = weir_relation_name(to);

	weir_applying_exec(psprintf("DELETE FROM %s WHERE %s", to_name, weir_age_condition(to, column, ">=", since)));
	weir_applying_exec(psprintf("INSERT INTO %s (%s) SELECT %s FROM %s WHERE %s", to_name,
								weir_text_names("", weir_statement_columns(to, targets)),
								weir_text_names("", weir_statement_columns(from, targets)),
								weir_relation_name(from), weir_age_condition(from, column, ">=", since)));
}

static void
take_all(View *view, View *twin, ViewShape *shape, int column, TimestampTz since)
{
	if (OidIsValid(view->state_relid))
		take_rows(view->state_relid, twin->state_relid, shape->partial->targetList, weir_state_key(shape, column), since);
	if (OidIsValid(view->values_relid))
		take_rows(view->values_relid, twin->values_relid, weir_distinct_targets(shape), weir_state_key(shape, column), since);
	take_rows(view->relid, twin->relid, shape->query->targetList, column, since);
}

/* A row that the view has refused may stand on both sides of the time: weir.retry could not tell what it is in. */
static void
check_dead_letters(View *view)
{
	CatalogScope scope;
	bool		any;

	weir_catalog_open(&scope);
	any = weir_catalog_exec("SELECT FROM weir.dead_letter WHERE view = %u LIMIT 1", view->relid) > 0;
	weir_catalog_close(&scope);
	if (any)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("continuous view %s has dead letters, and only a part of it can be refreshed", view->name),
				 errhint("weir.retry(stream) applies them.")));
}

void
weir_refresh_join(View *view, int column, TimestampTz since)
{
	ViewScope	scope;
	View	   *twin;
	CatalogScope catalog;
	Oid			save_userid;
	int			save_sec_context;

	check_dead_letters(view);
	GetUserIdAndSecContext(&save_userid, &save_sec_context);
	SetUserIdAndSecContext(view->owner, save_sec_context | SECURITY_LOCAL_USERID_CHANGE);
	twin = weir_replace_twin(view);
	SetUserIdAndSecContext(save_userid, save_sec_context);
	view = weir_view_require(view->relid);

	weir_view_scope_open(view, &scope);
	weir_view_scope_pin();
	SPI_connect();
	take_all(view, twin, weir_view_shape(view), column, since);
	SPI_finish();
	weir_view_scope_close(&scope);

	weir_catalog_open(&catalog);
	(void) weir_catalog_exec("DROP TABLE %s", weir_relation_name(twin->relid));
	weir_catalog_close(&catalog);
	CommandCounterIncrement();
	weir_cache_forget();
}
