/*
 * publisher.h
 *	  The process that sends the outbox to Kafka.
 */
#ifndef WEIR_PUBLISHER_H
#define WEIR_PUBLISHER_H

#include "weir.h"

/* The publisher's work, in a process that worker.c has set up; returns when it is to end. */
extern void weir_publisher_run(void);

#endif							/* WEIR_PUBLISHER_H */
