/*
 * catch_up.c
 *	  Views that fell behind their stream read what they missed, until they follow again.
 */
#include "worker/worker.h"

void
weir_catch_up_run(Reader *reader)
{
}

void
weir_catch_up_close(Reader *reader)
{
}

int
weir_catch_up_fd(Reader *reader)
{
	return -1;
}

TimestampTz
weir_catch_up_next_time(Reader *reader)
{
	return 0;
}
