/* The plan of an output file and the loop that writes it.
 *
 *   plan -> declare tensors -> header -> for each tensor, for each chunk of rows: convert (threads), check, write
 *
 * Memory: one chunk of output, and one row of floats for each thread. */
#include "convert/convert_int.h"

#include "base/mem.h"
#include "base/threads.h"
#include "tensor/quant.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum {
    CHUNK_BYTES = 4 << 20, /* of output that is converted before it is written; at least one row */
    ROWS_PER_TAKE = 4,
};

/* ---- plan ---- */

/* The type of a matrix, by the rules of convert.h. */
static lf_dtype choose_dtype(lf_out_plan *plan, lf_weight weight, lf_dtype src_dtype, int64_t n_cols)
{
    if (plan->dtype < 0) return src_dtype;
    lf_dtype dtype = (lf_dtype)plan->dtype;
    const bool decides_logits = weight == LF_W_TOKEN_EMBD || weight == LF_W_OUTPUT;
    if (decides_logits && (dtype == LF_DTYPE_Q4_K || dtype == LF_DTYPE_Q5_K)) dtype = LF_DTYPE_Q6_K;
    if (n_cols % lf_dtype_of(dtype)->block_len == 0) return dtype;
    plan->n_fallback++;
    return n_cols % lf_dtype_of(LF_DTYPE_Q8_0)->block_len == 0 ? LF_DTYPE_Q8_0 : LF_DTYPE_F16;
}

static bool is_rotated(lf_weight weight)
{
    return weight == LF_W_Q || weight == LF_W_K || weight == LF_W_Q_BIAS || weight == LF_W_K_BIAS;
}

lf_status lf_out_plan_add(lf_out_plan *plan, lf_weight weight, int i_layer, const void *src,
                          lf_dtype src_dtype, lf_error *err)
{
    if (plan->n == plan->cap) {
        const size_t cap = plan->cap ? 2 * plan->cap : 64;
        lf_out_tensor *grown = realloc(plan->tensors, cap * sizeof *grown);
        if (!grown) return lf_fail_memory(err, "the list of tensors", cap * sizeof *grown);
        plan->tensors = grown;
        plan->cap = cap;
    }
    lf_out_tensor *t = &plan->tensors[plan->n++];
    *t = (lf_out_tensor){
        .matrix = lf_weight_is_matrix(weight), .dtype = LF_DTYPE_F32, .src = src, .src_dtype = src_dtype};
    lf_weight_name(t->name, weight, i_layer, LF_NAMES_GGUF);
    lf_weight_shape(plan->config, weight, &t->n_rows, &t->n_cols);
    if (t->matrix) t->dtype = choose_dtype(plan, weight, src_dtype, t->n_cols);
    if (plan->half_split && plan->config->arch == LF_ARCH_LLAMA && is_rotated(weight)) {
        t->pair_dim = plan->config->head_dim;
        if (!t->matrix) {
            t->n_rows = t->n_cols;
            t->n_cols = 1;
        }
    }
    return LF_OK;
}

static lf_status add_found(lf_out_plan *plan, const lf_source *source, lf_weight weight, int i_layer,
                           lf_error *err)
{
    const lf_tensor_info *t = lf_source_find(source, weight, i_layer);
    return t ? lf_out_plan_add(plan, weight, i_layer, t->data, t->dtype, err) : LF_OK;
}

lf_status lf_out_plan_add_source(lf_out_plan *plan, const lf_source *source, lf_error *err)
{
    lf_status status = LF_OK;
    for (int w = 0; w < LF_W_FIRST_OF_LAYER; w++) LF_TRY(add_found(plan, source, (lf_weight)w, 0, err));
    for (int i = 0; i < source->config.n_layers; i++)
        for (int w = LF_W_FIRST_OF_LAYER; w < LF_W_COUNT; w++)
            LF_TRY(add_found(plan, source, (lf_weight)w, i, err));
done:
    return status;
}

void lf_out_plan_free(lf_out_plan *plan)
{
    free(plan->tensors);
    *plan = (lf_out_plan){0};
}

/* ---- stream ---- */

typedef struct stream {
    lf_gguf_writer *writer;
    const lf_convert_params *params;
    lf_threads *threads;
    uint8_t *chunk; /* (CHUNK_BYTES, or one row of the widest tensor) */
    float *floats;  /* (n_threads, floats_stride) */
    size_t floats_stride;
    size_t bytes_done, bytes_total; /* of tensor data */
    /* the chunk being converted: rows [first_row, first_row + n_rows) of tensor */
    const lf_out_tensor *tensor;
    size_t row_bytes, src_row_bytes;
    int64_t first_row;
    int n_rows;
} stream;

static size_t row_bytes_of(lf_dtype dtype, int64_t n_cols)
{
    size_t bytes = 0;
    const bool whole = lf_dtype_row_bytes(dtype, (size_t)n_cols, &bytes);
    assert(whole && "the plan and the source have whole blocks");
    (void)whole;
    return bytes;
}

/* The input's row for row i of the output: adjacent pairs (2j, 2j + 1) were j and j + head_dim / 2. */
static int64_t source_row(const lf_out_tensor *t, int64_t i)
{
    if (t->pair_dim == 0) return i;
    const int64_t in_head = i % t->pair_dim;
    return i - in_head + in_head / 2 + in_head % 2 * (t->pair_dim / 2);
}

static void convert_rows(void *arg, int i_thread)
{
    const stream *s = arg;
    const lf_out_tensor *t = s->tensor;
    float *floats = s->floats + (size_t)i_thread * s->floats_stride;
    int begin;
    while ((begin = lf_threads_take(s->threads, ROWS_PER_TAKE)) < s->n_rows) {
        const int end = begin + ROWS_PER_TAKE < s->n_rows ? begin + ROWS_PER_TAKE : s->n_rows;
        for (int i = begin; i < end; i++) {
            const uint8_t *src = t->src + (size_t)source_row(t, s->first_row + i) * s->src_row_bytes;
            uint8_t *dst = s->chunk + (size_t)i * s->row_bytes;
            if (t->dtype == t->src_dtype) {
                memcpy(dst, src, s->row_bytes);
            } else {
                lf_dequantize_row(floats, src, t->src_dtype, (size_t)t->n_cols);
                lf_quantize_row(dst, floats, t->dtype, (size_t)t->n_cols);
            }
        }
    }
}

/* Rows are whole blocks, so that the chunk can be checked as one long row. */
static lf_status check_finite(const stream *s, lf_error *err)
{
    const lf_out_tensor *t = s->tensor;
    const int64_t i_block = lf_find_nonfinite(s->chunk, t->dtype, (size_t)s->n_rows * (size_t)t->n_cols);
    if (i_block < 0) return LF_OK;
    return lf_fail(err, LF_EFORMAT,
                   "%s: tensor %s, row %lld: found a value that is not finite or too large for %s",
                   s->params->input_path, t->name,
                   (long long)(s->first_row + i_block * lf_dtype_of(t->dtype)->block_len / t->n_cols),
                   lf_dtype_of(t->dtype)->name);
}

static lf_status report_progress(const stream *s, lf_error *err)
{
    const lf_convert_params *p = s->params;
    if (!p->progress || p->progress(p->cookie, s->bytes_done, s->bytes_total)) return LF_OK;
    return lf_fail(err, LF_ECANCELED, "%s: canceled", p->output_path);
}

static lf_status write_tensor(stream *s, const lf_out_tensor *t, lf_error *err)
{
    lf_status status = LF_OK;
    s->tensor = t;
    s->row_bytes = row_bytes_of(t->dtype, t->n_cols);
    s->src_row_bytes = row_bytes_of(t->src_dtype, t->n_cols);
    const int64_t rows_fit = (int64_t)(CHUNK_BYTES / s->row_bytes), rows_max = rows_fit > 1 ? rows_fit : 1;
    for (s->first_row = 0; s->first_row < t->n_rows; s->first_row += s->n_rows) {
        const int64_t rows_left = t->n_rows - s->first_row;
        s->n_rows = (int)(rows_left < rows_max ? rows_left : rows_max);
        lf_threads_run(s->threads, convert_rows, s);
        LF_TRY(check_finite(s, err));
        LF_TRY(lf_gguf_write_data(s->writer, s->chunk, (size_t)s->n_rows * s->row_bytes, err));
        s->bytes_done += (size_t)s->n_rows * s->row_bytes;
        LF_TRY(report_progress(s, err));
    }
done:
    return status;
}

/* Declares the tensors and sizes the buffers for them. */
static lf_status open_stream(stream *s, const lf_out_plan *plan, lf_error *err)
{
    lf_status status = LF_OK;
    size_t chunk_bytes = CHUNK_BYTES, floats_bytes = 0;
    for (size_t i = 0; i < plan->n; i++) {
        const lf_out_tensor *t = &plan->tensors[i];
        const size_t row_bytes = row_bytes_of(t->dtype, t->n_cols);
        const int64_t matrix[2] = {t->n_rows, t->n_cols}, vector[1] = {t->n_rows * t->n_cols};
        lf_gguf_add_tensor(s->writer, t->name, t->dtype, t->matrix ? 2 : 1, t->matrix ? matrix : vector);
        s->bytes_total += row_bytes * (size_t)t->n_rows;
        chunk_bytes = row_bytes > chunk_bytes ? row_bytes : chunk_bytes;
        s->floats_stride = (size_t)t->n_cols > s->floats_stride ? (size_t)t->n_cols : s->floats_stride;
    }
    LF_TRY(lf_threads_create(&s->threads, s->params->n_threads, false, err));
    s->chunk = malloc(chunk_bytes);
    if (!s->chunk) {
        status = lf_fail_memory(err, "rows to write", chunk_bytes);
        goto done;
    }
    floats_bytes = s->floats_stride * sizeof *s->floats * (size_t)s->params->n_threads;
    s->floats = malloc(floats_bytes);
    if (!s->floats) status = lf_fail_memory(err, "rows of floats", floats_bytes);
done:
    return status;
}

lf_status lf_out_write(lf_gguf_writer *w, const lf_out_plan *plan, const lf_convert_params *params,
                       lf_error *err)
{
    lf_status status = LF_OK;
    stream s = {.writer = w, .params = params};
    LF_TRY(open_stream(&s, plan, err));
    LF_TRY(lf_gguf_writer_begin(w, err));
    for (size_t i = 0; i < plan->n; i++) LF_TRY(write_tensor(&s, &plan->tensors[i], err));
    LF_TRY(lf_gguf_writer_finish(w, err));
    if (params->result) {
        params->result->n_tensors = (int)plan->n;
        params->result->n_fallback = plan->n_fallback;
    }
done:
    free(s.floats);
    free(s.chunk);
    lf_threads_free(s.threads);
    return status;
}
