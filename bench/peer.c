/* The peer's standard input and output are one end of a socket pair: unlike a pipe, writing to a peer that has ended is an
 * error and not a signal. */
#include "peer.h"

#include "base/clock.h"
#include "base/mem.h"
#include "file/json.h"
#include "token/utf8.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    ANSWER_BYTES_MAX = 1 << 16,
    ANSWER_SECONDS_MAX = 3600,
    POLL_MS = 200, /* between looks at whether the user wants to stop */
    SETTLE_US = 20 * 1000,
    REAP_ROUNDS = 100, /* of 10 ms, for a peer that closed its output to end */
    REAP_US = 10 * 1000,
};

struct bench_peer {
    const bench_hooks *hooks;
    char *command;
    char name[64];
    pid_t pid; /* 0 once it is known to have ended */
    int fd;
    lf_bytes answer; /* the line being received */
};

static int spawn_shell(pid_t *pid, const char *command, int fd)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attr;
    char *const argv[] = {(char *)"sh", (char *)"-c", (char *)command, NULL};
    int code = posix_spawn_file_actions_init(&actions);
    if (code != 0) return code;
    code = posix_spawnattr_init(&attr);
    if (code != 0) goto free_actions;
    if ((code = posix_spawn_file_actions_adddup2(&actions, fd, STDIN_FILENO)) == 0 &&
        (code = posix_spawn_file_actions_adddup2(&actions, fd, STDOUT_FILENO)) == 0 &&
        (code = posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETPGROUP)) == 0)
        code = posix_spawn(pid, "/bin/sh", &actions, &attr, argv, environ);
    (void)posix_spawnattr_destroy(&attr);
free_actions:
    (void)posix_spawn_file_actions_destroy(&actions);
    return code;
}

lf_status bench_peer_start(bench_peer **out, const char *command, const bench_hooks *hooks, lf_error *err)
{
    int fds[2] = {-1, -1};
    *out = NULL;
    bench_peer *p = calloc(1, sizeof *p);
    if (!p) return lf_fail_memory(err, "a peer", sizeof *p);
    *p = (bench_peer){.hooks = hooks, .name = "peer", .fd = -1};
    p->command = lf_strndup(command, strlen(command));
    if (!p->command) {
        bench_peer_stop(p);
        return lf_fail_memory(err, "a peer", strlen(command));
    }
    int code = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0 ? 0 : errno;
    if (code == 0) {
        p->fd = fds[0];
        code = spawn_shell(&p->pid, command, fds[1]);
        (void)close(fds[1]);
    }
    if (code != 0) {
        p->pid = 0;
        bench_peer_stop(p);
        return lf_fail(err, code == ENOMEM ? LF_ENOMEM : LF_EIO, "peer: %s: cannot start: %s", command,
                       strerror(code));
    }
    *out = p;
    return LF_OK;
}

void bench_peer_stop(bench_peer *p)
{
    if (!p) return;
    if (p->fd >= 0) (void)close(p->fd);
    if (p->pid > 0) {
        (void)kill(-p->pid, SIGKILL); /* it has nothing to save */
        while (waitpid(p->pid, NULL, 0) < 0 && errno == EINTR) continue;
    }
    lf_bytes_free(&p->answer);
    free(p->command);
    free(p);
}

const char *bench_peer_name(const bench_peer *p)
{
    return p->name;
}

/* The peer closed its end: says how it ended. */
static lf_status fail_ended(bench_peer *p, lf_error *err)
{
    int code = 0;
    pid_t ended = 0;
    for (int i = 0; i < REAP_ROUNDS && ended == 0; i++) {
        ended = waitpid(p->pid, &code, WNOHANG);
        if (ended == 0) (void)usleep(REAP_US);
    }
    if (ended <= 0)
        return lf_fail(err, LF_EIO, "peer: %s: closed its output, expected an answer", p->command);
    p->pid = 0;
    return lf_fail(err, LF_EIO, "peer: %s: ended with %s %d, expected an answer", p->command,
                   WIFSIGNALED(code) ? "signal" : "status",
                   WIFSIGNALED(code) ? WTERMSIG(code) : WEXITSTATUS(code));
}

static lf_status send_line(bench_peer *p, const char *line, size_t len, lf_error *err)
{
    while (len > 0) {
        const ssize_t n = send(p->fd, line, len, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return fail_ended(p, err);
        line += n;
        len -= (size_t)n;
    }
    return LF_OK;
}

/* Waits until there is something to read: in short steps, so that the user can stop. */
static lf_status wait_readable(bench_peer *p, lf_error *err)
{
    const int64_t deadline = lf_clock_ns() + (int64_t)ANSWER_SECONDS_MAX * 1000000000;
    struct pollfd ready = {.fd = p->fd, .events = POLLIN};
    while (lf_clock_ns() < deadline) {
        if (p->hooks->canceled(p->hooks->cookie)) return lf_fail(err, LF_ECANCELED, "interrupted");
        const int n = poll(&ready, 1, POLL_MS);
        if (n > 0) return LF_OK;
        if (n < 0 && errno != EINTR)
            return lf_fail(err, LF_EIO, "peer: %s: cannot wait for it: %s", p->command, strerror(errno));
    }
    return lf_fail(err, LF_EIO, "peer: %s: no answer in %d s", p->command, ANSWER_SECONDS_MAX);
}

/* Receives one line into p->answer, without its end. */
static lf_status receive_line(bench_peer *p, lf_error *err)
{
    char chunk[4096];
    p->answer.len = 0;
    for (;;) {
        const lf_status status = wait_readable(p, err);
        if (status != LF_OK) return status;
        const ssize_t n = recv(p->fd, chunk, sizeof chunk, 0);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return fail_ended(p, err);
        const char *end = memchr(chunk, '\n', (size_t)n);
        const size_t len = end ? (size_t)(end - chunk) : (size_t)n;
        if (p->answer.len + len > ANSWER_BYTES_MAX)
            return lf_fail(err, LF_EFORMAT,
                           "peer: %s: found an answer of more than %d bytes, expected a line", p->command,
                           ANSWER_BYTES_MAX);
        if (!lf_bytes_append(&p->answer, chunk, len)) return lf_fail_memory(err, "an answer", len);
        if (end) return LF_OK;
    }
}

static lf_status send_request(bench_peer *p, const bench_request *r, lf_error *err)
{
    char test[BENCH_TEST_NAME_MAX];
    lf_bytes line = {0};
    lf_status status = LF_OK;
    bench_test_name(test, &r->test);
    if (lf_utf8_valid_prefix(r->model, strlen(r->model)) != strlen(r->model))
        return lf_fail(err, LF_EINVAL, "peer: the path %s is not UTF-8, which JSON needs", r->model);
    json_t *object = json_pack("{s:s, s:s, s:i, s:i, s:i, s:s}", "model", r->model, "test", test, "depth",
                               r->depth, "batch", r->batch, "threads", r->threads, "kv_type", r->kv_type);
    char *text = object ? json_dumps(object, JSON_COMPACT) : NULL;
    if (!text || !lf_bytes_printf(&line, "%s\n", text)) {
        status = lf_fail_memory(err, "a request", sizeof *r);
        goto done;
    }
    LF_TRY(send_line(p, line.data, line.len, err));
done:
    lf_bytes_free(&line);
    free(text);
    json_decref(object);
    return status;
}

/* Takes the seconds and the peer's name out of an answer. */
static lf_status read_answer(bench_peer *p, double *seconds, lf_error *err)
{
    json_t *object = NULL;
    const char *line = p->answer.data ? p->answer.data : "";
    lf_status status = lf_json_parse(&object, line, p->answer.len, p->command, err);
    if (status == LF_ENOMEM) return status;
    const char *error = json_string_value(json_object_get(object, "error"));
    const char *engine = json_string_value(json_object_get(object, "engine"));
    *seconds = json_number_value(json_object_get(object, "seconds"));
    if (error)
        status = lf_fail(err, LF_EFORMAT, "peer: %s: %s", p->command, error);
    else if (!(*seconds > 0))
        status = lf_fail(err, LF_EFORMAT,
                         "peer: %s: found \"%.100s\", expected a JSON object with \"seconds\" above 0",
                         p->command, line);
    else if (engine)
        (void)snprintf(p->name, sizeof p->name, "%s", engine);
    json_decref(object);
    return status;
}

lf_status bench_peer_time(bench_peer *p, const bench_request *request, double *seconds, lf_error *err)
{
    lf_status status = LF_OK;
    LF_TRY(send_request(p, request, err));
    LF_TRY(receive_line(p, err));
    LF_TRY(read_answer(p, seconds, err));
    (void)usleep(SETTLE_US); /* its threads spin for some milliseconds before they sleep */
done:
    return status;
}
