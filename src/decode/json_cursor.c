/*
 * json_cursor.c
 *	  Steps through the items of a JSON array or object that the reader has checked.
 *
 * nested.c uses it for arrays and composite types. It trusts its input: only
 * text that weir_json_reader_parse accepted as an array or object may come here. So it
 * checks nothing and cannot fail.
 */
#include "postgres.h"

#include "decode/json_cursor.h"
#include "mb/pg_wchar.h"

static const char *
skip_space(const char *p)
{
	while (*p == ' ' || *p == '\n' || *p == '\t' || *p == '\r')
		p++;
	return p;
}

/* Behind the string that starts at p. */
static const char *
skip_string(const char *p, bool *escaped)
{
	*escaped = false;
	for (p++; *p != '"'; p++)
	{
		if (*p == '\\')
		{
			*escaped = true;
			p++;
		}
	}
	return p + 1;
}

/* Behind the array or object that starts at p. */
static const char *
skip_container(const char *p)
{
	int			depth = 0;
	bool		escaped;

	for (;;)
	{
		switch (*p)
		{
			case '"':
				p = skip_string(p, &escaped);
				continue;
			case '{':
			case '[':
				depth++;
				break;
			case '}':
			case ']':
				if (--depth == 0)
					return p + 1;
				break;
		}
		p++;
	}
}

/* Behind the number, true, false or null that starts at p. */
static const char *
skip_scalar(const char *p)
{
	while (*p != ',' && *p != ']' && *p != '}' && *p != ' ' && *p != '\n' && *p != '\t' && *p != '\r')
		p++;
	return p;
}

static pg_wchar
four_digits(const char *p)
{
	pg_wchar	code = 0;

	for (int i = 0; i < 4; i++)
	{
		unsigned char c = p[i];

		code = code << 4 | (c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
	}
	return code;
}

/* Unescapes what stands between a string's quotes; never longer than that. */
static void
unescape(const char *p, const char *end, JsonField *string)
{
	char	   *to = palloc(end - p + 1);

	string->text = to;
	while (p < end)
	{
		pg_wchar	code;

		if (*p != '\\')
		{
			*to++ = *p++;
			continue;
		}
		p += 2;
		switch (p[-1])
		{
			case 'b':
				*to++ = '\b';
				break;
			case 'f':
				*to++ = '\f';
				break;
			case 'n':
				*to++ = '\n';
				break;
			case 'r':
				*to++ = '\r';
				break;
			case 't':
				*to++ = '\t';
				break;
			case 'u':
				code = four_digits(p);
				p += 4;
				if (is_utf16_surrogate_first(code))
				{
					code = surrogate_pair_to_codepoint(code, four_digits(p + 2));
					p += 6;
				}
				unicode_to_utf8(code, (unsigned char *) to);
				to += pg_utf_mblen((unsigned char *) to);
				break;
			default:			/* \" \\ \/ */
				*to++ = p[-1];
				break;
		}
	}
	string->len = to - string->text;
}

/* Describes the value at p; returns where it ends. */
static const char *
read_value(const char *p, JsonField *value)
{
	const char *start = p;
	bool		escaped;

	value->raw = value->text = start;
	switch (*p)
	{
		case '"':
			value->kind = JSON_KIND_STRING;
			p = skip_string(p, &escaped);
			value->raw_len = p - start;
			if (escaped)
				unescape(start + 1, p - 1, value);
			else
			{
				value->text = start + 1;
				value->len = p - start - 2;
			}
			return p;
		case '{':
			value->kind = JSON_KIND_OBJECT;
			p = skip_container(p);
			break;
		case '[':
			value->kind = JSON_KIND_ARRAY;
			p = skip_container(p);
			break;
		case 't':
			value->kind = JSON_KIND_TRUE;
			p = skip_scalar(p);
			break;
		case 'f':
			value->kind = JSON_KIND_FALSE;
			p = skip_scalar(p);
			break;
		case 'n':
			value->kind = JSON_KIND_NULL;
			p = skip_scalar(p);
			break;
		default:
			value->kind = JSON_KIND_NUMBER;
			p = skip_scalar(p);
			break;
	}
	value->len = value->raw_len = p - start;
	return p;
}

void
weir_json_cursor_open(JsonCursor *cursor, const JsonField *container)
{
	cursor->p = skip_space(container->raw + 1);
}

bool
weir_json_cursor_next(JsonCursor *cursor, JsonField *key, JsonField *value)
{
	const char *p = cursor->p;

	if (*p == ']' || *p == '}')
		return false;
	if (key)
	{
		p = skip_space(read_value(p, key));
		p = skip_space(p + 1);	/* the colon */
	}
	p = skip_space(read_value(p, value));
	if (*p == ',')
		p = skip_space(p + 1);
	cursor->p = p;
	return true;
}
