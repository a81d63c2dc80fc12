/*
 * json_quick.hpp
 *	  The scanners of json_reader.cpp's quick way: strings, numbers, literals.
 *
 * Each takes the place where a token begins and the message's end, reads
 * nothing behind that, and returns the place behind the token, or nullptr for
 * what is wrong or merely unusual (escapes, nested values): simdjson then reads the message.
 */
#ifndef WEIR_JSON_QUICK_HPP
#define WEIR_JSON_QUICK_HPP

#include <simdjson.h>

#include <cstring>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

namespace json_quick
{

inline const char *
skip_space(const char *p, const char *end)
{
	while (p < end && (*p == ' ' || *p == '\n' || *p == '\t' || *p == '\r'))
		p++;
	return p;
}

/* p: behind the opening quote. Returns the closing quote. */
inline const char *
scan_string(const char *start, const char *end)
{
	const char *p = start;
	bool		ascii = true;

#ifdef __SSE2__
	const __m128i quote = _mm_set1_epi8('"');
	const __m128i backslash = _mm_set1_epi8('\\');
	const __m128i last_control = _mm_set1_epi8(0x1F);

	for (; end - p >= 16; p += 16)
	{
		__m128i		bytes = _mm_loadu_si128((const __m128i *) p);
		__m128i		special = _mm_or_si128(_mm_or_si128(_mm_cmpeq_epi8(bytes, quote), _mm_cmpeq_epi8(bytes, backslash)),
										   _mm_cmpeq_epi8(_mm_min_epu8(bytes, last_control), bytes));
		unsigned	stops = (unsigned) _mm_movemask_epi8(special);
		unsigned	high = (unsigned) _mm_movemask_epi8(bytes);

		if (stops != 0)
		{
			unsigned	at = (unsigned) __builtin_ctz(stops);

			if ((high & ((1u << at) - 1)) != 0)
				ascii = false;
			p += at;
			if (*p != '"')
				return nullptr;
			return ascii || simdjson::validate_utf8(start, (size_t) (p - start)) ? p : nullptr;
		}
		if (high != 0)
			ascii = false;
	}
#endif
	for (; p < end && *p != '"'; p++)
	{
		if (*p == '\\' || (unsigned char) *p < 0x20)
			return nullptr;
		if ((unsigned char) *p >= 0x80)
			ascii = false;
	}
	if (p == end)
		return nullptr;
	return ascii || simdjson::validate_utf8(start, (size_t) (p - start)) ? p : nullptr;
}

inline bool
is_digit(char c)
{
	return (unsigned char) (c - '0') <= 9;
}

inline const char *
scan_digits(const char *p, const char *end)
{
	while (p < end && is_digit(*p))
		p++;
	return p;
}

inline const char *
scan_number(const char *p, const char *end)
{
	const char *digits;

	if (p < end && *p == '-')
		p++;
	digits = p;
	p = scan_digits(p, end);
	if (p == digits || (*digits == '0' && p > digits + 1))
		return nullptr;
	if (p < end && *p == '.')
	{
		digits = ++p;
		p = scan_digits(p, end);
		if (p == digits)
			return nullptr;
	}
	if (p < end && (*p == 'e' || *p == 'E'))
	{
		p++;
		if (p < end && (*p == '+' || *p == '-'))
			p++;
		digits = p;
		p = scan_digits(p, end);
		if (p == digits)
			return nullptr;
	}
	return p;
}

inline const char *
scan_literal(const char *p, const char *end, const char *literal, size_t len)
{
	return (size_t) (end - p) >= len && memcmp(p, literal, len) == 0 ? p + len : nullptr;
}

}								/* namespace json_quick */

#endif							/* WEIR_JSON_QUICK_HPP */
