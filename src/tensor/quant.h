/* Rows of any dtype to float and back.
 *
 * Dequantised values are bit for bit those of ggml and of the Python package `gguf`. Quantising follows
 * ggml's reference quantisers (quantize_row_q8_0_ref and so on, with no importance matrix). */
#ifndef LF_TENSOR_QUANT_H
#define LF_TENSOR_QUANT_H

#include "tensor/dtype.h"

/* y (n) = the floats of n elements at src; n is a multiple of the dtype's block length. */
void lf_dequantize_row(float *y, const void *src, lf_dtype dtype, size_t n);

/* dst = n floats in `dtype`; n is a multiple of its block length. A block that has a NaN, an infinity or a number beyond
 * the format becomes one that lf_find_nonfinite finds. */
void lf_quantize_row(void *dst, const float *x, lf_dtype dtype, size_t n);

/* The index of the first block of the row whose floats or scales are NaN or infinite, or -1: what makes a
 * model file unusable and is cheap to see while repacking. */
int64_t lf_find_nonfinite(const void *src, lf_dtype dtype, size_t n);

#endif
