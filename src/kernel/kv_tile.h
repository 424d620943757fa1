/* The KV tile: 16 positions of one layer and KV head, K then V, in the layout that the attention kernel
 * reads.
 *
 * For K a vector lane is a position, for V it is a dimension of the head:
 *
 *            K                                              V
 *   f32      float    [head_dim][16]                        float    [16][dim16]
 *   f16      uint16_t [head_dim][16]                        uint16_t [16][dim16]
 *   bf16     uint16_t [ceil(head_dim / 2)][16][2]           uint16_t [8][dim16][2]     pairs of positions
 *   q8_0     uint8_t  q[nb][8][16][4] (value + 128),        int8_t q[16][nb * 32],
 *            f16      d[nb][16]                             f16    d[16][nb]
 *
 * dim16 = head_dim rounded up to 16, nb = ceil(head_dim / 32); padding is zero. Slots that no row sees may
 * hold anything: kernels never let them reach arithmetic whose result is kept. */
#ifndef LF_KERNEL_KV_TILE_H
#define LF_KERNEL_KV_TILE_H

#include "tensor/dtype.h"

enum { LF_TILE_POS = 16, LF_HEAD_DIM_MAX = 1024 };

typedef struct lf_kv_layout {
    lf_dtype dtype; /* f32, f16, bf16 or q8_0 */
    int head_dim;
    int dim_padded;    /* floats of one V row as kernels write it: dim16, or nb * 32 for q8_0 */
    size_t v_offset;   /* bytes from the tile's start to V, a multiple of 64 */
    size_t tile_bytes; /* a multiple of 64 */
} lf_kv_layout;

/* The layout for a supported KV dtype and 1 <= head_dim <= LF_HEAD_DIM_MAX; false for any other. */
bool lf_kv_layout_init(lf_kv_layout *out, lf_dtype dtype, int head_dim);

/* Writes k (head_dim) and v (head_dim) to slot 0..15 of the tile, converted to the layout's dtype; the
 * padding of that slot becomes zero. Other slots are not touched. */
void lf_kv_tile_store(void *tile, const lf_kv_layout *layout, int slot, const float *k, const float *v);
void lf_kv_tile_store_k(void *tile, const lf_kv_layout *layout, int slot, const float *k);
void lf_kv_tile_store_v(void *tile, const lf_kv_layout *layout, int slot, const float *v);

/* The same for a bf16 layout and values (head_dim) that are bf16 already, as a row of LF_ACT_BF16 has them. */
void lf_kv_tile_store_k_bf16(void *tile, const lf_kv_layout *layout, int slot, const uint16_t *k);
void lf_kv_tile_store_v_bf16(void *tile, const lf_kv_layout *layout, int slot, const uint16_t *v);

/* Reads them back as floats (tests, converters). */
void lf_kv_tile_load(float *k, float *v, const void *tile, const lf_kv_layout *layout, int slot);

#endif
