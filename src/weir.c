/*
 * weir.c
 *	  Module magic, settings and the list of initialisers.
 */
#include "weir.h"

#include <limits.h>

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/guc.h"

PG_MODULE_MAGIC;

PGDLLEXPORT void _PG_init(void);

int			weir_workers = 1;
int			weir_batch_interval = 100;
int			weir_batch_rows = 100000;
int			weir_memory = 512 * 1024;
bool		weir_enabled = true;
int			weir_dead_letter_limit = 100000;
int			weir_max_partitions = 1024;
int			weir_max_databases = 16;
int			weir_outbox_limit = 1024 * 1024;
bool		weir_preloaded = false;
bool		weir_fast_grouping = true;

/* The size of shared memory: PostgreSQL refuses such settings once the server runs. */
static void
define_preload_settings(void)
{
	DefineCustomIntVariable("weir.max_partitions",
							"Partitions and views that the statistics have room for, in all databases.",
							NULL, &weir_max_partitions, 1024, 64, 1000000,
							PGC_POSTMASTER, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("weir.max_databases",
							"Databases of this server that can have weir's workers.",
							NULL, &weir_max_databases, 16, 1, 1000,
							PGC_POSTMASTER, 0, NULL, NULL, NULL);
}

static void
define_settings(void)
{
	DefineCustomIntVariable("weir.workers",
							"Number of worker processes per database with the extension.",
							NULL, &weir_workers, 1, 1, 64,
							PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("weir.batch_interval",
							"Longest time that a message waits for its batch to be committed.",
							NULL, &weir_batch_interval, 100, 1, 60000,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("weir.batch_rows",
							"Most messages in one batch, which is one transaction.",
							NULL, &weir_batch_rows, 100000, 1, 10000000,
							PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("weir.memory",
							"Most memory that a worker uses for prefetched messages and its batch.",
							NULL, &weir_memory, 512 * 1024, 16 * 1024, MAX_KILOBYTES,
							PGC_SIGHUP, GUC_UNIT_KB, NULL, NULL, NULL);
	DefineCustomBoolVariable("weir.enabled",
							 "Off stops all workers of weir, in all databases.",
							 NULL, &weir_enabled, true,
							 PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("weir.dead_letter_limit",
							"Most rows of weir.dead_letters kept per stream; the oldest go first.",
							NULL, &weir_dead_letter_limit, 100000, 0, INT_MAX,
							PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("weir.outbox_limit",
							"Most space that changes on their way to Kafka may take; then streams stop reading and other writers get an error.",
							NULL, &weir_outbox_limit, 1024 * 1024, 1024, MAX_KILOBYTES,
							PGC_SIGHUP, GUC_UNIT_KB, NULL, NULL, NULL);
	DefineCustomBoolVariable("weir.fast_grouping",
							 "Groups new rows by weir's own plan node where it can; off: by the executor's, for comparison.",
							 NULL, &weir_fast_grouping, true,
							 PGC_SUSET, 0, NULL, NULL, NULL);
	MarkGUCPrefixReserved("weir");
}

void
_PG_init(void)
{
	weir_preloaded = process_shared_preload_libraries_in_progress;
	if (weir_preloaded)
		define_preload_settings();
	define_settings();
	weir_shmem_init();
	weir_launcher_init();
	weir_ddl_init();
	weir_sink_init();
	weir_expire_init();
	weir_stream_am_init();
	weir_delta_scan_init();
	weir_group_init();
	weir_view_init();
	weir_capture_init();
}
