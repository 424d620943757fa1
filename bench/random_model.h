/* GGUF files with random weights: what benchmarks and tests of exactness run on where no real model of a shape is at
 * hand. The file has no tokenizer ("no_vocab"); llama.cpp loads it too. */
#ifndef LF_BENCH_RANDOM_MODEL_H
#define LF_BENCH_RANDOM_MODEL_H

#include "model/config.h"

typedef struct lf_random_model {
    lf_config config; /* n_vocab, tied, qkv_bias, qk_norm as wanted */
    lf_dtype dtype;   /* of the matrices */
    uint64_t seed;
    /* Rows of a matrix that differ; the rest repeat them. 0: all. Benchmarks repeat: speed does not depend on the values,
     * and quantising a billion of them takes minutes. */
    int distinct_rows;
} lf_random_model;

/* Writes the model to path. Weights are uniform with a deviation of 1 / sqrt(n_in), so that activations keep their size;
 * norms are near 1. LF_EINVAL when a row does not fit the blocks of the dtype. */
lf_status lf_random_model_write(const char *path, const lf_random_model *m, lf_error *err);

#endif
