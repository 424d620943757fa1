/* Products with AVX-512 F, BW, VL, DQ and VNNI. */
#include "kernel/x86/matmul_lanes_avx512.h"

#include "kernel/x86/matmul_body.h"

DEFINE_MATMUL(f32, LF_DTYPE_F32, 6, 4, 6, 2, 2)
DEFINE_MATMUL(f16, LF_DTYPE_F16, 6, 4, 6, 2, 2)
DEFINE_MATMUL(bf16, LF_DTYPE_BF16, 4, 4, 4, 2, 2)
DEFINE_MATMUL(q8_0, LF_DTYPE_Q8_0, 6, 2, 3, 4, 1)
DEFINE_MATMUL(q4_0, LF_DTYPE_Q4_0, 6, 2, 3, 4, 1)
DEFINE_MATMUL(q4_k, LF_DTYPE_Q4_K, 6, 2, 3, 4, 1)
DEFINE_MATMUL(q5_k, LF_DTYPE_Q5_K, 6, 2, 6, 1, 1)
DEFINE_MATMUL(q6_k, LF_DTYPE_Q6_K, 6, 2, 6, 1, 1)

void lf_matmul_init_avx512(lf_kernels *k)
{
    k->matmul[LF_DTYPE_F32] = matmul_f32;
    k->matmul[LF_DTYPE_F16] = matmul_f16;
    k->matmul[LF_DTYPE_BF16] = matmul_bf16;
    k->matmul[LF_DTYPE_Q8_0] = matmul_q8_0;
    k->matmul[LF_DTYPE_Q4_0] = matmul_q4_0;
    k->matmul[LF_DTYPE_Q4_K] = matmul_q4_k;
    k->matmul[LF_DTYPE_Q5_K] = matmul_q5_k;
    k->matmul[LF_DTYPE_Q6_K] = matmul_q6_k;
}
