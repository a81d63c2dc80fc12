/*
 * worker.h
 *	  What the files of a worker share: readers, partitions, batches.
 */
#ifndef WEIR_WORKER_H
#define WEIR_WORKER_H

#include "weir.h"

#include "catalog/stream.h"
#include "source/kafka_client.h"
#include "worker/positions.h"

/* How the launcher tells a worker who it is (in bgw_extra). */
typedef struct WorkerStart
{
	int			slot;
	Oid			dboid;
	int			index;
	uint32		nworkers;
	uint32		epoch;
} WorkerStart;

/* One partition that this worker reads. */
typedef struct Partition
{
	SavedPosition saved;		/* as committed */
	int64		read_offset;	/* next offset expected from the queue */
	bool		assigned;
	bool		verifying;		/* waits for the message at saved.last_offset, to compare it */
	bool		failed;			/* needs the user; stands still */
	bool		suspect;		/* messages came after a pause: may be another topic's */
	TimestampTz last_seen;		/* when its last messages were taken from the queue */
	int			gone;			/* times in a row that the broker refused the position */
	/* its part of the batch in hand */
	int			nmsgs;
	int64		bytes;
	int64		nulls;
	int			last;			/* number of its last message in the batch */
	int64		committed;		/* told to the consumer group */
} Partition;

/* A view over a stream, as the worker last read it. */
typedef struct ReaderView
{
	Oid			view;
	bool		running;
} ReaderView;

typedef enum ReaderState
{
	READER_CLOSED,				/* no consumer */
	READER_OPEN					/* consumer there; partitions assigned as far as they exist */
} ReaderState;

/* One partition of messages that are read a second time, by a consumer of its own. */
typedef struct ReplayPartition
{
	char	   *topic;
	int32		partition;
	int64		start;
	int64		read_offset;	/* all before it has been seen */
	int64		until;			/* messages from here on are not wanted; PG_INT64_MAX: not known yet */
	bool		gone;			/* the broker refuses start */
	TimestampTz stream_time;	/* at read_offset */
} ReplayPartition;

typedef struct Replay
{
	MemoryContext cxt;
	KafkaConsumer *consumer;
	KafkaBatch *batch;			/* messages in hand */
	List	   *partitions;		/* of ReplayPartition * */
	int			nnoted;
	bool		drained;
	bool		news;			/* something to do for who replays */
	TimestampTz retry_at;		/* the batch in hand is tried again */
	int			backoff;
	Size		memory;
} Replay;

/*
 * A worker's side of one stream. cxt lives as long as the worker knows the
 * stream, def_cxt until its definition is read again, open_cxt while the consumer is open.
 */
typedef struct Reader
{
	MemoryContext cxt;
	MemoryContext def_cxt;
	MemoryContext open_cxt;
	Oid			stream;
	bool		seen;			/* in this reload */

	/* definition (def_cxt) */
	char	   *name;
	char	   *start;
	List	   *topics;			/* of char * */
	List	   *options;		/* of KafkaOption *; secrets inside */
	char	   *source;			/* all that makes another consumer necessary, as text */
	bool		read_committed;
	bool		want_headers;
	bool		paused;
	bool		failed;			/* stream_def.error is set */
	bool		incomplete;		/* kept rows were lost in a crash */
	List	   *views;			/* of ReaderView * */
	List	   *detached;		/* of DetachedView * */

	/* consumer (open_cxt) */
	ReaderState state;
	KafkaConsumer *consumer;
	KafkaBatch *batch;			/* the batch in hand */
	Size		memory;			/* that the consumer was opened with */
	List	   *partitions;		/* of Partition * */
	int			nnoted;			/* messages of the batch that were looked at */
	int			nmsgs;			/* of them to be applied */
	bool		filtered;		/* nnoted > nmsgs: some are not to be applied */
	bool		drained;		/* the queue was empty at the last look */
	uint64		answered;		/* request of weir.wait() */
	Replay	   *catch_up;		/* NULL: no view catches up now */
	Replay	   *refetch;		/* NULL: kept rows are not being fetched */

	/* timers; 0: not set */
	TimestampTz due_at;			/* the batch in hand is applied */
	TimestampTz last_batch_at;
	TimestampTz retry_at;		/* the batch in hand is tried again; nothing is read until then */
	TimestampTz topics_at;		/* topics are looked at, the consumer opened */
	TimestampTz commit_at;		/* offsets are told to the group */
	TimestampTz catch_up_at;	/* catching up is tried (again) */
	int			backoff;		/* ms, after an error of a batch */
	int			asked;			/* times in a row that the brokers did not answer */
	char	   *last_error;		/* cxt; logged already */
} Reader;

typedef struct Worker
{
	MemoryContext cxt;
	MemoryContext turn_cxt;		/* reset each time round the loop */
	int			slot;
	int			index;
	uint32		nworkers;
	uint64		generation;		/* of the catalog that was read */
	uint64		maintenance;
	List	   *readers;		/* of Reader * */
	bool		reload;			/* read the definitions again */
	bool		leave;			/* the extension is gone */
	bool		fds_changed;	/* the wait event set is stale */
} Worker;

extern Worker worker;

/*
 * A body runs in a transaction with a snapshot. weir_worker_transaction
 * returns true if it was committed; false after an error, which was
 * logged (unless it is *last_error already, which lives in cxt) and aborted, or if
 * the body returned false (rolled back).
 */
typedef bool (*TransactionBody) (void *arg);
extern bool weir_worker_transaction(TransactionBody body, void *arg,
									char **last_error, MemoryContext cxt);

/* ms until t, at least 0. */
extern long weir_worker_ms_until(TimestampTz t);
/* Which worker reads this partition? */
extern int	weir_worker_of_partition(Oid stream, const char *topic, int32 partition);
extern PGDLLEXPORT void weir_worker_main(Datum arg);

/* reload.c */
extern void weir_worker_reload(void);

/* reader.c */
extern Reader *weir_reader_create(Oid stream);
extern void weir_reader_drop(Reader *reader);
extern void weir_reader_close(Reader *reader);
extern void weir_reader_run(Reader *reader);
extern TimestampTz weir_reader_next_time(Reader *reader);
extern bool weir_reader_reads(Reader *reader);
extern bool weir_reader_has_work(Reader *reader);
extern void weir_reader_restart(Reader *reader, int ms);
extern Partition *weir_reader_partition(Reader *reader, const char *topic, int32 partition);

/* asker.c */
extern KafkaConsumer *weir_asker_get(Reader *reader, char **error);
extern void weir_asker_sweep(bool everything);

/* topics.c */
extern bool weir_topics_refresh(Reader *reader);
extern void weir_topics_answer(Reader *reader, uint64 request);
extern void weir_partition_fail(Reader *reader, Partition *part, char *message);
extern void weir_partition_recheck(Reader *reader, Partition *part);
extern void weir_reader_trouble(Reader *reader, const char *error);
extern bool weir_topics_ends(Reader *reader, const char *topic, int32 partition,
							 int64 *low, int64 *high, char **error);

/* verify.c */
extern bool weir_verify_batch(Reader *reader);

/* batch.c */
extern void weir_batch_apply(Reader *reader);

/* replay.c */
extern Replay *weir_replay_create(Reader *reader);
extern ReplayPartition *weir_replay_add(Replay *replay, const char *topic, int32 partition,
										int64 start, int64 until);
extern bool weir_replay_open(Reader *reader, Replay *replay, char **error);
extern void weir_replay_close(Replay *replay);
extern ReplayPartition *weir_replay_partition(Replay *replay, const char *topic, int32 partition);
extern void weir_replay_gather(Reader *reader, Replay *replay);
extern void weir_replay_applied(Replay *replay);
extern void weir_replay_failed(Replay *replay);
extern int	weir_replay_drop_letters(Oid stream, WeirMessage *msgs, int n);
extern int	weir_replay_fd(Replay *replay);
extern TimestampTz weir_replay_next_time(Replay *replay);

/* catch_up.c */
extern void weir_catch_up_run(Reader *reader);
extern void weir_catch_up_close(Reader *reader);

/* closer.c */
extern void weir_closer_run(void);
extern TimestampTz weir_closer_next_time(void);

/* swapper.c */
extern void weir_swapper_run(void);
extern TimestampTz weir_swapper_next_time(void);

/* refetch.c */
extern void weir_refetch_run(Reader *reader);
extern void weir_refetch_close(Reader *reader);

#endif							/* WEIR_WORKER_H */
