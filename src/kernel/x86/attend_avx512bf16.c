/* Attention with AVX-512 BF16: the bf16 cache by the processor's own product of pairs. */
#include "kernel/x86/attend_lanes_avx512.h"

#include "kernel/x86/attend_body.h"

DEFINE_ATTEND(bf16, LF_DTYPE_BF16)

void lf_attend_init_avx512bf16(lf_kernels *k)
{
    k->attend[LF_DTYPE_BF16] = attend_bf16;
}
