/* Connections, exchanges, and the event loop that they live in. */
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
    HEAD_BYTES_MAX = 32 << 10, /* of a request's head, and of libmicrohttpd's own needs */
    SOCKET_BYTES = 256 << 10,  /* asked of the kernel, which would take megabytes for such a client, too */
    BODY_BYTES_PER_SECOND = 16 << 10, /* slower clients run out of time */
    EVENTS_MAX = 64,
    TICK_MS = 500,
    FLUSH_SECONDS = 2, /* for last answers to leave after the grace time */
};

/* Of a processor's time: what the thread takes where it can choose. */
#define HTTP_SHARE 0.005

static double seconds_since(int64_t ns)
{
    return (double)(lf_clock_ns() - ns) * 1e-9;
}

/* ---- an exchange ---- */

/* The client's id if it is one for a log, else ours. */
static void set_id(serve_exchange *x)
{
    const char *id = serve_header(x, "X-Request-Id");
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
    if (!serve_check_head(x, &x->error)) x->route = NULL;
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
    return serve_answer_give(x);
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
        if (c->since_ns && seconds_since(c->since_ns) > allowed) serve_client_hang_up(c);
    }
}

static void keep_streams_alive(const serve_server *s)
{
    for (serve_exchange *x = s->exchanges; x; x = x->next)
        if (x->streams && seconds_since(x->fed_ns) >= s->options->keepalive_seconds) serve_stream_comment(x);
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
