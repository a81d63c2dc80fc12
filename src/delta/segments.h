/*
 * segments.h
 *	  The rows a stream keeps: one child table per interval of event time.
 */
#ifndef WEIR_SEGMENTS_H
#define WEIR_SEGMENTS_H

#include "delta/delta.h"

/* Creates weir.rows_N under a new stream; returns its OID. */
extern Oid	weir_segments_create_parent(Oid stream, char relpersistence);

/* Writes a delta's rows that weir.keep covers, expires what fell out. In the batch's transaction. */
extern void weir_segments_keep(Stream *stream, Delta *delta);

/* Makes every kept row of the stream that qualifies into a delta (qual: SQL over hidden columns, or NULL). */
extern Delta *weir_segments_read(Stream *stream, const char *qual);

#endif							/* WEIR_SEGMENTS_H */
