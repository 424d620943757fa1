/* The pick: which token stands at a position (the Pick law).
 *
 * pick is a pure function of (logits, parameters, seed, position). Greedy is the highest logit, the lowest id among equals.
 * Sampling at temperature T is the highest of logit / T + g, with Gumbel noise g = -ln(-ln u) and u drawn by Philox from
 * (seed, position, token id): that is an exact sample of softmax(logits / T) (the Gumbel-max trick; Maddison et al., "A*
 * sampling", 2014), and since the noise depends on nothing else, whoever picks at a position picks the same token. */
#ifndef LF_SAMPLE_PICK_H
#define LF_SAMPLE_PICK_H

#include <stdint.h>

typedef struct lf_pick_params {
    float temperature; /* 0: greedy */
    uint64_t seed;
} lf_pick_params;

/* The picked id, or -1 when no logit (n_vocab) is a number above -infinity, or the highest is not finite. */
int32_t lf_pick(const float *logits, int n_vocab, const lf_pick_params *params, int64_t position);

#endif
