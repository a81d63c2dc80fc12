/*
 * shared.h
 *	  weir's shared memory: databases, workers, statistics, wake-ups.
 */
#ifndef WEIR_SHARED_H
#define WEIR_SHARED_H

#include "weir.h"
#include "datatype/timestamp.h"

/*
 * Catalog generation of this database: goes up when a transaction that
 * changed weir's catalog commits, before its locks are released. Caches
 * compare it. 0 when weir is not preloaded.
 */
extern uint64 weir_generation(void);

/* At commit of this transaction: raise the generation, wake the launcher and this database's workers. Idempotent. */
extern void weir_catalog_changed(void);

/*
 * Statistics of a partition of a stream, and of a view: those count when the transaction
 * commits. Counters are monotonic since stats_reset.
 */
extern void weir_stat_ingest(Oid stream, const char *topic, int32 partition,
							 int64 rows, int64 bytes, int64 bad, int64 skipped,
							 TimestampTz stream_time);
extern void weir_stat_view(Oid view, int64 rows_in, int64 rows_changed, int64 late,
						   int64 dead_letters, int64 busy_us);
extern void weir_stat_view_time(Oid view, TimestampTz stream_time);
extern void weir_stat_inserted(Oid stream, int64 rows, TimestampTz stream_time);
extern void weir_stat_heard(Oid stream, const char *topic, int32 partition);	/* something came: it is not silent */
extern TimestampTz weir_stat_view_stream_time(Oid view);	/* DT_NOBEGIN: not told since the server's start */
/* What is known of a partition without reading a table. */
typedef struct PartitionNews
{
	TimestampTz silent_since;	/* when the last rows arrived, reading began, or the broker came back; 0: unknown */
	int64		high;			/* its end when last heard of; -1: unknown */
	TimestampTz high_at;		/* when that was; 0: never */
	TimestampTz stream_time;	/* DT_NOBEGIN: none */
} PartitionNews;

extern void weir_stat_news(Oid stream, const char *topic, int32 partition, PartitionNews *news);
/* Forget a dropped stream's or view's entries. */
extern void weir_stat_forget(Oid relid);

/*
 * Asks, at commit, that a worker of this database runs
 * weir_segments_expire() for the streams (delta/segments.h): INSERTing
 * sessions leave expiry to workers. Cheap; at most a latch set.
 */
extern void weir_request_maintenance(void);

/* After a commit that wrote to the outbox: wakes this database's publisher. */
extern void weir_publisher_wake(void);

/* Wakes everybody in weir.wait() of this database (after a commit that moved something). */
extern void weir_progress_broadcast(void);

/*
 * Databases and workers. weir_launcher_wake: look at pg_database again, at
 * once (for use after commit). weir_database_leave makes the workers of a
 * database exit, waits until they are gone (interruptible) and keeps them
 * away until the end of the transaction, which also wakes the launcher.
 */
extern void weir_launcher_wake(void);
extern void weir_database_leave(Oid dboid);

#endif							/* WEIR_SHARED_H */
