/* `lookfar bench magicdec`: what speculation gains over plain decoding, in batches of long contexts of real text.
 *
 * Every sequence reads its own part of a text, or prompts, up to the context, then goes on by itself for some tokens. All settings go on
 * from the same prompts, in the same cache (each on forks of its sequences), and take turns, repetition by repetition; their outputs
 * are compared with those of plain decoding, token by token. Reading the prompts is not timed. All tokens of all sequences are: those that
 * are done leave the batch to the others, so that neither the quick ones nor the slow ones are counted for more than they are. A speed-up
 * is the median over repetitions, each against plain decoding of the same one: the machine's speed drifts from one to the next. */
#ifndef LF_BENCH_MAGICDEC_H
#define LF_BENCH_MAGICDEC_H

#include "bench.h"
#include "decode/proposer.h"

enum { BENCH_SETTINGS_MAX = 512 };

/* Decoding as MagicDec's own code does it (faithful.h): beside the proposers of lf_proposer_find. */
enum { BENCH_FAITHFUL = LF_PROPOSER_COUNT };

/* How to decode. */
typedef struct bench_setting {
    int proposer; /* of lf_proposer_find: -1 is none; or BENCH_FAITHFUL */
    lf_selection selection;
    lf_drafting drafting; /* of sparse and draft */
    int budget;           /* positions; 0: the proposer's own choice */
    int g;                /* candidates of a round at most */
} bench_setting;

/* Whether a cell is left out, because it was measured before. */
typedef bool bench_skip_fn(void *cookie, int batch, int context);

typedef struct bench_magicdec_options {
    const char *model_path;
    const char *draft_path; /* a smaller model with the same vocabulary, for draft and auto; or NULL */
    int draft_window;       /* 0: see lf_draft_choose_window */
    const char *text_path;  /* a text; or NULL, and: */
    const char *
        prompts_path; /* JSON lines with "prompt": sequence i ends with prompt i, after as many of those before it as fit */
    const char *task; /* what the text is, for the results */
    bench_ints batches, contexts;
    bench_setting settings[BENCH_SETTINGS_MAX];
    int n_settings;
    int n_tokens; /* of each sequence */
    int reps, n_threads;
    float temperature;
    lf_dtype kv_dtype;
    unsigned cpu_mask;
    size_t probe_bytes;       /* that a measurement of the bandwidth reads; 0: none */
    const char *peer_command; /* another engine (peer.h), decoding plainly; NULL: none */
    bench_skip_fn *skips;     /* gets the hooks' cookie; NULL: none is left out */
} bench_magicdec_options;

/* A setting in a cell, or the peer. A number that there is not is NAN. */
typedef struct bench_magicdec_result {
    const char *model, *draft_model, *engine, *kernels, *proposer, *task;
    bench_setting setting;
    int batch, context, threads, reps, n_tokens;
    float temperature;
    bench_spread tps;     /* tokens per second over all sequences */
    bench_spread speedup; /* over plain decoding in the same repetition */
    double latency_ms;    /* a token of a sequence takes; the median over sequences and repetitions */
    double latency_ratio; /* over that of plain decoding */
    double of_best;       /* of `auto`: tps over that of the best other setting of the cell */
    long passes, proposed, accepted;
    double acceptance;      /* accepted over proposed */
    double tokens_per_pass; /* of a sequence */
    int n_places;
    double acceptance_at
        [LF_DRAFT_MAX]; /* (n_places) the share of the i-th candidates of rounds that were accepted */
    double draft_share, verify_share, pick_share; /* of the time: proposing, target passes, picking */
    double draft_bytes;                           /* of cache that drafts hold beyond the sequences' own */
    double gbytes_per_s, core_to_core_ns; /* the medians of a probe of the machine after each repetition */
    bool identical;                       /* every token of every repetition */
} bench_magicdec_result;

typedef lf_status bench_magicdec_fn(void *cookie, const bench_magicdec_result *result, lf_error *err);

/* The name of a setting's proposer. */
const char *bench_proposer_name(int proposer);

/* Measures every batch and context that is not left out: plain decoding first, then the settings, then the peer. A context that would
 * leave no room for the tokens in what the model was made for begins that much earlier. Errors: those of loading models; LF_EINVAL
 * when the vocabularies differ, or the text is too short for a context; LF_EFORMAT (prompts); LF_ELIMIT (memory); LF_EIO (a peer); LF_ECANCELED. on_result gets
 * the hooks' cookie. */
lf_status bench_run_magicdec(const bench_magicdec_options *o, const bench_hooks *hooks,
                             bench_magicdec_fn *on_result, lf_error *err);

#endif
