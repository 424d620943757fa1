/* The kernel levels of this processor, for tests that compare them with scalar: give set_up_levels to
 * cmocka_run_group_tests. */
#ifndef LF_TESTS_LEVELS_H
#define LF_TESTS_LEVELS_H

#include "base/cpu.h"
#include "kernel/kernel.h"
#include "tensor/half.h"

#include <math.h>

static lf_kernels scalar;
static lf_kernels levels[3]; /* those above scalar, weakest first */
static int n_levels;

static int set_up_levels(void **state)
{
    (void)state;
    const unsigned has = lf_cpu_flags();
    const unsigned masks[] = {LF_CPU_AVX2, LF_CPU_AVX2 | LF_CPU_AVX512,
                              LF_CPU_AVX2 | LF_CPU_AVX512 | LF_CPU_AVX512BF16};
    lf_kernels_init(&scalar, 0);
    for (size_t i = 0; i < sizeof masks / sizeof *masks; i++)
        if ((has & masks[i]) == masks[i]) lf_kernels_init(&levels[n_levels++], masks[i]);
    return 0;
}

/* The same bits, or both NaN. */
static bool same_bits(float a, float b)
{
    return lf_float_to_bits(a) == lf_float_to_bits(b) || (isnan(a) && isnan(b));
}

#endif
