/* The kernels over single rows with AVX-512 F, BW, VL and DQ. */
#include "kernel/x86/vector_lanes_avx512.h"

#include "kernel/x86/vector_body.h"

void lf_vector_init_avx512(lf_kernels *k)
{
    vector_init(k);
}
