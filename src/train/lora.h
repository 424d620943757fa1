/* Low-rank adapters (LoRA, arXiv 2106.09685) around the net, which knows nothing of them: a matrix W0
 * (n_out, n_in) is trained as W = W0 + alpha / rank B A, with A (rank, n_in) and B (n_out, rank).
 *
 *   before a step      lf_lora_apply              writes W into the params that the net reads
 *   after a backward   lf_lora_project_gradient   makes dA and dB of dW
 *   the optimiser      lf_adamw_step on `adapters`, which are lf_params like any others (as checkpoints treat them)
 *   at the end         lf_lora_apply once more: the params are the merged model */
#ifndef LF_TRAIN_LORA_H
#define LF_TRAIN_LORA_H

#include "train/matmul.h"
#include "train/params.h"

typedef struct lf_lora {
    lf_params adapters; /* list: A and then B of each adapted matrix, under its weight and layer */
    float *origin;      /* (base->n) the weights W0 */
    size_t n;           /* of origin */
    float scale;        /* alpha / rank */
    lf_matmul *matmul;
} lf_lora;

/* The matrices of all layers as a set of weights, 1 << lf_weight each: what is adapted unless one says
 * otherwise. */
unsigned lf_lora_all_matrices(void);

/* Adapters for the matrices of `weights` (a set of layers' matrices) in base, whose present values become
 * W0. A is normal with deviation 1 / sqrt(n_in), B zero, so that W = W0. LF_EINVAL, LF_ENOMEM. */
lf_status lf_lora_create(lf_lora *out, const lf_params *base, int rank, float alpha, unsigned weights,
                         uint64_t seed, lf_error *err);
void lf_lora_free(lf_lora *lora); /* zeroed is fine */

/* Writes W of every adapted matrix into base. */
lf_status lf_lora_apply(const lf_lora *lora, lf_params *base, lf_error *err);

/* adapter_grad (adapters.n) from grad (base->n), which is zeroed for the next step. */
lf_status lf_lora_project_gradient(const lf_lora *lora, const lf_params *base, float *adapter_grad,
                                   float *grad, lf_error *err);

#endif
