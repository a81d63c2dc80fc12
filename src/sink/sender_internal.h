/*
 * sender_internal.h
 *	  What sender.c and sender_progress.c share; librdkafka's types stay here.
 */
#ifndef WEIR_SENDER_INTERNAL_H
#define WEIR_SENDER_INTERNAL_H

#include "sink/sender.h"
#include "source/kafka_internal.h"

#define PROGRESS_TOPIC "weir-progress"

/* Longest single wait for a broker: after it the thread looks whether it has to stop. */
#define SLICE_MS 500

/* Topics whose metadata were asked for already; beyond, they are asked for again. */
#define KNOWN_TOPICS 64

/* Opaque of the progress record, among the records' numbers. */
#define PROGRESS_MARK ((void *) (intptr_t) -1)

typedef enum SendResult
{
	SEND_DONE,
	SEND_AGAIN,					/* the same batch, with this handle */
	SEND_REOPEN,				/* the handle is dead */
	SEND_REFUSED,
	SEND_STOPPED
} SendResult;

typedef struct KnownTopic
{
	char		name[256];
	rd_kafka_topic_t *rkt;
	int32		partitions;
} KnownTopic;

struct Sender
{
	pthread_t	thread;
	pthread_mutex_t mutex;		/* guards what is between the threads */
	pthread_cond_t cond;		/* there is a command */

	/* between the threads */
	bool		stop;
	SenderState state;
	bool		opened;
	bool		has_progress;
	SinkProgress progress;
	int64		hint;
	int64		retries;
	int			bad_record;
	char		error[SENDER_TEXT];
	SenderBatch *batch;			/* main thread sets, sender takes */

	/* constant */
	rd_kafka_conf_t *producer_conf;	/* to be duplicated */
	rd_kafka_conf_t *consumer_conf;
	char	   *identity;
	char	   *topic;
	bool		exactly_once;
	int			wake_fd;
	KafkaLog	log;

	/* the thread's own */
	rd_kafka_t *rk;				/* NULL: not open */
	KnownTopic	known[KNOWN_TOPICS];
	int			nknown;
	bool		single;			/* each record in a batch of its own, to find one that is too large */
	bool		progress_ready; /* the progress topic is there */
	rd_kafka_resp_err_t failed; /* why a record of the batch failed for a reason of its own */
	int			failed_record;	/* which one */
	int64		progress_offset;	/* where the batch's progress record went */
	int			undelivered;	/* without transactions: records not confirmed yet */
};

extern bool weir_sender_stopping(Sender *sender);
extern void weir_sender_trouble(Sender *sender, const char *fmt,...) pg_attribute_printf(2, 3);

/* Sleeps, or less if it is to stop. */
extern void weir_sender_pause(Sender *sender, int ms);

/*
 * sender_send.c. weir_send_judge: what a transactional call has said, NULL
 * meaning done; frees the error. SEND_AGAIN: call it again (slices counts the calls);
 * SEND_REFUSED: the transaction must be aborted.
 */
extern SendResult weir_send_judge(Sender *sender, rd_kafka_error_t *error, int slices, const char *what);
extern SendResult weir_send_transaction(Sender *sender, SenderBatch *batch);
extern SendResult weir_send_plain(Sender *sender, SenderBatch *batch);

/* Progress as the value of its record. */
extern int	weir_progress_format(const SinkProgress *progress, char *text, size_t size);

/* Makes the topic weir-progress if it is not there. */
extern bool weir_progress_topic(Sender *sender);

/* Reads this sink's last progress under read_committed; false: trouble, or stopping. */
extern bool weir_progress_read(Sender *sender, SinkProgress *progress, bool *found, int64 *hint);

#endif							/* WEIR_SENDER_INTERNAL_H */
