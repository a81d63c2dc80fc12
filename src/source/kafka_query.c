/*
 * kafka_query.c
 *	  Questions to the brokers: partitions, watermarks, offsets by time, the probe at DDL.
 *
 * Main thread of a worker or backend. librdkafka has only blocking calls for
 * these, which PostgreSQL's signals do not interrupt; so a question is asked in
 * slices of growing length, and between two of them a pending shutdown or
 * cancel ends it. Nothing of librdkafka is held between slices.
 * Raises nothing, except weir_kafka_probe, which may raise a cancel.
 */
#include "source/kafka_internal.h"

#include "miscadmin.h"
#include "postmaster/interrupt.h"

#define FIRST_SLICE_MS 100

/* A timeout that runs down slice by slice. */
typedef struct Slices
{
	int			left_ms;
	int			slice_ms;
} Slices;

/* Length of the next slice; 0: time is up or somebody wants us to stop. */
static int
next_slice(Slices *slices)
{
	int			slice = Min(slices->slice_ms, slices->left_ms);

	if (ProcDiePending || QueryCancelPending || ShutdownRequestPending)
		return 0;
	slices->left_ms -= slice;
	slices->slice_ms *= 2;
	return slice;
}

/* Whether asking again can help. */
static bool
is_transient(rd_kafka_resp_err_t err)
{
	switch (err)
	{
		case RD_KAFKA_RESP_ERR__TRANSPORT:
		case RD_KAFKA_RESP_ERR__TIMED_OUT:
		case RD_KAFKA_RESP_ERR__WAIT_CACHE:
		case RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT:
		case RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE:
		case RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION:
			return true;
		default:
			return false;
	}
}

/* One slice: number of partitions of a topic, -1 and *err. */
static int
ask_partitions(rd_kafka_t *rk, const char *topic, int slice_ms, rd_kafka_resp_err_t *err)
{
	rd_kafka_topic_t *rkt = rd_kafka_topic_new(rk, topic, NULL);
	const struct rd_kafka_metadata *metadata;
	int			n = -1;

	if (rkt == NULL)
	{
		*err = rd_kafka_last_error();
		return -1;
	}
	*err = rd_kafka_metadata(rk, 0, rkt, &metadata, slice_ms);
	rd_kafka_topic_destroy(rkt);
	if (*err != RD_KAFKA_RESP_ERR_NO_ERROR)
		return -1;

	if (metadata->topic_cnt == 1)
		*err = metadata->topics[0].err;
	else
		*err = RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
	if (*err == RD_KAFKA_RESP_ERR_NO_ERROR)
		n = metadata->topics[0].partition_cnt;
	else if (*err == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART ||
			 *err == RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC ||
			 *err == RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE)	/* is being created */
		n = 0;
	rd_kafka_metadata_destroy(metadata);
	return n;
}

int
weir_kafka_partitions(KafkaConsumer *consumer, const char *topic, int timeout_ms, char **error)
{
	Slices		slices = {timeout_ms, FIRST_SLICE_MS};
	rd_kafka_resp_err_t err = RD_KAFKA_RESP_ERR__TIMED_OUT;
	int			slice;
	int			n;

	weir_kafka_serve_idle(consumer);
	while ((slice = next_slice(&slices)) > 0)
	{
		n = ask_partitions(consumer->rk, topic, slice, &err);
		if (n >= 0)
			return n;
		if (!is_transient(err))
			break;
	}
	if (error != NULL)
		*error = psprintf("cannot ask for the partitions of topic \"%s\": %s",
						  topic, rd_kafka_err2str(err));
	return -1;
}

/*
 * Asks one ListOffsets question: the offset for a timestamp, or for EARLIEST
 * or LATEST (LSO under read_committed). -1 in *offset: none so late.
 *
 * Not rd_kafka_query_watermark_offsets: until 2.3 that one waits for the
 * socket's timeout, a minute, when the leader is away.
 */
#define EARLIEST (-2)
#define LATEST (-1)

static bool
ask_offset(KafkaConsumer *consumer, const char *topic, int32 partition, int64 timestamp,
		   Slices *slices, int64 *offset, char **error)
{
	rd_kafka_resp_err_t err = RD_KAFKA_RESP_ERR__TIMED_OUT;
	int			slice;

	weir_kafka_serve_idle(consumer);
	while ((slice = next_slice(slices)) > 0)
	{
		rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);

		rd_kafka_topic_partition_list_add(list, topic, partition)->offset = timestamp;
		err = rd_kafka_offsets_for_times(consumer->rk, list, slice);
		if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
			err = list->elems[0].err;
		*offset = list->elems[0].offset;
		rd_kafka_topic_partition_list_destroy(list);
		if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
			return true;
		if (!is_transient(err))
			break;
	}
	if (error != NULL)
		*error = psprintf("cannot ask for offsets of topic \"%s\", partition %d: %s",
						  topic, (int) partition, rd_kafka_err2str(err));
	return false;
}

bool
weir_kafka_watermarks(KafkaConsumer *consumer, const char *topic, int32 partition,
					  int64 *low, int64 *high, int timeout_ms, char **error)
{
	Slices		slices = {timeout_ms, FIRST_SLICE_MS};

	return ask_offset(consumer, topic, partition, EARLIEST, &slices, low, error) &&
		ask_offset(consumer, topic, partition, LATEST, &slices, high, error);
}

bool
weir_kafka_offset_for_time(KafkaConsumer *consumer, const char *topic, int32 partition,
						   int64 timestamp_ms, int64 *offset, int timeout_ms, char **error)
{
	Slices		slices = {timeout_ms, FIRST_SLICE_MS};

	if (!ask_offset(consumer, topic, partition, Max(timestamp_ms, 0), &slices, offset, error))
		return false;
	return *offset >= 0 ||
		ask_offset(consumer, topic, partition, LATEST, &slices, offset, error);
}

/* Drops what librdkafka says: the probe's answer says enough. */
static void
ignore_log(const rd_kafka_t *rk, int level, const char *fac, const char *text)
{
}

/* What librdkafka complained of, for "no broker answers: ...". */
typedef struct Complaints
{
	bool		all_down;		/* every broker refused: waiting longer is no use */
	char		last[KAFKA_TEXT_SIZE];
} Complaints;

static void
keep_error(rd_kafka_t *rk, int err, const char *reason, void *opaque)
{
	Complaints *complaints = opaque;

	if (err == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN)
		complaints->all_down = true;
	else
		snprintf(complaints->last, sizeof(complaints->last), "%s", reason);
}

/* Asks for one topic after the other; fills text and returns false if something is wrong. */
static bool
probe_topics(rd_kafka_t *rk, int ntopics, char **topics, int timeout_ms,
			 const Complaints *complaints, char *text, Size size)
{
	Slices		slices = {timeout_ms, FIRST_SLICE_MS};
	rd_kafka_resp_err_t err = RD_KAFKA_RESP_ERR__TIMED_OUT;

	for (int i = 0; i < ntopics; i++)
	{
		int			n = -1;
		int			slice;

		CHECK_FOR_INTERRUPTS();
		while (n < 0 && (slice = next_slice(&slices)) > 0)
		{
			n = ask_partitions(rk, topics[i], slice, &err);
			rd_kafka_poll(rk, 0);	/* calls keep_error */
			if (n < 0 && (!is_transient(err) || complaints->all_down))
				break;
			CHECK_FOR_INTERRUPTS();
		}
		if (n > 0)
			continue;
		if (n == 0)
			snprintf(text, size, "topic \"%s\" does not exist", topics[i]);
		else if (is_transient(err))
			snprintf(text, size, "no broker answers: %s",
					 complaints->last[0] != '\0' ? complaints->last : rd_kafka_err2str(err));
		else
			snprintf(text, size, "topic \"%s\": %s", topics[i], rd_kafka_err2str(err));
		return false;
	}
	return true;
}

char *
weir_kafka_probe(List *options, int ntopics, char **topics, int timeout_ms)
{
	char		text[512] = "";
	Complaints	complaints = {false, ""};
	rd_kafka_conf_t *conf = weir_kafka_conf(options, text, sizeof(text));
	rd_kafka_t *rk;
	bool		fine = false;

	if (conf == NULL)
		return pstrdup(text);
	rd_kafka_conf_set_opaque(conf, &complaints);
	rd_kafka_conf_set_error_cb(conf, keep_error);
	rd_kafka_conf_set_log_cb(conf, ignore_log);
	rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, text, sizeof(text));
	if (rk == NULL)
	{
		rd_kafka_conf_destroy(conf);
		return pstrdup(text);
	}
	PG_TRY();
	{
		fine = probe_topics(rk, ntopics, topics, timeout_ms, &complaints, text, sizeof(text));
	}
	PG_FINALLY();
	{
		(void) weir_kafka_destroy(rk);
	}
	PG_END_TRY();
	return fine ? NULL : pstrdup(text);
}
