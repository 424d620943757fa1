#include "train/distill.h"

#include "train/consistency.h"
#include "train/train.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>

/* ---- losses ---- */

lf_status lf_distill_run_pack(double *loss, lf_distill_losses *sums, const lf_distill *d, const lf_pack *pack,
                              lf_net *net, float *grad, double pair_scale, double target_scale, lf_error *err)
{
    lf_status status = LF_OK;
    const lf_train_rows rows = lf_pack_rows(pack);
    const bool follows = d->teacher != NULL;
    lf_consistency c = {.n_pairs = pack->n_pairs,
                        .target = pack->target,
                        .pair_scale = pair_scale,
                        .target_scale = target_scale};
    lf_reverse_kl r = {.teacher = d->teacher, .target = pack->target, .scale = pair_scale, .err = err};
    lf_loss_fn *fn = follows ? lf_reverse_kl_loss : lf_consistency_loss;
    void *cookie = follows ? (void *)&r : (void *)&c;
    if (follows) LF_TRY(lf_net_forward(d->teacher, &rows, err));
    LF_TRY(grad ? lf_net_train(net, &rows, fn, cookie, grad, loss, err)
                : lf_net_evaluate(net, &rows, fn, cookie, loss, err));
    status = r.status;
    sums->pair_sum += follows ? r.kl_sum : c.pair_sum;
    sums->target_sum += follows ? r.target_sum : c.target_sum;
    sums->n_pairs += follows ? pack->n_targets : pack->n_pairs;
    sums->n_targets += pack->n_targets;
done:
    return status;
}

static double mean(double sum, int64_t n)
{
    return n > 0 ? sum / (double)n : 0.0;
}

double lf_distill_mean_pairs(const lf_distill_losses *l)
{
    return mean(l->pair_sum, l->n_pairs);
}

double lf_distill_mean_targets(const lf_distill_losses *l)
{
    return mean(l->target_sum, l->n_targets);
}

/* The weight of the autoregressive loss: without consistency there is nothing to weigh it against. */
static double ar_weight(const lf_distill_train_params *p)
{
    return p->recipe == LF_DISTILL_RKL ? 0.0 : p->recipe == LF_DISTILL_AR ? 1.0 : p->weight_ar;
}

double lf_distill_loss(const lf_distill_train_params *p, const lf_distill_losses *l)
{
    return lf_distill_mean_pairs(l) + ar_weight(p) * lf_distill_mean_targets(l);
}

/* ---- the task ---- */

static int64_t draw(void *self, lf_data_cursor *cursor)
{
    lf_distill *d = self;
    return lf_distill_data_draw(&d->data, cursor, d->p.train.seed, d->packs, d->n_packs);
}

static lf_status learn(void *self, double *loss, float *grad, lf_net *net, lf_error *err)
{
    lf_distill *d = self;
    int64_t n_pairs = 0, n_targets = 0;
    for (int i = 0; i < d->n_packs; i++) {
        n_pairs += d->teacher ? d->packs[i].n_targets : d->packs[i].n_pairs;
        n_targets += d->packs[i].n_targets;
    }
    d->losses = (lf_distill_losses){0};
    *loss = 0.0;
    for (int i = 0; i < d->n_packs; i++) {
        double sum;
        const lf_status status = lf_distill_run_pack(&sum, &d->losses, d, &d->packs[i], net, grad,
                                                     mean(1.0, n_pairs),
                                                     ar_weight(&d->p) * mean(1.0, n_targets), err);
        if (status != LF_OK) return status;
        *loss += sum;
    }
    return LF_OK;
}

static void describe(void *self, lf_train_event *event, json_t *line)
{
    const lf_distill *d = self;
    event->consistency_loss = lf_distill_mean_pairs(&d->losses);
    event->ar_loss = lf_distill_mean_targets(&d->losses);
    (void)json_object_set_new(line, "consistency", json_real(event->consistency_loss));
    (void)json_object_set_new(line, "ar", json_real(event->ar_loss));
}

/* ---- beginning and end ---- */

static lf_status open_packs(lf_distill *d, lf_error *err)
{
    const lf_distill_train_params *p = &d->p;
    const lf_pack_options options = {.recipe = p->recipe,
                                     .local = p->local,
                                     .window = p->window,
                                     .synthetic = p->synthetic,
                                     .train_prompt = p->train.train_prompt,
                                     .context = p->train.context};
    const int n = p->train.batch_tokens / p->train.micro_rows;
    d->packs = calloc((size_t)n, sizeof *d->packs);
    if (!d->packs) return lf_fail_memory(err, "batches", (size_t)n * sizeof *d->packs);
    for (; d->n_packs < n; d->n_packs++) {
        const lf_status status = lf_pack_create(&d->packs[d->n_packs], p->train.micro_rows, &options, err);
        if (status != LF_OK) return status;
    }
    return LF_OK;
}

/* Forward only: with `recompute` its layers share what the trained model's keep. */
static lf_status open_teacher(lf_distill *d, const lf_loop *l, lf_error *err)
{
    lf_status status = LF_OK;
    lf_train_params p = d->p.train;
    if (!d->p.teacher_path) return LF_OK;
    p.model_path = d->p.teacher_path;
    p.rope_base = 0.0;
    LF_TRY(lf_train_model_open_tokenizer(&d->teacher_model, &p, err));
    LF_TRY(lf_train_model_open_weights(&d->teacher_model, &p, err));
    const lf_params *params = &d->teacher_model.params;
    const int n_vocab = l->model.params.config.n_vocab;
    const uint64_t hash = lf_data_token_info(l->model.tokenizer).vocab_hash;
    if (params->config.n_vocab != n_vocab ||
        lf_data_token_info(d->teacher_model.tokenizer).vocab_hash != hash) {
        status = lf_fail(
            err, LF_EINVAL,
            "%s: found a teacher with another tokenizer (%d rows of logits), expected that of %s "
            "(%d)",
            d->p.teacher_path, params->config.n_vocab, l->p.model_path, n_vocab);
        goto done;
    }
    const lf_net_options options = {
        .rows_max = l->p.micro_rows, .bf16 = !l->p.f32, .recompute = true, .n_threads = l->p.n_threads};
    status = lf_net_create(&d->teacher, params, &options, err);
done:
    return status;
}

static const char *recipe_name(lf_distill_recipe recipe)
{
    static const char *const names[] = {[LF_DISTILL_CLLM] = "cllm",
                                        [LF_DISTILL_PROGRESSIVE] = "progressive",
                                        [LF_DISTILL_AR] = "ar",
                                        [LF_DISTILL_RKL] = "rkl"};
    return names[recipe];
}

/* What a checkpoint must agree with; NULL without memory. */
static json_t *make_identity(const lf_distill *d, const lf_loop *l)
{
    const lf_distill_train_params *p = &d->p;
    json_t *identity = lf_train_identity(&l->p, &(lf_train_files){0}, &l->model);
    json_t *own = json_pack("{s:o, s:s, s:f, s:b, s:i, s:f, s:b, s:o}", "trajectories",
                            json_sprintf("%016llx", (unsigned long long)d->data.hash), "recipe",
                            recipe_name(p->recipe), "weight of the autoregressive loss", p->weight_ar,
                            "local", p->local, "window", p->window, "synthetic", p->synthetic,
                            "prompts count", p->train.train_prompt, "teacher",
                            json_sprintf("%016llx", (unsigned long long)d->teacher_model.start_hash));
    if (!identity || !own || json_object_update(identity, own) != 0) {
        json_decref(identity);
        identity = NULL;
    }
    json_decref(own);
    return identity;
}

/* Whether what was read can be this run's memory; the file may be anybody's. */
static lf_status check_memory(const lf_distill *d, const lf_loop *l, lf_error *err)
{
    bool ok = d->memory[LF_JUDGED_STEP] >= -1.0f && d->memory[LF_JUDGED_BEST_STEP] >= 0.0f;
    for (int i = 0; i < LF_JUDGED_N; i++) ok = ok && isfinite(d->memory[i]);
    ok = ok && d->memory[LF_JUDGED_STEP] <= (float)l->state.n_steps &&
         d->memory[LF_JUDGED_BEST_STEP] <= (float)l->state.n_steps;
    return ok ? LF_OK
              : lf_fail(err, LF_EFORMAT,
                        "%s/checkpoint: found judgements of no run of %lld steps, expected this one's",
                        l->p.out_dir, (long long)l->state.n_steps);
}

static lf_status run(lf_distill *d, lf_loop *l, lf_error *err)
{
    lf_status status = LF_OK;
    LF_TRY(lf_loop_enter(l, err));
    LF_TRY(open_packs(d, err));
    LF_TRY(lf_distill_data_open(&d->data, &d->p, l->model.tokenizer, d->packs, err));
    LF_TRY(lf_loop_open(l, err));
    LF_TRY(open_teacher(d, l, err));
    const bool is_judged = d->data.held_out.n > 0;
    const lf_loop_task task = {.self = d,
                               .n_draws = d->data.train.n,
                               .draw = draw,
                               .learn = learn,
                               .describe = describe,
                               .validate = is_judged ? lf_distill_judge : NULL,
                               .judged_step = is_judged ? lf_distill_judged_step : NULL,
                               .memory = {d->memory, LF_JUDGED_N}};
    LF_TRY(lf_loop_start(l, &task, make_identity(d, l), err));
    LF_TRY(check_memory(d, l, err));
    l->ends = lf_distill_has_collapsed(d);
    if (!l->p.export_only) LF_TRY(lf_loop_run(l, err));
    if (l->p.export_only || !is_judged) LF_TRY(lf_loop_export(l, err));
done:
    return status;
}

static void close_task(lf_distill *d)
{
    for (int i = 0; i < d->n_packs; i++) lf_pack_free(&d->packs[i]);
    free(d->packs);
    lf_net_free(d->teacher);
    lf_train_model_close(&d->teacher_model);
    lf_distill_data_close(&d->data);
}

static void fill_result(const lf_distill *d, const lf_loop *l)
{
    lf_distill_train_result *r = d->p.result;
    const float *m = d->memory;
    if (!r) return;
    *r = (lf_distill_train_result){.size = r->size,
                                   .step = l->state.n_steps,
                                   .n_tokens = l->state.n_tokens,
                                   .collapsed = lf_distill_has_collapsed(d),
                                   .best_step = (int64_t)m[LF_JUDGED_BEST_STEP],
                                   .start_tokens_per_pass = (double)m[LF_JUDGED_START_SPEED],
                                   .tokens_per_pass = (double)m[LF_JUDGED_BEST_SPEED],
                                   .start_ar_loss = (double)m[LF_JUDGED_START_AR],
                                   .ar_loss = (double)m[LF_JUDGED_BEST_AR]};
}

lf_status lf_distill_train(const lf_distill_train_params *params, lf_error *err)
{
    lf_distill d = {.memory[LF_JUDGED_STEP] = -1.0f};
    lf_loop loop;
    lf_status status = lf_distill_params_check(&d.p, params, err);
    if (status == LF_OK) status = lf_loop_init(&loop, &d.p.train, err);
    if (status != LF_OK) return status;
    const int threads_before = omp_get_max_threads();
    omp_set_num_threads(loop.p.n_threads); /* of this thread's teams */
    status = run(&d, &loop, err);
    omp_set_num_threads(threads_before);
    fill_result(&d, &loop);
    close_task(&d);
    lf_loop_close(&loop);
    return status;
}
