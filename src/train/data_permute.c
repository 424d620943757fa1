#include "train/data_permute.h"

#include "train/data_hash.h"

#include <assert.h>

enum { ROUNDS = 6 };

static uint64_t round_value(uint64_t half, uint64_t key, int i_round)
{
    return lf_data_mix(half + lf_data_mix(key + (uint64_t)i_round));
}

int64_t lf_data_permute(int64_t i, int64_t n, uint64_t key)
{
    int half_bits = 1;
    assert(i >= 0 && i < n);
    while (half_bits < 31 && (int64_t)1 << 2 * half_bits < n) half_bits++;
    const uint64_t mask = ((uint64_t)1 << half_bits) - 1;
    uint64_t x = (uint64_t)i;
    do {
        uint64_t left = x >> half_bits, right = x & mask;
        for (int i_round = 0; i_round < ROUNDS; i_round++) {
            const uint64_t next = left ^ (round_value(right, key, i_round) & mask);
            left = right;
            right = next;
        }
        x = left << half_bits | right;
    } while (x >= (uint64_t)n);
    return (int64_t)x;
}

uint64_t lf_data_permute_key(uint64_t seed, uint64_t what, uint64_t which)
{
    return lf_data_mix(lf_data_mix(lf_data_mix(seed) + what) + which);
}
