#include "serving.h"

#include "testing.h"
#include "tiny_model.h"

#include "base/clock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    ARGS_MAX = 32,
    SERVERS_MAX = 8,
    SECONDS_MAX = TESTS_SHORT ? 400 : 120,
    METRIC_SECONDS = TESTS_SHORT ? 100 : 30,
};

static char binary[1024];
static char *temp_dir;
static char model_dir[512];
static lf_engine *engine;
static pid_t running[SERVERS_MAX]; /* 0: none */

/* ---- starting ---- */

static int open_log(const launch *how, int pipe_end)
{
    return how->log_path ? open(how->log_path, O_WRONLY) : pipe_end;
}

static void become_server(const launch *how, int pipe_end)
{
    char ctx[16], port[16];
    const char *argv[ARGS_MAX + 12] = {
        "lookfar", "serve", "-m", how->model ? how->model : model_dir, "-t", "1", "-c", ctx, "--port", port};
    int n = 10;
    (void)snprintf(ctx, sizeof ctx, "%d", SERVING_CTX);
    (void)snprintf(port, sizeof port, "%d", how->port);
    if (!how->log_path) argv[n++] = "-q";
    for (int i = 0; how->args[i] && i < ARGS_MAX; i++) argv[n++] = how->args[i];
    if (dup2(open_log(how, pipe_end), STDERR_FILENO) < 0) _exit(99);
    (void)signal(SIGINT, SIG_DFL);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)alarm(SECONDS_MAX); /* a server that hangs is killed */
    const struct rlimit memory = {.rlim_cur = how->memory, .rlim_max = how->memory};
    if (how->memory > 0 && setrlimit(RLIMIT_AS, &memory) != 0) _exit(99);
    (void)execv(binary, (char *const *)(uintptr_t)argv);
    _exit(99);
}

static void remember(pid_t pid)
{
    int i = 0;
    while (i < SERVERS_MAX && running[i] != 0) i++;
    assert_true(i < SERVERS_MAX);
    running[i] = pid;
}

static void forget(pid_t pid)
{
    for (int i = 0; i < SERVERS_MAX; i++)
        if (running[i] == pid) running[i] = 0;
}

int reap_servers(void **state)
{
    (void)state;
    for (int i = 0; i < SERVERS_MAX; i++) {
        if (running[i] == 0) continue;
        (void)kill(running[i], SIGKILL);
        (void)waitpid(running[i], NULL, 0);
        running[i] = 0;
    }
    return 0;
}

/* A server says where it listens in its first line. */
static void read_port(server *s)
{
    char line[512];
    while (s->port == 0) {
        if (!fgets(line, sizeof line, s->log)) fail_msg("the server did not start");
        (void)sscanf(line, "listening on http://127.0.0.1:%d", &s->port);
    }
}

/* Whether something listens on a port yet. */
static bool listens(int port)
{
    const struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const bool ok = connect(fd, (const struct sockaddr *)&address, sizeof address) == 0;
    (void)close(fd);
    return ok;
}

server start_launch(const launch *how)
{
    server s = {.port = how->port};
    int pipe_fds[2];
    if (binary[0] == '\0') {
        print_message("skipped: the program is not built (LOOKFAR_BIN names it)\n");
        skip();
    }
    assert_int_equal(pipe2(pipe_fds, O_CLOEXEC), 0);
    s.pid = fork();
    assert_true(s.pid >= 0);
    if (s.pid == 0) become_server(how, pipe_fds[1]);
    remember(s.pid);
    (void)close(pipe_fds[1]);
    s.log = fdopen(pipe_fds[0], "r");
    assert_non_null(s.log);
    read_port(&s);
    while (!listens(s.port)) {
        if (waitpid(s.pid, NULL, WNOHANG) == s.pid) fail_msg("the server did not start");
        (void)usleep(10000);
    }
    for (int status = 503; status == 503;) { /* it listens before the model is loaded */
        answer a = get(&s, "/health");
        status = a.status;
        free_answer(&a);
        if (status == 503) (void)usleep(10000);
    }
    return s;
}

int free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (const struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
    (void)close(fd);
    return ntohs(address.sin_port);
}

/* ---- stopping ---- */

/* What a server said before it ended: why it did, or what a sanitizer found. */
static void print_log(FILE *log)
{
    char line[1024];
    while (fgets(line, sizeof line, log)) print_message("server: %s", line);
}

int stop_server(server *s)
{
    int status;
    (void)kill(s->pid, SIGTERM);
    assert_int_equal(waitpid(s->pid, &status, 0), s->pid);
    forget(s->pid);
    const bool ended = WIFEXITED(status);
    if (!ended || WEXITSTATUS(status) != 0) print_log(s->log);
    (void)fclose(s->log);
    if (!ended) fail_msg("the server was ended by signal %d", WTERMSIG(status));
    return WEXITSTATUS(status);
}

void stop_cleanly(server *s)
{
    assert_int_equal(stop_server(s), 0);
}

/* ---- asking ---- */

answer call_with(const server *s, const char *method, const char *path, const char *headers, const char *body)
{
    return call_port(s->port, method, path, headers, body);
}

answer post(const server *s, const char *path, const char *body)
{
    return call_with(s, "POST", path, "Content-Type: application/json\r\n", body);
}

answer get(const server *s, const char *path)
{
    return call_with(s, "GET", path, "", NULL);
}

double metric(const server *s, const char *name)
{
    answer a = get(s, "/metrics");
    double sum = 0;
    expect_status(&a, 200);
    for (const char *line = a.body.data; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, name, strlen(name)) != 0) continue;
        sum += strtod(line + strcspn(line, " \n"), NULL);
    }
    free_answer(&a);
    return sum;
}

void wait_metric(const server *s, const char *name, double wanted)
{
    const int64_t start = lf_clock_ns();
    for (double found; (found = metric(s, name)) != wanted; (void)usleep(10000))
        if ((double)(lf_clock_ns() - start) * 1e-9 > METRIC_SECONDS)
            fail_msg("%s: found %g, expected %g", name, found, wanted);
}

char *expected_text(const char *prompt, float temperature, uint64_t seed, int n_predict)
{
    lf_request_params p;
    lf_request_params_init(&p);
    p.temperature = temperature;
    p.seed = seed;
    p.n_predict = n_predict;
    return expected_answer(prompt, &p);
}

char *expected_answer(const char *prompt, const lf_request_params *params)
{
    lf_error err;
    lf_request *r;
    lf_request_params p = *params;
    int32_t *ids;
    size_t len;
    assert_ok(lf_tokenize(engine, prompt, strlen(prompt), true, true, &ids, &p.n_ids, &err), &err);
    p.ids = ids;
    assert_ok(lf_request_submit(&r, engine, &p, &err), &err);
    assert_ok(lf_request_wait(r, &err), &err);
    const char *text = lf_request_text(r, &len);
    char *copy = lf_strndup(text, len);
    assert_non_null(copy);
    lf_request_free(r);
    free(ids);
    return copy;
}

/* ---- the model ---- */

lf_engine *serving_engine(void)
{
    return engine;
}

const char *serving_model(void)
{
    return model_dir;
}

const char *serving_file(const char *name)
{
    static char path[512];
    (void)snprintf(path, sizeof path, "%s/%s", temp_dir, name);
    return path;
}

int begin_serving(void **state)
{
    (void)state;
    lf_error err;
    lf_engine_params params;
    find_program(binary, sizeof binary);
    temp_dir = make_temp_dir();
    (void)snprintf(model_dir, sizeof model_dir, "%s/tiny", temp_dir);
    tiny_model_write(model_dir, TINY_VOCAB);
    lf_engine_params_init(&params);
    params.model_path = model_dir;
    params.n_ctx = SERVING_CTX;
    params.n_threads = 1;
    assert_ok(lf_engine_open(&engine, &params, &err), &err);
    return 0;
}

int end_serving(void **state)
{
    (void)reap_servers(state);
    lf_engine_close(engine);
    remove_tree(temp_dir);
    free(temp_dir);
    return 0;
}
