#include "train/attention_int.h"

#include "base/carve.h"
#include "base/cpu.h"

#include <assert.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

/* Runs of key tiles into which the backward of a head is cut at most: each has its own part of dq. */
enum { PARTS_MAX = 8 };

struct lf_attention {
    const lf_attention_kernel *kernel;
    lf_attention_shape shape;
    int tiles_max;
    int n_parts;
    lf_attention_job job;
    uint8_t *sight;           /* (tiles_max, tiles_max) */
    int bound[PARTS_MAX + 1]; /* part i has key tiles [bound[i], bound[i + 1]) */
    float *dq;                /* (n_parts, n_heads, rows_padded, dim_padded) */
    uint8_t *scratch;         /* (n_threads, scratch_bytes) */
    size_t scratch_bytes;
    uint8_t *memory;
    size_t bytes;
};

static const lf_attention_kernel *kernel_for(const lf_attention_shape *s)
{
#if defined(__x86_64__)
    if (s->bf16 && s->cpu_flags & LF_CPU_AVX512BF16) return &lf_attention_avx512bf16;
    if (s->cpu_flags & LF_CPU_AVX512) return &lf_attention_avx512;
    if (s->cpu_flags & LF_CPU_AVX2) return &lf_attention_avx2;
#endif
    (void)s;
    return &lf_attention_portable;
}

/* So many that the threads can share the heads' parts evenly. */
static int choose_parts(int n_heads, int n_threads)
{
    for (int parts = 1; parts < PARTS_MAX; parts++)
        if (n_heads * parts % n_threads == 0) return parts;
    return PARTS_MAX;
}

static void plan(lf_attention *at, carver *c)
{
    const lf_attention_shape *s = &at->shape;
    lf_attention_job *job = &at->job;
    const size_t n_heads = (size_t)s->n_heads, n_kv_heads = (size_t)s->n_kv_heads;
    const size_t head_floats = (size_t)job->rows_padded * (size_t)job->dim_padded;
    at->sight = carve(c, (size_t)at->tiles_max, (size_t)at->tiles_max);
    job->k_turned = carve(c, n_kv_heads, job->head_bytes);
    job->v_turned = carve(c, n_kv_heads, job->head_bytes);
    job->k_summed = carve(c, n_kv_heads, job->head_bytes);
    job->v_summed = carve(c, n_kv_heads, job->head_bytes);
    job->q_summed = carve(c, n_heads, job->head_bytes);
    job->do_summed = carve(c, n_heads, job->head_bytes);
    job->d_out = carve(c, n_heads, job->head_bytes);
    job->delta = carve(c, n_heads * (size_t)job->rows_padded, sizeof(float));
    at->dq = carve(c, (size_t)at->n_parts * n_heads * head_floats, sizeof(float));
    job->dk = carve(c, n_kv_heads * head_floats, sizeof(float));
    job->dv = carve(c, n_kv_heads * head_floats, sizeof(float));
    at->scratch = carve(c, (size_t)s->n_threads, at->scratch_bytes);
}

lf_status lf_attention_create(lf_attention **out, const lf_attention_shape *shape, lf_error *err)
{
    assert(shape->head_dim <= LF_TRAIN_HEAD_MAX && shape->n_heads % shape->n_kv_heads == 0);
    *out = NULL;
    lf_attention *at = calloc(1, sizeof *at);
    if (!at) return lf_fail_memory(err, "attention", sizeof *at);
    at->shape = *shape;
    at->kernel = kernel_for(shape);
    at->tiles_max = (shape->rows_max + LF_TRAIN_TILE - 1) / LF_TRAIN_TILE;
    at->n_parts = choose_parts(shape->n_kv_heads, shape->n_threads);
    at->scratch_bytes = (at->kernel->scratch_bytes + 63) & ~(size_t)63;
    at->job = (lf_attention_job){.n_heads = shape->n_heads,
                                 .n_kv_heads = shape->n_kv_heads,
                                 .head_dim = shape->head_dim,
                                 .dim_padded = (shape->head_dim + 15) & ~15,
                                 .rows_padded = at->tiles_max * LF_TRAIN_TILE,
                                 .operand = shape->operand};
    const size_t element = at->kernel->dtype == LF_DTYPE_F32 ? sizeof(float) : sizeof(uint16_t);
    at->job.tile_bytes = (size_t)LF_TRAIN_TILE * (size_t)at->job.dim_padded * element;
    at->job.head_bytes = (size_t)at->tiles_max * at->job.tile_bytes;

    carver measure = {0};
    plan(at, &measure);
    at->bytes = measure.used;
    if (!measure.overflow) at->memory = lf_calloc_aligned(at->bytes);
    if (!at->memory) {
        free(at);
        return lf_fail_memory(err, "attention", measure.used);
    }
    carver take = {.base = at->memory};
    plan(at, &take);
    *out = at;
    return LF_OK;
}

void lf_attention_free(lf_attention *at)
{
    if (!at) return;
    free(at->memory);
    free(at);
}

size_t lf_attention_bytes(const lf_attention *at)
{
    return at->bytes;
}

lf_dtype lf_attention_dtype(const lf_attention *at)
{
    return at->kernel->dtype;
}

int lf_attention_rows_padded(const lf_attention *at)
{
    return at->job.rows_padded;
}

int lf_attention_dim_padded(const lf_attention *at)
{
    return at->job.dim_padded;
}

/* ---- who sees what ---- */

/* How many of [begin, end) lie in [low, high). */
static int overlap(int begin, int end, int low, int high)
{
    const int from = begin > low ? begin : low, to = end < high ? end : high;
    return to > from ? to - from : 0;
}

static lf_sight find_sight(const lf_train_rows *rows, int query_tile, int key_tile)
{
    const int low = key_tile * LF_TRAIN_TILE, high = low + LF_TRAIN_TILE;
    const int begin = query_tile * LF_TRAIN_TILE;
    const int end = begin + LF_TRAIN_TILE < rows->n ? begin + LF_TRAIN_TILE : rows->n;
    bool any = false, all = true;
    for (int i = begin; i < end; i++) {
        int n_seen = overlap(rows->own[i], i + 1, low, high);
        if (rows->first) n_seen += overlap(rows->first[i], rows->first_end[i], low, high);
        any |= n_seen > 0;
        all &= n_seen == LF_TRAIN_TILE;
    }
    return !any ? LF_SEES_NOTHING : all ? LF_SEES_ALL : LF_SEES_SOME;
}

/* Cuts the key tiles into parts of about equally many pairs of tiles that see each other. */
static void balance_parts(lf_attention *at)
{
    const int n = at->job.n_tiles;
    size_t total = 0, sum = 0;
    for (int i = 0; i < n * n; i++) total += at->sight[i] != LF_SEES_NOTHING;
    int part = 0;
    at->bound[0] = 0;
    for (int key_tile = 0; key_tile < n; key_tile++) {
        for (int q = key_tile; q < n; q++) sum += at->sight[q * n + key_tile] != LF_SEES_NOTHING;
        while (part + 1 < at->n_parts && sum * (size_t)at->n_parts >= total * (size_t)(part + 1))
            at->bound[++part] = key_tile + 1;
    }
    while (part < at->n_parts) at->bound[++part] = n;
}

void lf_attention_set_rows(lf_attention *at, const lf_train_rows *rows)
{
    lf_attention_job *job = &at->job;
    assert(rows->n >= 1 && rows->n <= at->shape.rows_max);
    job->rows = rows;
    job->n = rows->n;
    job->n_tiles = (rows->n + LF_TRAIN_TILE - 1) / LF_TRAIN_TILE;
    job->sight = at->sight;
#pragma omp parallel for schedule(static, 1)
    for (int q = 0; q < job->n_tiles; q++)
        for (int k = 0; k < job->n_tiles; k++)
            at->sight[q * job->n_tiles + k] = (uint8_t)(k <= q ? find_sight(rows, q, k) : LF_SEES_NOTHING);
    balance_parts(at);
}

/* ---- the work ---- */

static void set_heads(lf_attention_job *job, const void *heads)
{
    job->q = heads;
    job->k = job->q + (size_t)job->n_heads * job->head_bytes;
    job->v = job->k + (size_t)job->n_kv_heads * job->head_bytes;
}

static void *scratch_of_thread(const lf_attention *at)
{
    return at->scratch + (size_t)omp_get_thread_num() * at->scratch_bytes;
}

void lf_attention_forward(lf_attention *at, void *out, float *lse, const void *heads)
{
    lf_attention_job *job = &at->job;
    const lf_attention_kernel *kernel = at->kernel;
    set_heads(job, heads);
    job->out = out;
    job->lse = lse;
#pragma omp parallel
    {
#pragma omp for schedule(static) collapse(2)
        for (int h = 0; h < job->n_kv_heads; h++)
            for (int t = 0; t < job->n_tiles; t++) kernel->arrange_keys(job, h, t);
                /* The last tiles see most: they come first, so that the threads end together. */
#pragma omp for schedule(dynamic) collapse(2)
        for (int t = job->n_tiles - 1; t >= 0; t--)
            for (int h = 0; h < job->n_heads; h++) kernel->forward(job, h, t, scratch_of_thread(at));
    }
}

lf_attention_gradient lf_attention_backward(lf_attention *at, const float *d_out, const void *out,
                                            const float *lse, const void *heads)
{
    lf_attention_job *job = &at->job;
    const lf_attention_kernel *kernel = at->kernel;
    const size_t part_floats = (size_t)job->n_heads * (size_t)job->rows_padded * (size_t)job->dim_padded;
    set_heads(job, heads);
    job->out = (void *)out; /* the backward only reads it */
    job->lse = (float *)lse;
    job->d_out_rows = d_out;
#pragma omp parallel
    {
#pragma omp for schedule(static) collapse(2) nowait
        for (int h = 0; h < job->n_kv_heads; h++)
            for (int t = 0; t < job->n_tiles; t++) kernel->arrange_keys_backward(job, h, t);
#pragma omp for schedule(static) collapse(2)
        for (int h = 0; h < job->n_heads; h++)
            for (int t = 0; t < job->n_tiles; t++) kernel->arrange_queries_backward(job, h, t);
#pragma omp for schedule(dynamic) collapse(2)
        for (int h = 0; h < job->n_kv_heads; h++) {
            for (int part = 0; part < at->n_parts; part++) {
                lf_attention_job of_part = *job;
                of_part.dq = at->dq + (size_t)part * part_floats;
                kernel->backward(&of_part, h, at->bound[part], at->bound[part + 1], scratch_of_thread(at));
            }
        }
    }
    return (lf_attention_gradient){.dq = at->dq, .n_dq = at->n_parts, .dk = job->dk, .dv = job->dv};
}
