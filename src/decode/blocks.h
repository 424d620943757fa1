/* Jacobi decoding in blocks that stand, and the states that it goes through: CLLM's algorithm 1 (arXiv 2403.00835), for collecting
 * trajectories. For decoding itself the rolling window of jacobi.c takes fewer passes.
 *
 *   state 0      n first guesses (fill.h)
 *   state j + 1  the picks of a pass over state j, all of its positions refined at once
 *   ...          until a state is the picks after itself: the fixed point, which is what plain decoding would have said
 *
 * A block begins where the one before it ended, so its first pass has n rows. Tokens that are surely right are emitted as they
 * come and not computed again; a state has them all the same. The last pass of a block may confirm only; such a pass adds no
 * state. An end of the output ends the last block: all its states are filled behind that token with the token itself.
 *
 * The states depend on the sequence, its pick parameters and nothing else, as long as every pass has room for n - 1 candidates of
 * each sequence. */
#ifndef LF_DECODE_BLOCKS_H
#define LF_DECODE_BLOCKS_H

#include "decode/proposer.h"

enum { LF_BLOCK_MAX = LF_DRAFT_MAX }; /* tokens of a block at most */

typedef struct lf_blocks_params {
    int n;      /* tokens of a block, 2 to LF_BLOCK_MAX */
    bool ngram; /* first guesses by n-grams; otherwise tokens of the sequence, by its seed */
} lf_blocks_params;

/* A proposer for sequences whose length is a prompt, of which all but the last token are in the cache, and whole blocks, and whose
 * draft_max is n - 1. Closed by lf_proposer_close. */
lf_status lf_blocks_open(lf_proposer **out, const lf_blocks_params *params, lf_error *err);

typedef struct lf_block_states {
    int n, n_blocks;
    const int32_t *n_states; /* (n_blocks) */
    const int32_t *states;   /* (sum of n_states, n) */
} lf_block_states;

/* The blocks of an attached sequence so far, the one at hand included; valid until the sequence goes on. */
lf_block_states lf_blocks_get(const lf_seq *seq);

#endif
