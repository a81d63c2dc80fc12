/*
 * produce.c
 *	  Makes up orders, transactions or clicks and sends them to the topic of that name.
 *
 *	  produce BOOTSTRAP orders|transactions|clicks COUNT PER_SECOND
 *
 * COUNT 0: on and on, until SIGTERM or SIGINT. PER_SECOND 0: as fast as it goes.
 * Messages are JSON, dated when they are sent. At the end it says how many
 * were sent, and how many of the transactions are paid.
 *
 * Build: cc -O2 -o produce produce.c -lrdkafka
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <librdkafka/rdkafka.h>

#define FLUSH_MS 60000
#define lengthof(array) ((int) (sizeof(array) / sizeof((array)[0])))

static volatile sig_atomic_t stop_asked = 0;
static long failed_deliveries = 0;
static long paid = 0;

static void
on_signal(int sig)
{
	(void) sig;
	stop_asked = 1;
}

static void
on_delivery(rd_kafka_t *rk, const rd_kafka_message_t *msg, void *opaque)
{
	(void) rk;
	(void) opaque;
	if (msg->err)
		failed_deliveries++;
}

static int
below(int n)
{
	return (int) (lrand48() % n);
}

/* The clock, as ISO 8601 with milliseconds. */
static const char *
now_text(void)
{
	static char text[64];
	struct timespec now;
	struct tm	tm;
	size_t		len;

	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	len = strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(text + len, sizeof(text) - len, ".%03dZ", (int) (now.tv_nsec / 1000000));
	return text;
}

/* Each of these writes message number i into value, and its key, if it has one, into key. */

static void
make_order(char *key, char *value, size_t size, long i)
{
	static const char *const cities[] = {"Ankara", "Antalya", "Bursa", "Istanbul", "Izmir", "Konya", "Trabzon"};
	int			cents = below(20000) + 100;

	(void) key;
	snprintf(value, size, "{\"order_id\": %ld, \"city\": \"%s\", \"amount\": %d.%02d, \"ordered_at\": \"%s\"}",
			 i, cities[below(lengthof(cities))], cents / 100, cents % 100, now_text());
}

/* User k always pays 10 k, user 0 pays 100; about half of the transactions are paid. */
static void
make_transaction(char *key, char *value, size_t size, long i)
{
	int			user = below(10);
	int			is_paid = below(2);

	paid += is_paid;
	snprintf(key, size, "%d", user);
	snprintf(value, size, "{\"transaction_id\": %ld, \"user_id\": %d, \"amount\": %d, \"status\": \"%s\", \"made_at\": \"%s\"}",
			 i, user, user == 0 ? 100 : 10 * user, is_paid ? "paid" : "unpaid", now_text());
}

static void
make_click(char *key, char *value, size_t size, long i)
{
	static const char *const types[] = {"page_view", "search", "add_to_cart", "purchase"};
	static const char *const cities[] = {"Ankara", "Bursa", "Istanbul", "Izmir"};
	static const char *const devices[] = {"phone", "tablet", "desktop"};

	(void) i;
	snprintf(key, size, "session-%d", below(1000));
	snprintf(value, size, "{\"event_type\": \"%s\", \"at\": \"%s\", \"properties\": "
			 "{\"session\": \"%s\", \"city\": \"%s\", \"device\": \"%s\", \"price\": %d}}",
			 types[below(lengthof(types))], now_text(), key, cities[below(lengthof(cities))],
			 devices[below(lengthof(devices))], below(500) + 1);
}

static const struct
{
	const char *name;
	void		(*make) (char *key, char *value, size_t size, long i);
}			kinds[] = {
	{"orders", make_order}, {"transactions", make_transaction}, {"clicks", make_click},
};

/* Lets librdkafka work until message number n is due; it returns at once if that was before. */
static void
await_turn(rd_kafka_t *rk, const struct timespec *start, long n, double per_second)
{
	while (!stop_asked)
	{
		struct timespec now;
		double		ahead;

		clock_gettime(CLOCK_MONOTONIC, &now);
		ahead = n / per_second - (now.tv_sec - start->tv_sec) - (now.tv_nsec - start->tv_nsec) / 1e9;
		if (ahead < 0.001)
			break;
		rd_kafka_poll(rk, ahead > 0.1 ? 100 : (int) (ahead * 1000));
	}
}

static void
send_message(rd_kafka_t *rk, const char *topic, const char *key, const char *value)
{
	rd_kafka_resp_err_t err;

	do
	{
		err = rd_kafka_producev(rk, RD_KAFKA_V_TOPIC(topic), RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
								RD_KAFKA_V_KEY(key[0] ? key : NULL, strlen(key)),
								RD_KAFKA_V_VALUE((void *) value, strlen(value)), RD_KAFKA_V_END);
		rd_kafka_poll(rk, err == RD_KAFKA_RESP_ERR__QUEUE_FULL ? 100 : 0);
	} while (err == RD_KAFKA_RESP_ERR__QUEUE_FULL);
	if (err)
	{
		fprintf(stderr, "produce: %s\n", rd_kafka_err2str(err));
		exit(1);
	}
}

static rd_kafka_t *
open_producer(const char *bootstrap)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	rd_kafka_t *rk = NULL;
	char		why[512];

	rd_kafka_conf_set_dr_msg_cb(conf, on_delivery);
	if (rd_kafka_conf_set(conf, "bootstrap.servers", bootstrap, why, sizeof(why)) == RD_KAFKA_CONF_OK &&
		rd_kafka_conf_set(conf, "enable.idempotence", "true", why, sizeof(why)) == RD_KAFKA_CONF_OK)
		rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, why, sizeof(why));
	if (rk == NULL)
	{
		fprintf(stderr, "produce: %s\n", why);
		exit(1);
	}
	return rk;
}

int
main(int argc, char **argv)
{
	rd_kafka_t *rk;
	struct timespec start;
	long		count;
	double		per_second;
	long		sent = 0;
	int			kind;

	for (kind = 0; argc == 5 && kind < lengthof(kinds) && strcmp(argv[2], kinds[kind].name) != 0; kind++)
		;
	if (argc != 5 || kind == lengthof(kinds))
	{
		fprintf(stderr, "usage: produce BOOTSTRAP orders|transactions|clicks COUNT PER_SECOND\n");
		return 2;
	}
	count = atol(argv[3]);
	per_second = atof(argv[4]);
	signal(SIGTERM, on_signal);
	signal(SIGINT, on_signal);
	rk = open_producer(argv[1]);
	clock_gettime(CLOCK_MONOTONIC, &start);
	srand48(start.tv_nsec ^ start.tv_sec);

	for (sent = 0; (count == 0 || sent < count) && !stop_asked; sent++)
	{
		char		key[512] = "";
		char		value[512];

		if (per_second > 0)
			await_turn(rk, &start, sent, per_second);
		kinds[kind].make(key, value, sizeof(value), sent + 1);
		send_message(rk, argv[2], key, value);
	}
	if (rd_kafka_flush(rk, FLUSH_MS) || failed_deliveries > 0)
	{
		fprintf(stderr, "produce: not all messages could be delivered\n");
		return 1;
	}
	printf("%ld %s sent", sent, argv[2]);
	if (strcmp(argv[2], "transactions") == 0)
		printf(", %ld of them paid", paid);
	printf("\n");
	rd_kafka_destroy(rk);
	return 0;
}
