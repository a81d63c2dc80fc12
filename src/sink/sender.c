/*
 * sender.c
 *	  A thread that sends batches of one sink to Kafka.
 *
 * publisher.c hands a batch over ⇒ here: one Kafka transaction with its
 * records and the progress record ⇒ Kafka; the publisher acknowledges.
 *
 * librdkafka's transactional calls block, for as long as a broker is away. So
 * each sink has a thread of its own, which sleeps on a condition variable
 * while there is nothing to send, and a broken cluster holds up nobody else. It
 * ends between two slices (SLICE_MS) of a blocking call.
 *
 * Exactly once: init_transactions fences whoever used the identity before,
 * then the progress is read, and only from there on is anything sent. A fatal error, be it that somebody
 * else came or that a transaction took too long (the code does not tell them
 * apart, kafka.md b), ends the handle; the next one begins anew with
 * reading the progress. A commit that times out is called again: it is no abort.
 *
 * Threads: functions above "the thread" run in the publisher's main thread,
 * the others in the sender's. Those touch nothing of PostgreSQL but snprintf.
 * Memory: malloc.
 */
#include "sink/sender_internal.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

/* A transaction that lasts longer is aborted by the broker; a batch takes a second or two. */
#define TRANSACTION_TIMEOUT "30000"

#define RETRY_MS		1000	/* after something failed */

/*----------------------------------------------------------------------
 * Called by the main thread
 *----------------------------------------------------------------------*/

static void *sender_main(void *arg);

/* librdkafka's threads. */
static void
log_callback(const rd_kafka_t *rk, int level, const char *fac, const char *text)
{
	Sender	   *sender = rd_kafka_opaque(rk);
	uint64		one = 1;

	/* options of a server are for consumers and producers */
	if (sender == NULL || level > 4 || strcmp(fac, "CONFWARN") == 0)
		return;
	if (weir_kafka_log_put(&sender->log, fac, text) && write(sender->wake_fd, &one, sizeof(one)) < 0)
		return;					/* full: readable already */
}

/* The sender's thread, inside poll, flush, commit and abort. */
static void
delivery_callback(rd_kafka_t *rk, const rd_kafka_message_t *msg, void *opaque)
{
	Sender	   *sender = opaque;

	sender->undelivered--;
	if (msg->_private == PROGRESS_MARK)
	{
		if (msg->err == RD_KAFKA_RESP_ERR_NO_ERROR)
			sender->progress_offset = msg->offset;
		return;
	}
	if (msg->err == RD_KAFKA_RESP_ERR_NO_ERROR ||
		msg->err == RD_KAFKA_RESP_ERR__PURGE_QUEUE || msg->err == RD_KAFKA_RESP_ERR__PURGE_INFLIGHT ||
		sender->failed != RD_KAFKA_RESP_ERR_NO_ERROR)
		return;
	sender->failed = msg->err;
	sender->failed_record = (int) (intptr_t) msg->_private;
}

static bool
make_confs(Sender *sender, List *options, char *text, size_t size)
{
	rd_kafka_conf_t *conf = sender->producer_conf = weir_kafka_conf(options, text, size);

	if (conf == NULL ||
		!weir_kafka_conf_put(conf, "enable.idempotence", "true", text, size) ||
		!weir_kafka_conf_put(conf, "partitioner", "murmur2_random", text, size) ||
		!weir_kafka_conf_put(conf, "message.max.bytes", "1000000000", text, size) ||
		!weir_kafka_conf_put(conf, "linger.ms", "1", text, size))
		return false;
	if (sender->exactly_once
		? !weir_kafka_conf_put(conf, "transactional.id", sender->identity, text, size) ||
		!weir_kafka_conf_put(conf, "transaction.timeout.ms", TRANSACTION_TIMEOUT, text, size)
		: !weir_kafka_conf_put(conf, "message.timeout.ms", "0", text, size))
		return false;
	rd_kafka_conf_set_opaque(conf, sender);
	rd_kafka_conf_set_log_cb(conf, log_callback);
	rd_kafka_conf_set_dr_msg_cb(conf, delivery_callback);

	conf = sender->consumer_conf = weir_kafka_conf(options, text, size);
	if (conf == NULL ||
		!weir_kafka_conf_put(conf, "group.id", sender->identity, text, size) ||
		!weir_kafka_conf_put(conf, "enable.auto.commit", "false", text, size) ||
		!weir_kafka_conf_put(conf, "enable.partition.eof", "true", text, size) ||
		!weir_kafka_conf_put(conf, "auto.offset.reset", "error", text, size) ||
		!weir_kafka_conf_put(conf, "isolation.level", "read_committed", text, size))
		return false;
	rd_kafka_conf_set_opaque(conf, sender);
	rd_kafka_conf_set_log_cb(conf, log_callback);
	return true;
}

/* Frees everything but a running thread. */
static void
free_sender(Sender *sender)
{
	if (sender->producer_conf != NULL)
		rd_kafka_conf_destroy(sender->producer_conf);
	if (sender->consumer_conf != NULL)
		rd_kafka_conf_destroy(sender->consumer_conf);
	weir_sender_batch_free(sender->batch);
	free(sender->identity);
	free(sender->topic);
	pthread_cond_destroy(&sender->cond);
	pthread_mutex_destroy(&sender->mutex);
	weir_kafka_log_destroy(&sender->log);
	free(sender);
}

static bool
start_thread(Sender *sender)
{
	sigset_t	all;
	sigset_t	old;
	bool		started;

	/* PostgreSQL's signal handlers stay in the main thread */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	started = pthread_create(&sender->thread, NULL, sender_main, sender) == 0;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return started;
}

Sender *
weir_sender_start(const SenderConfig *config, char **error)
{
	Sender	   *sender = calloc(1, sizeof(Sender));
	pthread_condattr_t attr;
	char		text[SENDER_TEXT] = "";

	if (sender == NULL)
	{
		*error = pstrdup("out of memory");
		return NULL;
	}
	pthread_mutex_init(&sender->mutex, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&sender->cond, &attr);
	pthread_condattr_destroy(&attr);
	weir_kafka_log_init(&sender->log);
	sender->identity = strdup(config->identity);
	sender->topic = config->topic ? strdup(config->topic) : NULL;
	sender->exactly_once = config->exactly_once;
	sender->hint = config->hint;
	sender->wake_fd = config->wake_fd;
	sender->progress_offset = -1;
	sender->bad_record = -1;
	if (!make_confs(sender, config->options, text, sizeof(text)))
	{
		free_sender(sender);
		*error = pstrdup(text);
		return NULL;
	}
	if (!start_thread(sender))
	{
		free_sender(sender);
		*error = pstrdup("could not start a thread");
		return NULL;
	}
	return sender;
}

void
weir_sender_report(Sender *sender, SenderReport *report)
{
	pthread_mutex_lock(&sender->mutex);
	report->state = sender->state;
	report->opened = sender->opened;
	report->has_progress = sender->has_progress;
	if (sender->opened)
		report->progress = sender->progress;
	report->hint = sender->hint;
	report->retries = sender->retries;
	report->bad_record = sender->bad_record;
	memcpy(report->error, sender->error, SENDER_TEXT);
	sender->opened = false;
	sender->retries = 0;
	pthread_mutex_unlock(&sender->mutex);
}

void
weir_sender_send(Sender *sender, SenderBatch *batch)
{
	pthread_mutex_lock(&sender->mutex);
	Assert(sender->state == SENDER_READY && sender->batch == NULL);
	sender->batch = batch;
	sender->state = SENDER_SENDING;
	pthread_cond_signal(&sender->cond);
	pthread_mutex_unlock(&sender->mutex);
}

void
weir_sender_next(Sender *sender)
{
	pthread_mutex_lock(&sender->mutex);
	if (sender->state == SENDER_SENT)
		sender->state = SENDER_READY;
	pthread_mutex_unlock(&sender->mutex);
}

void
weir_sender_stop(Sender *sender)
{
	pthread_mutex_lock(&sender->mutex);
	sender->stop = true;
	pthread_cond_signal(&sender->cond);
	pthread_mutex_unlock(&sender->mutex);
	pthread_join(sender->thread, NULL);
	free_sender(sender);
}

bool
weir_sender_log(Sender *sender, char *text)
{
	return weir_kafka_log_get(&sender->log, text);
}

SenderBatch *
weir_sender_batch_create(void)
{
	return calloc(1, sizeof(SenderBatch));
}

bool
weir_sender_batch_add(SenderBatch *batch, const char *data, size_t len, int records)
{
	char	   *grown = realloc(batch->data, batch->len + len);

	if (grown == NULL)
		return false;
	batch->data = grown;
	memcpy(batch->data + batch->len, data, len);
	batch->len += len;
	batch->records += records;
	return true;
}

void
weir_sender_batch_free(SenderBatch *batch)
{
	if (batch == NULL)
		return;
	free(batch->data);
	free(batch);
}

/*----------------------------------------------------------------------
 * The thread
 *----------------------------------------------------------------------*/

bool
weir_sender_stopping(Sender *sender)
{
	bool		stop;

	pthread_mutex_lock(&sender->mutex);
	stop = sender->stop;
	pthread_mutex_unlock(&sender->mutex);
	return stop;
}

static void
wake_main(Sender *sender)
{
	uint64		one = 1;

	if (write(sender->wake_fd, &one, sizeof(one)) < 0)
		return;					/* full: readable already */
}

/* Says what the sink is waiting for. */
void
weir_sender_trouble(Sender *sender, const char *fmt,...)
{
	char		text[SENDER_TEXT];
	va_list		args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	pthread_mutex_lock(&sender->mutex);
	sender->retries++;
	memcpy(sender->error, text, sizeof(text));
	pthread_mutex_unlock(&sender->mutex);
	wake_main(sender);
}

static void
set_state(Sender *sender, SenderState state)
{
	pthread_mutex_lock(&sender->mutex);
	sender->state = state;
	if (state == SENDER_SENT || state == SENDER_READY)
		sender->error[0] = '\0';
	pthread_mutex_unlock(&sender->mutex);
	if (state != SENDER_OPENING)
		wake_main(sender);
}

void
weir_sender_pause(Sender *sender, int ms)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += ms / 1000;
	until.tv_nsec += (ms % 1000) * 1000000L;
	if (until.tv_nsec >= 1000000000L)
	{
		until.tv_sec++;
		until.tv_nsec -= 1000000000L;
	}
	pthread_mutex_lock(&sender->mutex);
	while (!sender->stop &&
		   pthread_cond_timedwait(&sender->cond, &sender->mutex, &until) != ETIMEDOUT)
		;
	pthread_mutex_unlock(&sender->mutex);
}

static void
close_producer(Sender *sender)
{
	for (int i = 0; i < sender->nknown; i++)
		rd_kafka_topic_destroy(sender->known[i].rkt);
	sender->nknown = 0;
	sender->progress_ready = false;
	if (sender->rk != NULL)
	{
		/* a transaction under way must not be held up by what nobody wants any more */
		rd_kafka_purge(sender->rk, RD_KAFKA_PURGE_F_QUEUE | RD_KAFKA_PURGE_F_INFLIGHT);
		(void) weir_kafka_destroy(sender->rk);
	}
	sender->rk = NULL;
}

static bool
init_transactions(Sender *sender)
{
	for (int slices = 0;; slices++)
	{
		SendResult	result = weir_send_judge(sender, rd_kafka_init_transactions(sender->rk, SLICE_MS), slices,
								   "cannot begin");

		if (result == SEND_DONE)
			return true;
		if (result != SEND_AGAIN)
			return false;
	}
}

/* Connects, fences, reads the progress; in that order. */
static bool
open_producer(Sender *sender)
{
	char		text[SENDER_TEXT];
	rd_kafka_conf_t *conf = rd_kafka_conf_dup(sender->producer_conf);
	SinkProgress *progress = &sender->progress;
	bool		found = false;
	int64		hint = sender->hint;

	set_state(sender, SENDER_OPENING);
	if (sender->single)
		rd_kafka_conf_set(conf, "batch.num.messages", "1", NULL, 0);
	sender->rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, text, sizeof(text));
	if (sender->rk == NULL)
	{
		rd_kafka_conf_destroy(conf);
		weir_sender_trouble(sender, "%s", text);
		return false;
	}
	if (sender->exactly_once)
	{
		while (!weir_progress_topic(sender))
		{
			if (weir_sender_stopping(sender))
				return false;
			weir_sender_pause(sender, SLICE_MS / 2);
		}
		if (!init_transactions(sender) ||
			!weir_progress_read(sender, progress, &found, &hint))
			return false;
	}
	pthread_mutex_lock(&sender->mutex);
	sender->opened = true;
	sender->has_progress = found;
	sender->hint = hint;
	weir_sender_batch_free(sender->batch);
	sender->batch = NULL;
	pthread_mutex_unlock(&sender->mutex);
	set_state(sender, SENDER_READY);
	return true;
}

/* Waits for a batch; NULL: it is to stop. The batch stays in sender->batch. */
static SenderBatch *
next_batch(Sender *sender)
{
	SenderBatch *batch;

	pthread_mutex_lock(&sender->mutex);
	while (!sender->stop && (sender->batch == NULL || sender->state != SENDER_SENDING))
		pthread_cond_wait(&sender->cond, &sender->mutex);
	batch = sender->stop ? NULL : sender->batch;
	pthread_mutex_unlock(&sender->mutex);
	return batch;
}

/* Sends the batch in hand, whatever it takes. */
static void
send_batch(Sender *sender, SenderBatch *batch)
{
	SendResult	result;

	for (;;)
	{
		sender->failed = RD_KAFKA_RESP_ERR_NO_ERROR;
		sender->failed_record = -1;
		sender->undelivered = 0;
		sender->progress_offset = -1;
		result = sender->exactly_once ? weir_send_transaction(sender, batch) : weir_send_plain(sender, batch);
		/* a broker refuses a whole batch of records for its size: which of them is too large? */
		if (result == SEND_REFUSED && sender->failed == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE &&
			batch->records > 1 && !sender->single)
		{
			sender->single = true;
			result = SEND_REOPEN;
		}
		if (result != SEND_AGAIN)
			break;
		weir_sender_pause(sender, RETRY_MS);
		if (weir_sender_stopping(sender))
			return;
	}
	switch (result)
	{
		case SEND_DONE:
			pthread_mutex_lock(&sender->mutex);
			sender->batch = NULL;
			if (sender->progress_offset >= 0)
				sender->hint = sender->progress_offset;
			pthread_mutex_unlock(&sender->mutex);
			weir_sender_batch_free(batch);
			set_state(sender, SENDER_SENT);
			break;
		case SEND_REFUSED:
			set_state(sender, SENDER_REFUSED);
			break;
		case SEND_REOPEN:
			close_producer(sender);
			break;
		default:
			break;
	}
}

static void *
sender_main(void *arg)
{
	Sender	   *sender = arg;

	while (!weir_sender_stopping(sender))
	{
		SenderBatch *batch;

		if (sender->rk == NULL && !open_producer(sender))
		{
			close_producer(sender);
			weir_sender_pause(sender, RETRY_MS);
			continue;
		}
		batch = next_batch(sender);
		if (batch != NULL)
			send_batch(sender, batch);
	}
	close_producer(sender);
	return NULL;
}
