/*
 * session.h
 *	  Session windows: shared by session*.c and their callers in src/view.
 *
 * definition ⇒ session (what makes sessions, what is made of them) ⇒ apply ⇒ session_run
 * (rows get their sessions: session_assign) ⇒ the maintenance statement.
 */
#ifndef WEIR_SESSION_H
#define WEIR_SESSION_H

#include "access/tupdesc.h"
#include "executor/tuptable.h"
#include "storage/itemptr.h"
#include "utils/tuplestore.h"
#include "view/shape.h"
#include "view/states.h"

/* Ephemeral relations of the statements. */
#define WEIR_SESSION_ROWS	"weir_session_rows"	/* rows with the sessions they are in */
#define WEIR_SESSION_MOVED	"weir_session_moved"	/* states of sessions that go on under another start */
#define WEIR_SESSION_GONE	"weir_session_gone" /* the same as they were */
#define WEIR_SESSION_LATE	"weir_session_late" /* rows that are in no session */

/* Columns of the source query that come first; the keys follow. */
#define SESSION_COL_START	1
#define SESSION_COL_END		2

/* How rows become sessions. Numbers of columns count from 1; plain data, copied into plans. */
typedef struct SessionRule
{
	int64		gap;			/* microseconds */
	bool		judged;			/* rows can be late, so that their order counts */
	bool		finals;
	int			nkeys;			/* group keys besides window_start */
	AttrNumber	source_keys[INDEX_MAX_KEYS];	/* the keys in the source query */
	AttrNumber	state_keys[INDEX_MAX_KEYS]; /* and in the state table */
	AttrNumber	state_start;	/* state table: start of the session */
	AttrNumber	state_end;		/* and its end */
	/* source query, behind keys and what aggregates read: */
	AttrNumber	time;
	AttrNumber	partition;
	AttrNumber	offset;
	AttrNumber	event_time;
	AttrNumber	deadline;		/* sessions that ended before are over for this row */
	AttrNumber	expired;		/* sessions that ended by then are no longer kept; 0: none */
	AttrNumber	record;			/* the stream's row; 0: not wanted */
} SessionRule;

typedef struct SessionShape
{
	SessionRule rule;
	Query	   *source;			/* the rows that make sessions, sorted by keys and arrival */
	Oid			time_type;		/* timestamptz or timestamp */
	bool		event_time;		/* the time is the stream's event time */
	AttrNumber *shown;			/* of each column of the select list: 1 window_start, 2 window_end, 0 neither */
	List	   *by_rows;		/* of Aggref: those that do not merge (session_rows.c), over what is kept */
	List	   *kept;			/* of Expr over weir_session_rows: what is kept of each row for them */
	const char *why;			/* the first of them, as messages show it */
} SessionShape;

/* Statements of a view over sessions, besides those that all have. */
typedef struct SessionStatements
{
	SessionRule rule;
	Query	   *source;
	Query	   *absorb;			/* merges moved states into the sessions that they are part of now */
	Query	   *gone;			/* deletes result rows of moved sessions; NULL: finals */
	Query	   *shadow;			/* finals: forgets closed sessions behind those that close now */
	Query	   *purge;			/* forgets closed sessions that no row can touch any more */
	Query	   *keep;			/* keeps rows for aggregates that do not merge; NULL: there are none */
	Query	   *free;			/* and forgets those of sessions that are closed, or about to be forgotten */
} SessionStatements;

/* session.c */
extern bool weir_session_prepare(Query *query, const char *name);
extern void weir_session_refuse_tables(Query *query, const char *name);
weir_noreturn extern void weir_session_refuse_merging(const char *name);
extern void weir_session_split(ViewShape *shape, LateRule *rule);
extern void weir_session_finish(ViewShape *shape);
extern bool weir_session_origin(ViewShape *shape, TargetEntry *tle, ColumnOrigin *origin);

extern bool weir_session_level(Query *query);

/* session_statement.c */
extern Query *weir_session_scan(char *name, List *targets);
extern Expr *weir_session_end(ViewShape *shape);
extern Query *weir_session_late_query(ViewShape *shape);
extern char *weir_session_gap(ViewShape *shape);
extern char *weir_session_state_column(Oid state, const char *alias, int column);
extern SessionStatements *weir_session_statements(ViewShape *shape, Oid result, Oid state);
extern Query *weir_session_close_statement(ViewShape *shape, Oid result, Oid state);

/* session_rows.c: aggregates that do not merge */
extern bool weir_session_by_rows(Aggref *agg);
extern Expr *weir_session_result(ShapeContext *context, Aggref *agg);
extern void weir_session_add_rows(ViewShape *shape, Query *final);
extern List *weir_session_kept_targets(ViewShape *shape);
extern char *weir_session_kept_index(void);
extern Query *weir_session_keep_statement(ViewShape *shape);
extern Query *weir_session_final(ViewShape *shape);
extern Query *weir_session_free_statement(ViewShape *shape, Oid state, const char *condition);

/* session_assign.c: sessions of one key */
typedef struct Session
{
	int64		start;
	int64		last;			/* of its newest row */
	int			parent;			/* session that it was merged into; itself: none */
	int			stored;			/* number of the stored session that it was, or -1 */
	int			moved;			/* sessions whose states go into this one */
} Session;

/* A row of one key, in order of arrival (or of time, if rows are not judged). */
typedef struct SessionRow
{
	int64		time;
	int64		deadline;
	int64		expired;
	int			session;		/* result: number of a session, or one of the following */
} SessionRow;

#define SESSION_LATE_OVER	(-1)	/* the session that it would be in is over already */
#define SESSION_LATE_CLOSED	(-2)	/* within the gap of a closed session */

typedef struct SessionSet
{
	int64		gap;
	int64		closed;			/* sessions that ended before are closed: PG_INT64_MIN for none */
	Session    *sessions;		/* all, in order of creation */
	int			nsessions;
	int			max_sessions;
	int		   *order;			/* those not merged into others, by start */
	int			norder;
	int			max_order;
} SessionSet;

extern void weir_session_set_init(SessionSet *set, int64 gap, int64 closed);
extern void weir_session_set_clear(SessionSet *set);
extern void weir_session_add_stored(SessionSet *set, int64 start, int64 last, int stored);
extern void weir_session_assign(SessionSet *set, SessionRow *row);
extern int	weir_session_root(SessionSet *set, int session);
extern int64 weir_session_end_of(int64 last, int64 gap);
extern int64 weir_session_memory(int64 gap);

/* session_run.c: what the rows of a batch do to sessions */
typedef struct SessionWork
{
	Tuplestorestate *rows;		/* of the source query, with their sessions */
	TupleDesc	desc;
	int64		nrows;
	List	   *moved;			/* of Tuplestorestate: states, one per session that takes them in; further ones in the next */
	Tuplestorestate *gone;		/* states as they were; NULL: none */
	TupleDesc	state_desc;
	Tuplestorestate *late;
	TupleDesc	late_desc;
	int64		nlate;			/* rows of the stream */
} SessionWork;

extern void weir_session_run(SessionRule *rule, PlannedStmt *source, const char *text, QueryEnvironment *env,
							 Oid state, TimestampTz closed, TimestampTz closing, SessionWork *work);
extern QueryEnvironment *weir_session_environment(SessionWork *work, Tuplestorestate *moved);
extern void weir_session_free(SessionWork *work);

/* session_statement.c again */

/* session_lookup.c: stored sessions of a key, by index */
typedef struct SessionLookup SessionLookup;
typedef struct StoredSession
{
	int64		start;
	int64		end;
	ItemPointerData tid;
} StoredSession;

extern SessionLookup *weir_session_lookup_begin(SessionRule *rule, Oid state);
extern TupleDesc weir_session_lookup_desc(SessionLookup *lookup);
extern List *weir_session_lookup(SessionLookup *lookup, Datum *keys, bool *isnull, int64 from, int64 to);
extern HeapTuple weir_session_lookup_take(SessionLookup *lookup, StoredSession *stored);
extern void weir_session_lookup_end(SessionLookup *lookup);

/* session_statement.c: the same of all rows, from nothing */
extern QueryEnvironment *weir_session_replay(ViewShape *shape, QueryEnvironment *env, SessionWork *work);

#endif							/* WEIR_SESSION_H */
