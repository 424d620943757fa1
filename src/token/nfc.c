/* Unicode normalisation form C, on the tables of utf8proc.
 *
 * Two things are done here and not by utf8proc_map. Canonical ordering sorts each run of combining marks by counting,
 * since utf8proc's exchange sort takes quadratic time on a long run. And the text is normalised as the `tokenizers`
 * library does it, whose tables are those of Unicode 9: code points that came later stand as they are, neither ordered
 * nor composed (normalisation tells a model nothing if it differs from that of its training). */
#include "token/rewrite.h"

#include "token/utf8.h"

#include <stdlib.h>
#include <utf8proc.h>

enum {
    FIRST_AFFECTED = 0x300, /* below it, every code point is a starter that composes with none before it */
    FIRST_AFFECTED_LEAD = 0xCC, /* the first byte of U+0300 */
    DECOMPOSED_MAX = 4,         /* code points of a canonical decomposition */
};

/* Code points assigned after Unicode 9 that have a combining class or compose. */
static const struct {
    utf8proc_int32_t first, last;
} later[] = {
    {0x7FD, 0x7FD},     {0x898, 0x89F},     {0x8CA, 0x8D3},     {0x9FE, 0x9FE},     {0xC3C, 0xC3C},
    {0xD3B, 0xD3C},     {0xEBA, 0xEBA},     {0x1715, 0x1715},   {0x1ABF, 0x1ACE},   {0x1DF6, 0x1DFA},
    {0xA82C, 0xA82C},   {0x10D24, 0x10D27}, {0x10EAB, 0x10EAC}, {0x10EFD, 0x10EFF}, {0x10F46, 0x10F50},
    {0x10F82, 0x10F85}, {0x11070, 0x11070}, {0x1133B, 0x1133B}, {0x1145E, 0x1145E}, {0x11839, 0x1183A},
    {0x11930, 0x11930}, {0x1193D, 0x1193E}, {0x11943, 0x11943}, {0x119E0, 0x119E0}, {0x11A34, 0x11A34},
    {0x11A47, 0x11A47}, {0x11A99, 0x11A99}, {0x11D42, 0x11D42}, {0x11D44, 0x11D45}, {0x11D97, 0x11D97},
    {0x11F41, 0x11F42}, {0x16FF0, 0x16FF1}, {0x1E08F, 0x1E08F}, {0x1E130, 0x1E136}, {0x1E2AE, 0x1E2AE},
    {0x1E2EC, 0x1E2EF}, {0x1E4EC, 0x1E4EF},
};

static bool is_later(utf8proc_int32_t cp)
{
    size_t low = 0, high = sizeof later / sizeof *later;
    while (low < high) {
        const size_t middle = (low + high) / 2;
        if (cp > later[middle].last)
            low = middle + 1;
        else
            high = middle;
    }
    return low < sizeof later / sizeof *later && cp >= later[low].first;
}

/* Decomposed code points that are not yet written. */
typedef struct waiting {
    utf8proc_int32_t *cps, *sorted; /* (cap) each; sorted is the scratch of order_marks */
    size_t n, cap;
} waiting;

static bool wait_for(waiting *w, utf8proc_int32_t cp)
{
    if (w->n + DECOMPOSED_MAX > w->cap) {
        const size_t cap = w->cap ? 2 * w->cap : 256;
        utf8proc_int32_t *cps = realloc(w->cps, cap * sizeof *cps);
        if (cps) w->cps = cps;
        utf8proc_int32_t *sorted = realloc(w->sorted, cap * sizeof *sorted);
        if (sorted) w->sorted = sorted;
        if (!cps || !sorted) return false;
        w->cap = cap;
    }
    int boundary = 0;
    w->n += (size_t)utf8proc_decompose_char(cp, w->cps + w->n, DECOMPOSED_MAX,
                                            UTF8PROC_STABLE | UTF8PROC_DECOMPOSE, &boundary);
    return true;
}

static unsigned class_of(utf8proc_int32_t cp)
{
    return (uint8_t)utf8proc_get_property(cp)->combining_class;
}

static bool in_order(const utf8proc_int32_t *marks, size_t n)
{
    for (size_t i = 1; i < n; i++)
        if (class_of(marks[i - 1]) > class_of(marks[i])) return false;
    return true;
}

/* Sorts marks (n) by combining class, equal ones in their order. */
static void order_marks(utf8proc_int32_t *marks, utf8proc_int32_t *scratch, size_t n)
{
    size_t starts[257] = {0}; /* of the marks of each class in the sorted run */
    for (size_t i = 0; i < n; i++) starts[class_of(marks[i]) + 1]++;
    for (size_t c = 1; c < 257; c++) starts[c] += starts[c - 1];
    for (size_t i = 0; i < n; i++) scratch[starts[class_of(marks[i])]++] = marks[i];
    memcpy(marks, scratch, n * sizeof *marks);
}

/* Orders, composes and writes what waits. */
static bool write_waiting(waiting *w, lf_bytes *out)
{
    for (size_t i = 0; i < w->n;) {
        size_t end = i;
        while (end < w->n && class_of(w->cps[end]) != 0) end++;
        if (!in_order(w->cps + i, end - i)) order_marks(w->cps + i, w->sorted, end - i);
        i = end + 1;
    }
    const utf8proc_ssize_t n = utf8proc_normalize_utf32(w->cps, (utf8proc_ssize_t)w->n,
                                                        UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    w->n = 0;
    for (utf8proc_ssize_t i = 0; i < n; i++) {
        char bytes[4];
        if (!lf_bytes_append(out, bytes, lf_utf8_encode((uint32_t)w->cps[i], bytes))) return false;
    }
    return true;
}

bool lf_nfc_is_inert(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if ((uint8_t)text[i] >= FIRST_AFFECTED_LEAD) return false;
    return true;
}

bool lf_nfc_append(lf_bytes *out, const char *text, size_t len)
{
    waiting w = {0};
    bool done = true;
    for (size_t i = 0, step; i < len && done; i += step) {
        uint32_t cp;
        const int decoded = lf_utf8_decode(text + i, len - i, &cp);
        step = decoded > 0 ? (size_t)decoded : 1;
        /* A code point that nothing before it can combine with ends what waits. */
        const bool stands_alone = decoded <= 0 || is_later((utf8proc_int32_t)cp);
        if (stands_alone || cp < FIRST_AFFECTED) done = write_waiting(&w, out);
        if (!done) break;
        done = stands_alone ? lf_bytes_append(out, text + i, step) : wait_for(&w, (utf8proc_int32_t)cp);
    }
    done = done && write_waiting(&w, out);
    free(w.cps);
    free(w.sorted);
    return done;
}
