/* The kernels over single rows with AVX2, FMA and F16C. */
#include "kernel/x86/vector_lanes_avx2.h"

#include "kernel/x86/vector_body.h"

void lf_vector_init_avx2(lf_kernels *k)
{
    vector_init(k);
}
