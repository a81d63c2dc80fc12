/*
 * json_reader.h
 *	  One JSON object in, its wanted fields out: the boundary to simdjson.
 *
 * message ⇒ this ⇒ converters (scalar.c, datetime.c, nested.c). Plain C on
 * the outside, no PostgreSQL type or memory inside: what a reader holds is
 * malloc'd and ended by weir_json_reader_free. No C++ exception leaves it and
 * no PostgreSQL error passes through it. One reader per thread.
 *
 * A message is checked as a whole, fields that nobody wants included: UTF-8,
 * grammar, escapes (lone surrogates are refused), at most JSON_MAX_DEPTH
 * levels, nothing behind the object. Memory is bounded by about eight times
 * the longest message, JSON_MAX_MESSAGE at most, and given back after a huge one.
 */
#ifndef WEIR_JSON_READER_H
#define WEIR_JSON_READER_H

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C"
{
#endif

#define JSON_MAX_DEPTH		1000	/* simdjson's own limit is 1024 */
#define JSON_MAX_MESSAGE	(256 * 1024 * 1024) /* Kafka's own limit is 1 MB by default */

typedef enum JsonKind
{
	JSON_KIND_MISSING,
	JSON_KIND_NULL,
	JSON_KIND_TRUE,
	JSON_KIND_FALSE,
	JSON_KIND_NUMBER,
	JSON_KIND_STRING,
	JSON_KIND_OBJECT,
	JSON_KIND_ARRAY
} JsonKind;

/* A value. Not zero-terminated; valid until the next parse with the same reader, and as long as the message. */
typedef struct JsonField
{
	JsonKind	kind;
	const char *text;			/* string: unescaped, UTF-8, may hold \0; else as raw */
	size_t		len;
	const char *raw;			/* as it stands in the message: digits, quotes, braces */
	size_t		raw_len;
} JsonField;

typedef enum JsonError
{
	JSON_OK,
	JSON_ERROR_SYNTAX,			/* not one JSON object */
	JSON_ERROR_ENCODING,		/* not UTF-8 */
	JSON_ERROR_LIMIT,			/* too deep or too long */
	JSON_ERROR_MEMORY			/* malloc failed */
} JsonError;

typedef struct JsonReader JsonReader;

/* Makes a reader for n names (UTF-8, copied); NULL: out of memory. */
extern JsonReader *weir_json_reader_create(const char *const *names, const size_t *lengths, int n);
extern void weir_json_reader_free(JsonReader *reader);

/*
 * weir_json_reader_parse fills fields[i] for names[i]. Of keys that occur
 * twice the last counts. On failure *reason is a constant sentence, and
 * fields are undefined.
 */
extern JsonError weir_json_reader_parse(JsonReader *reader, const char *message, size_t length,
										JsonField *fields, const char **reason);

#ifdef __cplusplus
}
#endif

#endif							/* WEIR_JSON_READER_H */
