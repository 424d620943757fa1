/* A permutation of 0 .. n-1 that is computed where it is asked for, with no memory: a Feistel network over
 * the smallest even number of bits that holds n, walked until it lands inside (Black and Rogaway, "Ciphers
 * with arbitrary finite domains", 2002). It shuffles training data; it keeps no secrets. */
#ifndef LF_TRAIN_DATA_PERMUTE_H
#define LF_TRAIN_DATA_PERMUTE_H

#include <stdint.h>

/* Where the permutation with this key sends i; 0 <= i < n. */
int64_t lf_data_permute(int64_t i, int64_t n, uint64_t key);

/* A key from a seed and two numbers that say what is permuted. */
uint64_t lf_data_permute_key(uint64_t seed, uint64_t what, uint64_t which);

#endif
