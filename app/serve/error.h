/* What a client is told when a request fails: OpenAI's error object with the status of HTTP. */
#ifndef LF_SERVE_ERROR_H
#define LF_SERVE_ERROR_H

#include "lookfar.h"

#include <jansson.h>

typedef struct serve_error {
    int status;       /* of HTTP; 0: no error */
    const char *type; /* "invalid_request_error", ... */
    const char *code; /* for programs: "context_length_exceeded", ...; or NULL */
    char param[64];   /* the field at fault, or "" */
    char message[640];
    int retry_after; /* seconds; 0: not said */
} serve_error;

/* Fills in a client's mistake (400, invalid_request_error) and returns false. param may be NULL. */
bool serve_refuse(serve_error *e, const char *param, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* The same with another status and code; its type follows from the status. */
bool serve_fail(serve_error *e, int status, const char *code, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* What an error of the library means for a client: its mistake, or ours. Returns false. */
bool serve_fail_status(serve_error *e, const lf_error *err);

/* {"error": {...}}, a new reference; NULL without memory. */
json_t *serve_error_json(const serve_error *e);

#endif
