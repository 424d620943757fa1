/* `lookfar bench magicdec`: what speculation gains over plain decoding, in batches of long contexts of real text.
 *
 * Every sequence reads its own part of a text up to the context, then goes on by itself for some tokens. All settings go on from the
 * same prompts, in the same cache (each on forks of its sequences), and take turns, repetition by repetition; their outputs are
 * compared with those of plain decoding, token by token. Reading the prompts is not timed. */
#ifndef LF_BENCH_MAGICDEC_H
#define LF_BENCH_MAGICDEC_H

#include "bench.h"
#include "decode/proposer.h"

enum { BENCH_SETTINGS_MAX = 128 };

/* How to decode. */
typedef struct bench_setting {
    int proposer; /* of lf_proposer_find: -1 is none */
    lf_selection selection;
    int budget; /* positions; 0: the proposer's own choice */
    int g;      /* candidates of a round at most */
} bench_setting;

typedef struct bench_magicdec_options {
    const char *model_path, *text_path;
    bench_ints batches, contexts;
    bench_setting settings[BENCH_SETTINGS_MAX];
    int n_settings;
    int n_tokens; /* of each sequence */
    int reps, n_threads;
    float temperature;
    lf_dtype kv_dtype;
    unsigned cpu_mask;
} bench_magicdec_options;

/* A setting in a cell. */
typedef struct bench_magicdec_result {
    const char *model, *proposer;
    bench_setting setting;
    int batch, context;
    bench_spread tps;       /* tokens per second over all sequences */
    double acceptance;      /* accepted over proposed; NAN when nothing was */
    double tokens_per_pass; /* of a sequence */
    double speedup;         /* of the medians, over plain decoding */
    double
        latency_ratio; /* seconds a token of a sequence, mean over sequences, over those of plain decoding */
    bool identical;    /* every token of every repetition */
} bench_magicdec_result;

typedef lf_status bench_magicdec_fn(void *cookie, const bench_magicdec_result *result, lf_error *err);

/* Measures every batch and context, plain decoding first. Errors: those of loading a model; LF_EINVAL when the text is too short for
 * a context; LF_ELIMIT (memory); LF_ECANCELED. on_result gets the hooks' cookie. */
lf_status bench_run_magicdec(const bench_magicdec_options *o, const bench_hooks *hooks,
                             bench_magicdec_fn *on_result, lf_error *err);

#endif
