/* What the kernels over single rows share at all levels: the few scalar decisions inside them. */
#ifndef LF_KERNEL_VECTOR_INT_H
#define LF_KERNEL_VECTOR_INT_H

#include "kernel/act.h"
#include "tensor/half.h"

#include <math.h>

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

/* 1 / rms, of the sum of n squares. */
static inline float rms_inverse(float sum, int n, float eps)
{
    return 1.0f / sqrtf(sum / (float)n + eps);
}

#endif
