/* The event loop, and what libmicrohttpd calls. */
#include "server.h"

#include "base/clock.h"
#include "base/status.h"

#include <errno.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    CONNECTIONS_MAX = 4096,
    HEAD_BYTES_MAX = 32 << 10,     /* of a request's head, and of libmicrohttpd's own needs */
    STREAM_BLOCK_BYTES = 16 << 10, /* given to a socket at a time */
    UNSENT_BYTES_MAX = 4 << 20,    /* of a stream whose client does not read */
    SOCKET_BYTES = 256 << 10, /* asked of the kernel, which would take megabytes for such a client, too */
    BODY_BYTES_PER_SECOND = 16 << 10, /* slower clients run out of time */
    EVENTS_MAX = 64,
    TICK_MS = 500,
    FLUSH_SECONDS = 2, /* for last answers to leave after the grace time */
};

/* A connection. A request that is not whole `timeout` after the last one ended, or the connection began, is given up: so is an
 * idle connection. */
struct serve_client {
    serve_client *next, **link;
    int fd;
    int64_t since_ns; /* 0: a request is being worked on */
    size_t received;  /* of a body, which moves the deadline */
};

/* Of a processor's time: what the thread takes where it can choose. */
#define HTTP_SHARE 0.005

static double seconds_since(int64_t ns)
{
    return (double)(lf_clock_ns() - ns) * 1e-9;
}

/* ---- answers ---- */

static void fail_memory(serve_exchange *x)
{
    x->out_of_memory = x->ended = true;
}

void serve_exchange_wake(serve_exchange *x)
{
    if (!x->suspended) return;
    x->suspended = false;
    MHD_resume_connection(x->connection);
}

void serve_answer_text(serve_exchange *x, const char *content_type)
{
    x->content_type = content_type;
    if (!x->status) x->status = 200;
    serve_exchange_wake(x);
}

static int append_dump(const char *text, size_t n, void *cookie)
{
    return lf_bytes_append(cookie, text, n) ? 0 : -1;
}

void serve_answer_json(serve_exchange *x, int status, json_t *object)
{
    x->out.len = 0;
    x->status = status;
    if (!object || json_dump_callback(object, append_dump, &x->out, SERVE_DUMP_FLAGS) != 0) fail_memory(x);
    json_decref(object);
    serve_answer_text(x, "application/json");
}

void serve_answer_error(serve_exchange *x, const serve_error *e)
{
    x->retry_after = e->retry_after;
    serve_answer_json(x, e->status, serve_error_json(e));
}

void serve_stream_begin(serve_exchange *x)
{
    x->streams = true;
    x->fed_ns = lf_clock_ns();
    serve_answer_text(x, "text/event-stream");
}

/* Ends a connection at once; libmicrohttpd sees the hang-up and cleans up. */
static void hang_up(const serve_client *client)
{
    (void)shutdown(client->fd, SHUT_RDWR);
}

/* What was appended to a stream goes on its way, unless so much waits already that nobody can be reading. */
static void stream_on(serve_exchange *x)
{
    x->fed_ns = lf_clock_ns();
    if (x->out.len - x->n_read > UNSENT_BYTES_MAX && !x->gone) {
        x->gone = true;
        if (x->client) hang_up(x->client);
    }
    serve_exchange_wake(x);
}

void serve_stream_event(serve_exchange *x, json_t *json)
{
    if (x->gone || x->ended) {
        json_decref(json);
        return;
    }
    bool ok = lf_bytes_append(&x->out, "data: ", 6);
    ok = ok && (json ? json_dump_callback(json, append_dump, &x->out, SERVE_DUMP_FLAGS) == 0
                     : lf_bytes_append(&x->out, "[DONE]", 6));
    json_decref(json);
    if (!ok || !lf_bytes_append(&x->out, "\n\n", 2)) fail_memory(x);
    stream_on(x);
}

void serve_stream_chunk(serve_exchange *x, const serve_chunk *chunk, const char *text, size_t len)
{
    if (x->gone || x->ended) return;
    if (!serve_chunk_write(&x->out, chunk, text, len)) fail_memory(x);
    stream_on(x);
}

void serve_stream_end(serve_exchange *x)
{
    x->ended = true;
    serve_exchange_wake(x);
}

/* ---- from an exchange to libmicrohttpd ---- */

/* What a stream has; suspends when that is nothing. */
static ssize_t read_stream(void *cookie, uint64_t pos, char *out, size_t size)
{
    serve_exchange *x = cookie;
    const size_t n_left = x->out.len - x->n_read, n = n_left < size ? n_left : size;
    (void)pos;
    if (x->gone || x->out_of_memory) return MHD_CONTENT_READER_END_WITH_ERROR;
    if (n == 0) {
        if (x->ended) return MHD_CONTENT_READER_END_OF_STREAM;
        MHD_suspend_connection(x->connection);
        x->suspended = true;
        return 0;
    }
    memcpy(out, x->out.data + x->n_read, n);
    x->n_read += n;
    if (2 * x->n_read >=
        x->out.len) { /* or a client that is always a little behind would make it grow for ever */
        x->out.len -= x->n_read;
        memmove(x->out.data, x->out.data + x->n_read, x->out.len);
        x->n_read = 0;
    }
    return (ssize_t)n;
}

static bool add_headers(const serve_exchange *x, struct MHD_Response *response)
{
    const struct {
        const char *name, *value;
    } headers[] = {
        {"Content-Type", x->content_type},
        {"X-Request-Id", x->id},
        {"X-Content-Type-Options", "nosniff"},
        {"Cache-Control", x->is_page ? "no-cache" : "no-store"},
        {"X-Accel-Buffering", x->streams ? "no" : NULL}, /* proxies are to pass on what comes */
        {"Access-Control-Allow-Origin", x->allowed_origin},
        {"Access-Control-Allow-Methods", x->allowed_origin ? "GET, POST, OPTIONS" : NULL},
        {"Access-Control-Allow-Headers", x->allowed_origin ? "Authorization, Content-Type, X-Api-Key" : NULL},
        {"Access-Control-Expose-Headers", x->allowed_origin ? "X-Request-Id, Retry-After" : NULL},
        {"Vary", x->server->options->n_origins > 0 ? "Origin" : NULL},
        {"Content-Security-Policy",
         x->is_page ? "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
                      "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
                    : NULL},
        {"Referrer-Policy", x->is_page ? "no-referrer" : NULL},
        {"WWW-Authenticate", x->status == 401 ? "Bearer" : NULL},
        {"Connection", x->server->draining ? "close" : NULL},
    };
    char seconds[16];
    bool ok = true;
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++)
        if (headers[i].value)
            ok = ok && MHD_add_response_header(response, headers[i].name, headers[i].value) == MHD_YES;
    (void)snprintf(seconds, sizeof seconds, "%d", x->retry_after);
    return ok &&
           (x->retry_after == 0 || MHD_add_response_header(response, "Retry-After", seconds) == MHD_YES);
}

/* Hands over the answer, or suspends until there is one. */
static enum MHD_Result give_answer(serve_exchange *x)
{
    if (x->gone || x->out_of_memory) return MHD_NO; /* closes the connection */
    if (!x->status) {
        MHD_suspend_connection(x->connection);
        x->suspended = true;
        return MHD_YES;
    }
    struct MHD_Response *response = x->streams ? MHD_create_response_from_callback(MHD_SIZE_UNKNOWN,
                                                                                   STREAM_BLOCK_BYTES,
                                                                                   read_stream, x, NULL)
                                               : MHD_create_response_from_buffer(x->out.len, x->out.data,
                                                                                 MHD_RESPMEM_PERSISTENT);
    if (!response) return MHD_NO;
    const bool ok = add_headers(x, response);
    const enum MHD_Result result = ok ? MHD_queue_response(x->connection, (unsigned)x->status, response)
                                      : MHD_NO;
    MHD_destroy_response(response);
    return result;
}

/* ---- who may ---- */

static const char *header(const serve_exchange *x, const char *name)
{
    return MHD_lookup_connection_value(x->connection, MHD_HEADER_KIND, name);
}

/* In a time that does not tell how much of the key was right. */
static bool is_equal(const char *a, const char *b)
{
    const size_t n = strlen(a), n_b = strlen(b);
    unsigned difference = n != n_b;
    for (size_t i = 0; i < n; i++) difference |= (unsigned char)a[i] ^ (unsigned char)b[n_b ? i % n_b : 0];
    return difference == 0;
}

static bool check_key(const serve_exchange *x, serve_error *e)
{
    const serve_options *o = x->server->options;
    const char *authorization = header(x, "Authorization"), *key = header(x, "X-Api-Key");
    bool ok = o->n_keys == 0;
    if (authorization && strncasecmp(authorization, "Bearer ", 7) == 0) key = authorization + 7;
    for (int i = 0; key && i < o->n_keys; i++) ok |= is_equal(key, o->keys[i]);
    if (ok) return true;
    return serve_fail(e, 401, "invalid_api_key", key ? "the API key is not known" : "an API key is needed");
}

/* A browser says where a request comes from. Pages of other sites must not talk to a server on somebody's own machine, not
 * even without reading the answer, unless they are allowed to. */
static bool check_origin(serve_exchange *x, serve_error *e)
{
    const serve_options *o = x->server->options;
    const char *origin = header(x, "Origin"), *host = header(x, "Host");
    if (!origin) return true;
    for (int i = 0; i < o->n_origins; i++)
        if (strcmp(o->origins[i], "*") == 0 || strcmp(o->origins[i], origin) == 0)
            x->allowed_origin = o->origins[i];
    const char *sep = strstr(origin, "://");
    if (x->allowed_origin || (sep && host && strcmp(sep + 3, host) == 0)) return true;
    return serve_fail(e, 403, "origin_not_allowed",
                      "the origin %.200s is not allowed; lookfar serve --cors-origin ORIGIN allows one",
                      origin);
}

static bool check_length(const serve_exchange *x, serve_error *e)
{
    const char *length = header(x, "Content-Length");
    const size_t max = x->server->options->body_max;
    if (!length || strtoull(length, NULL, 10) <= max) return true;
    return serve_fail(e, 413, NULL, "the body: found %.32s bytes, expected at most %zu", length, max);
}

static bool check_phase(const serve_exchange *x, serve_error *e)
{
    if (x->server->draining) {
        (void)serve_fail(e, 503, "shutting_down", "the server is shutting down");
    } else if (x->route->needs_engine && serve_runner_phase(x->server->runner, NULL) != SERVE_READY) {
        (void)serve_fail(e, 503, "loading", "Loading model");
    } else {
        return true;
    }
    e->retry_after = 2;
    return false;
}

/* ---- an exchange ---- */

/* The client's id if it is one for a log, else ours. */
static void set_id(serve_exchange *x)
{
    const char *id = header(x, "X-Request-Id");
    const size_t n = id ? strspn(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") : 0;
    if (n > 0 && n < sizeof x->id && id[n] == '\0')
        (void)snprintf(x->id, sizeof x->id, "%s", id);
    else
        (void)snprintf(x->id, sizeof x->id, "%012llx%06llx",
                       (unsigned long long)(x->server->id_salt & 0xFFFFFFFFFFFF),
                       (unsigned long long)x->server->n_requests);
}

static serve_exchange *begin_exchange(serve_server *s, struct MHD_Connection *connection, const char *url,
                                      const char *method)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection,
                                                                   MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    serve_exchange *x = calloc(1, sizeof *x);
    if (!x) return NULL;
    *x = (serve_exchange){.server = s,
                          .connection = connection,
                          .client = info ? info->socket_context : NULL,
                          .next = s->exchanges,
                          .link = &s->exchanges,
                          .began_ns = lf_clock_ns(),
                          .path = lf_strndup(url, strlen(url))};
    if (!x->path) {
        free(x);
        return NULL;
    }
    if (x->next) x->next->link = &x->next;
    s->exchanges = x;
    s->n_requests++;
    set_id(x);
    x->route = serve_find_route(strcmp(method, "HEAD") == 0 ? "GET" : method, url, &x->error);
    const bool ok = check_origin(x, &x->error) && x->route &&
                    (x->route->is_public || check_key(x, &x->error)) && check_phase(x, &x->error) &&
                    check_length(x, &x->error);
    if (!ok) x->route = NULL;
    return x;
}

/* false: so much that the connection is closed. */
static bool receive_body(serve_exchange *x, const char *data, size_t n)
{
    const size_t max = x->server->options->body_max;
    x->body_received += n;
    if (x->client) x->client->received += n;
    if (x->error.status) return x->body_received <= 2 * max;
    if (x->body_received > max)
        return serve_fail(&x->error, 413, NULL,
                          "the body: found more than %zu bytes, expected at most as many", max),
               true;
    if (!lf_bytes_append(&x->body, data, n))
        (void)serve_fail(&x->error, 503, "out_of_memory", "out of memory");
    return true;
}

/* Watches the client of an exchange that will take its time. */
static void watch(serve_exchange *x)
{
    struct epoll_event event = {.events = EPOLLRDHUP, .data.ptr = x};
    if (x->client && epoll_ctl(x->server->epoll_fd, EPOLL_CTL_ADD, x->client->fd, &event) == 0)
        x->watched = true;
}

static void unwatch(serve_exchange *x)
{
    if (x->watched) (void)epoll_ctl(x->server->epoll_fd, EPOLL_CTL_DEL, x->client->fd, NULL);
    x->watched = false;
}

static void dispatch(serve_exchange *x)
{
    x->dispatched = true;
    if (x->client) x->client->since_ns = 0;
    if (x->error.status)
        serve_answer_error(x, &x->error);
    else
        x->route->handle(x);
    if (x->job) watch(x);
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *data, size_t *n_data,
                                  void **cookie)
{
    serve_exchange *x = *cookie;
    (void)version;
    if (!x) {
        *cookie = x = begin_exchange(cls, connection, url, method);
        return x ? MHD_YES : MHD_NO;
    }
    if (*n_data > 0) {
        const bool goes_on = receive_body(x, data, *n_data);
        *n_data = 0;
        return goes_on ? MHD_YES : MHD_NO;
    }
    if (!x->dispatched) dispatch(x);
    return give_answer(x);
}

static void log_exchange(const serve_exchange *x)
{
    char stamp[32];
    struct tm tm;
    const time_t now = time(NULL);
    if (x->server->options->quiet) return;
    (void)strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &tm));
    (void)fprintf(stderr, "%s %s %s %d %.1f ms", stamp, x->id, x->route ? x->route->path : "-", x->status,
                  seconds_since(x->began_ns) * 1e3);
    if (x->job) (void)fprintf(stderr, " %d + %d tokens", x->prompt_tokens, x->output_tokens);
    (void)fputs(x->gone ? " (client gone)\n" : "\n", stderr);
}

static void on_completed(void *cls, struct MHD_Connection *connection, void **cookie,
                         enum MHD_RequestTerminationCode why)
{
    serve_exchange *x = *cookie;
    (void)cls;
    (void)connection;
    if (!x) return;
    *cookie = NULL;
    x->gone = x->gone || why == MHD_REQUEST_TERMINATED_CLIENT_ABORT ||
              why == MHD_REQUEST_TERMINATED_READ_ERROR;
    log_exchange(x);
    unwatch(x);
    if (x->job) serve_job_detach(x->job);
    if (x->client) {
        x->client->since_ns = lf_clock_ns();
        x->client->received = 0;
    }
    *x->link = x->next;
    if (x->next) x->next->link = x->link;
    lf_bytes_free(&x->body);
    lf_bytes_free(&x->out);
    free(x->path);
    free(x);
}

/* ---- connections ---- */

static void on_connection(void *cls, struct MHD_Connection *connection, void **context,
                          enum MHD_ConnectionNotificationCode what)
{
    serve_server *s = cls;
    serve_client *c = *context;
    if (what == MHD_CONNECTION_NOTIFY_STARTED) {
        const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection,
                                                                       MHD_CONNECTION_INFO_CONNECTION_FD);
        const int bytes = SOCKET_BYTES;
        (void)setsockopt(info->connect_fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
        c = calloc(1, sizeof *c);
        *context = c;
        if (!c) return; /* it works, but for deadlines */
        *c = (serve_client){
            .next = s->clients, .link = &s->clients, .fd = info->connect_fd, .since_ns = lf_clock_ns()};
        if (c->next) c->next->link = &c->next;
        s->clients = c;
    } else if (c) {
        *c->link = c->next;
        if (c->next) c->next->link = c->link;
        free(c);
        *context = NULL;
    }
}

/* Ends connections whose time is up. */
static void check_deadlines(const serve_server *s)
{
    for (const serve_client *c = s->clients; c; c = c->next) {
        const double allowed = s->options->timeout_seconds +
                               (double)c->received / (double)BODY_BYTES_PER_SECOND;
        if (c->since_ns && seconds_since(c->since_ns) > allowed) hang_up(c);
    }
}

static void keep_streams_alive(const serve_server *s)
{
    static const char comment[] = ": keep-alive\n\n";
    for (serve_exchange *x = s->exchanges; x; x = x->next) {
        if (!x->streams || x->ended || x->gone || x->out.len > 0) continue;
        if (seconds_since(x->fed_ns) < s->options->keepalive_seconds) continue;
        if (lf_bytes_append(&x->out, comment, sizeof comment - 1)) stream_on(x);
    }
}

static void client_gone(serve_exchange *x)
{
    unwatch(x);
    if (x->status && (!x->streams || x->ended)) return; /* it has its answer, or will not take it */
    x->gone = true;
    serve_exchange_wake(x); /* libmicrohttpd closes it, and on_completed cancels the job */
}

/* ---- opening ---- */

static lf_status listen_at(serve_server *s, const struct addrinfo *address, lf_error *err)
{
    const serve_options *o = s->options;
    const int on = 1;
    struct sockaddr_storage bound;
    socklen_t bound_len = sizeof bound;
    char port[16];
    s->listen_fd = socket(address->ai_family, address->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (s->listen_fd < 0 || setsockopt(s->listen_fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        bind(s->listen_fd, address->ai_addr, address->ai_addrlen) != 0 ||
        listen(s->listen_fd, SOMAXCONN) != 0 ||
        getsockname(s->listen_fd, (struct sockaddr *)&bound, &bound_len) != 0 ||
        getnameinfo((struct sockaddr *)&bound, bound_len, NULL, 0, port, sizeof port, NI_NUMERICSERV) != 0)
        return lf_fail(err, LF_EIO, "%s port %d: cannot listen: %s", o->host, o->port, strerror(errno));
    s->port = (int)strtol(port, NULL, 10);
    return LF_OK;
}

static lf_status open_socket(serve_server *s, lf_error *err)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *found;
    char port[16];
    (void)snprintf(port, sizeof port, "%d", s->options->port);
    const int why = getaddrinfo(s->options->host, port, &hints, &found);
    if (why != 0)
        return lf_fail(err, LF_EINVAL, "--host %s: cannot find the address: %s", s->options->host,
                       gai_strerror(why));
    const lf_status status = listen_at(s, found, err);
    freeaddrinfo(found);
    return status;
}

static lf_status add_to_epoll(serve_server *s, int fd, void *tag, lf_error *err)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = tag};
    if (epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0) return LF_OK;
    return lf_fail(err, LF_EIO, "the event loop: %s", strerror(errno));
}

static lf_status start_daemon(serve_server *s, lf_error *err)
{
    s->daemon = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL, on_request, s, MHD_OPTION_LISTEN_SOCKET,
        s->listen_fd, MHD_OPTION_NOTIFY_COMPLETED, on_completed, s, MHD_OPTION_NOTIFY_CONNECTION,
        on_connection, s, MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS_MAX,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HEAD_BYTES_MAX, MHD_OPTION_CONNECTION_TIMEOUT,
        (unsigned)s->options->timeout_seconds + 1, MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, MHD_OPTION_END);
    if (!s->daemon) return lf_fail(err, LF_EIO, "libmicrohttpd: cannot start");
    return LF_OK;
}

lf_status serve_server_open(serve_server *s, const serve_options *options, serve_runner *runner,
                            lf_error *err)
{
    lf_status status = LF_OK;
    *s = (serve_server){.options = options,
                        .runner = runner,
                        .epoll_fd = epoll_create1(EPOLL_CLOEXEC),
                        .listen_fd = -1,
                        .started = (int64_t)time(NULL)};
    if (s->epoll_fd < 0) return lf_fail(err, LF_EIO, "the event loop: %s", strerror(errno));
    if (getrandom(&s->id_salt, sizeof s->id_salt, 0) != (ssize_t)sizeof s->id_salt)
        s->id_salt = (uint64_t)lf_clock_ns();
    LF_TRY(open_socket(s, err));
    LF_TRY(start_daemon(s, err));
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    LF_TRY(add_to_epoll(s, info->epoll_fd, &s->daemon, err));
    LF_TRY(add_to_epoll(s, serve_runner_wake_fd(runner), &s->runner, err));
done:
    return status;
}

/* ---- the loop ---- */

static int64_t thread_time_ns(void)
{
    struct timespec own;
    if (clock_gettime(CLOCK_THREAD_CPUTIME_ID, &own) != 0) return 0;
    return (int64_t)own.tv_sec * 1000000000 + own.tv_nsec;
}

/* Takes what is new, all of it if it is time for that. Whether to look again by itself: after nothing, news wake. */
static void handle_news(serve_server *s, bool all)
{
    serve_run *next, *run = serve_runner_take_news(s->runner, all);
    if (all) s->paces = run != NULL;
    for (; run; run = next) {
        next = run->next_taken;
        serve_job_on_news(run);
    }
}

/* When what can wait is looked at again. */
static void set_pace(serve_server *s)
{
    const int64_t used = thread_time_ns();
    const double wait = (double)(used - s->used_ns) / HTTP_SHARE, max = s->options->delay_seconds * 1e9;
    s->used_ns = used;
    s->news_ns = lf_clock_ns() + (int64_t)(wait < max ? wait : max);
}

/* Milliseconds until libmicrohttpd or the loop itself has something to do. */
static int wait_ms(const serve_server *s)
{
    MHD_UNSIGNED_LONG_LONG ms = TICK_MS;
    if (MHD_get_timeout(s->daemon, &ms) != MHD_YES || ms > TICK_MS) ms = TICK_MS;
    if (!s->paces) return (int)ms;
    const int64_t due_ms = (s->news_ns - lf_clock_ns()) / 1000000;
    return due_ms < 0 ? 0 : due_ms < (int64_t)ms ? (int)due_ms : (int)ms;
}

static void turn(serve_server *s, const sigset_t *outside)
{
    struct epoll_event events[EVENTS_MAX];
    const int n = epoll_pwait(s->epoll_fd, events, EVENTS_MAX, wait_ms(s), outside);
    bool has_news = false;
    for (int i = 0; i < n; i++) {
        if (events[i].data.ptr == &s->runner)
            has_news = true;
        else if (events[i].data.ptr != &s->daemon)
            client_gone(events[i].data.ptr);
    }
    const bool is_due = !s->paces || s->news_ns - lf_clock_ns() < 1000000;
    if (has_news || (s->paces && is_due)) handle_news(s, is_due);
    (void)MHD_run(s->daemon);
    if (s->paces && is_due) set_pace(s);
}

static void begin_draining(serve_server *s)
{
    s->draining = true;
    (void)MHD_quiesce_daemon(s->daemon);
    (void)close(s->listen_fd);
    s->listen_fd = -1;
}

static bool has_jobs(const serve_server *s)
{
    for (const serve_exchange *x = s->exchanges; x; x = x->next)
        if (x->job) return true;
    return false;
}

lf_status serve_server_run(serve_server *s, const volatile sig_atomic_t *stop, const sigset_t *outside,
                           lf_error *err)
{
    int64_t ticked_ns = 0, drained_ns = 0, cancelled_ns = 0;
    for (;;) {
        turn(s, outside);
        if (serve_runner_phase(s->runner, err) == SERVE_FAILED) return err->status;
        if (seconds_since(ticked_ns) * 1e3 > TICK_MS) {
            ticked_ns = lf_clock_ns();
            check_deadlines(s);
            keep_streams_alive(s);
        }
        if (*stop && !s->draining) {
            begin_draining(s);
            drained_ns = lf_clock_ns();
        }
        if (!s->draining) continue;
        if (!has_jobs(s)) return LF_OK;
        if (cancelled_ns && seconds_since(cancelled_ns) > FLUSH_SECONDS) return LF_OK;
        if (!cancelled_ns && seconds_since(drained_ns) > s->options->grace_seconds) {
            cancelled_ns = lf_clock_ns();
            for (serve_exchange *x = s->exchanges; x; x = x->next)
                if (x->job) serve_job_cancel(x->job);
        }
    }
}

void serve_server_close(serve_server *s)
{
    for (serve_exchange *x = s->exchanges; x; x = x->next) {
        x->gone = true;
        serve_exchange_wake(x);
    }
    if (s->daemon) {
        (void)MHD_run(s->daemon);
        MHD_stop_daemon(s->daemon);
    }
    if (s->listen_fd >= 0) (void)close(s->listen_fd);
    if (s->epoll_fd >= 0) (void)close(s->epoll_fd);
}
