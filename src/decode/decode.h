/*
 * decode.h
 *	  Messages to typed rows.
 *
 * source ⇒ decode ⇒ delta. A RowDecoder is made once per stream and
 * definition and used for millions of rows. Runs in the worker inside the
 * batch's transaction, or in a backend (weir.decode).
 */
#ifndef WEIR_DECODE_H
#define WEIR_DECODE_H

#include "weir.h"
#include "catalog/stream.h"
#include "decode/message.h"
#include "utils/rel.h"

typedef struct RowDecoder RowDecoder;

/* Why a message cannot become a row. Strings live in the caller's memory context. */
typedef struct RowError
{
	int			sqlstate;		/* as errcode() takes it */
	char	   *message;
	char	   *detail;			/* NULL: none; names the column */
} RowError;

/*
 * weir_decoder_create prepares decoding into rel, the stream's table. All
 * that it keeps is allocated in a child of cxt; weir_decoder_free ends it
 * (also the JSON parser, which is not PostgreSQL memory; deleting cxt ends it
 * as well, through a reset callback).
 */
extern RowDecoder *weir_decoder_create(Stream *stream, Relation rel, MemoryContext cxt);
extern void weir_decoder_free(RowDecoder *decoder);

/* Does the stream have a _headers column, so that the reader must fill them? */
extern bool weir_decoder_wants_headers(const RowDecoder *decoder);

/*
 * weir_decoder_row turns one message into a row: values/isnull have one place
 * per live column of the table, in attnum order (dropped columns have none).
 * Defaults, stored generated columns, NOT NULL, CHECK and domain constraints
 * are applied. Pass-by-reference values live in CurrentMemoryContext (make it
 * a context reset per row) or in the message.
 *
 * Returns false with *error filled for what it can tell softly. May also
 * ereport(ERROR) (input functions, defaults, checks): the caller runs it in
 * a subtransaction and turns the error into a dead letter.
 */
extern bool weir_decoder_row(RowDecoder *decoder, const WeirMessage *msg,
							 Datum *values, bool *isnull, RowError *error);

#endif							/* WEIR_DECODE_H */
