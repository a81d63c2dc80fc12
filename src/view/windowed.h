/*
 * windowed.h
 *	  Queries all parts of which belong to one window: shared by windowed*.c and their callers in src/view.
 */
#ifndef WEIR_WINDOWED_H
#define WEIR_WINDOWED_H

#include "view/shape.h"

/* Where rows of a stream come into a window. */
typedef struct WindowPart
{
	Query	   *level;
	int			rows;			/* range table index of the sub-select that gives the rows */
	int			window;			/* that of the window function over their event time; 0: a window's column bounds them */
	bool		again;			/* another window function over the same rows came first */
	Expr	   *end;			/* bounded: the window's end, at this level, a timestamptz */
	int64		before;			/* bounded: a row is at most so far before that end, microseconds */
	int64		after;			/* and at most so far behind it; negative: before it */
	Node	  **quals;			/* bounded: the condition that says so is part of this */
} WindowPart;

typedef struct Windowed
{
	const char *name;			/* of the view, for messages */
	List	   *parts;			/* of WindowPart */
	List	   *calls;			/* of FuncExpr: window functions */
	int64		before;			/* the most of all parts */
	bool		outer;			/* with an outer join */
	List	   *unsure;			/* of int: columns of the result that are a window's, and NULL where an outer join finds nothing */
	int64		after;			/* the same, 0 or more: how much later than their end windows can close */
} Windowed;

/* --- while a level is being understood --- */

/* A column that is a bound of the window that its row belongs to. */
typedef struct Bound
{
	AttrNumber	column;			/* 1 window_start, 2 window_end, 0 neither */
	FuncExpr   *call;			/* of the window function */
	bool		nullable;		/* by an outer join: does not tell the window of every row */
	int			entry;			/* range table index of what it comes from */
} Bound;

typedef enum EntryKind
{
	ENTRY_OTHER,				/* reads no stream */
	ENTRY_ROWS,					/* rows of a stream as they are */
	ENTRY_WINDOW,				/* a window function */
	ENTRY_PART					/* a sub-select whose rows belong to windows */
} EntryKind;

typedef struct Entry
{
	EntryKind	kind;
	bool		nullable;
	Bound	   *columns;		/* ENTRY_PART: of its select list */
	int			group;			/* entries with the same number are in the same window */
	WindowPart *part;			/* ENTRY_ROWS */
} Entry;

/* A condition of a level, and what it holds for. */
typedef struct Condition
{
	Node	   *node;
	JoinType	type;
	Bitmapset  *left;			/* of an outer join: entries on either side */
	Bitmapset  *right;
	Node	  **quals;			/* that it is part of */
} Condition;

typedef struct Level
{
	Windowed   *windowed;
	Query	   *query;
	int			n;
	Entry	   *entries;		/* by range table index */
	List	   *conditions;
} Level;

/* windowed.c */
extern bool weir_windowed_wanted(Query *query);
extern Windowed *weir_windowed_analyse(Query *query, const char *name);
extern Expr *weir_windowed_key(Query *query, const char *name);

extern Bound weir_windowed_bound_of(Level *level, Node *node);
extern void weir_windowed_unite(Level *level, int a, int b);
extern WindowPart *weir_windowed_add_part(Level *level, int rows, int window);

/* windowed_bound.c */
extern bool weir_windowed_binds(Condition *condition, int a, int b);
extern int	weir_windowed_comparison(OpExpr *op);
extern void weir_windowed_bound_rows(Level *level, int rows);

/* windowed_late.c */
extern void weir_windowed_late(ViewShape *shape, Windowed *windowed, LateRule *rule);

/* limit.c */
extern Query *weir_limit_per_window(Query *query, const char *name);

#endif							/* WEIR_WINDOWED_H */
