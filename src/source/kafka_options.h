/*
 * kafka_options.h
 *	  The librdkafka options that a server or a user mapping may carry.
 */
#ifndef WEIR_KAFKA_OPTIONS_H
#define WEIR_KAFKA_OPTIONS_H

#include "weir.h"

typedef struct KafkaOption
{
	char	   *name;			/* librdkafka's own: "bootstrap.servers" */
	char	   *value;
} KafkaOption;

/*
 * weir_kafka_options returns the List of KafkaOption* for a connection to
 * this server as this user: the server's options and those of the user's
 * mapping, else PUBLIC's; names in librdkafka's form. Raises 42704 if the server is not there or is not of weir_kafka.
 * Checks no privilege. Memory: CurrentMemoryContext. Secrets inside: never log it.
 */
extern List *weir_kafka_options(const char *server, Oid userid);

/* OID of the server; raises 42704 with a hint; also checks that it belongs to weir_kafka. */
extern Oid	weir_kafka_server_oid(const char *server, bool missing_ok);

#endif							/* WEIR_KAFKA_OPTIONS_H */
