#include "train/consistency.h"

#include "base/cpu.h"
#include "train/ops.h"

#include <assert.h>
#include <math.h>
#include <string.h>

/* Replaces the logits of a row by the gradient of its cross-entropy, and returns that; zeros without a
 * target. */
static double lose_target(const lf_train_ops *ops, float *row, int n_vocab, int32_t target, double scale)
{
    if (target >= 0) return ops->cross_entropy(row, n_vocab, target, (float)scale);
    memset(row, 0, (size_t)n_vocab * sizeof *row);
    return 0.0;
}

/* A pair's student first: it needs the teacher's logits, which the teacher's own target then replaces. */
double lf_consistency_loss(void *cookie, float *logits, int first, int n, int n_vocab, bool want_gradient)
{
    lf_consistency *c = cookie;
    const lf_train_ops *ops = lf_train_ops_for(lf_cpu_flags());
    double kl[LF_LOSS_ROWS_MAX / 2] = {0}, ce[LF_LOSS_ROWS_MAX] = {0};
    const int left = 2 * c->n_pairs - first, n_paired = left < 0 ? 0 : left < n ? left : n;
    (void)want_gradient; /* it falls off anyway */
    assert(first % 2 == 0 && n_paired % 2 == 0);
#pragma omp parallel for schedule(static)
    for (int i = 0; i < n_paired; i += 2) {
        float *teacher = logits + (size_t)i * (size_t)n_vocab, *student = teacher + n_vocab;
        kl[i / 2] = ops->forward_kl(student, teacher, n_vocab, (float)c->pair_scale);
        ce[i] = lose_target(ops, teacher, n_vocab, c->target[first + i], c->target_scale);
    }
#pragma omp parallel for schedule(static)
    for (int i = n_paired; i < n; i++)
        ce[i] = lose_target(ops, logits + (size_t)i * (size_t)n_vocab, n_vocab, c->target[first + i],
                            c->target_scale);
    double kl_sum = 0.0, ce_sum = 0.0;
    for (int i = 0; i < n_paired / 2; i++) kl_sum += kl[i];
    for (int i = 0; i < n; i++) ce_sum += ce[i];
    c->pair_sum += kl_sum;
    c->target_sum += ce_sum;
    return c->pair_scale * kl_sum + c->target_scale * ce_sum;
}

double lf_reverse_kl_loss(void *cookie, float *logits, int first, int n, int n_vocab, bool want_gradient)
{
    lf_reverse_kl *r = cookie;
    const lf_train_ops *ops = lf_train_ops_for(lf_cpu_flags());
    double kl[LF_LOSS_ROWS_MAX] = {0}, ce[LF_LOSS_ROWS_MAX] = {0};
    float *teacher;
    (void)want_gradient; /* it falls off anyway */
    r->status = lf_net_logits(r->teacher, &teacher, first, n, r->err);
    if (r->status != LF_OK) return (double)NAN;
#pragma omp parallel for schedule(static)
    for (int i = 0; i < n; i++) {
        float *row = logits + (size_t)i * (size_t)n_vocab,
              *of_teacher = teacher + (size_t)i * (size_t)n_vocab;
        const int32_t target = r->target[first + i];
        if (target < 0) {
            memset(row, 0, (size_t)n_vocab * sizeof *row);
            continue;
        }
        ce[i] = ops->log_loss(row, n_vocab, target);
        kl[i] = ops->reverse_kl(row, of_teacher, n_vocab, (float)r->scale);
    }
    double sum = 0.0;
    for (int i = 0; i < n; i++) {
        sum += kl[i];
        r->target_sum += ce[i];
    }
    r->kl_sum += sum;
    return r->scale * sum;
}
