/* What a step changes: all weights, or adapters of rank lora_rank around them (lora.h), with AdamW's moments. */
#ifndef LF_TRAIN_TRAIN_OPTIM_H
#define LF_TRAIN_TRAIN_OPTIM_H

#include "train/adamw.h"
#include "train/checkpoint.h"
#include "train/lora.h"

enum { LF_TRAIN_OPTIM_BUFFERS = 3 };

typedef struct lf_train_optim {
    lf_params *params;  /* what the net reads; borrowed */
    lf_params *trained; /* params, or the adapters */
    lf_lora lora;       /* zeroed without adapters */
    lf_adamw adam;
    float *grad;         /* (params->n) what the net adds to */
    float *adapter_grad; /* (adapters.n), or NULL */
} lf_train_optim;

/* The struct must not move afterwards. */
lf_status lf_train_optim_create(lf_train_optim *out, lf_params *params, const lf_train_params *p,
                                lf_error *err);
void lf_train_optim_free(lf_train_optim *o); /* zeroed is fine */

/* One step with the gradient that is in grad, which is zeroed; the net must be told. *finite is false,
 * with nothing changed, when the gradient's norm, *norm, is not finite. */
lf_status lf_train_optim_step(lf_train_optim *o, const lf_adamw_params *p, bool *finite, double *norm,
                              lf_error *err);

/* What a checkpoint keeps; after it was filled from one, params follow by lf_train_optim_restore. */
void lf_train_optim_buffers(const lf_train_optim *o, lf_checkpoint_buffer buffers[LF_TRAIN_OPTIM_BUFFERS]);
lf_status lf_train_optim_restore(lf_train_optim *o, int64_t n_steps, lf_error *err);

#endif
