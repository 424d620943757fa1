/* lookfar serve under test: the real program with a tiny model, and the same model in this process, which says what must come out.
 * A server that a failed test leaves behind is ended by reap_servers, the teardown of every test here; one whose test program dies
 * dies with it. */
#ifndef LF_TESTS_SERVING_H
#define LF_TESTS_SERVING_H

#include "http.h"

#include "lookfar.h"

#include <stdio.h>
#include <sys/types.h>

enum { SERVING_CTX = 2048 };

typedef struct server {
    pid_t pid;
    int port;
    FILE *log; /* its standard error, where nothing comes after the first line; or NULL */
} server;

/* How a server is started other than usually. */
typedef struct launch {
    const char *const *args; /* until NULL: after those that all have */
    const char *model;       /* NULL: the tiny one */
    const char *
        log_path; /* where its standard error goes: then the port is to be in args, and a line is written for each request */
    int port;      /* with log_path */
    size_t memory; /* bytes of address space that it may have; 0: any number */
} launch;

/* Waits until the model is loaded. */
server start_launch(const launch *how);
#define start_server(...) start_launch(&(launch){.args = (const char *const[]){__VA_ARGS__, NULL}})

/* A port that nobody listens on. */
int free_port(void);

/* Its exit status, after SIGTERM; stop_cleanly: which is 0. */
int stop_server(server *s);
void stop_cleanly(server *s);

answer call_with(const server *s, const char *method, const char *path, const char *headers,
                 const char *body);
answer post(const server *s, const char *path, const char *body);
answer get(const server *s, const char *path);

/* The value of a metric: the sum over lines that begin with `name`. And: waits until it has a value, as requests end on the other side
 * at their own time. */
double metric(const server *s, const char *name);
void wait_metric(const server *s, const char *name, double wanted);

/* What the library says to a prompt without a proposer, by parameters but for the prompt; the caller's. */
char *expected_text(const char *prompt, float temperature, uint64_t seed, int n_predict);
char *expected_answer(const char *prompt, const lf_request_params *params);

/* The model in this process, its folder, and a folder for a test's files. */
lf_engine *serving_engine(void);
const char *serving_model(void);
const char *serving_file(const char *name); /* until the next call */

/* Setup and teardown of a group, and the teardown of each of its tests. */
int begin_serving(void **state);
int end_serving(void **state);
int reap_servers(void **state);

#define serving_test(f) cmocka_unit_test_teardown(f, reap_servers)

#define CHAT(fields)       "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"max_tokens\":1" fields "}"
#define COMPLETION(fields) "{\"prompt\":\"a\",\"max_tokens\":1" fields "}"

/* A request that goes on until the context is full; the caller closes the brace. */
#define ENDLESS "{\"prompt\":\"on and on\",\"max_tokens\":2000,\"ignore_eos\":true,\"speculative\":false"

#endif
