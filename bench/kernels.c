#include "kernels.h"

#include "base/clock.h"
#include "base/cpu.h"
#include "base/mem.h"
#include "kernel/kernel.h"
#include "peak.h"
#include "probe.h"
#include "team.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    N_IN = 1024,        /* inputs of a product: whole blocks of every dtype */
    PRODUCT_TILES = 8,  /* of a take: 128 outputs, as in a pass */
    ATTEND_TILES = 256, /* of a take: 4096 positions, a segment of a pass */
    L2_BYTES = 1 << 20, /* where the system does not say */
    L3_BYTES = 32 << 20,
    MEMORY_BYTES_MIN = 256 << 20,
    TAKES_MAX = 1 << 24,
};

const char *const bench_kernel_names[] = {"matmul", "attend", NULL};
const char *const bench_place_names[] = {"memory", "cache", NULL};

/* One cell: what a take is, and where its operands lie. */
typedef struct cell {
    bench_kernel kernel;
    bench_place place;
    lf_dtype dtype;
    int rows, head_dim;
    lf_kv_layout layout; /* of attention */
    size_t tile_bytes;
    int tiles; /* of a take */
    int span_takes; /* takes whose operands follow each other: of the whole memory, or of a thread's part in the cache */
    double flops;              /* of a take */
    size_t x_stride, y_stride; /* bytes of a row (or query), floats of a row of results */
} cell;

/* What one thread computes with. */
typedef struct worker {
    float *y;           /* (rows, y_stride) products, or the running sum of p v */
    float *m, *l;       /* (rows) running maximum and sum of attention */
    int *n_visible;     /* (rows) */
    const void **tiles; /* (tiles) of a call of attention */
    void *scratch;
} worker;

typedef struct runner {
    const bench_kernel_options *options;
    const bench_hooks *hooks;
    bench_kernel_fn *on_result;
    lf_kernels kernels;
    unsigned cpu_flags;
    bench_team team;
    bench_probe *probe;
    size_t memory_bytes, cache_bytes; /* as of the options, with their defaults */
    uint8_t *operands;                /* tile after tile, all of them the same one */
    size_t operand_bytes;
    cell filled;     /* for which kernel, dtype and head_dim; tile_bytes is 0 before the first */
    double *seconds; /* (reps) */

    const cell *c;      /* at hand */
    uint8_t *memory;    /* what follows */
    uint8_t *x;         /* (rows, x_stride) */
    worker *workers;    /* (threads) */
    int first, n_takes; /* of a run: its first take's place in the memory, and how many */
} runner;

/* ---- cells ---- */

static size_t cache_size(int name, size_t otherwise)
{
    const long bytes = sysconf(name);
    return bytes > 0 ? (size_t)bytes : otherwise;
}

/* Fills in the rest of a cell of the given kernel, dtype, rows, head_dim and place; false when there is none. */
static bool plan_cell(const runner *r, cell *c)
{
    const bool product = c->kernel == BENCH_MATMUL;
    const bool exists = product ? lf_packed_bytes(c->dtype, LF_TILE_OUT, N_IN, &c->tile_bytes)
                                : lf_kv_layout_init(&c->layout, c->dtype, c->head_dim);
    if (!exists) return false;
    if (!product) c->tile_bytes = c->layout.tile_bytes;
    const size_t span_bytes = c->place == BENCH_MEMORY ? r->memory_bytes : r->cache_bytes;
    const int most = product ? PRODUCT_TILES : ATTEND_TILES, least = product ? 1 : LF_ATTN_TILES;
    const int fitting = (int)(span_bytes / c->tile_bytes) / least * least;
    c->tiles = fitting < least ? least : fitting < most ? fitting : most;
    c->span_takes = (int)(span_bytes / ((size_t)c->tiles * c->tile_bytes));
    if (c->span_takes < 1) c->span_takes = 1;
    c->x_stride = lf_act_row_bytes(lf_act_for(c->dtype), product ? N_IN : c->head_dim);
    c->y_stride = product ? (size_t)c->tiles * LF_TILE_OUT : (size_t)c->layout.dim_padded;
    const double elements = product ? (double)LF_TILE_OUT * N_IN : 2.0 * LF_TILE_POS * c->head_dim;
    c->flops = 2.0 * elements * c->tiles * c->rows;
    return true;
}

static size_t take_bytes(const cell *c)
{
    return (size_t)c->tiles * c->tile_bytes;
}

/* Calls fn for the cells of a kernel, dtype and head_dim: rows, in them places. */
typedef lf_status cell_fn(runner *r, const cell *c, lf_error *err);
static lf_status each_place(runner *r, bench_kernel kernel, lf_dtype dtype, int head_dim, cell_fn *fn,
                            lf_error *err)
{
    lf_status status = LF_OK;
    const bench_kernel_options *o = r->options;
    const bench_ints *rows = kernel == BENCH_MATMUL ? &o->rows : &o->queries;
    for (int i = 0; i < rows->n; i++)
        for (int j = 0; j < o->places.n; j++) {
            cell c = {.kernel = kernel,
                      .place = (bench_place)o->places.v[j],
                      .dtype = dtype,
                      .rows = rows->v[i],
                      .head_dim = head_dim};
            if (plan_cell(r, &c)) LF_TRY(fn(r, &c, err));
        }
done:
    return status;
}

/* All cells: kernel, dtype, head_dim, rows, place. */
static lf_status each_cell(runner *r, cell_fn *fn, lf_error *err)
{
    lf_status status = LF_OK;
    const bench_kernel_options *o = r->options;
    for (int i = 0; i < o->kernels.n; i++) {
        const bench_kernel kernel = (bench_kernel)o->kernels.v[i];
        for (int j = 0; j < o->dtypes.n; j++)
            for (int k = 0; k < (kernel == BENCH_MATMUL ? 1 : o->head_dims.n); k++)
                LF_TRY(each_place(r, kernel, (lf_dtype)o->dtypes.v[j],
                                  kernel == BENCH_MATMUL ? 0 : o->head_dims.v[k], fn, err));
    }
done:
    return status;
}

/* ---- operands ---- */

/* n values in -1 .. 1: no subnormals, which some processors are slow with. */
static void fill_random(float *x, size_t n)
{
    uint64_t state = 1;
    for (size_t i = 0; i < n; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        x[i] = (float)(state >> 40) * 0x1p-23f - 1.0f;
    }
}

/* Writes the first tile. */
static lf_status make_product_tile(runner *r, const cell *c, const float *values, lf_error *err)
{
    lf_status status = LF_OK;
    lf_packed w = {0};
    void *scratch = NULL;
    const void *rows[LF_TILE_OUT];
    for (int i = 0; i < LF_TILE_OUT; i++) rows[i] = values + i * N_IN;
    LF_TRY(lf_packed_init(&w, c->dtype, LF_TILE_OUT, N_IN, err));
    scratch = lf_calloc_aligned(lf_pack_scratch_bytes(&w));
    if (!scratch) {
        status = lf_fail_memory(err, "packing", lf_pack_scratch_bytes(&w));
        goto done;
    }
    lf_pack_tile(&w, 0, rows, LF_DTYPE_F32, scratch);
    memcpy(r->operands, w.data, c->tile_bytes);
done:
    free(scratch);
    lf_packed_free(&w);
    return status;
}

static void make_kv_tile(runner *r, const cell *c, const float *values)
{
    for (int slot = 0; slot < LF_TILE_POS; slot++) {
        const float *k = values + 2 * slot * c->head_dim;
        lf_kv_tile_store(r->operands, &c->layout, slot, k, k + c->head_dim);
    }
}

/* The bytes of operands that a cell uses. */
static size_t used_bytes(const runner *r, const cell *c)
{
    const size_t span = (size_t)c->span_takes * take_bytes(c);
    return c->place == BENCH_MEMORY ? span : span * (size_t)lf_threads_count(r->team.threads);
}

/* One random tile, repeated over everything: speed does not depend on the values. */
static lf_status fill_tiles(runner *r, const cell *c, const float *values, lf_error *err)
{
    lf_status status = LF_OK;
    const cell *f = &r->filled;
    if (f->tile_bytes && f->kernel == c->kernel && f->dtype == c->dtype && f->head_dim == c->head_dim)
        return LF_OK;
    if (c->kernel == BENCH_MATMUL)
        LF_TRY(make_product_tile(r, c, values, err));
    else
        make_kv_tile(r, c, values);
    for (size_t at = c->tile_bytes; at + c->tile_bytes <= r->operand_bytes; at += c->tile_bytes)
        memcpy(r->operands + at, r->operands, c->tile_bytes);
    r->filled = *c;
done:
    return status;
}

static lf_status fill_operands(runner *r, const cell *c, lf_error *err)
{
    lf_status status = LF_OK;
    const int n_x = c->kernel == BENCH_MATMUL ? N_IN : c->head_dim;
    const size_t n = (size_t)2 * LF_TILE_OUT * (n_x > N_IN ? (size_t)n_x : N_IN);
    float *values = malloc(n * sizeof *values);
    if (!values) return lf_fail_memory(err, "values", n * sizeof *values);
    fill_random(values, n);
    LF_TRY(fill_tiles(r, c, values, err));
    for (int i = 0; i < c->rows; i++) /* each begins one value later */
        lf_act_row(&r->kernels, lf_act_for(c->dtype), r->x + (size_t)i * c->x_stride, values + i, n_x);
done:
    free(values);
    return status;
}

/* ---- running ---- */

/* Hands out the 64-byte aligned pieces of a block; with base NULL it only measures. */
static void *carve(uint8_t *base, size_t *used, size_t bytes)
{
    void *piece = base ? base + *used : NULL;
    *used += (bytes + 63) & ~(size_t)63;
    return piece;
}

/* What a cell's threads compute with, at base, and its bytes. */
static size_t carve_workers(runner *r, const cell *c, uint8_t *base)
{
    const size_t n = (size_t)c->rows;
    const int n_threads = lf_threads_count(r->team.threads);
    size_t used = 0;
    r->x = carve(base, &used, n * c->x_stride);
    worker *workers = carve(base, &used, (size_t)n_threads * sizeof *workers);
    for (int i = 0; i < n_threads; i++) {
        const worker w = {.y = carve(base, &used, n * c->y_stride * sizeof(float)),
                          .m = carve(base, &used, n * sizeof(float)),
                          .l = carve(base, &used, n * sizeof(float)),
                          .n_visible = carve(base, &used, n * sizeof(int)),
                          .tiles = carve(base, &used, (size_t)c->tiles * sizeof(void *)),
                          .scratch = carve(base, &used, lf_attend_scratch_bytes(c->rows))};
        for (size_t q = 0; base && q < n; q++) {
            w.m[q] = -INFINITY;
            w.n_visible[q] = c->tiles * LF_TILE_POS;
        }
        if (base) workers[i] = w;
    }
    r->workers = workers;
    return used;
}

static lf_status open_cell(runner *r, const cell *c, lf_error *err)
{
    const size_t bytes = carve_workers(r, c, NULL);
    r->c = c;
    r->first = 0;
    r->memory = lf_calloc_aligned(bytes);
    if (!r->memory) return lf_fail_memory(err, "rows", bytes);
    (void)carve_workers(r, c, r->memory);
    return fill_operands(r, c, err);
}

/* next: the operands of the thread's next take, probably. */
static void run_take(const runner *r, const worker *w, const uint8_t *operands, const uint8_t *next)
{
    const cell *c = r->c;
    if (c->kernel == BENCH_MATMUL) {
        const lf_packed part = {.dtype = c->dtype,
                                .n_out = c->tiles * LF_TILE_OUT,
                                .n_in = N_IN,
                                .n_tiles = c->tiles,
                                .tile_bytes = c->tile_bytes,
                                .data = (uint8_t *)(uintptr_t)operands};
        r->kernels.matmul[c->dtype](w->y, c->y_stride, &part, 0, c->tiles, r->x, c->x_stride, c->rows, next);
        return;
    }
    for (int i = 0; i < c->tiles; i++) w->tiles[i] = operands + (size_t)i * c->tile_bytes;
    r->kernels.attend[c->dtype](w->y, c->y_stride, w->m, w->l, &c->layout, w->tiles, c->tiles, r->x,
                                c->x_stride, w->n_visible, c->rows, 1.0f / sqrtf((float)c->head_dim), NULL,
                                w->scratch);
}

/* Take i, counted around, of those whose operands follow each other from `first` on. */
static const uint8_t *operands_of(const cell *c, const uint8_t *first, int i)
{
    return first + (size_t)(i % c->span_takes) * take_bytes(c);
}

/* Takes in memory are shared out as threads ask for them, as in a pass. What a thread has in its cache it alone reads. */
static void run_thread(void *arg, int i_thread)
{
    const runner *r = arg;
    const cell *c = r->c;
    const worker *w = &r->workers[i_thread];
    const uint8_t *own = r->operands + (size_t)i_thread * (size_t)c->span_takes * take_bytes(c);
    const int n_threads = lf_threads_count(r->team.threads);
    if (c->place == BENCH_CACHE) {
        for (int i = 0; i < r->n_takes / n_threads; i++)
            run_take(r, w, operands_of(c, own, i), operands_of(c, own, i + 1));
        return;
    }
    for (int i; (i = r->first + lf_threads_take(r->team.threads, 1)) < r->first + r->n_takes;)
        run_take(r, w, operands_of(c, r->operands, i), operands_of(c, r->operands, i + n_threads));
}

/* The seconds of a run. The next one goes on where it ends, so that a cache never holds what comes. */
static double time_run(runner *r)
{
    const int64_t start = lf_clock_ns();
    lf_threads_run_all(r->team.threads, run_thread, r);
    r->first = (r->first + r->n_takes) % r->c->span_takes;
    return (double)(lf_clock_ns() - start) * 1e-9;
}

/* ---- measuring ---- */

/* Finds how many takes last long enough, which warms up, too; then the repetitions. */
static lf_status time_cell(runner *r, lf_error *err)
{
    r->n_takes = lf_threads_count(r->team.threads);
    while (time_run(r) < r->options->seconds && r->n_takes < TAKES_MAX) r->n_takes *= 2;
    for (int i = 0; i < r->options->reps; i++) {
        if (r->hooks->canceled(r->hooks->cookie)) return lf_fail(err, LF_ECANCELED, "interrupted");
        r->seconds[i] = time_run(r);
    }
    return LF_OK;
}

/* The limits of the cell at hand. */
static void measure_limits(runner *r, bench_kernel_result *result)
{
    const cell *c = r->c;
    const bool two = c->kernel == BENCH_ATTEND && c->dtype == LF_DTYPE_Q8_0; /* V is multiplied as floats */
    const bench_peak *k = bench_peak_of(c->dtype, r->cpu_flags);
    const bench_peak *v = two ? bench_peak_of(LF_DTYPE_F32, r->cpu_flags) : k;
    const double k_flops = bench_peak_measure(k, r->team.threads);
    const double v_flops = two ? bench_peak_measure(v, r->team.threads) : k_flops;
    result->limit_gflops = 2e-9 / (1.0 / k_flops + 1.0 / v_flops); /* half of the flops each */
    (void)snprintf(result->instruction, sizeof result->instruction, two ? "%s, %s" : "%s", k->name, v->name);
    result->limit_gbytes_per_s = c->place == BENCH_MEMORY
                                     ? bench_probe_measure(r->probe).gbytes_per_s
                                     : bench_probe_measure_cache(r->probe,
                                                                 (size_t)c->span_takes * take_bytes(c));
}

static bench_kernel_result result_of(runner *r)
{
    const cell *c = r->c;
    const double gbytes = (double)take_bytes(c) * r->n_takes * 1e-9,
                 intensity = c->flops / (double)take_bytes(c);
    for (int i = 0; i < r->options->reps; i++) r->seconds[i] = gbytes / r->seconds[i];
    bench_kernel_result result = {.kernel = c->kernel,
                                  .place = c->place,
                                  .dtype = lf_dtype_of(c->dtype)->name,
                                  .kernels = r->kernels.name,
                                  .rows = c->rows,
                                  .head_dim = c->head_dim,
                                  .threads = lf_threads_count(r->team.threads),
                                  .reps = r->options->reps,
                                  .gbytes_per_s = bench_spread_of(r->seconds, r->options->reps)};
    measure_limits(r, &result);
    result.gflops = result.gbytes_per_s.median * intensity;
    result.roof_gflops = fmin(result.limit_gflops, result.limit_gbytes_per_s * intensity);
    result.share = result.gflops / result.roof_gflops;
    return result;
}

static lf_status measure_cell(runner *r, const cell *c, lf_error *err)
{
    lf_status status = LF_OK;
    char what[BENCH_NAME_MAX];
    (void)snprintf(what, sizeof what, "%s %s: %d rows, in %s", bench_kernel_names[c->kernel],
                   lf_dtype_of(c->dtype)->name, c->rows, bench_place_names[c->place]);
    r->hooks->on_progress(r->hooks->cookie, what, 0.0);
    LF_TRY(open_cell(r, c, err));
    LF_TRY(time_cell(r, err));
    const bench_kernel_result result = result_of(r);
    LF_TRY(r->on_result(r->hooks->cookie, &result, err));
done:
    free(r->memory);
    r->memory = NULL;
    return status;
}

/* ---- the whole ---- */

static lf_status count_operands(runner *r, const cell *c, lf_error *err)
{
    (void)err;
    if (used_bytes(r, c) > r->operand_bytes) r->operand_bytes = used_bytes(r, c);
    return LF_OK;
}

static lf_status open_runner(runner *r, lf_error *err)
{
    lf_status status = LF_OK;
    const bench_kernel_options *o = r->options;
    const size_t l2 = cache_size(_SC_LEVEL2_CACHE_SIZE, L2_BYTES);
    const size_t l3 = cache_size(_SC_LEVEL3_CACHE_SIZE, L3_BYTES);
    const size_t memory_bytes = 4 * l3 > MEMORY_BYTES_MIN ? 4 * l3 : MEMORY_BYTES_MIN;
    r->memory_bytes = o->memory_bytes ? o->memory_bytes : memory_bytes;
    r->cache_bytes = o->cache_bytes ? o->cache_bytes : l2 / 2;
    r->cpu_flags = lf_cpu_flags() & o->cpu_mask;
    lf_kernels_init(&r->kernels, r->cpu_flags);
    LF_TRY(bench_team_open(&r->team, o->n_threads, err));
    LF_TRY(bench_probe_create(&r->probe, r->team.threads, o->probe_bytes, err));
    bench_team_bind(&r->team);
    LF_TRY(each_cell(r, count_operands, err));
    if (r->operand_bytes == 0) {
        status = lf_fail(err, LF_EINVAL,
                         "dtype: found none that a cache can have, expected f32, f16, bf16 or q8_0");
        goto done;
    }
    r->operands = lf_calloc_aligned(r->operand_bytes);
    if (!r->operands) {
        status = lf_fail_memory(err, "operands", r->operand_bytes);
        goto done;
    }
    r->seconds = malloc((size_t)o->reps * sizeof *r->seconds);
    if (!r->seconds) status = lf_fail_memory(err, "repetitions", (size_t)o->reps * sizeof *r->seconds);
done:
    return status;
}

lf_status bench_run_kernels(const bench_kernel_options *o, const bench_hooks *hooks,
                            bench_kernel_fn *on_result, lf_error *err)
{
    lf_status status = LF_OK;
    runner r = {.options = o, .hooks = hooks, .on_result = on_result};
    LF_TRY(open_runner(&r, err));
    LF_TRY(each_cell(&r, measure_cell, err));
done:
    free(r.seconds);
    free(r.operands);
    bench_probe_free(r.probe);
    bench_team_close(&r.team);
    return status;
}
