/*
 * pass.c
 *	  Views with weir.keep = 0: nothing is stored, rows pass through to the triggers.
 *
 * statement ⇒ pass ⇒ apply. The statement is INSERT INTO view SELECT .... Where only weir.publish
 * and weir.notify want the rows it becomes the SELECT alone, whose rows go to them (sink/direct.c).
 * Else (a user's trigger, a foreign key) it stays as it is, and the rows are removed
 * again behind it, before the commit: without triggers, since for everybody else they have never been there.
 */
#include "postgres.h"

#include "access/sysattr.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "catalog/stream.h"
#include "compat.h"
#include "nodes/makefuncs.h"
#include "parser/parsetree.h"
#include "sink/direct.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "view/shape.h"

bool
weir_view_passes(View *view)
{
	return view->keep != NULL && !weir_span_is_positive(view->keep);
}

/* weir_pass_check raises 0A000 for queries whose rows have to be stored to be kept right. */
void
weir_pass_check(ViewShape *shape)
{
	if (shape->closes)
		weir_refuse(shape->name, "weir.keep = 0 stores nothing, and an outer join of streams brings rows at two times.",
					"Give it a weir.keep above 0.");
	if (!shape->finals && strcmp(shape->strategy, "append") != 0)
		weir_refuse(shape->name,
					"weir.keep = 0 stores nothing, and the rows of this query change: they are merged with what is stored.",
					"Give it a weir.keep above 0, or weir.emit = 'final'.");
}

/* Why rows have to go through the table; NULL: they need not. */
char *
weir_pass_obstacle(View *view, int ncolumns)
{
	Relation	rel = table_open(view->relid, AccessShareLock);
	char	   *obstacle = weir_direct_obstacle(rel, ncolumns);

	table_close(rel, NoLock);
	return obstacle;
}

/* INSERT INTO view SELECT ... becomes SELECT .... Its FROM item for the view stays: it says which lock to take. */
static void
make_select(Query *insert)
{
	Assert(insert->commandType == CMD_INSERT && insert->onConflict == NULL);
	insert->commandType = CMD_SELECT;
	insert->resultRelation = 0;
	insert->override = OVERRIDING_NOT_SET;
}

/* INSERT INTO view SELECT ... RETURNING ctid */
static void
make_returning(Query *insert)
{
	Var		   *ctid = makeVar(insert->resultRelation, SelfItemPointerAttributeNumber, TIDOID, -1,
							   InvalidOid, 0);
	RangeTblEntry *rte = rt_fetch(insert->resultRelation, insert->rtable);

	Assert(insert->commandType == CMD_INSERT && insert->returningList == NIL);
	insert->returningList = list_make1(makeTargetEntry((Expr *) ctid, 1, pstrdup("ctid"), false));
	weir_compat_add_select(insert, rte, SelfItemPointerAttributeNumber);
}

/*
 * weir_pass_prepare turns the statement that inserts a view's rows, analysed and not rewritten,
 * into one whose rows are for weir_pass_receiver; direct: they need not go through the table.
 */
void
weir_pass_prepare(Query *insert, bool direct)
{
	if (direct)
		make_select(insert);
	else
		make_returning(insert);
}

/* ---- rows that go through the table ---- */

typedef struct Collector
{
	DestReceiver pub;
	ItemPointerData *tids;
	int64		n;
	int64		capacity;
} Collector;

static void
collector_startup(DestReceiver *self, int operation, TupleDesc desc)
{
}

static bool
collector_receive(TupleTableSlot *slot, DestReceiver *self)
{
	Collector  *collector = (Collector *) self;
	bool		isnull;
	Datum		tid = slot_getattr(slot, 1, &isnull);

	if (collector->n == collector->capacity)
	{
		collector->capacity *= 2;
		collector->tids = repalloc_huge(collector->tids, sizeof(ItemPointerData) * collector->capacity);
	}
	collector->tids[collector->n++] = *(ItemPointer) DatumGetPointer(tid);
	return true;
}

static void
collector_end(DestReceiver *self)
{
}

static Collector *
make_collector(void)
{
	Collector  *collector = palloc0(sizeof(Collector));

	collector->pub.receiveSlot = collector_receive;
	collector->pub.rStartup = collector_startup;
	collector->pub.rShutdown = collector_end;
	collector->pub.rDestroy = collector_end;
	collector->pub.mydest = DestNone;
	collector->capacity = 1024;
	collector->tids = palloc(sizeof(ItemPointerData) * collector->capacity);
	return collector;
}

/* Removes what the statement has put into the table; its triggers have seen it. */
static void
remove_rows(Relation rel, Collector *collector)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());

	for (int64 i = 0; i < collector->n; i++)
		simple_table_tuple_delete(rel, &collector->tids[i], snapshot);
	UnregisterSnapshot(snapshot);
	CommandCounterIncrement();
}

/* weir_pass_run runs a plan of such a statement (newest: by weir_run_plan_newest); returns the rows that passed. */
uint64
weir_pass_run(View *view, PlannedStmt *plan, const char *text, QueryEnvironment *env, bool newest)
{
	Relation	rel = table_open(view->relid, RowExclusiveLock);
	Collector  *collector = NULL;
	DestReceiver *dest;
	uint64		processed;

	if (plan->commandType == CMD_INSERT)
		collector = make_collector();
	dest = collector ? &collector->pub : weir_direct_receiver(rel);
	processed = newest ? weir_run_plan_newest(plan, text, env, dest) : weir_run_plan(plan, text, env, dest);
	if (collector)
		remove_rows(rel, collector);
	table_close(rel, NoLock);
	return processed;
}
