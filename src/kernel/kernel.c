#include "kernel/kernel.h"

#include "base/cpu.h"
#include "kernel/tables.h"

void lf_kernels_init(lf_kernels *k, unsigned cpu_flags)
{
    k->name = "scalar";
    lf_matmul_init_scalar(k);
    lf_attend_init_scalar(k);
    lf_vector_init_scalar(k);
#if defined(__x86_64__)
    if (!(cpu_flags & LF_CPU_AVX2)) return;
    k->name = "avx2";
    lf_matmul_init_avx2(k);
    lf_attend_init_avx2(k);
    lf_vector_init_avx2(k);
    if (!(cpu_flags & LF_CPU_AVX512)) return;
    k->name = "avx512";
    lf_matmul_init_avx512(k);
    lf_attend_init_avx512(k);
    lf_vector_init_avx512(k);
    if (!(cpu_flags & LF_CPU_AVX512BF16)) return;
    k->name = "avx512+bf16";
    lf_matmul_init_avx512bf16(k);
    lf_attend_init_avx512bf16(k);
#else
    (void)cpu_flags;
#endif
}
