/*
 * message.h
 *	  One message as it comes out of a topic, free of librdkafka's and
 *	  PostgreSQL's types, so that sources, decoders and their unit tests meet here.
 */
#ifndef WEIR_MESSAGE_H
#define WEIR_MESSAGE_H

#include <stddef.h>
#include <stdint.h>

typedef struct WeirHeader
{
	const char *name;			/* zero-terminated */
	const char *value;			/* NULL: null */
	size_t		value_len;
} WeirHeader;

typedef struct WeirMessage
{
	const char *topic;			/* zero-terminated, lives as long as the consumer */
	int32_t		partition;
	int64_t		offset;
	int64_t		timestamp_ms;	/* since 1970, UTC; -1: the message has none */
	const char *key;			/* NULL: null key. Not zero-terminated */
	size_t		key_len;
	const char *value;			/* NULL: null value (tombstone). Not zero-terminated */
	size_t		value_len;
	const WeirHeader *headers;	/* filled only if the reader asked for headers */
	int			nheaders;
} WeirMessage;

#endif							/* WEIR_MESSAGE_H */
