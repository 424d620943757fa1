#include "train/loop.h"

#include "base/clock.h"
#include "base/mem.h"
#include "train/schedule.h"
#include "train/train.h"
#include "train/train_sample.h"

#include <math.h>
#include <stdlib.h>
#include <unistd.h>

/* A run has diverged when its running mean loss is so far above its best for so long. */
static const double FAR_NATS = 1.0;
static const double MEAN_KEEP = 0.95, SPEED_KEEP = 0.9;
enum { FAR_STEPS = 100 };

void lf_loop_tell(lf_loop *l, lf_train_event *event)
{
    event->step = l->state.n_steps;
    event->n_steps = l->p.n_steps;
    event->n_tokens = l->state.n_tokens;
    if (lf_train_tell(&l->p, event, NULL) != LF_OK) l->stops = true;
}

lf_status lf_loop_fail_diverged(const lf_loop *l, int64_t i_step, const char *what, double found,
                                lf_error *err)
{
    return lf_fail(err, LF_EDIVERGED, "%s: step %lld: found %s of %g; the last good checkpoint is kept",
                   l->p.out_dir, (long long)i_step, what, found);
}

/* ---- checkpoints ---- */

enum { N_BUFFERS_MAX = LF_TRAIN_OPTIM_BUFFERS + 1 };

static int list_buffers(const lf_loop *l, lf_checkpoint_buffer buffers[N_BUFFERS_MAX])
{
    lf_train_optim_buffers(&l->optim, buffers);
    buffers[LF_TRAIN_OPTIM_BUFFERS] = l->task.memory;
    return LF_TRAIN_OPTIM_BUFFERS + (l->task.memory.n > 0);
}

static lf_status write_checkpoint(lf_loop *l, lf_error *err)
{
    lf_status status = LF_OK;
    char path[LF_TRAIN_PATH_MAX];
    lf_checkpoint_buffer buffers[N_BUFFERS_MAX];
    const int n_buffers = list_buffers(l, buffers);
    LF_TRY(lf_train_folder_sync_log(&l->folder, &l->state.log_bytes, err));
    LF_TRY(lf_checkpoint_write(lf_train_folder_file(path, &l->folder, "checkpoint"), &l->state, l->identity,
                               buffers, n_buffers, err));
    l->checkpoint_ns = lf_clock_ns();
    lf_loop_tell(l, &(lf_train_event){.kind = LF_TRAIN_CHECKPOINT, .path = path});
done:
    return status;
}

static bool are_finite(const float *x, size_t n)
{
    size_t i = 0;
    while (i < n && isfinite(x[i])) i++;
    return i == n;
}

/* Whether to write one inside a step, of the weights before it: once it is due, and when the step's loss
 * and gradient show that these weights are good. */
static bool wants_checkpoint(const lf_loop *l)
{
    const bool is_due = (double)(lf_clock_ns() - l->checkpoint_ns) >= l->p.checkpoint_minutes * 60e9;
    const lf_checkpoint_state *s = &l->state;
    const bool is_near = s->n_steps == 0 || (s->n_far == 0 && l->loss < s->loss_best + FAR_NATS);
    return is_due && is_near && are_finite(l->optim.grad, l->model.params.n);
}

/* Whether a state that was read can be one of this run; its file may be anybody's. */
static lf_status check_state(const lf_loop *l, const char *path, lf_error *err)
{
    const lf_checkpoint_state *s = &l->state;
    const int64_t n_draws = l->task.n_draws;
    const bool in_range = s->cursor.epoch >= 0 && s->cursor.epoch < INT64_MAX / 2 / n_draws &&
                          s->cursor.i_draw >= 0 && s->cursor.i_draw < n_draws && s->cursor.i_piece >= 0;
    if (in_range && s->n_steps >= 0 && s->n_tokens >= 0 && s->log_bytes >= 0) return LF_OK;
    return lf_fail(err, LF_EFORMAT,
                   "%s: checkpoint: found step %lld at draw %lld of epoch %lld, expected one of %lld", path,
                   (long long)s->n_steps, (long long)s->cursor.i_draw, (long long)s->cursor.epoch,
                   (long long)n_draws);
}

static lf_status read_checkpoint(lf_loop *l, lf_error *err)
{
    lf_status status = LF_OK;
    char path[LF_TRAIN_PATH_MAX];
    lf_checkpoint_buffer buffers[N_BUFFERS_MAX];
    const int n_buffers = list_buffers(l, buffers);
    LF_TRY(lf_checkpoint_read(&l->state, buffers, n_buffers, l->identity,
                              lf_train_folder_file(path, &l->folder, "checkpoint"), err));
    LF_TRY(check_state(l, path, err));
    status = lf_train_optim_restore(&l->optim, l->state.n_steps, err);
    lf_net_params_changed(l->net);
done:
    return status;
}

/* A new run must not bury an old one. */
static lf_status check_no_checkpoint(const lf_loop *l, lf_error *err)
{
    char path[LF_TRAIN_PATH_MAX];
    if (access(lf_train_folder_file(path, &l->folder, "checkpoint"), F_OK) != 0) return LF_OK;
    return lf_fail(err, LF_EINVAL,
                   "%s: found the checkpoint of a run here, expected none: resume it, or use another folder",
                   path);
}

/* ---- beginning ---- */

lf_status lf_loop_init(lf_loop *l, const lf_train_params *params, lf_error *err)
{
    *l = (lf_loop){.valid_step = -1, .loss = (double)NAN, .valid_loss = (double)NAN};
    return lf_train_params_check(&l->p, params, err);
}

lf_status lf_loop_enter(lf_loop *l, lf_error *err)
{
    lf_status status = LF_OK;
    LF_TRY(lf_train_folder_open(&l->folder, l->p.out_dir, err));
    if (!l->p.resume && !l->p.prepare_only) LF_TRY(check_no_checkpoint(l, err));
    LF_TRY(lf_train_model_open_tokenizer(&l->model, &l->p, err));
    status = lf_train_model_check_output(&l->model, err);
done:
    return status;
}

lf_status lf_loop_open(lf_loop *l, lf_error *err)
{
    lf_status status = LF_OK;
    const lf_net_options options = {.rows_max = l->p.micro_rows,
                                    .bf16 = !l->p.f32,
                                    .recompute = l->p.recompute,
                                    .n_threads = l->p.n_threads};
    LF_TRY(lf_train_model_open_weights(&l->model, &l->p, err));
    LF_TRY(lf_net_create(&l->net, &l->model.params, &options, err));
    status = lf_train_optim_create(&l->optim, &l->model.params, &l->p, err);
done:
    return status;
}

lf_status lf_loop_start(lf_loop *l, const lf_loop_task *task, json_t *identity, lf_error *err)
{
    lf_status status = LF_OK;
    l->task = *task;
    l->identity = identity;
    if (!identity) return lf_fail_memory(err, "the run's identity", 0);
    if (l->p.resume) LF_TRY(read_checkpoint(l, err));
    if (task->judged_step) l->valid_step = task->judged_step(task->self);
    LF_TRY(lf_train_folder_open_log(&l->folder, l->state.log_bytes, err));
    if (!l->p.resume) LF_TRY(lf_train_folder_log(&l->folder, json_pack("{s:O}", "run", identity), err));
    l->checkpoint_ns = lf_clock_ns();
done:
    return status;
}

void lf_loop_close(lf_loop *l)
{
    json_decref(l->identity);
    lf_train_optim_free(&l->optim);
    lf_net_free(l->net);
    lf_train_model_close(&l->model);
    lf_train_folder_close(&l->folder);
}

/* ---- what a run shows ---- */

static bool is_turn(const lf_loop *l, int64_t every)
{
    return every > 0 && l->state.n_steps % every == 0;
}

static lf_status validate(lf_loop *l, lf_error *err)
{
    if (!l->task.validate || l->valid_step == l->state.n_steps) return LF_OK;
    const lf_status status = l->task.validate(l->task.self, &l->valid_loss, l, err);
    l->valid_step = l->state.n_steps;
    return status;
}

/* What a task that remembers its judgements has not judged yet. */
static lf_status catch_up(lf_loop *l, lf_error *err)
{
    if (!l->task.judged_step || l->ends) return LF_OK;
    return l->valid_step < 0 || is_turn(l, l->p.valid_every) ? validate(l, err) : LF_OK;
}

lf_status lf_loop_write_model(const lf_loop *l, const char *path, lf_error *err)
{
    return lf_train_model_export(&l->model, path, l->p.out_dir, l->p.dtype, l->p.n_threads, err);
}

static lf_status sample_once(lf_loop *l, const char *model_path, float temperature, lf_error *err)
{
    lf_status status = LF_OK;
    lf_bytes text = {0};
    const lf_train_sample sample = {.model_path = model_path,
                                    .prompt = l->p.sample_prompt,
                                    .n_predict = l->p.sample_tokens,
                                    .n_threads = l->p.n_threads,
                                    .temperature = temperature,
                                    .seed = (uint64_t)l->state.n_steps};
    lf_train_event event = {.kind = LF_TRAIN_SAMPLE, .temperature = temperature};
    LF_TRY(lf_train_sample_text(&text, &sample, err));
    LF_TRY(
        lf_train_folder_log(&l->folder,
                            json_pack("{s:I, s:f, s:o}", "step", (json_int_t)l->state.n_steps, "temperature",
                                      (double)temperature, "sample", json_stringn(text.data, text.len)),
                            err));
    event.text = text.data;
    lf_loop_tell(l, &event);
done:
    lf_bytes_free(&text);
    return status;
}

/* Greedy, and as people sample. */
static lf_status show_samples(lf_loop *l, lf_error *err)
{
    lf_status status = LF_OK;
    char path[LF_TRAIN_PATH_MAX];
    LF_TRY(lf_loop_write_model(l, lf_train_folder_file(path, &l->folder, "sample.gguf"), err));
    LF_TRY(sample_once(l, path, 0.0f, err));
    LF_TRY(sample_once(l, path, 0.8f, err));
done:
    (void)unlink(path);
    return status;
}

/* ---- steps ---- */

/* Follows the running mean of the loss. */
static lf_status watch_loss(lf_checkpoint_state *s, const lf_loop *l, lf_error *err)
{
    s->loss_mean = s->n_steps == 1 ? l->loss : MEAN_KEEP * s->loss_mean + (1.0 - MEAN_KEEP) * l->loss;
    if (s->n_steps == 1 || s->loss_mean < s->loss_best) s->loss_best = s->loss_mean;
    s->n_far = s->loss_mean > s->loss_best + FAR_NATS ? s->n_far + 1 : 0;
    if (s->n_far < FAR_STEPS) return LF_OK;
    return lf_fail(
        err, LF_EDIVERGED,
        "%s: step %lld: found a mean loss of %.3f, %d steps after it was %.3f: is the learning rate (%g) too "
        "high? The last checkpoint is kept",
        l->p.out_dir, (long long)s->n_steps, s->loss_mean, FAR_STEPS, s->loss_best, l->p.lr);
}

static lf_status log_step(lf_loop *l, double lr, double norm, int64_t n_rows, double seconds, lf_error *err)
{
    lf_status status = LF_OK;
    const double keep = l->step_seconds > 0.0 ? SPEED_KEEP : 0.0;
    l->step_seconds = keep * l->step_seconds + (1.0 - keep) * seconds;
    lf_train_event event = {.kind = LF_TRAIN_STEP,
                            .loss = l->loss,
                            .lr = lr,
                            .grad_norm = norm,
                            .tokens_per_second = (double)n_rows / seconds,
                            .seconds_left = l->step_seconds * (double)(l->p.n_steps - l->state.n_steps)};
    json_t *line = json_pack("{s:I, s:I, s:f, s:f, s:f, s:f}", "step", (json_int_t)l->state.n_steps, "tokens",
                             (json_int_t)l->state.n_tokens, "loss", l->loss, "lr", lr, "grad_norm", norm,
                             "tokens_per_s", event.tokens_per_second);
    if (l->task.describe && !l->task.describe(l->task.self, &event, line)) {
        json_decref(line);
        line = NULL;
    }
    LF_TRY(lf_train_folder_log(&l->folder, line, err));
    lf_loop_tell(l, &event);
done:
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

static lf_status take_step(lf_loop *l, lf_error *err)
{
    lf_status status = LF_OK;
    const lf_train_params *p = &l->p;
    const int64_t start_ns = lf_clock_ns();
    const double lr = learning_rate(p, l->state.n_steps);
    const lf_adamw_params adam = {.lr = (float)lr,
                                  .beta1 = (float)p->beta1,
                                  .beta2 = (float)p->beta2,
                                  .eps = (float)p->eps,
                                  .weight_decay = (float)p->weight_decay,
                                  .clip = (float)p->clip};
    lf_checkpoint_state next = l->state;
    double norm;
    bool finite;
    const int64_t n_rows = l->task.draw(l->task.self, &l->state, &next.cursor);
    LF_TRY(l->task.learn(l->task.self, &l->loss, l->optim.grad, l->net, err));
    if (!isfinite(l->loss)) {
        status = lf_loop_fail_diverged(l, l->state.n_steps + 1, "a loss", l->loss, err);
        goto done;
    }
    if (wants_checkpoint(l)) LF_TRY(write_checkpoint(l, err));
    LF_TRY(lf_train_optim_step(&l->optim, &adam, &finite, &norm, err));
    if (!finite) {
        status = lf_loop_fail_diverged(l, l->state.n_steps + 1, "a gradient", norm, err);
        goto done;
    }
    lf_net_params_changed(l->net);
    next.n_steps++;
    next.n_tokens += n_rows;
    next.log_bytes = l->state.log_bytes;
    LF_TRY(watch_loss(&next, l, err));
    l->state = next;
    status = log_step(l, lr, norm, n_rows, (double)(lf_clock_ns() - start_ns) * 1e-9, err);
done:
    return status;
}

lf_status lf_loop_run(lf_loop *l, lf_error *err)
{
    lf_status status = LF_OK;
    LF_TRY(catch_up(l, err));
    while (l->state.n_steps < l->p.n_steps && !l->stops && !l->ends) {
        LF_TRY(take_step(l, err));
        if (!l->stops && is_turn(l, l->p.valid_every)) LF_TRY(validate(l, err));
        if (!l->stops && is_turn(l, l->p.sample_every)) LF_TRY(show_samples(l, err));
    }
    if (!l->stops && !l->ends) LF_TRY(validate(l, err));
    if (!are_finite(l->model.params.data, l->model.params.n)) {
        status = lf_loop_fail_diverged(l, l->state.n_steps, "a weight", (double)NAN, err);
        goto done;
    }
    LF_TRY(write_checkpoint(l, err));
    if (l->state.n_steps < l->p.n_steps && !l->ends)
        status = lf_fail(err, LF_ECANCELED, "%s: stopped after step %lld of %lld; the checkpoint is written",
                         l->p.out_dir, (long long)l->state.n_steps, (long long)l->p.n_steps);
done:
    return status;
}

lf_status lf_loop_export(lf_loop *l, lf_error *err)
{
    char path[LF_TRAIN_PATH_MAX];
    const lf_status status = lf_loop_write_model(l, lf_train_folder_file(path, &l->folder, "model.gguf"),
                                                 err);
    if (status == LF_OK) lf_loop_tell(l, &(lf_train_event){.kind = LF_TRAIN_EXPORT, .path = path});
    return status;
}
