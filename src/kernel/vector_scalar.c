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

static void act_part_f32(void *dst, int n, const float *x, int first, int count)
{
    memcpy((float *)dst + first, x, (size_t)count * sizeof *x);
    if (first + count == n) act_pad(LF_ACT_F32, dst, n);
}

static void act_part_bf16(void *dst, int n, const float *x, int first, int count)
{
    uint16_t *h = (uint16_t *)dst + first;
    for (int i = 0; i < count; i++) h[i] = lf_bf16_from_float(x[i]);
    if (first + count == n) act_pad(LF_ACT_BF16, dst, n);
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

static void act_part_q8(void *dst, int n, const float *x, int first, int count)
{
    const lf_act_q8 row = lf_act_q8_at(dst, n);
    for (int b = first / ACT_BLOCK, i = 0; i < count; b++, i += ACT_BLOCK) {
        int32_t *sum = row.sum + 2 * b;
        quantize_block(row.q + b * ACT_BLOCK, &row.d[b], sum, x + i,
                       count - i < ACT_BLOCK ? count - i : ACT_BLOCK);
        row.ds[b] = row.d[b] * (float)(sum[0] + sum[1]);
        row.start[b] = -LF_ACT_Q8_BIAS * (sum[0] + sum[1]);
    }
    if (first + count == n) act_pad(LF_ACT_Q8, dst, n);
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

static void attend_merge(float *o, float *m, float *l, const float *o_part, float m_part, float l_part, int n)
{
    if (m_part == -INFINITY) return;
    const merge_factors by = merge_factors_of(m, l, m_part, l_part);
    for (int i = 0; i < n; i++) o[i] = fmaf(o[i], by.old, o_part[i] * by.part);
}

static void attend_finish(float *y, const float *o, float l, int n)
{
    for (int i = 0; i < n; i++) y[i] = (o[i] + 0.0f) / l;
}

static float highest(const float *x, int n)
{
    float max = -INFINITY;
    for (int i = 0; i < n; i++) max = x[i] > max ? x[i] : max;
    return max;
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
    k->act_part[LF_ACT_F32] = act_part_f32;
    k->act_part[LF_ACT_BF16] = act_part_bf16;
    k->act_part[LF_ACT_Q8] = act_part_q8;
    k->rms_norm = rms_norm;
    k->silu_mul = silu_mul;
    k->attend_merge = attend_merge;
    k->attend_finish = attend_finish;
    k->highest = highest;
    k->add = add;
    k->rope = rope;
}
