/* A distillation: lf_distill_train of lookfar.h. The loop is loop.h's, the rows pack.h's, the loss
 * consistency.h's.
 *
 * At the start and at every validation the run is judged: the loss over held-out trajectories, under noise
 * that is always the same, and what decoding their prompts shows. The best weights so far are written to
 * model.gguf at once: of those whose tokens per pass are the most there were, or less by no more than the
 * noise of so few prompts, those with the least loss. A judgement depends on the weights alone, and a checkpoint keeps what is remembered
 * of earlier ones, so a resumed run judges as an unbroken one. */
#ifndef LF_TRAIN_DISTILL_H
#define LF_TRAIN_DISTILL_H

#include "train/distill_data.h"
#include "train/loop.h"
#include "train/train.h"

/* What is lost over a number of rows: sums, and of how many. */
typedef struct lf_distill_losses {
    double pair_sum, target_sum;
    int64_t n_pairs, n_targets;
} lf_distill_losses;

/* What is remembered between judgements, as checkpoints keep it. */
typedef enum lf_distill_memory {
    LF_JUDGED_STEP, /* of the last judgement, -1: none */
    LF_JUDGED_START_AR,
    LF_JUDGED_START_REPEATED,
    LF_JUDGED_START_SPEED, /* tokens per pass */
    LF_JUDGED_BEST_STEP,
    LF_JUDGED_BEST_SCORE, /* of the weights that are kept; more is better */
    LF_JUDGED_BEST_SPEED,
    LF_JUDGED_BEST_AR,
    LF_JUDGED_N_FAR,     /* judgements in a row that were far beyond the bounds */
    LF_JUDGED_TOP_SCORE, /* the most so far */
    LF_JUDGED_BEST_LOSS,
    LF_JUDGED_N
} lf_distill_memory;

typedef struct lf_distill {
    lf_distill_train_params p; /* checked */
    lf_distill_data data;
    lf_train_files label_files; /* ground truth, or none */
    lf_data *labels;            /* or NULL: the trajectories' outputs are the labels */
    lf_batch label_batch;
    int64_t step;   /* that the batch is for, from 0 */
    lf_pack *packs; /* (n_packs) micro-batches; validation uses the first */
    int n_packs;
    lf_distill_losses losses; /* of the last step */
    float memory[LF_JUDGED_N];
    lf_train_model teacher_model; /* LF_DISTILL_RKL */
    lf_net *teacher;              /* or NULL */
} lf_distill;

/* The parameters with every default filled in, or LF_EINVAL naming the one that is wrong. */
lf_status lf_distill_params_check(lf_distill_train_params *out, const lf_distill_train_params *params,
                                  lf_error *err);

/* Forward over a pack, and backward when grad is not NULL: *loss = its loss with these scales; what is
 * lost is added to sums. */
lf_status lf_distill_run_pack(double *loss, lf_distill_losses *sums, const lf_distill *d, const lf_pack *pack,
                              lf_net *net, float *grad, double pair_scale, double target_scale,
                              lf_error *err);

/* Consistency (or reverse KL) and autoregressive loss, and what the recipe makes of them. */
double lf_distill_mean_pairs(const lf_distill_losses *l);
double lf_distill_mean_targets(const lf_distill_losses *l);
double lf_distill_loss(const lf_distill_train_params *p, const lf_distill_losses *l);

/* Whether weights of such a score, which is known up to a noise, and loss are to be kept instead of those
 * that are, given what is remembered (LF_JUDGED_N) of the ones before, and remembers them if so. */
bool lf_distill_keeps(float *memory, float score, float noise, float loss);

/* Whether the last judgements say that the run is over. */
bool lf_distill_has_collapsed(const lf_distill *d);

/* An lf_loop_task's validate and judged_step; self is an lf_distill. */
lf_status lf_distill_judge(void *self, double *loss, lf_loop *loop, lf_error *err);
int64_t lf_distill_judged_step(const void *self);

#endif
