/* How a distillation is judged, and what follows from it: which weights are kept, and whether the run goes
 * on. */
#include "train/distill.h"
#include "train/distill_measure.h"

#include <math.h>
#include <stdlib.h>
#include <unistd.h>

/* So many judgements in a row far beyond the bounds are a collapse: training often finds back from one. */
enum { FAR_LIMIT = 2 };

/* What one judgement finds. Numbers that decisions compare are floats, as they are remembered. */
typedef struct finding {
    double loss, consistency, ar;
    double speed, repeated; /* tokens per pass, share of tokens; 0: not measured */
    float score;            /* more is better, */
    float noise;            /* and known up to this */
    bool within;            /* the bounds */
    bool far_beyond;
} finding;

/* The loss over held-out trajectories, valid_tokens rows of them. */
static lf_status lose(finding *f, const lf_distill *d, lf_net *net, lf_error *err)
{
    lf_distill_losses sums = {0};
    int64_t i = 0, n_rows = 0;
    do {
        double loss;
        lf_distill_data_fill(&d->data, &d->data.held_out, &i, d->packs);
        const lf_status status = lf_distill_run_pack(&loss, &sums, d, d->packs, net, NULL, 1.0, 1.0, err);
        if (status != LF_OK) return status;
        n_rows += d->packs->n_seen;
    } while (i < d->data.held_out.n && n_rows < d->p.train.valid_tokens);
    f->consistency = lf_distill_mean_pairs(&sums);
    f->ar = lf_distill_mean_targets(&sums);
    f->loss = lf_distill_loss(&d->p, &sums);
    return LF_OK;
}

static lf_status measure(finding *f, const lf_distill *d, lf_loop *loop, lf_error *err)
{
    lf_status status = LF_OK;
    char path[LF_TRAIN_PATH_MAX];
    const int64_t n_held_out = d->data.held_out.n;
    const int n = n_held_out < d->p.measure_prompts ? (int)n_held_out : d->p.measure_prompts;
    lf_trajectory *list = calloc((size_t)n, sizeof *list);
    if (!list) return lf_fail_memory(err, "prompts", (size_t)n * sizeof *list);
    for (int i = 0; i < n; i++) list[i] = lf_distill_data_get(&d->data, d->data.held_out.items[i]);
    const lf_distill_measure m = {.model_path = lf_train_folder_file(path, &loop->folder, "sample.gguf"),
                                  .list = list,
                                  .n = n,
                                  .n_ctx = loop->p.context,
                                  .n_threads = loop->p.n_threads};
    lf_distill_measured found;
    LF_TRY(lf_loop_write_model(loop, path, err));
    LF_TRY(lf_distill_measure_run(&found, &m, err));
    if (found.n_passes > 0) f->speed = (double)found.n_tokens / (double)found.n_passes;
    f->noise = (float)found.noise;
    if (found.n_tokens > 0) f->repeated = (double)found.n_repeated / (double)found.n_tokens;
done:
    (void)unlink(path);
    free(list);
    return status;
}

/* Holds a finding against the start's. A draft that follows a teacher is meant to leave its own outputs
 * behind, and is as good as its divergence is small. */
static void compare(finding *f, const lf_distill *d)
{
    const lf_distill_train_params *p = &d->p;
    const bool follows = p->recipe == LF_DISTILL_RKL, is_free = follows || d->memory[LF_JUDGED_STEP] < 0.0f;
    const double loss_rise = is_free ? 0.0 : f->ar - (double)d->memory[LF_JUDGED_START_AR];
    const double repeat_rise = is_free ? 0.0 : f->repeated - (double)d->memory[LF_JUDGED_START_REPEATED];
    const bool by_loss = follows || p->measure_prompts == 0;
    f->score = (float)(by_loss ? -f->loss : f->speed);
    if (by_loss) f->noise = 0.0f;
    f->within = loss_rise <= p->loss_bound && repeat_rise <= p->repeat_bound;
    f->far_beyond = loss_rise > p->collapse_factor * p->loss_bound ||
                    repeat_rise > p->collapse_factor * p->repeat_bound;
}

bool lf_distill_keeps(float *memory, float score, float noise, float loss)
{
    float *m = memory;
    const bool is_first = m[LF_JUDGED_STEP] < 0.0f;
    if (is_first || score > m[LF_JUDGED_TOP_SCORE]) m[LF_JUDGED_TOP_SCORE] = score;
    const float least = m[LF_JUDGED_TOP_SCORE] - noise;
    const bool is_best = is_first || (score >= least &&
                                      (m[LF_JUDGED_BEST_SCORE] < least || loss < m[LF_JUDGED_BEST_LOSS]));
    if (is_best) {
        m[LF_JUDGED_BEST_SCORE] = score;
        m[LF_JUDGED_BEST_LOSS] = loss;
    }
    return is_best;
}

/* Whether these weights are the best so far. */
static bool remember(lf_distill *d, const finding *f, int64_t step)
{
    float *m = d->memory;
    const bool is_first = m[LF_JUDGED_STEP] < 0.0f;
    const bool is_best = (is_first || f->within) && lf_distill_keeps(m, f->score, f->noise, (float)f->loss);
    if (is_first) {
        m[LF_JUDGED_START_AR] = (float)f->ar;
        m[LF_JUDGED_START_REPEATED] = (float)f->repeated;
        m[LF_JUDGED_START_SPEED] = (float)f->speed;
    }
    if (is_best) {
        m[LF_JUDGED_BEST_STEP] = (float)step;
        m[LF_JUDGED_BEST_SPEED] = (float)f->speed;
        m[LF_JUDGED_BEST_AR] = (float)f->ar;
    }
    m[LF_JUDGED_STEP] = (float)step;
    m[LF_JUDGED_N_FAR] = f->far_beyond ? m[LF_JUDGED_N_FAR] + 1.0f : 0.0f;
    return is_best;
}

bool lf_distill_has_collapsed(const lf_distill *d)
{
    return d->memory[LF_JUDGED_N_FAR] >= (float)FAR_LIMIT;
}

static lf_status report(const lf_distill *d, const finding *f, bool is_best, lf_loop *loop, lf_error *err)
{
    lf_train_event event = {.kind = LF_TRAIN_VALIDATION,
                            .loss = f->loss,
                            .consistency_loss = f->consistency,
                            .ar_loss = f->ar,
                            .tokens_per_pass = f->speed,
                            .repeated = f->repeated};
    const lf_status status = lf_train_folder_log(
        &loop->folder,
        json_pack("{s:I, s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:b, s:b}", "step",
                  (json_int_t)loop->state.n_steps, "tokens", (json_int_t)loop->state.n_tokens, "valid_loss",
                  f->loss, "valid_consistency", f->consistency, "valid_ar", f->ar, "tokens_per_pass",
                  f->speed, "noise", (double)f->noise, "repeated", f->repeated, "best", is_best, "collapsed",
                  lf_distill_has_collapsed(d)),
        err);
    if (status == LF_OK) lf_loop_tell(loop, &event);
    return status;
}

lf_status lf_distill_judge(void *self, double *loss, lf_loop *loop, lf_error *err)
{
    lf_status status = LF_OK;
    lf_distill *d = self;
    finding f = {0};
    LF_TRY(lose(&f, d, loop->net, err));
    if (!isfinite(f.loss) || !isfinite(f.ar)) {
        status = lf_loop_fail_diverged(loop, loop->state.n_steps, "a validation loss", f.loss, err);
        goto done;
    }
    if (d->p.measure_prompts > 0) LF_TRY(measure(&f, d, loop, err));
    compare(&f, d);
    *loss = f.loss;
    const bool is_best = remember(d, &f, loop->state.n_steps);
    loop->ends = lf_distill_has_collapsed(d);
    LF_TRY(report(d, &f, is_best, loop, err));
    if (is_best) LF_TRY(lf_loop_export(loop, err));
done:
    return status;
}

int64_t lf_distill_judged_step(const void *self)
{
    const float step = ((const lf_distill *)self)->memory[LF_JUDGED_STEP];
    return step >= 0.0f && step <= 0x1p24f ? (int64_t)step : -1; /* what a file says may be anything */
}
