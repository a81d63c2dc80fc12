/*
 * json_reader.cpp
 *	  Reads one JSON object per message with simdjson's on-demand parser.
 *
 * See json_reader.h for the contract. Compiles with simdjson 3.0 to 4.x: only
 * calls that all of them have are used.
 *
 * How it goes: the message is copied into a padded buffer; simdjson's first
 * stage indexes it and checks UTF-8, quotes and control characters; then the
 * object is walked key by key. On demand means that simdjson itself checks
 * only what is asked for, so this file asks for everything: scalars are
 * checked against their index entry, containers are walked to their end.
 *
 * Two short cuts carry the speed. A string without a backslash is handed out
 * where it stands in the buffer. And messages of one topic have their keys
 * in the same order nearly always, so the i-th key of the last message
 * predicts the i-th key of this one; a miss costs a hash lookup.
 *
 * Most messages need none of that: a flat object whose strings have no
 * escapes is read in one pass where it stands (read_flat), with nothing copied and no index made. Whatever
 * else comes up, good or bad, the message is read by simdjson from its start, which has the last word.
 */
#include "decode/json_reader.h"
#include "decode/json_quick.hpp"

#include <simdjson.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <string_view>

namespace od = simdjson::ondemand;
using simdjson::error_code;

namespace
{

constexpr size_t padding = simdjson::SIMDJSON_PADDING > 64 ? simdjson::SIMDJSON_PADDING : 64;
constexpr size_t first_capacity = 4096;
constexpr size_t keep_capacity = 1024 * 1024; /* more than this is given back */
constexpr int max_predicted = 64;	/* keys per message whose order is remembered */
constexpr size_t max_predicted_key = 48;	/* their length; must stay below padding */

static_assert(max_predicted_key < padding, "a predicted key is compared beyond the message's end");

struct PredictedKey
{
	size_t		len;
	int			field;			/* -1: nobody wants it */
	char		key[max_predicted_key];
};

struct Name
{
	const char *text;
	size_t		len;
};

/*
 * A key without escapes. simdjson 3.0 takes no argument, 3.2 to 3.12 want to
 * hear whether lone surrogates are replaced, 4 has a default.
 */
template <typename Field>
auto
unescaped_key(Field &field, int) -> decltype(field.unescaped_key(false))
{
	return field.unescaped_key(false);
}

template <typename Field>
auto
unescaped_key(Field &field, long) -> decltype(field.unescaped_key())
{
	return field.unescaped_key();
}

uint32_t
hash_name(const char *text, size_t len)
{
	uint32_t	hash = 2166136261u; /* FNV-1a */

	for (size_t i = 0; i < len; i++)
		hash = (hash ^ (unsigned char) text[i]) * 16777619u;
	return hash;
}

bool
is_space(char c)
{
	return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

/* The token without the white space before the next one. */
std::string_view
trimmed(std::string_view token)
{
	while (!token.empty() && is_space(token.back()))
		token.remove_suffix(1);
	return token;
}

bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Is the token exactly one JSON number? */
bool
is_number(std::string_view token)
{
	const char *p = token.data();
	const char *end = p + token.size();

	if (p < end && *p == '-')
		p++;
	if (p == end || !is_digit(*p))
		return false;
	if (*p++ == '0')
	{
		if (p < end && is_digit(*p))
			return false;
	}
	while (p < end && is_digit(*p))
		p++;
	if (p < end && *p == '.')
	{
		const char *fraction = ++p;

		while (p < end && is_digit(*p))
			p++;
		if (p == fraction)
			return false;
	}
	if (p < end && (*p == 'e' || *p == 'E'))
	{
		p++;
		if (p < end && (*p == '+' || *p == '-'))
			p++;
		const char *exponent = p;

		while (p < end && is_digit(*p))
			p++;
		if (p == exponent)
			return false;
	}
	return p == end;
}

JsonError
explain(error_code code, const char **reason)
{
	switch (code)
	{
		case simdjson::CAPACITY:
			*reason = "The message is too long.";
			return JSON_ERROR_LIMIT;
		case simdjson::DEPTH_ERROR:
			*reason = "It is nested too deeply.";
			return JSON_ERROR_LIMIT;
		case simdjson::MEMALLOC:
			*reason = "Out of memory.";
			return JSON_ERROR_MEMORY;
		case simdjson::UTF8_ERROR:
			*reason = "It is not valid UTF-8.";
			return JSON_ERROR_ENCODING;
		case simdjson::EMPTY:
			*reason = "It is empty.";
			return JSON_ERROR_SYNTAX;
		case simdjson::UNCLOSED_STRING:
			*reason = "A string does not end.";
			return JSON_ERROR_SYNTAX;
		case simdjson::UNESCAPED_CHARS:
			*reason = "A control character in a string is not escaped.";
			return JSON_ERROR_SYNTAX;
		case simdjson::STRING_ERROR:
			*reason = "A string has an invalid escape sequence.";
			return JSON_ERROR_SYNTAX;
		case simdjson::NUMBER_ERROR:
			*reason = "A number is malformed.";
			return JSON_ERROR_SYNTAX;
		case simdjson::T_ATOM_ERROR:
		case simdjson::F_ATOM_ERROR:
		case simdjson::N_ATOM_ERROR:
			*reason = "A value is neither a string, number, object or array nor true, false or null.";
			return JSON_ERROR_SYNTAX;
		case simdjson::INCOMPLETE_ARRAY_OR_OBJECT:
			*reason = "An object or array does not end.";
			return JSON_ERROR_SYNTAX;
		case simdjson::INCORRECT_TYPE:
			*reason = "It is not a JSON object.";
			return JSON_ERROR_SYNTAX;
		default:
			*reason = "A comma, colon, quote, brace or bracket is missing or superfluous.";
			return JSON_ERROR_SYNTAX;
	}
}

}								/* namespace */

struct JsonReader
{
	int			nnames = 0;
	std::unique_ptr<Name[]> names;
	std::unique_ptr<char[]> name_text;
	uint32_t	mask = 0;		/* size of slots, less one */
	std::unique_ptr<int[]> slots;	/* hash table: number of the name, or -1 */

	std::unique_ptr<char[]> buffer;
	size_t		capacity = 0;	/* of buffer, without padding, and of parser */
	std::unique_ptr<od::parser> parser;
	const char *end = nullptr;	/* of the message in buffer */

	int			npredicted = 0;
	PredictedKey predicted[max_predicted];

	bool		set_names(const char *const *new_names, const size_t *lengths, int n);
	error_code	reserve(size_t length);
	int			find(std::string_view name) const;
	int			find_predicted(const char *raw, int nth) const;
	error_code	find_key(od::field &field, int nth, int *found);
	const char *find_flat_key(const char *p, const char *stop, int nth, int *found);
	bool		read_flat(const char *message, size_t length, JsonField *fields);
	void		remember(int nth, std::string_view raw, int field);
	error_code	read_string(od::value &value, std::string_view token, JsonField *out) const;
	error_code	read_container(od::value &value, char kind, int depth, JsonField *out) const;
	error_code	read_value(od::value &value, int depth, JsonField *out) const;
	error_code	read_object(size_t length, JsonField *fields);
};

bool
JsonReader::set_names(const char *const *new_names, const size_t *lengths, int n)
{
	size_t		total = 0;
	uint32_t	size = 8;

	for (int i = 0; i < n; i++)
		total += lengths[i];
	while (size < (uint32_t) n * 2)
		size *= 2;
	nnames = n;
	mask = size - 1;
	names.reset(new (std::nothrow) Name[n + 1]);
	name_text.reset(new (std::nothrow) char[total + 1]);
	slots.reset(new (std::nothrow) int[size]);
	if (!names || !name_text || !slots)
		return false;
	for (uint32_t i = 0; i < size; i++)
		slots[i] = -1;

	char	   *text = name_text.get();

	for (int i = 0; i < n; i++)
	{
		uint32_t	slot = hash_name(new_names[i], lengths[i]) & mask;

		memcpy(text, new_names[i], lengths[i]);
		names[i] = Name{text, lengths[i]};
		text += lengths[i];
		while (slots[slot] >= 0)
			slot = (slot + 1) & mask;
		slots[slot] = i;
	}
	return true;
}

/* Makes room for a message; gives memory back when a small one follows a huge one. */
error_code
JsonReader::reserve(size_t length)
{
	bool		shrink = capacity > keep_capacity && length < capacity / 4;
	size_t		wanted = first_capacity;

	if (parser && length <= capacity && !shrink)
		return simdjson::SUCCESS;
	if (length > JSON_MAX_MESSAGE)
		return simdjson::CAPACITY;
	/* Small sizes double; large ones are taken with an eighth to spare, since they are rare. */
	while (wanted < length && wanted < keep_capacity)
		wanted *= 2;
	if (wanted < length)
		wanted = std::min(length + length / 8, (size_t) JSON_MAX_MESSAGE);

	buffer.reset();
	parser.reset();
	capacity = 0;
	buffer.reset(new (std::nothrow) char[wanted + padding]);
	parser.reset(new (std::nothrow) od::parser(JSON_MAX_MESSAGE));
	if (!buffer || !parser)
	{
		parser.reset();
		return simdjson::MEMALLOC;
	}

	error_code	code = parser->allocate(wanted);

	if (code)
	{
		parser.reset();
		buffer.reset();
		return code;
	}
	capacity = wanted;
	return simdjson::SUCCESS;
}

int
JsonReader::find(std::string_view name) const
{
	uint32_t	slot = hash_name(name.data(), name.size()) & mask;

	for (; slots[slot] >= 0; slot = (slot + 1) & mask)
	{
		const Name &candidate = names[slots[slot]];

		if (candidate.len == name.size() && memcmp(candidate.text, name.data(), name.size()) == 0)
			return slots[slot];
	}
	return -1;
}

/* Number of the predicted key that stands at raw, -1 if another one does. */
inline int
JsonReader::find_predicted(const char *raw, int nth) const
{
	if (nth < npredicted)
	{
		const PredictedKey &guess = predicted[nth];

		if (raw[guess.len] == '"' && memcmp(raw, guess.key, guess.len) == 0)
			return nth;
	}
	return -1;
}

void
JsonReader::remember(int nth, std::string_view raw, int field)
{
	if (nth >= max_predicted || nth > npredicted || raw.size() > max_predicted_key)
		return;
	predicted[nth].len = raw.size();
	predicted[nth].field = field;
	memcpy(predicted[nth].key, raw.data(), raw.size());
	if (nth == npredicted)
		npredicted++;
}

/* Finds which name the nth key of the message is; -1: none. */
error_code
JsonReader::find_key(od::field &field, int nth, int *found)
{
	const char *raw = field.key().raw();
	int			guess = find_predicted(raw, nth);
	const char *p = raw;

	if (guess >= 0)
	{
		*found = predicted[guess].field;
		return simdjson::SUCCESS;
	}
	while (p < end && *p != '"' && *p != '\\')
		p++;
	if (p < end && *p == '\\')
	{
		std::string_view name;
		error_code	code = unescaped_key(field, 0).get(name);

		if (!code)
			*found = find(name);
		return code;
	}
	*found = find(std::string_view(raw, p - raw));
	remember(nth, std::string_view(raw, p - raw), *found);
	return simdjson::SUCCESS;
}

error_code
JsonReader::read_string(od::value &value, std::string_view token, JsonField *out) const
{
	token = trimmed(token);
	if (token.size() < 2 || token.back() != '"')
		return simdjson::TAPE_ERROR;

	std::string_view text = token.substr(1, token.size() - 2);

	/* Each string is unescaped once at most: simdjson's buffer is made for that. */
	if (memchr(text.data(), '\\', text.size()) != nullptr)
	{
		error_code	code = value.get_string().get(text);

		if (code)
			return simdjson::STRING_ERROR;
	}
	else
	{
		/* Consume it: simdjson skips an unread string together with a ':' behind it. */
		od::raw_json_string raw;
		error_code	code = value.get_raw_json_string().get(raw);

		if (code)
			return code;
	}
	if (out)
		*out = JsonField{JSON_KIND_STRING, text.data(), text.size(), token.data(), token.size()};
	return simdjson::SUCCESS;
}

error_code
JsonReader::read_container(od::value &value, char kind, int depth, JsonField *out) const
{
	std::string_view raw;
	error_code	code;

	if (depth >= JSON_MAX_DEPTH)
		return simdjson::DEPTH_ERROR;
	if (kind == '{')
	{
		od::object	object;

		if ((code = value.get_object().get(object)))
			return code;
		for (auto item : object)
		{
			if ((code = item.error()))
				return code;

			auto	  &&field = std::move(item).value_unsafe();
			const char *p = field.key().raw();

			while (p < end && *p != '"' && *p != '\\')
				p++;
			if (p < end && *p == '\\' && unescaped_key(field, 0).get(raw))
				return simdjson::STRING_ERROR;
			if ((code = read_value(field.value(), depth + 1, nullptr)))
				return code;
		}
		if (out && (code = object.raw_json().get(raw)))
			return code;
	}
	else
	{
		od::array	array;

		if ((code = value.get_array().get(array)))
			return code;
		for (auto item : array)
		{
			if ((code = item.error()))
				return code;

			auto	  &&element = std::move(item).value_unsafe();

			if ((code = read_value(element, depth + 1, nullptr)))
				return code;
		}
		if (out && (code = array.raw_json().get(raw)))
			return code;
	}
	if (out)
	{
		raw = trimmed(raw);
		*out = JsonField{kind == '{' ? JSON_KIND_OBJECT : JSON_KIND_ARRAY,
			raw.data(), raw.size(), raw.data(), raw.size()};
	}
	return simdjson::SUCCESS;
}

/* Checks one value to its end and describes it in *out, unless that is null. */
error_code
JsonReader::read_value(od::value &value, int depth, JsonField *out) const
{
	std::string_view token = value.raw_json_token();
	JsonKind	kind;

	if (token.data() >= end || token.size() > (size_t) (end - token.data()))
		return simdjson::TAPE_ERROR;
	switch (*token.data())
	{
		case '"':
			return read_string(value, token, out);
		case '{':
		case '[':
			return read_container(value, *token.data(), depth, out);
		case 't':
			token = trimmed(token);
			if (token != "true")
				return simdjson::T_ATOM_ERROR;
			kind = JSON_KIND_TRUE;
			break;
		case 'f':
			token = trimmed(token);
			if (token != "false")
				return simdjson::F_ATOM_ERROR;
			kind = JSON_KIND_FALSE;
			break;
		case 'n':
			token = trimmed(token);
			if (token != "null")
				return simdjson::N_ATOM_ERROR;
			kind = JSON_KIND_NULL;
			break;
		case '}':
		case ']':
		case ',':
		case ':':
			return simdjson::TAPE_ERROR;
		default:
			token = trimmed(token);
			if (*token.data() != '-' && !is_digit(*token.data()))
				return simdjson::N_ATOM_ERROR;
			if (!is_number(token))
				return simdjson::NUMBER_ERROR;
			kind = JSON_KIND_NUMBER;
			break;
	}
	if (out)
		*out = JsonField{kind, token.data(), token.size(), token.data(), token.size()};
	return simdjson::SUCCESS;
}

/* p: behind the quote of a message's nth key. Returns its closing quote, nullptr: it is unusual. */
inline const char *
JsonReader::find_flat_key(const char *p, const char *stop, int nth, int *found)
{
	const char *quote;

	if (nth < npredicted)
	{
		const PredictedKey &guess = predicted[nth];

		if ((size_t) (stop - p) > guess.len && p[guess.len] == '"' && memcmp(p, guess.key, guess.len) == 0)
		{
			*found = guess.field;
			return p + guess.len;
		}
	}
	quote = json_quick::scan_string(p, stop);
	if (quote != nullptr)
	{
		*found = find(std::string_view(p, quote - p));
		remember(nth, std::string_view(p, quote - p), *found);
	}
	return quote;
}

/* Reads a flat object without escapes; false: it is something else, maybe no JSON at all. */
bool
JsonReader::read_flat(const char *message, size_t length, JsonField *fields)
{
	const char *stop = message + length;
	const char *p = json_quick::skip_space(message, stop);
	int			nth = 0;

	if (p == stop || *p++ != '{')
		return false;
	p = json_quick::skip_space(p, stop);
	if (p < stop && *p == '}')
		return json_quick::skip_space(p + 1, stop) == stop;
	for (;; nth++)
	{
		const char *start;
		JsonKind	kind;
		int			found;

		if (p == stop || *p != '"' || (p = find_flat_key(p + 1, stop, nth, &found)) == nullptr)
			return false;
		p = json_quick::skip_space(p + 1, stop);
		if (p == stop || *p != ':')
			return false;
		start = p = json_quick::skip_space(p + 1, stop);
		if (p == stop)
			return false;
		switch (*p)
		{
			case '"':
				kind = JSON_KIND_STRING;
				if ((p = json_quick::scan_string(p + 1, stop)) != nullptr)
					p++;
				break;
			case 't':
				kind = JSON_KIND_TRUE;
				p = json_quick::scan_literal(p, stop, "true", 4);
				break;
			case 'f':
				kind = JSON_KIND_FALSE;
				p = json_quick::scan_literal(p, stop, "false", 5);
				break;
			case 'n':
				kind = JSON_KIND_NULL;
				p = json_quick::scan_literal(p, stop, "null", 4);
				break;
			default:
				kind = JSON_KIND_NUMBER;
				p = json_quick::scan_number(p, stop);
				break;
		}
		if (p == nullptr)
			return false;
		if (found >= 0)
		{
			int			quotes = kind == JSON_KIND_STRING ? 1 : 0;

			fields[found] = JsonField{kind, start + quotes, (size_t) (p - start - 2 * quotes), start, (size_t) (p - start)};
		}
		p = json_quick::skip_space(p, stop);
		if (p == stop)
			return false;
		if (*p == '}')
			return json_quick::skip_space(p + 1, stop) == stop;
		if (*p != ',')
			return false;
		p = json_quick::skip_space(p + 1, stop);
	}
}

error_code
JsonReader::read_object(size_t length, JsonField *fields)
{
	od::document document;
	od::object	object;
	error_code	code;
	int			nth = 0;

	if ((code = parser->iterate(buffer.get(), length, length + padding).get(document)))
		return code;
	if ((code = document.get_object().get(object)))
		return code;
	for (auto item : object)
	{
		if ((code = item.error()))
			return code;

		/* A reference: copying these small structs stalls the processor. */
		auto	  &&field = std::move(item).value_unsafe();
		int			found;

		if ((code = find_key(field, nth, &found)))
			return code;
		if ((code = read_value(field.value(), 1, found >= 0 ? &fields[found] : nullptr)))
			return code;
		nth++;
	}

	/* Nothing may follow. */
	return document.current_location().error() == simdjson::OUT_OF_BOUNDS ?
		simdjson::SUCCESS : simdjson::TAPE_ERROR;
}

extern "C" JsonReader *
weir_json_reader_create(const char *const *names, const size_t *lengths, int n)
{
	std::unique_ptr<JsonReader> reader(new (std::nothrow) JsonReader);

	if (!reader || !reader->set_names(names, lengths, n))
		return nullptr;
	return reader.release();
}

extern "C" void
weir_json_reader_free(JsonReader *reader)
{
	delete reader;
}

extern "C" JsonError
weir_json_reader_parse(JsonReader *reader, const char *message, size_t length,
					   JsonField *fields, const char **reason)
{
	try
	{
		for (int i = 0; i < reader->nnames; i++)
			fields[i].kind = JSON_KIND_MISSING;
		if (length <= JSON_MAX_MESSAGE && reader->read_flat(message, length, fields))
		{
			if (reader->capacity > keep_capacity)
				(void) reader->reserve(length);	/* gives back what a huge one took */
			return JSON_OK;
		}

		error_code	code = reader->reserve(length);

		if (code)
			return explain(code, reason);
		if (length >= 3 && memcmp(message, "\xEF\xBB\xBF", 3) == 0)
		{
			*reason = "It starts with a byte order mark.";
			return JSON_ERROR_SYNTAX;
		}
		if (length == 0)
			return explain(simdjson::EMPTY, reason);

		memcpy(reader->buffer.get(), message, length);
		memset(reader->buffer.get() + length, 0, padding);
		reader->end = reader->buffer.get() + length;
		for (int i = 0; i < reader->nnames; i++)
			fields[i].kind = JSON_KIND_MISSING;

		code = reader->read_object(length, fields);
		return code ? explain(code, reason) : JSON_OK;
	}
	catch (...)
	{
		/* simdjson was told not to throw; whatever it was must not reach C. */
		return explain(simdjson::MEMALLOC, reason);
	}
}
