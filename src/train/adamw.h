/* AdamW (arXiv 1711.05101) with global-norm clipping, over the one buffer of all weights, or of all
 * adapters: both are lf_params. */
#ifndef LF_TRAIN_ADAMW_H
#define LF_TRAIN_ADAMW_H

#include "train/params.h"

typedef struct lf_adamw {
    float *m, *v; /* (n) first and second moments */
    size_t n;
    int64_t step;       /* steps taken */
    double *chunk_sums; /* scratch */
} lf_adamw;

typedef struct lf_adamw_params {
    float lr, beta1, beta2, eps;
    float weight_decay; /* of matrices; norms and biases have none */
    float clip;         /* largest global norm of the gradient; 0: no clipping */
} lf_adamw_params;

/* n as of the params that will be stepped. LF_ENOMEM. */
lf_status lf_adamw_create(lf_adamw *out, size_t n, lf_error *err);
void lf_adamw_free(lf_adamw *a);

/* One step: clips grad, updates moments and params, and zeroes grad. *norm is the gradient's norm before
 * clipping. Returns false, with nothing changed, when the norm is not finite. Runs on the calling thread's
 * OpenMP team; the same bits whatever its size. */
bool lf_adamw_step(lf_adamw *a, lf_params *params, float *grad, const lf_adamw_params *p, double *norm);

#endif
