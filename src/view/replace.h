/*
 * replace.h
 *	  weir.replace(): another query for a view that stays.
 */
#ifndef WEIR_REPLACE_H
#define WEIR_REPLACE_H

#include "weir.h"
#include "catalog/view.h"
#include "nodes/parsenodes.h"

typedef struct Replace
{
	View	   *view;			/* the one that stays */
	char	   *table;			/* its name */
	View	   *beside;			/* with the new query; takes the place of the first */
	List	   *kept;			/* of char *: columns of both, in the table's order */
	List	   *added;			/* of char *: columns of the new query only */
	List	   *dropped;		/* of char *: columns of the table only */
} Replace;

/* replace.c */
extern void weir_replace_compare(Replace *replace, Query *query);
extern void weir_replace_check(View *view);
extern void weir_replace_check_kind(Replace *replace);
extern List *weir_replace_inlined(View *view);
extern View *weir_replace_twin(View *view);
extern void weir_replace_take_place(Replace *replace, bool guarded);

/* replace_topic.c: from the topic, by the workers */
extern char *weir_replace_name(View *view);
extern void weir_replace_begin(Replace *replace);

/* The view that is to take the place of this one; NULL: none. */
extern View *weir_replace_pending(Oid view);
extern void weir_replace_give_up(View *view);

/*
 * For the first worker. weir_replace_ready: views that have caught up and may take their places, List of Oid.
 * weir_replace_finish lets one do so, inside a transaction; errors of the two views are noted, others are raised.
 */
extern List *weir_replace_ready(void);
extern void weir_replace_finish(Oid beside);

#endif							/* WEIR_REPLACE_H */
