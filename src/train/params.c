#include "train/params.h"

#include "base/mem.h"
#include "base/philox.h"
#include "tensor/quant.h"
#include "train/normal.h"

#include <math.h>
#include <stdlib.h>

enum { SLICE_ALIGN = 16 }; /* floats: a cache line */

/* Whether the weight stands directly behind the one before it. */
static bool follows(lf_weight weight)
{
    return weight == LF_W_K || weight == LF_W_V || weight == LF_W_K_BIAS || weight == LF_W_V_BIAS ||
           weight == LF_W_UP;
}

/* Appends a weight to the list and moves *n past it; false when sizes overflow. */
static bool add_weight(lf_params *p, lf_weight weight, int i_layer)
{
    if (!lf_weight_expected(&p->config, weight)) return true;
    lf_param *param = &p->list[p->n_list++];
    *param = (lf_param){.weight = weight, .i_layer = i_layer};
    lf_weight_shape(&p->config, weight, &param->n_out, &param->n_in);
    if (!follows(weight)) {
        if (!lf_add_size(p->n, SLICE_ALIGN - 1, &p->n)) return false;
        p->n -= p->n % SLICE_ALIGN;
    }
    param->offset = p->n;
    size_t floats;
    return lf_mul_size((size_t)param->n_out, (size_t)param->n_in, &floats) &&
           lf_add_size(p->n, floats, &p->n);
}

static bool plan_slices(lf_params *p)
{
    for (int w = 0; w < LF_W_FIRST_OF_LAYER; w++)
        if (!add_weight(p, (lf_weight)w, 0)) return false;
    for (int i = 0; i < p->config.n_layers; i++)
        for (int w = LF_W_FIRST_OF_LAYER; w < LF_W_COUNT; w++)
            if (!add_weight(p, (lf_weight)w, i)) return false;
    return true;
}

lf_status lf_params_create(lf_params *out, const lf_config *config, lf_error *err)
{
    lf_status status = LF_OK;
    *out = (lf_params){.config = *config};
    size_t n_list, list_bytes, bytes;
    if (!lf_mul_size((size_t)config->n_layers + 1, LF_W_COUNT, &n_list) ||
        !lf_mul_size(n_list, sizeof *out->list, &list_bytes) || n_list > INT32_MAX) {
        status = lf_fail(err, LF_ELIMIT, "weights: %d layers are too many", config->n_layers);
        goto done;
    }
    out->list = malloc(list_bytes);
    if (!out->list) {
        status = lf_fail_memory(err, "list of weights", list_bytes);
        goto done;
    }
    if (!plan_slices(out) || !lf_mul_size(out->n, sizeof *out->data, &bytes)) {
        status = lf_fail(err, LF_ELIMIT, "weights: the model's shape is too large");
        goto done;
    }
    out->data = lf_calloc_aligned(bytes);
    if (!out->data) status = lf_fail_memory(err, "weights", bytes);
done:
    if (status != LF_OK) lf_params_free(out);
    return status;
}

void lf_params_free(lf_params *p)
{
    free(p->list);
    free(p->data);
    free(p->rope_divisors);
    *p = (lf_params){0};
}

void lf_params_init_random(lf_params *p, uint64_t seed)
{
    const float deviation = 0.02f, residual = deviation / sqrtf(2.0f * (float)p->config.n_layers);
    for (int i = 0; i < p->n_list; i++) {
        const lf_param *param = &p->list[i];
        float *data = p->data + param->offset;
        const size_t n = (size_t)(param->n_out * param->n_in);
        const bool writes_residual = param->weight == LF_W_ATTN_OUTPUT || param->weight == LF_W_DOWN;
        if (lf_weight_is_matrix(param->weight)) {
            lf_fill_normal(data, n, writes_residual ? residual : deviation, seed, (uint32_t)i);
            continue;
        }
        const bool bias = param->weight == LF_W_Q_BIAS || param->weight == LF_W_K_BIAS ||
                          param->weight == LF_W_V_BIAS;
        for (size_t j = 0; j < n; j++) data[j] = bias ? 0.0f : 1.0f;
    }
}

/* ---- from a model file ---- */

static lf_status check_finite(const lf_source *s, const lf_tensor_info *t, const void *row, int64_t i_row,
                              int64_t n, lf_error *err)
{
    if (lf_find_nonfinite(row, t->dtype, (size_t)n) < 0) return LF_OK;
    return lf_fail(err, LF_EFORMAT, "%s: tensor %s: row %lld: found a value that is not finite", s->path,
                   t->name, (long long)i_row);
}

static lf_status load_matrix(float *data, const lf_param *p, const lf_source *s, const lf_tensor_info *t,
                             lf_error *err)
{
    size_t row_bytes;
    (void)lf_dtype_row_bytes(t->dtype, (size_t)p->n_in,
                             &row_bytes); /* cannot fail: the parser sized the tensor */
    for (int64_t i = 0; i < p->n_out; i++) {
        const int64_t i_row = lf_source_row(s, p->weight, i);
        const uint8_t *row = (const uint8_t *)t->data + (size_t)i_row * row_bytes;
        const lf_status status = check_finite(s, t, row, i_row, p->n_in, err);
        if (status != LF_OK) return status;
        lf_dequantize_row(data + i * p->n_in, row, t->dtype, (size_t)p->n_in);
    }
    return LF_OK;
}

/* The elements of a bias are rows of its matrix, and may stand in another order. */
static lf_status load_vector(float *data, const lf_param *p, const lf_source *s, const lf_tensor_info *t,
                             lf_error *err)
{
    const lf_status status = check_finite(s, t, t->data, 0, p->n_in, err);
    if (status != LF_OK) return status;
    float *in_file = malloc((size_t)p->n_in * sizeof *in_file);
    if (!in_file) return lf_fail_memory(err, t->name, (size_t)p->n_in * sizeof *in_file);
    lf_dequantize_row(in_file, t->data, t->dtype, (size_t)p->n_in);
    for (int64_t i = 0; i < p->n_in; i++) data[i] = in_file[lf_source_row(s, p->weight, i)];
    free(in_file);
    return LF_OK;
}

static lf_status load_rope_divisors(lf_params *p, const lf_source *s, lf_error *err)
{
    const lf_tensor_info *t = lf_source_find(s, LF_W_ROPE_FREQS, 0);
    if (!t) return LF_OK;
    const size_t n = (size_t)p->config.head_dim / 2;
    p->rope_divisors = malloc(n * sizeof *p->rope_divisors);
    if (!p->rope_divisors) return lf_fail_memory(err, t->name, n * sizeof *p->rope_divisors);
    lf_dequantize_row(p->rope_divisors, t->data, t->dtype, n);
    for (size_t i = 0; i < n; i++)
        if (!(p->rope_divisors[i] > 0.0f && p->rope_divisors[i] < 1e9f))
            return lf_fail(err, LF_EFORMAT,
                           "%s: tensor %s: element %zu: found %g, expected a positive divisor", s->path,
                           t->name, i, (double)p->rope_divisors[i]);
    return LF_OK;
}

lf_status lf_params_load(lf_params *p, const lf_source *source, lf_error *err)
{
    lf_status status = LF_OK;
    for (int i = 0; i < p->n_list; i++) {
        const lf_param *param = &p->list[i];
        const lf_tensor_info *t = lf_source_find(source, param->weight, param->i_layer);
        float *data = p->data + param->offset;
        LF_TRY(lf_weight_is_matrix(param->weight) ? load_matrix(data, param, source, t, err)
                                                  : load_vector(data, param, source, t, err));
    }
    LF_TRY(load_rope_divisors(p, source, err));
done:
    return status;
}

int lf_params_find(const lf_params *p, lf_weight weight, int i_layer)
{
    for (int i = 0; i < p->n_list; i++)
        if (p->list[i].weight == weight && p->list[i].i_layer == i_layer) return i;
    return -1;
}
