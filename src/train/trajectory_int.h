/* Headers and records of trajectory files as they lie there: what the reader and the writer share. */
#ifndef LF_TRAIN_TRAJECTORY_INT_H
#define LF_TRAIN_TRAJECTORY_INT_H

#include "train/trajectory.h"

enum { LF_TRAJECTORY_MARK = 'T' | 'R' << 8 | 'A' << 16 | 'J' << 24 };

typedef struct lf_trajectory_header {
    char magic[8];
    uint32_t version, n_vocab;
    uint64_t vocab_hash, model_hash, prompts_hash, n_prompts;
    uint32_t n, fill;
    uint64_t seed;
    float temperature, top_p, min_p;
    uint32_t top_k, max_tokens;
    float augment;
    uint32_t repeat_tokens, repeat_sentences;
    uint8_t zeros[LF_TRAJECTORY_HEADER - 104];
    uint64_t header_hash;
} lf_trajectory_header;
_Static_assert(sizeof(lf_trajectory_header) == LF_TRAJECTORY_HEADER, "no padding of the compiler's");

typedef struct lf_trajectory_head {
    uint32_t mark, drop;
    uint64_t i_prompt;
    uint32_t n_prompt, n_blocks, n_states, n_output, passes, stationary;
    double fast_forwarded;
    uint64_t body_hash, head_hash;
} lf_trajectory_head;
_Static_assert(sizeof(lf_trajectory_head) == LF_TRAJECTORY_HEAD, "no padding of the compiler's");

/* The header for an info, hash and all. */
lf_trajectory_header lf_trajectory_pack(const lf_trajectory_info *info);

/* The head with its own hash. */
uint64_t lf_trajectory_hash_head(const lf_trajectory_head *h);

/* The body's bytes, padded; false when no memory could hold them. */
bool lf_trajectory_body_bytes(const lf_trajectory_head *h, int n, size_t *bytes);

/* Reads header and records. With `mends`, a last record that is whole but damaged counts as torn, too. */
lf_status lf_trajectory_scan(lf_trajectory_file *out, const uint8_t *data, size_t size, bool mends,
                             const char *name, lf_error *err);

#endif
