#include "load.h"

#include "base/clock.h"
#include "model/model.h"
#include "probe.h"
#include "shapes.h"
#include "team.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct loader {
    const bench_options *options;
    const bench_hooks *hooks;
    bench_load_fn *on_result;
} loader;

/* What the process of a repetition has to say. */
typedef struct sample {
    lf_status status;
    lf_error err;
    lf_dtype dtype; /* of the model's feed-forward matrices */
    int threads;
    double bytes, seconds, peak_bytes, gbytes_per_s;
} sample;

/* ---- in the process of a repetition ---- */

static bool on_load(void *cookie, size_t done, size_t total)
{
    const bench_hooks *hooks = cookie;
    (void)done, (void)total;
    return !hooks->canceled(hooks->cookie);
}

static double peak_resident_bytes(void)
{
    struct rusage usage;
    return getrusage(RUSAGE_SELF, &usage) == 0 ? (double)usage.ru_maxrss * 1024 : 0;
}

/* The memory of the probe comes after the peak was read. */
static lf_status load_once(sample *s, const loader *l, const char *path, lf_error *err)
{
    lf_status status = LF_OK;
    bench_team team = {0};
    bench_probe *probe = NULL;
    lf_source source = {0};
    lf_model model = {0};
    const lf_load_params params = {
        .weight_dtype = -1, .progress = on_load, .cookie = (void *)(uintptr_t)l->hooks};
    LF_TRY(bench_team_open(&team, l->options->n_threads, err));
    bench_team_bind(&team);
    const int64_t start = lf_clock_ns();
    LF_TRY(lf_source_open(&source, path, err));
    LF_TRY(lf_model_load(&model, &source, team.threads, &params, err));
    s->seconds = (double)(lf_clock_ns() - start) * 1e-9;
    s->peak_bytes = peak_resident_bytes();
    s->threads = lf_threads_count(team.threads);
    s->dtype = model.layers[0].gate.dtype;
    for (size_t i = 0; i < lf_source_n_tensors(&source); i++)
        s->bytes += (double)lf_source_tensor_at(&source, i)->bytes;
    lf_model_free(&model);
    LF_TRY(bench_probe_create(&probe, team.threads, l->options->probe_bytes, err));
    s->gbytes_per_s = bench_probe_measure(probe).gbytes_per_s;
done:
    bench_probe_free(probe);
    lf_model_free(&model);
    lf_source_close(&source);
    bench_team_close(&team);
    return status;
}

_Noreturn static void be_repetition(const loader *l, const char *path, int out)
{
    sample s = {0};
    s.status = load_once(&s, l, path, &s.err);
    _exit(write(out, &s, sizeof s) == sizeof s ? 0 : 1);
}

/* ---- in ours ---- */

/* LF_EIO when the process has ended without a whole sample. */
static lf_status read_sample(sample *s, int in, const bench_hooks *hooks)
{
    size_t have = 0;
    while (have < sizeof *s) {
        const ssize_t n = read(in, (char *)s + have, sizeof *s - have);
        if (n == 0 || (n < 0 && errno != EINTR)) return LF_EIO;
        if (n > 0)
            have += (size_t)n;
        else if (hooks->canceled(hooks->cookie))
            return LF_ECANCELED;
    }
    return LF_OK;
}

static lf_status run_repetition(sample *s, const loader *l, const char *path, lf_error *err)
{
    int ends[2], ended = 0;
    if (pipe(ends) != 0) return lf_fail(err, LF_EIO, "pipe: %s", strerror(errno));
    const pid_t pid = fork();
    if (pid == 0) be_repetition(l, path, ends[1]);
    const int why = errno;
    (void)close(ends[1]);
    const lf_status status = pid < 0 ? LF_EIO : read_sample(s, ends[0], l->hooks);
    (void)close(ends[0]);
    if (pid < 0) return lf_fail(err, LF_EIO, "fork: %s", strerror(why));
    if (status == LF_ECANCELED) (void)kill(pid, SIGKILL);
    while (waitpid(pid, &ended, 0) < 0 && errno == EINTR) {
    }
    if (status == LF_ECANCELED) return lf_fail(err, status, "interrupted");
    if (status == LF_OK) return s->status == LF_OK ? LF_OK : lf_fail(err, s->status, "%s", s->err.text);
    return lf_fail(err, status, "%s: the process that loads it ended early, by signal %d", path,
                   WIFSIGNALED(ended) ? WTERMSIG(ended) : 0);
}

static lf_status measure_file(void *cookie, const char *model, const char *path, lf_error *err)
{
    const loader *l = cookie;
    const int reps = l->options->reps;
    double seconds[BENCH_REPS_MAX], peak_bytes[BENCH_REPS_MAX], gbytes_per_s[BENCH_REPS_MAX];
    lf_status status = LF_OK;
    sample s = {0};
    char what[2 * BENCH_NAME_MAX];
    (void)snprintf(what, sizeof what, "%s: loading", model);
    for (int i = -1; i < reps; i++) { /* -1: not counted */
        l->hooks->on_progress(l->hooks->cookie, what, (double)(i + 1) / (reps + 1));
        LF_TRY(run_repetition(&s, l, path, err));
        if (i < 0) continue;
        seconds[i] = s.seconds;
        peak_bytes[i] = s.peak_bytes;
        gbytes_per_s[i] = s.gbytes_per_s;
    }
    const bench_load_result result = {.model = model,
                                      .dtype = lf_dtype_of(s.dtype)->name,
                                      .threads = s.threads,
                                      .reps = reps,
                                      .bytes = s.bytes,
                                      .seconds = bench_spread_of(seconds, reps),
                                      .peak_bytes = bench_spread_of(peak_bytes, reps).median,
                                      .gbytes_per_s = bench_spread_of(gbytes_per_s, reps).median};
    LF_TRY(l->on_result(l->hooks->cookie, &result, err));
done:
    return status;
}

lf_status bench_run_load(const bench_options *o, const bench_hooks *hooks, bench_load_fn *on_result,
                         lf_error *err)
{
    loader l = {.options = o, .hooks = hooks, .on_result = on_result};
    return bench_each_file(o, hooks, measure_file, &l, err);
}
