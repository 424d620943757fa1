#include "train/distill.h"

#include "train/consistency.h"

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

/* The ground truth of a step begins at a draw that follows from the step's number alone, so it needs no
 * cursor of its own: about as many draws fill a batch as it has contexts. */
static void draw_labels(lf_distill *d)
{
    const int64_t n_draws = lf_data_epoch_draws(d->labels);
    const int64_t at = d->step * (d->p.train.batch_tokens / d->p.train.context);
    lf_data_cursor cursor = {.epoch = at / n_draws, .i_draw = at % n_draws};
    lf_data_fill(d->labels, &cursor, &d->label_batch, false);
}

static int64_t draw(void *self, const lf_checkpoint_state *state, lf_data_cursor *cursor)
{
    lf_distill *d = self;
    d->step = state->n_steps;
    if (d->labels) draw_labels(d);
    return lf_distill_data_draw(&d->data, cursor, d->p.train.seed, d->packs, d->n_packs);
}

/* The autoregressive loss on the ground truth, in place of that on the outputs. */
static lf_status learn_labels(double *loss, lf_distill *d, float *grad, lf_net *net, lf_error *err)
{
    lf_status status = LF_OK;
    const int64_t n_targets = lf_batch_n_targets(&d->label_batch);
    LF_TRY(lf_train_batch(loss, &d->label_batch, ar_weight(&d->p) / (double)n_targets, net, grad, err));
    d->losses.target_sum = ar_weight(&d->p) > 0.0 ? *loss * (double)n_targets / ar_weight(&d->p) : 0.0;
    d->losses.n_targets = n_targets;
done:
    return status;
}

static lf_status learn(void *self, double *loss, float *grad, lf_net *net, lf_error *err)
{
    lf_status status = LF_OK;
    lf_distill *d = self;
    int64_t n_pairs = 0, n_targets = 0;
    double sum;
    for (int i = 0; i < d->n_packs; i++) {
        n_pairs += d->teacher ? d->packs[i].n_targets : d->packs[i].n_pairs;
        n_targets += d->packs[i].n_targets;
    }
    const double target_scale = d->labels ? 0.0 : ar_weight(&d->p) * mean(1.0, n_targets);
    d->losses = (lf_distill_losses){0};
    *loss = 0.0;
    for (int i = 0; i < d->n_packs; i++) {
        LF_TRY(lf_distill_run_pack(&sum, &d->losses, d, &d->packs[i], net, grad, mean(1.0, n_pairs),
                                   target_scale, err));
        *loss += sum;
    }
    if (d->labels) {
        LF_TRY(learn_labels(&sum, d, grad, net, err));
        *loss += sum;
    }
done:
    return status;
}

static bool describe(void *self, lf_train_event *event, json_t *line)
{
    const lf_distill *d = self;
    event->consistency_loss = lf_distill_mean_pairs(&d->losses);
    event->ar_loss = lf_distill_mean_targets(&d->losses);
    return json_object_set_new(line, "consistency", json_real(event->consistency_loss)) == 0 &&
           json_object_set_new(line, "ar", json_real(event->ar_loss)) == 0;
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

static lf_status open_labels(lf_distill *d, const lf_loop *l, lf_error *err)
{
    const lf_train_params *p = &l->p;
    if (p->n_data == 0) return LF_OK;
    lf_status status = lf_train_files_open(&d->label_files, p, &l->folder, l->model.tokenizer, err);
    const lf_data_params params = {.context = p->context, .seed = p->seed};
    if (status == LF_OK) status = lf_train_data_create(&d->labels, &d->label_files, p, &params, err);
    if (status == LF_OK)
        status = lf_batch_create(&d->label_batch, p->batch_tokens / p->micro_rows, p->micro_rows, err);
    return status;
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
    json_t *identity = lf_train_identity(&l->p, &d->label_files, &l->model);
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
    LF_TRY(open_labels(d, l, err));
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
    lf_batch_free(&d->label_batch);
    lf_data_free(d->labels);
    lf_train_files_close(&d->label_files);
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
