/*
 * convert.h
 *	  From one JSON value to one Datum: what decode.c and the converters share.
 *
 * A Converter is chosen once per column (and, inside, per array element and
 * composite field) by type; from then on a value costs one indirect call.
 * Converters tell bad values softly, through weir_convert_fail, wherever
 * they can know; types that they do not know by heart go through their
 * input function, which may raise (on PostgreSQL 16 and later most of these
 * are soft too). An error raised gets the column named by weir_decoder_row's
 * error context.
 */
#ifndef WEIR_CONVERT_H
#define WEIR_CONVERT_H

#include "decode/decode.h"
#include "decode/json_reader.h"
#include "fmgr.h"

typedef struct Converter Converter;
typedef struct CompositeShape CompositeShape;

/* What all converters of a decoder share. */
typedef struct DecodeRun
{
	MemoryContext cxt;			/* lives as long as the decoder */
	bool		utf8;			/* the database's encoding is UTF8: no conversion */
	StreamTimeUnit time_unit;	/* of JSON numbers in time columns */
	bool		runs_code;		/* defaults, checks or domains may run functions that need a snapshot */

	/* the value at hand, for messages */
	RowError   *error;
	const char *column;			/* NULL: none */
	const JsonField *value;		/* NULL: not at fault */
	Converter  *input;			/* whose input function runs; NULL: none */
} DecodeRun;

/* Converts a value that is neither missing nor null. False: weir_convert_fail was called. */
typedef bool (*ConvertFunction) (Converter *self, const JsonField *value, Datum *datum);

struct Converter
{
	ConvertFunction convert;
	DecodeRun  *run;
	Oid			type;			/* never a domain, except in a domain's converter */
	int32		typmod;
	char	   *type_name;		/* for messages */
	FmgrInfo	input;
	Oid			ioparam;

	Converter  *inner;			/* array: of its elements; domain: of its base type */
	void	   *domain_cache;	/* domain: for domain_check */
	int16		typlen;			/* array: of its elements */
	bool		typbyval;
	char		typalign;
	bool		elements_nest;	/* array: an inner array is a dimension, not an element */
	CompositeShape *shape;		/* composite */
};

/* Chooses the converter of a type; allocated in run->cxt. */
extern Converter *weir_converter_create(DecodeRun *run, Oid type, int32 typmod);

/* Converts a value that may be missing or null; those become NULL, which a domain may refuse. */
extern bool weir_convert(Converter *converter, const JsonField *value, Datum *datum, bool *isnull);

/* Notes why the value at hand cannot be taken; returns false. */
extern bool weir_convert_fail(DecodeRun *run, int sqlstate, const char *format,...) pg_attribute_printf(3, 4);
/* "invalid input syntax for type ..." and "value ... is out of range for type ..." */
extern bool weir_convert_fail_syntax(Converter *self, const JsonField *value, int sqlstate);
extern bool weir_convert_fail_range(Converter *self, const JsonField *value);

/* A piece of a value that is fit for a message: short, one line, valid in the database's encoding; palloc'd. */
extern char *weir_convert_excerpt(DecodeRun *run, const char *text, size_t len);

/* Messages of input functions show the whole value: above this many bytes they are replaced. */
#define WEIR_LONG_VALUE 256

/* Text (UTF-8) through the type's input function. */
extern bool weir_convert_input(Converter *self, const char *text, size_t len, Datum *datum);

/* Is it free of \u0000, which no text of PostgreSQL can hold? Notes the failure if not. */
extern bool weir_convert_check_nul(DecodeRun *run, const char *text, size_t len);

/* Drops the white space that input functions drop. */
extern void weir_convert_trim(const char **text, size_t *len);

/* A JSON number taken apart: digits * 10^exponent. */
typedef struct Decimal
{
	uint64		digits;			/* the first 19 significant ones */
	int			exponent;
	bool		negative;
	bool		inexact;		/* digits behind them that are not zero were left out */
} Decimal;

/* number.c */
extern void weir_decimal_parse(const char *text, size_t len, Decimal *decimal);
extern bool weir_convert_int2(Converter *self, const JsonField *value, Datum *datum);
extern bool weir_convert_int4(Converter *self, const JsonField *value, Datum *datum);
extern bool weir_convert_int8(Converter *self, const JsonField *value, Datum *datum);
extern bool weir_convert_float4(Converter *self, const JsonField *value, Datum *datum);
extern bool weir_convert_float8(Converter *self, const JsonField *value, Datum *datum);
extern bool weir_convert_numeric(Converter *self, const JsonField *value, Datum *datum);

/* scalar.c */
extern bool weir_convert_bool(Converter *self, const JsonField *value, Datum *datum);
extern bool weir_convert_text(Converter *self, const JsonField *value, Datum *datum);
extern bool weir_convert_varchar(Converter *self, const JsonField *value, Datum *datum);
extern bool weir_convert_bpchar(Converter *self, const JsonField *value, Datum *datum);
extern bool weir_convert_uuid(Converter *self, const JsonField *value, Datum *datum);
extern bool weir_convert_json(Converter *self, const JsonField *value, Datum *datum);
extern bool weir_convert_jsonb(Converter *self, const JsonField *value, Datum *datum);
extern bool weir_convert_enum(Converter *self, const JsonField *value, Datum *datum);
extern bool weir_convert_any(Converter *self, const JsonField *value, Datum *datum);

/* datetime.c */
extern bool weir_convert_timestamptz(Converter *self, const JsonField *value, Datum *datum);
extern bool weir_convert_timestamp(Converter *self, const JsonField *value, Datum *datum);
extern bool weir_convert_date(Converter *self, const JsonField *value, Datum *datum);
extern bool weir_convert_time(Converter *self, const JsonField *value, Datum *datum);

/* nested.c */
extern bool weir_convert_array(Converter *self, const JsonField *value, Datum *datum);
extern bool weir_convert_composite(Converter *self, const JsonField *value, Datum *datum);
extern bool weir_convert_domain(Converter *self, const JsonField *value, Datum *datum);

/* metadata.c */
extern bool weir_convert_bytes(Converter *self, const char *bytes, size_t len, Datum *datum);
extern bool weir_convert_int64(Converter *self, int64 number, Datum *datum);
extern bool weir_convert_message_time(Converter *self, int64 timestamp_ms, Datum *datum);
extern bool weir_convert_headers(Converter *self, const WeirMessage *msg, Datum *datum);

#endif							/* WEIR_CONVERT_H */
