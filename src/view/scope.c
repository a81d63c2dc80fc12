/*
 * scope.c
 *	  As whom and with which settings a view is maintained.
 *
 * As REFRESH MATERIALIZED VIEW does it: as the owner, in a
 * security-restricted operation. Statements are analysed under a pinned
 * search_path; they run with the search_path, TimeZone, DateStyle and
 * IntervalStyle that were in force at CREATE, so that functions mean the same in
 * every session. A setting that has the right value already costs a string comparison.
 *
 * Also here: the trigger that lets nobody else change a view's table.
 */
#include "postgres.h"

#include "catalog/catalog.h"
#include "commands/trigger.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/rel.h"
#include "view/shape.h"

static int	applying = 0;		/* statements of weir's own that run, one inside a trigger of the other */
static int	applying_depth = 0; /* trigger depth of the innermost */

PG_FUNCTION_INFO_V1(weir_refuse_change);

void
weir_view_scope_open(View *view, ViewScope *scope)
{
	GetUserIdAndSecContext(&scope->save_userid, &scope->save_sec_context);
	SetUserIdAndSecContext(view->owner,
						   scope->save_sec_context | SECURITY_RESTRICTED_OPERATION);
	scope->guc_level = NewGUCNestLevel();
}

static void
set_if_different(const char *name, const char *value)
{
	const char *now = GetConfigOption(name, false, false);

	if (now == NULL || strcmp(now, value) != 0)
		(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
}

/* For parsing weir's own text. */
void
weir_view_scope_pin(void)
{
	set_if_different("search_path", "pg_catalog, pg_temp");
}

/* For text that means the same in every session. */
void
weir_view_scope_plain(void)
{
	set_if_different("DateStyle", "ISO, YMD");
	set_if_different("IntervalStyle", "postgres");
	set_if_different("TimeZone", "UTC");
	set_if_different("extra_float_digits", "1");
}

/* For planning and running. */
void
weir_view_scope_settings(View *view)
{
	for (int i = 0; i < lengthof(view->settings); i++)
	{
		if (view->settings[i])
			set_if_different(weir_view_setting_names[i], view->settings[i]);
	}
}

void
weir_view_scope_close(ViewScope *scope)
{
	AtEOXact_GUC(false, scope->guc_level);
	SetUserIdAndSecContext(scope->save_userid, scope->save_sec_context);
}

static int
trigger_depth(void)
{
	return DatumGetInt32(DirectFunctionCall1(pg_trigger_depth, (Datum) 0));
}

/*
 * weir_applying_begin opens views' tables for weir's statement that follows
 * at this depth of triggers, and for it only: what a user's trigger on a view
 * does in turn is refused. Returns what weir_applying_end wants; that must be
 * called after an error, too.
 */
int
weir_applying_begin(void)
{
	int			outer_depth = applying_depth;

	applying++;
	applying_depth = trigger_depth();
	return outer_depth;
}

void
weir_applying_end(int outer_depth)
{
	applying--;
	applying_depth = outer_depth;
}

/* weir_applying_exec runs one statement that changes views' tables, as whoever is the user now; SPI is connected. */
pg_noinline void
weir_applying_exec(const char *sql)
{
	const int	outer_depth = weir_applying_begin();

	PG_TRY();
	{
		(void) weir_catalog_exec("%s", sql);
	}
	PG_FINALLY();
	{
		weir_applying_end(outer_depth);
	}
	PG_END_TRY();
}

/* Is it weir itself that changes a view's table now? To be asked by a trigger on it. */
bool
weir_is_applying(void)
{
	return applying > 0 && trigger_depth() == applying_depth + 1;
}

/*
 * weir_refuse_change is the trigger function on views' tables and states (every change)
 * and on streams (UPDATE). It lets through what weir does itself.
 */
Datum
weir_refuse_change(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	const char *name;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("weir.refuse_change() must be called as a trigger")));
	if (weir_is_applying())
		PG_RETURN_POINTER(NULL);
	name = RelationGetRelationName(trigger->tg_relation);
	if (RelationGetForm(trigger->tg_relation)->relam == weir_stream_am_oid())
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot update rows of stream \"%s\"", name),
				 errdetail("Continuous views have counted them already."),
				 errhint("Insert a new row that corrects the old one.")));
	ereport(ERROR,
			(errcode(ERRCODE_WRONG_OBJECT_TYPE),
			 errmsg("cannot change continuous view \"%s\"", name),
			 errdetail("Its rows follow from its query."),
			 errhint("Change what the query reads, or rebuild the view with REFRESH MATERIALIZED VIEW.")));
}
