/*
 * shape.h
 *	  What a continuous view's definition looks like once it is understood:
 *	  shared by the files of src/view, and by nobody else.
 *
 * definition (Query) ⇒ check ⇒ rewrite (streams become deltas) ⇒ aggregates
 * (keys, states, merges) ⇒ statement (one INSERT ... ON CONFLICT) ⇒ apply.
 */
#ifndef WEIR_SHAPE_H
#define WEIR_SHAPE_H

#include "weir.h"
#include "compat.h"
#include "catalog/view.h"
#include "delta/delta.h"
#include "lib/stringinfo.h"
#include "nodes/parsenodes.h"
#include "nodes/plannodes.h"
#include "tcop/dest.h"
#include "utils/queryenvironment.h"
#include "utils/rel.h"

/* Names inside the maintenance statement that no common table expression of a user may have. */
#define WEIR_PART			"weir_part"		/* partial results of the delta */
#define WEIR_MERGED			"weir_merged"	/* merged states of the touched keys */
#define WEIR_LATE			"weir_late"		/* rows that came too late */
#define WEIR_FINAL			"weir_final"	/* results made of them */
#define WEIR_RESULT			"weir_result"	/* HAVING: the same, with those that do not qualify */

/* How a stored value takes in the delta's. */
typedef enum MergeKind
{
	MERGE_NEW,					/* the newer value wins: functions of the keys */
	MERGE_COUNT,				/* old + new, never NULL */
	MERGE_PLUS,					/* old + new, NULL: nothing yet */
	MERGE_FUNCTION,				/* the aggregate's combine function, called plainly */
	MERGE_COMBINE,				/* weir.combine(): the combine function wants an aggregate's context */
	MERGE_STATE,				/* weir.merge(): serialised transition states */
	MERGE_OWN,					/* weir.top_merge() and its kin, with the limits of the call */
	MERGE_NET,					/* weir.net_add(): nets of numerics (net.c) */
	MERGE_EXTREME,				/* least or greatest value, looked up again where it went (retract.c) */
	MERGE_LOST					/* whether it went: known of a delta only */
} MergeKind;

/* A column of the statement's partial result that is no group key. */
typedef struct StateColumn
{
	Expr	   *partial;		/* over the delta */
	MergeKind	merge;
	Oid			agg;			/* aggregate that it belongs to, or InvalidOid */
	Aggref	   *extreme;		/* MERGE_EXTREME: min or max over the delta */
	int			lost;			/* and the number of the state that tells whether it went, from 0 */
} StateColumn;

/* Which rows are too late for their window. */
typedef struct LateRule
{
	Interval   *lateness;		/* the view's own; NULL: each stream's */
	Interval   *keep;			/* NULL: for ever */
	AttrNumber	keep_attno;		/* column of the window function that keep goes by: 1, 2; 0: none */
	bool		final;			/* no lateness given is none; windows that are closed take no rows */
	bool		kept;			/* windows that began before what the stream keeps take no rows */
	bool		has_lateness;	/* set by weir_late_filter */
	bool		passes;			/* the view stores nothing */
	int64		shift;			/* windows are over so much later than their end, microseconds */
} LateRule;

typedef struct ViewShape
{
	const char *name;			/* of the view, for messages */
	Query	   *query;			/* definition over deltas, target list without junk */
	List	   *streams;		/* of Oid, ascending, each once */
	bool		grouped;		/* has group keys or aggregates */
	bool		in_place;		/* the result is enough to go on from: no state table */
	const char *strategy;
	char	   *why;			/* for weir.explain */
	List	   *keys;			/* of TargetEntry of query, in order of the target list */
	List	   *states;			/* of StateColumn; in_place: one per target that is no key, in order */
	Query	   *partial;		/* keys and states of a delta */
	Query	   *final;			/* results from WEIR_MERGED; NULL if in_place */
	bool		passes;			/* HAVING: the last column of final tells whether the row is in the result */
	bool		exclusive;		/* writers of the view take turns: its statement reads the result */
	struct Recompute *recompute;	/* touched keys are computed anew (recompute.h), or NULL */
	bool		joins_table;	/* reads a table besides its streams */
	bool		tables;			/* it reads views that change: computed from their tables (tables.c) */
	bool		retracts;		/* and what goes there is taken back from states (retract.c) */
	Expr	   *gone;			/* retracts: over the delta, is it an old version of a row? */
	char	   *obstacle;		/* tables: why it cannot be so, or NULL */
	bool		finals;			/* weir.emit = 'final': rows are inserted when their window closes */
	List	   *hidden_keys;	/* of TargetEntry: group keys of a final view that its select list does not show */
	int			end_column;		/* final: number of the state table's column that holds the window's end */
	Expr	   *end;			/* and what it is, over the delta */
	bool		at_close;		/* final, and run over the kept rows when windows close: no states */
	List	   *window_calls;	/* at_close: of FuncExpr */
	Interval   *window_span;	/* at_close: how long the longest window lasts */
	int64		window_before;	/* at_close: rows that count may be so far before a window that the result shows, microseconds */
	List	   *unsure;			/* at_close: of int, columns that are a window's in some rows only, NULL in others */
	bool		outer;			/* at_close: with an outer join of streams */
	bool		instants;		/* at_close: no windows, rows of the result have a time (instant.c) */
	bool		first;			/* of these: the first row per key */
	bool		over;			/* of these: moving frames over the event time (over.c) */
	int64		remembered;		/* over: the state table holds the rows of so many last times of each key (over_memory.c); 0: none is needed */
	int64		remembered_span;	/* and of so much time, microseconds */
	bool		limits;			/* at_close: LIMIT or OFFSET, of each window */
	int64		close_shift;	/* how much later than their end windows close, or than their time rows of a join, microseconds */
	Query	   *late;			/* rows left out: partition, offset, event time, window_start, row, perhaps reason; or NULL */
	struct DistinctShape *distinct;	/* aggregates with DISTINCT go by sets of values (distinct.h), or NULL */
	Oid			values_relid;	/* their table, once the view is there */
	struct SessionShape *session;	/* the windows are sessions (session.h), or NULL */
	bool		joins;			/* joins streams (join.c) */
	bool		at_once;		/* with an outer join: rows without a match come at once, and go when one comes (join_once.c) */
	bool		closes;			/* with an outer join: rows without a match come at a close (join_outer.c) */
	int64		join_reach;		/* joins: how far behind the watermark, less lateness, kept rows are needed, microseconds; -1: no bound */
	int64		join_slack;		/* joins: the lateness that weir.keep leaves where none is given, microseconds */
} ViewShape;

/* How much of a query weir keeps itself, and so what it may hold. */
typedef enum CheckMode
{
	CHECK_MERGES,				/* states that merge: one level of grouping */
	CHECK_RECOMPUTE,			/* keys are computed anew: any aggregate, several levels */
	CHECK_WINDOWED				/* run at close: set operations and LIMIT, too */
} CheckMode;

/* check.c: raises 0A000 for what cannot be kept; the query has its views over streams expanded. */
extern void weir_check_query(Query *query, const char *name, bool final, CheckMode mode);
extern void weir_check_expressions(Query *query, const char *name);
extern void weir_check_whole_rows(Query *query, const char *name);
extern bool weir_query_has_stream(Node *node);
weir_noreturn extern void weir_refuse(const char *name, const char *detail, const char *hint);

/* rewrite.c */
extern Query *weir_rewrite_expand(Query *query);
extern List *weir_rewrite_streams(Query *query);
extern List *weir_rewrite_views(Query *query);
extern void weir_rewrite_check_settings(Query *query);
extern void weir_rewrite_estimate(Query *query, double rows);

/* readable.c */
extern Query *weir_rewrite_readable(Query *query);

/* shape.c */
extern ViewShape *weir_shape_make(Query *definition, const char *name, bool final, bool at_once,
								  Interval *lateness, Interval *keep);
extern ViewShape *weir_shape_make_as(const char *strategy, Query *definition, const char *name, bool final, bool at_once,
									 Interval *lateness, Interval *keep);
extern Query *weir_shape_definition(Oid query_relid);
extern void weir_distinct_as_groups(Query *query);

/* retract.c: views over views that change, kept by what came and went there */
extern bool weir_retract_prepare(ViewShape *shape, const char *strategy);
extern const char *weir_retract_cost(ViewShape *shape);

/* retract_states.c: their states */
extern Expr *weir_retract_rows(ViewShape *shape);
extern char *weir_retract_extreme(ViewShape *shape, StateColumn *state, List *columns);
extern void weir_retract_splice(ViewShape *shape, Query *query);
extern bool weir_retract_looks_up(ViewShape *shape);
extern int	weir_retract_number(ViewShape *shape, StateColumn *state);
extern char *weir_retract_before(StateColumn *state);
extern Query *weir_retract_below(ViewShape *shape, List *extremes);
extern Query *weir_retract_clear(Oid state);
extern Query *weir_retract_empty(ViewShape *shape, Oid state);
extern Query *weir_retract_states(ViewShape *shape, Oid state);

/* retract_lookup.c: statements beside the maintenance statement, and the relations between them */
#define WEIR_CHANGES		"weir_changes"	/* net states of the groups that a batch touches */
#define WEIR_LOST_GROUPS	"weir_lost"		/* keys of groups that lost a least or greatest value */
#define WEIR_FOUND			"weir_found"	/* the same, with what it is now */
typedef struct RetractStatements
{
	Query	   *changes;
	Query	   *lost;
	Query	   *found;
	Query	   *set;
} RetractStatements;
extern RetractStatements *weir_retract_lookup(ViewShape *shape, Oid state);

/* aggregates.c */
extern Oid	weir_aggregate_combinefn(Oid agg);
extern bool weir_aggregate_merges(Aggref *agg);
extern char *weir_aggregate_own(Aggref *agg);
extern bool weir_aggregate_by_arrival(Aggref *agg);
extern bool weir_equal_is_same(Oid type, Oid collation, Oid operator);

/* arrival.c: weir.first, weir.last, weir.list of a level take rows as they arrived */
extern void weir_arrival_order(Query *level);
extern void weir_arrival_ties(Query *level);
extern List *weir_arrival_break_ties(Query *level, List *clauses);

/* statement.c */
extern Query *weir_statement_make(ViewShape *shape, Oid result, Oid state);
extern Query *weir_statement_whole(ViewShape *shape, Oid result, Oid state);
extern char *weir_statement_states(ViewShape *shape, Oid state);

/* statement_text.c: what the texts of statements are put together from */
extern Query *weir_statement_parse(const char *sql);
extern void weir_statement_splice(Query *query, const char *alias, Query *part);
extern Query *weir_statement_unite(const char *alias, List *queries);
extern char *weir_statement_placeholder(List *targets);
extern char *weir_statement_type(Oid type, int32 typmod);
extern List *weir_statement_columns(Oid relid, List *targets);
extern AttrNumber weir_live_column(Oid relid, int n);
extern int	weir_live_number(Oid relid, AttrNumber attno);
extern char *weir_text_numbered(const char *prefix, int n);
extern char *weir_text_aliases(const char *name, int n);
extern char *weir_text_names(const char *prefix, List *names);
extern char *weir_text_row(const char *columns);
extern char *weir_operator_text(Oid operator);
extern char *weir_null_text(const char *value, Oid type);
extern char *weir_match_text(const char *left, const char *right, Oid type, bool never_null);

/*
 * scope.c: as whom and with which settings a view is maintained. An error's
 * abort puts user and settings back; weir_applying_end is for the caller.
 */
typedef struct ViewScope
{
	Oid			save_userid;
	int			save_sec_context;
	int			guc_level;
} ViewScope;
extern void weir_view_scope_open(View *view, ViewScope *scope);
extern void weir_view_scope_pin(void);
extern void weir_view_scope_plain(void);
extern void weir_view_scope_settings(View *view);
extern void weir_view_scope_close(ViewScope *scope);

/* Let weir's own statement change views' tables; the trigger on them refuses all else. */
extern int	weir_applying_begin(void);
extern void weir_applying_end(int outer_depth);
extern void weir_applying_exec(const char *sql);
extern bool weir_is_applying(void);

/* run.c: plans and runs an analysed statement with deltas registered. */
extern List *weir_run_rewrite(Query *query);
extern QueryEnvironment *weir_run_environment(List *streams, List *deltas);
extern void weir_run_take_turn(Oid view);
extern bool weir_run_try_turn(Oid view);
extern uint64 weir_run_plan_newest(PlannedStmt *plan, const char *text, QueryEnvironment *env, DestReceiver *dest);
extern uint64 weir_run_plan(PlannedStmt *plan, const char *text, QueryEnvironment *env, DestReceiver *dest);

/* statement.c: what is run for a view, from its stored definition; for the view's owner. */
typedef struct ViewStatements
{
	List	   *streams;
	int			ncolumns;		/* of the view */
	Query	   *merge;			/* the maintenance statement */
	Query	   *whole;			/* of a view that joins streams: the same for all rows of all streams at once */
	Query	   *all;			/* of a view over views that change: makes it equal its query; else NULL */
	Query	   *clear;			/* of one that takes back: empties the states */
	Query	   *states;			/* and computes them from the views' tables */
	Query	   *empty;			/* and forgets groups that have no rows any more, or NULL */
	RetractStatements *retract; /* and looks up least and greatest values that went, or NULL */
	bool		exclusive;		/* writers take turns, and read what the last one left */
	Query	   *late;			/* finds late rows, or NULL: partition, offset, event time, window_start, record or NULL */
	Query	   *next;			/* of a view that is run at close: the next end of a window */
	Interval   *span;			/* and how long windows last */
	Query	   *close;			/* of a final view: moves what has closed from the state table into the view */
	Query	   *remember;		/* of one with OVER: keeps the last rows of the keys that closed, behind close; or NULL */
	struct SessionStatements *sessions; /* of a view over sessions, or NULL */
} ViewStatements;
extern void weir_view_statements(View *view, ViewStatements *statements);
extern ViewShape *weir_view_shape(View *view);

/* pass.c: views with weir.keep = 0, which store nothing */
extern bool weir_view_passes(View *view);
extern void weir_pass_check(ViewShape *shape);
extern char *weir_pass_obstacle(View *view, int ncolumns);
extern void weir_pass_prepare(Query *insert, bool direct);
extern uint64 weir_pass_run(View *view, PlannedStmt *plan, const char *text, QueryEnvironment *env,
							bool newest);

/* unfold.c */
extern void weir_tumble_unfold(Query *query);
extern bool weir_joined_inner(Node *node, int rtindex);

/* late.c */
extern bool weir_query_has_delta(Node *node);
extern Expr *weir_late_expose(Query *query, const char *column);
extern AttrNumber weir_late_expose_in(Query *query, const char *column, RangeTblEntry *rte);
extern void weir_late_filter(ViewShape *shape, LateRule *rule);
extern void weir_late_only_closed(Query *query);
extern void weir_late_only_found_open(Query *query);
extern void weir_late_note(List *streams, LateRule *rule);
extern Expr *weir_late_deadline(Query *query, LateRule *rule, bool expired);
extern Expr *weir_late_deadline_of(Query *query, int rtindex, LateRule *rule);
extern Expr *weir_late_condition(Query *query, int rtindex, int item, LateRule *rule);
extern Query *weir_late_query(Query *query, LateRule *rule);
extern bool weir_late_wanted(List *streams);
extern void weir_late_targets(Query *late, Expr **exprs, int n);
extern void weir_late_select_rows(Query *late);
extern Expr *weir_late_record(Query *query);

/* final.c: views with weir.emit = 'final' */
extern List *weir_final_hidden_keys(Query *query);
extern Expr *weir_final_time(const char *function);
extern Expr *weir_final_end(ViewShape *shape, int *key);
extern Expr *weir_final_max(Expr *end);
weir_noreturn extern void weir_final_refuse_time(ViewShape *shape);
extern void weir_final_sort(Query *final, Expr *end);
extern Query *weir_final_close_statement(ViewShape *shape, Oid result, Oid state);
extern Query *weir_final_closed(ViewShape *shape);

/* instant.c: finals without windows, of joins and of first rows */
extern bool weir_instant_join(ViewShape *shape);
extern bool weir_instant_first(ViewShape *shape, LateRule *rule);
extern Query *weir_instant_late_rows(Query *level, LateRule *rule, int64 after);
extern void weir_instant_in_time(Query *level, LateRule *rule);
extern void weir_instant_only_closing(Query *level);
extern void weir_instant_closing_from(Query *level, bool until_close);

/* atclose.c */
extern void weir_atclose_windowed(ViewShape *shape, LateRule *rule);
extern void weir_atclose_make(ViewShape *shape, LateRule *rule);
extern Query *weir_atclose_statement(ViewShape *shape, Oid result, Oid state);
extern Query *weir_atclose_next(ViewShape *shape);
extern TimestampTz weir_atclose_end(PlannedStmt *next, QueryEnvironment *env);
extern List *weir_atclose_deltas(View *view, Interval *span);

/* inspect.c: which kept rows belong to a view, as SQL over the hidden columns; NULL: all. */
extern char *weir_view_since(View *view, Oid stream);

/* slices.c */
extern void weir_slices_make(ViewShape *shape);

/* keep.c: where an expression comes from, through sub-selects; false: from no column. */
typedef struct ColumnOrigin
{
	AttrNumber	window;			/* 1 window_start, 2 window_end of a window function; 0: a column of a stream */
	bool		event_time;		/* the column, or what the window is over, is the event time */
	bool		not_null;		/* declared so */
	Oid			stream;
	char	   *column;			/* the stream's, or that of the time in the window; NULL: not known */
	FuncExpr   *call;			/* of the window function */
} ColumnOrigin;
extern bool weir_trace_column(Query *query, Node *node, ColumnOrigin *origin);
extern AttrNumber weir_trace_window(Query *query, Node *node, bool *event_time);
extern AttrNumber weir_keep_window(ViewShape *shape);
extern char *weir_own_function(RangeTblEntry *rte);
extern bool weir_is_window(RangeTblEntry *rte);
extern FuncExpr *weir_window_call(RangeTblEntry *rte);
extern bool weir_is_tumble(RangeTblEntry *rte);
extern bool weir_is_cumulate(FuncExpr *call);
extern bool weir_has_window(Query *query);
extern Oid	weir_delta_stream(RangeTblEntry *rte);
extern bool weir_is_event_time(Query *query, Node *node);
extern bool weir_shape_passes(ViewShape *shape, TargetEntry *tle);
extern char *weir_keep_column(ViewShape *shape, List *names, bool required);
extern int	weir_first_event_column(ViewShape *shape, bool *overlapping);

/*
 * inspect.c: DT_NOBEGIN if the kept rows are all that the streams ever had;
 * else the time from which on they are all there, and the number of the view's column
 * that tells. Raises 55000 if there is none.
 */
extern TimestampTz weir_view_covered_from(View *view, int *column);

/* Are all rows that ever came kept? Can they all be read from topics? */
extern bool weir_view_is_whole(View *view);
extern bool weir_view_has_topics(View *view);

/* define.c */
extern void weir_view_lock_streams(List *streams);
extern uint64 weir_view_fill(View *view, const char *qual);

/* change.c */
extern void weir_view_alter_columns(const char *commands, const char *table);
extern void weir_view_start_now(View *view);

/* late_rows.c: counts the rows that a run of the late statement found, and keeps them where weir.late = 'keep'. */
extern int64 weir_late_collect(View *view, Oid stream, PlannedStmt *plan, QueryEnvironment *env);

/* expire.c: deletes rows that weir.keep no longer covers; returns how many. */
extern uint64 weir_view_expire(View *view, TimestampTz stream_time);
extern bool weir_view_expires_by_batches(View *view, bool sessions);
extern TimestampTz weir_view_keep_limit(View *view, TimestampTz stream_time);
extern void weir_view_index_age(View *view);
extern char *weir_time_literal(TimestampTz time);
extern char *weir_age_condition(Oid relid, int column, const char *operator, TimestampTz time);
extern int	weir_state_key(ViewShape *shape, int column);

/* apply.c */
extern uint64 weir_view_apply_empty(View *view);
extern uint64 weir_view_apply_whole(View *view, List *deltas);
extern uint64 weir_view_apply_close(View *view, TimestampTz closed, TimestampTz closing, Interval *span);
extern TimestampTz weir_view_next_end(View *view, TimestampTz closed, Interval **span);

/* close.c: of the view at hand, what weir.closed_until() and weir.closing_until() return. */
typedef struct WindowTimes
{
	TimestampTz closed;
	TimestampTz closing;
} WindowTimes;
extern WindowTimes weir_window_times;

#endif							/* WEIR_SHAPE_H */
