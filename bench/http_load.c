#include "http_load.h"

#include "base/clock.h"
#include "base/mem.h"

#include <errno.h>
#include <math.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS_MAX = 64, TICK_MS = 20 };

/* ---- plain calls ---- */

lf_status bench_parse_server(bench_server *out, const char *url, lf_error *err)
{
    static const char scheme[] = "http://";
    if (strncmp(url, scheme, strlen(scheme)) != 0)
        return lf_fail(err, LF_EINVAL, "server: found \"%s\", expected http://HOST:PORT", url);
    const char *host = url + strlen(scheme), *colon = strrchr(host, ':');
    const size_t host_len = colon ? (size_t)(colon - host) : strlen(host);
    const size_t port_len = colon ? strspn(colon + 1, "0123456789") : 0;
    if (host_len == 0 || host_len >= sizeof out->host || port_len >= sizeof out->port ||
        (colon && (port_len == 0 || (colon[1 + port_len] && colon[1 + port_len] != '/'))))
        return lf_fail(err, LF_EINVAL, "server: found \"%s\", expected http://HOST:PORT", url);
    (void)snprintf(out->host, sizeof out->host, "%.*s", (int)host_len, host);
    (void)snprintf(out->port, sizeof out->port, "%.*s", (int)port_len, colon ? colon + 1 : "");
    if (port_len == 0) (void)snprintf(out->port, sizeof out->port, "80");
    return LF_OK;
}

/* The text of a request; data is NULL without memory. */
static lf_bytes request_text(const bench_server *server, const char *path, const json_t *body)
{
    lf_bytes text = {0};
    char *dumped = body ? json_dumps(body, JSON_COMPACT) : NULL;
    bool ok = (!body || dumped) && lf_bytes_printf(&text, "%s %s HTTP/1.0\r\nHost: %s:%s\r\n",
                                                   body ? "POST" : "GET", path, server->host, server->port);
    if (server->key) ok = ok && lf_bytes_printf(&text, "Authorization: Bearer %s\r\n", server->key);
    if (body)
        ok = ok && lf_bytes_printf(&text, "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
                                   strlen(dumped), dumped);
    else
        ok = ok && lf_bytes_printf(&text, "\r\n");
    free(dumped);
    if (!ok) lf_bytes_free(&text);
    return text;
}

/* A socket that is connected, or, with SOCK_NONBLOCK in flags, on its way; -1 and errno. */
static int connect_to(const struct addrinfo *address, int flags)
{
    const int fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
    if (fd < 0) return -1;
    if (connect(fd, address->ai_addr, address->ai_addrlen) == 0 || errno == EINPROGRESS) return fd;
    const int why = errno;
    (void)close(fd);
    errno = why;
    return -1;
}

static lf_status resolve(struct addrinfo **out, const bench_server *server, lf_error *err)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    const int why = getaddrinfo(server->host, server->port, &hints, out);
    if (why == 0) return LF_OK;
    return lf_fail(err, LF_EIO, "%s: cannot find the address: %s", server->host, gai_strerror(why));
}

static bool exchange(int fd, const lf_bytes *request, lf_bytes *answer)
{
    char block[4096];
    ssize_t n;
    for (size_t sent = 0; sent < request->len; sent += (size_t)n) {
        n = send(fd, request->data + sent, request->len - sent, MSG_NOSIGNAL);
        if (n <= 0) return false;
    }
    while ((n = recv(fd, block, sizeof block, 0)) > 0)
        if (!lf_bytes_append(answer, block, (size_t)n)) return false;
    return n == 0;
}

static int status_of(const char *head)
{
    int status = 0;
    return sscanf(head, "HTTP/1.%*d %d", &status) == 1 ? status : 0;
}

/* An answer with status 200; its body begins at *begin. */
static lf_status call(lf_bytes *answer, size_t *begin, const bench_server *server, const char *path,
                      const json_t *body, lf_error *err)
{
    lf_status status = LF_OK;
    struct addrinfo *address = NULL;
    lf_bytes text = {0};
    int fd = -1;
    LF_TRY(resolve(&address, server, err));
    text = request_text(server, path, body);
    if (!text.data) LF_TRY(lf_fail_memory(err, "a request", 0));
    fd = connect_to(address, 0);
    if (fd < 0 || !exchange(fd, &text, answer))
        LF_TRY(lf_fail(err, LF_EIO, "http://%s:%s%s: %s", server->host, server->port, path, strerror(errno)));
    const char *end = answer->data ? strstr(answer->data, "\r\n\r\n") : NULL;
    const int code = end ? status_of(answer->data) : 0;
    if (code == 200)
        *begin = (size_t)(end + 4 - answer->data);
    else
        status = lf_fail(err, LF_EIO, "http://%s:%s%s: found status %d, expected 200", server->host,
                         server->port, path, code);
done:
    if (fd >= 0) (void)close(fd);
    lf_bytes_free(&text);
    if (address) freeaddrinfo(address);
    return status;
}

lf_status bench_http_call(json_t **out, const bench_server *server, const char *path, const json_t *body,
                          lf_error *err)
{
    lf_bytes answer = {0};
    size_t begin;
    *out = NULL;
    lf_status status = call(&answer, &begin, server, path, body, err);
    if (status == LF_OK) *out = json_loads(answer.data + begin, 0, NULL);
    if (status == LF_OK && !*out)
        status = lf_fail(err, LF_EIO, "http://%s:%s%s: expected JSON", server->host, server->port, path);
    lf_bytes_free(&answer);
    return status;
}

lf_status bench_http_get(char **out, const bench_server *server, const char *path, lf_error *err)
{
    lf_bytes answer = {0};
    size_t begin;
    *out = NULL;
    lf_status status = call(&answer, &begin, server, path, NULL, err);
    if (status == LF_OK) *out = lf_strndup(answer.data + begin, answer.len - begin);
    if (status == LF_OK && !*out) status = lf_fail_memory(err, path, answer.len);
    lf_bytes_free(&answer);
    return status;
}

/* ---- load ---- */

/* One request on its way. */
typedef struct flight {
    int fd; /* -1: not begun, or over */
    lf_bytes text, answer;
    size_t sent, parsed; /* of text; of answer: whole events */
    int64_t due_ns, first_ns, last_ns;
    int n_events, n_tokens; /* n_tokens: as the usage says, else 0 */
    bool begun, over, failed;
    bool finished; /* the server said why it ended */
} flight;

typedef struct loader {
    const bench_http_load *load;
    struct addrinfo *address;
    flight *flights; /* (load->n) */
    int epoll_fd, n_begun, n_over;
} loader;

/* splitmix64, as a number in (0, 1]. */
static double next_uniform(uint64_t *state)
{
    uint64_t z = *state += 0x9E3779B97F4A7C15;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9;
    z = (z ^ z >> 27) * 0x94D049BB133111EB;
    z ^= z >> 31;
    return ((double)(z >> 11) + 1) * 0x1p-53;
}

static void end_flight(loader *l, flight *f, bool failed)
{
    if (f->fd >= 0) (void)close(f->fd); /* and it leaves the epoll */
    f->fd = -1;
    f->over = true;
    f->failed = failed;
    l->n_over++;
    lf_bytes_free(&f->text);
    lf_bytes_free(&f->answer);
}

static void begin_flight(loader *l, flight *f)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT, .data.ptr = f};
    f->begun = true;
    l->n_begun++;
    f->fd = connect_to(l->address, SOCK_NONBLOCK);
    if (f->fd < 0 || epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, f->fd, &event) != 0) end_flight(l, f, true);
}

/* The value of the first member of a name in an event; NULL: there is none. */
static const char *find_value(const char *data, size_t len, const char *name)
{
    char member[32];
    (void)snprintf(member, sizeof member, "\"%s\":", name);
    const char *found = memmem(data, len, member, strlen(member));
    return found ? found + strlen(member) + strspn(found + strlen(member), " ") : NULL;
}

/* An event: text, with the last of it a reason, or at the end the usage. */
static void read_event(flight *f, const char *data, size_t len, int64_t now)
{
    const char *count = find_value(data, len, "completion_tokens"),
               *finish = find_value(data, len, "finish_reason"), *text = find_value(data, len, "text");
    if (count) f->n_tokens = (int)strtol(count, NULL, 10);
    if (finish) f->finished = *finish == '"';
    if (!text || strncmp(text, "\"\"", 2) == 0) return;
    if (f->n_events++ == 0) f->first_ns = now;
    f->last_ns = now;
}

static void parse_answer(flight *f, int64_t now)
{
    if (f->parsed == 0) {
        const char *end = strstr(f->answer.data, "\r\n\r\n");
        if (!end) return;
        f->failed = status_of(f->answer.data) != 200;
        f->parsed = (size_t)(end + 4 - f->answer.data);
    }
    for (;;) {
        const char *data = f->answer.data + f->parsed, *end = strstr(data, "\n\n");
        const char *crlf = strstr(data, "\r\n\r\n");
        const bool is_crlf = crlf && (!end || crlf < end);
        if (is_crlf) end = crlf;
        if (!end) return;
        read_event(f, data, (size_t)(end - data), now);
        f->parsed = (size_t)(end - f->answer.data) + (is_crlf ? 4 : 2);
    }
}

static void send_more(loader *l, flight *f)
{
    const ssize_t n = send(f->fd, f->text.data + f->sent, f->text.len - f->sent, MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN && errno != EINTR) {
        end_flight(l, f, true);
        return;
    }
    f->sent += n > 0 ? (size_t)n : 0;
    if (f->sent < f->text.len) return;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = f};
    (void)epoll_ctl(l->epoll_fd, EPOLL_CTL_MOD, f->fd, &event);
}

static void read_more(loader *l, flight *f, int64_t now)
{
    char block[1 << 14];
    const ssize_t n = recv(f->fd, block, sizeof block, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n <= 0) {
        end_flight(l, f, n < 0 || f->failed || !f->finished || f->n_events == 0);
    } else if (lf_bytes_append(&f->answer, block, (size_t)n)) {
        parse_answer(f, now);
    } else {
        end_flight(l, f, true);
    }
}

/* Begins those whose time has come and gives up those that take too long. Returns milliseconds to wait. */
static int tend_flights(loader *l, int64_t now)
{
    const bench_http_load *load = l->load;
    while (l->n_begun < load->n && l->flights[l->n_begun].due_ns <= now)
        begin_flight(l, &l->flights[l->n_begun]);
    for (int i = 0; i < l->n_begun; i++) {
        flight *f = &l->flights[i];
        if (!f->over && (double)(now - f->due_ns) * 1e-9 > load->timeout) end_flight(l, f, true);
    }
    if (l->n_begun == load->n) return TICK_MS;
    const int64_t ms = (l->flights[l->n_begun].due_ns - now) / 1000000;
    return ms < TICK_MS ? (int)ms : TICK_MS;
}

static lf_status fly(loader *l, lf_error *err)
{
    struct epoll_event events[EVENTS_MAX];
    const bench_http_load *load = l->load;
    while (l->n_over < load->n) {
        if (load->canceled(load->cookie)) return lf_fail(err, LF_ECANCELED, "interrupted");
        const int n = epoll_wait(l->epoll_fd, events, EVENTS_MAX, tend_flights(l, lf_clock_ns()));
        if (n < 0 && errno != EINTR) return lf_fail(err, LF_EIO, "the event loop: %s", strerror(errno));
        const int64_t now = lf_clock_ns();
        for (int i = 0; i < n; i++) {
            flight *f = events[i].data.ptr;
            if (!f->over && f->sent < f->text.len && (events[i].events & EPOLLOUT)) send_more(l, f);
            if (!f->over && (events[i].events & ~(unsigned)EPOLLOUT)) read_more(l, f, now);
        }
        load->on_progress(load->cookie, "serving", (double)l->n_over / load->n);
    }
    return LF_OK;
}

/* ---- results ---- */

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The smallest value that at least `share` of all do not exceed; NAN of none. */
static double percentile(const double *sorted, int n, double share)
{
    const int i = (int)ceil(share * n) - 1;
    return n == 0 ? NAN : sorted[i > 0 ? i : 0];
}

static void summarize(bench_http_result *out, const loader *l, double *ttft, double *tpot)
{
    const bench_http_load *load = l->load;
    int64_t begin = INT64_MAX, end = 0;
    int n = 0, n_tpot = 0, n_good = 0;
    *out = (bench_http_result){0};
    for (int i = 0; i < load->n; i++) {
        const flight *f = &l->flights[i];
        if (f->due_ns < begin) begin = f->due_ns;
        if (f->failed) {
            out->errors++;
            continue;
        }
        const int n_tokens = f->n_tokens > 0 ? f->n_tokens : f->n_events;
        const double first = (double)(f->first_ns - f->due_ns) * 1e-9,
                     each = n_tokens > 1 ? (double)(f->last_ns - f->first_ns) * 1e-9 / (n_tokens - 1) : 0;
        ttft[n++] = first;
        if (n_tokens > 1) tpot[n_tpot++] = each;
        out->n_tokens += n_tokens;
        n_good += first <= load->ttft_goal && each <= load->tpot_goal;
        if (f->last_ns > end) end = f->last_ns;
    }
    qsort(ttft, (size_t)n, sizeof *ttft, compare);
    qsort(tpot, (size_t)n_tpot, sizeof *tpot, compare);
    out->seconds = end > begin ? (double)(end - begin) * 1e-9 : NAN;
    out->ttft_p50 = percentile(ttft, n, 0.5);
    out->ttft_p95 = percentile(ttft, n, 0.95);
    out->ttft_p99 = percentile(ttft, n, 0.99);
    out->tpot_p50 = percentile(tpot, n_tpot, 0.5);
    out->tpot_p95 = percentile(tpot, n_tpot, 0.95);
    out->tpot_p99 = percentile(tpot, n_tpot, 0.99);
    out->throughput = out->n_tokens / out->seconds;
    out->goodput = n_good / out->seconds;
}

static lf_status make_flights(loader *l, lf_error *err)
{
    const bench_http_load *load = l->load;
    uint64_t rng = load->seed;
    l->flights = calloc((size_t)load->n + 1, sizeof *l->flights);
    if (!l->flights) return lf_fail_memory(err, "requests", (size_t)load->n * sizeof *l->flights);
    for (int i = 0; i < load->n; i++) l->flights[i].fd = -1;
    double at = 0;
    for (int i = 0; i < load->n; i++) {
        flight *f = &l->flights[i];
        f->text = request_text(load->server, "/v1/completions", load->bodies[i]);
        if (!f->text.data) return lf_fail_memory(err, "a request", 0);
        f->due_ns = (int64_t)(at * 1e9); /* from the start, which is added below */
        if (load->rate > 0) at -= log(next_uniform(&rng)) / load->rate;
    }
    const int64_t start = lf_clock_ns();
    for (int i = 0; i < load->n; i++) l->flights[i].due_ns += start;
    return LF_OK;
}

lf_status bench_http_run(bench_http_result *out, const bench_http_load *load, lf_error *err)
{
    lf_status status = LF_OK;
    loader l = {.load = load, .epoll_fd = epoll_create1(EPOLL_CLOEXEC)};
    double *times = calloc(2 * (size_t)load->n + 1, sizeof *times);
    if (l.epoll_fd < 0) LF_TRY(lf_fail(err, LF_EIO, "the event loop: %s", strerror(errno)));
    if (!times) LF_TRY(lf_fail_memory(err, "times", 2 * (size_t)load->n * sizeof *times));
    LF_TRY(resolve(&l.address, load->server, err));
    LF_TRY(make_flights(&l, err));
    LF_TRY(fly(&l, err));
    summarize(out, &l, times, times + load->n);
done:
    for (int i = 0; l.flights && i < load->n; i++)
        if (!l.flights[i].over) end_flight(&l, &l.flights[i], true);
    free(l.flights);
    free(times);
    if (l.address) freeaddrinfo(l.address);
    if (l.epoll_fd >= 0) (void)close(l.epoll_fd);
    return status;
}
