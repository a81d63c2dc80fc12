/*
 * headers.h
 *	  Headers of records to be published, from jsonb.
 */
#ifndef WEIR_SINK_HEADERS_H
#define WEIR_SINK_HEADERS_H

#include "weir.h"

#include "lib/stringinfo.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"

/*
 * weir_headers_encode appends headers (record.h) from an object {"name":
 * value} or an array as in the column _headers: {"key", "value"} or {"key",
 * "base64"}. Values that are no strings go out as their JSON. Raises 22023.
 */
extern void weir_headers_encode(StringInfo out, Jsonb *headers);

/* ms since 1970 of a timestamp; -1 if it has none. */
extern int64 weir_record_timestamp(Timestamp value);

#endif							/* WEIR_SINK_HEADERS_H */
