#include "train/schedule.h"

#include <math.h>

/* How much of the way from `first` to the last step is behind step i. */
static double share_done(int64_t i, int64_t first, int64_t n_steps)
{
    const int64_t span = n_steps - 1 - first;
    return i <= first ? 0.0 : span > 0 ? (double)(i - first) / (double)span : 1.0;
}

double lf_schedule_lr(const lf_schedule *s, int64_t i)
{
    double done = 0.0;
    if (i < s->n_warmup) return s->lr * (double)(i + 1) / (double)s->n_warmup;
    switch (s->kind) {
    case LF_TRAIN_COSINE: done = 0.5 - 0.5 * cos(M_PI * share_done(i, s->n_warmup, s->n_steps)); break;
    case LF_TRAIN_WSD: {
        const int64_t first = s->n_steps - 1 - s->n_decay;
        done = share_done(i, first > s->n_warmup ? first : s->n_warmup, s->n_steps);
        break;
    }
    case LF_TRAIN_CONSTANT: break;
    }
    return s->lr * (1.0 - (1.0 - s->end) * done);
}
