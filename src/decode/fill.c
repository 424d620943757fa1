#include "decode/fill.h"

#include "base/philox.h"

enum { MATCH_MIN = 1 };

int32_t lf_fill_token(const lf_ngram_index *index, const int32_t *ids, int n_own, int n, uint64_t seed)
{
    const int from = index ? lf_ngram_index_find(index, ids, ids, n, MATCH_MIN, NULL) : -1;
    if (from >= 0) return ids[from];
    const uint32_t counter[4] = {(uint32_t)n, 0, 0, 0}, key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    uint32_t words[4];
    lf_philox4x32(words, counter, key);
    return ids[words[0] % (uint32_t)n_own];
}
