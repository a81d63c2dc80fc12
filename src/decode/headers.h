/*
 * headers.h
 *	  A message's headers as jsonb.
 */
#ifndef WEIR_HEADERS_H
#define WEIR_HEADERS_H

#include "weir.h"
#include "decode/message.h"

/*
 * weir_headers_to_jsonb makes the jsonb array of {"key", "value"} in order;
 * null values are null, bytes that are not UTF-8 text stand in "base64"
 * instead of "value". Palloc'd in CurrentMemoryContext.
 */
extern Datum weir_headers_to_jsonb(const WeirMessage *msg);

#endif							/* WEIR_HEADERS_H */
