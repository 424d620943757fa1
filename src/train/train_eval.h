/* The loss over validation data, in all and by position. */
#ifndef LF_TRAIN_TRAIN_EVAL_H
#define LF_TRAIN_TRAIN_EVAL_H

#include "train/data.h"

/* Sums of losses and numbers of targets; bucket b holds the rows at positions 2^b to 2^(b+1) - 1, bucket 0
 * also position 0. */
typedef struct lf_train_eval {
    double loss; /* the sum over all */
    int64_t n_targets;
    double bucket_loss[LF_TRAIN_BUCKET_LIMIT];
    int64_t bucket_targets[LF_TRAIN_BUCKET_LIMIT];
    int n_buckets; /* up to the last that has targets */
} lf_train_eval;

/* One epoch of data in its order, or its first n_rows rows and what else is in the batch (work space) with
 * them. */
lf_status lf_train_evaluate(lf_train_eval *out, lf_net *net, const lf_data *data, lf_batch *batch,
                            int64_t n_rows, lf_error *err);

#endif
