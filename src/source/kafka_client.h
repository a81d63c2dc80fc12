/*
 * kafka_client.h
 *	  A Kafka consumer for one server: assign, read in batches, ask for offsets.
 *
 * Threads: every function is called from PostgreSQL's main thread only.
 * librdkafka's threads run the callbacks inside kafka_client.c, which write
 * to a ring guarded by a mutex and touch nothing of PostgreSQL. Memory of a
 * consumer is malloc'd and bounded by what weir_kafka_open was given;
 * nothing here survives weir_kafka_close. No function raises an error while
 * librdkafka holds something: failures come back as text.
 */
#ifndef WEIR_KAFKA_CLIENT_H
#define WEIR_KAFKA_CLIENT_H

#include "weir.h"
#include "decode/message.h"

typedef struct KafkaConsumer KafkaConsumer;
typedef struct KafkaBatch KafkaBatch;	/* messages in hand, owned by the consumer's user */

typedef enum KafkaEventKind
{
	KAFKA_EVENT_EOF,			/* offset: where the partition ends now (LSO under read_committed) */
	KAFKA_EVENT_OFFSET_GONE,	/* the position is out of range: deleted by retention, or topic made anew */
	KAFKA_EVENT_ERROR			/* anything else; text says it */
} KafkaEventKind;

typedef struct KafkaEvent
{
	KafkaEventKind kind;
	const char *topic;			/* may be NULL */
	int32		partition;
	int64		offset;
	char		text[256];
} KafkaEvent;

/*
 * weir_kafka_open makes a consumer. options: List of KafkaOption*. memory:
 * bytes that its prefetch queue may use. group: group.id, only for the
 * offsets that Kafka's tools read. Sets isolation.level, auto.offset.reset=error,
 * enable.auto.commit=false, enable.partition.eof=true and flow control. Returns NULL with *error (palloc'd) on failure.
 */
extern KafkaConsumer *weir_kafka_open(List *options, const char *group, bool read_committed,
									  Size memory, char **error);
extern void weir_kafka_close(KafkaConsumer *consumer);

/* Readable (level-triggered by weir_kafka_read's contract) when there may be something to read. */
extern int	weir_kafka_fd(KafkaConsumer *consumer);

/* Number of partitions of a topic; 0: no such topic (yet); -1 with *error: cannot ask. Blocks up to timeout_ms. */
extern int	weir_kafka_partitions(KafkaConsumer *consumer, const char *topic, int timeout_ms, char **error);

/* Low and high (LSO under read_committed) watermark. Blocks up to timeout_ms. */
extern bool weir_kafka_watermarks(KafkaConsumer *consumer, const char *topic, int32 partition,
								  int64 *low, int64 *high, int timeout_ms, char **error);

/* First offset whose timestamp is >= ms; the end if there is none. */
extern bool weir_kafka_offset_for_time(KafkaConsumer *consumer, const char *topic, int32 partition,
									   int64 timestamp_ms, int64 *offset, int timeout_ms, char **error);

/* Start, stop and move reading of one partition. Messages fetched before an unassign or a move are dropped, never returned afterwards. */
extern bool weir_kafka_assign(KafkaConsumer *consumer, const char *topic, int32 partition, int64 offset, char **error);
extern void weir_kafka_unassign(KafkaConsumer *consumer, const char *topic, int32 partition);

/*
 * weir_kafka_read takes at most max messages from the queue, without
 * blocking, into batch; returns how many were added. However it ends, the
 * fd is or becomes readable as soon as there is more to read: waiting for it is always right.
 * A batch holds messages of one consumer. Events found on the way go to a list that
 * weir_kafka_next_event hands out. Messages stay valid until weir_kafka_batch_free/reset,
 * or weir_kafka_close. weir_kafka_batch_bytes is the memory they hold, librdkafka's overhead included.
 */
extern KafkaBatch *weir_kafka_batch_create(bool want_headers);
extern int	weir_kafka_read(KafkaConsumer *consumer, KafkaBatch *batch, int max);
extern const WeirMessage *weir_kafka_batch_messages(const KafkaBatch *batch, int *n);
extern Size weir_kafka_batch_bytes(const KafkaBatch *batch);
extern void weir_kafka_batch_reset(KafkaBatch *batch);
extern void weir_kafka_batch_free(KafkaBatch *batch);

/*
 * Next event or log line (rate limited); false: none. Call after weir_kafka_read
 * until false, and handle the messages read first: an end (EOF) is behind them.
 * Of several ends of a partition only the last is told.
 */
extern bool weir_kafka_next_event(KafkaConsumer *consumer, KafkaEvent *event);

/* Commits offsets to the group, asynchronously, failures ignored: for Kafka's tools only. */
extern void weir_kafka_commit(KafkaConsumer *consumer, const char *topic, int32 partition, int64 offset);

/* 64-bit hash of a message's timestamp, key and value: tells a topic that was deleted and created anew. */
extern uint64 weir_kafka_fingerprint(const WeirMessage *msg);

/* Lets malloc keep memory between batches. Once per process, in the worker only. */
extern void weir_kafka_tune_malloc(void);

/*
 * weir_kafka_probe asks the brokers whether these topics exist, for a WARNING
 * at DDL. NULL: all there, else a palloc'd text ("topic \"orders\" does not
 * exist", "no broker answers: ..."). Takes timeout_ms at most, plus the closing;
 * may raise a query cancel in between.
 */
extern char *weir_kafka_probe(List *options, int ntopics, char **topics, int timeout_ms);

#endif							/* WEIR_KAFKA_CLIENT_H */
