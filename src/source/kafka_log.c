/*
 * kafka_log.c
 *	  A small ring that brings librdkafka's log lines to the main thread.
 *
 * librdkafka's threads put, PostgreSQL's main thread gets; a mutex is
 * between them. The ring has a rate limit of its own, because librdkafka
 * repeats itself some 30 times a second while a broker is away.
 * Touches nothing of PostgreSQL (its snprintf is reentrant) and allocates nothing.
 */
#include "source/kafka_internal.h"

#include <time.h>

#define RING lengthof(((KafkaLog *) 0)->lines)

/* weir_kafka_now_ms: a clock that nobody sets. Any thread. */
int64
weir_kafka_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void
weir_kafka_log_init(KafkaLog *log)
{
	memset(log, 0, sizeof(*log));
	pthread_mutex_init(&log->mutex, NULL);
}

void
weir_kafka_log_destroy(KafkaLog *log)
{
	pthread_mutex_destroy(&log->mutex);
}

/* Appends a line to the ring; the mutex is held and there is room. */
static char *
append_line(KafkaLog *log)
{
	char	   *line = log->lines[(log->head + log->count) % RING];

	log->count++;
	return line;
}

/*
 * weir_kafka_log_put takes a line, or counts it as suppressed; true: taken.
 * Any thread. fac: librdkafka's name for the kind of line, or NULL.
 */
bool
weir_kafka_log_put(KafkaLog *log, const char *fac, const char *text)
{
	bool		taken = false;
	int64		now = weir_kafka_now_ms();

	pthread_mutex_lock(&log->mutex);
	if (now - log->window_start >= KAFKA_LOG_WINDOW_MS)
	{
		log->window_start = now;
		log->in_window = 0;
		if (log->suppressed > 0 && log->count < RING)
		{
			snprintf(append_line(log), KAFKA_TEXT_SIZE,
					 "%lld more messages of librdkafka were suppressed",
					 (long long) log->suppressed);
			log->suppressed = 0;
		}
	}
	if (log->in_window < KAFKA_LOG_LINES && log->count < RING)
	{
		if (fac != NULL)
			snprintf(append_line(log), KAFKA_TEXT_SIZE, "%s: %s", fac, text);
		else
			snprintf(append_line(log), KAFKA_TEXT_SIZE, "%s", text);
		log->in_window++;
		taken = true;
	}
	else
		log->suppressed++;
	pthread_mutex_unlock(&log->mutex);
	return taken;
}

/* weir_kafka_log_get copies the oldest line to text[KAFKA_TEXT_SIZE]; false: none. */
bool
weir_kafka_log_get(KafkaLog *log, char *text)
{
	bool		found = false;

	pthread_mutex_lock(&log->mutex);
	if (log->count > 0)
	{
		memcpy(text, log->lines[log->head], KAFKA_TEXT_SIZE);
		log->head = (log->head + 1) % RING;
		log->count--;
		found = true;
	}
	pthread_mutex_unlock(&log->mutex);
	return found;
}
