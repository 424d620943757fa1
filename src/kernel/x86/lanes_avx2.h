/* Sixteen lanes of float as two AVX2 registers: the part that all kernels use. The product of bf16 pairs is
 * two multiply-adds, which must run with subnormals flushed to give the bits of vdpbf16ps. */
#ifndef LF_KERNEL_X86_LANES_AVX2_H
#define LF_KERNEL_X86_LANES_AVX2_H

#include <immintrin.h>
#include <stdint.h>

enum { LANES_BF16_NEEDS_FLUSH = 1 };

typedef struct lanes { /* 16 floats, or 16 pairs of bf16 */
    __m256 lo, hi;
} lanes;

static inline lanes lanes_set(float x)
{
    return (lanes){_mm256_set1_ps(x), _mm256_set1_ps(x)};
}

static inline lanes lanes_load(const void *p)
{
    const float *f = p;
    return (lanes){_mm256_loadu_ps(f), _mm256_loadu_ps(f + 8)};
}

static inline void lanes_store(float *p, lanes x)
{
    _mm256_storeu_ps(p, x.lo);
    _mm256_storeu_ps(p + 8, x.hi);
}

static inline lanes lanes_load_f16(const void *p)
{
    const __m128i *h = p;
    return (lanes){_mm256_cvtph_ps(_mm_loadu_si128(h)), _mm256_cvtph_ps(_mm_loadu_si128(h + 1))};
}

static inline lanes lanes_load_i8(const void *p)
{
    const __m128i bytes = _mm_loadu_si128(p), upper = _mm_srli_si128(bytes, 8);
    return (lanes){_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)),
                   _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(upper))};
}

static inline lanes lanes_set_f16(uint16_t h)
{
    const __m256 x = _mm256_cvtph_ps(_mm_set1_epi16((short)h));
    return (lanes){x, x};
}

static inline lanes lanes_add(lanes a, lanes b)
{
    return (lanes){_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)};
}

static inline lanes lanes_sub(lanes a, lanes b)
{
    return (lanes){_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)};
}

static inline lanes lanes_mul(lanes a, lanes b)
{
    return (lanes){_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)};
}

static inline lanes lanes_fma(lanes a, lanes b, lanes acc)
{
    return (lanes){_mm256_fmadd_ps(a.lo, b.lo, acc.lo), _mm256_fmadd_ps(a.hi, b.hi, acc.hi)};
}

static inline __m256 even_bf16(__m256 x)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(x), 16));
}

static inline __m256 odd_bf16(__m256 x)
{
    return _mm256_and_ps(x, _mm256_castsi256_ps(_mm256_set1_epi32((int)0xffff0000u)));
}

/* acc + the products of the pairs of a and b, the odd ones first. */
static inline lanes lanes_dot_bf16(lanes a, lanes b, lanes acc)
{
    acc.lo = _mm256_fmadd_ps(odd_bf16(a.lo), odd_bf16(b.lo), acc.lo);
    acc.hi = _mm256_fmadd_ps(odd_bf16(a.hi), odd_bf16(b.hi), acc.hi);
    return (lanes){_mm256_fmadd_ps(even_bf16(a.lo), even_bf16(b.lo), acc.lo),
                   _mm256_fmadd_ps(even_bf16(a.hi), even_bf16(b.hi), acc.hi)};
}

#endif
