/* The records of packed weights (packed.h) as structs, through which packing, the scalar products and the vector ones
 * address them. */
#ifndef LF_KERNEL_PACKED_RECORDS_H
#define LF_KERNEL_PACKED_RECORDS_H

#include "kernel/act.h"
#include "kernel/packed.h"

#include <assert.h>

enum {
    PACKED_BLOCK = 32,          /* inputs of a block */
    PACKED_GROUPS = 8,          /* groups of 4 inputs in a block */
    PACKED_CHUNK = 256,         /* inputs: a whole number of records of every dtype */
    Q8_0_BIAS = LF_ACT_Q8_BIAS, /* stored value - bias is the weight before scaling */
    Q4_0_BIAS = 8,
    Q6_K_BIAS = 32,
};

/* A block's four-bit values: group g in the low half of vector g, group g + 4 in the high half. */
typedef uint8_t packed_nibbles[PACKED_GROUPS / 2][LF_TILE_OUT][4];

typedef struct packed_q8_0 {
    uint8_t q[2][PACKED_GROUPS][LF_TILE_OUT][4];
    uint16_t d[2][LF_TILE_OUT];
} packed_q8_0;

typedef struct packed_q4_0 {
    packed_nibbles q[2];
    uint16_t d[2][LF_TILE_OUT];
} packed_q4_0;

typedef struct packed_q4_k {
    packed_nibbles q[8];
    uint8_t sc[8][LF_TILE_OUT], m[8][LF_TILE_OUT];
    uint16_t d[LF_TILE_OUT], dmin[LF_TILE_OUT];
} packed_q4_k;

typedef struct packed_q5_k {
    packed_nibbles q[8];
    uint8_t h[8][LF_TILE_OUT][4]; /* bit g: the fifth bit of group g */
    uint8_t sc[8][LF_TILE_OUT], m[8][LF_TILE_OUT];
    uint16_t d[LF_TILE_OUT], dmin[LF_TILE_OUT];
} packed_q5_k;

typedef struct packed_q6_k {
    packed_nibbles ql[8];
    uint8_t qh[8][2][LF_TILE_OUT][4]; /* vector g % 2, bits 2 (g / 2) and up: the upper two bits of group g */
    int8_t sc[16][LF_TILE_OUT];
    uint16_t d[LF_TILE_OUT];
    uint8_t zeros[32];
} packed_q6_k;

static_assert(sizeof(packed_q8_0) == 1088 && sizeof(packed_q4_0) == 576 && sizeof(packed_q4_k) == 2368 &&
                  sizeof(packed_q5_k) == 2880 && sizeof(packed_q6_k) == 3392,
              "records are whole cache lines without padding");

/* The inputs of one record, and its bytes. */
static inline int packed_record_inputs(lf_dtype dtype)
{
    switch (dtype) {
    case LF_DTYPE_BF16: return 2;
    case LF_DTYPE_Q8_0:
    case LF_DTYPE_Q4_0: return 64;
    case LF_DTYPE_Q4_K:
    case LF_DTYPE_Q5_K:
    case LF_DTYPE_Q6_K: return 256;
    default: return 1;
    }
}

static inline size_t packed_record_bytes(lf_dtype dtype)
{
    switch (dtype) {
    case LF_DTYPE_F16: return LF_TILE_OUT * 2;
    case LF_DTYPE_Q8_0: return sizeof(packed_q8_0);
    case LF_DTYPE_Q4_0: return sizeof(packed_q4_0);
    case LF_DTYPE_Q4_K: return sizeof(packed_q4_k);
    case LF_DTYPE_Q5_K: return sizeof(packed_q5_k);
    case LF_DTYPE_Q6_K: return sizeof(packed_q6_k);
    default: return LF_TILE_OUT * 4; /* f32, and pairs of bf16 */
    }
}

/* One output's block of 32 weights of a quantised dtype: weight i is scale[i / 16] * q[i] - minimum. */
typedef struct packed_block {
    int16_t q[PACKED_BLOCK]; /* without the bias */
    float scale[2];          /* d; d * sc: equal but for q6_k */
    float minimum;           /* dmin * m of q4_k and q5_k, else 0 */
} packed_block;

/* Block i_block of output j (0..15) of a tile. */
void lf_packed_get_block(packed_block *out, const uint8_t *tile, lf_dtype dtype, int i_block, int j);

#endif
