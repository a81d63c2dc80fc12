/*
 * kafka_allow.h
 *	  The allow-list of librdkafka options: shared by kafka_options.c and kafka_validator.c.
 */
#ifndef WEIR_KAFKA_ALLOW_H
#define WEIR_KAFKA_ALLOW_H

#include "weir.h"

#define KAFKA_NOWHERE		0
#define KAFKA_ON_SERVER		1
#define KAFKA_ON_MAPPING	2

typedef struct KafkaAllowed
{
	const char *name;			/* librdkafka's */
	int			where;			/* KAFKA_ON_* bits */
	bool		secret;			/* the value must not be shown */
	const char *alias_of;		/* another name of this one */
	const char *why;			/* a sentence: why it is allowed nowhere */
	const char *instead;		/* what to use instead of a forbidden one */
} KafkaAllowed;

extern const KafkaAllowed weir_kafka_allowed[];
extern const int weir_kafka_nallowed;

extern const KafkaAllowed *weir_kafka_find_allowed(const char *name);
extern const char *weir_kafka_canonical_name(const KafkaAllowed *allowed);

#endif							/* WEIR_KAFKA_ALLOW_H */
