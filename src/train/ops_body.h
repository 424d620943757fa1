/* The functions of ops.h. A file that includes this names its table with LF_TRAIN_OPS and is compiled for
 * an instruction set; the loops are written for the compiler to vectorise. */
#include "train/ops.h"

#include "kernel/exp.h"

#include <assert.h>
#include <math.h>
#include <omp.h>
#include <string.h>

#define VECTOR              _Pragma("omp simd")
#define VECTOR_SUM(s)       VECTOR_PRAGMA(omp simd reduction(+ : s))
#define VECTOR_MAX(s)       VECTOR_PRAGMA(omp simd reduction(max : s))
#define VECTOR_PRAGMA(text) _Pragma(#text)

/* Rows pass through the first-level cache in slices of this many floats, in which operands are unpacked
 * and packed. */
enum { SLICE = 512 };

static inline int min_int(int a, int b)
{
    return a < b ? a : b;
}

/* ---- operands ---- */

static inline void pack(void *dst, size_t at, const float *restrict src, int n, lf_dtype dtype)
{
    if (dtype == LF_DTYPE_F32) {
        memcpy((float *)dst + at, src, (size_t)n * sizeof *src);
        return;
    }
    uint16_t *restrict h = (uint16_t *)dst + at;
    VECTOR
    for (int i = 0; i < n; i++) h[i] = lf_bf16_from_float(src[i]);
}

static inline void unpack(float *restrict dst, const void *src, size_t at, int n, lf_dtype dtype)
{
    if (dtype == LF_DTYPE_F32) {
        memcpy(dst, (const float *)src + at, (size_t)n * sizeof *dst);
        return;
    }
    const uint16_t *restrict h = (const uint16_t *)src + at;
    VECTOR
    for (int i = 0; i < n; i++) dst[i] = lf_bf16_to_float(h[i]);
}

static void to_bf16(uint16_t *out, const float *x, size_t n)
{
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < n; i += SLICE)
        pack(out, i, x + i, (int)(n - i < SLICE ? n - i : SLICE), LF_DTYPE_BF16);
}

static void add(float *out, const float *a, const float *b, size_t n)
{
#pragma omp parallel for simd schedule(static)
    for (size_t i = 0; i < n; i++) out[i] = a[i] + b[i];
}

/* out (width) += the rows of partial (n_rows, width), in their order. */
static void add_partials(float *out, const float *partial, int n_rows, size_t stride, int width)
{
    for (int r = 0; r < n_rows; r++) {
        const float *restrict row = partial + (size_t)r * stride;
        VECTOR
        for (int i = 0; i < width; i++) out[i] += row[i];
    }
}

/* ---- root mean square norm ---- */

static inline float inverse_rms(const float *x, int dim, float eps)
{
    float sum = 0.0f;
    VECTOR_SUM(sum)
    for (int i = 0; i < dim; i++) sum += x[i] * x[i];
    return 1.0f / sqrtf(sum / (float)dim + eps);
}

static void norm_row(const lf_norm *p, int i_row)
{
    const size_t at = (size_t)i_row * (size_t)p->dim;
    const float *restrict x = p->x + at;
    if (p->delta) {
        const float *restrict delta = p->delta + at;
        float *restrict sum = p->x_out + at;
        VECTOR
        for (int i = 0; i < p->dim; i++) sum[i] = x[i] + delta[i];
        x = sum;
    }
    const float inverse = inverse_rms(x, p->dim, p->eps);
    p->inverse[i_row] = inverse;
    for (int begin = 0; begin < p->dim; begin += SLICE) {
        const int n = min_int(SLICE, p->dim - begin);
        const float *restrict w = p->w + begin;
        float y[SLICE];
        VECTOR
        for (int i = 0; i < n; i++) y[i] = x[begin + i] * inverse * w[i];
        pack(p->y, at + (size_t)begin, y, n, p->operand);
    }
}

static void norm(const lf_norm *p)
{
#pragma omp parallel for schedule(static)
    for (int i = 0; i < p->n; i++) norm_row(p, i);
}

/* With h = x / rms:  dx = (w dy - h mean(h w dy)) / rms  and  dw = sum over rows of h dy. */
static void norm_backward_row(const lf_norm_backward *p, int i_row, float *restrict dw)
{
    const size_t at = (size_t)i_row * (size_t)p->dim;
    const float *restrict x = p->x + at, *restrict dy = p->dy + at, *restrict w = p->w;
    float *restrict dx = p->dx + at;
    const float inverse = p->inverse[i_row];
    float dot = 0.0f;
    VECTOR_SUM(dot)
    for (int i = 0; i < p->dim; i++) dot += x[i] * w[i] * dy[i];
    const float pull = dot * inverse * inverse * inverse / (float)p->dim;
    VECTOR
    for (int i = 0; i < p->dim; i++) {
        dw[i] += dy[i] * x[i] * inverse;
        dx[i] += inverse * w[i] * dy[i] - pull * x[i];
    }
    if (p->dx_operand) pack(p->dx_operand, at, dx, p->dim, p->operand);
}

static void norm_backward(const lf_norm_backward *p)
{
    const int n_threads = omp_get_max_threads();
    memset(p->partial, 0, (size_t)n_threads * (size_t)p->dim * sizeof *p->partial);
#pragma omp parallel num_threads(n_threads)
    {
        float *dw = p->partial + (size_t)omp_get_thread_num() * (size_t)p->dim;
#pragma omp for schedule(static)
        for (int i = 0; i < p->n; i++) norm_backward_row(p, i, dw);
    }
    add_partials(p->dw, p->partial, n_threads, (size_t)p->dim, p->dim);
}

/* ---- bias, QK norm, rotation ---- */

/* What happens to a head on its way, by its index among queries, keys and values. */
typedef struct head_kind {
    const float *norm; /* (head_dim) or NULL */
    bool rotates;
    float scale;
} head_kind;

static inline head_kind kind_of(const lf_rotate *p, int i_head)
{
    if (i_head < p->n_heads) return (head_kind){p->q_norm, true, 1.0f / sqrtf((float)p->head_dim)};
    if (i_head < p->n_heads + p->n_kv_heads) return (head_kind){p->k_norm, true, 1.0f};
    return (head_kind){NULL, false, 1.0f};
}

/* The pairs (i, i + half) turned by their angles, and back. */
static inline void turn(float *restrict x, const float *restrict cos, const float *restrict sin, int half)
{
    VECTOR
    for (int i = 0; i < half; i++) {
        const float a = x[i], b = x[i + half];
        x[i] = a * cos[i] - b * sin[i];
        x[i + half] = a * sin[i] + b * cos[i];
    }
}

static inline void turn_back(float *restrict x, const float *restrict cos, const float *restrict sin,
                             int half)
{
    VECTOR
    for (int i = 0; i < half; i++) {
        const float a = x[i], b = x[i + half];
        x[i] = a * cos[i] + b * sin[i];
        x[i + half] = b * cos[i] - a * sin[i];
    }
}

static void rotate_row(const lf_rotate *p, int i_row)
{
    const int n_all = p->n_heads + 2 * p->n_kv_heads, d = p->head_dim, half = d / 2;
    float *qkv = p->qkv + (size_t)i_row * (size_t)(n_all * d);
    for (int h = 0; h < n_all; h++) {
        const head_kind kind = kind_of(p, h);
        float *restrict x = qkv + h * d, y[LF_TRAIN_HEAD_MAX];
        if (p->bias) {
            const float *restrict bias = p->bias + h * d;
            VECTOR
            for (int i = 0; i < d; i++) x[i] += bias[i];
        }
        if (kind.norm) {
            const float inverse = inverse_rms(x, d, p->eps);
            p->inverse[(size_t)i_row * (size_t)(p->n_heads + p->n_kv_heads) + (size_t)h] = inverse;
            VECTOR
            for (int i = 0; i < d; i++) y[i] = x[i] * inverse * kind.norm[i] * kind.scale;
        } else {
            VECTOR
            for (int i = 0; i < d; i++) y[i] = x[i] * kind.scale;
        }
        if (kind.rotates)
            turn(y, p->cos + (size_t)i_row * (size_t)half, p->sin + (size_t)i_row * (size_t)half, half);
        for (int i = d; i < p->dim_padded; i++) y[i] = 0.0f;
        const size_t at = ((size_t)h * (size_t)p->rows_padded + (size_t)i_row) * (size_t)p->dim_padded;
        pack(p->heads, at, y, p->dim_padded, p->heads_dtype);
    }
}

/* Rows past the last take part in the arithmetic of the last tile, with weight zero: they must not hold an
 * infinity of an earlier batch. */
static void clear_rows_past_end(const lf_rotate *p)
{
    const size_t item = p->heads_dtype == LF_DTYPE_F32 ? sizeof(float) : sizeof(uint16_t);
    const size_t row_bytes = (size_t)p->dim_padded * item, head_bytes = row_bytes * (size_t)p->rows_padded;
    const int n_end = min_int(p->rows_padded, (p->n + LF_TRAIN_TILE - 1) / LF_TRAIN_TILE * LF_TRAIN_TILE);
    for (int h = 0; h < p->n_heads + 2 * p->n_kv_heads; h++)
        memset((uint8_t *)p->heads + (size_t)h * head_bytes + (size_t)p->n * row_bytes, 0,
               (size_t)(n_end - p->n) * row_bytes);
}

static void rotate(const lf_rotate *p)
{
#pragma omp parallel for schedule(static)
    for (int i = 0; i < p->n; i++) rotate_row(p, i);
    clear_rows_past_end(p);
}

/* The gradient of one head's row as attention left it, made whole: parts of dq are added. */
static inline void gather_head(float *restrict dy, const lf_rotate_backward *b, int i_head, int i_row)
{
    const lf_rotate *p = b->forward;
    const size_t head_floats = (size_t)p->rows_padded * (size_t)p->dim_padded;
    const size_t row_at = (size_t)i_row * (size_t)p->dim_padded;
    if (i_head >= p->n_heads) {
        const int i_kv = i_head - p->n_heads;
        const float *from = i_kv < p->n_kv_heads ? b->dk + (size_t)i_kv * head_floats
                                                 : b->dv + (size_t)(i_kv - p->n_kv_heads) * head_floats;
        memcpy(dy, from + row_at, (size_t)p->head_dim * sizeof *dy);
        return;
    }
    memset(dy, 0, (size_t)p->head_dim * sizeof *dy);
    for (int part = 0; part < b->n_dq; part++) {
        const float *restrict from = b->dq +
                                     ((size_t)part * (size_t)p->n_heads + (size_t)i_head) * head_floats +
                                     row_at;
        VECTOR
        for (int i = 0; i < p->head_dim; i++) dy[i] += from[i];
    }
}

/* dy becomes the gradient of what was normed (x, float); d_norm is added to. */
static inline void head_norm_backward(float *restrict dy, float *restrict d_norm, const float *restrict x,
                                      const float *restrict w, float inverse, int d)
{
    float dot = 0.0f;
    VECTOR_SUM(dot)
    for (int i = 0; i < d; i++) dot += x[i] * w[i] * dy[i];
    const float pull = dot * inverse * inverse * inverse / (float)d;
    VECTOR
    for (int i = 0; i < d; i++) {
        d_norm[i] += dy[i] * x[i] * inverse;
        dy[i] = inverse * w[i] * dy[i] - pull * x[i];
    }
}

static void rotate_backward_row(const lf_rotate_backward *b, int i_row, float *partial)
{
    const lf_rotate *p = b->forward;
    const int n_all = p->n_heads + 2 * p->n_kv_heads, d = p->head_dim, half = d / 2;
    const size_t at = (size_t)i_row * (size_t)(n_all * d);
    float *d_bias = partial, *d_q_norm = d_bias + n_all * d, *d_k_norm = d_q_norm + d;
    for (int h = 0; h < n_all; h++) {
        const head_kind kind = kind_of(p, h);
        float dy[LF_TRAIN_HEAD_MAX];
        gather_head(dy, b, h, i_row);
        if (kind.rotates)
            turn_back(dy, p->cos + (size_t)i_row * (size_t)half, p->sin + (size_t)i_row * (size_t)half, half);
        if (kind.scale != 1.0f) {
            VECTOR
            for (int i = 0; i < d; i++) dy[i] *= kind.scale;
        }
        if (kind.norm)
            head_norm_backward(dy, h < p->n_heads ? d_q_norm : d_k_norm, p->qkv + at + h * d, kind.norm,
                               p->inverse[(size_t)i_row * (size_t)(p->n_heads + p->n_kv_heads) + (size_t)h],
                               d);
        if (b->d_bias) {
            float *restrict sum = d_bias + h * d;
            VECTOR
            for (int i = 0; i < d; i++) sum[i] += dy[i];
        }
        pack(b->dqkv, at + (size_t)(h * d), dy, d, b->operand);
    }
}

static void rotate_backward(const lf_rotate_backward *b)
{
    const lf_rotate *p = b->forward;
    const int n_threads = omp_get_max_threads(), d = p->head_dim;
    const int width = (p->n_heads + 2 * p->n_kv_heads) * d;
    const size_t stride = (size_t)(width + 2 * d);
    memset(b->partial, 0, (size_t)n_threads * stride * sizeof *b->partial);
#pragma omp parallel num_threads(n_threads)
    {
        float *partial = b->partial + (size_t)omp_get_thread_num() * stride;
#pragma omp for schedule(static)
        for (int i = 0; i < p->n; i++) rotate_backward_row(b, i, partial);
    }
    if (b->d_bias) add_partials(b->d_bias, b->partial, n_threads, stride, width);
    if (b->d_q_norm) add_partials(b->d_q_norm, b->partial + width, n_threads, stride, d);
    if (b->d_k_norm) add_partials(b->d_k_norm, b->partial + width + d, n_threads, stride, d);
}

/* ---- SwiGLU ---- */

static void swiglu(void *act, const void *gate_up, lf_dtype operand, int n, int ffn)
{
#pragma omp parallel for schedule(static)
    for (int row = 0; row < n; row++) {
        const size_t at = (size_t)row * (size_t)ffn;
        for (int begin = 0; begin < ffn; begin += SLICE) {
            const int len = min_int(SLICE, ffn - begin);
            float g[SLICE], u[SLICE], y[SLICE];
            unpack(g, gate_up, 2 * at + (size_t)begin, len, operand);
            unpack(u, gate_up, 2 * at + (size_t)(ffn + begin), len, operand);
            VECTOR
            for (int i = 0; i < len; i++) y[i] = g[i] / (1.0f + exp_spec(-g[i])) * u[i];
            pack(act, at + (size_t)begin, y, len, operand);
        }
    }
}

/* With s = sigmoid(g):  act = g s u,  du = d g s,  dg = d u s (1 + g (1 - s)). */
static void swiglu_backward(void *d_gate_up, void *act, const void *gate_up, const float *d_act,
                            lf_dtype operand, int n, int ffn)
{
#pragma omp parallel for schedule(static)
    for (int row = 0; row < n; row++) {
        const size_t at = (size_t)row * (size_t)ffn;
        for (int begin = 0; begin < ffn; begin += SLICE) {
            const int len = min_int(SLICE, ffn - begin);
            const float *restrict d = d_act + at + begin;
            float g[SLICE], u[SLICE], y[SLICE];
            unpack(g, gate_up, 2 * at + (size_t)begin, len, operand);
            unpack(u, gate_up, 2 * at + (size_t)(ffn + begin), len, operand);
            VECTOR
            for (int i = 0; i < len; i++) {
                const float s = 1.0f / (1.0f + exp_spec(-g[i])), silu = g[i] * s;
                y[i] = silu * u[i];
                g[i] = d[i] * u[i] * s * (1.0f + g[i] * (1.0f - s));
                u[i] = d[i] * silu;
            }
            pack(act, at + (size_t)begin, y, len, operand);
            pack(d_gate_up, 2 * at + (size_t)begin, g, len, operand);
            pack(d_gate_up, 2 * at + (size_t)(ffn + begin), u, len, operand);
        }
    }
}

/* ---- softmax ---- */

static double cross_entropy(float *restrict x, int n, int target, float weight)
{
    assert(n >= 1 && target >= 0 && target < n);
    float max = x[0], sum = 0.0f;
    VECTOR_MAX(max)
    for (int i = 0; i < n; i++) max = x[i] > max ? x[i] : max;
    const float at_target = x[target] - max;
    VECTOR_SUM(sum)
    for (int i = 0; i < n; i++) {
        x[i] = exp_spec(x[i] - max);
        sum += x[i];
    }
    const float scale = weight / sum;
    VECTOR
    for (int i = 0; i < n; i++) x[i] *= scale;
    x[target] -= weight;
    /* cppcheck-suppress invalidFunctionArg ; n >= 1: the largest has exp(0) = 1 in the sum */
    return log((double)sum) - (double)at_target;
}

/* log of the sum of exp(x): what turns x into logarithms of probabilities. */
static float log_sum_exp(const float *restrict x, int n)
{
    float max = x[0], sum = 0.0f;
    VECTOR_MAX(max)
    for (int i = 0; i < n; i++) max = x[i] > max ? x[i] : max;
    VECTOR_SUM(sum)
    for (int i = 0; i < n; i++) sum += exp_spec(x[i] - max);
    /* cppcheck-suppress invalidFunctionArg ; the largest has exp(0) = 1 in the sum */
    return max + logf(sum);
}

static double log_loss(const float *x, int n, int target)
{
    assert(n >= 1 && target >= 0 && target < n);
    return (double)log_sum_exp(x, n) - (double)x[target];
}

static double forward_kl(float *restrict x, const float *restrict teacher, int n, float weight)
{
    assert(n >= 1);
    const float x_shift = log_sum_exp(x, n), teacher_shift = log_sum_exp(teacher, n);
    float sum = 0.0f;
    VECTOR_SUM(sum)
    for (int i = 0; i < n; i++) {
        const float log_q = x[i] - x_shift, log_p = teacher[i] - teacher_shift;
        const float q = exp_spec(log_q), p = exp_spec(log_p);
        sum += p * (log_p - log_q);
        x[i] = weight * (q - p);
    }
    return (double)sum;
}

/* d/dx_i of sum_j q_j r_j with r = log(q / p):  q_i (r_i - the sum). */
static double reverse_kl(float *restrict x, const float *restrict teacher, int n, float weight)
{
    assert(n >= 1);
    const float x_shift = log_sum_exp(x, n), teacher_shift = log_sum_exp(teacher, n);
    float sum = 0.0f;
    VECTOR_SUM(sum)
    for (int i = 0; i < n; i++) {
        const float log_q = x[i] - x_shift;
        sum += exp_spec(log_q) * (log_q - (teacher[i] - teacher_shift));
    }
    VECTOR
    for (int i = 0; i < n; i++) {
        const float log_q = x[i] - x_shift;
        x[i] = weight * exp_spec(log_q) * (log_q - (teacher[i] - teacher_shift) - sum);
    }
    return (double)sum;
}

const lf_train_ops LF_TRAIN_OPS = {
    .norm = norm,
    .norm_backward = norm_backward,
    .rotate = rotate,
    .rotate_backward = rotate_backward,
    .swiglu = swiglu,
    .swiglu_backward = swiglu_backward,
    .add = add,
    .to_bf16 = to_bf16,
    .cross_entropy = cross_entropy,
    .log_loss = log_loss,
    .forward_kl = forward_kl,
    .reverse_kl = reverse_kl,
};
