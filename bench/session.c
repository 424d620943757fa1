#include "session.h"

#include "base/cpu.h"
#include "base/mem.h"
#include "shapes.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int bench_max(const bench_ints *list)
{
    int most = list->v[0];
    for (int i = 1; i < list->n; i++)
        if (list->v[i] > most) most = list->v[i];
    return most;
}

/* ---- opening ---- */

/* Binds the calling thread, the first of the team, to the first processor: the team's others have the next ones. */
static void bind_caller(bench_session *s)
{
    if (sched_getaffinity(0, sizeof s->processors, &s->processors) != 0) return;
    int cpu = 0;
    while (cpu < CPU_SETSIZE && !CPU_ISSET((size_t)cpu, &s->processors)) cpu++;
    cpu_set_t first;
    CPU_ZERO(&first);
    CPU_SET((size_t)cpu, &first);
    s->bound = sched_setaffinity(0, sizeof first, &first) == 0;
}

/* One block for all samples. */
static lf_status allocate_samples(bench_session *s, size_t n, lf_error *err)
{
    s->samples = malloc(4 * n * sizeof *s->samples);
    if (!s->samples) return lf_fail_memory(err, "repetitions", 4 * n * sizeof *s->samples);
    s->seconds = s->samples;
    s->peer_seconds = s->samples + n;
    s->gbytes_per_s = s->samples + 2 * n;
    s->core_to_core_ns = s->samples + 3 * n;
    return LF_OK;
}

lf_status bench_session_open(bench_session *s, const bench_options *options, const bench_hooks *hooks,
                             int n_together, lf_error *err)
{
    lf_status status = LF_OK;
    *s = (bench_session){.options = options, .hooks = hooks};
    const int n_processors = lf_threads_processors();
    const int n_threads = options->n_threads ? options->n_threads : n_processors;
    LF_TRY(allocate_samples(s, (size_t)n_together * (size_t)options->reps, err));
    lf_kernels_init(&s->kernels, lf_cpu_flags() & options->cpu_mask);
    if (options->peer_command) LF_TRY(bench_peer_start(&s->peer, options->peer_command, hooks, err));
    LF_TRY(lf_threads_create(&s->threads, n_threads, n_threads <= n_processors, err));
    LF_TRY(bench_probe_create(&s->probe, s->threads, options->probe_bytes, err));
    if (n_threads <= n_processors) bind_caller(s);
done:
    if (status != LF_OK) bench_session_close(s);
    return status;
}

void bench_session_close(bench_session *s)
{
    if (s->bound) (void)sched_setaffinity(0, sizeof s->processors, &s->processors);
    bench_rig_close(s->rig);
    bench_probe_free(s->probe);
    lf_threads_free(s->threads);
    bench_peer_stop(s->peer);
    free(s->samples);
    *s = (bench_session){0};
}

/* ---- models ---- */

static lf_status with_model(bench_session *s, const bench_rig_size *size, bench_model_fn *fn, lf_error *err)
{
    lf_status status = LF_OK;
    LF_TRY(bench_rig_open(&s->rig, s->path, s->model, s->options->kv_dtype, size, &s->kernels, s->threads,
                          s->hooks, err));
    LF_TRY(fn(s, err));
done:
    bench_rig_close(s->rig);
    s->rig = NULL;
    return status;
}

static lf_status with_shape(bench_session *s, const lf_config *shape, lf_dtype dtype,
                            const bench_rig_size *size, bench_model_fn *fn, lf_error *err)
{
    lf_status status = LF_OK;
    char what[BENCH_NAME_MAX];
    LF_TRY(bench_shape_path(s->path, sizeof s->path, s->options->dir, s->model, dtype, err));
    (void)snprintf(what, sizeof what, "%s %s: writing", s->model, lf_dtype_of(dtype)->name);
    s->hooks->on_progress(s->hooks->cookie, what, 0.0);
    LF_TRY(bench_shape_write(s->path, s->options->dir, shape, dtype, err));
    LF_TRY(with_model(s, size, fn, err));
done:
    return status;
}

lf_status bench_session_each_model(bench_session *s, const bench_rig_size *size, bench_model_fn *fn,
                                   lf_error *err)
{
    lf_status status = LF_OK;
    for (int i = 0; i < s->options->models.n; i++) {
        s->model = s->options->models.v[i];
        const lf_config *shape = bench_shape_find(s->model);
        for (int j = 0; shape && j < s->options->dtypes.n; j++)
            LF_TRY(with_shape(s, shape, (lf_dtype)s->options->dtypes.v[j], size, fn, err));
        if (shape) continue;
        if (access(s->model, F_OK) != 0) {
            status = lf_fail(err, LF_EINVAL, "model: found \"%s\", expected 110m, 1.1b or a path", s->model);
            goto done;
        }
        (void)snprintf(s->path, sizeof s->path, "%s", s->model);
        LF_TRY(with_model(s, size, fn, err));
    }
done:
    return status;
}

/* ---- cells ---- */

/* A bf16 cache is measured against f16, the peers' own default and the same size: they are slow with bf16. */
static const char *peer_kv_type(const bench_options *o)
{
    return lf_dtype_of(o->kv_dtype == LF_DTYPE_BF16 ? LF_DTYPE_F16 : o->kv_dtype)->name;
}

static lf_status run_peer(bench_session *s, const bench_test *test, int n_seqs, int depth, double *seconds,
                          lf_error *err)
{
    const bench_request request = {.model = s->path,
                                   .test = *test,
                                   .depth = depth,
                                   .batch = n_seqs,
                                   .threads = lf_threads_count(s->threads),
                                   .kv_type = peer_kv_type(s->options)};
    return bench_peer_time(s->peer, &request, seconds, err);
}

static void show_progress(bench_session *s, const bench_test *test, int n_seqs, int depth, int done, int all)
{
    char what[2 * BENCH_NAME_MAX], name[BENCH_TEST_NAME_MAX];
    bench_test_name(name, test);
    (void)snprintf(what, sizeof what, "%s %s: %s, depth %d, batch %d", s->model,
                   lf_dtype_of(bench_rig_dtype(s->rig))->name, name, depth, n_seqs);
    s->hooks->on_progress(s->hooks->cookie, what, (double)done / all);
}

/* Our result of a test whose samples begin at `at`; verify fills in the ratios. */
static bench_result result_of(const bench_session *s, const bench_test *test, int n_seqs, int depth, int at)
{
    const int reps = s->options->reps;
    const double gbytes_per_s = bench_spread_of(s->gbytes_per_s + at, reps).median;
    const double bytes = bench_rig_bytes(s->rig, test);
    return (bench_result){
        .model = s->model,
        .dtype = lf_dtype_of(bench_rig_dtype(s->rig))->name,
        .kv_type = lf_dtype_of(s->options->kv_dtype)->name,
        .engine = "lookfar",
        .kernels = s->kernels.name,
        .test = *test,
        .depth = depth,
        .batch = n_seqs,
        .threads = lf_threads_count(s->threads),
        .reps = reps,
        .n_tokens = test->n * n_seqs,
        .seconds = bench_spread_of(s->seconds + at, reps),
        .bytes = bytes,
        .floor_seconds = test->kind == BENCH_PP ? NAN : bytes * 1e-9 / gbytes_per_s,
        .ratio = NAN,
        .floor_ratio = NAN,
        .gbytes_per_s = gbytes_per_s,
        .core_to_core_ns = bench_spread_of(s->core_to_core_ns + at, reps).median,
    };
}

static bench_result peer_result_of(const bench_session *s, const bench_result *ours, int at)
{
    bench_result peer = *ours;
    peer.engine = bench_peer_name(s->peer);
    peer.kernels = NULL;
    peer.kv_type = peer_kv_type(s->options);
    peer.seconds = bench_spread_of(s->peer_seconds + at, s->options->reps);
    return peer;
}

/* One repetition of a test, its samples going to place `at`. */
static lf_status run_repetition(bench_session *s, const bench_test *test, int n_seqs, int depth, int at,
                                lf_error *err)
{
    lf_status status = LF_OK;
    const bench_test step = {.kind = BENCH_ROWS, .n = 1};
    /* uncounted: after a probe or a peer, the caches should hold what they hold amid decoding */
    LF_TRY(bench_rig_run(s->rig, &step, &s->seconds[at], err));
    LF_TRY(bench_rig_run(s->rig, test, &s->seconds[at], err));
    const bench_limits limits = bench_probe_measure(s->probe);
    s->gbytes_per_s[at] = limits.gbytes_per_s;
    s->core_to_core_ns[at] = limits.core_to_core_ns;
    if (s->peer) LF_TRY(run_peer(s, test, n_seqs, depth, &s->peer_seconds[at], err));
done:
    return status;
}

lf_status bench_session_measure(bench_session *s, const bench_test *tests, int n_tests, int n_seqs, int depth,
                                bench_result *results, lf_error *err)
{
    lf_status status = LF_OK;
    const int reps = s->options->reps;
    for (int i = 0; i < n_tests; i++) /* uncounted; the peer has one of its own before its first */
        LF_TRY(bench_rig_run(s->rig, &tests[i], &s->seconds[i * reps], err));
    for (int rep = 0; rep < reps; rep++)
        /* backwards, for the peer's sake: rows are mostly listed upwards, and its cache has room for the first it meets */
        for (int i = n_tests - 1; i >= 0; i--) {
            show_progress(s, &tests[i], n_seqs, depth, rep, reps);
            LF_TRY(run_repetition(s, &tests[i], n_seqs, depth, i * reps + rep, err));
        }
    for (int i = 0; i < n_tests; i++) {
        results[i] = result_of(s, &tests[i], n_seqs, depth, i * reps);
        if (s->peer) results[n_tests + i] = peer_result_of(s, &results[i], i * reps);
    }
done:
    return status;
}
