/*
 * sender_send.c
 *	  One batch to Kafka: a transaction with its records and the progress, or,
 *	  for at_least_once, records that are confirmed one by one.
 *
 * sender.c ⇒ here ⇒ librdkafka. Runs in a sender's thread: nothing of
 * PostgreSQL but snprintf. What became of the batch is told by a SendResult; why, by weir_sender_trouble
 * or, for a record that Kafka will never take, in sender->error and bad_record.
 */
#include "sink/sender_internal.h"

#define TELL_AFTER		10		/* slices that a call may take before the user hears of it */
#define TOPIC_TRIES		5		/* looks at a topic that is not there: it may be being created */

/*
 * What a transactional call has said: NULL means done. Frees the error.
 * SEND_AGAIN: call it again.
 */
SendResult
weir_send_judge(Sender *sender, rd_kafka_error_t *error, int slices, const char *what)
{
	SendResult	result;

	if (error == NULL)
		return SEND_DONE;
	if (rd_kafka_error_is_retriable(error))
	{
		result = weir_sender_stopping(sender) ? SEND_STOPPED : SEND_AGAIN;
		if (slices % TELL_AFTER == TELL_AFTER - 1)
			weir_sender_trouble(sender, "%s: %s", what, rd_kafka_error_string(error));
	}
	else
	{
		weir_sender_trouble(sender, "%s: %s", what, rd_kafka_error_string(error));
		result = rd_kafka_error_txn_requires_abort(error) ? SEND_REFUSED : SEND_REOPEN;
	}
	rd_kafka_error_destroy(error);
	return result;
}

/* Will a record that failed this way fail again and again? */
static bool
is_permanent(rd_kafka_resp_err_t err)
{
	switch (err)
	{
		case RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE:
		case RD_KAFKA_RESP_ERR_INVALID_MSG:
		case RD_KAFKA_RESP_ERR_INVALID_MSG_SIZE:
		case RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP:
		case RD_KAFKA_RESP_ERR_INVALID_RECORD:
		case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
		case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
		case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION:
		case RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION:
		case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
		case RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED:
		case RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED:
		case RD_KAFKA_RESP_ERR_POLICY_VIOLATION:
			return true;
		default:
			return false;
	}
}

/* Notes why the record cannot be sent, for the user. */
static SendResult
refuse(Sender *sender, int record, const char *topic, rd_kafka_resp_err_t err)
{
	pthread_mutex_lock(&sender->mutex);
	sender->bad_record = record;
	snprintf(sender->error, SENDER_TEXT, "topic \"%s\": %s", topic, rd_kafka_err2str(err));
	pthread_mutex_unlock(&sender->mutex);
	return SEND_REFUSED;
}

/* Asks for a topic's metadata, so that sending need not wait for it in the transaction. */
static rd_kafka_resp_err_t
ask_topic(Sender *sender, rd_kafka_topic_t *rkt, int32 *partitions)
{
	const struct rd_kafka_metadata *metadata;
	rd_kafka_resp_err_t err = rd_kafka_metadata(sender->rk, 0, rkt, &metadata, SLICE_MS * 4);

	if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
		return err;
	if (metadata->topic_cnt == 1)
	{
		err = metadata->topics[0].err;
		*partitions = metadata->topics[0].partition_cnt;
	}
	else
		err = RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
	rd_kafka_metadata_destroy(metadata);
	return err;
}

/* The topic of a name, known to exist; NULL with *result. */
static KnownTopic *
find_topic(Sender *sender, const RecordField *name, int record, SendResult *result)
{
	KnownTopic	topic;
	rd_kafka_resp_err_t err;

	for (int i = 0; i < sender->nknown; i++)
	{
		if (strlen(sender->known[i].name) == name->len &&
			memcmp(sender->known[i].name, name->data, name->len) == 0)
			return &sender->known[i];
	}
	if (name->len >= sizeof(topic.name))
	{
		*result = refuse(sender, record, "(too long)", RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION);
		return NULL;
	}
	memcpy(topic.name, name->data, name->len);
	topic.name[name->len] = '\0';
	topic.partitions = 0;
	topic.rkt = rd_kafka_topic_new(sender->rk, topic.name, NULL);
	if (topic.rkt == NULL)
	{
		*result = refuse(sender, record, topic.name, RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION);
		return NULL;
	}
	for (int tries = 1;; tries++)
	{
		err = ask_topic(sender, topic.rkt, &topic.partitions);
		if (err == RD_KAFKA_RESP_ERR_NO_ERROR || weir_sender_stopping(sender) ||
			(is_permanent(err) && (err != RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART || tries >= TOPIC_TRIES)))
			break;
		if (!is_permanent(err))
			weir_sender_trouble(sender, "topic \"%s\": %s", topic.name, rd_kafka_err2str(err));
		weir_sender_pause(sender, SLICE_MS / 2);
	}
	if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		*result = is_permanent(err) ? refuse(sender, record, topic.name, err) : SEND_STOPPED;
		rd_kafka_topic_destroy(topic.rkt);
		return NULL;
	}
	if (sender->nknown == KNOWN_TOPICS)
		rd_kafka_topic_destroy(sender->known[--sender->nknown].rkt);
	sender->known[sender->nknown] = topic;
	return &sender->known[sender->nknown++];
}

static rd_kafka_headers_t *
make_headers(const RecordField *field)
{
	rd_kafka_headers_t *headers;
	const char *p = field->data;

	if (p == NULL)
		return NULL;
	headers = rd_kafka_headers_new(8);
	while (p < field->data + field->len)
	{
		RecordField name;
		RecordField value;

		p = weir_record_read_header(p, &name, &value);
		rd_kafka_header_add(headers, name.data, name.len, value.data, value.len);
	}
	return headers;
}

/* Gives one record to librdkafka. */
static rd_kafka_resp_err_t
produce_record(Sender *sender, KnownTopic *topic, const Record *record, int64 created_ms, int n)
{
	rd_kafka_resp_err_t err;
	rd_kafka_headers_t *headers = make_headers(&record->headers);
	int64_t		timestamp = record->timestamp >= 0 ? record->timestamp : created_ms;
	int32_t		partition = record->partition >= 0 ? record->partition : RD_KAFKA_PARTITION_UA;

	do
	{
		if (headers != NULL)
			err = rd_kafka_producev(sender->rk, RD_KAFKA_V_RKT(topic->rkt),
									RD_KAFKA_V_PARTITION(partition),
									RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
									RD_KAFKA_V_KEY(record->key.data, record->key.len),
									RD_KAFKA_V_VALUE((void *) record->value.data, record->value.len),
									RD_KAFKA_V_TIMESTAMP(timestamp),
									RD_KAFKA_V_HEADERS(headers),
									RD_KAFKA_V_OPAQUE((void *) (intptr_t) n), RD_KAFKA_V_END);
		else
			err = rd_kafka_producev(sender->rk, RD_KAFKA_V_RKT(topic->rkt),
									RD_KAFKA_V_PARTITION(partition),
									RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
									RD_KAFKA_V_KEY(record->key.data, record->key.len),
									RD_KAFKA_V_VALUE((void *) record->value.data, record->value.len),
									RD_KAFKA_V_TIMESTAMP(timestamp),
									RD_KAFKA_V_OPAQUE((void *) (intptr_t) n), RD_KAFKA_V_END);
		if (err == RD_KAFKA_RESP_ERR__QUEUE_FULL)
			rd_kafka_poll(sender->rk, 100);
	} while (err == RD_KAFKA_RESP_ERR__QUEUE_FULL && !weir_sender_stopping(sender));
	if (err != RD_KAFKA_RESP_ERR_NO_ERROR && headers != NULL)
		rd_kafka_headers_destroy(headers);
	return err;
}

/* A record has no topic, or librdkafka did not take it. */
static SendResult
judge_produce(Sender *sender, KnownTopic *topic, int record, rd_kafka_resp_err_t err)
{
	if (err == RD_KAFKA_RESP_ERR__FATAL || err == RD_KAFKA_RESP_ERR__FENCED)
		return SEND_REOPEN;
	if (is_permanent(err))
		return refuse(sender, record, topic->name, err);
	weir_sender_trouble(sender, "topic \"%s\": %s", topic->name, rd_kafka_err2str(err));
	return SEND_AGAIN;
}

/* Is the topic of every record there? So that a missing one is found before the transaction begins. */
static SendResult
check_topics(Sender *sender, SenderBatch *batch)
{
	const char *p = batch->data;
	RecordField name = {sender->topic, sender->topic ? (uint32) strlen(sender->topic) : 0};
	SendResult	result = SEND_DONE;

	for (int i = 0; i < batch->records && result == SEND_DONE; i++)
	{
		Record		record;

		p = weir_record_read(p, &record);
		if (record.topic.data != NULL || i == 0)
			(void) find_topic(sender, record.topic.data ? &record.topic : &name, i, &result);
	}
	return result;
}

static SendResult
produce_records(Sender *sender, SenderBatch *batch)
{
	const char *p = batch->data;
	RecordField name = {sender->topic, sender->topic ? (uint32) strlen(sender->topic) : 0};

	for (int i = 0; i < batch->records; i++)
	{
		Record		record;
		SendResult	result = SEND_DONE;
		KnownTopic *topic;
		rd_kafka_resp_err_t err;

		p = weir_record_read(p, &record);
		topic = find_topic(sender, record.topic.data ? &record.topic : &name, i, &result);
		if (topic == NULL)
			return result;
		if (record.partition >= topic->partitions)
			return refuse(sender, i, topic->name, RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION);
		err = produce_record(sender, topic, &record, batch->created_ms, i);
		if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
			return judge_produce(sender, topic, i, err);
		sender->undelivered++;
		if (i % 1000 == 999)
			rd_kafka_poll(sender->rk, 0);
	}
	return SEND_DONE;
}

static SendResult
produce_progress(Sender *sender, SenderBatch *batch)
{
	char		text[2 * SNAPSHOT_TEXT + 64];
	int			len = weir_progress_format(&batch->progress, text, sizeof(text));
	rd_kafka_resp_err_t err;

	err = rd_kafka_producev(sender->rk, RD_KAFKA_V_TOPIC(PROGRESS_TOPIC), RD_KAFKA_V_PARTITION(0),
							RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
							RD_KAFKA_V_KEY(sender->identity, strlen(sender->identity)),
							RD_KAFKA_V_VALUE(text, len),
							RD_KAFKA_V_OPAQUE(PROGRESS_MARK), RD_KAFKA_V_END);
	if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		sender->undelivered++;
		return SEND_DONE;
	}
	weir_sender_trouble(sender, "topic \"%s\": %s", PROGRESS_TOPIC, rd_kafka_err2str(err));
	return SEND_REOPEN;
}

static SendResult
commit(Sender *sender)
{
	for (int slices = 0;; slices++)
	{
		SendResult	result = weir_send_judge(sender, rd_kafka_commit_transaction(sender->rk, SLICE_MS), slices,
								   "cannot commit");

		if (result != SEND_AGAIN)
			return result;
	}
}

/* Ends a transaction that has failed; then the batch may be tried again. */
static SendResult
roll_back(Sender *sender)
{
	for (int slices = 0;; slices++)
	{
		SendResult	result = weir_send_judge(sender, rd_kafka_abort_transaction(sender->rk, SLICE_MS), slices,
								   "cannot abort");

		if (result == SEND_DONE)
			return SEND_AGAIN;
		if (result == SEND_STOPPED)
			return SEND_STOPPED;
		if (result != SEND_AGAIN)
			return SEND_REOPEN;
	}
}

/* A delivery failed for good: says which record of the batch it was. */
static SendResult
refuse_delivery(Sender *sender, SenderBatch *batch)
{
	const char *p = batch->data;
	Record		record = {0};
	char		name[256];

	for (int i = 0; i <= sender->failed_record && i < batch->records; i++)
		p = weir_record_read(p, &record);
	if (record.topic.data != NULL && record.topic.len < sizeof(name))
	{
		memcpy(name, record.topic.data, record.topic.len);
		name[record.topic.len] = '\0';
	}
	else
		snprintf(name, sizeof(name), "%s", sender->topic ? sender->topic : "");
	return refuse(sender, sender->failed_record, name, sender->failed);
}

SendResult
weir_send_transaction(Sender *sender, SenderBatch *batch)
{
	SendResult	result;
	SendResult	ended;

	result = check_topics(sender, batch);
	if (result != SEND_DONE)
		return result;
	result = weir_send_judge(sender, rd_kafka_begin_transaction(sender->rk), 0, "cannot begin a transaction");
	if (result != SEND_DONE)
		return result == SEND_STOPPED ? result : SEND_REOPEN;
	result = produce_records(sender, batch);
	if (result == SEND_DONE)
		result = produce_progress(sender, batch);
	if (result == SEND_DONE)
	{
		result = commit(sender);
		if (result != SEND_REFUSED)
			return result;
		/* the transaction must be aborted; was it a record's fault? */
		result = is_permanent(sender->failed) ? refuse_delivery(sender, batch) : SEND_AGAIN;
	}
	if (result == SEND_REOPEN || result == SEND_STOPPED)
		return result;
	ended = roll_back(sender);
	return ended == SEND_AGAIN ? result : ended;
}

/* At least once: the batch is sent when each record has been confirmed. */
SendResult
weir_send_plain(Sender *sender, SenderBatch *batch)
{
	SendResult	result;

	result = check_topics(sender, batch);
	if (result != SEND_DONE)
		return result;
	result = produce_records(sender, batch);
	for (int slices = 0; sender->undelivered > 0; slices++)
	{
		char		text[SENDER_TEXT];

		if (weir_sender_stopping(sender))
			return SEND_STOPPED;
		if (rd_kafka_fatal_error(sender->rk, text, sizeof(text)) != RD_KAFKA_RESP_ERR_NO_ERROR)
		{
			weir_sender_trouble(sender, "%s", text);
			return SEND_REOPEN;
		}
		if (slices % TELL_AFTER == TELL_AFTER - 1)
			weir_sender_trouble(sender, "the brokers have not confirmed %d records yet", sender->undelivered);
		(void) rd_kafka_flush(sender->rk, SLICE_MS);
	}
	if (result != SEND_DONE || sender->failed == RD_KAFKA_RESP_ERR_NO_ERROR)
		return result;
	if (is_permanent(sender->failed))
		return refuse_delivery(sender, batch);
	weir_sender_trouble(sender, "%s", rd_kafka_err2str(sender->failed));
	return SEND_AGAIN;
}
