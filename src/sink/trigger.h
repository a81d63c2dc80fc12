/*
 * trigger.h
 *	  What the arguments of a weir.publish or weir.notify trigger mean.
 */
#ifndef WEIR_SINK_TRIGGER_H
#define WEIR_SINK_TRIGGER_H

#include "weir.h"

#include "sink/row_json.h"
#include "utils/rel.h"
#include "utils/reltrigger.h"

typedef enum SinkFormat
{
	SINK_JSON,
	SINK_TEXT
} SinkFormat;

typedef enum DeleteMode
{
	DELETE_TOMBSTONE,			/* the key with a null value */
	DELETE_RECORD,				/* the old row and "deleted": true */
	DELETE_IGNORE
} DeleteMode;

/* A trigger's arguments, resolved against its table. */
typedef struct SinkTrigger
{
	Oid			trigger;		/* pg_trigger.oid; of a partition's clone: the root's */
	Oid			relid;			/* table that the root trigger stands on */
	Oid			owner;			/* of that table: who publishes */
	bool		notify;			/* weir.notify, else weir.publish */
	char	   *relation_name;	/* qualified, quoted */
	char	   *server;			/* publish only */
	char	   *target;			/* topic or channel */
	bool		is_view;		/* a continuous view */
	bool		per_batch;		/* notices=batch */
	JsonRow    *key;			/* NULL: none */
	JsonRow    *value;
	JsonColumn *target_column;	/* topic_column, channel_column; NULL: none */
	JsonColumn *headers;
	JsonColumn *partition;
	JsonColumn *timestamp;
	SinkFormat	format;
	DeleteMode	on_delete;
	bool		omit_nulls;
	bool		all_changes;	/* changes=all */
	bool		exactly_once;
	int64		sink;			/* weir.sink.id; 0: not looked up yet (see sink.h) */
} SinkTrigger;

/*
 * weir_sink_trigger_parse reads a trigger's arguments; raises 22023 for what
 * is wrong with them, 42501 if the table's owner has no USAGE on the server.
 * Memory: CurrentMemoryContext.
 */
extern SinkTrigger *weir_sink_trigger_parse(Relation rel, Trigger *trigger, bool notify);

/* The same from a cache that follows changes of the table; valid until the end of the transaction. */
extern SinkTrigger *weir_sink_trigger_get(Relation rel, Trigger *trigger, bool notify);

/* Does an argument "name=..." name columns? */
extern bool weir_sink_names_columns(const char *arg);

/* Raises 42501 unless the owner may use the server; 42704 if it is not there. */
extern void weir_sink_check_server(const char *server, Oid owner);

/* Everything in the cache is to be read again: sinks that it names may have been rolled back. */
extern void weir_sink_trigger_forget(void);

extern void weir_sink_trigger_init(void);

#endif							/* WEIR_SINK_TRIGGER_H */
