/* The checksum of the trainer's files: 64 bits over a stream of bytes, the same however the stream is cut.
 * It finds damage and mix-ups; it does not withstand an attacker, and the readers do not rely on it to. */
#ifndef LF_TRAIN_DATA_HASH_H
#define LF_TRAIN_DATA_HASH_H

#include <stddef.h>
#include <stdint.h>

/* Zero-initialise. */
typedef struct lf_data_hash {
    uint64_t state;
    uint64_t n_bytes;
    uint8_t tail[8]; /* the bytes of the word that is not full yet */
} lf_data_hash;

void lf_data_hash_add(lf_data_hash *h, const void *data, size_t bytes);

/* The hash of what was added so far; more may follow. */
uint64_t lf_data_hash_value(const lf_data_hash *h);

/* A well-mixed function of x: the finaliser of MurmurHash3, a permutation of the 64-bit numbers. */
static inline uint64_t lf_data_mix(uint64_t x)
{
    x = (x ^ x >> 33) * 0xFF51AFD7ED558CCDu;
    x = (x ^ x >> 33) * 0xC4CEB9FE1A85EC53u;
    return x ^ x >> 33;
}

#endif
