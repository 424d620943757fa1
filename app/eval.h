/* The parts of `lookfar eval`: the held-out records of the four domains, made from the raw data, and what is scored in an output. */
#ifndef LF_APP_EVAL_H
#define LF_APP_EVAL_H

#include "lookfar.h"

#include "base/mem.h"

/* A piece of a text. */
typedef struct eval_token {
    const char *begin;
    size_t len;
} eval_token;

/* ---- records (eval_data.c, eval_text.c) ---- */

typedef enum eval_domain { EVAL_SPIDER, EVAL_PYTHON, EVAL_GSM8K, EVAL_STORIES, EVAL_DOMAINS } eval_domain;
const char *eval_domain_name(eval_domain domain);

/* A prompt with the answer that the data have. */
typedef struct eval_record {
    char *prompt, *response;
    char *db_id, *query; /* spider only: the database, and the query as it is in the data */
} eval_record;

typedef struct eval_set {
    eval_record *records; /* (n) */
    size_t n, room;
} eval_set;

/* The prompts and splits of recipes/scribe_data.py, byte for byte. split: "valid", the questions that training does not see; for
 * spider also "dev", the questions on databases that it does not see; for gsm8k also "test". */
lf_status eval_load(eval_set *out, eval_domain domain, const char *split, const char *data_dir,
                    lf_error *err);
void eval_free_record(eval_record *record);
void eval_free_set(eval_set *set);

/* Keeps n records, evenly spread over the set. */
void eval_thin_out(eval_set *set, size_t n);

/* Single spaces outside quotes, keywords in upper case, no semicolon at the end. false: no memory. */
bool eval_normalise_sql(lf_bytes *out, const char *query);

/* No spaces at the ends of lines, four spaces for a tab, no empty lines around it. */
bool eval_clean_code(lf_bytes *out, const char *text);

/* White space as Python has it. The first code point of text (n > 0), and its bytes; a byte that begins none is one of its own. */
bool eval_is_space(uint32_t c);
uint32_t eval_next_char(const char *text, size_t n, size_t *bytes);
eval_token eval_strip(const char *text, size_t n); /* without white space around it */

/* ---- scores (eval_score.c) ---- */

typedef struct eval_tokens {
    eval_token *list; /* (n) owned; they point into the text */
    size_t n, room;
} eval_tokens;

/* Names, numbers and single other characters, but no space; false: no memory. */
bool eval_split_code(eval_tokens *out, const char *text);
/* Words: runs of letters and digits. */
bool eval_split_words(eval_tokens *out, const char *text);
void eval_free_tokens(eval_tokens *t);

/* 1 for equal queries after normalisation, ignoring case and the kind of quotes; 0 otherwise; -1: no memory. */
double eval_same_sql(const char *a, const char *b);

/* 1 when the numbers behind the last #### are equal; 0 otherwise. */
double eval_same_number(const char *output, const char *reference);

/* 1 - Levenshtein's distance / the longer length, over code tokens; -1: no memory. */
double eval_edit_similarity(const char *a, const char *b);

/* F1 of the longest common subsequence of words, ignoring case (ROUGE-L); -1: no memory. */
double eval_rouge_l(const char *output, const char *reference);

/* BLEU over all outputs (Papineni et al., 2002): n-grams of code tokens up to 4, brevity penalty, no smoothing. */
typedef struct eval_bleu {
    double matched[4], found[4]; /* n-grams of outputs: those of the reference, clipped, and all */
    double output_len, reference_len;
} eval_bleu;
bool eval_add_bleu(eval_bleu *b, const char *output, const char *reference); /* false: no memory */
double eval_bleu_score(const eval_bleu *b);

/* Which of n Python texts parse (parses, (n)), asked of python3; false when there is none. Nothing is run. */
bool eval_python_parses(bool *parses, const char *const *texts, size_t n);

/* ---- SQL (eval_sql.c) ---- */

/* What came of running a query on a database file, read-only, within limits of steps, rows and memory. */
typedef enum eval_sql {
    EVAL_SQL_SAME,      /* both ran, to the same rows */
    EVAL_SQL_DIFFERENT, /* both ran */
    EVAL_SQL_FAILED,    /* the output did not, or wanted more than the limits */
    EVAL_SQL_UNKNOWN,   /* the reference did not, or there is no such database */
} eval_sql;

/* Rows are compared in order where the reference has an order, else as a bag; numbers by value. */
eval_sql eval_same_rows(const char *database_path, const char *output, const char *reference);

/* ---- runs (eval_run.c) ---- */

enum { EVAL_SIZES_MAX = 8 };

typedef struct eval_params {
    eval_domain domain;
    const char *split, *data_dir;
    int sizes[EVAL_SIZES_MAX]; /* (n_sizes) rows of a Jacobi pass */
    int n_sizes;
    int max_tokens; /* of an output */
    float temperature;
    uint64_t seed;
    bool (*on_progress)(void *cookie, size_t done, size_t total); /* false stops */
    void *cookie;
} eval_params;

enum { EVAL_SCORES_MAX = 4 };

/* Scores of one way of decoding: the first is the domain's own; shares of 1. */
typedef struct eval_scores {
    const char *names[EVAL_SCORES_MAX];
    double values[EVAL_SCORES_MAX];
    int n;
} eval_scores;

/* One way of decoding, over all records. */
enum { EVAL_PLAIN = 0, EVAL_AUTO = -1, EVAL_ARMS_MAX = EVAL_SIZES_MAX + 2 };
typedef struct eval_arm {
    int size; /* rows of a Jacobi pass; EVAL_PLAIN; EVAL_AUTO: whatever the proposer `auto` does */
    int64_t output_tokens, passes, stationary;
    double fast_forwarded; /* the mean over requests; 0 of EVAL_AUTO, where it means nothing */
    double prefill_seconds, decode_seconds;
    bool identical; /* to plain decoding, token by token */
    eval_scores scores;
} eval_arm;

typedef struct eval_result {
    size_t n; /* records */
    int n_arms;
    eval_arm arms[EVAL_ARMS_MAX]; /* (n_arms) plain, by size, auto */
    double loss;                  /* of the answers of the data, nats per token */
    /* with a teacher: */
    bool has_teacher;
    eval_arm teacher_arms[EVAL_ARMS_MAX]; /* (n_arms) the same ways */
    double loss_teacher;
    double agreement;        /* share of positions at which both plain outputs have the same token */
    double first_difference; /* mean length of the common beginning, in tokens */
    double same_outputs;     /* share of outputs that are equal */
} eval_result;

/* Drops the records whose prompt does not fit the engine's context, and adds their number. */
lf_status eval_drop_long(eval_set *set, size_t *n_dropped, const lf_engine *engine, lf_error *err);

/* teacher may be NULL; the prompts fit the contexts of both. LF_ECANCELED when on_progress said so. */
lf_status eval_run(eval_result *out, lf_engine *model, lf_engine *teacher, const eval_set *set,
                   const eval_params *params, lf_error *err);

#endif
