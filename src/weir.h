/*
 * weir.h
 *	  What every part of weir shares: names, settings, the list of init calls.
 *
 * Includes only postgres.h's world. No librdkafka or simdjson type appears in
 * a header that PostgreSQL code includes, except source/kafka_client.h.
 */
#ifndef WEIR_H
#define WEIR_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

#define WEIR_VERSION		"0.1"
#define WEIR_SCHEMA			"weir"
#define WEIR_EXTENSION		"weir"
#define WEIR_FDW			"weir_kafka"
#define WEIR_STREAM_AM		"weir_stream"

/* The namespace of options in WITH (weir.xxx = ...). */
#define WEIR_OPTION_NAMESPACE "weir"

/*
 * Hidden columns: they stand behind the declared columns in every delta and
 * in the child tables that hold a stream's kept rows; a user's SELECT * on
 * the stream never shows them.
 */
#define WEIR_HIDDEN_PREFIX		"__weir_"
#define WEIR_COL_PARTITION		"__weir_partition"		/* int4; -1 = INSERTed */
#define WEIR_COL_OFFSET			"__weir_offset"			/* int8; arrival number of INSERTed rows */
#define WEIR_COL_EVENT_TIME		"__weir_event_time"		/* timestamptz */
#define WEIR_COL_STREAM_TIME	"__weir_stream_time"	/* timestamptz, this row included */
#define WEIR_NUM_HIDDEN			4
#define WEIR_COL_FOUND			"__weir_found"			/* timestamptz, computed: what the row found closed (view/behind.c) */

/* The pseudo-partition of rows that were INSERTed. */
#define WEIR_INSERT_PARTITION	(-1)

/* The pseudo-partition of old versions of rows of a view, in what changed there (view/capture.c). */
#define WEIR_GONE_PARTITION		(-2)
#define WEIR_INSERT_TOPIC		""

/* Settings (weir.c defines them). */
extern int	weir_workers;			/* weir.workers: workers per database */
extern int	weir_batch_interval;	/* weir.batch_interval, ms */
extern int	weir_batch_rows;		/* weir.batch_rows: most messages per batch */
extern int	weir_memory;			/* weir.memory per worker, kB */
extern bool weir_enabled;			/* weir.enabled: false stops all workers */
extern int	weir_dead_letter_limit; /* weir.dead_letter_limit: rows kept per stream */
extern int	weir_max_partitions;	/* weir.max_partitions: slots for statistics */
extern int	weir_max_databases;		/* weir.max_databases */
extern int	weir_outbox_limit;		/* weir.outbox_limit, kB */
extern bool weir_fast_grouping;		/* weir.fast_grouping */
extern bool weir_preloaded;			/* loaded by shared_preload_libraries */

/* Initialisers, called by _PG_init in this order. */
extern void weir_shmem_init(void);		/* worker/shmem.c */
extern void weir_launcher_init(void);	/* worker/launcher.c */
extern void weir_ddl_init(void);		/* catalog/ddl.c: ProcessUtility hook */
extern void weir_sink_init(void);		/* sink/sinks.c; before the next, whose callback then runs first */
extern void weir_expire_init(void);		/* expire/trigger.c: transaction callback */
extern void weir_stream_am_init(void);	/* delta/stream_am.c: transaction callbacks */
extern void weir_delta_scan_init(void);	/* delta/scan.c: planner hook */
extern void weir_group_init(void);	/* view/group_plan.c: plan node */
extern void weir_view_init(void);		/* view/apply.c: caches, invalidation callbacks */
extern void weir_capture_init(void);	/* view/capture.c: transaction callbacks */

#endif							/* WEIR_H */
