/* `lookfar bench acceptance`: how often the drafts of the sparse proposer are right, by selection, budget and candidates of a round.
 *
 * Each sequence goes on from its own part of a text, or from a prompt, and is decoded plainly once. Then the target walks over that
 * continuation again, and at every place where some setting's round would begin, its draft goes on from there until it leaves the
 * continuation. By the two laws a round accepts exactly as many candidates as it had stayed, so the place where the next round
 * begins is known without a verify pass, and a walk gives the rounds of all settings, and of every number of candidates.
 *
 * `window` and `snap` come out as in decoding, count for count. `verify` chooses by the attention of verify passes; here it gets that
 * of the tokens that a round emits, not that of candidates that were rejected. */
#ifndef LF_BENCH_ACCEPTANCE_H
#define LF_BENCH_ACCEPTANCE_H

#include "bench.h"
#include "decode/seq.h"

typedef struct bench_acceptance_options {
    const char *model_path;
    const char *text_path;    /* a text; or NULL, and: */
    const char *prompts_path; /* JSON lines with "prompt": see bench_magicdec_options */
    const char *task;         /* what the text is, for the results */
    bench_ints contexts;
    bench_ints selections, budgets; /* lf_selection; positions, or 0: the proposer's own choice */
    bench_ints gs;                  /* candidates of a round at most, 1 to LF_DRAFT_MAX */
    int n_temperatures;
    float temperatures[BENCH_LIST_MAX];
    int n_sequences, n_tokens; /* tokens of each sequence */
    int n_threads;
    lf_dtype kv_dtype;
    unsigned cpu_mask;
} bench_acceptance_options;

/* The rounds of all sequences with a setting. A number that there is not is NAN. */
typedef struct bench_acceptance_result {
    const char *model, *task;
    int context, n_sequences, n_tokens;
    float temperature;
    lf_selection selection;
    int budget, g;
    long rounds, proposed, accepted;
    double acceptance;       /* accepted over proposed */
    double tokens_per_round; /* the one that is always right included */
    double
        attention; /* of the target in the row that a round begins with: the share that goes to what the draft sees */
    int n_places;
    double acceptance_at
        [LF_DRAFT_MAX]; /* (n_places) the share of the i-th candidates of rounds that were accepted */
} bench_acceptance_result;

typedef lf_status bench_acceptance_fn(void *cookie, const bench_acceptance_result *result, lf_error *err);

/* Measures every context, temperature, selection, budget and g. Settings whose budget no sequence exceeds have no candidates and are
 * left out. Errors as of bench_run_magicdec. on_result gets the hooks' cookie. */
lf_status bench_run_acceptance(const bench_acceptance_options *o, const bench_hooks *hooks,
                               bench_acceptance_fn *on_result, lf_error *err);

#endif
