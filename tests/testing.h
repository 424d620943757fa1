/* What every test includes: cmocka with the headers it needs, and the few helpers that tests share. */
#ifndef LF_TESTS_TESTING_H
#define LF_TESTS_TESTING_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "lookfar.h"

/* Whether long tests run a part of their cases only: under sanitizers, which slow them ten times and look for other things. */
#ifdef LF_TESTS_SHORT
enum { TESTS_SHORT = 1 };
#else
enum { TESTS_SHORT = 0 };
#endif

/* Passes when expr is LF_OK; otherwise fails with the text of err. */
#define assert_ok(expr, err)                                                                                 \
    do {                                                                                                     \
        if ((expr) != LF_OK) fail_msg("%s: %s", #expr, (err)->text);                                         \
    } while (0)

/* The path of a file of the shared data folder ($LOOKFAR_DATA, else ../shared/data), in a static buffer of
 * which the last four results stay valid. */
const char *data_path(const char *relative);

/* The same, but skips the running test with a message when the file is absent. */
const char *require_data(const char *relative);

/* A file of tests/golden, found from $LOOKFAR_TESTS or from the working directory. */
const char *golden_path(const char *relative);

/* A new empty folder under $TMPDIR (or /tmp) for a test's files; the caller frees the string. remove_tree
 * deletes it with everything in it. */
char *make_temp_dir(void);
void remove_tree(const char *path);

/* A folder for the files of one test, to be made and removed by these as its setup and teardown; and a path in it, of which the last
 * sixteen stay valid. */
int enter_temp(void **state);
int leave_temp(void **state);
const char *in_temp(const char *name);
int count_temp_files(void);

/* The program that was built beside the running test ($LOOKFAR_BIN names another), in out (size); "" when there is none. */
void find_program(char *out, size_t size);

/* The same, but skips the running test with a message when there is none. */
const char *require_program(void);

/* The whole file in a malloc'ed block with a NUL after it; fails the test when it cannot be read. */
char *read_file(const char *path, size_t *size);

void expect_same_file(const char *a, const char *b);
void write_file(const char *path, const void *data, size_t size);

/* splitmix64: the tests' source of reproducible noise. */
uint64_t rng_next(uint64_t *state);
float rng_uniform(uint64_t *state); /* in [-1, 1) */

#endif
