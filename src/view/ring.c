/*
 * ring.c
 *	  weir.segmented: the partitions of a view's table.
 *
 * define asks for a plan and makes the tables ⇒ PostgreSQL routes the rows ⇒ expire/ring.c empties slots.
 * A slot is a partition by hash. The operator classes weir.ring_24 ... weir.ring_46 are the default's but for
 * their hash function, which numbers a time's span of 2^24 (17 seconds) ... 2^46 microseconds (two years), in a way that PostgreSQL's
 * mixing of the columns' hashes leaves as it is. If a later release mixed otherwise, spans would share slots, and their rows
 * would be deleted one by one: slower, never wrong, since expiry looks at what a slot holds.
 *
 * Spans are powers of two since a hash function knows nothing of the table that it is called for.
 */
#include "view/ring.h"

#include "catalog/catalog.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "catalog/stream.h"
#include "access/table.h"
#include "common/int.h"
#include "fmgr.h"
#include "nodes/makefuncs.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/partcache.h"
#include "utils/timestamp.h"
#include "view/join.h"

#define MIN_BITS	24
#define MAX_BITS	46
#define FEWEST_SPANS 2			/* weir.keep is at least so many spans, and less than twice as many */
#define SPARE_SLOTS 2			/* for the span that is being filled, and one whose readers have not gone yet */

/* hash_combine64(0, h) is h + this */
#define MIXED_IN	UINT64CONST(0x49a0f4dd15e5a8e3)

/* ---- hash functions ---- */

/* Times in their order, from 0 on. */
static uint64
ordinal(TimestampTz time)
{
	return (uint64) time ^ (UINT64CONST(1) << 63);
}

#define RING_FUNCTION(bits) \
	PG_FUNCTION_INFO_V1(weir_ring_##bits); \
	Datum weir_ring_##bits(PG_FUNCTION_ARGS) \
	{ \
		PG_RETURN_INT64((int64) ((ordinal(PG_GETARG_TIMESTAMPTZ(0)) >> bits) - MIXED_IN)); \
	}

RING_FUNCTION(24)
RING_FUNCTION(25)
RING_FUNCTION(26)
RING_FUNCTION(27)
RING_FUNCTION(28)
RING_FUNCTION(29)
RING_FUNCTION(30)
RING_FUNCTION(31)
RING_FUNCTION(32)
RING_FUNCTION(33)
RING_FUNCTION(34)
RING_FUNCTION(35)
RING_FUNCTION(36)
RING_FUNCTION(37)
RING_FUNCTION(38)
RING_FUNCTION(39)
RING_FUNCTION(40)
RING_FUNCTION(41)
RING_FUNCTION(42)
RING_FUNCTION(43)
RING_FUNCTION(44)
RING_FUNCTION(45)
RING_FUNCTION(46)

/* weir_ring_span_end returns the last time of the span that a time is in. */
TimestampTz
weir_ring_span_end(TimestampTz time, int bits)
{
	return (TimestampTz) ((ordinal(time) | ((UINT64CONST(1) << bits) - 1)) ^ (UINT64CONST(1) << 63));
}

/* ---- the plan ---- */

/* How far ahead of the stream's time rows may lie: a window's end, by its size. */
static int64
window_ahead(ViewShape *shape, TargetEntry *tle)
{
	ColumnOrigin origin;
	Const	   *size;

	if (!weir_trace_column(shape->query, (Node *) tle->expr, &origin) || origin.window != 2 || list_length(origin.call->args) < 2)
		return 0;
	size = lsecond(origin.call->args);
	if (!IsA(size, Const) || size->constisnull || size->consttype != INTERVALOID)
		return 0;
	return weir_interval_longest(DatumGetIntervalP(size->constvalue));
}

static bool
is_key(ViewShape *shape, int column)
{
	ListCell   *lc;

	foreach(lc, shape->keys)
	{
		if (lfirst_node(TargetEntry, lc)->resno == column)
			return true;
	}
	return false;
}

static void
check_shape(ViewShape *shape, int column)
{
	if (shape->session)
		weir_refuse(shape->name, "weir.segmented: a session's end moves with its rows.",
					"Leave out weir.segmented: rows are deleted in small pieces then.");
	if (shape->recompute || shape->at_once)
		weir_refuse(shape->name, "weir.segmented: rows of this view are found and changed one by one (weir.explain says recompute).",
					"Leave out weir.segmented: rows are deleted in small pieces then.");
	if (shape->grouped && !shape->hidden_keys && !is_key(shape, column))
		weir_refuse(shape->name, "weir.segmented: the column that weir.keep goes by is not part of the view's key.",
					"Leave out weir.segmented: rows are deleted in small pieces then.");
}

/*
 * weir_ring_plan picks spans and their number: spans of a quarter to a half of weir.keep (and a window), so that at most half
 * as much again as weir.keep is there, in four to six slots.
 */
RingPlan *
weir_ring_plan(ViewShape *shape, Interval *keep, List *names, const char *keep_column)
{
	RingPlan   *ring = palloc(sizeof(RingPlan));
	int64		reach;
	ListCell   *lc;

	if (keep == NULL || keep_column == NULL || !weir_span_is_positive(keep))
		weir_refuse(shape->name, "weir.segmented is about how rows expire, and needs weir.keep.",
					"WITH (weir.continuous, weir.keep = '1 day', weir.segmented).");
	ring->column = 0;
	foreach(lc, names)
	{
		if (ring->column == 0 && strcmp(lfirst(lc), keep_column) == 0)
			ring->column = foreach_current_index(lc) + 1;
	}
	check_shape(shape, ring->column);
	if (pg_add_s64_overflow(weir_span_length(keep),
							window_ahead(shape, list_nth_node(TargetEntry, shape->query->targetList, ring->column - 1)), &reach))
		reach = PG_INT64_MAX;
	if (reach >> MIN_BITS < FEWEST_SPANS || reach >> MAX_BITS >= 2 * FEWEST_SPANS)
		weir_refuse(shape->name, "weir.segmented: weir.keep must be between a minute and eight years.",
					"Leave out weir.segmented: rows are deleted in small pieces then.");
	ring->bits = MIN_BITS;
	while (reach >> (ring->bits + 1) >= FEWEST_SPANS)
		ring->bits++;
	ring->nslots = (int) (reach >> ring->bits) + 1 + SPARE_SLOTS;
	return ring;
}

/* ---- what CREATE makes ---- */

PartitionSpec *
weir_ring_spec(RingPlan *ring, List *columns, int column)
{
	ColumnDef  *def = list_nth_node(ColumnDef, columns, column - 1);
	PartitionElem *elem = makeNode(PartitionElem);
	const char *kind = getBaseType(def->typeName->typeOid) == TIMESTAMPTZOID ? "ring" : "ring_utc";

	elem->name = pstrdup(def->colname);
	elem->opclass = list_make2(makeString(WEIR_SCHEMA), makeString(psprintf("%s_%d", kind, ring->bits)));
	elem->location = -1;
	return weir_compat_partition_by_hash(elem);
}

CreateStmt *
weir_ring_slot(RingPlan *ring, Oid table, RangeVar *name, int remainder)
{
	CreateStmt *create = makeNode(CreateStmt);
	PartitionBoundSpec *bound = makeNode(PartitionBoundSpec);

	bound->strategy = PARTITION_STRATEGY_HASH;
	bound->modulus = ring->nslots;
	bound->remainder = remainder;
	bound->location = -1;
	create->relation = name;
	create->inhRelations = list_make1(makeRangeVar(get_namespace_name(get_rel_namespace(table)), get_rel_name(table), -1));
	create->partbound = bound;
	create->oncommit = ONCOMMIT_NOOP;
	return create;
}

/* ---- what there is ---- */

bool
weir_ring_is(Oid table)
{
	return get_rel_relkind(table) == RELKIND_PARTITIONED_TABLE;
}

/* The slots, in the order of their OIDs; none is locked. */
List *
weir_ring_slots(Oid table)
{
	return find_inheritance_children(table, NoLock);
}

int
weir_ring_bits(Oid table)
{
	Relation	rel = table_open(table, AccessShareLock);
	char	   *name = get_func_name(RelationGetPartitionKey(rel)->partsupfunc[0].fn_oid);
	int			bits;

	if (name == NULL || sscanf(name, "ring_%d", &bits) != 1 || bits < MIN_BITS || bits > MAX_BITS)
		elog(ERROR, "weir: %s is partitioned in another way than by weir", RelationGetRelationName(rel));
	table_close(rel, NoLock);
	return bits;
}
