/*
 * rename.c
 *	  ALTER SERVER ... RENAME and ALTER TABLE ... RENAME COLUMN: the arguments of weir's triggers follow.
 *
 * A trigger's arguments are text, of which PostgreSQL knows nothing. The hook (catalog/ddl.c) calls
 * these after the statement; they rewrite pg_trigger.tgargs, with RowExclusive on
 * pg_trigger as CREATE TRIGGER takes it, in the transaction of the rename.
 */
#include "sink/sink.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/catalog.h"
#include "catalog/indexing.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_trigger.h"
#include "lib/stringinfo.h"
#include "sink/sinks.h"
#include "sink/trigger.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/rel.h"
#include "utils/varlena.h"

/* Which argument becomes what; NULL: stays. */
typedef char *(*ArgEdit) (bool notify, int i, const char *arg, const char *from, const char *to);

static char *
edit_server(bool notify, int i, const char *arg, const char *from, const char *to)
{
	return !notify && i == 0 && strcmp(arg, from) == 0 ? pstrdup(to) : NULL;
}

/* name=a,b with a column renamed */
static char *
edit_column(bool notify, int i, const char *arg, const char *from, const char *to)
{
	const char *equals = strchr(arg, '=');
	StringInfoData edited;
	List	   *names;
	ListCell   *lc;
	bool		found = false;

	if (i < (notify ? 1 : 2) || equals == NULL || !weir_sink_names_columns(arg) ||
		!SplitIdentifierString(pstrdup(equals + 1), ',', &names))
		return NULL;
	initStringInfo(&edited);
	appendBinaryStringInfo(&edited, arg, equals + 1 - arg);
	foreach(lc, names)
	{
		const char *name = lfirst(lc);

		if (strcmp(name, from) == 0)
		{
			found = true;
			name = to;
		}
		appendStringInfo(&edited, "%s%s", lc == list_head(names) ? "" : ",", quote_identifier(name));
	}
	return found ? edited.data : NULL;
}

/* The arguments (strings, each with its NUL) after the edit; NULL: as they were. */
static bytea *
edit_arguments(bytea *args, int nargs, bool notify, ArgEdit edit, const char *from, const char *to)
{
	const char *arg = VARDATA_ANY(args);
	StringInfoData buf;
	bool		changed = false;
	bytea	   *result;

	initStringInfo(&buf);
	for (int i = 0; i < nargs; i++, arg += strlen(arg) + 1)
	{
		char	   *edited = edit(notify, i, arg, from, to);

		changed |= edited != NULL;
		appendBinaryStringInfo(&buf, edited ? edited : arg, strlen(edited ? edited : arg) + 1);
	}
	if (!changed)
		return NULL;
	result = palloc(VARHDRSZ + buf.len);
	SET_VARSIZE(result, VARHDRSZ + buf.len);
	memcpy(VARDATA(result), buf.data, buf.len);
	return result;
}

/* Rewrites the arguments of weir's triggers on one table, or on all. */
static void
edit_triggers(Oid relid, ArgEdit edit, const char *from, const char *to)
{
	Relation	catalog = table_open(TriggerRelationId, RowExclusiveLock);
	TupleDesc	desc = RelationGetDescr(catalog);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, Anum_pg_trigger_tgrelid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(relid));
	scan = systable_beginscan(catalog, TriggerRelidNameIndexId, OidIsValid(relid), NULL,
							  OidIsValid(relid) ? 1 : 0, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_trigger form = (Form_pg_trigger) GETSTRUCT(tuple);
		bool		notify = weir_sink_is_function(form->tgfoid, "notify");
		Datum		values[Natts_pg_trigger];
		bool		nulls[Natts_pg_trigger];
		bool		replaces[Natts_pg_trigger] = {false};
		bool		isnull;
		bytea	   *args;

		if (!notify && !weir_sink_is_function(form->tgfoid, "publish"))
			continue;
		args = DatumGetByteaPP(heap_getattr(tuple, Anum_pg_trigger_tgargs, desc, &isnull));
		args = edit_arguments(args, form->tgnargs, notify, edit, from, to);
		if (args == NULL)
			continue;
		memset(nulls, false, sizeof(nulls));
		values[Anum_pg_trigger_tgargs - 1] = PointerGetDatum(args);
		replaces[Anum_pg_trigger_tgargs - 1] = true;
		CacheInvalidateRelcacheByRelid(form->tgrelid);
		CatalogTupleUpdate(catalog, &tuple->t_self,
						   heap_modify_tuple(tuple, desc, values, nulls, replaces));
	}
	systable_endscan(scan);
	table_close(catalog, RowExclusiveLock);
}

void
weir_sink_server_renamed(const char *from, const char *to)
{
	CatalogScope scope;

	edit_triggers(InvalidOid, edit_server, from, to);
	weir_catalog_open(&scope);
	(void) weir_catalog_exec("UPDATE weir.sink SET server = %s WHERE server = %s",
							 quote_literal_cstr(to), quote_literal_cstr(from));
	weir_catalog_close(&scope);
	weir_sink_trigger_forget();
}

void
weir_sink_column_renamed(Oid relid, const char *from, const char *to)
{
	ListCell   *lc;

	foreach(lc, find_all_inheritors(relid, NoLock, NULL))
		edit_triggers(lfirst_oid(lc), edit_column, from, to);
}
