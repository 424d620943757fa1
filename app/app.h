/* What the subcommands share: their entry points, options that several take, and how they speak to people. */
#ifndef LF_APP_APP_H
#define LF_APP_APP_H

#include "base/mem.h"
#include "lookfar.h"

#include <argp.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>

enum {
    EXIT_FAIL = 1,
    EXIT_USAGE = 2,
    EXIT_EARLY = 3, /* training that ended before its last step */
};

/* A subcommand gets its arguments with argv[0] = "lookfar NAME" and returns the exit status. */
typedef int app_command_fn(int argc, char **argv);

int app_run(int argc, char **argv);
int app_serve(int argc, char **argv);
int app_inspect(int argc, char **argv);
int app_convert(int argc, char **argv);
int app_quantize(int argc, char **argv);
int app_bench(int argc, char **argv);
int app_model_cost(int argc, char **argv);
int app_train(int argc, char **argv);
int app_plot(int argc, char **argv);
int app_distill(int argc, char **argv);
int app_eval(int argc, char **argv);
int app_distill_collect(int argc, char **argv);
int app_distill_train(int argc, char **argv);
int app_distill_run(int argc, char **argv);
int app_distill_show(int argc, char **argv);

/* Prints "lookfar: TEXT" to standard error and returns EXIT_FAIL. */
int app_fail(const lf_error *err);

/* Parses the arguments of a subcommand into *input by argp, to which it adds --help. A mistake is one line on standard
 * error, "lookfar: NAME: ...", and EXIT_USAGE: parsers report theirs by app_usage_error, not by argp_error. */
void app_parse_args(const struct argp *argp, int argc, char **argv, void *input);
_Noreturn void app_usage_error(const struct argp_state *state, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* A command of several kinds: runs the one that argv[1] names, or lists them. */
typedef struct app_kind {
    const char *name;
    app_command_fn *run;
    const char *summary;
} app_kind;
int app_run_kind(int argc, char **argv, const app_kind *kinds, int n_kinds, const char *what);

/* Option values. A bad one is a usage error that names option, found and expected. */
long long app_parse_int(struct argp_state *state, const char *option, const char *text, long long min,
                        long long max);
double app_parse_float(struct argp_state *state, const char *option, const char *text, double min,
                       double max);
lf_dtype app_parse_dtype(struct argp_state *state, const char *option, const char *text);
unsigned app_parse_cpu_mask(struct argp_state *state, const char *option, const char *text);

/* Replaces backslash escapes in text (len) in place; one that is not known stays as it is. The result is the new length. */
size_t app_unescape(char *text, size_t len);

/* Standard error's progress line, "label 42 %", drawn over itself on a terminal and nowhere else. */
typedef struct app_progress {
    const char *label;
    bool
        enabled; /* set by app_progress_start: standard error is a terminal and the user did not ask for quiet */
    int percent; /* last drawn, -1 before the first */
} app_progress;
void app_progress_start(app_progress *p, const char *label, bool quiet);
void app_progress_draw(app_progress *p, double share);
void app_progress_clear(app_progress *p);

/* Options of every command that opens an engine; give this as a child to argp. Its input is an app_engine_options. */
typedef struct app_engine_options {
    lf_engine_params params;
    bool quiet;
    bool needs_no_model; /* the command knows one itself */
} app_engine_options;
extern const struct argp app_engine_argp;

/* Opens the engine with progress on standard error. */
lf_status app_open_engine(lf_engine **out, app_engine_options *options, lf_error *err);

/* The path of a model that ships with the project, in out (size): under models/ in the working folder, else where it was installed.
 * False: it is in neither place. */
bool app_find_shipped(char *out, size_t size, const char *name);

/* Set by SIGINT and SIGTERM once app_catch_interrupt was called; long work looks at it and stops cleanly. */
extern volatile sig_atomic_t app_interrupted;
void app_catch_interrupt(void);

/* Where --json goes: a file, or standard output for "-"; NULL and a message on failure. One object a line. Writing takes
 * the reference and returns 0 or, with a message, EXIT_FAIL; closing (NULL is fine) returns `code`, or EXIT_FAIL with a
 * message when `code` is 0 and not everything could be written. */
FILE *app_open_json(const char *path);
FILE *app_append_json(const char *path); /* likewise, to what the file has */
int app_write_json(FILE *f, const char *path, json_t *object);
int app_close_json(FILE *f, const char *path, int code);

/* What the output may say, as the options have it; and its compilation into params->grammar, the caller's to free. */
enum { APP_CHOICE_MAX = 256 };
typedef struct app_grammar_options {
    bool is_set;
    lf_grammar_kind kind;
    const char *text; /* a schema or its file, or a regular expression */
    const char *choices[APP_CHOICE_MAX];
    int n_choices;
} app_grammar_options;
lf_status app_compile_grammar(lf_grammar **out, lf_engine *engine, const app_grammar_options *options,
                              lf_error *err);

/* Options of a request; give this as a child to argp. Its input is an app_request_options. */
enum { APP_BIAS_MAX = 256 };
typedef struct app_request_options {
    lf_request_params params; /* lf_request_params_init before parsing */
    lf_bias bias[APP_BIAS_MAX];
    const char *stop[LF_STOP_LIMIT];
    app_grammar_options grammar;
} app_request_options;
extern const struct argp app_request_argp;

/* The log probabilities of a request's tokens, collected by its on_token. Zero-initialise. */
typedef struct app_token_log {
    size_t n, cap;
    int n_top;
    float *logprob;  /* (n) */
    lf_logprob *top; /* (n, n_top) */
} app_token_log;
bool app_log_token(app_token_log *log, const lf_token *token); /* false: no memory */
void app_free_token_log(app_token_log *log);

/* The JSON object of a finished request, with the keys of `run` (docs/lookfar.1). */
json_t *app_result_json(const lf_request *request, const lf_request_params *params, const app_token_log *log);
json_t *app_text_json(const char *text, size_t len);

/* Appends what the model's chat template makes of one user message, or of a JSON file: a list of messages, or a whole request
 * (lf_chat_render). */
lf_status app_chat_message(lf_bytes *out, const lf_engine *engine, const lf_bytes *message, lf_error *err);
lf_status app_chat_file(lf_bytes *out, const lf_engine *engine, const char *path, lf_error *err);

/* lookfar run --prompts: requests from JSON lines, decoded together. Returns the exit status. */
typedef struct app_batch {
    lf_engine *engine;
    const lf_request_params *defaults;
    const char *input_path;  /* JSON lines, "-": standard input */
    const char *output_path; /* where the results go, "-": standard output */
    bool no_bos, quiet;
    FILE *trace; /* or NULL */
} app_batch;
int app_run_batch(const app_batch *batch);

/* lookfar run --compare: the prompt continued by several requests, plainly and then with the proposer of params. Returns the exit
 * status, EXIT_FAIL when the outputs differ. */
typedef struct app_compare {
    lf_engine *engine;
    const lf_request_params *params; /* of request i with the i-th seed after theirs */
    const char *prompt;
    size_t prompt_len;
    int n_write;    /* tokens that the model adds to the prompt first; fewer when the context is full */
    int n_requests; /* at most 512 */
    bool no_bos, quiet;
    FILE *text;  /* where the model's text goes */
    FILE *trace; /* or NULL */
    FILE *json;  /* or NULL: an object for each request, those of plain decoding first */
    const char *json_path;
} app_compare;
int app_run_compare(const app_compare *compare);

/* lookfar run --compare --prompts: each prompt answered by the target plainly, by the model plainly, and with the proposer of params.
 * Returns the exit status, EXIT_FAIL when the last two differ. */
typedef struct app_compare_models {
    lf_engine *engine, *target; /* target: NULL for none */
    const char *model_path, *target_path;
    const lf_request_params *params;
    const char *prompts_path; /* JSON lines: "prompt", and "question", which is shown instead */
    bool no_bos;
    FILE *text; /* where prompts and answers go */
    FILE *json; /* or NULL: an object for each prompt */
    const char *json_path;
} app_compare_models;
int app_run_compare_models(const app_compare_models *compare);

/* The counts of a trajectory file (lf_distill_inspect) as a table. */
void app_print_trajectories(FILE *f, const json_t *counts);

/* Appends a whole file, "-": standard input. */
lf_status app_read_text(lf_bytes *out, const char *path, lf_error *err);

/* Appends a chat template: a file's text, or the name chatml. */
lf_status app_read_template(lf_bytes *out, const char *arg, lf_error *err);

/* Pictures by gnuplot. The terminal for a file name that ends in .png or .svg, or NULL; gnuplot's input, or NULL with a message; and
 * its end, which returns the exit status, with a message when it did not draw. */
const char *app_gnuplot_terminal(const char *name);
FILE *app_gnuplot_open(const char *output);
int app_gnuplot_close(FILE *f, const char *output);

/* A line of --trace: what a pass did, in all and for each request. */
void app_write_trace(FILE *trace, int i_step, const lf_step_info *info);

/* Gives the engine what passes cost on this machine, for the proposer `auto`: from the user's cache folder, or measured now and
 * kept there. A folder that cannot be read or written costs the measurement, no more. */
lf_status app_prepare_profile(lf_engine *engine, bool quiet, lf_error *err);

#endif
