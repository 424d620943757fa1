/* exp_spec of kernel/exp.h for 8 floats: the same operations in the same order, the same bits. */
#ifndef LF_KERNEL_X86_EXP_AVX2_H
#define LF_KERNEL_X86_EXP_AVX2_H

#include "kernel/exp.h"

#include <immintrin.h>

static inline __m256 exp_avx2(__m256 x)
{
    const __m256 round = _mm256_set1_ps(LF_EXP_ROUND);
    const __m256 held = _mm256_min_ps(_mm256_set1_ps(LF_EXP_MAX), x); /* a NaN x is the second: it stays */
    const __m256 rounded = _mm256_fmadd_ps(held, _mm256_set1_ps(LF_EXP_LOG2E), round);
    const __m256 n = _mm256_sub_ps(rounded, round);
    __m256 r = _mm256_fmadd_ps(n, _mm256_set1_ps(-LF_EXP_LN2_HI), held);
    r = _mm256_fmadd_ps(n, _mm256_set1_ps(-LF_EXP_LN2_LO), r);

    __m256 p = _mm256_fmadd_ps(_mm256_set1_ps(LF_EXP_C6), r, _mm256_set1_ps(LF_EXP_C5));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(LF_EXP_C4));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(LF_EXP_C3));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(LF_EXP_C2));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(LF_EXP_C1));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f));

    const __m256i exponents = _mm256_sub_epi32(_mm256_castps_si256(rounded),
                                               _mm256_set1_epi32((int)LF_EXP_BIAS));
    const __m256i first = _mm256_srli_epi32(exponents, 1);
    const __m256i second = _mm256_sub_epi32(exponents, first);
    p = _mm256_mul_ps(p, _mm256_castsi256_ps(_mm256_slli_epi32(first, 23)));
    p = _mm256_mul_ps(p, _mm256_castsi256_ps(_mm256_slli_epi32(second, 23)));
    return _mm256_andnot_ps(_mm256_cmp_ps(x, _mm256_set1_ps(LF_EXP_MIN), _CMP_LT_OQ), p);
}

#endif
