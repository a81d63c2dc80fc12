/*
 * json_cursor.h
 *	  Steps through the items of a JSON array or object that the reader has checked.
 */
#ifndef WEIR_JSON_CURSOR_H
#define WEIR_JSON_CURSOR_H

#include "decode/json_reader.h"

typedef struct JsonCursor
{
	const char *p;				/* at the next item, or at the closing bracket */
} JsonCursor;

/* container: kind JSON_KIND_ARRAY or JSON_KIND_OBJECT. */
extern void weir_json_cursor_open(JsonCursor *cursor, const JsonField *container);

/*
 * weir_json_cursor_next gives the next item, and its key in an object (key is
 * NULL for arrays); false at the end. Strings with escapes are unescaped into
 * CurrentMemoryContext, all else points into the message.
 */
extern bool weir_json_cursor_next(JsonCursor *cursor, JsonField *key, JsonField *value);

#endif							/* WEIR_JSON_CURSOR_H */
