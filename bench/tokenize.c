#include "tokenize.h"

#include "base/clock.h"
#include "token/tokenizer.h"

#include <string.h>
#include <sys/stat.h>

static lf_status open_tokenizer(lf_tokenizer **out, const char *path, lf_error *err)
{
    struct stat st;
    if (stat(path, &st) == 0 && S_ISDIR(st.st_mode)) return lf_tokenizer_from_dir(out, path, err);
    const size_t n = strlen(path);
    if (n < 5 || strcmp(path + n - 5, ".gguf") != 0) return lf_tokenizer_from_file(out, path, err);
    lf_gguf *gguf;
    lf_status status = lf_gguf_open(&gguf, path, err);
    if (status != LF_OK) return status;
    status = lf_tokenizer_from_gguf(out, gguf, err);
    lf_gguf_close(gguf);
    return status;
}

static lf_status measure(bench_tokenize_result *r, const lf_tokenizer *t, const char *text, int reps,
                         lf_error *err)
{
    lf_status status = LF_OK;
    double seconds[BENCH_REPS_MAX];
    lf_ids ids = {0};
    for (int i = -1; i < reps; i++) { /* -1: not counted */
        ids.len = 0;
        const int64_t start = lf_clock_ns();
        LF_TRY(lf_tokenizer_encode(t, text, r->n_bytes, false, &ids, err));
        if (i >= 0) seconds[i] = (double)(lf_clock_ns() - start) * 1e-9;
    }
    r->n_tokens = ids.len;
    r->seconds = bench_spread_of(seconds, reps);
done:
    lf_ids_free(&ids);
    return status;
}

lf_status bench_run_tokenize(const char *tokenizer, const char *text, size_t len, int reps,
                             void (*on_result)(void *cookie, const bench_tokenize_result *result),
                             void *cookie, lf_error *err)
{
    lf_tokenizer *t;
    lf_status status = open_tokenizer(&t, tokenizer, err);
    if (status != LF_OK) return status;
    for (int shift = 3; shift >= 0; shift--) {
        bench_tokenize_result r = {.tokenizer = tokenizer, .n_bytes = len >> shift};
        LF_TRY(measure(&r, t, text, reps, err));
        on_result(cookie, &r);
    }
done:
    lf_tokenizer_free(t);
    return status;
}
