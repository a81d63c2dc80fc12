/*
 * replay.c
 *	  Messages read a second time, beside the stream's own consumer.
 *
 * Used by catch_up.c (views that fell behind) and refetch.c (kept rows lost
 * in a crash). A replay has its own consumer and its own batch in hand, as
 * reader.c has, with a quarter of the memory; what is done with the messages, in which
 * transaction, is its user's business. Nothing here changes a position.
 */
#include "worker/worker.h"

#include "catalog/catalog.h"
#include "compat.h"
#include "executor/spi.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define READ_CHUNK		10000	/* messages per look at the queue */
#define MEMORY_SHARE	4		/* of the stream's memory */
#define BATCH_SHARE		2		/* of the replay's memory, for the batch in hand */
#define BACKOFF_MIN		100		/* ms */
#define BACKOFF_MAX		10000

Replay *
weir_replay_create(Reader *reader)
{
	MemoryContext cxt = AllocSetContextCreate(reader->cxt, "weir replay", ALLOCSET_SMALL_SIZES);
	Replay	   *replay = MemoryContextAllocZero(cxt, sizeof(Replay));

	replay->cxt = cxt;
	return replay;
}

/* Adds a partition; only before the replay is opened. */
ReplayPartition *
weir_replay_add(Replay *replay, const char *topic, int32 partition, int64 start, int64 until)
{
	MemoryContext oldcxt = MemoryContextSwitchTo(replay->cxt);
	ReplayPartition *part = palloc0(sizeof(ReplayPartition));

	part->topic = pstrdup(topic);
	part->partition = partition;
	part->start = part->read_offset = start;
	part->until = until;
	part->stream_time = DT_NOBEGIN;
	replay->partitions = lappend(replay->partitions, part);
	MemoryContextSwitchTo(oldcxt);
	return part;
}

/* Begins to read. False with *error; the replay is to be closed then. */
bool
weir_replay_open(Reader *reader, Replay *replay, char **error)
{
	ListCell   *lc;

	replay->memory = (Size) weir_memory * 1024 / Max(list_length(worker.readers), 1) / MEMORY_SHARE;
	replay->consumer = weir_kafka_open(reader->options, psprintf("weir.%s", reader->name),
									   reader->read_committed, replay->memory / 2, error);
	if (replay->consumer == NULL)
		return false;
	replay->batch = weir_kafka_batch_create(reader->want_headers);
	foreach(lc, replay->partitions)
	{
		ReplayPartition *part = lfirst(lc);

		if (part->start < part->until &&
			!weir_kafka_assign(replay->consumer, part->topic, part->partition, part->start, error))
			return false;
	}
	replay->news = true;
	worker.fds_changed = true;
	return true;
}

void
weir_replay_close(Replay *replay)
{
	if (replay->batch != NULL)
		weir_kafka_batch_free(replay->batch);
	if (replay->consumer != NULL)
		weir_kafka_close(replay->consumer);
	MemoryContextDelete(replay->cxt);
	worker.fds_changed = true;
}

ReplayPartition *
weir_replay_partition(Replay *replay, const char *topic, int32 partition)
{
	ListCell   *lc;

	foreach(lc, replay->partitions)
	{
		ReplayPartition *part = lfirst(lc);

		if (part->partition == partition && strcmp(part->topic, topic) == 0)
			return part;
	}
	return NULL;
}

static bool
is_full(Replay *replay)
{
	return replay->nnoted >= weir_batch_rows ||
		weir_kafka_batch_bytes(replay->batch) >= replay->memory / BATCH_SHARE;
}

/* Does the replay want messages now? */
static bool
reads(Replay *replay)
{
	return replay->consumer != NULL && replay->retry_at == 0 && !is_full(replay);
}

static void
note_messages(Replay *replay)
{
	int			n;
	const WeirMessage *msgs = weir_kafka_batch_messages(replay->batch, &n);

	for (; replay->nnoted < n; replay->nnoted++)
	{
		const WeirMessage *msg = &msgs[replay->nnoted];
		ReplayPartition *part = weir_replay_partition(replay, msg->topic, msg->partition);

		if (part != NULL)
			part->read_offset = Max(part->read_offset, msg->offset + 1);
	}
}

static void
note_events(Reader *reader, Replay *replay)
{
	KafkaEvent	event;

	while (weir_kafka_next_event(replay->consumer, &event))
	{
		ReplayPartition *part = event.topic == NULL ? NULL :
			weir_replay_partition(replay, event.topic, event.partition);

		if (event.kind == KAFKA_EVENT_ERROR)
			ereport(LOG, (errmsg("stream %s: %s", reader->name, event.text)));
		if (part == NULL)
			continue;
		replay->news = true;
		if (event.kind == KAFKA_EVENT_EOF)
			part->read_offset = Max(part->read_offset, event.offset);
		else if (event.kind == KAFKA_EVENT_OFFSET_GONE)
			part->gone = true;
	}
}

/* Takes what the queue has, up to a full batch. */
void
weir_replay_gather(Reader *reader, Replay *replay)
{
	if (replay->retry_at != 0 && replay->retry_at <= GetCurrentTimestamp())
	{
		replay->retry_at = 0;
		worker.fds_changed = true;
	}
	while (reads(replay))
	{
		int			n = weir_kafka_read(replay->consumer, replay->batch,
										Min(READ_CHUNK, weir_batch_rows - replay->nnoted));

		note_messages(replay);
		note_events(reader, replay);
		replay->drained = n == 0;
		if (replay->drained)
			break;
	}
	replay->news |= replay->nnoted > 0;
	replay->news &= replay->retry_at == 0;
}

/* The messages in hand are done with. */
void
weir_replay_applied(Replay *replay)
{
	weir_kafka_batch_reset(replay->batch);
	replay->nnoted = 0;
	replay->news = false;
	replay->backoff = 0;
}

/* They could not be applied: again, later. */
void
weir_replay_failed(Replay *replay)
{
	replay->backoff = Min(Max(replay->backoff * 2, BACKOFF_MIN), BACKOFF_MAX);
	replay->retry_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), replay->backoff);
	worker.fds_changed = true;
}

/* A dead letter of the decode step. */
typedef struct Lettered
{
	int32		partition;
	int64		offset;
	char	   *topic;
} Lettered;

static int
compare_lettered(const void *a, const void *b)
{
	const Lettered *x = a;
	const Lettered *y = b;

	if (x->partition != y->partition)
		return x->partition < y->partition ? -1 : 1;
	if (x->offset != y->offset)
		return x->offset < y->offset ? -1 : 1;
	return strcmp(x->topic, y->topic);
}

/* The dead letters among offsets low to high, sorted; inside a catalog scope, in its memory. */
static Lettered *
read_lettered(Oid stream, int64 low, int64 high, int *n)
{
	Lettered   *result;

	*n = (int) weir_catalog_exec("SELECT topic, partition, \"offset\" FROM weir.dead_letter"
								 " WHERE stream = %u AND view IS NULL AND topic IS NOT NULL"
								 " AND \"offset\" BETWEEN " INT64_FORMAT " AND " INT64_FORMAT,
								 stream, low, high);
	result = palloc(sizeof(Lettered) * Max(*n, 1));
	for (int i = 0; i < *n; i++)
	{
		HeapTuple	row = SPI_tuptable->vals[i];
		bool		isnull;

		result[i].topic = SPI_getvalue(row, SPI_tuptable->tupdesc, 1);
		result[i].partition = DatumGetInt32(SPI_getbinval(row, SPI_tuptable->tupdesc, 2, &isnull));
		result[i].offset = DatumGetInt64(SPI_getbinval(row, SPI_tuptable->tupdesc, 3, &isnull));
	}
	qsort(result, *n, sizeof(Lettered), compare_lettered);
	return result;
}

/*
 * weir_replay_drop_letters takes out the messages that are dead letters of
 * the stream: should they be good now (a column was changed), weir.retry()
 * applies them, to all views. Returns how many are left. Inside a transaction.
 */
int
weir_replay_drop_letters(Oid stream, WeirMessage *msgs, int n)
{
	CatalogScope scope;
	Lettered   *letters;
	int			nletters;
	int64		low = PG_INT64_MAX;
	int64		high = -1;
	int			left = 0;

	for (int i = 0; i < n; i++)
	{
		low = Min(low, msgs[i].offset);
		high = Max(high, msgs[i].offset);
	}
	weir_catalog_open(&scope);
	letters = read_lettered(stream, low, high, &nletters);
	for (int i = 0; i < n; i++)
	{
		Lettered	key = {msgs[i].partition, msgs[i].offset, (char *) msgs[i].topic};

		if (nletters == 0 ||
			bsearch(&key, letters, nletters, sizeof(Lettered), compare_lettered) == NULL)
			msgs[left++] = msgs[i];
	}
	weir_catalog_close(&scope);
	return left;
}

int
weir_replay_fd(Replay *replay)
{
	return replay != NULL && reads(replay) ? weir_kafka_fd(replay->consumer) : -1;
}

TimestampTz
weir_replay_next_time(Replay *replay)
{
	if (replay == NULL)
		return 0;
	if (replay->retry_at != 0)
		return replay->retry_at;
	return replay->news || !replay->drained ? 1 : 0;
}
