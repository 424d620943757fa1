#include "token/added.h"

#include "token/utf8.h"
#include "token/vocab.h"

#include <assert.h>
#include <stdlib.h>
#include <utf8proc.h>

lf_status lf_added_set_add(lf_added_set *set, const lf_added *added, const char *text, size_t len,
                           lf_error *err)
{
    assert(len > 0 && len <= LF_PIECE_BYTES_MAX);
    if (set->n == set->cap) {
        const size_t cap = set->cap ? 2 * set->cap : 16;
        lf_added *items = realloc(set->items, cap * sizeof *items);
        if (!items) return lf_fail_memory(err, "the added tokens", cap * sizeof *items);
        set->items = items;
        set->cap = cap;
    }
    lf_added *item = &set->items[set->n];
    *item = *added;
    item->len = len;
    item->text = lf_strndup(text, len);
    if (!item->text) return lf_fail_memory(err, "an added token", len);
    set->n++;
    return LF_OK;
}

static int compare_texts(const void *a, const void *b)
{
    const lf_added *x = a, *y = b;
    const int order = memcmp(x->text, y->text, x->len < y->len ? x->len : y->len);
    if (order) return order;
    if (x->len != y->len) return x->len < y->len ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

void lf_added_set_index(lf_added_set *set)
{
    if (set->n == 0) return;
    qsort(set->items, set->n, sizeof *set->items, compare_texts);
    for (size_t i = 0; i < set->n; i++) {
        set->begins[(uint8_t)set->items[i].text[0]] = true;
        set->plain |= !set->items[i].special;
    }
}

void lf_added_set_free(lf_added_set *set)
{
    for (size_t i = 0; i < set->n; i++) free(set->items[i].text);
    free(set->items);
    *set = (lf_added_set){0};
}

/* The first of items [low, high), which agree up to `depth`, whose byte at depth is at least `byte`. */
static size_t lower_bound(const lf_added_set *set, size_t low, size_t high, size_t depth, unsigned byte)
{
    while (low < high) {
        const size_t middle = (low + high) / 2;
        const lf_added *item = &set->items[middle];
        if (item->len == depth || (uint8_t)item->text[depth] < byte)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The longest item that text[at..len) begins with: the range of items that agree with the text narrows byte by byte. */
static const lf_added *longest_at(const lf_added_set *set, const char *text, size_t len, size_t at)
{
    const lf_added *longest = NULL;
    size_t low = 0, high = set->n;
    for (size_t depth = 0; at + depth < len; depth++) {
        const unsigned byte = (uint8_t)text[at + depth];
        low = lower_bound(set, low, high, depth, byte);
        high = lower_bound(set, low, high, depth, byte + 1);
        if (low == high) break;
        if (set->items[low].len == depth + 1) longest = &set->items[low];
    }
    return longest;
}

/* The start of the code point that ends at `end`, or `end` when none does that begins at `limit` or after it. */
static size_t code_point_before(const char *text, size_t end, size_t limit, uint32_t *cp)
{
    size_t i = end;
    while (i > limit && end - i < 4 && ((uint8_t)text[--i] & 0xC0) == 0x80) continue;
    const int len = i < end ? lf_utf8_decode(text + i, end - i, cp) : 0;
    return len > 0 && (size_t)len == end - i ? i : end;
}

/* The start of the white space that ends at `end`, not before `limit`. */
static size_t white_before(const char *text, size_t end, size_t limit)
{
    uint32_t cp = 0;
    for (size_t i; (i = code_point_before(text, end, limit, &cp)) < end && lf_is_white_space(cp); end = i)
        continue;
    return end;
}

static size_t white_after(const char *text, size_t len, size_t start)
{
    uint32_t cp;
    int step;
    while (start < len && (step = lf_utf8_decode(text + start, len - start, &cp)) > 0 &&
           lf_is_white_space(cp))
        start += (size_t)step;
    return start;
}

/* A word character of the regex crate: alphabetic, mark, decimal or letter number, connector, joiner. */
static bool is_word(uint32_t cp)
{
    switch (utf8proc_category((utf8proc_int32_t)cp)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC: return true;
    default: break;
    }
    return cp == 0x200C || cp == 0x200D || (cp >= 0x24B6 && cp <= 0x24E9) ||
           (cp >= 0x1F130 && cp <= 0x1F149) || (cp >= 0x1F150 && cp <= 0x1F169) ||
           (cp >= 0x1F170 && cp <= 0x1F189);
}

static bool touches_word(const char *text, size_t len, size_t start, size_t end)
{
    uint32_t before = 0, after = 0;
    return (end < len && lf_utf8_decode(text + end, len - end, &after) > 0 && is_word(after)) ||
           (code_point_before(text, start, 0, &before) < start && is_word(before));
}

const lf_added *lf_added_next(lf_added_walk *w, size_t *start, size_t *end)
{
    if (w->set->n == 0 || (!w->parse_special && !w->set->plain)) return NULL;
    while (w->scan < w->len) {
        const size_t at = w->scan++;
        if (!w->set->begins[(uint8_t)w->text[at]]) continue;
        const lf_added *found = longest_at(w->set, w->text, w->len, at);
        if (!found) continue;
        w->scan = at + found->len;
        if (found->special && !w->parse_special) continue;
        if (found->single_word && touches_word(w->text, w->len, at, w->scan)) continue;
        *start = found->lstrip ? white_before(w->text, at, w->done < at ? w->done : at) : at;
        *end = w->scan;
        /* When the last match took the space around this one along, that space ends where it did. */
        if (found->rstrip) *end = w->done > w->scan ? w->done : white_after(w->text, w->len, w->scan);
        w->done = *end;
        return found;
    }
    return NULL;
}
