/* Attention kernels with AVX2. */
#include "kernel/x86/attend_lanes_avx2.h"

#define lanes_dot           lanes_fma
#define CELL_VALUES         1
#define BLOCK_ROWS          4
#define BLOCK_LANES         1
#define LF_ATTENTION_KERNEL lf_attention_avx2
#include "train/attention_body.h"
