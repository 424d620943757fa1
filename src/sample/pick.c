#include "sample/pick.h"

#include "base/philox.h"

#include <math.h>

static int32_t argmax(const float *logits, int n)
{
    int32_t best = -1;
    for (int i = 0; i < n; i++)
        if (!isnan(logits[i]) && (best < 0 || logits[i] > logits[best])) best = i;
    return best;
}

/* Noise for ids 4 block .. 4 block + 3: one Philox call gives four words. */
static void gumbel_noise(float noise[4], const lf_pick_params *params, int64_t position, int block)
{
    const uint32_t key[2] = {(uint32_t)params->seed, (uint32_t)(params->seed >> 32)};
    const uint32_t counter[4] = {(uint32_t)block, 0, (uint32_t)position,
                                 (uint32_t)((uint64_t)position >> 32)};
    uint32_t words[4];
    lf_philox4x32(words, counter, key);
    for (int i = 0; i < 4; i++) noise[i] = -logf(-logf(lf_unit_open(words[i])));
}

int32_t lf_pick(const float *logits, int n_vocab, const lf_pick_params *params, int64_t position)
{
    const int32_t top = argmax(logits, n_vocab);
    if (top < 0 || !isfinite(logits[top])) return -1;
    if (!(params->temperature > 0.0f)) return top;

    int32_t best = -1;
    float best_score = -INFINITY, noise[4];
    for (int32_t i = 0; i < n_vocab; i++) {
        if (i % 4 == 0) gumbel_noise(noise, params, position, i / 4);
        /* relative to the highest logit: a small temperature cannot overflow */
        const float score = (logits[i] - logits[top]) / params->temperature + noise[i % 4];
        if (score > best_score) {
            best = i;
            best_score = score;
        }
    }
    return best;
}
