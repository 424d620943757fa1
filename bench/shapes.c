#include "shapes.h"

#include "random_model.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Part of the names of files: raise it when the same name should mean another content. */
#define FILES_VERSION "v1"

enum { DISTINCT_ROWS = 32 };

/* llama2.c's 110M model (multi-head attention, tied) and TinyLlama (grouped-query attention). */
static const struct {
    const char *name;
    lf_config config;
} shapes[] = {
    {"110m",
     {.arch = LF_ARCH_LLAMA,
      .n_layers = 12,
      .dim = 768,
      .n_heads = 12,
      .n_kv_heads = 12,
      .head_dim = 64,
      .ffn_dim = 2048,
      .n_vocab = 32000,
      .n_ctx_max = 1 << 17,
      .norm_eps = 1e-5f,
      .rope_base = 10000.0,
      .rope_factor = 1.0,
      .tied = true}},
    {"1.1b",
     {.arch = LF_ARCH_LLAMA,
      .n_layers = 22,
      .dim = 2048,
      .n_heads = 32,
      .n_kv_heads = 4,
      .head_dim = 64,
      .ffn_dim = 5632,
      .n_vocab = 32000,
      .n_ctx_max = 1 << 17,
      .norm_eps = 1e-5f,
      .rope_base = 10000.0,
      .rope_factor = 1.0}},
};

const lf_config *bench_shape_find(const char *name)
{
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        if (strcmp(name, shapes[i].name) == 0) return &shapes[i].config;
    return NULL;
}

lf_status bench_shape_path(char *out, size_t size, const char *dir, const char *name, lf_dtype dtype,
                           lf_error *err)
{
    const int n = snprintf(out, size, "%s/%s-%s-%s.gguf", dir, name, lf_dtype_of(dtype)->name, FILES_VERSION);
    if (n >= 0 && (size_t)n < size) return LF_OK;
    return lf_fail(err, LF_EINVAL, "%s: found a name of %zu bytes, expected at most %zu", dir, strlen(dir),
                   size / 2);
}

lf_status bench_shape_write(const char *path, const char *dir, const lf_config *shape, lf_dtype dtype,
                            lf_error *err)
{
    const lf_random_model m = {.config = *shape, .dtype = dtype, .seed = 1, .distinct_rows = DISTINCT_ROWS};
    if (access(path, R_OK) == 0) return LF_OK;
    if (mkdir(dir, 0777) != 0 && errno != EEXIST)
        return lf_fail(err, LF_EIO, "%s: cannot create the folder: %s", dir, strerror(errno));
    return lf_random_model_write(path, &m, err);
}

static lf_status with_shape(const bench_options *o, const bench_hooks *hooks, const char *model,
                            const lf_config *shape, lf_dtype dtype, bench_file_fn *fn, void *cookie,
                            lf_error *err)
{
    lf_status status = LF_OK;
    char path[2 * BENCH_NAME_MAX], what[2 * BENCH_NAME_MAX];
    LF_TRY(bench_shape_path(path, sizeof path, o->dir, model, dtype, err));
    (void)snprintf(what, sizeof what, "%s %s: writing", model, lf_dtype_of(dtype)->name);
    hooks->on_progress(hooks->cookie, what, 0.0);
    LF_TRY(bench_shape_write(path, o->dir, shape, dtype, err));
    LF_TRY(fn(cookie, model, path, err));
done:
    return status;
}

lf_status bench_each_file(const bench_options *o, const bench_hooks *hooks, bench_file_fn *fn, void *cookie,
                          lf_error *err)
{
    lf_status status = LF_OK;
    for (int i = 0; i < o->models.n; i++) {
        const char *model = o->models.v[i];
        const lf_config *shape = bench_shape_find(model);
        for (int j = 0; shape && j < o->dtypes.n; j++)
            LF_TRY(with_shape(o, hooks, model, shape, (lf_dtype)o->dtypes.v[j], fn, cookie, err));
        if (shape) continue;
        if (access(model, F_OK) != 0) {
            status = lf_fail(err, LF_EINVAL, "model: found \"%s\", expected 110m, 1.1b or a path", model);
            goto done;
        }
        LF_TRY(fn(cookie, model, model, err));
    }
done:
    return status;
}
