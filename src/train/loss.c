/* The cross-entropy that lf_net_train and lf_net_evaluate take. */
#include "base/cpu.h"
#include "train/net.h"
#include "train/ops.h"

#include <string.h>

double lf_cross_entropy_loss(void *cookie, float *logits, int first, int n, int n_vocab, bool want_gradient)
{
    const lf_cross_entropy *ce = cookie;
    const lf_train_ops *ops = lf_train_ops_for(lf_cpu_flags());
    double losses[LF_LOSS_ROWS_MAX];
    (void)want_gradient; /* it falls off anyway */
#pragma omp parallel for schedule(static)
    for (int i = 0; i < n; i++) {
        float *row = logits + (size_t)i * (size_t)n_vocab;
        const int32_t target = ce->target[first + i];
        losses[i] = 0.0;
        if (ce->row_loss) ce->row_loss[first + i] = 0.0;
        if (target < 0) {
            memset(row, 0, (size_t)n_vocab * sizeof *row);
            continue;
        }
        const double weight = ce->scale * (ce->weight ? (double)ce->weight[first + i] : 1.0);
        const double loss = ops->cross_entropy(row, n_vocab, target, (float)weight);
        losses[i] = weight * loss;
        if (ce->row_loss) ce->row_loss[first + i] = loss;
    }
    double sum = 0.0;
    for (int i = 0; i < n; i++) sum += losses[i];
    return sum;
}
