/* The pick: which token stands at a position (the Pick law).
 *
 * pick is a pure function of (logits, history, parameters, seed, position). Its stages, in order:
 *
 *   bias         logit += bias of the id
 *   penalties    over the last repeat_last_n tokens of the history: repetition (Keskar et al., CTRL, 2019: positive
 *                logits divided, others multiplied), then frequency * count and presence subtracted (OpenAI's)
 *   mask         ids that a grammar forbids leave
 *   temperature  0: the highest logit, the lowest id among equals, and nothing further; else logits / T
 *   top_k        the k highest stay
 *   top_p        the fewest of the highest whose probabilities reach p stay
 *   min_p        those with at least p times the highest probability stay
 *   noise        logit / T + g, the highest wins; g = -ln(-ln u) with u from Philox keyed by (seed, position, id)
 *
 * The last is an exact sample of the filtered softmax (the Gumbel-max trick), and since the noise depends on nothing
 * else, whoever picks at a position with the same logits and history picks the same token. */
#ifndef LF_SAMPLE_PICK_H
#define LF_SAMPLE_PICK_H

#include "base/status.h"

/* What a grammar allows: clears the words' bits of the ids (n_vocab) that may not follow history. A pure function of its
 * arguments. */
typedef void lf_pick_mask_fn(void *cookie, const int32_t *history, int n_history, uint32_t *allowed);

typedef struct lf_pick_params {
    float temperature;        /* 0: greedy */
    int top_k;                /* 0: all */
    float top_p;              /* 1: all */
    float min_p;              /* 0: all */
    float repetition_penalty; /* 1: none */
    float frequency_penalty;  /* 0: none */
    float presence_penalty;   /* 0: none */
    int repeat_last_n;        /* how far back the penalties look; -1: the whole history */
    uint64_t seed;
    const lf_bias *bias; /* (n_bias) */
    int n_bias;
    lf_pick_mask_fn *mask; /* NULL: everything is allowed */
    void *mask_cookie;
} lf_pick_params;

/* Parameters that change nothing: greedy, no penalties. */
void lf_pick_params_init(lf_pick_params *params);

/* LF_EINVAL, naming the parameter, unless all are in their ranges and every bias id below n_vocab. */
lf_status lf_pick_params_check(const lf_pick_params *params, int n_vocab, lf_error *err);

/* Buffers for picks over a vocabulary of n_vocab; nothing is allocated later. One per thread. */
typedef struct lf_picker lf_picker;
lf_status lf_picker_create(lf_picker **out, int n_vocab, lf_error *err);
void lf_picker_free(lf_picker *p); /* NULL is fine */

/* Lets the picker find the highest of x (n), NaN aside, by a faster function with the same results: kernel.h's. */
typedef float lf_pick_highest_fn(const float *x, int n);
void lf_picker_use_highest(lf_picker *p, lf_pick_highest_fn *highest);

/* The picked id for the position after history (n_history tokens: position n_history), or -1 when the logits (n_vocab)
 * hold nothing to pick: the highest is not finite, or the mask allows nothing. */
int32_t lf_pick(lf_picker *p, const float *logits, const int32_t *history, int n_history,
                const lf_pick_params *params);

/* Log probabilities under the model itself (softmax of the logits as they are, before any stage): of id, and of the n_top
 * likeliest, best first, lowest id first among equals. */
void lf_pick_logprobs(lf_picker *p, const float *logits, int32_t id, float *logprob, lf_logprob *top,
                      int n_top);

#endif
