/* One tensor of a model file, as GGUF and safetensors both describe it. */
#ifndef LF_FILE_TENSOR_INFO_H
#define LF_FILE_TENSOR_INFO_H

#include "tensor/dtype.h"

enum { LF_TENSOR_DIMS_MAX = 4 };

typedef struct lf_tensor_info {
    const char *name;      /* owned by the file object */
    const char *type_name; /* the file's own name of the element type ("BF16", "q5_1", "type 39") */
    bool supported;        /* dtype is valid; otherwise only the name, type and shape are known */
    lf_dtype dtype;
    int n_dims; /* 0..4 */
    int64_t
        dims[LF_TENSOR_DIMS_MAX]; /* outermost first: a weight matrix is (n_out, n_in); unused ones are 1 */
    const void *data; /* inside the mapping, row-major; checked to lie in the file; any alignment */
    size_t bytes;
} lf_tensor_info;

#endif
