/* What the kernels over single rows need of AVX2 beyond the lanes that they share with attention. */
#ifndef LF_KERNEL_X86_VECTOR_LANES_AVX2_H
#define LF_KERNEL_X86_VECTOR_LANES_AVX2_H

#include "kernel/x86/attend_lanes_avx2.h"

static inline lanes lanes_div(lanes a, lanes b)
{
    return (lanes){_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)};
}

static inline lanes lanes_negate(lanes x)
{
    const __m256 sign = _mm256_set1_ps(-0.0f);
    return (lanes){_mm256_xor_ps(x.lo, sign), _mm256_xor_ps(x.hi, sign)};
}

/* The larger magnitude of each lane as its bits. */
static inline __m256i magnitude_bits(lanes x)
{
    const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
    return _mm256_max_epi32(_mm256_and_si256(_mm256_castps_si256(x.lo), magnitude),
                            _mm256_and_si256(_mm256_castps_si256(x.hi), magnitude));
}

/* The largest magnitude of both as its bits, in which NaN > infinity > any number. */
static inline uint32_t lanes_amax_bits(lanes a, lanes b)
{
    const __m256i m8 = _mm256_max_epi32(magnitude_bits(a), magnitude_bits(b));
    const __m128i m4 = _mm_max_epi32(_mm256_castsi256_si128(m8), _mm256_extracti128_si256(m8, 1));
    const __m128i m2 = _mm_max_epi32(m4, _mm_shuffle_epi32(m4, 0x4e));
    return (uint32_t)_mm_cvtsi128_si32(_mm_max_epi32(m2, _mm_shuffle_epi32(m2, 0xb1)));
}

/* Stores x (|x| <= 127) rounded to integers and returns their sum. */
static inline int32_t lanes_store_i8(int8_t *p, lanes x)
{
    const __m256i lo = _mm256_cvtps_epi32(x.lo), hi = _mm256_cvtps_epi32(x.hi);
    const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(lo, hi), 0xd8);
    _mm_storeu_si128((void *)p,
                     _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
    const __m256i s8 = _mm256_add_epi32(lo, hi);
    const __m128i s4 = _mm_add_epi32(_mm256_castsi256_si128(s8), _mm256_extracti128_si256(s8, 1));
    const __m128i s2 = _mm_add_epi32(s4, _mm_shuffle_epi32(s4, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(s2, _mm_shuffle_epi32(s2, 0xb1)));
}

#endif
