/* The lanes of the attend kernels (attend_body.h) with AVX2. */
#ifndef LF_KERNEL_X86_ATTEND_LANES_AVX2_H
#define LF_KERNEL_X86_ATTEND_LANES_AVX2_H

#include "kernel/x86/exp_avx2.h"
#include "kernel/x86/lanes_avx2.h"
#include "kernel/x86/simd.h"

#include <string.h>

/* Accumulators of 16 lanes that fit the registers beside the operands. */
enum { LANES_BLOCK = 4, LANES_BLOCK_Q8 = 2 };

typedef struct quads { /* 16 times 4 bytes, widened to 16 bits: 4 in each part */
    __m256i part[4];
} quads;

typedef __m256i quad; /* the same 4 bytes over and over, widened to 16 bits */

typedef struct dots { /* 16 sums of products of bytes: 4 in each part, each as the sums of 2 pairs */
    __m256i part[4];
} dots;

/* a > b ? a : b in each lane. */
static inline lanes lanes_max(lanes a, lanes b)
{
    return (lanes){_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)};
}

static inline lanes lanes_exp(lanes x)
{
    return (lanes){exp_avx2(x.lo), exp_avx2(x.hi)};
}

/* The first n lanes of x, the others of y. */
static inline lanes lanes_first(int n, lanes x, lanes y)
{
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256i lo = _mm256_cmpgt_epi32(_mm256_set1_epi32(n), lane);
    const __m256i hi = _mm256_cmpgt_epi32(_mm256_set1_epi32(n - 8), lane);
    return (lanes){_mm256_blendv_ps(y.lo, x.lo, _mm256_castsi256_ps(lo)),
                   _mm256_blendv_ps(y.hi, x.hi, _mm256_castsi256_ps(hi))};
}

static inline float lanes_fold_max(lanes x)
{
    const __m256 x8 = _mm256_max_ps(x.hi, x.lo);
    const __m128 x4 = _mm_max_ps(_mm256_extractf128_ps(x8, 1), _mm256_castps256_ps128(x8));
    const __m128 x2 = _mm_max_ps(_mm_movehl_ps(x4, x4), x4);
    return _mm_cvtss_f32(_mm_max_ss(_mm_movehdup_ps(x2), x2));
}

static inline float lanes_fold_sum(lanes x)
{
    const __m256 x8 = _mm256_add_ps(x.lo, x.hi);
    const __m128 x4 = _mm_add_ps(_mm256_castps256_ps128(x8), _mm256_extractf128_ps(x8, 1));
    const __m128 x2 = _mm_add_ps(x4, _mm_movehl_ps(x4, x4));
    return _mm_cvtss_f32(_mm_add_ss(x2, _mm_movehdup_ps(x2)));
}

/* The upper halves of the floats rounded to bf16. No lane is subnormal, and a NaN has zeros below: it comes
 * from bf16 or from the processor, and stays a NaN. */
static inline __m256i bf16_bits(__m256 x)
{
    const __m256i bits = _mm256_castps_si256(x);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i half = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
    return _mm256_srli_epi32(_mm256_add_epi32(bits, half), 16);
}

/* Stores x rounded to bf16 and returns the rounded floats. */
static inline lanes lanes_store_bf16(uint16_t *p, lanes x)
{
    const __m256i lo = bf16_bits(x.lo), hi = bf16_bits(x.hi);
    const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(lo, hi), 0xd8);
    _mm256_storeu_si256((void *)p, packed);
    return (lanes){_mm256_castsi256_ps(_mm256_slli_epi32(lo, 16)),
                   _mm256_castsi256_ps(_mm256_slli_epi32(hi, 16))};
}

/* Each pair without its odd element. */
static inline lanes lanes_even_bf16(lanes x)
{
    const __m256 low = _mm256_castsi256_ps(_mm256_set1_epi32(0xffff));
    return (lanes){_mm256_and_ps(x.lo, low), _mm256_and_ps(x.hi, low)};
}

static inline quads quads_load_u8(const uint8_t *p)
{
    quads x;
    for (int i = 0; i < 4; i++) x.part[i] = _mm256_cvtepu8_epi16(_mm_loadu_si128((const void *)(p + i * 16)));
    return x;
}

static inline quad quad_load_i8(const int8_t *p)
{
    int32_t word;
    memcpy(&word, p, sizeof word);
    return _mm256_cvtepi8_epi16(_mm_set1_epi32(word));
}

static inline dots dots_zero(void)
{
    const __m256i zero = _mm256_setzero_si256();
    return (dots){{zero, zero, zero, zero}};
}

static inline dots dots_add(dots acc, quads u8, quad i8)
{
    UNROLL (i, 4) acc.part[i] = _mm256_add_epi32(acc.part[i], _mm256_madd_epi16(u8.part[i], i8));
    return acc;
}

/* hadd adds the two pairs of each position and leaves the positions 0 1 4 5 2 3 6 7. */
static inline __m256 dots_fold(__m256i a, __m256i b, int32_t bias)
{
    const __m256i sums = _mm256_permute4x64_epi64(_mm256_hadd_epi32(a, b), 0xd8);
    return _mm256_cvtepi32_ps(_mm256_add_epi32(sums, _mm256_set1_epi32(bias)));
}

static inline lanes dots_to_lanes(dots acc, int32_t bias)
{
    return (lanes){dots_fold(acc.part[0], acc.part[1], bias), dots_fold(acc.part[2], acc.part[3], bias)};
}

#endif
