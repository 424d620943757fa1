#include "train/normal.h"

#include "base/philox.h"

#include <math.h>

void lf_fill_normal(float *data, size_t n, float deviation, uint64_t seed, uint32_t stream)
{
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < n; i += 4) {
        const size_t i_block = i / 4;
        const uint32_t counter[4] = {(uint32_t)i_block, (uint32_t)(i_block >> 32), stream, 0};
        uint32_t bits[4];
        float x[4];
        lf_philox4x32(bits, counter, key);
        for (int pair = 0; pair < 4; pair += 2) {
            const float radius = deviation * sqrtf(-2.0f * logf(lf_unit_open(bits[pair])));
            const float angle = 2.0f * (float)M_PI * lf_unit_open(bits[pair + 1]);
            x[pair] = radius * cosf(angle);
            x[pair + 1] = radius * sinf(angle);
        }
        for (size_t j = i; j < i + 4 && j < n; j++) data[j] = x[j - i];
    }
}
