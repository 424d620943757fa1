/* Attention over KV tiles: the specification of kernel.h in plain C, one query at a time and one position
 * after the other. Each vector kernel must give these bits (tests/test_attend.c). */
#include "kernel/attend_int.h"
#include "kernel/bf16_pair.h"
#include "kernel/exp.h"
#include "kernel/tables.h"

#include <assert.h>
#include <math.h>
#include <string.h>

enum { LANES = 16, Q8_BLOCK = 32, Q8_BIAS = 128 };

size_t lf_attend_scratch_bytes(int n_q)
{
    const size_t group = n_q < ATTEND_GROUP ? (size_t)n_q : ATTEND_GROUP;
    return (group * LF_ATTN_POS + ATTEND_ROWS * LF_HEAD_DIM_MAX) * sizeof(float);
}

/* q . k of one position, q a row of the product's form (kernel/act.h), k a tile's K (kernel/kv_tile.h). */
static float dot_f32(const float *q, const float *k, int slot, int head_dim)
{
    float acc = 0.0f;
    for (int i = 0; i < head_dim; i++) acc = fmaf(q[i], k[i * LF_TILE_POS + slot], acc);
    return acc;
}

static float dot_f16(const float *q, const uint16_t *k, int slot, int head_dim)
{
    float acc = 0.0f;
    for (int i = 0; i < head_dim; i++) acc = fmaf(q[i], lf_f16_to_float(k[i * LF_TILE_POS + slot]), acc);
    return acc;
}

static float dot_bf16(const uint16_t *q, const uint16_t *k, int slot, int head_dim)
{
    float acc = 0.0f;
    for (int i = 0; i < head_dim; i += 2)
        acc = bf16_pair_fma(q + i, k + (i / 2 * LF_TILE_POS + slot) * 2, acc);
    return acc;
}

static float dot_q8(const void *q_row, const uint8_t *k, int slot, int head_dim)
{
    const lf_act_q8 q = lf_act_q8_at(q_row, head_dim);
    const int n_blocks = (head_dim + Q8_BLOCK - 1) / Q8_BLOCK;
    const uint16_t *scales = (const void *)(k + n_blocks * Q8_BLOCK * LF_TILE_POS); /* (n_blocks, 16) */
    float acc = 0.0f;
    for (int b = 0; b < n_blocks; b++) {
        int dot = 0;
        for (int i = b * Q8_BLOCK; i < (b + 1) * Q8_BLOCK; i++)
            dot += (k[(i / 4 * LF_TILE_POS + slot) * 4 + i % 4] - Q8_BIAS) * q.q[i];
        acc = fmaf((float)dot, lf_f16_to_float(scales[b * LF_TILE_POS + slot]) * q.d[b], acc);
    }
    return acc;
}

static float dot(const lf_kv_layout *layout, const void *q, const void *tile, int slot)
{
    switch (layout->dtype) {
    case LF_DTYPE_F32: return dot_f32(q, tile, slot, layout->head_dim);
    case LF_DTYPE_F16: return dot_f16(q, tile, slot, layout->head_dim);
    case LF_DTYPE_BF16: return dot_bf16(q, tile, slot, layout->head_dim);
    default: return dot_q8(q, tile, slot, layout->head_dim);
    }
}

/* o_b (dim_padded) += p v of one position of V. */
static void add_value_f32(float *o_b, float p, const float *v, int slot, int dim16)
{
    for (int i = 0; i < dim16; i++) o_b[i] = fmaf(p, v[slot * dim16 + i], o_b[i]);
}

static void add_value_f16(float *o_b, float p, const uint16_t *v, int slot, int dim16)
{
    for (int i = 0; i < dim16; i++) o_b[i] = fmaf(p, lf_f16_to_float(v[slot * dim16 + i]), o_b[i]);
}

static void add_value_q8(float *o_b, float p, const int8_t *v, int slot, int dim32)
{
    const uint16_t *scales = (const void *)(v + LF_TILE_POS * dim32); /* (16, n_blocks) */
    for (int i = 0; i < dim32; i++) {
        const float d = lf_f16_to_float(scales[(slot * dim32 + i) / Q8_BLOCK]);
        o_b[i] = fmaf(p, d * (float)v[slot * dim32 + i], o_b[i]);
    }
}

/* o_b (dim16) += p v of the positions slot and slot + 1, of which the second may be invisible. */
static void add_value_pair(float *o_b, const float p[2], const uint16_t *v, int slot, int dim16, bool both)
{
    for (int i = 0; i < dim16; i++) {
        const uint16_t *stored = v + (slot / 2 * dim16 + i) * 2;
        const uint16_t pair_p[2] = {lf_bf16_from_float(p[0]), both ? lf_bf16_from_float(p[1]) : 0};
        const uint16_t pair_v[2] = {stored[0], both ? stored[1] : 0};
        o_b[i] = bf16_pair_fma(pair_p, pair_v, o_b[i]);
    }
}

/* o_b (dim_padded) = sum of p_j v_j over the n positions. */
static void sum_values(float *o_b, const float *p, const lf_kv_layout *layout, const void *const *tiles,
                       int n)
{
    const int dim = layout->dim_padded;
    memset(o_b, 0, (size_t)dim * sizeof *o_b);
    for (int j = 0; j < n; j++) {
        const void *v = (const uint8_t *)tiles[j / LF_TILE_POS] + layout->v_offset;
        const int slot = j % LF_TILE_POS;
        switch (layout->dtype) {
        case LF_DTYPE_F32: add_value_f32(o_b, p[j], v, slot, dim); break;
        case LF_DTYPE_F16: add_value_f16(o_b, p[j], v, slot, dim); break;
        case LF_DTYPE_BF16:
            if (slot % 2 == 0) add_value_pair(o_b, p + j, v, slot, dim, j + 1 < n);
            break;
        default: add_value_q8(o_b, p[j], v, slot, dim); break;
        }
    }
}

/* The two folds of 16 lanes to one. A NaN never replaces a maximum; it comes back as a NaN of exp. */
static float fold_max(float lane[LANES])
{
    for (int width = LANES / 2; width > 0; width /= 2)
        for (int i = 0; i < width; i++) lane[i] = lane[i + width] > lane[i] ? lane[i + width] : lane[i];
    return lane[0];
}

static float fold_sum(float lane[LANES])
{
    for (int width = LANES / 2; width > 0; width /= 2)
        for (int i = 0; i < width; i++) lane[i] += lane[i + width];
    return lane[0];
}

/* p (n): scores in, exp(score - maximum) out; returns the maximum and stores the sum. */
static float softmax(float *p, int n, bool round_to_bf16, float *sum)
{
    float lane[LANES];
    for (int i = 0; i < LANES; i++) lane[i] = -INFINITY;
    for (int j = 0; j < n; j++) lane[j % LANES] = p[j] > lane[j % LANES] ? p[j] : lane[j % LANES];
    const float maximum = fold_max(lane);

    memset(lane, 0, sizeof lane);
    for (int j = 0; j < n; j++) {
        p[j] = exp_spec(p[j] - maximum);
        if (round_to_bf16) p[j] = lf_bf16_to_float(lf_bf16_from_float(p[j]));
        lane[j % LANES] += p[j];
    }
    *sum = fold_sum(lane);
    return maximum;
}

/* The sums of the tiles of p (n). */
static void sum_tiles(float *sum, const float *p, int n)
{
    for (int j = 0; j < n; j += LF_TILE_POS) {
        float lane[LANES] = {0};
        memcpy(lane, p + j, (size_t)(n - j < LANES ? n - j : LANES) * sizeof *p);
        *sum++ = fold_sum(lane);
    }
}

/* Takes the block's (o_b, m_b, l_b) into the running (o, m, l). */
static void merge(float *o, float *m, float *l, const float *o_b, float m_b, float l_b, int dim)
{
    const float m_new = m_b > *m ? m_b : *m;
    const float a = exp_spec(*m - m_new), b = exp_spec(m_b - m_new);
    *m = m_new;
    *l = fmaf(*l, a, l_b * b);
    for (int i = 0; i < dim; i++) o[i] = fmaf(o[i], a, o_b[i] * b);
}

/* One query against one block, of which it sees n > 0 positions. tile_sum (the tiles that it sees) and block_max, or NULL:
 * its mass. */
static void attend_block(float *o, float *m, float *l, const lf_kv_layout *layout, const void *const *tiles,
                         const void *q, int n, float scale, float *tile_sum, float *block_max, float *scratch)
{
    float *p = scratch, *o_b = p + LF_ATTN_POS, l_b; /* (LF_ATTN_POS), (dim_padded) */
    for (int j = 0; j < n; j++) p[j] = scale * dot(layout, q, tiles[j / LF_TILE_POS], j % LF_TILE_POS);
    const float m_b = softmax(p, n, layout->dtype == LF_DTYPE_BF16, &l_b);
    if (tile_sum) {
        sum_tiles(tile_sum, p, n);
        *block_max = m_b;
    }
    sum_values(o_b, p, layout, tiles, n);
    merge(o, m, l, o_b, m_b, l_b, layout->dim_padded);
}

static void attend_scalar(float *o, size_t o_stride, float *m, float *l, const lf_kv_layout *layout,
                          const void *const *tiles, int n_tiles, const void *q, size_t q_stride,
                          const int *n_visible, int n_q, float scale, const lf_attend_mass *mass,
                          void *scratch)
{
    for (int i = 0; i < n_q; i++) {
        const void *q_row = (const uint8_t *)q + (size_t)i * q_stride;
        assert(n_visible[i] <= n_tiles * LF_TILE_POS);
        for (int first = 0; first < n_visible[i]; first += LF_ATTN_POS) {
            const int n = n_visible[i] - first < LF_ATTN_POS ? n_visible[i] - first : LF_ATTN_POS;
            float *tile_sum = mass ? mass->sum + (size_t)i * mass->sum_stride + (size_t)(first / LF_TILE_POS)
                                   : NULL;
            float *block_max = mass ? mass->max + (size_t)i * mass->max_stride + (size_t)(first / LF_ATTN_POS)
                                    : NULL;
            attend_block(o + (size_t)i * o_stride, m + i, l + i, layout, tiles + first / LF_TILE_POS, q_row,
                         n, scale, tile_sum, block_max, scratch);
        }
    }
}

void lf_attend_init_scalar(lf_kernels *k)
{
    for (int dtype = 0; dtype < LF_DTYPE_COUNT; dtype++) k->attend[dtype] = NULL;
    k->attend[LF_DTYPE_F32] = k->attend[LF_DTYPE_F16] = attend_scalar;
    k->attend[LF_DTYPE_BF16] = k->attend[LF_DTYPE_Q8_0] = attend_scalar;
}
