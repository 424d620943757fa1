#include "train/train_optim.h"

#include "base/mem.h"

#include <stdlib.h>

static lf_status open_adapters(lf_train_optim *o, const lf_train_params *p, lf_error *err)
{
    lf_status status = lf_lora_create(&o->lora, o->params, p->lora_rank, (float)p->lora_alpha,
                                      lf_lora_all_matrices(), p->seed, err);
    if (status != LF_OK) return status;
    o->trained = &o->lora.adapters;
    o->adapter_grad = lf_calloc_aligned(o->trained->n * sizeof *o->adapter_grad);
    return o->adapter_grad ? LF_OK
                           : lf_fail_memory(err, "gradients", o->trained->n * sizeof *o->adapter_grad);
}

lf_status lf_train_optim_create(lf_train_optim *out, lf_params *params, const lf_train_params *p,
                                lf_error *err)
{
    lf_status status = LF_OK;
    *out = (lf_train_optim){.params = params, .trained = params};
    if (p->lora_rank > 0) LF_TRY(open_adapters(out, p, err));
    LF_TRY(lf_adamw_create(&out->adam, out->trained->n, err));
    out->grad = lf_calloc_aligned(params->n * sizeof *out->grad);
    if (!out->grad) status = lf_fail_memory(err, "gradients", params->n * sizeof *out->grad);
done:
    if (status != LF_OK) lf_train_optim_free(out);
    return status;
}

void lf_train_optim_free(lf_train_optim *o)
{
    free(o->grad);
    free(o->adapter_grad);
    lf_adamw_free(&o->adam);
    lf_lora_free(&o->lora);
    *o = (lf_train_optim){0};
}

lf_status lf_train_optim_step(lf_train_optim *o, const lf_adamw_params *p, bool *finite, double *norm,
                              lf_error *err)
{
    lf_status status = LF_OK;
    float *grad = o->grad;
    if (o->adapter_grad) {
        grad = o->adapter_grad;
        LF_TRY(lf_lora_project_gradient(&o->lora, o->params, grad, o->grad, err));
    }
    *finite = lf_adamw_step(&o->adam, o->trained, grad, p, norm);
    if (*finite && o->adapter_grad) status = lf_lora_apply(&o->lora, o->params, err);
done:
    return status;
}

void lf_train_optim_buffers(const lf_train_optim *o, lf_checkpoint_buffer buffers[LF_TRAIN_OPTIM_BUFFERS])
{
    buffers[0] = (lf_checkpoint_buffer){o->trained->data, o->trained->n};
    buffers[1] = (lf_checkpoint_buffer){o->adam.m, o->adam.n};
    buffers[2] = (lf_checkpoint_buffer){o->adam.v, o->adam.n};
}

lf_status lf_train_optim_restore(lf_train_optim *o, int64_t n_steps, lf_error *err)
{
    o->adam.step = n_steps;
    return o->adapter_grad ? lf_lora_apply(&o->lora, o->params, err) : LF_OK;
}
