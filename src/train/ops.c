/* Chooses among the instruction sets, and holds the one that every processor has. */
#include "base/cpu.h"

#define LF_TRAIN_OPS lf_train_ops_portable
#include "train/ops_body.h"

const lf_train_ops *lf_train_ops_for(unsigned cpu_flags)
{
#if defined(__x86_64__)
    if (cpu_flags & LF_CPU_AVX512) return &lf_train_ops_avx512;
    if (cpu_flags & LF_CPU_AVX2) return &lf_train_ops_avx2;
#endif
    (void)cpu_flags;
    return &lf_train_ops_portable;
}
