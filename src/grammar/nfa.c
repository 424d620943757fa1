/* Building NFAs, and code points as bytes.
 *
 * A range of code points becomes sequences of byte ranges by cutting it where the length of the encoding changes, and then
 * where a trailing byte would not run over all its 64 values. */
#include "grammar/dfa.h"

#include "token/utf8.h"

#include <assert.h>
#include <stdlib.h>

static uint32_t add_node(lf_nfa *nfa, lf_nfa_node node)
{
    if (nfa->failed) return LF_NFA_NOTHING;
    if (nfa->n == nfa->cap) {
        const size_t cap = nfa->cap ? nfa->cap * 2 : 256;
        lf_nfa_node *nodes = cap <= LF_NFA_NODES_MAX ? realloc(nfa->nodes, cap * sizeof *nodes) : NULL;
        if (!nodes) {
            nfa->failed = true;
            nfa->too_large = cap > LF_NFA_NODES_MAX;
            return LF_NFA_NOTHING;
        }
        nfa->nodes = nodes;
        nfa->cap = cap;
    }
    nfa->nodes[nfa->n] = node;
    return (uint32_t)nfa->n++;
}

void lf_nfa_init(lf_nfa *nfa)
{
    *nfa = (lf_nfa){0};
    (void)add_node(nfa, (lf_nfa_node){.kind = LF_NFA_KIND_ACCEPT});
    (void)add_node(nfa, (lf_nfa_node){.kind = LF_NFA_KIND_NOTHING});
}

void lf_nfa_free(lf_nfa *nfa)
{
    free(nfa->nodes);
    *nfa = (lf_nfa){0};
}

uint32_t lf_nfa_add_range(lf_nfa *nfa, uint8_t lo, uint8_t hi, uint32_t next)
{
    return add_node(nfa, (lf_nfa_node){.kind = LF_NFA_KIND_RANGE, .lo = lo, .hi = hi, .to = next});
}

uint32_t lf_nfa_add_split(lf_nfa *nfa, uint32_t a, uint32_t b)
{
    if (a == LF_NFA_NOTHING) return b;
    if (b == LF_NFA_NOTHING) return a;
    return add_node(nfa, (lf_nfa_node){.kind = LF_NFA_KIND_SPLIT, .to = a, .other = b});
}

uint32_t lf_nfa_add_text(lf_nfa *nfa, const char *text, size_t len, uint32_t next)
{
    while (len-- > 0) next = lf_nfa_add_range(nfa, (uint8_t)text[len], (uint8_t)text[len], next);
    return next;
}

uint32_t lf_nfa_add_loop(lf_nfa *nfa)
{
    return add_node(nfa,
                    (lf_nfa_node){.kind = LF_NFA_KIND_SPLIT, .to = LF_NFA_NOTHING, .other = LF_NFA_NOTHING});
}

void lf_nfa_set_loop(lf_nfa *nfa, uint32_t loop, uint32_t a, uint32_t b)
{
    if (nfa->failed) return;
    assert(nfa->nodes[loop].kind == LF_NFA_KIND_SPLIT);
    nfa->nodes[loop].to = a;
    nfa->nodes[loop].other = b;
}

/* A range whose encodings have one length and differ in whole trailing bytes. */
static uint32_t add_sequence(lf_nfa *nfa, uint32_t lo, uint32_t hi, uint32_t next)
{
    char first[4], last[4];
    const size_t len = lf_utf8_encode(lo, first);
    (void)lf_utf8_encode(hi, last);
    for (size_t i = len; i-- > 0;) next = lf_nfa_add_range(nfa, (uint8_t)first[i], (uint8_t)last[i], next);
    return next;
}

static uint32_t add_scalar_range(lf_nfa *nfa, uint32_t lo, uint32_t hi, uint32_t next)
{
    static const uint32_t ends[] = {0x7F, 0x7FF, 0xFFFF}; /* of the lengths */
    for (int i = 0; i < 3; i++)
        if (lo <= ends[i] && hi > ends[i])
            return lf_nfa_add_split(nfa, add_scalar_range(nfa, lo, ends[i], next),
                                    add_scalar_range(nfa, ends[i] + 1, hi, next));
    for (uint32_t bits = 6; hi > 0x7F && bits <= 18; bits += 6) {
        const uint32_t low = (UINT32_C(1) << bits) - 1; /* the trailing bits */
        if ((lo & ~low) == (hi & ~low)) continue;
        if (lo & low)
            return lf_nfa_add_split(nfa, add_scalar_range(nfa, lo, lo | low, next),
                                    add_scalar_range(nfa, (lo | low) + 1, hi, next));
        if ((hi & low) != low)
            return lf_nfa_add_split(nfa, add_scalar_range(nfa, lo, (hi & ~low) - 1, next),
                                    add_scalar_range(nfa, hi & ~low, hi, next));
    }
    return add_sequence(nfa, lo, hi, next);
}

uint32_t lf_nfa_add_code_points(lf_nfa *nfa, uint32_t lo, uint32_t hi, uint32_t next)
{
    uint32_t below = LF_NFA_NOTHING, above = LF_NFA_NOTHING;
    assert(lo <= hi && hi <= 0x10FFFF);
    if (lo < 0xD800) below = add_scalar_range(nfa, lo, hi < 0xD800 ? hi : 0xD7FF, next);
    if (hi > 0xDFFF) above = add_scalar_range(nfa, lo > 0xDFFF ? lo : 0xE000, hi, next);
    return lf_nfa_add_split(nfa, below, above);
}
