/*
 * options.c
 *	  Parsing of WITH (weir.*): one table per kind of object.
 *
 * Runs in the session that types the DDL. Reads syscaches only.
 */
#include "catalog/options.h"

#include "catalog/pg_type.h"
#include "commands/defrem.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "nodes/parsenodes.h"
#include "parser/parse_type.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"
#include "utils/varlena.h"

#define LONGEST_YEARS	10000	/* so that sums of spans and times fit into 64 bits */

typedef enum OptionKind
{
	OPTION_TEXT,				/* char * as it is */
	OPTION_WORD,				/* one of words */
	OPTION_FLAG,				/* boolean; without value: true */
	OPTION_SPAN,				/* non-negative interval */
	OPTION_SPAN_OR_OFF,			/* the same, or 'off': NULL */
	OPTION_LIST,				/* comma-separated names */
	OPTION_START				/* earliest | latest | timestamp */
} OptionKind;

typedef struct OptionDef
{
	const char *name;
	OptionKind	kind;
	size_t		offset;			/* of the field in the struct */
	const char *default_value;	/* NULL: none */
	const char *const *words;	/* OPTION_WORD: what is allowed, NULL-terminated */
} OptionDef;

static const char *const words_format[] = {"json", "text", NULL};
static const char *const words_mode[] = {"append", NULL};
static const char *const words_unit[] = {"s", "ms", "us", NULL};
static const char *const words_late[] = {"count", "keep", NULL};
static const char *const words_isolation[] = {"read_committed", "read_uncommitted", NULL};
static const char *const words_emit[] = {"changes", "final", NULL};
static const char *const words_unmatched[] = {"at close", "at once", NULL};

static const OptionDef stream_options[] = {
	{"server", OPTION_TEXT, offsetof(StreamOptions, server), NULL, NULL},
	{"topic", OPTION_LIST, offsetof(StreamOptions, topics), NULL, NULL},
	{"stream", OPTION_FLAG, offsetof(StreamOptions, stream), NULL, NULL},
	{"format", OPTION_WORD, offsetof(StreamOptions, format), "json", words_format},
	{"mode", OPTION_WORD, offsetof(StreamOptions, mode), "append", words_mode},
	{"start", OPTION_START, offsetof(StreamOptions, start), "earliest", NULL},
	{"event_time", OPTION_TEXT, offsetof(StreamOptions, event_time), NULL, NULL},
	{"time_unit", OPTION_WORD, offsetof(StreamOptions, time_unit), "ms", words_unit},
	{"lateness", OPTION_SPAN, offsetof(StreamOptions, lateness), NULL, NULL},
	{"idle_timeout", OPTION_SPAN_OR_OFF, offsetof(StreamOptions, idle_timeout), "30 s", NULL},
	{"max_clock_skew", OPTION_SPAN_OR_OFF, offsetof(StreamOptions, max_clock_skew), "1 hour", NULL},
	{"late", OPTION_WORD, offsetof(StreamOptions, late), "count", words_late},
	{"keep", OPTION_SPAN, offsetof(StreamOptions, keep), "10 min", NULL},
	{"isolation", OPTION_WORD, offsetof(StreamOptions, isolation), "read_committed", words_isolation},
	{NULL}
};

static const OptionDef view_options[] = {
	{"continuous", OPTION_FLAG, offsetof(WeirViewOptions, continuous), NULL, NULL},
	{"emit", OPTION_WORD, offsetof(WeirViewOptions, emit), "changes", words_emit},
	{"lateness", OPTION_SPAN, offsetof(WeirViewOptions, lateness), NULL, NULL},
	{"keep", OPTION_SPAN, offsetof(WeirViewOptions, keep), NULL, NULL},
	{"start", OPTION_START, offsetof(WeirViewOptions, start), NULL, NULL},
	{"unmatched", OPTION_WORD, offsetof(WeirViewOptions, unmatched), "at close", words_unmatched},
	{"segmented", OPTION_FLAG, offsetof(WeirViewOptions, segmented), NULL, NULL},
	{NULL}
};

List *
weir_options_extract(List **options)
{
	List	   *mine = NIL;
	List	   *rest = NIL;
	ListCell   *lc;

	foreach(lc, *options)
	{
		DefElem    *def = lfirst_node(DefElem, lc);

		if (def->defnamespace && strcmp(def->defnamespace, WEIR_OPTION_NAMESPACE) == 0)
			mine = lappend(mine, def);
		else
			rest = lappend(rest, def);
	}
	if (mine != NIL)
		*options = rest;
	return mine;
}

static void
refuse_unknown(const char *name, const OptionDef *table)
{
	const char *nearest = NULL;
	int			best = 5;		/* a name further off than this is no help */

	for (const OptionDef *def = table; def->name; def++)
	{
		int			distance = varstr_levenshtein_less_equal(name, strlen(name),
															 def->name, strlen(def->name),
															 1, 1, 1, best, true);

		if (distance < best)
		{
			best = distance;
			nearest = def->name;
		}
	}
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("unrecognized option \"weir.%s\"", name),
			 nearest ? errhint("Perhaps you meant \"weir.%s\".", nearest) : 0));
}

static void
refuse_value(const OptionDef *def, const char *value, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid value for option \"weir.%s\": \"%s\"", def->name, value),
			 errhint("%s", hint)));
}

static char *
parse_word(const OptionDef *def, const char *value)
{
	StringInfoData list;

	initStringInfo(&list);
	for (int i = 0; def->words[i]; i++)
	{
		if (strcmp(value, def->words[i]) == 0)
			return pstrdup(value);
		appendStringInfo(&list, "%s'%s'", i ? ", " : "", def->words[i]);
	}
	if (strcmp(def->name, "mode") == 0 || strcmp(value, "avro") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("weir.%s = '%s' is not supported", def->name, value),
				 errhint("Available: %s.", list.data)));
	refuse_value(def, value, psprintf("Available: %s.", list.data));
	return NULL;				/* keep the compiler quiet */
}

static Interval *
parse_span(const OptionDef *def, const char *value)
{
	Interval   *span;

	span = DatumGetIntervalP(DirectFunctionCall3(interval_in, CStringGetDatum(value),
												 ObjectIdGetDatum(InvalidOid),
												 Int32GetDatum(-1)));
	if (span->time < 0 || span->day < 0 || span->month < 0)
		refuse_value(def, value, "A span of time must not be negative.");
	if (span->month > LONGEST_YEARS * MONTHS_PER_YEAR || span->day > LONGEST_YEARS * MONTHS_PER_YEAR * DAYS_PER_MONTH ||
		span->time > LONGEST_YEARS * MONTHS_PER_YEAR * DAYS_PER_MONTH * USECS_PER_DAY)
		refuse_value(def, value, psprintf("A span of time is %d years at most.", LONGEST_YEARS));
	return span;
}

static char *
parse_start(const OptionDef *def, const char *value)
{
	if (strcmp(value, "earliest") != 0 && strcmp(value, "latest") != 0)
	{
		/* raises for what is no timestamp; stored in a form that no setting changes */
		Datum		at = DirectFunctionCall3(timestamptz_in, CStringGetDatum(value),
											 ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1));

		if (TIMESTAMP_NOT_FINITE(DatumGetTimestampTz(at)))
			refuse_value(def, value, "Available: 'earliest', 'latest' or a timestamp.");
		return pstrdup(timestamptz_to_str(DatumGetTimestampTz(at)));
	}
	return pstrdup(value);
}

static List *
parse_list(const OptionDef *def, const char *value)
{
	List	   *result = NIL;
	char	   *copy = pstrdup(value);
	char	   *rest = copy;

	for (char *item = strsep(&rest, ","); item; item = strsep(&rest, ","))
	{
		size_t		len;

		item += strspn(item, " \t\n");
		for (len = strlen(item); len > 0 && strchr(" \t\n", item[len - 1]); len--)
			item[len - 1] = '\0';
		if (len == 0 || len > 249 ||
			strspn(item, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") != len)
			refuse_value(def, value, "Topic names have letters, digits, '.', '_' and '-', 249 at most.");
		for (ListCell *lc = list_head(result); lc; lc = lnext(result, lc))
		{
			if (strcmp(lfirst(lc), item) == 0)
				refuse_value(def, value, "Every topic may be given once.");
		}
		result = lappend(result, item);
	}
	return result;
}

/* Sets one field from text; value NULL: nothing given (OPTION_FLAG: true). */
static void
set_option(const OptionDef *def, void *target, const char *value)
{
	void	   *field = (char *) target + def->offset;

	switch (def->kind)
	{
		case OPTION_TEXT:
			if (value && value[0] == '\0')
				refuse_value(def, value, "The value must not be empty.");
			*(char **) field = value ? pstrdup(value) : NULL;
			break;
		case OPTION_WORD:
			*(char **) field = value ? parse_word(def, value) : NULL;
			break;
		case OPTION_FLAG:
			{
				bool		flag = false;

				if (value && !parse_bool(value, &flag))
					refuse_value(def, value, "A boolean is expected.");
				*(bool *) field = flag;
				break;
			}
		case OPTION_SPAN:
			*(Interval **) field = value ? parse_span(def, value) : NULL;
			break;
		case OPTION_SPAN_OR_OFF:
			*(Interval **) field = value && strcmp(value, "off") != 0 ?
				parse_span(def, value) : NULL;
			break;
		case OPTION_LIST:
			*(List **) field = value ? parse_list(def, value) : NIL;
			break;
		case OPTION_START:
			*(char **) field = value ? parse_start(def, value) : NULL;
			break;
	}
}

static void
set_defaults(const OptionDef *table, void *target)
{
	for (const OptionDef *def = table; def->name; def++)
		set_option(def, target, def->default_value);
}

static void
parse_options(const OptionDef *table, List *defs, bool reset, void *target)
{
	ListCell   *lc;
	List	   *seen = NIL;

	foreach(lc, defs)
	{
		DefElem    *elem = lfirst_node(DefElem, lc);
		const OptionDef *def;
		const char *value;

		for (def = table; def->name; def++)
		{
			if (strcmp(def->name, elem->defname) == 0)
				break;
		}
		if (def->name == NULL)
			refuse_unknown(elem->defname, table);
		if (list_member_ptr(seen, def))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("option \"weir.%s\" specified more than once", def->name)));
		seen = lappend(seen, (void *) def);

		if (reset)
			value = def->default_value;
		else if (elem->arg == NULL)
		{
			if (def->kind != OPTION_FLAG)
				ereport(ERROR,
						(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						 errmsg("option \"weir.%s\" needs a value", def->name)));
			value = "true";
		}
		else
			value = defGetString(elem);
		set_option(def, target, value);
	}
}

void
weir_options_stream_defaults(StreamOptions *options)
{
	memset(options, 0, sizeof(*options));
	set_defaults(stream_options, options);
}

void
weir_options_parse_stream(List *defs, bool reset, StreamOptions *options)
{
	parse_options(stream_options, defs, reset, options);
}

void
weir_options_view_defaults(WeirViewOptions *options)
{
	memset(options, 0, sizeof(*options));
	set_defaults(view_options, options);
}

void
weir_options_parse_view(List *defs, bool reset, WeirViewOptions *options)
{
	parse_options(view_options, defs, reset, options);
}

static void
check_event_time(const char *column, Oid relid)
{
	AttrNumber	attnum = get_attnum(relid, column);
	Oid			type;

	if (attnum <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("column \"%s\" of weir.event_time does not exist in %s",
						column, get_rel_name(relid))));
	type = get_atttype(relid, attnum);
	if (type != TIMESTAMPTZOID && type != TIMESTAMPOID)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("column \"%s\" of weir.event_time has type %s",
						column, format_type_be(type)),
				 errhint("Event time is a column of type timestamptz, or timestamp in UTC.")));
}

void
weir_options_check_stream(StreamOptions *options, Oid relid)
{
	if (options->topics && options->server == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("weir.topic needs weir.server"),
				 errhint("Name a server of CREATE SERVER ... FOREIGN DATA WRAPPER weir_kafka.")));
	if (options->server && options->topics == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("weir.server needs weir.topic"),
				 errhint("A stream without a topic has weir.stream only, and is fed by INSERT.")));
	if (options->stream && options->topics)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("weir.stream and weir.topic exclude each other"),
				 errhint("A stream with weir.topic takes INSERTs too.")));
	if (!options->stream && options->topics == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a stream needs weir.topic or weir.stream"),
				 errhint("WITH (weir.server = '...', weir.topic = '...'), or WITH (weir.stream) for a stream that is fed by INSERT.")));
	if (OidIsValid(relid) && options->event_time)
		check_event_time(options->event_time, relid);
	if (OidIsValid(relid) && strcmp(options->format, "text") == 0 &&
		get_attnum(relid, "_value") <= 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_COLUMN),
				 errmsg("weir.format = 'text' needs a column \"_value\""),
				 errhint("The message goes into a column _value of type text or bytea.")));
}
