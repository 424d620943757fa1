/* What the processor can do, detected once and masked by the user (--cpu-mask). */
#ifndef LF_BASE_CPU_H
#define LF_BASE_CPU_H

typedef enum lf_cpu_flag {
    LF_CPU_AVX2 = 1 << 0,       /* AVX2, FMA and F16C, with OS support for ymm registers */
    LF_CPU_AVX512 = 1 << 1,     /* AVX-512 F, BW, VL, DQ and VNNI, with OS support for zmm registers */
    LF_CPU_AVX512BF16 = 1 << 2, /* AVX-512 BF16 on top of that */
} lf_cpu_flag;

/* The flags of the processor this runs on; 0 on anything but x86-64. */
unsigned lf_cpu_flags(void);

#endif
