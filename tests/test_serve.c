/* lookfar serve as its clients meet it: the real program, spoken to over sockets, by clients that behave and by others. What it
 * says must be what the library says. */
#include "testing.h"
#include "tiny_model.h"

#include "base/clock.h"
#include "base/mem.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ARGS_MAX = 32, SECONDS_MAX = 120, CTX = 2048 };

static char binary[1024];
static char *temp_dir;
static char model_dir[512];
static lf_engine *engine; /* the same model, in this process */

/* ---- the server ---- */

typedef struct server {
    pid_t pid;
    int port;
    FILE *log; /* its standard error, where nothing comes after the first line */
} server;

static void become_server(const char *const *args, int err)
{
    char ctx[16];
    (void)snprintf(ctx, sizeof ctx, "%d", CTX);
    const char *argv[ARGS_MAX + 12] = {"lookfar", "serve", "-m",     model_dir, "-t", "1",
                                       "-c",      ctx,     "--port", "0",       "-q"};
    int n = 11;
    for (int i = 0; args[i] && i < ARGS_MAX; i++) argv[n++] = args[i];
    if (dup2(err, 2) < 0) _exit(99);
    (void)signal(SIGINT, SIG_DFL);
    (void)alarm(SECONDS_MAX); /* a server that hangs is killed */
    (void)execv(binary, (char *const *)(uintptr_t)argv);
    _exit(99);
}

static int connect_to(int port)
{
    const struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const struct timeval patience = {.tv_sec = 60};
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (connect(fd, (const struct sockaddr *)&address, sizeof address) != 0)
        fail_msg("port %d: %s", port, strerror(errno));
    return fd;
}

/* ---- speaking HTTP ---- */

typedef struct answer {
    int status;
    lf_bytes head, body; /* the body without the marks of chunks */
    json_t *json;        /* the body, if it is JSON */
} answer;

static void free_answer(answer *a)
{
    lf_bytes_free(&a->head);
    lf_bytes_free(&a->body);
    json_decref(a->json);
}

static void expect_status(const answer *a, int status)
{
    if (a->status != status)
        fail_msg("found status %d, expected %d: %s", a->status, status, a->body.data ? a->body.data : "");
}

/* false: the server closed, which it may do to those who misbehave. */
static bool send_text(int fd, const char *text, size_t len)
{
    while (len > 0) {
        const ssize_t n = send(fd, text, len, MSG_NOSIGNAL);
        if (n <= 0) return false;
        text += n;
        len -= (size_t)n;
    }
    return true;
}

static bool send_request(int fd, const char *method, const char *path, const char *headers, const char *body)
{
    lf_bytes text = {0};
    assert_true(lf_bytes_printf(&text, "%s %s HTTP/1.1\r\nHost: localhost\r\n%s", method, path, headers));
    if (body) assert_true(lf_bytes_printf(&text, "Content-Length: %zu\r\n", strlen(body)));
    assert_true(lf_bytes_printf(&text, "\r\n%s", body ? body : ""));
    const bool ok = send_text(fd, text.data, text.len);
    lf_bytes_free(&text);
    return ok;
}

/* One more byte; -1 at the end. */
static int read_byte(int fd)
{
    char c;
    return recv(fd, &c, 1, 0) == 1 ? (unsigned char)c : -1;
}

static bool read_line(int fd, lf_bytes *out)
{
    for (int c; (c = read_byte(fd)) >= 0;) {
        const char byte = (char)c;
        assert_true(lf_bytes_append(out, &byte, 1));
        if (c == '\n') return true;
    }
    return false;
}

static bool read_bytes(int fd, lf_bytes *out, size_t n)
{
    char block[4096];
    while (n > 0) {
        const ssize_t got = recv(fd, block, n < sizeof block ? n : sizeof block, 0);
        if (got <= 0) return false;
        assert_true(lf_bytes_append(out, block, (size_t)got));
        n -= (size_t)got;
    }
    return true;
}

/* One chunk of a body; false: that was the last, or the connection ended. */
static bool read_chunk(int fd, lf_bytes *out)
{
    lf_bytes line = {0}, end = {0};
    const bool has_line = read_line(fd, &line);
    const size_t n = has_line ? strtoul(line.data, NULL, 16) : 0;
    const bool ok = has_line && read_bytes(fd, out, n) && read_line(fd, &end);
    lf_bytes_free(&line);
    lf_bytes_free(&end);
    return ok && n > 0;
}

static bool read_head(int fd, answer *a)
{
    size_t before;
    *a = (answer){0};
    do {
        before = a->head.len;
        if (!read_line(fd, &a->head)) return false;
    } while (a->head.len - before > 2);
    return sscanf(a->head.data, "HTTP/1.1 %d", &a->status) == 1;
}

/* Reads an answer; false: there was none. */
static bool read_answer(int fd, answer *a)
{
    if (!read_head(fd, a)) return false;
    const char *length = strstr(a->head.data, "Content-Length: ");
    if (length)
        (void)read_bytes(fd, &a->body, strtoul(length + 16, NULL, 10));
    else if (strstr(a->head.data, "chunked"))
        while (read_chunk(fd, &a->body)) continue;
    if (a->body.len > 0 && strstr(a->head.data, "application/json")) {
        a->json = json_loadb(a->body.data, a->body.len, 0, NULL);
        if (!a->json) fail_msg("found no JSON: %s", a->body.data);
    }
    return true;
}

static answer call_with(const server *s, const char *method, const char *path, const char *headers,
                        const char *body)
{
    answer a = {0};
    const int fd = connect_to(s->port);
    if (!send_request(fd, method, path, headers, body) || !read_answer(fd, &a))
        fail_msg("%s %s: found no answer", method, path);
    (void)close(fd);
    return a;
}

static answer post(const server *s, const char *path, const char *body)
{
    return call_with(s, "POST", path, "Content-Type: application/json\r\n", body);
}

static answer get(const server *s, const char *path)
{
    return call_with(s, "GET", path, "", NULL);
}

/* ---- starting and stopping ---- */

#define start_server(...) start_with((const char *const[]){__VA_ARGS__, NULL})

static server start_with(const char *const *args)
{
    server s = {0};
    int pipe_fds[2];
    char line[512];
    if (binary[0] == '\0') {
        print_message("skipped: the program is not built (LOOKFAR_BIN names it)\n");
        skip();
    }
    assert_int_equal(pipe(pipe_fds), 0);
    s.pid = fork();
    assert_true(s.pid >= 0);
    if (s.pid == 0) {
        (void)close(pipe_fds[0]);
        become_server(args, pipe_fds[1]);
    }
    (void)close(pipe_fds[1]);
    s.log = fdopen(pipe_fds[0], "r");
    while (s.port == 0) {
        if (!fgets(line, sizeof line, s.log)) fail_msg("the server did not start");
        (void)sscanf(line, "listening on http://127.0.0.1:%d", &s.port);
    }
    for (int status = 503; status == 503;) { /* it listens before the model is loaded */
        answer a = get(&s, "/health");
        status = a.status;
        free_answer(&a);
        if (status == 503) (void)usleep(10000);
    }
    return s;
}

/* Its exit status, after SIGTERM. */
static int stop_server(server *s)
{
    int status;
    (void)kill(s->pid, SIGTERM);
    assert_int_equal(waitpid(s->pid, &status, 0), s->pid);
    (void)fclose(s->log);
    if (!WIFEXITED(status)) fail_msg("the server was ended by signal %d", WTERMSIG(status));
    return WEXITSTATUS(status);
}

static void stop_cleanly(server *s)
{
    assert_int_equal(stop_server(s), 0);
}

/* ---- looking into answers ---- */

/* A member by a path such as "choices.0.text"; fails when it is not there. */
static const json_t *at(const json_t *root, const char *path)
{
    char copy[128], *rest = copy;
    (void)snprintf(copy, sizeof copy, "%s", path);
    const json_t *value = root;
    for (const char *key; (key = strsep(&rest, ".")) != NULL;)
        value = json_is_array(value) ? json_array_get(value, strtoul(key, NULL, 10))
                                     : json_object_get(value, key);
    if (!value) fail_msg("found no %s", path);
    return value;
}

static const char *text_at(const json_t *root, const char *path)
{
    const char *text = json_string_value(at(root, path));
    if (!text) fail_msg("%s: found no text", path);
    return text;
}

static int int_at(const json_t *root, const char *path)
{
    if (!json_is_integer(at(root, path))) fail_msg("%s: found no whole number", path);
    return (int)json_integer_value(at(root, path));
}

/* What the library says to a prompt without a proposer. */
static char *expected_text(const char *prompt, float temperature, uint64_t seed, int n_predict)
{
    lf_error err;
    lf_request *r;
    lf_request_params p;
    int32_t *ids;
    size_t len;
    lf_request_params_init(&p);
    assert_ok(lf_tokenize(engine, prompt, strlen(prompt), true, true, &ids, &p.n_ids, &err), &err);
    p.ids = ids;
    p.temperature = temperature;
    p.seed = seed;
    p.n_predict = n_predict;
    assert_ok(lf_request_submit(&r, engine, &p, &err), &err);
    assert_ok(lf_request_wait(r, &err), &err);
    const char *text = lf_request_text(r, &len);
    char *copy = lf_strndup(text, len);
    assert_non_null(copy);
    lf_request_free(r);
    free(ids);
    return copy;
}

/* The value of a metric: the sum over lines that begin with `name`. */
static double metric(const server *s, const char *name)
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

/* Waits until a metric has a value; requests end on the other side at their own time. */
static void wait_metric(const server *s, const char *name, double wanted)
{
    const int64_t start = lf_clock_ns();
    while (metric(s, name) != wanted) {
        if (lf_clock_ns() - start > 30000000000)
            fail_msg("%s: found %g, expected %g", name, metric(s, name), wanted);
        (void)usleep(10000);
    }
}

/* ---- streams ---- */

/* What a stream said, added up. */
typedef struct stream {
    lf_bytes text[8]; /* by choice */
    char finish[8][16];
    int n_chunks, n_done, n_errors, n_comments;
    json_t *usage; /* of the last chunk, or NULL */
} stream;

static void free_stream(stream *s)
{
    for (int i = 0; i < 8; i++) lf_bytes_free(&s->text[i]);
    json_decref(s->usage);
}

static void read_event(stream *s, const char *data)
{
    if (strcmp(data, "[DONE]") == 0) {
        s->n_done++;
        return;
    }
    json_t *chunk = json_loads(data, 0, NULL);
    if (!chunk) fail_msg("found no JSON: %s", data);
    s->n_chunks++;
    s->n_errors += json_object_get(chunk, "error") != NULL;
    const json_t *choice = json_array_get(json_object_get(chunk, "choices"), 0);
    if (choice) {
        const int i = int_at(choice, "index");
        const json_t *delta = json_object_get(choice, "delta"), *finish = at(choice, "finish_reason");
        const json_t *text = delta ? json_object_get(delta, "content") : at(choice, "text");
        assert_in_range(i, 0, 7);
        assert_int_equal(s->finish[i][0], 0); /* nothing follows the end */
        if (text)
            assert_true(lf_bytes_append(&s->text[i], json_string_value(text), json_string_length(text)));
        if (!json_is_null(finish)) (void)snprintf(s->finish[i], 16, "%s", json_string_value(finish));
    }
    if (json_is_object(json_object_get(chunk, "usage")))
        s->usage = json_incref(json_object_get(chunk, "usage"));
    json_decref(chunk);
}

static stream parse_stream(const answer *a)
{
    stream s = {0};
    expect_status(a, 200);
    assert_non_null(strstr(a->head.data, "text/event-stream"));
    for (char *event = a->body.data, *end; event && *event; event = end + 2) {
        end = strstr(event, "\n\n");
        assert_non_null(end); /* events are whole */
        *end = '\0';
        if (event[0] == ':')
            s.n_comments++;
        else if (strncmp(event, "data: ", 6) == 0)
            read_event(&s, event + 6);
        else
            fail_msg("found the event \"%s\"", event);
    }
    return s;
}

#define CHAT(fields)       "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"max_tokens\":1" fields "}"
#define COMPLETION(fields) "{\"prompt\":\"a\",\"max_tokens\":1" fields "}"

/* ---- what is right ---- */

/* Whole or as a stream, with candidates or without, greedy or sampled: the library's text. */
static void test_says_what_the_library_says(void **state)
{
    (void)state;
    static const char *const ways[] = {"false", "true", "{\"proposer\":\"ngram\",\"draft_max\":4}",
                                       "{\"proposer\":\"jacobi\"}",
                                       "{\"proposer\":\"sparse\",\"budget\":64}"};
    server s = start_server("--parallel", "2");
    for (size_t i = 0; i < 2 * sizeof ways / sizeof *ways; i++) {
        const float temperature = i % 2 ? 0.8f : 0.0f;
        char body[256];
        char *expected = expected_text("tell me, tell me", temperature, 7, 60);
        (void)snprintf(body, sizeof body,
                       "{\"prompt\":\"tell me, tell me\",\"max_tokens\":60,\"temperature\":%g,\"seed\":7,"
                       "\"speculative\":%s,\"stream\":%s}",
                       (double)temperature, ways[i / 2], i / 2 % 2 ? "true" : "false");
        answer a = post(&s, "/v1/completions", body);
        expect_status(&a, 200);
        if (i / 2 % 2) {
            stream st = parse_stream(&a);
            assert_string_equal(st.text[0].data, expected);
            assert_string_equal(st.finish[0], "length");
            assert_int_equal(st.n_done, 1);
            free_stream(&st);
        } else {
            assert_string_equal(text_at(a.json, "choices.0.text"), expected);
            assert_string_equal(text_at(a.json, "choices.0.finish_reason"), "length");
            assert_string_equal(text_at(a.json, "object"), "text_completion");
            assert_int_equal(int_at(a.json, "usage.prompt_tokens"), 16);
            assert_int_equal(int_at(a.json, "usage.completion_tokens"), 60);
            assert_int_equal(int_at(a.json, "usage.total_tokens"), 76);
        }
        free_answer(&a);
        free(expected);
    }
    stop_cleanly(&s);
}

/* Choices come in the order of prompts, each prompt's with seeds in a row. */
static void test_many_choices(void **state)
{
    (void)state;
    server s = start_server("--parallel", "3");
    const char *body = "{\"prompt\":[\"one\",\"two\"],\"n\":3,\"max_tokens\":20,\"temperature\":1,\"seed\":5,"
                       "\"echo\":true,\"stream\":false}";
    answer whole = post(&s, "/v1/completions", body);
    expect_status(&whole, 200);
    assert_int_equal(json_array_size(at(whole.json, "choices")), 6);
    assert_int_equal(int_at(whole.json, "usage.prompt_tokens"), 6); /* each prompt once */
    lf_bytes streamed = {0};
    assert_true(lf_bytes_append(&streamed, body, strlen(body) - strlen("false}")));
    assert_true(lf_bytes_printf(&streamed, "true,\"stream_options\":{\"include_usage\":true}}"));
    answer parts = post(&s, "/v1/completions", streamed.data);
    stream st = parse_stream(&parts);
    assert_int_equal(int_at(st.usage, "prompt_tokens"), 6);
    for (int i = 0; i < 6; i++) {
        char path[32];
        const char *prompt = i < 3 ? "one" : "two";
        char *expected = expected_text(prompt, 1.0f, 5 + (uint64_t)i % 3, 20);
        (void)snprintf(path, sizeof path, "choices.%d.text", i);
        const char *text = text_at(whole.json, path);
        assert_memory_equal(text, prompt, 3);
        assert_string_equal(text + 3, expected);
        assert_string_equal(st.text[i].data, text);
        free(expected);
    }
    free_stream(&st);
    lf_bytes_free(&streamed);
    free_answer(&parts);
    free_answer(&whole);
    stop_cleanly(&s);
}

static void test_chat(void **state)
{
    (void)state;
    server s = start_server("--chat-template", "chatml");
    const char *head =
        "{\"messages\":[{\"role\":\"user\",\"content\":\"hello\"}],\"max_completion_tokens\":12,"
        "\"temperature\":0,\"logprobs\":true,\"top_logprobs\":2";
    char body[512];
    (void)snprintf(body, sizeof body, "%s}", head);
    answer a = post(&s, "/v1/chat/completions", body);
    expect_status(&a, 200);
    assert_string_equal(text_at(a.json, "object"), "chat.completion");
    assert_string_equal(text_at(a.json, "choices.0.message.role"), "assistant");
    assert_true(json_is_null(at(a.json, "choices.0.message.refusal")));
    const json_t *content = at(a.json, "choices.0.logprobs.content");
    assert_int_equal(json_array_size(content), int_at(a.json, "usage.completion_tokens"));
    for (size_t i = 0; i < json_array_size(content); i++) { /* greedy: the likeliest is the one */
        const json_t *token = json_array_get(content, i);
        assert_true(json_number_value(at(token, "logprob")) ==
                    json_number_value(at(token, "top_logprobs.0.logprob")));
        assert_true(json_number_value(at(token, "logprob")) <= 0);
        assert_true(json_equal(at(token, "bytes"), at(token, "top_logprobs.0.bytes")));
    }
    (void)snprintf(body, sizeof body,
                   "%s,\"stream\":true,\"return_provenance\":true,\"return_progress\":true}", head);
    answer b = post(&s, "/v1/chat/completions", body);
    assert_non_null(strstr(b.body.data, "\"prompt_progress\""));
    assert_non_null(strstr(b.body.data, "\"proposed\""));
    stream st = parse_stream(&b);
    assert_string_equal(st.text[0].data, text_at(a.json, "choices.0.message.content"));
    free_stream(&st);
    free_answer(&b);
    free_answer(&a);
    stop_cleanly(&s);
}

static void test_tokens(void **state)
{
    (void)state;
    server s = start_server("-a", "tiny-model");
    answer a = post(&s, "/tokenize", "{\"content\":\"ab c\"}");
    json_t *expected = json_pack("[i,i,i,i]", 'a' - ' ', 'b' - ' ', 0, 'c' - ' ');
    assert_true(json_equal(at(a.json, "tokens"), expected));
    assert_int_equal(int_at(a.json, "count"), 4);
    free_answer(&a);
    a = post(&s, "/detokenize", "{\"tokens\":[65,66,0,67]}");
    assert_string_equal(text_at(a.json, "content"), "ab c");
    free_answer(&a);
    a = post(&s, "/v1/completions", "{\"prompt\":[65,66,0,67],\"max_tokens\":0,\"echo\":true}");
    assert_string_equal(text_at(a.json, "choices.0.text"), "ab c");
    assert_int_equal(int_at(a.json, "usage.prompt_tokens"), 4);
    free_answer(&a);
    a = post(&s, "/v1/chat/completions", CHAT("")); /* a model without a template */
    expect_status(&a, 400);
    free_answer(&a);
    a = get(&s, "/v1/models");
    assert_string_equal(text_at(a.json, "data.0.id"), "tiny-model");
    assert_int_equal(int_at(a.json, "data.0.max_model_len"), CTX);
    free_answer(&a);
    a = get(&s, "/v1/models/tiny-model");
    expect_status(&a, 200);
    free_answer(&a);
    a = get(&s, "/");
    expect_status(&a, 200);
    assert_non_null(strstr(a.head.data, "Content-Security-Policy: default-src 'none'"));
    free_answer(&a);
    json_decref(expected);
    stop_cleanly(&s);
}

/* What lm-eval asks for: the log probability of every token of a prompt, read in pieces beside others, is the library's. */
static void test_scores_a_prompt(void **state)
{
    (void)state;
    static const char prompt[] =
        "how likely is every token of this, one after the other? quite likely, or not at all";
    enum { N = sizeof prompt - 1 };
    lf_error err;
    int32_t *ids;
    size_t n;
    char body[512];
    float *logits = calloc((size_t)N * TINY_VOCAB, sizeof *logits);
    assert_non_null(logits);
    assert_ok(lf_tokenize(engine, prompt, N, true, true, &ids, &n, &err), &err);
    assert_int_equal(n, N);
    assert_ok(lf_score(engine, ids, n, logits, &err), &err);
    server s = start_server("-b", "32", "--parallel", "4");
    for (int max_tokens = 0; max_tokens < 2; max_tokens++) {
        (void)snprintf(body, sizeof body,
                       "{\"prompt\":[\"%s\",\"%.40s\"],\"echo\":true,\"logprobs\":1,\"max_tokens\":%d,"
                       "\"temperature\":0}",
                       prompt, prompt, max_tokens);
        answer a = post(&s, "/v1/completions", body);
        expect_status(&a, 200);
        assert_int_equal(int_at(a.json, "usage.completion_tokens"), 2 * max_tokens);
        const json_t *list = at(a.json, "choices.0.logprobs.token_logprobs"),
                     *tops = at(a.json, "choices.0.logprobs.top_logprobs");
        assert_int_equal(json_array_size(list), N + max_tokens);
        assert_int_equal(strlen(text_at(a.json, "choices.0.text")) >= N, 1);
        assert_int_equal(json_array_size(at(a.json, "choices.1.logprobs.tokens")), 40 + max_tokens);
        assert_true(json_is_null(json_array_get(list, 0)) && json_is_null(json_array_get(tops, 0)));
        for (size_t i = 1; i < N; i++) {
            const float *before = logits + (i - 1) * TINY_VOCAB;
            double sum = 0;
            int best = 0;
            for (int v = 0; v < TINY_VOCAB; v++) {
                sum += exp((double)before[v]);
                if (before[v] > before[best]) best = v;
            }
            const double found = json_number_value(json_array_get(list, i)),
                         expected = (double)before[ids[i]] - log(sum);
            if (fabs(found - expected) > 1e-4)
                fail_msg("token %zu: found %g, expected %g", i, found, expected);
            const char *key = json_object_iter_key(
                json_object_iter((json_t *)(uintptr_t)json_array_get(tops, i)));
            if (best < 95) assert_int_equal(key[0], ' ' + best);
        }
        free_answer(&a);
    }
    free(logits);
    free(ids);
    stop_cleanly(&s);
}

/* Output in a form that was asked for, the same with candidates and without. */
static void test_forms(void **state)
{
    (void)state;
    static const char *const forms[] = {
        "\"response_format\":{\"type\":\"json_object\"}",
        "\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"x\",\"schema\":{\"type\":\"object\","
        "\"properties\":{\"a\":{\"type\":\"boolean\"},\"b\":{\"enum\":[\"u\",\"v\"]}},\"required\":[\"a\",\"b\"],"
        "\"additionalProperties\":false}}}",
        "\"guided_choice\":[\"yes\",\"no\"]",
        "\"guided_regex\":\"[0-9]{3}-[0-9]{2}\"",
    };
    server s = start_server(NULL);
    for (int i = 0; i < 4; i++) {
        char *texts[2];
        for (int fast = 0; fast < 2; fast++) {
            char body[1024];
            (void)snprintf(
                body, sizeof body,
                "{\"prompt\":\"{\",\"max_tokens\":60,\"temperature\":1,\"seed\":4,\"speculative\":%s,%s}",
                fast ? "{\"proposer\":\"ngram\"}" : "false", forms[i]);
            answer a = post(&s, "/v1/completions", body);
            expect_status(&a, 200);
            texts[fast] = strdup(text_at(a.json, "choices.0.text"));
            const bool ended = strcmp(text_at(a.json, "choices.0.finish_reason"), "stop") == 0;
            if (i > 0) assert_true(ended);
            free_answer(&a);
        }
        assert_string_equal(texts[0], texts[1]);
        assert_true(i != 0 || texts[0][strspn(texts[0], " \n\t")] == '{');
        if (i == 1) {
            json_t *value = json_loads(texts[0], 0, NULL);
            assert_true(json_is_boolean(json_object_get(value, "a")));
            json_decref(value);
        }
        if (i == 2) assert_true(strcmp(texts[0], "yes") == 0 || strcmp(texts[0], "no") == 0);
        if (i == 3) assert_int_equal(strlen(texts[0]), 6);
        free(texts[0]);
        free(texts[1]);
    }
    answer a = post(&s, "/v1/completions", COMPLETION(",\"guided_regex\":\"(\""));
    expect_status(&a, 400);
    assert_string_equal(text_at(a.json, "error.param"), "response_format");
    free_answer(&a);
    stop_cleanly(&s);
}

/* A stop string split over tokens is never a part of the output. */
static void test_stop(void **state)
{
    (void)state;
    server s = start_server(NULL);
    char *expected = expected_text("go", 1.0f, 3, 80), body[256];
    for (size_t i = 0; expected[i]; i++) /* ASCII only, for JSON by hand */
        if ((unsigned char)expected[i] < ' ' || strchr("\"\\", expected[i]) ||
            (unsigned char)expected[i] >= 0x7F)
            expected[i] = '\0';
    const size_t len = strlen(expected);
    if (len >= 4) {
        (void)snprintf(body, sizeof body,
                       "{\"prompt\":\"go\",\"max_tokens\":80,\"temperature\":1,\"seed\":3,\"stop\":[\"%s\"]}",
                       expected + len - 3);
        answer a = post(&s, "/v1/completions", body);
        assert_string_equal(text_at(a.json, "choices.0.finish_reason"), "stop");
        assert_null(strstr(text_at(a.json, "choices.0.text"), expected + len - 3));
        free_answer(&a);
    }
    free(expected);
    stop_cleanly(&s);
}

/* ---- what is wrong ---- */

/* Every mistake of a client is answered by a 4xx in OpenAI's form that names the field; harmless fields are not mistakes. */
static void test_mistakes(void **state)
{
    (void)state;
    static const struct {
        const char *path, *body;
        int status;
        const char *param; /* NULL: none */
    } cases[] = {
        {"/v1/completions", "", 400, NULL},
        {"/v1/completions", "{", 400, NULL},
        {"/v1/completions", "[]", 400, NULL},
        {"/v1/completions", "{\"prompt\":\"a\",\"prompt\":\"b\"}", 400, NULL},
        {"/v1/completions", "{\"prompt\":\"\\ud800\"}", 400, NULL},
        {"/v1/completions", "{}", 400, "prompt"},
        {"/v1/completions", "{\"prompt\":\"\"}", 400, "prompt"},
        {"/v1/completions", "{\"prompt\":[]}", 400, "prompt"},
        {"/v1/completions", "{\"prompt\":[\"a\",1]}", 400, "prompt"},
        {"/v1/completions", "{\"prompt\":[[1],[\"a\"]]}", 400, "prompt"},
        {"/v1/completions", "{\"prompt\":[-1]}", 400, "prompt"},
        {"/v1/completions", "{\"prompt\":[128]}", 400, NULL},
        {"/v1/completions", COMPLETION(",\"temperature\":-1"), 400, "temperature"},
        {"/v1/completions", COMPLETION(",\"temperature\":\"hot\""), 400, "temperature"},
        {"/v1/completions", COMPLETION(",\"top_p\":1.5"), 400, "top_p"},
        {"/v1/completions", COMPLETION(",\"n\":0"), 400, "n"},
        {"/v1/completions", COMPLETION(",\"n\":129"), 400, "n"},
        {"/v1/completions", COMPLETION(",\"n\":1.5"), 400, "n"},
        {"/v1/completions", COMPLETION(",\"logprobs\":21"), 400, "logprobs"},
        {"/v1/completions", COMPLETION(",\"suffix\":\"x\""), 400, "suffix"},
        {"/v1/completions", COMPLETION(",\"best_of\":2"), 400, "best_of"},
        {"/v1/completions", COMPLETION(",\"stop\":[1]"), 400, "stop"},
        {"/v1/completions", COMPLETION(",\"stop\":\"a\\u0000\""), 400, "stop"},
        {"/v1/completions", COMPLETION(",\"logit_bias\":{\"x\":1}"), 400, "logit_bias"},
        {"/v1/completions", COMPLETION(",\"logit_bias\":{\"1\":101}"), 400, "logit_bias"},
        {"/v1/completions", COMPLETION(",\"logit_bias\":{\"4000\":1}"), 400, NULL},
        {"/v1/completions", COMPLETION(",\"speculative\":{\"proposer\":\"magic\"}"), 400, NULL},
        {"/v1/completions", COMPLETION(",\"speculative\":{\"depth\":1}"), 400, "speculative"},
        {"/v1/completions", COMPLETION(",\"seed\":0.5"), 400, "seed"},
        {"/v1/completions", COMPLETION(",\"stream\":1"), 400, "stream"},
        {"/v1/completions", COMPLETION(",\"min_tokens\":3"), 400, "min_tokens"},
        {"/v1/chat/completions", "{\"messages\":[]}", 400, "messages"},
        {"/v1/chat/completions", "{\"messages\":[{\"content\":\"a\"}]}", 400, "messages"},
        {"/v1/chat/completions", "{\"messages\":[{\"role\":\"user\",\"content\":1}]}", 400, "messages"},
        {"/v1/chat/completions",
         "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\"}]}]}", 400, "messages"},
        {"/v1/chat/completions", CHAT(",\"top_logprobs\":2"), 400, "top_logprobs"},
        {"/v1/chat/completions", CHAT(",\"tool_choice\":\"required\""), 400, "tool_choice"},
        {"/v1/chat/completions", CHAT(",\"response_format\":{\"type\":\"xml\"}"), 400, "response_format"},
        {"/v1/chat/completions", CHAT(",\"modalities\":[\"audio\"]"), 400, "modalities"},
        {"/tokenize", "{}", 400, "prompt"},
        {"/detokenize", "{\"tokens\":[1000]}", 400, NULL},
        {"/v1/moderations", "{}", 404, NULL},
        {"/v1/models", "{}", 405, NULL},
        {"/v1/completions", COMPLETION(",\"user\":5,\"metadata\":{\"a\":1},\"best_of\":1,\"typical_p\":1"),
         200, NULL},
        {"/v1/completions", COMPLETION(",\"suffix\":null,\"stop\":null,\"seed\":-3,\"top_k\":-1"), 200, NULL},
        {"/v1/chat/completions", CHAT(",\"store\":false,\"tools\":[],\"reasoning_effort\":\"low\""), 200,
         NULL},
        {"/v1/chat/completions", CHAT(",\"prediction\":{\"type\":\"content\",\"content\":\"b\"}"), 200, NULL},
    };
    server s = start_server("--max-body", "1", "--chat-template", "chatml");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        answer a = post(&s, cases[i].path, cases[i].body);
        if (a.status != cases[i].status)
            fail_msg("%s: found %d, expected %d: %s", cases[i].body, a.status, cases[i].status, a.body.data);
        if (a.status != 200) {
            const json_t *param = at(a.json, "error.param");
            (void)text_at(a.json, "error.message");
            (void)text_at(a.json, "error.type");
            (void)at(a.json, "error.code");
            if (cases[i].param
                    ? !json_is_string(param) || strcmp(json_string_value(param), cases[i].param) != 0
                    : !json_is_null(param))
                fail_msg("%s: found another field at fault: %s", cases[i].body, a.body.data);
        }
        free_answer(&a);
    }
    stop_cleanly(&s);
}

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
    assert_true(lf_bytes_printf(&longer, "{\"prompt\":\"%.*s\"}", CTX + 1, body));
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
    server s = start_server("--timeout", "2");
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

#define ENDLESS "{\"prompt\":\"on and on\",\"max_tokens\":2000,\"ignore_eos\":true,\"speculative\":false"

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
        wait_metric(&s, "lookfar:request_success_total{model_name=\"tiny\",finished_reason=\"cancel\"}",
                    i + 1);
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

/* A client that does not read is cut off, and what it asked for is over. */
static void test_lazy_clients(void **state)
{
    (void)state;
    const int bytes = 4096; /* that wait here; more wait with the kernel of the server */
    server s = start_server("--parallel", "8");
    const int fd = connect_to(s.port);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes), 0);
    assert_true(send_request(fd, "POST", "/v1/completions", "",
                             ENDLESS ",\"n\":8,\"logprobs\":20,\"return_provenance\":true,\"stream\":true}"));
    wait_metric(&s, "lookfar:num_requests_running", 8);
    wait_metric(&s, "lookfar:num_requests_running", 0);
    answer a = post(&s, "/v1/completions", COMPLETION("")); /* answered after all that came before */
    expect_status(&a, 200);
    free_answer(&a);
    assert_true(read_head(fd, &a));
    while (read_chunk(fd, &a.body)) continue;
    assert_null(strstr(a.body.data, "[DONE]"));
    free_answer(&a);
    (void)close(fd);
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

/* Many clients at once, some of whom hang up: every answer that is finished is the one that it would have been alone. */
static void test_exactness_under_load(void **state)
{
    (void)state;
    enum { CLIENTS = 64, KINDS = 8 };
    static const char *const proposers[] = {"auto", "ngram", "jacobi", "sparse"};
    static int fds[CLIENTS];
    char *expected[KINDS], prompts[KINDS][600], body[1024];
    uint64_t rng = 11;
    server s = start_server("--parallel", "16");
    for (int k = 0; k < KINDS; k++) { /* from ten tokens to five hundred, with a common beginning */
        const size_t n = 10 + (size_t)k * 70;
        for (size_t i = 0; i < n; i++) prompts[k][i] = "abc defghi "[i < 200 ? i % 11 : rng_next(&rng) % 11];
        prompts[k][n] = '\0';
        expected[k] = expected_text(prompts[k], k % 2 ? 0.7f : 0.0f, (uint64_t)k, 40 + 4 * k);
    }
    for (int i = 0; i < CLIENTS; i++) {
        const int k = i % KINDS;
        (void)snprintf(body, sizeof body,
                       "{\"prompt\":\"%s\",\"max_tokens\":%d,\"temperature\":%g,\"seed\":%d,\"stream\":%s,"
                       "\"speculative\":{\"proposer\":\"%s\",\"budget\":64}}",
                       prompts[k], 40 + 4 * k, k % 2 ? 0.7 : 0.0, k, i % 3 ? "true" : "false",
                       proposers[rng_next(&rng) % 4]);
        fds[i] = connect_to(s.port);
        assert_true(send_request(fds[i], "POST", "/v1/completions", "", body));
        if (rng_next(&rng) % 4 == 0) {
            (void)close(fds[i]);
            fds[i] = -1;
        }
    }
    for (int i = 0; i < CLIENTS; i++) {
        answer a;
        if (fds[i] < 0) continue;
        assert_true(read_answer(fds[i], &a));
        expect_status(&a, 200);
        if (i % 3) {
            stream st = parse_stream(&a);
            assert_string_equal(st.text[0].data, expected[i % KINDS]);
            free_stream(&st);
        } else {
            assert_string_equal(text_at(a.json, "choices.0.text"), expected[i % KINDS]);
        }
        free_answer(&a);
        (void)close(fds[i]);
    }
    wait_metric(&s, "lookfar:num_requests_running", 0);
    for (int k = 0; k < KINDS; k++) free(expected[k]);
    stop_cleanly(&s);
}

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
    (void)close(first);
    (void)close(second);
    free_answer(&running);
    free_answer(&waiting);
    wait_metric(&s, "lookfar:num_requests_running", 0);
    a = post(&s, "/v1/completions", COMPLETION(""));
    expect_status(&a, 200);
    free_answer(&a);
    stop_cleanly(&s);
}

/* ---- who may ---- */

static void test_keys(void **state)
{
    (void)state;
    static const struct {
        const char *method, *path, *headers;
        int status;
    } cases[] = {
        {"GET", "/health", "", 200},
        {"GET", "/", "", 200},
        {"GET", "/metrics", "", 401},
        {"GET", "/props", "", 401},
        {"GET", "/v1/models", "", 401},
        {"GET", "/v1/models", "Authorization: Bearer wrong\r\n", 401},
        {"GET", "/v1/models", "Authorization: Bearer \r\n", 401},
        {"GET", "/v1/models", "Authorization: first\r\n", 401},
        {"GET", "/v1/models", "Authorization: Bearer first\r\n", 200},
        {"GET", "/v1/models", "Authorization: bearer third\r\n", 200},
        {"GET", "/v1/models", "X-Api-Key: second\r\n", 200},
        {"GET", "/v1/models", "X-Api-Key: firstfirst\r\n", 401},
        {"GET", "/v1/models", "X-Api-Key: # no key\r\n", 401},
        {"POST", "/v1/completions", "", 401},
    };
    char file[512];
    (void)snprintf(file, sizeof file, "%s/keys", temp_dir);
    write_file(file, "# no key\nsecond\r\n\nthird\n", 24);
    server s = start_server("--api-key", "first", "--api-key-file", file);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        answer a = call_with(&s, cases[i].method, cases[i].path, cases[i].headers,
                             cases[i].method[0] == 'P' ? COMPLETION("") : NULL);
        if (a.status != cases[i].status)
            fail_msg("%s %s: found %d, expected %d", cases[i].path, cases[i].headers, a.status,
                     cases[i].status);
        free_answer(&a);
    }
    stop_cleanly(&s);
}

/* Pages of other sites may not use the server unless they are named; programs, which send no origin, may. */
static void test_origins(void **state)
{
    (void)state;
    server s = start_server("--cors-origin", "https://good.example");
    answer a = call_with(&s, "GET", "/v1/models", "Origin: https://evil.example\r\n", NULL);
    expect_status(&a, 403);
    assert_null(strstr(a.head.data, "Access-Control"));
    free_answer(&a);
    a = call_with(&s, "GET", "/v1/models", "Origin: http://localhost\r\n", NULL); /* the page itself */
    expect_status(&a, 200);
    assert_null(strstr(a.head.data, "Access-Control"));
    free_answer(&a);
    a = call_with(&s, "GET", "/v1/models", "Origin: https://good.example\r\nX-Request-Id: mine-1\r\n", NULL);
    expect_status(&a, 200);
    assert_non_null(strstr(a.head.data, "Access-Control-Allow-Origin: https://good.example"));
    assert_non_null(strstr(a.head.data, "X-Request-Id: mine-1"));
    free_answer(&a);
    a = call_with(&s, "OPTIONS", "/v1/chat/completions", "Origin: https://good.example\r\n", NULL);
    expect_status(&a, 204);
    assert_non_null(strstr(a.head.data, "Access-Control-Allow-Headers: Authorization"));
    free_answer(&a);
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

static int begin(void **state)
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
    params.n_ctx = CTX;
    params.n_threads = 1;
    assert_ok(lf_engine_open(&engine, &params, &err), &err);
    return 0;
}

static int end(void **state)
{
    (void)state;
    lf_engine_close(engine);
    remove_tree(temp_dir);
    free(temp_dir);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_says_what_the_library_says),
        cmocka_unit_test(test_many_choices),
        cmocka_unit_test(test_chat),
        cmocka_unit_test(test_tokens),
        cmocka_unit_test(test_scores_a_prompt),
        cmocka_unit_test(test_forms),
        cmocka_unit_test(test_stop),
        cmocka_unit_test(test_mistakes),
        cmocka_unit_test(test_too_much),
        cmocka_unit_test(test_broken_requests),
        cmocka_unit_test(test_gone_clients),
        cmocka_unit_test(test_slow_clients),
        cmocka_unit_test(test_lazy_clients),
        cmocka_unit_test(test_comments),
        cmocka_unit_test(test_many_connections),
        cmocka_unit_test(test_exactness_under_load),
        cmocka_unit_test(test_full_queue),
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_origins),
        cmocka_unit_test(test_shutdown),
    };
    return cmocka_run_group_tests(tests, begin, end);
}
