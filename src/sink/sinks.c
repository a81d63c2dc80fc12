/*
 * sinks.c
 *	  weir.sink: one row per publish trigger, and per server and role that
 *	  produce by hand; commands that steer them.
 *
 * A sink is what the publisher serves: it has an owner, whose rights and user
 * mapping count, a number that is never used again, and its own progress. It
 * outlives its trigger until all that the trigger wrote is sent.
 */
#include "sink/sinks.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/catalog.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "compat.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "sink/collect.h"
#include "sink/outbox.h"
#include "sink/sink.h"
#include "source/kafka_options.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "worker/shared.h"

static bool made_in_xact = false;	/* a sink that may be rolled back */

/* The number that a statement returns in its only row; 0: no row. */
static int64
run_for_id(const char *sql, int nargs, Oid *types, Datum *values, const char *nulls, int expected)
{
	bool		isnull;

	if (SPI_execute_with_args(sql, nargs, types, values, nulls, false, 0) != expected)
		elog(ERROR, "could not read or write weir.sink");
	if (SPI_processed != 1)
		return 0;
	return DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
}

int64
weir_sink_of_trigger(SinkTrigger *trigger)
{
	Oid			types[6] = {OIDOID, OIDOID, NAMEOID, OIDOID, TEXTOID, TEXTOID};
	Datum		values[6];
	CatalogScope scope;
	int64		id;

	if (trigger->sink != 0)
		return trigger->sink;
	weir_check_preloaded();
	values[0] = ObjectIdGetDatum(trigger->trigger);
	values[1] = ObjectIdGetDatum(trigger->relid);
	values[2] = DirectFunctionCall1(namein, CStringGetDatum(trigger->server));
	values[3] = ObjectIdGetDatum(trigger->owner);
	values[4] = CStringGetTextDatum(trigger->target);
	values[5] = CStringGetTextDatum(trigger->exactly_once ? "exactly_once" : "at_least_once");
	weir_catalog_open(&scope);
	id = run_for_id("SELECT id FROM weir.sink WHERE trigger = $1 AND relation = $2 AND server = $3"
					" AND owner = $4 AND topic = $5 AND delivery = $6",
					6, types, values, NULL, SPI_OK_SELECT);
	if (id == 0)
	{
		id = run_for_id("INSERT INTO weir.sink (trigger, relation, server, owner, topic, delivery)"
						" VALUES ($1, $2, $3, $4, $5, $6)"
						" ON CONFLICT (trigger) WHERE trigger IS NOT NULL DO UPDATE"
						" SET relation = $2, server = $3, owner = $4, topic = $5, delivery = $6"
						" RETURNING id",
						6, types, values, NULL, SPI_OK_INSERT_RETURNING);
		made_in_xact = true;
	}
	weir_catalog_close(&scope);
	trigger->sink = id;
	return id;
}

/* The last sink of weir.produce() that this backend used. */
static struct
{
	int64		id;				/* 0: none */
	Oid			role;
	NameData	server;
}			last_produced;

int64
weir_sink_of_role(const char *server, Oid role)
{
	Oid			types[2] = {NAMEOID, OIDOID};
	Datum		values[2];
	CatalogScope scope;
	int64		id;

	if (last_produced.id != 0 && last_produced.role == role &&
		strcmp(NameStr(last_produced.server), server) == 0)
		return last_produced.id;
	weir_check_preloaded();
	values[0] = DirectFunctionCall1(namein, CStringGetDatum(server));
	values[1] = ObjectIdGetDatum(role);
	weir_catalog_open(&scope);
	id = run_for_id("SELECT id FROM weir.sink WHERE trigger IS NULL AND server = $1 AND owner = $2",
					2, types, values, NULL, SPI_OK_SELECT);
	if (id == 0)
	{
		id = run_for_id("INSERT INTO weir.sink (server, owner, delivery) VALUES ($1, $2, 'exactly_once')"
						" ON CONFLICT (server, owner) WHERE trigger IS NULL DO UPDATE SET owner = $2"
						" RETURNING id",
						2, types, values, NULL, SPI_OK_INSERT_RETURNING);
		made_in_xact = true;
	}
	weir_catalog_close(&scope);
	last_produced.id = id;
	last_produced.role = role;
	namestrcpy(&last_produced.server, server);
	return id;
}

static void
forget_made(void)
{
	if (made_in_xact)
	{
		weir_sink_trigger_forget();
		last_produced.id = 0;
	}
}

static void
sinks_xact(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_ABORT)
		forget_made();
	if (event == XACT_EVENT_ABORT || event == XACT_EVENT_COMMIT || event == XACT_EVENT_PREPARE)
		made_in_xact = false;
}

static void
sinks_subxact(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB)
		forget_made();
}

/* A server was dropped, renamed, or another may use it: rights are looked at again. */
static void
server_changed(Datum arg, int cacheid, uint32 hash)
{
	weir_sink_trigger_forget();
	last_produced.id = 0;
}

/* ---- CREATE TRIGGER ---- */

bool
weir_sink_is_function(Oid function, const char *name)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	bool		result = false;

	if (HeapTupleIsValid(tuple))
	{
		Form_pg_proc form = (Form_pg_proc) GETSTRUCT(tuple);

		result = form->pronamespace == weir_schema_oid() && form->prorettype == TRIGGEROID &&
			strcmp(NameStr(form->proname), name) == 0;
		ReleaseSysCache(tuple);
	}
	return result;
}

/* DROP SERVER is refused, or takes the trigger along. */
static void
depend_on_server(SinkTrigger *trigger)
{
	ObjectAddress dependent;
	ObjectAddress server;

	ObjectAddressSet(dependent, TriggerRelationId, trigger->trigger);
	ObjectAddressSet(server, ForeignServerRelationId,
					 weir_kafka_server_oid(trigger->server, false));
	recordDependencyOn(&dependent, &server, DEPENDENCY_NORMAL);
}

void
weir_sink_check_trigger(Oid relid, const char *name)
{
	Relation	rel = table_open(relid, NoLock);
	TriggerDesc *triggers = CopyTriggerDesc(rel->trigdesc); /* what is read below may have the relation cached anew */

	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
	{
		Trigger    *trigger = &triggers->triggers[i];
		bool		notify = weir_sink_is_function(trigger->tgfoid, "notify");
		SinkTrigger *parsed;

		if (strcmp(trigger->tgname, name) != 0 ||
			(!notify && !weir_sink_is_function(trigger->tgfoid, "publish")))
			continue;
		parsed = weir_sink_trigger_parse(rel, trigger, notify);
		if (!notify)
		{
			depend_on_server(parsed);
			(void) weir_sink_of_trigger(parsed);
		}
	}
	table_close(rel, NoLock);
}

void
weir_sink_init(void)
{
	weir_sink_trigger_init();
	weir_outbox_init();
	weir_collect_init();
	RegisterXactCallback(sinks_xact, NULL);
	RegisterSubXactCallback(sinks_subxact, NULL);
	CacheRegisterSyscacheCallback(FOREIGNSERVEROID, server_changed, (Datum) 0);
}
