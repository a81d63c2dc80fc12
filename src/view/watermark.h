/*
 * watermark.h
 *	  How far the event time of streams has come, and with it the windows of a view.
 */
#ifndef WEIR_WATERMARK_H
#define WEIR_WATERMARK_H

#include "weir.h"
#include "catalog/stream.h"
#include "catalog/view.h"
#include "delta/ingest.h"

typedef struct Watermark
{
	TimestampTz time;			/* DT_NOBEGIN: none yet */
	TimestampTz changes_at;		/* when a partition may become idle; 0: not by the clock */
	bool		moves;			/* all are idle: it moves with the clock */
	bool		trusting;		/* nobody asks the broker: silence is enough */
	bool		unborn;			/* no partition has had a row yet, and none is waited for */
} Watermark;

/*
 * weir_watermark_of_view returns how far a view's windows close: the lowest of its
 * streams' watermarks, less their lateness, and less what a join has rows wait for each other (views below it
 * must have been closed before); *mark tells how that will change. parts: partitions of
 * the stream "with" whose positions are not saved yet; their stream_time counts, and they are not idle.
 */
extern TimestampTz weir_watermark_of_view(View *view, Oid with, BatchPartition *parts, int nparts, Watermark *mark);

/* A partition that has been silent for weir.idle_timeout, without word from the broker that there is nothing. */
typedef struct SilentPartition
{
	Oid			stream;
	char	   *topic;
	int32		partition;
} SilentPartition;

/* Does anything of the view go by the watermark? Then the broker is asked. */
extern bool weir_watermark_matters(View *view);

/* weir_watermark_silent lists those of a view's streams: a worker is to ask before they count as idle. */
extern List *weir_watermark_silent(View *view);

/* A time less the size of a window, on the calendar of UTC whatever TimeZone is. */
extern TimestampTz weir_time_window_back(TimestampTz time, const Interval *span);

/* A time plus (sign 1) or minus (-1) the length of an option; span NULL: none. */
extern TimestampTz weir_time_plus(TimestampTz time, const Interval *span, int sign);

#endif							/* WEIR_WATERMARK_H */
