/*
 * topic_number.c
 *	  Partitions of several topics as one number.
 *
 * ingest ⇒ here; whoever meets a row's hidden partition with positions or dead letters ⇒ here. Rows of a delta and
 * kept rows know their partition as an int4. Two topics of a stream both have a partition 0, so the number
 * holds the topic's place in weir.stream_def.topics_seen, too. Places never change: a topic that is taken out of
 * weir.topic keeps its own, for the rows that are still kept, and for when it comes back. The first
 * topic has place 0, so for a stream of one topic the number is the partition itself.
 */
#include "weir.h"

#include "catalog/stream.h"

/* Partitions of a topic, and topics: 2047 at most, since the number is positive. */
#define TOPIC_PARTITIONS	(1 << WEIR_TOPIC_PARTITION_BITS)
#define TOPICS_MAX			(1 << (31 - WEIR_TOPIC_PARTITION_BITS))

void
weir_topic_check_count(int n)
{
	if (n >= TOPICS_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("a stream cannot have more than %d topics", TOPICS_MAX - 1),
				 errdetail("Those that it had before count, too."),
				 errhint("Make several streams, and unite them with UNION ALL.")));
}

bool
weir_topic_number(const Stream *stream, const char *topic, int32 partition, int32 *number)
{
	*number = partition;
	if (partition < 0)
		return true;			/* INSERTed */
	for (int i = 0; i < stream->nseen; i++)
	{
		if (strcmp(stream->topics_seen[i], topic) != 0)
			continue;
		if (stream->nseen > 1 && partition >= TOPIC_PARTITIONS)
			ereport(ERROR,
					(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					 errmsg("topic \"%s\" has more than %d partitions", topic, TOPIC_PARTITIONS),
					 errdetail("A stream of several topics cannot number them."),
					 errhint("Make a stream of this topic alone.")));
		*number += i * TOPIC_PARTITIONS;
		return true;
	}
	return false;
}

const char *
weir_topic_of_number(const Stream *stream, int32 number, int32 *partition)
{
	*partition = number;
	if (number < 0 || stream->nseen == 0)
		return NULL;
	if (stream->nseen == 1)
		return stream->topics_seen[0];
	*partition = number % TOPIC_PARTITIONS;
	return number / TOPIC_PARTITIONS < stream->nseen ? stream->topics_seen[number / TOPIC_PARTITIONS] : NULL;
}
