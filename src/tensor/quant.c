/* Rows of any dtype to float and back, and the check for values that are not finite. The arithmetic of the quantised
 * blocks is in quant_q.c and quant_k.c.
 *
 * A block with a NaN, an infinity, or a number beyond every quantised format among its floats has no quantised form: it
 * becomes a block of zeros with a NaN for its scale, so that lf_find_nonfinite still sees it. */
#include "tensor/quant.h"

#include "tensor/quant_int.h"

#include <assert.h>

/* What differs between the quantised dtypes; the float types have no entry. */
typedef struct block_format {
    lf_dequantize_block_fn *dequantize;
    lf_quantize_block_fn *quantize;
    size_t scale_at; /* byte offset of the f16 scales in a block */
    size_t n_scales; /* 1: d; 2: d and dmin */
} block_format;

static const block_format formats[LF_DTYPE_COUNT] = {
    [LF_DTYPE_Q8_0] = {lf_dequantize_block_q8_0, lf_quantize_block_q8_0, 0, 1},
    [LF_DTYPE_Q4_0] = {lf_dequantize_block_q4_0, lf_quantize_block_q4_0, 0, 1},
    [LF_DTYPE_Q4_K] = {lf_dequantize_block_q4_k, lf_quantize_block_q4_k, 0, 2},
    [LF_DTYPE_Q5_K] = {lf_dequantize_block_q5_k, lf_quantize_block_q5_k, 0, 2},
    [LF_DTYPE_Q6_K] = {lf_dequantize_block_q6_k, lf_quantize_block_q6_k, 208, 1},
};

static const uint16_t f16_nan = 0x7e00;

void lf_dequantize_row(float *y, const void *src, lf_dtype dtype, size_t n)
{
    const lf_dtype_info *info = lf_dtype_of(dtype);
    const uint8_t *bytes = src;
    assert(n % info->block_len == 0);
    switch (dtype) {
    case LF_DTYPE_F32:
        if (n) memcpy(y, src, n * sizeof *y);
        break;
    case LF_DTYPE_F16:
        for (size_t i = 0; i < n; i++) y[i] = lf_f16_to_float(load_u16(bytes + 2 * i));
        break;
    case LF_DTYPE_BF16:
        for (size_t i = 0; i < n; i++) y[i] = lf_bf16_to_float(load_u16(bytes + 2 * i));
        break;
    default:
        for (size_t i = 0; i < n / info->block_len; i++)
            formats[dtype].dequantize(y + i * info->block_len, bytes + i * info->block_bytes);
    }
}

/* No quantised format reaches 2^29: the furthest is q6_k with 65504 * 128 * 32. Below it the sums of the searches cannot
 * overflow. */
static bool all_in_range(const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!(fabsf(x[i]) < 0x1p29f)) return false;
    return true;
}

void lf_quantize_row(void *dst, const float *x, lf_dtype dtype, size_t n)
{
    const lf_dtype_info *info = lf_dtype_of(dtype);
    uint8_t *bytes = dst;
    assert(n % info->block_len == 0);
    switch (dtype) {
    case LF_DTYPE_F32:
        if (n) memcpy(dst, x, n * sizeof *x);
        break;
    case LF_DTYPE_F16:
        for (size_t i = 0; i < n; i++) store_u16(bytes + 2 * i, lf_f16_from_float(x[i]));
        break;
    case LF_DTYPE_BF16:
        for (size_t i = 0; i < n; i++) store_u16(bytes + 2 * i, lf_bf16_from_float(x[i]));
        break;
    default:
        for (size_t i = 0; i < n; i += info->block_len, bytes += info->block_bytes) {
            if (all_in_range(x + i, info->block_len)) {
                formats[dtype].quantize(bytes, x + i);
            } else {
                memset(bytes, 0, info->block_bytes);
                store_u16(bytes + formats[dtype].scale_at, f16_nan);
            }
        }
    }
}

static bool f16_is_finite(uint16_t h)
{
    return (h & 0x7c00) != 0x7c00;
}

static bool f32_is_finite(const uint8_t *src)
{
    uint32_t bits;
    memcpy(&bits, src, sizeof bits);
    return (bits & 0x7f800000u) != 0x7f800000u;
}

static bool block_is_finite(const uint8_t *block, lf_dtype dtype)
{
    switch (dtype) {
    case LF_DTYPE_F32: return f32_is_finite(block);
    case LF_DTYPE_F16: return f16_is_finite(load_u16(block));
    case LF_DTYPE_BF16: return (load_u16(block) & 0x7f80) != 0x7f80;
    default: break;
    }
    const block_format *format = &formats[dtype];
    for (size_t i = 0; i < format->n_scales; i++)
        if (!f16_is_finite(load_u16(block + format->scale_at + 2 * i))) return false;
    return true;
}

int64_t lf_find_nonfinite(const void *src, lf_dtype dtype, size_t n)
{
    const lf_dtype_info *info = lf_dtype_of(dtype);
    const uint8_t *bytes = src;
    assert(n % info->block_len == 0);
    for (size_t i = 0; i < n / info->block_len; i++)
        if (!block_is_finite(bytes + i * info->block_bytes, dtype)) return (int64_t)i;
    return -1;
}
