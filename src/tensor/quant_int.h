/* The quantised formats, one block at a time: what quant.c calls and quant_q.c, quant_k.c implement. Blocks are bytes of
 * any alignment, their 16-bit fields little-endian. */
#ifndef LF_TENSOR_QUANT_INT_H
#define LF_TENSOR_QUANT_INT_H

#include "tensor/dtype.h"
#include "tensor/half.h"

#include <math.h>

typedef void lf_dequantize_block_fn(float *y, const uint8_t *block);
typedef void lf_quantize_block_fn(uint8_t *block, const float *x); /* every |x| < 2^29 */

lf_dequantize_block_fn lf_dequantize_block_q8_0, lf_dequantize_block_q4_0, lf_dequantize_block_q4_k,
    lf_dequantize_block_q5_k, lf_dequantize_block_q6_k;
lf_quantize_block_fn lf_quantize_block_q8_0, lf_quantize_block_q4_0, lf_quantize_block_q4_k,
    lf_quantize_block_q5_k, lf_quantize_block_q6_k;

static inline uint16_t load_u16(const uint8_t *src)
{
    uint16_t v;
    memcpy(&v, src, sizeof v);
    return v;
}

static inline void store_u16(uint8_t *dst, uint16_t v)
{
    memcpy(dst, &v, sizeof v);
}

/* f rounded to the nearest integer, ties to even, and limited to lo..hi (small numbers); NaN gives lo. Adding 1.5 * 2^23
 * leaves no bits for a fraction, as in the reference, but never overflows. */
static inline int nearest_in(float f, int lo, int hi)
{
    const float above = f > (float)lo ? f : (float)lo;
    const float within = above < (float)hi ? above : (float)hi;
    return (int)(within + 0x1.8p23f - 0x1.8p23f);
}

#endif
