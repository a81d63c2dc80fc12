/*
 * numeric_layout.h
 *	  How a numeric stands on disk.
 *
 * As numeric.c of PostgreSQL has it, which keeps this layout to itself; no
 * release can change it without breaking pg_upgrade. Behind the length: a
 * header of 16 bits with sign, display scale and, in the short form, weight; in the long
 * form the weight in 16 bits of its own; then digits to the base 10000, without zeros at either end.
 * The value is the sum of digit[i] * 10000^(weight - i).
 */
#ifndef WEIR_NUMERIC_LAYOUT_H
#define WEIR_NUMERIC_LAYOUT_H

#define NUMERIC_FORM_MASK	0xC000
#define NUMERIC_FORM_SPECIAL	0xC000	/* NaN and the infinities */
#define NUMERIC_IS_SHORT_FORM	0x8000	/* this bit: short, or special */
#define NUMERIC_LONG_NEGATIVE	0x4000
#define NUMERIC_LONG_SCALE_MASK 0x3FFF

#define SHORT_NUMERIC		0x8000
#define SHORT_NEGATIVE		0x2000
#define SHORT_SCALE_SHIFT	7
#define SHORT_SCALE_MASK	0x1F80
#define SHORT_SCALE_MAX		63
#define SHORT_WEIGHT_SIGN	0x0040
#define SHORT_WEIGHT_MASK	0x003F

#endif							/* WEIR_NUMERIC_LAYOUT_H */
