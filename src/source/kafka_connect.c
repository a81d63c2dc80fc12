/*
 * kafka_connect.c
 *	  From options to a librdkafka configuration, and the end of a handle.
 *
 * Flow: kafka_options.c => this => kafka_client.c (and later the producer).
 * Main thread of any process. The functions raise nothing: a text says what
 * went wrong, and the configuration is freed before they return without it.
 *
 * rd_kafka_new starts threads. They block all signals, so PostgreSQL's
 * handlers stay in the main thread; but they do not survive a fork, so no
 * handle may be made in the postmaster.
 */
#include "source/kafka_internal.h"

#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <time.h>

/* Waiting longer than this for librdkafka's threads to end would hold up a shutdown. */
#define DESTROY_WAIT_S 5

/* What weir prefers where neither server nor mapping say something. */
static const char *const defaults[][2] = {
	{"client.id", "weir"},
	{"socket.keepalive.enable", "true"},
	{"reconnect.backoff.max.ms", "2000"},	/* librdkafka's own 10 s delay the resume after an outage */
	{"log.connection.close", "false"},
	{"log.thread.name", "false"},
};

/* weir_kafka_option finds the value of an option, by librdkafka's name; NULL if it is not given. */
const char *
weir_kafka_option(List *options, const char *name)
{
	ListCell   *lc;

	foreach(lc, options)
	{
		KafkaOption *option = (KafkaOption *) lfirst(lc);

		if (strcmp(option->name, name) == 0)
			return option->value;
	}
	return NULL;
}

/* weir_kafka_conf_put sets one property; false with text if librdkafka refuses. */
bool
weir_kafka_conf_put(rd_kafka_conf_t *conf, const char *name, const char *value, char *text, Size size)
{
	return rd_kafka_conf_set(conf, name, value, text, size) == RD_KAFKA_CONF_OK;
}

/*
 * weir_kafka_conf makes a configuration of options (List of KafkaOption*).
 * NULL with text on failure; the text never has a value in it.
 */
rd_kafka_conf_t *
weir_kafka_conf(List *options, char *text, Size size)
{
	rd_kafka_conf_t *conf;
	const char *protocol = weir_kafka_option(options, "security.protocol");
	ListCell   *lc;

	/* Without a mechanism librdkafka takes GSSAPI and runs kinit. */
	if (protocol != NULL && pg_strncasecmp(protocol, "sasl", 4) == 0 &&
		weir_kafka_option(options, "sasl.mechanisms") == NULL)
	{
		snprintf(text, size, "option \"sasl.mechanism\" is missing");
		return NULL;
	}

	conf = rd_kafka_conf_new();
	for (int i = 0; i < lengthof(defaults); i++)
		(void) rd_kafka_conf_set(conf, defaults[i][0], defaults[i][1], NULL, 0);
	foreach(lc, options)
	{
		KafkaOption *option = (KafkaOption *) lfirst(lc);

		if (rd_kafka_conf_set(conf, option->name, option->value, NULL, 0) != RD_KAFKA_CONF_OK)
		{
			snprintf(text, size, "librdkafka %s does not take the value of option \"%s\"",
					 rd_kafka_version_str(), option->name);
			rd_kafka_conf_destroy(conf);
			return NULL;
		}
	}
	return conf;
}

/*
 * Destroying waits for librdkafka's threads, and one of these may be stuck
 * in the resolver for as long as resolv.conf says. So a thread does it, and
 * we give up waiting (never the destroying) after DESTROY_WAIT_S.
 */
typedef struct Destroyer
{
	pthread_mutex_t mutex;
	pthread_cond_t cond;
	rd_kafka_t *rk;
	bool		done;			/* the thread is through */
	bool		abandoned;		/* nobody waits: the thread frees this */
} Destroyer;

static void
free_destroyer(Destroyer *destroyer)
{
	pthread_cond_destroy(&destroyer->cond);
	pthread_mutex_destroy(&destroyer->mutex);
	free(destroyer);
}

static void *
destroyer_main(void *arg)
{
	Destroyer  *destroyer = arg;
	bool		abandoned;

	rd_kafka_destroy_flags(destroyer->rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);

	pthread_mutex_lock(&destroyer->mutex);
	destroyer->done = true;
	abandoned = destroyer->abandoned;
	pthread_cond_signal(&destroyer->cond);
	pthread_mutex_unlock(&destroyer->mutex);
	if (abandoned)
		free_destroyer(destroyer);
	return NULL;
}

/* Starts destroyer_main, detached and with all signals blocked. */
static bool
start_destroyer(Destroyer *destroyer)
{
	pthread_t	thread;
	sigset_t	all;
	sigset_t	old;
	bool		started;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	started = pthread_create(&thread, NULL, destroyer_main, destroyer) == 0;
	if (started)
		pthread_detach(thread);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return started;
}

/*
 * weir_kafka_destroy ends a handle and its threads, without leaving a group
 * or asking a broker. Queues and messages of it must be gone. Returns after
 * DESTROY_WAIT_S at the latest; false: its threads are still alive.
 */
bool
weir_kafka_destroy(rd_kafka_t *rk)
{
	Destroyer  *destroyer = calloc(1, sizeof(Destroyer));
	struct timespec until;
	bool		done;

	if (destroyer == NULL)
	{
		rd_kafka_destroy_flags(rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
		return true;
	}
	pthread_mutex_init(&destroyer->mutex, NULL);
	pthread_cond_init(&destroyer->cond, NULL);
	destroyer->rk = rk;
	if (!start_destroyer(destroyer))
	{
		rd_kafka_destroy_flags(rk, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
		free_destroyer(destroyer);
		return true;
	}

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += DESTROY_WAIT_S;
	pthread_mutex_lock(&destroyer->mutex);
	while (!destroyer->done &&
		   pthread_cond_timedwait(&destroyer->cond, &destroyer->mutex, &until) != ETIMEDOUT)
		;
	done = destroyer->done;
	destroyer->abandoned = !done;
	pthread_mutex_unlock(&destroyer->mutex);
	if (done)
		free_destroyer(destroyer);
	return done;
}

/*
 * weir_kafka_tune_malloc tells malloc to keep memory instead of giving it
 * back after each batch: saves a quarter of librdkafka's CPU time. Once per
 * process; only in the worker, whose memory is bounded by weir.memory.
 */
void
weir_kafka_tune_malloc(void)
{
#ifdef __GLIBC__
	static bool done = false;

	if (done)
		return;
	done = true;
	mallopt(M_MMAP_THRESHOLD, 32 * 1024 * 1024);
	mallopt(M_TRIM_THRESHOLD, 256 * 1024 * 1024);
	mallopt(M_TOP_PAD, 16 * 1024 * 1024);
#endif
}
