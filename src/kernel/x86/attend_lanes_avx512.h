/* The lanes of the attend kernels (attend_body.h) with AVX-512 F, BW, VL, DQ and VNNI, and where it is
 * compiled with it, BF16. */
#ifndef LF_KERNEL_X86_ATTEND_LANES_AVX512_H
#define LF_KERNEL_X86_ATTEND_LANES_AVX512_H

#include "kernel/x86/exp_avx512.h"
#include "kernel/x86/lanes_avx512.h"

#include <string.h>

/* Accumulators of 16 lanes that fit the registers beside the operands. */
enum { LANES_BLOCK = 24, LANES_BLOCK_Q8 = 12 };

typedef __m512i quads; /* 16 times 4 bytes */
typedef __m512i quad;  /* the same 4 bytes 16 times */
typedef __m512i dots;  /* 16 sums of products of bytes */

/* a > b ? a : b in each lane. */
static inline lanes lanes_max(lanes a, lanes b)
{
    return _mm512_max_ps(a, b);
}

static inline lanes lanes_exp(lanes x)
{
    return exp_avx512(x);
}

/* The first n lanes of x, the others of y. */
static inline lanes lanes_first(int n, lanes x, lanes y)
{
    return _mm512_mask_mov_ps(y, (__mmask16)((1u << n) - 1), x);
}

static inline float lanes_fold_max(lanes x)
{
    const __m256 x8 = _mm256_max_ps(_mm512_extractf32x8_ps(x, 1), _mm512_castps512_ps256(x));
    const __m128 x4 = _mm_max_ps(_mm256_extractf128_ps(x8, 1), _mm256_castps256_ps128(x8));
    const __m128 x2 = _mm_max_ps(_mm_movehl_ps(x4, x4), x4);
    return _mm_cvtss_f32(_mm_max_ss(_mm_movehdup_ps(x2), x2));
}

static inline float lanes_fold_sum(lanes x)
{
    const __m256 x8 = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
    const __m128 x4 = _mm_add_ps(_mm256_castps256_ps128(x8), _mm256_extractf128_ps(x8, 1));
    const __m128 x2 = _mm_add_ps(x4, _mm_movehl_ps(x4, x4));
    return _mm_cvtss_f32(_mm_add_ss(x2, _mm_movehdup_ps(x2)));
}

/* Stores x rounded to bf16 and returns the rounded floats. No lane is subnormal, and a NaN has zeros below:
 * it comes from bf16 or from the processor, and stays a NaN. */
static inline lanes lanes_store_bf16(uint16_t *p, lanes x)
{
#ifdef __AVX512BF16__
    const __m256i rounded = (__m256i)_mm512_cvtneps_pbh(x);
#else
    const __m512i bits = _mm512_castps_si512(x);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i half = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff));
    const __m256i rounded = _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_add_epi32(bits, half), 16));
#endif
    _mm256_storeu_si256((void *)p, rounded);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(rounded), 16));
}

/* Each pair without its odd element. */
static inline lanes lanes_even_bf16(lanes x)
{
    return _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(0xffff)));
}

static inline quads quads_load_u8(const uint8_t *p)
{
    return _mm512_loadu_si512(p);
}

static inline quad quad_load_i8(const int8_t *p)
{
    int32_t word;
    memcpy(&word, p, sizeof word);
    return _mm512_set1_epi32(word);
}

static inline dots dots_zero(void)
{
    return _mm512_setzero_si512();
}

static inline dots dots_add(dots acc, quads u8, quad i8)
{
    return _mm512_dpbusd_epi32(acc, u8, i8);
}

static inline lanes dots_to_lanes(dots acc, int32_t bias)
{
    return _mm512_cvtepi32_ps(_mm512_add_epi32(acc, _mm512_set1_epi32(bias)));
}

#endif
