/* lookfar serve: a server with OpenAI's API. The main thread is the HTTP side (server.h), another owns the engine (runner.h). */
#include "server.h"

#include "../app.h"

#include "base/mem.h"
#include "base/status.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

enum {
    OPT_HOST = 0x700,
    OPT_PORT,
    OPT_ALIAS,
    OPT_PARALLEL,
    OPT_QUEUE,
    OPT_API_KEY,
    OPT_API_KEY_FILE,
    OPT_CORS,
    OPT_BODY,
    OPT_TIMEOUT,
    OPT_KEEPALIVE,
    OPT_GRACE,
    OPT_DELAY,
    OPT_PREFIX,
    OPT_TEMPLATE,
    OPT_TRACE,
};

enum { PARALLEL_DEFAULT = 8, QUEUE_DEFAULT = 256, BODY_MIB_DEFAULT = 16, FILES_WANTED = 8192 };

typedef struct command {
    app_engine_options engine;
    app_request_options request;
    serve_options serve;
    const char *template_path, *trace_path;
} command;

static const struct argp_option options[] = {
    {"host", OPT_HOST, "ADDRESS", 0, "where to listen (default: 127.0.0.1)", 0},
    {"port", OPT_PORT, "N", 0, "port (default: 8080); 0: any that is free", 0},
    {"alias", 'a', "NAME", 0, "what the model is called (default: its file's name)", 0},
    {"parallel", OPT_PARALLEL, "N", 0, "requests decoded together (default: 8)", 0},
    {"queue", OPT_QUEUE, "N", 0, "requests that may wait beyond those; more get 429 (default: 256)", 0},
    {"api-key", OPT_API_KEY, "KEY", 0, "a key that clients must have; may be given again", 0},
    {"api-key-file", OPT_API_KEY_FILE, "FILE", 0, "the same, one on each line", 0},
    {"cors-origin", OPT_CORS, "ORIGIN", 0,
     "a site whose pages may use the server, * for any; may be given again (default: none)", 0},
    {"chat-template", OPT_TEMPLATE, "FILE", 0,
     "a Jinja template for chats, or the name chatml (default: the model's own)", 0},
    {"trace", OPT_TRACE, "FILE", 0, "write a JSON line for every pass: its requests, rows, candidates, times",
     0},
    {"max-body", OPT_BODY, "MIB", 0, "largest body of a request in MiB (default: 16)", 0},
    {"timeout", OPT_TIMEOUT, "SECONDS", 0,
     "for a request to arrive, and for a client to take what is there for it (default: 60)", 0},
    {"keep-alive", OPT_KEEPALIVE, "SECONDS", 0, "a silent stream gets a comment after this (default: 15)", 0},
    {"grace", OPT_GRACE, "SECONDS", 0, "for requests to end after SIGTERM or SIGINT (default: 30)", 0},
    {"stream-delay", OPT_DELAY, "MS", 0,
     "a token may wait so long to leave with the next ones, where there are many streams of a small model (default: 100)",
     0},
    {"metrics-prefix", OPT_PREFIX, "TEXT", 0, "what names of metrics begin with (default: lookfar:)", 0},
    {0},
};

static void add_key(serve_options *o, const char *key, size_t len, struct argp_state *state)
{
    if (o->n_keys == SERVE_KEYS_MAX) app_usage_error(state, "--api-key: found more than %d", SERVE_KEYS_MAX);
    if (len == 0) app_usage_error(state, "--api-key: found an empty key");
    o->keys[o->n_keys] = lf_strndup(key, len);
    if (!o->keys[o->n_keys++]) app_usage_error(state, "--api-key: out of memory");
}

/* Keys of a file: lines, but for empty ones and comments. */
static void read_keys(serve_options *o, const char *path, struct argp_state *state)
{
    char *line = NULL;
    size_t cap = 0;
    ssize_t n;
    FILE *f = fopen(path, "r");
    if (!f) app_usage_error(state, "--api-key-file: %s: cannot open: %s", path, strerror(errno));
    const int before = o->n_keys;
    while ((n = getline(&line, &cap, f)) >= 0) {
        size_t len = (size_t)n;
        while (len > 0 && strchr("\r\n \t", line[len - 1])) len--;
        if (len > 0 && line[0] != '#') add_key(o, line, len, state);
    }
    free(line);
    (void)fclose(f);
    /* a file that was meant to protect must not leave the door open */
    if (o->n_keys == before)
        app_usage_error(state, "--api-key-file: %s: found no key, expected one on each line", path);
}

static error_t parse_option(int key, char *arg, struct argp_state *state)
{
    command *c = state->input;
    serve_options *o = &c->serve;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &c->engine;
        state->child_inputs[1] = &c->request;
        return 0;
    case OPT_HOST: o->host = arg; return 0;
    case OPT_PORT: o->port = (int)app_parse_int(state, "--port", arg, 0, 65535); return 0;
    case 'a': o->model_name = arg; return 0;
    case OPT_PARALLEL:
        c->engine.params.n_seqs = (int)app_parse_int(state, "--parallel", arg, 1, 512);
        return 0;
    case OPT_QUEUE: o->queue_max = (int)app_parse_int(state, "--queue", arg, 0, 1 << 20); return 0;
    case OPT_API_KEY: add_key(o, arg, strlen(arg), state); return 0;
    case OPT_API_KEY_FILE: read_keys(o, arg, state); return 0;
    case OPT_CORS:
        if (o->n_origins == SERVE_ORIGINS_MAX)
            app_usage_error(state, "--cors-origin: found more than %d", SERVE_ORIGINS_MAX);
        o->origins[o->n_origins++] = arg;
        return 0;
    case OPT_BODY: o->body_max = (size_t)app_parse_int(state, "--max-body", arg, 1, 1 << 12) << 20; return 0;
    case OPT_TIMEOUT: o->timeout_seconds = app_parse_float(state, "--timeout", arg, 0.1, 1e5); return 0;
    case OPT_KEEPALIVE:
        o->keepalive_seconds = app_parse_float(state, "--keep-alive", arg, 0.1, 1e5);
        return 0;
    case OPT_GRACE: o->grace_seconds = app_parse_float(state, "--grace", arg, 0, 1e5); return 0;
    case OPT_DELAY:
        o->delay_seconds = app_parse_float(state, "--stream-delay", arg, 0, 1000) * 1e-3;
        return 0;
    case OPT_PREFIX: o->metrics_prefix = arg; return 0;
    case OPT_TEMPLATE: c->template_path = arg; return 0;
    case OPT_TRACE: c->trace_path = arg; return 0;
    case ARGP_KEY_END:
        if (c->request.grammar.is_set)
            app_usage_error(state, "found a form of output, expected it in requests (response_format)");
        return 0;
    case ARGP_KEY_ARG: app_usage_error(state, "found argument \"%s\", expected options only", arg); return 0;
    default: return ARGP_ERR_UNKNOWN;
    }
}

static lf_status open_engine(lf_engine **out, void *cookie, lf_error *err)
{
    command *c = cookie;
    const lf_status status = app_open_engine(out, &c->engine, err);
    if (status != LF_OK || strcmp(c->request.params.proposer, "auto") != 0) return status;
    return app_prepare_profile(*out, c->engine.quiet, err); /* now, not at the cost of the first request */
}

/* A model's name: its file without folder and ".gguf". */
static char *default_name(const char *path)
{
    size_t len = strlen(path);
    while (len > 1 && path[len - 1] == '/') len--;
    size_t begin = len;
    while (begin > 0 && path[begin - 1] != '/') begin--;
    if (len - begin > 5 && strncmp(path + len - 5, ".gguf", 5) == 0) len -= 5;
    return lf_strndup(path + begin, len - begin);
}

/* A socket for each connection: more than the usual 1024. */
static void raise_file_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= FILES_WANTED) return;
    limit.rlim_cur = limit.rlim_max < FILES_WANTED ? limit.rlim_max : FILES_WANTED;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
}

/* Also when asked for quiet: with --port 0 nobody knows it otherwise. */
static void print_address(const serve_server *s)
{
    const char *host = s->options->host;
    const bool is_v6 = strchr(host, ':') != NULL;
    (void)fprintf(stderr, "listening on http://%s%s%s:%d\n", is_v6 ? "[" : "", host, is_v6 ? "]" : "",
                  s->port);
}

static lf_status serve(command *c, FILE *trace, const sigset_t *outside, lf_error *err)
{
    lf_status status = LF_OK;
    serve_runner *runner = NULL;
    serve_server server = {.epoll_fd = -1, .listen_fd = -1};
    lf_bytes template = {0};
    if (c->template_path) LF_TRY(app_read_template(&template, c->template_path, err));
    c->engine.params.chat_template = template.data;
    LF_TRY(serve_runner_start(&runner, open_engine, c, trace, err));
    LF_TRY(serve_server_open(&server, &c->serve, runner, err));
    print_address(&server);
    status = serve_server_run(&server, &app_interrupted, outside, err);
done:
    app_interrupted = status != LF_OK ? 1
                                      : app_interrupted; /* a model that is being loaded is not waited for */
    serve_server_close(&server);
    serve_runner_stop(runner);
    serve_job_free_all(&server);
    lf_bytes_free(&template);
    return status;
}

int app_serve(int argc, char **argv)
{
    static const struct argp_child children[] = {
        {&app_engine_argp, 0, "Model and machine:", 1},
        {&app_request_argp, 0, "What requests get that do not say (temperature 1, proposer auto):", 2},
        {0}};
    static const struct argp argp = {options,  parse_option, NULL, "Serves a model by OpenAI's HTTP API.",
                                     children, NULL,         NULL};
    command c = {.serve = {.host = "127.0.0.1",
                           .port = 8080,
                           .body_max = (size_t)BODY_MIB_DEFAULT << 20,
                           .queue_max = QUEUE_DEFAULT,
                           .timeout_seconds = 60,
                           .keepalive_seconds = 15,
                           .grace_seconds = 30,
                           .delay_seconds = 0.1,
                           .metrics_prefix = "lookfar:"}};
    lf_error err = {0};
    sigset_t ends, outside;
    lf_engine_params_init(&c.engine.params);
    lf_request_params_init(&c.request.params);
    c.engine.params.n_seqs = PARALLEL_DEFAULT;
    c.request.params.temperature = 1.0f;
    c.request.params.proposer = "auto";
    c.request.params.repeat_last_n = -1; /* penalties look at everything, as OpenAI's do */
    app_parse_args(&argp, argc, argv, &c);
    char *name = default_name(c.engine.params.model_path);
    if (!c.serve.model_name) c.serve.model_name = name ? name : "model";
    c.serve.defaults = &c.request.params;
    c.serve.n_seqs = c.engine.params.n_seqs;
    c.serve.quiet = c.engine.quiet;
    raise_file_limit();
    /* Signals come only where the main thread waits for events, or they could be missed: threads inherit the mask. */
    (void)sigemptyset(&ends);
    (void)sigaddset(&ends, SIGINT);
    (void)sigaddset(&ends, SIGTERM);
    (void)sigprocmask(SIG_BLOCK, &ends, &outside);
    (void)signal(SIGPIPE, SIG_IGN);
    app_catch_interrupt();
    FILE *trace = c.trace_path ? app_open_json(c.trace_path) : NULL;
    int code = EXIT_FAIL;
    if (trace || !c.trace_path) code = serve(&c, trace, &outside, &err) == LF_OK ? 0 : app_fail(&err);
    for (int i = 0; i < c.serve.n_keys; i++) free(c.serve.keys[i]);
    free(name);
    return app_close_json(trace, c.trace_path, code);
}
