/* exp(x) for floats, the scalar specification and its constants. The vector versions (x86/exp_avx2.h,
 * x86/exp_avx512.h) do the same operations in the same order and so give the same bits.
 *
 *   n = round(x / ln 2)        by adding and taking away 1.5 * 2^23, whose unit in the last place is 1
 *   r = x - n ln 2             ln 2 in two parts; |r| <= ln 2 / 2
 *   p = 1 + r q(r)             q of degree 5, fitted for the least relative error of p (2e-9)
 *   exp(x) = p 2^n             exact: p 2^n is never subnormal for x >= LF_EXP_MIN
 *
 * Above LF_EXP_MAX the argument is held there, where the result is already infinite. */
#ifndef LF_KERNEL_EXP_H
#define LF_KERNEL_EXP_H

#include "tensor/half.h"

#include <math.h>

#define LF_EXP_MIN    (-87.33f) /* exactly 0 below; ln 2^-126 = -87.336 */
#define LF_EXP_MAX    89.0f     /* ln FLT_MAX = 88.723 */
#define LF_EXP_LOG2E  0x1.715476p+0f
#define LF_EXP_LN2_HI 0x1.62e430p-1f
#define LF_EXP_LN2_LO (-0x1.05c610p-29f)
#define LF_EXP_ROUND  0x1.8p23f
#define LF_EXP_C1     0x1.000000p+0f
#define LF_EXP_C2     0x1.fffffcp-2f
#define LF_EXP_C3     0x1.55541ap-3f
#define LF_EXP_C4     0x1.555822p-5f
#define LF_EXP_C5     0x1.126792p-7f
#define LF_EXP_C6     0x1.6ae720p-10f

/* The bits of LF_EXP_ROUND + n, less this, are n + 254: the sum of the biased exponents of two powers of two
 * whose product is 2^n. One power alone could not be 2^128, which x near LF_EXP_MAX needs. */
#define LF_EXP_BIAS (0x4b400000u - 254u)

static inline float exp_spec(float x)
{
    if (x < LF_EXP_MIN) return 0.0f;
    const float held = x > LF_EXP_MAX ? LF_EXP_MAX : x;
    const float rounded = fmaf(held, LF_EXP_LOG2E, LF_EXP_ROUND);
    const float n = rounded - LF_EXP_ROUND;
    const float r = fmaf(n, -LF_EXP_LN2_LO, fmaf(n, -LF_EXP_LN2_HI, held));

    float q = fmaf(LF_EXP_C6, r, LF_EXP_C5);
    q = fmaf(q, r, LF_EXP_C4);
    q = fmaf(q, r, LF_EXP_C3);
    q = fmaf(q, r, LF_EXP_C2);
    q = fmaf(q, r, LF_EXP_C1);
    const float p = fmaf(q, r, 1.0f);

    const uint32_t exponents = lf_float_to_bits(rounded) - LF_EXP_BIAS, first = exponents >> 1;
    return p * lf_bits_to_float(first << 23) * lf_bits_to_float((exponents - first) << 23);
}

#endif
