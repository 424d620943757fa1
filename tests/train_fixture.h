/* Small models and batches for the tests of the trainer. */
#ifndef LF_TESTS_TRAIN_FIXTURE_H
#define LF_TESTS_TRAIN_FIXTURE_H

#include "testing.h"

#include "train/net.h"

/* The variants of the family, as small as their parts allow. */
typedef enum variant {
    VARIANT_GQA,
    VARIANT_TIED,    /* multi-head, tied embeddings, linear RoPE scaling */
    VARIANT_BIAS,    /* one KV head, QKV bias, sizes that are multiples of nothing */
    VARIANT_QK_NORM, /* QK norm, tied, heads * head_dim wider than dim */
    N_VARIANTS,
} variant;

lf_config variant_config(variant v);

/* Whether this processor can train with bf16 products: whether oneDNN can. */
bool can_bf16(void);

/* Weights that leave no part of the network idle: matrices uniform, norms about 1, biases about 0. */
void make_params(lf_params *p, const lf_config *config, uint64_t seed);

/* How the rows of a batch see each other. */
typedef enum pattern {
    PATTERN_WHOLE,  /* one document */
    PATTERN_PACKED, /* three documents side by side */
    PATTERN_RANGES, /* a document, and then blocks that see its beginning and themselves */
    N_PATTERNS,
} pattern;

/* Tokens and targets, some of which are none. */
typedef struct batch {
    lf_train_rows rows;
    int32_t *token, *pos, *first, *first_end, *own, *target;
    float *weight;       /* (n) */
    lf_cross_entropy ce; /* target, weight, scale 1/n */
} batch;

/* Random ones. */
void make_batch(batch *b, int n, int n_vocab, pattern sight, uint64_t seed);

/* The batch that a file of tests/golden/train begins with (see tests/oracle/train_golden.py). *results is
 * what follows it in
 * *golden, which the caller frees. */
void load_batch(batch *b, const float **results, char **golden, const char *path);

void free_batch(batch *b);

#endif
