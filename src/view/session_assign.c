/*
 * session_assign.c
 *	  To which session a row belongs: the rule, on plain numbers.
 *
 * session_run ⇒ assign. One key at a time, row by row in the order of arrival. The open
 * sessions of a key, more than a gap apart from each other, stand in an array ordered by start. A row within
 * the gap of one extends it; of two, merges them; of none, begins one. Merged sessions are linked to
 * the one that goes on (union-find), so that rows and stored sessions find it in the end.
 *
 * Late is a row within the gap of a closed session, whether or not it touches an open one, too:
 * closed sessions never merge, never change. Else it is judged by the session that it would make. A session is
 * closed for a row if last + gap < the row's deadline (stream time less lateness), or if it was
 * closed by the clock (set->closed). Why a row is late does not depend on which closed sessions are still
 * remembered: one that would be late alone is said to be so.
 *
 * An open session goes back as far as its rows lead, and closed ones before it would have to be known for ever. So there is
 * a bound: a row more than weir_session_memory() too old to begin a session does not move a start back.
 *
 * Rows mostly come in order of time, so the array is searched from its end and mostly
 * appended to. Memory: of the context that was current at init.
 */
#include "postgres.h"

#include "common/int.h"
#include "utils/timestamp.h"
#include "view/session.h"

#define FIRST_SIZE	16

/* So much older than a row that could begin a session may be one that moves a start back: a day. */
#define MEMORY	USECS_PER_DAY

void
weir_session_set_init(SessionSet *set, int64 gap, int64 closed)
{
	set->gap = gap;
	set->closed = closed;
	set->nsessions = set->norder = 0;
	set->max_sessions = set->max_order = FIRST_SIZE;
	set->sessions = palloc(sizeof(Session) * FIRST_SIZE);
	set->order = palloc(sizeof(int) * FIRST_SIZE);
}

void
weir_session_set_clear(SessionSet *set)
{
	set->nsessions = set->norder = 0;
}

/* weir_session_end_of returns last + gap; raises 22008 if there is no such time. */
int64
weir_session_end_of(int64 last, int64 gap)
{
	int64		end;

	if (TIMESTAMP_NOT_FINITE(last) || pg_add_s64_overflow(last, gap, &end) || !IS_VALID_TIMESTAMP(end))
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("timestamp out of range"),
				 errdetail("A session would end a gap after it.")));
	return end;
}

/* weir_session_memory: see MEMORY, and no less than the gap. */
int64
weir_session_memory(int64 gap)
{
	return Max(gap, MEMORY);
}

int
weir_session_root(SessionSet *set, int session)
{
	Session    *sessions = set->sessions;

	while (sessions[session].parent != session)
	{
		sessions[session].parent = sessions[sessions[session].parent].parent;
		session = sessions[session].parent;
	}
	return session;
}

/* Number of sessions that start at or before a time: so the place of one that starts behind it. */
static int
place_of(SessionSet *set, int64 time)
{
	int			low = 0;
	int			high = set->norder;

	if (high > 0 && set->sessions[set->order[high - 1]].start <= time)
		return high;
	while (low < high)
	{
		int			middle = low + (high - low) / 2;

		if (set->sessions[set->order[middle]].start <= time)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static int
insert_session(SessionSet *set, int place, int64 start, int64 last, int stored)
{
	Session    *session;

	if (set->nsessions == set->max_sessions)
	{
		set->max_sessions *= 2;
		set->sessions = repalloc_huge(set->sessions, sizeof(Session) * (Size) set->max_sessions);
	}
	if (set->norder == set->max_order)
	{
		set->max_order *= 2;
		set->order = repalloc_huge(set->order, sizeof(int) * (Size) set->max_order);
	}
	session = &set->sessions[set->nsessions];
	session->start = start;
	session->last = last;
	session->parent = set->nsessions;
	session->stored = stored;
	session->moved = 0;
	memmove(&set->order[place + 1], &set->order[place], sizeof(int) * (set->norder - place));
	set->order[place] = set->nsessions;
	set->norder++;
	return set->nsessions++;
}

/* weir_session_add_stored adds a session that the view has already; they come in order of their starts. */
void
weir_session_add_stored(SessionSet *set, int64 start, int64 last, int stored)
{
	(void) insert_session(set, place_of(set, start), start, last, stored);
}

static bool
is_closed(SessionSet *set, SessionRow *row, int64 last)
{
	int64		end = weir_session_end_of(last, set->gap);

	return end < row->deadline || end < set->closed || end <= row->expired;
}

/* Is the row too old to move the start of a session back? The closed session that it may touch there is forgotten. */
static bool
too_old(SessionSet *set, SessionRow *row)
{
	int64		time = row->time;

	return !pg_add_s64_overflow(time, weir_session_memory(set->gap), &time) && IS_VALID_TIMESTAMP(time) &&
		!pg_add_s64_overflow(time, set->gap, &time) && IS_VALID_TIMESTAMP(time) &&
		(time < row->deadline || time < set->closed || time <= row->expired);
}

/* weir_session_assign finds the row's session, and sets row->session. */
void
weir_session_assign(SessionSet *set, SessionRow *row)
{
	int			place = place_of(set, row->time);
	int			before = -1;	/* session that starts at or before the row, if within the gap */
	int			after = -1;
	int64		last = row->time;
	int64		distance;
	Session    *session;

	if (place > 0 && weir_session_end_of(set->sessions[set->order[place - 1]].last, set->gap) >= row->time)
		before = set->order[place - 1];
	if (place < set->norder &&
		!pg_sub_s64_overflow(set->sessions[set->order[place]].start, row->time, &distance) && distance <= set->gap)
		after = set->order[place];

	if ((before >= 0 && is_closed(set, row, set->sessions[before].last)) ||
		(after >= 0 && is_closed(set, row, set->sessions[after].last)))
	{
		row->session = is_closed(set, row, row->time) ? SESSION_LATE_OVER : SESSION_LATE_CLOSED;
		return;
	}
	if (before >= 0)
		last = Max(last, set->sessions[before].last);
	if (after >= 0)
		last = Max(last, set->sessions[after].last);
	if (is_closed(set, row, last) || (before < 0 && after >= 0 && too_old(set, row)))
	{
		row->session = SESSION_LATE_OVER;
		return;
	}
	if (before < 0 && after < 0)
	{
		row->session = insert_session(set, place, row->time, row->time, -1);
		return;
	}
	if (before >= 0 && after >= 0)
	{
		set->sessions[after].parent = before;
		memmove(&set->order[place], &set->order[place + 1], sizeof(int) * (set->norder - place - 1));
		set->norder--;
	}
	row->session = before >= 0 ? before : after;
	session = &set->sessions[row->session];
	session->start = Min(session->start, row->time);
	session->last = last;
}
