/* Attention with AVX2, FMA and F16C. */
#include "kernel/x86/attend_lanes_avx2.h"

#include "kernel/x86/attend_body.h"

DEFINE_ATTEND(f32, LF_DTYPE_F32)
DEFINE_ATTEND(f16, LF_DTYPE_F16)
DEFINE_ATTEND(bf16, LF_DTYPE_BF16)
DEFINE_ATTEND(q8, LF_DTYPE_Q8_0)

void lf_attend_init_avx2(lf_kernels *k)
{
    k->attend[LF_DTYPE_F32] = attend_f32;
    k->attend[LF_DTYPE_F16] = attend_f16;
    k->attend[LF_DTYPE_BF16] = attend_bf16;
    k->attend[LF_DTYPE_Q8_0] = attend_q8;
}
