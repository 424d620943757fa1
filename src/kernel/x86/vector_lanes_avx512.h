/* What the kernels over single rows need of AVX-512 beyond the lanes that they share with attention. */
#ifndef LF_KERNEL_X86_VECTOR_LANES_AVX512_H
#define LF_KERNEL_X86_VECTOR_LANES_AVX512_H

#include "kernel/x86/attend_lanes_avx512.h"

static inline lanes lanes_div(lanes a, lanes b)
{
    return _mm512_div_ps(a, b);
}

static inline lanes lanes_negate(lanes x)
{
    return _mm512_xor_ps(x, _mm512_set1_ps(-0.0f));
}

/* The largest magnitude of both as its bits, in which NaN > infinity > any number. */
static inline uint32_t lanes_amax_bits(lanes a, lanes b)
{
    const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
    return (uint32_t)_mm512_reduce_max_epi32(
        _mm512_max_epi32(_mm512_and_si512(_mm512_castps_si512(a), magnitude),
                         _mm512_and_si512(_mm512_castps_si512(b), magnitude)));
}

/* Stores x (|x| <= 127) rounded to integers and returns their sum. */
static inline int32_t lanes_store_i8(int8_t *p, lanes x)
{
    const __m512i rounded = _mm512_cvtps_epi32(x);
    _mm_storeu_si128((void *)p, _mm512_cvtepi32_epi8(rounded));
    return _mm512_reduce_add_epi32(rounded);
}

#endif
