/* Conversions between float and the two 16-bit formats, with round-to-nearest-even, bit for bit what the
 * processor's own instructions give (vcvtps2ph, vcvtneps2bf16) except that bf16 keeps subnormals. */
#ifndef LF_TENSOR_HALF_H
#define LF_TENSOR_HALF_H

#include <stdint.h>
#include <string.h>

static inline float lf_bits_to_float(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static inline uint32_t lf_float_to_bits(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

static inline float lf_bf16_to_float(uint16_t h)
{
    return lf_bits_to_float((uint32_t)h << 16);
}

static inline uint16_t lf_bf16_from_float(float f)
{
    const uint32_t bits = lf_float_to_bits(f);
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)(bits >> 16 | 0x40); /* NaN stays a (quiet) NaN */
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}

static inline float lf_f16_to_float(uint16_t h)
{
    const uint32_t sign = (uint32_t)(h & 0x8000) << 16;
    const uint32_t exponent = h >> 10 & 0x1f, mantissa = h & 0x3ff;
    if (exponent == 0) { /* zero or subnormal: mantissa * 2^-24 is exact */
        const float magnitude = (float)mantissa * 0x1p-24f;
        return lf_bits_to_float(sign | lf_float_to_bits(magnitude));
    }
    if (exponent == 31) return lf_bits_to_float(sign | 0x7f800000u | mantissa << 13);
    return lf_bits_to_float(sign | (exponent + 112) << 23 | mantissa << 13);
}

static inline uint16_t lf_f16_from_float(float f)
{
    const uint32_t bits = lf_float_to_bits(f);
    const uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
    const uint32_t magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return (uint16_t)(sign | 0x7e00 | (magnitude >> 13 & 0x1ff));
    if (magnitude >= 0x477ff000u) return (uint16_t)(sign | 0x7c00); /* rounds to 65536 or more: infinity */
    if (magnitude <
        0x38800000u) { /* below 2^-14: adding 0.5 aligns the last bit to 2^-24 and rounds for us */
        const float aligned = lf_bits_to_float(magnitude) + 0.5f;
        return (uint16_t)(sign | (lf_float_to_bits(aligned) - 0x3f000000u));
    }
    const uint32_t rounded = magnitude + 0xfffu + (magnitude >> 13 & 1);
    return (uint16_t)(sign | ((rounded >> 13) - (112u << 10)));
}

#endif
