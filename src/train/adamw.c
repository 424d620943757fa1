#include "train/adamw.h"

#include "base/mem.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Floats whose squares one thread adds: fixed, so that the norm does not depend on the number of threads. */
enum { CHUNK = 1 << 14 };

lf_status lf_adamw_create(lf_adamw *out, size_t n, lf_error *err)
{
    size_t bytes = 0, n_chunks = (n + CHUNK - 1) / CHUNK;
    *out = (lf_adamw){.n = n};
    if (lf_mul_size(n, sizeof(float), &bytes)) {
        out->m = lf_calloc_aligned(bytes);
        out->v = lf_calloc_aligned(bytes);
        out->chunk_sums = calloc(n_chunks + 1, sizeof *out->chunk_sums);
    }
    if (out->m && out->v && out->chunk_sums) return LF_OK;
    lf_adamw_free(out);
    return lf_fail_memory(err, "optimiser's moments", bytes);
}

void lf_adamw_free(lf_adamw *a)
{
    free(a->m);
    free(a->v);
    free(a->chunk_sums);
    *a = (lf_adamw){0};
}

static double square_sum(const float *restrict x, size_t n)
{
    double sum = 0.0;
#pragma omp simd reduction(+ : sum)
    for (size_t i = 0; i < n; i++) sum += (double)x[i] * (double)x[i];
    return sum;
}

static double global_norm(lf_adamw *a, const float *grad)
{
#pragma omp parallel for schedule(static)
    for (size_t begin = 0; begin < a->n; begin += CHUNK)
        a->chunk_sums[begin / CHUNK] = square_sum(grad + begin, a->n - begin < CHUNK ? a->n - begin : CHUNK);
    double sum = 0.0;
    for (size_t i = 0; i < (a->n + CHUNK - 1) / CHUNK; i++) sum += a->chunk_sums[i];
    return sqrt(sum);
}

/* What all elements of a step have in common. */
typedef struct step_factors {
    float clip;         /* of the gradient */
    float lr;           /* divided by the first moment's bias correction */
    float v_correction; /* 1 / sqrt of the second moment's */
    float beta1, beta2, eps;
} step_factors;

/* One weight, by all threads of a team, each its share. */
static void update(float *restrict x, float *restrict m, float *restrict v, float *restrict g, size_t n,
                   const step_factors *f, float keep)
{
#pragma omp for simd schedule(static) nowait
    for (size_t i = 0; i < n; i++) {
        const float grad = g[i] * f->clip;
        m[i] = f->beta1 * m[i] + (1.0f - f->beta1) * grad;
        v[i] = f->beta2 * v[i] + (1.0f - f->beta2) * grad * grad;
        x[i] = x[i] * keep - f->lr * m[i] / (sqrtf(v[i]) * f->v_correction + f->eps);
        g[i] = 0.0f;
    }
}

bool lf_adamw_step(lf_adamw *a, lf_params *params, float *grad, const lf_adamw_params *p, double *norm)
{
    *norm = global_norm(a, grad);
    if (!isfinite(*norm)) return false;
    a->step++;
    const double step = (double)a->step;
    const step_factors f = {
        .clip = p->clip > 0.0f && *norm > (double)p->clip ? (float)((double)p->clip / *norm) : 1.0f,
        .lr = (float)((double)p->lr / (1.0 - pow((double)p->beta1, step))),
        .v_correction = (float)(1.0 / sqrt(1.0 - pow((double)p->beta2, step))),
        .beta1 = p->beta1,
        .beta2 = p->beta2,
        .eps = p->eps,
    };
#pragma omp parallel
    for (int i = 0; i < params->n_list; i++) {
        const lf_param *w = &params->list[i];
        const float keep = lf_weight_is_matrix(w->weight) ? 1.0f - p->lr * p->weight_decay : 1.0f;
        update(params->data + w->offset, a->m + w->offset, a->v + w->offset, grad + w->offset,
               (size_t)(w->n_out * w->n_in), &f, keep);
    }
    return true;
}
