/* Errors: how every fallible function of lookfar reports.
 *
 * A fallible function returns lf_status and takes a nullable `lf_error *err` as its last argument. The status
 * is for code, the text for people: it says what failed, where, what was found and what was expected.
 * `assert` is for our own bugs; a status is for the world's (files, memory, requests). */
#ifndef LF_BASE_STATUS_H
#define LF_BASE_STATUS_H

#include "lookfar.h"

/* Records `status` and the formatted text in err (when err is not NULL) and returns `status`, so that a
 * caller writes `return lf_fail(err, LF_EFORMAT, "%s: ...", path)`. Text past the end of err->text is cut. */
lf_status lf_fail(lf_error *err, lf_status status, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* The one text for a failed allocation. */
lf_status lf_fail_memory(lf_error *err, const char *what, size_t bytes);

/* Runs expr and, unless it is LF_OK, stores it in `status` and goes to `done:`, the label that frees in
 * reverse. */
#define LF_TRY(expr)                                                                                         \
    do {                                                                                                     \
        status = (expr);                                                                                     \
        if (status != LF_OK) goto done;                                                                      \
    } while (0)

#endif
