/* Attention kernels with AVX-512 BF16: products of pairs of bf16, sums of floats. */
#include "kernel/x86/attend_lanes_avx512.h"

#define lanes_dot           lanes_dot_bf16
#define CELL_VALUES         2
#define BLOCK_ROWS          4
#define BLOCK_LANES         4
#define LF_ATTENTION_KERNEL lf_attention_avx512bf16

/* 32 floats, lo first, rounded to the 16 pairs of neighbours. */
static inline __m512i lanes_join(lanes lo, lanes hi)
{
    return (__m512i)_mm512_cvtne2ps_pbh(hi, lo);
}

/* Pairs of a float of `even` (the low half) and one of `odd`. */
static inline __m512i lanes_pair(lanes even, lanes odd)
{
    const __m512i low = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(even));
    const __m512i high = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(odd));
    return _mm512_or_si512(low, _mm512_slli_epi32(high, 16));
}

static inline void lanes_store_cells(uint32_t *p, __m512i x)
{
    _mm512_storeu_si512(p, x);
}

#include "train/attention_body.h"
