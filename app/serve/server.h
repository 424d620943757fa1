/* The HTTP side: one thread with one event loop, connections, and the exchanges on them.
 *
 *     epoll --+-- libmicrohttpd's own epoll: sockets that can be read or written
 *             +-- the engine thread's wake_fd: news of runs (runner.h)
 *             +-- sockets of waiting exchanges, for hang-ups alone
 *
 * libmicrohttpd runs without threads of its own, so that all of this is one thread's and needs no locks. An exchange is one HTTP
 * request and its answer: an answer that is not there yet suspends its connection, which then costs nothing; libmicrohttpd
 * does not watch it, so the loop does, and a client that hangs up is known at once. A client that reads slowly fills a
 * buffer of its own up to a limit; one that sends slowly has a deadline.
 *
 * Every write to a socket takes a few microseconds, whatever it carries. With many streams of a small model that would be a tenth of the
 * machine. So the thread takes its time: after work of t on streams, tokens wait for t / HTTP_SHARE, but not longer than
 * delay_seconds, and leave together. With one stream, or a large model, that is no time at all. First and last tokens never wait. */
#ifndef LF_SERVE_SERVER_H
#define LF_SERVE_SERVER_H

#include "chunk.h"
#include "error.h"
#include "runner.h"

#include <microhttpd.h>
#include <signal.h>

enum { SERVE_KEYS_MAX = 256, SERVE_ORIGINS_MAX = 32 };

typedef struct serve_options {
    const char *host;
    int port; /* 0: any that is free */
    const char *model_name;
    char *keys[SERVE_KEYS_MAX]; /* (n_keys) none: everybody may */
    int n_keys;
    const char *origins[SERVE_ORIGINS_MAX]; /* (n_origins) that browsers may come from; "*": any */
    int n_origins;
    size_t body_max;
    int queue_max;            /* choices that wait beyond those decoded together */
    double timeout_seconds;   /* for a request to arrive, and for a client to take what is there for it */
    double keepalive_seconds; /* a stream that has been silent for so long gets a comment */
    double grace_seconds;     /* for requests to end after SIGTERM */
    double delay_seconds;     /* that a token may wait for others of its stream */
    const char *metrics_prefix;
    const lf_request_params *defaults;
    int n_seqs; /* requests decoded together */
    bool quiet; /* no line for each request */
} serve_options;

/* A connection. A request that is not whole `timeout` after the last one ended, or the connection began, is given up: so is an
 * idle connection. */
typedef struct serve_client {
    struct serve_client *next, **link;
    int fd;
    int64_t since_ns; /* 0: a request is being worked on */
    size_t received;  /* of a body, which moves the deadline */
} serve_client;

typedef struct serve_exchange serve_exchange;
typedef struct serve_job serve_job;

typedef struct serve_server {
    const serve_options *options;
    serve_runner *runner;
    struct MHD_Daemon *daemon;
    int epoll_fd, listen_fd; /* listen_fd -1: not listening (any more) */
    int port;                /* that it listens on */
    serve_client *clients;
    serve_exchange *exchanges;
    serve_job *jobs;     /* every one that has runs in the engine, of clients that are gone, too */
    int n_runs;          /* of those jobs */
    double mean_seconds; /* of a request, lately: what Retry-After says */
    bool draining;       /* no more requests */
    bool paces;          /* news that can wait are to be taken at news_ns, not when they come */
    int64_t news_ns;
    int64_t used_ns;     /* processor time of the thread until they were last taken */
    int64_t started;     /* UTC seconds */
    uint64_t n_requests; /* for request ids */
    uint64_t id_salt;
} serve_server;

/* Where a request goes by method and path. */
typedef void serve_handler_fn(serve_exchange *x);
typedef struct serve_route {
    const char *method, *path; /* a path that ends with "/" stands for all below it */
    serve_handler_fn *handle;
    bool is_public;    /* without a key */
    bool needs_engine; /* 503 while the model is loading */
} serve_route;

/* The route of a request; NULL with 404 or 405 in *e. */
const serve_route *serve_find_route(const char *method, const char *path, serve_error *e);

struct serve_exchange {
    serve_server *server;
    struct MHD_Connection *connection;
    serve_client *client;
    serve_exchange *next, **link; /* in the server's list */
    const serve_route *route;     /* NULL: refused by its head, see error */
    char *path;
    char id[48];                /* X-Request-Id */
    const char *allowed_origin; /* for a browser from elsewhere; or NULL */
    int64_t began_ns;

    lf_bytes body;
    size_t body_received; /* with what was thrown away */
    serve_error error;    /* found in the head or body: answered when the body is over */

    int status; /* of the answer; 0: there is none yet */
    const char *content_type;
    bool is_page;    /* for a browser to show: with a content policy */
    int retry_after; /* seconds, or 0 */
    lf_bytes out;
    size_t n_read; /* of out, by libmicrohttpd */
    bool streams, ended;
    int64_t fed_ns; /* when a stream was last written to */
    bool dispatched, suspended, watched, gone, out_of_memory;

    serve_job *job;                   /* or NULL */
    int prompt_tokens, output_tokens; /* for the log */
};

/* ---- access.c ---- */

/* Whether a request may be answered by its route, as far as its head tells; if not, why. */
bool serve_check_head(serve_exchange *x, serve_error *e);

/* A header of the request, or NULL. */
const char *serve_header(const serve_exchange *x, const char *name);

/* ---- answer.c ---- */

/* Of both, as of events below: the reference is taken, and NULL means that there was no memory for it. */
void serve_answer_json(serve_exchange *x, int status, json_t *object);
void serve_answer_error(serve_exchange *x, const serve_error *e);

/* Text of the given type: what is in x->out. */
void serve_answer_text(serve_exchange *x, const char *content_type);

/* There is no memory for the answer: the client is told, or where a stream has begun, its connection ends. */
void serve_answer_lost(serve_exchange *x);

/* A stream of server-sent events: begin, any number of events, "[DONE]" if all went well, end. An event is "data: JSON", or a
 * chunk with a text (len) in it; a comment is for a stream that was silent. */
void serve_stream_begin(serve_exchange *x);
void serve_stream_event(serve_exchange *x, json_t *json);
void serve_stream_chunk(serve_exchange *x, const serve_chunk *chunk, const char *text, size_t len);
void serve_stream_comment(serve_exchange *x);
void serve_stream_done(serve_exchange *x);
void serve_stream_end(serve_exchange *x);

/* Hands the answer to libmicrohttpd, or suspends the connection until there is one. */
enum MHD_Result serve_answer_give(serve_exchange *x);

/* Goes on with a connection that waits for what was added just now. */
void serve_exchange_wake(serve_exchange *x);

/* Ends a connection at once: libmicrohttpd sees the hang-up and cleans up. */
void serve_client_hang_up(const serve_client *client);

/* ---- http.c: the loop ---- */

/* Listens; *out is not freed by itself on failure. Then runs until *stop is set: a first time it drains, and ends what is left
 * after the grace time. signals: what is blocked outside of waiting. */
lf_status serve_server_open(serve_server *s, const serve_options *options, serve_runner *runner,
                            lf_error *err);
lf_status serve_server_run(serve_server *s, const volatile sig_atomic_t *stop, const sigset_t *outside,
                           lf_error *err);
void serve_server_close(serve_server *s);

/* ---- jobs: see job.c ---- */

void serve_job_on_news(serve_run *run);
void serve_job_detach(serve_job *job);    /* its exchange is over: what runs is cancelled */
void serve_job_cancel(serve_job *job);    /* the server ends: the client is told */
void serve_job_free_all(serve_server *s); /* after the runner has stopped */

#endif
