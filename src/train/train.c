#include "train/train.h"

#include "base/clock.h"
#include "base/mem.h"
#include "train/train_sample.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A run has diverged when its running mean loss is so far above its best for so long. */
static const double FAR_NATS = 1.0;
static const double MEAN_KEEP = 0.95, SPEED_KEEP = 0.9;
enum { FAR_STEPS = 100 };

typedef struct run {
    lf_train_params p;
    lf_train_folder folder;
    lf_train_model model;
    lf_train_files files;
    lf_data *data, *valid; /* valid is NULL without validation data */
    lf_batch batch;
    lf_net *net;
    lf_train_optim optim;
    json_t *identity;
    lf_checkpoint_state state; /* after the last step taken */
    int64_t checkpoint_ns;     /* when the last one was written */
    double step_seconds;       /* running mean; 0: no step yet */
    double loss, valid_loss;
    int64_t valid_step; /* of the last validation, -1: none */
    bool stops;         /* on_event said so */
} run;

static void tell(run *r, lf_train_event *event)
{
    event->step = r->state.n_steps;
    event->n_steps = r->p.n_steps;
    event->n_tokens = r->state.n_tokens;
    if (lf_train_tell(&r->p, event, NULL) != LF_OK) r->stops = true;
}

static lf_status fail_diverged(const run *r, int64_t i_step, const char *what, double found, lf_error *err)
{
    return lf_fail(err, LF_EDIVERGED, "%s: step %lld: found %s of %g; the last good checkpoint is kept",
                   r->p.out_dir, (long long)i_step, what, found);
}

/* ---- checkpoints ---- */

static lf_status write_checkpoint(run *r, lf_error *err)
{
    lf_status status = LF_OK;
    char path[LF_TRAIN_PATH_MAX];
    lf_checkpoint_buffer buffers[LF_TRAIN_OPTIM_BUFFERS];
    lf_train_optim_buffers(&r->optim, buffers);
    LF_TRY(lf_train_folder_sync_log(&r->folder, &r->state.log_bytes, err));
    LF_TRY(lf_checkpoint_write(lf_train_folder_file(path, &r->folder, "checkpoint"), &r->state, r->identity,
                               buffers, LF_TRAIN_OPTIM_BUFFERS, err));
    r->checkpoint_ns = lf_clock_ns();
    tell(r, &(lf_train_event){.kind = LF_TRAIN_CHECKPOINT, .path = path});
done:
    return status;
}

static bool are_finite(const float *x, size_t n)
{
    size_t i = 0;
    while (i < n && isfinite(x[i])) i++;
    return i == n;
}

/* Whether to write one inside a step, of the weights before it: once it is due, and when the step's loss and gradient show that
 * these weights are good. */
static bool wants_checkpoint(const run *r)
{
    const bool is_due = (double)(lf_clock_ns() - r->checkpoint_ns) >= r->p.checkpoint_minutes * 60e9;
    const lf_checkpoint_state *s = &r->state;
    const bool is_near = s->n_steps == 0 || (s->n_far == 0 && r->loss < s->loss_best + FAR_NATS);
    return is_due && is_near && are_finite(r->optim.grad, r->model.params.n);
}

/* Whether a state that was read can be one of this run; its file may be anybody's. */
static lf_status check_state(const run *r, const char *path, lf_error *err)
{
    const lf_checkpoint_state *s = &r->state;
    const int64_t n_draws = lf_data_epoch_draws(r->data);
    const bool in_range = s->cursor.epoch >= 0 && s->cursor.epoch < INT64_MAX / 2 / n_draws &&
                          s->cursor.i_draw >= 0 && s->cursor.i_draw < n_draws && s->cursor.i_piece >= 0;
    if (in_range && s->n_steps >= 0 && s->n_tokens >= 0 && s->log_bytes >= 0) return LF_OK;
    return lf_fail(err, LF_EFORMAT,
                   "%s: checkpoint: found step %lld at draw %lld of epoch %lld, expected one of %lld", path,
                   (long long)s->n_steps, (long long)s->cursor.i_draw, (long long)s->cursor.epoch,
                   (long long)n_draws);
}

static lf_status read_checkpoint(run *r, lf_error *err)
{
    lf_status status = LF_OK;
    char path[LF_TRAIN_PATH_MAX];
    lf_checkpoint_buffer buffers[LF_TRAIN_OPTIM_BUFFERS];
    lf_train_optim_buffers(&r->optim, buffers);
    LF_TRY(lf_checkpoint_read(&r->state, buffers, LF_TRAIN_OPTIM_BUFFERS, r->identity,
                              lf_train_folder_file(path, &r->folder, "checkpoint"), err));
    LF_TRY(check_state(r, path, err));
    status = lf_train_optim_restore(&r->optim, r->state.n_steps, err);
    lf_net_params_changed(r->net);
done:
    return status;
}

/* A new run must not bury an old one. */
static lf_status check_no_checkpoint(const run *r, lf_error *err)
{
    char path[LF_TRAIN_PATH_MAX];
    if (access(lf_train_folder_file(path, &r->folder, "checkpoint"), F_OK) != 0) return LF_OK;
    return lf_fail(err, LF_EINVAL,
                   "%s: found the checkpoint of a run here, expected none: resume it, or use another folder",
                   path);
}

/* ---- beginning ---- */

static lf_status open_data(run *r, lf_error *err)
{
    lf_status status = LF_OK;
    const lf_train_params *p = &r->p;
    lf_data_source *sources = calloc((size_t)r->files.n, sizeof *sources);
    if (!sources) return lf_fail_memory(err, "the inputs", (size_t)r->files.n * sizeof *sources);
    for (int i = 0; i < r->files.n; i++)
        sources[i] = (lf_data_source){&r->files.list[i], i < p->n_data ? p->data[i].weight : 1.0};
    lf_data_params params = {.context = p->context, .seed = p->seed, .hold_out = p->hold_out};
    params.part = p->hold_out > 0.0 ? LF_DATA_TRAIN : LF_DATA_ALL;
    LF_TRY(lf_data_create(&r->data, sources, p->n_data, &params, err));
    params.seed = 0; /* every run validates on the same */
    if (p->n_valid > 0) {
        LF_TRY(lf_data_create(&r->valid, sources + p->n_data, p->n_valid, &params, err));
    } else if (p->hold_out > 0.0) {
        params.part = LF_DATA_HELD_OUT;
        for (int i = 0; i < p->n_data; i++) sources[i].weight = 1.0;
        LF_TRY(lf_data_create(&r->valid, sources, p->n_data, &params, err));
    }
    status = lf_batch_create(&r->batch, p->batch_tokens / p->micro_rows, p->micro_rows, err);
done:
    free(sources);
    return status;
}

static lf_status open_net(run *r, lf_error *err)
{
    lf_status status = LF_OK;
    const lf_params *params = &r->model.params;
    const lf_net_options options = {.rows_max = r->p.micro_rows,
                                    .bf16 = !r->p.f32,
                                    .recompute = r->p.recompute,
                                    .n_threads = r->p.n_threads};
    LF_TRY(lf_net_create(&r->net, params, &options, err));
    status = lf_train_optim_create(&r->optim, &r->model.params, &r->p, err);
done:
    return status;
}

static lf_status open_run(run *r, lf_error *err)
{
    lf_status status = LF_OK;
    LF_TRY(open_data(r, err));
    LF_TRY(lf_train_model_open_weights(&r->model, &r->p, err));
    LF_TRY(open_net(r, err));
    r->identity = lf_train_identity(&r->p, &r->files, &r->model);
    if (!r->identity) {
        status = lf_fail_memory(err, "the run's identity", 0);
        goto done;
    }
    if (r->p.resume) LF_TRY(read_checkpoint(r, err));
    LF_TRY(lf_train_folder_open_log(&r->folder, r->state.log_bytes, err));
    if (!r->p.resume) LF_TRY(lf_train_folder_log(&r->folder, json_pack("{s:O}", "run", r->identity), err));
    r->checkpoint_ns = lf_clock_ns();
done:
    return status;
}

static void close_run(run *r)
{
    json_decref(r->identity);
    lf_train_optim_free(&r->optim);
    lf_net_free(r->net);
    lf_batch_free(&r->batch);
    lf_data_free(r->valid);
    lf_data_free(r->data);
    lf_train_files_close(&r->files);
    lf_train_model_close(&r->model);
    lf_train_folder_close(&r->folder);
}

/* ---- what a run shows ---- */

static lf_status validate(run *r, lf_error *err)
{
    lf_status status = LF_OK;
    lf_train_eval e;
    lf_train_event event = {.kind = LF_TRAIN_VALIDATION};
    json_t *buckets = NULL;
    if (!r->valid || r->valid_step == r->state.n_steps) goto done;
    LF_TRY(lf_train_evaluate(&e, r->net, r->valid, &r->batch, r->p.valid_tokens, err));
    r->valid_loss = event.loss = e.loss / (double)e.n_targets;
    if (!isfinite(event.loss)) {
        status = fail_diverged(r, r->state.n_steps, "a validation loss", event.loss, err);
        goto done;
    }
    r->valid_step = r->state.n_steps;
    event.n_buckets = e.n_buckets;
    buckets = json_array();
    for (int i = 0; i < e.n_buckets; i++) {
        event.bucket_targets[i] = e.bucket_targets[i];
        event.bucket_loss[i] = e.bucket_loss[i] / (double)e.bucket_targets[i];
        if (e.bucket_targets[i] > 0)
            (void)json_array_append_new(buckets, json_pack("{s:i, s:i, s:I, s:f}", "from",
                                                           i == 0 ? 0 : 1 << i, "to", (int)((2u << i) - 1),
                                                           "tokens", (json_int_t)e.bucket_targets[i], "loss",
                                                           event.bucket_loss[i]));
    }
    LF_TRY(lf_train_folder_log(&r->folder,
                               json_pack("{s:I, s:I, s:f, s:I, s:O}", "step", (json_int_t)r->state.n_steps,
                                         "tokens", (json_int_t)r->state.n_tokens, "valid_loss", r->valid_loss,
                                         "valid_tokens", (json_int_t)e.n_targets, "buckets", buckets),
                               err));
    tell(r, &event);
done:
    json_decref(buckets);
    return status;
}

static lf_status export_model(const run *r, const char *path, lf_error *err)
{
    return lf_train_model_export(&r->model, path, r->p.out_dir, r->p.dtype, r->p.n_threads, err);
}

static lf_status sample_once(run *r, const char *model_path, float temperature, lf_error *err)
{
    lf_status status = LF_OK;
    lf_bytes text = {0};
    const lf_train_sample sample = {.model_path = model_path,
                                    .prompt = r->p.sample_prompt,
                                    .n_predict = r->p.sample_tokens,
                                    .n_threads = r->p.n_threads,
                                    .temperature = temperature,
                                    .seed = (uint64_t)r->state.n_steps};
    lf_train_event event = {.kind = LF_TRAIN_SAMPLE, .temperature = temperature};
    LF_TRY(lf_train_sample_text(&text, &sample, err));
    LF_TRY(
        lf_train_folder_log(&r->folder,
                            json_pack("{s:I, s:f, s:o}", "step", (json_int_t)r->state.n_steps, "temperature",
                                      (double)temperature, "sample", json_stringn(text.data, text.len)),
                            err));
    event.text = text.data;
    tell(r, &event);
done:
    lf_bytes_free(&text);
    return status;
}

/* Greedy, and as people sample. */
static lf_status show_samples(run *r, lf_error *err)
{
    lf_status status = LF_OK;
    char path[LF_TRAIN_PATH_MAX];
    LF_TRY(export_model(r, lf_train_folder_file(path, &r->folder, "sample.gguf"), err));
    LF_TRY(sample_once(r, path, 0.0f, err));
    LF_TRY(sample_once(r, path, 0.8f, err));
done:
    (void)unlink(path);
    return status;
}

/* ---- steps ---- */

/* *loss = the mean over the batch's targets; its gradient is added to optim.grad. */
static lf_status run_batch(run *r, double *loss, lf_error *err)
{
    const lf_batch *b = &r->batch;
    int64_t n_targets = 0;
    *loss = 0.0;
    for (int i = 0; i < b->n_micro; i++) n_targets += b->n_targets[i];
    for (int i = 0; i < b->n_micro; i++) {
        const lf_train_rows rows = lf_batch_rows(b, i);
        lf_cross_entropy ce = {.target = b->target + (size_t)i * (size_t)b->micro_rows,
                               .scale = 1.0 / (double)n_targets};
        double sum;
        if (b->n_targets[i] == 0) continue;
        const lf_status status = lf_net_train(r->net, &rows, lf_cross_entropy_loss, &ce, r->optim.grad, &sum,
                                              err);
        if (status != LF_OK) return status;
        *loss += sum;
    }
    return isfinite(*loss) ? LF_OK : fail_diverged(r, r->state.n_steps + 1, "a loss", *loss, err);
}

/* Follows the running mean of the loss. */
static lf_status watch_loss(lf_checkpoint_state *s, const run *r, lf_error *err)
{
    s->loss_mean = s->n_steps == 1 ? r->loss : MEAN_KEEP * s->loss_mean + (1.0 - MEAN_KEEP) * r->loss;
    if (s->n_steps == 1 || s->loss_mean < s->loss_best) s->loss_best = s->loss_mean;
    s->n_far = s->loss_mean > s->loss_best + FAR_NATS ? s->n_far + 1 : 0;
    if (s->n_far < FAR_STEPS) return LF_OK;
    return lf_fail(
        err, LF_EDIVERGED,
        "%s: step %lld: found a mean loss of %.3f, %d steps after it was %.3f: is the learning rate (%g) too "
        "high? The last checkpoint is kept",
        r->p.out_dir, (long long)s->n_steps, s->loss_mean, FAR_STEPS, s->loss_best, r->p.lr);
}

static lf_status log_step(run *r, double lr, double norm, double seconds, lf_error *err)
{
    const double keep = r->step_seconds > 0.0 ? SPEED_KEEP : 0.0;
    r->step_seconds = keep * r->step_seconds + (1.0 - keep) * seconds;
    lf_train_event event = {.kind = LF_TRAIN_STEP,
                            .loss = r->loss,
                            .lr = lr,
                            .grad_norm = norm,
                            .tokens_per_second = (double)r->batch.n_tokens / seconds,
                            .seconds_left = r->step_seconds * (double)(r->p.n_steps - r->state.n_steps)};
    const lf_status status = lf_train_folder_log(
        &r->folder,
        json_pack("{s:I, s:I, s:f, s:f, s:f, s:f}", "step", (json_int_t)r->state.n_steps, "tokens",
                  (json_int_t)r->state.n_tokens, "loss", r->loss, "lr", lr, "grad_norm", norm, "tokens_per_s",
                  event.tokens_per_second),
        err);
    if (status == LF_OK) tell(r, &event);
    return status;
}

static double learning_rate(const lf_train_params *p, int64_t i_step)
{
    const lf_schedule schedule = {.kind = p->schedule,
                                  .lr = p->lr,
                                  .end = p->lr_end,
                                  .n_steps = p->n_steps,
                                  .n_warmup = p->warmup_steps,
                                  .n_decay = (int64_t)llround(p->decay_share * (double)p->n_steps)};
    return lf_schedule_lr(&schedule, i_step);
}

static lf_status take_step(run *r, lf_error *err)
{
    lf_status status = LF_OK;
    const lf_train_params *p = &r->p;
    const int64_t start_ns = lf_clock_ns();
    const double lr = learning_rate(p, r->state.n_steps);
    const lf_adamw_params adam = {.lr = (float)lr,
                                  .beta1 = (float)p->beta1,
                                  .beta2 = (float)p->beta2,
                                  .eps = (float)p->eps,
                                  .weight_decay = (float)p->weight_decay,
                                  .clip = (float)p->clip};
    lf_checkpoint_state next = r->state;
    double norm;
    bool finite;
    lf_data_fill(r->data, &next.cursor, &r->batch, false);
    LF_TRY(run_batch(r, &r->loss, err));
    if (wants_checkpoint(r)) LF_TRY(write_checkpoint(r, err));
    LF_TRY(lf_train_optim_step(&r->optim, &adam, &finite, &norm, err));
    if (!finite) {
        status = fail_diverged(r, r->state.n_steps + 1, "a gradient", norm, err);
        goto done;
    }
    lf_net_params_changed(r->net);
    next.n_steps++;
    next.n_tokens += r->batch.n_tokens;
    next.log_bytes = r->state.log_bytes;
    LF_TRY(watch_loss(&next, r, err));
    r->state = next;
    status = log_step(r, lr, norm, (double)(lf_clock_ns() - start_ns) * 1e-9, err);
done:
    return status;
}

static bool is_turn(const run *r, int64_t every)
{
    return every > 0 && r->state.n_steps % every == 0;
}

static lf_status take_steps(run *r, lf_error *err)
{
    lf_status status = LF_OK;
    while (r->state.n_steps < r->p.n_steps && !r->stops) {
        LF_TRY(take_step(r, err));
        if (!r->stops && is_turn(r, r->p.valid_every)) LF_TRY(validate(r, err));
        if (!r->stops && is_turn(r, r->p.sample_every)) LF_TRY(show_samples(r, err));
    }
    if (!r->stops) LF_TRY(validate(r, err));
    if (!are_finite(r->model.params.data, r->model.params.n)) {
        status = fail_diverged(r, r->state.n_steps, "a weight", (double)NAN, err);
        goto done;
    }
    LF_TRY(write_checkpoint(r, err));
    if (r->state.n_steps < r->p.n_steps)
        status = lf_fail(err, LF_ECANCELED, "%s: stopped after step %lld of %lld; the checkpoint is written",
                         r->p.out_dir, (long long)r->state.n_steps, (long long)r->p.n_steps);
done:
    return status;
}

static lf_status write_model(run *r, lf_error *err)
{
    char path[LF_TRAIN_PATH_MAX];
    const lf_status status = export_model(r, lf_train_folder_file(path, &r->folder, "model.gguf"), err);
    if (status == LF_OK) tell(r, &(lf_train_event){.kind = LF_TRAIN_EXPORT, .path = path});
    return status;
}

static void fill_result(const run *r)
{
    lf_train_result *result = r->p.result;
    if (!result) return;
    result->step = r->state.n_steps;
    result->n_tokens = r->state.n_tokens;
    result->loss = r->loss;
    result->valid_loss = r->valid_loss;
}

static lf_status run_all(run *r, lf_error *err)
{
    lf_status status = LF_OK;
    LF_TRY(lf_train_folder_open(&r->folder, r->p.out_dir, err));
    if (!r->p.resume && !r->p.prepare_only) LF_TRY(check_no_checkpoint(r, err));
    LF_TRY(lf_train_model_open_tokenizer(&r->model, &r->p, err));
    LF_TRY(lf_train_files_open(&r->files, &r->p, &r->folder, r->model.tokenizer, err));
    if (r->p.prepare_only) goto done;
    LF_TRY(open_run(r, err));
    if (!r->p.export_only) LF_TRY(take_steps(r, err));
    LF_TRY(write_model(r, err));
done:
    return status;
}

lf_status lf_train(const lf_train_params *params, lf_error *err)
{
    run r = {.valid_step = -1, .loss = (double)NAN, .valid_loss = (double)NAN};
    lf_status status = lf_train_params_check(&r.p, params, err);
    if (status != LF_OK) return status;
    const int threads_before = omp_get_max_threads();
    omp_set_num_threads(r.p.n_threads); /* of this thread's teams */
    status = run_all(&r, err);
    omp_set_num_threads(threads_before);
    fill_result(&r);
    close_run(&r);
    return status;
}
