/* First guesses of Jacobi decoding: what stands at a position that no pass has picked for yet. */
#ifndef LF_DECODE_FILL_H
#define LF_DECODE_FILL_H

#include "decode/ngram_index.h"

/* A guess for position n after ids (n): what followed the latest occurrence of the last tokens, where there is an index and it
 * knows them; else one of the first n_own ids, chosen by position and seed. 1 <= n_own <= n. */
int32_t lf_fill_token(const lf_ngram_index *index, const int32_t *ids, int n_own, int n, uint64_t seed);

#endif
