/*
 * kafka_client_test.c
 *	  Unit test of src/source/kafka_*.c without PostgreSQL: TAP on stdout.
 *
 * Built and started by kafka_run. Uses librdkafka's mock cluster, or the
 * broker given as argument (then the tests that need the mock are skipped).
 * Waits for descriptors, never for time.
 */
#include "postgres.h"

#include <dirent.h>
#include <poll.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>

#include "source/kafka_internal.h"

#define MANY 100000				/* messages per partition of topic "many" */
#define PATIENCE_MS 20000

static rd_kafka_t *producer;
static rd_kafka_mock_cluster_t *mock;	/* NULL: a real broker */
static const char *bootstrap;
static char suffix[32];			/* makes the names of topics unique on a real broker */
static int	ntests = 0;
static int	nfailed = 0;

static void
ok(bool fine, const char *fmt,...)
{
	va_list		args;

	printf("%sok %d - ", fine ? "" : "not ", ++ntests);
	va_start(args, fmt);
	vprintf(fmt, args);
	va_end(args);
	printf("\n");
	fflush(stdout);
	nfailed += !fine;
}

static int64
now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * INT64CONST(1000000) + now.tv_nsec / 1000;
}

static const char *
topic_name(const char *base)
{
	static char names[8][64];
	static int	next = 0;
	char	   *name = names[next++ % 8];

	snprintf(name, 64, "%s%s", base, suffix);
	return name;
}

static KafkaOption *
option(const char *name, const char *value)
{
	KafkaOption *result = malloc(sizeof(KafkaOption));

	result->name = strdup(name);
	result->value = strdup(value);
	return result;
}

static List *
options_for(const char *servers)
{
	return lappend(NULL, option("bootstrap.servers", servers));
}

static void
create_topic(const char *topic, int partitions)
{
	if (mock != NULL)
		rd_kafka_mock_topic_create(mock, topic, partitions, 1);
	else
	{
		rd_kafka_queue_t *queue = rd_kafka_queue_new(producer);
		rd_kafka_NewTopic_t *new_topic = rd_kafka_NewTopic_new(topic, partitions, 1, NULL, 0);

		rd_kafka_CreateTopics(producer, &new_topic, 1, NULL, queue);
		rd_kafka_event_destroy(rd_kafka_queue_poll(queue, PATIENCE_MS));
		rd_kafka_NewTopic_destroy(new_topic);
		rd_kafka_queue_destroy(queue);
	}
}

static void
put(const char *topic, int partition, const char *key, const char *value, int64 timestamp)
{
	while (rd_kafka_producev(producer, RD_KAFKA_V_TOPIC(topic), RD_KAFKA_V_PARTITION(partition),
							 RD_KAFKA_V_KEY((void *) key, key ? strlen(key) : 0),
							 RD_KAFKA_V_VALUE((void *) value, value ? strlen(value) : 0),
							 RD_KAFKA_V_TIMESTAMP(timestamp),
							 RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_END) ==
		   RD_KAFKA_RESP_ERR__QUEUE_FULL)
		rd_kafka_poll(producer, 10);
}

static void
flush(void)
{
	if (rd_kafka_flush(producer, PATIENCE_MS) != RD_KAFKA_RESP_ERR_NO_ERROR)
		ok(false, "producer flushed");
}

static KafkaConsumer *
must_open(Size memory)
{
	char	   *error = NULL;
	/* The mock waits out the time even if a message comes; a move waits for the fetch under way. */
	List	   *options = lappend(options_for(bootstrap), option("fetch.wait.max.ms", mock ? "10" : "100"));
	KafkaConsumer *consumer = weir_kafka_open(options, "weir-test", true, memory, &error);

	if (consumer == NULL)
	{
		printf("Bail out! cannot open: %s\n", error);
		exit(1);
	}
	return consumer;
}

static void
must_assign(KafkaConsumer *consumer, const char *topic, int partition, int64 offset)
{
	char	   *error = NULL;

	if (!weir_kafka_assign(consumer, topic, partition, offset, &error))
		ok(false, "assign %s %d %lld: %s", topic, partition, (long long) offset, error);
}

/* Waits for the descriptor; false: nothing within ms. */
static bool
wait_fd(KafkaConsumer *consumer, int ms)
{
	struct pollfd pfd = {weir_kafka_fd(consumer), POLLIN, 0};

	return poll(&pfd, 1, ms) > 0;
}

/* Reads until something is in the batch; false: nothing came. */
static bool
read_some(KafkaConsumer *consumer, KafkaBatch *batch, int max)
{
	int64		until = now_us() + PATIENCE_MS * 1000;

	while (weir_kafka_read(consumer, batch, max) == 0)
	{
		if (now_us() > until || !wait_fd(consumer, PATIENCE_MS))
			return false;
	}
	return true;
}

/* Reads events until one of this kind comes. */
static bool
wait_event(KafkaConsumer *consumer, KafkaBatch *batch, KafkaEventKind kind, KafkaEvent *event)
{
	int64		until = now_us() + PATIENCE_MS * 1000;

	do
	{
		weir_kafka_read(consumer, batch, 10000);
		while (weir_kafka_next_event(consumer, event))
		{
			if (event->kind == kind)
				return true;
		}
	} while (now_us() < until && wait_fd(consumer, PATIENCE_MS));
	return false;
}

static int64
first_offset(KafkaBatch *batch)
{
	int			n;
	const WeirMessage *messages = weir_kafka_batch_messages(batch, &n);

	return n > 0 ? messages[0].offset : -1;
}

static void
make_many(const char *topic)
{
	char		value[64];

	create_topic(topic, 2);
	for (int i = 0; i < MANY; i++)
	{
		for (int partition = 0; partition < 2; partition++)
		{
			snprintf(value, sizeof(value), "{\"p\":%d,\"n\":%d}", partition, i);
			put(topic, partition, "k", value, 1000000 + i);
		}
	}
	flush();
}

static void
test_batches(const char *topic)
{
	KafkaConsumer *consumer = must_open(64 * 1024 * 1024);
	KafkaBatch *batch = weir_kafka_batch_create(false);
	int64		next[2] = {0, 0};
	int64		ends[2] = {-1, -1};
	bool		in_order = true;
	bool		same = true;
	bool		bounded = true;
	KafkaEvent	event;

	must_assign(consumer, topic, 0, 0);
	must_assign(consumer, topic, 1, 0);
	while (next[0] + next[1] < 2 * MANY && read_some(consumer, batch, 30000))
	{
		int			n;
		const WeirMessage *messages = weir_kafka_batch_messages(batch, &n);

		bounded = bounded && n <= 30000;
		for (int i = 0; i < n; i++)
		{
			char		value[64];
			const WeirMessage *msg = &messages[i];

			in_order = in_order && msg->offset == next[msg->partition]++;
			snprintf(value, sizeof(value), "{\"p\":%d,\"n\":%d}", msg->partition, (int) msg->offset);
			same = same && msg->value_len == strlen(value) && memcmp(msg->value, value, msg->value_len) == 0 &&
				msg->key_len == 1 && strcmp(msg->topic, topic) == 0 && msg->timestamp_ms == 1000000 + msg->offset;
		}
		while (weir_kafka_next_event(consumer, &event))
		{
			if (event.kind == KAFKA_EVENT_EOF)
				ends[event.partition] = event.offset;
		}
		weir_kafka_batch_reset(batch);
	}
	ok(next[0] == MANY && next[1] == MANY, "200000 messages are read");
	ok(in_order, "in order, none missing, none twice");
	ok(same, "as they were sent");
	ok(bounded, "no batch is larger than asked for");
	while ((ends[0] < MANY || ends[1] < MANY) && wait_event(consumer, batch, KAFKA_EVENT_EOF, &event))
		ends[event.partition] = event.offset;
	ok(ends[0] == MANY && ends[1] == MANY, "the ends of the partitions are told");
	weir_kafka_batch_free(batch);
	weir_kafka_close(consumer);
}

static void
test_wake_up(const char *topic)
{
	KafkaConsumer *consumer = must_open(64 * 1024 * 1024);
	KafkaBatch *batch = weir_kafka_batch_create(false);
	KafkaEvent	event;
	int			got = 0;
	bool		woken = true;
	int			idle;

	must_assign(consumer, topic, 0, MANY - 500);
	while (got < 500 && (woken = wait_fd(consumer, PATIENCE_MS)))
	{
		got += weir_kafka_read(consumer, batch, 1);
		weir_kafka_batch_reset(batch);
	}
	ok(woken && got == 500, "a reader that takes one message at a time is woken for each");

	ok(wait_event(consumer, batch, KAFKA_EVENT_EOF, &event), "end is told");
	for (idle = 0; idle < 20 && wait_fd(consumer, 0); idle++)
	{
		weir_kafka_read(consumer, batch, 10);
		while (weir_kafka_next_event(consumer, &event))
			;
	}
	ok(idle < 20, "an idle consumer is not woken again and again");
	for (int i = 0; i < 3; i++)
	{
		int64		start = now_us();
		bool		came;

		put(topic, 0, NULL, "later", 0);
		flush();
		came = wait_fd(consumer, PATIENCE_MS) && read_some(consumer, batch, 10);
		ok(came, "a lone message wakes, %d ms", (int) (now_us() - start) / 1000);
		weir_kafka_batch_reset(batch);
	}

	weir_kafka_batch_free(batch);
	weir_kafka_close(consumer);
}

static void
test_moves(const char *topic)
{
	KafkaConsumer *consumer = must_open(64 * 1024 * 1024);
	KafkaBatch *batch = weir_kafka_batch_create(false);
	KafkaEvent	event;
	bool		right = true;
	bool		none = true;
	unsigned	random = 12345;

	must_assign(consumer, topic, 0, 0);
	must_assign(consumer, topic, 1, 0);
	for (int i = 0; i < 200; i++)
	{
		int64		want;
		int64		got = -1;

		random = random * 1103515245 + 12345;
		want = (random >> 8) % (MANY - 10);
		if (i % 4 == 0)			/* nearby, so that old messages would fit */
			want = Max(want % 100, 5);
		must_assign(consumer, topic, 0, want);
		if (i % 3 == 0)
			must_assign(consumer, topic, 0, want);
		while (got < 0 && read_some(consumer, batch, i % 2 ? 3 : 5000))
		{
			int			n;
			const WeirMessage *messages = weir_kafka_batch_messages(batch, &n);

			for (int j = 0; j < n && got < 0; j++)
			{
				if (messages[j].partition == 0)
					got = messages[j].offset;
			}
			weir_kafka_batch_reset(batch);
		}
		if (got != want)
		{
			printf("# wanted %lld, got %lld\n", (long long) want, (long long) got);
			right = false;
		}
	}
	ok(right, "200 moves to and fro: the first message is the one asked for");

	must_assign(consumer, topic, 0, 0);
	weir_kafka_unassign(consumer, topic, 0);
	must_assign(consumer, topic, 1, 0);
	while (read_some(consumer, batch, 50000))
	{
		int			n;
		const WeirMessage *messages = weir_kafka_batch_messages(batch, &n);
		bool		end = n > 0 && messages[n - 1].offset >= MANY - 1;

		for (int i = 0; i < n; i++)
			none = none && messages[i].partition == 1;
		weir_kafka_batch_reset(batch);
		if (end)
			break;
	}
	ok(none, "nothing is read of an unassigned partition");

	must_assign(consumer, topic, 0, INT64CONST(1000000000));
	ok(wait_event(consumer, batch, KAFKA_EVENT_OFFSET_GONE, &event) &&
	   event.offset == INT64CONST(1000000000) && event.partition == 0 && strcmp(event.topic, topic) == 0,
	   "a position out of range is told: %s", event.text);
	weir_kafka_batch_reset(batch);
	must_assign(consumer, topic, 0, 7);
	ok(read_some(consumer, batch, 10) && first_offset(batch) == 7, "and the partition can be assigned again");
	weir_kafka_batch_reset(batch);

	/* closing must not leave a batch with dangling messages */
	must_assign(consumer, topic, 0, 7);
	ok(read_some(consumer, batch, 10), "read before close");
	weir_kafka_close(consumer);
	ok(first_offset(batch) == -1, "close empties the batch");
	weir_kafka_batch_free(batch);
}

static void
test_contents(void)
{
	const char *topic = topic_name("contents");
	KafkaConsumer *consumer;
	KafkaBatch *batch = weir_kafka_batch_create(true);
	rd_kafka_headers_t *headers = rd_kafka_headers_new(3);
	const WeirMessage *messages;
	int			n = 0;

	create_topic(topic, 1);
	rd_kafka_header_add(headers, "a", 1, "x\0y", 3);
	rd_kafka_header_add(headers, "b", 1, NULL, 0);
	rd_kafka_header_add(headers, "a", 1, "", 0);
	rd_kafka_producev(producer, RD_KAFKA_V_TOPIC(topic), RD_KAFKA_V_PARTITION(0),
					  RD_KAFKA_V_VALUE("with", 4), RD_KAFKA_V_HEADERS(headers), RD_KAFKA_V_END);
	put(topic, 0, "key", NULL, 0);
	put(topic, 0, "key", "", 0);
	put(topic, 0, NULL, "v", 0);
	flush();

	consumer = must_open(16 * 1024 * 1024);
	must_assign(consumer, topic, 0, 0);
	while (n < 4 && read_some(consumer, batch, 100))
		messages = weir_kafka_batch_messages(batch, &n);
	messages = weir_kafka_batch_messages(batch, &n);
	ok(n == 4, "four messages");
	ok(messages[0].nheaders == 3 && strcmp(messages[0].headers[0].name, "a") == 0 &&
	   messages[0].headers[0].value_len == 3 && memcmp(messages[0].headers[0].value, "x\0y", 3) == 0 &&
	   strcmp(messages[0].headers[2].name, "a") == 0 && messages[0].headers[2].value != NULL &&
	   messages[0].headers[2].value_len == 0, "headers, in order, with zero bytes");
	ok(messages[0].headers[1].value == NULL, "a null header");
	ok(messages[1].nheaders == 0 && messages[1].value == NULL && messages[1].key_len == 3, "null value");
	ok(messages[2].value != NULL && messages[2].value_len == 0, "empty value is not null");
	ok(messages[3].key == NULL, "null key");
	ok(weir_kafka_fingerprint(&messages[1]) != weir_kafka_fingerprint(&messages[2]) &&
	   weir_kafka_fingerprint(&messages[0]) == weir_kafka_fingerprint(&messages[0]), "fingerprints differ");
	ok(weir_kafka_batch_bytes(batch) >= 4 * KAFKA_MESSAGE_OVERHEAD, "bytes of the batch");
	weir_kafka_batch_reset(batch);
	ok(weir_kafka_batch_bytes(batch) == 0, "reset");
	weir_kafka_batch_free(batch);
	weir_kafka_close(consumer);
}

static void
test_questions(const char *topic)
{
	KafkaConsumer *consumer = must_open(16 * 1024 * 1024);
	KafkaBatch *batch = weir_kafka_batch_create(false);
	char	   *error = NULL;
	int64		low = -1;
	int64		high = -1;
	int64		offset = -1;
	int64		start;
	bool		fine;
	int			n;

	n = weir_kafka_partitions(consumer, topic, 5000, &error);
	ok(n == 2, "partitions: %d %s", n, error ? error : "");
	fine = weir_kafka_watermarks(consumer, topic, 1, &low, &high, 5000, &error);
	ok(fine && low == 0 && high == MANY, "watermarks: %lld %lld", (long long) low, (long long) high);
	if (mock == NULL)
	{
		n = weir_kafka_partitions(consumer, topic_name("missing"), 5000, &error);
		ok(n == 0, "a missing topic has 0 partitions (%d)", n);
		fine = weir_kafka_offset_for_time(consumer, topic, 1, 1000000 + 777, &offset, 5000, &error);
		ok(fine && offset == 777, "offset for time: %lld", (long long) offset);
	}
	fine = weir_kafka_offset_for_time(consumer, topic, 1, INT64CONST(4000000000000), &offset, 5000, &error);
	ok(fine && offset == MANY, "offset for a time to come: %lld", (long long) offset);

	/* group offsets */
	must_assign(consumer, topic, 0, 0);
	must_assign(consumer, topic, 1, 0);
	weir_kafka_commit(consumer, topic, 0, 10);
	weir_kafka_commit(consumer, topic, 0, 11);
	weir_kafka_commit(consumer, topic, 1, 12);
	start = now_us();
	while (consumer->committing && wait_fd(consumer, PATIENCE_MS))
	{
		weir_kafka_read(consumer, batch, 1000);
		weir_kafka_batch_reset(batch);
	}
	{
		rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(2);

		rd_kafka_topic_partition_list_add(list, topic, 0);
		rd_kafka_topic_partition_list_add(list, topic, 1);
		rd_kafka_committed(consumer->rk, list, 5000);
		ok(list->elems[0].offset == 11 && list->elems[1].offset == 12,
		   "group offsets: %lld %lld, after %lld ms", (long long) list->elems[0].offset,
		   (long long) list->elems[1].offset, (long long) (now_us() - start) / 1000);
		rd_kafka_topic_partition_list_destroy(list);
	}
	weir_kafka_batch_free(batch);
	weir_kafka_close(consumer);
}

static void
test_probe(const char *topic)
{
	char	   *there[] = {(char *) topic};
	char	   *missing[] = {(char *) topic, (char *) topic_name("nowhere")};
	int64		start;
	char	   *text;

	text = weir_kafka_probe(options_for(bootstrap), 1, there, 2000);
	ok(text == NULL, "probe: topic is there %s", text ? text : "");
	if (mock == NULL)
	{
		text = weir_kafka_probe(options_for(bootstrap), 2, missing, 2000);
		ok(text != NULL && strstr(text, "does not exist"), "probe: %s", text ? text : "");
	}
	start = now_us();
	text = weir_kafka_probe(options_for("127.0.0.1:1"), 1, there, 2000);
	ok(text != NULL && now_us() - start < 3000000, "probe, %d ms: %s",
	   (int) (now_us() - start) / 1000, text ? text : "");
	text = weir_kafka_probe(lappend(options_for(bootstrap), option("security.protocol", "sasl_ssl")), 1, there, 2000);
	ok(text != NULL, "probe: %s", text ? text : "");
}

static int
count_entries(const char *path)
{
	DIR		   *dir = opendir(path);
	int			n = 0;

	while (readdir(dir) != NULL)
		n++;
	closedir(dir);
	return n;
}

static void
test_leaks(const char *topic)
{
	int			threads = count_entries("/proc/self/task");
	int			fds = count_entries("/proc/self/fd");
	int64		worst = 0;
	KafkaBatch *batch = weir_kafka_batch_create(false);

	for (int i = 0; i < 20; i++)
	{
		KafkaConsumer *consumer = must_open(16 * 1024 * 1024);
		int64		start;

		must_assign(consumer, topic, 0, 0);
		if (i % 2)
			read_some(consumer, batch, 100);
		if (i % 3 == 0)
			weir_kafka_commit(consumer, topic, 0, 5);
		start = now_us();
		weir_kafka_close(consumer);
		worst = Max(worst, now_us() - start);
	}
	weir_kafka_batch_free(batch);
	/* the destroying thread may still be on its last instructions, and the mock has to see the ends of connections */
	for (int64 until = now_us() + 5000000; now_us() < until &&
		 (count_entries("/proc/self/task") > threads || count_entries("/proc/self/fd") > fds);)
		sched_yield();
	ok(count_entries("/proc/self/task") <= threads, "no thread is left behind");
	ok(count_entries("/proc/self/fd") <= fds, "no descriptor is left behind");
	ok(worst < 1500000, "closing takes %d ms at most", (int) (worst / 1000));
}

static void
test_outage(const char *topic)
{
	KafkaConsumer *consumer = must_open(16 * 1024 * 1024);
	KafkaConsumer *other = must_open(16 * 1024 * 1024);
	KafkaBatch *batch = weir_kafka_batch_create(false);
	KafkaEvent	event;
	char	   *error = NULL;
	int64		low;
	int64		high;
	int64		end;
	int64		start;
	bool		fine;

	(void) weir_kafka_watermarks(consumer, topic, 0, &low, &end, 5000, &error);
	must_assign(consumer, topic, 0, end);
	must_assign(other, topic, 0, end);
	ok(wait_event(consumer, batch, KAFKA_EVENT_EOF, &event), "at the end before the outage");
	rd_kafka_mock_broker_set_down(mock, 1);
	ok(wait_event(consumer, batch, KAFKA_EVENT_ERROR, &event), "the outage is told: %s", event.text);
	start = now_us();
	fine = !weir_kafka_watermarks(consumer, topic, 0, &low, &high, 1000, &error);
	ok(fine && now_us() - start < 1500000,
	   "during the outage, %d ms: %s", (int) (now_us() - start) / 1000, error);
	start = now_us();
	fine = weir_kafka_partitions(consumer, topic, 1000, &error) == -1;
	ok(fine && now_us() - start < 1500000,
	   "during the outage, %d ms: %s", (int) (now_us() - start) / 1000, error);
	weir_kafka_commit(other, topic, 0, 1);
	must_assign(other, topic, 1, 0);
	start = now_us();
	weir_kafka_close(other);
	ok(now_us() - start < 1500000, "closing during the outage takes %d ms", (int) (now_us() - start) / 1000);

	rd_kafka_mock_broker_set_up(mock, 1);
	put(topic, 0, NULL, "after the outage", 0);
	flush();
	ok(read_some(consumer, batch, 10) && first_offset(batch) == end, "after the outage reading goes on");
	weir_kafka_batch_free(batch);
	weir_kafka_close(consumer);
}

static void
test_log(void)
{
	static KafkaLog log;
	char		text[KAFKA_TEXT_SIZE];
	int			n = 0;
	int			taken = 0;

	weir_kafka_log_init(&log);
	for (int i = 0; i < 1000; i++)
		taken += weir_kafka_log_put(&log, "FAIL", "x");
	while (weir_kafka_log_get(&log, text))
		n++;
	ok(taken == KAFKA_LOG_LINES && n == KAFKA_LOG_LINES, "1000 lines at once: %d get through", n);
	log.window_start -= KAFKA_LOG_WINDOW_MS;
	weir_kafka_log_put(&log, "FAIL", "y");
	ok(weir_kafka_log_get(&log, text) && strcmp(text, "990 more messages of librdkafka were suppressed") == 0,
	   "then: %s", text);
	ok(weir_kafka_log_get(&log, text) && strcmp(text, "FAIL: y") == 0, "and the next line");
	weir_kafka_log_destroy(&log);
}

/* Reads n messages of 186 bytes from 4 partitions, with and without work in between. */
static void
bench(int n)
{
	const char *topic = topic_name("bench");
	char		value[187];
	Size		memories[] = {16, 64, 256};

	create_topic(topic, 4);
	memset(value, 'x', 186);
	value[186] = '\0';
	for (int i = 0; i < n; i++)
		put(topic, i % 4, NULL, value, 0);
	flush();
	printf("# memory work/msg | wall ns, CPU ns all threads, of main thread | longest wait ms, RSS MB\n");
	for (int m = 0; m < lengthof(memories) * 2; m++)
	{
		KafkaConsumer *consumer = must_open(memories[m / 2] * 1024 * 1024);
		KafkaBatch *batch = weir_kafka_batch_create(false);
		int			work = m % 2 ? 400 : 0;
		struct rusage before;
		struct rusage after;
		struct timespec main_before;
		struct timespec main_after;
		int64		start;
		int64		waited = 0;
		int			got = 0;
		long		rss = 0;
		FILE	   *statm;

		getrusage(RUSAGE_SELF, &before);
		clock_gettime(CLOCK_THREAD_CPUTIME_ID, &main_before);
		start = now_us();
		for (int partition = 0; partition < 4; partition++)
			must_assign(consumer, topic, partition, 0);
		while (got < n)
		{
			int64		wait = now_us();
			int64		until;
			int			have;

			if (!wait_fd(consumer, PATIENCE_MS))
				break;
			if (got > 0)
				waited = Max(waited, now_us() - wait);
			have = weir_kafka_read(consumer, batch, 100000);
			got += have;
			for (until = now_us() + (int64) have * work / 1000; now_us() < until;)
				;
			if (have > 0 && rss == 0)
			{
				statm = fopen("/proc/self/statm", "r");
				if (fscanf(statm, "%*d %ld", &rss) != 1)
					rss = 0;
				fclose(statm);
			}
			weir_kafka_batch_reset(batch);
		}
		start = now_us() - start;
		statm = fopen("/proc/self/statm", "r");
		if (fscanf(statm, "%*d %ld", &rss) != 1)
			rss = 0;
		fclose(statm);
		getrusage(RUSAGE_SELF, &after);
		clock_gettime(CLOCK_THREAD_CPUTIME_ID, &main_after);
#define CPU(r) ((r).ru_utime.tv_sec * 1e9 + (r).ru_utime.tv_usec * 1e3 + (r).ru_stime.tv_sec * 1e9 + (r).ru_stime.tv_usec * 1e3)
		printf("# %4d MB  %3d ns | %5.0f  %5.0f  %5.0f | %5.0f  %ld\n", (int) memories[m / 2], work,
			   start * 1e3 / n, (CPU(after) - CPU(before)) / n,
			   ((main_after.tv_sec - main_before.tv_sec) * 1e9 + main_after.tv_nsec - main_before.tv_nsec) / n,
			   waited / 1e3, rss * 4096 / 1024 / 1024);
		weir_kafka_batch_free(batch);
		weir_kafka_close(consumer);
	}
}

int
main(int argc, char **argv)
{
	char		text[512];
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	const char *many;

	rd_kafka_conf_set(conf, "linger.ms", "5", NULL, 0);
	rd_kafka_conf_set_log_cb(conf, NULL);
	if (argc > 1)
	{
		bootstrap = argv[1];
		snprintf(suffix, sizeof(suffix), "-%d", (int) getpid());
		rd_kafka_conf_set(conf, "bootstrap.servers", bootstrap, NULL, 0);
	}
	else
		rd_kafka_conf_set(conf, "test.mock.num.brokers", "1", NULL, 0);
	producer = rd_kafka_new(RD_KAFKA_PRODUCER, conf, text, sizeof(text));
	if (producer == NULL)
	{
		printf("Bail out! %s\n", text);
		return 1;
	}
	if (argc <= 1)
	{
		mock = rd_kafka_handle_mock_cluster(producer);
		bootstrap = rd_kafka_mock_cluster_bootstraps(mock);
	}
	printf("# librdkafka %s, %s\n", rd_kafka_version_str(), bootstrap);
	weir_kafka_tune_malloc();

	if (argc > 2)
		bench(2000000);
	else
	{
		many = topic_name("many");
		test_log();
		make_many(many);
		test_batches(many);
		test_moves(many);
		test_questions(many);
		test_probe(many);
		test_leaks(many);
		test_wake_up(many);
		test_contents();
		if (mock != NULL)
			test_outage(many);
		printf("1..%d\n", ntests);
	}
	rd_kafka_destroy(producer);
	return nfailed > 0;
}
