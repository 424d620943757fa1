/* Where the last few tokens of a text occurred before in it (or in another text).
 *
 * For each length n from 1 to LF_NGRAM_MAX a direct-mapped table gives, by a hash of n tokens, the latest position after
 * such an n-gram. A slot that another n-gram has taken is a miss: the tokens are compared. */
#ifndef LF_DECODE_NGRAM_INDEX_H
#define LF_DECODE_NGRAM_INDEX_H

#include "base/status.h"

enum { LF_NGRAM_MAX = 4 };

typedef struct lf_ngram_index {
    int n_slots;                   /* of each table, a power of two */
    int n_indexed;                 /* n-grams that end before this position are in */
    int32_t *tables[LF_NGRAM_MAX]; /* (n_slots) position after the n-gram, or 0: empty; one block, owned */
} lf_ngram_index;

/* For texts of up to n_max tokens. */
lf_status lf_ngram_index_init(lf_ngram_index *x, int n_max, lf_error *err);
void lf_ngram_index_free(lf_ngram_index *x); /* a zeroed index is fine */

/* Takes in the n-grams of ids (n) that have a token after them. */
void lf_ngram_index_update(lf_ngram_index *x, const int32_t *ids, int n);

/* The position in ids after the latest indexed occurrence of the last tokens of `tail` (n_tail): of 4, else 3, 2 or at least
 * n_min tokens; or -1. *matched, unless NULL, is how many matched. */
int lf_ngram_index_find(const lf_ngram_index *x, const int32_t *ids, const int32_t *tail, int n_tail,
                        int n_min, int *matched);

#endif
