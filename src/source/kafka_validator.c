/*
 * kafka_validator.c
 *	  Checks the OPTIONS of CREATE / ALTER SERVER and USER MAPPING of weir_kafka.
 *
 * Flow: CREATE SERVER ... OPTIONS (...) => PostgreSQL calls the validator with
 * the whole list as it would be afterwards => here => catalog. Runs in the
 * user's session. No connection is made: a broker that is down is no error.
 * A value is judged by librdkafka itself, by rd_kafka_conf_set on a scratch
 * configuration that is destroyed before anything can be raised.
 * Must never show the value of a secret.
 */
#include "weir.h"

#include "access/reloptions.h"
#include "catalog/pg_foreign_data_wrapper.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_foreign_table.h"
#include "catalog/pg_user_mapping.h"
#include "commands/defrem.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/varlena.h"

#include <librdkafka/rdkafka.h>

#include "source/kafka_allow.h"

/* A name further away than this from all known ones gets no suggestion. */
#define MAX_NAME_DISTANCE 4

#define LONGEST_NAME 60			/* longer ones are not compared */

PG_FUNCTION_INFO_V1(weir_kafka_validator);

/* SASL mechanisms that need neither a command nor a URL. */
static const char *const sasl_mechanisms[] = {"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"};

/* The allowed option nearest in spelling, NULL if none is near. */
static const char *
nearest_name(const char *name, int place)
{
	const char *best = NULL;
	int			best_distance = MAX_NAME_DISTANCE + 1;
	int			len = strlen(name);
	char	   *dotted;

	if (len == 0 || len > LONGEST_NAME)
		return NULL;
	dotted = pstrdup(name);
	for (char *c = dotted; *c != '\0'; c++)
		*c = (*c == '_') ? '.' : pg_ascii_tolower((unsigned char) *c);

	for (int i = 0; i < weir_kafka_nallowed; i++)
	{
		const KafkaAllowed *allowed = &weir_kafka_allowed[i];
		int			distance;

		if ((allowed->where & place) == 0)
			continue;
		distance = varstr_levenshtein_less_equal(dotted, len, allowed->name, strlen(allowed->name),
												 1, 1, 1, best_distance, true);
		if (distance < best_distance && distance <= len / 2)
		{
			best = allowed->name;
			best_distance = distance;
		}
	}
	return best;
}

static void
refuse_unknown(const char *name, int place)
{
	const char *nearest = nearest_name(name, place);

	ereport(ERROR,
			(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
			 errmsg("invalid option \"%s\"", name),
			 nearest != NULL ?
			 errhint("Perhaps you meant the option \"%s\".", nearest) :
			 errhint("weir allows the librdkafka options that its manual lists.")));
}

static void
refuse_place(const char *name, const KafkaAllowed *allowed)
{
	if (allowed->where == KAFKA_NOWHERE)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
				 errmsg("option \"%s\" is not allowed", name),
				 errdetail_internal("%s", allowed->why),
				 allowed->instead != NULL ?
				 errhint("Give the contents with the option \"%s\".", allowed->instead) : 0));
	if (allowed->where == KAFKA_ON_MAPPING)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
				 errmsg("option \"%s\" is not allowed on a server", name),
				 errdetail("Everybody can read the options of a server."),
				 errhint("CREATE USER MAPPING FOR CURRENT_USER SERVER ... OPTIONS (\"%s\" '...');",
						 allowed->name)));
	ereport(ERROR,
			(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
			 errmsg("option \"%s\" is not allowed in a user mapping", name),
			 errhint("ALTER SERVER ... OPTIONS (\"%s\" '...');", allowed->name)));
}

/*
 * Asks librdkafka whether it takes the value. Returns its answer; text is
 * filled unless RD_KAFKA_CONF_OK. Raises nothing.
 */
static rd_kafka_conf_res_t
ask_librdkafka(const char *name, const char *value, char *text, size_t size)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	rd_kafka_conf_res_t res = rd_kafka_conf_set(conf, name, value, text, size);

	rd_kafka_conf_destroy(conf);
	return res;
}

static void
check_value(const char *name, const KafkaAllowed *allowed, const char *value)
{
	char		text[512] = "";
	rd_kafka_conf_res_t res;

	if (value[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("option \"%s\" must not be empty", name)));

	res = ask_librdkafka(allowed->name, value, text, sizeof(text));
	if (res == RD_KAFKA_CONF_OK)
		return;
	if (allowed->secret)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid value for option \"%s\"", name)));
	if (res == RD_KAFKA_CONF_UNKNOWN)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
				 errmsg("option \"%s\" needs a newer librdkafka", name),
				 errdetail_internal("librdkafka %s: %s.", rd_kafka_version_str(), text)));
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid value for option \"%s\"", name),
			 errdetail_internal("librdkafka %s: %s.", rd_kafka_version_str(), text)));
}

/*
 * SASL without a mechanism would be GSSAPI, which makes librdkafka run kinit;
 * OAUTHBEARER fetches a URL.
 */
static void
check_sasl(const char *protocol, const char *mechanism)
{
	bool		sasl = protocol != NULL && pg_strncasecmp(protocol, "sasl", 4) == 0;

	if (mechanism == NULL)
	{
		if (sasl)
			ereport(ERROR,
					(errcode(ERRCODE_FDW_OPTION_NAME_NOT_FOUND),
					 errmsg("option \"sasl.mechanism\" is required with \"security.protocol\" %s", protocol),
					 errhint("OPTIONS (\"sasl.mechanism\" 'SCRAM-SHA-512'); SCRAM-SHA-256 and PLAIN are possible too.")));
		return;
	}
	for (int i = 0; i < lengthof(sasl_mechanisms); i++)
	{
		if (strcmp(mechanism, sasl_mechanisms[i]) == 0)
			return;
	}
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("SASL mechanism \"%s\" is not supported", mechanism),
			 errdetail("GSSAPI makes the server run a command, OAUTHBEARER makes it fetch a URL."),
			 errhint("Use PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512, or certificates (\"security.protocol\" 'ssl').")));
}

/* PostgreSQL refuses the same name twice; this refuses two names of one option. */
static void
refuse_twice(List *defs, const char *name, const char *canonical)
{
	ListCell   *lc;

	foreach(lc, defs)
	{
		const char *other = lfirst_node(DefElem, lc)->defname;
		const KafkaAllowed *allowed = weir_kafka_find_allowed(other);

		if (allowed != NULL && strcmp(other, name) != 0 &&
			strcmp(weir_kafka_canonical_name(allowed), canonical) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
					 errmsg("option \"%s\" is given twice", canonical),
					 errdetail("\"%s\" and \"%s\" are the same option.", name, other)));
	}
}

static void
check_options(List *defs, int place)
{
	const char *bootstrap = NULL;
	const char *protocol = NULL;
	const char *mechanism = NULL;
	ListCell   *lc;

	foreach(lc, defs)
	{
		DefElem    *def = lfirst_node(DefElem, lc);
		const KafkaAllowed *allowed = weir_kafka_find_allowed(def->defname);
		const char *canonical;
		const char *value;

		if (allowed == NULL)
			refuse_unknown(def->defname, place);
		if ((allowed->where & place) == 0)
			refuse_place(def->defname, allowed);

		canonical = weir_kafka_canonical_name(allowed);
		refuse_twice(defs, def->defname, canonical);
		value = defGetString(def);
		check_value(def->defname, allowed, value);
		if (strcmp(canonical, "bootstrap.servers") == 0)
			bootstrap = value;
		else if (strcmp(canonical, "security.protocol") == 0)
			protocol = value;
		else if (strcmp(canonical, "sasl.mechanisms") == 0)
			mechanism = value;
	}

	if (place == KAFKA_ON_SERVER)
	{
		if (bootstrap == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_FDW_OPTION_NAME_NOT_FOUND),
					 errmsg("option \"bootstrap_servers\" is required"),
					 errhint("OPTIONS (bootstrap_servers 'HOST:9092,HOST:9092')")));
		check_sasl(protocol, mechanism);
	}
}

/* weir.kafka_validator(text[], oid): validator of foreign-data wrapper weir_kafka. */
Datum
weir_kafka_validator(PG_FUNCTION_ARGS)
{
	List	   *defs = untransformRelOptions(PG_GETARG_DATUM(0));
	Oid			catalog = PG_GETARG_OID(1);

	if (catalog == ForeignServerRelationId)
		check_options(defs, KAFKA_ON_SERVER);
	else if (catalog == UserMappingRelationId)
		check_options(defs, KAFKA_ON_MAPPING);
	else if (catalog == ForeignTableRelationId)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("foreign-data wrapper %s has no foreign tables", WEIR_FDW),
				 errhint("A topic is read by a stream: CREATE UNLOGGED TABLE ... WITH (weir.server = '...', weir.topic = '...').")));
	else if (defs != NIL)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
				 errmsg("foreign-data wrapper %s has no options", WEIR_FDW),
				 errhint("Options belong to servers and user mappings.")));

	PG_RETURN_VOID();
}
