/*
 * topics.c
 *	  Which partitions a reader has and where it takes them up: every guard against silent loss.
 *
 * weir.position ⇒ here ⇒ reader.c. A partition is taken up only if its
 * position lies inside what the broker has, and it is read from the last
 * message seen, which is compared (reader.c, verify): retention that was
 * faster than we, and topics created anew, are seen and shown, never skipped.
 *
 * First start: offsets by weir.start, for all partitions of the topic at once, saved before
 * anything is read, so that a restart does not change them. A partition or topic
 * that turns up later is read from its beginning.
 *
 * The brokers are asked with a time limit, shorter after a failure: a broker
 * that is away must not hold up other streams for long.
 */
#include "worker/worker.h"

#include "compat.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "source/kafka_options.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "worker/shared.h"
#include "worker/shmem.h"

#define TOPIC_REFRESH		10000	/* ms between looks at the topics; "topic.metadata.refresh.interval.ms" */
#define ASK_TIMEOUT			2000	/* ms; first question to a broker */
#define ASK_AGAIN_TIMEOUT	500		/* ms; while it does not answer */
#define ASK_BACKOFF			1000	/* ms until it is asked again; times the number of failures */
#define ASK_BACKOFF_MAX		5000
#define MAX_GONE			3		/* refusals in a row of a position that seems right */

/* What the look at a stream's topics works with. */
typedef struct Refresh
{
	Reader	   *reader;
	MemoryContext cxt;			/* of all below */
	List	   *saved;			/* of SavedPosition * */
	List	   *fresh;			/* of SavedPosition *: to be added */
	List	   *absent;			/* of char *: topics that do not exist */
	char	   *error;			/* what went wrong, or NULL */
} Refresh;

static int
ask_timeout(Reader *reader)
{
	return reader->asked == 0 ? ASK_TIMEOUT : ASK_AGAIN_TIMEOUT;
}

/* Where does a partition begin and end? False: error is set. */
bool
weir_topics_ends(Reader *reader, const char *topic, int32 partition,
				 int64 *low, int64 *high, char **error)
{
	KafkaConsumer *asker = weir_asker_get(reader, error);

	return asker != NULL &&
		weir_kafka_watermarks(asker, topic, partition, low, high, ask_timeout(reader), error);
}

/* Notes that the brokers could not be asked; the reader will try again. */
void
weir_reader_trouble(Reader *reader, const char *error)
{
	int			ms = Min(ASK_BACKOFF * (reader->asked + 1), ASK_BACKOFF_MAX);

	if (reader->asked++ == 0)
		ereport(LOG,
				(errmsg("stream %s: %s", reader->name, error ? error : "broker does not answer")));
	weir_stat_share(reader->stream, worker.index, SHARE_WAITING,
					error ? error : "broker does not answer");
	reader->topics_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ms);
}

/*----------------------------------------------------------------------
 * Failed partitions
 *----------------------------------------------------------------------*/

typedef struct StreamFailure
{
	Oid			stream;
	char	   *message;
} StreamFailure;

static bool
set_error_body(void *arg)
{
	StreamFailure *failure = arg;

	LockRelationOid(failure->stream, RowExclusiveLock);
	if (weir_stream_get(failure->stream) != NULL)
		weir_stream_set_error(failure->stream, failure->message);
	return true;
}

/*
 * weir_partition_fail takes a partition out: it stands still until the user
 * has decided (weir.seek, weir.resume). Others of the stream go on.
 */
void
weir_partition_fail(Reader *reader, Partition *part, char *message)
{
	StreamFailure failure = {reader->stream, message};

	part->failed = true;
	reader->filtered |= part->nmsgs > 0;
	reader->nmsgs -= part->nmsgs;
	part->nmsgs = 0;
	part->read_offset = part->saved.next_offset;
	if (part->assigned)
		weir_kafka_unassign(reader->consumer, part->saved.topic, part->saved.partition);
	part->assigned = false;
	weir_stat_error(reader->stream, part->saved.topic, part->saved.partition, message);
	if (reader->failed)
		return;					/* shown already */
	ereport(LOG,
			(errmsg("stream %s failed: %s", reader->name, message),
			 errhint("weir.seek(%s, 'earliest', rebuild => true) reads it afresh.",
					 quote_literal_cstr(reader->name))));
	if (weir_worker_transaction(set_error_body, &failure, &reader->last_error, reader->cxt))
		reader->failed = true;
}

/*----------------------------------------------------------------------
 * Taking up a partition
 *----------------------------------------------------------------------*/

/* Where to begin so that the last message seen comes again, if it still can. */
static int64
assign_offset(Partition *part, int64 low)
{
	part->verifying = part->saved.last_offset >= low && part->saved.last_offset >= 0;
	return part->verifying ? part->saved.last_offset : part->saved.next_offset;
}

/* Checks a partition's position against the broker and begins to read. False: error is set. */
static bool
take_up(Reader *reader, Partition *part, char **error)
{
	SavedPosition *pos = &part->saved;
	int64		low,
				high;

	if (!weir_topics_ends(reader, pos->topic, pos->partition, &low, &high, error))
		return false;
	weir_stat_high(reader->stream, pos->topic, pos->partition, high);
	if (pos->next_offset < low)
		weir_partition_fail(reader, part,
							psprintf("offset " INT64_FORMAT " of topic \"%s\", partition %d has been deleted: the log begins at "
									 INT64_FORMAT " and ends at " INT64_FORMAT,
									 pos->next_offset, pos->topic, pos->partition, low, high));
	else if (pos->next_offset > high)
		weir_partition_fail(reader, part,
							psprintf("offset " INT64_FORMAT " of topic \"%s\", partition %d is beyond the end of the log (" INT64_FORMAT
									 " to " INT64_FORMAT "): the topic was deleted and created anew, or has lost messages",
									 pos->next_offset, pos->topic, pos->partition, low, high));
	else
	{
		if (!weir_kafka_assign(reader->consumer, pos->topic, pos->partition,
							   assign_offset(part, low), error))
			return false;
		part->assigned = true;
		reader->drained = false;
	}
	return true;
}

/* The broker refused the position of a partition that is being read: see why. */
void
weir_partition_recheck(Reader *reader, Partition *part)
{
	char	   *error = NULL;

	weir_kafka_unassign(reader->consumer, part->saved.topic, part->saved.partition);
	part->assigned = false;
	if (++part->gone > MAX_GONE)
		weir_partition_fail(reader, part,
							psprintf("the broker refuses to read topic \"%s\", partition %d from offset " INT64_FORMAT,
									 part->saved.topic, part->saved.partition,
									 part->saved.next_offset));
	else if (part->read_offset > part->saved.next_offset)
	{
		/* messages in hand first; then all is looked at afresh */
		weir_reader_restart(reader, 0);
	}
	else if (!take_up(reader, part, &error))
		weir_reader_trouble(reader, error);
}

/* Makes the partition known to the reader, if it is not. */
static Partition *
know_partition(Reader *reader, SavedPosition *saved)
{
	Partition  *part = weir_reader_partition(reader, saved->topic, saved->partition);
	MemoryContext oldcxt;

	if (part != NULL)
		return part;
	oldcxt = MemoryContextSwitchTo(reader->open_cxt);
	part = palloc0(sizeof(Partition));
	part->saved = *saved;
	part->saved.topic = pstrdup(saved->topic);
	part->read_offset = saved->next_offset;
	part->committed = -1;
	reader->partitions = lappend(reader->partitions, part);
	MemoryContextSwitchTo(oldcxt);
	weir_stat_partition_start(reader->stream, saved->topic, saved->partition,
							  saved->next_offset, saved->stream_time);
	return part;
}

/*----------------------------------------------------------------------
 * Positions of partitions that have none
 *----------------------------------------------------------------------*/

static SavedPosition *
find_saved(List *saved, const char *topic, int32 partition)
{
	ListCell   *lc;

	foreach(lc, saved)
	{
		SavedPosition *pos = lfirst(lc);

		if (strcmp(pos->topic, topic) == 0 && (partition < 0 || pos->partition == partition))
			return pos;
	}
	return NULL;
}

static void
add_fresh(Refresh *refresh, const char *topic, int32 partition, int64 offset)
{
	SavedPosition *pos = palloc0(sizeof(SavedPosition));

	pos->topic = pstrdup(topic);
	pos->partition = partition;
	pos->next_offset = offset;
	pos->last_offset = -1;
	pos->stream_time = DT_NOBEGIN;
	refresh->fresh = lappend(refresh->fresh, pos);
}

/* ms since 1970 of a start that is a timestamp. */
static int64
start_ms(const char *start)
{
	TimestampTz t = DatumGetTimestampTz(DirectFunctionCall3(timestamptz_in,
															CStringGetDatum(start),
															ObjectIdGetDatum(InvalidOid),
															Int32GetDatum(-1)));

	return weir_epoch_ms(t);
}

/* Where a partition without position begins. False: error is set. */
static bool
first_offset(Refresh *refresh, const char *topic, int32 partition, bool first_start,
			 int64 *offset)
{
	Reader	   *reader = refresh->reader;
	int64		low,
				high;

	if (!weir_topics_ends(reader, topic, partition, &low, &high, &refresh->error))
		return false;
	if (!first_start || strcmp(reader->start, "earliest") == 0)
		*offset = low;
	else if (strcmp(reader->start, "latest") == 0)
		*offset = high;
	else
		return weir_kafka_offset_for_time(weir_asker_get(reader, &refresh->error),
										  topic, partition, start_ms(reader->start), offset,
										  ask_timeout(reader), &refresh->error);
	return true;
}

/* Finds out about one topic. False: error is set. */
static bool
ask_topic(Refresh *refresh, const char *topic)
{
	Reader	   *reader = refresh->reader;
	KafkaConsumer *asker = weir_asker_get(reader, &refresh->error);
	bool		first_start = find_saved(refresh->saved, topic, -1) == NULL;
	int			n = asker == NULL ? -1 :
		weir_kafka_partitions(asker, topic, ask_timeout(reader), &refresh->error);

	if (n < 0)
		return false;
	if (n == 0)
	{
		refresh->absent = lappend(refresh->absent, pstrdup(topic));
		/* It will be read from its beginning, and this says so: any weir.start is for topics that are there. */
		if (first_start && strcmp(reader->start, "earliest") != 0)
			add_fresh(refresh, topic, 0, 0);
		return true;
	}
	for (int32 p = 0; p < n; p++)
	{
		int64		offset;

		if (find_saved(refresh->saved, topic, p) != NULL)
			continue;
		if (!first_offset(refresh, topic, p, first_start, &offset))
			return false;
		add_fresh(refresh, topic, p, offset);
	}
	return true;
}

/*----------------------------------------------------------------------
 * The look at the topics
 *----------------------------------------------------------------------*/

static bool
load_body(void *arg)
{
	Refresh    *refresh = arg;
	MemoryContext oldcxt = MemoryContextSwitchTo(refresh->cxt);

	refresh->saved = weir_positions_load(refresh->reader->stream);
	MemoryContextSwitchTo(oldcxt);
	return true;
}

static bool
save_body(void *arg)
{
	Refresh    *refresh = arg;
	ListCell   *lc;

	LockRelationOid(refresh->reader->stream, RowExclusiveLock);
	if (weir_generation() != worker.generation)
	{
		worker.reload = true;
		return false;
	}
	foreach(lc, refresh->fresh)
	{
		SavedPosition *pos = lfirst(lc);

		weir_position_init(refresh->reader->stream, pos->topic, pos->partition,
						   pos->next_offset);
	}
	return load_body(arg);		/* another worker may have been faster */
}

static bool
has_name(List *names, const char *name)
{
	ListCell   *lc;

	foreach(lc, names)
		if (strcmp(lfirst(lc), name) == 0)
			return true;
	return false;
}

/*
 * leave_topics stops reading topics that were there and are not any more: a
 * consumer that goes on by itself when such a topic is there again would skip or mix.
 */
static void
leave_topics(Reader *reader, List *absent)
{
	ListCell   *lc;

	foreach(lc, reader->partitions)
	{
		Partition  *part = lfirst(lc);

		if (part->assigned && has_name(absent, part->saved.topic))
		{
			weir_reader_restart(reader, ASK_BACKOFF);
			return;
		}
	}
}

/* Takes up this worker's partitions that are not read yet. False: error is set. */
static bool
take_up_partitions(Refresh *refresh)
{
	Reader	   *reader = refresh->reader;
	ListCell   *lc;

	foreach(lc, refresh->saved)
	{
		SavedPosition *pos = lfirst(lc);
		Partition  *part;

		if (!has_name(reader->topics, pos->topic) || has_name(refresh->absent, pos->topic))
			continue;
		if (weir_worker_of_partition(reader->stream, pos->topic, pos->partition) != worker.index)
			continue;
		part = know_partition(reader, pos);
		if (!part->assigned && !part->failed && !take_up(reader, part, &refresh->error))
			return false;
	}
	return true;
}

static int
refresh_interval(Reader *reader)
{
	ListCell   *lc;

	foreach(lc, reader->options)
	{
		KafkaOption *option = lfirst(lc);

		if (strcmp(option->name, "topic.metadata.refresh.interval.ms") == 0 &&
			atoi(option->value) > 0)
			return atoi(option->value);
	}
	return TOPIC_REFRESH;
}

static bool
refresh_topics(Refresh *refresh)
{
	Reader	   *reader = refresh->reader;
	ListCell   *lc;

	if (!weir_worker_transaction(load_body, refresh, &reader->last_error, reader->cxt))
		return false;
	foreach(lc, reader->topics)
		if (!ask_topic(refresh, lfirst(lc)))
			return false;
	if (refresh->fresh != NIL &&
		!weir_worker_transaction(save_body, refresh, &reader->last_error, reader->cxt))
		return false;
	return take_up_partitions(refresh);
}

/*
 * weir_topics_refresh looks at the stream's topics, takes up what is new,
 * and sets the timer for the next look. False: not all could be done; a
 * timer is set, or the reader was closed.
 */
bool
weir_topics_refresh(Reader *reader)
{
	MemoryContext cxt = AllocSetContextCreate(reader->cxt, "weir topics", ALLOCSET_DEFAULT_SIZES);
	MemoryContext oldcxt = MemoryContextSwitchTo(cxt);
	Refresh		refresh = {.reader = reader, .cxt = cxt};
	bool		ok = refresh_topics(&refresh);

	MemoryContextSwitchTo(oldcxt);
	if (!ok && worker.reload)
		reader->topics_at = GetCurrentTimestamp();	/* the catalog changed meanwhile */
	else if (!ok)
		weir_reader_trouble(reader, refresh.error ? refresh.error : reader->last_error);
	else
	{
		reader->asked = 0;
		reader->topics_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
														refresh_interval(reader));
		if (refresh.absent != NIL)
		{
			weir_stat_share(reader->stream, worker.index, SHARE_WAITING,
							psprintf("topic \"%s\" does not exist", (char *) linitial(refresh.absent)));
			leave_topics(reader, refresh.absent);
		}
		else
			weir_stat_share(reader->stream, worker.index, SHARE_RUNNING, NULL);
	}
	MemoryContextDelete(cxt);
	return ok && reader->state == READER_OPEN;
}

/*
 * weir_topics_answer tells weir.wait() where this worker's partitions of the
 * stream end now. A failed partition is not told: the stream shows its error.
 */
void
weir_topics_answer(Reader *reader, uint64 request)
{
	ListCell   *lc;
	char	   *error = NULL;

	if (reader->state != READER_OPEN || reader->paused ||
		(reader->asked > 0 && reader->topics_at > GetCurrentTimestamp()))
		return;					/* asked again when the reader is open */
	if (!weir_topics_refresh(reader))
		return;
	foreach(lc, reader->partitions)
	{
		Partition  *part = lfirst(lc);
		int64		low,
					high;

		if (!part->assigned)
			continue;
		if (!weir_topics_ends(reader, part->saved.topic, part->saved.partition,
							  &low, &high, &error))
		{
			weir_reader_trouble(reader, error);
			return;
		}
		weir_stat_target(reader->stream, part->saved.topic, part->saved.partition,
						 request, high);
	}
	reader->answered = request;
	weir_stat_share_answer(reader->stream, worker.index, worker.nworkers, request);
	weir_progress_broadcast();
}
