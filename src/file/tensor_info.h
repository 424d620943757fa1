/* One tensor of a model file, as GGUF and safetensors both describe it. */
#ifndef LF_FILE_TENSOR_INFO_H
#define LF_FILE_TENSOR_INFO_H

#include "base/status.h"
#include "tensor/dtype.h"

enum { LF_TENSOR_DIMS_MAX = 4 };

typedef struct lf_tensor_info {
    const char *name;      /* owned by the file object */
    const char *type_name; /* the file's own name of the element type ("BF16", "q5_1", "type 99") */
    bool supported;        /* dtype, data and bytes are valid; otherwise only the name, type and shape are */
    lf_dtype dtype;
    int n_dims; /* 0..4 */
    int64_t
        dims[LF_TENSOR_DIMS_MAX]; /* outermost first: a weight matrix is (n_out, n_in); unused ones are 1 */
    const void *data; /* inside the mapping, row-major; checked to lie in the file; any alignment */
    size_t bytes;
} lf_tensor_info;

/* Fills name and type_name with copies, NUL-terminated; false without memory. Released by lf_tensor_free_names. */
bool lf_tensor_copy_names(lf_tensor_info *t, const char *name, size_t len, const char *type_name);
void lf_tensor_free_names(lf_tensor_info *t);

/* LF_EFORMAT naming two tensors whose data shares bytes, if there are any. */
lf_status lf_tensor_check_overlap(const lf_tensor_info *tensors, size_t n, const char *file, lf_error *err);

#endif
