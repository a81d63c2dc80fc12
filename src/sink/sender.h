/*
 * sender.h
 *	  A thread that sends batches of one sink to Kafka.
 *
 * All functions are called by the publisher's main thread and return at once,
 * except weir_sender_stop. No type of librdkafka in here.
 */
#ifndef WEIR_SENDER_H
#define WEIR_SENDER_H

#include "weir.h"

#include "sink/record.h"

#define SENDER_TEXT 400

/* Room for a pg_snapshot as text: some hundred transactions in progress. */
#define SNAPSHOT_TEXT 8192

typedef struct Sender Sender;

/* What a sink has sent, as text: kept in Kafka (exactly once) and in weir.sink_progress. */
typedef struct SinkProgress
{
	char		done[SNAPSHOT_TEXT];		/* pg_snapshot: all that it sees is sent */
	char		target[SNAPSHOT_TEXT];	/* pg_snapshot or "": what it sees up to seq is sent, too */
	int64		seq;
	uint32		timeline;		/* of the WAL when it was written */
} SinkProgress;

typedef enum SenderState
{
	SENDER_OPENING,				/* connecting, fencing predecessors, reading progress */
	SENDER_READY,				/* takes a batch */
	SENDER_SENDING,
	SENDER_SENT,				/* Kafka has the batch: acknowledge it, then weir_sender_next */
	SENDER_REFUSED				/* Kafka will never take a record: stop it, tell the user */
} SenderState;

typedef struct SenderReport
{
	SenderState state;
	bool		opened;			/* first report since it (re)opened: go on from progress */
	bool		has_progress;	/* progress was found in Kafka */
	SinkProgress progress;
	int64		hint;			/* offset of the last progress record, -1: unknown */
	int64		retries;		/* since the last report */
	int			bad_record;		/* REFUSED: its place in the batch, -1: unknown */
	char		error[SENDER_TEXT]; /* what it is waiting for, or why it was refused; "" */
} SenderReport;

/* A batch: chunks of records, malloc'd; freed by the sender. */
typedef struct SenderBatch
{
	char	   *data;			/* records one behind the other */
	size_t		len;
	int			records;
	int64		created_ms;		/* timestamp for records that have none */
	SinkProgress progress;		/* after the batch */
} SenderBatch;

typedef struct SenderConfig
{
	List	   *options;		/* of KafkaOption * */
	const char *identity;		/* transactional.id, and key of the progress record */
	const char *topic;			/* of records that name none; NULL: all do */
	bool		exactly_once;
	int64		hint;			/* where in weir-progress to start looking, -1: at its beginning */
	int			wake_fd;		/* eventfd: written to when there is something to report */
} SenderConfig;

/* Starts the thread; NULL with *error (palloc'd). */
extern Sender *weir_sender_start(const SenderConfig *config, char **error);

extern void weir_sender_report(Sender *sender, SenderReport *report);

/* Hands a batch over; only when READY. */
extern void weir_sender_send(Sender *sender, SenderBatch *batch);

/* After SENT: READY again. */
extern void weir_sender_next(Sender *sender);

/* Ends the thread and its handles. Takes some seconds at worst. */
extern void weir_sender_stop(Sender *sender);

/* A line of librdkafka's log; false: none. text has SENDER_TEXT bytes. */
extern bool weir_sender_log(Sender *sender, char *text);

extern SenderBatch *weir_sender_batch_create(void);
extern bool weir_sender_batch_add(SenderBatch *batch, const char *data, size_t len, int records);
extern void weir_sender_batch_free(SenderBatch *batch);

#endif							/* WEIR_SENDER_H */
