/*
 * dead_letters.h
 *	  Messages that could not be applied, on their way into weir.dead_letter.
 */
#ifndef WEIR_DEAD_LETTERS_H
#define WEIR_DEAD_LETTERS_H

#include "weir.h"
#include "decode/message.h"

/* Inserts a dead letter in this (sub)transaction; view may be InvalidOid. */
extern void weir_dead_letter_add(Oid stream, Oid view, const WeirMessage *msg,
								 int sqlstate, const char *message, const char *detail);

/* Enforces weir.dead_letter_limit now and then; at the end of a batch. */
extern void weir_dead_letter_flush(void);

#endif							/* WEIR_DEAD_LETTERS_H */
