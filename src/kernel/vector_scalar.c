/* The kernels over single rows: the specification of kernel.h and act.h. */
#include "kernel/exp.h"
#include "kernel/tables.h"
#include "kernel/vector_int.h"

#include <string.h>

float lf_exp(float x)
{
    return exp_spec(x);
}

/* ---- activations ---- */

static void act_row_f32(void *dst, const float *x, int n)
{
    uint8_t *bytes = dst;
    const size_t filled = (size_t)n * sizeof *x;
    memcpy(bytes, x, filled);
    memset(bytes + filled, 0, lf_act_row_bytes(LF_ACT_F32, n) - filled);
}

static void act_row_bf16(void *dst, const float *x, int n)
{
    uint16_t *h = dst;
    const int padded = (int)(lf_act_row_bytes(LF_ACT_BF16, n) / sizeof *h);
    for (int i = 0; i < n; i++) h[i] = lf_bf16_from_float(x[i]);
    for (int i = n; i < padded; i++) h[i] = 0;
}

/* One block: q (32), the scale d, and sum (2) of 16 q each. n: inputs that are there, at most 32. */
static void quantize_block(int8_t *q, float *d, int32_t *sum, const float *x, int n)
{
    uint32_t amax_bits = 0; /* as integers magnitudes have an order that takes NaNs in */
    for (int i = 0; i < n; i++) {
        const uint32_t magnitude = lf_float_to_bits(x[i]) & 0x7fffffff;
        if (magnitude > amax_bits) amax_bits = magnitude;
    }
    const block_scale scale = block_scale_of(amax_bits);
    *d = scale.d;
    sum[0] = sum[1] = 0;
    for (int i = 0; i < ACT_BLOCK; i++) {
        q[i] = i < n && scale.inverse != 0.0f ? (int8_t)lrintf(x[i] * scale.inverse) : 0;
        sum[i / 16] += q[i];
    }
}

static void act_row_q8(void *dst, const float *x, int n)
{
    memset(dst, 0, lf_act_row_bytes(LF_ACT_Q8, n));
    const lf_act_q8 row = lf_act_q8_at(dst, n);
    for (int b = 0; b * ACT_BLOCK < n; b++) {
        const int left = n - b * ACT_BLOCK;
        int32_t *sum = row.sum + 2 * b;
        quantize_block(row.q + b * ACT_BLOCK, &row.d[b], sum, x + b * ACT_BLOCK,
                       left < ACT_BLOCK ? left : ACT_BLOCK);
        row.ds[b] = row.d[b] * (float)(sum[0] + sum[1]);
    }
}

/* ---- the rest ---- */

static void rms_norm(float *y, const float *x, const float *w, int n, float eps)
{
    float lane[16] = {0};
    for (int i = 0; i < n; i++) lane[i % 16] = fmaf(x[i], x[i], lane[i % 16]);
    for (int half = 8; half >= 1; half /= 2)
        for (int i = 0; i < half; i++) lane[i] += lane[i + half];
    const float r = rms_inverse(lane[0], n, eps);
    for (int i = 0; i < n; i++) y[i] = x[i] * r * w[i];
}

static void silu_mul(float *y, const float *gate, const float *up, int n)
{
    for (int i = 0; i < n; i++) y[i] = gate[i] / (1.0f + exp_spec(-gate[i])) * up[i];
}

static void add(float *y, const float *x, int n)
{
    for (int i = 0; i < n; i++) y[i] += x[i];
}

static void rope(float *x, const float *cos, const float *sin, int n_heads, int head_dim)
{
    const int half = head_dim / 2;
    for (int h = 0; h < n_heads; h++, x += head_dim) {
        for (int i = 0; i < half; i++) {
            const float a = x[i], b = x[i + half];
            x[i] = fmaf(a, cos[i], -(b * sin[i]));
            x[i + half] = fmaf(a, sin[i], b * cos[i]);
        }
    }
}

void lf_vector_init_scalar(lf_kernels *k)
{
    k->act_row[LF_ACT_F32] = act_row_f32;
    k->act_row[LF_ACT_BF16] = act_row_bf16;
    k->act_row[LF_ACT_Q8] = act_row_q8;
    k->rms_norm = rms_norm;
    k->silu_mul = silu_mul;
    k->add = add;
    k->rope = rope;
}
