/* Failing allocations on purpose, and counting blocks that are still allocated.
 *
 * The test executable replaces malloc and its relatives, so everything in the process is covered: lookfar,
 * Jansson, PCRE2, and libc itself. oneDNN, OpenMP and the C++ library, which do not bear a failure, are
 * spared: their allocations are neither failed nor counted by oom_count. Under AddressSanitizer only what
 * our own objects allocate is counted and failed, and it is the sanitizer that sees leaks; under
 * ThreadSanitizer oom_require skips the test.
 *
 *     oom_require();
 *     for (long n = 1;; n++) {
 *         const long live = oom_live();
 *         oom_fail_at(n);
 *         status = thing(&out, &err);
 *         const bool all_succeeded = oom_count() < n;
 *         oom_off();
 *         if (all_succeeded) break;
 *         assert_int_equal(status, LF_ENOMEM);
 *         assert_int_equal(oom_live(), live);
 *     }
 *     ... here thing() has succeeded with no failed allocation: check it, and close what it opened */
#ifndef LF_TESTS_OOM_H
#define LF_TESTS_OOM_H

#include "lookfar.h"

/* Skips the running test where allocations cannot be failed. */
void oom_require(void);

/* Whether allocations inside libraries are counted and failed, too. */
bool oom_sees_libraries(void);

/* Restarts the count of allocations (of every thread) at 0 and lets the n-th one from now fail, once. */
void oom_fail_at(long n);

/* The allocations since oom_fail_at: n or more when the n-th was reached, and so failed. */
long oom_count(void);

/* From now on no allocation fails; the count is kept. Call it before anything that asserts. */
void oom_off(void);

/* The blocks allocated and not yet freed, of the whole process; under AddressSanitizer always 0. */
long oom_live(void);

/* Calls run with its n-th allocation failing: it may leak nothing, and must succeed all the same or say
 * that there was no memory. Returns false when it asked for fewer than n. */
bool oom_attempt(lf_status *status, long n, lf_status (*run)(void *cookie, lf_error *err), void *cookie);

#endif
