#include "base/cpu.h"

#if defined(__x86_64__)
#    include <cpuid.h>
#    include <stdint.h>

static uint64_t enabled_register_state(void)
{
    uint32_t lo, hi;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (uint64_t)hi << 32 | lo;
}

unsigned lf_cpu_flags(void)
{
    unsigned a, b, c, d, b7, c7, d7, a71, unused1, unused2, unused3;
    if (!__get_cpuid(1, &a, &b, &c, &d)) return 0;
    const unsigned osxsave = 1u << 27, fma = 1u << 12, f16c = 1u << 29, avx = 1u << 28;
    if ((c & (osxsave | fma | f16c | avx)) != (osxsave | fma | f16c | avx)) return 0;
    const uint64_t state = enabled_register_state();
    if (!__get_cpuid_count(7, 0, &a, &b7, &c7, &d7)) return 0;
    if ((state & 0x6) != 0x6 || !(b7 & (1u << 5))) return 0;

    unsigned flags = LF_CPU_AVX2;
    const unsigned f_dq_bw_vl = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31, vnni = 1u << 11;
    if ((state & 0xe6) != 0xe6 || (b7 & f_dq_bw_vl) != f_dq_bw_vl || !(c7 & vnni)) return flags;
    flags |= LF_CPU_AVX512;
    if (a >= 1 && __get_cpuid_count(7, 1, &a71, &unused1, &unused2, &unused3) && (a71 & (1u << 5)))
        flags |= LF_CPU_AVX512BF16;
    return flags;
}
#else
unsigned lf_cpu_flags(void)
{
    return 0;
}
#endif
