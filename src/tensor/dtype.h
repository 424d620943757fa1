/* Element types and their block formats, as stored in GGUF and safetensors files.
 *
 * A row of n elements is n / block_len blocks of block_bytes bytes each. The quantised formats are those of
 * ggml (ggml-common.h, docs/gguf.md): q8_0, q4_0 in blocks of 32; q4_k, q5_k, q6_k in super-blocks of 256. */
#ifndef LF_TENSOR_DTYPE_H
#define LF_TENSOR_DTYPE_H

#include "lookfar.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct lf_dtype_info {
    const char *name;   /* "q8_0": lower case, as the command line takes it */
    uint32_t ggml_type; /* its number in a GGUF tensor record */
    uint32_t block_len; /* elements of one block; 1 for the float types */
    uint32_t block_bytes;
} lf_dtype_info;

/* The facts of a valid dtype (0 <= dtype < LF_DTYPE_COUNT). */
const lf_dtype_info *lf_dtype_of(lf_dtype dtype);

/* Finds a dtype by GGUF type number or by name (letter case ignored); false when it is not supported. */
bool lf_dtype_from_ggml(uint32_t ggml_type, lf_dtype *out);
bool lf_dtype_from_name(const char *name, lf_dtype *out);

/* The bytes of a row of n elements; false when n is not a multiple of the block length or the size overflows.
 */
bool lf_dtype_row_bytes(lf_dtype dtype, size_t n, size_t *out);

#endif
