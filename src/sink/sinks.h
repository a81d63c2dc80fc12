/*
 * sinks.h
 *	  weir.sink: who publishes what to where.
 */
#ifndef WEIR_SINKS_H
#define WEIR_SINKS_H

#include "weir.h"

#include "sink/trigger.h"

/* The id of a publish trigger's sink; made if it is not there. */
extern int64 weir_sink_of_trigger(SinkTrigger *trigger);

/* The id of the sink of weir.produce() for a server and a role; made if it is not there. */
extern int64 weir_sink_of_role(const char *server, Oid role);

/* Is this weir's trigger function of that name? */
extern bool weir_sink_is_function(Oid function, const char *name);

#endif							/* WEIR_SINKS_H */
