/* The kernels over single rows, the body of the vector versions. A file of one instruction set includes its lanes
 * (vector_lanes_*.h), then this, and calls vector_init. 16 inputs at a time are the 16 lanes of kernel.h; those past the
 * end are zeros, which change no sum. */
#ifndef LF_KERNEL_X86_VECTOR_BODY_H
#define LF_KERNEL_X86_VECTOR_BODY_H

#include "kernel/tables.h"
#include "kernel/vector_int.h"
#include "kernel/x86/simd.h"

enum { LANES = 16 };

/* The first n (at most 16) floats at p, then zeros. */
static inline lanes load_first(const float *p, int n)
{
    float padded[LANES] = {0};
    if (n >= LANES) return lanes_load(p);
    memcpy(padded, p, (size_t)n * sizeof *p);
    return lanes_load(padded);
}

static inline void store_first(float *p, lanes x, int n)
{
    float whole[LANES];
    if (n >= LANES) {
        lanes_store(p, x);
    } else {
        lanes_store(whole, x);
        memcpy(p, whole, (size_t)n * sizeof *p);
    }
}

/* Rounds by integer arithmetic: the processor's own conversion to bf16 would flush subnormals. */
static void act_part_bf16(void *dst, int n, const float *x, int first, int count)
{
    uint16_t *h = (uint16_t *)dst + first;
    for (int i = 0; i < count; i += LANES) lanes_store_bf16(h + i, load_first(x + i, count - i));
    if (first + count == n) act_pad(LF_ACT_BF16, dst, n);
}

static void act_part_q8(void *dst, int n, const float *x, int first, int count)
{
    const lf_act_q8 row = lf_act_q8_at(dst, n);
    for (int b = first / ACT_BLOCK, i = 0; i < count; b++, i += ACT_BLOCK) {
        const lanes a = load_first(x + i, count - i);
        const lanes c = count - i > LANES ? load_first(x + i + LANES, count - i - LANES) : lanes_set(0.0f);
        const block_scale scale = block_scale_of(lanes_amax_bits(a, c));
        int8_t *q = row.q + b * ACT_BLOCK;
        int32_t *sum = row.sum + 2 * b;
        row.d[b] = scale.d;
        if (scale.inverse != 0.0f) {
            sum[0] = lanes_store_i8(q, lanes_mul(a, lanes_set(scale.inverse)));
            sum[1] = lanes_store_i8(q + LANES, lanes_mul(c, lanes_set(scale.inverse)));
        } else {
            memset(q, 0, ACT_BLOCK);
            sum[0] = sum[1] = 0;
        }
        row.ds[b] = scale.d * (float)(sum[0] + sum[1]);
        row.start[b] = -LF_ACT_Q8_BIAS * (sum[0] + sum[1]);
    }
    if (first + count == n) act_pad(LF_ACT_Q8, dst, n);
}

static void rms_norm(float *y, const float *x, const float *w, int n, float eps)
{
    lanes sum = lanes_set(0.0f);
    for (int i = 0; i < n; i += LANES) {
        const lanes v = load_first(x + i, n - i);
        sum = lanes_fma(v, v, sum);
    }
    const lanes r = lanes_set(rms_inverse(lanes_fold_sum(sum), n, eps));
    for (int i = 0; i < n; i += LANES) {
        const lanes scaled = lanes_mul(load_first(x + i, n - i), r);
        store_first(y + i, lanes_mul(scaled, load_first(w + i, n - i)), n - i);
    }
}

static void silu_mul(float *y, const float *gate, const float *up, int n)
{
    for (int i = 0; i < n; i += LANES) {
        const lanes g = load_first(gate + i, n - i);
        const lanes divisor = lanes_add(lanes_set(1.0f), lanes_exp(lanes_negate(g)));
        store_first(y + i, lanes_mul(lanes_div(g, divisor), load_first(up + i, n - i)), n - i);
    }
}

static void attend_merge(float *o, float *m, float *l, const float *o_part, float m_part, float l_part, int n)
{
    if (m_part == -INFINITY) return;
    const merge_factors by = merge_factors_of(m, l, m_part, l_part);
    const lanes old = lanes_set(by.old), part = lanes_set(by.part);
    for (int i = 0; i < n; i += LANES) {
        const lanes scaled = lanes_mul(load_first(o_part + i, n - i), part);
        store_first(o + i, lanes_fma(load_first(o + i, n - i), old, scaled), n - i);
    }
}

static void attend_finish(float *y, const float *o, float l, int n)
{
    const lanes zero = lanes_set(0.0f), divisor = lanes_set(l);
    for (int i = 0; i < n; i += LANES)
        store_first(y + i, lanes_div(lanes_add(load_first(o + i, n - i), zero), divisor), n - i);
}

static float highest(const float *x, int n)
{
    enum { ACCUMULATORS = 4 };
    lanes max[ACCUMULATORS];
    float rest = -INFINITY;
    int i = 0;
    UNROLL (j, ACCUMULATORS) max[j] = lanes_set(-INFINITY);
    for (; i + ACCUMULATORS * LANES <= n; i += ACCUMULATORS * LANES)
        UNROLL (j, ACCUMULATORS) max[j] = lanes_max(lanes_load(x + i + j * LANES), max[j]);
    for (; i < n; i++) rest = x[i] > rest ? x[i] : rest;
    const float all = lanes_fold_max(lanes_max(lanes_max(max[0], max[1]), lanes_max(max[2], max[3])));
    return all > rest ? all : rest;
}

static void add(float *y, const float *x, int n)
{
    for (int i = 0; i < n; i += LANES)
        store_first(y + i, lanes_add(load_first(y + i, n - i), load_first(x + i, n - i)), n - i);
}

static void rope(float *x, const float *cos, const float *sin, int n_heads, int head_dim)
{
    const int half = head_dim / 2;
    for (int h = 0; h < n_heads; h++, x += head_dim) {
        for (int i = 0; i < half; i += LANES) {
            const int n = half - i;
            const lanes a = load_first(x + i, n), b = load_first(x + i + half, n);
            const lanes c = load_first(cos + i, n), s = load_first(sin + i, n);
            store_first(x + i, lanes_fma(a, c, lanes_negate(lanes_mul(b, s))), n);
            store_first(x + i + half, lanes_fma(a, s, lanes_mul(b, c)), n);
        }
    }
}

static void vector_init(lf_kernels *k)
{
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

#endif
