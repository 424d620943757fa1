/* The k-quants: super-blocks of 256 values whose sub-blocks have small integer scales under one f16 scale (ggml's
 * block_q4_K, block_q5_K, block_q6_K; the searches are those of its reference quantisers).
 *
 *   q4_k, 144 bytes: f16 d, f16 dmin, scales[12], qs[128]
 *   q5_k, 176 bytes: f16 d, f16 dmin, scales[12], qh[32], qs[128]
 *       8 sub-blocks of 32; value i of sub-block j = (d * sc[j]) * q[32 j + i] - dmin * m[j]
 *       low four bits of q[64 c + i] and q[64 c + 32 + i] are the nibbles of qs[32 c + i];
 *       the fifth bit of q[32 j + i] is bit j of qh[i]
 *       sc and m have 6 bits:  byte   0..3              4..7              8..11
 *                              holds  sc[0..3]          m[0..3]           low nibbles of sc[4..7], m[4..7] above them
 *                              top    2 bits: sc[4..7]  2 bits: m[4..7]
 *   q6_k, 210 bytes: ql[128], qh[64], int8_t sc[16], f16 d
 *       16 sub-blocks of 16; value i of sub-block j = (d * sc[j]) * (q[16 j + i] - 32); in each half h of 128 values
 *       the low four bits of q[128 h + i] and q[128 h + 64 + i] are the nibbles of ql[64 h + i], and the upper two of
 *       q[128 h + 32 j + i] are bits 2j of qh[32 h + i] */
#include "tensor/quant_int.h"

enum {
    SUPER = 256,
    SUB = 32,                /* of q4_k and q5_k */
    N_SUB = SUPER / SUB,     /* 8 */
    HEAD = 16,               /* bytes before the quantised values of q4_k and q5_k: d, dmin, scales */
    SUB_6 = 16,              /* of q6_k */
    N_SUB_6 = SUPER / SUB_6, /* 16 */
};

/* Below this the reference takes a sub-block of q6_k for zero. */
static const float zero_below = 1e-15f;

/* ---- q4_k and q5_k: fields ---- */

static void unpack_scale_min(int *sc, int *m, const uint8_t *scales, int j)
{
    if (j < 4) {
        *sc = scales[j] & 63;
        *m = scales[j + 4] & 63;
    } else {
        *sc = (scales[j + 4] & 15) | scales[j - 4] >> 6 << 4;
        *m = scales[j + 4] >> 4 | scales[j] >> 6 << 4;
    }
}

static void pack_scales_mins(uint8_t *scales, const uint8_t sc[N_SUB], const uint8_t m[N_SUB])
{
    for (int j = 0; j < 4; j++) {
        scales[j] = (uint8_t)(sc[j] | sc[j + 4] >> 4 << 6);
        scales[j + 4] = (uint8_t)(m[j] | m[j + 4] >> 4 << 6);
        scales[j + 8] = (uint8_t)((sc[j + 4] & 15) | (m[j + 4] & 15) << 4);
    }
}

static void unpack_nibbles(uint8_t q[SUPER], const uint8_t *qs)
{
    for (int i = 0; i < SUPER; i++) q[i] = qs[i / 64 * 32 + i % 32] >> (i % 64 / 32 * 4) & 15;
}

static void pack_nibbles(uint8_t *qs, const uint8_t q[SUPER])
{
    for (int i = 0; i < SUPER / 2; i++) {
        const uint8_t *low = q + i / 32 * 64 + i % 32;
        qs[i] = (uint8_t)((low[0] & 15) | (low[32] & 15) << 4);
    }
}

/* y (256) from the values q (256) and the head of the block. */
static void dequantize_affine(float *y, const uint8_t *head, const uint8_t q[SUPER])
{
    const float d = lf_f16_to_float(load_u16(head)), dmin = lf_f16_to_float(load_u16(head + 2));
    for (int j = 0; j < N_SUB; j++) {
        int sc, m;
        unpack_scale_min(&sc, &m, head + 4, j);
        const float scale = d * (float)sc, minimum = dmin * (float)m;
        for (int i = j * SUB; i < (j + 1) * SUB; i++) y[i] = scale * (float)q[i] - minimum;
    }
}

void lf_dequantize_block_q4_k(float *y, const uint8_t *block)
{
    uint8_t q[SUPER];
    unpack_nibbles(q, block + HEAD);
    dequantize_affine(y, block, q);
}

void lf_dequantize_block_q5_k(float *y, const uint8_t *block)
{
    const uint8_t *qh = block + HEAD, *qs = qh + SUB;
    uint8_t q[SUPER];
    unpack_nibbles(q, qs);
    for (int i = 0; i < SUPER; i++) q[i] |= (uint8_t)((qh[i % SUB] >> (i / SUB) & 1) << 4);
    dequantize_affine(y, block, q);
}

/* ---- q4_k and q5_k: fitting ---- */

/* How finely the inverse scale is searched: (first + 0.1 s + max) / range for s = 0..n_steps. */
typedef struct affine_search {
    int max; /* of q */
    float first;
    int n_steps;
} affine_search;

static const affine_search search_q4_k = {15, -1.0f, 20}, search_q5_k = {31, -0.5f, 15};

/* x is approximated by scale * q + offset, offset <= 0. */
typedef struct affine {
    float scale, offset;
} affine;

/* Errors count more for large values: weight = rms + |x|. */
static void weigh(float w[SUB], const float x[SUB])
{
    float sum = 0.0f;
    for (int i = 0; i < SUB; i++) sum += x[i] * x[i];
    const float rms = sqrtf(sum / SUB);
    for (int i = 0; i < SUB; i++) w[i] = rms + fabsf(x[i]);
}

static void round_affine(uint8_t q[SUB], const float x[SUB], float inverse, float offset, int max)
{
    for (int i = 0; i < SUB; i++) q[i] = (uint8_t)nearest_in(inverse * (x[i] - offset), 0, max);
}

static float affine_error(affine a, const float x[SUB], const uint8_t q[SUB], const float w[SUB])
{
    float error = 0.0f;
    for (int i = 0; i < SUB; i++) {
        const float diff = a.scale * (float)q[i] + a.offset - x[i];
        error += w[i] * (diff * diff);
    }
    return error;
}

/* The weighted least-squares line through (q, x) with offset <= 0; false when all q are equal. */
static bool fit_affine(affine *out, const float x[SUB], const uint8_t q[SUB], const float w[SUB])
{
    float sum_w = 0.0f, sum_x = 0.0f, sum_q = 0.0f, sum_qq = 0.0f, sum_qx = 0.0f;
    for (int i = 0; i < SUB; i++) {
        const float level = (float)q[i];
        sum_w += w[i];
        sum_x += w[i] * x[i];
        sum_q += w[i] * level;
        sum_qq += w[i] * level * level;
        sum_qx += w[i] * level * x[i];
    }
    const float det = sum_w * sum_qq - sum_q * sum_q;
    if (!(det > 0.0f)) return false;
    *out = (affine){(sum_w * sum_qx - sum_x * sum_q) / det, (sum_qq * sum_x - sum_q * sum_qx) / det};
    if (out->offset > 0.0f) *out = (affine){sum_qx / sum_qq, 0.0f};
    return true;
}

/* The best line found for one sub-block, and its q: starts from the line through the smallest and the largest value,
 * then for each inverse scale of the search rounds, from the offset of the best line so far, and fits again. */
static affine search_affine(uint8_t q[SUB], const float x[SUB], const affine_search *search)
{
    float w[SUB];
    float low = x[0], high = x[0];
    for (int i = 1; i < SUB; i++) {
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
    }
    if (low > 0.0f) low = 0.0f;
    if (high == low) {
        memset(q, 0, SUB);
        return (affine){0.0f, low};
    }
    weigh(w, x);
    const float max = (float)search->max, inverse = max / (high - low);
    affine best = {1.0f / inverse, low};
    round_affine(q, x, inverse, low, search->max);
    float best_error = affine_error(best, x, q, w);
    for (int s = 0; s <= search->n_steps; s++) {
        uint8_t tried[SUB];
        affine fit;
        round_affine(tried, x, (search->first + 0.1f * (float)s + max) / (high - best.offset), best.offset,
                     search->max);
        if (!fit_affine(&fit, x, tried, w)) continue;
        const float error = affine_error(fit, x, tried, w);
        if (error < best_error) {
            memcpy(q, tried, SUB);
            best_error = error;
            best = fit;
        }
    }
    return best;
}

/* 0..63 for the value whose maximum over the super-block is `max`. */
static uint8_t six_bits(float value, float max)
{
    return (uint8_t)nearest_in((max > 0.0f ? 63.0f / max : 0.0f) * value, 0, 63);
}

/* Fills the head of a block and q (256): the scales and offsets found are themselves rounded to 6 bits, and then every
 * value is rounded again to what is left. */
static void quantize_affine(uint8_t *head, uint8_t q[SUPER], const float *x, const affine_search *search)
{
    affine fits[N_SUB];
    uint8_t sc[N_SUB], m[N_SUB];
    float scale_max = 0.0f, min_max = 0.0f;
    for (int j = 0; j < N_SUB; j++) {
        fits[j] = search_affine(q + j * SUB, x + j * SUB, search);
        scale_max = fmaxf(scale_max, fits[j].scale);
        min_max = fmaxf(min_max, -fits[j].offset);
    }
    for (int j = 0; j < N_SUB; j++) {
        sc[j] = six_bits(fits[j].scale, scale_max);
        m[j] = six_bits(-fits[j].offset, min_max);
    }
    const uint16_t d = lf_f16_from_float(scale_max / 63.0f), dmin = lf_f16_from_float(min_max / 63.0f);
    store_u16(head, d);
    store_u16(head + 2, dmin);
    pack_scales_mins(head + 4, sc, m);
    for (int j = 0; j < N_SUB; j++) {
        const float scale = lf_f16_to_float(d) * (float)sc[j], minimum = lf_f16_to_float(dmin) * (float)m[j];
        if (scale == 0.0f) continue;
        for (int i = j * SUB; i < (j + 1) * SUB; i++)
            q[i] = (uint8_t)nearest_in((x[i] + minimum) / scale, 0, search->max);
    }
}

void lf_quantize_block_q4_k(uint8_t *block, const float *x)
{
    uint8_t q[SUPER];
    quantize_affine(block, q, x, &search_q4_k);
    pack_nibbles(block + HEAD, q);
}

void lf_quantize_block_q5_k(uint8_t *block, const float *x)
{
    uint8_t *qh = block + HEAD, *qs = qh + SUB;
    uint8_t q[SUPER];
    quantize_affine(block, q, x, &search_q5_k);
    pack_nibbles(qs, q);
    memset(qh, 0, SUB);
    for (int i = 0; i < SUPER; i++) qh[i % SUB] |= (uint8_t)(q[i] >> 4 << (i / SUB));
}

/* ---- q6_k ---- */

void lf_dequantize_block_q6_k(float *y, const uint8_t *block)
{
    const uint8_t *ql = block, *qh = ql + SUPER / 2, *sc = qh + SUPER / 4;
    const float d = lf_f16_to_float(load_u16(sc + N_SUB_6));
    for (int i = 0; i < SUPER; i++) {
        const int half = i / 128, low = ql[64 * half + i % 64] >> (i % 128 / 64 * 4) & 15;
        const int high = qh[32 * half + i % 32] >> (i % 128 / 32 * 2) & 3;
        const float scale = d * (float)(int8_t)sc[i / SUB_6];
        y[i] = scale * (float)((low | high << 4) - 32);
    }
}

/* Rounds x to levels -32..31 at the given inverse scale, into q as 0..63, and sums for the
 * least-squares scale with weights x^2: sum_lx = sum of w l x, sum_ll = sum of w l^2. */
static void round_symmetric(uint8_t *q, float *sum_lx, float *sum_ll, const float x[SUB_6], float inverse)
{
    *sum_lx = *sum_ll = 0.0f;
    for (int i = 0; i < SUB_6; i++) {
        const int level = nearest_in(inverse * x[i], -32, 31);
        const float w = x[i] * x[i];
        *sum_lx += w * x[i] * (float)level;
        *sum_ll += w * (float)level * (float)level;
        q[i] = (uint8_t)(level + 32);
    }
}

/* The best scale found for one sub-block, and its q: the value of largest magnitude is put at -32, then at nearby
 * levels between -31.1 and -32.9. */
static float search_symmetric(uint8_t q[SUB_6], const float x[SUB_6])
{
    float extreme = 0.0f, sum_lx, sum_ll;
    for (int i = 0; i < SUB_6; i++)
        if (fabsf(x[i]) > fabsf(extreme)) extreme = x[i];
    if (fabsf(extreme) < zero_below) {
        memset(q, 0, SUB_6);
        return 0.0f;
    }
    round_symmetric(q, &sum_lx, &sum_ll, x, -32.0f / extreme);
    float scale = sum_ll != 0.0f ? sum_lx / sum_ll : 0.0f;
    float best = scale * sum_lx; /* what the fit takes off the weighted sum of squares */
    for (int s = -9; s <= 9; s++) {
        uint8_t tried[SUB_6];
        if (s == 0) continue;
        round_symmetric(tried, &sum_lx, &sum_ll, x, -(32.0f + 0.1f * (float)s) / extreme);
        if (sum_ll > 0.0f && sum_lx * sum_lx > best * sum_ll) {
            memcpy(q, tried, SUB_6);
            scale = sum_lx / sum_ll;
            best = scale * sum_lx;
        }
    }
    return scale;
}

static void pack_q6_k(uint8_t *block, const uint8_t q[SUPER])
{
    uint8_t *ql = block, *qh = ql + SUPER / 2;
    for (int i = 0; i < SUPER / 2; i++) {
        const uint8_t *low = q + i / 64 * 128 + i % 64;
        ql[i] = (uint8_t)((low[0] & 15) | (low[64] & 15) << 4);
    }
    for (int i = 0; i < SUPER / 4; i++) {
        const uint8_t *high = q + i / 32 * 128 + i % 32;
        qh[i] = (uint8_t)(high[0] >> 4 | high[32] >> 4 << 2 | high[64] >> 4 << 4 | high[96] >> 4 << 6);
    }
}

void lf_quantize_block_q6_k(uint8_t *block, const float *x)
{
    uint8_t q[SUPER], *sc = block + SUPER / 2 + SUPER / 4;
    float scales[N_SUB_6], largest = 0.0f;
    for (int j = 0; j < N_SUB_6; j++) {
        scales[j] = search_symmetric(q + j * SUB_6, x + j * SUB_6);
        if (fabsf(scales[j]) > fabsf(largest)) largest = scales[j];
    }
    if (fabsf(largest) < zero_below) {
        memset(block, 0, lf_dtype_of(LF_DTYPE_Q6_K)->block_bytes);
        return;
    }
    const float inverse = -128.0f / largest; /* the largest scale becomes -128 */
    const uint16_t d = lf_f16_from_float(1.0f / inverse);
    store_u16(sc + N_SUB_6, d);
    for (int j = 0; j < N_SUB_6; j++) {
        const int small = nearest_in(inverse * scales[j], -128, 127);
        const float scale = lf_f16_to_float(d) * (float)small;
        sc[j] = (uint8_t)(int8_t)small;
        if (scale == 0.0f) continue;
        for (int i = j * SUB_6; i < (j + 1) * SUB_6; i++)
            q[i] = (uint8_t)(nearest_in(x[i] / scale, -32, 31) + 32);
    }
    pack_q6_k(block, q);
}
