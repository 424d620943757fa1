/* ops.h with AVX-512. */
#define LF_TRAIN_OPS lf_train_ops_avx512
#include "train/ops_body.h"
