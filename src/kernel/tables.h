/* The parts of the kernel table, one family and instruction set each. They are called in ascending order, so
 * that an instruction set overrides only what it makes faster. */
#ifndef LF_KERNEL_TABLES_H
#define LF_KERNEL_TABLES_H

#include "kernel/kernel.h"

void lf_matmul_init_scalar(lf_kernels *k);
void lf_attend_init_scalar(lf_kernels *k);
void lf_vector_init_scalar(lf_kernels *k);

void lf_matmul_init_avx2(lf_kernels *k);
void lf_attend_init_avx2(lf_kernels *k);
void lf_vector_init_avx2(lf_kernels *k);

void lf_matmul_init_avx512(lf_kernels *k);
void lf_attend_init_avx512(lf_kernels *k);
void lf_vector_init_avx512(lf_kernels *k);

void lf_matmul_init_avx512bf16(lf_kernels *k);
void lf_attend_init_avx512bf16(lf_kernels *k);

#endif
