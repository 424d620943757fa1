/* KV tiles: sizes, and one position in and out.
 *
 * q8_0 blocks: the scale is amax / 127 rounded to f16, at most the largest finite f16; the values are x
 * divided by that rounded scale, to nearest even, held in -127..127. An infinite value therefore saturates. A
 * block with a NaN gets a NaN scale: an error upstream stays visible. */
#include "kernel/kv_tile.h"

#include "tensor/half.h"

#include <assert.h>
#include <math.h>
#include <string.h>

enum { Q8_BLOCK = 32, Q8_BIAS = 128 };

static const float f16_max = 65504.0f;

static int round_up(int n, int multiple)
{
    return (n + multiple - 1) / multiple * multiple;
}

static int q8_blocks(int head_dim)
{
    return (head_dim + Q8_BLOCK - 1) / Q8_BLOCK;
}

bool lf_kv_layout_init(lf_kv_layout *out, lf_dtype dtype, int head_dim)
{
    if (head_dim < 1 || head_dim > LF_HEAD_DIM_MAX) return false;
    const int dim16 = round_up(head_dim, 16), dim32 = round_up(head_dim, Q8_BLOCK);
    const int q8_bytes = LF_TILE_POS * (dim32 + q8_blocks(head_dim) * (int)sizeof(uint16_t));
    int k_bytes, v_bytes, dim_padded = dim16;
    switch (dtype) {
    case LF_DTYPE_F32:
        k_bytes = LF_TILE_POS * head_dim * 4;
        v_bytes = LF_TILE_POS * dim16 * 4;
        break;
    case LF_DTYPE_F16:
        k_bytes = LF_TILE_POS * head_dim * 2;
        v_bytes = LF_TILE_POS * dim16 * 2;
        break;
    case LF_DTYPE_BF16:
        k_bytes = LF_TILE_POS * round_up(head_dim, 2) * 2;
        v_bytes = LF_TILE_POS * dim16 * 2;
        break;
    case LF_DTYPE_Q8_0:
        k_bytes = v_bytes = q8_bytes;
        dim_padded = dim32;
        break;
    default: return false;
    }
    out->dtype = dtype;
    out->head_dim = head_dim;
    out->dim_padded = dim_padded;
    out->v_offset = (size_t)round_up(k_bytes, 64);
    out->tile_bytes = out->v_offset + (size_t)round_up(v_bytes, 64);
    return true;
}

/* Nearest even for |x| < 2^22: adding 1.5 * 2^23 leaves the integer in the low bits. */
static int round_to_int(float x)
{
    return (int)(lf_float_to_bits(x + 0x1.8p23f) - 0x4b400000u);
}

/* q (32) = the first n <= 32 values of x as a q8_0 block, zeros after them; returns its scale. */
static uint16_t quantize_q8_block(int8_t q[Q8_BLOCK], const float *x, int n)
{
    float amax = 0.0f;
    bool has_nan = false;
    for (int i = 0; i < n; i++) {
        has_nan |= isnan(x[i]);
        amax = fmaxf(amax, fabsf(x[i]));
    }
    memset(q, 0, Q8_BLOCK);
    if (has_nan) return lf_f16_from_float(NAN);
    const uint16_t scale = lf_f16_from_float(fminf(amax / 127.0f, f16_max));
    const float d = lf_f16_to_float(scale);
    if (d == 0.0f) return scale;
    for (int i = 0; i < n; i++) q[i] = (int8_t)round_to_int(fminf(fmaxf(x[i] / d, -127.0f), 127.0f));
    return scale;
}

/* q8_0: K uint8_t q[nb][8][16][4], uint16_t d[nb][16]. */
static void store_k_q8(uint8_t *tile, int head_dim, int slot, const float *k)
{
    const int nb = q8_blocks(head_dim);
    uint16_t *scales = (void *)(tile + nb * Q8_BLOCK * LF_TILE_POS);
    for (int b = 0; b < nb; b++) {
        const int begin = b * Q8_BLOCK, n = head_dim - begin < Q8_BLOCK ? head_dim - begin : Q8_BLOCK;
        int8_t q[Q8_BLOCK];
        scales[b * LF_TILE_POS + slot] = quantize_q8_block(q, k + begin, n);
        for (int i = 0; i < Q8_BLOCK; i++)
            tile[((begin + i) / 4 * LF_TILE_POS + slot) * 4 + i % 4] = (uint8_t)(q[i] + Q8_BIAS);
    }
}

/* q8_0: V int8_t q[16][nb * 32], uint16_t d[16][nb]. */
static void store_v_q8(uint8_t *tile, int head_dim, int slot, const float *v)
{
    const int nb = q8_blocks(head_dim);
    uint16_t *scales = (void *)(tile + nb * Q8_BLOCK * LF_TILE_POS);
    for (int b = 0; b < nb; b++) {
        const int begin = b * Q8_BLOCK, n = head_dim - begin < Q8_BLOCK ? head_dim - begin : Q8_BLOCK;
        int8_t q[Q8_BLOCK];
        scales[slot * nb + b] = quantize_q8_block(q, v + begin, n);
        memcpy(tile + slot * nb * Q8_BLOCK + begin, q, Q8_BLOCK);
    }
}

static void load_q8(float *k, float *v, const uint8_t *k_tile, const uint8_t *v_tile, int head_dim, int slot)
{
    const int nb = q8_blocks(head_dim);
    const uint16_t *k_scales = (const void *)(k_tile + nb * Q8_BLOCK * LF_TILE_POS);
    const uint16_t *v_scales = (const void *)(v_tile + nb * Q8_BLOCK * LF_TILE_POS);
    for (int i = 0; i < head_dim; i++) {
        const int k_q = k_tile[(i / 4 * LF_TILE_POS + slot) * 4 + i % 4] - Q8_BIAS;
        const int8_t v_q = (int8_t)v_tile[slot * nb * Q8_BLOCK + i];
        k[i] = lf_f16_to_float(k_scales[i / Q8_BLOCK * LF_TILE_POS + slot]) * (float)k_q;
        v[i] = lf_f16_to_float(v_scales[slot * nb + i / Q8_BLOCK]) * (float)v_q;
    }
}

/* f32: K float [dim][16], V float [16][dim16]. */
static void load_f32(float *k, float *v, const float *k_tile, const float *v_tile, const lf_kv_layout *layout,
                     int slot)
{
    for (int i = 0; i < layout->head_dim; i++) {
        k[i] = k_tile[i * LF_TILE_POS + slot];
        v[i] = v_tile[slot * layout->dim_padded + i];
    }
}

/* f16: as f32, in uint16_t. */
static void load_f16(float *k, float *v, const uint16_t *k_tile, const uint16_t *v_tile,
                     const lf_kv_layout *layout, int slot)
{
    for (int i = 0; i < layout->head_dim; i++) {
        k[i] = lf_f16_to_float(k_tile[i * LF_TILE_POS + slot]);
        v[i] = lf_f16_to_float(v_tile[slot * layout->dim_padded + i]);
    }
}

/* bf16: K uint16_t [ceil(dim / 2)][16][2], V uint16_t [8][dim16][2]. */
static void load_bf16(float *k, float *v, const uint16_t *k_tile, const uint16_t *v_tile,
                      const lf_kv_layout *layout, int slot)
{
    for (int i = 0; i < layout->head_dim; i++) {
        k[i] = lf_bf16_to_float(k_tile[(i / 2 * LF_TILE_POS + slot) * 2 + i % 2]);
        v[i] = lf_bf16_to_float(v_tile[(slot / 2 * layout->dim_padded + i) * 2 + slot % 2]);
    }
}

void lf_kv_tile_store_k_bf16(void *tile, const lf_kv_layout *layout, int slot, const uint16_t *k)
{
    assert(layout->dtype == LF_DTYPE_BF16 && slot >= 0 && slot < LF_TILE_POS);
    const int dim = layout->head_dim;
    uint16_t *pair = (uint16_t *)tile + 2 * slot; /* one of each (16 slots, 2) */
    for (int i = 0; i + 1 < dim; i += 2, pair += 2 * LF_TILE_POS) memcpy(pair, k + i, 2 * sizeof *k);
    if (dim % 2) memcpy(pair, (uint16_t[2]){k[dim - 1]}, 2 * sizeof *k);
}

void lf_kv_tile_store_v_bf16(void *tile, const lf_kv_layout *layout, int slot, const uint16_t *v)
{
    assert(layout->dtype == LF_DTYPE_BF16 && slot >= 0 && slot < LF_TILE_POS);
    const int dim = layout->head_dim, dim16 = layout->dim_padded;
    uint16_t *h = (uint16_t *)(void *)((uint8_t *)tile + layout->v_offset) + slot / 2 * dim16 * 2 + slot % 2;
    for (int i = 0; i < dim; i++) h[2 * i] = v[i];
    for (int i = dim; i < dim16; i++) h[2 * i] = 0;
}

static void round_to_bf16(uint16_t *out, const float *x, int n)
{
    for (int i = 0; i < n; i++) out[i] = lf_bf16_from_float(x[i]);
}

void lf_kv_tile_store_k(void *tile, const lf_kv_layout *layout, int slot, const float *k)
{
    assert(slot >= 0 && slot < LF_TILE_POS);
    const int dim = layout->head_dim;
    float *f = tile;
    uint16_t *h = tile, rounded[LF_HEAD_DIM_MAX];
    switch (layout->dtype) {
    case LF_DTYPE_F32:
        for (int i = 0; i < dim; i++) f[i * LF_TILE_POS + slot] = k[i];
        break;
    case LF_DTYPE_F16:
        for (int i = 0; i < dim; i++) h[i * LF_TILE_POS + slot] = lf_f16_from_float(k[i]);
        break;
    case LF_DTYPE_BF16:
        round_to_bf16(rounded, k, dim);
        lf_kv_tile_store_k_bf16(tile, layout, slot, rounded);
        break;
    case LF_DTYPE_Q8_0: store_k_q8(tile, dim, slot, k); break;
    default: assert(false);
    }
}

void lf_kv_tile_store_v(void *tile, const lf_kv_layout *layout, int slot, const float *v)
{
    assert(slot >= 0 && slot < LF_TILE_POS);
    const int dim = layout->head_dim, dim16 = layout->dim_padded;
    float *f = (void *)((uint8_t *)tile + layout->v_offset);
    uint16_t *h = (void *)f, rounded[LF_HEAD_DIM_MAX];
    switch (layout->dtype) {
    case LF_DTYPE_F32:
        for (int i = 0; i < dim16; i++) f[slot * dim16 + i] = i < dim ? v[i] : 0.0f;
        break;
    case LF_DTYPE_F16:
        for (int i = 0; i < dim16; i++) h[slot * dim16 + i] = i < dim ? lf_f16_from_float(v[i]) : 0;
        break;
    case LF_DTYPE_BF16:
        round_to_bf16(rounded, v, dim);
        lf_kv_tile_store_v_bf16(tile, layout, slot, rounded);
        break;
    case LF_DTYPE_Q8_0: store_v_q8((void *)f, dim, slot, v); break;
    default: assert(false);
    }
}

void lf_kv_tile_store(void *tile, const lf_kv_layout *layout, int slot, const float *k, const float *v)
{
    lf_kv_tile_store_k(tile, layout, slot, k);
    lf_kv_tile_store_v(tile, layout, slot, v);
}

void lf_kv_tile_load(float *k, float *v, const void *tile, const lf_kv_layout *layout, int slot)
{
    assert(slot >= 0 && slot < LF_TILE_POS);
    const void *v_tile = (const uint8_t *)tile + layout->v_offset;
    switch (layout->dtype) {
    case LF_DTYPE_F32: load_f32(k, v, tile, v_tile, layout, slot); break;
    case LF_DTYPE_F16: load_f16(k, v, tile, v_tile, layout, slot); break;
    case LF_DTYPE_BF16: load_bf16(k, v, tile, v_tile, layout, slot); break;
    case LF_DTYPE_Q8_0: load_q8(k, v, tile, v_tile, layout->head_dim, slot); break;
    default: assert(false);
    }
}
