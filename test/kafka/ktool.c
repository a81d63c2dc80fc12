/*
 * ktool.c
 *	  What the tests do to a Kafka broker besides reading from it: wait for it,
 *	  make, grow, trim and delete topics, put messages in (in transactions
 *	  too), and make test data at full speed. One short-lived process per act.
 *
 *	  ktool BOOTSTRAP ready [SECONDS]
 *	  ktool BOOTSTRAP create TOPIC PARTITIONS [NAME=VALUE...]
 *	  ktool BOOTSTRAP delete TOPIC              returns when metadata no longer shows it
 *	  ktool BOOTSTRAP grow TOPIC PARTITIONS
 *	  ktool BOOTSTRAP trim TOPIC PARTITION OFFSET      deletes records before OFFSET
 *	  ktool BOOTSTRAP ends TOPIC                "partition low high", a line each
 *	  ktool BOOTSTRAP cat TOPIC [full]          what a read_committed consumer gets up to the end:
 *	     "partition TAB key TAB value", \N for null; full: also timestamp and headers a=b,c=d
 *	  ktool BOOTSTRAP age TOPIC COUNT [SKIP]    reads COUNT records of partition 0 behind the first SKIP, as they come;
 *	     prints the median, 99th percentile and highest age in ms, by their timestamps
 *	  ktool BOOTSTRAP put TOPIC [options] < lines
 *	     -p N      into partition N (default: by key, else spread)
 *	     -P        lines begin with "partition TAB"
 *	     -k        lines go on with "key TAB"
 *	     -H N=V    a header (may be repeated)
 *	     -t MS     timestamp of all messages
 *	     -x ID     in one transaction of this transactional.id
 *	     -a        and abort it
 *	     A value of \N is null.
 *	  ktool BOOTSTRAP fill TOPIC PARTITIONS COUNT [-f FIRST] [-g GROUPS] [-r PER_SECOND]
 *	     COUNT orders numbered from FIRST (default 0), order i in partition i % PARTITIONS.
 *	     test/t/lib/WeirTest.pm has the same numbers as SQL (fill_sql).
 *	     COUNT 0: on and on, with the time now, until a signal.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <librdkafka/rdkafka.h>

#define MAX_HEADERS		16
#define TIMEOUT_MS		60000

static const char *bootstrap;
static char errstr[512];
static long failed_deliveries;
static volatile sig_atomic_t stop_asked;

static void __attribute__((noreturn, format(printf, 1, 2)))
die(const char *fmt,...)
{
	va_list		args;

	va_start(args, fmt);
	fputs("ktool: ", stderr);
	vfprintf(stderr, fmt, args);
	fputc('\n', stderr);
	va_end(args);
	exit(1);
}

static void
conf_set(rd_kafka_conf_t *conf, const char *name, const char *value)
{
	if (rd_kafka_conf_set(conf, name, value, errstr, sizeof(errstr)) != RD_KAFKA_CONF_OK)
		die("%s", errstr);
}

static void
delivery_report(rd_kafka_t *rk, const rd_kafka_message_t *msg, void *opaque)
{
	(void) rk;
	(void) opaque;
	if (msg->err)
	{
		if (failed_deliveries++ == 0)
			fprintf(stderr, "ktool: delivery failed: %s\n", rd_kafka_err2str(msg->err));
	}
}

static void
be_quiet(const rd_kafka_t *rk, int level, const char *facility, const char *text)
{
	(void) rk;
	(void) level;
	(void) facility;
	(void) text;
}

static rd_kafka_t *
open_producer(const char *transactional_id)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	rd_kafka_t *rk;

	conf_set(conf, "bootstrap.servers", bootstrap);
	conf_set(conf, "reconnect.backoff.max.ms", "200");
	conf_set(conf, "queue.buffering.max.messages", "200000");
	conf_set(conf, "linger.ms", "5");
	conf_set(conf, "message.max.bytes", "1000000");
	conf_set(conf, "batch.size", "500000");
	conf_set(conf, "sticky.partitioning.linger.ms", "0");
	conf_set(conf, "topic.metadata.refresh.fast.interval.ms", "50");
	/* a request that is sent again must not overtake: order in a partition decides what is late */
	conf_set(conf, "enable.idempotence", "true");
	if (transactional_id)
		conf_set(conf, "transactional.id", transactional_id);
	rd_kafka_conf_set_dr_msg_cb(conf, delivery_report);
	rd_kafka_conf_set_log_cb(conf, be_quiet);
	rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, errstr, sizeof(errstr));
	if (!rk)
		die("%s", errstr);
	return rk;
}

/* Partitions of a topic; 0: there is no such topic. Waits for a broker. */
static int
count_partitions(rd_kafka_t *rk, const char *topic)
{
	const struct rd_kafka_metadata *md;
	rd_kafka_topic_t *rkt = rd_kafka_topic_new(rk, topic, NULL);
	rd_kafka_resp_err_t err = rd_kafka_metadata(rk, 0, rkt, &md, TIMEOUT_MS);
	int			n;

	if (err)
		die("metadata of %s: %s", topic, rd_kafka_err2str(err));
	n = md->topic_cnt == 1 && !md->topics[0].err ? md->topics[0].partition_cnt : 0;
	for (int i = 0; i < n; i++)
		if (md->topics[0].partitions[i].leader < 0)
			n = 0;				/* not all have a leader yet */
	rd_kafka_metadata_destroy(md);
	rd_kafka_topic_destroy(rkt);
	return n;
}

/* Asks again until the topic has (at least) this many partitions; 0: is gone. */
static void
await_partitions(rd_kafka_t *rk, const char *topic, int want)
{
	time_t		deadline = time(NULL) + 60;
	int			n;

	while ((n = count_partitions(rk, topic)) != want)
	{
		if (time(NULL) > deadline)
			die("topic %s has %d partitions, not %d", topic, n, want);
		rd_kafka_poll(rk, 20);
	}
}

static void
cmd_ready(int argc, char **argv)
{
	const struct rd_kafka_metadata *md;
	rd_kafka_t *rk = open_producer(NULL);
	int			seconds = argc > 0 ? atoi(argv[0]) : 60;
	rd_kafka_resp_err_t err = rd_kafka_metadata(rk, 0, NULL, &md, seconds * 1000);

	if (err)
		die("%s is not ready after %d s: %s", bootstrap, seconds, rd_kafka_err2str(err));
	rd_kafka_metadata_destroy(md);
	rd_kafka_destroy(rk);
}

/* Waits for the result of an admin call; errors of single topics are fatal. */
static void
admin_finish(rd_kafka_queue_t *queue)
{
	rd_kafka_event_t *event = rd_kafka_queue_poll(queue, TIMEOUT_MS);
	const rd_kafka_topic_result_t **results = NULL;
	size_t		n = 0;

	if (!event)
		die("no answer from the broker");
	if (rd_kafka_event_error(event))
		die("%s", rd_kafka_event_error_string(event));
	switch (rd_kafka_event_type(event))
	{
		case RD_KAFKA_EVENT_CREATETOPICS_RESULT:
			results = rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event), &n);
			break;
		case RD_KAFKA_EVENT_DELETETOPICS_RESULT:
			results = rd_kafka_DeleteTopics_result_topics(rd_kafka_event_DeleteTopics_result(event), &n);
			break;
		case RD_KAFKA_EVENT_CREATEPARTITIONS_RESULT:
			results = rd_kafka_CreatePartitions_result_topics(rd_kafka_event_CreatePartitions_result(event), &n);
			break;
		default:
			break;
	}
	for (size_t i = 0; i < n; i++)
		if (rd_kafka_topic_result_error(results[i]))
			die("%s: %s", rd_kafka_topic_result_name(results[i]),
				rd_kafka_topic_result_error_string(results[i]) ?
				rd_kafka_topic_result_error_string(results[i]) : "failed");
	rd_kafka_event_destroy(event);
}

static void
cmd_create(int argc, char **argv)
{
	rd_kafka_t *rk = open_producer(NULL);
	rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
	rd_kafka_NewTopic_t *topic;

	if (argc < 2)
		die("create TOPIC PARTITIONS [NAME=VALUE...]");
	topic = rd_kafka_NewTopic_new(argv[0], atoi(argv[1]), 1, errstr, sizeof(errstr));
	if (!topic)
		die("%s", errstr);
	for (int i = 2; i < argc; i++)
	{
		char	   *eq = strchr(argv[i], '=');

		if (!eq)
			die("not NAME=VALUE: %s", argv[i]);
		*eq = '\0';
		rd_kafka_NewTopic_set_config(topic, argv[i], eq + 1);
	}
	rd_kafka_CreateTopics(rk, &topic, 1, NULL, queue);
	admin_finish(queue);
	await_partitions(rk, argv[0], atoi(argv[1]));
	rd_kafka_NewTopic_destroy(topic);
	rd_kafka_queue_destroy(queue);
	rd_kafka_destroy(rk);
}

static void
cmd_delete(int argc, char **argv)
{
	rd_kafka_t *rk = open_producer(NULL);
	rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
	rd_kafka_DeleteTopic_t *topic;

	if (argc != 1)
		die("delete TOPIC");
	topic = rd_kafka_DeleteTopic_new(argv[0]);
	rd_kafka_DeleteTopics(rk, &topic, 1, NULL, queue);
	admin_finish(queue);
	await_partitions(rk, argv[0], 0);
	rd_kafka_DeleteTopic_destroy(topic);
	rd_kafka_queue_destroy(queue);
	rd_kafka_destroy(rk);
}

static void
cmd_grow(int argc, char **argv)
{
	rd_kafka_t *rk = open_producer(NULL);
	rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
	rd_kafka_NewPartitions_t *parts;

	if (argc != 2)
		die("grow TOPIC PARTITIONS");
	parts = rd_kafka_NewPartitions_new(argv[0], atoi(argv[1]), errstr, sizeof(errstr));
	if (!parts)
		die("%s", errstr);
	rd_kafka_CreatePartitions(rk, &parts, 1, NULL, queue);
	admin_finish(queue);
	await_partitions(rk, argv[0], atoi(argv[1]));
	rd_kafka_NewPartitions_destroy(parts);
	rd_kafka_queue_destroy(queue);
	rd_kafka_destroy(rk);
}

static void
cmd_trim(int argc, char **argv)
{
	rd_kafka_t *rk = open_producer(NULL);
	rd_kafka_queue_t *queue = rd_kafka_queue_new(rk);
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
	rd_kafka_DeleteRecords_t *del;

	if (argc != 3)
		die("trim TOPIC PARTITION OFFSET");
	rd_kafka_topic_partition_list_add(list, argv[0], atoi(argv[1]))->offset = atoll(argv[2]);
	del = rd_kafka_DeleteRecords_new(list);
	rd_kafka_DeleteRecords(rk, &del, 1, NULL, queue);
	admin_finish(queue);
	rd_kafka_DeleteRecords_destroy(del);
	rd_kafka_topic_partition_list_destroy(list);
	rd_kafka_queue_destroy(queue);
	rd_kafka_destroy(rk);
}

static void
cmd_ends(int argc, char **argv)
{
	rd_kafka_t *rk = open_producer(NULL);
	int			n;

	if (argc != 1)
		die("ends TOPIC");
	n = count_partitions(rk, argv[0]);
	for (int p = 0; p < n; p++)
	{
		int64_t		low,
					high;
		rd_kafka_resp_err_t err = rd_kafka_query_watermark_offsets(rk, argv[0], p, &low, &high, TIMEOUT_MS);

		if (err)
			die("%s [%d]: %s", argv[0], p, rd_kafka_err2str(err));
		printf("%d %lld %lld\n", p, (long long) low, (long long) high);
	}
	rd_kafka_destroy(rk);
}

/* Flushes, and fails if anything could not be delivered. */
static void
finish_producer(rd_kafka_t *rk)
{
	rd_kafka_resp_err_t err = rd_kafka_flush(rk, TIMEOUT_MS);

	if (err)
		die("flush: %s", rd_kafka_err2str(err));
	if (failed_deliveries)
		die("%ld messages could not be delivered", failed_deliveries);
	rd_kafka_destroy(rk);
}

static void
check_kafka_error(rd_kafka_error_t *error)
{
	if (error)
		die("%s", rd_kafka_error_string(error));
}

typedef struct PutOptions
{
	int			partition;
	int			partition_first;	/* lines begin with the partition */
	int			with_key;
	int			abort;
	const char *transactional_id;
	long long	timestamp;			/* 0: now */
	int			nheaders;
	char	   *headers[MAX_HEADERS];
} PutOptions;

/* Cuts the field up to the next tab off the front of *line. */
static char *
cut_field(char **line)
{
	char	   *field = *line;
	char	   *tab = strchr(field, '\t');

	if (!tab)
		die("line without tab: %s", field);
	*tab = '\0';
	*line = tab + 1;
	return field;
}

static void
put_line(rd_kafka_t *rk, const char *topic, char *line, size_t len, PutOptions *opt)
{
	char	   *end = line + len;
	int			partition = opt->partition;
	char	   *key = NULL;
	rd_kafka_headers_t *headers = NULL;
	rd_kafka_resp_err_t err;

	if (opt->partition_first)
		partition = atoi(cut_field(&line));
	if (opt->with_key)
		key = cut_field(&line);
	if (strcmp(line, "\\N") == 0)
		line = end = NULL;
	if (opt->nheaders)
	{
		headers = rd_kafka_headers_new(opt->nheaders);
		for (int i = 0; i < opt->nheaders; i++)
		{
			char	   *eq = strchr(opt->headers[i], '=');

			if (eq)
				rd_kafka_header_add(headers, opt->headers[i], eq - opt->headers[i], eq + 1, -1);
			else
				rd_kafka_header_add(headers, opt->headers[i], -1, NULL, 0);
		}
	}
	do
	{
		rd_kafka_headers_t *copy = headers ? rd_kafka_headers_copy(headers) : NULL;

		err = rd_kafka_producev(rk, RD_KAFKA_V_TOPIC(topic),
								RD_KAFKA_V_PARTITION(partition),
								RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
								RD_KAFKA_V_KEY(key, key ? strlen(key) : 0),
								RD_KAFKA_V_VALUE(line, (size_t) (end - line)),
								RD_KAFKA_V_TIMESTAMP(opt->timestamp),
								RD_KAFKA_V_HEADERS(copy), RD_KAFKA_V_END);
		if (err && copy)
			rd_kafka_headers_destroy(copy);
		if (err == RD_KAFKA_RESP_ERR__QUEUE_FULL)
			rd_kafka_poll(rk, 100);
	} while (err == RD_KAFKA_RESP_ERR__QUEUE_FULL);
	if (err)
		die("produce to %s: %s", topic, rd_kafka_err2str(err));
	if (headers)
		rd_kafka_headers_destroy(headers);
}

static void
cmd_put(int argc, char **argv)
{
	PutOptions	opt = {.partition = RD_KAFKA_PARTITION_UA};
	rd_kafka_t *rk;
	char	   *line = NULL;
	size_t		size = 0;
	ssize_t		len;
	int			c;

	while ((c = getopt(argc, argv, "p:PkH:t:x:a")) != -1)
	{
		if (c == 'p')
			opt.partition = atoi(optarg);
		else if (c == 'P')
			opt.partition_first = 1;
		else if (c == 'k')
			opt.with_key = 1;
		else if (c == 'H' && opt.nheaders < MAX_HEADERS)
			opt.headers[opt.nheaders++] = optarg;
		else if (c == 't')
			opt.timestamp = atoll(optarg);
		else if (c == 'x')
			opt.transactional_id = optarg;
		else if (c == 'a')
			opt.abort = 1;
		else
			die("put TOPIC [-p N] [-P] [-k] [-H NAME=VALUE] [-t MS] [-x ID [-a]]");
	}
	rk = open_producer(opt.transactional_id);
	if (count_partitions(rk, argv[0]) == 0)
		die("no topic %s", argv[0]);
	if (opt.transactional_id)
	{
		check_kafka_error(rd_kafka_init_transactions(rk, TIMEOUT_MS));
		check_kafka_error(rd_kafka_begin_transaction(rk));
	}
	while ((len = getline(&line, &size, stdin)) >= 0)
	{
		if (len > 0 && line[len - 1] == '\n')
			line[--len] = '\0';
		put_line(rk, argv[0], line, len, &opt);
		rd_kafka_poll(rk, 0);
	}
	if (opt.transactional_id)
	{
		if (rd_kafka_flush(rk, TIMEOUT_MS))
			die("flush failed");
		if (opt.abort)
			check_kafka_error(rd_kafka_abort_transaction(rk, TIMEOUT_MS));
		else
			check_kafka_error(rd_kafka_commit_transaction(rk, TIMEOUT_MS));
	}
	free(line);
	finish_producer(rk);
}

static void
on_signal(int sig)
{
	(void) sig;
	stop_asked = 1;
}

/* Order number i as JSON: 6 fields, about 186 bytes. WeirTest.pm's fill_sql says the same in SQL. */
static int
make_order(char *buf, size_t size, long long i, int groups, int live)
{
	struct timespec now;
	struct tm	tm;
	time_t		seconds = 1704067200 + i / 1000;	/* from 2024-01-01 00:00 UTC on, 1 ms apart */
	int			ms = i % 1000;
	char		when[32];

	if (live)
	{
		clock_gettime(CLOCK_REALTIME, &now);
		seconds = now.tv_sec;
		ms = now.tv_nsec / 1000000;
	}
	gmtime_r(&seconds, &tm);
	strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%S", &tm);
	return snprintf(buf, size,
					"{\"order_id\":%lld,\"city\":\"city-%lld\",\"amount\":%lld.%02lld,"
					"\"ordered_at\":\"%s.%03dZ\",\"customer\":\"customer-%08lld\","
					"\"note\":\"left at the door, rang the bell twice, nobody home\"}",
					i, i * 7 % groups, i * 7919 % 100000 / 100, i * 7919 % 100, when, ms,
					i * 31 % 100000000);
}

static void
cmd_fill(int argc, char **argv)
{
	long long	first = 0,
				count;
	int			groups = 10,
				partitions,
				rate = 0,
				c;
	rd_kafka_t *rk;
	rd_kafka_topic_t *rkt;
	char		buf[512];
	struct timespec start,
				now;

	while ((c = getopt(argc, argv, "f:g:r:")) != -1)
	{
		if (c == 'f')
			first = atoll(optarg);
		else if (c == 'g')
			groups = atoi(optarg);
		else if (c == 'r')
			rate = atoi(optarg);
		else
			die("fill TOPIC PARTITIONS COUNT [-f FIRST] [-g GROUPS] [-r PER_SECOND]");
	}
	argv += optind;
	argc -= optind;
	if (argc < 3)
		die("fill TOPIC PARTITIONS COUNT [-f FIRST] [-g GROUPS] [-r PER_SECOND]");
	partitions = atoi(argv[1]);
	count = atoll(argv[2]);
	signal(SIGTERM, on_signal);
	signal(SIGINT, on_signal);
	rk = open_producer(NULL);
	if (count_partitions(rk, argv[0]) < partitions)
		die("topic %s has fewer than %d partitions", argv[0], partitions);
	rkt = rd_kafka_topic_new(rk, argv[0], NULL);
	clock_gettime(CLOCK_MONOTONIC, &start);
	for (long long i = first; (count == 0 || i < first + count) && !stop_asked; i++)
	{
		int			len = make_order(buf, sizeof(buf), i, groups, count == 0);

		while (rd_kafka_produce(rkt, i % partitions, RD_KAFKA_MSG_F_COPY, buf, len, NULL, 0, NULL) != 0)
		{
			if (rd_kafka_last_error() != RD_KAFKA_RESP_ERR__QUEUE_FULL)
				die("produce: %s", rd_kafka_err2str(rd_kafka_last_error()));
			rd_kafka_poll(rk, 100);
		}
		rd_kafka_poll(rk, 0);
		while (rate > 0 && !stop_asked)
		{
			double		ahead;

			clock_gettime(CLOCK_MONOTONIC, &now);
			ahead = (double) (i - first + 1) / rate - (now.tv_sec - start.tv_sec) -
				(now.tv_nsec - start.tv_nsec) / 1e9;
			if (ahead <= 0.001)
				break;
			rd_kafka_poll(rk, ahead > 0.1 ? 100 : (int) (ahead * 1000));
		}
	}
	rd_kafka_topic_destroy(rkt);
	finish_producer(rk);
}

static void
print_field(const void *bytes, size_t len)
{
	if (bytes == NULL)
		fputs("\\N", stdout);
	else
		fwrite(bytes, 1, len, stdout);
}

static void
print_message(const rd_kafka_message_t *msg, int full)
{
	rd_kafka_timestamp_type_t type;
	rd_kafka_headers_t *headers;
	const char *name;
	const void *value;
	size_t		len;

	printf("%d\t", msg->partition);
	print_field(msg->key, msg->key_len);
	putchar('\t');
	print_field(msg->payload, msg->len);
	if (full)
	{
		printf("\t%lld\t", (long long) rd_kafka_message_timestamp(msg, &type));
		if (!rd_kafka_message_headers(msg, &headers))
			for (size_t i = 0; !rd_kafka_header_get_all(headers, i, &name, &value, &len); i++)
			{
				printf("%s%s=", i ? "," : "", name);
				print_field(value, len);
			}
	}
	putchar('\n');
}

static int
compare_times(const void *a, const void *b)
{
	long long	x = *(const long long *) a;
	long long	y = *(const long long *) b;

	return x < y ? -1 : x > y;
}

/* How old records are when a read_committed consumer gets them, by their timestamps. */
static void
cmd_age(int argc, char **argv)
{
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	rd_kafka_topic_partition_list_t *list;
	rd_kafka_t *rk;
	long		n = 0,
				count,
				skip = argc > 2 ? atol(argv[2]) : 0;
	long long  *ages;
	struct timespec now;

	if (argc < 2 || (count = atol(argv[1])) <= 0)
		die("age TOPIC COUNT [SKIP]");
	ages = malloc(sizeof(long long) * count);
	conf_set(conf, "bootstrap.servers", bootstrap);
	conf_set(conf, "group.id", "ktool");
	conf_set(conf, "enable.auto.commit", "false");
	conf_set(conf, "auto.offset.reset", "earliest");
	conf_set(conf, "isolation.level", "read_committed");
	conf_set(conf, "fetch.wait.max.ms", "5");
	rd_kafka_conf_set_log_cb(conf, be_quiet);
	rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, errstr, sizeof(errstr));
	if (!rk || !ages)
		die("%s", errstr);
	rd_kafka_poll_set_consumer(rk);
	list = rd_kafka_topic_partition_list_new(1);
	rd_kafka_topic_partition_list_add(list, argv[0], 0)->offset = RD_KAFKA_OFFSET_BEGINNING;
	if (rd_kafka_assign(rk, list))
		die("assign failed");
	while (n < count)
	{
		rd_kafka_message_t *msg = rd_kafka_consumer_poll(rk, TIMEOUT_MS);

		if (msg == NULL)
			die("%ld of %ld records came", n, count);
		clock_gettime(CLOCK_REALTIME, &now);
		if (!msg->err && skip-- <= 0)
			ages[n++] = now.tv_sec * 1000LL + now.tv_nsec / 1000000 - rd_kafka_message_timestamp(msg, NULL);
		rd_kafka_message_destroy(msg);
	}
	qsort(ages, n, sizeof(long long), compare_times);
	printf("%lld %lld %lld\n", ages[n / 2], ages[n * 99 / 100], ages[n - 1]);
	rd_kafka_topic_partition_list_destroy(list);
	rd_kafka_consumer_close(rk);
	rd_kafka_destroy(rk);
}

/* All partitions from the beginning to where each ends under read_committed. */
static void
cmd_cat(int argc, char **argv)
{
	rd_kafka_t *admin = open_producer(NULL);
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	rd_kafka_topic_partition_list_t *list;
	rd_kafka_t *rk;
	int			n;

	if (argc < 1)
		die("cat TOPIC [full]");
	n = count_partitions(admin, argv[0]);
	rd_kafka_destroy(admin);
	conf_set(conf, "bootstrap.servers", bootstrap);
	conf_set(conf, "group.id", "ktool");
	conf_set(conf, "enable.auto.commit", "false");
	conf_set(conf, "enable.partition.eof", "true");
	conf_set(conf, "auto.offset.reset", "earliest");
	conf_set(conf, "isolation.level", "read_committed");
	rd_kafka_conf_set_log_cb(conf, be_quiet);
	rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, errstr, sizeof(errstr));
	if (!rk)
		die("%s", errstr);
	rd_kafka_poll_set_consumer(rk);
	list = rd_kafka_topic_partition_list_new(n);
	for (int p = 0; p < n; p++)
		rd_kafka_topic_partition_list_add(list, argv[0], p)->offset = RD_KAFKA_OFFSET_BEGINNING;
	if (n > 0 && rd_kafka_assign(rk, list))
		die("cannot assign %s", argv[0]);
	while (n > 0)
	{
		rd_kafka_message_t *msg = rd_kafka_consumer_poll(rk, TIMEOUT_MS);

		if (msg == NULL)
			die("%s: no message and no end in %d ms", argv[0], TIMEOUT_MS);
		if (msg->err == RD_KAFKA_RESP_ERR__PARTITION_EOF)
			n--;
		else if (!msg->err)
			print_message(msg, argc > 1);
		rd_kafka_message_destroy(msg);
	}
	rd_kafka_topic_partition_list_destroy(list);
	rd_kafka_consumer_close(rk);
	rd_kafka_destroy(rk);
}

int
main(int argc, char **argv)
{
	static const struct
	{
		const char *name;
		void		(*run) (int, char **);
	}			commands[] = {
		{"ready", cmd_ready}, {"create", cmd_create}, {"delete", cmd_delete},
		{"grow", cmd_grow}, {"trim", cmd_trim}, {"ends", cmd_ends},
		{"put", cmd_put}, {"fill", cmd_fill}, {"cat", cmd_cat}, {"age", cmd_age},
	};

	if (argc < 3)
		die("ktool BOOTSTRAP COMMAND ... (see the head of ktool.c)");
	bootstrap = argv[1];
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
	{
		if (strcmp(argv[2], commands[i].name) == 0)
		{
			/* getopt's commands take argv[0] as their topic */
			int			skip = strcmp(argv[2], "put") == 0 ? 3 : strcmp(argv[2], "fill") == 0 ? 2 : 3;

			commands[i].run(argc - skip, argv + skip);
			return 0;
		}
	}
	die("unknown command %s", argv[2]);
}
