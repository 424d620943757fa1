/* Byte-pair encoding: which two neighbouring symbols become which, and the merging of one piece of text.
 *
 * Both algorithms of the family are this one. Byte-level BPE lists its merges, first ones first. SentencePiece and
 * tiktoken join any two neighbours whose concatenation is in the vocabulary, best score (lowest rank) first; since
 * every symbol is itself in the vocabulary, splitting each piece in two at every place lists those merges too, with the
 * rank of the result. Of equal ranks the leftmost is merged first. */
#ifndef LF_TOKEN_BPE_H
#define LF_TOKEN_BPE_H

#include "token/vocab.h"

typedef struct lf_merge {
    int32_t left, right; /* the neighbours; left is LF_TOKEN_NONE in a free slot */
    int32_t id;          /* what they become */
    uint32_t rank;       /* lowest first */
} lf_merge;

typedef struct lf_merges { /* immutable once loaded */
    lf_merge *slots;       /* (n_slots), open addressing over (left, right) */
    uint32_t n_slots;      /* a power of two, or 0 */
    uint32_t n;
} lf_merges;

/* Adds a merge, in place of an earlier one of the same neighbours. */
lf_status lf_merges_add(lf_merges *m, const lf_merge *merge, lf_error *err);

/* Adds, for every token i whose ranks[i] is not LF_RANK_NONE, each split of its piece in two tokens. */
#define LF_RANK_NONE UINT32_MAX
lf_status lf_merges_derive(lf_merges *m, const lf_vocab *v, const uint32_t *ranks, lf_error *err);

/* The merges by rank, then by the order of the neighbours: (m->n), malloc'ed; NULL without memory. */
lf_merge *lf_merges_sorted(const lf_merges *m);
void lf_merges_free(lf_merges *m);

typedef struct lf_symbol {
    int32_t id;         /* LF_TOKEN_NONE: unknown, never merged */
    uint32_t len;       /* bytes of text; 0 once merged into the symbol before it */
    int32_t prev, next; /* neighbours, -1 at the ends */
} lf_symbol;

typedef struct lf_pending_merge lf_pending_merge;

/* The work space of merging, kept from piece to piece. Zero-initialise. */
typedef struct lf_bpe {
    lf_symbol *symbols;     /* (cap): the piece, symbol 0 first; after merging, follow next */
    lf_pending_merge *heap; /* (2 * cap) */
    size_t n, cap;
} lf_bpe;

/* Room for n symbols in all; false without memory. */
bool lf_bpe_reserve(lf_bpe *b, size_t n);

static inline void lf_bpe_push(lf_bpe *b, int32_t id, uint32_t len)
{
    const int32_t i = (int32_t)b->n++;
    b->symbols[i] = (lf_symbol){.id = id, .len = len, .prev = i - 1, .next = i + 1};
}

/* Merges b->symbols until no two neighbours have a merge: O(n log n). */
void lf_bpe_merge(lf_bpe *b, const lf_merges *m);
void lf_bpe_free(lf_bpe *b);

#endif
