/* The learning rate as a function of the step. */
#ifndef LF_TRAIN_SCHEDULE_H
#define LF_TRAIN_SCHEDULE_H

#include "base/status.h"

typedef struct lf_schedule {
    lf_train_schedule kind;
    double lr;  /* its height */
    double end; /* of the height, at the last step */
    int64_t n_steps, n_warmup;
    int64_t n_decay; /* LF_TRAIN_WSD: steps of the fall */
} lf_schedule;

/* The rate of step i, 0 <= i < n_steps. The warm-up rises from lr / n_warmup in equal steps to lr; the
 * last step has the end's. */
double lf_schedule_lr(const lf_schedule *s, int64_t i);

#endif
