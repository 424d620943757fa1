/* How a model file decodes held-out prompts: by the engine, with Jacobi decoding, as a user would get it. */
#ifndef LF_TRAIN_DISTILL_MEASURE_H
#define LF_TRAIN_DISTILL_MEASURE_H

#include "train/trajectory.h"

typedef struct lf_distill_measured {
    int64_t n_tokens, n_passes; /* those of prompts are not counted */
    double noise;               /* the standard error of n_tokens / n_passes, for prompts such as these */
    int64_t n_repeated;         /* tokens that end LF_DISTILL_GRAM tokens seen before in the same output */
} lf_distill_measured;

enum { LF_DISTILL_GRAM = 4 };

typedef struct lf_distill_measure {
    const char *model_path;
    const lf_trajectory
        *list; /* (n) whose prompts are continued, each by the length of its blocks and one block more */
    int n;
    int n_ctx, n_threads;
} lf_distill_measure;

lf_status lf_distill_measure_run(lf_distill_measured *out, const lf_distill_measure *m, lf_error *err);

/* Tokens of ids (n) that end a run of LF_DISTILL_GRAM tokens which the same ids have before. */
int lf_distill_count_repeated(const int32_t *ids, int n);

#endif
