/* Philox4x32-10, a counter-based generator: its output is a pure function of (key, counter), with no state to
 * carry, which is what the Pick law needs. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC
 * 2011. */
#ifndef LF_BASE_PHILOX_H
#define LF_BASE_PHILOX_H

#include <stdint.h>

/* out (4) = Philox4x32-10 of counter (4) under key (2). */
void lf_philox4x32(uint32_t out[4], const uint32_t counter[4], const uint32_t key[2]);

/* A float in the open interval (0, 1) from 23 of the bits: never 0, so that its logarithm is finite. */
static inline float lf_unit_open(uint32_t bits)
{
    return ((float)(bits >> 9) + 0.5f) * 0x1p-23f;
}

#endif
