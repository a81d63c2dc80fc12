/*
 * kafka_stubs.c
 *	  The few functions of PostgreSQL that src/source/kafka_{client,read,query,connect,log}.c
 *	  use, so that their unit test runs without a server.
 */
#include "postgres.h"

#include <signal.h>
#include <stdarg.h>

#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"

volatile sig_atomic_t InterruptPending = false;
volatile sig_atomic_t QueryCancelPending = false;
volatile sig_atomic_t ProcDiePending = false;
volatile sig_atomic_t ShutdownRequestPending = false;
sigjmp_buf *PG_exception_stack = NULL;
ErrorContextCallback *error_context_stack = NULL;

/* PostgreSQL's headers replace printf and friends by its own. */
#undef snprintf
#undef vsnprintf
#undef printf
#undef vprintf
#undef strerror

int
pg_snprintf(char *text, size_t size, const char *fmt,...)
{
	va_list		args;
	int			n;

	va_start(args, fmt);
	n = vsnprintf(text, size, fmt, args);
	va_end(args);
	return n;
}

int
pg_vprintf(const char *fmt, va_list args)
{
	return vprintf(fmt, args);
}

int
pg_printf(const char *fmt,...)
{
	va_list		args;
	int			n;

	va_start(args, fmt);
	n = vprintf(fmt, args);
	va_end(args);
	return n;
}

char *
pg_strerror(int errnum)
{
	return strerror(errnum);
}

char *
psprintf(const char *fmt,...)
{
	char	   *text = malloc(1024);
	va_list		args;

	va_start(args, fmt);
	vsnprintf(text, 1024, fmt, args);
	va_end(args);
	return text;
}

char *
pstrdup(const char *in)
{
	return strdup(in);
}

void
ProcessInterrupts(void)
{
}

void
on_proc_exit(pg_on_exit_callback function, Datum arg)
{
}

int
pg_strncasecmp(const char *a, const char *b, size_t n)
{
	return strncasecmp(a, b, n);
}

void
pg_re_throw(void)
{
	abort();
}

bool
errstart(int elevel, const char *domain)
{
	abort();
}

bool
errstart_cold(int elevel, const char *domain)
{
	abort();
}

void
errfinish(const char *filename, int lineno, const char *funcname)
{
	abort();
}

int
errmsg_internal(const char *fmt,...)
{
	abort();
}

#ifdef USE_ASSERT_CHECKING
void
ExceptionalCondition(const char *conditionName,
#if PG_VERSION_NUM < 160000
					 const char *errorType,
#endif
					 const char *fileName, int lineNumber)
{
	fprintf(stderr, "assertion failed: %s, %s:%d\n", conditionName, fileName, lineNumber);
	abort();
}
#endif

List *
lappend(List *list, void *datum)
{
	if (list == NULL)
	{
		list = calloc(1, sizeof(List));
		list->type = T_List;
	}
	list->elements = realloc(list->elements, sizeof(ListCell) * (list->length + 1));
	list->max_length = list->length + 1;
	list->elements[list->length++].ptr_value = datum;
	return list;
}
