/* Answers: from JSON, text or events to what libmicrohttpd sends. */
#include "server.h"

#include "json.h"

#include "base/clock.h"

#include <string.h>
#include <sys/socket.h>

enum {
    STREAM_BLOCK_BYTES = 16 << 10, /* given to a socket at a time */
    UNSENT_BYTES_MAX = 4 << 20,    /* of a stream whose client does not read */
};

void serve_exchange_wake(serve_exchange *x)
{
    if (!x->suspended) return;
    x->suspended = false;
    MHD_resume_connection(x->connection);
}

void serve_client_hang_up(const serve_client *client)
{
    (void)shutdown(client->fd, SHUT_RDWR);
}

/* ---- whole answers ---- */

void serve_answer_lost(serve_exchange *x)
{
    x->out_of_memory = x->ended = true;
    serve_exchange_wake(x);
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
    if (!object || json_dump_callback(object, append_dump, &x->out, SERVE_DUMP_FLAGS) != 0)
        serve_answer_lost(x);
    json_decref(object);
    serve_answer_text(x, "application/json");
}

void serve_answer_error(serve_exchange *x, const serve_error *e)
{
    x->retry_after = e->retry_after;
    serve_answer_json(x, e->status, serve_error_json(e));
}

/* ---- streams ---- */

void serve_stream_begin(serve_exchange *x)
{
    x->streams = true;
    x->fed_ns = lf_clock_ns();
    serve_answer_text(x, "text/event-stream");
}

/* What was appended to a stream goes on its way, unless so much waits already that nobody can be reading. */
static void stream_on(serve_exchange *x)
{
    x->fed_ns = lf_clock_ns();
    if (x->out.len - x->n_read > UNSENT_BYTES_MAX && !x->gone) {
        x->gone = true;
        if (x->client) serve_client_hang_up(x->client);
    }
    serve_exchange_wake(x);
}

void serve_stream_event(serve_exchange *x, json_t *json)
{
    if (!x->gone && !x->ended) {
        const bool ok = json && lf_bytes_append(&x->out, "data: ", 6) &&
                        json_dump_callback(json, append_dump, &x->out, SERVE_DUMP_FLAGS) == 0 &&
                        lf_bytes_append(&x->out, "\n\n", 2);
        if (!ok) serve_answer_lost(x);
        stream_on(x);
    }
    json_decref(json);
}

void serve_stream_chunk(serve_exchange *x, const serve_chunk *chunk, const char *text, size_t len)
{
    if (x->gone || x->ended) return;
    if (!serve_chunk_write(&x->out, chunk, text, len)) serve_answer_lost(x);
    stream_on(x);
}

static void append_line(serve_exchange *x, const char *line)
{
    if (x->gone || x->ended) return;
    if (!lf_bytes_append(&x->out, line, strlen(line))) serve_answer_lost(x);
    stream_on(x);
}

void serve_stream_comment(serve_exchange *x)
{
    if (x->out.len == 0) append_line(x, ": keep-alive\n\n");
}

void serve_stream_done(serve_exchange *x)
{
    append_line(x, "data: [DONE]\n\n");
}

void serve_stream_end(serve_exchange *x)
{
    x->ended = true;
    serve_exchange_wake(x);
}

/* ---- to libmicrohttpd ---- */

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

/* The answer as libmicrohttpd takes it; where memory ran out over it, one that needs none. */
static struct MHD_Response *make_response(serve_exchange *x)
{
    static const char lost[] =
        "{\"error\":{\"message\":\"out of memory: the answer\",\"type\":\"unavailable_error\","
        "\"param\":null,\"code\":\"out_of_memory\"}}";
    if (x->out_of_memory) {
        x->status = 503;
        x->content_type = "application/json";
        return MHD_create_response_from_buffer(strlen(lost), (void *)(uintptr_t)lost, MHD_RESPMEM_PERSISTENT);
    }
    if (x->streams)
        return MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BLOCK_BYTES, read_stream, x, NULL);
    return MHD_create_response_from_buffer(x->out.len, x->out.data, MHD_RESPMEM_PERSISTENT);
}

enum MHD_Result serve_answer_give(serve_exchange *x)
{
    if (x->gone) return MHD_NO; /* closes the connection */
    if (!x->status && !x->out_of_memory) {
        MHD_suspend_connection(x->connection);
        x->suspended = true;
        return MHD_YES;
    }
    struct MHD_Response *response = make_response(x);
    if (!response) return MHD_NO;
    const enum MHD_Result result = add_headers(x, response)
                                       ? MHD_queue_response(x->connection, (unsigned)x->status, response)
                                       : MHD_NO;
    MHD_destroy_response(response);
    return result;
}
