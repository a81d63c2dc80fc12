/*
 * compat.h
 *	  The only file that tests PG_VERSION_NUM. One shim per difference, with
 *	  the release that made it.
 */
#ifndef WEIR_COMPAT_H
#define WEIR_COMPAT_H

#include "postgres.h"

#if PG_VERSION_NUM < 150000
#error "weir needs PostgreSQL 15 or newer"
#endif

#endif							/* WEIR_COMPAT_H */
