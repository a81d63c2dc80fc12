/*
 * unlogged.c
 *	  Aborted transactions that made unlogged files must not keep a crashed server from starting.
 *
 * PostgreSQL has this hole (seen in 15.20): a transaction that created or
 * truncated an unlogged table aborts; its abort record is written but not
 * flushed, and the files are removed at once: the init fork really, the main fork as
 * an empty file that stays until the next checkpoint. If the server now crashes before the
 * record is flushed, recovery creates the init fork again (its creation was flushed by
 * somebody's commit), hears nothing of the abort, and at its end fails to copy it over the main
 * fork: "could not create file ...: File exists". The server cannot be started any more.
 *
 * weir makes and empties unlogged segments of kept rows all the time, in
 * batches that may abort, so the rare accident would become likely. Here
 * the abort record is flushed before the files go: the callbacks of an abort
 * run between RecordTransactionAbort() and the removal (smgrDoPendingDeletes).
 *
 * Runs in every session with weir loaded; costs nothing unless such files are pending.
 */
#include "worker/shmem.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/storage.h"
#include "compat.h"
#include "replication/message.h"
#include "storage/smgr.h"

/* Does this (sub)transaction's abort remove files of unlogged relations? */
static bool
removes_unlogged_files(void)
{
	WeirRelFile *files;
	int			n = smgrGetPendingDeletes(false, &files);
	bool		found = false;

	for (int i = 0; i < n && !found; i++)
		found = smgrexists(weir_compat_smgropen(files[i]), INIT_FORKNUM);
	if (n > 0)
		pfree(files);
	return found;
}

/* A record behind the abort record, and all up to it flushed. */
static void
flush_abort(void)
{
	if (XLogInsertAllowed() && removes_unlogged_files())
		XLogFlush(weir_compat_log_message("weir", "", 0));
}

static void
on_transaction(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_ABORT)
		flush_abort();
}

static void
on_subtransaction(SubXactEvent event, SubTransactionId subid,
				  SubTransactionId parent, void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB)
		flush_abort();
}

void
weir_unlogged_init(void)
{
	RegisterXactCallback(on_transaction, NULL);
	RegisterSubXactCallback(on_subtransaction, NULL);
}
