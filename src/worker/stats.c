/*
 * stats.c
 *	  Statistics of partitions, of workers' shares of streams, and of views, in shared memory.
 *
 * Workers and sessions write here after (never before) what they report has
 * been committed; the functions at the end show it. weir.wait() also finds
 * its answers here.
 *
 * Locks: stats_lock shared to find an entry and while it is used, exclusive
 * to add or remove one; the entry's mutex around its numbers. Nothing raises
 * between taking and giving back a mutex. Tables have a fixed size: what
 * finds no room is not tracked, counted, and said once.
 */
#include "worker/shmem.h"

#include "common/hashfn.h"
#include "compat.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/shmem.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"
#include "worker/shared.h"

HTAB	   *weir_partition_stats = NULL;
HTAB	   *weir_share_stats = NULL;
HTAB	   *weir_view_stats = NULL;

PG_FUNCTION_INFO_V1(weir_partition_statistics);
PG_FUNCTION_INFO_V1(weir_share_statistics);
PG_FUNCTION_INFO_V1(weir_view_statistics);

Size
weir_stats_size(void)
{
	Size		size;

	size = hash_estimate_size(weir_max_partitions, sizeof(PartitionStat));
	size = add_size(size, hash_estimate_size(weir_max_partitions, sizeof(ShareStat)));
	return add_size(size, hash_estimate_size(weir_max_partitions, sizeof(ViewStat)));
}

static HTAB *
make_table(const char *name, Size keysize, Size entrysize)
{
	HASHCTL		info = {0};

	info.keysize = keysize;
	info.entrysize = entrysize;
	return ShmemInitHash(name, weir_max_partitions, weir_max_partitions, &info,
						 HASH_ELEM | HASH_BLOBS | HASH_FIXED_SIZE);
}

/* Called in the startup hook, with AddinShmemInitLock held. */
void
weir_stats_startup(void)
{
	weir_partition_stats = make_table("weir partitions", sizeof(PartitionStatKey), sizeof(PartitionStat));
	weir_share_stats = make_table("weir shares", sizeof(ShareKey), sizeof(ShareStat));
	weir_view_stats = make_table("weir views", sizeof(ViewKey), sizeof(ViewStat));
}

/*
 * enter finds or adds an entry and returns with stats_lock held (shared or
 * exclusive); NULL, and the lock free, if there is no room.
 */
static void *
enter(HTAB *table, const void *key, bool *found)
{
	void	   *entry;

	LWLockAcquire(weir_shared->stats_lock, LW_SHARED);
	entry = hash_search(table, key, HASH_FIND, found);
	if (entry != NULL)
		return entry;
	LWLockRelease(weir_shared->stats_lock);

	LWLockAcquire(weir_shared->stats_lock, LW_EXCLUSIVE);
	entry = hash_search(table, key, HASH_ENTER_NULL, found);
	if (entry != NULL)
		return entry;
	LWLockRelease(weir_shared->stats_lock);

	if (pg_atomic_fetch_add_u64(&weir_shared->untracked, 1) == 0)
		ereport(WARNING,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("no room for the statistics of all streams and continuous views"),
				 errdetail("There is room for %d partitions and as many views.", weir_max_partitions),
				 errhint("Raise weir.max_partitions and restart the server.")));
	return NULL;
}

static PartitionStatKey
partition_key(Oid stream, const char *topic, int32 partition)
{
	PartitionStatKey key = {0};

	key.dboid = MyDatabaseId;
	key.stream = stream;
	key.topic = hash_bytes_extended((const unsigned char *) topic, strlen(topic), 0);
	key.partition = partition;
	return key;
}

/* Returns the entry with stats_lock and its mutex held, or NULL with neither. */
static PartitionStat *
partition_lock(Oid stream, const char *topic, int32 partition)
{
	PartitionStatKey key;
	PartitionStat *stat;
	bool		found;

	if (weir_shared == NULL)
		return NULL;
	key = partition_key(stream, topic, partition);
	stat = enter(weir_partition_stats, &key, &found);
	if (stat == NULL)
		return NULL;
	if (!found)
	{
		SpinLockInit(&stat->mutex);
		memset((char *) stat + offsetof(PartitionStat, topic), 0,
			   sizeof(PartitionStat) - offsetof(PartitionStat, topic));
		strlcpy(stat->topic, topic, WEIR_TOPIC_MAX);
		stat->position = -1;
		stat->high = -1;
		stat->stream_time = DT_NOBEGIN;
		stat->stats_reset = stat->started_at = GetCurrentTimestamp();
	}
	SpinLockAcquire(&stat->mutex);
	return stat;
}

static void
partition_unlock(PartitionStat *stat)
{
	SpinLockRelease(&stat->mutex);
	LWLockRelease(weir_shared->stats_lock);
}

void
weir_stat_ingest(Oid stream, const char *topic, int32 partition,
				 int64 rows, int64 bytes, int64 bad, int64 skipped,
				 TimestampTz stream_time)
{
	TimestampTz now = GetCurrentTimestamp();
	PartitionStat *stat = partition_lock(stream, topic, partition);

	if (stat == NULL)
		return;
	stat->rows += rows;
	stat->bytes += bytes;
	stat->bad += bad;
	stat->skipped += skipped;
	stat->stream_time = Max(stat->stream_time, stream_time);
	if (rows + bad + skipped > 0)
		stat->last_message_at = now;
	stat->error[0] = '\0';
	partition_unlock(stat);
}

/* weir_stat_heard makes no entry: what comes may be rolled back, and the stream that it comes to, too. */
void
weir_stat_heard(Oid stream, const char *topic, int32 partition)
{
	TimestampTz now = GetCurrentTimestamp();
	PartitionStatKey key;
	PartitionStat *stat;

	if (weir_shared == NULL)
		return;
	key = partition_key(stream, topic, partition);
	LWLockAcquire(weir_shared->stats_lock, LW_SHARED);
	stat = hash_search(weir_partition_stats, &key, HASH_FIND, NULL);
	if (stat != NULL)
	{
		SpinLockAcquire(&stat->mutex);
		stat->last_message_at = now;
		SpinLockRelease(&stat->mutex);
	}
	LWLockRelease(weir_shared->stats_lock);
}

/* A worker begins to read a partition here. */
void
weir_stat_partition_start(Oid stream, const char *topic, int32 partition,
						  int64 position, TimestampTz stream_time)
{
	TimestampTz now = GetCurrentTimestamp();
	PartitionStat *stat = partition_lock(stream, topic, partition);

	if (stat == NULL)
		return;
	stat->position = position;
	stat->stream_time = stream_time;
	stat->started_at = now;
	stat->error[0] = '\0';
	partition_unlock(stat);
}

void
weir_stat_position(Oid stream, const char *topic, int32 partition, int64 position)
{
	PartitionStat *stat = partition_lock(stream, topic, partition);

	if (stat == NULL)
		return;
	stat->position = position;
	stat->high = Max(stat->high, position);
	partition_unlock(stat);
}

void
weir_stat_high(Oid stream, const char *topic, int32 partition, int64 high)
{
	PartitionStat *stat = partition_lock(stream, topic, partition);

	if (stat == NULL)
		return;
	stat->high = high;
	stat->high_at = GetCurrentTimestamp();
	if (stat->doubted)
		stat->back_at = stat->high_at;
	stat->doubted = false;
	partition_unlock(stat);
}

/* The broker does not answer: silence begins anew when it does. */
void
weir_stat_doubt(Oid stream, const char *topic, int32 partition)
{
	PartitionStat *stat = partition_lock(stream, topic, partition);

	if (stat == NULL)
		return;
	stat->doubted = true;
	partition_unlock(stat);
}

void
weir_stat_target(Oid stream, const char *topic, int32 partition,
				 uint64 request, int64 target)
{
	PartitionStat *stat = partition_lock(stream, topic, partition);

	if (stat == NULL)
		return;
	stat->high = target;
	stat->target = target;
	stat->request = request;
	partition_unlock(stat);
}

/* Remembers (or with NULL forgets) what went wrong last in a partition. */
void
weir_stat_error(Oid stream, const char *topic, int32 partition, const char *error)
{
	PartitionStat *stat = partition_lock(stream, topic, partition);

	if (stat == NULL)
		return;
	strlcpy(stat->error, error ? error : "", WEIR_ERROR_MAX);
	partition_unlock(stat);
}

static ShareKey
share_key(Oid stream, int worker)
{
	ShareKey	key = {0};

	key.dboid = MyDatabaseId;
	key.stream = stream;
	key.worker = worker;
	return key;
}

static ShareStat *
share_lock(Oid stream, int worker)
{
	ShareKey	key = share_key(stream, worker);
	ShareStat  *share;
	bool		found;

	share = enter(weir_share_stats, &key, &found);
	if (share == NULL)
		return NULL;
	if (!found)
	{
		SpinLockInit(&share->mutex);
		share->state = SHARE_NONE;
		share->request = 0;
		share->nworkers = 0;
		share->error[0] = '\0';
	}
	SpinLockAcquire(&share->mutex);
	return share;
}

static void
share_unlock(ShareStat *share)
{
	SpinLockRelease(&share->mutex);
	LWLockRelease(weir_shared->stats_lock);
}

void
weir_stat_share(Oid stream, int worker, ShareState state, const char *error)
{
	ShareStat  *share = share_lock(stream, worker);

	if (share == NULL)
		return;
	share->state = state;
	strlcpy(share->error, error ? error : "", WEIR_ERROR_MAX);
	share_unlock(share);
}

void
weir_stat_share_answer(Oid stream, int worker, uint32 nworkers, uint64 request)
{
	ShareStat  *share = share_lock(stream, worker);

	if (share == NULL)
		return;
	share->request = request;
	share->nworkers = nworkers;
	share_unlock(share);
}

void
weir_stat_share_forget(Oid stream, int worker)
{
	ShareKey	key = share_key(stream, worker);

	LWLockAcquire(weir_shared->stats_lock, LW_EXCLUSIVE);
	hash_search(weir_share_stats, &key, HASH_REMOVE, NULL);
	LWLockRelease(weir_shared->stats_lock);
}

void
weir_stat_view_add(Oid view, const ViewCounts *counts)
{
	TimestampTz now = GetCurrentTimestamp();
	ViewKey		key = {0};
	ViewStat   *stat;
	bool		found;

	key.dboid = MyDatabaseId;
	key.view = view;
	stat = enter(weir_view_stats, &key, &found);
	if (stat == NULL)
		return;
	if (!found)
	{
		SpinLockInit(&stat->mutex);
		memset((char *) stat + offsetof(ViewStat, rows_in), 0,
			   sizeof(ViewStat) - offsetof(ViewStat, rows_in));
		stat->stats_reset = now;
	}
	SpinLockAcquire(&stat->mutex);
	stat->rows_in += counts->rows_in;
	stat->rows_changed += counts->rows_changed;
	stat->late += counts->late;
	stat->dead_letters += counts->dead_letters;
	stat->batches += counts->batches;
	stat->busy_us += counts->busy_us;
	if (counts->stream_time != 0 && (stat->stream_time == 0 || stat->stream_time < counts->stream_time))
		stat->stream_time = counts->stream_time;
	stat->last_batch_at = now;
	SpinLockRelease(&stat->mutex);
	LWLockRelease(weir_shared->stats_lock);
}

TimestampTz
weir_stat_view_stream_time(Oid view)
{
	ViewKey		key = {0};
	ViewStat   *stat;
	TimestampTz result = 0;

	key.dboid = MyDatabaseId;
	key.view = view;
	if (weir_shared == NULL)
		return DT_NOBEGIN;
	LWLockAcquire(weir_shared->stats_lock, LW_SHARED);
	stat = hash_search(weir_view_stats, &key, HASH_FIND, NULL);
	if (stat)
	{
		SpinLockAcquire(&stat->mutex);
		result = stat->stream_time;
		SpinLockRelease(&stat->mutex);
	}
	LWLockRelease(weir_shared->stats_lock);
	return result == 0 ? DT_NOBEGIN : result;
}

void
weir_stat_forget(Oid relid)
{
	HASH_SEQ_STATUS scan;
	PartitionStat *stat;
	ShareStat  *share;
	ViewKey		key = {0};

	if (weir_shared == NULL)
		return;
	weir_stat_unnote(relid);
	LWLockAcquire(weir_shared->stats_lock, LW_EXCLUSIVE);
	hash_seq_init(&scan, weir_partition_stats);
	while ((stat = hash_seq_search(&scan)) != NULL)
		if (stat->key.dboid == MyDatabaseId && stat->key.stream == relid)
			hash_search(weir_partition_stats, &stat->key, HASH_REMOVE, NULL);
	hash_seq_init(&scan, weir_share_stats);
	while ((share = hash_seq_search(&scan)) != NULL)
		if (share->key.dboid == MyDatabaseId && share->key.stream == relid)
			hash_search(weir_share_stats, &share->key, HASH_REMOVE, NULL);
	key.dboid = MyDatabaseId;
	key.view = relid;
	hash_search(weir_view_stats, &key, HASH_REMOVE, NULL);
	LWLockRelease(weir_shared->stats_lock);
}

/*----------------------------------------------------------------------
 * For weir.wait()
 *----------------------------------------------------------------------*/

bool
weir_stat_targets(Oid stream, uint32 nworkers, uint64 request, List **targets)
{
	HASH_SEQ_STATUS scan;
	PartitionStat *stat;
	WaitTarget *copies;
	int			ncopies = 0;
	bool		answered = true;

	*targets = NIL;
	copies = palloc(sizeof(WaitTarget) * weir_max_partitions);

	LWLockAcquire(weir_shared->stats_lock, LW_SHARED);
	for (uint32 i = 0; i < nworkers && answered; i++)
	{
		ShareKey	key = share_key(stream, i);
		ShareStat  *share = hash_search(weir_share_stats, &key, HASH_FIND, NULL);

		answered = share != NULL && share->request >= request && share->nworkers == nworkers;
	}
	hash_seq_init(&scan, weir_partition_stats);
	while ((stat = hash_seq_search(&scan)) != NULL)
	{
		if (!answered || ncopies == weir_max_partitions)
		{
			hash_seq_term(&scan);
			break;
		}
		if (stat->key.dboid != MyDatabaseId || stat->key.stream != stream)
			continue;
		SpinLockAcquire(&stat->mutex);
		if (stat->request >= request)
		{
			strlcpy(copies[ncopies].topic, stat->topic, WEIR_TOPIC_MAX);
			copies[ncopies].partition = stat->key.partition;
			copies[ncopies].target = stat->target;
			copies[ncopies].position = stat->position;
			ncopies++;
		}
		SpinLockRelease(&stat->mutex);
	}
	LWLockRelease(weir_shared->stats_lock);

	for (int i = 0; i < ncopies; i++)
		*targets = lappend(*targets, &copies[i]);
	return answered;
}

/* Committed position of a partition; -1 if unknown. */
int64
weir_stat_applied(Oid stream, const char *topic, int32 partition)
{
	PartitionStatKey key = partition_key(stream, topic, partition);
	PartitionStat *stat;
	int64		position = -1;

	LWLockAcquire(weir_shared->stats_lock, LW_SHARED);
	stat = hash_search(weir_partition_stats, &key, HASH_FIND, NULL);
	if (stat != NULL)
	{
		SpinLockAcquire(&stat->mutex);
		position = stat->position;
		SpinLockRelease(&stat->mutex);
	}
	LWLockRelease(weir_shared->stats_lock);
	return position;
}

void
weir_stat_news(Oid stream, const char *topic, int32 partition, PartitionNews *news)
{
	PartitionStatKey key = partition_key(stream, topic, partition);
	PartitionStat *stat;

	*news = (PartitionNews) {.high = -1,.stream_time = DT_NOBEGIN};
	if (weir_shared == NULL)
		return;
	LWLockAcquire(weir_shared->stats_lock, LW_SHARED);
	stat = hash_search(weir_partition_stats, &key, HASH_FIND, NULL);
	if (stat != NULL)
	{
		SpinLockAcquire(&stat->mutex);
		news->silent_since = Max(stat->last_message_at != 0 ? stat->last_message_at : stat->started_at, stat->back_at);
		news->high = stat->high;
		news->high_at = stat->high_at;
		news->stream_time = stat->stream_time;
		SpinLockRelease(&stat->mutex);
	}
	LWLockRelease(weir_shared->stats_lock);
}

char *
weir_stat_share_error(Oid stream)
{
	char		error[WEIR_ERROR_MAX] = "";

	LWLockAcquire(weir_shared->stats_lock, LW_SHARED);
	for (int i = 0; i < WEIR_MAX_WORKERS && error[0] == '\0'; i++)
	{
		ShareKey	key = share_key(stream, i);
		ShareStat  *share = hash_search(weir_share_stats, &key, HASH_FIND, NULL);

		if (share != NULL)
			strlcpy(error, share->error, WEIR_ERROR_MAX);
	}
	LWLockRelease(weir_shared->stats_lock);
	return error[0] != '\0' ? pstrdup(error) : NULL;
}

/*----------------------------------------------------------------------
 * Shown by weir.stat_streams, weir.streams, weir.stat_views
 *----------------------------------------------------------------------*/

static void
put_time(Datum *value, bool *isnull, TimestampTz t)
{
	*isnull = t == 0 || TIMESTAMP_NOT_FINITE(t);
	*value = TimestampTzGetDatum(t);
}

static void
put_text(Datum *value, bool *isnull, const char *text)
{
	*isnull = text[0] == '\0';
	*value = *isnull ? (Datum) 0 : CStringGetTextDatum(text);
}

static void
put_count(Datum *value, bool *isnull, int64 n)
{
	*isnull = n < 0;
	*value = Int64GetDatum(n);
}

/*
 * Copies the entries of this database out of a table, so that no lock is
 * held while rows are made. Returns their number.
 */
static int
copy_entries(HTAB *table, Size entrysize, char **copies)
{
	HASH_SEQ_STATUS scan;
	char	   *entry;
	int			n = 0;

	if (weir_shared == NULL)
		return 0;
	*copies = palloc(entrysize * weir_max_partitions);
	LWLockAcquire(weir_shared->stats_lock, LW_SHARED);
	hash_seq_init(&scan, table);
	while ((entry = hash_seq_search(&scan)) != NULL)
	{
		if (*(Oid *) entry != MyDatabaseId) /* all keys begin with it */
			continue;
		memcpy(*copies + entrysize * n++, entry, entrysize);
	}
	LWLockRelease(weir_shared->stats_lock);
	return n;
}

Datum
weir_partition_statistics(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	char	   *copies = NULL;
	int			n;

	InitMaterializedSRF(fcinfo, 0);
	n = copy_entries(weir_partition_stats, sizeof(PartitionStat), &copies);
	for (int i = 0; i < n; i++)
	{
		PartitionStat *stat = &((PartitionStat *) copies)[i];
		Datum		values[14];
		bool		isnull[14] = {0};

		values[0] = ObjectIdGetDatum(stat->key.stream);
		values[1] = CStringGetTextDatum(stat->topic);
		values[2] = Int32GetDatum(stat->key.partition);
		put_count(&values[3], &isnull[3], stat->position);
		put_count(&values[4], &isnull[4], stat->high);
		put_time(&values[5], &isnull[5], stat->stream_time);
		values[6] = Int64GetDatum(stat->rows);
		values[7] = Int64GetDatum(stat->bytes);
		values[8] = Int64GetDatum(stat->bad);
		values[9] = Int64GetDatum(stat->skipped);
		put_time(&values[10], &isnull[10], stat->last_message_at);
		put_time(&values[11], &isnull[11], stat->started_at);
		put_text(&values[12], &isnull[12], stat->error);
		put_time(&values[13], &isnull[13], stat->stats_reset);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, isnull);
	}
	return (Datum) 0;
}

Datum
weir_share_statistics(PG_FUNCTION_ARGS)
{
	static const char *const states[] = {"none", "waiting", "running", "paused"};
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	char	   *copies = NULL;
	int			n;

	InitMaterializedSRF(fcinfo, 0);
	n = copy_entries(weir_share_stats, sizeof(ShareStat), &copies);
	for (int i = 0; i < n; i++)
	{
		ShareStat  *share = &((ShareStat *) copies)[i];
		Datum		values[4];
		bool		isnull[4] = {0};

		values[0] = ObjectIdGetDatum(share->key.stream);
		values[1] = Int32GetDatum(share->key.worker);
		values[2] = CStringGetTextDatum(states[share->state]);
		put_text(&values[3], &isnull[3], share->error);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, isnull);
	}
	return (Datum) 0;
}

Datum
weir_view_statistics(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	char	   *copies = NULL;
	int			n;

	InitMaterializedSRF(fcinfo, 0);
	n = copy_entries(weir_view_stats, sizeof(ViewStat), &copies);
	for (int i = 0; i < n; i++)
	{
		ViewStat   *stat = &((ViewStat *) copies)[i];
		Datum		values[9];
		bool		isnull[9] = {0};

		values[0] = ObjectIdGetDatum(stat->key.view);
		values[1] = Int64GetDatum(stat->rows_in);
		values[2] = Int64GetDatum(stat->rows_changed);
		values[3] = Int64GetDatum(stat->late);
		values[4] = Int64GetDatum(stat->dead_letters);
		values[5] = Int64GetDatum(stat->batches);
		values[6] = Float8GetDatum(stat->busy_us / 1000.0);
		put_time(&values[7], &isnull[7], stat->last_batch_at);
		put_time(&values[8], &isnull[8], stat->stats_reset);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, isnull);
	}
	return (Datum) 0;
}
