/*
 * kafka_options.c
 *	  The librdkafka options that weir lets through, and the way from a server's name to them.
 *
 * One table says for each librdkafka option who may give it: the server, the
 * user mapping, nobody. It is an allow-list: an option that is not in it is
 * refused, for superusers too, because many of librdkafka's options run a
 * command, read a file or load a library as the server's operating system
 * user. The table drives the validator (kafka_validator.c), this file and
 * the manual.
 *
 * Flow: CREATE SERVER / USER MAPPING => validator => catalog => here => kafka_connect.c.
 * Runs in any process, inside a transaction. Takes no lock. Results live in
 * CurrentMemoryContext and hold secrets: never log them.
 */
#include "weir.h"

#include "access/htup_details.h"
#include "access/reloptions.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_user_mapping.h"
#include "commands/defrem.h"
#include "foreign/foreign.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "source/kafka_allow.h"
#include "source/kafka_options.h"

#define SERVER KAFKA_ON_SERVER
#define MAPPING KAFKA_ON_MAPPING
#define NOWHERE KAFKA_NOWHERE

static const char COMMAND[] = "It makes the server run a command.";
static const char SERVER_FILE[] = "It makes the server read a file of its own machine.";
static const char CODE[] = "It makes the server load a library.";
static const char URL[] = "It makes the server fetch a URL or trust a token that nobody signed.";
static const char OWN[] = "weir sets it itself: positions live in PostgreSQL and change with each batch.";
static const char MEMORY[] = "weir sets it itself, from the setting weir.memory.";
static const char CALLBACK[] = "weir sets it itself, to bring librdkafka's messages into the server log.";

const KafkaAllowed weir_kafka_allowed[] = {
	/* where the cluster is */
	{"bootstrap.servers", SERVER},
	{"metadata.broker.list", NOWHERE, .why = "It is another name of \"bootstrap.servers\"."},
	{"broker.address.family", SERVER},
	{"broker.address.ttl", SERVER},
	{"client.dns.lookup", SERVER},
	{"client.id", SERVER},
	{"client.rack", SERVER},

	/* connections */
	{"connections.max.idle.ms", SERVER},
	{"reconnect.backoff.ms", SERVER},
	{"reconnect.backoff.max.ms", SERVER},
	{"retry.backoff.ms", SERVER},
	{"retry.backoff.max.ms", SERVER},
	{"socket.connection.setup.timeout.ms", SERVER},
	{"socket.keepalive.enable", SERVER},
	{"socket.nagle.disable", SERVER},
	{"socket.receive.buffer.bytes", SERVER},
	{"socket.send.buffer.bytes", SERVER},
	{"socket.timeout.ms", SERVER},
	{"metadata.max.age.ms", SERVER},
	{"metadata.recovery.strategy", SERVER},
	{"topic.metadata.refresh.interval.ms", SERVER},
	{"enable.metrics.push", SERVER},

	/* fetching */
	{"check.crcs", SERVER},
	{"fetch.error.backoff.ms", SERVER},
	{"fetch.min.bytes", SERVER},
	{"fetch.wait.max.ms", SERVER},
	{"fetch.message.max.bytes", SERVER},
	{"max.partition.fetch.bytes", SERVER, .alias_of = "fetch.message.max.bytes"},
	{"receive.message.max.bytes", SERVER},

	/* security */
	{"security.protocol", SERVER},
	{"ssl.ca.pem", SERVER},
	{"ssl.cipher.suites", SERVER},
	{"ssl.curves.list", SERVER},
	{"ssl.sigalgs.list", SERVER},
	{"ssl.endpoint.identification.algorithm", SERVER},
	{"enable.ssl.certificate.verification", SERVER},
	{"sasl.mechanisms", SERVER},
	{"sasl.mechanism", SERVER, .alias_of = "sasl.mechanisms"},
	{"sasl.username", MAPPING},
	{"sasl.password", MAPPING, .secret = true},
	{"ssl.certificate.pem", MAPPING},
	{"ssl.key.pem", MAPPING, .secret = true},
	{"ssl.key.password", MAPPING, .secret = true},

	/* never: they reach out of the database */
	{"plugin.library.paths", NOWHERE, .why = CODE},
	{"ssl.engine.location", NOWHERE, .why = CODE},
	{"ssl.engine.id", NOWHERE, .why = CODE},
	{"ssl.providers", NOWHERE, .why = CODE},
	{"sasl.kerberos.kinit.cmd", NOWHERE, .why = COMMAND},
	{"sasl.kerberos.keytab", NOWHERE, .why = COMMAND},
	{"sasl.kerberos.principal", NOWHERE, .why = COMMAND},
	{"sasl.kerberos.service.name", NOWHERE, .why = COMMAND},
	{"sasl.kerberos.min.time.before.relogin", NOWHERE, .why = COMMAND},
	{"ssl.ca.location", NOWHERE, .why = SERVER_FILE, .instead = "ssl.ca.pem"},
	{"ssl.ca.certificate.stores", NOWHERE, .why = SERVER_FILE, .instead = "ssl.ca.pem"},
	{"ssl.certificate.location", NOWHERE, .why = SERVER_FILE, .instead = "ssl.certificate.pem"},
	{"ssl.key.location", NOWHERE, .why = SERVER_FILE, .instead = "ssl.key.pem"},
	{"ssl.crl.location", NOWHERE, .why = SERVER_FILE},
	{"ssl.keystore.location", NOWHERE, .why = SERVER_FILE, .instead = "ssl.key.pem"},
	{"ssl.keystore.password", NOWHERE, .why = SERVER_FILE, .instead = "ssl.key.pem"},
	{"https.ca.location", NOWHERE, .why = SERVER_FILE},
	{"https.ca.pem", NOWHERE, .why = URL},
	{"sasl.oauthbearer.config", NOWHERE, .why = URL},
	{"enable.sasl.oauthbearer.unsecure.jwt", NOWHERE, .why = URL},
	{"sasl.oauthbearer.method", NOWHERE, .why = URL},
	{"sasl.oauthbearer.client.id", NOWHERE, .why = URL},
	{"sasl.oauthbearer.client.secret", NOWHERE, .secret = true, .why = URL},
	{"sasl.oauthbearer.scope", NOWHERE, .why = URL},
	{"sasl.oauthbearer.extensions", NOWHERE, .why = URL},
	{"sasl.oauthbearer.token.endpoint.url", NOWHERE, .why = URL},
	{"offset.store.path", NOWHERE, .why = "It makes the server write a file of its own machine."},
	{"internal.termination.signal", NOWHERE, .why = "It sends signals to the server's processes."},

	/* never: weir's own */
	{"group.id", NOWHERE, .why = OWN},
	{"group.instance.id", NOWHERE, .why = OWN},
	{"group.protocol", NOWHERE, .why = OWN},
	{"group.remote.assignor", NOWHERE, .why = OWN},
	{"partition.assignment.strategy", NOWHERE, .why = OWN},
	{"session.timeout.ms", NOWHERE, .why = OWN},
	{"heartbeat.interval.ms", NOWHERE, .why = OWN},
	{"max.poll.interval.ms", NOWHERE, .why = OWN},
	{"enable.auto.commit", NOWHERE, .why = OWN},
	{"auto.commit.enable", NOWHERE, .why = OWN},
	{"auto.commit.interval.ms", NOWHERE, .why = OWN},
	{"enable.auto.offset.store", NOWHERE, .why = OWN},
	{"enable.partition.eof", NOWHERE, .why = OWN},
	{"auto.offset.reset", NOWHERE, .why = "weir never jumps over messages in silence. Where to begin is the stream's option weir.start."},
	{"isolation.level", NOWHERE, .why = "It is the stream's option weir.isolation."},
	{"allow.auto.create.topics", NOWHERE, .why = "weir creates no topics."},
	{"queued.min.messages", NOWHERE, .why = MEMORY},
	{"queued.max.messages.kbytes", NOWHERE, .why = MEMORY},
	{"fetch.queue.backoff.ms", NOWHERE, .why = MEMORY},
	{"fetch.max.bytes", NOWHERE, .why = MEMORY},
	{"debug", NOWHERE, .why = CALLBACK},
	{"log_level", NOWHERE, .why = CALLBACK},
	{"log.queue", NOWHERE, .why = CALLBACK},
	{"log.thread.name", NOWHERE, .why = CALLBACK},
	{"log.connection.close", NOWHERE, .why = CALLBACK},
	{"statistics.interval.ms", NOWHERE, .why = CALLBACK},
	{"enabled_events", NOWHERE, .why = CALLBACK},
};

const int	weir_kafka_nallowed = lengthof(weir_kafka_allowed);

/* Compares names, '_' and '.' being the same. */
static bool
same_name(const char *a, const char *b)
{
	for (; *a != '\0' && *b != '\0'; a++, b++)
	{
		char		x = *a == '_' ? '.' : *a;
		char		y = *b == '_' ? '.' : *b;

		if (x != y)
			return false;
	}
	return *a == *b;
}

/*
 * weir_kafka_find_allowed returns the table's entry for an option as the user
 * wrote it ("security.protocol" or security_protocol), NULL if there is none.
 */
const KafkaAllowed *
weir_kafka_find_allowed(const char *name)
{
	for (int i = 0; i < weir_kafka_nallowed; i++)
	{
		if (same_name(weir_kafka_allowed[i].name, name))
			return &weir_kafka_allowed[i];
	}
	return NULL;
}

/* The name under which two spellings of one option meet. */
const char *
weir_kafka_canonical_name(const KafkaAllowed *allowed)
{
	return allowed->alias_of != NULL ? allowed->alias_of : allowed->name;
}

/*
 * Appends catalog options (DefElem) to a List of KafkaOption. Checks the place
 * again: the validator may have been taken off the wrapper meanwhile.
 */
static List *
append_options(List *options, List *defs, int place)
{
	ListCell   *lc;

	foreach(lc, defs)
	{
		DefElem    *def = lfirst_node(DefElem, lc);
		const KafkaAllowed *allowed = weir_kafka_find_allowed(def->defname);
		KafkaOption *option;

		if (allowed == NULL || (allowed->where & place) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
					 errmsg("invalid option \"%s\"", def->defname),
					 errhint("ALTER %s ... OPTIONS (DROP %s).",
							 place == KAFKA_ON_SERVER ? "SERVER" : "USER MAPPING",
							 quote_identifier(def->defname))));
		option = palloc(sizeof(KafkaOption));
		option->name = pstrdup(weir_kafka_canonical_name(allowed));
		option->value = pstrdup(defGetString(def));
		options = lappend(options, option);
	}
	return options;
}

/* Options of the user mapping of exactly this user (InvalidOid: PUBLIC); false if there is none. */
static bool
mapping_options(Oid userid, Oid serverid, List **defs)
{
	HeapTuple	tuple;
	Datum		datum;
	bool		isnull;

	tuple = SearchSysCache2(USERMAPPINGUSERSERVER,
							ObjectIdGetDatum(userid), ObjectIdGetDatum(serverid));
	if (!HeapTupleIsValid(tuple))
		return false;
	datum = SysCacheGetAttr(USERMAPPINGUSERSERVER, tuple,
							Anum_pg_user_mapping_umoptions, &isnull);
	*defs = isnull ? NIL : untransformRelOptions(datum);
	ReleaseSysCache(tuple);
	return true;
}

Oid
weir_kafka_server_oid(const char *server, bool missing_ok)
{
	ForeignServer *found = GetForeignServerByName(server, true);
	ForeignDataWrapper *wrapper;

	if (found == NULL)
	{
		if (missing_ok)
			return InvalidOid;
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("server \"%s\" does not exist", server),
				 errhint("CREATE SERVER %s FOREIGN DATA WRAPPER %s OPTIONS (bootstrap_servers 'HOST:9092');",
						 quote_identifier(server), WEIR_FDW)));
	}
	wrapper = GetForeignDataWrapper(found->fdwid);
	if (strcmp(wrapper->fdwname, WEIR_FDW) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("server \"%s\" is not a Kafka cluster", server),
				 errdetail("It belongs to foreign-data wrapper \"%s\".", wrapper->fdwname),
				 errhint("weir reads from servers of foreign-data wrapper %s.", WEIR_FDW)));
	return found->serverid;
}

List *
weir_kafka_options(const char *server, Oid userid)
{
	Oid			serverid = weir_kafka_server_oid(server, false);
	List	   *options;
	List	   *defs;

	options = append_options(NIL, GetForeignServer(serverid)->options, KAFKA_ON_SERVER);
	if (mapping_options(userid, serverid, &defs) ||
		mapping_options(InvalidOid, serverid, &defs))
		options = append_options(options, defs, KAFKA_ON_MAPPING);
	return options;
}
