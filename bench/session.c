#include "session.h"

#include "base/cpu.h"
#include "base/mem.h"
#include "shapes.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

int bench_max(const bench_ints *list)
{
    int most = list->v[0];
    for (int i = 1; i < list->n; i++)
        if (list->v[i] > most) most = list->v[i];
    return most;
}

/* ---- opening ---- */

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

static void close_session(bench_session *s)
{
    bench_rig_close(s->rig);
    bench_probe_free(s->probe);
    bench_team_close(&s->team);
    bench_peer_stop(s->peer);
    free(s->samples);
}

static lf_status open_session(bench_session *s, const bench_options *options, const bench_hooks *hooks,
                              int n_together, lf_error *err)
{
    lf_status status = LF_OK;
    *s = (bench_session){.options = options, .hooks = hooks};
    LF_TRY(allocate_samples(s, (size_t)n_together * (size_t)options->reps, err));
    lf_kernels_init(&s->kernels, lf_cpu_flags() & options->cpu_mask);
    if (options->peer_command) LF_TRY(bench_peer_start(&s->peer, options->peer_command, hooks, err));
    LF_TRY(bench_team_open(&s->team, options->n_threads, err));
    LF_TRY(bench_probe_create(&s->probe, s->team.threads, options->probe_bytes, err));
    bench_team_bind(&s->team);
done:
    return status;
}

/* ---- models ---- */

typedef struct model_job {
    bench_session *session;
    const bench_rig_size *size;
    bench_model_fn *fn;
} model_job;

static lf_status with_model(void *cookie, const char *model, const char *path, lf_error *err)
{
    const model_job *job = cookie;
    bench_session *s = job->session;
    lf_status status = LF_OK;
    s->model = model;
    s->path = path;
    LF_TRY(bench_rig_open(&s->rig, path, model, s->options->kv_dtype, job->size, &s->kernels, s->team.threads,
                          s->hooks, err));
    LF_TRY(job->fn(s, err));
done:
    bench_rig_close(s->rig);
    s->rig = NULL;
    return status;
}

lf_status bench_session_run(const bench_options *options, const bench_hooks *hooks, int n_together,
                            const bench_rig_size *size, bench_model_fn *fn, lf_error *err)
{
    bench_session s;
    model_job job = {.session = &s, .size = size, .fn = fn};
    lf_status status = open_session(&s, options, hooks, n_together, err);
    if (status == LF_OK) status = bench_each_file(options, hooks, with_model, &job, err);
    close_session(&s);
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
                                   .threads = lf_threads_count(s->team.threads),
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

/* Our result of a test whose samples begin at `at`. */
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
        .threads = lf_threads_count(s->team.threads),
        .reps = reps,
        .n_tokens = (test->kind == BENCH_VIEW ? 1 : test->n) * n_seqs,
        .seconds = bench_spread_of(s->seconds + at, reps),
        .bytes = bytes,
        .floor_seconds = test->kind == BENCH_PP ? NAN : bytes * 1e-9 / gbytes_per_s,
        .ratio = NAN,
        .floor_ratio = NAN,
        .base_seconds = {NAN, NAN, NAN},
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
    /* uncounted: after a probe or a peer, the caches should hold what they hold amid decoding */
    const bench_test step = test->kind == BENCH_VIEW ? *test : (bench_test){.kind = BENCH_ROWS, .n = 1};
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

void bench_session_relate(bench_result *result, const bench_result *base)
{
    result->base_seconds = base->seconds;
    result->ratio = result->seconds.median / base->seconds.median;
    result->floor_ratio = result->bytes / base->bytes;
}
