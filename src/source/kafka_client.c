/*
 * kafka_client.c
 *	  A consumer: open, close, which partitions it reads and from where, events, group offsets.
 *
 * Flow: kafka_connect.c => this => kafka_read.c => the worker's batch.
 *
 * Positions are PostgreSQL's, so the consumer never joins a group: partitions
 * are assigned one by one at explicit offsets. What librdkafka had fetched for
 * a partition before it was unassigned or moved carries an older version
 * number and is dropped inside librdkafka when the queue is read; the unassign
 * raises the number before it returns.
 *
 * Group offsets, which only Kafka's tools read, are committed one request at
 * a time. While a commit waits for a coordinator (none there, no right on the group)
 * librdkafka holds back assignments: so it gives up after SESSION_TIMEOUT_MS,
 * and we rest for COMMIT_REST_MS. (The admin request AlterConsumerGroupOffsets
 * would not hold anything back, but fails an assertion inside librdkafka, 2.0.2 and
 * 2.13, when the broker goes away at the wrong moment: it must not be used in a server.)
 *
 * Threads: main thread only. log_cb runs in librdkafka's threads and touches
 * only the ring of kafka_log.c and the eventfd.
 * Memory: malloc, bounded by weir_kafka_open's argument plus one fetch per broker.
 * Caveat: exit() with live librdkafka threads can crash in OpenSSL's exit
 * handler, and a crashed worker restarts the server; so consumers that are
 * still open are closed by an on_proc_exit callback.
 */
#include "source/kafka_internal.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "storage/ipc.h"

/*
 * The share of memory for the bytes of queued messages; the rest is for what
 * librdkafka needs beside them, which is more than a small message itself.
 */
#define BYTES_SHARE 3

/*
 * More than this in the queue makes nothing faster: a batch should find its
 * messages fetched already, but what lies in the queue for long falls out of
 * the CPU's caches (measured: 480 ns per message with 22,000, 540 with 360,000).
 */
#define MOST_QUEUED_BYTES	(INT64CONST(32) * 1024 * 1024)
#define MOST_QUEUED_MESSAGES 100000
#define LEAST_QUEUED_BYTES	(INT64CONST(1024) * 1024)
#define LEAST_QUEUED_MESSAGES 4000

/*
 * Size of one fetch, as a share of the memory. It is bytes on the wire: compressed
 * ones become five or ten times as many, and the queue can exceed its bound
 * by one fetch per broker. A larger single message comes through all the same.
 */
#define FETCH_SHARE 128
#define MOST_FETCHED_BYTES	(INT64CONST(2) * 1024 * 1024)
#define LEAST_FETCHED_BYTES (INT64CONST(128) * 1024)

/*
 * weir has no session; this is how long a commit waits for the group's
 * coordinator, and with it an assignment or the end of the consumer.
 */
#define SESSION_TIMEOUT_MS "500"

/* Time without commits after one that failed. */
#define COMMIT_REST_MS 10000

/* syslog's levels; below warning librdkafka only chats. */
#define LOG_LEVEL_WARNING 4

static KafkaConsumer *open_consumers = NULL;

/* Makes the fd readable, from any thread. */
void
weir_kafka_arm(KafkaConsumer *consumer)
{
	uint64		one = 1;
	ssize_t		written;

	written = write(consumer->fd, &one, sizeof(one));
	(void) written;				/* full means that it is readable already */
}

/* librdkafka's threads. */
static void
log_callback(const rd_kafka_t *rk, int level, const char *fac, const char *text)
{
	KafkaConsumer *consumer = rd_kafka_opaque(rk);

	/* What "FAIL" says comes as an error, too, when the queue is read. */
	if (consumer != NULL && level <= LOG_LEVEL_WARNING && strcmp(fac, "FAIL") != 0 &&
		weir_kafka_log_put(&consumer->log, fac, text))
		weir_kafka_arm(consumer);
}

static void
close_all(int code, Datum arg)
{
	while (open_consumers != NULL)
		weir_kafka_close(open_consumers);
}

static int64
clamp(int64 value, int64 least, int64 most)
{
	return Max(Min(value, most), least);
}

static bool
put_number(rd_kafka_conf_t *conf, const char *name, int64 value, char *text, Size size)
{
	char		digits[32];

	snprintf(digits, sizeof(digits), "%lld", (long long) value);
	return weir_kafka_conf_put(conf, name, digits, text, size);
}

/* Flow control within memory bytes. */
static bool
set_flow_control(rd_kafka_conf_t *conf, List *options, Size memory, char *text, Size size)
{
	const char *receive = weir_kafka_option(options, "receive.message.max.bytes");
	int64		bytes = clamp((int64) memory / BYTES_SHARE, LEAST_QUEUED_BYTES, MOST_QUEUED_BYTES);
	int64		messages = clamp(((int64) memory - bytes) / KAFKA_MESSAGE_OVERHEAD,
								 LEAST_QUEUED_MESSAGES, MOST_QUEUED_MESSAGES);
	int64		fetch = clamp((int64) memory / FETCH_SHARE, LEAST_FETCHED_BYTES, MOST_FETCHED_BYTES);

	/* librdkafka wants a response to have room for a fetch and its frame. */
	if (receive != NULL)
		fetch = clamp(fetch, 1000, atoll(receive) - 512);

	/* Unknown before 2.2: there wake_brokers() does it. */
	(void) rd_kafka_conf_set(conf, "fetch.queue.backoff.ms", "2", NULL, 0);

	/* message.max.bytes is for producers, but must not be above fetch.max.bytes. */
	return put_number(conf, "queued.max.messages.kbytes", bytes / 1024, text, size) &&
		put_number(conf, "queued.min.messages", messages, text, size) &&
		put_number(conf, "message.max.bytes", fetch, text, size) &&
		put_number(conf, "fetch.max.bytes", fetch, text, size);
}

/* What weir's reading depends on. */
static bool
set_own_properties(rd_kafka_conf_t *conf, const char *group, bool read_committed, char *text, Size size)
{
	return weir_kafka_conf_put(conf, "group.id", group, text, size) &&
		weir_kafka_conf_put(conf, "session.timeout.ms", SESSION_TIMEOUT_MS, text, size) &&
		weir_kafka_conf_put(conf, "enable.auto.commit", "false", text, size) &&
		weir_kafka_conf_put(conf, "enable.auto.offset.store", "false", text, size) &&
		weir_kafka_conf_put(conf, "enable.partition.eof", "true", text, size) &&
		weir_kafka_conf_put(conf, "auto.offset.reset", "error", text, size) &&
		weir_kafka_conf_put(conf, "isolation.level",
							read_committed ? "read_committed" : "read_uncommitted", text, size);
}

/* Frees everything that exists. Batches are detached, messages freed, before librdkafka is told to end. */
static void
free_consumer(KafkaConsumer *consumer)
{
	while (consumer->batches != NULL)
		weir_kafka_batch_detach(consumer->batches);
	if (consumer->queue != NULL)
	{
		rd_kafka_queue_io_event_enable(consumer->queue, -1, NULL, 0);
		rd_kafka_queue_destroy(consumer->queue);
	}
	if (consumer->commits != NULL)
	{
		rd_kafka_queue_io_event_enable(consumer->commits, -1, NULL, 0);
		rd_kafka_queue_destroy(consumer->commits);
	}
	if (consumer->rk != NULL && !weir_kafka_destroy(consumer->rk))
		return;					/* threads still write to the fd and the log: these must stay */
	if (consumer->fd >= 0)
		close(consumer->fd);
	for (int i = 0; i < consumer->npartitions; i++)
		free(consumer->partitions[i]);
	for (int i = 0; i < consumer->ntopics; i++)
		free(consumer->topics[i]);
	free(consumer->partitions);
	free(consumer->topics);
	free(consumer->group);
	free(consumer->username);
	free(consumer->password);
	weir_kafka_log_destroy(&consumer->log);
	free(consumer);
}

/* The steps of opening that can fail; false with text. */
static bool
open_consumer(KafkaConsumer *consumer, List *options, bool read_committed,
			  Size memory, char *text, Size size)
{
	const char *username = weir_kafka_option(options, "sasl.username");
	const char *password = weir_kafka_option(options, "sasl.password");
	uint64		one = 1;
	rd_kafka_conf_t *conf;

	consumer->username = strdup(username != NULL ? username : "");
	consumer->password = strdup(password != NULL ? password : "");
	consumer->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (consumer->fd < 0 || consumer->group == NULL ||
		consumer->username == NULL || consumer->password == NULL)
	{
		snprintf(text, size, "%s", strerror(errno));
		return false;
	}

	conf = weir_kafka_conf(options, text, size);
	if (conf == NULL)
		return false;
	if (!set_own_properties(conf, consumer->group, read_committed, text, size) ||
		!set_flow_control(conf, options, memory, text, size))
	{
		rd_kafka_conf_destroy(conf);
		return false;
	}
	rd_kafka_conf_set_opaque(conf, consumer);
	/* Without an error callback, librdkafka logs errors; most when the queue is read. */
	rd_kafka_conf_set_log_cb(conf, log_callback);

	consumer->rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, text, size);
	if (consumer->rk == NULL)
	{
		rd_kafka_conf_destroy(conf);
		return false;
	}
	rd_kafka_poll_set_consumer(consumer->rk);
	consumer->queue = rd_kafka_queue_get_consumer(consumer->rk);
	consumer->commits = rd_kafka_queue_new(consumer->rk);
	rd_kafka_queue_io_event_enable(consumer->queue, consumer->fd, &one, sizeof(one));
	rd_kafka_queue_io_event_enable(consumer->commits, consumer->fd, &one, sizeof(one));
	consumer->wake_brokers = rd_kafka_version() < KAFKA_VERSION_QUEUE_BACKOFF;
	return true;
}

KafkaConsumer *
weir_kafka_open(List *options, const char *group, bool read_committed, Size memory, char **error)
{
	static bool registered = false;
	KafkaConsumer *consumer = calloc(1, sizeof(KafkaConsumer));
	char		text[512] = "";

	if (consumer == NULL)
	{
		*error = pstrdup("out of memory");
		return NULL;
	}
	if (!registered)
	{
		on_proc_exit(close_all, (Datum) 0);
		registered = true;
	}
	consumer->fd = -1;
	consumer->group = strdup(group);
	weir_kafka_log_init(&consumer->log);
	if (!open_consumer(consumer, options, read_committed, memory, text, sizeof(text)))
	{
		free_consumer(consumer);
		*error = pstrdup(text);
		return NULL;
	}
	consumer->next_open = open_consumers;
	open_consumers = consumer;
	return consumer;
}

/*
 * weir_kafka_close ends the consumer. Messages in batches become invalid: the
 * batches are reset. Takes a few ms; a second if a commit waits for its
 * coordinator; 5 s at the very worst (see kafka_connect.c).
 */
void
weir_kafka_close(KafkaConsumer *consumer)
{
	KafkaConsumer **link;

	for (link = &open_consumers; *link != NULL; link = &(*link)->next_open)
	{
		if (*link == consumer)
		{
			*link = consumer->next_open;
			break;
		}
	}
	free_consumer(consumer);
}

int
weir_kafka_fd(KafkaConsumer *consumer)
{
	return consumer->fd;
}

/* The consumer's own copy of a topic's name; NULL: out of memory. */
static const char *
intern_topic(KafkaConsumer *consumer, const char *topic)
{
	char	  **topics;

	for (int i = 0; i < consumer->ntopics; i++)
	{
		if (strcmp(consumer->topics[i], topic) == 0)
			return consumer->topics[i];
	}
	topics = realloc(consumer->topics, sizeof(char *) * (consumer->ntopics + 1));
	if (topics == NULL)
		return NULL;
	consumer->topics = topics;
	topics[consumer->ntopics] = strdup(topic);
	return topics[consumer->ntopics] == NULL ? NULL : topics[consumer->ntopics++];
}

/* weir_kafka_find_partition returns NULL if the partition never was assigned. */
KafkaPartition *
weir_kafka_find_partition(KafkaConsumer *consumer, const char *topic, int32 partition)
{
	for (int i = 0; i < consumer->npartitions; i++)
	{
		KafkaPartition *found = consumer->partitions[i];

		if (found->partition == partition && strcmp(found->topic, topic) == 0)
			return found;
	}
	return NULL;
}

/* Finds or makes the entry of a partition; NULL: out of memory. */
static KafkaPartition *
need_partition(KafkaConsumer *consumer, const char *topic, int32 partition)
{
	KafkaPartition *entry = weir_kafka_find_partition(consumer, topic, partition);
	KafkaPartition **partitions;

	if (entry != NULL)
		return entry;
	partitions = realloc(consumer->partitions,
						 sizeof(KafkaPartition *) * (consumer->npartitions + 1));
	if (partitions == NULL)
		return NULL;
	consumer->partitions = partitions;
	entry = calloc(1, sizeof(KafkaPartition));
	if (entry == NULL || (entry->topic = intern_topic(consumer, topic)) == NULL)
	{
		free(entry);
		return NULL;
	}
	entry->partition = partition;
	entry->eof = entry->gone = entry->commit = -1;
	partitions[consumer->npartitions++] = entry;
	return entry;
}

/* Puts a librdkafka error into *error and frees it; true: there was none. */
static bool
take_error(rd_kafka_error_t *problem, char **error)
{
	char		text[512];

	if (problem == NULL)
		return true;
	snprintf(text, sizeof(text), "%s", rd_kafka_error_string(problem));
	rd_kafka_error_destroy(problem);
	if (error != NULL)
		*error = pstrdup(text);
	return false;
}

/* Stops reading: when this returns, librdkafka's queue gives no older message of the partition. */
static bool
stop_partition(KafkaConsumer *consumer, KafkaPartition *entry, char **error)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
	rd_kafka_error_t *problem;

	rd_kafka_topic_partition_list_add(list, entry->topic, entry->partition);
	problem = rd_kafka_incremental_unassign(consumer->rk, list);
	rd_kafka_topic_partition_list_destroy(list);
	entry->assigned = false;
	entry->eof = entry->gone = -1;
	return take_error(problem, error);
}

bool
weir_kafka_assign(KafkaConsumer *consumer, const char *topic, int32 partition, int64 offset, char **error)
{
	KafkaPartition *entry = need_partition(consumer, topic, partition);
	rd_kafka_topic_partition_list_t *list;
	rd_kafka_error_t *problem;

	if (entry == NULL || offset < 0)
	{
		*error = pstrdup(entry == NULL ? "out of memory" : "negative offset");
		return false;
	}
	if (entry->assigned && !stop_partition(consumer, entry, error))
		return false;

	list = rd_kafka_topic_partition_list_new(1);
	rd_kafka_topic_partition_list_add(list, topic, partition)->offset = offset;
	problem = rd_kafka_incremental_assign(consumer->rk, list);
	rd_kafka_topic_partition_list_destroy(list);
	if (!take_error(problem, error))
		return false;
	entry->assigned = true;
	entry->next = offset;
	return true;
}

void
weir_kafka_unassign(KafkaConsumer *consumer, const char *topic, int32 partition)
{
	KafkaPartition *entry = weir_kafka_find_partition(consumer, topic, partition);

	if (entry != NULL && entry->assigned)
		(void) stop_partition(consumer, entry, NULL);
}

bool
weir_kafka_next_event(KafkaConsumer *consumer, KafkaEvent *event)
{
	weir_kafka_serve_idle(consumer);
	for (int i = 0; consumer->events && i < consumer->npartitions; i++)
	{
		KafkaPartition *entry = consumer->partitions[i];

		event->topic = entry->topic;
		event->partition = entry->partition;
		if (entry->gone >= 0)
		{
			event->kind = KAFKA_EVENT_OFFSET_GONE;
			event->offset = entry->gone;
			memcpy(event->text, entry->gone_text, sizeof(event->text));
			entry->gone = -1;
			return true;
		}
		if (entry->eof >= 0)
		{
			event->kind = KAFKA_EVENT_EOF;
			event->offset = entry->eof;
			event->text[0] = '\0';
			entry->eof = -1;
			return true;
		}
	}
	consumer->events = false;

	event->kind = KAFKA_EVENT_ERROR;
	event->topic = NULL;
	event->partition = -1;
	event->offset = -1;
	return weir_kafka_log_get(&consumer->log, event->text);
}

/* Sends the offsets that wait; no commit is under way. */
static void
send_commit(KafkaConsumer *consumer)
{
	rd_kafka_topic_partition_list_t *list;

	if (consumer->commit_after > weir_kafka_now_ms())
		return;
	list = rd_kafka_topic_partition_list_new(4);
	for (int i = 0; i < consumer->npartitions; i++)
	{
		KafkaPartition *entry = consumer->partitions[i];

		if (entry->commit < 0)
			continue;
		rd_kafka_topic_partition_list_add(list, entry->topic, entry->partition)->offset = entry->commit;
		entry->commit = -1;
	}
	if (list->cnt > 0)
		consumer->committing =
			rd_kafka_commit_queue(consumer->rk, list, consumer->commits, NULL, NULL) ==
			RD_KAFKA_RESP_ERR_NO_ERROR;
	rd_kafka_topic_partition_list_destroy(list);
	consumer->to_commit = false;
}

/* A commit failed: its offsets wait again, unless newer ones do. */
static void
restore_commit(KafkaConsumer *consumer, const rd_kafka_topic_partition_list_t *list)
{
	consumer->commit_after = weir_kafka_now_ms() + COMMIT_REST_MS;
	for (int i = 0; list != NULL && i < list->cnt; i++)
	{
		KafkaPartition *entry = weir_kafka_find_partition(consumer, list->elems[i].topic,
														  list->elems[i].partition);

		if (entry != NULL && entry->commit < 0)
			entry->commit = list->elems[i].offset;
	}
	consumer->to_commit = true;
}

/* weir_kafka_serve_commits takes the answer to a commit, then sends what came meanwhile. */
void
weir_kafka_serve_commits(KafkaConsumer *consumer)
{
	rd_kafka_event_t *answer;

	while (consumer->committing && (answer = rd_kafka_queue_poll(consumer->commits, 0)) != NULL)
	{
		consumer->committing = false;
		if (rd_kafka_event_error(answer) != RD_KAFKA_RESP_ERR_NO_ERROR)
			restore_commit(consumer, rd_kafka_event_topic_partition_list(answer));
		rd_kafka_event_destroy(answer);
	}
	if (consumer->to_commit && !consumer->committing)
		send_commit(consumer);
}

/*
 * weir_kafka_commit: one request is under way at a time; offsets given
 * meanwhile go out together with the next, when weir_kafka_read sees the answer.
 */
void
weir_kafka_commit(KafkaConsumer *consumer, const char *topic, int32 partition, int64 offset)
{
	KafkaPartition *entry = weir_kafka_find_partition(consumer, topic, partition);

	if (entry == NULL)
		return;
	entry->commit = offset;
	consumer->to_commit = true;
	if (!consumer->committing)
		send_commit(consumer);
}
