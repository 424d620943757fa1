/* The alphabet of byte-level BPE (GPT-2): each byte is written as one printable character, most of Latin-1 as
 * themselves and the other 68 as U+0100 and up, so that vocabularies can be kept as text. */
#ifndef LF_TOKEN_ALPHABET_H
#define LF_TOKEN_ALPHABET_H

#include <stdint.h>

/* The other 68: 0x00-0x20, 0x7F-0xA0 and 0xAD, in this order. */
static inline uint32_t lf_alphabet_char(uint8_t byte)
{
    if (byte <= 0x20) return 0x100u + byte;
    if (byte >= 0x7F && byte <= 0xA0) return 0x121u + byte - 0x7F;
    return byte == 0xAD ? 0x143 : byte;
}

/* The byte that a character stands for, or -1. */
static inline int lf_alphabet_byte(uint32_t c)
{
    if (c >= 0x100 && c <= 0x120) return (int)(c - 0x100);
    if (c >= 0x121 && c <= 0x142) return (int)(c - 0x121 + 0x7F);
    if (c == 0x143) return 0xAD;
    return c < 0x100 && lf_alphabet_char((uint8_t)c) == c ? (int)c : -1;
}

#endif
