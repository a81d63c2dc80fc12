/*
 * sender_progress.c
 *	  What a sink has sent, kept in Kafka: the compacted topic weir-progress.
 *
 * One record per sink, its key the sink's identity, written to partition 0 in the
 * transaction that sends the batch. Read back under read_committed after
 * init_transactions, which has ended the transaction of whoever was here before:
 * only then the end of the topic stands still (kafka.md b).
 *
 * Runs in a sender's thread: nothing of PostgreSQL but snprintf.
 */
#include "sink/sender_internal.h"

#include <stdio.h>
#include <stdlib.h>

#define ADMIN_TIMEOUT_MS 10000

StaticAssertDecl(SNAPSHOT_TEXT == 8192, "parse_progress has its number in a format");

/* Small segments, so that compaction gets to work and a first read is short. */
static const char *const topic_config[][2] = {
	{"cleanup.policy", "compact"},
	{"segment.bytes", "16777216"},
	{"segment.ms", "3600000"},
	{"min.cleanable.dirty.ratio", "0.1"},
};

int
weir_progress_format(const SinkProgress *progress, char *text, size_t size)
{
	return snprintf(text, size, "1 %u %lld %s %s", progress->timeline, (long long) progress->seq,
					progress->done, progress->target[0] ? progress->target : "-");
}

static bool
parse_progress(const char *text, size_t len, SinkProgress *progress)
{
	char		copy[2 * sizeof(progress->done) + 64];
	long long	seq;

	if (len >= sizeof(copy))
		return false;
	memcpy(copy, text, len);
	copy[len] = '\0';
	if (sscanf(copy, "1 %u %lld %8191s %8191s", &progress->timeline, &seq,
			   progress->done, progress->target) != 4)
		return false;
	progress->seq = seq;
	if (strcmp(progress->target, "-") == 0)
		progress->target[0] = '\0';
	return true;
}

/* Is the topic there? -1: cannot say. */
static int
topic_exists(Sender *sender)
{
	rd_kafka_topic_t *rkt = rd_kafka_topic_new(sender->rk, PROGRESS_TOPIC, NULL);
	const struct rd_kafka_metadata *metadata;
	rd_kafka_resp_err_t err = rd_kafka_metadata(sender->rk, 0, rkt, &metadata, SLICE_MS * 4);
	int			result = -1;

	if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		if (metadata->topic_cnt == 1 && metadata->topics[0].err == RD_KAFKA_RESP_ERR_NO_ERROR &&
			metadata->topics[0].partition_cnt > 0)
			result = 1;
		else if (metadata->topic_cnt == 1 &&
				 metadata->topics[0].err == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART)
			result = 0;
		else if (metadata->topic_cnt == 1)
			err = metadata->topics[0].err;
		rd_kafka_metadata_destroy(metadata);
	}
	if (result < 0)
		weir_sender_trouble(sender, "topic \"%s\": %s", PROGRESS_TOPIC, rd_kafka_err2str(err));
	rd_kafka_topic_destroy(rkt);
	return result;
}

static void
create_topic(Sender *sender)
{
	char		text[SENDER_TEXT];
	rd_kafka_NewTopic_t *topic = rd_kafka_NewTopic_new(PROGRESS_TOPIC, 1, -1, text, sizeof(text));
	rd_kafka_AdminOptions_t *options;
	rd_kafka_queue_t *queue;
	rd_kafka_event_t *event;

	if (topic == NULL)
	{
		weir_sender_trouble(sender, "%s", text);
		return;
	}
	for (int i = 0; i < lengthof(topic_config); i++)
		rd_kafka_NewTopic_set_config(topic, topic_config[i][0], topic_config[i][1]);
	options = rd_kafka_AdminOptions_new(sender->rk, RD_KAFKA_ADMIN_OP_CREATETOPICS);
	rd_kafka_AdminOptions_set_request_timeout(options, ADMIN_TIMEOUT_MS, NULL, 0);
	queue = rd_kafka_queue_new(sender->rk);
	rd_kafka_CreateTopics(sender->rk, &topic, 1, options, queue);
	event = NULL;
	for (int i = 0; event == NULL && i <= ADMIN_TIMEOUT_MS / SLICE_MS && !weir_sender_stopping(sender); i++)
		event = rd_kafka_queue_poll(queue, SLICE_MS);
	if (event != NULL && rd_kafka_event_error(event))
		weir_sender_trouble(sender, "topic \"%s\": %s", PROGRESS_TOPIC, rd_kafka_event_error_string(event));
	else if (event != NULL)
	{
		size_t		n;
		const rd_kafka_topic_result_t **results =
			rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event), &n);

		if (n == 1 && rd_kafka_topic_result_error(results[0]) != RD_KAFKA_RESP_ERR_NO_ERROR &&
			rd_kafka_topic_result_error(results[0]) != RD_KAFKA_RESP_ERR_TOPIC_ALREADY_EXISTS)
			weir_sender_trouble(sender, "cannot create topic \"%s\": %s", PROGRESS_TOPIC,
								rd_kafka_topic_result_error_string(results[0]));
	}
	if (event != NULL)
		rd_kafka_event_destroy(event);
	rd_kafka_queue_destroy(queue);
	rd_kafka_AdminOptions_destroy(options);
	rd_kafka_NewTopic_destroy(topic);
}

bool
weir_progress_topic(Sender *sender)
{
	if (sender->progress_ready)
		return true;
	switch (topic_exists(sender))
	{
		case 1:
			sender->progress_ready = true;
			return true;
		case 0:
			create_topic(sender);
			return false;		/* it is asked for again before it is used */
		default:
			return false;
	}
}

static bool
assign(rd_kafka_t *rk, int64 offset)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
	rd_kafka_resp_err_t err;

	rd_kafka_topic_partition_list_add(list, PROGRESS_TOPIC, 0)->offset = offset;
	err = rd_kafka_assign(rk, list);
	rd_kafka_topic_partition_list_destroy(list);
	return err == RD_KAFKA_RESP_ERR_NO_ERROR;
}

/* Reads to the end of the partition. */
static bool
read_to_end(Sender *sender, rd_kafka_t *rk, SinkProgress *progress, bool *found, int64 *hint)
{
	while (!weir_sender_stopping(sender))
	{
		rd_kafka_message_t *msg = rd_kafka_consumer_poll(rk, SLICE_MS);
		rd_kafka_resp_err_t err;

		if (msg == NULL)
			continue;
		err = msg->err;
		if (err == RD_KAFKA_RESP_ERR_NO_ERROR && msg->key != NULL && msg->payload != NULL &&
			msg->key_len == strlen(sender->identity) &&
			memcmp(msg->key, sender->identity, msg->key_len) == 0 &&
			parse_progress(msg->payload, msg->len, progress))
		{
			*found = true;
			*hint = msg->offset;
		}
		rd_kafka_message_destroy(msg);
		if (err == RD_KAFKA_RESP_ERR__PARTITION_EOF)
			return true;
		if (err == RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET)
		{
			/* the place remembered is compacted away or of another cluster */
			if (!assign(rk, RD_KAFKA_OFFSET_BEGINNING))
				return false;
		}
		else if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
			weir_sender_trouble(sender, "topic \"%s\": %s", PROGRESS_TOPIC, rd_kafka_err2str(err));
	}
	return false;
}

bool
weir_progress_read(Sender *sender, SinkProgress *progress, bool *found, int64 *hint)
{
	char		text[SENDER_TEXT];
	rd_kafka_conf_t *conf = rd_kafka_conf_dup(sender->consumer_conf);
	rd_kafka_t *rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, text, sizeof(text));
	bool		ok;

	*found = false;
	if (rk == NULL)
	{
		rd_kafka_conf_destroy(conf);
		weir_sender_trouble(sender, "%s", text);
		return false;
	}
	rd_kafka_poll_set_consumer(rk);
	ok = assign(rk, *hint >= 0 ? *hint : RD_KAFKA_OFFSET_BEGINNING) &&
		read_to_end(sender, rk, progress, found, hint);
	if (ok && !*found && *hint >= 0)
	{
		/* nothing behind the place remembered: look at all of it */
		*hint = -1;
		ok = assign(rk, RD_KAFKA_OFFSET_BEGINNING) && read_to_end(sender, rk, progress, found, hint);
	}
	(void) weir_kafka_destroy(rk);
	return ok;
}
