/* What the kinds of `lookfar bench` share: where results go, and options that several have. */
#ifndef LF_APP_BENCH_H
#define LF_APP_BENCH_H

#include "app.h"

#include "../bench/bench.h"

/* Each kind is called as a subcommand, with argv[0] = "lookfar bench KIND". */
int app_bench_decode(int argc, char **argv);
int app_bench_verify(int argc, char **argv);
int app_bench_sparse(int argc, char **argv);
int app_bench_kernels(int argc, char **argv);
int app_bench_load(int argc, char **argv);
int app_bench_tokenize(int argc, char **argv);
int app_bench_train(int argc, char **argv);
int app_bench_magicdec(int argc, char **argv);
int app_bench_acceptance(int argc, char **argv);
int app_bench_serve(int argc, char **argv);

/* Where the results of a run go: rows of a table, and JSON lines. */
typedef struct app_bench_output {
    const char *json_path; /* of --json, or NULL */
    bool quiet;
    bool append;         /* to what the file of --json has */
    FILE *json, *table;  /* standard output, unless JSON has that */
    bool has_head, told; /* told: standard error has the reason of a failure already */
    app_progress progress;
    char progress_text[2 * BENCH_NAME_MAX];
} app_bench_output;

/* Catches interrupts and opens the output; false when it told that it could not. Closing tells what ended the run, and returns
 * the exit status. */
bool app_bench_open(app_bench_output *out);
int app_bench_close(app_bench_output *out, lf_status status, const lf_error *err);

/* A result: before it is printed, true for the first of all, which wants a head; then its object, to which it takes the
 * reference. LF_EIO when something could not be written. */
bool app_bench_begin_result(app_bench_output *out);
lf_status app_bench_write_json(app_bench_output *out, json_t *object);

/* Hooks whose cookie begins with an app_bench_output. */
bool app_bench_canceled(void *cookie);
void app_bench_progress(void *cookie, const char *what, double share);

/* A list of an option: a usage error unless it was parsed. */
void app_bench_check_list(struct argp_state *state, const char *option, lf_status status,
                          const lf_error *err);

/* Options with the same meaning everywhere. */
#define APP_BENCH_OPTION_THREADS                                                                             \
    {                                                                                                        \
        "threads", 't', "N", 0, "threads, bound to processors (default: one for each)", 0                    \
    }
#define APP_BENCH_OPTION_QUIET                                                                               \
    {                                                                                                        \
        "quiet", 'q', NULL, 0, "no progress", 0                                                              \
    }

/* What the kinds that decode a text have besides, with the keys that these options have there. */
enum {
    APP_BENCH_OPT_PROMPTS = 0x380,
    APP_BENCH_OPT_TASK,
    APP_BENCH_OPT_KV,
    APP_BENCH_OPT_CPU_MASK,
    APP_BENCH_OPT_JSON,
};
#define APP_BENCH_OPTIONS_OF_TEXT                                                                                       \
    {"model", 'm', "PATH", 0, "the model, with its tokenizer", 0},                                                      \
        {"file", 'f', "FILE", 0, "the text that the sequences begin with: a novel", 0},                                 \
        {"prompts",                                                                                                     \
         APP_BENCH_OPT_PROMPTS,                                                                                         \
         "FILE",                                                                                                        \
         0,                                                                                                             \
         "or JSON lines with \"prompt\": each sequence ends with one of them, after as many others as fit the context", \
         0},                                                                                                            \
        {"task", APP_BENCH_OPT_TASK, "NAME", 0, "what the text is, for the results (default: prose)", 0},               \
        {"predict", 'n', "N", 0, "tokens of each sequence (default: 64)", 0},                                           \
        {"cache-type",                                                                                                  \
         APP_BENCH_OPT_KV,                                                                                              \
         "TYPE",                                                                                                        \
         0,                                                                                                             \
         "type of the KV cache: f32, f16, bf16 (default) or q8_0",                                                      \
         0},                                                                                                            \
        {"cpu-mask",                                                                                                    \
         APP_BENCH_OPT_CPU_MASK,                                                                                        \
         "LEVEL",                                                                                                       \
         0,                                                                                                             \
         "use no instructions above scalar, avx2, avx512 or native (default)",                                          \
         0},                                                                                                            \
        {"json",                                                                                                        \
         APP_BENCH_OPT_JSON,                                                                                            \
         "FILE",                                                                                                        \
         0,                                                                                                             \
         "write a JSON object for each setting to FILE (-: standard output)",                                           \
         0},                                                                                                            \
        APP_BENCH_OPTION_THREADS, APP_BENCH_OPTION_QUIET

/* The folder for models when the user named none; to be freed. NULL and a message without memory. */
char *app_bench_default_dir(void);

#endif
