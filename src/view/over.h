/*
 * over.h
 *	  Finals of OVER: shared by over.c and over_memory.c, and their callers in src/view.
 */
#ifndef WEIR_OVER_H
#define WEIR_OVER_H

#include "view/shape.h"

/* over.c */
extern bool weir_over_make(ViewShape *shape, LateRule *rule);
extern Query *weir_over_level(Query *query);

/* over_memory.c */
extern bool weir_over_carries(WindowFunc *func);
extern void weir_over_remember(ViewShape *shape);
extern void weir_over_with_memory(Query *query, Oid state);
extern Query *weir_over_memory_statement(ViewShape *shape, Oid state);

#endif							/* WEIR_OVER_H */
