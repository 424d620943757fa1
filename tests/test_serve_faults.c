/* lookfar serve among clients that break off, dawdle, flood or send nonsense, and on a machine that fails it: it goes on, the others are
 * unharmed, and nothing of what is over stays. */
#include "testing.h"

#include "serving.h"
#include "tiny_model.h"

#include "base/clock.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define CANCELLED "lookfar:request_success_total{model_name=\"tiny\",finished_reason=\"cancel\"}"

static void test_too_much(void **state)
{
    (void)state;
    server s = start_server("--max-body", "1");
    const size_t len = 3 << 20;
    char *body = malloc(len + 1), head[256];
    assert_non_null(body);
    memset(body, 'a', len);
    body[len] = '\0';
    /* a prompt beyond the context */
    lf_bytes longer = {0};
    assert_true(lf_bytes_printf(&longer, "{\"prompt\":\"%.*s\"}", SERVING_CTX + 1, body));
    answer a = post(&s, "/v1/completions", longer.data);
    expect_status(&a, 400);
    assert_string_equal(text_at(a.json, "error.code"), "context_length_exceeded");
    assert_non_null(strstr(text_at(a.json, "error.message"), "maximum context length is 2048 tokens"));
    free_answer(&a);
    /* a body beyond the limit, told beforehand, and as a surprise */
    longer.len = 0;
    assert_true(lf_bytes_printf(&longer, "%.*s", (1 << 20) + 1, body));
    a = post(&s, "/v1/completions", longer.data);
    expect_status(&a, 413);
    free_answer(&a);
    int fd = connect_to(s.port);
    assert_true(send_request(fd, "POST", "/tokenize", "Transfer-Encoding: chunked\r\n", NULL));
    (void)snprintf(head, sizeof head, "%x\r\n", (unsigned)longer.len);
    assert_true(send_text(fd, head, strlen(head)) && send_text(fd, longer.data, longer.len) &&
                send_text(fd, "\r\n0\r\n\r\n", 7));
    assert_true(read_answer(fd, &a));
    expect_status(&a, 413);
    free_answer(&a);
    (void)close(fd);
    /* far more: the connection is closed */
    fd = connect_to(s.port);
    assert_true(send_request(fd, "POST", "/tokenize", "Transfer-Encoding: chunked\r\n", NULL));
    (void)snprintf(head, sizeof head, "%zx\r\n", len);
    if (send_text(fd, head, strlen(head)) && send_text(fd, body, len)) assert_false(read_answer(fd, &a));
    (void)close(fd);
    /* a head beyond the limit */
    fd = connect_to(s.port);
    if (send_text(fd, "GET /health HTTP/1.1\r\nX-Long: ", 30) && send_text(fd, body, 1 << 17) &&
        read_head(fd, &a)) {
        assert_in_range(a.status, 400, 431);
        free_answer(&a);
    }
    (void)close(fd);
    lf_bytes_free(&longer);
    free(body);
    a = get(&s, "/health");
    expect_status(&a, 200);
    free_answer(&a);
    stop_cleanly(&s);
}

/* Whatever is sent, at whatever byte it ends, the server goes on. */
static void test_broken_requests(void **state)
{
    (void)state;
    static const char whole[] = "POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 49\r\n\r\n"
                                "{\"prompt\":\"a\",\"max_tokens\":40,\"ignore_eos\":true }";
    static const char *const nonsense[] = {
        "\r\n\r\n",
        "GET\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
        "{}\n\n",
        "GET / HTTP/9.9\r\n\r\n",
        "POST /tokenize HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        "POST /tokenize HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n"};
    server s = start_server("--timeout", "0.5");
    for (size_t n = 0; n <= strlen(whole); n += n < 60 ? 7 : 3) {
        const int fd = connect_to(s.port);
        assert_true(send_text(fd, whole, n));
        (void)close(fd);
    }
    for (size_t i = 0; i < sizeof nonsense / sizeof *nonsense; i++) {
        const int fd = connect_to(s.port);
        (void)send_text(fd, nonsense[i], strlen(nonsense[i]));
        (void)shutdown(fd, SHUT_WR);
        for (int c = 0; c >= 0;) c = read_byte(fd);
        (void)close(fd);
    }
    wait_metric(&s, "lookfar:num_requests_running", 0);
    answer a = post(&s, "/v1/completions", COMPLETION(""));
    expect_status(&a, 200);
    free_answer(&a);
    stop_cleanly(&s);
}

/* ---- clients that are gone, slow, or many ---- */

/* The server's answer to a prompt is the library's. */
static void expect_served(const server *s)
{
    char *expected = expected_text("all is well", 0.0f, 0, 30);
    answer a = post(s, "/v1/completions", "{\"prompt\":\"all is well\",\"max_tokens\":30,\"temperature\":0}");
    expect_status(&a, 200);
    assert_string_equal(text_at(a.json, "choices.0.text"), expected);
    free_answer(&a);
    free(expected);
}

/* A client that hangs up ends its request: while it is answered, and while it waits without a byte sent. */
static void test_gone_clients(void **state)
{
    (void)state;
    server s = start_server("--parallel", "1");
    for (int i = 0; i < 4; i++) {
        const bool streams = i % 2 == 0;
        const int fd = connect_to(s.port);
        answer a = {0};
        assert_true(send_request(fd, "POST", "/v1/completions", "",
                                 streams ? ENDLESS ",\"stream\":true}" : ENDLESS "}"));
        if (streams) {
            assert_true(read_head(fd, &a));
            assert_true(read_chunk(fd, &a.body));
        } else {
            wait_metric(&s, "lookfar:num_requests_running", 1);
        }
        (void)close(fd);
        free_answer(&a);
        wait_metric(&s, "lookfar:num_requests_running", 0);
        wait_metric(&s, CANCELLED, i + 1);
    }
    answer a = post(&s, "/v1/completions", COMPLETION(""));
    expect_status(&a, 200);
    free_answer(&a);
    stop_cleanly(&s);
}

/* Who does not send a request in time is disconnected; who waits for an answer is not. */
static void test_slow_clients(void **state)
{
    (void)state;
    server s = start_server("--timeout", "0.5");
    const int idle = connect_to(s.port), half = connect_to(s.port), body = connect_to(s.port);
    assert_true(send_text(half, "GET /health HT", 14));
    assert_true(send_text(body, "POST /tokenize HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{", 56));
    assert_int_equal(read_byte(idle), -1);
    while (read_byte(half) >= 0) continue;
    while (read_byte(body) >= 0) continue;
    (void)close(idle);
    (void)close(half);
    (void)close(body);
    stop_cleanly(&s);
}

/* Wherever in an answer a client goes, and however rudely, its request is over, and the next is answered. */
static void test_gone_at_any_byte(void **state)
{
    (void)state;
    static const struct linger reset = {.l_onoff = 1, .l_linger = 0};
    server s = start_server("--parallel", "1", "-b", "16"); /* prompts in many passes */
    char *prompt = malloc(SERVING_CTX);
    lf_bytes body = {0};
    assert_non_null(prompt);
    memset(prompt, 'a', SERVING_CTX - 1);
    prompt[SERVING_CTX - 1] = '\0';
    for (int n = 0, i = 0; n < 3000; n = n * 3 / 2 + 1, i++) {
        body.len = 0;
        assert_true(lf_bytes_printf(&body,
                                    "{\"prompt\":\"%s\",\"max_tokens\":2000,\"ignore_eos\":true,"
                                    "\"speculative\":false,\"return_progress\":true,\"stream\":%s}",
                                    prompt + (i % 2 ? 0 : SERVING_CTX - 10), i % 3 ? "true" : "false"));
        const int fd = connect_to(s.port);
        assert_true(send_request(fd, "POST", "/v1/completions", "Connection: close\r\n", body.data));
        for (int k = 0; k < n && read_byte(fd) >= 0; k++) continue;
        if (i % 4 < 2) assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset), 0);
        (void)close(fd);
    }
    expect_served(&s); /* after all of them */
    wait_metric(&s, "lookfar:num_requests_running", 0);
    wait_metric(&s, "lookfar:kv_cache_usage_perc", 0);
    assert_true(metric(&s, CANCELLED) > 0);
    lf_bytes_free(&body);
    free(prompt);
    stop_cleanly(&s);
}

/* What a server has in memory, and the most of it since that was last forgotten, in MiB. */
static double resident_mib(const server *s, const char *key)
{
    char path[64], line[256];
    double kib = -1;
    (void)snprintf(path, sizeof path, "/proc/%d/status", (int)s->pid);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    while (fgets(line, sizeof line, f))
        if (strncmp(line, key, strlen(key)) == 0) (void)sscanf(line + strlen(key), ": %lf", &kib);
    (void)fclose(f);
    assert_true(kib > 0);
    return kib / 1024;
}

static void forget_peak(const server *s)
{
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/%d/clear_refs", (int)s->pid);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs("5", f) >= 0);
    assert_int_equal(fclose(f), 0);
}

/* A client that does not read is cut off, and what it asked for is over. Until then it keeps nobody else waiting, and what waits for
 * it does not grow: 24 choices of 2,000 tokens with all that is to be known of them are 80 MB. */
static void test_lazy_clients(void **state)
{
    (void)state;
    enum { GROWTH_MIB = 40 };
    const int bytes = 4096; /* that wait here; more wait with the kernel of the server */
    server s = start_server("--parallel", "26");
    expect_served(&s);
    forget_peak(&s);
    const double before = resident_mib(&s, "VmRSS");
    const int fd = connect_to(s.port);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes), 0);
    assert_true(send_request(fd, "POST", "/v1/completions", "",
                             ENDLESS
                             ",\"n\":24,\"logprobs\":20,\"return_provenance\":true,\"stream\":true}"));
    wait_metric(&s, "lookfar:num_requests_running", 24);
    while (metric(&s, CANCELLED) == 0) expect_served(&s);
    wait_metric(&s, "lookfar:num_requests_running", 0);
    expect_served(&s);
    const double grown = resident_mib(&s, "VmHWM") - before;
    if (!TESTS_SHORT && grown > GROWTH_MIB)
        fail_msg("the memory has grown by %.1f MiB, expected %d at most", grown, GROWTH_MIB);
    (void)close(fd); /* not read: megabytes of it through a window of 4 KiB take minutes */
    stop_cleanly(&s);
}

/* A stream that is silent, behind others, is told that it is not forgotten. */
static void test_comments(void **state)
{
    (void)state;
    server s = start_server("--parallel", "1", "--keep-alive", "0.1");
    const int first = connect_to(s.port), second = connect_to(s.port);
    answer a;
    assert_true(send_request(first, "POST", "/v1/completions", "", ENDLESS ",\"n\":20}"));
    wait_metric(&s, "lookfar:num_requests_running", 1);
    assert_true(send_request(second, "POST", "/v1/completions", "", COMPLETION(",\"stream\":true")));
    assert_true(read_head(second, &a));
    assert_true(read_chunk(second, &a.body));
    assert_string_equal(a.body.data, ": keep-alive\n\n");
    (void)close(first);
    while (read_chunk(second, &a.body)) continue;
    stream st = parse_stream(&a);
    assert_int_equal(st.n_done, 1);
    assert_true(st.n_comments >= 1);
    free_stream(&st);
    free_answer(&a);
    (void)close(second);
    stop_cleanly(&s);
}

/* Idle connections cost nothing, and others are served beside them. */
static void test_many_connections(void **state)
{
    (void)state;
    enum { WANTED = 1000 };
    static int fds[WANTED];
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = limit.rlim_max < WANTED + 100 ? limit.rlim_max : WANTED + 100;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
    const int n = limit.rlim_cur < WANTED + 100 ? (int)limit.rlim_cur - 100 : WANTED;
    server s = start_server(NULL);
    for (int i = 0; i < n; i++) fds[i] = connect_to(s.port);
    for (int i = 0; i < 3; i++) {
        answer a = post(&s, "/v1/completions", COMPLETION(""));
        expect_status(&a, 200);
        free_answer(&a);
    }
    assert_true(send_request(fds[n - 1], "GET", "/health", "", NULL)); /* they are alive */
    answer a;
    assert_true(read_answer(fds[n - 1], &a));
    free_answer(&a);
    for (int i = 0; i < n; i++) (void)close(fds[i]);
    stop_cleanly(&s);
}

/* Who comes when as many wait as may is told when to come again. */
static void test_full_queue(void **state)
{
    (void)state;
    server s = start_server("--parallel", "1", "--queue", "1");
    const int first = connect_to(s.port), second = connect_to(s.port);
    assert_true(send_request(first, "POST", "/v1/completions", "", ENDLESS ",\"stream\":true}"));
    assert_true(send_request(second, "POST", "/v1/completions", "", ENDLESS ",\"stream\":true}"));
    answer running, waiting;
    assert_true(read_head(first, &running) && read_head(second, &waiting)); /* both were accepted */
    answer a = post(&s, "/v1/completions", COMPLETION(""));
    expect_status(&a, 429);
    assert_non_null(strstr(a.head.data, "Retry-After: "));
    assert_string_equal(text_at(a.json, "error.type"), "rate_limit_error");
    free_answer(&a);
    a = post(&s, "/v1/completions", COMPLETION(",\"n\":3")); /* which never fits */
    expect_status(&a, 400);
    free_answer(&a);
    (void)close(second);
    wait_metric(&s, "lookfar:num_requests_waiting", 0);
    (void)close(first);
    wait_metric(&s, "lookfar:num_requests_running", 0);
    free_answer(&running);
    free_answer(&waiting);
    const int64_t start = lf_clock_ns();
    for (int status = 429;
         status == 429;) { /* the place is free when the server has noticed that they are gone */
        a = post(&s, "/v1/completions", COMPLETION(""));
        status = a.status;
        if (status != 429 || lf_clock_ns() - start > 30000000000) expect_status(&a, 200);
        free_answer(&a);
    }
    stop_cleanly(&s);
}

/* ---- a machine that fails ---- */

/* A disk that is full of its log does not stop it, nor one that is full of its trace: that is said at the end. */
static void test_full_disk(void **state)
{
    (void)state;
    char port[16];
    const int number = free_port();
    (void)snprintf(port, sizeof port, "%d", number);
    server s = start_launch(
        &(launch){.args = (const char *const[]){NULL}, .log_path = "/dev/full", .port = number});
    for (int i = 0; i < 3; i++) expect_served(&s);
    stop_cleanly(&s);
    s = start_server("--trace", "/dev/full");
    for (int i = 0; i < 3; i++) expect_served(&s);
    assert_int_equal(stop_server(&s), 1);
}

/* The model's files may be replaced or removed under a server: it has read them. */
static void test_model_removed(void **state)
{
    (void)state;
    char model[512];
    (void)snprintf(model, sizeof model, "%s", serving_file("doomed"));
    tiny_model_write(model, TINY_VOCAB);
    server s = start_launch(&(launch){.args = (const char *const[]){NULL}, .model = model});
    static const char *const files[] = {"config.json", "model.safetensors", "tokenizer.json"};
    for (int i = 0; i < 3; i++) {
        char path[600];
        (void)snprintf(path, sizeof path, "%s/%s", model, files[i]);
        assert_int_equal(truncate(path, 0), 0);
    }
    expect_served(&s);
    remove_tree(model);
    expect_served(&s);
    stop_cleanly(&s);
}

/* One that is killed leaves nothing behind: its clients see the end, and another serves at the same port at once. */
static void test_killed_and_restarted(void **state)
{
    (void)state;
    answer a;
    char port[16];
    (void)snprintf(port, sizeof port, "%d", free_port());
    server s = start_server("--port", port);
    const int fd = connect_to(s.port), idle = connect_to(s.port);
    assert_true(send_request(fd, "POST", "/v1/completions", "", ENDLESS ",\"stream\":true}"));
    assert_true(read_head(fd, &a));
    assert_true(read_chunk(fd, &a.body));
    (void)reap_servers(NULL);
    while (read_chunk(fd, &a.body)) continue;
    assert_null(strstr(a.body.data, "[DONE]"));
    assert_int_equal(read_byte(idle), -1);
    free_answer(&a);
    (void)close(fd);
    (void)close(idle);
    (void)fclose(s.log);
    s = start_server("--port", port);
    expect_served(&s);
    stop_cleanly(&s);
}

/* A request that there is no memory for, or whose answer, is refused; those that there is memory for are not. */
static void test_memory_limit(void **state)
{
    (void)state;
    if (TESTS_SHORT) { /* sanitizers take all address space for themselves */
        print_message("skipped: a limit of memory under a sanitizer\n");
        skip();
    }
    const size_t len = (size_t)30 << 20;
    char *body = malloc(len + 1);
    assert_non_null(body);
    memset(body, 'a', len);
    body[len] = '\0';
    server s = start_launch(
        &(launch){.args = (const char *const[]){"--max-body", "32", "--chat-template", "chatml", NULL},
                  .memory = (size_t)250 << 20});
    for (int i = 0; i < 2; i++) {
        answer a = post(&s, "/tokenize", body);
        expect_status(&a, 503);
        assert_string_equal(text_at(a.json, "error.code"), "out_of_memory");
        free_answer(&a);
        expect_served(&s);
    }
    free(body);
    /* and one whose answer is what there is no memory for */
    answer a = post(&s, "/v1/chat/completions",
                    "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"n\":8,\"ignore_eos\":true,"
                    "\"logprobs\":true,\"top_logprobs\":20,\"speculative\":false}");
    expect_status(&a, 503);
    assert_string_equal(text_at(a.json, "error.code"), "out_of_memory");
    free_answer(&a);
    expect_served(&s);
    stop_cleanly(&s);
}

/* ---- the end ---- */

/* SIGTERM lets a stream end; after the grace time, it is told. */
static void test_shutdown(void **state)
{
    (void)state;
    for (int with_grace = 0; with_grace < 2; with_grace++) {
        server s = start_server("--grace", with_grace ? "60" : "0");
        answer a;
        int status;
        const int fd = connect_to(s.port), other = connect_to(s.port);
        assert_true(send_request(fd, "POST", "/v1/completions", "", ENDLESS ",\"stream\":true}"));
        assert_true(read_head(fd, &a));
        assert_true(read_chunk(fd, &a.body));
        assert_int_equal(kill(s.pid, SIGTERM), 0);
        while (read_chunk(fd, &a.body)) continue;
        stream st = parse_stream(&a);
        assert_int_equal(st.n_done, with_grace);
        assert_int_equal(st.n_errors, !with_grace);
        assert_int_equal(waitpid(s.pid, &status, 0), s.pid);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        assert_int_equal(read_byte(other), -1);
        free_stream(&st);
        free_answer(&a);
        (void)close(fd);
        (void)close(other);
        (void)fclose(s.log);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        serving_test(test_too_much),      serving_test(test_broken_requests),
        serving_test(test_gone_clients),  serving_test(test_gone_at_any_byte),
        serving_test(test_slow_clients),  serving_test(test_lazy_clients),
        serving_test(test_comments),      serving_test(test_many_connections),
        serving_test(test_full_queue),    serving_test(test_full_disk),
        serving_test(test_model_removed), serving_test(test_killed_and_restarted),
        serving_test(test_memory_limit),  serving_test(test_shutdown),
    };
    return cmocka_run_group_tests(tests, begin_serving, end_serving);
}
