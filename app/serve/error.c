#include "error.h"

#include <stdarg.h>
#include <stdio.h>

static const char *type_of(int status)
{
    switch (status) {
    case 401: return "authentication_error";
    case 403: return "permission_error";
    case 404: return "not_found_error";
    case 429: return "rate_limit_error";
    case 503: return "unavailable_error";
    default: return status < 500 ? "invalid_request_error" : "server_error";
    }
}

static void fill(serve_error *e, int status, const char *code, const char *param, const char *fmt,
                 va_list args)
{
    *e = (serve_error){.status = status, .type = type_of(status), .code = code};
    if (param) (void)snprintf(e->param, sizeof e->param, "%s", param);
    (void)vsnprintf(e->message, sizeof e->message, fmt, args);
}

bool serve_refuse(serve_error *e, const char *param, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    fill(e, 400, NULL, param, fmt, args);
    va_end(args);
    return false;
}

bool serve_fail(serve_error *e, int status, const char *code, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    fill(e, status, code, NULL, fmt, args);
    va_end(args);
    return false;
}

bool serve_fail_status(serve_error *e, const lf_error *err)
{
    switch (err->status) {
    case LF_EINVAL:
    case LF_EUNSUPPORTED:
    case LF_ELIMIT: return serve_refuse(e, NULL, "%s", err->text);
    case LF_ENOMEM: return serve_fail(e, 503, "out_of_memory", "%s", err->text);
    default: return serve_fail(e, 500, NULL, "%s", err->text);
    }
}

/* Messages quote what clients sent, which may have been cut in the middle of a character. */
static json_t *message_json(const char *text)
{
    json_t *whole = json_string(text);
    if (whole) return whole;
    char ascii[sizeof((serve_error){0}.message)];
    size_t n = 0;
    for (; text[n] && n + 1 < sizeof ascii; n++)
        ascii[n] = (char)((unsigned char)text[n] < 0x80 ? text[n] : '?');
    ascii[n] = '\0';
    return json_string(ascii);
}

json_t *serve_error_json(const serve_error *e)
{
    return json_pack("{s:{s:o, s:s, s:o, s:s?}}", "error", "message", message_json(e->message), "type",
                     e->type, "param", e->param[0] ? message_json(e->param) : json_null(), "code", e->code);
}
