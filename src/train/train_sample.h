/* Sample texts of a model file, by the engine, as a user would get them. */
#ifndef LF_TRAIN_TRAIN_SAMPLE_H
#define LF_TRAIN_TRAIN_SAMPLE_H

#include "base/mem.h"
#include "base/status.h"

typedef struct lf_train_sample {
    const char *model_path, *prompt;
    int n_predict, n_threads;
    float temperature; /* 0: greedy */
    uint64_t seed;
} lf_train_sample;

/* Appends prompt and continuation to out. */
lf_status lf_train_sample_text(lf_bytes *out, const lf_train_sample *s, lf_error *err);

#endif
