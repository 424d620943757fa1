/* The noise of a pick: g = -ln(-ln u), u in (0, 1) from 23 of an id's random bits (base/philox.h). */
#ifndef LF_SAMPLE_NOISE_H
#define LF_SAMPLE_NOISE_H

#include "base/philox.h"

#include <math.h>

static inline float lf_noise_of(uint32_t bits)
{
    return -logf(-logf(lf_unit_open(bits)));
}

/* No less than the noise of the bits, without a logarithm. With 1 - u = (m - 1/2) 2^-23 and m >= 2^f, -ln u > 1 - u >= 2^(f - 24),
 * so g < (24 - f) ln 2; the last digit of 0.6932 is more than all roundings. */
static inline float lf_noise_bound(uint32_t bits)
{
    const uint32_t m = (1u << 23) - (bits >> 9); /* 1 to 2^23 */
    const int f = 31 - __builtin_clz(m);
    return 0.6932f * (float)(24 - f);
}

#define LF_NOISE_MAX (0.6932f * 24.0f) /* of any bits */

#endif
