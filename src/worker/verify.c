/*
 * verify.c
 *	  Is the topic still the one that was read? Asked before a batch that follows a silence.
 *
 * A topic that is deleted and created anew while its consumer lives is mostly
 * reported by librdkafka, but not always: if all is over before it looks, it
 * goes on reading at its offset in the new log, and what stands before is skipped
 * without a word. Such a change always makes a pause in the flow of messages.
 * So when a partition's messages come after a pause (reader.c marks it), the
 * message that was applied last is read again, over the asker's connection, and its fingerprint
 * compared. Under load there are no pauses, and an idle topic can afford a few milliseconds.
 *
 * All partitions of a batch that need it are asked at once.
 */
#include "worker/worker.h"

#include "compat.h"
#include "miscadmin.h"
#include "postmaster/interrupt.h"
#include "storage/latch.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#define VERIFY_TIMEOUT	2000	/* ms */
#define VERIFY_SLICE	100		/* ms; then see whether to leave */
#define VERIFY_RETRY	500		/* ms until it is tried again */
#define READ_CHUNK		1000

static List *
find_suspects(Reader *reader)
{
	List	   *suspects = NIL;
	ListCell   *lc;

	foreach(lc, reader->partitions)
	{
		Partition  *part = lfirst(lc);

		if (part->suspect && part->nmsgs > 0 && part->saved.last_offset >= 0)
			suspects = lappend(suspects, part);
	}
	return suspects;
}

/* Compares what was found at a partition's last offset; it is no suspect any more. */
static void
settle(Reader *reader, Partition *part, const WeirMessage *msg)
{
	part->suspect = false;
	if (msg->offset == part->saved.last_offset &&
		(int64) weir_kafka_fingerprint(msg) != part->saved.fingerprint)
		weir_partition_fail(reader, part,
							psprintf("topic \"%s\" was deleted and created anew: partition %d has another message at offset " INT64_FORMAT,
									 part->saved.topic, part->saved.partition,
									 (int64) msg->offset));
}

/* Takes what the asker has read; returns how many partitions were settled. */
static int
settle_all(Reader *reader, KafkaConsumer *asker, KafkaBatch *batch, int *seen)
{
	int			settled = 0;
	int			n;
	const WeirMessage *msgs;
	KafkaEvent	event;

	(void) weir_kafka_read(asker, batch, READ_CHUNK);
	msgs = weir_kafka_batch_messages(batch, &n);
	for (; *seen < n; (*seen)++)
	{
		Partition  *part = weir_reader_partition(reader, msgs[*seen].topic, msgs[*seen].partition);

		if (part == NULL || !part->suspect)
			continue;
		settle(reader, part, &msgs[*seen]);
		settled++;
	}
	while (weir_kafka_next_event(asker, &event))
	{
		Partition  *part = event.topic == NULL ? NULL :
			weir_reader_partition(reader, event.topic, event.partition);

		if (part == NULL || !part->suspect || event.kind == KAFKA_EVENT_ERROR)
			continue;
		part->suspect = false;	/* that message is gone: nothing to compare with */
		settled++;
	}
	return settled;
}

/* Reads until all suspects are settled. False: not in time. */
static bool
ask(Reader *reader, KafkaConsumer *asker, List *suspects)
{
	KafkaBatch *batch = weir_kafka_batch_create(false);
	TimestampTz deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), VERIFY_TIMEOUT);
	int			left = list_length(suspects);
	int			seen = 0;

	for (;;)
	{
		left -= settle_all(reader, asker, batch, &seen);
		if (left <= 0 || ShutdownRequestPending || GetCurrentTimestamp() >= deadline)
			break;
		(void) WaitLatchOrSocket(NULL, WL_SOCKET_READABLE | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
								 weir_kafka_fd(asker), VERIFY_SLICE, PG_WAIT_EXTENSION);
	}
	weir_kafka_batch_free(batch);
	return left <= 0;
}

/*
 * weir_verify_batch makes sure that the batch in hand continues what was
 * applied. True: it may be applied (without partitions that failed);
 * false: the brokers did not answer, retry_at is set.
 */
bool
weir_verify_batch(Reader *reader)
{
	List	   *suspects = find_suspects(reader);
	char	   *error = NULL;
	KafkaConsumer *asker;
	ListCell   *lc;
	bool		ok = true;

	if (suspects == NIL)
		return true;
	asker = weir_asker_get(reader, &error);
	foreach(lc, suspects)
	{
		SavedPosition *pos = &((Partition *) lfirst(lc))->saved;

		ok = ok && asker != NULL &&
			weir_kafka_assign(asker, pos->topic, pos->partition, pos->last_offset, &error);
	}
	ok = ok && ask(reader, asker, suspects);
	foreach(lc, suspects)
	{
		SavedPosition *pos = &((Partition *) lfirst(lc))->saved;

		if (asker != NULL)
			weir_kafka_unassign(asker, pos->topic, pos->partition);
	}
	if (!ok)
	{
		reader->retry_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), VERIFY_RETRY);
		worker.fds_changed = true;
	}
	return ok;
}
