/* Packing weights into tiles, and reading single rows back.
 *
 * A tile is filled PACKED_CHUNK inputs at a time, output after output, so that the part of the tile that is written
 * stays in the first-level cache. Source rows may lie at any address: a file aligns them to nothing. */
#include "kernel/packed.h"

#include "base/mem.h"
#include "kernel/packed_records.h"
#include "tensor/half.h"
#include "tensor/quant.h"

#include <stdlib.h>
#include <string.h>

enum { K_SUB_BLOCKS = 8, LINE = 64 };

/* ---- planning ---- */

static bool tile_layout(lf_dtype dtype, int n_out, int n_in, size_t *tile_bytes, size_t *total)
{
    const size_t inputs = (size_t)packed_record_inputs(dtype);
    const size_t n_records = ((size_t)n_in + inputs - 1) / inputs;
    const size_t n_tiles = ((size_t)n_out + LF_TILE_OUT - 1) / LF_TILE_OUT;
    size_t bytes;
    if (!lf_mul_size(n_records, packed_record_bytes(dtype), &bytes) || !lf_add_size(bytes, LINE - 1, &bytes))
        return false;
    *tile_bytes = bytes & ~(size_t)(LINE - 1);
    return lf_mul_size(n_tiles, *tile_bytes, total);
}

static bool shape_fits(lf_dtype dtype, int n_out, int n_in)
{
    return n_out >= 1 && n_in >= 1 && (uint32_t)n_in % lf_dtype_of(dtype)->block_len == 0;
}

bool lf_packed_bytes(lf_dtype dtype, int n_out, int n_in, size_t *out)
{
    size_t tile_bytes;
    return shape_fits(dtype, n_out, n_in) && tile_layout(dtype, n_out, n_in, &tile_bytes, out);
}

lf_status lf_packed_init(lf_packed *w, lf_dtype dtype, int n_out, int n_in, lf_error *err)
{
    size_t tile_bytes, total;
    *w = (lf_packed){0};
    if (!shape_fits(dtype, n_out, n_in))
        return lf_fail(err, LF_EINVAL,
                       "%s weights of %d inputs and %d outputs: expected a multiple of %u inputs",
                       lf_dtype_of(dtype)->name, n_in, n_out, (unsigned)lf_dtype_of(dtype)->block_len);
    if (!tile_layout(dtype, n_out, n_in, &tile_bytes, &total))
        return lf_fail_memory(err, "packed weights", SIZE_MAX);
    uint8_t *data = lf_calloc_aligned(total);
    if (!data) return lf_fail_memory(err, "packed weights", total);
    *w = (lf_packed){.dtype = dtype,
                     .n_out = n_out,
                     .n_in = n_in,
                     .n_tiles = (n_out - 1) / LF_TILE_OUT + 1,
                     .tile_bytes = tile_bytes,
                     .data = data};
    return LF_OK;
}

void lf_packed_free(lf_packed *w)
{
    free(w->data);
    *w = (lf_packed){0};
}

/* ---- source blocks ---- */

/* A block of a file: its fields by byte offset (tensor/dtype.h). */
enum {
    Q8_0_BYTES = 34,
    Q4_0_BYTES = 18,
    Q4_K_BYTES = 144,
    Q5_K_BYTES = 176,
    Q6_K_BYTES = 210,
    BLOCK_Q = 2,  /* q8_0, q4_0: d, q */
    K_SCALES = 4, /* q4_k, q5_k: d, dmin, scales[12], ... */
    Q4_K_Q = 16,  /* q[128] */
    Q5_K_H = 16,  /* h[32], q[128] */
    Q5_K_Q = 48,
    Q6_K_H = 128, /* q[128], h[64], sc[16], d */
    Q6_K_SC = 192,
    Q6_K_D = 208,
};

static uint16_t load_half(const uint8_t *src)
{
    uint16_t h;
    memcpy(&h, src, sizeof h);
    return h;
}

/* The six-bit scale and minimum of sub-block b, out of the 12 bytes of q4_k and q5_k. */
static void load_scale_min(uint8_t *sc, uint8_t *m, const uint8_t *scales, int b)
{
    if (b < 4) {
        *sc = scales[b] & 63;
        *m = scales[b + 4] & 63;
    } else {
        *sc = (uint8_t)((scales[b + 4] & 15) | scales[b - 4] >> 6 << 4);
        *m = (uint8_t)(scales[b + 4] >> 4 | scales[b] >> 6 << 4);
    }
}

/* codes (32) = the four-bit values of sub-block b of q4_k and q5_k: two sub-blocks share 32 bytes. */
static void load_nibbles_k(uint8_t codes[PACKED_BLOCK], const uint8_t *q, int b)
{
    const uint8_t *half = q + b / 2 * PACKED_BLOCK;
    for (int i = 0; i < PACKED_BLOCK; i++) codes[i] = half[i] >> b % 2 * 4 & 15;
}

/* codes (32) = the six-bit values of block b (0..7) of a q6_k super-block: four blocks share 64 bytes of q and 32 of
 * h. */
static void load_codes_q6_k(uint8_t codes[PACKED_BLOCK], const uint8_t *block, int b)
{
    const uint8_t *q = block + b / 4 * 64 + b % 2 * PACKED_BLOCK, *h = block + Q6_K_H + b / 4 * PACKED_BLOCK;
    for (int i = 0; i < PACKED_BLOCK; i++)
        codes[i] = (uint8_t)((q[i] >> b % 4 / 2 * 4 & 15) | (h[i] >> b % 4 * 2 & 3) << 4);
}

static void store_nibbles(packed_nibbles q, int j, const uint8_t codes[PACKED_BLOCK])
{
    for (int i = 0; i < PACKED_BLOCK / 2; i++)
        q[i / 4][j][i % 4] = (uint8_t)((codes[i] & 15) | codes[i + PACKED_BLOCK / 2] << 4);
}

/* ---- packing: inputs [begin, end) of output j, out of its whole row; begin is a multiple of PACKED_CHUNK ---- */

typedef void pack_fn(uint8_t *tile, int j, const uint8_t *row, int begin, int end);

static void pack_f32(uint8_t *tile, int j, const uint8_t *row, int begin, int end)
{
    for (size_t i = (size_t)begin; i < (size_t)end; i++)
        memcpy(tile + (i * LF_TILE_OUT + (size_t)j) * 4, row + i * 4, 4);
}

static void pack_f16(uint8_t *tile, int j, const uint8_t *row, int begin, int end)
{
    for (size_t i = (size_t)begin; i < (size_t)end; i++)
        memcpy(tile + (i * LF_TILE_OUT + (size_t)j) * 2, row + i * 2, 2);
}

static void pack_bf16(uint8_t *tile, int j, const uint8_t *row, int begin, int end)
{
    for (size_t i = (size_t)begin; i < (size_t)end; i++)
        memcpy(tile + (i / 2 * LF_TILE_OUT + (size_t)j) * 4 + i % 2 * 2, row + i * 2, 2);
}

static void pack_q8_0(uint8_t *tile, int j, const uint8_t *row, int begin, int end)
{
    packed_q8_0 *records = (void *)tile;
    for (int b = begin / PACKED_BLOCK; b < end / PACKED_BLOCK; b++) {
        const uint8_t *block = row + (size_t)b * Q8_0_BYTES;
        packed_q8_0 *record = &records[b / 2];
        record->d[b % 2][j] = load_half(block);
        for (int i = 0; i < PACKED_BLOCK; i++)
            record->q[b % 2][i / 4][j][i % 4] = block[BLOCK_Q + i] ^ Q8_0_BIAS; /* adds it, modulo 256 */
    }
}

static void pack_q4_0(uint8_t *tile, int j, const uint8_t *row, int begin, int end)
{
    packed_q4_0 *records = (void *)tile;
    for (int b = begin / PACKED_BLOCK; b < end / PACKED_BLOCK; b++) {
        const uint8_t *block = row + (size_t)b * Q4_0_BYTES;
        packed_q4_0 *record = &records[b / 2];
        record->d[b % 2][j] = load_half(block);
        for (int g = 0; g < PACKED_GROUPS / 2; g++) /* pairs i and i + 16 already share a byte */
            memcpy(record->q[b % 2][g][j], block + BLOCK_Q + 4 * g, 4);
    }
}

static void pack_q4_k(uint8_t *tile, int j, const uint8_t *row, int begin, int end)
{
    packed_q4_k *records = (void *)tile;
    for (int k = begin / PACKED_CHUNK; k < end / PACKED_CHUNK; k++) {
        const uint8_t *block = row + (size_t)k * Q4_K_BYTES;
        packed_q4_k *record = &records[k];
        record->d[j] = load_half(block);
        record->dmin[j] = load_half(block + 2);
        for (int b = 0; b < K_SUB_BLOCKS; b++) {
            uint8_t codes[PACKED_BLOCK];
            load_scale_min(&record->sc[b][j], &record->m[b][j], block + K_SCALES, b);
            load_nibbles_k(codes, block + Q4_K_Q, b);
            store_nibbles(record->q[b], j, codes);
        }
    }
}

static void pack_q5_k(uint8_t *tile, int j, const uint8_t *row, int begin, int end)
{
    packed_q5_k *records = (void *)tile;
    for (int k = begin / PACKED_CHUNK; k < end / PACKED_CHUNK; k++) {
        const uint8_t *block = row + (size_t)k * Q5_K_BYTES;
        packed_q5_k *record = &records[k];
        record->d[j] = load_half(block);
        record->dmin[j] = load_half(block + 2);
        for (int b = 0; b < K_SUB_BLOCKS; b++) {
            uint8_t codes[PACKED_BLOCK];
            load_scale_min(&record->sc[b][j], &record->m[b][j], block + K_SCALES, b);
            load_nibbles_k(codes, block + Q5_K_Q, b);
            store_nibbles(record->q[b], j, codes);
            uint8_t *h = record->h[b][j];
            for (int i = 0; i < PACKED_BLOCK; i++)
                h[i % 4] = (uint8_t)(h[i % 4] | (block[Q5_K_H + i] >> b & 1) << i / 4);
        }
    }
}

static void pack_q6_k(uint8_t *tile, int j, const uint8_t *row, int begin, int end)
{
    packed_q6_k *records = (void *)tile;
    for (int k = begin / PACKED_CHUNK; k < end / PACKED_CHUNK; k++) {
        const uint8_t *block = row + (size_t)k * Q6_K_BYTES;
        packed_q6_k *record = &records[k];
        record->d[j] = load_half(block + Q6_K_D);
        for (int s = 0; s < 2 * K_SUB_BLOCKS; s++) record->sc[s][j] = (int8_t)block[Q6_K_SC + s];
        for (int b = 0; b < K_SUB_BLOCKS; b++) {
            uint8_t codes[PACKED_BLOCK];
            load_codes_q6_k(codes, block, b);
            store_nibbles(record->ql[b], j, codes);
            for (int i = 0; i < PACKED_BLOCK; i++) {
                uint8_t *h = &record->qh[b][i / 4 % 2][j][i % 4];
                *h = (uint8_t)(*h | codes[i] >> 4 << i / 8 * 2);
            }
        }
    }
}

static pack_fn *const pack_fns[LF_DTYPE_COUNT] = {
    [LF_DTYPE_F32] = pack_f32,   [LF_DTYPE_F16] = pack_f16,   [LF_DTYPE_BF16] = pack_bf16,
    [LF_DTYPE_Q8_0] = pack_q8_0, [LF_DTYPE_Q4_0] = pack_q4_0, [LF_DTYPE_Q4_K] = pack_q4_k,
    [LF_DTYPE_Q5_K] = pack_q5_k, [LF_DTYPE_Q6_K] = pack_q6_k,
};

/* Scratch: one row of floats, then the 16 rows in w->dtype. */
static size_t float_row_bytes(const lf_packed *w)
{
    return ((size_t)w->n_in * sizeof(float) + LINE - 1) / LINE * LINE;
}

static size_t source_row_bytes(const lf_packed *w)
{
    const lf_dtype_info *info = lf_dtype_of(w->dtype);
    return (size_t)w->n_in / info->block_len * info->block_bytes;
}

size_t lf_pack_scratch_bytes(const lf_packed *w)
{
    return float_row_bytes(w) + LF_TILE_OUT * source_row_bytes(w);
}

void lf_pack_tile(lf_packed *w, int i_tile, const void *const rows[LF_TILE_OUT], lf_dtype src_dtype,
                  void *scratch)
{
    assert(i_tile >= 0 && i_tile < w->n_tiles);
    uint8_t *tile = w->data + (size_t)i_tile * w->tile_bytes;
    const uint8_t *sources[LF_TILE_OUT];
    for (int j = 0; j < LF_TILE_OUT; j++) {
        sources[j] = rows[j];
        if (src_dtype == w->dtype || !rows[j]) continue;
        float *floats = scratch;
        uint8_t *converted = (uint8_t *)scratch + float_row_bytes(w) + (size_t)j * source_row_bytes(w);
        lf_dequantize_row(floats, rows[j], src_dtype, (size_t)w->n_in);
        lf_quantize_row(converted, floats, w->dtype, (size_t)w->n_in);
        sources[j] = converted;
    }

    memset(tile, 0, w->tile_bytes);
    for (int begin = 0; begin < w->n_in; begin += PACKED_CHUNK) {
        const int end = w->n_in - begin < PACKED_CHUNK ? w->n_in : begin + PACKED_CHUNK;
        for (int j = 0; j < LF_TILE_OUT; j++)
            if (sources[j]) pack_fns[w->dtype](tile, j, sources[j], begin, end);
    }
}

/* ---- reading back ---- */

/* q (32) = the four-bit values of output j. */
static void get_nibbles(int16_t q[PACKED_BLOCK], const packed_nibbles nibbles, int j)
{
    for (int i = 0; i < PACKED_BLOCK / 2; i++) {
        q[i] = nibbles[i / 4][j][i % 4] & 15;
        q[i + PACKED_BLOCK / 2] = nibbles[i / 4][j][i % 4] >> 4;
    }
}

static void get_block_q8_0(packed_block *out, const packed_q8_0 *record, int b, int j)
{
    for (int i = 0; i < PACKED_BLOCK; i++) out->q[i] = (int16_t)(record->q[b][i / 4][j][i % 4] - Q8_0_BIAS);
    out->scale[0] = out->scale[1] = lf_f16_to_float(record->d[b][j]);
}

static void get_block_q4_0(packed_block *out, const packed_q4_0 *record, int b, int j)
{
    get_nibbles(out->q, record->q[b], j);
    for (int i = 0; i < PACKED_BLOCK; i++) out->q[i] = (int16_t)(out->q[i] - Q4_0_BIAS);
    out->scale[0] = out->scale[1] = lf_f16_to_float(record->d[b][j]);
}

static void get_block_q4_k(packed_block *out, const packed_q4_k *record, int b, int j)
{
    get_nibbles(out->q, record->q[b], j);
    out->scale[0] = out->scale[1] = lf_f16_to_float(record->d[j]) * (float)record->sc[b][j];
    out->minimum = lf_f16_to_float(record->dmin[j]) * (float)record->m[b][j];
}

static void get_block_q5_k(packed_block *out, const packed_q5_k *record, int b, int j)
{
    get_nibbles(out->q, record->q[b], j);
    for (int i = 0; i < PACKED_BLOCK; i++)
        out->q[i] = (int16_t)(out->q[i] + (record->h[b][j][i % 4] >> i / 4 & 1) * 16);
    out->scale[0] = out->scale[1] = lf_f16_to_float(record->d[j]) * (float)record->sc[b][j];
    out->minimum = lf_f16_to_float(record->dmin[j]) * (float)record->m[b][j];
}

static void get_block_q6_k(packed_block *out, const packed_q6_k *record, int b, int j)
{
    get_nibbles(out->q, record->ql[b], j);
    for (int i = 0; i < PACKED_BLOCK; i++) {
        const int g = i / 4, upper = record->qh[b][g % 2][j][i % 4] >> g / 2 * 2 & 3;
        out->q[i] = (int16_t)(out->q[i] + upper * 16 - Q6_K_BIAS);
    }
    for (int s = 0; s < 2; s++)
        out->scale[s] = lf_f16_to_float(record->d[j]) * (float)record->sc[2 * b + s][j];
}

void lf_packed_get_block(packed_block *out, const uint8_t *tile, lf_dtype dtype, int i_block, int j)
{
    const int per_record = packed_record_inputs(dtype) / PACKED_BLOCK, b = i_block % per_record;
    const void *record = tile + (size_t)(i_block / per_record) * packed_record_bytes(dtype);
    out->minimum = 0.0f;
    switch (dtype) {
    case LF_DTYPE_Q8_0: get_block_q8_0(out, record, b, j); break;
    case LF_DTYPE_Q4_0: get_block_q4_0(out, record, b, j); break;
    case LF_DTYPE_Q4_K: get_block_q4_k(out, record, b, j); break;
    case LF_DTYPE_Q5_K: get_block_q5_k(out, record, b, j); break;
    case LF_DTYPE_Q6_K: get_block_q6_k(out, record, b, j); break;
    default: assert(false);
    }
}

void lf_unpack_row(float *y, const lf_packed *w, int i_out)
{
    assert(i_out >= 0 && i_out < w->n_out);
    const uint8_t *tile = w->data + (size_t)(i_out / LF_TILE_OUT) * w->tile_bytes;
    const size_t j = (size_t)(i_out % LF_TILE_OUT), n_in = (size_t)w->n_in;
    const float *floats = (const void *)tile;
    const uint16_t *halves = (const void *)tile;
    switch (w->dtype) {
    case LF_DTYPE_F32:
        for (size_t i = 0; i < n_in; i++) y[i] = floats[i * LF_TILE_OUT + j];
        break;
    case LF_DTYPE_F16:
        for (size_t i = 0; i < n_in; i++) y[i] = lf_f16_to_float(halves[i * LF_TILE_OUT + j]);
        break;
    case LF_DTYPE_BF16:
        for (size_t i = 0; i < n_in; i++)
            y[i] = lf_bf16_to_float(halves[(i / 2 * LF_TILE_OUT + j) * 2 + i % 2]);
        break;
    default:
        for (int b = 0; b < w->n_in / PACKED_BLOCK; b++, y += PACKED_BLOCK) {
            packed_block block;
            lf_packed_get_block(&block, tile, w->dtype, b, (int)j);
            for (int i = 0; i < PACKED_BLOCK; i++)
                y[i] = block.scale[i / 16] * (float)block.q[i] - block.minimum;
        }
    }
}
