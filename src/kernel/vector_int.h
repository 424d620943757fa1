/* What the kernels over single rows share at all levels: the few scalar decisions inside them. */
#ifndef LF_KERNEL_VECTOR_INT_H
#define LF_KERNEL_VECTOR_INT_H

#include "kernel/act.h"
#include "kernel/exp.h"
#include "tensor/half.h"

#include <math.h>
#include <string.h>

enum { ACT_BLOCK = 32 };

/* The scale d of a q8 block, and what its inputs are multiplied by: 0 where every q is 0. */
typedef struct block_scale {
    float d, inverse;
} block_scale;

/* amax_bits: the largest magnitude of the block as its bits, by which NaN > infinity > any number. */
static inline block_scale block_scale_of(uint32_t amax_bits)
{
    const float amax = lf_bits_to_float(amax_bits);
    if (amax_bits >= 0x7f800000) return (block_scale){.d = NAN};
    if (amax < LF_ACT_Q8_TINY) return (block_scale){0};
    return (block_scale){.d = amax / 127.0f, .inverse = 127.0f / amax};
}

/* Zeroes what follows the last input of a row: in q8, whole blocks of 32 are written before. */
static inline void act_pad(lf_act act, void *dst, int n)
{
    const size_t bytes = lf_act_row_bytes(act, n);
    uint8_t *row = dst;
    if (act != LF_ACT_Q8) {
        const size_t filled = (size_t)n * (act == LF_ACT_F32 ? sizeof(float) : sizeof(uint16_t));
        memset(row + filled, 0, bytes - filled);
        return;
    }
    const lf_act_q8 q8 = lf_act_q8_at(dst, n);
    const size_t n_blocks = ((size_t)n + ACT_BLOCK - 1) / ACT_BLOCK;
    uint8_t *const d = (uint8_t *)q8.d, *const ds = (uint8_t *)q8.ds;
    uint8_t *const start = (uint8_t *)q8.start, *const sum = (uint8_t *)q8.sum;
    uint8_t *const q_end = (uint8_t *)q8.q + n_blocks * ACT_BLOCK;
    memset(q_end, 0, (size_t)(d - q_end));
    memset(q8.d + n_blocks, 0, (size_t)(ds - (uint8_t *)(q8.d + n_blocks)));
    memset(q8.ds + n_blocks, 0, (size_t)(start - (uint8_t *)(q8.ds + n_blocks)));
    memset(q8.start + n_blocks, 0, (size_t)(sum - (uint8_t *)(q8.start + n_blocks)));
    memset(q8.sum + 2 * n_blocks, 0, (size_t)(row + bytes - (uint8_t *)(q8.sum + 2 * n_blocks)));
}

/* What the old state and a part are multiplied by when they are merged. */
typedef struct merge_factors {
    float old, part;
} merge_factors;

/* Merges m and l, and tells what to do with o. */
static inline merge_factors merge_factors_of(float *m, float *l, float m_part, float l_part)
{
    const float m_new = m_part > *m ? m_part : *m;
    const merge_factors by = {exp_spec(*m - m_new), exp_spec(m_part - m_new)};
    *m = m_new;
    *l = fmaf(*l, by.old, l_part * by.part);
    return by;
}

/* 1 / rms, of the sum of n squares. */
static inline float rms_inverse(float sum, int n, float eps)
{
    return 1.0f / sqrtf(sum / (float)n + eps);
}

#endif
