/*
 * collect.c
 *	  Changes of a transaction, gathered until it commits.
 *
 * weir.publish, weir.notify, weir.produce ⇒ here ⇒ outbox.c, notify.c. Runs in
 * the session or worker that makes the changes, in its transaction.
 *
 * There is no end-of-statement event for row triggers, so records wait in
 * memory until XACT_EVENT_PRE_COMMIT (or PRE_PREPARE) and are written once. A buffer
 * belongs to the subtransaction that filled it: its abort drops it, its
 * commit hands it to the parent. A buffer that grows beyond BUFFER_BYTES first forgets states that
 * a later one of the same key has replaced; is it still large, it is written at once, in the present
 * subtransaction (the abort of which takes it back).
 *
 * Order: numbers ("blocks") are drawn when a buffer is closed, at a time when
 * the locks of all its rows are held until commit. So two changes of one row by
 * different transactions have numbers in the order of their commits. Older
 * buffers of the same sink draw theirs before a younger one is written early.
 *
 * Memory: TopTransactionContext, BUFFER_BYTES per trigger and subtransaction.
 */
#include "sink/collect.h"

#include "access/xact.h"
#include "common/hashfn.h"
#include "port/pg_bitutils.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

/* Enough that a statement of some ten thousand rows is written in one go. */
#define BUFFER_BYTES	(4 * 1024 * 1024)

/* More keys than these in a transaction: no listener can want each of them. */
#define NOTIFY_KEYS		10000

typedef struct Gathered
{
	CollectTarget target;
	SubTransactionId subid;
	MemoryContext cxt;
	StringInfoData chunk;
	uint32	   *offsets;
	int			n;
	int			capacity;
	int64		block;			/* numbers drawn: closed; 0: open */
	int			limit;			/* of notices: when states that were replaced are thrown out */
	bool		overflow;		/* there are too many: one record per channel */
} Gathered;

static List *buffers = NIL;		/* of Gathered *, oldest first, in TopTransactionContext */

static bool
same_target(const CollectTarget *a, const CollectTarget *b)
{
	return a->sink == b->sink && a->trigger == b->trigger;
}

static Gathered *
create_buffer(const CollectTarget *target)
{
	MemoryContext cxt = AllocSetContextCreate(TopTransactionContext, "weir sink buffer",
											  ALLOCSET_DEFAULT_SIZES);
	MemoryContext oldcxt = MemoryContextSwitchTo(cxt);
	Gathered	   *buffer = palloc0(sizeof(Gathered));

	buffer->target = *target;
	if (target->relation_name)
		buffer->target.relation_name = pstrdup(target->relation_name);
	buffer->subid = GetCurrentSubTransactionId();
	buffer->cxt = cxt;
	initStringInfo(&buffer->chunk);
	buffer->capacity = 64;
	buffer->offsets = palloc(sizeof(uint32) * buffer->capacity);
	MemoryContextSwitchTo(TopTransactionContext);
	buffers = lappend(buffers, buffer);
	MemoryContextSwitchTo(oldcxt);
	return buffer;
}

/* The youngest buffer of the target, if it is open and of this subtransaction. */
static Gathered *
open_buffer(const CollectTarget *target)
{
	for (int i = list_length(buffers) - 1; i >= 0; i--)
	{
		Gathered	   *buffer = list_nth(buffers, i);

		if (!same_target(&buffer->target, target))
			continue;
		if (buffer->subid == GetCurrentSubTransactionId() && buffer->block == 0)
			return buffer;
		break;
	}
	return create_buffer(target);
}

static void
drop_buffer(Gathered *buffer)
{
	buffers = list_delete_ptr(buffers, buffer);
	MemoryContextDelete(buffer->cxt);
}

/* ---- the last state per key ---- */

/* Open addressing over the records kept so far; entries are record numbers + 1. */
typedef struct KeySet
{
	uint32		mask;
	uint32	   *slots;
	uint32	   *hashes;			/* by record number */
} KeySet;

static bool
same_field(const RecordField *a, const RecordField *b)
{
	return (a->data == NULL) == (b->data == NULL) && a->len == b->len &&
		(a->len == 0 || memcmp(a->data, b->data, a->len) == 0);
}

static uint32
hash_key(const Record *record)
{
	uint32		hash = hash_bytes((const unsigned char *) record->key.data, record->key.len);

	if (record->topic.data)
		hash = hash_combine(hash, hash_bytes((const unsigned char *) record->topic.data,
											 record->topic.len));
	return hash;
}

/* Adds record i unless one of the same key and topic is there. */
static bool
add_key(KeySet *set, const char *chunk, const uint32 *offsets, int i, const Record *record)
{
	uint32		hash = hash_key(record);
	uint32		slot = hash & set->mask;

	for (; set->slots[slot] != 0; slot = (slot + 1) & set->mask)
	{
		int			other = set->slots[slot] - 1;
		Record		there;

		if (set->hashes[other] != hash)
			continue;
		(void) weir_record_read(chunk + offsets[other], &there);
		if (same_field(&there.key, &record->key) && same_field(&there.topic, &record->topic))
			return false;
	}
	set->slots[slot] = i + 1;
	set->hashes[i] = hash;
	return true;
}

/* keep_last takes out all but the last record of each key; order stays. Records without a key stay. */
static void
keep_last(Gathered *buffer)
{
	KeySet		set;
	bool	   *keep;
	int			kept = 0;
	Record		record;

	if (!buffer->target.last || buffer->n < 2)
		return;
	set.mask = pg_nextpower2_32(buffer->n * 2) - 1;
	set.slots = palloc0(sizeof(uint32) * (set.mask + 1));
	set.hashes = palloc(sizeof(uint32) * buffer->n);
	keep = palloc(buffer->n);
	for (int i = buffer->n - 1; i >= 0; i--)
	{
		(void) weir_record_read(buffer->chunk.data + buffer->offsets[i], &record);
		keep[i] = record.key.data == NULL ||
			add_key(&set, buffer->chunk.data, buffer->offsets, i, &record);
	}
	for (int i = 0; i < buffer->n; i++)
	{
		if (keep[i])
			buffer->offsets[kept++] = buffer->offsets[i];
	}
	buffer->n = kept;
	pfree(keep);
	pfree(set.slots);
	pfree(set.hashes);
}

/* Moves the records that are left to a chunk of their own. */
static void
compact(Gathered *buffer)
{
	StringInfoData old = buffer->chunk;
	MemoryContext oldcxt = MemoryContextSwitchTo(buffer->cxt);

	initStringInfo(&buffer->chunk);
	for (int i = 0; i < buffer->n; i++)
	{
		const char *record = old.data + buffer->offsets[i];
		uint32		len;

		memcpy(&len, record, sizeof(len));
		buffer->offsets[i] = buffer->chunk.len;
		appendBinaryStringInfo(&buffer->chunk, record, len);
	}
	pfree(old.data);
	MemoryContextSwitchTo(oldcxt);
}

/* ---- writing ---- */

static CollectRun
run_of(Gathered *buffer)
{
	CollectRun	run = {&buffer->target, buffer->chunk.data, buffer->offsets, buffer->n,
	buffer->overflow};

	return run;
}

static void
write_buffer(Gathered *buffer)
{
	CollectRun	run;

	if (buffer->block == 0)
		buffer->block = weir_outbox_block();
	keep_last(buffer);
	run = run_of(buffer);
	weir_outbox_write(&run, buffer->block);
}

/*
 * A buffer is full. Either states that were replaced make room, or it is
 * written, and with it the order of the older buffers of its sink is fixed.
 */
static void
relieve(Gathered *buffer)
{
	ListCell   *lc;

	keep_last(buffer);
	if (buffer->target.last)
		compact(buffer);
	if (buffer->chunk.len < BUFFER_BYTES / 2)
		return;
	foreach(lc, buffers)
	{
		Gathered	   *older = lfirst(lc);

		if (older == buffer)
			break;
		if (same_target(&older->target, &buffer->target) && older->block == 0)
			older->block = weir_outbox_block();
	}
	write_buffer(buffer);
	drop_buffer(buffer);
}

/* What stands for all changes that a channel is to hear of. */
static const Record channel_record = {.op = RECORD_UPDATE,.partition = -1,.timestamp = -1,
.key = {"", 0},.value = {"", 0}};

/* Too many keys: from now on only the channels are remembered. */
static void
overflow(Gathered *buffer)
{
	StringInfoData old = buffer->chunk;
	MemoryContext oldcxt = MemoryContextSwitchTo(buffer->cxt);

	initStringInfo(&buffer->chunk);
	for (int i = 0; i < buffer->n; i++)
	{
		Record		channel = channel_record;
		Record		record;

		(void) weir_record_read(old.data + buffer->offsets[i], &record);
		channel.topic = record.topic;
		buffer->offsets[i] = buffer->chunk.len;
		weir_record_append(&buffer->chunk, &channel);
	}
	pfree(old.data);
	MemoryContextSwitchTo(oldcxt);
	buffer->overflow = true;
	keep_last(buffer);
}

void
weir_collect(const CollectTarget *target, const Record *record)
{
	Gathered	   *buffer;
	Record		channel = channel_record;

	(void) GetTopFullTransactionId();	/* before numbers are drawn: see publisher.c */
	buffer = open_buffer(target);
	if (target->sink == 0 && buffer->n >= Max(buffer->limit, NOTIFY_KEYS))
	{
		keep_last(buffer);
		if (buffer->n >= NOTIFY_KEYS)
			overflow(buffer);
		compact(buffer);
		buffer->limit = buffer->n * 2;
	}
	if (buffer->overflow)
	{
		channel.topic = record->topic;
		record = &channel;
	}
	if (buffer->n == buffer->capacity)
	{
		buffer->capacity *= 2;
		buffer->offsets = repalloc(buffer->offsets, sizeof(uint32) * buffer->capacity);
	}
	buffer->offsets[buffer->n++] = buffer->chunk.len;
	weir_record_append(&buffer->chunk, record);
	if (target->sink != 0 && buffer->chunk.len > BUFFER_BYTES)
		relieve(buffer);
}

/* Puts the records of a younger buffer behind those of an older one of the same target. */
static void
merge_into(Gathered *older, Gathered *younger)
{
	older->offsets = repalloc(older->offsets, sizeof(uint32) * (older->n + younger->n + 1));
	older->capacity = older->n + younger->n + 1;
	for (int i = 0; i < younger->n; i++)
		older->offsets[older->n++] = older->chunk.len + younger->offsets[i];
	appendBinaryStringInfo(&older->chunk, younger->chunk.data, younger->chunk.len);
	older->overflow |= younger->overflow;
	drop_buffer(younger);
}

/* The buffer before this one of the same target; NULL: none. */
static Gathered *
older_buffer(Gathered *buffer)
{
	Gathered   *found = NULL;
	ListCell   *lc;

	foreach(lc, buffers)
	{
		Gathered   *older = lfirst(lc);

		if (older == buffer)
			break;
		if (same_target(&older->target, &buffer->target))
			found = older;
	}
	return found;
}

/* A subtransaction has ended well: its buffer is the parent's, and joined with what the parent had. */
static void
hand_to_parent(Gathered *buffer, SubTransactionId parent)
{
	Gathered   *older = older_buffer(buffer);

	buffer->subid = parent;
	if (older != NULL && older->subid == parent && older->block == 0 && buffer->block == 0 &&
		older->chunk.len + buffer->chunk.len <= BUFFER_BYTES)
		merge_into(older, buffer);
}

/* All of the transaction's changes: to the outbox in order, then the notices. */
static void
write_all(void)
{
	List	   *runs = NIL;
	ListCell   *lc;

	foreach(lc, buffers)
	{
		Gathered	   *buffer = lfirst(lc);
		CollectRun *run;

		if (buffer->target.sink != 0)
		{
			write_buffer(buffer);
			continue;
		}
		run = palloc(sizeof(CollectRun));
		*run = run_of(buffer);
		runs = lappend(runs, run);
	}
	if (runs != NIL)
		weir_notify_send(runs);
}

static void
collect_xact(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
		case XACT_EVENT_PRE_PREPARE:
			if (buffers == NIL)
				break;
			PushActiveSnapshot(GetTransactionSnapshot());
			write_all();
			PopActiveSnapshot();
			buffers = NIL;
			break;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			buffers = NIL;		/* memory went with the transaction */
			break;
		default:
			break;
	}
}

static void
collect_subxact(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *arg)
{
	List	   *copy;
	ListCell   *lc;

	if (buffers == NIL || (event != SUBXACT_EVENT_ABORT_SUB && event != SUBXACT_EVENT_COMMIT_SUB))
		return;
	copy = list_copy(buffers);
	foreach(lc, copy)
	{
		Gathered	   *buffer = lfirst(lc);

		if (buffer->subid != mine)
			continue;
		if (event == SUBXACT_EVENT_COMMIT_SUB)
			hand_to_parent(buffer, parent);
		else
			drop_buffer(buffer);
	}
	list_free(copy);
}

void
weir_collect_init(void)
{
	RegisterXactCallback(collect_xact, NULL);
	RegisterSubXactCallback(collect_subxact, NULL);
}
