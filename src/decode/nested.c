/*
 * nested.c
 *	  Converters of arrays, composite types and domains.
 *
 * See convert.h. A JSON array becomes a PostgreSQL array, inner arrays
 * further dimensions (not so for json[] and jsonb[], whose elements are
 * documents); a JSON object becomes a composite value by the names of the fields.
 * Strings go to the types' input functions: '{1,2}' and '(1,2)'.
 * Recursion is bounded by the nesting of the type, not of the message.
 */
#include "decode/convert.h"

#include "access/htup_details.h"
#include "decode/json_cursor.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/typcache.h"

typedef struct ArrayBuild
{
	Datum	   *elements;
	bool	   *nulls;
	int			n;
	int			capacity;
	int			dims[MAXDIM];	/* -1: not known yet */
	int			ndims;			/* depth at which elements stand; 0: not known yet */
} ArrayBuild;

/* Fields of a composite type, as of one version of it. */
struct CompositeShape
{
	TypeCacheEntry *cache;
	uint64		version;		/* tupDesc_identifier */
	TupleDesc	desc;
	Converter **converters;		/* NULL: dropped */
	char	  **names;			/* UTF-8 */
	size_t	   *lengths;
};

static bool
fail_array(Converter *self, const char *why)
{
	return weir_convert_fail(self->run, ERRCODE_INVALID_TEXT_REPRESENTATION,
							 "cannot make an array of type %s: %s", self->type_name, why);
}

static bool
append_element(Converter *self, ArrayBuild *build, const JsonField *value)
{
	if (build->n == build->capacity)
	{
		if (build->capacity >= (int) MaxArraySize)
			return weir_convert_fail(self->run, ERRCODE_PROGRAM_LIMIT_EXCEEDED,
									 "array size exceeds the maximum allowed (%d)", (int) MaxArraySize);
		build->capacity = Min(build->capacity * 2, (int) MaxArraySize);
		build->elements = repalloc(build->elements, build->capacity * sizeof(Datum));
		build->nulls = repalloc(build->nulls, build->capacity * sizeof(bool));
	}
	if (!weir_convert(self->inner, value, &build->elements[build->n], &build->nulls[build->n]))
		return false;
	build->n++;
	return true;
}

/* Appends what an array at depth level (1 is the outermost) holds. */
static bool
append_array(Converter *self, ArrayBuild *build, const JsonField *array, int level)
{
	JsonCursor	cursor;
	JsonField	value;
	int			items = 0;

	check_stack_depth();
	if (level > MAXDIM)
		return weir_convert_fail(self->run, ERRCODE_PROGRAM_LIMIT_EXCEEDED,
								 "number of array dimensions exceeds the maximum allowed (%d)", MAXDIM);
	weir_json_cursor_open(&cursor, array);
	for (; weir_json_cursor_next(&cursor, NULL, &value); items++)
	{
		bool		inner = value.kind == JSON_KIND_ARRAY && self->elements_nest;

		if (!inner && build->ndims == 0)
			build->ndims = level;
		if (build->ndims != 0 && inner != (level < build->ndims))
			return fail_array(self, "arrays and elements stand side by side");
		if (inner ? !append_array(self, build, &value, level + 1) : !append_element(self, build, &value))
			return false;
	}
	if (build->dims[level - 1] >= 0 && build->dims[level - 1] != items)
		return fail_array(self, "inner arrays differ in length");
	build->dims[level - 1] = items;
	return true;
}

bool
weir_convert_array(Converter *self, const JsonField *value, Datum *datum)
{
	ArrayBuild	build = {.capacity = 16};
	int			lower_bounds[MAXDIM];
	ArrayType  *array;

	if (value->kind == JSON_KIND_STRING)
		return weir_convert_input(self, value->text, value->len, datum);
	if (value->kind != JSON_KIND_ARRAY)
		return weir_convert_fail(self->run, ERRCODE_INVALID_TEXT_REPRESENTATION,
								 "malformed array literal: \"%s\"",
								 weir_convert_excerpt(self->run, value->text, value->len));

	build.elements = palloc(build.capacity * sizeof(Datum));
	build.nulls = palloc(build.capacity * sizeof(bool));
	for (int i = 0; i < MAXDIM; i++)
	{
		build.dims[i] = -1;
		lower_bounds[i] = 1;
	}
	if (!append_array(self, &build, value, 1))
		return false;
	if (build.n == 0)
		array = construct_empty_array(self->inner->type);
	else
		array = construct_md_array(build.elements, build.nulls, build.ndims, build.dims, lower_bounds,
								   self->inner->type, self->typlen, self->typbyval, self->typalign);
	*datum = PointerGetDatum(array);
	return true;
}

/* Learns a composite type's fields; again when it has changed. */
static CompositeShape *
composite_shape(Converter *self)
{
	TypeCacheEntry *cache = lookup_type_cache(self->type, TYPECACHE_TUPDESC);
	CompositeShape *shape = self->shape;
	MemoryContext old;

	if (shape && shape->version == cache->tupDesc_identifier)
		return shape;
	if (cache->tupDesc == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("type %s is not composite", self->type_name)));

	old = MemoryContextSwitchTo(self->run->cxt);
	shape = palloc0(sizeof(CompositeShape));
	shape->version = cache->tupDesc_identifier;
	shape->desc = CreateTupleDescCopy(cache->tupDesc);
	shape->converters = palloc0(shape->desc->natts * sizeof(Converter *));
	shape->names = palloc0(shape->desc->natts * sizeof(char *));
	shape->lengths = palloc0(shape->desc->natts * sizeof(size_t));
	for (int i = 0; i < shape->desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(shape->desc, i);

		if (att->attisdropped)
			continue;
		shape->converters[i] = weir_converter_create(self->run, att->atttypid, att->atttypmod);
		shape->names[i] = pstrdup(pg_server_to_any(NameStr(att->attname), strlen(NameStr(att->attname)), PG_UTF8));
		shape->lengths[i] = strlen(shape->names[i]);
	}
	MemoryContextSwitchTo(old);
	self->shape = shape;
	return shape;
}

static int
find_field(const CompositeShape *shape, const JsonField *key, int guess)
{
	int			natts = shape->desc->natts;

	for (int step = 0; step < natts; step++)
	{
		int			i = (guess + step) % natts;

		if (shape->names[i] && shape->lengths[i] == key->len &&
			memcmp(shape->names[i], key->text, key->len) == 0)
			return i;
	}
	return -1;
}

bool
weir_convert_composite(Converter *self, const JsonField *value, Datum *datum)
{
	CompositeShape *shape;
	JsonField  *fields;
	JsonField	key;
	JsonField	item;
	JsonCursor	cursor;
	Datum	   *values;
	bool	   *nulls;
	int			guess = 0;

	if (value->kind == JSON_KIND_STRING)
		return weir_convert_input(self, value->text, value->len, datum);
	if (value->kind != JSON_KIND_OBJECT)
		return weir_convert_fail(self->run, ERRCODE_INVALID_TEXT_REPRESENTATION,
								 "malformed record literal: \"%s\"",
								 weir_convert_excerpt(self->run, value->text, value->len));

	shape = composite_shape(self);
	fields = palloc0((shape->desc->natts + 1) * sizeof(JsonField));
	values = palloc0((shape->desc->natts + 1) * sizeof(Datum));
	nulls = palloc((shape->desc->natts + 1) * sizeof(bool));
	weir_json_cursor_open(&cursor, value);
	while (weir_json_cursor_next(&cursor, &key, &item))
	{
		int			i = find_field(shape, &key, guess);

		if (i >= 0)
		{
			fields[i] = item;
			guess = i + 1;
		}
	}
	for (int i = 0; i < shape->desc->natts; i++)
	{
		nulls[i] = true;
		if (shape->converters[i] &&
			!weir_convert(shape->converters[i], &fields[i], &values[i], &nulls[i]))
			return false;
	}
	*datum = HeapTupleGetDatum(heap_form_tuple(shape->desc, values, nulls));
	return true;
}

/* Converts to the base type, then asks the domain; it also sees missing and null values. */
bool
weir_convert_domain(Converter *self, const JsonField *value, Datum *datum)
{
	bool		isnull = value->kind == JSON_KIND_MISSING || value->kind == JSON_KIND_NULL;

	*datum = (Datum) 0;
	if (!isnull && !self->inner->convert(self->inner, value, datum))
		return false;
	domain_check(*datum, isnull, self->type, &self->domain_cache, self->run->cxt);
	return true;
}
