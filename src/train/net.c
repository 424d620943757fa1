#include "train/net_int.h"

#include "base/carve.h"
#include "base/cpu.h"
#include "base/threads.h"

#include <assert.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

/* ---- buffers ---- */

static size_t max_size(size_t a, size_t b)
{
    return a > b ? a : b;
}

static void plan_saved(lf_net *net, lf_saved *s, carver *c)
{
    const lf_config *config = &net->params->config;
    const size_t rows = (size_t)net->options.rows_max, dim = (size_t)config->dim,
                 head_dim = (size_t)config->head_dim;
    const size_t n_heads = (size_t)config->n_heads, n_rotated = n_heads + (size_t)config->n_kv_heads;
    const size_t n_all = n_rotated + (size_t)config->n_kv_heads;
    const size_t rows_padded = (size_t)lf_attention_rows_padded(net->attention);
    const size_t dim_padded = (size_t)lf_attention_dim_padded(net->attention);
    const size_t operand = net->operand == LF_DTYPE_F32 ? sizeof(float) : sizeof(uint16_t);
    const size_t element = lf_attention_dtype(net->attention) == LF_DTYPE_F32 ? sizeof(float)
                                                                              : sizeof(uint16_t);
    s->attn_in = carve(c, rows * dim, operand);
    s->attn_inverse = carve(c, rows, sizeof(float));
    s->heads = carve(c, n_all * rows_padded * dim_padded, element);
    s->attended = carve(c, rows * n_heads * head_dim, operand);
    s->lse = carve(c, n_heads * rows_padded, sizeof(float));
    s->mid = carve(c, rows * dim, sizeof(float));
    s->ffn_in = carve(c, rows * dim, operand);
    s->ffn_inverse = carve(c, rows, sizeof(float));
    s->gate_up = carve(c, rows * 2 * (size_t)config->ffn_dim, operand);
    if (config->qk_norm || s == net->saved) s->qkv = carve(c, rows * n_all * head_dim, sizeof(float));
    if (config->qk_norm) s->head_inverse = carve(c, rows * n_rotated, sizeof(float));
}

/* With recompute all layers share what the first has; what no backward looks at is shared in any case. */
static void plan_all_saved(lf_net *net, carver *c)
{
    const lf_config *config = &net->params->config;
    for (int i = 0; i < config->n_layers; i++) {
        if (i == 0 || !net->options.recompute)
            plan_saved(net, &net->saved[i], c);
        else
            net->saved[i] = net->saved[0];
        if (!config->qk_norm) net->saved[i].qkv = net->saved[0].qkv;
    }
}

static void plan(lf_net *net, carver *c)
{
    const lf_config *config = &net->params->config;
    const size_t rows = (size_t)net->options.rows_max, dim = (size_t)config->dim,
                 ffn = (size_t)config->ffn_dim;
    const size_t head_dim = (size_t)config->head_dim, n_layers = (size_t)config->n_layers;
    const size_t q = (size_t)config->n_heads * head_dim, qkv = q + 2 * (size_t)config->n_kv_heads * head_dim;
    const size_t n_vocab = (size_t)config->n_vocab;
    const bool bf16 = net->operand == LF_DTYPE_BF16;
    const size_t operand = bf16 ? sizeof(uint16_t) : sizeof(float);

    if (bf16) net->weights = carve(c, net->params->n, sizeof(uint16_t));
    net->rope_freqs = carve(c, head_dim / 2, sizeof(float));
    net->cos = carve(c, rows * head_dim / 2, sizeof(float));
    net->sin = carve(c, rows * head_dim / 2, sizeof(float));
    net->x = carve(c, (n_layers + 1) * rows * dim, sizeof(float));
    net->out_in = carve(c, rows * dim, operand);
    net->out_inverse = carve(c, rows, sizeof(float));
    net->logits = carve(c, LF_LOSS_ROWS_MAX * n_vocab, sizeof(float));
    net->d_logits = bf16 ? carve(c, LF_LOSS_ROWS_MAX * n_vocab, sizeof(uint16_t)) : net->logits;
    net->picked_in = carve(c, LF_LOSS_ROWS_MAX * dim, operand);
    net->d_picked = carve(c, LF_LOSS_ROWS_MAX * dim, sizeof(float));
    net->narrow = carve(c, rows * dim, sizeof(float));
    net->act = carve(c, rows * ffn, operand);
    net->dx = carve(c, rows * dim, sizeof(float));
    net->dx_operand = bf16 ? carve(c, rows * dim, sizeof(uint16_t)) : net->dx;
    net->d_mid = carve(c, rows * max_size(ffn, q), sizeof(float));
    net->d_wide = carve(c, rows * max_size(2 * ffn, qkv), operand);
    net->partial = carve(c, (size_t)net->options.n_threads * max_size(dim, qkv + 2 * head_dim),
                         sizeof(float));
    plan_all_saved(net, c);
}

static lf_status check_options(const lf_config *c, const lf_net_options *o, lf_error *err)
{
    if (o->rows_max < 1 || o->rows_max > LF_TRAIN_ROWS_MAX)
        return lf_fail(err, LF_EINVAL, "rows of a batch: found %d, expected 1 to %d", o->rows_max,
                       (int)LF_TRAIN_ROWS_MAX);
    if (o->n_threads < 0 || o->n_threads > LF_THREADS_MAX)
        return lf_fail(err, LF_EINVAL, "threads: found %d, expected 0 to %d", o->n_threads,
                       (int)LF_THREADS_MAX);
    if (c->head_dim > LF_TRAIN_HEAD_MAX)
        return lf_fail(err, LF_EUNSUPPORTED, "head dimension: found %d, training supports up to %d",
                       c->head_dim, (int)LF_TRAIN_HEAD_MAX);
    return LF_OK;
}

static lf_status take_memory(lf_net *net, lf_error *err)
{
    carver measure = {0};
    plan(net, &measure);
    net->bytes = measure.used;
    if (!measure.overflow) net->memory = lf_calloc_aligned(net->bytes);
    if (!net->memory) return lf_fail_memory(err, "activations", net->bytes);
    carver take = {.base = net->memory};
    plan(net, &take);
    return LF_OK;
}

lf_status lf_net_create(lf_net **out, const lf_params *params, const lf_net_options *options, lf_error *err)
{
    lf_status status = LF_OK;
    const lf_config *c = &params->config;
    *out = NULL;
    LF_TRY(check_options(c, options, err));
    lf_net *net = calloc(1, sizeof *net);
    if (net) net->saved = calloc((size_t)c->n_layers, sizeof *net->saved);
    if (!net || !net->saved) {
        free(net);
        return lf_fail_memory(err, "net", sizeof *net);
    }
    *out = net;
    net->params = params;
    net->options = *options;
    if (net->options.n_threads == 0) net->options.n_threads = lf_threads_processors();
    net->operand = options->bf16 ? LF_DTYPE_BF16 : LF_DTYPE_F32;
    net->stale = true;
    const unsigned cpu_flags = lf_cpu_flags() & ~options->cpu_avoid;
    net->ops = lf_train_ops_for(cpu_flags);
    const lf_attention_shape shape = {.rows_max = options->rows_max,
                                      .n_heads = c->n_heads,
                                      .n_kv_heads = c->n_kv_heads,
                                      .head_dim = c->head_dim,
                                      .n_threads = net->options.n_threads,
                                      .bf16 = options->bf16,
                                      .operand = net->operand,
                                      .cpu_flags = cpu_flags};
    LF_TRY(lf_attention_create(&net->attention, &shape, err));
    LF_TRY(take_memory(net, err));
    LF_TRY(lf_matmul_create(&net->matmul, err));
    lf_config_rope_freqs(net->rope_freqs, c, params->rope_divisors);
done:
    if (status != LF_OK) {
        lf_net_free(*out);
        *out = NULL;
    }
    return status;
}

void lf_net_free(lf_net *net)
{
    if (!net) return;
    lf_attention_free(net->attention);
    lf_matmul_free(net->matmul);
    free(net->memory);
    free(net->saved);
    free(net);
}

size_t lf_net_bytes(const lf_net *net)
{
    return net->bytes + lf_attention_bytes(net->attention);
}

void lf_net_params_changed(lf_net *net)
{
    net->stale = true;
}

/* ---- weights and products ---- */

static const lf_param *find_param(const lf_net *net, lf_weight weight, int i_layer)
{
    const int i = lf_params_find(net->params, weight, i_layer);
    return i < 0 ? NULL : &net->params->list[i];
}

const void *lf_net_operand(const lf_net *net, lf_weight weight, int i_layer)
{
    const lf_param *p = find_param(net, weight, i_layer);
    if (net->operand == LF_DTYPE_BF16) return net->weights + p->offset;
    return net->params->data + p->offset;
}

const float *lf_net_vector(const lf_net *net, lf_weight weight, int i_layer)
{
    const lf_param *p = find_param(net, weight, i_layer);
    return p ? net->params->data + p->offset : NULL;
}

float *lf_net_gradient(const lf_net *net, lf_weight weight, int i_layer)
{
    const lf_param *p = find_param(net, weight, i_layer);
    return p ? net->grad + p->offset : NULL;
}

lf_status lf_net_forward_product(lf_net *net, void *y, lf_dtype y_dtype, const void *x, const void *w, int n,
                                 int n_out, int n_in)
{
    const lf_product p = {
        .m = n, .n = n_out, .k = n_in, .b_transposed = true, .in = net->operand, .out = y_dtype};
    return lf_matmul_run(net->matmul, &p, y, x, w, net->err);
}

lf_status lf_net_input_gradient(lf_net *net, float *dx, const void *dy, const void *w, int n, int n_out,
                                int n_in)
{
    const lf_product p = {.m = n, .n = n_in, .k = n_out, .in = net->operand, .out = LF_DTYPE_F32};
    return lf_matmul_run(net->matmul, &p, dx, dy, w, net->err);
}

lf_status lf_net_weight_gradient(lf_net *net, float *dw, const void *dy, const void *x, int n, int n_out,
                                 int n_in)
{
    const lf_product p = {.m = n_out,
                          .n = n_in,
                          .k = n,
                          .a_transposed = true,
                          .add = true,
                          .in = net->operand,
                          .out = LF_DTYPE_F32};
    return lf_matmul_run(net->matmul, &p, dw, dy, x, net->err);
}

/* ---- the walk ---- */

static void embed(lf_net *net)
{
    const size_t dim = (size_t)net->params->config.dim;
    const float *embedding = lf_net_vector(net, LF_W_TOKEN_EMBD, 0);
#pragma omp parallel for schedule(static)
    for (int i = 0; i < net->rows->n; i++) {
        const int32_t token = net->rows->token[i];
        assert(token >= 0 && token < net->params->config.n_vocab);
        memcpy(net->x + (size_t)i * dim, embedding + (size_t)token * dim, dim * sizeof(float));
    }
}

/* Rows of one token add to one place: each thread has some of the dims, for all rows. */
static void embed_backward(lf_net *net)
{
    const int dim = net->params->config.dim, n = net->rows->n;
    float *d_embedding = lf_net_gradient(net, LF_W_TOKEN_EMBD, 0);
    enum { DIMS = 16 };
#pragma omp parallel for schedule(static)
    for (int begin = 0; begin < dim; begin += DIMS) {
        const int end = begin + DIMS < dim ? begin + DIMS : dim;
        for (int i = 0; i < n; i++) {
            const float *restrict dx = net->dx + (size_t)i * (size_t)dim;
            float *restrict sum = d_embedding + (size_t)net->rows->token[i] * (size_t)dim;
            for (int j = begin; j < end; j++) sum[j] += dx[j];
        }
    }
}

static void set_angles(lf_net *net)
{
    const int half = net->params->config.head_dim / 2;
#pragma omp parallel for schedule(static)
    for (int i = 0; i < net->rows->n; i++) {
        for (int j = 0; j < half; j++) {
            const float angle = (float)net->rows->pos[i] * net->rope_freqs[j];
            net->cos[(size_t)i * (size_t)half + (size_t)j] = cosf(angle);
            net->sin[(size_t)i * (size_t)half + (size_t)j] = sinf(angle);
        }
    }
}

static void begin_batch(lf_net *net, const lf_train_rows *rows)
{
    assert(rows->n >= 1 && rows->n <= net->options.rows_max);
    net->rows = rows;
    if (net->weights && net->stale) net->ops->to_bf16(net->weights, net->params->data, net->params->n);
    net->stale = false;
    set_angles(net);
    lf_attention_set_rows(net->attention, rows);
    embed(net);
}

/* ---- logits ---- */

static int n_picked(const lf_net *net)
{
    return net->rows->picked ? net->rows->n_picked : net->rows->n;
}

static size_t operand_bytes(const lf_net *net)
{
    return net->operand == LF_DTYPE_F32 ? sizeof(float) : sizeof(uint16_t);
}

static lf_weight output_weight(const lf_net *net)
{
    return net->params->config.tied ? LF_W_TOKEN_EMBD : LF_W_OUTPUT;
}

/* The normed rows (n, dim) that are picked from `first` on. */
static const void *pick_rows(lf_net *net, int first, int n)
{
    const size_t row_bytes = (size_t)net->params->config.dim * operand_bytes(net);
    const uint8_t *from = net->out_in;
    uint8_t *to = net->picked_in;
    if (!net->rows->picked) return from + (size_t)first * row_bytes;
    for (int i = 0; i < n; i++)
        memcpy(to + (size_t)i * row_bytes, from + (size_t)net->rows->picked[first + i] * row_bytes,
               row_bytes);
    return to;
}

/* The way back for their gradients (n, dim), into `narrow`. */
static void put_gradients(lf_net *net, const float *d_picked, int first, int n)
{
    const size_t dim = (size_t)net->params->config.dim;
    for (int i = 0; i < n; i++)
        memcpy(net->narrow + (size_t)net->rows->picked[first + i] * dim, d_picked + (size_t)i * dim,
               dim * sizeof(float));
}

static lf_status make_logits(lf_net *net, const void *in, int n)
{
    const lf_config *c = &net->params->config;
    assert(n >= 1 && n <= LF_LOSS_ROWS_MAX);
    return lf_net_forward_product(net, net->logits, LF_DTYPE_F32, in,
                                  lf_net_operand(net, output_weight(net), 0), n, c->n_vocab, c->dim);
}

/* From the gradient that the loss left in `logits`: those of the normed rows `in`, into `narrow`, and the
 * output matrix's. */
static lf_status logits_backward(lf_net *net, const void *in, int first, int n)
{
    lf_status status = LF_OK;
    const lf_config *c = &net->params->config;
    const lf_weight weight = output_weight(net);
    float *d_in = net->rows->picked ? net->d_picked : net->narrow + (size_t)first * (size_t)c->dim;
    if (net->d_logits != net->logits)
        net->ops->to_bf16(net->d_logits, net->logits, (size_t)n * (size_t)c->n_vocab);
    LF_TRY(lf_net_weight_gradient(net, lf_net_gradient(net, weight, 0), net->d_logits, in, n, c->n_vocab,
                                  c->dim));
    LF_TRY(lf_net_input_gradient(net, d_in, net->d_logits, lf_net_operand(net, weight, 0), n, c->n_vocab,
                                 c->dim));
    if (net->rows->picked) put_gradients(net, d_in, first, n);
done:
    return status;
}

/* Logits and loss in chunks of rows, and what of the backward they take. */
static lf_status run_loss(lf_net *net, lf_loss_fn *loss, void *cookie, double *sum)
{
    lf_status status = LF_OK;
    const lf_config *c = &net->params->config;
    const int n_all = n_picked(net);
    *sum = 0.0;
    if (net->grad && net->rows->picked)
        memset(net->narrow, 0, (size_t)net->rows->n * (size_t)c->dim * sizeof *net->narrow);
    for (int first = 0; first < n_all; first += LF_LOSS_ROWS_MAX) {
        const int rest = n_all - first, n = rest < LF_LOSS_ROWS_MAX ? rest : LF_LOSS_ROWS_MAX;
        const void *in = pick_rows(net, first, n);
        LF_TRY(make_logits(net, in, n));
        *sum += loss(cookie, net->logits, first, n, c->n_vocab, net->grad != NULL);
        if (net->grad) LF_TRY(logits_backward(net, in, first, n));
    }
done:
    return status;
}

static lf_status backward(lf_net *net)
{
    lf_status status = LF_OK;
    const lf_config *c = &net->params->config;
    memset(net->dx, 0, (size_t)net->rows->n * (size_t)c->dim * sizeof *net->dx);
    lf_layer_output_norm_backward(net);
    for (int i = c->n_layers - 1; i >= 0; i--) {
        if (net->options.recompute && i < c->n_layers - 1) LF_TRY(lf_layer_recompute(net, i));
        LF_TRY(lf_layer_backward(net, i));
    }
    embed_backward(net);
done:
    return status;
}

static lf_status forward(lf_net *net, const lf_train_rows *rows, float *grad, lf_error *err)
{
    lf_status status = LF_OK;
    net->grad = grad;
    net->err = err;
    begin_batch(net, rows);
    for (int i = 0; i < net->params->config.n_layers; i++) LF_TRY(lf_layer_forward(net, i));
    lf_layer_output_norm(net);
done:
    return status;
}

/* With grad NULL: forward and loss only. */
static lf_status run(lf_net *net, const lf_train_rows *rows, lf_loss_fn *loss, void *cookie, float *grad,
                     double *out_loss, lf_error *err)
{
    lf_status status = LF_OK;
    const int threads_before = omp_get_max_threads();
    omp_set_num_threads(net->options.n_threads); /* of this thread's teams: oneDNN's and ours */
    LF_TRY(forward(net, rows, grad, err));
    LF_TRY(run_loss(net, loss, cookie, out_loss));
    if (grad) LF_TRY(backward(net));
done:
    omp_set_num_threads(threads_before);
    return status;
}

lf_status lf_net_train(lf_net *net, const lf_train_rows *rows, lf_loss_fn *loss, void *cookie, float *grad,
                       double *out_loss, lf_error *err)
{
    assert(grad);
    return run(net, rows, loss, cookie, grad, out_loss, err);
}

lf_status lf_net_evaluate(lf_net *net, const lf_train_rows *rows, lf_loss_fn *loss, void *cookie,
                          double *out_loss, lf_error *err)
{
    return run(net, rows, loss, cookie, NULL, out_loss, err);
}

lf_status lf_net_forward(lf_net *net, const lf_train_rows *rows, lf_error *err)
{
    const int threads_before = omp_get_max_threads();
    omp_set_num_threads(net->options.n_threads);
    const lf_status status = forward(net, rows, NULL, err);
    omp_set_num_threads(threads_before);
    return status;
}

lf_status lf_net_logits(lf_net *net, float **logits, int first, int n, lf_error *err)
{
    const int threads_before = omp_get_max_threads();
    assert(first >= 0 && first + n <= n_picked(net));
    net->err = err;
    omp_set_num_threads(net->options.n_threads);
    const lf_status status = make_logits(net, pick_rows(net, first, n), n);
    omp_set_num_threads(threads_before);
    *logits = net->logits;
    return status;
}
