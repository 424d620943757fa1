/* Calling: arguments to parameters, and the functions that every template has. */
#include "jinja/jinja_int.h"

#include <string.h>
#include <time.h>

static int find_param(const signature *s, str name)
{
    for (int i = 0; i < PARAMS_MAX && s->params[i]; i++)
        if (str_equal((str){s->params[i], strlen(s->params[i])}, name)) return i;
    return -1;
}

static int count_params(const signature *s)
{
    int n = 0;
    while (n < PARAMS_MAX && s->params[n]) n++;
    return n;
}

/* a (PARAMS_MAX); false after a failure. */
static bool bind(render *r, value *a, const char *what, const signature *s, const call_args *args)
{
    const int n = count_params(s);
    if (args->n > (size_t)n) {
        (void)lf_render_fail(r, LF_EINVAL, "%s %s: found %zu arguments, expected at most %d", what, s->name,
                             args->n, n);
        return false;
    }
    for (size_t i = 0; i < args->n; i++) a[i] = args->items[i];
    for (size_t i = 0; i < args->n_named; i++) {
        const str name = r->t->names[args->named[i].name];
        const int at = find_param(s, name);
        if (at < 0 || a[at].kind != J_ABSENT) {
            (void)lf_render_fail(r, LF_EINVAL,
                                 "%s %s: found the argument '%.*s', expected none of that name%s", what,
                                 s->name, (int)name.n, name.p, at < 0 ? "" : " any more");
            return false;
        }
        a[at] = args->named[i].value;
    }
    for (int i = 0; i < s->n_required; i++)
        if (a[i].kind == J_ABSENT) {
            (void)lf_render_fail(r, LF_EINVAL, "%s %s: found no argument '%s'", what, s->name, s->params[i]);
            return false;
        }
    return true;
}

value lf_call_bound(render *r, const char *what, const signature *s, callee_fn fn, value self,
                    const call_args *args)
{
    value a[PARAMS_MAX] = {{.kind = J_ABSENT}};
    value out = value_undefined(-1);
    if (!lf_render_enter(r)) return out;
    if (s->variadic || bind(r, a, what, s, args)) out = fn(r, self, a, args);
    r->depth--;
    return out;
}

/* ---- functions ---- */

static bool read_integers(render *r, const char *what, const call_args *args, int64_t *out, size_t max)
{
    if (args->n == 0 || args->n > max || args->n_named) {
        (void)lf_render_fail(r, LF_EINVAL, "%s: found %zu arguments, expected 1 to %zu integers", what,
                             args->n + args->n_named, max);
        return false;
    }
    for (size_t i = 0; i < args->n; i++) {
        if (!value_is_integer(&args->items[i])) {
            (void)lf_render_fail(r, LF_EINVAL, "%s: found %s, expected an integer", what,
                                 lf_value_type(&args->items[i]));
            return false;
        }
        out[i] = value_integer(&args->items[i]);
    }
    return true;
}

static value call_range(render *r, const call_args *args)
{
    int64_t a[3] = {0, 0, 1};
    if (!read_integers(r, "range", args, a, 3)) return value_undefined(-1);
    const int64_t start = args->n == 1 ? 0 : a[0], stop = args->n == 1 ? a[0] : a[1], step = a[2];
    if (step == 0) return lf_render_fail(r, LF_EINVAL, "range: found 0 as the step, expected another number");
    const __int128 distance = step > 0 ? (__int128)stop - start : (__int128)start - stop;
    const __int128 stride = step > 0 ? step : -(__int128)step;
    const __int128 n = distance > 0 ? (distance - 1) / stride + 1 : 0;
    if (n > LF_JINJA_RANGE_MAX)
        return lf_render_fail(r, LF_ELIMIT, "range: found more than %d items", LF_JINJA_RANGE_MAX);
    value out = lf_value_seq(r, J_RANGE, NULL, (size_t)n);
    for (size_t i = 0; out.kind == J_RANGE && i < (size_t)n; i++)
        out.as.seq->items[i] = value_int((int64_t)(start + (__int128)i * step));
    return out;
}

/* dict(other, a=1), namespace(other, a=1) */
static value call_dict(render *r, value_kind kind, const call_args *args)
{
    value out = lf_value_dict(r, kind, 4);
    if (out.kind == J_UNDEFINED) return out;
    if (args->n > 1 || (args->n == 1 && args->items[0].kind != J_DICT))
        return lf_render_fail(r, LF_EUNSUPPORTED,
                              "%s: found %s, expected at most one dict, and named arguments",
                              kind == J_DICT ? "dict" : "namespace", lf_value_type(&args->items[0]));
    for (size_t i = 0; args->n && i < args->items[0].as.dict->n; i++)
        lf_dict_set(r, out.as.dict, args->items[0].as.dict->pairs[i].key,
                    args->items[0].as.dict->pairs[i].value);
    for (size_t i = 0; i < args->n_named; i++)
        lf_dict_set(r, out.as.dict, value_str(r->t->names[args->named[i].name]), args->named[i].value);
    return out;
}

static value call_raise(render *r, const call_args *args)
{
    const value *message = args->n ? &args->items[0] : args->n_named ? &args->named[0].value : NULL;
    const str text = message ? lf_value_text(r, message) : STR("");
    return lf_render_fail(r, LF_EINVAL, "the template refuses: %.*s", (int)(text.n < 300 ? text.n : 300),
                          text.p);
}

/* strftime(3) in UTC. Conversions that read the locale's or the machine's settings beyond "C" are not among these. */
static value call_strftime(render *r, const call_args *args)
{
    static const char known[] = "aAbBcCdDeFgGhHIjmMnpRStTuUVwWxXyYZz%";
    char format[128], text[512];
    struct tm tm;
    const time_t now = (time_t)r->now;
    if (args->n != 1 || args->items[0].kind != J_STRING || args->items[0].as.s.n >= sizeof format)
        return lf_render_fail(r, LF_EINVAL, "strftime_now: expected one string of less than %zu bytes",
                              sizeof format);
    const str s = args->items[0].as.s;
    if (s.n == 0 || !gmtime_r(&now, &tm)) return value_str(STR(""));
    memcpy(format, s.p, s.n);
    format[s.n] = '\0';
    for (size_t i = 0; i < s.n; i++) {
        if (format[i] != '%') continue;
        i += format[i + 1] == '-' ? 2 : 1; /* "%-d": without leading zeros */
        if (!format[i] || !strchr(known, format[i]))
            return lf_render_fail(r, LF_EUNSUPPORTED, "strftime_now: found a conversion other than %%%s",
                                  known);
    }
    return lf_value_copy(r, text, strftime(text, sizeof text, format, &tm));
}

value lf_call_function(render *r, int name, const call_args *args)
{
    switch (name) {
    case NAME_range: return call_range(r, args);
    case NAME_dict: return call_dict(r, J_DICT, args);
    case NAME_namespace: return call_dict(r, J_NAMESPACE, args);
    case NAME_raise_exception: return call_raise(r, args);
    default: return call_strftime(r, args);
    }
}
