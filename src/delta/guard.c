/*
 * guard.c
 *	  Work in a subtransaction, whose errors are looked at.
 *
 * Runs wherever batches are applied: in workers, and in sessions that INSERT. A row that
 * cannot be decoded and a view that refuses its rows must not end the batch.
 */
#include "delta/ingest.h"

#include "access/xact.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

/* Errors that are not the row's: the batch must be given up, or tried again. */
static bool
error_is_outside(int sqlstate)
{
	switch (ERRCODE_TO_CATEGORY(sqlstate))
	{
		case ERRCODE_INSUFFICIENT_RESOURCES:	/* 53 */
		case ERRCODE_OPERATOR_INTERVENTION: /* 57 */
		case ERRCODE_SYSTEM_ERROR:	/* 58 */
		case ERRCODE_TRANSACTION_ROLLBACK:	/* 40 */
			return true;
		case ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE:	/* 55 */
			return sqlstate == ERRCODE_LOCK_NOT_AVAILABLE;
		default:
			return false;
	}
}

ErrorData *
weir_try(void (*body) (void *arg), void *arg)
{
	MemoryContext cxt = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData  *volatile edata = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(cxt);
	PG_TRY();
	{
		body(arg);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(cxt);
		edata = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(cxt);
	CurrentResourceOwner = owner;
	if (edata && error_is_outside(edata->sqlerrcode))
		ReThrowError(edata);
	return edata;
}
