/* Products with AVX-512 BF16: bf16 weights by the processor's own product of pairs. */
#include "kernel/x86/matmul_lanes_avx512.h"

#include "kernel/x86/matmul_body.h"

DEFINE_MATMUL(bf16, LF_DTYPE_BF16, 6, 4, 6, 2, 2)

void lf_matmul_init_avx512bf16(lf_kernels *k)
{
    k->matmul[LF_DTYPE_BF16] = matmul_bf16;
}
