/* UTF-8, white space and hashing for the tokenizer. Texts may hold any bytes; every decoder here says which bytes are
 * well-formed (Unicode, table 3-7) and how long an ill-formed stretch is. */
#ifndef LF_TOKEN_UTF8_H
#define LF_TOKEN_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define LF_REPLACEMENT_CHARACTER "\xEF\xBF\xBD" /* U+FFFD */
#define LF_SPACE_SYMBOL          "\xE2\x96\x81" /* U+2581, SentencePiece's visible space */

enum { LF_SPACE_SYMBOL_BYTES = 3 };

/* Decodes the code point at s (n >= 1 bytes): its length and *cp; 0 when the bytes end inside a code point that more
 * bytes could complete; -k when the first k bytes are a maximal ill-formed subpart, which can never become UTF-8. */
static inline int lf_utf8_decode(const char *s, size_t n, uint32_t *cp)
{
    const uint8_t lead = (uint8_t)s[0];
    if (lead < 0x80) {
        *cp = lead;
        return 1;
    }
    if (lead < 0xC2 || lead > 0xF4) return -1;
    const int len = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    /* The second byte is what excludes overlong forms, surrogates and values beyond U+10FFFF. */
    uint8_t low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    uint8_t high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    uint32_t value = lead & (0x7Fu >> len);
    for (int i = 1; i < len; i++) {
        if ((size_t)i == n) return 0;
        const uint8_t byte = (uint8_t)s[i];
        if (byte < low || byte > high) return -i;
        value = value << 6 | (byte & 0x3F);
        low = 0x80;
        high = 0xBF;
    }
    *cp = value;
    return len;
}

/* Writes cp to out and returns its length. */
static inline size_t lf_utf8_encode(uint32_t cp, char out[4])
{
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    const size_t len = cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
    for (size_t i = len - 1; i > 0; i--, cp >>= 6) out[i] = (char)(0x80 | (cp & 0x3F));
    out[0] = (char)((0xF00u >> len & 0xF0) | cp);
    return len;
}

/* The length of the longest well-formed prefix of s. */
static inline size_t lf_utf8_valid_prefix(const char *s, size_t n)
{
    size_t i = 0;
    while (i < n) {
        uint64_t eight;
        if (n - i >= sizeof eight) {
            memcpy(&eight, s + i, sizeof eight);
            if (!(eight & UINT64_C(0x8080808080808080))) {
                i += sizeof eight;
                continue;
            }
        }
        uint32_t cp;
        const int len = lf_utf8_decode(s + i, n - i, &cp);
        if (len <= 0) break;
        i += (size_t)len;
    }
    return i;
}

/* The bytes of the code point at s (n >= 1), or 1 for a byte that begins none: a step that always advances. */
static inline size_t lf_utf8_step(const char *s, size_t n)
{
    uint32_t cp;
    const int len = lf_utf8_decode(s, n, &cp);
    return len > 0 ? (size_t)len : 1;
}

static inline bool lf_is_space_symbol(const char *s, size_t n)
{
    return n >= LF_SPACE_SYMBOL_BYTES && memcmp(s, LF_SPACE_SYMBOL, LF_SPACE_SYMBOL_BYTES) == 0;
}

/* The White_Space property. */
static inline bool lf_is_white_space(uint32_t cp)
{
    return cp == ' ' || (cp >= '\t' && cp <= '\r') || cp == 0x85 || cp == 0xA0 || cp == 0x1680 ||
           (cp >= 0x2000 && cp <= 0x200A) || cp == 0x2028 || cp == 0x2029 || cp == 0x202F || cp == 0x205F ||
           cp == 0x3000;
}

static inline uint64_t lf_hash_mix(uint64_t h)
{
    h = (h ^ h >> 32) * UINT64_C(0x9E3779B97F4A7C15);
    return h ^ h >> 29;
}

static inline uint64_t lf_hash_bytes(const char *s, size_t n)
{
    uint64_t h = n * UINT64_C(0xD6E8FEB86659FD93), word;
    for (; n >= sizeof word; s += sizeof word, n -= sizeof word) {
        memcpy(&word, s, sizeof word);
        h = lf_hash_mix(h ^ word);
    }
    word = 0;
    if (n) memcpy(&word, s, n);
    return lf_hash_mix(h ^ word);
}

#endif
