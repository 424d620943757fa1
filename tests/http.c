#include "http.h"

#include "testing.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

int connect_to(int port)
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

void free_answer(answer *a)
{
    lf_bytes_free(&a->head);
    lf_bytes_free(&a->body);
    json_decref(a->json);
}

void expect_status(const answer *a, int status)
{
    if (a->status != status)
        fail_msg("found status %d, expected %d: %s", a->status, status, a->body.data ? a->body.data : "");
}

bool send_text(int fd, const char *text, size_t len)
{
    while (len > 0) {
        const ssize_t n = send(fd, text, len, MSG_NOSIGNAL);
        if (n <= 0) return false;
        text += n;
        len -= (size_t)n;
    }
    return true;
}

bool send_request(int fd, const char *method, const char *path, const char *headers, const char *body)
{
    lf_bytes text = {0};
    assert_true(lf_bytes_printf(&text, "%s %s HTTP/1.1\r\nHost: localhost\r\n%s", method, path, headers));
    if (body) assert_true(lf_bytes_printf(&text, "Content-Length: %zu\r\n", strlen(body)));
    assert_true(lf_bytes_printf(&text, "\r\n%s", body ? body : ""));
    const bool ok = send_text(fd, text.data, text.len);
    lf_bytes_free(&text);
    return ok;
}

int read_byte(int fd)
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
bool read_chunk(int fd, lf_bytes *out)
{
    lf_bytes line = {0}, end = {0};
    const bool has_line = read_line(fd, &line);
    const size_t n = has_line ? strtoul(line.data, NULL, 16) : 0;
    const bool ok = has_line && read_bytes(fd, out, n) && read_line(fd, &end);
    lf_bytes_free(&line);
    lf_bytes_free(&end);
    return ok && n > 0;
}

bool read_head(int fd, answer *a)
{
    size_t before;
    *a = (answer){0};
    do {
        before = a->head.len;
        if (!read_line(fd, &a->head)) return false;
    } while (a->head.len - before > 2);
    return sscanf(a->head.data, "HTTP/1.1 %d", &a->status) == 1;
}

bool read_answer(int fd, answer *a)
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

answer call_port(int port, const char *method, const char *path, const char *headers, const char *body)
{
    answer a = {0};
    const int fd = connect_to(port);
    if (!send_request(fd, method, path, headers, body) || !read_answer(fd, &a))
        fail_msg("%s %s: found no answer", method, path);
    (void)close(fd);
    return a;
}

/* ---- looking into answers ---- */

const json_t *at(const json_t *root, const char *path)
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

const char *text_at(const json_t *root, const char *path)
{
    const char *text = json_string_value(at(root, path));
    if (!text) fail_msg("%s: found no text", path);
    return text;
}

int int_at(const json_t *root, const char *path)
{
    if (!json_is_integer(at(root, path))) fail_msg("%s: found no whole number", path);
    return (int)json_integer_value(at(root, path));
}

/* ---- streams ---- */

void free_stream(stream *s)
{
    for (int i = 0; i < STREAM_CHOICES; i++) lf_bytes_free(&s->text[i]);
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
        assert_in_range(i, 0, STREAM_CHOICES - 1);
        assert_int_equal(s->finish[i][0], 0); /* nothing follows the end */
        if (text)
            assert_true(lf_bytes_append(&s->text[i], json_string_value(text), json_string_length(text)));
        if (!json_is_null(finish))
            (void)snprintf(s->finish[i], sizeof s->finish[i], "%s", json_string_value(finish));
    }
    if (json_is_object(json_object_get(chunk, "usage")))
        s->usage = json_incref(json_object_get(chunk, "usage"));
    json_decref(chunk);
}

stream parse_stream(const answer *a)
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
