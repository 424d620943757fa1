#include "train/train.h"

#include "train/loop.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>

/* Learning the next token of texts. */
typedef struct text_task {
    lf_train_files files;
    lf_data *data, *valid; /* valid is NULL without validation data */
    lf_batch batch;
} text_task;

/* n files from i_first on; their weights, or 1 without p. */
static lf_status create_data(lf_data **out, const lf_train_files *files, int i_first, int n,
                             const lf_train_params *p, const lf_data_params *params, lf_error *err)
{
    lf_data_source *sources = calloc((size_t)n, sizeof *sources);
    if (!sources) return lf_fail_memory(err, "the inputs", (size_t)n * sizeof *sources);
    for (int i = 0; i < n; i++)
        sources[i] = (lf_data_source){&files->list[i_first + i], p ? p->data[i].weight : 1.0};
    const lf_status status = lf_data_create(out, sources, n, params, err);
    free(sources);
    return status;
}

lf_status lf_train_data_create(lf_data **out, const lf_train_files *files, const lf_train_params *p,
                               const lf_data_params *params, lf_error *err)
{
    return create_data(out, files, 0, p->n_data, p, params, err);
}

static lf_status open_data(text_task *t, const lf_train_params *p, lf_error *err)
{
    lf_status status = LF_OK;
    lf_data_params params = {.context = p->context, .seed = p->seed, .hold_out = p->hold_out};
    params.part = p->hold_out > 0.0 ? LF_DATA_TRAIN : LF_DATA_ALL;
    LF_TRY(lf_train_data_create(&t->data, &t->files, p, &params, err));
    params.seed = 0; /* every run validates on the same */
    if (p->n_valid > 0) {
        LF_TRY(create_data(&t->valid, &t->files, p->n_data, p->n_valid, NULL, &params, err));
    } else if (p->hold_out > 0.0) {
        params.part = LF_DATA_HELD_OUT;
        LF_TRY(create_data(&t->valid, &t->files, 0, p->n_data, NULL, &params, err));
    }
    status = lf_batch_create(&t->batch, p->batch_tokens / p->micro_rows, p->micro_rows, err);
done:
    return status;
}

static void close_data(text_task *t)
{
    lf_batch_free(&t->batch);
    lf_data_free(t->valid);
    lf_data_free(t->data);
    lf_train_files_close(&t->files);
}

static int64_t draw(void *self, const lf_checkpoint_state *state, lf_data_cursor *cursor)
{
    text_task *t = self;
    (void)state;
    lf_data_fill(t->data, cursor, &t->batch, false);
    return t->batch.n_tokens;
}

lf_status lf_train_batch(double *loss, const lf_batch *b, double scale, lf_net *net, float *grad,
                         lf_error *err)
{
    *loss = 0.0;
    for (int i = 0; i < b->n_micro; i++) {
        const lf_train_rows rows = lf_batch_rows(b, i);
        lf_cross_entropy ce = {.target = b->target + (size_t)i * (size_t)b->micro_rows, .scale = scale};
        double sum;
        if (b->n_targets[i] == 0) continue;
        const lf_status status = lf_net_train(net, &rows, lf_cross_entropy_loss, &ce, grad, &sum, err);
        if (status != LF_OK) return status;
        *loss += sum;
    }
    return LF_OK;
}

/* The mean over the batch's targets. */
static lf_status learn(void *self, double *loss, float *grad, lf_net *net, lf_error *err)
{
    const text_task *t = self;
    return lf_train_batch(loss, &t->batch, 1.0 / (double)lf_batch_n_targets(&t->batch), net, grad, err);
}

/* The losses by position as the log has them; NULL without memory. */
static json_t *list_buckets(const lf_train_event *e)
{
    json_t *list = json_array();
    for (int i = 0; i < e->n_buckets; i++) {
        if (e->bucket_targets[i] == 0) continue;
        json_t *bucket = json_pack("{s:i, s:i, s:I, s:f}", "from", i == 0 ? 0 : 1 << i, "to",
                                   (int)((2u << i) - 1), "tokens", (json_int_t)e->bucket_targets[i], "loss",
                                   e->bucket_loss[i]);
        if (json_array_append_new(list, bucket) == 0) continue;
        json_decref(list);
        return NULL;
    }
    return list;
}

static lf_status validate(void *self, double *loss, lf_loop *loop, lf_error *err)
{
    lf_status status = LF_OK;
    text_task *t = self;
    lf_train_eval e;
    lf_train_event event = {.kind = LF_TRAIN_VALIDATION};
    LF_TRY(lf_train_evaluate(&e, loop->net, t->valid, &t->batch, loop->p.valid_tokens, err));
    *loss = event.loss = e.loss / (double)e.n_targets;
    if (!isfinite(event.loss)) {
        status = lf_loop_fail_diverged(loop, loop->state.n_steps, "a validation loss", event.loss, err);
        goto done;
    }
    event.n_buckets = e.n_buckets;
    for (int i = 0; i < e.n_buckets; i++) {
        event.bucket_targets[i] = e.bucket_targets[i];
        event.bucket_loss[i] = e.bucket_loss[i] / (double)e.bucket_targets[i];
    }
    LF_TRY(lf_train_folder_log(&loop->folder,
                               json_pack("{s:I, s:I, s:f, s:I, s:o}", "step", (json_int_t)loop->state.n_steps,
                                         "tokens", (json_int_t)loop->state.n_tokens, "valid_loss", *loss,
                                         "valid_tokens", (json_int_t)e.n_targets, "buckets",
                                         list_buckets(&event)),
                               err));
    lf_loop_tell(loop, &event);
done:
    return status;
}

static void fill_result(const lf_loop *l)
{
    lf_train_result *result = l->p.result;
    if (!result) return;
    result->step = l->state.n_steps;
    result->n_tokens = l->state.n_tokens;
    result->loss = l->loss;
    result->valid_loss = l->valid_loss;
}

static lf_status run(lf_loop *l, text_task *t, lf_error *err)
{
    lf_status status = LF_OK;
    LF_TRY(lf_loop_enter(l, err));
    LF_TRY(lf_train_files_open(&t->files, &l->p, &l->folder, l->model.tokenizer, err));
    if (l->p.prepare_only) goto done;
    LF_TRY(open_data(t, &l->p, err));
    LF_TRY(lf_loop_open(l, err));
    const lf_loop_task task = {.self = t,
                               .n_draws = lf_data_epoch_draws(t->data),
                               .draw = draw,
                               .learn = learn,
                               .validate = t->valid ? validate : NULL};
    LF_TRY(lf_loop_start(l, &task, lf_train_identity(&l->p, &t->files, &l->model), err));
    if (!l->p.export_only) LF_TRY(lf_loop_run(l, err));
    LF_TRY(lf_loop_export(l, err));
done:
    return status;
}

lf_status lf_train(const lf_train_params *params, lf_error *err)
{
    lf_loop loop;
    text_task task = {0};
    lf_status status = lf_loop_init(&loop, params, err);
    if (status == LF_OK) status = lf_train_inputs_check(params, err);
    if (status != LF_OK) return status;
    const int threads_before = omp_get_max_threads();
    omp_set_num_threads(loop.p.n_threads); /* of this thread's teams */
    status = run(&loop, &task, err);
    omp_set_num_threads(threads_before);
    fill_result(&loop);
    close_data(&task);
    lf_loop_close(&loop);
    return status;
}
