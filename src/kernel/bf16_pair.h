/* One step of a bf16 product as vdpbf16ps takes it, for the scalar kernels: a pair of elements, the odd one
 * first, each by a multiply-add of one rounding in which subnormal inputs (the accumulator too) and subnormal
 * results are zeros of the same sign. Vector code without that instruction gets the same bits from plain
 * multiply-adds under MXCSR's FTZ and DAZ. */
#ifndef LF_KERNEL_BF16_PAIR_H
#define LF_KERNEL_BF16_PAIR_H

#include "tensor/half.h"

#include <math.h>

static inline float bf16_flush(float x)
{
    return fabsf(x) < 0x1p-126f ? copysignf(0.0f, x) : x;
}

/* The processor calls a result subnormal when it lies below 2^-126 after rounding to 24 bits with no limit on
 * the exponent, that is below 2^-126 - 2^-151 before it; fmaf has then possibly rounded it up to 2^-126. The
 * sum in double is exact that near to 2^-126: a b has 16 bits, and acc is a multiple of 2^-149. */
static inline float bf16_fma(float a, float b, float acc)
{
    const float x = bf16_flush(a), y = bf16_flush(b), z = bf16_flush(acc);
    const float result = fmaf(x, y, z);
    if (!(fabsf(result) <= 0x1p-126f)) return result;
    const double exact = (double)x * (double)y + (double)z;
    return fabs(exact) < 0x1p-126 - 0x1p-151 ? copysignf(0.0f, result) : result;
}

static inline float bf16_pair_fma(const uint16_t a[2], const uint16_t b[2], float acc)
{
    acc = bf16_fma(lf_bf16_to_float(a[1]), lf_bf16_to_float(b[1]), acc);
    return bf16_fma(lf_bf16_to_float(a[0]), lf_bf16_to_float(b[0]), acc);
}

#endif
