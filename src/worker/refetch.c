/*
 * refetch.c
 */
#include "worker/worker.h"

bool
weir_refetch_run(Reader *reader)
{
	reader->incomplete = false;
	return true;
}

void
weir_refetch_close(Reader *reader)
{
}

int
weir_refetch_fd(Reader *reader)
{
	return -1;
}

TimestampTz
weir_refetch_next_time(Reader *reader)
{
	return 0;
}
