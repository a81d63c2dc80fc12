/*
 * kafka_read.c
 *	  The hot path: messages out of librdkafka's queue, into a batch, without copying them.
 *
 * Flow: broker thread => consumer queue => weir_kafka_read => KafkaBatch => decoder.
 * Main thread only. A batch owns librdkafka's messages until it is reset; keys,
 * values and header values point into them.
 *
 * The wake-up contract. librdkafka writes to the eventfd when its queue turns
 * from empty to not empty, once until the queue is read again. So: first
 * empty the fd, then read; whoever stops before the queue was seen empty
 * must make the fd readable again himself. weir_kafka_read does both: it
 * is always right to wait for the fd after it returned.
 *
 * The brokers' sleep. Before 2.2, a broker's thread that finds the queue full
 * sleeps for a second before it looks again, however fast the queue is
 * drained. Any request wakes it, and so does setting the SASL credentials: we set those it has already.
 */
#include "source/kafka_internal.h"

#include <unistd.h>

/* Messages taken from the queue at a time. */
#define CHUNK 10000

/* Having taken this much since the last time, tell the brokers' threads that there is room. */
#define WAKE_MESSAGES 2000
#define WAKE_BYTES (256 * 1024)

#define HEADERS_PER_BLOCK 1024

/* Headers of a batch's messages; those of one message lie in one block. */
typedef struct HeaderBlock
{
	struct HeaderBlock *next;	/* older block */
	int			capacity;
	int			used;
	WeirHeader	headers[FLEXIBLE_ARRAY_MEMBER];
} HeaderBlock;

KafkaBatch *
weir_kafka_batch_create(bool want_headers)
{
	KafkaBatch *batch = calloc(1, sizeof(KafkaBatch));

	if (batch != NULL)
		batch->want_headers = want_headers;
	return batch;
}

const WeirMessage *
weir_kafka_batch_messages(const KafkaBatch *batch, int *n)
{
	*n = batch->n;
	return batch->messages;
}

Size
weir_kafka_batch_bytes(const KafkaBatch *batch)
{
	return batch->bytes;
}

/* weir_kafka_batch_detach frees the messages and forgets the consumer. */
void
weir_kafka_batch_detach(KafkaBatch *batch)
{
	KafkaBatch **link;

	for (int i = 0; i < batch->n; i++)
		rd_kafka_message_destroy(batch->raw[i]);
	batch->n = 0;
	batch->bytes = 0;
	while (batch->headers != NULL)
	{
		HeaderBlock *block = batch->headers;

		batch->headers = block->next;
		free(block);
	}
	if (batch->consumer == NULL)
		return;
	for (link = &batch->consumer->batches; *link != NULL; link = &(*link)->next)
	{
		if (*link == batch)
		{
			*link = batch->next;
			break;
		}
	}
	batch->consumer = NULL;
	batch->next = NULL;
}

void
weir_kafka_batch_reset(KafkaBatch *batch)
{
	weir_kafka_batch_detach(batch);
}

void
weir_kafka_batch_free(KafkaBatch *batch)
{
	if (batch == NULL)
		return;
	weir_kafka_batch_detach(batch);
	free(batch->messages);
	free(batch->raw);
	free(batch);
}

/* Makes room for n more messages; false: out of memory. */
static bool
reserve(KafkaBatch *batch, int n)
{
	int			capacity = Max(batch->capacity * 2, batch->n + n);
	WeirMessage *messages;
	rd_kafka_message_t **raw;

	if (batch->n + n <= batch->capacity)
		return true;
	messages = realloc(batch->messages, sizeof(WeirMessage) * capacity);
	if (messages == NULL)
		return false;
	batch->messages = messages;
	raw = realloc(batch->raw, sizeof(rd_kafka_message_t *) * capacity);
	if (raw == NULL)
		return false;
	batch->raw = raw;
	batch->capacity = capacity;
	return true;
}

/* Room for n headers in one piece; NULL: out of memory. */
static WeirHeader *
reserve_headers(KafkaBatch *batch, int n)
{
	HeaderBlock *block = batch->headers;

	if (block == NULL || block->capacity - block->used < n)
	{
		int			capacity = Max(n, HEADERS_PER_BLOCK);

		block = malloc(offsetof(HeaderBlock, headers) + sizeof(WeirHeader) * capacity);
		if (block == NULL)
			return NULL;
		block->capacity = capacity;
		block->used = 0;
		block->next = batch->headers;
		batch->headers = block;
	}
	block->used += n;
	return &block->headers[block->used - n];
}

/* Fills the message's headers; false: out of memory. */
static bool
add_headers(KafkaBatch *batch, const rd_kafka_message_t *raw, WeirMessage *msg)
{
	rd_kafka_headers_t *headers;
	WeirHeader *copy;
	int			n;

	if (rd_kafka_message_headers(raw, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR)
		return true;			/* has none */
	n = rd_kafka_header_cnt(headers);
	copy = reserve_headers(batch, n);
	if (copy == NULL)
		return false;
	for (int i = 0; i < n; i++)
	{
		const void *value;

		if (rd_kafka_header_get_all(headers, i, &copy[i].name, &value,
									&copy[i].value_len) != RD_KAFKA_RESP_ERR_NO_ERROR)
			break;
		copy[i].value = value;
		msg->nheaders++;
	}
	msg->headers = copy;
	return true;
}

/* Something else than a message: the end of a partition, a lost position, an error. */
static void
take_event(KafkaConsumer *consumer, const rd_kafka_message_t *raw)
{
	KafkaPartition *entry = NULL;

	if (raw->rkt != NULL)
		entry = weir_kafka_find_partition(consumer, rd_kafka_topic_name(raw->rkt), raw->partition);

	if (raw->err == RD_KAFKA_RESP_ERR__PARTITION_EOF)
	{
		if (entry != NULL && entry->assigned && raw->offset >= entry->next)
		{
			entry->eof = raw->offset;
			consumer->events = true;
		}
	}
	else if (raw->err == RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET && entry != NULL)
	{
		if (entry->assigned)
		{
			entry->gone = raw->offset >= 0 ? raw->offset : entry->next;
			snprintf(entry->gone_text, sizeof(entry->gone_text), "%s", rd_kafka_message_errstr(raw));
			consumer->events = true;
		}
	}
	else
	{
		char		text[KAFKA_TEXT_SIZE];

		if (raw->rkt != NULL)
			snprintf(text, sizeof(text), "topic \"%s\", partition %d: %s",
					 rd_kafka_topic_name(raw->rkt), (int) raw->partition, rd_kafka_message_errstr(raw));
		else
			snprintf(text, sizeof(text), "%s", rd_kafka_message_errstr(raw));
		if (weir_kafka_log_put(&consumer->log, rd_kafka_err2name(raw->err), text))
			weir_kafka_arm(consumer);
	}
}

/*
 * weir_kafka_serve_idle takes errors out of the queue of a consumer that has no
 * partitions and so is never read: they would pile up there.
 */
void
weir_kafka_serve_idle(KafkaConsumer *consumer)
{
	rd_kafka_message_t *raws[16];
	int			n;

	if (consumer->npartitions > 0)
		return;
	while ((n = rd_kafka_consume_batch_queue(consumer->queue, 0, raws, lengthof(raws))) > 0)
	{
		for (int i = 0; i < n; i++)
		{
			take_event(consumer, raws[i]);
			rd_kafka_message_destroy(raws[i]);
		}
	}
}

/* Takes n raw messages that lie behind the batch's last one, keeps those that are wanted. */
static void
take_messages(KafkaConsumer *consumer, KafkaBatch *batch, rd_kafka_message_t **raws, int n)
{
	rd_kafka_topic_t *topic = NULL;
	KafkaPartition *entry = NULL;

	for (int i = 0; i < n; i++)
	{
		rd_kafka_message_t *raw = raws[i];
		WeirMessage *msg = &batch->messages[batch->n];

		consumer->taken_bytes += raw->len;
		if (unlikely(raw->err != RD_KAFKA_RESP_ERR_NO_ERROR))
		{
			take_event(consumer, raw);
			rd_kafka_message_destroy(raw);
			continue;
		}
		if (unlikely(raw->rkt != topic || entry == NULL || entry->partition != raw->partition))
		{
			topic = raw->rkt;
			entry = weir_kafka_find_partition(consumer, rd_kafka_topic_name(topic), raw->partition);
		}
		if (unlikely(entry == NULL || !entry->assigned || raw->offset < entry->next))
		{
			rd_kafka_message_destroy(raw);
			continue;
		}

		msg->topic = entry->topic;
		msg->partition = raw->partition;
		msg->offset = raw->offset;
		msg->timestamp_ms = rd_kafka_message_timestamp(raw, NULL);
		msg->key = raw->key;
		msg->key_len = raw->key_len;
		msg->value = raw->payload;
		msg->value_len = raw->len;
		msg->headers = NULL;
		msg->nheaders = 0;
		if (batch->want_headers && !add_headers(batch, raw, msg))
			elog(FATAL, "out of memory");	/* a message without its headers would be a silent loss */

		entry->next = raw->offset + 1;
		batch->raw[batch->n++] = raw;
		batch->bytes += raw->len + raw->key_len + KAFKA_MESSAGE_OVERHEAD + sizeof(WeirMessage);
	}
}

/* See the brokers' sleep, above. */
static void
wake_brokers(KafkaConsumer *consumer)
{
	rd_kafka_error_t *problem;

	consumer->taken_messages = consumer->taken_bytes = 0;
	problem = rd_kafka_sasl_set_credentials(consumer->rk, consumer->username, consumer->password);
	if (problem != NULL)
		rd_kafka_error_destroy(problem);
}

int
weir_kafka_read(KafkaConsumer *consumer, KafkaBatch *batch, int max)
{
	int			before = batch->n;
	uint64		count;
	ssize_t		nread;

	nread = read(consumer->fd, &count, sizeof(count));
	(void) nread;				/* nothing there is fine */

	weir_kafka_serve_commits(consumer);

	Assert(batch->consumer == NULL || batch->consumer == consumer);
	if (batch->consumer == NULL)
	{
		batch->consumer = consumer;
		batch->next = consumer->batches;
		consumer->batches = batch;
	}

	for (;;)
	{
		int			want = Min(max - (batch->n - before), CHUNK);
		int			got;

		if (want <= 0 || !reserve(batch, want))
			break;
		got = rd_kafka_consume_batch_queue(consumer->queue, 0, batch->raw + batch->n, want);
		if (got <= 0)
			break;
		consumer->taken_messages += got;
		take_messages(consumer, batch, batch->raw + batch->n, got);
		if (consumer->wake_brokers &&
			(consumer->taken_messages >= WAKE_MESSAGES || consumer->taken_bytes >= WAKE_BYTES))
			wake_brokers(consumer);
		if (got < want)
			break;				/* was seen empty; what came since has armed the fd */
	}
	if (rd_kafka_queue_length(consumer->queue) > 0)
		weir_kafka_arm(consumer);
	return batch->n - before;
}

/*
 * weir_kafka_fingerprint is a 64-bit hash of timestamp, key and value: two
 * messages at the same offset with different ones belong to different topics
 * of the same name. FNV-1a, eight bytes at a time, with a last mix.
 */
uint64
weir_kafka_fingerprint(const WeirMessage *msg)
{
	const struct
	{
		const char *data;
		size_t		len;
	}			parts[] = {{msg->key, msg->key_len}, {msg->value, msg->value_len}};
	uint64		hash = UINT64CONST(14695981039346656037);

#define MIX(word) (hash = (hash ^ (word)) * UINT64CONST(1099511628211), hash ^= hash >> 29)

	MIX((uint64) msg->timestamp_ms);
	for (int i = 0; i < lengthof(parts); i++)
	{
		const char *data = parts[i].data;
		size_t		len = parts[i].len;

		MIX(data == NULL ? UINT64_MAX : (uint64) len);
		for (; data != NULL && len > 0;)
		{
			uint64		word = 0;
			size_t		n = Min(len, sizeof(word));

			memcpy(&word, data, n);
			MIX(word);
			data += n;
			len -= n;
		}
	}
#undef MIX
	return hash;
}
