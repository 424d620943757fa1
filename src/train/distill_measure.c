#include "train/distill_measure.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { N_SEQS = 8 };

int lf_distill_count_repeated(const int32_t *ids, int n)
{
    int n_repeated = 0;
    for (int i = LF_DISTILL_GRAM; i < n; i++) {
        const int32_t *gram = ids + i - LF_DISTILL_GRAM + 1;
        int j = 0;
        while (ids + j < gram && memcmp(ids + j, gram, LF_DISTILL_GRAM * sizeof *ids) != 0) j++;
        n_repeated += ids + j < gram;
    }
    return n_repeated;
}

static lf_status submit(lf_request **out, lf_engine *engine, const lf_trajectory *t, int n_ctx, lf_error *err)
{
    const int n_predict = t->n_blocks * t->n + t->n, room = n_ctx - t->n_prompt;
    lf_request_params params;
    lf_request_params_init(&params);
    params.ids = t->prompt;
    params.n_ids = (size_t)t->n_prompt;
    params.n_predict = n_predict < room ? n_predict : room;
    params.proposer = "jacobi";
    params.draft_max = t->n - 1;
    params.no_prefix_cache = true; /* a prompt that is there already begins with guesses, one pass earlier */
    return lf_request_submit(out, engine, &params, err);
}

/* Outputs, each with its tokens t and passes p: what the standard error of the sum of t over that of p takes. */
typedef struct spread {
    double tt, tp, pp; /* sums of products */
} spread;

/* Of a ratio of means, by its residuals t - ratio p (linearised). */
static double standard_error(const spread *s, const lf_distill_measured *m, int n)
{
    const double passes = (double)m->n_passes, ratio = (double)m->n_tokens / passes,
                 squares = s->tt - 2.0 * ratio * s->tp + ratio * ratio * s->pp;
    return n > 1 ? sqrt(fmax(squares, 0.0) * n / (n - 1)) / passes : 0.0;
}

static lf_status decode(lf_distill_measured *out, lf_engine *engine, lf_request **requests,
                        const lf_distill_measure *m, lf_error *err)
{
    lf_status status = LF_OK;
    spread s = {0};
    for (int i = 0; i < m->n; i++) LF_TRY(submit(&requests[i], engine, &m->list[i], m->n_ctx, err));
    for (int i = 0; i < m->n; i++) {
        lf_request_result result = {.size = sizeof result};
        size_t n;
        LF_TRY(lf_request_wait(requests[i], err));
        lf_request_get_result(requests[i], &result);
        const int32_t *ids = lf_request_ids(requests[i], &n);
        out->n_tokens += result.output_tokens;
        out->n_passes += result.passes;
        s.tt += (double)result.output_tokens * result.output_tokens;
        s.tp += (double)result.output_tokens * result.passes;
        s.pp += (double)result.passes * result.passes;
        out->n_repeated += lf_distill_count_repeated(ids, (int)n);
    }
    if (out->n_passes > 0) out->noise = standard_error(&s, out, m->n);
done:
    return status;
}

lf_status lf_distill_measure_run(lf_distill_measured *out, const lf_distill_measure *m, lf_error *err)
{
    lf_status status = LF_OK;
    lf_engine *engine = NULL;
    lf_request **requests = calloc((size_t)m->n, sizeof(lf_request *));
    lf_engine_params params;
    *out = (lf_distill_measured){0};
    if (!requests) return lf_fail_memory(err, "requests", (size_t)m->n * sizeof(lf_request *));
    lf_engine_params_init(&params);
    params.model_path = m->model_path;
    params.n_threads = m->n_threads;
    params.n_ctx = m->n_ctx;
    params.n_seqs = m->n < N_SEQS ? m->n : N_SEQS;
    params.n_candidates = LF_TRAJECTORY_N_MAX - 1; /* passes must not depend on the company */
    LF_TRY(lf_engine_open(&engine, &params, err));
    status = decode(out, engine, requests, m, err);
done:
    for (int i = 0; i < m->n; i++) lf_request_free(requests[i]);
    free(requests);
    lf_engine_close(engine);
    return status;
}
