/*
 * kafka_internal.h
 *	  What the kafka_*.c files share. Nothing else includes this: librdkafka's types stay here.
 */
#ifndef WEIR_KAFKA_INTERNAL_H
#define WEIR_KAFKA_INTERNAL_H

#include "weir.h"

#include <pthread.h>

#include <librdkafka/rdkafka.h>

#include "source/kafka_client.h"
#include "source/kafka_options.h"

/* librdkafka 2.2.0 brought fetch.queue.backoff.ms. */
#define KAFKA_VERSION_QUEUE_BACKOFF 0x020200ff

/* What librdkafka needs for a message besides its bytes (measured). */
#define KAFKA_MESSAGE_OVERHEAD 480

/*
 * Lines from librdkafka, on their way from its threads to the main thread.
 * At most KAFKA_LOG_LINES in KAFKA_LOG_WINDOW_MS; the others are counted.
 */
#define KAFKA_LOG_LINES 10
#define KAFKA_LOG_WINDOW_MS 10000
#define KAFKA_TEXT_SIZE sizeof(((KafkaEvent *) 0)->text)

typedef struct KafkaLog
{
	pthread_mutex_t mutex;		/* guards all below */
	int64		window_start;	/* ms, CLOCK_MONOTONIC */
	int			in_window;		/* lines accepted in this window */
	int64		suppressed;		/* lines refused since the last report */
	int			head;			/* oldest line */
	int			count;
	char		lines[2 * KAFKA_LOG_LINES][KAFKA_TEXT_SIZE];
} KafkaLog;

/* One partition that is or was assigned. Lives as long as the consumer. */
typedef struct KafkaPartition
{
	const char *topic;			/* points into KafkaConsumer.topics */
	int32		partition;
	bool		assigned;
	int64		next;			/* messages below this are not wanted */
	int64		eof;			/* end to report, -1: none */
	int64		gone;			/* offset asked for that is out of range, -1: none */
	int64		commit;			/* offset to commit to the group, -1: none */
	char		gone_text[KAFKA_TEXT_SIZE];
} KafkaPartition;

struct KafkaConsumer
{
	rd_kafka_t *rk;
	rd_kafka_queue_t *queue;	/* the consumer queue: messages, ends, errors */
	rd_kafka_queue_t *commits;	/* answers to commits */
	int			fd;				/* eventfd that librdkafka writes to */
	bool		committing;		/* a commit is under way */
	bool		to_commit;		/* some partition has an offset to commit */
	int64		commit_after;	/* ms, CLOCK_MONOTONIC: none before, because one failed */
	bool		wake_brokers;	/* librdkafka without fetch.queue.backoff.ms */
	char	   *group;
	char	   *username;		/* for wake_brokers; "" without SASL */
	char	   *password;
	int64		taken_messages; /* since the brokers' threads were last woken */
	int64		taken_bytes;
	bool		events;			/* some partition may have eof or gone set */
	KafkaPartition **partitions;
	int			npartitions;
	char	  **topics;			/* interned names */
	int			ntopics;
	KafkaBatch *batches;		/* those with messages of this consumer */
	KafkaLog	log;
	KafkaConsumer *next_open;	/* list of open consumers of this process */
};

struct KafkaBatch
{
	KafkaConsumer *consumer;	/* whose messages these are; NULL: none yet */
	KafkaBatch *next;			/* in consumer->batches */
	bool		want_headers;
	int			n;
	int			capacity;
	Size		bytes;
	WeirMessage *messages;
	rd_kafka_message_t **raw;	/* they own what messages point to */
	struct HeaderBlock *headers;
};

/* kafka_log.c */
extern int64 weir_kafka_now_ms(void);
extern void weir_kafka_log_init(KafkaLog *log);
extern void weir_kafka_log_destroy(KafkaLog *log);
extern bool weir_kafka_log_put(KafkaLog *log, const char *fac, const char *text);
extern bool weir_kafka_log_get(KafkaLog *log, char *text);

/* kafka_connect.c */
extern rd_kafka_conf_t *weir_kafka_conf(List *options, char *text, Size size);
extern bool weir_kafka_conf_put(rd_kafka_conf_t *conf, const char *name, const char *value, char *text, Size size);
extern const char *weir_kafka_option(List *options, const char *name);
extern bool weir_kafka_destroy(rd_kafka_t *rk);

/* kafka_client.c */
extern void weir_kafka_arm(KafkaConsumer *consumer);
extern KafkaPartition *weir_kafka_find_partition(KafkaConsumer *consumer, const char *topic, int32 partition);
extern void weir_kafka_serve_commits(KafkaConsumer *consumer);

/* kafka_read.c */
extern void weir_kafka_batch_detach(KafkaBatch *batch);
extern void weir_kafka_serve_idle(KafkaConsumer *consumer);

#endif							/* WEIR_KAFKA_INTERNAL_H */
