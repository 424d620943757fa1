#include "train/lora.h"

#include "base/mem.h"
#include "train/normal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

unsigned lf_lora_all_matrices(void)
{
    unsigned weights = 0;
    for (int w = LF_W_FIRST_OF_LAYER; w < LF_W_COUNT; w++)
        if (lf_weight_is_matrix((lf_weight)w)) weights |= 1u << w;
    return weights;
}

static bool is_adapted(const lf_param *w, unsigned weights)
{
    return w->weight >= LF_W_FIRST_OF_LAYER && weights >> w->weight & 1;
}

/* Lists A and B of every adapted matrix; slices start at multiples of 16 floats. false when sizes overflow. */
static bool plan_adapters(lf_params *adapters, const lf_params *base, int rank, unsigned weights)
{
    for (int i = 0; i < base->n_list; i++) {
        const lf_param *w = &base->list[i];
        if (!is_adapted(w, weights)) continue;
        const int64_t shapes[2][2] = {{rank, w->n_in}, {w->n_out, rank}};
        for (int part = 0; part < 2; part++) {
            size_t floats;
            adapters->list[adapters->n_list++] = (lf_param){.weight = w->weight,
                                                            .i_layer = w->i_layer,
                                                            .n_out = shapes[part][0],
                                                            .n_in = shapes[part][1],
                                                            .offset = adapters->n};
            if (!lf_mul_size((size_t)shapes[part][0], (size_t)shapes[part][1], &floats) ||
                !lf_add_size(floats, 15, &floats) ||
                !lf_add_size(adapters->n, floats & ~(size_t)15, &adapters->n))
                return false;
        }
    }
    return true;
}

lf_status lf_lora_create(lf_lora *out, const lf_params *base, int rank, float alpha, unsigned weights,
                         uint64_t seed, lf_error *err)
{
    lf_status status = LF_OK;
    *out = (lf_lora){.n = base->n, .adapters.config = base->config};
    lf_params *adapters = &out->adapters;
    size_t bytes = 0;
    if (rank < 1 || !(alpha > 0.0f) || !weights || weights & ~lf_lora_all_matrices()) {
        status = lf_fail(
            err, LF_EINVAL,
            "adapters: found rank %d, alpha %g, weights %#x; expected a positive rank and alpha, and "
            "matrices of layers",
            rank, (double)alpha, weights);
        goto done;
    }
    out->scale = alpha / (float)rank;
    adapters->list = calloc(2 * (size_t)base->n_list, sizeof *adapters->list);
    if (!adapters->list) {
        status = lf_fail_memory(err, "list of adapters", 2 * (size_t)base->n_list * sizeof *adapters->list);
        goto done;
    }
    if (!plan_adapters(adapters, base, rank, weights) || !lf_mul_size(adapters->n, sizeof(float), &bytes)) {
        status = lf_fail(err, LF_ELIMIT, "adapters: a rank of %d is too large", rank);
        goto done;
    }
    adapters->data = lf_calloc_aligned(bytes);
    out->origin = lf_calloc_aligned(base->n * sizeof *out->origin);
    if (!adapters->data || !out->origin) {
        status = lf_fail_memory(err, "adapters", bytes + base->n * sizeof *out->origin);
        goto done;
    }
    memcpy(out->origin, base->data, base->n * sizeof *out->origin);
    for (int i = 0; i < adapters->n_list; i += 2) {
        const lf_param *a = &adapters->list[i];
        lf_fill_normal(adapters->data + a->offset, (size_t)(a->n_out * a->n_in), 1.0f / sqrtf((float)a->n_in),
                       seed, (uint32_t)i);
    }
    LF_TRY(lf_matmul_create(&out->matmul, err));
done:
    if (status != LF_OK) lf_lora_free(out);
    return status;
}

void lf_lora_free(lf_lora *lora)
{
    lf_params_free(&lora->adapters);
    free(lora->origin);
    lf_matmul_free(lora->matmul);
    *lora = (lf_lora){0};
}

/* The base matrix that the i-th adapter pair belongs to. */
static const lf_param *adapted(const lf_lora *lora, const lf_params *base, int i)
{
    const lf_param *a = &lora->adapters.list[2 * i];
    return &base->list[lf_params_find(base, a->weight, a->i_layer)];
}

lf_status lf_lora_apply(const lf_lora *lora, lf_params *base, lf_error *err)
{
    for (int i = 0; i < lora->adapters.n_list / 2; i++) {
        const lf_param *a = &lora->adapters.list[2 * i], *b = a + 1, *w = adapted(lora, base, i);
        const lf_product p = {.m = (int)w->n_out, .n = (int)w->n_in, .k = (int)a->n_out};
        float *restrict data = base->data + w->offset;
        const lf_status status = lf_matmul_run(lora->matmul, &p, data, lora->adapters.data + b->offset,
                                               lora->adapters.data + a->offset, err);
        if (status != LF_OK) return status;
        const float *restrict origin = lora->origin + w->offset;
#pragma omp parallel for simd schedule(static)
        for (size_t j = 0; j < (size_t)(w->n_out * w->n_in); j++) data[j] = origin[j] + lora->scale * data[j];
    }
    return LF_OK;
}

/* dA (rank, n_in) = scale B^T dW  and  dB (n_out, rank) = scale dW A^T */
lf_status lf_lora_project_gradient(const lf_lora *lora, const lf_params *base, float *adapter_grad,
                                   float *grad, lf_error *err)
{
    lf_status status = LF_OK;
    const lf_params *adapters = &lora->adapters;
    memset(adapter_grad, 0, adapters->n * sizeof *adapter_grad); /* padding too */
    for (int i = 0; i < adapters->n_list / 2; i++) {
        const lf_param *a = &adapters->list[2 * i], *b = a + 1, *w = adapted(lora, base, i);
        const int rank = (int)a->n_out, n_in = (int)w->n_in, n_out = (int)w->n_out;
        const float *dw = grad + w->offset;
        const lf_product for_a = {.m = rank, .n = n_in, .k = n_out, .a_transposed = true};
        const lf_product for_b = {.m = n_out, .n = rank, .k = n_in, .b_transposed = true};
        LF_TRY(lf_matmul_run(lora->matmul, &for_a, adapter_grad + a->offset, adapters->data + b->offset, dw,
                             err));
        LF_TRY(lf_matmul_run(lora->matmul, &for_b, adapter_grad + b->offset, dw, adapters->data + a->offset,
                             err));
    }
    for (size_t i = 0; i < adapters->n; i++) adapter_grad[i] *= lora->scale;
    memset(grad, 0, base->n * sizeof *grad);
done:
    return status;
}
