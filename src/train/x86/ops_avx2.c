/* ops.h with AVX2. */
#define LF_TRAIN_OPS lf_train_ops_avx2
#include "train/ops_body.h"
