#include "train/train_eval.h"

#include <stdlib.h>

/* What each row's loss goes into. */
typedef struct row_losses {
    lf_train_eval *sums;
    const int32_t *pos;    /* (rows.n) */
    const int32_t *target; /* (rows.n) */
} row_losses;

static int bucket_of(int32_t pos)
{
    int bucket = 0;
    while (bucket + 1 < LF_TRAIN_BUCKET_LIMIT && (int64_t)pos >> (bucket + 1) > 0) bucket++;
    return bucket;
}

static double add_losses(void *cookie, float *logits, int first, int n, int n_vocab, bool want_gradient)
{
    row_losses *r = cookie;
    double sum = 0.0;
    for (int i = first; i < first + n; i++) {
        if (r->target[i] < 0) continue;
        lf_cross_entropy row = {.target = &r->target[i], .scale = 1.0};
        const double loss = lf_cross_entropy_loss(&row, logits + (size_t)(i - first) * (size_t)n_vocab, 0, 1,
                                                  n_vocab, want_gradient);
        const int bucket = bucket_of(r->pos[i]);
        r->sums->bucket_loss[bucket] += loss;
        r->sums->bucket_targets[bucket]++;
        if (bucket >= r->sums->n_buckets) r->sums->n_buckets = bucket + 1;
        sum += loss;
    }
    return sum;
}

static lf_status evaluate_batch(lf_train_eval *sums, lf_net *net, const lf_batch *b, lf_error *err)
{
    for (int i = 0; i < b->n_micro; i++) {
        const lf_train_rows rows = lf_batch_rows(b, i);
        row_losses losses = {
            .sums = sums, .pos = rows.pos, .target = b->target + (size_t)i * (size_t)b->micro_rows};
        double loss;
        if (b->n_targets[i] == 0) continue;
        const lf_status status = lf_net_evaluate(net, &rows, add_losses, &losses, &loss, err);
        if (status != LF_OK) return status;
        sums->loss += loss;
        sums->n_targets += b->n_targets[i];
    }
    return LF_OK;
}

lf_status lf_train_evaluate(lf_train_eval *out, lf_net *net, const lf_data *data, lf_batch *batch,
                            int64_t n_rows, lf_error *err)
{
    lf_status status = LF_OK;
    lf_data_cursor cursor = {0};
    int64_t n_done = 0;
    *out = (lf_train_eval){0};
    do {
        lf_data_fill(data, &cursor, batch, true);
        LF_TRY(evaluate_batch(out, net, batch, err));
        n_done += batch->n_tokens;
    } while (n_done < n_rows && cursor.epoch == 0);
done:
    return status;
}
