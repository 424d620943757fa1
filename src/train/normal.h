/* Normal random numbers by index: each is a pure function of (seed, stream, index), so that they are the
 * same however the work of making them is divided. Box-Muller on Philox. */
#ifndef LF_TRAIN_NORMAL_H
#define LF_TRAIN_NORMAL_H

#include <stddef.h>
#include <stdint.h>

/* data (n) = normal with mean 0 and the given deviation. */
void lf_fill_normal(float *data, size_t n, float deviation, uint64_t seed, uint32_t stream);

#endif
