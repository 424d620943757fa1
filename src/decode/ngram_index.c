#include "decode/ngram_index.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

lf_status lf_ngram_index_init(lf_ngram_index *x, int n_max, lf_error *err)
{
    *x = (lf_ngram_index){.n_slots = 64};
    while (x->n_slots < n_max) x->n_slots *= 2;
    const size_t n = (size_t)x->n_slots;
    int32_t *block = calloc(n * LF_NGRAM_MAX, sizeof *block);
    if (!block) return lf_fail_memory(err, "an n-gram index", n * LF_NGRAM_MAX * sizeof *block);
    for (int i = 0; i < LF_NGRAM_MAX; i++) x->tables[i] = block + (size_t)i * n;
    return LF_OK;
}

void lf_ngram_index_free(lf_ngram_index *x)
{
    free(x->tables[0]);
    *x = (lf_ngram_index){0};
}

/* The slot of the n tokens that end before `end`. */
static int32_t *slot_of(const lf_ngram_index *x, const int32_t *end, int n)
{
    uint32_t h = 0x9E3779B9u * (uint32_t)n;
    for (int i = 1; i <= n; i++) h = (h ^ (uint32_t)end[-i]) * 0x85EBCA6Bu, h ^= h >> 15;
    return &x->tables[n - 1][h & (uint32_t)(x->n_slots - 1)];
}

void lf_ngram_index_update(lf_ngram_index *x, const int32_t *ids, int n)
{
    for (int end = x->n_indexed < 1 ? 1 : x->n_indexed; end < n; end++)
        for (int length = 1; length <= LF_NGRAM_MAX && length <= end; length++)
            *slot_of(x, ids + end, length) = end;
    if (n > x->n_indexed) x->n_indexed = n;
}

int lf_ngram_index_find(const lf_ngram_index *x, const int32_t *ids, const int32_t *tail, int n_tail,
                        int n_min, int *matched)
{
    for (int n = n_tail < LF_NGRAM_MAX ? n_tail : LF_NGRAM_MAX; n >= n_min; n--) {
        const int32_t end = *slot_of(x, tail + n_tail, n);
        if (end < n || memcmp(ids + end - n, tail + n_tail - n, (size_t)n * sizeof *ids) != 0) continue;
        if (matched) *matched = n;
        return end;
    }
    return -1;
}
