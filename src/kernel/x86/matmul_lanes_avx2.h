/* What the matmul kernels need of AVX2 beyond the lanes that all kernels share: vectors of bytes and exact sums
 * of their products. */
#ifndef LF_KERNEL_X86_MATMUL_LANES_AVX2_H
#define LF_KERNEL_X86_MATMUL_LANES_AVX2_H

#include "kernel/x86/lanes_avx2.h"

typedef struct byte_lanes { /* 16 times 4 bytes */
    __m256i lo, hi;
} byte_lanes;

typedef struct int_lanes { /* 16 int32 */
    __m256i lo, hi;
} int_lanes;

static inline lanes lanes_load_u8(const uint8_t *p)
{
    const __m128i bytes = _mm_loadu_si128((const void *)p), upper = _mm_srli_si128(bytes, 8);
    return (lanes){_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes)),
                   _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(upper))};
}

/* acc - a b, rounded once. */
static inline lanes lanes_fma_negated(lanes a, lanes b, lanes acc)
{
    return (lanes){_mm256_fnmadd_ps(a.lo, b.lo, acc.lo), _mm256_fnmadd_ps(a.hi, b.hi, acc.hi)};
}

static inline byte_lanes bytes_load(const void *p)
{
    const __m256i *v = p;
    return (byte_lanes){_mm256_loadu_si256(v), _mm256_loadu_si256(v + 1)};
}

/* The same 4 bytes 16 times. */
static inline byte_lanes bytes_set(int32_t word)
{
    return (byte_lanes){_mm256_set1_epi32(word), _mm256_set1_epi32(word)};
}

static inline byte_lanes bytes_and(byte_lanes a, uint8_t mask)
{
    const __m256i m = _mm256_set1_epi8((char)mask);
    return (byte_lanes){_mm256_and_si256(a.lo, m), _mm256_and_si256(a.hi, m)};
}

static inline byte_lanes bytes_or(byte_lanes a, byte_lanes b)
{
    return (byte_lanes){_mm256_or_si256(a.lo, b.lo), _mm256_or_si256(a.hi, b.hi)};
}

/* Each byte shifted by a constant, or by a variable; bits that come from a neighbour are for the caller to mask. */
static inline byte_lanes bytes_left(byte_lanes a, int n)
{
    return (byte_lanes){_mm256_slli_epi32(a.lo, n), _mm256_slli_epi32(a.hi, n)};
}

static inline byte_lanes bytes_right(byte_lanes a, int n)
{
    return (byte_lanes){_mm256_srli_epi32(a.lo, n), _mm256_srli_epi32(a.hi, n)};
}

static inline byte_lanes bytes_right_by(byte_lanes a, int n)
{
    const __m128i count = _mm_cvtsi32_si128(n);
    return (byte_lanes){_mm256_srl_epi32(a.lo, count), _mm256_srl_epi32(a.hi, count)};
}

static inline int_lanes ints_set(int32_t x)
{
    return (int_lanes){_mm256_set1_epi32(x), _mm256_set1_epi32(x)};
}

/* sum + the product of u8 weights and i8 activations. A pair of products must fit 16 bits: weights up to 128, the
 * activations within -127 .. 127. */
static inline __m256i add_quads(__m256i sum, __m256i u8, __m256i i8)
{
    const __m256i pairs = _mm256_maddubs_epi16(u8, i8);
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

/* sum + the product of unsigned weights below 128 and activations. */
static inline int_lanes ints_add_u7(int_lanes sum, byte_lanes weights, byte_lanes x)
{
    return (int_lanes){add_quads(sum.lo, weights.lo, x.lo), add_quads(sum.hi, weights.hi, x.hi)};
}

/* The product of weights stored with a bias of 128 and activations: where it starts, and how it goes on. Here the bias is taken off
 * first, since weights up to 255 could saturate: w x = |w| (sign(w) x). */
static inline int_lanes ints_start_biased(const int32_t *start)
{
    (void)start;
    return ints_set(0);
}

static inline __m256i add_signed_quads(__m256i sum, __m256i biased, __m256i x)
{
    const __m256i w = _mm256_xor_si256(biased, _mm256_set1_epi8((char)0x80));
    return add_quads(sum, _mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
}

static inline int_lanes ints_add_biased(int_lanes sum, byte_lanes weights, byte_lanes x)
{
    return (int_lanes){add_signed_quads(sum.lo, weights.lo, x.lo),
                       add_signed_quads(sum.hi, weights.hi, x.hi)};
}

static inline lanes ints_to_lanes(int_lanes x)
{
    return (lanes){_mm256_cvtepi32_ps(x.lo), _mm256_cvtepi32_ps(x.hi)};
}

#endif
