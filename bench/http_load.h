/* Load on a server with OpenAI's API: streamed completions that arrive at random times (open loop: nobody waits for an answer
 * before the next one asks), and how long they took. One thread; HTTP/1.0, so that a body ends with its connection. */
#ifndef LF_BENCH_HTTP_LOAD_H
#define LF_BENCH_HTTP_LOAD_H

#include "base/status.h"

#include <jansson.h>

/* A server: "127.0.0.1" and "8080" from http://127.0.0.1:8080. */
typedef struct bench_server {
    char host[256], port[16];
    const char *key; /* or NULL */
} bench_server;

lf_status bench_parse_server(bench_server *out, const char *url, lf_error *err);

/* One request and its whole answer, a new reference. body NULL: GET. */
lf_status bench_http_call(json_t **out, const bench_server *server, const char *path, const json_t *body,
                          lf_error *err);

/* The text of an answer to GET; the caller's. */
lf_status bench_http_get(char **out, const bench_server *server, const char *path, lf_error *err);

typedef struct bench_http_load {
    const bench_server *server;
    json_t **
        bodies; /* (n) of requests to /v1/completions, with "stream": true, in the order in which they are sent */
    int n;
    double rate;                 /* requests a second; 0: all at once */
    uint64_t seed;               /* of the times between arrivals, which are exponential */
    double ttft_goal, tpot_goal; /* seconds: a request that keeps both counts for the goodput */
    double timeout;              /* seconds that a request may take */
    bool (*canceled)(void *cookie);
    void (*on_progress)(void *cookie, const char *what, double share);
    void *cookie;
} bench_http_load;

typedef struct bench_http_result {
    double ttft_p50, ttft_p95, ttft_p99; /* seconds from a request's arrival to its first token */
    double tpot_p50, tpot_p95,
        tpot_p99;      /* seconds from the first token to the last, over the tokens after the first */
    double throughput; /* tokens a second, from the first arrival to the last end */
    double goodput;    /* requests a second that kept the goals */
    double seconds;
    int n_tokens, errors; /* errors: requests without a whole answer, or with another status than 200 */
} bench_http_result;

/* LF_ECANCELED; LF_ENOMEM; LF_EIO when the event loop fails. What happens to a request is counted, not returned. */
lf_status bench_http_run(bench_http_result *out, const bench_http_load *load, lf_error *err);

#endif
