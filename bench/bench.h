/* `lookfar bench`: what is measured, and what comes out.
 *
 * A cell is one model, dtype, depth, batch and test (or number of rows). Each is measured by repetitions, after one that
 * is not counted; when there is a peer, another engine behind a line protocol (peer.h), its repetitions take turns with
 * ours, so that both meet the same machine. The machine's own limits are probed after every repetition (probe.h).
 *
 * The cache is filled up to a cell's depth with random K and V, not by a prefill: speed does not depend on the values.
 * Nothing is sampled. Threads are bound to processors, because an unbound pair now and then shares one.
 *
 * Nothing here prints: results, progress and the wish to stop go through bench_hooks. */
#ifndef LF_BENCH_BENCH_H
#define LF_BENCH_BENCH_H

#include "base/status.h"

enum {
    BENCH_LIST_MAX = 32, /* items of one list */
    BENCH_NAME_MAX = 512,
    BENCH_N_MAX = 1 << 16, /* tokens of a test */
    BENCH_DEPTH_MAX = 1 << 24,
    BENCH_BATCH_MAX = 1 << 10,
    BENCH_ROWS_MAX = 1 << 10,
    BENCH_REPS_MAX = 1000,
};

/* ---- lists that select cells: "a,b,c" ---- */

typedef enum bench_kind {
    BENCH_PP, /* n prompt tokens of each sequence, in passes of pass_rows rows; logits of the last token */
    BENCH_TG, /* n passes of one row of each sequence, with logits */
    BENCH_TP, /* the same with a greedy pick after each, in a loop that knows of nothing else */
    BENCH_TR, /* the same by rounds (decode/round.h) without a proposer: over TP, what the machinery costs */
    BENCH_ROWS, /* one pass of n rows of each sequence, with logits: what verifying n - 1 candidates costs */
    BENCH_VIEW, /* one pass of one row of each sequence, with logits, over a sparse view of n positions */
} bench_kind;

typedef struct bench_test {
    bench_kind kind;
    int n;
} bench_test;

typedef struct bench_ints {
    int n;
    int v[BENCH_LIST_MAX];
} bench_ints;

typedef struct bench_tests {
    int n;
    bench_test v[BENCH_LIST_MAX];
} bench_tests;

typedef struct bench_names {
    int n;
    char v[BENCH_LIST_MAX][BENCH_NAME_MAX];
} bench_names;

/* LF_EINVAL with what was found and what is expected. dtypes are lf_dtype values; tests are ppN, tgN, tpN and trN. */
lf_status bench_parse_ints(bench_ints *out, const char *text, int min, int max, lf_error *err);
lf_status bench_parse_dtypes(bench_ints *out, const char *text, lf_error *err);
lf_status bench_parse_tests(bench_tests *out, const char *text, lf_error *err);
lf_status bench_parse_names(bench_names *out, const char *text, lf_error *err);

/* Places in `choices`, which a NULL ends. */
lf_status bench_parse_choices(bench_ints *out, const char *text, const char *const *choices, lf_error *err);

/* "pp512"; out has room for BENCH_TEST_NAME_MAX bytes. */
enum { BENCH_TEST_NAME_MAX = 16 };
void bench_test_name(char *out, const bench_test *test);

/* ---- measuring ---- */

typedef struct bench_options {
    bench_names models; /* names of shapes (shapes.h), or paths of models */
    bench_ints dtypes;  /* of the shapes; a path is used with the types it has */
    bench_ints depths;
    bench_ints batches; /* decode and sparse */
    bench_tests tests;  /* decode only */
    bench_ints rows;    /* verify only */
    bench_ints budgets; /* sparse only: positions of a view */
    int pass_rows;      /* of one pass of a prompt */
    int n_threads;      /* 0: one for each processor */
    int reps;
    lf_dtype kv_dtype;
    unsigned cpu_mask;
    const char *dir;          /* where models of the shapes are written, once */
    const char *peer_command; /* NULL: no peer */
    size_t probe_bytes;       /* what the bandwidth probe reads */
} bench_options;

enum { BENCH_PROBE_BYTES = 1 << 30 };

/* Median and extremes of some numbers. */
typedef struct bench_spread {
    double median, min, max;
} bench_spread;

/* Sorts values (n >= 1) in place. */
bench_spread bench_spread_of(double *values, int n);

/* One cell of one engine. A number that there is not is NAN. */
typedef struct bench_result {
    const char *model, *dtype, *kv_type;
    const char *engine;  /* "lookfar", or what the peer calls itself */
    const char *kernels; /* of lookfar; NULL for a peer */
    bench_test test;
    int depth, batch, threads, reps;
    int n_tokens;         /* of a repetition, over all sequences */
    bench_spread seconds; /* of a repetition */
    double bytes;         /* that a repetition must read: see bench_rig_bytes */
    double floor_seconds; /* bytes over the bandwidth; NAN for prompts, bound by arithmetic */
    /* verify: over a pass of one row, sparse: over the full view; of the same run */
    bench_spread base_seconds; /* of that */
    double ratio;              /* of the medians of seconds */
    double floor_ratio;        /* of the bytes */
    double gbytes_per_s;       /* the median of the probes after the repetitions */
    double core_to_core_ns;    /* likewise, one way; NAN with one thread */
} bench_result;

typedef struct bench_hooks {
    bool (*canceled)(void *cookie); /* asked before every pass; true ends the run with LF_ECANCELED */
    void (*on_progress)(void *cookie, const char *what, double share);
    /* results (n): ours, then the peer's if there is one, of one cell. */
    lf_status (*on_cell)(void *cookie, const bench_result *results, int n, lf_error *err);
    void *cookie;
} bench_hooks;

/* Measures every cell: model, dtype, depth, batch, test. Errors: LF_EINVAL (an unknown model), LF_EIO (a folder that
 * cannot be written, a peer that dies), LF_EFORMAT (a peer's nonsense), LF_ELIMIT (memory), LF_ECANCELED and what loading
 * a model can give. */
lf_status bench_run_decode(const bench_options *o, const bench_hooks *hooks, lf_error *err);

/* Measures passes of rows of one sequence: model, dtype, depth, rows. */
lf_status bench_run_verify(const bench_options *o, const bench_hooks *hooks, lf_error *err);

/* Measures steps over sparse views against steps over the full one: model, dtype, depth, batch, budget. Without a peer. */
lf_status bench_run_sparse(const bench_options *o, const bench_hooks *hooks, lf_error *err);

#endif
