/* A round: propose, one target pass over a ragged batch, pick, accept, commit, observe, emit.
 *
 * A candidate is accepted iff it equals the pick at its position, and the pick is a pure function (the Pick law) of logits
 * that do not depend on the company (the Row law). So the tokens of a sequence are those of plain decoding, whatever is
 * proposed and whoever else is in the pass. */
#ifndef LF_DECODE_ROUND_H
#define LF_DECODE_ROUND_H

#include "decode/cost.h"
#include "decode/plan.h"
#include "decode/proposer.h"
#include "model/forward.h"

typedef struct lf_round lf_round;

/* Rounds of up to seqs_max sequences and rows_max rows a pass over a forward that was created with at least rows_max rows and
 * logits_max logits; both borrowed. logits_max >= seqs_max. Nothing is allocated later. */
lf_status lf_round_create(lf_round **out, lf_forward *forward, const lf_config *config, int seqs_max,
                          int rows_max, int logits_max, lf_error *err);
void lf_round_free(lf_round *r); /* NULL is fine */

/* From now on passes that only decode correct the cost; NULL: none does. cost is borrowed. */
void lf_round_correct_cost(lf_round *r, lf_cost *cost);

/* What a step did. */
typedef struct lf_step {
    int n_seqs;       /* sequences with rows in the pass */
    int prefill_rows; /* rows of prompts */
    int decode_rows;  /* rows of last tokens and candidates */
    int n_picked;     /* sequences that got tokens */
    int proposed, accepted, emitted;
    int64_t propose_ns, forward_ns, pick_ns;
    int64_t emit_ns; /* of pick_ns, telling of tokens */
} lf_step;

/* One round over sequences as lf_plan_rows planned it, within rows_max and logits_max; a plan may have been cut down, to fewer
 * candidates or rows. LF_ELIMIT when the cache has no page for a sequence's rows; sequences are then unchanged. */
lf_status lf_round_run(lf_round *r, lf_seq *const *seqs, int n_seqs, lf_step *step, lf_error *err);

/* Plans and runs a round over the sequences that are not finished, n_seqs <= seqs_max. */
lf_status lf_round_step(lf_round *r, lf_seq *const *seqs, int n_seqs, lf_step *step, lf_error *err);

/* lf_pick_logprobs with the round's buffers: for emit. */
void lf_round_logprobs(lf_round *r, const float *logits, int32_t id, float *logprob, lf_logprob *top,
                       int n_top);

#endif
