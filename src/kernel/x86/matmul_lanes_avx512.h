/* What the matmul kernels need of AVX-512 beyond the lanes that all kernels share: vectors of bytes and exact
 * sums of their products. */
#ifndef LF_KERNEL_X86_MATMUL_LANES_AVX512_H
#define LF_KERNEL_X86_MATMUL_LANES_AVX512_H

#include "kernel/x86/lanes_avx512.h"

typedef __m512i byte_lanes; /* 16 times 4 bytes */
typedef __m512i int_lanes;  /* 16 int32 */

static inline lanes lanes_load_u8(const uint8_t *p)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const void *)p)));
}

/* acc - a b, rounded once. */
static inline lanes lanes_fma_negated(lanes a, lanes b, lanes acc)
{
    return _mm512_fnmadd_ps(a, b, acc);
}

static inline byte_lanes bytes_load(const void *p)
{
    return _mm512_loadu_si512(p);
}

/* The same 4 bytes 16 times. */
static inline byte_lanes bytes_set(int32_t word)
{
    return _mm512_set1_epi32(word);
}

static inline byte_lanes bytes_and(byte_lanes a, uint8_t mask)
{
    return _mm512_and_si512(a, _mm512_set1_epi8((char)mask));
}

static inline byte_lanes bytes_or(byte_lanes a, byte_lanes b)
{
    return _mm512_or_si512(a, b);
}

/* Each byte shifted by a constant, or by a variable; bits that come from a neighbour are for the caller to mask. */
static inline byte_lanes bytes_left(byte_lanes a, unsigned n)
{
    return _mm512_slli_epi32(a, n);
}

static inline byte_lanes bytes_right(byte_lanes a, unsigned n)
{
    return _mm512_srli_epi32(a, n);
}

static inline byte_lanes bytes_right_by(byte_lanes a, int n)
{
    return _mm512_srl_epi32(a, _mm_cvtsi32_si128(n));
}

static inline int_lanes ints_set(int32_t x)
{
    return _mm512_set1_epi32(x);
}

/* sum + the product of unsigned weights below 128 and activations. */
static inline int_lanes ints_add_u7(int_lanes sum, byte_lanes weights, byte_lanes x)
{
    return _mm512_dpbusd_epi32(sum, weights, x);
}

/* The product of weights stored with a bias of 128 and activations: where it starts (from act.h's start), and how it goes on. */
static inline int_lanes ints_start_biased(const int32_t *start)
{
    return _mm512_set1_epi32(*start);
}

static inline int_lanes ints_add_biased(int_lanes sum, byte_lanes weights, byte_lanes x)
{
    return _mm512_dpbusd_epi32(sum, weights, x);
}

static inline lanes ints_to_lanes(int_lanes x)
{
    return _mm512_cvtepi32_ps(x);
}

#endif
