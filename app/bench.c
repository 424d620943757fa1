/* lookfar bench: its kinds, and where their results go. The measuring is bench/. */
#include "bench.h"

#include <stdlib.h>
#include <string.h>

/* ---- output ---- */

bool app_bench_open(app_bench_output *out)
{
    app_catch_interrupt();
    app_progress_start(&out->progress, out->progress_text, out->quiet);
    out->table = stdout;
    if (!out->json_path) return true;
    out->json = out->append ? app_append_json(out->json_path) : app_open_json(out->json_path);
    if (out->json == stdout) out->table = stderr;
    return out->json != NULL;
}

int app_bench_close(app_bench_output *out, lf_status status, const lf_error *err)
{
    app_progress_clear(&out->progress);
    if (status != LF_OK && !out->told) (void)app_fail(err);
    return app_close_json(out->json, out->json_path, status == LF_OK ? 0 : EXIT_FAIL);
}

bool app_bench_begin_result(app_bench_output *out)
{
    const bool is_first = !out->has_head;
    app_progress_clear(&out->progress);
    out->has_head = true;
    return is_first;
}

lf_status app_bench_write_json(app_bench_output *out, json_t *object)
{
    out->told = ferror(out->table) != 0; /* by main, at the end */
    if (out->json && !out->told)
        out->told = app_write_json(out->json, out->json_path, object) != 0;
    else
        json_decref(object);
    return out->told ? LF_EIO : LF_OK;
}

bool app_bench_canceled(void *cookie)
{
    (void)cookie;
    return app_interrupted;
}

void app_bench_progress(void *cookie, const char *what, double share)
{
    app_bench_output *out = cookie;
    if (strcmp(out->progress_text, what) != 0) {
        app_progress_clear(&out->progress);
        (void)snprintf(out->progress_text, sizeof out->progress_text, "%s", what);
        app_progress_start(&out->progress, out->progress_text, out->quiet);
    }
    app_progress_draw(&out->progress, share);
}

/* ---- options ---- */

void app_bench_check_list(struct argp_state *state, const char *option, lf_status status, const lf_error *err)
{
    if (status != LF_OK) app_usage_error(state, "%s: %s", option, err->text);
}

char *app_bench_default_dir(void)
{
    const char *base = getenv("TMPDIR");
    char *dir = NULL;
    if (asprintf(&dir, "%s/lookfar-bench", base && *base ? base : "/tmp") >= 0) return dir;
    (void)fprintf(stderr, "lookfar: out of memory\n");
    return NULL;
}

/* ---- kinds ---- */

int app_bench(int argc, char **argv)
{
    static const app_kind kinds[] = {
        {"decode", app_bench_decode, "tokens per second of prompts and of decoding"},
        {"verify", app_bench_verify, "a pass of several rows of one sequence over a pass of one"},
        {"sparse", app_bench_sparse, "a step over a sparse view over a step over everything"},
        {"kernels", app_bench_kernels, "products and attention against the limits of the machine"},
        {"load", app_bench_load, "gigabytes per second of loading a model, and its peak of memory"},
        {"tokenize", app_bench_tokenize, "megabytes of text per second into tokens"},
        {"train", app_bench_train, "tokens per second of training"},
        {"serve", app_bench_serve, "a server under load: times to and between tokens, by request rate"},
        {"magicdec", app_bench_magicdec, "speculation over plain decoding, by batch and context"},
        {"acceptance", app_bench_acceptance, "how often drafts over a part of the cache are right"},
    };
    return app_run_kind(argc, argv, kinds, sizeof kinds / sizeof *kinds, "Measures speed.");
}
