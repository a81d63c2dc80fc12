/*
 * reader.c
 *	  One stream's consumer in a worker: open, gather a batch, close.
 *
 * topics.c (which partitions, from where) ⇒ here (messages, events, when is
 * a batch due) ⇒ batch.c.
 *
 * A batch is due at once if the last one is weir.batch_interval ago, else
 * when it is: so a lone message waits for nothing, and under load batches
 * grow. A batch in hand that could not be applied stays in hand; until it is
 * through nothing more is read, so memory is bounded by librdkafka's queue and the batch.
 *
 * Any doubt about positions is solved one way: close the consumer and start
 * again from the table. What was fetched before is gone then; nothing that
 * arrives late can be mistaken for something new.
 */
#include "worker/worker.h"

#include "commands/dbcommands.h"
#include "compat.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "worker/shared.h"
#include "worker/shmem.h"

#define PAUSE				200		/* ms without messages in which a topic may have been made anew */
#define READ_CHUNK			10000	/* messages per look at the queue */
#define GROUP_COMMIT_DELAY	1000	/* ms; Kafka's tools need no more */
#define SUSPICION_DELAY		1000	/* ms before looking at a topic that the brokers say they do not know */
#define BATCH_SHARE			4		/* a batch in hand takes at most this part of the memory */

Reader *
weir_reader_create(Oid stream)
{
	MemoryContext cxt = AllocSetContextCreate(worker.cxt, "weir stream", ALLOCSET_DEFAULT_SIZES);
	Reader	   *reader = MemoryContextAllocZero(cxt, sizeof(Reader));

	reader->cxt = cxt;
	reader->def_cxt = AllocSetContextCreate(cxt, "weir stream definition", ALLOCSET_SMALL_SIZES);
	reader->open_cxt = AllocSetContextCreate(cxt, "weir stream consumer", ALLOCSET_DEFAULT_SIZES);
	reader->stream = stream;
	return reader;
}

void
weir_reader_close(Reader *reader)
{
	weir_catch_up_close(reader);
	weir_refetch_close(reader);
	if (reader->batch != NULL)
		weir_kafka_batch_free(reader->batch);
	if (reader->consumer != NULL)
		weir_kafka_close(reader->consumer);
	reader->batch = NULL;
	reader->consumer = NULL;
	reader->state = READER_CLOSED;
	reader->partitions = NIL;
	reader->nnoted = reader->nmsgs = 0;
	reader->filtered = false;
	reader->answered = 0;
	reader->due_at = reader->retry_at = reader->commit_at = 0;
	reader->backoff = 0;
	MemoryContextReset(reader->open_cxt);
	worker.fds_changed = true;
}

void
weir_reader_drop(Reader *reader)
{
	weir_reader_close(reader);
	MemoryContextDelete(reader->cxt);
}

/* Closes the reader; it opens again, from the positions in the table, after ms. */
void
weir_reader_restart(Reader *reader, int ms)
{
	weir_reader_close(reader);
	reader->topics_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ms);
}

/* Makes the consumer. False: not possible now; topics_at is set. */
static bool
open_reader(Reader *reader)
{
	MemoryContext oldcxt = MemoryContextSwitchTo(reader->open_cxt);
	char	   *group = psprintf("weir.%s", reader->name);
	char	   *error = NULL;

	reader->memory = (Size) weir_memory * 1024 / Max(list_length(worker.readers), 1);
	reader->consumer = weir_kafka_open(reader->options, group, reader->read_committed,
									   reader->memory / 2, &error);
	MemoryContextSwitchTo(oldcxt);
	if (reader->consumer == NULL)
	{
		weir_reader_trouble(reader, error);
		return false;
	}
	reader->batch = weir_kafka_batch_create(reader->want_headers);
	reader->state = READER_OPEN;
	worker.fds_changed = true;
	return true;
}

Partition *
weir_reader_partition(Reader *reader, const char *topic, int32 partition)
{
	ListCell   *lc;

	foreach(lc, reader->partitions)
	{
		Partition  *part = lfirst(lc);

		if (part->saved.partition == partition && strcmp(part->saved.topic, topic) == 0)
			return part;
	}
	return NULL;
}

/*----------------------------------------------------------------------
 * Messages
 *----------------------------------------------------------------------*/

/*
 * verify compares the first message of a partition that was taken up again
 * with what is remembered of it. Kafka reuses offsets when a topic is deleted and created anew,
 * and tells nobody.
 */
static bool
verify(Reader *reader, Partition *part, const WeirMessage *msg)
{
	bool		same = true;

	if (msg->offset == part->saved.last_offset)
		same = (int64) weir_kafka_fingerprint(msg) == part->saved.fingerprint;
	else if (msg->offset < part->saved.next_offset)
		same = !reader->read_committed; /* there was no message before; aborted ones do not turn up */
	else
		part->verifying = false;	/* compacted or deleted meanwhile */
	if (same)
		return true;

	weir_partition_fail(reader, part,
						psprintf("topic \"%s\" was deleted and created anew: partition %d has another message at offset " INT64_FORMAT,
								 part->saved.topic, part->saved.partition, msg->offset));
	return false;
}

/* Looks at one new message; false: it is not to be applied. */
static bool
note_message(Reader *reader, Partition *part, const WeirMessage *msg, int number)
{
	if (part == NULL || part->failed)
		return false;
	part->gone = 0;
	if (part->verifying && !verify(reader, part, msg))
		return false;
	if (msg->offset < part->read_offset)
		return false;			/* applied before */
	part->verifying = false;
	part->read_offset = msg->offset + 1;
	part->nmsgs++;
	part->bytes += msg->value_len + msg->key_len;
	part->nulls += msg->value == NULL;
	part->last = number;
	return true;
}

/* Looks at the messages that were added to the batch. */
static void
note_messages(Reader *reader)
{
	int			n;
	const WeirMessage *msgs = weir_kafka_batch_messages(reader->batch, &n);
	TimestampTz now = GetCurrentTimestamp();
	Partition  *part = NULL;
	const char *topic = NULL;
	int32		partition = -1;

	for (; reader->nnoted < n; reader->nnoted++)
	{
		const WeirMessage *msg = &msgs[reader->nnoted];

		if (msg->partition != partition || msg->topic != topic)
		{
			part = weir_reader_partition(reader, msg->topic, msg->partition);
			partition = msg->partition;
			topic = msg->topic;
			if (part != NULL)
			{
				part->suspect |= TimestampDifferenceExceeds(part->last_seen, now, PAUSE);
				part->last_seen = now;
			}
		}
		if (note_message(reader, part, msg, reader->nnoted))
			reader->nmsgs++;
		else
			reader->filtered = true;
	}
}

/* The brokers say that they do not know a topic or partition that is read. */
static bool
is_suspicion(const char *text)
{
	return strstr(text, "UNKNOWN_TOPIC") != NULL || strstr(text, "UNKNOWN_PART") != NULL ||
		strstr(text, "nknown topic") != NULL || strstr(text, "nknown partition") != NULL;
}

/* Returns false if the reader was closed. */
static bool
handle_event(Reader *reader, const KafkaEvent *event)
{
	Partition  *part = event->topic == NULL ? NULL :
		weir_reader_partition(reader, event->topic, event->partition);

	switch (event->kind)
	{
		case KAFKA_EVENT_EOF:
			if (part == NULL || part->failed)
				break;
			weir_stat_high(reader->stream, event->topic, event->partition, event->offset);
			if (event->offset < part->saved.next_offset)
			{
				weir_partition_recheck(reader, part);	/* the log has become shorter */
				break;
			}
			part->verifying = false;
			part->read_offset = Max(part->read_offset, event->offset);
			break;
		case KAFKA_EVENT_OFFSET_GONE:
			if (part != NULL && !part->failed)
				weir_partition_recheck(reader, part);
			break;
		case KAFKA_EVENT_ERROR:
			ereport(LOG, (errmsg("stream %s: %s", reader->name, event->text)));
			if (is_suspicion(event->text))
			{
				/* read again what was read last, to see that it is the same topic */
				weir_reader_restart(reader, SUSPICION_DELAY);
				return false;
			}
			break;
	}
	return reader->state == READER_OPEN;
}

static bool
handle_events(Reader *reader)
{
	KafkaEvent	event;

	while (weir_kafka_next_event(reader->consumer, &event))
		if (!handle_event(reader, &event))
			return false;
	return true;
}

static bool
batch_is_full(Reader *reader)
{
	return reader->nnoted >= weir_batch_rows ||
		weir_kafka_batch_bytes(reader->batch) >= reader->memory / BATCH_SHARE;
}

/* Takes what the queue has, up to a full batch. */
static void
gather(Reader *reader)
{
	do
	{
		int			n = weir_kafka_read(reader->consumer, reader->batch,
										Min(READ_CHUNK, weir_batch_rows - reader->nnoted));

		note_messages(reader);
		if (!handle_events(reader))
			return;
		reader->drained = n == 0;
	} while (!reader->drained && !batch_is_full(reader));

	if (reader->due_at == 0 && weir_reader_has_work(reader))
	{
		TimestampTz now = GetCurrentTimestamp();

		reader->due_at = Max(now, TimestampTzPlusMilliseconds(reader->last_batch_at,
															  weir_batch_interval));
	}
	if (reader->nmsgs == 0 && reader->nnoted > 0)
	{
		/* nothing but messages of failed partitions or ones seen before */
		weir_kafka_batch_reset(reader->batch);
		reader->nnoted = 0;
		reader->filtered = false;
	}
}

/* Is there something to apply, or a position to move over a hole at the end? */
bool
weir_reader_has_work(Reader *reader)
{
	ListCell   *lc;

	if (reader->nmsgs > 0)
		return true;
	foreach(lc, reader->partitions)
	{
		Partition  *part = lfirst(lc);

		if (!part->failed && part->read_offset > part->saved.next_offset)
			return true;
	}
	return false;
}

/*----------------------------------------------------------------------
 * The reader's turn
 *----------------------------------------------------------------------*/

/* Tells the consumer group where we are, for Kafka's tools. */
static void
commit_group(Reader *reader)
{
	ListCell   *lc;

	reader->commit_at = 0;
	foreach(lc, reader->partitions)
	{
		Partition  *part = lfirst(lc);

		if (part->committed == part->saved.next_offset)
			continue;
		weir_kafka_commit(reader->consumer, part->saved.topic, part->saved.partition,
						  part->saved.next_offset);
		part->committed = part->saved.next_offset;
	}
}

static bool
is_due(TimestampTz t, TimestampTz now)
{
	return t != 0 && t <= now;
}

/*
 * weir_reader_run does what is to be done for a stream now, without waiting
 * for messages. Asking the brokers for topics waits a bounded time.
 */
void
weir_reader_run(Reader *reader)
{
	TimestampTz now = GetCurrentTimestamp();

	if (reader->paused || worker.reload)
		return;
	if (reader->incomplete)
	{
		if (reader->refetch != NULL || is_due(reader->topics_at, now))
			weir_refetch_run(reader);
		return;
	}
	if (is_due(reader->topics_at, now))
	{
		reader->topics_at = 0;
		if (reader->state == READER_CLOSED && !open_reader(reader))
			return;
		if (!weir_topics_refresh(reader))
			return;
	}
	if (reader->state != READER_OPEN)
		return;
	if (weir_reader_reads(reader))
		gather(reader);
	if (reader->state != READER_OPEN)
		return;

	now = GetCurrentTimestamp();
	if (weir_reader_has_work(reader) &&
		(reader->retry_at != 0 ? reader->retry_at <= now :
		 reader->due_at <= now || batch_is_full(reader)))
	{
		weir_batch_apply(reader);
		if (reader->state == READER_OPEN && reader->commit_at == 0 && reader->retry_at == 0)
			reader->commit_at = TimestampTzPlusMilliseconds(now, GROUP_COMMIT_DELAY);
	}
	if (reader->state == READER_OPEN && is_due(reader->commit_at, now))
		commit_group(reader);
	if (reader->state == READER_OPEN && !worker.reload)
		weir_catch_up_run(reader);
}

/* Does the reader want messages now? Not while a batch has to be tried again. */
bool
weir_reader_reads(Reader *reader)
{
	return reader->state == READER_OPEN && !reader->paused &&
		reader->retry_at == 0 && !batch_is_full(reader);
}

/* When this reader has to have its turn again; 0: when something happens. */
TimestampTz
weir_reader_next_time(Reader *reader)
{
	TimestampTz next = 0;
	TimestampTz times[4] = {reader->topics_at, 0, 0, 0};

	if (reader->paused)
		return 0;
	if (reader->state == READER_OPEN)
	{
		times[1] = reader->commit_at;
		if (weir_reader_has_work(reader))
			times[2] = reader->retry_at != 0 ? reader->retry_at : reader->due_at;
		if (weir_reader_reads(reader) && !reader->drained)
			times[3] = 1;		/* at once: there is more in the queue */
	}
	for (int i = 0; i < lengthof(times); i++)
		if (times[i] != 0 && (next == 0 || times[i] < next))
			next = times[i];
	return next;
}
