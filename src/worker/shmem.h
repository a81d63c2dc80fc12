/*
 * shmem.h
 *	  Layout of weir's shared memory; for src/worker and view/measure.c only (others: shared.h).
 */
#ifndef WEIR_SHMEM_H
#define WEIR_SHMEM_H

#include "weir.h"

#include "port/atomics.h"
#include "storage/condition_variable.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/spin.h"
#include "utils/hsearch.h"

#define WEIR_MAX_WORKERS		64	/* the most that weir.workers allows */
#define WEIR_PUBLISHER			WEIR_MAX_WORKERS	/* the publisher's index among a database's workers */
#define WEIR_EXPIRER			(WEIR_MAX_WORKERS + 1)	/* the expirer's */
#define WEIR_MAX_PROCESSES		(WEIR_MAX_WORKERS + 2)
#define WEIR_NUM_HUBS			64	/* databases are hashed to hubs; a collision costs a needless look */
#define WEIR_MAX_HOLDS			64	/* databases being left at one time */
#define WEIR_TOPIC_MAX			250 /* Kafka allows 249 bytes */
#define WEIR_ERROR_MAX			400 /* longest error text shown */

/* What all sessions of a database share. Exists without any set-up. */
typedef struct Hub
{
	pg_atomic_uint64 generation;	/* catalog changes committed */
	pg_atomic_uint64 request;	/* calls of weir.wait() so far */
	pg_atomic_uint64 maintenance;	/* transactions that left expiry to the workers */
	pg_atomic_uint64 outbox;	/* transactions that wrote to the outbox */
	pg_atomic_uint32 publisher_waits;	/* a publisher wants its latch set by the next of them */
	pg_atomic_uint64 expire_next;	/* what the expirer waits for (expire/expirer.c) */
	pg_atomic_uint64 expire_told;	/* the earliest row that it was told of; both are TimestampTz */
	ConditionVariable progress; /* a batch was committed, a request answered */
} Hub;

typedef enum WorkerState
{
	WORKER_FREE,				/* slot unused */
	WORKER_STARTING,			/* registered by the launcher */
	WORKER_CONNECTING,			/* process is there */
	WORKER_RUNNING,				/* has seen the extension */
	WORKER_DONE,				/* process is gone, as it was told */
	WORKER_LEFT,				/* process is gone, by an error */
	WORKER_ABSENT,				/* gone: no extension in that database */
	WORKER_FULL					/* gone: too many databases with the extension */
} WorkerState;

/* Protected by WeirShared.lock. */
typedef struct WorkerSlot
{
	WorkerState state;
	Oid			dboid;
	int			index;			/* 0 .. weir.workers - 1, WEIR_PUBLISHER or WEIR_EXPIRER */
	bool		publishes;		/* of worker 0: the database has sinks, a publisher is wanted */
	bool		expires;		/* of worker 0: it has tables with weir.expires, an expirer is wanted */
	uint32		nworkers;		/* of the pool that it belongs to */
	uint32		epoch;			/* launcher that registered it */
	uint64		generation;		/* of the catalog when the extension was looked for */
	pid_t		pid;
	Latch	   *latch;
} WorkerSlot;

typedef struct Hold
{
	Oid			dboid;			/* InvalidOid: free */
	int			holders;
} Hold;

#define WEIR_ANSWER_MAX	16384	/* longest text of weir.explain(view, live => true) */

/* A session waits for the next batch of a view to be measured (view/measure.c). Protected by WeirShared.lock. */
typedef struct Question
{
	int			asker;			/* its pid; 0: nobody asks */
	Oid			dboid;
	Oid			view;
	uint32		number;			/* questions so far */
	bool		answered;
	char		text[WEIR_ANSWER_MAX];
} Question;

typedef struct WeirShared
{
	LWLock	   *lock;			/* slots, holds, launcher's latch */
	LWLock	   *stats_lock;		/* membership of the statistics tables */
	Latch	   *launcher_latch; /* NULL: no launcher */
	uint32		epoch;			/* launchers so far */
	pg_atomic_uint32 nworkers;	/* workers per database, as the launcher has read it */
	pg_atomic_uint64 untracked; /* entries that found no room */
	ConditionVariable gone;		/* a worker's process has left its database */
	Hub			hubs[WEIR_NUM_HUBS];
	Hold		holds[WEIR_MAX_HOLDS];
	Question	question;
	int			nslots;
	WorkerSlot	slots[FLEXIBLE_ARRAY_MEMBER];
} WeirShared;

extern WeirShared *weir_shared; /* NULL: not preloaded */

/* Statistics of one partition. Counters and text under mutex. */
typedef struct PartitionStatKey
{
	Oid			dboid;
	Oid			stream;
	uint64		topic;			/* hash of its name */
	int32		partition;
	int32		padding;		/* zero: keys are compared as bytes */
} PartitionStatKey;

typedef struct PartitionStat
{
	PartitionStatKey key;
	slock_t		mutex;
	char		topic[WEIR_TOPIC_MAX];
	int64		position;		/* committed next offset; -1: unknown */
	int64		high;			/* end of the partition (LSO) when last heard of; -1: unknown */
	TimestampTz high_at;		/* when that was heard; 0: never */
	TimestampTz back_at;		/* when the broker was heard of again after it had not answered; 0: never */
	bool		doubted;		/* it has not answered */
	int64		rows;
	int64		bytes;
	int64		bad;
	int64		skipped;
	TimestampTz stream_time;	/* DT_NOBEGIN: none yet */
	TimestampTz last_message_at;	/* 0: none yet */
	TimestampTz started_at;		/* when reading began */
	TimestampTz stats_reset;
	uint64		request;		/* request of weir.wait() that target answers */
	int64		target;			/* end of the partition at that request */
	char		error[WEIR_ERROR_MAX];
} PartitionStat;

/* What one worker does with one stream. */
typedef enum ShareState
{
	SHARE_NONE,
	SHARE_WAITING,				/* broker or topic not there (yet), kept rows being fetched */
	SHARE_RUNNING,
	SHARE_PAUSED
} ShareState;

typedef struct ShareKey
{
	Oid			dboid;
	Oid			stream;
	int32		worker;
} ShareKey;

typedef struct ShareStat
{
	ShareKey	key;
	slock_t		mutex;
	ShareState	state;
	uint64		request;		/* requests up to this one are answered for all partitions of the share */
	uint32		nworkers;		/* size of the pool that the answer is of: it says which partitions the share had */
	char		error[WEIR_ERROR_MAX];
} ShareStat;

typedef struct ViewKey
{
	Oid			dboid;
	Oid			view;
} ViewKey;

typedef struct ViewStat
{
	ViewKey		key;
	slock_t		mutex;
	int64		rows_in;
	int64		rows_changed;
	int64		late;
	int64		dead_letters;
	int64		batches;
	int64		busy_us;
	TimestampTz last_batch_at;	/* 0: none yet */
	TimestampTz stats_reset;
	TimestampTz stream_time;	/* of views with weir.keep; 0: not told */
} ViewStat;

/* What happened to a view, to be added to its statistics. */
typedef struct ViewCounts
{
	int64		rows_in;
	int64		rows_changed;
	int64		late;
	int64		dead_letters;
	int64		batches;
	int64		busy_us;
	TimestampTz stream_time;	/* the highest that a batch came to; 0: not told */
} ViewCounts;

extern HTAB *weir_partition_stats;
extern HTAB *weir_share_stats;
extern HTAB *weir_view_stats;

/* shmem.c */
extern Hub *weir_hub(Oid dboid);
extern void weir_wake_workers(Oid dboid);
extern bool weir_database_held(Oid dboid);	/* lock held */

/* unlogged.c */
extern void weir_unlogged_init(void);

/* stats.c */
extern Size weir_stats_size(void);
extern void weir_stats_startup(void);
extern void weir_stat_partition_start(Oid stream, const char *topic, int32 partition,
									  int64 position, TimestampTz stream_time);
extern void weir_stat_view_add(Oid view, const ViewCounts *counts);
extern void weir_stat_unnote(Oid relid);	/* view_stats.c */
extern void weir_stat_position(Oid stream, const char *topic, int32 partition, int64 position);
extern void weir_stat_high(Oid stream, const char *topic, int32 partition, int64 high);
extern void weir_stat_doubt(Oid stream, const char *topic, int32 partition);
extern void weir_stat_target(Oid stream, const char *topic, int32 partition,
							 uint64 request, int64 target);
extern void weir_stat_error(Oid stream, const char *topic, int32 partition, const char *error);
extern void weir_stat_share(Oid stream, int worker, ShareState state, const char *error);
extern void weir_stat_share_answer(Oid stream, int worker, uint32 nworkers, uint64 request);
extern void weir_stat_share_forget(Oid stream, int worker);

/* What weir.wait() looks at. */
typedef struct WaitTarget
{
	char		topic[WEIR_TOPIC_MAX];
	int32		partition;
	int64		target;
	int64		position;
} WaitTarget;

/*
 * weir_stat_targets returns true if all workers of a pool of nworkers have
 * answered the request for the stream; then *targets is a List of palloc'd
 * WaitTarget of its partitions.
 */
extern bool weir_stat_targets(Oid stream, uint32 nworkers, uint64 request, List **targets);
extern int64 weir_stat_applied(Oid stream, const char *topic, int32 partition);
/* Text of what keeps a stream's workers waiting, palloc'd, or NULL. */
extern char *weir_stat_share_error(Oid stream);

#endif							/* WEIR_SHMEM_H */
