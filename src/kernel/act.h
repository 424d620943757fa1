/* Activations in the form that a weight dtype's product takes. Each row is converted by itself, so a row's
 * bytes never depend on its company.
 *
 *   f32   float x[n]                                    for f32 and f16 weights
 *   bf16  uint16_t x[n], n rounded up to 2 with a zero  for bf16 weights
 *   q8    int8 blocks of 32 with their own scale        for q8_0 and the k-quants
 *
 * A q8 row of n inputs (padded with zeros to a multiple of 64) is five arrays, each 64-byte aligned:
 *   int8_t  q[n64]          round-to-nearest-even of x * (127 / amax of the block)
 *   float   d[n64 / 32]     amax / 127
 *   float   ds[n64 / 32]    d * (float)(sum of q over the block): pairs with the minimum of q4_k and q5_k
 *   int32_t start[n64 / 32] -128 * (sum of q over the block): what a product with weights biased by 128 starts from
 *   int32_t sum[n64 / 16]   sums of q over 16 inputs: undo other biases of unsigned weights
 *
 * Two kinds of blocks have all their q 0: one whose amax is below LF_ACT_Q8_TINY, where 127 / amax could overflow (d is 0
 * then), and one that holds a NaN or an infinity (d is NaN, so that every product with the row is NaN). */
#ifndef LF_KERNEL_ACT_H
#define LF_KERNEL_ACT_H

#include "tensor/dtype.h"

typedef enum lf_act { LF_ACT_F32, LF_ACT_BF16, LF_ACT_Q8, LF_ACT_COUNT } lf_act;

enum { LF_ACT_Q8_BIAS = 128 }; /* of `start` */

#define LF_ACT_Q8_TINY 0x1p-119f /* amax / 127 is still normal here */

typedef struct lf_act_q8 {
    int8_t *q;
    float *d, *ds;
    int32_t *start, *sum;
} lf_act_q8;

/* The form that a product with weights (or a K cache) of `dtype` takes. */
lf_act lf_act_for(lf_dtype dtype);

/* Bytes of a row of n inputs, a multiple of 64. */
size_t lf_act_row_bytes(lf_act act, int n);

/* The five arrays of a q8 row that starts at `row` (64-byte aligned). */
lf_act_q8 lf_act_q8_at(const void *row, int n);

#endif
