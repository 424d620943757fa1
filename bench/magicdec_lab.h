/* What the parts of `lookfar bench magicdec` share: the model, the cell at hand with its sequences, and what a run gives. */
#ifndef LF_BENCH_MAGICDEC_LAB_H
#define LF_BENCH_MAGICDEC_LAB_H

#include "decode/round.h"
#include "magicdec.h"
#include "peer.h"
#include "probe.h"
#include "team.h"
#include "token/tokenizer.h"

enum {
    BENCH_LAST_ROWS =
        32 /* of a prompt, which each run reads itself: some proposers look at their attention */
};

/* A sequence of the cell. */
typedef struct bench_subject {
    lf_kv_seq *prompt; /* all but the last rows, forked by each run */
    lf_seq seq;
    int32_t *tokens; /* (n_prompt + n_tokens + LF_DRAFT_MAX + 1) */
    int32_t *plain;  /* (n_tokens) what plain decoding says */
    int n_output;
    int n_timed;    /* of the output, in timed passes, */
    double seconds; /* which took so long, from the first to its last */
} bench_subject;

/* What one repetition of a setting gave, over all sequences. */
typedef struct bench_run {
    double seconds, propose, forward, pick;
    long n_timed, passes, proposed, accepted;
    long proposed_at[LF_DRAFT_MAX], accepted_at[LF_DRAFT_MAX];
} bench_run;

typedef struct bench_lab {
    const bench_magicdec_options *o;
    const bench_hooks *hooks;
    bench_magicdec_fn *on_result;
    lf_source source;
    lf_kernels kernels;
    bench_team team;
    bench_probe *probe; /* NULL without */
    bench_peer *peer;   /* NULL without */
    lf_model model;
    lf_source draft_source; /* with draft_model zeroed without */
    lf_model draft_model;
    lf_tokenizer *tokenizer;
    lf_ids text;
    int *ends; /* (n_ends) where the prompts end in the text; NULL for a text */
    size_t n_ends;

    /* of a cell */
    int batch, context, n_prompt;
    lf_kv_shape shape;
    lf_kv_pool *pool;
    lf_forward *forward;
    lf_round *round;
    lf_picker *picker;
    lf_proposer *proposers[LF_PROPOSER_COUNT];
    lf_cost cost, draft_cost;
    lf_draft_env
        draft; /* with a pool for the cell's sequences and a forward of its own; zeroed without a smaller model */
    size_t draft_bytes;              /* of that pool */
    bench_subject *subjects;         /* (batch) */
    lf_seq **seqs;                   /* (batch) */
    lf_row *rows;                    /* (rows_max) */
    int rows_max;                    /* of a pass */
    struct bench_faithful *faithful; /* opened when a setting first asks for it */
} bench_lab;

/* Loads model and text, and closes all of that. A zeroed lab can be closed. */
lf_status bench_lab_open(bench_lab *l, lf_error *err);
void bench_lab_close(bench_lab *l);

/* Makes sequences that have read all but the last rows of their prompts, for l->batch and l->context; and gives everything of them back,
 * proposers included. */
lf_status bench_cell_open(bench_lab *l, lf_error *err);
void bench_cell_close(bench_lab *l);

/* Sets up a subject's sequence for a run: its prompt's cache forked, nothing of the output there. */
lf_status bench_subject_start(bench_lab *l, bench_subject *s, const bench_setting *setting, lf_error *err);

/* Counts a sequence's part of a pass. */
void bench_run_count(bench_run *run, int proposed, int accepted);

/* Pages that hold n positions, and one for the copy of a shared page; and positions that a sequence of the cell can come to hold. */
int bench_pages_of(int n_positions);
int bench_positions_of(const bench_lab *l);

/* Positions that a setting drafts over when the user named none. */
int bench_own_budget(int n_prompt);

#endif
