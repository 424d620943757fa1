/* What `train` and `distill train` share: the options of a run, what it says while it runs, and
 * options.json, in which its folder keeps them so that --resume needs no others. */
#ifndef LF_APP_TRAIN_RUN_H
#define LF_APP_TRAIN_RUN_H

#include "app.h"

enum { APP_TRAIN_INPUTS_MAX = 64 };

typedef struct app_train_run {
    lf_train_params *params; /* of the run, borrowed */
    bool quiet;
    char *const *args; /* (n_args) as given, for options.json */
    int n_args;
    char *owned[2 * APP_TRAIN_INPUTS_MAX]; /* (n_owned) copies that params point to */
    int n_owned;
    /* while it runs */
    bool saved, on_terminal, has_checkpoint;
    int64_t line_ns; /* when the last line was printed */
} app_train_run;

/* Options of every run; give this as a child to argp. Its input is an app_train_run. */
extern const struct argp app_train_argp;

/* A whole number, with K for a thousand and M for a million. */
int64_t app_parse_count(struct argp_state *state, const char *option, const char *text, int64_t max);

/* Adds FILE[:WEIGHT] to list[0..*n), where WEIGHT, if `weighted`, is all that follows the last colon if that is a number. */
void app_train_add_input(struct argp_state *state, app_train_run *run, lf_train_input *list, int *n,
                         const char *arg, bool weighted);

/* The text with its backslash escapes replaced; it lives as long as the run's options. */
const char *app_train_unescape(struct argp_state *state, app_train_run *run, const char *text);

/* Frees what the two made. */
void app_train_free_options(app_train_run *run);

/* An lf_train_fn with an app_train_run as its cookie. */
bool app_train_on_event(void *cookie, const lf_train_event *e);

/* The options kept in out_dir and then those given, as (*n) arguments *all; their strings stay with *list.
 * Both are the caller's, on failure, too. Returns 0, or EXIT_FAIL with a message. */
int app_train_load_options(char ***all, int *n, json_t **list, const char *out_dir, int argc, char **argv);

/* What is said at the end of a run of `command`; the exit status. A run that was stopped with a checkpoint
 * is no failure. */
int app_train_end(const app_train_run *run, lf_status status, const lf_error *err, const char *command);

#endif
