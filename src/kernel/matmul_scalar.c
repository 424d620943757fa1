/* Products of rows with packed weights: the specification of kernel.h, one output and row after the other. y holds the
 * accumulators. */
#include "kernel/bf16_pair.h"
#include "kernel/packed_records.h"
#include "kernel/tables.h"

#include <math.h>

/* acc (16) += the product of one row with one tile. */
typedef void tile_fn(float *acc, const lf_packed *w, const uint8_t *tile, const void *x);

static void matmul_tiles(float *y, size_t y_stride, const lf_packed *w, int tile_begin, int tile_end,
                         const void *x, size_t x_stride, int n_rows, tile_fn *add_product)
{
    for (int t = tile_begin; t < tile_end; t++) {
        for (int r = 0; r < n_rows; r++) {
            float *acc = y + (size_t)r * y_stride + (size_t)t * LF_TILE_OUT;
            for (int j = 0; j < LF_TILE_OUT; j++) acc[j] = 0.0f;
            add_product(acc, w, w->data + (size_t)t * w->tile_bytes,
                        (const uint8_t *)x + (size_t)r * x_stride);
        }
    }
}

static void add_product_f32(float *acc, const lf_packed *w, const uint8_t *tile, const void *x)
{
    const float *values = x, *weights = (const void *)tile; /* (n_in), (n_in, 16) */
    for (int i = 0; i < w->n_in; i++, weights += LF_TILE_OUT)
        for (int j = 0; j < LF_TILE_OUT; j++) acc[j] = fmaf(values[i], weights[j], acc[j]);
}

static void add_product_f16(float *acc, const lf_packed *w, const uint8_t *tile, const void *x)
{
    const float *values = x;                      /* (n_in) */
    const uint16_t *weights = (const void *)tile; /* (n_in, 16) */
    for (int i = 0; i < w->n_in; i++, weights += LF_TILE_OUT)
        for (int j = 0; j < LF_TILE_OUT; j++) acc[j] = fmaf(values[i], lf_f16_to_float(weights[j]), acc[j]);
}

static void add_product_bf16(float *acc, const lf_packed *w, const uint8_t *tile, const void *x)
{
    const uint16_t *values = x, *weights = (const void *)tile; /* (n_in / 2, 2), (n_in / 2, 16, 2) */
    for (int i = 0; i < w->n_in; i += 2, weights += 2 * LF_TILE_OUT)
        for (int j = 0; j < LF_TILE_OUT; j++) acc[j] = bf16_pair_fma(values + i, weights + 2 * j, acc[j]);
}

/* Exact: at most 32 products of 8-bit values. */
static float dot(const int16_t *weights, const int8_t *values, int n)
{
    int32_t sum = 0;
    for (int i = 0; i < n; i++) sum += weights[i] * values[i];
    return (float)sum;
}

static void add_product_blocks(float *acc, const lf_packed *w, const uint8_t *tile, const void *x)
{
    const lf_act_q8 row = lf_act_q8_at(x, w->n_in);
    const int part = w->dtype == LF_DTYPE_Q6_K ? 16 : PACKED_BLOCK; /* inputs of one scale */
    const bool has_minimum = w->dtype == LF_DTYPE_Q4_K || w->dtype == LF_DTYPE_Q5_K;
    for (int b = 0; b < w->n_in / PACKED_BLOCK; b++) {
        for (int j = 0; j < LF_TILE_OUT; j++) {
            packed_block block;
            lf_packed_get_block(&block, tile, w->dtype, b, j);
            for (int i = 0; i < PACKED_BLOCK; i += part)
                acc[j] = fmaf(dot(block.q + i, row.q + b * PACKED_BLOCK + i, part),
                              block.scale[i / 16] * row.d[b], acc[j]);
            if (has_minimum) acc[j] = fmaf(-block.minimum, row.ds[b], acc[j]);
        }
    }
}

#define DEFINE_MATMUL(name, add_product)                                                                     \
    static void name(float *y, size_t y_stride, const lf_packed *w, int tile_begin, int tile_end,            \
                     const void *x, size_t x_stride, int n_rows, const void *next)                           \
    {                                                                                                        \
        (void)next;                                                                                          \
        matmul_tiles(y, y_stride, w, tile_begin, tile_end, x, x_stride, n_rows, add_product);                \
    }

DEFINE_MATMUL(matmul_f32, add_product_f32)
DEFINE_MATMUL(matmul_f16, add_product_f16)
DEFINE_MATMUL(matmul_bf16, add_product_bf16)
DEFINE_MATMUL(matmul_blocks, add_product_blocks)

void lf_matmul_init_scalar(lf_kernels *k)
{
    k->matmul[LF_DTYPE_F32] = matmul_f32;
    k->matmul[LF_DTYPE_F16] = matmul_f16;
    k->matmul[LF_DTYPE_BF16] = matmul_bf16;
    for (int dtype = LF_DTYPE_Q8_0; dtype <= LF_DTYPE_Q6_K; dtype++) k->matmul[dtype] = matmul_blocks;
}
