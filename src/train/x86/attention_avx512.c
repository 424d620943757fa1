/* Attention kernels with AVX-512 F, BW, VL and DQ. */
#include "kernel/x86/attend_lanes_avx512.h"

#define lanes_dot           lanes_fma
#define CELL_VALUES         1
#define BLOCK_ROWS          4
#define BLOCK_LANES         4
#define LF_ATTENTION_KERNEL lf_attention_avx512
#include "train/attention_body.h"
