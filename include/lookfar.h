/* lookfar: LLaMA-family language models that emit several tokens per pass without changing a single output
 * token. */
#ifndef LOOKFAR_H
#define LOOKFAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Statuses: name, value (never renumbered), text. */
#define LF_STATUS_LIST(X)                                                                                    \
    X(LF_OK, 0, "ok")                                                                                        \
    X(LF_EINVAL, 1, "invalid argument")                                                                      \
    X(LF_ENOMEM, 2, "out of memory")                                                                         \
    X(LF_EIO, 3, "input or output failed")                                                                   \
    X(LF_EFORMAT, 4, "malformed file")                                                                       \
    X(LF_EUNSUPPORTED, 5, "not supported")                                                                   \
    X(LF_ELIMIT, 6, "limit exceeded")                                                                        \
    X(LF_ECANCELED, 7, "canceled")

typedef enum lf_status {
#define LF_STATUS_ENUM(name, value, text) name = value,
    LF_STATUS_LIST(LF_STATUS_ENUM)
#undef LF_STATUS_ENUM
} lf_status;

/* The status in words; never NULL. */
const char *lf_status_name(lf_status status);

/* What failed, where, what was found and what was expected. Every function that takes one accepts NULL. */
typedef struct lf_error {
    lf_status status;
    char text[500];
} lf_error;

/* Element types of weights and of the KV cache. */
typedef enum lf_dtype {
    LF_DTYPE_F32,
    LF_DTYPE_F16,
    LF_DTYPE_BF16,
    LF_DTYPE_Q8_0,
    LF_DTYPE_Q4_0,
    LF_DTYPE_Q4_K,
    LF_DTYPE_Q5_K,
    LF_DTYPE_Q6_K,
    LF_DTYPE_COUNT,
} lf_dtype;

#ifdef __cplusplus
}
#endif

#endif
