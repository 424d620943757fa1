#include "tensor/dtype.h"

#include "base/mem.h"

#include <assert.h>
#include <strings.h>

static const lf_dtype_info infos[LF_DTYPE_COUNT] = {
    [LF_DTYPE_F32] = {"f32", 0, 1, 4},        [LF_DTYPE_F16] = {"f16", 1, 1, 2},
    [LF_DTYPE_BF16] = {"bf16", 30, 1, 2},     [LF_DTYPE_Q8_0] = {"q8_0", 8, 32, 34},
    [LF_DTYPE_Q4_0] = {"q4_0", 2, 32, 18},    [LF_DTYPE_Q4_K] = {"q4_k", 12, 256, 144},
    [LF_DTYPE_Q5_K] = {"q5_k", 13, 256, 176}, [LF_DTYPE_Q6_K] = {"q6_k", 14, 256, 210},
};

const lf_dtype_info *lf_dtype_of(lf_dtype dtype)
{
    assert((unsigned)dtype < LF_DTYPE_COUNT);
    return &infos[dtype];
}

bool lf_dtype_from_ggml(uint32_t ggml_type, lf_dtype *out)
{
    for (int i = 0; i < LF_DTYPE_COUNT; i++) {
        if (infos[i].ggml_type == ggml_type) {
            *out = (lf_dtype)i;
            return true;
        }
    }
    return false;
}

bool lf_dtype_from_name(const char *name, lf_dtype *out)
{
    for (int i = 0; i < LF_DTYPE_COUNT; i++) {
        if (strcasecmp(infos[i].name, name) == 0) {
            *out = (lf_dtype)i;
            return true;
        }
    }
    return false;
}

bool lf_dtype_row_bytes(lf_dtype dtype, size_t n, size_t *out)
{
    const lf_dtype_info *info = lf_dtype_of(dtype);
    if (n % info->block_len != 0) return false;
    return lf_mul_size(n / info->block_len, info->block_bytes, out);
}
