/*
 * trigger.c
 *	  Arguments of weir.publish and weir.notify triggers: one table of them,
 *	  the checks, and a cache per trigger.
 *
 * CREATE TRIGGER (catalog/ddl.c) ⇒ here, and each firing ⇒ here (cached).
 * Runs in any session or worker, inside a transaction, with the table open.
 *
 * Memory: a cache entry has a context of its own under CacheMemoryContext. A
 * relcache invalidation of the table makes it stale; a stale one lives on
 * until the transaction ends, since a caller further up may be using it.
 */
#include "sink/trigger.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/catalog.h"
#include "catalog/indexing.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "catalog/view.h"
#include "commands/trigger.h"
#include "compat.h"
#include "miscadmin.h"
#include "source/kafka_options.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/varlena.h"

/* The arguments in name=value form. */
typedef enum ArgName
{
	ARG_KEY,
	ARG_COLUMNS,
	ARG_FORMAT,
	ARG_DELETE,
	ARG_HEADERS,
	ARG_PARTITION,
	ARG_TIMESTAMP,
	ARG_TOPIC_COLUMN,
	ARG_CHANNEL_COLUMN,
	ARG_NOTICES,
	ARG_NULLS,
	ARG_CHANGES,
	ARG_DELIVERY
} ArgName;

#define NUM_ARGS (ARG_DELIVERY + 1)
#define FOR_PUBLISH 0x01
#define FOR_NOTIFY	0x02

typedef struct ArgDef
{
	const char *name;
	int			where;
	const char *values[4];		/* of an option with fixed values, in the order of its enum */
} ArgDef;

static const ArgDef arg_defs[NUM_ARGS] = {
	[ARG_KEY] = {"key", FOR_PUBLISH | FOR_NOTIFY},
	[ARG_COLUMNS] = {"columns", FOR_PUBLISH | FOR_NOTIFY},
	[ARG_FORMAT] = {"format", FOR_PUBLISH, {"json", "text"}},
	[ARG_DELETE] = {"delete", FOR_PUBLISH, {"tombstone", "record", "ignore"}},
	[ARG_HEADERS] = {"headers", FOR_PUBLISH},
	[ARG_PARTITION] = {"partition", FOR_PUBLISH},
	[ARG_TIMESTAMP] = {"timestamp", FOR_PUBLISH},
	[ARG_TOPIC_COLUMN] = {"topic_column", FOR_PUBLISH},
	[ARG_CHANNEL_COLUMN] = {"channel_column", FOR_NOTIFY},
	[ARG_NOTICES] = {"notices", FOR_NOTIFY, {"key", "batch"}},
	[ARG_NULLS] = {"nulls", FOR_PUBLISH, {"keep", "omit"}},
	[ARG_CHANGES] = {"changes", FOR_PUBLISH, {"last", "all"}},
	[ARG_DELIVERY] = {"delivery", FOR_PUBLISH, {"exactly_once", "at_least_once"}},
};

/* A trigger on its way to a SinkTrigger. */
typedef struct ArgParser
{
	Relation	rel;
	Trigger    *trigger;
	bool		notify;
	char	   *values[NUM_ARGS];	/* NULL: not given */
} ArgParser;

static const char *
function_name(ArgParser *parser)
{
	return parser->notify ? "weir.notify" : "weir.publish";
}

/* "key=, columns=, ...": the names that the function takes. */
static char *
known_names(ArgParser *parser)
{
	StringInfoData names;

	initStringInfo(&names);
	for (int i = 0; i < NUM_ARGS; i++)
	{
		if (arg_defs[i].where & (parser->notify ? FOR_NOTIFY : FOR_PUBLISH))
			appendStringInfo(&names, "%s%s=", names.len ? ", " : "", arg_defs[i].name);
	}
	return names.data;
}

static void
parse_argument(ArgParser *parser, const char *arg)
{
	const char *equals = strchr(arg, '=');
	int			len = equals ? equals - arg : 0;

	for (int i = 0; i < NUM_ARGS && equals != NULL; i++)
	{
		if (!(arg_defs[i].where & (parser->notify ? FOR_NOTIFY : FOR_PUBLISH)) ||
			strlen(arg_defs[i].name) != len || strncmp(arg_defs[i].name, arg, len) != 0)
			continue;
		if (parser->values[i] != NULL)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("argument \"%s=\" of %s is given twice", arg_defs[i].name,
							function_name(parser))));
		parser->values[i] = pstrdup(equals + 1);
		return;
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("%s does not know the argument \"%s\"", function_name(parser), arg),
			 errhint("Arguments after the first are written as 'name=value': %s.",
					 known_names(parser))));
}

bool
weir_sink_names_columns(const char *arg)
{
	for (int i = 0; i < NUM_ARGS; i++)
	{
		int			len = strlen(arg_defs[i].name);

		if (strncmp(arg_defs[i].name, arg, len) == 0 && arg[len] == '=')
			return arg_defs[i].values[0] == NULL;
	}
	return false;
}

/* Which of its fixed values does an argument have? 0, the default, if it is not given. */
static int
fixed_value(ArgParser *parser, ArgName arg)
{
	const ArgDef *def = &arg_defs[arg];
	StringInfoData list;

	if (parser->values[arg] == NULL)
		return 0;
	initStringInfo(&list);
	for (int i = 0; def->values[i] != NULL; i++)
	{
		if (strcmp(def->values[i], parser->values[arg]) == 0)
			return i;
		appendStringInfo(&list, "%s%s", i ? ", " : "", def->values[i]);
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid value \"%s\" for argument \"%s=\" of %s", parser->values[arg],
					def->name, function_name(parser)),
			 errhint("Possible values: %s.", list.data)));
}

static bool
is_stored(Form_pg_attribute attr)
{
	return !attr->attisdropped &&
		(attr->attgenerated == '\0' || attr->attgenerated == ATTRIBUTE_GENERATED_STORED);
}

static AttrNumber
column_number(ArgParser *parser, ArgName arg, const char *name)
{
	TupleDesc	desc = RelationGetDescr(parser->rel);

	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attr = TupleDescAttr(desc, i);

		if (is_stored(attr) && strcmp(NameStr(attr->attname), name) == 0)
			return i + 1;
	}
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_COLUMN),
			 errmsg("column \"%s\" of table \"%s\" does not exist", name,
					RelationGetRelationName(parser->rel)),
			 errdetail("It is named by argument \"%s=\" of %s.", arg_defs[arg].name,
					   function_name(parser))));
}

/* A list of columns "a,b"; JSON writers for them in that order. */
static JsonRow *
column_list(ArgParser *parser, ArgName arg)
{
	List	   *names;
	ListCell   *lc;
	AttrNumber *attnums;
	int			n = 0;

	if (!SplitIdentifierString(pstrdup(parser->values[arg]), ',', &names))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid list of columns \"%s\" for argument \"%s=\" of %s",
						parser->values[arg], arg_defs[arg].name, function_name(parser))));
	attnums = palloc(sizeof(AttrNumber) * (list_length(names) + 1));
	foreach(lc, names)
		attnums[n++] = column_number(parser, arg, lfirst(lc));
	return weir_json_prepare(RelationGetDescr(parser->rel), attnums, n);
}

/* A single column of one of these types (0-terminated); NULL if not given. */
static JsonColumn *
typed_column(ArgParser *parser, ArgName arg, const Oid *types, const char *wanted)
{
	JsonRow    *row;

	if (parser->values[arg] == NULL)
		return NULL;
	row = column_list(parser, arg);
	if (row->ncolumns == 1)
	{
		for (int i = 0; types[i] != InvalidOid; i++)
		{
			if (row->columns[0].type == types[i])
				return &row->columns[0];
		}
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("argument \"%s=\" of %s must name one column of type %s",
					arg_defs[arg].name, function_name(parser), wanted)));
}

/* Can this index name a row? *primary: it is the primary key. */
static bool
is_key_index(Oid indexid, JsonRow **key, TupleDesc desc, bool *primary)
{
	Relation	index = index_open(indexid, AccessShareLock);
	Form_pg_index form = index->rd_index;
	AttrNumber	attnums[INDEX_MAX_KEYS];
	bool		usable = form->indisunique && form->indisvalid && form->indimmediate &&
		heap_attisnull(index->rd_indextuple, Anum_pg_index_indpred, NULL) &&
		heap_attisnull(index->rd_indextuple, Anum_pg_index_indexprs, NULL);

	*primary = form->indisprimary;
	if (usable)
	{
		for (int i = 0; i < form->indnkeyatts; i++)
			attnums[i] = form->indkey.values[i];
		*key = weir_json_prepare(desc, attnums, form->indnkeyatts);
	}
	index_close(index, AccessShareLock);
	return usable;
}

/* The columns of the primary key, else of the first unique index; NULL: there is none. */
static JsonRow *
unique_key(Relation rel)
{
	JsonRow    *first = NULL;
	ListCell   *lc;

	foreach(lc, RelationGetIndexList(rel))
	{
		JsonRow    *key;
		bool		primary;

		if (!is_key_index(lfirst_oid(lc), &key, RelationGetDescr(rel), &primary))
			continue;
		if (primary)
			return key;
		if (first == NULL)
			first = key;
	}
	return first;
}

static JsonRow *
key_columns(ArgParser *parser)
{
	JsonRow    *key;

	if (parser->values[ARG_KEY] != NULL)
		return parser->values[ARG_KEY][0] == '\0' ? NULL : column_list(parser, ARG_KEY);
	key = unique_key(parser->rel);
	if (key == NULL && !parser->notify)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("table \"%s\" has no unique key to publish by",
						RelationGetRelationName(parser->rel)),
				 errhint("Name the columns of the key in the trigger's arguments, 'key=a,b', or say that there is none, 'key='.")));
	return key;
}

/* All columns, or those of 'columns='. A partition's stand in the order of the table that the trigger was made for. */
static JsonRow *
value_columns(ArgParser *parser, Oid root)
{
	Relation	ordered;
	TupleDesc	desc;
	AttrNumber *attnums;
	int			n = 0;

	if (parser->values[ARG_COLUMNS] != NULL)
		return column_list(parser, ARG_COLUMNS);
	ordered = table_open(root, AccessShareLock);
	desc = RelationGetDescr(ordered);
	attnums = palloc(sizeof(AttrNumber) * Max(desc->natts, 1));
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attr = TupleDescAttr(desc, i);

		if (is_stored(attr))
			attnums[n++] = root == RelationGetRelid(parser->rel) ? i + 1 :
				column_number(parser, ARG_COLUMNS, NameStr(attr->attname));
	}
	table_close(ordered, AccessShareLock);
	return weir_json_prepare(RelationGetDescr(parser->rel), attnums, n);
}

/* The trigger that this one was cloned from, and its table. */
static void
find_root(ArgParser *parser, SinkTrigger *result)
{
	Relation	catalog;

	result->trigger = parser->trigger->tgoid;
	result->relid = RelationGetRelid(parser->rel);
	if (!parser->trigger->tgisclone)
		return;
	catalog = table_open(TriggerRelationId, AccessShareLock);
	for (bool more = true; more;)
	{
		ScanKeyData key;
		SysScanDesc scan;
		HeapTuple	tuple;

		ScanKeyInit(&key, Anum_pg_trigger_oid, BTEqualStrategyNumber, F_OIDEQ,
					ObjectIdGetDatum(result->trigger));
		scan = systable_beginscan(catalog, TriggerOidIndexId, true, NULL, 1, &key);
		tuple = systable_getnext(scan);
		more = false;
		if (HeapTupleIsValid(tuple))
		{
			Form_pg_trigger form = (Form_pg_trigger) GETSTRUCT(tuple);

			result->relid = form->tgrelid;
			if (OidIsValid(form->tgparentid))
			{
				result->trigger = form->tgparentid;
				more = true;
			}
		}
		systable_endscan(scan);
	}
	table_close(catalog, AccessShareLock);
}

void
weir_sink_check_server(const char *server, Oid owner)
{
	Oid			serverid = weir_kafka_server_oid(server, false);

	if (!weir_compat_may_use_server(serverid, owner))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for foreign server %s", server),
				 errdetail("Role \"%s\" publishes.", GetUserNameFromId(owner, true)),
				 errhint("GRANT USAGE ON FOREIGN SERVER %s TO ...;", quote_identifier(server))));
}

static void
check_trigger_kind(ArgParser *parser)
{
	int16		type = parser->trigger->tgtype;

	if (!TRIGGER_FOR_AFTER(type) || TRIGGER_FOR_TRUNCATE(type))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_OBJECT_DEFINITION),
				 errmsg("%s can only be used by AFTER INSERT, UPDATE or DELETE triggers",
						function_name(parser))));
	if (TRIGGER_FOR_ROW(type))
		return;
	if ((TRIGGER_FOR_DELETE(type) && parser->trigger->tgoldtable == NULL) ||
		(!TRIGGER_FOR_DELETE(type) && parser->trigger->tgnewtable == NULL))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_OBJECT_DEFINITION),
				 errmsg("a trigger FOR EACH STATEMENT that executes %s needs a transition table",
						function_name(parser)),
				 errhint("Use FOR EACH ROW, or add REFERENCING %s TABLE AS ....",
						 TRIGGER_FOR_DELETE(type) ? "OLD" : "NEW")));
}

static void
parse_publish(ArgParser *parser, SinkTrigger *result)
{
	static const Oid text_types[] = {TEXTOID, VARCHAROID, InvalidOid};
	static const Oid header_types[] = {JSONBOID, InvalidOid};
	static const Oid partition_types[] = {INT4OID, INT2OID, INT8OID, InvalidOid};
	static const Oid time_types[] = {TIMESTAMPTZOID, TIMESTAMPOID, InvalidOid};

	result->format = fixed_value(parser, ARG_FORMAT);
	result->on_delete = fixed_value(parser, ARG_DELETE);
	result->omit_nulls = fixed_value(parser, ARG_NULLS) == 1;
	result->all_changes = fixed_value(parser, ARG_CHANGES) == 1;
	result->exactly_once = fixed_value(parser, ARG_DELIVERY) == 0;
	result->headers = typed_column(parser, ARG_HEADERS, header_types, "jsonb");
	result->partition = typed_column(parser, ARG_PARTITION, partition_types, "integer");
	result->timestamp = typed_column(parser, ARG_TIMESTAMP, time_types, "timestamptz");
	result->target_column = typed_column(parser, ARG_TOPIC_COLUMN, text_types, "text");
	if (result->target[0] == '\0' && result->target_column == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("weir.publish needs the name of a topic"),
				 errhint("EXECUTE FUNCTION weir.publish('server', 'topic').")));
	if (result->format == SINK_TEXT && result->value->ncolumns != 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"format=text\" publishes one column, not %d", result->value->ncolumns),
				 errhint("Name it: 'columns=...'.")));
	if (result->format == SINK_TEXT && result->on_delete == DELETE_RECORD)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"delete=record\" needs \"format=json\"")));
	if (result->key == NULL && result->on_delete == DELETE_TOMBSTONE &&
		TRIGGER_FOR_DELETE(parser->trigger->tgtype))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a deleted row without a key cannot be published as a tombstone"),
				 errhint("Add 'delete=record' or 'delete=ignore', or name a key.")));
}

SinkTrigger *
weir_sink_trigger_parse(Relation rel, Trigger *trigger, bool notify)
{
	static const Oid text_types[] = {TEXTOID, VARCHAROID, NAMEOID, InvalidOid};
	ArgParser	parser = {rel, trigger, notify};
	SinkTrigger *result = palloc0(sizeof(SinkTrigger));
	int			npositional = notify ? 1 : 2;

	check_trigger_kind(&parser);
	if (trigger->tgnargs < npositional)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s needs %s", function_name(&parser),
						notify ? "a channel" : "a server and a topic"),
				 errhint("EXECUTE FUNCTION %s.", notify ? "weir.notify('channel')" :
						 "weir.publish('server', 'topic')")));
	for (int i = npositional; i < trigger->tgnargs; i++)
		parse_argument(&parser, trigger->tgargs[i]);

	result->notify = notify;
	result->target = pstrdup(trigger->tgargs[npositional - 1]);
	find_root(&parser, result);
	result->relation_name = weir_relation_name(result->relid);
	result->owner = weir_compat_relation_owner(result->relid);
	result->is_view = weir_installed() && weir_view_get(result->relid) != NULL;
	result->key = key_columns(&parser);
	result->value = value_columns(&parser, result->relid);
	if (!notify)
	{
		result->server = pstrdup(trigger->tgargs[0]);
		parse_publish(&parser, result);
		weir_sink_check_server(result->server, result->owner);
		return result;
	}
	result->target_column = typed_column(&parser, ARG_CHANNEL_COLUMN, text_types, "text");
	result->per_batch = fixed_value(&parser, ARG_NOTICES) == 1;
	if ((result->target[0] == '\0' && result->target_column == NULL) ||
		strlen(result->target) >= NAMEDATALEN)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("weir.notify needs a channel of at most %d bytes", NAMEDATALEN - 1)));
	return result;
}

/* ---- the cache ---- */

typedef struct CacheEntry
{
	Oid			tgoid;			/* hash key: the trigger that fires, clones too */
	Oid			relid;
	bool		valid;
	uint64		catalog;		/* version of weir's catalog, for is_view */
	MemoryContext cxt;
	SinkTrigger *trigger;
} CacheEntry;

static HTAB *cache = NULL;

static void
relation_changed(Datum arg, Oid relid)
{
	HASH_SEQ_STATUS status;
	CacheEntry *entry;

	if (cache == NULL)
		return;
	hash_seq_init(&status, cache);
	while ((entry = hash_seq_search(&status)) != NULL)
	{
		if (relid == InvalidOid || entry->relid == relid || !entry->valid ||
			entry->trigger->relid == relid)
			entry->valid = false;
	}
}

static CacheEntry *
find_entry(Oid tgoid)
{
	CacheEntry *entry;
	bool		found;

	if (cache == NULL)
	{
		HASHCTL		ctl = {.keysize = sizeof(Oid),.entrysize = sizeof(CacheEntry),
		.hcxt = CacheMemoryContext};

		cache = hash_create("weir sink triggers", 32, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	entry = hash_search(cache, &tgoid, HASH_ENTER, &found);
	if (!found)
	{
		entry->valid = false;
		entry->relid = InvalidOid;
		entry->cxt = NULL;
		entry->trigger = NULL;
	}
	return entry;
}

SinkTrigger *
weir_sink_trigger_get(Relation rel, Trigger *trigger, bool notify)
{
	CacheEntry *entry = find_entry(trigger->tgoid);
	MemoryContext cxt;
	MemoryContext oldcxt;
	SinkTrigger *parsed;

	if (entry->valid && entry->trigger->notify == notify &&
		entry->catalog == weir_cache_version())
		return entry->trigger;
	cxt = AllocSetContextCreate(TopTransactionContext, "weir sink trigger", ALLOCSET_SMALL_SIZES);
	oldcxt = MemoryContextSwitchTo(cxt);
	parsed = weir_sink_trigger_parse(rel, trigger, notify);
	MemoryContextSwitchTo(oldcxt);

	/* parsing may have read catalogs, and with them invalidations */
	entry = find_entry(trigger->tgoid);
	if (entry->cxt != NULL)
		MemoryContextSetParent(entry->cxt, TopTransactionContext);
	MemoryContextSetParent(cxt, CacheMemoryContext);
	entry->cxt = cxt;
	entry->trigger = parsed;
	entry->relid = RelationGetRelid(rel);
	entry->catalog = weir_cache_version();
	entry->valid = true;
	return parsed;
}

void
weir_sink_trigger_forget(void)
{
	relation_changed((Datum) 0, InvalidOid);
}

void
weir_sink_trigger_init(void)
{
	CacheRegisterRelcacheCallback(relation_changed, (Datum) 0);
}
