/* Parameters of lf_distill_train: defaults and checks. */
#include "train/distill.h"

enum { MEASURE_MAX = 4096, WINDOW_MAX = 1024, STEPS_MAX = 1 << 24 }; /* steps that a float holds */

void lf_distill_train_params_init(lf_distill_train_params *params)
{
    *params = (lf_distill_train_params){.size = sizeof *params,
                                        .weight_ar = 1.0,
                                        .window = 16,
                                        .measure_prompts = 16,
                                        .loss_bound = 0.1,
                                        .repeat_bound = 0.1,
                                        .collapse_factor = 5.0};
    lf_train_params_init(&params->train);
    params->train.lr = 1e-4;
    params->train.weight_decay = 0.0;
    params->train.warmup_steps = 50;
    params->train.valid_every = 100;
}

static lf_status check_files(const lf_distill_train_params *p, lf_error *err)
{
    if (p->n_trajectories < 1 || !p->trajectories || p->n_valid < 0 || (p->n_valid > 0 && !p->valid))
        return lf_fail(err, LF_EINVAL, "distilling: found no trajectories, expected one file or more");
    if (p->n_valid > 0 && p->train.hold_out > 0.0)
        return lf_fail(err, LF_EINVAL,
                       "distilling: found both validation files and hold_out, expected one of them");
    if (!p->train.model_path)
        return lf_fail(err, LF_EINVAL, "distilling: model_path is NULL, expected the model to go on from");
    if ((p->recipe == LF_DISTILL_RKL) != (p->teacher_path != NULL))
        return lf_fail(err, LF_EINVAL,
                       "distilling: found %s teacher, expected one with the recipe rkl and with no other",
                       p->teacher_path ? "a" : "no");
    return LF_OK;
}

static lf_status check_numbers(const lf_distill_train_params *p, lf_error *err)
{
    const struct {
        const char *name;
        double value, min, max;
    } ranges[] = {
        {"recipe", p->recipe, LF_DISTILL_CLLM, LF_DISTILL_RKL},
        {"weight_ar", p->weight_ar, 0, 1e6},
        {"window", p->window, 2, WINDOW_MAX},
        {"synthetic", p->synthetic, 0, 1},
        {"measure_prompts", p->measure_prompts, 0, MEASURE_MAX},
        {"loss_bound", p->loss_bound, 0, 1e6},
        {"repeat_bound", p->repeat_bound, 0, 1},
        {"collapse_factor", p->collapse_factor, 1, 1e6},
    };
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++)
        if (!(ranges[i].value >= ranges[i].min && ranges[i].value <= ranges[i].max))
            return lf_fail(err, LF_EINVAL, "distilling: %s: found %g, expected %g to %g", ranges[i].name,
                           ranges[i].value, ranges[i].min, ranges[i].max);
    if (p->local && p->recipe != LF_DISTILL_CLLM)
        return lf_fail(err, LF_EINVAL, "distilling: found local with another recipe, expected cllm");
    return LF_OK;
}

lf_status lf_distill_params_check(lf_distill_train_params *out, const lf_distill_train_params *params,
                                  lf_error *err)
{
    lf_status status = LF_OK;
    if (params->size != sizeof *params)
        return lf_fail(err, LF_EINVAL,
                       "distilling parameters: found size %zu, expected %zu (lf_distill_train_params_init "
                       "sets it)",
                       params->size, sizeof *params);
    if (params->result && params->result->size != sizeof *params->result)
        return lf_fail(err, LF_EINVAL, "distilling result: found size %zu, expected %zu",
                       params->result->size, sizeof *params->result);
    *out = *params;
    LF_TRY(check_files(params, err));
    LF_TRY(check_numbers(params, err));
    out->train.n_valid = 0; /* validation is on trajectories */
    if (out->train.n_data > 0) {
        LF_TRY(lf_train_inputs_check(&out->train, err));
        if (out->recipe == LF_DISTILL_RKL) {
            status = lf_fail(err, LF_EINVAL, "distilling: found data with recipe rkl, which has no labels");
            goto done;
        }
    }
    out->train.prepare_only = false;
    out->train.result = NULL;
    out->train.tokenizer_path = NULL;
    LF_TRY(lf_train_params_check(&out->train, &out->train, err));
    if (out->train.n_steps > STEPS_MAX)
        status = lf_fail(err, LF_EINVAL, "distilling: n_steps: found %lld, expected at most %d",
                         (long long)out->train.n_steps, STEPS_MAX);
done:
    return status;
}
