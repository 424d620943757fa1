/* Training runs on a small text, for the tests of lf_train: what it reads, a plan to change, and what came
 * of it. */
#ifndef LF_TESTS_TRAIN_RUN_FIXTURE_H
#define LF_TESTS_TRAIN_RUN_FIXTURE_H

#include "testing.h"

enum { TRAIN_RUN_STEPS = 24 };

/* A run of a small model on the text, in temp/`folder`. Runs whose folders have the same last name write
 * the same bytes. */
typedef struct train_run {
    lf_train_params params;
    lf_train_input data, valid;
    char out_dir[256], data_path[512], valid_path[512];
    int64_t stop_at; /* the step whose event stops it; -1: none */
    int n_samples, n_checkpoints;
    lf_train_event validation; /* the last */
    lf_train_result result;
} train_run;

/* Words that follow each other by a rule, so that there is something to learn, in documents of a few
 * lines: temp/`name`. */
void write_train_text(const char *name, int n_docs, uint64_t seed);

/* A test's setup: a folder for its files (leave_temp removes it), with the texts that runs read. */
int enter_train_temp(void **state);

void plan_train_run(train_run *r, const char *folder);
void expect_train_run(train_run *r);
void expect_train_failure(train_run *r, lf_status expected, const char *fragment);

/* The log in temp/`folder` without what depends on time; the caller frees it. */
char *read_train_log(const char *folder);
void expect_same_train_log(const char *a, const char *b);

bool temp_has(const char *name);

#endif
