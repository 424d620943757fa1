/* exp_spec of kernel/exp.h for 16 floats: the same operations in the same order, the same bits. */
#ifndef LF_KERNEL_X86_EXP_AVX512_H
#define LF_KERNEL_X86_EXP_AVX512_H

#include "kernel/exp.h"

#include <immintrin.h>

static inline __m512 exp_avx512(__m512 x)
{
    const __m512 round = _mm512_set1_ps(LF_EXP_ROUND);
    const __m512 held = _mm512_min_ps(_mm512_set1_ps(LF_EXP_MAX), x); /* a NaN x is the second: it stays */
    const __m512 n = _mm512_sub_ps(_mm512_fmadd_ps(held, _mm512_set1_ps(LF_EXP_LOG2E), round), round);
    __m512 r = _mm512_fmadd_ps(n, _mm512_set1_ps(-LF_EXP_LN2_HI), held);
    r = _mm512_fmadd_ps(n, _mm512_set1_ps(-LF_EXP_LN2_LO), r);

    __m512 p = _mm512_fmadd_ps(_mm512_set1_ps(LF_EXP_C6), r, _mm512_set1_ps(LF_EXP_C5));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(LF_EXP_C4));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(LF_EXP_C3));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(LF_EXP_C2));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(LF_EXP_C1));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f));

    /* p 2^n is exact or infinite, so one instruction does what the specification needs two products for. */
    const __mmask16 kept = _mm512_cmp_ps_mask(x, _mm512_set1_ps(LF_EXP_MIN), _CMP_NLT_UQ);
    return _mm512_maskz_scalef_ps(kept, p, n);
}

#endif
