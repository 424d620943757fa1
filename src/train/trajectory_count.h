/* What trajectories say and what is done to them: counts as CLLM has them, filters, augmentation. */
#ifndef LF_TRAIN_TRAJECTORY_COUNT_H
#define LF_TRAIN_TRAJECTORY_COUNT_H

#include "train/trajectory.h"

/* The counts of CLLM's evaluation code, for one block with states y(0) .. y(k), of which y(k) is right and
 * y(0), the first guess, is passed over. */
typedef struct lf_block_counts {
    int iterations; /* k; 1 when the first guess is right */
    /* the mean over y(1) .. y(k) of the tokens by which the right prefix grew: so n / k */
    double fast_forwarded;
    /* tokens that were right in a state before the right prefix reached them, and stayed right */
    int stationary;
} lf_block_counts;

/* Of a block's states (n_states, n), of which the first n_output tokens count: fewer than n where the
 * output ends. */
lf_block_counts lf_count_block(const int32_t *states, int n_states, int n, int n_output);

/* The sums over a trajectory, which is not augmented: fast_forwarded becomes the mean over its blocks. */
lf_block_counts lf_count_trajectory(const lf_trajectory *t);

/* Sets tokens right, as CLLM's data augmentation does, because states where right tokens stand behind
 * wrong ones are rare: in every state but the last two, of its n_wrong wrong tokens share * n_wrong, drawn
 * with replacement, but never the first. Which ones is a function of the seed. states (sum of n_states, n)
 * are those of t. */
void lf_trajectory_augment(int32_t *states, const lf_trajectory *t, float share, uint64_t seed);

/* Whether `limit` tokens in a row are the same. */
bool lf_repeats_token(const int32_t *ids, int n, int limit);

/* Whether `limit` sentences in a row are the same. A sentence ends with a line, or with . ! or ? and a
 * space; spaces around it do not count, and one without a letter or digit is none. */
bool lf_repeats_sentence(const char *text, size_t len, int limit);

#endif
