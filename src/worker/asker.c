/*
 * asker.c
 *	  Connections for questions to the brokers: where does a partition begin and end?
 *
 * A broker answers the requests of a connection in order, and a consumer's
 * connection mostly holds a fetch that waits for messages (half a second). So questions go over a
 * consumer of their own that reads next to nothing; streams with the same server and
 * login share it. Opened at the first question, closed when no stream of this worker needs it any more.
 */
#include "worker/worker.h"

#include "compat.h"
#include "lib/stringinfo.h"
#include "source/kafka_options.h"
#include "utils/memutils.h"

#define ASKER_MEMORY	(1024 * 1024)	/* it reads single messages */

typedef struct Asker
{
	char	   *key;			/* all its options; secrets inside */
	KafkaConsumer *consumer;
	bool		needed;
} Asker;

static List *askers = NIL;		/* of Asker *, in worker.cxt */

static char *
asker_key(Reader *reader)
{
	StringInfoData key;
	ListCell   *lc;

	initStringInfo(&key);
	appendStringInfo(&key, "%d", reader->read_committed);
	foreach(lc, reader->options)
	{
		KafkaOption *option = lfirst(lc);

		appendStringInfo(&key, "\n%s=%s", option->name, option->value);
	}
	return key.data;
}

static Asker *
find_asker(const char *key)
{
	ListCell   *lc;

	foreach(lc, askers)
	{
		Asker	   *asker = lfirst(lc);

		if (strcmp(asker->key, key) == 0)
			return asker;
	}
	return NULL;
}

/* Returns the consumer to ask for this stream, or NULL with *error. */
KafkaConsumer *
weir_asker_get(Reader *reader, char **error)
{
	static KafkaOption no_waiting = {"fetch.wait.max.ms", "10"};
	char	   *key = asker_key(reader);
	Asker	   *asker = find_asker(key);
	KafkaEvent	event;
	KafkaConsumer *consumer;
	List	   *options;
	MemoryContext oldcxt;

	if (asker != NULL)
	{
		/* what it has to tell, the stream's own consumer tells, too */
		while (weir_kafka_next_event(asker->consumer, &event))
			;
		return asker->consumer;
	}
	/* it reads single messages (verify.c); a fetch must not stand before the next question */
	options = list_copy(reader->options);
	options = lappend(options, &no_waiting);
	consumer = weir_kafka_open(options, "weir", reader->read_committed,
							   ASKER_MEMORY, error);
	if (consumer == NULL)
		return NULL;
	oldcxt = MemoryContextSwitchTo(worker.cxt);
	asker = palloc0(sizeof(Asker));
	asker->key = pstrdup(key);
	asker->consumer = consumer;
	askers = lappend(askers, asker);
	MemoryContextSwitchTo(oldcxt);
	return consumer;
}

/* Closes those that no stream of this worker needs; with everything: all. */
void
weir_asker_sweep(bool everything)
{
	ListCell   *lc;

	foreach(lc, askers)
		((Asker *) lfirst(lc))->needed = false;
	foreach(lc, worker.readers)
	{
		Asker	   *asker = everything ? NULL : find_asker(asker_key(lfirst(lc)));

		if (asker != NULL)
			asker->needed = true;
	}
	foreach(lc, askers)
	{
		Asker	   *asker = lfirst(lc);

		if (asker->needed)
			continue;
		weir_kafka_close(asker->consumer);
		askers = foreach_delete_current(askers, lc);
		pfree(asker->key);
		pfree(asker);
	}
}
