#include "token/bpe.h"

#include "token/utf8.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* ---- the table of merges ---- */

static uint32_t slot_of(const lf_merges *m, int32_t left, int32_t right)
{
    const uint32_t mask = m->n_slots - 1;
    const uint64_t pair = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    uint32_t i = (uint32_t)lf_hash_mix(pair) & mask;
    while (m->slots[i].left != LF_TOKEN_NONE && (m->slots[i].left != left || m->slots[i].right != right))
        i = (i + 1) & mask;
    return i;
}

static lf_status grow(lf_merges *m, lf_error *err)
{
    lf_merges grown = {.n_slots = m->n_slots ? 2 * m->n_slots : 1024, .n = m->n};
    const size_t bytes = grown.n_slots * sizeof *grown.slots;
    grown.slots = malloc(bytes);
    if (!grown.slots) return lf_fail_memory(err, "the table of merges", bytes);
    memset(grown.slots, 0xFF, bytes); /* every left is LF_TOKEN_NONE */
    for (uint32_t i = 0; i < m->n_slots; i++) {
        const lf_merge *merge = &m->slots[i];
        if (merge->left != LF_TOKEN_NONE) grown.slots[slot_of(&grown, merge->left, merge->right)] = *merge;
    }
    free(m->slots);
    *m = grown;
    return LF_OK;
}

lf_status lf_merges_add(lf_merges *m, const lf_merge *merge, lf_error *err)
{
    if (m->n >= m->n_slots / 2) {
        const lf_status status = grow(m, err);
        if (status != LF_OK) return status;
    }
    lf_merge *slot = &m->slots[slot_of(m, merge->left, merge->right)];
    if (slot->left == LF_TOKEN_NONE) m->n++;
    *slot = *merge;
    return LF_OK;
}

lf_status lf_merges_derive(lf_merges *m, const lf_vocab *v, const uint32_t *ranks, lf_error *err)
{
    for (int32_t id = 0; id < v->n; id++) {
        if (ranks[id] == LF_RANK_NONE) continue;
        size_t len;
        const char *piece = lf_vocab_piece(v, id, &len);
        for (size_t cut = lf_utf8_step(piece, len); cut < len; cut += lf_utf8_step(piece + cut, len - cut)) {
            const int32_t left = lf_vocab_find(v, piece, cut);
            if (left == LF_TOKEN_NONE) continue;
            const int32_t right = lf_vocab_find(v, piece + cut, len - cut);
            if (right == LF_TOKEN_NONE) continue;
            const lf_merge merge = {.left = left, .right = right, .id = id, .rank = ranks[id]};
            const lf_status status = lf_merges_add(m, &merge, err);
            if (status != LF_OK) return status;
        }
    }
    return LF_OK;
}

static int compare_merges(const void *a, const void *b)
{
    const lf_merge *x = a, *y = b;
    if (x->rank != y->rank) return x->rank < y->rank ? -1 : 1;
    if (x->left != y->left) return x->left < y->left ? -1 : 1;
    return (x->right > y->right) - (x->right < y->right);
}

lf_merge *lf_merges_sorted(const lf_merges *m)
{
    lf_merge *sorted = malloc((m->n ? m->n : 1) * sizeof *sorted);
    if (!sorted) return NULL;
    uint32_t n = 0;
    for (uint32_t i = 0; i < m->n_slots; i++)
        if (m->slots[i].left != LF_TOKEN_NONE) sorted[n++] = m->slots[i];
    assert(n == m->n);
    if (n) qsort(sorted, n, sizeof *sorted, compare_merges);
    return sorted;
}

void lf_merges_free(lf_merges *m)
{
    free(m->slots);
    *m = (lf_merges){0};
}

/* ---- merging ---- */

/* A merge that was possible when it was noted. It still is when the symbol `left` and its neighbour together cover
 * `len` bytes: either of them could only have grown, and then they would cover more (or, if one has swallowed the
 * other, there is another neighbour now). */
struct lf_pending_merge {
    uint32_t rank;
    uint32_t left; /* index of the symbol */
    int32_t id;
    uint32_t len;
};

static bool goes_first(const lf_pending_merge *a, const lf_pending_merge *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->left < b->left;
}

static void heap_push(lf_pending_merge *heap, size_t *n, lf_pending_merge entry)
{
    size_t i = (*n)++;
    for (; i > 0 && goes_first(&entry, &heap[(i - 1) / 2]); i = (i - 1) / 2) heap[i] = heap[(i - 1) / 2];
    heap[i] = entry;
}

static lf_pending_merge heap_pop(lf_pending_merge *heap, size_t *n)
{
    const lf_pending_merge top = heap[0], last = heap[--*n];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < *n; i = child) {
        if (child + 1 < *n && goes_first(&heap[child + 1], &heap[child])) child++;
        if (!goes_first(&heap[child], &last)) break;
        heap[i] = heap[child];
    }
    heap[i] = last;
    return top;
}

/* Notes the merge of symbol left with its neighbour, if there is one. */
static void consider(const lf_bpe *b, size_t *n_heap, const lf_merges *m, int32_t left)
{
    const lf_symbol *s = &b->symbols[left];
    if (s->next < 0 || s->id == LF_TOKEN_NONE) return;
    const lf_symbol *next = &b->symbols[s->next];
    if (next->id == LF_TOKEN_NONE) return;
    const lf_merge *merge = &m->slots[slot_of(m, s->id, next->id)];
    if (merge->left == LF_TOKEN_NONE) return;
    heap_push(b->heap, n_heap,
              (lf_pending_merge){
                  .rank = merge->rank, .left = (uint32_t)left, .id = merge->id, .len = s->len + next->len});
}

void lf_bpe_merge(lf_bpe *b, const lf_merges *m)
{
    if (b->n == 0) return;
    b->symbols[b->n - 1].next = -1;
    if (m->n == 0) return;
    size_t n_heap = 0;
    for (int32_t i = 0; i < (int32_t)b->n; i++) consider(b, &n_heap, m, i);
    while (n_heap > 0) {
        const lf_pending_merge merge = heap_pop(b->heap, &n_heap);
        lf_symbol *left = &b->symbols[merge.left];
        if (left->len == 0 || left->next < 0) continue;
        lf_symbol *right = &b->symbols[left->next];
        if (left->len + right->len != merge.len) continue;
        left->id = merge.id;
        left->len = merge.len;
        right->len = 0;
        left->next = right->next;
        if (left->next >= 0) b->symbols[left->next].prev = (int32_t)merge.left;
        if (left->prev >= 0) consider(b, &n_heap, m, left->prev);
        consider(b, &n_heap, m, (int32_t)merge.left);
    }
}

bool lf_bpe_reserve(lf_bpe *b, size_t n)
{
    if (n <= b->cap) return true;
    size_t cap = b->cap ? b->cap : 64;
    while (cap < n) cap *= 2;
    lf_symbol *symbols = realloc(b->symbols, cap * sizeof *symbols);
    if (!symbols) return false;
    b->symbols = symbols;
    /* At most n - 1 merges wait at first, and each merge made takes one away and adds two. */
    lf_pending_merge *heap = realloc(b->heap, 2 * cap * sizeof *heap);
    if (!heap) return false;
    b->heap = heap;
    b->cap = cap;
    return true;
}

void lf_bpe_free(lf_bpe *b)
{
    free(b->symbols);
    free(b->heap);
    *b = (lf_bpe){0};
}
