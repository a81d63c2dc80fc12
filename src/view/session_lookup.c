/*
 * session_lookup.c
 *	  Stored sessions that rows of a key may touch.
 *
 * session_run ⇒ lookup. The state table's unique index holds the keys and, behind them, the
 * session's start. It is scanned here and not by a statement, because the way must not
 * depend on what a planner once thought of the table: one short backward scan per
 * cluster of rows, whether the table holds a thousand sessions or a million.
 * Sessions of a key are more than a gap apart, so at most one that starts before the first row
 * can reach it: there the scan ends.
 *
 * The caller is the only writer of the view (weir_run_take_turn), so the newest snapshot shows what is
 * there and rows can be deleted without a second look. RowExclusive on the table until commit.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heaptoast.h"
#include "access/relscan.h"
#include "access/skey.h"
#include "access/stratnum.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/catalog.h"
#include "compat.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "view/session.h"

struct SessionLookup
{
	SessionRule *rule;
	Relation	table;
	Relation	index;
	Snapshot	snapshot;
	IndexScanDesc scan;
	MemoryContext scan_cxt;		/* the scan keeps things from one rescan to the next */
	TupleTableSlot *slot;
	int			nkeys;			/* of the scan: the group keys and the start */
	ScanKeyData *keys;
	int			key_number[INDEX_MAX_KEYS]; /* of the index's columns: which group key; -1: the start */
};

/* Does the index find sessions by their keys, with the start behind? */
static bool
fits(SessionLookup *lookup, Relation index)
{
	SessionRule *rule = lookup->rule;
	Form_pg_index form = index->rd_index;

	if (!form->indisunique || !form->indisvalid || form->indnkeyatts != rule->nkeys + 1 ||
		form->indkey.values[rule->nkeys] != rule->state_start)
		return false;
	for (int i = 0; i < rule->nkeys; i++)
	{
		lookup->key_number[i] = -1;
		for (int j = 0; j < rule->nkeys; j++)
		{
			if (rule->state_keys[j] == form->indkey.values[i])
				lookup->key_number[i] = j;
		}
		if (lookup->key_number[i] < 0)
			return false;
	}
	return true;
}

static void
open_index(SessionLookup *lookup)
{
	ListCell   *lc;

	foreach(lc, RelationGetIndexList(lookup->table))
	{
		Relation	index = index_open(lfirst_oid(lc), RowExclusiveLock);

		if (fits(lookup, index))
		{
			lookup->index = index;
			return;
		}
		index_close(index, RowExclusiveLock);
	}
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("table %s has lost its unique index", weir_relation_name(RelationGetRelid(lookup->table))),
			 errhint("Drop the view and create it again.")));
}

static void
init_key(SessionLookup *lookup, int column, StrategyNumber strategy)
{
	Relation	index = lookup->index;
	Oid			type = index->rd_opcintype[column];
	Oid			op = get_opfamily_member(index->rd_opfamily[column], type, type, strategy);

	if (!OidIsValid(op))
		elog(ERROR, "index \"%s\" has no operator of strategy %d", RelationGetRelationName(index), strategy);
	ScanKeyEntryInitialize(&lookup->keys[column], 0, column + 1, strategy, type,
						   index->rd_indcollation[column], get_opcode(op), (Datum) 0);
}

SessionLookup *
weir_session_lookup_begin(SessionRule *rule, Oid state)
{
	SessionLookup *lookup = palloc0(sizeof(SessionLookup));

	lookup->rule = rule;
	lookup->scan_cxt = CurrentMemoryContext;
	lookup->table = table_open(state, RowExclusiveLock);
	lookup->nkeys = rule->nkeys + 1;
	lookup->keys = palloc0(sizeof(ScanKeyData) * lookup->nkeys);
	open_index(lookup);
	for (int i = 0; i < rule->nkeys; i++)
		init_key(lookup, i, BTEqualStrategyNumber);
	init_key(lookup, rule->nkeys, BTLessEqualStrategyNumber);
	(void) GetTransactionSnapshot();
	lookup->snapshot = RegisterSnapshot(GetLatestSnapshot());
	lookup->scan = weir_compat_index_beginscan(lookup->table, lookup->index, lookup->snapshot, lookup->nkeys);
	lookup->slot = table_slot_create(lookup->table, NULL);
	return lookup;
}

TupleDesc
weir_session_lookup_desc(SessionLookup *lookup)
{
	return RelationGetDescr(lookup->table);
}

static void
set_keys(SessionLookup *lookup, Datum *keys, bool *isnull, int64 until)
{
	SessionRule *rule = lookup->rule;

	for (int i = 0; i < rule->nkeys; i++)
	{
		int			key = lookup->key_number[i];

		lookup->keys[i].sk_argument = isnull[key] ? (Datum) 0 : keys[key];
		lookup->keys[i].sk_flags = isnull[key] ? SK_ISNULL | SK_SEARCHNULL : 0;
	}
	lookup->keys[rule->nkeys].sk_argument = TimestampTzGetDatum(until);
}

/* The next tuple of the scan, downwards. */
static bool
next_tuple(SessionLookup *lookup)
{
	MemoryContext old = MemoryContextSwitchTo(lookup->scan_cxt);
	bool		found = index_getnext_slot(lookup->scan, BackwardScanDirection, lookup->slot);

	MemoryContextSwitchTo(old);
	return found;
}

/*
 * weir_session_lookup returns, by start, the stored sessions of a key that rows with times between from
 * and to may touch, as List of StoredSession in CurrentMemoryContext.
 */
List *
weir_session_lookup(SessionLookup *lookup, Datum *keys, bool *isnull, int64 from, int64 to)
{
	SessionRule *rule = lookup->rule;
	List	   *found = NIL;
	MemoryContext old;

	set_keys(lookup, keys, isnull, weir_session_end_of(to, rule->gap));
	old = MemoryContextSwitchTo(lookup->scan_cxt);
	index_rescan(lookup->scan, lookup->keys, lookup->nkeys, NULL, 0);
	MemoryContextSwitchTo(old);
	while (next_tuple(lookup))
	{
		StoredSession *stored = palloc(sizeof(StoredSession));
		bool		null;

		stored->start = DatumGetTimestampTz(slot_getattr(lookup->slot, rule->state_start, &null));
		stored->end = DatumGetTimestampTz(slot_getattr(lookup->slot, rule->state_end, &null));
		stored->tid = lookup->slot->tts_tid;
		if (stored->end >= from)
			found = lcons(stored, found);
		if (stored->start <= from)
			break;
	}
	ExecClearTuple(lookup->slot);
	return found;
}

/* weir_session_lookup_take deletes a stored session and returns its row, whole, in CurrentMemoryContext. */
HeapTuple
weir_session_lookup_take(SessionLookup *lookup, StoredSession *stored)
{
	HeapTuple	tuple;

	if (!table_tuple_fetch_row_version(lookup->table, &stored->tid, lookup->snapshot, lookup->slot))
		elog(ERROR, "a session of table \"%s\" has vanished", RelationGetRelationName(lookup->table));
	tuple = ExecCopySlotHeapTuple(lookup->slot);
	ExecClearTuple(lookup->slot);
	if (HeapTupleHasExternal(tuple))
		tuple = toast_flatten_tuple(tuple, RelationGetDescr(lookup->table));
	simple_table_tuple_delete(lookup->table, &stored->tid, lookup->snapshot);
	return tuple;
}

void
weir_session_lookup_end(SessionLookup *lookup)
{
	ExecDropSingleTupleTableSlot(lookup->slot);
	index_endscan(lookup->scan);
	UnregisterSnapshot(lookup->snapshot);
	index_close(lookup->index, NoLock);
	table_close(lookup->table, NoLock);
}
