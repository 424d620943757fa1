#include "model/model.h"

#include "base/map.h"
#include "base/mem.h"
#include "tensor/quant.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* Where in lf_layer or lf_model a weight lives. */
static lf_packed *matrix_of(lf_model *m, lf_weight weight, int i_layer)
{
    lf_layer *l = weight >= LF_W_FIRST_OF_LAYER ? &m->layers[i_layer] : NULL;
    switch (weight) {
    case LF_W_TOKEN_EMBD: /* only when tied: the embedding is the output matrix */
    case LF_W_OUTPUT: return &m->output;
    case LF_W_Q: return &l->q;
    case LF_W_K: return &l->k;
    case LF_W_V: return &l->v;
    case LF_W_ATTN_OUTPUT: return &l->attn_output;
    case LF_W_GATE: return &l->gate;
    case LF_W_UP: return &l->up;
    case LF_W_DOWN: return &l->down;
    default: return NULL;
    }
}

static float **vector_of(lf_model *m, lf_weight weight, int i_layer)
{
    lf_layer *l = weight >= LF_W_FIRST_OF_LAYER ? &m->layers[i_layer] : NULL;
    switch (weight) {
    case LF_W_OUTPUT_NORM: return &m->output_norm;
    case LF_W_ATTN_NORM: return &l->attn_norm;
    case LF_W_Q_BIAS: return &l->q_bias;
    case LF_W_K_BIAS: return &l->k_bias;
    case LF_W_V_BIAS: return &l->v_bias;
    case LF_W_Q_NORM: return &l->q_norm;
    case LF_W_K_NORM: return &l->k_norm;
    case LF_W_FFN_NORM: return &l->ffn_norm;
    default: return NULL;
    }
}

/* ---- loading ---- */

typedef struct loader {
    lf_model *model;
    const lf_source *source;
    lf_threads *threads;
    const lf_load_params *params;
    lf_error *err;
    size_t done_bytes, total_bytes;
} loader;

static lf_status report_progress(loader *ld, size_t bytes)
{
    ld->done_bytes += bytes;
    if (ld->params->progress && !ld->params->progress(ld->params->cookie, ld->done_bytes, ld->total_bytes))
        return lf_fail(ld->err, LF_ECANCELED, "%s: loading canceled", ld->source->path);
    return LF_OK;
}

static lf_status fail_nonfinite(const loader *ld, const lf_tensor_info *t, int64_t row, int64_t block)
{
    const int64_t element = block * lf_dtype_of(t->dtype)->block_len;
    return lf_fail(ld->err, LF_EFORMAT,
                   "%s: tensor %s: row %lld, element %lld: found a value that is not finite",
                   ld->source->path, t->name, (long long)row, (long long)element);
}

static lf_status load_vector(loader *ld, lf_weight weight, int i_layer)
{
    const lf_tensor_info *t = lf_source_find(ld->source, weight, i_layer);
    if (!t) return LF_OK;
    const size_t n = (size_t)t->dims[0];
    const int64_t bad = lf_find_nonfinite(t->data, t->dtype, n);
    if (bad >= 0) return fail_nonfinite(ld, t, 0, bad);
    float *in_file = malloc(n * sizeof *in_file), *vector = lf_calloc_aligned(n * sizeof *vector);
    if (!in_file || !vector) {
        free(in_file);
        free(vector);
        return lf_fail_memory(ld->err, t->name, n * sizeof *vector);
    }
    lf_dequantize_row(in_file, t->data, t->dtype, n);
    for (size_t i = 0; i < n; i++) vector[i] = in_file[lf_source_row(ld->source, weight, (int64_t)i)];
    free(in_file);
    *vector_of(ld->model, weight, i_layer) = vector;
    ld->model->weight_bytes += n * sizeof *vector;
    return report_progress(ld, t->bytes);
}

/* One matrix being packed by the whole team. */
typedef struct packing {
    const loader *ld;
    lf_packed *packed;
    const lf_tensor_info *tensor;
    lf_weight weight;
    size_t row_bytes;
    uint8_t *scratch; /* (n_threads, scratch_bytes) */
    size_t scratch_bytes;
    _Atomic int64_t bad_row; /* a row that is not finite, or -1 */
} packing;

static void pack_tiles(void *arg, int i_thread)
{
    packing *p = arg;
    enum { CHUNK = 4 };
    const uint8_t *data = p->tensor->data;
    for (int begin; (begin = lf_threads_take(p->ld->threads, CHUNK)) < p->packed->n_tiles;) {
        for (int tile = begin; tile < begin + CHUNK && tile < p->packed->n_tiles; tile++) {
            const void *rows[LF_TILE_OUT] = {NULL};
            for (int j = 0; j < LF_TILE_OUT && tile * LF_TILE_OUT + j < p->packed->n_out; j++) {
                const int64_t row = lf_source_row(p->ld->source, p->weight, tile * LF_TILE_OUT + j);
                rows[j] = data + (size_t)row * p->row_bytes;
                if (lf_find_nonfinite(rows[j], p->tensor->dtype, (size_t)p->packed->n_in) >= 0)
                    atomic_store(&p->bad_row, row);
            }
            lf_pack_tile(p->packed, tile, rows, p->tensor->dtype,
                         p->scratch + (size_t)i_thread * p->scratch_bytes);
        }
    }
}

static lf_dtype packed_dtype(const lf_tensor_info *t, int weight_dtype)
{
    return weight_dtype >= 0 ? (lf_dtype)weight_dtype : t->dtype;
}

static lf_status load_matrix(loader *ld, lf_weight weight, int i_layer)
{
    const lf_tensor_info *t = lf_source_find(ld->source, weight, i_layer);
    if (!t) return LF_OK;
    lf_status status = LF_OK;
    lf_packed *packed = matrix_of(ld->model, weight, i_layer);
    packing p = {.ld = ld, .packed = packed, .tensor = t, .weight = weight, .bad_row = -1};
    LF_TRY(lf_packed_init(packed, packed_dtype(t, ld->params->weight_dtype), (int)t->dims[0], (int)t->dims[1],
                          ld->err));
    p.scratch_bytes = (lf_pack_scratch_bytes(packed) + 63) & ~(size_t)63;
    const size_t scratch_bytes = p.scratch_bytes * (size_t)lf_threads_count(ld->threads);
    p.scratch = lf_calloc_aligned(scratch_bytes);
    if (!p.scratch) {
        status = lf_fail_memory(ld->err, "packing scratch", scratch_bytes);
        goto done;
    }
    (void)lf_dtype_row_bytes(t->dtype, (size_t)t->dims[1],
                             &p.row_bytes); /* cannot fail: the parser sized the tensor */
    lf_threads_run(ld->threads, pack_tiles, &p);
    const int64_t bad = atomic_load(&p.bad_row);
    if (bad >= 0) {
        const uint8_t *row = (const uint8_t *)t->data + (size_t)bad * p.row_bytes;
        status = fail_nonfinite(ld, t, bad, lf_find_nonfinite(row, t->dtype, (size_t)t->dims[1]));
        goto done;
    }
    ld->model->weight_bytes += packed->tile_bytes * (size_t)packed->n_tiles;
    lf_map_forget(t->data, t->bytes); /* sources are maps of files */
    LF_TRY(report_progress(ld, t->bytes));
done:
    free(p.scratch);
    return status;
}

/* An embedding of its own is only looked up: its rows stay as the file has them. */
static lf_status load_embedding(loader *ld)
{
    lf_model *m = ld->model;
    if (m->config.tied) return load_matrix(ld, LF_W_TOKEN_EMBD, 0);
    const lf_tensor_info *t = lf_source_find(ld->source, LF_W_TOKEN_EMBD, 0);
    m->embd_dtype = t->dtype;
    (void)lf_dtype_row_bytes(t->dtype, (size_t)t->dims[1], &m->embd_row_bytes);
    m->embd = lf_calloc_aligned(t->bytes);
    if (!m->embd) return lf_fail_memory(ld->err, t->name, t->bytes);
    memcpy(m->embd, t->data, t->bytes);
    lf_map_forget(t->data, t->bytes);
    m->weight_bytes += t->bytes;
    for (int64_t row = 0; row < t->dims[0]; row++) {
        const int64_t bad = lf_find_nonfinite(m->embd + (size_t)row * m->embd_row_bytes, t->dtype,
                                              (size_t)t->dims[1]);
        if (bad >= 0) return fail_nonfinite(ld, t, row, bad);
    }
    return report_progress(ld, t->bytes);
}

static lf_status load_rope_freqs(loader *ld)
{
    lf_model *m = ld->model;
    const size_t n = (size_t)m->config.head_dim / 2;
    const lf_tensor_info *t = lf_source_find(ld->source, LF_W_ROPE_FREQS, 0);
    float *divisors = t ? malloc(n * sizeof *divisors) : NULL;
    m->rope_freqs = lf_calloc_aligned(n * sizeof *m->rope_freqs);
    lf_status status = LF_OK;
    if (!m->rope_freqs || (t && !divisors)) {
        status = lf_fail_memory(ld->err, "rotation frequencies", n * sizeof(float));
        goto done;
    }
    if (t) {
        lf_dequantize_row(divisors, t->data, t->dtype, n);
        for (size_t i = 0; i < n; i++) {
            if (divisors[i] > 0.0f && divisors[i] < 1e9f) continue;
            status = lf_fail(ld->err, LF_EFORMAT,
                             "%s: tensor %s: element %zu: found %g, expected a positive divisor",
                             ld->source->path, t->name, i, (double)divisors[i]);
            goto done;
        }
    }
    lf_config_rope_freqs(m->rope_freqs, &m->config, divisors);
done:
    free(divisors);
    return status;
}

lf_status lf_model_load(lf_model *m, const lf_source *source, lf_threads *threads,
                        const lf_load_params *params, lf_error *err)
{
    lf_status status = LF_OK;
    *m = (lf_model){.config = source->config};
    loader ld = {.model = m, .source = source, .threads = threads, .params = params, .err = err};
    for (size_t i = 0; i < lf_source_n_tensors(source); i++)
        ld.total_bytes += lf_source_tensor_at(source, i)->bytes;
    m->layers = calloc((size_t)m->config.n_layers, sizeof *m->layers);
    if (!m->layers) {
        status = lf_fail_memory(err, "layers", (size_t)m->config.n_layers * sizeof *m->layers);
        goto done;
    }
    LF_TRY(load_embedding(&ld));
    LF_TRY(load_rope_freqs(&ld));
    LF_TRY(load_vector(&ld, LF_W_OUTPUT_NORM, 0));
    for (int i = 0; i < m->config.n_layers; i++)
        for (int w = LF_W_FIRST_OF_LAYER; w < LF_W_COUNT; w++)
            LF_TRY(lf_weight_is_matrix((lf_weight)w) ? load_matrix(&ld, (lf_weight)w, i)
                                                     : load_vector(&ld, (lf_weight)w, i));
    LF_TRY(load_matrix(&ld, LF_W_OUTPUT, 0));
done:
    if (status != LF_OK) lf_model_free(m);
    return status;
}

void lf_model_free(lf_model *m)
{
    for (int i = 0; m->layers && i < m->config.n_layers; i++) {
        for (int w = LF_W_FIRST_OF_LAYER; w < LF_W_COUNT; w++) {
            if (lf_weight_is_matrix((lf_weight)w))
                lf_packed_free(matrix_of(m, (lf_weight)w, i));
            else
                free(*vector_of(m, (lf_weight)w, i));
        }
    }
    lf_packed_free(&m->output);
    free(m->layers);
    free(m->output_norm);
    free(m->rope_freqs);
    free(m->embd);
    *m = (lf_model){0};
}

static bool plan_weight(const lf_source *source, lf_weight weight, int i_layer, int weight_dtype,
                        size_t *total)
{
    const lf_tensor_info *t = lf_source_find(source, weight, i_layer);
    if (!t) return true;
    size_t bytes;
    if (weight == LF_W_TOKEN_EMBD && !source->config.tied)
        bytes = t->bytes;
    else if (!lf_weight_is_matrix(weight))
        bytes = (size_t)t->dims[0] * sizeof(float);
    else if (!lf_packed_bytes(packed_dtype(t, weight_dtype), (int)t->dims[0], (int)t->dims[1], &bytes))
        return false;
    return lf_add_size(*total, bytes, total);
}

bool lf_model_plan_bytes(const lf_source *source, int weight_dtype, size_t *out)
{
    *out = 0;
    for (int w = 0; w < LF_W_FIRST_OF_LAYER; w++)
        if (!plan_weight(source, (lf_weight)w, 0, weight_dtype, out)) return false;
    for (int i = 0; i < source->config.n_layers; i++)
        for (int w = LF_W_FIRST_OF_LAYER; w < LF_W_COUNT; w++)
            if (!plan_weight(source, (lf_weight)w, i, weight_dtype, out)) return false;
    return true;
}

void lf_model_embed(float *out, const lf_model *m, int32_t token)
{
    if (m->embd)
        lf_dequantize_row(out, m->embd + (size_t)token * m->embd_row_bytes, m->embd_dtype,
                          (size_t)m->config.dim);
    else
        lf_unpack_row(out, &m->output, token);
}
