/*
 * relink.c
 *	  Which object goes with which, told to PostgreSQL again after a restore.
 *
 * Creating a stream or a view records that its helpers (rows, segments,
 * query, state, values) go when it goes. pg_dump knows nothing of that: it restores
 * them as objects of their own. But it also restores weir's catalog rows, and
 * a trigger on these ends here: once a row names an object and its helpers,
 * their dependencies are recorded, as at creation.
 *
 * pg_upgrade carries catalog rows over as files: there is no INSERT. So the first
 * worker of a database looks for what is missing when it begins.
 *
 * Runs in the backend that inserts into weir.stream_def, weir.view_def or
 * weir.segment, or in a worker; takes no locks but those of pg_depend. Promises nothing
 * about clones of a stream's indexes, which a dump restores after the data:
 * they are dropped with their segment, not with the stream's index.
 */
#include "weir.h"

#include "catalog/catalog.h"
#include "catalog/dependency.h"
#include "catalog/pg_class.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "foreign/foreign.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

PG_FUNCTION_INFO_V1(weir_relink_trigger);

/* Makes sure that dependent has this dependency on a relation, once, and no other on it. */
static void
link_relations(Oid dependent, Oid on, DependencyType type)
{
	ObjectAddress child,
				parent;

	if (!OidIsValid(dependent) || !OidIsValid(on) ||
		get_rel_name(dependent) == NULL || get_rel_name(on) == NULL)
		return;
	ObjectAddressSet(child, RelationRelationId, dependent);
	ObjectAddressSet(parent, RelationRelationId, on);
	(void) deleteDependencyRecordsForSpecific(RelationRelationId, dependent, type,
											  RelationRelationId, on);
	if (type == DEPENDENCY_AUTO)	/* in place of the one that inheritance made */
		(void) deleteDependencyRecordsForSpecific(RelationRelationId, dependent,
												  DEPENDENCY_NORMAL, RelationRelationId, on);
	recordDependencyOn(&child, &parent, type);
}

static void
link_server(Oid stream, const char *server)
{
	Oid			serverid = server ? get_foreign_server_oid(server, true) : InvalidOid;
	ObjectAddress child,
				parent;

	if (!OidIsValid(serverid))
		return;
	ObjectAddressSet(child, RelationRelationId, stream);
	ObjectAddressSet(parent, ForeignServerRelationId, serverid);
	(void) deleteDependencyRecordsForSpecific(RelationRelationId, stream, DEPENDENCY_NORMAL,
											  ForeignServerRelationId, serverid);
	recordDependencyOn(&child, &parent, DEPENDENCY_NORMAL);
}

/* A column of the new row; *isnull if it is not there. */
static Datum
field(TriggerData *trigger, const char *name, bool *isnull)
{
	TupleDesc	desc = RelationGetDescr(trigger->tg_relation);
	int			number = SPI_fnumber(desc, name);

	if (number <= 0)
		elog(ERROR, "weir: %s has no column %s", RelationGetRelationName(trigger->tg_relation), name);
	return SPI_getbinval(trigger->tg_trigtuple, desc, number, isnull);
}

static Oid
oid_field(TriggerData *trigger, const char *name)
{
	bool		isnull;
	Datum		value = field(trigger, name, &isnull);

	return isnull ? InvalidOid : DatumGetObjectId(value);
}

/* The table that a segment inherits from. */
static Oid
parent_of(Oid segment)
{
	Datum		value = ObjectIdGetDatum(segment);
	Oid			type = OIDOID;
	Oid			result = InvalidOid;

	SPI_connect();
	if (SPI_execute_with_args("SELECT inhparent FROM pg_catalog.pg_inherits WHERE inhrelid OPERATOR(pg_catalog.=) $1",
							  1, &type, &value, NULL, true, 1) == SPI_OK_SELECT && SPI_processed == 1)
	{
		bool		isnull;

		result = DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	}
	SPI_finish();
	return result;
}

/* AFTER INSERT FOR EACH ROW on weir.stream_def, weir.view_def, weir.segment. */
Datum
weir_relink_trigger(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	const char *table;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_BY_INSERT(trigger->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(trigger->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("weir.relink is for weir's own tables")));
	table = RelationGetRelationName(trigger->tg_relation);
	if (strcmp(table, "view_def") == 0)
	{
		Oid			view = oid_field(trigger, "view");

		link_relations(oid_field(trigger, "query"), view, DEPENDENCY_INTERNAL);
		link_relations(oid_field(trigger, "state"), view, DEPENDENCY_INTERNAL);
		link_relations(view, oid_field(trigger, "replaces"), DEPENDENCY_AUTO);
		link_relations(oid_field(trigger, "distinct_values"), view, DEPENDENCY_INTERNAL);
	}
	else if (strcmp(table, "stream_def") == 0)
	{
		Oid			stream = oid_field(trigger, "stream");
		bool		isnull;
		Datum		server = field(trigger, "server", &isnull);

		link_relations(oid_field(trigger, "rows"), stream, DEPENDENCY_AUTO);
		link_server(stream, isnull ? NULL : NameStr(*DatumGetName(server)));
	}
	else
	{
		Oid			segment = oid_field(trigger, "segment");

		link_relations(segment, parent_of(segment), DEPENDENCY_AUTO);
	}
	return PointerGetDatum(NULL);
}

/* Rows of a query of two OIDs and a dependency's type; inside a catalog scope. */
static uint64
link_rows(const char *sql, void (*link) (Oid child, Oid parent, DependencyType type))
{
	SPITupleTable *rows;
	uint64		n;

	if (SPI_execute(sql, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read weir's catalog");
	n = SPI_processed;
	rows = SPI_tuptable;
	for (uint64 i = 0; i < n; i++)
	{
		bool		isnull;

		link(DatumGetObjectId(SPI_getbinval(rows->vals[i], rows->tupdesc, 1, &isnull)),
			 DatumGetObjectId(SPI_getbinval(rows->vals[i], rows->tupdesc, 2, &isnull)),
			 (DependencyType) DatumGetChar(SPI_getbinval(rows->vals[i], rows->tupdesc, 3, &isnull)));
	}
	return n;
}

static void
link_to_server(Oid stream, Oid server, DependencyType type)
{
	link_server(stream, GetForeignServer(server)->servername);
}

/* weir_relink_missing records the dependencies that pg_upgrade has not carried over. Inside a transaction. */
void
weir_relink_missing(void)
{
	CatalogScope scope;
	uint64		n;

	weir_catalog_open(&scope);
	n = link_rows("SELECT w.child, w.parent, w.type FROM ("
				  "SELECT query::oid AS child, view::oid AS parent, 'i'::\"char\" AS type FROM weir.view_def"
				  " UNION ALL SELECT state::oid, view::oid, 'i' FROM weir.view_def WHERE state IS NOT NULL"
				  " UNION ALL SELECT view::oid, replaces::oid, 'a' FROM weir.view_def WHERE replaces IS NOT NULL"
				  " UNION ALL SELECT distinct_values::oid, view::oid, 'i' FROM weir.view_def WHERE distinct_values IS NOT NULL"
				  " UNION ALL SELECT \"rows\"::oid, stream::oid, 'a' FROM weir.stream_def"
				  " UNION ALL SELECT s.segment::oid, h.inhparent, 'a' FROM weir.segment s JOIN pg_inherits h ON h.inhrelid = s.segment) w"
				  " WHERE NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = w.child"
				  "  AND d.refclassid = 'pg_class'::regclass AND d.refobjid = w.parent AND d.deptype = w.type)",
				  link_relations);
	n += link_rows("SELECT s.stream::oid, f.oid, 'n'::\"char\" FROM weir.stream_def s JOIN pg_foreign_server f ON f.srvname = s.server"
				   " WHERE NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = s.stream"
				   "  AND d.refclassid = 'pg_foreign_server'::regclass AND d.refobjid = f.oid)",
				   link_to_server);
	weir_catalog_close(&scope);
	if (n > 0)
		ereport(LOG, (errmsg("recorded " UINT64_FORMAT " dependencies of streams and views that an upgrade had left out", n)));
}
