/* The command as a child process, for the tests of what its users meet: its exit status, what it writes
 * where, and what it says when something is wrong (one line: what, where, found, expected).
 *
 * Most tests run on a folder made here: the weights of a recorded tiny model and a tokenizer of one token
 * for each of 128 bytes, so that they need no data. */
#ifndef LF_TESTS_CLI_H
#define LF_TESTS_CLI_H

#include "testing.h"

#include "tiny_model.h"

#include <jansson.h>
#include <sys/types.h>

enum { ARGS_MAX = 40 };

extern char *cli_dir;         /* everything below lies in it */
extern char tiny_dir[512];    /* a Hugging Face folder, complete with a tokenizer */
extern char random_path[512]; /* a GGUF file with random weights and no tokenizer */
extern char out_path[512];    /* standard output and standard error of the last child */
extern char err_path[512];

/* Setup and teardown of a group of tests. */
int make_models(void **state);
int remove_models(void **state);

/* path = a file in cli_dir */
char *temp_path(char path[512], const char *name);

typedef struct result {
    int code;   /* exit status, or -1 when a signal ended the program */
    int signal; /* that signal, or 0 */
    char *out, *err;
    size_t out_len;
} result;

typedef struct streams {
    const char *in;  /* text for standard input, or NULL: nothing */
    const char *out; /* where standard output goes instead of into the result, or NULL */
} streams;

result run_with(const streams *s, const char *const *args);
#define run_cli(...)        run_with(&(const streams){NULL, NULL}, (const char *const[]){__VA_ARGS__, NULL})
#define run_cli_in(in, ...) run_with(&(const streams){in, NULL}, (const char *const[]){__VA_ARGS__, NULL})
void free_result(result *r);

/* In a child: connects the streams and becomes the program. out is a descriptor, or -1 for the path. */
void become_program(const char *const *args, const char *in_path, int out, const char *path);

/* Waits for a child; all of its result but `out`. */
void collect_result(result *r, pid_t pid);

/* The program succeeded; its standard error holds no error line. */
void expect_success(const result *r);

/* One error line on standard error, "lookfar: ...", with every fragment in it; takes the result. */
void expect_error(result *r, const char *const *args, int code, const char *const *fragments);

/* Arguments, and what the error line says. */
typedef struct bad_case {
    const char *args[ARGS_MAX];
    const char *fragments[5];
} bad_case;

void expect_errors(const bad_case *cases, size_t n, int code);
#define EXPECT_ERRORS(cases, code) expect_errors(cases, sizeof(cases) / sizeof *(cases), code)

/* The output of a run on the tiny model, which must succeed; the caller frees it. */
#define tiny_text(in, ...)                                                                                   \
    success_text(run_cli_in(in, "run", "-m", tiny_dir, "-t", "1", "-q", "--ignore-eos", __VA_ARGS__))
char *success_text(result r);

/* Frees both. */
void assert_same_text(char *a, char *b);

/* Values that must be there. */
json_t *parse_json(const char *text);
const char *string_of(const json_t *object, const char *key);
json_int_t integer_of(const json_t *object, const char *key);
double number_of(const json_t *object, const char *key);

#endif
