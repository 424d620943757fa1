/* Sixteen lanes of float as one AVX-512 register: the part that all kernels use. Compiled with AVX-512 BF16
 * the product of bf16 pairs is one instruction; without, it is two multiply-adds, which must run with
 * subnormals flushed to give the same bits. */
#ifndef LF_KERNEL_X86_LANES_AVX512_H
#define LF_KERNEL_X86_LANES_AVX512_H

#include <immintrin.h>
#include <stdint.h>

#ifdef __AVX512BF16__
enum { LANES_BF16_NEEDS_FLUSH = 0 };
#else
enum { LANES_BF16_NEEDS_FLUSH = 1 };
#endif

typedef __m512 lanes; /* 16 floats, or 16 pairs of bf16 */

static inline lanes lanes_set(float x)
{
    return _mm512_set1_ps(x);
}

static inline lanes lanes_load(const void *p)
{
    return _mm512_loadu_ps(p);
}

static inline void lanes_store(float *p, lanes x)
{
    _mm512_storeu_ps(p, x);
}

static inline lanes lanes_load_f16(const void *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256(p));
}

static inline lanes lanes_load_i8(const void *p)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(p)));
}

static inline lanes lanes_set_f16(uint16_t h)
{
    return _mm512_cvtph_ps(_mm256_set1_epi16((short)h));
}

static inline lanes lanes_add(lanes a, lanes b)
{
    return _mm512_add_ps(a, b);
}

static inline lanes lanes_sub(lanes a, lanes b)
{
    return _mm512_sub_ps(a, b);
}

static inline lanes lanes_mul(lanes a, lanes b)
{
    return _mm512_mul_ps(a, b);
}

static inline lanes lanes_fma(lanes a, lanes b, lanes acc)
{
    return _mm512_fmadd_ps(a, b, acc);
}

/* acc + the products of the pairs of a and b, the odd ones first. */
static inline lanes lanes_dot_bf16(lanes a, lanes b, lanes acc)
{
#ifdef __AVX512BF16__
    return _mm512_dpbf16_ps(acc, (__m512bh)a, (__m512bh)b);
#else
    const __m512i high = _mm512_set1_epi32((int)0xffff0000u);
    const __m512i a_bits = _mm512_castps_si512(a), b_bits = _mm512_castps_si512(b);
    acc = _mm512_fmadd_ps(_mm512_castsi512_ps(_mm512_and_si512(a_bits, high)),
                          _mm512_castsi512_ps(_mm512_and_si512(b_bits, high)), acc);
    return _mm512_fmadd_ps(_mm512_castsi512_ps(_mm512_slli_epi32(a_bits, 16)),
                           _mm512_castsi512_ps(_mm512_slli_epi32(b_bits, 16)), acc);
#endif
}

#endif
