/* A random model, loaded, with what it takes to run passes over it: shared by the tests of the forward pass. */
#ifndef LF_TESTS_FORWARD_FIXTURE_H
#define LF_TESTS_FORWARD_FIXTURE_H

#include "testing.h"

#include "model/forward.h"

/* The shape most tests use: every weight dtype fits its rows (multiples of 256), two query heads share a KV head. */
lf_config small_config(void);

/* Loads the model at path as it is. */
void load_model(lf_model *m, const char *path);

/* Writes a random model of this config to a temporary file and loads it. */
void load_random_model(lf_model *m, const lf_config *config, lf_dtype dtype, uint64_t seed);

/* A set of sequences with their tokens, and the logits of every row as plain decoding computes them: one row a pass, one
 * thread. */
typedef struct reference {
    int n_seqs, n_vocab;
    int *len;       /* (n_seqs) */
    int32_t **ids;  /* (n_seqs, len) */
    float **logits; /* (n_seqs, len, n_vocab) */
} reference;

void make_reference(reference *ref, const lf_model *m, const lf_kernels *kernels, lf_dtype kv_dtype,
                    int n_seqs, int len_min, int len_max, uint64_t seed);
void free_reference(reference *ref);

/* How the rows of a reference's sequences are cut into passes. */
typedef struct schedule {
    int n_threads;
    int rows_max;             /* of one pass */
    int chunk_min, chunk_max; /* rows of one sequence in one pass, drawn at random */
    int seqs_max;             /* sequences in one pass at most */
    bool
        rejects; /* now and then commit only some of a chunk's rows, and write wrong tokens past them first */
    uint64_t seed; /* of the draws and of the page placement */
} schedule;

/* Runs the reference's sequences by a schedule and returns how many rows have logits that differ in any bit. */
int count_mismatches(const reference *ref, const lf_model *m, const lf_kernels *kernels, lf_dtype kv_dtype,
                     const schedule *s);

/* The kernel levels that this machine has, weakest first. */
int kernel_levels(unsigned flags[4]);

#endif
