/*
 * stream.h
 *	  A stream as weir.stream_def describes it.
 */
#ifndef WEIR_STREAM_H
#define WEIR_STREAM_H

#include "weir.h"
#include "access/attnum.h"
#include "utils/timestamp.h"

typedef enum StreamFormat
{
	STREAM_FORMAT_JSON,
	STREAM_FORMAT_TEXT
} StreamFormat;

typedef enum StreamTimeUnit
{
	STREAM_TIME_S,
	STREAM_TIME_MS,
	STREAM_TIME_US
} StreamTimeUnit;

typedef struct Stream
{
	Oid			relid;			/* the user's table */
	Oid			rows_relid;		/* weir.rows_N: parent of the segments, with hidden columns */
	Oid			owner;
	char	   *name;			/* qualified, quoted: for messages and SQL */
	char	   *server;			/* NULL: fed by INSERT only */
	int			ntopics;
	char	  **topics;
	int			nseen;			/* topics that it has, or has had: places that number partitions (topic_number.c) */
	char	  **topics_seen;
	StreamFormat format;
	char	   *start;			/* 'earliest', 'latest' or a timestamptz as text */
	char	   *event_time;		/* column name, or NULL: the message's timestamp */
	AttrNumber	event_attnum;	/* attnum of event_time, 0 if none */
	Oid			event_type;		/* timestamptz or timestamp */
	StreamTimeUnit time_unit;
	Interval   *lateness;		/* NULL: none given */
	Interval   *idle_timeout;	/* NULL: off */
	Interval   *max_clock_skew; /* NULL: off */
	Interval   *keep;			/* never NULL; zero: keeps no rows */
	bool		keeps_rows;		/* keep > 0 */
	bool		late_keep;		/* weir.late = 'keep' */
	bool		read_committed;
	bool		logged;			/* relpersistence = permanent */
	bool		paused;
	char	   *error;			/* not NULL: failed, with this message */
} Stream;

/*
 * weir_span_length returns how many microseconds an option lasts: weir.lateness, weir.keep and the like are lengths, a day 24
 * hours and a month 30 days. On the calendar, what is late would depend on TimeZone, and a stream time of the 31st could lie further back than one of the 30th.
 */
static inline int64
weir_span_length(const Interval *span)
{
	return span->time + (span->day + (int64) span->month * DAYS_PER_MONTH) * USECS_PER_DAY;
}

/* Is a weir.keep such that rows are kept? Options are never negative. */
static inline bool
weir_span_is_positive(const Interval *span)
{
	return span->time > 0 || span->day > 0 || span->month > 0;
}

/*
 * weir_stream_get finds a stream in this backend's cache, which is dropped
 * when weir's catalog or the relation changed. The result is valid until the
 * end of the transaction; NULL if relid is no stream. Needs a transaction.
 */
extern Stream *weir_stream_get(Oid relid);

/* As above, but raises 42809 with a hint if relid is not a stream. */
extern Stream *weir_stream_require(Oid relid);

/* All streams of this database, as List of Oid, ordered by OID. */
extern List *weir_stream_oids(void);

/* Partitions of one topic in the numbers of weir_topic_number. */
#define WEIR_TOPIC_PARTITION_BITS	20

/*
 * weir_topic_number: the number by which a row of a delta knows its topic and partition (WEIR_COL_PARTITION).
 * False: the stream never had the topic. Raises 54000 for a partition beyond what can be numbered.
 */
extern bool weir_topic_number(const Stream *stream, const char *topic, int32 partition, int32 *number);

/* The same in SQL: d is a row of weir.stream_def, p has topic and partition. */
#define WEIR_TOPIC_NUMBER_SQL \
	"(((array_position(d.topics_seen, p.topic) - 1) << " CppAsString2(WEIR_TOPIC_PARTITION_BITS) ") + p.partition)"

/* And back: the topic, NULL for INSERTed rows, and its partition. */
extern const char *weir_topic_of_number(const Stream *stream, int32 number, int32 *partition);

/* Raises 54000 if a stream cannot have had so many topics. */
extern void weir_topic_check_count(int n);

/* Marks a stream as failed (message) or as well again (NULL); own catalog write in this transaction. */
extern void weir_stream_set_error(Oid relid, const char *message);

#endif							/* WEIR_STREAM_H */
