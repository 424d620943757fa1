#include "token_strings.h"

#include "testing.h"

#include "file/json.h"
#include "token/utf8.h"

#include <stdlib.h>
#include <string.h>

struct token_strings {
    json_t *tables;
};

token_strings *token_strings_open(void)
{
    lf_error err;
    token_strings *s = calloc(1, sizeof *s);
    assert_non_null(s);
    assert_ok(lf_json_load(&s->tables, golden_path("token/strings.json"), &err), &err);
    return s;
}

void token_strings_close(token_strings *s)
{
    json_decref(s->tables);
    free(s);
}

static size_t below(uint64_t *rng, size_t n)
{
    return (size_t)(rng_next(rng) % n);
}

static void put(lf_bytes *out, const char *s, size_t n)
{
    assert_true(lf_bytes_append(out, s, n));
}

static void put_code_point(lf_bytes *out, size_t cp)
{
    char bytes[4];
    put(out, bytes, lf_utf8_encode((uint32_t)cp, bytes));
}

/* One of the strings of a table. */
static const char *pick(const token_strings *s, const char *table, uint64_t *rng)
{
    const json_t *list = json_object_get(s->tables, table);
    return json_string_value(json_array_get(list, below(rng, json_array_size(list))));
}

/* A code point of one of the ranges of a table. */
static void put_from_ranges(lf_bytes *out, const token_strings *s, const char *table, uint64_t *rng)
{
    const json_t *list = json_object_get(s->tables, table);
    const json_t *range = json_array_get(list, below(rng, json_array_size(list)));
    const size_t first = (size_t)json_integer_value(json_array_get(range, 0));
    const size_t last = (size_t)json_integer_value(json_array_get(range, 1));
    put_code_point(out, first + below(rng, last - first + 1));
}

/* One character of a string of the tables. */
static void put_from_string(lf_bytes *out, const token_strings *s, const char *table, uint64_t *rng)
{
    const char *chars = json_string_value(json_object_get(s->tables, table));
    const size_t len = strlen(chars);
    size_t n = 0, at = 0;
    for (size_t i = 0; i < len; i += lf_utf8_step(chars + i, len - i)) n++;
    for (size_t skip = below(rng, n); skip > 0; skip--) at += lf_utf8_step(chars + at, len - at);
    put(out, chars + at, lf_utf8_step(chars + at, len - at));
}

static void put_string(lf_bytes *out, const char *string)
{
    put(out, string, strlen(string));
}

/* A special token's name, or one that misses its first or last character. */
static void put_special(lf_bytes *out, const token_strings *s, uint64_t *rng)
{
    const char *name = pick(s, "specials", rng);
    const size_t len = strlen(name), first = lf_utf8_step(name, len);
    size_t last = len - 1;
    while (((uint8_t)name[last] & 0xC0) == 0x80) last--;
    switch (below(rng, 5)) {
    case 0: put(out, name, last); break;
    case 1: put(out, name + first, len - first); break;
    default: put(out, name, len);
    }
}

static void put_run(lf_bytes *out, const token_strings *s, uint64_t *rng)
{
    const char *unit = pick(s, "units", rng);
    for (size_t n = 1 + below(rng, 600); n > 0; n--) put_string(out, unit);
    put_string(out, pick(s, "words", rng));
}

static void corrupt_bytes(lf_bytes *out, uint64_t *rng)
{
    for (size_t n = 1 + out->len / 8; n > 0; n--) {
        const size_t at = below(rng, out->len);
        out->data[at] = (char)below(rng, 256);
    }
}

void token_strings_get(const token_strings *s, uint64_t i, bool corrupt, lf_bytes *out)
{
    enum { KINDS = 10 };
    uint64_t rng = UINT64_C(0x6C6F6F6B666172) + i;
    out->len = 0;
    if (i % KINDS == 5) {
        put_run(out, s, &rng);
    } else {
        for (size_t n = 1 + below(&rng, 40); n > 0; n--) {
            size_t cp;
            switch (i % KINDS) {
            case 0:
                cp = below(&rng, 0x10F800);
                put_code_point(out, cp < 0xD800 ? cp : cp + 0x800); /* no surrogates */
                break;
            case 1: put_code_point(out, below(&rng, 0x80)); break;
            case 2:
                put_string(out, pick(s, "words", &rng));
                put_string(out, pick(s, "separators", &rng));
                break;
            case 3:
                if (below(&rng, 3) == 0)
                    put_from_string(out, s, "bases", &rng);
                else
                    put_from_ranges(out, s, "marks", &rng);
                break;
            case 4: put_string(out, pick(s, "spaces", &rng)); break;
            case 6:
                put_special(out, s, &rng);
                put_string(out, pick(s, "separators", &rng));
                break;
            case 7: put_from_string(out, s, "code", &rng); break;
            case 8: put_from_ranges(out, s, "recent", &rng); break;
            default: put_from_ranges(out, s, "scripts", &rng); break;
            }
        }
    }
    if (corrupt && out->len > 0) corrupt_bytes(out, &rng);
}

uint64_t token_hash(uint64_t hash, const int32_t *ids, size_t n)
{
    for (size_t i = 0; i <= n; i++) {
        const uint32_t word = i ? (uint32_t)ids[i - 1] : (uint32_t)n;
        for (unsigned shift = 0; shift < 32; shift += 8)
            hash = (hash ^ (word >> shift & 0xFF)) * UINT64_C(0x100000001B3);
    }
    return hash;
}
