/* What a pass costs on this machine, and how many candidates are worth verifying: the arithmetic of speculation.
 *
 * A pass over rows is the weights' part, which depends on the number of rows, and attention, which for each sequence depends on its
 * rows and its positions:
 *
 *   seconds = pass(rows) + sum over sequences of attend(its rows) * positions it sees
 *
 * Both functions are measured at start-up, in a second or two, and corrected by what passes really take. The points of pass(rows)
 * move: on what the first few rows cost it depends whether a small model should guess at all. Attention has factors, in two parts,
 * since what a step takes anyway and what candidates add to it are slowed down by different things: attention of one row waits for
 * memory, that of several computes. */
#ifndef LF_DECODE_COST_H
#define LF_DECODE_COST_H

#include "base/mem.h"
#include "decode/seq.h"
#include "model/forward.h"

enum { LF_COST_POINTS = 9 }; /* 1, 2, 4, ... 256 rows */

typedef struct lf_cost {
    int n_pass, n_attend;          /* points measured, at least 1 */
    double pass[LF_COST_POINTS];   /* seconds of 2^i rows that see nothing but each other */
    double attend[LF_COST_POINTS]; /* seconds for each position that 2^i rows of one sequence see */
    double shift[LF_COST_POINTS];  /* seconds more that they were seen to take */
    /* How much longer it really takes; supposed at first. */
    double target,
        candidates; /* attention of target passes: with one row of each sequence; what candidates add */
    double draft, draft_attend; /* draft passes: the weights' part; attention */
} lf_cost;

/* Measures both on the forward, for passes of up to rows_max rows that all want logits, with a sequence of up to n_ctx positions: in
 * the pool, or, where that has too few free pages, in a cache of the same shape for as long as it takes. That is seconds_max at
 * most, about: what then is missing is extrapolated. LF_ENOMEM; *out is then not known. */
lf_status lf_cost_measure(lf_cost *out, lf_forward *forward, lf_kv_pool *pool, int rows_max, int n_ctx,
                          double seconds_max, lf_error *err);

/* Whether it was measured, or read; a zeroed cost is not. */
bool lf_cost_is_known(const lf_cost *c);

/* Takes all corrections back. */
void lf_cost_reset(lf_cost *c);

/* The measured points as lines of text, and the way back, uncorrected. Writing: false without memory. Reading: returns what follows
 * in the text; NULL, and *out as it was, when it does not begin with what was written so. */
bool lf_cost_write(const lf_cost *c, lf_bytes *out);
const char *lf_cost_read(lf_cost *out, const char *text);

/* Between the points the functions are lines; past the last they go on. rows >= 0. */
double lf_cost_pass(const lf_cost *c, int rows);
double lf_cost_attend(const lf_cost *c, int rows);

/* A source of candidates for a sequence. */
typedef struct lf_cost_way {
    double
        acceptance; /* chance that a candidate is right, given those before it are: more than 0, less than 1 */
    const double *
        gains; /* NULL; or, instead, the right ones more with each candidate more: (g_max), where a longer draft is another one */
    int draft_len; /* positions that a draft pass sees; 0: candidates take no passes */
    int g_max;     /* candidates at most, up to LF_DRAFT_MAX */
    int kind;      /* the caller's */
    double worth;  /* out: tokens that it brings beyond its seconds; 0 where no plan pays */
} lf_cost_way;

enum { LF_COST_WAYS = 8 };

/* A sequence, what it could have verified, and what it should. */
typedef struct lf_cost_seq {
    int len; /* positions */
    int n_ways;
    lf_cost_way ways[LF_COST_WAYS];
    int way, g; /* out: the way to take, -1 for none, and how many of its candidates */
    /* of lf_cost_plan: */
    int best_way, best_g; /* the best plan so far */
    int spare_way;        /* the best one without passes, or -1, */
    int spare_g;
    double spare_worth; /* and what it is worth in tokens */
    double worth;       /* of the first candidates up to some place, */
    double most;        /* and the most of that */
} lf_cost_seq;

/* Chooses the way and the g of each sequence (n) so that tokens per second are the most, where candidates are drafted by passes
 * for all sequences together, one for each place. `by` is the cost of what drafts: c for the target itself. other_rows ride in the
 * verify pass in any case. Returns the tokens per second expected. */
double lf_cost_plan(const lf_cost *c, const lf_cost *by, lf_cost_seq *seqs, int n, int other_rows);

/* The seconds of a pass with one row of each sequence (n), and other_rows. */
double lf_cost_of_step(const lf_cost *c, const lf_cost_seq *seqs, int n, int other_rows);

/* The seconds of drafting the g of those sequences (n) whose way takes passes: by single ones, one for each place; or by Jacobi
 * iterations that settle so many candidates in a pass (decode/drafting.h). */
double lf_cost_of_draft(const lf_cost *by, const lf_cost_seq *seqs, int n);
double lf_cost_of_jacobi_draft(const lf_cost *by, const lf_cost_seq *seqs, int n, double tokens_per_pass);

/* What verifying n candidates of a sequence costs in seconds, in a pass that has `rows` rows without them. */
double lf_cost_of_candidates(const lf_cost *c, int rows, int n, int len);

/* Takes in what a target pass over so many rows took, of whose attention without the factors `attend` seconds were predicted with one row
 * of each sequence, and `more` for candidates: what made up more of the prediction takes more of the blame. What this pass does not
 * show of candidates drifts back to what was measured. */
void lf_cost_correct_target(lf_cost *c, int rows, double attend, double more, double seconds);

/* Takes in what a pass took, of whose two parts so many seconds were predicted without correction: the part that made up more of
 * the prediction takes more of the blame. */
void lf_cost_correct(double *factor, double expected, double *other_factor, double other_expected,
                     double seconds);

#endif
