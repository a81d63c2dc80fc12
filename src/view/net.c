/*
 * net.c
 *	  Sums of numerics that can be added and taken away exactly.
 *
 * weir.net(x, gone, squares) is over rows that came and went: sum (and sum of squares) of the finite values, how many there
 * are, how many NaN and infinities, and how many of each display scale, as bytea. weir.net_add(a, b)
 * adds two of them, so that what came is taken back by what went. weir.net_state(net, squares) is the transition state
 * that PostgreSQL's own sum, avg, variance and stddev of numeric would have over the rows left, as they serialise it:
 * weir.finalize (partial.c) makes the result of it, which so has the digits and scale of the query's own.
 *
 * retract.c uses them. No catalogs, no locks. Memory: the group's context in the aggregate, else the caller's.
 */
#include "postgres.h"

#include "fmgr.h"
#include "lib/stringinfo.h"
#include "libpq/pqformat.h"
#include "compat.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"

PG_FUNCTION_INFO_V1(weir_net_step);
PG_FUNCTION_INFO_V1(weir_net_final);
PG_FUNCTION_INFO_V1(weir_net_add);
PG_FUNCTION_INFO_V1(weir_net_state);

/* Squares of more digits behind the point would be rounded. */
#define MOST_SCALE_OF_SQUARES	8191

typedef struct ScaleCount
{
	int32		scale;
	int64		count;
} ScaleCount;

typedef struct Net
{
	int64		finite;
	int64		nan;
	int64		plus;			/* Infinity */
	int64		minus;			/* -Infinity */
	Numeric		sum;			/* of the finite ones */
	Numeric		squares;		/* NULL: not wanted */
	int			nscales;
	int			room;
	ScaleCount *scales;
} Net;

static Numeric
zero(void)
{
	return DatumGetNumeric(DirectFunctionCall1(int8_numeric, Int64GetDatum(0)));
}

static Numeric
binary(PGFunction function, Numeric a, Numeric b)
{
	return DatumGetNumeric(DirectFunctionCall2(function, NumericGetDatum(a), NumericGetDatum(b)));
}

/* *sum += or -= value; the old sum is freed. */
static void
change_sum(Numeric *sum, Numeric value, bool less)
{
	Numeric		old = *sum;

	*sum = binary(less ? numeric_sub : numeric_add, old, value);
	pfree(old);
}

static void
count_scale(Net *net, int32 scale, int64 count)
{
	int			i;

	for (i = 0; i < net->nscales && net->scales[i].scale != scale; i++)
		;
	if (i == net->nscales)
	{
		if (net->nscales == net->room)
		{
			net->room = Max(4, net->room * 2);
			net->scales = net->scales ? repalloc(net->scales, net->room * sizeof(ScaleCount)) :
				palloc(net->room * sizeof(ScaleCount));
		}
		net->scales[net->nscales++] = (ScaleCount) {scale, 0};
	}
	net->scales[i].count += count;
	if (net->scales[i].count == 0)
		net->scales[i] = net->scales[--net->nscales];
}

/* --- the aggregate -------------------------------------------------------------- */

static void
take_finite(Net *net, Numeric value, bool gone)
{
	int32		scale = DatumGetInt32(DirectFunctionCall1(numeric_scale, NumericGetDatum(value)));

	net->finite += gone ? -1 : 1;
	count_scale(net, scale, gone ? -1 : 1);
	change_sum(&net->sum, value, gone);
	if (net->squares)
	{
		Numeric		square;

		if (scale > MOST_SCALE_OF_SQUARES)
			ereport(ERROR,
					(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
					 errmsg("a value with more than %d digits behind the point cannot be taken back from a variance", MOST_SCALE_OF_SQUARES)));
		square = binary(numeric_mul, value, value);
		change_sum(&net->squares, square, gone);
		pfree(square);
	}
}

/* weir.net_step(internal, numeric, gone boolean, squares boolean) */
Datum
weir_net_step(PG_FUNCTION_ARGS)
{
	MemoryContext group;
	MemoryContext old;
	Net		   *net = PG_ARGISNULL(0) ? NULL : (Net *) PG_GETARG_POINTER(0);
	Numeric		value;
	bool		gone = !PG_ARGISNULL(2) && PG_GETARG_BOOL(2);
	int			sign = gone ? -1 : 1;

	if (AggCheckCallContext(fcinfo, &group) != AGG_CONTEXT_AGGREGATE)
		elog(ERROR, "weir.net_step called outside of an aggregate");
	if (PG_ARGISNULL(1))
	{
		if (net == NULL)
			PG_RETURN_NULL();
		PG_RETURN_POINTER(net);
	}
	value = PG_GETARG_NUMERIC(1);
	old = MemoryContextSwitchTo(group);
	if (net == NULL)
	{
		net = palloc0(sizeof(Net));
		net->sum = zero();
		net->squares = !PG_ARGISNULL(3) && PG_GETARG_BOOL(3) ? zero() : NULL;
	}
	if (numeric_is_nan(value))
		net->nan += sign;
	else if (!numeric_is_inf(value))
		take_finite(net, value, gone);
	else if (DatumGetBool(DirectFunctionCall2(numeric_gt, NumericGetDatum(value), NumericGetDatum(net->sum))))
		net->plus += sign;
	else
		net->minus += sign;
	MemoryContextSwitchTo(old);
	PG_RETURN_POINTER(net);
}

/* --- as bytes ---------------------------------------------------------------------- */

static void
put_numeric(StringInfo buf, Numeric value)
{
	bytea	   *bytes = value ? DatumGetByteaPP(DirectFunctionCall1(numeric_send, NumericGetDatum(value))) : NULL;

	pq_sendint32(buf, bytes ? VARSIZE_ANY_EXHDR(bytes) : 0);
	if (bytes)
		pq_sendbytes(buf, VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes));
}

static Numeric
get_numeric(StringInfo buf)
{
	int			len = pq_getmsgint(buf, 4);
	StringInfoData part;

	if (len == 0)
		return NULL;
	initStringInfo(&part);
	appendBinaryStringInfo(&part, pq_getmsgbytes(buf, len), len);
	return DatumGetNumeric(DirectFunctionCall3(numeric_recv, PointerGetDatum(&part), ObjectIdGetDatum(InvalidOid), Int32GetDatum(-1)));
}

static bytea *
write_net(Net *net)
{
	StringInfoData buf;

	pq_begintypsend(&buf);
	pq_sendint64(&buf, net->finite);
	pq_sendint64(&buf, net->nan);
	pq_sendint64(&buf, net->plus);
	pq_sendint64(&buf, net->minus);
	put_numeric(&buf, net->sum);
	put_numeric(&buf, net->squares);
	pq_sendint32(&buf, net->nscales);
	for (int i = 0; i < net->nscales; i++)
	{
		pq_sendint32(&buf, net->scales[i].scale);
		pq_sendint64(&buf, net->scales[i].count);
	}
	return pq_endtypsend(&buf);
}

static void
read_net(bytea *bytes, Net *net)
{
	StringInfoData buf;
	int			n;

	memset(net, 0, sizeof(*net));
	initStringInfo(&buf);
	appendBinaryStringInfo(&buf, VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes));
	net->finite = pq_getmsgint64(&buf);
	net->nan = pq_getmsgint64(&buf);
	net->plus = pq_getmsgint64(&buf);
	net->minus = pq_getmsgint64(&buf);
	net->sum = get_numeric(&buf);
	net->squares = get_numeric(&buf);
	if (net->sum == NULL)
		net->sum = zero();
	n = pq_getmsgint(&buf, 4);
	for (int i = 0; i < n; i++)
	{
		int32		scale = pq_getmsgint(&buf, 4);

		count_scale(net, scale, pq_getmsgint64(&buf));
	}
	pq_getmsgend(&buf);
}

Datum
weir_net_final(PG_FUNCTION_ARGS)
{
	if (AggCheckCallContext(fcinfo, NULL) != AGG_CONTEXT_AGGREGATE)
		elog(ERROR, "weir.net_final called outside of an aggregate");
	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	PG_RETURN_BYTEA_P(write_net((Net *) PG_GETARG_POINTER(0)));
}

/* weir.net_add(bytea, bytea), strict */
Datum
weir_net_add(PG_FUNCTION_ARGS)
{
	Net			a;
	Net			b;

	read_net(PG_GETARG_BYTEA_PP(0), &a);
	read_net(PG_GETARG_BYTEA_PP(1), &b);
	a.finite += b.finite;
	a.nan += b.nan;
	a.plus += b.plus;
	a.minus += b.minus;
	change_sum(&a.sum, b.sum, false);
	if (a.squares && b.squares)
		change_sum(&a.squares, b.squares, false);
	for (int i = 0; i < b.nscales; i++)
		count_scale(&a, b.scales[i].scale, b.scales[i].count);
	PG_RETURN_BYTEA_P(write_net(&a));
}

/* --- as PostgreSQL's transition state ---------------------------------------------- */

/* A numeric as numeric_serialize and its kin write it: what numeric_send does, in 32 bits each, with this display scale. */
static void
put_variable(StringInfo buf, Numeric value, int32 scale)
{
	bytea	   *bytes = DatumGetByteaPP(DirectFunctionCall1(numeric_send, NumericGetDatum(value)));
	StringInfoData from;
	int			ndigits;

	initStringInfo(&from);
	appendBinaryStringInfo(&from, VARDATA_ANY(bytes), VARSIZE_ANY_EXHDR(bytes));
	ndigits = pq_getmsgint(&from, 2);
	pq_sendint32(buf, ndigits);
	pq_sendint32(buf, (int16) pq_getmsgint(&from, 2));	/* weight */
	pq_sendint32(buf, pq_getmsgint(&from, 2));	/* sign */
	(void) pq_getmsgint(&from, 2);
	pq_sendint32(buf, scale);
	for (int i = 0; i < ndigits; i++)
		pq_sendint16(buf, pq_getmsgint(&from, 2));
}

/* weir.net_state(net bytea, squares boolean), strict: for sum and avg without squares, for variances with them */
Datum
weir_net_state(PG_FUNCTION_ARGS)
{
	bool		squares = PG_GETARG_BOOL(1);
	Net			net;
	ScaleCount	most = {0, 0};
	StringInfoData buf;

	read_net(PG_GETARG_BYTEA_PP(0), &net);
	for (int i = 0; i < net.nscales; i++)
	{
		if (net.scales[i].count > 0 && net.scales[i].scale >= most.scale)
			most = net.scales[i];
	}
	pq_begintypsend(&buf);
	pq_sendint64(&buf, net.finite);
	put_variable(&buf, net.sum, most.scale);
	if (squares)
		put_variable(&buf, net.squares ? net.squares : zero(), most.scale * 2);
	pq_sendint32(&buf, most.scale);
	pq_sendint64(&buf, most.count);
	pq_sendint64(&buf, net.nan);
	pq_sendint64(&buf, net.plus);
	pq_sendint64(&buf, net.minus);
	PG_RETURN_BYTEA_P(pq_endtypsend(&buf));
}
