/* Who may: what a request's head says, before its body is read. */
#include "server.h"

#include <stdlib.h>
#include <string.h>

const char *serve_header(const serve_exchange *x, const char *name)
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
    const char *authorization = serve_header(x, "Authorization"), *key = serve_header(x, "X-Api-Key");
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
    const char *origin = serve_header(x, "Origin"), *host = serve_header(x, "Host");
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
    const char *length = serve_header(x, "Content-Length");
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

bool serve_check_head(serve_exchange *x, serve_error *e)
{
    return check_origin(x, e) && x->route && (x->route->is_public || check_key(x, e)) && check_phase(x, e) &&
           check_length(x, e);
}
