/* q8_0 and q4_0: blocks of 32 values that share one f16 scale (ggml's block_q8_0 and block_q4_0).
 *
 *   q8_0, 34 bytes: f16 d, int8_t q[32]         value i = d * q[i]
 *   q4_0, 18 bytes: f16 d, uint8_t q[16]        value i = d * ((q[i] & 15) - 8), value 16 + i = d * ((q[i] >> 4) - 8)
 *
 * Where the scale is so small that its inverse overflows, its f16 is zero and so is every value of the block, whatever
 * the q. */
#include "tensor/quant_int.h"

enum { BLOCK = 32 };

/* ---- q8_0 ---- */

void lf_dequantize_block_q8_0(float *y, const uint8_t *block)
{
    const float d = lf_f16_to_float(load_u16(block));
    for (int i = 0; i < BLOCK; i++) y[i] = d * (float)(int8_t)block[2 + i];
}

void lf_quantize_block_q8_0(uint8_t *block, const float *x)
{
    float amax = 0.0f;
    for (int i = 0; i < BLOCK; i++) amax = fmaxf(amax, fabsf(x[i]));
    const float d = amax / 127.0f;
    const float inverse = d != 0.0f ? 1.0f / d : 0.0f;
    store_u16(block, lf_f16_from_float(d));
    for (int i = 0; i < BLOCK; i++) /* halves go away from zero */
        block[2 + i] = (uint8_t)(int8_t)nearest_in(roundf(x[i] * inverse), -127, 127);
}

/* ---- q4_0 ---- */

void lf_dequantize_block_q4_0(float *y, const uint8_t *block)
{
    const float d = lf_f16_to_float(load_u16(block));
    for (int i = 0; i < BLOCK / 2; i++) {
        y[i] = d * (float)((block[2 + i] & 15) - 8);
        y[i + BLOCK / 2] = d * (float)((block[2 + i] >> 4) - 8);
    }
}

/* x in units of the scale, moved to 0..15; truncating x + 8.5 rounds halves up. */
static int nibble_of(float x)
{
    const float moved = x + 8.5f;
    if (!(moved > 0.0f)) return 0;
    return moved >= 15.0f ? 15 : (int)moved;
}

/* The value of largest magnitude becomes -8, the only one of the 16 levels without a mirror image. */
void lf_quantize_block_q4_0(uint8_t *block, const float *x)
{
    float extreme = 0.0f;
    for (int i = 0; i < BLOCK; i++)
        if (fabsf(x[i]) > fabsf(extreme)) extreme = x[i];
    const float d = extreme / -8.0f;
    const float inverse = d != 0.0f ? 1.0f / d : 0.0f;
    store_u16(block, lf_f16_from_float(d));
    for (int i = 0; i < BLOCK / 2; i++)
        block[2 + i] = (uint8_t)(nibble_of(x[i] * inverse) | nibble_of(x[i + BLOCK / 2] * inverse) << 4);
}
