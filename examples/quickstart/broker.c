/*
 * broker.c
 *	  A small Kafka for the quick start: librdkafka's mock cluster with one broker.
 *
 *	  broker [--port-file FILE] [--topic NAME:PARTITIONS]...
 *
 * Listens on 127.0.0.1, on a free port, until SIGTERM or SIGINT. Prints
 * "bootstrap HOST:PORT" when it is ready; --port-file gets HOST:PORT.
 * Everything is in memory and gone at the end. Of a partition it keeps the
 * last 5 MB (100,000 batches). It knows neither transactions' isolation nor
 * offsets by time, and creates a topic of 4 partitions for any name that
 * somebody asks about. Not for production, not for measuring.
 *
 * Build: cc -O2 -o broker broker.c -lrdkafka
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>

static void
usage(const char *why)
{
	fprintf(stderr, "broker: %s\nusage: broker [--port-file FILE] [--topic NAME:PARTITIONS]...\n", why);
	exit(2);
}

/* Creates "name:partitions". */
static void
create_topic(rd_kafka_mock_cluster_t *cluster, char *topic)
{
	char	   *colon = strrchr(topic, ':');
	int			partitions = colon != NULL ? atoi(colon + 1) : 0;
	rd_kafka_resp_err_t err;

	if (partitions <= 0)
		usage("a topic is NAME:PARTITIONS");
	*colon = '\0';
	err = rd_kafka_mock_topic_create(cluster, topic, partitions, 1);
	if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		fprintf(stderr, "broker: topic %s: %s\n", topic, rd_kafka_err2str(err));
		exit(1);
	}
}

/* Writes the address under another name first, so that a reader never sees half of it. */
static void
write_port_file(const char *path, const char *address)
{
	char		temporary[4096];
	FILE	   *file;

	snprintf(temporary, sizeof(temporary), "%s.new", path);
	file = fopen(temporary, "w");
	if (file == NULL || fprintf(file, "%s\n", address) < 0 || fclose(file) != 0 ||
		rename(temporary, path) != 0)
	{
		perror(path);
		exit(1);
	}
}

int
main(int argc, char **argv)
{
	const char *port_file = NULL;
	rd_kafka_mock_cluster_t *cluster;
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	rd_kafka_t *rk;
	char		text[512];
	sigset_t	signals;
	int			signal_number;

	for (int i = 1; i < argc; i += 2)
	{
		if (strcmp(argv[i], "--port-file") != 0 && strcmp(argv[i], "--topic") != 0)
			usage("unknown argument");
		if (i + 1 >= argc)
			usage("an argument lacks its value");
		if (strcmp(argv[i], "--port-file") == 0)
			port_file = argv[i + 1];
	}

	/* Blocked before any thread exists, so that only sigwait takes them. */
	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGHUP);
	sigprocmask(SIG_BLOCK, &signals, NULL);
	signal(SIGPIPE, SIG_IGN);

	rd_kafka_conf_set_log_cb(conf, NULL);
	rk = rd_kafka_new(RD_KAFKA_PRODUCER, conf, text, sizeof(text));
	if (rk == NULL)
	{
		fprintf(stderr, "broker: %s\n", text);
		return 1;
	}
	cluster = rd_kafka_mock_cluster_new(rk, 1);
	if (cluster == NULL)
	{
		fprintf(stderr, "broker: cannot start the mock cluster\n");
		return 1;
	}
	for (int i = 1; i < argc; i += 2)
	{
		if (strcmp(argv[i], "--topic") == 0)
			create_topic(cluster, argv[i + 1]);
	}

	if (port_file != NULL)
		write_port_file(port_file, rd_kafka_mock_cluster_bootstraps(cluster));
	printf("bootstrap %s\n", rd_kafka_mock_cluster_bootstraps(cluster));
	fflush(stdout);

	sigwait(&signals, &signal_number);
	if (port_file != NULL)
		unlink(port_file);
	rd_kafka_mock_cluster_destroy(cluster);
	rd_kafka_destroy(rk);
	return 0;
}
