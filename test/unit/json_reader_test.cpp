/*
 * json_reader_test.cpp
 *	  Unit tests of src/decode/json_reader.cpp: what it reads, what it
 *	  refuses, and that no message can hurt it.
 *
 * Prints TAP, exits 1 on any failure. Every table runs on each of
 * simdjson's kernels that this processor has. The mutation test changes
 * bytes of good messages at random (from a printed seed) and compares the
 * verdict with simdjson's DOM parser, which is other code: the reader must
 * accept and refuse the same messages and read the same values.
 */
#include "decode/json_reader.h"

#include <simdjson.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include <unistd.h>

namespace
{

int			test_number = 0;
int			failures = 0;

void
ok(bool passed, const std::string &name)
{
	printf("%sok %d - %s\n", passed ? "" : "not ", ++test_number, name.c_str());
	if (!passed)
		failures++;
}

/* A reader with its fields. Messages are given in exactly sized heap memory, so that a sanitizer sees any read beyond. */
struct Harness
{
	std::vector<std::string> names;
	std::vector<JsonField> fields;
	JsonReader *reader;
	JsonError	error = JSON_OK;
	const char *reason = "";
	std::vector<char> copy;		/* of the message: fields may point into it */

	explicit Harness(std::vector<std::string> wanted) : names(std::move(wanted)), fields(names.size() + 1)
	{
		std::vector<const char *> texts;
		std::vector<size_t> lengths;

		for (auto &name : names)
		{
			texts.push_back(name.data());
			lengths.push_back(name.size());
		}
		reader = weir_json_reader_create(texts.data(), lengths.data(), (int) names.size());
	}
	Harness(const Harness &) = delete;
	~Harness() { weir_json_reader_free(reader); }

	bool parse(const std::string &message)
	{
		copy = std::vector<char>(message.begin(), message.end());
		error = weir_json_reader_parse(reader, copy.data(), copy.size(), fields.data(), &reason);
		return error == JSON_OK;
	}

	std::string describe(int i) const
	{
		static const char *const kinds[] = {"missing", "null", "true", "false", "number", "string", "object", "array"};
		const JsonField &field = fields[i];

		if (field.kind <= JSON_KIND_FALSE)
			return kinds[field.kind];
		return std::string(kinds[field.kind]) + ":" + std::string(field.text, field.len);
	}
};

struct Good
{
	const char *name;
	std::string message;
	std::string a;				/* what field "a" must be */
};

struct Bad
{
	const char *name;
	std::string message;
	JsonError	error;
};

std::string
nested(const char *open, const char *middle, const char *close, int n)
{
	std::string text;

	for (int i = 0; i < n; i++)
		text += open;
	text += middle;
	for (int i = 0; i < n; i++)
		text += close;
	return text;
}

std::vector<Good>
good_messages()
{
	std::string nul("x\0y", 3);

	return {
		{"empty object", "{}", "missing"},
		{"white space around", " \n\t\r{ \"a\" : 1 } \n", "number:1"},
		{"no wanted key", R"({"b":1})", "missing"},
		{"null", R"({"a":null})", "null"},
		{"true", R"({"a":true})", "true"},
		{"false", R"({"a": false })", "false"},
		{"number keeps its digits", R"({"a":12.50})", "number:12.50"},
		{"number, all parts", R"({"a":-0.10e+05 })", "number:-0.10e+05"},
		{"long number", "{\"a\":" + std::string(500, '9') + "}", "number:" + std::string(500, '9')},
		{"1e400", R"({"a":1e400})", "number:1e400"},
		{"1e400 in a field nobody wants", R"({"x":1e400,"a":1})", "number:1"},
		{"empty string", R"({"a":""})", "string:"},
		{"string", R"({"a":"x y"})", "string:x y"},
		{"braces in a string", R"({"a":"{[,:]}","b":2})", "string:{[,:]}"},
		{"escapes", R"({"a":"\"\\\/\b\f\n\r\t\u0041"})", "string:\"\\/\b\f\n\r\tA"},
		{"escaped NUL", R"({"a":"x\u0000y"})", "string:" + nul},
		{"surrogate pair", R"({"a":"\ud83d\ude00"})", "string:\xF0\x9F\x98\x80"},
		{"UTF-8", "{\"a\":\"\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\"}", "string:\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80"},
		{"backslash at the end of a string", R"({"a":"x\\"})", "string:x\\"},
		{"object", R"({"a": {"b":[1, 2]} , "c":3})", R"(object:{"b":[1, 2]})"},
		{"object at the end", R"({"a":{"b":{}}  })", R"(object:{"b":{}})"},
		{"empty object inside", R"({"a":{}})", "object:{}"},
		{"array", R"({"a":[1,"x",[null]],"b":1})", R"(array:[1,"x",[null]])"},
		{"empty array", R"({"a":[ ]})", "array:[ ]"},
		{"duplicate key: the last", R"({"a":1,"b":2,"a":"z"})", "string:z"},
		{"duplicate key: the last, null", R"({"a":1,"a":null})", "null"},
		{"key in another case", R"({"A":1})", "missing"},
		{"key with an escape", R"({"\u0061":1})", "number:1"},
		{"key that only starts so", R"({"ab":1})", "missing"},
		{"inner key", R"({"b":{"a":1}})", "missing"},
		{"1000 levels", "{\"a\":1,\"x\":" + nested("[", "", "]", 999) + "}", "number:1"},
		{"1000 levels of objects", "{\"a\":1,\"x\":" + nested("{\"k\":", "2", "}", 999) + "}", "number:1"},
		{"long key nobody wants", "{\"" + std::string(5000, 'k') + "\":1,\"a\":2}", "number:2"},
	};
}

std::vector<Bad>
bad_messages()
{
	const JsonError syntax = JSON_ERROR_SYNTAX;

	return {
		{"empty", "", syntax},
		{"white space only", " \n ", syntax},
		{"NUL byte only", std::string(1, '\0'), syntax},
		{"not JSON", "hello", syntax},
		{"number", "1", syntax},
		{"string", "\"a\"", syntax},
		{"null", "null", syntax},
		{"array", "[1]", syntax},
		{"array of an object", R"([{"a":1}])", syntax},
		{"byte order mark", "\xEF\xBB\xBF{\"a\":1}", syntax},
		{"UTF-16", std::string("{\0\"\0a\0\"\0:\0001\0}\0", 14), syntax},
		{"open brace", "{", syntax},
		{"close brace", "}", syntax},
		{"cut after a key", R"({"a")", syntax},
		{"cut after a colon", R"({"a":)", syntax},
		{"cut in a string", R"({"a":"x)", syntax},
		{"cut after a value", R"({"a":1)", syntax},
		{"cut in a nested object", R"({"a":{"b":1})", syntax},
		{"cut in a nested array", R"({"a":[1,2})", syntax},
		{"brackets crossed", R"({"a":[{"b":1]}})", syntax},
		{"array ended by a brace", R"({"x":[1}})", syntax},
		{"something behind", R"({"a":1} x)", syntax},
		{"two objects", R"({"a":1}{"a":2})", syntax},
		{"a brace too many", R"({"a":1}})", syntax},
		{"NUL byte behind", std::string("{\"a\":1}\0", 8), syntax},
		{"comma at the end", R"({"a":1,})", syntax},
		{"comma at the start", R"({,"a":1})", syntax},
		{"two commas", R"({"a":1,,"b":2})", syntax},
		{"no comma", R"({"a":1 "b":2})", syntax},
		{"no colon", R"({"a" 1})", syntax},
		{"no value", R"({"a":,"b":1})", syntax},
		{"no value in an array", R"({"x":[1,,2]})", syntax},
		{"comma at an array's end", R"({"x":[1,]})", syntax},
		{"two values", R"({"a":1 2})", syntax},
		{"a string, a colon, a value", R"({"a":"x":1})", syntax},
		{"a string, a colon, a value in an array", R"({"x":["x":1]})", syntax},
		{"two strings", R"({"a":"x""y"})", syntax},
		{"key without quotes", R"({a:1})", syntax},
		{"key is a number", R"({1:1})", syntax},
		{"single quotes", R"({'a':1})", syntax},
		{"cut literal", R"({"a":tru})", syntax},
		{"cut literal nobody wants", R"({"a":1,"x":tru})", syntax},
		{"long literal", R"({"a":truex})", syntax},
		{"literal in capitals", R"({"a":True})", syntax},
		{"nul", R"({"a":nul})", syntax},
		{"NaN", R"({"a":NaN})", syntax},
		{"Infinity", R"({"a":-Infinity})", syntax},
		{"deep cut literal nobody wants", R"({"x":{"y":[1,fals]}})", syntax},
		{"leading zero", R"({"a":01})", syntax},
		{"leading plus", R"({"a":+1})", syntax},
		{"point first", R"({"a":.5})", syntax},
		{"point last", R"({"a":5.})", syntax},
		{"empty exponent", R"({"a":5e})", syntax},
		{"empty signed exponent", R"({"a":5e+})", syntax},
		{"minus only", R"({"a":-})", syntax},
		{"two minus", R"({"a":--1})", syntax},
		{"hexadecimal", R"({"a":0x10})", syntax},
		{"number with letters", R"({"a":12ab})", syntax},
		{"number with a quote", R"({"a":1"b"})", syntax},
		{"bad number nobody wants", R"({"x":1.2.3})", syntax},
		{"string with a tail", R"({"a":"x"y})", syntax},
		{"bad escape", R"({"a":"\x"})", syntax},
		{"bad escape nobody wants", R"({"a":1,"x":"\q"})", syntax},
		{"bad escape in a nested key", R"({"a":1,"x":{"\q":1}})", syntax},
		{"bad escape in a key", R"({"\q":1})", syntax},
		{"short escape", R"({"a":"\u12"})", syntax},
		{"escape not hexadecimal", R"({"a":"\u12G4"})", syntax},
		{"lone high surrogate", R"({"a":"\ud83d"})", syntax},
		{"lone low surrogate", R"({"a":"\ude00"})", syntax},
		{"surrogates swapped", R"({"a":"\ude00\ud83d"})", syntax},
		{"high surrogate, then a letter", R"({"a":"\ud83dx"})", syntax},
		{"lone surrogate nobody wants", R"({"x":["\udfff"]})", syntax},
		{"lone surrogate in a key", R"({"\ud800":1})", syntax},
		{"line feed in a string", "{\"a\":\"x\ny\"}", syntax},
		{"NUL byte in a string", std::string("{\"a\":\"x\0y\"}", 11), syntax},
		{"control character in a key", "{\"a\x01\":1}", syntax},
		{"comment", R"({"a":1/**/})", syntax},
		{"cut UTF-8 at the end", "{\"a\":\"\xC3\"}", JSON_ERROR_ENCODING},
		{"cut UTF-8, three bytes", "{\"a\":\"\xE2\x82\"}", JSON_ERROR_ENCODING},
		{"Latin 1", "{\"a\":\"\xE9t\xE9\"}", JSON_ERROR_ENCODING},
		{"overlong UTF-8", "{\"a\":\"\xC0\x80\"}", JSON_ERROR_ENCODING},
		{"surrogate in UTF-8", "{\"a\":\"\xED\xA0\x80\"}", JSON_ERROR_ENCODING},
		{"beyond U+10FFFF", "{\"a\":\"\xF4\x90\x80\x80\"}", JSON_ERROR_ENCODING},
		{"bad UTF-8 nobody wants", "{\"x\":\"\xFF\"}", JSON_ERROR_ENCODING},
		{"1001 levels", "{\"x\":" + nested("[", "", "]", 1000) + "}", JSON_ERROR_LIMIT},
		{"a million brackets", "{\"x\":" + nested("[", "", "]", 1000000) + "}", JSON_ERROR_LIMIT},
		{"a million objects", "{\"a\":" + nested("{\"a\":", "1", "}", 1000000) + "}", JSON_ERROR_LIMIT},
	};
}

void
test_tables(const std::string &kernel)
{
	for (auto &test : good_messages())
	{
		Harness		fresh({"a"});
		Harness		other({"zz", "b", "a", "c"});
		bool		passed = fresh.parse(test.message) && fresh.describe(0) == test.a &&
			fresh.parse(test.message) && fresh.describe(0) == test.a && /* keys predicted now */
			other.parse(R"({"a":1,"b":2})") &&
			other.parse(test.message) && other.describe(2) == test.a;

		ok(passed, kernel + ": " + test.name);
		if (!passed)
			printf("# error %d %s, a = %s\n", fresh.error, fresh.reason, fresh.describe(0).c_str());
	}
	for (auto &test : bad_messages())
	{
		Harness		harness({"a"});
		bool		passed = !harness.parse(test.message) && harness.error == test.error && strlen(harness.reason) > 0 &&
			harness.parse(R"({"a":"still well"})") && harness.describe(0) == "string:still well";

		ok(passed, kernel + ": refuses " + test.name);
		if (!passed)
			printf("# error %d %s\n", harness.error, harness.reason);
	}
}

void
test_names()
{
	Harness		harness({"plain", "with \"quotes\"", "back\\slash", "\xC3\xA9t\xC3\xA9", "", std::string(100, 'n')});

	ok(harness.parse("{\"\":5,\"\xC3\xA9t\xC3\xA9\":4,\"back\\\\slash\":3,\"with \\\"quotes\\\"\":2,\"plain\":1,\"" +
					 std::string(100, 'n') + "\":6}"), "names of all kinds");
	for (int i = 0; i < 6; i++)
		ok(harness.describe(i) == "number:" + std::to_string(i < 4 ? i + 1 : i == 4 ? 5 : 6), "name " + std::to_string(i));

	Harness		accent({"\xC3\xA9"});

	ok(accent.parse(R"({"\u00e9":1})") && accent.describe(0) == "number:1", "escaped key of two bytes");

	std::vector<std::string> names;
	std::string message = "{";

	for (int i = 0; i < 500; i++)
	{
		names.push_back("column_" + std::to_string(i));
		message += (i ? ",\"" : "\"") + names.back() + "\":" + std::to_string(i);
	}

	Harness		wide(names);
	bool		passed = wide.parse(message + "}") && wide.parse(message + "}");

	for (int i = 0; i < 500; i++)
		passed = passed && wide.describe(i) == "number:" + std::to_string(i);
	ok(passed, "500 columns");
	ok(wide.parse(R"({"column_7":1})") && wide.describe(7) == "number:1" && wide.describe(0) == "missing" &&
	   wide.describe(499) == "missing", "an earlier message leaves nothing behind");

	Harness		nothing({});

	ok(nothing.parse(R"({"a":1})") && !nothing.parse(R"({"a":x})"), "no wanted names");
}

void
test_order()
{
	Harness		harness({"a", "b", "c"});
	const char *const messages[] = {
		R"({"a":1,"b":2,"c":3})", R"({"c":3,"b":2,"a":1})", R"({"x":0,"a":1,"b":2,"c":3})",
		R"({"b":2,"x":0,"c":3,"y":9,"a":1})", R"({"\u0061":1,"b":2,"c":3})"
	};
	bool		passed = true;

	for (int i = 0; i < 25; i++)
		passed = passed && harness.parse(messages[(i * 3 + i / 5) % 5]) && harness.describe(0) == "number:1" &&
			harness.describe(1) == "number:2" && harness.describe(2) == "number:3";
	ok(passed, "keys in changing order");
}

/* Memory in RAM, in MB; 0 under a sanitizer, which keeps what is freed. */
long
resident_megabytes()
{
#ifdef __SANITIZE_ADDRESS__
	return 0;
#else
	long		pages = 0;
	long		resident = 0;
	FILE	   *file = fopen("/proc/self/statm", "r");

	if (file == nullptr)
		return 0;
	if (fscanf(file, "%ld %ld", &pages, &resident) != 2)
		resident = 0;
	fclose(file);
	return resident * (sysconf(_SC_PAGESIZE) / 1024) / 1024;
#endif
}

void
test_huge()
{
	Harness		harness({"a", "b"});
	long		before = resident_megabytes();
	size_t		size = 100 * 1000 * 1000;

	ok(harness.parse("{\"b\":1,\"a\":\"" + std::string(size, 'x') + "\"}") && harness.fields[0].len == size,
	   "100 MB in one string");
	ok(harness.parse(R"({"a":1})") && harness.describe(0) == "number:1", "a small message after it");
	ok(harness.parse("{\"b\":1,\"x\":\"" + std::string(size, '\\') + "\"}") && harness.describe(1) == "number:1",
	   "100 MB of backslashes");
	ok(!harness.parse("{\"b\":1,\"x\":\"" + std::string(size, 'x')), "100 MB, cut");
	ok(!harness.parse(std::string(size, '[')), "100 MB of brackets");
	ok(!harness.parse(std::string(size, '{')), "100 MB of braces");
	ok(!harness.parse(std::string(size, '"')), "100 MB of quotes");
	ok(!harness.parse(std::string((size_t) JSON_MAX_MESSAGE + 1, ' ')) && harness.error == JSON_ERROR_LIMIT,
	   "longer than the limit");
	ok(harness.parse(R"({"a":1})") && harness.describe(0) == "number:1", "a small message at the end");
	ok(resident_megabytes() - before < 32, "huge messages' memory is given back");
}

/* Does a DOM element equal what the reader says? */
bool
same_value(const simdjson::dom::element &element, const JsonField &field)
{
	std::string_view text;
	double		number;

	switch (element.type())
	{
		case simdjson::dom::element_type::NULL_VALUE:
			return field.kind == JSON_KIND_NULL;
		case simdjson::dom::element_type::BOOL:
			return field.kind == (element.get_bool().value_unsafe() ? JSON_KIND_TRUE : JSON_KIND_FALSE);
		case simdjson::dom::element_type::STRING:
			text = element.get_string().value_unsafe();
			return field.kind == JSON_KIND_STRING && text == std::string_view(field.text, field.len);
		case simdjson::dom::element_type::ARRAY:
		case simdjson::dom::element_type::OBJECT:
			if (field.kind != (element.is_array() ? JSON_KIND_ARRAY : JSON_KIND_OBJECT))
				return false;
			{
				simdjson::dom::parser parser;
				simdjson::dom::element again;

				if (parser.parse(field.text, field.len).get(again))
					return false;
				return simdjson::minify(again) == simdjson::minify(element);
			}
		default:
			if (field.kind != JSON_KIND_NUMBER || element.get_double().get(number))
				return false;
			return strtod(std::string(field.text, field.len).c_str(), nullptr) == number;
	}
}

std::string
mutate(std::string message, std::mt19937_64 &random)
{
	static const char alphabet[] = "{}[]:,\"\\ \n\t0123456789.-+eEtrufalsn/bx";
	int			changes = 1 + random() % 4;

	while (changes-- > 0)
	{
		size_t		at = message.empty() ? 0 : random() % message.size();

		switch (random() % 7)
		{
			case 0:				/* cut */
				message.resize(at);
				break;
			case 1:				/* delete */
				if (!message.empty())
					message.erase(at, 1 + random() % 3);
				break;
			case 2:				/* any byte */
				if (!message.empty())
					message[at] = (char) random();
				break;
			case 3:				/* a byte that means something */
				if (!message.empty())
					message[at] = alphabet[random() % (sizeof(alphabet) - 1)];
				break;
			case 4:
				message.insert(at, 1, alphabet[random() % (sizeof(alphabet) - 1)]);
				break;
			case 5:				/* repeat a piece */
				message.insert(at, message.substr(at, 1 + random() % 20));
				break;
			default:			/* move a piece */
				if (!message.empty())
				{
					std::string piece = message.substr(random() % message.size(), 1 + random() % 10);

					message.insert(at, piece);
				}
		}
	}
	return message;
}

void
test_mutations(uint64_t seed, int rounds)
{
	const std::vector<std::string> seeds = {
		R"({"order_id": 1234567, "city": "Berlin", "amount": 12.50, "ordered_at": "2024-02-29T12:34:56.789Z", "ok": true, "n": null})",
		R"({"a":{"b":[1,2,{"c":"d\n"}],"e":{}},"city":"K\u00f6ln \ud83d\ude00","amount":-1.5e-7,"x":[[],[[]],"\\"]})",
		"{\"city\":\"M\xC3\xBCnchen\",\"\\u0061mount\":1,\"amount\":[true,false,null],\"a\":\"{}\"}",
		R"({"a":"","city":"\"quoted\" \/ \b\f\n\r\t","amount":0})",
	};
	Harness		harness({"order_id", "city", "amount", "ordered_at", "ok", "n", "a"});
	simdjson::dom::parser parser;
	std::mt19937_64 random(seed);
	int			accepted = 0;
	int			differing = 0;

	printf("# mutation test: seed %llu, %d rounds\n", (unsigned long long) seed, rounds);
	for (int round = 0; round < rounds; round++)
	{
		std::string message = mutate(seeds[random() % seeds.size()], random);
		bool		good = harness.parse(message);
		simdjson::dom::element root;
		auto		code = parser.parse(message).get(root);
		bool		expected = !code && root.is_object();
		bool		same;

		if (code == simdjson::NUMBER_ERROR)
			continue;			/* the DOM refuses 1e400 */
		simdjson::dom::object object;

		if (expected && root.get_object().get(object))
			expected = false;
		same = good == expected;
		accepted += good;
		for (size_t i = 0; same && good && i < harness.names.size(); i++)
		{
			const JsonField &field = harness.fields[i];
			bool		found = false;
			simdjson::dom::element last;

			for (auto member : object)
				if (member.key == harness.names[i])
				{
					found = true;
					last = member.value;
				}
			same = found ? same_value(last, field) : field.kind == JSON_KIND_MISSING;
		}
		if (!same && differing++ < 5)
			printf("# round %d: reader says %s (%s), DOM says %s: %s\n", round, good ? "good" : "bad", good ? "" : harness.reason,
				   simdjson::error_message(code), message.c_str());
	}
	printf("# %d of %d mutated messages were still JSON objects\n", accepted, rounds);
	ok(differing == 0, "the reader and simdjson's DOM parser agree");
	ok(accepted > rounds / 50 && accepted < rounds, "mutations gave good and bad messages");
}

void
bench()
{
	const std::string message =
		"{\"order_id\": 123456789, \"city\": \"San Francisco\", \"amount\": 1234.50, "
		"\"ordered_at\": \"2024-02-29T12:34:56.789Z\", \"customer\": \"b1946ac9-2492-4d23-8f0a-0242ac120002\", \"note\": \"as usual, thx\"}";
	Harness		harness({"order_id", "city", "amount", "ordered_at", "customer", "note"});
	const int	rounds = 5000000;
	auto		start = std::chrono::steady_clock::now();
	size_t		sum = 0;

	for (int i = 0; i < rounds; i++)
	{
		harness.error = weir_json_reader_parse(harness.reader, message.data(), message.size(), harness.fields.data(), &harness.reason);
		sum += harness.fields[5].len;
	}

	double		ns = std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - start).count();

	printf("%zu bytes, 6 fields, kernel %s: %.1f ns per message (%zu)\n", message.size(),
		   simdjson::get_active_implementation()->name().c_str(), ns / rounds, sum % 7);
}

}								/* namespace */

int
main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "bench") == 0)
	{
		bench();
		return 0;
	}

	uint64_t	seed = argc > 1 ? strtoull(argv[1], nullptr, 10) : 1;
	int			rounds = argc > 2 ? atoi(argv[2]) : 100000;
	const simdjson::implementation *best = simdjson::get_active_implementation();

	for (auto implementation : simdjson::get_available_implementations())
	{
		if (!implementation->supported_by_runtime_system())
			continue;
		simdjson::get_active_implementation() = implementation;
		test_tables(implementation->name());
		test_mutations(seed, rounds / 4);
	}
	simdjson::get_active_implementation() = best;
	test_mutations(seed + 1, rounds);
	test_names();
	test_order();
	test_huge();
	printf("1..%d\n", test_number);
	return failures ? 1 : 0;
}
