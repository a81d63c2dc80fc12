/*
 * expirer.c
 *	  The process that deletes rows of tables with weir.expires, and of views with weir.keep (views.c).
 *
 * One per database that has such tables or views; worker.c sets it up. It waits on its latch, with a timer
 * for the earliest row that is due, and has none if no row is. Who commits a row that is due
 * earlier wakes it (weir_expire_tell). A look at a table is one transaction: the earliest time, and if that has
 * come, one DELETE of at most PIECE_ROWS rows, as the table's owner and security-restricted. So triggers and
 * foreign keys are PostgreSQL's. The look does not wait for the table's lock nor for locked rows,
 * and not long for anything else.
 *
 * If a piece raises (a user's trigger), smaller ones are tried, down to the row at fault. That row is left
 * alone for a while, longer each time; the others of the table and other tables go on.
 *
 * Waking: Hub.expire_next is what the expirer waits for, Hub.expire_told the earliest that it was
 * told of since. It lets itself be told of everything before it looks, so a row that was committed too
 * late for the look is in expire_told. Databases that share a hub are told of everything.
 *
 * Memory: worker.cxt for the tables, at most MAX_SKIPPED rows each; locks: RowExclusive on the table.
 */
#include "expire/expire.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/catalog.h"
#include "catalog/pg_type.h"
#include "compat.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/itemptr.h"
#include "storage/lmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"
#include "worker/shared.h"
#include "worker/shmem.h"
#include "worker/worker.h"

#define PIECE_ROWS		1000	/* most rows deleted in one transaction */
#define MAX_SKIPPED		1000	/* rows that could not be deleted; more: the table waits */
#define AGAIN_MS		100		/* rows are due, but locked by others */
#define GATHER_MS		50		/* rows that are due so soon after each other go together */
#define LOCKED_MS		500		/* the table is locked */
#define BACKOFF_MIN		1000	/* ms until rows that could not be deleted are tried again */
#define BACKOFF_MAX		60000
#define LOCK_TIMEOUT	"500ms"	/* for locks that foreign keys and triggers want; below deadlock_timeout, so that DDL wins */
#define PIECE_TIMEOUT	30000	/* ms; a trigger that takes longer fails */

typedef struct ExpiringTable
{
	Oid			relid;
	bool		seen;			/* in this reload */
	bool		gone;			/* has the option no longer */
	TimestampTz look_at;		/* 0: nothing is due as far as is known */
	int			piece;			/* rows to delete at once */
	int			nskipped;
	ItemPointerData *skipped;	/* rows that could not be deleted */
	ItemPointerData at;			/* the row that was to be deleted alone */
	bool		alone;			/* at is set */
	bool		stuck;			/* nothing is tried before retry_at */
	TimestampTz retry_at;		/* when skipped ones are tried again; 0: none */
	int			backoff;		/* ms */
	char	   *error;			/* worker.cxt; as last raised */
	char	   *told;			/* worker.cxt; as it stands in weir.expire_state */
} ExpiringTable;

static List *tables = NIL;		/* of ExpiringTable *, in worker.cxt */
static bool has_views = false;	/* views with weir.keep */
static uint64 generation = 0;	/* of the catalog when tables was read */
static bool hub_shared = false; /* another database's expirer may take what was meant for us */

/* ---- waking ---- */

void
weir_expire_tell(TimestampTz due)
{
	Hub		   *hub;
	uint64		told;

	if (weir_shared == NULL)
		return;
	hub = weir_hub(MyDatabaseId);
	pg_memory_barrier();
	if (due >= (TimestampTz) pg_atomic_read_u64(&hub->expire_next))
		return;
	told = pg_atomic_read_u64(&hub->expire_told);
	do
	{
		if (due >= (TimestampTz) told)
			return;				/* whoever told that has set the latch */
	} while (!pg_atomic_compare_exchange_u64(&hub->expire_told, &told, (uint64) due));
	LWLockAcquire(weir_shared->lock, LW_SHARED);
	for (int i = 0; i < weir_shared->nslots; i++)
	{
		WorkerSlot *slot = &weir_shared->slots[i];

		if (slot->index == WEIR_EXPIRER && slot->latch != NULL && weir_hub(slot->dboid) == hub)
			SetLatch(slot->latch);
	}
	LWLockRelease(weir_shared->lock);
}

/* From now on tell us of everything. Returns the earliest that we were told of. */
static TimestampTz
hear_everything(void)
{
	Hub		   *hub = weir_hub(MyDatabaseId);

	(void) pg_atomic_exchange_u64(&hub->expire_next, PG_INT64_MAX);
	return (TimestampTz) pg_atomic_exchange_u64(&hub->expire_told, PG_INT64_MAX);
}

/* From now on tell us only of what is due before; if we share the hub, of everything. */
static void
hear_earlier(TimestampTz next)
{
	Hub		   *hub = weir_hub(MyDatabaseId);
	bool		shared = false;

	LWLockAcquire(weir_shared->lock, LW_SHARED);
	for (int i = 0; i < weir_shared->nslots; i++)
	{
		WorkerSlot *slot = &weir_shared->slots[i];

		shared |= slot->index == WEIR_EXPIRER && slot->latch != NULL && i != worker.slot &&
			weir_hub(slot->dboid) == hub;
	}
	(void) pg_atomic_exchange_u64(&hub->expire_next, shared ? PG_INT64_MAX : next);
	LWLockRelease(weir_shared->lock);
	hub_shared = shared;
}

/* Has somebody told since? Waits for locks and buffers take what the latch said away. */
static bool
is_told(void)
{
	return pg_atomic_read_u64(&weir_hub(MyDatabaseId)->expire_told) != PG_INT64_MAX;
}

/* ---- one table ---- */

static ArrayType *
skipped_array(ExpiringTable *table)
{
	Datum	   *elems = palloc(sizeof(Datum) * Max(table->nskipped, 1));

	for (int i = 0; i < table->nskipped; i++)
		elems[i] = PointerGetDatum(&table->skipped[i]);
	return construct_array(elems, table->nskipped, TIDOID, sizeof(ItemPointerData), false,
						   TYPALIGN_SHORT);
}

/* Runs SQL with $1: now in the column's type, $2: rows to skip, $3: rows at most. */
static void
run_sql(ExpiringTable *table, const char *sql, Oid type, TimestampTz now, int expected)
{
	Oid			types[3] = {type, get_array_type(TIDOID), INT4OID};
	Datum		values[3] = {TimestampTzGetDatum(now), PointerGetDatum(skipped_array(table)),
	Int32GetDatum(table->piece)};

	if (SPI_execute_with_args(sql, 3, types, values, NULL, false, 0) != expected)
		elog(ERROR, "could not look for rows that have expired");
}

/* The earliest time in the column; DT_NOEND: none. */
static TimestampTz
earliest_row(ExpiringTable *table, const char *name, const char *column, Oid type)
{
	bool		isnull;
	Datum		value;

	run_sql(table, psprintf("SELECT pg_catalog.min(%s) FROM %s%s", column, name,
							table->nskipped ? " WHERE ctid OPERATOR(pg_catalog.<>) ALL ($2)" : ""),
			type, 0, SPI_OK_SELECT);
	value = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	return isnull ? DT_NOEND : DatumGetTimestampTz(value);
}

/* Deletes one piece of what is due. */
static uint64
delete_piece(ExpiringTable *table, const char *name, const char *column, Oid type, TimestampTz now)
{
	char	   *due = psprintf("SELECT tableoid AS r, ctid AS c FROM %s WHERE %s OPERATOR(pg_catalog.<=) $1"
							   " AND ctid OPERATOR(pg_catalog.<>) ALL ($2)"
							   " ORDER BY %s LIMIT $3 FOR UPDATE SKIP LOCKED", name, column, column);
	bool		isnull;

	if (table->piece == 1)
	{
		run_sql(table, due, type, now, SPI_OK_SELECT);
		if (SPI_processed == 0)
			return 0;
		table->at = *(ItemPointer) DatumGetPointer(SPI_getbinval(SPI_tuptable->vals[0],
																 SPI_tuptable->tupdesc, 2, &isnull));
		table->alone = true;
	}
	run_sql(table, psprintf("WITH due AS MATERIALIZED (%s) DELETE FROM %s AS t USING due"
							" WHERE t.ctid OPERATOR(pg_catalog.=) due.c"
							" AND t.tableoid OPERATOR(pg_catalog.=) due.r", due, name),
			type, now, SPI_OK_DELETE);
	return SPI_processed;
}

/* Counts what was deleted. */
static void
note_deleted(ExpiringTable *table, uint64 deleted)
{
	CatalogScope scope;

	weir_catalog_open(&scope);
	(void) weir_catalog_exec("INSERT INTO weir.expire_state AS s (relation, deleted) VALUES (%u, " UINT64_FORMAT ")"
							 " ON CONFLICT (relation) DO UPDATE SET deleted = s.deleted + excluded.deleted",
							 table->relid, deleted);
	weir_catalog_close(&scope);
}

/* As the owner: sees what is due, deletes a piece of it. Returns when to look again; 0: nothing is due. */
static TimestampTz
look_as_owner(ExpiringTable *table, AttrNumber attnum, uint64 *deleted)
{
	char	   *name = weir_relation_name(table->relid);
	const char *column = quote_identifier(get_attname(table->relid, attnum, false));
	Oid			type = getBaseType(get_atttype(table->relid, attnum));
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz due = earliest_row(table, name, column, type);

	if (due == DT_NOEND)
		return 0;
	if (due > now)
		return due;
	*deleted = delete_piece(table, name, column, type, now);
	return *deleted > 0 ? now : TimestampTzPlusMilliseconds(now, AGAIN_MS);
}

static void
look_restricted(ExpiringTable *table, AttrNumber attnum)
{
	Oid			userid;
	int			sec_context;
	int			guc_level = NewGUCNestLevel();
	uint64		deleted = 0;

	GetUserIdAndSecContext(&userid, &sec_context);
	SetUserIdAndSecContext(weir_compat_relation_owner(table->relid),
						   sec_context | SECURITY_RESTRICTED_OPERATION);
	SPI_connect();
	table->look_at = look_as_owner(table, attnum, &deleted);
	SPI_finish();
	AtEOXact_GUC(false, guc_level);
	SetUserIdAndSecContext(userid, sec_context);
	if (deleted > 0)
		note_deleted(table, deleted);
}

static bool
look_body(void *arg)
{
	ExpiringTable *table = arg;
	Relation	rel;
	AttrNumber	attnum;
	bool		disabled = false;

	table->alone = false;
	if (!ConditionalLockRelationOid(table->relid, RowExclusiveLock))
	{
		table->look_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), LOCKED_MS);
		return true;
	}
	table->look_at = 0;
	if (!SearchSysCacheExists1(RELOID, ObjectIdGetDatum(table->relid)))
	{
		table->gone = true;
		return true;
	}
	rel = table_open(table->relid, NoLock);
	attnum = weir_expire_column(rel, &disabled);
	table->gone = attnum == InvalidAttrNumber;
	table_close(rel, NoLock);
	if (table->gone || disabled)
		return true;
	pgstat_report_activity(STATE_RUNNING, psprintf("expire %s", weir_relation_name(table->relid)));
	look_restricted(table, attnum);
	return true;
}

static bool
error_body(void *arg)
{
	ExpiringTable *table = arg;
	CatalogScope scope;

	weir_catalog_open(&scope);
	(void) weir_catalog_exec("INSERT INTO weir.expire_state (relation, error) VALUES (%u, %s)"
							 " ON CONFLICT (relation) DO UPDATE SET error = excluded.error",
							 table->relid, table->error ? quote_literal_cstr(table->error) : "NULL");
	weir_catalog_close(&scope);
	return true;
}

/* Shows the error that stands in the table's way, or that there is none any more. */
static void
tell_error(ExpiringTable *table)
{
	static char *last_error = NULL;
	const char *error = table->error ? table->error : "";

	if (strcmp(table->told ? table->told : "", error) == 0 ||
		!weir_worker_transaction(error_body, table, &last_error, worker.cxt))
		return;
	if (table->told)
		pfree(table->told);
	table->told = table->error ? MemoryContextStrdup(worker.cxt, table->error) : NULL;
}

/* A piece raised: try smaller ones; a lone row is left alone for a while. */
static void
look_failed(ExpiringTable *table)
{
	TimestampTz now = GetCurrentTimestamp();

	tell_error(table);
	table->look_at = now;
	if (table->piece > 1)
	{
		table->piece = 1;
		return;
	}
	if (table->retry_at == 0)
	{
		table->backoff = Min(Max(table->backoff * 2, BACKOFF_MIN), BACKOFF_MAX);
		table->retry_at = TimestampTzPlusMilliseconds(now, table->backoff);
	}
	if (!table->alone || table->nskipped == MAX_SKIPPED)
	{
		table->stuck = true;
		table->look_at = 0;
		return;
	}
	if (table->skipped == NULL)
		table->skipped = MemoryContextAlloc(worker.cxt, sizeof(ItemPointerData) * MAX_SKIPPED);
	table->skipped[table->nskipped++] = table->at;
}

/* Rows that could not be deleted get another chance. */
static void
retry_skipped(ExpiringTable *table)
{
	if (table->retry_at == 0 || table->retry_at > GetCurrentTimestamp())
		return;
	table->retry_at = 0;
	table->stuck = false;
	table->nskipped = 0;
	table->piece = 1;
	table->look_at = GetCurrentTimestamp();
}

static void
look_at_table(ExpiringTable *table)
{
	int			skipped = table->nskipped;
	bool		ok;

	enable_timeout_after(STATEMENT_TIMEOUT, PIECE_TIMEOUT);
	ok = weir_worker_transaction(look_body, table, &table->error, worker.cxt);
	disable_timeout(STATEMENT_TIMEOUT, false);
	if (!ok)
	{
		look_failed(table);
		return;
	}
	table->piece = Min(table->piece * 2, PIECE_ROWS);
	if (skipped > 0)
		return;					/* the error still stands */
	table->backoff = 0;
	if (table->look_at == 0 || table->look_at > GetCurrentTimestamp())
		tell_error(table);
}

/* ---- all tables ---- */

static ExpiringTable *
find_table(Oid relid)
{
	ExpiringTable *table;
	MemoryContext old;
	ListCell   *lc;

	foreach(lc, tables)
	{
		table = lfirst(lc);
		if (table->relid == relid)
			return table;
	}
	old = MemoryContextSwitchTo(worker.cxt);
	table = palloc0(sizeof(ExpiringTable));
	table->relid = relid;
	table->piece = PIECE_ROWS;
	tables = lappend(tables, table);
	MemoryContextSwitchTo(old);
	return table;
}

static bool
reload_body(void *arg)
{
	ListCell   *lc;
	CatalogScope scope;

	InvalidateSystemCaches();
	worker.leave = !weir_installed();
	if (worker.leave)
		return true;
	foreach(lc, weir_expire_tables())
	{
		ExpiringTable *table = find_table(lfirst_oid(lc));

		table->seen = true;
		table->gone = false;
		table->look_at = GetCurrentTimestamp();
	}
	has_views = weir_expire_views_reload();
	weir_catalog_open(&scope);
	(void) weir_catalog_exec("DELETE FROM weir.expire_state s WHERE NOT EXISTS"
							 " (SELECT FROM pg_trigger t WHERE t.tgrelid = s.relation"
							 " AND t.tgfoid = 'weir.expire()'::regprocedure)");
	weir_catalog_close(&scope);
	return true;
}

static void
drop_tables(void)
{
	ListCell   *lc;

	foreach(lc, tables)
	{
		ExpiringTable *table = lfirst(lc);

		if (table->seen && !table->gone)
			continue;
		tables = foreach_delete_current(tables, lc);
		if (table->skipped)
			pfree(table->skipped);
		if (table->error)
			pfree(table->error);
		if (table->told)
			pfree(table->told);
		pfree(table);
	}
}

/* Which tables are there now? False: it could not be found out. */
static bool
reload(void)
{
	static char *last_error = NULL;
	uint64		now = weir_generation();
	ListCell   *lc;

	foreach(lc, tables)
		((ExpiringTable *) lfirst(lc))->seen = false;
	if (!weir_worker_transaction(reload_body, NULL, &last_error, worker.cxt))
	{
		foreach(lc, tables)
			((ExpiringTable *) lfirst(lc))->seen = true;
		return false;
	}
	generation = now;
	drop_tables();
	return true;
}

/* Looks where something is due. Returns when to look again; DT_NOEND: nothing is due. */
static TimestampTz
look_at_tables(void)
{
	TimestampTz next = DT_NOEND;
	ListCell   *lc;

	foreach(lc, tables)
	{
		ExpiringTable *table = lfirst(lc);

		retry_skipped(table);
		if (table->look_at != 0 && table->look_at <= GetCurrentTimestamp())
			look_at_table(table);
		if (table->look_at != 0)
			next = Min(next, table->look_at);
		if (table->retry_at != 0)
			next = Min(next, table->retry_at);
		if (ShutdownRequestPending)
			break;
	}
	drop_tables();
	return next;
}

/* The launcher need not start another one for this database; a later change tells it so again. */
static bool
say_unwanted(void)
{
	LWLockAcquire(weir_shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < weir_shared->nslots; i++)
	{
		WorkerSlot *slot = &weir_shared->slots[i];

		if (slot->dboid == MyDatabaseId && slot->index == 0 && generation == weir_generation())
			slot->expires = false;
	}
	LWLockRelease(weir_shared->lock);
	return generation == weir_generation();
}

static void
leave_hub(int code, Datum arg)
{
	/* who shares the hub looks at everything */
	(void) hear_everything();
	weir_expire_tell(DT_NOBEGIN);
}

static void
wait_until(TimestampTz next)
{
	long		timeout = next == DT_NOEND ? -1 : weir_worker_ms_until(next);

	if (timeout >= 0)
		timeout = Max(timeout, GATHER_MS);
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH | (timeout >= 0 ? WL_TIMEOUT : 0),
					 timeout, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
}

static void
set_up(void)
{
	before_shmem_exit(leave_hub, (Datum) 0);
	SetConfigOption("lock_timeout", LOCK_TIMEOUT, PGC_SUSET, PGC_S_OVERRIDE);
	/* what a crash takes back is deleted again */
	SetConfigOption("synchronous_commit", "off", PGC_SUSET, PGC_S_OVERRIDE);
	/* a policy that hides rows from their owner is an error that shows, not rows that stay */
	SetConfigOption("row_security", "off", PGC_USERSET, PGC_S_OVERRIDE);
	/* of a piece each row is fetched by its place */
	SetConfigOption("enable_hashjoin", "off", PGC_USERSET, PGC_S_OVERRIDE);
	SetConfigOption("enable_mergejoin", "off", PGC_USERSET, PGC_S_OVERRIDE);
}

/* Every table is to be looked at: we are told when, not where. */
static void
look_everywhere(void)
{
	ListCell   *lc;

	foreach(lc, tables)
	{
		ExpiringTable *table = lfirst(lc);

		if (!table->stuck)
			table->look_at = GetCurrentTimestamp();
	}
	weir_expire_views_told();
}

void
weir_expirer_run(void)
{
	TimestampTz next = DT_NOEND;

	set_up();
	while (!ShutdownRequestPending)
	{
		MemoryContextReset(worker.turn_cxt);
		QueryCancelPending = false;
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		if (hear_everything() != PG_INT64_MAX || hub_shared || next <= GetCurrentTimestamp())
			look_everywhere();
		if (generation != weir_generation() && !reload())
			wait_until(TimestampTzPlusMilliseconds(GetCurrentTimestamp(), BACKOFF_MIN));
		if (worker.leave || !weir_enabled || (tables == NIL && !has_views && say_unwanted()))
			break;
		next = look_at_tables();
		next = Min(next, weir_expire_views_run());
		hear_earlier(next);
		if (next > GetCurrentTimestamp() && generation == weir_generation() && !ShutdownRequestPending && !is_told())
			wait_until(next);
	}
}
