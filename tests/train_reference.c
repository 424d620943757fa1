#include "train_reference.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct reference {
    const lf_params *params;
    const lf_config *c;
    const double *data;
    const lf_train_rows *rows;
    float *freqs; /* (head_dim / 2) */
} reference;

static const double *weight(const reference *r, lf_weight w, int i_layer)
{
    const int i = lf_params_find(r->params, w, i_layer);
    return i < 0 ? NULL : r->data + r->params->list[i].offset;
}

/* y (n_out) = w (n_out, n_in) x + bias */
static void product(double *y, const double *w, const double *x, const double *bias, int n_out, int n_in)
{
    for (int o = 0; o < n_out; o++) {
        y[o] = bias ? bias[o] : 0.0;
        for (int i = 0; i < n_in; i++) y[o] += w[o * n_in + i] * x[i];
    }
}

static void norm(double *y, const double *x, const double *w, int n, double eps)
{
    double sum = 0.0;
    for (int i = 0; i < n; i++) sum += x[i] * x[i];
    const double inverse = 1.0 / sqrt(sum / n + eps);
    for (int i = 0; i < n; i++) y[i] = x[i] * inverse * w[i];
}

static void rotate_heads(const reference *r, double *x, const double *norm_weight, int n_heads, int32_t pos)
{
    const int d = r->c->head_dim, half = d / 2;
    for (int h = 0; h < n_heads; h++, x += d) {
        if (norm_weight) norm(x, x, norm_weight, d, (double)r->c->norm_eps);
        for (int i = 0; i < half; i++) {
            const double angle = (double)pos * (double)r->freqs[i], a = x[i], b = x[i + half];
            x[i] = a * cos(angle) - b * sin(angle);
            x[i + half] = a * sin(angle) + b * cos(angle);
        }
    }
}

static bool sees(const lf_train_rows *rows, int i, int j)
{
    return (rows->first && j >= rows->first[i] && j < rows->first_end[i]) || (j >= rows->own[i] && j <= i);
}

/* out (head_dim) of one row and head. */
static void attend(const reference *r, double *out, const double *q, const double *k, const double *v, int i)
{
    const int d = r->c->head_dim, stride = r->c->n_kv_heads * d;
    double sum = 0.0, max = -INFINITY;
    double *p = calloc((size_t)i + 1, sizeof *p);
    for (int j = 0; j <= i; j++) {
        for (int m = 0; m < d; m++) p[j] += q[m] * k[j * stride + m] / sqrt(d);
        if (sees(r->rows, i, j) && p[j] > max) max = p[j];
    }
    memset(out, 0, (size_t)d * sizeof *out);
    for (int j = 0; j <= i; j++) {
        if (!sees(r->rows, i, j)) continue;
        const double e = exp(p[j] - max);
        sum += e;
        for (int m = 0; m < d; m++) out[m] += e * v[j * stride + m];
    }
    for (int m = 0; m < d; m++) out[m] /= sum;
    free(p);
}

static void layer(const reference *r, double *x, int l)
{
    const lf_config *c = r->c;
    const int n = r->rows->n, q_dim = c->n_heads * c->head_dim, kv_dim = c->n_kv_heads * c->head_dim;
    double *h = calloc((size_t)c->dim, sizeof *h), *gate = calloc((size_t)c->ffn_dim, sizeof *gate);
    double *up = calloc((size_t)c->ffn_dim, sizeof *up), *att = calloc((size_t)q_dim, sizeof *att);
    double *q = calloc((size_t)(n * q_dim), sizeof *q), *k = calloc((size_t)(n * kv_dim), sizeof *k);
    double *v = calloc((size_t)(n * kv_dim), sizeof *v);
    for (int i = 0; i < n; i++) {
        norm(h, x + i * c->dim, weight(r, LF_W_ATTN_NORM, l), c->dim, (double)c->norm_eps);
        product(q + i * q_dim, weight(r, LF_W_Q, l), h, weight(r, LF_W_Q_BIAS, l), q_dim, c->dim);
        product(k + i * kv_dim, weight(r, LF_W_K, l), h, weight(r, LF_W_K_BIAS, l), kv_dim, c->dim);
        product(v + i * kv_dim, weight(r, LF_W_V, l), h, weight(r, LF_W_V_BIAS, l), kv_dim, c->dim);
        rotate_heads(r, q + i * q_dim, weight(r, LF_W_Q_NORM, l), c->n_heads, r->rows->pos[i]);
        rotate_heads(r, k + i * kv_dim, weight(r, LF_W_K_NORM, l), c->n_kv_heads, r->rows->pos[i]);
        for (int head = 0; head < c->n_heads; head++) {
            const int kv = head / (c->n_heads / c->n_kv_heads) * c->head_dim;
            attend(r, att + head * c->head_dim, q + i * q_dim + head * c->head_dim, k + kv, v + kv, i);
        }
        product(h, weight(r, LF_W_ATTN_OUTPUT, l), att, NULL, c->dim, q_dim);
        for (int j = 0; j < c->dim; j++) x[i * c->dim + j] += h[j];
        norm(h, x + i * c->dim, weight(r, LF_W_FFN_NORM, l), c->dim, (double)c->norm_eps);
        product(gate, weight(r, LF_W_GATE, l), h, NULL, c->ffn_dim, c->dim);
        product(up, weight(r, LF_W_UP, l), h, NULL, c->ffn_dim, c->dim);
        for (int j = 0; j < c->ffn_dim; j++) up[j] *= gate[j] / (1.0 + exp(-gate[j]));
        product(h, weight(r, LF_W_DOWN, l), up, NULL, c->dim, c->ffn_dim);
        for (int j = 0; j < c->dim; j++) x[i * c->dim + j] += h[j];
    }
    free(h), free(gate), free(up), free(att), free(q), free(k), free(v);
}

void reference_logits(double *logits, const lf_params *params, const double *data, const lf_train_rows *rows)
{
    const lf_config *c = &params->config;
    reference r = {.params = params, .c = c, .data = data, .rows = rows};
    r.freqs = calloc((size_t)c->head_dim / 2, sizeof *r.freqs);
    lf_config_rope_freqs(r.freqs, c, params->rope_divisors);
    double *x = calloc((size_t)(rows->n * c->dim), sizeof *x), *h = calloc((size_t)c->dim, sizeof *h);
    for (int i = 0; i < rows->n; i++)
        memcpy(x + i * c->dim, weight(&r, LF_W_TOKEN_EMBD, 0) + rows->token[i] * c->dim,
               (size_t)c->dim * sizeof *x);
    for (int l = 0; l < c->n_layers; l++) layer(&r, x, l);
    for (int i = 0; i < rows->n; i++) {
        norm(h, x + i * c->dim, weight(&r, LF_W_OUTPUT_NORM, 0), c->dim, (double)c->norm_eps);
        product(logits + i * c->n_vocab, weight(&r, c->tied ? LF_W_TOKEN_EMBD : LF_W_OUTPUT, 0), h, NULL,
                c->n_vocab, c->dim);
    }
    free(r.freqs), free(x), free(h);
}

double reference_loss(const lf_params *params, const double *data, const lf_train_rows *rows,
                      const lf_cross_entropy *ce)
{
    const int n_vocab = params->config.n_vocab;
    double *logits = calloc((size_t)(rows->n * n_vocab), sizeof *logits), loss = 0.0;
    reference_logits(logits, params, data, rows);
    for (int i = 0; i < rows->n; i++) {
        if (ce->target[i] < 0) continue;
        const double *row = logits + i * n_vocab;
        double max = row[0], sum = 0.0;
        for (int j = 1; j < n_vocab; j++) max = fmax(max, row[j]);
        for (int j = 0; j < n_vocab; j++) sum += exp(row[j] - max);
        loss += ce->scale * (ce->weight ? (double)ce->weight[i] : 1.0) *
                (log(sum) + max - row[ce->target[i]]);
    }
    free(logits);
    return loss;
}
